//! Taking names away, moving them, and adding more to a file.

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;
use vfs::{Attr, Caller, FileKind, FsError, Handle, Linked, Name, Renamed, Wait, Wcc, permission};

use super::HostTree;
use crate::errno::cause;

impl HostTree {
    pub(super) fn remove_file(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
    ) -> Result<Wcc, FsError> {
        self.take(caller, dir, name, FsError::Inval, false)
    }

    pub(super) fn remove_dir(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
    ) -> Result<Wcc, FsError> {
        // RFC 1813 §3.3.13: `.` is NFS3ERR_INVAL and `..` is NFS3ERR_EXIST.
        let dot = if name.as_bytes() == b"." { FsError::Inval } else { FsError::Exist };
        self.take(caller, dir, name, dot, true)
    }

    fn take(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        dot: FsError,
        directory: bool,
    ) -> Result<Wcc, FsError> {
        let held = self.stripes.lock(dir);
        let (parent, before) = self.dir(caller, dir, Wait::Yes)?;
        if name.is_dot() {
            return Err(dot);
        }
        let (victim, attr) = self.entry(&parent, name)?.ok_or(FsError::NoEnt)?;
        let judged = self.judged(caller, (dir, &parent), &before, Wait::Yes)?;
        permission::may_take(caller, &judged, &attr)?;
        match (directory, attr.kind == FileKind::Directory) {
            (false, true) => return Err(FsError::IsDir),
            (true, false) => return Err(FsError::NotDir),
            (true, true) | (false, false) => {}
        }
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let gone = self.handle(&victim)?;
        fs::unlinkat(parent.dir().map_err(cause)?, name.as_bytes(), flags).map_err(removal)?;
        self.options.descriptors.forget(&gone);
        let after = self.attr(&parent)?;
        drop(held);
        self.settle_names(&[*dir])?;
        Ok(Wcc { before, after })
    }

    pub(super) fn move_name(
        &self,
        caller: &Caller,
        from_dir: &Handle,
        from: Name<'_>,
        to_dir: &Handle,
        to: Name<'_>,
    ) -> Result<Renamed, FsError> {
        let held = self.stripes.lock_both(from_dir, to_dir);
        let (source, source_before) = self.dir(caller, from_dir, Wait::Yes)?;
        let (target, target_before) = self.dir(caller, to_dir, Wait::Yes)?;
        if from.is_dot() || to.is_dot() {
            return Err(FsError::Inval);
        }
        let (node, moved) = self.entry(&source, from)?.ok_or(FsError::NoEnt)?;
        let of_source = self.judged(caller, (from_dir, &source), &source_before, Wait::Yes)?;
        let of_target = self.judged(caller, (to_dir, &target), &target_before, Wait::Yes)?;
        permission::may_take(caller, &of_source, &moved)?;
        permission::may_add(caller, &of_target)?;
        if from_dir != to_dir && moved.kind == FileKind::Directory {
            let handle = self.handle(&node)?;
            let judged = self.judged(caller, (&handle, &node), &moved, Wait::Yes)?;
            permission::may_reparent(caller, &judged)?;
        }
        let replaced = self.entry(&target, to)?;
        let same = replaced.as_ref().is_some_and(|(_, old)| old.fileid == moved.fileid);
        if !same {
            let gone = match &replaced {
                Some((node, old)) => {
                    permission::may_take(caller, &of_target, old)?;
                    check_replaceable(&moved, old)?;
                    Some(self.handle(node)?)
                }
                None => None,
            };
            let (out, into) = (source.dir().map_err(cause)?, target.dir().map_err(cause)?);
            fs::renameat(out, from.as_bytes(), into, to.as_bytes()).map_err(removal)?;
            if let Some(gone) = gone {
                self.options.descriptors.forget(&gone);
            }
        }
        let from = Wcc { before: source_before, after: self.attr(&source)? };
        let to = Wcc { before: target_before, after: self.attr(&target)? };
        drop(held);
        let dirs = [*from_dir, *to_dir];
        self.settle_names(if from_dir == to_dir { &dirs[..1] } else { &dirs })?;
        Ok(Renamed { from, to })
    }

    pub(super) fn add_name(
        &self,
        caller: &Caller,
        file: &Handle,
        dir: &Handle,
        name: Name<'_>,
    ) -> Result<Linked, FsError> {
        let held = self.stripes.lock(dir);
        let (node, attr) = self.node(file, Wait::Yes)?;
        if attr.kind == FileKind::Directory {
            return Err(FsError::IsDir);
        }
        let (parent, before) = self.dir(caller, dir, Wait::Yes)?;
        if name.is_dot() {
            return Err(FsError::Exist);
        }
        let judged = self.judged(caller, (dir, &parent), &before, Wait::Yes)?;
        if let Err(refused) = permission::may_add(caller, &judged) {
            let exists = self.entry(&parent, name)?.is_some();
            return Err(if exists { FsError::Exist } else { refused });
        }
        node.link(parent.dir().map_err(cause)?, name.as_bytes()).map_err(|errno| match errno {
            Errno::NOENT => FsError::Stale,
            other => cause(other),
        })?;
        let attr = self.attr(&node)?;
        let after = self.attr(&parent)?;
        drop(held);
        self.settle_names(&[*dir])?;
        Ok(Linked { attr, dir: Wcc { before, after } })
    }
}

/// Whether `old` can be replaced by `moved`; whether it is empty, the kernel decides.
fn check_replaceable(moved: &Attr, old: &Attr) -> Result<(), FsError> {
    match (moved.kind == FileKind::Directory, old.kind == FileKind::Directory) {
        (true, false) => Err(FsError::NotDir),
        (false, true) => Err(FsError::IsDir),
        (true, true) | (false, false) => Ok(()),
    }
}

/// POSIX lets rmdir(2) and rename(2) say either of two things of a directory that is not empty. EBUSY
/// is no reason to try again here.
fn removal(errno: Errno) -> FsError {
    match errno {
        Errno::BUSY => FsError::Mounted,
        Errno::EXIST | Errno::NOTEMPTY => FsError::NotEmpty,
        other => cause(other),
    }
}
