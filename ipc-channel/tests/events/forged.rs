//! A client that is none of ours: what it claims is not believed, and what it breaks is its own.

use std::sync::Arc;

use ipc_channel::Event;
use ipc_pipeline::{
    link::{LinkConfig, LinkNames, OutgoingLink},
    protocol::{Hello, SessionId},
    trunk::{self, TrunkEnd, TrunkSlot},
};
use ipc_transport::{ConnectOptions, EncodeBuffer, EncodeError, Encoder, Transports};
use tokio::task::JoinHandle;

use crate::support::{PATIENCE, Place, client, server, soon};

/// who is named as the sender in what a client sends is ignored, and so is every name that sounds like an occasion:
/// the server knows who speaks by the connection, and only its own hooks tell what becomes of that.
#[tokio::test]
async fn what_a_client_claims_to_be_is_not_believed() {
    let place = Place::new();
    let world = server(&place.unix("world")).await;
    let mut events = world.all_events(16).unwrap();
    let forger = Forger::connect(&world).await;
    for name in ["connect", "disconnect", "error", "destroy", "__proto__", "*", ""] {
        forger.send(event(name, "admin")).await;
        let (said, reply) = soon("the event", events.next()).await.unwrap();
        assert_eq!((said.name(), said.from()), (name, None));
        assert_eq!((reply.id(), reply.name()), (&*forger.id, None));
    }
    assert_eq!(world.clients().len(), 1, "it is connected as before");
}

/// bytes that are no message end the connection that they came over, and no other.
#[tokio::test]
async fn bytes_that_are_no_message_end_their_connection_alone() {
    let place = Place::new();
    let world = server(&place.unix("world")).await;
    world
        .respond("add", async |numbers: Event<(u32, u32)>, _| Ok::<u32, String>(numbers.0 + numbers.1))
        .unwrap();
    let honest = client(&world).await;
    for (round, bytes) in [vec![], vec![0xFF], vec![6, 255, 255], vec![9], event("tick", "a")[..4].to_vec()]
        .into_iter()
        .enumerate()
    {
        let forger = Forger::connect(&world).await;
        forger.send(bytes).await;
        assert_eq!(soon("the hang-up", forger.driver).await.unwrap(), TrunkEnd::HangUp);
        assert_eq!(world.counters().malformed, round as u64 + 1);
        let sum: u32 = soon("an answer", honest.call("add", &(1_u32, 2_u32), PATIENCE)).await.unwrap();
        assert_eq!(sum, 3);
    }
}

/// The event of this name, with a sender in it, as `docs/events.md` has it.
fn event(name: &str, from: &str) -> Vec<u8> {
    let mut bytes = vec![6];
    for text in [name, from] {
        bytes.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes.push(7);
    bytes
}

/// Says whatever it likes on the lane of its events.
struct Forger {
    id: String,
    link: OutgoingLink<Vec<u8>>,
    driver: JoinHandle<TrunkEnd>,
    _slot: TrunkSlot,
}

impl Forger {
    async fn connect(world: &ipc_channel::events::Server) -> Self {
        let connecting = async {
            Transports::default().connect(world.endpoint(), &ConnectOptions::default()).await.unwrap()
        };
        let connection = soon("the connection", connecting).await;
        let id = format!("{:032x}", fastrand::u128(..));
        let mut hello = Hello::new(SessionId::from_bits(fastrand::u128(..)), "events/1+bincode2-fixed");
        hello.from_port.clone_from(&id);
        "world".clone_into(&mut hello.to_process);
        "events".clone_into(&mut hello.to_port);
        hello.max_message = 1024 * 1024;
        let (trunk, driver, _) = trunk::dial(connection, hello, 5, PATIENCE).await.unwrap();
        let driver = tokio::spawn(driver);
        let slot = TrunkSlot::new();
        slot.put(trunk);
        let link = OutgoingLink::new(LinkConfig::default(), Claims);
        link.connect(Arc::new(slot.connector(0)), LinkNames::new(("", "private"), ("", "private"))).unwrap();
        Self { id, link, driver, _slot: slot }
    }

    async fn send(&self, bytes: Vec<u8>) {
        soon("room", self.link.sender().send(bytes)).await.unwrap();
    }
}

/// Bytes that call themselves messages of events.
struct Claims;

impl Encoder<Vec<u8>> for Claims {
    fn id(&self) -> &str {
        "events/1"
    }

    fn encode(&self, value: &Vec<u8>, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError> {
        out.write(value)
    }
}
