//! Which machines boot which environment: now, next, once.

use std::collections::HashMap;

use provision::roots::{Known, own_among};
use serde::Serialize;
use store::Environment;
use uuid::Uuid;

use super::{Site, machine};
use crate::control::{Reply, Request, Status};
use crate::site::events::Stage;
use crate::site::machine::{RootKind, Roster, environment_in};

/// Who boots an environment.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Active {
    /// Whether a machine runs from it now, as far as the server knows.
    now: bool,
    /// Whether a machine boots it, or a clone of it, at its next boot.
    next: bool,
    /// Whether that is so for one boot only.
    once: bool,
    /// These machines, by name or Ethernet address.
    pub(super) booted_by: Vec<String>,
}

impl Active {
    /// In bectl(8)'s letters.
    pub(super) fn letters(&self) -> String {
        let letters = [(self.now, 'N'), (self.next, 'R'), (self.once, 'T')];
        letters.into_iter().filter(|(is, _)| *is).map(|(_, letter)| letter).collect()
    }

    /// The machines, for people: the first of them, and how many more.
    pub(super) fn summary(&self) -> String {
        let shown: Vec<&str> = self.booted_by.iter().take(SHOWN).map(String::as_str).collect();
        match self.booted_by.len().saturating_sub(SHOWN) {
            0 => shown.join(","),
            more => format!("{} and {more} more", shown.join(",")),
        }
    }

    fn add(&mut self, machine: &str) {
        if !self.booted_by.iter().any(|known| known == machine) {
            self.booted_by.push(machine.to_owned());
        }
    }
}

/// The same of all environments.
pub(super) struct Actives(HashMap<Uuid, Active>);

impl Actives {
    /// What is known of the machines of a site. A list is not worth less where they cannot be read, or where
    /// no server answers: then it is not said.
    pub(super) fn of(site: &Site, environments: &[Environment]) -> Self {
        let roster = match site.state().exists() {
            true => site.open_state().and_then(|state| machine::roster(&state)).unwrap_or_default(),
            false => Roster::default(),
        };
        let asked = site.server().ok().flatten().map(|mut server| server.ask(&Request::Status));
        let status = match asked {
            Some(Ok(Reply::Status(status))) => status,
            _ => Status::default(),
        };
        let mut actives = HashMap::<Uuid, Active>::new();
        let named = |name: &str| environments.iter().find(|known| known.name.as_str() == name);
        let assigned = |machine: &str, root: RootKind, wanted: &str| {
            let known = environments.iter().map(Known::of);
            let own = (root == RootKind::Own).then(|| own_among(known, machine, wanted)).flatten();
            named(own.unwrap_or_else(|| environment_in(wanted))).map(|found| found.uuid)
        };
        for (name, entry) in roster.iter() {
            let (name, known) = (name.as_str(), &entry.machine);
            let mut note = |wanted: &Option<String>, once: bool| {
                let wanted = wanted.as_deref()?;
                let active = actives.entry(assigned(name, known.root, wanted)?).or_default();
                active.add(name);
                if once {
                    active.once = true
                } else {
                    active.next = true
                }
                Some(())
            };
            note(&known.environment, false);
            note(&known.once, true);
        }
        for machine in status.machines.iter().filter(|machine| lives(machine.stage)) {
            if let Some(found) = machine.environment.as_deref().and_then(named) {
                let active = actives.entry(found.uuid).or_default();
                active.add(&machine.name);
                active.now = true;
            }
        }
        Self(actives)
    }

    /// Who boots this one.
    pub(super) fn of_environment(&self, environment: Uuid) -> Active {
        self.0.get(&environment).cloned().unwrap_or_default()
    }
}

/// Whether a machine has its root then.
const fn lives(stage: Stage) -> bool {
    matches!(stage, Stage::Root | Stage::Running | Stage::Idle | Stage::Unheard)
}

/// So many machines are named for people.
const SHOWN: usize = 3;
