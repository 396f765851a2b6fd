//! Whether a loader of FreeBSD was built without NFS, as can be read in its file.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;

use super::Files;

/// What was found in loaders, by the identity of their files.
#[derive(Debug, Default)]
pub(crate) struct WithoutNfs {
    known: HashMap<Identity, bool>,
}

/// A file as it was when it was read: a change of its bytes changes the time in it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Identity {
    device: u64,
    inode: u64,
    len: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(about: &Metadata) -> Self {
        let changed = (about.ctime(), about.ctime_nsec());
        Self { device: about.dev(), inode: about.ino(), len: about.len(), changed }
    }
}

impl WithoutNfs {
    /// Whether the loader can boot from the network, but not by NFS.
    ///
    /// One that can writes the handle of its root into a variable, whose name stands in its file. A
    /// file without either name says nothing: it may be packed.
    pub(super) fn is(&mut self, files: &dyn Files, path: &str) -> bool {
        let Ok(file) = files.open(path) else { return false };
        let Ok(about) = file.metadata() else { return false };
        let identity = Identity::of(&about);
        if let Some(lacks) = self.known.get(&identity) {
            return *lacks;
        }
        let mut bytes = Vec::new();
        let read = file.take(MAX_LOADER).read_to_end(&mut bytes);
        let is_whole = read.is_ok() && about.len() < MAX_LOADER;
        let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
        let lacks_nfs = is_whole && has(b"boot.netif.ip") && !has(b"boot.nfsroot.nfshandle");
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(identity, lacks_nfs);
        lacks_nfs
    }
}

/// FreeBSD's loaders have less than a tenth of it.
const MAX_LOADER: u64 = 8 << 20;

/// Files that are remembered: three for each of some hundred environments.
const MAX_KNOWN: usize = 1024;

#[cfg(test)]
mod test {
    use std::fs;

    use hostfs::Inside;

    use super::*;

    #[test]
    fn a_loader_with_tftp_alone_is_told_from_others() {
        let root = tempfile::tempdir().unwrap();
        let inside = Inside::enter(root.path()).unwrap();
        let mut known = WithoutNfs::default();
        let mut lacks_nfs = |text: &str| {
            fs::write(root.path().join("new"), text).unwrap();
            fs::rename(root.path().join("new"), root.path().join("pxeboot")).unwrap();
            known.is(&inside, "/pxeboot")
        };
        assert!(lacks_nfs("\0boot.netif.ip\0boot.tftproot.server\0"));
        assert!(!lacks_nfs("\0boot.netif.ip\0boot.nfsroot.nfshandle\0boot.nfsroot.nfshandlelen\0"));
        assert!(!lacks_nfs("packed"));
        assert!(!lacks_nfs(""));
        fs::remove_file(root.path().join("pxeboot")).unwrap();
        assert!(!known.is(&inside, "/pxeboot"));
    }

    #[test]
    fn a_file_is_read_once() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("pxeboot"), "boot.netif.ip").unwrap();
        let inside = Inside::enter(root.path()).unwrap();
        let mut known = WithoutNfs::default();
        assert!(known.is(&inside, "/pxeboot"));
        for found in known.known.values_mut() {
            *found = false;
        }
        assert!(!known.is(&inside, "/pxeboot"), "it was read again");
    }
}
