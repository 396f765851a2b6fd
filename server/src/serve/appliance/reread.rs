//! netbe.toml, read again while machines run: all of it holds from then on, or nothing of it.

use std::fmt;
use std::sync::Arc;

use super::{Appliance, load};
use crate::config::Config;
use crate::net::arp;
use crate::serve::publisher::Scope;
use crate::serve::{ServeError, check, lock};
use crate::site::configured::Configured;
use crate::site::machine::{self, Roster};

/// Reads what the server was told, as at its start: its flags, and its file as it is now.
pub type Reread = Box<dyn Fn() -> Result<Config, String> + Send + Sync>;

impl Appliance {
    /// Reads netbe.toml again and the store, and does as the file says; leases, boots and open files stay.
    /// Gives the keys whose values are others now. With `dry` it only looks whether all of that could be.
    pub(super) fn reread(&self, dry: bool) -> Result<Vec<&'static str>, String> {
        let refused = |error: ServeError| format!("nothing was changed: {error}");
        let would_change = self.apply(true).map_err(refused)?;
        if dry {
            return Ok(would_change);
        }
        // An environment has to be there before a machine is told to boot it.
        let published = self.publish(Scope::All);
        machine::finish_renaming(&self.state).map_err(|error| refused(error.into()))?;
        let changed = self.apply(false).map_err(refused)?;
        let keys = if changed.is_empty() { "as before".to_owned() } else { changed.join(", ") };
        tracing::info!("netbe.toml was read again: {keys}");
        let unread = published.err().or_else(|| self.publisher.unread());
        if let Some(why) = unread {
            return Err(format!(
                "netbe.toml is in effect ({keys}), but the store could not be read: {why}"
            ));
        }
        tracing::info!("machines, environments and exports were read again");
        Ok(changed)
    }

    /// Does as netbe.toml says now, but for the store; with `dry` it does nothing. Where it fails nothing was
    /// changed.
    fn apply(&self, dry: bool) -> Result<Vec<&'static str>, ServeError> {
        // A machine that a command adds meanwhile is either in the roster below, or is checked against
        // the file's machines. Whoever reads machines waits for commands, so this comes before the lock.
        let _held = if dry { None } else { Some(self.state.hold()?) };
        let _alone = lock(&self.reading);
        let (old, new) = (self.config(), (self.reread)().map_err(ServeError::Reread)?);
        refuse_fixed(&old, &new)?;
        let roster = load(&new, &self.state)?;
        let interfaces = check(&new, &self.store, &roster)?;
        interfaces.check_listened(&new, &self.found)?;
        let changed = changed(&old, &new);
        if dry {
            return Ok(changed);
        }
        let networks = self.found.addresses(&new);
        Configured::new(&new, &networks).store(&self.state)?;
        self.look_for_room(&old, &new, &roster);
        for stray in networks.strays(&roster) {
            tracing::warn!("{stray}");
        }
        if let Some(dhcp) = self.dhcp.get() {
            dhcp.set_settings(new.dhcp());
        }
        self.config.store(Arc::new(new));
        *lock(&self.unread) = None;
        self.boots.set_roster(roster);
        Ok(changed)
    }

    /// Tells if the kernel has no room for as many machines as there may be now.
    fn look_for_room(&self, old: &Config, new: &Config, roster: &Roster) {
        let machines = self.found.machines(new, roster);
        arp::TABLE.expect(machines);
        if machines > self.found.machines(old, &self.boots.roster())
            && let Some(shortage) = self.found.shortage(new, roster)
        {
            tracing::warn!("{shortage}");
        }
    }
}

/// Refuses other values of what holds for as long as the server runs.
fn refuse_fixed(old: &Config, new: &Config) -> Result<(), ServeError> {
    let keys = [
        ("store", old.store == new.store),
        ("state", old.state == new.state),
        ("interfaces", old.interfaces == new.interfaces),
        ("mode", old.mode == new.mode),
        ("http", old.http == new.http),
        ("hooks", old.hooks == new.hooks),
        ("consul", old.consul == new.consul),
    ];
    let fixed: Vec<_> = keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect();
    if fixed.is_empty() { Ok(()) } else { Err(ServeError::Fixed(Keys(fixed))) }
}

/// The keys whose values differ, of those that may.
fn changed(old: &Config, new: &Config) -> Vec<&'static str> {
    let keys = [
        ("ranges", old.ranges == new.ranges),
        ("subnets", old.subnets == new.subnets),
        ("router", old.router == new.router),
        ("dns", old.dns == new.dns),
        ("domain", old.domain == new.domain),
        ("mtu", old.mtu == new.mtu),
        ("lease", old.lease == new.lease),
        ("default", old.default == new.default),
        ("machines", old.machines == new.machines),
    ];
    keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
}

/// Keys of netbe.toml.
#[derive(Debug)]
pub struct Keys(Vec<&'static str>);

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}
