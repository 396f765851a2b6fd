//! Recorded boots: what each stage sent, and what it needs to hear.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use netbe::boot::{Answer, Arch, Client, Event};
use netbe::dhcp::{Destination, Port, Silence};
use netbe::net::Mac;
use wire::dhcp4::{Code, Message, MessageType};

use crate::bench::*;

/// A bench whose machine boots something at every stage.
fn bench() -> Bench {
    let bench = Bench::new();
    let file = |name: &str| Answer {
        file: Some(name.to_owned()),
        host_name: Some("alpha".to_owned()),
        ..Answer::default()
    };
    bench.answers(Client::Ipxe(Arch::BIOS), file("http://10.77.0.1:8080/b/1/boot.ipxe"));
    bench.answers(Client::Pxe(Arch::UEFI_X64), file("loader.efi"));
    let root = Answer { root_path: Some("/be/head".to_owned()), ..Answer::default() };
    let options = vec![(250, b"nfs.read_size=1344".to_vec())];
    bench.answers(Client::FreeBsdLoader, Answer { options, ..root.clone() });
    bench.answers(Client::FreeBsdKernel, root);
    bench
}

#[test]
fn every_recorded_client_gets_an_offer_and_an_ack_that_say_the_same() {
    for name in RECORDINGS {
        let mut bench = bench();
        let offer = bench.ask(&recorded(&format!("{name}-discover"))).unwrap();
        assert_eq!(kind(&offer), MessageType::Offer, "{name}");
        let ack = bench.ask(&recorded(&format!("{name}-request"))).unwrap();
        assert_eq!(kind(&ack), MessageType::Ack, "{name}");
        let (mut offered, mut acknowledged) = (strictly(&offer.bytes), strictly(&ack.bytes));
        offered.remove(0);
        acknowledged.remove(0);
        assert_eq!(offered, acknowledged, "{name}");
        assert_eq!(offer.to, ack.to, "{name}");
        let message = Message::decode(&ack.bytes).unwrap();
        assert_eq!(message.yiaddr, Ipv4Addr::new(10, 77, 0, 100), "{name}");
        assert_eq!(message.siaddr, SERVER, "{name}");
        assert!(bench.heard(RECORDED, &Event::Leased(message.yiaddr)), "{name}");
    }
}

#[test]
fn every_stage_of_a_boot_keeps_the_address() {
    let mut bench = bench();
    for name in RECORDINGS {
        let offer = bench.ask(&recorded(&format!("{name}-discover"))).unwrap();
        assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, Ipv4Addr::new(10, 77, 0, 100));
        bench.ask(&recorded(&format!("{name}-request"))).unwrap();
    }
}

/// What a loader is told that mounts nothing itself, beside all that can be configured.
fn laden() -> Bench {
    let mut settings = settings("10.77.0.100-10.77.0.199");
    settings.parameters.routers = vec![Ipv4Addr::new(10, 77, 0, 254)];
    settings.parameters.name_servers = vec![Ipv4Addr::new(10, 77, 0, 2); 3];
    settings.parameters.domain = Some("laboratory.example.org".to_owned());
    let bench = Bench::with(settings);
    let handle = format!("boot.nfsroot.nfshandle=X{}X", "ab".repeat(44)).into_bytes();
    let texts: [&[u8]; 5] = [
        &handle,
        b"boot.nfsroot.nfshandlelen=44",
        b"boot.nfsroot.server=10.77.0.1",
        b"boot.nfsroot.options=nolockd",
        b"boot.nfsroot.path=/be/head",
    ];
    let lists = (246..=249).map(|code| (code, vec![b'v'; 120]));
    let options = (250..).zip(texts.map(<[u8]>::to_vec)).chain(lists).collect();
    let root_path = Some("tftp://10.77.0.1/be/head".to_owned());
    let host_name = Some("alpha".to_owned());
    bench.answers(
        Client::FreeBsdLoader,
        Answer { root_path, host_name, options, ..Answer::default() },
    );
    bench
}

#[test]
fn an_old_loader_reads_the_roots_handle_within_312_bytes() {
    let mut bench = laden();
    // As pxeboot 10.1: no list of options, no user class.
    let offer = bench.ask(&with_options(RECORDED, &[(60, b"PXEClient")])).unwrap();
    assert!(offer.bytes.len() <= 236 + 312, "{}", offer.bytes.len());
    let codes: Vec<u8> = strictly(&offer.bytes).into_iter().map(|(code, _)| code).collect();
    assert!(codes.starts_with(&[53, 54, 51, 1, 3, 17, 12, 250, 251, 252, 253]), "{codes:?}");
}

#[test]
fn a_later_loader_reads_the_handle_as_early_and_all_the_rest() {
    let mut bench = laden();
    let list: &[u8] = &[17, 12, 16, 3, 1, 26, 54];
    let class: &[u8] = b"\x07FreeBSD";
    let asked = [(60, &b"PXEClient"[..]), (77, class), (55, list)];
    let offer = bench.ask(&with_options(RECORDED, &asked)).unwrap();
    let codes: Vec<u8> = strictly(&offer.bytes).into_iter().map(|(code, _)| code).collect();
    let expected = [53, 54, 51, 17, 12, 3, 1, 250, 251, 252, 253, 254, 246, 247, 248, 249];
    assert!(codes.starts_with(&expected), "{codes:?}");
    assert!(codes.contains(&6) && codes.contains(&15), "{codes:?}");
    assert!(offer.bytes.len() <= 1472);
}

#[test]
fn ipxe_gets_a_script_and_need_not_wait_for_a_proxy() {
    let mut bench = bench();
    let offer = bench.ask(&recorded("ipxe-discover")).unwrap();
    let url = b"http://10.77.0.1:8080/b/1/boot.ipxe";
    assert_eq!(Message::decode(&offer.bytes).unwrap().file(), url);
    assert_eq!(option(&offer, 67), Some([&url[..], b"\0"].concat()));
    assert_eq!(option(&offer, 175), Some(vec![0xb0, 1, 1]));
    assert_eq!(option(&offer, 43), None);
    assert_eq!(option(&offer, 61), Some(b"\x01\x52\x54\x00\x77\x00\x01".to_vec()));
    assert_eq!(option(&offer, 12), Some(b"alpha".to_vec()));
    assert_eq!(offer.to, directly(RECORDED, [10, 77, 0, 100]));
}

#[test]
fn uefi_firmware_is_told_that_its_file_is_here() {
    let mut bench = bench();
    let offer = bench.ask(&recorded("ovmf-discover")).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().file(), b"loader.efi");
    assert_eq!(option(&offer, 60), Some(b"PXEClient".to_vec()));
    assert_eq!(option(&offer, 43), Some(vec![6, 1, 8, 255]));
    assert_eq!(option(&offer, 66), Some(b"10.77.0.1\0".to_vec()));
    assert_eq!(option(&offer, 67), Some(b"loader.efi\0".to_vec()));
    assert_eq!(option(&offer, 97), Some(vec![0; 17]));
    assert_eq!(offer.to, Destination::Broadcast);
    assert_eq!(bench.fake.asked.lock().unwrap()[0].uuid, None);
}

#[test]
fn a_list_of_tftp_servers_is_told_to_who_asks() {
    let mut bench = bench();
    let class: &[u8] = b"PXEClient:Arch:00007:UNDI:003016";
    let asks = bench.ask(&with_options(RECORDED, &[(55, &[150]), (60, class)])).unwrap();
    assert_eq!(option(&asks, 150), Some(SERVER.octets().to_vec()));
    let does_not = bench.ask(&with_options(RECORDED, &[(60, class)])).unwrap();
    assert_eq!(option(&does_not, 150), None);
}

#[test]
fn options_come_in_the_order_in_which_firmware_asks() {
    let mut bench = bench();
    let offer = bench.ask(&recorded("ovmf-discover")).unwrap();
    let codes: Vec<u8> = strictly(&offer.bytes).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [53, 54, 51, 1, 12, 28, 43, 58, 59, 60, 66, 67, 97]);
}

#[test]
fn a_firmware_that_boots_nothing_gets_a_plain_lease() {
    let mut bench = Bench::new();
    let offer = bench.ask(&recorded("ovmf-discover")).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().file(), b"");
    assert_eq!((option(&offer, 60), option(&offer, 43)), (None, None));
}

#[test]
fn a_loader_gets_its_root_path_even_if_it_asks_for_nothing() {
    let mut bench = bench();
    let offer = bench.ask(&recorded("pxeboot-10.1-discover")).unwrap();
    assert_eq!(option(&offer, 17), Some(b"/be/head".to_vec()));
    assert_eq!(option(&offer, 250), Some(b"nfs.read_size=1344".to_vec()));
}

#[test]
fn a_loader_is_not_spoken_to_like_firmware() {
    let mut bench = bench();
    for name in ["pxeboot-10.1", "pxeboot-12.1", "loader-efi-12.1", "loader-efi-rev3"] {
        let offer = bench.ask(&recorded(&format!("{name}-discover"))).unwrap();
        for code in [16, 43, 60, 175] {
            assert_eq!(option(&offer, code), None, "{name} got option {code}");
        }
        assert_eq!(offer.to, directly(RECORDED, [10, 77, 0, 100]), "{name}");
    }
}

#[test]
fn a_loader_that_asks_for_five_minutes_gets_an_hour() {
    let mut bench = bench();
    bench.ask(&recorded("loader-efi-12.1-discover")).unwrap();
    let ack = bench.ask(&recorded("loader-efi-12.1-request")).unwrap();
    assert_eq!(option(&ack, 51), Some(3600_u32.to_be_bytes().to_vec()));
    assert_eq!(option(&ack, 58), Some(1800_u32.to_be_bytes().to_vec()));
    assert_eq!(option(&ack, 59), Some(3150_u32.to_be_bytes().to_vec()));
}

#[test]
fn a_bootp_kernel_is_answered_by_broadcast_as_it_asks() {
    let mut bench = bench();
    let offer = bench.ask(&recorded("bootp-kernel-12.1-discover")).unwrap();
    assert_eq!(offer.to, Destination::Broadcast);
    assert_eq!(option(&offer, 17), Some(b"/be/head".to_vec()));
}

#[test]
fn two_loaders_with_the_same_transaction_get_their_own_offers() {
    let mut bench = bench();
    let other = Mac::from_str("52:54:00:77:00:02").unwrap();
    let first = recorded("loader-efi-12.1-discover");
    let mut second = first.clone();
    second[28..34].copy_from_slice(&other.0);
    let one = bench.ask(&first).unwrap();
    let two = bench.ask(&second).unwrap();
    assert_eq!(one.to, directly(RECORDED, [10, 77, 0, 100]));
    assert_eq!(two.to, directly(other, [10, 77, 0, 101]));
    let (one, two) = (Message::decode(&one.bytes).unwrap(), Message::decode(&two.bytes).unwrap());
    assert_eq!((one.xid, two.xid), (1, 1));
    assert_eq!((one.chaddr(), two.chaddr()), (&RECORDED.0[..], &other.0[..]));
}

#[test]
fn u_boot_may_begin_four_transactions_and_take_up_the_first() {
    let mut bench = Bench::new();
    let mut offers = Vec::new();
    for xid in [11_u32, 12, 13, 14] {
        let mut discover = discover(machine(1));
        discover[4..8].copy_from_slice(&xid.to_be_bytes());
        let offer = bench.ask(&discover).unwrap();
        let offer = Message::decode(&offer.bytes).unwrap();
        assert_eq!(offer.xid, xid);
        offers.push(offer.yiaddr);
    }
    assert_eq!(offers, [offers[0]; 4]);
    let mut request = select(machine(1), offers[0], SERVER);
    request[4..8].copy_from_slice(&11_u32.to_be_bytes());
    assert_eq!(kind(&bench.ask(&request).unwrap()), MessageType::Ack);
}

#[test]
fn http_boot_gets_its_class_and_an_absolute_url() {
    let mut bench = Bench::new();
    let url = format!("http://10.77.0.1/{}/loader.efi", "long".repeat(40));
    let file = Some(url.clone());
    bench.answers(Client::Http(Arch::UEFI_X64_HTTP), Answer { file, ..Answer::default() });
    let class: &[u8] = b"HTTPClient:Arch:00016:UNDI:003001";
    let offer = bench.ask(&with_options(machine(1), &[(60, class)])).unwrap();
    assert_eq!(option(&offer, 60), Some(b"HTTPClient".to_vec()));
    assert_eq!(option(&offer, 67), Some(format!("{url}\0").into_bytes()));
    assert_eq!(Message::decode(&offer.bytes).unwrap().file(), b"", "the field is too short");
}

#[test]
fn a_plan_may_add_options_but_not_break_the_message() {
    let mut bench = Bench::new();
    let options = vec![(119, b"x".to_vec()), (53, vec![6]), (54, vec![9; 4]), (52, vec![3])];
    bench.answers(Client::Ordinary, Answer { options, ..Answer::default() });
    let offer = bench.ask(&discover(machine(1))).unwrap();
    assert_eq!(option(&offer, 119), Some(b"x".to_vec()));
    assert_eq!(option(&offer, 54), Some(SERVER.octets().to_vec()));
    assert_eq!(kind(&offer), MessageType::Offer);
}

#[test]
fn pxelinux_gets_its_options_when_it_asks_for_them() {
    let mut bench = Bench::new();
    let asked = vec![(209, b"pxelinux.cfg/default".to_vec()), (54, vec![9; 4])];
    bench.answers(Client::Pxe(Arch::BIOS), Answer { asked, ..Answer::default() });
    let class: &[u8] = b"PXEClient:Arch:00000:UNDI:002001";
    let silent = bench.ask(&with_options(machine(1), &[(60, class), (55, &[1, 3])])).unwrap();
    assert_eq!(option(&silent, 209), None);
    let asks = [(60, class), (55, &[1, 208, 209, 54][..])];
    let offer = bench.ask(&with_options(machine(1), &asks)).unwrap();
    assert_eq!(option(&offer, 209), Some(b"pxelinux.cfg/default".to_vec()));
    assert_eq!(option(&offer, 54), Some(SERVER.octets().to_vec()));
}

#[test]
fn a_question_on_port_4011_is_answered_to_its_source() {
    let mut bench = bench();
    let address = Ipv4Addr::new(10, 77, 0, 100);
    let class: &[u8] = b"PXEClient:Arch:00007:UNDI:003016";
    let mut request = with_options(RECORDED, &[(60, class), (43, &[71, 4, 0, 1, 0, 0, 255])]);
    request[242] = MessageType::Request.number();
    request[12..16].copy_from_slice(&address.octets());
    let source = SocketAddrV4::new(address, 4011);
    let action = bench.arrive(&request, source, SERVER, Port::Pxe);
    let ack = bench.carry_out(action).unwrap();
    assert_eq!((ack.port, ack.to), (Port::Pxe, Destination::Address(source)));
    assert_eq!(kind(&ack), MessageType::Ack);
    let message = Message::decode(&ack.bytes).unwrap();
    assert_eq!((message.siaddr, message.file()), (SERVER, &b"loader.efi"[..]));
    assert_eq!(message.yiaddr, Ipv4Addr::UNSPECIFIED);
    assert_eq!(option(&ack, 43), Some(vec![71, 4, 0, 1, 0, 0, 255]));
    assert_eq!(option(&ack, 51), None);
    let stranger = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 4011);
    let action = bench.arrive(&request, stranger, SERVER, Port::Pxe);
    assert_eq!(bench.carry_out(action), Err(Silence::NotOurs));
}

/// A DISCOVER with more options.
fn with_options(mac: Mac, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut request = wire::dhcp4::Builder::request(MessageType::Discover, 1, mac.0);
    for (code, value) in options {
        request.set(Code(*code), *value);
    }
    request.finish()
}
