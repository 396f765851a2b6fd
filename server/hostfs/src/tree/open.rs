//! Beginning to serve a directory.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use vfs::mode::GroupRule;
use vfs::{HandleError, SyncMode};

use super::stable::SyncCell;
use super::{HostTree, handle};
use crate::descriptors::Descriptors;
use crate::stripes::Stripes;
use crate::sys::{self, Mount};

/// How a tree is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which group a new file gets.
    pub groups: GroupRule,
    /// What is on stable storage when a change is answered; [`vfs::Tree::set_sync`] changes it.
    pub sync: SyncMode,
    /// Where open descriptors are kept; all trees of a server should share one cache.
    pub descriptors: Arc<Descriptors>,
    /// The file system id of its handles and attributes, in the place of the kernel's: for a directory
    /// that is to count as a file system of its own. It has to be the same for ever, and no other's.
    pub fsid: Option<u64>,
}

impl Default for Options {
    /// The caller's group, [`SyncMode::Standard`], and a descriptor cache for this tree alone.
    fn default() -> Self {
        Self {
            groups: GroupRule::default(),
            sync: SyncMode::default(),
            descriptors: Arc::new(Descriptors::within_limits()),
            fsid: None,
        }
    }
}

impl HostTree {
    /// Serves the directory at `path`.
    pub fn open(path: &Path, options: Options) -> Result<Self, HostTreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = fs::open(path, flags, Mode::empty());
        let dir = opened
            .map_err(|errno| HostTreeError::Open { path: path.to_owned(), source: errno.into() })?;
        Self::from_fd(dir, options)
    }

    /// Serves a directory that is open for reading.
    pub fn from_fd(dir: OwnedFd, options: Options) -> Result<Self, HostTreeError> {
        let failed = |errno: Errno| HostTreeError::Io(errno.into());
        let stat = fs::fstat(&dir).map_err(failed)?;
        let link_max = sys::link_max(dir.as_fd());
        let mount = Mount::new(dir).map_err(failed)?;
        let look = mount.look(mount.dir(), b".").map_err(failed)?;
        let kernel = look.handle().map_err(|errno| match errno {
            Errno::OPNOTSUPP | Errno::OVERFLOW => HostTreeError::NoHandles,
            other => failed(other),
        })?;
        let fsid = match options.fsid {
            Some(fsid) => fsid,
            None => mount.stable_id().map_err(failed)?.ok_or(HostTreeError::NoStableId)?,
        };
        let root = handle(fsid, &kernel).map_err(HostTreeError::TooLong)?;
        mount.node(root.kind(), root.kernel()).map_err(|errno| match errno {
            Errno::PERM => HostTreeError::Privilege,
            Errno::OPNOTSUPP | Errno::STALE => HostTreeError::NoHandles,
            other => failed(other),
        })?;
        let has_lists = sys::has_lists(mount.dir());
        let resident = mount.resident().map_err(failed)?;
        let reach = mount.reach().map_err(failed)?;
        let start = getrandom::u64().map_err(|_| HostTreeError::NoChance)?;
        Ok(Self {
            mount,
            root,
            root_fileid: stat.st_ino,
            fsid,
            device: stat.st_dev,
            link_max,
            has_lists,
            sync: SyncCell::new(options.sync),
            options,
            stripes: Stripes::new(),
            verifier: AtomicU64::new(start),
            resident,
            reach,
            tells_residence: AtomicBool::new(resident.attributes),
        })
    }
}

/// Why a directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HostTreeError {
    /// The host failed.
    #[error("the directory cannot be examined: {0}")]
    Io(std::io::Error),
    /// The kernel gave no random bytes for the write verifier.
    #[error("the kernel gives no random numbers")]
    NoChance,
    /// No kernel handles, as on FUSE, overlay, 9p and most network file systems.
    #[error(
        "this file system has no permanent file handles; put the store on ext4, XFS, btrfs, ZFS or UFS"
    )]
    NoHandles,
    /// Nothing about the file system stays the same when it is mounted again.
    #[error("this file system has no UUID that file handles could be tied to; give it one")]
    NoStableId,
    /// The directory is not there, or is none.
    #[error("{}: {source}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// The host's reason.
        source: std::io::Error,
    },
    /// Not root, or without CAP_DAC_READ_SEARCH.
    #[error("opening files by handle needs root (CAP_DAC_READ_SEARCH); run netbe as root")]
    Privilege,
    /// The handles do not fit into an NFSv3 handle.
    #[error(transparent)]
    TooLong(HandleError),
}
