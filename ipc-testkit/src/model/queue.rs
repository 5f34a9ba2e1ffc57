//! The models of the queue: waiting and waking in both directions, permits, runs, the end.

use std::task::{Context, Waker};

use ipc_pipeline::{
    Closed, FullPolicy, QueueConfig, Receiver, SendErrorReason, Sender, SharedReceiver, TryRecvError, bounded,
};
use loom::{future::block_on, thread};

use super::{Buffer, explore};

/// The queue as a [`Buffer`], with several consumers.
pub struct SharedQueue {
    sender: Sender<u32>,
    receiver: SharedReceiver<u32>,
}

impl Buffer for SharedQueue {
    fn with_capacity(capacity: usize) -> Self {
        let (sender, receiver) = queue(capacity);
        Self { sender, receiver: receiver.into_shared() }
    }

    fn try_push(&self, value: u32) -> Result<(), u32> {
        self.sender.try_send(value).map_err(|error| error.into_value())
    }

    fn try_pop(&self) -> Option<u32> {
        self.receiver.try_recv().ok()
    }

    fn close(&self) {
        self.sender.close();
    }
}

impl std::fmt::Debug for SharedQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedQueue").finish_non_exhaustive()
    }
}

/// A receiver that sleeps is woken by the value, whichever comes first.
pub fn a_sleeping_receiver_is_woken() {
    explore(3, || {
        let (sender, mut receiver) = queue(1);
        let producer = thread::spawn(move || assert!(sender.try_send(1).is_ok()));
        assert_eq!(block_on(receiver.recv()), Ok(1));
        assert_eq!(block_on(receiver.recv()), Err(Closed));
        join(producer);
    });
}

/// With two producers, of which one may still be writing what the other has overtaken.
pub fn a_sleeping_receiver_is_woken_by_two() {
    explore(2, || {
        let (sender, mut receiver) = queue(2);
        let producers = [1, 2].map(|value| {
            let sender = sender.clone();
            thread::spawn(move || assert!(sender.try_send(value).is_ok()))
        });
        drop(sender);
        let mut all = [block_on(receiver.recv()), block_on(receiver.recv())];
        all.sort_by_key(|value| value.ok());
        assert_eq!(all, [Ok(1), Ok(2)]);
        assert_eq!(block_on(receiver.recv()), Err(Closed));
        for producer in producers {
            join(producer);
        }
    });
}

/// A sender that sleeps is woken by the room, whichever comes first; capacity 1.
pub fn a_sleeping_sender_is_woken() {
    explore(3, || {
        let (sender, mut receiver) = queue(1);
        assert!(sender.try_send(1).is_ok());
        let producer = thread::spawn(move || assert!(block_on(sender.send(2)).is_ok()));
        assert_eq!(next(&mut receiver), 1);
        join(producer);
        assert_eq!(receiver.try_recv(), Ok(2));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
    });
}

/// Both ends sleep in turn: capacity 1, two values.
pub fn capacity_one() {
    explore(2, || {
        let (sender, mut receiver) = queue(1);
        let producer = thread::spawn(move || {
            for value in 0..2 {
                assert!(block_on(sender.send(value)).is_ok());
            }
        });
        for value in 0..2 {
            assert_eq!(block_on(receiver.recv()), Ok(value));
        }
        assert_eq!(block_on(receiver.recv()), Err(Closed));
        join(producer);
    });
}

/// A permit that is dropped lets the next in line go on.
pub fn a_dropped_permit_is_handed_on() {
    explore(3, || {
        let (sender, mut receiver) = queue(1);
        let permit = block_on(sender.reserve());
        let waiting = {
            let sender = sender.clone();
            thread::spawn(move || assert!(block_on(sender.send(1)).is_ok()))
        };
        drop(permit);
        join(waiting);
        assert_eq!(receiver.try_recv(), Ok(1));
        assert!(sender.try_send(2).is_ok(), "the room of the permit is there again");
    });
}

/// A permit holds its room against others and is filled without waiting.
pub fn a_permit_holds_its_room() {
    explore(3, || {
        let (sender, mut receiver) = queue(1);
        let permit = block_on(sender.reserve());
        let other = {
            let sender = sender.clone();
            thread::spawn(move || sender.try_send(2).is_err_and(|error| error.is_full()))
        };
        assert!(permit.is_ok_and(|permit| permit.send(1).is_ok()));
        assert!(join(other), "there was never room for another");
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    });
}

/// A send that is given up while its turn comes hands the room on.
pub fn a_cancelled_send_hands_its_turn_on() {
    explore(2, || {
        let (sender, mut receiver) = queue(1);
        assert!(sender.try_send(0).is_ok());
        let consumer = thread::spawn(move || {
            assert_eq!(next(&mut receiver), 0);
            receiver
        });
        let mut given_up = Box::pin(sender.send(1));
        let waited = given_up.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        if waited {
            let mut next_in_line = Box::pin(sender.send(2));
            let first_look = next_in_line.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            drop(given_up);
            assert!(first_look.is_pending(), "it came second");
            assert!(block_on(next_in_line).is_ok());
        }
        let mut receiver = join(consumer);
        assert_eq!(receiver.try_recv(), Ok(if waited { 2 } else { 1 }));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    });
}

/// Two receivers take runs: each value comes out once, in order within a run.
pub fn a_run_is_claimed_once() {
    explore(2, || {
        let (sender, receiver) = queue(2);
        let receiver = receiver.into_shared();
        assert!(sender.try_send(1).is_ok());
        assert!(sender.try_send(2).is_ok());
        let other = {
            let receiver = receiver.clone();
            thread::spawn(move || {
                let mut run = Vec::new();
                let _ = block_on(receiver.recv_many(&mut run, 2));
                run
            })
        };
        sender.close();
        let mut run = Vec::new();
        let _ = block_on(receiver.recv_many(&mut run, 2));
        let theirs = join(other);
        assert!(run.is_sorted() && theirs.is_sorted());
        run.extend(theirs);
        run.sort_unstable();
        assert_eq!(run, [1, 2]);
    });
}

/// Two values claimed at once wake two receivers that sleep.
pub fn a_batch_wakes_every_receiver_it_serves() {
    explore(2, || {
        let (sender, receiver) = queue(2);
        let receiver = receiver.into_shared();
        // One is surely asleep, the other may be anywhere.
        let mut first = Box::pin(receiver.recv());
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let other = {
            let receiver = receiver.clone();
            thread::spawn(move || block_on(receiver.recv()))
        };
        assert_eq!(block_on(sender.send_many([1, 2])), Ok(2));
        let mut all = [block_on(first), join(other)];
        all.sort_by_key(|value| value.ok());
        assert_eq!(all, [Ok(1), Ok(2)]);
    });
}

/// A close ends every wait, and gives a waiting sender its value back.
pub fn a_close_wakes_all() {
    explore(2, || {
        let (sender, mut receiver) = queue(1);
        assert!(sender.try_send(1).is_ok());
        let waiting = {
            let sender = sender.clone();
            thread::spawn(move || block_on(sender.send(2)))
        };
        receiver.close();
        if let Err(error) = join(waiting) {
            assert_eq!(error.reason(), &SendErrorReason::Closed);
            assert_eq!(error.into_value(), 2);
        }
        assert_eq!(block_on(receiver.recv()), Ok(1));
        assert_eq!(block_on(receiver.recv()), Err(Closed));
    });
}

/// The last sender that goes wakes the receiver.
pub fn the_last_sender_wakes_the_receiver() {
    explore(3, || {
        let (sender, mut receiver) = queue(1);
        let producer = thread::spawn(move || drop(sender));
        assert_eq!(block_on(receiver.recv()), Err(Closed));
        join(producer);
    });
}

/// A full queue that drops the oldest: the newest value survives whatever the receiver is doing, and a value is
/// dropped only if there is no room without that.
pub fn the_newest_value_survives(capacity: u32) {
    explore(2, move || {
        let (sender, mut receiver) = dropping_the_oldest(capacity);
        let consumer = thread::spawn(move || {
            let first = receiver.try_recv();
            (first, receiver)
        });
        assert!(sender.try_send(capacity).is_ok());
        assert_consistent(&sender, capacity);
        let (first, mut receiver) = join(consumer);
        let mut out = vec![first.expect("it is never empty")];
        out.extend(std::iter::from_fn(|| receiver.try_recv().ok()));
        assert_one_dropped_at_most(&sender, &out, capacity);
    });
}

/// The same while the receiver takes a run.
pub fn the_newest_value_survives_a_run(capacity: u32) {
    explore(2, move || {
        let (sender, mut receiver) = dropping_the_oldest(capacity);
        let consumer = thread::spawn(move || {
            let mut run = Vec::new();
            let _ = block_on(receiver.recv_many(&mut run, capacity as usize));
            (run, receiver)
        });
        assert!(sender.try_send(capacity).is_ok());
        assert_consistent(&sender, capacity);
        let (mut out, mut receiver) = join(consumer);
        out.extend(std::iter::from_fn(|| receiver.try_recv().ok()));
        assert_one_dropped_at_most(&sender, &out, capacity);
    });
}

/// A queue that holds as many values as it can: 0, 1 and so on.
fn dropping_the_oldest(capacity: u32) -> (Sender<u32>, Receiver<u32>) {
    let config = QueueConfig::new(capacity as usize).expect("a small capacity");
    let (sender, receiver) = config.policy(FullPolicy::DropOldest).build();
    for value in 0..capacity {
        assert!(sender.try_send(value).is_ok());
    }
    (sender, receiver)
}

/// While a receiver takes values, the counters agree with each other.
fn assert_consistent(sender: &Sender<u32>, capacity: u32) {
    let counters = sender.counters();
    assert_eq!(counters.accepted, u64::from(capacity) + 1);
    assert!(counters.taken + counters.dropped <= counters.accepted);
}

/// After one send into the full queue, `out` is all that came out of it.
fn assert_one_dropped_at_most(sender: &Sender<u32>, out: &[u32], capacity: u32) {
    assert_eq!(out.last(), Some(&capacity), "the newest value came out last: {out:?}");
    assert!(out.is_sorted() && out.len() >= capacity as usize, "one was dropped at most: {out:?}");
    let counters = sender.counters();
    assert_eq!(counters.taken, out.len() as u64);
    assert_eq!(counters.taken + counters.dropped, u64::from(capacity) + 1);
}

/// The next value of a queue that is known not to be empty.
fn next(receiver: &mut Receiver<u32>) -> u32 {
    receiver.try_recv().expect("it was put in before")
}

fn queue(capacity: usize) -> (Sender<u32>, Receiver<u32>) {
    bounded(capacity).expect("a small capacity")
}

fn join<T>(thread: thread::JoinHandle<T>) -> T {
    thread.join().expect("loom reports a panic of a thread itself")
}
