//! The verb that shows how machines stand, and what the server does.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use store::Tries;

use super::order::natural;
use super::settle::{Left, renaming};
use super::{Failure, Format, Reply, Site, Table};
use crate::boot::timeline::{Bytes, Stage};
use crate::control::{self, Client, InterfaceStatus, MachineStatus, Request};

/// Show the state of every machine, and which environments are not served.
///
/// -j also prints the server's state: `machines`, `unserved`, `left` (what interrupted commands
/// left; `left_unread` says why that cannot be read), and `rpc` (counts of NFS calls). -H prints
/// the machines alone.
#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    format: Format,
}

impl Status {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let reply = ask(&mut server(site)?, &Request::Status)?;
        let control::Reply::Status(status) = reply else { return Err(unexpected(&reply)) };
        // What is wrong with the store itself the server tells.
        let left = site.open().map_or_else(|_| Ok(Vec::new()), |store| store.pending());
        let mut unread = Vec::new();
        let mut left = left.unwrap_or_else(|error| {
            unread.push(error.to_string());
            Vec::new()
        });
        match renaming(site, Tries::None) {
            Ok(renaming) => left.extend(renaming),
            Err(error) => unread.push(error.message),
        }
        let left: Vec<Left> = left.iter().map(Left::of).collect();
        let mut unsettled: String = left
            .iter()
            .map(|left| format!("left: {}; see `netbe settle`\n", left.told()))
            .collect();
        for error in &unread {
            unsettled += &format!("what interrupted commands left cannot be read: {error}\n");
        }
        let told = Told { status: &status, left, left_unread: unread };
        let told = self.format.reply(&told, |Told { status, .. }| {
            let header = ["NAME", "STAGE", "ENVIRONMENT", "ADDRESS", "SENT", "SEEN"];
            let mut table = Table::new(&header);
            let mut machines: Vec<_> = status.machines.iter().collect();
            machines.sort_by(|one, other| natural(&one.name, &other.name));
            for machine in machines {
                table.row([
                    machine.name.clone(),
                    stage(machine),
                    environment(machine),
                    machine.address.map_or_else(String::new, |address| address.to_string()),
                    if machine.seen.is_some() {
                        Bytes(machine.sent).to_string()
                    } else {
                        String::new()
                    },
                    machine.seen.map_or_else(String::new, ago),
                ]);
            }
            table
        })?;
        Ok(match self.format.is_for_people() {
            true => told
                .and(&[interfaces(&status), messages(&status)].concat())
                .and(&(unserved(&status).concat() + &unsettled)),
            false => told,
        })
    }
}

/// How the server stands, and what commands left.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    status: &'a control::Status,
    left: Vec<Left>,
    /// Why that cannot be told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_unread: Vec<String>,
}

/// What DHCP does on each interface, line by line.
fn interfaces(status: &control::Status) -> String {
    let told = |interface: &InterfaceStatus| {
        let InterfaceStatus { name, address, mode, foreign } = interface;
        let does = match (mode.as_str(), foreign) {
            ("serve", None) => "hands out addresses".to_owned(),
            ("serve", Some(other)) => {
                format!("hands out addresses; another DHCP server, {other}, answers there too")
            }
            ("proxy", None) => {
                "sends boot files to machines, but no other DHCP server was seen, which has to hand out the \
                 addresses"
                    .to_owned()
            }
            ("proxy", Some(other)) => {
                format!("sends boot files to machines, beside the DHCP server {other}")
            }
            ("passive", None) => "listens and answers nobody".to_owned(),
            ("passive", Some(other)) => {
                format!("answers nobody: another DHCP server, {other}, answers there")
            }
            ("looking", _) => "looks for another DHCP server".to_owned(),
            ("absent", _) => {
                "waits: there is no such interface now, or it has no address".to_owned()
            }
            (mode, _) => mode.to_owned(),
        };
        format!("DHCP on {name} ({address}): {does}\n")
    };
    status.interfaces.iter().map(told).collect()
}

/// What is wrong with machines, or may be, line by line.
fn messages(status: &control::Status) -> String {
    let told = |machine: &&MachineStatus| {
        let message = machine.message.as_ref()?;
        Some(format!("{}: {message}\n", machine.name))
    };
    let mut machines: Vec<_> = status.machines.iter().collect();
    machines.sort_by(|one, other| natural(&one.name, &other.name));
    let told: String = machines.iter().filter_map(told).collect();
    let more = "`netbe explain MACHINE` shows what to do and what the server saw\n";
    if told.is_empty() { told } else { told + more }
}

/// What is not served, line by line.
pub(super) fn unserved(status: &control::Status) -> Vec<String> {
    status.unserved.iter().map(|reason| format!("not served: {reason}\n")).collect()
}

pub(super) fn server(site: &Site) -> Result<Client, Failure> {
    site.server()?.ok_or_else(|| {
        Failure::no(format_args!(
            "no server runs on {}: start it with `netbe serve`",
            site.state().display()
        ))
    })
}

pub(super) fn ask(server: &mut Client, request: &Request) -> Result<control::Reply, Failure> {
    server.ask(request).map_err(|error| {
        Failure::could_not(format_args!("the running server does not answer: {error}"))
    })
}

pub(super) fn unexpected(reply: &control::Reply) -> Failure {
    match reply {
        control::Reply::Failed { message } => Failure::could_not(message),
        control::Reply::Done
        | control::Reply::Explanation(_)
        | control::Reply::Held { .. }
        | control::Reply::Living { .. }
        | control::Reply::Event(_)
        | control::Reply::Reconfigured { .. }
        | control::Reply::Status(_) => {
            Failure::could_not("the running server is of another version: restart it")
        }
    }
}

/// The stage in a word, with how much of a file is there; or the trouble.
pub(super) fn stage(machine: &MachineStatus) -> String {
    if let Some(trouble) = &machine.trouble {
        return trouble.clone();
    }
    match percent(machine) {
        Some(percent) => format!("{} {percent}%", machine.stage.as_str()),
        None => machine.stage.as_str().to_owned(),
    }
}

pub(super) fn percent(machine: &MachineStatus) -> Option<u64> {
    let (bytes, total) = machine.progress?;
    let within = machine.stage > Stage::Leased && machine.stage < Stage::Root;
    bytes.saturating_mul(100).checked_div(total).filter(|_| within)
}

pub(super) fn environment(machine: &MachineStatus) -> String {
    let name = machine.environment.clone().unwrap_or_default();
    if machine.read_only == Some(true) { format!("{name} (ro)") } else { name }
}

pub(super) fn ago(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn machine() -> MachineStatus {
        MachineStatus {
            name: "web1".to_owned(),
            stage: Stage::Kernel,
            progress: Some((42, 100)),
            ..MachineStatus::default()
        }
    }

    #[test]
    fn a_stage_shows_how_much_is_there_and_trouble_comes_before_it() {
        assert_eq!(stage(&machine()), "kernel 42%");
        let refused = MachineStatus { trouble: Some("refused".to_owned()), ..machine() };
        assert_eq!(stage(&refused), "refused");
    }

    #[test]
    fn every_failure_has_its_reason_and_every_interface_what_dhcp_does() {
        let failed = |name: &str| MachineStatus {
            name: name.to_owned(),
            message: Some("see its screen".to_owned()),
            ..machine()
        };
        let interface = |name: &str, mode: &str, foreign| InterfaceStatus {
            name: name.to_owned(),
            address: [10, 0, 0, 1].into(),
            mode: mode.to_owned(),
            foreign,
        };
        let status = control::Status {
            machines: vec![failed("node10"), machine(), failed("node2")],
            interfaces: vec![
                interface("br0", "serve", None),
                interface("br1", "passive", Some([10, 0, 0, 2].into())),
            ],
            ..control::Status::default()
        };
        let told = messages(&status);
        assert!(told.starts_with("node2: see its screen\nnode10: see its screen\n"), "{told}");
        assert_eq!(
            interfaces(&status),
            "DHCP on br0 (10.0.0.1): hands out addresses\n\
             DHCP on br1 (10.0.0.1): answers nobody: another DHCP server, 10.0.0.2, answers there\n"
        );
    }

    #[test]
    fn times_are_short() {
        assert_eq!(ago(0.4), "0s ago");
        assert_eq!(ago(75.0), "1m ago");
        assert_eq!(ago(f64::NAN), "0s ago");
        assert_eq!(ago(200_000.0), "2d ago");
    }
}
