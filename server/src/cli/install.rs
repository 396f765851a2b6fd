//! The verb that puts something into a boot environment.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hostfs::Inside;
use store::{EnvironmentName, Layout, StoreError};

use super::guard::Withheld;
use super::initramfs::RecipeOptions;
use super::{Failure, Reply, Site};
use crate::install::archive::Unpacker;
use crate::install::fill::fill;
use crate::install::sets::{self, Set};
use crate::install::{Branch, InstallError, Lost, Place};

/// Fill an empty boot environment with a system, or put an initial RAM disk of netbe's into a Linux one.
///
/// FreeBSD's distribution sets (-o FreeBSD) come from a directory (-p) or a mirror (-u), and are verified
/// before anything of them is unpacked. Any system may come as an archive of its root: -o tar -p FILE.
///
/// The RAM disk of --initramfs lies at /boot/initrd-netbe-RELEASE.img; remove that file, and the
/// environment's own is used again. Machines that run notice nothing.
#[derive(Args, Debug)]
pub(crate) struct Install {
    /// The system to install.
    #[arg(short, long = "os", value_name = "SYSTEM", value_enum, ignore_case = true)]
    os: Option<System>,
    /// A directory with distribution sets or of a mirror's form; for -o tar, an archive.
    #[arg(short, long, value_name = "PATH", requires = "os")]
    path: Option<PathBuf>,
    /// A mirror.
    #[arg(short, long, value_name = "URL", requires = "os", conflicts_with = "path")]
    url: Option<String>,
    /// The architecture.
    #[arg(short, long, value_name = "ARCH", default_value = "amd64")]
    arch: String,
    /// The branch of a mirror.
    #[arg(short, long, value_enum, default_value_t)]
    branch: Branch,
    /// The release, as 14.3.
    #[arg(short, long, value_name = "VERSION")]
    release: Option<String>,
    /// A distribution set; may be repeated [default: base and kernel].
    #[arg(long = "set", value_name = "SET")]
    sets: Vec<String>,
    /// Believe this list of sets instead of the one beside them.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Create the boot environment with this layout: flat, freebsd or linux.
    #[arg(short, long, value_name = "LAYOUT", requires = "os")]
    layout: Option<Layout>,
    /// Leave out file flags such as schg: machines cannot clear them over NFS.
    #[arg(long)]
    no_flags: bool,
    /// Make an initial RAM disk of what the environment has.
    #[arg(long, required_unless_present = "os")]
    initramfs: bool,
    #[command(flatten)]
    recipe: RecipeOptions,
    /// The boot environment.
    name: EnvironmentName,
}

/// What can be installed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum System {
    #[value(name = "FreeBSD")]
    FreeBsd,
    #[value(name = "tar")]
    Tar,
}

impl Install {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let mut text = String::new();
        if let Some(system) = self.os {
            text = self.system(system, site)?;
        }
        if self.initramfs {
            self.ram_disk(site)?;
        }
        Ok(Reply::text(text))
    }

    /// Fills the environment; says what could not be kept.
    fn system(&self, system: System, site: &Site) -> Result<String, Failure> {
        let archives = match system {
            System::FreeBsd => self.distribution(site)?,
            System::Tar => vec![self.archive()?],
        };
        let store = if self.layout.is_some() { site.establish()? } else { site.open()? };
        // A server that runs lets go of it, and takes up what is there in the end.
        let withheld = match store.get(&self.name) {
            Err(StoreError::NoEnvironment(_)) => None,
            _ => Some(Withheld::begin(site, &self.name, "install", false)?),
        };
        let mut lost = Lost::default();
        fill(&store, &self.name, self.layout, |inside| {
            let mut unpacker = Unpacker::new(inside);
            for archive in &archives {
                unpacker.unpack(archive.shown(), &archive.path)?;
            }
            lost = unpacker.finish(!self.no_flags)?;
            Ok(self.settings(system))
        })?;
        withheld.map_or_else(|| site.reload(), Withheld::end)?;
        if lost.is_empty() {
            return Ok(String::new());
        }
        let record = site.state().join(LOST).join(store.get(&self.name)?.uuid.to_string());
        let kept = record.parent().map_or(Ok(()), std::fs::create_dir_all);
        kept.and_then(|()| std::fs::write(&record, lost.record())).map_err(|error| {
            Failure::could_not(format_args!(
                "it is installed, but {} cannot be written: {error}",
                record.display()
            ))
        })?;
        Ok(format!("{}all of it is listed in {}\n", lost.summary(), record.display()))
    }

    /// The sets, verified.
    fn distribution(&self, site: &Site) -> Result<Vec<Set>, Failure> {
        let release = self.release.as_deref();
        let place = match (&self.path, &self.url) {
            (Some(path), _) => {
                Place::directory(path.clone(), &self.arch, self.branch, release.unwrap_or("?"))?
            }
            (None, Some(url)) => {
                let release = release.ok_or_else(|| {
                    Failure::could_not("say which release with -r, as in -r 14.3")
                })?;
                Place::mirror(url, &self.arch, self.branch, release)?
            }
            (None, None) => {
                return Err(Failure::could_not(format_args!(
                    "say where the sets are: -p DIRECTORY, or -u {MIRROR}"
                )));
            }
        };
        let usual = || vec!["base".to_owned(), "kernel".to_owned()];
        let names = if self.sets.is_empty() { usual() } else { self.sets.clone() };
        let cache = site.open_state()?.path().join(CACHE);
        Ok(sets::gather(&place, self.manifest.as_deref(), &names, &cache)?)
    }

    fn archive(&self) -> Result<Set, Failure> {
        let path = self.path.clone().ok_or_else(|| {
            Failure::could_not("say which archive with -p, as in -p root.tar.zst")
        })?;
        Ok(Set::open(path)?)
    }

    fn settings(&self, system: System) -> Vec<(&'static str, String)> {
        let mut settings = Vec::new();
        if system == System::FreeBsd {
            settings.push(("os", "FreeBSD".to_owned()));
            settings.push(("arch", self.arch.clone()));
        }
        settings.extend(self.release.clone().map(|release| ("release", release)));
        settings
    }

    fn ram_disk(&self, site: &Site) -> Result<(), Failure> {
        let inside = Inside::from_fd(site.open()?.open_root(&self.name)?);
        let initramfs = self.recipe.gather(&inside)?;
        let place = initramfs.place();
        let written = inside.write_atomic(&place, &initramfs.pack()?, 0o644);
        written.map_err(|error| {
            Failure::could_not(format_args!("{}: {error}: nothing was changed", self.name))
        })
    }
}

impl From<InstallError> for Failure {
    fn from(error: InstallError) -> Self {
        match error {
            InstallError::Store(error) => error.into(),
            InstallError::NotEmpty(_) => Self::no(error),
            InstallError::Architecture(_)
            | InstallError::Cut(_)
            | InstallError::Differs { .. }
            | InstallError::Fetch { .. }
            | InstallError::Inside { .. }
            | InstallError::Io { .. }
            | InstallError::Manifest { .. }
            | InstallError::Name { .. }
            | InstallError::NoFetcher
            | InstallError::NoManifest(_)
            | InstallError::Unlisted { .. } => Self::could_not(error),
        }
    }
}

/// Where a release of FreeBSD is, for messages.
const MIRROR: &str = "https://download.freebsd.org/ftp -r 14.3";
/// The folder of the state directory for what was fetched.
const CACHE: &str = "cache";
/// The folder of the state directory for lists of what could not be kept.
const LOST: &str = "lost";
