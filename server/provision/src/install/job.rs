//! Unpacking: what a command asks of its worker, and what that does.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use hostfs::Inside;
use serde::{Deserialize, Serialize};

use super::access::{self, Access, Entrance};
use super::archive::Unpacker;
use super::configure::configure;
use super::debian::Debian;
use super::kind::Kind;
use super::network::RESOLV_CONF;
use super::room::Room;
use super::sets::Set;
use super::{Dropped, InstallError};
use crate::progress::{self, Alone};
use crate::worker::{self, Request};

/// How a system is put into a root.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Options {
    /// Whether the files are written that a root over NFS needs, and identities reset.
    pub configure: bool,
    /// Whether file flags are kept.
    pub flags: bool,
    /// What lets an administrator in; written with what else is configured.
    pub access: Access,
}

/// What was done.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Installed {
    /// What became of configuration, a line for each file.
    pub configured: String,
    /// Who can log in.
    pub entrance: Entrance,
    /// What could not be kept, if anything was not.
    pub dropped: Option<Report>,
}

/// What could not be kept.
#[derive(Debug, Deserialize, Serialize)]
pub struct Report {
    /// A line for each kind.
    pub summary: String,
    /// A line for each file.
    pub record: String,
}

/// Unpacks archives one over the other into an empty root, in a worker.
pub fn unpack(root: &Inside, sets: &[Set], options: Options) -> Result<Installed, InstallError> {
    let bar = progress::is_shown();
    let archives = sets.iter().map(|set| Archive { path: shown(&set.path), bar }).collect();
    let files: Vec<_> = sets.iter().map(|set| set.file.as_fd()).collect();
    ask(Job { archives, of_host: false, options }, root, &files)?
}

/// Makes a Debian and unpacks it into an empty root, in a worker. `build_dir` is a path for a directory
/// of this purpose alone.
pub fn bootstrap(
    root: &Inside,
    debian: &Debian<'_>,
    build_dir: PathBuf,
    options: Options,
) -> Result<Installed, InstallError> {
    let mut bootstrap = debian.start(build_dir)?;
    let archives = vec![Archive { path: debian.suite.to_owned(), bar: false }];
    let job = Job { archives, of_host: true, options };
    let archive = bootstrap.archive();
    let files: Vec<_> = archive.iter().map(AsFd::as_fd).collect();
    let done = ask(job, root, &files);
    // The program is not to wait for a reader that there is not any more.
    drop(archive);
    match done? {
        // Why the archive is not whole, its maker tells.
        Err(cut @ InstallError::Cut(_)) => bootstrap.end().and(Err(cut)),
        Err(error) => Err(error),
        Ok(done) => bootstrap.end().map(|()| done),
    }
}

/// What a worker is to unpack.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Job {
    archives: Vec<Archive>,
    /// Whether `/etc/hostname` and `/etc/resolv.conf` are this host's: machines are told theirs.
    of_host: bool,
    options: Options,
}

#[derive(Debug, Deserialize, Serialize)]
struct Archive {
    /// For messages.
    path: String,
    /// Whether it is shown how far it is.
    bar: bool,
}

/// How unpacking ended.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Outcome {
    Done(Installed),
    /// This archive is cut off.
    Cut(String),
}

fn ask(
    job: Job,
    root: &Inside,
    files: &[BorrowedFd<'_>],
) -> Result<Result<Installed, InstallError>, InstallError> {
    let descriptors: Vec<_> = std::iter::once(root.as_fd()).chain(files.iter().copied()).collect();
    Ok(match worker::call(&Request::Install(job), &descriptors)?.0 {
        Outcome::Done(installed) => Ok(installed),
        Outcome::Cut(name) => Err(InstallError::Cut(name)),
    })
}

/// Does a job.
pub(crate) fn perform(root: &Inside, job: &Job, files: Vec<File>) -> Result<Outcome, InstallError> {
    match unpack_all(root, job, files) {
        Ok(installed) => Ok(Outcome::Done(installed)),
        Err(InstallError::Cut(name)) => Ok(Outcome::Cut(name)),
        Err(error) => Err(error),
    }
}

fn unpack_all(root: &Inside, job: &Job, files: Vec<File>) -> Result<Installed, InstallError> {
    let Job { archives, of_host, options } = job;
    let mut unpacker = Unpacker::new(root, Room::of(root));
    for (Archive { path, bar: is_shown }, file) in archives.iter().zip(files) {
        let path = Path::new(path);
        let source: Box<dyn Read> = if *is_shown {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Box::new(Alone::new(file, format!("unpack {name}")))
        } else {
            Box::new(file)
        };
        unpacker.unpack(source, path)?;
    }
    if *of_host {
        for path in [HOST_NAME, RESOLV_CONF] {
            let failed = |error| InstallError::Inside { archive: path.to_owned(), error };
            // A link was made by what is installed, as by systemd-resolved.
            if !root.is_link(path).map_err(failed)? {
                root.remove(path).map_err(failed)?;
            }
        }
    }
    let mut installed = Installed::default();
    unpacker.finish_directories()?;
    if options.configure {
        // Before flags are set: nothing could be written any more.
        installed.configured = configure(root, &options.access)?.summary();
    }
    installed.entrance = access::entrance(root, Kind::of(root));
    let dropped: Dropped = unpacker.finish(options.flags)?;
    if !dropped.is_empty() {
        let (summary, record) = (dropped.summary(), dropped.record());
        installed.dropped = Some(Report { summary, record });
    }
    Ok(installed)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

const HOST_NAME: &str = "/etc/hostname";
