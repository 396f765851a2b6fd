//! The boots of all machines: to which boot a request belongs, and how far each boot has come.

mod boot;
mod known;
mod review;
mod root;
mod seen;
mod standing;
mod succession;
mod unmanaged;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::catalog::{self, Catalog};
use super::decide;
use super::loader::HostLoaders;
use super::plan::{self, NoPlan, Plan};
use super::record::{self, BootLog};
use super::refused::Refused;
use super::timeline::{Context, News};
use super::usage::Usage;
use super::{
    Answer, Ask, BootFile, BootId, Booter, Client, ClientAddress, ClientNetwork, Event, FileError,
    FileRequest, Reservation, Roots,
};
use crate::clock::Clock;
use crate::net::Mac;
use crate::site::events::{self, Events, Kind};
use crate::site::machine::{Machine, MachineName, Roster};
use crate::site::state::{State, StateError};
use boot::Boot;
use known::{Belongs, Known, ipv4};
use review::warning;
pub use root::Order;
pub(super) use root::RootState;
use root::Spare;
use seen::Seen;
pub use standing::Standing;
use succession::Caller;

/// Decides what machines boot, keeps their boots, and shows how they stand.
pub struct Boots {
    pub(super) catalog: Catalog,
    pub(super) loaders: HostLoaders,
    http_port: u16,
    clock: Arc<dyn Clock>,
    random: Box<dyn Fn() -> u64 + Send + Sync>,
    known: Mutex<Known>,
    usage: Arc<Usage>,
    /// Held while the roots of machines in no boot are found anew.
    finding: Mutex<()>,
    orders: Box<dyn Fn(Order) + Send + Sync>,
    events: Arc<Events>,
}

/// Everything that [`Boots`] depends on.
pub struct Sources {
    /// The boot environments.
    pub catalog: Catalog,
    /// Loaders on the host.
    pub loaders: HostLoaders,
    /// The port of boot files by HTTP.
    pub http_port: u16,
    /// The machines.
    pub roster: Roster,
    /// Where boots are kept.
    pub state: Arc<dyn State>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// A source of unpredictable numbers, for boot ids.
    pub random: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Who uses what.
    pub usage: Arc<Usage>,
    /// Receives the events of all boots.
    pub events: Arc<Events>,
    /// Receives the orders of boots; must not wait for them to be carried out.
    pub orders: Box<dyn Fn(Order) + Send + Sync>,
}

impl Boots {
    /// Takes up the boots that were under way when the server ended.
    pub fn open(sources: Sources) -> Result<Self, BootsError> {
        let Sources { catalog, loaders, http_port, roster, state, clock, .. } = sources;
        let Sources { random, usage, events, orders, .. } = sources;
        let now = clock.now();
        let records = record::load(&*state)?;
        let written = records.iter().map(|record| record.mac);
        let log = BootLog::start(state, written).map_err(BootsError::Thread)?;
        let mut known = Known::new(log, roster, Arc::clone(&usage));
        for record in records {
            known.resume(record, now);
        }
        known.follow_names();
        let boots = Self {
            catalog,
            loaders,
            http_port,
            clock,
            random,
            known: Mutex::new(known),
            usage,
            finding: Mutex::default(),
            orders,
            events,
        };
        boots.publish_roots(&mut boots.known());
        boots.find_roots();
        Ok(boots)
    }

    /// The boot environments.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Takes over changed machines: boots that have not fetched anything yet follow the change of
    /// their machine, others keep their plan.
    pub fn set_roster(&self, roster: Roster) {
        let mut known = self.known();
        known.set_roster(roster);
        self.publish_roots(&mut known);
        drop(known);
        self.find_roots();
    }

    /// Takes over environments that are new, have changed or have got another name, and forgets others.
    pub fn update_environments(&self, changed: Vec<catalog::Environment>, removed: &[Uuid]) {
        // Nobody who is started by hand has a root that is for one boot.
        let is_fresh = |one: &catalog::Environment| one.owned.as_ref().is_some_and(|own| own.fresh);
        let only_fresh = removed.is_empty() && changed.iter().all(is_fresh);
        let touched = changed.iter().map(|one| one.uuid).chain(removed.iter().copied());
        let touched: Vec<_> = touched.collect();
        self.catalog.update(changed, removed);
        self.outdate(&touched);
        if !only_fresh {
            self.find_roots();
        }
    }

    /// Replaces all environments by these.
    #[cfg(test)]
    pub(crate) fn set_environments(&self, environments: Vec<catalog::Environment>) {
        self.catalog.replace(environments);
        self.find_roots();
    }

    /// Who uses what.
    #[must_use]
    pub const fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// The machines.
    #[must_use]
    pub fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.known().roster)
    }

    /// The events of the site, which the boots report to.
    #[must_use]
    pub const fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Tells what no later event of a machine would tell, and ends the earlier boots whose time is over; to be
    /// called every second or so.
    pub fn tell_due(&self) {
        let now = self.clock.now();
        let mut known = self.known();
        let overlapping = known.overlapping();
        let ended = overlapping.into_iter().flat_map(|mac| self.review(&mut known, mac, now));
        let ended: Vec<_> = ended.collect();
        self.publish_roots(&mut known);
        let clients = known.clients.iter_mut();
        let due = clients.filter_map(|(mac, seen)| {
            let News { kind, text } = seen.timeline.due(now)?;
            Some(seen.event(*mac, kind, text))
        });
        let due: Vec<_> = due.collect();
        drop(known);
        self.tell(ended.into_iter().chain(due));
    }

    pub(super) fn boot(&self, id: BootId) -> Option<Arc<Plan>> {
        self.follow(id);
        let known = self.known();
        let boot = known.clients.get(known.boots.get(&id)?)?.boot.as_ref()?;
        (boot.id == id).then(|| Arc::clone(&boot.plan))
    }

    /// What began a boot.
    pub(super) fn client(&self, id: BootId) -> Option<Client> {
        self.known().boot(id).map(|boot| boot.client)
    }

    /// The boot of the machine at an address, or why it has none.
    pub(super) fn boot_at(&self, address: IpAddr) -> Result<(BootId, Arc<Plan>), Option<NoPlan>> {
        let address = ipv4(address).ok_or(None)?;
        let id = {
            let known = self.known();
            known.at(address).and_then(|seen| seen.boot.as_ref()).map(|boot| boot.id)
        };
        if let Some(id) = id {
            self.follow(id);
        }
        let known = self.known();
        let seen = known.at(address).ok_or(None)?;
        match &seen.boot {
            Some(boot) => Ok((boot.id, Arc::clone(&boot.plan))),
            None => Err(seen.refusal.clone()),
        }
    }

    /// The record of the named machine that has an address.
    pub(super) fn machine_at(&self, address: IpAddr) -> Option<Machine> {
        let known = self.known();
        let name = known.at(ipv4(address)?)?.name.as_ref()?;
        known.roster.get(name).map(|entry| entry.machine.clone())
    }

    /// Whether a request from this address can come from the machine of a boot. Beside another DHCP
    /// server nobody may have told us its address yet.
    pub(super) fn may_be_at(&self, id: BootId, address: IpAddr) -> bool {
        let known = self.known();
        let seen = known.boots.get(&id).and_then(|mac| known.clients.get(mac));
        seen.is_none_or(|seen| {
            let address = ipv4(address);
            let has = |own: Option<Ipv4Addr>| own.is_some() && own == address;
            seen.address.is_none() || has(seen.address) || has(seen.claimed)
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a boot: decides, once, and keeps the decision. What the machine ran before goes on
    /// beside it, and is asked whether it lives.
    fn begin(&self, ask: &Ask) -> Result<(BootId, Arc<Plan>), Option<NoPlan>> {
        let (roster, generation) = {
            let known = self.known();
            (Arc::clone(&known.roster), known.generation)
        };
        let revision = self.catalog.revision();
        let machine = roster.find(ask.mac, ask.uuid);
        let site = self.site(ask.local, ask.proxy, &ask.network);
        let decided = match self.plan(&roster, machine, ask.mac, ask.client, site) {
            Ok(plan) => Ok(Arc::new(plan)),
            Err(Undecided::Refused(refusal)) => Err(*refusal),
            Err(Undecided::Away(name)) => {
                self.postpone(ask, machine, &name);
                return Err(None);
            }
            Err(Undecided::Unscanned(name)) => {
                tracing::debug!(mac = %ask.mac, "{name} is still being read: not answered");
                return Err(None);
            }
        };
        // A container has this host's kernel, and a system from another disk its own: that there is none to boot does not
        // concern them, and they get their address.
        let runs_alone =
            ask.client == Client::Ordinary && matches!(decided, Err(NoPlan::NothingBootable(_)));
        let subject = plan::Subject { mac: ask.mac, machine, client: ask.client };
        let spare = decided.as_ref().ok().and_then(|plan| self.spare(plan, subject, site));
        let now = self.clock.now();
        let mut known = self.known();
        // Another interface may have heard the same question and begun the boot meanwhile.
        if let Belongs::Here(id, plan) = known.belongs(ask, now) {
            return Ok((id, plan));
        }
        let orders = decided.as_ref().is_ok_and(|plan| known.orders_at_once(ask, plan));
        let Some(seen) = known.seen(ask.mac, now) else { return Err(None) };
        seen.name = machine.map(|(name, _)| name.clone());
        seen.uuid = ask.uuid;
        seen.timeline.begin(ask.client, now);
        let environment = decided.as_ref().ok().map(|plan| plan.name.clone());
        seen.timeline.concerns(Context { environment, http_port: self.http_port });
        seen.timeline.see(&Event::Discover(ask.client), now);
        let spare = decided.as_ref().ok().and_then(|plan| {
            let before = seen.boot.as_ref().filter(|before| before.generation == generation)?;
            before.spare(plan, spare, now)
        });
        let is_ordered = matches!(spare, Some(Spare::Ordered));
        let orders = orders && !is_ordered;
        let boot = match &decided {
            Ok(plan) => {
                seen.refusal = None;
                let (plan, made) = match spare {
                    Some(Spare::Made(plan, made)) => (plan, Some(made)),
                    Some(Spare::Ordered) | None => (Arc::clone(plan), None),
                };
                let ordered = plan.awaits.is_some() && (is_ordered || orders);
                let boot = Boot::new(BootId((self.random)()), plan, ask.client, now);
                Some(Boot { xid: ask.xid, generation, revision, ordered, made, ..boot })
            }
            Err(_) if runs_alone => {
                seen.refusal = None;
                None
            }
            Err(refusal) => {
                seen.timeline.refuse(&refusal.to_string(), now);
                seen.refusal = Some(refusal.clone());
                None
            }
        };
        let begun = boot.as_ref().map(|boot| (boot.id, Arc::clone(&boot.plan)));
        let environment = boot.as_ref().map(|boot| boot.plan.environment);
        let awaited = boot.as_ref().and_then(|boot| boot.plan.awaits.as_ref());
        let renews = orders && awaited.is_some_and(|root| root.fresh);
        let (ended, asked) = known.begin(ask.mac, boot, now);
        // What was made for it is nobody's now. Where another is made, that is followed by the same.
        let left = ended
            .as_ref()
            .filter(|ended| ended.made.is_some() && environment != Some(ended.plan.environment));
        let unneeded = left.filter(|_| !renews).and_then(|ended| ended.plan.machine.clone());
        let Some(seen) = known.seen(ask.mac, now) else { return Err(None) };
        let record = seen.record(ask.mac);
        let about = seen.event(ask.mac, Kind::BootBegan, String::new());
        match record {
            Some(record) => known.log.keep(record),
            None if ended.is_some() => known.log.forget(ask.mac),
            None => {}
        }
        self.publish_roots(&mut known);
        drop(known);
        asked.into_iter().for_each(&self.orders);
        if let Some(machine) = unneeded {
            (self.orders)(Order::Retire { machine });
        }
        match (begun, decided) {
            (Some((id, plan)), _) => {
                let mode = match (&plan.awaits, plan.read_only) {
                    (Some(_), _) => "by a clone that is to be made",
                    (None, true) => "read-only",
                    (None, false) => "read-write",
                };
                let text = format!("{}: boots {}, {mode} (boot {id})", ask.client, plan.name);
                self.events.emit(events::Event { text, ..about });
                // At once: what firmware loads next waits for it, and gives up after some seconds.
                if orders && let (Some(root), Some(machine)) = (&plan.awaits, &plan.machine) {
                    self.order(machine, root);
                }
                Ok((id, plan))
            }
            (None, Err(_)) if runs_alone => Err(None),
            (None, Err(refusal)) => {
                let (kind, text) = (Kind::BootRefused, refusal.to_string());
                self.events.emit(events::Event { kind, text, ..about });
                Err(Some(refusal))
            }
            (None, Ok(_)) => Err(None),
        }
    }

    /// A machine is not answered until its environment can be used again. Firmware that was told that
    /// there is nothing to boot would give up; it asks again by itself.
    fn postpone(&self, ask: &Ask, machine: Option<(&MachineName, &Machine)>, environment: &str) {
        let text = self.catalog.why_absent(environment);
        let now = self.clock.now();
        let mut known = self.known();
        let Some(seen) = known.seen(ask.mac, now) else { return };
        seen.name = machine.map(|(name, _)| name.clone());
        seen.uuid = ask.uuid;
        let news = seen.timeline.postpone(&text, now);
        let event = seen.event(ask.mac, Kind::BootRefused, text);
        drop(known);
        if news {
            self.events.emit(event);
        }
    }

    /// What a machine is told that boots nothing.
    fn refused(&self, ask: &Ask, refusal: &NoPlan) -> Option<Answer> {
        let roster = self.roster();
        let machine = roster.find(ask.mac, ask.uuid).map(|(_, machine)| machine);
        Refused::new(refusal, machine, &self.loaders).answer(ask, self.http_port)
    }

    /// What holds for the whole site, as machines see it from this address of ours.
    fn site<'s>(
        &'s self,
        server: Ipv4Addr,
        proxy: bool,
        network: &'s ClientNetwork,
    ) -> plan::Site<'s> {
        plan::Site { server, http_port: self.http_port, loaders: &self.loaders, proxy, network }
    }

    /// Decides what a machine boots, by what is known without waiting.
    fn plan(
        &self,
        roster: &Roster,
        machine: Option<(&MachineName, &Machine)>,
        mac: Mac,
        client: Client,
        site: plan::Site<'_>,
    ) -> Result<Plan, Undecided> {
        let refused = |refusal| Undecided::Refused(Box::new(refusal));
        let (wanted, is_default) = decide::environment_of(roster, machine).map_err(refused)?;
        let own = machine.and_then(|(name, _)| self.catalog.own(name, wanted));
        let name = decide::source(machine, wanted, |_| own.as_deref());
        match self.catalog.known(name) {
            catalog::Known::Away => Err(Undecided::Away(name.to_owned())),
            catalog::Known::Missing => Err(refused(NoPlan::Missing(name.to_owned()))),
            catalog::Known::Unscanned => Err(Undecided::Unscanned(name.to_owned())),
            catalog::Known::Scanned(facts) => {
                let subject = plan::Subject { mac, machine, client };
                plan::plan(subject, &facts, is_default, site).map_err(refused)
            }
        }
    }

    /// Decides a boot again whose machine has nothing of it yet, if what it boots was looked into
    /// again or has changed meanwhile.
    fn follow(&self, id: BootId) {
        let revision = self.catalog.revision();
        let (mac, uuid, roster, client, before) = {
            let mut known = self.known();
            let Some(mac) = known.boots.get(&id).copied() else { return };
            let roster = Arc::clone(&known.roster);
            let uuid = known.clients.get(&mac).and_then(|seen| seen.uuid);
            let generation = known.generation;
            let Some(boot) = known.boot(id) else { return };
            if boot.revision == revision || boot.generation != generation || !boot.is_open() {
                return;
            }
            boot.revision = revision;
            (mac, uuid, roster, boot.client, Arc::clone(&boot.plan))
        };
        let proxy = matches!(before.next, plan::Next::Handed(_));
        let site = self.site(before.server, proxy, &before.network);
        // What cannot be decided now stays as it was: the next DISCOVER tells why.
        let Ok(plan) = self.plan(&roster, roster.find(mac, uuid), mac, client, site) else {
            return;
        };
        if plan == *before {
            return;
        }
        let mut known = self.known();
        let Some(boot) = known.boot(id).filter(|boot| boot.is_open()) else { return };
        boot.plan = Arc::new(plan);
        let Some(seen) = known.clients.get(&mac) else { return };
        let (record, address) = (seen.record(mac), seen.address);
        known.changed.extend(address);
        if let Some(record) = record {
            known.log.keep(record);
        }
        self.publish_roots(&mut known);
    }

    /// Publishes what is granted to the addresses of which that has changed.
    fn publish_roots(&self, known: &mut Known) {
        let changed = std::mem::take(&mut known.changed);
        let known = &*known;
        self.usage.roots().set_booted(changed.into_iter().map(|at| (at, known.roots_at(at))));
    }

    fn tell(&self, told: impl IntoIterator<Item = events::Event>) {
        told.into_iter().for_each(|event| self.events.emit(event));
    }
}

impl Booter for Boots {
    fn reservation(&self, mac: Mac) -> Option<Reservation> {
        let known = self.known();
        let (name, machine) = known.roster.find(mac, None)?;
        Some(Reservation { address: machine.address, name: name.to_string() })
    }

    fn reserved_for(&self, address: Ipv4Addr) -> Option<String> {
        self.known().roster.at(address).map(|(name, _)| name.to_string())
    }

    fn unreserved(&self) -> Vec<Vec<Mac>> {
        let roster = self.roster();
        let machines = roster.iter().map(|(_, entry)| &entry.machine);
        let machines = machines.filter(|one| one.address.is_none() && !one.macs.is_empty());
        machines.map(|machine| machine.macs.clone()).collect()
    }

    fn lives(&self, address: Ipv4Addr) -> bool {
        let roots = self.usage.roots().get(address);
        self.usage.lives_on_any(address.into(), &roots, self.clock.now())
    }

    fn decide(&self, ask: &Ask) -> Option<Answer> {
        let belongs = self.known().belongs(ask, self.clock.now());
        let (id, plan) = match belongs {
            Belongs::Here(id, plan) => (id, self.boot(id).unwrap_or(plan)),
            Belongs::New => match self.begin(ask) {
                Ok(begun) => begun,
                Err(refusal) => return self.refused(ask, &refusal?),
            },
            Belongs::Nowhere => {
                let refusal = {
                    let known = self.known();
                    let seen = known.clients.get(&ask.mac).filter(|seen| seen.boot.is_none());
                    seen.and_then(|seen| seen.refusal.clone())
                };
                return self.refused(ask, &refusal?);
            }
        };
        Some(plan.answer(id, ask.client))
    }

    fn open(&self, request: &FileRequest<'_>) -> Result<BootFile, FileError> {
        super::files::open(self, request)
    }

    fn roots_of(&self, address: IpAddr) -> Roots {
        ipv4(address).map_or_else(Roots::default, |address| self.usage.roots().get(address))
    }

    fn awaited_root(&self, address: IpAddr) -> Option<String> {
        let roster = self.roster();
        let machine = roster.at(ipv4(address)?);
        let (wanted, _) = decide::environment_of(&roster, machine).ok()?;
        let own = machine.and_then(|(name, _)| self.catalog.own(name, wanted));
        let name = decide::source(machine, wanted, |_| own.as_deref());
        let away = machine.is_some() && self.catalog.known(name) == catalog::Known::Away;
        away.then(|| self.catalog.why_absent(name))
    }

    fn report(&self, client: ClientAddress, event: Event) {
        let now = self.clock.now();
        let mut known = self.known();
        let Some(mac) = known.whose(client, &event, now) else { return };
        match known.hear(mac, &event, now) {
            Ok(true) => {}
            Ok(false) => return,
            Err(reason) => {
                let told = warning(&mut known, mac, reason);
                drop(known);
                return self.tell(told);
            }
        }
        let caller = match (&event, client) {
            (
                Event::Mounted { environment, .. } | Event::Nfs { environment, .. },
                ClientAddress::Ip(address),
            ) => ipv4(address).map_or(Caller::Visitor, |at| known.caller(mac, *environment, at)),
            _ => Caller::Current,
        };
        if caller != Caller::Current {
            let told = self.review(&mut known, mac, now);
            self.publish_roots(&mut known);
            drop(known);
            return self.tell(told);
        }
        let Some(seen) = known.seen(mac, now) else { return };
        let rooted = |seen: &Seen| seen.boot.as_ref().is_some_and(|boot| boot.rooted.is_some());
        let was_rooted = rooted(seen);
        if let Some(boot) = &mut seen.boot {
            boot.follow(&event, now);
        }
        let spent = seen.boot.as_mut().and_then(Boot::spend);
        let leased = matches!(event, Event::Leased(_) | Event::Elsewhere(_));
        let record = if leased || rooted(seen) != was_rooted { seen.record(mac) } else { None };
        let news = seen.timeline.see(&event, now).into_iter();
        let news: Vec<_> = news.map(|News { kind, text }| seen.event(mac, kind, text)).collect();
        if let Some(record) = record {
            known.log.keep(record);
        }
        if let Some(Order::Spent { machine, once }) = &spent {
            // At once, so that nobody boots it again before that is written down.
            Arc::make_mut(&mut known.roster).spend(machine, once);
        }
        let told = self.review(&mut known, mac, now);
        self.publish_roots(&mut known);
        drop(known);
        if let Some(order) = spent {
            (self.orders)(order);
        }
        self.tell(news.into_iter().chain(told));
    }
}

/// Why a boot does not begin now.
enum Undecided {
    /// The environment cannot be used just now: who asks again when it can is answered.
    Away(String),
    /// Nobody has looked into the environment yet: who asks again is answered.
    Unscanned(String),
    /// It never does as things are.
    Refused(Box<NoPlan>),
}

/// Why boots cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum BootsError {
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The system gives no thread.
    #[error("a thread cannot be started: {0}")]
    Thread(#[source] io::Error),
}

#[cfg(test)]
mod test;
