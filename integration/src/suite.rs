//! Runs the tests one after the other and counts them.

use std::process::ExitCode;
use std::time::Instant;

use crate::cases;
use crate::failure::{Failure, ensure};
use crate::lab::Lab;
use crate::packages;

/// A test of the lab.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Its name: words from the part that it belongs to, to what it is about.
    pub(crate) name: &'static str,
    /// Runs it; a failure says in words what is not as it should be.
    pub(crate) run: fn(&Lab) -> Result<Outcome, Failure>,
}

/// How a test ended that did not fail as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// It passed.
    Passed,
    /// It could not be run here, for this reason.
    Skipped(String),
    /// It is a collection of tests, such as those that cargo runs.
    Counted(Tally),
}

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u32,
    /// Tests that failed.
    pub(crate) failed: u32,
    /// Tests that could not be run.
    pub(crate) skipped: u32,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn words(self) -> String {
        let Self { passed, failed, skipped } = self;
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Runs the tests whose name contains `only`, or all; or prints their names.
pub(crate) fn run(only: Option<&str>, list: bool) -> Result<ExitCode, Failure> {
    let chosen = chosen(only)?;
    if list {
        for case in chosen {
            println!("{}", case.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    packages::install(&[packages::MACHINES, packages::TESTS])?;
    let lab = Lab::open()?;
    let mut total = Tally::default();
    for case in chosen {
        let begin = Instant::now();
        let result = (case.run)(&lab);
        let seconds = begin.elapsed().as_secs_f32();
        let name = case.name;
        let tally = match result {
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(Failure::Said(words)) => {
                println!("FAIL  {name} ({seconds:.1} s)\n{words}");
                Tally { failed: 1, ..Tally::default() }
            }
            Ok(Outcome::Passed) => {
                println!("ok    {name} ({seconds:.1} s)");
                Tally { passed: 1, ..Tally::default() }
            }
            Ok(Outcome::Skipped(reason)) => {
                println!("skip  {name}: {reason}");
                Tally { skipped: 1, ..Tally::default() }
            }
            Ok(Outcome::Counted(tally)) => {
                let word = if tally.failed == 0 { "ok  " } else { "FAIL" };
                println!("{word}  {name}: {} ({seconds:.1} s)", tally.words());
                tally
            }
        };
        total.add(tally);
    }
    println!("{}", total.words());
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(only: Option<&str>) -> Result<Vec<Case>, Failure> {
    let word = only.unwrap_or_default();
    let chosen: Vec<Case> =
        cases::all().into_iter().filter(|case| case.name.contains(word)).collect();
    ensure(!chosen.is_empty(), || {
        format!("no test has {word:?} in its name; `cargo lab test --list` names them all")
    })?;
    Ok(chosen)
}

#[cfg(test)]
mod test {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_test_has_a_name_of_its_own() {
        let cases = cases::all();
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases.len());
    }

    #[test]
    fn a_word_that_no_test_has_is_refused() {
        let failure = chosen(Some("no-such-test")).unwrap_err().to_string();
        assert!(failure.contains("`cargo lab test --list` names them all"), "{failure}");
    }
}
