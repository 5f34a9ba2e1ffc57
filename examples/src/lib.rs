//! Shared logic of the example programs.
