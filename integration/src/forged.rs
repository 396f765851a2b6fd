//! DHCP messages in somebody else's name: what any neighbour can send.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::failure::{During, Failure};
use crate::net::BROADCAST;

/// A message's kind (RFC 2132 §9.6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// DHCPDISCOVER.
    Discover = 1,
    /// DHCPREQUEST.
    Request = 3,
    /// DHCPDECLINE.
    Decline = 4,
    /// DHCPRELEASE.
    Release = 7,
}

/// What sends a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sender {
    /// A running system.
    System,
    /// A PXE ROM on BIOS.
    Pxe,
    /// iPXE on BIOS.
    Ipxe,
    /// UEFI's PXE client, on x64.
    UefiPxe,
    /// UEFI's HTTP boot, on x64.
    UefiHttp,
    /// iPXE on UEFI, on x64.
    UefiIpxe,
}

impl Sender {
    /// Its architecture (RFC 4578 §2.1).
    const fn architecture(self) -> u8 {
        match self {
            Self::System | Self::Pxe | Self::Ipxe => 0,
            Self::UefiPxe | Self::UefiIpxe => 7,
            Self::UefiHttp => 16,
        }
    }

    /// Its class (PXE 2.1 §2.2.3, UEFI 2.10 §24.7).
    const fn class(self) -> &'static [u8; 32] {
        match self {
            Self::System | Self::Pxe | Self::Ipxe => b"PXEClient:Arch:00000:UNDI:002001",
            Self::UefiPxe | Self::UefiIpxe => b"PXEClient:Arch:00007:UNDI:003016",
            Self::UefiHttp => b"HTTPClient:Arch:00016:UNDI:00300",
        }
    }
}

/// What a message says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// Its kind.
    pub(crate) kind: Kind,
    /// In whose name it is sent.
    pub(crate) mac: [u8; 6],
    /// The address that it says it has: the header's `ciaddr`.
    pub(crate) own: Option<Ipv4Addr>,
    /// The address that it asks for, or declines: option 50.
    pub(crate) wanted: Option<Ipv4Addr>,
    /// The server that it has chosen: option 54.
    pub(crate) server: Option<Ipv4Addr>,
    /// What it says that it is.
    pub(crate) sender: Sender,
}

impl Message {
    /// A message of this kind that says nothing more.
    pub(crate) const fn new(kind: Kind, mac: [u8; 6]) -> Self {
        Self { kind, mac, own: None, wanted: None, server: None, sender: Sender::System }
    }

    /// Its bytes (RFC 2131 §2); the answer is to come by broadcast.
    pub(crate) fn bytes(&self, xid: u32) -> Vec<u8> {
        let mut out = vec![1, 1, 6, 0];
        out.extend(xid.to_be_bytes());
        out.extend([0, 0, 0x80, 0]);
        out.extend(self.own.map_or([0; 4], |own| own.octets()));
        out.resize(28, 0);
        out.extend(self.mac);
        out.resize(236, 0);
        out.extend([99, 130, 83, 99, 53, 1, self.kind as u8]);
        for (code, address) in [(50, self.wanted), (54, self.server)] {
            if let Some(address) = address {
                out.extend([code, 4]);
                out.extend(address.octets());
            }
        }
        if self.sender != Sender::System {
            // Architecture, network interface, an UUID of zeros, what is asked for, the class.
            let architecture = self.sender.architecture();
            out.extend([93, 2, 0, architecture, 94, 3, 1, 2, 1, 97, 17]);
            out.extend([0; 17]);
            out.extend([55, 6, 1, 3, 43, 60, 66, 67, 60, 32]);
            out.extend_from_slice(self.sender.class());
        }
        if matches!(self.sender, Sender::Ipxe | Sender::UefiIpxe) {
            // Its name, and an option of its own: it boots by HTTP.
            out.extend([77, 4]);
            out.extend_from_slice(b"iPXE");
            out.extend([175, 6, 177, 1, 1, 19, 1, 1]);
        }
        out.push(255);
        out.resize(out.len().max(300), 0);
        out
    }
}

/// What a server said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// DHCPOFFER is 2, DHCPACK 5, DHCPNAK 6.
    pub(crate) kind: u8,
    /// The address that it gives.
    pub(crate) given: Ipv4Addr,
    /// The boot file in its header.
    pub(crate) file: String,
}

/// Sends a message from the interface of `socket`, and gives the answer if one comes by broadcast.
pub(crate) fn ask(
    socket: &UdpSocket,
    message: &Message,
    xid: u32,
) -> Result<Option<Answer>, Failure> {
    send(socket, message, xid)?;
    let mut bytes = vec![0; 1500];
    // Answers to others come too.
    for _ in 0..8 {
        let Ok(count) = socket.recv(&mut bytes) else { return Ok(None) };
        match Answer::decode(bytes.get(..count).unwrap_or_default()) {
            Some((to, answer)) if to == xid => return Ok(Some(answer)),
            Some(_) | None => {}
        }
    }
    Ok(None)
}

impl Answer {
    /// What a server's message says, with the transaction that it belongs to.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(u32, Self)> {
        let xid = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
        let given: [u8; 4] = bytes.get(16..20)?.try_into().ok()?;
        let kind = *bytes.get(option(bytes, 53)?)?;
        let file = bytes.get(108..236)?.split(|byte| *byte == 0).next().unwrap_or_default();
        let file = String::from_utf8_lossy(file).into_owned();
        Some((xid, Self { kind, given: given.into(), file }))
    }
}

/// Sends a message, to everybody.
pub(crate) fn send(socket: &UdpSocket, message: &Message, xid: u32) -> Result<(), Failure> {
    let sent = socket.send_to(&message.bytes(xid), (BROADCAST, 67));
    sent.during("a forged DHCP message").map(drop)
}

/// A socket for DHCP clients on an interface of the calling thread's namespace.
pub(crate) fn socket(interface: &str) -> Result<UdpSocket, Failure> {
    let what = "a socket for DHCP";
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).during(what)?;
    socket.set_reuse_address(true).during(what)?;
    socket.set_broadcast(true).during(what)?;
    socket.bind_device(Some(interface.as_bytes())).during(what)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68)).into()).during(what)?;
    socket.set_read_timeout(Some(Duration::from_secs(2))).during(what)?;
    Ok(socket.into())
}

/// Where the value of an option begins in a message.
pub(crate) fn option(message: &[u8], wanted: u8) -> Option<usize> {
    let mut at = 240;
    loop {
        match *message.get(at)? {
            255 => return None,
            0 => at += 1,
            code => {
                let length = usize::from(*message.get(at + 1)?);
                if code == wanted {
                    return Some(at + 2);
                }
                at += 2 + length;
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn options_are_found_behind_others() {
        let wanted = Some(Ipv4Addr::new(10, 77, 0, 50));
        let message =
            Message { wanted, sender: Sender::Ipxe, ..Message::new(Kind::Request, [2; 6]) };
        let bytes = message.bytes(7);
        let at = option(&bytes, 50).unwrap();
        assert_eq!(bytes.get(at..at + 4), Some(&[10, 77, 0, 50][..]));
        assert_eq!(bytes.get(option(&bytes, 53).unwrap()), Some(&3));
        assert_eq!(option(&bytes, 54), None);
    }
}
