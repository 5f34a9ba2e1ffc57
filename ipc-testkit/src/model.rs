//! Loom models: every interleaving of a few threads over a bounded buffer, within a small bound of preemptions.
//!
//! [`buffer`] checks a buffer of your own through the small trait [`Buffer`]. [`queue`] checks the queue of
//! `ipc-pipeline`: its ring, its permits, and the waking in both directions.
//!
//! This module exists only under `--cfg ipc_loom`, a private name, because `--cfg loom` would change dependencies as
//! well. Your buffer has to take its atomics and cells from loom under the same name. Use a target directory of its
//! own, and run the model target only:
//!
//! ```sh
//! RUSTFLAGS='--cfg ipc_loom' CARGO_TARGET_DIR=target/loom \
//!     cargo test -p ipc-testkit --test loom --release
//! ```

pub mod buffer;
pub mod queue;

pub use buffer::Buffer;

/// Explores a model with at most `preemptions` preemptions per execution.
///
/// Two find nearly everything and take a moment; three are for small models.
pub fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = MAX_BRANCHES;
    builder.check(model);
}

/// Steps of one execution before loom gives up. The models have no unbounded loop, so this is never a verdict.
const MAX_BRANCHES: usize = 20_000;
