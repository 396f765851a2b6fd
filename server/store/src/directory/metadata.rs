//! The files in which a store of directories keeps what is known of its environments.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, fsync, openat, renameat, unlinkat};
use rustix::io::Errno;
use uuid::Uuid;

use super::work::Lock;
use super::{Directory, META};
use crate::environment::{parse, render};
use crate::error::at;
use crate::workspace::Workspace;
use crate::{Environment, EnvironmentName, StoreError, fault};

impl Directory {
    pub(super) fn read_metadata(&self, name: &EnvironmentName) -> Result<Environment, StoreError> {
        let path = self.metadata_path(name);
        let text = match read(&self.meta, &metadata_name(name)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::NoEnvironment(name.clone()));
            }
            Err(error) => return Err(at("read", &path)(error)),
        };
        parse(name.clone(), &text).map_err(|error| StoreError::Broken { path, error })
    }

    /// The UUID that is written down for an environment, though the rest may be broken; `None` where none
    /// is.
    pub(super) fn uuid(&self, name: &EnvironmentName) -> Result<Option<Uuid>, StoreError> {
        match self.read_metadata(name) {
            Ok(environment) => return Ok(Some(environment.uuid)),
            Err(StoreError::NoEnvironment(_)) => return Ok(None),
            Err(StoreError::Broken { .. }) => {}
            Err(error) => return Err(error),
        }
        let text = read(&self.meta, &metadata_name(name));
        let text = text.map_err(at("read", &self.metadata_path(name)))?;
        let values = text.lines().filter_map(|line| line.strip_prefix("uuid = "));
        Ok(values.filter_map(|value| value.trim().trim_matches('"').parse().ok()).next())
    }

    /// Replaces a metadata file from one instant to the next.
    pub(super) fn write_metadata(
        &self,
        lock: &Lock,
        environment: &Environment,
    ) -> Result<(), StoreError> {
        self.put_metadata(lock, environment)?;
        fsync(&self.meta).map_err(at("write", &self.metadata_path(&environment.name)))
    }

    /// The same, of which only the content is known to be on the disk yet.
    pub(super) fn put_metadata(
        &self,
        _: &Lock,
        environment: &Environment,
    ) -> Result<(), StoreError> {
        let path = self.metadata_path(&environment.name);
        let text = render(environment)
            .map_err(|error| StoreError::Broken { path: path.clone(), error })?;
        write(&self.meta, &metadata_name(&environment.name), &text, &path)
    }

    /// Writes the metadata of an environment that is being made into its workspace.
    pub(super) fn prepare_metadata(
        &self,
        work: &Workspace,
        environment: &Environment,
    ) -> Result<(), StoreError> {
        let path = self.metadata_path(&environment.name);
        let text = render(environment)
            .map_err(|error| StoreError::Broken { path: path.clone(), error })?;
        fill(work.dir(), METADATA, &text, &path).map(drop)
    }

    /// Gives them their place.
    pub(super) fn place_metadata(
        &self,
        _: &Lock,
        work: &Workspace,
        environment: &Environment,
    ) -> Result<(), StoreError> {
        renameat(work.dir(), METADATA, &self.meta, metadata_name(&environment.name))
            .map_err(at("write", &self.metadata_path(&environment.name)))
    }

    pub(super) fn forget_metadata(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        let path = self.metadata_path(name);
        match unlinkat(&self.meta, metadata_name(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(at("remove", &path)(error)),
        }
        fsync(&self.meta).map_err(at("write", &path))
    }

    fn metadata_path(&self, name: &EnvironmentName) -> PathBuf {
        self.path.join(META).join(metadata_name(name))
    }
}

/// Reads a small file of the store's own.
pub(super) fn read(dir: impl AsFd, name: &str) -> std::io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::empty())?;
    std::io::read_to_string(File::from(file))
}

/// Writes a small file of the store's own, or writes it anew, from one instant to the next.
pub(super) fn write(dir: impl AsFd, name: &str, text: &str, path: &Path) -> Result<(), StoreError> {
    let filled =
        fill(&dir, NEW, text, path).and_then(|file| file.sync_all().map_err(at("write", path)));
    fault::point();
    let written = filled.and_then(|()| renameat(&dir, NEW, &dir, name).map_err(at("write", path)));
    if written.is_err() {
        // What is left of a failed write is of no use; the error that counts is the first.
        let _ = unlinkat(&dir, NEW, AtFlags::empty());
    }
    written
}

fn fill(dir: impl AsFd, name: &str, text: &str, path: &Path) -> Result<File, StoreError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(at("write", path))?;
    let mut file = File::from(file);
    file.write_all(text.as_bytes()).map_err(at("write", path))?;
    Ok(file)
}

pub(super) fn environment_name(file: &CStr) -> Option<EnvironmentName> {
    file.to_str().ok()?.strip_suffix(SUFFIX)?.parse().ok()
}

fn metadata_name(name: &EnvironmentName) -> String {
    format!("{name}{SUFFIX}")
}

const SUFFIX: &str = ".toml";
/// In a workspace: what is written down about the environment that is made there.
const METADATA: &str = "metadata";
/// A file that is being written: not the name of an environment.
const NEW: &str = ".new";
