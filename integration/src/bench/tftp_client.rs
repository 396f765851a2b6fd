//! A TFTP client as firmware is one: lockstep (RFC 1350), or with windows (RFC 7440).

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use crate::failure::{During, Failure, ensure};
use crate::net::SERVER;

/// What the client asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// The file's name.
    pub(super) name: &'a str,
    /// Blocks in a window; 1 is lockstep.
    pub(super) window: u16,
    /// What the file must be.
    pub(super) content: &'a [u8],
    /// The client's address, or any.
    pub(super) from: Ipv4Addr,
    /// How long the client waits for a packet before it asks again.
    pub(super) patience: Duration,
}

/// Fetches the file once, and compares every byte. Gives how many blocks it had.
pub(super) fn fetch(wish: Wish<'_>) -> Result<u32, Failure> {
    let (socket, expected) = begin(wish)?;
    let mut progress = Progress { expected, next: 1, since_ack: 0, window: wish.window, blocks: 0 };
    let mut packet = vec![0; 4 + BLOCK];
    let (mut ack, mut silences) = (0, 0);
    loop {
        let length = match socket.recv(&mut packet) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock && silences < MAX_RETRIES => {
                silences += 1;
                acknowledge(&socket, ack)?;
                continue;
            }
            Err(error) => return Err(error).during(wish.name),
        };
        match progress.take(packet.get(..length).unwrap_or_default())? {
            Reaction::Done(block) => {
                acknowledge(&socket, block)?;
                return Ok(progress.blocks);
            }
            Reaction::Acknowledge(block) => {
                ack = block;
                acknowledge(&socket, block)?;
            }
            Reaction::Wait => {}
        }
    }
}

/// Sends the request, and agrees on the options (RFC 2347).
fn begin(wish: Wish<'_>) -> Result<(UdpSocket, &[u8]), Failure> {
    let server: Ipv4Addr = SERVER.parse().map_err(|_error| Failure::said(SERVER))?;
    let socket = UdpSocket::bind((wish.from, 0)).during("a TFTP client")?;
    socket.set_read_timeout(Some(wish.patience)).during("a TFTP client")?;
    let mut options = format!("blksize\0{BLOCK}\0");
    if wish.window > 1 {
        options += &format!("windowsize\0{}\0", wish.window);
    }
    let request = format!("\0\x01{}\0octet\0{options}", wish.name);
    let mut answer = vec![0; 4 + BLOCK];
    let mut tries = 0;
    let (length, peer) = loop {
        socket.send_to(request.as_bytes(), (server, 69)).during("a TFTP request")?;
        match socket.recv_from(&mut answer) {
            Ok(answered) => break answered,
            Err(error) if error.kind() == ErrorKind::WouldBlock && tries < MAX_RETRIES => {
                tries += 1
            }
            Err(error) => return Err(error).during(wish.name),
        }
    };
    let oack = answer.get(..length).unwrap_or_default();
    ensure(oack == format!("\0\x06{options}").as_bytes(), || {
        format!("{}: the server answered {:?}", wish.name, String::from_utf8_lossy(oack))
    })?;
    socket.connect(peer).during("a TFTP client")?;
    acknowledge(&socket, 0)?;
    Ok((socket, wish.content))
}

fn acknowledge(socket: &UdpSocket, block: u16) -> Result<(), Failure> {
    let [high, low] = block.to_be_bytes();
    socket.send(&[0, 4, high, low]).during("a TFTP acknowledgement").map(|_length| ())
}

/// How far a transfer is.
#[derive(Debug)]
struct Progress<'a> {
    /// What is still to come.
    expected: &'a [u8],
    /// The number of the next block.
    next: u16,
    /// Blocks since the last acknowledgement.
    since_ack: u16,
    window: u16,
    blocks: u32,
}

/// What to do after a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reaction {
    /// Acknowledge this block.
    Acknowledge(u16),
    /// Acknowledge this block, which was the last.
    Done(u16),
    /// Nothing.
    Wait,
}

impl Progress<'_> {
    fn take(&mut self, packet: &[u8]) -> Result<Reaction, Failure> {
        // The server did not hear the acknowledgement of its options yet.
        if packet.starts_with(&[0, 6]) && self.blocks == 0 {
            return Ok(Reaction::Acknowledge(0));
        }
        let Some(([0, 3, high, low], data)) = packet.split_first_chunk() else {
            let said = String::from_utf8_lossy(packet);
            return Err(Failure::said(format!("the server sent {said:?} instead of data")));
        };
        let block = u16::from_be_bytes([*high, *low]);
        if block != self.next {
            // A gap in a window: everything behind it comes again after this (RFC 7440 §4). Once is
            // enough, and in lockstep there are only duplicates, which are never answered.
            let first_behind_gap = self.window > 1 && self.since_ack > 0;
            self.since_ack = 0;
            let last = self.next.wrapping_sub(1);
            return Ok(if first_behind_gap { Reaction::Acknowledge(last) } else { Reaction::Wait });
        }
        let (wanted, rest) = self.expected.split_at(BLOCK.min(self.expected.len()));
        ensure(data == wanted, || format!("block {block} is not what is in the file"))?;
        self.expected = rest;
        self.next = self.next.wrapping_add(1);
        self.since_ack += 1;
        self.blocks += 1;
        if data.len() < BLOCK {
            return Ok(Reaction::Done(block));
        }
        if self.since_ack < self.window {
            return Ok(Reaction::Wait);
        }
        self.since_ack = 0;
        Ok(Reaction::Acknowledge(block))
    }
}

/// The size of a block: what UEFI asks for, so that a packet fills an Ethernet frame.
pub(super) const BLOCK: usize = 1468;
/// How often half a second of silence is answered by asking again.
const MAX_RETRIES: u32 = 10;

#[cfg(test)]
mod test {
    use super::*;

    fn data(block: u16, bytes: &[u8]) -> Vec<u8> {
        [&[0, 3][..], &block.to_be_bytes(), bytes].concat()
    }

    #[test]
    fn a_window_is_acknowledged_at_its_end() {
        let content = vec![7; 2 * BLOCK];
        let mut progress =
            Progress { expected: &content, next: 1, since_ack: 0, window: 2, blocks: 0 };
        let reactions = [data(1, &content[..BLOCK]), data(2, &content[..BLOCK]), data(3, &[])];
        let reactions = reactions.map(|packet| progress.take(&packet).unwrap());
        assert_eq!(reactions, [Reaction::Wait, Reaction::Acknowledge(2), Reaction::Done(3)]);
    }

    #[test]
    fn a_gap_is_told_once() {
        let content = vec![7; 9 * BLOCK];
        let mut progress =
            Progress { expected: &content, next: 1, since_ack: 0, window: 4, blocks: 0 };
        let packets = [1, 3, 4].map(|block| data(block, &content[..BLOCK]));
        let reactions = packets.map(|packet| progress.take(&packet).unwrap());
        assert_eq!(reactions, [Reaction::Wait, Reaction::Acknowledge(1), Reaction::Wait]);
    }

    #[test]
    fn options_that_come_again_are_acknowledged_again() {
        let mut progress =
            Progress { expected: b"right", next: 1, since_ack: 0, window: 1, blocks: 0 };
        assert_eq!(progress.take(b"\0\x06blksize\x001468\0").unwrap(), Reaction::Acknowledge(0));
        assert_eq!(progress.take(&data(1, b"right")).unwrap(), Reaction::Done(1));
    }

    #[test]
    fn a_wrong_byte_is_a_failure() {
        let mut progress =
            Progress { expected: b"right", next: 1, since_ack: 0, window: 1, blocks: 0 };
        assert!(progress.take(&data(1, b"wrong")).is_err());
    }
}
