//! Making files, directories, links and nodes.
//!
//! On Linux what is new has its owner and its mode from its first moment, and a file of an exclusive
//! CREATE its verifier: a server that is killed half-way leaves nothing that is not the caller's, and
//! nothing that the caller does not know again. On FreeBSD it is root's and closed to everybody
//! until it is given to him: a CREATE that finds a file so finishes it, and all else gets its name
//! after its owner.

use std::os::fd::BorrowedFd;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use vfs::mode::Birth;
use vfs::{
    Attr, Caller, Create, FileKind, FsError, Handle, Made, Name, SetAttr, SetTime, Special, Time,
    Wait, Wcc, exclusive, mode, permission,
};

use super::HostTree;
use super::change::timestamps;
use crate::attr;
use crate::errno::cause;
use crate::sys::{self, Node};

impl HostTree {
    pub(super) fn make_file(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        how: &Create,
    ) -> Result<Made, FsError> {
        let new = New { kind: FileKind::Regular, set: set_of(how) };
        let verifier = matches!(how, Create::Exclusive(_)).then(|| timestamps(&new.set)).flatten();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let made = self.make(caller, dir, name, new, |dir, name, mode| {
            let born = verifier.as_ref().map_or(Err(Errno::OPNOTSUPP), |times| {
                sys::make_file_with_times(dir, name, mode, times)
            });
            match born {
                Err(Errno::OPNOTSUPP) => {
                    fs::openat(dir, name, flags | OFlags::CLOEXEC, mode).map(drop)
                }
                born => born,
            }
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
        self.make(caller, dir, name, new, |dir, name, mode| fs::mkdirat(dir, name, mode))
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
        self.make(caller, dir, name, new, |dir, name, _| fs::symlinkat(target, dir, name))
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
        self.make(caller, dir, name, New { kind, set: *set }, |dir, name, mode| {
            sys::make_special(dir, name, file_type, mode, device)
        })
    }

    /// Makes something under a new name by `call`, with its owner, mode and times.
    fn make(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        new: New,
        call: impl FnOnce(BorrowedFd<'_>, &[u8], Mode) -> Result<(), Errno>,
    ) -> Result<Made, FsError> {
        new.set.check()?;
        let held = self.stripes.lock(dir);
        let (parent, before) = self.dir(caller, dir, Wait::Yes)?;
        if name.is_dot() {
            return Err(FsError::Exist);
        }
        let judged = self.judged(caller, (dir, &parent), &before, Wait::Yes)?;
        if let Err(refused) = permission::may_add(caller, &judged) {
            // What exists already is told as that to whoever may look.
            let exists = self.entry(&parent, name)?.is_some();
            return Err(if exists { FsError::Exist } else { refused });
        }
        let at = parent.dir().map_err(cause)?;
        let born = mode::birth(caller, &before, new.kind, &new.set, self.options.groups);
        // The other bits follow when it is sure whose it is.
        let plain = born.mode & !SETID;
        let staged = sys::stage(new.kind == FileKind::Regular).map_err(cause)?;
        if staged.is_some() && self.entry(&parent, name)?.is_some() {
            return Err(FsError::Exist);
        }
        let under = staged.as_deref().unwrap_or(name.as_bytes());
        let made =
            sys::make_as(born.uid, born.gid, plain, |mode| call(at, under, attr::raw_mode(mode)));
        made.map_err(|errno| match errno {
            // A removed directory that is still open takes no names.
            Errno::NOENT => FsError::Stale,
            other => cause(other),
        })?;
        let first = Name::new(under).map_err(|_| FsError::Inval)?;
        let (node, found) = self.entry(&parent, first)?.ok_or(FsError::Busy)?;
        if found.kind != new.kind {
            // Somebody on the host put something else there at once; it is not ours to touch.
            return Err(FsError::Busy);
        }
        let is_dir = new.kind == FileKind::Directory;
        let finished = self.finish(node, &found, born, new).and_then(|made| {
            let Some(staged) = &staged else { return Ok(made) };
            sys::publish(at, staged, name.as_bytes(), is_dir).map_err(cause)?;
            // Its name has changed, which it shows.
            let (_, attr) = self.entry(&parent, name)?.ok_or(FsError::Busy)?;
            Ok((made.0, attr))
        });
        let (handle, attr) = finished.inspect_err(|_| {
            let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // The first error is the one to tell.
            let _ = fs::unlinkat(at, under, flags);
        })?;
        let after = self.attr(&parent)?;
        drop(held);
        self.settle_new(dir, &handle, new.kind)?;
        Ok(Made { handle, attr, dir: Wcc { before, after } })
    }

    /// Gives something new what it has not got yet of owner, mode, size and times.
    fn finish(
        &self,
        node: Node,
        found: &Attr,
        born: Birth,
        new: New,
    ) -> Result<(Handle, Attr), FsError> {
        let handle = self.handle(&node)?;
        let node = self.keep_node(&handle, node);
        let owned = (found.uid, found.gid) == (born.uid, born.gid);
        if !owned {
            node.chown(Some(born.uid), Some(born.gid)).map_err(cause)?;
        }
        let moded = new.kind == FileKind::Symlink || (owned && found.mode == born.mode);
        if !moded {
            node.chmod(new.kind, born.mode).map_err(cause)?;
        }
        // Root sets the rest: whoever may make a file may set its size and its times.
        let size = new.set.size.filter(|size| *size > 0 && new.kind == FileKind::Regular);
        let has = |set: SetTime, now: Time| match set {
            SetTime::Keep => true,
            SetTime::Server => false,
            SetTime::Client(time) => time == now,
        };
        let timed = has(new.set.atime, found.atime) && has(new.set.mtime, found.mtime);
        let (atime, mtime) =
            if timed { (SetTime::Keep, SetTime::Keep) } else { (new.set.atime, new.set.mtime) };
        let rest = SetAttr { mode: None, uid: None, gid: None, size, atime, mtime };
        if owned && moded && rest == SetAttr::default() {
            return Ok((handle, *found));
        }
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
        let judged = self.judged(caller, (dir, &parent), &dir_attr, Wait::Yes)?;
        if is_unfinished(&attr) && permission::may_add(caller, &judged).is_ok() {
            let new = New { kind: FileKind::Regular, set: set_of(how) };
            let born = mode::birth(caller, &dir_attr, new.kind, &new.set, self.options.groups);
            let (handle, attr) = self.finish(node, &attr, born, new)?;
            return Ok(Made { handle, attr, dir: Wcc { before: dir_attr, after: dir_attr } });
        }
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

/// What a new file is to have.
fn set_of(how: &Create) -> SetAttr {
    match how {
        Create::Unchecked(set) | Create::Guarded(set) => *set,
        Create::Exclusive(verifier) => {
            let (atime, mtime) = exclusive::times(*verifier);
            let (atime, mtime) = (SetTime::Client(atime), SetTime::Client(mtime));
            SetAttr { atime, mtime, ..SetAttr::default() }
        }
    }
}

/// Whether a server that was killed left a file before it was given to who made it.
fn is_unfinished(attr: &Attr) -> bool {
    let root = (attr.uid, attr.size, attr.nlink) == (0, 0, 1);
    root && attr.kind == FileKind::Regular && sys::UNFINISHED == Some(attr.mode)
}

/// `S_ISUID` and `S_ISGID`.
const SETID: u32 = 0o6000;

/// Device numbers that every kernel can keep: Linux has 12 bits for the major number ...
const MAX_MAJOR: u32 = 0xfff;
/// ... and 20 for the minor.
const MAX_MINOR: u32 = 0xf_ffff;
