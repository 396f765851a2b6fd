//! How far a machine has come, as the protocols saw it: its stage, what it was sent, what went wrong.
//!
//! A timeline is a value: events and `now` go in, a [`BootStatus`] comes out. Nothing runs on the
//! machine that would tell us more, so a stage is what an observer on the network can know.

mod cause;
mod description;
mod evidence;
mod files;
mod verdict;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::usage::Traffic;
use super::{Client, Denial, Event, Role};
use crate::site::events::Kind;
pub use crate::site::events::Stage;
pub use cause::Cause;
use description::describe;
use evidence::Evidence;
pub use evidence::Observation;
use files::Files;
pub use provision::terminal::Bytes;
pub use verdict::{Context, Verdict};

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
    /// Whether a loader may use the root before a kernel does.
    by_loader: bool,
    stage: Stage,
    reached: Vec<(Stage, Instant)>,
    trouble: Option<(Trouble, Verdict)>,
    /// What began the boot.
    firmware: Option<Client>,
    context: Context,
    evidence: Evidence,
    /// When the boots before this one began, and how far each came.
    before: VecDeque<(Instant, Stage)>,
    seen: Instant,
    /// Whether it was heard of since the server was started.
    heard: bool,
    files: Files,
    read: u64,
    written: u64,
    /// Whether a kernel has used its root.
    by_kernel: bool,
    /// How often its loader asked for the last piece of a file again.
    repeats: u32,
    /// Files that it may not have, or that have a flaw, which were told.
    denials: u32,
    /// What was told last, and when it was seen last.
    told: Option<(String, Instant)>,
}

/// What is worth telling of what was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct News {
    /// What kind of thing it is.
    pub kind: Kind,
    /// What happened, in words.
    pub text: String,
}

/// The state of a machine's boot at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BootStatus {
    /// Its stage.
    pub stage: Stage,
    /// What keeps it from going on.
    pub trouble: Option<Trouble>,
    /// Why, or what may be wrong if the machine has been silent for too long at its stage.
    pub verdict: Option<Verdict>,
    /// How long the boot has taken so far; up to its running, when it runs.
    pub took: Duration,
    /// How long each stage that it passed took, in order; the last one lasts.
    pub stages: Vec<(Stage, Duration)>,
    /// The file that is on its way: bytes of total.
    pub progress: Option<(u64, u64)>,
    /// Bytes that it was sent: boot files, and what it read from its root.
    pub sent: u64,
    /// Bytes of those that it read from its root.
    pub read: u64,
    /// Bytes that it wrote to its root.
    pub written: u64,
    /// How long ago it was last heard of; `None` if it was not since the server was started.
    pub seen: Option<Duration>,
}

impl Timeline {
    /// The timeline of a machine of which nothing was seen yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            by_firmware: false,
            by_loader: false,
            stage: Stage::Off,
            reached: Vec::new(),
            trouble: None,
            firmware: None,
            context: Context::default(),
            evidence: Evidence::default(),
            before: VecDeque::new(),
            seen: now,
            heard: true,
            files: Files::default(),
            read: 0,
            written: 0,
            by_kernel: false,
            repeats: 0,
            denials: 0,
            told: None,
        }
    }

    /// A new boot begins.
    pub fn begin(&mut self, client: Client, now: Instant) {
        let told = self.told.take();
        let mut before = std::mem::take(&mut self.before);
        if self.firmware.is_some() {
            before.push_back((self.began, self.stage));
        }
        if before.len() > MAX_BEFORE {
            before.pop_front();
        }
        let by_firmware = client.is_firmware();
        let by_loader = by_firmware || client == Client::FreeBsdLoader;
        let firmware = Some(client);
        *self = Self { by_firmware, by_loader, told, before, firmware, ..Self::new(now) };
    }

    /// What is to be named when it is told why the boot does not go on.
    pub fn concerns(&mut self, context: Context) {
        self.context = context;
    }

    /// What was seen of the boot, the first first.
    pub fn observations(&self) -> impl Iterator<Item = &Observation> {
        self.evidence.observations()
    }

    /// When the present boot began, or was taken up.
    #[must_use]
    pub const fn began(&self) -> Instant {
        self.began
    }

    /// Takes up a boot that began before the server was started.
    pub fn resume(&mut self, stage: Stage, now: Instant) {
        self.advance(stage, now);
        self.heard = false;
    }

    /// Takes note of a trouble that no protocol has reported.
    pub fn warn(&mut self, trouble: Trouble, text: String) {
        self.trouble = Some((trouble, Verdict::told(trouble, text)));
    }

    /// Ends the trouble that two machines have one Ethernet address.
    pub fn is_one_machine(&mut self) {
        self.trouble.take_if(|(kind, _)| *kind == Trouble::TwoMachines);
    }

    /// Counts what a machine can have told of itself without end; says whether that is more than is told in one boot.
    fn is_denied_too_often(&mut self) -> bool {
        self.denials = self.denials.saturating_add(1);
        self.denials > MAX_DENIALS
    }

    /// The machine goes on: its trouble is over, but for these kinds.
    fn mend(&mut self, but: &[Trouble]) {
        self.trouble.take_if(|(kind, _)| !but.contains(kind));
    }

    /// The machine boots nothing from us, for this reason.
    pub fn refuse(&mut self, reason: &str, now: Instant) {
        self.hear(now);
        self.warn(Trouble::Refused, reason.to_owned());
    }

    /// The machine is not answered just now, for this reason; says whether that is news.
    pub fn postpone(&mut self, reason: &str, now: Instant) -> bool {
        let known = self.trouble.as_ref().is_some_and(|(_, known)| known.text == reason);
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

    /// Takes note of an event; returns what is worth telling.
    pub fn see(&mut self, event: &Event, now: Instant) -> Vec<News> {
        if let Event::Abandoned { since, .. } = event {
            // It went on, so it had no use for the file.
            if self.seen > *since {
                return Vec::new();
            }
            // That nothing comes is no sign of life.
        } else {
            self.hear(now);
        }
        self.evidence.see(event, now);
        match event {
            // What its loader has started asks for itself.
            Event::Discover(Client::FreeBsdKernel) if self.stage >= Stage::Loader => {
                self.advance(Stage::Kernel, now);
            }
            Event::Discover(_) => self.advance(Stage::Discover, now),
            Event::Offered(_) => self.advance(Stage::Offered, now),
            Event::Leased(_) | Event::Elsewhere(_) => {
                self.mend(&[Trouble::Refused, Trouble::TwoMachines]);
                self.advance(Stage::Leased, now);
            }
            Event::Advised(_) | Event::Released(_) | Event::Unmounted(_) => {}
            Event::Probed(ticket) => {
                // FreeBSD's loader opens many files and reads none of some.
                if ticket.role == Role::Other {
                    return Vec::new();
                }
            }
            // What a size is asked for, and files that need not be there, are told when it stops there.
            Event::TermsRefused { .. } => return Vec::new(),
            Event::Denied { denial: Denial::Missing, .. } if self.stage >= Stage::Loader => {
                return Vec::new();
            }
            Event::Denied { .. } | Event::Flawed { .. } => {
                if self.is_denied_too_often() {
                    return Vec::new();
                }
            }
            // Any program of the machine can say so, as often as it likes.
            Event::Panicked(_) => {
                if self.is_denied_too_often() {
                    return Vec::new();
                }
                self.trouble = Some((Trouble::Failed, Verdict::of_event(event)));
            }
            Event::Abandoned { .. }
            | Event::Refused(_)
            | Event::Declined(_)
            | Event::Failed { .. }
            | Event::NotAdmitted(_)
            | Event::NotMounted { .. }
            | Event::Unserved(_) => {
                self.trouble = Some((Trouble::Failed, Verdict::of_event(event)));
            }
            Event::ForeignServer(_) => {
                self.trouble = Some((Trouble::ForeignServer, Verdict::of_event(event)));
            }
            Event::Sent { ticket, name, bytes, total, .. } => {
                self.files.transfer(name, *bytes, *total);
                // What is of no boot tells a refused machine why.
                let of_boot = ticket.boot.is_some();
                let but: &[Trouble] = if of_boot {
                    &[Trouble::TwoMachines]
                } else {
                    &[Trouble::Refused, Trouble::TwoMachines]
                };
                self.mend(but);
                match ticket.role {
                    Role::Loader => self.advance(Stage::Loader, now),
                    Role::Script => self.advance(Stage::Script, now),
                    Role::Kernel => self.advance(Stage::Kernel, now),
                    Role::Initrd => self.advance(Stage::Initrd, now),
                    Role::Other => {}
                }
                if bytes < total {
                    return Vec::new();
                }
                if ticket.role == Role::Other {
                    self.files.gather(name, *total, now);
                    return Vec::new();
                }
            }
            Event::Mounted { .. } => {
                self.mend(&[Trouble::TwoMachines]);
                self.use_root(now);
            }
            Event::Nfs { traffic, .. } => return self.see_traffic(event, *traffic, now),
        }
        self.tell(event, now)
    }

    /// What was gathered and not told, because nothing else has happened for a while.
    pub fn due(&mut self, now: Instant) -> Option<News> {
        self.files.quiet(now).map(|text| News { kind: Kind::FileSent, text })
    }

    fn see_traffic(&mut self, event: &Event, traffic: Traffic, now: Instant) -> Vec<News> {
        let before = self.stage;
        self.read = self.read.saturating_add(traffic.read);
        self.written = self.written.saturating_add(traffic.written);
        self.by_kernel |= traffic.by_kernel;
        self.mend(&[Trouble::TwoMachines]);
        self.use_root(now);
        // A system that starts writes its logs before long, and one with a read-only root goes on
        // asking what only kernels ask: both are more than a loader that reads.
        let settled = self.by_kernel && self.since(Stage::Root, now) >= SETTLED;
        if self.written > 0 || settled {
            self.advance(Stage::Running, now);
        }
        let stuck = self.is_stuck();
        self.repeats = if self.by_kernel { 0 } else { traffic.repeats };
        if !stuck
            && self.is_stuck()
            && let Some(Verdict { text, .. }) = verdict::judge(self, now)
        {
            return vec![News { kind: Kind::Notice, text }];
        }
        let first = before < Stage::Root && self.stage >= Stage::Root;
        if first { self.tell(event, now) } else { Vec::new() }
    }

    /// The root is used: by a kernel, unless a loader may run, which mounts it and reads from it too.
    fn use_root(&mut self, now: Instant) {
        let loads = self.by_loader && !self.by_kernel && self.stage < Stage::Kernel;
        self.advance(if loads { Stage::Loader } else { Stage::Root }, now);
    }

    fn hear(&mut self, now: Instant) {
        self.seen = now;
        self.heard = true;
    }

    /// An event in words, after what was gathered before it.
    fn tell(&mut self, event: &Event, now: Instant) -> Vec<News> {
        let (kind, text) = (event.kind(), describe(event));
        if !self.is_news(&text, now) {
            return Vec::new();
        }
        let gathered = self.files.gathered().map(|text| News { kind: Kind::FileSent, text });
        gathered.into_iter().chain([News { kind, text }]).collect()
    }

    /// The state of the boot at `now`; the machine used its root last at `used`.
    #[must_use]
    pub fn status(&self, used: Option<Instant>, now: Instant) -> BootStatus {
        let silent = used.map_or(Duration::ZERO, |used| now.saturating_duration_since(used));
        let stage = if !self.heard && now.duration_since(self.seen) < LOST {
            Stage::Unheard
        } else if !self.heard {
            Stage::Lost
        } else if self.stage < Stage::Root || silent < IDLE {
            self.stage
        } else if silent < LOST {
            Stage::Idle
        } else {
            Stage::Lost
        };
        let arrived = self.reached.iter().find(|(stage, _)| *stage == Stage::Running);
        let end = arrived.map_or(now, |(_, at)| *at);
        let ends = self.reached.iter().skip(1).map(|(_, at)| *at).chain([now]);
        let stages = self.reached.iter().zip(ends).filter(|_| self.heard);
        BootStatus {
            stage,
            trouble: self.trouble.as_ref().map(|(trouble, _)| *trouble),
            verdict: verdict::judge(self, now),
            took: if self.heard { end.duration_since(self.began) } else { Duration::ZERO },
            stages: stages.map(|((stage, at), end)| (*stage, end.duration_since(*at))).collect(),
            progress: self.files.progress(),
            sent: self.files.sent().saturating_add(self.read),
            read: self.read,
            written: self.written,
            seen: self.heard.then(|| now.duration_since(self.seen)),
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

    const fn is_stuck(&self) -> bool {
        self.repeats >= STUCK
    }
}

/// A root that was not used for so long is idle.
const IDLE: Duration = Duration::from_secs(60);

/// A root that was not used for so long has probably lost its machine.
pub(super) const LOST: Duration = Duration::from_secs(600);

/// A machine that has used its root for so long runs.
const SETTLED: Duration = Duration::from_secs(20);

/// A machine that was silent for so long in the middle of its boot gets a hint.
///
/// iPXE waits for an IPv6 router for 15 seconds after it has its IPv4 address.
const SILENT: Duration = Duration::from_secs(40);

/// The same again within this time is no news.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A loader that asks for a piece again so often in a row does not get it. The first ones wait for
/// seconds in between, and a frame that is lost now and then is asked for once or twice more.
const STUCK: u32 = 4;

/// Boots before the present one that are remembered.
const MAX_BEFORE: usize = 8;

/// Files that a machine may not have or that have a flaw, and panics of its kernel, which are told in one boot.
const MAX_DENIALS: u32 = 8;

/// Firmware and loaders that say nothing for so long have ended, or have been switched off.
const LOADING: Duration = Duration::from_secs(60);

#[cfg(test)]
mod test;
