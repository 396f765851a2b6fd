//! The directory of a guest: its lock, its record, its sockets.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::net::sys::{process as sys, start};
use crate::site::machine::{RootBy, Runner};

/// The directory of one guest, below the state directory.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: PathBuf,
}

/// A process of this host that is told from a later one with the same number.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: i32,
    /// When it was started, in the system's own words.
    pub(crate) started: String,
}

/// What its keeper knows of a guest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Record {
    /// What runs it.
    pub(crate) run: Runner,
    /// The boot environment that is its root.
    pub(crate) environment: String,
    /// How it reaches that, if it is a virtual machine.
    #[serde(default)]
    pub(crate) root_by: RootBy,
    /// Where it stands.
    pub(crate) stage: Stage,
    /// Since when, in seconds since 1970.
    pub(crate) since: u64,
    /// In which run of the host that was; not known of what earlier versions wrote.
    #[serde(default)]
    pub(crate) boot: Option<String>,
    /// Its keeper.
    pub(crate) keeper: Process,
    /// What runs it: the hypervisor, or the container's first program on this host.
    pub(crate) process: Option<Process>,
    /// The interface that was made for it and has to be removed.
    #[serde(default)]
    pub(crate) tap: Option<String>,
    /// The root of the jail that it is, which has no process of its own.
    #[serde(default)]
    pub(crate) jail: Option<String>,
    /// When this host saw one of its lives end last, in seconds since 1970.
    #[serde(default)]
    pub(crate) ended: Option<u64>,
    /// How often it was started again by itself.
    #[serde(default)]
    pub(crate) restarts: u32,
    /// How it ended, or why it is not there.
    #[serde(default)]
    pub(crate) words: Option<String>,
}

/// Where a guest stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// It ended, and not well, and is not started again.
    Failed,
    /// It is off.
    Off,
    /// It runs.
    Running,
    /// It is about to be started.
    Starting,
    /// It was asked to end.
    Stopping,
    /// It ended, and is started again in a while.
    Waiting,
}

impl Stage {
    /// Whether nothing more comes of it by itself.
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Off)
    }

    /// The word that people are told.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Off => "off",
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::Waiting => "waiting",
        }
    }
}

/// Why something of a guest's place cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// Another keeper has the guest.
    #[error("it runs already, kept by process {0}")]
    Claimed(i32),
    /// The file system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The guest is this process's; it is free again when this is dropped or the process ends, however that is.
#[derive(Debug)]
pub(crate) struct Claim {
    _file: File,
}

impl Process {
    /// This process.
    pub(crate) fn own() -> Option<Self> {
        i32::try_from(process::id()).ok().and_then(|pid| Self::by_pid(pid).ok().flatten())
    }

    /// The process that has this number now.
    pub(crate) fn by_pid(pid: i32) -> io::Result<Option<Self>> {
        Ok(sys::started(pid)?.map(|started| Self { pid, started }))
    }

    /// Whether it may live: one of which nothing can be found out is not dead for that.
    pub(crate) fn is_alive(&self) -> bool {
        self.is_alive_by(sys::started(self.pid))
    }

    fn is_alive_by(&self, found: io::Result<Option<String>>) -> bool {
        match found {
            Ok(None) => false,
            // Nothing can be told of one that an earlier version wrote down.
            Ok(Some(started)) => started == self.started || !start::tells(&self.started),
            Err(_) => true,
        }
    }

    /// Sends it a signal; says whether it was there.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<bool> {
        sys::signal(self.pid, &self.started, signal)
    }
}

impl Record {
    /// Whether its root is the environment's directory on this host, of whose use no server knows.
    pub(crate) const fn is_in_store(&self) -> bool {
        !self.run.is_virtual() || self.root_by.is_of_host()
    }

    /// It stands so from now on.
    pub(crate) fn set_stage(&mut self, stage: Stage) {
        (self.stage, self.since, self.boot) = (stage, now(), sys::boot().ok());
    }

    /// Whether it was written before this host was started: nothing of what it says is there any more.
    pub(crate) fn is_of_before(&self) -> bool {
        self.is_before(&Run::present())
    }

    fn is_before(&self, run: &Run) -> bool {
        match (&self.boot, &run.boot) {
            (Some(boot), Some(present)) => boot != present,
            // Nothing better is known than clocks, which may have been set since.
            (None, _) | (_, None) => run.since.is_some_and(|booted| self.since < booted),
        }
    }

    /// The guest ended together with its keeper. Nobody saw when, unless that was before this host was started.
    pub(crate) fn lose(&mut self) {
        self.lose_in(&Run::present());
    }

    fn lose_in(&mut self, run: &Run) {
        if self.is_before(run) {
            self.ended = run.since.or(self.ended);
            // It is not there, and its name may be another one's.
            self.tap = None;
        }
        self.set_stage(Stage::Off);
        (self.process, self.jail) = (None, None);
        self.words = Some("it ended together with its keeper".to_owned());
    }
}

impl Place {
    /// The place of a guest.
    pub(crate) fn of(state: &Path, name: &str) -> Self {
        Self { path: state.join(FOLDER).join(name) }
    }

    /// The names of the guests that have a place.
    pub(crate) fn names(state: &Path) -> Result<Vec<String>, PlaceError> {
        let path = state.join(FOLDER);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(PlaceError::Io { path, error }),
        };
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
    }

    /// A file of it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the directory, for its owner alone.
    pub(crate) fn make(&self) -> Result<(), PlaceError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(|error| PlaceError::Io { path: self.path.clone(), error })
    }

    /// Claims the guest for this process.
    pub(crate) fn claim(&self) -> Result<Claim, PlaceError> {
        self.make()?;
        let path = self.file(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let fail = |error| PlaceError::Io { path: path.clone(), error };
        let mut file = options.open(&path).map_err(fail)?;
        // Who only asks has it for a moment.
        for _ in 0..ASKS {
            match file.try_lock() {
                Ok(()) => {
                    file.set_len(0).map_err(fail)?;
                    writeln!(file, "{}", process::id()).map_err(fail)?;
                    return Ok(Claim { _file: file });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(ASK),
                Err(TryLockError::Error(error)) => return Err(fail(error)),
            }
        }
        Err(PlaceError::Claimed(self.owner()))
    }

    /// The process that keeps the guest, if one does; 0 if it has not said who it is.
    pub(crate) fn claimed(&self) -> Result<Option<i32>, PlaceError> {
        let path = self.file(LOCK);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PlaceError::Io { path, error }),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(self.owner())),
            Err(TryLockError::Error(error)) => Err(PlaceError::Io { path, error }),
        }
    }

    /// What was written down last. What cannot be read is none: it is written anew.
    pub(crate) fn record(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.file(RECORD)).ok()?).ok()
    }

    /// Writes down how it stands, so that a reader sees all of it or what was before.
    pub(crate) fn write(&self, record: &Record) -> Result<(), PlaceError> {
        let path = self.file(RECORD);
        let fail = |error| PlaceError::Io { path: path.clone(), error };
        let text = serde_json::to_vec(record).map_err(|error| fail(error.into()))?;
        let new = self.file(&format!(".{RECORD}.{}", process::id()));
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(fail)
    }

    /// Notes how long the guest may take to end, for its keeper, which is asked next.
    pub(crate) fn set_patience(&self, patience: Duration) -> Result<(), PlaceError> {
        let path = self.file(PATIENCE);
        fs::write(&path, patience.as_secs().to_string())
            .map_err(|error| PlaceError::Io { path, error })
    }

    /// How long the guest may take to end, if that was said; once.
    pub(crate) fn take_patience(&self) -> Option<Duration> {
        let path = self.file(PATIENCE);
        let said = fs::read_to_string(&path).ok()?;
        // What stays would be said of the next time too.
        fs::remove_file(&path).ok()?;
        said.trim().parse().ok().map(Duration::from_secs)
    }

    fn owner(&self) -> i32 {
        let said = fs::read_to_string(self.file(LOCK)).ok();
        said.and_then(|said| said.trim().parse().ok()).unwrap_or(0)
    }
}

/// Now, in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time from a start of the host to its end.
#[derive(Clone, Debug)]
struct Run {
    /// What no other run has.
    boot: Option<String>,
    /// When it began, in seconds since 1970, by the clock as it is set now.
    since: Option<u64>,
}

impl Run {
    fn present() -> Self {
        let since = sys::uptime().ok().map(|uptime| now().saturating_sub(uptime.as_secs()));
        Self { boot: sys::boot().ok(), since }
    }
}

/// Where guests are, in the state directory.
const FOLDER: &str = "guests";
const LOCK: &str = "lock";
const RECORD: &str = "record.json";
const PATIENCE: &str = "patience";
/// How often a lock is tried that somebody else may only look at, and the time between.
const ASKS: u32 = 20;
const ASK: Duration = Duration::from_millis(5);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn one_keeper_has_a_guest() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::of(dir.path(), "web1");
        assert_eq!(place.claimed().unwrap(), None);
        let claim = place.claim().unwrap();
        let own = i32::try_from(process::id()).unwrap();
        assert_eq!(place.claimed().unwrap(), Some(own));
        assert!(matches!(place.claim(), Err(PlaceError::Claimed(pid)) if pid == own));
        drop(claim);
        // What another test starts has each descriptor too, from fork(2) to execve(2).
        while place.claimed().unwrap().is_some() {
            std::thread::sleep(ASK);
        }
        assert_eq!(Place::names(dir.path()).unwrap(), ["web1"]);
    }

    #[test]
    fn another_process_of_the_same_number_is_no_guest() {
        let mut child = process::Command::new("sleep").arg("600").spawn().unwrap();
        let known = Process::by_pid(child.id().try_into().unwrap()).unwrap().unwrap();
        let other = Process { started: format!("{}0", known.started), ..known.clone() };
        assert!(known.is_alive() && !other.is_alive());
        assert!(!other.signal(Signal::KILL).unwrap());
        assert!(known.is_alive());
        assert!(known.signal(Signal::KILL).unwrap());
        child.wait().unwrap();
        assert!(!known.is_alive() && !known.signal(Signal::KILL).unwrap());
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_dead() {
        let known = Process { pid: 1, started: "c0ffee 5".to_owned() };
        assert!(known.is_alive_by(Err(io::ErrorKind::TimedOut.into())));
        let found = |words: &str| Ok(Some(words.to_owned()));
        assert!(known.is_alive_by(found("c0ffee 5")));
        assert!(!known.is_alive_by(found("c0ffee 6")) && !known.is_alive_by(Ok(None)));
        // As earlier versions wrote it down on FreeBSD: in the local time of whoever asked.
        let known = Process { pid: 1, started: "Mon Nov 23 03:57:29 2026".to_owned() };
        assert!(known.is_alive_by(found("c0ffee 5")) && !known.is_alive_by(Ok(None)));
    }

    #[test]
    fn of_a_lost_guest_nobody_says_that_it_ended_now() {
        let record = Record {
            tap: Some("tap3".to_owned()),
            jail: Some("/be/web1".to_owned()),
            ..record(Stage::Running)
        };
        let lost = |wrote: Option<&str>, boot: Option<&str>, since| {
            let mut lost = Record { boot: wrote.map(str::to_owned), ..record.clone() };
            lost.lose_in(&Run { boot: boot.map(str::to_owned), since });
            assert_eq!((lost.stage, &lost.process, &lost.jail), (Stage::Off, &None, &None));
            (lost.ended, lost.tap)
        };
        // Its interface is there, and another host may run it since.
        let there = (None, record.tap.clone());
        let (before, later) = (Some(record.since - 10), Some(record.since + 10));
        assert_eq!(lost(None, None, None), there);
        assert_eq!(lost(None, Some("this"), before), there);
        assert_eq!(lost(Some("this"), Some("this"), before), there);
        // The clock was set forward since.
        assert_eq!(lost(Some("this"), Some("this"), later), there);
        // What the host had was gone when it was started, also where the clock was set back since.
        assert_eq!(lost(None, Some("this"), later), (later, None));
        assert_eq!(lost(Some("that"), Some("this"), later), (later, None));
        assert_eq!(lost(Some("that"), Some("this"), before), (before, None));
        assert!(!record.is_of_before());
    }

    #[test]
    fn what_is_written_down_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::of(dir.path(), "web1");
        place.make().unwrap();
        assert_eq!(place.record(), None);
        let record = record(Stage::Running);
        place.write(&record).unwrap();
        assert_eq!(place.record(), Some(record));
        assert_eq!(place.take_patience(), None);
        place.set_patience(Duration::from_secs(7)).unwrap();
        assert_eq!(place.take_patience(), Some(Duration::from_secs(7)));
        assert_eq!(place.take_patience(), None);
    }

    fn record(stage: Stage) -> Record {
        Record {
            run: Runner::Qemu,
            environment: "base".to_owned(),
            root_by: RootBy::default(),
            stage,
            since: now(),
            boot: sys::boot().ok(),
            keeper: Process::own().unwrap(),
            process: None,
            tap: None,
            jail: None,
            ended: None,
            restarts: 2,
            words: Some("it ended".to_owned()),
        }
    }
}
