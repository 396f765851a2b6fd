//! What can be wrong with what the server is told, found without changing anything.

use store::Store;

use super::{Interfaces, ServeError};
use crate::config::Config;
use crate::site::machine::Roster;

/// Checks what is written against the store and this host, as a start and a reload do alike; gives the
/// interfaces to serve.
pub(super) fn check(
    config: &Config,
    store: &Store,
    roster: &Roster,
) -> Result<Interfaces, ServeError> {
    if let Some(name) = &config.default {
        store.get(name)?;
    }
    Interfaces::of(config, roster)
}
