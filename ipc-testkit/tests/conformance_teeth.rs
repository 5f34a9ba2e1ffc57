//! The suites notice what they are there to notice: each broken implementation fails the check that is about it.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::num::NonZeroUsize;

use async_trait::async_trait;
use ipc_testkit::{
    FaultPlan, Faulty, MemTransport, Rule,
    conformance::{
        codec,
        transport::{
            Subject, a_second_listener_is_refused, an_unread_connection_holds_its_writer,
            bytes_arrive_in_order, connecting_to_nobody_is_refused,
        },
    },
};
use ipc_transport::{
    Bincode, ConnectOptions, Connection, DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder, Endpoint,
    Error, ListenOptions, Listener, Transport,
};

fn subject(transport: impl Transport) -> Subject {
    Subject::new(transport, Endpoint::new("mem", "a").unwrap())
}

fn damaged(rule: Rule) -> Subject {
    subject(Faulty::new(MemTransport::new(), FaultPlan::new(1).with(rule.chance(0.1))))
}

#[tokio::test]
#[should_panic(expected = "differ")]
async fn corrupted_bytes_are_noticed() {
    bytes_arrive_in_order(damaged(Rule::corrupt())).await;
}

#[tokio::test]
#[should_panic(expected = "differ")]
async fn doubled_bytes_are_noticed() {
    bytes_arrive_in_order(damaged(Rule::duplicate())).await;
}

#[tokio::test]
#[should_panic(expected = "differ")]
async fn overtaken_bytes_are_noticed() {
    bytes_arrive_in_order(damaged(Rule::reorder())).await;
}

#[tokio::test]
#[should_panic(expected = "without a reader")]
async fn a_buffer_without_a_bound_is_noticed() {
    an_unread_connection_holds_its_writer(subject(MemTransport::new().with_buffer(NonZeroUsize::MAX))).await;
}

#[tokio::test]
#[should_panic(expected = "TimedOut")]
async fn a_wrong_error_for_nobody_is_noticed() {
    connecting_to_nobody_is_refused(subject(Lying(MemTransport::new()))).await;
}

#[tokio::test]
#[should_panic(expected = "the address is taken")]
async fn two_listeners_at_one_address_are_noticed() {
    a_second_listener_is_refused(subject(Lying(MemTransport::new()))).await;
}

/// Keeps no promise: it listens elsewhere when a place is taken, and calls a refusal a deadline.
#[derive(Debug)]
struct Lying(MemTransport);

#[async_trait]
impl Transport for Lying {
    fn scheme(&self) -> &str {
        self.0.scheme()
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        let outcome = self.0.connect(to, options).await;
        outcome.map_err(|_| Error::TimedOut { operation: "connect", endpoint: to.to_string() })
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        match self.0.listen(at, options).await {
            Err(Error::AddrInUse { .. }) => {
                self.0.listen(&Endpoint::new("mem", MemTransport::FRESH_NAME).unwrap(), options).await
            }
            outcome => outcome,
        }
    }
}

/// A codec that ignores what it does not understand: a last zero byte, and a lack of room.
#[derive(Clone)]
struct Careless;

impl Encoder<u32> for Careless {
    fn id(&self) -> &str {
        "careless"
    }

    fn encode(&self, value: &u32, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError> {
        Encoder::encode(&Bincode::default(), value, out).or(Ok(()))
    }
}

impl Decoder<u32> for Careless {
    fn id(&self) -> &str {
        "careless"
    }

    fn decode(&self, input: &[u8]) -> Result<u32, DecodeError> {
        let input = if input.len() > 4 { input.strip_suffix(b"\0").unwrap_or(input) } else { input };
        Bincode::default().decode(input)
    }
}

fn careless() -> codec::Subject<u32> {
    codec::Subject::new(Careless, [1, 2, 3])
}

#[test]
#[should_panic(expected = "after it is Ok(1)")]
fn ignored_trailing_bytes_are_noticed() {
    codec::trailing_bytes_are_rejected(careless());
}

#[test]
#[should_panic(expected = "in 0 bytes: Ok(())")]
fn a_swallowed_lack_of_room_is_noticed() {
    codec::no_room_is_passed_through(careless());
}
