//! What an administrator, a network, a disk and a kernel do to a running server.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::guests;
use super::pulse::{Phase, Pulse};
use super::{RECORDED, bytes, rest};
use crate::disk::Disk;
use crate::failure::{During, Failure, ensure};
use crate::forged::{self, Kind, Message};
use crate::net::{CLIENT_INTERFACE, Network};
use crate::noise::Noise;
use crate::process::{Program, Running};
use crate::rpc::Client;
use crate::server::{Server, Site};

/// A kind of trouble.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Trouble {
    /// Snapshots, clones, renames, settings, shares.
    Commands,
    /// The file with what is known of an environment has nonsense in it, and is mended.
    BrokenFile,
    /// That file is away, and comes back.
    MissingFile,
    /// netbe is killed, and started again.
    Kill,
    /// The bridge that netbe serves is deleted, and made again.
    Interface,
    /// A disk hangs.
    Hang,
    /// netbe gets no new file descriptors.
    Descriptors,
}

impl Trouble {
    pub(super) const ALL: [Self; 7] = [
        Self::Commands,
        Self::BrokenFile,
        Self::MissingFile,
        Self::Kill,
        Self::Interface,
        Self::Hang,
        Self::Descriptors,
    ];
}

/// Where trouble is made.
pub(super) struct Ground<'a> {
    site: &'a Site<'a>,
    network: &'a Network,
    disk: &'a Disk,
    pulse: &'a Pulse<'a>,
    server: Option<Server>,
    made: BTreeMap<Trouble, u32>,
    commands: u32,
    /// Numbers that no name has yet.
    next: u32,
    /// What is not as it should be.
    wrong: Vec<String>,
}

impl<'a> Ground<'a> {
    pub(super) fn new(
        site: &'a Site<'a>,
        network: &'a Network,
        disk: &'a Disk,
        pulse: &'a Pulse<'a>,
        server: Server,
    ) -> Self {
        let (made, wrong) = (BTreeMap::new(), Vec::new());
        let server = Some(server);
        Self { site, network, disk, pulse, server, made, commands: 0, next: 0, wrong }
    }

    /// Makes trouble, and ends it.
    pub(super) fn make(&mut self, trouble: Trouble, noise: &mut Noise) -> Result<(), Failure> {
        *self.made.entry(trouble).or_default() += 1;
        match trouble {
            Trouble::Commands => (0..3).try_for_each(|_| self.command(noise)),
            Trouble::BrokenFile => self.spoil(noise, |path| fs::write(path, "uuid = [broken\n")),
            Trouble::MissingFile => self.spoil(noise, |path| fs::remove_file(path)),
            Trouble::Kill => self.kill(noise),
            Trouble::Interface => {
                self.network.make_anew()?;
                self.newcomer("when the interface was made anew,")
            }
            Trouble::Hang => self.hang(),
            Trouble::Descriptors => self.starve(noise),
        }?;
        match &mut self.server {
            Some(server) => server.check(),
            None => Ok(()),
        }
    }

    /// The server, what was made how often, and what is wrong.
    pub(super) fn end(self) -> Result<(Server, String, Vec<String>), Failure> {
        let words: Vec<String> =
            self.made.iter().map(|(trouble, count)| format!("{trouble:?} {count}")).collect();
        let told = format!("{} ({} commands)", words.join(" "), self.commands);
        let server = self.server.ok_or_else(|| Failure::said("netbe did not start again"))?;
        Ok((server, told, self.wrong))
    }

    /// Somebody new gets an address: DHCP is alive.
    fn newcomer(&mut self, when: &str) -> Result<(), Failure> {
        let offered = self.network.inside(|| {
            let socket = forged::socket(CLIENT_INTERFACE)?;
            let message = Message::new(Kind::Discover, bytes(NEWCOMER));
            for xid in 0..15 {
                if forged::ask(&socket, &message, xid)?.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if !offered {
            self.wrong.push(format!("{when} a new machine got no answer from DHCP in 30 s"));
        }
        Ok(())
    }

    fn command(&mut self, noise: &mut Noise) -> Result<(), Failure> {
        let living = living(noise);
        self.next += 1;
        let next = self.next;
        let run =
            |words: &[String]| words.iter().try_for_each(|words| self.site.run(words).map(drop));
        let words = match noise.below(7) {
            0 => vec![format!("snapshot {living}@s{next}"), format!("destroy {living}@s{next}")],
            1 => vec![format!("clone {living} c{next}"), format!("destroy c{next}")],
            2 => vec![
                format!("create c{next}"),
                format!("rename c{next} d{next}"),
                format!("destroy d{next}"),
            ],
            // By force: machines live on it. They go on, and so does its new name.
            3 => vec![format!("rename -f {living} r{next}"), format!("rename -f r{next} {living}")],
            4 => vec![format!("set note=n{next} {living}")],
            5 => vec![format!("sharenfs --network 10.77.0.0/24 {RECORDED}")],
            _ => vec![
                format!("sharepxe --machine {living} golden"),
                format!("sharepxe --machine {living} {living}"),
            ],
        };
        println!("      netbe {}", words.join("; "));
        run(&words)?;
        self.commands += u32::try_from(words.len()).unwrap_or(0);
        Ok(())
    }

    /// Does something to the file with what is known of an environment in which a machine lives; whoever
    /// reads the store meanwhile meets it. Then the file is as it was.
    fn spoil(
        &mut self,
        noise: &mut Noise,
        how: impl FnOnce(&PathBuf) -> std::io::Result<()>,
    ) -> Result<(), Failure> {
        let (victim, other) = (living(noise), "golden");
        let path = self.site.metadata(victim);
        let text = fs::read_to_string(&path).during(path.display())?;
        how(&path).during(path.display())?;
        self.next += 1;
        // Each has the server read the store; what it says of the file is not asked here.
        for words in [format!("set note=n{} {other}", self.next), "list".to_owned()] {
            drop(self.site.netbe(&words).finish(LIMIT)?);
            rest(Duration::from_secs(1))?;
        }
        // From one instant to the next, as netbe itself writes it.
        let new = path.with_extension("mended");
        fs::write(&new, text).during(new.display())?;
        fs::rename(&new, &path).during(path.display())?;
        self.site.run(&format!("set note=mended {other}")).map(drop)
    }

    fn kill(&mut self, noise: &mut Noise) -> Result<(), Failure> {
        if let Some(server) = self.server.take() {
            server.kill();
        }
        rest(Duration::from_millis(500 * noise.below(6) as u64))?;
        self.server = Some(self.site.serve()?);
        rest(Duration::from_secs(2))
    }

    /// The disk hangs, many ask for what is on it, and reads from another export are measured; then a
    /// command comes, and somebody new.
    fn hang(&mut self) -> Result<(), Failure> {
        self.disk.forget()?;
        self.next += 1;
        self.pulse.enter(Phase::Hung);
        self.disk.hang()?;
        let hung = self.while_it_hangs();
        self.disk.go_on()?;
        let (crowd, mut command) = hung?;
        drop(crowd);
        let status = command.wait(LIMIT)?;
        ensure(status.success(), || format!("netbe set, while a disk hung: {status}"))
    }

    fn while_it_hangs(&mut self) -> Result<(Vec<Client>, Running), Failure> {
        let crowd = self.pulse.crowd(self.next);
        let rested = rest(HUNG);
        self.pulse.enter(Phase::Other);
        rested?;
        let set = self.site.netbe(&format!("set note=n{} golden", self.next));
        let command = set.start(&self.site.log().with_file_name("commands.log"))?;
        rest(Duration::from_secs(2))?;
        self.newcomer("while a disk hung,")?;
        Ok((crowd?, command))
    }

    /// For some seconds netbe can open nothing, while it is asked to read the store.
    fn starve(&mut self, noise: &mut Noise) -> Result<(), Failure> {
        let Some(server) = &self.server else { return Ok(()) };
        let pid = server.pid();
        let files = format!("/proc/{pid}/fd");
        let open = fs::read_dir(&files).during(&files)?.count();
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).during("limits")?;
        let line = limits.lines().find(|line| line.starts_with("Max open files"));
        let mut numbers = line.into_iter().flat_map(|line| line.split_whitespace().skip(3));
        let (soft, hard) = (numbers.next().unwrap_or("1024"), numbers.next().unwrap_or("1024"));
        limit(pid, &open.to_string(), hard)?;
        let begin = Instant::now();
        let mut result = Ok(());
        while result.is_ok() && begin.elapsed() < Duration::from_secs(4) {
            self.next += 1;
            let living = living(noise);
            let words = format!("set note=n{} {living}", self.next);
            result = self.site.netbe(&words).finish(LIMIT).map(drop);
            result = result.and_then(|()| rest(Duration::from_secs(1)));
        }
        limit(pid, soft, hard)?;
        result?;
        self.site.run("set note=enough golden").map(drop)
    }
}

/// Sets how many files a process may have open.
fn limit(pid: u32, soft: &str, hard: &str) -> Result<(), Failure> {
    let prlimit = Program::new("prlimit").arg("--pid").arg(pid.to_string());
    prlimit.arg(format!("--nofile={soft}:{hard}")).run(Duration::from_secs(20)).map(drop)
}

/// An environment in which a machine lives that boots it by its name.
fn living(noise: &mut Noise) -> &'static str {
    let living = guests::ALL.iter().filter(|(_, kind)| *kind == guests::Kind::Clone);
    let names: Vec<&str> = living.map(|(name, _)| *name).collect();
    names.get(noise.below(names.len())).copied().unwrap_or("north")
}

/// The number of the machine that is new.
const NEWCOMER: u8 = 0x77;
/// How long reads are measured while a disk hangs.
const HUNG: Duration = Duration::from_secs(8);
/// How long a command may take in trouble.
const LIMIT: Duration = Duration::from_secs(90);
