//! Environments that take several verbs until they are whole, and what a kill leaves of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use store::{Decision, Draft, Layout, Role, StoreError};

use crate::bench::{Bench, name, point, snapshot_name};

#[test]
fn what_is_held_is_free_for_the_verbs_of_its_own_store_alone() {
    let bench = Bench::new();
    bench.create("head");
    let other = bench.reopened().with_lock_timeout(Duration::ZERO);
    let hold = bench.store.hold(&name("head")).unwrap();
    bench.store.set_role(&name("head"), Role::Off).unwrap();
    bench.snapshot("head@empty");
    let busy = other.destroy(&name("head")).unwrap_err();
    assert!(matches!(busy, StoreError::Busy { .. }), "{busy}");
    drop(hold);
    other.destroy(&name("head")).unwrap();
}

#[test]
fn half_a_system_is_not_spread_until_the_other_half_has_come() {
    let bench = Bench::new();
    let store = &bench.store;
    let head = name("head");
    bench.create("head");
    let draft = store.fill(store.hold(&head).unwrap()).unwrap();
    bench.put("head", "home/file", "x");
    bench.snapshot("head@now");
    let now = snapshot_name("now");
    let refused = [
        store.clone_environment(&point("head"), &name("other")).map(drop),
        store.clone_environment(&point("head@now"), &name("other")).map(drop),
        store.send(&head, &now, None, &mut Vec::new()),
        store.set_role(&head, Role::Environment).map(drop),
        store.split(&head).map(drop),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(StoreError::Half(_))), "{refused:?}");
    }
    assert_eq!(bench.names(), ["head"]);
    draft.finish(&[]).unwrap();
    assert_eq!(store.get(&head).unwrap().role, Role::Environment);
    bench.clone_of("head", "other");
}

/// Begins, and ends as a killed process does.
fn killed<'a>(begin: impl FnOnce() -> Draft<'a>) {
    let killed = catch_unwind(AssertUnwindSafe(|| {
        let _draft = begin();
        panic!("killed")
    }));
    assert!(killed.is_err());
}

#[test]
fn what_a_kill_leaves_of_a_draft_the_next_verb_takes_away() {
    let bench = Bench::new();
    let store = &bench.store;
    bench.create("head");
    bench.put("head", "home/file", "x");
    bench.snapshot("head@now");
    for source in ["head", "head@now"] {
        killed(|| store.draft(&point(source), &name("draft")).unwrap());
        let draft = store.get(&name("draft")).unwrap();
        assert!(draft.is_draft() && draft.role == Role::Off);
        bench.create("next");
        assert_eq!(bench.names(), ["head", "next"]);
        bench.destroy("next").unwrap();
    }
    killed(|| store.create_to_fill(store.hold(&name("new")).unwrap(), Layout::Flat).unwrap());
    assert!(store.get(&name("new")).unwrap().is_being_filled());
    bench.create("next");
    assert_eq!(bench.names(), ["head", "next"]);
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
    assert_eq!(store.snapshots(&name("head")).unwrap().len(), 1);
}

#[test]
fn what_a_kill_leaves_of_a_tree_that_was_filled_the_next_verb_gives_back() {
    let bench = Bench::new();
    let store = &bench.store;
    bench.create("head");
    bench.put("head", "home/file", "before");
    store.set_role(&name("head"), Role::Template).unwrap();
    let before = store.get(&name("head")).unwrap();
    killed(|| {
        let draft = store.fill(store.hold(&name("head")).unwrap()).unwrap();
        bench.put("head", "home/file", "half");
        bench.put("head", "home/more", "half");
        draft
    });
    assert_eq!(store.get(&name("head")).unwrap().role, Role::Off);
    bench.create("next");
    assert_eq!(store.get(&name("head")).unwrap(), before);
    assert_eq!(bench.read("head", "home/file").as_deref(), Some("before"));
    assert_eq!(store.snapshots(&name("head")).unwrap(), []);
    // What others made of it since is not taken away with it.
    killed(|| {
        let draft = store.fill(store.hold(&name("head")).unwrap()).unwrap();
        bench.snapshot("head@theirs");
        draft
    });
    bench.create("more");
    let left = store.pending().unwrap();
    assert!(left[0].error.as_ref().unwrap().contains("theirs"), "{left:?}");
    assert_eq!(store.snapshots(&name("head")).unwrap().len(), 2);
    store.destroy(&name("head")).unwrap();
    assert_eq!(store.pending().unwrap(), []);
}

#[test]
fn what_is_half_filled_goes_back_to_a_snapshot_from_before() {
    let bench = Bench::new();
    let store = &bench.store;
    bench.create("head");
    bench.put("head", "home/file", "monday");
    store.set_role(&name("head"), Role::Template).unwrap();
    bench.snapshot("head@monday");
    bench.put("head", "home/file", "tuesday");
    let before = store.get(&name("head")).unwrap();
    killed(|| {
        let draft = store.fill(store.hold(&name("head")).unwrap()).unwrap();
        bench.put("head", "home/file", "half");
        // Because of this it is not put back by itself.
        bench.snapshot("head@theirs");
        draft
    });
    bench.create("next");
    assert_eq!(store.pending().unwrap().len(), 1);
    store.rollback(&name("head"), &"monday".parse().unwrap(), store::Newer::Destroy).unwrap();
    assert_eq!(store.pending().unwrap(), []);
    assert_eq!(store.get(&name("head")).unwrap(), before);
    assert_eq!(bench.read("head", "home/file").as_deref(), Some("monday"));
}

#[test]
fn what_is_half_filled_and_has_nothing_to_go_back_to_is_not_taken_for_whole() {
    let bench = Bench::new();
    let store = &bench.store;
    bench.create("head");
    bench.put("head", "home/file", "before");
    killed(|| {
        let draft = store.fill(store.hold(&name("head")).unwrap()).unwrap();
        bench.put("head", "home/file", "half");
        let kept = store.snapshots(&name("head")).unwrap().pop().unwrap();
        store.destroy_snapshot(&name("head"), &kept.name).unwrap();
        draft
    });
    bench.create("next");
    let head = store.get(&name("head")).unwrap();
    assert!(head.is_being_filled() && head.role == Role::Off, "{head:?}");
    let left = store.pending().unwrap();
    assert!(left[0].error.as_ref().unwrap().contains("snapshot"), "{left:?}");
    store.destroy(&name("head")).unwrap();
    assert_eq!(store.pending().unwrap(), []);
}

#[test]
fn a_draft_becomes_what_is_decided_at_one_instant() {
    let bench = Bench::new();
    let store = &bench.store;
    bench.create("head");
    let draft = store.draft(&point("head"), &name("new")).unwrap();
    let setting = Decision::Setting { key: "os".to_owned(), value: Some("FreeBSD".to_owned()) };
    let made = draft.finish(&[Decision::Role(Role::Client), setting]).unwrap();
    assert_eq!(store.get(&name("new")).unwrap(), made);
    assert!(made.role == Role::Client && !made.is_draft());
    assert_eq!(made.settings.value("os"), Some("FreeBSD"));
    drop(store.draft(&point("head"), &name("gone")).unwrap());
    assert_eq!(bench.names(), ["head", "new"]);
    let exists = store.draft(&point("head"), &name("new")).unwrap_err();
    assert!(matches!(exists, StoreError::Exists(_)), "{exists}");
    assert_eq!(store.get(&name("new")).unwrap(), made);
    assert_eq!(store.pending().unwrap(), []);
}
