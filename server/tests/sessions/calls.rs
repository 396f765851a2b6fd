//! Remote procedure calls from given ports with given transactions, and what every answer has to be.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use fixtures::session::{Rpc, Transport};
use socket2::Type;
use wire::record::{self, Records};
use wire::rpc::{AuthSys, Call, Credential, Gids};
use wire::xdr::Encoder;

use crate::port;

/// What a call asks, apart from how it travels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) program: u32,
    pub(crate) version: u32,
    pub(crate) procedure: u32,
    /// Whether it says that root asks; otherwise it says nothing of who asks.
    pub(crate) as_root: bool,
    pub(crate) args: &'a [u8],
}

/// The sockets of a machine.
#[derive(Debug)]
pub(crate) struct Calls {
    /// The largest packet of its network.
    pub(crate) mtu: usize,
    own: Ipv4Addr,
    server: Ipv4Addr,
    udp: HashMap<u16, UdpSocket>,
    tcp: HashMap<(u16, u16), Connection>,
}

impl Calls {
    pub(crate) fn new(own: Ipv4Addr, server: Ipv4Addr) -> Self {
        Self { mtu: 1500, own, server, udp: HashMap::new(), tcp: HashMap::new() }
    }

    /// Sends what was recorded of `call` to a port of the server and gives the results.
    ///
    /// Over UDP nothing is sent twice, as FreeBSD's loader would: each call has to be answered.
    pub(crate) fn ask(&mut self, call: &Rpc<'_>, to: u16, question: Question<'_>) -> Vec<u8> {
        let sys = AuthSys { stamp: 0, machine_name: &[], uid: 0, gid: 0, gids: Gids::default() };
        let Question { program, version, procedure, as_root, args } = question;
        let credential = if as_root { Credential::Sys(sys) } else { Credential::None };
        let call_bytes = |out: &mut Vec<u8>| {
            let message = Call { xid: call.xid, program, version, procedure, credential, args };
            message.encode(&mut Encoder::new(out));
        };
        let to = SocketAddr::from((self.server, to));
        let from = SocketAddr::from((self.own, call.port));
        let reply = match call.transport {
            Transport::Udp => {
                let mut message = Vec::new();
                call_bytes(&mut message);
                let socket = self.udp.entry(call.port).or_insert_with(|| {
                    let socket = UdpSocket::from(port::take(Type::DGRAM, from, None));
                    socket.set_read_timeout(Some(REPLY_TIMEOUT)).unwrap();
                    socket
                });
                socket.send_to(&message, to).unwrap();
                let mut reply = vec![0; 0x1_0000];
                let (len, sender) = socket.recv_from(&mut reply).unwrap_or_else(|error| {
                    panic!("no answer to {call:?}: {error}");
                });
                assert_eq!(sender, to, "{call:?} was answered from elsewhere");
                // FreeBSD's loader cannot put IP fragments together, in whatever order they come
                // (ip_reasm_add in stand/libsa/ip.c): it throws them away and asks again for ever.
                let most = self.mtu - IP_AND_UDP;
                assert!(len <= most, "{call:?}: the answer comes in fragments: {len} bytes");
                reply.truncate(len);
                reply
            }
            Transport::Tcp => {
                let mut message = Vec::new();
                let place = record::begin(&mut message);
                call_bytes(&mut message);
                record::end(&mut message, place).unwrap();
                let connection = self.tcp.entry((call.port, to.port()));
                connection.or_insert_with(|| Connection::open(from, to)).exchange(&message)
            }
        };
        // `xid`, REPLY, MSG_ACCEPTED, an AUTH_NONE verifier without bytes, SUCCESS: FreeBSD's loader
        // takes nothing else.
        let (head, results) = reply.split_at_checked(24).unwrap_or((&reply, &[]));
        let expected = [call.xid, 1, 0, 0, 0, 0].map(u32::to_be_bytes);
        assert_eq!(head, expected.as_flattened(), "the head of the answer to {call:?}");
        results.to_vec()
    }

    /// Lets go of connections to a server that is no more.
    pub(crate) fn hang_up(&mut self) {
        self.tcp.clear();
    }

    /// Whether any answer came that nobody waits for.
    pub(crate) fn has_stray_answers(&self) -> bool {
        self.udp.values().any(|socket| {
            socket.set_nonblocking(true).unwrap();
            let stray = socket.recv(&mut [0; 4]);
            socket.set_nonblocking(false).unwrap();
            !stray.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        })
    }
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    records: Records,
}

impl Connection {
    /// Connects from a given port, which may have been used with an earlier server.
    fn open(from: SocketAddr, to: SocketAddr) -> Self {
        let socket = port::take(Type::STREAM, from, None);
        socket.connect_timeout(&to.into(), REPLY_TIMEOUT).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(REPLY_TIMEOUT)).unwrap();
        Self { stream, records: Records::new(0x2_0000) }
    }

    fn exchange(&mut self, message: &[u8]) -> Vec<u8> {
        self.stream.write_all(message).unwrap();
        let mut piece = vec![0; 0x1_0000];
        loop {
            if let Some(record) = self.records.next_record().unwrap() {
                return record.to_vec();
            }
            let len = self.stream.read(&mut piece).unwrap();
            assert!(len > 0, "the server hung up");
            self.records.space().extend_from_slice(&piece[..len]);
        }
    }
}

/// The headers of a datagram.
const IP_AND_UDP: usize = 28;

/// How long an answer may take on a computer that does much else.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(20);
