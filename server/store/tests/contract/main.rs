//! What every store promises, whatever it is made of, as one suite of facts.
//!
//! `NETBE_CONTRACT_STORE` says where: `dir:/path`, `btrfs:/path` or `zfs:pool/dataset`, each a place that
//! is there and in which the tests make stores of their own, and remove them. Without it, they use plain
//! directories for temporary files. `NETBE_CONTRACT_SMALL` names another place of the same kind, with
//! little room, that may be filled to its end. `NETBE_CONTRACT_CASES` says how many random sequences of
//! verbs are played. With `NETBE_CONTRACT_KEEP` the stores are left where they are, for whoever throws
//! the whole place away. Nothing else is read at run time: the program can be copied to another machine.
//!
//! What only the superuser can make (other owners, device nodes) is made only by the superuser.

#![expect(clippy::unwrap_used, reason = "what a test needs and cannot have fails the test")]
#![expect(clippy::indexing_slicing, reason = "what is not there fails the test")]
#![expect(clippy::panic, reason = "a test that gets something else than it should says what")]

mod bench;
mod clones;
#[path = "../crafted/mod.rs"]
mod crafted;
mod environments;
mod full;
mod half;
mod hostile;
mod killed;
mod living;
#[cfg(target_os = "linux")]
mod metadata;
mod model;
mod names;
mod picture;
mod progress;
mod properties;
mod random;
mod several;
mod snapshots;
mod streams;
