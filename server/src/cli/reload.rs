//! The verb that has the running server read everything again.

use clap::Args;

use super::{Dry, Failure, Reply, Site};
use crate::control::{Reply as Answer, Request};

/// Have the running server read netbe.toml, machines, environments and exports again.
///
/// Running machines keep their addresses and their roots. netbe.toml takes effect as a whole: if there is an
/// error in it, the server keeps its settings and the command prints the error. A change of store, state,
/// interfaces, mode, http, hooks or consul needs a restart of the server. SIGHUP does the same as this
/// command and logs the result.
#[derive(Args, Debug)]
pub(crate) struct Reload {
    #[command(flatten)]
    dry: Dry,
}

impl Reload {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let mut server = site.server()?.ok_or_else(|| {
            Failure::no(format_args!(
                "no server runs on {}: start it with `netbe serve`",
                site.state().display()
            ))
        })?;
        let silent = |why: &str| {
            Failure::could_not(format_args!("the running server did not answer: {why}"))
        };
        let asked = server.ask(&Request::Reconfigure { dry: self.dry.is_dry() });
        match asked.map_err(|error| silent(&error.to_string()))? {
            Answer::Reconfigured { changed } if self.dry.is_dry() => {
                let lines = changed.iter().map(|key| format!("would change {key}\n"));
                Ok(Reply::text(lines.collect::<String>()))
            }
            Answer::Reconfigured { .. } => Ok(Reply::done()),
            Answer::Failed { message } => Err(Failure::could_not(message)),
            Answer::Done
            | Answer::Event(_)
            | Answer::Explanation(_)
            | Answer::Held { .. }
            | Answer::Living(_)
            | Answer::Status(_) => Err(silent("it gave an unexpected answer")),
        }
    }
}
