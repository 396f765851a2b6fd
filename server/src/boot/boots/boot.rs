//! One boot of a machine: its plan, and how far it has come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Order;
use super::succession::Current;
use crate::boot::decide::Awaited;
use crate::boot::plan::{Next, Plan};
use crate::boot::{Arch, Ask, BootId, Client, Event, Role, Ticket};
use crate::site::machine::MachineName;

/// The boot that a machine is in.
pub(super) struct Boot {
    pub(super) id: BootId,
    pub(super) plan: Arc<Plan>,
    pub(super) client: Client,
    pub(super) xid: u32,
    pub(super) generation: u64,
    pub(super) asked: Instant,
    pub(super) moved: Instant,
    pub(super) delivered: Delivered,
    /// When the machine first used the root of this boot.
    pub(super) rooted: Option<Instant>,
    /// Since when it calls by its root's handle: that came in a reply, which whoever sends a MOUNT in
    /// its name does not get.
    pub(super) called: Option<Instant>,
    /// Whether the root that it waits for was ordered.
    pub(super) ordered: bool,
    /// When a root was made for this boot: its plan then follows no other change.
    pub(super) made: Option<Instant>,
    /// Whether what that was made from has changed since.
    pub(super) outdated: bool,
    /// The catalog's revision when the plan was decided.
    pub(super) revision: u64,
    /// Wakes those who wait for the root of this boot.
    pub(super) root_ready: watch::Sender<()>,
    /// Whether it was told that what was to be booted once is spent.
    pub(super) spent: bool,
    /// Why the root that this boot waits for could not be made.
    pub(super) trouble: Option<String>,
}

/// How much of its boot files a machine has, as far as it decides about the next question.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Delivered {
    /// Any byte of any file.
    pub(super) any: bool,
    /// The first loader, begun or whole.
    pub(super) first: bool,
    /// The script, or the loader that comes in its place.
    pub(super) second: bool,
    /// A whole loader or script; or the root, where there was none to fetch.
    pub(super) whole: bool,
}

impl Boot {
    /// A boot that was just decided.
    pub(super) fn new(id: BootId, plan: Arc<Plan>, client: Client, now: Instant) -> Self {
        Self {
            id,
            plan,
            client,
            xid: 0,
            generation: 0,
            asked: now,
            moved: now,
            delivered: Delivered::default(),
            rooted: None,
            called: None,
            ordered: false,
            made: None,
            outdated: false,
            revision: 0,
            root_ready: watch::Sender::new(()),
            spent: false,
            trouble: None,
        }
    }

    /// Its root, if it has one already.
    pub(super) fn root(&self) -> Option<Current> {
        let has_loaded = self.delivered.any || !self.client.is_firmware();
        let environment = self.plan.environment;
        self.plan.awaits.is_none().then_some(Current { environment, has_loaded })
    }

    /// Whether its plan still follows what changes: nothing of it has reached the machine.
    pub(super) fn is_open(&self) -> bool {
        !self.delivered.any && !self.ordered && self.made.is_none() && self.rooted.is_none()
    }

    /// Whether a DISCOVER repeats the one that began this boot: firmware that has nothing yet asks
    /// again, with the same transaction or (U-Boot: four times in 0.8 s) with another.
    pub(super) fn repeats(&self, ask: &Ask, generation: u64, now: Instant) -> bool {
        let age = now.duration_since(self.asked);
        let soon = age < SAME_ATTEMPT || (ask.xid == self.xid && age < SAME_TRANSACTION);
        self.client == ask.client && !self.delivered.any && self.generation == generation && soon
    }

    /// Whether this boot's firmware was given iPXE, which has not asked for its next step yet.
    pub(super) fn awaits(&self, client: Client, now: Instant) -> bool {
        let same_firmware = match (self.client, client) {
            // A machine whose firmware was switched over is in another boot.
            (Client::Http(before) | Client::Pxe(before), Client::Ipxe(now)) => {
                (before == Arch::BIOS) == (now == Arch::BIOS)
            }
            (
                Client::FreeBsdKernel
                | Client::FreeBsdLoader
                | Client::Http(_)
                | Client::Ipxe(_)
                | Client::Ordinary
                | Client::Pxe(_),
                _,
            ) => false,
        };
        let own_loader = match &self.plan.next {
            Next::Kernel { .. } | Next::Handed(_) => None,
            Next::Loader(own) => Some(own),
        };
        let first = self.plan.first.as_ref();
        let gave_ipxe = first.is_some() && first != own_loader && self.plan.chosen.is_none();
        same_firmware
            && gave_ipxe
            && self.delivered.first
            && !self.delivered.second
            && now.duration_since(self.moved) < LOADING
    }

    /// Whether it is one of this machine that waits for this root.
    pub(super) fn awaits_root(&self, machine: &MachineName, root: &Awaited) -> bool {
        self.plan.awaits.as_ref() == Some(root) && self.plan.machine.as_ref() == Some(machine)
    }

    /// Says, one time, that what the machine was to boot once is spent: as soon as it has the whole
    /// loader, because firmware that asks for an address or for a file's size may give up after it.
    pub(super) fn spend(&mut self) -> Option<Order> {
        if self.spent || !self.delivered.whole {
            return None;
        }
        self.spent = true;
        let (machine, once) = (self.plan.machine.clone()?, self.plan.once.clone()?);
        Some(Order::Spent { machine, once })
    }

    /// Follows what the machine does.
    pub(super) fn follow(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Sent { ticket: Ticket { boot: Some(id), role }, name, bytes, total, .. }
                if *id == self.id && *bytes > 0 =>
            {
                self.moved = now;
                self.delivered.any = true;
                self.delivered.whole |=
                    bytes == total && matches!(role, Role::Loader | Role::Script);
                let first = self.plan.first.as_ref();
                let is_first = first.is_some_and(|first| name.ends_with(&first.name));
                match role {
                    Role::Loader if is_first => self.delivered.first = true,
                    Role::Loader | Role::Script => self.delivered.second = true,
                    Role::Kernel | Role::Initrd | Role::Other => {}
                }
            }
            Event::Mounted { .. } | Event::Nfs { .. } => {
                self.moved = now;
                if let Event::Nfs { .. } = event {
                    self.called.get_or_insert(now);
                }
                self.rooted.get_or_insert(now);
                self.delivered.any = true;
                self.delivered.whole = true;
            }
            Event::Abandoned { .. }
            | Event::Advised(_)
            | Event::Declined(_)
            | Event::Denied { .. }
            | Event::Discover(_)
            | Event::Elsewhere(_)
            | Event::Failed { .. }
            | Event::Flawed { .. }
            | Event::ForeignServer(_)
            | Event::Leased(_)
            | Event::NotAdmitted(_)
            | Event::NotMounted { .. }
            | Event::Offered(_)
            | Event::Panicked(_)
            | Event::Probed(_)
            | Event::Refused(_)
            | Event::Released(_)
            | Event::Sent { .. }
            | Event::TermsRefused { .. }
            | Event::Unmounted(_)
            | Event::Unserved(_) => {}
        }
    }
}

/// A DISCOVER so soon after another one is the same machine's same attempt.
const SAME_ATTEMPT: Duration = Duration::from_secs(5);

/// A DISCOVER of the same transaction is a repetition for so long; some ROMs use one for ever.
const SAME_TRANSACTION: Duration = Duration::from_secs(70);

/// A loader that was fetched asks for its next step within this time.
const LOADING: Duration = Duration::from_secs(300);
