//! Walks over trees that guests wrote.
//!
//! A guest's superuser may have left anything there: links to `/etc`, directories a million deep,
//! names that are not text, device nodes. Every step is relative to an open directory and follows
//! no link, so that nothing outside of the tree can be reached, whatever changes meanwhile.
//!
//! A machine may be at work in the tree that is copied, compared or measured: what it removes on the way
//! is as if it had never been there, and no error. What it puts into that place is looked at again.

mod archive;
mod compare;
mod copy;
#[cfg(any(target_os = "freebsd", test))]
mod durable;
mod inspect;
mod list;
mod measure;
mod metadata;
mod remove;
mod split;

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, DirEntry, Mode, OFlags, SeekFrom, Stat, fstat, futimens, renameat, seek, statat,
};
use rustix::io::Errno;

pub(crate) use archive::{apply, write};
pub(crate) use compare::{Until, compare, equal, unchanged};
pub(crate) use copy::{Borders, Fixed, copy};
#[cfg(target_os = "freebsd")]
pub(crate) use durable::each_file;
pub(crate) use inspect::inspect;
pub(crate) use list::list;
pub(crate) use measure::{count_later, measure};
pub(crate) use remove::remove_contents;
pub(crate) use split::{Half, carve, fill, fix, protect, unprotect};

use crate::error::at;
use crate::{StoreError, sys};

/// How deep a tree may be to be copied: each level holds two descriptors, and 1,024 are usual.
pub(crate) const MAX_DEPTH: usize = 200;

/// How often a name is looked at of which a machine makes something else each time.
const TRIES: u32 = 10;

/// Opens a directory by its name in another one.
pub(crate) fn open_dir(
    parent: impl AsFd,
    name: impl rustix::path::Arg,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Moves a directory to another one, and leaves its times as they were.
///
/// UFS writes into a directory where it is, and shows that as a change of what is in it.
pub(crate) fn relocate(
    from: BorrowedFd<'_>,
    name: &str,
    to: BorrowedFd<'_>,
    new: &str,
) -> rustix::io::Result<()> {
    let dir = open_dir(from, name)?;
    let before = fstat(&dir)?;
    renameat(from, name, to, new)?;
    let after = fstat(&dir)?;
    if (before.st_mtime, before.st_mtime_nsec) != (after.st_mtime, after.st_mtime_nsec) {
        futimens(&dir, &sys::times(&before))?;
    }
    Ok(())
}

/// Calls `each` with every name in a directory but `.` and `..`.
pub(crate) fn each_name(
    dir: impl AsFd,
    path: &Path,
    mut each: impl FnMut(&CStr) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for entry in entries(dir).map_err(at("list", path))? {
        each(entry.map_err(at("list", path))?.file_name())?;
    }
    Ok(())
}

/// What is in a directory but `.` and `..`.
fn entries(
    dir: impl AsFd,
) -> rustix::io::Result<impl Iterator<Item = rustix::io::Result<DirEntry>>> {
    let is_own = |name: &CStr| name != c"." && name != c"..";
    Ok(Dir::read_from(dir)?
        .filter(move |entry| entry.as_ref().map_or(true, |entry| is_own(entry.file_name()))))
}

/// The names in a directory but `.` and `..`, sorted, each once: one that is made anew meanwhile the
/// kernel may tell twice.
fn sorted_names(dir: impl AsFd, path: &Path) -> Result<Vec<CString>, StoreError> {
    let mut names = Vec::new();
    each_name(dir, path, |name| {
        names.push(name.to_owned());
        Ok(())
    })?;
    names.sort();
    names.dedup();
    Ok(names)
}

/// Looks at a name without following a link; `None` if it is not there.
fn look(dir: impl AsFd, name: &CStr, path: &Path) -> Result<Option<Stat>, StoreError> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(at("look at", path)(error)),
    }
}

/// Where a file has data again, at an offset or behind it; `None` if only a hole is left, or the end. A
/// guest can make a file of exabytes in which nothing is: holes are never read.
fn next_data(file: impl AsFd, offset: u64) -> Result<Option<u64>, Errno> {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        // A file system that knows no holes: all of it is data.
        Err(Errno::INVAL) => Ok(Some(offset)),
        Err(error) => Err(error),
    }
}

/// The data of a file of this size, from an offset on: where they begin, and where a hole follows.
fn next_range(file: impl AsFd, offset: u64, size: u64) -> Result<Option<(u64, u64)>, Errno> {
    let Some(data) = next_data(&file, offset)?.filter(|data| *data < size) else { return Ok(None) };
    let hole = seek(&file, SeekFrom::Hole(data)).unwrap_or(size).min(size);
    // A hole directly at the data means that the file changes: take all as data.
    Ok(Some((data, if hole > data { hole } else { size })))
}

/// The path of a name, for messages.
pub(crate) fn join(path: &Path, name: &CStr) -> PathBuf {
    path.join(OsStr::from_bytes(name.to_bytes()))
}

/// What is about a name in a directory that keeps it from being removed.
pub(crate) fn obstacle(
    dir: impl AsFd,
    name: &str,
) -> Result<Option<crate::Obstacle>, std::io::Error> {
    let name = CString::new(name)?;
    sys::obstacle(dir.as_fd(), &name)
}
