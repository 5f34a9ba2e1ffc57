//! What decoding may allocate, measured: a counting allocator in a process of its own.
#![cfg(feature = "bincode")]
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(unsafe_code, reason = "an allocator that counts cannot be written without; it forwards every call")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use ipc_transport::framing::{Delimiter, DelimiterDecoder, LengthDecoder};
use ipc_transport::{Bincode, Decoder, Value};
#[cfg(all(feature = "postcard", feature = "messagepack"))]
use ipc_transport::{MessagePack, Postcard};
use proptest::prelude::*;
use serde::de::DeserializeOwned;

struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

fn count(size: usize) {
    // A thread that is being torn down has no counter any more and needs none.
    let _ = ALLOCATED.try_with(|allocated| allocated.set(allocated.get().saturating_add(size)));
}

// SAFETY: every call is forwarded to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The bytes asked for in total, freed or not, while `run` ran on this thread.
fn allocated_by(run: impl FnOnce()) -> usize {
    let before = ALLOCATED.get();
    run();
    ALLOCATED.get() - before
}

/// An error and the box it travels in.
const ERROR: usize = 512;

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> usize {
    allocated_by(|| drop(Decoder::<T>::decode(&Bincode::default(), bytes)))
}

/// The same in the formats whose crates believe what they read: all lengths of the codec's own way of writing them. X-13
#[cfg(all(feature = "postcard", feature = "messagepack"))]
#[test]
fn the_other_formats_allocate_nothing_for_a_claim_either() {
    fn measure<T: DeserializeOwned>(codec: &impl Decoder<T>, bomb: &[u8]) -> usize {
        let mut refused = true;
        let allocated = allocated_by(|| refused = codec.decode(bomb).is_err());
        assert!(refused);
        allocated
    }
    let postcard = Postcard::default();
    let varint = [0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 1, 1, 1];
    let packed = MessagePack::default();
    let (array, map, bin, text) = ([0xdd], [0xdf], [0xc6], [0xdb]);
    let claim = |marker: [u8; 1]| [&marker[..], &[0xff, 0xff, 0xff, 0xfe, 1, 1, 1]].concat();
    for allocated in [
        measure::<String>(&postcard, &varint),
        measure::<Vec<u8>>(&postcard, &varint),
        measure::<Vec<[u64; 8]>>(&postcard, &varint),
        measure::<Vec<()>>(&postcard, &varint),
        measure::<HashMap<u64, u64>>(&postcard, &varint),
        measure::<String>(&packed, &claim(text)),
        measure::<Vec<u8>>(&packed, &claim(array)),
        measure::<Vec<[u64; 8]>>(&packed, &claim(array)),
        measure::<HashMap<u64, u64>>(&packed, &claim(map)),
        measure::<Value>(&packed, &claim(bin)),
    ] {
        assert!(allocated <= 4 * ERROR, "{allocated} bytes");
    }
}

/// JSON announces nothing, so text that does not end allocates for what there is of it, grown by doubling. X-13
#[cfg(feature = "json")]
#[test]
fn json_allocates_for_what_is_there() {
    for (bomb, element) in
        [("[[".repeat(200), 24), (format!("\"{}", "x".repeat(400)), 1), ("[1,".to_owned(), 8)]
    {
        let codec = ipc_transport::Json::default();
        let as_text = allocated_by(|| drop(Decoder::<String>::decode(&codec, bomb.as_bytes())));
        let as_list = allocated_by(|| drop(Decoder::<Vec<u64>>::decode(&codec, bomb.as_bytes())));
        for allocated in [as_text, as_list] {
            assert!(allocated <= 4 * ERROR + 4 * bomb.len() * element, "{allocated} bytes for {bomb}");
        }
    }
}

/// Nine bytes that claim 2⁴⁰ allocate an error and nothing else. X-13
#[test]
fn a_length_bomb_allocates_nothing_for_its_claim() {
    let mut bomb = (1_u64 << 40).to_le_bytes().to_vec();
    bomb.push(1);
    for allocated in [
        decode::<String>(&bomb),
        decode::<Box<[u8]>>(&bomb),
        decode::<Vec<u8>>(&bomb),
        decode::<Vec<[u64; 8]>>(&bomb),
        decode::<Vec<()>>(&bomb),
        decode::<HashMap<u64, u64>>(&bomb),
        decode::<BTreeMap<u8, String>>(&bomb),
    ] {
        assert!(allocated <= ERROR, "{allocated} bytes");
    }
}

/// Claims nested in claims allocate nothing either: each is compared with what remains. X-13
#[test]
fn nested_length_bombs_allocate_nothing_for_their_claims() {
    type Nested = Vec<Vec<Vec<Vec<[u64; 8]>>>>;
    let bomb = (1_u64 << 40).to_le_bytes().repeat(8);
    let allocated = decode::<Nested>(&bomb);
    // One element of each of the outer levels, and what a vector first grows to.
    assert!(allocated <= ERROR + 4 * 4 * size_of::<Vec<u8>>() + 4 * 64, "{allocated} bytes");
}

/// A frame that announces too much, or that announces much and then sends little, holds only what was sent. X-13
#[test]
fn an_announced_frame_allocates_only_what_arrives() {
    let allocated = allocated_by(|| {
        let mut decoder = LengthDecoder::new(64 << 20);
        decoder.push(&(60_u32 << 20).to_le_bytes());
        decoder.push(&[7; 100]);
        assert!(matches!(decoder.poll_frame(), Ok(None)));
    });
    assert!(allocated <= 1024, "{allocated} bytes");

    let allocated = allocated_by(|| {
        let mut decoder = DelimiterDecoder::new(Delimiter::new("\x0c").unwrap(), 64 << 20);
        decoder.push(&[7; 100]);
        assert!(matches!(decoder.poll_frame(), Ok(None)));
    });
    assert!(allocated <= 1024, "{allocated} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Garbage allocates in proportion to the bytes that there are, never to what they claim. X-13
    #[test]
    fn garbage_allocates_in_proportion_to_its_size(
        bytes in proptest::collection::vec(prop_oneof![3 => Just(0), 2 => 0..9_u8, 1 => any::<u8>()], 0..300),
    ) {
        let size = bytes.len();
        // Growth by doubling asks for up to twice what is kept, and four elements at first.
        let bounded = |allocated: usize, element: usize| allocated <= ERROR + (4 + 3 * size) * element;
        prop_assert!(bounded(decode::<String>(&bytes), 1));
        prop_assert!(bounded(decode::<Vec<u8>>(&bytes), 1));
        prop_assert!(bounded(decode::<Vec<Option<[u64; 8]>>>(&bytes), 72));
        prop_assert!(bounded(decode::<Vec<(u8, String)>>(&bytes), 40));
        prop_assert!(bounded(decode::<HashMap<u8, u8>>(&bytes), 16));
        // A level of values is a tag of four bytes at least, and a node of a map holds eleven entries.
        prop_assert!(bounded(decode::<Value>(&bytes), 16 * size_of::<Value>()));
    }
}
