//! Boot environments on real ZFS.
//!
//! These need a machine with ZFS and a pool that nothing else is on: `NETBE_TEST_POOL` names it, and
//! `cargo lab test --only zfs` starts such a machine.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "these are tests")]

mod crafted;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use store::{
    Decision, Environment, EnvironmentName, Identity, InUse, Lacking, Layout, Location, Newer,
    Point, Role, SnapshotName, Store, StoreError,
};
use uuid::Uuid;

/// A store on the pool, destroyed with the test.
struct Site {
    dataset: String,
    state: tempfile::TempDir,
    store: Store,
}

impl Site {
    /// `None` where there is no pool to test on.
    fn new() -> Option<Self> {
        let Ok(pool) = std::env::var("NETBE_TEST_POOL") else {
            println!("skipped: NETBE_TEST_POOL names no pool");
            return None;
        };
        let dataset = format!("{pool}/{}", Uuid::new_v4());
        let state = tempfile::tempdir().unwrap();
        let store = Store::establish(&location(&dataset), state.path()).unwrap();
        Some(Self { dataset, state, store })
    }

    fn full(&self, name: &str) -> String {
        format!("{}/{name}", self.dataset)
    }

    /// Makes an environment with one file system in it, `usr/home`: a layout has ten, of which most are
    /// nothing but more time.
    fn create_nested(&self, text: &str) -> Environment {
        let made = self.store.create(&name(text), Layout::Flat).unwrap();
        zfs(&["create", "-o", "canmount=off", &self.full(&format!("{text}/usr"))]);
        zfs(&["create", "-o", "canmount=noauto", &self.full(&format!("{text}/usr/home"))]);
        // The directory that it is mounted on is there from the first mount on.
        self.root(text);
        self.store.get(&made.name).unwrap()
    }

    fn root(&self, text: &str) -> PathBuf {
        self.store.open_root(&name(text)).unwrap();
        self.store.root(&name(text))
    }

    fn names(&self) -> Vec<String> {
        let listing = self.store.list().unwrap();
        assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
        listing.environments.iter().map(|found| found.name.to_string()).collect()
    }

    fn guid(&self, name: &str) -> u64 {
        property(&self.full(name), "guid").parse().unwrap()
    }

    /// Writes an intent down as a killed command leaves it, on a host that was started anew since then.
    fn leave(&self, verb: &str, environment: &str, steps: &Value) -> Uuid {
        let uuid = self.store.get(&name(environment));
        let uuid = uuid.map_or_else(|_| Uuid::new_v4(), |known| known.uuid);
        let environments = json!([{"name": environment, "uuid": uuid}]);
        let intent = leave(&self.dataset, verb, &environments, steps);
        // Whoever lists the store sees it.
        self.store.list().unwrap();
        intent
    }

    /// Everything that is in the store's data set, by names below it.
    fn sets(&self) -> Vec<String> {
        let all = zfs(&["list", "-H", "-r", "-o", "name", "-t", "all", &self.dataset]);
        all.lines()
            .filter_map(|line| line.strip_prefix(&self.full("")))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for found in self.store.list().map(|listing| listing.environments).unwrap_or_default() {
            drop(self.store.release(&found.name));
        }
        drop(Command::new("zfs").args(["destroy", "-R", &self.dataset]).status());
    }
}

fn leave(store: &str, verb: &str, environments: &Value, steps: &Value) -> Uuid {
    let (intent, since) = (Uuid::new_v4(), "2026-11-20T13:30:00Z");
    let record = json!({
        "uuid": intent, "verb": verb, "environments": environments, "since": since, "steps": steps,
    });
    zfs(&["set", &format!("netbe.intent:{intent}={record}"), store]);
    intent
}

fn location(dataset: &str) -> Location {
    format!("zfs:{dataset}").parse().unwrap()
}

fn name(text: &str) -> EnvironmentName {
    text.parse().unwrap()
}

fn snapshot(text: &str) -> SnapshotName {
    text.parse().unwrap()
}

fn point(text: &str) -> Point {
    text.parse().unwrap()
}

fn zfs(words: &[&str]) -> String {
    run("zfs", words)
}

fn run(program: &str, words: &[&str]) -> String {
    let done = Command::new(program).args(words).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn property(dataset: &str, property: &str) -> String {
    zfs(&["get", "-H", "-p", "-o", "value", property, dataset]).trim_end().to_owned()
}

/// What is mounted where and how, one line for each, in the system's own words.
fn mounts() -> String {
    if cfg!(target_os = "linux") {
        return fs::read_to_string("/proc/self/mounts").unwrap();
    }
    let shown = Command::new("mount").output().unwrap();
    String::from_utf8(shown.stdout).unwrap()
}

#[test]
fn the_freebsd_layout_is_made_as_bectl_would_see_it() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::FreeBsd).unwrap();
    let full = site.full("head");
    assert_eq!(property(&full, "canmount"), "noauto");
    assert_eq!(property(&full, "mountpoint"), "/");
    assert_eq!(property(&format!("{full}/usr"), "canmount"), "off");
    assert_eq!(property(&format!("{full}/usr/home"), "mountpoint"), "/usr/home");
    assert_eq!(property(&format!("{full}/usr/home"), "canmount"), "noauto");
    assert_eq!(property(&format!("{full}/tmp"), "setuid"), "off");
    assert_eq!(property(&full, "mounted"), "no");
}

#[test]
fn a_value_that_looks_like_an_option_is_a_value() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::Flat).unwrap();
    let setting =
        |key: &str, value: &str| Decision::Setting { key: key.into(), value: Some(value.into()) };
    site.store.decide(&name("head"), &[setting("note", "-j"), setting("os", "-x")]).unwrap();
    let head = site.store.get(&name("head")).unwrap();
    assert_eq!(head.settings.value("note"), Some("-j"));
    assert_eq!(head.settings.value("os"), Some("-x"));
}

#[test]
fn a_tree_is_mounted_for_the_server_alone_and_without_devices_and_setuid() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::FreeBsd).unwrap();
    let parts = site.store.open_parts(&name("head")).unwrap();
    let paths: Vec<&str> = parts.iter().map(|part| part.path.as_str()).collect();
    let expected: Vec<String> = Layout::FreeBsd
        .datasets()
        .into_iter()
        .filter(|set| set.mounted())
        .map(|set| set.path().to_owned())
        .collect();
    assert_eq!(paths[0], "");
    assert_eq!(paths[1..], expected);
    let root = site.store.root(&name("head"));
    assert_eq!(fs::metadata(root.join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
    assert_eq!(fs::metadata(root.join("var/audit")).unwrap().permissions().mode() & 0o7777, 0o750);
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_ne!(
        fs::metadata(&root).unwrap().dev(),
        fs::metadata(root.join("usr/home")).unwrap().dev()
    );
    let above = root.ancestors().find(|above| above.ends_with("mnt")).unwrap();
    assert_eq!(fs::metadata(above).unwrap().permissions().mode() & 0o7777, 0o700);
    let shown = mounts();
    let own = shown.lines().filter(|line| line.starts_with(&site.full("head")));
    let own: Vec<&str> = own.collect();
    assert_eq!(own.len(), parts.len());
    assert!(own.iter().all(|line| line.contains("nosuid")), "{own:?}");
    // Device nodes of FreeBSD work on devfs alone.
    let nodev = own.iter().all(|line| line.contains("nodev"));
    assert!(nodev || cfg!(target_os = "freebsd"), "{own:?}");
    // Once more is not twice.
    drop(site.store.open_parts(&name("head")).unwrap());
    let again = mounts();
    let again = again.lines().filter(|line| line.starts_with(&site.full("head"))).count();
    assert_eq!(again, parts.len());
}

#[test]
fn the_state_may_be_reached_by_a_symbolic_link() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::FreeBsd).unwrap();
    let link = site.state.path().join("link");
    symlink(site.state.path(), &link).unwrap();
    let store = Store::open(&location(&site.dataset), &link).unwrap();
    let parts = store.open_parts(&name("head")).unwrap().len();
    assert!(parts > 1);
    assert_eq!(store.open_parts(&name("head")).unwrap().len(), parts);
    store.release(&name("head")).unwrap();
    store.rename(&name("head"), &name("other")).unwrap();
}

#[test]
fn what_bectl_made_is_found_and_used_as_it_is() {
    let Some(site) = Site::new() else { return };
    let full = site.full("default");
    zfs(&["create", "-o", "canmount=noauto", "-o", "mountpoint=/", &full]);
    zfs(&["create", "-o", "canmount=noauto", &format!("{full}/var")]);
    // A data set of another kind is none.
    zfs(&["create", "-o", "mountpoint=none", &site.full("images")]);
    assert_eq!(site.names(), ["default"]);
    let found = site.store.get(&name("default")).unwrap();
    assert_eq!((found.role, found.origin.as_ref()), (Role::Environment, None));
    assert_eq!(found.datasets.iter().map(|set| set.path()).collect::<Vec<_>>(), ["var"]);
    fs::write(site.root("default").join("var/file"), "x").unwrap();
    site.store.clone_environment(&point("default"), &name("copy")).unwrap();
    assert_eq!(fs::read(site.root("copy").join("var/file")).unwrap(), b"x");
    site.store.release(&name("default")).unwrap();
    zfs(&["rename", "-u", &full, &site.full("other")]);
    assert_eq!(site.store.get(&name("other")).unwrap().uuid, found.uuid);
}

#[test]
fn a_clone_of_bectl_has_an_identity_of_its_own_and_is_not_shared() {
    let Some(site) = Site::new() else { return };
    let head = site.store.create(&name("head"), Layout::Flat).unwrap();
    let export = store::ExportSettings { shared: true, ..store::ExportSettings::default() };
    site.store.set_export(&name("head"), export).unwrap();
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    // As libbe does: native properties only.
    let from = format!("{}@a", site.full("head"));
    zfs(&["clone", "-o", "canmount=noauto", "-o", "mountpoint=/", &from, &site.full("be")]);
    let found = site.store.get(&name("be")).unwrap();
    assert_ne!(found.uuid, head.uuid);
    assert!(!found.export.shared);
    let origin = found.origin.unwrap();
    assert_eq!(
        (origin.name, origin.uuid, origin.snapshot),
        (name("head"), head.uuid, Some(snapshot("a")))
    );
}

#[test]
fn a_clone_has_the_properties_of_its_source_and_its_snapshot_goes_with_it() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::Linux).unwrap();
    zfs(&["set", "compression=lz4", "com.example:note=a b", &site.full("head/home")]);
    site.store.mark_data(&name("head"), "home", true).unwrap();
    let made = site.store.clone_environment(&point("head"), &name("desk")).unwrap();
    assert_eq!(made, site.store.get(&name("desk")).unwrap());
    let home = site.full("desk/home");
    assert_eq!(property(&home, "compression"), "lz4");
    assert_eq!(property(&home, "com.example:note"), "a b");
    assert_eq!(property(&home, "netbe:data"), "on");
    assert_eq!(property(&home, "canmount"), "noauto");
    assert_eq!(property(&site.full("desk"), "acltype"), "posix");
    let automatic = site.store.snapshots(&name("head")).unwrap();
    assert_eq!(automatic.len(), 1);
    assert!(automatic[0].automatic);
    assert_eq!(automatic[0].clones, [name("desk")]);
    site.store.destroy(&name("desk")).unwrap();
    assert!(site.store.snapshots(&name("head")).unwrap().is_empty());
}

#[test]
fn a_data_set_that_is_mounted_before_its_parent_is_cloned_after_it() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::FreeBsd).unwrap();
    zfs(&["set", "mountpoint=/home", &site.full("head/usr/home")]);
    fs::write(site.root("head").join("home/file"), "1").unwrap();
    site.store.clone_environment(&point("head"), &name("desk")).unwrap();
    assert_eq!(fs::read(site.root("desk").join("home/file")).unwrap(), b"1");
    assert_eq!(property(&site.full("desk/usr/home"), "mountpoint"), "/home");
}

#[test]
fn a_promoted_clone_is_what_its_origin_depends_on() {
    let Some(site) = Site::new() else { return };
    site.create_nested("head");
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    site.store.clone_environment(&point("head@a"), &name("next")).unwrap();
    assert!(matches!(site.store.destroy(&name("head")), Err(StoreError::Dependants { .. })));
    site.store.promote(&name("next")).unwrap();
    assert_eq!(site.store.get(&name("next")).unwrap().origin, None);
    assert_eq!(site.store.get(&name("head")).unwrap().origin.unwrap().name, name("next"));
    site.store.destroy(&name("head")).unwrap();
    assert_eq!(site.names(), ["next"]);
}

#[test]
fn a_whole_tree_goes_back_to_a_snapshot_at_once() {
    let Some(site) = Site::new() else { return };
    site.create_nested("head");
    let root = site.root("head");
    fs::write(root.join("etc"), "1").unwrap();
    fs::write(root.join("usr/home/file"), "1").unwrap();
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    fs::write(root.join("etc"), "2").unwrap();
    fs::write(root.join("usr/home/file"), "2").unwrap();
    site.store.snapshot(&name("head"), &snapshot("b")).unwrap();
    fs::write(root.join("etc"), "3").unwrap();
    let refused = site.store.rollback(&name("head"), &snapshot("a"), Newer::Refuse);
    assert!(matches!(refused, Err(StoreError::Newer { .. })), "{refused:?}");
    site.store.rollback(&name("head"), &snapshot("a"), Newer::Destroy).unwrap();
    let root = site.root("head");
    assert_eq!(fs::read(root.join("etc")).unwrap(), b"1");
    assert_eq!(fs::read(root.join("usr/home/file")).unwrap(), b"1");
    assert_eq!(site.store.snapshots(&name("head")).unwrap().len(), 1);
}

#[test]
fn a_nested_template_is_split_into_halves_of_one_data_set_each() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::FreeBsd).unwrap();
    let root = site.root("head");
    for path in ["bin", "etc/ssl", "usr/share"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    for path in ["bin/sh", "usr/share/A.pem", "usr/src/Makefile", "var/log/messages"] {
        fs::write(root.join(path), path).unwrap();
    }
    symlink("../../usr/share/A.pem", root.join("etc/ssl/cert.pem")).unwrap();
    site.store.split(&name("head")).unwrap();
    let mut sets = site.sets();
    sets.retain(|set| set.starts_with("head-"));
    assert_eq!(sets, ["head-base", "head-skeleton"]);
    let (base, skeleton) = (site.root("head-base"), site.root("head-skeleton"));
    assert_eq!(fs::read_to_string(base.join("usr/src/Makefile")).unwrap(), "usr/src/Makefile");
    assert_eq!(fs::read_link(base.join("var")).unwrap(), Path::new("skeleton/var"));
    assert_eq!(fs::read_to_string(skeleton.join("var/log/messages")).unwrap(), "var/log/messages");
    let certificate = fs::read_link(skeleton.join("etc/ssl/cert.pem")).unwrap();
    assert_eq!(certificate, Path::new("../../../usr/share/A.pem"));
    // The shell's blocks are the template's.
    assert_eq!(
        property(&site.full("head-base"), "origin").split('@').next(),
        Some(&*site.full("head"))
    );
    let halves = site.store.halves(&name("head-base"), &name("head-skeleton")).unwrap();
    assert_eq!(store::thin::check(&halves).faults, []);
    site.store.split(&name("head")).unwrap();
}

#[test]
fn snapshots_that_others_made_of_a_part_are_not_rolled_over() {
    let Some(site) = Site::new() else { return };
    site.create_nested("head");
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    zfs(&["snapshot", &site.full("head/usr/home@hourly")]);
    let refused = site.store.rollback(&name("head"), &snapshot("a"), Newer::Destroy).unwrap_err();
    assert!(refused.to_string().contains("usr/home@hourly is newer"), "{refused}");
    assert!(site.sets().contains(&"head/usr/home@hourly".to_owned()));
}

#[test]
fn what_is_in_use_is_neither_renamed_nor_rolled_back_nor_destroyed() {
    let Some(site) = Site::new() else { return };
    site.create_nested("head");
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    let held = fs::File::create(site.root("head").join("usr/home/open")).unwrap();
    let busy = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::Busy { .. })), "{result:?}");
    };
    busy(site.store.rename(&name("head"), &name("other")));
    busy(site.store.rollback(&name("head"), &snapshot("a"), Newer::Refuse));
    busy(site.store.destroy(&name("head")));
    assert_eq!(site.names(), ["head"]);
    drop(held);
    site.store.rename(&name("head"), &name("other")).unwrap();
    assert!(site.root("other").join("usr/home/open").exists());
}

/// A child of this process has another thread's files open until it is a program of its own.
#[test]
fn what_is_in_use_for_a_moment_only_is_waited_for() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::Flat).unwrap();
    let held = fs::File::create(site.root("head").join("open")).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(200));
            drop(held);
        });
        site.store.rename(&name("head"), &name("old")).unwrap();
    });
}

#[test]
fn what_somebody_holds_or_shows_is_destroyed_whole_or_not_at_all() {
    let Some(site) = Site::new() else { return };
    site.create_nested("head");
    fs::write(site.root("head").join("usr/home/file"), "1").unwrap();
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    zfs(&["create", "-s", "-V", "1M", &site.full("head/disk")]);
    zfs(&["snapshot", &site.full("head/usr/home@mine")]);
    let doomed = site.store.would_destroy(&point("head")).unwrap();
    assert_eq!(doomed.points, [point("head"), point("head@a")]);
    for part in ["head/disk", "head/usr/home", "head/usr/home@a", "head/usr/home@mine"] {
        assert!(doomed.parts.contains(&site.full(part)), "{part}: {:?}", doomed.parts);
    }
    assert!(!doomed.parts.contains(&site.full("head@a")), "{:?}", doomed.parts);
    let before = site.sets();
    let refused = || {
        let refused = site.store.destroy(&name("head")).unwrap_err();
        assert!(matches!(refused, StoreError::Busy { .. }), "{refused}");
        assert!(refused.to_string().starts_with(&site.full("head/usr/home")), "{refused}");
        assert_eq!(site.sets(), before);
    };
    // As by zfs-hold(8), and for as long as a snapshot is sent.
    let held = site.full("head/usr/home@a");
    zfs(&["hold", "keep", &held]);
    refused();
    zfs(&["release", "keep", &held]);
    let home = site.root("head").join("usr/home");
    if cfg!(target_os = "linux") {
        // What somebody uses in a namespace of its own, as that of a service: it is not mounted here.
        let mut away = Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-ec",
                "cd \"$0\"; echo; exec sleep 600",
                home.to_str().unwrap(),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        away.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        refused();
        away.kill().unwrap();
        away.wait().unwrap();
    }
    site.root("head");
    assert_eq!(fs::read(home.join("file")).unwrap(), b"1");
    site.store.destroy(&name("head")).unwrap();
    assert!(site.sets().is_empty());
}

#[test]
fn a_full_pool_leaves_nothing_half_done() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::FreeBsd).unwrap();
    zfs(&["set", "quota=8M", &site.dataset]);
    let mut file = fs::File::create(site.root("head").join("usr/home/file")).unwrap();
    let block: Vec<u8> =
        (0..1_u32 << 18).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    while file.write_all(&block).and_then(|()| file.sync_all()).is_ok() {}
    drop(file);
    let before = site.sets();
    let refused = site.store.create(&name("next"), Layout::FreeBsd);
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    assert_eq!(site.sets(), before);
    zfs(&["set", "quota=none", &site.dataset]);
    site.store.create(&name("next"), Layout::FreeBsd).unwrap();
}

#[test]
fn a_pool_that_goes_away_is_said_and_used_again_when_it_is_back() {
    let Some(_site) = Site::new() else { return };
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("disk");
    fs::File::create(&file).unwrap().set_len(128 << 20).unwrap();
    let pool = format!("t{}", Uuid::new_v4().simple());
    let disk = file.to_str().unwrap();
    run("zpool", &["create", "-m", "none", &pool, disk]);
    let place = location(&format!("{pool}/be"));
    let store = Store::establish(&place, state.path()).unwrap();
    store.create(&name("head"), Layout::Flat).unwrap();
    let (left, uuid) = (format!("{pool}/be/.work-1"), Uuid::new_v4());
    let discard = json!([{"discard": {"name": ".work-1", "is": {"uuid": uuid}}}]);
    leave(&format!("{pool}/be"), "clone", &json!([]), &discard);
    assert_eq!(store.list().unwrap().environments.len(), 1);
    run("zpool", &["export", &pool]);
    let away = |error: StoreError| {
        assert!(matches!(error, StoreError::Away { .. }), "{error}");
        assert!(error.to_string().contains(&format!("zpool import {pool}")), "{error}");
    };
    away(store.list().unwrap_err());
    away(store.get(&name("head")).unwrap_err());
    away(store.open_parts(&name("head")).unwrap_err());
    away(store.create(&name("next"), Layout::Flat).unwrap_err());
    // What a killed command left is not forgotten because it cannot be seen.
    away(store.create(&name("next"), Layout::Flat).unwrap_err());
    // A server that starts before its pool is there.
    let early = Store::open(&place, state.path()).unwrap();
    away(early.list().unwrap_err());
    run("zpool", &["import", "-N", "-d", state.path().to_str().unwrap(), &pool]);
    assert_eq!(early.list().unwrap().environments.len(), 1);
    zfs(&["create", "-o", "mountpoint=none", "-o", &format!("netbe:uuid={uuid}"), &left]);
    store.set(&name("head"), "os", Some("Debian")).unwrap();
    assert_eq!(store.pending().unwrap(), []);
    assert_eq!(zfs(&["list", "-H", "-o", "name", "-r", &format!("{pool}/be")]).lines().count(), 2);
    store.open_parts(&name("head")).unwrap();
    store.release(&name("head")).unwrap();
    run("zpool", &["destroy", &pool]);
}

#[test]
fn mount_points_are_kept_without_the_directory_that_a_pool_is_imported_below() {
    let Some(_site) = Site::new() else { return };
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("disk");
    fs::File::create(&file).unwrap().set_len(128 << 20).unwrap();
    let pool = format!("t{}", Uuid::new_v4().simple());
    let disk = file.to_str().unwrap();
    run("zpool", &["create", "-m", "none", "-R", "/netbe-alt", &pool, disk]);
    let store = Store::establish(&location(&format!("{pool}/be")), state.path()).unwrap();
    let full = |name: &str| format!("{pool}/be/{name}");
    store.create(&name("head"), Layout::FreeBsd).unwrap();
    zfs(&["set", "mountpoint=/srv", &full("head/usr/home")]);
    store.clone_environment(&point("head"), &name("desk")).unwrap();
    store.snapshot(&name("head"), &snapshot("a")).unwrap();
    let mut stream = Vec::new();
    store.send(&name("head"), &snapshot("a"), None, &mut stream).unwrap();
    store.receive(&name("came"), Lacking::Refuse, &mut stream.as_slice()).unwrap();
    let parts = |text: &str| -> Vec<String> {
        let parts = store.open_parts(&name(text)).unwrap();
        let paths = parts.into_iter().map(|part| part.path).collect();
        store.release(&name(text)).unwrap();
        paths
    };
    assert!(parts("head").contains(&"srv".to_owned()));
    assert_eq!(parts("desk"), parts("head"));
    run("zpool", &["export", &pool]);
    run("zpool", &["import", "-N", "-d", state.path().to_str().unwrap(), &pool]);
    for made in ["desk", "came"] {
        assert_eq!(property(&full(made), "mountpoint"), "/");
        assert_eq!(property(&full(&format!("{made}/usr/home")), "mountpoint"), "/srv");
    }
    run("zpool", &["destroy", &pool]);
}

#[test]
fn what_is_encrypted_waits_for_its_key() {
    let Some(site) = Site::new() else { return };
    let full = site.full("secret");
    let key = site.state.path().join("key");
    fs::write(&key, [7; 32]).unwrap();
    zfs(&[
        "create",
        "-o",
        "canmount=noauto",
        "-o",
        "mountpoint=/",
        "-o",
        "encryption=on",
        "-o",
        "keyformat=raw",
        "-o",
        &format!("keylocation=file://{}", key.display()),
        &full,
    ]);
    site.store.create(&name("head"), Layout::Flat).unwrap();
    zfs(&["unload-key", &full]);
    let listing = site.store.list().unwrap();
    assert_eq!(listing.environments.len(), 2);
    let [unreadable] = listing.unreadable.as_slice() else { panic!("{listing:?}") };
    assert!(matches!(unreadable.error, StoreError::Key { .. }), "{listing:?}");
    let waits = |error: StoreError| {
        let said = error.to_string();
        assert!(matches!(error, StoreError::Key { .. }), "{said}");
        assert!(said.contains(&format!("zfs load-key {full}")), "{said}");
    };
    waits(site.store.open_parts(&name("secret")).unwrap_err());
    let target = site.state.path().join("target");
    fs::create_dir(&target).unwrap();
    waits(site.store.mount(&point("secret"), &target).unwrap_err());
    // The key is that of the data set that was encrypted, not of those that inherit it.
    let below = site.full("secret/usr");
    zfs(&["load-key", &full]);
    zfs(&["create", "-o", "canmount=noauto", &below]);
    zfs(&["snapshot", "-r", &format!("{full}@b")]);
    zfs(&[
        "clone",
        "-o",
        "canmount=noauto",
        "-o",
        "mountpoint=/",
        &format!("{full}@b"),
        &site.full("next"),
    ]);
    zfs(&["unload-key", &full]);
    waits(site.store.open_parts(&name("next")).unwrap_err());
    zfs(&["destroy", "-r", &site.full("next")]);
    zfs(&["destroy", "-r", &below]);
    zfs(&["load-key", &full]);
    site.store.open_parts(&name("secret")).unwrap();
    site.store.snapshot(&name("secret"), &snapshot("a")).unwrap();
    site.store.clone_environment(&point("secret@a"), &name("copy")).unwrap();
    site.store.open_parts(&name("copy")).unwrap();
}

#[test]
fn what_zfs_itself_received_is_off_until_it_is_given_a_role() {
    let Some(site) = Site::new() else { return };
    let head = site.create_nested("head");
    let export = store::ExportSettings {
        shared: true,
        maproot: Some(Identity::root()),
        ..store::ExportSettings::default()
    };
    site.store.set_export(&name("head"), export.clone()).unwrap();
    site.store.set(&name("head"), "release", Some("14.3")).unwrap();
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    let (from, to) = (site.full("head@a"), site.full("came"));
    let mut send = Command::new("zfs")
        .args(["send", "-R", "-p", &from])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let receive = Command::new("zfs")
        .args(["receive", "-u", &to])
        .stdin(send.stdout.take().unwrap())
        .status();
    assert!(receive.unwrap().success() && send.wait().unwrap().success());
    let came = site.store.get(&name("came")).unwrap();
    assert_eq!(came.role, Role::Off);
    assert!(!came.export.shared);
    assert_ne!(came.uuid, head.uuid);
    assert_eq!(came.settings.value("release"), Some("14.3"));
    let active = site.store.set_role(&name("came"), Role::Environment).unwrap();
    assert_eq!(active.uuid, came.uuid);
    let active = site.store.get(&name("came")).unwrap();
    assert_eq!((active.role, active.export.shared), (Role::Environment, false));
    // Nor does one by which zfs-set(8) gives it a role.
    zfs(&["inherit", "-S", "netbe:export", &site.full("came")]);
    assert!(property(&site.full("came"), "netbe:export").starts_with("rw"));
    assert!(!site.store.get(&name("came")).unwrap().export.shared);
}

#[test]
fn a_whole_tree_is_sent_and_what_is_new_after_it() {
    let Some(site) = Site::new() else { return };
    site.create_nested("head");
    zfs(&["set", "compression=lz4", &site.full("head/usr/home")]);
    let root = site.root("head");
    fs::write(root.join("usr/home/file"), "1").unwrap();
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    let mut whole = Vec::new();
    site.store.send(&name("head"), &snapshot("a"), None, &mut whole).unwrap();
    let came = site.store.receive(&name("came"), Lacking::Refuse, &mut whole.as_slice()).unwrap();
    assert_eq!(came.role, Role::Off);
    assert_eq!(fs::read(site.root("came").join("usr/home/file")).unwrap(), b"1");
    assert_eq!(property(&site.full("came/usr/home"), "compression"), "lz4");
    assert_eq!(property(&site.full("came/usr"), "canmount"), "off");
    assert_eq!(property(&site.full("came"), "mountpoint"), "/");
    fs::write(root.join("usr/home/file"), "2").unwrap();
    site.store.snapshot(&name("head"), &snapshot("b")).unwrap();
    let mut more = Vec::new();
    let base = snapshot("a");
    site.store.send(&name("head"), &snapshot("b"), Some(&base), &mut more).unwrap();
    // Cut anywhere it leaves nothing.
    for end in [more.len() / 3, more.len() - 1] {
        site.store.receive(&name("came"), Lacking::Refuse, &mut &more[..end]).unwrap_err();
        assert_eq!(site.store.snapshots(&name("came")).unwrap().len(), 1);
        site.store
            .receive(&name("part"), Lacking::Refuse, &mut &whole[..end.min(whole.len() - 1)])
            .unwrap_err();
        assert_eq!(site.names(), ["came", "head"]);
    }
    site.store.receive(&name("came"), Lacking::Refuse, &mut more.as_slice()).unwrap();
    assert_eq!(fs::read(site.root("came").join("usr/home/file")).unwrap(), b"2");
    assert_eq!(site.store.snapshots(&name("came")).unwrap().len(), 2);
    assert!(site.sets().iter().all(|set| !set.contains(".work-")));
}

#[test]
fn a_stream_that_would_decide_about_this_host_is_refused() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::Flat).unwrap();
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    let mut stream = Vec::new();
    site.store.send(&name("head"), &snapshot("a"), None, &mut stream).unwrap();
    let (header, _) = crafted::apart(&stream);
    let (head, clone, volume) = (site.full("head"), site.full("clone"), site.full("volume"));
    zfs(&["snapshot", &format!("{head}@b")]);
    zfs(&["clone", "-o", "canmount=noauto", &format!("{head}@a"), &clone]);
    zfs(&["create", "-s", "-V", "1M", &volume]);
    zfs(&["snapshot", &format!("{clone}@a")]);
    zfs(&["snapshot", &format!("{volume}@a")]);
    let before = site.sets();
    // As netbe sends one data set: its path, whether it goes on, no properties, and its stream in pieces.
    let crafted = |words: &[&str]| {
        let sent = Command::new("zfs").arg("send").args(words).output().unwrap().stdout;
        let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for piece in sent.chunks(1 << 20).chain([&[][..]]) {
            bytes.extend(u32::try_from(piece.len()).unwrap().to_be_bytes());
            bytes.extend(piece);
        }
        bytes.push(0);
        crafted::together(&header, &bytes)
    };
    let receive = |stream: &[u8]| site.store.receive(&name("came"), Lacking::Refuse, &mut &*stream);
    let (a, b) = (format!("{head}@a"), format!("{head}@b"));
    for (words, why) in [
        (&["-p", &a][..], "brings properties"),
        (&["-R", &b], "brings properties"),
        (&[&b], "another snapshot"),
        (&["-i", &a, &b], "another snapshot"),
        (&["-i", &a, &format!("{clone}@a")], "another snapshot"),
        (&[&format!("{volume}@a")], "no file system"),
    ] {
        let refused = receive(&crafted(words)).unwrap_err();
        assert!(matches!(refused, StoreError::Stream(_)), "{words:?}: {refused}");
        assert!(refused.to_string().contains(why), "{words:?}: {refused}");
        assert_eq!(site.sets(), before, "{words:?}");
    }
    receive(&crafted(&[&a])).unwrap();
    assert_eq!(property(&site.full("came"), "canmount"), "noauto");
}

#[test]
fn a_link_that_a_guest_put_where_a_data_set_belongs_is_not_followed() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::FreeBsd).unwrap();
    let root = site.root("head");
    site.store.release(&name("head")).unwrap();
    // The root alone, as a guest with the split view could change it.
    let full = site.full("head");
    fs::create_dir_all(&root).unwrap();
    let options: &[&str] = if cfg!(target_os = "linux") { &["-o", "zfsutil"] } else { &[] };
    run("mount", &[&["-t", "zfs"], options, &[&full, root.to_str().unwrap()]].concat());
    let outside = site.state.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir(root.join("tmp")).unwrap();
    symlink(&outside, root.join("tmp")).unwrap();
    run("umount", &[root.to_str().unwrap()]);
    let parts = site.store.open_parts(&name("head")).unwrap();
    assert!(parts.iter().all(|part| part.path != "tmp"));
    assert!(parts.iter().any(|part| part.path == "var/tmp"));
    assert!(!mounts().contains(outside.to_str().unwrap()));
}

#[test]
fn what_a_killed_command_left_is_cleared_away_by_the_next() {
    let Some(site) = Site::new() else { return };
    site.create_nested("head");
    let before = site.sets();
    // As a command leaves it that is killed while it clones, on a host that was started anew since then.
    let (work, uuid) = (site.full(".work-1"), Uuid::new_v4());
    let automatic = site.full("head@netbe-1");
    zfs(&["snapshot", "-r", &automatic]);
    let mark = format!("netbe:uuid={uuid}");
    zfs(&["clone", "-o", "canmount=noauto", "-o", "mountpoint=/", "-o", &mark, &automatic, &work]);
    let defer = json!({"defer": {"dataset": site.guid("head"), "snapshot": "netbe-1"}});
    let discard = json!({"discard": {"name": ".work-1", "is": {"uuid": uuid}}});
    site.leave("clone", "new", &json!([discard, defer]));
    let [left] = &site.store.pending().unwrap()[..] else { panic!() };
    assert_eq!((left.verb.as_str(), left.tries, &left.error), ("clone", 0, &None));
    assert_eq!(left.environments[0].name, "new");
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    let after: Vec<String> = site.sets().into_iter().filter(|set| !set.contains("@a")).collect();
    assert_eq!(after, before);
    assert_eq!(site.store.pending().unwrap(), []);
    assert!(!zfs(&["get", "-H", "-s", "local", "all", &site.dataset]).contains("netbe.intent"));
}

/// A clone that was being made has no record in the pool: its hidden name and what is written on it are one.
#[test]
fn what_tells_itself_that_it_was_being_made_is_cleared_away() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::Flat).unwrap();
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    let (half, other) = (Uuid::new_v4(), Uuid::new_v4());
    let (half_name, other_name) = (format!(".work-{half}"), format!(".work-{other}"));
    for (made, told) in [(&half_name, half), (&other_name, Uuid::new_v4())] {
        let mark = format!("netbe:uuid={told}");
        zfs(&["clone", "-o", "canmount=off", "-o", &mark, &site.full("head@a"), &site.full(made)]);
    }
    // ZFS makes a clone first and gives it its properties then: a loss of power may come between. One in which
    // somebody has something is somebody's.
    let bare = || {
        let name = format!(".work-{}", Uuid::new_v4());
        zfs(&["clone", &site.full("head@a"), &site.full(&name)]);
        name
    };
    let (bare_name, used_name, said_name) = (bare(), bare(), bare());
    zfs(&["snapshot", &format!("{}@mine", site.full(&used_name))]);
    zfs(&["set", "mine:note=x", &site.full(&said_name)]);
    // On a host that was started anew since then.
    site.store.list().unwrap();
    assert_eq!(site.store.pending().unwrap().len(), 2);
    site.store.set(&name("head"), "os", Some("x")).unwrap();
    let sets = site.sets();
    assert!(!sets.contains(&half_name) && sets.contains(&other_name), "{sets:?}");
    assert!(!sets.contains(&bare_name), "{sets:?}");
    assert!(sets.contains(&used_name) && sets.contains(&said_name), "{sets:?}");
    assert_eq!(site.store.pending().unwrap(), []);
    // The same of what has a record, because it is no clone.
    zfs(&["create", "-o", "mountpoint=none", &site.full(".work-1")]);
    let discard = json!([{"discard": {"name": ".work-1", "is": {"uuid": Uuid::new_v4()}}}]);
    site.leave("create", "new", &discard);
    assert_eq!(site.store.settle(None).unwrap(), []);
    assert!(!site.sets().contains(&".work-1".to_owned()), "{:?}", site.sets());
}

#[test]
fn a_clone_of_a_snapshot_leaves_nothing_but_itself_and_says_what_is_missing_or_taken() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::Flat).unwrap();
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    let before = site.sets();
    let refused = site.store.clone_environment(&point("head@b"), &name("next")).unwrap_err();
    assert!(matches!(refused, StoreError::NoSnapshot(_)), "{refused}");
    let refused = site.store.clone_environment(&point("head@a"), &name("head")).unwrap_err();
    assert!(matches!(refused, StoreError::Exists(_)), "{refused}");
    zfs(&["create", "-o", "mountpoint=none", &site.full("taken")]);
    let refused = site.store.clone_environment(&point("head@a"), &name("taken")).unwrap_err();
    assert!(matches!(refused, StoreError::Exists(_)), "{refused}");
    zfs(&["destroy", &site.full("taken")]);
    assert_eq!(site.sets(), before);
    let clone = site.store.clone_environment(&point("head@a"), &name("next")).unwrap();
    assert_eq!(site.store.get(&name("next")).unwrap(), clone);
    assert_eq!(site.sets().len(), before.len() + 1);
    assert_eq!(site.store.pending().unwrap(), []);
}

#[test]
fn what_has_the_name_of_something_else_is_left_alone() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::Flat).unwrap();
    zfs(&["snapshot", &site.full("head@netbe-1")]);
    let mine = format!("netbe:uuid={}", Uuid::new_v4());
    zfs(&["create", "-o", "mountpoint=none", "-o", &mine, &site.full(".work-1")]);
    zfs(&["create", "-o", "mountpoint=none", &site.full(".work-2")]);
    let before = site.sets();
    let other = site.guid(".work-1");
    site.leave(
        "clone",
        "new",
        &json!([{"discard": {"name": ".work-1", "is": {"uuid": Uuid::new_v4()}}}]),
    );
    // A number that a data set has, but under another name; one that none has.
    site.leave("destroy", "old", &json!([{"discard": {"name": ".work-2", "is": {"guid": other}}}]));
    site.leave("clone", "new", &json!([{"defer": {"dataset": 7, "snapshot": "netbe-1"}}]));
    site.leave("receive", "head", &json!([{"destroy": {"datasets": [7, 8]}}]));
    site.leave(
        "receive",
        "head",
        &json!([{"return": {"dataset": 7, "snapshot": "netbe-1", "base": "a", "sets": [[7, 8]]}}]),
    );
    // A snapshot that came under the name, but on none of what is written down.
    let head = site.guid("head");
    site.leave("receive", "head", &json!([{"return": {"dataset": head, "snapshot": "netbe-1", "base": "a", "sets": [[7, 8]]}}]));
    assert_eq!(site.store.settle(None).unwrap(), []);
    assert_eq!(site.sets(), before);
}

#[test]
fn what_cannot_be_cleared_away_is_shown_and_stops_nothing_else() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::Flat).unwrap();
    let (work, uuid) = (site.full(".work-1"), Uuid::new_v4());
    zfs(&["create", "-o", "mountpoint=none", "-o", &format!("netbe:uuid={uuid}"), &work]);
    zfs(&["snapshot", &format!("{work}@x")]);
    zfs(&["hold", "keep", &format!("{work}@x")]);
    site.leave("clone", "new", &json!([{"discard": {"name": ".work-1", "is": {"uuid": uuid}}}]));
    for (tries, os) in [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"), (5, "f")] {
        site.store.set(&name("head"), "os", Some(os)).unwrap();
        let [left] = &site.store.pending().unwrap()[..] else { panic!() };
        assert_eq!(left.tries, tries);
        assert!(left.error.is_some());
    }
    let intent = "{\"uuid\":";
    assert!(zfs(&["get", "-H", "-s", "local", "all", &site.dataset]).contains(intent));
    assert_eq!(site.store.settle(None).unwrap()[0].tries, 6);
    site.store.create(&name("new"), Layout::Flat).unwrap();
    zfs(&["release", "keep", &format!("{work}@x")]);
    assert_eq!(site.store.settle(None).unwrap(), []);
    assert_eq!(site.names(), ["head", "new"]);
    assert!(!site.sets().iter().any(|set| set.contains(".work")));
}

#[test]
fn a_record_that_cannot_be_read_is_shown_and_nothing_is_done() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::Flat).unwrap();
    zfs(&["set", &format!("netbe.intent:{}={{\"uuid\":", Uuid::new_v4()), &site.dataset]);
    assert_eq!(site.names(), ["head"]);
    site.store.set(&name("head"), "os", Some("a")).unwrap();
    let [left] = &site.store.settle(None).unwrap()[..] else { panic!() };
    assert!(left.error.as_ref().unwrap().contains("cannot be read"), "{left:?}");
}

#[test]
fn what_an_earlier_release_left_is_told_and_not_touched() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::Flat).unwrap();
    let root = site.store.root(&name("head"));
    let work = root.parent().and_then(Path::parent).unwrap().join("work");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("1"), format!("dataset\t{}\n", site.full("head"))).unwrap();
    site.store.set(&name("head"), "os", Some("a")).unwrap();
    let [left] = &site.store.settle(None).unwrap()[..] else { panic!() };
    assert!(left.error.as_ref().unwrap().contains("an older netbe left"), "{left:?}");
    assert_eq!(site.names(), ["head"]);
}

#[test]
fn two_state_directories_of_one_store_exclude_each_other() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::Flat).unwrap();
    let other = tempfile::tempdir().unwrap();
    let store = Store::open(&location(&site.dataset), other.path()).unwrap();
    let store = store.with_lock_timeout(Duration::from_millis(100));
    let hold = site.store.hold(&name("head")).unwrap();
    let refused = store.set(&name("head"), "os", Some("a"));
    assert!(matches!(refused, Err(StoreError::Busy { .. })), "{refused:?}");
    assert_eq!(site.store.locks().unwrap(), store.locks().unwrap());
    drop(hold);
    store.set(&name("head"), "os", Some("a")).unwrap();
}

#[test]
fn what_came_in_part_is_not_shown_and_undone_unless_it_was_changed() {
    let Some(site) = Site::new() else { return };
    let (head, full) = (name("head"), site.full("head"));
    site.create_nested("head");
    fs::write(site.root("head").join("usr/home/file"), "1").unwrap();
    site.store.snapshot(&head, &snapshot("a")).unwrap();
    let numbers = zfs(&["list", "-H", "-p", "-r", "-t", "all", "-o", "name,guid", &full]);
    let number = |of: &str| -> u64 {
        let line = numbers.lines().find_map(|line| line.strip_prefix(of)?.strip_prefix('\t'));
        line.unwrap().parse().unwrap()
    };
    // As it is left by a command that is killed when the root and a new data set have come.
    let come = |text: &str| {
        fs::write(site.root("head").join("etc"), text).unwrap();
        site.store.release(&head).unwrap();
        zfs(&["snapshot", &format!("{full}@b")]);
        zfs(&["create", "-o", "canmount=noauto", &format!("{full}/new")]);
        zfs(&["create", "-o", "canmount=noauto", &format!("{full}/theirs")]);
        zfs(&["snapshot", &format!("{full}/new@b")]);
        zfs(&["snapshot", &format!("{full}/theirs@b")]);
        let sets = [[number(&full), number(&format!("{full}@a"))]];
        let left = json!({"dataset": number(&full), "snapshot": "b", "base": "a", "sets": sets});
        let intent = site.leave("receive", "head", &json!([{"return": left}]));
        zfs(&["set", &format!("netbe.arrival:intent={intent}"), &format!("{full}/new")]);
    };
    let target = site.state.path().join("target");
    fs::create_dir(&target).unwrap();
    let refused = |result: Result<(), StoreError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::Away { .. }), "{error}");
        assert!(error.to_string().contains("`netbe rollback -r head@a`"), "{error}");
    };
    come("came");
    assert!(!site.root("head").join("etc").exists());
    assert_eq!(site.store.pending().unwrap(), []);
    assert_eq!(fs::read(site.root("head").join("usr/home/file")).unwrap(), b"1");
    let sets = site.sets();
    // What came with the stream is gone; what somebody else has made is not.
    assert!(!sets.contains(&"head/new".to_owned()) && sets.contains(&"head/theirs@b".to_owned()));
    site.store.release(&head).unwrap();
    zfs(&["destroy", "-r", &format!("{full}/theirs")]);
    // Somebody has mounted it all the same, and gone on from there.
    come("came");
    zfs(&["destroy", "-r", &format!("{full}/theirs")]);
    zfs(&["destroy", "-r", &format!("{full}/new")]);
    run("mount", &["-t", "zfs", "-o", "zfsutil", &full, target.to_str().unwrap()]);
    fs::write(target.join("letter"), "x").unwrap();
    run("umount", &[target.to_str().unwrap()]);
    refused(site.store.open_parts(&head).map(drop));
    refused(site.store.mount(&point("head"), &target));
    let stopped = site.store.set(&head, "os", Some("a"));
    assert!(matches!(stopped, Err(StoreError::Unsettled { .. })), "{stopped:?}");
    site.store.create(&name("other"), Layout::Flat).unwrap();
    run("mount", &["-t", "zfs", "-o", "zfsutil,ro", &full, target.to_str().unwrap()]);
    assert_eq!(fs::read(target.join("letter")).unwrap(), b"x");
    run("umount", &[target.to_str().unwrap()]);
    site.store.rollback(&head, &snapshot("a"), Newer::Destroy).unwrap();
    assert_eq!(site.store.pending().unwrap(), []);
    site.store.mount(&point("head"), &target).unwrap();
    assert!(!target.join("letter").exists() && !target.join("etc").exists());
    assert_eq!(fs::read(target.join("usr/home/file")).unwrap(), b"1");
    site.store.unmount(&head, None, InUse::Refuse).unwrap();
}

#[test]
fn what_the_sender_has_no_more_goes_only_where_that_is_asked_for() {
    let Some(site) = Site::new() else { return };
    site.create_nested("head");
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    let sent = |to: &str, base: Option<&SnapshotName>| {
        let mut stream = Vec::new();
        site.store.send(&name("head"), &snapshot(to), base, &mut stream).unwrap();
        stream
    };
    let receive =
        |lacking, stream: &[u8]| site.store.receive(&name("came"), lacking, &mut &*stream);
    receive(Lacking::Refuse, &sent("a", None)).unwrap();
    site.store.release(&name("head")).unwrap();
    zfs(&["destroy", "-r", &site.full("head/usr/home")]);
    zfs(&[
        "create",
        "-o",
        "canmount=noauto",
        "-o",
        "compression=lz4",
        "-o",
        "mountpoint=/opt",
        &site.full("head/pkg"),
    ]);
    site.store.snapshot(&name("head"), &snapshot("b")).unwrap();
    let more = sent("b", Some(&snapshot("a")));
    let before = site.sets();
    let refused = receive(Lacking::Refuse, &more).unwrap_err();
    assert!(matches!(refused, StoreError::Lacking { .. }), "{refused}");
    assert!(refused.to_string().contains(&site.full("came/usr/home")), "{refused}");
    assert_eq!(site.sets(), before);
    receive(Lacking::Destroy, &more).unwrap();
    assert!(!site.sets().iter().any(|set| set.starts_with("came/usr/home")));
    // What is new has its properties, and no mark of how it came.
    assert_eq!(property(&site.full("came/pkg"), "compression"), "lz4");
    assert_eq!(property(&site.full("came/pkg"), "mountpoint"), "/opt");
    assert_eq!(property(&site.full("came/pkg"), "netbe.arrival:intent"), "-");
    assert_eq!(site.store.pending().unwrap(), []);
}

#[test]
fn what_somebody_has_made_in_a_data_set_that_is_to_go_stays() {
    let Some(site) = Site::new() else { return };
    site.create_nested("head");
    let store = &site.store;
    store.snapshot(&name("head"), &snapshot("a")).unwrap();
    let receive = |to: &str, base: Option<&SnapshotName>| {
        let mut stream = Vec::new();
        store.send(&name("head"), &snapshot(to), base, &mut stream).unwrap();
        store.receive(&name("came"), Lacking::Destroy, &mut &*stream)
    };
    receive("a", None).unwrap();
    store.release(&name("head")).unwrap();
    zfs(&["destroy", "-r", &site.full("head/usr/home")]);
    store.snapshot(&name("head"), &snapshot("b")).unwrap();
    // What is held cannot be destroyed now, and is left to whoever comes next.
    let (held, theirs) = (site.full("came/usr/home@a"), site.full("came/usr/home/theirs"));
    zfs(&["hold", "keep", &held]);
    receive("b", Some(&snapshot("a"))).unwrap_err();
    zfs(&["create", "-o", "mountpoint=none", &theirs]);
    zfs(&["release", "keep", &held]);
    let left = store.settle(None).unwrap();
    assert!(site.sets().iter().any(|set| set == "came/usr/home/theirs"), "{:?}", site.sets());
    assert!(left[0].error.as_ref().unwrap().contains("theirs"), "{left:?}");
    zfs(&["destroy", &theirs]);
    assert_eq!(store.settle(None).unwrap(), []);
    assert!(!site.sets().iter().any(|set| set.starts_with("came/usr/home")));
}

#[test]
fn two_data_sets_at_one_place_are_refused_and_not_destroyed() {
    let Some(site) = Site::new() else { return };
    site.create_nested("head");
    zfs(&[
        "create",
        "-o",
        "canmount=noauto",
        "-o",
        "mountpoint=/usr/home",
        &site.full("head/second"),
    ]);
    let before = site.sets();
    let twice = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::Twice { .. })), "{result:?}");
    };
    twice(site.store.destroy(&name("head")));
    twice(site.store.snapshot(&name("head"), &snapshot("a")).map(drop));
    twice(site.store.open_root(&name("head")).map(drop));
    assert_eq!(site.sets(), before);
    assert_eq!(site.store.list().unwrap().unreadable.len(), 1);
    zfs(&["set", "mountpoint=/usr/second", &site.full("head/second")]);
    site.store.destroy(&name("head")).unwrap();
}

#[test]
fn a_tree_and_a_snapshot_are_mounted_elsewhere_and_the_snapshot_is_read_only() {
    let Some(site) = Site::new() else { return };
    site.create_nested("my head");
    fs::write(site.root("my head").join("usr/home/file"), "1").unwrap();
    site.store.snapshot(&name("my head"), &snapshot("a b")).unwrap();
    fs::write(site.root("my head").join("usr/home/file"), "2").unwrap();
    let [live, frozen] = ["live", "frozen"].map(|part| site.state.path().join(part));
    fs::create_dir(&live).unwrap();
    fs::create_dir(&frozen).unwrap();
    site.store.mount(&point("my head"), &live).unwrap();
    site.store.mount(&point("my head@a b"), &frozen).unwrap();
    assert_eq!(fs::read(live.join("usr/home/file")).unwrap(), b"2");
    assert_eq!(fs::read(frozen.join("usr/home/file")).unwrap(), b"1");
    assert!(fs::write(frozen.join("usr/home/file"), "3").is_err());
    let mut undone = site.store.unmount(&name("my head"), None, InUse::Refuse).unwrap();
    undone.sort();
    assert_eq!(undone, [frozen, live]);
    assert!(matches!(
        site.store.unmount(&name("my head"), None, InUse::Refuse),
        Err(StoreError::NotMounted(..))
    ));
}

#[test]
fn settings_are_properties_and_go_as_they_came() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::Flat).unwrap();
    let before = site.store.get(&name("head")).unwrap();
    site.store.set(&name("head"), "os", Some("FreeBSD; 14.3 = \"x\"")).unwrap();
    assert_eq!(property(&site.full("head"), "netbe:os"), "FreeBSD; 14.3 = \"x\"");
    site.store.set(&name("head"), "os", None).unwrap();
    assert_eq!(property(&site.full("head"), "netbe:os"), "-");
    assert_eq!(site.store.get(&name("head")).unwrap(), before);
}

#[test]
fn data_sets_that_zfs_shares_by_itself_are_told() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::FreeBsd).unwrap();
    assert!(site.store.shared_by_itself(&name("head")).unwrap().is_empty());
    let home = site.full("head/usr/home");
    // Where there is no other server it says so, and the property is set.
    let _ = Command::new("zfs").args(["set", "sharenfs=on", &home]).output().unwrap();
    assert_eq!(property(&home, "sharenfs"), "on");
    assert_eq!(site.store.shared_by_itself(&name("head")).unwrap(), [home]);
}

#[test]
fn what_this_host_boots_is_not_destroyed() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::Flat).unwrap();
    let pool = site.dataset.split('/').next().unwrap();
    run("zpool", &["set", &format!("bootfs={}", site.full("head")), pool]);
    let refused = site.store.destroy(&name("head")).unwrap_err();
    assert!(refused.to_string().contains("which this host boots"), "{refused}");
    run("zpool", &["set", "bootfs=", pool]);
    site.store.destroy(&name("head")).unwrap();
    assert!(site.names().is_empty());
}

/// zfs(8) asks the same library: whatever the store reads by itself says the same.
#[cfg(all(feature = "libzfs", feature = "faults"))]
#[test]
fn the_library_answers_as_the_programs_do() {
    let Some(site) = Site::new() else { return };
    site.store.create(&name("head"), Layout::FreeBsd).unwrap();
    site.store.create(&name("tux"), Layout::Linux).unwrap();
    site.store.set(&name("head"), "note", Some("two words; 1 = \"x\"")).unwrap();
    site.store.mark_data(&name("tux"), "home", true).unwrap();
    zfs(&["set", "compression=lz4", "com.example:note=a b", &site.full("tux/home")]);
    zfs(&["set", "netbe:export=ro", "com.example:above=1", &site.dataset]);
    zfs(&["set", "quota=100M", "reservation=1M", "exec=off", "atime=on", &site.full("head")]);
    zfs(&["set", "x:y=a\nb", "x:tab=a\tb", &site.full("head/usr")]);
    // What one of bectl's has, what pretends to be something else, and what is no file system.
    let plain = ["create", "-o", "canmount=noauto", "-o", "mountpoint=/"];
    zfs(&[&plain[..], &[&site.full("old")]].concat());
    zfs(&[&plain[..], &[&site.full("forged")]].concat());
    let line = format!("x:y=a\n{}\tnetbe:role\tbe\tlocal", site.full("forged"));
    zfs(&["set", &line, "netbe:role=off", &site.full("forged")]);
    zfs(&["create", "-o", "mountpoint=/srv", "-o", "canmount=off", &site.full("other")]);
    zfs(&["create", "-s", "-V", "8M", &site.full("tux/volume")]);
    site.store.snapshot(&name("head"), &snapshot("a")).unwrap();
    site.store.snapshot(&name("tux"), &snapshot("b")).unwrap();
    zfs(&["snapshot", &site.full("tux/volume@b"), &site.full("head/usr@other")]);
    site.store.clone_environment(&point("head@a"), &name("next")).unwrap();
    site.store.clone_environment(&point("tux"), &name("desk")).unwrap();
    let (from, to) = (site.full("head@a"), site.full("came"));
    run("sh", &["-euc", "zfs send -R -p \"$1\" | zfs receive -u \"$2\"", "sh", &from, &to]);
    zfs(&["set", "atime=off", "x:y=here", &to]);
    // Mounted, some properties are as the mount has them.
    fs::write(site.root("tux").join("file"), [7; 100_000]).unwrap();
    run("zpool", &["sync"]);

    assert!(store::library_answers(), "libzfs cannot be loaded");
    let by_library = all_that_is_told(&site);
    store::ask_programs_only(true);
    let by_programs = all_that_is_told(&site);
    store::ask_programs_only(false);
    for (library, programs) in by_library.iter().zip(&by_programs) {
        assert_eq!(library, programs);
    }
    assert_eq!(by_library.len(), by_programs.len());
    assert!(by_library.iter().any(|told| told.contains("two words")), "{by_library:?}");
}

/// Everything that the store says of a site, but for the numbers of its own process.
#[cfg(all(feature = "libzfs", feature = "faults"))]
fn all_that_is_told(site: &Site) -> Vec<String> {
    let store = Store::open(&location(&site.dataset), site.state.path()).unwrap();
    let mut told = Vec::new();
    let (listing, spaces) = store.list_with_footprints().unwrap();
    assert!(listing.environments.len() >= 6, "{listing:?}");
    let spaces: std::collections::BTreeMap<_, _> = spaces.into_iter().collect();
    told.push(format!("{listing:?} {spaces:?}"));
    told.push(format!("{:?}", store.survey().unwrap()));
    for name in ["head", "tux", "came", "forged", "other", "absent"].map(name) {
        told.push(format!("{:?}", store.get(&name)));
        told.push(format!("{:?}", store.snapshots(&name)));
        told.push(format!("{:?}", store.natives(&name)));
    }
    // Whether one is there.
    told.push(format!("{:?}", store.rename(&name("tux"), &name("head")).unwrap_err()));
    let away = Store::open(&"zfs:no-such-pool/be".parse().unwrap(), site.state.path());
    told.push(format!("{:?}", away.and_then(|store| store.list()).unwrap_err()));
    let missing = Store::open(&location(&site.full("absent/be")), site.state.path());
    told.push(format!("{:?}", missing.unwrap_err()));
    told
}
