//! ZFS file systems, mounted.
#![allow(unsafe_code, reason = "getfsstat(2) has no safe interface")]

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{io, ptr};

use rustix::io::Errno;

use crate::InUse;
use crate::sys::Mounted;

/// Mounts a data set or a snapshot on a directory, wherever its `mountpoint` says that it belongs.
///
/// mount(8) takes a path. Device nodes of a ZFS file system are no devices on FreeBSD.
pub(crate) fn mount(
    dataset: &str,
    _point: BorrowedFd<'_>,
    path: &Path,
    read_only: bool,
) -> Result<(), Errno> {
    let options = if read_only { "nosuid,ro" } else { "nosuid" };
    let mut mount = Command::new("/sbin/mount");
    done(mount.args(["-t", "zfs", "-o", options, dataset]).arg(path))
}

/// Unmounts what was mounted last on a directory.
pub(crate) fn unmount(path: &Path, in_use: InUse) -> Result<(), Errno> {
    let force = (in_use == InUse::Detach).then_some("-f");
    done(Command::new("/sbin/umount").args(force).arg(path))
}

/// All ZFS file systems that are mounted, in the order of mounting.
pub(crate) fn mounts() -> io::Result<Vec<Mounted>> {
    let mounted = |entry: &libc::statfs| {
        let kind = text(&entry.f_fstypename);
        let source = String::from_utf8(text(&entry.f_mntfromname)).ok()?;
        let target = PathBuf::from(OsStr::from_bytes(&text(&entry.f_mntonname)));
        (kind == b"zfs").then_some(Mounted { source, target })
    };
    Ok(table()?.iter().filter_map(mounted).collect())
}

/// Everything that is mounted (getfsstat(2)).
fn table() -> io::Result<Vec<libc::statfs>> {
    loop {
        // SAFETY: without a buffer nothing is written, and the number of mounts is told.
        let count = unsafe { libc::getfsstat(ptr::null_mut(), 0, libc::MNT_NOWAIT) };
        let room = usize::try_from(count).map_err(|_negative| io::Error::last_os_error())? + SPARE;
        let mut table: Vec<libc::statfs> = Vec::with_capacity(room);
        let bytes = room * size_of::<libc::statfs>();
        let bytes = libc::c_long::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: the buffer has `bytes` bytes, and the kernel fills whole entries from its start.
        let filled = unsafe { libc::getfsstat(table.as_mut_ptr(), bytes, libc::MNT_NOWAIT) };
        let filled = usize::try_from(filled).map_err(|_negative| io::Error::last_os_error())?;
        // Where it is full there may be more, mounted meanwhile.
        if filled < room {
            // SAFETY: the kernel has filled that many entries, which is fewer than there is room for.
            unsafe { table.set_len(filled) };
            return Ok(table);
        }
    }
}

/// The bytes of a field before its NUL.
fn text(field: &[libc::c_char]) -> Vec<u8> {
    field.iter().map(|&byte| byte.cast_unsigned()).take_while(|&byte| byte != 0).collect()
}

/// Room for what is mounted between the two calls.
const SPARE: usize = 16;

/// Runs a program whose refusals are told apart by the errno(2) that it names.
fn done(command: &mut Command) -> Result<(), Errno> {
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = output.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let known = [
        ("Device busy", Errno::BUSY),
        ("Permission denied", Errno::ACCESS),
        ("Operation not permitted", Errno::PERM),
        ("No such file", Errno::NOENT),
    ];
    let found = known.into_iter().find(|(words, _)| said.contains(words));
    Err(found.map_or(Errno::IO, |(_, errno)| errno))
}
