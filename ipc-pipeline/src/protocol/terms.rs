//! What a receiving end takes, to be held against the hello of each sender.

use super::{DeliveryMode, Hello, Refusal};

/// What a receiving end takes: a sender that would do otherwise is turned away before it sends anything.
///
/// # Examples
///
/// ```
/// use ipc_pipeline::protocol::{DeliveryMode, Hello, SessionId, Terms};
///
/// let terms =
///     Terms { delivery: DeliveryMode::Reliable, codec: "bincode", schema: None, max_message: Some(1024) };
/// let mut hello = Hello::new(SessionId::from_bits(1), "bincode");
/// assert!(terms.check(&hello).is_ok());
/// hello.max_message = 4096;
/// assert!(terms.check(&hello).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms<'a> {
    /// How values are delivered; the sender has to mean the same.
    pub delivery: DeliveryMode,
    /// The codec's name; the sender has to have the same.
    pub codec: &'a str,
    /// A name for the meaning of the values, compared when both ends have one.
    pub schema: Option<&'a str>,
    /// The largest message that is taken, bytes; the sender's limit has to be as low. `None` where what arrives bounds
    /// itself, as datagrams do.
    pub max_message: Option<u64>,
}

impl Terms<'_> {
    /// Whether a sender with this hello fits; if not, the answer says what does not, with both sides' values. Of several
    /// things that do not fit it says the first, in the order of the fields.
    ///
    /// # Errors
    ///
    /// [`Refusal::Incompatible`].
    pub fn check(&self, hello: &Hello) -> Result<(), Refusal> {
        let what = if hello.delivery != self.delivery {
            format!("the sender's delivery is {}, the receiver's {}", hello.delivery, self.delivery)
        } else if hello.codec != self.codec {
            format!("the sender's codec is {}, the receiver's {}", hello.codec, self.codec)
        } else if let (Some(theirs), Some(ours)) = (hello.schema.as_deref(), self.schema)
            && theirs != ours
        {
            format!("the sender's schema is {theirs}, the receiver's {ours}")
        } else if let Some(ours) = self.max_message
            && hello.max_message > ours
        {
            format!("the sender's messages may have {} bytes, the receiver's {ours}", hello.max_message)
        } else {
            return Ok(());
        };
        Err(Refusal::Incompatible { what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SessionId;

    const TERMS: Terms<'_> =
        Terms { delivery: DeliveryMode::Reliable, codec: "a", schema: Some("b"), max_message: Some(10) };

    fn refused(terms: &Terms<'_>, change: impl FnOnce(&mut Hello)) -> Option<String> {
        let mut hello = Hello::new(SessionId::from_bits(1), "a");
        change(&mut hello);
        terms.check(&hello).err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn what_does_not_fit_is_said_with_both_values() {
        let text = |what: &str| Some(format!("incompatible: the sender's {what}"));
        let delivery = refused(&TERMS, |hello| hello.delivery = DeliveryMode::BestEffort);
        assert_eq!(delivery, text("delivery is best effort, the receiver's reliable"));
        let codec = refused(&TERMS, |hello| hello.codec = "c".to_owned());
        assert_eq!(codec, text("codec is c, the receiver's a"));
        let schema = refused(&TERMS, |hello| hello.schema = Some("c".to_owned()));
        assert_eq!(schema, text("schema is c, the receiver's b"));
        let size = refused(&TERMS, |hello| hello.max_message = 11);
        assert_eq!(size, text("messages may have 11 bytes, the receiver's 10"));
    }

    #[test]
    fn what_only_one_end_says_is_not_compared() {
        assert_eq!(refused(&TERMS, |hello| hello.max_message = 10), None);
        let open = Terms { schema: None, max_message: None, ..TERMS };
        let says_more = |hello: &mut Hello| {
            hello.schema = Some("c".to_owned());
            hello.max_message = u64::MAX;
        };
        assert_eq!(refused(&open, says_more), None);
    }
}
