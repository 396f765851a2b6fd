//! Everything that belongs to a file, in any combination, through every way that a copy is made.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::fs::{
    AtFlags, CWD, FileType, IFlags, Mode, Timespec, Timestamps, XattrFlags, chownat,
    ioctl_getflags, ioctl_setflags, lsetxattr, mkfifoat, mknodat, utimensat,
};
use store::Newer;

use crate::bench::{Bench, is_root, name, point, snapshot_name};
use crate::picture::Picture;
use crate::random::cases;

#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    name: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, u32),
    attributes: Vec<(&'static str, Vec<u8>)>,
    listed: bool,
    flags: IFlags,
}

#[derive(Clone, Debug)]
enum Kind {
    Device,
    Directory(Vec<Node>),
    Fifo,
    File(Vec<u8>),
    /// Another name of the first regular file.
    Link,
    Sparse(u64),
    Symlink(Vec<u8>),
}

fn node() -> impl Strategy<Value = Node> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let text = proptest::collection::vec(1..=255_u8, 1..200);
    let leaf = prop_oneof![
        Just(Kind::Device),
        Just(Kind::Fifo),
        Just(Kind::Link),
        bytes().prop_map(Kind::File),
        bytes().prop_map(Kind::File),
        (0..3_u64).prop_map(Kind::Sparse),
        text.prop_map(Kind::Symlink),
    ];
    with_metadata(leaf).prop_recursive(3, 24, 4, |node| {
        with_metadata(proptest::collection::vec(node, 0..4).prop_map(Kind::Directory))
    })
}

fn with_metadata(kind: impl Strategy<Value = Kind> + 'static) -> BoxedStrategy<Node> {
    let names: Vec<Vec<u8>> = vec![
        b"plain".to_vec(),
        b"line\nbreak".to_vec(),
        b"\xff\xfe no text".to_vec(),
        "\u{fc}mlaut".into(),
        vec![b'n'; 200],
        b"10 path=elsewhere".to_vec(),
    ];
    let attribute = (
        prop::sample::select(vec![
            "user.note",
            "user.a=b%3D",
            "trusted.key",
            "security.capability",
        ]),
        proptest::collection::vec(any::<u8>(), 0..300),
    );
    let times = (
        prop::sample::select(vec![-2_000_000_000, -1, 0, 1_000_000_000, 4_000_000_000]),
        prop::sample::select(vec![0, 1, 500_000_000, 999_999_999]),
    );
    let owner = prop::sample::select(vec![(0, 0), (1000, 100), (70_000, 3_000_000_000)]);
    let flags = prop::sample::select(vec![
        IFlags::empty(),
        IFlags::empty(),
        IFlags::IMMUTABLE,
        IFlags::APPEND,
        IFlags::NODUMP | IFlags::NOATIME,
        IFlags::IMMUTABLE | IFlags::NODUMP,
    ]);
    let attributes = proptest::collection::vec(attribute, 0..3);
    let parts = (prop::sample::select(names), 0..0o10000_u32, owner, times, attributes);
    (kind, parts, any::<bool>(), flags)
        .prop_map(|(kind, (name, mode, owner, modified, attributes), listed, flags)| Node {
            kind,
            name,
            mode,
            owner,
            modified,
            attributes,
            listed,
            flags,
        })
        .boxed()
}

/// Makes a tree. What this host's file system cannot hold is left out of it.
fn build(node: &Node, path: &Path, first: &mut Option<PathBuf>) {
    match &node.kind {
        Kind::Device => {
            let null = rustix::fs::makedev(1, 3);
            mknodat(CWD, path, FileType::CharacterDevice, Mode::RUSR, null).unwrap();
        }
        Kind::Directory(nodes) => {
            fs::create_dir(path).unwrap();
            for node in nodes {
                let path = path.join(OsStr::from_bytes(&node.name));
                if fs::symlink_metadata(&path).is_err() {
                    build(node, &path, first);
                }
            }
        }
        Kind::Fifo => mkfifoat(CWD, path, Mode::RUSR).unwrap(),
        Kind::File(bytes) => fs::write(path, bytes).unwrap(),
        Kind::Link => {
            if let Some(first) = first {
                // Of an immutable file there are no more names.
                let _ = fs::hard_link(first, path);
            }
            return;
        }
        Kind::Sparse(blocks) => {
            let file = File::create(path).unwrap();
            file.write_all_at(b"data", blocks << 16).unwrap();
            file.set_len(3 << 16).unwrap();
        }
        Kind::Symlink(says) => {
            rustix::fs::symlinkat(says.as_slice(), CWD, path).unwrap();
        }
    }
    let (regular, directory) = (
        matches!(node.kind, Kind::File(_) | Kind::Sparse(_)),
        matches!(node.kind, Kind::Directory(_)),
    );
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let id = |(uid, gid)| (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    let (uid, gid) = id(node.owner);
    chownat(CWD, path, Some(uid), Some(gid), nofollow).unwrap();
    if !matches!(node.kind, Kind::Symlink(_)) {
        rustix::fs::chmod(path, Mode::from_raw_mode(node.mode)).unwrap();
    }
    for (attribute, value) in &node.attributes {
        let (user, capability) =
            (attribute.starts_with("user."), attribute.starts_with("security."));
        if capability && regular {
            lsetxattr(path, *attribute, &CAPABILITY, XattrFlags::empty()).unwrap();
        } else if !capability && (!user || regular || directory) {
            lsetxattr(path, *attribute, value, XattrFlags::empty()).unwrap();
        }
    }
    if node.listed && (regular || directory) {
        let mut lists = vec!["system.posix_acl_access"];
        lists.extend(directory.then_some("system.posix_acl_default"));
        for list in lists {
            // Some file systems have none.
            let _ = lsetxattr(path, list, &LIST, XattrFlags::empty());
        }
    }
    let time = Timespec { tv_sec: node.modified.0, tv_nsec: node.modified.1.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, nofollow).unwrap();
    if regular || directory {
        let _ = ioctl_setflags(File::open(path).unwrap(), node.flags);
    }
    if regular && first.is_none() && !node.flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND) {
        *first = Some(path.to_owned());
    }
}

/// Takes away a tree with flags in it.
fn clear(path: &Path) {
    let stat = fs::symlink_metadata(path).unwrap();
    if stat.is_dir() || stat.is_file() {
        let _ = ioctl_setflags(File::open(path).unwrap(), IFlags::empty());
    }
    if stat.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            clear(&entry.unwrap().path());
        }
        fs::remove_dir(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn any_tree_comes_out_of_every_copy_as_it_went_in() {
    if !is_root() {
        println!("skipped: only the superuser makes device nodes, other owners and flags");
        return;
    }
    let bench = Bench::new();
    bench.create("head");
    bench.snapshot("head@empty");
    bench.receive("came", &bench.sent("head@empty", None)).unwrap();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let forest = proptest::collection::vec(node(), 1..5);
    let mut before = "empty".to_owned();
    for round in 0..cases() {
        let nodes = forest.new_tree(&mut runner).unwrap().current();
        let tree = bench.files("head").join("home/tree");
        if tree.exists() {
            clear(&tree);
        }
        fs::create_dir(&tree).unwrap();
        let mut first = None;
        for node in &nodes {
            let path = tree.join(OsStr::from_bytes(&node.name));
            if fs::symlink_metadata(&path).is_err() {
                build(node, &path, &mut first);
            }
        }
        let wanted = bench.picture("head");
        // A copy, and a snapshot of it.
        bench.clone_of("head", "copy");
        wanted.assert_same(&bench.picture("copy"));
        assert_eq!(bench.store.diff(&point("head"), &point("copy")).unwrap(), []);
        bench.destroy("copy").unwrap();
        let now = format!("r{round}");
        bench.snapshot(&format!("head@{now}"));
        // Back from something else.
        clear(&tree);
        bench.put("head", "top", "later");
        bench.store.rollback(&name("head"), &snapshot_name(&now), Newer::Refuse).unwrap();
        wanted.assert_same(&bench.picture("head"));
        assert_eq!(bench.store.diff(&point(&format!("head@{now}")), &point("head")).unwrap(), []);
        // As a whole, and as what is new.
        let without = bench.capabilities().nested;
        let sent = |came: &str| {
            let (wanted, came) = (bench.picture("head"), bench.picture(came));
            match without {
                // btrfs-send(8) has no flags.
                true => wanted.without_flags().assert_same(&came.without_flags()),
                false => wanted.assert_same(&came),
            }
        };
        let at = format!("head@{now}");
        bench.receive("whole", &bench.sent(&at, None)).unwrap();
        sent("whole");
        bench.destroy("whole").unwrap();
        bench.receive("came", &bench.sent(&at, Some(&before))).unwrap();
        sent("came");
        bench.destroy_snapshot(&format!("head@{before}")).unwrap();
        bench.destroy_snapshot(&format!("came@{before}")).unwrap();
        before = now;
    }
    for text in ["head", "came"] {
        clear(&bench.files(text).join("home/tree"));
    }
}

#[test]
fn a_change_of_an_attribute_a_list_or_a_flag_is_a_difference() {
    if !is_root() {
        println!("skipped: only the superuser sets flags");
        return;
    }
    let bench = Bench::new();
    bench.create("head");
    let root = bench.files("head");
    for file in ["note", "list", "flag", "same"] {
        fs::write(root.join("home").join(file), "x").unwrap();
    }
    bench.snapshot("head@one");
    let home = root.join("home");
    lsetxattr(home.join("note"), "user.note", b"x", XattrFlags::empty()).unwrap();
    let mut wanted = vec!["note"];
    let list = "system.posix_acl_access";
    if lsetxattr(home.join("list"), list, &LIST, XattrFlags::empty()).is_ok() {
        wanted.push("list");
    }
    if ioctl_setflags(File::open(home.join("flag")).unwrap(), IFlags::NODUMP).is_ok() {
        wanted.push("flag");
    }
    wanted.sort_unstable();
    let changes = bench.store.diff(&point("head@one"), &point("head")).unwrap();
    let found: Vec<_> = changes.iter().map(|change| change.path.to_str().unwrap()).collect();
    assert_eq!(found, wanted.iter().map(|file| format!("home/{file}")).collect::<Vec<_>>());
    assert!(changes.iter().all(|change| change.kind == store::ChangeKind::Changed));
}

#[test]
fn a_stream_of_directories_is_an_archive_that_tar_and_bsdtar_read() {
    let bench = Bench::new();
    if !is_root() || bench.capabilities().nested || bench.capabilities().clones_depend {
        println!("skipped: it takes the superuser, and a store of directories");
        return;
    }
    bench.create("head");
    let root = bench.files("head");
    let long = root.join("d".repeat(150)).join("e".repeat(150));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("file"), "deep").unwrap();
    fs::write(root.join("line\nbreak"), "x").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"\xff\xfe")), "y").unwrap();
    fs::hard_link(root.join("line\nbreak"), root.join("other name")).unwrap();
    std::os::unix::fs::symlink("t".repeat(150), root.join("link")).unwrap();
    mkfifoat(CWD, root.join("fifo"), Mode::RUSR).unwrap();
    let null = rustix::fs::makedev(1, 3);
    mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::RUSR, null).unwrap();
    let disk = File::create(root.join("disk")).unwrap();
    disk.write_all_at(b"begin", 0).unwrap();
    disk.write_all_at(&[9; 5000], 5 << 30).unwrap();
    disk.set_len(8 << 30).unwrap();
    let listed = root.join("listed");
    fs::write(&listed, "z").unwrap();
    let none = XattrFlags::empty();
    lsetxattr(&listed, "user.bytes", b"a\nb\0c\n19 path=elsewhere\n", none).unwrap();
    lsetxattr(&listed, "security.capability", &CAPABILITY, none).unwrap();
    lsetxattr(&listed, "system.posix_acl_access", &LIST, none).unwrap();
    let old = Timespec { tv_sec: -86_400 * 365, tv_nsec: 0 };
    let times = Timestamps { last_access: old, last_modification: old };
    utimensat(CWD, &listed, &times, AtFlags::empty()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("archive");
    let flagged =
        no_dump(&File::create(&archive).unwrap()) && no_dump(&File::open(&listed).unwrap());
    let wanted = bench.picture("head").without_flags().without_root();
    bench.snapshot("head@one");
    fs::write(&archive, bench.sent("head@one", None)).unwrap();
    let all: [(&str, &[&str]); 2] = [
        ("bsdtar", &["-p"]),
        ("tar", &["-p", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"]),
    ];
    for (program, options) in all {
        let out = scratch.path().join(program);
        fs::create_dir(&out).unwrap();
        let run = Command::new(program)
            .args(options)
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&out)
            .output();
        let Ok(run) = run else {
            println!("skipped: there is no {program} (Debian: libarchive-tools, tar)");
            continue;
        };
        assert!(run.status.success(), "{program}: {}", String::from_utf8_lossy(&run.stderr));
        // bsdtar leaves the time of a directory that was there.
        wanted.assert_same(&Picture::of(&out).without_flags().without_root());
        let blocks =
            std::os::unix::fs::MetadataExt::blocks(&fs::metadata(out.join("disk")).unwrap());
        assert!(blocks < 1024, "{program}: the holes take {blocks} blocks");
        if flagged {
            let kept = ioctl_getflags(File::open(out.join("listed")).unwrap()).unwrap();
            assert_eq!(kept.contains(IFlags::NODUMP), program == "bsdtar", "{program}");
        }
    }
}

/// Sets the flag `nodump` of a file; not every file system has flags.
fn no_dump(file: &File) -> bool {
    ioctl_setflags(file, IFlags::NODUMP).is_ok()
}

/// CAP_NET_RAW as `setcap cap_net_raw+ep` writes it.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// `u::rw-,u:501:r--,g::r--,m::rw-,o::---` as Linux keeps it.
const LIST: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 245, 1, 0, 0, 4, 0, 4, 0, 255, 255,
    255, 255, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
];
