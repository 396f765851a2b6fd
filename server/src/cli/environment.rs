//! Verbs that make, rename and destroy boot environments.

use clap::Args;
use serde::Serialize;
use store::{Decision, EnvironmentName, KEPT_KEYS, Layout, Point, Role, Store};

use super::guard::{self, Hold, Verb};
use super::{Failure, Format, Reply, Site, Table, machine, root};
use crate::site::machine::{RenameError, rename};
use provision::roots::Roots;

/// Create a boot environment: an empty one, or a clone of another with -e.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// The data sets below its root: flat, freebsd or linux.
    #[arg(short, long, value_name = "LAYOUT", default_value = "flat", conflicts_with = "existing")]
    layout: Layout,
    /// Clone this boot environment or snapshot.
    #[arg(short, long, value_name = "BE[@SNAP]")]
    existing: Option<Point>,
    /// The new boot environment.
    name: EnvironmentName,
}

impl Create {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        match &self.existing {
            Some(source) => site.open()?.clone_environment(source, &self.name)?,
            None => site.establish()?.create(&self.name, self.layout)?,
        };
        site.reload_only(&[&self.name])?;
        Ok(Reply::done())
    }
}

/// Clone a boot environment or a snapshot; blocks are shared where the store can.
#[derive(Args, Debug)]
pub(crate) struct Clone {
    /// The boot environment or snapshot to clone.
    #[arg(value_name = "BE[@SNAP]")]
    source: Point,
    /// Remove what tells a system from others: host keys, machine-id, hostid, seeds of randomness.
    #[arg(long)]
    reset_identity: bool,
    /// The new boot environment.
    name: EnvironmentName,
}

impl Clone {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let reply = if self.reset_identity {
            let state = site.open_state()?;
            let roots = Roots::new(&store, state.path());
            let reset = roots.copy(&self.source, &self.name, Role::Environment, true)?;
            Reply::text(root::list(&reset))
        } else {
            store.clone_environment(&self.source, &self.name)?;
            Reply::done()
        };
        site.reload_only(&[&self.name])?;
        Ok(reply)
    }
}

/// Rename a boot environment. Machines that boot it boot it by its new name.
#[derive(Args, Debug)]
pub(crate) struct Rename {
    /// Even while machines run from it.
    #[arg(short, long)]
    force: bool,
    /// The boot environment.
    name: EnvironmentName,
    /// Its new name.
    new: EnvironmentName,
}

impl Rename {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let hold = Hold::begin(site, &self.name, Verb::Rename, self.force)?;
        let state = site.open_state()?;
        let alone = state.hold().map_err(Failure::could_not)?;
        let roster = machine::roster(&state)?;
        let assigned =
            roster.iter().filter(|(_, entry)| entry.machine.is_assigned(self.name.as_str()));
        let fixed = assigned.filter(|(_, entry)| entry.fixed).map(|(machine, _)| machine).next();
        if let (Some(machine), false) = (fixed, self.force) {
            return Err(Failure::no(format_args!(
                "netbe.toml says that {machine} boots {}: change it there too, and rename with -f",
                self.name
            )));
        }
        let renamed = rename(&state, &site.location(), &store, &self.name, &self.new);
        renamed.map_err(|error| match error {
            RenameError::Machine(error) => error.into(),
            RenameError::State(error) => Failure::could_not(error),
            RenameError::Store(error) => error.into(),
        })?;
        drop(alone);
        hold.end_as(&self.new)?;
        Ok(Reply::done())
    }
}

/// Make a clone independent of what it was cloned from, which then depends on it.
#[derive(Args, Debug)]
pub(crate) struct Promote {
    /// The clone.
    name: EnvironmentName,
}

impl Promote {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        site.open()?.promote(&self.name)?;
        site.reload()?;
        Ok(Reply::done())
    }
}

/// Destroy a boot environment with everything in it and all its snapshots, or one snapshot.
#[derive(Args, Debug)]
pub(crate) struct Destroy {
    /// Even while machines run from it, which will fail, are to boot it, or have roots that were made
    /// from it, or while it is the base of skeletons.
    #[arg(short, long)]
    force: bool,
    /// Only say what would be destroyed, or why it would be refused; with -f, in spite of what.
    #[arg(short = 'n')]
    dry: bool,
    /// The boot environment or snapshot to destroy.
    #[arg(value_name = "BE[@SNAP]")]
    point: Point,
}

impl Destroy {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let name = &self.point.environment;
        if let Some(snapshot) = &self.point.snapshot {
            let needed =
                guard::refuse_needed(site, name, Verb::Destroy, |made| made == Some(snapshot));
            if self.dry {
                return self.tell(&store, [needed]);
            }
            if !self.force {
                needed?;
            }
            store.destroy_snapshot(name, snapshot)?;
            return Ok(Reply::done());
        }
        if self.dry {
            let living = guard::refuse_living(site, name, Verb::Destroy);
            return self.tell(&store, [living].into_iter().chain(self.needed(site)));
        }
        let hold = Hold::begin(site, name, Verb::Destroy, self.force)?;
        if !self.force {
            self.needed(site).into_iter().collect::<Result<(), _>>()?;
        }
        hold.destroy(site, &store, self.force)?;
        hold.end()?;
        Ok(Reply::done())
    }

    /// Whether machines are to boot it, or jails see it as their root, or roots were made from it.
    fn needed(&self, site: &Site) -> [Result<(), Failure>; 3] {
        let name = &self.point.environment;
        [
            guard::refuse_assigned(site, name),
            guard::refuse_base(site, name),
            guard::refuse_needed(site, name, Verb::Destroy, |_| true),
        ]
    }

    /// Says what would go, in zfs-destroy(8)'s words, and what -f overrules.
    fn tell(
        &self,
        store: &Store,
        checks: impl IntoIterator<Item = Result<(), Failure>>,
    ) -> Result<Reply, Failure> {
        let mut overruled = String::new();
        for check in checks {
            match check {
                Err(Failure { message, .. }) if self.force => {
                    overruled += &format!("although {message}\n");
                }
                checked => checked?,
            }
        }
        let doomed = store.would_destroy(&self.point)?;
        let lines: String = doomed.iter().map(|point| format!("would destroy {point}\n")).collect();
        Ok(Reply::text(lines + &overruled))
    }
}

/// Write down what a boot environment is for, and what else is known of it.
///
/// `role=be|template|client|off` says what it is for: what came from another host is off until it is
/// said here. `data=usr/home` marks a data set as the machine's, `system=usr/home` as the system's.
/// Any other name is free: `release=14.3`; without a value it is taken away. Of several settings all
/// are written, or none where one is refused.
#[derive(Args, Debug)]
pub(crate) struct Set {
    /// A setting, as in role=template; may be repeated.
    #[arg(required = true, value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// The boot environment.
    #[arg(value_name = "BE")]
    name: EnvironmentName,
}

impl Set {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let decisions = self.settings.iter().map(|(key, value)| {
            Ok(match key.as_str() {
                "role" => Decision::Role(value.parse().map_err(Failure::could_not)?),
                "data" | "system" => Decision::Data { dataset: value.clone(), data: key == "data" },
                kept if KEPT_KEYS.contains(&kept) => {
                    return Err(Failure::could_not(format!(
                        "{kept} is written by netbe itself, which goes by it: `netbe sharepxe`, \
                         `netbe machine` and `netbe install` change what it says"
                    )));
                }
                _ => {
                    let value = Some(value.clone()).filter(|value| !value.is_empty());
                    Decision::Setting { key: key.clone(), value }
                }
            })
        });
        let decisions = decisions.collect::<Result<Vec<_>, Failure>>()?;
        site.open()?.decide(&self.name, &decisions)?;
        site.reload_only(&[&self.name])?;
        Ok(Reply::done())
    }
}

/// Show what `netbe set` has written down about a boot environment.
///
/// What a property is called here, `netbe set` calls it too; `data` has a line for each data set that
/// stays with the machine.
#[derive(Args, Debug)]
#[command(allow_missing_positional = true)]
pub(crate) struct Get {
    #[command(flatten)]
    format: Format,
    /// What is wanted, as in role or role,release; all, if nothing is said.
    property: Option<String>,
    /// The boot environment.
    #[arg(value_name = "BE")]
    name: EnvironmentName,
}

impl Get {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let environment = site.open()?.get(&self.name)?;
        let mut known = vec![Property::of(&self.name, "role", environment.role.as_str())];
        let data = environment.datasets.iter().filter(|set| set.mounted() && set.data());
        known.extend(data.map(|set| Property::of(&self.name, "data", set.path())));
        let settings = environment.settings.iter();
        known.extend(settings.map(|(key, value)| Property::of(&self.name, key, value)));
        if let Some(wanted) = self.property.as_deref().filter(|wanted| *wanted != "all") {
            let wanted: Vec<&str> = wanted.split(',').collect();
            let unknown = |wanted: &&&str| !known.iter().any(|known| known.property == **wanted);
            if let Some(unknown) = wanted.iter().find(unknown) {
                return Err(Failure::no(format_args!(
                    "{0} has no {unknown}: `netbe get {0}` shows what it has",
                    self.name
                )));
            }
            known.retain(|known| wanted.contains(&known.property.as_str()));
        }
        self.format.reply(&known, |known| {
            let mut table = Table::new(&["NAME", "PROPERTY", "VALUE"]);
            for Property { name, property, value } in known {
                table.row([name.clone(), property.clone(), value.clone()]);
            }
            table
        })
    }
}

/// What is written down about a boot environment, as it is shown.
#[derive(Serialize)]
struct Property {
    name: String,
    property: String,
    value: String,
}

impl Property {
    fn of(name: &EnvironmentName, property: &str, value: &str) -> Self {
        let (name, property, value) = (name.to_string(), property.to_owned(), value.to_owned());
        Self { name, property, value }
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write NAME=VALUE, as in role=template")?;
    Ok((key.to_owned(), value.to_owned()))
}
