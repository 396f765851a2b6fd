use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use store::{Layout, Location};
use tempfile::TempDir;

use super::*;

#[test]
fn what_is_written_down_about_roots_is_refused_as_a_setting_of_somebody_else() {
    for key in [MACHINE, TEMPLATE, FRESH, HOLDER] {
        assert!(store::KEPT_KEYS.contains(&key), "{key}");
    }
}

/// A store of directories with one environment, `base`, and the state directory beside it.
struct Bench {
    scratch: TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let state = scratch.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let location = Location::Directory(scratch.path().join("store"));
        let store = Store::establish(&location, &state).unwrap();
        store.create(&name("base"), Layout::Linux).unwrap();
        Self { scratch, store }
    }

    fn roots(&self) -> Roots<'_> {
        Roots { store: &self.store, directory: self.scratch.path() }
    }

    fn names(&self) -> Vec<String> {
        let listed = self.store.list().unwrap().environments;
        let mut names: Vec<String> = listed.iter().map(|one| one.name.to_string()).collect();
        names.sort();
        names
    }
}

fn name(text: &str) -> EnvironmentName {
    text.parse().unwrap()
}

#[test]
fn a_draft_that_is_being_made_is_not_cleared_away_and_one_that_was_left_is() {
    let bench = Bench::new();
    let base = Point::from(name("base"));
    let make = |machine| bench.roots().make(machine, &base, Term::Boot).unwrap().name.to_string();
    let killed = catch_unwind(AssertUnwindSafe(|| {
        bench.roots().make_with("web2", &base, Term::Boot, |_| {
            assert!(bench.store.get(&name("web2-base")).unwrap().is_draft());
            // Another machine's root does not wait for it, and a third one has another name.
            assert_eq!(make("web1"), "web1-base");
            let other = bench.roots().free_name("web2", &name("base")).unwrap();
            assert_eq!(other.0.as_str(), "web2-base-2");
            panic!("killed")
        })
    }));
    assert!(killed.is_err() && bench.names() == ["base", "web1-base", "web2-base"]);
    assert_eq!(bench.roots().fresh("web2").unwrap(), []);
    assert_eq!(make("web2"), "web2-base");
    assert_eq!(bench.names(), ["base", "web1-base", "web2-base"]);
    assert!(!bench.store.get(&name("web2-base")).unwrap().is_draft());
}

#[test]
fn nothing_goes_because_of_its_name() {
    let bench = Bench::new();
    let base = Point::from(name("base"));
    for own in ["mine.unfinished", "web1-base.unfinished"] {
        bench.store.clone_environment(&base, &name(own)).unwrap();
    }
    bench.roots().make("web1", &base, Term::Boot).unwrap();
    let all = ["base", "mine.unfinished", "web1-base", "web1-base.unfinished"];
    assert_eq!(bench.names(), all);
}

#[test]
fn what_fails_leaves_nothing() {
    let bench = Bench::new();
    let base = Point::from(name("base"));
    let failed = bench
        .roots()
        .make_with("web1", &base, Term::Kept, |_| Err(RootError::Nobodys(name("base"))));
    assert!(matches!(failed, Err(RootError::Nobodys(_))), "{failed:?}");
    assert_eq!(bench.names(), ["base"]);
    assert_eq!(bench.store.pending().unwrap(), []);
}

#[test]
fn roots_that_are_made_at_once_all_come_to_be_and_each_has_its_own_name() {
    let bench = Bench::new();
    let base = Point::from(name("base"));
    let mut made = thread::scope(|scope| {
        let makers = (0..6).map(|number| {
            let (bench, base) = (&bench, &base);
            scope.spawn(move || {
                // Two makers of each machine, one of which keeps its roots.
                let machine = format!("web{}", number % 3);
                let term = if number < 3 { Term::Boot } else { Term::Kept };
                let make = |_| bench.roots().make(&machine, base, term).unwrap().name.to_string();
                (0..4).map(make).collect::<Vec<_>>()
            })
        });
        let makers: Vec<_> = makers.collect();
        makers.into_iter().flat_map(|maker| maker.join().unwrap()).collect::<Vec<_>>()
    });
    made.push("base".to_owned());
    made.sort();
    assert_eq!(made.len(), 25);
    assert_eq!(bench.names(), made);
    // A template that did not change is pinned once.
    assert_eq!(bench.store.snapshots(&name("base")).unwrap().len(), 1);
    let left = std::fs::read_dir(bench.store.locks().unwrap()).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn a_template_whose_snapshot_does_not_suit_gets_a_new_one_that_shows_the_same() {
    let bench = Bench::new();
    let (roots, base) = (bench.roots(), "base".parse().unwrap());
    let first = roots.pin(&base).unwrap();
    assert_eq!(roots.source(&base).unwrap(), first);
    let second = roots.snapshot_of(&base, |_| false).unwrap();
    assert_ne!(second, first);
    assert!(roots.are_alike(&first, &second).unwrap());
    // From now on that is the one; the first stays for what was made from it.
    assert_eq!([roots.pin(&base).unwrap(), roots.source(&base).unwrap()], [second.clone(), second]);
    assert_eq!(bench.store.snapshots(&base.environment).unwrap().len(), 2);
    // One that is named is taken.
    assert_eq!(roots.snapshot_of(&first, |_| false).unwrap(), first);
    assert!(!roots.are_alike(&first, &base).unwrap());
}

#[test]
fn a_snapshot_is_crowded_with_64_clones_or_with_more_than_are_told() {
    let snapshot = |clones, more_clones| Snapshot {
        name: "a".parse().unwrap(),
        uuid: Uuid::nil(),
        created: SystemTime::UNIX_EPOCH.into(),
        automatic: false,
        clones: vec!["web".parse().unwrap(); clones],
        more_clones,
    };
    assert!(!is_crowded(&snapshot(63, false)) && is_crowded(&snapshot(64, false)));
    assert!(is_crowded(&snapshot(40, true)));
}
