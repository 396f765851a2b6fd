//! Boot environments: created, copied, listed, shared, destroyed.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::{Command, Stdio};

use crate::bench::{Bench, netbe};

#[test]
fn verbs_that_change_something_are_silent_when_it_is_done() {
    let bench = Bench::new();
    bench.silent(&["create", "-l", "freebsd", "head"]);
    bench.silent(&["create", "-e", "head", "two"]);
    bench.silent(&["clone", "two", "three"]);
    bench.silent(&["sharenfs", "--network", "192.168.2.0/24", "head"]);
    bench.silent(&["sharenfs", "--off", "head"]);
    bench.silent(&["destroy", "two"]);
    assert!(bench.root("three").join("var/tmp").is_dir());
    assert!(!bench.root("two").exists());
}

#[test]
fn the_list_is_for_people_first() {
    let bench = Bench::with_head();
    bench.silent(&["clone", "head", "desk"]);
    bench.silent(&["sharenfs", "--ro", "--network", "10.0.0.0/8", "desk"]);
    let list = bench.prints(&["list"]);
    let lines: Vec<&str> = list.lines().collect();
    let header = ["NAME", "ACTIVE", "MOUNTPOINT", "SPACE", "CREATED", "ROLE", "SHARED", "ORIGIN"];
    let words: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(words, [&header[..], &["BOOTED-BY"]].concat());
    assert!(lines[1].starts_with("desk  -       -           -      20"), "{list}");
    assert!(lines[1].ends_with("  be    ro      head    -"), "{list}");
    assert!(lines[2].ends_with("  be    off     -       -"), "{list}");
    assert_eq!(lines.len(), 3);
}

#[test]
fn the_list_says_who_boots_what_and_where_it_is_mounted() {
    let bench = Bench::with_head();
    bench.silent(&["create", "tail"]);
    bench.silent(&["create", "idle"]);
    let macs = ["--mac=52:54:00:00:00:01", "--mac=52:54:00:00:00:02", "--mac=52:54:00:00:00:03"];
    bench.silent(&["machine", "add", macs[0], "--environment=head", "web1"]);
    bench.silent(&["machine", "add", macs[1], "--environment=head", "--ro", "web2"]);
    bench.silent(&["activate", "-t", "web2", "tail"]);
    bench.silent(&["machine", "add", macs[2], "web3"]);
    bench.prints(&["sharepxe", "--machine=web3", "--root=own", "tail"]);
    let columns = |columns: &str, more: &[&str]| {
        bench.prints(&[&["list", "-H", "-o", columns], more].concat())
    };
    assert_eq!(
        columns("name,active,booted-by", &[]),
        "head\tR\tweb1,web2\nidle\t-\t-\ntail\tT\tweb2\nweb3-tail\tR\tweb3\n"
    );
    assert_eq!(columns("name", &["-C", "name"]), "web3-tail\ntail\nidle\nhead\n");
    assert_eq!(
        columns("layout,name", &["-c", "layout", "head", "tail"]),
        "flat\ttail\nfreebsd\thead\n"
    );
    assert_eq!(columns("name", &["-S", "layout", "head", "tail"]), "head\ntail\n");
    // What is equal stays sorted by name, also from the largest on.
    assert_eq!(columns("name", &["-C", "layout", "idle", "tail"]), "idle\ntail\n");
    for words in [["-c", "used"], ["-C", "refer"], ["-o", "name,used"]] {
        let column = words[1].trim_start_matches("name,");
        let (sentence, status) = bench.fails(&[&["list"][..], &words].concat());
        let wanted = format!(
            "{column} is measured only with -s, -a or -D: add one of them, or use the column space"
        );
        assert_eq!((sentence, status), (wanted, 2));
    }
    assert_eq!(columns("name", &["-D", "-c", "used", "idle"]), "idle\n");
    let json: serde_json::Value =
        serde_json::from_str(&bench.prints(&["list", "-j", "head"])).unwrap();
    assert_eq!(json[0]["booted_by"], serde_json::json!(["web1", "web2"]));
    assert_eq!((&json[0]["next"], &json[0]["now"]), (&true.into(), &false.into()));
    fs::write(bench.root("tail").join("file"), vec![7; 300_000]).unwrap();
    let by_size = columns("name,space", &["-D", "-C", "space", "idle", "tail"]);
    let sizes: Vec<(&str, u64)> = by_size
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(name, size)| (name, size.parse().unwrap()))
        .collect();
    assert_eq!((sizes[0].0, sizes[1].0), ("tail", "idle"));
    assert!(sizes[0].1 >= 300_000 && sizes[0].1 > sizes[1].1, "{sizes:?}");
    let (sentence, status) = bench.fails(&["list", "-o", "size"]);
    assert!(sentence.contains("[possible values: ") || sentence.contains("'size'"), "{sentence}");
    assert_eq!(status, 2);
    bench.refuses(
        &["list", "-s", "used"],
        "there is no boot environment used: -s lists snapshots, and -c used sorts",
    );
}

#[test]
fn the_list_is_of_what_was_named() {
    let bench = Bench::with_head();
    for name in ["desk", "web"] {
        bench.silent(&["clone", "head", name]);
    }
    for words in [&["list", "-H", "web", "desk"][..], &["list", "-H", "-s", "web", "desk"]] {
        let list = bench.prints(words);
        let names: Vec<_> = list.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(names, ["desk", "web"]);
    }
    let sentence = "there is no boot environment nix: `netbe list` shows all";
    bench.refuses(&["list", "nix"], sentence);
}

#[test]
fn scripts_get_tabs_and_programs_get_json() {
    let bench = Bench::with_head();
    let tabs = bench.prints(&["list", "-H"]);
    let fields: Vec<&str> = tabs.trim_end().split('\t').collect();
    assert_eq!(fields[..4], ["head", "-", "-", "-"]);
    assert_eq!(fields[5..], ["be", "off", "-", "-"]);
    let json: serde_json::Value = serde_json::from_str(&bench.prints(&["list", "-j"])).unwrap();
    assert_eq!(json[0]["name"], "head");
    assert_eq!(json[0]["datasets"].as_array().unwrap().len(), 9);
    assert_eq!(json[0]["origin"], serde_json::Value::Null);
    // Directories would have to be walked for it.
    assert_eq!(json[0].get("space"), Some(&serde_json::Value::Null));
    assert_eq!(json[0]["uuid"].as_str().unwrap().len(), 36);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let bench = Bench::with_head();
    let mut child = bench.command(netbe(), &["list"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_store_elsewhere_is_said_by_flag_or_by_environment() {
    let bench = Bench::new();
    let store = format!("dir:{}", bench.state().join("other").display());
    bench.silent(&["--store", &store, "create", "a"]);
    bench.silent(&["create", "b", "--store", &store]);
    let mut list = bench.command(netbe(), &["list", "-H"]);
    let out = list.env("NETBE_STORE", &store).output().unwrap().stdout;
    assert_eq!(String::from_utf8(out).unwrap().lines().count(), 2);
    assert!(!bench.state().join("store").exists());
}

#[test]
fn what_is_not_said_about_a_share_stays_as_it_is() {
    let bench = Bench::with_head();
    bench.silent(&["machine", "add", "--mac", "02:00:00:00:00:07", "desk"]);
    let exports = |words: &[&str]| {
        bench.silent(&[&["sharenfs"], words, &["head"]].concat());
        bench.prints(&["show", "exports", "head"])
    };
    let shared = exports(&["--ro", "--maproot", "root", "--network", "10.0.0.0/8"]);
    assert!(shared.ends_with(" -ro -maproot=0:0 -network 10.0.0.0/8\n"), "{shared}");
    let shared = exports(&["--network", "10.1.0.0/16"]);
    assert!(shared.ends_with(" -ro -maproot=0:0 -network 10.1.0.0/16\n"), "{shared}");
    let shared = exports(&["--rw", "--maproot", "none"]);
    assert!(shared.ends_with("/var/tmp -network 10.1.0.0/16\n"), "{shared}");
    bench.silent(&["sharenfs", "--network", "none", "--machine", "desk", "head"]);
    let listed = bench.prints(&["list", "-j", "head"]);
    assert!(!listed.contains("10.1.0.0"), "{listed}");
    bench.silent(&["sharenfs", "--off", "head"]);
    let shared = exports(&["--network", "10.0.0.0/8"]);
    assert!(!shared.contains("-ro") && !shared.contains("maproot"), "{shared}");
}

#[test]
fn what_netbe_goes_by_is_not_a_setting_for_anybody() {
    let bench = Bench::with_head();
    for key in ["machine", "template", "installing", "draft", "data-of", "fresh"] {
        let (said, status) = bench.fails(&["set", &format!("{key}=x"), "head"]);
        assert!(said.contains(&format!("netbe sets {key} itself")), "{said}");
        assert_eq!(status, 2);
    }
}

#[test]
fn an_output_that_takes_nothing_is_an_error() {
    let bench = Bench::with_head();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let done = bench.command(netbe(), &["list", "-j"]).stdout(full).output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("standard output: "));
}

#[test]
fn all_directories_of_a_store_of_directories_are_one_export() {
    let bench = Bench::with_head();
    bench.silent(&["sharenfs", "--maproot", "root", "--network", "192.168.2.0/24", "head"]);
    let exports = bench.prints(&["show", "exports", "head"]);
    let root = bench.root("head").display().to_string();
    // As many directories as on the slides.
    assert_eq!(exports.matches(&root).count(), 10);
    assert!(exports.starts_with(&format!("{root} {root}/tmp ")), "{exports}");
    let end = format!(" {root}/var/tmp -maproot=0:0 -network 192.168.2.0/24\n");
    assert!(exports.ends_with(&end), "{exports}");
    assert_eq!(exports.lines().count(), 1);
    // mountd(8) would let a machine write what netbe keeps from it.
    bench.silent(&["set", "role=template", "head"]);
    let exports = bench.prints(&["show", "exports", "head"]);
    assert!(exports.contains(" -ro -maproot=0:0 "), "{exports}");
}

#[test]
fn started_as_be_it_says_be() {
    let outcome = Bench::new().run_as("be", &["list"]);
    assert!(outcome.err.starts_with("be: there is no store at "), "{}", outcome.err);
    let outcome = Bench::new().run_as("be", &["--help"]);
    assert!(outcome.out.contains("Usage: be "), "{}", outcome.out);
}

#[test]
fn help_and_version_are_answers() {
    let bench = Bench::new();
    let help = bench.prints(&["--help"]);
    for verb in ["create", "clone", "destroy", "sharenfs", "bootnfs", "bootpxe", "show"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(verb)), "{verb}: {help}");
    }
    assert!(bench.prints(&["create", "--help"]).contains("flat, freebsd or linux"));
    assert_eq!(bench.prints(&["--version"]), concat!("netbe ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn shells_can_complete_and_man_can_show() {
    let bench = Bench::new();
    assert!(bench.prints(&["completion", "bash"]).contains("sharenfs"));
    let page = bench.prints(&["man"]);
    assert!(page.contains(".TH NETBE 8") && page.contains("sharenfs"), "{page}");
    assert!(bench.prints(&["man", "create"]).contains(".TH NETBE-CREATE 8"));
    bench.refuses(&["man", "x"], "there is no verb x: `netbe --help` lists them");
}

/// Many small files: a copy of them can be caught half-way.
fn fill(bench: &Bench) {
    for dir in 0..10 {
        let dir = bench.root("head").join(format!("d{dir}"));
        fs::create_dir(&dir).unwrap();
        for file in 0..100 {
            fs::write(dir.join(format!("f{file}")), "content").unwrap();
        }
    }
}

/// The hidden directories of commands in the store.
fn workspaces(bench: &Bench) -> usize {
    let names = fs::read_dir(bench.state().join("store/be")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.as_encoded_bytes().starts_with(b".work-")).count()
}

#[test]
fn a_copy_that_is_killed_leaves_nothing_behind() {
    let bench = Bench::with_head();
    fill(&bench);
    // Killed as soon as it has begun; wherever that is, nothing half-made may ever be seen.
    let mut child = bench.command(netbe(), &["clone", "head", "desk"]).spawn().unwrap();
    while workspaces(&bench) == 0 && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    let finished = child.wait().unwrap().success();
    let names = bench.prints(&["list", "-H"]).lines().count();
    assert_eq!(names, if finished { 2 } else { 1 });
    bench.silent(&["create", "next"]);
    assert_eq!(workspaces(&bench), 0);
    assert_eq!(bench.prints(&["list", "-H"]).lines().count(), names + 1);
    let meta = fs::read_dir(bench.state().join("store/meta")).unwrap().count();
    assert_eq!(meta, names + 1);
}

#[test]
fn a_debian_like_tree_is_copied_as_tar_sees_it() {
    let bench = Bench::with_head();
    let root = bench.root("head");
    fill(&bench);
    fs::hard_link(root.join("d0/f0"), root.join("d1/link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.join("passwd")).unwrap();
    let fifo = Command::new("mkfifo").arg(root.join("var/fifo")).status().unwrap();
    assert!(fifo.success());
    bench.silent(&["clone", "head", "desk"]);
    assert!(bench.root("desk").join("var/fifo").metadata().unwrap().file_type().is_fifo());
    assert_eq!(bench.root("desk").join("d0/f0").metadata().unwrap().nlink(), 2);
    let version = Command::new("tar").arg("--version").output().map(|done| done.stdout);
    if !version.is_ok_and(|version| version.starts_with(b"tar (GNU tar)")) {
        println!("skipped: what tar makes of both is compared by GNU tar, which is not installed");
        return;
    }
    let list = |name: &str| {
        let mut tar = Command::new("tar");
        tar.args(["--sort=name", "--full-time", "-C"])
            .arg(bench.root(name))
            .args(["-cf", "-", "."]);
        let mut tar = tar.stdout(Stdio::piped()).spawn().unwrap();
        let mut text = Vec::new();
        tar.stdout.take().unwrap().read_to_end(&mut text).unwrap();
        assert!(tar.wait().unwrap().success());
        text
    };
    assert!(list("head") == list("desk"), "the two archives differ");
}
