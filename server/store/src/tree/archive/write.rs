//! Writes a tree as an archive.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io::{Error, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pax::archive::{EntryType, MAX_RANGES};
use pax::header::{self, Head};
use pax::record;
use pax::sparse::{self, Range};
use rustix::fs::{AtFlags, FileType, Stat, fstat, major, minor, readlinkat, statat};
use rustix::io::pread;

use super::{KEPT, REMOVE, records};
use crate::error::at;
use crate::tree::compare::{Comparison, Side, merged};
use crate::tree::metadata::Metadata;
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
        buffer: vec![0; BUFFER],
    };
    writer.directory(new.as_fd(), base, Path::new(""), 0)
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
    /// Writes a directory, and then what is in it.
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
        self.head_of_directory(new, base.is_some(), below).map_err(at("send", &path))?;
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
                self.remove(&here).map_err(at("send", &path))?;
                continue;
            }
            let base = base.filter(|_| side == Side::Both);
            self.entry(new, base, &name, &here, depth)?;
        }
        Ok(())
    }

    fn head_of_directory(
        &mut self,
        dir: BorrowedFd<'_>,
        kept: bool,
        below: &Path,
    ) -> Result<(), Error> {
        let metadata = Metadata::of(dir, &fstat(dir)?, &mut self.attributes)?;
        let mut records = records::of(&metadata);
        if kept {
            record::push(&mut records, KEPT, "1");
        }
        let name = match below.as_os_str().as_bytes() {
            [] => b"./".to_vec(),
            name => [name, b"/"].concat(),
        };
        self.head(&head(EntryType::Directory, &name, &metadata), &records)
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
                    self.remove(below).map_err(at("send", &path))?;
                    None
                }
                None => None,
            };
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
            self.remove(below).map_err(at("send", &path))?;
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
        let (path, kind) = (below.as_os_str().as_bytes(), FileType::from_raw_mode(stat.st_mode));
        if kind == FileType::Socket {
            // An archive has none, and it is made again by the program that listens.
            return Ok(());
        }
        if kind == FileType::RegularFile && first == below {
            let file = sys::open_regular(dir, name)?;
            return self.regular(&file, path);
        }
        let metadata = Metadata::of_link(dir, name, stat, &mut self.attributes)?;
        if first != below {
            // What else belongs to the file came with its first name.
            let link = first.as_os_str().as_bytes();
            return self.head(&Head { link, ..head(EntryType::Link, path, &metadata) }, &[]);
        }
        let records = records::of(&metadata);
        let head = |kind| head(kind, path, &metadata);
        let device = (major(stat.st_rdev), minor(stat.st_rdev));
        match kind {
            FileType::Symlink => {
                let says = readlinkat(dir, name, Vec::new())?;
                self.head(&Head { link: says.as_bytes(), ..head(EntryType::Symlink) }, &records)
            }
            FileType::BlockDevice => {
                self.head(&Head { device, ..head(EntryType::Block) }, &records)
            }
            FileType::CharacterDevice => {
                self.head(&Head { device, ..head(EntryType::Char) }, &records)
            }
            FileType::Fifo => self.head(&head(EntryType::Fifo), &records),
            FileType::Directory | FileType::RegularFile | FileType::Socket | FileType::Unknown => {
                Err(changes())
            }
        }
    }

    fn regular(&mut self, file: &OwnedFd, path: &[u8]) -> Result<(), Error> {
        let stat = fstat(file)?;
        let metadata = Metadata::of(file.as_fd(), &stat, &mut self.attributes)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut ranges = ranges(file, size)?;
        let data: u64 = ranges.iter().map(|(_, length)| length).sum();
        let mut map = Vec::new();
        if data < size {
            // What ends in a hole ends in a range of no bytes, as GNU tar needs it.
            if ranges.last().is_none_or(|(start, length)| start + length < size) {
                ranges.push((size, 0));
            }
            map = sparse::map(&ranges);
        }
        let stored = data + u64::try_from(map.len()).unwrap_or(0);
        let sparse = (data < size).then_some(size);
        let head = Head { stored, sparse, ..head(EntryType::Regular, path, &metadata) };
        self.head(&head, &records::of(&metadata))?;
        self.out.write_all(&map)?;
        for (start, length) in ranges {
            self.range(file, start, length)?;
        }
        let filling = usize::try_from(header::filling(stored)).unwrap_or(0);
        self.out.write_all([0; pax::BLOCK].get(..filling).unwrap_or_default())
    }

    fn range(&mut self, file: &OwnedFd, mut offset: u64, mut rest: u64) -> Result<(), Error> {
        while rest > 0 {
            let want = usize::try_from(rest).unwrap_or(BUFFER).min(BUFFER);
            let read = pread(file, self.buffer.get_mut(..want).unwrap_or_default(), offset)?;
            if read == 0 {
                // It became shorter, and the archive says already how much there is.
                return Err(changes());
            }
            self.out.write_all(self.buffer.get(..read).unwrap_or_default())?;
            let read = u64::try_from(read).unwrap_or(rest);
            offset += read;
            rest = rest.saturating_sub(read);
        }
        Ok(())
    }

    fn remove(&mut self, below: &Path) -> Result<(), Error> {
        let mut records = Vec::new();
        record::push(&mut records, REMOVE, below.as_os_str().as_bytes());
        self.out.write_all(&header::global(b"netbe", &records))
    }

    fn head(&mut self, head: &Head<'_>, records: &[u8]) -> Result<(), Error> {
        self.out.write_all(&head.write(records))
    }
}

/// The ranges of a file that are no holes. One with more than any reader takes is refused: to read its holes
/// could take for ever.
fn ranges(file: &OwnedFd, size: u64) -> Result<Vec<Range>, Error> {
    let (mut ranges, mut offset) = (Vec::new(), 0);
    while let Some((start, end)) = next_range(file, offset, size)? {
        if ranges.len() + 2 >= MAX_RANGES {
            return Err(Error::other(
                "its data lies in too many pieces: copy it to a file without holes",
            ));
        }
        ranges.push((start, end - start));
        offset = end;
    }
    Ok(ranges)
}

fn head<'a>(kind: EntryType, name: &'a [u8], metadata: &Metadata) -> Head<'a> {
    Head {
        kind,
        name,
        link: b"",
        mode: metadata.mode & 0o7777,
        uid: metadata.owner.0,
        gid: metadata.owner.1,
        modified: records::time(metadata.times.last_modification),
        accessed: records::time(metadata.times.last_access),
        device: (0, 0),
        stored: 0,
        sparse: None,
    }
}

fn changes() -> Error {
    Error::other("it changes while it is read")
}

/// The name by which a file came first: its own, unless it has several.
fn first_name(links: &mut HashMap<(u64, u64), PathBuf>, stat: &Stat, below: &Path) -> PathBuf {
    if stat.st_nlink <= 1 {
        return below.to_owned();
    }
    links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| below.to_owned()).clone()
}

const BUFFER: usize = 128 << 10;
