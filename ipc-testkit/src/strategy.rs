//! proptest strategies for what this project is made of: endpoints, chunkings, payloads, fault plans, scripts.

use std::{fmt, net::SocketAddr, num::NonZeroUsize, time::Duration};

use ipc_transport::Endpoint;
use proptest::{collection::vec, option, prelude::*};

use crate::{FaultPlan, Rule};

/// Endpoints of every built-in scheme, and of a custom one.
pub fn endpoints() -> impl Strategy<Value = Endpoint> {
    let name = "[a-zA-Z0-9_.][a-zA-Z0-9_.-]{0,20}";
    let path = vec("[^\\x00/]{1,8}", 1..6).prop_map(|parts| format!("/{}", parts.join("/")));
    prop_oneof![
        path.prop_filter_map("longer than a socket path", |path| Endpoint::unix(path).ok()),
        any::<SocketAddr>().prop_map(|address| Endpoint::tcp(without_scope(address))),
        name.prop_map(|name| Endpoint::new("mem", name).expect("letters and digits are an address")),
        ("[a-z][a-z0-9]{2,7}x", name).prop_map(
            |(scheme, name)| Endpoint::new(scheme, name).expect("letters and digits are an address")
        ),
    ]
}

/// An IPv6 scope means something to one machine only.
fn without_scope(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

/// How a stream is cut into pieces: sizes to be used in turn, over and over.
#[derive(Clone, PartialEq, Eq)]
pub struct Chunking {
    sizes: Vec<NonZeroUsize>,
}

impl Chunking {
    /// Pieces of one byte.
    pub fn every_byte() -> Self {
        Self { sizes: vec![NonZeroUsize::MIN] }
    }

    /// Two pieces, cut here.
    pub fn split_at(offset: NonZeroUsize) -> Self {
        Self { sizes: vec![offset, NonZeroUsize::MAX] }
    }

    /// The pieces, none of them empty; joined they are the bytes again.
    pub fn pieces<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        let mut rest = bytes;
        self.sizes.iter().cycle().map_while(move |size| {
            let (piece, after) = rest.split_at(size.get().min(rest.len()));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        })
    }
}

impl fmt::Debug for Chunking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.sizes).finish()
    }
}

/// Chunkings with pieces of at most this many bytes; they shrink towards a single byte per piece.
pub fn chunkings(max: NonZeroUsize) -> impl Strategy<Value = Chunking> {
    let max = max.get();
    let size = prop_oneof![Just(1), 1..=max.min(16), 1..=max];
    vec(size, 1..12).prop_map(|sizes| Chunking {
        sizes: sizes.into_iter().map(|size| NonZeroUsize::new(size).expect("sizes begin at 1")).collect(),
    })
}

/// Sizes of messages up to a limit, the edges of formats and buffers more often than the rest.
pub fn message_sizes(max: usize) -> impl Strategy<Value = usize> {
    const EDGES: [usize; 14] =
        [0, 1, 2, 127, 128, 254, 255, 256, 4095, 4096, 65_535, 65_536, 262_144, 262_145];
    let mut edges: Vec<usize> = EDGES.into_iter().filter(|&edge| edge < max).collect();
    edges.extend([max.saturating_sub(1), max]);
    prop_oneof![proptest::sample::select(edges), 0..=max.min(64), 0..=max]
}

/// Payloads up to a size, as [`message_sizes`] has them; no two bytes of one payload follow by a simple rule.
pub fn payloads(max: usize) -> impl Strategy<Value = Vec<u8>> {
    (message_sizes(max), any::<u64>()).prop_map(|(size, seed)| {
        let mut bytes = vec![0; size];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        bytes
    })
}

/// Fault plans under which connections still keep their contract, and after which the work can finish.
///
/// They cut, split, delay, stall for a while and refuse; what ends a connection hits the first few only.
pub fn fault_plans() -> impl Strategy<Value = FaultPlan> {
    let few = 0..6_u64;
    let rule = prop_oneof![
        (0..3000_u64, few.clone()).prop_map(|(to, last)| Rule::cut_between(0..=to).connections(0..last)),
        (1..200_usize).prop_map(|max| Rule::split(NonZeroUsize::new(max).expect("it begins at 1"))),
        (0..50_u64).prop_map(Rule::delay_up_to_ms),
        (0..3000_u64, 0..2000_u64)
            .prop_map(|(after, ms)| Rule::stall_after_for(after, Duration::from_millis(ms))),
        few.prop_map(|last| Rule::refuse().connections(0..last)),
    ];
    plans(rule.boxed())
}

/// Fault plans that damage the byte stream: what runs above must notice.
///
/// Each plan has at least one rule that corrupts, loses, duplicates or reorders, now and then, on the first few
/// connections.
pub fn damaging_fault_plans() -> impl Strategy<Value = FaultPlan> {
    let damage =
        proptest::sample::select(vec![Rule::corrupt(), Rule::lose(), Rule::duplicate(), Rule::reorder()]);
    let rule = (damage, 0.02..1.0, 1..6_u64)
        .prop_map(|(rule, chance, last)| limited(rule.chance(chance), None, None).connections(0..last));
    plans(rule.boxed())
}

fn plans(rule: BoxedStrategy<Rule>) -> impl Strategy<Value = FaultPlan> {
    let rule = (rule, option::of(any::<bool>()), option::of(any::<bool>()))
        .prop_map(|(rule, side, direction)| limited(rule, side, direction));
    (any::<u64>(), vec(rule, 1..4))
        .prop_map(|(seed, rules)| rules.into_iter().fold(FaultPlan::new(seed), FaultPlan::with))
}

fn limited(mut rule: Rule, dialled: Option<bool>, reading: Option<bool>) -> Rule {
    rule = match dialled {
        Some(true) => rule.dialled(),
        Some(false) => rule.accepted(),
        None => rule,
    };
    match reading {
        Some(true) => rule.reading(),
        Some(false) => rule.writing(),
        None => rule,
    }
}

/// One step of a script: somebody does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<O> {
    /// Who, from 0.
    pub actor: usize,
    /// What.
    pub operation: O,
}

/// Scripts of at most `len` steps in which so many actors do the operations that a strategy makes, in any interleaving.
pub fn scripts<O: fmt::Debug + 'static>(
    actors: NonZeroUsize,
    operation: impl Strategy<Value = O> + 'static,
    len: usize,
) -> impl Strategy<Value = Vec<Step<O>>> {
    let step = (0..actors.get(), operation).prop_map(|(actor, operation)| Step { actor, operation });
    vec(step, 0..=len)
}
