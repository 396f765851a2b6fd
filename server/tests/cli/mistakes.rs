//! Everything that can be typed wrong has one sentence that says what to write.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::bench::{Bench, netbe};

#[test]
fn words_of_other_programs_are_answered_with_those_here() {
    let bench = Bench::new();
    let told = |words: &[&str]| bench.fails(words).0;
    assert_eq!(
        told(&["destroy", "-F", "x"]),
        "unexpected argument '-F' found (did you mean -f?): see `netbe destroy --help`"
    );
    assert_eq!(
        told(&["snapshot", "-r", "x@y"]),
        "unexpected argument '-r' found (leave it out: data sets are always taken as a whole): see \
         `netbe snapshot --help`"
    );
    assert!(told(&["list", "-t", "snapshot"]).contains("(did you mean -s, which lists snapshots"));
    assert_eq!(
        told(&["inherit", "quota", "x"]),
        "unrecognized subcommand 'inherit' (did you mean `netbe set NAME=`?): see `netbe --help`"
    );
}

#[test]
fn what_is_no_number_is_answered_with_the_verbs_own_help() {
    Bench::new().cannot(
        &["bootnfs", "--memory", "12k", "x"],
        "invalid value '12k' for '--memory <MIB>': write a whole number, and see `netbe bootnfs --help`",
    );
}

#[test]
fn without_a_verb_it_says_where_they_are_listed() {
    Bench::new().cannot(&[], "no verb is given: `netbe --help` lists the verbs");
    Bench::new().cannot(&["xyz"], "unrecognized subcommand 'xyz': see `netbe --help`");
}

#[test]
fn what_looks_like_a_verb_or_a_flag_is_told() {
    let bench = Bench::new();
    bench.cannot(
        &["snapshto", "head@monday"],
        "unrecognized subcommand 'snapshto' (did you mean snap or snapshot?): see `netbe --help`",
    );
    bench.cannot(
        &["create", "--layuot", "flat", "head"],
        "unexpected argument '--layuot' found (did you mean --layout?): see `netbe create --help`",
    );
}

#[test]
fn what_a_verb_does_not_take_is_explained_by_that_verb() {
    let bench = Bench::new();
    bench.cannot(
        &["create", "--frob", "x"],
        "unexpected argument '--frob' found: see `netbe create --help`",
    );
    bench.cannot(
        &["create"],
        "the following required arguments were not provided: <NAME>: see `netbe create --help`",
    );
    bench.cannot(
        &["create", "-l", "flat", "-e", "a", "b"],
        "the argument '--layout <LAYOUT>' cannot be used with '--existing <BE[@SNAP]>': see `netbe \
         create --help`",
    );
    bench.cannot(
        &["list", "-H", "-j"],
        "the argument '--no-header' cannot be used with '--json': see `netbe list --help`",
    );
}

#[test]
fn a_wrong_value_of_a_flag_is_explained_by_the_verb_that_has_the_flag() {
    let bench = Bench::new();
    bench.cannot(
        &["clone", "head", "desk", "--store"],
        "a value is required for '--store <STORE>' but none was supplied: see `netbe clone --help`",
    );
    let state = bench.state().display().to_string();
    bench.cannot(
        &["--state", &state, "machine", "set", "desk", "--mac"],
        "a value is required for '--mac <MAC>' but none was supplied: see `netbe machine set --help`",
    );
    bench.cannot(
        &["snap", "--store"],
        "a value is required for '--store <STORE>' but none was supplied: see `netbe snapshot --help`",
    );
}

#[test]
fn names_that_cannot_be_say_why() {
    let bench = Bench::new();
    let value = |text: &str| format!("invalid value '{text}' for '<NAME>': ");
    for (name, reason) in [
        ("a/b", "has no slash: write the name without a path"),
        (".a", "does not begin with - or .: begin with a letter or digit"),
        ("a ", "does not begin or end with a space: leave it out"),
    ] {
        let sentence = format!("{}a boot environment's or snapshot's name {reason}", value(name));
        bench.cannot(&["create", name], &sentence);
    }
    let (sentence, status) = bench.fails(&["create", &"x".repeat(201)]);
    assert!(sentence.ends_with("of 201 bytes is too long: write at most 200"), "{sentence}");
    assert_eq!(status, 2);
    assert!(!bench.state().join("store").exists());
}

#[test]
fn layouts_networks_users_and_stores_say_what_to_write() {
    let bench = Bench::with_head();
    bench.cannot(
        &["create", "-l", "zfs", "a"],
        "invalid value 'zfs' for '--layout <LAYOUT>': no such layout: write flat, freebsd or linux",
    );
    bench.cannot(
        &["sharenfs", "--network", "10.0.0.7/8", "head"],
        "invalid value '10.0.0.7/8' for '--network <CIDR>': not the first address of its network: \
         write 10.0.0.0/8",
    );
    bench.cannot(
        &["sharenfs", "--maproot", "no such user", "head"],
        "invalid value 'no such user' for '--maproot <USER>': this host has no such user: write \
         uid:gid, as in 1001:1001",
    );
    bench.cannot(
        &["--store", "zfs:/tank/be", "list"],
        "invalid value 'zfs:/tank/be' for '--store <STORE>': not a ZFS data set: write \
         zfs:pool/name, without a slash in front",
    );
    bench.cannot(
        &["--store", "/srv/be", "list"],
        "invalid value '/srv/be' for '--store <STORE>': \"/srv/be\" is not a store: write \
         dir:/path, btrfs:/path or zfs:pool/dataset",
    );
}

#[test]
fn what_is_there_or_not_there_is_answered_with_no() {
    let bench = Bench::with_head();
    bench.refuses(
        &["create", "head"],
        "head exists already: choose another name, or destroy it first",
    );
    let none = "there is no boot environment x: `netbe list` shows all";
    bench.refuses(&["destroy", "x"], none);
    bench.refuses(&["clone", "x", "y"], none);
    bench.refuses(&["sharenfs", "x"], none);
    bench.refuses(&["show", "exports", "x"], none);
    bench.refuses(&["show", "fstab", "x"], none);
}

#[test]
fn a_store_that_is_missing_or_open_says_so() {
    let bench = Bench::new();
    let store = bench.state().join("store");
    bench.cannot(
        &["list"],
        &format!(
            "there is no store at {store:?}: `netbe create` makes one, or name another one with --store"
        ),
    );
    bench.silent(&["create", "head"]);
    fs::set_permissions(&store, Permissions::from_mode(0o755)).unwrap();
    bench.cannot(&["list"], &format!("other users may enter {store:?}: run `chmod 0700` on it"));
    fs::set_permissions(&store, Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_broken_metadata_file_is_named_and_hides_no_other_environment() {
    let bench = Bench::new();
    bench.silent(&["create", "good"]);
    bench.silent(&["create", "bad"]);
    let file = bench.state().join("store/meta/bad.toml");
    fs::write(&file, "schema = 9\n").unwrap();
    let outcome = bench.run(&["list", "-H"]);
    assert!(outcome.out.starts_with("good\t-\t"), "{}", outcome.out);
    assert_eq!(outcome.out.lines().count(), 1);
    let expected = format!(
        "netbe: {file:?} cannot be read: it has schema 9, but this version reads 2: use the netbe that \
         wrote it\n"
    );
    assert_eq!((outcome.err, outcome.status), (expected.clone(), Some(2)));
    let named = bench.run(&["list", "-H", "bad"]);
    assert_eq!((named.out.as_str(), named.err), ("", expected));
    assert_eq!(bench.prints(&["list", "-H", "good"]).lines().count(), 1);
}

#[test]
fn what_is_not_shared_has_no_exports() {
    let bench = Bench::with_head();
    bench.refuses(
        &["show", "exports", "head"],
        "head is not shared: share it with `netbe sharenfs` first",
    );
    bench.warns(
        &["sharenfs", "head"],
        "head is shared with nobody: name machines with --machine, or networks with --network; the machine \
         that boots it always has access",
    );
    bench.refuses(
        &["show", "exports", "head"],
        "head is shared with no network, and mountd knows no machines: share it with `netbe \
         sharenfs --network`",
    );
}

#[test]
fn a_machine_that_is_not_there_and_one_root_for_several_are_warned_of() {
    let bench = Bench::with_head();
    bench.warns(
        &["sharenfs", "--machine", "Typo", "head"],
        "there is no machine typo, so that name cannot mount head: add the machine with `netbe machine add`; `netbe \
         machine list` shows all",
    );
    let add = |last: &str, rest: &[&str]| {
        let mac = format!("--mac=02:00:00:00:00:0{last}");
        let name = format!("web{last}");
        let arguments = [&["machine", "add", mac.as_str()], rest, &[name.as_str()]].concat();
        bench.run(&arguments)
    };
    let both = |machines: &str| {
        format!(
            "netbe: {machines} write to one root, head, and destroy each other's files: give each a clone \
             with `netbe sharepxe --machine NAME --root own head`, or make the root read-only for all with \
             --root shared\n"
        )
    };
    let direct = ["--environment=head"];
    assert_eq!(add("1", &direct).err, "");
    let second = add("2", &direct);
    assert_eq!((second.err, second.status), (both("web1, web2"), Some(0)));
    assert_eq!(add("3", &["--environment=head", "--ro"]).err, "");
    assert_eq!(add("4", &["--environment=head", "--root=shared"]).err, "");
    assert_eq!(add("5", &[]).err, "");
    let third = bench.run(&["sharepxe", "--machine=web5", "head"]);
    assert_eq!((third.err, third.status), (both("web1, web2, web5"), Some(0)));
    bench.silent(&["machine", "set", "--cmdline=quiet", "web5"]);
    let fourth = bench.run(&["machine", "set", "--rw", "web3"]);
    assert_eq!(fourth.err, both("web1, web2, web3, web5"));
    assert!(bench.run(&["check"]).out.contains("web1, web2, web3, web5 write to one root, head"));
    bench.silent(&["set", "role=template", "head"]);
    assert!(!bench.run(&["check"]).out.contains("write to one root"));
}

#[test]
fn a_root_is_a_named_machines() {
    Bench::with_head().cannot(
        &["sharepxe", "--default", "--root", "own", "head"],
        "the argument '--default' cannot be used with '--root <ROOT>': see `netbe sharepxe --help`",
    );
}

#[test]
fn names_that_mountd_cannot_read_are_refused_with_the_reason() {
    let bench = Bench::new();
    bench.silent(&["create", "two words"]);
    bench.silent(&["sharenfs", "--network", "10.0.0.0/8", "two words"]);
    let path = bench.root("two words").display().to_string();
    bench.cannot(
        &["show", "exports", "two words"],
        &format!(
            "the path {path:?} cannot be written to exports: mountd cannot read spaces, quotes, \
             backslashes or # in a path: rename it"
        ),
    );
}

#[test]
fn what_cannot_be_printed_is_said_unless_somebody_has_read_enough() {
    let bench = Bench::with_head();
    let full = "netbe: standard output: the file system is full\n";
    for arguments in [&["list"][..], &["--help"], &["completion", "bash"]] {
        let mut command = bench.command(netbe(), arguments);
        if Path::new("/dev/full").exists() {
            let output = command.stdout(File::create("/dev/full").unwrap()).output().unwrap();
            let told = (String::from_utf8(output.stderr).unwrap(), output.status.code());
            assert_eq!(told, (full.to_owned(), Some(2)), "{arguments:?}");
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = bench.command(netbe(), arguments).stdout(writer).output().unwrap();
        let told = (String::from_utf8(output.stderr).unwrap(), output.status.code());
        assert_eq!(told, (String::new(), Some(0)), "{arguments:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_said_and_leaves_nothing() {
    use std::io::Write;
    use std::process::Stdio;

    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: only root mounts a small disk");
    }
    let bench = Bench::new();
    let script = r#"
        mkdir "$1" && mount -t tmpfs -o size=512k,mode=700 tmpfs "$1" || exit 9
        netbe="$2"
        for name in head gone; do "$netbe" create "$name" || exit 9; done
        "$netbe" machine add --mac 02:00:00:00:00:01 desk || exit 9
        files() { (cd "$1" && find . -type f ! -name history ! -name .spare -exec cksum {} + | sort -k 3); }
        before=$(files "$1")
        dd if=/dev/zero of="$1/fill" bs=4k 2>/dev/null
        while read -r line; do
            "$netbe" $line 2>&1
            echo "= $? $line"
        done
        rm "$1/fill"
        after=$(files "$1")
        [ "$before" = "$after" ] || echo "before: $before after: $after"
        "$netbe" rename head tail
    "#;
    let verbs = [
        "create new",
        "clone head copy",
        "snapshot head@monday",
        "machine add --mac 02:00:00:00:00:02 lap",
        "machine set --cmdline quiet desk",
        "sharepxe --machine desk head",
        "sharepxe --default head",
        "sharenfs --network 10.0.0.0/8 head",
        "set note=hello head",
        "rename head tail",
    ];
    let mut command = bench.command("unshare", &["-m", "sh", "-c", script, "sh"]);
    command.arg(bench.state()).arg(netbe()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut shell = command.spawn().unwrap();
    shell.stdin.take().unwrap().write_all((verbs.join("\n") + "\n").as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let mut lines = told.lines();
    for verb in verbs {
        let said = lines.next().unwrap_or_default();
        assert!(
            said.contains("no room for") || said.contains("the file system is full"),
            "{verb}: {told}"
        );
        assert_eq!(lines.next(), Some(format!("= 2 {verb}").as_str()), "{told}");
    }
    assert_eq!(lines.next(), None, "{told}");
}
