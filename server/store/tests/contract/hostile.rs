//! Streams of a sender who is up to no good: every checksum is right, and what is in them is not.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand_of_test::numbers;
use store::{ExportSettings, Role, StoreError, StreamError};

use crate::bench::{Bench, is_root, name};
use crate::crafted::{apart, together};
use crate::picture::furnish;
use crate::random::cases;

/// Something that a stream makes.
enum Entry<'a> {
    Directory(&'a str),
    /// A file with one byte, an `x`.
    File(&'a str),
    /// Another name of a file.
    Name(&'a str, &'a str),
    /// A symbolic link, and where it leads.
    Link(&'a str, &'a str),
    /// The device node of /dev/null.
    Node(&'a str),
    /// A file of which only a claim of its length comes.
    Claim(&'a str, u64),
    Setuid(&'a str),
}

use Entry::{Claim, Directory, File as Regular, Link, Name, Node, Setuid};

/// A store with an environment, what it sends, and a directory beside it that is nobody's to touch.
struct Target {
    bench: Bench,
    header: String,
    payload: Vec<u8>,
    outside: tempfile::TempDir,
}

impl Target {
    /// `None` where ZFS takes in the streams: their files are the kernel's to read.
    fn new() -> Option<Self> {
        let bench = Bench::new();
        bench.create("head");
        let snapshot = bench.snapshot("head@one");
        assert!(!snapshot.automatic);
        let (header, payload) = apart(&bench.sent("head@one", None));
        if header.contains("format = \"zfs\"") {
            println!("skipped: what files a stream has, ZFS itself reads");
            return None;
        }
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "kept").unwrap();
        Some(Self { bench, header, payload, outside })
    }

    fn forge(&self, entries: &[Entry<'_>]) -> Vec<u8> {
        let payload = if self.header.contains("format = \"pax\"") {
            entries.iter().flat_map(tree::record).collect()
        } else {
            btrfs::payload(entries)
        };
        together(&self.header, &payload)
    }

    /// Another stream, which makes all this too.
    fn with(&self, payload: &[u8], entries: &[Entry<'_>]) -> Vec<u8> {
        if self.header.contains("format = \"pax\"") {
            payload.iter().copied().chain(entries.iter().flat_map(tree::record)).collect()
        } else {
            btrfs::with(payload, entries)
        }
    }

    fn receive(&self, entries: &[Entry<'_>]) -> Result<(), StoreError> {
        self.bench.receive("came", &self.forge(entries)).map(drop)
    }

    /// Fails unless all of this is refused, in one sentence, and nothing of it is anywhere.
    fn refuses(&self, what: &str, entries: &[Entry<'_>]) {
        let Err(refused) = self.receive(entries) else { panic!("{what}: it was received") };
        let said = refused.to_string();
        assert!(!said.is_empty() && said.lines().count() == 1, "{what}: {said}");
        self.untouched(what);
    }

    fn untouched(&self, what: &str) {
        assert_eq!(self.bench.names(), ["head"], "{what}");
        assert_eq!(self.bench.leftovers(), Vec::<PathBuf>::new(), "{what}");
        let outside = self.outside.path();
        assert_eq!(fs::read_dir(outside).unwrap().count(), 1, "{what}");
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept", "{what}");
        assert_eq!(fs::metadata(outside.join("kept")).unwrap().nlink(), 1, "{what}");
    }
}

#[test]
fn what_a_stream_makes_arrives() {
    let Some(target) = Target::new() else { return };
    // What the others are refused for is not how they are written.
    let all = [Directory("a"), Regular("a/file"), Name("name", "a/file"), Link("link", "a")];
    target.receive(&all).unwrap();
    assert_eq!(target.bench.read("came", "name").as_deref(), Some("x"));
    assert_eq!(target.bench.read("came", "link/file").as_deref(), Some("x"));
}

#[test]
fn nothing_is_written_out_of_the_tree() {
    let Some(target) = Target::new() else { return };
    let outside = target.outside.path().to_str().unwrap();
    let up = format!("{}{outside}", "../".repeat(20).trim_end_matches('/'));
    for there in [outside, &up] {
        let kept = format!("{there}/kept");
        let new = format!("{there}/new");
        target.refuses("a path", &[Regular(&format!("../../../../..{new}"))]);
        target.refuses("another name", &[Name("name", &format!("../../../../..{kept}"))]);
        target.refuses("through a link", &[Link("link", there), Regular("link/new")]);
        target
            .refuses("through two", &[Link("one", there), Link("two", "one"), Regular("two/new")]);
        target.refuses("a directory", &[Link("link", there), Directory("link/new")]);
        target.refuses("a name through a link", &[Link("link", there), Name("name", "link/kept")]);
        target.refuses("over a link", &[Link("link", &kept), Regular("link")]);
    }
    for odd in ["..", ".", "a/..", "", "a\0b"] {
        target.refuses(odd, &[Directory("a"), Regular(odd)]);
    }
    target.refuses("a name twice", &[Directory("a"), Directory("a")]);
}

#[test]
fn news_write_nothing_out_of_the_tree_either() {
    let Some(target) = Target::new() else { return };
    let (bench, outside) = (&target.bench, target.outside.path().to_str().unwrap());
    let up = format!("{}{outside}", "../".repeat(20).trim_end_matches('/'));
    bench.receive("copy", &together(&target.header, &target.payload)).unwrap();
    bench.put("head", "top", "changed");
    bench.snapshot("head@two");
    let (header, payload) = apart(&bench.sent("head@two", Some("one")));
    let before = bench.picture("copy");
    for there in [outside, &up] {
        let (kept, new) = (format!("{there}/kept"), format!("{there}/new"));
        for entries in [
            &[Link("link", &kept), Regular("link")][..],
            &[Link("dir", there), Regular("dir/new")],
            &[Link("dir", there), Name("name", "dir/kept")],
            &[Regular(&format!("../../../../..{new}"))],
            &[Name("name", &format!("../../../../..{kept}"))],
        ] {
            let forged = together(&header, &target.with(&payload, entries));
            bench.receive("copy", &forged).unwrap_err();
            assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
            assert_eq!(fs::read_to_string(target.outside.path().join("kept")).unwrap(), "kept");
            before.assert_same(&bench.picture("copy"));
            assert_eq!(bench.snapshots("copy"), ["one"]);
            assert_eq!(bench.leftovers(), Vec::<PathBuf>::new());
        }
    }
    let good = together(&header, &target.with(&payload, &[Directory("more")]));
    bench.receive("copy", &good).unwrap();
    assert!(bench.files("copy").join("more").is_dir());
}

#[test]
fn no_device_is_opened() {
    if !is_root() {
        println!("skipped: only the superuser makes device nodes");
        return;
    }
    let Some(target) = Target::new() else { return };
    target.refuses("written to", &[Node("null"), Regular("null")]);
    // An environment has some, which only its own machine can open.
    target.receive(&[Node("null")]).unwrap();
    let node = target.bench.files("came").join("null");
    assert!(fs::symlink_metadata(node).unwrap().file_type().is_char_device());
}

#[test]
fn setuid_programs_arrive_where_only_the_superuser_comes() {
    let Some(target) = Target::new() else { return };
    target.receive(&[Setuid("su")]).unwrap();
    let root = target.bench.files("came");
    assert_eq!(fs::metadata(root.join("su")).unwrap().mode() & 0o7777, 0o4755);
    // The store's directory; a stream cannot change what is above its root.
    let store = root.parent().and_then(|above| above.parent()).unwrap();
    assert_eq!(fs::metadata(store).unwrap().permissions().mode() & 0o077, 0);
}

#[test]
fn a_tree_that_is_too_deep_is_refused_and_cleared_away() {
    let Some(target) = Target::new() else { return };
    let paths: Vec<String> = (1..900).map(|depth| vec!["d"; depth].join("/")).collect();
    let deep: Vec<Entry<'_>> = paths.iter().map(|path| Directory(path)).collect();
    if target.receive(&deep).is_ok() {
        // btrfs copies it without walking it: it is there whole, and can be destroyed.
        assert!(target.bench.files("came").join(&paths[800]).is_dir());
        target.bench.destroy("came").unwrap();
    }
    target.untouched("deep");
}

#[test]
fn a_length_that_is_claimed_takes_no_space() {
    let Some(target) = Target::new() else { return };
    // A file system has its own limit, and says so; what it takes is a hole.
    for claim in [1 << 40, 1 << 62, u64::MAX] {
        if target.receive(&[Claim("file", claim)]).is_ok() {
            let file = fs::metadata(target.bench.files("came").join("file")).unwrap();
            // UFS has three blocks for where the end of it would be.
            assert!(file.blocks() < 1024, "{claim}: {} blocks", file.blocks());
            target.bench.destroy("came").unwrap();
        }
        target.untouched("a claim");
    }
}

#[test]
fn very_many_entries_arrive_or_none() {
    let Some(target) = Target::new() else { return };
    let names: Vec<String> = (0..5000).map(|number| format!("{number}")).collect();
    let mut many: Vec<Entry<'_>> = names.iter().map(|name| Directory(name)).collect();
    target.receive(&many).unwrap();
    assert!(target.bench.files("came").join("4999").is_dir());
    target.bench.destroy("came").unwrap();
    // The last is refused, and all the others go with it.
    many.push(Directory("0"));
    target.refuses("the last", &many);
}

#[test]
fn any_damage_with_right_checksums_is_refused_or_received_whole() {
    let Some(target) = Target::new() else { return };
    furnish(&target.bench.files("head"));
    // What is damaged by chance claims no more than some files: holes of exabytes are another fact.
    let home = target.bench.files("head").join("home/disk");
    File::create(home).unwrap();
    target.bench.snapshot("head@two");
    let (header, payload) = apart(&target.bench.sent("head@two", None));
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for round in 0..2 * cases() {
        let [at, bit, cut] = numbers(&mut runner);
        let mut payload = payload.clone();
        let at = at % payload.len();
        if cut % 3 == 0 {
            payload.truncate(at);
        } else {
            payload[at] ^= 1 << (bit % 8);
        }
        if target.bench.receive("came", &together(&header, &payload)).is_ok() {
            target.bench.files("came");
            target.bench.destroy("came").unwrap();
        }
        target.untouched(&format!("round {round}, at {at}"));
    }
}

#[test]
fn a_header_decides_nothing() {
    let Some(target) = Target::new() else { return };
    let export = ExportSettings { shared: true, ..ExportSettings::default() };
    target.bench.store.set_export(&name("head"), export).unwrap();
    target.bench.store.set_role(&name("head"), Role::Template).unwrap();
    let (header, _) = apart(&target.bench.sent("head@one", None));
    assert!(header.contains("template"), "{header}");
    let came = target.bench.receive("came", &together(&header, &target.payload)).unwrap();
    assert_eq!(came.role, Role::Off);
    assert_eq!(target.bench.store.get(&name("came")).unwrap().role, Role::Off);
    let head = target.bench.store.get(&name("head")).unwrap();
    assert_ne!(came.uuid, head.uuid);
    assert_eq!(came.origin, None);
}

#[test]
fn a_header_that_is_none_is_refused() {
    let Some(target) = Target::new() else { return };
    let format = if target.header.contains("\"pax\"") { "pax" } else { "btrfs" };
    let other = target.header.replace(&format!("\"{format}\""), "\"other\"");
    let refused = target.bench.receive("came", &together(&other, &target.payload));
    assert!(matches!(&refused, Err(StoreError::Stream(StreamError::Format(_)))), "{refused:?}");
    for (from, to) in [
        ("name = \"one\"", "name = \"../one\""),
        ("name = \"one\"", "name = \"a/b\""),
        ("schema = ", "schema = 9"),
        ("[snapshot]", "[snapshot]\nmore = 1"),
        ("uuid = ", "uuid = 0 #"),
    ] {
        let header = target.header.replace(from, to);
        assert_ne!(header, target.header, "{from}");
        let refused = target.bench.receive("came", &together(&header, &target.payload));
        assert!(matches!(&refused, Err(StoreError::Stream(_))), "{to}: {refused:?}");
        target.untouched(to);
    }
}

/// Numbers of a test's own, always the same.
mod rand_of_test {
    use proptest::prelude::any;
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    pub(super) fn numbers(runner: &mut TestRunner) -> [usize; 3] {
        any::<[usize; 3]>().new_tree(runner).unwrap().current()
    }
}

/// Entries of a store of plain directories.
mod tree {
    use pax::archive::EntryType;
    use pax::header::Head;
    use pax::sparse;

    use super::Entry;

    pub(super) fn record(entry: &Entry<'_>) -> Vec<u8> {
        match *entry {
            Entry::Directory(path) => head(EntryType::Directory, path).write(&[]),
            Entry::File(path) => file(path, 0o644),
            Entry::Setuid(path) => file(path, 0o4755),
            Entry::Claim(path, len) => {
                let map = sparse::map(&[(len, 0)]);
                let head = head(EntryType::Regular, path);
                let head = Head { stored: map.len() as u64, sparse: Some(len), ..head };
                [head.write(&[]), map].concat()
            }
            Entry::Name(path, first) => {
                Head { link: first.as_bytes(), ..head(EntryType::Link, path) }.write(&[])
            }
            Entry::Link(path, to) => {
                Head { link: to.as_bytes(), ..head(EntryType::Symlink, path) }.write(&[])
            }
            Entry::Node(path) => Head { device: (1, 3), ..head(EntryType::Char, path) }.write(&[]),
        }
    }

    fn file(path: &str, mode: u32) -> Vec<u8> {
        let head = Head { mode, stored: 1, ..head(EntryType::Regular, path) };
        let mut block = [0; 512];
        block[0] = b'x';
        [head.write(&[]), block.to_vec()].concat()
    }

    /// This user, the year 1970, and no attributes.
    fn head(kind: EntryType, path: &str) -> Head<'_> {
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let (mode, zero) = (0o666, (0, 0));
        Head {
            kind,
            name: path.as_bytes(),
            link: b"",
            mode,
            uid,
            gid,
            modified: zero,
            accessed: zero,
            device: (0, 0),
            stored: 0,
            sparse: None,
        }
    }
}

/// Commands of btrfs-send(8) in netbe's pieces.
mod btrfs {
    use super::Entry;

    /// A tree of one subvolume.
    pub(super) fn payload(entries: &[Entry<'_>]) -> Vec<u8> {
        let begin = command(1, &[(15, b"tree"), (1, &[1; 16]), (2, &7_u64.to_le_bytes())]);
        let commands = entries.iter().flat_map(commands);
        let stream = b"btrfs-stream\0\x01\0\0\0".iter().copied().chain(begin).chain(commands);
        let stream: Vec<u8> = stream.chain(command(21, &[])).collect();
        [&[0, 1, 0, 0], &pieces(&stream)[..]].concat()
    }

    /// The same commands with these before the end of the first subvolume.
    pub(super) fn with(payload: &[u8], entries: &[Entry<'_>]) -> Vec<u8> {
        // How many subvolumes there are, and the root's path, which is empty.
        let (head, mut rest) = payload.split_at(4);
        let mut stream = Vec::new();
        loop {
            let (len, more) = rest.split_first_chunk().unwrap();
            let (piece, more) = more.split_at(u32::from_be_bytes(*len).try_into().unwrap());
            rest = more;
            stream.extend(piece);
            if piece.is_empty() {
                break;
            }
        }
        let end = command(21, &[]);
        assert!(stream.ends_with(&end));
        stream.truncate(stream.len() - end.len());
        stream.extend(entries.iter().flat_map(commands).chain(end));
        [head, &pieces(&stream), rest].concat()
    }

    fn pieces(stream: &[u8]) -> Vec<u8> {
        let pieces = stream.chunks(128 << 10).chain([&[][..]]);
        pieces
            .flat_map(|piece| {
                let len = u32::try_from(piece.len()).unwrap().to_be_bytes();
                len.into_iter().chain(piece.iter().copied())
            })
            .collect()
    }

    fn commands(entry: &Entry<'_>) -> Vec<u8> {
        let number = |number: u64| number.to_le_bytes();
        match *entry {
            Entry::Directory(path) => command(4, &[(15, path.as_bytes()), INODE]),
            Entry::File(path) => {
                let write = [(15, path.as_bytes()), (18, &number(0)[..]), (19, b"x")];
                // To what is there it is only written: so nodes and links are written through.
                let new = !matches!(path, "null" | "link");
                let made =
                    if new { command(3, &[(15, path.as_bytes()), INODE]) } else { Vec::new() };
                [made, command(15, &write)].concat()
            }
            Entry::Setuid(path) => {
                let mode = [(15, path.as_bytes()), (5, &number(0o4755)[..])];
                [commands(&Entry::File(path)), command(18, &mode)].concat()
            }
            Entry::Claim(path, len) => {
                let size = [(15, path.as_bytes()), (4, &number(len)[..])];
                [command(3, &[(15, path.as_bytes()), INODE]), command(17, &size)].concat()
            }
            Entry::Name(path, first) => {
                command(10, &[(15, path.as_bytes()), (17, first.as_bytes())])
            }
            Entry::Link(path, to) => {
                command(8, &[(15, path.as_bytes()), INODE, (17, to.as_bytes())])
            }
            Entry::Node(path) => {
                let mode = number(0o020_666);
                command(5, &[(15, path.as_bytes()), INODE, (5, &mode), (8, &number(0x103))])
            }
        }
    }

    fn command(number: u16, values: &[(u16, &[u8])]) -> Vec<u8> {
        let body: Vec<u8> = values
            .iter()
            .flat_map(|(kind, value)| {
                let len = u16::try_from(value.len()).unwrap();
                [&kind.to_le_bytes()[..], &len.to_le_bytes(), value].concat()
            })
            .collect();
        let len = u32::try_from(body.len()).unwrap().to_le_bytes();
        // The sum is over the whole command, with zeros where it stands itself.
        let bare = [&len[..], &number.to_le_bytes(), &[0; 4], &body].concat();
        let sum = crc32c(&bare).to_le_bytes();
        [&len[..], &number.to_le_bytes(), &sum, &body].concat()
    }

    /// btrfs-receive(8) asks for it, and does nothing with it.
    const INODE: (u16, &[u8]) = (3, &[0; 8]);

    /// Castagnoli's, from zero and not inverted.
    fn crc32c(bytes: &[u8]) -> u32 {
        bytes.iter().fold(0, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 }
            })
        })
    }
}
