//! FreeBSD has no btrfs: no file is on it, and nothing below is ever reached.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::Stat;
use rustix::io::{Errno, Result};

use crate::subvolume::{Subvolume, Usage};

/// Whether an open file or directory is on btrfs: never.
pub(crate) fn on_btrfs(_: impl AsFd) -> Result<bool> {
    Ok(false)
}

/// Whether a directory is the root of a subvolume: never.
pub(crate) fn is_subvolume(_: &Stat) -> bool {
    false
}

/// Makes an empty subvolume: refused.
pub(crate) fn create_subvolume(_: BorrowedFd<'_>, _: &CStr) -> Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// Makes a snapshot: refused.
pub(crate) fn snapshot_subvolume(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: &CStr) -> Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// Deletes a subvolume: refused.
pub(crate) fn delete_subvolume(_: BorrowedFd<'_>, _: &CStr) -> Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// Brings everything to the disk: refused.
pub(crate) fn commit(_: BorrowedFd<'_>) -> Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// Lets nobody change a subvolume: refused.
pub(crate) fn set_read_only(_: BorrowedFd<'_>, _: bool) -> Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// What is known about a subvolume: refused.
pub(crate) fn subvolume(_: BorrowedFd<'_>) -> Result<Subvolume> {
    Err(Errno::OPNOTSUPP)
}

/// How what is made in a directory is compressed: refused.
pub(crate) fn compression(_: BorrowedFd<'_>) -> Result<Option<String>> {
    Err(Errno::OPNOTSUPP)
}

/// Says so: refused.
pub(crate) fn set_compression(_: BorrowedFd<'_>, _: Option<&str>) -> Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// How much a subvolume may refer to: refused.
pub(crate) fn limit(_: BorrowedFd<'_>) -> Result<Option<u64>> {
    Err(Errno::OPNOTSUPP)
}

/// Limits that: refused.
pub(crate) fn set_limit(_: BorrowedFd<'_>, _: u64) -> Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// What a subvolume takes: refused.
pub(crate) fn usage(_: BorrowedFd<'_>) -> Result<Option<Usage>> {
    Err(Errno::OPNOTSUPP)
}

/// Where something is mounted in a tree of subvolumes: refused.
pub(crate) fn mounts_below(_: &OwnedFd) -> std::io::Result<Vec<PathBuf>> {
    Err(Errno::OPNOTSUPP.into())
}

/// Lets a program open no device: there is none to be run.
pub(crate) fn without_devices(_: &mut Command) {}

/// The subvolumes in a subvolume: refused.
pub(crate) fn nested_subvolumes(_: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    Err(Errno::OPNOTSUPP)
}
