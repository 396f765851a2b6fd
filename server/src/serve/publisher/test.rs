mod places;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use store::{Fault, Faults, Hang, Layout, Location};
use tempfile::TempDir;
use vfs::{FsError, Wait};

use super::read::Begun;
use super::*;
use crate::boot::Sources;
use crate::boot::catalog::Catalog;
use crate::boot::loader::HostLoaders;
use crate::boot::usage::Usage;
use crate::clock::SystemClock;
use crate::nfs::export::{Absent, SiteKey, WireHandle};
use crate::site::events::Events;
use crate::site::machine::Roster;

/// A store of directories with three environments, one of them a machine's data in which another has
/// its home, all of them published.
struct Bench {
    scratch: TempDir,
    faults: Arc<Faults>,
    store: Arc<Store>,
    publisher: Publisher,
    roots: Vec<(Uuid, WireHandle)>,
}

const NAMES: [&str; 3] = ["head", "web1-data", "web1-head"];

fn name(text: &str) -> EnvironmentName {
    text.parse().unwrap()
}

impl Bench {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let location = Location::Directory(scratch.path().join("store"));
        let state = scratch.path().join("state");
        StateDir::open(&state).unwrap();
        let store = Store::establish(&location, &state).unwrap();
        for text in NAMES {
            store.create(&name(text), Layout::Linux).unwrap();
        }
        store.mark_data(&name("web1-data"), "home", true).unwrap();
        store.set(&name("web1-data"), "data-of", Some("web1")).unwrap();
        store.set_role(&name("web1-data"), Role::Client).unwrap();
        for (key, value) in [("machine", "web1"), ("template", "head")] {
            store.set(&name("web1-head"), key, Some(value)).unwrap();
        }
        store.set_role(&name("web1-head"), Role::Client).unwrap();
        let (faults, store, publisher) = Self::open(&scratch);
        publisher.publish(Scope::All).unwrap();
        let root = |text: &&str| {
            let uuid = store.get(&name(text)).unwrap().uuid;
            (uuid, publisher.exports.root_handle(uuid).unwrap())
        };
        let roots = NAMES.iter().map(root).collect();
        Self { scratch, faults, store, publisher, roots }
    }

    fn open(scratch: &TempDir) -> (Arc<Faults>, Arc<Store>, Publisher) {
        let location = Location::Directory(scratch.path().join("store"));
        let state = StateDir::open(&scratch.path().join("state")).unwrap();
        let faults = Arc::new(Faults::default());
        let store = Store::open(&location, state.path()).unwrap();
        let store = Arc::new(store.with_faults(Arc::clone(&faults)));
        let usage = Arc::new(Usage::new(Instant::now()));
        let exports = Arc::new(Exports::new(SiteKey::new([7; 16]), Arc::clone(&usage)));
        let descriptors = Arc::new(Descriptors::within_limits());
        let boots = Boots::open(Sources {
            catalog: Catalog::start().unwrap(),
            loaders: HostLoaders::default(),
            http_port: 80,
            roster: Roster::default(),
            state: Arc::new(state.clone()),
            clock: Arc::new(SystemClock),
            events: Arc::new(Events::new(Arc::new(SystemClock))),
            random: Box::new(|| 1),
            usage,
            orders: Box::new(|_order| ()),
        });
        let boots = Arc::new(boots.unwrap());
        let publisher = Publisher::new(Arc::clone(&store), state, exports, descriptors, boots);
        (faults, store, publisher.unwrap())
    }

    /// The server is started again.
    fn restart(&mut self) {
        (self.faults, self.store, self.publisher) = Self::open(&self.scratch);
        let _ = self.publisher.publish(Scope::All);
    }

    /// What a GETATTR of each environment's root is answered with.
    fn answers(&self) -> Vec<Result<(), FsError>> {
        let answer = |handle: &WireHandle| {
            let (export, view, file) = self.publisher.exports.open(handle.as_bytes())?;
            // Whoever has it for his root is known to have it.
            assert!(self.publisher.boots.catalog().environment(export.environment).is_some());
            let resolved = export.files.seen(view).resolve(&file)?;
            resolved.run(|tree, file| tree.getattr(file, Wait::Yes)).map(drop)
        };
        self.roots.iter().map(|(_, handle)| answer(handle)).collect()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.scratch.path().join("store").join(path)
    }

    fn uuid(&self, text: &str) -> Uuid {
        let position = NAMES.iter().position(|known| *known == text).unwrap();
        self.roots[position].0
    }

    fn is_told(&self, words: &str) -> bool {
        self.publisher.unserved().iter().any(|sentence| sentence.contains(words))
    }
}

const SERVED: Result<(), FsError> = Ok(());
const WAITS: Result<(), FsError> = Err(FsError::Busy);
const GONE: Result<(), FsError> = Err(FsError::Stale);

#[test]
fn no_failing_read_of_the_store_makes_a_handle_stale_and_all_is_served_after_it() {
    let bench = Bench::new();
    let names = NAMES.map(name);
    for scope in [Scope::All, Scope::Changed, Scope::Named(&names)] {
        for fault in Fault::ALL {
            for lasts in [false, true] {
                let mut reads = 0;
                loop {
                    bench.faults.fail_after(reads, fault, lasts);
                    let published = bench.publisher.publish(scope);
                    for answer in bench.answers() {
                        let about = (scope, fault, lasts, reads, &published);
                        assert!(matches!(answer, SERVED | WAITS), "{answer:?}: {about:?}");
                    }
                    let failed = bench.faults.stop();
                    bench.publisher.look_again();
                    let about = (scope, fault, lasts, reads, bench.publisher.unserved());
                    assert_eq!(bench.answers(), [SERVED; 3], "{about:?}");
                    assert_eq!(bench.publisher.unserved(), [""; 0], "{about:?}");
                    if !failed {
                        break;
                    }
                    reads += 1;
                }
                // `Changed` reads the store and each environment; whatever more is opened comes on top.
                assert!(reads >= 3, "{scope:?} has only {reads} reads");
            }
        }
    }
}

#[test]
fn a_server_that_starts_while_reads_fail_makes_nothing_stale() {
    let bench = Bench::new();
    for fault in Fault::ALL {
        let mut reads = 0;
        loop {
            let (faults, _store, publisher) = Bench::open(&bench.scratch);
            faults.fail_after(reads, fault, false);
            let _ = publisher.publish(Scope::All);
            for (_, handle) in &bench.roots {
                let answer = publisher.exports.open(handle.as_bytes()).map(drop);
                assert!(matches!(answer, SERVED | WAITS), "{answer:?}: {fault:?}, {reads}");
            }
            let failed = faults.stop();
            publisher.look_again();
            for (_, handle) in &bench.roots {
                assert!(publisher.exports.open(handle.as_bytes()).is_ok(), "{fault:?}, {reads}");
            }
            if !failed {
                break;
            }
            reads += 1;
        }
    }
}

#[test]
fn what_is_served_stays_so_while_what_is_written_down_about_it_is_garbage() {
    let mut bench = Bench::new();
    let path = bench.path("meta/head.toml");
    let good = fs::read(&path).unwrap();
    fs::write(&path, "gibberish").unwrap();
    bench.publisher.publish(Scope::All).unwrap();
    assert_eq!(bench.answers(), [SERVED; 3]);
    assert!(bench.is_told("until that is corrected, head is served as before"));
    // Nothing is known of it then.
    bench.restart();
    assert_eq!(bench.answers(), [WAITS, SERVED, SERVED]);
    fs::write(&path, good).unwrap();
    bench.publisher.look_again();
    assert_eq!(bench.answers(), [SERVED; 3]);
    assert_eq!(bench.publisher.unserved(), [""; 0]);
}

#[test]
fn what_vanished_by_hand_waits_until_it_is_back_or_somebody_says_that_it_is_gone() {
    let mut bench = Bench::new();
    fs::rename(bench.path("be/head"), bench.path("aside")).unwrap();
    bench.publisher.publish(Scope::All).unwrap();
    assert_eq!(bench.answers(), [WAITS, SERVED, SERVED]);
    assert!(bench.is_told("`netbe destroy -f head`"));
    fs::rename(bench.path("aside"), bench.path("be/head")).unwrap();
    bench.publisher.look_again();
    assert_eq!(bench.answers(), [SERVED; 3]);
    fs::remove_dir_all(bench.path("be/head")).unwrap();
    bench.publisher.publish(Scope::All).unwrap();
    assert_eq!(bench.answers(), [WAITS, SERVED, SERVED]);
    // As `netbe destroy -f head` does.
    assert_eq!(bench.publisher.needing(&name("head")).unwrap(), [bench.uuid("head")]);
    gone::remember(&bench.publisher.state, bench.uuid("head"), "head").unwrap();
    bench.publisher.publish(Scope::Named(&[name("head")])).unwrap();
    assert_eq!(bench.answers(), [GONE, SERVED, SERVED]);
    assert_eq!(bench.publisher.unserved(), [""; 0]);
    bench.restart();
    assert_eq!(bench.answers(), [GONE, SERVED, SERVED]);
}

#[test]
fn what_nobody_knows_the_name_of_is_said_to_be_gone_by_its_identity() {
    let mut bench = Bench::new();
    fs::remove_dir_all(bench.path("be/head")).unwrap();
    bench.restart();
    assert_eq!(bench.answers(), [WAITS, SERVED, SERVED]);
    let uuid = bench.uuid("head");
    gone::remember(&bench.publisher.state, uuid, "head").unwrap();
    bench.publisher.publish(Scope::Named(&[name(&uuid.to_string())])).unwrap();
    assert_eq!(bench.answers(), [GONE, SERVED, SERVED]);
}

#[test]
fn what_was_taken_out_of_use_is_gone_until_it_is_taken_back_also_after_a_restart() {
    let mut bench = Bench::new();
    let head = [name("head")];
    bench.store.set_role(&head[0], Role::Off).unwrap();
    bench.publisher.publish(Scope::Named(&head)).unwrap();
    assert_eq!(bench.answers(), [GONE, SERVED, SERVED]);
    // It is remembered, whatever the store says then.
    let path = bench.path("meta/head.toml");
    let good = fs::read(&path).unwrap();
    fs::write(&path, "gibberish").unwrap();
    bench.restart();
    assert_eq!(bench.answers(), [GONE, SERVED, SERVED]);
    fs::write(&path, good).unwrap();
    bench.store.set_role(&head[0], Role::Environment).unwrap();
    bench.publisher.publish(Scope::Named(&head)).unwrap();
    assert_eq!(bench.answers(), [SERVED; 3]);
    assert!(!gone::is_gone(&bench.publisher.state, bench.uuid("head")).unwrap());
    bench.restart();
    assert_eq!(bench.answers(), [SERVED; 3]);
}

#[test]
fn what_gets_another_name_under_a_hold_is_served_by_it() {
    let bench = Bench::new();
    let held = bench.publisher.needing(&name("head")).unwrap();
    assert_eq!(bench.publisher.hold(&held, || None::<()>), None);
    bench.publisher.close_held(&held, &name("head"), false).unwrap();
    assert_eq!(bench.answers(), [WAITS, SERVED, SERVED]);
    // Other commands have everything read again meanwhile, in every state of the rename.
    bench.publisher.publish(Scope::All).unwrap();
    bench.store.rename(&name("head"), &name("next")).unwrap();
    bench.publisher.publish(Scope::All).unwrap();
    bench.publisher.publish(Scope::Named(&[name("head"), name("next")])).unwrap();
    assert_eq!(bench.answers(), [WAITS, SERVED, SERVED]);
    assert_eq!(bench.publisher.unserved(), [""; 0]);
    bench.publisher.resume(&held, &[name("head"), name("next")]).unwrap();
    assert_eq!(bench.answers(), [SERVED; 3]);
    assert_eq!(bench.publisher.exports.of(held[0]).unwrap().path, "/be/next");
}

#[test]
fn what_is_held_or_away_is_not_missing_by_path_nor_by_name_and_what_is_gone_is() {
    let mut bench = Bench::new();
    let absent = |bench: &Bench, text: &str| {
        let path = format!("/be/{text}");
        let at = bench.publisher.exports.at(path.as_bytes()).map(drop);
        (at.err(), bench.publisher.boots.catalog().known(text) == catalog::Known::Away)
    };
    let waits = |bench: &Bench, text: &str| match absent(bench, text) {
        (Some(Absent::Waiting(_)), away) => away,
        _ => false,
    };
    assert_eq!(absent(&bench, "none"), (Some(Absent::Missing), false));
    let held = bench.publisher.needing(&name("head")).unwrap();
    assert_eq!(bench.publisher.hold(&held, || None::<()>), None);
    assert!(waits(&bench, "head"));
    bench.publisher.close_held(&held, &name("head"), false).unwrap();
    assert!(waits(&bench, "head"));
    bench.publisher.resume(&held, &[]).unwrap();
    assert_eq!(absent(&bench, "head").0, None);
    // Its directory is missing, what is written down about another cannot be read.
    fs::rename(bench.path("be/head"), bench.path("aside")).unwrap();
    fs::write(bench.path("meta/web1-head.toml"), "gibberish").unwrap();
    bench.publisher.publish(Scope::All).unwrap();
    assert!(waits(&bench, "head"));
    bench.restart();
    assert!(waits(&bench, "web1-head"));
    // Nothing was read yet.
    (_, _, bench.publisher) = Bench::open(&bench.scratch);
    assert!(waits(&bench, "none"));
    bench.publisher.publish(Scope::All).unwrap();
    assert_eq!(absent(&bench, "none"), (Some(Absent::Missing), false));
    bench.publisher.end(&bench.publisher.needing(&name("web1-data")).unwrap(), "web1-data");
    assert_eq!(absent(&bench, "web1-data"), (Some(Absent::Missing), false));
}

#[test]
fn a_boot_that_begins_before_the_hold_undoes_it_and_none_begins_after_it() {
    let bench = Bench::new();
    let head = bench.uuid("head");
    // Nobody lives on it when it is asked first; then somebody has begun to.
    let asked = std::cell::Cell::new(0);
    let living = || {
        asked.set(asked.get() + 1);
        let held = bench.publisher.exports.is_held(head);
        let bootable = bench.publisher.boots.catalog().environment(head).is_some();
        assert_eq!((held, bootable), (asked.get() == 2, asked.get() == 1));
        (asked.get() == 2).then_some("desk")
    };
    assert_eq!(bench.publisher.hold(&[head], living), Some("desk"));
    assert_eq!(bench.answers(), [SERVED; 3]);
    // Who lives from the beginning is not disturbed at all.
    let living = || {
        assert!(!bench.publisher.exports.is_held(head));
        Some("desk")
    };
    assert_eq!(bench.publisher.hold(&[head], living), Some("desk"));
    assert_eq!(bench.answers(), [SERVED; 3]);
}

#[test]
fn what_was_published_under_a_hold_that_is_undone_is_served() {
    let bench = Bench::new();
    let head = bench.uuid("head");
    let living = || {
        bench.publisher.exports.is_held(head).then(|| {
            bench.store.rename(&name("head"), &name("next")).unwrap();
            bench.publisher.publish(Scope::All).unwrap();
            "desk"
        })
    };
    assert_eq!(bench.publisher.hold(&[head], living), Some("desk"));
    assert_eq!(bench.publisher.exports.of(head).unwrap().path, "/be/next");
    assert_eq!(bench.publisher.boots.catalog().environment(head).unwrap().name, "next");
    assert_eq!(bench.answers(), [SERVED; 3]);
}

#[test]
fn a_command_has_the_tree_only_after_the_calls_that_run_on_it_have_ended() {
    let bench = Bench::new();
    let held = bench.publisher.needing(&name("head")).unwrap();
    let running = bench.publisher.exports.enter(bench.roots[0].1.as_bytes()).unwrap();
    assert_eq!(bench.publisher.hold(&held, || None::<()>), None);
    thread::scope(|scope| {
        let closing = scope.spawn(|| bench.publisher.close_held(&held, &name("head"), false));
        thread::sleep(Duration::from_millis(300));
        assert!(!closing.is_finished(), "a write may still be on its way to the disk");
        assert!(bench.publisher.exports.open_of(held[0]).is_some());
        drop(running);
        closing.join().unwrap().unwrap();
    });
    bench.publisher.resume(&held, &[]).unwrap();
    assert_eq!(bench.answers(), [SERVED; 3]);
}

#[test]
fn who_has_the_data_of_a_machine_holds_its_roots() {
    let bench = Bench::new();
    let held = bench.publisher.needing(&name("web1-data")).unwrap();
    assert_eq!(held, [bench.uuid("web1-data"), bench.uuid("web1-head")]);
    assert_eq!(bench.publisher.hold(&held, || None::<()>), None);
    bench.publisher.close_held(&held, &name("web1-data"), false).unwrap();
    bench.publisher.publish(Scope::All).unwrap();
    assert_eq!(bench.answers(), [SERVED, WAITS, WAITS]);
    bench.publisher.resume(&held, &[]).unwrap();
    assert_eq!(bench.answers(), [SERVED; 3]);
}

#[test]
fn what_is_destroyed_by_the_server_is_gone_at_once_and_after_a_restart() {
    let mut bench = Bench::new();
    let held = bench.publisher.needing(&name("head")).unwrap();
    assert_eq!(bench.publisher.hold(&held, || None::<()>), None);
    bench.publisher.close_held(&held, &name("head"), false).unwrap();
    bench.store.destroy(&name("head")).unwrap();
    bench.publisher.end(&held, "head");
    bench.publisher.resume(&held, &[]).unwrap();
    assert_eq!(bench.answers(), [GONE, SERVED, SERVED]);
    bench.restart();
    assert_eq!(bench.answers(), [GONE, SERVED, SERVED]);
}

#[test]
fn two_with_one_identity_are_not_served_as_one() {
    let bench = Bench::new();
    fs::create_dir(bench.path("be/copy")).unwrap();
    fs::copy(bench.path("meta/head.toml"), bench.path("meta/copy.toml")).unwrap();
    bench.publisher.publish(Scope::All).unwrap();
    assert_eq!(bench.answers(), [SERVED; 3]);
    assert!(bench.is_told("it has the same identity as"));
}

#[test]
fn one_that_is_named_twice_is_served() {
    let bench = Bench::new();
    bench.publisher.publish(Scope::Named(&[name("head"), name("head")])).unwrap();
    assert_eq!(bench.answers(), [SERVED; 3]);
    assert_eq!(bench.publisher.unserved(), [""; 0]);
}

#[test]
fn what_is_open_is_served_while_another_still_hangs() {
    let mut bench = Bench::new();
    (bench.faults, bench.store, bench.publisher) = Bench::open(&bench.scratch);
    let hung = bench.faults.hang(Hang::Opening(name("head")));
    thread::scope(|scope| {
        let stuck = scope.spawn(|| bench.publisher.publish(Scope::All));
        let is_served = || bench.publisher.exports.of(bench.uuid("web1-head")).is_some();
        wait_until(is_served);
        assert!(!stuck.is_finished());
        let at = bench.publisher.exports.at(b"/be/head").map(drop);
        assert!(matches!(at, Err(Absent::Waiting(_))), "that it exists is known: {at:?}");
        drop(hung);
        stuck.join().unwrap().unwrap();
    });
    assert_eq!(bench.answers(), [SERVED; 3]);
}

#[test]
fn what_is_opened_still_keeps_its_reasons_and_the_next_publication_waits_for_it() {
    let bench = Bench::new();
    let why = "head: its disk is slow".to_owned();
    lock(&bench.publisher.found).unserved.insert(bench.uuid("head"), vec![why.clone()]);
    let change = |text: &str, insecure| {
        let settings = ExportSettings { insecure, ..ExportSettings::default() };
        bench.store.set_export(&name(text), settings).unwrap();
    };
    let is_insecure =
        |text: &str| bench.publisher.exports.of(bench.uuid(text)).unwrap().settings.insecure;
    for text in ["head", "web1-head"] {
        change(text, true);
    }
    let hung = bench.faults.hang(Hang::Opening(name("head")));
    thread::scope(|scope| {
        let publish = || scope.spawn(|| bench.publisher.publish(Scope::Changed).unwrap());
        let first = publish();
        wait_until(|| is_insecure("web1-head"));
        assert!(bench.is_told(&why) && !is_insecure("head"));
        assert!(lock(&bench.publisher.found).told.is_empty(), "nothing has come of it yet");
        change("web1-head", false);
        let second = publish();
        thread::sleep(Duration::from_millis(300));
        assert!(!first.is_finished() && !second.is_finished());
        drop(hung);
        first.join().unwrap();
        second.join().unwrap();
    });
    assert!(is_insecure("head") && !is_insecure("web1-head"));
    assert_eq!(bench.publisher.unserved(), [""; 0]);
}

#[test]
fn a_command_has_a_tree_only_after_the_publication_that_may_still_open_it() {
    let bench = Bench::new();
    let head = bench.publisher.needing(&name("head")).unwrap();
    let hold = || {
        assert_eq!(bench.publisher.hold(&head, || None::<()>), None);
        bench.publisher.close_held(&head, &name("head"), false).unwrap();
        assert!(bench.publisher.exports.open_of(head[0]).is_none());
        bench.publisher.end(&head, "head");
        bench.publisher.exports.apply([(head[0], Event::Resumed)]);
    };
    // A store of directories is served again: nothing has to be unmounted there.
    let detach = || drop(bench.publisher.detach());
    let commands: [(&(dyn Fn() + Sync), _); 2] =
        [(&detach, [SERVED; 3]), (&hold, [GONE, SERVED, SERVED])];
    for (command, answers) in commands {
        let hung = bench.faults.hang(Hang::Opening(name("head")));
        thread::scope(|scope| {
            let before = scope.spawn(|| bench.publisher.publish(Scope::All));
            hung.wait_until_reached();
            let command = scope.spawn(command);
            thread::sleep(Duration::from_millis(300));
            assert!(!before.is_finished() && !command.is_finished());
            drop(hung);
            before.join().unwrap().unwrap();
            command.join().unwrap();
        });
        assert_eq!(bench.answers(), answers);
    }
}

/// Waits for what must not wait for another environment's disk.
fn wait_until(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < OPENING / 2, "it waits for another one's disk");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_store_that_does_not_answer_while_it_is_read_is_told_of_meanwhile() {
    let bench = Bench::new();
    let begun = Begun::now(&bench.publisher.begun);
    assert!(!bench.is_told("has not answered"), "it has just begun");
    *lock(&bench.publisher.begun) = Instant::now().checked_sub(SLOW);
    assert!(bench.is_told("the store has been read for 15 s and has not answered"));
    drop(begun);
    assert_eq!(bench.publisher.unserved(), [""; 0]);
}
