//! Unpacks tar archives into a boot environment, with everything that a system can have in its files.
//!
//! An archive may be hostile. Its names are claims: one with `..` is refused, and every other is
//! resolved inside the root, whatever links were unpacked before. Its sizes are claims too: nothing is
//! allocated by them, and a file that is shorter than it says means that the archive is cut.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use hostfs::{Attributes, Flags, Inside, InsideError, Special};
use tar::{Archive, Entry, EntryType, Header};

use super::error::of_archive;
use super::room::Room;
use super::{Dropped, InstallError, acl, packed};

/// Unpacks archives one over the other, then gives directories and flags their last touch.
pub(super) struct Unpacker<'a> {
    inside: &'a Inside,
    /// Set at the end, because every entry made in a directory changes its times.
    directories: BTreeMap<PathBuf, Attributes>,
    /// Access control lists, as extended attributes. Set at the end, because files inherit from the
    /// directories that they are made in.
    lists: BTreeMap<PathBuf, Vec<(OsString, Vec<u8>)>>,
    /// Set at the end, because nothing can be done to an immutable file.
    flags: BTreeMap<PathBuf, Flags>,
    dropped: Dropped,
    room: Room<'a>,
    buffer: Vec<u8>,
}

impl<'a> Unpacker<'a> {
    /// Begins with the root of a boot environment.
    pub(super) fn new(inside: &'a Inside, room: Room<'a>) -> Self {
        let (directories, lists, flags) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (dropped, buffer) = (Dropped::default(), vec![0; BUFFER]);
        Self { inside, directories, lists, flags, dropped, room, buffer }
    }

    /// Unpacks one archive, packed by gzip, xz, zstd or not at all. `name` is for messages.
    pub(super) fn unpack(&mut self, source: impl Read, name: &Path) -> Result<(), InstallError> {
        let label = name.file_name().unwrap_or(name.as_os_str()).to_string_lossy().into_owned();
        let packed = packed::unpack(source).map_err(of_archive(name, &label))?;
        let meter = Meter::default();
        let mut archive = Archive::new(Metered { source: packed, meter: &meter });
        let unpacked = self.entries(&mut archive, &meter, name, &label);
        if meter.ended.get() {
            // A whole archive ends in two empty blocks.
            return Err(InstallError::Cut(label));
        }
        unpacked?;
        meter.left.set(None);
        // To the end: packed files have their checksum there.
        let mut rest = archive.into_inner();
        let rest = io::copy(&mut rest, &mut io::sink());
        rest.map_err(of_archive(name, &label)).map(drop)
    }

    fn entries(
        &mut self,
        archive: &mut Archive<impl Read>,
        meter: &Meter,
        name: &Path,
        label: &str,
    ) -> Result<(), InstallError> {
        let bad = of_archive(name, label);
        meter.left.set(Some(MAX_HEADER));
        for entry in archive.entries().map_err(&bad)? {
            let mut entry = entry.map_err(&bad)?;
            meter.left.set(None);
            // Its inode and its name; its last block is on average half full.
            self.room.take(BLOCK_OF_FILES).map_err(&bad)?;
            self.entry(&mut entry, name, label)?;
            // What is left of it has to be passed before the next header is counted.
            io::copy(&mut entry, &mut io::sink()).map_err(&bad)?;
            meter.left.set(Some(MAX_HEADER));
        }
        Ok(())
    }

    /// Finishes directories, sets access control lists, then flags unless they are not wanted. Returns
    /// what the file system could not keep.
    pub(super) fn finish(mut self, keep_flags: bool) -> Result<Dropped, InstallError> {
        let failed = |error| InstallError::Inside { archive: "a directory".to_owned(), error };
        for (path, attributes) in &self.directories {
            match self.inside.finish_dir(path, attributes) {
                // Another entry took its place.
                Ok(()) | Err(InsideError::Missing(_) | InsideError::NotFile(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        // After the modes: a change of one is a change of the other.
        for (path, lists) in std::mem::take(&mut self.lists) {
            for (name, value) in lists {
                match self.inside.set_extended(&path, &name, &value) {
                    Ok(true) | Err(InsideError::Missing(_) | InsideError::NotFile(_)) => {}
                    Ok(false) => self.dropped.note(LIST, &path),
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        for (path, flags) in std::mem::take(&mut self.flags) {
            let lost = if keep_flags {
                match self.inside.set_flags(&path, flags) {
                    Ok(lost) => lost,
                    Err(InsideError::Missing(_)) => continue,
                    Err(_) => flags,
                }
            } else {
                flags
            };
            if !lost.is_empty() {
                self.dropped.note(format!("the flags {lost}"), &path);
            }
        }
        Ok(self.dropped)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "archives may have kinds without a name")]
    fn entry(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        archive: &Path,
        label: &str,
    ) -> Result<(), InstallError> {
        let bad = of_archive(archive, label);
        let extra = Extra::of(entry).map_err(&bad)?;
        let name = extra.name.clone().unwrap_or_else(|| path_of(&entry.path_bytes()));
        let outside =
            |name: &Path| InstallError::Name { archive: label.to_owned(), name: name.to_owned() };
        let path = inner(&name).ok_or_else(|| outside(&name))?;
        let kind = entry.header().entry_type();
        let attributes = attributes(entry.header(), &extra).map_err(&bad)?;
        let failed = |error| InstallError::Inside { archive: label.to_owned(), error };
        match kind {
            EntryType::XGlobalHeader => return Ok(()),
            EntryType::Directory => {
                self.inside.make_dir(&path).map_err(failed)?;
                self.directories.insert(path.clone(), attributes);
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = OsStr::from_bytes(&target);
                self.inside.make_symlink(&path, target, &attributes).map_err(failed)?;
            }
            EntryType::Link => {
                let existing = path_of(&entry.link_name_bytes().unwrap_or_default());
                let existing = inner(&existing).ok_or_else(|| outside(&existing))?;
                self.inside.make_link(&path, &existing).map_err(failed)?;
                // Its attributes were given with its first name.
                return Ok(());
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let special = special(entry.header(), kind).map_err(&bad)?;
                match self.inside.make_special(&path, special, &attributes) {
                    Err(InsideError::Io { source, .. })
                        if source.kind() == io::ErrorKind::PermissionDenied =>
                    {
                        self.dropped.note("the device node itself", &path);
                    }
                    other => other.map_err(failed)?,
                }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let file = self.inside.create(&path).map_err(failed)?;
                let short = || InstallError::Cut(label.to_owned());
                match extra.sparse {
                    Some(size) => self.ranges(entry, &file, size).map_err(&bad)?,
                    None => {
                        let holes = kind == EntryType::GNUSparse;
                        let size = entry.size();
                        let copied = self.content(entry, &file, holes).map_err(&bad)?;
                        (copied == size).then_some(()).ok_or_else(short)?;
                    }
                }
                self.inside.finish_file(&path, &file, &attributes).map_err(failed)?;
            }
            _ => {
                self.dropped.note("a file of an unknown kind", &path);
                return Ok(());
            }
        }
        self.beside(&path, kind, extra).map_err(failed)
    }

    /// Keeps what pax records say of a file, or notes that it cannot be kept.
    fn beside(&mut self, path: &Path, kind: EntryType, extra: Extra) -> Result<(), InsideError> {
        let opened = !matches!(
            kind,
            EntryType::Symlink | EntryType::Char | EntryType::Block | EntryType::Fifo
        );
        self.lists.remove(path);
        if !extra.lists.is_empty() && opened {
            self.lists.insert(path.to_owned(), extra.lists);
        } else if !extra.lists.is_empty() {
            self.dropped.note(LIST, path);
        }
        for (name, value) in extra.extended {
            let allowed = EXTENDED.iter().any(|known| name.as_bytes().starts_with(known));
            if !(opened && allowed && self.inside.set_extended(path, &name, &value)?) {
                self.dropped.note(format!("the attribute {}", name.to_string_lossy()), path);
            }
        }
        for list in extra.lost_lists {
            self.dropped.note(list, path);
        }
        for name in extra.unknown_flags {
            self.dropped.note(format!("the flag {name:?}"), path);
        }
        if extra.flags.is_empty() {
            self.flags.remove(path);
        } else if opened {
            self.flags.insert(path.to_owned(), extra.flags);
        } else {
            self.dropped.note(format!("the flags {}", extra.flags), path);
        }
        Ok(())
    }

    /// Copies a file; with `holes`, blocks of zeros are left out. Returns how many bytes it has.
    fn content(&mut self, from: &mut impl Read, file: &File, holes: bool) -> io::Result<u64> {
        let (mut file, mut copied) = (file, 0_u64);
        loop {
            let read = from.read(&mut self.buffer)?;
            let bytes = self.buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            if holes && bytes.iter().all(|byte| *byte == 0) {
                file.seek_relative(i64::try_from(read).unwrap_or(0))?;
            } else {
                self.room.take(u64::try_from(read).unwrap_or(u64::MAX))?;
                file.write_all(bytes)?;
            }
            copied = copied.saturating_add(u64::try_from(read).unwrap_or(0));
        }
        if holes {
            file.set_len(copied)?;
        }
        Ok(copied)
    }

    /// Copies a sparse file in the form 1.0 of GNU tar, which bsdtar writes too: the contents begin
    /// with a list of ranges, in decimal lines, filled up to a whole block.
    fn ranges(&mut self, from: &mut impl Read, file: &File, size: u64) -> io::Result<()> {
        let mut file = file;
        let mut map = Map { from, read: 0 };
        let count = map.number()?;
        let mut ranges = Vec::new();
        for _ in 0..count {
            if ranges.len() == MAX_RANGES {
                return Err(io::Error::other("a sparse file has too many ranges"));
            }
            ranges.push((map.number()?, map.number()?));
        }
        map.pad()?;
        for (start, len) in ranges {
            if start.checked_add(len).is_none_or(|end| end > size) {
                return Err(io::Error::other("a sparse file has a range beyond its end"));
            }
            file.seek(SeekFrom::Start(start))?;
            let copied = self.content(&mut from.take(len), file, false)?;
            if copied != len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        file.set_len(size)
    }
}

/// The list of ranges before a sparse file's contents.
struct Map<'a, R> {
    from: &'a mut R,
    read: usize,
}

impl<R: Read> Map<'_, R> {
    fn number(&mut self) -> io::Result<u64> {
        let mut number = 0_u64;
        loop {
            let mut byte = [0];
            self.from.read_exact(&mut byte)?;
            self.read += 1;
            match byte {
                [b'\n'] => return Ok(number),
                [digit @ b'0'..=b'9'] => {
                    let more = number.checked_mul(10);
                    let more = more.and_then(|more| more.checked_add(u64::from(digit - b'0')));
                    number = more.ok_or_else(bad_number)?;
                }
                [_] => return Err(bad_number()),
            }
        }
    }

    fn pad(&mut self) -> io::Result<()> {
        let rest = self.read.next_multiple_of(BLOCK) - self.read;
        let mut block = [0; BLOCK];
        self.from.read_exact(block.get_mut(..rest).unwrap_or_default())
    }
}

/// What pax records say of an entry beyond its header.
#[derive(Default)]
struct Extra {
    name: Option<PathBuf>,
    modified: Option<(i64, u32)>,
    extended: Vec<(OsString, Vec<u8>)>,
    /// Access control lists as the extended attributes that Linux keeps them in.
    lists: Vec<(OsString, Vec<u8>)>,
    lost_lists: Vec<&'static str>,
    flags: Flags,
    unknown_flags: Vec<String>,
    /// The size of a sparse file in the form 1.0.
    sparse: Option<u64>,
}

impl Extra {
    fn of(entry: &mut Entry<'_, impl Read>) -> io::Result<Self> {
        let mut extra = Self::default();
        let (mut form, mut size) = (None, None);
        for record in entry.pax_extensions()?.into_iter().flatten() {
            let record = record?;
            let (key, value) = (record.key_bytes(), record.value_bytes());
            let text = || String::from_utf8_lossy(value).into_owned();
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                let is_list = name.starts_with(POSIX_LIST);
                let to = if is_list { &mut extra.lists } else { &mut extra.extended };
                to.push((OsStr::from_bytes(name).to_owned(), value.to_vec()));
            } else if let Some(kind) = key.strip_prefix(b"SCHILY.acl.") {
                extra.list(kind, value);
            } else {
                match key {
                    b"mtime" => extra.modified = modified(&text()),
                    b"SCHILY.fflags" => (extra.flags, extra.unknown_flags) = Flags::parse(&text()),
                    b"GNU.sparse.major" => form = Some(text()),
                    b"GNU.sparse.name" => extra.name = Some(path_of(value)),
                    b"GNU.sparse.realsize" => size = text().parse().ok(),
                    b"GNU.sparse.map" => {
                        let old =
                            "a sparse file is in an old form: pack it by bsdtar or GNU tar 1.14";
                        return Err(io::Error::new(io::ErrorKind::Unsupported, old));
                    }
                    _ => {}
                }
            }
        }
        if form.as_deref() == Some("1") {
            let missing = || io::Error::other("a sparse file does not say its size");
            extra.sparse = Some(size.ok_or_else(missing)?);
        }
        Ok(extra)
    }

    fn list(&mut self, kind: &[u8], text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let posix = matches!(kind, b"access" | b"default");
        match acl::encode(text).filter(|_| posix) {
            Some(value) => {
                let name = [POSIX_LIST, kind].concat();
                self.lists.push((OsStr::from_bytes(&name).to_owned(), value));
            }
            None => self.lost_lists.push(if posix { NAMES_LIST } else { NFS4_LIST }),
        }
    }
}

fn attributes(header: &Header, extra: &Extra) -> io::Result<Attributes> {
    let number = |number: u64| {
        u32::try_from(number).map_err(|_| io::Error::other("an owner's number is too large"))
    };
    let seconds = i64::try_from(header.mtime()?).unwrap_or(i64::MAX);
    Ok(Attributes {
        mode: header.mode()? & 0o7777,
        uid: number(header.uid()?)?,
        gid: number(header.gid()?)?,
        modified: extra.modified.unwrap_or((seconds, 0)),
    })
}

fn special(header: &Header, kind: EntryType) -> io::Result<Special> {
    if kind == EntryType::Fifo {
        // Its device numbers may be empty.
        return Ok(Special::Fifo);
    }
    let (major, minor) = (header.device_major()?, header.device_minor()?);
    let (major, minor) = (major.unwrap_or(0), minor.unwrap_or(0));
    let block = kind == EntryType::Block;
    Ok(if block { Special::Block(major, minor) } else { Special::Character(major, minor) })
}

/// A path below the root: without a slash or `.` at its beginning; `None` if it climbs.
fn inner(name: &Path) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// Reads seconds with a fraction.
fn modified(text: &str) -> Option<(i64, u32)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    Some((seconds.parse().ok()?, digits.parse().ok()?))
}

fn bad_number() -> io::Error {
    io::Error::other("the ranges of a sparse file are no numbers")
}

/// How much may be read for the next header, and whether the source has ended.
#[derive(Default)]
struct Meter {
    left: Cell<Option<usize>>,
    ended: Cell<bool>,
}

/// A source that gives no more for a header than a header can need: an archive may claim that a
/// name is gigabytes long, and names are read into memory.
struct Metered<'a, R> {
    source: R,
    meter: &'a Meter,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(into);
        let cut = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
        if !into.is_empty() && read.as_ref().map_or_else(cut, |read| *read == 0) {
            self.meter.ended.set(true);
        }
        let read = read?;
        if let Some(left) = self.meter.left.get() {
            let left = left.checked_sub(read);
            let left = left.ok_or_else(|| io::Error::other("a header is larger than any is"))?;
            self.meter.left.set(Some(left));
        }
        Ok(read)
    }
}

const BUFFER: usize = 128 << 10;
const BLOCK: usize = 512;
/// What a file takes beside its bytes, as most file systems have it.
const BLOCK_OF_FILES: u64 = 4096;
/// Most bytes of one entry's headers: long names and attributes of at most 64 KiB each.
const MAX_HEADER: usize = 4 << 20;
/// Most ranges of a sparse file: 16 MiB of memory.
const MAX_RANGES: usize = 1 << 20;
/// The extended attributes that a system has in its files. Others belong to the host.
const EXTENDED: [&[u8]; 2] = [b"user.", b"security.capability"];
/// How the names of the attributes begin in which Linux keeps access control lists.
const POSIX_LIST: &[u8] = b"system.posix_acl_";
const LIST: &str = "the access control list";
/// GNU tar writes names alone unless it is told `--numeric-owner`.
const NAMES_LIST: &str = "the access control list, which names somebody without a number,";
/// FreeBSD's on ZFS, which no file system of Linux has.
const NFS4_LIST: &str = "the NFSv4 access control list";

#[cfg(test)]
mod test;
