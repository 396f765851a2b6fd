//! The host's own door into a boot environment.
//!
//! Whatever the server reads or writes in a boot environment on its own behalf (boot files, identity,
//! checks, generated configuration) goes through here. A guest's root arranged what lies behind it:
//! links are followed inside only, `/etc/shadow` means the guest's own, and only regular files and
//! directories are ever opened.

mod build;
mod entry;

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::{attr, sys};

pub use build::{Attributes, Extended, Special};
pub use entry::{Entry, EntryKind};

/// A directory, seen as `/` from inside.
///
/// Paths are resolved below it whether they begin with `/` or not, and `..` ends at it.
#[derive(Debug)]
pub struct Inside {
    root: OwnedFd,
}

impl AsFd for Inside {
    /// The root.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl Inside {
    /// Enters the directory at `root`, a path of the host.
    ///
    /// Fails with [`InsideError::Io`] if it cannot be opened, or is no directory.
    pub fn enter(root: &Path) -> Result<Self, InsideError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = fs::open(root, flags, Mode::empty());
        opened.map(|root| Self { root }).map_err(|errno| failed(root, errno))
    }

    /// Enters a directory that is open already.
    #[must_use]
    pub const fn from_fd(root: OwnedFd) -> Self {
        Self { root }
    }

    /// Opens a regular file for reading, without ever waiting for a FIFO or waking a device.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<File, InsideError> {
        let path = path.as_ref();
        let found = self.find(path)?;
        let metadata = describe(path, &found)?;
        if !metadata.is_file() {
            return Err(InsideError::NotFile(path.to_owned()));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = sys::reopen(found.as_fd(), flags).map_err(|errno| failed(path, errno))?;
        Ok(File::from(file))
    }

    /// What is at `path`; links are followed, and nothing is opened.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata, InsideError> {
        let path = path.as_ref();
        describe(path, &self.find(path)?)
    }

    /// The attributes of what is at `path`, as NFS gives them; links are followed, and nothing is opened.
    pub fn attributes(&self, path: impl AsRef<Path>) -> Result<vfs::Attr, InsideError> {
        let path = path.as_ref();
        let stat = fs::fstat(self.find(path)?).map_err(|errno| failed(path, errno))?;
        Ok(attr::from_stat(&stat, 0))
    }

    /// Whether a file or a directory has an access control list that says more than its mode. Linux
    /// alone is asked; of anything else than files and directories it is an error.
    pub fn has_list(&self, path: impl AsRef<Path>) -> Result<bool, InsideError> {
        let path = path.as_ref();
        sys::has_list(self.reach(path)?.as_fd()).map_err(|errno| failed(path, errno))
    }

    /// Whether there is anything at `path`. A link that leads nowhere does not count.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool, InsideError> {
        match self.find(path.as_ref()) {
            Ok(_) => Ok(true),
            Err(InsideError::Missing(_) | InsideError::NotDirectory(_)) => Ok(false),
            Err(
                error @ (InsideError::Attributes(_)
                | InsideError::Io { .. }
                | InsideError::NotFile(_)
                | InsideError::TooLarge { .. }
                | InsideError::TooMany { .. }),
            ) => Err(error),
        }
    }

    /// Whether there is a symbolic link at `path` itself.
    pub fn is_link(&self, path: impl AsRef<Path>) -> Result<bool, InsideError> {
        let path = path.as_ref();
        let (dir, name) = self.place(path)?;
        match fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Symlink),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed(path, errno)),
        }
    }

    /// The names in a directory, at most `max` of them, in the order of their bytes.
    pub fn read_dir(
        &self,
        path: impl AsRef<Path>,
        max: usize,
    ) -> Result<Vec<OsString>, InsideError> {
        let path = path.as_ref();
        let found = self.find(path)?;
        if !describe(path, &found)?.is_dir() {
            return Err(InsideError::NotDirectory(path.to_owned()));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = sys::reopen(found.as_fd(), flags).map_err(|errno| failed(path, errno))?;
        let entries = fs::Dir::new(dir).map_err(|errno| failed(path, errno))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|errno| failed(path, errno))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if names.len() == max {
                return Err(InsideError::TooMany { path: path.to_owned(), max });
            }
            names.push(OsStr::from_bytes(name).to_owned());
        }
        names.sort();
        Ok(names)
    }

    /// The root directory of another file system, if one is mounted at `path`: opened for reading.
    ///
    /// No link on the way is followed, and a directory that is missing has nothing mounted on it.
    pub fn mounted(&self, path: impl AsRef<Path>) -> Result<Option<OwnedFd>, InsideError> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let device = |fd: &OwnedFd| fs::fstat(fd).map(|stat| stat.st_dev);
        let step = |above: &OwnedFd, name: &OsStr| -> rustix::io::Result<(OwnedFd, bool)> {
            let dir = fs::openat(above, name, flags, Mode::empty())?;
            let border = device(&dir)? != device(above)?;
            Ok((dir, border))
        };
        let mut last = None;
        for name in path.components() {
            let Component::Normal(name) = name else { continue };
            let above = last.as_ref().map_or(&self.root, |(dir, _)| dir);
            match step(above, name) {
                Ok(next) => last = Some(next),
                // A link that is not to be followed is ELOOP on Linux and EMLINK on FreeBSD.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => return Ok(None),
                Err(errno) => return Err(failed(path, errno)),
            }
        }
        Ok(last.and_then(|(dir, border)| border.then_some(dir)))
    }

    /// Reads a whole file of at most `max` bytes.
    pub fn read_small(&self, path: impl AsRef<Path>, max: usize) -> Result<Vec<u8>, InsideError> {
        let path = path.as_ref();
        let file = self.open(path)?;
        let mut bytes = Vec::new();
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        let read = file.take(limit).read_to_end(&mut bytes);
        read.map_err(|source| InsideError::Io { path: path.to_owned(), source })?;
        if bytes.len() > max {
            return Err(InsideError::TooLarge { path: path.to_owned(), max });
        }
        Ok(bytes)
    }

    /// Puts a file of root's with `bytes` and `mode` (`0o7777`) at `path`, all at once: whoever reads
    /// it, even after a power failure, sees the old file or the new one.
    ///
    /// Its directory has to exist. A link at `path` itself is replaced, not followed.
    pub fn write_atomic(
        &self,
        path: impl AsRef<Path>,
        bytes: &[u8],
        mode: u32,
    ) -> Result<(), InsideError> {
        self.write(path.as_ref(), bytes, mode, None)
    }

    /// The same, for a user and a group if any are given.
    fn write(
        &self,
        path: &Path,
        bytes: &[u8],
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> Result<(), InsideError> {
        let (dir, name) = self.place(path)?;
        let write = |draft: &str, file: File| -> io::Result<()> {
            let mut file = file;
            file.write_all(bytes)?;
            if let Some((uid, gid)) = owner {
                let (uid, gid) = (fs::Uid::from_raw(uid), fs::Gid::from_raw(gid));
                fs::fchown(&file, Some(uid), Some(gid))?;
            }
            // After the owner, because a change of that takes setuid away.
            fs::fchmod(&file, attr::raw_mode(mode))?;
            file.sync_all()?;
            fs::renameat(&dir, draft, &dir, name)?;
            Ok(fs::fsync(&dir)?)
        };
        let (draft, file) = draft(&dir).map_err(|errno| failed(path, errno))?;
        write(&draft, file).map_err(|source| {
            // The first error is the one to tell; a draft that cannot be removed changes nothing.
            let _ = fs::unlinkat(&dir, draft.as_str(), AtFlags::empty());
            InsideError::Io { path: path.to_owned(), source }
        })
    }

    /// Removes a file, or a link itself; whether there was one.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<bool, InsideError> {
        let path = path.as_ref();
        let (dir, name) = self.place(path)?;
        match fs::unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed(path, errno)),
        }
    }

    fn find(&self, path: &Path) -> Result<OwnedFd, InsideError> {
        let inside = path.strip_prefix("/").unwrap_or(path);
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        sys::resolve(self.root.as_fd(), inside.as_os_str().as_bytes())
            .map_err(|errno| failed(path, errno))
    }

    /// The directory that holds `path`, open for reading, and the last name of `path`.
    fn place<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), InsideError> {
        let name = path.file_name().ok_or_else(|| InsideError::NotFile(path.to_owned()))?;
        let parent = path.parent().unwrap_or_else(|| Path::new("/"));
        let found = self.find(parent)?;
        let dir = sys::reopen(found.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|errno| failed(parent, errno))?;
        Ok((dir, name))
    }
}

/// Why something inside could not be had.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// It has more extended attributes than can be read.
    #[error(
        "{}: the names of its extended attributes are longer than 64 KiB together, or one of them is: remove those that \
         are not needed (on Linux with setfattr -x, on FreeBSD with rmextattr)",
        .0.display()
    )]
    Attributes(PathBuf),
    /// The host failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path as asked for.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// There is nothing of that name, or a link that leads nowhere inside.
    #[error("{}: no such file", .0.display())]
    Missing(PathBuf),
    /// Something on the way, or what a directory was expected at, is none.
    #[error("{}: not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// It is there, and it is not a regular file: nothing else is ever opened.
    #[error("{}: not a regular file", .0.display())]
    NotFile(PathBuf),
    /// The file is larger than any sensible one of its sort.
    #[error("{}: larger than {max} bytes", path.display())]
    TooLarge {
        /// The path as asked for.
        path: PathBuf,
        /// The limit in bytes.
        max: usize,
    },
    /// The directory has more entries than any sensible one of its sort.
    #[error("{}: more than {max} entries", path.display())]
    TooMany {
        /// The path as asked for.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
}

fn failed(path: &Path, errno: Errno) -> InsideError {
    match errno {
        Errno::NOENT => InsideError::Missing(path.to_owned()),
        Errno::NOTDIR => InsideError::NotDirectory(path.to_owned()),
        other => InsideError::Io { path: path.to_owned(), source: other.into() },
    }
}

fn describe(path: &Path, found: &OwnedFd) -> Result<Metadata, InsideError> {
    let metadata = found.try_clone().and_then(|fd| File::from(fd).metadata());
    metadata.map_err(|source| InsideError::Io { path: path.to_owned(), source })
}

/// A new, empty file beside the one that it will replace, and its name.
fn draft(dir: &OwnedFd) -> rustix::io::Result<(String, File)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let name = format!(".netbe-{}-{number}", std::process::id());
        match fs::openat(dir, name.as_str(), flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => return Ok((name, File::from(fd))),
            // A guest that guesses names can make this loop once per file that it made.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Numbers drafts apart within this process.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod test {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;

    fn scratch() -> (TempDir, Inside) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/shadow"), "of the guest").unwrap();
        let inside = Inside::enter(dir.path()).unwrap();
        (dir, inside)
    }

    #[test]
    fn a_link_to_the_hosts_shadow_means_the_guests() {
        let (dir, inside) = scratch();
        symlink("/etc/shadow", dir.path().join("kernel")).unwrap();
        assert_eq!(inside.read_small("kernel", 100).unwrap(), b"of the guest");
    }

    #[test]
    fn dots_do_not_climb_out() {
        let (_dir, inside) = scratch();
        assert_eq!(inside.read_small("../../../../etc/shadow", 100).unwrap(), b"of the guest");
        assert!(matches!(inside.open("../../etc/passwd"), Err(InsideError::Missing(_))));
    }

    #[test]
    fn a_magic_link_out_of_proc_is_not_followed() {
        let (dir, inside) = scratch();
        symlink("/proc/self/root/etc/passwd", dir.path().join("out")).unwrap();
        assert!(matches!(inside.open("out"), Err(InsideError::Missing(_))));
    }

    #[test]
    fn a_fifo_is_refused_and_does_not_wait() {
        let (dir, inside) = scratch();
        let mode = Mode::RUSR | Mode::WUSR;
        fs::mknodat(fs::CWD, dir.path().join("pipe"), fs::FileType::Fifo, mode, 0).unwrap();
        assert!(matches!(inside.open("pipe"), Err(InsideError::NotFile(_))));
        assert!(matches!(inside.open("etc"), Err(InsideError::NotFile(_))));
    }

    #[test]
    fn a_file_is_not_read_past_the_limit() {
        let (_dir, inside) = scratch();
        assert_eq!(inside.read_small("etc/shadow", 12).unwrap().len(), 12);
        let error = inside.read_small("etc/shadow", 11).unwrap_err();
        assert!(matches!(error, InsideError::TooLarge { max: 11, .. }));
    }

    #[test]
    fn names_are_sorted_and_counted() {
        let (dir, inside) = scratch();
        std::fs::write(dir.path().join("a"), "").unwrap();
        assert_eq!(inside.read_dir("/", 2).unwrap(), ["a", "etc"]);
        assert!(matches!(inside.read_dir("/", 1), Err(InsideError::TooMany { .. })));
        assert!(matches!(inside.read_dir("a", 1), Err(InsideError::NotDirectory(_))));
    }

    #[test]
    fn what_is_missing_does_not_exist_and_is_no_failure() {
        let (dir, inside) = scratch();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        assert!(inside.exists("etc/shadow").unwrap());
        assert!(!inside.exists("dangling").unwrap());
        assert!(!inside.exists("etc/shadow/under").unwrap());
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_keeps_no_draft() {
        let (dir, inside) = scratch();
        inside.write_atomic("/etc/shadow", b"new", 0o640).unwrap();
        let metadata = std::fs::metadata(dir.path().join("etc/shadow")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
        assert_eq!(inside.read_small("etc/shadow", 10).unwrap(), b"new");
        assert_eq!(inside.read_dir("etc", 10).unwrap(), ["shadow"]);
    }

    #[test]
    fn a_link_is_replaced_and_what_it_says_left_alone() {
        let (dir, inside) = scratch();
        symlink("shadow", dir.path().join("etc/link")).unwrap();
        inside.write_atomic("etc/link", b"own", 0o600).unwrap();
        assert_eq!(inside.read_small("etc/shadow", 100).unwrap(), b"of the guest");
        assert!(inside.metadata("etc/link").unwrap().is_file());
    }

    #[test]
    fn a_directory_reached_by_a_link_out_is_one_inside() {
        let (dir, inside) = scratch();
        symlink("/etc", dir.path().join("conf")).unwrap();
        inside.write_atomic("conf/hostid", b"1", 0o644).unwrap();
        let made = std::fs::metadata(dir.path().join("etc/hostid")).unwrap();
        assert_eq!(made.size(), 1);
    }

    #[test]
    fn a_link_is_removed_itself() {
        let (dir, inside) = scratch();
        symlink("shadow", dir.path().join("etc/link")).unwrap();
        assert!(inside.remove("etc/link").unwrap());
        assert!(!inside.remove("etc/link").unwrap());
        assert!(inside.exists("etc/shadow").unwrap());
    }
}
