//! The verb that has the running server read everything again.

use clap::Args;

use super::{Dry, Failure, Reply, Site};
use crate::control::{Reply as Answer, Request};

/// Have the running server read netbe.toml, machines, environments and exports again.
///
/// Running machines keep their addresses and their roots. All of netbe.toml holds from then on, or, where
/// something in it is wrong, nothing of it, and the command says what. store, state, interfaces, mode and http
/// hold until the server is started again. SIGHUP does the same, and says in the log what came of it.
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
            | Answer::Status(_) => Err(silent("it gave another answer")),
        }
    }
}
