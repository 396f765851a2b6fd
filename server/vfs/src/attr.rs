//! Attributes of a file, as read and as set (RFC 1813 §2.5 and §2.6, without their encoding).

use crate::FsError;
use crate::caller::NO_ID;

/// What kind of object a handle names (RFC 1813 §2.6, `ftype3`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A block device; its node only, never the device itself.
    Block,
    /// A character device; its node only.
    Character,
    /// A symbolic link.
    Symlink,
    /// A UNIX-domain socket.
    Socket,
    /// A named pipe.
    Fifo,
}

/// A point in time with nanoseconds, since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// The attributes of one file, read in one system call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attr {
    /// What it is.
    pub kind: FileKind,
    /// Permission, setuid, setgid and sticky bits (`0o7777`); no type bits.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of storage in use.
    pub used: u64,
    /// Major and minor number, for devices.
    pub rdev: (u32, u32),
    /// The file system, from its UUID or GUID, never from a counter: equal after a restart.
    pub fsid: u64,
    /// Constant for the life of the file and unique below one mount.
    pub fileid: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of the data.
    pub mtime: Time,
    /// Last change of data or attributes.
    pub ctime: Time,
}

/// Attributes to be set; `None` and [`SetTime::Keep`] leave the present value (`sattr3`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SetAttr {
    /// New mode (`0o7777`).
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size; truncates or extends with zeros.
    pub size: Option<u64>,
    /// New time of last access.
    pub atime: SetTime,
    /// New time of last change of the data.
    pub mtime: SetTime,
}

impl SetAttr {
    /// Whether these are values that any file could have; they come from the network and may be
    /// anything. To Linux some nanoseconds that cannot be even mean something else.
    ///
    /// An owner or group of 4294967295, which is nobody's number, and a time with a second or more of
    /// nanoseconds are [`FsError::Inval`]; a size past 2^63 - 1 is [`FsError::FBig`].
    pub fn check(&self) -> Result<(), FsError> {
        if self.uid == Some(NO_ID) || self.gid == Some(NO_ID) {
            return Err(FsError::Inval);
        }
        for time in [self.atime, self.mtime] {
            if matches!(time, SetTime::Client(Time { nanoseconds: 1_000_000_000.., .. })) {
                return Err(FsError::Inval);
            }
        }
        match self.size {
            Some(size) if i64::try_from(size).is_err() => Err(FsError::FBig),
            Some(_) | None => Ok(()),
        }
    }
}

/// How one time stamp is set (RFC 1813 §2.6, `time_how`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SetTime {
    /// Not at all.
    #[default]
    Keep,
    /// To the server's time. Whoever may write the file may do this.
    Server,
    /// To the caller's time. Only the owner may do this.
    Client(Time),
}
