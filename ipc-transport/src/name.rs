//! The rules for names.

use crate::Error;

/// The longest name, in bytes.
pub const MAX_NAME: usize = 255;

/// Checks a name against the rules for names.
///
/// A name is UTF-8 of 1 to [`MAX_NAME`] bytes without control characters, `/` and `~`, and does not begin with a dot.
///
/// # Errors
///
/// [`Error::InvalidName`] with the rule that is broken.
pub fn check_name(name: &str) -> Result<(), Error> {
    let reason = if name.is_empty() {
        "a name may not be empty"
    } else if name.len() > MAX_NAME {
        "a name may have 255 bytes at most"
    } else if name.starts_with('.') {
        "a name may not begin with a dot"
    } else if name.contains(['/', '~']) {
        "a name may not contain a slash or a tilde"
    } else if name.contains(char::is_control) {
        "a name may not contain control characters"
    } else {
        return Ok(());
    };
    Err(Error::InvalidName { name: name.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_break_a_rule_are_refused() {
        let long = "x".repeat(256);
        for name in ["", ".", "..", ".hidden", "a/b", "a~b", "a\0b", "a\nb", &long] {
            assert!(matches!(check_name(name), Err(Error::InvalidName { .. })), "{name:?}");
        }
        for name in ["a", "process1", "Größe 7", "a.b-c_d", "a.sock", &long[1..]] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
