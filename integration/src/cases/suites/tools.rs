//! The programs of the suites: built or fetched once, kept in the cache, and put onto a guest's root.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::Cache;
use crate::failure::{During, Failure};
use crate::guest;
use crate::lab::{BUILD_LIMIT, Lab};
use crate::packages;
use crate::process::Program;
use crate::progress;

/// Puts fsx onto a guest's root.
pub(super) fn fsx(lab: &Lab, root: &Path) -> Result<(), Failure> {
    put(&built(&lab.cache, "fsx", "0.3.2")?, &root.join("bin/fsx"))?;
    write(root, "lab/fsx.toml", include_str!("../../../suites/fsx.toml"))
}

/// Puts pjdfstest onto a guest's root, with a `sleep` that can be copied, as busybox cannot under
/// another name.
pub(super) fn pjdfstest(lab: &Lab, root: &Path) -> Result<(), Failure> {
    guest::furnish_debian(&lab.cache, root, PACKAGES)?;
    put(&built(&lab.cache, "pjdfstest", "0.2.2")?, &root.join("bin/pjdfstest"))?;
    write(root, "lab/pjdfstest.toml", include_str!("../../../suites/pjdfstest.toml"))
}

/// Puts nfstest and the Python that it needs onto a guest's root.
pub(super) fn nfstest(lab: &Lab, root: &Path) -> Result<(), Failure> {
    guest::furnish_debian(&lab.cache, root, PACKAGES)?;
    let nfstest = packages::unpacked_of(&lab.cache, "trixie", "nfstest")?;
    Program::new("cp")
        .arg("-a")
        .arg(nfstest.join("usr"))
        .arg(root)
        .run(Duration::from_secs(120))
        .map(|_silence| ())
}

/// A program of crates.io, built without shared libraries, so that it runs in any guest.
fn built(cache: &Cache, name: &str, version: &str) -> Result<PathBuf, Failure> {
    let entry = cache.entry(&format!("{name}-{version}"), |directory| {
        let step = progress::step(&format!("building {name} {version}"));
        let scratch = tempfile::tempdir().during("scratch directory")?;
        Program::new("cargo")
            .words("install --quiet --locked --no-track --target x86_64-unknown-linux-gnu --root")
            .arg(directory)
            .arg("--target-dir")
            .arg(scratch.path())
            .arg(format!("{name}@{version}"))
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .run(BUILD_LIMIT)?;
        step.done("built");
        Ok(())
    })?;
    Ok(entry.join("bin").join(name))
}

fn put(program: &Path, target: &Path) -> Result<(), Failure> {
    fs::copy(program, target).map(|_bytes| ()).during(program.display())
}

fn write(root: &Path, path: &str, text: &str) -> Result<(), Failure> {
    fs::write(root.join(path), text).during(path)
}

/// What of Debian the suites need.
const PACKAGES: &str = "coreutils,netbase,python3";
