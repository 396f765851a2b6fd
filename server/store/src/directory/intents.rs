//! What is left to be done of verbs that did not come to their end. Each step can be done twice.
//!
//! The same lines do it whether the verb itself comes that far or another one finds its record.

use std::os::fd::AsFd as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, fsync, renameat, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::work::{Lock, OLD};
use super::{Directory, JOURNAL, TREES};
use crate::draft;
use crate::environment::{parse, render};
use crate::error::at;
use crate::journal::{Intent, Journal, Keeper, Pending, Tries};
use crate::tree::{open_dir, relocate};
use crate::workspace::Workspace;
use crate::{Environment, EnvironmentName, SnapshotName, StoreError, fault};

/// Something that is undone or completed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum Step {
    /// What is common to all kinds of store.
    Draft(draft::Step),
    /// What is written down about an environment goes, if its tree is not there.
    Forget { name: String, uuid: Option<Uuid> },
    /// Properties of an environment's tree are to be as they were; one without a value as it is by itself.
    Properties { name: String, uuid: Uuid, before: Vec<(String, Option<String>)> },
    /// An environment gets another tree. That it has it is the instant from which the rest follows: the
    /// snapshot in the workspace appears, and these vanish.
    Replace {
        name: String,
        uuid: Uuid,
        /// The number of the new tree.
        tree: u64,
        appears: Option<String>,
        vanish: Vec<(String, Uuid)>,
    },
    /// The snapshots of an environment go, if it is not there itself.
    Snapshots { name: String, uuid: Uuid },
    /// What is written down about an environment is to be this.
    Write { name: String, text: String },
}

impl From<draft::Step> for Step {
    fn from(step: draft::Step) -> Self {
        Self::Draft(step)
    }
}

impl Step {
    pub(super) fn write(environment: &Environment) -> Result<Self, StoreError> {
        let path = || environment.name.as_str().into();
        let text =
            render(environment).map_err(|error| StoreError::Broken { path: path(), error })?;
        Ok(Self::Write { name: environment.name.to_string(), text })
    }

    pub(super) fn forget(name: &EnvironmentName, uuid: Option<Uuid>) -> Self {
        Self::Forget { name: name.to_string(), uuid }
    }

    pub(super) fn snapshots(name: &EnvironmentName, uuid: Uuid) -> Self {
        Self::Snapshots { name: name.to_string(), uuid }
    }
}

impl Keeper<Step> for Directory {
    fn settle(&self, intent: &Intent<Step>) -> Result<(), StoreError> {
        for step in &intent.steps {
            if let Step::Draft(step) = step {
                draft::take(self, intent.uuid, step)?;
            }
        }
        let path = self.path.join(TREES);
        let work = Workspace::find(self.trees.as_fd(), &path, intent.uuid)?;
        {
            let lock = self.lock()?;
            for step in &intent.steps {
                self.take(&lock, work.as_ref(), step)?;
            }
        }
        fault::point();
        let Some(work) = work else { return Ok(()) };
        work.remove(self.trees.as_fd())?;
        // On btrfs the end of the record could reach the disk without that of the workspace.
        fsync(&self.trees).map_err(at("write", &path))
    }
}

impl Directory {
    pub(super) fn journal(&self) -> Result<Journal, StoreError> {
        Journal::open(self.path.join(JOURNAL))
    }

    pub(super) fn settle_left(
        &self,
        name: Option<&EnvironmentName>,
        tries: Tries,
    ) -> Result<Vec<Pending>, StoreError> {
        let mut pending = self.journal()?.sweep(self, &self.locks, name, tries)?;
        if tries != Tries::Few {
            pending.extend(self.strangers()?);
        }
        Ok(pending)
    }

    /// Workspaces of which there is no record: an earlier release wrote down in themselves what they are.
    fn strangers(&self) -> Result<Vec<Pending>, StoreError> {
        let path = self.path.join(TREES);
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.trees).map_err(at("list", &path))? {
            let entry = entry.map_err(at("list", &path))?;
            let name = entry.file_name().to_str().unwrap_or_default();
            found.extend(Workspace::intent(name).map(|intent| (intent, path.join(name))));
        }
        let known = self.journal()?.uuids()?;
        // One that has come to its end meanwhile is gone.
        found.retain(|(intent, path)| !known.contains(intent) && path.exists());
        let told = |(uuid, path): (Uuid, PathBuf)| {
            let error = format!(
                "{} was left by an older netbe that was killed: check whether you miss a tree that is in \
                 it, then remove it",
                path.display()
            );
            let (verb, environments) = (String::new(), Vec::new());
            Pending { uuid, verb, environments, since: None, tries: 0, error: Some(error) }
        };
        Ok(found.into_iter().map(told).collect())
    }

    fn take(&self, lock: &Lock, work: Option<&Workspace>, step: &Step) -> Result<(), StoreError> {
        match (step, work) {
            // These are verbs, which take the lock themselves.
            (Step::Draft(_), _) => Ok(()),
            (Step::Forget { name, uuid }, _) => {
                let Ok(name) = name.parse() else { return Ok(()) };
                if !self.has_tree(&name)? && self.uuid(&name)? == *uuid {
                    self.forget_metadata(&name)?;
                    fault::point();
                }
                Ok(())
            }
            (Step::Properties { name, uuid, before }, _) => self.give_back(name, *uuid, before),
            (Step::Write { name, text }, _) => {
                let Ok(name) = name.parse() else { return Ok(()) };
                let Ok(changed) = parse(name, text) else { return Ok(()) };
                if self.has(&changed.name, changed.uuid)? {
                    self.write_metadata(lock, &changed)?;
                    fault::point();
                }
                Ok(())
            }
            // Without a workspace nothing was begun.
            (Step::Replace { .. } | Step::Snapshots { .. }, None) => Ok(()),
            (Step::Snapshots { name, uuid }, Some(work)) => {
                let Ok(name) = name.parse() else { return Ok(()) };
                // Snapshots go only with a tree that is known to be gone.
                if self.has_tree(&name)? && self.uuid(&name)?.is_none_or(|known| known == *uuid) {
                    return Ok(());
                }
                self.detach_snapshots(work, *uuid)?;
                fault::point();
                Ok(())
            }
            (Step::Replace { name, uuid, tree, appears, vanish }, Some(work)) => {
                let Ok(name) = name.parse() else { return Ok(()) };
                if !self.has_tree(&name)? {
                    let trees = self.trees.as_fd();
                    match relocate(work.dir(), OLD, trees, name.as_str()) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(error) => return Err(at("put back", &self.root_path(&name))(error)),
                    }
                }
                let is_it = match self.record(&name) {
                    Ok(known) => known.uuid == *uuid,
                    Err(StoreError::NoEnvironment(_)) => false,
                    // Whether it is, cannot be told.
                    Err(error) => return Err(error),
                };
                if !is_it || self.number(&self.open_root(&name)?, &name)? != *tree {
                    // Something else has the name, and the tree that it had is in the workspace alone.
                    return match statat(work.dir(), OLD, AtFlags::SYMLINK_NOFOLLOW) {
                        Err(Errno::NOENT) => Ok(()),
                        Ok(_) => Err(at("put back", &work.path().join(OLD))(Errno::EXIST)),
                        Err(error) => Err(at("look at", work.path())(error)),
                    };
                }
                self.detach(work, *uuid, vanish)?;
                match appears.as_ref().and_then(|name| name.parse().ok()) {
                    Some(snapshot) => self.place_snapshot(work, *uuid, &snapshot),
                    None => Ok(()),
                }
            }
        }
    }

    /// Whether there is still the environment that was meant.
    pub(super) fn has(&self, name: &EnvironmentName, uuid: Uuid) -> Result<bool, StoreError> {
        match self.record(name) {
            Ok(environment) => Ok(environment.uuid == uuid),
            Err(StoreError::NoEnvironment(_) | StoreError::Broken { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Moves snapshots of an environment into a workspace, those that are still there.
    fn detach(
        &self,
        work: &Workspace,
        uuid: Uuid,
        snapshots: &[(String, Uuid)],
    ) -> Result<(), StoreError> {
        let path = self.path_of(uuid);
        let dir = match open_dir(&self.snaps, uuid.to_string().as_str()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(at("open", &path)(error)),
        };
        for (index, (name, identity)) in snapshots.iter().enumerate() {
            let Ok(name) = name.parse::<SnapshotName>() else { continue };
            // Another may have been made under its name since.
            if self.snapshot_uuid(&dir, &name)? != Some(*identity) {
                continue;
            }
            match renameat(&dir, name.as_str(), work.dir(), format!("{GONE}{index}")) {
                Ok(()) | Err(Errno::NOENT) => fault::point(),
                Err(error) => return Err(at("destroy", &path.join(name.as_str()))(error)),
            }
        }
        fsync(&dir).map_err(at("write", &path))
    }
}

/// In a workspace: how the names of snapshots begin that vanish.
const GONE: &str = "gone-";
