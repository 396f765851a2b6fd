//! Setting attributes.

use rustix::fs::{self, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use vfs::{Attr, Caller, FsError, Handle, SetAttr, SetTime, Time, Wait, Wcc, mode, permission};

use super::HostTree;
use crate::errno::cause;
use crate::sys::Node;

impl HostTree {
    pub(super) fn change(
        &self,
        caller: &Caller,
        file: &Handle,
        set: &SetAttr,
        guard: Option<Time>,
    ) -> Result<Wcc, FsError> {
        let held = self.stripes.lock(file);
        let (node, before) = self.node(file, Wait::Yes)?;
        let judged = self.judged(caller, (file, &node), &before, Wait::Yes)?;
        permission::may_set(caller, &judged, set)?;
        if guard.is_some_and(|ctime| ctime != before.ctime) {
            return Err(FsError::NotSync);
        }
        self.apply(caller, file, &node, &before, set)?;
        let wcc = Wcc { before, after: self.attr(&node)? };
        drop(held);
        match set.size {
            None => self.settle_attributes(file, before.kind)?,
            // What is left of the file is to end with zeros, not with what was there.
            Some(_) => self.settle_file(file, before.kind)?,
        }
        Ok(wcc)
    }

    /// Does what `set` asks for and the caller may.
    ///
    /// Owner and group come first, because the kernel then clears setuid; the mode is the one that the
    /// rules give, and is there before new data can be.
    pub(super) fn apply(
        &self,
        caller: &Caller,
        file: &Handle,
        node: &Node,
        before: &Attr,
        set: &SetAttr,
    ) -> Result<(), FsError> {
        let mode = mode::after_set(caller, before, set);
        if set.uid.is_some() || set.gid.is_some() {
            node.chown(set.uid, set.gid).map_err(cause)?;
        }
        if set.mode.is_some() || mode != before.mode {
            node.chmod(before.kind, mode).map_err(cause)?;
        }
        if let Some(size) = set.size {
            fs::ftruncate(&*self.writer(file)?, size).map_err(cause)?;
        }
        if let Some(times) = timestamps(set) {
            node.set_times(&times).map_err(cause)?;
        }
        Ok(())
    }
}

/// Times for the kernel, if any are set. They have been checked.
pub(super) fn timestamps(set: &SetAttr) -> Option<Timestamps> {
    let any = (set.atime, set.mtime) != (SetTime::Keep, SetTime::Keep);
    any.then(|| Timestamps {
        last_access: timespec(set.atime),
        last_modification: timespec(set.mtime),
    })
}

fn timespec(time: SetTime) -> Timespec {
    match time {
        SetTime::Keep => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        SetTime::Server => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        SetTime::Client(Time { seconds, nanoseconds }) => {
            Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() }
        }
    }
}
