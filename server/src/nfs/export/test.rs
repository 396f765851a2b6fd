//! What clients get of environments that come, go, and are held.

use std::sync::atomic::{AtomicBool, Ordering};

use fixtures::MemFs;

use super::*;

fn export(number: u128, path: &str) -> Export {
    Export {
        environment: Uuid::from_u128(number),
        name: path.trim_matches('/').to_owned(),
        path: path.to_owned(),
        files: Files::whole(Arc::new(MemFs::new())),
        settings: ExportSettings::default(),
    }
}

fn exports(paths: &[&str]) -> Exports {
    let exports = Exports::new(SiteKey::new([7; 16]), Arc::new(Usage::new(Instant::now())));
    for (number, path) in (1..).zip(paths) {
        exports.publish(export(number, path)).unwrap();
    }
    exports
}

fn found(exports: &Exports, path: &str) -> Option<(String, String)> {
    let (export, rest) = exports.at(path.as_bytes()).ok()?;
    Some((export.path.clone(), String::from_utf8(rest.to_vec()).unwrap()))
}

#[test]
fn a_path_belongs_to_the_export_with_the_longest_path() {
    let exports = exports(&["/be/head", "/be/head/usr", "/be/he"]);
    let is = |path: &str, export: &str, rest: &str| {
        assert_eq!(found(&exports, path), Some((export.to_owned(), rest.to_owned())), "{path}");
    };
    is("/be/head", "/be/head", "");
    is("/be/head/", "/be/head", "");
    is("/be/head/etc/rc.d", "/be/head", "etc/rc.d");
    is("/be/head/usr/bin", "/be/head/usr", "bin");
    is("//be/./he/../head", "/be/he", "../head");
    assert_eq!(found(&exports, "/be/headless"), None);
    assert_eq!(found(&exports, "/be"), None);
    assert_eq!(found(&exports, "/"), None);
    assert_eq!(found(&exports, ""), None);
}

#[test]
fn environments_that_change_names_change_paths_at_one_instant() {
    let exports = exports(&["/be/head", "/be/next"]);
    let opened = |number, path| {
        let export = export(number, path);
        (export.environment, Event::Opened(Arc::new(export)))
    };
    exports.apply([opened(1, "/be/next"), opened(2, "/be/head")]);
    let environment = |path: &[u8]| exports.at(path).unwrap().0.environment;
    assert_eq!(environment(b"/be/next"), Uuid::from_u128(1));
    assert_eq!(environment(b"/be/head"), Uuid::from_u128(2));
    assert_eq!(exports.list().len(), 2);
}

#[test]
fn of_very_many_that_are_gone_the_oldest_are_forgotten() {
    let exports = exports(&["/be/head"]);
    let count = u128::try_from(MAX_GONE).unwrap() + 3;
    for number in 2..count {
        exports.apply([(Uuid::from_u128(number), Event::Ended)]);
        // What is served again is not forgotten, nor what has gone again.
        exports.apply([(Uuid::from_u128(2), Event::Ended)]);
    }
    exports.publish(export(4, "/be/four")).unwrap();
    exports.apply([(Uuid::from_u128(count), Event::Ended)]);
    exports.apply([(Uuid::from_u128(count + 1), Event::Ended)]);
    assert!(exports.current.load().environments.len() <= MAX_GONE + 2);
    let is_gone = |number| exports.is_gone(Uuid::from_u128(number));
    assert!(is_gone(2) && is_gone(count) && !is_gone(3));
    assert!(exports.of(Uuid::from_u128(4)).is_some());
}

#[test]
fn a_path_belongs_to_whom_the_store_named_last() {
    let exports = exports(&["/be/head"]);
    let handle = exports.root_handle(Uuid::from_u128(1)).unwrap();
    exports.publish(export(9, "/be//head/")).unwrap();
    assert_eq!(exports.at(b"/be/head").unwrap().0.environment, Uuid::from_u128(9));
    assert!(exports.open(handle.as_bytes()).is_ok(), "its machines go on all the same");
    exports.publish(export(1, "/be/other")).unwrap();
    assert_eq!(exports.list().len(), 2);
}

#[test]
fn an_environment_can_move_to_another_path() {
    let exports = exports(&["/be/head"]);
    exports.publish(export(1, "/be/renamed")).unwrap();
    assert!(exports.at(b"/be/head").is_err());
    assert!(exports.at(b"/be/renamed").is_ok());
    assert_eq!(exports.list().len(), 1);
}

#[test]
fn paths_that_cannot_be_mounted_are_refused() {
    for path in ["", "/", "be", "/be/..", "/./be", "/be/\0"] {
        let exports = Exports::new(SiteKey::new([7; 16]), Arc::new(Usage::new(Instant::now())));
        let refused = exports.publish(export(1, path));
        assert_eq!(refused, Err(PublishError(path.to_owned())));
    }
}

fn state_of(exports: &Exports, handle: &WireHandle) -> Option<FsError> {
    exports.open(handle.as_bytes()).err()
}

#[test]
fn the_handles_of_a_destroyed_environment_are_stale_until_it_is_served_again() {
    let exports = exports(&["/be/head"]);
    let environment = Uuid::from_u128(1);
    let handle = exports.root_handle(environment).unwrap();
    assert_eq!(exports.apply([(environment, Event::Ended)]).len(), 1);
    assert_eq!(exports.apply([(environment, Event::Ended)]).len(), 0);
    assert_eq!(state_of(&exports, &handle), Some(FsError::Stale));
    assert!(exports.at(b"/be/head").is_err() && exports.is_gone(environment));
    exports.publish(export(1, "/be/head")).unwrap();
    assert_eq!(state_of(&exports, &handle), None);
}

#[test]
fn what_no_listing_names_is_asked_for_again() {
    let exports = exports(&["/be/head", "/be/other"]);
    let (head, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let handles = [head, other].map(|one| exports.root_handle(one).unwrap());
    let closed = exports.apply([(head, Event::Unlisted(Reason::from("vanished")))]);
    assert_eq!(closed.len(), 1);
    let answers = || handles.each_ref().map(|handle| state_of(&exports, handle));
    assert_eq!(answers(), [Some(FsError::Busy), None]);
    exports.stall(true);
    assert_eq!(answers(), [Some(FsError::Busy); 2]);
    assert_eq!(exports.open(b"nobody's").err(), Some(FsError::BadHandle));
    exports.stall(false);
    assert_eq!(answers(), [Some(FsError::Busy), None]);
}

#[test]
fn an_environment_that_was_never_heard_of_is_waited_for() {
    let handle = exports(&["/be/head"]).root_handle(Uuid::from_u128(1)).unwrap();
    assert_eq!(state_of(&exports(&[]), &handle), Some(FsError::Busy));
}

#[test]
fn what_is_held_is_asked_for_again_and_served_on_when_the_hold_is_undone() {
    let exports = exports(&["/be/head"]);
    let environment = Uuid::from_u128(1);
    let handle = exports.root_handle(environment).unwrap();
    exports.apply([(environment, Event::Held)]);
    assert!(exports.is_held(environment));
    assert_eq!(state_of(&exports, &handle), Some(FsError::Busy));
    assert!(exports.at(b"/be/head").is_err());
    exports.apply([(environment, Event::Resumed)]);
    assert_eq!(state_of(&exports, &handle), None);
    assert!(exports.at(b"/be/head").is_ok());
}

#[test]
fn a_hold_waits_for_the_calls_that_run_and_lets_none_begin() {
    let exports = exports(&["/be/head", "/be/other"]);
    let environment = Uuid::from_u128(1);
    let handle = exports.root_handle(environment).unwrap();
    let (export, _, _, running) = exports.enter(handle.as_bytes()).unwrap();
    // What replaces an export has the calls on the one before it, too.
    exports.publish(self::export(1, "/be/head")).unwrap();
    exports.apply([(environment, Event::Held)]);
    let drains = || exports.drain(&[environment], Duration::from_millis(20));
    assert!(!drains() && exports.drain(&[Uuid::from_u128(2)], Duration::ZERO));
    assert_eq!(exports.enter(handle.as_bytes()).err(), Some(FsError::Busy));
    assert!(exports.enter_again(&export).is_none());
    drop(running);
    assert!(drains());
    exports.apply([(environment, Event::Resumed)]);
    let export = exports.of(environment).unwrap();
    let running = exports.enter_again(&export).unwrap();
    assert!(!drains() && !running.is_abandoned());
    exports.abandon_calls(&[environment]);
    assert!(running.is_abandoned());
    assert!(!exports.enter_again(&export).unwrap().is_abandoned());
}

#[test]
fn no_call_slips_through_while_holds_come_and_go() {
    let exports = exports(&["/be/head"]);
    let environment = Uuid::from_u128(1);
    let handle = exports.root_handle(environment).unwrap();
    let (held, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    if let Ok(entered) = exports.enter(handle.as_bytes()) {
                        assert!(!held.load(Ordering::SeqCst), "the tree is a command's alone");
                        drop(entered);
                    }
                }
            });
        }
        for _ in 0..300 {
            exports.apply([(environment, Event::Held)]);
            assert!(exports.drain(&[environment], Duration::from_secs(60)));
            held.store(true, Ordering::SeqCst);
            thread::yield_now();
            held.store(false, Ordering::SeqCst);
            exports.apply([(environment, Event::Resumed)]);
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_handle_outlives_the_server_that_made_it() {
    let environment = Uuid::from_u128(1);
    let handle = exports(&["/be/head"]).root_handle(environment).unwrap();
    let restarted = exports(&["/be/head"]);
    let (export, view, file) = restarted.open(handle.as_bytes()).unwrap();
    assert_eq!(export.environment, environment);
    assert_eq!(file, export.files.seen(view).root());
}
