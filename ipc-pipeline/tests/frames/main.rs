//! Bytes of the link protocol as they really come: in any pieces, with any numbers, wrong, and meaningless.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

mod chunking;
mod garbage;
mod limits;
mod numbers;
mod support;
mod violations;
