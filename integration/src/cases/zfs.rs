//! Real ZFS, in a guest that has it.

use std::path::Path;
use std::time::Duration;

use super::checks::{count, failures};
use crate::debian::Debian;
use crate::failure::{Failure, ensure};
use crate::guest_task::{GuestTask, PLAIN, TaskOutput, run_in_guest};
use crate::lab::Lab;
use crate::net::Network;
use crate::process::last_lines;
use crate::shell::SHELL;
use crate::suite::{Case, Outcome, Tally};

pub(super) const CASES: &[Case] = &[
    Case::new("zfs store contract", |lab| contract(lab, CASES_A_DAY)).long(),
    Case::new("zfs store contract at random", |lab| contract_at_random(lab, CASES_A_DAY)).long(),
    Case::new("zfs store", |lab| tests(lab, "zfs store", "store", "zfs", STORE)).long(),
    Case::new("zfs store by libzfs", |lab| by_libzfs(lab, &CHANGES.these())).long(),
    Case::new("zfs files", |lab| tests(lab, "zfs files", "hostfs", "contract", FILES)).long(),
    Case::new("zfs guest has a pool", pool),
    Case::new("zfs pool away", away),
    Case::new("zfs lints with libzfs", lints).build(),
];

/// The guest's module and programs work: a snapshot keeps what its data set loses, also when the guest
/// begins anew. What its kernel says meanwhile is in no command's output.
fn pool(lab: &Lab) -> Result<Outcome, Failure> {
    let (directory, network) = (lab.directory("zfs pool")?, Network::new()?);
    let debian = Debian::get(&lab.cache)?;
    let task = GuestTask { script: SHELL, ..PLAIN };
    let mut guest = task.start(&network, &directory, &debian)?;
    let mut shell = guest.shell(LIMIT)?;
    for command in POOL {
        shell.run(command, LIMIT)?;
    }
    let boot = shell.run(BOOT, LIMIT)?;
    shell = guest.reboot(shell, LIMIT)?;
    ensure(shell.run(BOOT, LIMIT)? != boot, || "the guest did not begin anew".to_owned())?;
    shell.run("zpool import tank", LIMIT)?;
    let kept = shell.run(&format!("{NOISE}; cat /tank/one/.zfs/snapshot/first/file"), LIMIT)?;
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
    let log = run_in_guest(lab, "zfs pool away", &task, LIMIT)?.success()?;
    ensure(log.lines().any(|line| line.starts_with("step: done")), || log)?;
    Ok(Outcome::Passed)
}

/// What only a store on ZFS promises, by the C library: the chosen tests of it.
fn by_libzfs(lab: &Lab, chosen: &str) -> Result<Outcome, Failure> {
    let library = Debian::get(&lab.cache)?.library(&lab.cache)?;
    let program = lab.tests_with_libzfs("zfs", &library)?;
    run(lab, "zfs store by libzfs", &program, &[STORE, chosen].concat())
}

/// What every store promises, by the C library, but for what verbs at random show of it.
fn contract(lab: &Lab, cases: u32) -> Result<Outcome, Failure> {
    part_of_contract(lab, "zfs store contract", &PLAYED.others(), cases)
}

/// The other half.
fn contract_at_random(lab: &Lab, cases: u32) -> Result<Outcome, Failure> {
    part_of_contract(lab, "zfs store contract at random", &PLAYED.these(), cases)
}

/// The chosen tests of the contract, with so many random sequences of verbs.
fn part_of_contract(lab: &Lab, name: &str, chosen: &str, cases: u32) -> Result<Outcome, Failure> {
    let library = Debian::get(&lab.cache)?.library(&lab.cache)?;
    let program = lab.tests_with_libzfs("contract", &library)?;
    let script = format!("export NETBE_CONTRACT_CASES={cases}\n{CONTRACT}{chosen}");
    run(lab, name, &program, &script)
}

/// A part of the tests of a program, by words of their names: what is no part of it is the other part.
struct Part(&'static [&'static str]);

impl Part {
    /// The arguments that choose these tests.
    fn these(&self) -> String {
        self.0.iter().map(|word| format!(" {word}")).collect()
    }

    /// The arguments that choose all others.
    fn others(&self) -> String {
        self.0.iter().map(|word| format!(" --skip {word}")).collect()
    }
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
    let task = GuestTask { script: &script, files: &files, ..PLAIN };
    let output = run_in_guest(lab, name, &task, LIMIT)?;
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

/// Every fact that a store promises, on ZFS, with more random sequences than there is time for every day;
/// and by the C library what a day's tests leave out.
pub(crate) fn long_contract(lab: &Lab) -> Result<(), Failure> {
    let parts = [
        contract(lab, CASES_OF_A_SOAK)?,
        contract_at_random(lab, CASES_OF_A_SOAK)?,
        by_libzfs(lab, &CHANGES.others())?,
    ];
    let mut passed = 0;
    for part in parts {
        match part {
            Outcome::Counted(tally @ Tally { failed: 0, .. }) => passed += tally.passed,
            Outcome::Counted(_) | Outcome::Passed | Outcome::Skipped(_) => {
                return Err(Failure::said("the store's contract does not hold on ZFS"));
            }
        }
    }
    println!("the store's contract on ZFS: {passed} passed");
    Ok(())
}

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
const BOOT: &str = "cat /proc/sys/kernel/random/boot_id";
/// Lines of the kernel's that come to the console whatever its level of noise is.
const NOISE: &str = "for i in 1 2 3; do echo '<0>lab: the kernel speaks' >/dev/kmsg; done";
const AWAY: &str =
    concat!(include_str!("../../guest/zfs/site.sh"), include_str!("../../guest/zfs/away.sh"));
/// One test at a time: some change the whole pool.
const STORE: &str = "NETBE_TEST_POOL=tank ./tests --test-threads 1";
/// The pool is thrown away with the guest. Its stores lie right below the pool: what is asked of a data set is
/// looked for in all that are above it.
const CONTRACT: &str = "
zfs create -o quota=24M tank/small
NETBE_CONTRACT_STORE=zfs:tank NETBE_CONTRACT_SMALL=zfs:tank/small \\
    NETBE_CONTRACT_KEEP=1 ./tests --test-threads 3";
/// Verbs at random and kills at any moment, and what else takes long: half of the contract, by time.
const PLAYED: Part = Part(&["hostile::", "killed::", "metadata::", "random::", "streams::"]);
/// What goes by the C library where there is one, and fails in ways of ZFS's own: the rest is the same
/// without it.
const CHANGES: Part = Part(&[
    "a_clone_has_the_properties_of_its_source",
    "a_data_set_that_is_mounted_before_its_parent",
    "a_full_pool_leaves_nothing",
    "a_nested_template_is_split",
    "a_pool_that_goes_away",
    "a_value_that_looks_like_an_option",
    "settings_are_properties",
    "the_library_answers",
    "the_freebsd_layout_is_made",
    "what_bectl_made_is_found",
    "what_is_encrypted_waits",
    "what_is_in_use",
]);
/// So many random sequences of verbs are played in `cargo lab test`.
const CASES_A_DAY: u32 = 2;
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
