//! Whether everything compiles for FreeBSD, checked on Linux.

use crate::failure::Failure;
use crate::freebsd;
use crate::lab::{BUILD_LIMIT, Lab};
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[Case::new("check freebsd", check).build()];

fn check(lab: &Lab) -> Result<Outcome, Failure> {
    let cargo = match freebsd::cargo(&lab.cache)? {
        Ok(cargo) => cargo,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    cargo
        .words("clippy --quiet --locked --profile lab --workspace --exclude lab --all-targets")
        .words("--target x86_64-unknown-freebsd -Zbuild-std=std,panic_abort -- -D warnings")
        .run(BUILD_LIMIT)?;
    Ok(Outcome::Passed)
}
