//! The boots of all machines: which boot a question belongs to, and what became of it.

mod boot;
mod known;
mod root;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::broadcast;
use uuid::Uuid;

use super::catalog::Catalog;
use super::loader::HostLoaders;
use super::plan::{self, NoPlan, Plan};
use super::record::{self, Keeper};
use super::timeline::{Stage, View};
use super::{
    Answer, Ask, BootFile, BootId, Booter, Event, FileError, FileRequest, Origin, Reservation, Root,
};
use crate::clock::Clock;
use crate::net::Mac;
use crate::site::machine::{MachineName, RootKind, Roster};
use crate::site::state::{State, StateError};
use boot::{Boot, Delivered};
use known::{Belongs, Known, Seen, ipv4};
pub use root::Order;
pub(super) use root::Root as BootRoot;

/// Decides what machines boot, keeps their boots, and shows how they stand.
pub struct Boots {
    pub(super) catalog: Catalog,
    loaders: HostLoaders,
    http_port: u16,
    clock: Arc<dyn Clock>,
    chance: Box<dyn Fn() -> u64 + Send + Sync>,
    known: Mutex<Known>,
    /// Told when a root that boots wait for is there.
    settled: Condvar,
    orders: Box<dyn Fn(Order) + Send + Sync>,
    notices: broadcast::Sender<Arc<Notice>>,
}

/// Where [`Boots`] gets what it needs.
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
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Numbers that nobody can guess, for boot ids.
    pub chance: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Takes what a boot wants done, without waiting for it.
    pub orders: Box<dyn Fn(Order) + Send + Sync>,
}

/// Something that was seen of a machine, for who watches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notice {
    /// When.
    pub at: SystemTime,
    /// The machine's name, or its Ethernet address when it has none.
    pub machine: String,
    /// Its stage then.
    pub stage: Stage,
    /// What was seen.
    pub text: String,
}

/// How one machine stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Its name, if it is a named one.
    pub name: Option<MachineName>,
    /// Its Ethernet address; the first of a named machine that was never seen.
    pub mac: Option<Mac>,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// The boot that it is in.
    pub boot: Option<BootId>,
    /// The boot environment that it boots, or that it would boot.
    pub environment: Option<String>,
    /// Whether its root is read-only; `None` when it is in no boot.
    pub read_only: Option<bool>,
    /// How far it has come; `None` when it was never seen.
    pub view: Option<View>,
}

impl Boots {
    /// Takes up the boots that were under way when the server ended.
    pub fn open(sources: Sources) -> Result<Self, BootsError> {
        let Sources { catalog, loaders, http_port, roster, state, clock, chance, orders } = sources;
        let now = clock.now();
        let records = record::load(&*state)?;
        let written = records.iter().map(|record| record.mac);
        let keeper = Keeper::start(state, written).map_err(BootsError::Thread)?;
        let mut known = Known::new(keeper, roster);
        for record in records {
            known.resume(record, now);
        }
        let (notices, _) = broadcast::channel(NOTICES);
        let (known, settled) = (Mutex::new(known), Condvar::new());
        Ok(Self { catalog, loaders, http_port, clock, chance, known, settled, orders, notices })
    }

    /// The boot environments.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Takes over changed machines: boots that have not fetched anything yet follow the change,
    /// others keep their plan.
    pub fn set_roster(&self, roster: Roster) {
        let mut known = self.known();
        known.roster = Arc::new(roster);
        known.generation = known.generation.wrapping_add(1);
        let roster = Arc::clone(&known.roster);
        for (mac, seen) in &mut known.clients {
            seen.name = roster.find(*mac, seen.uuid).map(|(name, _)| name.clone());
        }
    }

    /// The machines.
    #[must_use]
    pub fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.known().roster)
    }

    /// What is seen from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.notices.subscribe()
    }

    /// How every machine stands: the named ones by name, then the others, latest first.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let now = self.clock.now();
        let known = self.known();
        let mut standings = Vec::new();
        let mut latest = HashMap::<&MachineName, (&Mac, &Seen)>::new();
        for (mac, seen) in &known.clients {
            let Some(name) = &seen.name else { continue };
            let own = latest.entry(name).or_insert((mac, seen));
            if own.1.timeline.seen() < seen.timeline.seen() {
                *own = (mac, seen);
            }
        }
        for (name, entry) in known.roster.iter() {
            let machine = &entry.machine;
            let (latest, seen) = latest.get(name).copied().unzip();
            let plan = seen.and_then(|seen| seen.boot.as_ref()).map(|boot| &boot.plan);
            let assigned = machine.wanted().or_else(|| known.roster.default_environment());
            standings.push(Standing {
                name: Some(name.clone()),
                mac: latest.or_else(|| machine.macs.first()).copied(),
                address: seen.and_then(|seen| seen.address).or(machine.address),
                boot: seen.and_then(|seen| seen.boot.as_ref()).map(|boot| boot.id),
                environment: plan.map_or(assigned, |plan| Some(&plan.name)).map(str::to_owned),
                read_only: plan.map(|plan| plan.read_only),
                view: seen.map(|seen| seen.timeline.view(now)),
            });
        }
        let strangers = known.clients.iter().filter(|(_, seen)| seen.name.is_none());
        let mut strangers = strangers.collect::<Vec<_>>();
        strangers.sort_by_key(|(mac, seen)| (std::cmp::Reverse(seen.timeline.seen()), **mac));
        standings.extend(strangers.into_iter().map(|(mac, seen)| {
            let boot = seen.boot.as_ref();
            Standing {
                name: None,
                mac: Some(*mac),
                address: seen.address,
                boot: boot.map(|boot| boot.id),
                environment: boot.map(|boot| boot.plan.name.clone()),
                read_only: boot.map(|boot| boot.plan.read_only),
                view: Some(seen.timeline.view(now)),
            }
        }));
        standings
    }

    /// The machines whose root is this environment and lives, by name or Ethernet address.
    #[must_use]
    pub fn living_on(&self, environment: Uuid) -> Vec<String> {
        let now = self.clock.now();
        let known = self.known();
        let lives = |seen: &Seen| {
            let on = |plan: &Plan| plan.environment == environment && plan.awaits.is_none();
            let same = seen.boot.as_ref().is_some_and(|boot| on(&boot.plan));
            same && seen.address.is_some_and(|address| known.lives(address, now))
        };
        let living = known.clients.iter().filter(|(_, seen)| lives(seen));
        let mut names = living.map(|(mac, seen)| seen.title(*mac)).collect::<Vec<_>>();
        names.sort();
        names
    }

    /// Who used an environment from this address at that time: the name of its machine, if it is one's,
    /// with the address. `None` where that was the root of the machine's boot, of which
    /// [`Boots::living_on`] tells, or where the boot began later.
    #[must_use]
    pub fn visitor(&self, address: IpAddr, environment: Uuid, at: Instant) -> Option<String> {
        let known = self.known();
        let v4 = ipv4(address);
        let mac = v4.and_then(|address| known.addresses.get(&address));
        let client = mac.and_then(|mac| Some((mac, known.clients.get(mac)?)));
        if let Some((_, seen)) = client
            && let Some(boot) = &seen.boot
        {
            let own = boot.plan.environment == environment && boot.plan.awaits.is_none();
            if own || at < seen.timeline.began() {
                return None;
            }
        }
        let reserved = || Some(known.roster.at(v4?)?.0.to_string());
        let name = client.map(|(mac, seen)| seen.title(*mac)).or_else(reserved);
        Some(name.map_or_else(|| address.to_string(), |name| format!("{name} ({address})")))
    }

    /// Whether the machine's firmware, or a loader that it started, is at work.
    #[must_use]
    pub fn is_loading(&self, mac: Mac) -> bool {
        let now = self.clock.now();
        self.known().clients.get(&mac).is_some_and(|seen| seen.timeline.is_loading(now))
    }

    pub(super) fn boot(&self, id: BootId) -> Option<Arc<Plan>> {
        let known = self.known();
        let boot = known.clients.get(known.boots.get(&id)?)?.boot.as_ref()?;
        (boot.id == id).then(|| Arc::clone(&boot.plan))
    }

    /// The boot of the machine at an address, or why it has none.
    pub(super) fn boot_at(&self, address: IpAddr) -> Result<(BootId, Arc<Plan>), Option<NoPlan>> {
        let address = ipv4(address).ok_or(None)?;
        let known = self.known();
        let seen = known.addresses.get(&address).and_then(|mac| known.clients.get(mac));
        let seen = seen.ok_or(None)?;
        match &seen.boot {
            Some(boot) => Ok((boot.id, Arc::clone(&boot.plan))),
            None => Err(seen.refusal.clone()),
        }
    }

    /// Whether a request from this address can come from the machine of a boot. Beside another DHCP
    /// server nobody may have told us its address yet.
    pub(super) fn may_be_at(&self, id: BootId, address: IpAddr) -> bool {
        let known = self.known();
        let seen = known.boots.get(&id).and_then(|mac| known.clients.get(mac));
        let own = seen.and_then(|seen| seen.address);
        own.is_none_or(|own| ipv4(address) == Some(own))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a boot: decides, once, and keeps the decision.
    fn begin(&self, ask: &Ask) -> Option<(BootId, Arc<Plan>)> {
        let (roster, generation) = {
            let known = self.known();
            (Arc::clone(&known.roster), known.generation)
        };
        let machine = roster.find(ask.mac, ask.uuid);
        let decided = plan::environment_of(&roster, machine).and_then(|(name, is_default)| {
            let facts = self.facts_of(machine, name)?;
            let subject = plan::Subject { mac: ask.mac, machine, client: ask.client };
            let loaders = &self.loaders;
            let (server, http_port, proxy) = (ask.local, self.http_port, ask.proxy);
            let site = plan::Site { server, http_port, loaders, proxy };
            plan::plan(subject, &facts, is_default, site)
        });
        let now = self.clock.now();
        let mut known = self.known();
        // Another interface may have heard the same question and begun the boot meanwhile.
        if let Belongs::Here(id, plan) = known.belongs(ask, now) {
            return Some((id, plan));
        }
        let name = machine.map(|(name, _)| name.clone());
        let seen = known.seen(ask.mac, now)?;
        seen.name = name;
        seen.uuid = ask.uuid;
        let ended = seen.boot.take().map(|boot| boot.id);
        seen.timeline.begin(ask.client, now);
        seen.timeline.see(&Event::Discover(ask.client), now);
        let begun = match decided {
            Ok(plan) => {
                let id = BootId((self.chance)());
                let plan = Arc::new(plan);
                seen.refusal = None;
                seen.boot = Some(Boot {
                    id,
                    plan: Arc::clone(&plan),
                    client: ask.client,
                    xid: ask.xid,
                    generation,
                    asked: now,
                    moved: now,
                    delivered: Delivered::default(),
                    rooted: false,
                    ordered: false,
                    spent: false,
                    trouble: None,
                });
                Ok((id, plan))
            }
            Err(refusal) => {
                seen.timeline.refuse(&refusal.to_string(), now);
                let text = refusal.to_string();
                seen.refusal = Some(refusal);
                Err(text)
            }
        };
        let record = seen.record(ask.mac);
        let machine = seen.title(ask.mac);
        let stage = seen.timeline.view(now).stage;
        if let Some(ended) = ended {
            known.boots.remove(&ended);
        }
        if let Ok((id, _)) = &begun {
            known.boots.insert(*id, ask.mac);
        }
        match record {
            Some(record) => known.keeper.keep(record),
            None if ended.is_some() => known.keeper.forget(ask.mac),
            None => {}
        }
        drop(known);
        match begun {
            Ok((id, plan)) => {
                let mode = match (&plan.awaits, plan.read_only) {
                    (Some(_), _) => "by a clone that is to be made",
                    (None, true) => "read-only",
                    (None, false) => "read-write",
                };
                let text = format!("{}: boots {}, {mode} (boot {id})", ask.client, plan.name);
                self.notify(machine, stage, text);
                // A loader or a kernel that was started by hand fetches no file that could order it.
                if !ask.client.is_firmware()
                    && let (Some(root), Some(machine)) = (&plan.awaits, &plan.machine)
                {
                    self.order(machine, root);
                }
                Some((id, plan))
            }
            Err(text) => {
                self.notify(machine, stage, text);
                None
            }
        }
    }

    fn notify(&self, machine: String, stage: Stage, text: String) {
        tracing::info!("{machine}: {text}");
        // Nobody may be watching.
        let _ = self.notices.send(Arc::new(Notice { at: self.clock.wall(), machine, stage, text }));
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

    fn lives(&self, address: Ipv4Addr) -> bool {
        self.known().lives(address, self.clock.now())
    }

    fn decide(&self, ask: &Ask) -> Option<Answer> {
        let belongs = self.known().belongs(ask, self.clock.now());
        let (id, plan) = match belongs {
            Belongs::Here(id, plan) => (id, plan),
            Belongs::New => self.begin(ask)?,
            Belongs::Nowhere => return None,
        };
        Some(plan.answer(id, ask.client))
    }

    fn open(&self, request: &FileRequest<'_>) -> Result<BootFile, FileError> {
        super::files::open(self, request)
    }

    fn root_of(&self, address: IpAddr) -> Option<Root> {
        let address = ipv4(address)?;
        let roster = {
            let known = self.known();
            let client = known.addresses.get(&address).and_then(|mac| known.clients.get(mac));
            if let Some(seen) = client.filter(|seen| seen.boot.is_some()) {
                let plan = seen.boot.as_ref().map(|boot| &boot.plan)?;
                if plan.awaits.is_some() {
                    return None;
                }
                let name = plan.machine.as_ref().map(ToString::to_string);
                return Some(Root {
                    machine: name.unwrap_or_else(|| address.to_string()),
                    environment: plan.environment,
                    read_only: plan.read_only,
                    view: plan.view,
                });
            }
            Arc::clone(&known.roster)
        };
        // A machine that was started by hand, as by bhyveload, asks nobody for its address.
        let (name, machine) = roster.at(address)?;
        let known = Some((name, machine));
        let (wanted, is_default) = plan::environment_of(&roster, known).ok()?;
        let own = match machine.root {
            RootKind::Own => Some(self.catalog.own(name, wanted)?),
            RootKind::Fresh => return None,
            RootKind::Direct | RootKind::Shared => None,
        };
        let facts = self.catalog.facts(own.as_deref().unwrap_or(wanted), Duration::ZERO)?;
        Some(Root {
            machine: name.to_string(),
            environment: facts.uuid,
            read_only: facts.read_only || machine.is_read_only(is_default),
            view: machine.view,
        })
    }

    fn report(&self, origin: Origin, event: Event) {
        let now = self.clock.now();
        let mut known = self.known();
        known.note_root(origin, &event, now);
        let Some(mac) = known.whose(origin, &event, now) else { return };
        if let Event::Leased(address) = event {
            known.settle(mac, address, now);
        }
        if let Event::Elsewhere(address) = event
            && !known.locate(mac, address, now)
        {
            return;
        }
        let Some(seen) = known.seen(mac, now) else { return };
        let before = seen.boot.as_ref().map(|boot| (boot.rooted, boot.delivered));
        if let Some(boot) = &mut seen.boot {
            boot.follow(&event, now);
        }
        let spent = seen.boot.as_mut().and_then(Boot::spend);
        let after = seen.boot.as_ref().map(|boot| (boot.rooted, boot.delivered));
        let leased = matches!(event, Event::Leased(_) | Event::Elsewhere(_));
        let rooted = before.zip(after).is_some_and(|(before, after)| before.0 != after.0);
        let record = if leased || rooted { seen.record(mac) } else { None };
        let text = seen.timeline.see(&event, now);
        let machine = seen.title(mac);
        let stage = seen.timeline.view(now).stage;
        if let Some(record) = record {
            known.keeper.keep(record);
        }
        drop(known);
        if let Some(order) = spent {
            (self.orders)(order);
        }
        if let Some(text) = text {
            self.notify(machine, stage, text);
        }
    }
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

/// How long a decision waits for a look into the boot environment.
const PATIENCE: Duration = Duration::from_millis(100);

/// Notices that a slow watcher may lag behind.
const NOTICES: usize = 1024;

#[cfg(test)]
mod test;
