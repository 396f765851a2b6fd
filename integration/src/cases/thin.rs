//! Jails that share a base: put together and lived in, as far as Linux can.

use std::time::Duration;

use super::store::{NO_BTRFS, no_btrfs};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::process::Program;
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[Case::new("thin jail", jail)];

/// Two jails live on one base by the fstab that netbe writes, with bind mounts for nullfs; then the base is
/// updated. Everything is mounted where nobody else sees it, and ends with the script.
fn jail(lab: &Lab) -> Result<Outcome, Failure> {
    let done = Program::new("unshare")
        .args(["--mount", "sh", "-euc", SCRIPT])
        .env("NETBE", lab.netbe()?)
        .env("BUSYBOX", lab.parts()?.busybox())
        .directory(&lab.directory("thin jail")?)
        .finish(Duration::from_secs(600))?;
    if done.status.code() == Some(NO_BTRFS) {
        return Ok(no_btrfs());
    }
    done.success()?;
    Ok(Outcome::Passed)
}

const SCRIPT: &str = include_str!("../../peer/jail.sh");
