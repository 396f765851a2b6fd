//! The state kept in a file, and put back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::bench::{Bench, netbe};

const MAC: &str = "52:54:00:12:34:56";

#[test]
fn a_state_moves_to_another_host_with_its_key_and_machines() {
    let (old, new) = (Bench::new(), Bench::new());
    old.silent(&["create", "base"]);
    old.silent(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    fs::write(old.state().join("site.key"), "000102030405060708090a0b0c0d0e0f\n").unwrap();
    let configuration = old.state().parent().unwrap().join("netbe.toml");
    fs::write(&configuration, "mode = \"passive\"\n").unwrap();
    let (file, config) =
        (old.state().parent().unwrap().join("kept"), configuration.to_str().unwrap());
    let name = file.to_str().unwrap();
    old.silent(&["backup", "--config", config, name]);
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    // tar(1) reads it.
    let listed = std::process::Command::new("tar").arg("-tf").arg(&file).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for path in ["NETBE.backup", "state/machines/web1.toml", "netbe.toml"] {
        assert!(listed.lines().any(|line| line == path), "{path}: {listed}");
    }

    // A package has put a sample there.
    let there = new.state().parent().unwrap().join("netbe.toml");
    fs::write(&there, "# Nothing is said here.\n\n").unwrap();
    let config = there.to_str().unwrap();
    let would = new.prints(&["restore", "-n", "--config", config, name]);
    assert!(would.starts_with("state: ") && would.contains(config), "{would}");
    assert!(!new.state().join("machines/web1.toml").exists());
    assert_eq!(
        new.prints(&["restore", "--config", config, name]),
        format!("configuration: {config}\n")
    );
    assert_eq!(fs::read_to_string(&there).unwrap(), "mode = \"passive\"\n");
    assert!(new.prints(&["machine", "list"]).contains("web1"));
    let key = |bench: &Bench| fs::read(bench.state().join("site.key")).ok();
    assert_eq!(key(&new).unwrap(), key(&old).unwrap());

    // What is there is not replaced without a word.
    let refused = new.run(&["restore", "--config", config, name]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.err.contains("already has a state"), "{}", refused.err);
    new.silent(&["create", "other"]);
    new.silent(&["machine", "add", "--mac", "52:54:00:00:00:99", "--environment", "other", "web9"]);
    fs::write(&there, "mode = \"proxy\"\n").unwrap();
    new.prints(&["restore", "-f", "--config", config, name]);
    let machines = new.prints(&["machine", "list"]);
    assert!(machines.contains("web1") && !machines.contains("web9"), "{machines}");
}

#[test]
fn a_backup_goes_through_a_pipe_and_a_damaged_one_changes_nothing() {
    let (old, new) = (Bench::new(), Bench::new());
    old.silent(&["create", "base"]);
    old.silent(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    let none = old.state().parent().unwrap().join("none");
    let none = none.to_str().unwrap();
    let kept = old.command(netbe(), &["backup", "--config", none, "-"]).output().unwrap().stdout;
    let restore = |bytes: &[u8]| {
        let mut command = new.command(netbe(), &["restore", "--config", none, "-"]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Who refuses it may not read it to its end.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), bytes);
        child.wait_with_output().unwrap()
    };
    for bytes in [&kept[..kept.len() / 2], b"hello", b""] {
        let done = restore(bytes);
        assert_eq!(done.status.code(), Some(2), "{done:?}");
        assert!(!new.state().join("machines/web1.toml").exists());
    }
    let done = restore(&kept);
    assert!(done.status.success(), "{done:?}");
    assert!(new.prints(&["machine", "list"]).contains("web1"));
}

#[test]
fn the_file_that_the_server_read_is_kept_and_missed_where_it_is_gone() {
    let bench = Bench::new();
    bench.silent(&["create", "base"]);
    bench.silent(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    let dir = bench.state().parent().unwrap().to_owned();
    let (file, configuration) = (dir.join("kept"), dir.join("site.toml"));
    let name = file.to_str().unwrap();
    // The line for cron, where the server has flags alone: there is nothing to be warned of.
    bench.silent(&["backup", name]);
    // What a server started with -f notes.
    let record = format!("file = {:?}\n", configuration.to_str().unwrap());
    fs::write(bench.state().join("configured.toml"), record).unwrap();
    fs::write(&configuration, "mode = \"passive\"\n").unwrap();
    bench.silent(&["backup", name]);
    let there = dir.join("restored.toml");
    let there = there.to_str().unwrap();
    bench.prints(&["restore", "-f", "--config", there, name]);
    assert_eq!(fs::read_to_string(there).unwrap(), "mode = \"passive\"\n");
    fs::remove_file(&configuration).unwrap();
    let done = bench.run(&["backup", name]);
    let warning = format!(
        "netbe: there is no {}, so the backup has no configuration: --config FILE names one\n",
        configuration.display()
    );
    assert_eq!((done.status, done.err), (Some(0), warning));
}

#[test]
fn nothing_is_kept_of_a_state_that_nobody_used() {
    let bench = Bench::new();
    let file = bench.state().parent().unwrap().join("kept");
    let refused = bench.run(&["backup", file.to_str().unwrap()]);
    assert_eq!(refused.status, Some(2));
    assert!(!file.exists());
}
