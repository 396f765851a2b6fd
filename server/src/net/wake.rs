//! Wake-on-LAN: the packet that switches a machine on, and the networks that it is sent into.
//!
//! AMD, "Magic Packet Technology" (publication 20213), §2: six bytes of FF and sixteen times the Ethernet address,
//! anywhere in a frame that reaches the card. It goes by UDP, so that no raw socket is needed.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use crate::net::Mac;
use crate::net::interface::{Interface, Network};

/// The port of discard (RFC 863), on which nothing listens that would answer.
const PORT: u16 = 9;

/// The magic packet of a card.
fn packet(mac: Mac) -> Vec<u8> {
    let mut packet = vec![0xff; 6];
    for _ in 0..16 {
        packet.extend(mac.0);
    }
    packet
}

/// The networks of an interface whose broadcasts reach machines: it is up, and leads to others.
pub(crate) fn networks(interface: &Interface) -> impl Iterator<Item = Network> {
    let reaches = interface.up && interface.broadcast && !interface.loopback;
    // A network of one or two addresses has no broadcast address (RFC 3021).
    let networks = interface.networks.iter().filter(move |_| reaches);
    networks.filter(|network| network.prefix() < 31).copied()
}

/// Sends the magic packet of a card to all of a network that this host is in.
///
/// # Errors
///
/// Fails when the kernel refuses it. That a machine has heard it nobody answers.
pub(crate) fn send(mac: Mac, network: Network) -> io::Result<()> {
    send_from(mac, network.address, (network.broadcast(), PORT))
}

fn send_from(mac: Mac, own: Ipv4Addr, to: (Ipv4Addr, u16)) -> io::Result<()> {
    let socket = UdpSocket::bind((own, 0))?;
    socket.set_broadcast(true)?;
    socket.send_to(&packet(mac), to).map(drop)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_magic_packet_has_the_address_sixteen_times_behind_six_bytes_of_ones() {
        let listener = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mac = Mac([2, 1, 2, 3, 4, 5]);
        send_from(mac, Ipv4Addr::LOCALHOST, (Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut bytes = [0; 200];
        let length = listener.recv(&mut bytes).unwrap();
        let (ones, addresses) = bytes[..length].split_at(6);
        assert_eq!(ones, [0xff; 6]);
        assert_eq!(addresses, [2, 1, 2, 3, 4, 5].repeat(16));
    }

    #[test]
    fn it_is_sent_where_machines_are() {
        let lan = Network::new(Ipv4Addr::new(10, 0, 0, 1), 24);
        let alone = Network::new(Ipv4Addr::new(10, 1, 0, 1), 32);
        let interface = Interface {
            name: "br0".to_owned(),
            index: 2,
            mac: None,
            networks: vec![lan, alone],
            up: true,
            broadcast: true,
            loopback: false,
            mtu: None,
        };
        assert_eq!(networks(&interface).collect::<Vec<_>>(), [lan]);
        for silent in [
            Interface { up: false, ..interface.clone() },
            Interface { broadcast: false, ..interface.clone() },
            Interface { loopback: true, ..interface.clone() },
        ] {
            assert_eq!(networks(&silent).count(), 0, "{silent:?}");
        }
    }
}
