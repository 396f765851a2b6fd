//! A store of plain directories, as its users and hostile guests meet it.
//!
//! What only the superuser can make (other owners, device nodes) is made only by the superuser; the
//! tests say so when they leave it out.

#![expect(clippy::unwrap_used, reason = "what a test needs and cannot have fails the test")]

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{
    FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps, mkdirat, mkfifoat, utimensat};
use store::{EnvironmentName, ExportSettings, Identity, Layout, Location, Store, StoreError};
use tempfile::TempDir;
use uuid::Uuid;

struct Bench {
    dir: TempDir,
    store: Store,
}

impl Bench {
    /// Leaves an intent about an environment as a killed command does; gives its workspace.
    fn leave(&self, environment: &str, steps: &str) -> PathBuf {
        let (intent, uuid) = (Uuid::new_v4(), Uuid::new_v4());
        let record = format!(
            r#"{{"uuid":"{intent}","verb":"clone","environments":[{{"name":"{environment}","uuid":"{uuid}"}}],"since":"2026-11-20T13:30:00Z","steps":[{steps}]}}"#
        );
        fs::write(self.top().join(format!("journal/{intent}.json")), record).unwrap();
        let work = self.top().join(format!("be/.work-{intent}"));
        fs::create_dir(&work).unwrap();
        work
    }

    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::establish(&place(&dir), dir.path()).unwrap();
        Self { dir, store }
    }

    fn create(&self, text: &str) -> PathBuf {
        self.store.create(&name(text), Layout::Flat).unwrap();
        self.root(text)
    }

    fn clone_to(&self, source: &str, target: &str) -> PathBuf {
        self.store.clone_environment(&name(source).into(), &name(target)).unwrap();
        self.root(target)
    }

    fn root(&self, text: &str) -> PathBuf {
        self.store.root(&name(text))
    }

    fn names(&self) -> Vec<String> {
        let listing = self.store.list().unwrap();
        assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
        listing.environments.iter().map(|environment| environment.name.to_string()).collect()
    }

    fn top(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Everything in the store but environments and their metadata.
    fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for part in ["be", "locks", "meta"] {
            for entry in fs::read_dir(self.top().join(part)).unwrap() {
                let file = entry.unwrap().file_name().into_string().unwrap();
                let known = self
                    .names()
                    .iter()
                    .any(|name| file.strip_suffix(".toml").unwrap_or(&file) == name);
                if !known && file != ".spare" {
                    found.push(format!("{part}/{file}"));
                }
            }
        }
        found
    }
}

fn place(dir: &TempDir) -> Location {
    Location::Directory(dir.path().join("store"))
}

fn name(text: &str) -> EnvironmentName {
    text.parse().unwrap()
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("left out: only the superuser can make this");
    }
    root
}

fn look(path: impl AsRef<Path>) -> fs::Metadata {
    fs::symlink_metadata(path).unwrap()
}

#[test]
fn a_store_is_private() {
    let bench = Bench::new();
    assert_eq!(look(bench.top()).mode() & 0o7777, 0o700);
}

#[test]
fn a_store_that_others_may_enter_is_refused() {
    let bench = Bench::new();
    fs::set_permissions(bench.top(), Permissions::from_mode(0o711)).unwrap();
    let error = Store::open(&place(&bench.dir), bench.dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Open(_)), "{error}");
    assert!(error.to_string().contains("chmod 0700"), "{error}");
}

#[test]
fn a_store_that_is_not_there_is_missing_and_is_not_made_by_looking() {
    let dir = TempDir::new().unwrap();
    assert!(matches!(Store::open(&place(&dir), dir.path()), Err(StoreError::Missing(_))));
    assert!(!dir.path().join("store").exists());
}

#[test]
fn an_empty_directory_becomes_a_store_and_another_does_not() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("letter"), "dear").unwrap();
    assert!(matches!(Store::establish(&place(&dir), dir.path()), Err(StoreError::Foreign(_))));
    fs::remove_file(path.join("letter")).unwrap();
    Store::establish(&place(&dir), dir.path()).unwrap();
}

#[test]
fn a_layout_has_its_directories_with_their_modes() {
    let bench = Bench::new();
    let made = bench.store.create(&name("head"), Layout::FreeBsd).unwrap();
    let root = bench.root("head");
    let mode = |path: &str| look(root.join(path)).mode() & 0o7777;
    assert_eq!(mode(""), 0o755);
    assert_eq!(mode("tmp"), 0o1777);
    assert_eq!(mode("var/tmp"), 0o1777);
    assert_eq!(mode("var/audit"), 0o750);
    assert_eq!(mode("usr/home"), 0o755);
    assert_eq!(made.datasets, Layout::FreeBsd.datasets());
    assert_eq!(bench.store.get(&name("head")).unwrap(), made);
}

#[test]
fn a_name_in_use_is_refused() {
    let bench = Bench::new();
    bench.create("head");
    let again = bench.store.create(&name("head"), Layout::Flat);
    assert!(matches!(again, Err(StoreError::Exists(_))));
    let clone = bench.store.clone_environment(&name("head").into(), &name("head"));
    assert!(matches!(clone, Err(StoreError::Exists(_))));
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn a_directory_that_netbe_did_not_make_is_neither_listed_nor_replaced() {
    let bench = Bench::new();
    fs::create_dir(bench.root("mine")).unwrap();
    assert_eq!(bench.names(), [""; 0]);
    let made = bench.store.create(&name("mine"), Layout::Flat);
    assert!(matches!(made, Err(StoreError::Unknown(_))));
    assert!(bench.root("mine").exists());
}

#[test]
fn what_is_not_there_is_said_to_be_not_there() {
    let bench = Bench::new();
    let gone = |result: Result<_, StoreError>| {
        assert!(matches!(result, Err(StoreError::NoEnvironment(_))), "{result:?}");
    };
    gone(bench.store.get(&name("x")).map(drop));
    gone(bench.store.destroy(&name("x")));
    gone(bench.store.open_root(&name("x")).map(drop));
    gone(bench.store.clone_environment(&name("x").into(), &name("y")).map(drop));
    gone(bench.store.set_export(&name("x"), ExportSettings::default()).map(drop));
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
fn a_broken_metadata_file_hides_no_other_environment() {
    let bench = Bench::new();
    bench.create("good");
    bench.create("bad");
    fs::write(bench.top().join("meta/bad.toml"), "schema = ").unwrap();
    let listing = bench.store.list().unwrap();
    assert_eq!(listing.environments.len(), 1);
    let [bad] = listing.unreadable.as_slice() else { panic!("{listing:?}") };
    assert!(bad.name == name("bad") && matches!(bad.error, StoreError::Broken { .. }));
    bench.store.destroy(&name("bad")).unwrap();
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn a_clone_has_an_identity_of_its_own_and_is_not_shared() {
    let bench = Bench::new();
    let source = bench.store.create(&name("head"), Layout::Linux).unwrap();
    let export = ExportSettings { shared: true, ..ExportSettings::default() };
    bench.store.set_export(&name("head"), export).unwrap();
    let clone = bench.store.clone_environment(&name("head").into(), &name("desk")).unwrap();
    assert_ne!(clone.uuid, source.uuid);
    assert_eq!(clone.origin.unwrap().uuid, source.uuid);
    assert_eq!(clone.datasets, source.datasets);
    assert!(!clone.export.shared);
}

#[test]
fn export_settings_are_kept_and_the_identity_with_them() {
    let bench = Bench::new();
    let made = bench.store.create(&name("head"), Layout::Flat).unwrap();
    let export = ExportSettings {
        shared: true,
        read_only: true,
        maproot: Some(Identity::root()),
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        ..ExportSettings::default()
    };
    bench.store.set_export(&name("head"), export.clone()).unwrap();
    let again =
        Store::open(&place(&bench.dir), bench.dir.path()).unwrap().get(&name("head")).unwrap();
    assert_eq!(again.export, export);
    assert_eq!(again.uuid, made.uuid);
}

#[test]
fn a_clone_keeps_contents_modes_and_nanoseconds() {
    let bench = Bench::new();
    let root = bench.create("head");
    fs::create_dir(root.join("bin")).unwrap();
    fs::write(root.join("bin/su"), "program").unwrap();
    if is_root() {
        chown(root.join("bin/su"), Some(1234), Some(4321)).unwrap();
    }
    fs::set_permissions(root.join("bin/su"), Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(root.join("bin"), Permissions::from_mode(0o3771)).unwrap();
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(1_000_000_000, 123_456_789),
        last_modification: time(1_100_000_000, 987_654_321),
    };
    for path in ["bin/su", "bin", ""] {
        utimensat(CWD, root.join(path), &times, AtFlags::empty()).unwrap();
    }
    let copy = bench.clone_to("head", "desk");
    assert_eq!(fs::read(copy.join("bin/su")).unwrap(), b"program");
    for path in ["bin/su", "bin", ""] {
        let (from, to) = (look(root.join(path)), look(copy.join(path)));
        assert_eq!(from.mode(), to.mode(), "{path}");
        assert_eq!((from.uid(), from.gid()), (to.uid(), to.gid()), "{path}");
        assert_eq!((from.mtime(), from.mtime_nsec()), (to.mtime(), to.mtime_nsec()), "{path}");
    }
    assert_eq!(look(copy.join("bin/su")).mode() & 0o7777, 0o6755);
    assert_eq!(look(copy.join("bin/su")).mtime_nsec(), 987_654_321);
}

#[test]
fn a_clone_keeps_hard_links_and_shares_no_file_with_its_source() {
    let bench = Bench::new();
    let root = bench.create("head");
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("less"), "pager").unwrap();
    fs::hard_link(root.join("less"), root.join("d/more")).unwrap();
    symlink("x", root.join("l1")).unwrap();
    fs::hard_link(root.join("l1"), root.join("d/l2")).unwrap();
    let copy = bench.clone_to("head", "desk");
    for (one, two) in [("less", "d/more"), ("l1", "d/l2")] {
        assert_eq!(look(copy.join(one)).ino(), look(copy.join(two)).ino());
        assert_eq!(look(copy.join(one)).nlink(), 2, "the store keeps no link of its own");
        assert_ne!(look(copy.join(one)).ino(), look(root.join(one)).ino());
    }
    fs::write(copy.join("less"), "changed").unwrap();
    assert_eq!(fs::read(root.join("less")).unwrap(), b"pager");
}

#[test]
fn a_clone_keeps_symbolic_links_as_they_are() {
    let bench = Bench::new();
    let root = bench.create("head");
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    symlink(&outside, root.join("dir")).unwrap();
    symlink(outside.join("secret"), root.join("file")).unwrap();
    symlink("../../..", root.join("up")).unwrap();
    if is_root() {
        lchown(root.join("up"), Some(77), Some(78)).unwrap();
    }
    let copy = bench.clone_to("head", "desk");
    assert_eq!(fs::read_link(copy.join("dir")).unwrap(), outside);
    assert_eq!(fs::read_link(copy.join("file")).unwrap(), outside.join("secret"));
    assert_eq!(fs::read_link(copy.join("up")).unwrap(), Path::new("../../.."));
    assert_eq!(look(copy.join("up")).uid(), look(root.join("up")).uid());
}

#[test]
fn destroying_does_not_follow_symbolic_links() {
    let bench = Bench::new();
    let root = bench.create("head");
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    symlink(&outside, root.join("dir")).unwrap();
    fs::create_dir(root.join("d")).unwrap();
    symlink(outside.join("precious"), root.join("d/file")).unwrap();
    bench.store.destroy(&name("head")).unwrap();
    assert!(outside.join("precious").exists());
    assert!(!root.exists());
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn a_clone_keeps_fifos_sockets_and_devices() {
    let bench = Bench::new();
    let root = bench.create("head");
    mkfifoat(CWD, root.join("fifo"), Mode::from_raw_mode(0o640)).unwrap();
    let _listener = UnixListener::bind(root.join("log")).unwrap();
    let copy = if is_root() {
        let device = rustix::fs::makedev(1, 3);
        let kind = rustix::fs::FileType::CharacterDevice;
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(CWD, root.join("null"), kind, mode, device).unwrap();
        let copy = bench.clone_to("head", "desk");
        assert!(look(copy.join("null")).file_type().is_char_device());
        assert_eq!(look(copy.join("null")).rdev(), device);
        copy
    } else {
        bench.clone_to("head", "desk")
    };
    assert!(look(copy.join("fifo")).file_type().is_fifo());
    assert_eq!(look(copy.join("fifo")).mode(), look(root.join("fifo")).mode());
    assert_eq!(look(copy.join("log")).file_type().is_socket(), cfg!(target_os = "linux"));
}

#[test]
fn a_clone_keeps_holes() {
    let bench = Bench::new();
    let root = bench.create("head");
    let mut file = File::create(root.join("disk")).unwrap();
    file.write_all(b"start").unwrap();
    file.seek(SeekFrom::Start(32 << 20)).unwrap();
    file.write_all(&[7; 8192]).unwrap();
    file.set_len(64 << 20).unwrap();
    file.sync_all().unwrap();
    let copy = bench.clone_to("head", "desk").join("disk");
    assert_eq!(look(&copy).size(), 64 << 20);
    assert!(look(&copy).blocks() * 512 < 1 << 20, "{} blocks", look(&copy).blocks());
    let copy = File::open(copy).unwrap();
    let mut bytes = [0; 8192];
    copy.read_exact_at(&mut bytes, 32 << 20).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 7));
    copy.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes[..6], b"start\0");
    copy.read_exact_at(&mut bytes, (64 << 20) - 8192).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 0));
}

#[test]
fn a_clone_keeps_names_that_are_not_text() {
    let bench = Bench::new();
    let root = bench.create("head");
    let odd = OsStr::from_bytes(b"\xff\n\x1b[31m ");
    fs::write(root.join(odd), "odd").unwrap();
    assert_eq!(fs::read(bench.clone_to("head", "desk").join(odd)).unwrap(), b"odd");
}

#[cfg(target_os = "linux")]
#[test]
fn a_clone_keeps_extended_attributes() {
    use rustix::fs::{XattrFlags, lgetxattr, setxattr};
    let bench = Bench::new();
    let root = bench.create("head");
    fs::write(root.join("ping"), "x").unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    // CAP_NET_RAW as `setcap cap_net_raw+ep` writes it: lost by every chown.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut expected: Vec<(&str, &str, &[u8])> =
        vec![("ping", "user.note", b"file"), ("dir", "user.note", b"directory")];
    if is_root() {
        expected.push(("ping", "security.capability", &capability));
    }
    for (path, attribute, value) in &expected {
        setxattr(root.join(path), *attribute, value, XattrFlags::empty()).unwrap();
    }
    let copy = bench.clone_to("head", "desk");
    for (path, attribute, value) in expected {
        let mut found = vec![0; 64];
        let len = lgetxattr(copy.join(path), attribute, found.as_mut_slice()).unwrap();
        assert_eq!(&found[..len], value, "{path} {attribute}");
    }
}

/// Makes directories in each other, deeper than any path is long.
fn nest(root: &Path, depth: usize) {
    let mut dir = rustix::fs::open(root, rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&dir, "a-rather-long-name", Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        dir = rustix::fs::openat(&dir, "a-rather-long-name", flags, Mode::empty()).unwrap();
    }
}

#[test]
fn a_tree_deeper_than_paths_are_long_is_destroyed() {
    let bench = Bench::new();
    nest(&bench.create("head"), 2000);
    bench.store.destroy(&name("head")).unwrap();
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn a_tree_too_deep_to_be_copied_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    nest(&bench.create("head"), 300);
    let clone = bench.store.clone_environment(&name("head").into(), &name("desk"));
    assert!(matches!(clone, Err(StoreError::Deep(_))), "{clone:?}");
    assert_eq!(bench.names(), ["head"]);
    assert_eq!(bench.leftovers(), [""; 0]);
}

/// As `schg` protects FreeBSD's libc and /var/empty.
#[cfg(target_os = "linux")]
#[test]
fn immutable_files_go_with_their_tree() {
    use rustix::fs::{IFlags, ioctl_setflags};
    let bench = Bench::new();
    let root = bench.create("head");
    fs::create_dir_all(root.join("var/empty/below/deep")).unwrap();
    fs::write(root.join("var/empty/below/deep/file"), "x").unwrap();
    let monday = "monday".parse().unwrap();
    bench.store.snapshot(&name("head"), &monday).unwrap();
    let protect = |file: &str, flag| {
        let file = File::open(root.join(file)).unwrap();
        ioctl_setflags(&file, flag).is_ok()
    };
    let all = || {
        protect("var/empty/below/deep/file", IFlags::IMMUTABLE)
            && protect("var/empty/below/deep", IFlags::APPEND)
            && protect("var/empty/below", IFlags::IMMUTABLE)
            && protect("var/empty", IFlags::IMMUTABLE)
    };
    if !all() {
        eprintln!("left out: immutable files cannot be made here");
        return;
    }
    bench.store.rollback(&name("head"), &monday, store::Newer::Refuse).unwrap();
    assert_eq!(fs::read(root.join("var/empty/below/deep/file")).unwrap(), b"x");
    assert_eq!(bench.leftovers(), [""; 0]);
    assert!(all());
    bench.store.destroy(&name("head")).unwrap();
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_immutable_file_is_named_before_anything_is_touched_by_who_cannot_change_that() {
    use rustix::fs::{IFlags, ioctl_setflags};
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let bench = Bench::new();
    let root = bench.create("head");
    fs::create_dir(root.join("var")).unwrap();
    fs::write(root.join("first"), "x").unwrap();
    let file = File::create(root.join("var/fixed")).unwrap();
    if ioctl_setflags(&file, IFlags::IMMUTABLE).is_err() {
        eprintln!("left out: immutable files cannot be made here");
        return;
    }
    // These are this thread's alone.
    let mighty = capabilities(None).unwrap();
    let mut weak = mighty;
    weak.effective.remove(CapabilitySet::LINUX_IMMUTABLE);
    set_capabilities(None, weak).unwrap();
    let result = bench.store.destroy(&name("head"));
    set_capabilities(None, mighty).unwrap();
    ioctl_setflags(&file, IFlags::empty()).unwrap();
    let Err(StoreError::Obstacle { path, obstacle: store::Obstacle::Immutable }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(path, root.join("var/fixed"));
    assert!(root.join("first").exists());
    bench.store.destroy(&name("head")).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_mount_point_in_a_tree_is_neither_copied_nor_destroyed() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let mount_point = bench.create("head").join("proc");
    fs::create_dir(&mount_point).unwrap();
    let (location, state) = (place(&bench.dir), bench.dir.path().to_owned());
    // What a thread mounts in a namespace of its own is gone with the thread.
    let inside = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(none, &mount_point, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let store = Store::open(&location, &state).unwrap();
        let clone = store.clone_environment(&name("head").into(), &name("desk")).map(drop);
        [clone, store.destroy(&name("head"))]
    });
    for refused in inside.join().unwrap() {
        let Err(StoreError::Obstacle { path, obstacle: store::Obstacle::MountPoint }) = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!(path, bench.root("head").join("proc"));
    }
    assert_eq!(bench.names(), ["head"]);
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn what_a_killed_command_left_is_cleared_away_by_the_next() {
    let bench = Bench::new();
    bench.create("head");
    // Killed while it copied: a half tree and a spare link.
    let half = bench.leave("next", "");
    fs::create_dir_all(half.join("tree/usr/bin")).unwrap();
    fs::create_dir(half.join("links")).unwrap();
    fs::write(half.join("links/12345"), "x").unwrap();
    assert_eq!(bench.names(), ["head"]);
    bench.create("next");
    assert_eq!(bench.names(), ["head", "next"]);
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn a_command_killed_before_its_environment_appeared_leaves_no_metadata() {
    let bench = Bench::new();
    bench.create("head");
    // Killed between the metadata and the tree of `desk`.
    let uuid = bench.store.get(&name("head")).unwrap().uuid;
    let forget = format!(r#"{{"forget":{{"name":"desk","uuid":"{uuid}"}}}}"#);
    fs::create_dir(bench.leave("desk", &forget).join("tree")).unwrap();
    fs::copy(bench.top().join("meta/head.toml"), bench.top().join("meta/desk.toml")).unwrap();
    assert_eq!(bench.names(), ["head"]);
    assert!(matches!(bench.store.get(&name("desk")), Err(StoreError::NoEnvironment(_))));
    bench.create("next");
    assert!(!bench.top().join("meta/desk.toml").exists());
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn a_command_killed_after_its_environment_vanished_has_destroyed_it() {
    let bench = Bench::new();
    bench.create("head");
    bench.create("desk");
    let uuid = bench.store.get(&name("desk")).unwrap().uuid;
    let forget = format!(r#"{{"forget":{{"name":"desk","uuid":"{uuid}"}}}}"#);
    let work = bench.leave("desk", &forget);
    fs::rename(bench.root("desk"), work.join("tree")).unwrap();
    assert_eq!(bench.names(), ["head"]);
    bench.create("desk");
    assert_eq!(bench.names(), ["desk", "head"]);
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn what_a_living_command_works_on_is_left_alone() {
    use rustix::fs::{FlockOperation, flock};
    let bench = Bench::new();
    let work = bench.leave("desk", "");
    let intent = work.file_name().unwrap().to_str().unwrap().strip_prefix(".work-").unwrap();
    let held = File::create(bench.top().join("journal").join(intent)).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    bench.create("head");
    assert!(work.exists());
    drop(held);
    bench.create("next");
    assert!(!work.exists());
}

#[test]
fn an_environment_that_another_command_works_on_is_not_destroyed() {
    use rustix::fs::{FlockOperation, flock};
    let bench = Bench::new();
    bench.create("head");
    let path = bench.top().join("locks/head");
    let copying = File::create(&path).unwrap();
    flock(&copying, FlockOperation::LockShared).unwrap();
    fs::write(&path, std::process::id().to_string()).unwrap();
    let store = Store::open(&place(&bench.dir), bench.dir.path()).unwrap();
    let store = store.with_lock_timeout(Duration::ZERO);
    let error = store.destroy(&name("head")).unwrap_err();
    let text = format!("head is in use by process {}: ", std::process::id());
    assert!(error.to_string().starts_with(&text), "{error}");
    drop(copying);
    store.destroy(&name("head")).unwrap();
}

#[test]
fn many_commands_at_once_do_not_collide() {
    let bench = Bench::new();
    bench.create("head");
    let (location, state) = (&place(&bench.dir), bench.dir.path());
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|index| {
                scope.spawn(move || {
                    let store = Store::open(location, state).unwrap();
                    let target = name(&format!("c{}", index / 2));
                    store.clone_environment(&name("head").into(), &target).is_ok()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|&made| made).count()
    });
    assert_eq!(made, 4, "of two that want one name, one has it");
    assert_eq!(bench.names(), ["c0", "c1", "c2", "c3", "head"]);
    assert_eq!(bench.leftovers(), [""; 0]);
}
