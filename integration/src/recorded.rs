//! A recorded FreeBSD machine, as a client that lives on: it boots once, and then its kernel's calls
//! are made again and again.
//!
//! A call is repeated until it is answered, over a new connection if need be, as FreeBSD's kernel does
//! with its root; NFS3ERR_JUKEBOX is waited out. Any other answer than the recorded one is noted.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fixtures::session::{self, Dhcp, Kind, LOADER_EFI_12_1, Message, Rpc, Session, Transport};
use socket2::{Domain, Socket, Type};

use crate::failure::{During, Failure, ensure};
use crate::forged;
use crate::interrupt;
use crate::net::{BROADCAST, CLIENT_INTERFACE, Namespace, PREFIX, SERVER};
use crate::rpc::{self, Client, Procedure};
use crate::xdr::{Reader, long, opaque, word};

/// Fills an empty directory with the tree that the recorded machine met.
pub(crate) fn furnish(root: &Path) -> Result<(), Failure> {
    let what = format!("making a recorded tree in {}", root.display());
    for node in Session::parse(LOADER_EFI_12_1).tree() {
        let path = root.join(node.path.trim_start_matches('/'));
        match node.kind {
            Kind::Folder => fs::create_dir_all(path).during(&what)?,
            Kind::Link => symlink("elsewhere", path).during(&what)?,
            Kind::File { len } => {
                fs::write(path, session::content(&node.path, len)).during(&what)?
            }
        }
    }
    // An environment has a kernel and every loader.
    for name in ["kernel/kernel", "loader.efi", "pxeboot"] {
        let path = root.join("boot").join(name);
        fs::create_dir_all(path.parent().unwrap_or(root)).during(&what)?;
        fs::File::options().append(true).create(true).open(path).during(&what)?;
    }
    Ok(())
}

/// What became of such a machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    /// How many calls were answered.
    pub(crate) calls: u64,
    /// Answers that it should not have seen, the first of each kind.
    pub(crate) wrong: Vec<String>,
}

/// Boots the machine with this Ethernet address, whose environment is `environment`, in a namespace of
/// its own, and lives until `stop`. `up` is set when it is up.
pub(crate) fn live(
    own: &Namespace,
    mac: [u8; 6],
    environment: &str,
    up: &AtomicBool,
    stop: &AtomicBool,
) -> Result<Life, Failure> {
    own.ip(&format!("address add {TEMPORARY}/{PREFIX} dev {CLIENT_INTERFACE}"))?;
    own.enter()?;
    let session = Session::parse(LOADER_EFI_12_1);
    let mut machine = Machine {
        own,
        mac,
        environment,
        stop,
        session: &session,
        handles: BTreeMap::new(),
        offer: None,
        tcp: None,
        udp: None,
        life: Life::default(),
    };
    let lived = machine.boot_and_run(up);
    match lived {
        Err(Failure::Interrupted) => return Err(Failure::Interrupted),
        Err(Failure::Said(words)) => machine.life.wrong.push(words),
        Ok(()) => {}
    }
    Ok(machine.life)
}

struct Machine<'a> {
    own: &'a Namespace,
    mac: [u8; 6],
    environment: &'a str,
    stop: &'a AtomicBool,
    session: &'a Session<'a>,
    handles: BTreeMap<String, Vec<u8>>,
    offer: Option<Ipv4Addr>,
    tcp: Option<Client>,
    udp: Option<UdpSocket>,
    life: Life,
}

impl Machine<'_> {
    /// Boots, and then does again and again what its kernel did, until it is stopped.
    fn boot_and_run(&mut self, up: &AtomicBool) -> Result<(), Failure> {
        let session = self.session;
        for step in &session.steps {
            self.play(&step.message)?;
        }
        up.store(true, Ordering::Relaxed);
        let kernel = session.steps.iter().filter_map(|step| step.rpc());
        let kernel: Vec<_> = kernel.filter(|call| call.transport == Transport::Tcp).collect();
        while !self.stop.load(Ordering::Relaxed) {
            for call in &kernel {
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
                self.call(call)?;
                thread::sleep(PACE);
            }
        }
        Ok(())
    }

    fn play(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        match message {
            Message::Dhcp(message) => self.dhcp(message),
            Message::Rpc(call) => self.call(call),
            // What a loader loads is proven elsewhere.
            Message::Tftp(_) => Ok(()),
        }
    }

    /// Sends what was recorded with its own Ethernet address, and takes the address that it gets.
    fn dhcp(&mut self, message: &Dhcp) -> Result<(), Failure> {
        let mut payload = message.payload.clone();
        let part = |payload: &mut Vec<u8>, at: usize, bytes: &[u8]| {
            let place = payload.get_mut(at..at + bytes.len());
            if let Some(place) = place {
                place.copy_from_slice(bytes);
            }
        };
        part(&mut payload, 28, &self.mac);
        // The answer comes by broadcast: a socket without raw frames hears no other.
        part(&mut payload, 10, &[0x80, 0]);
        if let (Some(at), Some(address)) = (forged::option(&payload, 50), self.offer) {
            part(&mut payload, at, &address.octets());
        }
        let socket = forged::socket(CLIENT_INTERFACE)?;
        let xid = payload.get(4..8).map(<[u8]>::to_vec).unwrap_or_default();
        let mut answer = vec![0; 1500];
        for _ in 0..TRIES {
            socket.send_to(&payload, (BROADCAST, 67)).during("a recorded DHCP message")?;
            let Ok(count) = socket.recv(&mut answer) else { continue };
            let answer = answer.get(..count).unwrap_or_default();
            if answer.get(4..8) != Some(&xid[..]) || answer.get(28..34) != Some(&self.mac[..]) {
                continue;
            }
            let given = answer.get(16..20).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            let given = Ipv4Addr::from(given.unwrap_or_default());
            if self.offer.replace(given).is_some() {
                self.own.ip(&format!("address flush dev {CLIENT_INTERFACE}"))?;
                self.own.ip(&format!("address add {given}/{PREFIX} dev {CLIENT_INTERFACE}"))?;
            }
            return Ok(());
        }
        Err(Failure::said("the recorded machine got no answer from DHCP"))
    }

    fn call(&mut self, call: &Rpc<'_>) -> Result<(), Failure> {
        let times = call.times.min(REPEATS);
        (0..times.max(1)).try_for_each(|turn| self.call_once(call, turn))
    }

    fn call_once(&mut self, call: &Rpc<'_>, turn: u32) -> Result<(), Failure> {
        let [first, second, third] = call.args;
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        let handle = |machine: &Self| machine.handles.get(first).cloned().unwrap_or_default();
        let mut out = Vec::new();
        let procedure = match call.procedure {
            "MNT" => {
                let path = first.replacen("/be/head", &format!("/be/{}", self.environment), 1);
                opaque(&mut out, path.as_bytes());
                Procedure(MOUNT, 3, 1)
            }
            "GETATTR" | "FSSTAT" | "FSINFO" | "READLINK" => {
                opaque(&mut out, &handle(self));
                let number = match call.procedure {
                    "GETATTR" => 1,
                    "READLINK" => 5,
                    "FSSTAT" => 18,
                    _fsinfo => 19,
                };
                Procedure(NFS, 3, number)
            }
            "ACCESS" => {
                opaque(&mut out, &handle(self));
                word(&mut out, 0x3f);
                Procedure(NFS, 3, 4)
            }
            "LOOKUP" => {
                opaque(&mut out, &handle(self));
                opaque(&mut out, second.as_bytes());
                Procedure(NFS, 3, 3)
            }
            "READ" => {
                opaque(&mut out, &handle(self));
                long(&mut out, number(second) + u64::from(turn) * number(third));
                word(&mut out, u32::try_from(number(third)).unwrap_or(0));
                Procedure(NFS, 3, 6)
            }
            "READDIR" => {
                opaque(&mut out, &handle(self));
                out.extend_from_slice(&[0; 16]);
                word(&mut out, 8704);
                Procedure(NFS, 3, 16)
            }
            // Where services are is asked by this machine's own means; it changes nothing.
            _other => return Ok(()),
        };
        let results = self.ask(call, procedure, &out)?;
        let mut reader = Reader::new(&results);
        let status = reader.word()?;
        if status != call.status {
            self.wrong(call, &format!("status {status}, not {}", call.status));
            return Ok(());
        }
        self.life.calls += 1;
        if status != 0 {
            return Ok(());
        }
        match (call.procedure, call.handle) {
            ("MNT" | "LOOKUP", Some(name)) => {
                let found = reader.opaque()?.to_vec();
                let known = self.handles.entry(name.to_owned()).or_insert_with(|| found.clone());
                if *known != found {
                    self.wrong(call, "another handle than before");
                }
            }
            ("READ", _) => {
                reader.optional(ATTRIBUTES)?;
                let (_count, _end) = (reader.word()?, reader.word()?);
                let data = reader.opaque()?;
                let path = self.session.paths.get(first).map(String::as_str).unwrap_or_default();
                let offset = number(second) + u64::from(turn) * number(third);
                let all = session::content(path, offset + data.len() as u64);
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                if all.get(offset..) != Some(data) {
                    self.wrong(call, "other bytes than the file has");
                }
            }
            _other => {}
        }
        Ok(())
    }

    /// Asks until there is an answer that is not "later".
    fn ask(
        &mut self,
        call: &Rpc<'_>,
        procedure: Procedure,
        out: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let begin = Instant::now();
        loop {
            interrupt::check()?;
            let asked = match call.transport {
                Transport::Tcp => self.ask_by_tcp(procedure, out),
                Transport::Udp => self.ask_by_udp(call, procedure, out),
            };
            match asked {
                Ok(results) if results.get(..4) != Some(&JUKEBOX.to_be_bytes()[..]) => {
                    return Ok(results);
                }
                Ok(_later) => thread::sleep(Duration::from_secs(1)),
                Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                Err(Failure::Said(words)) => {
                    self.tcp = None;
                    ensure(begin.elapsed() < LONGEST, || {
                        format!(
                            "{}: no answer for {} s: {words}",
                            call.procedure,
                            LONGEST.as_secs()
                        )
                    })?;
                    if self.stop.load(Ordering::Relaxed) {
                        return Err(Failure::Said(format!("in the end: {words}")));
                    }
                    thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }

    fn ask_by_tcp(&mut self, procedure: Procedure, out: &[u8]) -> Result<Vec<u8>, Failure> {
        if procedure.0 == MOUNT {
            let port = rpc::port_of(MOUNT, 3)?;
            return Client::connect_as_root(port, MOUNT_OWN_PORT)?.call(procedure, out);
        }
        let client = match &mut self.tcp {
            Some(client) => client,
            none => none.insert(Client::connect_as_root(NFS_PORT, OWN_PORT)?),
        };
        client.call(procedure, out)
    }

    fn ask_by_udp(
        &mut self,
        call: &Rpc<'_>,
        procedure: Procedure,
        out: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let port = if procedure.0 == MOUNT { rpc::port_of_udp(MOUNT, 3)? } else { NFS_PORT };
        let socket = match &mut self.udp {
            Some(socket) => socket,
            none => {
                let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).during("UDP")?;
                let own = std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, LOADER_PORT));
                socket.bind(&own.into()).during("UDP")?;
                socket.set_read_timeout(Some(Duration::from_secs(2))).during("UDP")?;
                none.insert(socket.into())
            }
        };
        let server: Ipv4Addr = SERVER.parse().map_err(|_error| Failure::said(SERVER))?;
        rpc::ask_by_datagram(socket, (server, port), call.xid, procedure, out)
    }

    fn wrong(&mut self, call: &Rpc<'_>, what: &str) {
        let path = call.args.first().and_then(|handle| self.session.paths.get(handle));
        let path = path.map(String::as_str).unwrap_or_default();
        let words = format!("{} {path} {}: {what}", call.procedure, call.args[1]);
        if self.life.wrong.len() < 20 {
            self.life.wrong.push(words);
        }
    }
}

const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;
const NFS_PORT: u16 = 2049;
/// The ports of FreeBSD's kernel, of its mount_nfs, and of its loader.
const OWN_PORT: u16 = 735;
const MOUNT_OWN_PORT: u16 = 612;
const LOADER_PORT: u16 = 1023;
/// An address for DHCP's messages: a socket without raw frames needs one.
const TEMPORARY: &str = "10.77.0.240";
const JUKEBOX: u32 = 10_008;
/// The size of a file's attributes (RFC 1813 §2.6, `fattr3`).
const ATTRIBUTES: usize = 84;
/// How often a DHCP message is sent.
const TRIES: u32 = 10;
/// So many of a long row of READs show all that it can show.
const REPEATS: u32 = 4;
/// How long the kernel rests between two calls.
const PACE: Duration = Duration::from_millis(30);
/// How long a call may be without an answer: longer than any trouble that is made.
const LONGEST: Duration = Duration::from_secs(150);
