//! Names: taken as they are, or refused before anything is made.

use store::{EnvironmentName, Layout, SnapshotName, StoreError};

use crate::bench::{Bench, name, snapshot_name};

/// Names that a shell, a file name and a table each find hard.
const HARD: [&str; 8] =
    ["two words", "büro", "名前", "it's", "\"quoted\"", "$HOME `id`", "a;b|c&d", "50% #1"];

#[test]
fn a_hard_name_is_kept_or_refused_with_the_reason() {
    let bench = Bench::new();
    for text in HARD {
        match bench.store.create(&name(text), Layout::Linux) {
            Ok(_) => {
                bench.put(text, "home/file", text);
                bench.store.snapshot(&name(text), &snapshot_name(text)).unwrap();
                assert_eq!(bench.names(), [text]);
                assert_eq!(bench.snapshots(text), [text]);
                assert_eq!(bench.read(text, "home/file").as_deref(), Some(text));
                bench.destroy(text).unwrap();
            }
            Err(error @ StoreError::Name { .. }) => {
                // In quotation marks, so that one sees where it ends.
                assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
            }
            Err(error) => panic!("{text}: {error}"),
        }
        assert_eq!(bench.names(), [""; 0], "{text}");
    }
}

#[test]
fn a_name_with_a_space_is_taken_by_every_store() {
    let bench = Bench::new();
    bench.create("two words");
    bench.snapshot("two words@and two more");
    bench.clone_of("two words@and two more", "a clone");
    assert_eq!(bench.names(), ["a clone", "two words"]);
}

#[test]
fn a_name_that_a_store_refuses_is_refused_for_every_verb_that_makes_one() {
    let bench = Bench::new();
    bench.create("head");
    bench.snapshot("head@one");
    for text in HARD {
        if bench.store.create(&name(text), Layout::Flat).is_ok() {
            bench.destroy(text).unwrap();
            continue;
        }
        let refused = [
            bench.store.rename(&name("head"), &name(text)),
            bench.store.snapshot(&name("head"), &snapshot_name(text)).map(drop),
            bench.store.clone_environment(&name("head").into(), &name(text)).map(drop),
            bench.receive(text, &bench.sent("head@one", None)).map(drop),
        ];
        for result in refused {
            assert!(matches!(result, Err(StoreError::Name { .. })), "{text}: {result:?}");
        }
    }
    assert_eq!(bench.names(), ["head"]);
    assert_eq!(bench.snapshots("head"), ["one"]);
}

#[test]
fn names_that_would_be_something_else_are_no_names() {
    for text in ["", "a\nb", "a\tb", "a/b", "a@b", "..", ".hidden", "-f", " a", "a ", "a\0"] {
        assert!(text.parse::<EnvironmentName>().is_err(), "{text:?}");
        assert!(text.parse::<SnapshotName>().is_err(), "{text:?}");
    }
}

#[test]
fn the_longest_name_is_taken_or_refused_with_the_reason() {
    let bench = Bench::new();
    let long = "x".repeat(200);
    match bench.store.create(&name(&long), Layout::Linux) {
        Ok(_) => {
            bench.store.snapshot(&name(&long), &snapshot_name(&long)).unwrap();
            assert_eq!(bench.snapshots(&long), [long.as_str()]);
        }
        Err(error) => {
            assert!(matches!(error, StoreError::Name { .. }), "{error}");
            assert_eq!(bench.names(), [""; 0]);
        }
    }
}
