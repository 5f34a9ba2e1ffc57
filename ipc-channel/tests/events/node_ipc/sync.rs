//! One question after the other, on the wire that has answers and on the one that has none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ipc_channel::{
    Event,
    events::{CallError, NodeIpc, Reply, SyncClient},
};
use tokio::sync::{Semaphore, mpsc};

use super::{client, world};
use crate::support::{PATIENCE, Place, client as native_client, server, soon};

/// N-24: of ten questions that are asked at once the next one is sent when the one before was answered, in their order; a
/// broadcast meanwhile releases none.
#[tokio::test]
async fn the_next_question_is_sent_when_the_one_before_was_answered() {
    let place = Place::new();
    let world = Arc::new(server(&place.unix("native")).await);
    let (heard, mut asked) = mpsc::unbounded_channel();
    let answers = Arc::new(Semaphore::new(0));
    let may = answers.clone();
    let responding = world.respond("ask", move |number: Event<u32>, _| {
        let (heard, may) = (heard.clone(), may.clone());
        async move {
            heard.send(*number).unwrap();
            may.acquire().await.unwrap().forget();
            Ok::<_, String>(*number * 2)
        }
    });
    responding.unwrap();
    let hello = native_client(&world).await;
    let mut ticks = hello.events::<u32>("tick", 4).unwrap();
    let sync = hello.sync();
    let ask =
        |sync: SyncClient, number: u32| async move { sync.request::<_, u32>("ask", &number, PATIENCE).await };
    let asking: Vec<_> = (0..10).map(|number| tokio::spawn(ask(sync.clone(), number))).collect();
    for number in 0..10 {
        assert_eq!(soon("a question", asked.recv()).await.unwrap(), number);
        world.broadcast("tick", &number).await.unwrap();
        soon("the broadcast", ticks.next()).await.unwrap();
        // The call that is sent now would be heard before this one's answer.
        let direct: Result<u32, _> = hello.call("unknown", &(), PATIENCE).await;
        assert!(matches!(direct, Err(CallError::UnknownRequest { .. })), "{direct:?}");
        assert!(asked.try_recv().is_err(), "the next question was sent before the answer");
        answers.add_permits(1);
    }
    for (number, asking) in (0..10).zip(asking) {
        assert_eq!(asking.await.unwrap(), Ok(number * 2));
    }
}

/// N-24: a question without an answer ends at its deadline with an error, and the next one has its turn.
#[tokio::test]
async fn a_deadline_releases_the_next_question_with_an_error() {
    let place = Place::new();
    let world = server(&place.unix("native")).await;
    let responding = world.respond("ask", async |number: Event<u32>, _: Reply| {
        if *number == 0 {
            std::future::pending::<()>().await;
        }
        Ok::<_, String>(*number)
    });
    responding.unwrap();
    let hello = native_client(&world).await;
    let sync = hello.sync();
    let short = sync.request::<_, u32>("ask", &0, Duration::from_millis(50));
    let (first, second) = tokio::join!(short, sync.request::<_, u32>("ask", &1, PATIENCE));
    assert_eq!((first, second), (Err(CallError::TimedOut), Ok(1)));
}

/// N-24: on the wire of node-ipc the next event of a name is the answer, other events release nothing, and a question
/// whose answer does not come ends at its deadline.
#[tokio::test]
async fn the_next_event_of_a_name_is_the_answer_where_the_wire_has_none() {
    let place = Place::new();
    let world = world(&place, NodeIpc::default()).await;
    let busy = Arc::new(AtomicUsize::new(0));
    let answering = busy.clone();
    world.on("ask", move |number: Event<u32>, client: Reply| {
        assert_eq!(answering.fetch_add(1, Ordering::SeqCst), 0, "the one before was not answered");
        let answering = answering.clone();
        async move {
            client.emit("unrelated", &0).await.unwrap();
            // What is no number is passed over.
            client.emit("answer", "none").await.unwrap();
            answering.fetch_sub(1, Ordering::SeqCst);
            client.emit("answer", &(*number * 2)).await.unwrap();
        }
    });
    let hello = client(&world, NodeIpc::default()).await;
    let sync = hello.sync();
    let ask = |sync: SyncClient, number: u32| async move {
        sync.request_event::<_, u32>("ask", &number, "answer", PATIENCE).await
    };
    let asking: Vec<_> = (0..10).map(|number| tokio::spawn(ask(sync.clone(), number))).collect();
    for (number, asking) in (0..10).zip(asking) {
        assert_eq!(soon("an answer", asking).await.unwrap(), Ok(number * 2));
    }
    let silent = sync.request_event::<_, u32>("nobody", &1, "answer", Duration::from_millis(1)).await;
    assert_eq!(silent, Err(CallError::TimedOut));
    assert_eq!(sync.request_event::<_, u32>("ask", &7, "answer", PATIENCE).await, Ok(14));
    let native = sync.request::<_, u32>("ask", &7, PATIENCE).await;
    assert!(matches!(native, Err(CallError::Emit(_))), "{native:?}");
    assert_eq!(hello.remove_all("answer"), 0, "no handler is left behind");
}
