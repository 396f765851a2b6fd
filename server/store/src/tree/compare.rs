//! Finds what differs between two trees.

use std::ffi::{CStr, CString};
use std::io::Error;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, fstat, readlinkat, statat};
use rustix::io::pread;

use crate::error::at;
use crate::sys;
use crate::tree::{MAX_DEPTH, join, open_dir, sorted_names};
use crate::{Change, ChangeKind, FileKind, StoreError};

/// Lists what differs in the directory `new` from `old`, sorted by path.
///
/// Contents are read and compared wherever lengths are equal: a guest can set any time it likes.
/// `prefix` is what stands before every path that is told.
pub(crate) fn compare(
    old: impl AsFd,
    new: impl AsFd,
    prefix: &Path,
) -> Result<Vec<Change>, StoreError> {
    let mut walk = Walk { comparison: Comparison::default(), changes: Vec::new() };
    walk.directories(old.as_fd(), new.as_fd(), prefix, 0)?;
    Ok(walk.changes)
}

/// Whether there is no difference between two trees.
pub(crate) fn equal(old: impl AsFd, new: impl AsFd) -> Result<bool, StoreError> {
    Ok(compare(old, new, Path::new(""))?.is_empty())
}

struct Walk {
    comparison: Comparison,
    changes: Vec<Change>,
}

impl Walk {
    fn directories(
        &mut self,
        old: BorrowedFd<'_>,
        new: BorrowedFd<'_>,
        path: &Path,
        depth: usize,
    ) -> Result<(), StoreError> {
        if depth > MAX_DEPTH {
            return Err(StoreError::Deep(path.to_owned()));
        }
        if self.comparison.directories_differ(old, new).map_err(at("compare", path))? {
            self.tell(path, ChangeKind::Changed, FileKind::Directory);
        }
        for (name, side) in merged(old, new, path)? {
            let here = join(path, &name);
            match side {
                Side::New => self.all(new, &name, &here, ChangeKind::Added, depth)?,
                Side::Old => self.all(old, &name, &here, ChangeKind::Removed, depth)?,
                Side::Both => self.both(old, new, &name, &here, depth)?,
            }
        }
        Ok(())
    }

    fn both(
        &mut self,
        old: BorrowedFd<'_>,
        new: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        depth: usize,
    ) -> Result<(), StoreError> {
        let look = |dir| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(at("look at", path));
        let (before, after) = (look(old)?, look(new)?);
        let kinds =
            (FileType::from_raw_mode(before.st_mode), FileType::from_raw_mode(after.st_mode));
        if kinds == (FileType::Directory, FileType::Directory) {
            let open = |dir| open_dir(dir, name).map_err(at("open", path));
            return self.directories(open(old)?.as_fd(), open(new)?.as_fd(), path, depth + 1);
        }
        if kinds.0 != kinds.1 {
            self.all(old, name, path, ChangeKind::Removed, depth)?;
            return self.all(new, name, path, ChangeKind::Added, depth);
        }
        let differ = self.comparison.files_differ((old, &before), (new, &after), name);
        if differ.map_err(at("compare", path))? {
            self.tell(path, ChangeKind::Changed, kind(kinds.1));
        }
        Ok(())
    }

    /// Tells the same of a file and, if it is a directory, of everything in it.
    fn all(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        what: ChangeKind,
        depth: usize,
    ) -> Result<(), StoreError> {
        if depth > MAX_DEPTH {
            return Err(StoreError::Deep(path.to_owned()));
        }
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(at("look at", path))?;
        let file = kind(FileType::from_raw_mode(stat.st_mode));
        self.tell(path, what.clone(), file);
        if file == FileKind::Directory {
            let child = open_dir(dir, name).map_err(at("open", path))?;
            for name in sorted_names(&child, path)? {
                let here = join(path, &name);
                self.all(child.as_fd(), &name, &here, what.clone(), depth + 1)?;
            }
        }
        Ok(())
    }

    fn tell(&mut self, path: &Path, kind: ChangeKind, file: FileKind) {
        self.changes.push(Change { path: path.to_owned(), kind, file });
    }
}

/// Compares files of the same name.
pub(crate) struct Comparison {
    attributes: sys::Attributes,
    buffers: [Vec<u8>; 2],
}

impl Default for Comparison {
    fn default() -> Self {
        Self { attributes: sys::Attributes::default(), buffers: [vec![0; BUFFER], vec![0; BUFFER]] }
    }
}

impl Comparison {
    /// Whether two directories differ in themselves. Their times do not count: they change with
    /// every name in them.
    pub(crate) fn directories_differ(
        &mut self,
        old: BorrowedFd<'_>,
        new: BorrowedFd<'_>,
    ) -> Result<bool, Error> {
        let (before, after) = (fstat(old)?, fstat(new)?);
        Ok(owner_and_mode(&before) != owner_and_mode(&after)
            || self.attributes_of(old)? != self.attributes_of(new)?)
    }

    /// Whether two files of the same kind and name, which are no directories, differ.
    pub(crate) fn files_differ(
        &mut self,
        (old, before): (BorrowedFd<'_>, &Stat),
        (new, after): (BorrowedFd<'_>, &Stat),
        name: &CStr,
    ) -> Result<bool, Error> {
        let modified = |stat: &Stat| sys::times(stat).last_modification;
        if owner_and_mode(before) != owner_and_mode(after)
            || (modified(before).tv_sec, modified(before).tv_nsec)
                != (modified(after).tv_sec, modified(after).tv_nsec)
        {
            return Ok(true);
        }
        match FileType::from_raw_mode(after.st_mode) {
            FileType::RegularFile => {
                if before.st_size != after.st_size {
                    return Ok(true);
                }
                let (old, new) = (sys::open_regular(old, name)?, sys::open_regular(new, name)?);
                Ok(self.attributes_of(old.as_fd())? != self.attributes_of(new.as_fd())?
                    || self.contents_differ(old.as_fd(), new.as_fd())?)
            }
            FileType::Symlink => Ok(readlinkat(old, name, Vec::new())?
                != readlinkat(new, name, Vec::new())?
                || self.attributes_at(old, name)? != self.attributes_at(new, name)?),
            FileType::BlockDevice | FileType::CharacterDevice => Ok(before.st_rdev
                != after.st_rdev
                || self.attributes_at(old, name)? != self.attributes_at(new, name)?),
            FileType::Directory | FileType::Fifo | FileType::Socket | FileType::Unknown => {
                Ok(self.attributes_at(old, name)? != self.attributes_at(new, name)?)
            }
        }
    }

    fn contents_differ(&mut self, old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<bool, Error> {
        let [left, right] = &mut self.buffers;
        let mut offset = 0;
        loop {
            let read = pread(old, left.as_mut_slice(), offset)?;
            let mut filled = 0;
            while filled < read {
                let room = right.get_mut(filled..read).unwrap_or_default();
                let more = pread(new, room, offset + u64::try_from(filled).unwrap_or(0))?;
                if more == 0 {
                    return Ok(true);
                }
                filled += more;
            }
            if left.get(..read) != right.get(..read) {
                return Ok(true);
            }
            if read == 0 {
                return Ok(false);
            }
            offset += u64::try_from(read).unwrap_or(0);
        }
    }

    fn attributes_of(&mut self, file: BorrowedFd<'_>) -> Result<Vec<Attribute>, Error> {
        let mut found = Vec::new();
        self.attributes.read(file, |name, value| {
            found.push((name.to_owned(), value.to_owned()));
            Ok(())
        })?;
        found.sort();
        Ok(found)
    }

    fn attributes_at(&mut self, dir: BorrowedFd<'_>, file: &CStr) -> Result<Vec<Attribute>, Error> {
        let mut found = Vec::new();
        self.attributes.read_at(dir, file, |name, value| {
            found.push((name.to_owned(), value.to_owned()));
            Ok(())
        })?;
        found.sort();
        Ok(found)
    }
}

type Attribute = (CString, Vec<u8>);

/// In which of two directories a name is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Both,
    New,
    Old,
}

/// The names of two directories, sorted, each once.
pub(crate) fn merged(
    old: impl AsFd,
    new: impl AsFd,
    path: &Path,
) -> Result<Vec<(CString, Side)>, StoreError> {
    let (old, new) = (sorted_names(old, path)?, sorted_names(new, path)?);
    let gone = old.iter().filter(|name| new.binary_search(name).is_err());
    let mut all: Vec<_> = gone.map(|name| (name.clone(), Side::Old)).collect();
    all.extend(new.into_iter().map(|name| {
        let side = if old.binary_search(&name).is_ok() { Side::Both } else { Side::New };
        (name, side)
    }));
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

fn owner_and_mode(stat: &Stat) -> (u32, u32, u32) {
    (stat.st_uid, stat.st_gid, sys::mode(stat))
}

fn kind(file: FileType) -> FileKind {
    match file {
        FileType::BlockDevice => FileKind::Block,
        FileType::CharacterDevice => FileKind::Character,
        FileType::Directory => FileKind::Directory,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::Symlink => FileKind::Symlink,
        FileType::RegularFile | FileType::Unknown => FileKind::Regular,
    }
}

const BUFFER: usize = 128 << 10;
