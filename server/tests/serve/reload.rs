//! netbe.toml, changed while the server runs.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::bench::{MAC, Net, Outcome, Running, Site, sentence};

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
    let web1 = "[machines.web1]\nmacs = [\"52:54:00:00:00:01\"]\n";
    write(&site, &format!("http = \"8080\"\ninterfaces = [\"s0\"]\n{ONE}lease = 600\n{web1}"));
    assert_eq!(
        site.fails(2, &["reload"]),
        "nothing was changed: interfaces, http cannot change while the server runs: restart the server"
    );
    assert_eq!(site.prints(&["machine", "list", "-H"]), "");
}

#[test]
fn a_default_that_the_store_lacks_is_refused_as_the_next_start_would_refuse_it() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let _running = start(&site, &net, ONE);
    let file = write(&site, &ONE.replace("base", "nowhere"));
    let checked = net.beside(&site.netbe(&["serve", "-n", "-f", file.to_str().unwrap()]));
    let checked = Outcome::from({ checked }.output().unwrap());
    assert_ne!(checked.status, Some(0));
    let expected = format!("nothing was changed: {}", sentence(&checked.err));
    assert!(expected.contains("nowhere"), "{expected}");
    assert_eq!(site.fails(2, &["reload", "-n"]), expected);
    assert_eq!(site.fails(2, &["reload"]), expected);
}

#[test]
fn a_range_of_an_interface_that_came_later_names_it_and_waits_for_a_restart() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let _running = start(&site, &net, ONE);
    net.ip(&["link", "add", "s1", "type", "veth", "peer", "name", "s2"]);
    net.ip(&["address", "add", "10.78.0.1/24", "dev", "s1"]);
    net.ip(&["link", "set", "s1", "up"]);
    write(&site, "default = \"base\"\nranges = [\"10.78.0.5-10.78.0.9\"]\n");
    let told = site.fails(2, &["reload"]);
    let expected = "nothing was changed: range 10.78.0.5-10.78.0.9 lies in a network of s1, on which DHCP \
                    does not listen yet: restart the server";
    assert_eq!(told, expected);
    assert_eq!(site.fails(2, &["reload", "-n"]), expected);
}

#[test]
fn a_reload_waits_for_a_command_that_changes_machines() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let _running = start(&site, &net, ONE);
    write(&site, &format!("{ONE}[machines.web1]\nmacs = [\"52:54:00:00:00:01\"]\n"));
    let changing = File::create(site.state().join("change.lock")).unwrap();
    changing.lock().unwrap();
    assert_eq!(site.prints(&["reload", "-n"]), "would change machines\n");
    let mut reload = site.netbe(&["reload"]).spawn().unwrap();
    thread::sleep(Duration::from_secs(2));
    assert!(reload.try_wait().unwrap().is_none(), "it did not wait");
    assert_eq!(site.prints(&["machine", "list", "-H"]), "");
    // What such a command tells the server does not wait for the reload.
    site.until("DHCP on s0");
    drop(changing);
    assert!(reload.wait().unwrap().success());
    assert!(site.prints(&["machine", "list", "-H"]).starts_with("web1\t"));
}

#[test]
fn the_end_does_not_wait_for_a_reload() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let running = start(&site, &net, ONE);
    // A file that nobody answers for, as on a file server that is gone.
    let file = site.path("netbe.toml");
    fs::remove_file(&file).unwrap();
    mkfifo(&file, Mode::S_IRWXU).unwrap();
    running.hang_up();
    // It can be opened for writing as soon as it is being read.
    let begun = Instant::now();
    let writer = loop {
        let mut options = OpenOptions::new();
        if let Ok(writer) = options.write(true).custom_flags(libc::O_NONBLOCK).open(&file) {
            break writer;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing reads the file");
        thread::sleep(Duration::from_millis(50));
    };
    let asked = Instant::now();
    let answered = thread::spawn(move || {
        thread::sleep(Duration::from_secs(30));
        drop(writer);
    });
    assert!(running.end(Signal::SIGTERM).success());
    assert!(asked.elapsed() < Duration::from_secs(25), "it waited for the file");
    drop(answered);
}

#[test]
fn without_a_server_there_is_nothing_to_reload() {
    let site = Site::with_base();
    let told = site.fails(1, &["reload"]);
    let expected = format!("no server runs on {}: start it", site.state().display());
    assert!(told.starts_with(&expected), "{told}");
}
