//! What is done to boot environments: systems put into them, roots made of them, and whether they can
//! boot.
//!
//! Archives and the files of environments come from elsewhere. Whatever parses them for a command is
//! done by a [`worker`]: a process of the same program with the least privilege that does it. Nothing
//! here knows the server: `netbe` depends on this crate, for its commands and for what it serves.

pub mod check;
pub mod contents;
pub mod initramfs;
pub mod install;
pub mod interrupt;
mod kernel;
pub mod loader;
pub mod progress;
pub mod roots;
mod sys;
pub mod terminal;
pub mod worker;

#[cfg(not(test))]
pub use sys::program;
pub use sys::{confine_server, own_mounts};
