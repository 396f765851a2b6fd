//! Verbs about the program itself: completion for shells, and its manual pages.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::Shell;

use super::{Failure, Reply, command};

/// Print a completion script for a shell.
#[derive(Args, Debug)]
pub(crate) struct Completion {
    /// The shell.
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(&self) -> Result<Reply, Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command("netbe"), "netbe", &mut text);
        String::from_utf8(text).map(Reply::text).map_err(Failure::could_not)
    }
}

/// Print the help of a verb: `netbe help machine add` is `netbe machine add --help`.
#[derive(Args, Debug)]
pub(crate) struct Help {
    /// The verb.
    verb: Vec<String>,
}

impl Help {
    pub(crate) fn run(&self) -> Result<Reply, Failure> {
        let netbe = command("netbe");
        let mut found = &netbe;
        for verb in &self.verb {
            found = found.find_subcommand(verb).ok_or_else(|| unknown(&self.verb))?;
        }
        let words = ["netbe"].into_iter().chain(self.verb.iter().map(String::as_str));
        // clap knows the terminal's width and colours.
        match command("netbe").try_get_matches_from(words.chain(["--help"])) {
            Err(help) => help.print().map(|()| Reply::done()).map_err(Failure::could_not),
            Ok(_) => Ok(Reply::done()),
        }
    }
}

/// Why there is no help and no page.
fn unknown(verb: &[String]) -> Failure {
    let typed = verb.join(" ");
    Failure::no(format_args!("there is no verb {typed}: `netbe --help` lists them"))
}

/// Print the manual page of netbe, of a verb, or of netbe.toml.
///
/// `netbe man machine add` prints the page of a verb of two words, and `netbe man netbe.toml` that
/// of the configuration file. `netbe man bootnfs | man -l -` (Linux) or `| mandoc -a` (FreeBSD)
/// shows one.
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Write all pages to this directory: netbe.8, netbe-VERB.8 and netbe.toml.5.
    #[arg(long, value_name = "DIR", conflicts_with = "verb")]
    into: Option<PathBuf>,
    /// The verb.
    verb: Vec<String>,
}

impl Man {
    pub(crate) fn run(&self) -> Result<Reply, Failure> {
        let mut netbe = command("netbe");
        netbe.build();
        if let Some(directory) = &self.into {
            write(directory, "netbe.toml.5", CONFIGURATION)?;
            return write_all(directory, &netbe, "netbe").map(|()| Reply::done());
        }
        if matches!(self.verb.as_slice(), [name] if name == "netbe.toml") {
            return Ok(Reply::text(CONFIGURATION));
        }
        let (mut found, mut name) = (&netbe, "netbe".to_owned());
        for verb in &self.verb {
            found = found.find_subcommand(verb).ok_or_else(|| unknown(&self.verb))?;
            name = format!("{name}-{verb}");
        }
        page(found, &name).map(Reply::text)
    }
}

/// Writes the page of a verb, and those of the verbs below it.
fn write_all(directory: &Path, verb: &clap::Command, name: &str) -> Result<(), Failure> {
    write(directory, &format!("{name}.8"), &page(verb, name)?)?;
    // Of a verb of two words only its first was built.
    for below in verb.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_all(directory, below, &format!("{name}-{}", below.get_name()))?;
    }
    Ok(())
}

fn write(directory: &Path, file: &str, text: &str) -> Result<(), Failure> {
    let path = directory.join(file);
    fs::write(&path, text).map_err(|error| {
        Failure::could_not(format_args!("{} cannot be written: {error}", path.display()))
    })
}

/// The page of a verb.
fn page(verb: &clap::Command, name: &str) -> Result<String, Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::could_not(format_args!("cannot write the page: {error}"))
    };
    let page = clap_mangen::Man::new(verb.clone())
        .title(name.to_uppercase())
        .section("8")
        .date(DATE)
        .source(concat!("netbe ", env!("CARGO_PKG_VERSION")))
        .manual("System Manager\u{2019}s Manual");
    let mut text = Vec::new();
    page.render(&mut text).map_err(|error| cannot(&error))?;
    let text = String::from_utf8(text).map_err(|error| cannot(&error))?;
    // clap_mangen breaks a line before and after an empty one, of which mandoc(1) warns.
    Ok(text.replace("\n.br\n\n.br\n", "\n.sp\n"))
}

/// The date of the pages: when what they say was last looked through.
const DATE: &str = "2026-11-21";
pub(super) const CONFIGURATION: &str = include_str!("../../../docs/man/netbe.toml.5");
