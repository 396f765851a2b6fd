//! Makes a tree of a stream.

use std::ffi::{CStr, CString, OsStr};
use std::io::{self, Error, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, Uid, chmodat, chownat,
    fchmod, fchown, ftruncate, futimens, linkat, makedev, mkdirat, mknodat, openat, statat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::pwrite;

use super::CHUNK;
use crate::error::at;
use crate::stream::StreamError;
use crate::tree::{open_dir, remove_contents};
use crate::{StoreError, sys};

/// Makes in the directory `tree` what [`write`](super::write()) wrote, or changes it to that. `path` is the tree's,
/// for messages.
///
/// The sender is not trusted with more than the tree: no path leads out of it.
pub(crate) fn apply(tree: impl AsFd, path: &Path, from: &mut dyn Read) -> Result<(), StoreError> {
    let mut reader = Reader { tree: tree.as_fd(), path, from, buffer: vec![0; CHUNK] };
    while reader.record()? {}
    // Only here is it known that nothing is missing.
    let mut rest = [0];
    match reader.from.read(&mut rest).map_err(at("receive", path))? {
        0 => Ok(()),
        _ => Err(nonsense("something follows its end").into()),
    }
}

struct Reader<'a> {
    tree: BorrowedFd<'a>,
    path: &'a Path,
    from: &'a mut dyn Read,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    /// Does what one record says; false at the last.
    fn record(&mut self) -> Result<bool, StoreError> {
        let [tag] = self.array().map_err(at("receive", self.path))?;
        if tag == b'E' {
            return Ok(false);
        }
        let below = self.text().map_err(at("receive", self.path))?;
        let path = self.path.join(OsStr::from_bytes(&below));
        if tag == b'M' {
            let dir = self.find(&below).map_err(at("receive", &path))?;
            let meta = self.meta().map_err(at("receive", &path))?;
            return meta.finish(dir.as_fd()).map_err(at("receive", &path)).map(|()| true);
        }
        let (parent, name) = split(&below).map_err(at("receive", &path))?;
        let dir = self.find(parent).map_err(at("receive", &path))?;
        let dir = dir.as_fd();
        if tag == b'R' {
            return self.remove(dir, &name, &path).map(|()| true);
        }
        let made = match tag {
            b'D' => mkdirat(dir, &name, Mode::RWXU).map_err(Error::from),
            b'F' => self.file(dir, &name),
            b'L' => self.link(dir, &name),
            b'N' => self.node(dir, &name),
            b'S' => self.symlink(dir, &name),
            _ => Err(nonsense("an unknown kind of record").into()),
        };
        made.map_err(at("receive", &path)).map(|()| true)
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Error> {
        let meta = self.meta()?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        loop {
            let mut offset = u64::from_be_bytes(self.array()?);
            let len = usize::try_from(u32::from_be_bytes(self.array()?)).unwrap_or(usize::MAX);
            if len == 0 {
                ftruncate(&file, offset)?;
                return meta.finish(file.as_fd());
            }
            let mut rest =
                self.buffer.get_mut(..len).ok_or_else(|| nonsense("a range is longer than any"))?;
            self.from.read_exact(rest).map_err(cut)?;
            while !rest.is_empty() {
                let written = pwrite(&file, &*rest, offset)?;
                rest = rest.get_mut(written..).unwrap_or_default();
                offset += u64::try_from(written).unwrap_or(0);
            }
        }
    }

    fn link(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Error> {
        let first = self.text()?;
        let (parent, first) = split(&first)?;
        let from = self.find(parent)?;
        Ok(linkat(from, first, dir, name, AtFlags::empty())?)
    }

    fn symlink(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Error> {
        let meta = self.meta()?;
        let says = CString::new(self.text()?)?;
        symlinkat(says, dir, name)?;
        meta.finish_at(dir, name, false)
    }

    fn node(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Error> {
        let meta = self.meta()?;
        let (major, minor) = (u32::from_be_bytes(self.array()?), u32::from_be_bytes(self.array()?));
        let kind = FileType::from_raw_mode(meta.mode);
        match kind {
            FileType::BlockDevice | FileType::CharacterDevice | FileType::Fifo => {}
            FileType::Socket if sys::SOCKETS => {}
            // A socket is made again by the program that listens; nothing else is left.
            FileType::Socket => return Ok(()),
            FileType::Directory | FileType::RegularFile | FileType::Symlink | FileType::Unknown => {
                return Err(nonsense("a device that is none").into());
            }
        }
        mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, makedev(major, minor))?;
        meta.finish_at(dir, name, true)
    }

    fn remove(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<(), StoreError> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(at("remove", path))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let doomed = open_dir(dir, name).map_err(at("remove", path))?;
            remove_contents(&doomed, path)?;
            return unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(at("remove", path));
        }
        unlinkat(dir, name, AtFlags::empty()).map_err(at("remove", path))
    }

    fn meta(&mut self) -> Result<Meta, Error> {
        let mode = u32::from_be_bytes(self.array()?);
        let (uid, gid) = (u32::from_be_bytes(self.array()?), u32::from_be_bytes(self.array()?));
        let mut time = || -> Result<Timespec, Error> {
            let seconds = i64::from_be_bytes(self.array()?);
            let nanoseconds = u32::from_be_bytes(self.array()?);
            Ok(Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() })
        };
        let times = Timestamps { last_access: time()?, last_modification: time()? };
        let count = u32::from_be_bytes(self.array()?);
        let mut attributes = Vec::new();
        let mut total = 0;
        for _ in 0..count {
            let name = CString::new(self.text()?)?;
            let len = usize::try_from(u32::from_be_bytes(self.array()?)).unwrap_or(usize::MAX);
            total += len;
            if len > MAX_ATTRIBUTE || total > MAX_TOTAL || attributes.len() == MAX_ATTRIBUTES {
                return Err(nonsense("extended attributes larger than any").into());
            }
            let mut value = vec![0; len];
            self.from.read_exact(&mut value).map_err(cut)?;
            attributes.push((name, value));
        }
        let mode = RawMode::try_from(mode).map_err(|_| nonsense("a mode that is none"))?;
        Ok(Meta { mode, uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), times, attributes })
    }

    /// Opens a directory of the tree by its path.
    fn find(&self, below: &[u8]) -> Result<OwnedFd, Error> {
        let mut dir = self.tree.try_clone_to_owned()?;
        for name in below.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            dir = open_dir(&dir, &*plain(name)?)?;
        }
        Ok(dir)
    }

    fn text(&mut self) -> Result<Vec<u8>, Error> {
        let len = u16::from_be_bytes(self.array()?);
        let mut text = vec![0; usize::from(len)];
        self.from.read_exact(&mut text).map_err(cut)?;
        Ok(text)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).map_err(cut)?;
        Ok(bytes)
    }
}

/// What belongs to every file.
struct Meta {
    mode: RawMode,
    uid: Uid,
    gid: Gid,
    times: Timestamps,
    attributes: Vec<(CString, Vec<u8>)>,
}

impl Meta {
    /// Gives it to an open file or directory.
    fn finish(&self, file: BorrowedFd<'_>) -> Result<(), Error> {
        // The order matters: chown clears setuid bits and file capabilities, and all change times.
        fchown(file, Some(self.uid), Some(self.gid))?;
        fchmod(file, Mode::from_raw_mode(self.mode))?;
        for (name, value) in &self.attributes {
            sys::set_attribute(file, name, value)?;
        }
        Ok(futimens(file, &self.times)?)
    }

    /// Gives it to what cannot be opened.
    fn finish_at(&self, dir: BorrowedFd<'_>, name: &CStr, has_mode: bool) -> Result<(), Error> {
        chownat(dir, name, Some(self.uid), Some(self.gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if has_mode {
            // Follows links, but nobody else can reach the tree yet: this is the node just made.
            chmodat(dir, name, Mode::from_raw_mode(self.mode), AtFlags::empty())?;
        }
        for (attribute, value) in &self.attributes {
            sys::set_attribute_at(dir, name, attribute, value)?;
        }
        Ok(utimensat(dir, name, &self.times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
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

/// The frames end where a record does not.
fn cut(error: Error) -> Error {
    match error.kind() == io::ErrorKind::UnexpectedEof {
        true => nonsense("it ends in a record").into(),
        false => error,
    }
}

fn nonsense(what: &str) -> StreamError {
    StreamError::Nonsense(what.to_owned())
}

/// The kernel's limit for one value (`XATTR_SIZE_MAX`).
const MAX_ATTRIBUTE: usize = 65_536;
/// More than anybody keeps with one file, and held in memory until the file is there.
const MAX_TOTAL: usize = 16 << 20;
/// A list of names has at most 64 KiB (`XATTR_LIST_MAX`), and a name at least one byte and its end.
const MAX_ATTRIBUTES: usize = 32_768;

#[cfg(test)]
mod test {
    use std::fs;

    use rustix::process::{getgid, getuid};

    use super::*;

    fn text(bytes: &[u8]) -> Vec<u8> {
        let len = u16::try_from(bytes.len()).unwrap();
        [&len.to_be_bytes(), bytes].concat()
    }

    /// A mode with nothing special, this user and group, the year 1970, and this many attributes.
    fn meta(mode: u32, attributes: u32) -> Vec<u8> {
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        let numbers = [mode, uid, gid].map(u32::to_be_bytes).concat();
        [numbers, vec![0; 24], attributes.to_be_bytes().to_vec()].concat()
    }

    fn directory(path: &[u8]) -> Vec<u8> {
        [b"D".to_vec(), text(path)].concat()
    }

    fn symlink(path: &[u8], says: &[u8]) -> Vec<u8> {
        [b"S".to_vec(), text(path), meta(0o777, 0), text(says)].concat()
    }

    /// A file whose only range has this offset and length, and these bytes.
    fn file(path: &[u8], offset: u64, len: u32, bytes: &[u8]) -> Vec<u8> {
        let range = [&offset.to_be_bytes()[..], &len.to_be_bytes(), bytes].concat();
        [b"F".to_vec(), text(path), meta(0o644, 0), range, vec![0; 12]].concat()
    }

    /// Applies records to a directory `tree` beside another, `outside`, and says what is in that.
    fn apply_to(records: &[Vec<u8>]) -> (Result<(), StoreError>, usize) {
        let scratch = tempfile::tempdir().unwrap();
        let (tree, outside) = (scratch.path().join("tree"), scratch.path().join("outside"));
        fs::create_dir(&tree).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        let opened = open_dir(rustix::fs::CWD, &tree).unwrap();
        let stream = [records.concat(), b"E".to_vec()].concat();
        let applied = apply(&opened, &tree, &mut &*stream);
        (applied, fs::read_dir(&outside).unwrap().count())
    }

    #[test]
    fn no_path_leads_out_of_the_tree() {
        let link = || symlink(b"link", b"../outside");
        let removed = [b"R".to_vec(), text(b"link/kept")].concat();
        let linked = [b"L".to_vec(), text(b"name"), text(b"../outside/kept")].concat();
        let through = [b"L".to_vec(), text(b"name"), text(b"link/kept")].concat();
        for records in [
            vec![file(b"../outside/new", 0, 1, b"x")],
            vec![file(b"a/../../outside/new", 0, 1, b"x")],
            vec![link(), file(b"link/new", 0, 1, b"x")],
            vec![link(), file(b"link", 0, 1, b"x")],
            vec![link(), directory(b"link/new")],
            vec![link(), symlink(b"link/new", b"x")],
            vec![link(), removed],
            vec![link(), through],
            vec![linked],
            vec![link(), [b"M".to_vec(), text(b"link"), meta(0o777, 0)].concat()],
        ] {
            let (applied, outside) = apply_to(&records);
            assert!(applied.is_err(), "{records:?}");
            assert_eq!(outside, 1, "{records:?}");
        }
    }

    #[test]
    fn a_length_is_not_believed() {
        let attributes = [b"F".to_vec(), text(b"file"), meta(0o644, u32::MAX)].concat();
        let long = [attributes.clone(), text(b"user.x"), u32::MAX.to_be_bytes().to_vec()].concat();
        for records in
            [file(b"file", 0, u32::MAX, b"x"), file(b"file", u64::MAX, 1, b"x"), attributes, long]
        {
            let (applied, _) = apply_to(&[records]);
            assert!(applied.is_err());
        }
    }

    #[test]
    fn what_is_held_in_memory_of_one_file_has_a_limit() {
        let value = [text(b"user.x"), 65_536_u32.to_be_bytes().to_vec(), vec![0; 65_536]].concat();
        let many = [b"F".to_vec(), text(b"file"), meta(0o644, 300), value.repeat(300)].concat();
        let StoreError::Io { error, .. } = apply_to(&[many]).0.unwrap_err() else { panic!() };
        assert!(error.to_string().contains("larger than any"), "{error}");
    }

    #[test]
    fn a_path_from_the_root_is_one_below_the_tree() {
        let (applied, outside) = apply_to(&[directory(b"/etc"), file(b"/etc/new", 0, 1, b"x")]);
        applied.unwrap();
        assert_eq!(outside, 1);
    }
}
