//! Verbs that are killed at every point between two of their steps.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use uuid::Uuid;

use crate::fault::test::killed_after;
use crate::{
    Decision, EnvironmentName, Lacking, Layout, Location, Newer, Point, Role, SnapshotName, Store,
    StoreError,
};

/// A store with an environment of three snapshots, a clone of it, and a copy that has but the first of
/// them and may go on from there.
struct Bench {
    dir: TempDir,
    store: Store,
    whole: Vec<u8>,
    news: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let place = Location::Directory(dir.path().join("store"));
        let store = Store::establish(&place, dir.path()).unwrap();
        let mut bench = Self { dir, store, whole: Vec::new(), news: Vec::new() };
        bench.store.create(&name("head"), Layout::Flat).unwrap();
        for snapshot in SNAPSHOTS {
            fs::write(bench.file("head"), snapshot).unwrap();
            bench.store.snapshot(&name("head"), &snapshot_name(snapshot)).unwrap();
        }
        bench.store.clone_environment(&name("head").into(), &name("clone")).unwrap();
        for part in ["bin", "etc", "lib", "usr"] {
            fs::create_dir(bench.store.root(&name("clone")).join(part)).unwrap();
        }
        bench.whole = bench.sent("one", None);
        bench.news = bench.sent("two", Some("one"));
        bench.receive("copy", &bench.whole);
        bench
    }

    fn file(&self, text: &str) -> PathBuf {
        self.store.root(&name(text)).join("file")
    }

    fn sent(&self, to: &str, base: Option<&str>) -> Vec<u8> {
        let (to, base) = (snapshot_name(to), base.map(snapshot_name));
        let mut stream = Vec::new();
        self.store.send(&name("head"), &to, base.as_ref(), &mut stream).unwrap();
        stream
    }

    fn receive(&self, text: &str, stream: &[u8]) {
        self.store.receive(&name(text), Lacking::Refuse, &mut &*stream).unwrap();
    }

    /// Of each environment its name, what it was cloned from, a setting, its file and its snapshots with
    /// how they differ from it.
    fn state(&self) -> Vec<String> {
        let listing = self.store.list().unwrap();
        assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
        let environments = listing.environments.iter();
        let told = environments.map(|environment| {
            let name = &environment.name;
            let origin = environment.origin.as_ref().map(|origin| origin.name.to_string());
            let setting = environment.settings.value("os").map(str::to_owned);
            let file = fs::read_to_string(self.file(name.as_str())).ok();
            let snapshots = self.store.snapshots(name).unwrap().into_iter().map(|snapshot| {
                let old = Point::snapshot(name, &snapshot.name);
                let changes = self.store.diff(&old, &name.clone().into()).unwrap();
                (snapshot.name.to_string(), changes.len())
            });
            let snapshots: Vec<_> = snapshots.collect();
            let role = environment.role;
            format!("{name} {origin:?} {role} {setting:?} {file:?} {snapshots:?}")
        });
        told.collect()
    }

    /// What commands were working on, and snapshots of nobody.
    fn leftovers(&self) -> Vec<PathBuf> {
        let uuids = self.store.list().unwrap().environments;
        let uuids: Vec<_> = uuids.iter().map(|known| known.uuid.to_string()).collect();
        let files = |part| {
            let dir = fs::read_dir(self.dir.path().join("store").join(part)).unwrap();
            dir.map(|entry| entry.unwrap().path())
        };
        let is = |path: &PathBuf, name: &str| path.file_name().unwrap() == name;
        let work = files("be").filter(|path| {
            path.file_name().unwrap().to_str().is_some_and(|name| name.starts_with(".work"))
        });
        let orphans = files("snap").filter(|path| !uuids.iter().any(|uuid| is(path, uuid)));
        work.chain(orphans).collect()
    }
}

/// Nobody has destroyed it: one that cannot be listed is an environment nevertheless.
#[test]
fn what_a_killed_command_left_takes_no_snapshots_of_others_with_it() {
    type Hidden = fn(&Path);
    let hidden: [(&str, Hidden); 2] = [
        ("no metadata", |store| fs::rename(store.join("meta/head.toml"), store.join("x")).unwrap()),
        ("a symbolic link", |store| {
            fs::rename(store.join("be/head"), store.join("head")).unwrap();
            symlink("../head", store.join("be/head")).unwrap();
        }),
    ];
    for (what, hide) in hidden {
        for passed in 0..3 {
            let bench = Bench::new();
            let snapshots = || fs::read_dir(bench.dir.path().join("store/snap")).unwrap().count();
            let before = snapshots();
            hide(&bench.dir.path().join("store"));
            let verb = || drop(bench.store.create(&name("new"), Layout::Flat));
            assert!(killed_after(passed, verb).is_none(), "{what}");
            bench.store.set(&name("clone"), "os", Some("next")).unwrap();
            assert_eq!(snapshots(), before, "{what}, killed after {passed} points");
        }
    }
}

/// What cannot be removed is tried again, and stops nothing else.
#[test]
fn a_leftover_that_cannot_be_cleared_away_stops_only_its_own_environment() {
    let bench = Bench::new();
    // Just after the metadata was written.
    let written = |bench: &Bench, passed| {
        let meta = bench.dir.path().join("store/meta/new.toml");
        killed_after(passed, || bench.store.rename(&name("copy"), &name("new"))).is_none()
            && meta.exists()
    };
    let passed = (0..).find(|passed| written(&Bench::new(), *passed)).unwrap();
    assert!(written(&bench, passed) && !bench.dir.path().join("store/be/new").exists());
    let meta = bench.dir.path().join("store/meta");
    // A file of netbe's own that cannot be removed, because it is none.
    fs::remove_file(meta.join("new.toml")).unwrap();
    fs::create_dir_all(meta.join("new.toml/x")).unwrap();
    for tries in [1, 2, 3, 4, 5, 5, 5] {
        bench.store.set(&name("clone"), "os", Some("next")).unwrap();
        let [left] = &bench.store.pending().unwrap()[..] else { panic!() };
        assert_eq!((left.verb.as_str(), left.tries), ("rename", tries));
    }
    let refused = bench.store.set(&name("copy"), "os", Some("next")).unwrap_err();
    assert!(matches!(refused, StoreError::Unsettled { .. }), "{refused}");
    assert_eq!(bench.store.settle(None).unwrap()[0].tries, 6);
    fs::remove_dir_all(meta.join("new.toml")).unwrap();
    assert_eq!(bench.store.settle(None).unwrap(), []);
    bench.store.set(&name("copy"), "os", Some("next")).unwrap();
    assert_eq!(bench.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn what_is_called_as_a_workspace_is_shown_and_not_removed() {
    let bench = Bench::new();
    let stray = bench.dir.path().join(format!("store/be/.work-{}", Uuid::new_v4()));
    fs::create_dir_all(stray.join("old/etc")).unwrap();
    fs::write(stray.join("announced-head"), "").unwrap();
    bench.store.set(&name("clone"), "os", Some("next")).unwrap();
    let [left] = &bench.store.settle(None).unwrap()[..] else { panic!() };
    assert!(left.error.as_ref().unwrap().contains("older netbe"), "{left:?}");
    assert!(stray.join("old/etc").exists());
}

/// A record outlasts its end where the end did not reach the disk: it is settled again then.
#[test]
fn a_record_that_comes_back_changes_nothing() {
    type Played = fn(&Bench);
    let verbs: [(&str, Played); 5] = [
        ("rollback", |bench| {
            bench.store.rollback(&name("head"), &snapshot_name("one"), Newer::Destroy).unwrap();
        }),
        ("rename", |bench| bench.store.rename(&name("head"), &name("new")).unwrap()),
        ("destroy", |bench| bench.store.destroy(&name("head")).unwrap()),
        ("receive", |bench| bench.receive("copy", &bench.news)),
        ("create", |bench| drop(bench.store.create(&name("new"), Layout::Flat).unwrap())),
    ];
    for (what, verb) in verbs {
        // Every record that there was, before each point.
        for passed in 1.. {
            let bench = Bench::new();
            let folder = bench.dir.path().join("store/journal");
            let ended = killed_after(passed, || verb(&bench)).is_some();
            let records = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
            let records = records.filter(|path| path.extension().is_some_and(|it| it == "json"));
            let records: Vec<_> = records.map(|path| (fs::read(&path).unwrap(), path)).collect();
            bench.store.set(&name("clone"), "os", Some("next")).unwrap();
            if bench.store.get(&name("head")).is_ok()
                && bench.store.snapshots(&name("head")).unwrap().len() == 1
            {
                // Another one under the name of one that went.
                bench.store.snapshot(&name("head"), &snapshot_name("two")).unwrap();
            }
            let before = bench.state();
            for (text, path) in records {
                fs::write(path, text).unwrap();
            }
            bench.store.set(&name("clone"), "os", Some("next")).unwrap();
            assert_eq!(bench.state(), before, "{what} after {passed} points");
            assert_eq!(bench.store.pending().unwrap(), [], "{what} after {passed} points");
            if ended {
                break;
            }
        }
    }
}

#[test]
fn snapshots_go_with_an_environment_of_which_only_the_uuid_can_be_read() {
    let bench = Bench::new();
    let file = bench.dir.path().join("store/meta/head.toml");
    let broken = format!("{}\nschema = ", fs::read_to_string(&file).unwrap());
    fs::write(&file, broken).unwrap();
    assert_eq!(bench.store.list().unwrap().unreadable.len(), 1);
    bench.store.destroy(&name("head")).unwrap();
    assert_eq!(bench.leftovers(), Vec::<PathBuf>::new());
}

/// Plays a verb again and again, each time killed at a later point, and after each kill another command
/// that has nothing to do with it. Each time, the verb was done or was not.
fn play(verb: impl Fn(&Bench)) {
    let next = |bench: &Bench| drop(bench.store.set(&name("clone"), "os", Some("next")));
    let reached = |verb: &dyn Fn(&Bench)| {
        let bench = Bench::new();
        verb(&bench);
        next(&bench);
        bench.state()
    };
    let (before, after) = (reached(&|_| {}), reached(&verb));
    assert_ne!(before, after);
    let mut outcomes = Vec::new();
    for passed in 0.. {
        let bench = Bench::new();
        let ended = killed_after(passed, || verb(&bench)).is_some();
        next(&bench);
        let state = bench.state();
        assert!(state == before || state == after, "after {passed} points: {state:#?}");
        assert_eq!(bench.leftovers(), Vec::<PathBuf>::new(), "after {passed} points");
        outcomes.push(state == after);
        if ended {
            break;
        }
    }
    // Once done it stays done, and there were points on both sides.
    assert!(outcomes.is_sorted() && !outcomes[0] && outcomes.len() > 3, "{outcomes:?}");
}

#[test]
fn a_creation_is_done_or_not() {
    play(|bench| drop(bench.store.create(&name("new"), Layout::Flat)));
}

#[test]
fn a_clone_is_made_or_not() {
    play(|bench| drop(bench.store.clone_environment(&point("head@two"), &name("new"))));
}

#[test]
fn a_draft_becomes_whole_or_goes() {
    play(|bench| {
        let draft = bench.store.draft(&point("head@two"), &name("new")).unwrap();
        fs::write(bench.file("new"), "more").unwrap();
        draft.finish(&[Decision::Role(Role::Client)]).unwrap();
    });
}

#[test]
fn an_environment_is_filled_or_as_it_was() {
    play(|bench| {
        let draft = bench.store.fill(bench.store.hold(&name("head")).unwrap()).unwrap();
        fs::write(bench.file("head"), "full").unwrap();
        draft.finish(&[]).unwrap();
    });
    play(|bench| {
        let hold = bench.store.hold(&name("new")).unwrap();
        let draft = bench.store.create_to_fill(hold, Layout::Flat).unwrap();
        fs::write(bench.file("new"), "full").unwrap();
        draft.finish(&[]).unwrap();
    });
}

#[test]
fn a_template_is_split_into_both_halves_or_none() {
    play(|bench| assert!(bench.store.split(&name("clone")).unwrap()));
}

#[test]
fn a_renaming_is_done_or_not() {
    play(|bench| bench.store.rename(&name("head"), &name("new")).unwrap());
}

#[test]
fn a_promotion_is_done_or_not() {
    play(|bench| bench.store.promote(&name("clone")).unwrap());
}

#[test]
fn an_environment_is_destroyed_or_not() {
    play(|bench| bench.store.destroy(&name("head")).unwrap());
}

#[test]
fn a_rollback_takes_all_newer_snapshots_with_it_or_none() {
    play(|bench| {
        let to = snapshot_name("one");
        bench.store.rollback(&name("head"), &to, Newer::Destroy).unwrap();
    });
}

#[test]
fn an_environment_arrives_with_its_snapshot_or_not_at_all() {
    play(|bench| bench.receive("new", &bench.whole));
}

#[test]
fn news_arrive_with_their_snapshot_or_not_at_all() {
    play(|bench| bench.receive("copy", &bench.news));
}

#[test]
fn what_another_did_meanwhile_is_not_undone_by_what_follows() {
    let bench = Bench::new();
    let rollback = || bench.store.rollback(&name("head"), &snapshot_name("one"), Newer::Destroy);
    // Just after the trees were exchanged.
    let exchanged = (0..).find(|passed| {
        let bench = Bench::new();
        let to = snapshot_name("one");
        let rollback = || bench.store.rollback(&name("head"), &to, Newer::Destroy);
        killed_after(*passed, rollback).is_none()
            && fs::read_to_string(bench.file("head")).unwrap() == "one"
    });
    assert!(killed_after(exchanged.unwrap(), rollback).is_none());
    assert_eq!(fs::read_to_string(bench.file("head")).unwrap(), "one");
    assert_eq!(bench.store.snapshots(&name("head")).unwrap().len(), 3);
    // As if the killed one were forgotten by everybody but the last.
    let [work] = bench.leftovers().try_into().unwrap();
    let store = bench.dir.path().join("store");
    let hidden = bench.dir.path().join("hidden");
    fs::rename(store.join("journal"), &hidden).unwrap();
    fs::rename(&work, hidden.join("work")).unwrap();
    bench.store.destroy(&name("head")).unwrap();
    bench.store.create(&name("head"), Layout::Flat).unwrap();
    bench.store.snapshot(&name("head"), &snapshot_name("two")).unwrap();
    fs::rename(hidden.join("work"), &work).unwrap();
    fs::remove_dir_all(store.join("journal")).unwrap();
    fs::rename(&hidden, store.join("journal")).unwrap();
    bench.store.create(&name("next"), Layout::Flat).unwrap();
    assert_eq!(bench.store.snapshots(&name("head")).unwrap().len(), 1);
    assert_eq!(bench.leftovers(), Vec::<PathBuf>::new());
}

fn name(text: &str) -> EnvironmentName {
    text.parse().unwrap()
}

fn snapshot_name(text: &str) -> SnapshotName {
    text.parse().unwrap()
}

fn point(text: &str) -> Point {
    text.parse().unwrap()
}

const SNAPSHOTS: [&str; 3] = ["one", "two", "three"];
