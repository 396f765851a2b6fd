//! A server on a bench: an interface, a booter that remembers, clients, and a strict reader.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use netbe::boot::{
    Answer, Ask, BootFile, Booter, Client, ClientAddress, Event, FileError, FileRequest,
    Reservation, Roots,
};
use netbe::dhcp::{
    Action, Arrival, Destination, Journal, Leases, Mode, Parameters, Port, Reply, Server, Settings,
    Silence, Subnet,
};
use netbe::net::Mac;
use netbe::net::interface::{Interface, Network};
use wire::dhcp4::{Builder, Code, Message, MessageType};

/// Our address.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The machine of the recordings.
pub(crate) const RECORDED: Mac = Mac([0x52, 0x54, 0, 0x77, 0, 1]);

/// Knows what tests tell it, and remembers what it hears.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) reservations: Mutex<HashMap<Mac, Reservation>>,
    pub(crate) live: Mutex<HashSet<Ipv4Addr>>,
    pub(crate) answers: Mutex<HashMap<Client, Answer>>,
    pub(crate) asked: Mutex<Vec<Ask>>,
    pub(crate) events: Mutex<Vec<(ClientAddress, Event)>>,
}

impl Booter for Fake {
    fn reservation(&self, mac: Mac) -> Option<Reservation> {
        self.reservations.lock().unwrap().get(&mac).cloned()
    }

    fn reserved_for(&self, address: Ipv4Addr) -> Option<String> {
        let all = self.reservations.lock().unwrap();
        all.values().find(|kept| kept.address == Some(address)).map(|kept| kept.name.clone())
    }

    fn unreserved(&self) -> Vec<Vec<Mac>> {
        let all = self.reservations.lock().unwrap();
        let mut machines = HashMap::<&str, Vec<Mac>>::new();
        for (mac, kept) in all.iter().filter(|(_, kept)| kept.address.is_none()) {
            machines.entry(&kept.name).or_default().push(*mac);
        }
        machines.into_values().collect()
    }

    fn lives(&self, address: Ipv4Addr) -> bool {
        self.live.lock().unwrap().contains(&address)
    }

    fn decide(&self, ask: &Ask) -> Option<Answer> {
        self.asked.lock().unwrap().push(ask.clone());
        self.answers.lock().unwrap().get(&ask.client).cloned()
    }

    fn open(&self, _request: &FileRequest<'_>) -> Result<BootFile, FileError> {
        Err(FileError::NotFound)
    }

    fn awaited_root(&self, _address: IpAddr) -> Option<String> {
        None
    }

    fn roots_of(&self, _address: IpAddr) -> Roots {
        Roots::default()
    }

    fn report(&self, client: ClientAddress, event: Event) {
        self.events.lock().unwrap().push((client, event));
    }
}

/// A server on one interface at a time of its own.
pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) fake: Arc<Fake>,
    pub(crate) interface: Interface,
    pub(crate) mode: Mode,
    pub(crate) now: SystemTime,
    journal: Journal,
    folder: tempfile::TempDir,
}

impl Bench {
    /// A server that hands out 10.77.0.100 to 10.77.0.199.
    pub(crate) fn new() -> Self {
        Self::with_range("10.77.0.100-10.77.0.199")
    }

    pub(crate) fn with_range(range: &str) -> Self {
        Self::with(settings(range))
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake = Arc::new(Fake::default());
        let (server, journal) = open(folder.path(), settings, &fake);
        let interface = Interface {
            name: "bench0".to_owned(),
            index: 7,
            mac: Some(Mac([2, 0, 0, 0, 0, 0xfe])),
            networks: vec![Network::new(SERVER, 24)],
            up: true,
            broadcast: true,
            loopback: false,
            mtu: Some(1500),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        Self { server, fake, interface, mode: Mode::Serve, now, journal, folder }
    }

    /// What is left when the process is killed and started again.
    pub(crate) fn killed(&mut self, range: &str) {
        (self.server, self.journal) = open(self.folder.path(), settings(range), &self.fake);
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    pub(crate) fn answers(&self, client: Client, answer: Answer) {
        self.fake.answers.lock().unwrap().insert(client, answer);
    }

    pub(crate) fn reserve(&self, mac: Mac, address: [u8; 4]) {
        let kept = Reservation { address: Some(address.into()), name: "kept".to_owned() };
        self.fake.reservations.lock().unwrap().insert(mac, kept);
    }

    pub(crate) fn live(&self, address: [u8; 4]) {
        self.fake.live.lock().unwrap().insert(address.into());
    }

    pub(crate) fn heard(&self, mac: Mac, event: &Event) -> bool {
        let events = self.fake.events.lock().unwrap();
        events.iter().any(|(client, heard)| *client == ClientAddress::Mac(mac) && heard == event)
    }

    /// A broadcast from a client without an address.
    pub(crate) fn action(&mut self, bytes: &[u8]) -> Action {
        let source = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        self.arrive(bytes, source, Ipv4Addr::BROADCAST, Port::Dhcp)
    }

    pub(crate) fn arrive(
        &mut self,
        bytes: &[u8],
        source: SocketAddrV4,
        destination: Ipv4Addr,
        port: Port,
    ) -> Action {
        let interface = &self.interface;
        let arrival = Arrival { interface, mode: self.mode, port, destination, source };
        self.server.handle(bytes, &arrival, self.now)
    }

    /// What the client gets, with everything written that has to be.
    pub(crate) fn carry_out(&mut self, action: Action) -> Result<Reply, Silence> {
        match action {
            Action::Send(reply) => Ok(reply),
            Action::Silence(silence) => Err(silence),
            Action::Commit(commit) => {
                commit.write(&mut self.journal).unwrap().ok_or(Silence::Nothing)
            }
        }
    }

    pub(crate) fn ask(&mut self, bytes: &[u8]) -> Result<Reply, Silence> {
        let action = self.action(bytes);
        self.carry_out(action)
    }

    /// The address that a client is offered.
    pub(crate) fn offered(&mut self, mac: Mac) -> Option<Ipv4Addr> {
        let reply = self.ask(&discover(mac)).ok()?;
        Some(Message::decode(&reply.bytes).unwrap().yiaddr)
    }

    /// The address that a client takes, if it gets one.
    pub(crate) fn leased(&mut self, mac: Mac) -> Option<Ipv4Addr> {
        let address = self.offered(mac)?;
        let reply = self.ask(&select(mac, address, SERVER)).unwrap();
        assert_eq!(kind(&reply), MessageType::Ack);
        Some(address)
    }
}

pub(crate) fn settings(range: &str) -> Settings {
    Settings { ranges: vec![range.parse().unwrap()], ..Settings::default() }
}

/// A subnet with a range, of which nothing else is said.
pub(crate) fn subnet(network: &str, range: &str) -> Subnet {
    Subnet {
        network: network.parse().unwrap(),
        relays: Vec::new(),
        ranges: vec![range.parse().unwrap()],
        parameters: Parameters::default(),
    }
}

fn open(folder: &Path, settings: Settings, fake: &Arc<Fake>) -> (Server, Journal) {
    let (journal, leases): (Journal, Leases) = Journal::open(&folder.join("leases")).unwrap();
    (Server::new(settings, Arc::<Fake>::clone(fake), leases), journal)
}

/// The n-th of some machines.
pub(crate) fn machine(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, n])
}

pub(crate) fn kind(reply: &Reply) -> MessageType {
    Message::decode(&reply.bytes).unwrap().options.message_type().unwrap()
}

pub(crate) fn discover(mac: Mac) -> Vec<u8> {
    Builder::request(MessageType::Discover, 1, mac.0).finish()
}

/// A REQUEST that takes up an offer.
pub(crate) fn select(mac: Mac, address: Ipv4Addr, server: Ipv4Addr) -> Vec<u8> {
    let mut request = Builder::request(MessageType::Request, 1, mac.0);
    request.set(Code::REQUESTED_ADDRESS, address.octets());
    request.set(Code::SERVER_IDENTIFIER, server.octets());
    request.finish()
}

/// A message about an address that the client uses.
pub(crate) fn from_holder(kind: MessageType, mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut request = Builder::request(kind, 1, mac.0);
    request.ciaddr(address);
    request.finish()
}

/// A message that names an address in option 50.
pub(crate) fn naming(kind: MessageType, mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut request = Builder::request(kind, 1, mac.0);
    request.set(Code::REQUESTED_ADDRESS, address.octets());
    request.finish()
}

/// A recorded message, by the name of its file.
pub(crate) fn recorded(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/captures/dhcp");
    let text = std::fs::read_to_string(folder.join(format!("{name}.hex"))).unwrap();
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// All recordings.
pub(crate) const RECORDINGS: [&str; 7] = [
    "ipxe",
    "ovmf",
    "pxeboot-10.1",
    "pxeboot-12.1",
    "loader-efi-12.1",
    "loader-efi-rev3",
    "bootp-kernel-12.1",
];

/// Reads a reply as FreeBSD's loader does: every byte before the end is an option's number, a PAD
/// too, no option is joined or found elsewhere, and 53 comes first.
pub(crate) fn strictly(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    assert!(bytes.len() >= 300, "the kernel drops replies under 300 bytes");
    assert_eq!(bytes[0], 2);
    assert_eq!(bytes[236..240], [99, 130, 83, 99]);
    let mut options: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut at = 240;
    while bytes[at] != 255 {
        let (code, len) = (bytes[at], usize::from(bytes[at + 1]));
        assert_ne!(code, 0, "a pad before the end");
        assert_ne!(code, 52, "options in other fields");
        assert!(options.iter().all(|(seen, _)| *seen != code), "option {code} twice");
        options.push((code, bytes[at + 2..at + 2 + len].to_vec()));
        at += 2 + len;
    }
    assert!(bytes[at + 1..].iter().all(|byte| *byte == 0));
    assert_eq!(options[0].0, 53);
    options
}

/// The value of an option, strictly read.
pub(crate) fn option(reply: &Reply, code: u8) -> Option<Vec<u8>> {
    strictly(&reply.bytes).into_iter().find(|(seen, _)| *seen == code).map(|(_, value)| value)
}

/// Where the reply to a client without an address goes.
pub(crate) const fn directly(mac: Mac, address: [u8; 4]) -> Destination {
    let [a, b, c, d] = address;
    Destination::Hardware { mac, address: Ipv4Addr::new(a, b, c, d) }
}
