//! What was seen of a boot, as evidence for why it does not go on: the packets, files and calls in words with
//! their times, and those facts that [`super::verdict`] judges by.

use std::collections::VecDeque;
use std::time::Instant;

use provision::terminal::Bytes;

use super::description::{describe, shown};
use crate::boot::flaw::Flaw;
use crate::boot::{Client, Denial, Event, FileProtocol, Role, Stall};

/// One thing that was seen, or several of a kind one after the other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observation {
    /// When first.
    pub at: Instant,
    /// When last.
    pub last: Instant,
    /// How often.
    pub times: u32,
    /// What, in words.
    pub text: String,
}

/// What was seen of the present boot.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    seen: VecDeque<Observation>,
    /// What kind of event the last observation is of, where several are told together.
    kind: Option<Kind>,
    /// How often an address was asked for, and offered.
    pub(super) asked: u32,
    pub(super) offered: u32,
    /// What asked for an address last.
    pub(super) program: Option<Client>,
    /// Whether that has its address.
    pub(super) has_address: bool,
    /// The last file that counts for the boot: its name, bytes of total.
    pub(super) file: Option<(String, u64, u64)>,
    /// The file that it asked for last and may not have, and how often it asked for it.
    pub(super) denied: Option<Denied>,
    /// The file whose transfer's terms it refused, with which error and how often.
    pub(super) terms: Option<(String, u16, u32)>,
    /// The file that it fell silent at.
    pub(super) stalled: Option<(String, Stall)>,
    /// A program that its firmware cannot start.
    pub(super) flaw: Option<(String, Flaw)>,
    /// Calls to NFS, by anything.
    pub(super) calls: u64,
    /// Calls that would have changed a root which it may only read.
    pub(super) denied_writes: u64,
    /// Whether it looked for `init` and found none.
    pub(super) lacks_init: bool,
}

/// A file that a machine may not have.
#[derive(Clone, Debug)]
pub(super) struct Denied {
    pub(super) name: String,
    pub(super) protocol: FileProtocol,
    pub(super) denial: Denial,
    pub(super) times: u32,
}

/// Events that are told together.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Kind {
    File(String),
    Calls { calls: u64, read: u64, written: u64 },
}

impl Evidence {
    /// Takes note of an event.
    pub(super) fn see(&mut self, event: &Event, now: Instant) {
        self.weigh(event);
        self.observe(event, now);
    }

    fn weigh(&mut self, event: &Event) {
        match event {
            Event::Discover(client) => {
                self.asked = self.asked.saturating_add(1);
                if self.program != Some(*client) {
                    // What asks now was started: its loader has no flaw, and files begin anew.
                    self.begin_program();
                }
                self.program = Some(*client);
                self.has_address = false;
            }
            Event::Offered(_) => self.offered = self.offered.saturating_add(1),
            Event::Leased(_) | Event::Elsewhere(_) => self.has_address = true,
            Event::Sent { ticket, name, bytes, total, .. } => {
                if ticket.role != Role::Other {
                    self.file = Some((unix(name), *bytes, *total));
                }
                if *bytes > 0 {
                    (self.denied, self.terms, self.stalled) = (None, None, None);
                }
            }
            Event::Denied { name, protocol, denial } => {
                let name = shown(name);
                let same = self.denied.as_ref().filter(|known| known.name == name);
                let times = same.map_or(0, |known| known.times).saturating_add(1);
                let (protocol, denial) = (*protocol, denial.clone());
                self.denied = Some(Denied { name, protocol, denial, times });
            }
            Event::TermsRefused { name, code } => {
                let name = shown(name);
                let same = self.terms.as_ref().filter(|(known, ..)| *known == name);
                let times = same.map_or(0, |(.., times)| *times).saturating_add(1);
                self.terms = Some((name, *code, times));
            }
            Event::Abandoned { name, stall, .. } => self.stalled = Some((shown(name), *stall)),
            Event::Flawed { name, flaw } => self.flaw = Some((unix(name), *flaw)),
            Event::Nfs { traffic, .. } => {
                self.calls = self.calls.saturating_add(traffic.calls);
                self.denied_writes = self.denied_writes.saturating_add(traffic.denied.into());
                self.lacks_init |= traffic.lacks_init;
            }
            Event::Advised(_)
            | Event::Declined(_)
            | Event::Failed { .. }
            | Event::ForeignServer(_)
            | Event::Mounted { .. }
            | Event::NotAdmitted(_)
            | Event::NotMounted { .. }
            | Event::Panicked(_)
            | Event::Probed(_)
            | Event::Refused(_)
            | Event::Released(_)
            | Event::Unmounted(_)
            | Event::Unserved(_) => {}
        }
    }

    fn begin_program(&mut self) {
        (self.flaw, self.denied, self.terms, self.stalled) = (None, None, None, None);
    }

    fn observe(&mut self, event: &Event, now: Instant) {
        let (text, kind) = match event {
            Event::Nfs { traffic, .. } => {
                let (calls, read, written) = match self.kind {
                    Some(Kind::Calls { calls, read, written }) => (calls, read, written),
                    Some(Kind::File(_)) | None => (0, 0, 0),
                };
                let calls = calls.saturating_add(traffic.calls);
                let read = read.saturating_add(traffic.read);
                let written = written.saturating_add(traffic.written);
                let (told, wrote) = (Bytes(read), Bytes(written));
                let text = format!("NFS: {calls} calls, {told} read, {wrote} written");
                (text, Some(Kind::Calls { calls, read, written }))
            }
            Event::Sent { name, bytes, total, protocol, .. } => {
                let text = format!(
                    "sent {} of {} of {} by {protocol}",
                    Bytes(*bytes),
                    Bytes(*total),
                    shown(name)
                );
                (text, Some(Kind::File(name.clone())))
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
            | Event::Mounted { .. }
            | Event::NotAdmitted(_)
            | Event::NotMounted { .. }
            | Event::Offered(_)
            | Event::Panicked(_)
            | Event::Probed(_)
            | Event::Refused(_)
            | Event::Released(_)
            | Event::TermsRefused { .. }
            | Event::Unmounted(_)
            | Event::Unserved(_) => (describe(event), None),
        };
        let goes_on = match (&self.kind, &kind) {
            (Some(Kind::File(before)), Some(Kind::File(now))) => before == now,
            (Some(Kind::Calls { .. }), Some(Kind::Calls { .. })) => true,
            (Some(Kind::File(_) | Kind::Calls { .. }), _) | (None, Some(_)) => false,
            (None, None) => self.seen.back().is_some_and(|last| last.text == text),
        };
        self.kind = kind;
        if let Some(last) = self.seen.back_mut().filter(|_| goes_on) {
            last.last = now;
            last.text = text;
            if self.kind.is_none() {
                last.times = last.times.saturating_add(1);
            }
            return;
        }
        if self.seen.len() >= MAX_SEEN {
            // How it began tells more than the middle.
            self.seen.remove(MAX_SEEN / 2);
        }
        self.seen.push_back(Observation { at: now, last: now, times: 1, text });
    }

    /// What was seen, the first first.
    pub(super) fn observations(&self) -> impl Iterator<Item = &Observation> {
        self.seen.iter()
    }
}

/// A file's name with the separators that everybody else uses; some ROMs write them as DOS did.
fn unix(name: &str) -> String {
    shown(&name.replace('\\', "/"))
}

/// Observations that are kept of a boot.
const MAX_SEEN: usize = 40;
