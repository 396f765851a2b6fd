//! How far a machine has come, as the protocols saw it: its stage, what it was sent, what went wrong.
//!
//! A timeline is a value: events and `now` go in, a [`BootStatus`] comes out. Nothing runs on the
//! machine that would tell us more, so a stage is what an observer on the network can know.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Client, Event, Role};
pub use crate::site::events::Stage;

/// What keeps a machine from going on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Something of its boot went wrong.
    Failed,
    /// It took its address from another DHCP server.
    ForeignServer,
    /// It boots nothing from us.
    Refused,
    /// Another machine has its Ethernet address, or somebody forges it.
    TwoMachines,
}

impl Trouble {
    /// The trouble in one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::ForeignServer => "foreign-server",
            Self::Refused => "refused",
            Self::TwoMachines => "two-machines",
        }
    }
}

/// All that was seen of one machine's present boot.
#[derive(Clone, Debug)]
pub struct Timeline {
    began: Instant,
    by_firmware: bool,
    stage: Stage,
    reached: Vec<(Stage, Instant)>,
    trouble: Option<(Trouble, String)>,
    seen: Instant,
    transfers: VecDeque<Transfer>,
    sent: u64,
    read: u64,
    written: u64,
    /// What was told last, and when it was seen last.
    told: Option<(String, Instant)>,
}

#[derive(Clone, Debug)]
struct Transfer {
    name: String,
    bytes: u64,
    total: u64,
}

/// The state of a machine's boot at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BootStatus {
    /// Its stage.
    pub stage: Stage,
    /// What keeps it from going on, with a sentence.
    pub trouble: Option<(Trouble, String)>,
    /// What may be wrong, if the machine has been silent for too long at its stage.
    pub hint: Option<String>,
    /// How long the boot has taken so far; up to its running, when it runs.
    pub took: Duration,
    /// How long each stage that it passed took, in order; the last one lasts.
    pub stages: Vec<(Stage, Duration)>,
    /// The file that is on its way: bytes of total.
    pub progress: Option<(u64, u64)>,
    /// Bytes of boot files that it was sent.
    pub sent: u64,
    /// Bytes that it read from its root.
    pub read: u64,
    /// Bytes that it wrote to its root.
    pub written: u64,
    /// How long ago it was last heard of.
    pub seen: Duration,
}

impl Timeline {
    /// The timeline of a machine of which nothing was heard yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            by_firmware: false,
            stage: Stage::Off,
            reached: Vec::new(),
            trouble: None,
            seen: now,
            transfers: VecDeque::new(),
            sent: 0,
            read: 0,
            written: 0,
            told: None,
        }
    }

    /// A new boot begins.
    pub fn begin(&mut self, client: Client, now: Instant) {
        let told = self.told.take();
        *self = Self { by_firmware: client.is_firmware(), told, ..Self::new(now) };
    }

    /// When the present boot began, or was taken up.
    #[must_use]
    pub const fn began(&self) -> Instant {
        self.began
    }

    /// Takes up a boot that began before the server was started.
    pub fn resume(&mut self, stage: Stage, now: Instant) {
        self.advance(stage, now);
    }

    /// Takes note of a trouble that no protocol has reported.
    pub fn warn(&mut self, trouble: Trouble, text: String) {
        self.trouble = Some((trouble, text));
    }

    /// Ends the trouble that two machines have one Ethernet address.
    pub fn is_one_machine(&mut self) {
        self.trouble.take_if(|(kind, _)| *kind == Trouble::TwoMachines);
    }

    /// The machine goes on: its trouble is over, but for these kinds.
    fn mend(&mut self, but: &[Trouble]) {
        self.trouble.take_if(|(kind, _)| !but.contains(kind));
    }

    /// The machine boots nothing from us, for this reason.
    pub fn refuse(&mut self, reason: &str, now: Instant) {
        self.seen = now;
        self.trouble = Some((Trouble::Refused, reason.to_owned()));
    }

    /// The machine is not answered just now, for this reason; says whether that is news.
    pub fn postpone(&mut self, reason: &str, now: Instant) -> bool {
        let known = self.trouble.as_ref().is_some_and(|(_, known)| known == reason);
        self.refuse(reason, now);
        !known
    }

    /// Whether firmware, or a loader that it started, was heard of lately and has not handed over to
    /// a kernel yet.
    #[must_use]
    pub fn is_loading(&self, now: Instant) -> bool {
        let loading = (Stage::Discover..=Stage::Script).contains(&self.stage);
        self.by_firmware && loading && now.duration_since(self.seen) < LOADING
    }

    /// Takes note of an event; returns its description if it is worth telling.
    pub fn see(&mut self, event: &Event, now: Instant) -> Option<String> {
        self.seen = now;
        match event {
            Event::Discover(_) => self.advance(Stage::Discover, now),
            Event::Offered(_) => self.advance(Stage::Offered, now),
            Event::Leased(_) | Event::Elsewhere(_) => {
                self.mend(&[Trouble::Refused, Trouble::TwoMachines]);
                self.advance(Stage::Leased, now);
            }
            Event::Advised(_) | Event::Released(_) | Event::Probed(_) | Event::Unmounted(_) => {}
            Event::Refused(_) | Event::Declined(_) | Event::Failed { .. } | Event::Unserved(_) => {
                self.trouble = Some((Trouble::Failed, describe(event)));
            }
            Event::ForeignServer(_) => {
                self.trouble = Some((Trouble::ForeignServer, describe(event)));
            }
            Event::Sent { ticket, name, bytes, total, .. } => {
                self.transfer(name, *bytes, *total);
                self.mend(&[Trouble::TwoMachines]);
                match ticket.role {
                    Role::Loader => self.advance(Stage::Loader, now),
                    Role::Script => self.advance(Stage::Script, now),
                    Role::Kernel => self.advance(Stage::Kernel, now),
                    Role::Initrd => self.advance(Stage::Initrd, now),
                    Role::Other => {}
                }
                if bytes < total {
                    return None;
                }
            }
            Event::Mounted { .. } => {
                self.mend(&[Trouble::TwoMachines]);
                self.advance(Stage::Root, now);
            }
            Event::Nfs { read, written, .. } => {
                let first = self.stage < Stage::Root;
                self.read = self.read.saturating_add(*read);
                self.written = self.written.saturating_add(*written);
                self.mend(&[Trouble::TwoMachines]);
                self.advance(Stage::Root, now);
                // A system that starts writes its logs before long, and one with a read-only root
                // goes on reading: both are more than a loader that fetches a kernel.
                if self.written > 0 || self.since(Stage::Root, now) >= SETTLED {
                    self.advance(Stage::Running, now);
                }
                if !first {
                    return None;
                }
            }
        }
        let text = describe(event);
        self.is_news(&text, now).then_some(text)
    }

    /// The state of the boot at `now`; the machine used its root last at `used`.
    #[must_use]
    pub fn status(&self, used: Option<Instant>, now: Instant) -> BootStatus {
        let silent = used.map_or(Duration::ZERO, |used| now.saturating_duration_since(used));
        let stage = if self.stage < Stage::Root || silent < IDLE {
            self.stage
        } else if silent < LOST {
            Stage::Idle
        } else {
            Stage::Lost
        };
        let arrived = self.reached.iter().find(|(stage, _)| *stage == Stage::Running);
        let end = arrived.map_or(now, |(_, at)| *at);
        let ends = self.reached.iter().skip(1).map(|(_, at)| *at).chain([now]);
        let stages = self.reached.iter().zip(ends);
        let moving = |transfer: &&Transfer| transfer.bytes < transfer.total;
        let progress = self.transfers.back().filter(moving);
        BootStatus {
            stage,
            trouble: self.trouble.clone(),
            hint: self.hint(now),
            took: end.duration_since(self.began),
            stages: stages.map(|((stage, at), end)| (*stage, end.duration_since(*at))).collect(),
            progress: progress.map(|transfer| (transfer.bytes, transfer.total)),
            sent: self.sent,
            read: self.read,
            written: self.written,
            seen: now.duration_since(self.seen),
        }
    }

    /// The furthest stage that it has reached.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// When the machine was last heard of.
    #[must_use]
    pub const fn seen(&self) -> Instant {
        self.seen
    }

    fn advance(&mut self, stage: Stage, now: Instant) {
        // A later program of the same boot asks for an address again: that is no step back.
        if stage > self.stage {
            self.stage = stage;
            self.reached.push((stage, now));
        }
    }

    fn since(&self, stage: Stage, now: Instant) -> Duration {
        let reached = self.reached.iter().find(|(reached, _)| *reached == stage);
        reached.map_or(Duration::ZERO, |(_, at)| now.duration_since(*at))
    }

    fn transfer(&mut self, name: &str, bytes: u64, total: u64) {
        let known = self.transfers.iter().position(|transfer| transfer.name == name);
        let before = known.and_then(|at| self.transfers.remove(at)).map_or(0, |known| known.bytes);
        // Fewer bytes than before: it is sent once more.
        let more = bytes.checked_sub(before).unwrap_or(bytes);
        self.sent = self.sent.saturating_add(more);
        self.transfers.push_back(Transfer { name: name.to_owned(), bytes, total });
        if self.transfers.len() > MAX_TRANSFERS {
            self.transfers.pop_front();
        }
    }

    /// Says whether something is worth an event. What comes again at once is not, so that a peer does not
    /// fill the operator's disk with it.
    fn is_news(&mut self, text: &str, now: Instant) -> bool {
        match &mut self.told {
            Some((last, at)) if last == text => {
                now.duration_since(std::mem::replace(at, now)) >= AT_ONCE
            }
            told => {
                *told = Some((text.to_owned(), now));
                true
            }
        }
    }

    fn hint(&self, now: Instant) -> Option<String> {
        let silent = now.duration_since(self.seen);
        if !self.by_firmware || silent < SILENT || self.trouble.is_some() {
            return None;
        }
        let seconds = silent.as_secs();
        let hint = match self.stage {
            Stage::Offered => format!(
                "offered an address, then nothing for {seconds} s: our answer does not reach it, or \
                 it heard another DHCP server"
            ),
            Stage::Leased => format!(
                "leased, then nothing for {seconds} s: is UDP port 69 or TCP port 80 blocked by a \
                 firewall, or the switch port by spanning tree?"
            ),
            Stage::Loader => format!(
                "fetched its loader, then nothing for {seconds} s: does Secure Boot refuse it?"
            ),
            Stage::Script | Stage::Kernel | Stage::Initrd => format!(
                "loaded its {}, then nothing for {seconds} s: see its screen",
                self.stage.as_str()
            ),
            Stage::Off
            | Stage::Discover
            | Stage::Root
            | Stage::Running
            | Stage::Idle
            | Stage::Lost => return None,
        };
        Some(hint)
    }
}

/// An event in words.
#[must_use]
pub fn describe(event: &Event) -> String {
    match event {
        Event::Discover(client) => format!("{client} asks for an address"),
        Event::Offered(address) => format!("offered {address}"),
        Event::Leased(address) => format!("took {address}"),
        Event::Elsewhere(address) => format!("took {address} from another DHCP server"),
        Event::Advised(advice) => advice.clone(),
        Event::Released(address) => format!("gave {address} back"),
        Event::Refused(address) => format!("was refused {address}"),
        Event::Declined(address) => {
            format!("found {address} in use by somebody else: look for a second machine with it")
        }
        Event::ForeignServer(server) => format!("chose another DHCP server, {server}"),
        Event::Probed(_) => "asked for a file's size".to_owned(),
        Event::Sent { name, total, .. } => {
            format!("got {} ({})", shown(name), Bytes(*total))
        }
        Event::Failed { name, reason } => format!("{}: {}", shown(name), shown(reason)),
        Event::Mounted { path, .. } => format!("mounted {}", shown(path)),
        Event::Unmounted(path) => format!("unmounted {}", shown(path)),
        Event::Nfs { .. } => "uses its root".to_owned(),
        Event::Unserved(reason) => format!("got no address: {}", shown(reason)),
    }
}

/// Text from the network, fit for a terminal and short.
fn shown(text: &str) -> String {
    let safe = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(120).map(safe).collect()
}

/// A number of bytes, for people: three digits and a unit.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut tenths = u128::from(self.0) * 10 / 1024;
        let mut unit = 0;
        while tenths >= 10240 && unit + 1 < units.len() {
            tenths /= 1024;
            unit += 1;
        }
        let name = units.get(unit).copied().unwrap_or("EiB");
        if tenths < 1000 {
            write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
        } else {
            write!(f, "{} {name}", tenths / 10)
        }
    }
}

/// A root that was not used for so long is idle.
const IDLE: Duration = Duration::from_secs(60);

/// A root that was not used for so long has probably lost its machine.
const LOST: Duration = Duration::from_secs(600);

/// A machine that has used its root for so long runs.
const SETTLED: Duration = Duration::from_secs(20);

/// A machine that was silent for so long in the middle of its boot gets a hint.
///
/// iPXE waits for an IPv6 router for 15 seconds after it has its IPv4 address.
const SILENT: Duration = Duration::from_secs(40);

/// The same again within this time is no news.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Files of which the progress is kept.
const MAX_TRANSFERS: usize = 8;

/// Firmware and loaders that say nothing for so long have ended, or have been switched off.
const LOADING: Duration = Duration::from_secs(60);

#[cfg(test)]
mod test;
