//! Unpacks tar archives into a boot environment, with everything that a system can have in its files.
//!
//! An archive may be hostile. Its names are claims: one with `..` is refused, and every other is
//! resolved inside the root, whatever links were unpacked before. Its sizes are claims too: nothing is
//! allocated by them, and a file that is shorter than it says means that the archive is cut.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use hostfs::{Attributes, Flags, Inside, InsideError, Special};
use pax::acl;
use pax::archive::{Archive, Entry, EntryType, Next};
use pax::sparse::Range;

use super::error::of_archive;
use super::room::Room;
use super::{Dropped, InstallError, packed};

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
        let bad = reading(name, &label);
        let mut archive = Archive::new(packed::unpack(source).map_err(&bad)?, MAX_HEADER);
        loop {
            match archive.next_entry().map_err(&bad)? {
                Next::Entry(entry) => {
                    // Its inode and its name; its last block is on average half full.
                    self.room.take(BLOCK_OF_FILES).map_err(&bad)?;
                    self.entry(*entry, &mut archive, name, &label)?;
                }
                Next::End => break,
                // A whole archive ends in two empty blocks.
                Next::Nothing => return Err(InstallError::Cut(label.clone())),
            }
        }
        // To the end: packed files have their checksum there.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(&bad).map(drop)
    }

    /// Finishes directories and sets access control lists: before anything else is written, which may
    /// have another opinion of who owns a directory.
    pub(super) fn finish_directories(&mut self) -> Result<(), InstallError> {
        let failed = |error| InstallError::Inside { archive: "a directory".to_owned(), error };
        for (path, attributes) in std::mem::take(&mut self.directories) {
            match self.inside.finish_dir(path, &attributes) {
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
        Ok(())
    }

    /// Finishes directories, if that was not done, then sets flags unless they are not wanted. Returns
    /// what the file system could not keep.
    pub(super) fn finish(mut self, keep_flags: bool) -> Result<Dropped, InstallError> {
        self.finish_directories()?;
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
        entry: Entry,
        content: &mut impl Read,
        archive: &Path,
        label: &str,
    ) -> Result<(), InstallError> {
        let bad = reading(archive, label);
        let extra = Extra::of(&entry).map_err(&bad)?;
        let outside =
            |name: &[u8]| InstallError::Name { archive: label.to_owned(), name: path_of(name) };
        let path = inner(&path_of(&entry.name)).ok_or_else(|| outside(&entry.name))?;
        let attributes = attributes(&entry).map_err(&bad)?;
        let failed = |error| InstallError::Inside { archive: label.to_owned(), error };
        match entry.kind {
            EntryType::XGlobalHeader => return Ok(()),
            EntryType::Directory => {
                self.inside.make_dir(&path).map_err(failed)?;
                self.directories.insert(path.clone(), attributes);
            }
            EntryType::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                self.inside.make_symlink(&path, target, &attributes).map_err(failed)?;
            }
            EntryType::Link => {
                let existing = inner(&path_of(&entry.link)).ok_or_else(|| outside(&entry.link))?;
                self.inside.make_link(&path, &existing).map_err(failed)?;
                // Its attributes were given with its first name.
                return Ok(());
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                match self.inside.make_special(&path, special(&entry), &attributes) {
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
                match &entry.ranges {
                    Some(ranges) => self.ranges(content, &file, ranges, entry.size),
                    None => self.content(content, &file, entry.size),
                }
                .map_err(&bad)?;
                self.inside.finish_file(&path, &file, &attributes).map_err(failed)?;
            }
            _ => {
                self.dropped.note("a file of an unknown kind", &path);
                return Ok(());
            }
        }
        self.beside(&path, entry.kind, extra).map_err(failed)
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

    /// Copies as many bytes into a file.
    fn content(&mut self, from: &mut impl Read, file: &File, size: u64) -> io::Result<()> {
        let (mut file, mut rest) = (file, size);
        while rest > 0 {
            let most = usize::try_from(rest).unwrap_or(BUFFER).min(BUFFER);
            let read = from.read(self.buffer.get_mut(..most).unwrap_or_default())?;
            let bytes = self.buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let read = u64::try_from(read).unwrap_or(rest);
            self.room.take(read)?;
            file.write_all(bytes)?;
            rest = rest.saturating_sub(read);
        }
        Ok(())
    }

    /// Copies the ranges of a sparse file.
    fn ranges(
        &mut self,
        from: &mut impl Read,
        mut file: &File,
        ranges: &[Range],
        size: u64,
    ) -> io::Result<()> {
        for (start, length) in ranges {
            file.seek(SeekFrom::Start(*start))?;
            self.content(from, file, *length)?;
        }
        file.set_len(size)
    }
}

/// What pax records say of an entry that is no field of a header.
#[derive(Default)]
struct Extra {
    extended: Vec<(OsString, Vec<u8>)>,
    /// Access control lists as the extended attributes that Linux keeps them in.
    lists: Vec<(OsString, Vec<u8>)>,
    lost_lists: Vec<&'static str>,
    flags: Flags,
    unknown_flags: Vec<String>,
}

impl Extra {
    fn of(entry: &Entry) -> io::Result<Self> {
        let mut extra = Self::default();
        for record in entry.records() {
            let (key, value) = record.map_err(|_| io::Error::other("a record makes no sense"))?;
            if let Some(name) = pax::xattr::name(key) {
                let is_list = name.starts_with(POSIX_LIST);
                let to = if is_list { &mut extra.lists } else { &mut extra.extended };
                to.push((OsString::from_vec(name), value.to_vec()));
            } else if let Some(kind) = key.strip_prefix(b"SCHILY.acl.") {
                extra.list(kind, value);
            } else if key == b"SCHILY.fflags" {
                (extra.flags, extra.unknown_flags) = Flags::parse(&String::from_utf8_lossy(value));
            }
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

fn attributes(entry: &Entry) -> io::Result<Attributes> {
    let number = |number: u64| {
        u32::try_from(number).map_err(|_| io::Error::other("an owner's number is too large"))
    };
    let (uid, gid) = (number(entry.uid)?, number(entry.gid)?);
    Ok(Attributes { mode: entry.mode, uid, gid, modified: entry.modified })
}

fn special(entry: &Entry) -> Special {
    let (major, minor) = entry.device;
    match entry.kind == EntryType::Fifo {
        true => Special::Fifo,
        false if entry.kind == EntryType::Block => Special::Block(major, minor),
        false => Special::Character(major, minor),
    }
}

/// Tells that an archive ended before its end, or what else was wrong with it.
fn reading(path: &Path, label: &str) -> impl Fn(io::Error) -> InstallError {
    let bad = of_archive(path, label);
    let label = label.to_owned();
    move |error| match error.kind() == io::ErrorKind::UnexpectedEof {
        true => InstallError::Cut(label.clone()),
        false => bad(error),
    }
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

const BUFFER: usize = 128 << 10;
/// What a file takes beside its bytes, as most file systems have it.
const BLOCK_OF_FILES: u64 = 4096;
/// Most bytes of one entry's headers: long names and attributes of at most 64 KiB each.
const MAX_HEADER: usize = 4 << 20;
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
