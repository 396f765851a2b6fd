//! Listing directories.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, FileType, SeekFrom};
use rustix::io::Errno;
use vfs::{Attr, Caller, DirEnd, Entry, EntryDetail, FsError, Handle, Wait, permission};

use super::{HostTree, handle, unopened};
use crate::attr;
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
        permission::may_list(caller, &attr)?;
        let full = detail == EntryDetail::Full && permission::may_search(caller, &attr).is_ok();
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
        let eof = sys::list(&fd, |name, inode, cookie| {
            if sys::is_staged(name) {
                staged.push(name.to_owned());
            }
            let above_root = *dir == self.root && name == b"..";
            let fileid = if above_root { self.root_fileid } else { inode };
            let file = if full { self.listed(dir, &node, &attr, name, fileid) } else { None };
            each(&Entry { name, fileid, cookie, file })
        });
        self.clear(dir, &fd, &staged);
        Ok(DirEnd { eof: eof.map_err(cause)?, attr })
    }

    /// Removes what stands under names of [`sys::stage`]: a server that was killed left it, as this one
    /// holds the directory until what it makes has its own name. A listing that finds it still shows it.
    ///
    /// A guest may take such a name for a file or for a directory with something in it; both stay.
    fn clear(&self, dir: &Handle, fd: &OwnedFd, staged: &[Vec<u8>]) {
        if staged.is_empty() {
            return;
        }
        let _held = self.stripes.lock(dir);
        for name in staged {
            let found = fs::statat(fd, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
            let flags = match found.map(|found| FileType::from_raw_mode(found.st_mode)) {
                Ok(FileType::RegularFile) | Err(_) => continue,
                Ok(FileType::Directory) => AtFlags::REMOVEDIR,
                Ok(_) => AtFlags::empty(),
            };
            // Where it cannot be removed, as from a snapshot, it does no harm.
            let _ = fs::unlinkat(fd, name.as_slice(), flags);
        }
    }

    /// What a listed name stands for, unless it vanished or lies beyond a border.
    fn listed(
        &self,
        dir: &Handle,
        node: &Node,
        dir_attr: &Attr,
        name: &[u8],
        fileid: u64,
    ) -> Option<(Handle, Attr)> {
        match name {
            b"." => return Some((*dir, *dir_attr)),
            b".." => return self.parent(dir, node).ok(),
            _ => {}
        }
        let kernel = node.handle_at(name).ok()?;
        let stat = fs::statat(node.dir().ok()?, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if stat.st_dev != self.device {
            return None;
        }
        if stat.st_ino == fileid {
            let handle = handle(self.fsid, &kernel).ok()?;
            return Some((handle, attr::from_stat(&stat, self.fsid)));
        }
        // Somebody put another file there while we looked: handle and attributes have to be of one.
        let found = self.mount.look(node.dir().ok()?, name).ok()?;
        Some((self.handle(&found).ok()?, self.attr(&found).ok()?))
    }
}

#[cfg(all(test, target_os = "freebsd"))]
mod test {
    use std::collections::BTreeSet;
    use std::fs;

    use vfs::Tree as _;

    use super::*;
    use crate::Options;

    #[test]
    fn what_a_killed_server_was_making_goes_when_its_directory_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = match HostTree::open(dir.path(), Options::default()) {
            Ok(tree) => tree,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        let names = || {
            let mut names = BTreeSet::new();
            let mut each = |entry: &Entry<'_>| {
                names.insert(String::from_utf8_lossy(entry.name).into_owned());
                ControlFlow::Continue(())
            };
            let root = tree.root();
            tree.readdir(&Caller::ROOT, &root, 0, EntryDetail::Name, &mut each).unwrap();
            names
        };
        let staged = |n: u32| dir.path().join(format!(".netbe-{n:016x}"));
        fs::create_dir(staged(1)).unwrap();
        std::os::unix::fs::symlink("target", staged(2)).unwrap();
        // Names that a guest took for its own.
        fs::create_dir_all(staged(3).join("full")).unwrap();
        fs::write(staged(4), "").unwrap();
        fs::create_dir(dir.path().join(".netbe-of-somebody")).unwrap();
        assert_eq!(names().len(), 7, "what is found is shown once more");
        let left = [".", "..", ".netbe-0000000000000003", ".netbe-0000000000000004"];
        let left = left.into_iter().chain([".netbe-of-somebody"]);
        assert_eq!(names(), left.map(str::to_owned).collect());
    }
}
