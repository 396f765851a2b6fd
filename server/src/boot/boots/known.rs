//! What is known of all clients: their boots and their addresses.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::boot::{Boot, Delivered};
use super::root::Order;
use super::seen::Seen;
use super::succession::{self, Caller, Earlier, Evidence, MAX_EARLIER, Verdict};
use crate::boot::plan::{self, Plan};
use crate::boot::record::{BootLog, BootRecord};
use crate::boot::timeline::Stage;
use crate::boot::usage::Usage;
use crate::boot::{Ask, BootId, Client, ClientAddress, Event, Life, Root, Roots};
use crate::net::Mac;
use crate::site::events::{self, Kind};
use crate::site::machine::{MachineName, Roster};

/// All state of [`Boots`](super::Boots) that changes, behind its mutex.
pub(super) struct Known {
    pub(super) log: BootLog,
    pub(super) roster: Arc<Roster>,
    /// Counts changes of the roster, so that a boot that has not really begun follows those of its
    /// machine.
    pub(super) generation: u64,
    pub(super) clients: HashMap<Mac, Seen>,
    pub(super) boots: HashMap<BootId, Mac>,
    pub(super) addresses: HashMap<Ipv4Addr, Mac>,
    pub(super) usage: Arc<Usage>,
    /// Addresses of which the roots may have changed since that was published.
    pub(super) changed: BTreeSet<Ipv4Addr>,
}

/// Which boot a question belongs to.
pub(super) enum Belongs {
    /// To the one that the machine is in.
    Here(BootId, Arc<Plan>),
    /// To a new one.
    New,
    /// To none.
    Nowhere,
}

/// What became of an earlier boot of a machine.
pub(super) enum Review {
    /// Two machines have its Ethernet address, or somebody forges it; told once.
    TwoMachines(Ipv4Addr),
    /// It is over.
    Over(Box<Boot>),
}

impl Known {
    /// No client was seen yet.
    pub(super) fn new(log: BootLog, roster: Roster, usage: Arc<Usage>) -> Self {
        Self {
            log,
            roster: Arc::new(roster),
            generation: 0,
            clients: HashMap::new(),
            boots: HashMap::new(),
            addresses: HashMap::new(),
            usage,
            changed: BTreeSet::new(),
        }
    }

    /// Takes over changed machines. Boots of those that have not changed are of the new generation.
    pub(super) fn set_roster(&mut self, roster: Roster) {
        let before = std::mem::replace(&mut self.roster, Arc::new(roster));
        let was = self.generation;
        self.generation = was.wrapping_add(1);
        let is_default_same = before.default_environment() == self.roster.default_environment();
        for (mac, seen) in &mut self.clients {
            let machine = self.roster.find(*mac, seen.uuid);
            seen.name = machine.map(|(name, _)| name.clone());
            let assigned = machine.is_some_and(|(_, machine)| machine.wanted().is_some());
            let is_same = before.find(*mac, seen.uuid) == machine && (assigned || is_default_same);
            if let Some(boot) = seen.boot.as_mut().filter(|boot| is_same && boot.generation == was)
            {
                boot.generation = self.generation;
            }
        }
        self.follow_names();
    }

    /// Boots of machines that have got another name go on by that.
    pub(super) fn follow_names(&mut self) {
        let mut renamed = Vec::new();
        for (mac, seen) in &mut self.clients {
            let Some(new) = seen.name.clone() else { continue };
            let is_gone = |name: &MachineName| *name != new && self.roster.get(name).is_none();
            let mut followed = false;
            let earlier = seen.earlier.iter_mut().map(|earlier| &mut earlier.boot);
            for boot in seen.boot.iter_mut().chain(earlier) {
                if boot.plan.machine.as_ref().is_some_and(is_gone) {
                    Arc::make_mut(&mut boot.plan).machine = Some(new.clone());
                    followed = true;
                }
            }
            if followed {
                let earlier = seen.earlier.iter().map(|earlier| earlier.address);
                self.changed.extend(seen.address.into_iter().chain(earlier));
                renamed.extend(seen.record(*mac));
            }
        }
        for record in renamed {
            self.log.keep(record);
        }
    }

    /// Decides to which boot a question belongs.
    pub(super) fn belongs(&mut self, ask: &Ask, now: Instant) -> Belongs {
        let assigned = || {
            let machine = self.roster.find(ask.mac, ask.uuid);
            machine.is_some_and(|(_, machine)| machine.wanted().is_some())
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
        let Some(seen) = self.clients.get_mut(&ask.mac) else { return nothing };
        let Some(boot) = seen.boot.as_mut() else {
            // What its firmware was refused does not concern the system that runs.
            let runs = seen.earlier.first().filter(|_| ask.client == Client::Ordinary);
            return runs.map_or(nothing, |earlier| {
                Belongs::Here(earlier.boot.id, Arc::clone(&earlier.boot.plan))
            });
        };
        let joins = if !ask.discover {
            true
        } else if ask.client.is_firmware() {
            boot.repeats(ask, generation, now) || boot.awaits(ask.client, now)
        } else {
            // A boot that firmware began is left only by firmware. One that a loader or a kernel
            // began ends when it starts again, which it does once in a boot; a running system may
            // ask at any time, so its boot lasts as long as its root is in use.
            let runs = live && ask.client == Client::Ordinary;
            boot.client.is_firmware()
                || boot.client != ask.client
                || runs
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

    /// Whether a DISCOVER from there orders the root that a plan waits for: nobody else's boot of the
    /// machine has. Who is the machine only by the UUID that it claims, as any number of invented
    /// Ethernet addresses may, or boots by what another server says, has to fetch a file first.
    pub(super) fn orders_at_once(&self, ask: &Ask, plan: &Plan) -> bool {
        let (Some(root), Some(machine)) = (&plan.awaits, &plan.machine) else { return false };
        let is_own = self.roster.find(ask.mac, None).is_some_and(|(name, _)| name == machine);
        let mut others = self.clients.iter().filter(|(mac, _)| **mac != ask.mac);
        let ordered = |boot: &Boot| boot.ordered && boot.awaits_root(machine, root);
        is_own && !ask.observed && !others.any(|(_, seen)| seen.boot.as_ref().is_some_and(ordered))
    }

    /// Something that happened to a client.
    pub(super) fn event(&self, mac: Mac, kind: Kind, text: String) -> Option<events::Event> {
        Some(self.clients.get(&mac)?.event(mac, kind, text))
    }

    /// The boot of that id, if its machine is still in it.
    pub(super) fn boot(&mut self, id: BootId) -> Option<&mut Boot> {
        let mac = self.boots.get(&id)?;
        self.clients.get_mut(mac)?.boot.as_mut().filter(|boot| boot.id == id)
    }

    /// What is known of a client, made room for if there is any; `None` when all others count more.
    pub(super) fn seen(&mut self, mac: Mac, now: Instant) -> Option<&mut Seen> {
        if !self.clients.contains_key(&mac) {
            if self.clients.len() >= MAX_CLIENTS && !self.make_room(now) {
                return None;
            }
            let name = self.roster.find(mac, None).map(|(name, _)| name.clone());
            self.clients.insert(mac, Seen::new(name, now));
        }
        self.clients.get_mut(&mac)
    }

    /// Forgets the longest silent clients that have neither a root nor the Ethernet address of a machine,
    /// of whose UUID anybody may have read; says whether there were any.
    ///
    /// Several at a time, because it looks at all: a crowd of strangers must not make every one of
    /// its messages a search.
    fn make_room(&mut self, now: Instant) -> bool {
        let idle = self.clients.iter().filter(|(_, seen)| {
            let lives = |address: Ipv4Addr| self.lives(address, now);
            seen.earlier.is_empty() && !seen.address.is_some_and(lives)
        });
        let idle = idle.filter(|(mac, _)| self.roster.find(**mac, None).is_none());
        let mut idle: Vec<_> = idle.map(|(mac, seen)| (seen.timeline.seen(), *mac)).collect();
        idle.sort_unstable();
        for (_, mac) in idle.iter().take(FORGOTTEN_AT_ONCE) {
            self.forget(*mac);
        }
        !idle.is_empty()
    }

    fn forget(&mut self, mac: Mac) {
        if let Some(seen) = self.clients.remove(&mac) {
            if let Some(boot) = seen.boot {
                self.boots.remove(&boot.id);
                self.log.forget(mac);
            }
            if let Some(address) = seen.address {
                self.addresses.remove(&address);
                self.changed.insert(address);
            }
        }
    }

    /// Begins a boot of a machine, or none if none could be decided. The system that runs on the
    /// machine keeps its own boot beside it. Returns the boot that ended, if one did, and the
    /// questions that are to be asked.
    pub(super) fn begin(
        &mut self,
        mac: Mac,
        boot: Option<Boot>,
        now: Instant,
    ) -> (Option<Boot>, Vec<Order>) {
        let Some(seen) = self.clients.get_mut(&mac) else { return (None, Vec::new()) };
        let previous = seen.boot.take();
        if let Some(previous) = &previous {
            self.boots.remove(&previous.id);
        }
        // Silence is no proof of death, and an UMNT is one packet that anybody can send.
        let ran = |boot: &Boot| seen.address.filter(|_| boot.rooted.is_some());
        let ended = match previous.map(|previous| (ran(&previous), previous)) {
            Some((Some(address), boot)) => {
                // The first ran before anything contradicted it; the others may be one machine that
                // starts again and again.
                let full = seen.earlier.len() >= MAX_EARLIER;
                let ended = full.then(|| seen.earlier.remove(1));
                seen.earlier.push(Earlier::new(boot, address));
                ended.map(|ended| {
                    self.changed.insert(ended.address);
                    ended.boot
                })
            }
            Some((None, previous)) => Some(previous),
            None => None,
        };
        let mut asked = Vec::new();
        for earlier in &mut seen.earlier {
            if earlier.contest(now) {
                asked.push(Order::Ask { address: earlier.address, boot: earlier.boot.id });
            }
            self.changed.insert(earlier.address);
        }
        seen.claimed = None;
        seen.warned = false;
        if let Some(boot) = &boot {
            self.boots.insert(boot.id, mac);
        }
        seen.boot = boot;
        self.changed.extend(seen.address);
        (ended, asked)
    }

    /// What an answer to the question whether an earlier boot lives is worth.
    pub(super) fn weigh(&self, mac: Mac, boot: BootId, life: Life) -> Life {
        let of_boot = |earlier: &&Earlier| earlier.boot.id == boot;
        let earlier = self.clients.get(&mac).and_then(|seen| seen.earlier.iter().find(of_boot));
        let Some(earlier) = earlier.filter(|_| life == Life::Dead) else { return life };
        let (address, environment) = (earlier.address, earlier.boot.plan.environment);
        let called = self.usage.seen(address.into(), environment).zip(earlier.asked);
        let has_called = called.is_some_and(|(called, asked)| called > asked)
            && self.caller(mac, environment, address) == Caller::Earlier;
        if has_called { Life::Unknown } else { life }
    }

    /// Machines whose later boot works while it is unknown whether an earlier one lives: that ends by time,
    /// as both may be silent ([`succession::OVERLAP`]).
    pub(super) fn overlapping(&self) -> Vec<Mac> {
        let works = |seen: &Seen| seen.boot.as_ref().is_some_and(|boot| boot.called.is_some());
        let unknown = |seen: &Seen| seen.earlier.iter().any(|one| one.life == Some(Life::Unknown));
        let overlap = self.clients.iter().filter(|(_, seen)| works(seen) && unknown(seen));
        overlap.map(|(mac, _)| *mac).collect()
    }

    /// Looks again whether a machine's earlier boots still run; tells what is new.
    pub(super) fn review(&mut self, mac: Mac, now: Instant) -> Vec<Review> {
        let Some(seen) = self.clients.get_mut(&mac) else { return Vec::new() };
        let (mut news, mut at) = (Vec::new(), 0);
        while let Some(earlier) = seen.earlier.get(at) {
            let (address, environment) = (earlier.address, earlier.boot.plan.environment);
            let others = seen.others_at(address, at);
            let current = seen.boot.as_ref();
            let rooted = current.and_then(|boot| boot.called);
            let apart = seen.address != Some(address)
                || current.is_none_or(|boot| boot.plan.environment != environment);
            let Some(earlier) = seen.earlier.get_mut(at) else { break };
            if rooted.is_some() && earlier.life == Some(Life::Unknown) && !earlier.presumed_dead {
                earlier.presumed_dead = true;
                self.usage.died(address.into(), &others);
            }
            let evidence = Evidence {
                in_use: self.usage.lives_on(address.into(), environment, now),
                life: earlier.life,
                asked: earlier.asked.is_some(),
                rooted,
                called: apart.then(|| self.usage.seen(address.into(), environment)).flatten(),
            };
            match succession::judge(evidence, now) {
                Verdict::Both => at += 1,
                Verdict::TwoMachines => {
                    if !std::mem::replace(&mut earlier.told, true) {
                        news.push(Review::TwoMachines(address));
                    }
                    at += 1;
                }
                Verdict::Over => {
                    self.usage.died(address.into(), &others);
                    news.push(Review::Over(Box::new(seen.earlier.remove(at).boot)));
                    if seen.address != Some(address)
                        && seen.earlier.iter().all(|left| left.address != address)
                    {
                        self.addresses.remove(&address);
                    }
                    self.changed.insert(address);
                    if seen.earlier.is_empty() {
                        seen.timeline.is_one_machine();
                    }
                }
            }
        }
        news
    }

    /// Whose call or mount that was, of a machine's boots.
    pub(super) fn caller(&self, mac: Mac, environment: Uuid, address: Ipv4Addr) -> Caller {
        let Some(seen) = self.clients.get(&mac) else { return Caller::Visitor };
        let current = seen.boot.as_ref().and_then(Boot::root);
        match (&seen.boot, &seen.earlier) {
            // A machine that was started by hand is in no boot.
            (None, earlier) if earlier.is_empty() => Caller::Current,
            (_, earlier) => succession::caller(environment, address, current, earlier),
        }
    }

    /// Gives an address to a machine, and takes it from whoever had it.
    ///
    /// Fails, with the reason in a sentence, where a living root uses the address, or where the
    /// machine's own root lives at another one: a message is no proof that either has moved.
    pub(super) fn take_address(
        &mut self,
        mac: Mac,
        address: Ipv4Addr,
        now: Instant,
    ) -> Result<(), String> {
        let previous = self.addresses.get(&address).copied().filter(|previous| *previous != mac);
        if previous.is_some() && self.lives(address, now) {
            return Err(format!(
                "a message claims {address} for it, but another machine's root is mounted from there"
            ));
        }
        if let Some(seen) = self.clients.get_mut(&mac) {
            if let Some(here) = seen.lives_at(&self.usage, now).filter(|here| *here != address) {
                return Err(format!(
                    "a message claims {address} for it, but its root is mounted from {here}"
                ));
            }
            // Until it is known that its earlier system is dead, it has no root elsewhere.
            let elsewhere = |life| {
                let runs = |one: &&Earlier| one.address != address && one.life == life;
                seen.earlier.iter().find(runs).map(|earlier| earlier.address)
            };
            let (runs, asked) = (elsewhere(Some(Life::Answers)), elsewhere(None));
            if runs.or(asked).is_some() {
                seen.claimed = Some(address);
            }
            if let Some(here) = runs {
                return Err(format!("a message claims {address} for it, but it runs at {here}"));
            }
            if asked.is_some() {
                return Ok(());
            }
        }
        if let Some(seen) = previous.and_then(|previous| self.clients.get_mut(&previous)) {
            seen.address = None;
        }
        self.addresses.insert(address, mac);
        self.changed.insert(address);
        let Some(seen) = self.seen(mac, now) else {
            self.addresses.remove(&address);
            return Ok(());
        };
        let left = seen.address.replace(address).filter(|left| *left != address);
        if let Some(left) = left {
            if seen.earlier.iter().all(|earlier| earlier.address != left) {
                self.addresses.remove(&left);
            }
            self.changed.insert(left);
        }
        Ok(())
    }

    pub(super) fn resume(&mut self, record: BootRecord, now: Instant) {
        let BootRecord { mac, client, address, earlier, .. } = record.clone();
        let boot = resumed(record, self.generation, now);
        let (id, rooted) = (boot.id, boot.rooted.is_some());
        let root = (boot.plan.environment, plan::export_path(&boot.plan.name));
        let Some(seen) = self.seen(mac, now) else { return };
        let stage = if rooted { Stage::Root } else { Stage::Leased };
        seen.timeline.begin(client, now);
        seen.timeline.resume(if address.is_some() { stage } else { Stage::Off }, now);
        seen.boot = Some(boot);
        self.boots.insert(id, mac);
        // Its system runs, for all that is known: it is taken for alive until it is silent for long.
        let usage = Arc::clone(&self.usage);
        let lives = |address: Ipv4Addr, (environment, path): &(Uuid, String)| {
            usage.mounted(address.into(), *environment, path.as_bytes(), now);
        };
        if let Some(address) = address {
            // Nobody has an address yet who could contradict.
            let _ = self.take_address(mac, address, now);
            if rooted {
                lives(address, &root);
            }
        }
        let mut next = earlier;
        while let Some(mut record) = next {
            next = record.earlier.take();
            let Some(address) = record.address else { continue };
            let boot = resumed(*record, self.generation, now);
            lives(address, &(boot.plan.environment, plan::export_path(&boot.plan.name)));
            self.addresses.insert(address, mac);
            self.changed.insert(address);
            if let Some(seen) = self.clients.get_mut(&mac) {
                seen.earlier.insert(0, Earlier::new(boot, address));
            }
        }
    }

    /// Who fetches boot files from this address: whose it is, or who was given it and has it as soon as its
    /// earlier system is known to be dead.
    pub(super) fn at(&self, address: Ipv4Addr) -> Option<&Seen> {
        let own = self.addresses.get(&address).and_then(|mac| self.clients.get(mac));
        own.or_else(|| self.clients.values().find(|seen| seen.claimed == Some(address)))
    }

    pub(super) fn mac_of(&self, client: ClientAddress) -> Option<Mac> {
        match client {
            ClientAddress::Mac(mac) => Some(mac),
            ClientAddress::Ip(address) => {
                let address = ipv4(address)?;
                let reserved = || self.roster.at(address)?.1.macs.first().copied();
                self.addresses.get(&address).copied().or_else(reserved)
            }
        }
    }

    /// Whom an event is about. Where the address is not known, as behind a relay agent of another
    /// server, a boot's id tells it; the first address that knows the id is then the machine's.
    pub(super) fn whose(
        &mut self,
        client: ClientAddress,
        event: &Event,
        now: Instant,
    ) -> Option<Mac> {
        if let Some(mac) = self.mac_of(client) {
            return Some(mac);
        }
        let (ClientAddress::Ip(address), Event::Sent { ticket, .. }) = (client, event) else {
            return None;
        };
        let mac = *self.boots.get(&ticket.boot?)?;
        let address = ipv4(address)?;
        if self.clients.get(&mac)?.address.is_none() {
            // Who cannot have it is not the machine.
            let _ = self.locate(mac, address, now);
        }
        (self.clients.get(&mac)?.address == Some(address)).then_some(mac)
    }

    /// A machine was seen with an address that another DHCP server gave it; says whether it is one of
    /// ours. A message is no proof: it does not take an address away from a root that is in use, nor
    /// from the machine that it is kept for.
    pub(super) fn locate(
        &mut self,
        mac: Mac,
        address: Ipv4Addr,
        now: Instant,
    ) -> Result<bool, String> {
        let Some(seen) = self.clients.get(&mac).filter(|seen| seen.boot.is_some()) else {
            return Ok(false);
        };
        let kept =
            self.roster.at(address).is_some_and(|(name, _)| Some(name) != seen.name.as_ref());
        if kept {
            return Ok(false);
        }
        self.take_address(mac, address, now).map(|()| true)
    }

    /// Takes note of what a message says of a machine's address; says whether it concerns us, or why it
    /// cannot be true.
    pub(super) fn hear(&mut self, mac: Mac, event: &Event, now: Instant) -> Result<bool, String> {
        if let Event::Leased(address) = *event {
            return self.take_address(mac, address, now).map(|()| true);
        }
        if let Event::Elsewhere(address) = *event {
            return self.locate(mac, address, now);
        }
        let (Event::Released(address) | Event::Declined(address)) = *event else {
            return Ok(true);
        };
        let own = self.addresses.get(&address) == Some(&mac);
        if own && self.lives(address, now) {
            return Err(format!(
                "a message gives up {address} in its name, but its root is mounted from there"
            ));
        }
        Ok(true)
    }

    /// Whether the machine at an address lives on a root there.
    fn lives(&self, address: Ipv4Addr, now: Instant) -> bool {
        let roots = self.roots_at(address).unwrap_or_default();
        self.usage.lives_on_any(address.into(), &roots, now)
    }

    /// What the machine at an address is granted; `None` if it is in no boot.
    pub(super) fn roots_at(&self, address: Ipv4Addr) -> Option<Roots> {
        let seen = self.clients.get(self.addresses.get(&address)?)?;
        let granted = |boot: &Boot| {
            let plan = &boot.plan;
            let machine = match &plan.machine {
                Some(name) => name.as_str().into(),
                None => address.to_string().into(),
            };
            let (environment, read_only, view) = (plan.environment, plan.read_only, plan.view);
            plan.awaits.is_none().then_some(Root { machine, environment, read_only, view })
        };
        let boot = seen.boot.as_ref().filter(|_| seen.address == Some(address));
        let earlier: Vec<_> =
            seen.earlier.iter().filter(|earlier| earlier.address == address).collect();
        (boot.is_some() || !earlier.is_empty()).then(|| {
            let earlier = earlier.into_iter().filter_map(|earlier| granted(&earlier.boot));
            Roots::new(boot.and_then(granted), earlier.collect())
        })
    }
}

/// A boot that began before the server was started, as it was recorded.
fn resumed(record: BootRecord, generation: u64, now: Instant) -> Boot {
    let rooted = record.rooted;
    // What it had fetched is not kept: with nothing it would never be joined again.
    let delivered = Delivered { any: true, first: true, second: rooted, whole: rooted };
    let boot = Boot::new(record.id, Arc::new(record.plan), record.client, now);
    let rooted = rooted.then_some(now);
    Boot { generation, delivered, rooted, called: rooted, ..boot }
}

pub(super) fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address.to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// Clients that are remembered. Beyond, the longest silent one without name and root is forgotten.
pub(super) const MAX_CLIENTS: usize = if cfg!(test) { 64 } else { 4096 };

/// How many clients are forgotten when there are too many.
pub(super) const FORGOTTEN_AT_ONCE: usize = MAX_CLIENTS / 16;
