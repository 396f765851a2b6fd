//! Verbs about the roots that machines have for themselves.

use std::path::PathBuf;

use clap::Args;
use store::{Environment, EnvironmentName, Point, Role, Store, StoreError};

use super::guard::{self, Hold, Verb};
use super::{Dry, Failure, Format, Reply, Site, machine, snapshot};
use crate::boot::decide::Writers;
use crate::boot::rooted_of;
use crate::site::machine::{Machine, MachineError, MachineName, RootKind};
use provision::roots::{Owned, RootError, Roots, Term};

/// Replace a machine's own root with a new clone of its template. What the machine has written is
/// lost.
#[derive(Args, Debug)]
pub(super) struct Reset {
    /// Reset even while the machine runs from its root; the machine will fail.
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    dry: Dry,
    /// The machine.
    name: MachineName,
}

impl Reset {
    pub(super) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let own = own(site, &self.name)?;
        let (store, state) = (site.open()?, site.open_state()?);
        let roster = machine::roster(&state)?;
        // By its template's name a machine finds its newest root itself. Any other is written down.
        let found = roster.get(&self.name).is_some_and(|known| {
            known.fixed && known.machine.environment.as_deref() != Some(own.name.as_str())
        });
        if !found {
            changeable(site, &self.name)?;
        }
        let template = Roots::new(&store, state.path()).template(&own)?;
        let deeds = [
            format!("make a root for {}, a clone of {template}", self.name),
            format!("destroy {}, with all that was written to it", own.name),
        ];
        if self.dry.is_dry() {
            if !self.force {
                guard::refuse_living(site, &own.name, Verb::Reset)?;
            }
            goes(&store, &own.name)?;
        }
        if let Some(told) = self.dry.instead_of(site, &deeds) {
            return Ok(told);
        }
        let hold = Hold::begin(site, &own.name, Verb::Reset, self.force)?;
        goes(&store, &own.name)?;
        let roots = Roots::new(&store, state.path());
        let made = roots.make(self.name.as_str(), &template, Term::Kept)?;
        // From here on the machine has the new one, whatever becomes of the old.
        if !found {
            or_gone(site, &self.name, &made.name, || assign(site, &self.name, &made.name))?;
        }
        free(&store, &own.name)?;
        hold.destroy(site, &store, false)?;
        hold.end_as(&made.name)?;
        Ok(Reply::text(told(&self.name, &made.name, &made.template, &made.reset)))
    }
}

/// Tells what stands in the way of a root that is to go, before anything is made, but for clones that depend on
/// it: these are no reason to keep it ([`free`]).
fn goes(store: &Store, root: &EnvironmentName) -> Result<(), Failure> {
    match store.would_destroy(&root.clone().into()) {
        Ok(_) | Err(StoreError::Dependants { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Has nothing depend on a root that goes now: where clones depend on what they were made from, its
/// snapshots that they need become theirs.
fn free(store: &Store, root: &EnvironmentName) -> Result<(), Failure> {
    let mut promoted = Vec::new();
    loop {
        let (what, names) = match store.would_destroy(&root.clone().into()) {
            Ok(_) => return Ok(()),
            Err(StoreError::Dependants { what, names }) => (what, names),
            Err(error) => return Err(error.into()),
        };
        let Some(clone) = names.iter().find(|name| !promoted.contains(*name)) else {
            return Err(StoreError::Dependants { what, names }.into());
        };
        store.promote(clone)?;
        promoted.push(clone.clone());
    }
}

/// Copy a machine's present root to a boot environment that belongs to no machine.
#[derive(Args, Debug)]
pub(super) struct Keep {
    #[command(flatten)]
    dry: Dry,
    /// The machine.
    machine: MachineName,
    /// The new boot environment.
    name: EnvironmentName,
}

impl Keep {
    pub(super) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let done = copy(site, self.dry, &self.machine, &self.name, Role::Environment)?;
        Ok(done.err().unwrap_or_default())
    }
}

/// Make a template from a machine's present root: a copy without the machine's identity.
#[derive(Args, Debug)]
pub(super) struct Promote {
    #[command(flatten)]
    dry: Dry,
    /// The machine.
    machine: MachineName,
    /// The new template.
    name: EnvironmentName,
}

impl Promote {
    pub(super) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let done = copy(site, self.dry, &self.machine, &self.name, Role::Template)?;
        Ok(done.map_or_else(|told| told, |reset| Reply::text(list(&reset))))
    }
}

/// Show the differences between a machine's root and what it was cloned from.
///
/// The output is that of `netbe diff`.
#[derive(Args, Debug)]
pub(super) struct Diff {
    #[command(flatten)]
    format: Format,
    /// The machine.
    name: MachineName,
}

impl Diff {
    pub(super) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let root = present(site, &self.name)?;
        let (store, state) = (site.open()?, site.open_state()?);
        let template = Roots::new(&store, state.path()).template(&root)?;
        let changes = store.diff(&template, &Point::from(root.name))?;
        snapshot::differences(&changes, &self.format)
    }
}

/// Makes the root that a machine is to keep, if it lacks one, and has it boot that.
pub(super) fn prepare(site: &Site, name: &MachineName) -> Result<Reply, Failure> {
    let known = record(site, name)?;
    let (RootKind::Own, Some(wanted)) = (known.root, &known.environment) else {
        return Ok(Reply::done());
    };
    let wanted = wanted.parse().map_err(Failure::could_not)?;
    for_machine(site, name, &known, &wanted)?.write_down(site, name, |environment| {
        machine::change(site, |roster| {
            let mut machine = roster.take(name)?;
            machine.environment = Some(environment);
            roster.insert(name.clone(), machine.clone(), false)?;
            Ok((name.clone(), machine))
        })
    })
}

/// What [`prepare`] would do for a machine of which this is known, in lines.
pub(super) fn would_prepare(
    site: &Site,
    name: &MachineName,
    known: &Machine,
) -> Result<String, Failure> {
    let (RootKind::Own, Some(wanted)) = (known.root, &known.environment) else {
        return Ok(String::new());
    };
    let wanted = wanted.parse().map_err(Failure::could_not)?;
    Ok(for_machine(site, name, known, &wanted)?.told)
}

/// What a machine has to be assigned to boot what is wanted.
#[must_use]
pub(super) struct Assigned {
    environment: String,
    /// The root that was made for it, and what is told of that.
    made: Option<(EnvironmentName, Reply)>,
    /// With -n, what would be made.
    told: String,
}

impl Assigned {
    /// Nothing has to be made for it.
    const fn as_it_is(environment: String) -> Self {
        Self { environment, made: None, told: String::new() }
    }

    /// Has it written down. If it is not, a root that was made for it goes again.
    pub(super) fn write_down(
        self,
        site: &Site,
        name: &MachineName,
        write: impl FnOnce(String) -> Result<Reply, Failure>,
    ) -> Result<Reply, Failure> {
        let Some((made, reply)) = self.made else {
            let Reply { text, failures } = write(self.environment)?;
            return Ok(Reply::text(self.told + &text).but(failures));
        };
        or_gone(site, name, &made, || write(self.environment))?;
        Ok(reply)
    }
}

/// Has a root go again that was made for a machine, if what is to say so is not written down.
pub(super) fn or_gone<T>(
    site: &Site,
    name: &MachineName,
    made: &EnvironmentName,
    write: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let written = write();
    let names = |known: Machine| {
        let names = [known.environment, known.once];
        names.iter().flatten().any(|known| known == made.as_str())
    };
    // Where it cannot be told, it may have been written before something else failed.
    if written.is_err()
        && !record(site, name).map_or(true, names)
        && let Err(error) = site.open().and_then(|store| Ok(store.destroy(made)?))
    {
        tracing::warn!("{made} is left over, and no machine boots it: {}", error.message);
    }
    written
}

/// What a machine has to be assigned to boot what is wanted: that itself, or a root of its own, which
/// is made if there is none.
pub(super) fn for_machine(
    site: &Site,
    name: &MachineName,
    known: &Machine,
    wanted: &Point,
) -> Result<Assigned, Failure> {
    machine::exists(site, Some(wanted))?;
    refuse_others(site, Some(name), known.root, wanted)?;
    let text = wanted.to_string();
    if known.root != RootKind::Own {
        return Ok(Assigned::as_it_is(text));
    }
    let (store, state) = (site.open()?, site.open_state()?);
    let roots = Roots::new(&store, state.path());
    if let Some(own) = roots.own(name.as_str(), &text)? {
        return Ok(Assigned::as_it_is(own.name.to_string()));
    }
    if site.dry {
        let new = new_name(&store, name, wanted)?;
        let told = format!("would make {new}, a root for {name}: a clone of {wanted}\n");
        return Ok(Assigned { environment: new.to_string(), made: None, told });
    }
    let made = roots.make(name.as_str(), wanted, Term::Kept)?;
    // The server is told of it with what says that the machine boots it.
    let reply = Reply::text(told(name, &made.name, &made.template, &made.reset));
    let environment = made.name.to_string();
    Ok(Assigned { environment, made: Some((made.name, reply)), told: String::new() })
}

/// What a machine's new root would be called.
fn new_name(
    store: &Store,
    machine: &MachineName,
    wanted: &Point,
) -> Result<EnvironmentName, Failure> {
    let first = format!("{machine}-{}", wanted.environment);
    let mut next = (2_u32..).map(|number| format!("{first}-{number}"));
    let mut name = first.clone();
    loop {
        let parsed = name.parse().map_err(Failure::could_not)?;
        match store.would_create(&parsed) {
            Err(StoreError::Exists(_)) => name = next.next().unwrap_or_default(),
            other => return other.map(|()| parsed).map_err(Failure::from),
        }
    }
}

/// Refuses to have a machine, or every machine, boot the root of another: both would write to it, or the
/// one under the other. What it clones may be anybody's.
pub(super) fn refuse_others(
    site: &Site,
    name: Option<&MachineName>,
    root: RootKind,
    wanted: &Point,
) -> Result<(), Failure> {
    if root.is_clone() {
        return Ok(());
    }
    let owned = Owned::of(&site.open()?.get(&wanted.environment)?);
    let name = name.map(MachineName::as_str);
    owned.filter(|owned| name != Some(&owned.machine)).map_or(Ok(()), |other| {
        Err(Failure::no(format_args!(
            "{wanted} is the root of {}: copy it with `netbe machine keep`, and use the copy",
            other.machine
        )))
    })
}

/// Warns if other machines write to the root that a machine is to boot and to write to.
pub(super) fn warn_of_writers(site: &Site, name: &MachineName) -> Result<(), Failure> {
    let known = record(site, name)?;
    let Some(wanted) = known.wanted().filter(|_| !known.root.is_clone()) else { return Ok(()) };
    let environment = site.open()?.get(&wanted.parse().map_err(Failure::could_not)?)?;
    let roster = machine::roster(&site.open_state()?)?;
    let writers = Writers::of(&roster, environment.name.as_str(), environment.is_read_only());
    if let Some(several) = writers.filter(|writers| writers.has(name)) {
        tracing::warn!("{several}");
    }
    Ok(())
}

/// What is known of a machine that a command may change: not of one that stands in netbe.toml.
pub(super) fn changeable(site: &Site, name: &MachineName) -> Result<Machine, Failure> {
    Ok(machine::roster(&site.open_state()?)?.take(name)?)
}

/// Has a machine boot an environment from now on, and drops what it was to boot once.
fn assign(site: &Site, name: &MachineName, environment: &EnvironmentName) -> Result<(), Failure> {
    machine::change(site, |roster| {
        let mut machine = roster.take(name)?;
        machine.environment = Some(environment.to_string());
        machine.once = None;
        roster.insert(name.clone(), machine.clone(), false)?;
        Ok((name.clone(), machine))
    })?;
    Ok(())
}

/// Copies the root that a machine has now; gives what was reset, or with -n what is said in its place.
fn copy(
    site: &Site,
    dry: Dry,
    machine: &MachineName,
    name: &EnvironmentName,
    role: Role,
) -> Result<Result<Vec<PathBuf>, Reply>, Failure> {
    let source = present(site, machine)?;
    let (store, state) = (site.open()?, site.open_state()?);
    let nobodys = role == Role::Template;
    let source = Point::from(source.name);
    if dry.is_dry() {
        store.would_clone(&source, name)?;
    }
    let what = if nobodys { "template" } else { "boot environment" };
    let deed = format!("copy {source}, the root of {machine}, to a {what} {name}");
    if let Some(told) = dry.instead(site, deed) {
        return Ok(Err(told));
    }
    let reset = Roots::new(&store, state.path()).copy(&source, name, role, nobodys)?;
    site.reload_only(&[name])?;
    Ok(Ok(reset))
}

/// The root that a machine keeps.
pub(super) fn own(site: &Site, name: &MachineName) -> Result<Environment, Failure> {
    let machine = record(site, name)?;
    let none = || {
        Failure::no(format_args!(
            "{name} has no root of its own: give it one with `netbe sharepxe --machine {name} --root \
             own BE`"
        ))
    };
    let wanted = machine.environment.filter(|_| machine.root == RootKind::Own).ok_or_else(none)?;
    let (store, state) = (site.open()?, site.open_state()?);
    Roots::new(&store, state.path()).own(name.as_str(), &wanted)?.ok_or_else(none)
}

/// The root that a machine keeps, or that of its last boot. The newest may be one that a DISCOVER has
/// ordered, which nobody has booted.
fn present(site: &Site, name: &MachineName) -> Result<Environment, Failure> {
    if record(site, name)?.root != RootKind::Fresh {
        return own(site, name);
    }
    let (store, state) = (site.open()?, site.open_state()?);
    let fresh = Roots::new(&store, state.path()).fresh(name.as_str())?;
    let rooted = rooted_of(&state, name).map_err(Failure::could_not)?;
    let mut booted: Vec<_> = fresh.iter().filter(|root| rooted.contains(&root.uuid)).collect();
    if booted.len() > 1 {
        booted.sort_by_key(|root| root.created);
        let names: Vec<_> = booted.iter().map(|root| root.name.as_str()).collect();
        return Err(Failure::no(format_args!(
            "{name} may run on any of its roots {}: shut it down, or name the root in \
             `netbe clone` or `netbe diff`",
            names.join(", ")
        )));
    }
    let booted = booted.pop().cloned();
    let latest = booted.or_else(|| fresh.into_iter().max_by_key(|root| root.created));
    latest.ok_or_else(|| Failure::no(format_args!("{name} has not booted yet")))
}

pub(super) fn record(site: &Site, name: &MachineName) -> Result<Machine, Failure> {
    let roster = machine::roster(&site.open_state()?)?;
    let unknown = || MachineError::Unknown(name.to_string());
    Ok(roster.get(name).ok_or_else(unknown)?.machine.clone())
}

/// What was made, and what in it is not as in its template.
fn told(
    machine: &MachineName,
    name: &EnvironmentName,
    template: &Point,
    reset: &[PathBuf],
) -> String {
    format!("{machine} boots {name}, a clone of {template}\n{}", list(reset))
}

pub(super) fn list(reset: &[PathBuf]) -> String {
    reset.iter().map(|path| format!("reset {}\n", path.display())).collect()
}

impl From<RootError> for Failure {
    fn from(error: RootError) -> Self {
        match error {
            RootError::Store(error) => error.into(),
            RootError::Large(_) | RootError::Nobodys(_) => Self::no(error),
            RootError::Inside(_)
            | RootError::Lock { .. }
            | RootError::Name(_)
            | RootError::Worker(_) => Self::could_not(error),
        }
    }
}
