//! What happened, written down: a line of JSON for each event, in a file that is put aside when it is
//! long.
//!
//! A thread of its own writes ([`Scribe`]). Strangers, who can make any number of events, are not written down.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{Event, Kind};
use crate::site::scribe::{Pace, Scribe};

/// Starts to write down what `events` brings, in a file of the state directory. It ends with the
/// stream.
///
/// # Errors
///
/// The system gives no thread.
pub fn start(state: &Path, mut events: Receiver<Arc<Event>>) -> io::Result<()> {
    let mut journal = Journal::new(state);
    thread::Builder::new().name("events".to_owned()).spawn(move || {
        loop {
            match events.blocking_recv() {
                Ok(event) => journal.take(&event, Instant::now()),
                Err(RecvError::Lagged(missed)) => journal.scribe.miss(missed),
                Err(RecvError::Closed) => return,
            }
        }
    })?;
    Ok(())
}

/// What is written down in a state directory, oldest first.
///
/// # Errors
///
/// A file is there and cannot be read.
pub fn read(state: &Path) -> io::Result<Vec<Event>> {
    lines::read(&state.join(FILE))
}

/// The file that is written to.
struct Journal {
    path: PathBuf,
    pace: Option<Pace>,
    scribe: Scribe,
}

impl Journal {
    fn new(state: &Path) -> Self {
        let path = state.join(FILE);
        let scribe = Scribe::new(path.clone(), "events", Arc::default());
        Self { path, pace: None, scribe }
    }

    fn take(&mut self, event: &Event, now: Instant) {
        if !is_kept(event) {
            return;
        }
        if !self.pace.get_or_insert_with(|| Pace::new(now)).takes(now) {
            self.scribe.miss(1);
            return;
        }
        let missed = |missed| {
            let text = format!("{missed} events before this one were dropped: too many at once");
            Event { at: event.at, ..Event::new(Kind::Notice, text) }
        };
        self.scribe.write(event, missed, |event| {
            lines::append(&self.path, LIMIT, &lines::line(event)?).map(drop)
        });
    }
}

/// Whether an event is written down: anybody can bring about any number of the others.
const fn is_kept(event: &Event) -> bool {
    event.boot.is_some() || event.machine.is_none() || event.named
}

/// The file's name in the state directory.
const FILE: &str = "events";

/// Bytes after which the file is put aside; the one before it goes.
const LIMIT: u64 = 4 << 20;

#[cfg(test)]
mod test {
    use std::fs;

    use super::super::BootId;
    use super::*;
    use crate::site::scribe::{PER_SECOND, SECOND};

    fn event(text: &str) -> Event {
        Event { boot: Some(BootId(1)), ..Event::new(Kind::BootBegan, text.to_owned()) }
    }

    fn texts(state: &Path) -> Vec<String> {
        read(state).unwrap().into_iter().map(|event| event.text).collect()
    }

    #[test]
    fn what_was_written_down_is_read_after_a_crash_too() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(texts(state.path()), [""; 0]);
        let now = Instant::now();
        Journal::new(state.path()).take(&event("one"), now);
        let path = state.path().join(FILE);
        let mut cut = fs::read(&path).unwrap();
        cut.extend_from_within(..20);
        fs::write(&path, &cut).unwrap();
        Journal::new(state.path()).take(&event("two"), now);
        assert_eq!(texts(state.path()), ["one", "two"]);
    }

    #[test]
    fn strangers_are_not_written_down() {
        let state = tempfile::tempdir().unwrap();
        let stranger = Event { boot: None, machine: Some("02:..".to_owned()), ..event("who") };
        Journal::new(state.path()).take(&stranger, Instant::now());
        assert_eq!(texts(state.path()), [""; 0]);
        let refused = Event { machine: Some("web1".to_owned()), named: true, ..stranger };
        Journal::new(state.path()).take(&refused, Instant::now());
        assert_eq!(texts(state.path()), ["who"]);
    }

    #[test]
    fn what_is_not_served_is_written_down() {
        let state = tempfile::tempdir().unwrap();
        let unserved = Event::new(Kind::EnvironmentUnserved, "base: broken".to_owned());
        Journal::new(state.path()).take(&unserved, Instant::now());
        assert_eq!(texts(state.path()), ["base: broken"]);
    }

    #[test]
    fn what_comes_too_fast_is_counted() {
        let state = tempfile::tempdir().unwrap();
        let (mut journal, now) = (Journal::new(state.path()), Instant::now());
        for _ in 0..PER_SECOND + 7 {
            journal.take(&event("again"), now);
        }
        journal.take(&event("later"), now + SECOND);
        let texts = texts(state.path());
        assert_eq!(texts.len(), PER_SECOND as usize + 2);
        assert!(texts[texts.len() - 2].starts_with("7 events"), "{:?}", texts.last());
    }

    #[test]
    fn a_long_file_is_put_aside_and_the_one_before_it_goes() {
        let state = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(state.path());
        let long = "x".repeat(1 << 20);
        for second in 0..12 {
            journal.take(&event(&long), Instant::now() + SECOND * second);
        }
        let kept = texts(state.path()).len();
        assert!((4..=9).contains(&kept), "{kept}");
    }
}
