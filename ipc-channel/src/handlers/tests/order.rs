//! Who gets which event, and in which order.

use super::*;

#[tokio::test]
async fn handlers_of_an_event_run_in_the_order_of_subscription() {
    let (handlers, log) = (Handlers::<Log>::new(), Log::default());
    for number in 0..5 {
        // Each waits once, so that a later one could overtake it.
        handlers.on("greeting", move |event: Event<String>, log: Log| async move {
            tokio::task::yield_now().await;
            note(&log, format!("{number} {}", *event));
        });
    }
    let outcome = send(&mut handlers.dispatcher(), "greeting", &"hello", &log).await;
    assert_eq!(outcome, Dispatched { ran: 5, ..Dispatched::default() });
    assert_eq!(taken(&log), ["0 hello", "1 hello", "2 hello", "3 hello", "4 hello"]);
}
