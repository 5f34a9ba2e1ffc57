//! Requests and their answers.

use std::{collections::BTreeMap, fmt};

use serde::{Serializer, ser::Error as _};

use super::*;

const MAX: usize = 1024;

async fn ask<T: Serialize>(
    handlers: &Arc<Handlers<Log>>,
    name: &str,
    codec: PayloadCodec,
    value: &T,
) -> Result<Vec<u8>, RespondError> {
    let responder = handlers.responder(name).unwrap();
    responder.call(codec, &encoded(codec, value), Meta::default(), Log::default(), MAX).await
}

/// I-16: the handler's value comes back, also that of a future.
#[tokio::test]
async fn the_value_that_a_handler_returns_is_the_answer() {
    let handlers = Handlers::<Log>::new();
    handlers
        .respond("sum", |event: Event<Vec<u32>>, _| async move {
            yield_now().await;
            Ok::<u32, String>(event.iter().sum())
        })
        .unwrap();
    for codec in [PayloadCodec::Bincode, PayloadCodec::Json] {
        let answer = ask(&handlers, "sum", codec, &vec![1, 2, 3]).await.unwrap();
        assert_eq!(codec.decode::<u32>(&answer), Ok(6));
    }
    assert!(handlers.responder("difference").is_none());
    assert_eq!(handlers.counters(), HandlerCounters { requests: 2, ..HandlerCounters::default() });
}

/// I-16: a handler without a value answers null.
#[tokio::test]
async fn a_handler_without_a_value_answers_null() {
    let handlers = Handlers::<Log>::new();
    handlers.respond("note", |_: Event<()>, _| async { Ok::<(), String>(()) }).unwrap();
    assert_eq!(ask(&handlers, "note", PayloadCodec::Json, &()).await.unwrap(), b"null");
    assert_eq!(ask(&handlers, "note", PayloadCodec::Bincode, &()).await.unwrap(), b"");
}

#[tokio::test]
async fn a_handler_of_requests_gets_the_name_the_sender_and_the_context() {
    let handlers = Handlers::<Log>::new();
    handlers
        .respond("who", |event: Event<()>, log: Log| async move {
            log.note(format!("{} {:?} {}", event.name(), event.from(), event.redelivered()));
            Ok::<_, String>(())
        })
        .unwrap();
    let (log, meta) = (Log::default(), Meta { from: Some(Arc::from("sam")), redelivered: false });
    let responder = handlers.responder("who").unwrap();
    responder.call(BINARY, b"", meta, log.clone(), MAX).await.unwrap();
    assert_eq!(log.take(), [r#"who Some("sam") false"#]);
}

/// I-17: an error, a panic, and a value of another type are told apart; X-34: and all else goes on.
#[tokio::test]
async fn each_way_to_fail_is_an_error_of_its_own() {
    let handlers = Handlers::<Log>::new();
    handlers
        .respond("fail", |event: Event<u32>, _| async move {
            match *event {
                0 => Err("no such thing"),
                1 => panic!("before it waits"),
                2 => {
                    yield_now().await;
                    panic!("after it waited")
                }
                _ => Ok("x".repeat(MAX)),
            }
        })
        .unwrap();
    let called = |_: Event<u32>, _| -> std::future::Ready<Result<u32, String>> { panic!("as it is called") };
    handlers.respond("call", called).unwrap();
    let failed = RespondError::Failed { message: "no such thing".to_owned() };
    assert_eq!(ask(&handlers, "fail", BINARY, &0).await, Err(failed));
    assert_eq!(ask(&handlers, "fail", BINARY, &1).await, Err(RespondError::Panicked));
    assert_eq!(ask(&handlers, "fail", BINARY, &2).await, Err(RespondError::Panicked));
    assert_eq!(ask(&handlers, "call", BINARY, &0).await, Err(RespondError::Panicked));
    let large = ask(&handlers, "fail", BINARY, &3).await;
    assert!(matches!(large, Err(RespondError::TooLarge { len, max: MAX }) if len > MAX), "{large:?}");
    let other = ask(&handlers, "fail", BINARY, &"text").await;
    assert!(matches!(other, Err(RespondError::Undecodable(_))), "{other:?}");
    let expected =
        HandlerCounters { failed: 2, panicked: 3, requests: 6, undecodable: 1, ..HandlerCounters::default() };
    assert_eq!(handlers.counters(), expected);
}

#[tokio::test]
async fn an_answer_that_cannot_be_encoded_is_an_error_and_one_that_panics_meanwhile_too() {
    struct Odd(bool);
    impl Serialize for Odd {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            if self.0 { panic!("while encoding") } else { Err(S::Error::custom("not me")) }
        }
    }
    let handlers = Handlers::<Log>::new();
    handlers.respond("odd", |event: Event<bool>, _| async move { Ok::<_, String>(Odd(*event)) }).unwrap();
    let keys = |_: Event<()>, _| async { Ok::<_, String>(BTreeMap::from([(vec![1], 1)])) };
    handlers.respond("keys", keys).unwrap();
    for (name, codec) in [("odd", BINARY), ("odd", PayloadCodec::Json)] {
        let answer = ask(&handlers, name, codec, &false).await;
        assert!(matches!(answer, Err(RespondError::Unencodable(_))), "{answer:?}");
    }
    let answer = ask(&handlers, "keys", PayloadCodec::Json, &()).await;
    assert!(matches!(answer, Err(RespondError::Unencodable(_))), "{answer:?}");
    assert_eq!(ask(&handlers, "odd", BINARY, &true).await, Err(RespondError::Panicked));
    assert_eq!((handlers.counters().failed, handlers.counters().panicked), (3, 1));
}

#[tokio::test]
async fn the_text_of_an_error_is_cut_where_a_character_ends() {
    /// Written in many pieces, and never at its end.
    struct Endless;
    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            (0..10_000).try_for_each(|_| f.write_str("äöü-"))
        }
    }
    let handlers = Handlers::<Log>::new();
    handlers.respond("fail", |_: Event<()>, _| async { Err::<(), _>(Endless) }).unwrap();
    let Err(RespondError::Failed { message }) = ask(&handlers, "fail", BINARY, &()).await else {
        panic!("it fails");
    };
    assert_eq!(message.len(), 511, "512 would cut a character");
    assert!("äöü-".repeat(100).starts_with(&message));
}

/// I-03: a duplicate handler is an error; the name is free again when the first was removed.
#[tokio::test]
async fn a_name_has_one_handler_of_requests_at_a_time() {
    let handlers = Handlers::<Log>::new();
    let answer = |number: u32| move |_: Event<()>, _: Log| async move { Ok::<_, String>(number) };
    let first = handlers.respond("number", answer(1)).unwrap();
    let error = handlers.respond("number", answer(2)).unwrap_err();
    assert_eq!(error, DuplicateResponder { name: "number".to_owned() });
    let ask = || ask(&handlers, "number", PayloadCodec::Json, &());
    assert_eq!(ask().await.unwrap(), b"1");
    first.cancel();
    assert!(handlers.responder("number").is_none());
    let third = handlers.respond("number", answer(3)).unwrap();
    first.cancel();
    assert!(!first.is_active() && third.is_active(), "the name is the other's now");
    assert_eq!(ask().await.unwrap(), b"3");
}

#[tokio::test]
async fn a_call_that_has_begun_ends_although_its_handler_was_removed() {
    let handlers = Handlers::<Log>::new();
    let (open, gate) = oneshot::channel::<u32>();
    let gate = Mutex::new(Some(gate));
    let subscription = handlers
        .respond("slow", move |_: Event<()>, _| {
            let gate = gate.lock().unwrap().take();
            async move { gate.ok_or("one call")?.await.map_err(|_| "gone") }
        })
        .unwrap();
    let responder = handlers.responder("slow").unwrap();
    // Spawned: the answer is of no lifetime, and of any thread.
    let call = responder.call(PayloadCodec::Json, b"null", Meta::default(), Log::default(), MAX);
    let answering = tokio::spawn(call);
    yield_now().await;
    subscription.cancel();
    drop((responder, handlers));
    open.send(7).unwrap();
    assert_eq!(soon(answering).await.unwrap().unwrap(), b"7");
}

#[tokio::test]
async fn dropping_a_call_drops_its_handler() {
    let handlers = Handlers::<Log>::new();
    let held = Arc::new(());
    let of_handler = Arc::clone(&held);
    handlers
        .respond("slow", move |_: Event<()>, _| {
            let held = Arc::clone(&of_handler);
            async move {
                pending::<()>().await;
                drop(held);
                Ok::<_, String>(())
            }
        })
        .unwrap();
    let responder = handlers.responder("slow").unwrap();
    let mut call = responder.call(BINARY, b"", Meta::default(), Log::default(), MAX);
    assert!(call.as_mut().now_or_never().is_none());
    assert_eq!(Arc::strong_count(&held), 3);
    drop(call);
    assert_eq!(Arc::strong_count(&held), 2);
}
