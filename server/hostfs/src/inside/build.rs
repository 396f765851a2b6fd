//! Putting files of every kind into a boot environment: what an archive is unpacked by.
//!
//! Every parent is resolved inside the root first, and the last name is never followed. So a path
//! with `..`, one through a link that leads to `/etc`, or another name for a file elsewhere stays
//! inside like any other.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
};
use rustix::io::Errno;

use super::{Inside, InsideError, failed};
use crate::{Flags, attr, sys};

/// Who a file belongs to, what may be done with it, and when it was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attributes {
    /// The permission bits, with setuid, setgid and sticky: `0o7777`.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// When its contents were changed: seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
}

/// Extended attributes, by name.
pub type Extended = BTreeMap<Vec<u8>, Vec<u8>>;

fn every_extended(fd: BorrowedFd<'_>) -> Result<Extended, Errno> {
    let mut extended = Extended::new();
    sys::each_extended(fd, |name, value| {
        extended.insert(name.to_owned(), value.to_owned());
        Ok(())
    })?;
    Ok(extended)
}

impl Attributes {
    fn times(&self) -> Timestamps {
        let (seconds, nanoseconds) = self.modified;
        Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: seconds,
                tv_nsec: i64::from(nanoseconds.min(999_999_999)),
            },
        }
    }
}

/// A file that is neither a regular one nor a directory nor a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Special {
    /// A block device, by its major and minor number.
    Block(u32, u32),
    /// A character device, by its major and minor number.
    Character(u32, u32),
    /// A FIFO.
    Fifo,
}

impl Inside {
    /// Makes a directory that everybody may enter, whatever the umask is, unless one is there or a link leads to
    /// one. Any other file there gives way. Parents that are missing are made too.
    pub fn make_dir(&self, path: impl AsRef<Path>) -> Result<(), InsideError> {
        let path = path.as_ref();
        if self.metadata(path).is_ok_and(|found| found.is_dir()) {
            return Ok(());
        }
        let (dir, name) = self.vacate(path)?;
        let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::mkdirat(&dir, name, mode)
            .and_then(|()| fs::openat(&dir, name, flags, Mode::empty()))
            .and_then(|made| fs::fchmod(made, mode))
            .map_err(|errno| failed(path, errno))
    }

    /// Makes an empty file of root's that nobody else may read, and opens it for writing. Whatever
    /// file is there gives way; a directory does not.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<File, InsideError> {
        let path = path.as_ref();
        let (dir, name) = self.vacate(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = fs::openat(&dir, name, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
        file.map(File::from).map_err(|errno| failed(path, errno))
    }

    /// Makes a symbolic link that says `target`.
    pub fn make_symlink(
        &self,
        path: impl AsRef<Path>,
        target: &OsStr,
        attributes: &Attributes,
    ) -> Result<(), InsideError> {
        let path = path.as_ref();
        let (dir, name) = self.vacate(path)?;
        fs::symlinkat(target, &dir, name)
            .and_then(|()| own(&dir, name, attributes))
            .map_err(|errno| failed(path, errno))
    }

    /// Makes a device node or a FIFO.
    pub fn make_special(
        &self,
        path: impl AsRef<Path>,
        special: Special,
        attributes: &Attributes,
    ) -> Result<(), InsideError> {
        let path = path.as_ref();
        let (kind, device) = match special {
            Special::Block(major, minor) => (FileType::BlockDevice, fs::makedev(major, minor)),
            Special::Character(major, minor) => {
                (FileType::CharacterDevice, fs::makedev(major, minor))
            }
            Special::Fifo => (FileType::Fifo, 0),
        };
        let (dir, name) = self.vacate(path)?;
        let made = fs::mknodat(&dir, name, kind, Mode::RUSR | Mode::WUSR, device)
            .and_then(|()| own(&dir, name, attributes))
            // Not through a link: the node was made just now, in a directory that is held open.
            .and_then(|()| {
                fs::chmodat(&dir, name, attr::raw_mode(attributes.mode), AtFlags::empty())
            });
        made.map_err(|errno| failed(path, errno))
    }

    /// Gives the file `existing`, or the link itself that is there, another name.
    pub fn make_link(
        &self,
        path: impl AsRef<Path>,
        existing: impl AsRef<Path>,
    ) -> Result<(), InsideError> {
        let (path, existing) = (path.as_ref(), existing.as_ref());
        let (from, old) = self.place(existing)?;
        fs::statat(&from, old, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed(existing, errno))?;
        // An archive may name a file twice and then give it as a link to itself.
        if path == existing {
            return Ok(());
        }
        let (dir, name) = self.vacate(path)?;
        fs::linkat(&from, old, &dir, name, AtFlags::empty()).map_err(|errno| failed(path, errno))
    }

    /// Gives a directory, or the one that a link leads to, its attributes.
    pub fn finish_dir(
        &self,
        path: impl AsRef<Path>,
        attributes: &Attributes,
    ) -> Result<(), InsideError> {
        let path = path.as_ref();
        finish(&self.reach(path)?, attributes).map_err(|errno| failed(path, errno))
    }

    /// Gives a regular file that was written its attributes.
    pub fn finish_file(
        &self,
        path: impl AsRef<Path>,
        file: &File,
        attributes: &Attributes,
    ) -> Result<(), InsideError> {
        finish(file, attributes).map_err(|errno| failed(path.as_ref(), errno))
    }

    /// Gives a file or a directory an extended attribute; false if the file system has no such.
    pub fn set_extended(
        &self,
        path: impl AsRef<Path>,
        name: &OsStr,
        value: &[u8],
    ) -> Result<bool, InsideError> {
        let path = path.as_ref();
        match sys::set_extended(self.reach(path)?.as_fd(), name.as_bytes(), value) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => Ok(false),
            Err(errno) => Err(failed(path, errno)),
        }
    }

    /// The extended attributes that a copy of a file or of a directory has too, access control lists among them,
    /// in the order of their names.
    pub fn extended(&self, path: impl AsRef<Path>) -> Result<Extended, InsideError> {
        let path = path.as_ref();
        every_extended(self.reach(path)?.as_fd()).map_err(|errno| failed_extended(path, errno))
    }

    /// Gives a file or a directory the extended attributes of another one, which is open, and its access
    /// control lists, and no others: without its list, a file
    /// would give its group what the mask allows, and with one that it inherits from its directory, others what that
    /// allows. What the file system cannot have is left out, and the mode stays as it is; but a file that cannot
    /// have its list lets its group do nothing.
    pub fn copy_extended(
        &self,
        path: impl AsRef<Path>,
        from: impl AsFd,
    ) -> Result<(), InsideError> {
        let (path, from) = (path.as_ref(), from.as_fd());
        let to = self.reach(path)?;
        let copied = fs::fstat(&to).and_then(|about| {
            let source = fs::fstat(from)?;
            if (source.st_dev, source.st_ino) == (about.st_dev, about.st_ino) {
                return Ok(());
            }
            let extended = every_extended(from)?;
            for name in every_extended(to.as_fd())?.keys() {
                if !extended.contains_key(name) {
                    sys::remove_extended(to.as_fd(), name)?;
                }
            }
            let mut mode = about.st_mode;
            for (name, value) in &extended {
                match sys::set_extended(to.as_fd(), name, value) {
                    Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => {
                        if name == b"system.posix_acl_access" {
                            mode &= !Mode::RWXG.as_raw_mode();
                        }
                    }
                    set => set?,
                }
            }
            sys::strip_lists(to.as_fd())?;
            // A list brings a mode along.
            fs::fchmod(&to, Mode::from_raw_mode(mode))?;
            // With NFSv4 lists a mode that is set would take entries away (`aclmode` of zfsprops(7)).
            sys::copy_lists(from, to.as_fd())?;
            // A list that lets anybody do more than the mode is cut all the same.
            let wanted = Mode::from_raw_mode(mode);
            if Mode::from_raw_mode(fs::fstat(&to)?.st_mode) == wanted {
                return Ok(());
            }
            fs::fchmod(&to, wanted)
        });
        copied.map_err(|errno| failed_extended(path, errno))
    }

    /// Adds flags to a file or a directory; returns those that the file system has not.
    pub fn set_flags(&self, path: impl AsRef<Path>, flags: Flags) -> Result<Flags, InsideError> {
        self.change_flags(path.as_ref(), Flags::default(), flags)
    }

    /// Has a file or a directory have these flags, and of those that a copy keeps no others; returns
    /// those that the file system has not.
    pub fn put_flags(&self, path: impl AsRef<Path>, flags: Flags) -> Result<Flags, InsideError> {
        self.change_flags(path.as_ref(), Flags::from_bits(u32::MAX), flags)
    }

    /// The same of a file that is open, whatever lies now at the path that it was found at.
    pub fn put_flags_of(
        &self,
        file: impl AsFd,
        path: impl AsRef<Path>,
        flags: Flags,
    ) -> Result<Flags, InsideError> {
        change_flags(file.as_fd(), path.as_ref(), Flags::from_bits(u32::MAX), flags)
    }

    fn change_flags(&self, path: &Path, gone: Flags, flags: Flags) -> Result<Flags, InsideError> {
        change_flags(self.reach(path)?.as_fd(), path, gone, flags)
    }

    /// Brings everything that was written to stable storage.
    pub fn synchronize(&self) -> Result<(), InsideError> {
        sys::synchronize(self.root.as_fd()).map_err(|errno| failed(Path::new("/"), errno))
    }

    /// Opens a regular file or a directory for reading; nothing else.
    pub(super) fn reach(&self, path: &Path) -> Result<OwnedFd, InsideError> {
        let found = self.find(path)?;
        let stat = fs::fstat(&found).map_err(|errno| failed(path, errno))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile && kind != FileType::Directory {
            return Err(InsideError::NotFile(path.to_owned()));
        }
        sys::reopen(found.as_fd(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .map_err(|errno| failed(path, errno))
    }

    /// The open directory and the name that a new file is to be made at, after the one that was there
    /// is gone. The directory is made if it is missing.
    fn vacate<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), InsideError> {
        let place = match self.place(path) {
            Err(InsideError::Missing(_)) => {
                if let Some(parent) = path.parent() {
                    self.make_dir(parent)?;
                }
                self.place(path)?
            }
            other => other?,
        };
        let (dir, name) = place;
        match fs::unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok((dir, name)),
            // FreeBSD says EPERM of a directory, Linux EISDIR; an immutable file is EPERM on both.
            Err(errno) => Err(failed(path, errno)),
        }
    }
}

/// Why extended attributes cannot be read: the kernel lists no more than 64 KiB of names (xattr(7)).
fn failed_extended(path: &Path, errno: Errno) -> InsideError {
    match errno {
        Errno::TOOBIG | Errno::RANGE => InsideError::Attributes(path.to_owned()),
        errno => failed(path, errno),
    }
}

fn finish(file: impl AsFd, attributes: &Attributes) -> rustix::io::Result<()> {
    // The order matters: chown(2) clears setuid bits, and both change times.
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    fs::fchown(&file, Some(uid), Some(gid))?;
    fs::fchmod(&file, attr::raw_mode(attributes.mode))?;
    fs::futimens(&file, &attributes.times())
}

/// Gives a link or a special file its owner and its time.
fn own(dir: &OwnedFd, name: &OsStr, attributes: &Attributes) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    fs::utimensat(dir, name, &attributes.times(), AtFlags::SYMLINK_NOFOLLOW)
}

fn change_flags(
    file: BorrowedFd<'_>,
    path: &Path,
    gone: Flags,
    flags: Flags,
) -> Result<Flags, InsideError> {
    match sys::change_flags(file, gone, flags) {
        Ok(lost) => Ok(lost),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::PERM | Errno::INVAL) => Ok(flags),
        Err(errno) => Err(failed(path, errno)),
    }
}

#[cfg(test)]
mod test {
    use std::io::Write;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;

    const ATTRIBUTES: Attributes =
        Attributes { mode: 0o4751, uid: 7, gid: 8, modified: (1_000_000_000, 5) };

    /// A root inside a directory of which everything else is the host's.
    fn scratch() -> (TempDir, Inside) {
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir(host.path().join("root")).unwrap();
        std::fs::create_dir(host.path().join("etc")).unwrap();
        std::fs::write(host.path().join("etc/passwd"), "host").unwrap();
        let inside = Inside::enter(&host.path().join("root")).unwrap();
        (host, inside)
    }

    #[test]
    fn a_file_has_the_owner_mode_and_time_it_was_given() {
        let (host, inside) = scratch();
        let mut file = inside.create("usr/bin/su").unwrap();
        file.write_all(b"x").unwrap();
        inside.finish_file("usr/bin/su", &file, &ATTRIBUTES).unwrap();
        let found = std::fs::metadata(host.path().join("root/usr/bin/su")).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (7, 8, 0o4751));
        assert_eq!((found.mtime(), found.mtime_nsec()), (1_000_000_000, 5));
    }

    #[test]
    fn a_link_out_in_the_way_leads_to_nothing_outside() {
        let (host, inside) = scratch();
        symlink(host.path().join("etc"), host.path().join("root/etc")).unwrap();
        symlink("../../etc", host.path().join("root/up")).unwrap();
        // The first gives way to a directory, the second means one inside.
        for path in ["etc/passwd", "up/passwd", "etc/shadow"] {
            inside.create(path).unwrap();
        }
        assert_eq!(std::fs::read(host.path().join("etc/passwd")).unwrap(), b"host");
        assert!(!host.path().join("etc/shadow").exists());
    }

    #[test]
    fn a_link_at_the_name_itself_is_replaced_and_not_written_through() {
        let (host, inside) = scratch();
        symlink(host.path().join("etc/passwd"), host.path().join("root/file")).unwrap();
        inside.create("file").unwrap().write_all(b"guest").unwrap();
        assert_eq!(std::fs::read(host.path().join("etc/passwd")).unwrap(), b"host");
        assert_eq!(std::fs::read(host.path().join("root/file")).unwrap(), b"guest");
    }

    #[test]
    fn another_name_for_a_file_outside_is_refused() {
        let (host, inside) = scratch();
        for outside in ["../etc/passwd", "/etc/passwd"] {
            assert!(matches!(inside.make_link("own", outside), Err(InsideError::Missing(_))));
        }
        assert_eq!(std::fs::metadata(host.path().join("etc/passwd")).unwrap().nlink(), 1);
    }

    #[test]
    fn two_names_are_one_file() {
        let (host, inside) = scratch();
        inside.create("more").unwrap();
        inside.make_link("less", "more").unwrap();
        inside.make_link("less", "less").unwrap();
        assert_eq!(std::fs::metadata(host.path().join("root/less")).unwrap().nlink(), 2);
    }

    #[test]
    fn a_fifo_is_made_with_its_mode_and_never_opened() {
        let (host, inside) = scratch();
        inside.make_special("pipe", Special::Fifo, &ATTRIBUTES).unwrap();
        let found = std::fs::symlink_metadata(host.path().join("root/pipe")).unwrap();
        assert!(found.file_type().is_fifo());
        assert_eq!(found.permissions().mode() & 0o7777, 0o4751);
        assert!(matches!(inside.set_flags("pipe", Flags::IMMUTABLE), Err(InsideError::NotFile(_))));
    }

    #[test]
    fn a_directory_gives_way_to_nothing() {
        let (_host, inside) = scratch();
        inside.make_dir("a/b").unwrap();
        assert!(inside.create("a").is_err());
        inside.make_dir("a").unwrap();
        assert!(inside.exists("a/b").unwrap());
    }

    #[test]
    fn a_link_to_a_directory_inside_stays_when_a_directory_is_made_there() {
        let (host, inside) = scratch();
        inside.make_dir("usr/lib").unwrap();
        symlink("usr/lib", host.path().join("root/lib")).unwrap();
        inside.make_dir("lib").unwrap();
        inside.create("lib/libc.so").unwrap();
        assert!(host.path().join("root/usr/lib/libc.so").exists());
        assert!(host.path().join("root/lib").is_symlink());
    }
}
