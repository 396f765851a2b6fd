//! A test in a process of its own: what it writes is collected, and how it ended it tells in a file.
//!
//! Tests that run side by side so share nothing but the cache and the place of what is made once, and
//! one that panics fails alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::cases;
use crate::failure::{During, Failure};
use crate::kept;
use crate::lab::{Lab, Wishes};
use crate::process::{Program, Running};
use crate::suite::{Case, Outcome};
use crate::timeline::Timeline;

/// A test that runs; when it is dropped, it is ended as by Ctrl-C.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The test.
    pub(crate) case: Case,
    running: Running,
    place: PathBuf,
    /// Whether its files stay where they are.
    keep: bool,
    begin: Instant,
}

impl Attempt {
    /// Starts the test. What it writes goes below `place`, a directory that has nothing in it.
    pub(crate) fn begin(
        case: Case,
        lab: &Lab,
        place: PathBuf,
        wishes: Wishes,
    ) -> Result<Self, Failure> {
        // A build of the tests may put another program in this one's place.
        let myself = format!("/proc/{}/exe", process::id());
        let running = Program::under(&CLEANS_UP_WITHOUT_THE_LAB.map(str::to_owned), &myself)
            .args(["case", case.name])
            .args([&place, lab.made()])
            .args(wishes.arguments())
            .start(&place.join(OUTPUT))?;
        Ok(Self { case, running, place, keep: wishes.keep, begin: Instant::now() })
    }

    /// How it ended, once it has, or when it has taken longer than it may. Unless somebody wants them kept,
    /// its files are gone then, but for what `cache` keeps of those of a test that failed.
    pub(crate) fn ended(&mut self, cache: &Cache) -> Result<Option<Ending>, Failure> {
        let limit = self.case.limit();
        let overdue = self.begin.elapsed() > limit;
        let status = match self.running.ended()? {
            Some(status) => status.to_string(),
            None if overdue => {
                fs::write(self.place.join(OVERDUE), "").during("the test's place")?;
                self.running.dismiss(CLEANING);
                format!("not within {} minutes", limit.as_secs() / 60)
            }
            None => return Ok(None),
        };
        let read = |name| fs::read(self.place.join(name)).unwrap_or_default();
        let output = String::from_utf8_lossy(&read(OUTPUT)).into_owned();
        let report = serde_json::from_slice(&read(REPORT));
        let report = report.unwrap_or_else(|_none| Report {
            result: Err(format!("its process ended without a word: {status}")),
            processor: Duration::ZERO,
        });
        let kept = if self.keep {
            Some(self.place.clone())
        } else {
            let kept = report.failed().then(|| kept::keep(cache, self.case.name, &self.place));
            // What a failed test made so that it cannot be removed is no reason to stop.
            drop(fs::remove_dir_all(&self.place));
            kept.transpose()?
        };
        Ok(Some(Ending { report, output, kept, time: self.begin.elapsed() }))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.running.dismiss(CLEANING);
    }
}

/// How a test ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// What the test itself tells.
    pub(crate) report: Report,
    /// All that it wrote.
    pub(crate) output: String,
    /// Where its files are, when it failed or they are wanted.
    pub(crate) kept: Option<PathBuf>,
    /// How long it took.
    pub(crate) time: Duration,
}

/// What a test tells in the end.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Report {
    /// What came of it, or in words why it failed.
    pub(crate) result: Result<Outcome, String>,
    /// The processor's time that it took, with all the programs that it ran.
    pub(crate) processor: Duration,
}

impl Report {
    fn failed(&self) -> bool {
        match &self.result {
            Err(_) => true,
            Ok(Outcome::Counted(tally)) => tally.failed > 0,
            Ok(Outcome::Passed | Outcome::Skipped(_)) => false,
        }
    }
}

/// Runs a test in this process; writes below `place` how it ended, and below `made` what every test
/// of the same suite may use.
pub(crate) fn carry_out(
    name: &str,
    place: &Path,
    made: &Path,
    wishes: Wishes,
) -> Result<ExitCode, Failure> {
    let case = cases::all().into_iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| Failure::said(format!("no test is {name:?}")))?;
    let mut lab = Lab::beside_others(place, made)?;
    lab.wishes = wishes;
    let timeline = Timeline::begin(place, &place.join(TIMELINE)).during("the test's timeline")?;
    let ended = (case.run)(&lab);
    drop(timeline);
    let result = match ended {
        Ok(outcome) => Ok(outcome),
        Err(Failure::Said(words)) => Err(words),
        Err(Failure::Interrupted) => {
            // Whoever interrupts it otherwise does not want its files.
            if place.join(OVERDUE).exists() {
                lab.keep();
            }
            return Err(Failure::Interrupted);
        }
    };
    let report = Report { result, processor: processor() };
    if report.failed() || wishes.keep {
        lab.keep();
    }
    let file = place.join(REPORT);
    let report = serde_json::to_vec(&report).during("the test's report")?;
    fs::write(&file, report).during(file.display())?;
    Ok(ExitCode::SUCCESS)
}

/// The processor's time that this process took, with all programs that it has seen end.
fn processor() -> Duration {
    let used = |who| {
        getrusage(who)
            .map_or(0, |usage| (usage.user_time() + usage.system_time()).num_milliseconds())
    };
    let milliseconds = used(UsageWho::RUSAGE_SELF) + used(UsageWho::RUSAGE_CHILDREN);
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default())
}

/// The words by which a test is told to end when whoever started it is killed.
const CLEANS_UP_WITHOUT_THE_LAB: [&str; 3] = ["setpriv", "--pdeathsig", "TERM"];
const OUTPUT: &str = "output";
/// Is there when a test has taken longer than it may.
const OVERDUE: &str = "overdue";
const REPORT: &str = "report";
/// What everybody wrote, in the order of time.
const TIMELINE: &str = "timeline";
/// How long a test may clean up.
const CLEANING: Duration = Duration::from_secs(30);
