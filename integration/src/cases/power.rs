//! A store whose disk loses its power.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk::own_mounts;
use crate::failure::{During, Failure};
use crate::guest_task::{GuestTask, PLAIN, run_in_guest};
use crate::lab::Lab;
use crate::power::{self, Extent, Medium};
use crate::process::{Program, last_lines};
use crate::suite::{Case, Outcome};

use super::store::no_btrfs;

pub(super) const CASES: &[Case] = &[
    Case::new("power cut on ext4", |lab| directories(lab, Medium::Ext4)).light(),
    Case::new("power cut on btrfs", |lab| directories(lab, Medium::Btrfs)).light(),
    Case::new("power cut on ZFS", |lab| on_zfs(lab, CUTS_ON_ZFS, lab.wishes.seed.unwrap_or(SEED)))
        .when_named(),
    Case::new("suspended pool", |lab| on_zfs(lab, SUSPENSIONS, lab.wishes.seed.unwrap_or(SEED)))
        .when_named(),
];

/// On this host, in memory.
fn directories(lab: &Lab, medium: Medium) -> Result<Outcome, Failure> {
    own_mounts()?;
    if medium == Medium::Btrfs && !has_btrfs()? {
        return Ok(no_btrfs());
    }
    on_host(lab, medium, CUTS, lab.wishes.seed.unwrap_or(SEED))
}

/// On this host, in memory; the process needs [`own_mounts`].
fn on_host(lab: &Lab, medium: Medium, cuts: usize, seed: u64) -> Result<Outcome, Failure> {
    println!("      seed {seed}");
    let place = lab.directory(&format!("power {medium:?}"))?;
    let netbe = lab.netbe()?;
    Program::new("mount").words("-t tmpfs -o size=1g none").arg(&place).run(LIMIT)?;
    let told = power::play(medium, netbe, &place, Extent::Cuts(cuts), seed);
    drop(Program::new("umount").arg("--lazy").arg(&place).finish(LIMIT));
    println!("      {}", told?);
    Ok(Outcome::Passed)
}

/// Whether this kernel has btrfs, perhaps as a module.
fn has_btrfs() -> Result<bool, Failure> {
    // Where there are no modules it is built in, or it is not there.
    drop(Program::new("modprobe").arg("btrfs").finish(LIMIT));
    let known = "/proc/filesystems";
    Ok(fs::read_to_string(known).during(known)?.contains("btrfs"))
}

/// In a guest that has it, by this program.
fn on_zfs(lab: &Lab, extent: Extent, seed: u64) -> Result<Outcome, Failure> {
    println!("      seed {seed}");
    let myself = PathBuf::from("/proc/self/exe");
    let files: [(&str, &Path); 2] = [("netbe", lab.netbe()?), ("lab", &myself)];
    let (name, words) = match extent {
        Extent::Cuts(cuts) => ("power zfs", format!("{cuts} {seed}")),
        Extent::Suspensions(times) => ("suspended pool", format!("--suspend {times} {seed}")),
    };
    let script = format!("set -eu\nmodprobe fuse\n./lab power zfs ./netbe {words}\n");
    let task = GuestTask { memory: 3072, script: &script, files: &files, pool: 64, ..PLAIN };
    let log = run_in_guest(lab, name, &task, GUEST_LIMIT)?.success()?;
    println!("      {}", last_lines(&log, 1).trim());
    Ok(Outcome::Passed)
}

/// With more cuts than there is time for every day; the process needs [`own_mounts`].
pub(crate) fn many(lab: &Lab, seed: u64) -> Result<(), Failure> {
    for medium in [Medium::Ext4, Medium::Btrfs] {
        on_host(lab, medium, CUTS_OF_A_SOAK, seed)?;
    }
    on_zfs(lab, SUSPENSIONS_OF_A_SOAK, seed)?;
    on_zfs(lab, CUTS_ON_ZFS_OF_A_SOAK, seed).map(drop)
}

/// The power is cut so often in `cargo lab test`.
const CUTS: usize = 120;
const CUTS_ON_ZFS: Extent = Extent::Cuts(60);
/// A pool is suspended so often during each verb.
const SUSPENSIONS: Extent = Extent::Suspensions(2);
/// Drawn the same every day: what nobody has tried yet `cargo lab soak` tries.
const SEED: u64 = 5;
const CUTS_OF_A_SOAK: usize = 2000;
const CUTS_ON_ZFS_OF_A_SOAK: Extent = Extent::Cuts(200);
const SUSPENSIONS_OF_A_SOAK: Extent = Extent::Suspensions(10);
/// How long the guest may take on a computer with much else to do.
const GUEST_LIMIT: Duration = Duration::from_secs(5000);
const LIMIT: Duration = Duration::from_secs(60);
