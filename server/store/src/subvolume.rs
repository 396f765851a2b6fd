//! Trees of btrfs subvolumes: the root of an environment with its data sets nested in it.
//!
//! btrfs does everything to one subvolume at a time. Where another is nested, a snapshot has an empty
//! directory, and what is not empty of subvolumes cannot be deleted. What is done here is done to a
//! whole tree.
//!
//! A guest may rename the directories above a nested subvolume at any time. Each way to one is
//! walked from directory to directory, through no link, and what is found at its end is looked at.

mod commands;
mod fabric;
mod natives;
mod transfer;

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub(crate) use fabric::Subvolumes;
use rustix::fs::{fstat, futimens, renameat};
use rustix::io::{Errno, Result};
use uuid::Uuid;

use crate::sys::{self, is_subvolume, nested_subvolumes, set_read_only, subvolume};
use crate::tree::open_dir;

/// The extended attribute by which the kernel shows and takes how what is made in a directory is compressed.
pub(crate) const COMPRESSION: &CStr = c"btrfs.compression";

/// What btrfs knows about a subvolume.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subvolume {
    /// Its number on this file system.
    pub(crate) id: u64,
    /// Its UUID, and that of what it was received from, if it was.
    pub(crate) uuids: [Uuid; 2],
    /// The transaction that made it.
    pub(crate) born: u64,
    /// The transaction that changed it last, as far as changes are on the disk.
    pub(crate) changed: u64,
}

/// How much space a subvolume takes, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// All that is in it, shared with others or not.
    pub(crate) referenced: u64,
    /// What would be free without it.
    pub(crate) exclusive: u64,
}

/// A subvolume of a tree, with where it is below the tree's root: the root itself has an empty path.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) path: PathBuf,
    pub(crate) root: OwnedFd,
}

/// The subvolumes of a tree: the root first, and each before those that are in it.
pub(crate) fn members(root: BorrowedFd<'_>) -> Result<Vec<Member>> {
    let mut found = vec![Member { path: PathBuf::new(), root: open_dir(root, c".")? }];
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        let mut children = Vec::new();
        for path in nested_subvolumes(parent.root.as_fd())? {
            let path = Path::new(OsStr::from_bytes(&path));
            let child = open_below(parent.root.as_fd(), path)?;
            if !is_subvolume(&fstat(&child)?) {
                // Moved by its guest between the two calls.
                return Err(Errno::AGAIN);
            }
            children.push(Member { path: parent.path.join(path), root: child });
        }
        children.sort_by(|a, b| a.path.cmp(&b.path));
        found.extend(children);
        next += 1;
    }
    Ok(found)
}

/// Makes a copy of a whole tree that can be written to, with the name `name` in the directory
/// `work`, which is otherwise empty and nobody else's.
///
/// btrfs commits each snapshot in a transaction of its own, one after the other, so they are milliseconds
/// apart. (Freezing the file system meanwhile would stop the snapshots too: they are writes.)
/// So the tree is looked at afterwards: if nothing wrote to a subvolume since its own snapshot, the copy
/// is that of one instant, that of the last. If something did, it is done again, [`ATTEMPTS`] times at
/// most; a tree that is written to all the time is then copied as it was last found, each of its subvolumes
/// at one instant.
pub(crate) fn copy(source: BorrowedFd<'_>, work: BorrowedFd<'_>, name: &str) -> Result<()> {
    let members = members(source)?;
    let mut attempt = 1;
    loop {
        let copies = copy_members(&members, work)?;
        if attempt == ATTEMPTS || members.len() == 1 || still(&members, &copies, work)? {
            return assemble(&members, &copies, work, name);
        }
        for index in 0..copies.len() {
            sys::delete_subvolume(work, &numbered(index))?;
        }
        attempt += 1;
    }
}

/// Makes a tree read-only, or writable again.
pub(crate) fn freeze(root: BorrowedFd<'_>, read_only: bool) -> Result<()> {
    members(root)?.iter().try_for_each(|member| set_read_only(member.root.as_fd(), read_only))
}

/// Deletes the subvolume with the name `name` in the directory `parent`, and all that are in it.
///
/// A process that is killed on the way leaves a smaller tree, which the next one deletes.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let root = open_dir(parent, name)?;
    // What is full has no room to be changed, and to be deleted is a change.
    for member in members(root.as_fd())? {
        unlimit(member.root.as_fd());
    }
    // Nothing can be taken out of what is read-only.
    freeze(root.as_fd(), false)?;
    for member in members(root.as_fd())?.iter().skip(1).rev() {
        let (dir, name) = place(root.as_fd(), &member.path)?;
        sys::delete_subvolume(dir.as_fd(), &name)?;
    }
    sys::delete_subvolume(parent, name)?;
    sys::commit(parent)
}

/// Makes a snapshot of each member in `work`, named by their numbers.
fn copy_members(members: &[Member], work: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let mut copies = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let name = numbered(index);
        sys::snapshot_subvolume(member.root.as_fd(), work, &name)?;
        let copy = open_dir(work, name.as_c_str())?;
        unlimit(copy.as_fd());
        copies.push(copy);
    }
    Ok(copies)
}

/// Takes the limit of a subvolume away, which a snapshot has of what it was made of. Where that fails, what
/// is done next tells why.
fn unlimit(root: BorrowedFd<'_>) {
    if sys::limit(root).is_ok_and(|limit| limit > Some(0)) {
        let _ = sys::set_limit(root, 0);
    }
}

/// Whether nothing was written to any member since its copy was made.
fn still(members: &[Member], copies: &[OwnedFd], work: BorrowedFd<'_>) -> Result<bool> {
    // What was written and is not on the disk yet has no transaction.
    sys::commit(work)?;
    for (member, copy) in members.iter().zip(copies) {
        // A snapshot counts as a change of what it was made of.
        if subvolume(member.root.as_fd())?.changed != subvolume(copy.as_fd())?.born {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Puts each copy where the first one has an empty directory for it, and gives the whole its name.
fn assemble(
    members: &[Member],
    copies: &[OwnedFd],
    work: BorrowedFd<'_>,
    name: &str,
) -> Result<()> {
    let Some(root) = copies.first() else { return Ok(()) };
    for (index, member) in members.iter().enumerate().skip(1) {
        graft(work, &numbered(index), root.as_fd(), &member.path)?;
    }
    renameat(work, numbered(0), work, name)
}

/// Moves a subvolume to a path below `root`, where there may be an empty directory for it.
fn graft(from: BorrowedFd<'_>, old: &CStr, root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let (dir, name) = place(root, path)?;
    let stat = fstat(&dir)?;
    renameat(from, old, &dir, name)?;
    // In the original, nothing was moved here.
    futimens(&dir, &sys::times(&stat))
}

/// Opens the directory that a path below `root` is in, and tells the last part of the path.
pub(crate) fn place(root: BorrowedFd<'_>, path: &Path) -> Result<(OwnedFd, CString)> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let dir = open_below(root, path.parent().unwrap_or_else(|| Path::new("")))?;
    Ok((dir, CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?))
}

/// Opens a directory below `root`, through no link.
pub(crate) fn open_below(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    path.iter().try_fold(open_dir(root, c".")?, open_dir)
}

fn numbered(index: usize) -> CString {
    CString::new(index.to_string()).unwrap_or_default()
}

/// How often a tree is copied at most until nobody wrote to it meanwhile.
const ATTEMPTS: u32 = 4;
