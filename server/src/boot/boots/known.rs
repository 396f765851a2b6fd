//! What is known of all clients: their boots, their addresses, and whose root is in use.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::boot::{Boot, Delivered};
use crate::boot::plan::{self, NoPlan, Plan};
use crate::boot::record::{BootRecord, Keeper};
use crate::boot::timeline::{Stage, Timeline};
use crate::boot::{Ask, BootId, Client, Event, Origin};
use crate::net::Mac;
use crate::nfs::export::{MOUNTED, UNUSED};
use crate::site::machine::{MachineName, Roster};

/// Everything that changes.
pub(super) struct Known {
    pub(super) keeper: Keeper,
    pub(super) roster: Arc<Roster>,
    /// Counts changes of the roster, so that a boot that has not really begun follows them.
    pub(super) generation: u64,
    pub(super) clients: HashMap<Mac, Seen>,
    pub(super) boots: HashMap<BootId, Mac>,
    pub(super) addresses: HashMap<Ipv4Addr, Mac>,
    /// Addresses whose root was used, also by machines that never asked us for one.
    roots: HashMap<Ipv4Addr, LiveRoot>,
}

struct LiveRoot {
    used: Instant,
    /// What of it is mounted: rc.initdiskless unmounts parts of a root that goes on living.
    mounted: BTreeSet<String>,
}

/// A client that was seen.
pub(super) struct Seen {
    pub(super) name: Option<MachineName>,
    /// What its firmware called itself, by which a machine may be named too.
    pub(super) uuid: Option<Uuid>,
    pub(super) boot: Option<Boot>,
    pub(super) refusal: Option<NoPlan>,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) timeline: Timeline,
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

impl Known {
    /// Nobody was seen yet.
    pub(super) fn new(keeper: Keeper, roster: Roster) -> Self {
        Self {
            keeper,
            roster: Arc::new(roster),
            generation: 0,
            clients: HashMap::new(),
            boots: HashMap::new(),
            addresses: HashMap::new(),
            roots: HashMap::new(),
        }
    }

    /// Which boot a question belongs to.
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
        let boot = self.clients.get_mut(&ask.mac).and_then(|seen| seen.boot.as_mut());
        let Some(boot) = boot else { return nothing };
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
            let timeline = Timeline::new(now);
            let seen =
                Seen { name, uuid: None, boot: None, refusal: None, address: None, timeline };
            self.clients.insert(mac, seen);
        }
        self.clients.get_mut(&mac)
    }

    /// Forgets the longest silent clients that have neither a name nor a root; says whether there
    /// were any.
    ///
    /// Several at a time, because it looks at all: a crowd of strangers must not make every one of
    /// its messages a search.
    fn make_room(&mut self, now: Instant) -> bool {
        let idle = self.clients.iter().filter(|(_, seen)| {
            let lives = seen.address.is_some_and(|address| self.lives(address, now));
            seen.name.is_none() && !lives
        });
        let mut idle: Vec<_> = idle.map(|(mac, seen)| (seen.timeline.seen(), *mac)).collect();
        idle.sort_unstable();
        for (_, mac) in idle.iter().take(FORGOTTEN_AT_ONCE) {
            self.forget(*mac);
        }
        !idle.is_empty()
    }

    pub(super) fn forget(&mut self, mac: Mac) {
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
    pub(super) fn settle(&mut self, mac: Mac, address: Ipv4Addr, now: Instant) {
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

    pub(super) fn resume(&mut self, record: BootRecord, now: Instant) {
        let generation = self.generation;
        let root = plan::export_path(&record.plan.name);
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
            delivered: Delivered {
                any: true,
                first: true,
                second: record.rooted,
                whole: record.rooted,
            },
            rooted: record.rooted,
            ordered: false,
            spent: false,
            trouble: None,
        });
        self.boots.insert(record.id, record.mac);
        if let Some(address) = record.address {
            self.settle(record.mac, address, now);
            if record.rooted {
                let mounted = BTreeSet::from([root]);
                self.roots.insert(address, LiveRoot { used: now, mounted });
            }
        }
    }

    pub(super) fn mac_of(&self, origin: Origin) -> Option<Mac> {
        match origin {
            Origin::Mac(mac) => Some(mac),
            Origin::Address(address) => {
                let address = ipv4(address)?;
                let reserved = || self.roster.at(address)?.1.macs.first().copied();
                self.addresses.get(&address).copied().or_else(reserved)
            }
        }
    }

    /// Whom an event is about. Where the address is not known, as behind a relay agent of another
    /// server, a boot's id tells it; the first address that knows the id is then the machine's.
    pub(super) fn whose(&mut self, origin: Origin, event: &Event, now: Instant) -> Option<Mac> {
        if let Some(mac) = self.mac_of(origin) {
            return Some(mac);
        }
        let (Origin::Address(address), Event::Sent { ticket, .. }) = (origin, event) else {
            return None;
        };
        let mac = *self.boots.get(&ticket.boot?)?;
        if self.clients.get(&mac)?.address.is_none() {
            self.locate(mac, ipv4(address)?, now);
        }
        Some(mac)
    }

    /// A machine was seen with an address that another DHCP server gave it; says whether it is one of
    /// ours. A message is no proof: it does not take an address away from a root that is in use, nor
    /// from the machine that it is kept for.
    pub(super) fn locate(&mut self, mac: Mac, address: Ipv4Addr, now: Instant) -> bool {
        let Some(seen) = self.clients.get(&mac).filter(|seen| seen.boot.is_some()) else {
            return false;
        };
        let holder = self.addresses.get(&address);
        let taken = holder.is_some_and(|holder| *holder != mac) && self.lives(address, now);
        let kept =
            self.roster.at(address).is_some_and(|(name, _)| Some(name) != seen.name.as_ref());
        if taken || kept {
            return false;
        }
        self.settle(mac, address, now);
        true
    }

    /// Notes that the root of an address is in use, or no more.
    pub(super) fn note_root(&mut self, origin: Origin, event: &Event, now: Instant) {
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
                let root = LiveRoot { used: now, mounted: BTreeSet::new() };
                let root = self.roots.entry(address).or_insert(root);
                root.used = now;
                if let Event::Mounted(path) = event
                    && root.mounted.len() < MAX_PARTS
                {
                    root.mounted.insert(path.clone());
                }
            }
            Event::Unmounted(path) => {
                if let Some(root) = self.roots.get_mut(&address) {
                    root.mounted.remove(path);
                }
            }
            Event::Advised(_)
            | Event::Declined(_)
            | Event::Discover(_)
            | Event::Elsewhere(_)
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

    pub(super) fn lives(&self, address: Ipv4Addr, now: Instant) -> bool {
        self.roots.get(&address).is_some_and(|root| {
            let limit = if root.mounted.is_empty() { UNUSED } else { MOUNTED };
            now.duration_since(root.used) < limit
        })
    }
}

impl Seen {
    pub(super) fn title(&self, mac: Mac) -> String {
        self.name.as_ref().map_or_else(|| mac.to_string(), ToString::to_string)
    }

    pub(super) fn record(&self, mac: Mac) -> Option<BootRecord> {
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

/// Parts of a root that are remembered to be mounted. The root itself comes first.
const MAX_PARTS: usize = 16;

/// Addresses whose root is remembered to be in use.
const MAX_ROOTS: usize = 65_536;
