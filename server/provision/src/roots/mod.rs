//! Roots that machines have for themselves: clones of templates, made, found and replaced.
//!
//! A machine's clone is a boot environment with the role `client`. Two settings say whose it is and
//! what it was made from; they count only together with that role, which a clone of a clone or a
//! received copy does not have. Every clone that is made here is a draft until nothing is missing any
//! more ([`store::Draft`]). Roots of several machines are made at once.

mod fixed;
mod form;
pub mod identity;
mod locks;
pub mod merge;
pub mod upgrade;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hostfs::{Inside, InsideError};
use store::{
    Decision, Environment, EnvironmentName, NameError, Point, Role, Snapshot, Store, StoreError,
    Timestamp,
};
use uuid::Uuid;

use crate::worker::{self, Request, WorkerError};
use locks::{Held, Locks};

/// The roots of machines in a store.
#[derive(Clone, Copy, Debug)]
pub struct Roots<'a> {
    store: &'a Store,
    directory: &'a Path,
}

/// Whose root an environment is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owned {
    /// The machine.
    pub machine: String,
    /// The environment or snapshot that it was made from, by the name that it had then.
    pub template: String,
    /// The identity of that environment, unless the root does not depend on it any more.
    pub origin: Option<Uuid>,
    /// Whether it is for one boot only.
    pub fresh: bool,
    /// When it was made.
    pub created: Timestamp,
}

impl Owned {
    /// What is written down about an environment, if it is a machine's root.
    #[must_use]
    pub fn of(environment: &Environment) -> Option<Self> {
        let value = |key| environment.settings.value(key).map(str::to_owned);
        is_client(environment).then_some(())?;
        Some(Self {
            machine: value(MACHINE)?,
            template: value(TEMPLATE)?,
            origin: environment.origin.as_ref().map(|origin| origin.uuid),
            fresh: value(FRESH).is_some(),
            created: environment.created,
        })
    }
}

/// A root that was made.
#[derive(Debug)]
pub struct Made {
    /// The environment.
    pub name: EnvironmentName,
    /// What it was made from.
    pub template: Point,
    /// The files in it that were reset.
    pub reset: Vec<PathBuf>,
}

/// How long a root is to be kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Term {
    /// For one boot.
    Boot,
    /// Until somebody destroys it.
    Kept,
}

impl<'a> Roots<'a> {
    /// The roots in a store; below `directory`, which has to be there, snapshots are mounted for upgrades.
    #[must_use]
    pub const fn new(store: &'a Store, directory: &'a Path) -> Self {
        Self { store, directory }
    }

    /// The locks of the store, which all who make roots in it share.
    fn locks(&self) -> Result<Locks, StoreError> {
        Ok(Locks::new(self.store.locks()?))
    }

    /// The root that a machine keeps for an environment or snapshot: that itself if it is the
    /// machine's, else the newest that was made from it.
    pub fn own(&self, machine: &str, wanted: &str) -> Result<Option<Environment>, StoreError> {
        let listed = self.store.list()?.environments;
        let known = listed.iter().map(Known::of);
        let own = own_among(known, machine, wanted).map(str::to_owned);
        Ok(own.and_then(|own| listed.into_iter().find(|one| one.name.as_str() == own)))
    }

    /// Makes a root for a machine: nothing of it is seen under its name before it is whole.
    ///
    /// One that is kept is made from a snapshot, so that it can be told later what has become of it.
    pub fn make(&self, machine: &str, template: &Point, term: Term) -> Result<Made, RootError> {
        self.make_with(machine, template, term, |_| Ok(()))
    }

    /// The same, with what else is to be in it.
    fn make_with(
        &self,
        machine: &str,
        template: &Point,
        term: Term,
        configure: impl FnOnce(&Inside) -> Result<(), RootError>,
    ) -> Result<Made, RootError> {
        let _alone = self.locks()?.machine(machine)?;
        let source = match term {
            Term::Boot => template.clone(),
            Term::Kept => self.source(template)?,
        };
        let (name, making) = self.free_name(machine, &template.environment)?;
        let reset = self.whole(&source, &name, making, |draft| {
            let reset = self.reset(draft, Some(machine))?;
            configure(&Inside::from_fd(self.store.open_root(draft)?))?;
            if term == Term::Kept {
                self.separate(machine, draft, &source)?;
            }
            let template = source.to_string();
            let decisions = vec![
                setting(MACHINE, Some(machine)),
                setting(TEMPLATE, Some(&template)),
                setting(HOLDER, None),
                setting(FRESH, (term == Term::Boot).then_some("yes")),
                Decision::Role(Role::Client),
            ];
            Ok((reset, decisions))
        })?;
        Ok(Made { name, template: source, reset })
    }

    /// Makes a clone, of which all is decided when nothing is missing any more.
    fn whole<T>(
        &self,
        source: &Point,
        name: &EnvironmentName,
        _making: Held,
        finish: impl FnOnce(&EnvironmentName) -> Result<(T, Vec<Decision>), RootError>,
    ) -> Result<T, RootError> {
        let draft = self.store.draft(source, name)?;
        let (made, decisions) = finish(name)?;
        draft.finish(&decisions)?;
        Ok(made)
    }

    /// Gives a machine an environment for its data, if its root has data sets that are marked so and it
    /// has none yet: from then on all its roots have their data there.
    ///
    /// It is a clone of what the root was made from, not of the root: that has to go by itself, where
    /// what is cloned cannot be destroyed.
    fn separate(
        &self,
        machine: &str,
        root: &EnvironmentName,
        source: &Point,
    ) -> Result<(), RootError> {
        let marked = self.store.get(root)?.datasets.iter().any(|set| set.data() && set.mounted());
        let listed = self.store.list()?.environments;
        if !marked || listed.iter().any(|known| holder(known) == Some(machine)) {
            return Ok(());
        }
        let (name, making) = self.free_name(machine, &DATA.parse()?)?;
        self.whole(source, &name, making, |draft| {
            self.reset(draft, Some(machine))?;
            let mut decisions = nobodys(Role::Client);
            decisions.push(setting(HOLDER, Some(machine)));
            Ok(((), decisions))
        })
    }

    /// Makes a copy that is nobody's, and resets what tells its system from others if that is to be;
    /// gives the paths of the files that were reset.
    pub fn copy(
        &self,
        source: &Point,
        name: &EnvironmentName,
        role: Role,
        reset: bool,
    ) -> Result<Vec<PathBuf>, RootError> {
        let making = {
            let _naming = self.locks()?.naming()?;
            self.store.recover(None)?;
            let making =
                if self.is_free(name)? { self.locks()?.making(name.as_str())? } else { None };
            making.ok_or_else(|| StoreError::Exists(name.clone()))?
        };
        self.whole(source, name, making, |draft| {
            let reset = if reset { self.reset(draft, None)? } else { Vec::new() };
            Ok((reset, nobodys(role)))
        })
    }

    /// Resets what tells the system in an environment from others.
    fn reset(
        &self,
        name: &EnvironmentName,
        machine: Option<&str>,
    ) -> Result<Vec<PathBuf>, RootError> {
        let inside = Inside::from_fd(self.store.open_root(name)?);
        let request = Request::Reset(machine.map(str::to_owned));
        let (changed, _) = worker::call::<Vec<Vec<u8>>>(&request, &[inside.as_fd()])?;
        Ok(changed.into_iter().map(|path| OsString::from_vec(path).into()).collect())
    }

    /// What a root was made from, by the name that it has now.
    pub fn template(&self, root: &Environment) -> Result<Point, RootError> {
        let owned = Owned::of(root).ok_or_else(|| RootError::Nobodys(root.name.clone()))?;
        let mut template: Point = owned.template.parse()?;
        let origin = root.origin.as_ref().map(|origin| origin.uuid);
        let listed = self.store.list()?.environments;
        if let Some(renamed) = listed.into_iter().find(|known| Some(known.uuid) == origin) {
            template.environment = renamed.name;
        }
        Ok(template)
    }

    /// The roots for one boot that a machine has.
    pub fn fresh(&self, machine: &str) -> Result<Vec<Environment>, StoreError> {
        self.all(machine, true)
    }

    /// The roots that a machine keeps, whichever it boots.
    pub fn kept(&self, machine: &str) -> Result<Vec<Environment>, StoreError> {
        self.all(machine, false)
    }

    /// The roots that need an environment's tree: itself, and if a machine has its data there, those
    /// of that machine.
    pub fn needing(&self, environment: &Environment) -> Result<Vec<Uuid>, StoreError> {
        let mut roots = vec![environment.uuid];
        if let Some(machine) = holder(environment) {
            let listed = self.store.list()?.environments.into_iter();
            let owned = listed
                .filter(|known| Owned::of(known).is_some_and(|owned| owned.machine == machine));
            roots.extend(owned.map(|known| known.uuid));
        }
        Ok(roots)
    }

    fn all(&self, machine: &str, fresh: bool) -> Result<Vec<Environment>, StoreError> {
        let mut listed = self.store.list()?.environments;
        listed.retain(|environment| {
            Owned::of(environment)
                .is_some_and(|owned| owned.fresh == fresh && owned.machine == machine)
        });
        Ok(listed)
    }

    /// The snapshot that shows a template as it is now, if there is one: the newest, if nothing has
    /// changed since.
    pub fn pinned(&self, template: &Point) -> Result<Option<Point>, RootError> {
        self.newest(template, |_| true)
    }

    /// A snapshot of a template as it is now: a new one, if there is none.
    pub fn pin(&self, template: &Point) -> Result<Point, RootError> {
        self.snapshot_of(template, |_| true)
    }

    /// A snapshot of a template as it is now, to make a clone of: a new one, if there is none or if it has so
    /// many clones that each further one is slow. One that is named stays the one.
    fn source(&self, template: &Point) -> Result<Point, RootError> {
        self.snapshot_of(template, |snapshot| !is_crowded(snapshot))
    }

    /// Whether one snapshot shows what another one shows: then roots that were made from either are of the
    /// same template.
    pub fn are_alike(&self, one: &Point, other: &Point) -> Result<bool, RootError> {
        let snapshots = one.snapshot.is_some() && other.snapshot.is_some();
        Ok(one == other
            || snapshots
                && one.environment == other.environment
                && self.store.is_same(one, other)?)
    }

    fn newest(
        &self,
        template: &Point,
        suits: impl Fn(&Snapshot) -> bool,
    ) -> Result<Option<Point>, RootError> {
        if template.snapshot.is_some() {
            return Ok(Some(template.clone()));
        }
        let newest = self.store.newest_unchanged(&template.environment)?.filter(suits);
        Ok(newest.map(|newest| Point::snapshot(&template.environment, &newest.name)))
    }

    fn snapshot_of(
        &self,
        template: &Point,
        suits: impl Fn(&Snapshot) -> bool,
    ) -> Result<Point, RootError> {
        // Machines whose templates have a snapshot do not wait for each other.
        if let Some(point) = self.newest(template, &suits)? {
            return Ok(point);
        }
        let _alone = self.locks()?.pinning()?;
        if let Some(point) = self.newest(template, &suits)? {
            return Ok(point);
        }
        let name = &template.environment;
        // Colons in the time are nothing that a name should have to have quoted.
        let stamp = Timestamp::from(SystemTime::now()).to_string().replace([':', ' '], "");
        let taken = self.store.snapshots(name)?;
        let mut candidates = (1..).map(|number| match number {
            1 => format!("netbe-{stamp}"),
            number => format!("netbe-{stamp}-{number}"),
        });
        let free = |text: &String| taken.iter().all(|snapshot| snapshot.name.as_str() != text);
        let snapshot = candidates.find(free).unwrap_or_default().parse()?;
        self.store.snapshot(name, &snapshot)?;
        Ok(Point::snapshot(name, &snapshot))
    }

    /// The name of a new root: the machine's and its template's, with a number if that is taken. It is
    /// nobody else's while it is held.
    fn free_name(
        &self,
        machine: &str,
        template: &EnvironmentName,
    ) -> Result<(EnvironmentName, Held), RootError> {
        let _naming = self.locks()?.naming()?;
        // What a killed command was making has its name no longer.
        self.store.recover(None)?;
        let mut number = 1_u32;
        loop {
            let text = match number {
                1 => format!("{machine}-{template}"),
                number => format!("{machine}-{template}-{number}"),
            };
            let name = text.parse()?;
            // Whoever makes a root of that name may not have cloned it yet.
            if self.is_free(&name)?
                && let Some(making) = self.locks()?.making(name.as_str())?
            {
                return Ok((name, making));
            }
            number = number.saturating_add(1);
        }
    }

    fn is_free(&self, name: &EnvironmentName) -> Result<bool, StoreError> {
        match self.store.get(name) {
            Err(StoreError::NoEnvironment(_)) => Ok(true),
            Ok(_) | Err(StoreError::Broken { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether a further clone of a snapshot costs much more than the first.
fn is_crowded(snapshot: &Snapshot) -> bool {
    snapshot.more_clones || snapshot.clones.len() >= CROWD
}

fn setting(key: &str, value: Option<&str>) -> Decision {
    Decision::Setting { key: key.to_owned(), value: value.map(str::to_owned) }
}

/// What is decided about an environment that is no machine's.
fn nobodys(role: Role) -> Vec<Decision> {
    let keys = [MACHINE, TEMPLATE, FRESH, HOLDER];
    let taken = keys.into_iter().map(|key| setting(key, None));
    taken.chain([Decision::Role(role)]).collect()
}

/// Has an environment that is a machine's root, has its data or is shared with it go with the machine's new
/// name.
pub fn rename_machine(
    store: &Store,
    environment: &Environment,
    old: &str,
    new: &str,
) -> Result<(), StoreError> {
    let is_old = |key: &&str| environment.settings.value(key) == Some(old);
    let keys = [MACHINE, HOLDER].into_iter().filter(is_old);
    let decisions: Vec<Decision> = keys.map(|key| setting(key, Some(new))).collect();
    if !decisions.is_empty() {
        store.decide(&environment.name, &decisions)?;
    }
    if environment.export.machines.iter().any(|machine| machine == old) {
        store.change_export(&environment.name, |export| {
            for machine in export.machines.iter_mut().filter(|machine| *machine == old) {
                new.clone_into(machine);
            }
        })?;
    }
    Ok(())
}

/// The machine whose data are in an environment, if it is one for that.
#[must_use]
pub fn holder(environment: &Environment) -> Option<&str> {
    let holder = environment.settings.value(HOLDER);
    holder.filter(|_| is_client(environment))
}

fn is_client(environment: &Environment) -> bool {
    environment.role == Role::Client
}

/// What has to be known of every environment to find the root that a machine keeps.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its identity.
    pub uuid: Uuid,
    /// Whose root it is, if it is a machine's.
    pub owned: Option<Owned>,
}

impl<'a> Known<'a> {
    /// What a listing tells of an environment.
    #[must_use]
    pub fn of(environment: &'a Environment) -> Self {
        let (name, owned) = (environment.name.as_str(), Owned::of(environment));
        Self { name, uuid: environment.uuid, owned }
    }
}

/// Of all environments the name of the one that a machine keeps for what it wants; see [`Roots::own`].
#[must_use]
pub fn own_among<'a>(
    all: impl IntoIterator<Item = Known<'a>>,
    machine: &str,
    wanted: &str,
) -> Option<&'a str> {
    let all: Vec<Known<'a>> = all.into_iter().collect();
    let (environment, snapshot) = parts(wanted);
    let meant = all.iter().find(|one| one.name == environment).map(|one| one.uuid);
    // A name may be another's by now: it decides only where one of the two is gone.
    let is_made_from_it = |owned: &Owned| {
        let (template, of) = parts(&owned.template);
        let origin = owned.origin.filter(|origin| all.iter().any(|one| one.uuid == *origin));
        let same = match (meant, origin) {
            (Some(meant), Some(origin)) => meant == origin,
            (None, _) | (_, None) => template == environment,
        };
        same && (snapshot.is_none() || snapshot == of)
    };
    let rank = |one: &Known<'_>| {
        let owned = one.owned.as_ref()?;
        let kept = owned.machine == machine && !owned.fresh;
        let itself = one.name == wanted;
        (kept && (itself || is_made_from_it(owned))).then_some((itself, owned.created))
    };
    let ranked = all.iter().filter_map(|one| Some((rank(one)?, one.name)));
    ranked.max_by_key(|(rank, _)| *rank).map(|(_, name)| name)
}

/// The names of an environment, and of a snapshot if one is meant.
fn parts(point: &str) -> (&str, Option<&str>) {
    point.split_once('@').map_or((point, None), |(name, snapshot)| (name, Some(snapshot)))
}

/// Why a machine has no root of its own.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A file could not be read or written.
    #[error(transparent)]
    Inside(#[from] InsideError),
    /// There is more of its configuration than any system has.
    #[error(
        "{0} has more than 4 GiB in its configuration directories: move or remove what is not configuration"
    )]
    Large(Point),
    /// The names do not make one for the clone.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No machine has it for its root.
    #[error("boot environment {0} is not a machine's root")]
    Nobodys(EnvironmentName),
    /// The lock of all roots cannot be taken.
    #[error("{}: {source}", path.display())]
    Lock {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process that reads and writes configuration, or resets an identity, failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// About so many roots are made from one snapshot. ZFS looks at all clones of a snapshot whenever that is opened
/// (dsl_dataset_stats() of OpenZFS); other stores know of none.
const CROWD: usize = 64;
/// The setting that says which machine's root an environment is.
const MACHINE: &str = "machine";
/// The setting that says what a machine's root was made from.
const TEMPLATE: &str = "template";
/// The setting that says that a root is for one boot only.
const FRESH: &str = "fresh";
/// The setting that says whose data are in an environment.
const HOLDER: &str = "data-of";
/// How the environment for a machine's data is called after it.
const DATA: &str = "data";

/// More names than any folder of configuration has.
const MAX_NAMES: usize = 16_384;

#[cfg(test)]
mod test;
