//! Makes a tree of an archive.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::io::{Error, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pax::archive::{Archive, Entry, EntryType, Next};
use pax::record::Records;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ftruncate, linkat, makedev, mkdirat, mknodat, openat, statat,
    symlinkat, unlinkat,
};
use rustix::io::{Errno, pwrite};

use super::records::{self, MAX_TOTAL, nonsense};
use super::{KEPT, REMOVE};
use crate::StoreError;
use crate::error::at;
use crate::stream::StreamError;
use crate::tree::metadata::{Keeper, Metadata};
use crate::tree::{Fixed, MAX_DEPTH, open_dir, remove_contents};

/// Makes in the directory `tree` what [`write`](super::write()) wrote, or changes it to that. `path` is the tree's,
/// for messages. No file of the tree may have flags that keep it from being changed; `fixed` are those that it is
/// to have, and what is returned are those after the changes.
///
/// The sender is not trusted with more than the tree: no path leads out of it.
pub(crate) fn apply(
    tree: impl AsFd,
    path: &Path,
    fixed: Fixed,
    from: &mut dyn Read,
) -> Result<Fixed, StoreError> {
    let mut reader = Reader {
        tree: tree.as_fd(),
        path,
        archive: Archive::new(from, MAX_TOTAL + MAX_TOTAL / 4),
        pending: Vec::new(),
        pending_bytes: 0,
        fixed: fixed.into_iter().collect(),
        fixed_bytes: 0,
        keeper: Keeper::default(),
        buffer: vec![0; BUFFER],
    };
    loop {
        match reader.archive.next_entry().map_err(damaged).map_err(at("receive", path))? {
            Next::Entry(entry) => reader.entry(&entry)?,
            Next::End => return Err(nonsense("something follows its end").into()),
            // Only here is it known that nothing is missing.
            Next::Nothing => break,
        }
    }
    reader.finish_but(0)?;
    reader.keeper.lost.tell();
    Ok(reader.fixed.into_iter().collect())
}

struct Reader<'a> {
    tree: BorrowedFd<'a>,
    path: &'a Path,
    archive: Archive<&'a mut dyn Read>,
    /// The directories that the last entry was in, each in the one before it. They get their metadata when
    /// nothing is made in them any more: each new name changes their times, and inherits from them.
    pending: Vec<(Vec<u8>, Metadata)>,
    /// How much of extended attributes these are.
    pending_bytes: usize,
    fixed: BTreeMap<Vec<u8>, u32>,
    fixed_bytes: usize,
    keeper: Keeper,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), StoreError> {
        if entry.kind == EntryType::XGlobalHeader {
            return self.global();
        }
        let below = below(entry);
        let path = self.path.join(OsStr::from_bytes(below));
        let receive = || at("receive", &path);
        let is_in = |dir: &[u8]| {
            let rest = below.strip_prefix(dir);
            rest.is_some_and(|rest| dir.is_empty() || rest.first() == Some(&b'/'))
        };
        let above = self.pending.iter().take_while(|(dir, _)| is_in(dir)).count();
        self.finish_but(above)?;
        if entry.kind == EntryType::Link {
            return self.link(entry, below).map_err(receive());
        }
        let metadata = records::metadata(entry, &path, &mut self.keeper.lost).map_err(receive())?;
        if entry.kind == EntryType::Directory {
            return self.directory(entry, below, &path, metadata);
        }
        let (parent, name) = split(below).map_err(receive())?;
        let dir = self.find(parent).map_err(receive())?;
        let dir = dir.as_fd();
        let made = match entry.kind == EntryType::Regular {
            true => self.file(entry, dir, &name, &path, &metadata),
            false => self.special(entry, dir, &name, &path, &metadata),
        };
        made.map_err(receive())?;
        self.remember(below, &metadata).map_err(receive())
    }

    /// What the archive says of no file: names that go.
    fn global(&mut self) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        let limited = &mut (&mut self.archive).take(MAX_GLOBAL);
        limited.read_to_end(&mut bytes).map_err(damaged).map_err(at("receive", self.path))?;
        for record in Records::new(&bytes) {
            let (key, below) = record.map_err(|_| nonsense("a record that is none"))?;
            if key == REMOVE.as_bytes() {
                self.remove(below)?;
            }
        }
        Ok(())
    }

    fn directory(
        &mut self,
        entry: &Entry,
        below: &[u8],
        path: &Path,
        metadata: Metadata,
    ) -> Result<(), StoreError> {
        if self.pending.len() > MAX_DEPTH {
            return Err(StoreError::Deep(path.to_owned()));
        }
        let kept = entry.records().flatten().any(|(key, _)| key == KEPT.as_bytes());
        let make = || -> Result<(), Error> {
            if below.is_empty() || kept {
                return self.find(below).map(drop);
            }
            let (parent, name) = split(below)?;
            Ok(mkdirat(self.find(parent)?, &name, Mode::RWXU)?)
        };
        make().map_err(at("receive", path))?;
        self.pending_bytes += size_of_attributes(&metadata);
        if self.pending_bytes > MAX_TOTAL {
            return Err(nonsense("extended attributes larger than any").into());
        }
        self.fixed.remove(below);
        self.pending.push((below.to_vec(), metadata));
        Ok(())
    }

    /// Finishes the directories in which nothing comes any more: all but the first so many.
    fn finish_but(&mut self, first: usize) -> Result<(), StoreError> {
        while self.pending.len() > first {
            let Some((below, metadata)) = self.pending.pop() else { break };
            self.pending_bytes -= size_of_attributes(&metadata);
            let path = self.path.join(OsStr::from_bytes(&below));
            let dir = self.find(&below).map_err(at("receive", &path))?;
            let given = metadata.give(dir.as_fd(), &path, &mut self.keeper);
            given.and_then(|()| self.remember(&below, &metadata)).map_err(at("receive", &path))?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        entry: &Entry,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<(), Error> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        match &entry.ranges {
            Some(ranges) => {
                for (start, length) in ranges {
                    self.range(&file, *start, *length)?;
                }
                ftruncate(&file, entry.size)?;
            }
            None => self.range(&file, 0, entry.size)?,
        }
        metadata.give(file.as_fd(), path, &mut self.keeper)
    }

    /// Writes as many bytes of the archive to a file.
    fn range(&mut self, file: &OwnedFd, mut offset: u64, length: u64) -> Result<(), Error> {
        let mut left = length;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let room = self.buffer.get_mut(..most).unwrap_or_default();
            let read = self.archive.read(room).map_err(damaged)?;
            let mut rest = self.buffer.get(..read).unwrap_or_default();
            if rest.is_empty() {
                return Err(nonsense("a file is shorter than it says").into());
            }
            left = left.saturating_sub(u64::try_from(read).unwrap_or(left));
            while !rest.is_empty() {
                let written = pwrite(file, rest, offset)?;
                rest = rest.get(written..).unwrap_or_default();
                offset = offset.saturating_add(u64::try_from(written).unwrap_or(0));
            }
        }
        Ok(())
    }

    fn link(&mut self, entry: &Entry, below: &[u8]) -> Result<(), Error> {
        let (parent, name) = split(below)?;
        let (first_parent, first) = split(&entry.link)?;
        let (dir, from) = (self.find(parent)?, self.find(first_parent)?);
        Ok(linkat(from, first, dir, name, AtFlags::empty())?)
    }

    fn special(
        &mut self,
        entry: &Entry,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<(), Error> {
        if entry.kind == EntryType::Symlink {
            symlinkat(CString::new(entry.link.clone())?, dir, name)?;
        } else {
            let kind = FileType::from_raw_mode(metadata.raw_mode());
            let (major, minor) = entry.device;
            mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, makedev(major, minor))?;
        }
        metadata.give_link(dir, name, path, &mut self.keeper)
    }

    fn remove(&mut self, below: &[u8]) -> Result<(), StoreError> {
        let path: PathBuf = self.path.join(OsStr::from_bytes(below));
        let (parent, name) = split(below).map_err(at("remove", &path))?;
        let dir = self.find(parent).map_err(at("remove", &path))?;
        self.forget(below);
        let stat = match statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            // A socket is in no archive.
            Err(Errno::NOENT) => return Ok(()),
            stat => stat.map_err(at("remove", &path))?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let doomed = open_dir(&dir, &name).map_err(at("remove", &path))?;
            remove_contents(&doomed, &path)?;
            return unlinkat(&dir, &name, AtFlags::REMOVEDIR).map_err(at("remove", &path));
        }
        unlinkat(&dir, &name, AtFlags::empty()).map_err(at("remove", &path))
    }

    /// Notes down flags that are to be set at the end.
    fn remember(&mut self, below: &[u8], metadata: &Metadata) -> Result<(), Error> {
        let Some(flags) = metadata.fixed() else { return Ok(()) };
        self.fixed_bytes += below.len() + 64;
        if self.fixed_bytes > MAX_FIXED {
            return Err(nonsense("more files with flags than any system has").into());
        }
        self.fixed.insert(below.to_vec(), flags);
        Ok(())
    }

    /// Forgets those of a name, and of all below it.
    fn forget(&mut self, below: &[u8]) {
        self.fixed.remove(below);
        let inside = [below, b"/"].concat();
        let range = self.fixed.range(inside.clone()..);
        let gone = range.map(|(path, _)| path.clone()).take_while(|path| path.starts_with(&inside));
        for path in gone.collect::<Vec<_>>() {
            self.fixed.remove(&path);
        }
    }

    /// Opens a directory of the tree by its path.
    fn find(&self, below: &[u8]) -> Result<OwnedFd, Error> {
        let mut dir = self.tree.try_clone_to_owned()?;
        if !below.is_empty() {
            for name in below.split(|&byte| byte == b'/') {
                dir = open_dir(&dir, &*plain(name)?)?;
            }
        }
        Ok(dir)
    }
}

/// The path of an entry below the root: nothing for the root itself.
fn below(entry: &Entry) -> &[u8] {
    let name = entry.name.strip_prefix(b"./").unwrap_or(&entry.name);
    match entry.kind == EntryType::Directory {
        true => name.strip_suffix(b"/").unwrap_or(name),
        false => name,
    }
}

fn size_of_attributes(metadata: &Metadata) -> usize {
    metadata.attributes.iter().map(|(name, value)| name.count_bytes() + value.len()).sum()
}

/// The path of the directory that something is in, and its name there.
fn split(below: &[u8]) -> Result<(&[u8], CString), Error> {
    let cut = below.iter().rposition(|&byte| byte == b'/');
    let (parent, name) = match cut {
        Some(cut) => (below.get(..cut).unwrap_or_default(), below.get(cut + 1..)),
        None => (&[][..], Some(below)),
    };
    Ok((parent, plain(name.unwrap_or_default())?))
}

/// A name that stays in its directory.
fn plain(name: &[u8]) -> Result<CString, Error> {
    if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
        return Err(nonsense("a name that is none").into());
    }
    Ok(CString::new(name)?)
}

/// What is wrong with an archive, and not with where it comes from.
fn damaged(error: Error) -> Error {
    if error.raw_os_error().is_some() || error.get_ref().is_some_and(|it| it.is::<StreamError>()) {
        return error;
    }
    match error.kind() == ErrorKind::UnexpectedEof {
        true => nonsense("it ends in a record").into(),
        false => nonsense(&error.to_string()).into(),
    }
}

const BUFFER: usize = 128 << 10;
/// Most bytes of a global header: the longest path, and more.
const MAX_GLOBAL: u64 = 1 << 20;
/// Most memory for paths of files with flags that are set at the end: more than a million of them.
const MAX_FIXED: usize = 256 << 20;

#[cfg(test)]
mod test {
    use std::fs;

    use pax::header::{self, Head};
    use pax::record;
    use rustix::process::{getgid, getuid};

    use super::*;

    /// A mode with nothing special, this user and group, and the year 1970.
    fn head<'a>(kind: EntryType, name: &'a [u8], link: &'a [u8], stored: u64) -> Head<'a> {
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        let (mode, zero) = (0o644, (0, 0));
        let (modified, accessed, device) = (zero, zero, (0, 0));
        Head { kind, name, link, mode, uid, gid, modified, accessed, device, stored, sparse: None }
    }

    fn directory(path: &[u8]) -> Vec<u8> {
        head(EntryType::Directory, path, b"", 0).write(&[])
    }

    fn symlink(path: &[u8], says: &[u8]) -> Vec<u8> {
        head(EntryType::Symlink, path, says, 0).write(&[])
    }

    fn link(path: &[u8], first: &[u8]) -> Vec<u8> {
        head(EntryType::Link, path, first, 0).write(&[])
    }

    fn removed(path: &[u8]) -> Vec<u8> {
        let mut records = Vec::new();
        record::push(&mut records, REMOVE, path);
        header::global(b"", &records)
    }

    fn file(path: &[u8], bytes: &[u8]) -> Vec<u8> {
        let mut file = head(EntryType::Regular, path, b"", bytes.len() as u64).write(&[]);
        file.extend_from_slice(bytes);
        file.resize(file.len().next_multiple_of(pax::BLOCK), 0);
        file
    }

    /// A file of which only a claim of its length comes, and records.
    fn claim(path: &[u8], stored: u64, sparse: Option<u64>, records: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut more = Vec::new();
        for (key, value) in records {
            record::push(&mut more, key, value);
        }
        Head { sparse, ..head(EntryType::Regular, path, b"", stored) }.write(&more)
    }

    /// Applies records to a directory `tree` beside another, `outside`, and says what is in that.
    fn apply_to(records: &[Vec<u8>]) -> (Result<(), StoreError>, usize) {
        let scratch = tempfile::tempdir().unwrap();
        let (tree, outside) = (scratch.path().join("tree"), scratch.path().join("outside"));
        fs::create_dir(&tree).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        let opened = open_dir(rustix::fs::CWD, &tree).unwrap();
        let applied = apply(&opened, &tree, Fixed::new(), &mut &*records.concat());
        (applied.map(drop), fs::read_dir(&outside).unwrap().count())
    }

    #[test]
    fn no_path_leads_out_of_the_tree() {
        let out = || symlink(b"link", b"../outside");
        let kept = head(EntryType::Directory, b"link/", b"", 0);
        let mut record = Vec::new();
        record::push(&mut record, KEPT, "1");
        let pending = [directory(b"dir/"), removed(b"dir"), symlink(b"dir", b"../outside")];
        for records in [
            vec![file(b"../outside/new", b"x")],
            vec![file(b"a/../../outside/new", b"x")],
            vec![file(b"/outside/new", b"x")],
            vec![out(), file(b"link/new", b"x")],
            vec![out(), file(b"link", b"x")],
            vec![out(), directory(b"link/new")],
            vec![out(), symlink(b"link/new", b"x")],
            vec![out(), removed(b"link/kept")],
            vec![removed(b"../outside/kept")],
            vec![out(), link(b"name", b"link/kept")],
            vec![link(b"name", b"../outside/kept")],
            vec![out(), kept.write(&record)],
            // A directory that gets its metadata when it is something else by now.
            pending.to_vec(),
        ] {
            let (applied, outside) = apply_to(&records);
            assert!(applied.is_err(), "{records:?}");
            assert_eq!(outside, 1, "{records:?}");
        }
    }

    #[test]
    fn a_length_is_not_believed() {
        let sparse = |map: &[u8]| {
            [claim(b"file", 512, Some(u64::MAX), &[]), map.to_vec(), vec![0; 512 - map.len()]]
        };
        for records in [
            vec![claim(b"file", u64::MAX, None, &[])],
            vec![claim(b"file", 1 << 40, None, &[])],
            sparse(b"1\n18446744073709551614\n1\n").to_vec(),
            sparse(b"99999999999\n").to_vec(),
            sparse(b"1\n0\n512\n").to_vec(),
        ] {
            let (applied, _) = apply_to(&records);
            assert!(applied.is_err());
        }
    }

    #[test]
    fn what_is_held_in_memory_of_one_file_has_a_limit() {
        let large = vec![0; 65_537];
        let value = vec![0; 65_536];
        let names: Vec<_> = (0..300).map(|number| format!("SCHILY.xattr.user.{number}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_bytes(), value.as_slice())).collect();
        for records in [&[(b"SCHILY.xattr.user.x".as_slice(), large.as_slice())][..], &many] {
            let (refused, _) = apply_to(&[claim(b"file", 0, None, records)]);
            let StoreError::Io { error, .. } = refused.unwrap_err() else { panic!() };
            assert!(error.to_string().contains("larger than any"), "{error}");
        }
    }

    #[test]
    fn what_stands_above_pending_directories_has_a_limit() {
        let value = vec![0; 60_000];
        let mut path = Vec::new();
        let deep = (0..300).map(|number| {
            path.extend_from_slice(b"d/");
            let mut more = Vec::new();
            record::push(&mut more, "SCHILY.xattr.user.x", &value);
            assert!(number < 300);
            head(EntryType::Directory, &path, b"", 0).write(&more)
        });
        let deep: Vec<_> = deep.collect();
        assert!(apply_to(&deep).0.is_err());
    }
}
