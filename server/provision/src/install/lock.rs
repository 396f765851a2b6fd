//! Files by which commands that need the same wait for each other.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::InstallError;
use super::error::on;
use crate::terminal;

/// Waits until no other command has the file locked, which is free again when this and all copies of
/// it are closed. A person is told who is waited for: `what` says what that does, as in "fetches x".
pub(super) fn take(path: &Path, what: &str) -> Result<File, InstallError> {
    let options = OpenOptions::new().create(true).read(true).append(true).open(path);
    let mut file = options.map_err(on(path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            terminal::say(&format!("waiting for {}, which {what}", holder(&mut file)));
            flock(&file, FlockOperation::LockExclusive).map_err(on(path))?;
        }
        other => other.map_err(on(path))?,
    }
    // For the one who waits next.
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(on(path))?;
    Ok(file)
}

/// Who noted itself down in a lock file. It may be dead, and what it started have the lock.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(16).read_to_string(&mut text);
    let number = read.ok().and_then(|_| text.parse().ok()).filter(|number: &i32| *number > 0);
    let process = number.and_then(Pid::from_raw);
    let process = process.filter(|process| test_kill_process(*process) != Err(Errno::SRCH));
    process.map_or_else(
        || "another command".to_owned(),
        |process| format!("process {}", process.as_raw_nonzero()),
    )
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn who_has_a_file_is_known_while_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.lock");
        drop(take(&path, "").unwrap());
        let _taken = take(&path, "").unwrap();
        let who = format!("process {}", std::process::id());
        assert_eq!(holder(&mut File::open(&path).unwrap()), who);
        for nobody in ["", "-1", "0", "2147483647"] {
            std::fs::write(&path, nobody).unwrap();
            assert_eq!(holder(&mut File::open(&path).unwrap()), "another command");
        }
    }
}
