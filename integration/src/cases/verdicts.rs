//! Failures that are provoked over a real network, each with the sentence that it gets.
//!
//! Every machine boots as far as its part says and fails there. Then everybody is silent for as long as
//! netbe waits before it says why, and what it says is compared, and printed as a table.

mod actor;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::failure::{During, Failure, ensure};
use crate::forged::{Kind, Sender};
use crate::lab::Lab;
use crate::net::SERVER;
use crate::scene::Scene;
use crate::server::Site;
use crate::suite::{Case, Outcome};
use actor::{Actor, create, fsinfo, handle, lookup, read};

pub(super) const CASES: &[Case] =
    &[Case::new("verdicts: every failure has its sentence", sentences).light().when_named()];

/// A failure, and what is to be said of it.
struct Part {
    name: &'static str,
    environment: &'static str,
    play: fn(&mut Actor<'_>) -> Result<(), Failure>,
    cause: &'static str,
    words: &'static str,
}

const fn part(
    name: &'static str,
    play: fn(&mut Actor<'_>) -> Result<(), Failure>,
    cause: &'static str,
    words: &'static str,
) -> Part {
    Part { name, environment: "good", play, cause, words }
}

impl Part {
    const fn of(self, environment: &'static str) -> Self {
        Self { environment, ..self }
    }
}

/// The machines, in the order in which they are switched on. What is told while a machine lives comes last.
const PARTS: &[Part] = &[
    part("offer-lost", |m| m.discovers(UEFI).map(drop), "offer-unanswered", "offered an address"),
    part("tftp-blocked", |m| m.leases(UEFI), "tftp-blocked", "UDP port 69"),
    part("http-boot-blocked", |m| m.leases(Sender::UefiHttp), "http-blocked", "TCP port 80"),
    part("ipxe-rom-blocked", |m| m.leases(IPXE), "http-blocked", "TCP port 80"),
    part("http-blocked", to_ipxe, "http-blocked", "iPXE (UEFI) runs and has an address"),
    part("ipxe-mute", ipxe_mute, "offer-unanswered", "iPXE (UEFI) runs and asked"),
    part("wrong-name", wrong_name, "file-missing", "asked for wrong.efi by TFTP"),
    part("boot-over", boot_over, "file-refused", "this boot is over"),
    part("endless-error-8", endless_error, "terms-refused", "6 times by TFTP"),
    part("no-ack-of-oack", no_ack, "terms-unanswered", "(OACK) were never acknowledged"),
    part("mtu-tftp", large_blocks_lost, "frames-lost", "first block of 1468 bytes"),
    part("dies-at-tftp", dies_at_tftp, "transfer-failed", "got 1.0 KiB of 3.9 KiB"),
    part("no-memory", no_memory, "transfer-failed", "no room for it (TFTP ERROR 3)"),
    part("loader-empty", to_loader, "loader-broken", "snponly.efi is empty").of("empty"),
    part("loader-garbage", to_loader, "loader-broken", "is not a program").of("garbage"),
    part("loader-foreign", to_loader, "loader-foreign", "64-bit ARM UEFI").of("foreign"),
    part("secure-boot", to_loader, "loader-silent", "Secure Boot"),
    part("bios-hangs", bios_loader, "loader-silent", "fetched its loader"),
    part("script-hangs", to_script, "script-silent", "asked for no kernel"),
    part("kernel-garbage", to_kernel, "kernel-broken", "is not a program").of("no-kernel"),
    part("dies-at-kernel", dies_at_kernel, "transfer-failed", "kernel"),
    part("kernel-hangs", to_kernel, "kernel-silent", "loaded its kernel"),
    part("initrd-hangs", to_initrd, "kernel-silent", "loaded its initrd"),
    part("no-nfs-in-initrd", to_system, "no-mount", "did not ask for its root"),
    part("mount-refused", mount_refused, "mount-refused", "mounting /be/"),
    part("nfs-blocked", |m| to_root(m).map(drop), "nfs-blocked", "no call for a file came"),
    part("panics", panics, "stopped", "kernel panic"),
    part("panics-aloud", panics_aloud, "kernel-panicked", "Kernel panic - not syncing: VFS"),
    part("no-init", no_init, "no-init", "found none"),
    part("mtu-nfs", same_piece, "frames-lost", "same piece of a file again and again"),
    part("declines", declines, "address-in-use", "in use by another machine"),
    part("wrong-network", wrong_network, "address-refused", "was refused 192.168.9.9"),
    part("other-server", other_server, "foreign-server", "10.77.0.2"),
    part("never-on", |_| Ok(()), "", ""),
];

/// What is played at the end of the silence, side by side.
const LIVING: &[Part] = &[
    part("writes-read-only", writes, "read-only-root", "tried to write to its root"),
    part("loops", loops, "looping", "4 boots in"),
];

const UEFI: Sender = Sender::UefiPxe;
const IPXE: Sender = Sender::UefiIpxe;

fn sentences(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    scene.network.address_the_client()?;
    environments(&site)?;
    let all = || PARTS.iter().chain(LIVING);
    for (number, part) in (1_u8..).zip(all()) {
        let mac = text(Actor::new(&scene.network, number).mac);
        site.run(&format!("machine add --mac {mac} --ro {}", part.name))?;
        site.run(&format!("sharepxe --machine {} {}", part.name, part.environment))?;
    }
    let unassigned = text(Actor::new(&scene.network, 200).mac);
    site.run(&format!("machine add --mac {unassigned} unassigned"))?;
    let server = site.serve()?;
    let play = |number: u8, part: &Part| {
        let mut machine = Actor::new(&scene.network, number);
        let played = scene.network.inside(|| (part.play)(&mut machine));
        played.map_err(|failure| failure.retold(|words| format!("{}: {words}", part.name)))
    };
    for (number, part) in (1..).zip(PARTS) {
        play(number, part)?;
    }
    let strangers = [(200, "unassigned"), (201, "unknown")];
    for (number, _) in strangers {
        let mut machine = Actor::new(&scene.network, number);
        scene.network.inside(|| machine.discovers(UEFI).map(drop))?;
    }
    thread::sleep(SILENCE.saturating_sub(LIFE));
    let first = u8::try_from(PARTS.len()).unwrap_or(u8::MAX).saturating_add(1);
    thread::scope(|scope| {
        let living: Vec<_> = (first..).zip(LIVING).collect();
        let begin = |(number, part)| scope.spawn(move || play(number, part));
        let playing: Vec<_> = living.into_iter().map(begin).collect();
        let mut played = playing.into_iter().map(|playing| playing.join());
        played
            .try_for_each(|played| played.unwrap_or_else(|_| Err(Failure::said("a part panicked"))))
    })?;
    let expected = all().filter(|part| !part.cause.is_empty());
    let expected = expected.map(|part| (part.name.to_owned(), part.cause, part.words));
    let unknown = text(Actor::new(&scene.network, 201).mac);
    let expected = expected.chain([
        ("unassigned".to_owned(), "refused", "no boot environment is assigned to"),
        (unknown, "refused", "unknown machine"),
    ]);
    let wrong = compared(&site, expected.collect())?;
    let never = site.run("explain never-on")?;
    ensure(never.contains("[never-heard]"), || format!("explain never-on: {never}"))?;
    let wrong_name = site.run("explain wrong-name")?;
    ensure(
        wrong_name.contains("cure:") && wrong_name.contains("UEFI PXE asks for an address"),
        || format!("explain wrong-name: {wrong_name}"),
    )?;
    let said = site.run("log --console panics-aloud")?;
    ensure(said.contains("Kernel panic - not syncing: VFS") && !said.contains('\u{1b}'), || {
        format!("log --console: {said:?}")
    })?;
    server.stop()?;
    let server = site.serve()?;
    let unheard = vec![("panics".to_owned(), "unheard", "not seen since")];
    let wrong = [wrong, compared(&site, unheard)?].concat();
    server.stop()?;
    ensure(wrong.is_empty(), || wrong.join("\n"))?;
    Ok(Outcome::Passed)
}

/// Compares what is said of each machine with what is to be said, and prints it; gives what differs.
fn compared(site: &Site<'_>, expected: Vec<(String, &str, &str)>) -> Result<Vec<String>, Failure> {
    let status: Status = serde_json::from_str(&site.run("status -j")?)
        .map_err(|error| Failure::Said(format!("status -j: {error}")))?;
    let mut wrong = Vec::new();
    for (name, cause, words) in expected {
        let told = status.machines.iter().find(|machine| machine.name == name);
        let said = told.and_then(|told| told.message.clone()).unwrap_or_default();
        let found = told.and_then(|told| told.cause.clone()).unwrap_or_default();
        println!("{name:<18} {found:<17} {said}");
        if found != cause || !said.contains(words) {
            wrong.push(format!("{name}: {found}: {said:?}, and not {cause}: {words:?}"));
        }
    }
    Ok(wrong)
}

#[derive(Deserialize)]
struct Status {
    machines: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    name: String,
    cause: Option<String>,
    message: Option<String>,
}

/// What machines boot: one environment that is right, and others with one file that is not.
fn environments(site: &Site<'_>) -> Result<(), Failure> {
    for name in ["good", "empty", "garbage", "foreign", "no-kernel", "others"] {
        site.run(&format!("create {name}"))?;
        let boot = site.root(name).join("boot");
        fs::create_dir_all(&boot).during(boot.display())?;
        let loader = match name {
            "empty" => Vec::new(),
            "garbage" => b"<html>404</html>".to_vec(),
            "foreign" => program(0xaa64),
            _ => program(0x8664),
        };
        let mut kernel = vec![0; 2 << 20];
        if name != "no-kernel" {
            kernel.splice(0x202..0x206, *b"HdrS");
        }
        write(&boot.join("snponly.efi"), &loader)?;
        write(&boot.join("undionly.kpxe"), &[0xea; 3000])?;
        write(&boot.join("vmlinuz"), &kernel)?;
        write(&boot.join("initrd.img"), &[7; 4000])?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).during(path.display())
}

/// A program in the format of UEFI, as far as its header.
fn program(machine: u16) -> Vec<u8> {
    let mut program = vec![0; 4000];
    program.splice(0..2, *b"MZ");
    program.splice(0x3c..0x3d, [0x80]);
    program.splice(0x80..0x84, *b"PE\0\0");
    program.splice(0x84..0x86, machine.to_le_bytes());
    program
}

fn to_loader(machine: &mut Actor<'_>) -> Result<(), Failure> {
    machine.leases(UEFI)?;
    machine.fetches().map(drop)
}

fn bios_loader(machine: &mut Actor<'_>) -> Result<(), Failure> {
    machine.leases(Sender::Pxe)?;
    machine.fetches().map(drop)
}

fn to_ipxe(machine: &mut Actor<'_>) -> Result<(), Failure> {
    to_loader(machine)?;
    thread::sleep(START);
    machine.leases(IPXE)
}

fn ipxe_mute(machine: &mut Actor<'_>) -> Result<(), Failure> {
    to_loader(machine)?;
    thread::sleep(START);
    machine.discovers(IPXE).map(drop)
}

fn wrong_name(machine: &mut Actor<'_>) -> Result<(), Failure> {
    machine.leases(UEFI)?;
    let (_, answer, _) = machine.asks("wrong.efi", &[])?;
    ensure(answer.starts_with(&[0, 5, 0, 1]), || format!("TFTP said {answer:?}"))
}

fn boot_over(machine: &mut Actor<'_>) -> Result<(), Failure> {
    machine.leases(IPXE)?;
    machine.file = format!("http://{SERVER}/b/0000000000000000/boot.ipxe");
    machine.gets("boot.ipxe", 4096).map(drop)
}

fn endless_error(machine: &mut Actor<'_>) -> Result<(), Failure> {
    machine.leases(UEFI)?;
    for _ in 0..6 {
        let (socket, _, from) = machine.asks(&machine.file, &["tsize", "0", "blksize", "1468"])?;
        Actor::answers(&socket, from, b"\0\x05\0\x08no\0")?;
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn no_ack(machine: &mut Actor<'_>) -> Result<(), Failure> {
    machine.leases(UEFI)?;
    machine.asks(&machine.file, &["blksize", "1468"]).map(keep)
}

fn large_blocks_lost(machine: &mut Actor<'_>) -> Result<(), Failure> {
    machine.leases(UEFI)?;
    let (socket, _, from) = machine.asks(&machine.file, &["blksize", "1468"])?;
    Actor::answers(&socket, from, &[0, 4, 0, 0])?;
    keep(socket);
    Ok(())
}

fn dies_at_tftp(machine: &mut Actor<'_>) -> Result<(), Failure> {
    machine.leases(UEFI)?;
    let (socket, _, from) = machine.asks(&machine.file, &[])?;
    Actor::answers(&socket, from, &[0, 4, 0, 1])?;
    Actor::answers(&socket, from, &[0, 4, 0, 2])?;
    keep(socket);
    Ok(())
}

/// A socket of a machine that died: no ICMP tells that it is closed.
fn keep<T>(socket: T) {
    std::mem::forget(socket);
}

fn no_memory(machine: &mut Actor<'_>) -> Result<(), Failure> {
    machine.leases(UEFI)?;
    let (socket, _, from) = machine.asks(&machine.file, &[])?;
    Actor::answers(&socket, from, b"\0\x05\0\x03full\0")
}

fn to_script(machine: &mut Actor<'_>) -> Result<(), Failure> {
    to_ipxe(machine)?;
    machine.gets("boot.ipxe", WHOLE).map(drop)
}

fn to_kernel(machine: &mut Actor<'_>) -> Result<(), Failure> {
    to_script(machine)?;
    machine.gets("kernel", WHOLE).map(drop)
}

fn dies_at_kernel(machine: &mut Actor<'_>) -> Result<(), Failure> {
    to_script(machine)?;
    machine.gets("kernel", 8192).map(drop)
}

fn to_initrd(machine: &mut Actor<'_>) -> Result<(), Failure> {
    to_kernel(machine)?;
    machine.gets("initrd", WHOLE).map(drop)
}

fn to_system(machine: &mut Actor<'_>) -> Result<(), Failure> {
    to_initrd(machine)?;
    machine.leases(Sender::System)
}

fn mount_refused(machine: &mut Actor<'_>) -> Result<(), Failure> {
    to_system(machine)?;
    let mounted = machine.mounts("/be/nothing")?;
    ensure(mounted.is_err(), || "a root that is not there was mounted".to_owned())
}

fn to_root(machine: &mut Actor<'_>) -> Result<Vec<u8>, Failure> {
    to_system(machine)?;
    machine.mounts("/be/good")?
}

fn panics(machine: &mut Actor<'_>) -> Result<(), Failure> {
    let root = to_root(machine)?;
    let mut nfs = machine.nfs()?;
    fsinfo(&mut nfs, &root)?;
    let boot = handle(&lookup(&mut nfs, &root, "boot")?)?;
    let file = handle(&lookup(&mut nfs, &boot, "vmlinuz")?)?;
    read(&mut nfs, &file).map(drop)
}

fn panics_aloud(machine: &mut Actor<'_>) -> Result<(), Failure> {
    panics(machine)?;
    // What was read is told by the time that the kernel has said this.
    thread::sleep(Duration::from_secs(2));
    machine.tells("[    3.1] eth0: \u{1b}]0;link\u{7} up\n")?;
    machine.tells("[    3.2] Kernel panic - not syncing: VFS: Unable to mount root fs\n")
}

fn no_init(machine: &mut Actor<'_>) -> Result<(), Failure> {
    let root = to_root(machine)?;
    let mut nfs = machine.nfs()?;
    fsinfo(&mut nfs, &root)?;
    let boot = handle(&lookup(&mut nfs, &root, "boot")?)?;
    lookup(&mut nfs, &boot, "init").map(drop)
}

/// As FreeBSD's loader, which is told to read more than one frame holds.
fn same_piece(machine: &mut Actor<'_>) -> Result<(), Failure> {
    to_loader(machine)?;
    let root = machine.mounts("/be/good")??;
    let mut nfs = machine.nfs()?;
    let boot = handle(&lookup(&mut nfs, &root, "boot")?)?;
    let file = handle(&lookup(&mut nfs, &boot, "vmlinuz")?)?;
    for _ in 0..8 {
        read(&mut nfs, &file)?;
        thread::sleep(Duration::from_millis(400));
    }
    Ok(())
}

fn declines(machine: &mut Actor<'_>) -> Result<(), Failure> {
    machine.leases(UEFI)?;
    let (kind, address) = (Kind::Decline, machine.address);
    machine.says(kind, address, Some(actor::server()?))
}

fn wrong_network(machine: &mut Actor<'_>) -> Result<(), Failure> {
    machine.discovers(UEFI)?;
    machine.says(Kind::Request, Ipv4Addr::new(192, 168, 9, 9), Some(actor::server()?))
}

fn other_server(machine: &mut Actor<'_>) -> Result<(), Failure> {
    machine.discovers(UEFI)?;
    let other = Ipv4Addr::new(10, 77, 0, 2);
    machine.says(Kind::Request, Ipv4Addr::new(10, 77, 0, 150), Some(other))
}

fn writes(machine: &mut Actor<'_>) -> Result<(), Failure> {
    let root = to_root(machine)?;
    let mut nfs = machine.nfs()?;
    fsinfo(&mut nfs, &root)?;
    let until = Instant::now() + LIFE;
    while Instant::now() < until {
        let status = create(&mut nfs, &root)?;
        ensure(status == READ_ONLY, || format!("CREATE: status {status}"))?;
        thread::sleep(Duration::from_millis(1100));
    }
    Ok(())
}

fn loops(machine: &mut Actor<'_>) -> Result<(), Failure> {
    for _ in 0..4 {
        to_script(machine)?;
        // Firmware begins a boot anew; sooner it would be the same one.
        thread::sleep(Duration::from_millis(5500));
    }
    Ok(())
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// More than any file has.
const WHOLE: u64 = 16 << 20;
/// `NFS3ERR_ROFS` (RFC 1813 §2.6).
const READ_ONLY: u32 = 30;
/// What is silent for a minute has stopped, and all that it may be told of before that is told.
const SILENCE: Duration = Duration::from_secs(65);
/// What firmware takes at least to start a program: netbe knows by then that all of it came.
const START: Duration = Duration::from_millis(300);
/// How long a machine lives that is told of while it does.
const LIFE: Duration = Duration::from_secs(24);
