//! What happened, written down: a line of JSON for each event, in a file that is put aside when it is
//! long.
//!
//! A thread of its own writes, so that nobody who emits waits for a disk. Strangers, who can make any
//! number of events, are not written down; of the others there is a bound for each second.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{Event, Kind};
use crate::site::lines::{self, aside};

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
                Err(RecvError::Lagged(missed)) => journal.missed += missed,
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
    file: Option<(File, u64)>,
    /// When the present second began, and how many events it has had.
    second: Option<(Instant, u32)>,
    /// Events that were left out since the last line.
    missed: u64,
    /// Whether it was told that nothing can be written.
    told: bool,
}

impl Journal {
    fn new(state: &Path) -> Self {
        let path = state.join(FILE);
        Self { path, file: None, second: None, missed: 0, told: false }
    }

    fn take(&mut self, event: &Event, now: Instant) {
        if !is_kept(event) {
            return;
        }
        let second = self.second.filter(|(began, _)| now.duration_since(*began) < SECOND);
        let (began, count) = second.unwrap_or((now, 0));
        self.second = Some((began, count.saturating_add(1)));
        if count >= PER_SECOND {
            self.missed += 1;
            return;
        }
        let written = self.note_missed(event).and_then(|()| self.write(event));
        if let Err(error) = &written
            && !std::mem::replace(&mut self.told, true)
        {
            tracing::warn!("{}: events cannot be written down: {error}", self.path.display());
        }
        self.told &= written.is_err();
    }

    /// Says how many events are not there, before the next one that is.
    fn note_missed(&mut self, next: &Event) -> io::Result<()> {
        let missed = std::mem::take(&mut self.missed);
        if missed == 0 {
            return Ok(());
        }
        let text = format!("{missed} events before this were not written down: too many at once");
        self.write(&Event { at: next.at, ..Event::new(Kind::Notice, text) })
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event).map_err(io::Error::other)?;
        line.push(b'\n');
        let (mut file, len) = match self.file.take() {
            Some((file, len)) if len < LIMIT => (file, len),
            Some(_) => {
                fs::rename(&self.path, aside(&self.path))?;
                self.open()?
            }
            None => self.open()?,
        };
        // One write: a reader sees all of a line, or nothing of it but after a crash.
        file.write_all(&line)?;
        self.file = Some((file, len.saturating_add(line.len() as u64)));
        Ok(())
    }

    fn open(&self) -> io::Result<(File, u64)> {
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&self.path)?;
        let len = file.metadata()?.len();
        if len > 0 {
            // A crash may have cut the last line off: the next one begins a new one.
            file.write_all(b"\n")?;
        }
        Ok((file, len))
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

/// Events that are written down in a second.
const PER_SECOND: u32 = 1000;

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod test {
    use super::super::BootId;
    use super::*;

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
