//! Every codec against every bomb: a length, a count, a depth, and bytes behind the end.
//!
//! What each of them may allocate for it is measured in `codec_alloc`.

#![cfg(all(feature = "bincode", feature = "json", feature = "messagepack", feature = "postcard"))]
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{collections::HashMap, fmt::Debug};

use ipc_transport::{
    Bincode, DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder, Json, MessagePack, Postcard,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nest(Vec<Self>);

/// A codec, and how its format announces things.
struct Subject<C> {
    codec: C,
    /// Much more text than follows.
    text: Vec<u8>,
    /// Many more elements than follow.
    list: Vec<u8>,
    /// Many more entries than follow.
    map: Vec<u8>,
    /// What one more level costs.
    level: Vec<u8>,
}

impl<C> Subject<C> {
    fn new(codec: C, text: &[u8], list: &[u8], map: &[u8], level: &[u8]) -> Self {
        let [text, list, map, level] = [text, list, map, level].map(<[u8]>::to_vec);
        Self { codec, text, list, map, level }
    }

    fn decode<T>(&self, bytes: &[u8]) -> Result<T, DecodeError>
    where
        C: Decoder<T>,
    {
        self.codec.decode(bytes)
    }

    fn encode<T>(&self, value: &T) -> Vec<u8>
    where
        C: Encoder<T>,
    {
        let mut bytes = Vec::new();
        self.codec.encode(value, &mut EncodeBuffer::growing(&mut bytes, 1 << 20)).unwrap();
        bytes
    }
}

/// A codec of any serde type; spelled out, as a trait cannot be asked of all types at once.
macro_rules! every_codec {
    (|$subject:ident| $check:block) => {{
        let claim = (1_u64 << 40).to_le_bytes();
        let $subject = Subject::new(Bincode::default(), &claim, &claim, &claim, &1_u64.to_le_bytes());
        $check
        let claim = [0x80, 0x80, 0x80, 0x80, 0x80, 0x20];
        let $subject = Subject::new(Postcard::default(), &claim, &claim, &claim, &[1]);
        $check
        let claim = |marker| [marker, 0xff, 0xff, 0xff, 0xfe];
        let (text, list, map) = (claim(0xdb), claim(0xdd), claim(0xdf));
        let $subject = Subject::new(MessagePack::default(), &text, &list, &map, &[0x91]);
        $check
        // JSON announces nothing: what is there counts, and it does not end.
        let $subject = Subject::new(Json::default(), b"\"", b"[", b"{", b"[");
        $check
    }};
}

fn is_refused<T: Debug>(result: Result<T, DecodeError>) {
    let error = result.unwrap_err();
    assert!(!matches!(error, DecodeError::Depth { .. } | DecodeError::TrailingBytes { .. }), "{error:?}");
}

/// Text that claims to be longer than what follows. X-13
#[test]
fn length_bombs_are_refused() {
    every_codec!(|subject| {
        for rest in [&b""[..], b"1", &[b'1'; 100]] {
            let bomb = [&subject.text[..], rest].concat();
            is_refused(subject.decode::<String>(&bomb));
            is_refused(subject.decode::<Box<str>>(&bomb));
        }
    });
}

/// Lists and maps that claim to have more than what follows, elements that need no bytes included. X-13
#[test]
fn count_bombs_are_refused() {
    every_codec!(|subject| {
        for rest in [&b""[..], b"1", &[1; 100]] {
            let (list, map) = ([&subject.list[..], rest].concat(), [&subject.map[..], rest].concat());
            is_refused(subject.decode::<Vec<u8>>(&list));
            is_refused(subject.decode::<Vec<[u64; 8]>>(&list));
            is_refused(subject.decode::<Vec<()>>(&list));
            is_refused(subject.decode::<HashMap<u64, u64>>(&map));
            is_refused(subject.decode::<HashMap<String, Vec<u8>>>(&map));
        }
    });
}

/// Sixty thousand levels on the stack of a thread are an error, as is the first level too many; one less is none. X-13
#[test]
fn depth_bombs_are_refused() {
    fn nest(levels: usize) -> Nest {
        (1..levels).fold(Nest(Vec::new()), |inner, _| Nest(vec![inner]))
    }
    let check = || {
        every_codec!(|subject| {
            let bomb = subject.level.repeat(60_000);
            assert_eq!(subject.decode::<Nest>(&bomb), Err(DecodeError::Depth { max: 64 }));
            // Each is a newtype struct and a sequence: two levels.
            let deepest = subject.encode(&nest(32));
            assert_eq!(subject.decode::<Nest>(&deepest), Ok(nest(32)));
            let mut bytes = Vec::new();
            let mut out = EncodeBuffer::growing(&mut bytes, 1 << 20);
            assert_eq!(subject.codec.encode(&nest(33), &mut out), Err(EncodeError::Depth { max: 64 }));
        });
    };
    std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(check).unwrap().join().unwrap();
}

/// Whatever follows a value is an error and says how much it is. X-13
#[test]
fn bytes_behind_the_end_are_refused() {
    fn check<T, C>(subject: &Subject<C>, value: &T)
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug,
        C: Encoder<T> + Decoder<T>,
    {
        let mut bytes = subject.encode(value);
        assert_eq!(&subject.decode::<T>(&bytes).unwrap(), value);
        for count in 1..20 {
            bytes.push(b'1');
            assert_eq!(subject.decode::<T>(&bytes), Err(DecodeError::TrailingBytes { count }));
        }
    }
    every_codec!(|subject| {
        check(&subject, &"text".to_owned());
        check(&subject, &vec![1_u64, 2, 3]);
        check(&subject, &Some(true));
        check(&subject, &Nest(vec![]));
    });
}
