//! A store under verbs whose system calls fail.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cases::store::no_btrfs;
use crate::cases::survive::seed;
use crate::disk::own_mounts;
use crate::failure::Failure;
use crate::faults::{Extent, Medium, sweep};
use crate::guest_task::{GuestTask, PLAIN, run_in_guest};
use crate::lab::Lab;
use crate::process::{Program, last_lines};
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    Case::new("faults at calls on dir", |lab| case(lab, Medium::Dir)).long(),
    Case::new("faults at calls on btrfs", |lab| case(lab, Medium::Btrfs)).long(),
    Case::new("faults at calls on ZFS", |lab| {
        let extent = Extent { time: SHORT_ON_ZFS, faults: FEW_ON_ZFS };
        on_zfs(lab, extent, lab.wishes.seed.unwrap_or(SEED))
    })
    .when_named(),
];

/// The same for so many minutes, on all kinds.
pub(crate) fn soak(lab: &Lab, minutes: u32) -> Result<(), Failure> {
    let extent = Extent { time: Duration::from_secs(20 * u64::from(minutes)), faults: usize::MAX };
    for medium in [Medium::Dir, Medium::Btrfs] {
        if let Outcome::Skipped(why) = on_host(lab, medium, extent, seed(lab.wishes))? {
            println!("no faults on {}: {why}", medium.word());
        }
    }
    on_zfs(lab, extent, seed(lab.wishes)).map(drop)
}

fn case(lab: &Lab, medium: Medium) -> Result<Outcome, Failure> {
    let extent = Extent { time: SHORT, faults: FEW };
    on_host(lab, medium, extent, lab.wishes.seed.unwrap_or(SEED))
}

fn on_host(lab: &Lab, medium: Medium, extent: Extent, seed: u64) -> Result<Outcome, Failure> {
    let traced = Program::new("strace").args(["-o", "/dev/null", "true"]).finish(LIMIT)?;
    if !traced.status.success() {
        let why = last_lines(&traced.stderr, 1);
        return Ok(Outcome::Skipped(format!("no process may be traced here (ptrace): {why}")));
    }
    own_mounts()?;
    println!("      seed {seed}");
    let place = lab.directory(&format!("faults {}", medium.word()))?;
    if !medium.begin(&place)? {
        return Ok(no_btrfs());
    }
    println!("      {}", sweep(lab.netbe()?, medium, place, extent, seed)?);
    Ok(Outcome::Passed)
}

/// In a guest that has it, by this program and this host's strace(1).
fn on_zfs(lab: &Lab, extent: Extent, seed: u64) -> Result<Outcome, Failure> {
    println!("      seed {seed}");
    let tracer = lab.directory("tracer")?.join("tracer.tar");
    Program::new("sh").args(["-euc", TRACER, "tracer"]).arg(&tracer).run(LIMIT)?;
    let myself = PathBuf::from("/proc/self/exe");
    let files: [(&str, &Path); 3] =
        [("netbe", lab.netbe()?), ("lab", &myself), ("tracer.tar", &tracer)];
    let Extent { time, faults } = extent;
    let seconds = time.as_secs();
    let script = format!(
        "set -eu\ntar -xf tracer.tar -C /\n./lab faults zfs ./netbe {seconds} {faults} {seed}\n"
    );
    let task = GuestTask { script: &script, files: &files, pool: 64, ..PLAIN };
    let log = run_in_guest(lab, "faults zfs", &task, GUEST_LIMIT + 2 * time)?.success()?;
    println!("      {}", last_lines(&log, 1).trim());
    Ok(Outcome::Passed)
}

/// Packs strace(1) with the libraries that it needs beside those that each system has.
const TRACER: &str = "
strace=$(command -v strace)
libraries=$(ldd \"$strace\" | sed -n 's/.*=> \\([^ ]*\\) .*/\\1/p' | grep -v '/libc\\.so')
tar -chf \"$1\" \"$strace\" $libraries
";
/// How long faults are tried with all other tests.
const SHORT: Duration = Duration::from_secs(75);
const SHORT_ON_ZFS: Duration = Duration::from_secs(1800);
/// How many calls of a verb fail then, and which: nearly the same every time, as those who change something else
/// have to be able to trust the result. What nobody has tried yet `cargo lab soak` tries.
const FEW: usize = 6;
const FEW_ON_ZFS: usize = 4;
const SEED: u64 = 5;
/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long the guest may take for what is not counted, on a computer with much else to do.
const GUEST_LIMIT: Duration = Duration::from_secs(2400);
