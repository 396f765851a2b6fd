//! The store: what a clone costs by netbe, beside a loop in the shell over the file system's own command.
//!
//! Each kind of store is measured on a file system of its own: btrfs and ext4 on loop devices, ZFS in a
//! guest. Times include that everything is on disk.

use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::debian::Debian;
use crate::failure::{During, Failure, ensure};
use crate::guest_task::GuestTask;
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::Network;
use crate::packages;
use crate::process::{Program, last_lines};
use crate::progress::{self, Step};

use super::report::{Figure, Limit, Report, Spread};

/// How much of the store is measured.
#[derive(Args, Clone, Debug)]
pub(crate) struct Load {
    /// How many clones of each kind `store` makes, by netbe and by its peer: in tens.
    #[arg(long, default_value_t = 1000)]
    clones: u32,
    /// A kind of store to measure; may be given again.
    #[arg(long = "kind", value_name = "KIND", value_enum, default_values_t = ALL)]
    kinds: Vec<Kind>,
    /// No tenth of a kind's clones begins after so many minutes of it.
    #[arg(long, default_value_t = 60)]
    minutes: u32,
}

/// Makes clones of each kind by netbe, and as many by the loop.
pub(super) fn measure(lab: &Lab, load: &Load) -> Result<Report, Failure> {
    packages::install(&[packages::TESTS, packages::DEBIAN])?;
    let directory = lab.directory("bench store")?;
    let script = directory.join("clones.sh");
    fs::write(&script, SCRIPT).during(script.display())?;
    let (mut figures, mut versions) = (Vec::new(), Vec::new());
    let mut limits = Vec::new();
    for &kind in &load.kinds {
        let step = progress::step(&format!("{} clones, {}", load.clones, kind.name()));
        let batch = (load.clones / BATCHES).max(1);
        let words = format!("{} {BATCHES} {batch} {}", kind.name(), load.minutes);
        let limit = Duration::from_secs(60 * u64::from(load.minutes)) + MARGIN;
        let place = lab.directory(&format!("bench store {}", kind.name()))?;
        let said = match kind {
            Kind::Zfs => in_guest(lab, lab.release()?, &place, &script, &words, limit, &step)?,
            Kind::ZfsLibrary => {
                let library = Debian::get(&lab.cache)?.library(&lab.cache)?;
                let netbe = lab.release_with_libzfs(&library)?;
                in_guest(lab, &netbe, &place, &script, &words, limit, &step)?
            }
            Kind::Btrfs | Kind::DirCopy | Kind::DirReflink => {
                on_host(lab, &place, &script, &words, limit, &step)?
            }
        };
        let samples = Samples::read(&said)?;
        figures.extend(samples.figures(kind.name(), batch));
        limits.push(samples.limit(kind.process()));
        versions.extend(samples.version);
        step.done("done");
    }
    versions.sort();
    versions.dedup();
    Report::new(lab, "shell", versions.join(", "), figures, limits)
}

/// Runs the script here; its mounts end with it.
fn on_host(
    lab: &Lab,
    place: &Path,
    script: &Path,
    words: &str,
    limit: Duration,
    step: &Step,
) -> Result<String, Failure> {
    let log = place.join("log");
    let sh = Program::new("unshare").words("--mount sh").arg(script).words(words);
    let mut running = sh.env("NETBE", lab.release()?).directory(place).start(&log)?;
    let said = || String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let mut heard = 0;
    let status = wait_for("the end of the script", limit, || {
        let ended = running.ended()?;
        let said = said();
        let lines = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        for words in lines.filter_map(|line| line.strip_prefix("lab: ")).skip(heard) {
            heard += 1;
            step.at(words.trim_end());
        }
        Ok(ended)
    })?;
    ensure(status.success(), || format!("the script: {status}: {}", last_lines(&said(), 20)))?;
    Ok(said())
}

/// Runs the script in a guest with ZFS.
fn in_guest(
    lab: &Lab,
    netbe: &Path,
    directory: &Path,
    script: &Path,
    words: &str,
    limit: Duration,
    step: &Step,
) -> Result<String, Failure> {
    let debian = Debian::get(&lab.cache)?;
    let command = format!("NETBE=/lab/netbe exec sh /lab/clones.sh {words}\n");
    let files: [(&str, &Path); 2] = [("netbe", netbe), ("clones.sh", script)];
    let task = GuestTask {
        name: "bench",
        mac: "52:54:00:77:02:01",
        memory: 2048,
        processors: 1,
        script: &command,
        files: &files,
        pool: 8192,
    };
    // It lasts until the guest ends, which may be slow to enter it.
    let network = Network::new()?;
    let running = task.start(&network, directory, &debian)?;
    let output = running.serve(limit, |words| {
        step.at(words);
        Ok(())
    });
    output?.success()
}

/// A kind of store.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Kind {
    /// Subvolumes of btrfs, beside `btrfs subvolume snapshot`.
    Btrfs,
    /// Directories whose files share blocks (btrfs), beside `cp -a --reflink=always`.
    DirReflink,
    /// Directories (ext4), beside `cp -a`.
    DirCopy,
    /// Data sets of ZFS in a guest, beside `zfs clone`.
    Zfs,
    /// The same, by a netbe that is built with the C library of ZFS.
    ZfsLibrary,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::DirReflink => "dir_reflink",
            Self::DirCopy => "dir_copy",
            Self::Zfs => "zfs",
            Self::ZfsLibrary => "zfs_library",
        }
    }

    /// What the figure of its computer's processes is called.
    const fn process(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs.process.ms_per_op",
            Self::DirReflink => "dir_reflink.process.ms_per_op",
            Self::DirCopy => "dir_copy.process.ms_per_op",
            Self::Zfs => "zfs.process.ms_per_op",
            Self::ZfsLibrary => "zfs_library.process.ms_per_op",
        }
    }
}

const ALL: [Kind; 5] = [Kind::Btrfs, Kind::DirReflink, Kind::DirCopy, Kind::Zfs, Kind::ZfsLibrary];

/// What the script printed.
#[derive(Clone, Debug, Default, PartialEq)]
struct Samples {
    /// Of each batch, for netbe and for the loop: seconds and KiB.
    batches: [Vec<(f64, f64)>; 2],
    /// Of each list, in seconds.
    lists: [Vec<f64>; 2],
    /// Of each start of a program, in seconds.
    processes: Vec<f64>,
    version: Option<String>,
}

impl Samples {
    fn read(said: &str) -> Result<Self, Failure> {
        let mut samples = Self::default();
        for line in said.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let strange = || Failure::said(format!("the script said {line:?}"));
            let number = |text: &str| text.parse::<f64>().map_err(|_error| strange());
            match (word, rest.split_whitespace().collect::<Vec<_>>().as_slice()) {
                ("batch", [side, time, space]) => {
                    let sample = (number(time)? / SECOND, number(space)?);
                    side_of(&mut samples.batches, side).ok_or_else(strange)?.push(sample);
                }
                ("list", [side, time]) => {
                    let sample = number(time)? / SECOND;
                    side_of(&mut samples.lists, side).ok_or_else(strange)?.push(sample);
                }
                ("process", [time]) => samples.processes.push(number(time)? / SECOND / STARTS),
                ("version", _) => samples.version = Some(rest.to_owned()),
                // The guest tells how it stands, and programs warn.
                _ => {}
            }
        }
        let [netbe, peer] = &samples.batches;
        ensure(!netbe.is_empty() && netbe.len() == peer.len(), || {
            format!("the script did not measure both alike:\n{said}")
        })?;
        Ok(samples)
    }

    fn figures(&self, kind: &str, batch: u32) -> Vec<Figure> {
        let batch = f64::from(batch);
        let figure = |what: &str, spread: &dyn Fn(usize) -> Spread| Figure {
            name: format!("{kind}.{what}"),
            netbe: spread(0),
            peer: spread(1),
        };
        let of = |side: usize| self.batches.get(side).map(Vec::as_slice).unwrap_or_default();
        let lists = |side: usize| self.lists.get(side).cloned().unwrap_or_default();
        vec![
            figure("clone.ms_per_op", &|side| {
                Spread::of(of(side).iter().map(|(time, _)| time * 1000.0 / batch))
            }),
            figure("clone.total_s", &|side| {
                Spread::of([of(side).iter().map(|(time, _)| time).sum()])
            }),
            figure("clone.kib_per_op", &|side| {
                Spread::of(of(side).iter().map(|(_, space)| space / batch))
            }),
            figure("clone.made", &|side| {
                let batches = u32::try_from(of(side).len()).unwrap_or(u32::MAX);
                Spread::of([f64::from(batches) * batch])
            }),
            figure("list.ms", &|side| Spread::of(lists(side).iter().map(|time| time * 1000.0))),
        ]
    }

    fn limit(&self, name: &'static str) -> Limit {
        let at = |sample: Option<&f64>| sample.copied().unwrap_or_default() * 1000.0;
        Limit { name, before: at(self.processes.first()), after: at(self.processes.last()) }
    }
}

fn side_of<'a, T>(sides: &'a mut [T; 2], side: &str) -> Option<&'a mut T> {
    let [netbe, peer] = sides;
    match side {
        "netbe" => Some(netbe),
        "peer" => Some(peer),
        _other => None,
    }
}

const SCRIPT: &str = include_str!("../../peer/clones.sh");
/// In so many turns the clones are made.
const BATCHES: u32 = 10;
/// The script measures in nanoseconds.
const SECOND: f64 = 1e9;
/// So many programs it starts to see how long that takes.
const STARTS: f64 = 20.0;
/// How long a kind may take longer than its minutes: to start, for the clones that were begun, and to
/// list them.
const MARGIN: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod test {
    use super::*;

    const SAID: &str = "guest: ready after 4.2 s\nprocess 40000000\nbatch netbe 2000000000 300\n\
        batch peer 1000000000 100\nlist netbe 5000000\nlist peer 2000000\nprocess 60000000\n\
        version zfs-2.1.11\n";

    #[test]
    fn what_the_script_says_becomes_figures() {
        let samples = Samples::read(SAID).unwrap();
        let figures = samples.figures("zfs", 100);
        let found: Vec<_> = figures
            .iter()
            .map(|figure| (figure.name.as_str(), figure.netbe.median, figure.peer.median))
            .collect();
        let expected = [
            ("zfs.clone.ms_per_op", 20.0, 10.0),
            ("zfs.clone.total_s", 2.0, 1.0),
            ("zfs.clone.kib_per_op", 3.0, 1.0),
            ("zfs.clone.made", 100.0, 100.0),
            ("zfs.list.ms", 5.0, 2.0),
        ];
        assert_eq!(found, expected);
        assert_eq!(samples.limit("x"), Limit { name: "x", before: 2.0, after: 3.0 });
    }

    #[test]
    fn a_script_that_measured_one_side_only_is_no_measurement() {
        let half: String =
            SAID.split_inclusive('\n').filter(|line| !line.starts_with("batch peer")).collect();
        assert!(Samples::read(&half).is_err());
    }
}
