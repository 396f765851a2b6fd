//! The DHCP server's state machine (RFC 2131 §4.3).
//!
//! Machines are known by their Ethernet address alone: a client identifier changes from one stage
//! of a boot to the next, and a UUID of zeros is common. An address stays with its machine while
//! the machine's NFS root lives there, whatever the lease says.

mod claims;
mod proxy;
mod scope;

use std::collections::HashSet;
use std::io;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::{error, warn};
use wire::dhcp4::{Builder, Code, MessageType};

use super::leases::{Binding, Leases, State, Timestamp};
use super::options::{self, Kind};
use super::pool::Pool;
use super::reply::{Action, Arrival, Commit, Destination, Durability, Mode, Port, Reply, Silence};
use super::request::Request;
use super::subnet::Settings;
use crate::boot::{Answer, Ask, Booter, Client, ClientAddress, Event};
use crate::net::Mac;
use crate::net::interface::Interface;
pub(super) use scope::Scope;
use scope::Subnets;

/// Hands out addresses and boot files.
pub struct Server {
    subnets: Subnets,
    booter: Arc<dyn Booter>,
    leases: Leases,
    pool: Pool,
    foreign: Vec<Foreign>,
    /// Machines that were told once what proxy mode cannot do for them.
    advised: HashSet<Mac>,
    /// Addresses that somebody wanted to take from the machine whose root lives there.
    disputed: HashSet<Ipv4Addr>,
}

impl Server {
    /// A server that knows these leases from before.
    #[must_use]
    pub fn new(settings: Settings, booter: Arc<dyn Booter>, leases: Leases) -> Self {
        let (pool, subnets) = tables(settings);
        let (foreign, advised, disputed) = (Vec::new(), HashSet::new(), HashSet::new());
        Self { subnets, booter, leases, pool, foreign, advised, disputed }
    }

    /// Hands out by other settings from now on. Every binding stays, and whoever has a lease renews it, also
    /// of an address that lies in no range any more.
    pub fn set_settings(&mut self, settings: Settings) {
        (self.pool, self.subnets) = tables(settings);
    }

    /// Every binding.
    #[must_use]
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The other DHCP servers that were heard, the latest last.
    #[must_use]
    pub fn foreign(&self) -> &[Foreign] {
        &self.foreign
    }

    /// Takes note of another DHCP server on an interface.
    pub fn note_foreign(&mut self, address: Ipv4Addr, interface: &Interface, now: SystemTime) {
        let heard = Foreign { address, interface: interface.name.clone(), heard: now };
        self.foreign.retain(|old| old.address != address || old.interface != interface.name);
        if self.foreign.len() >= FOREIGN {
            self.foreign.remove(0);
        }
        self.foreign.push(heard);
    }

    /// Answers one message, whatever its bytes are. A panic costs nobody more than this message.
    pub fn handle(&mut self, bytes: &[u8], arrival: &Arrival<'_>, now: SystemTime) -> Action {
        let Some(request) = Request::read(bytes, arrival) else {
            return Action::Silence(Silence::Garbage);
        };
        let answer = AssertUnwindSafe(|| self.answer(&request, arrival, now));
        catch_unwind(answer).unwrap_or_else(|_| {
            let mac = request.mac;
            error!(%mac, "a panic cost one message; please report it with what stands above");
            Action::Silence(Silence::Failed)
        })
    }

    fn answer(&mut self, request: &Request<'_>, arrival: &Arrival<'_>, now: SystemTime) -> Action {
        let time = Timestamp::from(now);
        let mut scopes = self.scopes(request, arrival, time);
        let Some(scope) = scopes.first().cloned() else {
            return Action::Silence(Silence::NotOurs);
        };
        match arrival.mode {
            Mode::Passive => return self.observe(request, &scope, arrival, now),
            Mode::Proxy => return self.beside(request, &scope, arrival, now),
            Mode::Looking if !scopes.iter().any(|scope| self.is_ours(request, scope, time)) => {
                return self.listen(request, &scope, arrival, now);
            }
            Mode::Looking | Mode::Serve => {}
        }
        if request.kind == MessageType::Discover {
            scopes.retain(|scope| self.serves(request.mac, scope));
        }
        if scopes.is_empty() || !self.serves(request.mac, scopes.first().unwrap_or(&scope)) {
            let action = self.listen(request, &scope, arrival, now);
            if request.kind == MessageType::Discover {
                let network = scope.network;
                let reason =
                    format!("no range lies in {network}, and no address there is reserved for it");
                self.report(request.mac, Event::Unserved(reason));
            }
            return action;
        }
        if arrival.port == Port::Pxe {
            return self.boot_server(request, &scope, arrival);
        }
        match request.kind {
            MessageType::Discover => self.discover(request, &scopes, time),
            MessageType::Request => match self.other_chosen(request, &scope, arrival, now) {
                Some(other) => other,
                None if request.server.is_some() => self.select(request, &scope, &scopes, time),
                None => self.confirm(request, &scope, &scopes, arrival, time),
            },
            MessageType::Decline => self.decline(request, &scope, time),
            MessageType::Release => self.release(request, time),
            MessageType::Inform => self.inform(request, &scope, arrival),
            // These are a server's words.
            MessageType::Offer | MessageType::Ack | MessageType::Nak => {
                Action::Silence(Silence::Garbage)
            }
        }
    }

    /// Whether a machine may hear from us in this network. Where no range lies, somebody else hands
    /// out addresses: only machines that have an address of ours there are ours.
    fn serves(&self, mac: Mac, scope: &Scope) -> bool {
        self.pool.serves(scope.network)
            || self.reserved(mac, scope).is_some()
            || self.leases.of(mac, scope.network).is_some()
    }

    /// Whether a message is of a machine that has an address of ours in this network, by a lease that runs or
    /// because it is kept for it, and about no other address.
    fn is_ours(&self, request: &Request<'_>, scope: &Scope, now: Timestamp) -> bool {
        let current = Some(request.message.ciaddr).filter(|address| !address.is_unspecified());
        let about = current.or(request.wanted).filter(|_| request.kind == MessageType::Request);
        let leased = self.leases.all_of(request.mac, scope.network);
        let leased = leased.filter(|binding| binding.is_leased(now)).map(|binding| binding.address);
        let mut held = leased
            .filter(|address| self.pool.contains(*address))
            .chain(self.reserved(request.mac, scope));
        held.any(|address| about.is_none_or(|about| about == address))
    }

    /// Where netbe does not serve: what is seen is told, nothing is said.
    fn listen(
        &mut self,
        request: &Request<'_>,
        scope: &Scope,
        arrival: &Arrival<'_>,
        now: SystemTime,
    ) -> Action {
        if request.kind == MessageType::Discover {
            self.report(request.mac, Event::Discover(request.client));
        }
        let other = self.other_chosen(request, scope, arrival, now);
        other.unwrap_or(Action::Silence(Silence::Passive))
    }

    /// DHCPDISCOVER (RFC 2131 §4.3.1). The same machine is offered the same address however many
    /// transactions it begins: U-Boot sends four and takes up the first.
    fn discover(&mut self, request: &Request<'_>, scopes: &[Scope], now: Timestamp) -> Action {
        self.report(request.mac, Event::Discover(request.client));
        let (mac, wanted) = (request.mac, request.wanted);
        let known = scopes.iter().find_map(|scope| {
            let begins = self.begins_at(request, scope, now);
            Some((scope, begins.or_else(|| self.known(mac, scope, wanted, now))?))
        });
        let found = known.or_else(|| {
            scopes.iter().find_map(|scope| Some((scope, self.fresh(mac, scope, now)?)))
        });
        let Some((scope, address)) = found else {
            let networks = scopes.iter().map(|scope| scope.network.to_string());
            let networks = networks.collect::<Vec<_>>().join(", ");
            self.report(mac, Event::Unserved(format!("no address is left in {networks}")));
            return Action::Silence(Silence::Exhausted);
        };
        self.hold(mac, address, now);
        let reply = self.lease_reply(request, MessageType::Offer, address, scope);
        Action::Send(Reply { offers: Some(address), ..reply })
    }

    /// DHCPREQUEST that takes up our offer (RFC 2131 §4.3.2, SELECTING).
    fn select(
        &mut self,
        request: &Request<'_>,
        scope: &Scope,
        scopes: &[Scope],
        now: Timestamp,
    ) -> Action {
        let Some(wanted) = request.wanted else { return Action::Silence(Silence::Garbage) };
        self.assign(request, scope, scopes, wanted, now)
    }

    /// DHCPREQUEST for an address that the client had before (RFC 2131 §4.3.2): INIT-REBOOT with
    /// option 50, RENEWING by unicast and REBINDING by broadcast with `ciaddr`.
    fn confirm(
        &mut self,
        request: &Request<'_>,
        scope: &Scope,
        scopes: &[Scope],
        arrival: &Arrival<'_>,
        now: Timestamp,
    ) -> Action {
        let current = Some(request.message.ciaddr).filter(|address| !address.is_unspecified());
        let Some(wanted) = current.or(request.wanted) else {
            return Action::Silence(Silence::Garbage);
        };
        if !scope.network.has_host(wanted) {
            return self.refuse(request, scope, wanted);
        }
        // Who renews by unicast was given the address by this server, even if its record is lost.
        let renewing = current.is_some() && arrival.destination == scope.local;
        let recorded = self.leases.of(request.mac, scope.network).is_some()
            || self.reserved(request.mac, scope).is_some();
        if !recorded && !renewing {
            return Action::Silence(Silence::Unknown);
        }
        self.assign(request, scope, scopes, wanted, now)
    }

    /// Gives the machine the address that it wants, or refuses it. While a root lives, neither its
    /// machine nor another one is told anything that would move its address, but for what the operator
    /// has reserved for it, from the machine's next boot on.
    fn assign(
        &mut self,
        request: &Request<'_>,
        scope: &Scope,
        scopes: &[Scope],
        wanted: Ipv4Addr,
        now: Timestamp,
    ) -> Action {
        let mac = request.mac;
        let living = scopes.iter().find_map(|scope| self.living(mac, scope));
        let moves = self.moved(mac, scope, now) == Some(wanted);
        if let Some(address) = living.filter(|address| *address != wanted && !moves) {
            return self.dispute(address, &format!("to get {wanted} instead"));
        }
        if living == Some(wanted) {
            return self.grant(request, scope, wanted, now);
        }
        if self.known(mac, scope, Some(wanted), now) == Some(wanted)
            || self.renews(request, scope, wanted, now)
        {
            return self.grant(request, scope, wanted, now);
        }
        if self.booter.lives(wanted) {
            return self.dispute(wanted, &format!("to give it to {mac}"));
        }
        self.refuse(request, scope, wanted)
    }

    /// A message that would take an address from the machine whose root lives there. It is not obeyed:
    /// anybody on the network can send it.
    fn dispute(&mut self, address: Ipv4Addr, what: &str) -> Action {
        if self.disputed.len() >= DISPUTED {
            self.disputed.clear();
        }
        if self.disputed.insert(address) {
            let advice = format!(
                "somebody asked {what}, but a running machine has its root at {address}: ignored; \
                 if that machine was not restarted, look for two machines with one Ethernet address, \
                 or for a forger"
            );
            warn!("{advice}");
            self.booter.report(ClientAddress::Ip(address.into()), Event::Advised(advice));
        }
        Action::Silence(Silence::Lives)
    }

    /// DHCPREQUEST that takes up another server's offer, whatever netbe does on the interface: that
    /// server is noted, and ours is free again. Nothing if the message is another one.
    fn other_chosen(
        &mut self,
        request: &Request<'_>,
        scope: &Scope,
        arrival: &Arrival<'_>,
        now: SystemTime,
    ) -> Option<Action> {
        let ours = request.identifier(scope.local);
        let chosen = request.server.filter(|_| request.kind == MessageType::Request);
        let is_own = |server: Ipv4Addr| {
            let mut networks = arrival.interface.networks.iter();
            server == ours || networks.any(|network| network.address == server)
        };
        let server = chosen.filter(|server| !is_own(*server))?;
        self.note_foreign(server, arrival.interface, now);
        let offered: Vec<Binding> = self
            .leases
            .all_of(request.mac, scope.network)
            .filter(|binding| {
                binding.state == State::Offered && !self.booter.lives(binding.address)
            })
            .collect();
        for binding in offered {
            self.leases.remove(binding.address);
        }
        // A proxy is beside that server so that it is chosen: no trouble for the machine.
        if arrival.mode != Mode::Proxy {
            self.report(request.mac, Event::ForeignServer(server));
        }
        Some(Action::Silence(Silence::OtherServer(server)))
    }

    /// DHCPDECLINE (RFC 2131 §4.3.3): somebody else uses the address.
    fn decline(&mut self, request: &Request<'_>, scope: &Scope, now: Timestamp) -> Action {
        let ours = request.server.is_none_or(|server| server == request.identifier(scope.local));
        let binding = request.wanted.filter(|_| ours).and_then(|address| self.leases.get(address));
        let Some(binding) = binding.filter(|binding| binding.is_of(request.mac)) else {
            return Action::Silence(Silence::Unknown);
        };
        if self.booter.lives(binding.address) {
            return self
                .dispute(binding.address, "to have the address declared as in use (DECLINE)");
        }
        let declined =
            Binding { state: State::Declined, expires: now.after(QUARANTINE), ..binding };
        self.leases.put(declined);
        self.report(request.mac, Event::Declined(binding.address));
        let durability = Durability::Soon;
        Action::Commit(Commit { bindings: vec![declined], durability, reply: None })
    }

    /// DHCPRELEASE (RFC 2131 §4.3.4): the address is free, but its machine is remembered.
    fn release(&mut self, request: &Request<'_>, now: Timestamp) -> Action {
        let binding = self.leases.get(request.message.ciaddr);
        let Some(binding) = binding.filter(|binding| binding.is_of(request.mac)) else {
            return Action::Silence(Silence::Unknown);
        };
        if self.booter.lives(binding.address) {
            return self.dispute(binding.address, "to free the address (RELEASE)");
        }
        let released = Binding { state: State::Released, expires: now, ..binding };
        self.leases.put(released);
        self.report(request.mac, Event::Released(binding.address));
        let durability = Durability::Soon;
        Action::Commit(Commit { bindings: vec![released], durability, reply: None })
    }

    /// DHCPINFORM (RFC 2131 §4.3.5): the client has an address and wants the rest.
    fn inform(&mut self, request: &Request<'_>, scope: &Scope, arrival: &Arrival<'_>) -> Action {
        let message = &request.message;
        let source = *arrival.source.ip();
        let relayed = request.relay.is_some();
        // Only to clients of the network: an answer to a forged source is not worth its while.
        if !relayed && !scope.network.has_host(source) {
            return Action::Silence(Silence::NotOurs);
        }
        let mut reply = self.begin(request, MessageType::Ack, scope);
        reply.ciaddr(message.ciaddr);
        self.fill(&mut reply, request, scope);
        let to = match relayed {
            true => Destination::of(message, request.mac, Ipv4Addr::UNSPECIFIED, false),
            // RFC 2131 says `ciaddr`; whoever leaves it empty is found at its source.
            false => Destination::Address(arrival.source),
        };
        Action::Send(finish(reply, request, scope, arrival.port, to))
    }

    /// A question on port 4011, which goes back to where it came from (PXE 2.1 §2.2.5).
    fn boot_server(&self, request: &Request<'_>, scope: &Scope, arrival: &Arrival<'_>) -> Action {
        let asks = matches!(request.kind, MessageType::Request | MessageType::Inform);
        let pxe = matches!(request.client, Client::Pxe(_));
        if !asks || !pxe || !scope.network.has_host(*arrival.source.ip()) {
            return Action::Silence(Silence::NotOurs);
        }
        let Some(answer) = self.decide(request, scope) else {
            return Action::Silence(Silence::Nothing);
        };
        let mut reply = self.begin(request, MessageType::Ack, scope);
        reply.ciaddr(request.message.ciaddr);
        let (message, client) = (&request.message, request.client);
        options::boot(&mut reply, message, client, &answer, scope.local, Kind::BootServer);
        options::boot_server(&mut reply, &request.message);
        Action::Send(finish(
            reply,
            request,
            scope,
            arrival.port,
            Destination::Address(arrival.source),
        ))
    }

    /// DHCPACK: the address is the machine's for a lease's time.
    fn grant(
        &mut self,
        request: &Request<'_>,
        scope: &Scope,
        address: Ipv4Addr,
        now: Timestamp,
    ) -> Action {
        let mac = request.mac;
        let before = self.leases.get(address);
        let had = before.is_some_and(|old| old.is_of(mac) && old.state == State::Leased);
        let named = self.booter.reservation(mac).is_some();
        let durability = if named && !had { Durability::Now } else { Durability::Soon };
        let others = self.leases.all_of(mac, scope.network).filter(|binding| {
            let other = binding.address != address && binding.expires > now;
            other && !self.booter.lives(binding.address)
        });
        let released = |other| Binding { state: State::Released, expires: now, ..other };
        let mut bindings: Vec<Binding> = others.map(released).collect();
        let expires = now.after(scope.parameters.lease);
        bindings.push(Binding { address, mac, state: State::Leased, expires });
        self.leases.extend(bindings.iter().copied());
        let reply = self.lease_reply(request, MessageType::Ack, address, scope);
        self.report(mac, Event::Leased(address));
        Action::Commit(Commit { bindings, durability, reply: Some(reply) })
    }

    /// DHCPNAK: the client cannot have the address and has to begin anew.
    fn refuse(&mut self, request: &Request<'_>, scope: &Scope, wanted: Ipv4Addr) -> Action {
        let mut reply = self.begin(request, MessageType::Nak, scope);
        reply.set(Code::MESSAGE, format!("{wanted} is not yours here"));
        if request.relay.is_some() {
            // The client may not have an address in its network yet (RFC 2131 §4.3.2).
            reply.broadcast();
        }
        self.report(request.mac, Event::Refused(wanted));
        let to = Destination::of(&request.message, request.mac, Ipv4Addr::UNSPECIFIED, true);
        Action::Send(finish(reply, request, scope, Port::Dhcp, to))
    }

    /// An OFFER or an ACK, which say the same.
    fn lease_reply(
        &self,
        request: &Request<'_>,
        kind: MessageType,
        address: Ipv4Addr,
        scope: &Scope,
    ) -> Reply {
        let message = &request.message;
        let mut reply = self.begin(request, kind, scope);
        reply.yiaddr(address);
        let offer = kind == MessageType::Offer;
        if !offer {
            reply.ciaddr(message.ciaddr);
        }
        let lease = u32::try_from(scope.parameters.lease.as_secs()).unwrap_or(u32::MAX);
        reply.set(Code::LEASE_TIME, lease.to_be_bytes());
        // T1 and T2; a client that has no room for them takes the same (RFC 2131 §4.4.5).
        reply.offer(Code::RENEWAL_TIME, (lease / 2).to_be_bytes());
        reply.offer(Code::REBINDING_TIME, (lease / 8).saturating_mul(7).to_be_bytes());
        self.fill(&mut reply, request, scope);
        let mut to = Destination::of(message, request.mac, address, false);
        if offer && matches!(to, Destination::Address(_)) {
            // A DISCOVER's `ciaddr` is nobody's word for an address (RFC 2131 §4.4.1: it is 0).
            to = Destination::Hardware { mac: request.mac, address };
        }
        finish(reply, request, scope, Port::Dhcp, to)
    }

    fn begin(&self, request: &Request<'_>, kind: MessageType, scope: &Scope) -> Builder {
        let mut reply = Builder::reply(&request.message, kind);
        if let Some(mtu) = scope.mtu() {
            reply.keep_to_mtu(mtu);
        }
        reply.set(Code::SERVER_IDENTIFIER, request.identifier(scope.local).octets());
        reply
    }

    /// Adds what the client is told beside its address.
    fn fill(&self, reply: &mut Builder, request: &Request<'_>, scope: &Scope) {
        options::network(reply, request.client, scope);
        let answer = self.decide(request, scope);
        let given = answer.as_ref().and_then(|answer| answer.host_name.clone());
        let name = given.or_else(|| self.booter.reservation(request.mac).map(|own| own.name));
        if let Some(name) = name {
            reply.set(Code::HOST_NAME, name);
        }
        if let Some(answer) = answer {
            let (message, client) = (&request.message, request.client);
            options::boot(reply, message, client, &answer, scope.local, Kind::Lease);
        }
    }

    fn decide(&self, request: &Request<'_>, scope: &Scope) -> Option<Answer> {
        self.booter.decide(&Self::question(request, scope))
    }

    /// What is asked of the boots.
    fn question(request: &Request<'_>, scope: &Scope) -> Ask {
        Ask {
            mac: request.mac,
            uuid: request.uuid,
            client: request.client,
            xid: request.message.xid,
            discover: request.kind == MessageType::Discover,
            local: scope.local,
            proxy: scope.proxy,
            observed: false,
            network: scope.network_facts(),
        }
    }

    /// Tells what became of an answer: an address is offered when the offer has left.
    pub fn sent(&self, reply: &Reply, outcome: &io::Result<()>) {
        match (outcome, reply.offers) {
            (Ok(()), Some(address)) => self.report(reply.mac, Event::Offered(address)),
            (Ok(()), None) => {}
            (Err(error), _) => {
                let reason = format!("the answer to it could not be sent: {error}");
                self.report(reply.mac, Event::Unserved(reason));
            }
        }
    }

    fn report(&self, mac: Mac, event: Event) {
        self.booter.report(ClientAddress::Mac(mac), event);
    }
}

/// The addresses that settings hand out, and the subnets.
fn tables(settings: Settings) -> (Pool, Subnets) {
    let named = settings.subnets.iter().flat_map(|subnet| &subnet.ranges);
    let pool = Pool::new(named.chain(&settings.ranges).copied());
    (pool, Subnets::new(settings))
}

fn finish(
    reply: Builder,
    request: &Request<'_>,
    scope: &Scope,
    port: Port,
    to: Destination,
) -> Reply {
    let (bytes, local, mac) = (reply.finish(), scope.local, request.mac);
    Reply { bytes, local, port, to, mac, offers: None }
}

/// Another DHCP server that was heard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Foreign {
    /// Its address.
    pub address: Ipv4Addr,
    /// The interface that it was heard on.
    pub interface: String,
    /// When it was last heard.
    pub heard: SystemTime,
}

/// How long a declined address is given to nobody.
const QUARANTINE: Duration = Duration::from_secs(600);

/// Other servers that are remembered; a forger could name any number.
const FOREIGN: usize = 16;

/// Disputed addresses that are remembered, each of a running machine.
const DISPUTED: usize = 4096;
