//! Verbs that make, rename and destroy boot environments.

use clap::Args;
use store::{EnvironmentName, Layout, Point, Role, Store, StoreError};

use super::guard::{self, Hold, Verb};
use super::{Dry, Failure, Reply, Site, machine, root};
use crate::site::machine::{MachineName, RenameError, Roster, RosterEntry, rename};
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
    #[command(flatten)]
    dry: Dry,
    /// The new boot environment.
    name: EnvironmentName,
}

impl Create {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        if self.dry.is_dry() {
            self.check(site)?;
        }
        let deed = match &self.existing {
            Some(source) => format!("clone {source} as {}", self.name),
            None => format!("create {} with the layout {}", self.name, self.layout.as_str()),
        };
        if let Some(told) = self.dry.instead(site, deed) {
            return Ok(told);
        }
        match &self.existing {
            Some(source) => site.open()?.clone_environment(source, &self.name)?,
            None => site.establish()?.create(&self.name, self.layout)?,
        };
        site.reload_only(&[&self.name])?;
        Ok(Reply::done())
    }

    fn check(&self, site: &Site) -> Result<(), Failure> {
        match (Store::open(&site.location(), site.state()), &self.existing) {
            (Ok(store), Some(source)) => store.would_clone(source, &self.name)?,
            (Ok(store), None) => store.would_create(&self.name)?,
            // The first environment comes with its store.
            (Err(StoreError::Missing(_)), None) => {}
            (Err(error), _) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Clone a boot environment or a snapshot. Clones share blocks if the file system can.
#[derive(Args, Debug)]
pub(crate) struct Clone {
    /// The boot environment or snapshot to clone.
    #[arg(value_name = "BE[@SNAP]")]
    source: Point,
    /// Remove the system's identity: SSH host keys, machine-id, hostid, random seeds.
    #[arg(long)]
    reset_identity: bool,
    #[command(flatten)]
    dry: Dry,
    /// The new boot environment.
    name: EnvironmentName,
}

impl Clone {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        if self.dry.is_dry() {
            store.would_clone(&self.source, &self.name)?;
        }
        let as_what = if self.reset_identity { ", without its identity" } else { "" };
        let deed = format!("clone {} as {}{as_what}", self.source, self.name);
        if let Some(told) = self.dry.instead(site, deed) {
            return Ok(told);
        }
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

/// Rename a boot environment. Machines that boot it follow to its new name.
#[derive(Args, Debug)]
pub(crate) struct Rename {
    /// Rename even while machines run from it.
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    dry: Dry,
    /// The boot environment.
    name: EnvironmentName,
    /// Its new name.
    new: EnvironmentName,
}

impl Rename {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        if self.dry.is_dry() {
            if !self.force {
                guard::refuse_living(site, &self.name, Verb::Rename)?;
            }
            store.would_rename(&self.name, &self.new)?;
            let roster = machine::roster(&site.open_state()?)?;
            self.refuse_fixed(&roster)?;
            return Ok(self.dry.instead_of(site, &self.deeds(&roster)).unwrap_or_default());
        }
        let hold = Hold::begin(site, &self.name, Verb::Rename, self.force)?;
        let state = site.open_state()?;
        let alone = state.hold().map_err(Failure::could_not)?;
        let roster = machine::roster(&state)?;
        self.refuse_fixed(&roster)?;
        // It is said with -v.
        let _ = self.dry.instead_of(site, &self.deeds(&roster));
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

    /// The machines that boot it.
    fn assigned<'a>(
        &'a self,
        roster: &'a Roster,
    ) -> impl Iterator<Item = (&'a MachineName, &'a RosterEntry)> {
        roster.iter().filter(|(_, entry)| entry.machine.is_assigned(self.name.as_str()))
    }

    fn deeds(&self, roster: &Roster) -> Vec<String> {
        let follow = self.assigned(roster).filter(|(_, entry)| !entry.fixed);
        let follow = follow.map(|(machine, _)| format!("have {machine} boot {}", self.new));
        std::iter::once(format!("rename {} to {}", self.name, self.new)).chain(follow).collect()
    }

    fn refuse_fixed(&self, roster: &Roster) -> Result<(), Failure> {
        match self.assigned(roster).find(|(_, entry)| entry.fixed) {
            Some((machine, _)) if !self.force => Err(Failure::no(format_args!(
                "netbe.toml says that {machine} boots {}: change it there too, and rename with -f",
                self.name
            ))),
            _ => Ok(()),
        }
    }
}

/// Make a clone independent of its origin; the origin then depends on the clone.
#[derive(Args, Debug)]
pub(crate) struct Promote {
    #[command(flatten)]
    dry: Dry,
    /// The clone.
    name: EnvironmentName,
}

impl Promote {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let origin = store.would_promote(&self.name)?;
        let deed = format!("make {origin} depend on {} in place of the reverse", self.name);
        if let Some(told) = self.dry.instead(site, deed) {
            return Ok(told);
        }
        store.promote(&self.name)?;
        site.reload()?;
        Ok(Reply::done())
    }
}

/// Destroy a boot environment with all its snapshots, or one snapshot.
#[derive(Args, Debug)]
pub(crate) struct Destroy {
    /// Destroy even while machines run from it (they will fail) or are assigned to it, if roots
    /// were cloned from it, or if it is the base of skeletons.
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    dry: Dry,
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
            if self.dry.is_dry() {
                return self.tell(&store, [needed]);
            }
            if !self.force {
                needed?;
            }
            store.destroy_snapshot(name, snapshot)?;
            return Ok(Reply::done());
        }
        if self.dry.is_dry() {
            let living = guard::refuse_living(site, name, Verb::Destroy);
            return self.tell(&store, [living].into_iter().chain(self.needed(site)));
        }
        let _ = self.dry.instead(site, format_args!("destroy {}", self.point));
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

    /// Says what would go, in zfs-destroy(8)'s words, and what -f overrides.
    fn tell(
        &self,
        store: &Store,
        checks: impl IntoIterator<Item = Result<(), Failure>>,
    ) -> Result<Reply, Failure> {
        let mut overruled = String::new();
        for check in checks {
            match check {
                Err(Failure { message, .. }) if self.force => {
                    // What to do instead stands behind the colon.
                    let why = message.split(": ").next().unwrap_or_default();
                    overruled += &format!("although {why}\n");
                }
                checked => checked?,
            }
        }
        let doomed = store.would_destroy(&self.point)?;
        let points = doomed.points.iter().map(|point| format!("would destroy {point}\n"));
        let parts = doomed.parts.iter().map(|part| format!("would destroy {part}\n"));
        let lines: String = points.chain(parts).collect();
        Ok(Reply::text(lines + &overruled))
    }
}
