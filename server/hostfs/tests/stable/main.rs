//! What was answered is on stable storage, with few flushes, and without the data of other files: told from
//! a file system of its own whose journal is ended at once, as by a power cut. All of it needs root and loop
//! devices; without them these tests say so.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests")]

mod medium;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hostfs::{HostTree, Options};
use vfs::{
    Caller, Create, FsError, Handle, Name, SetAttr, Special, Stability, SyncMode, Tree, Wait,
};

use medium::Medium;

const ROOT: Caller = Caller::ROOT;

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn open(on: &Path, sync: SyncMode) -> Result<HostTree, String> {
    let options = Options { sync, ..Options::default() };
    HostTree::open(on, options).map_err(|error| error.to_string())
}

fn create(tree: &HostTree, dir: &Handle, text: &str) -> Result<Handle, FsError> {
    let how = Create::Guarded(SetAttr { mode: Some(0o640), ..SetAttr::default() });
    tree.create(&ROOT, dir, name(text), &how).map(|made| made.handle)
}

fn mkdir(tree: &HostTree, dir: &Handle, text: &str) -> Result<Handle, FsError> {
    tree.mkdir(&ROOT, dir, name(text), &SetAttr::default()).map(|made| made.handle)
}

fn set_mode(tree: &HostTree, file: &Handle, mode: u32) -> Result<(), FsError> {
    let set = SetAttr { mode: Some(mode), ..SetAttr::default() };
    tree.setattr(&ROOT, file, &set, None).map(drop)
}

/// What one client was answered, in the order of its rounds: how many of each call.
#[derive(Debug, Default)]
struct Answered {
    created: usize,
    moded: usize,
    linked: usize,
    moved: usize,
    removed: usize,
    directories: usize,
    fifos: usize,
    rmdirs: usize,
}

/// Changes names and attributes until the file system fails; gives what was answered.
fn work(tree: &HostTree, [from, to]: [&Handle; 2], stop: &AtomicBool) -> Answered {
    let mut done = Answered::default();
    let mut round = |number: usize| -> Result<(), FsError> {
        let file = create(tree, from, &format!("file{number}"))?;
        done.created += 1;
        set_mode(tree, &file, 0o2755)?;
        done.moded += 1;
        tree.link(&ROOT, &file, to, name(&format!("link{number}")))?;
        done.linked += 1;
        let (old, new) = (format!("file{number}"), format!("moved{number}"));
        tree.rename(&ROOT, from, name(&old), to, name(&new))?;
        done.moved += 1;
        create(tree, to, &format!("gone{number}"))?;
        tree.remove(&ROOT, to, name(&format!("gone{number}")))?;
        done.removed += 1;
        mkdir(tree, from, &format!("dir{number}"))?;
        done.directories += 1;
        let fifo = format!("fifo{number}");
        let special = tree.mknod(&ROOT, from, name(&fifo), Special::Fifo, &SetAttr::default())?;
        set_mode(tree, &special.handle, 0o604)?;
        done.fifos += 1;
        mkdir(tree, from, &format!("void{number}"))?;
        tree.rmdir(&ROOT, from, name(&format!("void{number}")))?;
        done.rmdirs += 1;
        Ok(())
    };
    (0..).take_while(|_| !stop.load(Ordering::Relaxed)).find(|number| round(*number).is_err());
    done
}

/// What of that is not there.
fn missing(on: &Path, client: usize, done: &Answered) -> Vec<String> {
    let [from, to] = [on.join(format!("from{client}")), on.join(format!("to{client}"))];
    let mut missing = Vec::new();
    let mut check = |holds: bool, what: &str, number: usize| {
        if !holds {
            missing.push(format!("{what} {number} of {client}"));
        }
    };
    for number in 0..done.created {
        let places = [from.join(format!("file{number}")), to.join(format!("moved{number}"))];
        let found = places.iter().find_map(|path| fs::metadata(path).ok());
        check(found.is_some(), "create", number);
        let mode = found.map_or(0, |found| found.permissions().mode() & 0o7777);
        check(number >= done.moded || mode == 0o2755, "mode", number);
        let is_moved = places[1].exists() && !places[0].exists();
        check(number >= done.moved || is_moved, "rename", number);
        check(number >= done.linked || to.join(format!("link{number}")).exists(), "link", number);
        let gone = to.join(format!("gone{number}")).exists();
        check(number >= done.removed || !gone, "remove", number);
        let fifo = fs::symlink_metadata(from.join(format!("fifo{number}"))).ok();
        let fifo = fifo.filter(|fifo| fifo.file_type().is_fifo());
        let mode = fifo.map_or(0, |fifo| fifo.mode() & 0o7777);
        check(number >= done.fifos || mode == 0o604, "fifo", number);
        let made = from.join(format!("dir{number}")).is_dir();
        check(number >= done.directories || made, "mkdir", number);
        let gone = from.join(format!("void{number}")).exists();
        check(number >= done.rmdirs || !gone, "rmdir", number);
    }
    missing
}

/// Lets clients work, cuts the power, and gives how many calls were answered and what is missing of them.
fn cut(medium: &Medium, sync: SyncMode) -> Result<(usize, Vec<String>), String> {
    let tree = open(medium.on(), sync)?;
    let root = tree.root();
    let dirs: Vec<_> = (0..CLIENTS)
        .map(|client| {
            ["from", "to"].map(|text| mkdir(&tree, &root, &format!("{text}{client}")).unwrap())
        })
        .collect();
    medium.sync();
    let stop = AtomicBool::new(false);
    let answered: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> =
            dirs.iter().map(|[from, to]| scope.spawn(|| work(&tree, [from, to], &stop))).collect();
        thread::sleep(Duration::from_millis(700));
        medium.cut();
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    drop(tree);
    medium.restart();
    let lost = answered.iter().enumerate();
    let lost = lost.flat_map(|(client, done)| missing(medium.on(), client, done)).collect();
    Ok((answered.iter().map(|done| done.created).sum(), lost))
}

#[test]
fn what_was_answered_is_there_after_a_power_cut() {
    medium::with(Medium::ext4(&[]), |medium| {
        let (created, missing) = cut(medium, SyncMode::Standard)?;
        assert!(created > CLIENTS, "{created} files were made");
        assert_eq!(missing, [""; 0]);
        Ok(())
    });
}

#[test]
fn what_nobody_waited_for_is_lost_by_a_power_cut() {
    medium::with(Medium::ext4(&[]), |medium| {
        let (created, missing) = cut(medium, SyncMode::Disabled)?;
        assert!(created > CLIENTS && !missing.is_empty(), "{created} files were made");
        Ok(())
    });
}

#[test]
fn calls_in_flight_share_flushes() {
    medium::with(Medium::ext4(&[]), |medium| {
        let tree = open(medium.on(), SyncMode::Standard)?;
        let before = medium.commits();
        let (clients, files) = (32, 8);
        thread::scope(|scope| {
            for client in 0..clients {
                let tree = &tree;
                scope.spawn(move || {
                    for number in 0..files {
                        create(tree, &tree.root(), &format!("{client}-{number}")).unwrap();
                    }
                });
            }
        });
        let commits = medium.commits() - before;
        assert!(commits > 0 && commits < clients * files / 4, "{commits} commits");
        Ok(())
    });
}

#[test]
fn attributes_do_not_wait_for_data() {
    medium::with(Medium::ext4(&[]), |medium| {
        let tree = open(medium.on(), SyncMode::Standard)?;
        let file = create(&tree, &tree.root(), "file").unwrap();
        let block = vec![0x5a; 1 << 20];
        for number in 0..16 {
            let at = number << 20;
            tree.write(&ROOT, &file, at, &block, Stability::Unstable).unwrap();
        }
        let before = medium.written();
        set_mode(&tree, &file, 0o600).unwrap();
        let written = medium.written() - before;
        assert!(written < 4 << 20, "{written} bytes were written to the disk");
        tree.commit(&ROOT, &file).unwrap();
        assert!(medium.written() - before >= 16 << 20);
        Ok(())
    });
}

#[test]
fn what_is_flushed_for_a_call_is_decided_by_the_mode_also_while_it_is_served() {
    medium::with(Medium::ext4(&[]), |medium| {
        let tree = open(medium.on(), SyncMode::Disabled)?;
        let (file, block) = (create(&tree, &tree.root(), "file").unwrap(), vec![0x5a; 1 << 20]);
        // The bytes that reach the disk by one WRITE of so much, by a COMMIT and by a SETATTR, and how often
        // the journal is committed for all three.
        let play = |mode, asked| {
            tree.set_sync(mode);
            medium.sync();
            let commits = medium.commits();
            let mut at = medium.written();
            let mut grown = || {
                let before = std::mem::replace(&mut at, medium.written());
                at - before >= 1 << 20
            };
            let told = tree.write(&ROOT, &file, 0, &block, asked).unwrap().stability;
            let by_write = grown();
            tree.commit(&ROOT, &file).unwrap();
            let by_commit = grown();
            set_mode(&tree, &file, 0o600).unwrap();
            (told, by_write, by_commit, medium.commits() - commits > 0)
        };
        use Stability::{DataSync, FileSync, Unstable};
        let modes = [
            (SyncMode::Disabled, Unstable, (Unstable, false, false, false)),
            (SyncMode::Standard, Unstable, (Unstable, false, true, true)),
            (SyncMode::Always, Unstable, (FileSync, true, false, true)),
            (SyncMode::Standard, DataSync, (DataSync, true, false, true)),
            (SyncMode::Disabled, FileSync, (FileSync, false, false, false)),
        ];
        for (mode, asked, expected) in modes {
            assert_eq!(play(mode, asked), expected, "{mode:?}, {asked:?}");
        }
        Ok(())
    });
}

#[test]
fn without_a_journal_each_file_is_flushed() {
    medium::with(Medium::ext4(&["-O", "^has_journal"]), |medium| {
        let tree = open(medium.on(), SyncMode::Standard)?;
        let file = create(&tree, &tree.root(), "file").unwrap();
        set_mode(&tree, &file, 0o604).unwrap();
        let told = medium.on_the_disk("/file")?;
        assert!(told.contains("Mode:  0604"), "{told}");
        Ok(())
    });
}

#[test]
fn nothing_of_it_keeps_a_file_system_from_a_read_only_remount() {
    medium::with(Medium::ext4(&[]), |medium| {
        let tree = open(medium.on(), SyncMode::Standard)?;
        let file = create(&tree, &tree.root(), "file").unwrap();
        tree.quiesce();
        medium.remount_read_only();
        assert!(tree.getattr(&file, Wait::Yes).is_ok());
        Ok(())
    });
}

const CLIENTS: usize = 8;
