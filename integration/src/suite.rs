//! Runs the tests, some side by side, and counts them.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::attempt::{Attempt, Ending};
use crate::cases;
use crate::failure::{Failure, ensure};
use crate::interrupt;
use crate::lab::{Lab, Wishes};
use crate::packages;
use crate::progress;

/// A test of the lab.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Its name: words from the part that it belongs to, to what it is about.
    pub(crate) name: &'static str,
    /// Runs it; a failure says in words what is not as it should be.
    pub(crate) run: fn(&Lab) -> Result<Outcome, Failure>,
    turn: Turn,
}

impl Case {
    /// A test that takes a minute at most.
    pub(crate) const fn new(name: &'static str, run: fn(&Lab) -> Result<Outcome, Failure>) -> Self {
        Self { name, run, turn: Turn::Short }
    }

    /// A test that takes minutes.
    pub(crate) const fn long(self) -> Self {
        Self { turn: Turn::Long, ..self }
    }

    /// A test that has cargo build much.
    pub(crate) const fn build(self) -> Self {
        Self { turn: Turn::Build, ..self }
    }
}

impl Case {
    /// How long it may take on a computer that has much else to do, before it is ended as failed.
    pub(crate) const fn limit(&self) -> Duration {
        Duration::from_secs(match self.turn {
            Turn::Short => 25 * 60,
            Turn::Long => 60 * 60,
            // Builds from nothing.
            Turn::Build => 90 * 60,
        })
    }
}

/// When tests have their turn.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Turn {
    /// First, and one after the other: cargo takes every processor, and lets nobody else into its
    /// folder.
    Build,
    /// Before the short ones, so that in the end nobody waits for one of these alone.
    Long,
    /// As the list has them.
    Short,
}

/// How a test ended that did not fail as a whole.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Outcome {
    /// It passed.
    Passed,
    /// It could not be run here, for this reason.
    Skipped(String),
    /// It is a collection of tests, such as those that cargo runs.
    Counted(Tally),
}

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
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

/// Prints the names of the tests whose name contains `only`, or of all.
pub(crate) fn list(only: Option<&str>) -> Result<ExitCode, Failure> {
    for case in chosen(only)? {
        println!("{}", case.name);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the tests whose name contains `only`, or all; at most `jobs` at the same time.
pub(crate) fn run(only: Option<&str>, jobs: usize, wishes: Wishes) -> Result<ExitCode, Failure> {
    let minutes = wishes.minutes.or_else(|| only.is_none().then_some(MINUTES));
    let wishes = Wishes { minutes, ..wishes };
    let mut waiting = chosen(only)?;
    waiting.sort_by_key(|case| case.turn);
    packages::install(&[packages::MACHINES, packages::TESTS])?;
    let lab = Lab::open()?;
    let line = progress::line();
    let (count, mut done) = (waiting.len(), 0);
    let mut total = Tally::default();
    let (mut failed, mut costs) = (Vec::new(), Vec::new());
    let mut running: Vec<Attempt> = Vec::new();
    while !(waiting.is_empty() && running.is_empty()) {
        interrupt::check().inspect_err(|_interruption| {
            line.print(&format!("interrupted during {}", names(&running)));
        })?;
        while running.len() < jobs
            && let Some(next) = next(&waiting, running.iter().map(|attempt| attempt.case))
        {
            let place = lab.directory(&format!("{}", count - waiting.len()))?;
            running.push(Attempt::begin(waiting.remove(next), &lab, place, wishes)?);
        }
        let mut still = Vec::new();
        for mut attempt in running {
            match attempt.ended(&lab.cache)? {
                None => still.push(attempt),
                Some(ending) => {
                    let (told, tally) = told(attempt.case.name, &ending);
                    line.print(&told);
                    total.add(tally);
                    costs.push((ending.report.processor, ending.time, attempt.case.name));
                    if tally.failed > 0 {
                        failed.push(attempt.case.name);
                    }
                    done += 1;
                }
            }
        }
        running = still;
        line.say(&format!("{done} of {count} done; now {}", names(&running)));
        thread::sleep(PERIOD);
    }
    drop(line);
    if costs.len() > DEAREST {
        println!("what cost most:");
        println!("{}", dearest(costs));
    }
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    println!("{}", total.words());
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tests that took most of the processors' time, a line for each.
fn dearest(mut costs: Vec<(Duration, Duration, &str)>) -> String {
    costs.sort_unstable_by(|one, other| other.cmp(one));
    let lines = costs.into_iter().take(DEAREST).map(|(processor, time, name)| {
        format!(
            "{:8.0} s of processor time, {:.0} s: {name}",
            processor.as_secs_f32(),
            time.as_secs_f32()
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn names(running: &[Attempt]) -> String {
    let names: Vec<&str> = running.iter().map(|attempt| attempt.case.name).collect();
    names.join(", ")
}

/// Which of those that wait is next: the first, but for a build while there is another.
fn next(waiting: &[Case], mut running: impl Iterator<Item = Case>) -> Option<usize> {
    let building = running.any(|case| case.turn == Turn::Build);
    waiting.iter().position(|case| !(building && case.turn == Turn::Build))
}

/// What is told of a test that has ended, with what it wrote below; and what it counts for.
fn told(name: &str, ending: &Ending) -> (String, Tally) {
    let seconds = ending.time.as_secs_f32();
    let processor = ending.report.processor.as_secs_f32();
    let time = format!("({seconds:.1} s, processor {processor:.1} s)");
    let (head, tally) = match &ending.report.result {
        Err(words) => {
            let words = words.trim_end();
            (format!("FAIL  {name} {time}\n{words}"), Tally { failed: 1, ..Tally::default() })
        }
        Ok(Outcome::Passed) => {
            (format!("ok    {name} {time}"), Tally { passed: 1, ..Tally::default() })
        }
        Ok(Outcome::Skipped(reason)) => {
            (format!("skip  {name}: {reason}"), Tally { skipped: 1, ..Tally::default() })
        }
        Ok(Outcome::Counted(tally)) => {
            let word = if tally.failed == 0 { "ok  " } else { "FAIL" };
            (format!("{word}  {name}: {} {time}", tally.words()), *tally)
        }
    };
    let output = ending.output.trim_end();
    let mut told = if output.is_empty() { head } else { format!("{head}\n{output}") };
    if let Some(place) = &ending.kept {
        told.push_str(&format!("\n      its files: {}", place.display()));
    }
    (told, tally)
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

/// How long `survive` makes trouble beside all other tests.
const MINUTES: u32 = 4;
/// How many of the tests that cost most are told.
const DEAREST: usize = 10;
/// How long the suite rests between two looks at the tests that run.
const PERIOD: Duration = Duration::from_millis(50);

#[cfg(test)]
mod test {
    use std::collections::BTreeSet;

    use super::*;
    use crate::attempt::Report;

    fn ending(result: Result<Outcome, String>, output: &str) -> Ending {
        let report = Report { result, processor: Duration::from_millis(700) };
        let time = Duration::from_secs(2);
        Ending { report, output: output.to_owned(), kept: None, time }
    }

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

    #[test]
    fn one_build_at_a_time_is_next_and_others_beside_it() {
        let case = Case::new("a", |_lab| Ok(Outcome::Passed));
        let waiting = [case.build(), case.long(), case];
        assert_eq!(next(&waiting, [case.long()].into_iter()), Some(0));
        assert_eq!(next(&waiting, [case.build()].into_iter()), Some(1));
        assert_eq!(next(&[case.build()], [case.build()].into_iter()), None);
    }

    #[test]
    fn what_a_test_wrote_stands_below_how_it_ended() {
        let (told, tally) = told("a", &ending(Err("wrong\n".to_owned()), "  step: done\n"));
        assert_eq!(told, "FAIL  a (2.0 s, processor 0.7 s)\nwrong\n  step: done");
        assert_eq!(tally, Tally { failed: 1, ..Tally::default() });
    }

    #[test]
    fn what_costs_most_is_told_first() {
        let seconds = Duration::from_secs;
        let told = dearest(vec![(seconds(3), seconds(9), "b"), (seconds(70), seconds(40), "a")]);
        let lines: Vec<&str> = told.lines().map(str::trim).collect();
        assert_eq!(lines, ["70 s of processor time, 40 s: a", "3 s of processor time, 9 s: b"]);
    }

    #[test]
    fn a_skipped_test_says_why() {
        let (told, tally) = told("a", &ending(Ok(Outcome::Skipped("no disk".to_owned())), ""));
        assert_eq!((told.as_str(), tally.skipped), ("skip  a: no disk", 1));
    }
}
