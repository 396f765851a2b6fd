//! How far long work is: what whoever watches a store is told.

use std::fs;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use store::progress::{self, Task, Unit, Watcher};

use crate::bench::{Bench, name};

/// What every thread of this process has begun.
static BEGUN: Mutex<Vec<(ThreadId, Arc<Task>)>> = Mutex::new(Vec::new());

struct Notes;

impl Watcher for Notes {
    fn begun(&self, task: &Arc<Task>) {
        BEGUN.lock().unwrap().push((thread::current().id(), task.clone()));
    }

    fn ended(&self, task: &Arc<Task>) {
        assert!(task.has_ended());
    }
}

/// What this thread begins while it does something, each as it was at its end.
fn watched(work: impl FnOnce()) -> Vec<(String, Unit, u64)> {
    progress::watch(Box::new(Notes));
    let own = |begun: &&(ThreadId, Arc<Task>)| begun.0 == thread::current().id();
    let before = BEGUN.lock().unwrap().iter().filter(own).count();
    work();
    let begun = BEGUN.lock().unwrap();
    let tasks = begun.iter().filter(own).skip(before).map(|(_, task)| task);
    tasks.map(|task| (task.what(), task.unit(), task.done())).collect()
}

/// The most of what is counted so in any task.
fn most(tasks: &[(String, Unit, u64)], wanted: Unit) -> u64 {
    let counted = tasks.iter().filter(|(_, unit, _)| *unit == wanted);
    counted.map(|(_, _, done)| *done).max().unwrap_or(0)
}

#[test]
fn every_verb_says_what_it_is_about_first() {
    let bench = Bench::new();
    let verbs = watched(|| {
        bench.create("head");
        bench.snapshot("head@one");
        bench.clone_of("head@one", "desk");
        bench.store.rename(&name("desk"), &name("lab")).unwrap();
        bench.destroy("lab").unwrap();
    });
    let said = |wanted: &str| verbs.iter().any(|(what, _, _)| what == wanted);
    for wanted in ["create head", "snapshot head@one", "clone desk", "rename lab", "destroy lab"] {
        assert!(said(wanted), "{wanted}: {verbs:?}");
    }
}

#[test]
fn a_stream_is_as_long_for_the_sender_as_for_the_receiver() {
    let bench = Bench::new();
    bench.create("head");
    fs::write(bench.files("head").join("home/large"), vec![b'x'; 4 << 20]).unwrap();
    bench.put("head", "home/small", "x");
    bench.snapshot("head@one");
    let mut stream = Vec::new();
    let sent = watched(|| stream = bench.sent("head@one", None));
    let received = watched(|| drop(bench.receive("desk", &stream).unwrap()));
    assert_eq!(sent[0].0, "send head@one");
    // Less than the whole are a header and an end.
    let bytes = sent[0].2;
    assert!(bytes > 0 && bytes <= u64::try_from(stream.len()).unwrap(), "{sent:?}");
    assert!(
        received.iter().any(|(_, unit, done)| (*unit, *done) == (Unit::Bytes, bytes)),
        "{received:?}"
    );
}

#[test]
fn where_files_are_copied_and_removed_one_by_one_each_is_counted() {
    let bench = Bench::new();
    bench.create("head");
    let home = bench.files("head").join("home");
    for file in 0..50 {
        fs::write(home.join(file.to_string()), vec![b'x'; 1000]).unwrap();
    }
    // It is copied once, and a hole counts as what a program reads of it.
    fs::hard_link(home.join("1"), home.join("link")).unwrap();
    fs::File::create(home.join("hole")).unwrap().set_len(1 << 20).unwrap();
    let cloned = watched(|| drop(bench.clone_of("head", "desk")));
    let destroyed = watched(|| bench.destroy("desk").unwrap());
    if bench.capabilities().instant_snapshots {
        assert_eq!(most(&cloned, Unit::Bytes), 0, "{cloned:?}");
        return;
    }
    assert_eq!(most(&cloned, Unit::Bytes), 50_000 + (1 << 20), "{cloned:?}");
    assert!(cloned.iter().any(|(what, _, _)| what == "copy head"), "{cloned:?}");
    // With its directories.
    assert!(most(&destroyed, Unit::Files) >= 52, "{destroyed:?}");
}

#[test]
fn a_split_says_which_files_it_lists_and_compares() {
    let bench = Bench::new();
    bench.store.create(&name("head"), store::Layout::FreeBsd).unwrap();
    for dir in ["etc", "bin", "usr/bin"] {
        fs::create_dir_all(bench.files("head").join(dir)).unwrap();
    }
    bench.put("head", "etc/hosts", "x");
    bench.put("head", "usr/bin/true", "x");
    bench.store.set_role(&name("head"), store::Role::Template).unwrap();
    let split = watched(|| assert!(bench.store.split(&name("head")).unwrap()));
    assert_eq!(split[0].0, "thin head");
    for part in ["list", "compare"] {
        assert!(split.iter().any(|(what, _, done)| what == part && *done > 1), "{part}: {split:?}");
    }
}
