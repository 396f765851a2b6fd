//! What a tree on the host tells without waiting: all that was asked for before, and nothing else.
//! Opening files by handle needs root; without it these tests say so.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::os::fd::{AsFd, OwnedFd};
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

/// A pipe that is read from by one end and filled by the other.
fn pipe() -> (OwnedFd, OwnedFd) {
    let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
    let (reader, writer) = rustix::pipe::pipe_with(flags).unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20).unwrap();
    (reader, writer)
}

/// What a read into a pipe tells, and what is in the pipe then.
fn piped(
    tree: &HostTree,
    file: &Handle,
    range: (u64, usize),
    wait: Wait,
) -> Result<(usize, bool, Vec<u8>), FsError> {
    let (reader, writer) = pipe();
    let read = tree.read_to_pipe(&ROOT, file, range.0, range.1, writer.as_fd(), wait)?;
    drop(writer);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut fs::File::from(reader), &mut bytes).unwrap();
    Ok((read.len, read.eof, bytes))
}

/// A file of many pages on the disk of the sources, with nothing of it in memory, and its handle.
fn on_disk(len: usize) -> Option<(TempDir, HostTree, Handle, Vec<u8>)> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
    fs::write(dir.path().join("file"), &bytes).unwrap();
    let file = fs::File::open(dir.path().join("file")).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    thread::sleep(Duration::from_millis(20));
    let tree = open(dir.path())?;
    let handle = tree.lookup(&ROOT, &tree.root(), name("file"), Wait::Yes).unwrap().handle;
    Some((dir, tree, handle, bytes))
}

#[test]
fn a_pipe_gets_what_a_read_gets() {
    let Some((_dir, tree, file, bytes)) = on_disk(300_001) else { return };
    let size = bytes.len();
    for (offset, len) in [(0, 65_536), (4_095, 100_000), (250_000, 100_000), (0, size), (size, 9)] {
        let end = size.min(offset + len);
        let expected = (end - offset, end == size, bytes[offset..end].to_vec());
        let range = (u64::try_from(offset).unwrap(), len);
        assert!(piped(&tree, &file, range, Wait::Yes) == Ok(expected), "{range:?}");
    }
    let beyond = piped(&tree, &file, (u64::MAX - 3, 9), Wait::Yes);
    assert_eq!(beyond, Ok((0, true, Vec::new())));
}

#[test]
fn what_is_not_in_memory_is_put_into_no_pipe_without_waiting() {
    let Some((dir, tree, file, bytes)) = on_disk(1 << 20) else { return };
    let whole = (0, bytes.len());
    // The first opens the file.
    piped(&tree, &file, (0, 1), Wait::Yes).unwrap();
    let on_disk = fs::File::open(dir.path().join("file")).unwrap();
    rustix::fs::fadvise(&on_disk, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let told = piped(&tree, &file, whole, Wait::No);
    if told == Err(FsError::NotSupp) {
        eprintln!("skipped: it cannot be told here what is in memory (ext4 and btrfs, Linux 6.5)");
        return;
    }
    assert_eq!(told, Err(FsError::WouldWait));
    piped(&tree, &file, whole, Wait::Yes).unwrap();
    assert!(piped(&tree, &file, whole, Wait::No) == Ok((bytes.len(), true, bytes.clone())));
}

#[test]
fn what_is_in_a_pipe_stays_there_when_its_file_is_cut_off() {
    let Some((dir, tree, file, bytes)) = on_disk(300_000) else { return };
    let (reader, writer) = pipe();
    let read = tree.read_to_pipe(&ROOT, &file, 0, 300_000, writer.as_fd(), Wait::Yes).unwrap();
    // What is in the pipe stays there.
    fs::write(dir.path().join("file"), b"").unwrap();
    drop(writer);
    let mut got = Vec::new();
    std::io::Read::read_to_end(&mut fs::File::from(reader), &mut got).unwrap();
    assert_eq!((read.len, got.len()), (300_000, 300_000));
    assert!(got[..4096] == bytes[..4096]);
    assert_eq!(piped(&tree, &file, (0, 300_000), Wait::Yes), Ok((0, true, Vec::new())));
}

#[test]
fn nobody_reads_into_a_pipe_what_he_may_not_read() {
    let Some((dir, tree, file, _)) = on_disk(100_000) else { return };
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(dir.path().join("file"), mode).unwrap();
    let (_reader, writer) = pipe();
    let stranger = Caller::new(77, 77);
    for wait in [Wait::Yes, Wait::No] {
        piped(&tree, &file, (0, 1), Wait::Yes).unwrap();
        let read = tree.read_to_pipe(&stranger, &file, 0, 100_000, writer.as_fd(), wait);
        assert_eq!(read, Err(FsError::Access), "{wait:?}");
    }
}
