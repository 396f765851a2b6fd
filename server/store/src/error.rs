//! What a store can refuse, in words for the person who asked.

use std::io;
use std::path::{Path, PathBuf};

use crate::tree::MAX_DEPTH;
use crate::{EnvironmentName, MetadataError};

/// Why a store did not do what it was asked to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its metadata file says something else than netbe writes.
    #[error("{path:?} is not right: {error}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: MetadataError,
    },
    /// Another command works on it.
    #[error("{0} is being copied by another command: wait until that has ended")]
    Busy(EnvironmentName),
    /// Its tree is nested too deeply to be copied without running out of descriptors.
    #[error("{0:?} is more than {max} directories deep: remove what is below it", max = MAX_DEPTH)]
    Deep(PathBuf),
    /// There is one of that name.
    #[error("{0} exists already: choose another name, or destroy it first")]
    Exists(EnvironmentName),
    /// The directory holds something else than a store.
    #[error("{0:?} is neither a store nor an empty directory: name another one")]
    Foreign(PathBuf),
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
    /// There is no store.
    #[error(
        "there is no store at {0:?}: `netbe create` makes one, or say where it is with --store"
    )]
    Missing(PathBuf),
    /// There is none of that name.
    #[error("there is no boot environment {0}: `netbe list` shows those that there are")]
    NoEnvironment(EnvironmentName),
    /// A file in its tree stands in the way.
    #[error("{path:?} {obstacle}")]
    Obstacle {
        /// The file.
        path: PathBuf,
        /// What is about it.
        obstacle: Obstacle,
    },
    /// Users of this host could reach into the boot environments, setuid programs and all.
    #[error("others may enter {0:?}: run `chmod 0700` on it")]
    Open(PathBuf),
    /// A directory of that name is in the store without having been made by netbe.
    #[error("{0:?} has no metadata: move it away, netbe did not make it")]
    Unknown(PathBuf),
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

/// Names the action and the file that an error of the system is about.
pub(crate) fn at<E: Into<io::Error>>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> StoreError {
    move |error| StoreError::Io { action, path: path.to_owned(), error: error.into() }
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
