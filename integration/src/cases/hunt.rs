//! The search for a regression, in chroots and in containers.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::disk::own_mounts;
use crate::failure::{During, Failure, ensure};
use crate::guest::Parts;
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::process::{Program, tail};
use crate::scene::Scene;
use crate::server::Site;
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    Case::new("hunt for a regression among 32 snapshots", snapshots).light(),
    Case::new("hunt that is stopped leaves nothing", stopped).light(),
];

/// A change in one of 32 snapshots is found by six tries at most; in a chroot, in a container, and with several at once.
fn snapshots(lab: &Lab) -> Result<Outcome, Failure> {
    own_mounts()?;
    let scene = Scene::new(lab)?;
    let site = scene.site();
    furnish(&site, "head", lab.parts()?)?;
    let root = site.root("head");
    for number in 1..=32 {
        if number == BROKEN {
            fs::write(root.join("etc/broken"), "").during("etc/broken")?;
        }
        site.run(&format!("snapshot head@n{number:02}"))?;
    }
    let before = site.run("list -a -H -o name")?;
    for (words, tries) in [("--run chroot", 6), ("--run nspawn", 6), ("--run chroot --jobs 2", 9)] {
        let told = site.run(&format!("hunt -j -q --on head@ {words} -- /bin/check"))?;
        let report: Value = serde_json::from_str(&told).during("netbe hunt -j")?;
        let explain = || format!("{words}: {told}");
        ensure(report.get("first_bad") == Some(&Value::from(format!("head@n{BROKEN}"))), explain)?;
        let last = format!("head@n{}", BROKEN - 1);
        ensure(report.get("last_good") == Some(&Value::from(last)), explain)?;
        let count = report.get("trials").and_then(Value::as_array).map_or(0, Vec::len);
        ensure(count <= tries, explain)?;
        println!("      {words}: {count} tries");
    }
    let verdict = site.run("get -H verdict head")?;
    ensure(verdict.contains(&format!("bad since @n{BROKEN}")), || verdict.clone())?;
    // All of a list are tried, and each has its line; what the command said is kept.
    let told = site.run(&format!("hunt -q --on head@n01,head@n{BROKEN} -- /bin/check"))?;
    ensure(told.contains("1 good, 1 bad, 0 skipped"), || told.clone())?;
    let logs = told.lines().find_map(|line| line.strip_prefix("what the command printed: "));
    let log = Path::new(logs.unwrap_or_default()).join(format!("head@n{BROKEN}.0.log"));
    ensure(tail(&log, 1) == "it is broken", || format!("{} has no words", log.display()))?;
    // A command that does not end in its time is bad.
    let told = site.run("hunt -q --on head@n01,head@n02 --timeout 1 -- /bin/sleep 60")?;
    ensure(told.matches("did not end in its time").count() == 2, || told.clone())?;
    is_as(&site, &before)?;
    Ok(Outcome::Passed)
}

/// By Ctrl-C all is cleared away at once; after SIGKILL, by the next verb that looks.
fn stopped(lab: &Lab) -> Result<Outcome, Failure> {
    own_mounts()?;
    let scene = Scene::new(lab)?;
    let site = scene.site();
    furnish(&site, "head", lab.parts()?)?;
    site.run("snapshot head@a")?;
    let before = site.run("list -a -H -o name")?;
    let log = scene.directory.join("hunt.log");
    let start = || -> Result<_, Failure> {
        let running = site.netbe("hunt --on head@a,head -- /bin/sleep 1000").start(&log)?;
        wait_for("the command", LIMIT, || {
            let found = Program::new("pgrep").words("-f -x").arg(SLEEP).finish(LIMIT)?;
            Ok(found.status.success().then_some(()))
        })?;
        Ok(running)
    };
    let mut running = start()?;
    let ended = running.interrupt(LIMIT)?;
    ensure(ended.code() == Some(2), || format!("{ended}: {}", tail(&log, 3)))?;
    ensure(tail(&log, 1).contains("interrupted: "), || tail(&log, 3))?;
    is_as(&site, &before)?;
    let mut running = start()?;
    running.kill();
    site.run("settle")?;
    is_as(&site, &before)?;
    Ok(Outcome::Passed)
}

/// Nothing of a hunt is left: neither clones, nor mounts, nor processes.
fn is_as(site: &Site<'_>, before: &str) -> Result<(), Failure> {
    let listed = site.run("list -a -H -o name")?;
    ensure(listed == before, || format!("there is something else: {listed}"))?;
    let mounts = fs::read_to_string("/proc/self/mounts").during("/proc/self/mounts")?;
    let left = mounts.lines().find(|line| line.contains("hunt-"));
    ensure(left.is_none(), || format!("it is still mounted: {}", left.unwrap_or_default()))?;
    let found = Program::new("pgrep").words("-f -x").arg(SLEEP).finish(LIMIT)?;
    ensure(!found.status.success(), || format!("still runs: {}", found.stdout))
}

/// Makes an environment in which little runs: a shell, and a check that fails where something is broken.
fn furnish(site: &Site<'_>, name: &str, parts: &Parts) -> Result<(), Failure> {
    site.run(&format!("create {name}"))?;
    let root = site.root(name);
    let script = "mkdir -p bin usr etc proc dev sys run tmp root
        cp \"$BUSYBOX\" bin/busybox
        for word in sh sleep echo; do ln -s busybox bin/$word; done
        echo ID=lab >etc/os-release
        printf '#!/bin/sh\\n[ ! -e /etc/broken ] || { echo it is broken; exit 3; }\\n' >bin/check
        chmod 755 bin/check";
    let make = Program::new("sh").args(["-euc", script]).env("BUSYBOX", parts.busybox());
    make.directory(&root).run(LIMIT).map(drop)
}

/// The snapshot with which it begins.
const BROKEN: u32 = 21;
/// The command as its process shows it.
const SLEEP: &str = "/bin/sleep 1000";
const LIMIT: Duration = Duration::from_secs(60);
