//! Locks of what is made for machines, between processes and between the threads of one.
//!
//! A name is found under one lock, for a moment. What takes long holds a lock of its own: each root that
//! is being made, and each machine that one is made for. A lock is a file, there while it is held; the
//! kernel unlocks what a killed process held.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::RootError;

/// The locks in a directory, which is made with the first of them.
#[derive(Clone, Debug)]
pub(super) struct Locks(PathBuf);

/// A lock; dropped, it is free again.
#[derive(Debug)]
#[must_use]
pub(super) struct Held {
    path: PathBuf,
    _file: File,
}

impl Locks {
    /// Those in a directory.
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Waits until nobody else finds a name for a root. Nothing long is done
    /// under it.
    pub(super) fn naming(&self) -> Result<Held, RootError> {
        self.wait("naming")
    }

    /// Waits until nobody else makes a root for a machine or plans an upgrade of it.
    pub(super) fn machine(&self, machine: &str) -> Result<Held, RootError> {
        self.wait(&format!("machine-{machine}"))
    }

    /// Waits until nobody else takes a snapshot of a template.
    pub(super) fn pinning(&self) -> Result<Held, RootError> {
        self.wait("pinning")
    }

    /// Waits until nobody else has snapshots mounted for an upgrade.
    pub(super) fn upgrade(&self) -> Result<Held, RootError> {
        self.wait("upgrade")
    }

    /// The lock of an environment that is being made, by its name; `None` where another makes it.
    pub(super) fn making(&self, name: &str) -> Result<Option<Held>, RootError> {
        let path = self.folder()?.join(format!("making-{name}"));
        take(&path, false).map_err(|source| RootError::Lock { path, source })
    }

    fn wait(&self, name: &str) -> Result<Held, RootError> {
        let path = self.folder()?.join(name);
        let taken =
            take(&path, true).and_then(|held| held.ok_or_else(|| io::ErrorKind::WouldBlock.into()));
        taken.map_err(|source| RootError::Lock { path, source })
    }

    fn folder(&self) -> Result<&Path, RootError> {
        match DirBuilder::new().recursive(true).mode(0o700).create(&self.0) {
            Ok(()) => Ok(&self.0),
            Err(source) => Err(RootError::Lock { path: self.0.clone(), source }),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Whoever waits for it sees that its file is gone, and makes another. One that stays is in
        // nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}

fn take(path: &Path, wait: bool) -> io::Result<Option<Held>> {
    loop {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        if wait {
            file.lock()?;
        } else {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        let mine = file.metadata()?;
        match fs::symlink_metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (mine.dev(), mine.ino()) => {
                return Ok(Some(Held { path: path.to_owned(), _file: file }));
            }
            // Who held it has removed the file between the two calls.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod test {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_lock_is_held_by_one_at_a_time_and_leaves_no_file() {
        let scratch = tempfile::tempdir().unwrap();
        let locks = Locks::new(scratch.path().join("roots"));
        let inside = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _held = locks.machine("web1").unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        let made = locks.making("web1-head").unwrap();
        assert!(made.is_some() && locks.making("web1-head").unwrap().is_none());
        drop(made);
        assert_eq!(fs::read_dir(scratch.path().join("roots")).unwrap().count(), 0);
    }

    #[test]
    fn a_relative_directory_is_as_good_as_another() {
        let scratch = tempfile::tempdir().unwrap();
        let here = std::env::current_dir().unwrap();
        let to_the_top: PathBuf = here.components().skip(1).map(|_| "..").collect();
        let relative = to_the_top.join(scratch.path().strip_prefix("/").unwrap());
        let locks = Locks::new(relative.join("roots"));
        let _held = (
            locks.naming().unwrap(),
            locks.machine("web1").unwrap(),
            locks.pinning().unwrap(),
            locks.upgrade().unwrap(),
            locks.making("web1-head").unwrap().unwrap(),
        );
        let names = fs::read_dir(scratch.path().join("roots")).unwrap();
        assert_eq!(names.count(), 5);
    }
}
