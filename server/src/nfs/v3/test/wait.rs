//! What runs on the socket's own task and what does not.

use std::thread;
use std::time::Duration;

use vfs::{Caller, Name};
use wire::nfs3::{AccessArgs, GetattrRes, ReadArgs, Stable, Status, WriteArgs};

use super::*;
use crate::nfs::export::Event;

/// Whether a call is answered on the socket's own task.
fn is_inline(bench: &Bench, procedure: Procedure, args: &[u8]) -> bool {
    match bench.nfs.call(&bench.call_of(procedure.number(), args), &mut Vec::new()) {
        Progress::Done(_) => true,
        Progress::Park(parked) => {
            let class = (!args.is_empty()).then_some(ROOT);
            assert_eq!(parked.class, class, "it waits for its own export");
            false
        }
        Progress::Later(_) => panic!("nothing here is answered later"),
    }
}

fn bench() -> Bench {
    Bench::new(MemFs::new().file("/motd", 0o644, b"hello"))
}

#[test]
fn what_may_wait_for_a_disk_does_not_run_inline() {
    let bench = bench();
    let waits = Procedure::ALL.into_iter().filter(|procedure| !is_inline(&bench, *procedure, &[]));
    let mut numbers: Vec<u32> = waits.map(Procedure::number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]);
}

#[test]
fn metadata_and_resident_data_are_answered_inline() {
    let bench = bench();
    let file = bench.at("/motd");
    assert!(is_inline(&bench, Procedure::Getattr, &fs(&file).to_bytes()));
    let args = ReadArgs { file: fh(&file), offset: 0, count: 5 };
    assert!(is_inline(&bench, Procedure::Read, &args.to_bytes()));
}

#[test]
fn what_the_tree_cannot_tell_at_once_is_asked_again_by_who_may_wait() {
    let bench =
        Bench::new(MemFs::new().file("/motd", 0o644, b"hello").symlink("/link", "motd").on_disk());
    let (root, file, link) = (bench.root(), bench.at("/motd"), bench.at("/link"));
    let read = ReadArgs { file: fh(&file), offset: 0, count: 5 }.to_bytes();
    let access = AccessArgs { object: fh(&file), access: 1 }.to_bytes();
    let calls = [
        (Procedure::Getattr, fs(&file).to_bytes()),
        (Procedure::Lookup, op(&root, "motd").to_bytes()),
        // What fails tells the attributes of the file, which are not known at once either.
        (Procedure::Lookup, op(&root, "missing").to_bytes()),
        (Procedure::Lookup, op(&root, "").to_bytes()),
        (Procedure::Access, access),
        (Procedure::Readlink, fs(&link).to_bytes()),
        (Procedure::Read, read),
    ];
    for (procedure, args) in calls {
        let mut reply = Vec::new();
        let call = bench.call_of(procedure.number(), &args);
        let progress = bench.nfs.call(&call, &mut reply);
        assert_eq!(reply, [0; 0], "{procedure:?}");
        let Progress::Park(parked) = progress else { panic!("{procedure:?}: {progress:?}") };
        assert_eq!(parked.resume(&call, &mut reply).outcome, Outcome::Success);
        assert!(!reply.is_empty(), "{procedure:?}");
    }
}

/// A WRITE that waits for a disk while `meanwhile` happens to its environment, which is held.
fn write_while(meanwhile: impl FnOnce(&Bench)) -> Status {
    let bench = bench_on_disk();
    let file = bench.at("/motd");
    let (offset, data, stable) = (0, &b"HELLO"[..], Stable::FileSync);
    let args = WriteArgs { file: fh(&file), offset, stable, data }.to_bytes();
    status_while(&bench, Procedure::Write, &args, meanwhile)
}

fn bench_on_disk() -> Bench {
    Bench::new(MemFs::new().file("/motd", 0o644, b"hello").on_disk())
}

/// What a call ends with that waits for a disk while `meanwhile` happens.
fn status_while(
    bench: &Bench,
    procedure: Procedure,
    args: &[u8],
    meanwhile: impl FnOnce(&Bench),
) -> Status {
    let hung = bench.tree.hang();
    let (call, mut reply) = (bench.call_of(procedure.number(), args), Vec::new());
    let Progress::Park(parked) = bench.nfs.call(&call, &mut reply) else { panic!("it waits") };
    thread::scope(|scope| {
        let call = scope.spawn(|| {
            parked.resume(&call, &mut reply);
            Status::from_bytes(&reply[..4]).unwrap()
        });
        while bench.site.exports.drain(&[ROOT], Duration::ZERO) {
            thread::yield_now();
        }
        bench.site.exports.apply([(ROOT, Event::Held)]);
        assert!(!bench.site.exports.drain(&[ROOT], Duration::from_millis(20)), "it still runs");
        meanwhile(bench);
        drop(hung);
        let status = call.join().unwrap();
        assert!(bench.site.exports.drain(&[ROOT], Duration::ZERO), "it has ended");
        status
    })
}

#[test]
fn a_write_under_way_ends_before_a_command_has_the_tree() {
    assert_eq!(write_while(|_| ()), Status::Ok);
}

#[test]
fn a_write_on_a_tree_that_was_taken_away_is_not_acknowledged() {
    assert_eq!(write_while(|bench| bench.site.exports.abandon_calls(&[ROOT])), Status::Jukebox);
}

#[test]
fn what_a_call_misses_in_a_tree_that_was_taken_away_is_not_told() {
    let status = |meanwhile: fn(&Bench)| {
        let bench = bench_on_disk();
        let args = op(&bench.root(), "missing").to_bytes();
        status_while(&bench, Procedure::Lookup, &args, meanwhile)
    };
    assert_eq!(status(|_| ()), Status::NoEnt);
    assert_eq!(status(|bench| bench.site.exports.abandon_calls(&[ROOT])), Status::Jukebox);
}

#[test]
fn a_file_that_vanishes_with_a_tree_that_is_taken_away_is_asked_for_again() {
    let stale_after = |event: Event<_>| {
        let bench = Bench::new(MemFs::new().file("/motd", 0o644, b"hello").on_disk());
        let args = fs(&bench.at("/motd")).to_bytes();
        let motd = Name::new(b"motd").unwrap();
        bench.tree.remove(&Caller::ROOT, &bench.tree.root(), motd).unwrap();
        let hung = bench.tree.hang();
        thread::scope(|scope| {
            let call = scope.spawn(|| {
                let got =
                    bench.client.call(&bench.nfs, VERSION, Procedure::Getattr.number(), &args);
                GetattrRes::from_bytes(&got.1).unwrap().status()
            });
            while bench.site.exports.drain(&[ROOT], Duration::ZERO) {
                thread::yield_now();
            }
            bench.site.exports.apply([(ROOT, event)]);
            drop(hung);
            call.join().unwrap()
        })
    };
    assert_eq!(stale_after(Event::Held), Status::Jukebox);
    assert_eq!(stale_after(Event::Closed("away".into())), Status::Jukebox);
    assert_eq!(stale_after(Event::Failed("it is served on".into())), Status::Stale);
    assert_eq!(stale_after(Event::Ended), Status::Stale);
}
