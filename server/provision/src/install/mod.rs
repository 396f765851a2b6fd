//! Installations: what a boot environment is filled with, and how it appears whole.
//!
//! FreeBSD's distribution sets are verified before anything of them is unpacked ([`sets`]); other
//! systems come as one archive. A worker unpacks. An environment that is being filled has the role
//! `off` and a snapshot of its empty tree ([`fill`](fill::fill)): whatever ends the work early, the
//! next command puts that tree back.

pub mod access;
mod archive;
mod build_dir;
mod configure;
mod debian;
mod download;
mod dropped;
mod error;
pub mod fill;
mod job;
mod kind;
mod lock;
mod manifest;
mod network;
pub(crate) mod packed;
mod progress;
mod room;
pub mod sets;
mod source;

pub use debian::Debian;
use dropped::Dropped;
pub use error::InstallError;
pub use job::{Installed, Options, Report, bootstrap, unpack};
pub(crate) use job::{Job, perform};
pub use source::{Branch, SetSource};
