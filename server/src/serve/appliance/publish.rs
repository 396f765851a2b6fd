//! What of the store is served now, and what is waited for.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use hostfs::Inside;
use store::{ExportSettings, Role, StoreError};

use super::super::{ServeError, parts};
use super::{Appliance, lock};
use crate::boot::catalog::Environment;
use crate::boot::plan::export_path;
use crate::nfs::export::{Expected, Export};
use crate::site::machine::View;
use provision::install::fill;
use provision::roots::{self, Owned};

impl Appliance {
    /// Shares what the store holds now: what is gone is withdrawn first, so that its path is free.
    pub(super) fn publish(&self) -> Result<(), ServeError> {
        if self.let_go.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut listing = match self.store.present().and_then(|()| self.store.list()) {
            // What is open of it stays open: it may answer again as if nothing had been.
            Err(error @ StoreError::Stalled { .. }) => {
                self.exports.wait_for(Expected::All);
                self.waiting.store(true, Ordering::Relaxed);
                self.complain(vec![error.to_string()]);
                return Ok(());
            }
            Err(error @ StoreError::Away { .. }) => {
                self.close();
                self.complain(vec![error.to_string()]);
                return Ok(());
            }
            other => other?,
        };
        // Open here they could neither get their names nor be cleared away.
        listing.environments.retain(|environment| !roots::is_draft(&environment.name));
        let comes = |error: &StoreError| {
            matches!(
                error,
                StoreError::Away { .. } | StoreError::Key { .. } | StoreError::Stalled { .. }
            )
        };
        self.waiting.store(listing.unreadable.iter().any(comes), Ordering::Relaxed);
        let mut unserved = listing.unreadable.iter().map(ToString::to_string).collect::<Vec<_>>();
        let withheld = lock(&self.withheld).clone();
        let is_withheld = |environment: &store::Environment| {
            withheld.iter().any(|held| held == environment.name.as_str())
        };
        let data_of = |environment: &store::Environment| {
            let machine = Owned::of(environment)?.machine;
            let mut known = listing.environments.iter();
            known.find(|known| roots::holder(known) == Some(machine.as_str()))
        };
        let (mut awaited, mut served) = (HashSet::new(), Vec::new());
        for environment in &listing.environments {
            let (name, data) = (&environment.name, data_of(environment));
            if is_withheld(environment) || data.is_some_and(is_withheld) {
                awaited.insert(environment.uuid);
            } else if let Some(why) = off(environment) {
                unserved.push(format!("{name}: {why}"));
            } else {
                served.push((environment, data));
            }
        }
        let kept = served.iter().map(|(environment, _)| environment.uuid).collect::<HashSet<_>>();
        if !awaited.is_empty() {
            self.exports.wait_for(Expected::These(awaited.clone()));
        }
        for export in self.exports.list() {
            if !kept.contains(&export.environment) {
                self.exports.withdraw(export.environment);
                export.files.trees().for_each(|tree| tree.quiesce());
            }
        }
        let mut entries = Vec::new();
        for (environment, data) in served {
            let name = &environment.name;
            match self.share(environment, data) {
                Ok((entry, parts)) => {
                    entries.push(entry);
                    unserved.extend(parts.iter().map(|reason| format!("{name}: {reason}")));
                }
                Err(reason) => {
                    if self.exports.of(environment.uuid).is_none() {
                        awaited.insert(environment.uuid);
                    }
                    // A key that is missing was told already.
                    if !unserved.contains(&reason) {
                        unserved.push(format!("{name}: {reason}"));
                    }
                }
            }
        }
        self.boots.set_environments(entries);
        self.exports.wait_for(Expected::These(awaited));
        self.complain(unserved);
        Ok(())
    }

    /// Shares one environment, and says what of it cannot be shared. Trees that are shared already
    /// stay, unless their directory was replaced by another, as by restoring a backup.
    fn share(
        &self,
        environment: &store::Environment,
        data: Option<&store::Environment>,
    ) -> Result<(Environment, Vec<String>), String> {
        let (name, uuid) = (&environment.name, environment.uuid);
        let before = self.exports.of(uuid);
        let shared = before.as_ref().map(|export| &export.files);
        let (files, unserved) =
            parts::open(&self.store, environment, data, shared, &self.descriptors)?;
        let same = before.as_ref().is_some_and(|before| {
            before.files.seen(View::Joined).root() == files.seen(View::Joined).root()
        });
        let known = self.boots.catalog().environment(uuid).filter(|_| same);
        let read_only = environment.is_read_only();
        let export = Export {
            environment: uuid,
            name: name.as_str().to_owned(),
            path: export_path(name.as_str()),
            files: files.clone(),
            settings: ExportSettings { read_only, ..environment.export.clone() },
        };
        self.exports.publish(export).map_err(|error| error.to_string())?;
        let gone = before.iter().flat_map(|before| before.files.trees());
        gone.filter(|tree| files.tree(&tree.root()).is_none()).for_each(|tree| tree.quiesce());
        let files = match known {
            Some(known) => known.files,
            None => {
                let root = self.store.open_root(name).map_err(|error| error.to_string())?;
                Arc::new(Inside::from_fd(root))
            }
        };
        let mounted = environment.datasets.iter().filter(|set| set.mounted());
        let datasets = mounted.map(|set| set.path().to_owned()).collect();
        let handle = self.exports.root_handle(uuid).ok_or("it was withdrawn meanwhile")?;
        let (name, handle) = (name.as_str().to_owned(), handle.as_bytes().to_vec());
        let owned = Owned::of(environment);
        Ok((Environment { name, uuid, read_only, datasets, handle, owned, files }, unserved))
    }

    /// Looks whether the store is still there, and again for what was not: a pool that is imported
    /// later, a data set that waited for its key.
    pub(in crate::serve) fn look_again(&self) {
        if self.let_go.load(Ordering::Relaxed) {
            return;
        }
        let present = self.store.present();
        if let Err(StoreError::Stalled { .. }) = &present {
            // At once: who asks for a file now waits for it in the kernel, and keeps a thread.
            self.exports.wait_for(Expected::All);
        }
        if (present.is_err() || self.waiting.load(Ordering::Relaxed))
            && let Err(error) = self.read_again()
        {
            tracing::warn!("{error}");
        }
    }

    /// Closes everything of the store. Machines that live on it wait until it is served again, which
    /// is tried until it is done.
    pub(super) fn close(&self) {
        self.waiting.store(true, Ordering::Relaxed);
        self.exports.wait_for(Expected::All);
        self.boots.set_environments(Vec::new());
        for export in self.exports.list() {
            self.exports.withdraw(export.environment);
            export.files.trees().for_each(|tree| tree.quiesce());
        }
    }

    /// Has the store unmount what is not served any more. Calls that were on their way come to their end
    /// meanwhile, and what they have opened is closed.
    pub(super) fn unmount(
        &self,
        release: impl Fn() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let deadline = Instant::now() + LAST_CALLS;
        loop {
            match release() {
                Err(StoreError::Busy { .. }) if Instant::now() < deadline => {
                    self.descriptors.close_idle();
                    thread::sleep(MOMENT);
                }
                other => return other,
            }
        }
    }

    /// Notes what is not served, and tells what was not known.
    pub(super) fn complain(&self, unserved: Vec<String>) {
        let mut known = lock(&self.unserved);
        for reason in unserved.iter().filter(|reason| !known.contains(reason)) {
            tracing::error!("not served: {reason}");
        }
        if unserved.is_empty() && !known.is_empty() {
            tracing::info!("everything is served again");
        }
        *known = unserved;
    }
}

/// Why nothing boots an environment, and what to do, if that was decided about it or is not over.
fn off(environment: &store::Environment) -> Option<String> {
    (environment.role == Role::Off).then(|| match fill::interrupted(environment) {
        true => fill::INTERRUPTED.to_owned(),
        false => {
            format!("its role is off: `netbe set role=be {}` has it served", environment.name)
        }
    })
}

/// How long calls that are on their way may take when the store is let go of.
const LAST_CALLS: Duration = Duration::from_secs(10);
/// How soon it is tried again then.
const MOMENT: Duration = Duration::from_millis(100);
