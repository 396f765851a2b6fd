//! A tree of files as a network file server sees it.
//!
//! A [`Tree`] is synchronous and names every file by a [`Handle`], never by a path. This crate holds
//! the trait, the values that cross it, and the rules that every tree shares (who may do what, which
//! bits are cleared, which group a new file gets). It performs no I/O and knows no protocol.

mod acl;
mod answer;
mod attr;
mod caller;
mod error;
pub mod exclusive;
mod handle;
pub mod mode;
mod name;
pub mod permission;
mod projection;
mod tree;

pub use acl::Acl;
pub use answer::Answer;
pub use attr::{Attr, FileKind, SetAttr, SetTime, Time};
pub use caller::{Caller, MAX_GROUPS};
pub use error::FsError;
pub use handle::{Handle, HandleError, MAX_KERNEL_HANDLE};
pub use name::{Name, NameError};
pub use projection::{Branch, BranchError, BranchProblem, Projection, Resolved};
pub use tree::{
    Access, Create, DirEnd, Entry, EntryDetail, Found, FsStat, Limits, Linked, Made, Read, Renamed,
    Special, Stability, SyncMode, Tree, Wait, Wcc, Written,
};
