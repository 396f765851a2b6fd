//! The kernel's `stat` as attributes.

use rustix::fs::{FileType, Mode, RawMode, Stat};
use vfs::{Attr, FileKind, Time};

/// The attributes in `stat`, reported as of file system `fsid`.
#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "the widths of these fields differ between platforms"
)]
pub(crate) fn from_stat(stat: &Stat, fsid: u64) -> Attr {
    Attr {
        kind: kind(FileType::from_raw_mode(stat.st_mode)),
        mode: u32::from(stat.st_mode) & 0o7777,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        used: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK),
        rdev: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        fsid,
        fileid: stat.st_ino,
        atime: time(i64::from(stat.st_atime), u32::try_from(stat.st_atime_nsec).unwrap_or(0)),
        mtime: time(i64::from(stat.st_mtime), u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        ctime: time(i64::from(stat.st_ctime), u32::try_from(stat.st_ctime_nsec).unwrap_or(0)),
    }
}

/// The permission bits (`0o7777`) of a mode as the kernel tells it.
#[allow(clippy::useless_conversion, reason = "mode_t has 32 bits on Linux and 16 on FreeBSD")]
pub(crate) fn permissions(raw: RawMode) -> u32 {
    u32::from(raw) & 0o7777
}

/// The mode bits of `mode` (`0o7777`) for the kernel.
#[allow(clippy::unnecessary_cast, reason = "mode_t has 32 bits on Linux and 16 on FreeBSD")]
#[allow(clippy::cast_possible_truncation, reason = "twelve bits fit into both")]
pub(crate) const fn raw_mode(mode: u32) -> Mode {
    Mode::from_raw_mode((mode & 0o7777) as RawMode)
}

const fn time(seconds: i64, nanoseconds: u32) -> Time {
    Time { seconds, nanoseconds }
}

/// What cannot be named (whiteouts of BSD unions, Solaris doors) is shown as a socket: a client can
/// neither read nor open it.
fn kind(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::CharacterDevice => FileKind::Character,
        FileType::BlockDevice => FileKind::Block,
        FileType::Socket | FileType::Unknown => FileKind::Socket,
    }
}

/// The unit of `st_blocks`, whatever the file system's own.
const BLOCK: u64 = 512;
