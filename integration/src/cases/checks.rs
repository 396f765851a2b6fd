//! What can be said about the sources without running the program, and what cargo runs itself.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::failure::{Failure, ensure};
use crate::lab::{BUILD_LIMIT, Lab};
use crate::process::last_lines;
use crate::suite::{Case, Outcome, Tally};

pub(super) const CASES: &[Case] = &[
    Case { name: "check format", run: format },
    Case { name: "check arrows", run: arrows },
    Case { name: "check lints", run: lints },
    Case { name: "check documents", run: documents },
    Case { name: "cargo test", run: cargo_test },
];

fn format(_lab: &Lab) -> Result<Outcome, Failure> {
    Lab::cargo().words("fmt --all --check").run(Duration::from_secs(300))?;
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
    Lab::cargo()
        .words("clippy --quiet --locked --workspace --all-targets -- -D warnings")
        .run(BUILD_LIMIT)?;
    Ok(Outcome::Passed)
}

fn documents(_lab: &Lab) -> Result<Outcome, Failure> {
    Lab::cargo()
        .words("doc --quiet --locked --workspace --no-deps --document-private-items")
        // Private items are documented too, so that links to them lead somewhere.
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")
        .run(BUILD_LIMIT)?;
    Ok(Outcome::Passed)
}

fn cargo_test(_lab: &Lab) -> Result<Outcome, Failure> {
    let done =
        Lab::cargo().words("test --locked --workspace --no-fail-fast").finish(BUILD_LIMIT)?;
    let tally = count(&done.stdout);
    if tally.failed > 0 {
        for line in done.stdout.lines().filter(|line| line.ends_with("... FAILED")) {
            println!("      {line}");
        }
        println!("{}", last_lines(&done.stdout, 60));
    } else if !done.status.success() || tally == Tally::default() {
        // What does not compile, or ends without a word, has no count.
        return Err(Failure::Said(last_lines(&done.stderr, 40)));
    }
    Ok(Outcome::Counted(tally))
}

/// Adds up the lines in which the test programs tell their results.
fn count(output: &str) -> Tally {
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
    tally
}

const ARROWS: &str = include_str!("../../arrows.txt");

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn results_of_several_test_programs_are_added_up() {
        let output = "running 3 tests\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
            finished in 0.00s\n\
            test result: FAILED. 11 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(count(output), Tally { passed: 14, failed: 2, skipped: 1 });
    }
}
