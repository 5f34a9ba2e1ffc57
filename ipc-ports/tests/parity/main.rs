//! What the users of ports rely on, each claim under the id that the parity list gives it.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

mod support;

mod buffering;
mod connecting;
mod ending;
mod receiving;
