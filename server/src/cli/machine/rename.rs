//! The verb that gives a machine another name.

use clap::Args;
use provision::roots::{Owned, holder};
use store::{Environment, EnvironmentName, Store, StoreError};

use super::roster;
use crate::cli::{Dry, Failure, Reply, Site, guests};
use crate::site::machine::{MachineError, MachineName, RenameError, rename_machine};

/// Rename a machine.
///
/// Its roots, data, lease, boots and shares follow to the new name. A running machine is not affected; it
/// gets its new host name at its next boot. Boot environments keep their names: rename those with
/// `netbe rename`.
#[derive(Args, Debug)]
pub(super) struct Rename {
    #[command(flatten)]
    dry: Dry,
    /// The machine.
    name: MachineName,
    /// Its new name.
    new: MachineName,
}

impl Rename {
    pub(super) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let state = site.open_state()?;
        guests::refuse_running(site, &self.name)?;
        let alone = match site.dry {
            true => None,
            false => Some(state.hold().map_err(Failure::could_not)?),
        };
        let mut machines = roster(&state)?;
        if machines.get(&self.new).is_some() {
            return Err(MachineError::Exists(self.new.clone()).into());
        }
        machines.take(&self.name)?;
        let location = site.location();
        let store = match Store::open(&location, site.state()) {
            Ok(store) => Some(store),
            Err(StoreError::Missing(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let listed = store.as_ref().map(Store::list).transpose()?;
        let mut listed = listed.map(|listing| listing.environments).unwrap_or_default();
        listed.retain(|environment| self.concerns(environment));
        let names: Vec<EnvironmentName> =
            listed.into_iter().map(|environment| environment.name).collect();
        let follow = names.iter().map(|name| format!("have {name} follow"));
        let deeds = [format!("rename {} to {}", self.name, self.new)].into_iter().chain(follow);
        if let Some(told) = self.dry.instead_of(site, &deeds.collect::<Vec<_>>()) {
            return Ok(told);
        }
        let location = store.map(|_| location);
        let renamed = rename_machine(&state, location.as_ref(), &self.name, &self.new);
        renamed.map_err(|error| match error {
            RenameError::Machine(error) => error.into(),
            RenameError::State(error) => Failure::could_not(error),
            RenameError::Store(error) => error.into(),
        })?;
        drop(alone);
        site.reload_only(&names.iter().collect::<Vec<_>>())?;
        Ok(Reply::done())
    }

    /// Whether an environment is the machine's, or shared with it.
    fn concerns(&self, environment: &Environment) -> bool {
        let name = self.name.as_str();
        Owned::of(environment).is_some_and(|owned| owned.machine == name)
            || holder(environment) == Some(name)
            || environment.export.machines.iter().any(|machine| machine == name)
    }
}
