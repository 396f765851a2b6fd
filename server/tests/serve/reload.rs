//! netbe.toml, changed while the server runs.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::{MAC, Net, Running, Site};

const CLIENTS: [&str; 3] = ["busybox", "curl", "nfs-cat"];
const HELLO: &str = "nfs://10.77.0.1/be/base/hello?version=3";

/// A file that serves, with these keys beside it.
fn write(site: &Site, keys: &str) -> PathBuf {
    let file = site.path("netbe.toml");
    fs::write(&file, format!("mode = \"serve\"\n{keys}")).unwrap();
    file
}

/// The server that serves what [`write`] wrote.
fn start(site: &Site, net: &Net, keys: &str) -> Running {
    let file = write(site, keys);
    Running::start(site, net, &["-f", file.to_str().unwrap()])
}

/// Waits until the server has logged `word`.
fn until_logged(site: &Site, word: &str) {
    let begun = Instant::now();
    loop {
        let log = fs::read_to_string(site.path("log")).unwrap();
        if log.contains(word) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "no {word:?} in {log}");
        thread::sleep(Duration::from_millis(50));
    }
}

const ONE: &str = "default = \"base\"\nranges = [\"10.77.0.100-10.77.0.109\"]\ndomain = \"old\"\n";

/// What the client was told by DHCP.
fn said(site: &Site) -> String {
    fs::read_to_string(site.path("said")).unwrap()
}

#[test]
fn a_changed_file_holds_and_whoever_runs_loses_nothing() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    let running = start(&site, &net, ONE);
    let script = net.ipxe(&site);
    net.client(&["curl", "-sf", &script]);
    net.client(&["nfs-cat", HELLO]);
    assert!(said(&site).contains("domain=old\n"), "{}", said(&site));
    let new = "default = \"base\"\nranges = [\"10.77.0.150-10.77.0.159\"]\ndomain = \"new\"\n\
               [machines.web9]\nmacs = [\"52:54:00:00:00:09\"]\n";
    write(&site, new);
    let changes = "would change ranges\nwould change domain\nwould change machines\n";
    assert_eq!(site.prints(&["reload", "-n"]), changes);
    assert_eq!(site.prints(&["machine", "list", "-H"]), "", "it was only asked");
    site.done(&["reload"]);
    assert_eq!(site.prints(&["reload", "-n"]), "");
    assert!(site.prints(&["machine", "list", "-H"]).starts_with("web9\t"));
    // Who lives on its root keeps its address, which is in no range any more, and is told what is new.
    net.client(&["nfs-cat", HELLO]);
    let status = site.prints(&["status", "-H"]);
    assert!(status.contains(&format!("{MAC}\troot\tbase (ro)\t10.77.0.100\t")), "{status}");
    net.ipxe(&site);
    assert!(said(&site).contains("ip=10.77.0.100\n"), "{}", said(&site));
    assert!(said(&site).contains("domain=new\n"), "{}", said(&site));
    // Whoever is new has an address of the new range.
    net.client(&["ip", "link", "set", "c0", "address", "52:54:00:00:00:77"]);
    net.ipxe(&site);
    assert!(said(&site).contains("ip=10.77.0.150\n"), "{}", said(&site));
    drop(running);
}

#[test]
fn a_hang_up_reads_the_file_again_and_a_broken_one_changes_nothing() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let running = start(&site, &net, ONE);
    write(&site, "[machines.web1]\nmacs = [\"52:54:00:00:00:01\"]\nadress = \"10.77.0.9\"\n");
    let file = site.path("netbe.toml");
    let broken =
        format!("nothing was changed: {}: line 4: there is no key `adress`", file.display());
    let told = site.fails(2, &["reload"]);
    assert!(told.starts_with(&broken), "{told}");
    assert_eq!(site.fails(2, &["reload", "-n"]), told);
    running.hang_up();
    until_logged(&site, &broken);
    assert_eq!(site.prints(&["machine", "list", "-H"]), "");
    // What contradicts this host is refused as a whole too.
    write(
        &site,
        "ranges = [\"10.78.0.5-10.78.0.9\"]\n[machines.web1]\nmacs = [\"52:54:00:00:00:01\"]\n",
    );
    let told = site.fails(2, &["reload"]);
    assert!(told.contains("range 10.78.0.5-10.78.0.9 lies in no network"), "{told}");
    assert_eq!(site.prints(&["machine", "list", "-H"]), "");
    write(&site, &format!("{ONE}[machines.web1]\nmacs = [\"52:54:00:00:00:01\"]\n"));
    running.hang_up();
    until_logged(&site, "netbe.toml was read again: machines");
    assert!(site.prints(&["machine", "list", "-H"]).starts_with("web1\t"));
}

#[test]
fn what_holds_until_a_restart_is_named() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let _running = start(&site, &net, ONE);
    write(&site, &format!("http = \"8080\"\ninterfaces = [\"s0\"]\n{ONE}lease = 600\n"));
    assert_eq!(
        site.fails(2, &["reload"]),
        "nothing was changed: interfaces, http cannot change while the server runs: restart it for that"
    );
    assert_eq!(site.prints(&["machine", "list", "-H"]), "");
}

#[test]
fn without_a_server_there_is_nothing_to_reload() {
    let site = Site::with_base();
    let told = site.fails(1, &["reload"]);
    let expected = format!("no server runs on {}: start it", site.state().display());
    assert!(told.starts_with(&expected), "{told}");
}
