//! Environments that appear, as copies or from nothing, and vanish.
//!
//! What is made is put together under a hidden name and gets its own by one rename, at one instant;
//! what is destroyed loses its name first.

use uuid::Uuid;

use rustix::fs::{Mode, fchmod};

use super::command::{Failure, Refusal, Task};
use super::intents::{HIDDEN, Identity, Step};
use super::kernel::Settings;
use super::listing::{self, DataSet, Properties, Source};
use super::tree::Tree;
use super::{Zfs, kernel, program, properties, told, tree};
use crate::back_end::{Extent, Side};
use crate::error::at;
use crate::journal::{Concerned, Open};
use crate::layout::LayoutDirectory;
use crate::locked::Locked;
use crate::{Dataset, Environment, EnvironmentName, Layout, Origin, SnapshotName, StoreError};

impl Zfs {
    /// Makes an environment with the data sets of its layout.
    pub(super) fn make(&self, new: &Environment) -> Result<(), StoreError> {
        let work = self.begin("create", new, Vec::new())?;
        self.build(&work.dataset, new)?;
        self.arrange(&work, new.layout)?;
        self.publish(work, &new.name)
    }

    fn build(&self, root: &str, new: &Environment) -> Result<(), StoreError> {
        let explain = |failure| made(failure, &new.name);
        let mut settings = owned(&[("canmount", "noauto"), ("mountpoint", "/")]);
        settings.extend(owned(root_properties(new.layout)));
        settings.extend(properties::write(new)?);
        kernel::create(root, &settings).map_err(explain)?;
        for directory in new.layout.directories() {
            let canmount = if directory.mounted { "noauto" } else { "off" };
            let mut settings = owned(&[("canmount", canmount)]);
            settings.extend(owned(directory_properties(new.layout, directory.path)));
            let dataset = format!("{root}/{}", directory.path);
            kernel::create(&dataset, &settings).map_err(explain)?;
        }
        Ok(())
    }

    /// Makes the directories of a layout in the data sets that were made for it.
    fn arrange(&self, work: &Work<'_>, layout: Layout) -> Result<(), StoreError> {
        let point = self.mounts.join(&work.name);
        let set = |path: &str| super::DatasetPath {
            dataset: format!("{}/{path}", work.dataset),
            path: path.to_owned(),
        };
        let root = super::DatasetPath { dataset: work.dataset.clone(), path: String::new() };
        let below = layout.directories().iter().filter(|directory| directory.mounted);
        let places: Vec<_> =
            std::iter::once(root).chain(below.map(|directory| set(directory.path))).collect();
        let shown = self.show(&work.name, &places, false)?;
        let Some(root) = shown.first() else { return Ok(()) };
        let mode = |directory: &LayoutDirectory| {
            Mode::from_bits_truncate(
                rustix::fs::RawMode::try_from(directory.mode).unwrap_or_default(),
            )
        };
        fchmod(&root.root, Mode::from_raw_mode(0o755)).map_err(at("make", &point))?;
        for directory in layout.directories() {
            let path = point.join(directory.path);
            // Mount points were made on the way; what only groups them may have none below it.
            let dir = match rustix::fs::mkdirat(&root.root, directory.path, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {
                    crate::tree::open_dir(&root.root, directory.path).map_err(at("open", &path))?
                }
                Err(error) => return Err(at("make", &path)(error)),
            };
            fchmod(&dir, mode(directory)).map_err(at("make", &path))?;
        }
        drop(shown);
        super::mounts::hide(&point)
    }

    /// Clones the tree of an environment: the whole of it, or its root alone.
    pub(super) fn copy(
        &self,
        source: Side<'_>,
        extent: Extent,
        new: &Environment,
    ) -> Result<Environment, StoreError> {
        let locked = source.locked;
        self.refuse_half(locked.name())?;
        let tree = self.tree_of(locked)?;
        let from = self.full(locked.name().as_str());
        let automatic = source.snapshot.is_none();
        let snapshot: SnapshotName = match source.snapshot {
            Some(snapshot) => snapshot.clone(),
            None => format!("netbe-{}", new.uuid).parse().map_err(|_| StoreError::Name {
                name: new.uuid.to_string(),
                reason: "it is not a name",
            })?,
        };
        let work = if automatic {
            let goes = Step::Defer { dataset: tree.root.guid, snapshot: snapshot.to_string() };
            self.begin("clone", new, vec![goes])?
        } else {
            self.begin_named(new)?
        };
        let explain = |failure| made(failure, &new.name);
        let known = self.set_properties(&tree)?;
        let mut sets: Vec<&DataSet> = match extent {
            Extent::Root => vec![&tree.root],
            Extent::Whole => tree.sets().collect(),
        };
        // Of a single data set it is said when it is cloned whether it had the snapshot.
        if !automatic && sets.len() > 1 {
            let rows = self.rows_of(locked)?;
            let had = |set: &DataSet| {
                rows.iter().any(|row| row.dataset == set.name && row.snapshot == snapshot.as_str())
            };
            sets.retain(|set| had(set));
        }
        if sets.first().is_none_or(|set| set.name != from) {
            return Err(StoreError::NoSnapshot(source.point()));
        }
        let snapshots: Vec<String> =
            sets.iter().map(|set| format!("{}@{snapshot}", set.name)).collect();
        if automatic {
            locked.seen().forget();
            kernel::snapshot(&snapshots).map_err(explain)?;
        }
        for (set, snapshot) in sets.iter().zip(&snapshots) {
            let mut settings = kept(tree::of(&known, &set.name)?);
            // Otherwise ZFS would mount the clone on this host, where its `mountpoint` says.
            settings.extend(owned(&[("canmount", if set.mountable { "noauto" } else { "off" })]));
            if set.name == from {
                settings.extend(properties::write(new)?);
            } else if tree.is_data(&set.name, new) {
                settings.extend(owned(&[(properties::DATA, "on")]));
            }
            let below = set.name.strip_prefix(&from).unwrap_or_default();
            let clone = format!("{}{below}", work.dataset);
            kernel::clone(snapshot, &clone, &settings).map_err(|failure| {
                if failure.refusal == Refusal::Missing {
                    self.lost(source).unwrap_or_else(|| explain(failure))
                } else {
                    explain(failure)
                }
            })?;
        }
        if automatic {
            // They go with their last clones.
            program::destroy_with_clones(self.pool_name(), &snapshots).map_err(explain)?;
        }
        self.publish(work, &new.name)?;
        let origin = new.origin.clone().map(|origin| Origin { snapshot: Some(snapshot), ..origin });
        Ok(Environment { origin, ..new.clone() })
    }

    /// What is missing of a source that could not be cloned, if anything is.
    fn lost(&self, source: Side<'_>) -> Option<StoreError> {
        let (snapshot, locked) = (source.snapshot?, source.locked);
        locked.seen().forget();
        match self.snapshots_of(locked.name(), locked.seen()) {
            Ok(found) if found.iter().any(|one| one.name == *snapshot) => None,
            Ok(_) => Some(StoreError::NoSnapshot(source.point())),
            Err(error) => Some(error),
        }
    }

    /// Marks the data sets below a root that belong to the machine.
    pub(super) fn mark_data(&self, root: &str, new: &Environment) -> Result<(), StoreError> {
        if !new.datasets.iter().any(Dataset::data) {
            return Ok(());
        }
        let explain = |failure| made(failure, &new.name);
        let Some(tree) = Tree::put_together(root).map_err(explain)? else {
            return Ok(());
        };
        let mut marks = tree.changes(new)?;
        marks.retain(|change| change.property == properties::DATA);
        program::set(self.pool_name(), &marks).map_err(explain)
    }

    /// Destroys an environment. It is gone at once; an error after that concerns only its space.
    pub(super) fn remove(&self, locked: &Locked) -> Result<(), StoreError> {
        let (name, full) = (locked.name(), self.full(locked.name().as_str()));
        let guid = self.tree_of(locked)?.root.guid;
        self.spare(name)?;
        self.hide(name)?;
        let explain = |failure| told(failure, &format!("destroy {name}"));
        let all = listing::everything(&full).map_err(explain)?;
        // Broken metadata must not keep anybody from getting rid of it.
        let environment = locked.read(self);
        let environments =
            environment.iter().map(|one| Concerned::from(&one.environment)).collect();
        locked.seen().forget();
        let work = self.hide_away("destroy", environments, Identity::Guid(guid), Vec::new())?;
        kernel::rename(&full, &work.dataset).map_err(explain)?;
        let hidden = |known: &String| {
            [&work.dataset, known.strip_prefix(&full).unwrap_or_default()].concat()
        };
        let all: Vec<String> = all.iter().map(hidden).collect();
        let mut destroyed = program::destroy(self.pool_name(), &all);
        if matches!(&destroyed, Err(failure) if failure.refusal != Refusal::Busy) {
            // A clone in the tree of what is in the tree too; half of what was being received, which is not
            // listed; more than a program takes.
            destroyed = Task::zfs("destroy").flags(["-r"]).operand(&work.dataset).run().map(drop);
        }
        let Err(failure) = destroyed else {
            work.open.end();
            return Ok(());
        };
        let failure = Failure { said: failure.said.replace(&work.dataset, &full), ..failure };
        // Else the next command destroys the rest.
        if listing::everything(&work.dataset).is_ok_and(|left| left == all) {
            kernel::rename(&work.dataset, &full)
                .map_err(|failure| told(failure, &format!("bring {name} back")))?;
            work.open.end();
        }
        Err(explain(failure))
    }

    /// Begins to put something together under a hidden name. `more` is cleared away after it, if it
    /// comes to that.
    pub(super) fn begin(
        &self,
        verb: &str,
        new: &Environment,
        more: Vec<Step>,
    ) -> Result<Work<'_>, StoreError> {
        self.hide_away(verb, vec![new.into()], Identity::Uuid(new.uuid), more)
    }

    /// Begins to put together what tells itself whose it is, wherever it is found: its hidden name has its UUID in
    /// it, which is written on it as soon as it has anything of its own. So the pool needs no other record.
    fn begin_named(&self, new: &Environment) -> Result<Work<'_>, StoreError> {
        let step = Step::named(new.uuid);
        let Step::Discard { name, .. } = &step else { return self.begin("clone", new, Vec::new()) };
        let (name, dataset) = (name.clone(), self.full(name));
        let open = self.intend_as(new.uuid, "clone", vec![new.into()], vec![step])?;
        Ok(Work { name, dataset, open })
    }

    /// Begins to work on something that has a hidden name meanwhile.
    fn hide_away(
        &self,
        verb: &str,
        environments: Vec<Concerned>,
        is: Identity,
        more: Vec<Step>,
    ) -> Result<Work<'_>, StoreError> {
        let name = format!("{HIDDEN}{}", Uuid::new_v4());
        let dataset = self.full(&name);
        let own = [
            Step::Unmount { directory: self.mounts.join(&name) },
            Step::Discard { name: name.clone(), is },
        ];
        let open = self.intend(verb, environments, own.into_iter().chain(more).collect())?;
        Ok(Work { name, dataset, open })
    }

    /// Gives what was put together its name, at one instant.
    pub(super) fn publish(&self, work: Work<'_>, name: &EnvironmentName) -> Result<(), StoreError> {
        kernel::rename(&work.dataset, &self.full(name.as_str())).map_err(|failure| {
            if failure.refusal == Refusal::Exists {
                StoreError::Exists(name.clone())
            } else {
                made(failure, name)
            }
        })?;
        work.open.end();
        Ok(())
    }
}

/// Something that is put together.
#[derive(Debug)]
pub(super) struct Work<'a> {
    /// Its hidden name.
    pub(super) name: String,
    /// Its data set.
    pub(super) dataset: String,
    open: Open<'a, Step>,
}

/// The properties that a clone has as its source has them: zfs-clone(8) copies none.
fn kept(properties: &Properties) -> Settings {
    let kept = properties
        .iter()
        .filter(|(name, value)| {
            value.source != Source::Inherited
                && !properties::is_own(name)
                && !NOT_KEPT.contains(&name.as_str())
        })
        .map(|(name, value)| (name.clone(), value.text.clone()));
    kept.collect()
}

fn owned(settings: &[(&str, &str)]) -> Settings {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
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
fn directory_properties(layout: Layout, path: &str) -> &'static [(&'static str, &'static str)] {
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
