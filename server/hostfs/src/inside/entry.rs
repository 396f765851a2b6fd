//! What lies at a path itself, links not followed; and how it is put into another root the same.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::Ordering;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{DRAFTS, Inside, InsideError, failed};
use crate::{Flags, attr, sys};

/// What lies at a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// The permission bits, with setuid, setgid and sticky: `0o7777`.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// What else keeps it as it is, if it is a file or a directory.
    pub flags: Flags,
}

/// The kinds of files that configuration consists of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link and what it says.
    Link(PathBuf),
    /// A device, a FIFO or a socket.
    Other,
}

impl Inside {
    /// What lies at a path; `None` if there is nothing, or no way to it.
    pub fn entry(&self, path: impl AsRef<Path>) -> Result<Option<Entry>, InsideError> {
        let path = path.as_ref();
        let is_root = |part| matches!(part, Component::RootDir | Component::CurDir);
        let place = match path.components().all(is_root) {
            true => self.find(path).map(|root| (root, OsStr::new("."))),
            false => self.place(path),
        };
        let (dir, name) = match place {
            Ok(found) => found,
            Err(InsideError::Missing(_) | InsideError::NotDirectory(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = match fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(path, errno)),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => EntryKind::Directory,
            FileType::RegularFile => EntryKind::File,
            FileType::Symlink => {
                let said = fs::readlinkat(&dir, name, Vec::new());
                let said = said.map_err(|errno| failed(path, errno))?;
                EntryKind::Link(OsStr::from_bytes(said.to_bytes()).into())
            }
            FileType::BlockDevice
            | FileType::CharacterDevice
            | FileType::Fifo
            | FileType::Socket
            | FileType::Unknown => EntryKind::Other,
        };
        let flags = match kind {
            EntryKind::Directory | EntryKind::File => match sys::flags(dir.as_fd(), name) {
                // It was removed meanwhile.
                Err(Errno::NOENT) => return Ok(None),
                flags => flags.map_err(|errno| failed(path, errno))?,
            },
            EntryKind::Link(_) | EntryKind::Other => Flags::default(),
        };
        let mode = attr::permissions(stat.st_mode);
        Ok(Some(Entry { kind, mode, uid: stat.st_uid, gid: stat.st_gid, flags }))
    }

    /// Opens a directory for reading; no link on the way to it is followed. `None` if there is none.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> Result<Option<OwnedFd>, InsideError> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut last = None;
        for name in path.components() {
            let Component::Normal(name) = name else { continue };
            let above = last.as_ref().unwrap_or(&self.root);
            match fs::openat(above, name, flags, Mode::empty()) {
                Ok(dir) => last = Some(dir),
                // A link that is not to be followed is ELOOP on Linux and EMLINK on FreeBSD.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => return Ok(None),
                Err(errno) => return Err(failed(path, errno)),
            }
        }
        Ok(last)
    }

    /// Puts a file at `path`, as [`Inside::write_atomic`] does, with the owner, group and mode of an
    /// entry.
    pub fn put_file(
        &self,
        path: impl AsRef<Path>,
        bytes: &[u8],
        as_of: &Entry,
    ) -> Result<(), InsideError> {
        self.write(path.as_ref(), bytes, as_of.mode, Some((as_of.uid, as_of.gid)))
    }

    /// Gives what lies at `path`, a directory with all that is in it, another name. A file there gives
    /// way, and an empty directory to a directory.
    pub fn rename(&self, path: impl AsRef<Path>, new: impl AsRef<Path>) -> Result<(), InsideError> {
        let (path, new) = (path.as_ref(), new.as_ref());
        let (from, name) = self.place(path)?;
        let (to, other) = self.place(new)?;
        fs::renameat(&from, name, &to, other).map_err(|errno| failed(path, errno))
    }

    /// Removes a directory that is empty.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> Result<(), InsideError> {
        let path = path.as_ref();
        let (dir, name) = self.place(path)?;
        fs::unlinkat(&dir, name, AtFlags::REMOVEDIR).map_err(|errno| failed(path, errno))
    }

    /// Puts a link that says `target` at `path`, all at once, in the place of what file is there.
    pub fn put_link(&self, path: impl AsRef<Path>, target: &Path) -> Result<(), InsideError> {
        let path = path.as_ref();
        let (dir, name) = self.place(path)?;
        loop {
            let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
            let draft = format!(".netbe-{}-{number}", std::process::id());
            match fs::symlinkat(target, &dir, draft.as_str()) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(failed(path, errno)),
            }
            return fs::renameat(&dir, draft.as_str(), &dir, name).map_err(|errno| {
                // The first error is the one to tell.
                let _ = fs::unlinkat(&dir, draft.as_str(), AtFlags::empty());
                failed(path, errno)
            });
        }
    }
}

#[cfg(test)]
mod test {
    use std::os::unix::fs::symlink;

    use super::*;

    fn scratch() -> (tempfile::TempDir, Inside) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/shadow"), "of the guest").unwrap();
        let inside = Inside::enter(dir.path()).unwrap();
        (dir, inside)
    }

    #[test]
    fn an_entry_is_the_link_and_not_what_it_leads_to() {
        let (dir, inside) = scratch();
        symlink("/etc/shadow", dir.path().join("etc/link")).unwrap();
        let link = inside.entry("etc/link").unwrap().unwrap();
        assert_eq!(link.kind, EntryKind::Link("/etc/shadow".into()));
        assert_eq!(inside.entry("etc/shadow").unwrap().unwrap().kind, EntryKind::File);
        for directory in ["/etc", "/", ""] {
            assert_eq!(inside.entry(directory).unwrap().unwrap().kind, EntryKind::Directory);
        }
        for path in ["etc/none", "none/none", "etc/shadow/none"] {
            assert_eq!(inside.entry(path).unwrap(), None, "{path}");
        }
    }

    #[test]
    fn a_directory_is_opened_only_if_no_link_leads_to_it() {
        let (dir, inside) = scratch();
        std::fs::create_dir(dir.path().join("etc/ssh")).unwrap();
        symlink("etc", dir.path().join("conf")).unwrap();
        assert!(inside.open_dir("etc/ssh").unwrap().is_some());
        for path in ["conf/ssh", "conf", "etc/shadow", "etc/none"] {
            assert!(inside.open_dir(path).unwrap().is_none(), "{path}");
        }
    }

    #[test]
    fn a_directory_is_renamed_with_what_is_in_it_and_removed_only_when_empty() {
        let (dir, inside) = scratch();
        inside.rename("etc", "/conf").unwrap();
        assert!(inside.exists("conf/shadow").unwrap() && !inside.exists("etc").unwrap());
        assert!(inside.remove_dir("conf").is_err());
        inside.remove("conf/shadow").unwrap();
        inside.remove_dir("conf").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_and_a_link_are_put_in_the_place_of_what_is_there() {
        let (dir, inside) = scratch();
        let as_of = Entry { mode: 0o640, ..inside.entry("etc/shadow").unwrap().unwrap() };
        inside.put_link("etc/shadow", Path::new("/nowhere")).unwrap();
        inside.put_link("etc/shadow", Path::new("elsewhere")).unwrap();
        let kind = inside.entry("etc/shadow").unwrap().unwrap().kind;
        assert_eq!(kind, EntryKind::Link("elsewhere".into()));
        inside.put_file("etc/shadow", b"new", &as_of).unwrap();
        assert_eq!(inside.entry("etc/shadow").unwrap(), Some(as_of));
        assert_eq!(std::fs::read_dir(dir.path().join("etc")).unwrap().count(), 1);
    }
}
