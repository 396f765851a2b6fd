//! What was done to a store: when, by whom, and how it ended.
//!
//! Each verb is noted twice in a file that only grows, a line of JSON before it begins and one when
//! it has ended: what a kill or a crash cut short shows as begun and not finished.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::io::Errno;
use rustix::process::{Pid, getuid, test_kill_process};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Timestamp;

/// The history in a state directory.
#[derive(Clone, Debug)]
pub struct History {
    path: PathBuf,
}

impl History {
    /// The history that is kept in a state directory. Nothing is made before there is something to
    /// note down.
    #[must_use]
    pub fn in_state(state: &Path) -> Self {
        Self { path: state.join(FILE) }
    }

    /// Notes that a verb begins. Call [`RunningVerb::end`] when it has ended: with that both come to the disk.
    /// What a loss of power finds half-way is told by the store's own records.
    ///
    /// A history that cannot be written stops nothing: a full disk has to be emptied by a verb. A
    /// warning tells of it, once for each verb.
    pub fn begin(&self, verb: &str, arguments: &[&str]) -> RunningVerb<'_> {
        let id = Uuid::new_v4();
        let line = Line::Begun {
            id,
            at: now(),
            uid: getuid().as_raw(),
            user: user(),
            sudo: std::env::var("SUDO_USER").ok(),
            pid: std::process::id(),
            verb: verb.to_owned(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        };
        RunningVerb { history: self, id: self.note(&line, false).then_some(id) }
    }

    /// All that is kept, oldest first.
    pub fn read(&self) -> io::Result<Vec<Record>> {
        let mut records: Vec<Record> = Vec::new();
        for path in [self.old(), self.path.clone()] {
            let text = match std::fs::read(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for line in text.split(|&byte| byte == b'\n') {
                // A line that a crash cut off, or that a later version wrote, tells nothing.
                match serde_json::from_slice(line) {
                    Ok(Line::Begun { id, at, uid, user, sudo, pid, verb, arguments }) => {
                        let outcome =
                            if lives(pid) { Outcome::Running } else { Outcome::Unfinished };
                        let ended = None;
                        records.push(Record {
                            id,
                            at,
                            ended,
                            uid,
                            user,
                            sudo,
                            pid,
                            verb,
                            arguments,
                            outcome,
                        });
                    }
                    Ok(Line::Ended { id, at, error }) => {
                        let begun = records.iter_mut().rev().find(|record| record.id == id);
                        if let Some(begun) = begun {
                            begun.ended = Some(at);
                            begun.outcome = error.map_or(Outcome::Done, Outcome::Failed);
                        }
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(records)
    }

    fn note(&self, line: &Line, synchronized: bool) -> bool {
        let noted = self.append(line, synchronized);
        if let Err(error) = &noted {
            let path = self.path.display();
            tracing::warn!(
                "this command is missing in the history, because {path} cannot be written: {error}"
            );
        }
        noted.is_ok()
    }

    fn append(&self, line: &Line, synchronized: bool) -> io::Result<()> {
        let mut text = serde_json::to_vec(line).map_err(io::Error::other)?;
        text.push(b'\n');
        let mut options = OpenOptions::new();
        let options = options.append(true).create(true).mode(0o600);
        let mut file = loop {
            let file = match options.open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let state = self.path.parent().unwrap_or(&self.path);
                    DirBuilder::new().recursive(true).mode(0o700).create(state)?;
                    options.open(&self.path)?
                }
                other => other?,
            };
            file.lock()?;
            // Another process may have put it aside between the two calls.
            let (mine, now) = (file.metadata()?, std::fs::metadata(&self.path));
            if !now.is_ok_and(|now| now.ino() == mine.ino() && now.dev() == mine.dev()) {
                continue;
            }
            if mine.len() < LIMIT {
                break file;
            }
            std::fs::rename(&self.path, self.old())?;
        };
        finish_line(&file, &self.path)?;
        // One write: a reader sees all of a line, or nothing of it but after a crash.
        file.write_all(&text)?;
        if synchronized { file.sync_data() } else { Ok(()) }
    }

    fn old(&self) -> PathBuf {
        self.path.with_extension("old")
    }
}

/// Ends a line that a crash cut off, so that the next one stands alone.
fn finish_line(mut file: &File, path: &Path) -> io::Result<()> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(()) };
    let mut byte = [0];
    File::open(path)?.read_exact_at(&mut byte, last)?;
    if byte == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

/// A verb that has begun.
#[derive(Debug)]
#[must_use]
pub struct RunningVerb<'a> {
    history: &'a History,
    /// None if its beginning could not be noted.
    id: Option<Uuid>,
}

impl RunningVerb<'_> {
    /// Notes how it ended.
    pub fn end<T, E: ToString>(self, outcome: &Result<T, E>) {
        let Some(id) = self.id else { return };
        let error = outcome.as_ref().err().map(ToString::to_string);
        self.history.note(&Line::Ended { id, at: now(), error }, true);
    }
}

/// One verb in the history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    id: Uuid,
    /// When it began.
    pub at: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The user who ran it.
    pub uid: u32,
    /// That user's name, if there was one.
    pub user: Option<String>,
    /// Who had become that user by sudo(8).
    pub sudo: Option<String>,
    /// Its process.
    pub pid: u32,
    /// The verb.
    pub verb: String,
    /// What it was about.
    pub arguments: Vec<String>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Record {
    /// Whether a boot environment of this name, or one of its snapshots, was among the arguments.
    #[must_use]
    pub fn is_about(&self, name: &str) -> bool {
        let names = |argument: &String| argument.split('@').next() == Some(name);
        self.arguments.iter().any(names)
    }
}

/// How a verb ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It did what it was asked to do.
    Done,
    /// It did not, for this reason.
    Failed(String),
    /// It has not ended, and a process of its number lives.
    Running,
    /// Its process ended before it.
    Unfinished,
}

/// A line of the file.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Begun {
        id: Uuid,
        #[serde(with = "text")]
        at: Timestamp,
        uid: u32,
        user: Option<String>,
        sudo: Option<String>,
        pid: u32,
        verb: String,
        arguments: Vec<String>,
    },
    Ended {
        id: Uuid,
        #[serde(with = "text")]
        at: Timestamp,
        error: Option<String>,
    },
}

/// A point in time as it is written everywhere else.
mod text {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::Timestamp;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// The name of the user who runs this process.
fn user() -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::getuid()).ok()?.map(|user| user.name)
}

fn lives(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    !matches!(test_kill_process(pid), Err(Errno::SRCH))
}

/// Its name in the state directory.
const FILE: &str = "history";

/// How long the file may become, in bytes, before it is put aside; the one before goes then.
const LIMIT: u64 = 4 << 20;

#[cfg(test)]
mod test {
    use super::*;

    fn scratch() -> (tempfile::TempDir, History) {
        let dir = tempfile::tempdir().unwrap();
        let history = History::in_state(dir.path());
        (dir, history)
    }

    #[test]
    fn what_was_done_is_read_back_in_order() {
        let (_dir, history) = scratch();
        history.begin("create", &["head"]).end::<(), String>(&Ok(()));
        history.begin("destroy", &["head@monday"]).end::<(), _>(&Err("it is busy"));
        let records = history.read().unwrap();
        let told = records.iter().map(|record| (record.verb.as_str(), &record.outcome));
        let told = told.collect::<Vec<_>>();
        let failed = Outcome::Failed("it is busy".to_owned());
        assert_eq!(told, [("create", &Outcome::Done), ("destroy", &failed)]);
        assert_eq!(records[0].uid, getuid().as_raw());
        assert!(records[1].is_about("head") && !records[1].is_about("hea"));
    }

    #[test]
    fn what_did_not_end_is_seen() {
        let (_dir, history) = scratch();
        let _entry = history.begin("clone", &["a", "b"]);
        assert_eq!(history.read().unwrap()[0].outcome, Outcome::Running);
        let text = std::fs::read_to_string(&history.path).unwrap();
        // No process has the number 4194305: Linux goes to 4194304, FreeBSD to 99999.
        let mine = format!("\"pid\":{}", std::process::id());
        std::fs::write(&history.path, text.replace(&mine, "\"pid\":4194305")).unwrap();
        assert_eq!(history.read().unwrap()[0].outcome, Outcome::Unfinished);
    }

    #[test]
    fn a_line_cut_off_by_a_crash_hides_no_other() {
        let (_dir, history) = scratch();
        history.begin("create", &["a"]).end::<(), String>(&Ok(()));
        let text = std::fs::read_to_string(&history.path).unwrap();
        std::fs::write(&history.path, format!("{text}{{\"begun\":{{\"id\":\"")).unwrap();
        history.begin("create", &["b"]).end::<(), String>(&Ok(()));
        let verbs = history.read().unwrap();
        assert_eq!(
            verbs.iter().map(|record| record.arguments[0].as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
    }

    #[test]
    fn the_file_is_put_aside_when_it_is_long_and_still_read() {
        let (_dir, history) = scratch();
        history.begin("create", &["a"]).end::<(), String>(&Ok(()));
        let filler = "x".repeat(usize::try_from(LIMIT).unwrap());
        let text = std::fs::read_to_string(&history.path).unwrap();
        std::fs::write(&history.path, format!("{text}{filler}\n")).unwrap();
        history.begin("create", &["b"]).end::<(), String>(&Ok(()));
        assert!(std::fs::metadata(&history.path).unwrap().len() < 1000);
        assert_eq!(history.read().unwrap().len(), 2);
    }

    #[test]
    fn a_history_that_cannot_be_written_stops_nothing() {
        let history = History::in_state(Path::new("/dev/null/none"));
        history.begin("create", &["a"]).end::<(), String>(&Ok(()));
        assert!(history.read().is_err());
    }
}
