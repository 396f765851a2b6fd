//! Interfaces that are made anew, go away and change while the server runs.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::bench::{MAC, Net, Running, Site};

const SERVE: [&str; 7] =
    ["--interface", "s0", "--mode", "serve", "--range", "10.77.0.100-10.77.0.199", "--lease"];

/// Waits until the server has printed so many lines of `word`, or logged them.
fn until(site: &Site, file: &str, word: &str, count: usize) {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(site.path(file)).unwrap();
        if text.matches(word).count() >= count {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no {word} in {text}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Puts another pair of interfaces into the place of the first one.
fn make_anew(net: &Net) {
    let peer = net.client.clone();
    net.ip(&["link", "add", "s0", "type", "veth", "peer", "name", "c0", "netns", &peer]);
    net.ip(&["address", "add", "10.77.0.1/24", "dev", "s0"]);
    net.ip(&["link", "set", "s0", "up"]);
    net.client(&["ip", "link", "set", "c0", "address", MAC]);
    net.client(&["ip", "link", "set", "c0", "up"]);
}

#[test]
fn an_interface_that_is_made_anew_is_served_again() {
    let Some(net) = Net::new(&["busybox", "curl"]) else { return };
    let site = Site::with_base();
    site.done(&["sharepxe", "--default", "base"]);
    let running = Running::start(&site, &net, &[&SERVE[..], &["600"]].concat());
    net.ipxe(&site);
    net.ip(&["link", "delete", "s0"]);
    make_anew(&net);
    until(&site, "out", "  DHCP s0 10.77.0.1: serves", 2);
    let script = net.ipxe(&site);
    net.client(&["curl", "-sf", &script]);
    assert!(running.end(Signal::SIGTERM).success());
}

#[test]
fn a_server_outlives_its_only_interface() {
    let Some(net) = Net::new(&["busybox"]) else { return };
    let site = Site::with_base();
    site.done(&["sharepxe", "--default", "base"]);
    let running = Running::start(&site, &net, &[&SERVE[..], &["600"]].concat());
    net.ip(&["link", "delete", "s0"]);
    until(&site, "log", "s0: the interface is gone", 1);
    let status = site.prints(&["status", "-j"]);
    assert!(status.contains("\"absent\""), "{status}");
    make_anew(&net);
    until(&site, "out", "  DHCP s0 10.77.0.1: serves", 2);
    net.ipxe(&site);
    let status = site.prints(&["status", "-j"]).replace(' ', "");
    assert!(status.contains("\"leased\":1"), "{status}");
    assert!(running.end(Signal::SIGTERM).success());
}

#[test]
fn an_address_that_an_interface_gets_later_is_served_from() {
    let Some(net) = Net::new(&["busybox"]) else { return };
    let site = Site::with_base();
    site.done(&["sharepxe", "--default", "base"]);
    let second = ["600", "--subnet", "10.78.0.0/24,range=10.78.0.100-10.78.0.199"];
    let _running = Running::start(&site, &net, &[&SERVE[..], &second].concat());
    net.ip(&["address", "delete", "10.77.0.1/24", "dev", "s0"]);
    net.ip(&["address", "add", "10.78.0.1/24", "dev", "s0"]);
    until(&site, "log", "s0: its addresses or state changed", 1);
    let script = net.ipxe(&site);
    assert!(script.starts_with("http://10.78.0.1/"), "{script}");
}
