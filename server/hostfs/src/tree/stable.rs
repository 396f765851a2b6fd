//! Waiting until what was changed is on stable storage (RFC 1813 §4.7, 4.8).

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs;
use vfs::{FileKind, FsError, Handle, Stability, SyncMode};

use super::{HostTree, unopened};
use crate::beacons::{Reach, flush_journal};

impl HostTree {
    /// Waits for the names in directories.
    pub(super) fn settle_names(&self, dirs: &[Handle]) -> Result<(), FsError> {
        if self.settles_at_once() || self.flush_journal()? {
            return Ok(());
        }
        for dir in dirs {
            self.flush_names(dir)?;
        }
        Ok(())
    }

    /// Waits for what was made in a directory.
    pub(super) fn settle_new(
        &self,
        dir: &Handle,
        new: &Handle,
        kind: FileKind,
    ) -> Result<(), FsError> {
        if self.settles_at_once() || self.flush_journal()? {
            return Ok(());
        }
        match kind {
            // With a new file's attributes its name is there, too.
            FileKind::Directory | FileKind::Regular => self.flush_inode(new, kind),
            FileKind::Block
            | FileKind::Character
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::Symlink => self.flush_names(dir),
        }
    }

    /// Waits for the attributes of a file, but not for its size.
    pub(super) fn settle_attributes(&self, file: &Handle, kind: FileKind) -> Result<(), FsError> {
        if self.settles_at_once() || self.flush_journal()? {
            return Ok(());
        }
        self.flush_inode(file, kind)
    }

    /// Waits for the attributes of a file and its data.
    pub(super) fn settle_file(&self, file: &Handle, kind: FileKind) -> Result<(), FsError> {
        if self.settles_at_once() { Ok(()) } else { self.flush_inode(file, kind) }
    }

    /// Whether nobody waits for the disk.
    pub(super) fn settles_at_once(&self) -> bool {
        self.sync.get() == SyncMode::Disabled
    }

    /// What is done for data that is written, and what is told of it.
    pub(super) fn stability(&self, asked: Stability) -> (Stability, Stability) {
        match self.sync.get() {
            SyncMode::Standard => (asked, asked),
            SyncMode::Always => (Stability::FileSync, Stability::FileSync),
            SyncMode::Disabled => (Stability::Unstable, asked),
        }
    }

    /// Flushes what was changed on the file system, where its journal has it all; returns whether it has.
    fn flush_journal(&self) -> Result<bool, FsError> {
        if self.reach != Reach::Journal {
            return Ok(false);
        }
        let beacons = &self.options.descriptors.beacons;
        // Where no file can be made, as on a full file system, each one is flushed for itself.
        let Ok(beacon) = beacons.of(self.device, || self.mount.nameless()) else {
            return Ok(false);
        };
        flush_journal(&beacon).map(|()| true).map_err(|errno| self.sync_failed(errno))
    }

    fn flush_names(&self, dir: &Handle) -> Result<(), FsError> {
        match self.reach {
            // Opened already, and as good as any.
            Reach::Names => self.fsync(self.mount.dir()),
            Reach::Journal | Reach::Inode => self.flush_inode(dir, FileKind::Directory),
        }
    }

    /// Flushes one inode. Links, FIFOs, sockets and devices cannot be opened for that: their attributes go
    /// with the file system's next commit.
    fn flush_inode(&self, file: &Handle, kind: FileKind) -> Result<(), FsError> {
        let opened = match kind {
            FileKind::Directory => self.mount.open_dir(file.kind(), file.kernel()),
            FileKind::Regular => self.mount.open_data(file.kind(), file.kernel(), false),
            FileKind::Block
            | FileKind::Character
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::Symlink => return Ok(()),
        };
        self.fsync(opened.map_err(unopened)?.as_fd())
    }

    fn fsync(&self, file: BorrowedFd<'_>) -> Result<(), FsError> {
        fs::fsync(file).map_err(|errno| self.sync_failed(errno))
    }
}

/// A [`SyncMode`] that changes while calls are carried out.
#[derive(Debug)]
pub(super) struct SyncCell(AtomicU8);

impl SyncCell {
    pub(super) fn new(mode: SyncMode) -> Self {
        let cell = Self(AtomicU8::new(0));
        cell.set(mode);
        cell
    }

    pub(super) fn set(&self, mode: SyncMode) {
        let number = MODES.iter().position(|known| *known == mode).unwrap_or(0);
        self.0.store(u8::try_from(number).unwrap_or(0), Ordering::Relaxed);
    }

    fn get(&self) -> SyncMode {
        MODES.get(usize::from(self.0.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }
}

const MODES: [SyncMode; 3] = [SyncMode::Standard, SyncMode::Always, SyncMode::Disabled];
