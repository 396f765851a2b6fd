//! What a tree on the host tells without waiting: all that was asked for before, and nothing else.
//! Opening files by handle needs root; without it these tests say so.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use hostfs::{HostTree, HostTreeError, Options};
use tempfile::TempDir;
use vfs::{Access, Caller, FsError, Handle, Name, Tree, Wait};

const ROOT: Caller = Caller::ROOT;

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn open(path: &Path) -> Option<HostTree> {
    match HostTree::open(path, Options::default()) {
        Ok(tree) => Some(tree),
        Err(HostTreeError::Privilege) => {
            eprintln!("skipped: opening files by handle needs root");
            None
        }
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// A directory with a file and a link in it, and the handles of both.
fn scratch() -> Option<(TempDir, [Handle; 2])> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "hello").unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    // A file that was not read since it was changed has its time of access set by the next read.
    thread::sleep(Duration::from_millis(20));
    let tree = open(dir.path())?;
    let handle = |text| tree.lookup(&ROOT, &tree.root(), name(text), Wait::Yes).unwrap().handle;
    let handles = [handle("file"), handle("link")];
    Some((dir, handles))
}

/// Why each operation that can be carried out without waiting fails; for `file` and `link` in the root.
fn answers(tree: &HostTree, [file, link]: &[Handle; 2], wait: Wait) -> [Option<FsError>; 6] {
    let root = tree.root();
    [
        tree.lookup(&ROOT, &root, name("file"), wait).err(),
        tree.lookup(&ROOT, &root, name("missing"), wait).err(),
        tree.getattr(file, wait).err(),
        tree.access(&ROOT, file, Access::READ, wait).err(),
        tree.readlink(&ROOT, link, wait).err(),
        tree.read(&ROOT, file, 0, &mut [0; 8], wait).err(),
    ]
}

#[test]
fn what_was_asked_for_once_is_told_without_waiting() {
    let Some((dir, handles)) = scratch() else { return };
    let tree = open(dir.path()).unwrap();
    assert_eq!(answers(&tree, &handles, Wait::No), [Some(FsError::WouldWait); 6]);
    let known = [None, Some(FsError::NoEnt), None, None, None, None];
    assert_eq!(answers(&tree, &handles, Wait::Yes), known);
    if fs::read_to_string("/proc/mounts").unwrap().contains(" / ext4 ") {
        assert_eq!(answers(&tree, &handles, Wait::No), known);
    }
}

#[test]
fn a_removed_file_is_found_stale_by_who_may_wait() {
    let Some((dir, [file, _])) = scratch() else { return };
    let tree = open(dir.path()).unwrap();
    tree.getattr(&file, Wait::Yes).unwrap();
    tree.read(&ROOT, &file, 0, &mut [0; 8], Wait::Yes).unwrap();
    fs::remove_file(dir.path().join("file")).unwrap();
    assert_eq!(tree.getattr(&file, Wait::No), Err(FsError::WouldWait));
    assert_eq!(tree.read(&ROOT, &file, 0, &mut [0; 8], Wait::No), Err(FsError::WouldWait));
    assert_eq!(tree.getattr(&file, Wait::Yes), Err(FsError::Stale));
}

#[test]
fn a_read_that_sets_the_time_of_access_is_left_to_who_may_wait() {
    let Some((dir, [file, _])) = scratch() else { return };
    let tree = open(dir.path()).unwrap();
    tree.read(&ROOT, &file, 0, &mut [0; 8], Wait::Yes).unwrap();
    fs::write(dir.path().join("file"), "again").unwrap();
    assert_eq!(tree.read(&ROOT, &file, 0, &mut [0; 8], Wait::No), Err(FsError::WouldWait));
}

#[test]
fn a_file_that_was_looked_up_is_read_without_waiting() {
    let Some((dir, [file, _])) = scratch() else { return };
    let tree = open(dir.path()).unwrap();
    fs::read(dir.path().join("file")).unwrap();
    assert_eq!(tree.read(&ROOT, &file, 0, &mut [0; 8], Wait::No), Err(FsError::WouldWait));
    tree.lookup(&ROOT, &tree.root(), name("file"), Wait::Yes).unwrap();
    if fs::read_to_string("/proc/mounts").unwrap().contains(" / ext4 ") {
        let mut bytes = [0; 8];
        let read = tree.read(&ROOT, &file, 0, &mut bytes, Wait::No).unwrap();
        assert_eq!((read.len, &bytes[..5]), (5, &b"hello"[..]));
        let stranger = Caller::new(77, 77);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(dir.path().join("file"), mode).unwrap();
        let tree = open(dir.path()).unwrap();
        tree.lookup(&ROOT, &tree.root(), name("file"), Wait::Yes).unwrap();
        let refused = tree.read(&stranger, &file, 0, &mut bytes, Wait::No);
        assert_eq!(refused, Err(FsError::Access));
    }
}
