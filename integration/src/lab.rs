//! What the tests and the demonstration share: the checkout, the cache, and the program under test.

use std::cell::OnceCell;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use serde::Deserialize;
use tempfile::TempDir;

use crate::cache::Cache;
use crate::failure::{During, Failure};
use crate::guest::Parts;
use crate::process::Program;
use crate::progress;

/// What may be asked of tests that go on for as long as one wants, and draw much at random.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Wishes {
    /// How long `survive` makes trouble: 4 minutes with all other tests, and 10 with --only.
    #[arg(long, value_name = "N")]
    pub(crate) minutes: Option<u32>,
    /// What trouble `survive` makes: the same for the same number, another each time when nobody says it.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// Keep all that a test wrote, boot environments and disks too, however it ends.
    #[arg(long)]
    pub(crate) keep: bool,
}

impl Wishes {
    /// The same as arguments.
    pub(crate) fn arguments(self) -> Vec<String> {
        let minutes = self.minutes.map(|minutes| format!("--minutes={minutes}"));
        let seed = self.seed.map(|seed| format!("--seed={seed}"));
        let keep = self.keep.then(|| "--keep".to_owned());
        minutes.into_iter().chain(seed).chain(keep).collect()
    }
}

/// The lab, with a scratch directory that is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    /// Downloads and what is built from them.
    pub(crate) cache: Cache,
    /// What was said on the command line for tests that take it.
    pub(crate) wishes: Wishes,
    /// What is made once, for this run of the lab: kept as long as its scratch directory.
    made: Cache,
    scratch: TempDir,
    netbe: OnceCell<PathBuf>,
    release: OnceCell<PathBuf>,
    parts: OnceCell<Parts>,
}

impl Lab {
    /// Opens the lab.
    pub(crate) fn open() -> Result<Self, Failure> {
        let scratch = scratch("netbe-lab-", &place())?;
        let made = Cache::at(&scratch.path().join("made"))?;
        Self::with(scratch, made)
    }

    /// The lab of one test of several: its scratch directory is in `place`, and what is made once for
    /// all of them in `made`.
    pub(crate) fn beside_others(place: &Path, made: &Path) -> Result<Self, Failure> {
        Self::with(scratch("", place)?, Cache::at(made)?)
    }

    fn with(scratch: TempDir, made: Cache) -> Result<Self, Failure> {
        let (netbe, release, parts) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        let wishes = Wishes::default();
        Ok(Self { cache: Cache::open()?, wishes, made, scratch, netbe, release, parts })
    }

    /// Leaves the scratch directory where it is.
    pub(crate) fn keep(&mut self) {
        self.scratch.disable_cleanup(true);
    }

    /// The directory of what is made once, for [`Lab::beside_others`].
    pub(crate) fn made(&self) -> &Path {
        self.made.directory()
    }

    /// The root of the checkout.
    pub(crate) fn checkout() -> &'static Path {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.parent().unwrap_or(here)
    }

    /// Cargo, in the checkout.
    pub(crate) fn cargo() -> Program {
        Program::new("cargo").directory(Self::checkout())
    }

    /// A new directory in the scratch directory; `name` must not have been used before.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf, Failure> {
        let directory = self.scratch.path().join(name.replace(' ', "-"));
        fs::create_dir(&directory).during(directory.display())?;
        Ok(directory)
    }

    /// The pieces of a guest.
    pub(crate) fn parts(&self) -> Result<&Parts, Failure> {
        if let Some(parts) = self.parts.get() {
            return Ok(parts);
        }
        let parts = Parts::get(&self.cache)?;
        Ok(self.parts.get_or_init(|| parts))
    }

    /// The program under test, with the features and of the profile of everything else that the lab builds.
    pub(crate) fn netbe(&self) -> Result<&Path, Failure> {
        if let Some(netbe) = self.netbe.get() {
            return Ok(netbe);
        }
        // With a test beside it, it has the features that it has in `cargo test`, and is the same file.
        let words = "build --bin netbe --test rpcbind";
        let netbe = self.built("netbe", workspace(words), &Wanted::program("server", "netbe"))?;
        Ok(self.netbe.get_or_init(|| netbe))
    }

    /// The program as users build it, for measurements.
    pub(crate) fn release(&self) -> Result<&Path, Failure> {
        if let Some(release) = self.release.get() {
            return Ok(release);
        }
        let cargo = Self::cargo().words("build --release --package netbe");
        let release =
            self.built("netbe as released", cargo, &Wanted::program("server", "netbe"))?;
        Ok(self.release.get_or_init(|| release))
    }

    /// The same, built with the C library of ZFS that lies in `library`.
    pub(crate) fn release_with_libzfs(&self, library: &Path) -> Result<PathBuf, Failure> {
        let step = progress::step("building netbe with libzfs");
        // Beside the one without it, which other measurements use.
        let words =
            "build --release --package netbe --features libzfs --target-dir target/with-libzfs";
        let cargo = with_libzfs(Self::cargo(), library).words(words);
        let netbe = executable(cargo, &Wanted::program("server", "netbe"))?;
        step.done("built");
        Ok(netbe)
    }

    /// The program that makes clones by the store's API, as released; by libzfs_core if the C library of ZFS lies
    /// in `library`.
    pub(crate) fn clones(&self, library: Option<&Path>) -> Result<PathBuf, Failure> {
        let wanted = Wanted { directory: "store", kind: "example", name: "clones" };
        let cargo = Self::cargo().words("build --release --package store --example clones");
        match library {
            None => self.built("the loop over the API", cargo, &wanted),
            Some(library) => {
                let words = "--features libzfs --target-dir target/with-libzfs";
                executable(with_libzfs(cargo, library).words(words), &wanted)
            }
        }
    }

    /// A server that netbe is measured beside: an example of this package, as released.
    pub(crate) fn peer(&self, name: &'static str) -> Result<PathBuf, Failure> {
        let cargo = Self::cargo().words("build --release --package lab --example").arg(name);
        self.built(name, cargo, &Wanted { directory: "integration", kind: "example", name })
    }

    /// The program that runs the tests of one file below `tests` of the package in this directory.
    pub(crate) fn tests(&self, package: &str, file: &str) -> Result<PathBuf, Failure> {
        let what = format!("the tests {file} of {package}");
        let words = format!("test --no-run --test {file}");
        self.built(&what, workspace(&words), &Wanted::tests(package, file))
    }

    /// The same of the store, with the C library of ZFS that lies in `library`.
    pub(crate) fn tests_with_libzfs(&self, file: &str, library: &Path) -> Result<PathBuf, Failure> {
        let what = format!("the tests {file} of store with libzfs");
        let words = format!("test --no-run --test {file} --features store/libzfs");
        let cargo = with_libzfs(workspace(&words), library);
        self.built(&what, cargo, &Wanted::tests("store", file))
    }

    /// Lints the store as it is with the C library of ZFS that lies in `library`.
    pub(crate) fn lint_with_libzfs(library: &Path) -> Result<(), Failure> {
        let words = "clippy --quiet --locked --profile lab --all-targets --package store";
        let cargo = with_libzfs(Self::cargo(), library).words(words);
        cargo.words("--features libzfs -- -D warnings").run(BUILD_LIMIT).map(|_silence| ())
    }

    /// The program that this builds, once for all tests.
    fn built(&self, what: &str, cargo: Program, wanted: &Wanted<'_>) -> Result<PathBuf, Failure> {
        let entry = self.made.entry(&what.replace(' ', "-"), |directory| {
            let step = progress::step(&format!("building {what}"));
            let link = directory.join(PROGRAM);
            symlink(executable(cargo, wanted)?, &link).during(link.display())?;
            step.done("built");
            Ok(())
        })?;
        let link = entry.join(PROGRAM);
        fs::read_link(&link).during(link.display())
    }
}

/// Cargo, to build with these words and the features of the whole workspace: what one build has compiled
/// serves the next.
pub(crate) fn workspace(words: &str) -> Program {
    Lab::cargo().words(words).words("--workspace --profile lab")
}

fn scratch(prefix: &str, place: &Path) -> Result<TempDir, Failure> {
    tempfile::Builder::new().prefix(prefix).tempdir_in(place).during("scratch directory")
}

/// Cargo finds the C library of ZFS there.
fn with_libzfs(cargo: Program, library: &Path) -> Program {
    cargo.env("PKG_CONFIG_PATH", library)
}

/// The one of cargo's products that is wanted.
#[derive(Debug)]
struct Wanted<'a> {
    /// The last part of the package's directory.
    directory: &'a str,
    kind: &'a str,
    name: &'a str,
}

impl<'a> Wanted<'a> {
    const fn program(directory: &'a str, name: &'a str) -> Self {
        Self { directory, kind: "bin", name }
    }

    const fn tests(directory: &'a str, name: &'a str) -> Self {
        Self { directory, kind: "test", name }
    }

    /// Where it is, when this message of cargo's tells of it.
    fn told_by(&self, line: &str) -> Option<PathBuf> {
        let message: Artifact = serde_json::from_str(line).ok()?;
        let here = message.manifest_path.parent()?.file_name()? == self.directory
            && message.target.name == self.name
            && message.target.kind.iter().any(|kind| kind == self.kind);
        if here { message.executable } else { None }
    }
}

/// A message of cargo's about something that is compiled, in cargo's words.
#[derive(Debug, Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
    manifest_path: PathBuf,
    target: Target,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

/// What cargo builds.
fn executable(cargo: Program, wanted: &Wanted<'_>) -> Result<PathBuf, Failure> {
    let messages = cargo.words("--quiet --locked --message-format json").run(BUILD_LIMIT)?;
    let found = messages.lines().find_map(|line| wanted.told_by(line));
    found.ok_or_else(|| Failure::said(format!("cargo did not build {wanted:?}")))
}

/// Where the scratch directory is made: the usual place, unless its files have no kernel handles.
///
/// Containers have an overlay as their root, whose files cannot be served by NFS.
fn place() -> PathBuf {
    let usual = env::temp_dir();
    let on_overlay = |place: &Path| {
        statfs(place).is_ok_and(|found| found.filesystem_type() == OVERLAYFS_SUPER_MAGIC)
    };
    let places = [usual.clone(), "/var/tmp".into(), "/dev/shm".into()];
    places.into_iter().find(|place| place.is_dir() && !on_overlay(place)).unwrap_or(usual)
}

/// What leads from an entry to the program that was built.
const PROGRAM: &str = "program";
/// How long a build from nothing may take on a slow machine.
pub(crate) const BUILD_LIMIT: Duration = Duration::from_secs(3600);
