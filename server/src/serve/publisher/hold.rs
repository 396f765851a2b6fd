//! Commands that have an environment, or the whole store, for themselves.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use store::{EnvironmentName, StoreError};
use uuid::Uuid;

use super::super::lock;
use super::{Publisher, Scope};
use crate::nfs::export::{Change, Event, Reason, gone};
use crate::site::events::{self as site, Kind};
use provision::roots::{self, Owned};

impl Publisher {
    /// The environments that need the tree of the one of that name: itself, and if a machine has its data
    /// there, that machine's roots. One that cannot be read now is known by the name that it had.
    pub(in crate::serve) fn needing(
        &self,
        name: &EnvironmentName,
    ) -> Result<Vec<Uuid>, StoreError> {
        let environment = match self.store.get(name) {
            Ok(environment) => environment,
            Err(error) => {
                let known = self.named(name);
                let unread =
                    matches!(error, StoreError::Broken { .. } | StoreError::NoEnvironment(_));
                return if unread || !known.is_empty() { Ok(known) } else { Err(error) };
            }
        };
        let mut needing = vec![environment.uuid];
        if let Some(machine) = roots::holder(&environment) {
            let found = lock(&self.found);
            let owned = |known: &&store::Environment| {
                Owned::of(known).is_some_and(|owned| owned.machine == machine)
            };
            needing.extend(found.environments.values().filter(owned).map(|known| known.uuid));
        }
        Ok(needing)
    }

    /// Holds environments: whoever uses them waits, and no boot is planned onto them. Not if `living`
    /// finds somebody who lives on one; nobody has noticed anything then.
    ///
    /// `living` is called before and after the hold: the second call sees what began in between.
    pub(in crate::serve) fn hold<L>(
        &self,
        environments: &[Uuid],
        living: impl Fn() -> Option<L>,
    ) -> Option<L> {
        if let Some(living) = living() {
            return Some(living);
        }
        let (entries, before) = {
            let found = lock(&self.found);
            let entries =
                environments.iter().filter_map(|one| self.boots.catalog().environment(*one));
            let entries: Vec<_> = entries.collect();
            // First, so that nobody is refused what he has to wait for.
            self.exports.apply(each(environments, &Event::Held));
            self.boots.update_environments(Vec::new(), environments);
            (entries, found.read_of(environments))
        };
        let living = living();
        if living.is_none() {
            self.tell_of(
                environments,
                Kind::EnvironmentHeld,
                "a command works on it: its machines wait",
            );
        }
        if living.is_some() {
            let found = lock(&self.found);
            self.boots.update_environments(entries, &[]);
            self.exports.apply(each(environments, &Event::Resumed));
            drop(found);
            // What a publication of that time has read counts when it comes to its end.
            drop(lock(&self.publishing));
            let after = lock(&self.found).read_of(environments);
            // What was read meanwhile was not opened, and would count as served.
            if after != before {
                let names: Vec<_> = after.into_iter().map(|one| one.name).collect();
                if let Err(error) = self.publish(Scope::Named(&names)) {
                    tracing::debug!("{error}");
                }
            }
        }
        living
    }

    /// Closes what is held and has the store unmount it, when the calls that run on it have ended.
    /// Those that do not end in time are abandoned by `force`: nobody is told that they were carried out.
    pub(in crate::serve) fn close_held(
        &self,
        environments: &[Uuid],
        name: &EnvironmentName,
        force: bool,
    ) -> Result<(), CloseError> {
        // A publication from before the hold may still open it, and no later one does.
        drop(lock(&self.publishing));
        self.drain(environments, force)?;
        let why = Reason::from("a command has worked on it");
        self.quiesce(&self.exports.apply(each(environments, &Event::Closed(why))));
        self.unmount(|| self.store.release(name)).map_err(CloseError::Store)
    }

    /// Waits for the end of the calls that run on environments that are not served any more.
    fn drain(&self, environments: &[Uuid], force: bool) -> Result<(), CloseError> {
        if self.exports.drain(environments, LAST_CALLS) {
            return Ok(());
        }
        if !force {
            return Err(CloseError::Running);
        }
        self.exports.abandon_calls(environments);
        Ok(())
    }

    /// Serves what was held, as it is now; `names` are those that it had and has.
    pub(in crate::serve) fn resume(
        &self,
        environments: &[Uuid],
        names: &[EnvironmentName],
    ) -> Result<(), StoreError> {
        self.exports.apply(each(environments, &Event::Resumed));
        let text = "the command has ended its work on it";
        self.tell_of(environments, Kind::EnvironmentResumed, text);
        let mut all = names.to_vec();
        let found = lock(&self.found);
        let known = environments.iter().filter_map(|one| found.environments.get(one));
        all.extend(known.map(|environment| environment.name.clone()));
        drop(found);
        self.publish(Scope::Named(&all))
    }

    /// Notes that environments are gone, because somebody has destroyed them: from now on, and after
    /// a restart, they are stale.
    pub(in crate::serve) fn end(&self, environments: &[Uuid], name: &str) {
        for environment in environments {
            if let Err(error) = gone::remember(&self.state, *environment, name) {
                tracing::error!("{error}");
            }
        }
        self.tell_of(environments, Kind::EnvironmentGone, "it was destroyed");
        let mut found = lock(&self.found);
        for environment in environments {
            found.environments.remove(environment);
            found.unserved.remove(environment);
        }
        self.expect(&found, []);
        self.boots.update_environments(Vec::new(), environments);
        let closed = self.exports.apply(each(environments, &Event::Ended));
        drop(found);
        self.quiesce(&closed);
    }

    /// Tells that something happened to environments, by the names that they had when last read.
    fn tell_of(&self, environments: &[Uuid], kind: Kind, text: &str) {
        let found = lock(&self.found);
        let known = environments.iter().filter_map(|one| found.environments.get(one));
        let names: Vec<String> = known.map(|known| known.name.to_string()).collect();
        drop(found);
        self.tell(names.into_iter().map(|name| {
            let environment = Some(name);
            site::Event { environment, ..site::Event::new(kind, text.to_owned()) }
        }));
    }

    /// Closes the whole store and has it unmounted, until [`Publisher::attach`].
    pub(in crate::serve) fn detach(&self) -> Result<(), CloseError> {
        let alone = lock(&self.publishing);
        if self.detached.swap(true, Ordering::Relaxed) {
            return Err(CloseError::Taken);
        }
        let why = "a command has closed the store";
        let closed = self.close(why);
        let mut found = lock(&self.found);
        found.store = Some(why.to_owned());
        let news = found.news();
        drop(found);
        self.tell(news);
        let detached = self
            .drain(&closed, false)
            .and_then(|()| self.unmount(|| self.store.detach()).map_err(CloseError::Store));
        drop(alone);
        detached.inspect_err(|_| {
            // Whatever was closed on the way is served again.
            let _ = self.attach();
        })
    }

    /// Serves again what the store holds.
    pub(in crate::serve) fn attach(&self) -> Result<(), StoreError> {
        self.detached.store(false, Ordering::Relaxed);
        self.publish(Scope::All)
    }

    /// Has the store unmount what is not served any more. Calls that were on their way come to their end
    /// meanwhile, and what they have opened is closed.
    fn unmount(&self, release: impl Fn() -> Result<(), StoreError>) -> Result<(), StoreError> {
        let deadline = Instant::now() + LAST_CALLS;
        loop {
            match release() {
                Err(StoreError::Busy { .. }) if Instant::now() < deadline => {
                    self.descriptors.close_idle();
                    thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }
}

/// Why an environment, or the store, is not given to a command.
#[derive(Debug, thiserror::Error)]
pub(in crate::serve) enum CloseError {
    /// Calls that run on it do not end.
    #[error(
        "its disk has not answered for {} s: try again when it does",
        LAST_CALLS.as_secs()
    )]
    Running,
    /// It cannot be unmounted.
    #[error(transparent)]
    Store(StoreError),
    /// Another command holds the store.
    #[error("another command has closed the store")]
    Taken,
}

fn each(
    environments: &[Uuid],
    event: &Event<std::sync::Arc<crate::nfs::export::Export>>,
) -> Vec<Change> {
    environments.iter().map(|environment| (*environment, event.clone())).collect()
}

/// How long calls that are on their way may take when something is unmounted.
const LAST_CALLS: Duration = Duration::from_secs(10);
/// How soon it is tried again then.
const PAUSE: Duration = Duration::from_millis(100);
