//! The boots of all machines: which boot a question belongs to, and what became of it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::broadcast;
use uuid::Uuid;

use super::catalog::Catalog;
use super::loader::HostLoaders;
use super::plan::{self, NoPlan, Plan};
use super::record::{self, BootRecord, Keeper};
use super::timeline::{Stage, Timeline, View};
use super::{
    Answer, Ask, BootFile, BootId, Booter, Client, Event, FileError, FileRequest, Origin,
    Reservation, Role, Root, Ticket,
};
use crate::clock::Clock;
use crate::machine::{Mac, MachineName, Roster};
use crate::state::{State, StateError};

/// Decides what machines boot, keeps their boots, and shows how they stand.
pub struct Boots {
    pub(super) catalog: Catalog,
    loaders: HostLoaders,
    http_port: u16,
    clock: Arc<dyn Clock>,
    chance: Box<dyn Fn() -> u64 + Send + Sync>,
    known: Mutex<Known>,
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

/// Everything that changes.
struct Known {
    keeper: Keeper,
    roster: Arc<Roster>,
    /// Counts changes of the roster, so that a boot that has not really begun follows them.
    generation: u64,
    clients: HashMap<Mac, Seen>,
    boots: HashMap<BootId, Mac>,
    addresses: HashMap<Ipv4Addr, Mac>,
    /// Addresses whose root was used, also by machines that never asked us for one.
    roots: HashMap<Ipv4Addr, LiveRoot>,
}

struct LiveRoot {
    used: Instant,
    mounted: bool,
}

/// A client that was seen.
struct Seen {
    name: Option<MachineName>,
    boot: Option<Boot>,
    refusal: Option<NoPlan>,
    address: Option<Ipv4Addr>,
    timeline: Timeline,
}

/// The boot that a machine is in.
struct Boot {
    id: BootId,
    plan: Arc<Plan>,
    client: Client,
    xid: u32,
    generation: u64,
    asked: Instant,
    moved: Instant,
    delivered: Delivered,
    rooted: bool,
}

/// How much of its boot files a machine has, as far as it decides about the next question.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Delivered {
    /// Any byte of any file.
    any: bool,
    /// The first loader, begun or whole.
    first: bool,
    /// The script, or the loader that comes in its place.
    second: bool,
}

/// Which boot a question belongs to.
enum Belongs {
    /// To the one that the machine is in.
    Here(BootId, Arc<Plan>),
    /// To a new one.
    New,
    /// To none.
    Nowhere,
}

impl Boots {
    /// Takes up the boots that were under way when the server ended.
    pub fn open(sources: Sources) -> Result<Self, BootsError> {
        let Sources { catalog, loaders, http_port, roster, state, clock, chance } = sources;
        let now = clock.now();
        let records = record::load(&*state)?;
        let mut known = Known {
            keeper: Keeper::start(state).map_err(BootsError::Thread)?,
            roster: Arc::new(roster),
            generation: 0,
            clients: HashMap::new(),
            boots: HashMap::new(),
            addresses: HashMap::new(),
            roots: HashMap::new(),
        };
        for record in records {
            known.resume(record, now);
        }
        let (notices, _) = broadcast::channel(NOTICES);
        let known = Mutex::new(known);
        Ok(Self { catalog, loaders, http_port, clock, chance, known, notices })
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
            seen.name = roster.find(*mac, None).map(|(name, _)| name.clone());
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
        for (name, entry) in known.roster.iter() {
            let machine = &entry.machine;
            let own = |mac: &&Mac| known.clients.contains_key(mac);
            let latest = machine
                .macs
                .iter()
                .filter(own)
                .max_by_key(|mac| known.clients.get(mac).map(|seen| seen.timeline.seen()));
            let seen = latest.and_then(|mac| known.clients.get(mac));
            let plan = seen.and_then(|seen| seen.boot.as_ref()).map(|boot| &boot.plan);
            let assigned =
                machine.environment.as_deref().or_else(|| known.roster.default_environment());
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
            let same = seen.boot.as_ref().is_some_and(|boot| boot.plan.environment == environment);
            same && seen.address.is_some_and(|address| known.lives(address, now))
        };
        let living = known.clients.iter().filter(|(_, seen)| lives(seen));
        let mut names = living.map(|(mac, seen)| seen.title(*mac)).collect::<Vec<_>>();
        names.sort();
        names
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
            let facts = self.catalog.facts(name, PATIENCE);
            let facts = facts.ok_or_else(|| NoPlan::Missing(name.to_owned()))?;
            let subject = plan::Subject { mac: ask.mac, machine, client: ask.client };
            let loaders = &self.loaders;
            let site = plan::Site { server: ask.local, http_port: self.http_port, loaders };
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
                let mode = if plan.read_only { "read-only" } else { "read-write" };
                let text = format!("{}: boots {}, {mode} (boot {id})", ask.client, plan.name);
                self.notify(machine, stage, text);
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

    fn reserved_for(&self, address: Ipv4Addr) -> Option<Mac> {
        let known = self.known();
        let (_, machine) = known.roster.at(address)?;
        // A machine that is known by its UUID alone has no Ethernet address to compare yet.
        Some(machine.macs.first().copied().unwrap_or(Mac([0; 6])))
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
                let name = plan.machine.as_ref().map(ToString::to_string);
                return Some(Root {
                    machine: name.unwrap_or_else(|| address.to_string()),
                    environment: plan.environment,
                    read_only: plan.read_only,
                });
            }
            Arc::clone(&known.roster)
        };
        // A machine that was started by hand, as by bhyveload, asks nobody for its address.
        let (name, machine) = roster.at(address)?;
        let facts = self.catalog.facts(machine.environment.as_deref()?, Duration::ZERO)?;
        Some(Root {
            machine: name.to_string(),
            environment: facts.uuid,
            read_only: facts.read_only || machine.read_only,
        })
    }

    fn report(&self, origin: Origin, event: Event) {
        let now = self.clock.now();
        let mut known = self.known();
        known.note_root(origin, &event, now);
        let Some(mac) = known.mac_of(origin) else { return };
        if let Event::Leased(address) = event {
            known.settle(mac, address, now);
        }
        let Some(seen) = known.seen(mac, now) else { return };
        let before = seen.boot.as_ref().map(|boot| (boot.rooted, boot.delivered));
        if let Some(boot) = &mut seen.boot {
            boot.follow(&event, now);
        }
        let after = seen.boot.as_ref().map(|boot| (boot.rooted, boot.delivered));
        let leased = matches!(event, Event::Leased(_));
        let rooted = before.zip(after).is_some_and(|(before, after)| before.0 != after.0);
        let record = if leased || rooted { seen.record(mac) } else { None };
        let text = seen.timeline.see(&event, now);
        let machine = seen.title(mac);
        let stage = seen.timeline.view(now).stage;
        if let Some(record) = record {
            known.keeper.keep(record);
        }
        drop(known);
        if let Some(text) = text {
            self.notify(machine, stage, text);
        }
    }
}

impl Known {
    /// Which boot a question belongs to.
    fn belongs(&mut self, ask: &Ask, now: Instant) -> Belongs {
        let assigned = || {
            let machine = self.roster.find(ask.mac, ask.uuid);
            machine.is_some_and(|(_, machine)| machine.environment.is_some())
        };
        let may_begin = match ask.client {
            Client::Http(_) | Client::Ipxe(_) | Client::Pxe(_) | Client::FreeBsdLoader => true,
            // A running system shows no boot, unless it is a machine of ours that was started some
            // other way than by its firmware.
            Client::FreeBsdKernel | Client::Ordinary => assigned(),
        };
        let nothing = if may_begin { Belongs::New } else { Belongs::Nowhere };
        let live = {
            let address = self.clients.get(&ask.mac).and_then(|seen| seen.address);
            address.is_some_and(|address| self.lives(address, now))
        };
        let generation = self.generation;
        let boot = self.clients.get_mut(&ask.mac).and_then(|seen| seen.boot.as_mut());
        let Some(boot) = boot else { return nothing };
        let joins = if !ask.discover {
            true
        } else if ask.client.is_firmware() {
            boot.repeats(ask, generation, now) || boot.awaits(ask.client, now)
        } else {
            // A boot that firmware began is left only by firmware. One that a running system began
            // ends when that system starts again and its old root is out of use.
            boot.client.is_firmware()
                || boot.client != ask.client
                || live
                || boot.repeats(ask, generation, now)
        };
        if !joins {
            return nothing;
        }
        if ask.discover {
            boot.asked = now;
        }
        Belongs::Here(boot.id, Arc::clone(&boot.plan))
    }

    /// What is known of a client, made room for if there is any; `None` when all others count more.
    fn seen(&mut self, mac: Mac, now: Instant) -> Option<&mut Seen> {
        if !self.clients.contains_key(&mac) {
            if self.clients.len() >= MAX_CLIENTS {
                let idle = |(_, seen): &(&Mac, &Seen)| {
                    let lives = seen.address.is_some_and(|address| self.lives(address, now));
                    seen.name.is_none() && !lives
                };
                let oldest = self.clients.iter().filter(idle);
                let oldest = oldest.min_by_key(|(_, seen)| seen.timeline.seen());
                let oldest = oldest.map(|(mac, _)| *mac)?;
                self.forget(oldest);
            }
            let name = self.roster.find(mac, None).map(|(name, _)| name.clone());
            let timeline = Timeline::new(now);
            let seen = Seen { name, boot: None, refusal: None, address: None, timeline };
            self.clients.insert(mac, seen);
        }
        self.clients.get_mut(&mac)
    }

    fn forget(&mut self, mac: Mac) {
        if let Some(seen) = self.clients.remove(&mac) {
            if let Some(boot) = seen.boot {
                self.boots.remove(&boot.id);
                self.keeper.forget(mac);
            }
            if let Some(address) = seen.address {
                self.addresses.remove(&address);
            }
        }
    }

    /// A machine took an address: nobody else has it now.
    fn settle(&mut self, mac: Mac, address: Ipv4Addr, now: Instant) {
        let previous = self.addresses.insert(address, mac).filter(|previous| *previous != mac);
        if let Some(seen) = previous.and_then(|previous| self.clients.get_mut(&previous)) {
            seen.address = None;
        }
        let Some(seen) = self.seen(mac, now) else {
            self.addresses.remove(&address);
            return;
        };
        let left = seen.address.replace(address).filter(|left| *left != address);
        if let Some(left) = left {
            self.addresses.remove(&left);
        }
    }

    fn resume(&mut self, record: BootRecord, now: Instant) {
        let generation = self.generation;
        let Some(seen) = self.seen(record.mac, now) else { return };
        let stage = if record.rooted { Stage::Root } else { Stage::Leased };
        seen.timeline.begin(record.client, now);
        seen.timeline.resume(if record.address.is_some() { stage } else { Stage::Off }, now);
        seen.boot = Some(Boot {
            id: record.id,
            plan: Arc::new(record.plan),
            client: record.client,
            xid: 0,
            generation,
            asked: now,
            moved: now,
            // What it had fetched is not kept: with nothing it would never be joined again.
            delivered: Delivered { any: true, first: true, second: record.rooted },
            rooted: record.rooted,
        });
        self.boots.insert(record.id, record.mac);
        if let Some(address) = record.address {
            self.settle(record.mac, address, now);
            if record.rooted {
                self.roots.insert(address, LiveRoot { used: now, mounted: true });
            }
        }
    }

    fn mac_of(&self, origin: Origin) -> Option<Mac> {
        match origin {
            Origin::Mac(mac) => Some(mac),
            Origin::Address(address) => {
                let address = ipv4(address)?;
                let reserved = || self.roster.at(address)?.1.macs.first().copied();
                self.addresses.get(&address).copied().or_else(reserved)
            }
        }
    }

    /// Notes that the root of an address is in use, or no more.
    fn note_root(&mut self, origin: Origin, event: &Event, now: Instant) {
        let Origin::Address(address) = origin else { return };
        let Some(address) = ipv4(address) else { return };
        match event {
            Event::Mounted(_) | Event::Nfs { .. } => {
                if self.roots.len() >= MAX_ROOTS && !self.roots.contains_key(&address) {
                    self.roots.retain(|_, root| now.duration_since(root.used) < UNUSED);
                    if self.roots.len() >= MAX_ROOTS {
                        return;
                    }
                }
                let root = LiveRoot { used: now, mounted: false };
                let root = self.roots.entry(address).or_insert(root);
                root.used = now;
                root.mounted |= matches!(event, Event::Mounted(_));
            }
            Event::Unmounted(_) => {
                if let Some(root) = self.roots.get_mut(&address) {
                    root.mounted = false;
                }
            }
            Event::Declined(_)
            | Event::Discover(_)
            | Event::Failed { .. }
            | Event::ForeignServer(_)
            | Event::Leased(_)
            | Event::Offered(_)
            | Event::Probed(_)
            | Event::Refused(_)
            | Event::Released(_)
            | Event::Sent { .. }
            | Event::Unserved(_) => {}
        }
    }

    fn lives(&self, address: Ipv4Addr, now: Instant) -> bool {
        self.roots.get(&address).is_some_and(|root| {
            let limit = if root.mounted { MOUNTED } else { UNUSED };
            now.duration_since(root.used) < limit
        })
    }
}

impl Seen {
    fn title(&self, mac: Mac) -> String {
        self.name.as_ref().map_or_else(|| mac.to_string(), ToString::to_string)
    }

    fn record(&self, mac: Mac) -> Option<BootRecord> {
        let boot = self.boot.as_ref()?;
        Some(BootRecord {
            id: boot.id,
            mac,
            client: boot.client,
            plan: (*boot.plan).clone(),
            address: self.address,
            rooted: boot.rooted,
        })
    }
}

impl Boot {
    /// Whether a DISCOVER repeats the one that began this boot: firmware that has nothing yet asks
    /// again, with the same transaction or (U-Boot: four times in 0.8 s) with another.
    fn repeats(&self, ask: &Ask, generation: u64, now: Instant) -> bool {
        let age = now.duration_since(self.asked);
        let soon = age < SOON || (ask.xid == self.xid && age < REPEATED);
        self.client == ask.client && !self.delivered.any && self.generation == generation && soon
    }

    /// Whether this boot's firmware was given iPXE, which has not asked for its next step yet.
    fn awaits(&self, client: Client, now: Instant) -> bool {
        let by_network = matches!(self.client, Client::Http(_) | Client::Pxe(_));
        let own_loader = match &self.plan.next {
            plan::Next::Kernel { .. } => None,
            plan::Next::Loader(own) => Some(own),
        };
        let gave_ipxe = self.plan.first.is_some() && self.plan.first.as_ref() != own_loader;
        matches!(client, Client::Ipxe(_))
            && by_network
            && gave_ipxe
            && self.delivered.first
            && !self.delivered.second
            && now.duration_since(self.moved) < LOADING
    }

    /// Follows what the machine does.
    fn follow(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Sent { ticket: Ticket { boot: Some(id), role }, name, bytes, .. }
                if *id == self.id && *bytes > 0 =>
            {
                self.moved = now;
                self.delivered.any = true;
                let first = self.plan.first.as_ref();
                let is_first = first.is_some_and(|first| name.ends_with(&first.name));
                match role {
                    Role::Loader if is_first => self.delivered.first = true,
                    Role::Loader | Role::Script => self.delivered.second = true,
                    Role::Kernel | Role::Initrd | Role::Other => {}
                }
            }
            Event::Mounted(_) | Event::Nfs { .. } => {
                self.moved = now;
                self.rooted = true;
                self.delivered.any = true;
            }
            Event::Declined(_)
            | Event::Discover(_)
            | Event::Failed { .. }
            | Event::ForeignServer(_)
            | Event::Leased(_)
            | Event::Offered(_)
            | Event::Probed(_)
            | Event::Refused(_)
            | Event::Released(_)
            | Event::Sent { .. }
            | Event::Unmounted(_)
            | Event::Unserved(_) => {}
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

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address.to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// How long a decision waits for a look into the boot environment.
const PATIENCE: Duration = Duration::from_millis(100);

/// A DISCOVER so soon after another one is the same machine's same attempt.
const SOON: Duration = Duration::from_secs(5);

/// A DISCOVER of the same transaction is a repetition for so long; some ROMs use one for ever.
const REPEATED: Duration = Duration::from_secs(70);

/// A loader that was fetched asks for its next step within this time.
const LOADING: Duration = Duration::from_secs(300);

/// A root that was not used for so long is given up, unless it was mounted and never unmounted.
const UNUSED: Duration = Duration::from_secs(30 * 60);

/// A mounted root that was not used for so long is given up: its machine was switched off.
const MOUNTED: Duration = Duration::from_secs(24 * 60 * 60);

/// Clients that are remembered. Beyond, the longest silent one without name and root is forgotten.
const MAX_CLIENTS: usize = if cfg!(test) { 64 } else { 4096 };

/// Addresses whose root is remembered to be in use.
const MAX_ROOTS: usize = 65_536;

/// Notices that a slow watcher may lag behind.
const NOTICES: usize = 1024;

#[cfg(test)]
mod test;
