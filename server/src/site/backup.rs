//! The state in one file, and put back from it (`netbe backup`, `netbe restore`).
//!
//! The file is an archive that tar(1) reads. Its first entry lists the others, with the length and SHA-256
//! of each: what is cut off or damaged is refused as a whole, before anything is changed. What is put back
//! is first written beside the state and then takes its place; who is killed over that leaves the list
//! there, and [`finish`] goes on.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tar::{Archive, Builder, EntryType, Header};

use crate::site::machine::forget_renaming;

/// The state at one time.
#[derive(Debug, Default)]
pub struct Backup {
    /// Files by their paths in the state directory.
    files: BTreeMap<String, Vec<u8>>,
    /// The configuration.
    configuration: Option<Vec<u8>>,
}

impl Backup {
    /// Reads a state directory. The caller holds it (`StateDir::hold`), so that no command changes it; a
    /// server may run: it replaces each file as a whole, and of its journals a beginning is as good.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or all together are larger than a backup may be.
    pub fn read(state: &Path, configuration: Option<&Path>) -> Result<Self, BackupError> {
        let mut backup = Self::default();
        let mut total = 0;
        let mut take = |path: &Path| {
            let bytes = read(path)?;
            total += bytes.as_ref().map_or(0, Vec::len);
            if total > MAX { Err(BackupError::Large) } else { Ok(bytes) }
        };
        for name in FILES {
            if let Some(bytes) = take(&state.join(name))? {
                backup.files.insert((*name).to_owned(), bytes);
            }
        }
        for folder in FOLDERS {
            let path = state.join(folder);
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(BackupError::Io { path, error }),
            };
            for entry in entries {
                let entry = entry.map_err(|error| BackupError::Io { path: path.clone(), error })?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                if !is_plain(&name) {
                    continue;
                }
                // A boot that is over may have lost its record meanwhile.
                if let Some(bytes) = take(&entry.path())? {
                    backup.files.insert(format!("{folder}/{name}"), bytes);
                }
            }
        }
        if backup.files.is_empty() {
            return Err(BackupError::NoState(state.to_owned()));
        }
        if let Some(path) = configuration {
            backup.configuration = take(path)?;
        }
        Ok(backup)
    }

    /// The configuration that was kept, if one was.
    #[must_use]
    pub fn configuration(&self) -> Option<&[u8]> {
        self.configuration.as_deref()
    }

    /// Writes the archive.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let entries = || {
            let files = self.files.iter().map(|(name, bytes)| (format!("{STATE}{name}"), bytes));
            files.chain(self.configuration.iter().map(|bytes| (CONFIGURATION.to_owned(), bytes)))
        };
        let list = List {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            files: entries()
                .map(|(path, bytes)| Listed { path, size: bytes.len(), sha256: sum(bytes) })
                .collect(),
        };
        let mut archive = Builder::new(to);
        let mut text = serde_json::to_vec_pretty(&list)?;
        text.push(b'\n');
        let mut put = |path: &str, bytes: &[u8]| {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o600);
            header.set_size(bytes.len() as u64);
            header.set_mtime(list.at);
            archive.append_data(&mut header, path, bytes)
        };
        put(LIST, &text)?;
        for (path, bytes) in entries() {
            put(&path, bytes)?;
        }
        archive.into_inner()?.flush()
    }

    /// Reads an archive.
    ///
    /// # Errors
    ///
    /// It is not one, of a later release, damaged or not whole.
    pub fn parse(from: impl Read) -> Result<Self, BackupError> {
        let damaged = |error: io::Error| BackupError::Damaged(error.to_string());
        let lacking = |what: &str| BackupError::Damaged(format!("{what} is missing"));
        let mut archive = Archive::new(from.take(2 * MAX as u64));
        let mut entries = archive.entries().map_err(damaged)?;
        let mut next = |path: &str, size: usize| -> Result<Vec<u8>, BackupError> {
            let entry = entries.next().ok_or_else(|| lacking(path))?.map_err(damaged)?;
            if entry.path_bytes() != path.as_bytes() {
                return Err(lacking(path));
            }
            let mut bytes = Vec::new();
            entry.take(size as u64 + 1).read_to_end(&mut bytes).map_err(damaged)?;
            Ok(bytes)
        };
        let list = next(LIST, MAX).map_err(|_| BackupError::NoBackup)?;
        let about: Format = serde_json::from_slice(&list).map_err(|_| BackupError::NoBackup)?;
        if about.format > FORMAT {
            return Err(BackupError::Later(about.version));
        }
        let list: List = serde_json::from_slice(&list)
            .map_err(|error| BackupError::Damaged(error.to_string()))?;
        let mut backup = Self::default();
        let mut total = 0_usize;
        for Listed { path, size, sha256 } in list.files {
            total = total.saturating_add(size);
            if total > MAX {
                return Err(BackupError::Large);
            }
            let bytes = next(&path, size)?;
            if bytes.len() != size || sum(&bytes) != sha256 {
                return Err(BackupError::Damaged(format!("{path} is not what the list says")));
            }
            if path == CONFIGURATION {
                backup.configuration = Some(bytes);
            } else if let Some(name) = path.strip_prefix(STATE).filter(|name| belongs(name)) {
                backup.files.insert(name.to_owned(), bytes);
            } else {
                return Err(BackupError::Damaged(format!("{path:?} does not belong to a state")));
            }
        }
        Ok(backup)
    }

    /// Puts it in the place of what is in a state directory that nobody uses: the caller has claimed and
    /// holds it. The configuration goes to `configuration`, if that is given. All is there when this
    /// returns, or, after a kill, when [`finish`] does; until the list is beside the state, nothing of it
    /// has changed.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn put(&self, state: &Path, configuration: Option<&Path>) -> Result<(), BackupError> {
        let stage = state.join(STAGE);
        let at = |error| BackupError::Io { path: stage.clone(), error };
        let written = || {
            remove_all(&stage)?;
            let mut private = DirBuilder::new();
            private.mode(0o700).create(&stage)?;
            for folder in FOLDERS {
                private.create(stage.join(folder))?;
            }
            for (name, bytes) in &self.files {
                write_synced(&stage.join(name), bytes)?;
            }
            if let (Some(bytes), Some(path)) = (&self.configuration, configuration) {
                let path = std::path::absolute(path)?;
                write_synced(&stage.join(CONFIGURATION), bytes)?;
                write_synced(&stage.join(DESTINATION), path.as_os_str().as_bytes())?;
            }
            let names: Vec<&String> = self.files.keys().collect();
            write_synced(&stage.join(NAMES), &serde_json::to_vec(&names)?)?;
            for folder in FOLDERS {
                File::open(stage.join(folder))?.sync_all()?;
            }
            File::open(&stage)?.sync_all()?;
            fs::rename(&stage, state.join(COMPLETE))?;
            File::open(state)?.sync_all()
        };
        written().and_then(|()| finish(state)).map_err(at)
    }
}

/// Whether somebody who put a backup in the place of this state was killed over it.
#[must_use]
pub fn is_unfinished(state: &Path) -> bool {
    state.join(COMPLETE).exists()
}

/// Goes on with what [`Backup::put`] began, from wherever it was cut off. The caller holds the state.
///
/// # Errors
///
/// A file cannot be moved.
pub fn finish(state: &Path) -> io::Result<()> {
    let complete = state.join(COMPLETE);
    // The list goes last: without it everything else is where it belongs.
    if let Some(names) = absent(fs::read(complete.join(NAMES)))? {
        let names: Vec<String> = serde_json::from_slice(&names)?;
        // What was being renamed in the state that goes is nothing of the one that comes.
        forget_renaming(state)?;
        for name in FILES {
            if !names.iter().any(|kept| kept == name) {
                absent(fs::remove_file(state.join(name)))?;
            } else {
                absent(fs::rename(complete.join(name), state.join(name)))?;
            }
        }
        for folder in FOLDERS {
            if complete.join(folder).exists() {
                remove_all(&state.join(folder))?;
                fs::rename(complete.join(folder), state.join(folder))?;
            }
        }
        put_configuration(state, &complete)?;
        File::open(state)?.sync_all()?;
        fs::remove_file(complete.join(NAMES))?;
    }
    remove_all(&complete)?;
    File::open(state)?.sync_all()
}

/// Puts the configuration where it belongs. Whoever finishes this may not be allowed to write there, as a
/// service is: then it is kept in the state directory, and the state holds all the same.
fn put_configuration(state: &Path, complete: &Path) -> io::Result<()> {
    let Some(destination) = absent(fs::read(complete.join(DESTINATION)))? else { return Ok(()) };
    let Some(bytes) = absent(fs::read(complete.join(CONFIGURATION)))? else { return Ok(()) };
    let destination = Path::new(OsStr::from_bytes(&destination));
    if let Err(error) = write_whole(destination, |file| file.write_all(&bytes)) {
        let kept = state.join(CONFIGURATION_KEPT);
        write_whole(&kept, |file| file.write_all(&bytes))?;
        tracing::warn!(
            "{}: {error}: the configuration of the backup is in {}: copy it from there",
            destination.display(),
            kept.display()
        );
    }
    Ok(())
}

/// Whether a state directory has anything that a backup would replace.
///
/// # Errors
///
/// It cannot be read.
pub fn is_empty(state: &Path) -> io::Result<bool> {
    if FILES.iter().any(|name| state.join(name).exists()) {
        return Ok(false);
    }
    for folder in FOLDERS {
        let entries = absent(fs::read_dir(state.join(folder)))?;
        if entries.is_some_and(|mut entries| entries.next().is_some()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes a file that appears whole or not at all, and only for its owner.
///
/// # Errors
///
/// It cannot be written; then what was there stays.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    // A link stays, and so does a device: a file in its place would be everybody's loss.
    let path = &match absent(fs::canonicalize(path))? {
        Some(there) if fs::metadata(&there)?.is_file() => there,
        Some(_) => return Err(io::Error::other("it is not a file: name one")),
        None => path.to_owned(),
    };
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let new = folder.join(format!(".{name}.{}", std::process::id()));
    let written = || {
        absent(fs::remove_file(&new))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    };
    written().inspect_err(|_| {
        // The error that counts is the first.
        let _ = fs::remove_file(&new);
    })
}

/// The list of what is in an archive.
#[derive(Deserialize, Serialize)]
struct List {
    format: u32,
    version: String,
    /// When it was made, in seconds since 1970.
    at: u64,
    files: Vec<Listed>,
}

/// As much of the list as every release writes.
#[derive(Deserialize)]
struct Format {
    format: u32,
    version: String,
}

#[derive(Deserialize, Serialize)]
struct Listed {
    path: String,
    size: usize,
    sha256: String,
}

/// Why a state is not kept, or not put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The archive is not what it says.
    #[error("the backup is damaged or incomplete ({0}): nothing was changed; use another one")]
    Damaged(String),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is larger than a state ever is.
    #[error("it is larger than {} MiB, which no state is", MAX >> 20)]
    Large,
    /// A later release wrote it.
    #[error(
        "netbe {0} wrote this backup in a format that this version does not know: use netbe {0}"
    )]
    Later(String),
    /// It is something else.
    #[error("this is not a backup of `netbe backup`")]
    NoBackup,
    /// There is nothing to keep.
    #[error("{} is empty: nothing has used this state yet", .0.display())]
    NoState(PathBuf),
}

/// Whether a path is one that a state has.
fn belongs(path: &str) -> bool {
    let in_folder = path.split_once('/').is_some_and(|(folder, name)| {
        FOLDERS.contains(&folder) && is_plain(name) && !name.contains('/')
    });
    FILES.contains(&path) || in_folder
}

/// Whether it is the name of a record, and not of what a crash left.
fn is_plain(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.bytes().all(plain)
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a file, if it is there; a link that an administrator has put there is followed.
fn read(path: &Path) -> Result<Option<Vec<u8>>, BackupError> {
    let bytes = match absent(fs::metadata(path)) {
        Ok(Some(found)) if found.is_file() => absent(fs::read(path)),
        Ok(Some(_)) => Err(io::Error::other("it is not a file: put a file there, or remove it")),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    bytes.map_err(|error| BackupError::Io { path: path.to_owned(), error })
}

fn absent<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove_all(path: &Path) -> io::Result<()> {
    absent(fs::remove_dir_all(path)).map(drop)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// What is kept of a state directory: its own files. What is not here is made anew, belongs to a store, or
/// is a lock.
const FILES: &[&str] = &[
    KEY,
    "site.toml",
    "configured.toml",
    "history",
    "history.old",
    "events",
    "events.old",
    "hooks",
    "hooks.old",
];
/// And its folders of records.
const FOLDERS: &[&str] = &["boots", "gone", "leases", "machines"];
const KEY: &str = "site.key";

/// The form of the archive.
const FORMAT: u32 = 1;
const LIST: &str = "NETBE.backup";
const STATE: &str = "state/";
const CONFIGURATION: &str = "netbe.toml";

/// In the state directory: what is being written, and what is whole and takes the state's place.
const STAGE: &str = ".restoring";
const COMPLETE: &str = "restored";
const NAMES: &str = "names";
/// Where the configuration goes that lies beside this.
const DESTINATION: &str = "netbe.toml.place";
/// In the state directory: a configuration that could not be put there.
const CONFIGURATION_KEPT: &str = "netbe.toml.restored";

/// The most that a state may be: leases of 65,536 addresses are 5 MiB.
const MAX: usize = 512 << 20;

#[cfg(test)]
mod test {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::site::state::{Kind, State as _, StateDir, site_key};

    fn state(dir: &Path, machines: &[&str]) -> StateDir {
        let state = StateDir::open(dir).unwrap();
        site_key(&state).unwrap();
        for name in machines {
            state.store(Kind::Machine, name, name.as_bytes()).unwrap();
        }
        fs::write(state.leases().join("leases.journal"), "leased\n").unwrap();
        state
    }

    fn archive(backup: &Backup) -> Vec<u8> {
        let mut bytes = Vec::new();
        backup.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_state_comes_back_as_it_was_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let old = state(&dir.path().join("old"), &["web1", "web2"]);
        old.store(Kind::Boot, "web1", b"{}").unwrap();
        fs::write(old.path().join("machines/.web3.17.0"), "half").unwrap();
        let configuration = dir.path().join("netbe.toml");
        fs::write(&configuration, "mode = \"serve\"\n").unwrap();
        let backup = Backup::read(old.path(), Some(&configuration)).unwrap();
        let bytes = archive(&backup);

        let new = state(&dir.path().join("new"), &["other"]);
        assert!(!is_empty(new.path()).unwrap());
        fs::write(new.path().join("configured.toml"), "").unwrap();
        fs::create_dir_all(new.path().join("store/be/base")).unwrap();
        let backup = Backup::parse(&bytes[..]).unwrap();
        assert_eq!(backup.configuration(), Some(&b"mode = \"serve\"\n"[..]));
        let restored = dir.path().join("restored.toml");
        backup.put(new.path(), Some(&restored)).unwrap();
        assert_eq!(fs::read(&restored).unwrap(), b"mode = \"serve\"\n");
        assert_eq!(new.names(Kind::Machine).unwrap(), ["web1", "web2"]);
        assert_eq!(new.load_copy(Kind::Boot, "web1").unwrap().unwrap(), b"{}");
        assert_eq!(site_key(&new).unwrap(), site_key(&old).unwrap());
        assert_eq!(fs::read(new.leases().join("leases.journal")).unwrap(), b"leased\n");
        assert!(!new.path().join("configured.toml").exists());
        assert!(new.path().join("store/be/base").exists());
        assert!(!is_unfinished(new.path()) && !new.path().join(STAGE).exists());
        let mode = fs::metadata(new.path().join("site.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            archive(&Backup::read(new.path(), Some(&configuration)).unwrap()).len(),
            bytes.len()
        );
    }

    #[test]
    fn what_is_no_file_stays_and_a_link_too() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, file, link) =
            (dir.path().join("s"), dir.path().join("f"), dir.path().join("l"));
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        write_whole(&socket, |_| Ok(())).unwrap_err();
        assert!(!fs::metadata(&socket).unwrap().is_file());
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink("f", &link).unwrap();
        write_whole(&link, |to| to.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        // A configuration that is a link is kept; one that is no file is not passed over.
        let old = state(&dir.path().join("old"), &["web1"]);
        let kept = Backup::read(old.path(), Some(&link)).unwrap();
        assert_eq!(kept.configuration(), Some(&b"new"[..]));
        Backup::read(old.path(), Some(&socket)).unwrap_err();
        // Nor does what was being renamed come to its end in another state.
        fs::write(old.path().join("renaming.toml"), "").unwrap();
        fs::create_dir_all(old.path().join("journal")).unwrap();
        kept.put(old.path(), None).unwrap();
        assert!(!old.path().join("renaming.toml").exists() && !old.path().join("journal").exists());
    }

    #[test]
    fn a_backup_that_was_cut_off_or_changed_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let old = state(&dir.path().join("old"), &["web1"]);
        let bytes = archive(&Backup::read(old.path(), None).unwrap());
        // Behind the last file there are zeros, of which nothing is missed.
        let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
        for length in (0..end).step_by(97).chain([end]) {
            assert!(Backup::parse(&bytes[..length]).is_err(), "{length}");
        }
        let text = String::from_utf8_lossy(&bytes);
        for part in ["web1", "leased\n", "NETBE.backup", "sha256"] {
            for (at, _) in text.match_indices(part) {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                assert!(Backup::parse(&changed[..]).is_err(), "{part} at {at}");
            }
        }
        assert!(matches!(Backup::parse(&b"hello"[..]), Err(BackupError::NoBackup)));
    }

    #[test]
    fn a_list_leads_nowhere_out_of_the_state() {
        for path in ["../site.key", "machines/../x", "machines/a/b", "machines/.x", "/x", ""] {
            assert!(!belongs(path), "{path}");
        }
        let mut backup = Backup::default();
        backup.files.insert(KEY.to_owned(), b"key".to_vec());
        assert!(Backup::parse(&archive(&backup)[..]).is_ok());
        backup.files.insert("store/be".to_owned(), b"x".to_vec());
        let error = Backup::parse(&archive(&backup)[..]).unwrap_err().to_string();
        assert!(error.contains("\"state/store/be\" does not belong to a state"), "{error}");
    }

    #[test]
    fn who_is_killed_at_any_step_of_a_restoration_leaves_one_that_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let old = state(&dir.path().join("old"), &["web1", "web2"]);
        let written = dir.path().join("netbe.toml");
        fs::write(&written, "of the backup").unwrap();
        let backup = Backup::read(old.path(), Some(&written)).unwrap();
        // What is moved already, when it is killed.
        let steps = ["site.key", "boots", "gone", "leases", "machines", NAMES];
        for killed in 0..=steps.len() {
            let new = state(&dir.path().join(format!("new{killed}")), &["other"]);
            backup.put(new.path(), None).unwrap();
            // As it was when all was written, and nothing moved.
            let complete = new.path().join(COMPLETE);
            fs::create_dir(&complete).unwrap();
            let names: Vec<&String> = backup.files.keys().collect();
            fs::write(complete.join(NAMES), serde_json::to_vec(&names).unwrap()).unwrap();
            // Its configuration is written last, over one that is old.
            fs::write(&written, "old").unwrap();
            fs::write(complete.join(DESTINATION), written.as_os_str().as_bytes()).unwrap();
            fs::write(complete.join(CONFIGURATION), "of the backup").unwrap();
            for step in steps[..steps.len() - 1].iter().skip(killed) {
                fs::rename(new.path().join(step), complete.join(step)).unwrap();
            }
            if killed == steps.len() {
                fs::remove_file(complete.join(NAMES)).unwrap();
            } else {
                // The next folder is what it was before.
                fs::create_dir_all(new.path().join("machines")).unwrap();
                if killed < 5 {
                    fs::write(new.path().join("machines/other.toml"), "other").unwrap();
                }
            }
            assert!(is_unfinished(new.path()));
            // Whoever opens the state next goes on.
            let again = StateDir::open(new.path()).unwrap();
            assert_eq!(again.names(Kind::Machine).unwrap(), ["web1", "web2"], "{killed}");
            assert_eq!(site_key(&again).unwrap(), site_key(&old).unwrap());
            assert!(!is_unfinished(new.path()));
            let is_written = fs::read(&written).unwrap() == b"of the backup";
            assert_eq!(is_written, killed < steps.len(), "{killed}");
        }
    }

    #[test]
    fn a_configuration_that_cannot_be_put_back_is_kept_and_the_state_holds() {
        let dir = tempfile::tempdir().unwrap();
        let old = state(&dir.path().join("old"), &["web1"]);
        let configuration = dir.path().join("netbe.toml");
        fs::write(&configuration, "mode = \"serve\"\n").unwrap();
        let backup = Backup::read(old.path(), Some(&configuration)).unwrap();
        let new = state(&dir.path().join("new"), &[]);
        backup.put(new.path(), Some(&dir.path().join("nowhere/netbe.toml"))).unwrap();
        assert_eq!(new.names(Kind::Machine).unwrap(), ["web1"]);
        let kept = fs::read(new.path().join(CONFIGURATION_KEPT)).unwrap();
        assert_eq!(kept, b"mode = \"serve\"\n");
        assert!(!is_unfinished(new.path()));
    }
}
