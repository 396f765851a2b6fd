//! What commands ask of a running server, played by a test.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use crate::bench::Bench;

/// Answers so many connections, each with the next of the answers; gives back what was asked.
fn answer(bench: &Bench, answers: &'static [&'static str]) -> thread::JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(bench.state().join("control.sock")).unwrap();
    thread::spawn(move || {
        let each = answers.iter().map(|answer| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut asked).unwrap();
            writeln!(stream, "{answer}").unwrap();
            asked.trim_end().to_owned()
        });
        each.collect()
    })
}

#[test]
fn what_machines_live_on_is_not_destroyed() {
    let bench = Bench::with_head();
    let server = answer(&bench, &[r#"{"answer":"living","machines":["desk","lab1"]}"#]);
    bench.refuses(
        &["destroy", "head"],
        "head is the root of desk, lab1: switch them off, or destroy with -f",
    );
    assert_eq!(server.join().unwrap(), [r#"{"ask":"living","environment":"head"}"#]);
    assert!(bench.root("head").exists());
}

#[test]
fn what_nobody_lives_on_is_destroyed_and_the_server_hears_of_it() {
    let bench = Bench::with_head();
    let answers = &[r#"{"answer":"living","machines":[]}"#, r#"{"answer":"done"}"#];
    let server = answer(&bench, answers);
    bench.silent(&["destroy", "head"]);
    assert_eq!(server.join().unwrap()[1], r#"{"ask":"reload"}"#);
}

#[test]
fn with_force_nobody_is_asked() {
    let bench = Bench::with_head();
    let server = answer(&bench, &[r#"{"answer":"done"}"#]);
    bench.silent(&["destroy", "-f", "head"]);
    assert_eq!(server.join().unwrap(), [r#"{"ask":"reload"}"#]);
}

#[test]
fn a_server_that_does_not_know_keeps_the_environment() {
    let bench = Bench::with_head();
    let server = answer(&bench, &[r#"{"answer":"failed","message":"it is busy"}"#]);
    bench.cannot(
        &["destroy", "head"],
        "the running server does not say which machines live on head: it is busy; stop it, or \
         destroy with -f",
    );
    server.join().unwrap();
    assert!(bench.root("head").exists());
}

#[test]
fn sharing_reaches_the_server_at_once() {
    let bench = Bench::with_head();
    let server = answer(&bench, &[r#"{"answer":"done"}"#]);
    bench.silent(&["sharenfs", "--network", "10.0.0.0/8", "head"]);
    assert_eq!(server.join().unwrap(), [r#"{"ask":"reload"}"#]);
}
