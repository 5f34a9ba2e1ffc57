//! Handlers that run once.

use super::*;

/// N-08: `once`.
#[test]
fn a_once_handler_runs_for_the_next_event_and_then_no_more() {
    let handlers = Handlers::new();
    let subscription = handlers.once("number", noting("once"));
    handlers.on("number", noting("on"));
    let mut connections = [Connection::new(&handlers), Connection::new(&handlers)];
    assert!(subscription.is_active());
    assert_eq!(connections[0].at_once("number", 1_u32), ran(2));
    assert!(!subscription.is_active());
    assert_eq!(connections[0].at_once("number", 2_u32), ran(1));
    assert_eq!(connections[1].at_once("number", 3_u32), ran(1));
    assert_eq!(connections[0].log.take(), ["once 1", "on 1", "on 2"]);
}

/// V2-07: eight connections deliver at the same time, and one of them runs it.
#[test]
fn a_once_handler_runs_once_when_eight_threads_deliver_at_the_same_time() {
    const THREADS: usize = 8;
    for _ in 0..50 {
        let handlers = Handlers::new();
        handlers.once("number", noting("once"));
        let start = Barrier::new(THREADS);
        let runs: usize = thread::scope(|scope| {
            let deliver = || {
                let mut connection = Connection::new(&handlers);
                start.wait();
                (0..10_u32).map(|number| connection.at_once("number", number).ran).sum::<usize>()
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(deliver)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(runs, 1);
        assert_eq!(handlers.counters().dispatched, 1);
        assert_eq!(handlers.counters().unhandled, THREADS as u64 * 10 - 1);
        assert!(handlers.names().events.is_empty());
    }
}

#[test]
fn a_value_of_another_type_does_not_use_up_a_once_handler() {
    let handlers = Handlers::new();
    let subscription = handlers.once("number", noting("once"));
    let mut connection = Connection::new(&handlers);
    assert_eq!(connection.at_once("number", 1_u8).undecodable, 1);
    assert!(subscription.is_active());
    assert_eq!(connection.at_once("number", 2_u32), ran(1));
    assert_eq!(connection.log.take(), ["once 2"]);
}

#[test]
fn a_once_handler_may_add_itself_again() {
    fn listen(handlers: &Arc<Handlers<Log>>) {
        let registry = Arc::downgrade(handlers);
        handlers.once("number", move |event: Event<u32>, log: Log| {
            listen(&registry.upgrade().unwrap());
            noting("again")(event, log)
        });
    }
    let handlers = Handlers::new();
    listen(&handlers);
    let mut connection = Connection::new(&handlers);
    for number in 1..=3_u32 {
        assert_eq!(connection.at_once("number", number), ran(1));
    }
    assert_eq!(connection.log.take(), ["again 1", "again 2", "again 3"]);
}

#[test]
fn a_once_handler_that_was_removed_does_not_run() {
    let handlers = Handlers::new();
    handlers.once("number", noting("once")).cancel();
    let mut connection = Connection::new(&handlers);
    assert!(connection.at_once("number", 1_u32).is_unhandled());
}

#[test]
fn a_once_handler_that_panics_is_used_up() {
    let handlers = Handlers::new();
    let subscription = handlers.once("number", |_: Event<u32>, _: Log| -> std::future::Ready<()> {
        panic!("as it is called");
    });
    let mut connection = Connection::new(&handlers);
    assert_eq!(connection.at_once("number", 1_u32).panicked, 1);
    assert!(!subscription.is_active());
    assert!(connection.at_once("number", 2_u32).is_unhandled());
}
