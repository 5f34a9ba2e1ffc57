//! The order in which two processes start, reach for each other and make their ports does not matter.

use std::time::Duration;

use async_trait::async_trait;
use ipc_ports::{IncomingPort, Node, NodeConfig, OutgoingPort, PortConfig, RecvError};
use ipc_testkit::MemTransport;
use ipc_transport::{
    ConnectOptions, Endpoint, Error, ListenOptions, Listener, NameWatch, Naming, Transport, Transports,
};
use tokio::{task::JoinHandle, time::sleep};

use crate::support::{LONG, WATCHDOG, until};

/// What must come before what, the steps counted from 1; see [`Stage::step`].
const BEFORE: [(usize, usize); 9] = [(1, 3), (2, 4), (1, 5), (2, 6), (6, 7), (7, 8), (5, 8), (6, 9), (5, 10)];

const STEPS: usize = 10;

/// P-26: all orders, each with no time and with some time between the steps.
#[test]
fn the_value_arrives_once_in_every_order_of_the_ten_steps() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let orders = orders();
    assert_eq!(orders.len(), 8_064);
    runtime.unwrap().block_on(async {
        for pause in [Duration::ZERO, Duration::from_millis(3)] {
            for order in &orders {
                let scenario = Stage::new().play(order, pause);
                let outcome = tokio::time::timeout(WATCHDOG, scenario).await;
                assert!(outcome.is_ok(), "it hangs in the order {order:?} with {pause:?} between the steps");
            }
        }
    });
}

/// Every order of the steps that respects [`BEFORE`].
pub(crate) fn orders() -> Vec<Vec<usize>> {
    let mut orders = Vec::new();
    extend(&mut Vec::new(), &mut orders);
    orders
}

fn extend(begun: &mut Vec<usize>, orders: &mut Vec<Vec<usize>>) {
    if begun.len() == STEPS {
        orders.push(begun.clone());
        return;
    }
    for step in 1..=STEPS {
        let ready = BEFORE.iter().all(|(before, after)| *after != step || begun.contains(before));
        if ready && !begun.contains(&step) {
            begun.push(step);
            extend(begun, orders);
            begun.pop();
        }
    }
}

/// Two processes as far as they have come.
struct Stage {
    world: MemTransport,
    a: Option<Node>,
    b: Option<Node>,
    incoming: Option<IncomingPort<u64>>,
    outgoing: Option<OutgoingPort<u64>>,
    receiving: Option<JoinHandle<()>>,
}

impl Stage {
    fn new() -> Self {
        let world = MemTransport::new();
        Self { world, a: None, b: None, incoming: None, outgoing: None, receiving: None }
    }

    async fn play(mut self, order: &[usize], pause: Duration) {
        for step in order {
            self.step(*step).await;
            if pause.is_zero() {
                tokio::task::yield_now().await;
            } else {
                // Sleeps in the paused time of the test that plays it.
                sleep(pause).await;
            }
        }
        self.outgoing.take().unwrap().close(LONG).await.unwrap();
        self.receiving.take().unwrap().await.unwrap();
        self.a.take().unwrap().shutdown(LONG).await.unwrap();
        self.b.take().unwrap().shutdown(LONG).await.unwrap();
    }

    async fn step(&mut self, step: usize) {
        match step {
            1 => self.a = Some(self.start("a").await),
            2 => self.b = Some(self.start("b").await),
            3 => self.probe("b", self.b.is_some()).await,
            4 => self.probe("a", self.a.is_some()).await,
            5 => {
                // The thread that reports takes lives in real time.
                let config = PortConfig::new().ticker(false);
                self.incoming = Some(self.a.as_ref().unwrap().incoming_with("IN", config).unwrap());
            }
            6 => self.outgoing = Some(self.b.as_ref().unwrap().outgoing("OUT").unwrap()),
            7 => self.outgoing.as_ref().unwrap().connect("a", "IN").unwrap(),
            8 => {
                if let Some(incoming) = &self.incoming {
                    until(|| incoming.is_connected_to("b", "OUT")).await;
                }
                let outgoing = self.outgoing.as_ref().unwrap();
                until(|| outgoing.is_connected_to("a", "IN")).await;
            }
            9 => self.outgoing.as_ref().unwrap().send(42).await.unwrap(),
            _ => {
                let mut incoming = self.incoming.take().unwrap();
                self.receiving = Some(tokio::spawn(async move {
                    let delivery = incoming.recv().await.unwrap();
                    assert_eq!((*delivery, delivery.redelivered()), (42, false));
                    assert_eq!(incoming.recv().await.unwrap_err(), RecvError::EndOfStream);
                }));
            }
        }
    }

    async fn start(&self, name: &str) -> Node {
        let config = NodeConfig::new(name).transport(self.world.clone()).naming(Names(self.world.clone()));
        Node::start(config).await.unwrap()
    }

    /// Our ports reach for each other by themselves; this is one who merely looks whether somebody is there.
    async fn probe(&self, name: &str, there: bool) {
        let at = Endpoint::new("mem", name).unwrap();
        let outcome = self.world.connect(&at, &ConnectOptions::default()).await;
        assert_eq!(outcome.is_ok(), there);
    }
}

/// Every name is the address of the same name.
#[derive(Debug)]
struct Names(MemTransport);

#[async_trait]
impl Naming for Names {
    async fn claim(
        &self,
        name: &str,
        transports: &Transports,
        options: &ListenOptions,
    ) -> Result<Box<dyn Listener>, Error> {
        transports.listen(&Endpoint::new("mem", name).unwrap(), options).await
    }

    async fn resolve(&self, name: &str) -> Result<Endpoint, Error> {
        if self.0.names().iter().any(|known| known == name) {
            Ok(Endpoint::new("mem", name).unwrap())
        } else {
            Err(Error::NotFound { endpoint: name.to_owned() })
        }
    }

    fn watch(&self, _: &str) -> Result<Box<dyn NameWatch>, Error> {
        Ok(Box::new(NoWatch))
    }
}

/// The schedule of the dialler alone decides.
#[derive(Debug)]
struct NoWatch;

#[async_trait]
impl NameWatch for NoWatch {
    async fn changed(&mut self) {
        std::future::pending().await
    }
}
