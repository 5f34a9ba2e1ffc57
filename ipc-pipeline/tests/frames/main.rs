//! Bytes of the link protocol as they really come: in any pieces, with any numbers, wrong, and meaningless.

mod chunking;
mod garbage;
mod limits;
mod numbers;
mod support;
mod violations;
