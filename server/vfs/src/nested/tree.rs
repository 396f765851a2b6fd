//! Each operation finds the tree that the file belongs to and shows what that tree answers.

use std::ops::ControlFlow;

use super::standin::StandIn;
use super::{Nested, Part};
use crate::{
    Access, Attr, Caller, Create, DirEnd, Entry, EntryDetail, Found, FsError, FsStat, Handle,
    Limits, Linked, Made, Name, Read, Renamed, SetAttr, Special, Stability, Time, Tree, Wait, Wcc,
    Written, permission,
};

impl Nested {
    /// The tree of a file that somebody wants to change.
    fn changed(&self, file: &Handle) -> Result<&Part, FsError> {
        match self.stand_in(file)? {
            Some(_) => Err(FsError::RoFs),
            None => self.part(file),
        }
    }

    /// The tree of a file whose data somebody wants.
    fn data(&self, file: &Handle, wait: Wait) -> Result<&Part, FsError> {
        if let Some(stand_in) = self.stand_in(file)? {
            permission::has_data(&stand_in.attr(self, wait)?)?;
        }
        self.part(file)
    }

    /// The tree of a directory in which something is to be made, unless the name is a border's, where
    /// something is already.
    fn maker(&self, caller: &Caller, dir: &Handle, name: Name<'_>) -> Result<&Part, FsError> {
        let part = self.changed(dir)?;
        if self.border(dir, name.as_bytes()).is_some() {
            searched(part, caller, dir, Wait::Yes)?;
            return Err(FsError::Exist);
        }
        Ok(part)
    }

    fn shown_made(&self, part: &Part, made: Made) -> Result<Made, FsError> {
        let (attr, dir) = (self.shown(part, made.attr)?, self.shown_wcc(part, made.dir)?);
        Ok(Made { attr, dir, ..made })
    }

    /// What a listing of a directory shows in place of what its own tree does: the borders in it, and
    /// the way back over the one behind which it begins.
    fn replaced(&self, part: &Part, caller: &Caller, dir: &Handle) -> Vec<Replaced<'_>> {
        let full = || {
            let attr = part.tree.getattr(dir, Wait::Yes);
            attr.is_ok_and(|attr| permission::may_search(caller, &attr).is_ok())
        };
        let inside = self.borders.iter().filter(|border| border.place.dir == *dir);
        let inside =
            inside.map(|border| (&border.place.name[..], self.beyond(border, Wait::Yes).ok()));
        let above = self.border_above(dir).map(|border| {
            let dir = border.place.dir;
            (&b".."[..], self.attributes(&dir, Wait::Yes).ok().map(|attr| (dir, attr)))
        });
        let replaced = inside.chain(above);
        replaced.map(|(name, file)| Replaced { name, file, full: full() }).collect()
    }
}

impl Tree for Nested {
    fn root(&self) -> Handle {
        self.root.root
    }

    fn getattr(&self, file: &Handle, wait: Wait) -> Result<Attr, FsError> {
        match self.stand_in(file)? {
            Some(stand_in) => stand_in.attr(self, wait),
            None => self.attributes(file, wait),
        }
    }

    fn setattr(
        &self,
        caller: &Caller,
        file: &Handle,
        set: &SetAttr,
        guard: Option<Time>,
    ) -> Result<Wcc, FsError> {
        let part = self.changed(file)?;
        self.shown_wcc(part, part.tree.setattr(caller, file, set, guard)?)
    }

    fn lookup(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        wait: Wait,
    ) -> Result<Found, FsError> {
        if let Some(stand_in) = self.stand_in(dir)? {
            return stand_in.lookup(self, caller, name, wait);
        }
        let part = self.part(dir)?;
        let above = || self.border_above(dir).filter(|_| name.as_bytes() == b"..");
        let (handle, attr, dir) = if let Some(border) = self.border(dir, name.as_bytes()) {
            let dir = searched(part, caller, dir, wait)?;
            let (handle, attr) = self.beyond(border, wait)?;
            (handle, attr, dir)
        } else if let Some(border) = above() {
            let dir = searched(part, caller, dir, wait)?;
            (border.place.dir, self.attributes(&border.place.dir, wait)?, dir)
        } else {
            let found = part.tree.lookup(caller, dir, name, wait)?;
            (found.handle, self.shown(part, found.attr)?, found.dir)
        };
        Ok(Found { handle, attr, dir: self.shown(part, dir)? })
    }

    fn access(
        &self,
        caller: &Caller,
        file: &Handle,
        asked: Access,
        wait: Wait,
    ) -> Result<(Access, Attr), FsError> {
        if let Some(stand_in) = self.stand_in(file)? {
            return stand_in.access(self, caller, asked, wait);
        }
        let part = self.part(file)?;
        let (granted, attr) = part.tree.access(caller, file, asked, wait)?;
        Ok((granted, self.shown(part, attr)?))
    }

    fn readlink(
        &self,
        caller: &Caller,
        file: &Handle,
        wait: Wait,
    ) -> Result<(Vec<u8>, Attr), FsError> {
        if self.stand_in(file)?.is_some() {
            return Err(FsError::Inval);
        }
        let part = self.part(file)?;
        let (target, attr) = part.tree.readlink(caller, file, wait)?;
        Ok((target, self.shown(part, attr)?))
    }

    fn read(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        into: &mut [u8],
        wait: Wait,
    ) -> Result<Read, FsError> {
        let part = self.data(file, wait)?;
        let read = part.tree.read(caller, file, offset, into, wait)?;
        Ok(Read { attr: self.shown(part, read.attr)?, ..read })
    }

    fn write(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        data: &[u8],
        stability: Stability,
    ) -> Result<Written, FsError> {
        let part = self.data(file, Wait::Yes)?;
        let written = part.tree.write(caller, file, offset, data, stability)?;
        Ok(Written { wcc: self.shown_wcc(part, written.wcc)?, ..written })
    }

    fn create(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        how: &Create,
    ) -> Result<Made, FsError> {
        let part = self.maker(caller, dir, name)?;
        self.shown_made(part, part.tree.create(caller, dir, name, how)?)
    }

    fn mkdir(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        set: &SetAttr,
    ) -> Result<Made, FsError> {
        let part = self.maker(caller, dir, name)?;
        self.shown_made(part, part.tree.mkdir(caller, dir, name, set)?)
    }

    fn symlink(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        target: &[u8],
        set: &SetAttr,
    ) -> Result<Made, FsError> {
        let part = self.maker(caller, dir, name)?;
        self.shown_made(part, part.tree.symlink(caller, dir, name, target, set)?)
    }

    fn mknod(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        what: Special,
        set: &SetAttr,
    ) -> Result<Made, FsError> {
        let part = self.maker(caller, dir, name)?;
        self.shown_made(part, part.tree.mknod(caller, dir, name, what, set)?)
    }

    fn remove(&self, caller: &Caller, dir: &Handle, name: Name<'_>) -> Result<Wcc, FsError> {
        let part = self.changed(dir)?;
        if self.border(dir, name.as_bytes()).is_some() {
            searched(part, caller, dir, Wait::Yes)?;
            return Err(FsError::IsDir);
        }
        self.shown_wcc(part, part.tree.remove(caller, dir, name)?)
    }

    fn rmdir(&self, caller: &Caller, dir: &Handle, name: Name<'_>) -> Result<Wcc, FsError> {
        let part = self.changed(dir)?;
        self.must_not_lead_to_a_border(dir, name)?;
        self.shown_wcc(part, part.tree.rmdir(caller, dir, name)?)
    }

    fn rename(
        &self,
        caller: &Caller,
        from_dir: &Handle,
        from: Name<'_>,
        to_dir: &Handle,
        to: Name<'_>,
    ) -> Result<Renamed, FsError> {
        let part = self.changed(from_dir)?;
        let target = self.changed(to_dir)?;
        if part.root.fsid() != target.root.fsid() {
            return Err(FsError::XDev);
        }
        self.must_not_lead_to_a_border(from_dir, from)?;
        self.must_not_lead_to_a_border(to_dir, to)?;
        let renamed = part.tree.rename(caller, from_dir, from, to_dir, to)?;
        let (from, to) = (self.shown_wcc(part, renamed.from)?, self.shown_wcc(part, renamed.to)?);
        Ok(Renamed { from, to })
    }

    fn link(
        &self,
        caller: &Caller,
        file: &Handle,
        dir: &Handle,
        name: Name<'_>,
    ) -> Result<Linked, FsError> {
        let part = self.changed(file)?;
        let target = self.maker(caller, dir, name)?;
        if part.root.fsid() != target.root.fsid() {
            return Err(FsError::XDev);
        }
        let linked = part.tree.link(caller, file, dir, name)?;
        let (attr, dir) = (self.shown(part, linked.attr)?, self.shown_wcc(part, linked.dir)?);
        Ok(Linked { attr, dir })
    }

    fn readdir(
        &self,
        caller: &Caller,
        dir: &Handle,
        cookie: u64,
        detail: EntryDetail,
        each: &mut dyn FnMut(&Entry<'_>) -> ControlFlow<()>,
    ) -> Result<DirEnd, FsError> {
        if let Some(stand_in) = self.stand_in(dir)? {
            return stand_in.list(self, caller, cookie, detail, each);
        }
        let part = self.part(dir)?;
        // Looked at beforehand, because `each` may run under a lock of the directory.
        let replaced = self.replaced(part, caller, dir);
        let mut problem = None;
        let end = part.tree.readdir(caller, dir, cookie, detail, &mut |entry| {
            let replaced = replaced.iter().find(|one| one.name == entry.name);
            let shown = match replaced.and_then(|one| one.entry(entry, detail)) {
                Some(entry) => Ok(entry),
                None => self.shown_entry(part, entry),
            };
            match shown {
                Ok(entry) => each(&entry),
                Err(error) => {
                    problem = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        problem.map_or(Ok(()), Err)?;
        Ok(DirEnd { attr: self.shown(part, end.attr)?, ..end })
    }

    fn statfs(&self, file: &Handle) -> Result<FsStat, FsError> {
        match self.stand_in(file)? {
            Some(stand_in) => self.statfs(&stand_in.parent()),
            None => self.part(file)?.tree.statfs(file),
        }
    }

    fn limits(&self, file: &Handle) -> Result<Limits, FsError> {
        match self.stand_in(file)? {
            Some(stand_in) => self.limits(&stand_in.parent()),
            None => self.part(file)?.tree.limits(file),
        }
    }

    fn commit(&self, caller: &Caller, file: &Handle) -> Result<Wcc, FsError> {
        let part = self.data(file, Wait::Yes)?;
        self.shown_wcc(part, part.tree.commit(caller, file)?)
    }

    fn mounted(&self, dir: &Handle) -> Handle {
        let stand_in = self.stand_in(dir).ok().flatten();
        stand_in.as_ref().map_or(*dir, StandIn::mounted)
    }

    /// Changes when that of any tree does, because a client compares those of all its files alike.
    fn write_verifier(&self) -> [u8; 8] {
        let verifiers = self.parts().map(|part| u64::from_be_bytes(part.tree.write_verifier()));
        verifiers.fold(0, u64::wrapping_add).to_be_bytes()
    }

    fn quiesce(&self) {
        self.parts().for_each(|part| part.tree.quiesce());
    }
}

impl Nested {
    fn shown_entry<'e>(&self, part: &Part, entry: &Entry<'e>) -> Result<Entry<'e>, FsError> {
        let shown = |(handle, attr)| Ok((handle, self.shown(part, attr)?));
        let file = entry.file.map(shown).transpose()?;
        Ok(Entry { fileid: part.fileids.shown(entry.fileid)?, file, ..*entry })
    }
}

/// What a listing shows in place of what a tree says of a name.
struct Replaced<'a> {
    name: &'a [u8],
    /// What is on the other side, unless that tree is gone.
    file: Option<(Handle, Attr)>,
    /// Whether the caller may see it.
    full: bool,
}

impl Replaced<'_> {
    fn entry<'e>(&self, entry: &Entry<'e>, detail: EntryDetail) -> Option<Entry<'e>> {
        let (_, attr) = self.file?;
        let file = self.file.filter(|_| self.full && detail == EntryDetail::Full);
        Some(Entry { fileid: attr.fileid, file, ..*entry })
    }
}

/// The attributes of a directory that the caller may search, as its own tree tells them.
fn searched(part: &Part, caller: &Caller, dir: &Handle, wait: Wait) -> Result<Attr, FsError> {
    let attr = part.tree.getattr(dir, wait)?;
    permission::may_search(caller, &attr).map(|()| attr)
}
