//! A client that was seen: its boots, and where it is.

use std::net::Ipv4Addr;
use std::time::Instant;

use uuid::Uuid;

use super::boot::Boot;
use super::succession::{Current, Earlier};
use crate::boot::plan::NoPlan;
use crate::boot::record::BootRecord;
use crate::boot::timeline::Timeline;
use crate::boot::usage::Usage;
use crate::net::Mac;
use crate::site::events::{self, Kind};
use crate::site::machine::MachineName;

/// A client that was seen.
pub(super) struct Seen {
    pub(super) name: Option<MachineName>,
    /// What its firmware called itself, by which a machine may be named too.
    pub(super) uuid: Option<Uuid>,
    /// The boot that it is in.
    pub(super) boot: Option<Boot>,
    /// The boots before that whose systems may still run, the first first.
    pub(super) earlier: Vec<Earlier>,
    pub(super) refusal: Option<NoPlan>,
    pub(super) address: Option<Ipv4Addr>,
    /// An address that it was seen with while it is asked whether its earlier system lives elsewhere.
    pub(super) claimed: Option<Ipv4Addr>,
    /// Whether it was told that a message contradicts its running system.
    pub(super) warned: bool,
    pub(super) timeline: Timeline,
}

impl Seen {
    /// Something that happened to the client, in the boot that it is in.
    pub(super) fn event(&self, mac: Mac, kind: Kind, text: String) -> events::Event {
        let boot = self.boot.as_ref();
        events::Event {
            machine: Some(self.title(mac)),
            named: self.name.is_some(),
            stage: Some(self.timeline.stage()),
            boot: boot.map(|boot| boot.id),
            environment: boot.map(|boot| boot.plan.name.clone()),
            ..events::Event::new(kind, text)
        }
    }

    pub(super) fn new(name: Option<MachineName>, now: Instant) -> Self {
        Self {
            name,
            uuid: None,
            boot: None,
            earlier: Vec::new(),
            refusal: None,
            address: None,
            claimed: None,
            warned: false,
            timeline: Timeline::new(now),
        }
    }

    pub(super) fn title(&self, mac: Mac) -> String {
        self.name.as_ref().map_or_else(|| mac.to_string(), ToString::to_string)
    }

    /// Where the root of its present boot lives.
    pub(super) fn lives_at(&self, usage: &Usage, now: Instant) -> Option<Ipv4Addr> {
        let boot = self.boot.as_ref().filter(|boot| boot.rooted.is_some())?;
        let lives =
            |address: &Ipv4Addr| usage.lives_on((*address).into(), boot.plan.environment, now);
        self.address.filter(lives)
    }

    /// When its present boot used its root last.
    pub(super) fn used(&self, usage: &Usage) -> Option<Instant> {
        let boot = self.boot.as_ref()?;
        usage.seen(self.address?.into(), boot.plan.environment)
    }

    /// The roots at an address that are not of the earlier boot at this place.
    pub(super) fn others_at(&self, address: Ipv4Addr, place: usize) -> Vec<Uuid> {
        let current = self.boot.as_ref().filter(|boot| boot.rooted.is_some());
        let current = current.filter(|_| self.address == Some(address));
        let earlier = self.earlier.iter().enumerate();
        let earlier = earlier.filter(|(at, one)| *at != place && one.address == address);
        let boots = current.into_iter().chain(earlier.map(|(_, earlier)| &earlier.boot));
        boots.map(|boot| boot.plan.environment).collect()
    }

    /// The environments that are its root, each with the address from which it is used.
    pub(super) fn roots(&self) -> impl Iterator<Item = (Uuid, Ipv4Addr)> {
        let current = self.boot.as_ref().and_then(Boot::root).zip(self.address);
        let current = current.map(|(Current { environment, .. }, address)| (environment, address));
        let earlier = self.earlier.iter();
        let earlier = earlier.map(|earlier| (earlier.boot.plan.environment, earlier.address));
        current.into_iter().chain(earlier)
    }

    /// What is kept of its boots.
    pub(super) fn record(&self, mac: Mac) -> Option<BootRecord> {
        let record = |boot: &Boot, address, rooted, earlier: Option<BootRecord>| BootRecord {
            id: boot.id,
            mac,
            client: boot.client,
            plan: (*boot.plan).clone(),
            address,
            rooted,
            earlier: earlier.map(Box::new),
        };
        let earlier = self.earlier.iter().fold(None, |before, earlier| {
            Some(record(&earlier.boot, Some(earlier.address), true, before))
        });
        let Some(boot) = &self.boot else { return earlier };
        Some(record(boot, self.address, boot.rooted.is_some(), earlier))
    }
}
