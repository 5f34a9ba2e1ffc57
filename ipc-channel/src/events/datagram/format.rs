//! What stands in a datagram, on each wire.

use bytes::Bytes;
use ipc_transport::EncodeBuffer;
use serde::Serialize;

use super::native;
use crate::{
    PayloadCodec,
    events::{
        EmitError, NodeIpc, Wire,
        error::check_name,
        node_ipc::{Frame, Reader, WireError, Writer},
    },
};

/// Room of a datagram at first.
const FIRST_ROOM: usize = 128;

/// How events become datagrams, and the other way round.
pub(super) enum Format {
    Native(PayloadCodec),
    NodeIpc(Box<(Writer, NodeIpc)>),
    Raw,
}

impl Format {
    /// For datagrams of at most `max` bytes.
    pub(super) fn new(wire: &Wire, codec: PayloadCodec, max: usize) -> Self {
        match wire {
            Wire::Native => Self::Native(codec),
            Wire::NodeIpc(wire) => {
                let max = max.saturating_sub(wire.delimiter.as_bytes().len());
                let writer = Writer::new(&wire.delimiter, wire.profile.clone(), max);
                Self::NodeIpc(Box::new((writer, wire.clone())))
            }
            Wire::Raw => Self::Raw,
        }
    }

    /// One event as a datagram, on the native wire without its tokens.
    pub(super) fn event<T>(&self, name: &str, value: Option<&T>, max: usize) -> Result<Vec<u8>, EmitError>
    where
        T: Serialize + ?Sized,
    {
        let mut bytes = Vec::with_capacity(FIRST_ROOM);
        match self {
            Self::Native(codec) => {
                check_name(name)?;
                let mut out = EncodeBuffer::growing(&mut bytes, max);
                native::begin_event(*codec, name, &mut out)?;
                match value {
                    Some(value) => codec.encode(value, &mut out)?,
                    None => codec.encode(&(), &mut out)?,
                }
            }
            Self::NodeIpc(wire) => wire.0.encode(name, value, &mut bytes)?,
            Self::Raw => return Err(EmitError::Unsupported { what: "events: it carries bytes" }),
        }
        Ok(bytes)
    }

    /// Bare bytes as a datagram.
    pub(super) fn bytes(&self, bytes: Bytes, max: usize) -> Result<Bytes, EmitError> {
        match self {
            Self::Raw if bytes.len() > max => Err(EmitError::TooLarge { len: bytes.len(), max }),
            Self::Raw => Ok(bytes),
            _ => Err(EmitError::Unsupported { what: "bare bytes: it carries events" }),
        }
    }
}

/// The frames of node-ipc in one datagram, in order, and what is wrong with it. Frames before what is wrong are good;
/// those behind it are too, unless the profile ends a conversation there.
pub(super) fn frames(wire: &NodeIpc, datagram: &[u8]) -> (Vec<Frame>, Option<WireError>) {
    let mut reader = Reader::new(&wire.delimiter, wire.profile.clone(), datagram.len());
    reader.handle_bytes(datagram);
    let (mut frames, mut wrong) = (Vec::new(), None);
    loop {
        match reader.poll_frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => break,
            Err(error) => {
                let ends = wire.profile.closes_after(&error);
                wrong.get_or_insert(error);
                if ends {
                    return (frames, wrong);
                }
            }
        }
    }
    // A frame has its delimiter in the same datagram.
    if let Err(error) = reader.handle_end() {
        wrong.get_or_insert(error);
    } else if frames.is_empty() {
        wrong.get_or_insert(WireError::Truncated { have: 0 });
    }
    (frames, wrong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::events::node_ipc::{Guard, Profile};

    fn names(wire: &NodeIpc, datagram: &[u8]) -> (Vec<String>, bool) {
        let (frames, wrong) = super::frames(wire, datagram);
        (frames.iter().map(|frame| frame.name().to_owned()).collect(), wrong.is_some())
    }

    #[test]
    fn a_datagram_has_whole_frames_in_order_and_no_fragment() {
        let wire = NodeIpc::default();
        let table: [(&[u8], &[&str], bool); 6] = [
            (b"{\"type\":\"a\"}\x0c", &["a"], false),
            (b"{\"type\":\"a\"}\x0c{\"type\":\"b\",\"data\":1}\x0c", &["a", "b"], false),
            (b"{\"type\":\"a\"}\x0c{\"type\":\"b\"", &["a"], true),
            (b"{\"type\":\"a\"}\x0c{]}\x0c{\"type\":\"c\"}\x0c", &["a", "c"], true),
            (b"{\"type\":\"a\"}", &[], true),
            (b"", &[], true),
        ];
        for (datagram, expected, wrong) in table {
            let expected = expected.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(names(&wire, datagram), (expected, wrong), "{}", datagram.escape_ascii());
        }
    }

    #[test]
    fn a_guard_takes_nothing_behind_what_is_wrong() {
        let wire = NodeIpc::default().with_profile(Profile::Guarded(Guard::default()));
        let datagram = b"{\"type\":\"a\"}\x0c{]}\x0c{\"type\":\"c\"}\x0c";
        assert_eq!(names(&wire, datagram), (vec!["a".to_owned()], true));
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_are_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            cuts in prop::collection::vec(0..3_usize, 0..20),
        ) {
            let wire = NodeIpc::default();
            let _ = super::frames(&wire, &bytes);
            // Pieces of frames in any order.
            let parts: [&[u8]; 3] = [b"{\"type\":\"a\",\"data\":[1]}", b"\x0c", b"{\"data\":{\"id\":\"x\"}"];
            let pieces: Vec<u8> = cuts.iter().flat_map(|&part| parts[part].to_vec()).collect();
            let _ = super::frames(&wire, &pieces);
        }
    }
}
