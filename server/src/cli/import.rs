//! The verb that makes machines of what the files of other programs know.

use std::collections::BTreeSet;

use bootcfg::import::{self, Candidate, Knowledge, Place, Run};
use bootcfg::lint::Source;
use clap::Args;
use store::{EnvironmentName, Store};

use super::dry::Dry;
use super::lint::source;
use super::machine::roster;
use super::{Failure, Reply, Site, root};
use crate::net::Mac;
use crate::site::machine::{self, GuestError, Machine, MachineName, Roster, Runner};
use crate::site::networks::Networks;
use crate::site::state::StateDir;

/// Add the machines that are defined in other programs' files.
///
/// It reads jail.conf, fstab, exports, dhcpd.conf, dnsmasq.conf, vmtab, scripts with bhyveload and bhyve,
/// .nspawn, .network and .mount files of containers, domains of libvirt, and the files of bhyve, vm-bhyve and
/// CBSD. Machines get their names, Ethernet addresses, UUIDs, addresses, the environment of their root if the
/// store has it, and how they are run: program, processors, memory and bridge. netbe prints, by file and
/// line, what it does not take over. It adds all machines, or none.
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// Files; netbe recognizes their kind by name or content.
    #[arg(required_unless_present = "explicit")]
    files: Vec<String>,
    /// A file and its kind, as for `netbe lint`: bhyve, cbsd, dhcp-hosts, dhcpd, dnsmasq, exports, fstab, jail,
    /// libvirt, script, unit, vm-bhyve or vmtab.
    #[arg(long = "as", num_args = 2, value_names = ["KIND", "FILE"])]
    explicit: Vec<String>,
    /// Leave this machine out; may be repeated.
    #[arg(long, value_name = "NAME")]
    except: Vec<String>,
    #[command(flatten)]
    dry: Dry,
}

/// What becomes of a machine.
#[derive(Debug)]
enum Step {
    /// It is new.
    Add(MachineName, Box<Machine>),
    /// It is known, with all that the files say.
    Keep(MachineName),
    /// It cannot be taken, and why.
    Refuse(String),
}

impl Import {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open().ok();
        let sources = self.sources(store.as_ref())?;
        let Knowledge { machines, left } = import::read(&sources);
        let mut notes: Vec<String> = left
            .into_iter()
            .map(|left| format!("{}: not taken: {}\n", left.place, left.message))
            .collect();
        let state = site.open_state()?;
        let alone =
            if self.dry.is_dry() { None } else { Some(state.hold().map_err(Failure::could_not)?) };
        let mut known = roster(&state)?;
        let networks = Networks::of_site(&state)?;
        let mut steps = Vec::new();
        for candidate in &machines {
            let is_except = |name: &String| name.eq_ignore_ascii_case(&candidate.name);
            if self.except.iter().any(is_except) {
                continue;
            }
            let step = plan(candidate, &mut known, &networks, (site, store.as_ref()), &mut notes)?;
            steps.push(step);
        }
        let refused: Vec<Failure> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Refuse(reason) => Some(Failure::no(reason)),
                Step::Add(..) | Step::Keep(_) => None,
            })
            .collect();
        let kept = steps.iter().filter_map(|step| match step {
            Step::Keep(name) => Some(format!("{name} is there already\n")),
            Step::Add(..) | Step::Refuse(_) => None,
        });
        let notes: String = kept.chain(notes).collect();
        let new: Vec<(MachineName, Machine)> = steps
            .into_iter()
            .filter_map(|step| match step {
                Step::Add(name, machine) => Some((name, *machine)),
                Step::Keep(_) | Step::Refuse(_) => None,
            })
            .collect();
        let deeds: Vec<String> = new.iter().map(|(name, machine)| deed(name, machine)).collect();
        if let Some(told) = self.dry.instead_of(site, &deeds) {
            return Ok(told.and(&notes).but(refused));
        }
        if !refused.is_empty() {
            // Half of a site would be worse than none of it.
            let nothing = Failure::no(
                "nothing was added: correct the files, or leave machines out with --except NAME; -n shows the plan",
            );
            return Ok(Reply::text(notes).but(refused.into_iter().chain([nothing])));
        }
        write(&state, &new)?;
        drop(alone);
        if !new.is_empty() {
            site.reload_only(&environments(&new).iter().collect::<Vec<_>>())?;
        }
        let mut warned = BTreeSet::new();
        for (name, machine) in &new {
            // All that write to a root stand in one warning.
            if warned.insert(machine.environment.as_deref()) {
                root::warn_of_writers(site, name)?;
            }
        }
        let added: String =
            deeds.iter().map(|deed| format!("{}\n", deed.replacen("add", "added", 1))).collect();
        let nothing = new.is_empty() && notes.is_empty();
        let none = if nothing { "the files define no machine\n" } else { "" };
        Ok(Reply::text(added + &notes + none))
    }

    fn sources(&self, store: Option<&Store>) -> Result<Vec<Source>, Failure> {
        let explicit = self.explicit.chunks_exact(2).filter_map(|pair| match pair {
            [kind, file] => Some((Some(kind), file)),
            _ => None,
        });
        let all = explicit.chain(self.files.iter().map(|file| (None, file)));
        all.map(|(kind, file)| {
            let kind = kind.map(|kind| kind.parse().map_err(Failure::could_not)).transpose()?;
            source(file, kind, store)
        })
        .collect()
    }
}

/// What becomes of a machine that files know. One that is to be added is on the roster afterwards.
fn plan(
    candidate: &Candidate,
    known: &mut Roster,
    networks: &Networks,
    (site, store): (&Site, Option<&Store>),
    notes: &mut Vec<String>,
) -> Result<Step, Failure> {
    let Candidate { name, place, macs, address, root, uuid, conflicts, .. } = candidate;
    if let Some(conflict) = conflicts.first() {
        return Ok(Step::Refuse(format!("{name} is not added: {}", conflict.message)));
    }
    let refuse = |reason: &dyn std::fmt::Display| {
        Ok(Step::Refuse(format!("{name} ({place}) is not added: {reason}")))
    };
    let name: MachineName = match name.parse() {
        Ok(name) => name,
        Err(error) => return refuse(&error),
    };
    if macs.is_empty() && address.is_none() {
        notes.push(format!(
            "{place}: not taken: no file has the Ethernet address or the address of {name}\n"
        ));
    }
    let mut machine = Machine {
        macs: macs.iter().map(|fact| Mac(fact.value.0)).collect(),
        address: address.as_ref().map(|fact| fact.value),
        ..Machine::default()
    };
    if let Some(fact) = uuid {
        match fact.value.parse() {
            Ok(uuid) => machine.uuid = Some(uuid),
            Err(_) => {
                notes.push(format!("{}: not taken: {:?} is no UUID\n", fact.place, fact.value))
            }
        }
    }
    if machine.macs.is_empty() {
        // It is known by its Ethernet address, and a UUID alone could keep no address.
        machine.uuid = None;
    }
    if let Some(fact) = root {
        let found = environment(&fact.value, store);
        match found {
            Some(environment) => machine.environment = Some(environment.to_string()),
            None => notes.push(format!(
                "{}: not taken: the store has no environment of {:?}: assign one with `netbe sharepxe --machine \
                 {name} BE`\n",
                fact.place, fact.value
            )),
        }
    }
    hosting(candidate, &mut machine, notes);
    if let Some(entry) = known.get(&name) {
        return Ok(same(&name, &entry.machine, &machine));
    }
    if machine.macs.is_empty() && machine.address.is_none() {
        return Ok(Step::Refuse(format!(
            "{name} ({place}) is not added: no file has its Ethernet address or its address: give the file that has it, or --except {name}"
        )));
    }
    if let Err(error) = machine.check() {
        return refuse(&error);
    }
    if let Some(address) = machine.address
        && let Err(error) = networks.check(address)
    {
        return refuse(&error);
    }
    if let Some(environment) = &machine.environment {
        let wanted = environment.parse().map_err(Failure::could_not)?;
        if let Err(error) = root::refuse_others(site, Some(&name), machine.root, &wanted) {
            return refuse(&error.message);
        }
    }
    match known.insert(name.clone(), machine.clone(), false) {
        Ok(()) => Ok(Step::Add(name, Box::new(machine))),
        Err(error) => refuse(&error),
    }
}

/// Takes over how the machine is run as a guest of this host, as far as a machine has a place for it.
fn hosting(candidate: &Candidate, machine: &mut Machine, notes: &mut Vec<String>) {
    let Candidate { name, run, memory, cpus, bridge, .. } = candidate;
    let mut leave = |place: &Place, what: &str, why: &dyn std::fmt::Display| {
        notes.push(format!("{place}: not taken: {what} of {name}: {why}\n"));
    };
    machine.run = run.as_ref().map(|fact| match fact.value {
        Run::Bhyve => Runner::Bhyve,
        Run::Jail => Runner::Jail,
        Run::Nspawn => Runner::Nspawn,
        Run::Qemu => Runner::Qemu,
    });
    let why = match machine.run {
        None => Some("no file says what runs it"),
        Some(run) if !run.is_virtual() => {
            Some("it runs with this host's kernel, and has all of them")
        }
        Some(_) => None,
    };
    if let Some(fact) = cpus {
        let wanted = Machine { cpus: Some(fact.value), ..machine.clone() };
        match (why, wanted.check()) {
            (Some(why), _) => leave(&fact.place, "the processors", &why),
            (None, Err(error)) => leave(&fact.place, "the processors", &error),
            (None, Ok(())) => *machine = wanted,
        }
    }
    if let Some(fact) = memory {
        match (why, format!("{}M", fact.value).parse()) {
            (Some(why), _) => leave(&fact.place, "the memory", &why),
            (None, Err(error)) => leave(&fact.place, "the memory", &error as &GuestError),
            (None, Ok(memory)) => machine.memory = Some(memory),
        }
    }
    if let Some(fact) = bridge {
        match (machine.run, fact.value.parse()) {
            (None, _) => leave(&fact.place, "the bridge", &"no file says what runs it"),
            (Some(_), Err(error)) => leave(&fact.place, "the bridge", &error as &GuestError),
            (Some(_), Ok(bridge)) => machine.bridge = Some(bridge),
        }
    }
}

/// Whether a machine that is known has all that files say of it.
fn same(name: &MachineName, known: &Machine, told: &Machine) -> Step {
    let lacks = told.macs.iter().find(|mac| !known.macs.contains(mac)).map(ToString::to_string);
    // What is set replaces all that there were.
    let more = told.macs.iter().filter(|mac| !known.macs.contains(mac));
    let macs: Vec<String> =
        known.macs.iter().chain(more).map(|mac| format!("--mac {mac}")).collect();
    let address =
        told.address.filter(|_| told.address != known.address).map(|address| address.to_string());
    let uuid = told.uuid.filter(|_| told.uuid != known.uuid).map(|uuid| uuid.to_string());
    let environment = told.environment.clone().filter(|_| told.environment != known.environment);
    let run = told.run.filter(|_| told.run != known.run).map(|run| run.to_string());
    let cpus = told.cpus.filter(|_| told.cpus != known.cpus).map(|cpus| cpus.to_string());
    let memory = told.memory.filter(|_| told.memory != known.memory);
    let bridge = told.bridge.as_ref().filter(|_| told.bridge != known.bridge);
    let flags = [
        ("mac", lacks),
        ("address", address),
        ("uuid", uuid),
        ("environment", environment),
        ("run", run),
        ("cpus", cpus),
        ("memory", memory.map(|memory| memory.to_string())),
        ("bridge", bridge.map(|bridge| bridge.as_str().to_owned())),
    ];
    let mut differs =
        flags.into_iter().filter_map(|(flag, value)| value.map(|value| (flag, value)));
    match differs.next() {
        None => Step::Keep(name.clone()),
        Some((flag, value)) => {
            let words = if flag == "mac" { macs.join(" ") } else { format!("--{flag} {value}") };
            Step::Refuse(format!(
                "{name} exists already without {flag} {value}: change it with `netbe machine set {words} \
                 {name}`, or leave it out with --except {name}"
            ))
        }
    }
}

/// The environment of the store that a path means, by its last part: /be/web on a server, or a directory here.
fn environment(root: &str, store: Option<&Store>) -> Option<EnvironmentName> {
    let last = root.trim_end_matches('/').rsplit('/').next()?;
    let name: EnvironmentName = last.parse().ok()?;
    store?.get(&name).ok().map(|environment| environment.name)
}

/// What is done for a machine, in words.
fn deed(name: &MachineName, machine: &Machine) -> String {
    let mut words = format!("add the machine {name}");
    for mac in &machine.macs {
        words += &format!(", {mac}");
    }
    if let Some(address) = machine.address {
        words += &format!(", {address}");
    }
    if let Some(uuid) = machine.uuid {
        words += &format!(", UUID {uuid}");
    }
    if let Some(environment) = &machine.environment {
        words += &format!(", which boots {environment}");
    }
    if let Some(run) = machine.run {
        words += &format!(", run by {run}");
    }
    match machine.cpus {
        None => {}
        Some(1) => words += ", 1 processor",
        Some(cpus) => words += &format!(", {cpus} processors"),
    }
    if let Some(memory) = machine.memory {
        words += &format!(", {memory} of memory");
    }
    if let Some(bridge) = &machine.bridge {
        words += &format!(", in the bridge {}", bridge.as_str());
    }
    words
}

fn environments(new: &[(MachineName, Machine)]) -> Vec<EnvironmentName> {
    new.iter().filter_map(|(_, machine)| machine.environment.as_ref()?.parse().ok()).collect()
}

/// Writes all of them, or none: those that were written go again when one fails.
fn write(state: &StateDir, new: &[(MachineName, Machine)]) -> Result<(), Failure> {
    for (index, (name, machine)) in new.iter().enumerate() {
        let Err(error) = machine::store(state, name, machine) else { continue };
        let mut failure = format!("{name} cannot be added: {error}: nothing is added");
        for (name, _) in new.iter().take(index) {
            if let Err(error) = machine::remove(state, name) {
                failure += &format!(", but {name} stays, which cannot be removed again: {error}");
            }
        }
        return Err(Failure::could_not(failure));
    }
    Ok(())
}
