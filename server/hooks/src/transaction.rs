//! The hooks of one event as a transaction: one after the other, each within its time and as often as it may be
//! tried; when one fails, those before it are called again to undo what they did, the last first.

use std::thread;
use std::time::{Duration, Instant};

use child::{Call, Limit, Status};
use serde::{Deserialize, Serialize};

use crate::Event;
use crate::directory::Step;

/// What a hook is called for: its first argument, and `NETBE_ACTION`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// To do what it is for.
    Do,
    /// To undo that, because a later hook failed.
    Undo,
}

impl Action {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Do => "do",
            Self::Undo => "undo",
        }
    }
}

/// All that was run for one event, and what came of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Transcript {
    /// The event.
    pub event: Event,
    /// What came of it.
    pub outcome: Outcome,
    /// What was run, the first first.
    pub runs: Vec<Run>,
}

/// What came of the hooks of an event.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// Each succeeded.
    Done,
    /// One failed for good.
    Failed {
        /// Which.
        step: String,
        /// How.
        reason: String,
    },
    /// None was run.
    Refused {
        /// Why.
        reason: String,
    },
}

/// One attempt to run one hook.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Run {
    /// Which.
    pub step: String,
    /// For what.
    pub action: Action,
    /// The how manieth attempt, from 1.
    pub attempt: u32,
    /// Its exit status; `None` where it has none.
    pub status: Option<i32>,
    /// How it ended, in words.
    pub ended: String,
    /// Seconds that it ran.
    pub took: f64,
    /// The last of what it said.
    pub said: String,
}

/// Runs the hooks of an event. `is_over` is asked whether what is run for an action is to end before its time: to undo
/// has its own time, because what is undone by half is worse than what is done.
#[must_use]
pub fn run(steps: &[Step], event: &Event, is_over: &dyn Fn(Action) -> bool) -> Transcript {
    let mut runs = Vec::new();
    let mut outcome = Outcome::Done;
    for (at, step) in steps.iter().enumerate() {
        let Err(reason) = attempts(step, Action::Do, event, is_over, &mut runs) else { continue };
        // It may have done a part of its work, so that it is undone too.
        let before = steps.iter().take(at + 1).rev();
        for step in before.filter(|step| step.undoes) {
            // What cannot be undone stands in the record; the others are undone all the same.
            let _ = attempts(step, Action::Undo, event, is_over, &mut runs);
        }
        outcome = Outcome::Failed { step: step.name.clone(), reason };
        break;
    }
    Transcript { event: event.clone(), outcome, runs }
}

impl Transcript {
    /// The hooks that were called to undo what they did, and could not.
    #[must_use]
    pub fn not_undone(&self) -> Vec<&str> {
        let mut steps: Vec<&str> = Vec::new();
        for run in self.runs.iter().filter(|run| run.action == Action::Undo) {
            steps.retain(|step| *step != run.step);
            if run.status != Some(0) {
                steps.push(&run.step);
            }
        }
        steps
    }
}

/// Runs a hook until it succeeds, as often as it may be tried; gives how it failed last.
fn attempts(
    step: &Step,
    action: Action,
    event: &Event,
    is_over: &dyn Fn(Action) -> bool,
    runs: &mut Vec<Run>,
) -> Result<(), String> {
    let is_over = || is_over(action);
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        if is_over() {
            let (step, ended) = (step.name.clone(), "not run, because netbe ends".to_owned());
            let (status, took, said) = (None, 0.0, String::new());
            runs.push(Run { step, action, attempt, status, ended: ended.clone(), took, said });
            return Err(ended);
        }
        let run = once(step, action, attempt, event, &is_over);
        let (status, ended) = (run.status, run.ended.clone());
        runs.push(run);
        if status == Some(0) {
            return Ok(());
        }
        if attempt > step.patience.retries || is_over() {
            return Err(ended);
        }
        wait(pause, &is_over);
        pause = LONGEST_PAUSE.min(pause * 2);
        attempt += 1;
    }
}

fn once(
    step: &Step,
    action: Action,
    attempt: u32,
    event: &Event,
    is_over: &dyn Fn() -> bool,
) -> Run {
    let own = [
        ("HOME", "/".to_owned()),
        ("NETBE_ACTION", action.as_str().to_owned()),
        ("NETBE_ATTEMPT", attempt.to_string()),
        ("NETBE_STEP", step.name.clone()),
    ];
    let call = Call::new(&step.program, Limit::Within(step.patience.timeout))
        .without_dashes()
        .operands([action.as_str(), event.event.as_str()])
        .environment(event.variables())
        .environment(own)
        .environment(step.variables.iter().map(|(name, value)| (name, value)));
    let begin = Instant::now();
    let watched = call.watch(event.json(), KEPT, is_over);
    let (status, ended, said) = match watched {
        Ok(outcome) => {
            let status = match outcome.status {
                Status::Exited(status) => Some(status),
                Status::Killed(_) | Status::Late => None,
            };
            let ended = match outcome.status {
                Status::Late if is_over() => "killed, because netbe ends".to_owned(),
                Status::Late => format!("killed after {} s", step.patience.timeout.as_secs()),
                Status::Exited(_) | Status::Killed(_) => outcome.status.to_string(),
            };
            (status, ended, outcome.said)
        }
        Err(error) => (None, format!("not started: {}", error.said), String::new()),
    };
    let took = begin.elapsed().as_secs_f64();
    Run { step: step.name.clone(), action, attempt, status, ended, took, said }
}

fn wait(pause: Duration, is_over: &dyn Fn() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < pause && !is_over() {
        thread::sleep(Duration::from_millis(50));
    }
}

/// Between two attempts; twice as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Bytes of what a hook says that are kept.
const KEPT: usize = 2048;

#[cfg(test)]
mod test {
    use std::path::Path;

    use super::*;
    use crate::directory::test::{hook, settings};
    use crate::settings::{Patience, Settings};
    use crate::{Occasion, directory};

    fn transcript(settings: &Settings) -> Transcript {
        let event = Event {
            mac: Some("52:54:00:00:00:01".to_owned()),
            at: 1.5,
            ..Event::new(Occasion::Up, "web1")
        };
        run(&directory::steps(settings, &event).unwrap(), &event, &|_| false)
    }

    fn told(transcript: &Transcript) -> Vec<String> {
        let told = |run: &Run| {
            let Run { step, action, attempt, ended, .. } = run;
            format!("{step} {} {attempt}: {ended}", action.as_str())
        };
        transcript.runs.iter().map(told).collect()
    }

    fn log(directory: &Path) -> String {
        std::fs::read_to_string(directory.join("log")).unwrap_or_default()
    }

    #[test]
    fn a_hook_is_told_what_happened_by_arguments_variables_and_json() {
        let place = tempfile::tempdir().unwrap();
        let script = "cat; echo $1 $2 $NETBE_EVENT $NETBE_MACHINE $NETBE_MAC $NETBE_ATTEMPT";
        hook(place.path(), "up.d/10-all", script, 0o755);
        let transcript = transcript(&settings(place.path()));
        assert_eq!(transcript.outcome, Outcome::Done);
        let said = &transcript.runs[0].said;
        let (json, words) = said.split_once('\n').unwrap();
        assert_eq!(serde_json::from_str::<Event>(json).unwrap(), transcript.event);
        assert_eq!(words, "do up up web1 52:54:00:00:00:01 1");
    }

    #[test]
    fn when_one_fails_those_before_are_undone_the_last_first() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("log").display().to_string();
        let note = format!("echo $NETBE_STEP $1 >>{log}");
        hook(place.path(), "up.d/10-a", &note, 0o755);
        hook(place.path(), "up.d/20-b", &note, 0o755);
        hook(place.path(), "up.d/30-c", &format!("{note}; test $1 = undo || exit 7"), 0o755);
        hook(place.path(), "up.d/40-d", &note, 0o755);
        let transcript = transcript(&settings(place.path()));
        let failed =
            Outcome::Failed { step: "up/30-c".to_owned(), reason: "exit status 7".to_owned() };
        assert_eq!(transcript.outcome, failed);
        let expected =
            "up/10-a do\nup/20-b do\nup/30-c do\nup/30-c undo\nup/20-b undo\nup/10-a undo\n";
        assert_eq!(self::log(place.path()), expected);
    }

    #[test]
    fn one_that_fails_is_tried_again_and_one_that_hangs_is_killed() {
        let place = tempfile::tempdir().unwrap();
        let mark = place.path().join("mark").display().to_string();
        hook(
            place.path(),
            "up.d/10-second-time",
            &format!("test -e {mark} || {{ >{mark}; exit 1; }}"),
            0o755,
        );
        hook(place.path(), "up.d/20-hangs", "test $1 = undo || sleep 600", 0o755);
        let patience =
            |timeout, retries| Patience { timeout: Duration::from_secs(timeout), retries };
        let steps = [
            ("up/10-second-time".to_owned(), patience(30, 3)),
            ("up/20-hangs".to_owned(), patience(3, 0)),
        ];
        let transcript = transcript(&Settings { steps: steps.into(), ..settings(place.path()) });
        let expected = [
            "up/10-second-time do 1: exit status 1",
            "up/10-second-time do 2: exit status 0",
            "up/20-hangs do 1: killed after 3 s",
            "up/20-hangs undo 1: exit status 0",
            "up/10-second-time undo 1: exit status 0",
        ];
        assert_eq!(told(&transcript), expected);
    }

    #[test]
    fn what_is_cut_off_is_undone_all_the_same_as_long_as_there_is_time_for_that() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("log").display().to_string();
        let note = format!("echo $NETBE_STEP $1 >>{log}");
        hook(place.path(), "up.d/10-a", &note, 0o755);
        hook(place.path(), "up.d/20-b", &format!("{note}; test $1 = undo || sleep 600"), 0o755);
        let settings = settings(place.path());
        let event = Event::new(Occasion::Up, "web1");
        let steps = directory::steps(&settings, &event).unwrap();
        let has_begun = || self::log(place.path()).contains("20-b do");
        let cut = run(&steps, &event, &|action| action == Action::Do && has_begun());
        let expected = [
            "up/10-a do 1: exit status 0",
            "up/20-b do 1: killed, because netbe ends",
            "up/20-b undo 1: exit status 0",
            "up/10-a undo 1: exit status 0",
        ];
        assert_eq!((told(&cut), cut.not_undone()), (expected.map(str::to_owned).into(), vec![]));
        std::fs::remove_file(place.path().join("log")).unwrap();
        let cut = run(&steps, &event, &|_| has_begun());
        let expected = [
            "up/20-b undo 1: not run, because netbe ends",
            "up/10-a undo 1: not run, because netbe ends",
        ];
        assert_eq!(told(&cut)[2..], expected);
        assert_eq!(cut.not_undone(), ["up/20-b", "up/10-a"]);
    }

    #[test]
    fn a_program_that_cannot_be_started_has_failed() {
        let place = tempfile::tempdir().unwrap();
        hook(place.path(), "up.d/10-gone", "exit 0", 0o755);
        let path = place.path().join("up.d/10-gone");
        std::fs::write(path, "#!/nonexistent/shell\n").unwrap();
        let transcript = transcript(&settings(place.path()));
        assert!(matches!(transcript.outcome, Outcome::Failed { .. }));
        assert!(told(&transcript)[0].contains("not started"), "{:?}", told(&transcript));
    }
}
