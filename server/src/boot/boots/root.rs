//! Roots that are still to be made for a boot: ordered when it begins, and waited for by its loader, which
//! keeps no thread meanwhile.
//!
//! A DISCOVER is one packet that anybody can send in a machine's name. It orders a root only from the machine's
//! own Ethernet address, and one for all boots that wait for the same. What it orders and nobody uses is
//! for the machine's next boot, so that there is one such root, however many come.
//!
//! DHCP never waits for one. What it has told until then does not name the root: the plan is complete
//! when the root is there, and what was decided before stays as it was.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::Boots;
use super::boot::Boot;
use crate::boot::catalog;
use crate::boot::decide::Awaited;
use crate::boot::plan::{self, Next, NoPlan, Plan};
use crate::boot::{BootId, Client, Ready};
use crate::net::Mac;
use crate::site::events::Kind;
use crate::site::machine::{MachineName, environment_in};

/// Work for a boot that takes a while or needs a disk, and so is done by another thread.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Make a root for a machine ([`Boots::prepare`]).
    Make {
        /// The machine.
        machine: MachineName,
        /// What it is to be.
        root: Awaited,
    },
    /// A machine has begun to boot what it was to boot once.
    Spent {
        /// The machine.
        machine: MachineName,
        /// What it was to boot once.
        once: String,
    },
    /// Ask whether the system of a boot lives, which ran at this address while another boot of its
    /// machine begins, and tell [`Boots::answered`].
    Ask {
        /// Where it ran.
        address: Ipv4Addr,
        /// The boot.
        boot: BootId,
    },
    /// Destroy the roots for one boot of a machine of which no boot is left ([`Boots::is_root`]).
    Retire {
        /// The machine.
        machine: MachineName,
    },
}

/// Whether a boot has its root already.
pub(in crate::boot) enum RootState {
    /// It is there, or there was none to wait for.
    Ready(Arc<Plan>),
    /// It is being made; [`Ready`] tells when that has ended.
    Waiting(Ready),
    /// It is not there though the client has waited; the reason is a sentence.
    Missing(String),
}

/// A plan with the root that was made for another boot of the machine.
pub(super) struct Complete {
    /// The plan of that other boot.
    before: Arc<Plan>,
    plan: Arc<Plan>,
}

/// A root that an earlier DISCOVER has ordered.
pub(super) enum Spare {
    /// It is being made.
    Ordered,
    /// It was made at that time; the plan has it.
    Made(Arc<Plan>, Instant),
}

impl Boots {
    /// The plan of a boot with its root in it; orders the root if nobody has. Waits for nothing:
    /// `waited` says that who asks has waited already.
    pub(in crate::boot) fn root(&self, id: BootId, plan: &Arc<Plan>, waited: bool) -> RootState {
        let (Some(root), Some(machine)) = (&plan.awaits, &plan.machine) else {
            return RootState::Ready(Arc::clone(plan));
        };
        let mut known = self.known();
        let Some(boot) = known.boot(id) else {
            return RootState::Missing(
                "this boot is over: switch the machine off and on".to_owned(),
            );
        };
        if boot.plan.awaits.is_none() {
            return RootState::Ready(Arc::clone(&boot.plan));
        }
        if waited {
            let waiting = || format!("the root of {machine} is being made from {}", root.template);
            return RootState::Missing(boot.trouble.clone().unwrap_or_else(waiting));
        }
        let ready = Ready::of(&boot.root_ready);
        if !boot.ordered {
            boot.ordered = true;
            boot.trouble = None;
            drop(known);
            self.order(machine, root);
        }
        RootState::Waiting(ready)
    }

    /// What a boot with this plan boots if it takes the root that was made for the machine's present one.
    /// It looks for loaders on the host, and so without the lock.
    pub(super) fn spare(
        &self,
        plan: &Plan,
        subject: plan::Subject<'_>,
        site: plan::Site<'_>,
    ) -> Option<Complete> {
        let awaited = plan.awaits.as_ref()?;
        let before = {
            let known = self.known();
            let boot = known.clients.get(&subject.mac)?.boot.as_ref()?;
            boot.made.is_some().then(|| Arc::clone(&boot.plan))?
        };
        let catalog::Known::Scanned(facts) = self.catalog.known(&before.name) else {
            return None;
        };
        let owned = facts.owned.as_ref().filter(|_| facts.uuid == before.environment)?;
        let template = self.catalog.named(environment_in(&awaited.template));
        let is_of_it = owned.origin.is_none() || owned.origin == template.map(|one| one.uuid);
        if !is_of_it || (&owned.template, owned.fresh) != (&awaited.template, awaited.fresh) {
            return None;
        }
        let complete = plan::plan(subject, &facts, false, site).ok()?;
        let plan = Arc::new(Plan { once: plan.once.clone(), ..complete });
        plan.awaits.is_none().then_some(Complete { before, plan })
    }

    /// Takes note that environments have changed or are worked on: a root that was made from one before is
    /// not for another boot.
    pub(super) fn outdate(&self, touched: &[Uuid]) {
        let origin = |boot: &Boot| self.catalog.environment(boot.plan.environment)?.owned?.origin;
        let mut known = self.known();
        let boots = known.clients.values_mut().filter_map(|seen| seen.boot.as_mut());
        for boot in boots.filter(|boot| boot.made.is_some()) {
            boot.outdated |= origin(boot).is_some_and(|origin| touched.contains(&origin));
        }
    }

    /// Orders a root.
    pub(super) fn order(&self, machine: &MachineName, root: &Awaited) {
        tracing::info!("{machine}: its root is made from {}", root.template);
        (self.orders)(Order::Make { machine: machine.clone(), root: root.clone() });
    }

    /// Has a root made that was ordered, and goes on with the boots that wait for it. Makes none where no
    /// boot waits any more: an order before this one has served all of the machine's.
    pub fn prepare(
        &self,
        machine: &MachineName,
        root: &Awaited,
        make: impl FnOnce() -> Result<String, String>,
    ) {
        let is_awaited = {
            let known = self.known();
            let mut boots = known.clients.values().filter_map(|seen| seen.boot.as_ref());
            boots.any(|boot| boot.awaits_root(machine, root))
        };
        if is_awaited {
            self.prepared(machine, root, make().as_deref().map_err(Clone::clone));
        }
    }

    /// Goes on with the boots of a machine for which this root was made, and is in the catalog by this name,
    /// or could not be made.
    pub fn prepared(&self, machine: &MachineName, root: &Awaited, outcome: Result<&str, String>) {
        let roster = self.roster();
        let made = outcome.and_then(|name| {
            let facts = self.catalog.look(name)?;
            let record = roster.get(machine).ok_or_else(|| format!("{machine} was removed"))?;
            Ok((facts, &record.machine))
        });
        let plan = |mac: Mac, client: Client, before: &Plan| {
            let (facts, record) = made.as_ref().map_err(Clone::clone)?;
            let subject = plan::Subject { mac, machine: Some((machine, record)), client };
            let proxy = matches!(before.next, Next::Handed(_));
            let site = self.site(before.server, proxy, &before.network);
            let plan = plan::plan(subject, facts, false, site);
            plan.map_err(|refusal: NoPlan| refusal.to_string())
        };
        // A plan looks for loaders on the host, and so is made without the lock. Boots that begin to wait
        // meanwhile are in the next round.
        let mut served = HashSet::new();
        loop {
            let waiting: Vec<_> = {
                let known = self.known();
                let boots = known.clients.iter().filter_map(|(mac, seen)| {
                    let boot = seen.boot.as_ref().filter(|boot| boot.awaits_root(machine, root))?;
                    Some((boot.id, *mac, boot.client, Arc::clone(&boot.plan)))
                });
                boots.filter(|(id, ..)| served.insert(*id)).collect()
            };
            if waiting.is_empty() {
                return;
            }
            let decided = waiting.into_iter();
            let decided = decided.map(|(id, mac, client, before)| (id, plan(mac, client, &before)));
            self.go_on(machine, root, decided.collect());
        }
    }

    /// Goes on with boots whose root was made, or could not be.
    fn go_on(
        &self,
        machine: &MachineName,
        root: &Awaited,
        mut decided: HashMap<BootId, Result<Plan, String>>,
    ) {
        let now = self.clock.now();
        let mut known = self.known();
        let (mut told, mut changed) = (Vec::new(), Vec::new());
        for (mac, seen) in &mut known.clients {
            let Some(boot) = seen.boot.as_mut().filter(|boot| boot.awaits_root(machine, root))
            else {
                continue;
            };
            let Some(decided) = decided.remove(&boot.id) else { continue };
            boot.ordered = false;
            // Who waits is told when the lock is free.
            boot.root_ready.send_replace(());
            let (kind, text) = match decided {
                Ok(plan) => {
                    let once = boot.plan.once.clone();
                    let text = format!("its root {} is ready (boot {})", plan.name, boot.id);
                    boot.plan = Arc::new(Plan { once, ..plan });
                    (boot.made, boot.outdated) = (Some(now), false);
                    boot.trouble = None;
                    (Kind::RootReady, text)
                }
                Err(reason) => {
                    let text = format!("its root cannot be made: {reason}");
                    seen.timeline.refuse(&text, now);
                    boot.trouble = Some(text.clone());
                    (Kind::RootFailed, text)
                }
            };
            changed.extend(seen.address);
            told.push((seen.event(*mac, kind, text), seen.record(*mac)));
        }
        known.changed.extend(changed);
        for record in told.iter_mut().filter_map(|(_, record)| record.take()) {
            known.log.keep(record);
        }
        self.publish_roots(&mut known);
        drop(known);
        self.tell(told.into_iter().map(|(event, _)| event));
    }
}

impl Boot {
    /// The root that this boot has and did not use, for the boot that takes its place with this plan, or
    /// with the complete one.
    pub(super) fn spare(
        &self,
        plan: &Plan,
        complete: Option<Complete>,
        now: Instant,
    ) -> Option<Spare> {
        let unused = !self.delivered.any && self.rooted.is_none();
        if !unused || plan.awaits.is_none() || self.plan.machine != plan.machine {
            return None;
        }
        if self.ordered && self.plan.awaits == plan.awaits {
            return Some(Spare::Ordered);
        }
        // What is made of a template that changes under it grows old.
        let made = self.made.filter(|made| now.saturating_duration_since(*made) < SPARE)?;
        let complete = complete.filter(|complete| Arc::ptr_eq(&complete.before, &self.plan))?;
        (!self.outdated).then_some(Spare::Made(complete.plan, made))
    }
}

/// For how long a root that was made and not used is there for the next boot. Firmware that gives up asks
/// again within a minute.
const SPARE: Duration = Duration::from_secs(300);
