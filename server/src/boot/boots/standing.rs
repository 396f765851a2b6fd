//! How machines stand, and who lives on what: what status and commands ask of the boots.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use uuid::Uuid;

use super::Boots;
use super::known::ipv4;
use super::seen::Seen;
use crate::boot::BootId;
use crate::boot::timeline::{BootStatus, LOST, Observation, Timeline, Verdict};
use crate::boot::usage::Usage;
use crate::net::Mac;
use crate::site::machine::MachineName;

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
    pub status: Option<BootStatus>,
    /// Whether a system of it has used its root in the last ten minutes, by any of its Ethernet addresses, and in
    /// the boot that is shown or in one that goes on beside it.
    pub lives: bool,
}

/// What a client of a machine has done that is more than a message which anybody can send in its name: it has
/// fetched something, or called by its root's handle.
#[derive(Clone, Copy, Debug)]
struct Proof {
    /// Since when its system works on its root; when it fetched last, if none does.
    since: Instant,
    /// The last of it.
    last: Instant,
}

/// The client that shows how its machine stands, of those that have its Ethernet addresses or its UUID.
///
/// A DISCOVER with another of its addresses, or with its UUID, is one packet that anybody can send: it changes
/// nothing as long as a system works. That one is over when it has not called since another began to work.
fn shown<'k>(
    clients: impl Iterator<Item = (&'k Mac, &'k Seen)> + Clone,
    usage: &Usage,
    now: Instant,
) -> Option<(&'k Mac, &'k Seen)> {
    let proven =
        clients.clone().filter_map(|(mac, seen)| Some((seen.proof(usage, now)?, mac, seen)));
    let latest = proven.clone().map(|(proof, ..)| proof.since).max();
    let works = proven.filter(|(proof, ..)| latest.is_none_or(|latest| proof.last >= latest));
    let works = works.min_by_key(|(proof, mac, _)| (proof.since, **mac));
    let heard = || clients.max_by_key(|(mac, seen)| (seen.timeline.seen(), **mac));
    works.map(|(_, mac, seen)| (mac, seen)).or_else(heard)
}

impl Seen {
    /// What its present boot has done in the last ten minutes.
    fn proof(&self, usage: &Usage, now: Instant) -> Option<Proof> {
        let boot = self.boot.as_ref()?;
        let proof = match boot.called.zip(self.used(usage)) {
            Some((since, last)) => Proof { since, last },
            None if boot.delivered.any => Proof { since: boot.moved, last: boot.moved },
            None => return None,
        };
        (now.saturating_duration_since(proof.last) < LOST).then_some(proof)
    }

    /// Whether a system of it has used its root lately.
    fn is_alive(&self, usage: &Usage, now: Instant) -> bool {
        self.roots().any(|(root, address)| {
            let used = usage.seen(address.into(), root);
            let lately = used.is_some_and(|used| now.saturating_duration_since(used) < LOST);
            lately && usage.lives_on(address.into(), root, now)
        })
    }
}

impl Boots {
    /// How every machine stands: the named ones by name, then the others, latest first.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let now = self.clock.now();
        let known = self.known();
        let mut standings = Vec::new();
        let mut clients = HashMap::<&MachineName, Vec<(&Mac, &Seen)>>::new();
        for (mac, seen) in &known.clients {
            if let Some(name) = &seen.name {
                clients.entry(name).or_default().push((mac, seen));
            }
        }
        for (name, entry) in known.roster.iter() {
            let machine = &entry.machine;
            let own = clients.get(name).into_iter().flatten().copied();
            let lives = own.clone().any(|(_, seen)| seen.is_alive(&known.usage, now));
            let (latest, seen) = shown(own, &known.usage, now).unzip();
            let plan = seen.and_then(|seen| seen.boot.as_ref()).map(|boot| &boot.plan);
            let assigned = machine.wanted().or_else(|| known.roster.default_environment());
            standings.push(Standing {
                name: Some(name.clone()),
                mac: latest.or_else(|| machine.macs.first()).copied(),
                address: seen.and_then(|seen| seen.address).or(machine.address),
                boot: seen.and_then(|seen| seen.boot.as_ref()).map(|boot| boot.id),
                environment: plan.map_or(assigned, |plan| Some(&plan.name)).map(str::to_owned),
                read_only: plan.map(|plan| plan.read_only),
                status: seen.map(|seen| seen.timeline.status(seen.used(&known.usage), now)),
                lives,
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
                status: Some(seen.timeline.status(seen.used(&known.usage), now)),
                lives: seen.is_alive(&known.usage, now),
            }
        }));
        standings
    }

    /// How one machine stands, with why and with what was seen of its present boot; by name, Ethernet
    /// address or IP address. `None` if nothing is known of it.
    #[must_use]
    pub fn explained(&self, machine: &str) -> Option<(Standing, Vec<Observation>)> {
        let mac = machine.parse::<Mac>().ok();
        let address = machine.parse::<Ipv4Addr>().ok();
        let mut standing = self.standings().into_iter().find(|one| {
            let named = one.name.as_ref().is_some_and(|name| name.as_str() == machine);
            named
                || (mac.is_some() && one.mac == mac)
                || (address.is_some() && one.address == address)
        })?;
        let known = self.known();
        let seen = standing.mac.and_then(|mac| known.clients.get(&mac));
        let observed = seen.map(|seen| seen.timeline.observations().cloned().collect());
        drop(known);
        if standing.status.is_none() {
            let status = Timeline::new(self.clock.now()).status(None, self.clock.now());
            let verdict = Some(Verdict::never_heard());
            standing.status = Some(BootStatus { seen: None, verdict, ..status });
        }
        Some((standing, observed.unwrap_or_default()))
    }

    /// Which machine is at an address, by name or Ethernet address, and the boot that it is in: one that
    /// was seen there, or the named one that the address is kept for.
    #[must_use]
    pub fn who_is_at(&self, address: IpAddr) -> Option<(String, Option<BootId>)> {
        let address = ipv4(address)?;
        let known = self.known();
        let seen = known.addresses.get(&address);
        if let Some((mac, seen)) = seen.and_then(|mac| Some((mac, known.clients.get(mac)?))) {
            return Some((seen.title(*mac), seen.boot.as_ref().map(|boot| boot.id)));
        }
        let (name, _) = known.roster.at(address)?;
        Some((name.to_string(), None))
    }

    /// The machines whose root is this environment and lives, by name or Ethernet address.
    #[must_use]
    pub fn living_on(&self, environment: Uuid) -> Vec<String> {
        let now = self.clock.now();
        let known = self.known();
        let lives = |seen: &Seen| {
            let mut roots = seen.roots().filter(|(root, _)| *root == environment);
            roots.any(|(root, address)| known.usage.lives_on(address.into(), root, now))
        };
        let living = known.clients.iter().filter(|(_, seen)| lives(seen));
        let mut names = living.map(|(mac, seen)| seen.title(*mac)).collect::<Vec<_>>();
        names.sort();
        names
    }

    /// Whether an environment is the root of a boot that is not over, whether or not anything shows it
    /// alive.
    #[must_use]
    pub fn is_root(&self, environment: Uuid) -> bool {
        let known = self.known();
        known.clients.values().any(|seen| {
            let current = seen.boot.as_ref().filter(|boot| boot.plan.awaits.is_none());
            let earlier = seen.earlier.iter().map(|earlier| &earlier.boot);
            let mut boots = current.into_iter().chain(earlier);
            boots.any(|boot| boot.plan.environment == environment)
        })
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
        if let Some((_, seen)) = client {
            let own = seen.roots().any(|(root, own)| root == environment && Some(own) == v4);
            let over = seen.boot.is_some() && seen.earlier.is_empty() && at < seen.timeline.began();
            if own || over {
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
}
