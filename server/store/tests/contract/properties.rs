//! Properties of the file system that environments are on.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use store::{Decision, Lacking, Location, Native, NativeChange, Newer, Role, StoreError, SyncMode};

use crate::bench::{Bench, name, snapshot_name};
use crate::streams::noise;

/// What a store has, and what it is to be set to.
enum Kind {
    Btrfs,
    Plain,
    Zfs,
}

fn kind(bench: &Bench) -> Kind {
    match bench.place() {
        Location::Btrfs(_) => Kind::Btrfs,
        Location::Directory(_) => Kind::Plain,
        Location::Zfs(_) => Kind::Zfs,
    }
}

/// Says why a test has nothing to show here.
fn other(stores: &str) {
    println!("skipped: it is about stores on {stores}");
}

/// The property that limits a tree, where there is one.
const fn limit_of(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Plain => None,
        Kind::Btrfs => Some("refquota"),
        Kind::Zfs => Some("quota"),
    }
}

fn change(property: &str, value: Option<&str>) -> Decision {
    let property = Native::of(property).unwrap();
    Decision::Native(NativeChange { property, value: value.map(str::to_owned) })
}

fn note(value: &str) -> Decision {
    Decision::Setting { key: "note".to_owned(), value: Some(value.to_owned()) }
}

/// A property's value and where it comes from.
fn get(bench: &Bench, text: &str, property: &str) -> Option<(String, String)> {
    let natives = bench.store.natives(&name(text)).unwrap();
    let found = natives.into_iter().find(|known| known.property.as_str() == property)?;
    Some((found.value, found.source))
}

fn value(bench: &Bench, text: &str, property: &str) -> String {
    get(bench, text, property).unwrap().0
}

fn written_note(bench: &Bench, text: &str) -> Option<String> {
    bench.store.get(&name(text)).unwrap().settings.value("note").map(str::to_owned)
}

/// Switches quota groups on, without which btrfs limits nothing; those of the whole file system.
fn with_limits(bench: &Bench) -> bool {
    if let Location::Btrfs(path) = bench.place() {
        let enabled = Command::new("btrfs").args(["quota", "enable"]).arg(path).status();
        return enabled.is_ok_and(|status| status.success());
    }
    true
}

#[test]
fn a_store_without_properties_of_its_own_refuses_them_and_what_is_set_with_them() {
    let bench = Bench::new();
    let Kind::Plain = kind(&bench) else { return other("directories") };
    bench.create("head");
    let before = bench.store.natives(&name("head")).unwrap();
    for property in Native::ALL {
        let decisions = [note("x"), change(property.as_str(), Some("1"))];
        let refused = bench.store.decide(&name("head"), &decisions).unwrap_err();
        assert!(matches!(refused, StoreError::Property { .. }), "{refused}");
    }
    assert_eq!(written_note(&bench, "head"), None);
    assert_eq!(bench.store.natives(&name("head")).unwrap(), before);
    assert!(before.iter().all(|known| known.property.as_str() == "sync"));
    assert_eq!(bench.store.pending().unwrap(), []);
}

#[test]
fn whether_changes_are_waited_for_is_decided_on_every_store() {
    let bench = Bench::new();
    let head = name("head");
    bench.create("head");
    let own = |text: &str| Some((text.to_owned(), "local".to_owned()));
    let is_zfs = matches!(kind(&bench), Kind::Zfs);
    let mode = |text: &str| bench.store.sync(&bench.store.get(&name(text)).unwrap());
    // What is below a data set inherits from it.
    let before = value(&bench, "head", "sync");
    assert!(is_zfs || before == "standard");
    assert_ne!(get(&bench, "head", "sync").unwrap().1, "local");
    for known in SyncMode::ALL {
        bench.store.decide(&head, &[change("sync", Some(known.as_str()))]).unwrap();
        assert_eq!(get(&bench, "head", "sync"), own(known.as_str()));
        // There the file system does it.
        assert_eq!(mode("head"), if is_zfs { SyncMode::Standard } else { known });
    }
    for wrong in ["1", "on", "Always", "disabled "] {
        let decisions = [note("x"), change("sync", Some(wrong))];
        bench.store.decide(&head, &decisions).unwrap_err();
        assert_eq!(written_note(&bench, "head"), None);
        assert_eq!(get(&bench, "head", "sync"), own("disabled"));
    }
    bench.snapshot("head@monday");
    bench.clone_of("head@monday", "copy");
    assert_eq!(value(&bench, "copy", "sync"), "disabled");
    bench.receive("other", &bench.sent("head@monday", None)).unwrap();
    assert_eq!(value(&bench, "other", "sync"), before);
    bench.store.decide(&head, &[change("sync", None)]).unwrap();
    assert_eq!((value(&bench, "head", "sync"), mode("head")), (before, SyncMode::Standard));
    assert_eq!(bench.store.pending().unwrap(), []);
}

#[test]
fn properties_are_set_and_shown_and_reset() {
    let bench = Bench::new();
    let head = name("head");
    bench.create("head");
    let (limit, compression) = match kind(&bench) {
        Kind::Plain => return other("ZFS and btrfs"),
        Kind::Btrfs => ("refquota", "zstd"),
        Kind::Zfs => ("quota", "gzip-2"),
    };
    assert!(with_limits(&bench));
    // Of what is said twice the last word counts, as with settings.
    let decisions = [
        change("compression", Some("off")),
        change(limit, Some("64M")),
        change("compression", Some(compression)),
        note("x"),
    ];
    bench.store.decide(&head, &decisions).unwrap();
    let own = |text: &str| Some((text.to_owned(), "local".to_owned()));
    assert_eq!(get(&bench, "head", limit), own(&(64 << 20).to_string()));
    assert_eq!(get(&bench, "head", "compression"), own(compression));
    assert_eq!(written_note(&bench, "head").as_deref(), Some("x"));
    bench.store.decide(&head, &[change(limit, None), change("compression", None)]).unwrap();
    assert_eq!(value(&bench, "head", limit), "0");
    assert_ne!(get(&bench, "head", "compression").unwrap().1, "local");
    assert_eq!(bench.store.pending().unwrap(), []);
}

#[test]
fn of_several_properties_all_are_set_or_none() {
    let bench = Bench::new();
    let head = name("head");
    bench.create("head");
    let wrong = match kind(&bench) {
        Kind::Plain => return other("ZFS and btrfs"),
        Kind::Btrfs => [change("refquota", Some("much")), change("atime", Some("off"))],
        // Less than it takes: the kernel says so after it has taken the others.
        Kind::Zfs => [change("quota", Some("1K")), change("compression", Some("much"))],
    };
    assert!(with_limits(&bench));
    bench.store.decide(&head, &[change("compression", Some("zstd"))]).unwrap();
    let before = bench.store.natives(&head).unwrap();
    for wrong in wrong {
        let decisions =
            [change("compression", Some("off")), wrong, note("x"), Decision::Role(Role::Template)];
        bench.store.decide(&head, &decisions).unwrap_err();
        assert_eq!(bench.store.natives(&head).unwrap(), before);
        assert_eq!(written_note(&bench, "head"), None);
        assert_eq!(bench.store.get(&head).unwrap().role, Role::Environment);
    }
    assert_eq!(bench.store.pending().unwrap(), []);
}

#[test]
fn what_was_set_stays_when_a_tree_goes_back_and_goes_with_a_clone_and_not_with_a_stream() {
    let bench = Bench::new();
    let head = name("head");
    bench.create("head");
    let Some(limit) = limit_of(kind(&bench)) else { return other("ZFS and btrfs") };
    assert!(with_limits(&bench));
    let compression = |value| change("compression", Some(value));
    bench.store.decide(&head, &[compression("zstd")]).unwrap();
    bench.snapshot("head@one");
    let decisions = [change(limit, Some("64M")), compression("off")];
    bench.store.decide(&head, &decisions).unwrap();
    bench.put("head", "file", "x");
    bench.store.rollback(&head, &snapshot_name("one"), Newer::Destroy).unwrap();
    assert_eq!(value(&bench, "head", limit), (64 << 20).to_string());
    assert_eq!(value(&bench, "head", "compression"), "off");
    // They are no content: nothing was changed since the snapshot.
    assert!(bench.store.newest_unchanged(&head).unwrap().is_some());
    for source in ["head", "head@one"] {
        bench.clone_of(source, "desk");
        assert_eq!(value(&bench, "desk", limit), (64 << 20).to_string(), "{source}");
        assert_eq!(value(&bench, "desk", "compression"), "off", "{source}");
        bench.destroy("desk").unwrap();
    }
    bench.store.rename(&head, &name("tail")).unwrap();
    assert_eq!(value(&bench, "tail", limit), (64 << 20).to_string());
    let stream = bench.sent("tail@one", None);
    bench.receive("came", &stream).unwrap();
    assert_eq!(value(&bench, "came", limit), "0");
    // News keep what the receiver has set.
    bench.store.decide(&name("came"), &[change(limit, Some("32M"))]).unwrap();
    bench.put("tail", "home/file", "more");
    bench.snapshot("tail@two");
    let news = bench.sent("tail@two", Some("one"));
    bench.store.receive(&name("came"), Lacking::Refuse, &mut &*news).unwrap();
    assert_eq!(bench.read("came", "home/file").as_deref(), Some("more"));
    assert_eq!(value(&bench, "came", limit), (32 << 20).to_string());
}

#[test]
fn what_is_over_its_limit_is_not_written() {
    let bench = Bench::new();
    bench.create("head");
    let Some(limit) = limit_of(kind(&bench)) else { return other("ZFS and btrfs") };
    assert!(with_limits(&bench));
    bench.store.decide(&name("head"), &[change(limit, Some("4M"))]).unwrap();
    let error = fill(&bench);
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded, "{error}");
}

/// Writes more into `head` than its limit allows; gives the refusal.
///
/// On btrfs no limit holds while quota groups are inconsistent, and the kernel may find them so whenever a
/// subvolume is deleted, as other tests do here: then they are counted anew.
fn fill(bench: &Bench) -> std::io::Error {
    let place = bench.files("head").join("big");
    for _ in 0..5 {
        let file = fs::File::create(&place).unwrap();
        let full = noise(16 << 20).chunks(4096).find_map(|piece| (&file).write_all(piece).err());
        // What was not asked for yet is refused when it is brought to the disk.
        if let Some(error) = full.or_else(|| file.sync_all().err()) {
            return error;
        }
        let Location::Btrfs(path) = bench.place() else { break };
        fs::remove_file(&place).unwrap();
        let rescan = Command::new("btrfs").args(["quota", "rescan", "-w"]).arg(path).status();
        assert!(rescan.unwrap().success());
    }
    panic!("no limit holds");
}

#[test]
fn what_is_full_can_be_kept_and_copied_and_destroyed() {
    let bench = Bench::new();
    let Kind::Btrfs = kind(&bench) else { return other("btrfs") };
    bench.create("head");
    assert!(with_limits(&bench));
    bench.store.decide(&name("head"), &[change("refquota", Some("4M"))]).unwrap();
    fill(&bench);
    bench.snapshot("head@full");
    bench.clone_of("head@full", "desk");
    assert_eq!(value(&bench, "desk", "refquota"), (4 << 20).to_string());
    bench.destroy("desk").unwrap();
    bench.store.destroy_snapshot(&name("head"), &snapshot_name("full")).unwrap();
    bench.destroy("head").unwrap();
    assert_eq!(bench.store.pending().unwrap(), []);
}

#[test]
fn what_is_full_is_compressed_from_now_on_and_keeps_its_limit() {
    let bench = Bench::new();
    let Kind::Btrfs = kind(&bench) else { return other("btrfs") };
    bench.create("head");
    let files = bench.files("head");
    for number in 0..200 {
        fs::create_dir_all(files.join(format!("srv/{number}/deep"))).unwrap();
    }
    assert!(with_limits(&bench));
    bench.store.decide(&name("head"), &[change("refquota", Some("4M"))]).unwrap();
    fill(&bench);
    bench.store.decide(&name("head"), &[change("compression", Some("zstd")), note("x")]).unwrap();
    assert_eq!(value(&bench, "head", "compression"), "zstd");
    assert_eq!(value(&bench, "head", "refquota"), (4 << 20).to_string());
    assert_eq!(written_note(&bench, "head").as_deref(), Some("x"));
    assert_eq!(bench.store.pending().unwrap(), []);
}

#[test]
fn a_limit_that_was_taken_away_does_not_come_back_and_a_clone_has_what_its_source_has_now() {
    let bench = Bench::new();
    let Kind::Btrfs = kind(&bench) else { return other("btrfs") };
    assert!(with_limits(&bench));
    bench.store.create(&name("flat"), store::Layout::Flat).unwrap();
    bench.store.decide(&name("flat"), &[change("refquota", Some("64M"))]).unwrap();
    bench.snapshot("flat@one");
    bench.store.decide(&name("flat"), &[change("refquota", None)]).unwrap();
    bench.clone_of("flat@one", "desk");
    assert_eq!(value(&bench, "desk", "refquota"), "0");
    bench.store.decide(&name("flat"), &[change("compression", Some("zstd"))]).unwrap();
    bench.clone_of("flat@one", "more");
    assert_eq!(value(&bench, "more", "compression"), "zstd");
    bench.store.rollback(&name("flat"), &snapshot_name("one"), Newer::Destroy).unwrap();
    assert_eq!(value(&bench, "flat", "refquota"), "0");
}

/// On btrfs a property is that of each directory, and each subvolume.
#[test]
#[cfg(target_os = "linux")]
fn what_is_made_in_any_directory_of_a_tree_on_btrfs_is_compressed() {
    let bench = Bench::new();
    let Kind::Btrfs = kind(&bench) else { return other("btrfs") };
    bench.create("head");
    let files = bench.files("head");
    fs::create_dir_all(files.join("home/anna/deep")).unwrap();
    bench.store.decide(&name("head"), &[change("compression", Some("lzo"))]).unwrap();
    for place in ["file", "home/anna/deep/file", "var/log/file"] {
        fs::write(files.join(place), "x").unwrap();
        let mut value = [0; 16];
        let len = rustix::fs::getxattr(files.join(place), c"btrfs.compression", &mut value);
        assert_eq!(&value[..len.unwrap()], b"lzo", "{place}");
    }
}

#[test]
fn a_limit_of_a_whole_tree_on_btrfs_is_refused_where_it_would_not_hold() {
    let bench = Bench::new();
    let Kind::Btrfs = kind(&bench) else { return other("btrfs") };
    bench.create("head");
    assert!(with_limits(&bench));
    let refused = bench.store.decide(&name("head"), &[change("quota", Some("64M"))]).unwrap_err();
    let said = refused.to_string();
    assert!(
        said.contains("set refquota") && matches!(refused, StoreError::Property { .. }),
        "{said}"
    );
    bench.store.create(&name("flat"), store::Layout::Flat).unwrap();
    bench.store.decide(&name("flat"), &[change("quota", Some("64M"))]).unwrap();
    assert_eq!(value(&bench, "flat", "refquota"), (64 << 20).to_string());
}
