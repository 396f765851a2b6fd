//! Writes a tree as a stream.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::{Error, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Stat, fstat, major, minor, readlinkat, statat};
use rustix::io::pread;

use super::CHUNK;
use crate::error::at;
use crate::tree::compare::{Comparison, Side, merged};
use crate::tree::{MAX_DEPTH, join, next_range, open_dir, sorted_names};
use crate::{Obstacle, StoreError, sys};

/// Writes the tree at `new`: all of it, or what is not as it is at `base`. `path` is the tree's, for
/// messages.
pub(crate) fn write(
    new: impl AsFd,
    base: Option<BorrowedFd<'_>>,
    path: &Path,
    out: &mut dyn Write,
) -> Result<(), StoreError> {
    let mut writer = Writer {
        out,
        path,
        links: HashMap::new(),
        base_links: HashMap::new(),
        attributes: sys::Attributes::default(),
        comparison: Comparison::default(),
        buffer: vec![0; CHUNK],
    };
    writer.directory(new.as_fd(), base, Path::new(""), 0)?;
    writer.out.write_all(b"E").map_err(at("send", path))
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    path: &'a Path,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
    base_links: HashMap<(u64, u64), PathBuf>,
    attributes: sys::Attributes,
    comparison: Comparison,
    buffer: Vec<u8>,
}

impl Writer<'_> {
    /// Writes what is in a directory, and then the directory's own attributes.
    fn directory(
        &mut self,
        new: BorrowedFd<'_>,
        base: Option<BorrowedFd<'_>>,
        below: &Path,
        depth: usize,
    ) -> Result<(), StoreError> {
        let path = self.path.join(below);
        if depth > MAX_DEPTH {
            return Err(StoreError::Deep(path));
        }
        let names = match base {
            Some(base) => merged(base, new, &path)?,
            None => {
                let names = sorted_names(new, &path)?.into_iter();
                names.map(|name| (name, Side::New)).collect()
            }
        };
        for (name, side) in names {
            let here = join(below, &name);
            if side == Side::Old {
                self.record(b'R', &here).map_err(at("send", &path))?;
                continue;
            }
            let base = base.filter(|_| side == Side::Both);
            self.entry(new, base, &name, &here, depth)?;
        }
        let finish = |writer: &mut Self| {
            let stat = fstat(new)?;
            writer.record(b'M', below)?;
            writer.meta(&stat, |attributes, each| attributes.read(new, each))
        };
        finish(self).map_err(at("send", &path))
    }

    fn entry(
        &mut self,
        new: BorrowedFd<'_>,
        base: Option<BorrowedFd<'_>>,
        name: &CStr,
        below: &Path,
        depth: usize,
    ) -> Result<(), StoreError> {
        let path = self.path.join(below);
        let look = |dir| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(at("look at", &path));
        let stat = look(new)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let before = base.map(|base| look(base).map(|old| (base, old))).transpose()?;
        let same_kind = |old: &Stat| FileType::from_raw_mode(old.st_mode) == kind;
        if kind == FileType::Directory {
            if sys::obstacle(new, name).map_err(at("look at", &path))? == Some(Obstacle::MountPoint)
            {
                return Err(StoreError::Obstacle { path, obstacle: Obstacle::MountPoint });
            }
            let child = open_dir(new, name).map_err(at("open", &path))?;
            let base = match before {
                Some((base, old)) if same_kind(&old) => {
                    Some(open_dir(base, name).map_err(at("open", &path))?)
                }
                Some(_) => {
                    self.record(b'R', below).map_err(at("send", &path))?;
                    None
                }
                None => None,
            };
            if base.is_none() {
                self.record(b'D', below).map_err(at("send", &path))?;
            }
            let base = base.as_ref().map(OwnedFd::as_fd);
            return self.directory(child.as_fd(), base, below, depth + 1);
        }
        let first = first_name(&mut self.links, &stat, below);
        if let Some((base, old)) = before {
            let linked = same_kind(&old) && first_name(&mut self.base_links, &old, below) == first;
            let equal = linked
                && !self
                    .comparison
                    .files_differ((base, &old), (new, &stat), name)
                    .map_err(at("compare", &path))?;
            if equal {
                return Ok(());
            }
            self.record(b'R', below).map_err(at("send", &path))?;
        }
        self.file(new, name, &stat, below, &first).map_err(at("send", &path))
    }

    fn file(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        below: &Path,
        first: &Path,
    ) -> Result<(), Error> {
        if first != below {
            self.record(b'L', below)?;
            return self.text(first.as_os_str().as_bytes());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let file = sys::open_regular(dir, name)?;
                let stat = fstat(&file)?;
                self.record(b'F', below)?;
                self.meta(&stat, |attributes, each| attributes.read(file.as_fd(), each))?;
                self.content(&file, u64::try_from(stat.st_size).unwrap_or(0))
            }
            FileType::Symlink => {
                self.record(b'S', below)?;
                self.meta(stat, |attributes, each| attributes.read_at(dir, name, each))?;
                let says = readlinkat(dir, name, Vec::new())?;
                self.text(says.as_bytes())
            }
            FileType::BlockDevice
            | FileType::CharacterDevice
            | FileType::Fifo
            | FileType::Socket => {
                self.record(b'N', below)?;
                self.meta(stat, |attributes, each| attributes.read_at(dir, name, each))?;
                self.out.write_all(&major(stat.st_rdev).to_be_bytes())?;
                self.out.write_all(&minor(stat.st_rdev).to_be_bytes())
            }
            FileType::Directory | FileType::Unknown => {
                Err(Error::other("it changes while it is read"))
            }
        }
    }

    /// Writes the ranges that are no holes, each with its offset, and then an empty one at the end.
    fn content(&mut self, file: &OwnedFd, size: u64) -> Result<(), Error> {
        let mut offset = 0;
        while let Some((data, end)) = next_range(file, offset, size)? {
            offset = data;
            while offset < end {
                let want = usize::try_from(end - offset).unwrap_or(CHUNK).min(CHUNK);
                let read = pread(file, self.buffer.get_mut(..want).unwrap_or_default(), offset)?;
                if read == 0 {
                    // The file became shorter since it was opened.
                    break;
                }
                self.out.write_all(&offset.to_be_bytes())?;
                self.out.write_all(&u32::try_from(read).unwrap_or(0).to_be_bytes())?;
                self.out.write_all(self.buffer.get(..read).unwrap_or_default())?;
                offset += u64::try_from(read).unwrap_or(0);
            }
            offset = end;
        }
        self.out.write_all(&size.to_be_bytes())?;
        self.out.write_all(&0_u32.to_be_bytes())
    }

    fn record(&mut self, tag: u8, below: &Path) -> Result<(), Error> {
        self.out.write_all(&[tag])?;
        self.text(below.as_os_str().as_bytes())
    }

    fn text(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let len = u16::try_from(bytes.len()).map_err(|_| Error::other("its path is too long"))?;
        self.out.write_all(&len.to_be_bytes())?;
        self.out.write_all(bytes)
    }

    /// Writes mode, owner, times and extended attributes.
    fn meta(
        &mut self,
        stat: &Stat,
        read: impl FnOnce(&mut sys::Attributes, &mut EachAttribute<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for number in [sys::mode(stat), stat.st_uid, stat.st_gid] {
            self.out.write_all(&number.to_be_bytes())?;
        }
        let times = sys::times(stat);
        for time in [times.last_access, times.last_modification] {
            self.out.write_all(&time.tv_sec.to_be_bytes())?;
            self.out.write_all(&u32::try_from(time.tv_nsec).unwrap_or(0).to_be_bytes())?;
        }
        let mut all: Vec<(CString, Vec<u8>)> = Vec::new();
        read(&mut self.attributes, &mut |name, value| {
            all.push((name.to_owned(), value.to_owned()));
            Ok(())
        })?;
        self.out.write_all(&u32::try_from(all.len()).unwrap_or(0).to_be_bytes())?;
        for (name, value) in all {
            self.text(name.to_bytes())?;
            self.out.write_all(&u32::try_from(value.len()).unwrap_or(0).to_be_bytes())?;
            self.out.write_all(&value)?;
        }
        Ok(())
    }
}

type EachAttribute<'a> = dyn FnMut(&CStr, &[u8]) -> Result<(), Error> + 'a;

/// The name by which a file came first: its own, unless it has several.
fn first_name(links: &mut HashMap<(u64, u64), PathBuf>, stat: &Stat, below: &Path) -> PathBuf {
    if stat.st_nlink <= 1 {
        return below.to_owned();
    }
    links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| below.to_owned()).clone()
}
