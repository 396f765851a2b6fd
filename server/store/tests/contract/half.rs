//! Environments that are being filled, and what a kill leaves of them.

use std::time::Duration;

use store::{INSTALLING, Role, SnapshotName, StoreError};

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
    let (head, empty) = (name("head"), SnapshotName::of_empty_tree());
    bench.create("head");
    store.set(&head, INSTALLING, Some("be")).unwrap();
    store.set_role(&head, Role::Off).unwrap();
    store.snapshot(&head, &empty).unwrap();
    bench.put("head", "home/file", "x");
    bench.snapshot("head@now");
    let now = snapshot_name("now");
    let refused = [
        store.clone_environment(&point("head"), &name("other")).map(drop),
        store.clone_environment(&point("head@now"), &name("other")).map(drop),
        store.send(&head, &now, None, &mut Vec::new(), &mut |_| {}),
        store.set_role(&head, Role::Environment).map(drop),
        store.split(&head).map(drop),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(StoreError::Half(_))), "{refused:?}");
    }
    assert_eq!(bench.names(), ["head"]);
    store.destroy_snapshot(&head, &empty).unwrap();
    store.set_role(&head, Role::Environment).unwrap();
    bench.clone_of("head", "other");
}
