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

use crate::cases;
use crate::failure::{During, Failure};
use crate::lab::Lab;
use crate::process::{Program, Running};
use crate::suite::{Case, Outcome};

/// A test that runs; when it is dropped, it is ended as by Ctrl-C.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The test.
    pub(crate) case: Case,
    running: Running,
    place: PathBuf,
    begin: Instant,
}

impl Attempt {
    /// Starts the test. What it writes goes below `place`, a directory that has nothing in it.
    pub(crate) fn begin(case: Case, lab: &Lab, place: PathBuf) -> Result<Self, Failure> {
        // A build of the tests may put another program in this one's place.
        let myself = format!("/proc/{}/exe", process::id());
        let running = Program::under(&CLEANS_UP_WITHOUT_THE_LAB.map(str::to_owned), &myself)
            .args(["case", case.name])
            .args([&place, lab.made()])
            .start(&place.join(OUTPUT))?;
        Ok(Self { case, running, place, begin: Instant::now() })
    }

    /// How it ended, once it has. Its files are gone then.
    pub(crate) fn ended(&mut self) -> Result<Option<Ending>, Failure> {
        let Some(status) = self.running.ended()? else { return Ok(None) };
        let read = |name| fs::read(self.place.join(name)).unwrap_or_default();
        let output = String::from_utf8_lossy(&read(OUTPUT)).into_owned();
        let report = serde_json::from_slice(&read(REPORT));
        let report = report.unwrap_or_else(|_none| Report {
            result: Err(format!("its process ended without a word: {status}")),
            processor: Duration::ZERO,
        });
        // What a failed test made so that it cannot be removed is no reason to stop.
        drop(fs::remove_dir_all(&self.place));
        Ok(Some(Ending { report, output, time: self.begin.elapsed() }))
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

/// Runs a test in this process; writes below `place` how it ended, and below `made` what every test
/// of the same suite may use.
pub(crate) fn carry_out(name: &str, place: &Path, made: &Path) -> Result<ExitCode, Failure> {
    let case = cases::all().into_iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| Failure::said(format!("no test is {name:?}")))?;
    let lab = Lab::beside_others(place, made)?;
    let result = match (case.run)(&lab) {
        Ok(outcome) => Ok(outcome),
        Err(Failure::Said(words)) => Err(words),
        Err(Failure::Interrupted) => return Err(Failure::Interrupted),
    };
    let report = serde_json::to_vec(&Report { result, processor: processor() });
    let file = place.join(REPORT);
    fs::write(&file, report.during("the test's report")?).during(file.display())?;
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
const REPORT: &str = "report";
/// How long a test may clean up.
const CLEANING: Duration = Duration::from_secs(30);
