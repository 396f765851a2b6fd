//! Listing directories.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{self, AtFlags, SeekFrom, Stat};
use rustix::io::Errno;
use vfs::{
    Attr, Caller, DirEnd, Entry, EntryDetail, FileKind, FsError, Handle, Time, Wait, permission,
};

use super::judge::now;
use super::{HostTree, handle, unopened};
use crate::attr;
use crate::descriptors::Inode;
use crate::errno::cause;
use crate::sys::{self, Node};

impl HostTree {
    pub(super) fn list(
        &self,
        caller: &Caller,
        dir: &Handle,
        cookie: u64,
        detail: EntryDetail,
        each: &mut dyn FnMut(&Entry<'_>) -> ControlFlow<()>,
    ) -> Result<DirEnd, FsError> {
        let (node, attr) = self.node(dir, Wait::Yes)?;
        let judged = self.judged(caller, (dir, &node), &attr, Wait::Yes)?;
        permission::may_list(caller, &judged)?;
        let full = detail == EntryDetail::Full && permission::may_search(caller, &judged).is_ok();
        // The position belongs to the open description, so two listings must not share one.
        let fd = self.mount.open_dir(dir.kind(), dir.kernel()).map_err(unopened)?;
        if cookie > 0 {
            if cookie > i64::MAX as u64 {
                return Err(FsError::BadCookie);
            }
            fs::seek(&fd, SeekFrom::Start(cookie)).map_err(|errno| match errno {
                Errno::INVAL => FsError::BadCookie,
                other => cause(other),
            })?;
        }
        let mut staged = Vec::new();
        let listing = Listing { dir, node: &node, attr: &attr, began: now() };
        let eof = sys::list(&fd, |name, inode, cookie| {
            if sys::is_staged(name) {
                staged.push(name.to_owned());
            }
            let above_root = *dir == self.root && name == b"..";
            let fileid = if above_root { self.root_fileid } else { inode };
            let file = if full { self.listed(&listing, name, fileid) } else { None };
            each(&Entry { name, fileid, cookie, file })
        });
        self.clear(dir, &fd, &staged, SystemTime::now());
        Ok(DirEnd { eof: eof.map_err(cause)?, attr })
    }

    /// Removes what stands under names of [`sys::stage`]: a server that was killed left it. This tree holds
    /// the directory until what it makes has its own name; another export of the same files, which is at work
    /// there too, holds it by a lock of its own, so that what changed in the last [`WORK`] stays.
    /// A listing that finds it still shows it.
    ///
    /// A guest may take such a name for a file or for a directory with something in it; both stay.
    fn clear(&self, dir: &Handle, fd: &OwnedFd, staged: &[Vec<u8>], now: SystemTime) {
        if staged.is_empty() {
            return;
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let _held = self.stripes.lock(dir);
        for name in staged {
            let found = fs::statat(fd, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
            let Ok(found) = found.map(|stat| attr::from_stat(&stat, self.fsid)) else { continue };
            let changed = u64::try_from(found.ctime.seconds).unwrap_or(0);
            if now.as_secs().saturating_sub(changed) < WORK.as_secs() {
                continue;
            }
            let flags = match found.kind {
                FileKind::Regular => continue,
                FileKind::Directory => AtFlags::REMOVEDIR,
                FileKind::Symlink
                | FileKind::Fifo
                | FileKind::Character
                | FileKind::Block
                | FileKind::Socket => AtFlags::empty(),
            };
            // Where it cannot be removed, as from a snapshot, it does no harm.
            let _ = fs::unlinkat(fd, name.as_slice(), flags);
        }
    }

    /// What a listed name stands for, unless it vanished or lies beyond a border.
    ///
    /// The handle comes first, unless it may be known: who looks at the attributes after it sees whether it is
    /// of this inode.
    fn listed(&self, listing: &Listing<'_>, name: &[u8], fileid: u64) -> Option<(Handle, Attr)> {
        let Listing { dir, node, attr: dir_attr, began } = listing;
        match name {
            b"." => return Some((**dir, **dir_attr)),
            b".." => return self.parent(dir, node).ok(),
            _ => {}
        }
        let at = node.dir().ok()?;
        let look = || -> Option<(Stat, Attr)> {
            let stat = fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            (stat.st_dev == self.device).then(|| (stat, attr::from_stat(&stat, self.fsid)))
        };
        let handles = &self.options.descriptors.handles;
        let inode = Inode { fsid: self.fsid, device: self.device, number: fileid };
        if handles.has(&inode) {
            let (stat, attr) = look()?;
            if stat.st_ino == fileid
                && let Some(handle) = handles.of(&inode, attr.ctime)
            {
                return Some((handle, attr));
            }
        }
        let kernel = node.handle_at(name).ok()?;
        let (stat, attr) = look()?;
        if stat.st_ino == fileid {
            let handle = handle(self.fsid, &kernel).ok()?;
            handles.remember(inode, attr.ctime, handle, *began);
            return Some((handle, attr));
        }
        // Somebody put another file there while we looked: handle and attributes have to be of one.
        let found = self.mount.look(node.dir().ok()?, name).ok()?;
        Some((self.handle(&found).ok()?, self.attr(&found).ok()?))
    }
}

/// A listing of a directory that began at a time.
struct Listing<'a> {
    dir: &'a Handle,
    node: &'a Node,
    attr: &'a Attr,
    began: Time,
}

/// As long as a file may be on its way to its own name, and more.
const WORK: Duration = Duration::from_mins(1);

#[cfg(test)]
mod test {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use vfs::Tree as _;

    use super::*;
    use crate::Options;

    fn tree(dir: &Path) -> Option<HostTree> {
        let tree = HostTree::open(dir, Options::default());
        tree.map_err(|error| eprintln!("skipped: {error}")).ok()
    }

    /// The names in the root, as a client lists them.
    fn listed(tree: &HostTree) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut each = |entry: &Entry<'_>| {
            names.insert(String::from_utf8_lossy(entry.name).into_owned());
            ControlFlow::Continue(())
        };
        let root = tree.root();
        tree.readdir(&Caller::ROOT, &root, 0, EntryDetail::Name, &mut each).unwrap();
        names
    }

    fn staged(n: u32) -> String {
        format!(".netbe-{n:016x}")
    }

    #[test]
    fn what_a_killed_server_was_making_goes_after_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let Some(tree) = tree(dir.path()) else { return };
        let at = |n: u32| dir.path().join(staged(n));
        fs::create_dir(at(1)).unwrap();
        std::os::unix::fs::symlink("target", at(2)).unwrap();
        // Names that a guest took for its own.
        fs::create_dir_all(at(3).join("full")).unwrap();
        fs::write(at(4), "").unwrap();
        let names: Vec<_> = (1..=4).map(|n| staged(n).into_bytes()).collect();
        let root = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        let clear = |now| tree.clear(&tree.root(), &root, &names, now);
        clear(SystemTime::now() + Duration::from_secs(50));
        assert_eq!(listed(&tree).len(), 6, "it may be at work");
        clear(SystemTime::now() + Duration::from_secs(70));
        assert_eq!(listed(&tree), [".", "..", &staged(3), &staged(4)].map(str::to_owned).into());
        // A clock that was put back shows them as made in the future.
        fs::create_dir(at(1)).unwrap();
        clear(UNIX_EPOCH);
        assert!(at(1).exists());
    }

    #[test]
    #[cfg(target_os = "freebsd")]
    fn a_listing_leaves_what_another_export_is_making() {
        let dir = tempfile::tempdir().unwrap();
        let Some(tree) = tree(dir.path()) else { return };
        fs::create_dir(dir.path().join(staged(1))).unwrap();
        fs::create_dir(dir.path().join(".netbe-of-somebody")).unwrap();
        for _ in 0..2 {
            assert_eq!(listed(&tree).len(), 4);
        }
    }
}
