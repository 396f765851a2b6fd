//! What commands ask of a running server, played by a test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use crate::bench::Bench;

/// Answers requests, each connection's until it ends; gives back what was asked.
fn answer(bench: &Bench, answers: &'static [&'static str]) -> thread::JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(bench.state().join("control.sock")).unwrap();
    thread::spawn(move || {
        let mut answers = answers.iter();
        let mut asked = Vec::new();
        while answers.len() > 0 {
            let (mut stream, _) = listener.accept().unwrap();
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                asked.push(line.unwrap());
                writeln!(stream, "{}", answers.next().unwrap()).unwrap();
            }
        }
        asked
    })
}

const DONE: &str = r#"{"answer":"done"}"#;
const HELD: &str = r#"{"answer":"held","environments":["00000000-0000-0000-0000-000000000007"]}"#;

#[test]
fn what_machines_live_on_is_not_destroyed() {
    let bench = Bench::with_head();
    let server = answer(&bench, &[r#"{"answer":"living","machines":["desk","lab1"]}"#]);
    bench.refuses(
        &["destroy", "head"],
        "desk, lab1 run from head: shut them down, or destroy with -f",
    );
    assert_eq!(server.join().unwrap(), [r#"{"ask":"hold","environment":"head","force":false}"#]);
    assert!(bench.root("head").exists());
}

#[test]
fn what_machines_live_on_is_not_rolled_back() {
    let bench = Bench::with_head();
    bench.silent(&["snapshot", "head@monday"]);
    let server = answer(&bench, &[r#"{"answer":"living","machines":["desk"]}"#]);
    bench.refuses(
        &["rollback", "head@monday"],
        "desk runs from head: shut it down, or roll back with -f",
    );
    server.join().unwrap();
}

#[test]
fn what_machines_live_on_is_not_renamed() {
    let bench = Bench::with_head();
    let server = answer(&bench, &[r#"{"answer":"living","machines":["desk"]}"#]);
    bench.refuses(
        &["rename", "head", "old"],
        "desk runs from head: shut it down, or rename with -f",
    );
    assert_eq!(server.join().unwrap(), [r#"{"ask":"hold","environment":"head","force":false}"#]);
    assert!(bench.root("head").exists());
}

#[test]
fn what_others_use_is_not_destroyed() {
    let bench = Bench::with_head();
    let server = answer(
        &bench,
        &[concat!(
            r#"{"answer":"living","machines":["desk"],"visitors":["#,
            r#"{"name":"10.0.0.7","seen":12.5},{"name":"lab1 (10.0.0.8)","seen":3700},"#,
            r#"{"name":"10.0.0.9","seen":1},{"name":"10.0.0.10","seen":1},"#,
            r#"{"name":"10.0.0.11","seen":1},{"name":"10.0.0.12","seen":1}]}"#,
        )],
    );
    bench.refuses(
        &["destroy", "head"],
        "desk runs from head, and head is used over NFS by 10.0.0.7, last seen 12s ago; \
         lab1 (10.0.0.8), last seen 1h ago; 10.0.0.9, last seen 1s ago; 10.0.0.10, last seen 1s ago; \
         and 2 more: shut it down and unmount it there, or destroy with -f",
    );
    server.join().unwrap();
    assert!(bench.root("head").exists());
}

#[test]
fn the_server_closes_what_is_destroyed_and_then_looks_again() {
    let bench = Bench::with_head();
    let server = answer(&bench, &[HELD, DONE]);
    bench.silent(&["destroy", "head"]);
    let asked = server.join().unwrap();
    assert_eq!(asked[0], r#"{"ask":"hold","environment":"head","force":false}"#);
    assert_eq!(asked[1], r#"{"ask":"reload","environments":["head","head"]}"#);
    // It is noted by the identity that the server told.
    assert!(bench.state().join("gone/00000000-0000-0000-0000-000000000007.json").exists());
}

#[test]
fn the_server_closes_what_is_renamed_and_then_looks_again() {
    let bench = Bench::with_head();
    let server = answer(&bench, &[HELD, DONE]);
    bench.silent(&["rename", "-f", "head", "old"]);
    let asked = server.join().unwrap();
    assert_eq!(asked[0], r#"{"ask":"hold","environment":"head","force":true}"#);
    assert_eq!(asked[1], r#"{"ask":"reload","environments":["head","old"]}"#);
    assert!(bench.root("old").exists());
}

#[test]
fn what_the_store_does_not_have_any_more_is_said_to_be_gone_by_force() {
    let bench = Bench::with_head();
    let missing = "there is no boot environment lost: `netbe list` shows all";
    bench.refuses(&["destroy", "lost"], missing);
    bench.refuses(&["destroy", "-f", "lost"], missing);
    let server = answer(&bench, &[HELD, DONE]);
    bench.silent(&["destroy", "-f", "lost"]);
    server.join().unwrap();
    let note = |uuid: &str| bench.state().join(format!("gone/{uuid}.json")).exists();
    assert!(note("00000000-0000-0000-0000-000000000007"));
    fs::remove_file(bench.state().join("control.sock")).unwrap();
    // Without a server that knows it, by its identity.
    let uuid = "00000000-0000-0000-0000-000000000008";
    bench.silent(&["destroy", "-f", uuid]);
    assert!(note(uuid));
}

#[test]
fn with_force_it_is_closed_whoever_lives_on_it() {
    let bench = Bench::with_head();
    let server = answer(&bench, &[HELD, DONE]);
    bench.silent(&["destroy", "-f", "head"]);
    let asked = server.join().unwrap();
    assert_eq!(asked[0], r#"{"ask":"hold","environment":"head","force":true}"#);
}

#[test]
fn what_the_server_does_not_release_is_kept() {
    for arguments in [&["destroy", "head"][..], &["destroy", "-f", "head"]] {
        let bench = Bench::with_head();
        let server = answer(&bench, &[r#"{"answer":"failed","message":"/mnt/head is in use"}"#]);
        bench.cannot(
            arguments,
            "the running server does not stop serving head: /mnt/head is in use",
        );
        server.join().unwrap();
        assert!(bench.root("head").exists());
    }
}

#[test]
fn it_is_said_when_the_server_does_not_know_who_lives() {
    let bench = Bench::with_head();
    let server = answer(&bench, &[r#"{"answer":"failed","message":"it is busy"}"#]);
    bench.cannot(
        &["destroy", "-n", "head"],
        "the running server does not say which machines live on head: it is busy; stop it, or \
         destroy with -f",
    );
    server.join().unwrap();
}

#[test]
fn what_was_a_root_when_the_server_ended_is_not_destroyed() {
    let bench = Bench::with_head();
    let list: serde_json::Value = serde_json::from_str(&bench.prints(&["list", "-j"])).unwrap();
    let record = BOOT.replace("UUID", list[0]["uuid"].as_str().unwrap());
    fs::create_dir_all(bench.state().join("boots")).unwrap();
    fs::write(bench.state().join("boots/52-54-00-00-00-01.json"), record).unwrap();
    bench.refuses(
        &["destroy", "head"],
        "desk ran from head when the server ended, and may still run: shut it down, or destroy \
         with -f",
    );
    bench.silent(&["destroy", "-f", "head"]);
}

/// A site with a machine `desk` that has a root of its own, and its data in `desk-data`.
fn with_data() -> Bench {
    let bench = Bench::new();
    bench.silent(&["create", "-l", "linux", "head"]);
    bench.silent(&["set", "data=home", "head"]);
    bench.silent(&["machine", "add", "--mac=52:54:00:00:00:01", "desk"]);
    bench.prints(&["sharepxe", "--machine=desk", "--root=own", "head"]);
    bench.silent(&["snapshot", "desk-data@monday"]);
    bench
}

#[test]
fn the_data_of_a_machine_that_runs_are_not_taken_away() {
    let bench = with_data();
    for (verb, words) in [
        (&["rollback", "desk-data@monday"][..], "roll back"),
        (&["destroy", "desk-data"], "destroy"),
        (&["rename", "desk-data", "other"], "rename"),
    ] {
        let server = answer(&bench, &[r#"{"answer":"living","machines":["desk"]}"#]);
        let refused =
            format!("desk-data has the data of desk in it: shut it down, or {words} with -f");
        bench.refuses(verb, &refused);
        server.join().unwrap();
        fs::remove_file(bench.state().join("control.sock")).unwrap();
    }
}

#[test]
fn the_data_of_a_machine_that_ran_when_the_server_ended_are_not_taken_away() {
    let bench = with_data();
    let list: serde_json::Value = serde_json::from_str(&bench.prints(&["list", "-j"])).unwrap();
    let mut listed = list.as_array().unwrap().iter();
    let root = listed.find(|environment| environment["name"] == "desk-head").unwrap();
    let record = BOOT.replace("UUID", root["uuid"].as_str().unwrap());
    fs::create_dir_all(bench.state().join("boots")).unwrap();
    fs::write(bench.state().join("boots/52-54-00-00-00-01.json"), record).unwrap();
    for (verb, words) in [
        (&["rollback", "desk-data@monday"][..], "roll back"),
        (&["destroy", "desk-data"], "destroy"),
        (&["rename", "desk-data", "other"], "rename"),
    ] {
        let refused = format!(
            "desk-data has the data of desk in it, which ran when the server ended: shut it down, \
             or {words} with -f"
        );
        bench.refuses(verb, &refused);
    }
    bench.silent(&["rollback", "-f", "desk-data@monday"]);
}

/// What a server keeps of a machine's boot.
pub(crate) const BOOT: &str = r#"{
    "id": "00000000000000aa", "mac": "52:54:00:00:00:01", "client": "Ordinary",
    "plan": {
        "environment": "UUID", "name": "head", "machine": "desk", "read_only": false,
        "server": "10.0.0.1", "http_port": 80, "first": null,
        "next": { "kernel": { "kernel": "/vmlinuz", "initrd": null, "cmdline": "" } },
        "root_path": "10.0.0.1:/be/head", "variables": []
    },
    "address": "10.0.0.5", "rooted": true
}"#;

#[test]
fn sharing_reaches_the_server_at_once() {
    let bench = Bench::with_head();
    let server = answer(&bench, &[r#"{"answer":"done"}"#]);
    bench.silent(&["sharenfs", "--network", "10.0.0.0/8", "head"]);
    assert_eq!(server.join().unwrap(), [r#"{"ask":"reload","environments":["head"]}"#]);
}
