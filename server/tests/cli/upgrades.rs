//! Upgrades: what is shown, what is carried over, and the way back.

use std::fs;
use std::path::Path;

use crate::bench::Bench;
use crate::verbs::apart;

fn write(bench: &Bench, name: &str, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = bench.root(name).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn read(bench: &Bench, name: &str, path: impl AsRef<Path>) -> String {
    fs::read_to_string(bench.root(name).join(path)).unwrap()
}

/// A template `head`, a machine `desk` with a root of its own made from it and changed since, and the
/// next version of the template, `next`.
fn with_desk() -> Bench {
    let bench = Bench::new();
    bench.silent(&["create", "head"]);
    write(
        &bench,
        "head",
        &[
            ("etc/rc.conf", "one=1\ntwo=2\nthree=3\nfour=4\nfive=5\n"),
            ("etc/motd", "old\n"),
            ("etc/gone", "old\n"),
            ("etc/machine-id", "of the template\n"),
            ("usr/bin/program", "1"),
        ],
    );
    bench.silent(&["machine", "add", "--mac=02:00:00:00:00:07", "desk"]);
    bench.prints(&["sharepxe", "--machine=desk", "--root=own", "head"]);
    write(
        &bench,
        "desk-head",
        &[
            ("etc/rc.conf", "one=mine\ntwo=2\nthree=3\nfour=4\nfive=5\n"),
            ("etc/machine-id", "of desk\n"),
            ("etc/own/file", "mine\n"),
            ("usr/bin/tool", "mine"),
        ],
    );
    bench.silent(&["clone", "head", "next"]);
    write(
        &bench,
        "next",
        &[
            ("etc/rc.conf", "one=1\ntwo=2\nthree=3\nfour=4\nfive=new\n"),
            ("etc/motd", "new\n"),
            ("usr/bin/program", "2"),
        ],
    );
    fs::remove_file(bench.root("next").join("etc/gone")).unwrap();
    bench
}

fn shown(bench: &Bench, key: &str) -> Option<String> {
    let text = bench.prints(&["machine", "show", "desk"]);
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
    line.map(|value| value.trim_matches('"').to_owned())
}

fn count(bench: &Bench) -> usize {
    bench.prints(&["list", "-H"]).lines().count()
}

const PLAN: &str = "take      /etc/gone\nkeep      /etc/hostname\nkeep      /etc/machine-id\n\
                    take      /etc/motd\nkeep      /etc/own\nkeep      /etc/own/file\n\
                    merge     /etc/rc.conf\nnot taken over: 1 more changes of the machine; `netbe machine \
                    diff desk` shows them\n";

#[test]
fn an_upgrade_is_shown_before_anything_is_done() {
    let bench = with_desk();
    let (before, text) = (count(&bench), bench.prints(&["upgrade", "-n", "desk", "next"]));
    let (heading, rest) = text.split_once('\n').unwrap();
    assert!(heading.starts_with("desk: head@netbe-") && heading.ends_with(" -> next"), "{heading}");
    assert_eq!(rest, PLAN);
    assert_eq!((count(&bench), shown(&bench, "once")), (before, None));
    assert!(!bench.prints(&["list", "-H", "-s"]).contains("next@"));
}

#[test]
fn an_upgraded_root_has_what_is_the_machines_and_what_is_new() {
    let bench = with_desk();
    let text = bench.prints(&["upgrade", "desk", "next"]);
    assert!(text.contains(PLAN), "{text}");
    let new = |path: &str| read(&bench, "desk-next", path);
    assert_eq!(new("etc/rc.conf"), "one=mine\ntwo=2\nthree=3\nfour=4\nfive=new\n");
    assert_eq!((new("etc/motd"), new("usr/bin/program")), ("new\n".to_owned(), "2".to_owned()));
    assert_eq!((new("etc/machine-id"), new("etc/own/file")), ("of desk\n".into(), "mine\n".into()));
    assert_eq!(new("etc/hostname"), "desk\n");
    assert!(!bench.root("desk-next").join("etc/gone").exists());
    assert_eq!(read(&bench, "desk-head", "etc/motd"), "old\n");
}

#[test]
fn a_machine_boots_its_new_root_once_and_goes_on_with_it_or_back() {
    let bench = with_desk();
    bench.prints(&["upgrade", "desk", "next"]);
    let now = || (shown(&bench, "environment").unwrap(), shown(&bench, "once"));
    assert_eq!(now(), ("desk-head".into(), Some("desk-next".into())));
    bench.silent(&["activate", "desk", "desk-next"]);
    assert_eq!(now(), ("desk-next".into(), None));
    bench.silent(&["activate", "desk", "desk-head"]);
    assert_eq!(now(), ("desk-head".into(), None));
    bench.silent(&["activate", "-t", "desk", "desk-next"]);
    bench.silent(&["activate", "-T", "desk"]);
    assert_eq!(now(), ("desk-head".into(), None));
}

#[test]
fn roots_of_earlier_upgrades_are_named() {
    let bench = with_desk();
    let older =
        "desk has older roots: desk-head; destroy those that nobody needs with `netbe destroy`\n";
    assert!(!bench.prints(&["upgrade", "desk", "next"]).contains("older"));
    bench.silent(&["activate", "desk", "desk-next"]);
    bench.silent(&["clone", "next", "latest"]);
    write(&bench, "latest", &[("usr/bin/program", "3")]);
    assert!(bench.prints(&["upgrade", "desk", "latest"]).ends_with(older));
}

#[test]
fn what_cannot_be_merged_is_refused_or_put_beside() {
    let bench = with_desk();
    write(&bench, "desk-head", &[("etc/motd", "mine\n")]);
    let refused = bench.run(&["upgrade", "desk", "next"]);
    assert_eq!(refused.status, Some(1));
    assert!(
        refused.out.contains("conflict  /etc/motd (/etc/motd.netbe-conflict)\n"),
        "{refused:?}"
    );
    assert!(refused.err.starts_with("netbe: 1 of desk's files cannot be merged"), "{refused:?}");
    let dry = bench.run(&["upgrade", "-n", "desk", "next"]);
    assert_eq!((&dry.out, &dry.err, dry.status), (&refused.out, &refused.err, Some(1)));
    let forced = bench.prints(&["upgrade", "-n", "-f", "desk", "next"]);
    assert_eq!(forced, refused.out);
    assert_eq!((shown(&bench, "once"), bench.root("desk-next").exists()), (None, false));
    assert!(!bench.prints(&["list", "-H", "-s"]).contains("next@"));
    bench.prints(&["upgrade", "-f", "desk", "next"]);
    assert_eq!(read(&bench, "desk-next", "etc/motd"), "mine\n");
    let beside = read(&bench, "desk-next", "etc/motd.netbe-conflict");
    assert!(beside.contains("mine\n") && beside.contains("new\n"), "{beside}");
    // The next version's takes its place.
    bench.silent(&["activate", "desk", "desk-next"]);
    bench.silent(&["clone", "next", "latest"]);
    write(&bench, "latest", &[("etc/motd", "latest\n")]);
    bench.prints(&["upgrade", "-f", "desk", "latest"]);
    let beside = read(&bench, "desk-latest", "etc/motd.netbe-conflict");
    assert!(beside.contains("mine\n") && beside.contains("latest\n"), "{beside}");
}

#[test]
fn there_is_nothing_to_upgrade_to_the_same() {
    let bench = with_desk();
    for words in [&["upgrade", "desk", "head"][..], &["upgrade", "-n", "desk", "head"]] {
        let (sentence, status) = bench.fails(words);
        assert_eq!(status, 1);
        assert!(sentence.ends_with(" as it is now: there is nothing to upgrade"), "{sentence}");
    }
}

#[test]
fn there_is_nothing_to_upgrade_to_another_snapshot_of_the_same() {
    let bench = with_desk();
    bench.prints(&["snapshot", "head@again"]);
    for words in [&["upgrade", "desk", "head"][..], &["upgrade", "desk", "head@again"]] {
        let (sentence, status) = bench.fails(words);
        assert_eq!(status, 1);
        assert!(sentence.ends_with("there is nothing to upgrade"), "{sentence}");
    }
}

#[test]
fn owners_and_modes_of_what_is_kept_are_kept() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let bench = with_desk();
    let file = bench.root("desk-head").join("etc/own/file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&file, Some(1001), Some(1002)).unwrap();
    bench.prints(&["upgrade", "desk", "next"]);
    let about = fs::metadata(bench.root("desk-next").join("etc/own/file")).unwrap();
    assert_eq!((about.mode() & 0o7777, about.uid(), about.gid()), (0o600, 1001, 1002));
}

#[test]
fn the_root_of_another_machine_is_cloned_or_refused() {
    let bench = with_desk();
    let another =
        "desk-head is the root of desk: copy it with `netbe machine keep`, and use the copy";
    let add = ["machine", "add", "--mac=02:00:00:00:00:08", "--environment=desk-head", "lab"];
    bench.refuses(&add, another);
    bench.silent(&["machine", "add", "--mac=02:00:00:00:00:08", "lab"]);
    for words in [
        &["activate", "lab", "desk-head"][..],
        &["activate", "-t", "lab", "desk-head"],
        &["sharepxe", "--machine=lab", "desk-head"],
        &["sharepxe", "--machine=lab", "--root=shared", "desk-head"],
        &["machine", "set", "--environment=desk-head", "lab"],
        &["sharepxe", "--default", "desk-head"],
    ] {
        bench.refuses(words, another);
    }
    bench.silent(&["sharepxe", "--machine=lab", "--root=fresh", "desk-head"]);
    bench.refuses(&["machine", "set", "--root=direct", "lab"], another);
    bench.silent(&["sharepxe", "--machine=desk", "--root=direct", "desk-head"]);
}

#[test]
fn an_upgrade_goes_on_where_another_ones_snapshot_was_left_mounted() {
    let bench = with_desk();
    bench.silent(&["snapshot", "next@left"]);
    // What a killed command leaves while it looks at the snapshot of another template.
    let script = "mkdir -p \"$NETBE_STATE/snapshot\"
        $netbe mount next@left \"$NETBE_STATE/snapshot\"; exec 3<\"$NETBE_STATE/snapshot\"
        $netbe upgrade -n desk next; ls \"$NETBE_STATE/snapshot\"";
    let Some(out) = apart(&bench, script) else { return };
    assert!(out.ends_with(PLAN), "{out}");
}

#[test]
fn a_directory_that_became_a_link_is_one_in_the_new_root() {
    let bench = with_desk();
    for name in ["head", "desk-head", "next"] {
        write(&bench, name, &[("etc/nginx/nginx.conf", "old\n")]);
    }
    let own = bench.root("desk-head");
    fs::create_dir(own.join("home")).unwrap();
    fs::rename(own.join("etc/nginx"), own.join("home/nginx")).unwrap();
    std::os::unix::fs::symlink("/home/nginx", own.join("etc/nginx")).unwrap();
    // The template of the machine's root had none of it: so both have made it, each in its way.
    let refused = bench.run(&["upgrade", "desk", "next"]);
    assert!(refused.out.contains("conflict  /etc/nginx (/etc/nginx.netbe-conflict)\n"));
    bench.prints(&["upgrade", "-f", "desk", "next"]);
    let link = |name: &str| fs::read_link(bench.root(name).join("etc/nginx")).unwrap();
    assert_eq!(link("desk-next"), Path::new("/home/nginx"));
    assert_eq!(read(&bench, "desk-next", "etc/nginx.netbe-conflict/nginx.conf"), "old\n");
}

#[test]
fn what_a_machine_made_of_a_directory_is_in_its_new_root() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let bench = Bench::new();
    bench.silent(&["create", "head"]);
    for dir in ["app", "dropped", "moved"] {
        write(&bench, "head", &[(&format!("usr/local/etc/{dir}/conf"), "1\n")]);
    }
    bench.silent(&["machine", "add", "--mac=02:00:00:00:00:07", "desk"]);
    bench.prints(&["sharepxe", "--machine=desk", "--root=own", "head"]);
    let own = bench.root("desk-head").join("usr/local/etc");
    for dir in ["app", "dropped"] {
        fs::set_permissions(own.join(dir), fs::Permissions::from_mode(0o700)).unwrap();
        chown(own.join(dir), Some(80), Some(81)).unwrap();
    }
    fs::write(own.join("dropped/mine"), "mine\n").unwrap();
    fs::create_dir(bench.root("desk-head").join("home")).unwrap();
    fs::rename(own.join("moved"), bench.root("desk-head").join("home/moved")).unwrap();
    std::os::unix::fs::symlink("/home/moved", own.join("moved")).unwrap();
    bench.silent(&["clone", "head", "next"]);
    fs::remove_dir_all(bench.root("next").join("usr/local/etc/dropped")).unwrap();
    let plan = bench.prints(&["upgrade", "desk", "next"]);
    let steps: String = plan.lines().filter(|line| line.contains("/usr/local")).collect();
    assert_eq!(
        steps,
        "keep      /usr/local/etc/app\
         take      /usr/local/etc/dropped/conf\
         keep      /usr/local/etc/dropped/mine\
         keep      /usr/local/etc/moved"
    );
    let new = bench.root("desk-next").join("usr/local/etc");
    for dir in ["app", "dropped"] {
        let about = fs::metadata(new.join(dir)).unwrap();
        assert_eq!((about.mode() & 0o7777, about.uid(), about.gid()), (0o700, 80, 81), "{dir}");
    }
    assert!(new.join("dropped/mine").exists() && !new.join("dropped/conf").exists());
    assert_eq!(fs::read_link(new.join("moved")).unwrap(), Path::new("/home/moved"));
}

#[test]
fn a_file_of_configuration_may_be_large_and_all_of_it_may_not() {
    let bench = with_desk();
    let path = "usr/local/etc/GeoIP.mmdb";
    write(&bench, "desk-head", &[(path, "")]);
    let large =
        fs::OpenOptions::new().write(true).open(bench.root("desk-head").join(path)).unwrap();
    large.set_len(65 << 20).unwrap();
    bench.prints(&["upgrade", "desk", "next"]);
    assert_eq!(fs::metadata(bench.root("desk-next").join(path)).unwrap().len(), 65 << 20);
    // Nothing that a machine writes has the host read without an end.
    large.set_len(1 << 40).unwrap();
    bench.refuses(
        &["upgrade", "-n", "desk", "next"],
        "desk-head has more than 4 GiB in its configuration directories: move or remove what is not \
         configuration",
    );
}
