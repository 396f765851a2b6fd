//! A tree that cannot be changed through this door.

use std::ops::ControlFlow;

use crate::{
    Access, Attr, Caller, Create, DirEnd, Entry, EntryDetail, Found, FsError, FsStat, Handle,
    Limits, Linked, Made, Name, Read, Renamed, SetAttr, Special, Stability, Time, Tree, Wcc,
    Written,
};

/// Another tree, of which nothing can be changed: what would change it is [`FsError::RoFs`], and
/// [`Tree::access`] grants nothing that would fail.
///
/// Each method is written out, so that a new one has to be allowed or forbidden here before anything
/// compiles.
#[derive(Debug)]
pub struct ReadOnly<T>(pub T);

impl<T: Tree> Tree for ReadOnly<T> {
    fn root(&self) -> Handle {
        self.0.root()
    }

    fn getattr(&self, file: &Handle) -> Result<Attr, FsError> {
        self.0.getattr(file)
    }

    fn setattr(
        &self,
        _caller: &Caller,
        _file: &Handle,
        _set: &SetAttr,
        _guard: Option<Time>,
    ) -> Result<Wcc, FsError> {
        Err(FsError::RoFs)
    }

    fn lookup(&self, caller: &Caller, dir: &Handle, name: Name<'_>) -> Result<Found, FsError> {
        self.0.lookup(caller, dir, name)
    }

    fn access(
        &self,
        caller: &Caller,
        file: &Handle,
        asked: Access,
    ) -> Result<(Access, Attr), FsError> {
        let changes = Access::MODIFY.0 | Access::EXTEND.0 | Access::DELETE.0;
        self.0.access(caller, file, Access(asked.0 & !changes))
    }

    fn readlink(&self, caller: &Caller, file: &Handle) -> Result<(Vec<u8>, Attr), FsError> {
        self.0.readlink(caller, file)
    }

    fn read(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        into: &mut [u8],
    ) -> Result<Read, FsError> {
        self.0.read(caller, file, offset, into)
    }

    fn read_resident(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        into: &mut [u8],
    ) -> Result<Option<Read>, FsError> {
        self.0.read_resident(caller, file, offset, into)
    }

    fn write(
        &self,
        _caller: &Caller,
        _file: &Handle,
        _offset: u64,
        _data: &[u8],
        _stability: Stability,
    ) -> Result<Written, FsError> {
        Err(FsError::RoFs)
    }

    fn create(
        &self,
        _caller: &Caller,
        _dir: &Handle,
        _name: Name<'_>,
        _how: &Create,
    ) -> Result<Made, FsError> {
        Err(FsError::RoFs)
    }

    fn mkdir(
        &self,
        _caller: &Caller,
        _dir: &Handle,
        _name: Name<'_>,
        _set: &SetAttr,
    ) -> Result<Made, FsError> {
        Err(FsError::RoFs)
    }

    fn symlink(
        &self,
        _caller: &Caller,
        _dir: &Handle,
        _name: Name<'_>,
        _target: &[u8],
        _set: &SetAttr,
    ) -> Result<Made, FsError> {
        Err(FsError::RoFs)
    }

    fn mknod(
        &self,
        _caller: &Caller,
        _dir: &Handle,
        _name: Name<'_>,
        _what: Special,
        _set: &SetAttr,
    ) -> Result<Made, FsError> {
        Err(FsError::RoFs)
    }

    fn remove(&self, _caller: &Caller, _dir: &Handle, _name: Name<'_>) -> Result<Wcc, FsError> {
        Err(FsError::RoFs)
    }

    fn rmdir(&self, _caller: &Caller, _dir: &Handle, _name: Name<'_>) -> Result<Wcc, FsError> {
        Err(FsError::RoFs)
    }

    fn rename(
        &self,
        _caller: &Caller,
        _from_dir: &Handle,
        _from: Name<'_>,
        _to_dir: &Handle,
        _to: Name<'_>,
    ) -> Result<Renamed, FsError> {
        Err(FsError::RoFs)
    }

    fn link(
        &self,
        _caller: &Caller,
        _file: &Handle,
        _dir: &Handle,
        _name: Name<'_>,
    ) -> Result<Linked, FsError> {
        Err(FsError::RoFs)
    }

    fn readdir(
        &self,
        caller: &Caller,
        dir: &Handle,
        cookie: u64,
        detail: EntryDetail,
        each: &mut dyn FnMut(&Entry<'_>) -> ControlFlow<()>,
    ) -> Result<DirEnd, FsError> {
        self.0.readdir(caller, dir, cookie, detail, each)
    }

    fn statfs(&self, file: &Handle) -> Result<FsStat, FsError> {
        self.0.statfs(file)
    }

    fn limits(&self, file: &Handle) -> Result<Limits, FsError> {
        self.0.limits(file)
    }

    fn commit(&self, _caller: &Caller, _file: &Handle) -> Result<Wcc, FsError> {
        Err(FsError::RoFs)
    }

    fn mounted(&self, dir: &Handle) -> Handle {
        self.0.mounted(dir)
    }

    fn write_verifier(&self) -> [u8; 8] {
        self.0.write_verifier()
    }

    fn quiesce(&self) {
        self.0.quiesce();
    }
}
