//! Other people's suites for file systems, run by Linux's own NFS client in a guest.
//!
//! What a suite fails in, and why, stands in `integration/suites`. A new failure is a failure here,
//! and so is one that is listed and does not happen any more.

mod report;
mod tools;

use std::fs;
use std::path::Path;

use self::report::Report;
use crate::failure::{During, Failure};
use crate::lab::Lab;
use crate::process::last_lines;
use crate::proof::{proof, token};
use crate::scene::{BOOT_LIMIT, Scene, mac, with_log};
use crate::suite::{Case, Outcome};
use crate::vm::Firmware;

pub(super) const CASES: &[Case] = &[
    Case::new("suite fsx", |lab| suite(lab, &FSX)).long(),
    Case::new("suite pjdfstest", |lab| suite(lab, &PJDFSTEST)).long(),
    Case::new("suite nfstest_posix", |lab| suite(lab, &NFSTEST_POSIX)).long(),
];

/// A suite of tests for file systems.
#[derive(Clone, Copy, Debug)]
struct Suite {
    name: &'static str,
    /// Puts its programs and its configuration onto a guest's root.
    install: fn(&Lab, &Path) -> Result<(), Failure>,
    /// What the guest's shell runs; the file system to test is at `/scratch`.
    command: &'static str,
    /// Reads what it said.
    read: fn(&str) -> Result<Report, Failure>,
    /// What it fails in, or skips, and why.
    known: &'static str,
}

/// Random reads, writes and truncations of one file, by system calls and by memory, each compared with
/// what it has to be. The seed is fixed, so that a failure happens again.
const FSX: Suite = Suite {
    name: "fsx",
    install: tools::fsx,
    command: "fsx -f /lab/fsx.toml -S 1 -N 2000 -P /lab /scratch/file 2>&1",
    read: report::fsx,
    known: "",
};

/// What POSIX says of each system call on files: errors, modes, owners, times.
const PJDFSTEST: Suite = Suite {
    name: "pjdfstest",
    install: tools::pjdfstest,
    // It fails when a test does; which ones those are is looked at here. Tests that mount its file system
    // read-only come in a process of their own: others leave files open.
    command: "cd /lab
sed 's/^allow_remount.*//' pjdfstest.toml >calm.toml
pjdfstest -c calm.toml -p /scratch
pjdfstest -c pjdfstest.toml -p /scratch erofs
true",
    read: report::pjdfstest,
    known: include_str!("../../suites/pjdfstest.txt"),
};

/// The POSIX calls as an NFS client sees them, with every combination of flags of open(2).
const NFSTEST_POSIX: Suite = Suite {
    name: "nfstest_posix",
    install: tools::nfstest,
    // It mounts by itself, and again and again. It wants to capture what it does not look at: something
    // that seems to is enough.
    command: "cat >/bin/tcpdump <<END
#!/bin/sh
echo listening on nothing >&2
exec sleep 600
END
chmod +x /bin/tcpdump
nfstest_posix --server $server --export /be/scratch --nfsversion 3 --mtopts hard,nolock \\
    --notty --verbose none --tcpdump /bin/tcpdump
true",
    read: report::nfstest,
    known: include_str!("../../suites/nfstest_posix.txt"),
};

/// Boots a guest that runs the suite on a boot environment that it mounts, and compares what failed with
/// what is known to.
fn suite(lab: &Lab, suite: &Suite) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    let task = [include_str!("../../guest/suite.sh"), suite.command].concat();
    scene.environment("guest", &task)?;
    let root = site.root("guest");
    (suite.install)(lab, &root)?;
    site.machine("alone", &mac(1), "guest")?;
    site.run("create scratch")?;
    site.run("sharenfs --maproot root --network 10.77.0.0/24 scratch")?;
    let server = site.serve()?;
    let token = token(&root, "alone")?;
    let mut machine = scene.switch_on("alone", Firmware::Bios, 1)?;
    machine.wait_until_off(BOOT_LIMIT).map_err(|failure| with_log(&site, failure))?;
    let log = root.join("lab/log");
    let said = String::from_utf8_lossy(&fs::read(&log).during(log.display())?).into_owned();
    proof(&root, &token, "alone").map_err(|failure| {
        let failure = machine.explain(with_log(&site, failure));
        failure.retold(|words| format!("{words}\n{} said:\n{}", suite.name, last_lines(&said, 30)))
    })?;
    server.stop()?;
    let report = (suite.read)(&said)?;
    report.compare(suite.known).map(Outcome::Counted)
}
