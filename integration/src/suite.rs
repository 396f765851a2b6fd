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
    load: Load,
    /// Whether it is run only by those who name it.
    when_named: bool,
}

impl Case {
    /// A test that takes a minute at most, with one machine.
    pub(crate) const fn new(name: &'static str, run: fn(&Lab) -> Result<Outcome, Failure>) -> Self {
        Self { name, run, turn: Turn::Short, load: Load::Machine, when_named: false }
    }

    /// A test that takes minutes.
    pub(crate) const fn long(self) -> Self {
        Self { turn: Turn::Long, ..self }
    }

    /// A test that has cargo build much.
    pub(crate) const fn build(self) -> Self {
        Self { turn: Turn::Build, ..self }
    }

    /// A test that takes so long that all tests together leave it out, and `cargo lab soak` has it.
    pub(crate) const fn when_named(self) -> Self {
        Self { turn: Turn::Long, when_named: true, ..self }
    }

    /// What makes what other tests use: none begins before it has ended.
    pub(crate) const fn before_others(self) -> Self {
        Self { turn: Turn::BeforeOthers, load: Load::Machines, ..self }
    }

    /// A test of programs, without a machine: most of its time it waits.
    pub(crate) const fn light(self) -> Self {
        Self { load: Load::Light, ..self }
    }

    /// A test with several machines at the same time.
    pub(crate) const fn machines(self) -> Self {
        Self { load: Load::Machines, ..self }
    }

    /// A test that measures, and has the computer for itself.
    pub(crate) const fn alone(self) -> Self {
        Self { turn: Turn::Alone, load: Load::Alone, ..self }
    }

    /// How long it may take on a computer that has much else to do, before it is ended as failed.
    pub(crate) const fn limit(&self) -> Duration {
        Duration::from_secs(match self.turn {
            _ if self.when_named => 180 * 60,
            Turn::Short | Turn::Alone => 25 * 60,
            Turn::Long => 60 * 60,
            // Builds from nothing.
            Turn::Build | Turn::BeforeOthers => 90 * 60,
        })
    }
}

/// When tests have their turn.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Turn {
    /// Before all others, which wait for its end.
    BeforeOthers,
    /// First, and one after the other: cargo lets nobody else into its folder.
    Build,
    /// Before the short ones, so that in the end nobody waits for one of these alone.
    Long,
    /// As the list has them.
    Short,
    /// In the end, when nothing else runs.
    Alone,
}

/// How much of the computer a test takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Load {
    /// Half a processor: it waits for clocks and for answers.
    Light,
    /// A processor: an emulated machine, or one cargo.
    Machine,
    /// Two processors.
    Machines,
    /// All.
    Alone,
}

impl Load {
    /// In quarters of a processor, of which the computer has `all`.
    fn quarters(self, all: usize) -> usize {
        match self {
            Self::Light => LIGHT_BESIDE,
            Self::Machine => 4,
            Self::Machines => 8.min(all),
            Self::Alone => all + LIGHT_BESIDE,
        }
    }
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

/// Prints the names of the chosen tests.
pub(crate) fn list(choice: &Choice) -> Result<ExitCode, Failure> {
    for case in choice.named()? {
        let note = if case.when_named { "  (only by --only)" } else { "" };
        println!("{}{note}", case.name);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the chosen tests; at the same time as many as take the time of `jobs` processors.
pub(crate) fn run(choice: &Choice, jobs: usize, wishes: Wishes) -> Result<ExitCode, Failure> {
    let minutes = wishes.minutes.or_else(|| choice.is_all().then_some(MINUTES));
    let wishes = Wishes { minutes, ..wishes };
    let mut waiting = choice.cases()?;
    waiting.sort_by_key(|case| case.turn);
    packages::install(&[packages::MACHINES, packages::TESTS])?;
    let mut lab = Lab::open()?;
    if wishes.keep {
        lab.keep();
    }
    let line = progress::line();
    let (count, mut done) = (waiting.len(), 0);
    let mut total = Tally::default();
    let (mut failed, mut costs) = (Vec::new(), Vec::new());
    let mut running: Vec<Attempt> = Vec::new();
    while !(waiting.is_empty() && running.is_empty()) {
        interrupt::check().inspect_err(|_interruption| {
            line.print(&format!("interrupted during {}", names(&running)));
        })?;
        while let Some(next) =
            next(&waiting, &running.iter().map(|attempt| attempt.case).collect::<Vec<_>>(), jobs)
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

/// Which of those that wait is next, if there is room for one on so many processors.
///
/// It is the first, but for a build while there is another; while nothing lighter fits beside what runs,
/// one that only waits does. Others do not overtake one that needs much, which would never begin.
fn next(waiting: &[Case], running: &[Case], jobs: usize) -> Option<usize> {
    let all = 4 * jobs;
    let taken: usize = running.iter().map(|case| case.load.quarters(all)).sum();
    if running.iter().any(|case| case.turn == Turn::BeforeOthers) {
        return None;
    }
    let building = running.iter().any(|case| case.turn == Turn::Build);
    let may = |case: &Case| !(building && case.turn == Turn::Build);
    let first = waiting.iter().position(may)?;
    let fits =
        |case: &Case, room: usize| running.is_empty() || taken + case.load.quarters(all) <= room;
    if waiting.get(first).is_some_and(|case| fits(case, all)) {
        return Some(first);
    }
    let beforehand = waiting.first().is_some_and(|case| case.turn == Turn::BeforeOthers);
    waiting.iter().position(|case| {
        case.load == Load::Light && may(case) && !beforehand && fits(case, all + LIGHT_BESIDE)
    })
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

/// Which tests are meant.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Choice {
    /// Only tests whose name contains this word.
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// No test whose name contains this word; may be said several times.
    #[arg(long, value_name = "WORD")]
    exclude: Vec<String>,
}

impl Choice {
    const fn is_all(&self) -> bool {
        self.only.is_none()
    }

    /// Those that are run.
    fn cases(&self) -> Result<Vec<Case>, Failure> {
        let mut cases = self.named()?;
        cases.retain(|case| !(self.is_all() && case.when_named));
        Ok(cases)
    }

    fn named(&self) -> Result<Vec<Case>, Failure> {
        let word = self.only.as_deref().unwrap_or_default();
        let without = |case: &Case| self.exclude.iter().any(|word| case.name.contains(word));
        let mut cases = cases::all();
        cases.retain(|case| case.name.contains(word) && !without(case));
        ensure(!cases.is_empty(), || {
            format!(
                "no test is left with {word:?} in its name; `cargo lab test --list` names them all"
            )
        })?;
        Ok(cases)
    }
}

/// How long `survive` makes trouble beside all other tests.
const MINUTES: u32 = 2;
/// How many of the tests that cost most are told.
const DEAREST: usize = 10;
/// How many quarters of a processor a test takes that only waits; so many may be taken beyond all.
const LIGHT_BESIDE: usize = 2;
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
        let choice = Choice { only: Some("no-such-test".to_owned()), exclude: Vec::new() };
        let failure = choice.cases().unwrap_err().to_string();
        assert!(failure.contains("`cargo lab test --list` names them all"), "{failure}");
    }

    #[test]
    fn what_is_excluded_is_not_chosen() {
        let names = |exclude: &[&str]| {
            let exclude = exclude.iter().map(|&word| word.to_owned()).collect();
            let choice = Choice { only: Some("boot".to_owned()), exclude };
            choice.cases().unwrap().iter().map(|case| case.name).collect::<Vec<_>>()
        };
        assert!(names(&[]).contains(&"boot UEFI HTTP"));
        let left = names(&["UEFI", "dnsmasq"]);
        assert!(left.contains(&"boot BIOS"));
        assert!(!left.iter().any(|name| name.contains("UEFI") || name.contains("dnsmasq")));
    }

    const CASE: Case = Case::new("a", |_lab| Ok(Outcome::Passed));

    #[test]
    fn one_build_at_a_time_is_next_and_others_beside_it() {
        let waiting = [CASE.build(), CASE.long(), CASE];
        assert_eq!(next(&waiting, &[CASE.long()], 2), Some(0));
        assert_eq!(next(&waiting, &[CASE.build()], 2), Some(1));
        assert_eq!(next(&[CASE.build()], &[CASE.build()], 2), None);
    }

    #[test]
    fn two_machines_take_two_processors_and_light_tests_run_beside_them() {
        assert_eq!(next(&[CASE], &[CASE], 2), Some(0));
        assert_eq!(next(&[CASE], &[CASE, CASE], 2), None);
        assert_eq!(next(&[CASE], &[CASE.machines()], 2), None);
        let waiting = [CASE, CASE.light()];
        assert_eq!(next(&waiting, &[CASE, CASE], 2), Some(1));
        assert_eq!(next(&waiting, &[CASE, CASE, CASE.light()], 2), None);
    }

    #[test]
    fn nothing_overtakes_what_needs_much_but_what_is_light() {
        let waiting = [CASE.machines(), CASE, CASE.light()];
        assert_eq!(next(&waiting, &[CASE], 2), Some(2));
        assert_eq!(next(&waiting, &[], 2), Some(0));
        assert_eq!(next(&waiting, &[], 1), Some(0));
    }

    #[test]
    fn what_makes_things_for_others_or_measures_runs_alone() {
        assert_eq!(next(&[CASE, CASE.light()], &[CASE.before_others()], 2), None);
        assert_eq!(next(&[CASE.before_others(), CASE.light()], &[CASE], 2), None);
        assert_eq!(next(&[CASE.alone()], &[CASE.light()], 2), None);
        assert_eq!(next(&[CASE.alone()], &[], 2), Some(0));
        assert_eq!(next(&[CASE.light()], &[CASE.alone()], 2), None);
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
