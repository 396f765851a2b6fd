//! The DHCP server's state machine (RFC 2131 §4.3).
//!
//! Machines are known by their Ethernet address alone: a client identifier changes from one stage
//! of a boot to the next, and a UUID of zeros is common. An address stays with its machine while
//! the machine's NFS root lives there, whatever the lease says.

mod claims;
mod proxy;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::error;
use wire::dhcp4::{Builder, Code, MessageType};

use super::Settings;
use super::counters::Counters;
use super::leases::{Binding, Leases, Moment, State};
use super::pool::Pool;
use super::recipe::{self, Leg, Place};
use super::reply::{Action, Arrival, Commit, Destination, Durability, Mode, Port, Reply, Silence};
use super::request::Request;
use crate::boot::{Answer, Ask, Booter, Client, Event, Origin};
use crate::net::Mac;
use crate::net::interface::Interface;

/// Hands out addresses and boot files.
pub struct Server {
    settings: Settings,
    booter: Arc<dyn Booter>,
    leases: Leases,
    pool: Pool,
    foreign: Vec<Foreign>,
    counters: Counters,
    /// Machines that were told once what proxy mode cannot do for them.
    advised: HashSet<Mac>,
}

impl Server {
    /// A server that knows these leases from before.
    #[must_use]
    pub fn new(settings: Settings, booter: Arc<dyn Booter>, leases: Leases) -> Self {
        let pool = Pool::new(&settings.ranges);
        let (foreign, counters, advised) = (Vec::new(), Counters::default(), HashSet::new());
        Self { settings, booter, leases, pool, foreign, counters, advised }
    }

    /// Every binding, for the journal and for those who watch.
    #[must_use]
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The other DHCP servers that were heard, the latest last.
    #[must_use]
    pub fn foreign(&self) -> &[Foreign] {
        &self.foreign
    }

    /// How many messages came to what.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
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
        self.counters.received = self.counters.received.saturating_add(1);
        let action = match Request::read(bytes, arrival) {
            Some(request) => {
                let answer = AssertUnwindSafe(|| self.answer(&request, arrival, now));
                catch_unwind(answer).unwrap_or_else(|_| {
                    let mac = request.mac;
                    error!(%mac, "a panic cost one message; please report it with what stands above");
                    Action::Silence(Silence::Failed)
                })
            }
            None => Action::Silence(Silence::Garbage),
        };
        self.counters.count(&action);
        action
    }

    fn answer(&mut self, request: &Request<'_>, arrival: &Arrival<'_>, now: SystemTime) -> Action {
        let Some(place) = self.place(request, arrival) else {
            return Action::Silence(Silence::NotOurs);
        };
        let moment = Moment::from(now);
        match arrival.mode {
            Mode::Passive => return self.overhear(request, &place, arrival, now),
            Mode::Proxy => return self.stand_by(request, &place, arrival, now),
            Mode::Serve => {}
        }
        if !self.serves(request.mac, &place) {
            let action = self.listen(request, &place, arrival, now);
            if request.kind == MessageType::Discover {
                let network = place.network;
                let reason =
                    format!("no range lies in {network}, and no address there is kept for it");
                self.report(request.mac, Event::Unserved(reason));
            }
            return action;
        }
        if arrival.port == Port::Pxe {
            return self.boot_server(request, &place, arrival);
        }
        match request.kind {
            MessageType::Discover => self.discover(request, &place, moment),
            MessageType::Request => match self.lose(request, &place, arrival, now) {
                Some(lost) => lost,
                None if request.server.is_some() => self.select(request, &place, moment),
                None => self.confirm(request, &place, arrival, moment),
            },
            MessageType::Decline => self.decline(request, &place, moment),
            MessageType::Release => self.release(request, moment),
            MessageType::Inform => self.inform(request, &place, arrival),
            // These are a server's words.
            MessageType::Offer | MessageType::Ack | MessageType::Nak => {
                Action::Silence(Silence::Garbage)
            }
        }
    }

    /// Which network the client is in: that of the relay's choice (RFC 3527), of the client's
    /// (RFC 3011), of the relay's address, or of the interface, in this order.
    fn place(&self, request: &Request<'_>, arrival: &Arrival<'_>) -> Option<Place> {
        let options = &request.message.options;
        let networks = &arrival.interface.networks;
        let proxy = arrival.mode == Mode::Proxy;
        let chosen = options.suboption(Code::RELAY_AGENT_INFORMATION, LINK_SELECTION);
        let chosen = chosen.and_then(|value| <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from));
        let chosen = chosen.or_else(|| options.address(Code::SUBNET_SELECTION));
        let relay = Some(request.message.giaddr).filter(|relay| !relay.is_unspecified());
        let Some(hint) = chosen.or(relay) else {
            let served = networks.iter().find(|network| self.pool.serves(**network));
            let network = *served.or_else(|| networks.first())?;
            let router = self.settings.forwards.then_some(network.address);
            return Some(Place { network, local: network.address, router, proxy });
        };
        if let Some(&network) = networks.iter().find(|network| network.contains(hint)) {
            let router = self.settings.forwards.then_some(network.address);
            return Some(Place { network, local: network.address, router, proxy });
        }
        let network = *self.settings.remote.iter().find(|network| network.contains(hint))?;
        let asked = networks.iter().find(|ours| ours.address == arrival.destination);
        let local = asked.or_else(|| networks.first())?.address;
        Some(Place { network, local, router: Some(network.address), proxy })
    }

    /// Whether a machine may hear from us in this network. Where no range lies, somebody else hands
    /// out addresses: only machines that have an address of ours there are ours.
    fn serves(&self, mac: Mac, place: &Place) -> bool {
        self.pool.serves(place.network)
            || self.reserved(mac, place).is_some()
            || self.leases.of(mac, place.network).is_some()
    }

    /// Where netbe does not serve: what is seen is told, nothing is said.
    fn listen(
        &mut self,
        request: &Request<'_>,
        place: &Place,
        arrival: &Arrival<'_>,
        now: SystemTime,
    ) -> Action {
        if request.kind == MessageType::Discover {
            self.report(request.mac, Event::Discover(request.client));
        }
        let lost = self.lose(request, place, arrival, now);
        lost.unwrap_or(Action::Silence(Silence::Passive))
    }

    /// DHCPDISCOVER (RFC 2131 §4.3.1). The same machine is offered the same address however many
    /// transactions it begins: U-Boot sends four and takes up the first.
    fn discover(&mut self, request: &Request<'_>, place: &Place, now: Moment) -> Action {
        self.report(request.mac, Event::Discover(request.client));
        let wanted = request.wanted;
        let known = self.known(request.mac, place, wanted, now);
        let Some(address) = known.or_else(|| self.fresh(request.mac, place, now)) else {
            let reason = format!("no address is left in {}", place.network);
            self.report(request.mac, Event::Unserved(reason));
            return Action::Silence(Silence::Exhausted);
        };
        self.hold(request.mac, address, now);
        let reply = self.lease_reply(request, MessageType::Offer, address, place);
        self.report(request.mac, Event::Offered(address));
        Action::Send(reply)
    }

    /// DHCPREQUEST that takes up our offer (RFC 2131 §4.3.2, SELECTING).
    fn select(&mut self, request: &Request<'_>, place: &Place, now: Moment) -> Action {
        let Some(wanted) = request.wanted else { return Action::Silence(Silence::Garbage) };
        if self.known(request.mac, place, Some(wanted), now) == Some(wanted) {
            return self.grant(request, place, wanted, now);
        }
        self.refuse(request, place, wanted)
    }

    /// DHCPREQUEST for an address that the client had before (RFC 2131 §4.3.2): INIT-REBOOT with
    /// option 50, RENEWING by unicast and REBINDING by broadcast with `ciaddr`.
    fn confirm(
        &mut self,
        request: &Request<'_>,
        place: &Place,
        arrival: &Arrival<'_>,
        now: Moment,
    ) -> Action {
        let current = Some(request.message.ciaddr).filter(|address| !address.is_unspecified());
        let Some(wanted) = current.or(request.wanted) else {
            return Action::Silence(Silence::Garbage);
        };
        if !place.network.has_host(wanted) {
            return self.refuse(request, place, wanted);
        }
        // Who renews by unicast was given the address by this server, even if its record is lost.
        let renewing = current.is_some() && arrival.destination == place.local;
        let recorded = self.leases.of(request.mac, place.network).is_some()
            || self.reserved(request.mac, place).is_some();
        if !recorded && !renewing {
            return Action::Silence(Silence::Unknown);
        }
        if self.known(request.mac, place, Some(wanted), now) == Some(wanted) {
            return self.grant(request, place, wanted, now);
        }
        self.refuse(request, place, wanted)
    }

    /// DHCPREQUEST that takes up another server's offer, whatever netbe does on the interface: that
    /// server is noted, and ours is free again. Nothing if the message is another one.
    fn lose(
        &mut self,
        request: &Request<'_>,
        place: &Place,
        arrival: &Arrival<'_>,
        now: SystemTime,
    ) -> Option<Action> {
        let ours = request.identifier(place.local);
        let chosen = request.server.filter(|_| request.kind == MessageType::Request);
        let server = chosen.filter(|server| *server != ours)?;
        self.note_foreign(server, arrival.interface, now);
        let offered: Vec<Binding> = self
            .leases
            .all_of(request.mac, place.network)
            .filter(|binding| binding.state == State::Offered)
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
    fn decline(&mut self, request: &Request<'_>, place: &Place, now: Moment) -> Action {
        let ours = request.server.is_none_or(|server| server == request.identifier(place.local));
        let binding = request.wanted.filter(|_| ours).and_then(|address| self.leases.get(address));
        let Some(binding) = binding.filter(|binding| binding.is_of(request.mac)) else {
            return Action::Silence(Silence::Unknown);
        };
        let declined =
            Binding { state: State::Declined, expires: now.after(QUARANTINE), ..binding };
        self.leases.put(declined);
        self.report(request.mac, Event::Declined(binding.address));
        let durability = Durability::Soon;
        Action::Commit(Commit { binding: declined, durability, reply: None })
    }

    /// DHCPRELEASE (RFC 2131 §4.3.4): the address is free, but its machine is remembered.
    fn release(&mut self, request: &Request<'_>, now: Moment) -> Action {
        let binding = self.leases.get(request.message.ciaddr);
        let Some(binding) = binding.filter(|binding| binding.is_of(request.mac)) else {
            return Action::Silence(Silence::Unknown);
        };
        let released = Binding { state: State::Released, expires: now, ..binding };
        self.leases.put(released);
        self.report(request.mac, Event::Released(binding.address));
        let durability = Durability::Soon;
        Action::Commit(Commit { binding: released, durability, reply: None })
    }

    /// DHCPINFORM (RFC 2131 §4.3.5): the client has an address and wants the rest.
    fn inform(&mut self, request: &Request<'_>, place: &Place, arrival: &Arrival<'_>) -> Action {
        let message = &request.message;
        let source = *arrival.source.ip();
        let relayed = !message.giaddr.is_unspecified();
        // Only to clients of the network: an answer to a forged source is not worth its while.
        if !relayed && !place.network.has_host(source) {
            return Action::Silence(Silence::NotOurs);
        }
        let mut reply = self.begin(request, MessageType::Ack, place);
        reply.ciaddr(message.ciaddr);
        self.fill(&mut reply, request, place);
        let to = match relayed {
            true => Destination::of(message, request.mac, Ipv4Addr::UNSPECIFIED, false),
            // RFC 2131 says `ciaddr`; whoever leaves it empty is found at its source.
            false => Destination::Address(arrival.source),
        };
        Action::Send(finish(reply, place, arrival.port, to))
    }

    /// A question on port 4011, which goes back to where it came from (PXE 2.1 §2.2.5).
    fn boot_server(&self, request: &Request<'_>, place: &Place, arrival: &Arrival<'_>) -> Action {
        let asks = matches!(request.kind, MessageType::Request | MessageType::Inform);
        let pxe = matches!(request.client, Client::Pxe(_));
        if !asks || !pxe || !place.network.has_host(*arrival.source.ip()) {
            return Action::Silence(Silence::NotOurs);
        }
        let Some(answer) = self.decide(request, place) else {
            return Action::Silence(Silence::Nothing);
        };
        let mut reply = self.begin(request, MessageType::Ack, place);
        reply.ciaddr(request.message.ciaddr);
        let (message, client) = (&request.message, request.client);
        recipe::boot(&mut reply, message, client, &answer, place.local, Leg::BootServer);
        recipe::boot_server(&mut reply, &request.message);
        Action::Send(finish(reply, place, arrival.port, Destination::Address(arrival.source)))
    }

    /// DHCPACK: the address is the machine's for a lease's time.
    fn grant(
        &mut self,
        request: &Request<'_>,
        place: &Place,
        address: Ipv4Addr,
        now: Moment,
    ) -> Action {
        let mac = request.mac;
        let before = self.leases.get(address);
        let had = before.is_some_and(|old| old.is_of(mac) && old.state == State::Leased);
        let named = self.booter.reservation(mac).is_some();
        let durability = if named && !had { Durability::Now } else { Durability::Soon };
        let others: Vec<Binding> = self
            .leases
            .all_of(mac, place.network)
            .filter(|binding| binding.address != address && binding.expires > now)
            .collect();
        for other in others {
            self.leases.put(Binding { state: State::Released, expires: now, ..other });
        }
        let expires = now.after(self.settings.lease);
        let binding = Binding { address, mac, state: State::Leased, expires };
        self.leases.put(binding);
        let reply = self.lease_reply(request, MessageType::Ack, address, place);
        self.report(mac, Event::Leased(address));
        Action::Commit(Commit { binding, durability, reply: Some(reply) })
    }

    /// DHCPNAK: the client cannot have the address and has to begin anew.
    fn refuse(&mut self, request: &Request<'_>, place: &Place, wanted: Ipv4Addr) -> Action {
        let mut reply = self.begin(request, MessageType::Nak, place);
        reply.set(Code::MESSAGE, format!("{wanted} is not yours here"));
        if !request.message.giaddr.is_unspecified() {
            // The client may not have an address in its network yet (RFC 2131 §4.3.2).
            reply.broadcast();
        }
        self.report(request.mac, Event::Refused(wanted));
        let to = Destination::of(&request.message, request.mac, Ipv4Addr::UNSPECIFIED, true);
        Action::Send(finish(reply, place, Port::Dhcp, to))
    }

    /// An OFFER or an ACK, which say the same.
    fn lease_reply(
        &self,
        request: &Request<'_>,
        kind: MessageType,
        address: Ipv4Addr,
        place: &Place,
    ) -> Reply {
        let message = &request.message;
        let mut reply = self.begin(request, kind, place);
        reply.yiaddr(address);
        let offer = kind == MessageType::Offer;
        if !offer {
            reply.ciaddr(message.ciaddr);
        }
        let lease = u32::try_from(self.settings.lease.as_secs()).unwrap_or(u32::MAX);
        reply.set(Code::LEASE_TIME, lease.to_be_bytes());
        // T1 and T2; a client that has no room for them takes the same (RFC 2131 §4.4.5).
        reply.offer(Code::RENEWAL_TIME, (lease / 2).to_be_bytes());
        reply.offer(Code::REBINDING_TIME, (lease / 8).saturating_mul(7).to_be_bytes());
        self.fill(&mut reply, request, place);
        let mut to = Destination::of(message, request.mac, address, false);
        if offer && matches!(to, Destination::Address(_)) {
            // A DISCOVER's `ciaddr` is nobody's word for an address (RFC 2131 §4.4.1: it is 0).
            to = Destination::Hardware { mac: request.mac, address };
        }
        finish(reply, place, Port::Dhcp, to)
    }

    fn begin(&self, request: &Request<'_>, kind: MessageType, place: &Place) -> Builder {
        let mut reply = Builder::reply(&request.message, kind);
        reply.set(Code::SERVER_IDENTIFIER, request.identifier(place.local).octets());
        reply
    }

    /// Adds what the client is told beside its address.
    fn fill(&self, reply: &mut Builder, request: &Request<'_>, place: &Place) {
        recipe::network(reply, request.client, &self.settings, place);
        let answer = self.decide(request, place);
        let given = answer.as_ref().and_then(|answer| answer.host_name.clone());
        let name = given.or_else(|| self.booter.reservation(request.mac).map(|own| own.name));
        if let Some(name) = name {
            reply.set(Code::HOST_NAME, name);
        }
        if let Some(answer) = answer {
            let (message, client) = (&request.message, request.client);
            recipe::boot(reply, message, client, &answer, place.local, Leg::Lease);
        }
    }

    fn decide(&self, request: &Request<'_>, place: &Place) -> Option<Answer> {
        self.booter.decide(&Ask {
            mac: request.mac,
            uuid: request.uuid,
            client: request.client,
            xid: request.message.xid,
            discover: request.kind == MessageType::Discover,
            local: place.local,
            proxy: place.proxy,
        })
    }

    fn report(&self, mac: Mac, event: Event) {
        self.booter.report(Origin::Mac(mac), event);
    }
}

fn finish(reply: Builder, place: &Place, port: Port, to: Destination) -> Reply {
    Reply { bytes: reply.finish(), local: place.local, port, to }
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

/// Link selection, a sub-option of 82 (RFC 3527).
const LINK_SELECTION: u8 = 5;
