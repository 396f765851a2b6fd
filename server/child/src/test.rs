use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Instant;

use super::*;

fn sh(script: &str) -> Call {
    Call::new("sh", Limit::Within(Duration::from_secs(60))).option("-c", script)
}

#[test]
fn no_value_is_read_as_an_option() {
    let call = Call::new("zfs", Limit::None).flag("set").option("-o", "-x").operand("-r");
    assert_eq!(call.words().unwrap(), ["zfs", "set", "-o", "-x", "--", "-r"]);
    // Whenever it was added.
    assert_eq!(call.flag("-H").words().unwrap()[4..], ["-H", "--", "-r"]);
    let shown = Call::new("printf", Limit::None).operands(["%s.", "-v", "--", "-"]).run();
    assert_eq!(shown.unwrap(), b"-v.--.-.");
    let refused = Call::new("echo", Limit::None).without_dashes().operand("-n").run().unwrap_err();
    assert_eq!(refused.why, Why::Option);
    let plain = Call::new("echo", Limit::None).without_dashes().operands(["-", "a"]);
    assert_eq!(plain.run().unwrap(), b"- a\n");
    // What was made elsewhere stays as it is.
    let line = ["jail", "-r", "web1"].map(str::to_owned);
    assert_eq!(Call::line(&line, Limit::None).words().unwrap(), ["jail", "-r", "web1"]);
}

#[test]
fn what_a_program_says_commands_no_terminal() {
    let error = sh("printf 'no \\033[2J\\342\\200\\256x\\nlast\\n' >&2; exit 3").run().unwrap_err();
    assert_eq!(error.said, "no \\u{1b}[2J\\u{202e}x\nlast");
    assert_eq!(error.why, Why::Ended(std::process::ExitStatus::from_raw(3 << 8)));
    let named = Call::new("false", Limit::None).operand("a\u{1b}b c").run().unwrap_err();
    assert_eq!(named.to_string(), "false \"a\\u{1b}b c\": exit status: 1");
}

#[test]
fn of_what_a_program_says_the_end_is_kept() {
    let error = sh("head -c 5000000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1").run();
    let error = error.unwrap_err();
    assert!(error.said.len() <= 16 << 10 && error.said.ends_with("xend"), "{}", error.said.len());
}

#[test]
fn a_program_that_writes_for_ever_is_not_read_for_ever() {
    let error = Call::new("cat", Limit::None).operand("/dev/zero").run().unwrap_err();
    assert_eq!(error.why, Why::Long);
}

#[test]
fn the_limit_holds_whatever_a_program_closes() {
    for script in ["exec sleep 600", "exec >&- 2>&-; exec sleep 600"] {
        let begin = Instant::now();
        let late = sh(script).limit(Limit::Within(Duration::from_millis(100))).run().unwrap_err();
        assert_eq!(late.why, Why::Late, "{script}");
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
    // Nor does one that reads nothing keep its caller.
    let deaf = sh("exec sleep 600").limit(Limit::Within(Duration::from_millis(100)));
    assert_eq!(deaf.feed(vec![0; 1 << 20]).unwrap_err().why, Why::Late);
}

#[test]
fn what_is_fed_comes_back_whole() {
    let input = vec![b'x'; 1 << 20];
    assert_eq!(sh("cat").feed(input.clone()).unwrap(), input);
    let (text, error) = sh("echo half; exit 1").run_on().unwrap();
    assert_eq!((text, error.is_some()), (b"half\n".to_vec(), true));
}

#[test]
fn a_program_that_is_not_there_is_told_from_one_that_fails() {
    let absent = Call::new("no-such-program", Limit::None).run().unwrap_err();
    assert_eq!(absent.why, Why::Absent);
    let error = Call::new("/", Limit::None).run().unwrap_err();
    assert_eq!(error.why, Why::Start);
}

#[test]
fn whoever_is_abandoned_ends_as_it_was_said() {
    let dir = tempfile::tempdir().unwrap();
    let done = dir.path().join("done");
    let write = format!("echo begin; sleep 0.3; echo >'{}'", done.display());
    // As in a verb that fails at something else meanwhile.
    drop(sh(&write).start().unwrap());
    assert!(!done.exists());
    drop(sh(&write).limit(Limit::Within(Duration::ZERO)).uninterrupted().start().unwrap());
    assert!(done.exists());
    fs::remove_file(&done).unwrap();
    let trap = format!(
        "trap 'echo >\"{}\"; exit' TERM; echo; sleep 0.1 & while :; do wait; done",
        done.display()
    );
    let mut running = sh(&trap).abandoned(Abandoned::Terminated).start().unwrap();
    // It listens.
    io::Read::read_exact(&mut running.stdout().unwrap(), &mut [0]).unwrap();
    drop(running);
    assert!(done.exists());
}

#[test]
fn a_lock_is_held_until_the_program_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let file = || File::create(dir.path().join("lock")).unwrap();
    let lock = file();
    lock.lock().unwrap();
    let running = sh("exec sleep 600").holding(lock.into()).start().unwrap();
    assert!(file().try_lock().is_err());
    drop(running);
    // What another test starts has each descriptor too, from fork(2) to execve(2).
    let until = Instant::now() + Duration::from_secs(30);
    while file().try_lock().is_err() {
        assert!(Instant::now() < until, "somebody holds it still");
        thread::sleep(Duration::from_millis(10));
    }
}
