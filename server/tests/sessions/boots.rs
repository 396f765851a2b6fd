//! Whole boots, and what may come between them.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use fixtures::session::{
    LOADER_EFI_3_0, LOADER_EFI_12_1, Message, PXEBOOT_10_1, PXEBOOT_12_1, Session, TFTP_BOOTP_12_1,
};
use nix::sys::signal::Signal;

use crate::bench::{Net, Running, SERVER, Site};
use crate::dhcp::Link;
use crate::machine::{CARD, MAC, Machine, SERVE, at_client, root, site};

#[test]
fn a_bios_machine_boots_by_pxeboot_10_1() {
    boot(PXEBOOT_10_1);
}

#[test]
fn a_bios_machine_boots_by_pxeboot_12_1() {
    boot(PXEBOOT_12_1);
}

#[test]
fn a_uefi_machine_boots_by_loader_efi_12_1() {
    boot(LOADER_EFI_12_1);
}

#[test]
fn a_uefi_machine_boots_by_loader_efi_3_0() {
    boot(LOADER_EFI_3_0);
}

#[test]
fn a_machine_boots_by_tftp_alone_and_its_kernel_finds_its_root_itself() {
    boot(TFTP_BOOTP_12_1);
}

/// What a loader reads at once follows from the network's MTU: an answer in fragments fails the session.
#[test]
fn a_uefi_machine_boots_where_packets_are_small() {
    for (interface, told) in [(true, false), (false, true)] {
        let Some(net) = Net::new(&[]) else { return };
        let session = Session::parse(LOADER_EFI_3_0);
        let site = site(&session);
        let serve: &[&str] = if told { &["--mtu", "1400"] } else { &[] };
        if interface {
            net.ip(&["link", "set", "s0", "mtu", "1400"]);
            net.client(&["ip", "link", "set", CARD, "mtu", "1400"]);
        }
        let _running = Running::start(&site, &net, &[&SERVE, serve].concat());
        at_client(&net, || {
            let mut machine = Machine::new(&net, &site, &session);
            machine.files.calls.mtu = 1400;
            let kernel = session
                .steps
                .iter()
                .position(|step| step.rpc().is_some_and(|call| call.procedure == "FSINFO"));
            (0..kernel.unwrap()).for_each(|step| machine.play(step));
            assert_eq!(machine.files.read_size, 1244, "what one packet of 1400 bytes holds");
        });
    }
}

/// It is killed before the first file, between the loader's files, between loader and kernel, and
/// under the running system.
#[test]
fn a_machine_boots_on_when_the_server_was_killed() {
    let Some(net) = Net::new(&[]) else { return };
    let session = Session::parse(LOADER_EFI_12_1);
    let site = site(&session);
    let mut running = Some(Running::start(&site, &net, &SERVE));
    let file = session.steps.iter().position(|step| step.tftp().is_some()).unwrap();
    let call = session.steps.iter().position(|step| step.rpc().is_some()).unwrap();
    at_client(&net, || {
        let mut machine = Machine::new(&net, &site, &session);
        for step in 0..session.steps.len() {
            let between_calls = step >= call && (step - call).is_multiple_of(CALLS_OF_A_LIFE);
            if between_calls || step == file {
                // A boot that is not kept yet asks for its address again.
                await_record(&site);
                running.take().unwrap().end(Signal::SIGKILL);
                machine.files.calls.hang_up();
                // Files are served at once; the loader's DHCP comes after the first of them.
                let served = if step == file { "  DHCP s0 " } else { "named machines:" };
                running = Some(Running::start_until(served, &site, &net, &SERVE));
            }
            machine.play(step);
        }
        assert!(machine.files.handles().len() > 400);
    });
}

/// A loader counts its transactions from 1 and its ports from 1023 at every boot: what it asked
/// yesterday is not what it asks today.
#[test]
fn a_second_boot_gets_no_answers_of_the_first() {
    let Some(net) = Net::new(&[]) else { return };
    let session = Session::parse(LOADER_EFI_3_0);
    let site = site(&session);
    let _running = Running::start(&site, &net, &SERVE);
    let kernel = session
        .steps
        .iter()
        .position(|step| step.rpc().is_some_and(|call| call.procedure == "FSINFO"));
    let loader = 0..kernel.unwrap();
    at_client(&net, || {
        let boot = || {
            let mut machine = Machine::new(&net, &site, &session);
            loader.clone().for_each(|step| machine.play(step));
            assert!(!machine.files.calls.has_stray_answers());
            machine.files.handles().clone()
        };
        let before = boot();
        let path = root(&site).join("boot/kernel/kernel");
        let old = fs::read(&path).unwrap();
        // Another file of the same name, as an upgrade leaves it.
        fs::rename(&path, path.with_extension("old")).unwrap();
        fs::write(&path, old.iter().map(|byte| !byte).collect::<Vec<u8>>()).unwrap();
        let after = boot();
        let kernel = session.paths.iter().find(|(_, path)| *path == "/boot/kernel/kernel");
        let kernel = kernel.unwrap().0;
        for (name, handle) in &before {
            assert_eq!(after[name] == *handle, name != kernel, "{name}");
        }
    });
}

/// `loader.efi` begins with transaction 1 and does not compare hardware addresses: what it hears it
/// believes, so each has to hear its own offer alone.
#[test]
fn machines_with_the_same_transaction_get_their_own_offers() {
    let Some(net) = Net::new(&[]) else { return };
    let session = Session::parse(LOADER_EFI_12_1);
    let site = site(&session);
    let other = "52:54:00:77:00:02";
    // It warns: both would write to one root.
    let added = site.run(&["machine", "add", "--mac", other, "--environment", "head", "web2"]);
    assert_eq!(added.status, Some(0));
    let _running = Running::start(&site, &net, &SERVE);
    let discover = session.steps.iter().find_map(|step| match &step.message {
        Message::Dhcp(message) if message.payload[4..8] == [0, 0, 0, 1] => Some(&message.payload),
        Message::Dhcp(_) | Message::Rpc(_) | Message::Tftp(_) => None,
    });
    let one = discover.unwrap();
    let mut two = one.clone();
    two[33] = 2;
    at_client(&net, || {
        let link = Link::open(CARD);
        link.send(one);
        link.send(&two);
        let offers = [link.receive(), link.receive()];
        for offer in &offers {
            assert_eq!(offer.xid(), [0, 0, 0, 1]);
            assert_eq!(offer.chaddr(), offer.to_mac, "another machine hears it");
            assert_eq!(offer.yiaddr(), offer.to);
        }
        assert_ne!(offers[0].to_mac, offers[1].to_mac);
        assert_ne!(offers[0].yiaddr(), offers[1].yiaddr());
        assert!(offers.iter().all(|offer| offer.siaddr().to_string() == SERVER));
    });
}

/// Waits until the server has written down that the machine boots at its address.
fn await_record(site: &Site) {
    let path = site.state().join("boots").join(format!("{}.json", MAC.replace(':', "-")));
    let begun = Instant::now();
    while !fs::read_to_string(&path).is_ok_and(|text| text.contains("10.77.0.100")) {
        assert!(begun.elapsed() < Duration::from_secs(20), "no {}", path.display());
        thread::sleep(Duration::from_millis(10));
    }
}

/// Plays a whole boot.
fn boot(recording: &str) {
    let Some(net) = Net::new(&[]) else { return };
    let session = Session::parse(recording);
    let site = site(&session);
    let _running = Running::start(&site, &net, &SERVE);
    at_client(&net, || {
        let mut machine = Machine::new(&net, &site, &session);
        (0..session.steps.len()).for_each(|step| machine.play(step));
        assert!(machine.files.handles().len() > 400);
        assert!(!machine.files.calls.has_stray_answers());
    });
}

/// The server answers so many calls between two kills.
const CALLS_OF_A_LIFE: usize = 350;
