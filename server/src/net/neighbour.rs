//! Telling firmware that nobody here routes IPv6 (Neighbor Discovery, RFC 4861 §6.2.6).
//!
//! iPXE asks for an IPv6 router beside its DHCP, and where none answers it waits for 13 to 17 seconds
//! before it boots. Where netbe is the network's server, it answers machines that are booting from
//! their firmware, and only those: an advertisement with a lifetime of zero, which says "not a default
//! router", without a prefix. Nobody gets an address or a route from it.

mod service;

use std::net::Ipv6Addr;

pub(crate) use service::advertise;

use crate::net::Mac;

/// A Router Solicitation (RFC 4861 §4.1) of somebody who can be answered alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Solicitation {
    /// Who asks, by the source link-layer address option.
    pub(crate) mac: Mac,
}

impl Solicitation {
    /// Decodes an ICMPv6 message that the kernel found to have the right checksum.
    ///
    /// What is checked is RFC 4861 §6.1.1. A question without an address is valid there, but tells
    /// nobody who asks.
    pub(crate) fn decode(
        message: &[u8],
        source: Ipv6Addr,
        hop_limit: i32,
    ) -> Result<Self, Unanswered> {
        let (head, mut options) = message.split_first_chunk::<8>().ok_or(Unanswered::Malformed)?;
        let [kind, code, ..] = *head;
        if kind != ROUTER_SOLICITATION {
            return Err(Unanswered::Other);
        }
        if hop_limit != HOP_LIMIT {
            return Err(Unanswered::Forwarded);
        }
        if code != 0 {
            return Err(Unanswered::Malformed);
        }
        let mut mac = None;
        while let Some((&[kind, units], _)) = options.split_first_chunk::<2>() {
            let length = 8 * usize::from(units);
            let (option, rest) = options.split_at_checked(length).ok_or(Unanswered::Malformed)?;
            let (_, value) = option.split_at_checked(2).ok_or(Unanswered::Malformed)?;
            if kind == SOURCE_LINK_LAYER_ADDRESS {
                mac = <[u8; 6]>::try_from(value).ok().map(Mac);
            }
            options = rest;
        }
        if !options.is_empty() {
            return Err(Unanswered::Malformed);
        }
        match mac {
            Some(mac) if source.is_unicast_link_local() => Ok(Self { mac }),
            Some(_) if source.is_unspecified() => Err(Unanswered::Malformed),
            Some(_) | None => Err(Unanswered::Nameless),
        }
    }
}

/// Why a message is not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// It came from another network, or pretends to come from this one.
    #[error("its hop limit is not 255")]
    Forwarded,
    /// It is not what RFC 4861 §6.1.1 asks for.
    #[error("it is malformed")]
    Malformed,
    /// It does not tell who asks.
    #[error("it has no address of its sender")]
    Nameless,
    /// It is another message, as most are.
    #[error("it is no solicitation")]
    Other,
}

/// A Router Advertisement (RFC 4861 §4.2) that advertises nothing: no hop limit, no DHCPv6, no time
/// as a default router, no times of neighbours, no option. The kernel fills in the checksum.
const ADVERTISEMENT: [u8; 16] = {
    let mut message = [0; 16];
    message[0] = ROUTER_ADVERTISEMENT;
    message
};

/// What every message of Neighbor Discovery is sent with, so that no router has passed it on.
const HOP_LIMIT: i32 = 255;
/// The type of a solicitation.
const ROUTER_SOLICITATION: u8 = 133;
/// The type of an advertisement.
const ROUTER_ADVERTISEMENT: u8 = 134;
/// The option that holds the sender's Ethernet address (RFC 4861 §4.6.1).
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;

#[cfg(test)]
mod test {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    /// iPXE 1.0.0+ in QEMU's ROM for virtio-net, as it came from the wire.
    const IPXE: [u8; 16] = hex!("8500d99500000000 0101525400770001");
    const MAC: Mac = Mac([0x52, 0x54, 0, 0x77, 0, 1]);
    const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe77, 1);

    fn decode(message: &[u8]) -> Result<Solicitation, Unanswered> {
        Solicitation::decode(message, LINK_LOCAL, 255)
    }

    #[test]
    fn ipxe_tells_who_asks() {
        assert_eq!(decode(&IPXE), Ok(Solicitation { mac: MAC }));
    }

    #[test]
    fn options_that_are_not_known_are_passed_over() {
        let message = [&IPXE[..8], &hex!("0e01010203040506"), &IPXE[8..]].concat();
        assert_eq!(decode(&message), Ok(Solicitation { mac: MAC }));
    }

    #[test]
    fn what_another_network_sends_is_not_answered() {
        for hop_limit in [-1, 0, 64, 254] {
            let refused = Solicitation::decode(&IPXE, LINK_LOCAL, hop_limit);
            assert_eq!(refused, Err(Unanswered::Forwarded));
        }
    }

    #[test]
    fn who_has_no_address_or_no_name_is_not_answered() {
        let from = |source| Solicitation::decode(&IPXE, source, 255);
        assert_eq!(from(Ipv6Addr::UNSPECIFIED), Err(Unanswered::Malformed));
        assert_eq!(from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), Err(Unanswered::Nameless));
        assert_eq!(decode(&IPXE[..8]), Err(Unanswered::Nameless));
    }

    #[test]
    fn options_must_fit() {
        let with = |option: &[u8]| decode(&[&IPXE[..8], option].concat());
        assert_eq!(with(&hex!("0100525400770001")), Err(Unanswered::Malformed));
        assert_eq!(with(&hex!("0102525400770001")), Err(Unanswered::Malformed));
        assert_eq!(with(&hex!("01")), Err(Unanswered::Malformed));
        assert_eq!(decode(&IPXE[..7]), Err(Unanswered::Malformed));
    }

    #[test]
    fn other_messages_are_other_messages() {
        assert_eq!(decode(&ADVERTISEMENT), Err(Unanswered::Other));
        assert_eq!(decode(&hex!("8700000000000000")), Err(Unanswered::Other));
    }

    #[test]
    fn nobody_gets_a_route_or_an_address() {
        assert_eq!(ADVERTISEMENT, hex!("86 00 0000 00 00 0000 00000000 00000000"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(message: Vec<u8>, hop_limit: i32) {
            let _ = Solicitation::decode(&message, LINK_LOCAL, hop_limit);
            let options = [&IPXE[..8], &message].concat();
            if let Ok(Solicitation { mac }) = decode(&options) {
                prop_assert!(message.windows(6).any(|bytes| bytes == mac.0));
            }
        }
    }
}
