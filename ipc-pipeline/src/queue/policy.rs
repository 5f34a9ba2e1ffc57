//! What happens when a pipeline is full.

/// What a send does when there is no room.
///
/// Every value that a policy drops is counted and reported; only [`FullPolicy::Wait`] and [`FullPolicy::Fail`]
/// lose nothing that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum FullPolicy {
    /// The oldest waiting value makes room for the new one.
    DropOldest,
    /// The new value is dropped; the send succeeds all the same and the drop is counted.
    DropNewest,
    /// The send fails at once and gives the value back.
    Fail,
    /// The send waits for room, first come, first served. The default, because it is the one that loses nothing
    /// and holds the sender to the receiver's pace.
    #[default]
    Wait,
}
