//! Events as streams.

use super::*;

#[tokio::test]
async fn a_stream_gives_the_events_of_its_name_in_order_with_their_context() {
    let handlers = Handlers::new();
    let mut stream = handlers.stream::<u32>("number", 10).unwrap();
    let mut connection = Connection::new(&handlers);
    for number in 0..5_u32 {
        assert_eq!(connection.event("number", number).await, ran(1));
        assert!(connection.event("other", number).await.is_unhandled());
    }
    let (event, log) = soon(stream.next()).await.unwrap();
    assert_eq!((*event, event.name()), (0, "number"));
    assert!(Arc::ptr_eq(&log.0, &connection.log.0), "the context of its connection");
    // As a `Stream`.
    let rest = StreamExt::take(&mut stream, 4).map(|(event, _)| event.into_value());
    let rest: Vec<_> = soon(rest.collect()).await;
    assert_eq!(rest, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_stream_of_all_events_gives_them_undecoded() {
    let handlers = Handlers::new();
    let mut stream = handlers.stream_any(10).unwrap();
    assert_eq!(stream.subscription().name(), None);
    let mut connection = Connection::new(&handlers);
    connection.event("number", 1_u32).await;
    connection.event("text", "hello").await;
    let (number, _) = soon(stream.next()).await.unwrap();
    let (text, _) = soon(stream.next()).await.unwrap();
    assert_eq!((number.name(), number.decode()), ("number", Ok(1_u32)));
    assert_eq!((text.name(), text.decode()), ("text", Ok("hello".to_owned())));
}

#[tokio::test]
async fn a_full_stream_holds_up_the_connection_that_has_an_event_for_it_and_loses_none() {
    let handlers = Handlers::new();
    let mut stream = handlers.stream::<u32>("number", 2).unwrap();
    handlers.on("number", noting("next"));
    let (mut one, mut other) = (Connection::new(&handlers), Connection::new(&handlers));
    assert_eq!(one.at_once("number", 1_u32), ran(2));
    assert_eq!(one.at_once("number", 2_u32), ran(2));
    let log = one.log.clone();
    let mut waiting = Box::pin(one.event("number", 3_u32));
    assert_eq!(waiting.as_mut().now_or_never(), None);
    assert_eq!(log.take(), ["next 1", "next 2"], "the handlers behind it wait as well");
    assert!(other.at_once("unheard of", 4_u32).is_unhandled(), "another connection does not");
    assert_eq!(*soon(stream.next()).await.unwrap().0, 1);
    assert_eq!(soon(waiting).await, ran(2));
    assert_eq!(log.take(), ["next 3"]);
    assert_eq!(*soon(stream.next()).await.unwrap().0, 2);
    assert_eq!(*soon(stream.next()).await.unwrap().0, 3);
}

#[tokio::test]
async fn dropping_a_stream_removes_it_and_lets_go_of_who_waits_for_it() {
    let handlers = Handlers::new();
    let stream = handlers.stream::<u32>("number", 1).unwrap();
    let subscription = stream.subscription().clone();
    let mut connection = Connection::new(&handlers);
    connection.at_once("number", 1_u32);
    let mut waiting = Box::pin(connection.event("number", 2_u32));
    assert_eq!(waiting.as_mut().now_or_never(), None);
    drop(stream);
    assert_eq!(soon(waiting).await, ran(1));
    assert!(!subscription.is_active());
    assert!(connection.at_once("number", 3_u32).is_unhandled());
}

#[tokio::test]
async fn a_removed_stream_ends_after_what_it_holds() {
    let handlers = Handlers::new();
    let mut connection = Connection::new(&handlers);
    let by_name = |handlers: &Handlers<Log>, _: &Subscription| assert_eq!(handlers.remove_all("number"), 1);
    let by_itself = |_: &Handlers<Log>, subscription: &Subscription| subscription.cancel();
    for remove in [by_name as fn(&Handlers<Log>, &Subscription), by_itself] {
        let mut stream = handlers.stream::<u32>("number", 3).unwrap();
        connection.at_once("number", 1_u32);
        connection.at_once("number", 2_u32);
        remove(&handlers, stream.subscription());
        assert_eq!(*soon(stream.next()).await.unwrap().0, 1);
        assert_eq!(*soon(stream.next()).await.unwrap().0, 2);
        assert!(soon(stream.next()).await.is_none());
        assert!(soon(stream.next()).await.is_none());
    }
}

#[tokio::test]
async fn removing_a_stream_wakes_who_waits_for_its_next_event() {
    let handlers = Handlers::<Log>::new();
    let mut stream = handlers.stream::<u32>("number", 3).unwrap();
    let waiting = tokio::spawn(async move { soon(stream.next()).await.is_none() });
    yield_now().await;
    assert_eq!(handlers.remove_all("number"), 1);
    assert!(soon(waiting).await.unwrap());
}

#[tokio::test]
async fn a_stream_ends_when_the_handlers_and_their_connections_are_gone() {
    let handlers = Handlers::new();
    let mut stream = handlers.stream::<u32>("number", 3).unwrap();
    let mut connection = Connection::new(&handlers);
    connection.at_once("number", 1_u32);
    drop((handlers, connection));
    assert_eq!(*soon(stream.next()).await.unwrap().0, 1);
    assert!(soon(stream.next()).await.is_none());
}

#[test]
fn a_capacity_that_no_stream_can_have_is_an_error_and_subscribes_nothing() {
    let handlers = Handlers::<Log>::new();
    assert!(matches!(handlers.stream::<u32>("number", 0), Err(CapacityError::Zero)));
    assert!(matches!(handlers.stream_any(usize::MAX), Err(CapacityError::TooLarge { .. })));
    assert!(handlers.names().events.is_empty());
    assert!(Connection::new(&handlers).at_once("number", 1_u32).is_unhandled());
}

#[test]
fn debug_of_a_stream_shows_no_values() {
    let handlers = Handlers::new();
    let stream = handlers.stream::<String>("text", 3).unwrap();
    Connection::new(&handlers).at_once("text", "secret");
    let text = format!("{stream:?}");
    assert!(text.contains("text") && text.contains("len: 1") && !text.contains("secret"), "{text}");
}
