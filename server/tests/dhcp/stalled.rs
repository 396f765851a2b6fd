//! A disk that hangs keeps those waiting who are given an address, and nobody else.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use netbe::clock::SystemClock;
use netbe::dhcp::{Arrival, Binding, Dhcp, Leases, Log, Mode, Port, Reply, Step};
use netbe::net::Mac;
use netbe::net::interface::{Interface, Network};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use wire::dhcp4::{Message, MessageType};

use crate::bench::*;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);

/// A log that does each step when the test says how it ends, and tells that it waits.
struct Stalling {
    begun: Sender<&'static str>,
    ends: Receiver<io::Result<()>>,
    written: Arc<Mutex<Vec<Binding>>>,
}

impl Stalling {
    fn step(&self, name: &'static str) -> io::Result<()> {
        let _ = self.begun.send(name);
        self.ends.recv().unwrap_or(Ok(()))
    }
}

impl Log for Stalling {
    fn append(&mut self, bindings: &[Binding]) -> io::Result<()> {
        self.step("append")?;
        self.written.lock().unwrap().extend(bindings);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.step("sync")
    }

    fn compact(&mut self) -> io::Result<()> {
        self.step("compact")
    }
}

/// A server with a disk that the test holds.
struct Held {
    dhcp: Arc<Dhcp>,
    fake: Arc<Fake>,
    begun: Receiver<&'static str>,
    ends: Sender<io::Result<()>>,
    written: Arc<Mutex<Vec<Binding>>>,
    to_send: UnboundedSender<io::Result<Reply>>,
    replies: UnboundedReceiver<io::Result<Reply>>,
}

impl Held {
    fn new() -> Self {
        let (begin, begun) = channel();
        let (ends, end) = channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let log = Stalling { begun: begin, ends: end, written: Arc::clone(&written) };
        let fake = Arc::new(Fake::default());
        let settings = settings("10.77.0.100-10.77.0.199");
        let booter = Arc::<Fake>::clone(&fake);
        let clock = Arc::new(SystemClock);
        let dhcp = Dhcp::with_log(settings, booter, Leases::default(), log, clock).unwrap();
        let (to_send, replies) = unbounded_channel();
        Self { dhcp, fake, begun, ends, written, to_send, replies }
    }

    fn handle(&self, bytes: &[u8], interface: &str) -> Step {
        let interface = Interface {
            name: interface.to_owned(),
            index: 7,
            mac: Some(Mac([2, 0, 0, 0, 0, 0xfe])),
            networks: vec![Network::new(SERVER, 24)],
            up: true,
            broadcast: true,
            loopback: false,
            mtu: Some(1500),
        };
        let source = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let (mode, port) = (Mode::Serve, Port::Dhcp);
        let destination = Ipv4Addr::BROADCAST;
        let arrival = Arrival { interface: &interface, mode, port, destination, source };
        self.dhcp.handle(bytes, &arrival, &self.to_send)
    }

    /// Asks for an address on an interface; gives the one that is offered.
    fn offered(&self, n: u8, interface: &str) -> Option<Ipv4Addr> {
        match self.handle(&discover(machine(n)), interface) {
            Step::Send(reply) => Some(Message::decode(&reply.bytes).unwrap().yiaddr),
            Step::Silence(_) | Step::Writing | Step::Failed(_) => None,
        }
    }

    /// Waits until the disk is in a step.
    fn waits_in(&self, step: &str) {
        assert_eq!(self.begun.recv_timeout(Duration::from_secs(10)), Ok(step));
    }

    fn end(&self, result: io::Result<()>) {
        self.ends.send(result).unwrap();
    }

    fn reply(&mut self) -> io::Result<Reply> {
        self.replies.blocking_recv().unwrap()
    }
}

#[test]
fn a_stalled_journal_keeps_nobody_waiting_but_who_is_given_an_address() {
    let mut held = Held::new();
    assert_eq!(held.offered(1, "eth0"), Some(ADDRESS));
    let begun = Instant::now();
    assert!(matches!(held.handle(&select(machine(1), ADDRESS, SERVER), "eth0"), Step::Writing));
    held.waits_in("append");
    for n in 2..100 {
        assert!(held.offered(n, "eth0").is_some() && held.offered(n, "eth1").is_some(), "{n}");
    }
    assert_eq!(held.dhcp.bindings().len(), 99);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(held.replies.try_recv().is_err(), "an ACK left before its record was written");
    assert!(held.written.lock().unwrap().is_empty());
    held.end(Ok(()));
    assert_eq!(kind(&held.reply().unwrap()), MessageType::Ack);
    assert_eq!(held.written.lock().unwrap().len(), 1);
}

#[test]
fn a_journal_that_is_being_synced_or_compacted_keeps_nobody_waiting() {
    let mut held = Held::new();
    held.offered(1, "eth0").unwrap();
    let _ = held.handle(&select(machine(1), ADDRESS, SERVER), "eth0");
    held.waits_in("append");
    held.end(Ok(()));
    held.reply().unwrap();
    held.waits_in("sync");
    assert!(held.offered(2, "eth0").is_some());
    held.end(Ok(()));
    held.waits_in("compact");
    assert!(held.offered(3, "eth1").is_some());
    held.end(Ok(()));
}

#[test]
fn a_named_machines_first_ack_leaves_when_its_record_is_on_the_disk() {
    let mut held = Held::new();
    held.fake
        .reservations
        .lock()
        .unwrap()
        .insert(machine(1), netbe::boot::Reservation { address: None, name: "web1".to_owned() });
    held.offered(1, "eth0").unwrap();
    let _ = held.handle(&select(machine(1), ADDRESS, SERVER), "eth0");
    held.waits_in("append");
    held.end(Ok(()));
    held.waits_in("sync");
    assert!(held.replies.try_recv().is_err(), "an ACK left before its record was on the disk");
    held.end(Ok(()));
    assert_eq!(kind(&held.reply().unwrap()), MessageType::Ack);
}

#[test]
fn what_was_not_written_is_not_acknowledged_and_its_repetition_waits_for_the_disk() {
    let mut held = Held::new();
    held.offered(1, "eth0").unwrap();
    let request = select(machine(1), ADDRESS, SERVER);
    let _ = held.handle(&request, "eth0");
    held.waits_in("append");
    held.end(Err(io::Error::from(io::ErrorKind::StorageFull)));
    assert_eq!(held.reply().unwrap_err().kind(), io::ErrorKind::StorageFull);
    let _ = held.handle(&request, "eth0");
    held.waits_in("append");
    held.end(Ok(()));
    held.waits_in("sync");
    assert!(held.replies.try_recv().is_err(), "a disk that failed was believed at once");
    held.end(Ok(()));
    assert_eq!(kind(&held.reply().unwrap()), MessageType::Ack);
}
