//! What the kernel tells of a file system from memory, without waiting for anything.
//!
//! A call that never reads a disk may still wait for a lock that is held by one that does. So what is
//! asked without waiting is asked only of file systems that are known to answer it so; of all others,
//! which includes every FUSE and network file system, nothing is.

use std::os::fd::BorrowedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use vfs::Attr;

use crate::sys;

/// What a mounted file system tells from memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Resident {
    /// Whether fstat(2) reads the inode in memory.
    pub(crate) attributes: bool,
    /// Whether names that are in the kernel's cache can be told from those that are not.
    pub(crate) names: bool,
    /// Whether two files that are open at the same time never have one inode number.
    pub(crate) inode_numbers: bool,
    /// Symbolic links below this many bytes are kept in their inode.
    pub(crate) link_size: u64,
    /// When reading a file changes its time of access, which takes part in a journal.
    pub(crate) access_times: AccessTimes,
    /// Up to how many bytes behind what is read are read ahead. `None` where it is not known, or where
    /// what is in memory is read under a lock that is held over I/O.
    pub(crate) read_ahead: Option<u64>,
}

/// When reading changes the time of access (mount(8)).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(
    target_os = "freebsd",
    allow(dead_code, reason = "nothing is read there without waiting")
)]
pub(crate) enum AccessTimes {
    /// `strictatime`, or not known.
    #[default]
    Always,
    /// `noatime`, or a read-only mount.
    Never,
    /// `relatime`: when the file was changed since it was last read, and once a day.
    Relative,
}

impl Resident {
    /// Whether `len` bytes of an open file of `size` bytes are in memory, and so is all that reading
    /// them would have the kernel read ahead, which may wait as well. `None` where it cannot be told.
    pub(crate) fn holds(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        len: u64,
        size: u64,
    ) -> Option<bool> {
        let read_ahead = self.read_ahead?;
        Some(sys::is_resident(file, offset, len, read_ahead, size))
    }

    /// Whether reading the file now sets its time of access.
    pub(crate) fn sets_access_time(&self, attr: &Attr) -> bool {
        match self.access_times {
            AccessTimes::Always => true,
            AccessTimes::Never => false,
            AccessTimes::Relative => {
                let now =
                    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                is_outdated(attr, i64::try_from(now).unwrap_or(i64::MAX))
            }
        }
    }
}

/// The rule of `relatime`, as Linux has it (`relatime_need_update`).
fn is_outdated(attr: &Attr, now: i64) -> bool {
    attr.mtime >= attr.atime || attr.ctime >= attr.atime || now - attr.atime.seconds >= DAY
}

/// Seconds.
const DAY: i64 = 24 * 60 * 60;

#[cfg(test)]
mod test {
    use vfs::{FileKind, Time};

    use super::*;

    fn attr(atime: i64, mtime: i64, ctime: i64) -> Attr {
        let time = |seconds| Time { seconds, nanoseconds: 5 };
        Attr {
            kind: FileKind::Regular,
            mode: 0o644,
            nlink: 1,
            uid: 0,
            gid: 0,
            size: 0,
            used: 0,
            rdev: (0, 0),
            fsid: 1,
            fileid: 1,
            atime: time(atime),
            mtime: time(mtime),
            ctime: time(ctime),
        }
    }

    #[test]
    fn a_file_that_was_read_since_its_last_change_is_read_without_a_journal() {
        assert!(!is_outdated(&attr(3, 2, 2), 4));
        assert!(is_outdated(&attr(2, 2, 1), 4));
        assert!(is_outdated(&attr(2, 1, 3), 4));
    }

    #[test]
    fn once_a_day_the_time_of_access_is_set() {
        assert!(!is_outdated(&attr(3, 2, 2), 3 + DAY - 1));
        assert!(is_outdated(&attr(3, 2, 2), 3 + DAY));
    }

    #[test]
    fn what_is_not_known_of_a_file_system_is_not_taken_for_granted() {
        let unknown = Resident::default();
        assert!(!unknown.attributes && !unknown.names && unknown.link_size == 0);
        assert!(unknown.sets_access_time(&attr(3, 2, 2)));
    }
}
