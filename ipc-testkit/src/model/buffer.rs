//! The models of a bounded buffer, behind a small trait.

use loom::{sync::Arc, thread};

use super::explore;

/// A bounded buffer of numbers that many threads push into and pop from, without waiting.
pub trait Buffer: Send + Sync + Sized + 'static {
    /// Makes an empty buffer of exactly this capacity.
    fn with_capacity(capacity: usize) -> Self;
    /// Puts a number in, or gives it back: the buffer is full or closed.
    fn try_push(&self, value: u32) -> Result<(), u32>;
    /// Takes the oldest number out; `None` if none is to be had at the moment.
    fn try_pop(&self) -> Option<u32>;
    /// From now on nothing is accepted; what is inside can still be popped.
    fn close(&self);
}

/// Runs every model of this module.
pub fn check<B: Buffer>() {
    a_value_is_seen_whole::<B>();
    a_full_buffer_gives_the_value_back::<B>();
    two_producers_lose_nothing::<B>(1);
    two_producers_lose_nothing::<B>(2);
    two_consumers_double_nothing::<B>();
    what_was_pushed_before_the_close_can_be_popped::<B>();
}

/// What a consumer sees was written before: the publication is ordered. The model that must fail when the ordering of
/// the publication is weakened.
pub fn a_value_is_seen_whole<B: Buffer>() {
    explore(3, || {
        let buffer = Arc::new(B::with_capacity(2));
        let producer = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || assert_eq!(buffer.try_push(7), Ok(())))
        };
        if let Some(value) = buffer.try_pop() {
            assert_eq!(value, 7);
        }
        join(producer);
    });
}

/// The capacity is exact, also while a consumer makes room.
pub fn a_full_buffer_gives_the_value_back<B: Buffer>() {
    explore(2, || {
        let buffer = Arc::new(B::with_capacity(1));
        assert_eq!(buffer.try_push(1), Ok(()));
        assert_eq!(buffer.try_push(2), Err(2));
        let consumer = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || buffer.try_pop())
        };
        let second = buffer.try_push(2);
        assert_eq!(join(consumer), Some(1));
        match second {
            Ok(()) => assert_eq!(buffer.try_pop(), Some(2)),
            Err(back) => assert_eq!((back, buffer.try_pop()), (2, None)),
        }
    });
}

/// Two producers with two values each: all that was accepted comes out once, in each producer's order.
pub fn two_producers_lose_nothing<B: Buffer>(capacity: usize) {
    explore(2, move || {
        let buffer = Arc::new(B::with_capacity(capacity));
        let producers = [10, 20].map(|base| {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || {
                [base, base + 1]
                    .into_iter()
                    .filter(|&value| buffer.try_push(value).is_ok())
                    .collect::<Vec<_>>()
            })
        });
        let mut out: Vec<u32> = buffer.try_pop().into_iter().collect();
        let accepted = producers.map(join);
        out.extend(std::iter::from_fn(|| buffer.try_pop()));
        for (base, accepted) in [10, 20].into_iter().zip(accepted) {
            let mine: Vec<_> = out.iter().copied().filter(|&value| value / 10 == base / 10).collect();
            assert_eq!(mine, accepted, "what was accepted comes out once and in order");
        }
    });
}

/// Two consumers and a producer: each value comes out at exactly one of them.
pub fn two_consumers_double_nothing<B: Buffer>() {
    explore(2, || {
        let buffer = Arc::new(B::with_capacity(2));
        assert_eq!(buffer.try_push(1), Ok(()));
        let consumers = [(); 2].map(|()| {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || buffer.try_pop())
        });
        assert_eq!(buffer.try_push(2), Ok(()));
        let mut out: Vec<u32> = consumers.map(join).into_iter().flatten().collect();
        out.extend(std::iter::from_fn(|| buffer.try_pop()));
        out.sort_unstable();
        assert_eq!(out, [1, 2]);
        // All room is there again.
        assert_eq!((buffer.try_push(3), buffer.try_push(4), buffer.try_push(5)), (Ok(()), Ok(()), Err(5)));
    });
}

/// A close refuses what comes after it and keeps what came before.
pub fn what_was_pushed_before_the_close_can_be_popped<B: Buffer>() {
    explore(2, || {
        let buffer = Arc::new(B::with_capacity(2));
        let producer = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || buffer.try_push(1).is_ok())
        };
        buffer.close();
        let accepted = join(producer);
        assert_eq!(buffer.try_push(2), Err(2));
        assert_eq!(buffer.try_pop(), accepted.then_some(1));
        assert_eq!(buffer.try_pop(), None);
    });
}

fn join<T>(thread: thread::JoinHandle<T>) -> T {
    thread.join().expect("loom reports a panic of a thread itself")
}
