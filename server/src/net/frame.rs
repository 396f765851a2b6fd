//! A UDP datagram in an Ethernet frame, for clients that no socket can reach yet.

use std::net::SocketAddrV4;

use crate::net::Mac;

/// One frame to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// The Ethernet address that it comes from.
    pub(crate) source_mac: Mac,
    /// The Ethernet address that it goes to.
    pub(crate) destination_mac: Mac,
    /// The address and port that it comes from.
    pub(crate) source: SocketAddrV4,
    /// The address and port that it goes to.
    pub(crate) destination: SocketAddrV4,
    /// The payload.
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    /// The frame's bytes, without the check sequence that the hardware adds; `None` when the
    /// payload is longer than a datagram can be.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let udp_len = u16::try_from(self.payload.len().checked_add(UDP_LEN)?).ok()?;
        let ip_len = udp_len.checked_add(IP_LEN)?;
        let mut ip = Vec::with_capacity(usize::from(IP_LEN));
        ip.extend([0x45, 0]);
        ip.extend(ip_len.to_be_bytes());
        // No identification, no fragments, 64 hops, UDP, and a checksum to be filled in.
        ip.extend([0, 0, 0, 0, 64, PROTOCOL_UDP, 0, 0]);
        ip.extend(self.source.ip().octets());
        ip.extend(self.destination.ip().octets());
        let ip_sum = checksum(&[&ip]);

        let mut udp = Vec::with_capacity(UDP_LEN);
        for number in [self.source.port(), self.destination.port(), udp_len, 0] {
            udp.extend(number.to_be_bytes());
        }
        let mut pseudo = Vec::with_capacity(12);
        pseudo.extend(self.source.ip().octets());
        pseudo.extend(self.destination.ip().octets());
        pseudo.extend([0, PROTOCOL_UDP]);
        pseudo.extend(udp_len.to_be_bytes());
        // Zero would mean that there is no checksum (RFC 768).
        let udp_sum = match checksum(&[&pseudo, &udp, self.payload]) {
            0 => u16::MAX,
            sum => sum,
        };

        let mut bytes = Vec::with_capacity(usize::from(ip_len).checked_add(ETHERNET_LEN)?);
        bytes.extend(self.destination_mac.0);
        bytes.extend(self.source_mac.0);
        bytes.extend(ETHERTYPE_IPV4);
        put(&mut ip, 10, ip_sum);
        put(&mut udp, 6, udp_sum);
        bytes.append(&mut ip);
        bytes.append(&mut udp);
        bytes.extend(self.payload);
        Some(bytes)
    }
}

/// Writes a checksum into a header.
fn put(header: &mut [u8], at: usize, sum: u16) {
    for (to, from) in header.iter_mut().skip(at).zip(sum.to_be_bytes()) {
        *to = from;
    }
}

/// The Internet checksum (RFC 1071) of parts that, but for the last, have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for part in parts {
        let (pairs, odd) = part.as_chunks();
        for pair in pairs {
            sum = add(sum, u16::from_be_bytes(*pair));
        }
        if let [last] = odd {
            sum = add(sum, u16::from_be_bytes([*last, 0]));
        }
    }
    u16::try_from(sum).map_or(0, |sum| !sum)
}

/// Adds in ones' complement: the sum always stays below 2^16.
const fn add(sum: u32, word: u16) -> u32 {
    let sum = sum.wrapping_add(word as u32);
    (sum & 0xffff).wrapping_add(sum >> 16)
}

/// Length of an Ethernet header.
const ETHERNET_LEN: usize = 14;

/// Length of an IPv4 header without options.
const IP_LEN: u16 = 20;

/// Length of a UDP header.
const UDP_LEN: usize = 8;

/// The Ethernet type of IPv4.
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];

/// The IP protocol number of UDP.
const PROTOCOL_UDP: u8 = 17;

#[cfg(test)]
mod test {
    use hex_literal::hex;

    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let frame = Frame {
            source_mac: Mac([2, 0, 0, 0, 0, 1]),
            destination_mac: Mac([2, 0, 0, 0, 0, 2]),
            source: "10.77.0.1:67".parse().unwrap(),
            destination: "10.77.0.100:68".parse().unwrap(),
            payload,
        };
        frame.encode().unwrap()
    }

    #[test]
    fn headers_are_those_of_a_udp_datagram() {
        // The two checksums come from another implementation of RFC 1071.
        let expected = hex!(
            "02 00 00 00 00 02  02 00 00 00 00 01  08 00"
            "45 00 00 1f 00 00 00 00 40 11 65 d0 0a 4d 00 01 0a 4d 00 64"
            "00 43 00 44 00 0b 25 f0  61 62 63"
        );
        assert_eq!(frame(b"abc"), expected);
    }

    #[test]
    fn a_receiver_finds_both_checksums_right() {
        for payload in [&b""[..], b"a", b"even", &[0xff; 301]] {
            let bytes = frame(payload);
            assert_eq!(checksum(&[&bytes[14..34]]), 0);
            let len = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
            let pseudo = [&bytes[26..34], &[0, 17], &len].concat();
            assert_eq!(checksum(&[&pseudo, &bytes[34..]]), 0);
        }
    }

    #[test]
    fn what_no_datagram_can_hold_is_no_frame() {
        let long = vec![0; 65_536];
        let frame = Frame {
            source_mac: Mac([2; 6]),
            destination_mac: Mac([2; 6]),
            source: "10.0.0.1:67".parse().unwrap(),
            destination: "10.0.0.2:68".parse().unwrap(),
            payload: &long,
        };
        assert!(frame.encode().is_none());
    }
}
