//! Subvolumes of btrfs: what `linux/btrfs.h` declares and no other system has.
#![allow(unsafe_code, reason = "ioctl(2) has no safe interface")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Stat, XattrFlags, fgetxattr, fremovexattr, fsetxattr, fstatfs};
use rustix::io::{Errno, Result};
use rustix::ioctl::{Getter, NoArg, Opcode, Setter, Updater, ioctl, opcode};
use uuid::Uuid;

use crate::subvolume::{COMPRESSION, Subvolume, Usage};

/// Whether an open file or directory is on btrfs.
pub(crate) fn on_btrfs(file: impl AsFd) -> Result<bool> {
    Ok(fstatfs(file)?.f_type == SUPER_MAGIC)
}

/// Whether a directory on btrfs is the root of a subvolume: only those have this inode number.
pub(crate) fn is_subvolume(stat: &Stat) -> bool {
    stat.st_ino == FIRST_FREE && FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Makes an empty subvolume with the name `name` in the directory `parent`.
pub(crate) fn create_subvolume(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let args = VolArgs::new(name)?;
    // SAFETY: the request's number says that the kernel reads one `struct btrfs_ioctl_vol_args_v2`,
    // as which `VolArgs` is laid out.
    unsafe { ioctl(parent, Setter::<SUBVOL_CREATE, _>::new(args)) }
}

/// Makes a snapshot of the subvolume whose root directory is `source`, with the name `name` in the
/// directory `parent`. Subvolumes in it become empty directories.
pub(crate) fn snapshot_subvolume(
    source: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &CStr,
) -> Result<()> {
    let args = VolArgs { fd: i64::from(source.as_raw_fd()), ..VolArgs::new(name)? };
    // SAFETY: as above; `source` stays open while it is borrowed.
    unsafe { ioctl(parent, Setter::<SNAP_CREATE, _>::new(args)) }
}

/// Deletes the subvolume with the name `name` in the directory `parent` with all its files, immutable
/// ones too. `NOTEMPTY` if there are subvolumes in it.
pub(crate) fn delete_subvolume(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let args = VolArgs::new(name)?;
    // SAFETY: as above.
    unsafe { ioctl(parent, Setter::<SNAP_DESTROY, _>::new(args)) }
}

/// Brings everything to the disk, and lets btrfs begin to free what was deleted: by itself it would after
/// half a minute.
pub(crate) fn commit(dir: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the request has no argument.
    unsafe { ioctl(dir, NoArg::<SYNC>::new()) }
}

/// Lets nobody change a subvolume any more, or lets everybody again who may.
pub(crate) fn set_read_only(root: BorrowedFd<'_>, read_only: bool) -> Result<()> {
    // SAFETY: the request's number says that the kernel writes one u64.
    let flags: u64 = unsafe { ioctl(root, Getter::<SUBVOL_GETFLAGS, u64>::new()) }?;
    let wanted = if read_only { flags | READ_ONLY } else { flags & !READ_ONLY };
    if wanted == flags {
        return Ok(());
    }
    // SAFETY: the request's number says that the kernel reads one u64.
    unsafe { ioctl(root, Setter::<SUBVOL_SETFLAGS, u64>::new(wanted)) }
}

/// What btrfs knows about the subvolume that an open file or directory is in.
pub(crate) fn subvolume(file: BorrowedFd<'_>) -> Result<Subvolume> {
    // SAFETY: the request's number says that the kernel writes one
    // `struct btrfs_ioctl_get_subvol_info_args`, as which `SubvolInfo` is laid out.
    let info = unsafe { ioctl(file, Getter::<GET_SUBVOL_INFO, SubvolInfo>::new()) }?;
    Ok(Subvolume {
        id: info.treeid,
        uuids: [info.uuid, info.received_uuid].map(Uuid::from_bytes),
        born: info.otransid,
        changed: info.generation,
    })
}

/// What the quota group of a subvolume counts; `None` where quota groups are off or have to be counted
/// anew.
pub(crate) fn usage(root: BorrowedFd<'_>) -> Result<Option<Usage>> {
    let groups = quota_groups(root)?;
    if number(groups.join("inconsistent")) != Some(0) {
        return Ok(None);
    }
    let own = groups.join(format!("0_{}", subvolume(root)?.id));
    let counted = (number(own.join("referenced")), number(own.join("exclusive")));
    Ok(match counted {
        (Some(referenced), Some(exclusive)) => Some(Usage { referenced, exclusive }),
        (None, _) | (_, None) => None,
    })
}

/// How many bytes the quota group of a subvolume lets it refer to, 0 if that is not limited; `None` where quota
/// groups are off.
pub(crate) fn limit(root: BorrowedFd<'_>) -> Result<Option<u64>> {
    let own = quota_groups(root)?.join(format!("0_{}", subvolume(root)?.id));
    let flags = number(own.join("limit_flags"));
    let limited = flags.is_some_and(|flags| flags & MAX_REFERENCED != 0);
    let most = number(own.join("max_referenced")).filter(|most| limited && *most != NO_LIMIT);
    Ok(flags.map(|_| most.unwrap_or(0)))
}

/// Limits how many bytes a subvolume may refer to; 0 takes the limit away. `NOTCONN` where quota groups are
/// off.
pub(crate) fn set_limit(root: BorrowedFd<'_>, most: u64) -> Result<()> {
    let max_referenced = if most == 0 { NO_LIMIT } else { most };
    let args = GroupLimit { group: 0, flags: MAX_REFERENCED, max_referenced, rest: [0; 3] };
    // SAFETY: the kernel reads one `struct btrfs_ioctl_qgroup_limit_args`, as which `GroupLimit` is laid out.
    unsafe { ioctl(root, Setter::<QGROUP_LIMIT, _>::new(args)) }
}

/// How what is made in a directory is compressed, if the directory says so.
pub(crate) fn compression(dir: BorrowedFd<'_>) -> Result<Option<String>> {
    let mut value = [0; 32];
    match fgetxattr(dir, COMPRESSION, &mut value) {
        Ok(len) => {
            let text = value.get(..len).unwrap_or_default();
            Ok(Some(String::from_utf8_lossy(text).into_owned()))
        }
        Err(Errno::NODATA) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Says how what is made in a directory is compressed; `None` leaves that to the file system.
pub(crate) fn set_compression(dir: BorrowedFd<'_>, kind: Option<&str>) -> Result<()> {
    match kind {
        Some(kind) => fsetxattr(dir, COMPRESSION, kind.as_bytes(), XattrFlags::empty()),
        None => match fremovexattr(dir, COMPRESSION) {
            Err(Errno::NODATA) => Ok(()),
            removed => removed,
        },
    }
}

/// Where the kernel shows the quota groups of the file system that a subvolume is on.
fn quota_groups(root: BorrowedFd<'_>) -> Result<PathBuf> {
    // SAFETY: the request's number says that the kernel writes one `struct btrfs_ioctl_fs_info_args`, as
    // which `FsInfo` is laid out.
    let info = unsafe { ioctl(root, Getter::<FS_INFO, FsInfo>::new()) }?;
    Ok(PathBuf::from(format!("/sys/fs/btrfs/{}/qgroups", Uuid::from_bytes(info.fsid))))
}

fn number(path: PathBuf) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The subvolumes directly in the one whose root directory is `root`, as bytes of paths below it.
pub(crate) fn nested_subvolumes(root: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let mut next = 0;
    loop {
        let mut args = RootRefs {
            min_treeid: next,
            refs: [RootRef::default(); MAX_REFS],
            count: 0,
            align: [0; 7],
        };
        // SAFETY: the request's number says that the kernel reads and writes one
        // `struct btrfs_ioctl_get_subvol_rootref_args`, as which `RootRefs` is laid out.
        let result = unsafe { ioctl(root, Updater::<GET_SUBVOL_ROOTREF, _>::new(&mut args)) };
        // More than fit: those that did are there, and the next call begins behind them.
        let more = match result {
            Ok(()) => false,
            Err(Errno::OVERFLOW) => true,
            Err(error) => return Err(error),
        };
        for entry in args.refs.iter().take(args.count.into()) {
            found.push(nested_path(root, entry)?);
        }
        if !more {
            return Ok(found);
        }
        next = args.min_treeid;
    }
}

/// The path of a nested subvolume below the one whose root directory is `root`.
fn nested_path(root: BorrowedFd<'_>, entry: &RootRef) -> Result<Vec<u8>> {
    let mut args = UserLookup {
        dirid: entry.dirid,
        treeid: entry.treeid,
        name: [0; NAME_ROOM],
        path: [0; PATH_ROOM],
    };
    // SAFETY: the request's number says that the kernel reads and writes one
    // `struct btrfs_ioctl_ino_lookup_user_args`, as which `UserLookup` is laid out.
    unsafe { ioctl(root, Updater::<INO_LOOKUP_USER, _>::new(&mut args)) }?;
    // The directory is empty or ends with a slash.
    Ok([text(&args.path), text(&args.name)].concat())
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME_MAX + 1],
}

impl VolArgs {
    fn new(name: &CStr) -> Result<Self> {
        let mut args =
            Self { fd: 0, transid: 0, flags: 0, unused: [0; 4], name: [0; NAME_MAX + 1] };
        let bytes = name.to_bytes();
        let room = args.name.get_mut(..bytes.len()).filter(|_| bytes.len() <= NAME_MAX);
        room.ok_or(Errno::NAMETOOLONG)?.copy_from_slice(bytes);
        Ok(args)
    }
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
struct SubvolInfo {
    treeid: u64,
    name: [u8; NAME_ROOM],
    parent_id: u64,
    dirid: u64,
    generation: u64,
    flags: u64,
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    received_uuid: [u8; 16],
    ctransid: u64,
    otransid: u64,
    stransid: u64,
    rtransid: u64,
    /// Four times of eight bytes of seconds and four of nanoseconds, padded.
    times: [u64; 8],
    reserved: [u64; 8],
}

/// `struct btrfs_ioctl_fs_info_args`.
#[repr(C)]
struct FsInfo {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    rest: [u8; 992],
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct GroupLimit {
    /// 0: that of the subvolume that it is asked of.
    group: u64,
    flags: u64,
    max_referenced: u64,
    /// Other limits, of which `flags` says nothing.
    rest: [u64; 3],
}

/// `struct btrfs_ioctl_get_subvol_rootref_args`.
#[repr(C)]
struct RootRefs {
    min_treeid: u64,
    refs: [RootRef; MAX_REFS],
    count: u8,
    align: [u8; 7],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RootRef {
    treeid: u64,
    dirid: u64,
}

/// `struct btrfs_ioctl_ino_lookup_user_args`.
#[repr(C)]
struct UserLookup {
    dirid: u64,
    treeid: u64,
    name: [u8; NAME_ROOM],
    path: [u8; PATH_ROOM],
}

/// `BTRFS_SUPER_MAGIC` (linux/magic.h).
const SUPER_MAGIC: i64 = 0x9123_683e;
/// `BTRFS_FIRST_FREE_OBJECTID`: the inode number of a subvolume's root directory.
const FIRST_FREE: u64 = 256;
/// `BTRFS_SUBVOL_RDONLY`.
const READ_ONLY: u64 = 1 << 1;
/// `BTRFS_SUBVOL_NAME_MAX`.
const NAME_MAX: usize = 4039;
/// `BTRFS_VOL_NAME_MAX` and its NUL.
const NAME_ROOM: usize = 256;
/// `BTRFS_INO_LOOKUP_USER_PATH_MAX`.
const PATH_ROOM: usize = 4080 - NAME_ROOM;
/// `BTRFS_MAX_ROOTREF_BUFFER_NUM`.
const MAX_REFS: usize = 255;

/// `BTRFS_QGROUP_LIMIT_MAX_RFER`.
const MAX_REFERENCED: u64 = 1;
/// `CLEAR_VALUE` of fs/btrfs/qgroup.c: takes a limit away.
const NO_LIMIT: u64 = u64::MAX;

/// `BTRFS_IOCTL_MAGIC`.
const MAGIC: u8 = 0x94;
const SYNC: Opcode = opcode::none(MAGIC, 8);
const SNAP_CREATE: Opcode = opcode::write::<VolArgs>(MAGIC, 23);
const SUBVOL_CREATE: Opcode = opcode::write::<VolArgs>(MAGIC, 24);
const SUBVOL_GETFLAGS: Opcode = opcode::read::<u64>(MAGIC, 25);
const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(MAGIC, 26);
const FS_INFO: Opcode = opcode::read::<FsInfo>(MAGIC, 31);
/// It is declared as one that the kernel writes, which reads it.
const QGROUP_LIMIT: Opcode = opcode::read::<GroupLimit>(MAGIC, 43);
const GET_SUBVOL_INFO: Opcode = opcode::read::<SubvolInfo>(MAGIC, 60);
const GET_SUBVOL_ROOTREF: Opcode = opcode::read_write::<RootRefs>(MAGIC, 61);
const INO_LOOKUP_USER: Opcode = opcode::read_write::<UserLookup>(MAGIC, 62);
const SNAP_DESTROY: Opcode = opcode::write::<VolArgs>(MAGIC, 63);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn requests_have_the_numbers_of_the_kernel_s_header() {
        // Printed by a C program that includes linux/btrfs.h; the size of each structure is in them.
        for (ours, theirs) in [
            (SYNC, 0x9408),
            (SNAP_CREATE, 0x5000_9417),
            (SUBVOL_CREATE, 0x5000_9418),
            (SUBVOL_GETFLAGS, 0x8008_9419),
            (SUBVOL_SETFLAGS, 0x4008_941a),
            (FS_INFO, 0x8400_941f),
            (QGROUP_LIMIT, 0x8030_942b),
            (GET_SUBVOL_INFO, 0x81f8_943c),
            (GET_SUBVOL_ROOTREF, 0xd000_943d),
            (INO_LOOKUP_USER, 0xd000_943e),
            (SNAP_DESTROY, 0x5000_943f),
        ] {
            assert_eq!(ours, theirs, "{ours:#x} {theirs:#x}");
        }
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        let long = std::ffi::CString::new(vec![b'x'; NAME_MAX + 1]).unwrap();
        assert_eq!(VolArgs::new(&long).err(), Some(Errno::NAMETOOLONG));
    }
}
