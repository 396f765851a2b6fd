//! What a command is about to make, written down before it is made, so that it is undone if the
//! command is killed.
//!
//! Each is a file that its process has locked; the kernel unlocks it with the process, and the next
//! command that changes something finds it, undoes what stands in it and removes it. Everything that
//! can be undone can be undone twice, and whether it was done or not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use uuid::Uuid;

use super::command::{Failure, Refusal, Task};
use super::listing::{self, DataSet, Depth, datasets, snapshots};
use super::tree::Pool;
use super::{mounts, program};
use crate::StoreError;
use crate::error::at;

/// Something that would be left by a command that is killed, and how it is cleared away.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Leftover {
    /// A data set under a hidden name, with all below it.
    Dataset(String),
    /// A directory under which data sets are mounted.
    Mounts(PathBuf),
    /// The snapshots of this name of a data set and all below it, which came by a stream of which not
    /// all came: back to the snapshot before.
    Received { dataset: String, snapshot: String, base: String },
    /// A snapshot, of a data set and all below it, that is to go with its last clone.
    Snapshot(String),
}

impl Leftover {
    fn line(&self) -> String {
        match self {
            Self::Dataset(name) => format!("dataset\t{name}\n"),
            Self::Mounts(path) => format!("mounts\t{}\n", path.display()),
            Self::Received { dataset, snapshot, base } => {
                format!("received\t{dataset}\t{snapshot}\t{base}\n")
            }
            Self::Snapshot(name) => format!("snapshot\t{name}\n"),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let (kind, first) = (fields.next()?, fields.next()?.to_owned());
        match kind {
            "dataset" => Some(Self::Dataset(first)),
            "mounts" => Some(Self::Mounts(first.into())),
            "received" => {
                let (snapshot, base) = (fields.next()?.to_owned(), fields.next()?.to_owned());
                Some(Self::Received { dataset: first, snapshot, base })
            }
            "snapshot" => Some(Self::Snapshot(first)),
            _ => None,
        }
    }

    fn clear(&self) -> Result<(), StoreError> {
        match self {
            Self::Dataset(name) => clear(Task::zfs("destroy").arg("-r"), name),
            Self::Mounts(path) => mounts::hide(path),
            Self::Received { dataset, snapshot, base } => go_back(dataset, snapshot, base),
            Self::Snapshot(name) => clear(Task::zfs("destroy").args(["-d", "-r"]), name),
        }
    }
}

/// A change in progress. Dropped before its end, it is undone.
#[derive(Debug)]
#[must_use]
pub(super) struct Undertaking {
    path: PathBuf,
    lock: File,
    leftovers: Vec<Leftover>,
    ended: bool,
}

impl Undertaking {
    /// Writes down what would be left; in the order in which it is cleared away.
    pub(super) fn begin(directory: &Path, leftovers: Vec<Leftover>) -> Result<Self, StoreError> {
        let _gate = gate(directory)?;
        let path = directory.join(Uuid::new_v4().to_string());
        let lock = write(&path, &leftovers)?;
        Ok(Self { path, lock, leftovers, ended: false })
    }

    /// Exchanges what would be left, at one instant: what was to be undone is now to be completed.
    pub(super) fn turn(&mut self, leftovers: Vec<Leftover>) -> Result<(), StoreError> {
        let directory = self.path.parent().unwrap_or(&self.path);
        let _gate = gate(directory)?;
        self.lock = write(&self.path, &leftovers)?;
        self.leftovers = leftovers;
        Ok(())
    }

    /// Everything was made, and stays.
    pub(super) fn end(mut self) {
        self.ended = true;
        self.forget();
    }

    fn forget(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot be removed");
        }
    }
}

impl Drop for Undertaking {
    fn drop(&mut self) {
        // What cannot be cleared away now is cleared away by the next command.
        if !self.ended && all(&self.leftovers) {
            self.forget();
        }
    }
}

/// Writes down what would be left. Under its own name it is whole, and locked: half a line could name
/// another data set. The caller has the gate.
fn write(path: &Path, leftovers: &[Leftover]) -> Result<File, StoreError> {
    let new = path.with_extension("new");
    let write = || -> io::Result<File> {
        let mut file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&new)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let text: String = leftovers.iter().map(Leftover::line).collect();
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        Ok(file)
    };
    write().map_err(at("write", path))
}

/// Clears away what killed commands left; whether there was anything.
pub(super) fn sweep(directory: &Path) -> Result<bool, StoreError> {
    let _gate = gate(directory)?;
    let mut found = false;
    for entry in fs::read_dir(directory).map_err(at("list", directory))? {
        let path = entry.map_err(at("list", directory))?.path();
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(at("open", &path)(error)),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => continue,
            Err(error) => return Err(at("lock", &path)(error)),
        }
        found = true;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(at("read", &path))?;
        // Nothing was begun by a process that was killed before it had written everything.
        let whole = path.extension().is_none();
        let leftovers: Vec<Leftover> = text.lines().filter_map(Leftover::parse).collect();
        if !whole || all(&leftovers) {
            fs::remove_file(&path).map_err(at("remove", &path))?;
        }
    }
    Ok(found)
}

/// Refuses a data set of which a stream has come in part: with the next command it is as it was before.
pub(super) fn refuse_half(directory: &Path, root: &str) -> Result<(), StoreError> {
    for entry in fs::read_dir(directory).map_err(at("list", directory))? {
        let path = entry.map_err(at("list", directory))?.path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // It has come to its end meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(at("read", &path)(error)),
        };
        for leftover in text.lines().filter_map(Leftover::parse) {
            if let Leftover::Received { dataset, snapshot, base } = leftover
                && dataset == root
            {
                return Err(half(&dataset, &snapshot, &base));
            }
        }
    }
    Ok(())
}

fn half(dataset: &str, snapshot: &str, base: &str) -> StoreError {
    let name = dataset.rsplit('/').next().unwrap_or(dataset);
    let why = format!(
        "what received it did not come to its end. The next command undoes what came, unless something was \
         changed since: `netbe rollback -r {name}@{base}` does then"
    );
    StoreError::Away { place: format!("all of {name}@{snapshot}"), why }
}

/// Keeps other commands from beginning something and from sweeping; free again when dropped.
fn gate(directory: &Path) -> Result<File, StoreError> {
    let gate = File::open(directory).map_err(at("open", directory))?;
    flock(&gate, FlockOperation::LockExclusive).map_err(at("lock", directory))?;
    Ok(gate)
}

/// Clears all of these away; false if something stays.
fn all(leftovers: &[Leftover]) -> bool {
    let mut done = true;
    for leftover in leftovers {
        if let Err(error) = leftover.clear() {
            tracing::warn!(?leftover, %error, "is left by a command that did not come to its end");
            done = false;
        }
    }
    done
}

/// Runs what takes something away that may be gone already.
pub(super) fn clear(task: Task, name: &str) -> Result<(), StoreError> {
    match task.arg(name).run() {
        Err(Failure { refusal: Refusal::Missing, .. }) => gone(name),
        Err(failure) => Err(super::told(failure, "clear away")),
        Ok(_silence) => Ok(()),
    }
}

/// What is not there is gone, unless it is its pool that is not there.
fn gone(name: &str) -> Result<(), StoreError> {
    Pool::look(listing::pool(name)).map(drop)
}

/// Undoes what came of a stream that goes on from `base`.
fn go_back(dataset: &str, snapshot: &str, base: &str) -> Result<(), StoreError> {
    let told = |failure| super::told(failure, "clear away");
    let rows = match snapshots(dataset, Depth::All) {
        Err(Failure { refusal: Refusal::Missing, .. }) => return gone(dataset),
        rows => rows.map_err(told)?,
    };
    let has = |dataset: &str, name: &str| {
        rows.iter().any(|row| row.dataset == dataset && row.snapshot == name)
    };
    let sets = datasets(dataset).map_err(told)?;
    let came: Vec<&DataSet> = sets.iter().filter(|set| has(&set.name, snapshot)).collect();
    // What somebody has made of it since would be gone too.
    let changed = |set: &&DataSet| {
        let newest = rows.iter().rfind(|row| row.dataset == set.name);
        set.written > 0 || newest.is_some_and(|row| row.snapshot != snapshot)
    };
    if came.iter().any(changed) {
        return Err(half(dataset, snapshot, base));
    }
    let pool = listing::pool(dataset);
    for set in came.into_iter().rev() {
        if has(&set.name, base) {
            let newer = [format!("{}@{snapshot}", set.name)];
            program::rollback(pool, &newer, &[&set.name]).map_err(told)?;
        } else {
            clear(Task::zfs("destroy").arg("-r"), &set.name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    fn leftovers() -> Vec<Leftover> {
        vec![
            Leftover::Mounts("/var/lib/a b".into()),
            Leftover::Dataset("tank/be/.work-1".into()),
            Leftover::Received {
                dataset: "tank/be/my head".into(),
                snapshot: "tuesday".into(),
                base: "monday".into(),
            },
            Leftover::Snapshot("tank/be/a@x".into()),
        ]
    }

    #[test]
    fn what_is_written_down_is_read_back() {
        let text: String = leftovers().iter().map(Leftover::line).collect();
        let read: Vec<Leftover> = text.lines().filter_map(Leftover::parse).collect();
        assert_eq!(read, leftovers());
    }

    #[test]
    fn what_a_living_process_does_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let work = Undertaking::begin(directory.path(), Vec::new()).unwrap();
        sweep(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        work.end();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_came_in_part_is_refused_until_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let work = Undertaking::begin(directory.path(), leftovers()).unwrap();
        refuse_half(directory.path(), "tank/be/my").unwrap();
        let refused = refuse_half(directory.path(), "tank/be/my head").unwrap_err().to_string();
        assert!(refused.starts_with("all of my head@tuesday is not there: "), "{refused}");
        assert!(refused.contains("`netbe rollback -r my head@monday`"), "{refused}");
        work.end();
        refuse_half(directory.path(), "tank/be/my head").unwrap();
    }

    #[test]
    fn what_is_turned_is_kept_by_its_process() {
        let directory = tempfile::tempdir().unwrap();
        let mut work = Undertaking::begin(directory.path(), vec![leftovers()[1].clone()]).unwrap();
        work.turn(vec![leftovers()[3].clone()]).unwrap();
        // Whoever sweeps finds it locked still.
        sweep(directory.path()).unwrap();
        assert_eq!(fs::read_to_string(&work.path).unwrap(), leftovers()[3].line());
        work.end();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dead_process_had_not_begun_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("x.new"), "dataset\ttank/be").unwrap();
        fs::write(directory.path().join("y"), "").unwrap();
        sweep(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
