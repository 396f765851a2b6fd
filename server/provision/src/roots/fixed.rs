//! File flags that keep a root from being worked on: immutable, append-only, not to be removed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hostfs::{Entry, EntryKind, Flags, Inside, InsideError};

/// Files and directories of a root whose flags are away while it is worked on.
#[derive(Debug)]
pub(super) struct Lifted<'a> {
    inside: &'a Inside,
    flags: BTreeMap<PathBuf, Flags>,
    /// Files with several names: one that is put in the place of a name leaves the file at the others.
    linked: Vec<(PathBuf, File, Flags)>,
}

impl<'a> Lifted<'a> {
    pub(super) const fn new(inside: &'a Inside) -> Self {
        Self { inside, flags: BTreeMap::new(), linked: Vec::new() }
    }

    /// Lets a name be made, or a file be changed or removed.
    pub(super) fn lift(&mut self, path: &Path) -> Result<(), InsideError> {
        let named = path.ancestors().filter(|path| path.file_name().is_some());
        named.chain([Path::new("/")]).try_for_each(|path| self.lift_one(path))
    }

    /// The same, and all that is below the name.
    pub(super) fn lift_tree(&mut self, path: &Path) -> Result<(), InsideError> {
        self.lift(path)?;
        self.lift_below(path)
    }

    fn lift_below(&mut self, path: &Path) -> Result<(), InsideError> {
        if !self.inside.entry(path)?.is_some_and(|entry| entry.kind == EntryKind::Directory) {
            return Ok(());
        }
        for name in self.inside.read_dir(path, super::MAX_NAMES)? {
            let path = path.join(name);
            self.lift_one(&path)?;
            self.lift_below(&path)?;
        }
        Ok(())
    }

    fn lift_one(&mut self, path: &Path) -> Result<(), InsideError> {
        let Some(Entry { kind, flags, .. }) = self.inside.entry(path)? else { return Ok(()) };
        if flags.any(Flags::FIXED) {
            if kind == EntryKind::File {
                let file = self.inside.open(path)?;
                if names(&file, path)? > 1 {
                    self.linked.push((path.to_owned(), file, flags));
                }
            }
            // What may not be taken away is told by what then cannot be changed.
            self.inside.put_flags(path, flags.without(Flags::FIXED))?;
            self.flags.entry(path.to_owned()).or_insert(flags);
        }
        Ok(())
    }

    /// Says which flags a file or directory has in the end, instead of those that it had.
    pub(super) fn decide(&mut self, path: &Path, flags: Flags) {
        self.flags.insert(path.to_owned(), flags);
    }

    /// Gives what is still there its flags.
    pub(super) fn put_back(self) -> Result<(), InsideError> {
        for (path, file, flags) in self.linked {
            if names(&file, &path)? > 0 {
                tell(&path, self.inside.put_flags_of(&file, &path, flags)?);
            }
        }
        // What is in a directory before the directory, in which nothing can be changed then.
        for (path, flags) in self.flags.into_iter().rev() {
            let Some(Entry { kind, flags: now, .. }) = self.inside.entry(&path)? else { continue };
            if matches!(kind, EntryKind::File | EntryKind::Directory) && now != flags {
                tell(&path, self.inside.put_flags(&path, flags)?);
            }
        }
        Ok(())
    }
}

/// How many names a file has.
fn names(file: &File, path: &Path) -> Result<u64, InsideError> {
    let about = file.metadata();
    let about = about.map_err(|source| InsideError::Io { path: path.to_owned(), source })?;
    Ok(about.nlink())
}

fn tell(path: &Path, lost: Flags) {
    if !lost.is_empty() {
        tracing::warn!("{} does not get its flags {lost}", path.display());
    }
}
