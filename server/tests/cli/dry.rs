//! What -n says, and that it changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::bench::Bench;

/// Everything below a directory: what it is, whose, and what is in it.
fn picture(root: &Path) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
    let (mut seen, mut left) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = left.pop() {
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        let content = if about.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else if about.is_file() {
            fs::read(&path).unwrap()
        } else {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        };
        seen.insert(path, (about.permissions().mode(), about.uid(), content));
    }
    seen
}

/// A site with two boot environments, snapshots, a machine with a root of its own and one without.
fn site() -> Bench {
    let bench = Bench::with_head();
    bench.silent(&["snapshot", "head@one"]);
    bench.silent(&["clone", "head@one", "tail"]);
    fs::write(bench.root("tail").join("motd"), "new\n").unwrap();
    bench.silent(&["snapshot", "tail@one"]);
    bench.silent(&["snapshot", "tail@two"]);
    bench.silent(&["machine", "add", "--mac=52:54:00:00:00:01", "web1"]);
    bench.prints(&["sharepxe", "--machine=web1", "--root=own", "head"]);
    let (mac, boots) = ("--mac=52:54:00:00:00:02", "--environment=tail");
    bench.silent(&["machine", "add", mac, boots, "--cmdline=quiet", "web2"]);
    bench
}

/// Any file does: with -n nothing of it is read.
const ARCHIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

#[test]
fn nothing_changes_where_it_is_only_asked_what_would_be_done() {
    let bench = site();
    let before = picture(&bench.state());
    assert!(before.len() > 30, "{}", before.len());
    let answers: &[(&[&str], &str)] = &[
        (&["create", "new"], "would create new with the layout flat\n"),
        (&["create", "-e", "head@one", "new"], "would clone head@one as new\n"),
        (&["clone", "head", "new"], "would clone head as new\n"),
        (
            &["clone", "--reset-identity", "head", "new"],
            "would clone head as new, without its identity\n",
        ),
        (&["rename", "tail", "new"], "would rename tail to new\nwould have web2 boot new\n"),
        (&["snapshot", "head@two"], "would make the snapshot head@two\n"),
        (
            &["rollback", "-r", "tail@one"],
            "would destroy tail@two\nwould make tail what it was at tail@one\n",
        ),
        (&["destroy", "tail@two"], "would destroy tail@two\n"),
        (&["promote", "tail"], "would make head depend on tail in place of the reverse\n"),
        (&["set", "role=template", "head"], "would set role=template of head\n"),
        (
            &["sharenfs", "--ro", "--network=10.0.0.0/24", "head"],
            "would share head with 10.0.0.0/24, read-only\n",
        ),
        (&["mount", "head"], "would mount head at a new directory\n"),
        (&["receive", "new"], "would take in a new boot environment as new\n"),
        (&["install", "-o", "tar", "-p", ARCHIVE, "head"], "would fill head with tar\n"),
        (
            &["install", "-o", "tar", "-p", ARCHIVE, "-l", "linux", "new"],
            "would create new with the layout linux\nwould fill new with tar\n",
        ),
        (
            &["machine", "add", "--mac=52:54:00:00:00:09", "--environment=tail", "web9"],
            "would add the machine web9\nwould set macs = [\"52:54:00:00:00:09\"] of web9\n\
             would set environment = \"tail\" of web9\n",
        ),
        (
            &["machine", "set", "--cmdline=", "--ro", "web2"],
            "would set read_only = true of web2\nwould take cmdline from web2\n",
        ),
        (&["machine", "remove", "web2"], "would remove web2\n"),
        (
            &["machine", "keep", "web1", "kept"],
            "would copy web1-head, the root of web1, to a boot environment kept\n",
        ),
        (
            &["machine", "promote", "web1", "kept"],
            "would copy web1-head, the root of web1, to a template kept\n",
        ),
        (
            &["sharepxe", "--machine=web2", "--root=own", "head"],
            "would make web2-head, a root for web2: a clone of head\n\
             would set environment = \"web2-head\" of web2\nwould set root = \"own\" of web2\n",
        ),
        (
            &["sharepxe", "--default", "tail"],
            "would have every machine without an environment boot tail\n",
        ),
        (&["activate", "-t", "web2", "head"], "would set once = \"head\" of web2\n"),
        (&["settle"], ""),
        (&["pause", "true"], "would close the store while this runs: true\n"),
    ];
    for (words, answer) in answers {
        let (verb, rest) = words.split_at(if words[0] == "machine" { 2 } else { 1 });
        let answered = bench.prints(&[verb, &["-n"], rest].concat());
        // What is left is listed under a header.
        if words[0] != "settle" {
            assert_eq!(answered, *answer, "{words:?}");
        }
        assert!(picture(&bench.state()) == before, "{words:?} changed something");
    }
    let reset = bench.prints(&["machine", "reset", "-n", "web1"]);
    assert!(
        reset.ends_with("would destroy web1-head, with all that was written to it\n"),
        "{reset}"
    );
    // What would be refused is refused.
    let refused: &[&[&str]] = &[
        &["create", "head"],
        &["clone", "none", "new"],
        &["rename", "tail", "head"],
        &["snapshot", "tail@one"],
        &["rollback", "tail@one"],
        &["promote", "head"],
        &["destroy", "tail"],
        &["unmount", "head"],
        &["machine", "add", "--mac=52:54:00:00:00:01", "web9"],
        &["machine", "remove", "none"],
        &["upgrade", "web1", "head"],
        &["set", "data=none", "head"],
        &["set", "quota=10G", "head"],
        &["set", "sync=never", "head"],
        &["install", "-o", "tar", "head"],
        &["install", "-o", "tar", "-p", "/none.tar", "head"],
        &["install", "-o", "tar", "-p", ARCHIVE, "tail"],
        &["install", "-o", "tar", "-p", ARCHIVE, "-l", "flat", "head"],
        &["install", "-o", "tar", "-p", ARCHIVE, "--package", "vim", "head"],
        &["install", "-o", "FreeBSD", "head"],
        &["install", "-o", "FreeBSD", "-u", "http://127.0.0.1:1", "head"],
        &["install", "-o", "FreeBSD", "-p", "/none", "--script", ARCHIVE, "head"],
        &["install", "-o", "Debian", "head"],
        // Nothing that makes a Debian is found here.
        &["install", "-o", "Debian", "-r", "bookworm", "-l", "linux", "new"],
        &["install", "-o", "tar", "-p", ARCHIVE, "--ssh-key", "/none", "head"],
        &["install", "-o", "tar", "-p", ARCHIVE, "--root-password-file", "/none", "head"],
        &["install", "--initramfs", "head"],
    ];
    for words in refused {
        let (verb, rest) = words.split_at(if words[0] == "machine" { 2 } else { 1 });
        let before = picture(&bench.state());
        let dry = bench.run(&[verb, &["-n"], rest].concat());
        assert!(matches!(dry.status, Some(1 | 2)), "{words:?}: {dry:?}");
        assert!(picture(&bench.state()) == before, "{words:?} changed something");
        let mut done = bench.run(words);
        done.out.clear();
        assert_eq!((dry.err, dry.status), (done.err, done.status), "{words:?}");
    }
}

#[test]
fn without_a_state_directory_none_is_made() {
    let bench = Bench::new();
    let told = bench.prints(&["create", "-n", "head"]);
    assert_eq!(told, "would create head with the layout flat\n");
    bench.prints(&["machine", "add", "-n", "--mac=52:54:00:00:00:01", "web1"]);
    let (told, status) = bench.fails(&["machine", "remove", "-n", "web1"]);
    assert!(told.starts_with("there is no machine web1: ") && status == 1, "{told}");
    assert!(!bench.state().exists());
    // Half of one is not made whole.
    bench.silent(&["create", "head"]);
    let before = picture(&bench.state());
    bench.prints(&[
        "machine",
        "add",
        "-n",
        "--mac=52:54:00:00:00:01",
        "--environment=head",
        "web1",
    ]);
    bench.prints(&["destroy", "-n", "head"]);
    bench.prints(&["rename", "-n", "head", "new"]);
    assert!(picture(&bench.state()) == before);
}

#[test]
fn verbs_say_each_step_where_that_is_asked_for() {
    let bench = site();
    let told = bench.run(&["-v", "rename", "tail", "new"]);
    assert_eq!(told.err, "rename tail to new\nhave web2 boot new\n");
    assert_eq!((told.out.as_str(), told.status), ("", Some(0)));
    assert_eq!(bench.run(&["snapshot", "-v", "new@x"]).err, "make the snapshot new@x\n");
}
