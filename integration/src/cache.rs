//! What was downloaded or built before, kept outside the checkout by content or version.
//!
//! An entry is a directory that appears complete or not at all: it is made under another name and
//! renamed.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process;

use crate::failure::{During, Failure};

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
        fs::create_dir_all(&directory).during(directory.display())?;
        Ok(Self { directory })
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
        let unfinished = self.directory.join(format!("{name}{UNFINISHED}{}", process::id()));
        drop(fs::remove_dir_all(&unfinished));
        fs::create_dir(&unfinished).during(unfinished.display())?;
        let made = make(&unfinished).and_then(|()| {
            // Another lab may have been faster: then its entry is as good.
            let renamed = fs::rename(&unfinished, &entry);
            if entry.is_dir() { Ok(()) } else { renamed.during(entry.display()) }
        });
        drop(fs::remove_dir_all(&unfinished));
        made.map(|()| entry)
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

    /// A short name for exactly this content.
    pub(crate) fn key(&self, contents: &[&[u8]]) -> String {
        let mut hasher = DefaultHasher::new();
        contents.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

const NAME: &str = "netbe-lab";
/// What the name of an entry has in it while it is made.
const UNFINISHED: &str = ".unfinished.";

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn an_entry_that_could_not_be_made_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache { directory: directory.path().to_owned() };
        let failure = cache.entry("half", |entry| {
            fs::write(entry.join("part"), "x").unwrap();
            Err(Failure::said("broken"))
        });
        assert_eq!(failure.unwrap_err().to_string(), "broken");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_entry_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache { directory: directory.path().to_owned() };
        cache.entry("e", |entry| fs::write(entry.join("x"), "1").during("x")).unwrap();
        let entry = cache.entry("e", |_| Err(Failure::said("made twice"))).unwrap();
        assert_eq!(fs::read(entry.join("x")).unwrap(), b"1");
    }
}
