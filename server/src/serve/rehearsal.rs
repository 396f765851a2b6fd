//! What a server would do, found out as far as that goes without changing anything: `serve -n`.

use std::fmt::Write as _;
use std::sync::Arc;

use nix::unistd::geteuid;
use store::{Environment, EnvironmentName, Store};

use super::{Interfaces, ServeError, check, mode, ports, refuse_old_kernel, runtime, teller};
use crate::boot::decide::Writers;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::dhcp;
use crate::site::machine::Roster;
use crate::site::state::{StateDir, check_site_key};

/// Checks all that a server checks before it answers anything, and describes in lines what it would do.
///
/// Ports are bound for a moment, unless a server runs from the state directory, which has them.
///
/// # Errors
///
/// The server would not start.
pub fn rehearse(config: &Config) -> Result<String, ServeError> {
    refuse_old_kernel()?;
    let store = Store::open(&config.store, &config.state)?;
    let state = match config.state.exists() {
        true => Some(StateDir::open(&config.state)?),
        false => None,
    };
    let roster = roster(config, state.as_ref())?;
    let interfaces = check(config, &store, &roster)?;
    let mut text = interfaces.describe(config, &roster);
    let listing = store.list()?;
    // Writing to a string does not fail.
    for trouble in troubles(&listing.environments, &roster) {
        let _ = writeln!(text, "{trouble}");
    }
    for line in teller::describe(config)? {
        let _ = writeln!(text, "{line}");
    }
    for reason in &listing.unreadable {
        let _ = writeln!(text, "not served         {reason}");
    }
    if let Some(reason) = try_ports(config, &interfaces, state.as_ref())? {
        let _ = writeln!(text, "not checked        whether the ports are free: {reason}");
    }
    Ok(text)
}

/// The machines, as the server would read them.
fn roster(config: &Config, state: Option<&StateDir>) -> Result<Roster, ServeError> {
    let default = config.default.as_ref().map(EnvironmentName::as_str);
    let Some(state) = state else {
        return Ok(Roster::configured(&config.machines, default)?);
    };
    check_site_key(state)?;
    Ok(Roster::load(state, &config.machines, default)?)
}

/// What machines would do to each other.
fn troubles(environments: &[Environment], roster: &Roster) -> Vec<String> {
    let writers = environments.iter().filter_map(|known| {
        let writers = Writers::of(roster, known.name.as_str(), known.is_read_only())?;
        Some(format!("several write      {writers}"))
    });
    writers.collect()
}

/// Binds every port for a moment. Gives the reason if that says nothing here.
fn try_ports(
    config: &Config,
    interfaces: &Interfaces,
    state: Option<&StateDir>,
) -> Result<Option<String>, ServeError> {
    if !geteuid().is_root() {
        return Ok(Some("only root may have them".to_owned()));
    }
    if let Some(owner) = state.and_then(|state| state.claimed().transpose()).transpose()? {
        return Ok(Some(format!("{owner} serves from {}", config.state.display())));
    }
    let network = runtime("network", 2)?;
    let _inside = network.enter();
    ports::try_all(config.http)?;
    for interface in &interfaces.all {
        dhcp::try_ports(interface, mode(config), Arc::new(SystemClock))?;
    }
    Ok(None)
}
