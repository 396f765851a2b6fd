//! Several trees as one system's: the data sets of a boot environment, each below its parent.
//!
//! A border is a name in a directory, behind which another tree begins. Joined, whoever looks the name
//! up is on the other side; split, he finds an empty directory there, to mount the other tree on.
//! Nothing has to be mounted for that on the server: a tree that holds the name may have a directory
//! there or another file system. Files keep the handles of their own trees, so that what is added
//! or taken away leaves the handles of the others alone.

mod fileid;
mod standin;
mod tree;

use std::fmt;
use std::iter;
use std::sync::Arc;

use crate::{Attr, Caller, FileKind, FsError, Handle, Name, Tree, Wait, Wcc};

use fileid::Fileids;
use standin::StandIn;

/// A tree and what is mounted below it, seen as one ([`Nested::joined`]) or apart
/// ([`Nested::split`]).
pub struct Nested {
    view: View,
    root: Part,
    others: Vec<Part>,
    borders: Vec<Border>,
    /// Names that have to stay, because borders are found by them after a restart: those of the
    /// borders, and of the directories on the way.
    ways: Vec<Place>,
}

/// One of the trees that are mounted below another.
#[derive(Clone)]
pub struct Branch {
    /// Where it is below the root, without slashes at either end: `usr/home`.
    pub path: String,
    /// Its files.
    pub tree: Arc<dyn Tree>,
}

impl Nested {
    /// Shows one tree: one file system id everywhere, and a file id for each file that no other has.
    ///
    /// Files of `root` keep their file ids; those of a branch depend on the branch alone, not on what
    /// else there is. Branches that cannot be shown are left out, each with its reason.
    #[must_use]
    pub fn joined(root: Arc<dyn Tree>, branches: &[Branch]) -> (Self, Vec<BranchError>) {
        Self::new(View::Joined, root, branches)
    }

    /// Shows every tree by itself, with its own file system id, and empty directories where others
    /// begin. [`Tree::mounted`] tells what to mount there.
    #[must_use]
    pub fn split(root: Arc<dyn Tree>, branches: &[Branch]) -> (Self, Vec<BranchError>) {
        Self::new(View::Split, root, branches)
    }

    fn new(view: View, root: Arc<dyn Tree>, branches: &[Branch]) -> (Self, Vec<BranchError>) {
        let root = Part { root: root.root(), fileids: Fileids::Own, tree: root };
        let (others, borders, ways) = Default::default();
        let mut nested = Self { view, root, others, borders, ways };
        // Parents before what is below them, whatever order they were given in.
        let mut branches: Vec<&Branch> = branches.iter().collect();
        branches.sort_by(|one, other| one.path.split('/').cmp(other.path.split('/')));
        let mut refused: Vec<BranchError> = Vec::new();
        for branch in branches {
            let parent = refused.iter().find(|error| lies_below(&branch.path, &error.path));
            let added = match parent {
                Some(parent) => Err(BranchProblem::Parent(parent.path.clone())),
                None => nested.add(branch),
            };
            if let Err(problem) = added {
                refused.push(BranchError { path: branch.path.clone(), problem });
            }
        }
        (nested, refused)
    }

    fn add(&mut self, branch: &Branch) -> Result<(), BranchProblem> {
        let root = branch.tree.root();
        if self.parts().any(|part| part.root.fsid() == root.fsid()) {
            return Err(BranchProblem::SameFileSystem);
        }
        let tagged = Fileids::of(root.fsid());
        if self.others.iter().any(|part| Fileids::of(part.root.fsid()) == tagged) {
            return Err(BranchProblem::SameFileIds);
        }
        let way = self.way(&branch.path)?;
        let place = way.last().cloned().ok_or(BranchProblem::Path)?;
        if self.borders.iter().any(|border| border.place == place) {
            return Err(BranchProblem::Path);
        }
        let fileids = match self.view {
            View::Joined => tagged,
            View::Split => Fileids::Own,
        };
        let tree = Arc::clone(&branch.tree);
        self.borders.push(Border { place, root });
        self.others.push(Part { tree, root, fileids });
        self.ways.extend(way);
        Ok(())
    }

    /// Every step of the way to a directory on which a branch is to be mounted.
    fn way(&self, path: &str) -> Result<Vec<Place>, BranchProblem> {
        let mut way = Vec::new();
        let mut dir = self.root.root;
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            let name = Name::new(name.as_bytes()).map_err(|_| BranchProblem::Path)?;
            if name.is_dot() {
                return Err(BranchProblem::Path);
            }
            way.push(Place { dir, name: name.as_bytes().to_vec() });
            if let Some(border) = self.border(&dir, name.as_bytes()) {
                dir = border.root;
                continue;
            }
            let part = self.part(&dir)?;
            match part.tree.lookup(&Caller::ROOT, &dir, name, Wait::Yes) {
                Ok(found) if found.attr.kind == FileKind::Directory => dir = found.handle,
                Ok(_) => return Err(BranchProblem::NotDirectory),
                // Something is mounted on the directory already: the branch itself, as a rule.
                Err(FsError::XDev) if names.peek().is_none() => {}
                Err(FsError::NoEnt) => return Err(BranchProblem::Missing),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(way)
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        iter::once(&self.root).chain(&self.others)
    }

    /// The tree that a file belongs to.
    fn part(&self, file: &Handle) -> Result<&Part, FsError> {
        self.parts().find(|part| part.root.fsid() == file.fsid()).ok_or(FsError::Stale)
    }

    /// The border that a name in a directory is.
    fn border(&self, dir: &Handle, name: &[u8]) -> Option<&Border> {
        self.borders.iter().find(|border| border.place.dir == *dir && border.place.name == name)
    }

    /// The border behind which a directory is the first, where `..` leads back over it.
    fn border_above(&self, dir: &Handle) -> Option<&Border> {
        match self.view {
            View::Joined => self.borders.iter().find(|border| border.root == *dir),
            View::Split => None,
        }
    }

    /// What a border's name stands for.
    fn beyond(&self, border: &Border, wait: Wait) -> Result<(Handle, Attr), FsError> {
        match self.view {
            View::Joined => Ok((border.root, self.attributes(&border.root, wait)?)),
            View::Split => {
                let stand_in = StandIn::of(border)?;
                Ok((stand_in.handle, stand_in.attr(self, wait)?))
            }
        }
    }

    /// The empty directory that stands at a border, if that is what a handle means.
    fn stand_in(&self, file: &Handle) -> Result<Option<StandIn<'_>>, FsError> {
        if !StandIn::is_one(file) {
            return Ok(None);
        }
        let all = self.borders.iter().filter(|_| self.view == View::Split);
        let mut all = all.filter_map(|border| StandIn::of(border).ok());
        all.find(|one| one.handle == *file).map(Some).ok_or(FsError::Stale)
    }

    fn attributes(&self, file: &Handle, wait: Wait) -> Result<Attr, FsError> {
        let part = self.part(file)?;
        self.shown(part, part.tree.getattr(file, wait)?)
    }

    /// Attributes as a tree gave them, as this view shows them.
    fn shown(&self, part: &Part, attr: Attr) -> Result<Attr, FsError> {
        let fsid = match self.view {
            View::Joined => self.root.root.fsid(),
            View::Split => attr.fsid,
        };
        Ok(Attr { fsid, fileid: part.fileids.shown(attr.fileid)?, ..attr })
    }

    fn shown_wcc(&self, part: &Part, wcc: Wcc) -> Result<Wcc, FsError> {
        Ok(Wcc { before: self.shown(part, wcc.before)?, after: self.shown(part, wcc.after)? })
    }

    /// Refuses to take a name away that leads to a border.
    fn must_not_lead_to_a_border(&self, dir: &Handle, name: Name<'_>) -> Result<(), FsError> {
        let pinned = |way: &Place| way.dir == *dir && way.name == name.as_bytes();
        if self.ways.iter().any(pinned) { Err(FsError::Mounted) } else { Ok(()) }
    }
}

impl fmt::Debug for Nested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { view, root, others: _, borders, ways: _ } = self;
        f.debug_struct("Nested")
            .field("view", view)
            .field("root", &root.root)
            .field("borders", borders)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Why a branch is not shown.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct BranchError {
    /// Where it was to be.
    pub path: String,
    /// What is in the way.
    pub problem: BranchProblem,
}

/// What keeps a branch from being shown.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BranchProblem {
    /// The tree above cannot be searched.
    #[error("cannot be looked up: {0}")]
    Lookup(#[from] FsError),
    /// Nothing is there to mount it on.
    #[error("there is no directory to mount it on: make an empty one")]
    Missing,
    /// Something else than a directory is there.
    #[error("it is no directory, so nothing can be mounted on it")]
    NotDirectory,
    /// It lies in a branch that is not shown.
    #[error("{0}, in which it lies, is not shown")]
    Parent(String),
    /// The path is not one, or is another branch's.
    #[error("it is not a path of its own below the root, as usr/home would be")]
    Path,
    /// By chance its files would have the ids of another branch's (one in eight million).
    #[error(
        "its file ids would be those of another data set: make it anew, by sending it or by copying"
    )]
    SameFileIds,
    /// Its handles could not be told from those of another tree.
    #[error("it has the file system id of another data set: give it a UUID of its own")]
    SameFileSystem,
}

/// What a border looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum View {
    /// As if it were not there.
    Joined,
    /// As an empty directory.
    Split,
}

/// One of the trees.
struct Part {
    tree: Arc<dyn Tree>,
    root: Handle,
    fileids: Fileids,
}

/// Where one tree ends and another begins.
#[derive(Debug)]
struct Border {
    /// The name by which it is crossed.
    place: Place,
    /// The first directory behind it.
    root: Handle,
}

/// A name in a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    dir: Handle,
    name: Vec<u8>,
}

/// Whether `path` leads through `above`.
fn lies_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}
