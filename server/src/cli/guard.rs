//! What keeps a verb from taking a tree away under a machine.

use std::io;

use store::{Environment, EnvironmentName, SnapshotName, Store, StoreError};
use uuid::Uuid;

use super::status::ago;
use super::{Failure, Site, keep, machine, site};
use crate::boot::decide::Writers;
use crate::boot::rooted_on;
use crate::control::{Client, Living, Reply as Answer, Request, Visitor};
use crate::guests::Place;
use crate::nfs::export::gone;
use crate::site::machine::{RootKind, RosterEntry};
use provision::roots::{Known, Owned, Roots, holder, own_among};

/// A verb that may take a tree away under somebody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verb {
    Boot,
    Destroy,
    Install,
    Receive,
    Rename,
    Reset,
    RollBack,
}

impl Verb {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot it",
            Self::Destroy => "destroy",
            Self::Install => "install",
            Self::Receive => "receive",
            Self::Rename => "rename",
            Self::Reset => "reset",
            Self::RollBack => "roll back",
        }
    }

    /// How a refusal ends: with the flag that overrules it, if the verb has that.
    fn or_by_force(self) -> String {
        if self == Self::Install {
            return String::new();
        }
        format!(", or {} with -f", self.as_str())
    }
}

/// An environment that the running server, if there is one, has closed.
///
/// Dropped without [`Hold::end`], as when the verb fails, the server serves it again by itself.
#[derive(Debug)]
#[must_use]
pub(super) struct Hold {
    name: EnvironmentName,
    server: Option<Client>,
    /// Its identity, if it is known, and those of the roots whose machine has its data in it.
    environments: Vec<Uuid>,
}

impl Hold {
    /// Has the running server close an environment for as long as a verb works on its tree. Without
    /// `force` that is refused while machines have their root in it, or others use it.
    pub(super) fn begin(
        site: &Site,
        name: &EnvironmentName,
        verb: Verb,
        force: bool,
    ) -> Result<Self, Failure> {
        if !force {
            refuse_contained(site, name, verb)?;
        }
        let Some(mut server) = site.server()? else {
            if !force {
                refuse_rooted(site, name, verb)?;
            }
            let known = site.open()?.get(name).ok();
            let environments = known.map(|environment| environment.uuid).into_iter().collect();
            return Ok(Self { name: name.clone(), server: None, environments });
        };
        let environment = name.to_string();
        let kept = |why: &str| {
            Failure::could_not(format_args!(
                "the running server does not stop serving {name}: {why}"
            ))
        };
        let asked = server.ask(&Request::Hold { environment, force });
        match asked.map_err(|error| kept(&error.to_string()))? {
            Answer::Held { environments } => {
                Ok(Self { name: name.clone(), server: Some(server), environments })
            }
            Answer::Living(there) => Err(living(site, name, verb, &there)),
            Answer::Failed { message } => Err(kept(&message)),
            Answer::Done
            | Answer::Event(_)
            | Answer::Explanation(_)
            | Answer::Reconfigured { .. }
            | Answer::Status(_) => Err(kept("it gave an unexpected answer")),
        }
    }

    /// Destroys the environment, and notes that it is gone: of all that is not in the store only that is
    /// stale for whoever used it. With `force` that is noted too of what the store does not have any
    /// more, if the server knows what that was or its identity is given for its name.
    pub(super) fn destroy(&self, site: &Site, store: &Store, force: bool) -> Result<(), Failure> {
        let uuid = self.name.as_str().parse::<Uuid>().ok();
        let gone = match store.destroy(&self.name) {
            Ok(()) => self.environments.first().copied(),
            Err(StoreError::NoEnvironment(name)) if force => {
                let known = self.environments.first().copied().or(uuid);
                Some(known.ok_or(StoreError::NoEnvironment(name))?)
            }
            Err(error) => return Err(error.into()),
        };
        gone.map_or(Ok(()), |environment| {
            let state = site.open_state()?;
            gone::remember(&state, environment, self.name.as_str()).map_err(Failure::could_not)
        })
    }

    /// Has the server serve what is there now.
    pub(super) fn end(self) -> Result<(), Failure> {
        let name = self.name.clone();
        self.end_as(&name)
    }

    /// Has the server serve what is there now by another name.
    pub(super) fn end_as(self, name: &EnvironmentName) -> Result<(), Failure> {
        self.server.map_or(Ok(()), |server| site::reload(server, Some(&[&self.name, name])))
    }
}

/// Refuses a verb while machines have their root in an environment, or others use it.
pub(super) fn refuse_living(
    site: &Site,
    name: &EnvironmentName,
    verb: Verb,
) -> Result<(), Failure> {
    refuse_contained(site, name, verb)?;
    refuse_served(site, name, verb)
}

/// Refuses a verb while machines have their root in an environment, or others use it, as far as the server knows,
/// or the last one noted: that knows nothing of guests that have its directory as their root.
pub(super) fn refuse_served(
    site: &Site,
    name: &EnvironmentName,
    verb: Verb,
) -> Result<(), Failure> {
    let Some(mut server) = site.server()? else { return refuse_rooted(site, name, verb) };
    let environment = name.to_string();
    let asked: io::Result<Answer> = server.ask(&Request::Living { environment });
    match asked.map_err(|error| unknown(name, verb, &error.to_string()))? {
        Answer::Living(there) if there.is_nobody() => Ok(()),
        Answer::Living(there) => Err(living(site, name, verb, &there)),
        Answer::Failed { message } => Err(unknown(name, verb, &message)),
        Answer::Done
        | Answer::Held { .. }
        | Answer::Event(_)
        | Answer::Reconfigured { .. }
        | Answer::Explanation(_)
        | Answer::Status(_) => Err(unknown(name, verb, "it gave an unexpected answer")),
    }
}

/// Refuses a verb while a guest of this host has an environment's directory as its root: a container, a jail, or a
/// virtual machine by 9p or virtiofs.
pub(super) fn refuse_contained(
    site: &Site,
    name: &EnvironmentName,
    verb: Verb,
) -> Result<(), Failure> {
    for guest in Place::names(site.state()).map_err(Failure::could_not)? {
        let place = Place::of(site.state(), &guest);
        let record = place
            .record()
            .filter(|record| record.is_in_store() && record.environment == name.as_str());
        let Some(record) = record else { continue };
        let is_kept = !record.stage.is_over() && place.claimed().is_ok_and(|pid| pid.is_some());
        if is_kept || keep::runs(&guest, &place).is_some() {
            let root_by = record.root_by;
            let by = if root_by.is_of_host() { format!(" and {root_by}") } else { String::new() };
            return Err(Failure::no(format_args!(
                "{guest} runs from {name}, by {}{by}: stop it with `netbe stop {guest}`{}",
                record.run,
                verb.or_by_force()
            )));
        }
    }
    Ok(())
}

/// Refuses to boot one more system with the root of a machine that runs, by one of its titles, as far as the server
/// knows. Where no server runs, no machine gets its root over NFS.
pub(super) fn refuse_running(
    site: &Site,
    name: &EnvironmentName,
    titles: &[String],
) -> Result<(), Failure> {
    let Some(mut server) = site.server()? else { return Ok(()) };
    let asked: io::Result<Answer> = server.ask(&Request::Living { environment: name.to_string() });
    match asked.map_err(|error| unknown(name, Verb::Boot, &error.to_string()))? {
        Answer::Living(there) => running(name, titles, &there).map_or(Ok(()), Err),
        Answer::Failed { message } => Err(unknown(name, Verb::Boot, &message)),
        Answer::Done
        | Answer::Held { .. }
        | Answer::Event(_)
        | Answer::Reconfigured { .. }
        | Answer::Explanation(_)
        | Answer::Status(_) => Err(unknown(name, Verb::Boot, "it gave an unexpected answer")),
    }
}

/// Refuses a guest that is to write to a directory of this host to which machines other than it are to write too. It
/// is the machine that has one of these titles.
pub(super) fn refuse_writers(
    site: &Site,
    environment: &Environment,
    titles: &[String],
) -> Result<(), Failure> {
    let roster = machine::roster(&site.open_state()?)?;
    let (name, read_only) = (environment.name.as_str(), environment.is_read_only());
    let others = Writers::besides(&roster, name, read_only, titles);
    others.map_or(Ok(()), |writers| Err(Failure::no(writers)))
}

/// Whether nobody lives on an environment but a machine with one of these titles, and nobody else uses it over NFS.
pub(super) fn is_alone(
    site: &Site,
    name: &EnvironmentName,
    titles: &[String],
) -> Result<bool, Failure> {
    let Some(mut server) = site.server()? else { return Ok(true) };
    let asked: io::Result<Answer> = server.ask(&Request::Living { environment: name.to_string() });
    Ok(matches!(asked, Ok(Answer::Living(there))
        if there.visitors.is_empty()
            && there.machines.iter().all(|machine| titles.contains(machine))))
}

/// Why a machine is not to be booted once more, if one of those that live there has one of the titles.
fn running(name: &EnvironmentName, titles: &[String], there: &Living) -> Option<Failure> {
    let machine = there.machines.iter().find(|machine| titles.contains(machine))?;
    Some(Failure::no(format_args!(
        "{machine} already runs from {name}: shut it down{}",
        Verb::Boot.or_by_force()
    )))
}

/// Refuses to destroy what machines are to boot.
pub(super) fn refuse_assigned(site: &Site, name: &EnvironmentName) -> Result<(), Failure> {
    if !site.state().exists() {
        return Ok(());
    }
    let store = site.open()?;
    let roster = machine::roster(&site.open_state()?)?;
    if let Ok(environment) = store.get(name)
        && let Some(holder) = holder(&environment)
        && roster.iter().any(|(machine, _)| machine.as_str() == holder)
    {
        return Err(Failure::no(format_args!(
            "{name} contains the data of {holder}: destroy with -f if nobody needs the data any more"
        )));
    }
    let listed = store.list()?.environments;
    let mut assigned = Vec::new();
    for (machine, RosterEntry { machine: known, .. }) in roster.iter() {
        // A machine of netbe.toml has its template's name for what it boots.
        let wanted = known.environment.as_deref().filter(|_| known.root == RootKind::Own);
        let own = wanted
            .and_then(|wanted| own_among(listed.iter().map(Known::of), machine.as_str(), wanted));
        if known.is_assigned(name.as_str()) || own == Some(name.as_str()) {
            assigned.push(machine.to_string());
        }
    }
    if !assigned.is_empty() {
        return Err(Failure::no(format_args!(
            "{} {} {name}: assign another with `netbe sharepxe`, or destroy with -f",
            assigned.join(", "),
            if assigned.len() == 1 { "boots" } else { "boot" },
        )));
    }
    if roster.default_environment() == Some(name.as_str()) {
        return Err(Failure::no(format_args!(
            "{name} is the default environment: set another with `netbe sharepxe --default`, or \
             destroy with -f"
        )));
    }
    Ok(())
}

/// Refuses to take away what machines' roots were made from: they could then be neither reset nor
/// upgraded. `gone` says whether the snapshot of the environment goes that one was made from.
///
/// Where clones depend on their snapshots the store itself refuses.
pub(super) fn refuse_needed(
    site: &Site,
    name: &EnvironmentName,
    verb: Verb,
    gone: impl Fn(Option<&SnapshotName>) -> bool,
) -> Result<(), Failure> {
    let store = site.open()?;
    if store.capabilities().clones_depend || !site.state().exists() {
        return Ok(());
    }
    let state = site.open_state()?;
    let (roster, roots) = (machine::roster(&state)?, Roots::new(&store, state.path()));
    for root in store.list()?.environments {
        let Some(Owned { machine, fresh: false, .. }) = Owned::of(&root) else { continue };
        if root.name == *name || !roster.iter().any(|(known, _)| known.as_str() == machine) {
            continue;
        }
        let template = roots.template(&root)?;
        if template.environment == *name && gone(template.snapshot.as_ref()) {
            return Err(Failure::no(format_args!(
                "{} was cloned from {template}: without {template}, {machine} can be neither reset nor \
                 upgraded; {} with -f if nobody needs it",
                root.name,
                verb.as_str()
            )));
        }
    }
    Ok(())
}

/// Refuses to destroy the base of a thin template while it has skeletons: jails see them as one tree.
pub(super) fn refuse_base(site: &Site, name: &EnvironmentName) -> Result<(), Failure> {
    // What is no half of a pair has no skeletons.
    let Ok(pair) = site.open()?.pair(name) else { return Ok(()) };
    if pair.base.name != *name || pair.skeletons.is_empty() {
        return Ok(());
    }
    let skeletons: Vec<_> = pair.skeletons.iter().map(|one| one.name.as_str()).collect();
    Err(Failure::no(format_args!(
        "{name} is the base of {}: destroy those first, or destroy with -f",
        skeletons.join(", ")
    )))
}

/// Refuses while machines may be running from an environment, as far as the last server noted.
fn refuse_rooted(site: &Site, name: &EnvironmentName, verb: Verb) -> Result<(), Failure> {
    if !site.state().exists() {
        return Ok(());
    }
    let store = site.open()?;
    let environment = match store.get(name) {
        Ok(environment) => environment,
        // Nobody can have booted what nobody could read.
        Err(StoreError::Broken { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let state = site.open_state()?;
    let roots = Roots::new(&store, state.path()).needing(&environment)?;
    let machines = rooted_on(&state, &roots).map_err(Failure::could_not)?;
    if machines.is_empty() {
        return Ok(());
    }
    let (all, them) = (machines.join(", "), them(machines.len()));
    let ran = match holder(&environment) {
        None => format!("{all} ran from {name} when the server ended, and may still run"),
        Some(_) => format!("{name} has the data of {all} in it, which ran when the server ended"),
    };
    Err(Failure::no(format_args!("{ran}: shut {them} down{}", verb.or_by_force())))
}

fn living(site: &Site, name: &EnvironmentName, verb: Verb, there: &Living) -> Failure {
    let Living { machines, visitors } = there;
    // What it is for cannot always be read; that machines live on it is enough to know.
    let environment = site.open().ok().and_then(|store| store.get(name).ok());
    let held = environment.as_ref().and_then(holder).is_some();
    let all = machines.join(", ");
    let run = if machines.len() == 1 { "runs" } else { "run" };
    let lives = match (machines.as_slice(), held) {
        ([], _) => None,
        (_, false) => Some(format!("{all} {run} from {name}")),
        (_, true) => Some(format!("{name} has the data of {all} in it")),
    };
    let used =
        (!visitors.is_empty()).then(|| format!("{name} is used over NFS by {}", listed(visitors)));
    let off = lives.is_some().then(|| format!("shut {} down", them(machines.len())));
    let unmount = used.is_some().then(|| "unmount it there".to_owned());
    let why: Vec<_> = lives.into_iter().chain(used).collect();
    let what: Vec<_> = off.into_iter().chain(unmount).collect();
    let (why, what) = (why.join(", and "), what.join(" and "));
    Failure::no(format_args!("{why}: {what}{}", verb.or_by_force()))
}

/// The pronoun for so many machines.
const fn them(machines: usize) -> &'static str {
    if machines == 1 { "it" } else { "them" }
}

/// Who uses an environment and was heard of when, the latest first.
fn listed(visitors: &[Visitor]) -> String {
    let shown = visitors.iter().take(VISITORS);
    let shown = shown.map(|visitor| format!("{}, last seen {}", visitor.name, ago(visitor.seen)));
    let shown = shown.collect::<Vec<_>>().join("; ");
    match visitors.len().saturating_sub(VISITORS) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

fn unknown(name: &EnvironmentName, verb: Verb, why: &str) -> Failure {
    Failure::could_not(format_args!(
        "the running server does not say which machines live on {name}: {why}; stop it{}",
        verb.or_by_force()
    ))
}

/// How many that use an environment are named.
const VISITORS: usize = 4;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_machine_that_runs_is_not_booted_once_more() {
        let name: EnvironmentName = "base".parse().unwrap();
        let there = Living { machines: vec!["desk".to_owned()], visitors: Vec::new() };
        let titled = |titles: &[&str]| {
            let titles: Vec<_> = titles.iter().map(|&title| title.to_owned()).collect();
            running(&name, &titles, &there).map(|failure| failure.message)
        };
        let why = "desk already runs from base: shut it down, or boot it with -f";
        assert_eq!(titled(&["desk", "52:54:00:12:34:56"]).as_deref(), Some(why));
        assert_eq!(titled(&["web1", "52:54:00:12:34:57"]), None);
    }
}
