//! Listing directories.

use std::ops::ControlFlow;

use rustix::fs::{self, AtFlags, SeekFrom};
use rustix::io::Errno;
use vfs::{Attr, Caller, DirEnd, Entry, EntryDetail, FsError, Handle, Wait, permission};

use super::{HostTree, handle, unopened};
use crate::attr;
use crate::errno::cause;
use crate::sys::{self, Node};

impl HostTree {
    pub(super) fn list(
        &self,
        caller: &Caller,
        dir: &Handle,
        cookie: u64,
        detail: EntryDetail,
        each: &mut dyn FnMut(&Entry<'_>) -> ControlFlow<()>,
    ) -> Result<DirEnd, FsError> {
        let (node, attr) = self.node(dir, Wait::Yes)?;
        permission::may_list(caller, &attr)?;
        let full = detail == EntryDetail::Full && permission::may_search(caller, &attr).is_ok();
        // The position belongs to the open description, so two listings must not share one.
        let fd = self.mount.open_dir(dir.kind(), dir.kernel()).map_err(unopened)?;
        if cookie > 0 {
            if cookie > i64::MAX as u64 {
                return Err(FsError::BadCookie);
            }
            fs::seek(&fd, SeekFrom::Start(cookie)).map_err(|errno| match errno {
                Errno::INVAL => FsError::BadCookie,
                other => cause(other),
            })?;
        }
        let eof = sys::list(&fd, |name, inode, cookie| {
            let above_root = *dir == self.root && name == b"..";
            let fileid = if above_root { self.root_fileid } else { inode };
            let file = if full { self.listed(dir, &node, &attr, name, fileid) } else { None };
            each(&Entry { name, fileid, cookie, file })
        });
        Ok(DirEnd { eof: eof.map_err(cause)?, attr })
    }

    /// What a listed name stands for, unless it vanished or lies beyond a border.
    fn listed(
        &self,
        dir: &Handle,
        node: &Node,
        dir_attr: &Attr,
        name: &[u8],
        fileid: u64,
    ) -> Option<(Handle, Attr)> {
        match name {
            b"." => return Some((*dir, *dir_attr)),
            b".." => return self.parent(dir, node).ok(),
            _ => {}
        }
        let kernel = node.handle_at(name).ok()?;
        let stat = fs::statat(node.dir().ok()?, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if stat.st_dev != self.device {
            return None;
        }
        if stat.st_ino == fileid {
            let handle = handle(self.fsid, &kernel).ok()?;
            return Some((handle, attr::from_stat(&stat, self.fsid)));
        }
        // Somebody put another file there while we looked: handle and attributes have to be of one.
        let found = self.mount.look(node.dir().ok()?, name).ok()?;
        Some((self.handle(&found).ok()?, self.attr(&found).ok()?))
    }
}
