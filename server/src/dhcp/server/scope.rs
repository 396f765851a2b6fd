//! Which subnet a client is in.
//!
//! A relayed client is in the subnet that its relay agent tells. On a wire with several networks
//! nobody tells it for the others: the address that the client names or has decides, then the order of
//! the interface's addresses.

use std::cmp::Reverse;
use std::net::Ipv4Addr;
use std::sync::Arc;

use wire::dhcp4::{Code, MessageType};

use super::super::leases::Timestamp;
use super::super::reply::{Arrival, Mode, Port};
use super::super::request::Request;
use super::super::subnet::{Parameters, Settings};
use super::Server;
use crate::boot::ClientNetwork;
use crate::net::interface::Network;

/// A subnet that a client may be in, and what it finds there.
#[derive(Clone, Debug)]
pub(in super::super) struct Scope {
    /// The network that its address comes from.
    pub(in super::super) network: Network,
    /// Our address for it: server identifier, next server and TFTP server.
    pub(in super::super) local: Ipv4Addr,
    /// All our addresses on the interface, which are nobody else's.
    pub(in super::super) ours: Arc<[Ipv4Addr]>,
    /// The router that is known without being configured.
    pub(in super::super) router: Option<Ipv4Addr>,
    /// Whether another server hands out the addresses there.
    pub(in super::super) proxy: bool,
    /// What clients are told there.
    pub(in super::super) parameters: Arc<Parameters>,
    /// The largest packet that our interface sends whole, if it is known.
    mtu: Option<u32>,
}

impl Scope {
    /// The largest packet that our interface sends whole, if it is known.
    pub(in super::super) const fn mtu(&self) -> Option<u32> {
        self.mtu
    }

    /// What the plan of a boot depends on.
    pub(super) fn network_facts(&self) -> ClientNetwork {
        let Parameters { name_servers, domain, mtu, options, .. } = &*self.parameters;
        let told = mtu.map(u32::from);
        let mtu = self.mtu.into_iter().chain(told).min();
        let times = options.iter().filter(|(code, _)| *code == NTP_SERVERS);
        let time_servers = times.flat_map(|(_, value)| value.as_chunks::<4>().0);
        ClientNetwork {
            mtu: mtu.unwrap_or_else(|| ClientNetwork::default().mtu),
            name_servers: name_servers.clone(),
            domain: domain.clone(),
            time_servers: time_servers.map(|address| Ipv4Addr::from(*address)).collect(),
        }
    }
}

/// The subnets, ready to be looked up.
#[derive(Clone, Debug)]
pub(super) struct Subnets {
    named: Vec<Named>,
    /// What holds in networks of an interface that were not named.
    others: Arc<Parameters>,
    forwards: bool,
}

#[derive(Clone, Debug)]
struct Named {
    network: Network,
    relays: Vec<Network>,
    parameters: Arc<Parameters>,
}

impl Subnets {
    pub(super) fn new(settings: Settings) -> Self {
        let named = settings.subnets.into_iter().map(|subnet| Named {
            network: subnet.network,
            relays: subnet.relays,
            parameters: Arc::new(subnet.parameters),
        });
        let others = Arc::new(settings.parameters);
        Self { named: named.collect(), others, forwards: settings.forwards }
    }

    /// The subnets that the sender of a message may be in.
    fn of(&self, request: &Request<'_>, arrival: &Arrival<'_>) -> Vec<Scope> {
        match request.relay {
            Some(relay) => self.behind(relay, request, arrival),
            None => self.attached(arrival),
        }
    }

    /// The networks of an interface.
    fn attached(&self, arrival: &Arrival<'_>) -> Vec<Scope> {
        let mut scopes: Vec<Scope> = Vec::new();
        for network in &arrival.interface.networks {
            // Several addresses of ours in one network are one subnet; we are the first of them.
            if !scopes.iter().any(|scope| scope.network.is_same(*network)) {
                scopes.push(self.own(*network, arrival));
            }
        }
        scopes
    }

    /// The subnets behind a relay agent: those that name it; else that of its link selection (RFC
    /// 3527), of the client's subnet selection (RFC 3011), or of its address.
    fn behind(&self, relay: Ipv4Addr, request: &Request<'_>, arrival: &Arrival<'_>) -> Vec<Scope> {
        let options = &request.message.options;
        let link = options.suboption(Code::RELAY_AGENT_INFORMATION, LINK_SELECTION);
        let link = link.and_then(|value| <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from));
        let chosen = link.or_else(|| options.address(Code::SUBNET_SELECTION));
        let through = |named: &&Named| named.relays.iter().any(|known| known.contains(relay));
        let mut found: Vec<&Named> = match chosen {
            Some(_) => Vec::new(),
            None => self.named.iter().filter(through).collect(),
        };
        let hint = chosen.unwrap_or(relay);
        let networks = &arrival.interface.networks;
        if found.is_empty() {
            if let Some(own) = networks.iter().find(|network| network.contains(hint)) {
                return vec![self.own(*own, arrival)];
            }
            found = self.named.iter().filter(|named| named.network.contains(hint)).collect();
        }
        let asked = networks.iter().find(|own| own.address == arrival.destination);
        let Some(local) = asked.or_else(|| networks.first()).map(|own| own.address) else {
            return Vec::new();
        };
        let scope = |named: &Named| Scope {
            network: named.network,
            local,
            ours: ours(arrival),
            router: Some(relay).filter(|relay| named.network.has_host(*relay)),
            proxy: arrival.mode == Mode::Proxy,
            parameters: Arc::clone(&named.parameters),
            mtu: arrival.interface.mtu,
        };
        found.into_iter().map(scope).collect()
    }

    /// A network that we have an address in.
    fn own(&self, network: Network, arrival: &Arrival<'_>) -> Scope {
        let named = self.named.iter().find(|named| named.network.is_same(network));
        let parameters = named.map_or(&self.others, |named| &named.parameters);
        Scope {
            network,
            local: network.address,
            ours: ours(arrival),
            router: self.forwards.then_some(network.address),
            proxy: arrival.mode == Mode::Proxy,
            parameters: Arc::clone(parameters),
            mtu: arrival.interface.mtu,
        }
    }
}

impl Server {
    /// The subnets that a client may be in, the likeliest first.
    ///
    /// That is the one of the address that it says it has. For a client that asks for an address it is
    /// the one where its root lives, where an address is reserved for it, where it had an address
    /// last, where the address lies that it asks for, and where addresses are handed out, in this
    /// order; among equals, the interface's first.
    pub(super) fn scopes(
        &self,
        request: &Request<'_>,
        arrival: &Arrival<'_>,
        now: Timestamp,
    ) -> Vec<Scope> {
        let mut scopes = self.subnets.of(request, arrival);
        if scopes.len() < 2 {
            return scopes;
        }
        let current = Some(request.message.ciaddr).filter(|address| !address.is_unspecified());
        let source = Some(*arrival.source.ip()).filter(|address| !address.is_unspecified());
        let named = match request.kind {
            MessageType::Discover => None,
            MessageType::Inform => source.filter(|_| request.relay.is_none()).or(current),
            MessageType::Request if arrival.port == Port::Pxe => source.or(current),
            MessageType::Request
            | MessageType::Decline
            | MessageType::Release
            | MessageType::Offer
            | MessageType::Ack
            | MessageType::Nak => current.or(request.wanted),
        };
        scopes.sort_by_cached_key(|scope| {
            if named.is_some_and(|address| scope.network.contains(address)) {
                (0, Reverse(now))
            } else {
                self.likelihood(request, scope, now)
            }
        });
        scopes
    }

    fn likelihood(
        &self,
        request: &Request<'_>,
        scope: &Scope,
        now: Timestamp,
    ) -> (u8, Reverse<Timestamp>) {
        let (mac, network) = (request.mac, scope.network);
        let wanted = request.wanted.filter(|address| network.contains(*address));
        let had = self.leases.of(mac, network);
        if self.living(mac, scope).is_some() {
            (1, Reverse(now))
        } else if self.reserved(mac, scope).is_some() {
            (2, Reverse(now))
        } else if let Some(had) = had {
            (3, Reverse(had.expires))
        } else if wanted.is_some_and(|address| self.pool.contains(address)) {
            (4, Reverse(now))
        } else if self.pool.serves(network) {
            (5, Reverse(now))
        } else {
            (6, Reverse(now))
        }
    }
}

fn ours(arrival: &Arrival<'_>) -> Arc<[Ipv4Addr]> {
    arrival.interface.networks.iter().map(|network| network.address).collect()
}

/// Link selection, a sub-option of 82 (RFC 3527).
const LINK_SELECTION: u8 = 5;
/// RFC 2132 §8.3.
const NTP_SERVERS: u8 = 42;
