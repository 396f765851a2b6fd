//! The files of a boot environment: one tree for each of its data sets, and what clients see of them.

use std::fmt;
use std::sync::Arc;

use vfs::{Branch, BranchError, Handle, Projection, Tree};

use crate::site::machine::View;

/// The trees of a boot environment, in both views.
#[derive(Clone)]
pub struct Files {
    root: Arc<dyn Tree>,
    branches: Vec<Branch>,
    joined: Arc<Projection>,
    split: Arc<Projection>,
}

impl Files {
    /// Files that are all in one tree: both views are that.
    #[must_use]
    pub fn whole(root: Arc<dyn Tree>) -> Self {
        let joined = Arc::new(Projection::whole(Arc::clone(&root)));
        let split = Arc::clone(&joined);
        Self { root, branches: Vec::new(), joined, split }
    }

    /// Files of which some are in trees of their own, below that of the root.
    ///
    /// Trees that cannot be shown are left out, each with its reason.
    #[must_use]
    pub fn nested(root: Arc<dyn Tree>, branches: Vec<Branch>) -> (Self, Vec<BranchError>) {
        if branches.is_empty() {
            return (Self::whole(root), Vec::new());
        }
        let (joined, refused) = Projection::joined(Arc::clone(&root), &branches);
        // What one view refuses the other does, for the same reason.
        let (split, _) = Projection::split(Arc::clone(&root), &branches);
        (Self { root, branches, joined: Arc::new(joined), split: Arc::new(split) }, refused)
    }

    /// What a client sees.
    #[must_use]
    pub fn seen(&self, view: View) -> &Projection {
        match view {
            View::Joined => &self.joined,
            View::Split => &self.split,
        }
    }

    /// The tree that begins with a directory, to be served on when everything else changes.
    #[must_use]
    pub fn tree(&self, root: &Handle) -> Option<Arc<dyn Tree>> {
        self.trees().find(|tree| tree.root() == *root).map(Arc::clone)
    }

    /// All trees, the root's first.
    pub fn trees(&self) -> impl Iterator<Item = &Arc<dyn Tree>> {
        std::iter::once(&self.root).chain(self.branches.iter().map(|branch| &branch.tree))
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root, branches, joined: _, split: _ } = self;
        f.debug_struct("Files")
            .field("root", &root.root())
            .field("branches", branches)
            .finish_non_exhaustive()
    }
}
