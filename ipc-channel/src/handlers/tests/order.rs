//! Who gets which event, in which order, and with what.

use super::*;

/// N-08: the order is that of subscription.
#[tokio::test]
async fn handlers_of_an_event_run_one_after_the_other_in_the_order_of_subscription() {
    let handlers = Handlers::new();
    for number in 0..5 {
        handlers.on("greeting", move |event: Event<String>, log: Log| async move {
            log.note(format!("{number} begins with {}", *event));
            // A later one could overtake it here.
            yield_now().await;
            log.note(format!("{number} ends"));
        });
    }
    let mut connection = Connection::new(&handlers);
    assert_eq!(connection.event("greeting", "hello").await, ran(5));
    let expected: Vec<_> =
        (0..5).flat_map(|number| [format!("{number} begins with hello"), format!("{number} ends")]).collect();
    assert_eq!(connection.log.take(), expected);
}

/// N-08: a wildcard gets the name and the data.
#[test]
fn wildcard_handlers_run_last_and_get_the_name_and_the_undecoded_value_of_every_event() {
    let handlers = Handlers::new();
    for who in ["any", "other"] {
        handlers.on_any(move |event: Event<Payload>, log: Log| async move {
            let number = event.decode::<u32>().unwrap();
            log.note(format!("{who} {} {number} {}", event.name(), event.codec().id()));
        });
    }
    handlers.on("number", noting("own"));
    let mut connection = Connection::new(&handlers);
    assert_eq!(connection.at_once("number", 1_u32), ran(3));
    assert_eq!(connection.at_once("unheard of", 2_u32), ran(2));
    let id = BINARY.id();
    let expected = [
        "own 1".to_owned(),
        format!("any number 1 {id}"),
        format!("other number 1 {id}"),
        format!("any unheard of 2 {id}"),
        format!("other unheard of 2 {id}"),
    ];
    assert_eq!(connection.log.take(), expected);
    assert_eq!(handlers.counters().unhandled, 0);
}

/// N-08: a handler that is added during a dispatch runs for the next event.
#[test]
fn a_handler_added_during_a_dispatch_sees_the_next_event() {
    let handlers = Handlers::new();
    let registry = Arc::downgrade(&handlers);
    handlers.on("number", move |_: Event<u32>, log: Log| {
        log.note("first");
        let registry = registry.upgrade().unwrap();
        registry.on("number", noting("added"));
        registry.on_any(|_, log: Log| async move { log.note("added wildcard") });
        async {}
    });
    let mut connection = Connection::new(&handlers);
    assert_eq!(connection.at_once("number", 1_u32), ran(1));
    assert_eq!(connection.log.take(), ["first"]);
    assert_eq!(connection.at_once("number", 2_u32), ran(3));
    assert_eq!(connection.log.take(), ["first", "added 2", "added wildcard"]);
}

/// I-02: handlers may come before a connection and after it; a new one works for the next event of every connection.
#[test]
fn handlers_may_be_added_at_any_time_for_all_connections() {
    let handlers = Handlers::new();
    handlers.on("number", noting("before"));
    let mut connections = [Connection::new(&handlers), Connection::new(&handlers)];
    for connection in &mut connections {
        assert_eq!(connection.at_once("number", 1_u32), ran(1));
        assert_eq!(connection.at_once("late", 1_u32), ran(0));
    }
    handlers.on("number", noting("after"));
    handlers.on("late", noting("late"));
    for connection in &mut connections {
        assert_eq!(connection.at_once("number", 2_u32), ran(2));
        assert_eq!(connection.at_once("late", 2_u32), ran(1));
        assert_eq!(connection.log.take(), ["before 1", "before 2", "after 2", "late 2"]);
    }
}

#[test]
fn handlers_of_different_types_on_one_name_each_get_a_decoding_of_their_own() {
    let handlers = Handlers::new();
    handlers.on("pair", |event: Event<(u32, u32)>, log: Log| async move { log.note(format!("{}", event.1)) });
    handlers.on("pair", |event: Event<u64>, log: Log| async move { log.note(format!("{:#x}", *event)) });
    let mut connection = Connection::new(&handlers);
    assert_eq!(connection.at_once("pair", (1_u32, 2_u32)), ran(2));
    assert_eq!(connection.log.take(), ["2", "0x200000001"]);
}

#[test]
fn a_value_of_another_type_is_counted_for_each_handler_that_cannot_have_it_and_the_others_run() {
    let handlers = Handlers::new();
    handlers.on("mixed", |_: Event<String>, log: Log| async move { log.note("text") });
    handlers.on("mixed", |_: Event<u64>, log: Log| async move { log.note("wide") });
    handlers.on("mixed", noting("number"));
    let mut connection = Connection::new(&handlers);
    let outcome = connection.at_once("mixed", 7_u32);
    assert_eq!((outcome.ran, outcome.undecodable, outcome.panicked), (1, 2, 0));
    assert_eq!(outcome.error, BINARY.decode::<String>(&encoded(BINARY, &7_u32)).err(), "that of the first");
    assert!(outcome.error.is_some());
    assert_eq!(connection.log.take(), ["number 7"]);
    let counters = handlers.counters();
    assert_eq!((counters.dispatched, counters.undecodable, counters.unhandled), (1, 2, 0));
}

/// V2-16: names that mean something elsewhere are plain names here, each its own. X-14: none of them is an event of
/// another kind.
#[test]
fn names_are_plain_keys() {
    let handlers = Handlers::new();
    let names =
        ["connect", "disconnect", "error", "message", "*", "__proto__", "constructor", "", " ", "a\0b"];
    for name in names {
        handlers.on(name, move |event: Event<u32>, log: Log| async move {
            assert_eq!(event.name(), name);
            log.note(name);
        });
    }
    let mut connection = Connection::new(&handlers);
    for name in names {
        assert_eq!(connection.at_once(name, 1_u32), ran(1), "{name:?}");
    }
    assert_eq!(connection.log.take(), names);
}

#[test]
fn events_that_nobody_wants_are_counted_and_leave_nothing_behind() {
    let handlers = Handlers::new();
    handlers.on("number", noting("number"));
    let mut connection = Connection::new(&handlers);
    for number in 0..100_u32 {
        let outcome = connection.at_once(&format!("unheard of {number}"), number);
        assert!(outcome.is_unhandled());
    }
    assert_eq!(handlers.counters(), HandlerCounters { unhandled: 100, ..HandlerCounters::default() });
    assert_eq!(connection.dispatcher.names_met(), 0);
}

/// I-04: a handler gets the data and who sent it, N-06: and the handle to answer through.
#[test]
fn a_handler_gets_the_name_the_sender_the_flag_and_the_context() {
    let handlers = Handlers::new();
    handlers.on("number", |event: Event<u32>, log: Log| async move {
        log.note(format!("{} {:?} {} {}", event.name(), event.from(), event.redelivered(), event.value()));
    });
    let mut connection = Connection::new(&handlers);
    let payload = encoded(PayloadCodec::Json, &5);
    let meta = Meta { from: Some(Arc::from("sam")), redelivered: true };
    for meta in [meta, Meta::default()] {
        let Connection { dispatcher, log } = &mut connection;
        let dispatched = dispatcher.dispatch("number", PayloadCodec::Json, &payload, meta, log);
        assert_eq!(dispatched.now_or_never(), Some(ran(1)));
    }
    assert_eq!(connection.log.take(), [r#"number Some("sam") true 5"#, "number None false 5"]);
}

#[tokio::test]
async fn a_handler_that_waits_holds_up_its_own_connection_only() {
    let handlers = Handlers::new();
    let (open, gate) = oneshot::channel::<()>();
    let gate = Mutex::new(Some(gate));
    handlers.on("number", move |event: Event<u32>, log: Log| {
        let gate = gate.lock().unwrap().take();
        async move {
            if let Some(gate) = gate {
                gate.await.unwrap();
            }
            log.note(format!("{}", *event));
        }
    });
    let (mut slow, mut quick) = (Connection::new(&handlers), Connection::new(&handlers));
    let mut waiting = Box::pin(slow.event("number", 1_u32));
    assert_eq!(waiting.as_mut().now_or_never(), None);
    assert_eq!(quick.at_once("number", 2_u32), ran(1));
    open.send(()).unwrap();
    assert_eq!(soon(waiting).await, ran(1));
    assert_eq!((slow.log.take(), quick.log.take()), (vec!["1".to_owned()], vec!["2".to_owned()]));
}

#[test]
fn the_names_that_somebody_listens_to_are_sorted_and_follow_the_handlers() {
    let handlers = Handlers::new();
    let names = |handlers: &Handlers<Log>| {
        let HandlerNames { events, requests } = handlers.names();
        let text = |names: Vec<Arc<str>>| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        (text(events), text(requests))
    };
    handlers.on("b", noting("b"));
    let first = handlers.on("c", noting("c"));
    let second = handlers.on("c", noting("c"));
    handlers.once("a", noting("a"));
    handlers.on_any(|_, _| async {});
    let answer = |_: Event<()>, _| async { Ok::<_, String>(()) };
    handlers.respond("z", answer).unwrap();
    let request = handlers.respond("y", answer).unwrap();
    let all = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&handlers), (all(&["a", "b", "c"]), all(&["y", "z"])));
    first.cancel();
    request.cancel();
    assert_eq!(names(&handlers), (all(&["a", "b", "c"]), all(&["z"])));
    second.cancel();
    Connection::new(&handlers).at_once("a", 1_u32);
    assert_eq!(names(&handlers), (all(&["b"]), all(&["z"])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatch_may_run_as_a_task_of_a_runtime_with_many_threads() {
    let handlers = Handlers::new();
    handlers.on("number", |_: Event<u32>, log: Log| async move {
        yield_now().await;
        log.note("ran");
    });
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let mut connection = Connection::new(&handlers);
            tokio::spawn(async move {
                for number in 0..100_u32 {
                    assert_eq!(connection.event("number", number).await, ran(1));
                }
                connection.log.take().len()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(soon(task).await.unwrap(), 100);
    }
    assert_eq!(handlers.counters().dispatched, 400);
}
