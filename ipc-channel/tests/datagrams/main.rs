//! Events in datagrams, as their users see them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bounds;
mod endings;
mod examples;
mod fuzz;
mod loss;
mod support;
mod trust;
