//! Removes a tree of any depth with two descriptors, immutable files too.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::error::at;
use crate::progress::{Unit, Work};
use crate::tree::{each_name, join, open_dir};
use crate::{StoreError, subvolume, sys};

/// Removes everything in `top`, but not `top` itself.
///
/// Instead of descending, a directory that is not empty is moved up to `top` and emptied later: a
/// guest can nest directories deeper than any path is long and than descriptors are left, and a
/// process killed on the way leaves only work that the next one goes on with.
pub(crate) fn remove_contents(top: impl AsFd, path: &Path) -> Result<(), StoreError> {
    let top = top.as_fd();
    let btrfs = sys::on_btrfs(top).map_err(at("look at", path))?;
    let work = Work::begin(|| "remove".to_owned(), Unit::Files, None);
    let mut removal = Removal { top, path, btrfs, next: 0, work };
    while removal.pass()? {}
    Ok(())
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    path: &'a Path,
    /// Whether there may be subvolumes: out of one, nothing but another can be moved.
    btrfs: bool,
    /// The next name to try for what is moved up.
    next: u64,
    work: Work,
}

impl Removal<'_> {
    /// Empties and removes every directory that is in `top` now; whether there was anything.
    fn pass(&mut self) -> Result<bool, StoreError> {
        let mut found = false;
        each_name(self.top, self.path, |name| {
            found = true;
            let here = join(self.path, name);
            if self.removed(self.top, name, &here)? {
                return Ok(());
            }
            let dir = open_dir(self.top, name).map_err(at("open", &here))?;
            self.empty(dir.as_fd(), &here)?;
            freed(self.top, name, || unlinkat(self.top, name, AtFlags::REMOVEDIR))
                .map_err(at("remove", &here))?;
            self.work.advance(1);
            Ok(())
        })?;
        Ok(found)
    }

    /// Removes or moves away everything in `dir`.
    fn empty(&mut self, dir: BorrowedFd<'_>, path: &Path) -> Result<(), StoreError> {
        // A directory that changes while it is listed may hide entries: list it until it is empty.
        loop {
            let mut found = false;
            each_name(dir, path, |name| {
                found = true;
                let here = join(path, name);
                if self.removed(dir, name, &here)? {
                    return Ok(());
                }
                match freed(dir, name, || unlinkat(dir, name, AtFlags::REMOVEDIR)) {
                    Ok(()) => {
                        self.work.advance(1);
                        Ok(())
                    }
                    Err(Errno::NOTEMPTY | Errno::EXIST) => self.raise(dir, name, &here),
                    Err(error) => Err(at("remove", &here)(error)),
                }
            })?;
            if !found {
                return Ok(());
            }
        }
    }

    /// Removes a name unless it is an ordinary directory; whether it did.
    fn removed(&self, dir: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<bool, StoreError> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(at("look at", path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            freed(dir, name, || remove(dir, name)).map_err(at("remove", path))?;
        } else if self.btrfs && sys::is_subvolume(&stat) {
            subvolume::remove(dir, name).map_err(at("remove", path))?;
        } else {
            return Ok(false);
        }
        self.work.advance(1);
        Ok(true)
    }

    /// Moves a directory up into `top` under a name that is free there.
    fn raise(&mut self, dir: BorrowedFd<'_>, name: &CStr, here: &Path) -> Result<(), StoreError> {
        loop {
            let free = format!("{}", self.next);
            self.next += 1;
            match freed(dir, name, || renameat(dir, name, self.top, &free)) {
                Ok(()) => return Ok(()),
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                Err(error) => return Err(at("remove", here)(error)),
            }
        }
    }
}

/// Does something about a name that goes; if its flags or its directory's forbid that, without them.
///
/// FreeBSD's base system has such flags (`schg`), and they mean its own users, not who owns the store.
fn freed(
    dir: BorrowedFd<'_>,
    name: &CStr,
    act: impl Fn() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    match act() {
        Err(Errno::PERM) => {
            // One of the two may have none to lose: whether it helped is seen by trying again.
            let _ = sys::set_flags(dir, c".", 0);
            let _ = sys::set_flags(dir, name, 0);
            act()
        }
        done => done,
    }
}

fn remove(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
