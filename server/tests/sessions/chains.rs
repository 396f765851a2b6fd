//! Loaders that fetch their files by TFTP or HTTP, and kernels whose root's handle they were told.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use fixtures::session::{LOADER_EFI_12_1, PXEBOOT_12_1, Session, TFTP_BOOTP_12_1, Transport};
use wire::dhcp4::{Builder, Code, MessageType};

use crate::bench::{Net, Running, SERVER, Site};
use crate::dhcp::Link;
use crate::machine::{CARD, Machine, SERVE, at_client, handle, root, site};

#[test]
fn a_loader_that_is_set_to_tftp_boots_a_kernel_that_finds_its_root_itself() {
    let Some(net) = Net::new(&[]) else { return };
    let session = Session::parse(TFTP_BOOTP_12_1);
    let site = by_tftp(&session);
    let _running = Running::start(&site, &net, &SERVE);
    at_client(&net, || {
        let mut machine = Machine::new(&net, &site, &session);
        machine.loader_root = TFTP_ROOT;
        for (step, message) in session.steps.iter().enumerate() {
            machine.play(step);
            if message.tftp().is_some_and(|file| file.name.ends_with("/etc/fstab")) {
                // What MOUNT gives the kernel later has to be the handle that its loader was told.
                let told = machine.told_handle();
                machine.files.know("fh0", told);
            }
        }
        assert!(machine.files.handles().len() > 400);
    });
}

#[test]
fn a_generic_kernel_has_its_root_by_the_handle_that_dhcp_told_its_loader() {
    let Some(net) = Net::new(&[]) else { return };
    let (loading, running) = (Session::parse(TFTP_BOOTP_12_1), Session::parse(PXEBOOT_12_1));
    let site = by_tftp(&running);
    let _running = Running::start(&site, &net, &SERVE);
    at_client(&net, || {
        let mut loader = Machine::new(&net, &site, &loading);
        loader.loader_root = TFTP_ROOT;
        let is_of_loader =
            |step: usize| loading.steps[step].tftp().is_some_and(|file| file.name.contains('/'));
        (0..).take_while(|step| !is_of_loader(*step)).for_each(|step| loader.play(step));
        let told = loader.told_handle();
        drop(loader);
        run_kernel(&net, &site, &running, told);
    });
}

#[test]
fn a_loader_by_http_boots_a_kernel_with_what_it_reads_there() {
    let Some(net) = Net::new(&[]) else { return };
    let session = Session::parse(PXEBOOT_12_1);
    let site = site(&session);
    site.done(&["machine", "set", "--loader-protocol", "http", "--kenv", "a.b=c d", "web1"]);
    let network = ["--domain", "example.org", "--dns", "10.77.0.2", "--dns", "10.77.0.3"];
    let _running = Running::start(&site, &net, &[&SERVE[..], &network].concat());
    at_client(&net, || {
        let url = http_boot(&net);
        let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        assert_eq!(host, SERVER);
        let base = format!("/{}/", path.strip_suffix("/boot/loader.efi").unwrap());
        let own = |path: &str| fs::read(root(&site).join(path.trim_start_matches('/'))).unwrap();
        for path in ["/boot/loader.efi", "/boot/defaults/loader.conf", "/boot/kernel/kernel"] {
            let found = get(&format!("{base}{path}"));
            assert_eq!((found.status, found.is_folder), (200, false), "{path}");
            assert!(found.body == own(path), "{path}");
        }
        for path in ["/boot/nextboot.conf", "/boot/nextboot.conf/", "/etc/master.passwd", "/etc/"] {
            assert_eq!(get(&format!("{base}{path}")).status, 404, "{path}");
        }
        let folder = get(&format!("{base}/boot"));
        assert!(folder.is_folder && folder.body.ends_with(b"\0"));
        let list = String::from_utf8(folder.body).unwrap();
        assert!(list.contains("<a href=\"kernel/\">") && list.contains("<a href=\"loader.efi\">"));
        let variables = get(&format!("{base}/boot/loader.conf.local")).body;
        let variables = String::from_utf8(variables).unwrap();
        let told = |name: &str| {
            let mut lines = variables.lines().filter_map(|line| line.split_once('='));
            let value = lines.find(|(known, _)| *known == name).unwrap().1;
            value.trim_matches('"')
        };
        assert_eq!(told("a.b"), "c d");
        // What its own DHCP would have left for rc.d/hostname and rc.d/resolv.
        assert_eq!(told("dhcp.host-name"), "web1");
        assert_eq!(told("dhcp.domain-name"), "example.org");
        assert_eq!(told("dhcp.domain-name-servers"), "10.77.0.2,10.77.0.3");
        assert_eq!(told("boot.nfsroot.server"), SERVER);
        let told = handle(told("boot.nfsroot.nfshandle"), told("boot.nfsroot.nfshandlelen"));
        run_kernel(&net, &site, &session, told);
    });
}

/// Both loaders use transaction 1 and take any answer with it: step by step, whole boots long.
#[test]
fn machines_with_the_same_transactions_boot_side_by_side() {
    let Some(net) = Net::new(&[]) else { return };
    let session = Session::parse(LOADER_EFI_12_1);
    let site = site(&session);
    let other = "52:54:00:77:00:02";
    // It warns: both would write to one root.
    let added = site.run(&["machine", "add", "--mac", other, "--environment", "head", "web2"]);
    assert_eq!(added.status, Some(0));
    let _running = Running::start(&site, &net, &SERVE);
    at_client(&net, || {
        net.client(&[
            "ip", "link", "add", "link", CARD, "name", "c1", "address", other, "type", "macvlan",
            "mode", "bridge",
        ]);
        net.client(&["ip", "link", "set", "c1", "up"]);
        let mut one = Machine::with_card(&net, &site, &session, CARD, 0);
        let mut two = Machine::with_card(&net, &site, &session, "c1", 1);
        for step in 0..session.steps.len() {
            one.play(step);
            two.play(step);
        }
        for machine in [&one, &two] {
            assert!(machine.files.handles().len() > 400);
            assert!(!machine.files.calls.has_stray_answers());
        }
        assert_eq!(one.files.handles(), two.files.handles());
    });
}

/// A site whose machine's loader is to use TFTP.
fn by_tftp(session: &Session<'_>) -> Site {
    let site = site(session);
    site.done(&["machine", "set", "--loader-protocol", "tftp", "web1"]);
    site
}

/// Runs the kernel of a session, which has nothing of its loader but the handle.
fn run_kernel(net: &Net, site: &Site, session: &Session<'_>, told: Vec<u8>) {
    let mut kernel = Machine::new(net, site, session);
    kernel.files.know("fh0", told);
    let is_kernel = |step: &fixtures::session::Step<'_>| {
        step.rpc().is_some_and(|call| call.transport == Transport::Tcp)
    };
    let first = session.steps.iter().position(is_kernel).unwrap();
    (first..session.steps.len()).for_each(|step| kernel.play(step));
    assert!(kernel.files.handles().len() > 100);
}

/// What UEFI's HTTP boot does before it asks for its file: gives that file's URL.
fn http_boot(net: &Net) -> String {
    net.client(&["ip", "address", "flush", "dev", CARD]);
    let link = Link::open(CARD);
    let ask = |kind, more: &[(Code, Vec<u8>)]| {
        let mut request = Builder::request(kind, 0x0708_090a, [0x52, 0x54, 0, 0x77, 0, 1]);
        request.set(Code::VENDOR_CLASS, *b"HTTPClient:Arch:00016:UNDI:003001");
        request.set(Code::ARCHITECTURES, [0, 16]);
        request.set(Code::PARAMETER_REQUEST_LIST, [1, 3, 6, 12, 15, 17, 43, 60, 66, 67, 97]);
        more.iter().for_each(|(code, value)| request.set(*code, value.as_slice()));
        link.ask(&request.finish())
    };
    let offer = ask(MessageType::Discover, &[]);
    let wanted = offer.yiaddr().octets().to_vec();
    let server = offer.option(54).unwrap().to_vec();
    let chosen = [(Code::REQUESTED_ADDRESS, wanted), (Code::SERVER_IDENTIFIER, server)];
    let ack = ask(MessageType::Request, &chosen);
    assert_eq!(ack.promise(), offer.promise());
    assert_eq!(ack.yiaddr(), Ipv4Addr::new(10, 77, 0, 100));
    net.client(&["ip", "address", "replace", "10.77.0.100/24", "dev", CARD]);
    let url = ack.option(67).unwrap();
    String::from_utf8(url.strip_suffix(b"\0").unwrap_or(url).to_vec()).unwrap()
}

/// An answer as `loader.efi` reads it.
struct Got {
    status: u16,
    /// Whether it takes it for a folder.
    is_folder: bool,
    body: Vec<u8>,
}

/// Asks as `loader.efi` does (efihttp.c): a connection for each file.
fn get(path: &str) -> Got {
    let mut stream = TcpStream::connect((SERVER, 80)).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {SERVER}\r\nConnection: close\r\n");
    stream.write_all(format!("{head}Accept: */*\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let (head, body) = (String::from_utf8(answer[..end].to_vec()).unwrap(), &answer[end + 4..]);
    let field = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).unwrap().1
    };
    assert_eq!(field("Content-Length").parse(), Ok(body.len()), "{path}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Got { status, is_folder: field("Content-Type").starts_with("text/html"), body: body.to_vec() }
}

/// The root path by which a loader takes to TFTP.
const TFTP_ROOT: &str = "tftp://10.77.0.1/be/head";
