//! Fault plans: rules and the seed from which every choice follows, printable and reproducible.

use std::{
    fmt,
    num::NonZeroUsize,
    ops::{Range, RangeInclusive},
    sync::Arc,
    time::Duration,
};

/// What goes wrong, and the seed of every random choice on the way.
///
/// Equal plans over equal traffic make equal faults. Each connection, and each socket of datagrams, has a random sequence of
/// its own per direction, so that the order in which tasks of different connections run does not matter. A
/// [`Faulty`](crate::Faulty) that is dropped by a panicking test prints its plan.
///
/// # Examples
///
/// ```
/// use ipc_testkit::{FaultPlan, Rule};
///
/// let plan = FaultPlan::new(7).with(Rule::cut_after(100).writing().connections(0..3)).with(Rule::delay_up_to_ms(5));
/// assert_eq!(
///     plan.to_string(),
///     "seed 7: cut after 100 bytes (writing, connections 0..3); delay by 0ns to 5ms",
/// );
/// ```
#[derive(Debug, Clone)]
pub struct FaultPlan {
    seed: u64,
    rules: Vec<Rule>,
}

impl FaultPlan {
    /// A plan in which nothing goes wrong yet.
    pub fn new(seed: u64) -> Self {
        Self { seed, rules: Vec::new() }
    }

    /// Adds a rule; it works together with the ones before it.
    #[must_use]
    pub fn with(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// The seed of every random choice.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The rules, in the order in which they are asked.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether a connection under this plan still delivers its bytes in order or fails: no rule corrupts, loses,
    /// duplicates, reorders or truncates, and there is no rule of the caller's own.
    pub fn keeps_the_contract(&self) -> bool {
        self.rules.iter().all(|rule| rule.fault.keeps_the_contract())
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: ", self.seed)?;
        if self.rules.is_empty() {
            return f.write_str("no faults");
        }
        for (index, rule) in self.rules.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{rule}")?;
        }
        Ok(())
    }
}

/// One fault and where it strikes: by default on both sides, in both directions, always, on every connection.
///
/// Where a transport carries datagrams, sockets are numbered as connections are and a chunk is one datagram:
///
/// | rule | on a socket |
/// |---|---|
/// | [`refuse`](Rule::refuse) | a bind fails with `AddrInUse` |
/// | [`lose`](Rule::lose), [`duplicate`](Rule::duplicate), [`corrupt`](Rule::corrupt), [`truncate`](Rule::truncate) | as they say, each datagram by itself |
/// | [`reorder`](Rule::reorder) | a datagram is held until the next one has passed, however long that takes |
/// | [`delay`](Rule::delay) | sending or receiving takes so much longer for each datagram; order is kept |
/// | [`stall_after`](Rule::stall_after) | after so many bytes of payload sending waits, or nothing is received |
/// | [`cut_after`](Rule::cut_after), [`split`](Rule::split) | nothing: there is no connection to end, and datagrams stay whole |
///
/// Reordering and losing datagrams keeps the contract of a datagram transport, unlike that of connections; corrupting and
/// truncating break both.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) fault: Fault,
    side: Option<Side>,
    direction: Option<Direction>,
    pub(super) chance: f64,
    connections: Option<Range<u64>>,
}

impl Rule {
    fn new(fault: Fault) -> Self {
        Self { fault, side: None, direction: None, chance: 1.0, connections: None }
    }

    /// Turns connections away: a dialler gets `ConnectionRefused`, an acceptor fails to establish, a bind meets `AddrInUse`.
    pub fn refuse() -> Self {
        Self::new(Fault::Refuse)
    }

    /// Cuts a connection as soon as this many bytes went one way; 0 cuts it when it is made.
    pub fn cut_after(bytes: u64) -> Self {
        Self::cut_between(bytes..=bytes)
    }

    /// Cuts a connection after a number of bytes that the seed picks from this range.
    pub fn cut_between(bytes: RangeInclusive<u64>) -> Self {
        Self::new(Fault::Cut { after: bytes })
    }

    /// Moves between one and this many bytes at a time.
    pub fn split(max: NonZeroUsize) -> Self {
        Self::new(Fault::Split { max })
    }

    /// Moves one byte at a time, so that every frame is split at every byte.
    pub fn split_at_every_byte() -> Self {
        Self::split(NonZeroUsize::MIN)
    }

    /// Stops a direction after this many bytes until [`FaultHandle::resume`](crate::FaultHandle::resume).
    pub fn stall_after(bytes: u64) -> Self {
        Self::new(Fault::Stall { after: bytes, lasting: None })
    }

    /// Stops a direction after this many bytes for a while.
    pub fn stall_after_for(bytes: u64, lasting: Duration) -> Self {
        Self::new(Fault::Stall { after: bytes, lasting: Some(lasting) })
    }

    /// Holds each chunk back for a time that the seed picks from this range; order is kept.
    pub fn delay(by: RangeInclusive<Duration>) -> Self {
        Self::new(Fault::Delay { by })
    }

    /// As [`Rule::delay`], from nothing up to so many milliseconds.
    pub fn delay_up_to_ms(max: u64) -> Self {
        Self::delay(Duration::ZERO..=Duration::from_millis(max))
    }

    /// Flips one bit of a chunk.
    pub fn corrupt() -> Self {
        Self::new(Fault::Corrupt)
    }

    /// Delivers a chunk twice.
    pub fn duplicate() -> Self {
        Self::new(Fault::Duplicate)
    }

    /// Takes a chunk and never delivers it.
    pub fn lose() -> Self {
        Self::new(Fault::Lose)
    }

    /// Delivers a chunk after the one that follows it.
    ///
    /// A written chunk is held until the next write, flush or shutdown; a read one until nothing else is there.
    pub fn reorder() -> Self {
        Self::new(Fault::Reorder)
    }

    /// Cuts a datagram short by one byte at least; it does nothing to connections, whose bytes have no boundaries.
    pub fn truncate() -> Self {
        Self::new(Fault::Truncate)
    }

    /// A rule of your own, asked for each chunk; it should draw no randomness but from what it is told.
    pub fn custom(judge: impl Fn(&Chunk<'_>) -> Verdict + Send + Sync + 'static) -> Self {
        Self::new(Fault::Custom(Judge(Arc::new(judge))))
    }

    /// Only on connections that this transport dialled.
    #[must_use]
    pub fn dialled(mut self) -> Self {
        self.side = Some(Side::Dialled);
        self
    }

    /// Only on connections that this transport accepted.
    #[must_use]
    pub fn accepted(mut self) -> Self {
        self.side = Some(Side::Accepted);
        self
    }

    /// Only on sockets of datagrams that this transport bound.
    #[must_use]
    pub fn bound(mut self) -> Self {
        self.side = Some(Side::Bound);
        self
    }

    /// Only on bytes that our side reads.
    #[must_use]
    pub fn reading(mut self) -> Self {
        self.direction = Some(Direction::Reading);
        self
    }

    /// Only on bytes that our side writes.
    #[must_use]
    pub fn writing(mut self) -> Self {
        self.direction = Some(Direction::Writing);
        self
    }

    /// Strikes with this probability, 1.0 by default, clamped to 0.0 ..= 1.0.
    ///
    /// Refusing, cutting and stalling are drawn once per connection (and direction), the rest for each chunk.
    #[must_use]
    pub fn chance(mut self, probability: f64) -> Self {
        self.chance = probability.clamp(0.0, 1.0);
        self
    }

    /// Only on these connections, numbered from 0 on each side in the order in which they are made.
    ///
    /// A plan that hits a bounded number of connections lets the work finish afterwards.
    #[must_use]
    pub fn connections(mut self, numbers: Range<u64>) -> Self {
        self.connections = Some(numbers);
        self
    }

    pub(super) fn concerns(&self, side: Side, connection: u64) -> bool {
        self.side.is_none_or(|only| only == side)
            && self.connections.as_ref().is_none_or(|only| only.contains(&connection))
    }

    pub(super) fn concerns_direction(&self, direction: Direction) -> bool {
        self.direction.is_none_or(|only| only == direction)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fault)?;
        let side = self.side.map(|side| side.to_string());
        let direction = self.direction.map(|direction| direction.to_string());
        let chance = (self.chance < 1.0).then(|| format!("chance {}", self.chance));
        let connections = self.connections.as_ref().map(|only| format!("connections {only:?}"));
        let limits: Vec<String> = [side, direction, chance, connections].into_iter().flatten().collect();
        if limits.is_empty() { Ok(()) } else { write!(f, " ({})", limits.join(", ")) }
    }
}

/// Which side of a connection the faulty transport made, or that it has no sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// It accepted the connection.
    Accepted,
    /// It bound a socket of datagrams, which has peers and no connection.
    Bound,
    /// It dialled the connection.
    Dialled,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Bound => "bound",
            Self::Dialled => "dialled",
        })
    }
}

/// Which way bytes go, seen from the side that the faulty transport made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the peer to us.
    Reading,
    /// From us to the peer.
    Writing,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reading => "reading",
            Self::Writing => "writing",
        })
    }
}

/// Bytes on their way, as one read or write moves them, or one datagram.
#[derive(Debug)]
#[non_exhaustive]
pub struct Chunk<'a> {
    /// Who made the connection; [`Side::Bound`] for a datagram.
    pub side: Side,
    /// Which way the bytes go.
    pub direction: Direction,
    /// The number of the connection or the socket on its side, from 0.
    pub connection: u64,
    /// How many bytes went this way before.
    pub offset: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// What becomes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// One bit of it is flipped.
    Corrupt,
    /// The connection is cut before it; a datagram passes.
    Cut,
    /// It goes on its way after this time.
    Delay(Duration),
    /// It arrives twice.
    Duplicate,
    /// It never arrives.
    Lose,
    /// It arrives as it is.
    Pass,
    /// It arrives after the chunk that follows it.
    Reorder,
    /// It arrives without its last bytes, if it is a datagram; bytes of a connection pass.
    Truncate,
}

/// The kinds of fault, behind the constructors of [`Rule`].
#[derive(Debug, Clone)]
pub(super) enum Fault {
    Corrupt,
    Custom(Judge),
    Cut { after: RangeInclusive<u64> },
    Delay { by: RangeInclusive<Duration> },
    Duplicate,
    Lose,
    Refuse,
    Reorder,
    Split { max: NonZeroUsize },
    Stall { after: u64, lasting: Option<Duration> },
    Truncate,
}

impl Fault {
    fn keeps_the_contract(&self) -> bool {
        match self {
            Self::Corrupt
            | Self::Custom(_)
            | Self::Duplicate
            | Self::Lose
            | Self::Reorder
            | Self::Truncate => false,
            Self::Cut { .. }
            | Self::Delay { .. }
            | Self::Refuse
            | Self::Split { .. }
            | Self::Stall { .. } => true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt => f.write_str("corrupt"),
            Self::Custom(_) => f.write_str("custom"),
            Self::Cut { after } if after.start() == after.end() => {
                write!(f, "cut after {} bytes", after.start())
            }
            Self::Cut { after } => write!(f, "cut after {} to {} bytes", after.start(), after.end()),
            Self::Delay { by } => write!(f, "delay by {:?} to {:?}", by.start(), by.end()),
            Self::Duplicate => f.write_str("duplicate"),
            Self::Lose => f.write_str("lose"),
            Self::Refuse => f.write_str("refuse"),
            Self::Reorder => f.write_str("reorder"),
            Self::Split { max } => write!(f, "split into at most {max} bytes"),
            Self::Stall { after, lasting: None } => write!(f, "stall after {after} bytes"),
            Self::Stall { after, lasting: Some(lasting) } => {
                write!(f, "stall after {after} bytes for {lasting:?}")
            }
            Self::Truncate => f.write_str("truncate"),
        }
    }
}

/// A rule of the caller's own.
#[derive(Clone)]
pub(super) struct Judge(pub(super) Arc<dyn Fn(&Chunk<'_>) -> Verdict + Send + Sync>);

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge(..)")
    }
}
