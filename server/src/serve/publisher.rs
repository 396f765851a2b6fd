//! Publishes the boot environments of a store: lists them, opens their trees, and tells [`Exports`]
//! what has changed.
//!
//! All reading and opening is done before a change and outside of every lock that a packet needs; the
//! change itself takes one instant.

mod changes;
mod hold;
mod opener;
mod places;
mod read;
#[cfg(test)]
mod test;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hostfs::{Descriptors, Inside};
use store::{Environment, EnvironmentName, ExportSettings, Role, Store, StoreError, Unreadable};
use uuid::Uuid;

use super::{lock, parts};
use crate::boot::plan::export_path;
use crate::boot::{Boots, catalog};
use crate::nfs::export::{Change, Event, Export, Exports, Reason, gone};
use crate::site::events::{self as site, Kind};
use crate::site::machine::View;
use crate::site::state::{StateDir, StateError};
use changes::Changes;
use opener::{Job, Opener};
use places::Places;
use provision::install::fill;
use provision::roots::{self, Owned};
use read::Read;

/// Publishes the boot environments of a store.
pub(super) struct Publisher {
    store: Arc<Store>,
    state: StateDir,
    exports: Arc<Exports>,
    descriptors: Arc<Descriptors>,
    boots: Arc<Boots>,
    opener: Opener,
    places: Arc<Places>,
    /// Looks at places while the other one may open environments.
    watcher: Opener,
    /// The result of the last reading of the store. Nothing waits while its lock is held.
    found: Mutex<Found>,
    /// Whether something that could not be served may become available by itself.
    waiting: AtomicBool,
    /// Whether a command has the whole store for itself.
    detached: AtomicBool,
    /// Held by the one publication that runs, and by who must not be overtaken by one.
    publishing: Mutex<()>,
    /// Since when the store is read.
    begun: Mutex<Option<Instant>>,
}

/// The result of the last reading of the store.
#[derive(Debug, Default)]
struct Found {
    /// Whether the whole store was listed at least once.
    listed: bool,
    /// What is written down about its environments, as it was last read; those that are gone are not
    /// among them.
    environments: HashMap<Uuid, Environment>,
    /// Why the store cannot be read at all.
    store: Option<String>,
    /// Why some environments cannot be read, by name.
    unreadable: BTreeMap<EnvironmentName, String>,
    /// Why some are not served, or not as they should be.
    unserved: BTreeMap<Uuid, Vec<String>>,
    /// The warnings that the administrator was given already.
    told: BTreeSet<String>,
}

/// How much of the store is read and opened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope<'a> {
    /// All of it, and every environment is opened anew.
    All,
    /// All of it; only what is not served, or was changed, is opened.
    Changed,
    /// The environments of these names.
    Named(&'a [EnvironmentName]),
}

/// An environment whose files are open.
struct Opened {
    export: Arc<Export>,
    entry: catalog::Environment,
    unserved: Vec<String>,
}

impl Publisher {
    /// A publisher that has published nothing yet, but for the environments that are recorded as
    /// gone.
    pub(super) fn new(
        store: Arc<Store>,
        state: StateDir,
        exports: Arc<Exports>,
        descriptors: Arc<Descriptors>,
        boots: Arc<Boots>,
    ) -> Result<Self, StateError> {
        let ended = gone::all(&state)?.into_iter();
        exports.apply(ended.map(|environment| (environment, Event::Ended)));
        exports.expect(HashMap::new(), false);
        boots.catalog().expect(BTreeMap::new(), false);
        Ok(Self {
            store,
            state,
            exports,
            descriptors,
            boots,
            opener: Opener::new(OPENING),
            places: Arc::default(),
            watcher: Opener::new(OPENING),
            found: Mutex::default(),
            waiting: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            publishing: Mutex::default(),
            begun: Mutex::default(),
        })
    }

    /// Reads the store and serves what it holds now. Where it cannot be read, what is open of it stays
    /// in service.
    ///
    /// Waits for the publication that runs: what was read later counts.
    pub(super) fn publish(&self, scope: Scope<'_>) -> Result<(), StoreError> {
        let _alone = lock(&self.publishing);
        if self.detached.load(Ordering::Relaxed) {
            return Ok(());
        }
        let first = !lock(&self.found).listed;
        let mut scope = if first { Scope::All } else { scope };
        let mut read = self.read(scope);
        if let (Scope::Named(_), Ok(named)) = (scope, &read)
            && self.may_have_come_with_data(named)
        {
            scope = Scope::Changed;
            read = self.read(scope);
        }
        let (mut changes, jobs) = match read {
            Ok(read) => self.changes(scope, read),
            Err(error) => return self.cannot_read(error),
        };
        self.opener.open_all(jobs, |outcomes| {
            changes.opened(outcomes);
            self.carry_out(changes.split_off());
        });
        if first {
            // What was on its way to another name just then nobody knows yet.
            self.waiting.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Why environments are not served, each in a sentence.
    pub(super) fn unserved(&self) -> Vec<String> {
        let begun = *lock(&self.begun);
        let since = begun.map(|begun| begun.elapsed()).filter(|since| *since >= SLOW);
        let slow = since.map(|since| {
            format!(
                "the store has been read for {} s and has not answered: changes wait for it",
                since.as_secs()
            )
        });
        slow.into_iter().chain(lock(&self.found).sentences()).collect()
    }

    /// Why the store as a whole could not be read when that was last tried; nothing if a command has it.
    pub(super) fn unread(&self) -> Option<String> {
        let detached = self.detached.load(Ordering::Relaxed);
        lock(&self.found).store.clone().filter(|_| !detached)
    }

    /// Looks whether the store is still there, and again for what was not: a pool that is imported
    /// later, a data set that waited for its key, a directory that another has taken the place of.
    pub(super) fn look_again(&self) {
        let suspects = self.exports.suspects().take();
        if self.detached.load(Ordering::Relaxed) {
            return;
        }
        let present = self.store.present();
        if let Err(StoreError::Stalled { .. }) = &present {
            // At once: who asks for a file now waits for it in the kernel, and keeps a thread.
            self.exports.stall(true);
        }
        if (present.is_err() || self.waiting.load(Ordering::Relaxed))
            && let Err(error) = self.publish(Scope::Changed)
        {
            tracing::debug!("{error}");
        }
        if present.is_ok() {
            self.look_at_places(suspects);
        } else {
            self.exports.suspects().looked_in_vain(suspects.into_iter(), Instant::now());
        }
    }

    /// Takes note that the store as a whole cannot be read.
    fn cannot_read(&self, error: StoreError) -> Result<(), StoreError> {
        self.waiting.store(true, Ordering::Relaxed);
        let text = error.to_string();
        let told = if let StoreError::Stalled { .. } = error {
            // What is open of it stays open: it may answer again as if nothing had been.
            self.exports.stall(true);
            Ok(())
        } else if let StoreError::Away { .. } = error {
            self.close(&text);
            Ok(())
        } else {
            Err(error)
        };
        let mut found = lock(&self.found);
        found.store = Some(text);
        let news = found.news();
        drop(found);
        self.tell(news);
        told
    }

    /// What has to be changed, and what has to be opened for that.
    fn changes(&self, scope: Scope<'_>, read: Read) -> (Changes, Vec<Job<Opened>>) {
        let mut changes = Changes::default();
        let Read { environments, unreadable, unlisted } = read;
        for Unreadable { name, error } in unreadable {
            let known = self.named(&name);
            let served = known.iter().any(|one| self.exports.of(*one).is_some());
            let mut text = error.to_string();
            let reason = Reason::from(text.as_str());
            changes
                .events
                .extend(known.into_iter().map(|one| (one, Event::Failed(Reason::clone(&reason)))));
            if served {
                text = format!("{text}: until that is corrected, {name} is served as before");
            }
            changes.unreadable.insert(name, text);
            changes.waiting = true;
        }
        for environment in unlisted {
            self.unlisted(environment, &mut changes);
        }
        let mut jobs = Vec::new();
        for environment in environments.iter().filter(|one| !one.is_draft()) {
            let (name, uuid) = (&environment.name, environment.uuid);
            if let Some(first) = changes.read.get(&uuid) {
                let text = format!(
                    "{name}: it has the same identity as {}: clone one of them",
                    first.name
                );
                changes.unserved.entry(uuid).or_default().push(text);
                continue;
            }
            changes.read.insert(uuid, environment.clone());
            let data = self.data_of(environment, &environments);
            if self.exports.is_held(uuid)
                || data.as_ref().is_some_and(|data| self.exports.is_held(data.uuid))
            {
                continue;
            }
            if environment.role == Role::Off {
                self.off(environment, &mut changes);
            } else if !matches!(scope, Scope::Changed) || !self.is_served_so(environment) {
                changes.pending.insert(uuid, name.clone());
                jobs.push(self.job(environment, data));
            }
        }
        changes.told = changes.unreadable.values().cloned().collect();
        if let Scope::Named(names) = scope {
            changes.named = Some(names.to_vec());
        }
        (changes, jobs)
    }

    /// The store does not name an environment. Unless somebody said that it is gone, it waits.
    fn unlisted(&self, environment: Uuid, changes: &mut Changes) {
        match gone::is_gone(&self.state, environment) {
            Ok(true) => {
                changes.gone.push(environment);
                changes.events.push((environment, Event::Ended));
                return;
            }
            Ok(false) => {}
            Err(error) => tracing::error!("{error}"),
        }
        let known = lock(&self.found).environments.get(&environment).map(|one| one.name.clone());
        let Some(name) = known.filter(|_| !self.exports.is_held(environment)) else { return };
        let text = format!(
            "{name}: it is no longer in the store, and its machines wait: bring it back, or run `netbe \
             destroy -f {name}` to forget it"
        );
        changes.events.push((environment, Event::Unlisted(Reason::from(text.as_str()))));
        changes.unserved.entry(environment).or_default().push(text);
        changes.waiting = true;
    }

    /// Nothing boots what somebody has taken out of use, or what an installation has not filled yet.
    fn off(&self, environment: &Environment, changes: &mut Changes) {
        let (name, uuid) = (&environment.name, environment.uuid);
        let (why, event) = match environment.is_being_filled() {
            true => {
                let why = fill::INTERRUPTED.to_owned();
                (why.clone(), Event::Closed(Reason::from(why)))
            }
            false => {
                if !self.exports.is_gone(uuid)
                    && let Err(error) = gone::remember(&self.state, uuid, name.as_str())
                {
                    tracing::error!("{error}");
                }
                let why = format!("its role is off: serve it with `netbe set role=be {name}`");
                (why, Event::Ended)
            }
        };
        changes.events.push((uuid, event));
        changes.unserved.entry(uuid).or_default().push(format!("{name}: {why}"));
    }

    /// Whether an environment is served as it is written down.
    fn is_served_so(&self, environment: &Environment) -> bool {
        let found = lock(&self.found);
        self.exports.of(environment.uuid).is_some()
            && found.environments.get(&environment.uuid) == Some(environment)
            && found.unserved.get(&environment.uuid).is_none_or(Vec::is_empty)
    }

    /// The environment with the data of the machine whose root this is.
    fn data_of(&self, environment: &Environment, read: &[Environment]) -> Option<Environment> {
        let machine = Owned::of(environment)?.machine;
        let holds = |known: &&Environment| roots::holder(known) == Some(machine.as_str());
        let known = || lock(&self.found).environments.values().find(holds).cloned();
        read.iter().find(holds).cloned().or_else(known)
    }

    /// The identities that environments of a name have, or had when they were last read.
    fn named(&self, name: &EnvironmentName) -> Vec<Uuid> {
        let found = lock(&self.found);
        let named = found.environments.values().filter(|known| known.name == *name);
        named.map(|environment| environment.uuid).collect()
    }

    /// How an environment is opened. Trees that are served already stay, unless their directory was
    /// replaced by another, as by restoring a backup.
    fn job(&self, environment: &Environment, data: Option<Environment>) -> Job<Opened> {
        let (store, exports) = (Arc::clone(&self.store), Arc::clone(&self.exports));
        let (descriptors, boots) = (Arc::clone(&self.descriptors), Arc::clone(&self.boots));
        let (environment, uuid) = (environment.clone(), environment.uuid);
        let places = Arc::clone(&self.places);
        let open = move || {
            // Before it is opened: what comes into its place meanwhile is another one.
            places.note(uuid, store.root(&environment.name));
            let before = exports.open_of(uuid);
            let known = before.as_ref().map(|export| &export.files);
            let (files, unserved) =
                parts::open(&store, &environment, data.as_ref(), known, &descriptors)?;
            let root = |export: &Export| export.files.seen(View::Joined).root();
            let name = environment.name.as_str();
            let read_only = environment.is_read_only();
            let export = Export {
                environment: uuid,
                name: name.to_owned(),
                path: export_path(name),
                files,
                settings: ExportSettings { read_only, ..environment.export.clone() },
            };
            let export = export.with_canonical_path().map_err(|error| error.to_string())?;
            let same = before.as_ref().is_some_and(|before| root(before) == root(&export));
            let files = match boots.catalog().environment(uuid).filter(|_| same) {
                Some(known) => known.files,
                None => {
                    let root = store.open_root(&environment.name);
                    Arc::new(Inside::from_fd(root.map_err(|error| error.to_string())?))
                }
            };
            let mounted = environment.datasets.iter().filter(|set| set.mounted());
            let entry = catalog::Environment {
                name: name.to_owned(),
                uuid,
                read_only,
                datasets: mounted.map(|set| set.path().to_owned()).collect(),
                handle: exports.root_handle_of(&export).as_bytes().to_vec(),
                owned: Owned::of(&environment),
                files,
            };
            Ok(Opened { export: Arc::new(export), entry, unserved })
        };
        (uuid, Box::new(open))
    }

    /// Lets all changes happen at one instant. What is said of pending environments stays.
    fn carry_out(&self, changes: Changes) {
        let Changes { read, entries, events, gone, unreadable, unserved, .. } = changes;
        let Changes { waiting, named, pending, .. } = changes;
        let mut found = lock(&self.found);
        let opened: Vec<Uuid> = entries.iter().map(|entry| entry.uuid).collect();
        let was_gone: Vec<Uuid> =
            opened.iter().copied().filter(|one| self.exports.is_gone(*one)).collect();
        let touched: Vec<Uuid> = events.iter().map(|(environment, _)| *environment).collect();
        // Also what is pending: that there is such an environment is known.
        found.environments.extend(read.iter().map(|(uuid, one)| (*uuid, one.clone())));
        for environment in &gone {
            found.environments.remove(environment);
            found.unserved.remove(environment);
        }
        found.listed |= named.is_none();
        self.expect(&found, unreadable.keys());
        // Whoever is let in by his handle must find that it is his root.
        let entries = entries.into_iter().filter(|entry| !self.exports.is_held(entry.uuid));
        self.boots.update_environments(entries.collect(), &[]);
        let closed = self.exports.apply(events);
        let shut = touched.into_iter().filter(|one| self.exports.of(*one).is_none());
        self.boots.update_environments(Vec::new(), &shut.collect::<Vec<_>>());
        match named {
            None => {
                found.store = None;
                found.unreadable = unreadable;
                found.unserved.retain(|one, _| pending.contains_key(one));
                self.waiting.store(waiting, Ordering::Relaxed);
            }
            Some(names) => {
                found.unreadable.retain(|name, _| !names.contains(name));
                found.unreadable.extend(unreadable);
                let stays = |one: &Uuid| !read.contains_key(one) || pending.contains_key(one);
                found.unserved.retain(|one, _| stays(one));
                self.waiting.fetch_or(waiting, Ordering::Relaxed);
            }
        }
        found.unserved.extend(unserved);
        found.unserved.retain(|_, reasons| !reasons.is_empty());
        let whole = found.store.is_none();
        let news = if pending.is_empty() { found.news() } else { Vec::new() };
        // Also of what was gone and came back, and without what cannot be read no more.
        self.expect(&found, []);
        drop(found);
        self.tell(news);
        if whole {
            self.exports.stall(false);
        }
        self.quiesce(&closed);
        for environment in was_gone {
            if let Err(error) = gone::forget(&self.state, environment) {
                tracing::error!("{error}");
            }
        }
    }

    fn tell(&self, news: impl IntoIterator<Item = site::Event>) {
        news.into_iter().for_each(|event| self.boots.events().emit(event));
    }

    /// Tells what there is, so that what is not open is known to wait.
    fn expect<'a>(
        &self,
        found: &'a Found,
        unreadable: impl IntoIterator<Item = &'a EnvironmentName>,
    ) {
        let (mut paths, mut names) = (HashMap::new(), BTreeMap::new());
        for name in unreadable.into_iter().chain(found.unreadable.keys()) {
            paths.insert(export_path(name.as_str()), None);
            names.insert(name.to_string(), catalog::Expected::default());
        }
        let usable = |one: &&Environment| {
            let off = one.role == Role::Off && !one.is_being_filled();
            !off && !one.is_draft() && !self.exports.is_gone(one.uuid)
        };
        for environment in found.environments.values().filter(usable) {
            let name = environment.name.as_str();
            paths.insert(export_path(name), Some(environment.uuid));
            let (uuid, owned) = (Some(environment.uuid), Owned::of(environment));
            names.insert(name.to_owned(), catalog::Expected { uuid, owned });
        }
        self.exports.expect(paths, found.listed);
        self.boots.catalog().expect(names, found.listed);
    }

    /// Closes what was open of trees that are not served any more.
    fn quiesce(&self, closed: &[Arc<Export>]) {
        for export in closed {
            let now = self.exports.open_of(export.environment);
            let is_shut = |tree: &&Arc<dyn vfs::Tree>| {
                now.as_ref().is_none_or(|now| now.files.tree(&tree.root()).is_none())
            };
            let trees = export.files.trees().filter(is_shut);
            trees.for_each(|tree| tree.quiesce());
        }
    }

    /// Closes everything of the store and gives what was open. Machines that live on it wait until it is
    /// served again.
    fn close(&self, why: &str) -> Vec<Uuid> {
        let reason = Reason::from(why);
        let found = lock(&self.found);
        let open = self.exports.all_open().into_iter().map(|export| export.environment);
        let open: Vec<Uuid> = open.collect();
        let events = open.iter().map(|one| (*one, Event::Closed(Reason::clone(&reason))));
        let closed = self.exports.apply(events.collect::<Vec<Change>>());
        self.boots.update_environments(Vec::new(), &open);
        drop(found);
        self.quiesce(&closed);
        open
    }
}

impl Found {
    /// What was read of these environments.
    fn read_of(&self, environments: &[Uuid]) -> Vec<Environment> {
        environments.iter().filter_map(|one| self.environments.get(one)).cloned().collect()
    }

    fn sentences(&self) -> Vec<String> {
        let unserved = self.unserved.values().flatten();
        let unserved: BTreeSet<&String> = unserved.collect();
        self.store.iter().chain(self.unreadable.values()).chain(unserved).cloned().collect()
    }

    /// Returns events for what was not reported before. Send them when no lock is held any more.
    fn news(&mut self) -> Vec<site::Event> {
        let now: BTreeSet<String> = self.sentences().into_iter().collect();
        let new = now.difference(&self.told);
        let mut news: Vec<_> =
            new.map(|text| site::Event::new(Kind::EnvironmentUnserved, text.clone())).collect();
        if now.is_empty() && !self.told.is_empty() {
            let text = "everything is served again".to_owned();
            news.push(site::Event::new(Kind::EnvironmentsServed, text));
        }
        self.told = now;
        news
    }
}

/// After how long it is said that the store has not answered.
const SLOW: Duration = Duration::from_secs(15);
/// How long it may take to open one environment before the others go on without it.
const OPENING: Duration = Duration::from_secs(10);
