//! The verb that searches for a regression.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::num::NonZeroUsize;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bootcfg::shell;
use clap::Args;
use provision::interrupt::Interrupt;
use provision::terminal;
use store::{EnvironmentName, Point, Role, Snapshot, Store, StoreError, Timestamp};

use super::order::natural;
use super::{Dry, Failure, Format, Reply, Site, Table};
use crate::hunt::bench::{Clones, Trial, Way};
use crate::hunt::bisection::Judgement;
use crate::hunt::candidates::{Selection, SelectionError, Source, candidates};
use crate::hunt::report::{Line, Report};
use crate::hunt::{Catch, Manner, hunt};

/// Find the first boot environment or snapshot in which a command fails.
///
/// netbe runs the command in a clone of each candidate, and destroys the clone afterwards. Exit status 0
/// means good and 125 means skip; every other status, and a timeout, means bad. Among all snapshots and in a
/// range, netbe finds the first bad one by bisection; of a list it tries all.
#[derive(Args, Debug)]
pub(crate) struct Hunt {
    /// The candidates: BE@ for all snapshots of BE, A..B for all from A to B (as in BE@a..b), A,B,C for a list.
    #[arg(long, value_name = "WHAT")]
    on: Selection,
    /// How the command is run [default: chroot on Linux, jail on FreeBSD].
    #[arg(long, value_enum, value_name = "WAY")]
    run: Option<Way>,
    /// Try all candidates.
    #[arg(long, conflicts_with = "bisect")]
    all: bool,
    /// Bisect a list too. The list must be sorted: the good candidates first.
    #[arg(long)]
    bisect: bool,
    /// Try this many candidates at once.
    #[arg(short = 'J', long, value_name = "N", default_value = "1")]
    jobs: NonZeroUsize,
    /// Try each candidate this many times; the majority decides.
    #[arg(long, value_name = "N", default_value = "1")]
    repeat: NonZeroUsize,
    /// Stop a try after this many seconds, and call it bad.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    dry: Dry,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Hunt {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let way = self.run.unwrap_or(Way::of_this_host());
        if let Some(reason) = way.refuse() {
            return Err(Failure::no(reason));
        }
        if !self.dry.is_dry() {
            // Killed, it leaves no clone mounted. What was opened before belongs to other mounts.
            provision::own_mounts().map_err(|error| {
                Failure::could_not(format_args!("cannot create a mount namespace: {error}"))
            })?;
        }
        let store = site.open()?;
        let known = Known(&store);
        let candidates = candidates(&self.on, &known).map_err(|error| match error {
            SelectionError::Store(error) => error.into(),
            error @ (SelectionError::NoSnapshots(_)
            | SelectionError::Range(_)
            | SelectionError::Twice(_)) => Failure::no(error),
        })?;
        for candidate in &candidates {
            known.refuse_absent(candidate)?;
        }
        let bisect = !self.all && (self.bisect || self.on.is_ordered());
        let words = self.command.iter().map(|word| word.to_string_lossy().into_owned());
        let command = shell::line(&words.collect::<Vec<_>>()).map_err(Failure::could_not)?;
        let deeds =
            candidates.iter().map(|candidate| format!("try {command} in a clone of {candidate}"));
        if let Some(told) = self.dry.instead_of(site, &deeds.collect::<Vec<_>>()) {
            return Ok(told);
        }
        let id = format!("hunt-{}", compact(SystemTime::now().into()));
        let logs = site.state().join("hunts").join(&id);
        make(&logs)?;
        let interrupt = Interrupt::listen().map_err(|error| {
            Failure::could_not(format_args!("cannot listen for signals: {error}"))
        })?;
        let clones = Clones {
            store: &store,
            way,
            command: &self.command,
            limit: Duration::from_secs(self.timeout),
            id: &id,
            logs: &logs,
            interrupt: &interrupt,
        };
        let manner = Manner { jobs: self.jobs.get(), repeat: self.repeat.get(), bisect };
        let catch = hunt(&candidates, manner, &clones, &tell);
        let report = Report::of(&id, &command, &candidates, &catch);
        keep(&logs, &report)?;
        if interrupt.came() {
            return Err(Failure::could_not(format_args!(
                "interrupted: {} of {} were tried; {} has the results",
                catch.trials.len(),
                candidates.len(),
                Report::path(&logs).display()
            )));
        }
        record(&store, &catch, &report)?;
        self.reply(&report, &logs)
    }

    fn reply(&self, report: &Report, logs: &Path) -> Result<Reply, Failure> {
        if !self.format.is_for_people() {
            return self.format.reply(report, |report| table(&report.trials));
        }
        let shown = self.format.reply(report, |report| table(&report.trials))?;
        let contradict = match report.contradict.as_slice() {
            [] => String::new(),
            names => format!(
                "{} contradicts the others: run it again with --repeat 3\n",
                names.join(", ")
            ),
        };
        Ok(shown.and(&format!(
            "{contradict}{}\nwhat the command printed: {}\n",
            report.result,
            logs.display()
        )))
    }
}

/// Says that one was tried.
fn tell(trial: &Trial) {
    let line = Line::from(trial);
    terminal::say(&format!("{}: {} ({})", line.candidate, line.judged(), line.ending));
}

fn table(lines: &[Line]) -> Table {
    let mut table = Table::new(&["TRIED", "VERDICT", "SECONDS", "ENDING"]);
    for line in lines {
        table.row([
            line.candidate.clone(),
            line.judged(),
            format!("{:.1}", line.seconds),
            line.ending.clone(),
        ]);
    }
    table
}

/// Writes down on each environment what was found: its own verdict, or since which of its snapshots it is bad.
fn record(store: &Store, catch: &Catch, report: &Report) -> Result<(), Failure> {
    let note = |name: &EnvironmentName, text: String| {
        store.set(name, VERDICT, Some(&text)).map(drop).map_err(Failure::from)
    };
    for trial in &catch.trials {
        if trial.candidate.snapshot.is_none() && trial.judgement() != Judgement::Skip {
            let name = &trial.candidate.environment;
            note(name, format!("{} ({})", trial.judgement(), report.id))?;
        }
    }
    let first = report.first_bad.as_deref().and_then(|first| first.parse::<Point>().ok());
    if let Some(Point { environment, snapshot: Some(snapshot) }) = first {
        note(&environment, format!("bad since @{snapshot} ({})", report.id))?;
    }
    Ok(())
}

fn make(logs: &Path) -> Result<(), Failure> {
    let mut private = DirBuilder::new();
    private.mode(0o700).recursive(true);
    private.create(logs).map_err(|error| {
        Failure::could_not(format_args!("cannot make {}: {error}", logs.display()))
    })
}

fn keep(logs: &Path, report: &Report) -> Result<(), Failure> {
    let path = Report::path(logs);
    let text = serde_json::to_string_pretty(report).map_err(Failure::could_not)?;
    fs::write(&path, text + "\n").map_err(|error| {
        Failure::could_not(format_args!("cannot write {}: {error}", path.display()))
    })
}

/// `20261122-204300`: as it can stand in the name of a data set.
fn compact(time: Timestamp) -> String {
    let digits = |c: &char| c.is_ascii_digit() || *c == 'T';
    time.to_string().chars().filter(digits).map(|c| if c == 'T' { '-' } else { c }).collect()
}

/// What there is to be tried.
struct Known<'a>(&'a Store);

impl Known<'_> {
    fn refuse_absent(&self, candidate: &Point) -> Result<(), Failure> {
        let name = &candidate.environment;
        self.0.get(name)?;
        if let Some(snapshot) = &candidate.snapshot {
            let all = self.0.snapshots(name)?;
            if !all.iter().any(|one| one.name == *snapshot) {
                return Err(StoreError::NoSnapshot(candidate.clone()).into());
            }
        }
        Ok(())
    }
}

impl Source for Known<'_> {
    type Error = StoreError;

    fn environments(&self) -> Result<Vec<EnvironmentName>, StoreError> {
        let listed = self.0.list()?.environments.into_iter();
        // A machine's own root is no release.
        let kept = listed.filter(|one| matches!(one.role, Role::Environment | Role::Template));
        let mut names: Vec<_> = kept.map(|environment| environment.name).collect();
        names.sort_by(|one, other| natural(one.as_str(), other.as_str()));
        Ok(names)
    }

    fn snapshots(&self, name: &EnvironmentName) -> Result<Vec<Snapshot>, StoreError> {
        self.0.snapshots(name)
    }
}

/// The setting that says what a hunt has found: `netbe get verdict BE`.
const VERDICT: &str = "verdict";
