//! Machines: what is set for them, how it is shown, and what is refused.

use crate::bench::Bench;

fn with_desk() -> Bench {
    let bench = Bench::new();
    bench.silent(&["machine", "add", "--mac=02:00:00:00:00:07", "--address=192.168.2.7", "desk"]);
    bench
}

/// The line of `machine show` that begins with a word.
fn shown(bench: &Bench, word: &str) -> Option<String> {
    let text = bench.prints(&["machine", "show", "desk"]);
    text.lines().find(|line| line.starts_with(word)).map(str::to_owned)
}

#[test]
fn variables_are_set_one_by_one_and_taken_away() {
    let bench = with_desk();
    bench.silent(&["machine", "set", "--kenv=a=1", "--kenv", "console=comconsole,efi", "desk"]);
    bench.silent(&["machine", "set", "--kenv=a=2 3", "desk"]);
    let both = "kenv = [\"console=comconsole,efi\", \"a=2 3\"]";
    assert_eq!(shown(&bench, "kenv").as_deref(), Some(both));
    bench.silent(&["machine", "set", "--kenv=console=", "desk"]);
    assert_eq!(shown(&bench, "kenv").as_deref(), Some("kenv = [\"a=2 3\"]"));
    bench.silent(&["machine", "set", "--kenv=none", "desk"]);
    assert_eq!(shown(&bench, "kenv"), None);
}

#[test]
fn the_loaders_protocol_and_the_classes_are_shown() {
    let bench = with_desk();
    let classes = ["--class=lab", "--class=west"];
    bench.silent(&["machine", "set", "--loader-protocol=tftp", classes[0], classes[1], "desk"]);
    assert_eq!(shown(&bench, "loader_protocol").as_deref(), Some("loader_protocol = \"tftp\""));
    assert_eq!(shown(&bench, "classes").as_deref(), Some("classes = [\"lab\", \"west\"]"));
    bench.silent(&["machine", "set", "--loader-protocol=auto", "--class=none", "desk"]);
    assert_eq!((shown(&bench, "loader"), shown(&bench, "classes")), (None, None));
}

#[test]
fn what_a_loader_could_not_be_told_is_refused_at_once() {
    let bench = with_desk();
    let (long, half) = (format!("--kenv=a={}", "x".repeat(250)), "x".repeat(250));
    let more = [format!("--kenv=b={half}"), format!("--kenv=c={half}")];
    bench.cannot(
        &["machine", "set", &long, &more[0], &more[1], "desk"],
        "the variables do not fit into DHCP's options: write at most 512 bytes of them",
    );
    bench.cannot(
        &["machine", "set", "--loader=ipxe", "--loader-protocol=http", "desk"],
        "FreeBSD's loader uses HTTP only if the firmware loads it: with --loader-protocol http the loader \
         is auto, not ipxe",
    );
    bench.cannot(
        &["machine", "set", "--class=../etc", "desk"],
        "\"../etc\" is not a class: write the name of a folder below /conf, of letters, digits, dots, \
         hyphens and underscores",
    );
    assert_eq!(shown(&bench, "kenv"), None);
}

#[test]
fn a_machines_variables_are_on_bhyveloads_command_line() {
    let bench = with_desk();
    bench.silent(&["create", "-l", "freebsd", "head"]);
    bench.silent(&["sharepxe", "--machine", "desk", "head"]);
    bench.silent(&["machine", "set", "--kenv=console=comconsole", "desk"]);
    let line =
        bench.prints(&["show", "bhyveload", "--server=192.168.2.1", "--machine=desk", "head"]);
    assert!(line.contains(" -e console=comconsole "), "{line}");
}

#[test]
fn an_advice_is_what_was_meant() {
    let bench = with_desk();
    bench.cannot(
        &["sharepxe", "--machine", "desk"],
        "the following required arguments were not provided: <BE[@SNAP]>: see `netbe sharepxe --help`",
    );
    bench.refuses(
        &["machine", "show", "web"],
        "there is no machine web: `netbe machine list` shows all",
    );
    bench.refuses(
        &["machine", "add", "--mac=02:00:00:00:00:07", "web"],
        "02:00:00:00:00:07 belongs to desk: set another for desk first, or remove it",
    );
}

#[test]
fn names_are_shown_for_other_programs() {
    let bench = Bench::new();
    let mac = |last: u8| format!("--mac=52:54:00:00:00:{last:02x}");
    bench.silent(&["machine", "add", &mac(1), "--address=10.0.0.9", "web1"]);
    bench.silent(&["machine", "add", &mac(2), "db"]);
    assert_eq!(
        bench.prints(&["show", "hosts"]),
        "# db has no address of its own\n10.0.0.9\tweb1\n"
    );
    let zone = ["show", "zone", "--domain=example.org", "--serial=7", "--ttl=60"];
    assert_eq!(
        bench.prints(&zone),
        "$ORIGIN example.org.\n$TTL 60\n\
         @\tIN\tSOA\tlocalhost. hostmaster.example.org. ( 7 3600 600 1209600 300 )\n\
         @\tIN\tNS\tlocalhost.\n\
         ; db has no address of its own\n\
         web1\tIN\tA\t10.0.0.9\n"
    );
    bench.cannot(
        &["show", "hosts", "--domain=a b"],
        "the domain \"a b\" cannot be written to hosts(5): a name is labels of letters, digits and inner \
         hyphens, joined by dots",
    );
}

#[test]
fn a_machine_is_woken_by_what_is_known_of_its_cards() {
    let bench = Bench::new();
    bench.refuses(&["wake", "web1"], "there is no machine web1: `netbe machine list` shows all");
    bench.refuses(
        &["wake", "--interface=none0", "52:54:00:00:00:01"],
        "this host has no interface none0",
    );
    let sentence = "lo reaches no machine: it has to be up, with an IPv4 address in a network that has \
                    a broadcast address";
    if cfg!(target_os = "linux") {
        bench.refuses(&["wake", "--interface=lo", "52:54:00:00:00:01"], sentence);
    }
}
