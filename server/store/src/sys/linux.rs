//! Linux.

use std::ffi::{CStr, OsStr};
use std::io::Error;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, StatxAttributes, StatxFlags, Timespec, Timestamps,
    XattrFlags, copy_file_range, fgetxattr, flistxattr, fsetxattr, fstat, ioctl_ficlone, lgetxattr,
    llistxattr, lsetxattr, openat, statx, syncfs,
};
use rustix::io::Errno;

use crate::Obstacle;

/// Whether sockets can be made by mknod(2).
pub(crate) const SOCKETS: bool = true;

/// Opens a regular file for reading, and nothing else: not for an instant.
///
/// Between a look at the name and its opening a guest can put a device node there, and to open one
/// is to use it. So the file is first held without being opened, looked at, and then opened.
pub(crate) fn open_regular(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = openat(dir, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&held)?.st_mode) != FileType::RegularFile {
        return Err(Error::other("it changes while it is read"));
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(descriptor(held.as_fd()), flags, Mode::empty())?)
}

/// Lets the target share the source's blocks (`FICLONE`); false where the file system cannot.
pub(crate) fn reflink(from: &OwnedFd, to: &OwnedFd) -> bool {
    ioctl_ficlone(to, from).is_ok()
}

/// Copies at most `len` bytes inside the kernel; `None` where it cannot.
pub(crate) fn copy_range(
    from: &OwnedFd,
    to: &OwnedFd,
    offset: u64,
    len: u64,
) -> Result<Option<u64>, Error> {
    let (mut read, mut written) = (offset, offset);
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    match copy_file_range(from, Some(&mut read), to, Some(&mut written), len) {
        Ok(copied) => Ok(Some(u64::try_from(copied).unwrap_or(0))),
        Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What keeps a file from being removed.
pub(crate) fn obstacle(dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<Obstacle>, Error> {
    let found = statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)?.stx_attributes;
    Ok(if found.contains(StatxAttributes::MOUNT_ROOT) {
        Some(Obstacle::MountPoint)
    } else if found.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND) {
        Some(Obstacle::Immutable)
    } else {
        None
    })
}

/// Brings everything of the file system that holds `dir` to stable storage.
pub(crate) fn synchronize(dir: BorrowedFd<'_>) -> Result<(), Error> {
    Ok(syncfs(dir)?)
}

/// The access and modification times, to be set on a copy.
pub(crate) fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Copies extended attributes: capabilities of programs, POSIX ACLs, labels.
pub(crate) struct Attributes {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { names: vec![0; XATTR_MAX], value: vec![0; XATTR_MAX] }
    }
}

impl Attributes {
    /// Copies those of an open file or directory.
    pub(crate) fn copy(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Error> {
        let Some(len) = supported(flistxattr(from, self.names.as_mut_slice()))? else {
            return Ok(());
        };
        for name in names(self.names.get(..len).unwrap_or_default()) {
            let len = fgetxattr(from, name, self.value.as_mut_slice())?;
            let value = self.value.get(..len).unwrap_or_default();
            fsetxattr(to, name, value, XattrFlags::empty())?;
        }
        Ok(())
    }

    /// Copies those of a symbolic link or special file, which cannot be opened.
    pub(crate) fn copy_at(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<(), Error> {
        let path = |dir| descriptor(dir).join(OsStr::from_bytes(name.to_bytes()));
        self.copy_paths(&path(source), &path(target))
    }

    fn copy_paths(&mut self, from: &Path, to: &Path) -> Result<(), Error> {
        let Some(len) = supported(llistxattr(from, self.names.as_mut_slice()))? else {
            return Ok(());
        };
        for name in names(self.names.get(..len).unwrap_or_default()) {
            let len = lgetxattr(from, name, self.value.as_mut_slice())?;
            let value = self.value.get(..len).unwrap_or_default();
            lsetxattr(to, name, value, XattrFlags::empty())?;
        }
        Ok(())
    }
}

/// A list of extended attributes, or `None` on a file system that has none.
fn supported(listed: rustix::io::Result<usize>) -> Result<Option<usize>, Error> {
    match listed {
        Ok(0) | Err(Errno::OPNOTSUPP) => Ok(None),
        Ok(len) => Ok(Some(len)),
        Err(error) => Err(error.into()),
    }
}

fn names(list: &[u8]) -> impl Iterator<Item = &CStr> {
    list.split_inclusive(|&byte| byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok())
}

/// The path by which the process can name what it has open.
fn descriptor(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The kernel's limits for one value and for the list of names (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const XATTR_MAX: usize = 65_536;
