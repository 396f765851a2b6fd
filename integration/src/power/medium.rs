//! What a store lies on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::picture::{Picture, tree};
use crate::failure::{During, Failure};
use crate::pool::{self, EXPORT};
use crate::process::Program;

/// A kind of store, on a disk of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Medium {
    /// Plain directories on ext4.
    Ext4,
    /// Subvolumes.
    Btrfs,
    /// Data sets of a pool called `tank`, of which there is no other.
    Zfs,
}

impl Medium {
    /// How large the disk is, in MiB: not much larger than it has to be.
    pub(super) const fn mib(self) -> u32 {
        match self {
            Self::Ext4 => 64,
            Self::Btrfs => 128,
            Self::Zfs => 96,
        }
    }

    /// What netbe is told.
    pub(super) fn store(self, on: &Path) -> String {
        match self {
            Self::Ext4 => format!("dir:{}/store", on.display()),
            Self::Btrfs => format!("btrfs:{}/store", on.display()),
            Self::Zfs => "zfs:tank/be".to_owned(),
        }
    }

    /// A script that makes the store, with what is not netbe's beside it and in it.
    pub(super) const fn begin(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Btrfs => {
                "netbe create zero; netbe destroy zero; cd ../on/store
                mkdir ../other be/.mine
                for place in ../other be/.mine meta .; do echo mine >$place/mine; done"
            }
            Self::Zfs => {
                "netbe create zero; netbe destroy zero
                zfs create -o mountpoint=none tank/be/.work-mine
                zfs create -o mountpoint=/tmp/other tank/other
                echo mine >/tmp/other/mine
                zfs snapshot tank/other@mine"
            }
        }
    }

    /// Makes the file system on a new disk, and mounts it.
    pub(super) fn make(self, image: &Path, on: &Path) -> Result<(), Failure> {
        let made = match self {
            Self::Ext4 => Program::new("mkfs.ext4").words("-q -m 0 -E nodiscard").arg(image),
            Self::Btrfs => Program::new("mkfs.btrfs").words("-q -K").arg(image),
            Self::Zfs => {
                let words = "create -O compression=off -O atime=off -m none tank";
                Program::new("zpool").words(words).arg(image)
            }
        };
        made.run(LIMIT)?;
        match self {
            Self::Ext4 | Self::Btrfs => self.attach(image, on),
            Self::Zfs => Ok(()),
        }
    }

    /// Mounts it, as after a start of the host.
    pub(super) fn attach(self, image: &Path, on: &Path) -> Result<(), Failure> {
        let attached = match self {
            Self::Ext4 | Self::Btrfs => {
                Program::new("mount").words("-o loop,noatime").arg(image).arg(on)
            }
            Self::Zfs => {
                let place = image.parent().unwrap_or(image);
                Program::new("zpool").words("import -f -d").arg(place).arg("tank")
            }
        };
        attached.run(LIMIT).map(drop)
    }

    /// Lets go of it. What is known of it in memory is gone then.
    pub(super) fn detach(self, on: &Path) -> Result<(), Failure> {
        match self {
            Self::Ext4 | Self::Btrfs => Program::new("umount").arg(on).run(LIMIT).map(drop),
            Self::Zfs => Program::new("sh").args(["-euc", EXPORT]).run(LIMIT).map(drop),
        }
    }

    /// Lets go of the file of a disk that nobody serves any more.
    pub(super) fn unmount(self, image: &Path) -> Result<(), Failure> {
        Program::new("umount").arg(image).run(LIMIT).map(drop)
    }

    /// Brings all that was written to the disk.
    pub(super) fn sync(self, on: &Path) -> Result<(), Failure> {
        let sync = match self {
            Self::Ext4 | Self::Btrfs => Program::new("sync").arg("-f").arg(on),
            Self::Zfs => Program::new("zpool").words("sync tank"),
        };
        sync.run(LIMIT).map(drop)
    }

    /// All that is there. `scratch` is a directory that nobody uses.
    pub(super) fn picture(self, on: &Path, scratch: &Path) -> Result<Picture, Failure> {
        match self {
            Self::Ext4 | Self::Btrfs => directories(on),
            Self::Zfs => data_sets(scratch),
        }
    }
}

/// All that is on a disk with a store of directories, but for what has no meaning: locks, and room that is
/// kept for when there is none.
fn directories(on: &Path) -> Result<Picture, Failure> {
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

/// All that is in the pool.
fn data_sets(scratch: &Path) -> Result<Picture, Failure> {
    let mut picture = Picture::new();
    let listed = pool::list("name,guid,origin,type")?;
    for line in listed.lines().chain(pool::properties()?.lines()) {
        let name = line.split('\t').next().unwrap_or_default();
        let told = picture.entry(format!("zfs {name}")).or_default();
        *told = format!("{told}{line}\n");
    }
    for line in listed.lines().filter(|line| line.ends_with("\tfilesystem")) {
        let name = line.split('\t').next().unwrap_or_default();
        if name == "tank" || name == "tank/be" {
            continue;
        }
        let told = pool::mounted(name, &scratch.join("mounted"), tree)?;
        picture.insert(name.strip_prefix("tank/").unwrap_or(name).to_owned(), told);
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
