//! Peers heard from: a bounded table, and what may be sent to an address that nobody has proved yet.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use ipc_transport::DatagramAddress;

/// How many times the bytes that came from an unproved address may go to it: as QUIC has it (RFC 9000, section 8).
const FACTOR: u64 = 3;

/// One address that was heard from.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: DatagramAddress,
    account: Mutex<Account>,
    /// Events that wait for handlers.
    waiting: AtomicUsize,
    malformed: AtomicU64,
}

/// What went to and fro.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    /// The token that came last; 0 before the first.
    token: u64,
    /// It has repeated a token of ours: whoever sends from there receives there.
    proved: bool,
    received: u64,
    sent: u64,
}

impl Peer {
    fn new(address: DatagramAddress) -> Self {
        let account = Mutex::default();
        Self { address, account, waiting: AtomicUsize::new(0), malformed: AtomicU64::new(0) }
    }

    pub(super) fn is_proved(&self) -> bool {
        self.account().proved
    }

    /// A datagram of so many bytes has come, with this token.
    pub(super) fn heard(&self, len: usize, token: u64, proves: bool) {
        let mut account = self.account();
        account.received = account.received.saturating_add(len as u64);
        account.token = token;
        account.proved |= proves;
    }

    /// Lets so many bytes go there, and tells what to repeat; or how many may.
    pub(super) fn spend(&self, len: usize) -> Result<u64, usize> {
        let mut account = self.account();
        let room = account.received.saturating_mul(FACTOR).saturating_sub(account.sent);
        if !account.proved && len as u64 > room {
            return Err(usize::try_from(room).unwrap_or(usize::MAX));
        }
        account.sent = account.sent.saturating_add(len as u64);
        Ok(account.token)
    }

    /// Takes a place among those that wait for handlers; `false` when it has `max` already.
    pub(super) fn begin_wait(&self, max: usize) -> bool {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        if before >= max {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        before < max
    }

    pub(super) fn end_wait(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn broke_the_format(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The peers heard from. When it is full, those without a proof go first, then the longest silent.
#[derive(Debug)]
pub(super) struct Peers {
    table: Mutex<Table>,
    max: NonZeroUsize,
    forgotten: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<DatagramAddress, (Arc<Peer>, Rank)>,
    /// The first is the next to go.
    order: BTreeMap<Rank, DatagramAddress>,
    heard: u64,
}

/// Whether the address is proved, and when it was heard from.
type Rank = (bool, u64);

impl Peers {
    pub(super) fn new(max: NonZeroUsize) -> Self {
        Self { table: Mutex::default(), max, forgotten: AtomicU64::new(0) }
    }

    /// A datagram came from this address.
    pub(super) fn hear(&self, from: &DatagramAddress, len: usize, token: u64, proves: bool) -> Arc<Peer> {
        let mut guard = self.table();
        let table = &mut *guard;
        table.heard += 1;
        let (peer, before) = match table.known.get(from) {
            Some((peer, rank)) => (peer.clone(), Some(*rank)),
            None => (Arc::new(Peer::new(from.clone())), None),
        };
        peer.heard(len, token, proves);
        if let Some(before) = before {
            table.order.remove(&before);
        }
        let rank = (peer.is_proved(), table.heard);
        table.order.insert(rank, from.clone());
        table.known.insert(from.clone(), (peer.clone(), rank));
        if table.known.len() > self.max.get()
            && let Some((_, oldest)) = table.order.pop_first()
        {
            table.known.remove(&oldest);
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        peer
    }

    pub(super) fn find(&self, address: &DatagramAddress) -> Option<Arc<Peer>> {
        self.table().known.get(address).map(|(peer, _)| peer.clone())
    }

    /// All of them, the longest silent first.
    pub(super) fn all(&self) -> Vec<Arc<Peer>> {
        let mut all: Vec<_> =
            self.table().known.values().map(|(peer, rank)| (rank.1, peer.clone())).collect();
        all.sort_unstable_by_key(|(heard, _)| *heard);
        all.into_iter().map(|(_, peer)| peer).collect()
    }

    /// Takes one out; `false` when it was not there.
    pub(super) fn forget(&self, address: &DatagramAddress) -> bool {
        let mut table = self.table();
        let Some((_, rank)) = table.known.remove(address) else { return false };
        table.order.remove(&rank);
        true
    }

    /// How many made room for others.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No foreign code runs under the lock, so a poisoned one holds a whole table all the same.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(max: usize) -> Peers {
        Peers::new(NonZeroUsize::new(max).unwrap())
    }

    fn at(name: &str) -> DatagramAddress {
        DatagramAddress::Name(name.into())
    }

    fn names(peers: &Peers) -> Vec<String> {
        peers.all().iter().map(|peer| peer.address.to_string()).collect()
    }

    #[test]
    fn the_longest_silent_is_forgotten_first() {
        let peers = peers(2);
        for name in ["a", "b", "a", "c"] {
            peers.hear(&at(name), 10, 1, false);
        }
        assert_eq!(names(&peers), ["a", "c"]);
        assert_eq!(peers.forgotten(), 1);
        assert!(peers.forget(&at("a")) && !peers.forget(&at("a")));
        assert_eq!(names(&peers), ["c"]);
        assert_eq!(peers.table().order.len(), 1);
    }

    #[test]
    fn a_flood_of_made_up_addresses_does_not_push_out_who_is_proved() {
        let peers = peers(3);
        peers.hear(&at("true"), 10, 1, true);
        for number in 0..1000 {
            peers.hear(&at(&number.to_string()), 10, 1, false);
        }
        assert!(peers.find(&at("true")).is_some());
        assert_eq!((names(&peers).len(), peers.table().order.len()), (3, 3));
        // And where all are proved, another that is has its place.
        for name in ["b", "c", "d"] {
            peers.hear(&at(name), 10, 1, true);
        }
        assert_eq!(names(&peers), ["b", "c", "d"]);
    }

    #[test]
    fn an_unproved_address_gets_three_times_what_came_from_it_at_most() {
        let peers = peers(3);
        let peer = peers.hear(&at("a"), 100, 5, false);
        assert_eq!(peer.spend(200), Ok(5));
        assert_eq!(peer.spend(101), Err(100));
        assert_eq!(peer.spend(100), Ok(5));
        assert_eq!(peer.spend(1), Err(0));
        peers.hear(&at("a"), 1, 6, false);
        assert_eq!(peer.spend(4), Err(3));
        peers.hear(&at("a"), 1, 7, true);
        assert_eq!(peer.spend(1_000_000), Ok(7));
    }

    #[test]
    fn places_for_waiting_events_are_counted() {
        let peer = Peer::new(at("a"));
        assert!(peer.begin_wait(2) && peer.begin_wait(2) && !peer.begin_wait(2));
        peer.end_wait();
        assert!(peer.begin_wait(2));
    }
}
