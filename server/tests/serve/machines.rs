//! Machines by command: what is typed and what is listed.

use crate::bench::{MAC, Net, Running, Site};

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
        "there is no machine web9: `netbe machine list` shows all"
    );
    assert_eq!(
        site.fails(1, &["sharepxe", "--machine", "web9", "base"]),
        "there is no machine web9: `netbe machine list` shows all"
    );
    assert_eq!(
        site.fails(1, &["sharepxe", "--default", "none-such"]),
        "there is no boot environment none-such: `netbe list` shows all"
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

#[test]
fn a_renamed_machine_takes_everything_along_while_it_runs() {
    let Some(net) = Net::new(&["busybox", "curl", "nfs-cat"]) else { return };
    let site = Site::with_base();
    site.done(&["create", "extra"]);
    std::fs::write(site.state().join("store/be/extra/news"), "news\n").unwrap();
    site.done(&["machine", "add", "--mac", MAC, "web1"]);
    site.prints(&["sharepxe", "--machine", "web1", "--root", "own", "base"]);
    site.done(&["sharenfs", "--insecure", "--machine", "web1", "extra"]);
    let serve = ["--mode", "serve", "--range", "10.77.0.100-10.77.0.199"];
    let running = Running::start(&site, &net, &serve);
    let script = net.ipxe(&site);
    net.client(&["curl", "-sf", &script]);
    let (root, news) = ["web1-base/hello", "extra/news"]
        .map(|at| format!("nfs://10.77.0.1/be/{at}?version=3"))
        .into();
    assert_eq!(net.client(&["nfs-cat", &root]), b"hello from base\n");
    assert_eq!(net.client(&["nfs-cat", &news]), b"news\n");
    assert_eq!(
        site.prints(&["machine", "rename", "-n", "web1", "web2"]),
        "would rename web1 to web2\nwould have extra follow\nwould have web1-base follow\n"
    );
    site.done(&["machine", "rename", "web1", "web2"]);
    let status = site.prints(&["status", "-H"]);
    assert!(status.starts_with("web2\troot\tweb1-base\t10.77.0.100\t"), "{status}");
    assert_eq!(status.lines().count(), 1, "{status}");
    // It goes on as the machine that it is: with its root, with what is shared with it, with its address.
    assert_eq!(net.client(&["nfs-cat", &root]), b"hello from base\n");
    assert_eq!(net.client(&["nfs-cat", &news]), b"news\n");
    running.end(nix::sys::signal::Signal::SIGKILL);
    let running = Running::start(&site, &net, &serve);
    assert_eq!(net.client(&["nfs-cat", &news]), b"news\n");
    net.ipxe(&site);
    let said = std::fs::read_to_string(site.path("said")).unwrap();
    assert!(said.contains("ip=10.77.0.100\n") && said.contains("hostname=web2\n"), "{said}");
    assert_eq!(
        site.prints(&["list", "-H", "-o", "name"]),
        "base\nextra\nweb1-base\n",
        "no new root"
    );
    let told = site.prints(&["history", "-H", "web2"]);
    let verbs: Vec<&str> = told.lines().filter_map(|line| line.split('\t').nth(2)).collect();
    assert!(verbs.starts_with(&["machine add", "sharepxe"]), "{told}");
    assert!(verbs.contains(&"machine rename"), "{told}");
    running.end(nix::sys::signal::Signal::SIGTERM);
}

#[test]
fn a_machine_is_renamed_to_a_name_that_is_free() {
    let site = Site::with_base();
    site.done(&["machine", "add", "--mac", MAC, "--environment", "base", "a"]);
    site.done(&["machine", "add", "--mac", "52:54:00:00:00:02", "b"]);
    let taken = "machine b exists: change it with `netbe machine set`, or remove it first";
    assert_eq!(site.fails(1, &["machine", "rename", "a", "b"]), taken);
    assert!(site.fails(1, &["machine", "rename", "x", "y"]).contains("no machine x"));
    site.done(&["machine", "rename", "a", "c"]);
    assert_eq!(
        site.prints(&["machine", "list", "-H"]),
        format!("b\t52:54:00:00:00:02\t-\tdirect\t-\nc\t{MAC}\t-\tdirect\tbase\n")
    );
}
