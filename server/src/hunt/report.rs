//! What a hunt has found, in words and for programs.

use std::path::{Path, PathBuf};

use serde::Serialize;
use store::Point;

use super::Catch;
use super::bench::Trial;
use super::bisection::Found;

/// A hunt as it is kept and as `-j` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What it is called.
    pub(crate) id: String,
    /// The command that was tried.
    pub(crate) command: String,
    /// What came of it, in a sentence.
    pub(crate) result: String,
    /// The first that is bad, if it was found.
    pub(crate) first_bad: Option<String>,
    /// The one before it.
    pub(crate) last_good: Option<String>,
    /// What was tried, in the order of the candidates.
    pub(crate) trials: Vec<Line>,
    /// How many were not tried.
    pub(crate) untried: usize,
    /// Those of which a try contradicts others: something else than what is searched for differs between them.
    pub(crate) contradict: Vec<String>,
}

/// A candidate that was tried.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    /// What was tried.
    pub(crate) candidate: String,
    /// `good`, `bad` or `skip`.
    pub(crate) verdict: String,
    /// Whether its tries contradict each other.
    pub(crate) flaky: bool,
    /// How often it was tried.
    pub(crate) tries: usize,
    /// How the command ended.
    pub(crate) ending: String,
    /// How long it ran, in seconds.
    pub(crate) seconds: f64,
    /// What it said.
    pub(crate) log: Option<PathBuf>,
}

impl From<&Trial> for Line {
    fn from(trial: &Trial) -> Self {
        let last = trial.ending();
        Self {
            candidate: trial.candidate.to_string(),
            verdict: trial.judgement().to_string(),
            flaky: trial.is_flaky(),
            tries: trial.verdicts.len(),
            ending: last.map(|verdict| verdict.ending.to_string()).unwrap_or_default(),
            seconds: last.map(|verdict| verdict.took.as_secs_f64()).unwrap_or_default(),
            log: last.and_then(|verdict| verdict.log.clone()),
        }
    }
}

impl Line {
    /// `bad (flaky: 3 tries)`
    pub(crate) fn judged(&self) -> String {
        match self.flaky {
            true => format!("{} (flaky: {} tries)", self.verdict, self.tries),
            false => self.verdict.clone(),
        }
    }
}

impl Report {
    /// Of what was caught among candidates.
    pub(crate) fn of(id: &str, command: &str, candidates: &[Point], catch: &Catch) -> Self {
        let name = |place: usize| candidates.get(place).map(ToString::to_string);
        let first = match catch.found {
            Some(Found::First(place)) => Some(place),
            Some(Found::Always) => Some(0),
            Some(Found::Among(_) | Found::Never | Found::Unknown) | None => None,
        };
        Self {
            id: id.to_owned(),
            command: command.to_owned(),
            result: result(candidates, catch),
            first_bad: first.and_then(name),
            last_good: first.and_then(|place| place.checked_sub(1)).and_then(name),
            trials: catch.trials.iter().map(Line::from).collect(),
            untried: candidates.len().saturating_sub(catch.trials.len()),
            contradict: catch.contradict.iter().map(ToString::to_string).collect(),
        }
    }

    /// Where it is kept among the files of a hunt.
    pub(crate) fn path(logs: &Path) -> PathBuf {
        logs.join("report.json")
    }
}

fn result(candidates: &[Point], catch: &Catch) -> String {
    let name = |place: usize| candidates.get(place).map(ToString::to_string).unwrap_or_default();
    let last = name(candidates.len().saturating_sub(1));
    match &catch.found {
        Some(Found::First(place)) => {
            let before = name(place.saturating_sub(1));
            format!("{} is the first that is bad; {before} is good", name(*place))
        }
        Some(Found::Among(places)) => {
            let names: Vec<String> = places.iter().map(|place| name(*place)).collect();
            format!(
                "the first that is bad is one of {}: all but the last of them could not be tried",
                names.join(", ")
            )
        }
        Some(Found::Always) => {
            format!("{} is bad already: name an older one that is good", name(0))
        }
        Some(Found::Never) => format!("{last} is good: there is nothing to be found"),
        Some(Found::Unknown) => format!("{last} could not be tried: name another as the last"),
        None => {
            let count = |verdict: &str| {
                let judged = catch.trials.iter().map(|trial| trial.judgement().to_string());
                judged.filter(|judged| judged == verdict).count()
            };
            format!("{} good, {} bad, {} skipped", count("good"), count("bad"), count("skip"))
        }
    }
}

#[cfg(test)]
mod test {
    use super::super::bench::Verdict;
    use super::*;

    fn report(found: Option<Found>, statuses: &[i32]) -> Report {
        let candidates: Vec<Point> = ["r1", "r2", "r3"].map(|name| name.parse().unwrap()).to_vec();
        let trials = candidates.iter().zip(statuses).enumerate();
        let trials = trials.map(|(place, (candidate, status))| Trial {
            place,
            candidate: candidate.clone(),
            verdicts: vec![Verdict::ended(*status)],
        });
        let catch = Catch { trials: trials.collect(), found, contradict: Vec::new() };
        Report::of("hunt-1", "make test", &candidates, &catch)
    }

    #[test]
    fn each_result_is_a_sentence() {
        let told = |found| report(Some(found), &[0]).result;
        assert_eq!(told(Found::First(1)), "r2 is the first that is bad; r1 is good");
        assert_eq!(told(Found::Always), "r1 is bad already: name an older one that is good");
        assert_eq!(told(Found::Never), "r3 is good: there is nothing to be found");
        assert_eq!(
            told(Found::Among(vec![1, 2])),
            "the first that is bad is one of r2, r3: all but the last of them could not be tried"
        );
        assert_eq!(told(Found::Unknown), "r3 could not be tried: name another as the last");
        let matrix = report(None, &[0, 3, 125]);
        assert_eq!(matrix.result, "1 good, 1 bad, 1 skipped");
        let told: Vec<_> =
            matrix.trials.iter().map(|line| (line.judged(), line.ending.as_str())).collect();
        let expected =
            [("good", "exit status 0"), ("bad", "exit status 3"), ("skip", "exit status 125")];
        assert_eq!(told, expected.map(|(verdict, ending)| (verdict.to_owned(), ending)));
    }

    #[test]
    fn programs_read_the_first_bad_and_the_last_good() {
        let first = report(Some(Found::First(2)), &[0, 0, 1]);
        assert_eq!(
            (first.first_bad.as_deref(), first.last_good.as_deref()),
            (Some("r3"), Some("r2"))
        );
        let always = report(Some(Found::Always), &[1]);
        assert_eq!((always.first_bad.as_deref(), always.last_good), (Some("r1"), None));
        assert_eq!(always.untried, 2);
    }
}
