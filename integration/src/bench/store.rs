//! The store: what a clone costs by netbe, beside a loop in the shell over the file system's own command.
//!
//! Each kind of store is measured on a file system of its own: btrfs and ext4 on loop devices, ZFS in a
//! guest. Times include that everything is on disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::debian::Debian;
use crate::errand::Errand;
use crate::failure::{During, Failure, ensure};
use crate::lab::Lab;
use crate::net::Network;
use crate::packages;
use crate::process::Program;
use crate::progress;

use super::report::{Figure, Limit, Report, Spread};

/// Makes `clones` clones of each kind by netbe, and as many by the loop.
pub(super) fn measure(lab: &Lab, clones: u32) -> Result<Report, Failure> {
    packages::install(&[packages::TESTS, packages::DEBIAN])?;
    let directory = lab.directory("bench store")?;
    let script = directory.join("clones.sh");
    std::fs::write(&script, SCRIPT).during(script.display())?;
    let (mut figures, mut versions) = (Vec::new(), Vec::new());
    let mut limits = Vec::new();
    for kind in KINDS {
        let step = progress::step(&format!("{clones} clones, {}", kind.name));
        let words = format!("{} {BATCHES} {}", kind.name, (clones / BATCHES).max(1));
        let said = if kind.in_guest {
            in_guest(lab, &directory, &script, &words)?
        } else {
            let place = lab.directory(&format!("bench store {}", kind.name))?;
            on_host(lab, &place, &script, &words)?
        };
        let samples = Samples::read(&said)?;
        figures.extend(samples.figures(kind.name, (clones / BATCHES).max(1)));
        limits.push(samples.limit(kind.process));
        versions.extend(samples.version);
        step.done("done");
    }
    versions.sort();
    versions.dedup();
    Report::new(lab, "shell", versions.join(", "), figures, limits)
}

/// Runs the script here; its mounts end with it.
fn on_host(lab: &Lab, place: &Path, script: &Path, words: &str) -> Result<String, Failure> {
    let sh = Program::new("unshare").words("--mount sh").arg(script).words(words);
    sh.env("NETBE", lab.netbe()?).directory(place).run(LIMIT)
}

/// Runs the script in a guest with ZFS.
fn in_guest(lab: &Lab, directory: &Path, script: &Path, words: &str) -> Result<String, Failure> {
    let debian = Debian::get(&lab.cache)?;
    let task = format!("NETBE=/lab/netbe exec sh /lab/clones.sh {words}\n");
    let netbe = PathBuf::from(lab.netbe()?);
    let files: [(&str, &Path); 2] = [("netbe", &netbe), ("clones.sh", script)];
    let errand = Errand {
        name: "bench",
        mac: "52:54:00:77:02:01",
        memory: 2048,
        script: &task,
        files: &files,
        pool: 4096,
    };
    errand.send(&Network::new()?, directory, &debian)?.back(LIMIT)?.success()
}

/// A kind of store.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    in_guest: bool,
    /// What the figure of its computer's processes is called.
    process: &'static str,
}

const KINDS: [Kind; 4] = [
    Kind { name: "btrfs", in_guest: false, process: "btrfs.process.ms_per_op" },
    Kind { name: "dir_reflink", in_guest: false, process: "dir_reflink.process.ms_per_op" },
    Kind { name: "dir_copy", in_guest: false, process: "dir_copy.process.ms_per_op" },
    Kind { name: "zfs", in_guest: true, process: "zfs.process.ms_per_op" },
];

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
                    place(&mut samples.batches, side).ok_or_else(strange)?.push(sample);
                }
                ("list", [side, time]) => {
                    let sample = number(time)? / SECOND;
                    place(&mut samples.lists, side).ok_or_else(strange)?.push(sample);
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
            figure("list.ms", &|side| Spread::of(lists(side).iter().map(|time| time * 1000.0))),
        ]
    }

    fn limit(&self, name: &'static str) -> Limit {
        let at = |sample: Option<&f64>| sample.copied().unwrap_or_default() * 1000.0;
        Limit { name, before: at(self.processes.first()), after: at(self.processes.last()) }
    }
}

fn place<'a, T>(sides: &'a mut [T; 2], side: &str) -> Option<&'a mut T> {
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
/// How long one kind may take.
const LIMIT: Duration = Duration::from_secs(3 * 3600);

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
