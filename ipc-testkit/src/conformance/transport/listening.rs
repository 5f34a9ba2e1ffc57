//! How connections come to be: dialling, listening, accepting, refusing.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use ipc_transport::{Access, Connection, Endpoint, Error, ReadHalf, WriteHalf};
use tokio::{io::AsyncReadExt, task::yield_now, time::timeout};

use super::{
    super::{TURN, assert_serves, write_out},
    Subject, assert_alive, halves, read_to_any_end,
};

/// Promise 1: futures that are made and dropped without being polled dial nobody and occupy no address.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn nothing_happens_before_the_first_poll(subject: Subject) {
    drop(subject.acceptor.listen(&subject.at, &subject.listen));
    let mut listener = subject.listener().await;
    let to = listener.local_endpoint().clone();
    drop(subject.dialler.connect(&to, &subject.connect));
    // Had the dropped future dialled, its connection would be the first to be accepted, and be dead.
    assert_alive(subject.ends(listener.as_mut()).await).await;
}

/// Promise 2: a `connect` dropped at any await point leaves the listener nothing, or a connection that is at its end.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn dropping_leaves_no_half_open_peer(subject: Subject) {
    let mut listener = subject.listener().await;
    let to = listener.local_endpoint().clone();
    for polls in 0..12 {
        drop(poll_times(subject.dialler.connect(&to, &subject.connect), polls).await);
    }
    let marking = async {
        let (reader, mut writer) = halves(subject.dial(&to).await);
        write_out(&mut writer, b"m").await.expect("the listener lives");
        (reader, writer)
    };
    let accepting = async {
        loop {
            let incoming = listener.accept().await.expect("the marker is yet to come");
            let Ok(connection) = incoming.establish().await else { continue };
            // The writing half stays open meanwhile: the end must come from the peer.
            let (mut reader, _writer) = halves(connection);
            if let Ok(byte) = reader.read_u8().await {
                assert_eq!(byte, b'm', "a dropped dialler has nothing to say");
                break;
            }
        }
    };
    let (_kept, ()) = tokio::join!(marking, accepting);
}

/// Promise 8: dialling where nobody listens is refused or not found, without waiting for the deadline.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn connecting_to_nobody_is_refused(subject: Subject) {
    let listener = subject.listener().await;
    let to = listener.local_endpoint().clone();
    listener.close().await.expect("closing works");
    assert_refused(&subject, &to).await;
    drop(subject.listener().await);
    assert_refused(&subject, &to).await;
}

async fn assert_refused(subject: &Subject, to: &Endpoint) {
    let mut options = subject.connect.clone();
    // Beyond the watchdog: waiting for the deadline shows as a hang.
    options.timeout = Duration::from_secs(3600);
    let error = subject.dialler.connect(to, &options).await.expect_err("nobody listens there");
    assert!(matches!(error, Error::ConnectionRefused { .. } | Error::NotFound { .. }), "{error:?}");
}

/// Promise 9: the endpoint that a listener tells can be dialled as it is, and read back from its text.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn local_endpoint_is_dialable(subject: Subject) {
    let mut listener = subject.listener().await;
    let local = listener.local_endpoint().clone();
    assert_eq!(local.scheme(), subject.acceptor.scheme());
    assert_eq!(local.to_string().parse::<Endpoint>().expect("it was printed from an endpoint"), local);
    let ends = subject.ends(listener.as_mut()).await;
    assert_eq!(ends.dialled.info().remote, local, "the dialler knows where it dialled");
    assert_alive(ends).await;
}

/// Promise 10: listening where somebody listens is refused, and the first listener goes on.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn a_second_listener_is_refused(subject: Subject) {
    let mut listener = subject.listener().await;
    let local = listener.local_endpoint().clone();
    for _ in 0..3 {
        let error = subject.acceptor.listen(&local, &subject.listen).await.expect_err("the address is taken");
        assert!(matches!(error, Error::AddrInUse { .. }), "{error:?}");
    }
    assert_serves(listener.as_mut(), subject.dialler.connect(&local, &subject.connect)).await;
}

/// Promise 11: after closing, and after dropping, the same address can be listened at again.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn a_closed_listener_frees_its_name(subject: Subject) {
    let again = |at: Endpoint| {
        let (acceptor, options) = (subject.acceptor.clone(), subject.listen.clone());
        async move { acceptor.listen(&at, &options).await.expect("the name is free again") }
    };
    let listener = subject.listener().await;
    let local = listener.local_endpoint().clone();
    listener.close().await.expect("closing works");
    let second = again(local.clone()).await;
    assert_eq!(*second.local_endpoint(), local);
    drop(second);
    let mut third = again(local.clone()).await;
    assert_serves(third.as_mut(), subject.dialler.connect(&local, &subject.connect)).await;
}

/// Promise 12: dropping an `accept` loses no connection, and each is answered on its own.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn accept_is_cancel_safe(subject: Subject) {
    const DIALLERS: u8 = 20;
    let mut rng = fastrand::Rng::with_seed(subject.seed);
    let mut listener = subject.listener().await;
    let to = listener.local_endpoint().clone();
    let dialling = async {
        let mut kept = Vec::new();
        for number in 0..DIALLERS {
            let (reader, mut writer) = halves(subject.dial(&to).await);
            write_out(&mut writer, &[number]).await.expect("the listener lives");
            kept.push((reader, writer));
        }
        for (number, (reader, _)) in (0..DIALLERS).zip(&mut kept) {
            assert_answered(reader, number).await;
        }
    };
    let accepting = async {
        let (mut seen, mut kept) = (BTreeSet::new(), Vec::new());
        while seen.len() < usize::from(DIALLERS) {
            let incoming = match poll_times(listener.accept(), rng.usize(..4)).await {
                Some(incoming) => incoming,
                // Dropped by the clock, wherever it waits by then.
                None => match timeout(TURN, listener.accept()).await {
                    Ok(incoming) => incoming,
                    Err(_) => continue,
                },
            };
            let connection =
                incoming.expect("the listener is well").establish().await.expect("the dialler lives");
            let (ends, number) = answer(connection).await;
            kept.push(ends);
            assert!(seen.insert(number), "connection {number} was accepted twice");
        }
        kept
    };
    let ((), _kept) = tokio::join!(dialling, accepting);
}

/// Promise 13: an incoming connection that is not yet established holds up no other, and gets none of its bytes.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn establish_runs_off_the_listener(subject: Subject) {
    let mut listener = subject.listener().await;
    let to = listener.local_endpoint().clone();
    let dialling = async {
        let (one, other) = tokio::join!(subject.dial(&to), subject.dial(&to));
        [(b'1', one), (b'2', other)]
    };
    let accepting = async {
        let held = listener.accept().await.expect("two diallers are coming");
        let second = listener.accept().await.expect("two diallers are coming");
        let second = second.establish().await.expect("the first one holds nobody up");
        // On a task of its own, which would not compile if it borrowed from the listener.
        let first = tokio::spawn(held.establish()).await.expect("establishing does not panic");
        [second, first.expect("it waited, that is all")]
    };
    let (dialled, accepted) = tokio::join!(dialling, accepting);
    let mut waiting = Vec::new();
    for (number, connection) in dialled {
        let (reader, mut writer) = halves(connection);
        write_out(&mut writer, &[number]).await.expect("it is established");
        waiting.push((number, reader, writer));
    }
    let (mut numbers, mut kept) = (BTreeSet::new(), Vec::new());
    for connection in accepted {
        let (ends, number) = answer(connection).await;
        kept.push(ends);
        numbers.insert(number);
    }
    assert_eq!(numbers, BTreeSet::from(*b"12"));
    for (number, reader, _writer) in &mut waiting {
        assert_answered(reader, *number).await;
    }
}

/// Reads the number of the dialler and says it back.
async fn answer(connection: Connection) -> ((ReadHalf, WriteHalf), u8) {
    let (mut reader, mut writer) = halves(connection);
    let number = reader.read_u8().await.expect("each dialler says its number");
    write_out(&mut writer, &[number]).await.expect("the dialler lives");
    ((reader, writer), number)
}

async fn assert_answered(reader: &mut ReadHalf, number: u8) {
    let answer = reader.read_u8().await.expect("each dialler is accepted and answered");
    assert_eq!(answer, number, "a dialler got the answer to another one");
}

/// Promise 14: refusing or dropping an incoming connection closes it for the dialler.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn refused_incoming_closes_the_peer(subject: Subject) {
    let mut listener = subject.listener().await;
    let to = listener.local_endpoint().clone();
    for refusing in [true, false] {
        let accepting = async {
            let incoming = listener.accept().await.expect("a dialler is coming");
            if refusing {
                incoming.refuse();
            } else {
                drop(incoming);
            }
        };
        tokio::join!(assert_turned_away(&subject, &to), accepting);
    }
    assert_alive(subject.ends(listener.as_mut()).await).await;
}

/// Promise 15: a rule that admits nobody turns everybody away, on the listener's side and on the dialler's.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn who_is_not_admitted_is_refused(subject: Subject) {
    let nobody = || Access::custom(|_| false);
    let mut listener = subject.listener().await;
    let to = listener.local_endpoint().clone();
    let choosy = subject.connect.clone().with_access(nobody());
    let serving = async {
        loop {
            // Some transports turn away before they dial, others after a handshake; what the listener makes of it is free.
            let _ = listener.accept().await.expect("the listener is well").establish().await;
        }
    };
    let outcome = tokio::select! {
        outcome = subject.dialler.connect(&to, &choosy) => outcome,
        () = serving => unreachable!("it serves for ever"),
    };
    let error = outcome.expect_err("the dialler admits nobody");
    assert!(matches!(error, Error::AccessDenied { .. }), "the dialler admits nobody: {error:?}");
    listener.close().await.expect("closing works");

    let options = subject.listen.clone().with_access(nobody());
    let mut listener = subject.acceptor.listen(&subject.at, &options).await.expect("the name is free again");
    let to = listener.local_endpoint().clone();
    let accepting = async {
        let incoming = listener.accept().await.expect("a dialler is coming");
        let error = incoming.establish().await.expect_err("the listener admits nobody");
        assert!(matches!(error, Error::AccessDenied { .. }), "the listener admits nobody: {error:?}");
    };
    tokio::join!(assert_turned_away(&subject, &to), accepting);
}

/// A transport with a handshake says so while dialling, another one by the end of the connection.
async fn assert_turned_away(subject: &Subject, to: &Endpoint) {
    let Ok(connection) = subject.dialler.connect(to, &subject.connect).await else { return };
    let (mut reader, _writer) = halves(connection);
    assert_eq!(read_to_any_end(&mut reader).await, b"", "nobody is there to say anything");
}

/// Polls a future at most so many times, with a turn for everybody else in between, and drops it.
async fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        if let Poll::Ready(output) = PollOnce(future.as_mut()).await {
            return Some(output);
        }
        yield_now().await;
    }
    None
}

struct PollOnce<'a, F>(Pin<&'a mut F>);

impl<F: Future> Future for PollOnce<'_, F> {
    type Output = Poll<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(self.0.as_mut().poll(cx))
    }
}
