//! Where data sets are mounted to be served: below a directory that only its owner may enter, each
//! tree as its machine sees it, whatever `mountpoint` says.
//!
//! The tree belongs to a guest, which may put symbolic links where directories were. Nothing here
//! follows one: a mount point is reached name by name.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, fchmod, mkdirat, openat};
use rustix::io::Errno;

use crate::error::at;
use crate::sys::{Mounted, zfs as sys};
use crate::{InUse, StoreError};

/// A data set or a snapshot, and where it is in its tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct DatasetPath {
    /// Its full name.
    pub(super) dataset: String,
    /// Where it is below the root, without slashes at either end.
    pub(super) path: String,
}

/// A file system that is mounted.
#[derive(Debug)]
pub(super) struct Shown {
    /// Where it is below the root.
    pub(super) path: String,
    /// Its root directory.
    pub(super) root: OwnedFd,
}

/// Mounts what is not mounted yet of a tree at `target`, the root first, and opens all of it.
///
/// What is below the root and cannot be mounted is left out and told to whoever watches.
pub(super) fn show(
    target: &Path,
    places: &[DatasetPath],
    read_only: bool,
) -> Result<Vec<Shown>, StoreError> {
    let mounted = sys::mounts().map_err(at("list what is mounted at", target))?;
    let mut shown: Vec<Shown> = Vec::new();
    for place in places {
        let path = target.join(&place.path);
        let root = match shown.first() {
            None => mount(target, place, read_only, &mounted, || {
                open_dir(rustix::fs::CWD, target.as_os_str().as_encoded_bytes())
            }),
            Some(top) => mount(&path, place, read_only, &mounted, || {
                walk(top.root.as_fd(), &place.path, !read_only)
            }),
        };
        match root {
            Ok(root) => shown.push(Shown { path: place.path.clone(), root }),
            Err(error) if shown.is_empty() => return Err(at("mount", &path)(error)),
            Err(error) => {
                tracing::warn!(dataset = place.dataset, ?path, %error, "is not mounted, nor served");
            }
        }
    }
    Ok(shown)
}

fn mount(
    path: &Path,
    place: &DatasetPath,
    read_only: bool,
    mounted: &[Mounted],
    open: impl Fn() -> Result<OwnedFd, Errno>,
) -> io::Result<OwnedFd> {
    match mounted.iter().rfind(|mounted| mounted.target == path) {
        Some(there) if there.source == place.dataset => Ok(open()?),
        // Something else is there: to hide it would be to lose it.
        Some(_) => Err(Errno::BUSY.into()),
        None => {
            let point = open()?;
            sys::mount(&place.dataset, point.as_fd(), path, read_only)?;
            Ok(open()?)
        }
    }
}

/// Opens a directory below `root` without following symbolic links; makes what is missing of it.
fn walk(root: BorrowedFd<'_>, path: &str, make: bool) -> Result<OwnedFd, Errno> {
    let mut dir = open_dir(root, b".")?;
    for name in path.split('/') {
        dir = match open_dir(dir.as_fd(), name.as_bytes()) {
            Err(Errno::NOENT) if make => {
                let mode = Mode::from_raw_mode(0o755);
                let is_new = match mkdirat(&dir, name, mode) {
                    Ok(()) => true,
                    Err(Errno::EXIST) => false,
                    Err(error) => return Err(error),
                };
                let made = open_dir(dir.as_fd(), name.as_bytes())?;
                if is_new {
                    // Whatever the umask is, machines enter it.
                    fchmod(&made, mode)?;
                }
                made
            }
            found => found?,
        };
    }
    Ok(dir)
}

fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// Makes the directory at which a tree is to be mounted, its owner's alone.
pub(super) fn point(path: &Path) -> Result<(), StoreError> {
    let mut private = DirBuilder::new();
    private.recursive(true).mode(0o700).create(path).map_err(at("make", path))
}

/// Unmounts everything at and below a directory, and removes the directory.
pub(super) fn hide(path: &Path) -> Result<(), StoreError> {
    unmount(path, InUse::Refuse)?;
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Unmounts everything at and below a directory.
pub(super) fn unmount(path: &Path, in_use: InUse) -> Result<(), StoreError> {
    let mounted = sys::mounts().map_err(at("list what is mounted at", path))?;
    // What was mounted last lies on top.
    for mounted in mounted.iter().rev().filter(|mounted| mounted.target.starts_with(path)) {
        match take_off(&mounted.target, in_use) {
            Ok(()) => {}
            Err(Errno::BUSY) => {
                let what = mounted.target.display().to_string();
                return Err(StoreError::Busy { what, holder: None });
            }
            Err(error) => return Err(at("unmount", &mounted.target)(error)),
        }
    }
    Ok(())
}

/// Unmounts a file system. A child of this process has all that was open when it was forked until it
/// is a program of its own, also what another thread has closed since: that passes by itself.
fn take_off(target: &Path, in_use: InUse) -> Result<(), Errno> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match sys::unmount(target, in_use) {
            Err(Errno::BUSY) if Instant::now() < deadline => thread::sleep(BUSY_TIMEOUT / 50),
            ended => return ended,
        }
    }
}

/// Where a data set, what is below it, and their snapshots are mounted, in the order of mounting.
pub(super) fn of(dataset: &str) -> Result<Vec<Mounted>, StoreError> {
    let mut mounted = sys::mounts().map_err(at("list what is mounted of", Path::new(dataset)))?;
    mounted.retain(|mounted| {
        let rest = mounted.source.strip_prefix(dataset);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '@']))
    });
    Ok(mounted)
}

/// How long a file system may be in use that nobody is known to use.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
