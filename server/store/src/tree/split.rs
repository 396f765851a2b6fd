//! Makes a base or a skeleton of a copy of a template.
//!
//! The copy is nobody's yet: what goes wrong on the way costs the copy.

use std::ffi::CString;
use std::io::Error;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Uid, chownat, fchmod, mkdirat, statat, symlinkat, unlinkat,
    utimensat,
};

use crate::error::at;
use crate::thin::{Listing, MOUNT_POINT, Plan, Rewrite, join, link_to, parent};
use crate::tree::{open_dir, remove_contents};
use crate::{StoreError, sys};

/// Which half is to be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Half {
    Base,
    Skeleton,
}

/// Makes one half of a copy of the tree that was planned for. No file in the copy may have flags.
pub(crate) fn carve(
    root: &OwnedFd,
    half: Half,
    tree: &Listing,
    plan: &Plan,
    path: &Path,
) -> Result<(), StoreError> {
    let carver = Carver { root, path, owner: tree.get(b"").map_or((0, 0), |root| root.owner) };
    match half {
        Half::Base => {
            for place in &plan.moved {
                carver.remove(place.as_bytes())?;
            }
            for place in plan.places() {
                carver.link(place.as_bytes(), link_to(place).as_bytes())?;
            }
            if tree.get(MOUNT_POINT.as_bytes()).is_none() {
                carver.directory(MOUNT_POINT.as_bytes(), 0o755)?;
            }
        }
        Half::Skeleton => {
            let kept = |path: &[u8]| plan.moves(path) || plan.holds(path);
            let doomed = tree.iter().map(|(path, _)| path);
            // What is below something that goes, goes with it.
            for path in doomed.filter(|path| !kept(path) && plan.holds(parent(path))) {
                carver.remove(path)?;
            }
            for (place, mode) in &plan.created {
                carver.directory(place.as_bytes(), *mode)?;
            }
        }
    }
    let ours = |rewrite: &&Rewrite| plan.moves(&rewrite.path) == (half == Half::Skeleton);
    plan.rewritten.iter().filter(ours).try_for_each(|rewrite| carver.rewrite(rewrite))
}

/// Takes the flags off every file of a tree.
pub(crate) fn unprotect(root: &OwnedFd, path: &Path) -> Result<(), StoreError> {
    let listing = super::list(root, path)?;
    let flagged = listing.iter().filter(|(_, node)| node.flags != 0);
    let none: Vec<_> = flagged.map(|(path, _)| (path.to_vec(), 0)).collect();
    protect(root, none.iter(), path)
}

/// Gives files their flags.
pub(crate) fn protect<'a>(
    root: &OwnedFd,
    mut files: impl Iterator<Item = &'a (Vec<u8>, u32)>,
    path: &Path,
) -> Result<(), StoreError> {
    let protect = |file: &[u8], flags| -> Result<(), Error> {
        let (dir, name) = place(root.as_fd(), file)?;
        let name = if file.is_empty() { c".".to_owned() } else { name };
        sys::set_flags(dir.as_fd(), &name, flags)
    };
    files.try_for_each(|(file, flags)| {
        protect(file, *flags).map_err(at("set the flags of", &below(path, file)))
    })
}

struct Carver<'a> {
    root: &'a OwnedFd,
    path: &'a Path,
    owner: (u32, u32),
}

impl Carver<'_> {
    /// Removes a name with everything below it.
    fn remove(&self, file: &[u8]) -> Result<(), StoreError> {
        let path = below(self.path, file);
        let (dir, name) = place(self.root.as_fd(), file).map_err(at("open", &path))?;
        let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(at("look at", &path))?;
        let mut flags = AtFlags::empty();
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            remove_contents(open_dir(&dir, &name).map_err(at("open", &path))?, &path)?;
            flags = AtFlags::REMOVEDIR;
        }
        unlinkat(&dir, &name, flags).map_err(at("remove", &path))
    }

    fn link(&self, file: &[u8], text: &[u8]) -> Result<(), StoreError> {
        let make = || -> Result<(), Error> {
            let (dir, name) = place(self.root.as_fd(), file)?;
            symlinkat(text, &dir, &name)?;
            Ok(self.give(&dir, &name)?)
        };
        make().map_err(at("make", &below(self.path, file)))
    }

    fn directory(&self, file: &[u8], mode: u32) -> Result<(), StoreError> {
        let make = || -> Result<(), Error> {
            let (dir, name) = place(self.root.as_fd(), file)?;
            mkdirat(&dir, &name, Mode::RWXU)?;
            self.give(&dir, &name)?;
            let bits = rustix::fs::RawMode::try_from(mode).unwrap_or_default();
            Ok(fchmod(open_dir(&dir, &name)?, Mode::from_bits_truncate(bits))?)
        };
        make().map_err(at("make", &below(self.path, file)))
    }

    /// Lets a link say something else, and keeps its owner and its times.
    fn rewrite(&self, rewrite: &Rewrite) -> Result<(), StoreError> {
        let write = || -> Result<(), Error> {
            let (dir, name) = place(self.root.as_fd(), &rewrite.path)?;
            let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            unlinkat(&dir, &name, AtFlags::empty())?;
            symlinkat(rewrite.to.as_slice(), &dir, &name)?;
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            chownat(&dir, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(utimensat(&dir, &name, &sys::times(&stat), AtFlags::SYMLINK_NOFOLLOW)?)
        };
        write().map_err(at("write", &below(self.path, &rewrite.path)))
    }

    /// Gives something new to whom the root belongs.
    fn give(&self, dir: &OwnedFd, name: &CString) -> rustix::io::Result<()> {
        let (uid, gid) = self.owner;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// The directory that a path of a tree is in, and its last name. No link is followed.
fn place(root: BorrowedFd<'_>, path: &[u8]) -> Result<(OwnedFd, CString), Error> {
    let mut dir = root.try_clone_to_owned()?;
    for name in parent(path).split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        dir = open_dir(&dir, name)?;
    }
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    Ok((dir, CString::new(name)?))
}

/// The path of a file for messages.
fn below(root: &Path, file: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(&join(root.as_os_str().as_bytes(), file)))
}
