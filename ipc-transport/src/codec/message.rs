//! Messages of errors that others wrote, bounded.

use std::fmt;

/// Formats at most [`MAX_MESSAGE`] bytes of a message and never holds more.
pub(super) fn bounded_message(message: impl fmt::Display) -> Box<str> {
    struct Bounded(String);

    impl fmt::Write for Bounded {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = MAX_MESSAGE - self.0.len();
            if text.len() <= room {
                self.0.push_str(text);
                return Ok(());
            }
            let end = (0..=room).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
            self.0.push_str(&text[..end]);
            Err(fmt::Error)
        }
    }

    let mut bounded = Bounded(String::new());
    // The only failure is the end of the room, and what was written until then is the message.
    let _ = fmt::write(&mut bounded, format_args!("{message}"));
    bounded.0.into_boxed_str()
}

/// The most that an error keeps of a message that others wrote, in bytes: the data may be quoted in it at length.
const MAX_MESSAGE: usize = 256;
