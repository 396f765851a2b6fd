//! Machines by command: what is typed and what is listed.

use crate::bench::{MAC, Site};

#[test]
fn a_machine_is_added_listed_changed_and_removed() {
    let site = Site::with_base();
    let add = ["machine", "add", "--mac", MAC, "--address", "10.0.0.9", "Web1"];
    site.done(&add);
    site.done(&["machine", "set", "web1", "--environment", "base", "--cmdline", "quiet", "--ro"]);
    assert_eq!(
        site.prints(&["machine", "list"]),
        "NAME  MAC                ADDRESS   ROOT    ENVIRONMENT\n\
         web1  52:54:00:00:00:01  10.0.0.9  direct  base\n"
    );
    assert_eq!(
        site.prints(&["machine", "show", "web1"]),
        "[machines.\"web1\"]\nmacs = [\"52:54:00:00:00:01\"]\naddress = \"10.0.0.9\"\n\
         environment = \"base\"\ncmdline = \"quiet\"\nread_only = true\n"
    );
    site.done(&["machine", "set", "web1", "--address", "none", "--environment", "none", "--rw"]);
    assert_eq!(site.prints(&["machine", "list", "-H"]), "web1\t52:54:00:00:00:01\t-\tdirect\t-\n");
    site.done(&["machine", "remove", "web1"]);
    assert_eq!(site.prints(&["machine", "list", "-H"]), "");
}

#[test]
fn a_machines_loader_is_chosen_shown_and_given_back() {
    let site = Site::with_base();
    site.done(&["machine", "add", "--mac", MAC, "--loader", "shim", "web1"]);
    let shown = |site: &Site| site.prints(&["machine", "show", "web1"]);
    assert!(shown(&site).contains("\nloader = \"shim\"\n"));
    site.done(&["machine", "set", "--ro", "web1"]);
    assert!(shown(&site).contains("\nloader = \"shim\"\n"), "what is not said stays");
    site.done(&["machine", "set", "--loader", "auto", "web1"]);
    assert!(!shown(&site).contains("loader"));
}

#[test]
fn a_machine_keeps_what_it_has_when_a_change_is_refused() {
    let site = Site::with_base();
    site.done(&["machine", "add", "--mac", MAC, "a"]);
    site.done(&["machine", "add", "--mac", "52:54:00:00:00:02", "b"]);
    assert_eq!(
        site.fails(1, &["machine", "set", "b", "--mac", MAC]),
        "52:54:00:00:00:01 belongs to a: set another for a first, or remove it"
    );
    assert_eq!(
        site.prints(&["machine", "list", "-H"]),
        "a\t52:54:00:00:00:01\t-\tdirect\t-\nb\t52:54:00:00:00:02\t-\tdirect\t-\n"
    );
}

#[test]
fn what_machines_boot_is_assigned_and_taken_away() {
    let site = Site::with_base();
    site.done(&["machine", "add", "--mac", MAC, "web1"]);
    site.done(&["sharepxe", "--machine", "web1", "base"]);
    assert!(site.prints(&["machine", "list", "-H"]).ends_with("\tbase\n"));
    site.done(&["sharepxe", "--machine", "web1", "--off"]);
    assert!(site.prints(&["machine", "list", "-H"]).ends_with("\t-\n"));
    site.done(&["sharepxe", "--default", "base"]);
}

#[test]
fn machines_that_cannot_be_say_why() {
    let site = Site::with_base();
    assert_eq!(
        site.fails(1, &["machine", "show", "web9"]),
        "there is no machine web9: `netbe machine list` shows those that there are"
    );
    assert_eq!(
        site.fails(1, &["sharepxe", "--machine", "web9", "base"]),
        "there is no machine web9: `netbe machine list` shows those that there are"
    );
    assert_eq!(
        site.fails(1, &["sharepxe", "--default", "none-such"]),
        "there is no boot environment none-such: `netbe list` shows those that there are"
    );
    assert_eq!(
        site.fails(2, &["machine", "add", "--mac", "52:54:00", "a"]),
        "invalid value '52:54:00' for '--mac <MAC>': not an Ethernet address: write six \
         hexadecimal bytes as in 52:54:00:12:34:56"
    );
    assert_eq!(
        site.fails(2, &["machine", "add", "--mac", "01:00:5e:00:00:01", "a"]),
        "01:00:5e:00:00:01 is a multicast address: write the address of the machine's network card"
    );
}
