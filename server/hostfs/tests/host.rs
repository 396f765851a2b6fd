//! What only a tree on the host can get wrong: restarts, borders, and whatever else changes the
//! directory behind its back. Opening files by handle needs root; without it these tests say so.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use hostfs::{Descriptors, HostTree, HostTreeError, Options};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tempfile::TempDir;
use vfs::{
    Attr, Caller, Create, Entry, EntryDetail, FsError, Handle, Name, SetAttr, Special, Stability,
    SyncMode, Tree, Wait,
};

const ROOT: Caller = Caller::ROOT;

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn open(path: &Path) -> Option<HostTree> {
    let descriptors = Arc::new(Descriptors::new(64));
    let options = Options { sync: SyncMode::Disabled, descriptors, ..Options::default() };
    match HostTree::open(path, options) {
        Ok(tree) => Some(tree),
        Err(HostTreeError::Privilege) => {
            eprintln!("skipped: opening files by handle needs root");
            None
        }
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// A directory with `export` in it, and a tree that serves `export`.
fn scratch() -> Option<(TempDir, HostTree)> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("export")).unwrap();
    let tree = open(&dir.path().join("export"))?;
    Some((dir, tree))
}

fn look(tree: &HostTree, dir: &Handle, text: &str) -> Result<Handle, FsError> {
    tree.lookup(&ROOT, dir, name(text), Wait::Yes).map(|found| found.handle)
}

fn read(tree: &HostTree, file: &Handle) -> Result<Vec<u8>, FsError> {
    let mut bytes = vec![0; 64];
    let read = tree.read(&ROOT, file, 0, &mut bytes, Wait::Yes)?;
    bytes.truncate(read.len);
    Ok(bytes)
}

#[test]
fn a_handle_holds_after_a_restart() {
    let Some((dir, tree)) = scratch() else { return };
    let export = dir.path().join("export");
    fs::create_dir(export.join("etc")).unwrap();
    fs::write(export.join("etc/passwd"), "root").unwrap();
    let etc = look(&tree, &tree.root(), "etc").unwrap();
    let passwd = look(&tree, &etc, "passwd").unwrap();
    let (root, fileid) = (tree.root(), tree.getattr(&passwd, Wait::Yes).unwrap().fileid);
    drop(tree);
    fs::rename(export.join("etc/passwd"), export.join("etc/shadow")).unwrap();
    let tree = open(&export).unwrap();
    assert_eq!(tree.root(), root);
    assert_eq!(read(&tree, &passwd).unwrap(), b"root");
    assert_eq!(tree.getattr(&passwd, Wait::Yes).unwrap().fileid, fileid);
    assert_eq!(look(&tree, &etc, "shadow"), Ok(passwd));
}

#[test]
fn an_exclusive_create_is_repeated_over_a_restart() {
    let Some((dir, tree)) = scratch() else { return };
    let how = Create::Exclusive(*b"verifier");
    let made = tree.create(&ROOT, &tree.root(), name("file"), &how).unwrap();
    drop(tree);
    let tree = open(&dir.path().join("export")).unwrap();
    let again = tree.create(&ROOT, &tree.root(), name("file"), &how).unwrap();
    assert_eq!(again.handle, made.handle);
}

#[test]
fn a_file_of_an_exclusive_create_has_its_verifier_from_its_first_moment() {
    let Some((dir, tree)) = scratch() else { return };
    let watch = inotify::init(CreateFlags::NONBLOCK).unwrap();
    let events = WatchFlags::CREATE | WatchFlags::ATTRIB;
    inotify::add_watch(&watch, dir.path().join("export"), events).unwrap();
    let how = Create::Exclusive(*b"verifier");
    let user = Caller::new(1001, 1001);
    fs::set_permissions(dir.path().join("export"), fs::Permissions::from_mode(0o777)).unwrap();
    let made = tree.create(&user, &tree.root(), name("file"), &how).unwrap();
    assert_eq!((made.attr.uid, made.attr.nlink), (1001, 1));
    assert_eq!((made.attr.atime, made.attr.mtime), vfs::exclusive::times(*b"verifier"));
    let mut room = [MaybeUninit::uninit(); 4096];
    let mut seen = Vec::new();
    let mut reader = inotify::Reader::new(&watch, &mut room);
    while let Ok(event) = reader.next() {
        if event.file_name() == Some(c"file") {
            seen.push(event.events());
        }
    }
    assert_eq!(seen, [ReadFlags::CREATE], "nothing was set after it had its name");
    assert_eq!(tree.create(&user, &tree.root(), name("file"), &how).unwrap().handle, made.handle);
    let other = Create::Exclusive(*b"another!");
    assert_eq!(tree.create(&user, &tree.root(), name("file"), &other), Err(FsError::Exist));
}

#[test]
fn the_write_verifier_is_new_at_each_start() {
    let Some((dir, tree)) = scratch() else { return };
    let again = open(&dir.path().join("export")).unwrap();
    assert_ne!(tree.write_verifier(), again.write_verifier());
}

#[test]
fn a_file_that_is_replaced_on_the_host_is_seen_at_once() {
    let Some((dir, tree)) = scratch() else { return };
    let path = dir.path().join("export/file");
    fs::write(&path, "old").unwrap();
    let old = look(&tree, &tree.root(), "file").unwrap();
    assert_eq!(read(&tree, &old).unwrap(), b"old");
    fs::write(dir.path().join("export/draft"), "newer").unwrap();
    fs::rename(dir.path().join("export/draft"), &path).unwrap();
    let new = look(&tree, &tree.root(), "file").unwrap();
    assert_eq!(read(&tree, &new).unwrap(), b"newer");
    assert_eq!(read(&tree, &old), Err(FsError::Stale));
}

#[test]
fn a_name_that_is_found_again_has_the_handle_of_the_file_that_it_is_now() {
    let Some((dir, tree)) = scratch() else { return };
    let path = dir.path().join("export/file");
    let mut handles = Vec::new();
    for round in 0..20 {
        fs::write(&path, format!("{round}")).unwrap();
        let first = look(&tree, &tree.root(), "file").unwrap();
        assert_eq!(look(&tree, &tree.root(), "file"), Ok(first));
        let attr = tree.getattr(&first, Wait::Yes).unwrap();
        assert_eq!(attr.fileid, fs::metadata(&path).unwrap().ino());
        assert_eq!(read(&tree, &first).unwrap(), format!("{round}").as_bytes());
        handles.push((first, attr.fileid));
        match round % 3 {
            0 => tree.remove(&ROOT, &tree.root(), name("file")).map(drop).unwrap(),
            1 => fs::remove_file(&path).unwrap(),
            _ => {
                tree.quiesce();
                fs::remove_file(&path).unwrap();
            }
        }
    }
    let numbers: HashSet<u64> = handles.iter().map(|(_, number)| *number).collect();
    if numbers.len() == handles.len() {
        eprintln!("this file system gives no inode number twice, so this shows little");
    }
    let different: HashSet<Handle> = handles.iter().map(|(handle, _)| *handle).collect();
    assert_eq!(different.len(), handles.len());
}

#[test]
fn a_second_name_of_a_file_that_is_open_has_the_same_handle() {
    let Some((dir, tree)) = scratch() else { return };
    let export = dir.path().join("export");
    fs::write(export.join("one"), "data").unwrap();
    let one = look(&tree, &tree.root(), "one").unwrap();
    fs::hard_link(export.join("one"), export.join("two")).unwrap();
    fs::write(export.join("three"), "data").unwrap();
    assert_eq!(look(&tree, &tree.root(), "two"), Ok(one));
    assert_ne!(look(&tree, &tree.root(), "three"), Ok(one));
}

#[test]
fn a_file_that_is_written_on_the_host_is_read_anew() {
    let Some((dir, tree)) = scratch() else { return };
    let path = dir.path().join("export/file");
    fs::write(&path, "old").unwrap();
    let file = look(&tree, &tree.root(), "file").unwrap();
    assert_eq!(read(&tree, &file).unwrap(), b"old");
    fs::write(&path, "longer than before").unwrap();
    assert_eq!(read(&tree, &file).unwrap(), b"longer than before");
    assert_eq!(tree.getattr(&file, Wait::Yes).unwrap().size, 18);
}

#[test]
fn a_file_that_is_removed_on_the_host_is_stale_though_it_was_open() {
    let Some((dir, tree)) = scratch() else { return };
    fs::write(dir.path().join("export/file"), "data").unwrap();
    let file = look(&tree, &tree.root(), "file").unwrap();
    tree.write(&ROOT, &file, 0, b"D", Stability::Unstable).unwrap();
    assert_eq!(read(&tree, &file).unwrap(), b"Data");
    fs::remove_file(dir.path().join("export/file")).unwrap();
    assert_eq!(tree.getattr(&file, Wait::Yes), Err(FsError::Stale));
    assert_eq!(read(&tree, &file), Err(FsError::Stale));
    let written = tree.write(&ROOT, &file, 0, b"x", Stability::Unstable);
    assert_eq!(written, Err(FsError::Stale));
}

/// Paths of this process's descriptors below `dir`.
fn open_below(dir: &Path) -> Vec<String> {
    let fds = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let paths = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
    let below = paths.filter(|path| path.starts_with(dir));
    below.map(|path| path.display().to_string()).collect()
}

#[test]
fn what_a_client_removes_is_closed_at_once() {
    let Some((dir, tree)) = scratch() else { return };
    let how = Create::Guarded(SetAttr::default());
    for text in ["one", "two"] {
        let made = tree.create(&ROOT, &tree.root(), name(text), &how).unwrap().handle;
        tree.write(&ROOT, &made, 0, b"data", Stability::Unstable).unwrap();
        read(&tree, &made).unwrap();
    }
    let root = tree.root();
    tree.rename(&ROOT, &root, name("one"), &root, name("two")).unwrap();
    tree.remove(&ROOT, &root, name("two")).unwrap();
    let deleted: Vec<_> =
        open_below(dir.path()).into_iter().filter(|path| path.ends_with(" (deleted)")).collect();
    assert_eq!(deleted, Vec::<String>::new());
}

#[test]
fn a_quiet_tree_holds_only_its_root_open() {
    let Some((dir, tree)) = scratch() else { return };
    fs::write(dir.path().join("export/file"), "data").unwrap();
    let file = look(&tree, &tree.root(), "file").unwrap();
    read(&tree, &file).unwrap();
    assert!(open_below(dir.path()).len() > 1);
    tree.quiesce();
    let root = dir.path().join("export").display().to_string();
    assert_eq!(open_below(dir.path()), [root]);
    assert_eq!(read(&tree, &file).unwrap(), b"data");
}

#[test]
fn no_more_descriptors_are_kept_than_allowed() {
    let Some((dir, tree)) = scratch() else { return };
    for number in 0..300 {
        let path = dir.path().join(format!("export/{number}"));
        fs::write(path, "data").unwrap();
        let file = look(&tree, &tree.root(), &number.to_string()).unwrap();
        read(&tree, &file).unwrap();
    }
    // What makes room is closed soon.
    let end = Instant::now() + Duration::from_secs(10);
    while open_below(dir.path()).len() > 65 {
        assert!(Instant::now() < end, "{} are open", open_below(dir.path()).len());
        thread::yield_now();
    }
}

#[test]
fn links_that_lead_out_stay_links() {
    let Some((dir, tree)) = scratch() else { return };
    fs::write(dir.path().join("secret"), "of the host").unwrap();
    symlink("../secret", dir.path().join("export/up")).unwrap();
    symlink(dir.path(), dir.path().join("export/out")).unwrap();
    let up = look(&tree, &tree.root(), "up").unwrap();
    assert_eq!(read(&tree, &up), Err(FsError::Inval));
    let out = look(&tree, &tree.root(), "out").unwrap();
    assert_eq!(look(&tree, &out, "secret"), Err(FsError::NotDir));
    assert_eq!(look(&tree, &tree.root(), ".."), Ok(tree.root()));
}

#[test]
fn a_directory_that_was_moved_out_leads_nowhere() {
    let Some((dir, tree)) = scratch() else { return };
    fs::create_dir_all(dir.path().join("export/a/b")).unwrap();
    let a = look(&tree, &tree.root(), "a").unwrap();
    let b = look(&tree, &a, "b").unwrap();
    fs::rename(dir.path().join("export/a/b"), dir.path().join("b")).unwrap();
    assert_eq!(look(&tree, &b, ".."), Err(FsError::Stale));
    let mut above = None;
    let end = tree.readdir(&ROOT, &b, 0, EntryDetail::Full, &mut |entry| {
        if entry.name == b".." {
            above = entry.file;
        }
        ControlFlow::Continue(())
    });
    assert!(end.unwrap().eof);
    assert_eq!(above, None);
}

#[test]
fn handles_that_nobody_made_are_refused() {
    let Some((_dir, tree)) = scratch() else { return };
    let root = tree.root();
    let mut state = 1_u64;
    for length in (0..=28).cycle().take(5000) {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        let kind = state.to_be_bytes()[1];
        let handle = Handle::new(root.fsid(), kind, &bytes).unwrap();
        let refused = tree.getattr(&handle, Wait::Yes).unwrap_err();
        assert!(matches!(refused, FsError::Stale | FsError::BadHandle), "{refused}: {handle:?}");
    }
}

#[test]
fn a_mount_point_is_a_border() {
    let Some((dir, _)) = scratch() else { return };
    let export = dir.path().join("export");
    fs::create_dir(export.join("mnt")).unwrap();
    fs::write(export.join("file"), "").unwrap();
    // A mount namespace of the thread's own: no mount reaches the host, and all go with the thread.
    let run = move || {
        use nix::mount::{MsFlags, mount};
        let none: Option<&str> = None;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("none"), &export.join("mnt"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
        fs::write(export.join("mnt/inside"), "of another file system").unwrap();
        let tree = open(&export).unwrap();
        let root = tree.root();
        assert_eq!(look(&tree, &root, "mnt"), Err(FsError::XDev));
        assert_eq!(tree.rmdir(&ROOT, &root, name("mnt")), Err(FsError::XDev));
        assert!(look(&tree, &root, "file").is_ok());
        let mut shown = Vec::new();
        tree.readdir(&ROOT, &root, 0, EntryDetail::Full, &mut |entry| {
            shown.push((entry.name.to_vec(), entry.file.is_some()));
            ControlFlow::Continue(())
        })
        .unwrap();
        shown.sort();
        let expected = [(".", true), ("..", true), ("file", true), ("mnt", false)];
        assert_eq!(shown, expected.map(|(name, full)| (name.as_bytes().to_vec(), full)));
        // From inside the mount, the way up does not lead into the tree by name.
        let inner = open(&export.join("mnt")).unwrap();
        assert_eq!(look(&inner, &inner.root(), ".."), Ok(inner.root()));
    };
    thread::spawn(run).join().unwrap();
}

#[test]
fn renames_in_opposite_directions_do_not_wait_for_each_other() {
    let Some((dir, tree)) = scratch() else { return };
    for path in ["export/a", "export/b"] {
        fs::create_dir(dir.path().join(path)).unwrap();
    }
    fs::write(dir.path().join("export/a/x"), "").unwrap();
    fs::write(dir.path().join("export/b/y"), "").unwrap();
    let a = look(&tree, &tree.root(), "a").unwrap();
    let b = look(&tree, &tree.root(), "b").unwrap();
    let tree = &tree;
    let swing = move |from: Handle, to: Handle, text: &'static str| {
        for _ in 0..500 {
            tree.rename(&ROOT, &from, name(text), &to, name(text)).unwrap();
            tree.rename(&ROOT, &to, name(text), &from, name(text)).unwrap();
        }
    };
    thread::scope(|scope| {
        scope.spawn(move || swing(a, b, "x"));
        scope.spawn(move || swing(b, a, "y"));
    });
    assert!(look(tree, &a, "x").is_ok() && look(tree, &b, "y").is_ok());
}

#[test]
fn of_many_who_make_one_name_one_makes_it() {
    let Some((_dir, tree)) = scratch() else { return };
    let tree = &tree;
    let made: usize = thread::scope(|scope| {
        let make = |_| {
            scope.spawn(move || {
                let how = Create::Guarded(SetAttr { mode: Some(0o644), ..SetAttr::default() });
                let made = tree.create(&ROOT, &tree.root(), name("file"), &how);
                assert!(matches!(made, Ok(_) | Err(FsError::Exist)));
                usize::from(made.is_ok())
            })
        };
        let threads: Vec<_> = (0..8).map(make).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(made, 1);
}

/// What somebody sees of each name who looks all the time while it is made, until it is as it should be.
fn seen_while_made(dir: &Path, make: impl Fn(&str) + Sync) -> Vec<(u32, u32, u32)> {
    let names: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let next = AtomicUsize::new(0);
    let mut seen = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = Vec::new();
            while let Some(text) = names.get(next.load(Ordering::Relaxed)) {
                if let Ok(made) = fs::symlink_metadata(dir.join(text)) {
                    seen.push((made.uid(), made.gid(), made.mode() & 0o7777));
                }
            }
            seen
        });
        for text in &names {
            make(text);
            next.fetch_add(1, Ordering::Relaxed);
        }
        watcher.join().unwrap()
    });
    let made = fs::symlink_metadata(dir.join("0")).unwrap();
    seen.push((made.uid(), made.gid(), made.mode() & 0o7777));
    seen.sort_unstable();
    seen.dedup();
    seen
}

#[test]
fn what_is_made_has_its_owner_and_mode_from_its_first_moment() {
    let alice = Caller::new(1001, 100);
    let set = SetAttr { mode: Some(0o666), ..SetAttr::default() };
    let sorts: [fn(&HostTree, &Caller, &str, &SetAttr); 4] = [
        |tree, caller, text, set| {
            tree.create(caller, &tree.root(), name(text), &Create::Unchecked(*set)).unwrap();
        },
        |tree, caller, text, set| {
            tree.mkdir(caller, &tree.root(), name(text), set).unwrap();
        },
        |tree, caller, text, set| {
            tree.mknod(caller, &tree.root(), name(text), Special::Fifo, set).unwrap();
        },
        |tree, caller, text, set| {
            tree.symlink(caller, &tree.root(), name(text), b"target", set).unwrap();
        },
    ];
    for (number, make) in sorts.iter().enumerate() {
        let Some((dir, tree)) = scratch() else { return };
        let export = dir.path().join("export");
        fs::set_permissions(&export, PermissionsExt::from_mode(0o777)).unwrap();
        let mode = if number == 3 { 0o777 } else { 0o666 };
        let seen = seen_while_made(&export, |text| make(&tree, &alice, text, &set));
        assert_eq!(seen, [(1001, 100, mode)], "{number}");
    }
}

#[test]
fn whoever_makes_a_file_is_the_server_again_afterwards() {
    let Some((dir, tree)) = scratch() else { return };
    let export = dir.path().join("export");
    // Group 300 may write here, by a supplementary group that this process is not in.
    fs::set_permissions(&export, PermissionsExt::from_mode(0o770)).unwrap();
    std::os::unix::fs::chown(&export, Some(7), Some(300)).unwrap();
    let member = Caller::new(1001, 100).with_groups(&[300]);
    let how = Create::Guarded(SetAttr { mode: Some(0o666), ..SetAttr::default() });
    tree.create(&member, &tree.root(), name("theirs"), &how).unwrap();
    tree.mkdir(&ROOT, &tree.root(), name("ours"), &SetAttr::default()).unwrap();
    fs::write(dir.path().join("own"), "").unwrap();
    let owner = |path: &Path| fs::metadata(path).map(|of| (of.uid(), of.gid(), of.mode() & 0o777));
    assert_eq!(owner(&export.join("theirs")).unwrap(), (1001, 100, 0o666));
    assert_eq!(owner(&export.join("ours")).unwrap(), (0, 0, 0o700));
    let (uid, gid, mode) = owner(&dir.path().join("own")).unwrap();
    assert_eq!((uid, gid), (0, 0));
    // The umask is that of the process.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap().trim();
    assert_eq!(mode, 0o666 & !u32::from_str_radix(umask, 8).unwrap());
}

#[test]
fn a_file_of_the_host_belongs_to_whom_it_says() {
    let Some((dir, tree)) = scratch() else { return };
    let path = dir.path().join("export/file");
    let how = Create::Guarded(SetAttr { mode: Some(0o4750), ..SetAttr::default() });
    tree.create(&Caller::new(0, 0), &tree.root(), name("file"), &how).unwrap();
    let set = SetAttr { uid: Some(1001), gid: Some(100), mode: Some(0o4750), ..SetAttr::default() };
    let file = look(&tree, &tree.root(), "file").unwrap();
    tree.setattr(&ROOT, &file, &set, None).unwrap();
    let metadata = fs::metadata(path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1001, 100, 0o4750));
}

#[test]
fn a_file_system_without_handles_is_refused_with_advice() {
    let error = HostTree::open(Path::new("/proc"), Options::default()).unwrap_err();
    assert!(matches!(error, HostTreeError::NoHandles), "{error}");
    assert!(error.to_string().contains("ext4"));
}

#[test]
fn what_is_no_directory_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing");
    let error = HostTree::open(&path, Options::default()).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_that_runs_on_the_host_is_committed() {
    let Some((dir, tree)) = scratch() else { return };
    let program = dir.path().join("export/program");
    fs::copy("/bin/sleep", &program).unwrap();
    let file = look(&tree, &tree.root(), "program").unwrap();
    tree.set_sync(SyncMode::Standard);
    let mut running = std::process::Command::new(&program).arg("60").spawn().unwrap();
    // The kernel refuses to write to it.
    assert_eq!(tree.write(&ROOT, &file, 0, b"x", Stability::Unstable), Err(FsError::Access));
    let committed = tree.commit(&ROOT, &file);
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(committed.map(|wcc| wcc.after.size), Ok(fs::metadata(&program).unwrap().len()));
}

#[test]
fn a_listing_has_the_handles_of_the_files_that_are_there_now() {
    let Some((dir, tree)) = scratch() else { return };
    let export = dir.path().join("export");
    let make = |number: usize| fs::write(export.join(format!("file{number}")), "").unwrap();
    (0..100).for_each(make);
    symlink("file0", export.join("link")).unwrap();
    // From then on handles are remembered.
    thread::sleep(Duration::from_millis(1200));
    let check = || {
        let mut listed = Vec::new();
        let mut each = |entry: &Entry<'_>| {
            let text = String::from_utf8_lossy(entry.name).into_owned();
            listed.push((text, entry.file.expect("it is there")));
            ControlFlow::Continue(())
        };
        tree.readdir(&ROOT, &tree.root(), 0, EntryDetail::Full, &mut each).unwrap();
        for (text, (handle, attr)) in &listed {
            let found = tree.lookup(&ROOT, &tree.root(), name(text), Wait::Yes).unwrap();
            // To list a directory is to read it.
            let attr = Attr { atime: found.attr.atime, ..*attr };
            assert_eq!((found.handle, found.attr), (*handle, attr), "{text}");
            assert_eq!(tree.getattr(handle, Wait::Yes), Ok(attr), "{text}");
        }
        listed.iter().map(|(_, (_, attr))| attr.fileid).collect::<HashSet<_>>()
    };
    let (first, again) = (check(), check());
    assert_eq!((first.len(), &first), (102, &again));
    for number in 0..50 {
        fs::remove_file(export.join(format!("file{number}"))).unwrap();
    }
    tree.quiesce();
    // On most file systems these have the numbers of those that are gone.
    (0..50).for_each(make);
    for number in 50..60 {
        let path = |text: &str| export.join(format!("{text}{number}"));
        fs::rename(path("file"), path("moved")).unwrap();
    }
    for number in 60..70 {
        fs::write(export.join(format!("file{number}")), "changed").unwrap();
    }
    let reused = first.intersection(&check()).count();
    println!("{reused} numbers are used again or still");
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(check(), check());
}
