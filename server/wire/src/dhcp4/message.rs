//! A received message: the fixed fields and the options (RFC 2131 §2).

use std::net::Ipv4Addr;

use super::options::Options;
use super::{BROADCAST_FLAG, FILE_LEN, MAGIC_COOKIE, SNAME_LEN};

/// A DHCP message, decoded. It borrows from the bytes it was decoded from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message<'a> {
    /// `op`: whether a client or a server speaks.
    pub op: Op,
    /// `htype`: hardware address type.
    pub htype: u8,
    /// `hops`: relay agents passed.
    pub hops: u8,
    /// `xid`: the transaction.
    pub xid: u32,
    /// `secs`: seconds since the client began. Some clients swap its bytes, so it means little.
    pub secs: u16,
    /// `flags`: see [`Message::wants_broadcast`].
    pub flags: u16,
    /// `ciaddr`: the address that the client uses already.
    pub ciaddr: Ipv4Addr,
    /// `yiaddr`: "your" address, the client's.
    pub yiaddr: Ipv4Addr,
    /// `siaddr`: the next server in the boot.
    pub siaddr: Ipv4Addr,
    /// `giaddr`: the relay agent's address.
    pub giaddr: Ipv4Addr,
    /// The options, of all fields.
    pub options: Options<'a>,
    pub(super) chaddr: [u8; 16],
    pub(super) hlen: u8,
    file: &'a [u8; FILE_LEN],
}

impl<'a> Message<'a> {
    /// Decodes a message from the payload of a datagram; what follows the options is ignored.
    ///
    /// # Errors
    ///
    /// Fails when the fixed fields or the magic cookie are not all there or when they are not what
    /// they may be. Options never fail.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields { rest: bytes };
        let [op, htype, hlen, hops] = *fields.take()?;
        let op = Op::from_number(op).ok_or(DecodeError::Op)?;
        let xid = u32::from_be_bytes(*fields.take()?);
        let secs = u16::from_be_bytes(*fields.take()?);
        let flags = u16::from_be_bytes(*fields.take()?);
        let ciaddr = fields.address()?;
        let yiaddr = fields.address()?;
        let siaddr = fields.address()?;
        let giaddr = fields.address()?;
        let chaddr: [u8; 16] = *fields.take()?;
        let sname: &'a [u8; SNAME_LEN] = fields.take()?;
        let file: &'a [u8; FILE_LEN] = fields.take()?;
        let cookie: &'a [u8; 4] = fields.take()?;
        if usize::from(hlen) > chaddr.len() {
            return Err(DecodeError::HardwareLength);
        }
        if *cookie != MAGIC_COOKIE {
            return Err(DecodeError::Cookie);
        }
        let options = Options::decode(fields.rest, file, sname);
        Ok(Self {
            op,
            htype,
            hops,
            xid,
            secs,
            flags,
            ciaddr,
            yiaddr,
            siaddr,
            giaddr,
            options,
            chaddr,
            hlen,
            file,
        })
    }

    /// `chaddr`: the client's hardware address, as long as `hlen` says.
    #[must_use]
    pub fn chaddr(&self) -> &[u8] {
        self.chaddr.get(..usize::from(self.hlen)).unwrap_or_default()
    }

    /// `file`: the boot file's name up to the first NUL; empty when the field holds options.
    #[must_use]
    pub fn file(&self) -> &'a [u8] {
        if self.options.uses_file() {
            return &[];
        }
        self.file.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// Whether the client can take only broadcasts before it has an address (RFC 2131 §4.1).
    #[must_use]
    pub const fn wants_broadcast(&self) -> bool {
        self.flags & BROADCAST_FLAG != 0
    }
}

/// Who speaks (RFC 2131 §2, `op`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Op {
    /// BOOTREQUEST: a client.
    Request,
    /// BOOTREPLY: a server.
    Reply,
}

impl Op {
    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Request),
            2 => Some(Self::Reply),
            _ => None,
        }
    }

    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Reply => 2,
        }
    }
}

/// What a message is for (RFC 2132 §9.6).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MessageType {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPOFFER.
    Offer,
    /// DHCPREQUEST.
    Request,
    /// DHCPDECLINE.
    Decline,
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
    /// DHCPRELEASE.
    Release,
    /// DHCPINFORM.
    Inform,
}

impl MessageType {
    /// The type of this number, if RFC 2132 has one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Discover),
            2 => Some(Self::Offer),
            3 => Some(Self::Request),
            4 => Some(Self::Decline),
            5 => Some(Self::Ack),
            6 => Some(Self::Nak),
            7 => Some(Self::Release),
            8 => Some(Self::Inform),
            _ => None,
        }
    }

    /// The type's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Decline => 4,
            Self::Ack => 5,
            Self::Nak => 6,
            Self::Release => 7,
            Self::Inform => 8,
        }
    }
}

/// Why bytes are not a DHCP message. Such datagrams are counted and not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// No magic cookie: BOOTP without options, or something else.
    #[error("no DHCP magic cookie")]
    Cookie,
    /// `hlen` is larger than `chaddr`.
    #[error("hardware address longer than its field")]
    HardwareLength,
    /// `op` is neither a request nor a reply.
    #[error("neither a request nor a reply")]
    Op,
    /// The fixed fields are not all there.
    #[error("unexpected end of message")]
    Truncated,
}

/// Cuts the fixed fields off, one by one.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], DecodeError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(field)
    }

    fn address(&mut self) -> Result<Ipv4Addr, DecodeError> {
        self.take::<4>().map(|octets| Ipv4Addr::from(*octets))
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::dhcp4::HEADER_LEN;

    fn message(hlen: u8) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[..4].copy_from_slice(&[1, 1, hlen, 0]);
        bytes[4..8].copy_from_slice(&7_u32.to_be_bytes());
        bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        bytes[108..113].copy_from_slice(b"/boot");
        bytes.extend(MAGIC_COOKIE);
        bytes
    }

    #[test]
    fn two_hundred_and_forty_bytes_are_a_message() {
        let bytes = message(6);
        let message = Message::decode(&bytes).unwrap();
        assert_eq!((message.op, message.xid), (Op::Request, 7));
        assert_eq!(message.chaddr(), [2, 0, 0, 0, 0, 1]);
        assert_eq!(message.file(), b"/boot");
        assert_eq!(Message::decode(&bytes[..239]), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_hardware_address_longer_than_its_field_is_refused() {
        assert!(Message::decode(&message(16)).is_ok());
        for hlen in [17, 255] {
            assert_eq!(Message::decode(&message(hlen)), Err(DecodeError::HardwareLength));
        }
    }

    #[test]
    fn the_cookie_is_checked() {
        let mut bytes = message(6);
        bytes[HEADER_LEN] = 0;
        assert_eq!(Message::decode(&bytes), Err(DecodeError::Cookie));
    }

    #[test]
    fn a_file_field_full_of_options_is_no_name() {
        let mut bytes = message(6);
        bytes.extend([52, 1, 1]);
        assert_eq!(Message::decode(&bytes).unwrap().file(), b"");
    }
}
