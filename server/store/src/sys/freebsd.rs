//! FreeBSD.

mod attributes;
mod subvolume;
pub(crate) mod zfs;

use std::ffi::{CStr, OsStr};
use std::io::Error;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use child::{Call, Limit};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, fstat, fstatfs, fsync, openat,
    statat, sync,
};

pub(crate) use attributes::*;
pub(crate) use subvolume::*;

use super::{errno_of, unescaped};
use crate::tree::each_file;
use crate::{InUse, Obstacle};

/// Where what has to be known of running processes lies: it is emptied when the host is started (rc.d/cleanvar).
pub(crate) const RUNTIME: &str = "/var/run/netbe";

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

/// Whether copies share their blocks: never, as they are made by reading and writing.
pub(crate) fn shares_blocks(_dir: BorrowedFd<'_>) -> bool {
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

/// Brings a directory and everything below it to stable storage.
///
/// There is no syncfs(2), and sync(2) asks each file system to begin (`MNT_NOWAIT`), so that what is written
/// is on the disk some time later, in any order. So each file is waited for by fsync(2), for which sync(2)
/// leaves little to do. Symbolic links and nodes cannot be opened: soft updates write their inodes before the
/// directories that name them. ZFS needs only sync(2), as its zfs_sync() waits for the intent log, in which all is.
pub(crate) fn synchronize(dir: BorrowedFd<'_>) -> Result<(), Error> {
    sync();
    if zfs::text(&fstatfs(dir)?.f_fstypename) == b"zfs" {
        return Ok(());
    }
    each_file(dir, |file| fsync(file))
}

/// The access and modification times, to be set on a copy.
pub(crate) fn times(stat: &Stat) -> Timestamps {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// All of a file's mode, its type too.
pub(crate) fn mode(stat: &Stat) -> u32 {
    stat.st_mode.into()
}

/// FreeBSD has no call that lets two directory entries change places.
pub(crate) fn exchange(
    _one: BorrowedFd<'_>,
    _name: &str,
    _other: BorrowedFd<'_>,
    _other_name: &str,
) -> Result<bool, Error> {
    Ok(false)
}

/// What lists what is mounted.
pub(crate) const MOUNT_TABLE: &str = "/sbin/mount";
const UNMOUNT: &str = "/sbin/umount";

/// Shows the tree of an open directory at `target` too (mount_nullfs(8)), without devices, which
/// nullfs never shows, and setuid programs.
pub(crate) fn bind(tree: &OwnedFd, target: &Path, read_only: bool) -> Result<(), Error> {
    bind_path(&path_of(tree)?, target, read_only)
}

/// The same for the tree at a path.
fn bind_path(source: &Path, target: &Path, read_only: bool) -> Result<(), Error> {
    let options = if read_only { "nosuid,ro" } else { "nosuid" };
    let mount = program(MOUNT_TABLE).flags(["-t", "nullfs", "-o", options]);
    run(mount.operand(source).operand(target))?;
    ensure_nosuid(target)
}

/// What is mounted elsewhere too of what is below a directory: its path from there, and where.
pub(crate) fn bound(dir: &OwnedFd) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let table = run(program(MOUNT_TABLE).flags(["-p", "-t", "nullfs"]))?;
    let dir = path_of(dir)?;
    let shown = |line: &[u8]| {
        let mut fields = line.split(|byte| matches!(byte, b' ' | b'\t'));
        let mut field = || fields.by_ref().find(|field| !field.is_empty()).map(unescaped);
        let (from, at) = (field()?, field()?);
        Some((from.strip_prefix(&dir).ok()?.to_owned(), at))
    };
    Ok(table.split(|&byte| byte == b'\n').filter_map(shown).collect())
}

/// Unmounts what is mounted at a place.
pub(crate) fn unbind(target: &Path, in_use: InUse) -> Result<(), Error> {
    let force = (in_use == InUse::Detach).then_some("-f");
    run(program(UNMOUNT).flags(force).operand(target)).map(drop)
}

/// A program that takes as long as the file systems that it asks.
fn program(path: &str) -> Call {
    Call::new(path, Limit::None)
}

/// Runs a program whose refusals are told apart by the errno(2) that it names.
fn run(call: Call) -> Result<Vec<u8>, Error> {
    call.run().map_err(|error| {
        let said = error.said;
        errno_of(&said).map_or_else(|| Error::other(said), Error::from)
    })
}

/// Refuses what was mounted with setuid programs, and unmounts it: what mount(8) was told is not what
/// every file system does.
fn ensure_nosuid(target: &Path) -> Result<(), Error> {
    let flags = rustix::fs::statfs(target)?.f_flags;
    if flags & NOSUID != 0 {
        return Ok(());
    }
    unbind(target, InUse::Detach)?;
    Err(Error::other("it would be mounted with its setuid programs, so it is not mounted"))
}

/// The path of an open directory (fcntl(2), `F_KINFO`).
#[expect(unsafe_code, reason = "rustix has no F_KINFO, and nix only on amd64")]
fn path_of(dir: &OwnedFd) -> Result<PathBuf, Error> {
    // SAFETY: the structure holds numbers and characters alone, for which zeros are values.
    let mut info: libc::kinfo_file = unsafe { mem::zeroed() };
    info.kf_structsize = i32::try_from(size_of::<libc::kinfo_file>()).map_err(Error::other)?;
    // SAFETY: the descriptor is open, and the kernel writes no more than the size that stands in the
    // structure, which lives until the call returns.
    let done = unsafe { libc::fcntl(dir.as_raw_fd(), libc::F_KINFO, &raw mut info) };
    if done < 0 {
        return Err(Error::last_os_error());
    }
    let path = info.kf_path.iter().map(|c| c.to_ne_bytes()).take_while(|byte| *byte != [0]);
    let path: Vec<u8> = path.flatten().collect();
    Ok(PathBuf::from(OsStr::from_bytes(&path)))
}

/// `MNT_NOSUID` (sys/mount.h), as statfs(2) tells it.
const NOSUID: u64 = 0x08;
