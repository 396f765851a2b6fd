//! What the configuration of other programs knows of machines: names, Ethernet addresses, addresses, and what they
//! boot.
//!
//! Several files may tell of one machine, by its name. Where they contradict each other the machine is in conflict,
//! and nobody chooses. What netbe has no place for is named, by file and line.

mod files;
mod hypervisors;
mod jails;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use crate::Mac;
use crate::lint::Source;

/// What files know.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Knowledge {
    /// The machines, by name.
    pub machines: Vec<Candidate>,
    /// What is not taken, in the order of the files and their lines.
    pub left: Vec<Left>,
}

/// A machine that files know.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Where it stands first.
    pub place: Place,
    /// Its Ethernet addresses.
    pub macs: Vec<Fact<Mac>>,
    /// Its address.
    pub address: Option<Fact<Ipv4Addr>>,
    /// What it boots: the path of its root, here or on a server, or the name of an environment.
    pub root: Option<Fact<String>>,
    /// The UUID of its firmware.
    pub uuid: Option<Fact<String>>,
    /// What runs it as a guest.
    pub run: Option<Fact<Run>>,
    /// Its memory in MiB.
    pub memory: Option<Fact<u64>>,
    /// The number of its processors.
    pub cpus: Option<Fact<u16>>,
    /// The bridge of the host that its interface is in.
    pub bridge: Option<Fact<String>>,
    /// Contradictions.
    pub conflicts: Vec<Conflict>,
}

/// What runs a guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Run {
    /// bhyve(8).
    Bhyve,
    /// jail(8).
    Jail,
    /// systemd-nspawn(1).
    Nspawn,
    /// QEMU.
    Qemu,
}

impl Run {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bhyve => "bhyve",
            Self::Jail => "jail",
            Self::Nspawn => "nspawn",
            Self::Qemu => "qemu",
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Two things of which only one can be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// Which, in one sentence without a full stop.
    pub message: String,
    /// Whether they stand in two files, or are of two machines.
    pub across: bool,
}

/// Something that a file says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fact<T> {
    /// What it says.
    pub value: T,
    /// Where.
    pub place: Place,
}

/// A line of a file.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The place of the file among those that were given.
    pub(crate) source: usize,
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Something that is not taken.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Left {
    /// Where it stands.
    pub place: Place,
    /// Why, and what to do, in one sentence without a full stop or control characters.
    pub message: String,
}

/// Reads what all files together know.
#[must_use]
pub fn read(sources: &[Source]) -> Knowledge {
    let mut gathered = Gathered::default();
    files::gather(sources, &mut gathered);
    gathered.knowledge()
}

/// What was read so far.
#[derive(Default)]
struct Gathered {
    machines: BTreeMap<String, Candidate>,
    left: Vec<Left>,
    /// Who may mount what, by address.
    mounts: Vec<(Ipv4Addr, Fact<String>)>,
}

impl Gathered {
    fn leave(&mut self, place: Place, message: impl AsRef<str>) {
        let clean = |c: char| {
            if c.is_control() { c.escape_default().collect() } else { c.to_string() }
        };
        let message = message.as_ref().chars().map(clean).collect();
        self.left.push(Left { place, message });
    }

    /// The machine of a name.
    fn machine(&mut self, name: &str, place: &Place) -> &mut Candidate {
        // Names of hosts are the same in capitals (RFC 1123 §2.1, RFC 952).
        let key = name.to_ascii_lowercase();
        let new =
            || Candidate { name: name.to_owned(), place: place.clone(), ..Candidate::default() };
        self.machines.entry(key).or_insert_with(new)
    }

    fn knowledge(mut self) -> Knowledge {
        for (address, fact) in std::mem::take(&mut self.mounts) {
            let is = |machine: &&mut Candidate| {
                machine.address.as_ref().is_some_and(|own| own.value == address)
            };
            if let Some(machine) = self.machines.values_mut().find(is) {
                if machine.root.is_none() {
                    machine.root = Some(fact);
                }
                continue;
            }
            let message = format!(
                "{address} may mount {}, but no file names its machine: give the file that does",
                fact.value
            );
            self.leave(fact.place, message);
        }
        let mut machines: Vec<Candidate> = self.machines.into_values().collect();
        disagree(&mut machines);
        self.left.sort();
        self.left.dedup();
        Knowledge { machines, left: self.left }
    }
}

/// Finds what two machines cannot both have.
fn disagree(machines: &mut [Candidate]) {
    let mut macs: BTreeMap<[u8; 6], (String, Place)> = BTreeMap::new();
    let mut addresses: BTreeMap<Ipv4Addr, (String, Place)> = BTreeMap::new();
    for machine in machines {
        let mut conflicts = Vec::new();
        for fact in &machine.macs {
            let own = (machine.name.clone(), fact.place.clone());
            if let Some((other, place)) = macs.get(&fact.value.0) {
                conflicts.push(both(&fact.value, &fact.place, other, place));
            } else {
                macs.insert(fact.value.0, own);
            }
        }
        if let Some(fact) = &machine.address {
            let own = (machine.name.clone(), fact.place.clone());
            if let Some((other, place)) = addresses.get(&fact.value) {
                conflicts.push(both(&fact.value, &fact.place, other, place));
            } else {
                addresses.insert(fact.value, own);
            }
        }
        machine.conflicts.extend(conflicts);
    }
}

fn both(value: &dyn fmt::Display, place: &Place, other: &str, there: &Place) -> Conflict {
    Conflict { message: format!("{value} ({place}) is {other}'s too ({there})"), across: true }
}

impl Candidate {
    /// Adds an Ethernet address.
    fn mac(&mut self, value: Mac, place: &Place) {
        if !self.macs.iter().any(|known| known.value == value) && self.macs.len() < MOST_CARDS {
            self.macs.push(Fact { value, place: place.clone() });
        }
    }
}

/// Notes down what a file says, unless another says something else.
fn note<T: fmt::Display + PartialEq>(
    known: &mut Option<Fact<T>>,
    conflicts: &mut Vec<Conflict>,
    value: T,
    place: &Place,
) {
    match known {
        None => *known = Some(Fact { value, place: place.clone() }),
        Some(known) if known.value == value => {}
        Some(known) => {
            let Fact { value: other, place: there } = known;
            let message = format!("{value} ({place}) is {other} in {there}");
            conflicts.push(Conflict { message, across: there.source != place.source });
        }
    }
}

/// Notes down how a machine is run: what another file says first counts, and the difference is told.
fn remark<T: fmt::Display + PartialEq>(
    known: &mut Option<Fact<T>>,
    value: T,
    place: &Place,
) -> Option<String> {
    match known {
        None => {
            *known = Some(Fact { value, place: place.clone() });
            None
        }
        Some(known) if known.value == value => None,
        Some(known) => Some(format!("{value} is {} in {}, which counts", known.value, known.place)),
    }
}

/// The most network cards of a machine.
const MOST_CARDS: usize = 64;

#[cfg(test)]
mod test;
