//! Access control lists of the host: who may do what is what the kernel says of a process with that user and
//! group. It needs root and a file system that has lists; without them this test says so.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use hostfs::{HostTree, Options};
use rustix::fs::{XattrFlags, setxattr};
use vfs::{Access, Caller, Create, FsError, Handle, Name, SetAttr, Stability, Tree, Wait};

/// A list: what the owner, named users, the group, named groups, all of these but the owner, and others
/// are granted.
struct List {
    owner: u16,
    users: &'static [(u32, u16)],
    group: u16,
    groups: &'static [(u32, u16)],
    mask: u16,
    other: u16,
}

const LISTS: [List; 6] = [
    List { owner: 6, users: &[(1002, 6)], group: 0, groups: &[], mask: 6, other: 0 },
    List { owner: 7, users: &[(1002, 7)], group: 7, groups: &[(300, 5)], mask: 5, other: 7 },
    List { owner: 0, users: &[(1002, 0)], group: 4, groups: &[(300, 0)], mask: 7, other: 7 },
    List { owner: 7, users: &[], group: 1, groups: &[(300, 2), (301, 3)], mask: 7, other: 0 },
    List { owner: 7, users: &[(1002, 7)], group: 7, groups: &[(300, 7)], mask: 0, other: 5 },
    List { owner: 4, users: &[(1003, 4)], group: 6, groups: &[], mask: 4, other: 6 },
];

const CALLERS: [(u32, u32); 7] =
    [(1001, 9), (1002, 9), (1002, 100), (1003, 100), (1004, 300), (1005, 301), (1006, 9)];

impl List {
    /// As `linux/posix_acl_xattr.h` has it, sorted as the kernel wants it.
    fn to_bytes(&self) -> Vec<u8> {
        const NONE: u32 = u32::MAX;
        let mut entries = vec![(1, self.owner, NONE)];
        entries.extend(self.users.iter().map(|(id, bits)| (2, *bits, *id)));
        entries.push((4, self.group, NONE));
        entries.extend(self.groups.iter().map(|(id, bits)| (8, *bits, *id)));
        entries.extend([(0x10, self.mask, NONE), (0x20, self.other, NONE)]);
        let bytes = entries.into_iter().flat_map(|(tag, bits, id): (u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
        });
        2_u32.to_le_bytes().into_iter().chain(bytes).collect()
    }

    fn set(&self, path: &Path) -> bool {
        let set = setxattr(path, "system.posix_acl_access", &self.to_bytes(), XattrFlags::empty());
        set.inspect_err(|error| eprintln!("skipped: {error}")).is_ok()
    }
}

/// Whether the kernel lets a process read, write and run a file, or list, change and search a directory.
fn by_kernel((uid, gid): (u32, u32), path: &Path) -> [bool; 3] {
    ["-r", "-w", "-x"].map(|what| {
        let mut test = Command::new("test");
        test.arg(what).arg(path).uid(uid).gid(gid).status().unwrap().success()
    })
}

fn rights(tree: &HostTree, caller: &Caller, file: &Handle) -> Access {
    let all = Access(0x3f);
    let told = tree.access(caller, file, all, Wait::Yes).unwrap().0;
    // What is told without waiting is the same.
    assert_eq!(tree.access(caller, file, all, Wait::No).map(|told| told.0), Ok(told));
    told
}

#[test]
fn who_may_do_what_is_what_the_kernel_says() {
    let dir = tempfile::tempdir().unwrap();
    let Ok(tree) = HostTree::open(dir.path(), Options::default()) else {
        return eprintln!("skipped: opening files by handle needs root");
    };
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    for (number, list) in LISTS.iter().enumerate() {
        let [file, below] = ["file", "dir"].map(|kind| dir.path().join(format!("{kind}{number}")));
        fs::write(&file, "data").unwrap();
        fs::create_dir(&below).unwrap();
        for path in [&file, &below] {
            chown(path, Some(1001), Some(100)).unwrap();
            if !list.set(path) {
                return;
            }
        }
        let handle = |path: &Path| {
            let text = path.file_name().unwrap().as_encoded_bytes();
            let name = Name::new(text).unwrap();
            tree.lookup(&Caller::ROOT, &tree.root(), name, Wait::Yes).unwrap().handle
        };
        let (file_handle, dir_handle) = (handle(&file), handle(&below));
        for (uid, gid) in CALLERS {
            let caller = Caller::new(uid, gid);
            let what = format!("list {number}, user {uid}, group {gid}");
            let has = rights(&tree, &caller, &file_handle);
            let told = [Access::READ, Access::MODIFY, Access::EXECUTE].map(|one| has.contains(one));
            let kernel = by_kernel((uid, gid), &file);
            assert_eq!(told, kernel, "{what}: file");
            // NFS lets the owner go on, and who may run a file read it (RFC 1813 §4.4).
            let (is_owner, runs) = (uid == 1001, kernel[2]);
            let mut bytes = [0; 4];
            let read = tree.read(&caller, &file_handle, 0, &mut bytes, Wait::Yes);
            assert_eq!(read.is_ok(), kernel[0] || runs || is_owner, "{what}: READ");
            let written = tree.write(&caller, &file_handle, 0, b"d", Stability::Unstable);
            assert_eq!(written.is_ok(), kernel[1] || is_owner, "{what}: WRITE");
            let has = rights(&tree, &caller, &dir_handle);
            let kernel = by_kernel((uid, gid), &below);
            let told = [Access::READ, Access::MODIFY, Access::LOOKUP].map(|one| has.contains(one));
            // To change names one has to search, too.
            let expected = [kernel[0], kernel[1] && kernel[2], kernel[2]];
            assert_eq!(told, expected, "{what}: directory");
            let (new, kept) = (Name::new(b"new").unwrap(), Name::new(b"kept").unwrap());
            let how = Create::Guarded(SetAttr::default());
            let made = tree.create(&caller, &dir_handle, new, &how);
            assert_eq!(made.is_ok(), expected[1], "{what}: CREATE");
            tree.create(&Caller::ROOT, &dir_handle, kept, &how).unwrap();
            let removed = tree.remove(&caller, &dir_handle, kept).map(drop);
            let expected = if expected[1] { Ok(()) } else { Err(FsError::Access) };
            assert_eq!(removed, expected, "{what}: REMOVE");
            for name in [new, kept] {
                // By whoever is still to.
                let _ = tree.remove(&Caller::ROOT, &dir_handle, name);
            }
        }
        // The list is changed behind the server; so is what it grants.
        let open = List { owner: 6, users: &[], group: 6, groups: &[], mask: 6, other: 6 };
        assert!(open.set(&file));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o666);
        let has = rights(&tree, &Caller::new(1002, 9), &file_handle);
        assert!(has.contains(Access::READ) && has.contains(Access::MODIFY));
    }
}
