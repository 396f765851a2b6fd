//! What the server and its commands remember between runs: small records under a key.
//!
//! [`State`] is all that the rest of the program knows of the place, so that a store shared by
//! several servers can take it. [`StateDir`] keeps each record in a file of its own, replaced
//! atomically: a reader sees the old record or the new one, also after a crash. Leases are not here:
//! DHCP appends them to a journal in [`StateDir::leases`].

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::backup;

/// A place for small records.
///
/// A write is durable when it returns, and atomic: no reader and no crash sees a part of a record.
pub trait State: Send + Sync {
    /// Reads a record; `None` if there is none.
    fn load(&self, kind: Kind, name: &str) -> Result<Option<Vec<u8>>, StateError>;

    /// Writes a record, replacing what was there.
    fn store(&self, kind: Kind, name: &str, record: &[u8]) -> Result<(), StateError>;

    /// Writes a record unless there is one; says whether it was written. Of several that try it at once
    /// one succeeds.
    fn create(&self, kind: Kind, name: &str, record: &[u8]) -> Result<bool, StateError>;

    /// Reads the copy of a record, of a kind that has one; `None` if there is none. Where a write was cut
    /// off it is that of the record before.
    fn load_copy(&self, kind: Kind, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let _ = (kind, name);
        Ok(None)
    }

    /// Where a record is, for people who have to mend it.
    fn place(&self, kind: Kind, name: &str) -> PathBuf;

    /// Removes a record, and its copy; says whether there was one.
    fn remove(&self, kind: Kind, name: &str) -> Result<bool, StateError>;

    /// The names of all records of a kind, sorted.
    fn names(&self, kind: Kind) -> Result<Vec<String>, StateError>;
}

/// What a record is about.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// The boot that a machine is in, by its Ethernet address.
    Boot,
    /// A boot environment that somebody destroyed or took out of use, by its identity.
    Gone,
    /// A machine, by its name.
    Machine,
    /// The site as a whole: its key, its defaults.
    Site,
}

impl Kind {
    /// The folder in which records of this kind lie, and how their names end.
    const fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Boot => ("boots", ".json"),
            Self::Gone => ("gone", ".json"),
            Self::Machine => ("machines", ".toml"),
            Self::Site => ("", ""),
        }
    }

    /// Whether a copy of each record is kept, for when that is damaged.
    const fn has_copy(self) -> bool {
        matches!(self, Self::Boot)
    }
}

/// Reads the site's 16 secret bytes, and makes them at first use.
///
/// Every file handle is sealed with them: who loses them kills every running root.
pub fn site_key(state: &dyn State) -> Result<[u8; 16], StateError> {
    if let Some(text) = state.load(Kind::Site, SITE_KEY)? {
        return parse_key(&text).ok_or(StateError::SiteKey);
    }
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|_| StateError::Random)?;
    let mut text = String::with_capacity(33);
    for byte in key {
        text.push_str(&format!("{byte:02x}"));
    }
    text.push('\n');
    if state.create(Kind::Site, SITE_KEY, text.as_bytes())? {
        return Ok(key);
    }
    // Another process has made it meanwhile.
    let text = state.load(Kind::Site, SITE_KEY)?;
    text.and_then(|text| parse_key(&text)).ok_or(StateError::SiteKey)
}

/// Makes sure that the site's key can be read, if there is one.
///
/// # Errors
///
/// It cannot.
pub fn check_site_key(state: &dyn State) -> Result<(), StateError> {
    match state.load(Kind::Site, SITE_KEY)? {
        Some(text) => parse_key(&text).map(|_| ()).ok_or(StateError::SiteKey),
        None => Ok(()),
    }
}

fn parse_key(text: &[u8]) -> Option<[u8; 16]> {
    let digits = text.trim_ascii();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let number = u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some(number.to_be_bytes())
}

/// A directory of records, for its owner alone.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Whether folders may be missing.
    as_it_is: bool,
}

impl StateDir {
    /// Opens the directory, and makes it if it is not there. If a backup was to take its place and that was
    /// cut off, it goes on first.
    ///
    /// Fails with [`StateError::Foreign`] or [`StateError::Writable`] if somebody else could have put
    /// records there, or can.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let state = Self { path: path.to_owned(), as_it_is: false };
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        for folder in FOLDERS {
            let folder = state.path.join(folder);
            let made = private.create(&folder).and_then(|()| fs::metadata(&folder));
            let about = made.map_err(|error| StateError::Io { path: folder.clone(), error })?;
            refuse_shared(folder, &about)?;
        }
        if backup::is_unfinished(path) {
            let _held = state.hold()?;
            backup::finish(path)
                .map_err(|error| StateError::Io { path: path.to_owned(), error })?;
        }
        Ok(state)
    }

    /// The same directory as it is: nothing is made, and what is not there has no records.
    pub fn look(path: &Path) -> Result<Self, StateError> {
        let state = Self { path: path.to_owned(), as_it_is: true };
        for folder in FOLDERS {
            let folder = state.path.join(folder);
            match fs::metadata(&folder) {
                Ok(about) => refuse_shared(folder, &about)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StateError::Io { path: folder, error }),
            }
        }
        Ok(state)
    }

    /// Where the directory is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder for the journal of DHCP leases.
    #[must_use]
    pub fn leases(&self) -> PathBuf {
        self.path.join("leases")
    }

    /// The UNIX socket by which commands talk to the server.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// Claims the directory for one server; it is free again when the claim is dropped or the
    /// process ends, however it ends.
    pub fn claim(&self) -> Result<Claim, StateError> {
        let path = self.path.join("serve.lock");
        let fail = |error| StateError::Io { path: path.clone(), error };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let owner = Owner::of(&mut file);
                return Err(StateError::Claimed { path: self.path.clone(), owner });
            }
            Err(fs::TryLockError::Error(error)) => return Err(fail(error)),
        }
        file.set_len(0).map_err(fail)?;
        writeln!(file, "{}", process::id()).map_err(fail)?;
        Ok(Claim { _file: file })
    }

    /// Who serves from the directory, if somebody does.
    ///
    /// # Errors
    ///
    /// It cannot be found out.
    pub fn claimed(&self) -> Result<Option<Owner>, StateError> {
        let path = self.path.join("serve.lock");
        let fail = |error| StateError::Io { path: path.clone(), error };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        // Shared, so that none who only asks keeps others from asking.
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(fs::TryLockError::WouldBlock) => Ok(Some(Owner::of(&mut file))),
            Err(fs::TryLockError::Error(error)) => Err(fail(error)),
        }
    }

    /// Waits until no other command changes records, and keeps others out while it is held.
    pub fn hold(&self) -> Result<Claim, StateError> {
        let path = self.path.join("change.lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).and_then(|file| file.lock().map(|()| file));
        match file {
            Ok(file) => Ok(Claim { _file: file }),
            Err(error) => Err(StateError::Io { path, error }),
        }
    }

    /// Has `put` give a record its name, for which it was written to a file beside it.
    fn write<T>(
        &self,
        kind: Kind,
        name: &str,
        record: &[u8],
        put: impl FnOnce(&Path, &Path) -> io::Result<T>,
    ) -> Result<T, StateError> {
        let path = self.file(kind, name)?;
        let folder = path.parent().unwrap_or(&self.path);
        // Two writers of one record never share a new file; its name is hidden from `names`.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let new = folder.join(format!(".{name}.{}.{number}", process::id()));
        let written = write_synced(&new, record)
            .and_then(|()| put(&new, &path))
            .and_then(|done| File::open(folder)?.sync_all().map(|()| done));
        written.map_err(|error| {
            // What is left of a failed write is of no use; the error that counts is the first.
            let _ = fs::remove_file(&new);
            StateError::Io { path, error }
        })
    }

    /// Gives a record another name, at one instant; says whether there was one of the old name. Nothing may
    /// have the new one.
    pub fn rename(&self, kind: Kind, old: &str, new: &str) -> Result<bool, StateError> {
        let (path, target) = (self.file(kind, old)?, self.file(kind, new)?);
        let renamed = match fs::rename(&path, &target) {
            Ok(()) => File::open(target.parent().unwrap_or(&self.path))
                .and_then(|folder| folder.sync_all())
                .map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        renamed.map_err(|error| StateError::Io { path, error })
    }

    fn file(&self, kind: Kind, name: &str) -> Result<PathBuf, StateError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let safe = !name.is_empty() && name.len() <= 200 && !name.starts_with(['.', '-']);
        if !safe || !name.bytes().all(plain) {
            return Err(StateError::Name(name.to_owned()));
        }
        Ok(self.place(kind, name))
    }
}

/// Where the copy of the record at `path` is kept: [`StateDir::names`] does not list it.
fn copy_of(path: &Path) -> PathBuf {
    path.with_added_extension("copy")
}

/// Removes the copy of an earlier record, which must not be taken for the record at `path`; says so,
/// and why there is no other.
fn uncopied(path: &Path, error: &StateError) -> String {
    let kept = path.display();
    match remove_file(&copy_of(path)) {
        Ok(_) => format!("{kept} is written, but its copy cannot be written: {error}"),
        Err(left) => format!(
            "{kept} is written, but its copy cannot be written: {error}; an older copy stays: {left}"
        ),
    }
}

/// Removes a file; says whether it was there.
fn remove_file(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a file, if it is there.
fn read_file(path: PathBuf) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(&path) {
        Ok(record) => Ok(Some(record)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateError::Io { path, error }),
    }
}

impl State for StateDir {
    fn load(&self, kind: Kind, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        read_file(self.file(kind, name)?)
    }

    fn store(&self, kind: Kind, name: &str, record: &[u8]) -> Result<(), StateError> {
        self.write(kind, name, record, |new, path| fs::rename(new, path))?;
        if kind.has_copy()
            && let Err(error) =
                self.write(kind, name, record, |new, path| fs::rename(new, copy_of(path)))
        {
            // The record is there, which is what counts.
            tracing::warn!("{}", uncopied(&self.file(kind, name)?, &error));
        }
        Ok(())
    }

    fn load_copy(&self, kind: Kind, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        read_file(copy_of(&self.file(kind, name)?))
    }

    fn place(&self, kind: Kind, name: &str) -> PathBuf {
        let (folder, suffix) = kind.place();
        self.path.join(folder).join(format!("{name}{suffix}"))
    }

    fn create(&self, kind: Kind, name: &str, record: &[u8]) -> Result<bool, StateError> {
        self.write(kind, name, record, |new, path| {
            let created = match fs::hard_link(new, path) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
                Err(error) => return Err(error),
            };
            fs::remove_file(new).map(|()| created)
        })
    }

    fn remove(&self, kind: Kind, name: &str) -> Result<bool, StateError> {
        let path = self.file(kind, name)?;
        let removed = || {
            if kind.has_copy() {
                remove_file(&copy_of(&path))?;
            }
            let removed = remove_file(&path)?;
            if removed {
                File::open(path.parent().unwrap_or(&self.path))?.sync_all()?;
            }
            Ok(removed)
        };
        removed().map_err(|error| StateError::Io { path: path.clone(), error })
    }

    fn names(&self, kind: Kind) -> Result<Vec<String>, StateError> {
        let (folder, suffix) = kind.place();
        let folder = self.path.join(folder);
        let fail = |error| StateError::Io { path: folder.clone(), error };
        let mut names = Vec::new();
        let entries = match fs::read_dir(&folder) {
            Err(error) if self.as_it_is && error.kind() == io::ErrorKind::NotFound => {
                return Ok(names);
            }
            entries => entries.map_err(fail)?,
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            if !entry.file_type().map_err(fail)?.is_file() {
                continue;
            }
            let name = entry.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(suffix)) else {
                continue;
            };
            if !name.starts_with('.') {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Refuses a directory of records that is not the own one's or the superuser's, or that others may
/// write to.
fn refuse_shared(path: PathBuf, about: &Metadata) -> Result<(), StateError> {
    let (owner, mode) = (about.uid(), about.mode() & 0o7777);
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(StateError::Foreign { path, owner });
    }
    if mode & 0o022 != 0 {
        return Err(StateError::Writable { path, mode });
    }
    Ok(())
}

fn write_synced(path: &Path, record: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(record)?;
    file.sync_all()
}

/// The right to serve from a state directory, or to change its records.
#[derive(Debug)]
#[must_use]
pub struct Claim {
    _file: File,
}

/// The process that holds a state directory, if it said so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner(Option<u32>);

impl Owner {
    /// Who wrote his number into the file of a claim.
    fn of(file: &mut File) -> Self {
        let mut text = String::new();
        // Who holds it is for the message only.
        let _ = file.read_to_string(&mut text);
        Self(text.trim().parse().ok())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(process) => write!(f, "process {process}"),
            None => f.write_str("another process"),
        }
    }
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system has no randomness to give.
    #[error("the system has no random bytes for the site key")]
    Random,
    /// Another server uses the directory.
    #[error(
        "{owner} already serves from {}: stop it, or give another directory with --state",
        path.display()
    )]
    Claimed {
        /// The directory.
        path: PathBuf,
        /// Who has it.
        owner: Owner,
    },
    /// The directory, or a folder in it, is another user's.
    #[error(
        "{} belongs to user {owner}, who can write records there: give --state a directory of your own",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A file could not be read or written.
    #[error("{}: {}", path.display(), advice(error))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A record's name would not make a good file name.
    #[error("'{0}' cannot name a record: use letters, digits, '.', '-' and '_'")]
    Name(String),
    /// The site's key is damaged.
    #[error(
        "site.key in the state directory is not 32 hexadecimal digits: restore it from a backup \
         (with a new key every running machine would lose its root)"
    )]
    SiteKey,
    /// Others may write to the directory, or to a folder in it.
    #[error(
        "other users may write to {} (mode {mode:04o}): check its files, then run `chmod 700` on it",
        path.display()
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// What the system said, and what to do about it where that is plain.
fn advice(error: &io::Error) -> String {
    let known = [
        (io::ErrorKind::PermissionDenied, "permission denied: run it as root"),
        (io::ErrorKind::StorageFull, "the file system is full: make room, then try again"),
        (io::ErrorKind::QuotaExceeded, "the quota is used up: make room, then try again"),
    ];
    let advice = known.iter().find(|(kind, _)| *kind == error.kind());
    advice.map_or_else(|| error.to_string(), |(_, advice)| (*advice).to_owned())
}

/// The directory itself, and what is in it.
const FOLDERS: [&str; 5] = ["", "boots", "gone", "machines", "leases"];

/// The name of the UNIX socket in the state directory.
pub const SOCKET: &str = "control.sock";

/// The record that holds the site's key.
const SITE_KEY: &str = "site.key";

/// Tells apart new files that one process writes at the same time.
static NUMBER: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod test {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn state() -> (tempfile::TempDir, StateDir) {
        let scratch = tempfile::tempdir().unwrap();
        let state = StateDir::open(&scratch.path().join("deep/state")).unwrap();
        (scratch, state)
    }

    #[test]
    fn who_may_not_use_the_state_is_told_who_may() {
        let error = io::ErrorKind::PermissionDenied.into();
        let error = StateError::Io { path: "/var/lib/netbe/boots".into(), error };
        let text = "/var/lib/netbe/boots: permission denied: run it as root";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn a_record_is_read_back_and_replaced() {
        let (_scratch, state) = state();
        assert_eq!(state.load(Kind::Machine, "web1").unwrap(), None);
        state.store(Kind::Machine, "web1", b"one").unwrap();
        state.store(Kind::Machine, "web1", b"two").unwrap();
        assert_eq!(state.load(Kind::Machine, "web1").unwrap().unwrap(), b"two");
        assert_eq!(state.names(Kind::Machine).unwrap(), ["web1"]);
        assert!(state.names(Kind::Boot).unwrap().is_empty());
    }

    #[test]
    fn a_removed_record_is_gone() {
        let (_scratch, state) = state();
        state.store(Kind::Machine, "web1", b"one").unwrap();
        assert!(state.remove(Kind::Machine, "web1").unwrap());
        assert!(!state.remove(Kind::Machine, "web1").unwrap());
        assert_eq!(state.load(Kind::Machine, "web1").unwrap(), None);
    }

    #[test]
    fn the_record_of_a_boot_has_a_copy_that_is_removed_with_it() {
        let (_scratch, state) = state();
        let copy = || state.load_copy(Kind::Boot, "web1").unwrap();
        for record in ["one", "two"] {
            state.store(Kind::Boot, "web1", record.as_bytes()).unwrap();
            fs::write(state.path().join("boots/web1.json"), "damaged").unwrap();
            assert_eq!(copy().unwrap(), record.as_bytes());
        }
        assert_eq!(state.names(Kind::Boot).unwrap(), ["web1"]);
        state.remove(Kind::Boot, "web1").unwrap();
        assert_eq!((copy(), state.load(Kind::Boot, "web1").unwrap()), (None, None));
    }

    #[test]
    fn a_record_whose_copy_cannot_be_written_is_kept_and_has_no_older_copy() {
        let (_scratch, state) = state();
        state.store(Kind::Boot, "web1", b"one").unwrap();
        let path = state.path().join("boots/web1.json");
        let error =
            StateError::Io { path: copy_of(&path), error: io::ErrorKind::StorageFull.into() };
        let told = uncopied(&path, &error);
        assert!(told.contains("web1.json is written, but its copy cannot be written: "), "{told}");
        assert_eq!(state.load_copy(Kind::Boot, "web1").unwrap(), None);
        // Nothing can have the name of a directory.
        fs::create_dir(copy_of(&path)).unwrap();
        state.store(Kind::Boot, "web1", b"two").unwrap();
        assert_eq!(state.load(Kind::Boot, "web1").unwrap().unwrap(), b"two");
        assert!(uncopied(&path, &error).contains("; an older copy stays: "));
    }

    #[test]
    fn what_a_crash_leaves_is_not_a_record() {
        let (_scratch, state) = state();
        fs::write(state.path().join("machines/.web1.17.0"), b"half").unwrap();
        assert!(state.names(Kind::Machine).unwrap().is_empty());
    }

    #[test]
    fn names_do_not_leave_the_folder() {
        let (_scratch, state) = state();
        for name in ["", "../site", "a/b", ".hidden", "-f", "a b", "a\0"] {
            assert!(matches!(state.load(Kind::Machine, name), Err(StateError::Name(_))), "{name}");
        }
    }

    #[test]
    fn everything_is_for_the_owner_alone() {
        let (_scratch, state) = state();
        site_key(&state).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(state.path()), 0o700);
        assert_eq!(mode(&state.path().join("site.key")), 0o600);
    }

    #[test]
    fn the_site_key_stays_the_same() {
        let (_scratch, state) = state();
        let key = site_key(&state).unwrap();
        assert_ne!(key, [0; 16]);
        assert_eq!(site_key(&state).unwrap(), key);
    }

    #[test]
    fn processes_that_make_the_site_key_at_once_have_the_same() {
        for _ in 0..50 {
            let (_scratch, state) = state();
            let barrier = std::sync::Barrier::new(4);
            let make = || {
                barrier.wait();
                site_key(&state).unwrap()
            };
            let keys = std::thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(make));
                threads.map(|thread| thread.join().unwrap())
            });
            assert_eq!(keys, [site_key(&state).unwrap(); 4]);
            let left = fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name());
            assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with('.')));
        }
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state");
        drop(StateDir::open(&path).unwrap());
        let chmod = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for mode in [0o777, 0o720, 0o1777] {
            chmod(&path, mode);
            let error = StateDir::open(&path).unwrap_err();
            assert!(matches!(error, StateError::Writable { .. }), "{mode:o}: {error}");
        }
        chmod(&path, 0o755);
        chmod(&path.join("machines"), 0o777);
        let error = StateDir::open(&path).unwrap_err().to_string();
        let machines = path.join("machines").display().to_string();
        assert!(
            error.starts_with(&format!("other users may write to {machines} (mode 0777)")),
            "{error}"
        );
        chmod(&path.join("machines"), 0o755);
        drop(StateDir::open(&path).unwrap());
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        if std::os::unix::fs::chown(scratch.path(), Some(12_345), None).is_err() {
            println!("skipped: only the superuser can give a directory away");
            return;
        }
        let error = StateDir::open(scratch.path()).unwrap_err().to_string();
        assert!(error.contains("belongs to user 12345"), "{error}");
    }

    #[test]
    fn a_damaged_site_key_is_not_replaced() {
        let (_scratch, state) = state();
        state.store(Kind::Site, SITE_KEY, b"+0112233445566778899aabbccddeeff").unwrap();
        assert!(matches!(site_key(&state), Err(StateError::SiteKey)));
    }

    #[test]
    fn two_servers_do_not_share_a_directory() {
        let (_scratch, state) = state();
        let claim = state.claim().unwrap();
        let refused = state.claim().unwrap_err().to_string();
        assert!(refused.starts_with(&format!("process {} already serves", process::id())));
        drop(claim);
        let _claim = state.claim().unwrap();
    }
}
