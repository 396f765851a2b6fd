//! Several file systems of the host as one tree: real borders, and handles on both sides of them.
//! Opening files by handle needs root, and so does mounting; without it these tests say so.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use fixtures::Projected;
use fixtures::contract::Subject;
use hostfs::{Descriptors, HostTree, HostTreeError, Inside, Options};
use nix::mount::{MsFlags, mount};
use tempfile::TempDir;
use vfs::{Branch, Caller, EntryDetail, FsError, Handle, Name, Projection, SyncMode, Tree, Wait};

const ROOT: Caller = Caller::ROOT;

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn options() -> Options {
    let descriptors = Arc::new(Descriptors::new(64));
    Options { sync: SyncMode::Disabled, descriptors, ..Options::default() }
}

fn serve(dir: OwnedFd) -> Arc<dyn Tree> {
    Arc::new(HostTree::from_fd(dir, options()).unwrap())
}

/// The tree at `root` with what is mounted at `paths` below it.
fn system(root: &Path, paths: &[&str], make: Make) -> Projected {
    let inside = Inside::enter(root).unwrap();
    let branches: Vec<Branch> = paths
        .iter()
        .map(|path| {
            let mounted = inside.mounted(path).unwrap();
            Branch { path: (*path).to_owned(), tree: serve(mounted.unwrap()) }
        })
        .collect();
    let tree = serve(fs::File::open(root).unwrap().into());
    let (projection, refused) = make(tree, &branches);
    assert_eq!(refused, []);
    Projected::new(projection)
}

type Make = fn(Arc<dyn Tree>, &[Branch]) -> (Projection, Vec<vfs::BranchError>);

fn at(tree: &Projected, path: &str) -> Result<Handle, FsError> {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    names.try_fold(tree.root(), |dir, text| {
        tree.lookup(&ROOT, &dir, name(text), Wait::Yes).map(|found| found.handle)
    })
}

/// Handle and fileid of every file, by path, as find(1) would meet them.
fn walk(tree: &Projected, path: &str, found: &mut BTreeMap<String, (Handle, u64)>) {
    let mut entries = Vec::new();
    let end = tree.readdir(&ROOT, &at(tree, path).unwrap(), 0, EntryDetail::Full, &mut |entry| {
        entries.push((entry.name.to_vec(), entry.fileid, entry.file));
        ControlFlow::Continue(())
    });
    assert!(end.unwrap().eof);
    for (bytes, fileid, file) in entries {
        let (handle, attr) = file.unwrap();
        assert_eq!(attr.fileid, fileid);
        assert_eq!(tree.getattr(&handle, Wait::Yes).unwrap().fileid, fileid);
        let text = String::from_utf8(bytes).unwrap();
        if text == "." || text == ".." {
            continue;
        }
        let path = format!("{path}/{text}");
        assert_eq!(at(tree, &path), Ok(handle));
        found.insert(path.clone(), (handle, fileid));
        if attr.kind == vfs::FileKind::Directory {
            walk(tree, &path, found);
        }
    }
}

/// Runs `facts` in a thread with a mount namespace of its own: no mount reaches the host, and all go
/// with the thread. Without root it says so and runs nothing.
fn in_own_namespace(facts: impl FnOnce(&Path) + Send + 'static) {
    let run = move || {
        let dir = tempfile::tempdir().unwrap();
        let none: Option<&str> = None;
        if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_err() {
            eprintln!("skipped: a mount namespace needs root");
            return;
        }
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        facts(dir.path());
        // Otherwise the directory could not be removed.
        for below in ["usr/home", "var", "btrfs", ""] {
            let _ = nix::mount::umount2(&dir.path().join(below), nix::mount::MntFlags::MNT_DETACH);
        }
    };
    thread::spawn(run).join().unwrap();
}

/// A system whose `usr/home` and `var` are mounted: in all of them the same small inode numbers.
fn mounted_system(root: &Path) {
    let none: Option<&str> = None;
    for path in ["", "usr/home", "var"] {
        let place = root.join(path);
        fs::create_dir_all(&place).unwrap();
        mount(Some("none"), &place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    for path in ["etc/motd", "usr/bin/sh", "usr/home/me/letter", "usr/home/a", "var/log/messages"] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), path).unwrap();
    }
}

fn facts_of_one_tree(root: &Path, paths: &[&str], files: usize) {
    let mut before = BTreeMap::new();
    let tree = system(root, paths, Projection::joined);
    walk(&tree, "", &mut before);
    assert_eq!(before.len(), files, "{before:?}");
    let mut fileids: Vec<u64> = before.values().map(|(_, fileid)| *fileid).collect();
    fileids.sort_unstable();
    fileids.dedup();
    assert_eq!(fileids.len(), files, "{before:?}");
    for (handle, _) in before.values() {
        assert_eq!(tree.getattr(handle, Wait::Yes).unwrap().fsid, tree.root().fsid());
    }
    // As after a restart of the server: other descriptors, the same handles and file ids.
    drop(tree);
    let tree = system(root, paths, Projection::joined);
    for (path, (handle, fileid)) in &before {
        assert_eq!(tree.getattr(handle, Wait::Yes).unwrap().fileid, *fileid, "{path}");
    }
    let mut after = BTreeMap::new();
    walk(&tree, "", &mut after);
    assert_eq!(after, before);
    for border in paths {
        let up = at(&tree, &format!("{border}/..")).unwrap();
        let parent = Path::new(border).parent().unwrap().to_str().unwrap();
        assert_eq!(up, at(&tree, parent).unwrap());
        let last = Path::new(border).file_name().unwrap().to_str().unwrap();
        assert_eq!(tree.rmdir(&ROOT, &up, name(last)), Err(FsError::Mounted));
        let split = system(root, paths, Projection::split);
        let stand_in = at(&split, border).unwrap();
        assert_eq!(split.projection.mounted(&stand_in), at(&tree, border).unwrap());
        assert_eq!(at(&split, &format!("{border}/..")), Ok(up));
    }
}

#[test]
fn mounted_file_systems_are_one_tree() {
    in_own_namespace(|root| {
        mounted_system(root);
        facts_of_one_tree(root, &["usr/home", "var"], 12);
    });
}

#[test]
fn a_mount_that_is_not_listed_stays_a_border() {
    in_own_namespace(|root| {
        mounted_system(root);
        let tree = system(root, &["usr/home"], Projection::joined);
        assert_eq!(at(&tree, "var"), Err(FsError::XDev));
        assert!(at(&tree, "usr/home/me/letter").is_ok());
    });
}

#[test]
fn nested_subvolumes_of_btrfs_are_one_tree_though_their_inode_numbers_are_equal() {
    in_own_namespace(|dir| {
        let Some(root) = btrfs(dir) else { return };
        for subvolume in ["", "usr/home", "var"] {
            let place = root.join(subvolume);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            let made =
                Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&place).status();
            assert!(made.unwrap().success());
            fs::create_dir(place.join("first")).unwrap();
            fs::write(place.join("first/file"), subvolume).unwrap();
        }
        facts_of_one_tree(&root, &["usr/home", "var"], 9);
    });
}

/// A fresh btrfs below `dir`, if that can be had here.
fn btrfs(dir: &Path) -> Option<PathBuf> {
    let (image, place) = (dir.join("image"), dir.join("btrfs"));
    fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
    fs::create_dir(&place).unwrap();
    let run = |program: &str, args: &[&Path]| {
        let done = Command::new(program).args(args).output();
        done.is_ok_and(|done| done.status.success())
    };
    let ready = run("mkfs.btrfs", &[Path::new("-q"), &image])
        && run("mount", &[Path::new("-o"), Path::new("loop"), &image, &place]);
    if !ready {
        eprintln!("skipped: no btrfs can be made and mounted from a loop device here");
    }
    ready.then(|| place.join("system"))
}

/// The contract, above and beside a border between two real file systems.
struct Joined {
    tree: Projected,
    _dirs: [TempDir; 2],
}

impl Subject for Joined {
    fn tree(&self) -> &dyn Tree {
        &self.tree
    }
}

fn joined() -> Option<Joined> {
    let (disk, memory) = (std::env::temp_dir(), Path::new("/dev/shm"));
    let make = |below: &Path| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        tempfile::Builder::new().permissions(mode).tempdir_in(below).unwrap()
    };
    let dirs = [make(&disk), make(memory)];
    fs::create_dir_all(dirs[0].path().join("usr/home")).unwrap();
    let open = |dir: &TempDir| match HostTree::open(dir.path(), options()) {
        Ok(tree) => Some(Arc::new(tree) as Arc<dyn Tree>),
        Err(error @ (HostTreeError::Privilege | HostTreeError::NoHandles)) => {
            eprintln!("skipped: {}: {error}", dir.path().display());
            None
        }
        Err(error) => panic!("{}: {error}", dir.path().display()),
    };
    let (root, home) = (open(&dirs[0])?, open(&dirs[1])?);
    let (projection, refused) =
        Projection::joined(root, &[Branch { path: "usr/home".to_owned(), tree: home }]);
    if refused.is_empty() {
        return Some(Joined { tree: Projected::new(projection), _dirs: dirs });
    }
    eprintln!("skipped: {} and {} are one file system", disk.display(), memory.display());
    None
}

fixtures::contract!(joined);
