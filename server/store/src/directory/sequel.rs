//! What has to follow when a verb cannot be undone any more, written down before: a command that is killed
//! then leaves it to the next.
//!
//! It stands in the command's workspace and is done by the same lines, whether the command itself comes
//! that far or another one finds it. Each step of it can be done twice.

use std::io;

use rustix::fs::{fsync, renameat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::work::Lock;
use super::{Directory, metadata};
use crate::back_end::BackEnd;
use crate::environment::{parse, render};
use crate::error::at;
use crate::tree::open_dir;
use crate::workspace::{SEQUEL, Workspace};
use crate::{Environment, EnvironmentName, SnapshotName, StoreError, fault};

/// What follows.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub(super) enum Sequel {
    /// An environment gets another tree. That it has it is the instant from which the rest follows.
    Tree {
        environment: String,
        uuid: Uuid,
        /// The number of the new tree.
        tree: u64,
        /// The snapshot in the workspace that appears with it.
        appears: Option<String>,
        /// The snapshots that vanish with the old one.
        vanish: Vec<String>,
    },
    /// What is written down about several environments changes. It follows as soon as this is there.
    Metadata(Vec<Changed>),
}

/// What shall be written down about an environment.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Changed {
    environment: String,
    text: String,
}

impl Changed {
    pub(super) fn to(environment: &Environment) -> Result<Self, StoreError> {
        let path = || environment.name.as_str().into();
        let text =
            render(environment).map_err(|error| StoreError::Broken { path: path(), error })?;
        Ok(Self { environment: environment.name.to_string(), text })
    }
}

impl Directory {
    /// Writes down what is to follow: all of it or nothing.
    pub(super) fn prepare(&self, work: &Workspace, sequel: &Sequel) -> Result<(), StoreError> {
        let path = work.path();
        let text = toml::to_string(sequel).map_err(io::Error::other).map_err(at("write", path))?;
        metadata::write(work.dir(), SEQUEL, &text, path)?;
        fsync(work.dir()).map_err(at("write", path))
    }

    /// Does what follows from what was done in a workspace, if anything does.
    pub(super) fn follow(&self, lock: &Lock, work: &Workspace) -> Result<(), StoreError> {
        let text = match metadata::read(work.dir(), SEQUEL) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at("read", work.path())(error)),
        };
        // Only a crash of the machine leaves half of it, and then nothing was done yet.
        match toml::from_str(&text) {
            Ok(Sequel::Tree { environment, uuid, tree, appears, vanish }) => {
                let Ok(name) = environment.parse() else { return Ok(()) };
                if !self.has(&name, uuid)? || self.number(&self.open_root(&name)?, &name)? != tree {
                    return Ok(());
                }
                let names = vanish.iter().filter_map(|name| name.parse().ok());
                self.detach(work, uuid, names)?;
                match appears.and_then(|name| name.parse().ok()) {
                    Some(snapshot) => self.place_snapshot(work, uuid, &snapshot),
                    None => Ok(()),
                }
            }
            Ok(Sequel::Metadata(changes)) => {
                for Changed { environment, text } in changes {
                    let Ok(name) = environment.parse() else { continue };
                    let Ok(changed) = parse(name, &text) else { continue };
                    if self.has(&changed.name, changed.uuid)? {
                        self.write_metadata(lock, &changed)?;
                        fault::point();
                    }
                }
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// Whether there is still the environment that was meant.
    fn has(&self, name: &EnvironmentName, uuid: Uuid) -> Result<bool, StoreError> {
        match self.get(name) {
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
        names: impl Iterator<Item = SnapshotName>,
    ) -> Result<(), StoreError> {
        let path = self.path_of(uuid);
        for (index, name) in names.enumerate() {
            let dir =
                open_dir(&self.snaps, uuid.to_string().as_str()).map_err(at("open", &path))?;
            match renameat(&dir, name.as_str(), work.dir(), format!("{GONE}{index}")) {
                Ok(()) | Err(Errno::NOENT) => fault::point(),
                Err(error) => return Err(at("destroy", &path.join(name.as_str()))(error)),
            }
        }
        Ok(())
    }
}

/// In a workspace: how the names of snapshots begin that vanish.
const GONE: &str = "gone-";
