//! A store without room: it says so, and nothing is half-done.

use std::fs::{self, File};
use std::io::Write;

use crate::bench::{Bench, name, point, synchronize};
use crate::streams::noise;

#[test]
fn without_room_a_verb_says_so_and_leaves_what_was() {
    let Some(bench) = Bench::small() else { return };
    bench.create("head");
    bench.put("head", "home/small", "small");
    fs::write(bench.files("head").join("home/large"), noise(1 << 20)).unwrap();
    bench.snapshot("head@one");
    let stream = bench.sent("head@one", None);
    bench.create("filler");
    fill(&mut File::create(bench.files("filler").join("home/fill")).unwrap());

    let said = bench.receive("new", &stream).unwrap_err().to_string();
    assert!(["full", "room", "quota", "space"].iter().any(|word| said.contains(word)), "{said}");
    assert_eq!(bench.names(), ["filler", "head"]);
    assert_eq!(bench.read("head", "home/small").as_deref(), Some("small"));
    assert_eq!(bench.snapshots("head"), ["one"]);

    // Destroying makes room, and then everything works again. btrfs and ZFS free what was destroyed beside
    // their other work: with each transaction some of it.
    bench.destroy("filler").unwrap();
    let received = (0..MOST_TRANSACTIONS).find_map(|_| {
        synchronize(&bench.files("head").join("home/small"));
        bench.receive("new", &stream).ok()
    });
    assert!(received.is_some(), "no room came back");
    bench.store.clone_environment(&point("head@one"), &name("desk")).unwrap();
    assert_eq!(bench.read("desk", "home/small").as_deref(), Some("small"));
}

/// How many transactions a store may take to free what was destroyed.
const MOST_TRANSACTIONS: u32 = 200;

/// Writes until the last byte of room is taken.
fn fill(file: &mut File) {
    let block = noise(1 << 20);
    let mut piece = block.len();
    while piece > 0 {
        if file.write_all(&block[..piece]).is_err() || file.sync_all().is_err() {
            piece /= 16;
        }
    }
}
