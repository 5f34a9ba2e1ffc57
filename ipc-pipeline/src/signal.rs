//! Waiting and waking: who waits for values, who waits for room, first come, first served.
//!
//! Both directions follow one rule. Who changes the ring *publishes, then looks for a waiter*; who waits *registers,
//! then looks again*. The look and the change are one read-modify-write on one shared word (see `ring.rs`), so one
//! of the two always sees the other. The lists here are locked only when somebody waits: a wake-up happens once per
//! empty→non-empty and full→has-room transition, never once per value.

use std::task::Waker;

use crate::{
    ring::{Pushed, Ring, TailWord},
    sync::{Mutex, lock},
};

/// Names an entry of a [`WaitList`] until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(usize);

/// Those who wait, in order of arrival. An entry belongs to one future, which removes it.
#[derive(Debug)]
pub(crate) struct WaitList {
    entries: Vec<Entry>,
    first: usize,
    last: usize,
    vacant: usize,
    occupied: usize,
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// What the waiter needs of the byte bound; 0 if nothing.
    weight: usize,
    previous: usize,
    next: usize,
}

#[derive(Debug)]
enum State {
    Ended,
    Notified,
    Vacant,
    Waiting(Waker),
}

/// What an entry was when it was removed.
#[derive(Debug)]
pub(crate) enum Removed {
    /// The queue was closed while it waited.
    Ended,
    /// Its turn had come; what it was given is its owner's now.
    Notified,
    /// It was still waiting; the waker is returned so that it is dropped outside the lock.
    Waiting { _waker: Waker },
}

impl WaitList {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), first: NONE, last: NONE, vacant: NONE, occupied: 0 }
    }

    /// Appends a waiter.
    pub(crate) fn insert(&mut self, waker: Waker, weight: usize) -> Key {
        let index = if self.vacant == NONE {
            self.entries.push(Entry { state: State::Vacant, weight: 0, previous: NONE, next: NONE });
            self.entries.len() - 1
        } else {
            let index = self.vacant;
            self.vacant = self.entries[index].next;
            index
        };
        self.occupied += 1;
        let previous = self.last;
        self.entries[index] = Entry { state: State::Waiting(waker), weight, previous, next: NONE };
        match previous {
            NONE => self.first = index,
            _ => self.entries[previous].next = index,
        }
        self.last = index;
        Key(index)
    }

    /// Puts the waker of a waiter's newest poll in place and returns the old one; `None` if its turn has come.
    pub(crate) fn update(&mut self, key: Key, waker: Waker) -> Option<Waker> {
        match &mut self.entries[key.0].state {
            State::Waiting(old) => Some(std::mem::replace(old, waker)),
            State::Ended | State::Notified | State::Vacant => None,
        }
    }

    /// Whether its turn has not come.
    pub(crate) fn is_waiting(&self, key: Key) -> bool {
        matches!(self.entries[key.0].state, State::Waiting(_))
    }

    /// What the first waiter needs of the byte bound.
    pub(crate) fn first_weight(&self) -> Option<usize> {
        self.entries.get(self.first).map(|entry| entry.weight)
    }

    /// Makes it the first waiter's turn.
    pub(crate) fn notify_first(&mut self) -> Option<Waker> {
        self.leave_first(State::Notified)
    }

    /// Ends the waiting of all; nobody is given anything.
    pub(crate) fn end_all(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(std::iter::from_fn(|| self.leave_first(State::Ended)));
    }

    /// Makes it everybody's turn.
    pub(crate) fn notify_all(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(std::iter::from_fn(|| self.notify_first()));
    }

    /// Removes an entry, which its owner has done with.
    pub(crate) fn remove(&mut self, key: Key) -> Removed {
        let removed = match std::mem::replace(&mut self.entries[key.0].state, State::Vacant) {
            State::Waiting(waker) => {
                self.unlink(key.0);
                Removed::Waiting { _waker: waker }
            }
            State::Ended => Removed::Ended,
            State::Notified | State::Vacant => Removed::Notified,
        };
        self.entries[key.0].next = self.vacant;
        self.vacant = key.0;
        self.occupied -= 1;
        if self.occupied == 0 && self.entries.len() > KEEP {
            // A crowd has gone; its memory goes too.
            *self = Self::new();
        }
        removed
    }

    /// Whether nobody waits whose turn has not come.
    pub(crate) fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// How many entries there are, waiting or notified.
    pub(crate) fn occupied(&self) -> usize {
        self.occupied
    }

    fn leave_first(&mut self, state: State) -> Option<Waker> {
        if self.first == NONE {
            return None;
        }
        let index = self.first;
        self.unlink(index);
        match std::mem::replace(&mut self.entries[index].state, state) {
            State::Waiting(waker) => Some(waker),
            State::Ended | State::Notified | State::Vacant => None,
        }
    }

    fn unlink(&mut self, index: usize) {
        let Entry { previous, next, .. } = self.entries[index];
        match previous {
            NONE => self.first = next,
            _ => self.entries[previous].next = next,
        }
        match next {
            NONE => self.last = previous,
            _ => self.entries[next].previous = previous,
        }
    }
}

/// Those who wait for values.
#[derive(Debug)]
pub(crate) struct Receivers {
    list: Mutex<WaitList>,
}

impl Receivers {
    pub(crate) fn new() -> Self {
        Self { list: Mutex::new(WaitList::new()) }
    }

    /// Registers a waiter, or its newest waker, and looks at the ring again.
    ///
    /// `found` tells whether that look shows a reason not to wait; the entry is then removed. Returns the place in
    /// the list if waiting is right.
    pub(crate) fn register<T>(
        &self,
        ring: &Ring<T>,
        key: &mut Option<Key>,
        waker: &Waker,
        found: impl FnOnce(TailWord) -> bool,
    ) -> bool {
        // Cloned and dropped outside the lock: a waker's code is the user's runtime.
        let waker = waker.clone();
        let mut old = None;
        let mut list = lock(&self.list);
        let place = match *key {
            Some(place) => {
                old = list.update(place, waker.clone());
                if old.is_some() {
                    place
                } else {
                    // Its turn had come, and there was nothing: it queues anew.
                    let _ = list.remove(place);
                    list.insert(waker, 0)
                }
            }
            None => list.insert(waker, 0),
        };
        let removed = if found(ring.receiver_waits()) {
            *key = None;
            Some(list.remove(place))
        } else {
            *key = Some(place);
            None
        };
        drop(list);
        drop(old);
        removed.is_none()
    }

    /// Removes a waiter that has found a value, or gives up.
    ///
    /// If its turn had come and it does not use it, the next one is woken for what may be there.
    pub(crate) fn unregister<T>(&self, ring: &Ring<T>, key: Key, satisfied: bool) {
        let mut list = lock(&self.list);
        let removed = list.remove(key);
        let mut next = None;
        if matches!(removed, Removed::Notified) && !satisfied && ring.len() > 0 {
            next = list.notify_first();
        }
        drop(list);
        drop(removed);
        if let Some(waker) = next {
            waker.wake();
        }
    }

    /// Wakes a receiver for each value pushed since nobody looked; called by the push that took the flag away.
    #[cold]
    pub(crate) fn notify<T>(&self, ring: &Ring<T>, mut pushed: Pushed, count: usize) {
        let mut wakers = Vec::new();
        let mut list = lock(&self.list);
        let mut count = count as u64;
        while count > 0 && !list.is_empty() {
            for _ in 0..count {
                match list.notify_first() {
                    Some(waker) => wakers.push(waker),
                    None => break,
                }
            }
            // Others still wait: the flag goes up again, and what was pushed without seeing it is seen here.
            count =
                if list.is_empty() { 0 } else { Ring::<T>::pushed_since(&mut pushed, ring.receiver_waits()) };
        }
        drop(list);
        wake_all(wakers);
    }

    /// Wakes all, so that they see that the ring is closed.
    pub(crate) fn end_all(&self) {
        let mut wakers = Vec::new();
        lock(&self.list).end_all(&mut wakers);
        wake_all(wakers);
    }

    pub(crate) fn occupied(&self) -> usize {
        lock(&self.list).occupied()
    }
}

/// Wakes outside of every lock.
pub(crate) fn wake_all(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// No entry.
const NONE: usize = usize::MAX;
/// Entries whose memory is kept when nobody waits.
const KEEP: usize = 64;
