//! Lists everything in a tree.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, fstat, readlinkat, statat};

use crate::back_end::Part;
use crate::error::at;
use crate::progress::{Unit, Work};
use crate::thin::{self, Kind, Listing, Node};
use crate::tree::{MAX_DEPTH, each_name, join, open_dir};
use crate::{Obstacle, StoreError, sys};

/// Lists the file systems of a tree as the one tree that they are; any other that is mounted in it is
/// refused. `path` is the root's, for messages.
pub(crate) fn list(parts: &[Part], path: &Path) -> Result<Listing, StoreError> {
    let parts = parts.iter().map(|part| (part.path.as_bytes(), part.root.as_fd()));
    let work = Work::begin(|| "list".to_owned(), Unit::Files, None);
    let mut lister = Lister { parts: parts.collect(), listing: Listing::default(), work };
    if let Some(&root) = lister.parts.get(b"".as_slice()) {
        lister.directory(root, path, &[], 0)?;
    }
    Ok(lister.listing)
}

struct Lister<'a> {
    /// The file systems by where they are.
    parts: BTreeMap<&'a [u8], BorrowedFd<'a>>,
    listing: Listing,
    work: Work,
}

impl Lister<'_> {
    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &Path,
        below: &[u8],
        depth: usize,
    ) -> Result<(), StoreError> {
        if depth > MAX_DEPTH {
            return Err(StoreError::Deep(path.to_owned()));
        }
        let stat = fstat(dir).map_err(at("look at", path))?;
        let flags = sys::flags(dir, c".", &stat).map_err(at("look at", path))?;
        self.listing.insert(below, node(&stat, Kind::Directory, flags));
        each_name(dir, path, |name| {
            self.entry(dir, name, &join(path, name), &thin::join(below, name.to_bytes()), depth)
        })
    }

    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        inside: &[u8],
        depth: usize,
    ) -> Result<(), StoreError> {
        self.work.advance(1);
        let looked = |error| at::<rustix::io::Errno>("look at", path)(error);
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(looked)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                if let Some(&part) = self.parts.get(inside) {
                    return self.directory(part, path, inside, depth + 1);
                }
                let obstacle = sys::obstacle(dir, name).map_err(at("look at", path))?;
                if let Some(obstacle @ Obstacle::MountPoint) = obstacle {
                    return Err(StoreError::Obstacle { path: path.to_owned(), obstacle });
                }
                let child = open_dir(dir, name).map_err(at("open", path))?;
                return self.directory(child.as_fd(), path, inside, depth + 1);
            }
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
        let flags = sys::flags(dir, name, &stat).map_err(at("look at", path))?;
        self.listing.insert(inside, node(&stat, kind, flags));
        Ok(())
    }
}

fn node(stat: &Stat, kind: Kind, flags: u32) -> Node {
    Node {
        kind,
        mode: sys::mode(stat) & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        flags,
        file: (stat.st_dev, stat.st_ino),
        names: stat.st_nlink,
    }
}
