//! Lists everything in a tree.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, fstat, readlinkat, statat};

use crate::error::at;
use crate::thin::{self, Kind, Listing, Node};
use crate::tree::{MAX_DEPTH, each_name, join, open_dir};
use crate::{Obstacle, StoreError, sys};

/// Lists a directory and everything in it; a mounted file system in it is refused. `path` is the
/// directory's, for messages.
pub(crate) fn list(dir: impl AsFd, path: &Path) -> Result<Listing, StoreError> {
    let mut listing = Listing::default();
    let stat = fstat(&dir).map_err(at("look at", path))?;
    let flags = sys::flags(dir.as_fd(), c".", &stat).map_err(at("look at", path))?;
    listing.insert("", node(&stat, Kind::Directory, flags));
    level(dir, path, &[], 0, &mut listing)?;
    Ok(listing)
}

fn level(
    dir: impl AsFd,
    path: &Path,
    below: &[u8],
    depth: usize,
    listing: &mut Listing,
) -> Result<(), StoreError> {
    let dir = dir.as_fd();
    if depth > MAX_DEPTH {
        return Err(StoreError::Deep(path.to_owned()));
    }
    each_name(dir, path, |name: &CStr| {
        let here = join(path, name);
        let looked = |error| at::<rustix::io::Errno>("look at", &here)(error);
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(looked)?;
        let flags = sys::flags(dir, name, &stat).map_err(at("look at", &here))?;
        let inside = thin::join(below, name.to_bytes());
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => {
                Kind::Link(readlinkat(dir, name, Vec::new()).map_err(looked)?.into_bytes())
            }
            FileType::RegularFile => Kind::Regular,
            // A copy has none where only the program that listens can make one.
            FileType::Socket if !sys::SOCKETS => return Ok(()),
            FileType::Socket
            | FileType::Fifo
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Kind::Special,
        };
        let directory = kind == Kind::Directory;
        listing.insert(inside.clone(), node(&stat, kind, flags));
        if !directory {
            return Ok(());
        }
        let obstacle = sys::obstacle(dir, name).map_err(at("look at", &here))?;
        if let Some(obstacle @ Obstacle::MountPoint) = obstacle {
            return Err(StoreError::Obstacle { path: here, obstacle });
        }
        let child = open_dir(dir, name).map_err(at("open", &here))?;
        level(child, &here, &inside, depth + 1, listing)
    })
}

fn node(stat: &Stat, kind: Kind, flags: u32) -> Node {
    Node {
        kind,
        mode: sys::mode(stat) & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        flags,
        file: stat.st_ino,
        names: stat.st_nlink,
    }
}
