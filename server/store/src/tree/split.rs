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
use uuid::Uuid;

use crate::back_end::Part;
use crate::error::at;
use crate::progress::{Unit, Work};
use crate::thin::{Listing, MOUNT_POINT, Plan, Rewrite, below, join, link_to, parent};
use crate::tree::metadata::Lost;
use crate::tree::{Borders, copy, open_dir, remove_contents};
use crate::{StoreError, sys};

/// Which half is to be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Half {
    Base,
    Skeleton,
}

impl Half {
    /// Whether what is at a path of the template, or something below it, is in this half.
    pub(crate) fn has(self, plan: &Plan, path: &[u8]) -> bool {
        match self {
            Self::Base => !plan.moves(path),
            Self::Skeleton => plan.moves(path) || plan.holds(path),
        }
    }
}

/// Copies into a copy of a tree's root what is in its other file systems: those that the half needs
/// anything of. No file in the copy may have flags.
pub(crate) fn fill(
    root: &OwnedFd,
    half: Half,
    parts: &[Part],
    plan: &Plan,
    path: &Path,
) -> Result<(), StoreError> {
    // One that is in another comes with it.
    let mut filled: Vec<&[u8]> = Vec::new();
    let links = format!(".links-{}", Uuid::new_v4());
    for part in parts.iter().filter(|part| !part.path.is_empty()) {
        let inside = part.path.as_bytes();
        if !half.has(plan, inside) || filled.iter().any(|outer| below(inside, outer)) {
            continue;
        }
        let here = full(path, inside);
        let carver = Carver { root, path, owner: (0, 0) };
        // It hid what is there; and where a subvolume was, nothing can be made.
        carver.remove(inside)?;
        carver.directory(inside, 0o700)?;
        carver.directory(links.as_bytes(), 0o700)?;
        let open = |inside: &[u8]| {
            let (dir, name) = place(root.as_fd(), inside)?;
            Ok::<_, Error>(open_dir(&dir, &name)?)
        };
        let target = open(inside).map_err(at("open", &here))?;
        let kept = open(links.as_bytes()).map_err(at("open", &here))?;
        // Flags come when everything else is done.
        let copying = Work::begin(|| format!("copy {}", part.path), Unit::Bytes, None);
        copy(&part.root, &target, &kept, Borders::Cross, &copying, &here)?;
        drop(copying);
        drop(kept);
        carver.remove(links.as_bytes())?;
        filled.push(inside);
    }
    Ok(())
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
            let work = Work::begin(|| "carve".to_owned(), Unit::Files, None);
            for path in doomed.filter(|path| !kept(path) && plan.holds(parent(path))) {
                carver.remove(path)?;
                work.advance(1);
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
    let whole = Part { path: String::new(), root: root.try_clone().map_err(at("open", path))? };
    let listing = super::list(&[whole], path)?;
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
        protect(file, *flags).map_err(at("set the flags of", &full(path, file)))
    })
}

/// Gives files of a copy the flags that keep them from being changed: the last that is done to it. What the
/// file system or this process cannot set is told.
pub(crate) fn fix<'a>(
    root: &OwnedFd,
    files: impl Iterator<Item = &'a (Vec<u8>, u32)>,
    path: &Path,
) -> Result<(), StoreError> {
    let mut lost = Lost::default();
    for (file, flags) in files {
        let here = full(path, file);
        if file.is_empty() {
            // A store of directories moves the root of a tree, which these flags would forbid.
            lost.flags(*flags & sys::FIXED, &here);
            continue;
        }
        let set = place(root.as_fd(), file)
            .and_then(|(dir, name)| sys::set_flags(dir.as_fd(), &name, *flags));
        match set.as_ref().map_err(Error::raw_os_error) {
            Ok(()) => {}
            Err(Some(libc::ENOTTY | libc::EOPNOTSUPP | libc::EPERM | libc::EINVAL)) => {
                lost.flags(*flags & sys::FIXED, &here);
            }
            Err(_) => set.map_err(at("set the flags of", &here))?,
        }
    }
    lost.tell();
    Ok(())
}

struct Carver<'a> {
    root: &'a OwnedFd,
    path: &'a Path,
    owner: (u32, u32),
}

impl Carver<'_> {
    /// Removes a name with everything below it.
    fn remove(&self, file: &[u8]) -> Result<(), StoreError> {
        let path = full(self.path, file);
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
        make().map_err(at("make", &full(self.path, file)))
    }

    fn directory(&self, file: &[u8], mode: u32) -> Result<(), StoreError> {
        let make = || -> Result<(), Error> {
            let (dir, name) = place(self.root.as_fd(), file)?;
            mkdirat(&dir, &name, Mode::RWXU)?;
            self.give(&dir, &name)?;
            let bits = rustix::fs::RawMode::try_from(mode).unwrap_or_default();
            Ok(fchmod(open_dir(&dir, &name)?, Mode::from_bits_truncate(bits))?)
        };
        make().map_err(at("make", &full(self.path, file)))
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
        write().map_err(at("write", &full(self.path, &rewrite.path)))
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
fn full(root: &Path, file: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(&join(root.as_os_str().as_bytes(), file)))
}
