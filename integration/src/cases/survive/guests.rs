//! The guests: what each is, and what it told.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::{During, Failure};
use crate::interrupt::wait_for;
use crate::net::Network;
use crate::process::Program;
use crate::scene::mac;
use crate::server::Site;
use crate::vm::{Firmware, Hardware, Machine};

/// Where a guest's root comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// An environment of its own, cloned by hand.
    Clone,
    /// The same, and what it writes lies on the disk that hangs.
    OnDisk,
    /// A root of its own, made at its first boot.
    Own,
    /// A root that is new at each boot.
    Fresh,
}

/// All guests; each has the number of its place, from 1 on.
pub(super) const ALL: [(&str, Kind); 7] = [
    ("north", Kind::Clone),
    ("east", Kind::Clone),
    ("south", Kind::Clone),
    ("west", Kind::Clone),
    ("own", Kind::Own),
    ("fresh", Kind::Fresh),
    ("slow", Kind::OnDisk),
];

/// What a guest runs.
pub(super) const TASK: &str = "cp survivor /tmp/survivor
mkdir -p data
exec /tmp/survivor \"$(hostname)\" \"$(cat place 2>/dev/null || echo /lab/data)\"
";

/// Builds the guests' program and puts it onto a root.
pub(super) fn install(directory: &Path, root: &Path) -> Result<(), Failure> {
    let source = directory.join("survivor.c");
    fs::write(&source, include_str!("../../../guest/survivor.c")).during(source.display())?;
    Program::new("gcc")
        .words("-std=gnu11 -O2 -Wall -Wextra -Werror -static -o")
        .arg(root.join("lab/survivor"))
        .arg(&source)
        .run(Duration::from_secs(60))
        .map(drop)
}

/// A guest that is switched on.
#[derive(Debug)]
pub(super) struct Guest {
    name: &'static str,
    kind: Kind,
    machine: Machine,
}

/// How a guest ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// How often it wrote.
    pub(super) rounds: u64,
    /// What went wrong, in words.
    pub(super) wrong: Vec<String>,
}

impl Guest {
    pub(super) fn switch_on(
        network: &Network,
        directory: &Path,
        name: &'static str,
        kind: Kind,
        number: u8,
    ) -> Result<Self, Failure> {
        let hardware = Hardware {
            name: name.to_owned(),
            firmware: Firmware::Bios,
            mac: mac(number),
            memory: 256,
        };
        let machine = Machine::switch_on(network, directory, &hardware)?;
        Ok(Self { name, kind, machine })
    }

    pub(super) fn wait_until_it_writes(&mut self, limit: Duration) -> Result<(), Failure> {
        let waited = wait_for(&format!("{} to write", self.name), limit, || {
            self.machine.still_on()?;
            Ok(self.machine.said().contains("survivor: wrote 1").then_some(()))
        });
        waited.map_err(|failure| self.machine.explain(failure))
    }

    /// Where its files are on the server.
    fn files(&self, site: &Site<'_>) -> PathBuf {
        let place = if self.kind == Kind::OnDisk { "home" } else { "lab/data" };
        let root = match self.kind {
            Kind::Clone | Kind::OnDisk => site.root(self.name),
            Kind::Own | Kind::Fresh => site.root(&format!("{}-golden", self.name)),
        };
        root.join(place)
    }

    /// Asks it to end.
    pub(super) fn tell_to_stop(&self, site: &Site<'_>) -> Result<(), Failure> {
        // Where its root is gone there is nobody to be told, and that is seen at its end.
        drop(fs::write(self.files(site).join("stop"), ""));
        Ok(())
    }

    /// Waits for its end, and compares what it wrote with what is there.
    pub(super) fn end(&mut self, site: &Site<'_>, limit: Duration) -> Result<Ended, Failure> {
        let mut wrong = Vec::new();
        match self.machine.wait_until_off(limit) {
            Ok(_time) => {}
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(Failure::Said(_)) => wrong.push(format!("{}: did not end", self.name)),
        }
        let said = Said::parse(&self.machine.said());
        wrong.extend(said.wrong.iter().map(|line| format!("{}: {line}", self.name)));
        if !said.ended {
            wrong.push(format!("{}: did not say that it was done", self.name));
        }
        for (slot, round) in said.last.iter().enumerate() {
            let path = self.files(site).join(format!("slot-{slot}"));
            let found = fs::read(&path).unwrap_or_default();
            if *round > 0 && found != content(self.name, slot as u64, *round) {
                wrong.push(format!(
                    "{}: slot {slot} on the disk is not that of round {round}",
                    self.name
                ));
            }
        }
        Ok(Ended { rounds: said.rounds, wrong })
    }
}

/// What a guest said on its console.
#[derive(Debug, Default)]
struct Said {
    /// The last round in which it wrote each file.
    last: [u64; SLOTS],
    rounds: u64,
    wrong: Vec<String>,
    ended: bool,
}

impl Said {
    fn parse(console: &str) -> Self {
        let mut said = Self::default();
        for line in console.lines().filter_map(|line| line.trim().strip_prefix("survivor: ")) {
            match line.split_once(' ') {
                Some(("wrote", round)) => {
                    let round = round.parse().unwrap_or(0);
                    let slot = usize::try_from(round).unwrap_or(0) % SLOTS;
                    if let Some(last) = said.last.get_mut(slot) {
                        *last = round;
                    }
                    said.rounds += 1;
                }
                Some(("ERROR" | "LOST", _)) => said.wrong.push(line.to_owned()),
                Some(("ends", _)) => said.ended = true,
                _other => {}
            }
        }
        said
    }
}

/// What a file has in it: the twin of `fill` in `guest/survivor.c`.
fn content(name: &str, slot: u64, round: u64) -> Vec<u8> {
    let mut bytes = format!("{name} slot {slot} round {round}\n").into_bytes();
    for place in bytes.len()..SIZE {
        let value = (place as u64).wrapping_mul(7).wrapping_add(slot * 31).wrapping_add(round);
        bytes.push(value.to_le_bytes().first().copied().unwrap_or(0));
    }
    bytes
}

/// How many lines of a guest's errors are told.
pub(super) const REPORTS: usize = 6;
const SLOTS: usize = 8;
const SIZE: usize = 32_768;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_last_round_of_each_file_counts() {
        let console = "boot\r\nsurvivor: wrote 1\r\nsurvivor: wrote 9\r\nsurvivor: wrote 2\r\n\
            survivor: ERROR open slot-1: Stale file handle\r\nsurvivor: ends with errors 1\r\n";
        let said = Said::parse(console);
        assert_eq!((said.last[1], said.last[2], said.rounds), (9, 2, 3));
        assert_eq!(said.wrong, ["ERROR open slot-1: Stale file handle"]);
        assert!(said.ended);
    }

    #[test]
    fn files_of_two_rounds_differ_behind_their_first_line() {
        let (one, two) = (content("a", 1, 1), content("a", 1, 9));
        assert_eq!((one.len(), two.len()), (SIZE, SIZE));
        assert_ne!(one[100..], two[100..]);
    }
}
