//! What the store has: all of it, or what is named.

use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use provision::roots::{self, Owned};
use store::{Environment, EnvironmentName, StoreError, Unreadable};
use uuid::Uuid;

use super::{Publisher, Scope, lock};

/// What a reading of the store found.
pub(super) struct Read {
    pub(super) environments: Vec<Environment>,
    pub(super) unreadable: Vec<Unreadable>,
    /// Those that the store should have named and did not.
    pub(super) unlisted: Vec<Uuid>,
}

impl Publisher {
    pub(super) fn read(&self, scope: Scope<'_>) -> Result<Read, StoreError> {
        let _begun = Begun::now(&self.begun);
        match scope {
            Scope::Named(names) => self.read_named(names),
            Scope::All | Scope::Changed => self.list(),
        }
    }

    fn list(&self) -> Result<Read, StoreError> {
        let mut retries_left = RENAMES;
        loop {
            self.store.present()?;
            let listing = self.store.list()?;
            let found = lock(&self.found);
            let named = |environment: &Environment| {
                let unread = |one: &Unreadable| one.name == environment.name;
                listing.environments.iter().any(|listed| listed.uuid == environment.uuid)
                    || listing.unreadable.iter().any(unread)
            };
            let missing = found.environments.values().filter(|known| !named(known));
            let unlisted: Vec<Uuid> = missing.map(|environment| environment.uuid).collect();
            drop(found);
            // While an environment gets another name, it may have none for an instant.
            let vanished = unlisted.iter().any(|one| self.exports.of(*one).is_some());
            if vanished && retries_left > 0 {
                retries_left -= 1;
                thread::sleep(RENAME);
                continue;
            }
            let (environments, unreadable) = (listing.environments, listing.unreadable);
            return Ok(Read { environments, unreadable, unlisted });
        }
    }

    fn read_named(&self, names: &[EnvironmentName]) -> Result<Read, StoreError> {
        let (mut environments, mut unreadable) = (Vec::<Environment>::new(), Vec::new());
        // One that was renamed and named as before is named twice.
        for name in names.iter().collect::<BTreeSet<_>>() {
            match self.store.get(name) {
                Ok(environment) => environments.push(environment),
                Err(StoreError::NoEnvironment(_)) => {}
                Err(error @ (StoreError::Away { .. } | StoreError::Stalled { .. })) => {
                    return Err(error);
                }
                Err(error) => unreadable.push(Unreadable { name: name.clone(), error }),
            }
        }
        let found = lock(&self.found);
        let is_read = |environments: &[Environment], known: &Environment| {
            environments.iter().any(|read| read.uuid == known.uuid)
        };
        let unlisted = found.environments.values().filter(|known| {
            let unread = unreadable.iter().any(|unread: &Unreadable| unread.name == known.name);
            names.contains(&known.name) && !unread && !is_read(&environments, known)
        });
        let mut unlisted: Vec<Uuid> = unlisted.map(|environment| environment.uuid).collect();
        // What nobody knows the name of is called by its identity.
        unlisted.extend(names.iter().filter_map(|name| name.as_str().parse::<Uuid>().ok()));
        // A machine's roots show its data as their own.
        let machines = environments.iter().filter_map(roots::holder).map(str::to_owned);
        let machines: HashSet<String> = machines.collect();
        let roots = found.environments.values().filter(|known| {
            Owned::of(known).is_some_and(|owned| machines.contains(&owned.machine))
                && !is_read(&environments, known)
        });
        let roots: Vec<Environment> = roots.cloned().collect();
        environments.extend(roots);
        Ok(Read { environments, unreadable, unlisted })
    }

    /// Whether a root that a machine keeps is new: the first one comes with an environment for its data,
    /// and must not be seen without.
    pub(super) fn may_have_come_with_data(&self, read: &Read) -> bool {
        let found = lock(&self.found);
        read.environments.iter().any(|environment| {
            Owned::of(environment).is_some_and(|owned| !owned.fresh)
                && !found.environments.contains_key(&environment.uuid)
        })
    }
}

/// Marks that the store is read, for as long as it lives.
pub(super) struct Begun<'a>(&'a Mutex<Option<Instant>>);

impl<'a> Begun<'a> {
    pub(super) fn now(since: &'a Mutex<Option<Instant>>) -> Self {
        *lock(since) = Some(Instant::now());
        Self(since)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        *lock(self.0) = None;
    }
}

/// How often the store is listed again for what has no name at the moment, and after how long.
const RENAMES: u32 = 1;
const RENAME: Duration = Duration::from_millis(50);
