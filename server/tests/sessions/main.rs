//! Recorded boots of FreeBSD machines, played against the running program.
//!
//! A machine lives in a network namespace of its own; what it sends is what a real one sent, byte
//! for byte where the server has no part in it, from the same ports and with the same transactions.
//! That needs Linux and root; without root a test says so and proves nothing.

#![cfg(target_os = "linux")]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test needs and cannot have fails the test"
)]

#[expect(dead_code, reason = "other tests use more of it")]
#[path = "../serve/bench.rs"]
mod bench;
mod boots;
mod calls;
mod chains;
mod dhcp;
mod files;
mod machine;
mod offers;
mod port;
mod refusals;
mod tftp;
