//! The greeting of 0.9, and the queries that peers ask for each other's events.

use ipc_channel::events::node_ipc::{
    Announcement, Catalogue, Delimiter, Guard, Introspection, Profile, WireError, Writer, decode,
};

use super::support::{MAX, read, reader, writer};

/// W-05: both frames of the greeting of a server of 0.9, to the byte.
#[test]
fn the_greeting_is_written_to_the_byte() {
    let mut wire = Vec::new();
    Catalogue::of_v09("world", "/tmp/app.world").greet("world", &writer(), &mut wire).unwrap();
    let text = concat!(
        r#"{"type":"events.broadcasting","data":{"id":"world","events":{"#,
        r#""events.broadcasting":"data.events is a JSON object of event definitions by type world will broadcast on /tmp/app.world","#,
        r#""events.listening":"data.events is a JSON object of event definitions by type world is listening for on /tmp/app.world""#,
        "}}}\x0c",
        r#"{"type":"events.listening","data":{"id":"world","events":{"#,
        r#""get.events.broadcasting":"does not require any special paramaters","#,
        r#""get.events.listening":"does not require any special paramaters""#,
        "}}}\x0c",
    );
    assert_eq!(String::from_utf8(wire).unwrap(), text);
}

/// W-05: a client knows the greeting from events, and reads those that follow it.
#[test]
fn a_greeting_is_known_from_events() {
    let mut wire = Vec::new();
    Catalogue::of_v09("world", "/tmp/app.world").greet("world", &writer(), &mut wire).unwrap();
    writer().encode("message", Some("hello"), &mut wire).unwrap();
    for size in [1, 7, 4_096] {
        let mut reader = reader();
        let mut kinds = Vec::new();
        for chunk in wire.chunks(size) {
            reader.handle_bytes(chunk);
            while let Some(frame) = reader.poll_frame().unwrap() {
                kinds.push(Introspection::is_greeting(&frame.envelope()));
            }
        }
        assert_eq!(kinds, [true, true, false]);
    }
    for name in ["get.events.listening", "events.listened", "message"] {
        let frame = format!(r#"{{"type":"{name}"}}"#);
        assert!(!Introspection::is_greeting(&decode(frame.as_bytes()).unwrap()));
    }
}

/// N-38: a service tells its events with descriptions, and a peer reads them.
#[test]
fn what_a_service_tells_of_its_events_is_read_by_its_peers() {
    let catalogue = Catalogue::new()
        .with_listening("order", "tea, please")
        .with_broadcasting("kettle", "it \u{c} \"boils\"")
        .with_listening("bill", "")
        .with_listening("order", "tea or coffee, please");
    let asked = [
        (Introspection::GetListening, Introspection::Listening, catalogue.listening()),
        (Introspection::GetBroadcasting, Introspection::Broadcasting, catalogue.broadcasting()),
    ];
    for (query, answer, events) in asked {
        assert_eq!(Introspection::of(query.name()), Some(query));
        let mut wire = Vec::new();
        catalogue.answer(query, "café", &writer(), &mut wire).unwrap();
        let (mut frames, _) = read(reader(), [&wire[..]]);
        let (name, data) = frames.remove(0).unwrap();
        assert_eq!(Introspection::of(&name), Some(answer));
        let told = Announcement::decode(data.unwrap().as_bytes()).unwrap();
        assert_eq!((&*told.id, &*told.events), ("café", events));
    }
    assert_eq!(catalogue.listening()[0], ("order".to_owned(), "tea or coffee, please".to_owned()));
}

/// N-38: definitions of other peers may be any JSON.
#[test]
fn definitions_that_are_no_strings_are_kept_as_their_text() {
    let data = br#"{"x":1,"id":"w","events":{"a":{"b":[1]},"c":null,"d":"e"}}"#;
    let told = Announcement::decode(data).unwrap();
    let events = [("a", r#"{"b":[1]}"#), ("c", "null"), ("d", "e")];
    assert_eq!(told.events, events.map(|(name, text)| (name.to_owned(), text.to_owned())));
    let wrong = [&b""[..], b"{}", br#"{"id":1,"events":{}}"#, br#"{"id":"a","events":[]}"#, b"\xff", b"[[[["];
    for data in wrong {
        assert!(Announcement::decode(data).is_err(), "{}", String::from_utf8_lossy(data));
    }
}

/// N-38, N-36: a guard refuses all of it unless it is told otherwise, and then whatever the list of names says.
#[test]
fn a_guard_decides_whether_events_are_told() {
    let guard = Guard::default().with_allowed(["message"]);
    let writer = |guard| Writer::new(&Delimiter::default(), Profile::Guarded(guard), MAX);
    let catalogue = Catalogue::of_v09("w", "/w");
    let mut wire = b"before".to_vec();
    let refused = catalogue.greet("w", &writer(guard.clone()), &mut wire);
    assert_eq!(refused, Err(WireError::Reserved { name: "events.broadcasting" }));
    assert_eq!(wire, b"before");
    assert_eq!(catalogue.greet("w", &writer(guard.with_introspection(true)), &mut wire), Ok(()));
}

#[test]
fn a_greeting_that_does_not_fit_leaves_nothing() {
    let tight = Writer::new(&Delimiter::default(), Profile::Compatible, 80);
    let catalogue = Catalogue::new().with_listening("x".repeat(40), "");
    let mut wire = b"before".to_vec();
    assert!(catalogue.greet("w", &tight, &mut wire).is_err(), "the first frame fits, the second does not");
    assert_eq!(wire, b"before");
}
