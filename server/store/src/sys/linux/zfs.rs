//! ZFS file systems, mounted.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::{fs, io};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::MOUNT_TABLE;
use crate::InUse;
use crate::sys::{Mounted, unescaped};

/// Whether a data set is mounted at one place only.
pub(crate) const ONCE: bool = false;

/// Mounts a data set or a snapshot on a directory, wherever its `mountpoint` says that it belongs.
///
/// The directory is named by its descriptor, so that nobody can put another in its place meanwhile.
pub(crate) fn mount(
    dataset: &str,
    point: BorrowedFd<'_>,
    _path: &Path,
    read_only: bool,
) -> io::Result<()> {
    let target = format!("/proc/self/fd/{}", point.as_raw_fd());
    let access = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    let flags = MountFlags::NOSUID | MountFlags::NODEV | access;
    Ok(rustix::mount::mount(dataset, target, c"zfs", flags, c"zfsutil")?)
}

/// Unmounts what was mounted last on a directory.
pub(crate) fn unmount(path: &Path, in_use: InUse) -> Result<(), Errno> {
    match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
        Err(Errno::BUSY) if in_use == InUse::Detach => {
            rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
        }
        done => done,
    }
}

/// All ZFS file systems that are mounted where this thread sees them, in the order of mounting.
pub(crate) fn mounts() -> io::Result<Vec<Mounted>> {
    Ok(parse(&fs::read(MOUNT_TABLE)?))
}

/// Reads proc_pid_mountinfo(5).
fn parse(table: &[u8]) -> Vec<Mounted> {
    let mounted = |line: &[u8]| {
        let mut fields = line.split(|&byte| byte == b' ');
        let target = unescaped(fields.nth(4)?);
        // Optional fields end with a hyphen.
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let (kind, source) = (rest.next()?, unescaped(rest.next()?));
        let source = source.into_os_string().into_string().ok()?;
        (kind == b"zfs").then_some(Mounted { source, target })
    };
    table.split(|&byte| byte == b'\n').filter_map(mounted).collect()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn mounts_of_zfs_are_found_among_others() {
        let table = b"22 1 0:20 / / rw,relatime - overlay overlay rw\n\
            40 22 0:35 / /var/lib/netbe/zfs/be/my\\040head rw,nosuid shared:1 - zfs \
            tank/be/my\\040head rw,xattr,posixacl\n\
            41 40 0:36 / /a\\134b rw - zfs tank/be/my\\040head/usr@x ro\n";
        let mounted = parse(table);
        assert_eq!(mounted.len(), 2);
        assert_eq!(mounted[0].source, "tank/be/my head");
        assert_eq!(mounted[0].target, Path::new("/var/lib/netbe/zfs/be/my head"));
        assert_eq!(mounted[1].source, "tank/be/my head/usr@x");
        assert_eq!(mounted[1].target, Path::new("/a\\b"));
    }
}
