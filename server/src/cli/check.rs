//! The verb that says whether boot environments can boot.

use std::fmt::Write;

use clap::Args;
use hostfs::Inside;
use serde::Serialize;
use store::EnvironmentName;

use super::{Failure, Reply, Site, Table, machine};
use crate::boot::loader::{HostLoaders, SEARCH_PATH};
use crate::provision::check::{self, Finding, Severity, Verdict};

/// Say whether a boot environment can boot, by BIOS and by UEFI, and why not; without a name, whether
/// all can, and whether machines are to boot what there is.
///
/// The exit status is 1 if one cannot.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// For programs: JSON.
    #[arg(short, long)]
    json: bool,
    /// The boot environment.
    name: Option<EnvironmentName>,
}

/// What is printed for programs.
#[derive(Serialize)]
struct Record<'r> {
    environments: &'r [Verdict],
    site: &'r [Finding],
}

impl Check {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let roster = machine::roster(&site.open_state()?)?;
        let host = HostLoaders::search(SEARCH_PATH);
        let (environments, unreadable, about) = match &self.name {
            Some(name) => (vec![store.get(name)?], Vec::new(), Vec::new()),
            None => {
                let listing = store.list()?;
                let about = check::check_site(&roster, &listing.environments);
                (listing.environments, listing.unreadable, about)
            }
        };
        let mut verdicts = Vec::new();
        let mut failures: Vec<_> = unreadable.into_iter().map(Failure::could_not).collect();
        for environment in &environments {
            match store.open_root(&environment.name) {
                Ok(root) => {
                    let inside = Inside::from_fd(root);
                    let mut verdict = check::check(environment, &inside, &roster, &host);
                    let shared = store.shared_by_itself(&environment.name)?;
                    verdict.findings.extend(check::shared_twice(&shared));
                    verdicts.push(verdict);
                }
                Err(error) => failures.push(error.into()),
            }
        }
        let cannot = |verdict: &&Verdict| !verdict.boots();
        let stopped: Vec<_> =
            verdicts.iter().filter(cannot).map(|verdict| verdict.name.as_str()).collect();
        if !stopped.is_empty() {
            failures
                .push(Failure::no(format_args!("not by every firmware: {}", stopped.join(", "))));
        }
        if about.iter().any(|found| found.severity != Severity::Doubt) {
            failures.push(Failure::no("some machines are to boot what is not there"));
        }
        let text = if self.json {
            let record = Record { environments: &verdicts, site: &about };
            serde_json::to_string_pretty(&record).map_err(Failure::could_not)? + "\n"
        } else {
            text(&verdicts, &about)
        };
        Ok(Reply::text(text).but(failures))
    }
}

fn text(verdicts: &[Verdict], about: &[Finding]) -> String {
    let word = |boots| if boots { "boots" } else { "no" }.to_owned();
    let mut table = Table::new(&["NAME", "SYSTEM", "BIOS", "UEFI"]);
    for verdict in verdicts {
        let Verdict { name, system, bios, uefi, .. } = verdict;
        let bios = bios.map_or_else(String::new, word);
        table.row([name.clone(), (*system).to_owned(), bios, word(*uefi)]);
    }
    let mut text = table.columns();
    let mut say = |who: &str, Finding { severity, message }: &Finding| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{who} {severity}: {message}");
    };
    for verdict in verdicts {
        verdict.findings.iter().for_each(|found| say(&verdict.name, found));
    }
    about.iter().for_each(|found| say("a machine", found));
    text
}
