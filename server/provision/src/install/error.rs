//! Why an installation does not come about, in words for the person who asked.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use hostfs::InsideError;
use rustix::io::Errno;
use store::{EnvironmentName, StoreError};

use crate::worker::WorkerError;

/// Why a boot environment was not filled. Unless it says otherwise, it is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// It is not for a known machine.
    #[error(
        "{0:?} is not an architecture: write amd64, i386, aarch64, armv7, powerpc64, powerpc64le, \
         riscv64, or MACHINE/ARCHITECTURE"
    )]
    Architecture(String),
    /// A signal asked for the end.
    #[error("interrupted: nothing was installed in {0}")]
    Interrupted(EnvironmentName),
    /// No signals can be heard.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// It would fill the store.
    #[error("{0} does not fit into the free space of the store: make room, then try again")]
    Room(String),
    /// An archive ends too early.
    #[error("{0} is cut off: fetch it again")]
    Cut(String),
    /// A file is no archive of a kind that is known, or its bytes are not what they were.
    #[error("{name} is not a tar archive, or is damaged: {said}")]
    Damaged {
        /// The archive.
        name: String,
        /// What the unpacker said, in one line.
        said: String,
    },
    /// A file is not the one that the list says.
    #[error(
        "{path:?} is not what the MANIFEST lists: its SHA-256 is {found} and not {listed}; nothing \
         was unpacked"
    )]
    Differs {
        /// The file.
        path: PathBuf,
        /// The sum that it has.
        found: String,
        /// The sum that it is to have.
        listed: String,
    },
    /// A program that fetches files failed.
    #[error("{url} cannot be fetched: {said}")]
    Fetch {
        /// The address.
        url: String,
        /// What it said.
        said: String,
    },
    /// A file in the boot environment could not be made.
    #[error("{archive}: {error}")]
    Inside {
        /// The archive that it is from.
        archive: String,
        /// What is about it.
        error: InsideError,
    },
    /// The host failed.
    #[error("{path:?}: {}", reason(error))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It failed, and what was unpacked is still there: nothing boots it, and the next installation
    /// takes it away.
    #[error("{why}; and the unpacked files could not be removed: {undo}")]
    Left {
        /// Why it failed.
        why: Box<Self>,
        /// Why the tree could not be put back.
        undo: Box<Self>,
    },
    /// The list of sets is not one.
    #[error("line {line} of the MANIFEST is wrong: {reason}")]
    Manifest {
        /// The line, from 1.
        line: usize,
        /// What about it.
        reason: &'static str,
    },
    /// A name in an archive would lead out.
    #[error("{archive}: {name:?} leads out of the root: do not trust this archive")]
    Name {
        /// The archive.
        archive: String,
        /// The name.
        name: PathBuf,
    },
    /// The program that makes a Debian failed.
    #[error("{program} failed ({status}): its messages above say why")]
    Bootstrap {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// Packages are to come from what is no address.
    #[error("{0:?} is not a mirror: write its address, as in https://deb.debian.org/debian")]
    Mirror(String),
    /// FreeBSD's passwords are in databases that only its own programs write.
    #[error(
        "the system is FreeBSD, and only its own pwd_mkdb(8) can set a password: give --ssh-key, or set the \
         password on the machine"
    )]
    FreeBsdPassword,
    /// Nobody would answer who comes with a key.
    #[error(
        "the system has no ssh server (/usr/sbin/sshd), so nobody can log in with --ssh-key: add a server \
         to the archive, or give --root-password"
    )]
    NoSshServer,
    /// Nobody knows where it keeps who logs in.
    #[error(
        "it contains no known system (no kernel, /etc/shadow or /etc/master.passwd): leave out --ssh-key, \
         --root-password and --hostname"
    )]
    NoSystem,
    /// There is no place for a password.
    #[error("the system has no line for root in /etc/shadow, so root cannot get a password")]
    NoShadow,
    /// No program to fetch with.
    #[error(
        "neither curl nor fetch is installed: install the package curl, or give a directory with -p"
    )]
    NoFetcher,
    /// No program to make a Debian with.
    #[error(
        "neither mmdebstrap nor debootstrap is installed: install the package mmdebstrap, or give an \
         archive of a root with -o tar"
    )]
    NoBootstrap,
    /// There are no sets, or no list of them.
    #[error(
        "{path:?} has no {known}: name the directory that holds the sets, with their MANIFEST, or name a \
         MANIFEST with --manifest"
    )]
    NoSets {
        /// The directory.
        path: PathBuf,
        /// The file that would have told them.
        known: String,
    },
    /// There is something in the environment.
    #[error("{0} is not empty: create another one, or name one that does not exist with -l LAYOUT")]
    NotEmpty(EnvironmentName),
    /// A shell could not be told of it.
    #[error("{0:?} cannot be run: give the script another name")]
    Script(String),
    /// The store refused.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The process that unpacks failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The list has no such set.
    #[error("the MANIFEST lists no {file}: it lists {listed}")]
    Unlisted {
        /// The set's file.
        file: String,
        /// Those that there are.
        listed: String,
    },
    /// Something that is to name a release, an architecture or a package does not.
    #[error(
        "{0:?} is not the name of a release, an architecture or a package: write letters, digits, . + -"
    )]
    Word(String),
}

/// Names the file that an error of the system is about.
pub(super) fn on<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> InstallError {
    move |error| InstallError::Io { path: path.to_owned(), error: error.into() }
}

/// What is wrong with an archive, of which unpackers show bytes; the host's own failures stay what they
/// are.
pub(super) fn of_archive(path: &Path, name: &str) -> impl Fn(io::Error) -> InstallError {
    move |error| {
        if error.kind() == io::ErrorKind::StorageFull && error.raw_os_error().is_none() {
            return InstallError::Room(name.to_owned());
        }
        if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Unsupported {
            return on(path)(error);
        }
        let said = error.to_string();
        let said = said.split(char::is_control).next().unwrap_or_default().to_owned();
        InstallError::Damaged { name: name.to_owned(), said }
    }
}

/// The system's message, and what helps where something usually does.
fn reason(error: &io::Error) -> String {
    let advice = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => "there is no such file",
        Some(Errno::NOSPC | Errno::DQUOT) => {
            "there is no room: make room or raise the quota, then try again"
        }
        Some(Errno::ACCESS | Errno::PERM) => "permission denied: run it as root",
        Some(_) | None => return error.to_string(),
    };
    advice.to_owned()
}
