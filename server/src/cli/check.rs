//! The verb that says whether boot environments can boot.

use std::fmt::Write;

use clap::Args;
use hostfs::Inside;
use provision::check::{self, Assigned, Finding, Severity, Subject, Verdict};
use provision::loader::{HostLoaders, SEARCH_PATH};
use serde::Serialize;
use store::progress::{Unit, Work};
use store::{Environment, EnvironmentName};

use super::{Failure, Reply, Site, Table, machine};
use crate::boot::decide::Writers;
use crate::net::arp::Bounds;
use crate::site::machine::{LoaderProtocol, Machine, Roster, environment_in};
use crate::site::networks::Networks;
use crate::site::state::StateDir;

/// Check whether a boot environment can boot, by BIOS and by UEFI, and print why not. Without a name, check
/// all, and that every machine's boot environment exists.
///
/// The exit status is 1 if one cannot boot.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Print JSON, for programs.
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
                let mut about = check_site(&roster, &listing.environments);
                let machines = u64::try_from(roster.iter().count()).unwrap_or(u64::MAX);
                let bounds = Bounds::of_host();
                about.extend(check_addresses(&site.open_state()?, &roster)?);
                about.extend(
                    bounds.and_then(|bounds| bounds.shortage(machines)).map(Finding::doubt),
                );
                (listing.environments, listing.unreadable, about)
            }
        };
        let mut verdicts = Vec::new();
        let mut failures: Vec<_> = unreadable.into_iter().map(Failure::could_not).collect();
        let all = u64::try_from(environments.len()).ok();
        let work = Work::begin(|| "check".to_owned(), Unit::Environments, all);
        for environment in &environments {
            work.set_what(|| format!("check {}", environment.name));
            match store.open_root(&environment.name) {
                Ok(root) => {
                    let inside = Inside::from_fd(root);
                    let subject = subject(environment, &roster, &host);
                    let mut verdict = check::check(subject, &inside).map_err(Failure::could_not)?;
                    let shared = store.shared_by_itself(&environment.name)?;
                    verdict.findings.extend(check::shared_twice(&shared));
                    verdicts.push(verdict);
                }
                Err(error) => failures.push(error.into()),
            }
            work.advance(1);
        }
        drop(work);
        let stopped: Vec<_> =
            verdicts.iter().filter(|verdict| !verdict.boots()).map(stop).collect();
        if !stopped.is_empty() {
            failures.push(Failure::no(format_args!(
                "{} of {} cannot boot: {}",
                stopped.len(),
                verdicts.len(),
                stopped.join(", ")
            )));
        }
        if about.iter().any(|found| found.severity != Severity::Doubt) {
            failures.push(Failure::no("some machines boot an environment that does not exist"));
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

/// A boot environment that cannot boot, and by which firmware if it is one only.
fn stop(verdict: &Verdict) -> String {
    let name = &verdict.name;
    match (verdict.bios, verdict.uefi) {
        (Some(false), true) => format!("{name} (by BIOS)"),
        (Some(true), false) => format!("{name} (by UEFI)"),
        _ => name.to_string(),
    }
}

/// What is asked of an environment, with the machines that are to boot it.
fn subject(environment: &Environment, roster: &Roster, host: &HostLoaders) -> Subject {
    let own_name = environment.name.as_str();
    let machines = roster.iter().filter(|(_, entry)| entry.machine.is_assigned(own_name));
    let assigned = machines.map(|(name, entry)| Assigned {
        name: name.to_string(),
        loader: entry.machine.loader,
        clone: entry.machine.root.is_clone(),
        tftp: entry.machine.loader_protocol == LoaderProtocol::Tftp,
    });
    let default = roster.default_environment() == Some(own_name);
    let is_machine = |wanted: &str| roster.iter().any(|(name, _)| name.as_str() == wanted);
    Subject::new(environment, assigned.collect(), default, is_machine, host)
}

/// What is wrong between machines and the environments that there are.
fn check_site(roster: &Roster, environments: &[Environment]) -> Vec<Finding> {
    let there = |wanted: &str| environments.iter().any(|found| found.name.as_str() == wanted);
    let mut findings = Vec::new();
    for (name, entry) in roster.iter() {
        let Machine { environment, once, .. } = &entry.machine;
        let mut missing = environment.iter().chain(once).map(|wanted| environment_in(wanted));
        if let Some(wanted) = missing.find(|wanted| !there(wanted)) {
            findings.push(Finding::both(format_args!(
                "{name} boots {wanted}, and there is no such environment: assign another with `netbe \
                 sharepxe --machine {name} NAME`"
            )));
        }
    }
    if let Some(wanted) = roster.default_environment().filter(|name| !there(name)) {
        findings.push(Finding::both(format_args!(
            "machines boot {wanted} by default, and there is no such environment: set another with \
             `netbe sharepxe --default NAME`"
        )));
    }
    for known in environments {
        let writers = Writers::of(roster, known.name.as_str(), known.is_read_only());
        findings.extend(writers.map(Finding::doubt));
    }
    findings
}

/// Which addresses are kept for machines that cannot have them.
fn check_addresses(state: &StateDir, roster: &Roster) -> Result<Vec<Finding>, Failure> {
    let strays = Networks::of_site(state)?.strays(roster);
    Ok(strays.into_iter().map(Finding::doubt).collect())
}

fn text(verdicts: &[Verdict], about: &[Finding]) -> String {
    let word = |boots| if boots { "boots" } else { "no" }.to_owned();
    let mut table = Table::new(&["NAME", "SYSTEM", "BIOS", "UEFI"]);
    for verdict in verdicts {
        let Verdict { name, system, bios, uefi, .. } = verdict;
        let bios = bios.map_or_else(String::new, word);
        table.row([name.clone(), system.clone(), bios, word(*uefi)]);
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

#[cfg(test)]
mod test {
    use std::fs;

    use store::{Layout, Store};
    use tempfile::TempDir;

    use super::*;
    use crate::net::Mac;
    use crate::site::machine::{LoaderChoice, MachineName, RootKind};

    fn store() -> (TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let place = format!("dir:{}", dir.path().join("store").display());
        let store = Store::establish(&place.parse().unwrap(), dir.path()).unwrap();
        store.create(&"head".parse().unwrap(), Layout::Flat).unwrap();
        (dir, store)
    }

    /// A roster of machines that have these roots for `head`, or a snapshot of it.
    fn roster(roots: &[(RootKind, &str)]) -> Roster {
        let mut roster = Roster::default();
        for (number, (root, assigned)) in (1..).zip(roots) {
            let (root, environment) = (*root, Some((*assigned).to_owned()));
            let macs = vec![Mac([0x52, 0x54, 0, 0, 0, number])];
            let machine = Machine { macs, root, environment, ..Machine::default() };
            roster.insert(format!("web{number}").parse().unwrap(), machine, false).unwrap();
        }
        roster
    }

    #[test]
    fn what_machines_are_to_boot_and_is_not_there_is_told() {
        let (_dir, store) = store();
        let environments = store.list().unwrap().environments;
        let there = roster(&[(RootKind::Own, "head@monday"), (RootKind::Direct, "head")]);
        assert_eq!(check_site(&there, &environments), []);
        let mut machines = roster(&[(RootKind::Own, "tail@monday"), (RootKind::Direct, "head")]);
        let name: MachineName = "web2".parse().unwrap();
        let once = Some("next".to_owned());
        let machine = Machine { once, ..machines.take(&name).unwrap() };
        machines.insert(name, machine, false).unwrap();
        let told = check_site(&machines, &environments);
        let told: Vec<&str> = told.iter().map(|found| found.message.as_str()).collect();
        assert!(told[0].starts_with("web1 boots tail, and"), "{told:?}");
        assert!(told[1].starts_with("web2 boots next, and"), "{told:?}");
    }

    #[test]
    fn a_machine_that_boots_a_clone_of_a_snapshot_is_asked_about_with_its_loader() {
        let (dir, store) = store();
        let mut machines = roster(&[(RootKind::Fresh, "head@monday"), (RootKind::Own, "tail")]);
        let name: MachineName = "web1".parse().unwrap();
        let machine = Machine { loader: LoaderChoice::Grub, ..machines.take(&name).unwrap() };
        machines.insert(name, machine, false).unwrap();
        let environment = store.get(&"head".parse().unwrap()).unwrap();
        let host = HostLoaders::search([dir.path()]);
        fs::write(dir.path().join("snponly.efi"), "x").unwrap();
        let asked = serde_json::to_value(subject(&environment, &machines, &host)).unwrap();
        let web1 =
            serde_json::json!([{"name": "web1", "loader": "grub", "clone": true, "tftp": false}]);
        assert_eq!((&asked["assigned"], &asked["default"]), (&web1, &false.into()));
        assert_eq!(asked["host_loaders"], serde_json::json!(["snponly.efi"]));
    }
}
