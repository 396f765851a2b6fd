//! A directory of the host as a tree of files.
//!
//! Files are named by the kernel's own handles, so that a handle holds after a restart and by every
//! name, and nothing is remembered here but open descriptors. The kernel lets this process do
//! everything; what a caller may do is decided by the rules of [`vfs`].

mod birth;
mod change;
mod data;
mod judge;
mod listing;
mod names;
mod open;
mod stable;

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs;
use rustix::io::Errno;
use vfs::{
    Access, Attr, Caller, Create, DirEnd, Entry, EntryDetail, Found, FsError, FsStat, Handle,
    HandleError, Limits, Linked, Made, Name, Read, Renamed, SetAttr, Special, Stability, SyncMode,
    Time, Tree, Wait, Wcc, Written, permission,
};

use crate::attr;
use crate::beacons::Reach;
use crate::descriptors::{InUse, Inode};
use crate::errno::cause;
use crate::resident::Resident;
use crate::stripes::Stripes;
use crate::sys::{KernelHandle, Mount, Node};

use stable::SyncCell;

pub use open::{HostTreeError, Options};

/// A directory of the host, served as a tree.
///
/// It ends at the borders of its file system: a mount point or a subvolume in it is
/// [`FsError::XDev`].
#[derive(Debug)]
pub struct HostTree {
    mount: Mount,
    root: Handle,
    root_fileid: u64,
    fsid: u64,
    device: u64,
    link_max: u32,
    /// Whether files here may have access control lists.
    has_lists: bool,
    sync: SyncCell,
    options: Options,
    stripes: Stripes,
    verifier: AtomicU64,
    resident: Resident,
    reach: Reach,
    /// Whether this file system can say that data is in memory (tmpfs and ZFS cannot).
    tells_residence: AtomicBool,
}

impl HostTree {
    /// The file that a handle names, and its attributes, freshly read.
    ///
    /// Without waiting that takes a descriptor in the cache: open_by_handle_at(2) may have to read the
    /// inode. Every call that may wait leaves one there.
    fn node(&self, file: &Handle, wait: Wait) -> Result<(InUse<'_, Node>, Attr), FsError> {
        if wait == Wait::No && !self.resident.attributes {
            return Err(FsError::WouldWait);
        }
        let node = match (self.options.descriptors.node(file), wait) {
            (Some(node), _) => node,
            (None, Wait::No) => return Err(FsError::WouldWait),
            (None, Wait::Yes) => {
                self.check_ours(file)?;
                let node = self.mount.node(file.kind(), file.kernel()).map_err(unopened)?;
                self.keep_node(file, node)
            }
        };
        let attr = self.attr(&node)?;
        self.check_alive(file, &attr, wait)?;
        Ok((node, attr))
    }

    fn keep_node(&self, file: &Handle, node: Node) -> InUse<'_, Node> {
        let descriptors = &self.options.descriptors;
        descriptors.keep_node(file, None, descriptors.new_in_use(self.fsid, node))
    }

    /// A directory that the caller may search.
    fn dir(
        &self,
        caller: &Caller,
        dir: &Handle,
        wait: Wait,
    ) -> Result<(InUse<'_, Node>, Attr), FsError> {
        let (node, attr) = self.node(dir, wait)?;
        permission::may_search(caller, &self.judged(caller, (dir, &node), &attr, wait)?)?;
        Ok((node, attr))
    }

    /// What a name in a directory stands for, with a descriptor of it left in the cache.
    fn find(&self, dir: &Node, name: Name<'_>, wait: Wait) -> Result<(Handle, Attr), FsError> {
        let at = dir.dir().map_err(cause)?;
        let found = match wait {
            Wait::No if !self.resident.names => return Err(FsError::WouldWait),
            Wait::No => match self.mount.look_cached(at, name.as_bytes()) {
                Err(Errno::AGAIN) => return Err(FsError::WouldWait),
                found => found,
            },
            Wait::Yes => self.mount.look(at, name.as_bytes()),
        };
        let descriptors = &self.options.descriptors;
        let mut found = descriptors.new_in_use(self.fsid, found.map_err(cause)?);
        let attr = self.attr(&found)?;
        let inode = Inode { fsid: self.fsid, device: self.device, number: attr.fileid };
        let inode = self.resident.inode_numbers.then_some(inode);
        // A handle costs a system call as dear as all others of a lookup but one.
        let known = inode.and_then(|inode| descriptors.known(&inode, &mut found));
        if let Some(handle) = known {
            return Ok((handle, attr));
        }
        let handle = self.handle(&found)?;
        descriptors.keep_node(&handle, inode, found);
        Ok((handle, attr))
    }

    /// What a name in a directory stands for; not for `.` and `..`.
    fn entry(&self, dir: &Node, name: Name<'_>) -> Result<Option<(Node, Attr)>, FsError> {
        match self.mount.look(dir.dir().map_err(cause)?, name.as_bytes()) {
            Ok(node) => {
                let attr = self.attr(&node)?;
                Ok(Some((node, attr)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(cause(errno)),
        }
    }

    /// The directory above, which is the root above the root.
    ///
    /// Somebody on the host may have moved a directory out of this tree while a client holds its
    /// handle. Therefore the way up is walked to its end, and a directory from which it does not lead
    /// to the root is stale.
    fn parent(&self, dir: &Handle, node: &Node) -> Result<(Handle, Attr), FsError> {
        if *dir == self.root {
            return Ok((*dir, self.attr(node)?));
        }
        let above = self.mount.above(node).map_err(cause)?;
        let attr = self.attr(&above).map_err(|_| FsError::Stale)?;
        let handle = self.handle(&above)?;
        let (mut at, mut fileid) = (above, attr.fileid);
        while fileid != self.root_fileid {
            let next = self.mount.above(&at).map_err(|_| FsError::Stale)?;
            let next_fileid = self.attr(&next).map_err(|_| FsError::Stale)?.fileid;
            if next_fileid == fileid {
                return Err(FsError::Stale);
            }
            (at, fileid) = (next, next_fileid);
        }
        Ok((handle, attr))
    }

    /// Attributes of a node, if it lies on this tree's file system.
    fn attr(&self, node: &Node) -> Result<Attr, FsError> {
        let stat = node.stat().map_err(cause)?;
        if stat.st_dev != self.device {
            return Err(FsError::XDev);
        }
        Ok(attr::from_stat(&stat, self.fsid))
    }

    fn handle(&self, node: &Node) -> Result<Handle, FsError> {
        let kernel = node.handle().map_err(cause)?;
        handle(self.fsid, &kernel).map_err(|_| FsError::Io)
    }

    fn check_ours(&self, file: &Handle) -> Result<(), FsError> {
        if file.fsid() == self.fsid { Ok(()) } else { Err(FsError::Stale) }
    }

    /// A file without a name is gone for clients, though a descriptor still holds it. To close that
    /// frees the file's blocks, so it is done only by who may wait.
    fn check_alive(&self, file: &Handle, attr: &Attr, wait: Wait) -> Result<(), FsError> {
        match wait {
            _ if attr.nlink > 0 => Ok(()),
            Wait::No => Err(FsError::WouldWait),
            Wait::Yes => {
                self.options.descriptors.forget(file);
                Err(FsError::Stale)
            }
        }
    }

    /// What was written may be lost: a new verifier makes clients send it again.
    fn sync_failed(&self, errno: Errno) -> FsError {
        self.verifier.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            errno = errno.raw_os_error(),
            "the host could not write to stable storage: {errno}; NFS clients have to write again",
        );
        cause(errno)
    }
}

impl Tree for HostTree {
    fn root(&self) -> Handle {
        self.root
    }

    fn getattr(&self, file: &Handle, wait: Wait) -> Result<Attr, FsError> {
        self.node(file, wait).map(|(_, attr)| attr)
    }

    fn setattr(
        &self,
        caller: &Caller,
        file: &Handle,
        set: &SetAttr,
        guard: Option<Time>,
    ) -> Result<Wcc, FsError> {
        self.change(caller, file, set, guard)
    }

    fn lookup(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        wait: Wait,
    ) -> Result<Found, FsError> {
        let (node, dir_attr) = self.dir(caller, dir, wait)?;
        let (handle, attr) = match (name.as_bytes(), wait) {
            (b".", _) => (*dir, dir_attr),
            (b"..", Wait::No) => return Err(FsError::WouldWait),
            (b"..", Wait::Yes) => self.parent(dir, &node)?,
            _ => self.find(&node, name, wait)?,
        };
        Ok(Found { handle, attr, dir: dir_attr })
    }

    fn access(
        &self,
        caller: &Caller,
        file: &Handle,
        asked: Access,
        wait: Wait,
    ) -> Result<(Access, Attr), FsError> {
        let (node, attr) = self.node(file, wait)?;
        let judged = self.judged(caller, (file, &node), &attr, wait)?;
        Ok((Access(permission::rights(caller, &judged).0 & asked.0), attr))
    }

    fn readlink(
        &self,
        _caller: &Caller,
        file: &Handle,
        wait: Wait,
    ) -> Result<(Vec<u8>, Attr), FsError> {
        let (node, attr) = self.node(file, wait)?;
        if attr.kind != vfs::FileKind::Symlink {
            return Err(FsError::Inval);
        }
        let resident = attr.size < self.resident.link_size;
        if wait == Wait::No && (!resident || self.resident.sets_access_time(&attr)) {
            return Err(FsError::WouldWait);
        }
        Ok((node.readlink().map_err(cause)?, attr))
    }

    fn read(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        into: &mut [u8],
        wait: Wait,
    ) -> Result<Read, FsError> {
        match wait {
            Wait::No => self.read_resident(caller, file, offset, into),
            Wait::Yes => self.read_data(caller, file, offset, into),
        }
    }

    fn read_to_pipe(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        len: usize,
        pipe: BorrowedFd<'_>,
        wait: Wait,
    ) -> Result<Read, FsError> {
        self.splice_data(caller, file, offset, len, pipe, wait)
    }

    fn write(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        data: &[u8],
        stability: Stability,
    ) -> Result<Written, FsError> {
        self.write_data(caller, file, offset, data, stability)
    }

    fn create(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        how: &Create,
    ) -> Result<Made, FsError> {
        self.make_file(caller, dir, name, how)
    }

    fn mkdir(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        set: &SetAttr,
    ) -> Result<Made, FsError> {
        self.make_dir(caller, dir, name, set)
    }

    fn symlink(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        target: &[u8],
        set: &SetAttr,
    ) -> Result<Made, FsError> {
        self.make_symlink(caller, dir, name, target, set)
    }

    fn mknod(
        &self,
        caller: &Caller,
        dir: &Handle,
        name: Name<'_>,
        what: Special,
        set: &SetAttr,
    ) -> Result<Made, FsError> {
        self.make_special(caller, dir, name, what, set)
    }

    fn remove(&self, caller: &Caller, dir: &Handle, name: Name<'_>) -> Result<Wcc, FsError> {
        self.remove_file(caller, dir, name)
    }

    fn rmdir(&self, caller: &Caller, dir: &Handle, name: Name<'_>) -> Result<Wcc, FsError> {
        self.remove_dir(caller, dir, name)
    }

    fn rename(
        &self,
        caller: &Caller,
        from_dir: &Handle,
        from: Name<'_>,
        to_dir: &Handle,
        to: Name<'_>,
    ) -> Result<Renamed, FsError> {
        self.move_name(caller, from_dir, from, to_dir, to)
    }

    fn link(
        &self,
        caller: &Caller,
        file: &Handle,
        dir: &Handle,
        name: Name<'_>,
    ) -> Result<Linked, FsError> {
        self.add_name(caller, file, dir, name)
    }

    fn readdir(
        &self,
        caller: &Caller,
        dir: &Handle,
        cookie: u64,
        detail: EntryDetail,
        each: &mut dyn FnMut(&Entry<'_>) -> ControlFlow<()>,
    ) -> Result<DirEnd, FsError> {
        self.list(caller, dir, cookie, detail, each)
    }

    fn statfs(&self, file: &Handle) -> Result<FsStat, FsError> {
        self.node(file, Wait::Yes)?;
        let stat = fs::fstatvfs(self.mount.dir()).map_err(cause)?;
        let unit = if stat.f_frsize == 0 { stat.f_bsize } else { stat.f_frsize };
        Ok(FsStat {
            total_bytes: stat.f_blocks.saturating_mul(unit),
            free_bytes: stat.f_bfree.saturating_mul(unit),
            available_bytes: stat.f_bavail.saturating_mul(unit),
            total_files: stat.f_files,
            free_files: stat.f_ffree,
            available_files: stat.f_favail,
        })
    }

    fn limits(&self, file: &Handle) -> Result<Limits, FsError> {
        self.node(file, Wait::Yes)?;
        let stat = fs::fstatvfs(self.mount.dir()).map_err(cause)?;
        let name_max = u32::try_from(stat.f_namemax).unwrap_or(u32::MAX);
        // No system tells its largest file; whoever writes past it gets NFS3ERR_FBIG.
        Ok(Limits { link_max: self.link_max, name_max, max_file_size: MAX_FILE_SIZE })
    }

    fn commit(&self, caller: &Caller, file: &Handle) -> Result<Wcc, FsError> {
        self.commit_data(caller, file)
    }

    fn write_verifier(&self) -> [u8; 8] {
        self.verifier.load(Ordering::Relaxed).to_be_bytes()
    }

    fn set_sync(&self, mode: SyncMode) {
        self.sync.set(mode);
    }

    fn quiesce(&self) {
        self.options.descriptors.close_all(self.fsid, self.device);
    }
}

/// A handle of this project from the kernel's.
fn handle(fsid: u64, kernel: &KernelHandle) -> Result<Handle, HandleError> {
    // Handle types are small numbers everywhere; one that is not could not be given back.
    let kind = kernel.kind().ok_or_else(|| HandleError::TooLong(kernel.bytes().len()))?;
    Handle::new(fsid, kind, kernel.bytes())
}

/// Why a handle could not be opened. What the kernel cannot even read was never one of its handles.
fn unopened(errno: Errno) -> FsError {
    match errno {
        Errno::INVAL => FsError::BadHandle,
        Errno::NOENT | Errno::STALE => FsError::Stale,
        other => cause(other),
    }
}

/// The largest offset that the kernel's signed 64 bits can name.
const MAX_FILE_SIZE: u64 = i64::MAX as u64;
