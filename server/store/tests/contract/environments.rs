//! Environments: made, listed, renamed, decided about, destroyed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use store::{ExportSettings, Identity, Layout, Role, StoreError};

use crate::bench::{Bench, name, point, snapshot_name};

#[test]
fn a_new_environment_has_the_directories_of_its_layout() {
    let bench = Bench::new();
    let made = bench.store.create(&name("head"), Layout::FreeBsd).unwrap();
    let root = bench.files("head");
    for (path, mode) in [("", 0o755), ("tmp", 0o1777), ("usr/home", 0o755), ("var/audit", 0o750)] {
        let found = fs::symlink_metadata(root.join(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode, "{path}");
    }
    assert_eq!(made.datasets, Layout::FreeBsd.datasets());
    assert_eq!(bench.store.get(&name("head")).unwrap(), made);
}

#[test]
fn a_layout_s_data_sets_are_file_systems_where_the_store_can_nest() {
    let bench = Bench::new();
    bench.store.create(&name("head"), Layout::FreeBsd).unwrap();
    let parts = bench.store.open_parts(&name("head")).unwrap();
    let paths: Vec<&str> = parts.iter().map(|part| part.path.as_str()).collect();
    let sets = Layout::FreeBsd.datasets();
    let mounted = sets.iter().filter(|set| set.mounted()).map(store::Dataset::path);
    let expected: Vec<&str> = if bench.capabilities().nested {
        std::iter::once("").chain(mounted).collect()
    } else {
        vec![""]
    };
    assert_eq!(paths.first(), Some(&""), "the root comes first");
    assert_eq!(sorted(paths), sorted(expected));
}

#[test]
fn a_flat_environment_is_one_file_system() {
    let bench = Bench::new();
    bench.store.create(&name("head"), Layout::Flat).unwrap();
    assert_eq!(bench.store.open_parts(&name("head")).unwrap().len(), 1);
}

#[test]
fn parts_are_the_same_however_often_they_are_opened() {
    let bench = Bench::new();
    bench.create("head");
    let open = || {
        let parts = bench.store.open_parts(&name("head")).unwrap();
        let stat = |part: &store::Part| rustix::fs::fstat(&part.root).unwrap();
        parts.iter().map(|part| (part.path.clone(), stat(part).st_dev)).collect::<Vec<_>>()
    };
    assert_eq!(open(), open());
}

#[test]
fn the_list_has_the_space_that_the_store_counts_by_itself() {
    let bench = Bench::new();
    let head = bench.create("head");
    bench.put("head", "home/file", "content");
    let (listing, footprints) = bench.store.list_with_footprints().unwrap();
    assert_eq!(listing.environments, std::slice::from_ref(&head));
    let store::Footprint { space, mounts } = footprints[&head.uuid].clone();
    assert_eq!(mounts, []);
    let capabilities = bench.capabilities();
    if capabilities.clones_depend {
        assert!(space.used.unwrap() > 0, "{space:?}");
    } else if !capabilities.nested {
        assert_eq!(space, store::Space::default(), "every file was looked at");
    }
    // btrfs counts where quota groups are on; `store figures on btrfs` of the lab sees to that.
}

#[test]
fn environments_are_listed_by_name() {
    let bench = Bench::new();
    for text in ["b", "a", "c 1"] {
        bench.create(text);
    }
    assert_eq!(bench.names(), ["a", "b", "c 1"]);
}

#[test]
fn a_name_in_use_is_refused() {
    let bench = Bench::new();
    bench.create("head");
    bench.create("desk");
    let again = bench.store.create(&name("head"), Layout::Flat);
    assert!(matches!(again, Err(StoreError::Exists(_))), "{again:?}");
    let clone = bench.store.clone_environment(&point("head"), &name("head"));
    assert!(matches!(clone, Err(StoreError::Exists(_))), "{clone:?}");
    let renamed = bench.store.rename(&name("desk"), &name("head"));
    assert!(matches!(renamed, Err(StoreError::Exists(_))), "{renamed:?}");
    assert_eq!(bench.names(), ["desk", "head"]);
}

#[test]
fn what_is_not_there_is_said_to_be_not_there() {
    let bench = Bench::new();
    let store = &bench.store;
    let (gone, other) = (name("gone"), name("other"));
    let says = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::NoEnvironment(_))), "{result:?}");
    };
    says(store.get(&gone).map(drop));
    says(store.clone_environment(&point("gone"), &other).map(drop));
    says(store.rename(&gone, &other));
    says(store.promote(&gone));
    says(store.destroy(&gone));
    says(store.snapshots(&gone).map(drop));
    says(store.snapshot(&gone, &snapshot_name("s")).map(drop));
    says(store.open_root(&gone).map(drop));
    says(store.open_parts(&gone).map(drop));
    says(store.set_role(&gone, Role::Template).map(drop));
    assert_eq!(bench.names(), [""; 0]);
}

#[test]
fn a_renamed_environment_keeps_all_but_its_name() {
    let bench = Bench::new();
    let before = bench.create("head");
    bench.put("head", "var/log/messages", "hello");
    bench.snapshot("head@one");
    bench.store.set(&name("head"), "os", Some("FreeBSD")).unwrap();
    bench.store.rename(&name("head"), &name("new head")).unwrap();
    let after = bench.store.get(&name("new head")).unwrap();
    assert_eq!(after.uuid, before.uuid);
    assert_eq!(after.created, before.created);
    assert_eq!(after.settings.value("os"), Some("FreeBSD"));
    assert_eq!(bench.names(), ["new head"]);
    assert_eq!(bench.snapshots("new head"), ["one"]);
    assert_eq!(bench.read("new head", "var/log/messages").as_deref(), Some("hello"));
}

#[test]
fn what_is_decided_about_an_environment_is_read_back_by_others() {
    let bench = Bench::new();
    let made = bench.create("head");
    let export = ExportSettings {
        shared: true,
        read_only: true,
        maproot: Some(Identity::root()),
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        ..ExportSettings::default()
    };
    bench.store.set_export(&name("head"), export.clone()).unwrap();
    bench.store.set_role(&name("head"), Role::Template).unwrap();
    bench.store.set(&name("head"), "release", Some("14.3 'quoted' ü")).unwrap();
    bench.store.mark_data(&name("head"), "home", true).unwrap();
    let after = bench.reopened().get(&name("head")).unwrap();
    assert_eq!(after.export, export);
    assert_eq!(after.role, Role::Template);
    assert_eq!(after.settings.value("release"), Some("14.3 'quoted' ü"));
    assert!(after.datasets.iter().all(|set| set.data() == (set.path() == "home")));
    assert_eq!(after.uuid, made.uuid);
}

#[test]
fn a_setting_can_be_taken_back() {
    let bench = Bench::new();
    bench.create("head");
    bench.store.set(&name("head"), "os", Some("Debian")).unwrap();
    bench.store.set(&name("head"), "os", None).unwrap();
    assert_eq!(bench.store.get(&name("head")).unwrap().settings.value("os"), None);
}

#[test]
fn a_destroyed_environment_is_gone_with_its_snapshots() {
    let bench = Bench::new();
    let first = bench.create("head");
    bench.put("head", "home/file", "x");
    bench.snapshot("head@one");
    bench.destroy("head").unwrap();
    assert_eq!(bench.names(), [""; 0]);
    // Nothing of it appears again under its name.
    let second = bench.create("head");
    assert_ne!(first.uuid, second.uuid);
    assert_eq!(bench.snapshots("head"), [""; 0]);
    assert_eq!(bench.read("head", "home/file"), None);
}

#[test]
fn a_survey_tells_what_lists_tell() {
    let bench = Bench::new();
    bench.create("a");
    bench.snapshot("a@one");
    bench.create("b");
    let survey = bench.store.survey().unwrap();
    assert!(survey.unreadable.is_empty(), "{:?}", survey.unreadable);
    let listed = bench.store.list().unwrap().environments;
    let surveyed: Vec<_> =
        survey.holdings.iter().map(|holding| holding.environment.clone()).collect();
    assert_eq!(surveyed, listed);
    let snapshots = survey.holdings[0].snapshots.iter().map(|(snapshot, _)| snapshot.name.as_str());
    assert_eq!(snapshots.collect::<Vec<_>>(), ["one"]);
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all
}
