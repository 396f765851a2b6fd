//! How long reads from a healthy export take: when nothing is wrong, and while another export hangs.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::rest;
use crate::failure::{During, Failure, ensure};
use crate::net::Network;
use crate::rpc::{self, Client, Procedure, Work};
use crate::xdr::{Reader, long, opaque, word};

/// Puts what is read onto the healthy export.
pub(super) fn furnish(root: &Path) -> Result<(), Failure> {
    let path = root.join("file");
    fs::write(&path, vec![0x5a; FILE]).during(path.display())
}

/// Puts onto the disk what is asked for while it hangs.
pub(super) fn furnish_disk(disk: &Path) -> Result<(), Failure> {
    for number in 0..FOLDERS {
        let path = disk.join(format!("folder{number}"));
        fs::create_dir(&path).during(path.display())?;
        fs::write(path.join("file"), vec![0x5a; 16 * 1024]).during(path.display())?;
    }
    Ok(())
}

/// What is going on while a read is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing is wrong.
    Quiet,
    /// Another export hangs, and nothing else is wrong.
    Hung,
    /// Anything: reads are not measured.
    Other,
}

/// A client that reads from the healthy export again and again.
#[derive(Debug)]
pub(super) struct Pulse<'a> {
    network: &'a Network,
    phase: AtomicU8,
    file: Vec<u8>,
    /// What is asked for on the disk that hangs: its folders and its files.
    folders: Vec<(Vec<u8>, Vec<u8>)>,
    times: Mutex<Times>,
}

#[derive(Clone, Debug, Default)]
struct Times {
    quiet: Vec<Duration>,
    hung: Vec<Duration>,
}

impl<'a> Pulse<'a> {
    /// Mounts both exports.
    pub(super) fn new(network: &'a Network) -> Result<Self, Failure> {
        let (file, folders) = network.inside(|| {
            let root = rpc::mount("/be/healthy")?;
            let mut client = Client::connect(NFS_PORT)?;
            let file = look_up(&mut client, &root, "file")?;
            let disk = look_up(&mut client, &rpc::mount("/be/slow")?, "home")?;
            let folders = (0..FOLDERS).map(|number| {
                let folder = look_up(&mut client, &disk, &format!("folder{number}"))?;
                let file = look_up(&mut client, &folder, "file")?;
                Ok::<_, Failure>((folder, file))
            });
            Ok((file, folders.collect::<Result<_, _>>()?))
        })?;
        let phase = AtomicU8::new(Phase::Other as u8);
        Ok(Self { network, phase, file, folders, times: Mutex::default() })
    }

    /// Reads that begin from now on are of this phase.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Asks for many things on the disk that hangs, and gives the connections on which no answer comes.
    pub(super) fn crowd(&self, turn: u32) -> Result<Vec<Client>, Failure> {
        self.network.inside(|| {
            (0..CONNECTIONS)
                .map(|_| {
                    let mut client = Client::connect(NFS_PORT)?;
                    client.post(CALLS, &mut Crowd { folders: &self.folders, turn, next: 0 })?;
                    Ok(client)
                })
                .collect()
        })
    }

    /// Reads until `stop`; gives how long that took.
    pub(super) fn beat(&self, stop: &AtomicBool) -> Result<Latency, Failure> {
        self.network.client.enter()?;
        let mut client = None;
        let mut arguments = Vec::new();
        opaque(&mut arguments, &self.file);
        long(&mut arguments, 0);
        word(&mut arguments, 4096);
        while !stop.load(Ordering::Relaxed) {
            rest(PAUSE)?;
            let phase = self.phase.load(Ordering::Relaxed);
            let begin = Instant::now();
            let connected = match client.take() {
                Some(client) => Ok(client),
                None => Client::connect(NFS_PORT),
            };
            let answered = connected.and_then(|mut connected| {
                let results = connected.call(Procedure(NFS, 3, 6), &arguments)?;
                let status = Reader::new(&results).word()?;
                client = Some(connected);
                Ok(status)
            });
            match answered {
                // A server that was killed says nothing, and one without descriptors takes nobody.
                Err(Failure::Said(_)) if phase == Phase::Other as u8 => continue,
                Ok(status) => ensure(status == 0 || status == JUKEBOX, || {
                    format!("a read from the healthy export had the status {status}")
                })?,
                Err(Failure::Said(_)) => {}
                Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            }
            let time = begin.elapsed();
            let mut times = self.times.lock().map_err(|_poison| Failure::said("times"))?;
            if phase == Phase::Quiet as u8 {
                times.quiet.push(time);
            } else if phase == Phase::Hung as u8 {
                times.hung.push(time);
            }
        }
        let times = self.times.lock().map_err(|_poison| Failure::said("times"))?.clone();
        Ok(Latency { quiet: Spread::of(times.quiet), hung: Spread::of(times.hung) })
    }
}

/// How long reads took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    quiet: Spread,
    hung: Spread,
}

impl Latency {
    /// Fails if an export that hangs makes another one slow. A computer on which reads are slow when
    /// nothing hangs may need twice as long as then.
    pub(super) fn judge(&self) -> Result<(), String> {
        let limit = LIMIT.max(self.quiet.nearly_all * 2);
        if self.hung.count == 0 {
            return Err("no read was measured while an export hung".to_owned());
        }
        if self.hung.nearly_all > limit {
            return Err(format!(
                "while an export hung, reads from another took {:.1} ms at the 99th percentile; at most {:.1} ms are allowed",
                milliseconds(self.hung.nearly_all),
                milliseconds(limit)
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reads, nothing wrong: {}; while another export hung: {}", self.quiet, self.hung)
    }
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Spread {
    count: usize,
    half: Duration,
    nearly_all: Duration,
    most: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let count = times.len();
        let at = |percent: usize| {
            let place = (count * percent).div_ceil(100).saturating_sub(1);
            times.get(place).copied().unwrap_or_default()
        };
        Self { count, half: at(50), nearly_all: at(99), most: at(100) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, half, nearly_all, most } = self;
        let [half, nearly_all, most] = [half, nearly_all, most].map(|time| milliseconds(*time));
        write!(f, "p50 {half:.1} p99 {nearly_all:.1} max {most:.1} ms of {count}")
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Calls that need the disk: names that nobody asked for before, pieces of files, lists, new files and
/// folders, and writes that have to reach it.
struct Crowd<'a> {
    folders: &'a [(Vec<u8>, Vec<u8>)],
    turn: u32,
    next: u32,
}

impl Crowd<'_> {
    /// What is asked for next (RFC 1813 §3.3).
    fn what(&self) -> u32 {
        let place = usize::try_from(self.next).unwrap_or(0) % PROCEDURES.len();
        PROCEDURES.get(place).copied().unwrap_or(LOOKUP)
    }
}

impl Work for Crowd<'_> {
    fn procedure(&self) -> Procedure {
        Procedure(NFS, 3, self.what())
    }

    fn arguments(&mut self, out: &mut Vec<u8>) {
        let place = usize::try_from(self.next).unwrap_or(0) % self.folders.len().max(1);
        let Some((folder, file)) = self.folders.get(place) else { return };
        let name = format!("no-{}-{}", self.turn, self.next);
        let what = self.what();
        self.next += 1;
        if matches!(what, READ | WRITE | COMMIT) {
            opaque(out, file);
            long(out, 0);
            word(out, 4096);
            if what == WRITE {
                // FILE_SYNC
                word(out, 2);
                opaque(out, &[0x5a; 4096]);
            }
            return;
        }
        opaque(out, folder);
        match what {
            READDIRPLUS => {
                out.extend_from_slice(&[0; 16]);
                word(out, 4096);
                word(out, 32 * 1024);
            }
            LOOKUP | REMOVE => opaque(out, name.as_bytes()),
            _create_or_mkdir => {
                opaque(out, name.as_bytes());
                if what == CREATE {
                    // UNCHECKED
                    word(out, 0);
                }
                // Nothing of six attributes is set.
                [0; 6].into_iter().for_each(|value| word(out, value));
            }
        }
    }

    fn appetite(&self) -> usize {
        0
    }

    fn results(&mut self, _reader: Reader<'_>) -> Result<u32, Failure> {
        Ok(1)
    }
}

fn look_up(client: &mut Client, directory: &[u8], name: &str) -> Result<Vec<u8>, Failure> {
    let mut arguments = Vec::new();
    opaque(&mut arguments, directory);
    opaque(&mut arguments, name.as_bytes());
    let results = client.call(Procedure(NFS, 3, 3), &arguments)?;
    let mut reader = Reader::new(&results);
    let status = reader.word()?;
    ensure(status == 0, || format!("the server does not find {name}: status {status}"))?;
    Ok(reader.opaque()?.to_vec())
}

const NFS: u32 = 100_003;
const NFS_PORT: u16 = 2049;
const JUKEBOX: u32 = 10_008;
const FILE: usize = 64 * 1024;
const FOLDERS: u32 = 16;
/// How many clients ask for things on the disk that hangs, and for how many each.
const CONNECTIONS: usize = 4;
const CALLS: usize = 32;
/// What they ask for.
const PROCEDURES: [u32; 8] = [LOOKUP, READ, WRITE, CREATE, READDIRPLUS, MKDIR, REMOVE, COMMIT];
const LOOKUP: u32 = 3;
const READ: u32 = 6;
const WRITE: u32 = 7;
const CREATE: u32 = 8;
const MKDIR: u32 = 9;
const REMOVE: u32 = 12;
const READDIRPLUS: u32 = 17;
const COMMIT: u32 = 21;
/// How long the client rests between two reads.
const PAUSE: Duration = Duration::from_millis(20);
/// What 99 of 100 reads may take at most.
const LIMIT: Duration = Duration::from_millis(50);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn ninety_nine_of_a_hundred_are_below_the_percentile() {
        let times = (1..=200).map(Duration::from_millis).rev().collect();
        let spread = Spread::of(times);
        assert_eq!((spread.half.as_millis(), spread.nearly_all.as_millis()), (100, 198));
        assert_eq!(spread.most.as_millis(), 200);
    }

    #[test]
    fn a_slow_computer_is_no_hung_export() {
        let spread = |milliseconds| Spread::of(vec![Duration::from_millis(milliseconds); 100]);
        let judge = |quiet, hung| Latency { quiet: spread(quiet), hung: spread(hung) }.judge();
        assert!(judge(1, 40).is_ok());
        assert!(judge(1, 60).is_err());
        assert!(judge(40, 60).is_ok());
        assert!(judge(40, 90).is_err());
    }
}
