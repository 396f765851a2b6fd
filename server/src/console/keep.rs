//! What machines said, written down: a file of JSON lines for each machine, which is put aside when it is
//! long.
//!
//! A thread of its own writes ([`Scribe`]). A machine has a bound for each second and for its file, and all of them
//! together have one: the file that was written longest ago goes first.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, atomic};
use std::thread;
use std::time::{Instant, SystemTime};

use lines::aside;
use serde::{Deserialize, Serialize};

use crate::site::events::{BootId, seconds};
use crate::site::scribe::{Pace, Scribe};

/// A line that a machine said.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Said {
    /// When it came; in seconds since 1970 where it is written down.
    #[serde(with = "seconds")]
    pub at: SystemTime,
    /// The machine's name, or its Ethernet address.
    pub machine: String,
    /// The boot that it was in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootId>,
    /// How grave it is, from 0 (emergency) to 7 (debug), if it says so (RFC 5424 §6.2.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<u8>,
    /// Who says it; empty for a kernel that does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program: String,
    /// What it says.
    pub text: String,
}

/// What a machine said, oldest first.
///
/// # Errors
///
/// A file is there and cannot be read.
pub fn read(state: &Path, machine: &str) -> io::Result<Vec<Said>> {
    file(&state.join(FOLDER), machine).map_or_else(|| Ok(Vec::new()), |path| lines::read(&path))
}

/// Has what a machine said go with it to its new name. What somebody else said by that name before is lost.
///
/// # Errors
///
/// A file cannot be moved.
pub fn rename(state: &Path, old: &str, new: &str) -> io::Result<()> {
    let folder = state.join(FOLDER);
    let (Some(old), Some(new)) = (file(&folder, old), file(&folder, new)) else { return Ok(()) };
    // Once it is moved there is nothing of the old name: who does it again changes nothing.
    if !old.exists() && !aside(&old).exists() {
        return Ok(());
    }
    for (from, to) in [(aside(&old), aside(&new)), (old, new)] {
        if !absent(fs::rename(from, &to))? {
            absent(fs::remove_file(&to))?;
        }
    }
    Ok(())
}

/// Removes what a machine said: another one may get its name.
///
/// # Errors
///
/// A file cannot be removed.
pub fn remove(state: &Path, machine: &str) -> io::Result<()> {
    let Some(path) = file(&state.join(FOLDER), machine) else { return Ok(()) };
    absent(fs::remove_file(aside(&path)))?;
    absent(fs::remove_file(path)).map(drop)
}

/// Whether a file was there for what was done with it.
fn absent(done: io::Result<()>) -> io::Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes lines to be written; never waits.
pub(super) struct Keeper {
    sender: SyncSender<Said>,
    missed: Arc<atomic::AtomicU64>,
}

impl Keeper {
    pub(super) fn start(state: PathBuf) -> io::Result<Self> {
        let (sender, lines) = mpsc::sync_channel(WAITING);
        let missed = Arc::new(atomic::AtomicU64::new(0));
        let mut files = Files::new(state.join(FOLDER), Arc::clone(&missed));
        let run = move || run(&mut files, &lines);
        thread::Builder::new().name("console".to_owned()).spawn(run)?;
        Ok(Self { sender, missed })
    }

    pub(super) fn keep(&self, said: Said) {
        match self.sender.try_send(said) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.missed.fetch_add(1, atomic::Ordering::Relaxed);
            }
        }
    }
}

fn run(files: &mut Files, lines: &Receiver<Said>) {
    while let Ok(said) = lines.recv() {
        files.take(&said, Instant::now());
    }
}

struct Files {
    folder: PathBuf,
    known: Sizes,
    paces: HashMap<String, Pace>,
    scribe: Scribe,
}

impl Files {
    fn new(folder: PathBuf, missed: Arc<atomic::AtomicU64>) -> Self {
        let mut known = HashMap::new();
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if let Ok(about) = entry.metadata() {
                let written = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                known.insert(entry.path(), (about.len(), written));
            }
        }
        let scribe = Scribe::new(folder.clone(), "the messages of machines", missed);
        Self { folder, known, paces: HashMap::new(), scribe }
    }

    fn take(&mut self, said: &Said, now: Instant) {
        if self.paces.len() > MAX_MACHINES {
            self.paces.clear();
        }
        let pace = self.paces.entry(said.machine.clone()).or_insert_with(|| Pace::new(now));
        if !pace.takes(now) {
            self.scribe.miss(1);
            return;
        }
        let missed = |missed| Said {
            text: format!("{missed} lines of machines were dropped: too many at once"),
            program: "netbe".to_owned(),
            severity: None,
            ..said.clone()
        };
        let Self { folder, known, scribe, .. } = self;
        scribe.write(said, missed, |said| write(folder, known, said));
    }
}

/// Bytes of each file, and when it was written last.
type Sizes = HashMap<PathBuf, (u64, SystemTime)>;

fn write(folder: &Path, known: &mut Sizes, said: &Said) -> io::Result<()> {
    let Some(path) = file(folder, &said.machine) else { return Ok(()) };
    let line = lines::line(said)?;
    make_room(known, &path, line.len() as u64)?;
    let append = || lines::append(&path, FILE, &line);
    let appended = match append() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().mode(0o700).create(folder)?;
            append()?
        }
        other => other?,
    };
    if appended.put_aside
        && let Some(before) = known.remove(&path)
    {
        known.insert(aside(&path), before);
    }
    known.insert(path, (appended.len, SystemTime::now()));
    Ok(())
}

/// Removes what was written longest ago until there is room for so many bytes.
fn make_room(known: &mut Sizes, own: &Path, more: u64) -> io::Result<()> {
    loop {
        let all: u64 = known.values().map(|(len, _)| len).sum();
        let many = known.len() >= MAX_MACHINES && !known.contains_key(own);
        if all.saturating_add(more) <= ALL && !many {
            return Ok(());
        }
        let others = known.iter().filter(|(path, _)| *path != own);
        let Some(oldest) = others.min_by_key(|(_, (_, at))| *at).map(|(path, _)| path.clone())
        else {
            return Ok(());
        };
        match fs::remove_file(&oldest) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => known.remove(&oldest),
        };
    }
}

/// The file of a machine; `None` for what is no name of one.
fn file(folder: &Path, machine: &str) -> Option<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let is_name = !machine.is_empty() && machine.len() <= 255 && !machine.starts_with('.');
    (is_name && machine.chars().all(plain)).then(|| folder.join(format!("{machine}.said")))
}

/// The folder in the state directory.
const FOLDER: &str = "console";

/// Bytes of one file, after which it is put aside; the one before it goes.
const FILE: u64 = if cfg!(test) { 4096 } else { 512 << 10 };

/// Bytes of all files.
const ALL: u64 = if cfg!(test) { 64 << 10 } else { 128 << 20 };

/// Files.
const MAX_MACHINES: usize = 4096;

/// Lines that wait for the disk.
const WAITING: usize = 4096;

#[cfg(test)]
mod test {
    use super::*;
    use crate::site::scribe::{PER_SECOND, SECOND};

    fn said(machine: &str, text: &str) -> Said {
        let (at, boot) = (SystemTime::UNIX_EPOCH + SECOND, Some(BootId(7)));
        let (machine, program, text) = (machine.to_owned(), "kernel".to_owned(), text.to_owned());
        Said { at, machine, boot, severity: Some(3), program, text }
    }

    fn files(state: &Path) -> Files {
        Files::new(state.join(FOLDER), Arc::default())
    }

    fn texts(state: &Path, machine: &str) -> Vec<String> {
        read(state, machine).unwrap().into_iter().map(|said| said.text).collect()
    }

    #[test]
    fn what_was_said_is_read_again_by_machine() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(texts(state.path(), "web1"), [""; 0]);
        let (mut files, now) = (files(state.path()), Instant::now());
        files.take(&said("web1", "one\u{1b}[2J"), now);
        files.take(&said("52:54:00:00:00:01", "other"), now);
        assert_eq!(read(state.path(), "web1").unwrap(), [said("web1", "one\u{1b}[2J")]);
        assert_eq!(texts(state.path(), "52:54:00:00:00:01"), ["other"]);
        let raw = fs::read(state.path().join(FOLDER).join("web1.said")).unwrap();
        assert!(!raw.contains(&0x1b), "a file that is looked at commands no terminal");
    }

    #[test]
    fn what_was_said_goes_along_to_a_new_name_and_no_new_machine_has_it() {
        let state = tempfile::tempdir().unwrap();
        let (mut files, now) = (files(state.path()), Instant::now());
        let text = "x".repeat(500);
        for number in 0..12_u32 {
            files.take(&said("web1", &format!("{number}{text}")), now + SECOND * number);
        }
        files.take(&said("web2", "of an earlier one"), now);
        let before = texts(state.path(), "web1");
        assert!(before.len() > 7, "a file was put aside");
        for _ in 0..2 {
            rename(state.path(), "web1", "web2").unwrap();
            assert_eq!(texts(state.path(), "web2"), before);
            assert_eq!(texts(state.path(), "web1"), [""; 0]);
        }
        // The server that runs goes on, whatever it knew of the files.
        for number in 0..12_u32 {
            let now = now + SECOND * (100 + number);
            files.take(&said("web1", &text), now);
            assert!(!files.scribe.has_told());
        }
        remove(state.path(), "web1").unwrap();
        remove(state.path(), "web1").unwrap();
        assert_eq!(texts(state.path(), "web1"), [""; 0]);
        assert_eq!(texts(state.path(), "web2"), before);
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let state = tempfile::tempdir().unwrap();
        for name in ["../web1", "a/b", "", ".", "..", "a\0b"] {
            files(state.path()).take(&said(name, "x"), Instant::now());
            assert_eq!(read(state.path(), name).unwrap(), []);
        }
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_machine_and_all_of_them_have_bounds() {
        let state = tempfile::tempdir().unwrap();
        let mut files = files(state.path());
        let text = "x".repeat(500);
        for number in 0..40_u32 {
            for machine in 0..30 {
                let now = Instant::now() + SECOND * number * 2;
                files.take(&said(&format!("web{machine}"), &text), now);
            }
        }
        let folder = fs::read_dir(state.path().join(FOLDER)).unwrap();
        let sizes: Vec<_> = folder.map(|one| one.unwrap().metadata().unwrap().len()).collect();
        assert!(sizes.iter().all(|size| *size <= FILE), "{sizes:?}");
        assert!(sizes.iter().sum::<u64>() <= ALL, "{sizes:?}");
        assert!(!texts(state.path(), "web29").is_empty(), "who spoke last is kept");
        let again = Files::new(state.path().join(FOLDER), Arc::default());
        assert_eq!(again.known.len(), sizes.len(), "after a restart the bound holds on");
    }

    #[test]
    fn what_comes_too_fast_is_counted() {
        let state = tempfile::tempdir().unwrap();
        let (mut files, now) = (files(state.path()), Instant::now());
        for _ in 0..PER_SECOND + 7 {
            files.take(&said("web1", "x"), now);
        }
        files.take(&said("web1", "later"), now + SECOND);
        let texts = texts(state.path(), "web1");
        assert!(texts.iter().any(|text| text.starts_with("7 lines")), "{texts:?}");
        assert_eq!(texts.last().unwrap(), "later");
    }
}
