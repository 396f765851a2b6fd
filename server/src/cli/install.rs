//! The verb that puts something into a boot environment.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hostfs::Inside;
use provision::install::fill::{fill, would_fill};
use provision::install::sets::{self, MANIFEST, Set};
use provision::install::{self, Branch, Debian, InstallError, Installed, Options, SetSource};
use store::{EnvironmentName, Layout, Store, StoreError};

use super::access::{AccessOptions, is_of_host, way_in};
use super::guard::{self, Hold, Verb};
use super::initramfs::RecipeOptions;
use super::{Dry, Failure, Reply, Site};

/// Install a system into an empty boot environment, or netbe's initial RAM disk into a Linux one.
///
/// FreeBSD's distribution sets (-o FreeBSD) come from a directory (-p) or a mirror (-u); netbe
/// verifies all before it unpacks any. mmdebstrap or, if it is not installed, debootstrap installs
/// Debian and Ubuntu (-o Debian -r bookworm). Any system can come as an archive of its root: -o tar
/// -p FILE.
///
/// With --ssh-key, --root-password or --root-password-file root can log in to the installed system;
/// without all three, the last line of output says how to get in. Every machine makes ssh host keys
/// of its own.
///
/// --initramfs writes /boot/initrd-netbe-RELEASE.img; remove that file to use the environment's own
/// RAM disk again. Running machines are not affected.
#[derive(Args, Debug)]
pub(crate) struct Install {
    /// The system to install.
    #[arg(short, long = "os", value_name = "SYSTEM", value_enum, ignore_case = true)]
    os: Option<System>,
    /// A directory with distribution sets, or laid out as a mirror; for -o tar, an archive.
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
    /// The release, as in 14.3 or bookworm.
    #[arg(short, long, value_name = "VERSION")]
    release: Option<String>,
    /// A distribution set; may be repeated [default: base and kernel].
    #[arg(long = "set", value_name = "SET")]
    sets: Vec<String>,
    /// Use this MANIFEST instead of the one beside the sets.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Create the boot environment with this layout: flat, freebsd or linux.
    #[arg(short, long, value_name = "LAYOUT", requires = "os")]
    layout: Option<Layout>,
    /// Leave out file flags such as schg: machines cannot clear them over NFS.
    #[arg(long)]
    no_flags: bool,
    /// A further Debian package; may be repeated.
    #[arg(long = "package", value_name = "PACKAGE")]
    packages: Vec<String>,
    /// The package of Debian's kernel [default: linux-image-ARCH].
    #[arg(long, value_name = "PACKAGE")]
    kernel_package: Option<String>,
    /// Write no fstab, loader.conf or rc.conf, and keep hostid and machine-id.
    #[arg(long)]
    no_configure: bool,
    /// Build an initial RAM disk from the environment's kernel modules.
    #[arg(long)]
    initramfs: bool,
    #[command(flatten)]
    access: AccessOptions,
    #[command(flatten)]
    recipe: RecipeOptions,
    #[command(flatten)]
    dry: Dry,
    /// The boot environment.
    name: EnvironmentName,
}

/// What can be installed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum System {
    #[value(name = "Debian")]
    Debian,
    #[value(name = "FreeBSD")]
    FreeBsd,
    #[value(name = "tar")]
    Tar,
    #[value(name = "Ubuntu")]
    Ubuntu,
}

impl Install {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        if self.os.is_none() && !self.initramfs {
            return Err(Failure::could_not(
                "name the system to install with -o, as in -o FreeBSD, or --initramfs",
            ));
        }
        let is_half = self.dry.is_dry() && self.foresee(site)?;
        if let Some(told) = self.dry.instead_of(site, &self.deeds(is_half)) {
            return Ok(told);
        }
        let mut text = String::new();
        if let Some(system) = self.os {
            text = self.system(system, site)?;
        }
        if self.initramfs {
            self.ram_disk(site)?;
        }
        Ok(Reply::text(text))
    }

    /// What would be done, in words; `is_half` is whether an earlier installation left something.
    fn deeds(&self, is_half: bool) -> Vec<String> {
        let name = &self.name;
        let clear =
            is_half.then(|| format!("remove what an interrupted installation left in {name}"));
        let make = self.layout.filter(|_| self.os.is_some());
        let make = make.map(|layout| format!("create {name} with the layout {}", layout.as_str()));
        let fill = self.os.as_ref().map(|system| {
            let value = system.to_possible_value();
            let system = value.as_ref().map_or("tar", |value| value.get_name());
            format!("fill {name} with {system}")
        });
        let disk = format!("write an initial RAM disk into {name}");
        clear.into_iter().chain(make).chain(fill).chain(self.initramfs.then_some(disk)).collect()
    }

    /// Refuses what would be refused, as far as that is known without fetching or writing anything. Says
    /// whether an earlier installation of it was interrupted.
    fn foresee(&self, site: &Site) -> Result<bool, Failure> {
        let Some(system) = self.os else {
            // It is made as always, and not written.
            let inside = Inside::from_fd(site.open()?.open_root(&self.name)?);
            return self.recipe.make(&inside).map(|_| false);
        };
        self.refuse(system)?;
        self.access.keys()?;
        self.access.password_file()?;
        let (script, packages) = (self.access.script()?, self.all_packages());
        match system {
            System::FreeBsd => self.source(&self.set_names()).map(drop)?,
            System::Tar => self.archive().map(drop)?,
            System::Debian | System::Ubuntu => {
                let release = self.release_of(system)?;
                let debian =
                    release.as_ref().map(|of| self.debian(of, &packages, script.as_deref()));
                debian.as_ref().map_or(Ok(()), Debian::refuse)?;
            }
        }
        self.check(site)?;
        let known = Store::open(&site.location(), site.state()).and_then(|s| s.get(&self.name));
        Ok(known.is_ok_and(|known| known.is_being_filled()))
    }

    /// Refuses what can be seen of the environment.
    fn check(&self, site: &Site) -> Result<(), Failure> {
        if self.layout.is_some() {
            return match Store::open(&site.location(), site.state()) {
                Ok(store) => Ok(store.would_create(&self.name)?),
                Err(StoreError::Missing(_)) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
        let store = site.open()?;
        store.get(&self.name)?;
        guard::refuse_living(site, &self.name, Verb::Install)?;
        Ok(would_fill(&store, &self.name)?)
    }

    /// Fills the environment; says what could not be kept.
    fn system(&self, system: System, site: &Site) -> Result<String, Failure> {
        self.refuse(system)?;
        let keys = self.access.keys()?;
        let script = self.access.script()?;
        let archives = match system {
            System::FreeBsd => self.distribution(site)?,
            System::Tar => vec![self.archive()?],
            System::Debian | System::Ubuntu => Vec::new(),
        };
        let (release, packages) = (self.release_of(system)?, self.all_packages());
        let debian = release.as_ref().map(|of| self.debian(of, &packages, script.as_deref()));
        debian.as_ref().map_or(Ok(()), Debian::refuse)?;
        let store = if self.layout.is_some() { site.establish()? } else { site.open()? };
        // Before the server is asked: what is being filled is not to be served again meanwhile.
        let hold = store.hold(&self.name)?;
        store.recover(Some(&self.name))?;
        self.check(site)?;
        let access = self.access.read(keys)?;
        // A server that runs lets go of it, and takes up what is there in the end.
        let held = match store.get(&self.name) {
            Err(StoreError::NoEnvironment(_)) => None,
            _ => Some(Hold::begin(site, &self.name, Verb::Install, false)?),
        };
        let options = Options { configure: !self.no_configure, flags: !self.no_flags, access };
        let mut installed = Installed::default();
        fill(&store, hold, self.layout, |inside| {
            installed = match &debian {
                Some(debian) => {
                    let build_dir = site.state().join(BUILD_DIR);
                    install::bootstrap(inside, debian, build_dir, options)?
                }
                None => install::unpack(inside, &archives, options)?,
            };
            Ok(self.settings(system))
        })?;
        held.map_or_else(|| site.reload_only(&[&self.name]), Hold::end)?;
        let Installed { configured, entrance, dropped } = installed;
        let runs_here = self.runs_here(system);
        let way_in = way_in(entrance, &store.root(&self.name), runs_here);
        let Some(dropped) = dropped else { return Ok(configured + &way_in) };
        let record = site.state().join(DROPPED).join(store.get(&self.name)?.uuid.to_string());
        let kept = record.parent().map_or(Ok(()), std::fs::create_dir_all);
        kept.and_then(|()| std::fs::write(&record, dropped.record)).map_err(|error| {
            Failure::could_not(format_args!(
                "the system is installed, but {} cannot be written: {error}",
                record.display()
            ))
        })?;
        let summary = dropped.summary;
        Ok(format!("{configured}{summary}all of it is listed in {}\n{way_in}", record.display()))
    }

    /// Whether programs of the system run on this host, as far as is known.
    fn runs_here(&self, system: System) -> bool {
        let own = match system {
            System::Debian | System::Ubuntu => cfg!(target_os = "linux"),
            System::FreeBsd => cfg!(target_os = "freebsd"),
            // Nobody said what is in it.
            System::Tar => false,
        };
        own && is_of_host(&self.arch)
    }

    /// Refuses what a system cannot have, before anything is asked, fetched or made.
    fn refuse(&self, system: System) -> Result<(), Failure> {
        let is_made = matches!(system, System::Debian | System::Ubuntu);
        if !is_made && !self.packages.is_empty() {
            return Err(Failure::could_not(
                "--package is for Debian and Ubuntu only: sets and archives are unpacked as they are",
            ));
        }
        if !is_made && self.access.script.is_some() {
            return Err(Failure::could_not(
                "--script is for Debian and Ubuntu only: netbe runs no program from sets and archives",
            ));
        }
        if system == System::FreeBsd && self.access.has_password() {
            return Err(InstallError::FreeBsdPassword.into());
        }
        Ok(())
    }

    /// The sets, verified.
    fn distribution(&self, site: &Site) -> Result<Vec<Set>, Failure> {
        let names = self.set_names();
        let source = self.source(&names)?;
        let cache = site.open_state()?.path().join(CACHE);
        Ok(sets::gather(&source, self.manifest.as_deref(), &names, &cache)?)
    }

    fn set_names(&self) -> Vec<String> {
        let usual = || vec!["base".to_owned(), "kernel".to_owned()];
        if self.sets.is_empty() { usual() } else { self.sets.clone() }
    }

    /// Where the sets come from.
    fn source(&self, names: &[String]) -> Result<SetSource, Failure> {
        let release = self.release.as_deref();
        match (&self.path, &self.url) {
            (Some(path), _) => {
                // With a list of one's own there may be none beside the sets.
                let set = names.first().filter(|_| self.manifest.is_some());
                let known = set.map_or_else(|| MANIFEST.to_owned(), |set| sets::file(set));
                let release = release.unwrap_or("?");
                let (path, arch) = (path.clone(), self.arch.as_str());
                Ok(SetSource::directory(path, &known, arch, self.branch, release)?)
            }
            (None, Some(url)) => {
                let release = release
                    .ok_or_else(|| Failure::could_not("name the release with -r, as in -r 14.3"))?;
                Ok(SetSource::mirror(url, &self.arch, self.branch, release)?)
            }
            (None, None) => Err(Failure::could_not(format_args!(
                "name the place of the sets with -p DIRECTORY or -u {MIRROR}"
            ))),
        }
    }

    /// The packages that are asked for, and an ssh server for those who get in by it.
    fn all_packages(&self) -> Vec<String> {
        let mut packages = self.packages.clone();
        if self.access.needs_ssh() && !packages.iter().any(|package| package == SSH_SERVER) {
            packages.push(SSH_SERVER.to_owned());
        }
        packages
    }

    fn debian<'a>(
        &'a self,
        (suite, kernel): &'a (String, String),
        packages: &'a [String],
        script: Option<&'a str>,
    ) -> Debian<'a> {
        let (arch, mirror) = (self.arch.as_str(), self.url.as_deref());
        Debian { suite, arch, mirror, kernel, packages, script }
    }

    /// The release, and the package of its kernel; `None` for a system that is no Debian.
    fn release_of(&self, system: System) -> Result<Option<(String, String)>, Failure> {
        let kernel = match system {
            System::Debian => "linux-image",
            System::Ubuntu => "linux-image-generic",
            System::FreeBsd | System::Tar => return Ok(None),
        };
        if self.path.is_some() {
            return Err(Failure::could_not(
                "packages come from a mirror: give -u URL instead of -p",
            ));
        }
        let suite = self
            .release
            .clone()
            .ok_or_else(|| Failure::could_not("name the release with -r, as in -r bookworm"))?;
        // Debian has a kernel for each architecture.
        let own = format!("{kernel}-{}", self.arch);
        let kernel = if kernel.ends_with("generic") { kernel.to_owned() } else { own };
        Ok(Some((suite, self.kernel_package.clone().unwrap_or(kernel))))
    }

    fn archive(&self) -> Result<Set, Failure> {
        let path = self
            .path
            .clone()
            .ok_or_else(|| Failure::could_not("name the archive with -p, as in -p root.tar.zst"))?;
        Ok(Set::open(path)?)
    }

    fn settings(&self, system: System) -> Vec<(&'static str, String)> {
        let mut settings = Vec::new();
        let os = match system {
            System::Debian => Some("Debian"),
            System::FreeBsd => Some("FreeBSD"),
            System::Ubuntu => Some("Ubuntu"),
            System::Tar => None,
        };
        if let Some(os) = os {
            settings.push(("os", os.to_owned()));
            settings.push(("arch", self.arch.clone()));
        }
        settings.extend(self.release.clone().map(|release| ("release", release)));
        settings
    }

    fn ram_disk(&self, site: &Site) -> Result<(), Failure> {
        let inside = Inside::from_fd(site.open()?.open_root(&self.name)?);
        let made = self.recipe.make(&inside)?;
        let written = inside.write_atomic(made.place(), &made.bytes, 0o644);
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
            | InstallError::FreeBsdPassword
            | InstallError::NoShadow
            | InstallError::NoSshServer
            | InstallError::NoSystem
            | InstallError::Script(_)
            | InstallError::Bootstrap { .. }
            | InstallError::Cut(_)
            | InstallError::Damaged { .. }
            | InstallError::Differs { .. }
            | InstallError::Fetch { .. }
            | InstallError::Inside { .. }
            | InstallError::Io { .. }
            | InstallError::Left { .. }
            | InstallError::Manifest { .. }
            | InstallError::Mirror(_)
            | InstallError::Name { .. }
            | InstallError::NoFetcher
            | InstallError::NoBootstrap
            | InstallError::NoSets { .. }
            | InstallError::Room(_)
            | InstallError::Unlisted { .. }
            | InstallError::Word(_)
            | InstallError::Interrupted(_)
            | InstallError::Signals(_)
            | InstallError::Worker(_) => Self::could_not(error),
        }
    }
}

/// Where a release of FreeBSD is, for messages.
const MIRROR: &str = "https://download.freebsd.org/ftp -r 14.3";
/// Debian's and Ubuntu's package of an ssh server.
const SSH_SERVER: &str = "openssh-server";
/// The folder of the state directory for what was fetched.
const CACHE: &str = "cache";
/// The folder of the state directory in which a system is made.
const BUILD_DIR: &str = "making";
/// The folder of the state directory for lists of what could not be kept.
const DROPPED: &str = "lost";
