//! A disk and a FUSE daemon that hang: who may not wait is answered in spite of it. All of it needs
//! root, loop devices and `/dev/fuse`; without them these tests say so.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests")]

mod disk;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hostfs::{HostTree, Options};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use vfs::{Access, Caller, Create, FsError, Handle, Name, SetAttr, Tree, Wait};

use disk::Switch;

const ROOT: Caller = Caller::ROOT;

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn look(tree: &HostTree, dir: &Handle, text: &str) -> Handle {
    tree.lookup(&ROOT, dir, name(text), Wait::Yes).unwrap().handle
}

fn run(program: &str, args: &[&Path]) -> bool {
    let done = Command::new(program).args(args).output();
    done.is_ok_and(|done| done.status.success())
}

/// Runs `facts` in a thread with a mount namespace of its own.
fn in_own_namespace(facts: impl FnOnce(&Path) -> Result<(), String> + Send + 'static) {
    let run = move || {
        let dir = tempfile::tempdir().unwrap();
        let none: Option<&str> = None;
        if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_err() {
            eprintln!("skipped: a mount namespace needs root");
            return;
        }
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        for below in ["system", "fuse"] {
            fs::create_dir(dir.path().join(below)).unwrap();
        }
        if let Err(reason) = facts(dir.path()) {
            eprintln!("skipped: {reason}");
        }
        for below in ["system", "fuse"] {
            let _ = umount2(&dir.path().join(below), MntFlags::MNT_DETACH);
        }
    };
    thread::spawn(run).join().unwrap();
}

/// An image of ext4 with `warm/file`, `warm/link` and, far away from them, `cold/file`; the handle of
/// the last.
fn image(dir: &Path) -> Result<Handle, String> {
    let (image, system) = (dir.join("image"), dir.join("system"));
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let options = ["-q", "-F", "-O", "^flex_bg", "-E", "lazy_itable_init=0"].map(Path::new);
    if !run("mkfs.ext4", &[&options[..], &[image.as_path()]].concat())
        || !run("mount", &[Path::new("-o"), Path::new("loop"), &image, &system])
    {
        return Err("no ext4 can be made and mounted from a loop device here".to_owned());
    }
    for below in ["warm", "cold"] {
        fs::create_dir(system.join(below)).unwrap();
        fs::write(system.join(below).join("file"), vec![b'x'; 32 << 10]).unwrap();
    }
    symlink("file", system.join("warm/link")).unwrap();
    let tree = HostTree::open(&system, Options::default()).map_err(|error| error.to_string())?;
    let cold = look(&tree, &look(&tree, &tree.root(), "cold"), "file");
    drop(tree);
    umount2(&system, MntFlags::empty()).unwrap();
    Ok(cold)
}

/// Lets the disk go on when the test ends, however that does.
struct GoesOn<'a>(&'a Switch);

impl Drop for GoesOn<'_> {
    fn drop(&mut self) {
        self.0.hang(false);
    }
}

#[test]
fn what_is_known_is_told_while_the_disk_hangs_and_everybody_else_waits() {
    in_own_namespace(|dir| {
        let cold = image(dir)?;
        let (fuse, system) = (dir.join("fuse"), dir.join("system"));
        let switch = disk::serve(&dir.join("image"), &fuse).map_err(|error| error.to_string())?;
        let options = [Path::new("-o"), Path::new("loop,relatime")];
        if !run("mount", &[&options[..], &[&fuse.join("disk"), &system]].concat()) {
            return Err("no file of a FUSE daemon can be a loop device here".to_owned());
        }
        let tree = HostTree::open(&system, Options::default()).unwrap();
        let warm = look(&tree, &tree.root(), "warm");
        let (file, link) = (look(&tree, &warm, "file"), look(&tree, &warm, "link"));
        let mut data = vec![0; 32 << 10];
        tree.read(&ROOT, &file, 0, &mut data, Wait::Yes).unwrap();
        tree.readlink(&ROOT, &link, Wait::Yes).unwrap();
        thread::scope(|scope| {
            let _goes_on = GoesOn(&switch);
            switch.hang(true);
            let (tree, (asked, told)) = (&tree, mpsc::channel());
            let other = asked.clone();
            scope.spawn(move || asked.send(tree.getattr(&cold, Wait::Yes).map(|attr| attr.size)));
            scope.spawn(move || {
                let how = Create::Guarded(SetAttr::default());
                let made = tree.create(&ROOT, &warm, name("new"), &how);
                other.send(made.map(|made| made.attr.size))
            });
            // Both wait for the disk, one of them with the directory locked and a change in the journal.
            let waits = told.recv_timeout(Duration::from_millis(500));
            assert_eq!(waits, Err(mpsc::RecvTimeoutError::Timeout));
            let began = Instant::now();
            for _ in 0..1000 {
                assert!(tree.getattr(&file, Wait::No).is_ok());
                assert!(tree.access(&ROOT, &file, Access::READ, Wait::No).is_ok());
                assert!(tree.lookup(&ROOT, &warm, name("file"), Wait::No).is_ok());
                assert!(tree.readlink(&ROOT, &link, Wait::No).is_ok());
                assert!(tree.read(&ROOT, &file, 0, &mut data, Wait::No).is_ok());
                assert_eq!(tree.getattr(&cold, Wait::No), Err(FsError::WouldWait));
                let unknown = tree.lookup(&ROOT, &tree.root(), name("cold"), Wait::No);
                assert_eq!(unknown, Err(FsError::WouldWait));
            }
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));
            switch.hang(false);
            let sizes = [told.recv().unwrap(), told.recv().unwrap()];
            assert!(sizes.contains(&Ok(0)) && sizes.contains(&Ok(32 << 10)), "{sizes:?}");
        });
        drop(tree);
        umount2(&system, MntFlags::empty()).unwrap();
        Ok(())
    });
}

#[test]
fn nothing_is_asked_of_a_fuse_daemon_by_who_may_not_wait() {
    in_own_namespace(|dir| {
        fs::File::create(dir.join("image")).unwrap().set_len(4096).unwrap();
        let fuse = dir.join("fuse");
        let switch = disk::serve(&dir.join("image"), &fuse).map_err(|error| error.to_string())?;
        let options = Options { fsid: Some(1), ..Options::default() };
        let tree = HostTree::open(&fuse, options).map_err(|error| error.to_string())?;
        let file = look(&tree, &tree.root(), "disk");
        let mut data = [0; 8];
        assert!(tree.read(&ROOT, &file, 0, &mut data, Wait::Yes).is_ok());
        let _goes_on = GoesOn(&switch);
        switch.hang(true);
        let began = Instant::now();
        assert_eq!(tree.getattr(&file, Wait::No), Err(FsError::WouldWait));
        let found = tree.lookup(&ROOT, &tree.root(), name("disk"), Wait::No);
        assert_eq!(found, Err(FsError::WouldWait));
        assert_eq!(tree.read(&ROOT, &file, 0, &mut data, Wait::No), Err(FsError::WouldWait));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        Ok(())
    });
}
