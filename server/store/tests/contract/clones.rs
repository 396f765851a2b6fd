//! Clones: like what they were made of, and apart from it.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use store::{ExportSettings, Role};

use crate::bench::{Bench, name, point, snapshot_name, synchronize};
use crate::picture::{HOLE, furnish};

#[test]
fn a_clone_cannot_be_told_from_its_source_by_its_files() {
    let bench = Bench::new();
    bench.create("head");
    furnish(&bench.files("head"));
    bench.clone_of("head", "desk");
    bench.picture("head").assert_same(&bench.picture("desk"));
}

#[test]
fn a_clone_of_a_clone_s_snapshot_is_whole_too() {
    let bench = Bench::new();
    bench.create("head");
    furnish(&bench.files("head"));
    bench.clone_of("head", "desk");
    bench.snapshot("desk@one");
    bench.clone_of("desk@one", "lap");
    bench.picture("head").assert_same(&bench.picture("lap"));
}

#[test]
fn source_and_clone_go_their_own_ways() {
    let bench = Bench::new();
    bench.create("head");
    bench.put("head", "home/file", "common");
    bench.clone_of("head", "desk");
    bench.put("desk", "home/file", "desk's");
    bench.put("head", "var/log/new", "head's");
    assert_eq!(bench.read("head", "home/file").as_deref(), Some("common"));
    assert_eq!(bench.read("desk", "var/log/new"), None);
}

#[test]
fn a_clone_has_an_identity_of_its_own_and_is_not_shared() {
    let bench = Bench::new();
    let source = bench.create("head");
    let export = ExportSettings { shared: true, ..ExportSettings::default() };
    bench.store.set_export(&name("head"), export).unwrap();
    bench.store.set_role(&name("head"), Role::Template).unwrap();
    bench.store.set(&name("head"), "os", Some("FreeBSD")).unwrap();
    bench.snapshot("head@one");
    for (from, snapshot) in [("head", None), ("head@one", Some(snapshot_name("one")))] {
        let clone = bench.store.clone_environment(&point(from), &name("desk")).unwrap();
        assert_ne!(clone.uuid, source.uuid);
        assert_eq!(clone.layout, source.layout);
        assert_eq!(clone.datasets, source.datasets);
        assert_eq!(clone.settings.value("os"), Some("FreeBSD"));
        assert_eq!(clone.export, ExportSettings::default());
        assert_eq!(clone.role, Role::Environment);
        let origin = clone.origin.clone().unwrap();
        assert_eq!(origin.uuid, source.uuid);
        assert!(snapshot.is_none() || origin.snapshot == snapshot, "{origin:?}");
        assert_eq!(bench.store.get(&name("desk")).unwrap(), clone);
        bench.destroy("desk").unwrap();
    }
}

#[test]
fn a_clone_s_file_systems_are_not_those_of_its_source() {
    let bench = Bench::new();
    bench.create("head");
    bench.clone_of("head", "desk");
    let roots = |text| {
        let parts = bench.store.open_parts(&name(text)).unwrap();
        let stats = parts.iter().map(|part| rustix::fs::fstat(&part.root).unwrap());
        stats.map(|stat| (stat.st_dev, stat.st_ino)).collect::<Vec<_>>()
    };
    let (head, desk) = (roots("head"), roots("desk"));
    assert_eq!(head.len(), desk.len());
    assert!(head.iter().all(|root| !desk.contains(root)), "{head:?} {desk:?}");
}

#[test]
fn a_clone_keeps_holes() {
    let bench = Bench::new();
    bench.create("head");
    furnish(&bench.files("head"));
    bench.clone_of("head", "desk");
    let disk = bench.files("desk").join("home/disk");
    synchronize(&disk);
    let stat = fs::symlink_metadata(disk).unwrap();
    assert_eq!(stat.size(), 2 * HOLE);
    assert!(stat.blocks() * 512 < 1 << 20, "{} blocks", stat.blocks());
}

#[test]
fn a_clone_of_a_snapshot_knows_nothing_that_came_later() {
    let bench = Bench::new();
    bench.create("head");
    bench.put("head", "home/file", "then");
    bench.snapshot("head@then");
    bench.put("head", "home/file", "now");
    bench.clone_of("head@then", "desk");
    assert_eq!(bench.read("desk", "home/file").as_deref(), Some("then"));
    assert_eq!(bench.snapshots("desk"), [""; 0], "a clone has none of its source's snapshots");
}

#[test]
fn destroying_follows_no_symbolic_link() {
    let bench = Bench::new();
    bench.create("head");
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "x").unwrap();
    symlink(outside.path(), bench.files("head").join("home/dir")).unwrap();
    symlink(outside.path().join("precious"), bench.files("head").join("file")).unwrap();
    bench.destroy("head").unwrap();
    assert!(outside.path().join("precious").exists());
}
