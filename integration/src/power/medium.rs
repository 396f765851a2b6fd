//! What a store lies on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::picture::{Picture, tree};
use crate::failure::{During, Failure};
use crate::process::Program;

/// A store of directories, on a disk of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Medium {
    /// Plain directories on ext4.
    Ext4,
    /// Subvolumes.
    Btrfs,
}

impl Medium {
    /// How large the disk is, in MiB: not much larger than it has to be.
    pub(super) const fn mib(self) -> u32 {
        match self {
            Self::Ext4 => 64,
            Self::Btrfs => 128,
        }
    }

    /// What netbe is told.
    pub(super) fn store(self, on: &Path) -> String {
        match self {
            Self::Ext4 => format!("dir:{}/store", on.display()),
            Self::Btrfs => format!("btrfs:{}/store", on.display()),
        }
    }

    /// Makes the file system on a new disk, and mounts it.
    pub(super) fn make(self, image: &Path, on: &Path) -> Result<(), Failure> {
        let made = match self {
            Self::Ext4 => Program::new("mkfs.ext4").words("-q -m 0 -E nodiscard").arg(image),
            Self::Btrfs => Program::new("mkfs.btrfs").words("-q -K").arg(image),
        };
        made.run(LIMIT)?;
        attach(image, on)
    }
}

/// A script that makes the store, with what is not netbe's beside it and in it.
pub(super) const BEGIN: &str = "netbe create zero; netbe destroy zero; cd ../on/store
    mkdir ../other be/.mine
    for place in ../other be/.mine meta .; do echo mine >$place/mine; done";

/// Mounts it, as after a start of the host.
pub(super) fn attach(image: &Path, on: &Path) -> Result<(), Failure> {
    let mount = Program::new("mount").words("-o loop,noatime").arg(image).arg(on);
    mount.run(LIMIT).map(drop)
}

/// Unmounts a disk, or the file of one that nobody serves any more.
pub(super) fn detach(on: &Path) -> Result<(), Failure> {
    Program::new("umount").arg(on).run(LIMIT).map(drop)
}

/// Brings all that was written to the disk.
pub(super) fn sync(on: &Path) -> Result<(), Failure> {
    Program::new("sync").arg("-f").arg(on).run(LIMIT).map(drop)
}

/// All that is there, but for what has no meaning: locks, and room that is
/// kept for when there is none.
pub(super) fn picture(on: &Path) -> Result<Picture, Failure> {
    let mut picture = Picture::new();
    let mut left = vec![String::new()];
    while let Some(above) = left.pop() {
        let path = on.join(&above);
        for entry in fs::read_dir(&path).during(path.display())? {
            let name = entry.during(path.display())?.file_name().to_string_lossy().into_owned();
            let below = if above.is_empty() { name } else { format!("{above}/{name}") };
            // snap/UUID/NAME/tree
            let of_snapshots = below.starts_with("store/snap/") && below.matches('/').count() < 4;
            let is_directory = on.join(&below).is_dir();
            if PARTS.contains(&below.as_str()) || of_snapshots && is_directory {
                left.push(below);
            } else if !IDLE.contains(&below.as_str()) {
                let path = on.join(&below);
                // What the store writes down may be written once more.
                let told = if below.starts_with("store/") && path.is_file() {
                    fs::read_to_string(&path).during(path.display())?
                } else {
                    tree(&path)?
                };
                picture.insert(below.trim_start_matches("store/").to_owned(), told);
            }
        }
    }
    Ok(picture)
}

/// The directories of a store.
const PARTS: [&str; 6] =
    ["store", "store/be", "store/meta", "store/snap", "store/journal", "lost+found"];
/// What has no meaning: nothing is in it, or nobody holds it.
const IDLE: [&str; 5] =
    ["store/be/.spare", "store/journal/.spare", "store/lock", "store/locks", "store/meta/.new"];
const LIMIT: Duration = Duration::from_secs(300);
