//! Installations: what a boot environment is filled with, and how it appears whole.
//!
//! FreeBSD's distribution sets are verified before anything of them is unpacked ([`sets`]); other
//! systems come as one archive ([`archive`]). An environment that is being filled has the role `off`
//! and a snapshot of its empty tree ([`fill`]): whatever ends the work early, the next command puts
//! that tree back.

mod acl;
pub(crate) mod archive;
pub(crate) mod configure;
pub(crate) mod debian;
mod download;
mod error;
pub(crate) mod fill;
mod lost;
mod manifest;
pub(crate) mod packed;
mod place;
pub(crate) mod sets;
mod steps;
mod turn;
mod workshop;

pub(crate) use error::InstallError;
pub(crate) use lost::Lost;
pub(crate) use place::{Branch, Place};
