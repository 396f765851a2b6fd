//! Directories that somebody has replaced behind the server, as by restoring a backup.
//!
//! What is open stays what it is, wherever its directory is moved: clients that mount it anew would go
//! on with what nobody means any more, or be told that it is stale. So it is looked now and then whether
//! what is served is still in its place, and a MNT that finds it gone has it looked at once.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use store::EnvironmentName;
use uuid::Uuid;

use super::opener::Job;
use super::{Publisher, Scope, lock};
use crate::nfs::export::Export;
use crate::site::machine::View;

/// Where environments were when they were opened.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<Uuid, Place>>);

#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    /// Device and inode number of what was there, if the store has it there at all.
    directory: Option<(u64, u64)>,
}

impl Places {
    /// Takes note of what is at the place of an environment that is about to be opened. May wait for a
    /// disk.
    pub(super) fn note(&self, environment: Uuid, path: PathBuf) {
        let directory = directory(&path);
        lock(&self.0).insert(environment, Place { path, directory });
    }

    /// Those of the open environments, and forgets the others.
    fn of(&self, open: &HashSet<Uuid>) -> Vec<(Uuid, Place)> {
        let mut places = lock(&self.0);
        places.retain(|environment, _| open.contains(environment));
        places.iter().map(|(environment, place)| (*environment, place.clone())).collect()
    }
}

impl Publisher {
    /// Opens anew what is not in its place any more, and what is suspected to be gone.
    pub(super) fn look_at_places(&self, suspects: HashSet<Uuid>) {
        let before = self.exports.all_open();
        let open = before.iter().map(|export| export.environment).collect();
        let job = |(environment, Place { path, directory: then }): (Uuid, Place)| -> Job<bool> {
            (environment, Box::new(move || Ok(directory(&path) != then)))
        };
        let jobs = self.places.of(&open).into_iter().map(job).collect();
        let mut moved = suspects.clone();
        self.watcher.open_all(jobs, |outcomes| {
            let moved_now = outcomes.into_iter().filter(|(_, outcome)| *outcome == Ok(true));
            moved.extend(moved_now.map(|(environment, _)| environment));
        });
        let is_moved = |export: &&Arc<Export>| moved.contains(&export.environment);
        let before: Vec<&Arc<Export>> = before.iter().filter(is_moved).collect();
        let names: Vec<EnvironmentName> =
            before.iter().filter_map(|export| export.name.parse().ok()).collect();
        if names.is_empty() {
            return;
        }
        if let Err(error) = self.publish(Scope::Named(&names)) {
            tracing::debug!("{error}");
        }
        self.note_in_vain(suspects);
        let root = |export: &Export| export.files.seen(View::Joined).root();
        for export in before {
            if self.exports.of(export.environment).is_some_and(|now| root(&now) != root(export)) {
                tracing::warn!(
                    "{}: another directory has replaced the one that was served, and is served from now on: \
                     boot the machines again that run from the old one",
                    export.name
                );
            }
        }
    }

    /// Takes note of those that are still gone, so that nobody looks again at once.
    fn note_in_vain(&self, suspects: HashSet<Uuid>) {
        let export = |environment| Some((environment, self.exports.of(environment)?));
        let job = |(environment, export): (Uuid, Arc<Export>)| -> Job<bool> {
            (environment, Box::new(move || Ok(export.is_lost())))
        };
        let jobs = suspects.into_iter().filter_map(export).map(job).collect();
        let mut in_vain = Vec::new();
        self.watcher.open_all(jobs, |outcomes| {
            let lost = outcomes.into_iter().filter(|(_, outcome)| *outcome != Ok(false));
            in_vain.extend(lost.map(|(environment, _)| environment));
        });
        self.exports.suspects().looked_in_vain(in_vain.into_iter(), Instant::now());
    }
}

/// Device and inode number of a directory, if there is one.
fn directory(path: &Path) -> Option<(u64, u64)> {
    let status = fs::metadata(path).ok()?;
    status.is_dir().then(|| (status.dev(), status.ino()))
}
