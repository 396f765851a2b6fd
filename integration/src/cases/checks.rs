//! What can be said about the sources without running the program, and what cargo runs itself.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::debian::Debian;
use crate::failure::{Failure, ensure};
use crate::lab::{BUILD_LIMIT, Lab, workspace};
use crate::packages;
use crate::process::last_lines;
use crate::suite::{Case, Outcome, Tally};

pub(super) const CASES: &[Case] = &[
    Case::new("check format", format).before_others(),
    Case::new("check arrows", arrows).before_others(),
    Case::new("cargo build", build).before_others(),
    Case::new("check lints", lints).build(),
    Case::new("check documents", documents).build(),
    Case::new("cargo test", cargo_test).build(),
];

fn format(_lab: &Lab) -> Result<Outcome, Failure> {
    Lab::cargo().words("fmt --all --check").run(Duration::from_secs(300))?;
    Ok(Outcome::Passed)
}

/// Builds every program that other tests run, once: they would wait for cargo's folder one after the
/// other.
fn build(lab: &Lab) -> Result<Outcome, Failure> {
    let library = thread::scope(|scope| {
        let cache = &lab.cache;
        // Where there is no image of a Debian yet, it takes minutes.
        let library = scope.spawn(move || Debian::get(cache)?.library(cache));
        workspace("test --no-run --quiet --locked").run(BUILD_LIMIT)?;
        library.join().map_err(|_panic| Failure::said("the Debian was not made"))?
    })?;
    for file in ["contract", "zfs"] {
        lab.tests_with_libzfs(file, &library)?;
    }
    for (package, file) in
        [("store", "contract"), ("store", "thin"), ("store", "zfs"), ("hostfs", "contract")]
    {
        lab.tests(package, file)?;
    }
    lab.netbe()?;
    Ok(Outcome::Passed)
}

/// The pure crates depend on what is written down in `arrows.txt` and on nothing else.
fn arrows(_lab: &Lab) -> Result<Outcome, Failure> {
    for line in ARROWS.lines() {
        let Some((package, allowed)) = line.split_once(':') else { continue };
        let tree = Lab::cargo()
            .words("tree --locked -e normal --depth 1 --prefix none -p")
            .arg(package)
            .run(Duration::from_secs(300))?;
        let names = tree.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        let (found, allowed): (BTreeSet<&str>, BTreeSet<&str>) =
            (names.collect(), allowed.split_whitespace().collect());
        ensure(found == allowed, || {
            format!("{package} depends on {found:?}; integration/arrows.txt says {allowed:?}")
        })?;
    }
    Ok(Outcome::Passed)
}

fn lints(_lab: &Lab) -> Result<Outcome, Failure> {
    workspace("clippy --quiet --locked --all-targets").words("-- -D warnings").run(BUILD_LIMIT)?;
    Ok(Outcome::Passed)
}

fn documents(_lab: &Lab) -> Result<Outcome, Failure> {
    workspace("doc --quiet --locked --no-deps --document-private-items")
        // Private items are documented too, so that links to them lead somewhere.
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")
        .run(BUILD_LIMIT)?;
    Ok(Outcome::Passed)
}

fn cargo_test(lab: &Lab) -> Result<Outcome, Failure> {
    // A test that cannot run says so and passes; what passed is shown, so that it can be counted.
    let done = workspace("test --locked --no-fail-fast")
        .words("-- --show-output")
        .env("PATH", programs(lab)?)
        .finish(BUILD_LIMIT)?;
    let tally = count(&done.stdout);
    for line in done.stdout.lines().filter(|line| line.starts_with(SKIPPED)) {
        println!("      {line}");
    }
    if tally.failed > 0 {
        println!("{}", failures(&done.stdout));
    } else if !done.status.success() || tally == Tally::default() {
        // What does not compile, or ends without a word, has no count.
        return Err(Failure::Said(last_lines(&done.stderr, 40)));
    }
    Ok(Outcome::Counted(tally))
}

/// Where programs are found: on this host, and in packages that are not installed because they have
/// services too.
fn programs(lab: &Lab) -> Result<OsString, Failure> {
    let busybox = lab.parts()?.busybox().parent().map(Path::to_owned);
    let rpcbind = packages::unpacked(&lab.cache, "rpcbind")?;
    let host = env::var_os("PATH").unwrap_or_default();
    let unpacked = [rpcbind.join("sbin"), rpcbind.join("usr/sbin")];
    let all = env::split_paths(&host).chain(unpacked).chain(busybox);
    env::join_paths(all).map_err(|error| Failure::said(format!("PATH: {error}")))
}

/// Adds up the lines in which the test programs tell their results.
pub(super) fn count(output: &str) -> Tally {
    let mut tally = Tally::default();
    for line in output.lines().filter(|line| line.starts_with("test result: ")) {
        let number = |word: &str| {
            let mut parts = line.split([';', '.']).map(str::trim);
            let part = parts.find_map(|part| part.strip_suffix(word));
            part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        tally.passed += number("passed");
        tally.failed += number("failed");
        tally.skipped += number("ignored");
    }
    let skipped = output.lines().filter(|line| line.starts_with(SKIPPED)).count();
    let skipped = u32::try_from(skipped).unwrap_or(u32::MAX);
    tally.passed = tally.passed.saturating_sub(skipped);
    tally.skipped += skipped;
    tally
}

/// What the tests that failed said, from the output of several test programs.
pub(super) fn failures(output: &str) -> String {
    let mut told = Vec::new();
    let mut inside = false;
    for line in output.lines() {
        inside = (inside || line == "failures:") && !line.starts_with("test result: ");
        if inside {
            told.push(line);
        }
    }
    last_lines(&told.join("\n"), 120)
}

/// How a line begins by which a test says why it could not run.
pub(super) const SKIPPED: &str = "skipped: ";
const ARROWS: &str = include_str!("../../arrows.txt");

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn of_several_test_programs_those_that_failed_are_told() {
        let output = "running 1 test\ntest a ... ok\n\nsuccesses:\n\n---- a stdout ----\nquiet\n\n\
            test result: ok. 1 passed; 0 failed\n\nrunning 1 test\ntest b ... FAILED\n\n\
            failures:\n\n---- b stdout ----\nloud\n\nfailures:\n    b\n\n\
            test result: FAILED. 0 passed; 1 failed\n\nrunning 0 tests\n\n\
            test result: ok. 0 passed; 0 failed\n";
        let said = "failures:\n\n---- b stdout ----\nloud\n\nfailures:\n    b";
        assert_eq!(failures(output), said);
    }

    #[test]
    fn results_of_several_test_programs_are_added_up() {
        let output = "running 3 tests\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
            finished in 0.00s\n\
            skipped: rpcbind is not installed\n\
            test result: FAILED. 11 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(count(output), Tally { passed: 13, failed: 2, skipped: 2 });
    }
}
