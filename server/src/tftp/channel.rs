//! The socket of one transfer: one port of ours, one client.
//!
//! It is bound to the address that the client asked, because clients compare (RFC 1350 §4), and it
//! is not connected: then the kernel would refuse packets from another port with ICMP, while the RFC
//! wants them answered with error 5.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{SockaddrStorage, recvfrom};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::debug;
use wire::tftp::{DATA_HEADER_LEN, DecodeError, ErrorCode, Packet, data_header};

use super::terms::{Terms, largest_block};
use super::transfer::wire_number;
use crate::net::arp::TABLE;
use crate::net::datagram::socket_addr;
use crate::net::sys;

/// The socket of one transfer.
#[derive(Debug)]
pub(super) struct Channel {
    socket: UdpSocket,
    peer: SocketAddr,
    block_max: u16,
    /// Whether a stranger was answered: then an ICMP error may be about that and proves nothing.
    had_stranger: bool,
    /// Whether a packet of ours was refused, as the kernel told when the next one was sent.
    refused: bool,
    /// Whether the kernel has no room for the client in its table of neighbours.
    no_room: bool,
    /// Whether the kernel cuts datagrams out of a larger buffer.
    segments: bool,
    out: Vec<u8>,
}

/// What came.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// ACK of a block.
    Ack(u16),
    /// ERROR, which is not to be answered.
    Error(ErrorCode),
    /// A datagram that is no TFTP packet of a reader: ignored.
    Noise,
    /// An ICMP port unreachable came from the client's host.
    Unreachable,
}

impl Heard {
    /// The error that it is, if it is one.
    pub(super) const fn error(&self) -> Option<ErrorCode> {
        match self {
            Self::Error(code) => Some(*code),
            Self::Ack(_) | Self::Noise | Self::Unreachable => None,
        }
    }
}

impl Channel {
    /// Opens a port of its own at `local`, the address that `peer` asked at interface `interface`.
    pub(super) fn open(local: IpAddr, interface: u32, peer: SocketAddr) -> io::Result<Self> {
        let local = match local {
            IpAddr::V4(_) => SocketAddr::new(local, 0),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                SocketAddr::V6(SocketAddrV6::new(v6, 0, 0, interface))
            }
            IpAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(v6, 0, 0, 0)),
        };
        let socket = std::net::UdpSocket::bind(local)?;
        socket.set_nonblocking(true)?;
        sys::transfer::report_unreachable(&socket)?;
        let block_max = largest_block(sys::transfer::path_mtu(local, peer), peer.is_ipv6());
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self {
            socket,
            peer,
            block_max,
            had_stranger: false,
            refused: false,
            no_room: false,
            segments: true,
            out: Vec::new(),
        })
    }

    /// The largest block that reaches the client in one piece.
    pub(super) const fn block_max(&self) -> u16 {
        self.block_max
    }

    /// Whether what was sent last is lost because the kernel has no room for another neighbour.
    pub(super) const fn has_no_room(&self) -> bool {
        self.no_room
    }

    /// Waits for a packet.
    pub(super) async fn hear(&mut self) -> Heard {
        if self.refused {
            return Heard::Unreachable;
        }
        let mut datagram = [0; PACKET_MAX];
        match self.socket.recv_from(&mut datagram).await {
            Ok((len, from)) => {
                let packet = datagram.get(..len).unwrap_or_default();
                self.understand(packet, from).await
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Receives a packet that is in the socket's buffer already; does not wait.
    ///
    /// The runtime may tell of a packet at port 69 before it tells of an older one here; this asks
    /// the kernel.
    pub(super) async fn heard_before(&mut self) -> Option<Heard> {
        let mut datagram = [0; PACKET_MAX];
        match recvfrom::<SockaddrStorage>(self.socket.as_raw_fd(), &mut datagram) {
            Ok((len, from)) => {
                let Some(from) = from.as_ref().and_then(socket_addr) else {
                    return Some(Heard::Noise);
                };
                let packet = datagram.get(..len).unwrap_or_default();
                Some(self.understand(packet, from).await)
            }
            Err(Errno::EAGAIN) => None,
            Err(error) => Some(self.failed(&error.into())),
        }
    }

    /// Sends the OACK.
    pub(super) async fn agree(&mut self, terms: &Terms) {
        self.send(&Packet::Oack(terms.granted)).await;
    }

    /// Refuses or breaks off the transfer; `message` is what the client shows on its screen.
    pub(super) async fn refuse(&mut self, code: ErrorCode, message: &str) {
        self.send(&Packet::Error { code, message: Cow::Borrowed(message.as_bytes()) }).await;
    }

    /// Sends blocks of `size` bytes that stand in `data` one after the other.
    ///
    /// Where `data` ends before the blocks do, the last one is short or empty.
    pub(super) async fn send_blocks(&mut self, blocks: Range<u64>, data: &[u8], size: u64) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let segment = size.saturating_add(DATA_HEADER_LEN);
        let mut chunks = data.chunks(size);
        let mut blocks = blocks.peekable();
        while blocks.peek().is_some() {
            let mut out = std::mem::take(&mut self.out);
            out.clear();
            let mut count = 0;
            while count < SEGMENTS_MAX && out.len().saturating_add(segment) <= DATAGRAM_MAX
                || count == 0
            {
                let Some(block) = blocks.next() else { break };
                out.extend_from_slice(&data_header(wire_number(block)));
                out.extend_from_slice(chunks.next().unwrap_or_default());
                count += 1;
            }
            self.send_together(&out, segment, count).await;
            self.out = out;
        }
    }

    /// Sends `count` packets that stand in `data` one after the other.
    async fn send_together(&mut self, data: &[u8], segment: usize, count: usize) {
        if let Ok(segment) = u16::try_from(segment)
            && count > 1
            && self.segments
        {
            let (socket, peer) = (&self.socket, self.peer);
            let send = || sys::transfer::send_segments(socket, data, segment, &peer);
            match self.socket.async_io(Interest::WRITABLE, send).await {
                Ok(true) => return self.no_room = false,
                Ok(false) => self.segments = false,
                Err(error) => return self.not_sent(&error),
            }
        }
        for packet in data.chunks(segment) {
            self.send_bytes(packet).await;
        }
    }

    async fn send(&mut self, packet: &Packet<'_>) {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        packet.encode(&mut out);
        self.send_bytes(&out).await;
        self.out = out;
    }

    /// A packet that cannot be sent is a packet lost: the timer sends it again.
    async fn send_bytes(&mut self, packet: &[u8]) {
        match self.socket.send_to(packet, self.peer).await {
            Ok(_) => self.no_room = false,
            Err(error) => self.not_sent(&error),
        }
    }

    fn not_sent(&mut self, error: &io::Error) {
        debug!(peer = %self.peer, %error, "TFTP packet not sent");
        self.refused |= self.is_refusal(error);
        self.no_room = error.raw_os_error() == Some(libc::ENOBUFS)
            && TABLE.refuses(self.peer.ip().to_canonical(), Instant::now());
    }

    /// Whether the client's host says that nobody listens.
    fn is_refusal(&self, error: &io::Error) -> bool {
        error.raw_os_error() == Some(libc::ECONNREFUSED) && !self.had_stranger
    }

    async fn understand(&mut self, packet: &[u8], from: SocketAddr) -> Heard {
        let packet = Packet::decode(packet);
        if (from.ip(), from.port()) != (self.peer.ip(), self.peer.port()) {
            self.turn_away(from, &packet).await;
            return Heard::Noise;
        }
        match packet {
            Ok(Packet::Ack { block }) => Heard::Ack(block),
            Ok(Packet::Error { code, .. }) => Heard::Error(code),
            Ok(Packet::Data { .. } | Packet::Oack(_) | Packet::Rrq(_) | Packet::Wrq(_))
            | Err(_) => {
                debug!(peer = %self.peer, "unexpected TFTP packet");
                Heard::Noise
            }
        }
    }

    /// Answers a stranger with error 5; the transfer goes on (RFC 1350 §4).
    async fn turn_away(&mut self, stranger: SocketAddr, packet: &Result<Packet<'_>, DecodeError>) {
        debug!(peer = %self.peer, %stranger, "TFTP packet from a stranger");
        // An ERROR is never answered, or two servers could keep each other busy.
        if matches!(packet, Ok(Packet::Error { .. }) | Err(_)) {
            return;
        }
        self.had_stranger = true;
        let message = Cow::Borrowed(&b"this transfer belongs to another client"[..]);
        let mut out = Vec::new();
        Packet::Error { code: ErrorCode::UNKNOWN_TRANSFER_ID, message }.encode(&mut out);
        if let Err(error) = self.socket.send_to(&out, stranger).await {
            debug!(%stranger, %error, "TFTP error not sent");
        }
    }

    fn failed(&self, error: &io::Error) -> Heard {
        if self.is_refusal(error) {
            return Heard::Unreachable;
        }
        debug!(peer = %self.peer, %error, "TFTP socket");
        Heard::Noise
    }
}

/// Bytes of the receive buffer: the longest ACK or ERROR that is read whole.
const PACKET_MAX: usize = 1500;

/// What the kernel cuts at most out of one buffer (`UDP_MAX_SEGMENTS` of older kernels).
const SEGMENTS_MAX: usize = 64;

/// What UDP carries at most over IPv4.
const DATAGRAM_MAX: usize = 65507;
