//! How far fsync(2) reaches, and the file that is flushed in the place of others where it reaches them all.

use std::collections::HashMap;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{self, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Result;

/// What fsync(2) of one inode brings to stable storage, beside its data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reach {
    /// All that was changed on the file system before that inode was changed last: there is one journal,
    /// and it keeps its order. Data of other files is not flushed along.
    ///
    /// ext4 with a journal: `ext4_fsync_journal()` waits for the transaction of the inode's last change,
    /// and jbd2 commits them in their order. XFS: `xfs_fsync_flush_log()` forces the log up to it.
    Journal,
    /// All names of the file system, and what new files were made with; other attributes of this inode alone.
    ///
    /// ZFS: `zil_commit()` writes what `zil_itx_assign()` put into the list of the data set, which is all but
    /// `TX_WRITE`, `TX_TRUNCATE` and `TX_SETATTR`; of these it takes those of one object.
    Names,
    /// This inode: its attributes, and the names of a directory. btrfs (whose syncfs(2) writes the data of
    /// all files), UFS, and what is not known.
    Inode,
}

/// A file without a name on each mounted file system whose fsync(2) has the reach of its journal.
///
/// It is changed and flushed in the place of the files of clients: nobody waits for their data, and no file is opened for
/// it. Calls in flight share what the kernel commits at once (jbd2, the CIL of XFS). One that is kept open
/// prevents a read-only remount, so that idle ones are closed.
#[derive(Debug, Default)]
pub(crate) struct Beacons(Mutex<HashMap<u64, Beacon>>);

#[derive(Debug)]
struct Beacon {
    file: Arc<OwnedFd>,
    used: bool,
}

impl Beacons {
    /// The file of a file system, by its device number; `make` makes one.
    pub(crate) fn of(
        &self,
        device: u64,
        make: impl FnOnce() -> Result<OwnedFd>,
    ) -> Result<Arc<OwnedFd>> {
        if let Some(beacon) = self.lock().get_mut(&device) {
            beacon.used = true;
            return Ok(Arc::clone(&beacon.file));
        }
        // Not under the lock: it may wait for a disk. Of two that are made at once one is kept.
        let file = Arc::new(make()?);
        let beacon = Beacon { file: Arc::clone(&file), used: true };
        let replaced = self.lock().insert(device, beacon);
        drop(replaced);
        Ok(file)
    }

    /// Gives away the file of a file system, to be closed.
    pub(crate) fn take(&self, device: u64) -> Option<Arc<OwnedFd>> {
        self.lock().remove(&device).map(|beacon| beacon.file)
    }

    /// Gives away what was not used since the last call of this, with the device numbers.
    pub(crate) fn take_idle(&self) -> Vec<(u64, Arc<OwnedFd>)> {
        let mut beacons = self.lock();
        let idle = beacons.extract_if(|_, beacon| !mem::take(&mut beacon.used));
        idle.map(|(device, beacon)| (device, beacon.file)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Beacon>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings all that was changed on a file system before to stable storage: see [`Reach::Journal`].
pub(crate) fn flush_journal(beacon: &OwnedFd) -> Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    fs::futimens(beacon, &Timestamps { last_access: now, last_modification: now })?;
    fs::fsync(beacon)
}
