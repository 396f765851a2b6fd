//! Operations on a file of a projection. The file's own tree carries them out, and the attributes
//! in the result are replaced by those that the projection shows. Operations on names do more,
//! because a name may lead over a border into another tree.

use std::ops::ControlFlow;

use super::{Border, Projection, Shown};
use crate::{
    Answer, Attr, Caller, DirEnd, Entry, EntryDetail, Found, FsError, Handle, Linked, Made, Name,
    Renamed, Tree, Wait, Wcc, permission,
};

/// A file of a projection, and the tree that it belongs to.
#[derive(Clone, Copy)]
pub struct Resolved<'a> {
    pub(super) projection: &'a Projection,
    pub(super) tree: &'a dyn Tree,
    pub(super) shown: &'a Shown,
    pub(super) file: Handle,
    /// Whether it is the empty directory at a border.
    pub(super) stands_in: bool,
}

impl Resolved<'_> {
    /// Carries out an operation that is on this file alone, or on names in it that lead over no border.
    pub fn run<T: Answer>(
        &self,
        operation: impl FnOnce(&dyn Tree, &Handle) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        operation(self.tree, &self.file)?.map_attr(&|attr| self.shown.attr(attr))
    }

    /// Looks one name up ([`Tree::lookup`]).
    pub fn lookup(&self, caller: &Caller, name: Name<'_>, wait: Wait) -> Result<Found, FsError> {
        let border = self.projection.border(&self.file, name.as_bytes());
        let above =
            || self.projection.border_above(&self.file).filter(|_| name.as_bytes() == b"..");
        let handle = match (border, above()) {
            (Some(border), _) => border.shown,
            (None, Some(border)) => border.place.dir,
            (None, None) => return self.run(|tree, dir| tree.lookup(caller, dir, name, wait)),
        };
        let dir = self.searched(caller, wait)?;
        Ok(Found { handle, attr: self.projection.getattr(&handle, wait)?, dir })
    }

    /// Makes something under a name, by the operation of the tree that does: there is something already
    /// where a border is.
    pub fn make(
        &self,
        caller: &Caller,
        name: Name<'_>,
        operation: impl FnOnce(&dyn Tree, &Handle) -> Result<Made, FsError>,
    ) -> Result<Made, FsError> {
        self.must_be_no_border(caller, name, FsError::Exist)?;
        self.run(operation)
    }

    /// Removes a file ([`Tree::remove`]).
    pub fn remove(&self, caller: &Caller, name: Name<'_>) -> Result<Wcc, FsError> {
        self.must_be_no_border(caller, name, FsError::IsDir)?;
        self.run(|tree, dir| tree.remove(caller, dir, name))
    }

    /// Removes a directory ([`Tree::rmdir`]).
    pub fn rmdir(&self, caller: &Caller, name: Name<'_>) -> Result<Wcc, FsError> {
        self.must_not_lead_to_a_border(name)?;
        self.run(|tree, dir| tree.rmdir(caller, dir, name))
    }

    /// Moves a name of this directory to `to_dir` ([`Tree::rename`]), but over no border.
    pub fn rename(
        &self,
        caller: &Caller,
        from: Name<'_>,
        to_dir: &Self,
        to: Name<'_>,
    ) -> Result<Renamed, FsError> {
        self.must_be_of_one_tree(to_dir)?;
        self.must_not_lead_to_a_border(from)?;
        to_dir.must_not_lead_to_a_border(to)?;
        self.run(|tree, dir| tree.rename(caller, dir, from, &to_dir.file, to))
    }

    /// Gives this file one more name in `dir` ([`Tree::link`]), but over no border.
    pub fn link(&self, caller: &Caller, dir: &Self, name: Name<'_>) -> Result<Linked, FsError> {
        dir.must_be_no_border(caller, name, FsError::Exist)?;
        self.must_be_of_one_tree(dir)?;
        self.run(|tree, file| tree.link(caller, file, &dir.file, name))
    }

    /// Lists the directory ([`Tree::readdir`]), with what is behind the borders in it.
    pub fn readdir(
        &self,
        caller: &Caller,
        cookie: u64,
        detail: EntryDetail,
        each: &mut dyn FnMut(&Entry<'_>) -> ControlFlow<()>,
    ) -> Result<DirEnd, FsError> {
        // Looked at beforehand, because `each` may run under a lock of the directory.
        let replaced = self.replaced(caller, detail);
        let mut problem = None;
        let end = self.run(|tree, dir| {
            tree.readdir(caller, dir, cookie, detail, &mut |entry| {
                let replaced = replaced.iter().find(|one| one.name == entry.name);
                match replaced.map_or_else(|| self.shown.entry(entry), |one| Ok(one.entry(entry))) {
                    Ok(entry) => each(&entry),
                    Err(error) => {
                        problem = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })
        })?;
        problem.map_or(Ok(end), Err)
    }

    /// What a listing shows in place of what the directory's own tree does: the borders in it, and the
    /// way back over the one behind which it begins. A tree that is gone is not shown.
    fn replaced(&self, caller: &Caller, detail: EntryDetail) -> Vec<Replaced<'_>> {
        let inside = self.projection.borders.iter().filter(|border| border.place.dir == self.file);
        let inside = inside.map(|border| (&border.place.name[..], border.shown));
        let above = self.projection.border_above(&self.file);
        let all = inside.chain(above.map(|border| (&b".."[..], border.place.dir)));
        let full = || detail == EntryDetail::Full && self.searched(caller, Wait::Yes).is_ok();
        let replaced = all.filter_map(|(name, handle)| {
            let attr = self.projection.getattr(&handle, Wait::Yes).ok()?;
            Some(Replaced { name, handle, attr, full: full() })
        });
        replaced.collect()
    }

    /// The attributes of this directory, if the caller may search it.
    fn searched(&self, caller: &Caller, wait: Wait) -> Result<Attr, FsError> {
        let attr = self.run(|tree, dir| tree.getattr(dir, wait))?;
        permission::may_search(caller, &attr).map(|()| attr)
    }

    /// Refuses what is to be done with a name that is a border's, and tells only who may search that
    /// there is one.
    fn must_be_no_border(
        &self,
        caller: &Caller,
        name: Name<'_>,
        otherwise: FsError,
    ) -> Result<(), FsError> {
        match self.projection.border(&self.file, name.as_bytes()) {
            None => Ok(()),
            Some(_) => self.searched(caller, Wait::Yes).and(Err(otherwise)),
        }
    }

    /// Refuses to take a name away that leads to a border.
    fn must_not_lead_to_a_border(&self, name: Name<'_>) -> Result<(), FsError> {
        let mut ways = self.projection.ways.iter();
        match ways.any(|way| way.dir == self.file && way.name == name.as_bytes()) {
            true => Err(FsError::Mounted),
            false => Ok(()),
        }
    }

    fn must_be_of_one_tree(&self, other: &Self) -> Result<(), FsError> {
        if self.stands_in || other.stands_in {
            Err(FsError::RoFs)
        } else if self.file.fsid() == other.file.fsid() {
            Ok(())
        } else {
            Err(FsError::XDev)
        }
    }
}

impl Projection {
    /// The border that a name in a directory is.
    pub(super) fn border(&self, dir: &Handle, name: &[u8]) -> Option<&Border> {
        self.borders.iter().find(|border| border.place.dir == *dir && border.place.name == name)
    }

    /// The border behind which a directory is the first, where `..` leads back over it.
    fn border_above(&self, dir: &Handle) -> Option<&Border> {
        self.borders.iter().find(|border| border.shown == *dir && border.stand_in.is_none())
    }

    fn getattr(&self, file: &Handle, wait: Wait) -> Result<Attr, FsError> {
        self.resolve(file)?.run(|tree, file| tree.getattr(file, wait))
    }
}

/// What a listing shows in place of what a tree says of a name.
struct Replaced<'a> {
    name: &'a [u8],
    handle: Handle,
    attr: Attr,
    /// Whether the caller is to see more than the name.
    full: bool,
}

impl Replaced<'_> {
    fn entry<'e>(&self, entry: &Entry<'e>) -> Entry<'e> {
        let file = self.full.then_some((self.handle, self.attr));
        Entry { fileid: self.attr.fileid, file, ..*entry }
    }
}
