//! All machines of a site: those of the configuration file and those that commands added.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Machine, MachineError, MachineName};
use crate::config::{line_of, plain};
use crate::net::Mac;
use crate::site::configured::Configured;
use crate::site::state::{Kind, State};

/// Every named machine of the site, and what all others boot.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Roster {
    machines: BTreeMap<MachineName, RosterEntry>,
    by_mac: HashMap<Mac, MachineName>,
    default: Option<String>,
    is_default_fixed: bool,
}

/// A machine of the roster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RosterEntry {
    /// The machine.
    pub machine: Machine,
    /// Whether it stands in the configuration file, so that commands must not change it.
    pub fixed: bool,
}

/// What the site's record holds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Site {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_environment: Option<String>,
}

impl Roster {
    /// Reads the machines of the state, and adds those of the configuration file.
    ///
    /// `default` is the configuration's default environment; it wins over the state's.
    pub fn load(
        state: &dyn State,
        configured: &BTreeMap<MachineName, Machine>,
        default: Option<&str>,
    ) -> Result<Self, MachineError> {
        let mut roster = Self::configured(configured, default)?;
        for name in state.names(Kind::Machine)? {
            let known = name.parse::<MachineName>().map_err(|error| broken(state, &name, error))?;
            // Nothing, if it was removed while we listed them.
            let Some(record) = state.load(Kind::Machine, &name)? else { continue };
            let name = known;
            let machine = machine_of(state, &name, &record)?;
            roster.insert(name.clone(), machine, false).map_err(|error| {
                match error.is_taken() {
                    true => {
                        let path = state.place(Kind::Machine, name.as_str());
                        MachineError::At { path, error: Box::new(error) }
                    }
                    false => error,
                }
            })?;
        }
        if roster.default.is_none() {
            roster.default = load_default(state)?;
        }
        Ok(roster)
    }

    /// As the server that runs, or ran last, knows them: those of the state, and those that
    /// it noted of its configuration file.
    pub fn of_site(state: &dyn State) -> Result<Self, MachineError> {
        let Configured { default, machines, networks: _, file: _ } = Configured::load(state)?;
        let mut configured = BTreeMap::new();
        for (name, machine) in machines {
            configured.insert(name.parse::<MachineName>()?, machine);
        }
        let mut roster = Self::load(state, &configured, default.as_deref())?;
        roster.is_default_fixed = default.is_some();
        Ok(roster)
    }

    /// Whether the default environment stands in the configuration file, so that commands must not
    /// change it.
    #[must_use]
    pub const fn is_default_fixed(&self) -> bool {
        self.is_default_fixed
    }

    /// The machines of the configuration file alone.
    pub fn configured(
        machines: &BTreeMap<MachineName, Machine>,
        default: Option<&str>,
    ) -> Result<Self, MachineError> {
        let default = default.map(str::to_owned);
        let mut roster = Self { default, ..Self::default() };
        for (name, machine) in machines {
            machine.check().map_err(|error| error.of(name))?;
            roster.insert(name.clone(), machine.clone(), true)?;
        }
        Ok(roster)
    }

    /// Adds a machine whose name, Ethernet addresses and address no other has.
    pub fn insert(
        &mut self,
        name: MachineName,
        machine: Machine,
        fixed: bool,
    ) -> Result<(), MachineError> {
        if let Some(entry) = self.machines.get(&name) {
            return Err(if entry.fixed != fixed {
                MachineError::Twice(name)
            } else {
                MachineError::Exists(name)
            });
        }
        for mac in &machine.macs {
            if let Some(other) = self.by_mac.get(mac) {
                let (mac, other) = (*mac, other.clone());
                return Err(match self.machines.get(&other) {
                    Some(entry) if entry.fixed => MachineError::MacFixed { mac, name, other },
                    Some(_) | None => MachineError::MacTaken { mac, other },
                });
            }
        }
        if let Some(address) = machine.address {
            let taken = |entry: &RosterEntry| entry.machine.address == Some(address);
            if let Some((other, _)) = self.machines.iter().find(|(_, entry)| taken(entry)) {
                return Err(MachineError::AddressTaken { address, other: other.clone() });
            }
        }
        for mac in &machine.macs {
            self.by_mac.insert(*mac, name.clone());
        }
        self.machines.insert(name, RosterEntry { machine, fixed });
        Ok(())
    }

    /// Takes a machine off the roster, to change it or for good; not one of the configuration file.
    pub fn take(&mut self, name: &MachineName) -> Result<Machine, MachineError> {
        let entry =
            self.machines.get(name).ok_or_else(|| MachineError::Unknown(name.to_string()))?;
        if entry.fixed {
            return Err(MachineError::Fixed(name.clone()));
        }
        let machine = entry.machine.clone();
        self.machines.remove(name);
        self.by_mac.retain(|_, owner| owner != name);
        Ok(machine)
    }

    /// A machine has begun to boot what it was to boot once; something else that it is to boot by now
    /// stays.
    pub fn spend(&mut self, name: &MachineName, once: &str) {
        if let Some(entry) = self.machines.get_mut(name) {
            entry.machine.once.take_if(|booted| booted == once);
        }
    }

    /// The machine of that name.
    #[must_use]
    pub fn get(&self, name: &MachineName) -> Option<&RosterEntry> {
        self.machines.get(name)
    }

    /// The machine with that Ethernet address, else the one with that UUID.
    #[must_use]
    pub fn find(&self, mac: Mac, uuid: Option<Uuid>) -> Option<(&MachineName, &Machine)> {
        if let Some(name) = self.by_mac.get(&mac) {
            return self.machines.get_key_value(name).map(|(name, entry)| (name, &entry.machine));
        }
        let uuid = uuid?;
        let same = |entry: &RosterEntry| entry.machine.uuid == Some(uuid);
        let found = self.machines.iter().find(|(_, entry)| same(entry));
        found.map(|(name, entry)| (name, &entry.machine))
    }

    /// The machine for which an address is kept.
    #[must_use]
    pub fn at(&self, address: Ipv4Addr) -> Option<(&MachineName, &Machine)> {
        let kept = |entry: &RosterEntry| entry.machine.address == Some(address);
        let found = self.machines.iter().find(|(_, entry)| kept(entry));
        found.map(|(name, entry)| (name, &entry.machine))
    }

    /// All machines, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&MachineName, &RosterEntry)> {
        self.machines.iter()
    }

    /// What machines boot that have no environment of their own.
    #[must_use]
    pub fn default_environment(&self) -> Option<&str> {
        self.default.as_deref()
    }
}

/// Writes a machine into the state.
pub fn store(state: &dyn State, name: &MachineName, machine: &Machine) -> Result<(), MachineError> {
    machine.check()?;
    Ok(state.store(Kind::Machine, name.as_str(), machine.render()?.as_bytes())?)
}

/// Notes that a machine has begun to boot what it was to boot once; something else that it is to boot
/// by now stays.
pub fn spend(state: &dyn State, name: &MachineName, once: &str) -> Result<(), MachineError> {
    let Some(record) = state.load(Kind::Machine, name.as_str())? else { return Ok(()) };
    let machine = machine_of(state, name, &record)?;
    if machine.once.as_deref() != Some(once) {
        return Ok(());
    }
    store(state, name, &Machine { once: None, ..machine })
}

/// Removes a machine from the state.
pub fn remove(state: &dyn State, name: &MachineName) -> Result<(), MachineError> {
    state.remove(Kind::Machine, name.as_str())?;
    Ok(())
}

/// Sets or clears what machines boot that have no environment of their own.
pub fn store_default(state: &dyn State, environment: Option<&str>) -> Result<(), MachineError> {
    let site = Site { default_environment: environment.map(str::to_owned) };
    let text = toml::to_string(&site).map_err(|error| MachineError::Syntax(error.to_string()))?;
    Ok(state.store(Kind::Site, SITE, text.as_bytes())?)
}

/// Has everything that is assigned an environment by its old name go with it to its new one.
pub(super) fn follow(state: &dyn State, old: &str, new: &str) -> Result<(), MachineError> {
    if old == new {
        return Ok(());
    }
    for name in state.names(Kind::Machine)? {
        let Some(record) = state.load(Kind::Machine, &name)? else { continue };
        let name = name.parse::<MachineName>().map_err(|error| broken(state, &name, error))?;
        let mut machine = machine_of(state, &name, &record)?;
        if machine.is_assigned(old) {
            machine.follow(old, new);
            store(state, &name, &machine)?;
        }
    }
    if load_default(state)?.as_deref() == Some(old) {
        store_default(state, Some(new))?;
    }
    Ok(())
}

fn load_default(state: &dyn State) -> Result<Option<String>, MachineError> {
    let Some(record) = state.load(Kind::Site, SITE)? else { return Ok(None) };
    Ok(read::<Site>(&record, state, SITE)?.default_environment)
}

/// Reads a record of the site.
pub(in crate::site) fn read<T: DeserializeOwned>(
    record: &[u8],
    state: &dyn State,
    name: &str,
) -> Result<T, MachineError> {
    parse(record).map_err(|error| {
        let cure = match name {
            SITE => "and set the default environment again with `netbe sharepxe --default`",
            _ => "and start the server, which writes it anew",
        };
        MachineError::Record { path: state.place(Kind::Site, name), error: Box::new(error), cure }
    })
}

/// Reads the text of a record; what is wrong with it is told with its line.
pub(super) fn parse<T: DeserializeOwned>(record: &[u8]) -> Result<T, MachineError> {
    let text = std::str::from_utf8(record).map_err(|_| MachineError::NotText)?;
    toml::from_str(text).map_err(|error| {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        let reason = plain(error.message()).unwrap_or_else(|| error.message().to_owned());
        MachineError::Syntax(format!("line {line}: {reason}"))
    })
}

/// Reads the record of a machine.
fn machine_of(
    state: &dyn State,
    name: &MachineName,
    record: &[u8],
) -> Result<Machine, MachineError> {
    Machine::parse(record).map_err(|error| broken(state, name.as_str(), error))
}

/// The record of a machine cannot be read.
fn broken(state: &dyn State, name: &str, error: impl Into<MachineError>) -> MachineError {
    let path = state.place(Kind::Machine, name);
    let cure = "and add the machine again with `netbe machine add`";
    MachineError::Record { path, error: Box::new(error.into()), cure }
}

/// The record that holds the site's defaults.
const SITE: &str = "site.toml";

#[cfg(test)]
mod test {
    use super::*;
    use crate::site::networks::Networks;
    use crate::site::state::StateDir;

    fn mac(last: u8) -> Mac {
        Mac([0x52, 0x54, 0, 0, 0, last])
    }

    fn machine(last: u8) -> Machine {
        Machine { macs: vec![mac(last)], ..Machine::default() }
    }

    fn name(text: &str) -> MachineName {
        text.parse().unwrap()
    }

    #[test]
    fn the_roster_refuses_what_another_machine_has() {
        let mut roster = Roster::default();
        roster.insert(name("a"), machine(1), false).unwrap();
        let refusal = |roster: &mut Roster, other: &str, machine| {
            roster.insert(name(other), machine, false).unwrap_err().to_string()
        };
        assert_eq!(
            refusal(&mut roster, "b", machine(1)),
            "52:54:00:00:00:01 belongs to a: set another for a first, or remove it"
        );
        assert!(refusal(&mut roster, "a", machine(2)).starts_with("machine a exists"));
    }

    #[test]
    fn a_name_in_the_file_and_in_the_state_is_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        let state = StateDir::open(scratch.path()).unwrap();
        store(&state, &name("a"), &machine(1)).unwrap();
        let configured = BTreeMap::from([(name("a"), machine(2))]);
        let error = Roster::load(&state, &configured, None).unwrap_err();
        assert!(matches!(error, MachineError::Twice(_)));
    }

    #[test]
    fn commands_know_the_machines_of_the_servers_file() {
        let scratch = tempfile::tempdir().unwrap();
        let state = StateDir::open(scratch.path()).unwrap();
        let configured = BTreeMap::from([(name("a"), machine(1))]);
        let note = |machines: &BTreeMap<_, _>, default: Option<&str>| {
            let default = default.map(str::to_owned);
            Configured::of(machines, default, &Networks::default()).store(&state).unwrap();
        };
        note(&configured, Some("base"));
        store(&state, &name("b"), &machine(2)).unwrap();
        let mut roster = Roster::of_site(&state).unwrap();
        assert!(roster.get(&name("a")).unwrap().fixed && !roster.get(&name("b")).unwrap().fixed);
        assert!(matches!(roster.insert(name("a"), machine(3), false), Err(MachineError::Twice(_))));
        assert_eq!(roster.default_environment(), Some("base"));
        assert!(roster.is_default_fixed());
        note(&BTreeMap::new(), None);
        let roster = Roster::of_site(&state).unwrap();
        assert_eq!((roster.get(&name("a")), roster.is_default_fixed()), (None, false));
    }

    #[test]
    fn a_machine_of_the_file_is_not_taken() {
        let mut roster = Roster::default();
        roster.insert(name("a"), machine(1), true).unwrap();
        assert!(matches!(roster.take(&name("a")), Err(MachineError::Fixed(_))));
        assert!(matches!(roster.take(&name("b")), Err(MachineError::Unknown(_))));
    }

    #[test]
    fn a_machine_is_found_by_ethernet_address_then_by_uuid() {
        let mut roster = Roster::default();
        let uuid = Uuid::from_u128(9);
        roster.insert(name("a"), machine(1), false).unwrap();
        roster.insert(name("b"), Machine { uuid: Some(uuid), ..machine(2) }, false).unwrap();
        assert_eq!(roster.find(mac(1), Some(uuid)).unwrap().0, &name("a"));
        assert_eq!(roster.find(mac(9), Some(uuid)).unwrap().0, &name("b"));
        assert_eq!(roster.find(mac(9), None), None);
    }

    #[test]
    fn the_default_environment_is_kept_and_the_configuration_wins() {
        let scratch = tempfile::tempdir().unwrap();
        let state = StateDir::open(scratch.path()).unwrap();
        store_default(&state, Some("base")).unwrap();
        let none = BTreeMap::new();
        let kept = Roster::load(&state, &none, None).unwrap();
        assert_eq!(kept.default_environment(), Some("base"));
        let said = Roster::load(&state, &none, Some("other")).unwrap();
        assert_eq!(said.default_environment(), Some("other"));
        store_default(&state, None).unwrap();
        assert_eq!(Roster::load(&state, &none, None).unwrap().default_environment(), None);
    }
}
