//! The verb that switches a machine on over the network.

use clap::Args;

use super::machine::roster;
use super::{Dry, Failure, Reply, Site};
use crate::net::interface::{Interface, Network};
use crate::net::{Mac, wake};
use crate::site::machine::MachineName;

/// Switch a machine on: send its network cards the magic packet of Wake-on-LAN.
///
/// The packet goes to UDP port 9 of every network that this host is in. Nothing answers it: `netbe watch` shows whether the machine boots. A
/// machine wakes if its firmware was set to.
#[derive(Args, Debug)]
pub(crate) struct Wake {
    /// Send by this interface only; may be repeated.
    #[arg(long = "interface", value_name = "IF")]
    interfaces: Vec<String>,
    #[command(flatten)]
    dry: Dry,
    /// The machine, by name or Ethernet address.
    #[arg(value_name = "MACHINE")]
    machine: String,
}

impl Wake {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let macs = self.cards(site)?;
        let networks = self.networks()?;
        let deeds: Vec<String> = networks
            .iter()
            .flat_map(|(interface, network)| {
                macs.iter().map(move |mac| format!("wake {mac} by {interface}, {network}"))
            })
            .collect();
        if let Some(reply) = self.dry.instead_of(site, &deeds) {
            return Ok(reply);
        }
        // One network that refuses keeps it from no other.
        let mut refused = Vec::new();
        for (interface, network) in &networks {
            for mac in &macs {
                if let Err(error) = wake::send(*mac, *network) {
                    refused.push(format!("{interface}, {network}: {error}"));
                }
            }
        }
        match refused.is_empty() {
            true => Ok(Reply::done()),
            false => Err(Failure::could_not(refused.join("; "))),
        }
    }

    /// The Ethernet addresses of its cards.
    fn cards(&self, site: &Site) -> Result<Vec<Mac>, Failure> {
        if let Ok(mac) = self.machine.parse() {
            return Ok(vec![mac]);
        }
        let name: MachineName = self.machine.parse().map_err(Failure::could_not)?;
        let roster = roster(&site.open_state()?)?;
        let entry = roster.get(&name).ok_or_else(|| {
            Failure::no(format_args!("there is no machine {name}: `netbe machine list` shows all"))
        })?;
        match entry.machine.macs.as_slice() {
            [] => Err(Failure::no(format_args!(
                "no Ethernet address of {name} is known: set it by `netbe machine set --mac`"
            ))),
            macs => Ok(macs.to_vec()),
        }
    }

    /// The networks that it is sent into, each with the name of its interface.
    fn networks(&self) -> Result<Vec<(String, Network)>, Failure> {
        let all = Interface::all().map_err(Failure::could_not)?;
        for name in &self.interfaces {
            let reaches = all.iter().find(|known| known.name == *name);
            let reaches = reaches
                .ok_or_else(|| Failure::no(format_args!("this host has no interface {name}")))?;
            if wake::networks(reaches).next().is_none() {
                return Err(Failure::no(format_args!(
                    "{name} reaches no machine: it has to be up, with an IPv4 address in a network that has \
                     a broadcast address"
                )));
            }
        }
        let is_asked =
            |one: &&Interface| self.interfaces.is_empty() || self.interfaces.contains(&one.name);
        let found: Vec<(String, Network)> = all
            .iter()
            .filter(is_asked)
            .flat_map(|one| wake::networks(one).map(|network| (one.name.clone(), network)))
            .collect();
        if found.is_empty() {
            return Err(Failure::no(
                "this host is in no network by which a machine can be reached: give the interface that leads \
                 to the machine an IPv4 address",
            ));
        }
        Ok(found)
    }
}
