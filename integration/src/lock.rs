//! Locks between the processes of the lab, and between two labs on one host.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::failure::{During, Failure};
use crate::interrupt::wait_for;

/// A lock on a file; whoever holds it keeps others from taking it until this is dropped, or its process
/// ends.
#[derive(Debug)]
#[must_use]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until nobody else has the lock, and takes it. The file is made if need be, and stays.
    pub(crate) fn take(path: &Path) -> Result<Self, Failure> {
        let file = File::options().create(true).append(true).open(path).during(path.display())?;
        wait_for(&format!("the lock {}", path.display()), LIMIT, || match file.try_lock() {
            Ok(()) => Ok(Some(())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).during(path.display()),
        })?;
        Ok(Self { _file: file })
    }
}

/// What is made under a lock may take as long as the longest build, behind another one.
const LIMIT: Duration = Duration::from_secs(2 * 3600);

#[cfg(test)]
mod test {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread;

    use super::*;

    #[test]
    fn a_lock_is_taken_once_it_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = Lock::take(&path).unwrap();
        let (taken, asked) = channel();
        thread::scope(|scope| {
            scope.spawn(|| taken.send(Lock::take(&path).is_ok()));
            let early = asked.recv_timeout(Duration::from_millis(200));
            assert_eq!(early, Err(RecvTimeoutError::Timeout));
            drop(first);
            assert_eq!(asked.recv_timeout(Duration::from_secs(10)), Ok(true));
        });
    }
}
