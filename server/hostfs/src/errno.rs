//! What the kernel says, as a cause that protocols know.

use rustix::io::Errno;
use vfs::FsError;

/// Translates an error number; one that no rule here knows is logged and becomes [`FsError::Io`].
pub(crate) fn cause(errno: Errno) -> FsError {
    match errno {
        // A running program of the host is not written to.
        Errno::ACCESS | Errno::TXTBSY => FsError::Access,
        Errno::AGAIN | Errno::BUSY | Errno::MFILE | Errno::NFILE | Errno::NOMEM => FsError::Busy,
        Errno::DQUOT => FsError::Dquot,
        Errno::EXIST => FsError::Exist,
        Errno::FBIG => FsError::FBig,
        Errno::INVAL | Errno::LOOP => FsError::Inval,
        Errno::ISDIR => FsError::IsDir,
        Errno::MLINK => FsError::MLink,
        Errno::NAMETOOLONG => FsError::NameTooLong,
        Errno::NODEV | Errno::NXIO => FsError::NxIo,
        Errno::NOENT => FsError::NoEnt,
        Errno::NOSPC => FsError::NoSpc,
        Errno::NOTDIR => FsError::NotDir,
        Errno::NOTEMPTY => FsError::NotEmpty,
        Errno::NOSYS | Errno::OPNOTSUPP => FsError::NotSupp,
        Errno::PERM => FsError::Perm,
        Errno::ROFS => FsError::RoFs,
        Errno::STALE => FsError::Stale,
        Errno::XDEV => FsError::XDev,
        other => {
            tracing::warn!(errno = other.raw_os_error(), "the host's file system failed: {other}");
            FsError::Io
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn an_unknown_error_number_is_an_io_error() {
        assert_eq!(cause(Errno::CHILD), FsError::Io);
    }

    #[test]
    fn a_quota_is_told_from_a_full_disk() {
        assert_eq!(cause(Errno::DQUOT), FsError::Dquot);
        assert_eq!(cause(Errno::NOSPC), FsError::NoSpc);
    }
}
