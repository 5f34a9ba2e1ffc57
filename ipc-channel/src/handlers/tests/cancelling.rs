//! Removing handlers, and dropping a dispatch in the middle.

use super::*;

#[test]
fn dropping_a_subscription_keeps_the_handler() {
    let handlers = Handlers::new();
    drop(handlers.on("number", noting("kept")));
    let mut connection = Connection::new(&handlers);
    assert_eq!(connection.at_once("number", 1_u32), ran(1));
}

/// N-08: unsubscribing one leaves the others.
#[test]
fn a_cancelled_handler_runs_no_more_and_the_others_keep_their_order() {
    let handlers = Handlers::new();
    handlers.on("number", noting("a"));
    let b = handlers.on("number", noting("b"));
    handlers.on("number", noting("c"));
    let mut connection = Connection::new(&handlers);
    connection.at_once("number", 1_u32);
    assert!(b.is_active());
    b.cancel();
    b.cancel();
    b.clone().cancel();
    assert!(!b.is_active());
    handlers.on("number", noting("d"));
    assert_eq!(connection.at_once("number", 2_u32), ran(3));
    assert_eq!(connection.log.take(), ["a 1", "b 1", "c 1", "a 2", "c 2", "d 2"]);
}

#[test]
fn a_wildcard_is_cancelled_like_others() {
    let handlers = Handlers::new();
    let subscription = handlers.on_any(|_, log: Log| async move { log.note("any") });
    assert_eq!(subscription.name(), None);
    let mut connection = Connection::new(&handlers);
    assert_eq!(connection.at_once("number", 1_u32), ran(1));
    subscription.cancel();
    assert!(connection.at_once("number", 2_u32).is_unhandled());
}

#[tokio::test]
async fn a_handler_cancelled_during_a_dispatch_does_not_begin_and_one_that_has_begun_ends() {
    let handlers = Handlers::new();
    let later = Arc::new(Mutex::new(Vec::<Subscription>::new()));
    let cancelled = Arc::clone(&later);
    handlers.on("number", move |_: Event<u32>, log: Log| {
        for subscription in cancelled.lock().unwrap().iter() {
            subscription.cancel();
        }
        async move {
            log.note("begun");
            yield_now().await;
            log.note("ended");
        }
    });
    let own = handlers.on("number", noting("later"));
    let any = handlers.on_any(|_, log: Log| async move { log.note("any") });
    let mut connection = Connection::new(&handlers);
    assert_eq!(connection.event("number", 1_u32).await, ran(3));
    later.lock().unwrap().extend([own, any]);
    connection.log.take();
    assert_eq!(connection.event("number", 2_u32).await, ran(1));
    assert_eq!(connection.log.take(), ["begun", "ended"]);
}

#[test]
fn a_handler_cancelled_during_a_dispatch_has_nothing_decoded_for_it() {
    let handlers = Handlers::new();
    let later = Arc::new(Mutex::new(None::<Subscription>));
    let cancelled = Arc::clone(&later);
    handlers.on("number", move |_: Event<u32>, _: Log| {
        cancelled.lock().unwrap().take().unwrap().cancel();
        async {}
    });
    let text = handlers.on("number", |_: Event<String>, _: Log| async {});
    *later.lock().unwrap() = Some(text);
    assert_eq!(Connection::new(&handlers).at_once("number", 1_u32), ran(1));
    assert_eq!(handlers.counters().undecodable, 0);
}

#[test]
fn a_handler_may_cancel_itself() {
    let handlers = Handlers::new();
    let itself = Arc::new(Mutex::new(None::<Subscription>));
    let own = Arc::clone(&itself);
    let subscription = handlers.on("number", move |_: Event<u32>, log: Log| {
        let own = Arc::clone(&own);
        async move {
            own.lock().unwrap().take().unwrap().cancel();
            log.note("went on");
        }
    });
    *itself.lock().unwrap() = Some(subscription);
    let mut connection = Connection::new(&handlers);
    assert_eq!(connection.at_once("number", 1_u32), ran(1));
    assert_eq!(connection.log.take(), ["went on"]);
    assert!(connection.at_once("number", 2_u32).is_unhandled());
}

/// N-08: unsubscribing all of a name.
#[test]
fn removing_all_of_a_name_leaves_wildcards_requests_and_other_names() {
    let handlers = Handlers::new();
    let subscriptions = [handlers.on("number", noting("a")), handlers.once("number", noting("b"))];
    handlers.on("other", noting("other"));
    handlers.on_any(|_, log: Log| async move { log.note("any") });
    handlers.respond("number", |_: Event<()>, _| async { Ok::<_, String>(()) }).unwrap();
    let mut connection = Connection::new(&handlers);
    assert_eq!(handlers.remove_all("number"), 2);
    assert_eq!(handlers.remove_all("number"), 0);
    assert!(subscriptions.iter().all(|subscription| !subscription.is_active()));
    assert_eq!(connection.at_once("number", 1_u32), ran(1));
    assert_eq!(connection.at_once("other", 2_u32), ran(2));
    assert_eq!(connection.log.take(), ["any", "other 2", "any"]);
    assert!(handlers.responder("number").is_some());
}

#[test]
fn a_subscription_may_outlive_the_handlers() {
    fn shared<T: Send + Sync + 'static>(value: T) -> T {
        value
    }
    let handlers = Handlers::<Log>::new();
    let subscription = shared(handlers.on("number", noting("gone")));
    assert_eq!(subscription.name(), Some("number"));
    drop(handlers);
    assert!(!subscription.is_active());
    subscription.cancel();
}

#[test]
fn what_a_removed_handler_holds_is_dropped_with_the_next_event_of_each_connection() {
    let handlers = Handlers::new();
    let held = Arc::new(());
    let count = |held: &Arc<()>| Arc::strong_count(held) - 1;
    let of_handler = Arc::clone(&held);
    let subscription = handlers.on("number", move |_: Event<u32>, _: Log| {
        let _ = &of_handler;
        async {}
    });
    let mut connection = Connection::new(&handlers);
    connection.at_once("number", 1_u32);
    subscription.cancel();
    assert_eq!(count(&held), 1, "the connection holds it");
    connection.at_once("another", 2_u32);
    assert_eq!(count(&held), 0);
    assert_eq!(connection.dispatcher.names_met(), 0);
}

#[test]
fn what_a_removed_handler_holds_may_call_the_handlers_as_it_is_dropped() {
    struct Calls(Weak<Handlers<Log>>, mpsc::Sender<usize>);
    impl Drop for Calls {
        fn drop(&mut self) {
            let removed = self.0.upgrade().map_or(0, |handlers| handlers.remove_all("other"));
            self.1.try_send(removed).unwrap();
        }
    }
    let handlers = Handlers::<Log>::new();
    let (told, mut dropped) = mpsc::channel(1);
    let calls = Calls(Arc::downgrade(&handlers), told);
    let subscription = handlers.on("number", move |_: Event<u32>, _| {
        let _ = &calls;
        async {}
    });
    handlers.on("other", noting("other"));
    subscription.cancel();
    assert_eq!(dropped.try_recv(), Ok(1));
}

#[tokio::test]
async fn dropping_a_dispatch_drops_the_running_handler_and_the_dispatcher_goes_on() {
    struct Held(Log);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.note("dropped");
        }
    }
    let handlers = Handlers::new();
    handlers.on("number", |event: Event<u32>, log: Log| async move {
        log.note(format!("begun {}", *event));
        let held = Held(log);
        if *event == 1 {
            pending::<()>().await;
        }
        drop(held);
    });
    handlers.on("number", noting("next"));
    let mut connection = Connection::new(&handlers);
    let log = connection.log.clone();
    let mut dispatch = Box::pin(connection.event("number", 1_u32));
    assert_eq!(dispatch.as_mut().now_or_never(), None);
    assert_eq!(log.take(), ["begun 1"]);
    drop(dispatch);
    assert_eq!(log.take(), ["dropped"], "with the dispatch, and the next handler did not run");
    assert_eq!(connection.event("number", 2_u32).await, ran(2));
    assert_eq!(log.take(), ["begun 2", "dropped", "next 2"]);
}

#[test]
fn a_dispatch_that_was_forgotten_in_the_middle_leaves_a_dispatcher_that_goes_on() {
    let handlers = Handlers::new();
    handlers.on("number", |event: Event<u32>, log: Log| async move {
        if *event == 1 {
            pending::<()>().await;
        }
        log.note("ended");
    });
    let mut connection = Connection::new(&handlers);
    let mut dispatch = Box::pin(connection.event("number", 1_u32));
    assert_eq!(dispatch.as_mut().now_or_never(), None);
    std::mem::forget(dispatch);
    assert_eq!(connection.at_once("number", 2_u32), ran(1));
    assert_eq!(connection.log.take(), ["ended"]);
}

#[test]
fn handlers_come_and_go_on_four_threads_while_others_deliver() {
    let handlers = Handlers::new();
    handlers.on("number", noting("always"));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let subscription = handlers.on("number", noting("sometimes"));
                    let any = handlers.on_any(|_, _| async {});
                    subscription.cancel();
                    any.cancel();
                }
            });
            scope.spawn(|| {
                let mut connection = Connection::new(&handlers);
                for number in 0..500_u32 {
                    let outcome = connection.at_once("number", number);
                    assert!((1..=5).contains(&outcome.ran), "{outcome:?}");
                    assert_eq!(connection.log.take()[0], format!("always {number}"));
                }
            });
        }
    });
    assert_eq!(Connection::new(&handlers).at_once("number", 1_u32), ran(1));
}
