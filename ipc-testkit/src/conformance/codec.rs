//! What a codec owes to whoever uses it, one check per promise.
//!
//! 1. [`values_round_trip`]: a decoded encoding is the value, from a borrowed and from an owned buffer.
//! 2. [`encoding_is_the_same_everywhere`]: in a slice, in a growing buffer and the second time, the bytes are the same.
//! 3. [`no_room_is_passed_through`]: a slice that is too short is `NoRoom`, whichever byte is the first without a place.
//! 4. [`too_large_is_told`]: an encoding beyond the limit of a growing buffer is `TooLarge`.
//! 5. [`trailing_bytes_are_rejected`]: bytes after the value are an error.
//! 6. [`truncated_input_is_an_error`]: every proper beginning of an encoding is an error.
//! 7. [`a_run_stops_at_the_first_bad_value`]: a run decodes as its values do, up to the first that does not.
//! 8. [`garbage_never_panics`]: any bytes give a value or an error.

use std::fmt;

use bytes::Bytes;
use ipc_transport::{Decoder, EncodeBuffer, EncodeError, Encoder};

use super::{BrokenPromise, Examined, default_seed, keep_now, promise::examine_now};

/// What is checked: a codec for one type, and values of that type.
///
/// # Examples
///
/// ```
/// use ipc_testkit::conformance::codec::Subject;
/// use ipc_transport::Bincode;
///
/// let subject = Subject::new(Bincode::default(), [String::new(), "words".to_owned()]);
/// # let _ = subject;
/// ```
pub struct Subject<T> {
    encoder: Box<dyn Encoder<T>>,
    decoder: Box<dyn Decoder<T>>,
    samples: Vec<T>,
    self_delimiting: bool,
    seed: u64,
}

impl<T: PartialEq + fmt::Debug + 'static> Subject<T> {
    /// A codec and values to try it with; the more kinds of value, the better.
    pub fn new(codec: impl Encoder<T> + Decoder<T> + Clone, samples: impl IntoIterator<Item = T>) -> Self {
        Self {
            encoder: Box::new(codec.clone()),
            decoder: Box::new(codec),
            samples: samples.into_iter().collect(),
            self_delimiting: true,
            seed: default_seed(),
        }
    }

    /// The end of a value shows only by the end of its bytes, so that promises 5 and 6 mean nothing: raw bytes, or
    /// a bare number as text.
    #[must_use]
    pub fn not_self_delimiting(mut self) -> Self {
        self.self_delimiting = false;
        self
    }

    /// Makes all random choices from this seed instead of `IPC_SEED`, or 0 where that is not set.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    fn encoded(&self, value: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = EncodeBuffer::growing(&mut bytes, usize::MAX);
        self.encoder.encode(value, &mut out).expect("the samples can be encoded");
        match out.take_attached() {
            Some(attached) => attached.to_vec(),
            None => bytes,
        }
    }

    fn each(&self) -> impl Iterator<Item = (&T, Vec<u8>)> {
        assert!(!self.samples.is_empty(), "there is nothing to check a codec without values");
        self.samples.iter().map(|value| (value, self.encoded(value)))
    }
}

impl<T> Examined for Subject<T> {
    const CONTRACT: &'static str = "codecs";
    const CHECKS: &'static [&'static str] = crate::__each_codec_check! { __names_of_checks };

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }
}

impl<T: fmt::Debug + 'static> fmt::Debug for Subject<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("codec", &self.encoder.id())
            .field("samples", &self.samples)
            .finish_non_exhaustive()
    }
}

/// Promise 1: a decoded encoding is the value, from a borrowed and from an owned buffer.
///
/// # Panics
///
/// When the promise is broken.
pub fn values_round_trip<T: PartialEq + fmt::Debug + 'static>(subject: Subject<T>) {
    assert_eq!(subject.encoder.id(), subject.decoder.id());
    for (value, bytes) in subject.each() {
        assert_eq!(subject.decoder.decode(&bytes).as_ref(), Ok(value));
        assert_eq!(subject.decoder.decode_owned(Bytes::from(bytes)).as_ref(), Ok(value));
    }
}

/// Promise 2: in a slice, in a growing buffer and the second time, the bytes are the same.
///
/// # Panics
///
/// When the promise is broken.
pub fn encoding_is_the_same_everywhere<T: PartialEq + fmt::Debug + 'static>(subject: Subject<T>) {
    for (value, bytes) in subject.each() {
        assert_eq!(subject.encoded(value), bytes, "the second encoding of {value:?} differs");
        let mut slice = vec![0xA5; bytes.len() + 3];
        let mut out = EncodeBuffer::in_slice(&mut slice);
        subject.encoder.encode(value, &mut out).expect("there is room");
        if let Some(attached) = out.take_attached() {
            assert_eq!(attached, bytes);
            continue;
        }
        assert_eq!(out.len(), bytes.len());
        assert_eq!(slice[..bytes.len()], bytes, "{value:?} is encoded otherwise in a slice");
        assert_eq!(slice[bytes.len()..], [0xA5; 3], "encoding {value:?} wrote beyond its end");
        let mut after = b"before".to_vec();
        subject
            .encoder
            .encode(value, &mut EncodeBuffer::growing(&mut after, usize::MAX))
            .expect("there is room");
        assert_eq!(after[6..], bytes, "{value:?} is encoded otherwise after something else");
    }
}

/// Promise 3: a slice that is too short is [`EncodeError::NoRoom`], whichever byte is the first without a place.
///
/// # Panics
///
/// When the promise is broken.
pub fn no_room_is_passed_through<T: PartialEq + fmt::Debug + 'static>(subject: Subject<T>) {
    for (value, bytes) in subject.each() {
        for len in 0..bytes.len().min(EVERY_OFFSET_BELOW) {
            let mut slice = vec![0; len];
            let mut out = EncodeBuffer::in_slice(&mut slice);
            let outcome = subject.encoder.encode(value, &mut out);
            let attached = out.take_attached().is_some();
            assert!(attached || outcome == Err(EncodeError::NoRoom), "{value:?} in {len} bytes: {outcome:?}");
        }
    }
}

/// Promise 4: an encoding beyond the limit of a growing buffer is [`EncodeError::TooLarge`].
///
/// # Panics
///
/// When the promise is broken.
pub fn too_large_is_told<T: PartialEq + fmt::Debug + 'static>(subject: Subject<T>) {
    for (value, bytes) in subject.each() {
        for max in 0..bytes.len().min(EVERY_OFFSET_BELOW) {
            let mut grown = Vec::new();
            let mut out = EncodeBuffer::growing(&mut grown, max);
            let outcome = subject.encoder.encode(value, &mut out);
            let attached = out.take_attached().is_some();
            assert!(
                attached || matches!(outcome, Err(EncodeError::TooLarge { .. })),
                "{value:?} within {max} bytes: {outcome:?}"
            );
            assert!(grown.len() <= max, "the buffer grew beyond its limit of {max}");
        }
    }
}

/// Promise 5: bytes after the value are an error.
///
/// # Panics
///
/// When the promise is broken.
pub fn trailing_bytes_are_rejected<T: PartialEq + fmt::Debug + 'static>(subject: Subject<T>) {
    for (value, bytes) in subject.each().filter(|_| subject.self_delimiting) {
        for byte in [0x00, 0x01, 0xff] {
            let mut longer = bytes.clone();
            longer.push(byte);
            let outcome = subject.decoder.decode(&longer);
            assert!(outcome.is_err(), "{value:?} with {byte:#04x} after it is {outcome:?}");
            let outcome = subject.decoder.decode_owned(Bytes::from(longer));
            assert!(outcome.is_err(), "{value:?} with {byte:#04x} after it is {outcome:?} when owned");
        }
    }
}

/// Promise 6: every proper beginning of an encoding is an error.
///
/// # Panics
///
/// When the promise is broken.
pub fn truncated_input_is_an_error<T: PartialEq + fmt::Debug + 'static>(subject: Subject<T>) {
    for (value, bytes) in subject.each().filter(|_| subject.self_delimiting) {
        let last = bytes.len().saturating_sub(1);
        for len in (0..bytes.len().min(EVERY_OFFSET_BELOW)).chain([last]).filter(|&len| len < bytes.len()) {
            let outcome = subject.decoder.decode(&bytes[..len]);
            assert!(outcome.is_err(), "{len} of the {} bytes of {value:?} are {outcome:?}", bytes.len());
        }
    }
}

/// Promise 7: a run decodes as its values do, up to the first that does not.
///
/// # Panics
///
/// When the promise is broken.
pub fn a_run_stops_at_the_first_bad_value<T: PartialEq + fmt::Debug + 'static>(subject: Subject<T>) {
    let (mut run, mut spans) = (b"some header".to_vec(), Vec::new());
    for (_, bytes) in subject.each() {
        let start = offset(&run);
        run.extend_from_slice(&bytes);
        spans.push((start, offset(&run)));
    }
    let mut values = Vec::new();
    subject.decoder.decode_batch(&run, &spans, &mut values).expect("every value decodes by itself");
    assert_eq!(values, subject.samples);
    for bad in (0..spans.len()).filter(|_| subject.self_delimiting) {
        if spans[bad].0 == spans[bad].1 {
            continue;
        }
        let mut spans = spans.clone();
        spans[bad].1 -= 1;
        let mut values = Vec::new();
        let error =
            subject.decoder.decode_batch(&run, &spans, &mut values).expect_err("one value is cut short");
        assert_eq!(error.index, bad);
        assert_eq!(values, subject.samples[..bad], "the values before the bad one");
    }
}

fn offset(run: &[u8]) -> u32 {
    u32::try_from(run.len()).expect("the samples together are shorter than 4 GiB")
}

/// Promise 8: any bytes give a value or an error: random ones, and encodings with a few bytes changed.
///
/// # Panics
///
/// When the promise is broken.
pub fn garbage_never_panics<T: PartialEq + fmt::Debug + 'static>(subject: Subject<T>) {
    let mut rng = fastrand::Rng::with_seed(subject.seed);
    for _ in 0..ROUNDS_OF_GARBAGE {
        let mut bytes = vec![0; rng.usize(..100)];
        rng.fill(&mut bytes);
        // Small numbers are more often valid lengths and tags than others.
        bytes.iter_mut().filter(|_| rng.bool()).for_each(|byte| *byte %= 4);
        let _ = subject.decoder.decode(&bytes);
    }
    let encodings: Vec<Vec<u8>> =
        subject.each().map(|(_, bytes)| bytes).filter(|bytes| !bytes.is_empty()).collect();
    for round in 0..ROUNDS_OF_GARBAGE.min(ROUNDS_OF_GARBAGE * encodings.len()) {
        let mut bytes = encodings[round % encodings.len()].clone();
        for _ in 0..rng.usize(1..4) {
            let place = rng.usize(..bytes.len());
            bytes[place] = if rng.bool() { rng.u8(..) } else { bytes[place] ^ 1 << rng.u8(..8) };
        }
        bytes.truncate(rng.usize(1..=bytes.len() * 2));
        let _ = subject.decoder.decode_owned(Bytes::from(bytes));
    }
}

/// Offsets that are tried one by one; beyond them a value is long because of its contents.
const EVERY_OFFSET_BELOW: usize = 2048;

const ROUNDS_OF_GARBAGE: usize = 20_000;

/// Hands the name of each check to a macro, so that the list stands in one place.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_codec_check {
    ($then:ident $($with:tt)*) => {
        $crate::$then! {
            [$($with)*]
            values_round_trip
            encoding_is_the_same_everywhere
            no_room_is_passed_through
            too_large_is_told
            trailing_bytes_are_rejected
            truncated_input_is_an_error
            a_run_stops_at_the_first_bad_value
            garbage_never_panics
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __run_codec_checks {
    ([$factory:ident] $($check:ident)*) => {{ $(keep_now(stringify!($check), $factory(), $check);)* }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __collect_broken_codec {
    ([$factory:ident] $($check:ident)*) => {
        [$(examine_now(stringify!($check), $factory(), $check)),*].into_iter().filter_map(Result::err).collect()
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __test_codec_checks {
    ([$name:ident, $factory:expr] $($check:ident)*) => {
        mod $name {
            #[allow(unused_imports, reason = "the factory may need nothing from outside")]
            use super::*;

            $(
                #[test]
                fn $check() {
                    let factory = $factory;
                    let check = $crate::conformance::codec::$check;
                    $crate::conformance::keep_now(stringify!($check), factory(), check);
                }
            )*
        }
    };
}

/// Makes a test of each promise of a codec, in a module of the given name.
///
/// The factory is called for each test and gives a [`codec::Subject`](crate::conformance::codec::Subject).
///
/// # Examples
///
/// ```
/// use ipc_testkit::{codec_conformance, conformance::codec::Subject};
/// use ipc_transport::Bincode;
///
/// codec_conformance!(numbers, || Subject::new(Bincode::default(), [0_u64, 1, u64::MAX]));
/// ```
#[macro_export]
macro_rules! codec_conformance {
    ($name:ident, $factory:expr) => {
        $crate::__each_codec_check! { __test_codec_checks $name, $factory }
    };
}

/// Runs all checks, one after the other, each on a subject of its own.
///
/// # Panics
///
/// At the first broken promise.
pub fn run_all<T: PartialEq + fmt::Debug + 'static>(factory: impl Fn() -> Subject<T>) {
    crate::__each_codec_check! { __run_codec_checks factory }
}

/// Runs all checks, as [`run_all`] does, and gives every promise that is broken.
pub fn broken_promises<T: PartialEq + fmt::Debug + 'static>(
    factory: impl Fn() -> Subject<T>,
) -> Vec<BrokenPromise> {
    crate::__each_codec_check! { __collect_broken_codec factory }
}
