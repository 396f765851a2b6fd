//! What becomes of the earlier boots of a machine, and what is told of that.

use std::time::Instant;

use super::known::{Known, Review};
use super::{Boots, Order};
use crate::boot::timeline::Trouble;
use crate::boot::{BootId, Life};
use crate::net::Mac;
use crate::site::events::{self, Kind};

impl Boots {
    /// What came of asking whether the system of an earlier boot lives.
    pub fn answered(&self, boot: BootId, life: Life) {
        let now = self.clock.now();
        let mut known = self.known();
        let mut clients = known.clients.iter_mut();
        let found = clients.find_map(|(mac, seen)| {
            let at = seen.earlier.iter().position(|earlier| earlier.boot.id == boot)?;
            Some((*mac, at, seen.claimed.take()))
        });
        let Some((mac, at, claimed)) = found else { return };
        let life = known.weigh(mac, boot, life);
        let seen = known.clients.get_mut(&mac);
        let Some(earlier) = seen.and_then(|seen| seen.earlier.get_mut(at)) else { return };
        earlier.life = Some(life);
        let (address, environment) = (earlier.address, earlier.boot.plan.environment);
        if life == Life::Answers {
            self.usage.prove(address.into(), environment, now);
        }
        let mut told = self.review(&mut known, mac, now);
        if let Some(address) = claimed
            && let Err(reason) = known.take_address(mac, address, now)
        {
            told.extend(warning(&mut known, mac, reason));
        }
        self.publish_roots(&mut known);
        drop(known);
        self.tell(told);
    }

    /// Looks again whether a machine's earlier boots still run; gives what is to be told.
    pub(super) fn review(&self, known: &mut Known, mac: Mac, now: Instant) -> Vec<events::Event> {
        let news = known.review(mac, now).into_iter();
        news.filter_map(|new| self.take_note(known, mac, new)).collect()
    }

    fn take_note(&self, known: &mut Known, mac: Mac, new: Review) -> Option<events::Event> {
        let (told, over) = match new {
            Review::TwoMachines(address) => {
                let text = format!(
                    "its system at {address} runs while another boot begins: two machines have {mac}, or \
                     somebody forges it; the running one keeps its root"
                );
                if let Some(seen) = known.clients.get_mut(&mac) {
                    seen.timeline.warn(Trouble::TwoMachines, text.clone());
                }
                (known.event(mac, Kind::TwoMachines, text), None)
            }
            Review::Over(boot) => {
                let text = format!("boot {} is over: its root {} is free", boot.id, boot.plan.name);
                (known.event(mac, Kind::BootEnded, text), Some(boot))
            }
        };
        if let Some(boot) = over {
            match known.clients.get(&mac).and_then(|seen| seen.record(mac)) {
                Some(record) => known.log.keep(record),
                None => known.log.forget(mac),
            }
            let root = self.catalog.environment(boot.plan.environment);
            let owned = root.and_then(|root| root.owned).filter(|owned| owned.fresh);
            if let (Some(machine), Some(_)) = (boot.plan.machine.clone(), owned) {
                (self.orders)(Order::Retire { machine });
            }
        }
        told
    }
}

/// Warns, once in a boot, of a message that contradicts what runs: anybody can send more of them.
pub(super) fn warning(known: &mut Known, mac: Mac, reason: String) -> Option<events::Event> {
    let warned = known.clients.get_mut(&mac).map(|seen| &mut seen.warned)?;
    if std::mem::replace(warned, true) {
        tracing::debug!(%mac, "{reason}");
        return None;
    }
    known.event(mac, Kind::Contradiction, format!("{reason}: ignored"))
}
