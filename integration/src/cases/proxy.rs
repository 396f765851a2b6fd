//! Machines boot from netbe where dnsmasq gives them their addresses.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::{CLIENT_INTERFACE, SERVER};
use crate::packages;
use crate::peer;
use crate::process::{Program, Running};
use crate::scene::{BOOT_LIMIT, Scene, mac, with_log};
use crate::suite::{Case, Outcome};
use crate::vm::Firmware;

pub(super) const CASES: &[Case] = &[
    Case::new("boot BIOS beside dnsmasq", |lab| linux(lab, Firmware::Bios)),
    Case::new("boot UEFI beside dnsmasq", |lab| linux(lab, Firmware::Uefi)),
    Case::new("boot BIOS by dnsmasq's lines", led),
    Case::new("load options beside dnsmasq", load_options),
    Case::new("lines for other DHCP servers", lines).light(),
];

/// netbe is a proxy: the address comes from dnsmasq, and everything else from netbe.
fn linux(lab: &Lab, firmware: Firmware) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    let _other = other(&scene, &[&named()])?;
    scene.environment("guest", "test -c /dev/console")?;
    site.machine("alone", &mac(1), "guest")?;
    let server = site.serve_as(PROXY)?;
    boots(&scene, firmware)?;
    let log = fs::read_to_string(site.log()).during("netbe's log")?;
    ensure(log.contains("from another DHCP server"), || "netbe saw no address".to_owned())?;
    ensure(!log.contains("offered 10."), || "a proxy offered an address".to_owned())?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// The machine `alone` boots, and only dnsmasq gives it addresses.
fn boots(scene: &Scene<'_>, firmware: Firmware) -> Result<(), Failure> {
    let capture = scene.capture("not tcp port 2049")?;
    scene.boots("alone", firmware, "guest")?;
    let wrong = format!("_ws.malformed || (ip.src == {SERVER} && dhcp.ip.your != 0.0.0.0)");
    let wrong = capture.print(&wrong)?;
    ensure(wrong.trim().is_empty(), || format!("netbe gave addresses, or nonsense:\n{wrong}"))
}

/// iPXE starts a program in the place of FreeBSD's loader.efi with what that reads: its own address
/// and mask from dnsmasq, and netbe's address for a router that there is not.
fn load_options(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let (site, directory) = (scene.site(), &scene.directory);
    // Without this dnsmasq names itself as router.
    let _other = other(&scene, &[&named(), "--dhcp-option=option:router"])?;
    site.run("create free")?;
    let boot = site.root("free").join("boot");
    fs::create_dir_all(boot.join("kernel")).during(boot.display())?;
    fs::write(boot.join("kernel/kernel"), "").during(boot.display())?;
    fs::copy(stand_in(directory)?, boot.join("loader.efi")).during(boot.display())?;
    site.machine("alone", &mac(1), "free")?;
    let server = site.serve_as(PROXY)?;
    let mut machine = scene.switch_on("alone", Firmware::Uefi, 1)?;
    machine.wait_until_off(BOOT_LIMIT).map_err(|failure| with_log(&site, failure))?;
    let console = fs::read(directory.join("alone.serial")).during("the machine's console")?;
    let console = String::from_utf8_lossy(&console).replace(['\r', '\n'], "");
    let leases = fs::read_to_string(directory.join("dnsmasq.leases")).during("dnsmasq's leases")?;
    let address = leases.split_whitespace().find(|word| word.starts_with("10.77.0."));
    let words = format!(
        "[loader.efi ipaddr={} netmask=255.255.255.0 gatewayip={SERVER} serverip={SERVER} \
         rootpath=/be/free boot.nfsroot.options=nolockd nfs.read_size=1344]",
        address.unwrap_or("an address")
    );
    ensure(console.contains(&words), || {
        let shown = console.rsplit_once("[loader").map_or("none", |(_, shown)| shown);
        format!("load options: {shown}; not {words}")
    })
    .map_err(|failure| machine.explain(with_log(&site, failure)))?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// netbe only listens: dnsmasq has the lines that netbe prints for it, and nothing else.
fn led(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    scene.environment("guest", "test -c /dev/console")?;
    site.machine("alone", &mac(1), "guest")?;
    let lines = site.run("show dhcp --for dnsmasq --machine alone guest")?;
    let words: Vec<String> = lines.lines().map(|line| format!("--{line}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let _other = other(&scene, &words)?;
    let server = site.serve_as("serve --interface lan")?;
    boots(&scene, Firmware::Bios)?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// The servers themselves read what netbe prints for them, for Linux and FreeBSD, for a machine and
/// for everybody.
fn lines(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let (site, directory) = (scene.site(), &scene.directory);
    packages::install(&[packages::KEA_LIBRARIES])?;
    let kea = packages::Kea::unpacked(&lab.cache)?;
    let kea_dhcp4 = packages::unpacked(&lab.cache, "kea-dhcp4-server")?.join("usr/sbin/kea-dhcp4");
    let dhcpd = packages::unpacked(&lab.cache, "isc-dhcp-server")?.join("usr/sbin/dhcpd");
    scene.environment("linux", "true")?;
    site.run("create free")?;
    let boot = site.root("free").join("boot");
    fs::create_dir_all(boot.join("kernel")).during(boot.display())?;
    for file in ["kernel/kernel", "pxeboot", "loader.efi"] {
        fs::write(boot.join(file), "").during(file)?;
    }
    for environment in ["linux", "free"] {
        site.machine(environment, &mac(1), environment)?;
        site.run(&format!("machine set --address 10.77.0.60 {environment}"))?;
        site.run(&format!("sharepxe --default {environment}"))?;
        for whose in [format!("--machine {environment} {environment}"), environment.to_owned()] {
            let show = |server: &str| site.run(&format!("show dhcp --for {server} {whose}"));
            let file = directory.join("dnsmasq.conf");
            fs::write(&file, show("dnsmasq")?).during(file.display())?;
            let program = Program::new("dnsmasq").arg("--test");
            read_by(program.arg(format!("--conf-file={}", file.display())))?;
            let file = directory.join("dhcpd.conf");
            fs::write(&file, show("dhcpd")?).during(file.display())?;
            read_by(Program::new(&dhcpd).words("-t -cf").arg(&file))?;
            let file = directory.join("kea.json");
            fs::write(&file, show("kea")?).during(file.display())?;
            read_by(kea.program(Program::new(&kea_dhcp4)).arg("-t").arg(&file))?;
        }
        site.run(&format!("machine remove {environment}"))?;
    }
    Ok(Outcome::Passed)
}

fn read_by(program: Program) -> Result<(), Failure> {
    program.run(Duration::from_secs(60)).map(|_words| ())
}

/// Has dnsmasq name the machine.
fn named() -> String {
    format!("--dhcp-host={},alone", mac(1))
}

/// dnsmasq on the clients' side, with these words more; it knows nothing else of network boot.
fn other(scene: &Scene<'_>, more: &[&str]) -> Result<Running, Failure> {
    let Scene { network, directory, .. } = scene;
    network.address_the_client()?;
    let words = [&["--no-ping"], more].concat();
    let running = peer::plain_dnsmasq(&network.client, CLIENT_INTERFACE, directory, &words)?;
    let log = directory.join("dnsmasq.log");
    wait_for("dnsmasq's start", Duration::from_secs(20), || {
        Ok(fs::read_to_string(&log).is_ok_and(|said| said.contains("DHCP, IP range")).then_some(()))
    })?;
    Ok(running)
}

/// Builds the UEFI program that prints its load options.
fn stand_in(directory: &Path) -> Result<PathBuf, Failure> {
    let path = |name: &str| directory.join(name);
    fs::write(path("options.c"), include_str!("../../guest/options.c")).during("options.c")?;
    Program::new("gcc")
        .words("-std=c11 -O1 -Wall -Wextra -Werror -ffreestanding -fno-ident -fpic")
        .words("-fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none")
        .words("-fvisibility=hidden -mno-red-zone -c options.c -o options.o")
        .directory(directory)
        .run(Duration::from_secs(60))?;
    // Subsystem 10 is a UEFI application.
    Program::new("ld")
        .words("-m i386pep --subsystem 10 --image-base 0 --dynamicbase -e start")
        .words("-o loader.efi options.o")
        .directory(directory)
        .run(Duration::from_secs(60))?;
    Ok(path("loader.efi"))
}

/// netbe beside another DHCP server.
const PROXY: &str = "serve --interface lan --mode proxy";
