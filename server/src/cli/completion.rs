//! Verbs about the program itself: completion for shells, and its manual page.

use clap::Args;
use clap_complete::Shell;

use super::{Failure, Reply, command};

/// Print what a shell needs to complete commands.
#[derive(Args, Debug)]
pub(crate) struct Completion {
    /// Which shell.
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(&self) -> Result<Reply, Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command("netbe"), "netbe", &mut text);
        String::from_utf8(text).map(Reply::text).map_err(Failure::could_not)
    }
}

/// Print the manual page, or that of one verb.
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Which verb.
    verb: Option<String>,
}

impl Man {
    pub(crate) fn run(&self) -> Result<Reply, Failure> {
        let mut netbe = command("netbe");
        netbe.build();
        let page = match &self.verb {
            None => clap_mangen::Man::new(netbe).title("netbe"),
            Some(verb) => {
                let found = netbe.find_subcommand(verb).cloned();
                let found = found.ok_or_else(|| {
                    Failure::no(format_args!("there is no verb {verb}: `netbe --help` lists them"))
                })?;
                clap_mangen::Man::new(found).title(format!("netbe-{verb}"))
            }
        };
        let mut text = Vec::new();
        page.section("8")
            .render(&mut text)
            .map_err(|error| Failure::could_not(format_args!("cannot write the page: {error}")))?;
        String::from_utf8(text).map(Reply::text).map_err(Failure::could_not)
    }
}
