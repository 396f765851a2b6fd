//! A long run: machines boot again and again from one netbe, among noise, and while it is killed.
//!
//! Each round is made of the same pieces as the tests. What a minute does not show, such as memory that
//! is lost with each boot, shows here. After the rounds, machines live for as long again while everything
//! goes wrong (`survive`), calls of verbs fail (`faults`), and the store's contract is put to the test on ZFS
//! with more random sequences of verbs than `cargo lab test` has time for. In the end the power of stores' disks
//! is cut (`power`).

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use crate::bench;
use crate::cases::{boots, faults, hostile, power, survive, zfs};
use crate::disk;
use crate::failure::{Failure, ensure};
use crate::interrupt;
use crate::lab::Lab;
use crate::net::Network;
use crate::packages;
use crate::peer;
use crate::proof::{proof, token};
use crate::scene;
use crate::server::{Server, Site};
use crate::vm::Firmware;

/// Repeats rounds until `minutes` are over; ends in counts, however it ends.
pub(crate) fn run(minutes: u32) -> Result<ExitCode, Failure> {
    packages::install(&[packages::MACHINES, packages::TESTS])?;
    let lab = Lab::open()?;
    let begin = Instant::now();
    let until = begin + Duration::from_secs(60 * u64::from(minutes));
    let mut counts = Counts::default();
    let result = soak(&lab, until, &mut counts);
    let taken = begin.elapsed().as_secs() / 60;
    println!("{counts}, in {taken} minutes");
    result?;
    crowd(&lab)?;
    disk::own_mounts()?;
    println!("{}", survive::survive(&lab, minutes, survive::seed(lab.wishes))?);
    faults::soak(&lab, minutes)?;
    zfs::long_contract(&lab)?;
    power::many(&lab, survive::seed(lab.wishes))?;
    Ok(ExitCode::SUCCESS)
}

/// More machines boot at once than there are in a building. None is lost where the table of neighbours has
/// room for all of them, which this host may not have been told to.
fn crowd(lab: &Lab) -> Result<(), Failure> {
    let lost = bench::play(lab, "crowd", CROWD)?.lost;
    let has_room = bench::neighbours().is_some_and(|most| most > 2 * CROWD);
    println!("{CROWD} machines at once: {lost} were lost");
    ensure(lost == 0 || !has_room, || format!("{lost} of {CROWD} machines did not boot"))
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Counts {
    rounds: u32,
    boots: u32,
    kills: u32,
    /// Files that were written and read while netbe was killed, and whose checksums were right.
    files: u32,
    noise: Duration,
    /// netbe's memory in KiB: after the first round, and the most at the end of any.
    memory: Option<(u64, u64)>,
}

impl Counts {
    /// Notes the memory that netbe has at the end of a round.
    fn remember(&mut self, resident: u64) {
        let (first, most) = self.memory.unwrap_or((resident, resident));
        self.memory = Some((first, most.max(resident)));
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, boots, kills, files, noise, memory } = self;
        let noise = noise.as_secs();
        write!(f, "{rounds} rounds, {boots} boots, {kills} kills, {files} files intact, ")?;
        write!(f, "{noise} s of noise")?;
        if let Some((first, most)) = memory {
            write!(f, ", {first} KiB after the first round and {most} KiB at most")?;
        }
        Ok(())
    }
}

fn soak(lab: &Lab, until: Instant, counts: &mut Counts) -> Result<(), Failure> {
    let directory = lab.directory("soak")?;
    let network = Network::new()?;
    network.address_the_client()?;
    let site = Site::new(lab.netbe()?, &network, &directory);
    site.environment("golden", lab.parts()?, "test -c /dev/console")?;
    for (number, name) in (1..).zip(CALM) {
        site.run(&format!("clone golden {name}"))?;
        site.machine(name, &scene::mac(number), name)?;
    }
    site.environment(BUSY, lab.parts()?, include_str!("../guest/traffic.sh"))?;
    site.machine(BUSY, &scene::mac(9), BUSY)?;
    let _router = peer::ipv6_router(&network, &directory)?;
    let rpcinfo = hostile::rpcinfo(lab)?;
    let scene = Scene { network: &network, site: &site, directory: &directory, rpcinfo: &rpcinfo };
    let mut server = site.serve()?;
    while counts.rounds == 0 || Instant::now() < until {
        let begin = Instant::now();
        // In the first round everybody gets an address in peace.
        let noisy = counts.rounds > 0;
        scene.calm(counts, noisy)?;
        if counts.rounds % ROUNDS_OF_A_LIFE == 1 {
            server = scene.busy(server, counts)?;
        }
        server.check()?;
        let resident = server.resident()?;
        counts.remember(resident);
        counts.rounds += 1;
        let seconds = begin.elapsed().as_secs();
        println!("round {}: {seconds} s; netbe has {resident} KiB", counts.rounds);
        if let Some((first, most)) = counts.memory {
            ensure(most < first + GROWTH, || format!("netbe grew from {first} KiB to {most} KiB"))?;
        }
    }
    server.stop()
}

/// Where it all happens.
struct Scene<'a> {
    network: &'a Network,
    site: &'a Site<'a>,
    directory: &'a Path,
    rpcinfo: &'a str,
}

impl Scene<'_> {
    /// All machines with little to do boot at once, with both kinds of firmware.
    fn calm(&self, counts: &mut Counts, noisy: bool) -> Result<(), Failure> {
        let round = counts.rounds;
        let targets = hostile::targets(self.rpcinfo, self.network)?;
        thread::scope(|scope| {
            let noise = noisy.then(|| {
                scope.spawn(|| hostile::make_noise(self.network, &targets, round.into(), NOISE))
            });
            let mut machines = Vec::new();
            for (number, name) in (1..).zip(CALM) {
                let token = token(&self.site.root(name), name)?;
                // Each machine takes turns with its firmware.
                let even = (u32::from(number) + round).is_multiple_of(2);
                let firmware = if even { Firmware::Uefi } else { Firmware::Bios };
                let machine =
                    scene::switch_on(self.network, self.directory, name, firmware, number)?;
                machines.push((name, token, machine));
            }
            for (name, token, machine) in &mut machines {
                let result = machine
                    .wait_until_off(scene::BOOT_LIMIT)
                    .and_then(|_time| proof(&self.site.root(name), token, name));
                result.map_err(|failure| machine.explain(scene::with_log(self.site, failure)))?;
                self.network.untap(name)?;
                counts.boots += 1;
            }
            if let Some(noise) = noise {
                noise.join().map_err(|_panic| Failure::said("the noise ended early"))??;
                counts.noise += NOISE;
            }
            interrupt::check()
        })
    }

    /// A machine boots, writes and reads, while netbe is killed; gives the netbe that runs then.
    fn busy(&self, server: Server, counts: &mut Counts) -> Result<Server, Failure> {
        let root = self.site.root(BUSY);
        boots::forget_traffic(&root)?;
        let token = token(&root, BUSY)?;
        let mut machine = scene::switch_on(self.network, self.directory, BUSY, Firmware::Bios, 9)?;
        let server = boots::kill_meanwhile(self.site, &root, &mut machine, server)?;
        machine
            .wait_until_off(scene::BOOT_LIMIT)
            .and_then(|_time| proof(&root, &token, BUSY))
            .map_err(|failure| machine.explain(scene::with_log(self.site, failure)))?;
        counts.files += boots::traffic_is_intact(&root)?;
        self.network.untap(BUSY)?;
        counts.boots += 1;
        counts.kills += boots::KILLS;
        Ok(server)
    }
}

/// Machines that boot at once.
const CROWD: u32 = 5000;
/// The machines with little to do; each has a boot environment of its name.
const CALM: [&str; 3] = ["north", "east", "south"];
/// The machine that writes and reads.
const BUSY: &str = "busy";
/// After so many rounds a netbe is killed, and another one takes over.
const ROUNDS_OF_A_LIFE: u32 = 4;
/// How long there is noise in a round.
const NOISE: Duration = Duration::from_secs(10);
/// By how much netbe may grow, in KiB: caches fill for a while, a leak has no end.
const GROWTH: u64 = 64 * 1024;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_most_memory_is_remembered() {
        let mut counts = Counts::default();
        [10, 30, 20].into_iter().for_each(|resident| counts.remember(resident));
        assert_eq!(counts.memory, Some((10, 30)));
    }

    #[test]
    fn the_counts_end_a_run_in_words() {
        let counts = Counts { rounds: 2, boots: 7, kills: 4, files: 12, ..Counts::default() };
        let words = "2 rounds, 7 boots, 4 kills, 12 files intact, 0 s of noise";
        assert_eq!(counts.to_string(), words);
    }
}
