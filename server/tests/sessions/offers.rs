//! Answers to machines that have no address yet: how they leave, and what is told when they do not.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use fixtures::session::{LOADER_EFI_12_1, Message, Session};

use crate::bench::{Net, Running, Site};
use crate::dhcp::Link;
use crate::machine::{CARD, SERVE, at_client, site};

/// Firmware's first message in a recorded boot.
fn discover<'a>(session: &'a Session<'_>) -> &'a [u8] {
    let mut messages = session.steps.iter().filter_map(|step| match &step.message {
        Message::Dhcp(message) => Some(&message.payload),
        Message::Rpc(_) | Message::Tftp(_) => None,
    });
    messages.next().unwrap()
}

/// What happened to the machine, by kind.
fn kinds(site: &Site) -> Vec<String> {
    let events: serde_json::Value =
        serde_json::from_str(&site.prints(&["log", "-j", "web1"])).unwrap();
    let events = events.as_array().unwrap().iter();
    events.map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

/// What has happened since there were so many events, once a given kind is among it.
fn since(site: &Site, before: usize, wanted: &str) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let seen = kinds(site).split_off(before);
        if seen.iter().any(|kind| kind == wanted) {
            return seen;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "no {wanted} in {seen:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The kernel's table of neighbours may be full: 1,024 entries for all interfaces, as it is set.
#[test]
fn an_offer_needs_no_entry_in_the_table_of_neighbours() {
    let Some(net) = Net::new(&[]) else { return };
    let session = Session::parse(LOADER_EFI_12_1);
    let site = site(&session);
    let _running = Running::start(&site, &net, &SERVE);
    let mut unicast = discover(&session).to_vec();
    unicast[10] &= 0x7f;
    at_client(&net, || {
        let offer = Link::open(CARD).ask(&unicast);
        assert_eq!(offer.to_mac, offer.chaddr());
    });
    let mut command = Command::new("ip");
    command.args(["neighbour", "show"]);
    let neighbours = net.beside(&command).output().unwrap();
    let neighbours = String::from_utf8(neighbours.stdout).unwrap();
    assert!(!neighbours.contains("10.77.0.100"), "{neighbours}");
}

#[test]
fn an_offer_that_the_kernel_drops_is_not_told_as_offered() {
    let Some(net) = Net::new(&["tc"]) else { return };
    let session = Session::parse(LOADER_EFI_12_1);
    let site = site(&session);
    let _running = Running::start(&site, &net, &SERVE);
    for (flags, to) in [(0x80, "everybody"), (0, "the machine alone")] {
        let mut message = discover(&session).to_vec();
        message[10] = flags;
        // Another transaction, so that the last message tells which of the two it answers.
        message[7] = message[7].wrapping_add(flags);
        let queue = |verb: &str| {
            let mut command = Command::new("tc");
            command.args(["qdisc", verb, "dev", "s0", "root", "pfifo", "limit", "0"]);
            assert!(net.beside(&command).status().unwrap().success());
        };
        queue("add");
        let before = kinds(&site).len();
        at_client(&net, || Link::open(CARD).send(&message));
        let seen = since(&site, before, "address-unavailable");
        assert!(seen.iter().all(|kind| kind != "address-offered"), "{to}: {seen:?}");
        queue("delete");
        let offer = at_client(&net, || Link::open(CARD).ask(&message));
        assert_eq!(offer.yiaddr().to_string(), "10.77.0.100", "{to}");
        since(&site, before + seen.len(), "address-offered");
    }
    let log = fs::read_to_string(site.path("log")).unwrap();
    let told = log.lines().filter(|line| line.contains("an answer to a machine was not sent"));
    assert_eq!(told.count(), 1, "once in a while, not for each: {log}");
}
