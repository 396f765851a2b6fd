//! Which boot environment is a machine's root, and whether it may write there: a table without files,
//! clocks or locks. Boots, machines that are started by hand, and commands read it alike.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::plan::NoPlan;
use crate::site::machine::{Machine, MachineName, RootKind, Roster, environment_in};
use provision::roots::Owned;

/// A root that is to be made for a machine.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Awaited {
    /// The environment or snapshot that it will be a clone of.
    pub template: String,
    /// Whether it is for this boot only.
    pub fresh: bool,
}

/// The environment or snapshot that a machine is to boot, by name, and whether it is the default one.
///
/// # Errors
///
/// Nothing is assigned, and there is no default.
pub fn environment_of<'a>(
    roster: &'a Roster,
    machine: Option<(&MachineName, &'a Machine)>,
) -> Result<(&'a str, bool), NoPlan> {
    if let Some(environment) = machine.and_then(|(_, machine)| machine.wanted()) {
        return Ok((environment, false));
    }
    let default = roster.default_environment().map(|environment| (environment, true));
    default.ok_or_else(|| match machine {
        Some((name, _)) => NoPlan::Unassigned(name.clone()),
        None => NoPlan::Unknown,
    })
}

/// The environment to look into for a machine that is to boot `wanted`: its own clone where it keeps
/// one, else what that will be a clone of.
pub fn source<'a>(
    machine: Option<(&MachineName, &Machine)>,
    wanted: &'a str,
    own: impl FnOnce(&MachineName) -> Option<&'a str>,
) -> &'a str {
    let own = machine.and_then(|(name, machine)| match machine.root {
        RootKind::Own => own(name),
        RootKind::Direct | RootKind::Fresh | RootKind::Shared => None,
    });
    own.unwrap_or_else(|| environment_in(wanted))
}

/// The root that a machine still lacks: it is one to have a clone, and this environment, owned by
/// `owned`, is none of its own.
#[must_use]
pub fn awaited(
    machine: Option<(&MachineName, &Machine)>,
    environment: &str,
    owned: Option<&Owned>,
) -> Option<Awaited> {
    let (name, machine) = machine?;
    let fresh = machine.root == RootKind::Fresh;
    let is_there =
        owned.is_some_and(|owned| owned.machine == name.as_str() && owned.fresh == fresh);
    let template = machine.wanted().unwrap_or(environment).to_owned();
    (machine.root.is_clone() && !is_there).then_some(Awaited { template, fresh })
}

/// Whether a machine gets its root read-only: `by_default` if it boots the site's default, which is
/// shared by machines, as a clone is not; `environment` if nobody may write to the environment.
#[must_use]
pub fn is_read_only(machine: Option<&Machine>, by_default: bool, environment: bool) -> bool {
    environment
        || match machine.map(|machine| (machine.root, machine.read_only)) {
            None => by_default,
            Some((RootKind::Direct, read_only)) => read_only || by_default,
            Some((RootKind::Fresh | RootKind::Own, read_only)) => read_only,
            Some((RootKind::Shared, _)) => true,
        }
}

/// Machines that have one and the same root, and write to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Writers<'a> {
    environment: &'a str,
    machines: Vec<&'a MachineName>,
}

impl<'a> Writers<'a> {
    /// The machines that are to boot an environment itself and write to it, if they are several; `read_only`
    /// if nobody may write to the environment.
    #[must_use]
    pub fn of(roster: &'a Roster, environment: &'a str, read_only: bool) -> Option<Self> {
        let all = Self::all(roster, environment, read_only);
        (all.machines.len() > 1).then_some(all)
    }

    /// The same, if there are others than a guest that is to write to it too, the machine with one of these titles
    /// or none.
    #[must_use]
    pub fn besides(
        roster: &'a Roster,
        environment: &'a str,
        read_only: bool,
        titles: &[String],
    ) -> Option<Self> {
        let all = Self::all(roster, environment, read_only);
        let is_it = |machine: &&MachineName| titles.iter().any(|title| title == machine.as_str());
        (!all.machines.iter().all(is_it)).then_some(all)
    }

    fn all(roster: &'a Roster, environment: &'a str, read_only: bool) -> Self {
        let machines = roster.iter().filter(|(_, entry)| {
            let machine = &entry.machine;
            !machine.root.is_clone()
                && !is_read_only(Some(machine), false, read_only)
                && machine.is_assigned(environment)
        });
        Self { environment, machines: machines.map(|(name, _)| name).collect() }
    }

    /// Whether a machine is one of them.
    #[must_use]
    pub fn has(&self, machine: &MachineName) -> bool {
        self.machines.contains(&machine)
    }
}

impl fmt::Display for Writers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { environment, machines } = self;
        if let [only] = machines.as_slice() {
            return write!(
                f,
                "{only} writes to {environment} too, and both destroy each other's files: give {only} a clone \
                 with `netbe sharepxe --machine {only} --root own {environment}`, or make its root read-only \
                 with --root shared"
            );
        }
        let named: Vec<_> = machines.iter().take(NAMED).map(|name| name.as_str()).collect();
        write!(f, "{}", named.join(", "))?;
        match machines.len().saturating_sub(NAMED) {
            0 => {}
            more => write!(f, " and {more} more")?,
        }
        write!(
            f,
            " write to one root, {environment}, and destroy each other's files: give each a clone with \
             `netbe sharepxe --machine NAME --root own {environment}`, or make the root read-only for all \
             with --root shared"
        )
    }
}

/// How many machines are named that write to one root.
const NAMED: usize = 4;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_root_is_read_only_by_this_table() {
        use RootKind::{Direct, Fresh, Own, Shared};
        for (root, read_only, by_default, expected) in [
            (Direct, false, false, false),
            (Direct, false, true, true),
            (Direct, true, false, true),
            (Shared, false, false, true),
            (Own, false, true, false),
            (Own, true, false, true),
            (Fresh, false, true, false),
            (Fresh, true, true, true),
        ] {
            let machine = Machine { root, read_only, ..Machine::default() };
            let decided = is_read_only(Some(&machine), by_default, false);
            assert_eq!(decided, expected, "{root} {read_only} {by_default}");
            assert!(is_read_only(Some(&machine), by_default, true));
        }
        assert!(is_read_only(None, true, false));
        assert!(!is_read_only(None, false, false));
    }

    #[test]
    fn several_machines_that_write_to_one_root_are_told() {
        let machine = |root, read_only, environment: &str| Machine {
            root,
            read_only,
            environment: Some(environment.to_owned()),
            ..Machine::default()
        };
        let mut roster = Roster::default();
        let mut add = |name: &str, machine| {
            roster.insert(name.parse().unwrap(), machine, false).unwrap();
            Writers::of(&roster, "base", false).map(|writers| writers.to_string())
        };
        assert_eq!(add("a", machine(RootKind::Direct, false, "base")), None);
        assert_eq!(add("b", machine(RootKind::Shared, false, "base")), None);
        assert_eq!(add("c", machine(RootKind::Direct, true, "base")), None);
        assert_eq!(add("d", machine(RootKind::Own, false, "base")), None);
        assert_eq!(add("e", machine(RootKind::Direct, false, "other")), None);
        let told = add("f", machine(RootKind::Direct, false, "base")).unwrap();
        assert!(told.starts_with("a, f write to one root, base, and"), "{told}");
        for name in ["g", "h", "i"] {
            add(name, machine(RootKind::Direct, false, "base"));
        }
        let writers = Writers::of(&roster, "base", false).unwrap();
        assert!(writers.to_string().starts_with("a, f, g, h and 1 more write to one root"));
        assert!(writers.has(&"i".parse().unwrap()) && !writers.has(&"b".parse().unwrap()));
        assert_eq!(Writers::of(&roster, "base", true), None);
    }

    #[test]
    fn one_machine_that_writes_to_the_root_of_a_guest_is_told() {
        let (mut roster, environment) = (Roster::default(), Some("base".to_owned()));
        let machine = Machine { environment, ..Machine::default() };
        roster.insert("a".parse().unwrap(), machine.clone(), false).unwrap();
        let besides = |roster: &Roster, title: &str, read_only| {
            let titles = [title.to_owned(), "02:00:00:00:00:01".to_owned()];
            let writers = Writers::besides(roster, "base", read_only, &titles);
            writers.map(|writers| writers.to_string())
        };
        assert_eq!(besides(&roster, "a", false), None);
        assert_eq!(besides(&roster, "z", true), None);
        let told = besides(&roster, "z", false).unwrap();
        assert!(told.starts_with("a writes to base too, and"), "{told}");
        roster.insert("b".parse().unwrap(), machine, false).unwrap();
        let told = besides(&roster, "a", false).unwrap();
        assert!(told.starts_with("a, b write to one root, base, and"), "{told}");
    }

    #[test]
    fn the_environment_to_look_into_is_the_clone_that_a_machine_keeps() {
        let name: MachineName = "web1".parse().unwrap();
        let machine = |root| Machine { root, ..Machine::default() };
        for (root, own, expected) in [
            (RootKind::Own, Some("web1-base"), "web1-base"),
            (RootKind::Own, None, "base"),
            (RootKind::Fresh, Some("web1-base"), "base"),
            (RootKind::Direct, Some("web1-base"), "base"),
        ] {
            let machine = machine(root);
            assert_eq!(source(Some((&name, &machine)), "base@monday", |_| own), expected, "{root}");
        }
        assert_eq!(source(None, "base", |_| Some("other")), "base");
    }
}
