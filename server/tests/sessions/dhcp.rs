//! DHCP on a wire that is listened to frame by frame: what a machine gets, and to which address.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::port;

/// A network card without an address.
#[derive(Debug)]
pub(crate) struct Link {
    frames: Socket,
    socket: UdpSocket,
}

impl Link {
    /// Opens the interface of this thread's namespace, for the messages that come next: a link that
    /// nobody reads from fills with what else is on the wire.
    pub(crate) fn open(interface: &str) -> Self {
        let every_protocol = i32::from(0x0003_u16.to_be());
        let frames = Protocol::from(every_protocol);
        let frames = Socket::new(Domain::PACKET, Type::RAW, Some(frames)).unwrap();
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68));
        let socket = port::take(Type::DGRAM, any, Some(interface));
        socket.set_broadcast(true).unwrap();
        Self { frames, socket: socket.into() }
    }

    pub(crate) fn send(&self, message: &[u8]) {
        self.socket.send_to(message, (Ipv4Addr::BROADCAST, 67)).unwrap();
    }

    /// The next answer, to whomever it is.
    pub(crate) fn receive(&self) -> Reply {
        let end = Instant::now() + ACK_TIMEOUT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no answer by DHCP");
            self.frames.set_read_timeout(Some(left)).unwrap();
            let mut frame = vec![0; 0x1_0000];
            let Ok(len) = (&self.frames).read(&mut frame) else { continue };
            frame.truncate(len);
            if let Some(reply) = Reply::of_frame(&frame) {
                return reply;
            }
        }
    }

    /// Sends a message and gives the answer to it.
    pub(crate) fn ask(&self, message: &[u8]) -> Reply {
        self.send(message);
        loop {
            let reply = self.receive();
            if reply.xid() == &message[4..8] && reply.chaddr() == &message[28..34] {
                reply.check(message);
                return reply;
            }
        }
    }
}

/// An answer, and where it was sent.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) to_mac: [u8; 6],
    pub(crate) to: Ipv4Addr,
    bytes: Vec<u8>,
    /// Every option but END, in its order.
    pub(crate) options: Vec<(u8, Vec<u8>)>,
}

impl Reply {
    /// Takes a DHCP reply out of an Ethernet frame.
    fn of_frame(frame: &[u8]) -> Option<Self> {
        let (to_mac, rest) = frame.split_first_chunk::<6>()?;
        let packet = rest.get(6..)?.strip_prefix(&[0x08, 0x00])?;
        let header = usize::from(packet.first()? & 0x0f) * 4;
        let datagram = packet.get(header..)?;
        let is_udp = packet.get(9) == Some(&17);
        if !is_udp || datagram.get(2..4)? != [0, 68] {
            return None;
        }
        let to = <[u8; 4]>::try_from(packet.get(16..20)?).ok()?.into();
        let len = usize::from(u16::from_be_bytes(datagram.get(4..6)?.try_into().ok()?));
        let bytes = datagram.get(8..len)?.to_vec();
        let options = options(&bytes);
        Some(Self { to_mac: *to_mac, to, bytes, options })
    }

    pub(crate) fn xid(&self) -> &[u8] {
        &self.bytes[4..8]
    }

    pub(crate) fn chaddr(&self) -> &[u8] {
        &self.bytes[28..34]
    }

    pub(crate) fn yiaddr(&self) -> Ipv4Addr {
        self.address(16)
    }

    pub(crate) fn siaddr(&self) -> Ipv4Addr {
        self.address(20)
    }

    /// `file`: the name of the boot file.
    pub(crate) fn file(&self) -> String {
        let name = self.bytes[108..236].split(|byte| *byte == 0).next().unwrap();
        String::from_utf8(name.to_vec()).unwrap()
    }

    pub(crate) fn option(&self, code: u8) -> Option<&[u8]> {
        let mut options = self.options.iter().filter(|(known, _)| *known == code);
        options.next().map(|(_, value)| value.as_slice())
    }

    /// What FreeBSD's loader puts into the environment (bootp.c: setenv_).
    pub(crate) fn kenv(&self) -> Vec<String> {
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let read = |(code, value): &(u8, Vec<u8>)| match code {
            246..=249 => text(value).split(';').map(str::to_owned).collect(),
            250..=254 => vec![text(value)],
            _ => Vec::new(),
        };
        self.options.iter().flat_map(read).collect()
    }

    /// What an ACK has to repeat of its OFFER: FreeBSD's loader keeps what the OFFER said.
    pub(crate) fn promise(&self) -> (&[u8], &[(u8, Vec<u8>)]) {
        // From yiaddr to the cookie, and all options behind the type.
        (&self.bytes[16..240], &self.options[1..])
    }

    /// What holds for every answer to `message`.
    fn check(&self, message: &[u8]) {
        assert_eq!(self.bytes[0], 2, "BOOTREPLY");
        assert_eq!(self.options[0].0, 53, "the loader applies what stands before the type");
        assert_eq!(self.option(52), None, "the loader knows no overload");
        let broadcast = message[10] & 0x80 != 0;
        let expected = if broadcast { [0xff; 6] } else { message[28..34].try_into().unwrap() };
        assert_eq!(self.to_mac, expected, "the frame's receiver");
        if !broadcast {
            assert_eq!(self.to, self.yiaddr());
        }
    }

    fn address(&self, at: usize) -> Ipv4Addr {
        <[u8; 4]>::try_from(&self.bytes[at..at + 4]).unwrap().into()
    }
}

/// The options, read as FreeBSD's loader reads them, to which 0 is no padding but a code.
pub(crate) fn options(message: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut rest, mut found) = (&message[240..], Vec::new());
    while rest[0] != 255 {
        assert_ne!(rest[0], 0, "padding before the end of the options: {found:?}");
        let (value, behind) = rest[2..].split_at(usize::from(rest[1]));
        found.push((rest[0], value.to_vec()));
        rest = behind;
    }
    found
}

/// Overwrites an option's value.
pub(crate) fn put(message: &mut [u8], code: u8, value: &[u8]) {
    let mut at = 240;
    while message[at] != code {
        at += 2 + usize::from(message[at + 1]);
    }
    message[at + 2..][..value.len()].copy_from_slice(value);
}

/// A new lease has to reach the disk before its ACK.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);
