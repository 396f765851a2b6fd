//! Linux.

mod attributes;
mod subvolume;
pub(crate) mod zfs;

use std::ffi::CStr;
use std::io::Error;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, StatxAttributes, StatxFlags, Timespec,
    Timestamps, copy_file_range, fstat, ioctl_ficlone, openat, renameat_with, statx, syncfs,
};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

pub(crate) use attributes::*;
pub(crate) use subvolume::*;

use super::unescaped;
use crate::{InUse, Obstacle};

/// Where what has to be known of running processes lies: it is empty when the host was started.
pub(crate) const RUNTIME: &str = "/run/netbe";

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

/// Whether copies on this file system share their blocks: what each takes cannot be told then.
pub(crate) fn shares_blocks(dir: BorrowedFd<'_>) -> bool {
    let probe = || {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = || openat(dir, ".", flags, Mode::RUSR | Mode::WUSR);
        Ok::<_, Errno>(reflink(&file()?, &file()?))
    };
    // What cannot be found out might be so.
    probe().unwrap_or(true)
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

/// All of a file's mode, its type too.
pub(crate) const fn mode(stat: &Stat) -> u32 {
    stat.st_mode
}

/// Lets two directory entries change places from one instant to the next; false where the file
/// system cannot.
pub(crate) fn exchange(
    one: BorrowedFd<'_>,
    name: &str,
    other: BorrowedFd<'_>,
    other_name: &str,
) -> Result<bool, Error> {
    match renameat_with(one, name, other, other_name, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Where the kernel lists what is mounted, for this thread: another may be in another namespace.
pub(crate) const MOUNT_TABLE: &str = "/proc/thread-self/mountinfo";

/// Shows the tree of an open directory at `target` too, without devices and setuid programs.
///
/// The new mount gets its restrictions before it is attached: there is no instant at which users
/// could run a guest's setuid programs by it. Linux 5.12.
pub(crate) fn bind(tree: &OwnedFd, target: &Path, read_only: bool) -> Result<(), Error> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(tree, "", flags)?;
    restrict(&mount, read_only)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(&mount, "", rustix::fs::CWD, target, flags)?)
}

/// Sets `nosuid`, `nodev` and perhaps `ro` on a mount that is attached nowhere.
fn restrict(mount: &OwnedFd, read_only: bool) -> Result<(), Error> {
    let read_only = if read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | read_only,
        ..UNCHANGED
    };
    set_attributes(mount.as_raw_fd(), c"", libc::AT_EMPTY_PATH, &attributes)
}

/// Lets a program open no device: it gets mounts of its own, all of them `nodev`. Linux 5.12.
///
/// What it does to devices by their nodes, which a peer may have it make, then fails.
#[expect(unsafe_code, reason = "there is no safe way to do anything in a new process")]
pub(crate) fn without_devices(command: &mut Command) {
    let confine = || {
        // SAFETY: no pointer is passed, and the new process has one thread.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            return Err(Error::last_os_error());
        }
        let attributes = libc::mount_attr {
            attr_set: libc::MOUNT_ATTR_NODEV,
            propagation: libc::MS_PRIVATE,
            ..UNCHANGED
        };
        set_attributes(libc::AT_FDCWD, c"/", libc::AT_RECURSIVE, &attributes)
    };
    // SAFETY: between fork and exec it makes two system calls; it allocates and locks nothing.
    unsafe { command.pre_exec(confine) };
}

#[expect(unsafe_code, reason = "rustix has no mount_setattr(2)")]
fn set_attributes(
    dir: RawFd,
    path: &CStr,
    flags: libc::c_int,
    attributes: &libc::mount_attr,
) -> Result<(), Error> {
    // SAFETY: the path is a C string, the attributes are read and live until the call returns, and
    // the size is theirs.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Attributes of a mount that change none.
const UNCHANGED: libc::mount_attr =
    libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: 0, userns_fd: 0 };

/// What is mounted elsewhere too of what is below a directory: its path from there, and where.
///
/// The kernel's list tells of each mount which directory of its file system it shows; nothing is
/// looked at by its path, which could be on a file server that does not answer.
pub(crate) fn bound(dir: &OwnedFd) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let table = std::fs::read(MOUNT_TABLE)?;
    let lines: Vec<Mount> = table.split(|&byte| byte == b'\n').filter_map(mount_line).collect();
    let id = statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id;
    let path = std::fs::read_link(descriptor(dir.as_fd()))?;
    let Some(own) = lines.iter().find(|line| line.id == id) else { return Ok(Vec::new()) };
    let Ok(inside) = path.strip_prefix(&own.target) else { return Ok(Vec::new()) };
    let root = own.root.join(inside);
    let same = lines.iter().filter(|line| line.device == own.device);
    let shown =
        |line: &Mount| Some((line.root.strip_prefix(&root).ok()?.to_owned(), line.target.clone()));
    Ok(same.filter_map(shown).collect())
}

/// Where something is mounted below the directory that a tree is reached by.
pub(crate) fn mounts_below(tree: &OwnedFd) -> Result<Vec<PathBuf>, Error> {
    let path = std::fs::read_link(descriptor(tree.as_fd()))?;
    let table = std::fs::read(MOUNT_TABLE)?;
    let lines = table.split(|&byte| byte == b'\n').filter_map(mount_line);
    Ok(lines.map(|line| line.target).filter(|target| target.starts_with(&path)).collect())
}

/// Unmounts what is mounted at a place.
pub(crate) fn unbind(target: &Path, in_use: InUse) -> Result<(), Error> {
    Ok(zfs::unmount(target, in_use)?)
}

/// A line of the kernel's list of mounts (proc_pid_mountinfo(5)).
struct Mount {
    id: u64,
    device: Vec<u8>,
    root: PathBuf,
    target: PathBuf,
}

fn mount_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let (device, root, target) = (fields.nth(1)?, fields.next()?, fields.next()?);
    Some(Mount { id, device: device.to_owned(), root: unescaped(root), target: unescaped(target) })
}

/// The path by which the process can name what it has open.
fn descriptor(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_list_is_read() {
        let line =
            b"36 35 98:0 /mnt1/a\\040b /mnt2\\134\xc3\xbc rw,noatime master:1 - ext3 /dev/root rw";
        let mount = mount_line(line).unwrap();
        assert_eq!((mount.id, mount.device.as_slice()), (36, &b"98:0"[..]));
        assert_eq!(mount.root, Path::new("/mnt1/a b"));
        assert_eq!(mount.target, Path::new("/mnt2\\ü"));
        assert!(mount_line(b"").is_none());
    }
}
