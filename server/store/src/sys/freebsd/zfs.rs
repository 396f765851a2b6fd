//! ZFS file systems, mounted.
#![allow(unsafe_code, reason = "getfsstat(2) has no safe interface")]

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{io, ptr};

use rustix::io::Errno;

use super::{MOUNT_TABLE, UNMOUNT, bind_path, ensure_nosuid, program, run};
use crate::InUse;
use crate::sys::Mounted;

/// Whether a data set is mounted at one place only: another shows that one (mount_nullfs(8)), which has no
/// file handles.
pub(crate) const ONCE: bool = true;

/// Mounts a data set or a snapshot on a directory, wherever its `mountpoint` says that it belongs.
///
/// mount(8) takes a path. Device nodes of a ZFS file system are no devices on FreeBSD, and it reads
/// `nosetuid`: the property `setuid` has the last word about `nosuid`.
pub(crate) fn mount(
    dataset: &str,
    _point: BorrowedFd<'_>,
    path: &Path,
    read_only: bool,
) -> io::Result<()> {
    if let Some(first) = mounts()?.into_iter().find(|mounted| mounted.source == dataset) {
        return bind_path(&first.target, path, read_only);
    }
    let options = if read_only { "nosuid,nosetuid,ro" } else { "nosuid,nosetuid" };
    let mount = program(MOUNT_TABLE).flags(["-t", "zfs", "-o", options]);
    run(mount.operand(dataset).operand(path))?;
    ensure_nosuid(path)
}

/// Unmounts what was mounted last on a directory.
pub(crate) fn unmount(path: &Path, in_use: InUse) -> Result<(), Errno> {
    let force = (in_use == InUse::Detach).then_some("-f");
    let done = run(program(UNMOUNT).flags(force).operand(path));
    done.map(drop).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// All ZFS file systems that are mounted, in the order of mounting, and where else they are shown.
pub(crate) fn mounts() -> io::Result<Vec<Mounted>> {
    let mut found: Vec<Mounted> = Vec::new();
    for entry in table()? {
        let from = text(&entry.f_mntfromname);
        let target = PathBuf::from(OsStr::from_bytes(&text(&entry.f_mntonname)));
        let source = match text(&entry.f_fstypename).as_slice() {
            b"zfs" => String::from_utf8(from).ok(),
            b"nullfs" => {
                let from = Path::new(OsStr::from_bytes(&from));
                let shown = found.iter().rfind(|mounted| mounted.target == from);
                shown.map(|mounted| mounted.source.clone())
            }
            _ => None,
        };
        found.extend(source.map(|source| Mounted { source, target }));
    }
    Ok(found)
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
pub(super) fn text(field: &[libc::c_char]) -> Vec<u8> {
    field.iter().map(|&byte| byte.cast_unsigned()).take_while(|&byte| byte != 0).collect()
}

/// Room for what is mounted between the two calls.
const SPARE: usize = 16;
