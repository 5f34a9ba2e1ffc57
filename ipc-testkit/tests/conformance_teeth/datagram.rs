//! Datagram transports that break one promise each.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::{FutureExt, Sink, Stream};
use ipc_testkit::{
    MemTransport,
    conformance::datagram::{Subject, broken_promises},
};
use ipc_transport::{
    Datagram, DatagramAddress, DatagramReader, DatagramSocket, DatagramTransport, DatagramWriter, Endpoint,
    Error,
};

use super::{Bite, Kept, assert_all_covered, mem};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    BindsEarly,
    DropKeepsTheAddress,
    FailsForOnePeer,
    ForgetsWhatComesAfterAWait,
    GluesTwo,
    LosesTheLargest,
    NoLimit,
    SecondSocketElsewhere,
    Truncates,
    WrongEndpoint,
    WrongSender,
}

const BITES: &[Bite<How>] = &[
    Bite {
        mutant: How::BindsEarly,
        about: "nothing_is_bound_before_the_first_poll",
        says: "nobody has bound it",
        also: &[],
    },
    Bite { mutant: How::GluesTwo, about: WHOLE, says: "bytes that nobody sent", also: &[] },
    Bite { mutant: How::Truncates, about: WHOLE, says: "arrived as it was sent", also: &[LARGEST] },
    Bite {
        mutant: How::WrongSender,
        about: "the_sender_can_be_answered",
        says: "where its sender receives",
        also: &[],
    },
    Bite {
        mutant: How::LosesTheLargest,
        about: LARGEST,
        says: "none of 100 datagrams of 1200 bytes",
        also: &[],
    },
    Bite {
        mutant: How::NoLimit,
        about: "what_is_too_large_is_refused",
        says: "is no limit",
        also: &[WHOLE, LARGEST],
    },
    Bite {
        mutant: How::FailsForOnePeer,
        about: "sending_to_nobody_harms_nobody",
        says: "nobody is told",
        also: &[],
    },
    Bite {
        mutant: How::WrongEndpoint,
        about: "local_endpoint_is_reachable",
        says: "two sockets in one place",
        also: SENDING,
    },
    Bite {
        mutant: How::SecondSocketElsewhere,
        about: "a_second_bind_is_refused",
        says: "somebody has it",
        also: &[],
    },
    Bite {
        mutant: How::DropKeepsTheAddress,
        about: "a_dropped_socket_frees_its_address",
        says: "it is free again",
        also: &["nothing_is_bound_before_the_first_poll"],
    },
    Bite {
        mutant: How::ForgetsWhatComesAfterAWait,
        about: "receiving_is_cancel_safe",
        says: "none of 100 datagrams",
        also: &[],
    },
];

/// The checks in which somebody sends to where a socket says that it is.
const SENDING: &[&str] = &[
    WHOLE,
    LARGEST,
    "the_sender_can_be_answered",
    "what_is_too_large_is_refused",
    "sending_to_nobody_harms_nobody",
    "a_second_bind_is_refused",
    "receiving_is_cancel_safe",
];
const WHOLE: &str = "datagrams_arrive_whole";
const LARGEST: &str = "the_largest_datagram_passes";

#[tokio::test(start_paused = true)]
async fn broken_datagrams_fail_at_the_promises_that_they_break() {
    let mut complaints = Vec::new();
    for bite in BITES {
        let subject = || {
            let mutant = Mutant { how: bite.mutant, world: MemTransport::new(), kept: Kept::default() };
            Subject::new(mutant, mem(MemTransport::FRESH_NAME))
        };
        complaints.extend(bite.complaint(&broken_promises(subject).await));
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_promise_of_datagrams_is_broken_by_some_mutant() {
    assert_all_covered::<Subject, _>(BITES);
}

/// The datagrams in memory, but for one thing.
#[derive(Debug)]
struct Mutant {
    how: How,
    world: MemTransport,
    kept: Kept,
}

#[async_trait]
impl DatagramTransport for Mutant {
    fn scheme(&self) -> &str {
        MemTransport::SCHEME
    }

    // Written out, since the body of an async function does nothing before the first poll.
    fn bind<'transport, 'at, 'all>(
        &'transport self,
        at: &'at Endpoint,
    ) -> Pin<Box<dyn Future<Output = Result<DatagramSocket, Error>> + Send + 'all>>
    where
        'transport: 'all,
        'at: 'all,
    {
        let early = match self.how {
            How::BindsEarly => self.world.bind(at).now_or_never().map(|socket| self.kept.lend(socket)),
            _ => None,
        };
        Box::pin(async move {
            let socket = match (self.how, early) {
                (_, Some(lent)) => lent.lock().unwrap().take().unwrap(),
                (How::SecondSocketElsewhere, None) => match self.world.bind(at).await {
                    Err(_) => self.world.bind(&mem(MemTransport::FRESH_NAME)).await,
                    outcome => outcome,
                },
                (_, None) => self.world.bind(at).await,
            };
            Ok(self.damage(socket?))
        })
    }
}

impl Mutant {
    fn damage(&self, socket: DatagramSocket) -> DatagramSocket {
        let how = self.how;
        let local = match how {
            How::WrongEndpoint => mem("everybody"),
            _ => socket.local_endpoint().clone(),
        };
        let max_payload = if how == How::NoLimit { usize::MAX } else { socket.max_payload() };
        let (inner, writer) = socket.into_parts();
        let reader = Receiver { how, inner: Some(inner), kept: self.kept.clone(), forgets: 0 };
        let writer = Sender { how, inner: writer, world: self.world.clone() };
        DatagramSocket::new(reader, writer, local, max_payload)
    }
}

struct Receiver {
    how: How,
    inner: Option<DatagramReader>,
    kept: Kept,
    /// How many of the next datagrams go nowhere.
    forgets: usize,
}

impl Receiver {
    fn inner(&mut self) -> Pin<&mut DatagramReader> {
        Pin::new(self.inner.as_mut().unwrap())
    }
}

impl Stream for Receiver {
    type Item = Result<Datagram, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.how == How::ForgetsWhatComesAfterAWait {
            while self.forgets > 0 {
                ready!(self.inner().poll_next(cx));
                self.forgets -= 1;
            }
            let polled = self.inner().poll_next(cx);
            self.forgets += usize::from(polled.is_pending());
            return polled;
        }
        let Some(mut datagram) = ready!(self.inner().poll_next(cx)?) else { return Poll::Ready(None) };
        match self.how {
            How::GluesTwo => {
                if let Poll::Ready(Some(Ok(next))) = self.inner().poll_next(cx) {
                    let mut glued = BytesMut::from(&datagram.payload[..]);
                    glued.extend_from_slice(&next.payload);
                    datagram.payload = glued.freeze();
                }
            }
            How::Truncates => datagram.payload.truncate(64),
            How::WrongSender => datagram.peer = DatagramAddress::Name("somebody".into()),
            _ => {}
        }
        Poll::Ready(Some(Ok(datagram)))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take().filter(|_| self.how == How::DropKeepsTheAddress) {
            self.kept.keep(inner);
        }
    }
}

struct Sender {
    how: How,
    inner: DatagramWriter,
    world: MemTransport,
}

impl Sink<Datagram> for Sender {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, datagram: Datagram) -> Result<(), Error> {
        match self.how {
            How::LosesTheLargest if datagram.payload.len() == self.inner.max_payload() => return Ok(()),
            How::FailsForOnePeer => {
                let at = mem(&datagram.peer.to_string());
                if let Some(Ok(_)) = self.world.bind(&at).now_or_never() {
                    return Err(Error::ConnectionRefused { endpoint: at });
                }
            }
            _ => {}
        }
        Pin::new(&mut self.inner).start_send(datagram)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
