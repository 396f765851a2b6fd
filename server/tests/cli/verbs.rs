//! Snapshots, rollback, names, differences, streams, mounts and the history, as they are typed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use crate::bench::{Bench, netbe};

/// A site with `head`, a file in it, and a snapshot of both.
fn with_snapshot() -> Bench {
    let bench = Bench::with_head();
    fs::write(bench.root("head").join("file"), "one").unwrap();
    bench.silent(&["snapshot", "head@monday"]);
    bench
}

fn names(bench: &Bench) -> Vec<String> {
    let list = bench.prints(&["list", "-H"]);
    list.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn a_snapshot_is_rolled_back_to_and_cloned() {
    let bench = with_snapshot();
    fs::write(bench.root("head").join("file"), "two").unwrap();
    bench.silent(&["clone", "head@monday", "desk"]);
    assert_eq!(fs::read_to_string(bench.root("desk").join("file")).unwrap(), "one");
    bench.silent(&["rollback", "head@monday"]);
    assert_eq!(fs::read_to_string(bench.root("head").join("file")).unwrap(), "one");
    let list = bench.prints(&["list", "-H", "-o", "name,role,layout,shared,space,origin"]);
    assert!(list.starts_with("desk\tbe\tfreebsd\toff\t-\thead@monday\n"), "{list}");
}

#[test]
fn what_would_be_destroyed_is_told_and_stays() {
    let bench = with_snapshot();
    let told = "would destroy head\nwould destroy head@monday\n";
    assert_eq!(bench.prints(&["destroy", "-n", "head"]), told);
    let told = "would destroy head@monday\n";
    assert_eq!(bench.prints(&["destroy", "-n", "head@monday"]), told);
    bench.silent(&["machine", "add", "--mac=52:54:00:00:00:01", "--environment=head", "desk"]);
    let refused = "desk boots head: assign another with `netbe sharepxe`, or destroy with -f";
    bench.refuses(&["destroy", "-n", "head"], refused);
    let told = "would destroy head\nwould destroy head@monday\nalthough desk boots head\n";
    assert_eq!(bench.prints(&["destroy", "-n", "-f", "head"]), told);
    assert_eq!(names(&bench), ["head"]);
    assert_eq!(bench.prints(&["list", "-H", "-s"]).lines().count(), 2);
    bench.run(&["sharepxe", "--machine=desk", "--root=own", "head@monday"]);
    let (refused, _) = bench.fails(&["destroy", "-n", "head@monday"]);
    assert!(refused.contains("desk can be neither reset nor upgraded"), "{refused}");
    let told = "would destroy head@monday\nalthough desk-head was cloned from head@monday\n";
    assert_eq!(bench.prints(&["destroy", "-n", "-f", "head@monday"]), told);
}

#[test]
fn what_came_after_a_snapshot_goes_only_when_it_is_said() {
    let bench = with_snapshot();
    bench.silent(&["snapshot", "head@tuesday"]);
    bench.silent(&["snapshot", "head@wednesday"]);
    bench.refuses(
        &["rollback", "head@monday"],
        "head@monday is not the newest snapshot: -r destroys the newer ones: tuesday, wednesday",
    );
    bench.silent(&["rollback", "-r", "head@monday"]);
    bench.refuses(
        &["rollback", "head@tuesday"],
        "there is no snapshot head@tuesday: `netbe list -s` shows all",
    );
}

#[test]
fn snapshots_and_their_space_are_listed_when_asked_for() {
    let bench = with_snapshot();
    let list = bench.prints(&["list", "-s", "-H"]);
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!((rows[0][0], rows[1][0], rows.len()), ("head", "head@monday", 2));
    assert!(rows[1][4].parse::<u64>().unwrap() >= 4096, "{list}");
    let list = bench.prints(&["list", "-a"]);
    assert!(list.contains("\nhead/usr/home "), "{list}");
    let json: serde_json::Value =
        serde_json::from_str(&bench.prints(&["list", "-s", "-j"])).unwrap();
    assert_eq!(json[0]["snapshots"][0]["name"], "head@monday");
    assert!(json[0]["referenced"].as_u64().unwrap() > 0);
}

#[test]
fn a_snapshot_alone_is_destroyed_and_with_its_environment() {
    let bench = with_snapshot();
    bench.silent(&["snapshot", "head@tuesday"]);
    bench.silent(&["destroy", "head@monday"]);
    assert_eq!(bench.prints(&["list", "-s", "-H"]).lines().count(), 2);
    bench.silent(&["destroy", "head"]);
    assert_eq!(fs::read_dir(bench.state().join("store/snap")).unwrap().count(), 0);
}

#[test]
fn a_verb_about_snapshots_wants_one() {
    let bench = with_snapshot();
    let sentence = "head names no snapshot: write head@NAME, as in head@monday";
    for verb in [&["snapshot", "head"][..], &["rollback", "head"], &["send", "head"]] {
        bench.cannot(verb, sentence);
    }
    bench.refuses(
        &["snapshot", "head@monday"],
        "head@monday exists already: choose another name, or destroy it first",
    );
}

#[test]
fn a_renamed_environment_stays_the_same_for_machines_that_boot_it() {
    let bench = Bench::with_head();
    bench.silent(&[
        "machine",
        "add",
        "--mac",
        "52:54:00:00:00:01",
        "--environment",
        "head",
        "desk",
    ]);
    bench.silent(&["sharepxe", "--default", "head"]);
    let inode = bench.root("head").metadata().unwrap().ino();
    bench.silent(&["rename", "head", "büro 2"]);
    assert_eq!(bench.root("büro 2").metadata().unwrap().ino(), inode);
    assert!(bench.prints(&["machine", "show", "desk"]).contains("environment = \"büro 2\""));
    bench.refuses(
        &["destroy", "büro 2"],
        "desk boots büro 2: assign another with `netbe sharepxe`, or destroy with -f",
    );
    bench.silent(&["sharepxe", "--off", "--machine", "desk"]);
    bench.refuses(
        &["destroy", "büro 2"],
        "büro 2 is the default environment: set another with `netbe sharepxe --default`, or \
         destroy with -f",
    );
    bench.silent(&["destroy", "-f", "büro 2"]);
}

#[test]
fn a_promoted_clone_is_what_its_origin_came_from() {
    let bench = Bench::with_head();
    bench.silent(&["clone", "head", "desk"]);
    bench.silent(&["promote", "desk"]);
    let list = bench.prints(&["list", "-H", "-o", "origin"]);
    let origins: Vec<_> = list.lines().collect();
    assert_eq!(origins, ["-", "desk"]);
    bench.refuses(
        &["promote", "desk"],
        "desk depends on no other boot environment: there is nothing to promote",
    );
}

#[test]
fn differences_are_shown_as_zfs_does() {
    let bench = with_snapshot();
    let root = bench.root("head");
    fs::write(root.join("file"), "two").unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    symlink("x", root.join("dir/li\nk")).unwrap();
    fs::remove_dir(root.join("usr/src")).unwrap();
    let changes = bench.prints(&["diff", "-H", "head@monday"]);
    let expected = "+\t/\t/dir\n+\t@\t/dir/li\\nk\nM\tF\t/file\n-\t/\t/usr/src\n";
    assert_eq!(changes, expected);
    assert_eq!(bench.prints(&["diff", "-H", "head"]), expected, "since its last snapshot");
    assert_eq!(bench.prints(&["diff", "-H", "head", "head"]), "");
}

/// Sends a snapshot and receives it under another name, as a pipe does.
fn pipe(bench: &Bench, send: &[&str], receive: &str) {
    let mut sender = bench.command(netbe(), send).stdout(Stdio::piped()).spawn().unwrap();
    let stream = sender.stdout.take().unwrap();
    let mut receiver = bench.command(netbe(), &["receive", receive]);
    assert!(receiver.stdin(stream).status().unwrap().success());
    assert!(sender.wait().unwrap().success());
}

#[test]
fn a_snapshot_is_sent_whole_and_then_what_is_new() {
    let bench = with_snapshot();
    pipe(&bench, &["send", "head@monday"], "copy");
    fs::write(bench.root("head").join("more"), "two").unwrap();
    fs::remove_file(bench.root("head").join("file")).unwrap();
    bench.silent(&["snapshot", "head@tuesday"]);
    // As zfs(8) names it.
    bench.cannot(
        &["send", "-i", "copy@monday", "head@tuesday"],
        "copy@monday is not a snapshot of head: `netbe list -s` shows all",
    );
    pipe(&bench, &["send", "-i", "head@monday", "head@tuesday"], "copy");
    assert_eq!(bench.prints(&["diff", "head@tuesday", "copy"]).lines().count(), 1, "the header");
    assert_eq!(bench.prints(&["diff", "-H", "head@monday", "copy@monday"]), "");
    let json: serde_json::Value = serde_json::from_str(&bench.prints(&["list", "-j"])).unwrap();
    assert_eq!((&json[0]["name"], &json[0]["role"]), (&"copy".into(), &"off".into()));
    bench.silent(&["set", "role=be", "copy"]);
}

#[test]
fn a_stream_that_is_cut_off_leaves_nothing() {
    let bench = with_snapshot();
    let stream = bench.command(netbe(), &["send", "head@monday"]).output().unwrap().stdout;
    for end in [0, 10, stream.len() / 2, stream.len() - 1] {
        let mut receiver = bench.command(netbe(), &["receive", "copy"]);
        let receiver = receiver.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = receiver.spawn().unwrap();
        // It may refuse before it has read all.
        let _ = child.stdin.take().unwrap().write_all(&stream[..end]);
        let outcome = child.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8(outcome.stderr).unwrap(),
            "netbe: the stream was cut off: send it again; nothing was received\n"
        );
        assert_eq!(outcome.status.code(), Some(2));
    }
    assert_eq!(names(&bench), ["head"]);
    let kept = fs::read_dir(bench.state().join("store/snap")).unwrap().count();
    assert_eq!(kept, 1, "the snapshots of head");
}

#[test]
fn what_was_changed_meanwhile_receives_nothing_new() {
    let bench = with_snapshot();
    pipe(&bench, &["send", "head@monday"], "copy");
    fs::write(bench.root("copy").join("mine"), "x").unwrap();
    bench.silent(&["snapshot", "head@tuesday"]);
    let stream =
        bench.command(netbe(), &["send", "-i", "monday", "head@tuesday"]).output().unwrap();
    let mut child = bench
        .command(netbe(), &["receive", "copy"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&stream.stdout).unwrap();
    let outcome = child.wait_with_output().unwrap();
    let text = String::from_utf8(outcome.stderr).unwrap();
    assert!(
        text.starts_with("netbe: the boot environment was changed since copy@monday: "),
        "{text}"
    );
    assert!(bench.root("copy").join("mine").exists());
}

#[test]
fn settings_are_written_down_and_taken_away() {
    let bench = Bench::with_head();
    bench.silent(&["set", "role=template", "release=14.3", "data=usr/home", "head"]);
    bench.silent(&["clone", "head", "desk"]);
    let json: serde_json::Value = serde_json::from_str(&bench.prints(&["list", "-j"])).unwrap();
    assert_eq!((&json[1]["role"], &json[0]["role"]), (&"template".into(), &"be".into()));
    assert_eq!(json[0]["settings"]["release"], "14.3");
    assert_eq!(json[0]["data"][0], "usr/home");
    let all = "desk\trole\tbe\tlocal\ndesk\tdata\tusr/home\tlocal\ndesk\trelease\t14.3\tlocal\n\
               desk\tsync\tstandard\tdefault\n";
    assert_eq!(bench.prints(&["get", "-H", "desk"]), all);
    assert_eq!(bench.prints(&["get", "-H", "all", "desk"]), all);
    assert_eq!(bench.prints(&["get", "-H", "release", "desk"]), "desk\trelease\t14.3\tlocal\n");
    assert_eq!(bench.prints(&["get", "data,release", "desk"]).lines().count(), 3);
    bench.refuses(
        &["get", "releas", "desk"],
        "desk has no releas (did you mean release?): `netbe get desk` shows what it has",
    );
    bench.silent(&["set", "release=", "system=usr/home", "desk"]);
    let json: serde_json::Value = serde_json::from_str(&bench.prints(&["list", "-j"])).unwrap();
    assert_eq!(json[0]["settings"].as_object().unwrap().len(), 0);
    bench.refuses(
        &["set", "data=usr", "head"],
        "head has no data set \"usr\": `netbe list -j` shows those that it has",
    );
    bench.cannot(&["set", "uuid=1", "head"], "netbe uses that setting itself: choose another name");
    let before = bench.prints(&["get", "-H", "head"]);
    for wrong in ["data=nosuch", "uuid=1", "role=nosuch"] {
        bench.fails(&["set", "role=be", "release=15.0", wrong, "head"]);
        assert_eq!(bench.prints(&["get", "-H", "head"]), before, "{wrong}: nothing is half-done");
    }
}

#[test]
fn a_property_is_known_or_has_a_colon() {
    let bench = Bench::with_head();
    bench.cannot(
        &["set", "quoat=10G", "head"],
        "there is no property quoat (did you mean quota?): `netbe set --help` lists all; a name of \
         your own has a colon, as in site:quoat",
    );
    bench.cannot(
        &["set", "colour=red", "head"],
        "there is no property colour: `netbe set --help` lists all; a name of your own has a \
         colon, as in site:colour",
    );
    bench.cannot(
        &["set", "readonly=on", "head"],
        "readonly cannot be set with `netbe set`: `netbe set role=template` and `netbe sharenfs --ro` keep machines from \
         writing",
    );
    bench.silent(&["set", "site:colour=red", "note=of the office", "os=Plan 9", "head"]);
    let get = |words: &[&str]| bench.prints(&[&["get", "-H"], words, &["head"]].concat());
    assert_eq!(get(&["site:colour"]), "head\tsite:colour\tred\tlocal\n");
    assert_eq!(get(&["-o", "value,property", "note"]), "of the office\tnote\n");
    assert_eq!(get(&["arch,site:none"]), "head\tarch\t-\t-\nhead\tsite:none\t-\t-\n");
    let json = bench.prints(&["get", "-j", "note", "head"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["value"], &json[0]["source"]), (&"of the office".into(), &"local".into()));
}

/// A netbe that took any name wrote them down.
#[test]
fn a_name_without_a_colon_that_is_written_down_is_read_and_taken_away_and_not_changed() {
    let bench = Bench::with_head();
    bench.silent(&["set", "note=x", "head"]);
    let file = bench.state().join("store/meta/head.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("note = "), "{text}");
    fs::write(&file, text.replace("note = ", "colour = ")).unwrap();
    assert_eq!(bench.prints(&["get", "-H", "colour", "head"]), "head\tcolour\tx\tlocal\n");
    let (said, _) = bench.fails(&["set", "colour=y", "head"]);
    assert!(said.starts_with("there is no property colour: "), "{said}");
    bench.silent(&["set", "note=y", "head"]);
    assert_eq!(bench.prints(&["get", "-H", "colour", "head"]), "head\tcolour\tx\tlocal\n");
    bench.silent(&["set", "colour=", "head"]);
    let (said, _) = bench.fails(&["set", "colour=", "head"]);
    assert!(said.starts_with("there is no property colour: "), "{said}");
}

#[test]
fn plain_directories_have_no_properties_of_a_file_system_and_say_what_helps() {
    let bench = Bench::with_head();
    let before = bench.prints(&["get", "-H", "head"]);
    let (said, status) = bench.fails(&["set", "note=x", "quota=10G", "head"]);
    assert!(
        said.starts_with("quota cannot be set here: plain directories have no limits"),
        "{said}"
    );
    assert!(said.contains("keep the store on ZFS or btrfs") && status == 2, "{said}");
    let (said, _) = bench.fails(&["set", "compression=zstd", "head"]);
    assert!(said.contains("plain directories have no such property"), "{said}");
    assert_eq!(bench.prints(&["get", "-H", "head"]), before);
    assert_eq!(bench.prints(&["get", "-H", "quota", "head"]), "head\tquota\t-\t-\n");
}

#[test]
fn whether_changes_are_waited_for_is_set_and_shown_once() {
    let bench = Bench::with_head();
    assert_eq!(bench.prints(&["get", "-H", "sync", "head"]), "head\tsync\tstandard\tdefault\n");
    bench.prints(&["set", "sync=disabled", "head"]);
    let all = bench.prints(&["get", "-H", "head"]);
    let told: Vec<&str> = all.lines().filter(|line| line.contains("sync")).collect();
    assert_eq!(told, ["head\tsync\tdisabled\tlocal"]);
    let (said, status) = bench.fails(&["set", "sync=never", "head"]);
    assert!(said.contains("write standard, always or disabled") && status == 2, "{said}");
    bench.prints(&["set", "sync=", "head"]);
    assert_eq!(bench.prints(&["get", "-H", "sync", "head"]), "head\tsync\tstandard\tdefault\n");
}

#[test]
fn the_history_tells_who_did_what_and_how_it_ended() {
    let bench = with_snapshot();
    bench.fails(&["destroy", "head@friday"]);
    let mut clone = bench.command(netbe(), &["clone", "head@monday", "desk"]);
    assert!(clone.env("SUDO_USER", "anna").status().unwrap().success());
    let history = bench.prints(&["history", "-H"]);
    let rows: Vec<Vec<&str>> = history.lines().map(|line| line.split('\t').collect()).collect();
    let told: Vec<_> = rows.iter().map(|row| (row[2], row[3])).collect();
    assert_eq!(
        told,
        [
            ("create", "freebsd head"),
            ("snapshot", "head@monday"),
            ("destroy", "head@friday"),
            ("clone", "head@monday desk")
        ]
    );
    assert_eq!(rows[1][4], "done");
    assert!(rows[2][4].starts_with("failed: there is no snapshot head@friday"), "{history}");
    assert!(rows[3][1].starts_with("anna as "), "{history}");
    assert_eq!(bench.prints(&["history", "-H", "desk"]).lines().count(), 1);
    bench.silent(&["rename", "desk", "my desk"]);
    let last = bench.prints(&["history", "-H", "my desk"]);
    assert_eq!(last.split('\t').nth(3), Some("desk 'my desk'"));
    bench.silent(&["snap", "my desk@friday"]);
    let history = bench.prints(&["history", "-H", "my desk"]);
    let last: Vec<&str> = history.lines().last().unwrap().split('\t').collect();
    assert_eq!(last[2..4], ["snapshot", "'my desk@friday'"]);
}

#[test]
fn a_history_that_cannot_be_written_stops_nothing_and_is_told_once() {
    let bench = Bench::with_head();
    let kept = bench.state().join("history");
    assert!(kept.is_file());
    fs::remove_file(&kept).unwrap();
    fs::create_dir(&kept).unwrap();
    let done = bench.run(&["clone", "head", "desk"]);
    assert_eq!((done.out.as_str(), done.status), ("", Some(0)));
    let line = done.err.strip_suffix('\n').unwrap();
    assert!(line.starts_with("netbe: this command is missing in the history, because "), "{line}");
    assert!(!line.contains('\n'), "{line}");
    assert_eq!(names(&bench), ["desk", "head"]);
    if cfg!(target_os = "linux") {
        // Nor does it when nobody can be told.
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = bench.command(netbe(), &["clone", "head", "lap"]);
        assert_eq!(command.stderr(full).status().unwrap().code(), Some(0));
        assert_eq!(names(&bench), ["desk", "head", "lap"]);
    }
}

#[test]
fn a_template_is_shared_read_only_whatever_was_said_of_it_before() {
    let bench = Bench::with_head();
    bench.silent(&["sharenfs", "--network", "10.0.0.0/8", "head"]);
    let shared = || bench.prints(&["list", "-H", "-o", "shared"]).trim_end().to_owned();
    assert_eq!(shared(), "rw");
    bench.silent(&["set", "role=template", "head"]);
    assert_eq!(shared(), "ro");
    bench.silent(&["set", "role=be", "head"]);
    assert_eq!(shared(), "rw");
}

#[test]
fn what_a_stream_changes_is_not_changed_under_a_machine() {
    let bench = with_snapshot();
    pipe(&bench, &["send", "head@monday"], "copy");
    bench.silent(&["snapshot", "head@tuesday"]);
    let stream =
        bench.command(netbe(), &["send", "-i", "monday", "head@tuesday"]).output().unwrap();
    let server = UnixListener::bind(bench.state().join("control.sock")).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut asked = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut asked).unwrap();
        stream.write_all(b"{\"answer\":\"living\",\"machines\":[\"desk\"]}\n").unwrap();
        asked
    });
    let mut receiver = bench.command(netbe(), &["receive", "copy"]);
    let receiver = receiver.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = receiver.spawn().unwrap();
    // It may refuse before it has read any of it.
    let _ = child.stdin.take().unwrap().write_all(&stream.stdout);
    let outcome = child.wait_with_output().unwrap();
    let said = String::from_utf8(outcome.stderr).unwrap();
    assert_eq!(said, "netbe: desk runs from copy: shut it down, or receive with -f\n");
    assert!(answering.join().unwrap().contains(r#"{"ask":"hold""#));
}

/// Runs commands in a mount namespace of their own, where what they mount harms nobody.
pub(crate) fn apart(bench: &Bench, script: &str) -> Option<String> {
    if !cfg!(target_os = "linux") {
        eprintln!("skipped: only Linux has mount namespaces");
        return None;
    }
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--propagation", "private", "sh", "-ec", script]);
    shell.env("NETBE_STATE", bench.state()).env("netbe", netbe());
    shell.env("at", bench.state().join("at"));
    let outcome = shell.output().unwrap();
    let err = String::from_utf8(outcome.stderr).unwrap();
    if err.contains("Operation not permitted") && err.starts_with("unshare") {
        eprintln!("skipped: only the superuser can mount");
        return None;
    }
    assert!(outcome.status.success(), "{err}");
    Some(String::from_utf8(outcome.stdout).unwrap())
}

#[test]
fn a_tree_is_mounted_elsewhere_without_devices_and_setuid_programs() {
    let bench = with_snapshot();
    fs::create_dir(bench.state().join("at")).unwrap();
    let script =
        "$netbe mount head \"$at\"; grep \" $at \" /proc/self/mountinfo; echo x >\"$at/new\"
        $netbe destroy -f head 2>&1 || true; $netbe unmount head; ls \"$at\"";
    let Some(out) = apart(&bench, script) else { return };
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].contains("nosuid,nodev"), "{out}");
    let at = bench.state().join("at");
    assert_eq!(
        lines[1],
        format!("netbe: head is mounted on {at:?}: run `netbe unmount head` first")
    );
    assert_eq!(lines.len(), 2, "nothing is left at the place: {out}");
    assert!(bench.root("head").join("new").exists());
}

#[test]
fn a_snapshot_is_mounted_read_only() {
    let bench = with_snapshot();
    fs::create_dir(bench.state().join("at")).unwrap();
    let script = "$netbe mount head@monday \"$at\"; cat \"$at/file\"; echo
        touch \"$at/new\" 2>&1 || true; $netbe unmount head \"$at\"
        $netbe unmount head 2>&1 || true; $netbe mount head /proc 2>&1 || true";
    let Some(out) = apart(&bench, script) else { return };
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "one");
    assert!(lines[1].contains("Read-only file system"), "{out}");
    assert_eq!(lines[2], "netbe: head is not mounted");
    assert!(lines[3].contains("\"/proc\" is not an empty directory"), "{out}");
}

#[test]
fn without_a_directory_a_tree_is_mounted_on_a_new_one_that_goes_when_it_is_unmounted() {
    let bench = with_snapshot();
    fs::create_dir(bench.state().join("tmp")).unwrap();
    let script = "export TMPDIR=\"$NETBE_STATE/tmp\"
        one=$($netbe mount head); two=$($netbe mount head@monday)
        cat \"$one/file\" \"$two/file\"; stat -c %a \"$TMPDIR\"/*
        $netbe unmount head; ls -A \"$TMPDIR\"
        mkdir \"$at\"; $netbe mount head \"$at\"; $netbe unmount head; ls -d \"$at\"
        $netbe mount nothing 2>/dev/null || ls -A \"$TMPDIR\"";
    let Some(out) = apart(&bench, script) else { return };
    let at = bench.state().join("at");
    assert_eq!(out, format!("oneone700\n700\n{}\n", at.display()));
}

/// As a command leaves it that is killed while it renames, and one whose step fails.
#[test]
fn what_killed_commands_left_is_shown_and_settled() {
    let bench = with_snapshot();
    assert_eq!(bench.prints(&["settle", "-n", "-H"]), "");
    bench.silent(&["settle"]);
    let store = bench.root("head").parent().unwrap().parent().unwrap().to_owned();
    let uuid = "6f1c6a8e-5a43-4a1c-9b8f-0d9d8a6f7b11";
    let record = |intent: &str, steps: &str| {
        let text = format!(
            r#"{{"uuid":"{intent}","verb":"clone","environments":[{{"name":"new","uuid":"{uuid}"}}],"since":"2026-11-20T13:30:00Z","steps":[{steps}]}}"#
        );
        fs::write(store.join(format!("journal/{intent}.json")), text).unwrap();
    };
    let done = "0c5f5c86-51d5-4f0a-8f1e-3f7f0e1d2c3b";
    record(done, "");
    fs::create_dir_all(store.join(format!("be/.work-{done}/tree"))).unwrap();
    let left = bench.prints(&["settle", "-n", "-H"]);
    assert_eq!(left, "clone\tnew\t2026-11-20T13:30:00Z\t0\t-\n");
    bench.silent(&["settle", "new"]);
    assert!(!store.join(format!("be/.work-{done}")).exists());
    // What is written down of it cannot be read.
    record(done, &format!(r#"{{"forget":{{"name":"new","uuid":"{uuid}"}}}}"#));
    fs::create_dir(store.join("meta/new.toml")).unwrap();
    for tries in 1..=2 {
        let (told, _) = bench.fails(&["settle"]);
        let begun = "clone new, begun at 2026-11-20T13:30:00Z, is not complete; tried";
        assert!(told.starts_with(&format!("{begun} {tries} time")), "{told}");
    }
    bench.silent(&["settle", "head"]);
    let err = bench.run(&["set", "os=x", "head"]).err;
    assert!(err.contains("`netbe settle` tries again"), "{err}");
    let left: serde_json::Value =
        serde_json::from_str(&bench.prints(&["settle", "-n", "-j", "new"])).unwrap();
    assert_eq!((&left[0]["tries"], &left[0]["intent"]), (&3.into(), &done.into()));
    fs::remove_dir(store.join("meta/new.toml")).unwrap();
    bench.silent(&["settle"]);
    assert_eq!(bench.prints(&["settle", "-n", "-H"]), "");
}
