//! Beside another DHCP server: what is told, what is left to that server, and what is learned.

use std::net::{Ipv4Addr, SocketAddrV4};

use netbe::boot::{Answer, Arch, Client, Event};
use netbe::dhcp::{Destination, Mode, Port, Reply, Silence};
use wire::dhcp4::{Builder, Code, Message, MessageType};

use crate::bench::{
    Bench, RECORDED, SERVER, discover, from_holder, kind, machine, naming, option, recorded, select,
};

const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 60);
const URL: &str = "http://10.77.0.1/b/1/boot.ipxe";

/// A server in proxy mode that has a boot for every kind of client.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.mode = Mode::Proxy;
    let table = [
        (Client::Pxe(Arch::BIOS), "undionly.kpxe"),
        (Client::Pxe(Arch::UEFI_X64), "snponly.efi"),
        (Client::Http(Arch::UEFI_X64_HTTP), "http://10.77.0.1/b/1/snponly.efi"),
        (Client::Ipxe(Arch::BIOS), URL),
        (Client::FreeBsdLoader, "never.told"),
        (Client::FreeBsdKernel, "never.told"),
        (Client::Ordinary, "never.told"),
    ];
    for (client, file) in table {
        let file = Some(file.to_owned());
        bench.answers(client, Answer { file, ..Answer::default() });
    }
    bench
}

fn discover_as(class: &[u8]) -> Vec<u8> {
    let mut request = Builder::request(MessageType::Discover, 1, RECORDED.0);
    request.set(Code::VENDOR_CLASS, class);
    request.finish()
}

fn file(reply: &Reply) -> String {
    let message = Message::decode(&reply.bytes).unwrap();
    String::from_utf8(message.file().to_vec()).unwrap()
}

#[test]
fn an_offer_of_a_proxy_has_no_address_and_no_lease() {
    let mut bench = bench();
    let offers = [
        recorded("ovmf-discover"),
        recorded("ipxe-discover"),
        discover_as(b"PXEClient:Arch:00000"),
    ];
    for question in offers {
        let offer = bench.ask(&question).unwrap();
        let message = Message::decode(&offer.bytes).unwrap();
        assert_eq!(kind(&offer), MessageType::Offer);
        assert_eq!((message.yiaddr, message.siaddr), (Ipv4Addr::UNSPECIFIED, SERVER));
        assert_eq!(option(&offer, 54), Some(SERVER.octets().to_vec()));
        for code in [1, 3, 51, 58, 59] {
            assert_eq!(option(&offer, code), None, "{code}");
        }
        assert_eq!(offer.to, Destination::Broadcast);
        assert!(bench.server.leases().iter().next().is_none());
    }
}

#[test]
fn bios_firmware_is_told_by_a_proxy_that_its_file_is_here() {
    let offer = bench().ask(&discover_as(b"PXEClient:Arch:00000:UNDI:002001")).unwrap();
    assert_eq!(file(&offer), "undionly.kpxe");
    assert_eq!(option(&offer, 60), Some(b"PXEClient".to_vec()));
    assert_eq!(option(&offer, 43), Some(vec![6, 1, 8, 255]));
}

#[test]
fn uefi_firmware_is_sent_by_a_proxy_to_port_4011() {
    let mut bench = bench();
    let offer = bench.ask(&recorded("ovmf-discover")).unwrap();
    assert_eq!(option(&offer, 60), Some(b"PXEClient".to_vec()));
    assert_eq!(option(&offer, 43), None);
    let mut question = Builder::request(MessageType::Request, 1, RECORDED.0);
    question.ciaddr(ADDRESS);
    question.set(Code::VENDOR_CLASS, *b"PXEClient:Arch:00007:UNDI:003016");
    let source = SocketAddrV4::new(ADDRESS, 4011);
    let action = bench.arrive(&question.finish(), source, SERVER, Port::Pxe);
    let ack = bench.carry_out(action).unwrap();
    assert_eq!((kind(&ack), file(&ack)), (MessageType::Ack, "snponly.efi".to_owned()));
    assert_eq!((ack.to, ack.port), (Destination::Address(source), Port::Pxe));
    assert!(bench.heard(RECORDED, &Event::Elsewhere(ADDRESS)));
}

#[test]
fn ipxe_gets_its_script_from_a_proxy_without_being_told_to_ignore_proxies() {
    let offer = bench().ask(&recorded("ipxe-discover")).unwrap();
    assert_eq!(file(&offer), URL);
    assert_eq!(option(&offer, 60), Some(b"PXEClient".to_vec()));
    assert_eq!((option(&offer, 43), option(&offer, 175)), (None, None));
}

#[test]
fn http_boot_gets_its_url_from_a_proxy() {
    let offer = bench().ask(&discover_as(b"HTTPClient:Arch:00016:UNDI:003001")).unwrap();
    assert_eq!(option(&offer, 60), Some(b"HTTPClient".to_vec()));
    assert_eq!(option(&offer, 67), Some(b"http://10.77.0.1/b/1/snponly.efi\0".to_vec()));
}

#[test]
fn a_proxy_asks_for_a_plan_that_fits_beside_another_server() {
    let mut bench = bench();
    bench.ask(&recorded("ovmf-discover")).unwrap();
    assert!(bench.fake.asked.lock().unwrap().iter().all(|ask| ask.proxy));
    bench.mode = Mode::Serve;
    bench.ask(&recorded("ovmf-discover")).unwrap();
    assert!(!bench.fake.asked.lock().unwrap().last().unwrap().proxy);
}

#[test]
fn a_proxy_says_nothing_to_who_could_not_use_it() {
    let mut bench = bench();
    let strays = [
        discover(machine(1)),
        naming(MessageType::Request, machine(1), ADDRESS),
        from_holder(MessageType::Request, machine(1), ADDRESS),
        from_holder(MessageType::Inform, machine(1), ADDRESS),
        from_holder(MessageType::Release, machine(1), ADDRESS),
        naming(MessageType::Decline, machine(1), ADDRESS),
        select(machine(1), ADDRESS, SERVER),
        recorded("loader-efi-12.1-discover"),
        recorded("pxeboot-12.1-discover"),
        recorded("bootp-kernel-12.1-discover"),
    ];
    for stray in strays {
        assert_eq!(bench.ask(&stray), Err(Silence::Nothing));
    }
    let chosen = bench.ask(&select(machine(1), ADDRESS, OTHER));
    assert_eq!(chosen, Err(Silence::OtherServer(OTHER)));
    assert_eq!(bench.server.foreign()[0].address, OTHER);
}

#[test]
fn a_firmware_without_a_plan_gets_nothing_from_a_proxy() {
    let mut bench = Bench::new();
    bench.mode = Mode::Proxy;
    assert_eq!(bench.ask(&recorded("ovmf-discover")), Err(Silence::Nothing));
}

#[test]
fn what_freebsd_needs_of_the_other_server_is_said_once() {
    let mut bench = bench();
    for _ in 0..3 {
        let _ = bench.ask(&recorded("loader-efi-12.1-discover"));
    }
    let events = bench.fake.events.lock().unwrap();
    let mut advice = Vec::new();
    for (_, event) in events.iter() {
        if let Event::Advised(text) = event {
            advice.push(text.as_str());
        }
    }
    assert_eq!(advice.len(), 1, "{advice:?}");
    assert!(advice[0].contains("as `netbe show dhcp` prints"), "{advice:?}");
}

#[test]
fn the_address_that_another_server_gives_is_learned_from_the_request() {
    for mode in [Mode::Proxy, Mode::Passive] {
        let mut bench = bench();
        bench.mode = mode;
        let chosen = bench.ask(&select(machine(1), ADDRESS, OTHER));
        assert_eq!(chosen, Err(Silence::OtherServer(OTHER)), "{mode:?}");
        assert!(bench.heard(machine(1), &Event::Elsewhere(ADDRESS)), "{mode:?}");
        let _ = bench.ask(&select(machine(2), [10, 99, 0, 1].into(), OTHER));
        let elsewhere = Event::Elsewhere([10, 99, 0, 1].into());
        assert!(!bench.heard(machine(2), &elsewhere), "of another network");
    }
}

#[test]
fn a_boot_that_another_server_leads_here_is_begun_in_silence() {
    let mut bench = bench();
    bench.mode = Mode::Passive;
    assert_eq!(bench.ask(&recorded("ipxe-discover")), Err(Silence::Passive));
    let asked = bench.fake.asked.lock().unwrap();
    assert_eq!(asked[0].client, Client::Ipxe(Arch::BIOS));
    assert!(asked[0].discover && !asked[0].proxy);
}
