//! Making files, directories, links and nodes.
//!
//! What is new belongs to root and has no mode bits until owner and mode are set, so that nobody can
//! open it in between. Other clients are kept out of the directory for that long.

use std::os::fd::BorrowedFd;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use vfs::{
    Attr, Caller, Create, FileKind, FsError, Handle, Made, Name, SetAttr, SetTime, Special, Wait,
    Wcc, exclusive, mode, permission,
};

use super::HostTree;
use crate::errno::cause;
use crate::sys::Node;

impl HostTree {
    pub(super) fn make_file(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        how: &Create,
    ) -> Result<Made, FsError> {
        let set = match how {
            Create::Unchecked(set) | Create::Guarded(set) => *set,
            Create::Exclusive(verifier) => {
                let (atime, mtime) = exclusive::times(*verifier);
                let (atime, mtime) = (SetTime::Client(atime), SetTime::Client(mtime));
                SetAttr { atime, mtime, ..SetAttr::default() }
            }
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let new = New { kind: FileKind::Regular, set };
        let made = self.make(caller, dir, name, new, |dir, name| {
            fs::openat(dir, name, flags | OFlags::CLOEXEC, Mode::empty()).map(drop)
        });
        match made {
            Err(FsError::Exist) if !name.is_dot() => self.make_again(caller, dir, name, how),
            made => made,
        }
    }

    pub(super) fn make_dir(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        set: &SetAttr,
    ) -> Result<Made, FsError> {
        let new = New { kind: FileKind::Directory, set: *set };
        self.make(caller, dir, name, new, |dir, name| fs::mkdirat(dir, name, Mode::empty()))
    }

    pub(super) fn make_symlink(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        target: &[u8],
        set: &SetAttr,
    ) -> Result<Made, FsError> {
        if target.is_empty() || target.contains(&0) {
            return Err(FsError::Inval);
        }
        let new = New { kind: FileKind::Symlink, set: *set };
        self.make(caller, dir, name, new, |dir, name| fs::symlinkat(target, dir, name))
    }

    pub(super) fn make_special(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        what: Special,
        set: &SetAttr,
    ) -> Result<Made, FsError> {
        permission::may_make(caller, what)?;
        let (kind, file_type, (major, minor)) = match what {
            Special::Block(major, minor) => {
                (FileKind::Block, FileType::BlockDevice, (major, minor))
            }
            Special::Character(major, minor) => {
                (FileKind::Character, FileType::CharacterDevice, (major, minor))
            }
            Special::Fifo => (FileKind::Fifo, FileType::Fifo, (0, 0)),
            Special::Socket => (FileKind::Socket, FileType::Socket, (0, 0)),
        };
        if major > MAX_MAJOR || minor > MAX_MINOR {
            return Err(FsError::Inval);
        }
        let device = fs::makedev(major, minor);
        self.make(caller, dir, name, New { kind, set: *set }, |dir, name| {
            fs::mknodat(dir, name, file_type, Mode::empty(), device)
        })
    }

    /// Makes something under a new name by `call`, and gives it its owner, mode and times.
    fn make(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        new: New,
        call: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<(), Errno>,
    ) -> Result<Made, FsError> {
        new.set.check()?;
        let held = self.stripes.lock(dir);
        let (parent, before) = self.dir(caller, dir, Wait::Yes)?;
        if name.is_dot() {
            return Err(FsError::Exist);
        }
        if let Err(refused) = permission::may_add(caller, &before) {
            // What exists already is told as that to whoever may look.
            let exists = self.entry(&parent, name)?.is_some();
            return Err(if exists { FsError::Exist } else { refused });
        }
        let at = parent.dir().map_err(cause)?;
        call(at, name.as_bytes()).map_err(|errno| match errno {
            // A removed directory that is still open takes no names.
            Errno::NOENT => FsError::Stale,
            other => cause(other),
        })?;
        let (node, found) = self.entry(&parent, name)?.ok_or(FsError::Busy)?;
        if found.kind != new.kind {
            // Somebody on the host put something else there at once; it is not ours to touch.
            return Err(FsError::Busy);
        }
        let dressed = self.dress(caller, &before, node, new);
        let (handle, attr) = dressed.inspect_err(|_| {
            let is_dir = new.kind == FileKind::Directory;
            let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // The first error is the one to tell.
            let _ = fs::unlinkat(at, name.as_bytes(), flags);
        })?;
        let after = self.attr(&parent)?;
        drop(held);
        match new.kind {
            // Every journal keeps its order: with a new file's attributes its name is there, too.
            FileKind::Directory | FileKind::Regular => self.settle_file(&handle, new.kind)?,
            FileKind::Block
            | FileKind::Character
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::Symlink => self.settle_dir(dir)?,
        }
        Ok(Made { handle, attr, dir: Wcc { before, after } })
    }

    /// Gives something new its owner, mode, size and times.
    fn dress(
        &self,
        caller: &Caller,
        dir: &Attr,
        node: Node,
        new: New,
    ) -> Result<(Handle, Attr), FsError> {
        let handle = self.handle(&node)?;
        let node = self.keep_node(&handle, node);
        let born = mode::birth(caller, dir, new.kind, &new.set, self.options.groups);
        node.chown(Some(born.uid), Some(born.gid)).map_err(cause)?;
        if new.kind != FileKind::Symlink {
            node.chmod(born.mode).map_err(cause)?;
        }
        // Root sets the rest: whoever may make a file may set its size and its times.
        let size = new.set.size.filter(|size| *size > 0 && new.kind == FileKind::Regular);
        let rest = SetAttr { mode: None, uid: None, gid: None, size, ..new.set };
        self.apply(&Caller::ROOT, &handle, &node, &self.attr(&node)?, &rest)?;
        Ok((handle, self.attr(&node)?))
    }

    /// What CREATE does with a file that exists already.
    fn make_again(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        how: &Create,
    ) -> Result<Made, FsError> {
        let (parent, dir_attr) = self.dir(caller, dir, Wait::Yes)?;
        let (node, attr) = self.entry(&parent, name)?.ok_or(FsError::Busy)?;
        let handle = self.handle(&node)?;
        let regular = attr.kind == FileKind::Regular;
        match how {
            Create::Unchecked(set) if regular => {
                let set = SetAttr { size: set.size, ..SetAttr::default() };
                if set.size.is_some() {
                    self.change(caller, &handle, &set, None)?;
                }
            }
            Create::Exclusive(verifier) if regular && exclusive::is_retry(&attr, *verifier) => {}
            Create::Unchecked(_) | Create::Guarded(_) | Create::Exclusive(_) => {
                return Err(FsError::Exist);
            }
        }
        let wcc = Wcc { before: dir_attr, after: dir_attr };
        Ok(Made { handle, attr: self.attr(&node)?, dir: wcc })
    }
}

/// What is made.
#[derive(Clone, Copy)]
struct New {
    kind: FileKind,
    set: SetAttr,
}

/// Device numbers that every kernel can keep: Linux has 12 bits for the major number ...
const MAX_MAJOR: u32 = 0xfff;
/// ... and 20 for the minor.
const MAX_MINOR: u32 = 0xf_ffff;
