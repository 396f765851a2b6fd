//! What boot environments hold that a machine could boot.
//!
//! A plan needs to know it at once, and an environment's disk may stall: a thread of the catalog's
//! own looks, and who asks waits a little for fresh facts, then takes the last ones.

mod ability;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use uuid::Uuid;

use super::{kernel, loader};
use crate::provision::roots::{Known, Owned, own_among};
use crate::site::machine::MachineName;
use ability::Abilities;

/// Files of one boot environment, resolved inside it whatever its links say.
pub trait Files: Send + Sync {
    /// Opens a regular file; anything else is an error.
    fn open(&self, path: &str) -> io::Result<File>;

    /// Whether the path is, or leads to, a regular file.
    fn is_file(&self, path: &str) -> bool;

    /// The names in a folder that are UTF-8.
    fn names(&self, folder: &str) -> io::Result<Vec<String>>;
}

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

/// What a boot environment holds that can be booted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Contents {
    /// The system in it, if it is one that can boot from the network.
    pub system: Option<System>,
    /// The loaders in its `/boot`, by name.
    pub loaders: BTreeSet<String>,
    /// Those of FreeBSD's loaders among them that were built without NFS.
    pub without_nfs: BTreeSet<String>,
}

/// A system that can boot from the network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum System {
    /// FreeBSD: brings its own loaders.
    FreeBsd,
    /// Linux: a kernel that iPXE loads.
    Linux {
        /// The kernel's path.
        kernel: String,
        /// Its initial RAM disk's path, if it has one.
        initrd: Option<String>,
    },
}

impl Contents {
    /// Looks at an environment's files.
    #[must_use]
    pub fn scan(files: &dyn Files) -> Self {
        Self::scan_by(files, &mut Abilities::default())
    }

    /// Looks at an environment's files, but not again into those that were looked into before.
    fn scan_by(files: &dyn Files, abilities: &mut Abilities) -> Self {
        let present = |name: &&str| files.is_file(&format!("/boot/{name}"));
        let freebsd = loader::FREEBSD;
        let names = loader::all_names().chain(freebsd);
        let loaders = names.filter(present).map(str::to_owned).collect::<BTreeSet<_>>();
        let own_loader = freebsd.iter().any(|name| loaders.contains(*name));
        let system = if own_loader && files.is_file("/boot/kernel/kernel") {
            Some(System::FreeBsd)
        } else {
            linux(files)
        };
        let lacks_nfs = |name: &&str| abilities.lacks_nfs(files, &format!("/boot/{name}"));
        let own = freebsd.into_iter().filter(|name| loaders.contains(*name));
        let without_nfs = own.filter(lacks_nfs).map(str::to_owned).collect();
        Self { system, loaders, without_nfs }
    }
}

/// Finds the kernel to boot: the one that a fixed name points to, else the newest; one with an
/// initial RAM disk before one without. A RAM disk that netbe made for that kernel comes before
/// others.
fn linux(files: &dyn Files) -> Option<System> {
    let mut pairs = vec![
        (
            "/boot/vmlinuz".to_owned(),
            owned(&["/boot/initrd.img", "/boot/initramfs.img", "/boot/initrd"]),
        ),
        ("/vmlinuz".to_owned(), owned(&["/initrd.img", "/boot/initrd.img"])),
    ];
    // A folder that cannot be listed has no versions in it.
    let names = files.names("/boot").unwrap_or_default();
    let mut versions =
        names.iter().filter_map(|name| name.strip_prefix("vmlinuz-")).collect::<Vec<_>>();
    versions.sort_by(|a, b| natural(b, a));
    for version in versions {
        let initrds = ["initrd.img-{}", "initramfs-{}.img", "initrd-{}", "initramfs-{}"];
        let initrds = initrds.map(|form| format!("/boot/{}", form.replace("{}", version)));
        pairs.push((format!("/boot/vmlinuz-{version}"), initrds.into()));
    }
    pairs.retain(|(kernel, _)| files.is_file(kernel));
    for (kernel, initrds) in &mut pairs {
        let told = files.open(kernel).ok().and_then(kernel::release);
        let release = told.or_else(|| kernel::release_in_name(kernel).map(str::to_owned));
        let own = release.map(|release| kernel::own_ram_disk(&release));
        *initrds = own.into_iter().chain(std::mem::take(initrds)).collect();
    }
    let whole = pairs.iter().find_map(|(kernel, initrds)| {
        let initrd = initrds.iter().find(|initrd| files.is_file(initrd))?;
        Some(System::Linux { kernel: kernel.clone(), initrd: Some(initrd.clone()) })
    });
    whole.or_else(|| {
        let (kernel, _) = pairs.first()?;
        Some(System::Linux { kernel: kernel.clone(), initrd: None })
    })
}

fn owned(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|&path| path.to_owned()).collect()
}

/// Orders versions as people do: runs of digits by their number, so that 6.10 comes after 6.9.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (left, right) = (number(a), number(b));
        let order = match (left, right) {
            (Some((left, _)), Some((right, _))) => {
                left.len().cmp(&right.len()).then_with(|| left.cmp(right))
            }
            (None, None) => a.chars().next().cmp(&b.chars().next()),
            // A version that goes on with a number is newer than one with a suffix, as -rc.
            (Some(_), None) => return if b.is_empty() { Ordering::Greater } else { a.cmp(b) },
            (None, Some(_)) => return if a.is_empty() { Ordering::Less } else { a.cmp(b) },
        };
        if order != Ordering::Equal || a.is_empty() {
            return order;
        }
        a = left.map_or_else(|| after_first(a), |(_, rest)| rest);
        b = right.map_or_else(|| after_first(b), |(_, rest)| rest);
    }
}

/// The run of digits that the text begins with, without leading zeros, and what follows it.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
    Some((digits.trim_start_matches('0'), rest))
}

fn after_first(text: &str) -> &str {
    let mut letters = text.chars();
    letters.next();
    letters.as_str()
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
            let mut abilities = Abilities::default();
            for (name, uuid, files) in queue {
                let contents = Contents::scan_by(&*files, &mut abilities);
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

    fn system(paths: &[&str]) -> Option<System> {
        Contents::scan(&*FakeFiles::new(paths)).system
    }

    fn linux(kernel: &str, initrd: Option<&str>) -> Option<System> {
        Some(System::Linux { kernel: kernel.to_owned(), initrd: initrd.map(str::to_owned) })
    }

    #[test]
    fn freebsd_has_a_kernel_and_a_loader_of_its_own() {
        assert_eq!(system(&["/boot/kernel/kernel", "/boot/pxeboot"]), Some(System::FreeBsd));
        assert_eq!(system(&["/boot/kernel/kernel", "/boot/loader.efi"]), Some(System::FreeBsd));
        assert_eq!(system(&["/boot/kernel/kernel"]), None);
        assert_eq!(system(&[]), None);
    }

    #[test]
    fn the_newest_kernel_is_chosen_by_number() {
        let paths = [
            "/boot/vmlinuz-6.9.2-amd64",
            "/boot/initrd.img-6.9.2-amd64",
            "/boot/vmlinuz-6.10.1-amd64",
            "/boot/initrd.img-6.10.1-amd64",
        ];
        let newest = linux("/boot/vmlinuz-6.10.1-amd64", Some("/boot/initrd.img-6.10.1-amd64"));
        assert_eq!(system(&paths), newest);
    }

    #[test]
    fn a_fixed_name_wins_over_versions() {
        let paths = ["/vmlinuz", "/initrd.img", "/boot/vmlinuz-6.9", "/boot/initramfs-6.9.img"];
        assert_eq!(system(&paths), linux("/vmlinuz", Some("/initrd.img")));
    }

    #[test]
    fn a_kernel_with_an_initrd_wins_over_one_without() {
        let paths = ["/boot/vmlinuz", "/boot/vmlinuz-lts", "/boot/initramfs-lts"];
        assert_eq!(system(&paths), linux("/boot/vmlinuz-lts", Some("/boot/initramfs-lts")));
        assert_eq!(system(&["/boot/vmlinuz"]), linux("/boot/vmlinuz", None));
    }

    #[test]
    fn versions_are_ordered_by_number() {
        assert_eq!(natural("6.10", "6.9"), Ordering::Greater);
        assert_eq!(natural("6.1.0-13-amd64", "6.1.0-9-amd64"), Ordering::Greater);
        assert_eq!(natural("6.1", "6.1.1"), Ordering::Less);
        assert_eq!(natural("6.01", "6.1"), Ordering::Equal);
        assert_eq!(natural("", ""), Ordering::Equal);
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
