//! Handlers that panic: that run ends, and all else goes on.

use serde::{Deserialize, Deserializer};

use super::*;

/// the handler that panics is counted, the next one runs, and so does the next event.
#[tokio::test]
async fn a_panic_before_the_first_wait_or_after_it_ends_that_handler_only() {
    let handlers = Handlers::new();
    handlers.on("number", |_: Event<u32>, _: Log| -> std::future::Ready<()> { panic!("as it is called") });
    handlers.on("number", |_: Event<u32>, _: Log| async { panic!("before it waits") });
    handlers.on("number", |_: Event<u32>, _: Log| async {
        yield_now().await;
        panic!("after it waited");
    });
    handlers.on("number", noting("own"));
    handlers.on_any(|_, _| async { panic!("of a wildcard") });
    handlers.on_any(|_, log: Log| async move { log.note("any") });
    let mut connection = Connection::new(&handlers);
    for number in 1..=2_u32 {
        let outcome = connection.event("number", number).await;
        assert_eq!(outcome, Dispatched { ran: 6, panicked: 4, ..Dispatched::default() });
        assert_eq!(connection.log.take(), [format!("own {number}"), "any".to_owned()]);
    }
    let counters = handlers.counters();
    assert_eq!((counters.dispatched, counters.panicked), (12, 8));
}

#[test]
fn a_panic_while_a_value_is_decoded_is_that_of_its_handler() {
    struct Odd;
    impl<'de> Deserialize<'de> for Odd {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("while decoding")
        }
    }
    let handlers = Handlers::new();
    handlers.on("number", |_: Event<Odd>, log: Log| async move { log.note("odd") });
    handlers.on("number", noting("next"));
    let mut connection = Connection::new(&handlers);
    let outcome = connection.at_once("number", 1_u32);
    assert_eq!(outcome, Dispatched { ran: 2, panicked: 1, ..Dispatched::default() });
    assert_eq!(connection.log.take(), ["next 1"]);
}

/// A future that panics as it is dropped.
struct Sore {
    ready: bool,
}

impl Future for Sore {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        if self.ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    }
}

impl Drop for Sore {
    fn drop(&mut self) {
        panic!("while dropped");
    }
}

#[test]
fn a_panic_while_the_future_of_a_handler_is_dropped_counts_as_one_of_the_handler() {
    let handlers = Handlers::new();
    handlers.on("number", |_: Event<u32>, _: Log| Sore { ready: true });
    handlers.on("number", noting("next"));
    let mut connection = Connection::new(&handlers);
    for number in 1..=2_u32 {
        assert_eq!(connection.at_once("number", number).panicked, 1);
        assert_eq!(connection.log.take(), [format!("next {number}")]);
    }
}

#[test]
fn a_panic_while_a_dropped_dispatch_drops_its_handler_goes_no_further() {
    let handlers = Handlers::new();
    handlers.on("number", |event: Event<u32>, _: Log| async move {
        if *event == 1 {
            Sore { ready: false }.await;
        }
    });
    let mut connection = Connection::new(&handlers);
    assert_eq!(connection.event("number", 1_u32).now_or_never(), None);
    assert_eq!(connection.at_once("number", 2_u32), ran(1));
}

#[test]
fn what_a_panic_throws_may_panic_as_it_is_dropped() {
    let handlers = Handlers::new();
    handlers.on("number", |_: Event<u32>, _: Log| async {
        std::panic::panic_any(Sore { ready: true });
    });
    let mut connection = Connection::new(&handlers);
    assert_eq!(connection.at_once("number", 1_u32).panicked, 1);
}

#[test]
fn a_removed_handler_that_panics_as_it_is_dropped_leaves_a_dispatcher_that_goes_on() {
    let handlers = Handlers::new();
    let sore = Sore { ready: true };
    let subscription = handlers.on("first", move |_: Event<u32>, _: Log| {
        let _ = &sore;
        async {}
    });
    handlers.on("second", noting("second"));
    handlers.on("third", noting("third"));
    let mut connection = Connection::new(&handlers);
    for name in ["first", "second", "third"] {
        assert_eq!(connection.at_once(name, 1_u32), ran(1));
    }
    connection.log.take();
    subscription.cancel();
    let dispatch = std::panic::AssertUnwindSafe(|| connection.at_once("third", 2_u32));
    assert!(std::panic::catch_unwind(dispatch).is_err(), "it is no run of a handler");
    assert_eq!(connection.at_once("third", 3_u32), ran(1));
    assert_eq!(connection.at_once("second", 4_u32), ran(1));
    assert_eq!(connection.log.take(), ["third 3", "second 4"]);
}
