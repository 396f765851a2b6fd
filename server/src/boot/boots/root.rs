//! Roots that are still to be made for a boot: ordered at its first file, and waited for by its loader.
//!
//! DHCP never waits for one. What it has told until then does not name the root: the plan is complete
//! when the root is there, and what was decided before stays as it was.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Boots, Known, PATIENCE};
use crate::boot::BootId;
use crate::boot::catalog::Facts;
use crate::boot::plan::{self, Awaited, Next, NoPlan, Plan};
use crate::site::machine::{Machine, MachineName, RootKind};

/// What a boot wants done that takes a while, or a disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Make a root for a machine, and tell [`Boots::prepared`].
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
}

/// How a boot's root stands.
pub(in crate::boot) enum Root {
    /// It is there, or there was none to wait for.
    Ready(Arc<Plan>),
    /// It is being made, or could not be; in a sentence.
    Waiting(String),
}

impl Boots {
    /// The plan of a boot with its root in it; orders the root if nobody has, and waits for it a
    /// while.
    pub(in crate::boot) fn root(&self, id: BootId, plan: &Arc<Plan>, patience: Duration) -> Root {
        let (Some(root), Some(machine)) = (&plan.awaits, &plan.machine) else {
            return Root::Ready(Arc::clone(plan));
        };
        let mut known = self.known();
        let mut ordered = false;
        if let Some(boot) = known.boot(id)
            && boot.plan.awaits.is_some()
            && !boot.ordered
        {
            boot.ordered = true;
            boot.trouble = None;
            ordered = true;
        }
        if ordered {
            drop(known);
            self.order(machine, root);
            known = self.known();
        }
        let lacks = |known: &mut Known| {
            let boot = known.boot(id);
            boot.is_some_and(|boot| boot.plan.awaits.is_some() && boot.trouble.is_none())
        };
        let waited = self.settled.wait_timeout_while(known, patience, lacks);
        let (mut known, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match known.boot(id) {
            Some(boot) if boot.plan.awaits.is_none() => Root::Ready(Arc::clone(&boot.plan)),
            Some(boot) => Root::Waiting(boot.trouble.clone().unwrap_or_else(|| {
                format!("the root of {machine} is being made from {}", root.template)
            })),
            None => Root::Waiting("this boot is over: switch the machine off and on".to_owned()),
        }
    }

    /// Orders a root.
    pub(super) fn order(&self, machine: &MachineName, root: &Awaited) {
        tracing::info!("{machine}: its root is made from {}", root.template);
        (self.orders)(Order::Make { machine: machine.clone(), root: root.clone() });
    }

    /// Goes on with the boots of a machine whose root was made, and is in the catalog by this name, or
    /// could not be made.
    pub fn prepared(&self, machine: &MachineName, outcome: Result<&str, String>) {
        let roster = self.roster();
        let made = outcome.and_then(|name| {
            let gone = || format!("boot environment {name} does not exist any more");
            let facts = self.catalog.facts(name, LOOK).ok_or_else(gone)?;
            let record = roster.get(machine).ok_or_else(|| format!("{machine} was removed"))?;
            Ok((facts, &record.machine))
        });
        let now = self.clock.now();
        let mut known = self.known();
        let mut told = Vec::new();
        for (mac, seen) in &mut known.clients {
            let Some(boot) = seen.boot.as_mut().filter(|boot| boot.awaits_root_of(machine)) else {
                continue;
            };
            let decided = made.as_ref().map_err(Clone::clone).and_then(|(facts, record)| {
                let subject = plan::Subject {
                    mac: *mac,
                    machine: Some((machine, record)),
                    client: boot.client,
                };
                let site = plan::Site {
                    server: boot.plan.server,
                    http_port: self.http_port,
                    loaders: &self.loaders,
                    proxy: matches!(boot.plan.next, Next::Handed(_)),
                };
                let plan = plan::plan(subject, facts, false, site);
                plan.map_err(|refusal: NoPlan| refusal.to_string())
            });
            boot.ordered = false;
            let text = match decided {
                Ok(plan) => {
                    let once = boot.plan.once.clone();
                    let text = format!("its root {} is ready (boot {})", plan.name, boot.id);
                    boot.plan = Arc::new(Plan { once, ..plan });
                    boot.trouble = None;
                    text
                }
                Err(reason) => {
                    let text = format!("its root cannot be made: {reason}");
                    seen.timeline.refuse(&text, now);
                    boot.trouble = Some(text.clone());
                    text
                }
            };
            told.push((seen.title(*mac), seen.timeline.view(now).stage, text, seen.record(*mac)));
        }
        for record in told.iter_mut().filter_map(|(.., record)| record.take()) {
            known.keeper.keep(record);
        }
        drop(known);
        self.settled.notify_all();
        for (machine, stage, text, _) in told {
            self.notify(machine, stage, text);
        }
    }

    /// What a machine boots: what it was assigned, or a clone of it that is there already.
    pub(super) fn facts_of(
        &self,
        machine: Option<(&MachineName, &Machine)>,
        wanted: &str,
    ) -> Result<Facts, NoPlan> {
        let own = machine.and_then(|(name, machine)| match machine.root {
            RootKind::Own => self.catalog.own(name, wanted),
            RootKind::Direct | RootKind::Fresh | RootKind::Shared => None,
        });
        // Of a snapshot, the environment tells what its clone will have in it.
        let name = own.as_deref().or_else(|| wanted.split('@').next()).unwrap_or(wanted);
        let facts = self.catalog.facts(name, PATIENCE);
        facts.ok_or_else(|| NoPlan::Missing(name.to_owned()))
    }
}

/// How long the look into a new root may take.
const LOOK: Duration = Duration::from_secs(10);
