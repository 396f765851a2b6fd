//! What starts guests with this host.

use bootcfg::service::{Service, rc_script, units};
use clap::{Args, ValueEnum};

use super::files::Destination;
use super::guest::text;
use super::{Failure, Reply, Site};

/// The services that start guests with this host: two units for systemd, or an rc.d script for FreeBSD.
///
/// netbe-guest@MACHINE.service runs one guest; netbe-guests.service starts all guests with autostart. netbe's
/// packages contain these files. `--into /` writes them on this host, for this program, store and state.
#[derive(Args, Debug)]
pub(crate) struct ShowUnits {
    /// What starts services [default: rc on FreeBSD, else systemd].
    #[arg(long = "for", value_enum, value_name = "SYSTEM")]
    system: Option<Init>,
    #[command(flatten)]
    destination: Destination,
}

/// What starts services.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Init {
    /// The rc.d scripts of FreeBSD.
    Rc,
    /// systemd.
    Systemd,
}

impl ShowUnits {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let program = std::env::current_exe().map_err(|error| {
            Failure::could_not(format_args!("this program cannot find itself: {error}"))
        })?;
        let mut words = Vec::new();
        if let Some(state) = site.named_state() {
            let state = std::path::absolute(state).map_err(Failure::could_not)?;
            words.extend(["--state".to_owned(), text(&state)?.to_owned()]);
        }
        if let Some(store) = site.named_store() {
            words.extend(["--store".to_owned(), store.to_string()]);
        }
        let service = Service { program: text(&program)?.to_owned(), site: words };
        let usual = if cfg!(target_os = "freebsd") { Init::Rc } else { Init::Systemd };
        let files = match self.system.unwrap_or(usual) {
            Init::Systemd => units(&service),
            Init::Rc => rc_script(&service, "/usr/local").map(|script| vec![script]),
        };
        self.destination.reply(&files.map_err(Failure::could_not)?)
    }
}
