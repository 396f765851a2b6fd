//! What a store can refuse, in words for the person who asked.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::thin::ThinError;
use crate::tree::MAX_DEPTH;
use crate::{EnvironmentName, MetadataError, Point, SettingError, SnapshotName, StreamError};

/// Why a store did not do what it was asked to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What it is made of is not there just now.
    #[error("{place} is not there: {why}")]
    Away {
        /// The pool, data set or path.
        place: String,
        /// What about it, and what to do.
        why: String,
    },
    /// Its metadata file says something else than netbe writes.
    #[error("{path:?} cannot be read: {error}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: MetadataError,
    },
    /// Another command works on it, or another program has files open in it.
    #[error("{what} is in use{}: wait until that has ended, then try again", by(*holder))]
    Busy {
        /// The environment, snapshot or place.
        what: String,
        /// The process that has it, if that is known.
        holder: Option<u32>,
    },
    /// Its tree is nested too deeply to be copied without running out of descriptors.
    #[error("{0:?} is more than {max} directories deep: remove what is below it", max = MAX_DEPTH)]
    Deep(PathBuf),
    /// Others cannot be without it.
    #[error("{what} is needed by {}: promote or destroy that first", list(names))]
    Dependants {
        /// The environment or snapshot.
        what: String,
        /// Who depends on it.
        names: Vec<EnvironmentName>,
    },
    /// There is one of that name.
    #[error("{0} exists already: choose another name, or destroy it first")]
    Exists(EnvironmentName),
    /// The directory holds something else than a store.
    #[error("{0:?} is neither a store nor an empty directory: name another one")]
    Foreign(PathBuf),
    /// There is no room for it; nothing was changed.
    #[error("there is no room for {what}: make room or raise the quota, then try again")]
    Full {
        /// The environment or snapshot.
        what: String,
    },
    /// It is being made or filled, or an earlier release was killed at that.
    #[error(
        "{0} is not complete: a command creates or installs it, or was killed: wait, or destroy it"
    )]
    Half(EnvironmentName),
    /// The system refused.
    #[error("cannot {action} {path:?}: {}", reason(error))]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is encrypted, and its key is not loaded.
    #[error("{dataset} is locked: run `zfs load-key {load}`")]
    Key {
        /// The data set.
        dataset: String,
        /// What zfs-load-key(8) is to be told: the data set that has the key, or `-a`.
        load: String,
    },
    /// The receiver has data sets that the sender has no more.
    #[error(
        "the sender no longer has the data set {}: receive with -F, which destroys it here, or under a new \
         name",
        datasets.join(", ")
    )]
    Lacking {
        /// The environment.
        name: EnvironmentName,
        /// The data sets, by their names here.
        datasets: Vec<String>,
    },
    /// There is no store.
    #[error(
        "there is no store at {0:?}: `netbe create` makes one, or name another one with --store"
    )]
    Missing(PathBuf),
    /// It was changed since the snapshot that a stream goes on from.
    #[error(
        "the boot environment was changed since {0}: roll it back to {0} first, or receive under a new name"
    )]
    Modified(Point),
    /// It is mounted elsewhere.
    #[error("{point} is mounted on {at:?}: run `netbe unmount {}` first", point.environment)]
    Mounted {
        /// The environment or snapshot.
        point: Point,
        /// Where.
        at: PathBuf,
    },
    /// Something is mounted there, or lies there.
    #[error("{0:?} is not an empty directory: name an empty one on which nothing is mounted")]
    MountTarget(PathBuf),
    /// The store takes no such name.
    #[error("{name:?} cannot be a name here: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What the store takes.
        reason: &'static str,
    },
    /// Snapshots were made since.
    #[error("{point} is not the newest snapshot: -r destroys the newer ones: {}", list(snapshots))]
    Newer {
        /// The snapshot.
        point: Point,
        /// Those made since, oldest first.
        snapshots: Vec<SnapshotName>,
    },
    /// There is none of that name.
    #[error("there is no boot environment {0}: `netbe list` shows all")]
    NoEnvironment(EnvironmentName),
    /// It is on another file system.
    #[error("{0:?} is not on btrfs: name a directory on btrfs, or write dir:{path} for plain directories", path = .0.display())]
    NotBtrfs(PathBuf),
    /// It is not a clone, or what it was cloned from is gone.
    #[error("{0} depends on no other boot environment: there is nothing to promote")]
    NoOrigin(EnvironmentName),
    /// The environment has no such data set.
    #[error("{name} has no data set {dataset:?}: `netbe list -j` shows those that it has")]
    NoDataset {
        /// The environment.
        name: EnvironmentName,
        /// The data set.
        dataset: String,
    },
    /// The environment has no such snapshot.
    #[error("there is no snapshot {0}: `netbe list -s` shows all")]
    NoSnapshot(Point),
    /// What an environment was before it was filled is nowhere any more.
    #[error(
        "the snapshot {0}, which held its earlier state, is gone: destroy the boot environment"
    )]
    Lost(Point),
    /// Nothing is new in it since a snapshot that is not older.
    #[error("{base} is not older than {point}: name an older snapshot with -i")]
    NotOlder {
        /// What was to be sent.
        point: Point,
        /// What it was to go on from.
        base: SnapshotName,
    },
    /// It is mounted nowhere, or not there.
    #[error("{0} is not mounted{at}", at = .1.as_ref().map_or_else(String::new, |at| format!(" on {at:?}")))]
    NotMounted(EnvironmentName, Option<PathBuf>),
    /// A file in its tree stands in the way.
    #[error("{path:?} {obstacle}")]
    Obstacle {
        /// The file.
        path: PathBuf,
        /// What is about it.
        obstacle: Obstacle,
    },
    /// Users of this host could reach into the boot environments, setuid programs and all.
    #[error("other users may enter {0:?}: run `chmod 0700` on it")]
    Open(PathBuf),
    /// What it is made of is there, but answers nothing just now: what is open of it may stay open.
    #[error("{place} does not answer: {why}")]
    Stalled {
        /// The pool.
        place: String,
        /// What about it, and what to do.
        why: String,
    },
    /// A setting is not what it should be.
    #[error("{0}")]
    Setting(#[from] SettingError),
    /// The environment has a snapshot of that name.
    #[error("{0} exists already: choose another name, or destroy it first")]
    SnapshotExists(Point),
    /// What was to be received is no such stream, or not all of it came.
    #[error("{0}")]
    Stream(#[from] StreamError),
    /// This store, or the place that it is on, has no such property, or not with that value.
    #[error("{property} cannot be set here: {why}")]
    Property {
        /// The property.
        property: &'static str,
        /// Why, and what helps.
        why: String,
    },
    /// It cannot be split into a base and a skeleton, or is not one of them.
    #[error("{0}")]
    Thin(Box<ThinError>),
    /// A program that the store is made with failed.
    #[error("cannot {task}: {program}: {said}")]
    Tool {
        /// Its name.
        program: &'static str,
        /// What it was to do, as a verb with its object.
        task: String,
        /// What it said.
        said: String,
    },
    /// Two data sets of an environment have one place in it.
    #[error(
        "{first} and {second} have the same mount point: give one of them another (`zfs set mountpoint=…`), or \
         destroy it"
    )]
    Twice {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// A directory of that name is in the store without having been made by netbe.
    #[error("{0:?} has no metadata, so netbe did not create it: move it away")]
    Unknown(PathBuf),
    /// A verb that was killed left it half-way, and that could not be settled.
    #[error("{verb} of {name} is not complete: {why}; `netbe settle {name}` tries again")]
    Unsettled {
        /// The environment.
        name: EnvironmentName,
        /// What was done to it.
        verb: String,
        /// Why it is still so.
        why: String,
    },
    /// This kind of store cannot do it, or not on this system.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// What about a file keeps a tree from being copied or destroyed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Obstacle {
    /// It cannot be removed, by root neither.
    #[error("is immutable: clear its flags (chattr -i -a, chflags noschg), then try again")]
    Immutable,
    /// Another file system is mounted on it.
    #[error("is a mount point: unmount it, then try again")]
    MountPoint,
}

impl StoreError {
    /// Tells apart, in one place for all back ends, what the system says in the same words.
    pub(crate) fn explained(self, about: &str) -> Self {
        let Self::Io { action, path, error } = self else { return self };
        let number = error.raw_os_error().map(Errno::from_raw_os_error);
        if matches!(number, Some(Errno::NOSPC | Errno::DQUOT)) {
            return Self::Full { what: about.to_owned() };
        }
        if number == Some(Errno::BUSY) {
            return Self::Busy { what: path.display().to_string(), holder: None };
        }
        match error.downcast::<StreamError>() {
            Ok(error) => error.into(),
            Err(error) => Self::Io { action, path, error },
        }
    }
}

/// Names the action and the file that an error of the system is about.
pub(crate) fn at<E: Into<io::Error>>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> StoreError {
    move |error| StoreError::Io { action, path: path.to_owned(), error: error.into() }
}

/// Names the process that has something.
fn by(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" by process {pid}"))
}

fn list<T: ToString>(names: &[T]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The system's message without its number, and what helps where something usually does.
fn reason(error: &io::Error) -> String {
    use rustix::io::Errno;
    let advice = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS | Errno::PERM) => "permission denied: run it as root",
        Some(Errno::NOSPC) => "the file system is full: make room, then try again",
        Some(Errno::DQUOT) => "the quota is used up: make room, then try again",
        Some(Errno::ROFS) => "the file system is mounted read-only",
        Some(Errno::MFILE) => "too many open files: raise `ulimit -n`",
        Some(_) | None => return error.to_string(),
    };
    advice.to_owned()
}
