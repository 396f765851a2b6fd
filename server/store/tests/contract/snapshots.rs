//! Snapshots: frozen, listed, gone back to, in the way of what others depend on.

use std::fs;
use std::path::PathBuf;

use store::{ChangeKind, FileKind, InUse, Newer, StoreError};

use crate::bench::{Bench, is_root, name, point, snapshot_name};
use crate::picture::{Picture, furnish};

#[test]
fn a_snapshot_keeps_what_was_there() {
    let bench = Bench::new();
    bench.create("head");
    furnish(&bench.files("head"));
    let then = bench.picture("head");
    bench.snapshot("head@then");
    bench.put("head", "var/log/messages", "changed");
    fs::remove_file(bench.files("head").join("home/disk")).unwrap();
    then.assert_same(&bench.picture_of_snapshot("head@then"));
}

#[test]
fn snapshots_are_listed_in_the_order_they_were_made() {
    let bench = Bench::new();
    bench.create("head");
    let made = ["z", "a", "m 1"].map(|snapshot| bench.snapshot(&format!("head@{snapshot}")));
    assert_eq!(bench.snapshots("head"), ["z", "a", "m 1"]);
    let listed = bench.store.snapshots(&name("head")).unwrap();
    assert_eq!(listed, made);
    assert_ne!(made[0].uuid, made[1].uuid);
}

#[test]
fn a_snapshot_of_a_name_in_use_is_refused_and_the_first_one_kept() {
    let bench = Bench::new();
    bench.create("head");
    bench.put("head", "home/file", "first");
    bench.snapshot("head@one");
    bench.put("head", "home/file", "second");
    let again = bench.store.snapshot(&name("head"), &snapshot_name("one"));
    assert!(matches!(again, Err(StoreError::SnapshotExists(_))), "{again:?}");
    bench.store.rollback(&name("head"), &snapshot_name("one"), Newer::Refuse).unwrap();
    assert_eq!(bench.read("head", "home/file").as_deref(), Some("first"));
}

#[test]
fn a_snapshot_that_is_not_there_is_said_to_be_not_there() {
    let bench = Bench::new();
    bench.create("head");
    let says = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::NoSnapshot(_))), "{result:?}");
    };
    let gone = snapshot_name("gone");
    says(bench.store.destroy_snapshot(&name("head"), &gone));
    says(bench.store.rollback(&name("head"), &gone, Newer::Refuse));
    says(bench.store.clone_environment(&point("head@gone"), &name("desk")).map(drop));
    says(bench.store.diff(&point("head@gone"), &point("head")).map(drop));
    says(bench.store.send(&name("head"), &gone, None, &mut Vec::new()));
    assert_eq!(bench.names(), ["head"]);
}

#[test]
fn a_destroyed_snapshot_is_gone_and_the_others_stay() {
    let bench = Bench::new();
    bench.create("head");
    for (content, snapshot) in [("1", "head@one"), ("2", "head@two"), ("3", "head@three")] {
        bench.put("head", "home/file", content);
        bench.snapshot(snapshot);
    }
    bench.destroy_snapshot("head@two").unwrap();
    assert_eq!(bench.snapshots("head"), ["one", "three"]);
    bench.clone_of("head@one", "old");
    assert_eq!(bench.read("old", "home/file").as_deref(), Some("1"));
    assert_eq!(bench.read("head", "home/file").as_deref(), Some("3"));
}

#[test]
fn a_rollback_brings_everything_back_but_what_was_decided() {
    let bench = Bench::new();
    bench.create("head");
    furnish(&bench.files("head"));
    let then = bench.picture("head");
    bench.snapshot("head@then");
    fs::remove_dir_all(bench.files("head").join("bin")).unwrap();
    bench.put("head", "var/log/messages", "changed");
    let decided = bench.store.set(&name("head"), "os", Some("Debian")).unwrap();
    bench.store.rollback(&name("head"), &snapshot_name("then"), Newer::Refuse).unwrap();
    then.assert_same(&bench.picture("head"));
    assert_eq!(bench.store.get(&name("head")).unwrap(), decided);
    assert_eq!(bench.snapshots("head"), ["then"]);
}

#[test]
fn after_a_rollback_one_can_write_and_go_back_again() {
    let bench = Bench::new();
    bench.create("head");
    bench.put("head", "home/file", "then");
    bench.snapshot("head@then");
    for content in ["one", "two"] {
        bench.put("head", "home/file", content);
        bench.store.rollback(&name("head"), &snapshot_name("then"), Newer::Refuse).unwrap();
        assert_eq!(bench.read("head", "home/file").as_deref(), Some("then"));
    }
}

#[test]
fn a_rollback_past_newer_snapshots_names_them_and_changes_nothing() {
    let bench = Bench::new();
    bench.create("head");
    for (content, snapshot) in [("1", "head@one"), ("2", "head@two"), ("3", "head@three")] {
        bench.put("head", "home/file", content);
        bench.snapshot(snapshot);
    }
    let refused = bench.store.rollback(&name("head"), &snapshot_name("one"), Newer::Refuse);
    let said = refused.unwrap_err();
    assert!(matches!(said, StoreError::Newer { .. }), "{said}");
    assert!(["two", "three"].iter().all(|newer| said.to_string().contains(newer)), "{said}");
    assert_eq!(bench.snapshots("head"), ["one", "two", "three"]);
    assert_eq!(bench.read("head", "home/file").as_deref(), Some("3"));
    bench.store.rollback(&name("head"), &snapshot_name("one"), Newer::Destroy).unwrap();
    assert_eq!(bench.snapshots("head"), ["one"]);
    assert_eq!(bench.read("head", "home/file").as_deref(), Some("1"));
}

#[test]
fn what_a_destruction_would_take_is_told_and_stays() {
    let bench = Bench::new();
    bench.create("head");
    for snapshot in ["head@one", "head@two"] {
        bench.snapshot(snapshot);
    }
    let told = |text: &str| bench.store.would_destroy(&point(text)).map(|doomed| doomed.points);
    assert_eq!(told("head@one").unwrap(), [point("head@one")]);
    assert_eq!(told("head").unwrap(), [point("head"), point("head@one"), point("head@two")]);
    // What is a file system of its own goes too, and is named.
    let parts = bench.store.would_destroy(&point("head")).unwrap().parts;
    let is_one_tree = bench.place().to_string().starts_with("dir:");
    assert_eq!(parts.iter().any(|part| part.ends_with("/head/home")), !is_one_tree, "{parts:?}");
    assert!(matches!(told("head@three"), Err(StoreError::NoSnapshot(_))));
    assert!(matches!(told("desk"), Err(StoreError::NoEnvironment(_))));
    bench.clone_of("head@one", "desk");
    let depends = bench.capabilities().clones_depend;
    for text in ["head", "head@one"] {
        let refused = matches!(told(text), Err(StoreError::Dependants { .. }));
        assert_eq!(refused, depends, "{text}");
    }
    assert_eq!(told("desk").unwrap(), [point("desk")]);
    assert_eq!(
        (bench.names(), bench.snapshots("head")),
        (vec!["desk".to_owned(), "head".to_owned()], vec!["one".to_owned(), "two".to_owned()],)
    );
}

#[test]
fn what_depends_on_a_snapshot_keeps_it_and_is_named() {
    let bench = Bench::new();
    bench.create("head");
    bench.put("head", "home/file", "then");
    bench.snapshot("head@then");
    bench.clone_of("head@then", "desk");
    let (snapshot, whole) = (bench.destroy_snapshot("head@then"), bench.destroy("head"));
    if bench.capabilities().clones_depend {
        for refused in [snapshot, whole] {
            let said = refused.unwrap_err();
            assert!(matches!(said, StoreError::Dependants { .. }), "{said}");
            assert!(said.to_string().contains("desk"), "{said}");
        }
        assert_eq!(bench.names(), ["desk", "head"]);
        assert_eq!(bench.snapshots("head"), ["then"]);
        bench.destroy("desk").unwrap();
        bench.destroy("head").unwrap();
    } else {
        snapshot.unwrap();
        whole.unwrap();
        assert_eq!(bench.read("desk", "home/file").as_deref(), Some("then"));
    }
}

#[test]
fn after_a_promotion_the_origin_can_be_destroyed() {
    let bench = Bench::new();
    bench.create("head");
    bench.put("head", "home/file", "then");
    bench.snapshot("head@then");
    bench.clone_of("head@then", "desk");
    bench.put("desk", "home/file", "now");
    let uuids = ["head", "desk"].map(|text| bench.store.get(&name(text)).unwrap().uuid);
    bench.store.promote(&name("desk")).unwrap();
    let [head, desk] = ["head", "desk"].map(|text| bench.store.get(&name(text)).unwrap());
    assert_eq!([head.uuid, desk.uuid], uuids);
    assert_eq!(desk.origin, None);
    assert_eq!(head.origin.unwrap().uuid, desk.uuid);
    bench.destroy("head").unwrap();
    assert_eq!(bench.names(), ["desk"]);
    assert_eq!(bench.read("desk", "home/file").as_deref(), Some("now"));
}

#[test]
fn what_is_no_clone_is_not_promoted() {
    let bench = Bench::new();
    bench.create("head");
    let refused = bench.store.promote(&name("head"));
    assert!(matches!(refused, Err(StoreError::NoOrigin(_))), "{refused:?}");
}

#[test]
fn a_difference_names_what_was_added_changed_and_removed() {
    let bench = Bench::new();
    bench.create("head");
    for path in ["home/stays", "home/changes", "home/goes"] {
        bench.put("head", path, "then");
    }
    bench.snapshot("head@then");
    let root = bench.files("head");
    fs::write(root.join("home/changes"), "now, and longer").unwrap();
    fs::remove_file(root.join("home/goes")).unwrap();
    fs::create_dir(root.join("var/log/new")).unwrap();
    fs::write(root.join("top"), "new").unwrap();
    let found = bench.store.diff(&point("head@then"), &point("head")).unwrap();
    let found: Vec<_> =
        found.into_iter().map(|change| (change.kind, change.file, change.path)).collect();
    let expected = [
        (ChangeKind::Changed, FileKind::Regular, PathBuf::from("home/changes")),
        (ChangeKind::Removed, FileKind::Regular, PathBuf::from("home/goes")),
        (ChangeKind::Added, FileKind::Regular, PathBuf::from("top")),
        (ChangeKind::Added, FileKind::Directory, PathBuf::from("var/log/new")),
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_newest_snapshot_shows_an_environment_until_that_changes_in_any_part() {
    let bench = Bench::new();
    bench.create("head");
    let shown = || {
        let newest = bench.store.newest_unchanged(&name("head")).unwrap();
        newest.map(|snapshot| snapshot.name.to_string())
    };
    assert_eq!(shown(), None);
    bench.put("head", "home/file", "then");
    bench.snapshot("head@one");
    bench.snapshot("head@two");
    assert_eq!(shown().as_deref(), Some("two"));
    // As long as before, and as old as before.
    let file = bench.files("head").join("home/file");
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, "THEN").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    assert_eq!(shown(), None);
    bench.snapshot("head@three");
    assert_eq!(shown().as_deref(), Some("three"));
    fs::remove_file(&file).unwrap();
    assert_eq!(shown(), None);
}

#[test]
fn a_renamed_file_is_new_under_one_name_and_gone_under_the_other() {
    let bench = Bench::new();
    bench.create("head");
    bench.put("head", "home/old", "the same bytes");
    bench.snapshot("head@then");
    let root = bench.files("head");
    fs::rename(root.join("home/old"), root.join("home/young")).unwrap();
    let found = bench.store.diff(&point("head@then"), &point("head")).unwrap();
    let kinds: Vec<_> = found.into_iter().map(|change| (change.kind, change.path)).collect();
    let (old, young) = (PathBuf::from("home/old"), PathBuf::from("home/young"));
    assert_eq!(kinds, [(ChangeKind::Removed, old), (ChangeKind::Added, young)]);
}

#[test]
fn two_snapshots_and_two_environments_can_be_compared() {
    let bench = Bench::new();
    bench.create("head");
    bench.snapshot("head@empty");
    bench.put("head", "home/file", "x");
    bench.snapshot("head@full");
    bench.clone_of("head@empty", "desk");
    let paths = |old, new| -> Vec<(ChangeKind, PathBuf)> {
        let found = bench.store.diff(&point(old), &point(new)).unwrap();
        found.into_iter().map(|change| (change.kind, change.path)).collect()
    };
    let file = || PathBuf::from("home/file");
    assert_eq!(paths("head@empty", "head@full"), [(ChangeKind::Added, file())]);
    assert_eq!(paths("head@full", "head"), []);
    assert_eq!(paths("head", "desk"), [(ChangeKind::Removed, file())]);
}

#[test]
fn a_snapshot_is_shown_elsewhere_and_cannot_be_written_to() {
    if !is_root() {
        println!("skipped: only the superuser mounts");
        return;
    }
    let bench = Bench::new();
    bench.create("head");
    furnish(&bench.files("head"));
    let then = bench.picture("head");
    bench.snapshot("head@then");
    bench.put("head", "var/log/messages", "changed");
    let target = tempfile::tempdir().unwrap();
    in_own_namespace(|| {
        // What is open belongs to the namespace that it was opened in.
        let store = bench.reopened();
        store.mount(&point("head@then"), target.path()).unwrap();
        let shown = Picture::of(target.path());
        let written = ["top", "var/log/below"].map(|path| fs::write(target.path().join(path), "x"));
        let unmounted = store.unmount(&name("head"), Some(target.path()), InUse::Refuse).unwrap();
        then.assert_same(&shown);
        assert!(written.iter().all(Result::is_err), "{written:?}");
        assert_eq!(unmounted, [target.path()]);
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
    });
}

#[test]
fn an_environment_is_shown_elsewhere_whole_and_can_be_written_to() {
    if !is_root() {
        println!("skipped: only the superuser mounts");
        return;
    }
    let bench = Bench::new();
    bench.create("head");
    let target = tempfile::tempdir().unwrap();
    in_own_namespace(|| {
        let store = bench.reopened();
        store.mount(&point("head"), target.path()).unwrap();
        fs::write(target.path().join("var/log/messages"), "from elsewhere").unwrap();
        let unmounted = store.unmount(&name("head"), None, InUse::Refuse).unwrap();
        assert!(unmounted.iter().any(|path| path == target.path()), "{unmounted:?}");
        let again = store.unmount(&name("head"), Some(target.path()), InUse::Refuse);
        assert!(matches!(again, Err(StoreError::NotMounted(..))), "{again:?}");
    });
    assert_eq!(bench.read("head", "var/log/messages").as_deref(), Some("from elsewhere"));
}

#[test]
fn what_is_mounted_elsewhere_does_not_go_and_the_rest_does() {
    if !is_root() {
        println!("skipped: only the superuser mounts");
        return;
    }
    let bench = Bench::new();
    bench.create("head");
    for snapshot in ["head@one", "head@two", "head@three"] {
        bench.snapshot(snapshot);
    }
    let (live, frozen) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    in_own_namespace(|| {
        let store = bench.reopened();
        let gone = |snapshot| store.destroy_snapshot(&name("head"), &snapshot_name(snapshot));
        let refused = |done: Result<(), StoreError>, what: &str| {
            let Err(StoreError::Mounted { point: mounted, at: _ }) = &done else {
                panic!("{what}: {done:?}");
            };
            assert_eq!(*mounted, point(what));
        };
        store.mount(&point("head"), live.path()).unwrap();
        store.mount(&point("head@one"), frozen.path()).unwrap();
        gone("three").unwrap();
        refused(gone("one"), "head@one");
        refused(store.rollback(&name("head"), &snapshot_name("two"), Newer::Refuse), "head");
        store.unmount(&name("head"), Some(live.path()), InUse::Refuse).unwrap();
        refused(store.destroy(&name("head")), "head@one");
        store.unmount(&name("head"), None, InUse::Refuse).unwrap();
        gone("one").unwrap();
    });
    assert_eq!(bench.snapshots("head"), ["two"]);
}

#[test]
fn what_has_files_open_keeps_a_mount_unless_it_is_forced() {
    if !is_root() {
        println!("skipped: only the superuser mounts");
        return;
    }
    let bench = Bench::new();
    bench.create("head");
    bench.put("head", "home/file", "open");
    bench.snapshot("head@then");
    let target = tempfile::tempdir().unwrap();
    in_own_namespace(|| {
        let store = bench.reopened();
        for shown in ["head", "head@then"] {
            store.mount(&point(shown), target.path()).unwrap();
            let mut open = fs::File::open(target.path().join("home/file")).unwrap();
            let refused = store.unmount(&name("head"), None, InUse::Refuse);
            assert!(matches!(refused, Err(StoreError::Busy { .. })), "{refused:?}");
            let undone = store.unmount(&name("head"), None, InUse::Detach).unwrap();
            assert_eq!(undone, [target.path()]);
            assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
            if cfg!(target_os = "linux") {
                assert_eq!(std::io::read_to_string(&mut open).unwrap(), "open");
            }
        }
    });
}

/// Runs something where its mounts are nobody else's, and are gone with it.
fn in_own_namespace(act: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            #[cfg(target_os = "linux")]
            {
                use nix::mount::{MsFlags, mount};
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                let none = None::<&std::path::Path>;
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            }
            act();
        });
        if let Err(failure) = inside.join() {
            std::panic::resume_unwind(failure);
        }
    });
}
