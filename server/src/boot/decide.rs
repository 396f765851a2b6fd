//! Which boot environment is a machine's root, and whether it may write there: a table without files,
//! clocks or locks. Boots, machines that are started by hand, and commands read it alike.

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
