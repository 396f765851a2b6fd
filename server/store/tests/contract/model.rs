//! What a store should hold after any verbs, reckoned in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proptest::prelude::*;
use store::{Lacking, Layout, Newer, Point, StoreError};
use uuid::Uuid;

use crate::bench::{Bench, name, point, snapshot_name};

/// Something that is done to a store. Names and paths are few, so that verbs meet.
#[derive(Clone, Debug)]
pub(crate) enum Verb {
    Clone {
        source: Name,
        snapshot: Option<Name>,
        new: Name,
    },
    Create {
        new: Name,
    },
    Destroy {
        name: Name,
    },
    DestroySnapshot {
        name: Name,
        snapshot: Name,
    },
    Promote {
        name: Name,
    },
    Remove {
        name: Name,
        path: &'static str,
    },
    Rename {
        name: Name,
        new: Name,
    },
    Rollback {
        name: Name,
        to: Name,
        newer: bool,
    },
    /// Sends a snapshot and receives it under another name.
    Send {
        name: Name,
        snapshot: Name,
        new: Name,
    },
    Set {
        name: Name,
        value: Option<u8>,
    },
    Snapshot {
        name: Name,
        snapshot: Name,
    },
    Write {
        name: Name,
        path: &'static str,
        content: u8,
    },
}

type Name = &'static str;

impl Verb {
    /// Any verb with any names.
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let name = || prop::sample::select(&NAMES[..]);
        let snapshot = || prop::sample::select(&SNAPSHOTS[..]);
        let path = || prop::sample::select(&PATHS[..]);
        let content = || 0..4_u8;
        prop_oneof![
            3 => (name(), prop::option::of(snapshot()), name())
                .prop_map(|(source, snapshot, new)| Self::Clone { source, snapshot, new }),
            4 => name().prop_map(|new| Self::Create { new }),
            2 => name().prop_map(|name| Self::Destroy { name }),
            1 => (name(), snapshot())
                .prop_map(|(name, snapshot)| Self::DestroySnapshot { name, snapshot }),
            1 => name().prop_map(|name| Self::Promote { name }),
            1 => (name(), path()).prop_map(|(name, path)| Self::Remove { name, path }),
            1 => (name(), name()).prop_map(|(name, new)| Self::Rename { name, new }),
            3 => (name(), snapshot(), any::<bool>())
                .prop_map(|(name, to, newer)| Self::Rollback { name, to, newer }),
            1 => (name(), snapshot(), name())
                .prop_map(|(name, snapshot, new)| Self::Send { name, snapshot, new }),
            1 => (name(), prop::option::of(content()))
                .prop_map(|(name, value)| Self::Set { name, value }),
            5 => (name(), snapshot())
                .prop_map(|(name, snapshot)| Self::Snapshot { name, snapshot }),
            5 => (name(), path(), content())
                .prop_map(|(name, path, content)| Self::Write { name, path, content }),
        ]
    }

    /// Does it to a store; whether the store did it.
    ///
    /// A refusal has to be one for a reason that stands in the store, not an accident.
    pub(crate) fn play(&self, bench: &Bench) -> bool {
        let store = &bench.store;
        let at = |name: Name, snapshot: Option<Name>| Point {
            environment: name.parse().unwrap(),
            snapshot: snapshot.map(snapshot_name),
        };
        let done = match *self {
            Self::Clone { source, snapshot, new } => {
                store.clone_environment(&at(source, snapshot), &name(new)).map(drop)
            }
            Self::Create { new } => store.create(&name(new), Layout::Linux).map(drop),
            Self::Destroy { name: one } => store.destroy(&name(one)),
            Self::DestroySnapshot { name: one, snapshot } => {
                store.destroy_snapshot(&name(one), &snapshot_name(snapshot))
            }
            Self::Promote { name: one } => store.promote(&name(one)),
            Self::Remove { name: one, path } => {
                if store.get(&name(one)).is_err() {
                    return false;
                }
                return fs::remove_file(bench.files(one).join(path)).is_ok();
            }
            Self::Rename { name: one, new } => store.rename(&name(one), &name(new)),
            Self::Rollback { name: one, to, newer } => {
                let newer = if newer { Newer::Destroy } else { Newer::Refuse };
                store.rollback(&name(one), &snapshot_name(to), newer)
            }
            Self::Send { name: one, snapshot, new } => {
                let mut stream = Vec::new();
                store
                    .send(&name(one), &snapshot_name(snapshot), None, &mut stream)
                    .and_then(|()| store.receive(&name(new), Lacking::Refuse, &mut &stream[..]))
                    .map(drop)
            }
            Self::Set { name: one, value } => {
                let value = value.map(|value| value.to_string());
                store.set(&name(one), KEY, value.as_deref()).map(drop)
            }
            Self::Snapshot { name: one, snapshot } => {
                store.snapshot(&name(one), &snapshot_name(snapshot)).map(drop)
            }
            Self::Write { name: one, path, content } => {
                if store.get(&name(one)).is_err() {
                    return false;
                }
                // Written whole or not at all, as everything else is.
                let path = bench.files(one).join(path);
                let near = path.with_extension("new");
                fs::write(&near, [content]).unwrap();
                fs::rename(near, path).unwrap();
                return true;
            }
        };
        match done {
            Ok(()) => true,
            Err(
                StoreError::Dependants { .. }
                | StoreError::Exists(_)
                | StoreError::Newer { .. }
                | StoreError::NoEnvironment(_)
                | StoreError::NoOrigin(_)
                | StoreError::NoSnapshot(_)
                | StoreError::SnapshotExists(_),
            ) => false,
            Err(error) => panic!("{self:?}: {error}"),
        }
    }
}

/// A store in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// Whether clones depend on snapshots, as ZFS's do.
    clones_depend: bool,
    environments: BTreeMap<Name, Held>,
    next: Identity,
}

#[derive(Clone, Debug)]
struct Held {
    identity: Identity,
    origin: Option<Identity>,
    setting: Option<u8>,
    files: Files,
    /// Oldest first.
    snapshots: Vec<Taken>,
}

#[derive(Clone, Debug)]
struct Taken {
    /// `None` if the store made it for a clone and nobody asked for it.
    name: Option<Name>,
    files: Files,
    /// Those that cannot be without it.
    clones: BTreeSet<Identity>,
}

type Identity = u32;
type Files = BTreeMap<&'static str, u8>;

impl Model {
    pub(crate) fn new(bench: &Bench) -> Self {
        Self { clones_depend: bench.capabilities().clones_depend, ..Self::default() }
    }

    /// Does a verb; `None`, and nothing is changed, if a store has to refuse it.
    pub(crate) fn play(&mut self, verb: &Verb) -> Option<()> {
        match *verb {
            Verb::Clone { source, snapshot, new } => self.clone_environment(source, snapshot, new),
            Verb::Create { new } => {
                self.insert(new, None, None, Files::new(), Vec::new()).map(drop)
            }
            Verb::Destroy { name } => self.destroy(name),
            Verb::DestroySnapshot { name, snapshot } => {
                let held = self.environments.get_mut(name)?;
                let place = held.find(snapshot)?;
                held.snapshots[place].clones.is_empty().then(|| drop(held.snapshots.remove(place)))
            }
            Verb::Promote { name } => self.promote(name),
            Verb::Remove { name, path } => {
                self.environments.get_mut(name)?.files.remove(path).map(drop)
            }
            Verb::Rename { name, new } => {
                if self.environments.contains_key(new) {
                    return None;
                }
                let held = self.environments.remove(name)?;
                self.environments.insert(new, held);
                Some(())
            }
            Verb::Rollback { name, to, newer } => {
                let held = self.environments.get_mut(name)?;
                let place = held.find(to)?;
                let after = &held.snapshots[place + 1..];
                if !after.is_empty() && !newer || after.iter().any(|one| !one.clones.is_empty()) {
                    return None;
                }
                held.snapshots.truncate(place + 1);
                held.files = held.snapshots[place].files.clone();
                Some(())
            }
            Verb::Send { name, snapshot, new } => {
                let held = self.environments.get(name)?;
                let taken = Taken {
                    clones: BTreeSet::new(),
                    ..held.snapshots[held.find(snapshot)?].clone()
                };
                let (setting, files) = (held.setting, taken.files.clone());
                self.insert(new, None, setting, files, vec![taken]).map(drop)
            }
            Verb::Set { name, value } => {
                self.environments.get_mut(name)?.setting = value;
                Some(())
            }
            Verb::Snapshot { name, snapshot } => {
                let held = self.environments.get_mut(name)?;
                if held.find(snapshot).is_some() {
                    return None;
                }
                let files = held.files.clone();
                held.snapshots.push(Taken { name: Some(snapshot), files, clones: BTreeSet::new() });
                Some(())
            }
            Verb::Write { name, path, content } => {
                self.environments.get_mut(name)?.files.insert(path, content);
                Some(())
            }
        }
    }

    fn insert(
        &mut self,
        new: Name,
        origin: Option<Identity>,
        setting: Option<u8>,
        files: Files,
        snapshots: Vec<Taken>,
    ) -> Option<Identity> {
        if self.environments.contains_key(new) {
            return None;
        }
        let identity = self.next;
        self.next += 1;
        self.environments.insert(new, Held { identity, origin, setting, files, snapshots });
        Some(identity)
    }

    fn clone_environment(&mut self, source: Name, snapshot: Option<Name>, new: Name) -> Option<()> {
        let held = self.environments.get(source)?;
        let place = snapshot.map(|snapshot| held.find(snapshot).ok_or(())).transpose().ok()?;
        let files = place.map_or(&held.files, |place| &held.snapshots[place].files).clone();
        let clone =
            self.insert(new, Some(held.identity), held.setting, files.clone(), Vec::new())?;
        if self.clones_depend {
            let held = self.environments.get_mut(source)?;
            let place = place.unwrap_or_else(|| {
                held.snapshots.push(Taken { name: None, files, clones: BTreeSet::new() });
                held.snapshots.len() - 1
            });
            held.snapshots[place].clones.insert(clone);
        }
        Some(())
    }

    fn destroy(&mut self, name: Name) -> Option<()> {
        let held = self.environments.get(name)?;
        if held.snapshots.iter().any(|taken| !taken.clones.is_empty()) {
            return None;
        }
        let identity = held.identity;
        self.environments.remove(name);
        for other in self.environments.values_mut() {
            for taken in &mut other.snapshots {
                taken.clones.remove(&identity);
            }
            // Nobody asked for it, and nobody needs it any more.
            other.snapshots.retain(|taken| taken.name.is_some() || !taken.clones.is_empty());
        }
        Some(())
    }

    fn promote(&mut self, name: Name) -> Option<()> {
        let clone = self.environments.get(name)?;
        let (identity, origin) = (clone.identity, clone.origin?);
        let own: BTreeSet<_> = clone.snapshots.iter().filter_map(|taken| taken.name).collect();
        let mut others = self.environments.values_mut();
        let former = others.find(|held| held.identity == origin)?;
        let grand = former.origin;
        if self.clones_depend {
            let depends = |taken: &Taken| taken.clones.contains(&identity);
            let place = former.snapshots.iter().position(depends)?;
            let moving = former.snapshots[..=place].iter().filter_map(|taken| taken.name);
            if moving.clone().any(|moving| own.contains(moving)) {
                return None;
            }
            let mut moved: Vec<Taken> = former.snapshots.drain(..=place).collect();
            moved[place].clones.remove(&identity);
            moved[place].clones.insert(origin);
            former.origin = Some(identity);
            for held in self.environments.values_mut() {
                for taken in &mut held.snapshots {
                    if taken.clones.remove(&origin) {
                        taken.clones.insert(identity);
                    }
                }
            }
            // What depended on a snapshot that moved has its new owner for its origin.
            let following: BTreeSet<_> =
                moved.iter().flat_map(|taken| &taken.clones).copied().collect();
            for held in self.environments.values_mut() {
                if following.contains(&held.identity) {
                    held.origin = Some(identity);
                }
            }
            let clone = self.environments.get_mut(name)?;
            moved.append(&mut clone.snapshots);
            clone.snapshots = moved;
            clone.origin = grand;
        } else {
            former.origin = Some(identity);
            self.environments.get_mut(name)?.origin = grand;
        }
        Some(())
    }

    /// Why a store does not hold what the model does; `None` if it does.
    ///
    /// `known` are the UUIDs that have been seen: an identity never has another one.
    pub(crate) fn contradicted(
        &self,
        bench: &Bench,
        known: &mut BTreeMap<Identity, Uuid>,
    ) -> Option<String> {
        let listing = bench.store.list().unwrap();
        if let Some(error) = listing.unreadable.first() {
            return Some(error.to_string());
        }
        let found: Vec<_> = listing.environments.iter().map(|one| one.name.to_string()).collect();
        if !found.iter().eq(self.environments.keys()) {
            return Some(format!("there are {found:?}"));
        }
        for environment in &listing.environments {
            let held = self.environments.get(environment.name.as_str())?;
            let uuid = *known.entry(held.identity).or_insert(environment.uuid);
            if uuid != environment.uuid {
                return Some(format!("{} has another UUID", environment.name));
            }
        }
        for environment in &listing.environments {
            let held = self.environments.get(environment.name.as_str())?;
            let origin = environment.origin.as_ref().map(|origin| origin.uuid);
            let expected = held.origin.map(|origin| known.get(&origin).copied());
            // The UUID of an origin that is gone may never have been seen.
            if origin.is_some() != expected.is_some()
                || expected.flatten().is_some_and(|uuid| origin != Some(uuid))
            {
                return Some(format!("{} has the origin {origin:?}", environment.name));
            }
            if let Some(wrong) = held.contradicted(bench, environment) {
                return Some(format!("{}: {wrong}", environment.name));
            }
        }
        None
    }
}

impl Held {
    fn find(&self, snapshot: Name) -> Option<usize> {
        self.snapshots.iter().position(|taken| taken.name == Some(snapshot))
    }

    fn contradicted(&self, bench: &Bench, environment: &store::Environment) -> Option<String> {
        let name = environment.name.as_str();
        let setting = environment.settings.value(KEY).map(str::to_owned);
        if setting != self.setting.map(|value| value.to_string()) {
            return Some(format!("the setting is {setting:?}"));
        }
        let root = bench.files(name);
        let files: Files = PATHS
            .iter()
            .filter_map(|path| Some((*path, *fs::read(root.join(path)).ok()?.first()?)))
            .collect();
        if files != self.files {
            return Some(format!("its files are {files:?}"));
        }
        let asked: Vec<Name> = self.snapshots.iter().filter_map(|taken| taken.name).collect();
        let snapshots = bench.snapshots(name);
        if snapshots != asked {
            return Some(format!("its snapshots are {snapshots:?}"));
        }
        // What is in a snapshot shows in how the tree differs from it.
        for taken in &self.snapshots {
            let Some(snapshot) = taken.name else { continue };
            let old = point(&format!("{name}@{snapshot}"));
            let found = bench.store.diff(&old, &point(name)).unwrap();
            let mut found: Vec<_> = found.into_iter().map(|change| change.path).collect();
            found.retain(|path| PATHS.iter().any(|known| path == std::path::Path::new(known)));
            let differs = |path: &&&str| self.files.get(**path) != taken.files.get(**path);
            let missing = PATHS
                .iter()
                .filter(differs)
                .find(|path| !found.iter().any(|found| found == std::path::Path::new(path)));
            if let Some(path) = missing {
                return Some(format!("no difference of {path} from {snapshot}, but {found:?}"));
            }
        }
        None
    }
}

const NAMES: [&str; 3] = ["one", "three", "two words"];
const SNAPSHOTS: [&str; 3] = ["a", "b c", "d"];
/// In the root, in a data set, and in one that is nested deeper.
const PATHS: [&str; 3] = ["home/file", "top", "var/log/file"];
const KEY: &str = "os";
