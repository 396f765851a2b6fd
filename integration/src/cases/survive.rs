//! Eight machines live while everything goes wrong that an administrator, a neighbour or a disk can do.
//!
//! Six Linux guests on environments and roots of their own, one whose files lie on a disk that hangs,
//! and a recorded FreeBSD machine. Each writes, reads back and compares all the time; whatever error
//! one of them sees, and each byte that is not there in the end, is a failure.

mod guests;
mod pulse;
mod trouble;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::guests::{Guest, Kind, REPORTS};
use self::pulse::{Phase, Pulse};
use self::trouble::{Ground, Trouble};
use crate::disk::{Disk, own_mounts};
use crate::failure::{During, Failure, ensure};
use crate::forged::{self, Kind as Dhcp, Message, Sender};
use crate::interrupt::{self, wait_for};
use crate::lab::{Lab, Wishes};
use crate::net::{CLIENT_INTERFACE, Namespace, Network, SERVER};
use crate::noise::Noise;
use crate::recorded;
use crate::scene::{BOOT_LIMIT, mac, with_log};
use crate::server::{Server, Site};
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] =
    &[Case::new("hung disk", hung_disk).alone(), Case::new("survive", case).long()];

/// A disk hangs below one export: what is read from another is there as fast as ever, and somebody new
/// gets an address.
fn hung_disk(lab: &Lab) -> Result<Outcome, Failure> {
    own_mounts()?;
    let directory = lab.directory("hung disk")?;
    let network = Network::new()?;
    network.address_the_client()?;
    let site = Site::new(lab.netbe()?, &network, &directory);
    site.run("create golden")?;
    site.run("create -l linux slow")?;
    let disk = exports(&site, &directory)?;
    let server = site.serve()?;
    let pulse = Pulse::new(&network)?;
    let stop = AtomicBool::new(false);
    let (latency, ended) = thread::scope(|scope| {
        let beat = scope.spawn(|| pulse.beat(&stop));
        let mut ground = Ground::new(&site, &network, &disk, &pulse, server);
        pulse.enter(Phase::Quiet);
        let rested = rest(QUIET);
        pulse.enter(Phase::Other);
        let made = rested.and_then(|()| ground.make(Trouble::Hang, &mut Noise::new(1)));
        stop.store(true, Ordering::Relaxed);
        let latency = beat.join().map_err(|_panic| Failure::said("the reads ended early"))?;
        made.and_then(|()| Ok((latency?, ground.end()?)))
    })?;
    let (server, _told, mut wrong) = ended;
    println!("      {latency}");
    wrong.extend(latency.judge().err());
    ensure(wrong.is_empty(), || wrong.join("\n")).map_err(|failure| with_log(&site, failure))?;
    server.stop()?;
    Ok(Outcome::Passed)
}

fn case(lab: &Lab) -> Result<Outcome, Failure> {
    let seed = seed(lab.wishes);
    let minutes = lab.wishes.minutes.unwrap_or(MINUTES);
    own_mounts()?;
    println!("      {}", survive(lab, minutes, seed)?);
    Ok(Outcome::Passed)
}

/// What was wished, or another seed each time.
pub(crate) fn seed(wishes: Wishes) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    wishes.seed.unwrap_or(now.as_secs())
}

/// Makes trouble for so many minutes, the same for the same seed; gives what happened in a line. The
/// process needs mounts of its own.
pub(crate) fn survive(lab: &Lab, minutes: u32, seed: u64) -> Result<String, Failure> {
    println!("      seed {seed}");
    let directory = lab.directory("survive")?;
    let network = Network::new()?;
    network.address_the_client()?;
    let free = Namespace::new()?;
    network.join(&free)?;
    let site = Site::new(lab.netbe()?, &network, &directory);
    let disk = prepare(lab, &site, &directory)?;
    let server = site.serve()?;
    let scene = Scene { network: &network, free: &free, site: &site, directory: &directory };
    scene
        .live(&disk, server, minutes, seed)
        .map_err(|failure| with_log(&site, failure).retold(|words| format!("seed {seed}: {words}")))
}

/// Makes all environments and machines, and the disk.
fn prepare(lab: &Lab, site: &Site<'_>, directory: &Path) -> Result<Disk, Failure> {
    site.environment("golden", lab.parts()?, guests::TASK)?;
    guests::install(directory, &site.root("golden"))?;
    for (number, (name, kind)) in (1..).zip(guests::ALL) {
        match kind {
            Kind::Clone => {
                site.run(&format!("clone golden {name}"))?;
                site.machine(name, &mac(number), name)?;
            }
            Kind::OnDisk => {
                // Of several file systems: a disk may be mounted on `home`.
                site.run(&format!("create -l linux {name}"))?;
                lab.parts()?.furnish(&site.root(name), guests::TASK)?;
                guests::install(directory, &site.root(name))?;
                site.machine(name, &mac(number), name)?;
            }
            Kind::Fresh | Kind::Own => {
                let root = if kind == Kind::Own { "own" } else { "fresh" };
                site.named(name, &mac(number))?;
                site.run(&format!("sharepxe --machine {name} --root {root} golden"))?;
            }
        }
    }
    site.run(&format!("create {RECORDED}"))?;
    recorded::furnish(&site.root(RECORDED))?;
    site.machine(RECORDED, &mac(RECORDED_NUMBER), RECORDED)?;
    fs::write(site.root("slow").join("lab/place"), "/home").during("lab/place")?;
    exports(site, directory)
}

/// Makes the export from which reads are measured, and mounts the disk below the environment `slow`.
fn exports(site: &Site<'_>, directory: &Path) -> Result<Disk, Failure> {
    site.run("create healthy")?;
    pulse::furnish(&site.root("healthy"))?;
    for name in ["healthy", "slow"] {
        let share = format!("sharenfs --maproot root --network 10.77.0.0/24 --insecure {name}");
        site.run(&share)?;
    }
    let place = site.root("slow").join("home");
    let disk = Disk::new(directory, 128, &place)?;
    pulse::furnish_disk(&place)?;
    Ok(disk)
}

/// Where it all happens.
struct Scene<'a> {
    network: &'a Network,
    /// Where the recorded machine lives.
    free: &'a Namespace,
    site: &'a Site<'a>,
    directory: &'a Path,
}

impl Scene<'_> {
    fn live(
        &self,
        disk: &Disk,
        server: Server,
        minutes: u32,
        seed: u64,
    ) -> Result<String, Failure> {
        let (up, stop, calm) =
            (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(true));
        let pulse = Pulse::new(self.network)?;
        thread::scope(|scope| {
            let recorded = scope.spawn(|| {
                let life = recorded::live(self.free, bytes(RECORDED_NUMBER), RECORDED, &up, &stop);
                up.store(true, Ordering::Relaxed);
                life
            });
            let forger = scope.spawn(|| self.forge(seed, &calm, &stop));
            let beat = scope.spawn(|| pulse.beat(&stop));
            let lived = self.trouble(disk, server, &pulse, (&up, &calm), minutes, seed);
            stop.store(true, Ordering::Relaxed);
            let panic = |_panic| Failure::said("a part of the case ended early");
            let latency = beat.join().map_err(panic)?;
            let forged = forger.join().map_err(panic)?;
            let recorded = recorded.join().map_err(panic)?;
            let (server, told, mut wrong) = lived?;
            let life = recorded?;
            wrong.extend(life.wrong.iter().map(|words| format!("{RECORDED}: {words}")));
            let latency = match latency {
                Ok(latency) => {
                    wrong.extend(latency.judge().err());
                    latency.to_string()
                }
                Err(failure) => {
                    wrong.push(failure.to_string());
                    "reads could not be measured".to_owned()
                }
            };
            let words = format!(
                "{minutes} minutes, seed {seed}: {told}, {} forged messages; {RECORDED}: {} calls; {latency}",
                forged?, life.calls
            );
            ensure(wrong.is_empty(), || format!("{words}\n{}", wrong.join("\n")))?;
            server.stop()?;
            Ok(words)
        })
    }

    /// Boots the guests, makes trouble until the time is over, and lets the guests end; gives what was
    /// done and what is wrong.
    fn trouble(
        &self,
        disk: &Disk,
        server: Server,
        pulse: &Pulse<'_>,
        (up, calm): (&AtomicBool, &AtomicBool),
        minutes: u32,
        seed: u64,
    ) -> Result<(Server, String, Vec<String>), Failure> {
        let mut guests = Vec::new();
        for (number, (name, kind)) in (1..).zip(guests::ALL) {
            guests.push(Guest::switch_on(self.network, self.directory, name, kind, number)?);
        }
        for guest in &mut guests {
            guest.wait_until_it_writes(BOOT_LIMIT)?;
        }
        wait_for("the recorded machine's boot", BOOT_LIMIT, || {
            Ok(up.load(Ordering::Relaxed).then_some(()))
        })?;
        println!("      all machines are up");
        // What reads take when nothing is wrong: to be compared with.
        pulse.enter(Phase::Quiet);
        rest(QUIET)?;
        pulse.enter(Phase::Other);
        calm.store(false, Ordering::Relaxed);
        let mut ground = Ground::new(self.site, self.network, disk, pulse, server);
        let until = Instant::now() + Duration::from_secs(60 * u64::from(minutes));
        let mut noise = Noise::new(seed);
        let mut bag = Vec::new();
        while Instant::now() < until {
            if bag.is_empty() {
                bag = Trouble::ALL.to_vec();
            }
            let trouble = bag.swap_remove(noise.below(bag.len()));
            let begin = Instant::now();
            ground.make(trouble, &mut noise)?;
            let seconds = begin.elapsed().as_secs_f32();
            println!("      {trouble:?} ({seconds:.1} s)");
            rest(Duration::from_millis(500 + 1000 * noise.below(4) as u64))?;
        }
        calm.store(true, Ordering::Relaxed);
        let (server, told, mut wrong) = ground.end()?;
        for guest in &guests {
            guest.tell_to_stop(self.site)?;
        }
        let mut rounds = 0;
        let limit = Instant::now() + END;
        for guest in &mut guests {
            let left = limit.saturating_duration_since(Instant::now());
            let ended = guest.end(self.site, left.max(Duration::from_secs(5)))?;
            rounds += ended.rounds;
            wrong.extend(ended.wrong.into_iter().take(REPORTS));
        }
        let told = format!("{told}; {} guests, {rounds} rounds of writing", guests.len());
        Ok((server, told, wrong))
    }

    /// Sends DHCP messages in the names of all machines while it is not calm; gives how many.
    fn forge(&self, seed: u64, calm: &AtomicBool, stop: &AtomicBool) -> Result<u64, Failure> {
        self.network.client.enter()?;
        let mut noise = Noise::new(!seed);
        let socket = forged::socket(CLIENT_INTERFACE)?;
        socket.set_read_timeout(Some(Duration::from_millis(200))).during("forged messages")?;
        let server = SERVER.parse().map_err(|_error| Failure::said(SERVER))?;
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            rest(Duration::from_millis(100 + noise.below(400) as u64))?;
            if calm.load(Ordering::Relaxed) {
                continue;
            }
            let number = u8::try_from(noise.below(RECORDED_NUMBER.into()) + 1).unwrap_or(1);
            let any =
                std::net::Ipv4Addr::new(10, 77, 0, 50 + u8::try_from(noise.below(20)).unwrap_or(0));
            let kinds =
                [Dhcp::Discover, Dhcp::Discover, Dhcp::Request, Dhcp::Release, Dhcp::Decline];
            let kind = kinds.get(noise.below(kinds.len())).copied().unwrap_or(Dhcp::Discover);
            let mut message = Message::new(kind, bytes(number));
            message.sender = sender(&mut noise);
            match kind {
                Dhcp::Discover => {}
                Dhcp::Release => (message.own, message.server) = (Some(any), Some(server)),
                Dhcp::Request | Dhcp::Decline => {
                    (message.wanted, message.server) = (Some(any), Some(server));
                }
            }
            // While the interface is made anew there is no way to anybody.
            let Ok(answer) = forged::ask(&socket, &message, 0x1000_0000 + sent) else { continue };
            sent += 1;
            // What it is offered it takes, as the machine would.
            if let Some(answer) = answer.filter(|answer| answer.kind == OFFER) {
                let mut message = Message::new(Dhcp::Request, bytes(number));
                (message.wanted, message.server) = (Some(answer.given), Some(server));
                message.sender = sender(&mut noise);
                if forged::ask(&socket, &message, 0x1000_0000 + sent).is_ok() {
                    sent += 1;
                }
            }
        }
        Ok(sent.into())
    }
}

/// Rests, unless somebody wants the lab to stop.
fn rest(time: Duration) -> Result<(), Failure> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        interrupt::check()?;
        let left = until.saturating_duration_since(Instant::now());
        thread::sleep(left.min(Duration::from_millis(100)));
    }
    Ok(())
}

fn sender(noise: &mut Noise) -> Sender {
    let senders = [Sender::System, Sender::Pxe, Sender::Ipxe];
    senders.get(noise.below(senders.len())).copied().unwrap_or(Sender::System)
}

/// The Ethernet address of the machine with this number, as [`mac`] writes it.
const fn bytes(number: u8) -> [u8; 6] {
    [0x52, 0x54, 0x00, 0x77, 0x00, number]
}

/// How long there is trouble when nobody says it.
const MINUTES: u32 = 10;
/// The name of the recorded machine, and of its environment.
const RECORDED: &str = "freebsd";
const RECORDED_NUMBER: u8 = 8;
/// How long reads are measured when nothing is wrong.
const QUIET: Duration = Duration::from_secs(10);
/// How long the guests may take to end.
const END: Duration = Duration::from_secs(90);
const OFFER: u8 = 2;
