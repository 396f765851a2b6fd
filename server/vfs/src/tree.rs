//! The tree of files that protocols serve.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;

use crate::{Attr, Caller, FsError, Handle, Name, SetAttr, Time};

/// A tree of files, by handle.
///
/// Every operation is synchronous: file system calls block, and a lock held here cannot meet an
/// `.await`. Those that memory can answer take a [`Wait`]; all others may wait for a disk. Every
/// operation checks the caller's permission itself, by the rules of this crate, and returns the
/// attributes that it saw, so that nobody asks twice.
///
/// What a tree does not implement of the operations that change it, it refuses as a read-only one.
///
/// Where an operation fails, the caller of the trait may ask [`Tree::getattr`] for what the protocol
/// wants beside the error.
pub trait Tree: Send + Sync {
    /// The root of the tree. `..` of it is itself.
    fn root(&self) -> Handle;

    /// Reads the attributes of a file. Needs no permission.
    fn getattr(&self, file: &Handle, wait: Wait) -> Result<Attr, FsError>;

    /// Sets attributes. With `guard`, only if the file's ctime still equals it, else [`FsError::NotSync`].
    fn setattr(
        &self,
        caller: &Caller,
        file: &Handle,
        set: &SetAttr,
        guard: Option<Time>,
    ) -> Result<Wcc, FsError> {
        let _ = (caller, file, set, guard);
        Err(FsError::RoFs)
    }

    /// Looks one name up in a directory; `.` and `..` are names like others.
    fn lookup(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        wait: Wait,
    ) -> Result<Found, FsError>;

    /// Which of the `asked` rights the caller has.
    fn access(
        &self,
        caller: &Caller,
        file: &Handle,
        asked: Access,
        wait: Wait,
    ) -> Result<(Access, Attr), FsError>;

    /// Reads what a symbolic link says.
    fn readlink(
        &self,
        caller: &Caller,
        file: &Handle,
        wait: Wait,
    ) -> Result<(Vec<u8>, Attr), FsError>;

    /// Reads from a regular file at `offset` into `into`; short only at the end of the file.
    fn read(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        into: &mut [u8],
        wait: Wait,
    ) -> Result<Read, FsError>;

    /// Reads as [`Tree::read`] does, but into a pipe that has room for `len` bytes, and without a copy.
    /// Who fails may have left bytes in the pipe. [`FsError::NotSupp`] means that it has to be copied.
    fn read_to_pipe(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        len: usize,
        pipe: BorrowedFd<'_>,
        wait: Wait,
    ) -> Result<Read, FsError> {
        let _ = (caller, file, offset, len, pipe, wait);
        Err(FsError::NotSupp)
    }

    /// Writes `data` to a regular file at `offset`, as stable as asked or more.
    fn write(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        data: &[u8],
        stability: Stability,
    ) -> Result<Written, FsError>;

    /// Makes a regular file.
    fn create(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        how: &Create,
    ) -> Result<Made, FsError> {
        let _ = (caller, dir, name, how);
        Err(FsError::RoFs)
    }

    /// Makes a directory.
    fn mkdir(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        set: &SetAttr,
    ) -> Result<Made, FsError> {
        let _ = (caller, dir, name, set);
        Err(FsError::RoFs)
    }

    /// Makes a symbolic link that says `target`.
    fn symlink(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        target: &[u8],
        set: &SetAttr,
    ) -> Result<Made, FsError> {
        let _ = (caller, dir, name, target, set);
        Err(FsError::RoFs)
    }

    /// Makes a FIFO, socket or device node. Only the superuser makes devices.
    fn mknod(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        what: Special,
        set: &SetAttr,
    ) -> Result<Made, FsError> {
        let _ = (caller, dir, name, what, set);
        Err(FsError::RoFs)
    }

    /// Removes anything but a directory.
    fn remove(&self, caller: &Caller, dir: &Handle, name: Name<'_>) -> Result<Wcc, FsError> {
        let _ = (caller, dir, name);
        Err(FsError::RoFs)
    }

    /// Removes an empty directory.
    fn rmdir(&self, caller: &Caller, dir: &Handle, name: Name<'_>) -> Result<Wcc, FsError> {
        let _ = (caller, dir, name);
        Err(FsError::RoFs)
    }

    /// Renames, replacing what `to` named if their kinds allow it.
    fn rename(
        &self,
        caller: &Caller,
        from_dir: &Handle,
        from: Name<'_>,
        to_dir: &Handle,
        to: Name<'_>,
    ) -> Result<Renamed, FsError> {
        let _ = (caller, from_dir, from, to_dir, to);
        Err(FsError::RoFs)
    }

    /// Gives a file, not a directory, one more name.
    fn link(
        &self,
        caller: &Caller,
        file: &Handle,
        dir: &Handle,
        name: Name<'_>,
    ) -> Result<Linked, FsError> {
        let _ = (caller, file, dir, name);
        Err(FsError::RoFs)
    }

    /// Shows the entries after `cookie` (0 for the start), `.` and `..` among them, until `each` breaks.
    ///
    /// `each` must not call the tree: a lock of the directory may be held.
    fn readdir(
        &self,
        caller: &Caller,
        dir: &Handle,
        cookie: u64,
        detail: EntryDetail,
        each: &mut dyn FnMut(&Entry<'_>) -> ControlFlow<()>,
    ) -> Result<DirEnd, FsError>;

    /// Space and inodes of the file system that holds `file`.
    fn statfs(&self, file: &Handle) -> Result<FsStat, FsError>;

    /// What the file system that holds `file` allows.
    fn limits(&self, file: &Handle) -> Result<Limits, FsError>;

    /// Brings all that was written to `file` so far to stable storage.
    fn commit(&self, caller: &Caller, file: &Handle) -> Result<Wcc, FsError>;

    /// The write verifier (RFC 1813 §3.3.7): new at every start and after every failed sync, so that
    /// clients send again what may be lost.
    fn write_verifier(&self) -> [u8; 8];

    /// Decides what is on stable storage when a change is answered, from now on. Trees that keep nothing on
    /// a disk have nothing to decide.
    fn set_sync(&self, mode: SyncMode) {
        let _ = mode;
    }

    /// Closes every cached descriptor, so that the tree can be snapshotted, rolled back or destroyed.
    fn quiesce(&self) {}
}

/// Whether an operation may wait: for a disk, for a daemon that serves files, or for a lock that
/// somebody who waits for one of these may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// It must not. What cannot be told at once is [`FsError::WouldWait`]; the caller repeats the
    /// operation on a thread that may wait. A tree may say so of anything.
    No,
    /// It may, and is never [`FsError::WouldWait`].
    Yes,
}

/// Attributes of an object before and after a change (RFC 1813 §2.6, `wcc_data`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wcc {
    /// As they were directly before, read under the same lock.
    pub before: Attr,
    /// As they were directly after.
    pub after: Attr,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    /// The file.
    pub handle: Handle,
    /// Its attributes.
    pub attr: Attr,
    /// The attributes of the directory that was searched.
    pub dir: Attr,
}

/// A new object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Made {
    /// The object.
    pub handle: Handle,
    /// Its attributes.
    pub attr: Attr,
    /// Its directory.
    pub dir: Wcc,
}

/// The outcome of a rename.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Renamed {
    /// The directory that lost a name.
    pub from: Wcc,
    /// The directory that gained it.
    pub to: Wcc,
}

/// The outcome of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Linked {
    /// The file, with one link more.
    pub attr: Attr,
    /// The directory that gained a name.
    pub dir: Wcc,
}

/// The outcome of a read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Read {
    /// How many bytes were read.
    pub len: usize,
    /// Whether the last of them is the file's last.
    pub eof: bool,
    /// The file's attributes.
    pub attr: Attr,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Written {
    /// How many bytes were written; never 0 unless none were given.
    pub len: usize,
    /// How stable they are.
    pub stability: Stability,
    /// The file before and after.
    pub wcc: Wcc,
}

/// How safe written data has to be before the answer (RFC 1813 §3.3.7, `stable_how`).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stability {
    /// In memory: a COMMIT will follow.
    Unstable,
    /// The data and what is needed to find it are on stable storage.
    DataSync,
    /// Everything is on stable storage.
    FileSync,
}

/// What is on stable storage when a change is answered, by the names of ZFS (zfsprops(7), `sync`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SyncMode {
    /// Names, attributes, and data that is written so or committed (RFC 1813 §4.7, 4.8).
    #[default]
    Standard,
    /// These, and all data that is written.
    Always,
    /// Nothing: the file system writes when it gets to it, within seconds. A server that stops, also by SIGKILL,
    /// keeps all; a host that loses its power forgets the last changes of its clients.
    Disabled,
}

/// How a regular file is made (RFC 1813 §3.3.8, `createhow3`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Create {
    /// Opened if it exists; then only its size is set, if given.
    Unchecked(SetAttr),
    /// [`FsError::Exist`] if it exists.
    Guarded(SetAttr),
    /// [`FsError::Exist`] if it exists, unless it was made by the same verifier before: then this is a
    /// retry, and has succeeded.
    Exclusive([u8; 8]),
}

/// What else than files, directories and links a name can stand for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Special {
    /// A block device with its major and minor number.
    Block(u32, u32),
    /// A character device with its major and minor number.
    Character(u32, u32),
    /// A named pipe.
    Fifo,
    /// A UNIX-domain socket.
    Socket,
}

/// How much a directory listing shows of each entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EntryDetail {
    /// Name, fileid and cookie.
    Name,
    /// Also the handle and the attributes.
    Full,
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its file's id, equal to that file's [`Attr::fileid`].
    pub fileid: u64,
    /// Where the listing goes on behind it: the kernel's `d_off`. Never 0.
    pub cookie: u64,
    /// With [`EntryDetail::Full`], its file; `None` if that vanished in between.
    pub file: Option<(Handle, Attr)>,
}

/// How a directory listing ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DirEnd {
    /// Whether all entries were shown.
    pub eof: bool,
    /// The directory's attributes.
    pub attr: Attr,
}

/// Space and inodes (RFC 1813 §3.3.18).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FsStat {
    /// Size in bytes.
    pub total_bytes: u64,
    /// Free bytes.
    pub free_bytes: u64,
    /// Free bytes for an ordinary user.
    pub available_bytes: u64,
    /// Number of inodes.
    pub total_files: u64,
    /// Free inodes.
    pub free_files: u64,
    /// Free inodes for an ordinary user.
    pub available_files: u64,
}

/// What a file system allows (RFC 1813 §3.3.19 and §3.3.20).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Most hard links of a file.
    pub link_max: u32,
    /// Longest name in bytes.
    pub name_max: u32,
    /// Largest file in bytes.
    pub max_file_size: u64,
}

/// A set of access rights (RFC 1813 §3.3.4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Access(pub u32);

impl Access {
    /// Read data or list a directory.
    pub const READ: Self = Self(0x01);
    /// Look a name up in a directory.
    pub const LOOKUP: Self = Self(0x02);
    /// Change existing data or entries.
    pub const MODIFY: Self = Self(0x04);
    /// Add data or entries.
    pub const EXTEND: Self = Self(0x08);
    /// Remove an entry of a directory.
    pub const DELETE: Self = Self(0x10);
    /// Execute a file.
    pub const EXECUTE: Self = Self(0x20);

    /// Whether every right of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
