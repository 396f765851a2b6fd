//! The program as a person meets it: what is typed, what is printed, how it ends.
//!
//! Everything happens in a directory of the test's own; no server runs and no port is opened.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what a test needs and cannot have fails the test"
)]

mod backup;
mod bench;
mod boot;
mod check;
#[cfg(target_os = "linux")]
mod debian;
mod dhcp;
mod dist;
mod dry;
mod environments;
mod guests;
mod imports;
mod initramfs;
mod install;
#[cfg(target_os = "linux")]
mod kept;
mod lint;
mod living;
mod machines;
mod mistakes;
mod pages;
mod roots;
mod thin;
mod upgrades;
mod verbs;
#[cfg(target_os = "linux")]
mod workers;
