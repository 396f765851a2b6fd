//! A tree in which a machine makes and removes files while a verb walks through it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::bench::{Bench, point};

#[test]
fn what_a_machine_removes_meanwhile_is_in_no_verbs_way() {
    let bench = Bench::new();
    bench.create("head");
    bench.put("head", "home/stays", "here");
    bench.snapshot("head@then");
    let place = bench.files("head").join("home/busy");
    fs::create_dir(&place).unwrap();
    while_busy(&place, || {
        for round in 0..ROUNDS {
            let (now, copy) = (format!("head@{round}"), format!("copy-{round}"));
            bench.snapshot(&now);
            bench.clone_of("head", &copy);
            let changed = bench.store.diff(&point("head@then"), &point("head")).unwrap();
            assert!(changed.iter().any(|change| change.path == Path::new("home/busy")));
            let changed = bench.store.diff(&point(&copy), &point("head")).unwrap();
            assert!(changed.iter().all(|change| change.path.starts_with("home/busy")));
            let kept = bench.store.diff(&point("head@then"), &point(&now)).unwrap();
            assert!(kept.iter().any(|change| change.path == Path::new("home/busy")));
            assert_eq!(bench.read(&copy, "home/stays").as_deref(), Some("here"));
        }
    });
}

/// Does something while files of all kinds come and go in a directory.
fn while_busy(place: &Path, act: impl FnOnce()) {
    /// Stops the others, also when the test fails.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    fs::write(place.join("steady"), "always").unwrap();
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (file, twin) =
                (place.join(format!("file-{worker}")), place.join(format!("twin-{worker}")));
            let (dir, next) =
                (place.join(format!("dir-{worker}")), place.join(format!("next-{worker}")));
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    fs::write(&file, "short-lived").unwrap();
                    fs::hard_link(&file, &twin).unwrap();
                    fs::create_dir_all(dir.join("below/below")).unwrap();
                    fs::write(dir.join("below/file"), "x").unwrap();
                    fs::remove_file(&file).unwrap();
                    symlink("nowhere", &file).unwrap();
                    fs::remove_dir_all(&dir).unwrap();
                    fs::write(&dir, "no directory any more").unwrap();
                    for name in [&file, &twin, &dir] {
                        fs::remove_file(name).unwrap();
                    }
                }
            });
            let steady = place.join("steady");
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    // By turns a file and a link, and never nothing.
                    fs::write(&next, "always").unwrap();
                    fs::rename(&next, &steady).unwrap();
                    symlink("always", &next).unwrap();
                    fs::rename(&next, &steady).unwrap();
                }
            });
        }
        let _stop = Stop(&done);
        act();
    });
}

const ROUNDS: u32 = 3;
