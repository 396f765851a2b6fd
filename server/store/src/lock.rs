//! Keeps commands that run at once out of each other's way.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::error::at;
use crate::tree::open_dir;
use crate::{EnvironmentName, StoreError};

/// Locks with the names of environments: a file each in one directory, there while it is held.
///
/// The kernel unlocks what a killed process held.
#[derive(Debug)]
pub(crate) struct Locks {
    dir: OwnedFd,
    path: PathBuf,
    timeout: Duration,
    /// Those that are held for several verbs, each of which would wait for itself.
    own: Mutex<HashSet<EnvironmentName>>,
}

impl Locks {
    /// Uses a directory for lock files. A lock that others hold is waited for as long as `timeout`.
    pub(crate) fn open(path: &Path, timeout: Duration) -> Result<Self, StoreError> {
        let dir = open_dir(rustix::fs::CWD, path).map_err(at("open", path))?;
        Ok(Self { dir, path: path.to_owned(), timeout, own: Mutex::default() })
    }

    pub(crate) const fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Keeps others from changing an environment.
    pub(crate) fn read(&self, name: &EnvironmentName) -> Result<Held<'_>, StoreError> {
        self.wait(name, FlockOperation::NonBlockingLockShared)
    }

    /// Keeps others from changing an environment and from reading all of it.
    pub(crate) fn change(&self, name: &EnvironmentName) -> Result<Held<'_>, StoreError> {
        self.wait(name, FlockOperation::NonBlockingLockExclusive)
    }

    /// The same for as long as it is held, except for what asks by these very locks.
    pub(crate) fn hold(&self, name: &EnvironmentName) -> Result<Hold<'_>, StoreError> {
        let held = self.change(name)?;
        self.own().insert(name.clone());
        Ok(Hold { held })
    }

    fn wait(&self, name: &EnvironmentName, how: FlockOperation) -> Result<Held<'_>, StoreError> {
        if self.own().contains(name) {
            return Ok(Held { locks: self, name: name.clone(), file: None });
        }
        let path = self.path.join(name.as_str());
        let until = Instant::now() + self.timeout;
        loop {
            match self.take(name, how).map_err(at("lock", &path))? {
                Taken::Held(file) => {
                    return Ok(Held { locks: self, name: name.clone(), file: Some(file) });
                }
                Taken::Gone => {}
                Taken::Others(_) if Instant::now() < until => thread::sleep(PAUSE),
                Taken::Others(holder) => {
                    return Err(StoreError::Busy { what: name.to_string(), holder });
                }
            }
        }
    }

    fn take(&self, name: &EnvironmentName, how: FlockOperation) -> std::io::Result<Taken> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        match flock(&file, how) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Taken::Others(holder(&mut file))),
            Err(error) => return Err(error.into()),
        }
        // Whoever held it before may have removed the file between the two calls.
        if !self.is_there(name, &file)? {
            return Ok(Taken::Gone);
        }
        // For messages only. Of several that read, the last is named.
        let _ = file.set_len(0).and_then(|()| file.rewind());
        let _ = write!(file, "{}", std::process::id());
        Ok(Taken::Held(file))
    }

    fn own(&self) -> MutexGuard<'_, HashSet<EnvironmentName>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lock file of a name is this one.
    fn is_there(&self, name: &EnvironmentName, file: &File) -> rustix::io::Result<bool> {
        let mine = fstat(file)?;
        match statat(&self.dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok((stat.st_dev, stat.st_ino) == (mine.st_dev, mine.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

enum Taken {
    Gone,
    Held(File),
    Others(Option<u32>),
}

/// The process that noted itself down in a lock file, if it lives.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    let pid: i32 = text.parse().ok()?;
    let alive = test_kill_process(Pid::from_raw(pid)?);
    (!matches!(alive, Err(Errno::SRCH))).then(|| u32::try_from(pid).ok()).flatten()
}

/// A lock; dropped, it is free again.
#[derive(Debug)]
#[must_use]
pub(crate) struct Held<'a> {
    locks: &'a Locks,
    name: EnvironmentName,
    /// None where it is held for several verbs, of which this is one.
    file: Option<File>,
}

impl Drop for Held<'_> {
    /// The last one to hold a lock removes its file, so that none stays for every name ever used.
    fn drop(&mut self) {
        let Some(file) = &self.file else { return };
        let alone = flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok();
        // On the way from shared to alone the kernel lets others in, and they may have removed it.
        if alone && self.locks.is_there(&self.name, file).unwrap_or(false) {
            // A file that stays is in nobody's way.
            let _ = unlinkat(&self.locks.dir, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// A lock for several verbs; dropped, it is free again.
#[derive(Debug)]
#[must_use]
pub struct Hold<'a> {
    held: Held<'a>,
}

impl Hold<'_> {
    /// What is held.
    #[must_use]
    pub const fn name(&self) -> &EnvironmentName {
        &self.held.name
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.held.locks.own().remove(&self.held.name);
    }
}

/// How long to wait before a lock is tried again.
const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod test {
    use super::*;

    fn name() -> EnvironmentName {
        "head".parse().unwrap()
    }

    fn locks(dir: &tempfile::TempDir) -> Locks {
        Locks::open(dir.path(), Duration::ZERO).unwrap()
    }

    fn files(dir: &tempfile::TempDir) -> usize {
        std::fs::read_dir(dir.path()).unwrap().count()
    }

    #[test]
    fn who_holds_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let locks = locks(&dir);
        let _held = locks.change(&name()).unwrap();
        let error = locks.read(&name()).unwrap_err();
        assert!(
            matches!(error, StoreError::Busy { holder: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
    }

    #[test]
    fn readers_share_and_keep_writers_out() {
        let dir = tempfile::tempdir().unwrap();
        let locks = locks(&dir);
        let first = locks.read(&name()).unwrap();
        let second = locks.read(&name()).unwrap();
        drop(first);
        assert!(matches!(locks.change(&name()), Err(StoreError::Busy { .. })));
        drop(second);
        assert!(locks.change(&name()).is_ok());
    }

    #[test]
    fn a_lock_that_is_free_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let locks = locks(&dir);
        drop(locks.change(&name()).unwrap());
        let (first, second) = (locks.read(&name()).unwrap(), locks.read(&name()).unwrap());
        drop(first);
        assert_eq!(files(&dir), 1);
        drop(second);
        assert_eq!(files(&dir), 0);
    }

    #[test]
    fn what_is_held_is_free_for_its_own_verbs_and_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let (own, others) = (locks(&dir), locks(&dir));
        let hold = own.hold(&name()).unwrap();
        drop(own.change(&name()).unwrap());
        drop(own.read(&name()).unwrap());
        assert!(matches!(others.read(&name()), Err(StoreError::Busy { .. })));
        drop(hold);
        assert_eq!(files(&dir), 0);
        let _theirs = others.change(&name()).unwrap();
        assert!(matches!(own.change(&name()), Err(StoreError::Busy { .. })));
    }

    #[test]
    fn of_many_at_once_one_at_a_time_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let inside = std::sync::atomic::AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let locks = Locks::open(dir.path(), Duration::from_secs(60)).unwrap();
                    for _ in 0..20 {
                        let held = locks.change(&name()).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
    }
}
