//! Why a server does not start: one sentence that says what to do, status 2, nothing half-started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::geteuid;

use crate::bench::{Net, Outcome, Running, Site, exists, netbe, sentence};

#[test]
fn a_store_that_is_missing_is_said() {
    let site = Site::new();
    let store = site.state().join("store");
    let missing = format!(
        "there is no store at {store:?}: `netbe create` makes one, or name another one with --store"
    );
    assert_eq!(site.fails(2, &["serve", "-n"]), missing);
    assert!(!exists(&store));
}

#[test]
fn a_mistake_in_the_file_is_said_with_its_line() {
    let site = Site::with_base();
    let file = site.path("netbe.toml");
    let path = file.to_str().unwrap();
    let absent = format!("{path}: there is no such file");
    assert_eq!(site.fails(2, &["serve", "-n", "-f", path]), absent);
    fs::write(&file, "mode = \"serve\"\nrange = \"x\"\n").unwrap();
    let refused = site.fails(2, &["serve", "-n", "-f", path]);
    assert!(refused.starts_with(&format!("{path}: line 2: there is no key `range`")), "{refused}");
    fs::write(&file, "lease = 1\n").unwrap();
    let short = format!("{path}: lease: 1 seconds: write 120 (two minutes) to 31536000 (a year)");
    assert_eq!(site.fails(2, &["serve", "-n", "-f", path, "--lease", "600"]), short);
}

#[test]
fn a_mode_given_as_a_flag_holds_for_the_files_ranges() {
    let site = Site::with_base();
    let file = site.path("netbe.toml");
    fs::write(&file, "ranges = [\"203.0.113.5-203.0.113.9\"]\n").unwrap();
    let arguments = ["serve", "-n", "-f", file.to_str().unwrap()];
    let passive = site.fails(2, &arguments);
    assert!(passive.contains("mode is passive"), "{passive}");
    let serving = site.fails(2, &[&arguments[..], &["--mode", "serve"]].concat());
    assert!(!serving.contains("mode is passive"), "{serving}");
}

#[test]
fn a_default_environment_that_does_not_exist_is_said() {
    let site = Site::with_base();
    let refused = site.fails(1, &["serve", "-n", "--default", "nosuch"]);
    assert!(refused.contains("nosuch"), "{refused}");
}

#[test]
fn machines_of_the_file_count_before_there_is_a_state_directory() {
    let site = Site::with_base();
    let (file, state) = (site.path("netbe.toml"), site.path("none"));
    let machine = "[machines.NAME]\nmacs = [\"52:54:00:00:00:01\"]\n";
    fs::write(&file, machine.replace("NAME", "a") + &machine.replace("NAME", "b")).unwrap();
    let (state, file) = (state.to_str().unwrap(), file.to_str().unwrap());
    let store = format!("dir:{}", site.state().join("store").display());
    let arguments = ["--state", state, "--store", &store, "serve", "-n", "-f", file];
    let twice = format!(
        "{file}: line 4: 52:54:00:00:00:01 already belongs to a (line 2): write another for b, or remove \
         one of the two"
    );
    assert_eq!(site.fails(2, &arguments), twice);
}

#[test]
fn machines_of_the_file_and_of_the_state_are_told_by_both_places() {
    let site = Site::with_base();
    let file = site.path("netbe.toml");
    let mac = "52:54:00:00:00:01";
    site.done(&["machine", "add", "--mac", mac, "b"]);
    fs::write(&file, format!("[machines.a]\nmacs = [\"{mac}\"]\n")).unwrap();
    let record = site.state().join("machines/b.toml");
    let expected = format!(
        "{}: {mac} belongs to a, which is defined in netbe.toml: change it there, or set another for b",
        record.display()
    );
    let arguments = ["serve", "-n", "-f", file.to_str().unwrap()];
    assert_eq!(site.fails(1, &arguments), expected);
    fs::write(&record, "macs = [\"52:54:00:00:00:02\"]\naddress\n").unwrap();
    let broken = format!(
        "{}: line 2: key with no value, expected `=`: correct the file, or remove it and add the machine \
         again with `netbe machine add`",
        record.display()
    );
    for arguments in [&arguments[..], &["machine", "list"], &["check"]] {
        assert_eq!(site.fails(2, arguments), broken, "{arguments:?}");
    }
}

#[test]
fn a_port_that_is_taken_is_said_before_the_server_is_started() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let dry =
        |site: &Site| Outcome::from(net.beside(&site.netbe(&["serve", "-n"])).output().unwrap());
    let free = dry(&site);
    assert_eq!((free.err.as_str(), free.status), ("", Some(0)));
    assert!(!free.out.contains("not checked"), "{}", free.out);
    let _running = Running::start(&site, &net, &[]);
    // The server that runs from the same state has the ports that its successor will have.
    let beside = dry(&site);
    assert_eq!((beside.err.as_str(), beside.status), ("", Some(0)));
    let line = "not checked        whether the ports are free: process ";
    assert!(beside.out.contains(line), "{}", beside.out);
    let other = Site::with_base();
    let taken = dry(&other);
    assert_eq!((taken.out.as_str(), taken.status), ("", Some(2)));
    assert_eq!(
        sentence(&taken.err),
        "port 69 (TFTP) is in use: stop the other TFTP server (tftpd-hpa, atftpd, dnsmasq)"
    );
}

#[test]
fn an_address_that_no_machine_can_have_is_said_at_once() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let within = |arguments: &[&str]| {
        let outcome = Outcome::from(net.beside(&site.netbe(arguments)).output().unwrap());
        assert_eq!(outcome.out, "", "{arguments:?}");
        (outcome.err, outcome.status)
    };
    let add = |address: &str, name: &str, mac: &str| {
        within(&["machine", "add", "--mac", mac, "--address", address, name])
    };
    let refused =
        |why: &str| (format!("netbe: {why}: choose another address for the machine\n"), Some(1));
    let mac = "52:54:00:00:00:07";
    let own = refused("10.77.0.1 is this host's own address");
    assert_eq!(add("10.77.0.1", "web1", mac), own);
    let broadcast = refused("10.77.0.255 is the broadcast address of 10.77.0.0/24");
    assert_eq!(add("10.77.0.255", "web1", mac), broadcast);
    let network = refused("10.77.0.0 is the address of the network 10.77.0.0/24 itself");
    assert_eq!(add("10.77.0.0", "web1", mac), network);
    assert!(!exists(&site.state().join("machines/web1.toml")));
    // Where nobody knows which networks are served, none is too far away.
    assert_eq!(add("10.88.0.9", "web1", mac), (String::new(), Some(0)));
    assert_eq!(within(&["machine", "set", "--address", "10.77.0.1", "web1"]), own);
    let subnet = "10.99.0.0/24";
    let range = "10.77.0.100-10.77.0.109";
    let running =
        Running::start(&site, &net, &["--mode", "serve", "--range", range, "--subnet", subnet]);
    let outside = |address| {
        let served = "lies in no network that is served: 10.77.0.0/24, 10.99.0.0/24";
        let cure = "choose an address there, or serve its network too";
        (format!("netbe: {address} {served}: {cure}\n"), Some(0))
    };
    assert_eq!(add("10.88.0.8", "web2", "52:54:00:00:00:08"), outside("10.88.0.8"));
    assert_eq!(add("10.99.0.8", "web3", "52:54:00:00:00:09"), (String::new(), Some(0)));
    drop(running);
    // What the server noted holds while it is stopped.
    assert_eq!(within(&["machine", "set", "--address", "10.88.0.7", "web2"]), outside("10.88.0.7"));
    let arguments = ["serve", "-n", "--mode", "serve", "--range", range, "--subnet", subnet];
    let dry = Outcome::from(net.beside(&site.netbe(&arguments)).output().unwrap());
    let line = "not handed out     10.88.0.9 is reserved for web1, but lies in no network that is served: \
                10.77.0.0/24, 10.99.0.0/24\n";
    assert!(dry.out.contains(line), "{}", dry.out);
    let check = Outcome::from(net.beside(&site.netbe(&["check"])).output().unwrap());
    assert!(check.out.contains("10.88.0.9 is reserved for web1, but lies in no"), "{}", check.out);
}

#[test]
fn an_interface_that_does_not_exist_is_said() {
    let site = Site::with_base();
    let refused = site.fails(2, &["serve", "-n", "--interface", "eth99"]);
    assert!(refused.starts_with("there is no interface eth99: this host has lo"), "{refused}");
}

#[test]
fn a_flag_that_does_not_exist_is_said() {
    let refused = Site::new().fails(2, &["serve", "--port", "80"]);
    assert_eq!(refused, "unexpected argument '--port' found: see `netbe serve --help`");
}

#[test]
fn serving_needs_root() {
    let site = Site::new();
    // The program has to be where anybody can run it. Copied by this process, it would be busy as long as
    // a program that another test starts has inherited the open copy.
    let copy = site.path("netbe");
    assert!(Command::new("cp").arg(netbe()).arg(&copy).status().unwrap().success());
    fs::set_permissions(copy.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    command.args(["--state", "/nonexistent", "serve"]);
    if geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let outcome = Outcome::from(command.output().unwrap());
    assert_eq!(outcome.status, Some(2));
    assert_eq!(
        sentence(&outcome.err),
        "netbe serve has to be run as root: it opens files by handle and binds low ports"
    );
}

#[test]
fn status_and_watch_need_a_server() {
    let site = Site::with_base();
    let none = format!("no server runs on {}: start it with `netbe serve`", site.state().display());
    assert_eq!(site.fails(1, &["status"]), none);
    assert_eq!(site.fails(1, &["watch"]), none);
}

#[test]
fn what_the_network_does_not_have_is_said() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    net.ip(&["link", "add", "bare", "type", "bridge"]);
    let refused = |arguments: &[&str]| {
        let command = net.beside(&site.netbe(&[&["serve"], arguments].concat())).output();
        let outcome = Outcome::from(command.unwrap());
        assert_eq!((outcome.out.as_str(), outcome.status), ("", Some(2)), "{arguments:?}");
        sentence(&outcome.err)
    };
    assert_eq!(
        refused(&["--interface", "bare"]),
        "bare has no IPv4 address: give it one first, with `ip address add` or `ifconfig`"
    );
    assert_eq!(
        refused(&["--mode", "serve", "--range", "10.78.0.5-10.78.0.9"]),
        "range 10.78.0.5-10.78.0.9 lies in no network that is served: s0 has 10.77.0.1/24"
    );
    assert_eq!(
        refused(&["--mode", "serve"]),
        "mode serve has no addresses to hand out: give some with --range A-B, or reserve one for a machine \
         with `netbe machine set --address`"
    );
}

#[test]
fn what_another_server_has_is_said() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let _running = Running::start(&site, &net, &[]);
    let refused = |site: &Site| {
        // Then there is a process for hooks already, which has to end too.
        let file = site.path("netbe.toml");
        fs::write(&file, "[hooks]\n").unwrap();
        let arguments = ["serve", "-f", file.to_str().unwrap()];
        let outcome = Outcome::from(net.beside(&site.netbe(&arguments)).output().unwrap());
        assert_eq!((outcome.out.as_str(), outcome.status), ("", Some(2)));
        sentence(&outcome.err)
    };
    let same_state = refused(&site);
    assert!(same_state.contains("already serves from"), "{same_state}");
    let other = Site::with_base();
    assert_eq!(
        refused(&other),
        "port 69 (TFTP) is in use: stop the other TFTP server (tftpd-hpa, atftpd, dnsmasq)"
    );
    assert!(!exists(&other.state().join("control.sock")));
}
