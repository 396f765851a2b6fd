//! What the trees of a store are made of.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fstat, mkdirat};

use crate::back_end::{Capabilities, Part};
use crate::error::at;
use crate::name::NameRules;
use crate::progress::{Unit, Work};
use crate::tree::{self, Borders, Fixed, open_dir};
use crate::workspace::Workspace;
use crate::{NativeChange, NativeValue, Space, StoreError, sys};

/// A kind of trees: how they are made, copied, frozen and sent.
///
/// A store of directories does everything else alike: trees are put together in a workspace, and appear
/// and vanish by being renamed, whatever they are made of.
pub(crate) trait Fabric: Debug + Send + Sync {
    /// What a store of such trees can do that others cannot.
    fn capabilities(&self) -> Capabilities;

    /// Refuses a place where there can be no such trees.
    fn check(&self, top: &OwnedFd, path: &Path) -> Result<(), StoreError>;

    /// Makes an empty tree in a workspace.
    fn make(&self, work: &Workspace, name: &str) -> Result<OwnedFd, StoreError>;

    /// Makes the directory of a data set in a tree.
    fn make_dataset(&self, tree: &OwnedFd, path: &str) -> io::Result<()>;

    /// Makes a copy of a tree in a workspace. `path` is the tree's, for messages.
    fn copy(
        &self,
        from: &OwnedFd,
        work: &Workspace,
        name: &str,
        path: &Path,
    ) -> Result<(), StoreError>;

    /// The same, of a tree's root alone: where another file system of the tree begins, the copy has a
    /// directory.
    fn copy_root(
        &self,
        from: &OwnedFd,
        work: &Workspace,
        name: &str,
        path: &Path,
    ) -> Result<(), StoreError>;

    /// Whether a copy of a tree can be made by [`Fabric::appear`].
    fn appears(&self, from: &OwnedFd) -> io::Result<bool>;

    /// Makes a copy of a snapshot's tree appear in a directory, whole from one instant to the next, and on the
    /// disk with all that was renamed on this file system before.
    fn appear(&self, from: &OwnedFd, dir: BorrowedFd<'_>, name: &str) -> io::Result<()>;

    /// Sees to it that nobody changes a tree any more.
    fn freeze(&self, tree: &OwnedFd) -> io::Result<()>;

    /// What tells a tree from all others of the store as long as it is there, wherever it is moved.
    fn number(&self, tree: &OwnedFd) -> io::Result<u64>;

    /// Refuses a tree that cannot be taken away whole, before anything is touched.
    fn inspect(&self, tree: &OwnedFd, path: &Path) -> Result<(), StoreError>;

    /// The file systems of a tree, as the server wants them.
    fn parts(&self, tree: OwnedFd) -> io::Result<Vec<Part>>;

    /// What is in a tree and is destroyed by itself with it, from the tree's root on.
    fn nested(&self, tree: &OwnedFd) -> io::Result<Vec<PathBuf>>;

    /// Whether the file system counts what each tree takes, so that [`Fabric::space`] looks at no files.
    fn counts(&self, top: &OwnedFd) -> bool;

    /// What one tree takes, in the store whose directory is `top`. `used` is told only where the sum of
    /// several trees is what they take together.
    fn space(&self, top: &OwnedFd, tree: &OwnedFd, path: &Path) -> Result<Space, StoreError>;

    /// The properties of the file system that can be set of a tree, as they are.
    fn natives(&self, tree: &OwnedFd, path: &Path) -> Result<Vec<NativeValue>, StoreError>;

    /// Refuses a change of a property that cannot be, before anything is touched.
    fn check_native(
        &self,
        tree: &OwnedFd,
        change: &NativeChange,
        path: &Path,
    ) -> Result<(), StoreError>;

    /// Changes a property of a whole tree, after [`Fabric::check_native`].
    fn set_native(
        &self,
        tree: &OwnedFd,
        change: &NativeChange,
        path: &Path,
    ) -> Result<(), StoreError>;

    /// Gives a tree that takes another's place, or is a copy of it, that one's properties.
    fn carry(&self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> Result<(), StoreError>;

    /// Writes a tree that is frozen, or what is new in it since `base`, which is another.
    fn send(
        &self,
        tree: Frozen<'_>,
        base: Option<Frozen<'_>>,
        out: &mut dyn Write,
    ) -> Result<(), StoreError>;

    /// Makes a tree in a workspace from what was sent. News go on from `base`.
    fn receive(
        &self,
        work: &Workspace,
        name: &str,
        base: Option<Frozen<'_>>,
        from: &mut dyn Read,
    ) -> Result<(), StoreError>;
}

/// The tree of a snapshot, and where it is on this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frozen<'a> {
    pub(crate) tree: &'a OwnedFd,
    pub(crate) path: &'a Path,
}

/// Trees of plain directories, on any file system.
#[derive(Debug)]
pub(crate) struct Plain;

impl Plain {
    /// Copies a tree, and returns the flags that would keep the copy from being changed.
    fn copy_loose(
        &self,
        from: &OwnedFd,
        work: &Workspace,
        name: &str,
        path: &Path,
    ) -> Result<Fixed, StoreError> {
        let (tree, links) = (work.make_dir(name)?, work.make_dir(LINKS)?);
        let what = || format!("copy {}", path.file_name().unwrap_or_default().display());
        let copying = Work::begin(what, Unit::Bytes, None);
        tree::count_later(from, path, &copying);
        let fixed = tree::copy(from, &tree, &links, Borders::Refuse, &copying, path)?;
        drop(copying);
        drop(links);
        work.remove_dir(LINKS)?;
        Ok(fixed)
    }
}

impl Fabric for Plain {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            clones_depend: false,
            instant_snapshots: false,
            nested: false,
            in_place: true,
            syncs: false,
            format: crate::stream::ARCHIVE,
            names: NameRules::Any,
        }
    }

    fn check(&self, _top: &OwnedFd, _path: &Path) -> Result<(), StoreError> {
        Ok(())
    }

    fn make(&self, work: &Workspace, name: &str) -> Result<OwnedFd, StoreError> {
        work.make_dir(name)
    }

    fn make_dataset(&self, tree: &OwnedFd, path: &str) -> io::Result<()> {
        Ok(mkdirat(tree, path, Mode::RWXU)?)
    }

    fn copy(
        &self,
        from: &OwnedFd,
        work: &Workspace,
        name: &str,
        path: &Path,
    ) -> Result<(), StoreError> {
        let fixed = self.copy_loose(from, work, name, path)?;
        let tree = open_dir(work.dir(), name).map_err(at("open", work.path()))?;
        tree::fix(&tree, fixed.iter(), path)
    }

    fn copy_root(
        &self,
        from: &OwnedFd,
        work: &Workspace,
        name: &str,
        path: &Path,
    ) -> Result<(), StoreError> {
        self.copy(from, work, name, path)
    }

    fn appears(&self, _from: &OwnedFd) -> io::Result<bool> {
        Ok(false)
    }

    fn appear(&self, _from: &OwnedFd, _dir: BorrowedFd<'_>, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Nothing but the store's own directory, which is closed to others, keeps it from being changed.
    fn freeze(&self, _tree: &OwnedFd) -> io::Result<()> {
        Ok(())
    }

    fn number(&self, tree: &OwnedFd) -> io::Result<u64> {
        Ok(fstat(tree)?.st_ino)
    }

    fn inspect(&self, tree: &OwnedFd, path: &Path) -> Result<(), StoreError> {
        tree::inspect(tree, path)
    }

    fn parts(&self, tree: OwnedFd) -> io::Result<Vec<Part>> {
        Ok(vec![Part { path: String::new(), root: tree }])
    }

    fn nested(&self, _tree: &OwnedFd) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn counts(&self, _top: &OwnedFd) -> bool {
        false
    }

    fn space(&self, top: &OwnedFd, tree: &OwnedFd, path: &Path) -> Result<Space, StoreError> {
        let referenced = Some(tree::measure(tree, path)?);
        // Where copies share blocks, their sum is more than the disk has given.
        let own = referenced.filter(|_| !sys::shares_blocks(top.as_fd()));
        Ok(Space { used: own, referenced, exclusive: own })
    }

    fn natives(&self, _tree: &OwnedFd, _path: &Path) -> Result<Vec<NativeValue>, StoreError> {
        Ok(Vec::new())
    }

    fn check_native(
        &self,
        _tree: &OwnedFd,
        change: &NativeChange,
        _path: &Path,
    ) -> Result<(), StoreError> {
        let why = match change.property.is_limit() {
            true => {
                "plain directories have no limits of their own: keep the store on ZFS or btrfs, or set a project quota of the file system (xfs_quota(8), setquota(8)) for the directory"
            }
            false => "plain directories have no such property: keep the store on ZFS or btrfs",
        };
        Err(StoreError::Property { property: change.property.as_str(), why: why.to_owned() })
    }

    fn set_native(
        &self,
        tree: &OwnedFd,
        change: &NativeChange,
        path: &Path,
    ) -> Result<(), StoreError> {
        self.check_native(tree, change, path)
    }

    fn carry(&self, _from: &OwnedFd, _to: &OwnedFd, _path: &Path) -> Result<(), StoreError> {
        Ok(())
    }

    fn send(
        &self,
        tree: Frozen<'_>,
        base: Option<Frozen<'_>>,
        out: &mut dyn Write,
    ) -> Result<(), StoreError> {
        tree::write(tree.tree, base.map(|base| base.tree.as_fd()), tree.path, out)
    }

    fn receive(
        &self,
        work: &Workspace,
        name: &str,
        base: Option<Frozen<'_>>,
        from: &mut dyn Read,
    ) -> Result<(), StoreError> {
        let fixed = match base {
            None => work.make_dir(name).map(|_| Fixed::new())?,
            Some(base) => self.copy_loose(base.tree, work, name, base.path)?,
        };
        let tree = open_dir(work.dir(), name).map_err(at("open", work.path()))?;
        let fixed = tree::apply(&tree, work.path(), fixed, from)?;
        tree::fix(&tree, fixed.iter(), work.path())
    }
}

/// In a workspace: one name of each file that has several.
const LINKS: &str = "links";
