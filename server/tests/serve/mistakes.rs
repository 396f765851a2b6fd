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
        "there is no store at {store:?}: `netbe create` makes one, or say where it is with --store"
    );
    assert_eq!(site.fails(2, &["serve", "-n"]), missing);
    assert!(!exists(&store));
}

#[test]
fn a_mistake_in_the_file_is_said_with_its_line() {
    let site = Site::with_base();
    let file = site.path("netbe.toml");
    let path = file.to_str().unwrap();
    let absent = format!("{path}: No such file or directory (os error 2)");
    assert_eq!(site.fails(2, &["serve", "-n", "-f", path]), absent);
    fs::write(&file, "mode = \"serve\"\nrange = \"x\"\n").unwrap();
    let refused = site.fails(2, &["serve", "-n", "-f", path]);
    assert!(refused.starts_with(&format!("{path}: line 2: unknown field `range`")), "{refused}");
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
    assert_eq!(
        site.fails(1, &arguments),
        "52:54:00:00:00:01 belongs to a: set another for a first, or remove it"
    );
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
        "mode serve has no addresses to hand out: give some with --range A-B, or keep one for a \
         machine with `netbe machine set --address`"
    );
}

#[test]
fn what_another_server_has_is_said() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let _running = Running::start(&site, &net, &[]);
    let refused = |site: &Site| {
        let outcome = Outcome::from(net.beside(&site.netbe(&["serve"])).output().unwrap());
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
