//! The empty directory that stands where another tree is to be mounted.
//!
//! It looks like the first directory of that tree, so that whoever may enter the one may enter the
//! other. Nothing can be put into it: what a client writes before it has mounted the other tree would be
//! lost below the mount.

use std::ops::ControlFlow;

use super::fileid::Fileids;
use super::{Border, Nested};
use crate::{
    Access, Attr, Caller, DirEnd, Entry, EntryDetail, Found, FsError, Handle, Name, Wait,
    permission,
};

/// An empty directory at a border.
pub(super) struct StandIn<'a> {
    pub(super) handle: Handle,
    border: &'a Border,
}

impl<'a> StandIn<'a> {
    pub(super) fn of(border: &'a Border) -> Result<Self, FsError> {
        let beyond = border.root.fsid().to_be_bytes();
        let handle =
            Handle::new(border.place.dir.fsid(), KIND, &beyond).map_err(|_| FsError::Io)?;
        Ok(Self { handle, border })
    }

    /// Whether a handle is one of a stand-in.
    pub(super) const fn is_one(file: &Handle) -> bool {
        file.kind() == KIND
    }

    /// The first directory of the tree that belongs here.
    pub(super) const fn mounted(&self) -> Handle {
        self.border.root
    }

    /// The directory that it is in.
    pub(super) const fn parent(&self) -> Handle {
        self.border.place.dir
    }

    pub(super) fn attr(&self, nested: &Nested, wait: Wait) -> Result<Attr, FsError> {
        let beyond = nested.part(&self.border.root)?.tree.getattr(&self.border.root, wait)?;
        let fsid = self.handle.fsid();
        // No file has inode number 0, so this is nobody else's id.
        let fileid = Fileids::of(self.border.root.fsid()).shown(0)?;
        Ok(Attr { nlink: 2, size: 0, used: 0, fsid, fileid, ..beyond })
    }

    pub(super) fn access(
        &self,
        nested: &Nested,
        caller: &Caller,
        asked: Access,
        wait: Wait,
    ) -> Result<(Access, Attr), FsError> {
        let attr = self.attr(nested, wait)?;
        let lasting = Access::READ.0 | Access::LOOKUP.0;
        Ok((Access(permission::rights(caller, &attr).0 & asked.0 & lasting), attr))
    }

    pub(super) fn lookup(
        &self,
        nested: &Nested,
        caller: &Caller,
        name: Name<'_>,
        wait: Wait,
    ) -> Result<Found, FsError> {
        let dir = self.attr(nested, wait)?;
        permission::may_search(caller, &dir)?;
        match name.as_bytes() {
            b"." => Ok(Found { handle: self.handle, attr: dir, dir }),
            b".." => {
                let parent = self.parent();
                Ok(Found { handle: parent, attr: nested.attributes(&parent, wait)?, dir })
            }
            _ => Err(FsError::NoEnt),
        }
    }

    pub(super) fn list(
        &self,
        nested: &Nested,
        caller: &Caller,
        cookie: u64,
        detail: EntryDetail,
        each: &mut dyn FnMut(&Entry<'_>) -> ControlFlow<()>,
    ) -> Result<DirEnd, FsError> {
        let attr = self.attr(nested, Wait::Yes)?;
        permission::may_list(caller, &attr)?;
        let parent = self.parent();
        let above = nested.attributes(&parent, Wait::Yes)?;
        let full = detail == EntryDetail::Full && permission::may_search(caller, &attr).is_ok();
        let dots = [(&b"."[..], self.handle, attr), (&b".."[..], parent, above)];
        for (number, (name, handle, attr)) in (1..).zip(dots) {
            let file = full.then_some((handle, attr));
            let entry = Entry { name, fileid: attr.fileid, cookie: number, file };
            if number > cookie && each(&entry).is_break() {
                return Ok(DirEnd { eof: false, attr });
            }
        }
        Ok(DirEnd { eof: true, attr })
    }
}

/// `FILEID_INVALID` of Linux's `exportfs.h`, which no file system makes; FreeBSD's handles are all of
/// type 0.
const KIND: u8 = 0xff;
