//! Mistakes in files of other programs: found, printed, counted by the exit status.

use std::fs;
use std::os::unix::fs::symlink;

use crate::bench::Bench;

const SLIDES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/lint/slides");

/// Where the server is, so that nothing depends on this host's networks.
const SERVER: &str = "--server=192.168.2.1";

#[test]
fn every_contradiction_of_the_slides_has_its_file_and_line() {
    let files = ["exports", "fstab", "head.sh"].map(|file| format!("{SLIDES}/{file}"));
    let [exports, fstab, script] = files.each_ref().map(String::as_str);
    let outcome = Bench::new().run(&["lint", exports, fstab, script]);
    assert_eq!((outcome.status, outcome.err.as_str()), (Some(1), "netbe: 21 findings\n"));
    let contradictions: Vec<&str> =
        outcome.out.lines().filter(|line| line.ends_with("-differs]")).collect();
    assert_eq!(contradictions.len(), 10);
    assert_eq!(
        contradictions[0],
        format!(
            "{fstab}:2: /be/head/tmp is not below /ROOT/head, the root of the guest ({script}:11), \
             and no line exports it: write 192.168.2.1:/ROOT/head/tmp [path-differs]"
        )
    );
    assert_eq!(
        contradictions[9],
        format!(
            "{script}:12: the root is mounted from 192.168.1.1 here, but from 192.168.2.1 by \
             boot.nfsroot.server ({script}:8): write one server [server-differs]"
        )
    );
}

#[test]
fn programs_get_json() {
    let bench = Bench::new();
    let fstab = format!("{SLIDES}/fstab");
    let outcome = bench.run(&["lint", "-j", &fstab]);
    assert_eq!(outcome.status, Some(1));
    let json: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 9);
    assert_eq!(json[0]["file"], fstab.as_str());
    assert_eq!((&json[0]["line"], &json[0]["rule"]), (&2.into(), &"nolockd".into()));
    assert!(json[0]["message"].as_str().unwrap().contains("add nolockd"));
}

#[test]
fn what_netbe_shows_has_no_findings() {
    let bench = Bench::with_head();
    bench.silent(&["sharenfs", "--maproot=0:0", "--network=192.168.2.0/24", "head"]);
    let guest = [SERVER, "--address=192.168.2.202", "head"];
    let dir = bench.state().join("shown");
    fs::create_dir(&dir).unwrap();
    let mut arguments = vec!["lint".to_owned()];
    for (what, file) in [("fstab", "fstab"), ("loader", "loader.conf"), ("rcconf", "rc.conf")] {
        let text = bench.prints(&[&["show", what], guest.as_slice()].concat());
        fs::write(dir.join(file), text).unwrap();
        arguments.push(dir.join(file).to_str().unwrap().to_owned());
    }
    fs::write(dir.join("run.sh"), bench.prints(&[&["bootnfs", "-n"], guest.as_slice()].concat()))
        .unwrap();
    arguments.push(dir.join("run.sh").to_str().unwrap().to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert_eq!(bench.prints(&arguments), "");
    // Alone: mountd(8) exports the store's directory, and netbe itself /be/head.
    fs::write(dir.join("exports"), bench.prints(&["show", "exports", "head"])).unwrap();
    let exports = dir.join("exports");
    assert_eq!(bench.prints(&["lint", exports.to_str().unwrap()]), "");
}

#[test]
fn an_environment_shared_without_its_root_is_no_root_of_a_guest() {
    let bench = Bench::with_head();
    bench.silent(&["sharenfs", "--network=192.168.2.0/24", "head"]);
    let exports = bench.state().join("exports");
    fs::write(&exports, bench.prints(&["show", "exports", "head"])).unwrap();
    let outcome = bench.run(&["lint", exports.to_str().unwrap()]);
    assert_eq!((outcome.status, outcome.out.lines().count()), (Some(1), 1));
    assert!(outcome.out.ends_with(": write -maproot=root [exports-maproot]\n"), "{}", outcome.out);
}

#[test]
fn a_file_of_another_name_is_read_as_what_it_is_said_to_be() {
    let bench = Bench::with_head();
    let table = bench.state().join("table");
    fs::write(&table, "one two\n").unwrap();
    let table = table.to_str().unwrap();
    let sentence = format!(
        "cannot recognize the kind of {table}: give `--as KIND {table}`, with KIND one of {}",
        bootcfg::lint::KINDS
    );
    bench.cannot(&["lint", table], &sentence);
    let outcome = bench.run(&["lint", "--as", "fstab", table]);
    assert_eq!((outcome.status, outcome.err.as_str()), (Some(1), "netbe: 1 finding\n"));
    assert!(outcome.out.starts_with(&format!("{table}:1: the type is missing")), "{}", outcome.out);
    bench.cannot(
        &["lint", "--as", "table", table],
        &format!("\"table\" is no kind of file: write {}", bootcfg::lint::KINDS),
    );
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_the_others() {
    let fstab = format!("{SLIDES}/fstab");
    let outcome = Bench::new().run(&["lint", "/nonexistent/exports", &fstab]);
    assert_eq!(outcome.status, Some(2));
    assert_eq!(outcome.out.lines().count(), 9);
    assert!(
        outcome.err.starts_with("netbe: cannot read /nonexistent/exports: "),
        "{}",
        outcome.err
    );
}

#[test]
fn a_file_of_a_boot_environment_is_read_from_inside() {
    let bench = Bench::with_head();
    let etc = bench.root("head").join("etc");
    fs::create_dir_all(&etc).unwrap();
    let secret = bench.state().join("secret");
    fs::write(&secret, "hidden\n").unwrap();
    symlink(&secret, etc.join("fstab")).unwrap();
    let outcome = bench.run(&["lint", etc.join("fstab").to_str().unwrap()]);
    assert_eq!((outcome.status, outcome.out.as_str()), (Some(2), ""));
    assert!(!outcome.err.contains("hidden"), "{}", outcome.err);
    fs::remove_file(etc.join("fstab")).unwrap();
    fs::write(etc.join("fstab"), "one\n").unwrap();
    let outcome = bench.run(&["lint", etc.join("fstab").to_str().unwrap()]);
    assert_eq!((outcome.status, outcome.err.as_str()), (Some(1), "netbe: 1 finding\n"));
}
