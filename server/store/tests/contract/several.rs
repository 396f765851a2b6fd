//! Several processes at one store.

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};
use store::{Layout, Newer, Role, StoreError};

use crate::bench::{Bench, name, point, snapshot_name};

#[test]
fn of_processes_that_want_one_name_one_has_it() {
    if let Some(bench) = Bench::of_parent() {
        // Each exits with how many of the names it got.
        let got = (0..NAMES).filter(|index| {
            match bench.store.clone_environment(&point("head"), &name(&format!("c{index}"))) {
                Ok(_) => true,
                Err(StoreError::Exists(_)) => false,
                Err(error) => panic!("c{index}: {error}"),
            }
        });
        println!("\ngot {}", got.count());
        return;
    }
    let bench = Bench::new();
    bench.create("head");
    bench.put("head", "home/file", "x");
    let said = together(&bench, "several::of_processes_that_want_one_name_one_has_it");
    let counts =
        said.iter().flat_map(|said| said.lines()).filter_map(|line| line.strip_prefix("got "));
    let counts: Vec<u32> = counts.map(|count| count.parse().unwrap()).collect();
    assert_eq!(counts.len(), PROCESSES, "{said:?}");
    assert_eq!(counts.iter().sum::<u32>(), NAMES, "{counts:?}");
    assert_eq!(bench.names(), ["c0", "c1", "c2", "c3", "head"]);
    for index in 0..NAMES {
        assert_eq!(bench.read(&format!("c{index}"), "home/file").as_deref(), Some("x"));
    }
}

#[test]
fn processes_that_do_different_things_do_not_disturb_each_other() {
    if let Some(bench) = Bench::of_parent() {
        let own = format!("own {}", std::process::id());
        for round in 0..3 {
            let snapshot = snapshot_name(&round.to_string());
            bench.store.create(&name(&own), Layout::Linux).unwrap();
            bench.store.snapshot(&name(&own), &snapshot).unwrap();
            assert_eq!(bench.snapshots(&own), [snapshot.as_str()]);
            bench.store.destroy(&name(&own)).unwrap();
        }
        println!("\ndone");
        return;
    }
    let bench = Bench::new();
    bench.create("head");
    let said =
        together(&bench, "several::processes_that_do_different_things_do_not_disturb_each_other");
    assert!(said.iter().all(|said| said.lines().any(|line| line == "done")), "{said:?}");
    assert_eq!(bench.names(), ["head"]);
}

#[test]
fn what_one_process_does_another_sees_at_once() {
    let bench = Bench::new();
    let other = bench.reopened();
    bench.create("head");
    assert!(other.get(&name("head")).is_ok());
    other.rename(&name("head"), &name("desk")).unwrap();
    assert_eq!(bench.names(), ["desk"]);
    bench.snapshot("desk@one");
    other.destroy(&name("desk")).unwrap();
    assert_eq!(bench.names(), [""; 0]);
}

#[test]
fn what_is_decided_about_an_origin_while_a_promotion_waits_for_it_stays() {
    let bench = Bench::new();
    bench.create("head");
    bench.snapshot("head@one");
    bench.clone_of("head@one", "desk");
    let other = bench.reopened();
    thread::scope(|scope| {
        let hold = other.hold(&name("head")).unwrap();
        let promotion = scope.spawn(|| bench.store.promote(&name("desk")));
        // It has its clone's lock, and waits for this one.
        let impatient = bench.reopened().with_lock_timeout(Duration::ZERO);
        let deadline = Instant::now() + Duration::from_secs(60);
        while impatient.hold(&name("desk")).is_ok() {
            assert!(Instant::now() < deadline, "nothing is promoted");
            thread::sleep(Duration::from_millis(5));
        }
        // Time to read what is written down about both, without which this shows nothing.
        thread::sleep(Duration::from_millis(200));
        other.set_role(&name("head"), Role::Template).unwrap();
        drop(hold);
        promotion.join().unwrap().unwrap();
    });
    assert_eq!(bench.store.get(&name("head")).unwrap().role, Role::Template);
    assert_eq!(bench.store.get(&name("desk")).unwrap().origin, None);
}

#[test]
fn an_environment_with_more_snapshots_than_descriptors_goes_back_and_goes() {
    if let Some(bench) = Bench::of_parent() {
        let maximum = Some(DESCRIPTORS);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
        bench.store.rollback(&name("head"), &snapshot_name("0"), Newer::Destroy).unwrap();
        bench.store.destroy(&name("head")).unwrap();
        println!("\ndone");
        return;
    }
    let bench = Bench::new();
    if bench.capabilities().clones_depend {
        println!("skipped: zfs(8) opens what it needs");
        return;
    }
    bench.create("head");
    for snapshot in 0..2 * DESCRIPTORS {
        bench.snapshot(&format!("head@{snapshot}"));
    }
    let test = "several::an_environment_with_more_snapshots_than_descriptors_goes_back_and_goes";
    let output = bench.second_process(test).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("\ndone\n"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(bench.names(), [""; 0]);
}

/// Runs one test in several processes at once; what each of them printed.
fn together(bench: &Bench, test: &str) -> Vec<String> {
    let start = |_| -> Child {
        let mut command = bench.second_process(test);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..PROCESSES).map(start).collect();
    let ended = children.into_iter().map(|child| child.wait_with_output().unwrap());
    ended
        .map(|output| {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
            said
        })
        .collect()
}

const PROCESSES: usize = 4;
/// How many files a process may open that has to do with more snapshots. On btrfs a rollback of the layout
/// opens each data set twice.
const DESCRIPTORS: u64 = 48;
const NAMES: u32 = 4;
