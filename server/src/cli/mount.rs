//! Verbs that show a boot environment's tree elsewhere on this host.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;
use store::{EnvironmentName, InUse, Point};

use super::{Dry, Failure, Reply, Site};

/// Mount a boot environment or a snapshot on an empty directory of this host. Without a directory,
/// netbe creates one and prints its path.
///
/// It is mounted nodev and nosuid, a snapshot also read-only.
#[derive(Args, Debug)]
pub(crate) struct Mount {
    #[command(flatten)]
    dry: Dry,
    /// The boot environment or snapshot.
    #[arg(value_name = "BE[@SNAP]")]
    point: Point,
    /// The directory.
    directory: Option<PathBuf>,
}

impl Mount {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let directory = self.directory.as_deref().map(whole).transpose()?;
        if self.dry.is_dry() {
            store.would_mount(&self.point, directory.as_deref())?;
        }
        let at =
            directory.as_ref().map_or_else(|| "a new directory".into(), |at| at.to_string_lossy());
        if let Some(told) = self.dry.instead(site, format_args!("mount {} at {at}", self.point)) {
            return Ok(told);
        }
        if let Some(directory) = &directory {
            store.mount(&self.point, directory)?;
            return Ok(Reply::done());
        }
        let new = temporary(&self.point)?;
        if let Err(error) = store.mount(&self.point, &new) {
            clear(&new);
            return Err(error.into());
        }
        Ok(Reply::text(format!("{}\n", new.display())))
    }
}

/// Makes an empty directory in one that only its owner may enter: files of a guest that are open to
/// everybody there are not for everybody here.
fn temporary(point: &Point) -> Result<PathBuf, Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::could_not(format_args!("cannot make a directory to mount {point} on: {error}"))
    };
    let place = std::env::temp_dir().canonicalize().map_err(|error| cannot(&error))?;
    let random = getrandom::u64().map_err(|error| cannot(&error))?;
    let place = place.join(format!("{PREFIX}{random:016x}"));
    let mut private = DirBuilder::new();
    private.mode(0o700);
    private.create(&place).map_err(|error| cannot(&error))?;
    let new = place.join(point.to_string());
    private.create(&new).map_err(|error| cannot(&error))?;
    Ok(new)
}

/// Removes what [`temporary`] made, if that is what it is. Nothing but empty directories goes.
fn clear(directory: &Path) {
    let Some(place) = directory.parent() else { return };
    let ours = place.file_name().is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()));
    if ours && std::env::temp_dir().canonicalize().ok().as_deref() == place.parent() {
        // A directory that stays is in nobody's way.
        let _ = std::fs::remove_dir(directory).and_then(|()| std::fs::remove_dir(place));
    }
}

/// Unmount what `netbe mount` mounted.
#[derive(Args, Debug)]
pub(crate) struct Unmount {
    /// Unmount even while programs have files open there. On Linux they keep those files until they
    /// close them; on FreeBSD they lose them.
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    dry: Dry,
    /// The boot environment; its snapshots are unmounted too.
    name: EnvironmentName,
    /// Unmount only this directory.
    directory: Option<PathBuf>,
}

impl Unmount {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let at = self.directory.as_deref().map(whole).transpose()?;
        let in_use = if self.force { InUse::Detach } else { InUse::Refuse };
        let store = site.open()?;
        let mounted = store.would_unmount(&self.name, at.as_deref())?;
        let deeds = mounted.iter().map(|at| format!("unmount {} at {}", self.name, at.display()));
        if let Some(told) = self.dry.instead_of(site, &deeds.collect::<Vec<_>>()) {
            return Ok(told);
        }
        let unmounted = store.unmount(&self.name, at.as_deref(), in_use)?;
        unmounted.iter().for_each(|directory| clear(directory));
        Ok(Reply::done())
    }
}

/// The path by which the system knows a directory.
fn whole(directory: &Path) -> Result<PathBuf, Failure> {
    directory.canonicalize().map_err(|error| {
        let shown = directory.display();
        if error.kind() == ErrorKind::NotFound {
            return Failure::could_not(format_args!(
                "there is no directory {shown}: name an existing one"
            ));
        }
        Failure::could_not(format_args!("cannot open {shown}: {error}"))
    })
}

/// How the names of directories begin that are made to mount something on.
const PREFIX: &str = "netbe-mount-";
