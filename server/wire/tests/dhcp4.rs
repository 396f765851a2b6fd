//! The DHCP codec against dhcproto, and against any bytes at all.

use std::net::Ipv4Addr;

use dhcproto::v4::{self, DhcpOption, OptionCode, UnknownOption};
use dhcproto::{Decodable, Decoder, Encodable};
use proptest::prelude::*;
use wire::dhcp4::{Builder, Code, Message, MessageType};

/// What both codecs are told to say.
#[derive(Clone, Debug)]
struct Spoken {
    xid: u32,
    mac: [u8; 6],
    kind: u8,
    requested: [u8; 4],
    class: Vec<u8>,
    list: Vec<u8>,
    site: Vec<u8>,
}

fn spoken() -> impl Strategy<Value = Spoken> {
    (
        any::<u32>(),
        any::<[u8; 6]>(),
        1..=8_u8,
        any::<[u8; 4]>(),
        proptest::collection::vec(any::<u8>(), 1..40),
        proptest::collection::vec(1..=254_u8, 1..20),
        proptest::collection::vec(any::<u8>(), 1..255),
    )
        .prop_map(|(xid, mac, kind, requested, class, list, site)| Spoken {
            xid,
            mac,
            kind,
            requested,
            class,
            list,
            site,
        })
}

proptest! {
    #[test]
    fn what_dhcproto_encodes_is_understood(said in spoken()) {
        let mut message = v4::Message::new(
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            &said.mac,
        );
        message.set_xid(said.xid);
        let codes = said.list.iter().map(|code| OptionCode::from(*code)).collect();
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(said.kind.into()));
        options.insert(DhcpOption::RequestedIpAddress(said.requested.into()));
        options.insert(DhcpOption::ClassIdentifier(said.class.clone()));
        options.insert(DhcpOption::ParameterRequestList(codes));
        options.insert(DhcpOption::Unknown(UnknownOption::new(224.into(), said.site.clone())));
        let bytes = message.to_vec().unwrap();

        let ours = Message::decode(&bytes).unwrap();
        prop_assert_eq!(ours.xid, said.xid);
        prop_assert_eq!(ours.chaddr(), said.mac);
        prop_assert_eq!(ours.options.message_type(), MessageType::from_number(said.kind));
        let requested = ours.options.address(Code::REQUESTED_ADDRESS);
        prop_assert_eq!(requested, Some(said.requested.into()));
        prop_assert_eq!(ours.options.get(Code::VENDOR_CLASS).unwrap().into_owned(), said.class);
        let list = ours.options.get(Code::PARAMETER_REQUEST_LIST).unwrap().into_owned();
        prop_assert_eq!(list, said.list);
        prop_assert_eq!(ours.options.get(Code(224)).unwrap().into_owned(), said.site);
    }

    #[test]
    fn what_we_encode_dhcproto_understands(said in spoken()) {
        let kind = MessageType::from_number(said.kind).unwrap();
        let mut request = Builder::request(kind, said.xid, said.mac);
        request.set(Code::REQUESTED_ADDRESS, said.requested);
        request.set(Code::VENDOR_CLASS, said.class.clone());
        request.offer(Code(224), said.site.iter().copied().take(200).collect::<Vec<u8>>());
        let bytes = request.finish();

        let theirs = v4::Message::decode(&mut Decoder::new(&bytes)).unwrap();
        prop_assert_eq!(theirs.xid(), said.xid);
        prop_assert_eq!(theirs.chaddr(), said.mac);
        let options = theirs.opts();
        prop_assert_eq!(options.msg_type(), Some(said.kind.into()));
        let requested = DhcpOption::RequestedIpAddress(said.requested.into());
        prop_assert_eq!(options.get(OptionCode::RequestedIpAddress), Some(&requested));
        let class = DhcpOption::ClassIdentifier(said.class.clone());
        prop_assert_eq!(options.get(OptionCode::ClassIdentifier), Some(&class));
    }

    #[test]
    fn any_bytes_decode_or_are_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..700),
        code in any::<u8>(),
        sub in any::<u8>(),
    ) {
        if let Ok(message) = Message::decode(&bytes) {
            read_all(&message, Code(code), sub);
        }
    }

    #[test]
    fn any_options_are_read_and_answered(
        mut tail in proptest::collection::vec(any::<u8>(), 0..700),
        hlen in any::<u8>(),
        code in any::<u8>(),
        sub in any::<u8>(),
    ) {
        let mut bytes = Builder::request(MessageType::Discover, 1, [2; 6]).finish();
        bytes.truncate(240);
        bytes[2] = hlen;
        bytes.append(&mut tail);
        let decoded = Message::decode(&bytes);
        prop_assert_eq!(decoded.is_ok(), hlen <= 16);
        if let Ok(message) = decoded {
            read_all(&message, Code(code), sub);
            let reply = Builder::reply(&message, MessageType::Offer).finish();
            prop_assert!((300..=1472).contains(&reply.len()));
            prop_assert_eq!(&reply[240..243], &[53, 1, 2]);
        }
    }
}

/// Reads a message in every way there is.
fn read_all(message: &Message<'_>, code: Code, sub: u8) {
    let options = &message.options;
    let joined = options.get(code).map_or(0, |value| value.len());
    let parts = options.iter().filter(|(found, _)| *found == code).map(|(_, part)| part.len());
    assert_eq!(joined, parts.sum::<usize>());
    assert!(options.text(code).is_none_or(|text| text.len() <= joined));
    assert_eq!(options.address(code).is_some(), options.contains(code) && joined == 4);
    assert_eq!(options.u32(code).is_some(), options.contains(code) && joined == 4);
    assert_eq!(options.u16(code).is_some(), options.contains(code) && joined == 2);
    assert!(options.suboption(code, sub).is_none_or(|value| value.len() < joined));
    assert!(message.chaddr().len() <= 16 && message.file().len() <= 128);
    assert!(options.architectures().len() <= 350);
    assert!(!options.has_user_class(b"a class that nobody sends in a test"));
}
