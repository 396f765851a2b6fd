//! The whole program, served and asked by real clients.
//!
//! A test that serves makes two network namespaces of random names, joined by a pair of virtual
//! interfaces, and removes them when it ends. That needs root and the clients; without them the
//! test says so and proves nothing.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test needs and cannot have fails the test"
)]

mod bench;
mod interfaces;
mod machines;
mod mistakes;
mod neighbour;
mod reload;
mod running;
mod service;
mod verbs;
mod wrong;
