//! Where everything is that commands work on.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use store::{EnvironmentName, Location, Store};

use super::{Failure, GLOBAL};
use crate::config::{DEFAULT_STATE, default_store};
use crate::control::{Client, Reply, Request};
use crate::site::machine;
use crate::site::state::{SOCKET, StateDir};

/// Options of every verb.
#[derive(Args, Clone, Debug)]
pub(crate) struct Site {
    /// The store of boot environments, as in dir:/srv/netbe [default: dir:STATE/store].
    #[arg(long, global = true, value_name = "STORE", env = "NETBE_STORE", help_heading = GLOBAL)]
    store: Option<Location>,
    #[arg(
        long, global = true, value_name = "DIR", env = "NETBE_STATE", help = STATE_HELP,
        help_heading = GLOBAL
    )]
    state: Option<PathBuf>,
    /// Print each step.
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    verbose: bool,
    /// Nothing may be changed.
    #[arg(skip)]
    pub(super) dry: bool,
}

impl Site {
    /// The store that was named, if one was.
    pub(crate) const fn named_store(&self) -> Option<&Location> {
        self.store.as_ref()
    }

    /// Whether each step is to be said.
    pub(crate) const fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// The state directory that was named, if one was.
    pub(crate) fn named_state(&self) -> Option<&Path> {
        self.state.as_deref()
    }

    /// The state directory.
    pub(crate) fn state(&self) -> &Path {
        self.state.as_deref().unwrap_or_else(|| Path::new(DEFAULT_STATE))
    }

    /// Opens the state directory, and makes it if there is none. What is read from it then is what a
    /// command that was killed left, put right. With -n it is opened as it is.
    pub(crate) fn open_state(&self) -> Result<StateDir, Failure> {
        if self.dry {
            return StateDir::look(self.state()).map_err(Failure::could_not);
        }
        let state = StateDir::open(self.state()).map_err(Failure::could_not)?;
        machine::finish_renaming(&state).map_err(Failure::could_not)?;
        Ok(state)
    }

    /// Connects to the server of the state directory, if one runs.
    pub(crate) fn server(&self) -> Result<Option<Client>, Failure> {
        let socket = self.state().join(SOCKET);
        Client::connect(&socket).map_err(|error| {
            let path = socket.display();
            if error.kind() == io::ErrorKind::PermissionDenied {
                return Failure::could_not(format_args!(
                    "{path}: permission denied: run it as root"
                ));
            }
            Failure::could_not(format_args!(
                "{path}: the running server cannot be reached: {error}"
            ))
        })
    }

    /// Has the running server, if there is one, read again everything.
    pub(crate) fn reload(&self) -> Result<(), Failure> {
        self.server()?.map_or(Ok(()), |server| reload(server, None))
    }

    /// Has the running server, if there is one, read again the machines and what a command has changed:
    /// environments of these names.
    pub(crate) fn reload_only(&self, changed: &[&EnvironmentName]) -> Result<(), Failure> {
        self.server()?.map_or(Ok(()), |server| reload(server, Some(changed)))
    }

    /// The place of the store.
    pub(crate) fn location(&self) -> Location {
        self.store.clone().unwrap_or_else(|| default_store(self.state()))
    }

    /// Opens the store, which has to be there.
    pub(crate) fn open(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.location(), self.state())?)
    }

    /// Opens the store, and makes it if there is none.
    pub(crate) fn establish(&self) -> Result<Store, Failure> {
        Ok(Store::establish(&self.location(), self.state())?)
    }
}

/// Has the running server read again what a command has changed; everything, if that is not known.
pub(crate) fn reload(
    mut server: Client,
    changed: Option<&[&EnvironmentName]>,
) -> Result<(), Failure> {
    let environments = changed.map(|names| names.iter().map(ToString::to_string).collect());
    match server.ask(&Request::Reload { environments }) {
        Ok(Reply::Failed { message }) => Err(Failure::could_not(format_args!(
            "it is done, but the running server does not use it yet: {message}"
        ))),
        Ok(
            Reply::Done
            | Reply::Held { .. }
            | Reply::Living(_)
            | Reply::Event(_)
            | Reply::Reconfigured { .. }
            | Reply::Explanation(_)
            | Reply::Status(_),
        ) => Ok(()),
        Err(error) => Err(Failure::could_not(format_args!(
            "it is done, but the running server did not answer: {error}"
        ))),
    }
}

#[cfg(target_os = "freebsd")]
const STATE_HELP: &str = "The state directory: site key, machines, leases [default: /var/db/netbe]";
#[cfg(not(target_os = "freebsd"))]
const STATE_HELP: &str =
    "The state directory: site key, machines, leases [default: /var/lib/netbe]";
