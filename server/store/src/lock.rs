//! Keeps commands that run at once out of each other's way.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::error::at;
use crate::tree::open_dir;
use crate::{EnvironmentName, StoreError};

/// Locks with the names of environments: a file each in one folder, there while it is held.
///
/// The kernel unlocks what a killed process held.
#[derive(Debug)]
pub(crate) struct Locks {
    timeout: Duration,
    /// Those that are held for several verbs, each of which would wait for itself.
    own: Mutex<HashSet<EnvironmentName>>,
}

impl Locks {
    /// A lock that others hold is waited for as long as `timeout`.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, own: Mutex::default() }
    }

    pub(crate) const fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Keeps others from changing an environment; its lock lies in `folder`.
    pub(crate) fn read(&self, folder: &Path, name: &EnvironmentName) -> Result<Held, StoreError> {
        self.wait(folder, name, FlockOperation::NonBlockingLockShared)
    }

    /// Keeps others from changing an environment and from reading all of it.
    pub(crate) fn change(&self, folder: &Path, name: &EnvironmentName) -> Result<Held, StoreError> {
        self.wait(folder, name, FlockOperation::NonBlockingLockExclusive)
    }

    /// The same for as long as it is held, except for what asks by these very locks.
    pub(crate) fn hold(
        &self,
        folder: &Path,
        name: &EnvironmentName,
    ) -> Result<Hold<'_>, StoreError> {
        let _held = self.change(folder, name)?;
        self.own().insert(name.clone());
        Ok(Hold { locks: self, name: name.clone(), _held })
    }

    fn wait(
        &self,
        folder: &Path,
        name: &EnvironmentName,
        how: FlockOperation,
    ) -> Result<Held, StoreError> {
        if self.own().contains(name) {
            return Ok(Held { lock: None });
        }
        let path = folder.join(name.as_str());
        let dir = open_dir(rustix::fs::CWD, folder).map_err(at("open", folder))?;
        let until = Instant::now() + self.timeout;
        loop {
            match take(&dir, name.as_str(), how).map_err(at("lock", &path))? {
                Taken::Held(file) => {
                    let name = name.as_str().to_owned();
                    return Ok(Held { lock: Some(Lock { dir, name, file }) });
                }
                Taken::Gone => {}
                Taken::Others(_) if Instant::now() < until => thread::sleep(PAUSE),
                Taken::Others(holder) => {
                    return Err(StoreError::Busy { what: name.to_string(), holder });
                }
            }
        }
    }

    fn own(&self) -> MutexGuard<'_, HashSet<EnvironmentName>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the lock of a name in a folder, if it is free, and notes this process down in its file.
pub(crate) fn take(dir: &OwnedFd, name: &str, how: FlockOperation) -> std::io::Result<Taken> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
    match flock(&file, how) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(Taken::Others(holder(&mut file))),
        Err(error) => return Err(error.into()),
    }
    // Whoever held it before may have removed the file between the two calls.
    if !is_there(dir, name, &file)? {
        return Ok(Taken::Gone);
    }
    // For messages only. Of several that read, the last is named.
    let _ = file.set_len(0).and_then(|()| file.rewind());
    let _ = write!(file, "{}", std::process::id());
    Ok(Taken::Held(file))
}

/// The lock of a name in a folder, if nobody has it.
pub(crate) fn try_hold(folder: &Path, name: &str) -> std::io::Result<Option<Held>> {
    let dir = open_dir(rustix::fs::CWD, folder)?;
    Ok(match take(&dir, name, FlockOperation::NonBlockingLockExclusive)? {
        Taken::Held(file) => Some(Held { lock: Some(Lock { dir, name: name.to_owned(), file }) }),
        Taken::Gone | Taken::Others(_) => None,
    })
}

/// Whether the file of a name is this one.
fn is_there(dir: &OwnedFd, name: &str, file: &File) -> rustix::io::Result<bool> {
    let mine = fstat(file)?;
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok((stat.st_dev, stat.st_ino) == (mine.st_dev, mine.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What came of the attempt to take a lock.
pub(crate) enum Taken {
    /// Its file was removed meanwhile.
    Gone,
    /// It is ours.
    Held(File),
    /// Somebody else has it: that process, if it is known.
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
pub(crate) struct Held {
    /// None where it is held for several verbs, of which this is one.
    lock: Option<Lock>,
}

#[derive(Debug)]
struct Lock {
    dir: OwnedFd,
    name: String,
    file: File,
}

impl Drop for Held {
    /// The last one to hold a lock removes its file, so that none stays for every name ever used.
    fn drop(&mut self) {
        let Some(Lock { dir, name, file }) = &self.lock else { return };
        let alone = flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok();
        // On the way from shared to alone the kernel lets others in, and they may have removed it.
        if alone && is_there(dir, name, file).unwrap_or(false) {
            // A file that stays is in nobody's way.
            let _ = unlinkat(dir, name.as_str(), AtFlags::empty());
        }
    }
}

/// A lock for several verbs; dropped, it is free again.
#[derive(Debug)]
#[must_use]
pub struct Hold<'a> {
    locks: &'a Locks,
    name: EnvironmentName,
    _held: Held,
}

impl Hold<'_> {
    /// What is held.
    #[must_use]
    pub const fn name(&self) -> &EnvironmentName {
        &self.name
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.locks.own().remove(&self.name);
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

    fn locks() -> Locks {
        Locks::new(Duration::ZERO)
    }

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn who_holds_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (locks, dir) = (locks(), dir.path());
        let _held = locks.change(dir, &name()).unwrap();
        let error = locks.read(dir, &name()).unwrap_err();
        assert!(
            matches!(error, StoreError::Busy { holder: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
    }

    #[test]
    fn readers_share_and_keep_writers_out() {
        let dir = tempfile::tempdir().unwrap();
        let (locks, dir) = (locks(), dir.path());
        let first = locks.read(dir, &name()).unwrap();
        let second = locks.read(dir, &name()).unwrap();
        drop(first);
        assert!(matches!(locks.change(dir, &name()), Err(StoreError::Busy { .. })));
        drop(second);
        assert!(locks.change(dir, &name()).is_ok());
    }

    #[test]
    fn a_lock_that_is_free_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let (locks, dir) = (locks(), dir.path());
        drop(locks.change(dir, &name()).unwrap());
        let (first, second) =
            (locks.read(dir, &name()).unwrap(), locks.read(dir, &name()).unwrap());
        drop(first);
        assert_eq!(files(dir), 1);
        drop(second);
        assert_eq!(files(dir), 0);
    }

    #[test]
    fn what_is_held_is_free_for_its_own_verbs_and_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let (own, others, dir) = (locks(), locks(), dir.path());
        let hold = own.hold(dir, &name()).unwrap();
        drop(own.change(dir, &name()).unwrap());
        drop(own.read(dir, &name()).unwrap());
        assert!(matches!(others.read(dir, &name()), Err(StoreError::Busy { .. })));
        drop(hold);
        assert_eq!(files(dir), 0);
        let _theirs = others.change(dir, &name()).unwrap();
        assert!(matches!(own.change(dir, &name()), Err(StoreError::Busy { .. })));
    }

    #[test]
    fn of_many_at_once_one_at_a_time_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let inside = std::sync::atomic::AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let locks = Locks::new(Duration::from_secs(60));
                    for _ in 0..20 {
                        let held = locks.change(dir.path(), &name()).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
    }
}
