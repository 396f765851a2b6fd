//! Whether everything compiles for FreeBSD, checked on Linux.
//!
//! rustup has no standard library for this target on every machine, so it is built from Debian's
//! package of its sources, which must match the installed compiler exactly.

use std::path::PathBuf;
use std::time::Duration;

use crate::cache::Cache;
use crate::failure::Failure;
use crate::lab::{BUILD_LIMIT, Lab};
use crate::packages;
use crate::process::Program;
use crate::progress;
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[Case::new("check freebsd", freebsd).build()];

fn freebsd(lab: &Lab) -> Result<Outcome, Failure> {
    let text = Program::new("rustc").arg("-V").run(Duration::from_secs(60))?;
    let Some(version) = text.split_whitespace().nth(1) else {
        return Err(Failure::said(format!("rustc -V said {text:?}")));
    };
    let library = match library(&lab.cache, version)? {
        Ok(library) => library,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    Lab::cargo()
        .words("clippy --quiet --locked --workspace --exclude lab --target x86_64-unknown-freebsd")
        .words("-Zbuild-std=std,panic_abort -- -D warnings")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", library)
        // Building the standard library is a nightly feature of cargo.
        .env("RUSTC_BOOTSTRAP", "1")
        .run(BUILD_LIMIT)?;
    Ok(Outcome::Passed)
}

/// The sources of the standard library of this version, or the reason why there are none.
fn library(cache: &Cache, version: &str) -> Result<Result<PathBuf, String>, Failure> {
    let reason = format!("Debian has no sources of the standard library of rustc {version}");
    let name = format!("rust-src-{version}");
    let made = cache.entry(&name, |directory| {
        let step = progress::step(&format!("fetching the sources of Rust {version}"));
        let config = packages::lists(directory, "trixie-backports")?;
        let list = Program::new("apt-cache")
            .args(["madison", "rust-src"])
            .env("APT_CONFIG", &config)
            .run(Duration::from_secs(60))?;
        let mut versions = list.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
        let exact = format!("{version}+");
        let Some(package) = versions.find(|package| package.starts_with(&exact)) else {
            return Err(Failure::Said(reason.clone()));
        };
        packages::download(directory, &format!("rust-src={package}"), Some(&config))?;
        packages::forget_lists(directory)?;
        step.done("unpacked");
        Ok(())
    });
    match made {
        Ok(directory) => {
            let library = format!("usr/src/rustc-{version}/library");
            Ok(Ok(directory.join(library)))
        }
        Err(Failure::Said(words)) if words == reason => Ok(Err(words)),
        Err(failure) => Err(failure),
    }
}
