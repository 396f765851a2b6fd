//! What the server read in its configuration file and found on its interfaces, noted for commands, which
//! know no such file: one record, so that a reader and a crash see all of a change or nothing of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::machine::{Machine, MachineError, MachineName, read};
use super::networks::Networks;
use super::state::{Kind, State};
use crate::config::Config;

/// What is noted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Configured {
    /// The configuration file, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
    /// The default environment, if the configuration has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) default: Option<String>,
    /// The networks in which the server hands out addresses, if it hands out any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) networks: Option<Vec<String>>,
    /// The machines of the configuration.
    #[serde(default)]
    pub(super) machines: BTreeMap<String, Machine>,
}

impl Configured {
    /// What a server with this configuration and these networks has to note.
    #[must_use]
    pub fn new(config: &Config, networks: &Networks) -> Self {
        let default = config.default.as_ref().map(ToString::to_string);
        Self { file: config.file.clone(), ..Self::of(&config.machines, default, networks) }
    }

    /// The same, of a server without a configuration file.
    pub(super) fn of(
        machines: &BTreeMap<MachineName, Machine>,
        default: Option<String>,
        networks: &Networks,
    ) -> Self {
        let named = machines.iter().map(|(name, machine)| (name.to_string(), machine.clone()));
        Self {
            file: None,
            default,
            networks: networks.served().map(|all| all.iter().map(ToString::to_string).collect()),
            machines: named.collect(),
        }
    }

    /// What the server that runs, or ran last, noted.
    ///
    /// # Errors
    ///
    /// The record cannot be read.
    pub fn load(state: &dyn State) -> Result<Self, MachineError> {
        match state.load(Kind::Site, CONFIGURED)? {
            Some(record) => read(&record, state, CONFIGURED),
            None => Ok(Self::default()),
        }
    }

    /// Notes all of it in one write; where that fails, the record is as it was.
    ///
    /// # Errors
    ///
    /// The state cannot be written.
    pub fn store(&self, state: &dyn State) -> Result<(), MachineError> {
        if *self == Self::default() {
            state.remove(Kind::Site, CONFIGURED)?;
        } else {
            let text = toml::to_string(self);
            let text = text.map_err(|error| MachineError::Syntax(error.to_string()))?;
            state.store(Kind::Site, CONFIGURED, text.as_bytes())?;
        }
        // Servers before this one kept the networks in a record of their own.
        state.remove(Kind::Site, "served.toml")?;
        Ok(())
    }
}

/// The record's name.
const CONFIGURED: &str = "configured.toml";

#[cfg(test)]
mod test {
    use std::fs;

    use super::*;
    use crate::net::Mac;
    use crate::site::machine::Roster;
    use crate::site::state::StateDir;

    fn noted(last: u8, network: &str) -> Configured {
        let machine =
            Machine { macs: vec![Mac([0x52, 0x54, 0, 0, 0, last])], ..Machine::default() };
        let machines = BTreeMap::from([("a".parse().unwrap(), machine)]);
        let networks = Networks::default().serving(vec![network.parse().unwrap()]);
        Configured::of(&machines, Some("base".to_owned()), &networks)
    }

    #[test]
    fn machines_and_networks_change_together_or_not_at_all() {
        let scratch = tempfile::tempdir().unwrap();
        let state = StateDir::open(scratch.path()).unwrap();
        fs::write(state.path().join("served.toml"), "networks = []\n").unwrap();
        let old = noted(1, "10.1.0.0/24");
        old.store(&state).unwrap();
        assert!(!state.path().join("served.toml").exists());
        assert_eq!(state.names(Kind::Site).unwrap(), [CONFIGURED], "all of it is one record");
        assert_eq!(Configured::load(&state).unwrap(), old);

        let new = noted(2, "10.2.0.0/24");
        new.store(&state).unwrap();
        assert_eq!(state.names(Kind::Site).unwrap(), [CONFIGURED]);
        assert_eq!(Configured::load(&state).unwrap(), new);
        let roster = Roster::of_site(&state).unwrap();
        assert_eq!(roster.find(Mac([0x52, 0x54, 0, 0, 0, 2]), None).unwrap().0.as_str(), "a");
        let networks = Networks::of_site(&state).unwrap();
        assert!(networks.unfit([10, 1, 0, 9].into()).is_some());
        assert!(networks.unfit([10, 2, 0, 9].into()).is_none());
    }

    #[test]
    fn nothing_is_noted_of_a_server_without_machines_default_and_networks() {
        let scratch = tempfile::tempdir().unwrap();
        let state = StateDir::open(scratch.path()).unwrap();
        noted(1, "10.1.0.0/24").store(&state).unwrap();
        Configured::of(&BTreeMap::new(), None, &Networks::default()).store(&state).unwrap();
        assert!(!state.path().join(CONFIGURED).exists());
        assert_eq!(Configured::load(&state).unwrap(), Configured::default());
    }
}
