//! Framing: any cutting and any joining of the stream gives the same frames, and limits hold.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::num::NonZeroUsize;

use bytes::Bytes;
use ipc_transport::framing::{
    Delimiter, DelimiterDecoder, DelimiterEncoder, FrameError, LengthDecoder, LengthEncoder, RawDecoder,
};
use proptest::collection::vec;
use proptest::prelude::*;

const MAX: usize = 70_000;

/// What both decoders do, so that one claim is tested on both.
trait Decode {
    fn push(&mut self, chunk: &[u8]);
    fn poll_frame(&mut self) -> Result<Option<Bytes>, FrameError>;
    fn finish(&self) -> Result<(), FrameError>;
}

macro_rules! decode {
    ($($decoder:ident),*) => {$(
        impl Decode for $decoder {
            fn push(&mut self, chunk: &[u8]) {
                $decoder::push(self, chunk);
            }
            fn poll_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
                $decoder::poll_frame(self)
            }
            fn finish(&self) -> Result<(), FrameError> {
                $decoder::finish(self)
            }
        }
    )*};
}

decode!(LengthDecoder, DelimiterDecoder);

fn frames_of<'a>(mut decoder: impl Decode, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Bytes> {
    let mut frames = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        while let Some(frame) = decoder.poll_frame().unwrap() {
            frames.push(frame);
        }
    }
    decoder.finish().unwrap();
    frames
}

fn length_wire(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for payload in payloads {
        LengthEncoder::new(MAX).encode(payload, &mut wire).unwrap();
    }
    wire
}

fn delimited_wire(delimiter: &Delimiter, payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for payload in payloads {
        DelimiterEncoder::new(delimiter.clone(), MAX).encode(payload, &mut wire).unwrap();
    }
    wire
}

fn length_decoder() -> LengthDecoder {
    LengthDecoder::new(MAX)
}

fn delimiter(bytes: &'static [u8]) -> Delimiter {
    Delimiter::new(bytes).unwrap()
}

/// Cuts a stream into chunks of the given sizes, over and over.
fn cut<'a>(wire: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let (mut chunks, mut rest) = (Vec::new(), wire);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, later) = rest.split_at((*size).clamp(1, rest.len()));
        chunks.push(chunk);
        rest = later;
    }
    chunks
}

/// Every frame of the three, cut at every byte position, gives the same frames. X-10
#[test]
fn a_cut_at_any_byte_changes_nothing() {
    let payloads = [b"first".to_vec(), Vec::new(), (0..=255).filter(|byte| *byte != 0x0c).collect()];
    let wire = length_wire(&payloads);
    let form_feed = delimiter(b"\x0c");
    let delimited = delimited_wire(&form_feed, &payloads);
    let long = delimiter(b"\x0c\x0c\x0d");
    let long_delimited = delimited_wire(&long, &payloads);
    for at in 0..=wire.len() {
        let (left, right) = wire.split_at(at);
        assert_eq!(frames_of(length_decoder(), [left, right]), payloads, "cut at {at}");
    }
    for (delimiter, wire) in [(form_feed, delimited), (long, long_delimited)] {
        for at in 0..=wire.len() {
            let (left, right) = wire.split_at(at);
            let decoder = DelimiterDecoder::new(delimiter.clone(), MAX);
            assert_eq!(frames_of(decoder, [left, right]), payloads, "cut at {at}");
        }
    }
}

/// Ten thousand frames joined and cut at random give the same frames. X-10
#[test]
fn ten_thousand_frames_joined_at_random_come_out_the_same() {
    let config = ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() };
    let payloads = vec(vec(any::<u8>(), 0..64), 10_000);
    proptest!(config, |(payloads in payloads, sizes in vec(1..3_000_usize, 1..50))| {
        let wire = length_wire(&payloads);
        prop_assert_eq!(frames_of(length_decoder(), cut(&wire, &sizes)), payloads);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Delimiters of any bytes, found wherever the stream is cut. X-10
    #[test]
    fn delimited_frames_survive_any_cutting(
        ending in vec(0..3_u8, 1..5),
        payloads in vec(vec(0..4_u8, 0..20), 0..20),
        sizes in vec(1..7_usize, 1..10),
    ) {
        let delimiter = Delimiter::new(ending).unwrap();
        let encoder = DelimiterEncoder::new(delimiter.clone(), MAX);
        let (mut wire, mut accepted) = (Vec::new(), Vec::new());
        for payload in payloads {
            let before = wire.len();
            match encoder.encode(&payload, &mut wire) {
                Ok(()) => accepted.push(payload),
                Err(FrameError::ContainsDelimiter { .. }) => prop_assert_eq!(wire.len(), before),
                Err(other) => panic!("{other}"),
            }
        }
        prop_assert_eq!(frames_of(DelimiterDecoder::new(delimiter, MAX), cut(&wire, &sizes)), accepted);
    }

    /// However a stream is cut, and whenever its pieces are taken out, they are the same bytes, none of them more than
    /// the limit, none of them empty, and nothing stays behind. X-10
    #[test]
    fn raw_bytes_survive_any_cutting(
        stream in vec(any::<u8>(), 0..400),
        sizes in vec(1..50_usize, 1..10),
        max in 1..40_usize,
        patience in 1..4_usize,
    ) {
        let mut decoder = RawDecoder::new(NonZeroUsize::new(max).unwrap());
        let (mut arrived, mut pushed) = (Vec::new(), 0);
        for (index, chunk) in cut(&stream, &sizes).into_iter().enumerate() {
            decoder.push(chunk);
            pushed += chunk.len();
            // Pieces are taken out after each chunk, or after several.
            if index % patience == 0 {
                while let Some(piece) = decoder.poll_frame() {
                    prop_assert!((1..=max).contains(&piece.len()));
                    arrived.extend_from_slice(&piece);
                }
                prop_assert_eq!(arrived.len(), pushed, "what has arrived is handed on at once");
            }
        }
        while let Some(piece) = decoder.poll_frame() {
            arrived.extend_from_slice(&piece);
        }
        prop_assert_eq!(arrived, stream);
    }

    /// Garbage is frames or a typed error, never a panic, and what is held stays within the limit. X-13
    #[test]
    fn garbage_never_panics(chunks in vec(vec(any::<u8>(), 0..40), 0..40)) {
        let mut by_length = LengthDecoder::new(64);
        let mut by_delimiter = DelimiterDecoder::new(delimiter(b"\x00\x01"), 64);
        let (mut length_failed, mut delimiter_failed) = (false, false);
        for chunk in &chunks {
            by_length.push(chunk);
            by_delimiter.push(chunk);
            length_failed |= drain(&mut by_length).is_err();
            delimiter_failed |= drain(&mut by_delimiter).is_err();
            if length_failed && delimiter_failed {
                break;
            }
        }
    }
}

fn drain(decoder: &mut impl Decode) -> Result<(), FrameError> {
    while let Some(frame) = decoder.poll_frame()? {
        assert!(frame.len() <= 64);
    }
    Ok(())
}

/// Payloads of every size class survive, and come whole. P-27
#[test]
fn payloads_of_all_sizes_survive() {
    let sizes = [0, 1, 254, 255, 256, 65_535, 65_536, 16 * 1024 * 1024];
    let (encoder, decoder) = (LengthEncoder::new(1 << 25), LengthDecoder::new(1 << 25));
    let mut wire = Vec::new();
    for size in sizes {
        encoder.encode(&vec![size as u8; size], &mut wire).unwrap();
    }
    let frames = frames_of(decoder, wire.chunks(64 * 1024));
    assert_eq!(frames.iter().map(Bytes::len).collect::<Vec<_>>(), sizes);
    assert!(frames.iter().all(|frame| frame.iter().all(|byte| *byte == frame.len() as u8)));
}

#[test]
fn the_prefix_is_four_bytes_little_endian() {
    let mut wire = Vec::new();
    LengthEncoder::new(1024).encode(&[9; 0x102], &mut wire).unwrap();
    assert_eq!(wire[..5], [2, 1, 0, 0, 9]);
    assert_eq!(LengthEncoder::new(1024).prefix(0x102), Ok([2, 1, 0, 0]));
}

#[test]
fn a_length_beyond_the_limit_is_refused_at_once_and_for_good() {
    let refused = FrameError::TooLarge { len: 17, max: 16 };
    let mut wire = b"before".to_vec();
    assert_eq!(LengthEncoder::new(16).encode(&[0; 17], &mut wire), Err(refused.clone()));
    assert_eq!(wire, b"before");

    let mut decoder = LengthDecoder::new(16);
    decoder.push(&17_u32.to_le_bytes());
    assert_eq!(decoder.poll_frame(), Err(refused.clone()));
    decoder.push(&[0; 40]);
    assert_eq!(decoder.poll_frame(), Err(refused));
}

#[test]
fn frames_before_an_announcement_too_large_are_still_given_out() {
    let mut wire = length_wire(&[b"good".to_vec()]);
    wire.extend(u32::MAX.to_le_bytes());
    let mut decoder = length_decoder();
    decoder.push(&wire);
    assert_eq!(decoder.poll_frame(), Ok(Some(Bytes::from_static(b"good"))));
    assert_eq!(decoder.poll_frame(), Err(FrameError::TooLarge { len: u32::MAX as usize, max: MAX }));
}

#[test]
fn a_frame_without_a_delimiter_is_refused_beyond_the_limit() {
    let mut decoder = DelimiterDecoder::new(delimiter(b"\r\n"), 4);
    decoder.push(b"1234\r");
    assert_eq!(decoder.poll_frame(), Ok(None));
    decoder.push(b"\n12345");
    assert_eq!(decoder.poll_frame(), Ok(Some(Bytes::from_static(b"1234"))));
    assert_eq!(decoder.poll_frame(), Ok(None));
    decoder.push(b"6");
    assert_eq!(decoder.poll_frame(), Err(FrameError::TooLarge { len: 5, max: 4 }));
    decoder.push(b"\r\n");
    assert!(matches!(decoder.poll_frame(), Err(FrameError::TooLarge { max: 4, .. })));
}

#[test]
fn a_payload_that_holds_the_delimiter_is_refused() {
    let encoder = DelimiterEncoder::new(delimiter(b"aa"), 100);
    let mut wire = Vec::new();
    assert_eq!(encoder.encode(b"xaay", &mut wire), Err(FrameError::ContainsDelimiter { at: 1 }));
    // The receiver would find the first `aa` one byte early.
    assert_eq!(encoder.encode(b"xa", &mut wire), Err(FrameError::ContainsDelimiter { at: 1 }));
    assert_eq!(encoder.encode(b"ax", &mut wire), Ok(()));
    assert_eq!(wire, b"axaa");
    assert_eq!(Delimiter::new(""), Err(FrameError::EmptyDelimiter));
}

#[test]
fn a_payload_that_is_there_already_is_ended_in_place_or_taken_back() {
    let encoder = DelimiterEncoder::new(delimiter(b"##"), 5);
    let mut wire = b"ab".to_vec();
    encoder.end(&mut wire, 0).unwrap();
    wire.extend_from_slice(b"c#d");
    encoder.end(&mut wire, 4).unwrap();
    assert_eq!(wire, b"ab##c#d##");
    let refused = [
        (&b"e##f"[..], FrameError::ContainsDelimiter { at: 1 }),
        (b"ghi#", FrameError::ContainsDelimiter { at: 3 }),
        (b"jklmno", FrameError::TooLarge { len: 6, max: 5 }),
    ];
    for (payload, error) in refused {
        wire.extend_from_slice(payload);
        assert_eq!(encoder.end(&mut wire, 9), Err(error));
        assert_eq!(wire, b"ab##c#d##");
    }
}

#[test]
fn a_stream_that_ends_within_a_frame_is_noticed() {
    let wire = length_wire(&[b"whole".to_vec()]);
    for end in 1..wire.len() {
        let mut decoder = length_decoder();
        decoder.push(&wire[..end]);
        assert_eq!(decoder.poll_frame(), Ok(None));
        assert_eq!(decoder.finish(), Err(FrameError::Truncated { have: end }));
    }
    let mut decoder = DelimiterDecoder::new(delimiter(b"\x0c"), MAX);
    decoder.push(b"half");
    assert_eq!(decoder.poll_frame(), Ok(None));
    assert_eq!(decoder.finish(), Err(FrameError::Truncated { have: 4 }));
}

#[test]
fn bytes_read_straight_into_the_buffer_are_framed() {
    let mut decoder = length_decoder();
    decoder.buffer_mut().extend_from_slice(&length_wire(&[b"direct".to_vec()]));
    assert_eq!(decoder.poll_frame(), Ok(Some(Bytes::from_static(b"direct"))));
}

/// A megabyte that comes byte by byte is searched once: twice over for each byte would take longer than anybody waits.
#[test]
fn bytes_read_straight_into_the_buffer_of_a_delimited_stream_are_framed() {
    let mut decoder = DelimiterDecoder::new(delimiter(b"\r\n"), 100);
    let mut frames = Vec::new();
    for chunk in delimited_wire(&delimiter(b"\r\n"), &[b"one".to_vec(), b"two".to_vec()]).chunks(4) {
        decoder.buffer_mut().extend_from_slice(chunk);
        frames.extend(decoder.poll_frame().unwrap());
    }
    assert_eq!(frames, ["one", "two"]);
}

#[test]
fn a_frame_that_trickles_in_is_not_searched_again_and_again() {
    const LEN: usize = 1 << 20;
    // All but the last byte of the delimiter, over and over, is the worst that a peer can send.
    let mut decoder = DelimiterDecoder::new(delimiter(b"aaaaaaab"), LEN);
    for _ in 0..LEN {
        decoder.push(b"a");
        assert_eq!(decoder.poll_frame(), Ok(None));
    }
    decoder.push(b"aaaaaaab");
    assert_eq!(decoder.poll_frame().unwrap().unwrap().len(), LEN);
}

/// A delimiter may be any bytes, NUL and what is no UTF-8 among them, and of any length.
#[test]
fn any_byte_string_ends_a_frame() {
    let every_byte: Vec<u8> = (0..=255).collect();
    for ending in [&b"\0"[..], b"\xff", b"\r\n\r\n", b"\xf0\x9f", &every_byte] {
        let delimiter = Delimiter::new(Bytes::copy_from_slice(ending)).unwrap();
        assert_eq!(delimiter.as_bytes(), ending);
        // The last byte of a longer delimiter ends nothing by itself.
        let last = ending[1..].last().copied();
        let payloads = [b"one".to_vec(), Vec::new(), last.into_iter().collect(), b"two".to_vec()];
        let wire = delimited_wire(&delimiter, &payloads);
        for size in 1..=ending.len() + 4 {
            let decoder = DelimiterDecoder::new(delimiter.clone(), MAX);
            assert_eq!(frames_of(decoder, wire.chunks(size)), payloads, "{ending:?} by {size}");
        }
    }
}
