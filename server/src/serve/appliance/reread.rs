//! netbe.toml, read again while machines run: all of it holds from then on, or nothing of it.

use std::fmt;
use std::sync::Arc;

use store::EnvironmentName;

use super::{Appliance, roster};
use crate::config::Config;
use crate::serve::{Interfaces, ServeError, lock};
use crate::site::machine;

/// Reads what the server was told, as at its start: its flags, and its file as it is now.
pub type Reread = Box<dyn Fn() -> Result<Config, String> + Send + Sync>;

impl Appliance {
    /// Reads netbe.toml again and does as it says; leases, boots and open files stay. Gives the keys whose
    /// values are others now. With `dry` it only looks whether all of that could be.
    ///
    /// Where it fails nothing was changed.
    pub(super) fn reread(&self, dry: bool) -> Result<Vec<&'static str>, ServeError> {
        let _alone = lock(&self.reading);
        let (old, new) = (self.config(), (self.reread)().map_err(ServeError::Reread)?);
        refuse_fixed(&old, &new)?;
        let roster = roster(&new, &self.state)?;
        Interfaces::of(&new, &roster)?;
        let changed = changed(&old, &new);
        if dry {
            return Ok(changed);
        }
        let default = new.default.as_ref().map(EnvironmentName::as_str);
        machine::store_configured(&self.state, &new.machines, default)?;
        self.found.addresses(&new).store(&self.state)?;
        if let Some(dhcp) = self.dhcp.get() {
            dhcp.set_settings(new.dhcp());
        }
        self.config.store(Arc::new(new));
        *lock(&self.unread) = None;
        self.boots.set_roster(roster);
        Ok(changed)
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
