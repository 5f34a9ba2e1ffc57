//! Codecs that break a promise.

use ipc_testkit::conformance::codec::{Subject, broken_promises};
use ipc_transport::{Bincode, DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder};

/// A codec that ignores what it does not understand: a last zero byte, and a lack of room.
#[derive(Clone)]
struct Careless;

impl Encoder<u32> for Careless {
    fn id(&self) -> &str {
        "careless"
    }

    fn encode(&self, value: &u32, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError> {
        Encoder::encode(&Bincode::default(), value, out).or(Ok(()))
    }
}

impl Decoder<u32> for Careless {
    fn id(&self) -> &str {
        "careless"
    }

    fn decode(&self, input: &[u8]) -> Result<u32, DecodeError> {
        let input = if input.len() > 4 { input.strip_suffix(b"\0").unwrap_or(input) } else { input };
        Bincode::default().decode(input)
    }
}

#[test]
fn a_careless_codec_fails_at_the_promises_that_it_breaks() {
    let broken = broken_promises(|| Subject::new(Careless, [1, 2, 3]));
    let said: Vec<(usize, &str)> =
        broken.iter().map(|broken| (broken.promise.number, broken.reason.as_str())).collect();
    let expected =
        [(3, "1 in 0 bytes: Ok(())"), (4, "1 within 0 bytes: Ok(())"), (5, "1 with 0x00 after it is Ok(1)")];
    assert_eq!(said, expected);
}
