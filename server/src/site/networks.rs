//! Which addresses machines can have: the one judgement that the server, `serve -n`, `check` and the
//! verbs for machines pass on an address that is kept for a machine.

use std::net::Ipv4Addr;

use super::configured::Configured;
use super::machine::{MachineError, Roster};
use super::state::State;
use crate::net::interface::{Interface, Network};

/// The networks that are known here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Networks {
    /// Those of this host's interfaces, each with the host's address in it, without the loopback's.
    own: Vec<Network>,
    /// Those in which the server hands out addresses, also behind relay agents. `None` where it hands out
    /// none, or nobody knows: then no address is too far away.
    served: Option<Vec<Network>>,
}

impl Networks {
    /// The networks of these interfaces, of which nobody says that addresses are handed out there.
    #[must_use]
    pub fn new(interfaces: &[Interface]) -> Self {
        let own = interfaces.iter().filter(|interface| !interface.loopback);
        Self { own: own.flat_map(|interface| interface.networks.clone()).collect(), served: None }
    }

    /// The same, but for the networks in which addresses are handed out.
    #[must_use]
    pub fn serving(self, served: Vec<Network>) -> Self {
        Self { served: Some(served), ..self }
    }

    /// As commands know them: what this host has now, and what the server that runs, or ran last, noted
    /// as [`Configured`].
    ///
    /// # Errors
    ///
    /// The note cannot be read, or the interfaces cannot be listed.
    pub fn of_site(state: &dyn State) -> Result<Self, MachineError> {
        let known = Self::new(&Interface::all().map_err(MachineError::Interfaces)?);
        let Some(networks) = Configured::load(state)?.networks else { return Ok(known) };
        Ok(known.serving(networks.iter().filter_map(|text| text.parse().ok()).collect()))
    }

    /// The networks in which addresses are handed out, if that is known and any are.
    pub(super) fn served(&self) -> Option<&[Network]> {
        self.served.as_deref()
    }

    /// Why a machine cannot have an address, if it cannot.
    #[must_use]
    pub fn unfit(&self, address: Ipv4Addr) -> Option<Unfit> {
        if self.own.iter().any(|own| own.address == address) {
            return Some(Unfit::Own);
        }
        let served = self.served.as_deref().unwrap_or_default();
        let known = || self.own.iter().chain(served);
        if !known().any(|network| network.has_host(address))
            && let Some(network) = known().find(|network| network.contains(address))
        {
            let network = Network::new(network.base(), network.prefix());
            return Some(match network.broadcast() == address {
                true => Unfit::Broadcast(network),
                false => Unfit::Network(network),
            });
        }
        let outside = |served: &&Vec<Network>| !served.iter().any(|one| one.contains(address));
        let served = self.served.as_ref().filter(outside)?;
        let listed = served.iter().map(|one| Network::new(one.base(), one.prefix()).to_string());
        Some(Unfit::Outside(listed.collect::<Vec<_>>().join(", ")))
    }

    /// The machines with an address that they cannot have, each in a sentence.
    #[must_use]
    pub fn strays(&self, roster: &Roster) -> Vec<String> {
        let kept = roster.iter().filter_map(|(name, entry)| Some((name, entry.machine.address?)));
        let unfit = kept.filter_map(|(name, address)| {
            let unfit = self.unfit(address)?;
            Some(format!("{address} is reserved for {name}, but {unfit}"))
        });
        unfit.collect()
    }

    /// Refuses an address that no machine can have, and warns of one that the server would not give to it:
    /// the server may be told of its network next.
    ///
    /// # Errors
    ///
    /// The address is this host's, or a network's own.
    pub fn check(&self, address: Ipv4Addr) -> Result<(), MachineError> {
        match self.unfit(address) {
            None => Ok(()),
            Some(unfit @ Unfit::Outside(_)) => {
                tracing::warn!(
                    "{address} {unfit}: choose an address there, or serve its network too"
                );
                Ok(())
            }
            Some(unfit) => Err(MachineError::Unfit { address, unfit }),
        }
    }
}

/// Why a machine cannot have an address, to be read after the address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unfit {
    /// It is the highest of its network, to which all of its hosts listen.
    #[error("is the broadcast address of {0}")]
    Broadcast(Network),
    /// It is the lowest of its network, which names the network.
    #[error("is the address of the network {0} itself")]
    Network(Network),
    /// The server hands out no addresses there.
    #[error("lies in no network that is served: {0}")]
    Outside(String),
    /// This host has it.
    #[error("is this host's own address")]
    Own,
}
