//! A machine that boots as far as it is told to, and fails there: DHCP, TFTP, HTTP and NFS as its firmware,
//! its loader and its kernel would speak them.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::failure::{During, Failure, ensure};
use crate::forged::{self, Answer, Kind, Message, Sender};
use crate::net::{CLIENT_INTERFACE, Network, PREFIX, SERVER};
use crate::rpc::{self, Client, Procedure};
use crate::xdr::{Reader, long, opaque, word};

/// A machine; its calls are made on a thread in the clients' namespace.
pub(super) struct Actor<'n> {
    network: &'n Network,
    pub(super) mac: [u8; 6],
    pub(super) address: Ipv4Addr,
    /// The boot file that it was given last.
    pub(super) file: String,
    xid: u32,
}

impl<'n> Actor<'n> {
    pub(super) fn new(network: &'n Network, number: u8) -> Self {
        let mac = [0x52, 0x54, 0, 0x77, 2, number];
        let xid = 0x7700_0000 | u32::from(number) << 8;
        Self { network, mac, address: Ipv4Addr::UNSPECIFIED, file: String::new(), xid }
    }

    fn ask(&mut self, message: &Message) -> Result<Option<Answer>, Failure> {
        self.xid += 1;
        forged::ask(&forged::socket(CLIENT_INTERFACE)?, message, self.xid)
    }

    /// Asks for an address, and does no more.
    pub(super) fn discovers(&mut self, sender: Sender) -> Result<Option<Answer>, Failure> {
        let discover = Message { sender, ..Message::new(Kind::Discover, self.mac) };
        self.ask(&discover)
    }

    /// Asks for an address and takes it; it is then an address of the clients' interface.
    pub(super) fn leases(&mut self, sender: Sender) -> Result<(), Failure> {
        let offer = self.discovers(sender)?.ok_or_else(|| Failure::said("no offer came"))?;
        let (wanted, server) = (Some(offer.given), Some(server()?));
        let request = Message { wanted, server, sender, ..Message::new(Kind::Request, self.mac) };
        let given = self.ask(&request)?.ok_or_else(|| Failure::said("no ACK came"))?;
        ensure(given.kind == ACK, || format!("the answer is {given:?}"))?;
        (self.address, self.file) = (given.given, given.file);
        let (address, client) = (self.address, &self.network.client);
        client.ip(&format!("address replace {address}/{PREFIX} dev {CLIENT_INTERFACE}"))
    }

    /// Sends a message that asks for this address, or declines it, in the name of this server.
    pub(super) fn says(
        &mut self,
        kind: Kind,
        wanted: Ipv4Addr,
        server: Option<Ipv4Addr>,
    ) -> Result<(), Failure> {
        let wanted = Some(wanted);
        let sender = Sender::UefiPxe;
        let message = Message { wanted, server, sender, ..Message::new(kind, self.mac) };
        self.xid += 1;
        forged::send(&forged::socket(CLIENT_INTERFACE)?, &message, self.xid)
    }

    /// Asks for a file by TFTP with these options (RFC 2347); gives the socket, the first answer and who
    /// sent it.
    pub(super) fn asks(
        &self,
        name: &str,
        options: &[&str],
    ) -> Result<(UdpSocket, Vec<u8>, SocketAddr), Failure> {
        let what = "TFTP";
        let socket = UdpSocket::bind((self.address, 0)).during(what)?;
        socket.set_read_timeout(Some(Duration::from_secs(5))).during(what)?;
        let mut request = vec![0, 1];
        for text in [name, "octet"].iter().chain(options) {
            request.extend_from_slice(text.as_bytes());
            request.push(0);
        }
        socket.send_to(&request, (SERVER, 69)).during(what)?;
        let mut answer = vec![0; 2048];
        let (length, from) = socket.recv_from(&mut answer).during("an answer by TFTP")?;
        answer.truncate(length);
        Ok((socket, answer, from))
    }

    /// Fetches its boot file, whole.
    pub(super) fn fetches(&self) -> Result<Vec<u8>, Failure> {
        let (socket, mut answer, from) = self.asks(&self.file, &[])?;
        let mut whole = Vec::new();
        loop {
            let [0, 3, high, low, data @ ..] = answer.as_slice() else {
                return Err(Failure::Said(format!("{}: TFTP said {answer:?}", self.file)));
            };
            whole.extend_from_slice(data);
            let is_last = data.len() < 512;
            socket.send_to(&[0, 4, *high, *low], from).during("an ACK")?;
            if is_last {
                return Ok(whole);
            }
            let mut next = vec![0; 2048];
            let length = socket.recv(&mut next).during("a block")?;
            next.truncate(length);
            answer = next;
        }
    }

    /// Sends an error, or an ACK of block 0, to where an answer came from.
    pub(super) fn answers(
        socket: &UdpSocket,
        to: SocketAddr,
        packet: &[u8],
    ) -> Result<(), Failure> {
        socket.send_to(packet, to).during("a TFTP packet").map(drop)
    }

    /// Fetches by HTTP what lies beside its script; reads no more than so many bytes of it.
    pub(super) fn gets(&self, name: &str, most: u64) -> Result<Vec<u8>, Failure> {
        let path = self.file.strip_prefix(&format!("http://{SERVER}")).unwrap_or(&self.file);
        let (folder, _script) = path.rsplit_once('/').unwrap_or(("", ""));
        let what = format!("HTTP {folder}/{name}");
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).during(&what)?;
        // A small window: what is not read stays with the server.
        socket.set_recv_buffer_size(4096).during(&what)?;
        socket.bind(&SocketAddr::from((self.address, 0)).into()).during(&what)?;
        socket.connect(&SocketAddr::from((server()?, 80)).into()).during(&what)?;
        let mut stream = TcpStream::from(socket);
        let request = format!("GET {folder}/{name} HTTP/1.0\r\nHost: {SERVER}\r\n\r\n");
        stream.write_all(request.as_bytes()).during(&what)?;
        let mut answer = Vec::new();
        stream.take(most).read_to_end(&mut answer).during(&what)?;
        Ok(answer)
    }

    /// Mounts a path; the inner failure is the server's refusal.
    pub(super) fn mounts(&self, path: &str) -> Result<Result<Vec<u8>, Failure>, Failure> {
        let port = rpc::port_of(100_005, 3)?;
        rpc::mount_by(Client::connect_from(self.address, port, 900)?, path)
    }

    /// A connection to NFS from its address.
    pub(super) fn nfs(&self) -> Result<Client, Failure> {
        Client::connect_from(self.address, 2049, 1000)
    }

    /// Sends a line to the receiver of what machines say.
    pub(super) fn tells(&self, text: &str) -> Result<(), Failure> {
        let socket = UdpSocket::bind((self.address, 0)).during("netconsole")?;
        socket.send_to(text.as_bytes(), (SERVER, 514)).during("netconsole").map(drop)
    }
}

/// FSINFO, which every kernel asks when it mounts.
pub(super) fn fsinfo(client: &mut Client, root: &[u8]) -> Result<u32, Failure> {
    let mut arguments = Vec::new();
    opaque(&mut arguments, root);
    status(client, 19, &arguments)
}

/// LOOKUP of a name in a directory.
pub(super) fn lookup(client: &mut Client, root: &[u8], name: &str) -> Result<Vec<u8>, Failure> {
    let mut arguments = Vec::new();
    opaque(&mut arguments, root);
    opaque(&mut arguments, name.as_bytes());
    client.call(Procedure(NFS, 3, 3), &arguments)
}

/// The handle in the result of a LOOKUP that succeeded.
pub(super) fn handle(results: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut reader = Reader::new(results);
    let status = reader.word()?;
    ensure(status == 0, || format!("LOOKUP: status {status}"))?;
    Ok(reader.opaque()?.to_vec())
}

/// READ of the first bytes of a file.
pub(super) fn read(client: &mut Client, file: &[u8]) -> Result<u32, Failure> {
    let mut arguments = Vec::new();
    opaque(&mut arguments, file);
    long(&mut arguments, 0);
    word(&mut arguments, 1024);
    status(client, 6, &arguments)
}

/// CREATE, UNCHECKED and with no attribute.
pub(super) fn create(client: &mut Client, root: &[u8]) -> Result<u32, Failure> {
    let mut arguments = Vec::new();
    opaque(&mut arguments, root);
    opaque(&mut arguments, b"new");
    [0; 7].into_iter().for_each(|value| word(&mut arguments, value));
    status(client, 8, &arguments)
}

fn status(client: &mut Client, procedure: u32, arguments: &[u8]) -> Result<u32, Failure> {
    let results = client.call(Procedure(NFS, 3, procedure), arguments)?;
    Reader::new(&results).word()
}

pub(super) fn server() -> Result<Ipv4Addr, Failure> {
    SERVER.parse().map_err(|_error| Failure::said(SERVER))
}

const NFS: u32 = 100_003;
/// DHCPACK.
const ACK: u8 = 5;
