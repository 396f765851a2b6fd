//! A directory in which a system is made before it is archived.
//!
//! There is one in a state directory, and whoever works in it holds a lock. A program that works there
//! gets that lock as its standard input: it is free when both have ended, whichever was killed first.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::on;
use super::{InstallError, lock};

/// The directory; it is removed, with all that is in it, when this is dropped.
#[derive(Debug)]
pub(super) struct BuildDir {
    path: PathBuf,
    lock: File,
}

impl BuildDir {
    /// Waits until nobody else works there, and clears away what one who was killed has left.
    pub(super) fn enter(path: PathBuf) -> Result<Self, InstallError> {
        let lock = lock::take(&path.with_extension("lock"), "makes a system by debootstrap")?;
        clear(&path).map_err(on(&path))?;
        Ok(Self { path, lock })
    }

    /// Where it is to be made.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The lock, for a program that works here.
    pub(super) fn lock(&self) -> Result<File, InstallError> {
        self.lock.try_clone().map_err(on(&self.path))
    }
}

impl Drop for BuildDir {
    fn drop(&mut self) {
        // What cannot be removed now is in the way of the next one, who says so.
        let _ = clear(&self.path);
    }
}

fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod test {
    use std::process::{Command, Stdio};

    use rustix::fs::{FlockOperation, flock};

    use super::*;

    #[test]
    fn what_was_left_is_gone_and_what_is_made_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("making");
        fs::create_dir_all(path.join("root/etc")).unwrap();
        let build = BuildDir::enter(path.clone()).unwrap();
        assert!(!path.exists());
        fs::create_dir(build.path()).unwrap();
        drop(build);
        assert!(!path.exists());
    }

    #[test]
    fn nobody_enters_while_a_program_works_there() {
        let dir = tempfile::tempdir().unwrap();
        let build = BuildDir::enter(dir.path().join("making")).unwrap();
        let lock = Stdio::from(build.lock().unwrap());
        let mut program = Command::new("sleep").arg("60").stdin(lock).spawn().unwrap();
        drop(build);
        let other = File::open(dir.path().join("making.lock")).unwrap();
        flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap_err();
        program.kill().unwrap();
        program.wait().unwrap();
        flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    }
}
