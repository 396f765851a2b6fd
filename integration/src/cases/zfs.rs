//! Real ZFS, in a guest that has it.

use std::path::Path;
use std::time::Duration;

use super::checks::{count, failures};
use crate::debian::Debian;
use crate::failure::{Failure, ensure};
use crate::guest_task::{GuestTask, TaskOutput};
use crate::lab::Lab;
use crate::net::Network;
use crate::process::last_lines;
use crate::shell::SHELL;
use crate::suite::{Case, Outcome, Tally};

pub(super) const CASES: &[Case] = &[
    Case::new("zfs store contract", |lab| contract(lab, "zfs store contract", CASES_A_DAY)).long(),
    Case::new("zfs store", |lab| tests(lab, "zfs store", "store", "zfs", STORE)).long(),
    Case::new("zfs store by libzfs", by_libzfs).long(),
    Case::new("zfs files", |lab| tests(lab, "zfs files", "hostfs", "contract", FILES)).long(),
    Case::new("zfs guest has a pool", pool),
    Case::new("zfs pool away", away),
    Case::new("zfs lints with libzfs", lints).build(),
];

/// The guest's module and programs work: a snapshot keeps what its data set loses.
fn pool(lab: &Lab) -> Result<Outcome, Failure> {
    let (directory, network) = (lab.directory("zfs pool")?, Network::new()?);
    let task = GuestTask { script: SHELL, ..PLAIN };
    let mut guest = task.start(&network, &directory, &Debian::get(&lab.cache)?)?;
    let mut shell = guest.shell(LIMIT)?;
    for command in POOL {
        shell.run(command, LIMIT)?;
    }
    let kept = shell.run("cat /tank/one/.zfs/snapshot/first/file", LIMIT)?;
    ensure(kept == "kept\n", || kept.clone())?;
    let gone = shell.finish("cat /tank/one/file", LIMIT)?;
    ensure(gone.status == 1 && gone.output.contains("No such file"), || format!("{gone:?}"))?;
    shell.exit()?;
    guest.wait(LIMIT)?.success()?;
    Ok(Outcome::Passed)
}

/// A pool goes away under a running server and comes back: exported, without its key, without its disk,
/// and while the server is started anew. A client's writes wait, and none is lost.
fn away(lab: &Lab) -> Result<Outcome, Failure> {
    let files: [(&str, &Path); 1] = [("netbe", lab.netbe()?)];
    let task = GuestTask { script: AWAY, files: &files, ..PLAIN };
    let log = run_in_guest(lab, "zfs pool away", &task)?.success()?;
    ensure(log.lines().any(|line| line.starts_with("step: done")), || log)?;
    Ok(Outcome::Passed)
}

/// What only a store on ZFS promises, by the C library.
fn by_libzfs(lab: &Lab) -> Result<Outcome, Failure> {
    let library = Debian::get(&lab.cache)?.library(&lab.cache)?;
    let program = lab.tests_with_libzfs("zfs", &library)?;
    run(lab, "zfs store by libzfs", &program, STORE)
}

/// Everything that every store promises, by the C library, with so many random sequences of verbs.
fn contract(lab: &Lab, name: &str, cases: u32) -> Result<Outcome, Failure> {
    let library = Debian::get(&lab.cache)?.library(&lab.cache)?;
    let program = lab.tests_with_libzfs("contract", &library)?;
    run(lab, name, &program, &format!("export NETBE_CONTRACT_CASES={cases}\n{CONTRACT}"))
}

fn lints(lab: &Lab) -> Result<Outcome, Failure> {
    Lab::lint_with_libzfs(&Debian::get(&lab.cache)?.library(&lab.cache)?)?;
    Ok(Outcome::Passed)
}

/// Tests of a package that need ZFS, in a guest; the script runs `./tests`.
fn tests(
    lab: &Lab,
    name: &str,
    package: &str,
    file: &str,
    script: &str,
) -> Result<Outcome, Failure> {
    run(lab, name, &lab.tests(package, file)?, script)
}

fn run(lab: &Lab, name: &str, program: &Path, script: &str) -> Result<Outcome, Failure> {
    let files: [(&str, &Path); 1] = [("tests", program)];
    let script = [TANK, script].concat();
    let output = run_in_guest(lab, name, &GuestTask { script: &script, files: &files, ..PLAIN })?;
    Ok(Outcome::Counted(results(output)?))
}

/// What the tests in a guest told of themselves.
fn results(output: TaskOutput) -> Result<Tally, Failure> {
    let tally = count(&output.log);
    if tally.failed > 0 {
        println!("{}", failures(&output.log));
        return Ok(tally);
    }
    let log = output.success()?;
    // A program that ends without a word, or has none of the tests, has no count.
    ensure(tally != Tally::default(), || {
        format!("in the guest: no test: {}", last_lines(&log, 60))
    })?;
    Ok(tally)
}

/// Every fact that a store promises, on ZFS, with more random sequences than there is time for every day.
pub(crate) fn long_contract(lab: &Lab) -> Result<(), Failure> {
    match contract(lab, "zfs long contract", CASES_OF_A_SOAK)? {
        Outcome::Counted(Tally { failed: 0, passed, .. }) => {
            println!("the store's contract on ZFS: {passed} passed");
            Ok(())
        }
        Outcome::Counted(_) | Outcome::Passed | Outcome::Skipped(_) => {
            Err(Failure::said("the store's contract does not hold on ZFS".to_owned()))
        }
    }
}

/// Runs a task in a guest, with files and logs in a directory of this name.
fn run_in_guest(lab: &Lab, name: &str, task: &GuestTask<'_>) -> Result<TaskOutput, Failure> {
    let debian = Debian::get(&lab.cache)?;
    let directory = lab.directory(name)?;
    let network = Network::new()?;
    task.start(&network, &directory, &debian)?.wait(LIMIT)
}

/// A guest with nothing to do.
const PLAIN: GuestTask<'static> = GuestTask {
    name: "zfs",
    mac: "52:54:00:77:02:01",
    memory: 2048,
    processors: 2,
    script: "true",
    files: &[],
    pool: 2048,
};
/// Nothing that is tested here outlives a loss of power.
const TANK: &str = "
set -eu
zpool create -O compression=off -O sync=disabled -m none tank /dev/vdc1
";
const POOL: [&str; 5] = [
    "zpool create -O compression=off -m none tank /dev/vdc1",
    "zfs create -o mountpoint=/tank/one tank/one",
    "echo kept >/tank/one/file",
    "zfs snapshot tank/one@first",
    "rm /tank/one/file",
];
const AWAY: &str =
    concat!(include_str!("../../guest/zfs/site.sh"), include_str!("../../guest/zfs/away.sh"));
/// One test at a time: some change the whole pool.
const STORE: &str = "NETBE_TEST_POOL=tank ./tests --test-threads 1\n";
/// The pool is thrown away with the guest.
const CONTRACT: &str = "
zfs create -o mountpoint=none tank/contract
zfs create -o mountpoint=none -o quota=24M tank/small
NETBE_CONTRACT_STORE=zfs:tank/contract NETBE_CONTRACT_SMALL=zfs:tank/small \\
    NETBE_CONTRACT_KEEP=1 ./tests --test-threads 3
";
/// So many random sequences of verbs are played in `cargo lab test`.
const CASES_A_DAY: u32 = 3;
const CASES_OF_A_SOAK: u32 = 12;
const FILES: &str = "
zfs create -o mountpoint=/tank/files tank/files
TMPDIR=/tank/files ./tests --test-threads 1 on_disk
";
/// How long a guest may take for its task on a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(2400);

#[cfg(test)]
mod test {
    use super::*;

    fn told(status: &str, log: &str) -> Result<Tally, Failure> {
        results(TaskOutput { status: status.to_owned(), log: log.to_owned() })
    }

    #[test]
    fn a_guest_in_which_no_test_ran_has_failed() {
        let ended =
            |passed| format!("test result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured\n");
        assert_eq!(told("0", &ended(2)).unwrap().passed, 2);
        assert!(told("0", &ended(0)).unwrap_err().to_string().contains("no test"));
        told("0", "").unwrap_err();
        told("101", &ended(2)).unwrap_err();
        let failed = "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured\n";
        assert_eq!(told("101", failed).unwrap().failed, 1);
    }
}
