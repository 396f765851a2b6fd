//! FreeBSD.

use std::ffi::CStr;
use std::io::Error;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, fstat, openat, statat, sync,
};

use crate::Obstacle;

/// Whether sockets can be made by mknod(2): EINVAL on FreeBSD.
pub(crate) const SOCKETS: bool = false;

/// Opens a regular file for reading.
///
/// `O_NONBLOCK` keeps a FIFO that was put there meanwhile from waiting for its writer.
pub(crate) fn open_regular(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Error::other("it changes while it is read"));
    }
    Ok(file)
}

/// FreeBSD has no call that shares a whole file's blocks.
pub(crate) fn reflink(_from: &OwnedFd, _to: &OwnedFd) -> bool {
    false
}

/// Left to reading and writing: copy_file_range(2) of FreeBSD 13 keeps no holes on UFS.
pub(crate) fn copy_range(
    _from: &OwnedFd,
    _to: &OwnedFd,
    _offset: u64,
    _len: u64,
) -> Result<Option<u64>, Error> {
    Ok(None)
}

/// What keeps a file from being removed: the base system sets `schg` on libc, init and others.
pub(crate) fn obstacle(dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<Obstacle>, Error> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(if is_dir && stat.st_dev != fstat(dir)?.st_dev {
        Some(Obstacle::MountPoint)
    } else if stat.st_flags & FIXED != 0 {
        Some(Obstacle::Immutable)
    } else {
        None
    })
}

/// Brings everything to stable storage: there is no syncfs(2).
pub(crate) fn synchronize(_dir: BorrowedFd<'_>) -> Result<(), Error> {
    sync();
    Ok(())
}

/// The access and modification times, to be set on a copy.
pub(crate) fn times(stat: &Stat) -> Timestamps {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Extended attributes and NFSv4 ACLs of FreeBSD are not copied: the base system uses neither.
#[derive(Default)]
pub(crate) struct Attributes {}

impl Attributes {
    /// Copies those of an open file or directory: none.
    #[expect(clippy::unused_self, reason = "Linux keeps its buffers in it")]
    pub(crate) fn copy(&mut self, _: BorrowedFd<'_>, _: BorrowedFd<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Copies those of a symbolic link or special file: none.
    #[expect(clippy::unused_self, reason = "Linux keeps its buffers in it")]
    pub(crate) fn copy_at(
        &mut self,
        _: BorrowedFd<'_>,
        _: BorrowedFd<'_>,
        _: &CStr,
    ) -> Result<(), Error> {
        Ok(())
    }
}

/// `SF_IMMUTABLE`, `SF_APPEND`, `SF_NOUNLINK` and the same three for users (sys/stat.h).
const FIXED: u32 = 0x0002_0000 | 0x0004_0000 | 0x0010_0000 | 0x02 | 0x04 | 0x10;
