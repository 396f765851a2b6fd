//! Files by TFTP, asked for as three kinds of client do: each ends a transfer in its own way.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use socket2::Type;
use wire::tftp::{DATA_HEADER_LEN, DEFAULT_BLKSIZE, ErrorCode, Packet};

use crate::calls::REPLY_TIMEOUT;
use crate::port;

/// How a transfer ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// With ERROR 8 instead of the first ACK: OVMF wanted only the size.
    Declined,
    /// In silence after two blocks: FreeBSD's loader goes to another file or place.
    Dropped,
    /// With the last ACK.
    Finished,
    /// In silence instead of the last ACK: FreeBSD's loader has what it wants.
    Unanswered,
}

/// The sockets of a machine.
#[derive(Debug)]
pub(crate) struct Tftp {
    own: Ipv4Addr,
    server: Ipv4Addr,
    sockets: HashMap<u16, UdpSocket>,
}

impl Tftp {
    pub(crate) fn new(own: Ipv4Addr, server: Ipv4Addr) -> Self {
        Self { own, server, sockets: HashMap::new() }
    }

    /// Asks for a file; gives its size and as much of it as came, or the error's code.
    pub(crate) fn fetch(
        &mut self,
        own: u16,
        name: &str,
        options: &[(&str, &str)],
        ending: Ending,
    ) -> Result<(Option<u64>, Vec<u8>), u16> {
        let socket = self.sockets.entry(own).or_insert_with(|| {
            let socket = UdpSocket::from(port::take(Type::DGRAM, (self.own, own).into(), None));
            socket.set_read_timeout(Some(REPLY_TIMEOUT)).unwrap();
            socket
        });
        drain(socket);
        let transfer = Transfer { socket, name, deadline: Instant::now() + REPLY_TIMEOUT };
        transfer.run((self.server, 69).into(), options, ending)
    }
}

struct Transfer<'a> {
    socket: &'a UdpSocket,
    name: &'a str,
    deadline: Instant,
}

impl Transfer<'_> {
    fn run(
        &self,
        server: SocketAddr,
        options: &[(&str, &str)],
        ending: Ending,
    ) -> Result<(Option<u64>, Vec<u8>), u16> {
        let words = [self.name, "octet"].into_iter();
        let words = words.chain(options.iter().flat_map(|(name, value)| [*name, *value]));
        let text: Vec<u8> = words.flat_map(|word| [word.as_bytes(), &[0]].concat()).collect();
        self.socket.send_to(&[&[0, 1], text.as_slice()].concat(), server).unwrap();
        let (first, server) = self.receive();
        let agreed = match Packet::decode(&first).unwrap() {
            Packet::Oack(agreed) => agreed,
            Packet::Error { code, .. } => return Err(code.0),
            other
            @ (Packet::Ack { .. } | Packet::Data { .. } | Packet::Rrq(_) | Packet::Wrq(_)) => {
                panic!("{}: {other:?} instead of an OACK", self.name)
            }
        };
        let asked = |name: &str| options.iter().any(|(known, _)| *known == name);
        // FreeBSD's loader gives up when it is told what it did not ask for.
        assert_eq!(agreed.blksize.is_some(), asked("blksize"), "{}", self.name);
        assert_eq!(agreed.tsize.is_some(), asked("tsize"), "{}", self.name);
        assert_eq!(agreed.windowsize.is_some(), asked("windowsize"), "{}", self.name);
        assert_eq!(agreed.timeout, None, "{}", self.name);
        if ending == Ending::Declined {
            let message = b"User aborted the transfer".into();
            self.send(&Packet::Error { code: ErrorCode::OPTION_NEGOTIATION, message }, server);
            return Ok((agreed.tsize, Vec::new()));
        }
        self.send(&Packet::Ack { block: 0 }, server);
        let blksize = usize::from(agreed.blksize.unwrap_or(DEFAULT_BLKSIZE));
        let window = agreed.windowsize.unwrap_or(1);
        let (mut file, mut expected) = (Vec::new(), 1_u16);
        loop {
            let (packet, _) = self.receive();
            let Ok(Packet::Data { block, data }) = Packet::decode(&packet) else {
                panic!("{}: {packet:?} instead of block {expected}", self.name)
            };
            // A server that hears nothing for a few round trips sends a block again, as when this thread had
            // to wait for a processor. A client knows it by its number.
            if block == expected.wrapping_sub(1) {
                continue;
            }
            assert_eq!(block, expected, "{}", self.name);
            assert!(packet.len() <= blksize + DATA_HEADER_LEN);
            file.extend_from_slice(data);
            let is_last = data.len() < blksize;
            let stops = ending == Ending::Dropped && block == 2;
            if stops || (is_last && ending != Ending::Finished) {
                return Ok((agreed.tsize, file));
            }
            if is_last || block.is_multiple_of(window) {
                self.send(&Packet::Ack { block }, server);
            }
            if is_last {
                return Ok((agreed.tsize, file));
            }
            expected = expected.wrapping_add(1);
        }
    }

    fn send(&self, packet: &Packet<'_>, server: SocketAddr) {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes);
        self.socket.send_to(&bytes, server).unwrap();
    }

    fn receive(&self) -> (Vec<u8>, SocketAddr) {
        assert!(Instant::now() < self.deadline, "{} takes too long", self.name);
        let mut packet = vec![0; 0x1_0000];
        let received = self.socket.recv_from(&mut packet);
        let (len, server) = received.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        packet.truncate(len);
        (packet, server)
    }
}

/// Throws away what was on its way when the last transfer was dropped.
fn drain(socket: &UdpSocket) {
    socket.set_nonblocking(true).unwrap();
    while !socket.recv(&mut [0; 4]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {}
    socket.set_nonblocking(false).unwrap();
}
