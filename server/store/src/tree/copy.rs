//! Copies a tree with everything that a system can have in its files.

use std::ffi::{CStr, CString};
use std::io::Error;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dev, FileType, Mode, OFlags, Stat, fstat, ftruncate, linkat, mkdirat, mknodat, openat,
    readlinkat, symlinkat,
};
use rustix::io::{Errno, pread, pwrite};

use crate::error::at;
use crate::progress::Work;
use crate::sys;
use crate::tree::metadata::{Keeper, Metadata};
use crate::tree::{MAX_DEPTH, TRIES, join, look, next_range, open_dir, sorted_names};
use crate::{Obstacle, StoreError};

/// Copies what is in the directory `source`, and that directory's own metadata, to `target`.
///
/// Kept are owners, modes, times, extended attributes and access control lists, flags, hard links within the
/// tree, symbolic links, device nodes, FIFOs, sockets and holes; what the file system of `target` cannot hold is
/// told. Flags that keep a file from being changed are not set but returned, by paths below `source`: nothing
/// could be done to the copy any more ([`fix`](super::fix())). `links` is an empty directory on the same file system as
/// `target`: it holds one name of each file that has several, until all are found. `path` is the
/// source's, for messages. Of `work` as much is done as the files are long that were copied, holes and all.
pub(crate) fn copy(
    source: impl AsFd,
    target: impl AsFd,
    links: impl AsFd,
    borders: Borders,
    work: &Work,
    path: &Path,
) -> Result<Fixed, StoreError> {
    let mut copier = Copier {
        links: links.as_fd(),
        borders,
        top: path,
        attributes: sys::Attributes::default(),
        keeper: Keeper::default(),
        fixed: Vec::new(),
        buffer: vec![0; BUFFER],
        work,
    };
    copier.directory(source.as_fd(), target.as_fd(), path, 0)?;
    copier.keeper.lost.tell();
    Ok(copier.fixed)
}

/// Flags that keep files from being changed, by paths below a root.
pub(crate) type Fixed = Vec<(Vec<u8>, u32)>;

/// What becomes of the file systems that are mounted in a tree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Borders {
    /// They belong to it, and what is in them is copied too.
    Cross,
    /// They are somebody else's: the tree is not copied.
    Refuse,
}

/// What a name stands for, and cannot be taken away any more.
enum Held {
    /// A directory that another file system is mounted on.
    Border,
    Directory(OwnedFd),
    Link {
        says: CString,
        metadata: Metadata,
    },
    Node {
        kind: FileType,
        metadata: Metadata,
    },
    /// What is not copied.
    Nothing,
    Regular(OwnedFd),
}

struct Copier<'a> {
    links: BorrowedFd<'a>,
    borders: Borders,
    top: &'a Path,
    attributes: sys::Attributes,
    keeper: Keeper,
    fixed: Fixed,
    buffer: Vec<u8>,
    work: &'a Work,
}

impl Copier<'_> {
    fn directory(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        path: &Path,
        depth: usize,
    ) -> Result<(), StoreError> {
        if depth > MAX_DEPTH {
            return Err(StoreError::Deep(path.to_owned()));
        }
        let stat = fstat(source).map_err(at("look at", path))?;
        for name in sorted_names(source, path)? {
            self.entry(source, target, &name, &join(path, &name), depth)?;
        }
        // Last, because every entry made in it changed its times.
        self.finish(source, target, &stat, path).map_err(at("copy", path))
    }

    fn entry(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        depth: usize,
    ) -> Result<(), StoreError> {
        let Some((stat, held)) = self.hold(source, name, path)? else { return Ok(()) };
        // Subvolumes of btrfs number their files each for itself.
        let several = stat.st_nlink > 1 && !matches!(held, Held::Directory(_));
        let file = several.then(|| format!("{}-{}", stat.st_dev, stat.st_ino));
        if let Some(file) = &file {
            match linkat(self.links, file, target, name, AtFlags::empty()) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(at("copy", path)(error)),
            }
        }
        match held {
            Held::Regular(from) => self.regular(&from, &stat, target, name, path),
            Held::Link { says, metadata } => self.link(target, name, &says, &metadata, path),
            Held::Node { kind, metadata } => {
                self.node(target, name, (kind, stat.st_rdev), &metadata, path)
            }
            Held::Directory(from) => {
                mkdirat(target, name, Mode::RWXU).map_err(at("copy", path))?;
                let to = open_dir(target, name).map_err(at("copy", path))?;
                return self.directory(from.as_fd(), to.as_fd(), path, depth + 1);
            }
            Held::Border => {
                let (path, obstacle) = (path.to_owned(), Obstacle::MountPoint);
                return Err(StoreError::Obstacle { path, obstacle });
            }
            Held::Nothing => return Ok(()),
        }
        .map_err(at("copy", path))?;
        if let Some(file) = &file {
            linkat(target, name, self.links, file, AtFlags::empty()).map_err(at("copy", path))?;
        }
        Ok(())
    }

    /// Takes hold of what a name stands for, before anything is made of it; `None` if it is gone.
    fn hold(
        &mut self,
        source: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
    ) -> Result<Option<(Stat, Held)>, StoreError> {
        let mut tries = 0;
        loop {
            let Some(stat) = look(source, name, path)? else { return Ok(None) };
            tries += 1;
            match self.held(source, name, stat) {
                // It may be something else than it was a moment ago.
                Err(_) if tries < TRIES => {}
                held => return held.map(Some).map_err(at("open", path)),
            }
        }
    }

    /// Does so if it is still what it was looked at for.
    fn held(
        &mut self,
        source: BorrowedFd<'_>,
        name: &CStr,
        stat: Stat,
    ) -> Result<(Stat, Held), Error> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let held = match kind {
            FileType::Directory => {
                if self.borders == Borders::Refuse
                    && sys::obstacle(source, name)? == Some(Obstacle::MountPoint)
                {
                    Held::Border
                } else {
                    Held::Directory(open_dir(source, name)?)
                }
            }
            FileType::RegularFile => {
                let file = sys::open_regular(source, name)?;
                let stat = fstat(&file)?;
                return Ok((stat, Held::Regular(file)));
            }
            FileType::Symlink => Held::Link {
                says: readlinkat(source, name, Vec::new())?,
                metadata: Metadata::of_link(source, name, &stat, &mut self.attributes)?,
            },
            // A socket is made again by the program that listens; nothing else is left.
            FileType::Socket if !sys::SOCKETS => Held::Nothing,
            FileType::Unknown => Held::Nothing,
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice => {
                let metadata = Metadata::of_link(source, name, &stat, &mut self.attributes)?;
                Held::Node { kind, metadata }
            }
        };
        Ok((stat, held))
    }

    fn regular(
        &mut self,
        from: &OwnedFd,
        stat: &Stat,
        target: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
    ) -> Result<(), Error> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if sys::reflink(from, &to) {
            self.work.advance(size);
        } else {
            self.content(from, &to, size)?;
        }
        self.finish(from.as_fd(), to.as_fd(), stat, path)
    }

    /// Copies `size` bytes and leaves out the holes among them.
    fn content(&mut self, from: &OwnedFd, to: &OwnedFd, size: u64) -> Result<(), Error> {
        let mut offset = 0;
        while let Some((data, end)) = next_range(from, offset, size)? {
            self.work.advance(data.saturating_sub(offset));
            self.range(from, to, data, end)?;
            offset = end;
        }
        self.work.advance(size.saturating_sub(offset));
        ftruncate(to, size)?;
        Ok(())
    }

    fn range(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        mut offset: u64,
        end: u64,
    ) -> Result<(), Error> {
        while offset < end {
            if let Some(copied) = sys::copy_range(from, to, offset, end - offset)? {
                if copied == 0 {
                    break;
                }
                offset += copied;
                self.work.advance(copied);
                continue;
            }
            let want = usize::try_from(end - offset).unwrap_or(BUFFER).min(BUFFER);
            let room = self.buffer.get_mut(..want).unwrap_or_default();
            let read = pread(from, room, offset)?;
            let mut rest = self.buffer.get(..read).unwrap_or_default();
            if rest.is_empty() {
                // The file became shorter since it was opened.
                break;
            }
            self.work.advance(u64::try_from(read).unwrap_or(0));
            while !rest.is_empty() {
                let written = pwrite(to, rest, offset)?;
                rest = rest.get(written..).unwrap_or_default();
                offset += u64::try_from(written).unwrap_or(0);
            }
        }
        Ok(())
    }

    /// Gives an open file or directory the metadata of another.
    fn finish(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        stat: &Stat,
        path: &Path,
    ) -> Result<(), Error> {
        let metadata = Metadata::of(from, stat, &mut self.attributes)?;
        metadata.give(to, path, &mut self.keeper)?;
        self.remember(&metadata, path);
        Ok(())
    }

    fn link(
        &mut self,
        target: BorrowedFd<'_>,
        name: &CStr,
        says: &CStr,
        metadata: &Metadata,
        path: &Path,
    ) -> Result<(), Error> {
        symlinkat(says, target, name)?;
        metadata.give_link(target, name, path, &mut self.keeper)?;
        self.remember(metadata, path);
        Ok(())
    }

    fn node(
        &mut self,
        target: BorrowedFd<'_>,
        name: &CStr,
        (kind, device): (FileType, Dev),
        metadata: &Metadata,
        path: &Path,
    ) -> Result<(), Error> {
        mknodat(target, name, kind, Mode::RUSR | Mode::WUSR, device)?;
        metadata.give_link(target, name, path, &mut self.keeper)?;
        self.remember(metadata, path);
        Ok(())
    }

    /// Notes down flags that are to be set at the end.
    fn remember(&mut self, metadata: &Metadata, path: &Path) {
        let below = path.strip_prefix(self.top).unwrap_or(path);
        let below = below.as_os_str().as_bytes().to_vec();
        self.fixed.extend(metadata.fixed().map(|flags| (below, flags)));
    }
}

const BUFFER: usize = 256 << 10;
