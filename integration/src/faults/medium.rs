//! What the store is made of, and what is in it.

use std::path::Path;
use std::time::Duration;

use crate::failure::Failure;
use crate::picture::Picture;
use crate::pool::{self, EXPORT};
use crate::process::Program;

/// What a store is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Medium {
    /// Plain directories.
    Dir,
    /// Subvolumes.
    Btrfs,
    /// Data sets of a pool called `tank`, of which there is no other.
    Zfs,
}

impl Medium {
    /// In the words of `--store`.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Dir => "dir",
            Self::Btrfs => "btrfs",
            Self::Zfs => "zfs",
        }
    }

    /// What netbe is told, of a store in a directory.
    pub(super) fn store(self, here: &Path) -> String {
        match self {
            Self::Dir | Self::Btrfs => format!("{}:{}", self.word(), here.join("store").display()),
            Self::Zfs => "zfs:tank/be".to_owned(),
        }
    }

    /// The words of scripts: `within NAME SCRIPT` does something in an environment.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Dir | Self::Btrfs => {
                "netbe() { \"$NETBE\" \"$@\"; }
                within() { (cd \"store/be/$1\"; eval \"$2\"); }\n"
            }
            Self::Zfs => {
                "netbe() { \"$NETBE\" \"$@\"; }
                within() {
                    mkdir -p at
                    netbe mount \"$1\" \"$PWD/at\" >/dev/null
                    (cd at; eval \"$2\")
                    netbe unmount \"$1\"
                }\n"
            }
        }
    }

    /// A script that makes what is nobody's, beside the store and in it.
    pub(super) const fn foreign(self) -> &'static str {
        match self {
            Self::Dir | Self::Btrfs => {
                "cd store; mkdir -p foreign be/.foreign snap/foreign
                echo keep | tee foreign/file be/.foreign/file >snap/foreign/file
                cd ..\n"
            }
            Self::Zfs => {
                "zfs create -o mountpoint=none tank/be/.foreign
                zfs snapshot tank/be/.foreign@keep\n"
            }
        }
    }

    /// Makes room for stores in an empty directory, which the process has to itself; says whether it could.
    pub(crate) fn begin(self, place: &Path) -> Result<bool, Failure> {
        let script = match self {
            Self::Dir => return Ok(true),
            Self::Btrfs => {
                "truncate -s 8G ../image; mkfs.btrfs -q ../image; mount -o loop ../image ."
            }
            Self::Zfs => "truncate -s 128M pool; mkdir saved",
        };
        let made = Program::new("sh").args(["-euc", script]).directory(place).finish(LIMIT)?;
        Ok(made.status.success())
    }

    /// Takes away what is left of the store before, where that is not in its directory.
    pub(super) fn renew(self, place: &Path) -> Result<(), Failure> {
        if self == Self::Zfs {
            let script = format!("{EXPORT}{NEW_POOL}");
            Program::new("sh").args(["-euc", &script]).directory(place).run(LIMIT)?;
        }
        Ok(())
    }

    /// Keeps a copy of the store as it is now; says whether there can be one.
    pub(super) fn save(self, place: &Path, here: &Path) -> Result<bool, Failure> {
        if self != Self::Zfs {
            return Ok(false);
        }
        let script = format!("{EXPORT}{SAVE}");
        Program::new("sh").args(["-euc", &script, "save"]).arg(here).directory(place).run(LIMIT)?;
        Ok(true)
    }

    /// Puts back what [`Medium::save`] has kept.
    pub(super) fn restore(self, place: &Path, here: &Path) -> Result<(), Failure> {
        let script = format!("{EXPORT}{RESTORE}");
        Program::new("sh")
            .args(["-euc", &script, "restore"])
            .arg(here)
            .directory(place)
            .run(LIMIT)?;
        Ok(())
    }

    /// All that there is.
    pub(super) fn picture(self, here: &Path) -> Result<Picture, Failure> {
        let machines = Picture::of(&here.join("state/machines"), &[])?;
        let store = match self {
            Self::Dir | Self::Btrfs => Picture::of(&here.join("store"), WITHOUT)?,
            Self::Zfs => data_sets(here)?,
        };
        Ok(store.and(machines))
    }
}

/// All that is in the pool.
fn data_sets(here: &Path) -> Result<Picture, Failure> {
    let listed = pool::list("name,origin,type,canmount,mountpoint,readonly")?;
    let mut picture = Picture::told(&[&listed, &pool::properties()?]);
    for line in listed.lines().filter(|line| line.contains("\tfilesystem\t")) {
        let name = line.split('\t').next().unwrap_or_default();
        if name.starts_with("tank/be/") {
            let tree = pool::mounted(name, &here.join("shown"), |at| Picture::of(at, &[]))?;
            // A directory that a data set is mounted on has the data set's name.
            picture = picture.and(tree.below(&format!("{name}:")));
        }
    }
    Ok(picture)
}

/// What is not the store's content, and what any verb may make and the next one uses.
const WITHOUT: &[&str] = &["history", ".spare", ".new", "lock", "locks"];
const NEW_POOL: &str = "zpool create -f -O compression=off -O atime=off -m none tank \"$PWD/pool\"";
const SAVE: &str =
    "rm -rf saved; mkdir saved; cp -a \"$1\" saved/here; cp --sparse=always pool saved/pool
zpool import -d . tank";
const RESTORE: &str = "rm -rf \"$1\"; cp -a saved/here \"$1\"; cp --sparse=always saved/pool pool
zpool import -d . tank";
const LIMIT: Duration = Duration::from_secs(300);
