//! The bounded queue inside a process.

mod policy;

pub use policy::FullPolicy;
