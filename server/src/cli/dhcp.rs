//! The configuration that makes another DHCP server boot machines from this server.

use std::net::Ipv4Addr;

use bootcfg::dhcp::{self, Advice, Firmware};
use clap::{Args, ValueEnum};
use store::EnvironmentName;

use super::guest::GuestOptions;
use super::machine::roster;
use super::{Failure, Reply, Site};
use crate::boot::catalog::{Facts, System};
use crate::boot::decide;
use crate::boot::loader::{HostLoaders, SEARCH_PATH};
use crate::boot::plan::{self, Next, NoPlan, Plan, SCRIPT};
use crate::boot::{Arch, BootId, Client, ClientNetwork};
use crate::net::Mac;
use crate::site::machine::MachineName;
use provision::roots::Owned;

/// The configuration for another DHCP server that boots machines from netbe.
#[derive(Args, Debug)]
pub(crate) struct Dhcp {
    /// The boot environment.
    name: EnvironmentName,
    /// The other DHCP server's program.
    #[arg(long = "for", value_enum, value_name = "PROGRAM")]
    program: Program,
    /// The machine that boots it, by its Ethernet address [default: every machine].
    #[arg(long, value_name = "MACHINE")]
    machine: Option<MachineName>,
    /// This server's address as machines reach it [default: the one on the machine's network].
    #[arg(long, value_name = "ADDRESS")]
    server: Option<Ipv4Addr>,
    /// The port of netbe's HTTP server.
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    http: u16,
}

/// A DHCP server of others.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Program {
    /// ISC dhcpd: statements for dhcpd.conf.
    Dhcpd,
    /// dnsmasq: lines for dnsmasq.conf.
    Dnsmasq,
    /// Kea: classes and a reservation, to be merged into its Dhcp4.
    Kea,
}

impl Dhcp {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let guest = GuestOptions::of(&self.name, self.machine.as_ref(), self.server);
        let subject = guest.subject(site)?;
        let roster = roster(&site.open_state()?)?;
        // netbe itself decides what a machine boots; the other server only leads it here.
        let own = self.machine.as_ref().and_then(|name| Some((name, &roster.get(name)?.machine)));
        let assigned = decide::environment_of(&roster, own);
        if !assigned.is_ok_and(|(name, _)| subject.is_booted(self.machine.as_ref(), name)) {
            let name = &self.name;
            let assign = match &self.machine {
                Some(machine) => format!("--machine {machine} {name}"),
                None => format!("--default {name}"),
            };
            return Err(Failure::no(format_args!(
                "no machine would boot {name}: run `netbe sharepxe {assign}` first"
            )));
        }
        let machine = own.map(|(name, machine)| {
            let mac = machine.macs.first().ok_or_else(|| {
                Failure::no(format_args!(
                    "{name} has no Ethernet address: give it one with `netbe machine set --mac`"
                ))
            })?;
            let (name, mac) = (name.to_string(), bootcfg::Mac(mac.0));
            Ok::<_, Failure>(dhcp::Machine { name, mac, address: machine.address })
        });
        let machine = machine.transpose()?;
        let environment = &subject.environment;
        let facts = Facts {
            name: environment.name.to_string(),
            uuid: environment.uuid,
            read_only: environment.is_read_only(),
            datasets: Vec::new(),
            handle: subject.handle(site)?.as_bytes().to_vec(),
            owned: Owned::of(environment),
            contents: subject.contents()?,
        };
        let loaders = HostLoaders::search(SEARCH_PATH);
        let server = subject.guest.root.server;
        let network = ClientNetwork::default();
        let on_site = plan::Site {
            server,
            http_port: self.http,
            loaders: &loaders,
            proxy: false,
            network: &network,
        };
        let mac = machine.as_ref().map_or(Mac([0; 6]), |machine| Mac(machine.mac.0));
        let plan = |client| {
            let subject = plan::Subject { mac, machine: own, client };
            plan::plan(subject, &facts, own.is_none(), on_site)
        };
        let advice = advice(server, machine, plan).map_err(Failure::no)?;
        if let (Some((name, _)), None, Some(System::FreeBsd)) =
            (own, &advice.root_path, &facts.contents.system)
        {
            return Err(Failure::no(format_args!(
                "{name} gets its root at boot, but FreeBSD's loader needs its path earlier: run \
                 `netbe sharepxe --machine {name} --root own {}` first",
                self.name
            )));
        }
        let program = match self.program {
            Program::Dhcpd => dhcp::Server::Dhcpd,
            Program::Dnsmasq => dhcp::Server::Dnsmasq,
            Program::Kea => dhcp::Server::Kea,
        };
        dhcp::render(&advice, program).map(Reply::text).map_err(Failure::could_not)
    }
}

/// What the plans for all kinds of firmware come to; firmware for which there is no loader is left
/// out, unless that is all of it.
fn advice(
    server: Ipv4Addr,
    machine: Option<dhcp::Machine>,
    plan: impl Fn(Client) -> Result<Plan, NoPlan>,
) -> Result<Advice, NoPlan> {
    let mut files = Vec::new();
    let mut ipxe = None;
    let mut missing = None;
    for (kind, arch) in [
        (Firmware::Bios, Arch::BIOS),
        (Firmware::Uefi, Arch::UEFI_X64),
        (Firmware::UefiArm64, Arch::UEFI_ARM64),
    ] {
        match plan(Client::Pxe(arch)) {
            Ok(plan) => {
                // A script that iPXE finds without a boot's id: its address tells whose it is.
                if plan.chosen.is_none() && !matches!(plan.next, Next::Loader(_)) {
                    ipxe = Some(plan.stable_url(SCRIPT));
                }
                files.extend(plan.first.map(|first| (kind, first.name)));
            }
            Err(error) => missing = missing.or(Some(error)),
        }
    }
    if let (true, Some(missing)) = (files.is_empty(), missing) {
        return Err(missing);
    }
    let (mut root_path, mut variables) = (None, Vec::new());
    let loader = plan(Client::FreeBsdLoader)?;
    if loader.is_freebsd() {
        root_path = loader.answer(BootId(0), Client::FreeBsdLoader).root_path;
        variables = loader.variables.iter().map(ToString::to_string).collect();
    }
    Ok(Advice { server, machine, files, ipxe, root_path, variables })
}
