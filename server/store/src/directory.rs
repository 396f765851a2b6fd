//! A store of plain directories, on any file system.
//!
//! ```text
//! store/            0700: whoever may enter could run the setuid programs of guests
//!   lock            held while something appears or vanishes
//!   be/head/        a root, as its machine sees it
//!   be/.work-…/     what a command is putting together or taking apart
//!   meta/head.toml  what is written down about it, out of its guest's reach
//! ```
//!
//! An environment is there when it has both a tree and metadata. The tree is renamed into place
//! last when one is made, and out of place first when one is destroyed.

use std::ffi::CStr;
use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, fsync, mkdirat, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;
use uuid::Uuid;

use crate::environment::{parse, render};
use crate::error::at;
use crate::tree::{self, open_dir};
use crate::workspace::Workspace;
use crate::{
    Environment, EnvironmentName, ExportSettings, Layout, Listing, Origin, StoreError, Timestamp,
    sys,
};

/// An open store of plain directories.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    top: OwnedFd,
    trees: OwnedFd,
    meta: OwnedFd,
}

impl Directory {
    /// Opens a store that exists.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(top) => top,
            Err(Errno::NOENT) => return Err(StoreError::Missing(path.to_owned())),
            Err(Errno::NOTDIR) => return Err(StoreError::Foreign(path.to_owned())),
            Err(error) => return Err(at("open", path)(error)),
        };
        let part = |name: &str| match open_dir(&top, name) {
            Ok(dir) => Ok(dir),
            Err(Errno::NOENT) => Err(unfinished(&top, path)),
            Err(error) => Err(at("open", &path.join(name))(error)),
        };
        let (trees, meta) = (part(TREES)?, part(META)?);
        let mode = Mode::from_raw_mode(fstat(&top).map_err(at("look at", path))?.st_mode);
        if mode.intersects(Mode::RWXG | Mode::RWXO) {
            return Err(StoreError::Open(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), top, trees, meta })
    }

    /// Opens a store; where nothing is yet, or an empty directory, makes one.
    pub(crate) fn establish(path: &Path) -> Result<Self, StoreError> {
        match Self::open(path) {
            Err(StoreError::Missing(_)) => {}
            other => return other,
        }
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700).create(path).map_err(at("make", path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(path, flags, Mode::empty()).map_err(at("open", path))?;
        fchmod(&top, Mode::RWXU).map_err(at("close", path))?;
        for name in [TREES, META] {
            match mkdirat(&top, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(at("make", &path.join(name))(error)),
            }
        }
        fsync(&top).map_err(at("write", path))?;
        Self::open(path)
    }

    pub(crate) fn list(&self) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        let path = self.path.join(META);
        for entry in rustix::fs::Dir::read_from(&self.meta).map_err(at("list", &path))? {
            let entry = entry.map_err(at("list", &path))?;
            let Some(name) = environment_name(entry.file_name()) else { continue };
            match self.get(&name) {
                Ok(environment) => listing.environments.push(environment),
                // Half of one that is being made or destroyed, or was when its command was killed.
                Err(StoreError::NoEnvironment(_)) => {}
                Err(error) => listing.unreadable.push(error),
            }
        }
        listing.environments.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listing)
    }

    pub(crate) fn get(&self, name: &EnvironmentName) -> Result<Environment, StoreError> {
        let path = self.metadata_path(name);
        if !self.has_tree(name)? {
            return Err(StoreError::NoEnvironment(name.clone()));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&self.meta, metadata_name(name), flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(StoreError::NoEnvironment(name.clone())),
            Err(error) => return Err(at("open", &path)(error)),
        };
        let text = std::io::read_to_string(std::fs::File::from(file)).map_err(at("read", &path))?;
        parse(name.clone(), &text).map_err(|error| StoreError::Broken { path, error })
    }

    pub(crate) fn create(
        &self,
        name: &EnvironmentName,
        layout: Layout,
    ) -> Result<Environment, StoreError> {
        let work = self.begin(name)?;
        let tree = work.make_dir(TREE)?;
        let made = build(&tree, layout, work.path()).and_then(|()| {
            let environment = Environment {
                name: name.clone(),
                uuid: Uuid::new_v4(),
                created: Timestamp::from(SystemTime::now()),
                origin: None,
                layout,
                datasets: layout.datasets(),
                export: ExportSettings::default(),
            };
            self.publish(&work, &environment)?;
            Ok(environment)
        });
        self.end(work, made)
    }

    pub(crate) fn clone_environment(
        &self,
        source: &EnvironmentName,
        name: &EnvironmentName,
    ) -> Result<Environment, StoreError> {
        let origin = self.get(source)?;
        let from = self.open_root(source)?;
        // Keeps the source from being destroyed meanwhile; any number of clones may be made at once.
        match flock(&from, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(StoreError::NoEnvironment(source.clone())),
            Err(error) => return Err(at("lock", &self.root(source))(error)),
        }
        let work = self.begin(name)?;
        let (tree, links) = (work.make_dir(TREE)?, work.make_dir(LINKS)?);
        let made = tree::copy(&from, &tree, &links, &self.root(source)).and_then(|()| {
            let environment = Environment {
                name: name.clone(),
                uuid: Uuid::new_v4(),
                created: Timestamp::from(SystemTime::now()),
                origin: Some(Origin { name: origin.name, uuid: origin.uuid }),
                layout: origin.layout,
                datasets: origin.datasets,
                // Whoever shares one does not share every copy that is made of it.
                export: ExportSettings::default(),
            };
            self.publish(&work, &environment)?;
            Ok(environment)
        });
        self.end(work, made)
    }

    pub(crate) fn destroy(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        // Broken metadata must not keep anybody from getting rid of it.
        if !self.has_tree(name)? {
            return Err(StoreError::NoEnvironment(name.clone()));
        }
        let root = self.open_root(name)?;
        match flock(&root, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(StoreError::Busy(name.clone())),
            Err(error) => return Err(at("lock", &self.root(name))(error)),
        }
        tree::inspect(&root, &self.root(name))?;
        if let Some(obstacle) =
            tree::obstacle(&self.trees, name.as_str()).map_err(at("look at", &self.root(name)))?
        {
            return Err(StoreError::Obstacle { path: self.root(name), obstacle });
        }
        let lock = self.lock()?;
        self.clear(&lock)?;
        let work = Workspace::create(self.trees.as_fd(), &self.path.join(TREES))?;
        work.announce(name)?;
        renameat(&self.trees, name.as_str(), work.dir(), TREE)
            .map_err(at("destroy", &self.root(name)))?;
        self.forget(name)?;
        drop(lock);
        work.remove(self.trees.as_fd())
    }

    pub(crate) fn set_export(
        &self,
        name: &EnvironmentName,
        export: ExportSettings,
    ) -> Result<Environment, StoreError> {
        let lock = self.lock()?;
        let environment = Environment { export, ..self.get(name)? };
        self.write_metadata(&lock, &environment)?;
        Ok(environment)
    }

    pub(crate) fn root(&self, name: &EnvironmentName) -> PathBuf {
        self.path.join(TREES).join(name.as_str())
    }

    pub(crate) fn open_root(&self, name: &EnvironmentName) -> Result<OwnedFd, StoreError> {
        match open_dir(&self.trees, name.as_str()) {
            Ok(root) => Ok(root),
            Err(Errno::NOENT) => Err(StoreError::NoEnvironment(name.clone())),
            Err(error) => Err(at("open", &self.root(name))(error)),
        }
    }

    /// Begins to make an environment, in a workspace of its own.
    fn begin(&self, name: &EnvironmentName) -> Result<Workspace, StoreError> {
        let lock = self.lock()?;
        self.clear(&lock)?;
        self.free(name)?;
        Workspace::create(self.trees.as_fd(), &self.path.join(TREES))
    }

    /// Makes the tree in a workspace appear as an environment: from one instant to the next.
    fn publish(&self, work: &Workspace, environment: &Environment) -> Result<(), StoreError> {
        // Whoever finds it after a loss of power finds it whole.
        sys::synchronize(work.dir()).map_err(at("write", work.path()))?;
        let lock = self.lock()?;
        self.free(&environment.name)?;
        work.announce(&environment.name)?;
        self.write_metadata(&lock, environment)?;
        let root = self.root(&environment.name);
        renameat(work.dir(), TREE, &self.trees, environment.name.as_str())
            .map_err(at("make", &root))?;
        fsync(&self.trees).map_err(at("write", &root))
    }

    /// Removes the workspace; of two errors the first is told.
    fn end<T>(&self, work: Workspace, made: Result<T, StoreError>) -> Result<T, StoreError> {
        let removed = work.remove(self.trees.as_fd());
        let made = made?;
        removed?;
        Ok(made)
    }

    /// Refuses a name that is in use.
    fn free(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        match self.get(name) {
            Err(StoreError::NoEnvironment(_)) => {}
            Ok(_) | Err(StoreError::Broken { .. }) => {
                return Err(StoreError::Exists(name.clone()));
            }
            Err(error) => return Err(error),
        }
        match statat(&self.trees, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Ok(_) => Err(StoreError::Unknown(self.root(name))),
            Err(error) => Err(at("look at", &self.root(name))(error)),
        }
    }

    fn has_tree(&self, name: &EnvironmentName) -> Result<bool, StoreError> {
        match statat(&self.trees, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(at("look at", &self.root(name))(error)),
        }
    }

    /// Clears away what killed commands left.
    fn clear(&self, _: &Lock) -> Result<(), StoreError> {
        let path = self.path.join(TREES);
        let mut left = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.trees).map_err(at("list", &path))? {
            let entry = entry.map_err(at("list", &path))?;
            let name = entry.file_name().to_str().unwrap_or_default();
            if Workspace::is_name(name) {
                left.push(name.to_owned());
            }
        }
        for name in left {
            let Some(work) = Workspace::adopt(self.trees.as_fd(), &path, &name)? else { continue };
            if let Some(name) = work.announced()
                && !self.has_tree(&name)?
            {
                self.forget(&name)?;
            }
            work.remove(self.trees.as_fd())?;
        }
        Ok(())
    }

    /// Replaces a metadata file from one instant to the next.
    fn write_metadata(&self, _: &Lock, environment: &Environment) -> Result<(), StoreError> {
        let path = self.metadata_path(&environment.name);
        let text = render(environment)
            .map_err(|error| StoreError::Broken { path: path.clone(), error })?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file =
            openat(&self.meta, NEW, flags, Mode::RUSR | Mode::WUSR).map_err(at("write", &path))?;
        let mut file = std::fs::File::from(file);
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(at("write", &path))?;
        file.sync_all().map_err(at("write", &path))?;
        renameat(&self.meta, NEW, &self.meta, metadata_name(&environment.name))
            .map_err(at("write", &path))?;
        fsync(&self.meta).map_err(at("write", &path))
    }

    fn forget(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        let path = self.metadata_path(name);
        match unlinkat(&self.meta, metadata_name(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(at("remove", &path)(error)),
        }
        fsync(&self.meta).map_err(at("write", &path))
    }

    /// Waits until no other command lets environments appear or vanish.
    fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.path.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            openat(&self.top, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(at("lock", &path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(at("lock", &path))?;
        Ok(Lock { _file: file })
    }

    fn metadata_path(&self, name: &EnvironmentName) -> PathBuf {
        self.path.join(META).join(metadata_name(name))
    }
}

/// Held while environments appear and vanish; released when dropped or when the process dies.
#[derive(Debug)]
struct Lock {
    _file: OwnedFd,
}

/// Makes the directories of a layout in an empty tree.
fn build(tree: &OwnedFd, layout: Layout, path: &Path) -> Result<(), StoreError> {
    fchmod(tree, Mode::from_raw_mode(0o755)).map_err(at("make", path))?;
    for place in layout.places() {
        let path = path.join(place.path);
        mkdirat(tree, place.path, Mode::RWXU).map_err(at("make", &path))?;
        let dir = open_dir(tree, place.path).map_err(at("open", &path))?;
        fchmod(&dir, mode(place.mode)).map_err(at("make", &path))?;
    }
    Ok(())
}

fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(rustix::fs::RawMode::try_from(bits).unwrap_or_default())
}

/// Why a directory without the parts of a store is none: it is empty, or it is something else.
fn unfinished(top: &OwnedFd, path: &Path) -> StoreError {
    let ours =
        |name: &CStr| [TREES, META, LOCK].iter().any(|part| name.to_bytes() == part.as_bytes());
    let foreign = rustix::fs::Dir::read_from(top).is_ok_and(|dir| {
        dir.flatten().any(|entry| {
            let name = entry.file_name();
            name != c"." && name != c".." && name != c"lost+found" && !ours(name)
        })
    });
    if foreign {
        StoreError::Foreign(path.to_owned())
    } else {
        StoreError::Missing(path.to_owned())
    }
}

fn environment_name(file: &CStr) -> Option<EnvironmentName> {
    file.to_str().ok()?.strip_suffix(SUFFIX)?.parse().ok()
}

fn metadata_name(name: &EnvironmentName) -> String {
    format!("{name}{SUFFIX}")
}

const TREES: &str = "be";
const META: &str = "meta";
const LOCK: &str = "lock";
const SUFFIX: &str = ".toml";
/// A metadata file that is being written: not the name of an environment.
const NEW: &str = ".new";
/// In a workspace: the tree.
const TREE: &str = "tree";
/// In a workspace: one name of each file that has several.
const LINKS: &str = "links";
