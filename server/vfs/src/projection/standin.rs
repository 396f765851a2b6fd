//! The empty directory that stands where another tree is to be mounted.
//!
//! It looks like the first directory of that tree, so that whoever may enter the one may enter the
//! other. Nothing can be put into it: what a client writes before it has mounted the other tree would be
//! lost below the mount.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::fileid::Fileids;
use super::{NameInDir, Part};
use crate::{
    Access, Attr, Caller, DirEnd, Entry, EntryDetail, Found, FsError, FsStat, Handle, Limits, Name,
    Read, Stability, Tree, Wait, Wcc, Written, permission,
};

/// An empty directory at a border: a tree that consists of it.
pub(super) struct StandIn {
    pub(super) handle: Handle,
    fileid: u64,
    /// The directory that it is in, and its tree.
    above: Handle,
    above_tree: Arc<dyn Tree>,
    /// The first directory of the tree that belongs here, and that.
    beyond: Handle,
    beyond_tree: Arc<dyn Tree>,
}

impl StandIn {
    pub(super) fn new(
        place: &NameInDir,
        above: &Part,
        beyond: &Arc<dyn Tree>,
    ) -> Result<Self, FsError> {
        let root = beyond.root();
        let number = root.fsid().to_be_bytes();
        Ok(Self {
            handle: Handle::new(place.dir.fsid(), KIND, &number).map_err(|_| FsError::Io)?,
            // No file has inode number 0, so this is nobody else's id.
            fileid: Fileids::of(root.fsid()).shown(0)?,
            above: place.dir,
            above_tree: Arc::clone(&above.tree),
            beyond: root,
            beyond_tree: Arc::clone(beyond),
        })
    }

    /// Whether a handle is one of a stand-in.
    pub(super) const fn is_one(file: &Handle) -> bool {
        file.kind() == KIND
    }
}

impl Tree for StandIn {
    fn root(&self) -> Handle {
        self.handle
    }

    fn getattr(&self, _file: &Handle, wait: Wait) -> Result<Attr, FsError> {
        let beyond = self.beyond_tree.getattr(&self.beyond, wait)?;
        let (fsid, fileid) = (self.handle.fsid(), self.fileid);
        Ok(Attr { nlink: 2, size: 0, used: 0, fsid, fileid, ..beyond })
    }

    fn lookup(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        wait: Wait,
    ) -> Result<Found, FsError> {
        let attr = self.getattr(dir, wait)?;
        permission::may_search(caller, &attr)?;
        match name.as_bytes() {
            b"." => Ok(Found { handle: self.handle, attr, dir: attr }),
            b".." => {
                let above = self.above_tree.getattr(&self.above, wait)?;
                Ok(Found { handle: self.above, attr: above, dir: attr })
            }
            _ => Err(FsError::NoEnt),
        }
    }

    fn access(
        &self,
        caller: &Caller,
        file: &Handle,
        asked: Access,
        wait: Wait,
    ) -> Result<(Access, Attr), FsError> {
        let attr = self.getattr(file, wait)?;
        let lasting = Access::READ.0 | Access::LOOKUP.0;
        Ok((Access(permission::rights(caller, &attr).0 & asked.0 & lasting), attr))
    }

    fn readlink(
        &self,
        _caller: &Caller,
        _file: &Handle,
        _wait: Wait,
    ) -> Result<(Vec<u8>, Attr), FsError> {
        Err(FsError::Inval)
    }

    fn read(
        &self,
        _caller: &Caller,
        _file: &Handle,
        _offset: u64,
        _into: &mut [u8],
        _wait: Wait,
    ) -> Result<Read, FsError> {
        Err(FsError::IsDir)
    }

    fn write(
        &self,
        _caller: &Caller,
        _file: &Handle,
        _offset: u64,
        _data: &[u8],
        _stability: Stability,
    ) -> Result<Written, FsError> {
        Err(FsError::IsDir)
    }

    fn readdir(
        &self,
        caller: &Caller,
        dir: &Handle,
        cookie: u64,
        detail: EntryDetail,
        each: &mut dyn FnMut(&Entry<'_>) -> ControlFlow<()>,
    ) -> Result<DirEnd, FsError> {
        let attr = self.getattr(dir, Wait::Yes)?;
        permission::may_list(caller, &attr)?;
        let above = self.above_tree.getattr(&self.above, Wait::Yes)?;
        let full = detail == EntryDetail::Full && permission::may_search(caller, &attr).is_ok();
        let dots = [(&b"."[..], self.handle, attr), (&b".."[..], self.above, above)];
        for (number, (name, handle, shown)) in (1..).zip(dots) {
            let file = full.then_some((handle, shown));
            let entry = Entry { name, fileid: shown.fileid, cookie: number, file };
            if number > cookie && each(&entry).is_break() {
                return Ok(DirEnd { eof: false, attr });
            }
        }
        Ok(DirEnd { eof: true, attr })
    }

    fn statfs(&self, _file: &Handle) -> Result<FsStat, FsError> {
        self.above_tree.statfs(&self.above)
    }

    fn limits(&self, _file: &Handle) -> Result<Limits, FsError> {
        self.above_tree.limits(&self.above)
    }

    fn commit(&self, _caller: &Caller, _file: &Handle) -> Result<Wcc, FsError> {
        Err(FsError::IsDir)
    }

    fn write_verifier(&self) -> [u8; 8] {
        self.above_tree.write_verifier()
    }
}

/// `FILEID_INVALID` of Linux's `exportfs.h`, which no file system makes; FreeBSD's handles are all of
/// type 0.
const KIND: u8 = 0xff;
