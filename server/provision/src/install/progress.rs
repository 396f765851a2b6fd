//! What a program that makes a system says of its work: on a terminal one line that moves, elsewhere a
//! line for each step.
//!
//! mmdebstrap and debootstrap say `I: ` before what they do, debootstrap once for each package.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use store::progress::{Unit, Work};

use crate::{progress, terminal};

/// A thread that tells what a program says, until the program's end.
#[derive(Debug)]
pub(super) struct Progress {
    thread: JoinHandle<()>,
    words: Words,
}

/// The last of what a program said that were neither steps nor warnings.
type Words = Arc<Mutex<VecDeque<String>>>;

impl Progress {
    /// Tells what comes from a program's standard error.
    pub(super) fn follow(said: impl Read + Send + 'static) -> Self {
        let words = Words::default();
        let kept = Arc::clone(&words);
        Self { thread: thread::spawn(move || follow(said, &kept)), words }
    }

    /// The last of what the program said that were neither steps nor warnings: why it failed. To be asked
    /// when it has ended: what it said is read in a moment then, and others that it left running, which
    /// could say more, are not waited for.
    pub(super) fn errors(self) -> Vec<String> {
        let begin = Instant::now();
        while !self.thread.is_finished() && begin.elapsed() < REST {
            thread::sleep(Duration::from_millis(5));
        }
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.drain(..).collect()
    }
}

fn follow(said: impl Read, words: &Words) {
    let work = Work::begin(String::new, Unit::Nothing, None);
    let steps_are_said = progress::is_shown() && !progress::is_live();
    let mut step = String::new();
    let mut said = BufReader::new(said);
    loop {
        let mut line = Vec::new();
        // Nobody writes longer ones; the rest of such a line is taken for the next one.
        match said.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if let Some(told) = line.strip_prefix("I: ") {
            let told = if told.starts_with(HOOK) { SCRIPT_STEP } else { told };
            work.set_what(|| told.to_owned());
            let next = step_of(told);
            if next != step && steps_are_said {
                terminal::say(&next);
            }
            step = next;
        } else if line.starts_with("W: ") {
            terminal::say(line);
        } else if !line.is_empty() && !line.starts_with(HOOK_FAILED) {
            let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
            if words.len() == MAX_WORDS {
                words.pop_front();
            }
            words.push_back(line.to_owned());
        }
    }
}

/// The step that a line is of: what debootstrap says of one package after the other is one.
fn step_of(told: &str) -> String {
    let told = told.trim_end_matches('.');
    match told.split(' ').next() {
        Some("Retrieving" | "Validating") => "Retrieving packages".to_owned(),
        Some(verb @ ("Extracting" | "Unpacking" | "Configuring")) => format!("{verb} packages"),
        Some(_) | None => told.to_owned(),
    }
}

/// Longest line that is told in one piece.
const MAX_LINE: u64 = 4096;
/// How mmdebstrap says the hook that runs a script, and what is said in its place.
const HOOK: &str = "running --customize-hook";
const SCRIPT_STEP: &str = "running the script";
/// How it says that hook once more when it failed, after the script's own last words.
const HOOK_FAILED: &str = "E: command failed: script=";
/// How long the rest of what an ended program said may take to be read.
const REST: Duration = Duration::from_secs(2);
/// How many lines are kept.
const MAX_WORDS: usize = 20;

#[cfg(test)]
mod test {
    use std::io::Write;

    use super::*;

    #[test]
    fn packages_one_after_the_other_are_one_step() {
        let lines = ["Retrieving adduser 3.134", "Validating adduser 3.134", "Retrieving apt 2.6"];
        assert_eq!(lines.map(step_of), ["Retrieving packages"; 3]);
        assert_eq!(step_of("Unpacking the base system..."), "Unpacking packages");
        assert_eq!(step_of("running apt-get update..."), "running apt-get update");
    }

    #[test]
    fn the_end_of_what_was_said_is_kept_and_long_lines_are_not_believed() {
        let mut said = "I: installing\nE: first\n".repeat(15);
        said += &"x".repeat(5000);
        said += "\nE: disk full";
        let words = Progress::follow(std::io::Cursor::new(said)).errors();
        assert_eq!(words.len(), 18);
        assert_eq!(words.last().unwrap(), "E: disk full");
        assert_eq!(words[15].len(), 4096);
    }

    #[test]
    fn what_is_left_running_is_not_waited_for() {
        let (said, mut left_open) = std::io::pipe().unwrap();
        let progress = Progress::follow(said);
        left_open.write_all(b"E: disk full\n").unwrap();
        let begin = Instant::now();
        assert_eq!(progress.errors(), ["E: disk full"]);
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
