//! Sending and receiving: everything arrives, or nothing does.

use std::fs;
use std::io::{self, Read, Write};

use store::{ExportSettings, Lacking, Role, StoreError};

use crate::bench::{Bench, name, point, snapshot_name};
use crate::picture::{Picture, furnish};

#[test]
fn what_was_sent_cannot_be_told_from_what_arrived() {
    let bench = Bench::new();
    bench.create("head");
    furnish(&bench.files("head"));
    let sent = bench.picture("head");
    bench.snapshot("head@one");
    bench.put("head", "var/log/later", "x");
    bench.receive("desk", &bench.sent("head@one", None)).unwrap();
    sent.assert_same(&bench.picture("desk"));
    assert_eq!(bench.snapshots("desk"), ["one"]);
}

#[test]
fn what_arrives_has_its_own_identity_and_is_used_for_nothing_yet() {
    let bench = Bench::new();
    let source = bench.create("head");
    bench.store.set(&name("head"), "os", Some("Debian")).unwrap();
    let export = ExportSettings { shared: true, insecure: true, ..ExportSettings::default() };
    bench.store.set_export(&name("head"), export).unwrap();
    let snapshot = bench.snapshot("head@one");
    let received = bench.receive("desk", &bench.sent("head@one", None)).unwrap();
    assert_ne!(received.uuid, source.uuid);
    assert_eq!(received.role, Role::Off);
    assert_eq!(received.export, ExportSettings::default());
    assert_eq!(received.layout, source.layout);
    assert_eq!(received.datasets, source.datasets);
    assert_eq!(received.settings.value("os"), Some("Debian"));
    assert_eq!(bench.store.get(&name("desk")).unwrap(), received);
    assert_eq!(bench.store.snapshots(&name("desk")).unwrap()[0].uuid, snapshot.uuid);
}

#[test]
fn what_arrived_has_the_same_file_systems() {
    let bench = Bench::new();
    bench.create("head");
    bench.snapshot("head@one");
    bench.receive("desk", &bench.sent("head@one", None)).unwrap();
    let paths = |text| -> Vec<String> {
        let parts = bench.store.open_parts(&name(text)).unwrap();
        parts.into_iter().map(|part| part.path).collect()
    };
    assert_eq!(paths("head"), paths("desk"));
}

#[test]
fn a_stream_goes_to_another_store() {
    let (here, there) = (Bench::new(), Bench::new());
    here.create("head");
    furnish(&here.files("head"));
    here.snapshot("head@one");
    there.receive("head", &here.sent("head@one", None)).unwrap();
    here.picture("head").assert_same(&there.picture("head"));
}

#[test]
fn what_is_new_since_a_snapshot_is_sent_alone() {
    let (here, there) = (Bench::new(), Bench::new());
    here.create("head");
    furnish(&here.files("head"));
    fs::write(here.files("head").join("home/large"), noise(1 << 20)).unwrap();
    here.snapshot("head@one");
    let whole = here.sent("head@one", None);
    there.receive("copy", &whole).unwrap();
    let root = here.files("head");
    here.put("head", "var/log/messages", "changed");
    fs::rename(root.join("home/empty"), root.join("home/renamed")).unwrap();
    fs::remove_file(root.join("bin/sudo")).unwrap();
    here.snapshot("head@two");
    let news = here.sent("head@two", Some("one"));
    assert!(news.len() < whole.len() / 2, "{} of {} bytes", news.len(), whole.len());
    there.receive("copy", &news).unwrap();
    here.picture("head").assert_same(&there.picture("copy"));
    assert_eq!(there.snapshots("copy"), ["one", "two"]);
}

#[test]
fn news_go_on_from_news() {
    let (here, there) = (Bench::new(), Bench::new());
    here.create("head");
    here.snapshot("head@0");
    there.receive("copy", &here.sent("head@0", None)).unwrap();
    for (old, new) in [("0", "1"), ("1", "2"), ("2", "3")] {
        here.put("head", "var/log/messages", new);
        here.put("head", "top", new);
        here.snapshot(&format!("head@{new}"));
        there.receive("copy", &here.sent(&format!("head@{new}"), Some(old))).unwrap();
        here.picture("head").assert_same(&there.picture("copy"));
    }
    assert_eq!(there.snapshots("copy"), ["0", "1", "2", "3"]);
    there.picture_of_snapshot("copy@2").assert_same(&here.picture_of_snapshot("head@2"));
}

#[test]
fn news_for_what_was_changed_since_are_refused() {
    let bench = Bench::new();
    bench.create("head");
    bench.snapshot("head@one");
    bench.receive("copy", &bench.sent("head@one", None)).unwrap();
    bench.put("head", "home/file", "new");
    bench.snapshot("head@two");
    bench.put("copy", "home/own", "precious");
    let refused = bench.receive("copy", &bench.sent("head@two", Some("one")));
    assert!(matches!(refused, Err(StoreError::Modified { .. })), "{refused:?}");
    assert_eq!(bench.read("copy", "home/own").as_deref(), Some("precious"));
    assert_eq!(bench.snapshots("copy"), ["one"]);
}

#[test]
fn news_without_what_they_go_on_from_are_refused() {
    let (here, there) = (Bench::new(), Bench::new());
    here.create("head");
    here.snapshot("head@one");
    here.put("head", "home/file", "new");
    here.snapshot("head@two");
    let news = here.sent("head@two", Some("one"));
    there.create("copy");
    there.snapshot("copy@one");
    assert!(there.receive("copy", &news).is_err(), "a snapshot of that name, but another one");
    assert!(there.receive("none", &news).is_err());
    assert_eq!(there.names(), ["copy"]);
    assert_eq!(there.snapshots("copy"), ["one"]);
}

#[test]
fn only_what_is_new_since_an_older_snapshot_is_sent() {
    let bench = Bench::new();
    bench.create("head");
    bench.snapshot("head@one");
    bench.snapshot("head@two");
    for base in ["one", "two"] {
        let (to, base) = (snapshot_name("one"), snapshot_name(base));
        let mut stream = Vec::new();
        let sent = bench.store.send(&name("head"), &to, Some(&base), &mut stream);
        assert!(matches!(sent, Err(StoreError::NotOlder { .. })), "{sent:?}");
        assert!(stream.is_empty());
    }
}

#[test]
fn news_with_the_name_of_another_snapshot_are_refused_and_change_nothing() {
    let (here, there) = (Bench::new(), Bench::new());
    here.create("head");
    here.snapshot("head@one");
    there.receive("copy", &here.sent("head@one", None)).unwrap();
    here.put("head", "home/file", "new");
    here.snapshot("head@two");
    there.receive("copy", &here.sent("head@two", Some("one"))).unwrap();
    // The sender gives a name again that the receiver has.
    here.destroy_snapshot("head@one").unwrap();
    here.put("head", "home/file", "newer");
    here.snapshot("head@one");
    let news = here.sent("head@one", Some("two"));
    let refused = there.receive("copy", &news);
    assert!(matches!(refused, Err(StoreError::SnapshotExists(_))), "{refused:?}");
    assert_eq!(there.read("copy", "home/file").as_deref(), Some("new"));
    assert_eq!(there.snapshots("copy"), ["one", "two"]);
}

#[test]
fn a_stream_for_a_name_in_use_is_refused() {
    let bench = Bench::new();
    bench.create("head");
    bench.snapshot("head@one");
    bench.create("desk");
    bench.put("desk", "home/file", "mine");
    let refused = bench.receive("desk", &bench.sent("head@one", None));
    assert!(matches!(refused, Err(StoreError::Exists(_))), "{refused:?}");
    assert_eq!(bench.read("desk", "home/file").as_deref(), Some("mine"));
}

#[test]
fn a_cut_stream_is_refused_wherever_it_is_cut_and_leaves_nothing() {
    let bench = Bench::new();
    bench.create("head");
    furnish(&bench.files("head"));
    bench.snapshot("head@one");
    let stream = bench.sent("head@one", None);
    let places = [0, 1, 7, 100, stream.len() / 3, stream.len() / 2, stream.len() - 1];
    for len in places {
        let refused = bench.receive("desk", &stream[..len]);
        assert!(matches!(refused, Err(StoreError::Stream(_))), "{len}: {refused:?}");
        assert_eq!(bench.names(), ["head"], "{len}");
    }
    bench.receive("desk", &stream).unwrap();
}

#[test]
fn a_damaged_stream_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    bench.create("head");
    furnish(&bench.files("head"));
    bench.snapshot("head@one");
    let stream = bench.sent("head@one", None);
    for place in [20, stream.len() / 3, stream.len() / 2, stream.len() - 5] {
        let mut damaged = stream.clone();
        damaged[place] ^= 0x20;
        let refused = bench.receive("desk", &damaged);
        assert!(matches!(refused, Err(StoreError::Stream(_))), "{place}: {refused:?}");
        assert_eq!(bench.names(), ["head"], "{place}");
    }
}

#[test]
fn cut_news_are_refused_and_change_nothing() {
    let bench = Bench::new();
    bench.create("head");
    bench.snapshot("head@one");
    bench.receive("copy", &bench.sent("head@one", None)).unwrap();
    let before = bench.picture("copy");
    furnish(&bench.files("head"));
    bench.snapshot("head@two");
    let news = bench.sent("head@two", Some("one"));
    for len in [news.len() / 2, news.len() - 1] {
        let refused = bench.receive("copy", &news[..len]);
        assert!(matches!(refused, Err(StoreError::Stream(_))), "{len}: {refused:?}");
        before.assert_same(&bench.picture("copy"));
        assert_eq!(bench.snapshots("copy"), ["one"]);
    }
    bench.receive("copy", &news).unwrap();
    bench.picture("head").assert_same(&bench.picture("copy"));
}

#[test]
fn a_reader_s_own_failure_leaves_nothing() {
    struct Breaks<'a>(&'a [u8]);
    impl Read for Breaks<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(io::Error::other("the cable was pulled")),
                read => Ok(read),
            }
        }
    }
    let bench = Bench::new();
    bench.create("head");
    bench.snapshot("head@one");
    let stream = bench.sent("head@one", None);
    let mut breaks = Breaks(&stream[..stream.len() / 2]);
    let refused = bench.store.receive(&name("desk"), Lacking::Refuse, &mut breaks);
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("the cable was pulled"), "{said}");
    assert_eq!(bench.names(), ["head"]);
}

#[test]
fn a_writer_that_takes_no_more_ends_a_send() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let bench = Bench::new();
    bench.create("head");
    fs::write(bench.files("head").join("home/large"), noise(4 << 20)).unwrap();
    bench.snapshot("head@one");
    let one = snapshot_name("one");
    let failed = bench.store.send(&name("head"), &one, None, &mut Full(1 << 20));
    assert!(failed.is_err());
    // Nothing holds on to the snapshot.
    bench.destroy_snapshot("head@one").unwrap();
}

#[test]
fn sending_is_no_change_of_what_is_sent() {
    let bench = Bench::new();
    bench.create("head");
    furnish(&bench.files("head"));
    bench.snapshot("head@one");
    let before = Picture::of(&bench.files("head"));
    bench.sent("head@one", None);
    before.assert_same(&bench.picture("head"));
    assert_eq!(bench.store.diff(&point("head@one"), &point("head")).unwrap(), []);
}

/// Bytes that no file system makes smaller.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len / 8).flat_map(|_| next()).collect()
}
