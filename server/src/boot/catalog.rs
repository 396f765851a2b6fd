//! The boot environments and the kernels and loaders in them, scanned ahead of time.
//!
//! A plan needs this at once, and the disk of an environment may stall. So the catalog has threads
//! that scan an environment when it is published and whenever somebody asks for it. A question
//! never waits for them: it is answered with the result of the last scan.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::sync::atomic::{self, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

pub use provision::contents::{Contents, Files, Scanner, System};
use provision::roots::{self, Owned, own_among};
use provision::worker::WorkerError;
use uuid::Uuid;

use crate::site::machine::MachineName;

/// A boot environment, as the store gives it.
#[derive(Clone)]
pub struct Environment {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uuid: Uuid,
    /// Whether nobody may write to it.
    pub read_only: bool,
    /// The data sets in it that hold files, relative to its root, parents first.
    pub datasets: Vec<String>,
    /// The NFS handle of its root, sealed.
    pub handle: Vec<u8>,
    /// Whose root it is, if it is a machine's.
    pub owned: Option<Owned>,
    /// Its files.
    pub files: Arc<dyn Files>,
}

/// What is known of a boot environment when a plan is made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uuid: Uuid,
    /// Whether nobody may write to it.
    pub read_only: bool,
    /// The data sets in it that hold files, relative to its root, parents first.
    pub datasets: Vec<String>,
    /// The NFS handle of its root, sealed.
    pub handle: Vec<u8>,
    /// Whose root it is, if it is a machine's.
    pub owned: Option<Owned>,
    /// What it holds.
    pub contents: Contents,
}

/// All boot environments, by name.
pub struct Catalog {
    shared: Arc<Shared>,
}

/// The answer to a question about an environment, given without waiting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Known {
    /// There is one of that name, or may be, that cannot be used just now: a command works on it, or
    /// its files are away.
    Away,
    /// There is none of that name.
    Missing,
    /// It was not scanned yet; a scan of it is queued.
    Unscanned,
    /// The result of the last scan.
    Scanned(Box<Facts>),
}

/// An environment that the store has, whether or not it can be used just now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Expected {
    /// Its identity; nobody knows that of one that cannot be read.
    pub uuid: Option<Uuid>,
    /// Whose root it is, if it is a machine's.
    pub owned: Option<Owned>,
}

struct Shared {
    entries: Mutex<Entries>,
    changed: Condvar,
    /// Is incremented by every change of anything that a plan depends on.
    revision: AtomicU64,
}

#[derive(Default)]
struct Entries {
    by_name: BTreeMap<String, Entry>,
    /// What the store has, by name.
    expected: BTreeMap<String, Expected>,
    /// Whether it may have more.
    incomplete: bool,
    /// What is to be looked into, by name.
    queue: VecDeque<String>,
    closed: bool,
}

struct Entry {
    environment: Environment,
    contents: Option<Contents>,
    scan: Scan,
    /// Whether the last scan failed, which was told.
    failed: bool,
}

/// Whether a scan of an environment is queued or runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scan {
    Idle,
    Queued,
    /// It runs; `again` if the environment changed meanwhile, so that it has to be scanned once
    /// more.
    Running {
        again: bool,
    },
}

impl Catalog {
    /// Starts a catalog that is empty until [`Catalog::update`].
    pub fn start() -> io::Result<Self> {
        let catalog = Self {
            shared: Arc::new(Shared {
                entries: Mutex::default(),
                changed: Condvar::new(),
                revision: AtomicU64::new(0),
            }),
        };
        for _ in 0..SCANNERS {
            let shared = Arc::clone(&catalog.shared);
            // It ends when the catalog is dropped.
            thread::Builder::new().name("catalog".to_owned()).spawn(move || {
                let mut scanner = Scanner::default();
                while let Some((name, uuid, files)) = shared.next() {
                    shared.scanned(&name, uuid, files.contents(&mut scanner));
                }
            })?;
        }
        Ok(catalog)
    }

    /// Replaces all environments by these.
    #[cfg(test)]
    pub(crate) fn replace(&self, environments: Vec<Environment>) {
        let entries = self.shared.entries();
        let known = entries.by_name.values().map(|entry| entry.environment.uuid);
        let stays = |uuid: &Uuid| environments.iter().any(|one| one.uuid == *uuid);
        let removed: Vec<Uuid> = known.filter(|uuid| !stays(uuid)).collect();
        drop(entries);
        self.update(environments, &removed);
    }

    /// Takes over environments that are new, have changed or have got another name, and forgets others.
    /// What was known of those that stay is kept until they have been looked into again, which is begun.
    pub(super) fn update(&self, changed: Vec<Environment>, removed: &[Uuid]) {
        let mut entries = self.shared.entries();
        let changing = changed.iter().map(|environment| environment.uuid);
        let out: HashSet<Uuid> = changing.chain(removed.iter().copied()).collect();
        let old = entries.by_name.extract_if(.., |_, entry| out.contains(&entry.environment.uuid));
        let mut old: HashMap<Uuid, Entry> =
            old.map(|(_, entry)| (entry.environment.uuid, entry)).collect();
        for environment in changed {
            let known = old.remove(&environment.uuid);
            entries.put(environment, known);
        }
        drop(entries);
        self.shared.renewed();
    }

    /// Takes over what the store has, by name: what of it is not here now is away. Unless `complete`,
    /// any other may be.
    pub fn expect(&self, expected: BTreeMap<String, Expected>, complete: bool) {
        let mut entries = self.shared.entries();
        entries.expected = expected;
        entries.incomplete = !complete;
    }

    /// Returns what is known of an environment without waiting, and queues a scan of it for the
    /// next question.
    #[must_use]
    pub fn known(&self, name: &str) -> Known {
        let mut entries = self.shared.entries();
        entries.request(name, true);
        let known = match entries.by_name.get(name) {
            None if entries.incomplete || entries.expected.contains_key(name) => Known::Away,
            None => Known::Missing,
            Some(entry) => entry.contents.clone().map_or(Known::Unscanned, |contents| {
                Known::Scanned(Box::new(entry.environment.facts(contents)))
            }),
        };
        drop(entries);
        self.shared.changed.notify_all();
        known
    }

    /// What is said of an environment that is not here.
    #[must_use]
    pub fn why_absent(&self, name: &str) -> String {
        let entries = self.shared.entries();
        match entries.incomplete || entries.expected.contains_key(name) {
            true => format!(
                "boot environment {name} cannot be used just now, because a command works on it or its \
                 files are missing: the machine continues by itself as soon as it can"
            ),
            false => format!("boot environment {name} no longer exists"),
        }
    }

    /// Looks into an environment, on the thread that asks; or says why that cannot be. May wait for a
    /// disk.
    pub fn look(&self, name: &str) -> Result<Facts, String> {
        let known = self.shared.entries().by_name.get(name).map(|one| one.environment.clone());
        let environment = known.ok_or_else(|| self.why_absent(name))?;
        let contents = environment.files.contents(&mut Scanner::default());
        let facts = contents.as_ref().map(|contents| environment.facts(contents.clone()));
        let facts = facts.map_err(|error| unscanned(name, error));
        self.shared.scanned(name, environment.uuid, contents);
        facts
    }

    /// Counts changes of anything that a plan depends on.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.shared.revision.load(atomic::Ordering::Acquire)
    }

    /// The environment of that identity.
    #[must_use]
    pub fn environment(&self, uuid: Uuid) -> Option<Environment> {
        let entries = self.shared.entries();
        let mut environments = entries.by_name.values().map(|entry| &entry.environment);
        environments.find(|environment| environment.uuid == uuid).cloned()
    }

    /// The environment of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Environment> {
        self.shared.entries().by_name.get(name).map(|entry| entry.environment.clone())
    }

    /// The name of the root that a machine keeps for what it is assigned, once there is one.
    #[must_use]
    pub fn own(&self, machine: &MachineName, wanted: &str) -> Option<String> {
        let entries = self.shared.entries();
        let known = entries.by_name.iter().map(|(name, entry)| roots::Known {
            name,
            uuid: entry.environment.uuid,
            owned: entry.environment.owned.clone(),
        });
        // A machine whose clone is away gets no second one.
        let away = entries.expected.iter().filter_map(|(name, expected)| {
            let (uuid, owned) = (expected.uuid?, expected.owned.clone());
            let away = !entries.by_name.contains_key(name);
            away.then_some(roots::Known { name, uuid, owned })
        });
        let known = known.chain(away);
        own_among(known, machine.as_str(), wanted).map(str::to_owned)
    }

    /// The names of all environments, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.shared.entries().by_name.keys().cloned().collect()
    }

    /// Waits until no scan is queued or runs.
    #[cfg(test)]
    pub(crate) fn wait_until_scanned(&self) {
        let idle = |entries: &Entries| entries.by_name.values().all(|one| one.scan == Scan::Idle);
        let mut entries = self.shared.entries();
        while !idle(&entries) {
            entries = self.shared.changed.wait(entries).unwrap();
        }
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        self.shared.entries().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Environment {
    fn facts(&self, contents: Contents) -> Facts {
        Facts {
            name: self.name.clone(),
            uuid: self.uuid,
            read_only: self.read_only,
            datasets: self.datasets.clone(),
            handle: self.handle.clone(),
            owned: self.owned.clone(),
            contents,
        }
    }
}

impl Entries {
    fn put(&mut self, environment: Environment, known: Option<Entry>) {
        let failed = known.as_ref().is_some_and(|entry| entry.failed);
        let contents = known.and_then(|entry| entry.contents);
        let name = environment.name.clone();
        // A look that is under way may be into files that were replaced.
        self.by_name
            .insert(name.clone(), Entry { environment, contents, scan: Scan::Idle, failed });
        self.request(&name, false);
    }

    /// Queues a scan of an environment: in front of all others if somebody asks for it.
    fn request(&mut self, name: &str, now: bool) {
        let Some(entry) = self.by_name.get_mut(name) else { return };
        match entry.scan {
            Scan::Idle => {
                entry.scan = Scan::Queued;
                match now {
                    true => self.queue.push_front(name.to_owned()),
                    false => self.queue.push_back(name.to_owned()),
                }
            }
            Scan::Queued if now && entry.contents.is_none() => {
                self.queue.retain(|queued| queued != name);
                self.queue.push_front(name.to_owned());
            }
            Scan::Queued => {}
            Scan::Running { .. } => entry.scan = Scan::Running { again: true },
        }
    }
}

impl Shared {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renewed(&self) {
        self.revision.fetch_add(1, atomic::Ordering::Release);
        self.changed.notify_all();
    }

    /// Waits for the next environment to scan and returns it; `None` when the catalog was dropped.
    fn next(&self) -> Option<(String, Uuid, Arc<dyn Files>)> {
        let mut entries = self.entries();
        while !entries.closed {
            let Some(name) = entries.queue.pop_front() else {
                entries = self.changed.wait(entries).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let entry = entries.by_name.get_mut(&name);
            if let Some(entry) = entry.filter(|entry| entry.scan == Scan::Queued) {
                entry.scan = Scan::Running { again: false };
                let environment = &entry.environment;
                return Some((name, environment.uuid, Arc::clone(&environment.files)));
            }
        }
        None
    }

    /// Stores the result of a scan. After one that failed, what was known before stays so.
    fn scanned(&self, name: &str, uuid: Uuid, contents: Result<Contents, WorkerError>) {
        let mut entries = self.entries();
        let entry = entries.by_name.get_mut(name);
        if let Some(entry) = entry.filter(|entry| entry.environment.uuid == uuid) {
            let again = entry.scan == Scan::Running { again: true };
            if matches!(entry.scan, Scan::Running { .. }) {
                entry.scan = Scan::Idle;
            }
            let failed = std::mem::replace(&mut entry.failed, contents.is_err());
            match contents {
                Ok(contents) if entry.contents.as_ref() != Some(&contents) => {
                    entry.contents = Some(contents);
                    self.revision.fetch_add(1, atomic::Ordering::Release);
                }
                Ok(_) => {}
                Err(error) if failed => tracing::debug!("{}", unscanned(name, &error)),
                Err(error) => tracing::warn!("{}", unscanned(name, &error)),
            }
            if again {
                entries.request(name, false);
            }
        }
        drop(entries);
        self.changed.notify_all();
    }
}

/// What is said of an environment that cannot be read.
fn unscanned(name: &str, error: &WorkerError) -> String {
    format!("boot environment {name} cannot be read: {error}")
}

/// How many threads scan environments: one whose disk stalls must not stop the scans of all others.
const SCANNERS: usize = 2;

#[cfg(test)]
pub(crate) mod test {
    use std::collections::BTreeSet;
    use std::fs::File;

    use super::*;

    /// Files that a test has in memory; what they say is their own path.
    pub(crate) struct FakeFiles(pub(crate) Mutex<BTreeSet<String>>);

    impl FakeFiles {
        pub(crate) fn new(paths: &[&str]) -> Arc<Self> {
            Arc::new(Self(Mutex::new(paths.iter().map(|&path| path.to_owned()).collect())))
        }
    }

    impl Files for FakeFiles {
        fn open(&self, path: &str) -> io::Result<File> {
            use std::io::{Seek as _, Write as _};
            if !self.is_file(path) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let mut file = tempfile::tempfile()?;
            file.write_all(path.as_bytes())?;
            file.rewind()?;
            Ok(file)
        }

        fn is_file(&self, path: &str) -> bool {
            self.0.lock().unwrap().contains(path)
        }

        fn names(&self, folder: &str) -> io::Result<Vec<String>> {
            let prefix = format!("{}/", folder.trim_end_matches('/'));
            let files = self.0.lock().unwrap();
            let names = files.iter().filter_map(|path| path.strip_prefix(&prefix));
            let names = names.map(str::to_owned).collect::<Vec<_>>();
            if names.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(names) }
        }

        fn contents(&self, _: &mut Scanner) -> Result<Contents, WorkerError> {
            Ok(Contents::scan(self))
        }
    }

    fn linux(kernel: &str, initrd: Option<&str>) -> Option<System> {
        Some(System::Linux { kernel: kernel.to_owned(), initrd: initrd.map(str::to_owned) })
    }

    fn environment(files: Arc<dyn Files>) -> Environment {
        Environment {
            name: "base".to_owned(),
            uuid: Uuid::from_u128(1),
            read_only: false,
            datasets: Vec::new(),
            handle: Vec::new(),
            owned: None,
            files,
        }
    }

    fn system_of(known: Known) -> Option<System> {
        let Known::Scanned(facts) = known else { panic!("{known:?}") };
        facts.contents.system
    }

    #[test]
    fn who_asks_has_what_changed_looked_into() {
        let catalog = Catalog::start().unwrap();
        let files = FakeFiles::new(&["/boot/vmlinuz"]);
        catalog.replace(vec![environment(Arc::clone(&files) as Arc<dyn Files>)]);
        catalog.wait_until_scanned();
        let before = catalog.revision();
        assert_eq!(system_of(catalog.known("base")), linux("/boot/vmlinuz", None));
        catalog.wait_until_scanned();
        assert_eq!(catalog.revision(), before, "nothing has changed");
        files.0.lock().unwrap().insert("/boot/initrd.img".to_owned());
        // It may be looked into already; what matters is that the next who asks sees it.
        let _ = catalog.known("base");
        catalog.wait_until_scanned();
        let fresh = linux("/boot/vmlinuz", Some("/boot/initrd.img"));
        assert_eq!(system_of(catalog.known("base")), fresh);
        assert_ne!(catalog.revision(), before);
        assert_eq!(catalog.known("other"), Known::Missing);
        catalog.update(Vec::new(), &[Uuid::from_u128(1)]);
        assert_eq!(catalog.known("base"), Known::Missing);
    }

    #[test]
    fn an_environment_that_gets_another_name_keeps_what_was_found_in_it() {
        let catalog = Catalog::start().unwrap();
        let files = FakeFiles::new(&["/boot/vmlinuz"]) as Arc<dyn Files>;
        catalog.replace(vec![environment(Arc::clone(&files))]);
        catalog.wait_until_scanned();
        catalog.update(vec![Environment { name: "renamed".to_owned(), ..environment(files) }], &[]);
        assert_eq!(catalog.names(), ["renamed"]);
        assert_eq!(system_of(catalog.known("renamed")), linux("/boot/vmlinuz", None));
    }

    /// Files on a disk that never answers.
    pub(crate) struct Stalled(pub(crate) Mutex<std::sync::mpsc::Receiver<()>>);

    impl Files for Stalled {
        fn open(&self, _: &str) -> io::Result<File> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn is_file(&self, _: &str) -> bool {
            // Ends when the test drops the sender.
            let _ = self.0.lock().unwrap().recv();
            false
        }

        fn names(&self, _: &str) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }

        fn contents(&self, _: &mut Scanner) -> Result<Contents, WorkerError> {
            Ok(Contents::scan(self))
        }
    }

    /// Files that kill whoever looks at them.
    struct Deadly(Mutex<bool>);

    impl Files for Deadly {
        fn open(&self, _: &str) -> io::Result<File> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn is_file(&self, _: &str) -> bool {
            false
        }

        fn names(&self, _: &str) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }

        fn contents(&self, _: &mut Scanner) -> Result<Contents, WorkerError> {
            if *self.0.lock().unwrap() { Err(WorkerError::Late) } else { Ok(Contents::default()) }
        }
    }

    #[test]
    fn after_a_scan_that_failed_what_was_known_stays_so() {
        let catalog = Catalog::start().unwrap();
        let files = Arc::new(Deadly(Mutex::new(true)));
        catalog.replace(vec![environment(Arc::clone(&files) as Arc<dyn Files>)]);
        catalog.wait_until_scanned();
        assert_eq!(catalog.known("base"), Known::Unscanned);
        let said = catalog.look("base").unwrap_err();
        assert!(said.starts_with("boot environment base cannot be read: "), "{said}");
        *files.0.lock().unwrap() = false;
        catalog.wait_until_scanned();
        catalog.look("base").unwrap();
        *files.0.lock().unwrap() = true;
        catalog.look("base").unwrap_err();
        assert_eq!(system_of(catalog.known("base")), None);
    }

    #[test]
    fn nobody_waits_for_a_stalled_disk() {
        let catalog = Catalog::start().unwrap();
        let (_release, stall) = std::sync::mpsc::channel();
        let stalled = Arc::new(Stalled(Mutex::new(stall)));
        let other = Environment {
            name: "other".to_owned(),
            uuid: Uuid::from_u128(2),
            ..environment(FakeFiles::new(&["/boot/vmlinuz"]))
        };
        catalog.replace(vec![environment(stalled), other]);
        assert_eq!(catalog.known("base"), Known::Unscanned);
        // Another disk answers.
        while catalog.known("other") == Known::Unscanned {
            thread::yield_now();
        }
    }
}
