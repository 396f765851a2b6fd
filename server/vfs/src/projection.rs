//! One or several trees as a client sees them: the data sets of a boot environment, each below its
//! parent.
//!
//! A border is a name in a directory, behind which another tree begins. Joined, whoever looks the name
//! up is on the other side; split, he finds an empty directory there, to mount the other tree on.
//! Nothing has to be mounted for that on the server: a tree that holds the name may have a directory
//! there or another file system. Files keep the handles of their own trees, so that what is added
//! or taken away leaves the handles of the others alone.
//!
//! A projection is no tree itself. It finds the tree of a handle once, lets that do the work, and changes
//! what the answer shows.

mod fileid;
mod resolved;
mod standin;

use std::fmt;
use std::sync::Arc;

use crate::{Attr, Caller, Entry, FileKind, FsError, Handle, Name, Tree, Wait};

use fileid::Fileids;
use standin::StandIn;

pub use resolved::Resolved;

/// A tree and what is mounted below it, seen as one ([`Projection::joined`]) or apart
/// ([`Projection::split`]).
pub struct Projection {
    view: View,
    root: Part,
    others: Vec<Part>,
    borders: Vec<Border>,
    /// Names that have to stay, because borders are found by them after a restart: those of the
    /// borders, and of the directories on the way.
    ways: Vec<NameInDir>,
}

/// One of the trees that are mounted below another.
#[derive(Clone)]
pub struct Branch {
    /// Where it is below the root, without slashes at either end: `usr/home`.
    pub path: String,
    /// Its files.
    pub tree: Arc<dyn Tree>,
}

impl Projection {
    /// Shows one tree as it is.
    #[must_use]
    pub fn whole(root: Arc<dyn Tree>) -> Self {
        let (others, borders, ways) = Default::default();
        let root = Part { root: root.root(), shown: UNCHANGED, tree: root };
        Self { view: View::Split, root, others, borders, ways }
    }

    /// Shows one tree: one file system id everywhere, and a file id for each file that no other has.
    ///
    /// Files of `root` keep their file ids; those of a branch depend on the branch alone, not on what
    /// else there is. Branches that cannot be shown are left out, each with its reason.
    #[must_use]
    pub fn joined(root: Arc<dyn Tree>, branches: &[Branch]) -> (Self, Vec<BranchError>) {
        Self::new(View::Joined, root, branches)
    }

    /// Shows every tree by itself, with its own file system id, and empty directories where others
    /// begin. [`Projection::mounted`] tells what to mount there.
    #[must_use]
    pub fn split(root: Arc<dyn Tree>, branches: &[Branch]) -> (Self, Vec<BranchError>) {
        Self::new(View::Split, root, branches)
    }

    fn new(view: View, root: Arc<dyn Tree>, branches: &[Branch]) -> (Self, Vec<BranchError>) {
        let mut projection = Self { view, ..Self::whole(root) };
        projection.root.shown = projection.shown(projection.root.root, Fileids::Own);
        // Parents before what is below them, whatever order they were given in.
        let mut branches: Vec<&Branch> = branches.iter().collect();
        branches.sort_by(|one, other| one.path.split('/').cmp(other.path.split('/')));
        let mut refused: Vec<BranchError> = Vec::new();
        for branch in branches {
            let parent = refused.iter().find(|error| lies_below(&branch.path, &error.path));
            let added = match parent {
                Some(parent) => Err(BranchProblem::Parent(parent.path.clone())),
                None => projection.add(branch),
            };
            if let Err(problem) = added {
                refused.push(BranchError { path: branch.path.clone(), problem });
            }
        }
        (projection, refused)
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
        if self.border(&place.dir, &place.name).is_some() {
            return Err(BranchProblem::Path);
        }
        let (fileids, stand_in) = match self.view {
            View::Joined => (tagged, None),
            View::Split => {
                let above = self.part(&place.dir)?;
                (Fileids::Own, Some(StandIn::new(&place, above, &branch.tree)?))
            }
        };
        let shown = stand_in.as_ref().map_or(root, |stand_in| stand_in.handle);
        self.borders.push(Border { place, root, shown, stand_in });
        let shown = self.shown(root, fileids);
        self.others.push(Part { tree: Arc::clone(&branch.tree), root, shown });
        self.ways.extend(way);
        Ok(())
    }

    /// How the tree that begins with `root` is shown.
    const fn shown(&self, root: Handle, fileids: Fileids) -> Shown {
        let of = match self.view {
            View::Joined => self.root.root,
            View::Split => root,
        };
        Shown { fsid: Some(of.fsid()), fileids }
    }

    /// Every step of the way to a directory on which a branch is to be mounted.
    fn way(&self, path: &str) -> Result<Vec<NameInDir>, BranchProblem> {
        let mut way = Vec::new();
        let mut dir = self.root.root;
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            let name = Name::new(name.as_bytes()).map_err(|_| BranchProblem::Path)?;
            if name.is_dot() {
                return Err(BranchProblem::Path);
            }
            way.push(NameInDir { dir, name: name.as_bytes().to_vec() });
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

    /// The root of the whole.
    #[must_use]
    pub const fn root(&self) -> Handle {
        self.root.root
    }

    /// The tree that a file belongs to.
    ///
    /// # Errors
    ///
    /// [`FsError::Stale`] if it belongs to none of these.
    pub fn resolve(&self, file: &Handle) -> Result<Resolved<'_>, FsError> {
        let projection = self;
        if !StandIn::is_one(file) {
            let Part { tree, shown, .. } = self.part(file)?;
            let tree = tree.as_ref();
            return Ok(Resolved { projection, tree, shown, file: *file, stands_in: false });
        }
        let border = self.borders.iter().find(|border| border.shown == *file);
        let stand_in = border.and_then(|border| border.stand_in.as_ref()).ok_or(FsError::Stale)?;
        let (tree, shown) = (stand_in, &UNCHANGED);
        Ok(Resolved { projection, tree, shown, file: *file, stands_in: true })
    }

    /// What a client that mounts `dir` gets: where an empty directory is shown in place of another tree,
    /// the first directory of that one; else `dir` itself.
    #[must_use]
    pub fn mounted(&self, dir: &Handle) -> Handle {
        let border = self.borders.iter().find(|border| border.shown == *dir);
        border.map_or(*dir, |border| border.root)
    }

    /// The write verifier of all trees ([`Tree::write_verifier`]). It changes when that of any does,
    /// because a client compares those of all its files alike.
    #[must_use]
    pub fn write_verifier(&self) -> [u8; 8] {
        let verifiers = self.parts().map(|part| u64::from_be_bytes(part.tree.write_verifier()));
        verifiers.fold(0, u64::wrapping_add).to_be_bytes()
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.root).chain(&self.others)
    }

    fn part(&self, file: &Handle) -> Result<&Part, FsError> {
        self.parts().find(|part| part.root.fsid() == file.fsid()).ok_or(FsError::Stale)
    }
}

impl fmt::Debug for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { view, root, others: _, borders, ways: _ } = self;
        f.debug_struct("Projection")
            .field("view", view)
            .field("root", &root.root)
            .field("borders", &borders.iter().map(|border| &border.place).collect::<Vec<_>>())
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
    #[error("there is no directory to mount it on: create an empty one")]
    Missing,
    /// Something else than a directory is there.
    #[error("it is not a directory, so nothing can be mounted on it")]
    NotDirectory,
    /// It lies in a branch that is not shown.
    #[error("{0}, which contains it, is not shown")]
    Parent(String),
    /// The path is not one, or is another branch's.
    #[error("it is not a path of its own below the root, as usr/home would be")]
    Path,
    /// By chance its files would have the ids of another branch's (one in eight million).
    #[error(
        "its file ids equal those of another data set: create it anew, by sending or copying it"
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
    shown: Shown,
}

/// How the answers of a tree are shown.
#[derive(Clone, Copy, Debug)]
struct Shown {
    /// The file system id in place of its own.
    fsid: Option<u64>,
    fileids: Fileids,
}

impl Shown {
    fn attr(&self, attr: Attr) -> Result<Attr, FsError> {
        let fsid = self.fsid.unwrap_or(attr.fsid);
        Ok(Attr { fsid, fileid: self.fileids.shown(attr.fileid)?, ..attr })
    }

    fn entry<'e>(&self, entry: &Entry<'e>) -> Result<Entry<'e>, FsError> {
        let file = entry.file.map(|(handle, attr)| Ok((handle, self.attr(attr)?))).transpose()?;
        Ok(Entry { fileid: self.fileids.shown(entry.fileid)?, file, ..*entry })
    }
}

/// As they are.
const UNCHANGED: Shown = Shown { fsid: None, fileids: Fileids::Any };

/// Where one tree ends and another begins.
struct Border {
    /// The name by which it is crossed.
    place: NameInDir,
    /// The first directory behind it.
    root: Handle,
    /// What the name stands for: that, or the empty directory.
    shown: Handle,
    stand_in: Option<StandIn>,
}

/// A name in a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
struct NameInDir {
    dir: Handle,
    name: Vec<u8>,
}

/// Whether `path` leads through `above`.
fn lies_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}
