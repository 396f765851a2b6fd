use vfs::Wait;
use wire::nfs3::{
    DirEntry, DirEntryPlus, ReaddirArgs, ReaddirRes, ReaddirplusArgs, ReaddirplusRes, Status,
};

use super::*;

/// A directory with 40 files whose names are of 1 to 40 bytes.
fn bench() -> Bench {
    let name = |len: usize| "x".repeat(len);
    let tree =
        (1..=40).fold(MemFs::new(), |tree, len| tree.file(&format!("/{}", name(len)), 0o644, b""));
    Bench::new(tree)
}

fn readdir_bytes(bench: &Bench, cookie: u64, count: u32) -> Vec<u8> {
    let dir = bench.root();
    let args = ReaddirArgs { dir: fh(&dir), cookie, verifier: *b"whatever", count };
    bench.bytes(Procedure::Readdir, &args)
}

fn readdir(bench: &Bench, cookie: u64, count: u32) -> ReaddirRes<'static> {
    ReaddirRes::from_bytes(readdir_bytes(bench, cookie, count).leak()).unwrap()
}

fn plus_bytes(bench: &Bench, cookie: u64, dircount: u32, maxcount: u32) -> Vec<u8> {
    let dir = bench.root();
    let args = ReaddirplusArgs { dir: fh(&dir), cookie, verifier: [0; 8], dircount, maxcount };
    bench.bytes(Procedure::Readdirplus, &args)
}

fn plus(bench: &Bench, cookie: u64, dircount: u32, maxcount: u32) -> ReaddirplusRes<'static> {
    ReaddirplusRes::from_bytes(plus_bytes(bench, cookie, dircount, maxcount).leak()).unwrap()
}

/// Lists everything in pieces of `count` bytes.
fn pieces(bench: &Bench, count: u32) -> Vec<DirEntry<'static>> {
    let mut all: Vec<DirEntry<'static>> = Vec::new();
    for _ in 0..100 {
        let cookie = all.last().map_or(0, |last| last.cookie);
        let piece = readdir(bench, cookie, count).ok().unwrap();
        assert!(piece.dir.is_some());
        assert_eq!(piece.verifier, [0; 8]);
        all.extend(piece.entries);
        if piece.eof {
            return all;
        }
    }
    panic!("no end");
}

#[test]
fn a_list_has_everything_once_and_the_dots() {
    let bench = bench();
    let whole = readdir(&bench, 0, 8192).ok().unwrap();
    assert!(whole.eof);
    let mut names: Vec<&[u8]> = whole.entries.iter().map(|entry| entry.name.0).collect();
    names.sort_unstable();
    let mut expected: Vec<Vec<u8>> = (1..=40).map(|len| vec![b'x'; len]).collect();
    expected.extend([b".".to_vec(), b"..".to_vec()]);
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn a_list_in_pieces_of_any_size_is_the_same_list() {
    let bench = bench();
    let whole = readdir(&bench, 0, 8192).ok().unwrap().entries;
    for count in [168, 200, 512, 1024, 1_000_000] {
        assert_eq!(pieces(&bench, count), whole, "count {count}");
    }
}

#[test]
fn a_fileid_in_a_list_is_that_of_the_file() {
    let bench = bench();
    let entry = readdir(&bench, 0, 8192).ok().unwrap().entries[2];
    let path = format!("/{}", String::from_utf8(entry.name.0.to_vec()).unwrap());
    assert_eq!(entry.fileid, bench.tree.getattr(&bench.tree.at(&path), Wait::Yes).unwrap().fileid);
}

#[test]
fn no_result_is_longer_than_the_client_has_room_for() {
    let bench = bench();
    let mut used = 0;
    for count in 0..2000_u32 {
        let bytes = readdir_bytes(&bench, 0, count);
        // The status is not part of what is counted, nor are failures.
        if bytes[..4] == [0; 4] {
            assert!(bytes.len() - 4 <= usize::try_from(count).unwrap(), "count {count}");
            used = used.max(bytes.len() - 4);
        }
        let bytes = plus_bytes(&bench, 0, u32::MAX, count);
        if bytes[..4] == [0; 4] {
            assert!(bytes.len() - 4 <= usize::try_from(count).unwrap(), "count {count}");
        }
    }
    assert!(used > 1900);
}

#[test]
fn a_result_is_exactly_as_long_as_fits() {
    let bench = bench();
    // Attributes 88, verifier 8, end 8, and "." takes 28.
    let one = readdir(&bench, 0, 132).ok().unwrap();
    assert_eq!((one.entries.len(), one.eof), (1, false));
    assert_eq!(readdir(&bench, 0, 131).status(), Status::TooSmall);
    let two = readdir(&bench, 0, 160).ok().unwrap();
    assert_eq!((two.entries.len(), two.eof), (2, false));
}

#[test]
fn room_for_not_even_one_entry_is_too_small() {
    let bench = bench();
    for count in [0, 1, 88, 103, 104, 131] {
        let ReaddirRes::Fail(status, dir) = readdir(&bench, 0, count) else { panic!() };
        assert_eq!((status, dir.is_some()), (Status::TooSmall, true), "count {count}");
        assert_eq!(plus(&bench, 0, 8192, count).status(), Status::TooSmall, "count {count}");
    }
}

#[test]
fn behind_the_last_entry_is_an_empty_end() {
    let bench = bench();
    let last = readdir(&bench, 0, 8192).ok().unwrap().entries.last().unwrap().cookie;
    let end = readdir(&bench, last, 512).ok().unwrap();
    assert_eq!((end.entries, end.eof), (Vec::new(), true));
}

#[test]
fn a_list_over_udp_fits_a_datagram() {
    let tree = (0..900).fold(MemFs::new(), |tree, number| {
        tree.file(&format!("/{number:04}{}", "y".repeat(60)), 0o644, b"")
    });
    let bench = Bench::new(tree).by(Client::machine().udp());
    assert!(readdir_bytes(&bench, 0, u32::MAX).len() <= (32 << 10) + 4);
    assert!(plus_bytes(&bench, 0, u32::MAX, u32::MAX).len() <= (32 << 10) + 4);
}

#[test]
fn readdirplus_shows_what_lookup_and_getattr_would() {
    let bench = bench();
    let list = plus(&bench, 0, 8192, 65536).ok().unwrap();
    assert!(list.eof && list.dir.is_some());
    assert_eq!(list.entries.len(), 42);
    let DirEntryPlus { entry, attributes, handle } = list.entries[5];
    let path = format!("/{}", String::from_utf8(entry.name.0.to_vec()).unwrap());
    assert_eq!(handle, Some(fh(&bench.at(&path))));
    assert_eq!(attributes.unwrap().fileid, entry.fileid);
}

#[test]
fn dircount_bounds_names_but_never_holds_a_list_up() {
    let bench = bench();
    assert_eq!(plus(&bench, 0, 0, 8192).ok().unwrap().entries.len(), 1);
    // "." and ".." take 24 bytes each without what READDIRPLUS adds.
    assert_eq!(plus(&bench, 0, 47, 8192).ok().unwrap().entries.len(), 1);
    assert_eq!(plus(&bench, 0, 48, 8192).ok().unwrap().entries.len(), 2);
}

#[test]
fn a_list_without_search_permission_has_names_only() {
    let tree = MemFs::new().file("/dir/file", 0o644, b"").dir("/dir", 0o744);
    let bench = Bench::new(tree).by(Client::machine().user(7, 7));
    let dir = bench.at("/dir");
    let args = ReaddirplusArgs {
        dir: fh(&dir),
        cookie: 0,
        verifier: [0; 8],
        dircount: 8192,
        maxcount: 8192,
    };
    let list: ReaddirplusRes<'_> = bench.call(Procedure::Readdirplus, &args);
    let entries = list.ok().unwrap().entries;
    assert_eq!(entries.len(), 3);
    assert!(entries.iter().all(|entry| entry.attributes.is_none() && entry.handle.is_none()));
}

#[test]
fn only_directories_are_listed_and_only_for_who_may() {
    let bench = Bench::new(MemFs::new().file("/file", 0o644, b"").dir("/dir", 0o711));
    let list = |bench: &Bench, path: &str| -> ReaddirRes<'static> {
        let dir = bench.at(path);
        let args = ReaddirArgs { dir: fh(&dir), cookie: 0, verifier: [0; 8], count: 1024 };
        bench.call(Procedure::Readdir, &args)
    };
    assert_eq!(list(&bench, "/file").status(), Status::NotDir);
    let bench = bench.by(Client::machine().user(7, 7));
    assert_eq!(list(&bench, "/dir").status(), Status::Acces);
}
