//! A store of ZFS data sets: every file system right below one data set is an environment.
//!
//! ```text
//! pool/be              the store; it may be a pool's ROOT, with what bectl(8) and beadm(8) made
//! pool/be/head         a root: mountpoint=/ canmount=noauto, and what is known in netbe:* properties
//! pool/be/head/usr     canmount=off: only there for what is below it
//! pool/be/head/usr/home
//! pool/be/.work-…      what a command is putting together or taking apart
//! ```
//!
//! Data sets are mounted to be served below the state directory, whatever `mountpoint` says:
//!
//! ```text
//! state/zfs/pool%be/mnt/   0700: whoever may enter could run the setuid programs of guests
//!   head/                  a tree, as its machine sees it
//! ```
//!
//! What commands on one host have to know of each other lies in one place for all state directories,
//! by the pool's name and the number of the store's data set:
//!
//! ```text
//! /run/netbe/zfs-POOL-GUID/
//!   locks/             held by commands, by environment
//!   journal/           what commands are doing, to be undone if they are killed
//! ```

mod back_end;
mod begin_record;
mod command;
mod copy;
mod intents;
mod kernel;
mod listing;
mod mounts;
mod natives;
mod program;
mod properties;
mod query;
mod seen;
mod show;
mod snapshots;
mod stream;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::at;
use crate::locked::Locked;
use crate::{EnvironmentName, StoreError};
#[cfg(all(feature = "libzfs", feature = "faults"))]
pub use kernel::{ask_programs_only, library_answers};
pub(crate) use seen::Seen;

use command::{Failure, Refusal, Task};
use listing::Known;
use mounts::DatasetPath;
use tree::{Forest, Pool, Tree};

/// An open store of ZFS data sets.
#[derive(Debug)]
pub(crate) struct Zfs {
    /// The data set whose children are environments.
    dataset: String,
    /// What was known about its pool when it was last looked at.
    pool: Mutex<Option<Pool>>,
    /// The number of its data set, as it was when that was last looked at.
    guid: Mutex<Option<u64>>,
    mounts: PathBuf,
}

impl Zfs {
    /// Opens a store. A pool that is not imported now may be later: that is told by every verb.
    pub(crate) fn open(dataset: &str, state: &Path) -> Result<Self, StoreError> {
        let store = Self::at(dataset, state)?;
        match store.exists() {
            Ok(true) | Err(StoreError::Away { .. } | StoreError::Stalled { .. }) => Ok(store),
            Ok(false) => Err(StoreError::Missing(format!("zfs:{dataset}").into())),
            Err(error) => Err(error),
        }
    }

    /// Opens a store, and makes its data set where there is none.
    pub(crate) fn establish(dataset: &str, state: &Path) -> Result<Self, StoreError> {
        let store = Self::at(dataset, state)?;
        if !store.exists()? {
            let create = Task::zfs("create").flags(["-p"]);
            let create = create.property("mountpoint", "none").property("canmount", "off");
            let made = create.operand(dataset).run();
            made.map_err(|failure| told(failure, &format!("make the data set {dataset}")))?;
        }
        Ok(store)
    }

    fn at(dataset: &str, state: &Path) -> Result<Self, StoreError> {
        // No data set's name has a per cent sign in it.
        let base = state.join("zfs").join(dataset.replace('/', "%"));
        mounts::point(&base)?;
        // As the kernel tells where something is mounted: by no link, and from the root.
        let base = base.canonicalize().map_err(at("find", &base))?;
        let mounts = base.join("mnt");
        mounts::point(&mounts)?;
        let dataset = dataset.to_owned();
        let (pool, guid) = (Mutex::default(), Mutex::default());
        Ok(Self { dataset, pool, guid, mounts })
    }

    /// Whether the store's data set is there; a pool that is not is [`StoreError::Away`].
    fn exists(&self) -> Result<bool, StoreError> {
        let found = listing::guid(&self.dataset)
            .map_err(|failure| told(failure, &format!("look at {}", self.dataset)))?;
        if found.is_none() {
            self.pool_now()?;
        }
        self.is_numbered(found);
        Ok(found.is_some())
    }

    /// The number of the store's data set.
    fn guid(&self) -> Result<u64, StoreError> {
        let known = || *self.guid.lock().unwrap_or_else(PoisonError::into_inner);
        if known().is_none() {
            self.exists()?;
        }
        known().ok_or_else(|| StoreError::Missing(format!("zfs:{}", self.dataset).into()))
    }

    /// Takes note of the number of the store's data set: another may have come under its name.
    fn is_numbered(&self, guid: Option<u64>) {
        *self.guid.lock().unwrap_or_else(PoisonError::into_inner) = guid;
    }

    /// The pool's name.
    fn pool_name(&self) -> &str {
        listing::pool(&self.dataset)
    }

    /// The pool, as far as that does not change while it is there.
    fn pool(&self) -> Result<Pool, StoreError> {
        if let Some(pool) = &*self.known() {
            return Ok(pool.clone());
        }
        self.pool_now()
    }

    /// The pool as it is now; it may have gone, and another of its name may have come.
    fn pool_now(&self) -> Result<Pool, StoreError> {
        *self.known() = None;
        let pool = Pool::look(self.pool_name())?;
        *self.known() = Some(pool.clone());
        Ok(pool)
    }

    fn known(&self) -> MutexGuard<'_, Option<Pool>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The full name of an environment's root.
    fn full(&self, name: &str) -> String {
        format!("{}/{name}", self.dataset)
    }

    fn forest(&self) -> Result<Forest, StoreError> {
        let forest = Forest::look(&self.dataset, &|| self.pool());
        if !matches!(forest, Ok(Some(_))) {
            // Whether it is there at all says more.
            self.pool_now()?;
        }
        let (forest, own) =
            forest?.ok_or_else(|| StoreError::Missing(format!("zfs:{}", self.dataset).into()))?;
        self.is_numbered(Some(own.guid));
        self.adopt(&own.properties)?;
        self.adopt_named(&own.hidden)?;
        Ok(forest)
    }

    /// The tree of an environment that is locked.
    fn tree_of(&self, locked: &Locked) -> Result<Tree, StoreError> {
        self.tree(locked.name(), locked.seen())
    }

    /// The tree of an environment of which this was seen.
    fn tree(&self, name: &EnvironmentName, seen: &Seen) -> Result<Tree, StoreError> {
        seen.tree(|| {
            let tree = Tree::look(&self.dataset, name, &|| self.pool());
            if tree.is_err() {
                self.pool_now()?;
            }
            let tree = tree?;
            tree.is_unambiguous().map(|()| tree)
        })
    }

    /// Refuses a name that something has, be it no environment.
    fn free(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        let full = self.full(name.as_str());
        let found = listing::names(&[&self.dataset, &full])
            .map_err(|failure| told(failure, &format!("look at {full}")))?;
        if found.is_empty() {
            // Not even the store is there.
            self.pool_now()?;
        }
        if found.contains(&full) { Err(StoreError::Exists(name.clone())) } else { Ok(()) }
    }

    /// The properties of a whole tree that are not as they are by themselves, with mount points as they
    /// were set.
    fn set_properties(&self, tree: &Tree) -> Result<Known, StoreError> {
        let mut known = tree.known().clone();
        for properties in known.values_mut().flatten() {
            let Some(point) = properties.get_mut("mountpoint") else { continue };
            // What stands before it can be told from it only where it is more than the root.
            if point.text.len() > 1 && point.text.starts_with('/') {
                point.text = self.pool()?.set_mount_point(&point.text).to_owned();
            }
        }
        Ok(known)
    }

    /// Refuses to change an environment that this host itself boots or has mounted.
    fn spare(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        let full = self.full(name.as_str());
        if self.pool_now()?.bootfs == full {
            let what = format!("{name}, which this host boots (bootfs of the pool),");
            return Err(StoreError::Busy { what, holder: None });
        }
        let here = self.mounts.join(name.as_str());
        let elsewhere =
            mounts::of(&full)?.into_iter().find(|mounted| !mounted.target.starts_with(&here));
        match elsewhere {
            Some(mounted) => {
                let what = format!("{name}, mounted at {},", mounted.target.display());
                Err(StoreError::Busy { what, holder: None })
            }
            None => Ok(()),
        }
    }
}

/// What a person is told about a refusal of zfs(8) that nothing else is known about.
fn told(failure: Failure, task: &str) -> StoreError {
    let Failure { refusal, said, .. } = failure;
    // zfs(8) has the name that it speaks of in quotation marks.
    let quoted = said.split('\'').nth(1).unwrap_or(task).to_owned();
    let tool = |said: String| StoreError::Tool { program: "zfs", task: task.to_owned(), said };
    match refusal {
        Refusal::Busy => StoreError::Busy { what: quoted, holder: None },
        Refusal::Full => StoreError::Full { what: quoted },
        // Whose key it is it does not say.
        Refusal::Key => StoreError::Key { dataset: quoted, load: "-a".to_owned() },
        Refusal::Denied => tool("permission denied: run it as root".to_owned()),
        Refusal::NoProgram => {
            tool("it is not installed: install ZFS (Debian: zfsutils-linux)".to_owned())
        }
        Refusal::NoModule => StoreError::Away {
            place: "ZFS".to_owned(),
            why: "the kernel has not loaded it: run `modprobe zfs` (FreeBSD: `kldload zfs`)"
                .to_owned(),
        },
        Refusal::Hangs | Refusal::Suspended => StoreError::Stalled {
            place: "the pool".to_owned(),
            why: format!("{said}: `zpool status` tells more"),
        },
        Refusal::Dependants
        | Refusal::Exists
        | Refusal::Missing
        | Refusal::Modified
        | Refusal::Other => tool(said),
    }
}
