//! The store: what a clone costs by the command `netbe clone`, and inside one process (the API), beside a loop in
//! the shell over the file system's own command; and what a list costs beside a bare one of the same.
//!
//! Each kind of store is measured on a file system of its own: btrfs and ext4 on loop devices, ZFS in a
//! guest. Times of clones include that everything is on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::debian::Debian;
use crate::failure::{During, Failure, ensure};
use crate::guest_task::{GuestTask, PLAIN};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::Network;
use crate::packages;
use crate::process::{Program, last_lines};
use crate::progress::{self, Step};

use super::report::{Comparison, Figure, Limit, Report, Spread};

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
            Kind::Zfs => {
                let programs =
                    Programs { netbe: lab.release()?.to_owned(), clones: lab.clones(None)? };
                in_guest(lab, &programs, &place, &script, &words, limit, &step)?
            }
            Kind::ZfsLibrary => {
                let library = Debian::get(&lab.cache)?.library(&lab.cache)?;
                let (netbe, clones) =
                    (lab.release_with_libzfs(&library)?, lab.clones(Some(&library))?);
                let programs = Programs { netbe, clones };
                in_guest(lab, &programs, &place, &script, &words, limit, &step)?
            }
            Kind::Btrfs | Kind::DirCopy | Kind::DirReflink => {
                let programs =
                    Programs { netbe: lab.release()?.to_owned(), clones: lab.clones(None)? };
                on_host(&programs, &place, &script, &words, limit, &step)?
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
    Report::new(
        lab,
        vec![Comparison { peer: "shell", version: versions.join(", "), figures, limits }],
    )
}

/// What the script measures.
struct Programs {
    /// The command.
    netbe: PathBuf,
    /// The loop inside one process.
    clones: PathBuf,
}

/// Runs the script here; its mounts end with it.
fn on_host(
    programs: &Programs,
    place: &Path,
    script: &Path,
    words: &str,
    limit: Duration,
    step: &Step,
) -> Result<String, Failure> {
    let log = place.join("log");
    let sh = Program::new("unshare").words("--mount sh").arg(script).words(words);
    let sh = sh.env("NETBE", &programs.netbe).env("CLONES", &programs.clones);
    let mut running = sh.directory(place).start(&log)?;
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
    programs: &Programs,
    directory: &Path,
    script: &Path,
    words: &str,
    limit: Duration,
    step: &Step,
) -> Result<String, Failure> {
    let debian = Debian::get(&lab.cache)?;
    let command = format!("NETBE=/lab/netbe CLONES=/lab/clones exec sh /lab/clones.sh {words}\n");
    let files: [(&str, &Path); 3] =
        [("netbe", &programs.netbe), ("clones", &programs.clones), ("clones.sh", script)];
    let task = GuestTask { script: &command, files: &files, pool: 8192, ..PLAIN };
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
    /// Of each side: what it did, batch by batch.
    sides: [Side; 3],
    /// Of each start of a program, in seconds.
    processes: Vec<f64>,
    version: Option<String>,
}

/// What one side did.
#[derive(Clone, Debug, Default, PartialEq)]
struct Side {
    batches: Vec<Batch>,
    /// Of each list: seconds, and seconds of a processor.
    lists: Vec<(f64, f64)>,
}

/// What a tenth of the clones took: seconds, seconds of a processor, and KiB.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Batch {
    time: f64,
    processor: f64,
    space: f64,
}

impl Samples {
    fn read(said: &str) -> Result<Self, Failure> {
        let mut samples = Self::default();
        for line in said.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let strange = || Failure::said(format!("the script said {line:?}"));
            let number = |text: &str| text.parse::<f64>().map_err(|_error| strange());
            match (word, rest.split_whitespace().collect::<Vec<_>>().as_slice()) {
                ("batch", [side, time, space, processor]) => {
                    let batch = Batch {
                        time: number(time)? / SECOND,
                        processor: number(processor)? / 1000.0,
                        space: number(space)?,
                    };
                    samples.side(side).ok_or_else(strange)?.batches.push(batch);
                }
                ("list", [side, time, processor]) => {
                    let list = (number(time)? / SECOND, number(processor)? / 1000.0);
                    samples.side(side).ok_or_else(strange)?.lists.push(list);
                }
                ("process", [time]) => samples.processes.push(number(time)? / SECOND / STARTS),
                ("version", _) => samples.version = Some(rest.to_owned()),
                // The guest tells how it stands, and programs warn.
                _ => {}
            }
        }
        let [netbe, api, peer] = samples.sides.each_ref().map(|side| side.batches.len());
        ensure(netbe > 0 && netbe == peer && api == peer, || {
            format!("the script did not measure all alike:\n{said}")
        })?;
        Ok(samples)
    }

    fn side(&mut self, side: &str) -> Option<&mut Side> {
        let [netbe, api, peer] = &mut self.sides;
        match side {
            "netbe" => Some(netbe),
            "api" => Some(api),
            "peer" => Some(peer),
            _other => None,
        }
    }

    /// The command beside the loop, and the API beside the loop.
    fn figures(&self, kind: &str, batch: u32) -> Vec<Figure> {
        let batch = f64::from(batch);
        let [netbe, api, peer] = &self.sides;
        let mut figures = Vec::new();
        for (word, own) in [("", netbe), ("api.", api)] {
            let mut figure = |what: &str, spread: &dyn Fn(&Side) -> Spread| {
                let name = format!("{kind}.{word}{what}");
                figures.push(Figure { name, netbe: spread(own), peer: spread(peer) });
            };
            let each = |side: &Side, value: fn(&Batch) -> f64, unit: f64| {
                Spread::of(side.batches.iter().map(|one| value(one) * unit / batch))
            };
            figure("clone.ms_per_op", &|side| each(side, |one| one.time, 1000.0));
            figure("clone.cpu_ms_per_op", &|side| each(side, |one| one.processor, 1000.0));
            figure("clone.kib_per_op", &|side| each(side, |one| one.space, 1.0));
            figure("clone.total_s", &|side| {
                Spread::of([side.batches.iter().map(|one| one.time).sum()])
            });
            figure("clone.made", &|side| {
                let batches = u32::try_from(side.batches.len()).unwrap_or(u32::MAX);
                Spread::of([f64::from(batches) * batch])
            });
            figure("list.ms", &|side| Spread::of(side.lists.iter().map(|one| one.0 * 1000.0)));
            figure("list.cpu_ms", &|side| Spread::of(side.lists.iter().map(|one| one.1 * 1000.0)));
        }
        figures
    }

    fn limit(&self, name: &'static str) -> Limit {
        let at = |sample: Option<&f64>| sample.copied().unwrap_or_default() * 1000.0;
        Limit { name, before: at(self.processes.first()), after: at(self.processes.last()) }
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

    const SAID: &str = "guest: ready after 4.2 s\nprocess 40000000\nbatch netbe 2000000000 300 500\n\
        batch api 1500000000 200 100\nbatch peer 1000000000 100 400\nlist netbe 5000000 4\n\
        list api 3000000 3\nlist peer 2000000 2\nprocess 60000000\nversion zfs-2.1.11\n";

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
            ("zfs.clone.cpu_ms_per_op", 5.0, 4.0),
            ("zfs.clone.kib_per_op", 3.0, 1.0),
            ("zfs.clone.total_s", 2.0, 1.0),
            ("zfs.clone.made", 100.0, 100.0),
            ("zfs.list.ms", 5.0, 2.0),
            ("zfs.list.cpu_ms", 4.0, 2.0),
            ("zfs.api.clone.ms_per_op", 15.0, 10.0),
            ("zfs.api.clone.cpu_ms_per_op", 1.0, 4.0),
            ("zfs.api.clone.kib_per_op", 2.0, 1.0),
            ("zfs.api.clone.total_s", 1.5, 1.0),
            ("zfs.api.clone.made", 100.0, 100.0),
            ("zfs.api.list.ms", 3.0, 2.0),
            ("zfs.api.list.cpu_ms", 3.0, 2.0),
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
