//! Boot files by TFTP and HTTP, over loopback sockets, with clients of our own and of others.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test ends where what it relies on does not hold"
)]

mod booter;
mod http;
mod program;
mod tftp;
