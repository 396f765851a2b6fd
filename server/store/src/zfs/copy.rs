//! Environments that appear, as copies or from nothing, and vanish.
//!
//! What is made is put together under a hidden name and gets its own by one rename, at one instant;
//! what is destroyed loses its name first.

use uuid::Uuid;

use rustix::fs::{Mode, fchmod};

use super::command::{Failure, Refusal, Task};
use super::listing::{Depth, Properties, Source};
use super::tree::Tree;
use super::undertaking::{Leftover, Undertaking};
use super::{Zfs, program, properties, told};
use crate::error::at;
use crate::layout::Place;
use crate::{
    Dataset, Environment, EnvironmentName, Layout, Origin, Point, SnapshotName, StoreError,
};

impl Zfs {
    /// Makes an environment with the data sets of its layout.
    pub(super) fn make(&self, new: &Environment) -> Result<(), StoreError> {
        let work = self.begin(Vec::new())?;
        self.build(&work.dataset, new)?;
        self.arrange(&work, new.layout)?;
        self.publish(work, &new.name)
    }

    fn build(&self, root: &str, new: &Environment) -> Result<(), StoreError> {
        let explain = |failure| made(failure, &new.name);
        let mut create = Task::zfs("create").property("canmount", "noauto");
        create = create.property("mountpoint", "/");
        for (name, value) in root_properties(new.layout) {
            create = create.property(name, value);
        }
        for (name, value) in properties::write(new)? {
            create = create.property(&name, &value);
        }
        create.arg(root).run().map_err(explain)?;
        for place in new.layout.places() {
            let canmount = if place.mounted { "noauto" } else { "off" };
            let mut create = Task::zfs("create").property("canmount", canmount);
            for (name, value) in place_properties(new.layout, place.path) {
                create = create.property(name, value);
            }
            create.arg(format!("{root}/{}", place.path)).run().map_err(explain)?;
        }
        Ok(())
    }

    /// Makes the directories of a layout in the data sets that were made for it.
    fn arrange(&self, work: &Work, layout: Layout) -> Result<(), StoreError> {
        let point = self.mounts.join(&work.name);
        let set = |path: &str| super::Place {
            dataset: format!("{}/{path}", work.dataset),
            path: path.to_owned(),
        };
        let root = super::Place { dataset: work.dataset.clone(), path: String::new() };
        let below = layout.places().iter().filter(|place| place.mounted);
        let places: Vec<_> =
            std::iter::once(root).chain(below.map(|place| set(place.path))).collect();
        let shown = self.show(&work.name, &places, false)?;
        let Some(root) = shown.first() else { return Ok(()) };
        let mode = |place: &Place| {
            Mode::from_bits_truncate(rustix::fs::RawMode::try_from(place.mode).unwrap_or_default())
        };
        fchmod(&root.root, Mode::from_raw_mode(0o755)).map_err(at("make", &point))?;
        for place in layout.places() {
            let path = point.join(place.path);
            // Mount points were made on the way; what only groups them may have none below it.
            let dir = match rustix::fs::mkdirat(&root.root, place.path, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {
                    crate::tree::open_dir(&root.root, place.path).map_err(at("open", &path))?
                }
                Err(error) => return Err(at("make", &path)(error)),
            };
            fchmod(&dir, mode(place)).map_err(at("make", &path))?;
        }
        drop(shown);
        super::mounts::hide(&point)
    }

    /// Clones the tree of an environment: the whole of it, or its root alone.
    pub(super) fn copy(
        &self,
        source: &Point,
        depth: Depth,
        new: &Environment,
    ) -> Result<Environment, StoreError> {
        let tree = self.tree(&source.environment)?;
        let from = self.full(source.environment.as_str());
        let automatic = source.snapshot.is_none();
        let snapshot: SnapshotName = match &source.snapshot {
            Some(snapshot) => snapshot.clone(),
            None => format!("netbe-{}", new.uuid).parse().map_err(|_| StoreError::Name {
                name: new.uuid.to_string(),
                reason: "it is not a name",
            })?,
        };
        let whole = format!("{from}@{snapshot}");
        let left = if automatic { vec![Leftover::Snapshot(whole.clone())] } else { Vec::new() };
        let work = self.begin(left)?;
        if automatic {
            let take = Task::zfs("snapshot").args(["-r", &whole]).run();
            take.map_err(|failure| made(failure, &new.name))?;
        }
        let rows = self.rows(&source.environment, depth)?;
        let had = |dataset: &str| {
            rows.iter().any(|row| row.dataset == dataset && row.snapshot == snapshot.as_str())
        };
        for set in tree.sets() {
            if !had(&set.name) {
                if set.name == from {
                    return Err(StoreError::NoSnapshot(source.clone()));
                }
                continue;
            }
            let mut clone = Task::zfs("clone");
            for (name, value) in kept(tree.properties(&set.name)?) {
                clone = clone.property(name, value);
            }
            // Otherwise ZFS would mount the clone on this host, where its `mountpoint` says.
            let canmount = if set.mountable { "noauto" } else { "off" };
            clone = clone.property("canmount", canmount);
            if set.name == from {
                for (name, value) in properties::write(new)? {
                    clone = clone.property(&name, &value);
                }
            }
            let below = set.name.strip_prefix(&from).unwrap_or_default();
            let clone = clone.arg(format!("{}@{snapshot}", set.name));
            let clone = clone.arg(format!("{}{below}", work.dataset));
            clone.run().map_err(|failure| made(failure, &new.name))?;
        }
        self.mark_data(&work.dataset, new)?;
        if automatic {
            // It goes with its last clone.
            let destroy = Task::zfs("destroy").args(["-d", "-r", &whole]).run();
            destroy.map_err(|failure| made(failure, &new.name))?;
        }
        self.publish(work, &new.name)?;
        let origin = new.origin.clone().map(|origin| Origin { snapshot: Some(snapshot), ..origin });
        Ok(Environment { origin, ..new.clone() })
    }

    /// Marks the data sets below a root that belong to the machine.
    pub(super) fn mark_data(&self, root: &str, new: &Environment) -> Result<(), StoreError> {
        if !new.datasets.iter().any(Dataset::data) {
            return Ok(());
        }
        let explain = |failure| made(failure, &new.name);
        let Some(tree) = Tree::put_together(root, Depth::All).map_err(explain)? else {
            return Ok(());
        };
        let mut marks = tree.changes(new)?;
        marks.retain(|change| change.property == properties::DATA);
        program::set(&self.pool()?.name, &marks).map_err(explain)
    }

    /// Destroys an environment. It is gone at once; an error after that concerns only its space.
    pub(super) fn remove(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        let full = self.full(name.as_str());
        let work = self.begin(Vec::new())?;
        self.rename_data_set(&full, &work.dataset)
            .map_err(|failure| told(failure, &format!("destroy {name}")))?;
        match Task::zfs("destroy").args(["-r", &work.dataset]).run() {
            Ok(_) => {
                work.undertaking.end();
                Ok(())
            }
            Err(failure) if matches!(failure.refusal, Refusal::Dependants | Refusal::Busy) => {
                // Nothing was destroyed: what depends on it is not in this store.
                let back = self.rename_data_set(&work.dataset, &full);
                work.undertaking.end();
                back.map_err(|failure| told(failure, &format!("bring {name} back")))?;
                Err(told(failure, &format!("destroy {name}")))
            }
            Err(failure) => Err(told(failure, &format!("destroy {name}"))),
        }
    }

    /// Begins to put something together under a hidden name. `more` is cleared away after it, if it
    /// comes to that.
    pub(super) fn begin(&self, more: Vec<Leftover>) -> Result<Work, StoreError> {
        let name = format!(".work-{}", Uuid::new_v4());
        let dataset = self.full(&name);
        let own = [Leftover::Mounts(self.mounts.join(&name)), Leftover::Dataset(dataset.clone())];
        let left = own.into_iter().chain(more).collect();
        let undertaking = Undertaking::begin(&self.work, left)?;
        Ok(Work { name, dataset, undertaking })
    }

    /// Gives what was put together its name, at one instant.
    pub(super) fn publish(&self, work: Work, name: &EnvironmentName) -> Result<(), StoreError> {
        self.rename_data_set(&work.dataset, &self.full(name.as_str())).map_err(|failure| {
            if failure.refusal == Refusal::Exists {
                StoreError::Exists(name.clone())
            } else {
                made(failure, name)
            }
        })?;
        work.undertaking.end();
        Ok(())
    }

    pub(super) fn rename_data_set(&self, from: &str, to: &str) -> Result<(), Failure> {
        // -u: nothing is mounted or unmounted on the way, least of all on this host's own root.
        Task::zfs("rename").args(["-u", from, to]).run().map(|_silence| ())
    }
}

/// Something that is put together.
#[derive(Debug)]
pub(super) struct Work {
    /// Its hidden name.
    pub(super) name: String,
    /// Its data set.
    pub(super) dataset: String,
    undertaking: Undertaking,
}

/// The properties that a clone has as its source has them: zfs-clone(8) copies none.
fn kept(properties: &Properties) -> impl Iterator<Item = (&str, &str)> {
    properties
        .iter()
        .filter(|(name, value)| {
            value.source != Source::Inherited
                && !properties::is_own(name)
                && !NOT_KEPT.contains(&name.as_str())
        })
        .map(|(name, value)| (name.as_str(), value.text.as_str()))
}

fn made(failure: Failure, name: &EnvironmentName) -> StoreError {
    if failure.refusal == Refusal::Full {
        StoreError::Full { what: name.to_string() }
    } else {
        told(failure, &format!("make {name}"))
    }
}

/// What a root has from the beginning.
const fn root_properties(layout: Layout) -> &'static [(&'static str, &'static str)] {
    match layout {
        Layout::Flat | Layout::FreeBsd => &[("atime", "off")],
        // journald and systemd-tmpfiles set ACLs, which are slow without xattr=sa.
        Layout::Linux => &[("atime", "off"), ("acltype", "posixacl"), ("xattr", "sa")],
    }
}

/// What data sets of a layout have, as bsdinstall(8) makes them: nothing is run from where everybody
/// may write, and mail readers look at times.
fn place_properties(layout: Layout, path: &str) -> &'static [(&'static str, &'static str)] {
    match (layout, path) {
        (Layout::FreeBsd, "tmp" | "var/tmp") | (Layout::Linux, "tmp" | "var/tmp") => {
            &[("exec", "on"), ("setuid", "off")]
        }
        (Layout::FreeBsd, "var/audit" | "var/crash" | "var/log")
        | (Layout::Linux, "var/log" | "var/spool") => &[("exec", "off"), ("setuid", "off")],
        (Layout::FreeBsd, "var/mail") => &[("atime", "on")],
        (Layout::FreeBsd, "usr/ports") => &[("setuid", "off")],
        _ => &[],
    }
}

/// What belongs to a data set itself: promises of space, what a pool shares by itself, and what only
/// the first of a family of encrypted data sets can have.
const NOT_KEPT: [&str; 10] = [
    "canmount",
    "encryption",
    "keyformat",
    "keylocation",
    "pbkdf2iters",
    "refreservation",
    "reservation",
    "sharenfs",
    "sharesmb",
    "volsize",
];
