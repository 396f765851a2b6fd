//! What was downloaded or built before, kept outside the checkout by content or version.
//!
//! An entry is a directory that appears complete or not at all: it is made under another name and
//! renamed. Of several who want one that is not there, one makes it, and the others wait.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use sha2::{Digest as _, Sha256};

use crate::failure::{During, Failure};
use crate::lock::Lock;

/// The directory of all entries.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Opens the cache: `NETBE_LAB_CACHE`, or else `netbe-lab` in the user's cache directory.
    pub(crate) fn open() -> Result<Self, Failure> {
        let directory = env::var_os("NETBE_LAB_CACHE")
            .map(PathBuf::from)
            .or_else(|| env::var_os("XDG_CACHE_HOME").map(|home| Path::new(&home).join(NAME)))
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache").join(NAME)))
            .ok_or_else(|| Failure::said("set NETBE_LAB_CACHE to a directory for downloads"))?;
        Self::at(&directory)
    }

    /// The cache in this directory, which is made if need be.
    pub(crate) fn at(directory: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(directory).during(directory.display())?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The directory of all entries.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The entry of this name; `make` fills it when it is not there yet.
    pub(crate) fn entry(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<PathBuf, Failure> {
        let entry = self.directory.join(name);
        if entry.is_dir() {
            return Ok(entry);
        }
        let _lock = self.lock(name)?;
        if entry.is_dir() {
            return Ok(entry);
        }
        let unfinished = self.directory.join(format!("{name}{UNFINISHED}{}", process::id()));
        drop(fs::remove_dir_all(&unfinished));
        fs::create_dir(&unfinished).during(unfinished.display())?;
        let made = make(&unfinished)
            .and_then(|()| fs::rename(&unfinished, &entry).during(entry.display()));
        drop(fs::remove_dir_all(&unfinished));
        made.map(|()| entry)
    }

    /// Keeps every other process from what is done under this name.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock, Failure> {
        let locks = self.directory.join(LOCKS);
        fs::create_dir_all(&locks).during(locks.display())?;
        Lock::take(&locks.join(name))
    }

    /// The entry whose name begins like this; the last by name when there are several.
    pub(crate) fn find(&self, prefix: &str) -> Option<PathBuf> {
        let entries = fs::read_dir(&self.directory).ok()?.filter_map(Result::ok);
        let complete = entries.filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with(prefix) && !name.contains(UNFINISHED)
        });
        complete.map(|entry| entry.path()).max()
    }

    /// A short name for exactly this content, the same with every compiler.
    pub(crate) fn key(&self, contents: &[&[u8]]) -> String {
        let mut hasher = Sha256::new();
        for content in contents {
            hasher.update(content.len().to_be_bytes());
            hasher.update(content);
        }
        hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

const NAME: &str = "netbe-lab";
/// What the name of an entry has in it while it is made.
const UNFINISHED: &str = ".unfinished.";
/// The directory of the locks; no entry has this name.
const LOCKS: &str = ".locks";

#[cfg(test)]
mod test {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_entry_that_could_not_be_made_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path()).unwrap();
        let failure = cache.entry("half", |entry| {
            fs::write(entry.join("part"), "x").unwrap();
            Err(Failure::said("broken"))
        });
        assert_eq!(failure.unwrap_err().to_string(), "broken");
        let left = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), [LOCKS]);
    }

    #[test]
    fn of_two_who_want_an_entry_at_once_one_makes_it() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path()).unwrap();
        let made = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let entry = cache.entry("e", |entry| {
                        thread::sleep(Duration::from_millis(100));
                        made.fetch_add(1, Ordering::Relaxed);
                        fs::write(entry.join("x"), "1").during("x")
                    });
                    assert_eq!(fs::read(entry.unwrap().join("x")).unwrap(), b"1");
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn a_key_is_told_by_content_alone() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path()).unwrap();
        // As sha256sum(1) tells it of the two lengths and contents.
        assert_eq!(cache.key(&[b"a", b"bc"]), "3fafa1cf2f19a7c1");
        assert_ne!(cache.key(&[b"ab", b"c"]), cache.key(&[b"a", b"bc"]));
    }

    #[test]
    fn an_entry_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path()).unwrap();
        cache.entry("e", |entry| fs::write(entry.join("x"), "1").during("x")).unwrap();
        let entry = cache.entry("e", |_| Err(Failure::said("made twice"))).unwrap();
        assert_eq!(fs::read(entry.join("x")).unwrap(), b"1");
    }
}
