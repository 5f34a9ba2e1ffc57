//! The bytes of `docs/protocol.md`: every vector of that page, encoded and decoded.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IoSlice,
    time::Duration,
};

use ipc_pipeline::{
    link::Greeting,
    protocol::{
        Answer, Arrival, Budget, Control, ControlReader, DatagramHeader, DeliveryMode, End, FrameReader,
        HEADER_LEN, Header, Hello, Incoming, IncomingConfig, Kind, MAX_HELLO, MAX_PAYLOAD, Outgoing,
        OutgoingConfig, PREAMBLE_LEN, Preamble, ProtocolError, Refusal, SessionId, Taken, VERSION, Welcome,
        codec_tag,
    },
    trunk,
};
use ipc_transport::{Connection, ConnectionInfo, Endpoint, PeerIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

const PAGE: &str = include_str!("../../docs/protocol.md");

/// The vectors of the page by name: lines in `vectors` blocks, continued by indented ones.
fn vectors() -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut name = String::new();
    let mut inside = false;
    for line in PAGE.lines() {
        if line.starts_with("```") {
            inside = line == "```vectors";
            continue;
        }
        if !inside {
            continue;
        }
        let mut words = line.split_whitespace();
        if !line.starts_with(' ') {
            name = words.next().unwrap().to_owned();
            assert!(found.insert(name.clone(), Vec::new()).is_none(), "{name} is there twice");
        }
        let bytes = words.map(|word| u8::from_str_radix(word, 16).unwrap());
        found.get_mut(&name).unwrap().extend(bytes);
    }
    found
}

fn vector(name: &str) -> Vec<u8> {
    vectors().remove(name).unwrap_or_else(|| panic!("{name} is not in the page"))
}

fn session() -> SessionId {
    SessionId::from_bits(u128::from_le_bytes(std::array::from_fn(|index| index as u8)))
}

fn full_hello() -> Hello {
    let mut hello = Hello::new(session(), "bincode");
    hello.attempt = 3;
    hello.from_process = "process1".into();
    hello.from_port = "OUT".into();
    hello.to_process = "process2".into();
    hello.to_port = "IN".into();
    hello.schema = Some("chunk/1".into());
    hello.max_message = 1024 * 1024;
    hello.capacity = 20;
    hello.known = INCARNATION;
    hello.lowest = 42;
    hello.credentials = b"key".to_vec();
    hello
}

fn hellos() -> Vec<(&'static str, Hello)> {
    let mut best_effort = Hello::new(session(), "raw");
    best_effort.delivery = DeliveryMode::BestEffort;
    let mut lanes = Hello::new(session(), "raw");
    lanes.delivery = DeliveryMode::Lanes;
    let least = Hello::new(session(), "raw");
    vec![
        ("hello", full_hello()),
        ("hello-least", least),
        ("hello-best-effort", best_effort),
        ("hello-lanes", lanes),
    ]
}

fn answers() -> Vec<(&'static str, Answer)> {
    let welcome = Welcome {
        incarnation: INCARNATION,
        received: 41,
        released: 40,
        max_values: 60,
        max_bytes: 65_536,
        unknown_session: false,
        restated: false,
        ticked: false,
    };
    let restated = Welcome { released: 41, max_values: 20, restated: true, ..welcome };
    let unknown = Welcome { unknown_session: true, ..restated };
    let refused = Answer::Refused;
    vec![
        ("welcome", Answer::Welcome(welcome)),
        ("welcome-restated", Answer::Welcome(restated)),
        ("welcome-unknown", Answer::Welcome(unknown)),
        ("welcome-ticked", Answer::Welcome(Welcome { ticked: true, ..welcome })),
        ("wait", Answer::Wait),
        ("refused-busy", refused(Refusal::Busy)),
        ("refused-incompatible", refused(Refusal::Incompatible { what: "codec".into() })),
        ("refused-not-permitted", refused(Refusal::NotPermitted)),
        ("refused-peer-closed", refused(Refusal::PeerClosed)),
        ("refused-stale", refused(Refusal::Stale)),
        ("refused-unsupported", refused(Refusal::Unsupported { what: "version".into() })),
        ("refused-wrong-process", refused(Refusal::WrongProcess { wanted: "process2".into() })),
        ("refused-name-taken", refused(Refusal::NameTaken { name: "lisa".into() })),
        ("datagrams", Answer::Datagrams { at: "udp://127.0.0.1:9000".into() }),
    ]
}

fn controls() -> Vec<(&'static str, Control)> {
    vec![
        ("resume", Control::Resume { first: 42, maybe_seen_until: 40 }),
        ("checkpoint", Control::Checkpoint { next: 43, waiting: 65_540 }),
        ("need", Control::Need { waiting: 65_540, next_size: 1_028 }),
        ("skip", Control::Skip { count: 3 }),
        ("fin", Control::Fin),
        ("ack", Control::Ack { released: 42, max_values: 62, max_bytes: 131_072 }),
        ("detach", Control::Detach),
        ("abort", Control::Abort),
        ("aborted", Control::Aborted { released: 42, taken: 43 }),
        ("closed", Control::Closed { released: 42 }),
        ("ping", Control::Ping { token: 0x0123_4567_89AB_CDEF }),
        ("pong", Control::Pong { token: 0x0123_4567_89AB_CDEF }),
    ]
}

/// Frame headers: name, header, and how many bytes of payload the vector carries.
fn headers() -> Vec<(&'static str, Header, usize)> {
    vec![
        ("data-empty", Header::new(Kind::Data, 0), 0),
        ("data", Header::new(Kind::Data, 5), 5),
        ("header-more", Header::new(Kind::More, MAX_PAYLOAD), 0),
        ("header-data-last", Header::new(Kind::Data, 1), 0),
        ("header-lane", Header { kind: 0, lane: 3, len: 1_048_575 }, 0),
        ("ignorable", Header { kind: 0x80, lane: 0, len: 2 }, 2),
    ]
}

#[test]
fn hellos_are_written_and_read_as_the_page_says() {
    for (name, hello) in hellos() {
        let expected = vector(name);
        assert_eq!(hello.encode().unwrap(), expected, "{name}");
        let (preamble, fields) = expected.split_first_chunk::<PREAMBLE_LEN>().unwrap();
        let preamble = Preamble::decode(*preamble, false).unwrap();
        assert_eq!(usize::from(preamble.len), fields.len(), "{name}");
        assert_eq!(Hello::decode(fields).unwrap(), hello, "{name}");
    }
}

#[test]
fn answers_are_written_and_read_as_the_page_says() {
    for (name, answer) in answers() {
        let expected = vector(name);
        assert_eq!(answer.encode(), expected, "{name}");
        let (preamble, fields) = expected.split_first_chunk::<PREAMBLE_LEN>().unwrap();
        let preamble = Preamble::decode(*preamble, true).unwrap();
        assert_eq!(
            preamble,
            Preamble { low: VERSION, high: VERSION, answer: true, len: fields.len() as u16 }
        );
        assert_eq!(Answer::decode(fields).unwrap(), answer, "{name}");
    }
}

#[test]
fn datagrams_are_written_and_read_as_the_page_says() {
    let expected = vector("datagram");
    let header =
        DatagramHeader { session: session(), codec: codec_tag("bincode2-fixed"), number: 3, skipped: 260 };
    assert_eq!([&header.encode()[..], &[7, 0, 0, 0]].concat(), expected);
    assert_eq!(DatagramHeader::decode(&expected), Some(header));
}

#[test]
fn control_frames_are_written_and_read_as_the_page_says() {
    for (name, control) in controls() {
        let expected = vector(name);
        let mut written = Vec::new();
        control.encode(&mut written);
        assert_eq!(written, expected, "{name}");
        let header = Header::decode(*expected.first_chunk().unwrap());
        assert_eq!(header.frame_len(), expected.len(), "{name}");
        let kind = header.kind().unwrap().unwrap();
        assert_eq!(Control::decode(kind, &expected[HEADER_LEN..]).unwrap(), control, "{name}");
    }
}

#[test]
fn frame_headers_are_written_and_read_as_the_page_says() {
    for (name, header, payload) in headers() {
        let expected = vector(name);
        assert_eq!(header.encode(), expected[..HEADER_LEN], "{name}");
        assert_eq!(Header::decode(*expected.first_chunk().unwrap()), header, "{name}");
        assert_eq!(expected.len(), HEADER_LEN + payload, "{name}");
    }
}

/// The machines of both ends say exactly what the page shows for a whole exchange.
#[test]
fn a_whole_exchange_has_the_bytes_of_the_page() {
    let mut sender = Outgoing::new(session(), OutgoingConfig::default());
    for value in [&b"hello"[..], b""] {
        assert!(sender.reserve());
        sender.append(|out| out.write(value)).unwrap();
    }
    sender.finish();
    let hello = sender.hello("raw");
    assert_eq!(hello.encode().unwrap(), vector("exchange-hello"));

    let mut config = IncomingConfig::default();
    config.incarnation = INCARNATION;
    let mut receiver = Incoming::new(config, &hello, Budget::new(1 << 20).share());
    let welcome = receiver.handle_hello(&hello).unwrap();
    assert_eq!(Answer::Welcome(welcome).encode(), vector("exchange-answer"));

    sender.handle_welcome(&welcome).unwrap();
    let mut written = Vec::new();
    while sender.poll_transmit().pending {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = sender.slices(&mut slices);
        let before = written.len();
        slices[..count].iter().for_each(|slice| written.extend_from_slice(slice));
        sender.handle_written(written.len() - before);
    }
    assert_eq!(written, vector("exchange-sender"));

    let mut arrivals = Vec::new();
    FrameReader::new().handle_bytes(&written, &mut receiver, &mut arrivals).unwrap();
    receiver.handle_taken(Taken { number: 2, values: 2, bytes: 13 });
    let mut answered = Vec::new();
    receiver.poll_control(false, &mut answered);
    assert_eq!(answered, vector("exchange-receiver"));
    ControlReader::new().handle_bytes(&answered, |control| sender.handle_control(control)).unwrap();
    assert_eq!(sender.end(), Some(&End::Finished));
    assert!(receiver.is_finished());
}

#[tokio::test]
async fn chunks_of_lanes_are_written_and_read_as_the_page_says() {
    let (ours, mut peer) = duplex(1_000);
    peer.write_all(&vector("hello-lanes")).await.unwrap();
    let (reader, writer) = split(ours);
    let at = Endpoint::new("direct", "here").unwrap();
    let info = ConnectionInfo::new(at.clone(), at, PeerIdentity::Unknown);
    let long = Duration::from_secs(20);
    let greeting = Greeting::read(Connection::from_bytes(reader, writer, info), long).await.unwrap();
    let Some((_, Answer::Welcome(welcome))) = answers().into_iter().find(|(name, _)| *name == "welcome")
    else {
        panic!("there is a welcome");
    };
    let (trunk, driver) = trunk::accept(greeting, welcome, 4, long).await.unwrap();
    tokio::spawn(driver);
    let (mut reader, mut writer, _) = trunk.lane(3).unwrap().into_parts();

    let chunks = [vector("chunk"), vector("chunk-end")].concat();
    writer.write_all(b"hello").await.unwrap();
    writer.shutdown().await.unwrap();
    let expected = [vector("welcome"), chunks.clone()].concat();
    let mut written = vec![0; expected.len()];
    peer.read_exact(&mut written).await.unwrap();
    assert_eq!(written, expected);

    peer.write_all(&chunks).await.unwrap();
    let mut read = Vec::new();
    reader.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"hello");
}

#[test]
fn every_vector_of_the_page_is_checked_here() {
    let mut checked: BTreeSet<&str> = hellos().iter().map(|(name, _)| *name).collect();
    checked.extend(answers().iter().map(|(name, _)| *name));
    checked.extend(controls().iter().map(|(name, _)| *name));
    checked.extend(headers().iter().map(|(name, ..)| *name));
    checked.extend(["chunk", "chunk-end", "datagram"]);
    checked.extend(["exchange-hello", "exchange-answer", "exchange-sender", "exchange-receiver"]);
    let vectors = vectors();
    let there: BTreeSet<&str> = vectors.keys().map(String::as_str).collect();
    assert_eq!(checked, there);
}

#[test]
fn a_control_frame_of_another_length_is_malformed() {
    for (name, control) in controls() {
        let mut frame = Vec::new();
        control.encode(&mut frame);
        let kind = Header::decode(*frame.first_chunk().unwrap()).kind().unwrap().unwrap();
        let payload = &frame[HEADER_LEN..];
        let longer = [payload, &[0; 8]].concat();
        let odd = [payload, &[0]].concat();
        let malformed = Err(ProtocolError::MalformedFrame { kind: kind as u8 });
        assert_eq!(Control::decode(kind, &longer), malformed, "{name}");
        assert_eq!(Control::decode(kind, &odd), malformed, "{name}");
        if !payload.is_empty() {
            assert_eq!(Control::decode(kind, &payload[1..]), malformed, "{name}");
        }
    }
}

#[test]
fn unknown_fields_are_skipped_unless_they_are_critical() {
    let hello = full_hello();
    let fields = hello.encode().unwrap().split_off(PREAMBLE_LEN);
    let skipped = [&fields[..], &[0x21, 0x00, 0x02, 0x00, 0xCA, 0xFE]].concat();
    assert_eq!(Hello::decode(&skipped).unwrap(), hello);
    let critical = [&fields[..], &[0x21, 0x80, 0x02, 0x00, 0xCA, 0xFE]].concat();
    assert!(matches!(Hello::decode(&critical), Err(ProtocolError::Hello { .. })));

    for (name, answer) in answers() {
        let fields = answer.encode().split_off(PREAMBLE_LEN);
        let skipped = [&[0x21, 0x00, 0x00, 0x00], &fields[..]].concat();
        assert_eq!(Answer::decode(&skipped).unwrap(), answer, "{name}");
        let critical = [&[0x21, 0x80, 0x00, 0x00], &fields[..]].concat();
        assert!(matches!(Answer::decode(&critical), Err(ProtocolError::Hello { .. })), "{name}");
    }
}

/// Which fields a hello cannot do without, as the page's table says.
#[test]
fn a_hello_without_a_required_field_is_malformed() {
    let fields = full_hello().encode().unwrap().split_off(PREAMBLE_LEN);
    let mut at = 0;
    while at < fields.len() {
        let len = usize::from(u16::from_le_bytes([fields[at + 2], fields[at + 3]]));
        let tag = u16::from_le_bytes([fields[at], fields[at + 1]]) & 0x7FFF;
        let without = [&fields[..at], &fields[at + 4 + len..]].concat();
        let optional = matches!(tag, 8 | 10 | 13);
        assert_eq!(Hello::decode(&without).is_ok(), optional, "field {tag}");
        at += 4 + len;
    }
}

#[test]
fn a_hello_cut_anywhere_is_malformed() {
    let fields = full_hello().encode().unwrap().split_off(PREAMBLE_LEN);
    let optional_end = fields.len() - 7;
    for end in (0..fields.len()).filter(|end| *end != optional_end) {
        assert!(matches!(Hello::decode(&fields[..end]), Err(ProtocolError::Hello { .. })), "{end} bytes");
    }
}

#[test]
fn the_fixed_bytes_are_checked_before_anything_is_read() {
    let hello = *vector("hello").first_chunk::<PREAMBLE_LEN>().unwrap();
    assert!(matches!(Preamble::decode(hello, true), Err(ProtocolError::Hello { .. })), "not an answer");
    for index in 0..3 {
        let mut wrong = hello;
        wrong[index] ^= 1;
        assert!(matches!(Preamble::decode(wrong, false), Err(ProtocolError::Hello { .. })), "magic {index}");
    }
    for (low, high, fits) in [(1, 1, true), (0, 9, true), (2, 3, false), (0, 0, false), (2, 0, false)] {
        let mut other = hello;
        (other[3], other[4]) = (low, high);
        let outcome = Preamble::decode(other, false);
        assert_eq!(outcome.is_ok(), fits, "{low} to {high}");
        if !fits {
            assert_eq!(outcome, Err(ProtocolError::Version { low, high, ours: VERSION }));
        }
    }
    let mut flags = hello;
    flags[5] = 0xFE;
    assert!(Preamble::decode(flags, false).is_ok(), "unknown flags are ignored");
    let mut long = hello;
    [long[6], long[7]] = (MAX_HELLO as u16 + 1).to_le_bytes();
    assert_eq!(
        Preamble::decode(long, false),
        Err(ProtocolError::HelloTooLarge { len: MAX_HELLO + 1, max: MAX_HELLO })
    );
}

#[test]
fn a_hello_that_does_not_fit_is_not_written() {
    let mut hello = full_hello();
    hello.credentials = vec![7; MAX_HELLO];
    assert!(matches!(hello.encode(), Err(ProtocolError::HelloTooLarge { .. })));
    hello.credentials = vec![7; 70_000];
    assert!(matches!(hello.encode(), Err(ProtocolError::HelloTooLarge { .. })));
}

#[test]
fn a_reason_of_a_later_version_is_final() {
    let mut fields = Answer::Refused(Refusal::Busy).encode().split_off(PREAMBLE_LEN);
    let at = fields.windows(4).position(|window| window == [8, 0x80, 2, 0]).unwrap() + 4;
    [fields[at], fields[at + 1]] = 999_u16.to_le_bytes();
    let Answer::Refused(refusal) = Answer::decode(&fields).unwrap() else { panic!("not a refusal") };
    assert!(!refusal.is_transient());
    assert!(matches!(refusal, Refusal::Unsupported { .. }));
}

/// Kinds from 0x80 on are passed over by both ends, those below are errors.
#[test]
fn unknown_frames_are_skipped_from_0x80_on() {
    for kind in 0x0E_u8..=0xFF {
        let frame = [&Header { kind, lane: 0, len: 3 }.encode()[..], &[1, 2, 3]].concat();
        let expected = match kind {
            0x80.. => Ok(()),
            _ => Err(ProtocolError::UnknownKind { kind }),
        };
        let mut reader = ControlReader::new();
        let outcome = reader.handle_bytes(&frame, |control| panic!("{control:?} came of kind {kind:#04x}"));
        assert_eq!(outcome, expected, "to the sender: {kind:#04x}");

        let mut session = Incoming::new(IncomingConfig::default(), &full_hello(), Budget::new(0).share());
        let mut arrivals: Vec<Arrival> = Vec::new();
        let outcome = FrameReader::new().handle_bytes(&frame, &mut session, &mut arrivals);
        assert_eq!(outcome, expected, "to the receiver: {kind:#04x}");
        assert!(arrivals.is_empty());
    }
}

const INCARNATION: u64 = 0x1122_3344_5566_7788;
