//! What boot environments hold that a machine could boot.
//!
//! A plan needs to know it at once, and an environment's disk may stall: a thread of the catalog's
//! own looks, and who asks waits a little for fresh facts, then takes the last ones.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use provision::contents::Scanner;
pub use provision::contents::{Contents, Files, System};
use provision::roots::{Known, Owned, own_among};
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
    scans: mpsc::Sender<(String, Uuid, Arc<dyn Files>)>,
}

struct Shared {
    entries: Mutex<BTreeMap<String, Entry>>,
    scanned: Condvar,
}

struct Entry {
    environment: Environment,
    contents: Option<Contents>,
    scanning: bool,
}

impl Catalog {
    /// Starts a catalog that is empty until [`Catalog::replace`].
    pub fn start() -> io::Result<Self> {
        let shared =
            Arc::new(Shared { entries: Mutex::new(BTreeMap::new()), scanned: Condvar::new() });
        let (scans, queue) = mpsc::channel::<(String, Uuid, Arc<dyn Files>)>();
        let own = Arc::clone(&shared);
        // It ends when the catalog is dropped, which closes the queue.
        thread::Builder::new().name("catalog".to_owned()).spawn(move || {
            let mut scanner = Scanner::default();
            for (name, uuid, files) in queue {
                let contents = scanner.scan(&*files);
                let mut entries = own.entries();
                let entry = entries.get_mut(&name);
                if let Some(entry) = entry.filter(|entry| entry.environment.uuid == uuid) {
                    entry.contents = Some(contents);
                    entry.scanning = false;
                }
                drop(entries);
                own.scanned.notify_all();
            }
        })?;
        Ok(Self { shared, scans })
    }

    /// Takes over the store's environments; what was known of those that stay is kept.
    pub fn replace(&self, environments: Vec<Environment>) {
        let mut entries = self.shared.entries();
        let mut old = std::mem::take(&mut *entries);
        for environment in environments {
            let known = old.remove(&environment.name);
            let known = known.filter(|entry| entry.environment.uuid == environment.uuid);
            let (contents, scanning) =
                known.map_or((None, false), |entry| (entry.contents, entry.scanning));
            let name = environment.name.clone();
            let mut entry = Entry { environment, contents, scanning };
            self.request(&name, &mut entry);
            entries.insert(name, entry);
        }
    }

    /// What is known of an environment, looked up afresh if that takes no longer than `patience`.
    #[must_use]
    pub fn facts(&self, name: &str, patience: Duration) -> Option<Facts> {
        let mut entries = self.shared.entries();
        let entry = entries.get_mut(name)?;
        // A look that is under way and has not come back yet is on a slow disk: with older facts
        // at hand nobody waits for it a second time.
        let patience =
            if entry.scanning && entry.contents.is_some() { Duration::ZERO } else { patience };
        self.request(name, entry);
        let busy = |entries: &mut BTreeMap<String, Entry>| {
            entries.get(name).is_some_and(|entry| entry.scanning)
        };
        let waited = self.shared.scanned.wait_timeout_while(entries, patience, busy);
        let (entries, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(name)?;
        Some(Facts {
            name: entry.environment.name.clone(),
            uuid: entry.environment.uuid,
            read_only: entry.environment.read_only,
            datasets: entry.environment.datasets.clone(),
            handle: entry.environment.handle.clone(),
            owned: entry.environment.owned.clone(),
            contents: entry.contents.clone().unwrap_or_default(),
        })
    }

    /// The environment of that identity.
    #[must_use]
    pub fn environment(&self, uuid: Uuid) -> Option<Environment> {
        let entries = self.shared.entries();
        let found = entries.values().find(|entry| entry.environment.uuid == uuid);
        found.map(|entry| entry.environment.clone())
    }

    /// The name of the root that a machine keeps for what it is assigned, once there is one.
    #[must_use]
    pub fn own(&self, machine: &MachineName, wanted: &str) -> Option<String> {
        let entries = self.shared.entries();
        let known = entries.iter().map(|(name, entry)| Known {
            name,
            uuid: entry.environment.uuid,
            owned: entry.environment.owned.clone(),
        });
        own_among(known, machine.as_str(), wanted).map(str::to_owned)
    }

    /// The names of all environments, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.shared.entries().keys().cloned().collect()
    }

    fn request(&self, name: &str, entry: &mut Entry) {
        if !entry.scanning {
            let files = Arc::clone(&entry.environment.files);
            // The queue is open as long as the catalog lives, unless its thread could not go on.
            entry.scanning =
                self.scans.send((name.to_owned(), entry.environment.uuid, files)).is_ok();
        }
    }
}

impl Shared {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
    }

    fn linux(kernel: &str, initrd: Option<&str>) -> Option<System> {
        Some(System::Linux { kernel: kernel.to_owned(), initrd: initrd.map(str::to_owned) })
    }

    #[test]
    fn facts_are_fresh() {
        let catalog = Catalog::start().unwrap();
        let files = FakeFiles::new(&["/boot/vmlinuz"]);
        catalog.replace(vec![Environment {
            name: "base".to_owned(),
            uuid: Uuid::from_u128(1),
            read_only: false,
            datasets: Vec::new(),
            handle: Vec::new(),
            owned: None,
            files: Arc::clone(&files) as Arc<dyn Files>,
        }]);
        let facts = catalog.facts("base", Duration::from_secs(60)).unwrap();
        assert_eq!(facts.contents.system, linux("/boot/vmlinuz", None));
        files.0.lock().unwrap().insert("/boot/initrd.img".to_owned());
        let facts = catalog.facts("base", Duration::from_secs(60)).unwrap();
        assert_eq!(facts.contents.system, linux("/boot/vmlinuz", Some("/boot/initrd.img")));
        assert_eq!(catalog.facts("other", Duration::from_secs(60)), None);
    }

    /// Files on a disk that never answers.
    struct Stalled(Mutex<mpsc::Receiver<()>>);

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
    }

    #[test]
    fn nobody_waits_for_a_stalled_disk() {
        let catalog = Catalog::start().unwrap();
        let (_release, stall) = mpsc::channel();
        let files = Arc::new(Stalled(Mutex::new(stall)));
        let uuid = Uuid::from_u128(1);
        let name = "base".to_owned();
        catalog.replace(vec![Environment {
            name,
            uuid,
            read_only: false,
            datasets: Vec::new(),
            handle: Vec::new(),
            owned: None,
            files,
        }]);
        let facts = catalog.facts("base", Duration::from_millis(1)).unwrap();
        assert_eq!(facts.contents, Contents::default());
    }
}
