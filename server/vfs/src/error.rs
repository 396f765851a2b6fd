//! Why a tree refuses.

/// The causes that a tree can name. Each protocol translates them in one exhaustive table; errno
/// becomes one of these in one function of `hostfs`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum FsError {
    /// The mode bits refuse it (EACCES).
    #[error("permission denied")]
    Access,
    /// A directory cookie that this directory cannot continue from.
    #[error("bad directory cookie")]
    BadCookie,
    /// A handle that no tree of ours made.
    #[error("bad file handle")]
    BadHandle,
    /// Try again later: something that will pass is in the way (EBUSY, ENFILE, EAGAIN).
    #[error("busy, try again")]
    Busy,
    /// Over quota (EDQUOT).
    #[error("quota exceeded")]
    Dquot,
    /// It exists already (EEXIST).
    #[error("file exists")]
    Exist,
    /// Larger than the file system can hold (EFBIG).
    #[error("file too large")]
    FBig,
    /// An argument that cannot be (EINVAL).
    #[error("invalid argument")]
    Inval,
    /// The host failed, and the reason is in its log (EIO and what is unknown).
    #[error("input/output error")]
    Io,
    /// A directory where something else is wanted (EISDIR).
    #[error("is a directory")]
    IsDir,
    /// Too many links (EMLINK).
    #[error("too many links")]
    MLink,
    /// The name has to stay, because another file system is mounted on it or below it (EBUSY of
    /// rmdir(2) and rename(2)).
    #[error("a file system is mounted there")]
    Mounted,
    /// A name longer than the file system allows (ENAMETOOLONG).
    #[error("file name too long")]
    NameTooLong,
    /// No such file (ENOENT).
    #[error("no such file or directory")]
    NoEnt,
    /// No space left (ENOSPC).
    #[error("no space left on device")]
    NoSpc,
    /// Not a directory (ENOTDIR).
    #[error("not a directory")]
    NotDir,
    /// The directory is not empty (ENOTEMPTY).
    #[error("directory not empty")]
    NotEmpty,
    /// The guard of a SETATTR does not match: somebody changed the file in between.
    #[error("changed in between")]
    NotSync,
    /// This tree cannot do that at all (EOPNOTSUPP).
    #[error("operation not supported")]
    NotSupp,
    /// No such device, as when a FIFO or device would have to be opened (ENXIO, ENODEV).
    #[error("no such device")]
    NxIo,
    /// Only the owner may (EPERM).
    #[error("operation not permitted")]
    Perm,
    /// The export or the file system is read-only (EROFS).
    #[error("read-only file system")]
    RoFs,
    /// The handle was right once, and its file is gone (ESTALE).
    #[error("stale file handle")]
    Stale,
    /// Not known without waiting, which the caller did not allow ([`Wait::No`](crate::Wait::No)).
    #[error("would have to wait")]
    WouldWait,
    /// Over the border of a file system (EXDEV).
    #[error("crosses a file system")]
    XDev,
}
