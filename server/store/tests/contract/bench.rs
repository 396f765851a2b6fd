//! A store of a test's own.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use store::{
    Capabilities, Environment, EnvironmentName, History, Lacking, Layout, Location, Point, Record,
    Snapshot, SnapshotName, Store, StoreError,
};
use tempfile::TempDir;

use crate::picture::Picture;

/// A store that nobody else uses, and that is gone with the test.
pub(crate) struct Bench {
    pub(crate) store: Store,
    location: String,
    state: PathBuf,
    /// Where the state is, and the store too if no place for it was named.
    _scratch: Option<TempDir>,
}

impl Bench {
    /// An empty store at the place that the environment names.
    pub(crate) fn new() -> Self {
        Self::below(env::var(PLACE).ok(), TempDir::new().unwrap())
    }

    /// The same in memory, where the environment names no place: what is played often waits for no disk.
    pub(crate) fn in_memory() -> Self {
        let scratch = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        Self::below(env::var(PLACE).ok(), scratch)
    }

    /// Whether stores are plain directories that the environment has not named.
    pub(crate) fn are_directories() -> bool {
        env::var_os(PLACE).is_none()
    }

    /// An empty store where there is little room; `None` if the environment names no such place.
    pub(crate) fn small() -> Option<Self> {
        let place = env::var(SMALL_PLACE).ok();
        if place.is_none() {
            println!("skipped: {SMALL_PLACE} names no place that may be filled");
        }
        place.map(|place| Self::below(Some(place), TempDir::new().unwrap()))
    }

    /// The store of the process that started this one.
    pub(crate) fn of_parent() -> Option<Self> {
        let location = env::var(PARENT_STORE).ok()?;
        let state = PathBuf::from(env::var_os(PARENT_STATE)?);
        let store = Store::open(&location.parse().unwrap(), &state).unwrap();
        let store = store.with_lock_timeout(LOCK_TIMEOUT);
        Some(Self { store, location, state, _scratch: None })
    }

    fn below(place: Option<String>, scratch: TempDir) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let place = place.unwrap_or_else(|| format!("dir:{}", scratch.path().display()));
        let own = NEXT.fetch_add(1, Ordering::Relaxed);
        let location = format!("{place}/contract-{}-{own}", process::id());
        let state = scratch.path().join("state");
        fs::create_dir(&state).unwrap();
        let store = Store::establish(&location.parse().unwrap(), &state).unwrap();
        let store = store.with_lock_timeout(LOCK_TIMEOUT);
        Self { store, location, state, _scratch: Some(scratch) }
    }

    /// Runs one test of this program in a second process, which gets this store by [`Bench::of_parent`].
    pub(crate) fn second_process(&self, test: &str) -> Command {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(PARENT_STORE, &self.location)
            .env(PARENT_STATE, &self.state)
            .stdin(Stdio::null());
        command
    }

    /// The same store, opened once more.
    pub(crate) fn reopened(&self) -> Store {
        Store::open(&self.place(), &self.state).unwrap().with_lock_timeout(LOCK_TIMEOUT)
    }

    pub(crate) fn place(&self) -> Location {
        self.location.parse().unwrap()
    }

    /// Where the store's state is.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// What the history tells, oldest first.
    pub(crate) fn history(&self) -> Vec<Record> {
        History::in_state(&self.state).read().unwrap()
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    /// Makes an environment: nested, wherever a store can nest.
    pub(crate) fn create(&self, text: &str) -> Environment {
        let Some(("zfs", store)) = self.location.split_once(':') else {
            return self.store.create(&name(text), Layout::Linux).unwrap();
        };
        // Of four data sets, as somebody makes them by hand: every verb takes as many times as long as there
        // are, and a layout has ten. What else tests look at are directories.
        let made = self.store.create(&name(text), Layout::Flat).unwrap();
        for (set, canmount) in [("home", "noauto"), ("var", "off"), ("var/log", "noauto")] {
            let set = format!("{store}/{text}/{set}");
            let made = Command::new("zfs")
                .args(["create", "-o", &format!("canmount={canmount}"), &set])
                .status()
                .unwrap();
            assert!(made.success(), "{set}");
        }
        // The directories that they are mounted on are there from the first mount on.
        self.files(text);
        self.store.get(&made.name).unwrap()
    }

    pub(crate) fn clone_of(&self, source: &str, text: &str) -> Environment {
        self.store.clone_environment(&point(source), &name(text)).unwrap()
    }

    /// Makes a snapshot, written as `head@base`.
    pub(crate) fn snapshot(&self, text: &str) -> Snapshot {
        let Point { environment, snapshot } = point(text);
        self.store.snapshot(&environment, &snapshot.unwrap()).unwrap()
    }

    /// Where an environment's files can be reached now.
    pub(crate) fn files(&self, text: &str) -> PathBuf {
        let root = self.store.root(&name(text));
        // What is mounted stays so until a verb takes the tree away: to ask ZFS about it again takes long
        // in an emulated machine.
        if !is_mount_point(&root) {
            self.store.open_parts(&name(text)).unwrap();
        }
        root
    }

    /// Writes a file of an environment.
    pub(crate) fn put(&self, text: &str, path: &str, content: &str) {
        fs::write(self.files(text).join(path), content).unwrap();
    }

    /// Reads a file of an environment; `None` if it is not there.
    pub(crate) fn read(&self, text: &str, path: &str) -> Option<String> {
        fs::read_to_string(self.files(text).join(path)).ok()
    }

    pub(crate) fn picture(&self, text: &str) -> Picture {
        Picture::of(&self.files(text))
    }

    /// What a snapshot holds, by a clone of it.
    pub(crate) fn picture_of_snapshot(&self, text: &str) -> Picture {
        let view = "view of a snapshot";
        self.clone_of(text, view);
        let picture = self.picture(view);
        self.store.destroy(&name(view)).unwrap();
        picture
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let listing = self.store.list().unwrap();
        assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
        listing.environments.iter().map(|environment| environment.name.to_string()).collect()
    }

    /// The snapshots that somebody asked for, oldest first.
    pub(crate) fn snapshots(&self, text: &str) -> Vec<String> {
        let found = self.store.snapshots(&name(text)).unwrap();
        let asked = found.into_iter().filter(|snapshot| !snapshot.automatic);
        asked.map(|snapshot| snapshot.name.to_string()).collect()
    }

    /// What killed commands left that no later one cleared away. ZFS has nothing of that kind.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let Some((_, path)) = self.location.split_once(":/") else { return Vec::new() };
        let mut found = Vec::new();
        let mut left = vec![(Path::new("/").join(path), 0)];
        while let Some((dir, depth)) = left.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                if entry.file_name().as_encoded_bytes().starts_with(b".work-") {
                    found.push(entry.path());
                } else if depth < 2 && entry.file_type().unwrap().is_dir() {
                    left.push((entry.path(), depth + 1));
                }
            }
        }
        found
    }

    pub(crate) fn destroy(&self, text: &str) -> Result<(), StoreError> {
        self.store.destroy(&name(text))
    }

    pub(crate) fn destroy_snapshot(&self, text: &str) -> Result<(), StoreError> {
        let Point { environment, snapshot } = point(text);
        self.store.destroy_snapshot(&environment, &snapshot.unwrap())
    }

    /// Sends a snapshot into memory, or what is new in it since another one.
    pub(crate) fn sent(&self, text: &str, base: Option<&str>) -> Vec<u8> {
        let Point { environment, snapshot } = point(text);
        let base = base.map(snapshot_name);
        let mut stream = Vec::new();
        let snapshot = snapshot.unwrap();
        self.store.send(&environment, &snapshot, base.as_ref(), &mut stream).unwrap();
        stream
    }

    pub(crate) fn receive(&self, text: &str, stream: &[u8]) -> Result<Environment, StoreError> {
        self.store.receive(&name(text), Lacking::Refuse, &mut &*stream)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self._scratch.is_none() {
            return;
        }
        if env::var_os(KEEP).is_some() {
            for found in self.store.list().map(|listing| listing.environments).unwrap_or_default() {
                let _ = self.store.release(&found.name);
            }
            return;
        }
        // Clones before what they depend on; a pass that destroys nothing was the last.
        while let Ok(listing) = self.store.list() {
            let gone =
                listing.environments.iter().filter(|one| self.store.destroy(&one.name).is_ok());
            if gone.count() == 0 {
                break;
            }
        }
        match self.location.split_once(':') {
            Some(("zfs", dataset)) => {
                let _ = Command::new("zfs").args(["destroy", "-R", dataset]).status();
            }
            Some((_, path)) => {
                let _ = fs::remove_dir_all(path);
            }
            None => {}
        }
    }
}

pub(crate) fn name(text: &str) -> EnvironmentName {
    text.parse().unwrap()
}

pub(crate) fn snapshot_name(text: &str) -> SnapshotName {
    text.parse().unwrap()
}

/// An environment or a snapshot of one, written as `head` or `head@base`.
pub(crate) fn point(text: &str) -> Point {
    text.parse().unwrap()
}

/// Whether another file system than its parent's begins at a directory.
fn is_mount_point(dir: &Path) -> bool {
    let device = |dir: &Path| fs::symlink_metadata(dir).map(|metadata| metadata.dev()).ok();
    let own = device(dir);
    own.is_some() && dir.parent().and_then(device) != own
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Brings what was written to the disk: ZFS counts blocks only there.
pub(crate) fn synchronize(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

const PLACE: &str = "NETBE_CONTRACT_STORE";
const SMALL_PLACE: &str = "NETBE_CONTRACT_SMALL";
const KEEP: &str = "NETBE_CONTRACT_KEEP";
const PARENT_STORE: &str = "NETBE_CONTRACT_PARENT_STORE";
const PARENT_STATE: &str = "NETBE_CONTRACT_PARENT_STATE";
/// A verb may take long on a slow machine, and those that wait for it may not give up before it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(600);
