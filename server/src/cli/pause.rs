//! The verb that pauses the server while a command has closed the store, such as `zpool export`.

use std::ffi::OsString;
use std::process::Command;

use clap::Args;
use provision::terminal;
use store::StoreError;

use super::child::{Runner as _, Terminal, ThisHost};
use super::{Dry, Failure, Reply, Site};
use crate::control::{Reply as Answer, Request};

/// Have the running server close and unmount the store while a command runs, as in `netbe pause zpool export
/// tank`.
///
/// While it runs, nothing in the store is open or mounted, and machines that use it wait. When the
/// command ends, the server opens the store again; if the store is missing, it retries every ten
/// seconds.
#[derive(Args, Debug)]
pub(crate) struct Pause {
    #[command(flatten)]
    dry: Dry,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl Pause {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let words: Vec<_> = self.command.iter().map(|word| word.to_string_lossy()).collect();
        let deed = format!("close the store while this runs: {}", words.join(" "));
        let silent = |error| {
            Failure::could_not(format_args!("the running server does not close the store: {error}"))
        };
        if self.dry.is_dry() && site.server()?.is_some() {
            site.open()?.would_detach().map_err(|error| silent(error.to_string()))?;
        }
        if let Some(told) = self.dry.instead(site, deed) {
            return Ok(told);
        }
        let Some(mut server) = site.server()? else {
            // A server that was killed has left mounts behind; other kinds of store have none.
            match site.open()?.detach() {
                Ok(()) | Err(StoreError::Unsupported(_)) => {}
                Err(error) => return Err(error.into()),
            }
            self.carry_out()?;
            return Ok(Reply::done());
        };
        let living =
            match server.ask(&Request::Detach).map_err(|error| silent(error.to_string()))? {
                Answer::Living(living) => living,
                Answer::Failed { message } => return Err(silent(message)),
                Answer::Done
                | Answer::Held { .. }
                | Answer::Event(_)
                | Answer::Reconfigured { .. }
                | Answer::Explanation(_)
                | Answer::Status(_) => {
                    return Err(silent("it gave an unexpected answer".to_owned()));
                }
            };
        if !living.is_nobody() {
            // Before the command, which may take long.
            terminal::say(&format!("until it is back these wait: {}", living.names().join(", ")));
        }
        let done = self.carry_out();
        let attached = match server.ask(&Request::Reload { environments: None }) {
            Ok(Answer::Failed { message }) => Err(message),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        let attached = attached.map_err(|message| {
            Failure::could_not(format_args!(
                "the command has ended, but the running server cannot serve the store again: {message}"
            ))
        });
        done.and(attached).map(|()| Reply::done())
    }

    /// Runs the command to its end.
    fn carry_out(&self) -> Result<(), Failure> {
        let Some((program, arguments)) = self.command.split_first() else { return Ok(()) };
        let shown = program.to_string_lossy();
        let mut command = Command::new(program);
        command.args(arguments);
        // A signal ends the command, and not this one: the server has to be told to serve again.
        let status = ThisHost::new()?.run(command, Terminal::Shared);
        let status = status
            .map_err(|error| Failure::could_not(format_args!("cannot run {shown}: {error}")))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::no(format_args!(
            "{shown} failed ({status}): the server serves the store as before"
        )))
    }
}
