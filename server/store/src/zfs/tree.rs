//! Environments as trees of data sets.

use std::collections::BTreeMap;

use super::command::{Failure, Refusal};
use super::intents::HIDDEN;
use super::listing::{self, DataSet, Depth, Forged, Known, Properties, SnapshotRow};
use super::mounts::DatasetPath;
use super::program::Change;
use super::properties::{self, Child};
use super::{kernel, told};
use crate::{Dataset, Environment, EnvironmentName, MetadataError, Origin, Space, StoreError};

/// What is known about the pool.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    guid: u64,
    /// What stands before every mount point while the pool is imported for another system, or `-`.
    altroot: String,
    /// What the host boots, or `-`.
    pub(super) bootfs: String,
}

/// How the pool is asked for, which only few need.
pub(super) type Ask<'a> = &'a dyn Fn() -> Result<Pool, StoreError>;

impl Pool {
    /// Asks for it; a pool that is not there is [`StoreError::Away`], one that has lost its disks
    /// [`StoreError::Stalled`].
    pub(super) fn look(name: &str) -> Result<Self, StoreError> {
        let away = |why: String| StoreError::Away { place: format!("the pool {name}"), why };
        let table = match kernel::ask_pool("health,guid,altroot,bootfs", name) {
            Ok(table) => table,
            Err(Failure { refusal: Refusal::Missing, .. }) => {
                return Err(away(format!("it is not imported: run `zpool import {name}`")));
            }
            Err(failure) => return Err(told(failure, &format!("look at the pool {name}"))),
        };
        let mut values = table.lines().map(str::to_owned);
        let mut next = || values.next().unwrap_or_default();
        let (health, guid) = (next(), next());
        if matches!(health.as_str(), "SUSPENDED" | "UNAVAIL" | "FAULTED") {
            let why = format!(
                "it is {health}: reconnect its disks, then run `zpool clear {name}` (`zpool status \
                 {name}` tells which)"
            );
            return Err(StoreError::Stalled { place: format!("the pool {name}"), why });
        }
        let guid = guid.parse().map_err(|_| away(format!("it has no identity: {guid}")))?;
        Ok(Self { guid, altroot: next(), bootfs: next() })
    }

    /// A mount point as it was set, of what zfs(8) tells.
    pub(super) fn set_mount_point<'a>(&self, told: &'a str) -> &'a str {
        match told.strip_prefix(&self.altroot) {
            Some("") => "/",
            Some(set) if set.starts_with('/') => set,
            Some(_) | None => told,
        }
    }
}

/// A data set below the root of an environment.
#[derive(Clone, Debug)]
struct Branch {
    set: DataSet,
    path: String,
    mounted: bool,
}

/// One environment.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) root: DataSet,
    branches: Vec<Branch>,
    /// Two data sets that belong at one place.
    twice: Option<(String, String)>,
    properties: Known,
}

impl Tree {
    /// Asks for one environment.
    pub(super) fn look(
        store: &str,
        name: &EnvironmentName,
        pool: Ask<'_>,
    ) -> Result<Self, StoreError> {
        Self::found(name, Self::put_together(&format!("{store}/{name}")), pool)
    }

    fn found(
        name: &EnvironmentName,
        found: Result<Option<Self>, Failure>,
        pool: Ask<'_>,
    ) -> Result<Self, StoreError> {
        let none = || StoreError::NoEnvironment(name.clone());
        let tree = match found {
            Ok(tree) => tree.ok_or_else(none)?,
            Err(Failure { refusal: Refusal::Missing, .. }) => return Err(none()),
            Err(failure) => return Err(told(failure, &format!("look at {name}"))),
        };
        if tree.is_environment(pool)? { Ok(tree) } else { Err(none()) }
    }

    /// Asks for a data set and what is below it, whatever it is.
    pub(super) fn put_together(root: &str) -> Result<Option<Self>, Failure> {
        // To start a second program takes longer than to ask for more than is needed.
        let (sets, known) = listing::described(root, Depth::All)?;
        Ok(Self::of(sets, known))
    }

    /// Asks for a data set without what is below it, whatever it is.
    fn root(root: &str) -> Result<Option<Self>, Failure> {
        let (sets, known) = listing::described(root, Depth::One)?;
        Ok(Self::of(sets, known))
    }

    /// Puts data sets together, of which the first is the root.
    fn of(sets: Vec<DataSet>, properties: Known) -> Option<Self> {
        let mut sets = sets.into_iter();
        let root = sets.next()?;
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        let mut twice = None;
        let branches = sets.filter_map(|set| {
            let place = place(&root.mountpoint, &set.mountpoint);
            let mounted = set.mountable && place.is_some();
            let own = set.name.strip_prefix(&root.name)?.strip_prefix('/')?.to_owned();
            let path = place.unwrap_or(own);
            if let Some(first) = taken.insert(path.clone(), set.name.clone()) {
                twice = Some((first, set.name.clone()));
            }
            Some(Branch { set, path, mounted })
        });
        let branches = branches.collect();
        Some(Self { root, branches, twice, properties })
    }

    /// Refuses a tree of which two data sets belong at one place: one would hide the other, and nobody
    /// could tell what goes with it.
    pub(super) fn is_unambiguous(&self) -> Result<(), StoreError> {
        match self.twice.clone() {
            Some((first, second)) => Err(StoreError::Twice { first, second }),
            None => Ok(()),
        }
    }

    /// Whether it is one: netbe made it, or it is mounted as a root, as those of bectl and beadm are. What
    /// is mounted by hand (`legacy`) may be anything, unless the host boots it.
    fn is_environment(&self, pool: Ask<'_>) -> Result<bool, StoreError> {
        let ours = match self.properties.get(&self.root.name) {
            Some(Ok(properties)) => properties::is_ours(properties),
            Some(Err(Forged)) => true,
            None => false,
        };
        let mountpoint = self.root.mountpoint.as_str();
        if ours || mountpoint == "/" {
            return Ok(true);
        }
        if mountpoint == "legacy" {
            return Ok(pool()?.bootfs == self.root.name);
        }
        Ok(mountpoint.starts_with('/') && pool()?.set_mount_point(mountpoint) == "/")
    }

    /// The root and all below it, parents first, wherever they belong.
    pub(super) fn sets(&self) -> impl DoubleEndedIterator<Item = &DataSet> + Clone {
        std::iter::once(&self.root).chain(self.branches.iter().map(|branch| &branch.set))
    }

    /// What is below the root, in the order of mounting: a data set may belong above its parent.
    fn by_place(&self) -> Vec<&Branch> {
        let mut branches: Vec<&Branch> = self.branches.iter().collect();
        branches.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        branches
    }

    /// What can be mounted now, the root first.
    pub(super) fn places(&self) -> Vec<DatasetPath> {
        let root = DatasetPath { dataset: self.root.name.clone(), path: String::new() };
        let branches =
            self.by_place().into_iter().filter(|branch| branch.mounted && !branch.set.locked);
        let branches = branches.map(|branch| DatasetPath {
            dataset: branch.set.name.clone(),
            path: branch.path.clone(),
        });
        std::iter::once(root).chain(branches).collect()
    }

    /// What it waits for before its files can be seen: all of them, because what is written in the place
    /// of a data set that is missing would be hidden by it later.
    pub(super) fn waits(&self) -> Option<StoreError> {
        let branches = self.branches.iter().filter(|branch| branch.mounted);
        let mut sets = std::iter::once(&self.root).chain(branches.map(|branch| &branch.set));
        let locked = sets.find(|set| set.locked)?;
        let load = locked.key.clone().unwrap_or_else(|| locked.name.clone());
        Some(StoreError::Key { dataset: locked.name.clone(), load })
    }

    /// Refuses a tree of which a data set has a property that pretends to be another.
    pub(super) fn is_plain(&self) -> Result<(), StoreError> {
        self.is_unambiguous()?;
        self.sets().try_for_each(|set| self.properties(&set.name).map(|_| ()))
    }

    /// What is known of the properties of its data sets.
    pub(super) const fn known(&self) -> &Known {
        &self.properties
    }

    /// The properties of one of its data sets that are not as they are by themselves: in a forest, all of the
    /// root, and [`properties::DATA`] of what is below.
    pub(super) fn properties(&self, dataset: &str) -> Result<&Properties, StoreError> {
        of(&self.properties, dataset)
    }

    /// What is written down about it.
    pub(super) fn environment(
        &self,
        name: &EnvironmentName,
        pool: Ask<'_>,
        origin: Option<Origin>,
    ) -> Result<Environment, StoreError> {
        self.is_plain()?;
        let children = self.by_place().into_iter().filter_map(|branch| {
            let properties = self.properties(&branch.set.name).ok()?;
            Some(Child { path: &branch.path, mounted: branch.mounted, properties })
        });
        let children: Vec<Child<'_>> = children.collect();
        let properties = self.properties(&self.root.name)?;
        if self.root.is_shared() {
            let name = &self.root.name;
            tracing::warn!(
                "{name} has sharenfs set, so that ZFS shares it too: run `zfs inherit sharenfs {name}`"
            );
        }
        let explain = |error| broken(&self.root.name, error);
        let uuid = match properties::uuid(properties).map_err(explain)? {
            Some(uuid) => uuid,
            None => properties::identity(pool()?.guid, self.root.guid),
        };
        properties::read(name, uuid, &self.root, properties, &children, origin).map_err(explain)
    }

    /// The environment and the snapshot that it was cloned from, if that is in this store.
    pub(super) fn origin(&self, store: &str, pool: Ask<'_>) -> Result<Option<Origin>, StoreError> {
        let Some((name, snapshot)) = self.origin_name(store) else { return Ok(None) };
        // Its identity stands in its root: there may be many data sets below.
        let root = Self::root(&format!("{store}/{name}"));
        let origin = match Self::found(&name, root, pool) {
            Ok(origin) => origin,
            Err(StoreError::NoEnvironment(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let uuid = origin.environment(&name, pool, None)?.uuid;
        Ok(Some(Origin { name, uuid, snapshot: snapshot.parse().ok() }))
    }

    fn origin_name(&self, store: &str) -> Option<(EnvironmentName, &str)> {
        let (dataset, snapshot) = self.root.origin.as_ref()?.split_once('@')?;
        let name = dataset.strip_prefix(store)?.strip_prefix('/')?.parse().ok()?;
        Some((name, snapshot))
    }

    /// What has to be changed so that everything decided about it is as in `environment`.
    pub(super) fn changes(&self, environment: &Environment) -> Result<Vec<Change>, StoreError> {
        let before = self.properties(&self.root.name)?;
        let after = properties::write(environment)?;
        let change = |dataset: &str, property: &str, value: Option<&str>| Change {
            dataset: dataset.to_owned(),
            property: property.to_owned(),
            value: value.map(str::to_owned),
        };
        let root = &self.root.name;
        let mut changes: Vec<Change> =
            after.iter().map(|(property, value)| change(root, property, Some(value))).collect();
        let gone = before.keys().filter(|property| {
            properties::is_own(property) && !after.iter().any(|(kept, _)| kept == *property)
        });
        changes.extend(gone.map(|property| change(root, property, None)));
        for branch in &self.branches {
            let data = if is_data(branch, environment) { "on" } else { "off" };
            let now = self.properties(&branch.set.name)?.get(properties::DATA);
            if now.map_or("off", |now| &now.text) != data {
                changes.push(change(&branch.set.name, properties::DATA, Some(data)));
            }
        }
        Ok(changes)
    }

    /// Whether one of its data sets belongs to the machine in `environment`.
    pub(super) fn is_data(&self, dataset: &str, environment: &Environment) -> bool {
        let branch = self.branches.iter().find(|branch| branch.set.name == dataset);
        branch.is_some_and(|branch| is_data(branch, environment))
    }

    /// What it takes.
    pub(super) fn space(&self) -> Space {
        // ZFS counts with a data set what is below it and all of its snapshots.
        let used = Some(self.root.used);
        let referenced = Some(self.sets().map(|set| set.referenced).sum());
        Space { used, referenced, exclusive: used }
    }
}

/// What is known of the store's own data set.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) guid: u64,
    pub(super) properties: Known,
    /// The full names of what is hidden in it.
    pub(super) hidden: Vec<String>,
}

/// All environments of a store.
#[derive(Debug)]
pub(super) struct Forest {
    store: String,
    trees: BTreeMap<EnvironmentName, Tree>,
}

impl Forest {
    /// Asks for all of them at once.
    ///
    /// `None` if the store itself is not listed: of a pool that has lost its disks zfs(8) lists nothing,
    /// and calls that success.
    pub(super) fn look(store: &str, pool: Ask<'_>) -> Result<Option<(Self, Own)>, StoreError> {
        let explain = |failure| told(failure, &format!("list {store}"));
        let (sets, mut properties) = listing::forest(store, properties::DATA).map_err(explain)?;
        let Some(guid) = sets.iter().find(|set| set.name == store).map(|set| set.guid) else {
            return Ok(None);
        };
        let mut groups: BTreeMap<EnvironmentName, Vec<DataSet>> = BTreeMap::new();
        let mut hidden = Vec::new();
        for set in sets {
            let below = set.name.strip_prefix(store).and_then(|rest| rest.strip_prefix('/'));
            let first = below.and_then(|below| below.split('/').next());
            if below.is_some_and(|below| below.starts_with(HIDDEN) && first == Some(below)) {
                hidden.push(set.name.clone());
            }
            // Names that no environment has are of what is put together or taken apart.
            if let Some(name) = first.and_then(|first| first.parse().ok()) {
                groups.entry(name).or_default().push(set);
            }
        }
        let mut trees = BTreeMap::new();
        for (name, sets) in groups {
            let own = sets.iter().filter_map(|set| properties.remove_entry(&set.name)).collect();
            let Some(tree) = Tree::of(sets, own) else { continue };
            if tree.is_environment(pool)? {
                trees.insert(name, tree);
            }
        }
        let own = properties.remove_entry(store).into_iter().collect();
        let own = Own { guid, properties: own, hidden };
        Ok(Some((Self { store: store.to_owned(), trees }, own)))
    }

    /// The environments by name.
    pub(super) fn trees(&self) -> impl Iterator<Item = (&EnvironmentName, &Tree)> {
        self.trees.iter()
    }

    /// What is written down about one of them.
    pub(super) fn environment(
        &self,
        name: &EnvironmentName,
        tree: &Tree,
        pool: Ask<'_>,
    ) -> Result<Environment, StoreError> {
        let origin = tree.origin_name(&self.store).and_then(|(name, snapshot)| {
            let origin = self.trees.get(&name)?;
            let uuid = origin.environment(&name, pool, None).ok()?.uuid;
            Some(Origin { name, uuid, snapshot: snapshot.parse().ok() })
        });
        tree.environment(name, pool, origin)
    }
}

/// What the snapshots of one name take together.
pub(super) fn snapshot_space<'a>(rows: impl Iterator<Item = &'a SnapshotRow>) -> Space {
    let (mut used, mut referenced) = (0, 0);
    for row in rows {
        used += row.used;
        referenced += row.referenced;
    }
    Space { used: Some(used), referenced: Some(referenced), exclusive: Some(used) }
}

/// Where a data set belongs below its environment's root, as FreeBSD's rc.d/zfsbe decides; `None` if
/// it belongs nowhere.
fn place(root: &str, mountpoint: &str) -> Option<String> {
    let absolute = mountpoint.strip_prefix('/')?;
    let below = match root.strip_prefix('/') {
        // Below the root's own mount point, which is not always `/`.
        Some(root) if !root.is_empty() => mountpoint
            .strip_prefix('/')
            .and_then(|rest| rest.strip_prefix(root))
            .and_then(|rest| if rest.is_empty() { Some("") } else { rest.strip_prefix('/') })
            .unwrap_or(absolute),
        Some(_) | None => absolute,
    };
    let plain = |name: &str| !matches!(name, "" | "." | "..");
    below.split('/').all(plain).then(|| below.to_owned())
}

fn is_data(branch: &Branch, environment: &Environment) -> bool {
    let set = environment.datasets.iter().find(|set| set.path() == branch.path);
    set.is_some_and(Dataset::data)
}

/// The properties of a data set among those that are known.
pub(super) fn of<'a>(known: &'a Known, dataset: &str) -> Result<&'a Properties, StoreError> {
    static NONE: Properties = Properties::new();
    match known.get(dataset) {
        None => Ok(&NONE),
        Some(Ok(properties)) => Ok(properties),
        Some(Err(forged)) => Err(broken(dataset, properties::forged(*forged))),
    }
}

fn broken(dataset: &str, error: MetadataError) -> StoreError {
    StoreError::Broken { path: dataset.into(), error }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_mount_point_is_told_behind_the_directory_that_its_pool_is_imported_below() {
        let told = |altroot: &str, told| {
            let altroot = altroot.to_owned();
            Pool { guid: 1, altroot, bootfs: "-".to_owned() }.set_mount_point(told).to_owned()
        };
        assert_eq!(told("/mnt", "/mnt"), "/");
        assert_eq!(told("/mnt", "/mnt/usr/home"), "/usr/home");
        assert_eq!(told("/mnt", "/mntx"), "/mntx");
        assert_eq!(told("-", "/mnt"), "/mnt");
    }

    #[test]
    fn what_is_mounted_by_hand_is_an_environment_only_if_the_host_boots_it() {
        let is = |mountpoint: &str, bootfs: &str| {
            let set = DataSet {
                name: "tank/be/old".to_owned(),
                guid: 1,
                creation: 0,
                origin: None,
                mountpoint: mountpoint.to_owned(),
                mountable: true,
                locked: false,
                key: None,
                sharenfs: "off".to_owned(),
                used: 0,
                referenced: 0,
                written: 0,
            };
            let (altroot, bootfs) = ("-".to_owned(), bootfs.to_owned());
            let pool = Pool { guid: 1, altroot, bootfs };
            let tree = Tree::of(vec![set], Known::default()).unwrap();
            tree.is_environment(&|| Ok(pool.clone())).unwrap()
        };
        assert!(is("/", "-") && is("legacy", "tank/be/old"));
        assert!(!is("legacy", "-") && !is("legacy", "tank/be/other"));
        assert!(!is("none", "-") && !is("/srv", "-"));
    }

    #[test]
    fn data_sets_belong_where_zfsbe_mounts_them() {
        for (root, mountpoint, path) in [
            ("/", "/usr/home", Some("usr/home")),
            ("/", "/", None),
            ("/", "none", None),
            ("/", "legacy", None),
            ("/tank/be/head", "/tank/be/head/var/log", Some("var/log")),
            ("/tank/be/head", "/tank/be/head", None),
            ("/tank/be/head", "/tank/be/header/x", Some("tank/be/header/x")),
            ("/mnt", "/mnt/usr", Some("usr")),
            ("legacy", "/var", Some("var")),
            ("/", "/a/../b", None),
        ] {
            assert_eq!(place(root, mountpoint).as_deref(), path, "{root} {mountpoint}");
        }
    }
}
