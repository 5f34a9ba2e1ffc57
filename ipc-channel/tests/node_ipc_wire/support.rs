//! What these tests share.

use ipc_channel::events::node_ipc::{Delimiter, Frame, Profile, Reader, WireError, Writer};
use serde::Serialize;

/// Large enough for everything here.
pub(crate) const MAX: usize = 1 << 20;

/// An event as a test compares it: name and JSON text of the data.
pub(crate) type Event = (String, Option<String>);

pub(crate) fn writer() -> Writer {
    Writer::new(&Delimiter::default(), Profile::Compatible, MAX)
}

pub(crate) fn reader() -> Reader {
    Reader::new(&Delimiter::default(), Profile::Compatible, MAX)
}

/// The frame of an event, without its delimiter, as text.
pub(crate) fn frame<T: Serialize + ?Sized>(name: &str, data: Option<&T>) -> Result<String, WireError> {
    let mut wire = Vec::new();
    writer().encode(name, data, &mut wire)?;
    assert_eq!(wire.pop(), Some(0x0c), "the delimiter comes last");
    Ok(String::from_utf8(wire).unwrap())
}

pub(crate) fn event(frame: &Frame) -> Event {
    let data = frame.data().map(|data| String::from_utf8(data.to_vec()).unwrap());
    (frame.name().to_owned(), data)
}

/// Whatever comes out of a stream that arrives in these chunks, and the end of it.
pub(crate) fn read<'a>(
    mut reader: Reader,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Result<Event, WireError>>, Result<(), WireError>) {
    let mut read = Vec::new();
    for chunk in chunks {
        reader.handle_bytes(chunk);
        while let Some(result) = reader.poll_frame().map(|frame| frame.map(|frame| event(&frame))).transpose()
        {
            let is_last = matches!(result, Err(WireError::TooLarge { .. }));
            read.push(result);
            if is_last {
                break;
            }
        }
    }
    (read, reader.handle_end())
}
