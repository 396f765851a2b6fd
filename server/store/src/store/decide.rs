//! What is decided about boot environments, and written down at one instant.

use super::Store;
use crate::sync;
use crate::{
    Decision, Environment, EnvironmentName, ExportSettings, NativeChange, Role, StoreError,
};

impl Store {
    /// Decides anew how a boot environment is shared.
    pub fn set_export(
        &self,
        name: &EnvironmentName,
        export: ExportSettings,
    ) -> Result<Environment, StoreError> {
        self.change_export(name, |kept| *kept = export)
    }

    /// Changes how a boot environment is shared: what `change` leaves alone stays as it is.
    pub fn change_export(
        &self,
        name: &EnvironmentName,
        change: impl FnOnce(&mut ExportSettings),
    ) -> Result<Environment, StoreError> {
        self.change("sharenfs", name, &[], &[], |environment| {
            change(&mut environment.export);
            Ok(())
        })
    }

    /// Writes down several decisions about a boot environment at one instant: all of them, or none where
    /// one is refused.
    pub fn decide(
        &self,
        name: &EnvironmentName,
        decisions: &[Decision],
    ) -> Result<Environment, StoreError> {
        let told: Vec<String> = decisions.iter().map(ToString::to_string).collect();
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        let (natives, sync) = self.natives_among(decisions);
        self.change("set", name, &told, &natives, |environment| {
            if decisions.iter().any(|decision| matches!(decision, Decision::Role(_))) {
                self.refuse_half(environment)?;
            }
            sync.make(&mut environment.settings)?;
            decide_all(environment, decisions)
        })
    }

    /// Whether these decisions would be written down. Which values a property of ZFS takes is known only when
    /// it is set.
    pub fn would_decide(
        &self,
        name: &EnvironmentName,
        decisions: &[Decision],
    ) -> Result<(), StoreError> {
        let mut environment = self.get(name)?;
        if decisions.iter().any(|decision| matches!(decision, Decision::Role(_))) {
            self.refuse_half(&environment)?;
        }
        let (natives, sync) = self.natives_among(decisions);
        sync.make(&mut environment.settings)?;
        decide_all(&mut environment, decisions)?;
        self.back_end.check_natives(name, &natives)
    }

    /// Changes of properties of the file system, and that of `sync` where the file system has none.
    fn natives_among(&self, decisions: &[Decision]) -> (Vec<NativeChange>, sync::Change) {
        let mut natives = last_changes(decisions);
        let sync = match self.capabilities().syncs {
            true => sync::Change::none(),
            false => sync::Change::take(&mut natives),
        };
        (natives, sync)
    }

    /// Says what a boot environment is for.
    pub fn set_role(&self, name: &EnvironmentName, role: Role) -> Result<Environment, StoreError> {
        self.decide(name, &[Decision::Role(role)])
    }

    /// Writes down a setting of a boot environment, or takes it away.
    pub fn set(
        &self,
        name: &EnvironmentName,
        key: &str,
        value: Option<&str>,
    ) -> Result<Environment, StoreError> {
        let (key, value) = (key.to_owned(), value.map(str::to_owned));
        self.decide(name, &[Decision::Setting { key, value }])
    }

    /// Says whether a data set of a boot environment stays with the machine when its boot environment
    /// changes.
    pub fn mark_data(
        &self,
        name: &EnvironmentName,
        dataset: &str,
        data: bool,
    ) -> Result<Environment, StoreError> {
        self.decide(name, &[Decision::Data { dataset: dataset.to_owned(), data }])
    }

    /// Changes what is written down about a boot environment, and its native properties with it.
    pub(super) fn change(
        &self,
        verb: &str,
        name: &EnvironmentName,
        told: &[&str],
        natives: &[NativeChange],
        change: impl FnOnce(&mut Environment) -> Result<(), StoreError>,
    ) -> Result<Environment, StoreError> {
        let arguments: Vec<&str> = told.iter().copied().chain([name.as_str()]).collect();
        self.noted(verb, &arguments, || {
            let alone = self.alone(name)?;
            let mut current = alone.read(&*self.back_end)?;
            change(&mut current.environment)?;
            self.back_end.write(&current, natives)?;
            Ok(current.environment)
        })
    }
}

/// Decides all of this about an environment.
pub(super) fn decide_all(
    environment: &mut Environment,
    decisions: &[Decision],
) -> Result<(), StoreError> {
    for decision in decisions {
        match decision {
            // Not written down by netbe.
            Decision::Native(_) => {}
            Decision::Role(role) => environment.role = *role,
            Decision::Data { dataset, data } => {
                let name = environment.name.clone();
                let mut sets = environment.datasets.iter_mut();
                let set = sets.find(|set| set.path() == dataset && set.mounted());
                let none = || StoreError::NoDataset { name, dataset: dataset.clone() };
                let set = set.ok_or_else(none)?;
                *set = set.clone().with_data(*data);
            }
            Decision::Setting { key, value } => {
                environment.settings.set(key, value.as_deref())?;
            }
        }
    }
    Ok(())
}

/// Changes of native properties: of each property the last, as with settings.
fn last_changes(decisions: &[Decision]) -> Vec<NativeChange> {
    let mut last = Vec::<NativeChange>::new();
    for decision in decisions {
        let Decision::Native(change) = decision else { continue };
        last.retain(|earlier| earlier.property != change.property);
        last.push(change.clone());
    }
    last
}
