//! What a caller may do with a file that has an access control list.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use vfs::{Acl, Attr, Caller, FileKind, FsError, Handle, Time, Wait, permission};

use super::HostTree;
use crate::errno::cause;
use crate::sys::{self, Node};

impl HostTree {
    /// The attributes by which [`permission`] judges a caller: those of the file, but for its access control list.
    pub(super) fn judged(
        &self,
        caller: &Caller,
        (file, node): (&Handle, &Node),
        attr: &Attr,
        wait: Wait,
    ) -> Result<Attr, FsError> {
        if !self.may_have_list(caller, attr) {
            return Ok(*attr);
        }
        self.judged_by(caller, (file, node.any().map_err(cause)?), attr, wait)
    }

    /// The same of a file that is open.
    pub(super) fn judged_by(
        &self,
        caller: &Caller,
        (file, fd): (&Handle, BorrowedFd<'_>),
        attr: &Attr,
        wait: Wait,
    ) -> Result<Attr, FsError> {
        if !self.may_have_list(caller, attr) {
            return Ok(*attr);
        }
        let list = self.list_of(file, fd, attr, wait)?;
        Ok(list.map_or(*attr, |list| list.judged(caller, attr)))
    }

    /// Whether a list makes a difference.
    fn may_have_list(&self, caller: &Caller, attr: &Attr) -> bool {
        let is_owner = permission::is_root(caller) || caller.uid == attr.uid;
        self.has_lists && !is_owner && attr.mode & 0o070 != 0 && attr.kind != FileKind::Symlink
    }

    /// The list of a file. The kernel has it in memory from the first time on for as long as the file is open
    /// here, and is asked again while that was changed lately.
    fn list_of(
        &self,
        file: &Handle,
        fd: BorrowedFd<'_>,
        attr: &Attr,
        wait: Wait,
    ) -> Result<Option<Arc<Acl>>, FsError> {
        let lists = &self.options.descriptors.lists;
        if let Some(known) = lists.of(file, attr.ctime) {
            return Ok(known);
        }
        if wait == Wait::No && !lists.has(file) {
            return Err(FsError::WouldWait);
        }
        let now = now();
        let list = match sys::list_of(fd) {
            Ok(list) => list.map(Arc::new),
            Err(Errno::OPNOTSUPP) => None,
            Err(errno) => return Err(cause(errno)),
        };
        if !lists.remember(*file, attr.ctime, list.clone(), now) {
            lists.note(*file, list.clone());
        }
        Ok(list)
    }
}

/// The time of day.
pub(super) fn now() -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(0);
    Time { seconds, nanoseconds: now.subsec_nanos() }
}
