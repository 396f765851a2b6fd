//! Real trees that are split into a base and a skeleton: in a store of directories, or where
//! `NETBE_THIN_STORE` says (`btrfs:/path`).
//!
//! File flags need the superuser and a file system that has them; the test that needs both says so
//! when it is left out.

#![expect(clippy::unwrap_used, reason = "what a test needs and cannot have fails the test")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use store::thin::{Fault, Kind, Refusal};
use store::{EnvironmentName, Layout, Location, Store, StoreError, Update};
use tempfile::TempDir;

struct Bench {
    dir: TempDir,
    store: Store,
}

impl Bench {
    /// A store with what matters of a release of FreeBSD as `head`.
    fn new() -> Self {
        Self::with(Layout::Flat)
    }

    fn with(layout: Layout) -> Self {
        let dir = TempDir::new().unwrap();
        let own = dir.path().file_name().unwrap().to_str().unwrap();
        let location = match std::env::var("NETBE_THIN_STORE") {
            Ok(place) => format!("{place}/{own}").parse().unwrap(),
            Err(_) => Location::Directory(dir.path().join("store")),
        };
        let store = Store::establish(&location, dir.path()).unwrap();
        store.create(&name("head"), layout).unwrap();
        let bench = Self { dir, store };
        let root = bench.root("head");
        for path in [
            "bin",
            "dev",
            "etc/mail",
            "etc/ssl/certs",
            "lib",
            "root",
            "tmp",
            "usr/bin",
            "usr/local/bin",
            "usr/share/certs/trusted",
            "var/empty",
            "var/unbound",
        ] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        for (path, text) in [
            (".cshrc", "set prompt"),
            ("bin/sh", "shell"),
            ("etc/passwd", "root:*:0:0"),
            ("usr/share/certs/trusted/A.pem", "A"),
            ("usr/local/bin/tool", "tool"),
            ("var/unbound/unbound.conf", "server:"),
        ] {
            fs::write(root.join(path), text).unwrap();
        }
        for (path, text) in [
            ("etc/ssl/certs/0a.0", "../../../usr/share/certs/trusted/A.pem"),
            ("etc/unbound", "../var/unbound"),
            ("usr/local/bin/sh", "../../../bin/sh"),
            ("usr/obj", "../nowhere"),
        ] {
            symlink(text, root.join(path)).unwrap();
        }
        fs::hard_link(root.join(".cshrc"), root.join("root/.cshrc")).unwrap();
        for (path, mode) in [("tmp", 0o1777), ("var/empty", 0o555), ("root", 0o750)] {
            fs::set_permissions(root.join(path), Permissions::from_mode(mode)).unwrap();
        }
        bench
    }

    fn root(&self, text: &str) -> PathBuf {
        self.store.root(&name(text))
    }

    fn split(&self) {
        self.store.split(&name("head")).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let listing = self.store.list().unwrap();
        assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
        listing.environments.iter().map(|environment| environment.name.to_string()).collect()
    }

    /// What a jail sees: a copy of the base with one of the skeleton in it.
    fn composed(&self) -> PathBuf {
        let jail = self.dir.path().join("jail");
        let copy = |from: &Path, to: &Path| {
            let from = from.join(".");
            let mut cp = std::process::Command::new("cp");
            assert!(cp.arg("-a").arg(from).arg(to).status().unwrap().success());
        };
        fs::create_dir(&jail).unwrap();
        copy(&self.root("head-base"), &jail);
        copy(&self.root("head-skeleton"), &jail.join("skeleton"));
        jail
    }
}

fn name(text: &str) -> EnvironmentName {
    text.parse().unwrap()
}

fn says(path: &Path) -> String {
    fs::read_link(path).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_jail_sees_all_that_was_in_the_template() {
    let bench = Bench::new();
    bench.split();
    assert_eq!(bench.names(), ["head", "head-base", "head-skeleton"]);
    let jail = bench.composed();
    for (path, text) in [
        ("etc/passwd", "root:*:0:0"),
        ("etc/ssl/certs/0a.0", "A"),
        ("etc/unbound/unbound.conf", "server:"),
        ("usr/local/bin/sh", "shell"),
        ("root/.cshrc", "set prompt"),
        (".cshrc", "set prompt"),
    ] {
        assert_eq!(fs::read_to_string(jail.join(path)).unwrap(), text, "{path}");
    }
    for (path, mode) in [("tmp", 0o1777), ("var/empty", 0o555), ("root", 0o750)] {
        let metadata = fs::metadata(jail.join(path)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{path}");
    }
}

#[test]
fn the_halves_have_nothing_that_belongs_to_the_other() {
    let bench = Bench::new();
    bench.split();
    let (base, skeleton) = (bench.root("head-base"), bench.root("head-skeleton"));
    assert_eq!(says(&base.join("etc")), "skeleton/etc");
    assert_eq!(says(&base.join("usr/local")), "../skeleton/usr/local");
    assert_eq!(says(&base.join("home")), "skeleton/home");
    let certificate = skeleton.join("etc/ssl/certs/0a.0");
    assert_eq!(says(&certificate), "../../../../usr/share/certs/trusted/A.pem");
    assert_eq!(says(&skeleton.join("etc/unbound")), "../var/unbound");
    let mut names: Vec<_> =
        fs::read_dir(&skeleton).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["etc", "home", "root", "tmp", "usr", "var"]);
    assert_eq!(fs::read_dir(skeleton.join("usr")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(base.join("skeleton")).unwrap().count(), 0);
}

#[test]
fn the_template_stays_as_it_is() {
    let bench = Bench::new();
    let root = bench.root("head");
    let before = fs::metadata(root.join(".cshrc")).unwrap();
    bench.split();
    let after = fs::metadata(root.join("root/.cshrc")).unwrap();
    assert_eq!((after.ino(), after.nlink()), (before.ino(), 2));
    assert_eq!(says(&root.join("etc/ssl/certs/0a.0")), "../../../usr/share/certs/trusted/A.pem");
    assert!(!root.join("skeleton").exists());
}

#[test]
fn the_halves_of_a_nested_template_are_one_file_system_each() {
    let bench = Bench::with(Layout::FreeBsd);
    let root = bench.root("head");
    // Each file system numbers its files anew: files of two that are alike in that stay two.
    for (path, other) in [
        ("usr/src/Makefile", "usr/src/GNUmakefile"),
        ("usr/ports/UPDATING", "usr/ports/MOVED"),
        ("var/log/messages", "var/log/messages.0"),
        ("usr/home/ann", "usr/home/bob"),
    ] {
        fs::write(root.join(path), path).unwrap();
        fs::hard_link(root.join(path), root.join(other)).unwrap();
    }
    let parts = bench.store.open_parts(&name("head")).unwrap().len();
    assert_eq!(parts > 1, bench.store.capabilities().nested);
    bench.split();
    for half in ["head-base", "head-skeleton"] {
        assert_eq!(bench.store.open_parts(&name(half)).unwrap().len(), 1);
        let made = bench.store.get(&name(half)).unwrap();
        assert_eq!((made.layout, made.datasets), (Layout::Flat, Vec::new()));
    }
    let (base, skeleton) = (bench.root("head-base"), bench.root("head-skeleton"));
    for (half, path, other) in [
        (&base, "usr/src/Makefile", "usr/src/GNUmakefile"),
        (&base, "usr/ports/UPDATING", "usr/ports/MOVED"),
        (&skeleton, "var/log/messages", "var/log/messages.0"),
        (&skeleton, "usr/home/ann", "usr/home/bob"),
    ] {
        assert_eq!(fs::read_to_string(half.join(other)).unwrap(), path);
        let file = |path: &str| fs::metadata(half.join(path)).unwrap().ino();
        assert_eq!(file(path), file(other), "{path}");
    }
    for (path, mode) in [("tmp", 0o1777), ("var/audit", 0o750), ("var/mail", 0o775)] {
        let metadata = fs::metadata(skeleton.join(path)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{path}");
    }
    assert_eq!(says(&base.join("usr/home")), "../skeleton/usr/home");
    assert!(!skeleton.join("usr/src").exists());
    // What has its files back in a skeleton can be cloned and destroyed as any other.
    bench.store.clone_environment(&name("head-skeleton").into(), &name("web")).unwrap();
    assert_eq!(fs::read_to_string(bench.root("web").join("usr/home/ann")).unwrap(), "usr/home/ann");
    for gone in ["web", "head-base", "head-skeleton"] {
        bench.store.destroy(&name(gone)).unwrap();
    }
    assert_eq!(bench.store.open_parts(&name("head")).unwrap().len(), parts);
}

#[test]
fn splitting_twice_is_splitting_once() {
    let bench = Bench::new();
    bench.split();
    let uuid = |text| bench.store.get(&name(text)).unwrap().uuid;
    let before = [uuid("head-base"), uuid("head-skeleton")];
    bench.split();
    assert_eq!([uuid("head-base"), uuid("head-skeleton")], before);
    assert!(!bench.store.split(&name("head")).unwrap());
    assert!(bench.store.plan_split(&name("head")).unwrap().is_empty());
    bench.store.clone_environment(&name("head-skeleton").into(), &name("web")).unwrap();
    for (part, words) in [
        ("head-base", "head-base is split already: there is nothing to do"),
        ("web", "web is a skeleton: clone it for a jail with `netbe clone web NAME`"),
    ] {
        let planned = bench.store.plan_split(&name(part)).unwrap_err();
        let split = bench.store.split(&name(part)).unwrap_err();
        assert_eq!([planned.to_string(), split.to_string()], [words, words]);
    }
}

/// As an earlier release left it: there is no record, and nothing is done to it.
#[test]
fn what_no_record_names_is_left_alone() {
    let bench = Bench::new();
    bench.split();
    for half in ["head-base", "head-skeleton"] {
        bench.store.set(&name(half), "thin", Some("unfinished")).unwrap();
    }
    let error = bench.store.split(&name("head")).unwrap_err();
    assert!(matches!(error, StoreError::Exists(other) if other == name("head-base")));
    assert_eq!(bench.names(), ["head", "head-base", "head-skeleton"]);
}

#[test]
fn what_somebody_else_calls_so_is_not_touched() {
    let bench = Bench::new();
    bench.store.create(&name("head-skeleton"), Layout::Flat).unwrap();
    let error = bench.store.split(&name("head")).unwrap_err();
    assert!(matches!(error, StoreError::Exists(other) if other == name("head-skeleton")));
    assert_eq!(bench.names(), ["head", "head-skeleton"]);
}

#[test]
fn a_skeleton_without_its_base_is_somebodys_work() {
    let bench = Bench::new();
    bench.split();
    bench.store.destroy(&name("head-base")).unwrap();
    let error = bench.store.split(&name("head")).unwrap_err();
    assert!(matches!(error, StoreError::Exists(other) if other == name("head-skeleton")));
    assert!(bench.root("head-skeleton").join("etc/passwd").exists());
    let error = bench.store.pair(&name("head-skeleton")).unwrap_err();
    assert!(error.to_string().starts_with("the base of head-skeleton is gone"), "{error}");
}

#[test]
fn a_refused_template_leaves_nothing() {
    let bench = Bench::new();
    fs::write(bench.root("head").join("skeleton"), "").unwrap();
    let plan = bench.store.plan_split(&name("head")).unwrap();
    assert_eq!(plan.refused, [Refusal::Taken]);
    let error = bench.store.split(&name("head")).unwrap_err();
    assert!(error.to_string().starts_with("head cannot be split: it already has \"skeleton\""));
    assert_eq!(bench.names(), ["head"]);
}

#[test]
fn the_skeletons_of_a_base_are_it_and_its_clones() {
    let bench = Bench::new();
    bench.split();
    bench.store.clone_environment(&name("head-skeleton").into(), &name("web")).unwrap();
    for known in ["head", "head-base", "head-skeleton", "web"] {
        let pair = bench.store.pair(&name(known)).unwrap();
        assert_eq!(pair.base.name, name("head-base"), "{known}");
        let skeletons: Vec<_> = pair.skeletons.iter().map(|other| other.name.as_str()).collect();
        assert_eq!(skeletons, ["head-skeleton", "web"], "{known}");
    }
    bench.store.create(&name("other"), Layout::Flat).unwrap();
    let error = bench.store.pair(&name("other")).unwrap_err();
    assert!(error.to_string().starts_with("other is neither a base nor a skeleton"), "{error}");
}

#[test]
fn a_broken_certificate_is_found() {
    let bench = Bench::new();
    bench.split();
    let (base, skeleton) = (name("head-base"), name("head-skeleton"));
    let halves = bench.store.halves(&base, &skeleton).unwrap();
    assert_eq!(store::thin::check(&halves).faults, []);
    let link = bench.root("head-skeleton").join("etc/ssl/certs/0a.0");
    fs::remove_file(&link).unwrap();
    symlink("../../../usr/share/certs/trusted/A.pem", &link).unwrap();
    let halves = bench.store.halves(&base, &skeleton).unwrap();
    let check = store::thin::check(&halves);
    assert!(
        matches!(check.faults.as_slice(), [Fault::Dangles { path, .. }] if path == b"etc/ssl/certs/0a.0"),
        "{check:?}"
    );
}

#[test]
fn an_update_of_the_base_is_told_of_each_skeleton() {
    let bench = Bench::new();
    bench.split();
    let base = name("head-base");
    let pair = bench.store.pair(&base).unwrap();
    // Without a snapshot there is nothing to compare with.
    let none = bench.store.touched(&pair, &Update::SinceNewest).unwrap();
    assert_eq!(none, [(name("head-skeleton"), Vec::new())]);
    bench.store.snapshot(&base, &"before".parse().unwrap()).unwrap();
    let update = |root: PathBuf| {
        fs::write(root.join("bin/sh"), "a new shell").unwrap();
        fs::remove_file(root.join("usr/share/certs/trusted/A.pem")).unwrap();
    };
    bench.store.clone_environment(&base.clone().into(), &name("rehearsal")).unwrap();
    update(bench.root("rehearsal"));
    let foretold = bench.store.touched(&pair, &Update::To(name("rehearsal"))).unwrap();
    update(bench.root("head-base"));
    let touched = bench.store.touched(&pair, &Update::SinceNewest).unwrap();
    assert_eq!(foretold, touched);
    let told: Vec<_> = touched.iter().flat_map(|(_, all)| all).map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "/etc/ssl/certs/0a.0 leads nowhere now: \
             \"../../../../usr/share/certs/trusted/A.pem\" is gone",
            "/usr/local/bin/sh leads to /bin/sh, which has changed",
        ]
    );
}

#[test]
fn a_listing_tells_hard_links_and_links() {
    let bench = Bench::new();
    let name = name("head");
    let tree = bench.store.halves(&name, &name).unwrap().base;
    let (one, other) = (tree.get(b".cshrc").unwrap(), tree.get(b"root/.cshrc").unwrap());
    assert_eq!((one.file, one.names), (other.file, 2));
    assert_eq!(tree.get(b"etc/unbound").unwrap().kind, Kind::Link(b"../var/unbound".to_vec()));
    assert_eq!(tree.get(b"tmp").unwrap().mode, 0o1777);
}

#[cfg(target_os = "linux")]
#[test]
fn flags_are_kept_and_stand_in_nobodys_way() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

    /// Takes the flags off, whatever became of the test.
    struct Unprotect<'a>(&'a Bench);

    impl Drop for Unprotect<'_> {
        fn drop(&mut self) {
            for half in ["head", "head-base", "head-skeleton"] {
                for file in ["var/empty", "bin/sh"] {
                    if let Ok(file) = fs::File::open(self.0.root(half).join(file)) {
                        let _ = ioctl_setflags(&file, IFlags::empty());
                    }
                }
            }
        }
    }

    let bench = Bench::new();
    let unprotect = Unprotect(&bench);
    let immutable = |half: &str, file: &str| {
        let file = fs::File::open(bench.root(half).join(file)).unwrap();
        ioctl_getflags(&file).unwrap().contains(IFlags::IMMUTABLE)
    };
    for file in ["var/empty", "bin/sh"] {
        let file = fs::File::open(bench.root("head").join(file)).unwrap();
        if let Err(error) = ioctl_setflags(&file, IFlags::IMMUTABLE) {
            eprintln!("left out: no file can be made immutable here: {error}");
            return;
        }
    }
    bench.split();
    assert!(immutable("head", "var/empty") && immutable("head", "bin/sh"));
    assert!(immutable("head-skeleton", "var/empty") && immutable("head-base", "bin/sh"));
    drop(unprotect);
}
