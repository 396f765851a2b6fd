//! Finds what differs between two trees.

use std::ffi::{CStr, CString};
use std::io::Error;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{FileType, Stat, fstat, readlinkat};
use rustix::io::{Errno, pread};

use crate::error::at;
use crate::progress::{Unit, Work};
use crate::sys;
use crate::tree::metadata::Metadata;
use crate::tree::{MAX_DEPTH, TRIES, join, look, next_data, open_dir, sorted_names};
use crate::{Change, ChangeKind, FileKind, StoreError, Timestamp};

/// Lists what differs in the directory `new` from `old`, sorted by path.
///
/// Contents are read and compared wherever lengths are equal: a guest can set any time it likes.
pub(crate) fn compare(
    old: impl AsFd,
    new: impl AsFd,
    until: Until,
) -> Result<Vec<Change>, StoreError> {
    walk(Comparison::default(), (old, new), until)
}

/// How far two trees are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Until {
    /// Until something differs, which is told with what else is known then.
    Difference,
    /// To the end.
    End,
}

/// Whether there is no difference between two trees.
pub(crate) fn equal(old: impl AsFd, new: impl AsFd) -> Result<bool, StoreError> {
    Ok(compare(old, new, Until::Difference)?.is_empty())
}

/// Whether a tree is as it was when `copy` was made of it, which began at `since` or later.
///
/// A file is not read where its status did not change since (st_ctime, which no caller can set), nor that of
/// a directory that it is in, which a rename changes, and where its length and time are those of the copy.
/// A time that is still to come says nothing: the clock was set back, or is another host's.
pub(crate) fn unchanged(
    copy: impl AsFd,
    tree: impl AsFd,
    since: Timestamp,
) -> Result<bool, StoreError> {
    let since = Some(since).filter(|since| *since <= Timestamp::from(SystemTime::now()));
    let comparison = Comparison { since, ..Comparison::default() };
    Ok(walk(comparison, (copy, tree), Until::Difference)?.is_empty())
}

fn walk(
    comparison: Comparison,
    (old, new): (impl AsFd, impl AsFd),
    until: Until,
) -> Result<Vec<Change>, StoreError> {
    let mut walk = Walk { comparison, changes: Vec::new(), until };
    walk.directories(old.as_fd(), new.as_fd(), Path::new(""), 0)?;
    Ok(walk.changes)
}

struct Walk {
    comparison: Comparison,
    changes: Vec<Change>,
    until: Until,
}

impl Walk {
    fn is_done(&self) -> bool {
        self.until == Until::Difference && !self.changes.is_empty()
    }

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
        let since = self.comparison.since;
        if !self.comparison.is_settled(&fstat(new).map_err(at("compare", path))?) {
            // It may be another directory than was copied, with all that is below.
            self.comparison.since = None;
        }
        for (name, side) in merged(old, new, path)? {
            if self.is_done() {
                break;
            }
            let here = join(path, &name);
            match side {
                Side::New => self.all(new, &name, &here, ChangeKind::Added, depth)?,
                Side::Old => self.all(old, &name, &here, ChangeKind::Removed, depth)?,
                Side::Both => self.both(old, new, &name, &here, depth)?,
            }
        }
        self.comparison.since = since;
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
        let mut tries = 0;
        let (pair, kind_now) = loop {
            let (before, after) = match (look(old, name, path)?, look(new, name, path)?) {
                (Some(before), Some(after)) => (before, after),
                (Some(_), None) => return self.all(old, name, path, ChangeKind::Removed, depth),
                (None, Some(_)) => return self.all(new, name, path, ChangeKind::Added, depth),
                (None, None) => return Ok(()),
            };
            tries += 1;
            match self.comparison.pair((old, &before), (new, &after), name) {
                // One of them may be something else than it was a moment ago.
                Err(_) if tries < TRIES => {}
                pair => {
                    let kind_now = kind(FileType::from_raw_mode(after.st_mode));
                    break (pair.map_err(at("compare", path))?, kind_now);
                }
            }
        };
        match pair {
            Pair::Directories(old, new) => {
                self.directories(old.as_fd(), new.as_fd(), path, depth + 1)?;
            }
            Pair::Kinds => {
                self.all(old, name, path, ChangeKind::Removed, depth)?;
                self.all(new, name, path, ChangeKind::Added, depth)?;
            }
            Pair::Files { differ: true } => self.tell(path, ChangeKind::Changed, kind_now),
            Pair::Files { differ: false } => {}
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
        let Some(stat) = look(dir, name, path)? else { return Ok(()) };
        let file = kind(FileType::from_raw_mode(stat.st_mode));
        self.tell(path, what, file);
        if file == FileKind::Directory {
            let child = match open_dir(dir, name) {
                // It went after it was told, or became a file: it is told as it was.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => return Ok(()),
                child => child.map_err(at("open", path))?,
            };
            for name in sorted_names(&child, path)? {
                if self.is_done() {
                    break;
                }
                let here = join(path, &name);
                self.all(child.as_fd(), &name, &here, what, depth + 1)?;
            }
        }
        Ok(())
    }

    fn tell(&mut self, path: &Path, kind: ChangeKind, file: FileKind) {
        self.changes.push(Change { path: path.to_owned(), kind, file });
    }
}

/// Two files of the same name.
enum Pair {
    Directories(OwnedFd, OwnedFd),
    /// They are of the same kind.
    Files {
        differ: bool,
    },
    /// They are of two kinds.
    Kinds,
}

/// Compares files of the same name.
pub(crate) struct Comparison {
    attributes: sys::Attributes,
    work: Work,
    /// Files of the new tree whose status last changed before this need not be read.
    since: Option<Timestamp>,
    buffers: [Vec<u8>; 2],
}

impl Default for Comparison {
    fn default() -> Self {
        let buffers = [vec![0; BUFFER], vec![0; BUFFER]];
        let work = Work::begin(|| "compare".to_owned(), Unit::Files, None);
        Self { attributes: sys::Attributes::default(), work, since: None, buffers }
    }
}

impl Comparison {
    fn pair(
        &mut self,
        (old, before): (BorrowedFd<'_>, &Stat),
        (new, after): (BorrowedFd<'_>, &Stat),
        name: &CStr,
    ) -> Result<Pair, Error> {
        self.work.advance(1);
        let kind = FileType::from_raw_mode(after.st_mode);
        if kind != FileType::from_raw_mode(before.st_mode) {
            return Ok(Pair::Kinds);
        }
        if kind == FileType::Directory {
            return Ok(Pair::Directories(open_dir(old, name)?, open_dir(new, name)?));
        }
        let differ = self.files_differ((old, before), (new, after), name)?;
        Ok(Pair::Files { differ })
    }

    /// Whether two directories differ in themselves. Their times do not count: they change with
    /// every name in them.
    pub(crate) fn directories_differ(
        &mut self,
        old: BorrowedFd<'_>,
        new: BorrowedFd<'_>,
    ) -> Result<bool, Error> {
        let (before, after) = (fstat(old)?, fstat(new)?);
        self.metadata_differ((old, &before), (new, &after))
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
                if self.is_settled(after) {
                    return Ok(false);
                }
                let (old, new) = (sys::open_regular(old, name)?, sys::open_regular(new, name)?);
                Ok(self.metadata_differ((old.as_fd(), before), (new.as_fd(), after))?
                    || self.contents_differ(old.as_fd(), new.as_fd())?)
            }
            FileType::Symlink
                if readlinkat(old, name, Vec::new())? != readlinkat(new, name, Vec::new())? =>
            {
                Ok(true)
            }
            FileType::BlockDevice | FileType::CharacterDevice
                if before.st_rdev != after.st_rdev =>
            {
                Ok(true)
            }
            FileType::BlockDevice
            | FileType::CharacterDevice
            | FileType::Directory
            | FileType::Fifo
            | FileType::Socket
            | FileType::Symlink
            | FileType::Unknown => {
                let old = Metadata::of_link(old, name, before, &mut self.attributes)?;
                let new = Metadata::of_link(new, name, after, &mut self.attributes)?;
                Ok(!old.equals(&new))
            }
        }
    }

    /// Whether a file of the new tree has not changed since the time that was given, if one was. The
    /// kernel's clock for st_ctime runs some milliseconds behind: the second before does not count.
    fn is_settled(&self, after: &Stat) -> bool {
        let changed = u64::try_from(after.st_ctime).ok();
        let since = self.since.map(Timestamp::seconds);
        changed.zip(since).is_some_and(|(changed, since)| changed.saturating_add(1) < since)
    }

    /// Whether the metadata of two open files or directories differ in anything but times.
    fn metadata_differ(
        &mut self,
        (old, before): (BorrowedFd<'_>, &Stat),
        (new, after): (BorrowedFd<'_>, &Stat),
    ) -> Result<bool, Error> {
        let old = Metadata::of(old, before, &mut self.attributes)?;
        let new = Metadata::of(new, after, &mut self.attributes)?;
        Ok(!old.equals(&new))
    }

    /// Compares what is not a hole in both.
    fn contents_differ(&mut self, old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<bool, Error> {
        let [left, right] = &mut self.buffers;
        let mut offset = 0;
        loop {
            let data = [next_data(old, offset)?, next_data(new, offset)?];
            let Some(start) = data.into_iter().flatten().min() else { return Ok(false) };
            let read = pread(old, left.as_mut_slice(), start)?;
            let mut filled = 0;
            while filled < read {
                let room = right.get_mut(filled..read).unwrap_or_default();
                let more = pread(new, room, start + u64::try_from(filled).unwrap_or(0))?;
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
            offset = start + u64::try_from(read).unwrap_or(0);
        }
    }
}

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

#[cfg(test)]
mod test {
    use std::fs::File;
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;
    use std::time::{Duration, Instant};

    use super::*;

    const TIB: u64 = 1 << 40;

    fn sparse(size: u64, data: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (offset, bytes) in data {
            file.write_all_at(bytes, *offset).unwrap();
        }
        file
    }

    fn differ(old: &File, new: &File) -> bool {
        Comparison::default().contents_differ(old.as_fd(), new.as_fd()).unwrap()
    }

    #[test]
    fn holes_of_a_tebibyte_are_not_read() {
        let begun = Instant::now();
        let (ends, zeros) = ([(0, &b"a"[..]), (TIB - 1, b"z")], [0; 1 << 16]);
        assert!(!differ(&sparse(TIB, &[]), &sparse(TIB, &[])));
        assert!(!differ(&sparse(TIB, &ends), &sparse(TIB, &ends)));
        // Zeros that are written are the same as a hole.
        assert!(!differ(&sparse(TIB, &[(TIB / 2, &zeros)]), &sparse(TIB, &[])));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn one_byte_between_holes_is_a_difference_on_either_side() {
        for at in [0, 4095, TIB / 2, TIB - 1] {
            let (other, empty) = (sparse(TIB, &[(at, b"x")]), sparse(TIB, &[]));
            assert!(differ(&other, &empty) && differ(&empty, &other), "{at}");
            assert!(differ(&other, &sparse(TIB, &[(at, b"y")])), "{at}");
        }
    }
    #[test]
    fn a_file_is_read_unless_its_status_is_older_than_the_copy() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let put = |path: &Path, text: &str| {
            let mut file = File::create(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.set_modified(time).unwrap();
        };
        for (dir, text) in dirs.iter().zip(["one", "two"]) {
            put(&dir.path().join("a"), text);
            for (name, text) in [("x", "old"), ("y", "new")] {
                std::fs::create_dir(dir.path().join(name)).unwrap();
                put(&dir.path().join(name).join("a"), text);
            }
        }
        let open = |dir: &tempfile::TempDir| File::open(dir.path()).unwrap();
        let same = |since: SystemTime| {
            unchanged(open(&dirs[0]), open(&dirs[1]), Timestamp::from(since)).unwrap()
        };
        let now = SystemTime::now();
        // A machine has set the times back; its host's clock tells.
        assert!(!same(now));
        assert!(!same(now - Duration::from_secs(60)));
        // What is still to come says nothing.
        assert!(!same(now + Duration::from_secs(60)));
        // A change that old would be in the copy.
        std::thread::sleep(Duration::from_millis(2_100));
        assert!(same(SystemTime::now()));
        // A directory that was put in the place of another, with files as old and as long.
        for (from, to) in [("x", "z"), ("y", "x"), ("z", "y")] {
            std::fs::rename(dirs[1].path().join(from), dirs[1].path().join(to)).unwrap();
        }
        assert!(!same(SystemTime::now()));
        File::create(dirs[1].path().join("b")).unwrap();
        assert!(!same(SystemTime::now()));
    }

    #[test]
    fn trees_are_looked_at_no_further_than_to_their_first_difference() {
        let scratch = tempfile::tempdir().unwrap();
        let roots = ["old", "new"].map(|name| scratch.path().join(name));
        for (root, text) in roots.iter().zip(["one", "two"]) {
            std::fs::create_dir(root).unwrap();
            std::fs::write(root.join("a"), text).unwrap();
            std::fs::create_dir_all(root.join("z/".repeat(MAX_DEPTH + 2))).unwrap();
        }
        let [old, new] = roots.map(|root| File::open(root).unwrap());
        assert!(!equal(&old, &new).unwrap());
    }
}
