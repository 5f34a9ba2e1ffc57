//! What a test does with two machines: a node on each, orders to both, and an account of every value.

use std::{future::Future, time::Duration};

use ipc_testkit::{
    certificates::Authority,
    oracle::Ledger,
    process::{ProcessError, Role, RoleProcess},
};
use tokio::{runtime::Builder, time::timeout};

use crate::{
    network::{Machine, Machines},
    roles::{Detour, Do, GoOn, Papers, Passed, Setup, Told, Trouble},
};

/// How long a whole story may take before it counts as hung.
const WATCHDOG: Duration = Duration::from_secs(300);

/// Where nodes listen; on machines of our own every port is free.
const PORT: u16 = 7000;

/// Two machines, and what nodes on them are set up with.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) machines: Machines,
    left: Setup,
    right: Setup,
}

/// Plays a story over TCP and over TLS, on new machines each.
pub(crate) fn over_both<F: Future<Output = ()>>(story: impl Fn(Place) -> F) {
    for tls in [false, true] {
        let Some(machines) = Machines::new() else { return };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let place = Place::new(machines, tls);
        runtime.block_on(async {
            timeout(WATCHDOG, story(place)).await.expect("the watchdog barked: the story hangs");
        });
    }
}

impl Place {
    fn new(machines: Machines, tls: bool) -> Self {
        let addresses = [machines.left.address(), machines.right.address()];
        let scheme = if tls { "tls" } else { "tcp" };
        let places: Vec<(String, String)> = ["left", "right"]
            .into_iter()
            .zip(addresses)
            .map(|(name, address)| (name.to_owned(), format!("{scheme}://{address}:{PORT}")))
            .collect();
        let authority = tls.then(|| Authority::new("two machines"));
        let setup = |name: &str, peer: &str| {
            // The same for both, as detours stand in the place of the one that they lead to.
            let papers = authority.as_ref().map(|authority| {
                let issued = authority.issue(addresses);
                Papers { roots: authority.pem(), certificate: issued.certificate, key: issued.key }
            });
            Setup {
                name: name.to_owned(),
                peer: peer.to_owned(),
                places: places.clone(),
                papers,
                explicit: false,
                ping: None,
                user_timeout: Duration::from_secs(60),
                patience: Duration::from_secs(3),
            }
        };
        Self { left: setup("left", "right"), right: setup("right", "left"), machines }
    }

    /// Values are acked by hand.
    pub(crate) fn explicit(mut self) -> Self {
        self.both(|setup| setup.explicit = true);
        self
    }

    /// Senders ask for a sign of life this often.
    pub(crate) fn ping(mut self, interval: Duration) -> Self {
        self.both(|setup| setup.ping = Some(interval));
        self
    }

    /// Silence of the other kernel ends a connection after this time.
    pub(crate) fn user_timeout(mut self, time: Duration) -> Self {
        self.both(|setup| setup.user_timeout = time);
        self
    }

    /// Dialling and greeting take no longer than this, each.
    pub(crate) fn patience(mut self, time: Duration) -> Self {
        self.both(|setup| setup.patience = time);
        self
    }

    fn both(&mut self, change: impl Fn(&mut Setup)) {
        change(&mut self.left);
        change(&mut self.right);
    }

    /// Starts a process on the left that passes bytes on to the right one, and leads the left node there.
    pub(crate) async fn detour(&mut self, seed: u64, trouble: Trouble) -> RoleProcess {
        let bend = format!("{}:{}", self.machines.left.address(), PORT + 1);
        let detour = Detour {
            at: format!("tcp://{bend}"),
            to: format!("tcp://{}:{PORT}", self.machines.right.address()),
            seed,
            trouble,
        };
        let role = Role::new("roles::role_detour").argument(&detour).through(self.machines.left.launcher());
        let mut process = role.spawn().unwrap();
        let Passed { .. } = process.recv().await.unwrap();
        let scheme = if self.left.papers.is_some() { "tls" } else { "tcp" };
        for (name, place) in &mut self.left.places {
            if name == "right" {
                *place = format!("{scheme}://{bend}");
            }
        }
        process
    }

    /// Starts a node on each machine.
    pub(crate) async fn begin(self) -> Story {
        // The one at the end of a detour is first, so that whoever dials it there finds it.
        let right = self.start(RIGHT).await;
        let left = self.start(LEFT).await;
        Story { sides: [left, right], known: Default::default(), ledger: Ledger::new(), place: self }
    }

    fn machine(&self, side: usize) -> &Machine {
        if side == LEFT { &self.machines.left } else { &self.machines.right }
    }

    async fn start(&self, side: usize) -> RoleProcess {
        let setup = if side == LEFT { &self.left } else { &self.right };
        let role = Role::new("roles::role_node").argument(setup).through(self.machine(side).launcher());
        let mut process = role.spawn().unwrap();
        let told = process.recv().await.unwrap();
        assert!(matches!(told, Told::Ready), "{told:?}");
        process
    }
}

/// Asks a detour to let everything go on, and waits until what it held back has arrived; what it has passed so far.
pub(crate) async fn go_on(detour: &mut RoleProcess) -> Passed {
    detour.send(&GoOn).unwrap();
    detour.recv().await.unwrap()
}

pub(crate) const LEFT: usize = 0;
pub(crate) const RIGHT: usize = 1;

/// Nodes at work.
#[derive(Debug)]
pub(crate) struct Story {
    sides: [RoleProcess; 2],
    known: [Known; 2],
    ledger: Ledger<usize>,
    // Behind the processes: namespaces end when nobody is in them.
    place: Place,
}

/// What one side has told.
#[derive(Debug, Default, Clone)]
pub(crate) struct Known {
    /// Values accepted from its application, once it has sent the last one.
    pub(crate) accepted: Option<u64>,
    /// How often its outgoing port said that it is connected, or that a connection is gone.
    pub(crate) connected: u64,
    pub(crate) lost: u64,
    /// Values that its application took, and those of them that may have been seen before.
    pub(crate) taken: u64,
    pub(crate) redelivered: u64,
    /// Values that its outgoing port kept when it was found full.
    pub(crate) full: Option<usize>,
    /// Whether the other side's stream has ended here.
    ended: bool,
    /// How often its outgoing port was connected anew, once it is closed.
    reconnects: Option<u64>,
}

impl Story {
    pub(crate) fn machine(&self, side: usize) -> &Machine {
        self.place.machine(side)
    }

    pub(crate) fn process(&self, side: usize) -> &RoleProcess {
        &self.sides[side]
    }

    pub(crate) fn known(&self, side: usize) -> &Known {
        &self.known[side]
    }

    pub(crate) fn order(&mut self, side: usize, order: &Do) {
        self.sides[side].send(order).unwrap();
    }

    /// Listens to both until one of them has told what is waited for.
    pub(crate) async fn until(&mut self, side: usize, mut reached: impl FnMut(&Known) -> bool) {
        while !reached(&self.known[side]) {
            let [left, right] = &mut self.sides;
            let (side, told) = tokio::select! {
                told = left.recv() => (LEFT, told.unwrap()),
                told = right.recv() => (RIGHT, told.unwrap()),
            };
            self.hear(side, told);
        }
    }

    /// Listens until so many more values have arrived at a side.
    pub(crate) async fn taken(&mut self, side: usize, more: u64) {
        let enough = self.known[side].taken + more;
        self.until(side, |known| known.taken >= enough).await;
    }

    /// Waits until the outgoing port of a side is full: it must not take more, and not fail.
    pub(crate) async fn full(&mut self, side: usize) -> usize {
        self.known[side].full = None;
        self.order(side, &Do::Fill);
        self.until(side, |known| known.full.is_some()).await;
        self.known[side].full.unwrap()
    }

    /// Kills a node and starts the next one of its name; what it told before is counted.
    pub(crate) async fn restart(&mut self, side: usize) {
        self.sides[side].kill();
        loop {
            match self.sides[side].recv().await {
                Ok(told) => self.hear(side, told),
                Err(ProcessError::Ended { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.ledger.receiver_restarted();
        self.sides[side] = self.place.start(side).await;
    }

    /// Ends the streams of these sides, which have sent their last value, and looks at the account: everything that
    /// was accepted has arrived, once and in order, and the ends are seen. How often each was connected anew.
    pub(crate) async fn end<const N: usize>(mut self, senders: [usize; N]) -> [u64; N] {
        for sender in senders {
            self.until(sender, |known| known.accepted.is_some()).await;
            self.order(sender, &Do::Close);
        }
        for sender in senders {
            self.until(sender, |known| known.reconnects.is_some()).await;
            self.until(1 - sender, |known| known.ended).await;
        }
        self.ledger.finish().unwrap();
        for side in &mut self.sides {
            side.hang_up();
            side.succeeds().await;
        }
        senders.map(|sender| self.known[sender].reconnects.unwrap())
    }

    fn hear(&mut self, side: usize, told: Told) {
        let known = &mut self.known[side];
        match told {
            Told::Accepted(count) => {
                (known.accepted.unwrap_or(0)..count).for_each(|number| self.ledger.accept(side, number));
                known.accepted = Some(count);
            }
            Told::Closed { reconnects } => known.reconnects = Some(reconnects),
            Told::Connected => known.connected += 1,
            Told::Ended => known.ended = true,
            Told::Full { pending } => known.full = Some(pending),
            Told::Lost => known.lost += 1,
            Told::Ready => panic!("said once, and waited for"),
            Told::Took(runs) => {
                for run in runs {
                    known.taken += run.count;
                    known.redelivered += if run.redelivered { run.count } else { 0 };
                    for number in run.first..run.first + run.count {
                        self.ledger.deliver(1 - side, number, run.redelivered).unwrap();
                    }
                }
            }
        }
    }
}
