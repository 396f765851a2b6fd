//! What happens at the site, as one stream of typed events.
//!
//! Boots and publications emit; `netbe watch`, the log and [`journal`] subscribe. An emitter never
//! waits for a subscriber: who lags behind misses events, and is told how many.

pub mod journal;
mod quota;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::clock::Clock;
use quota::{Quota, Verdict};

/// One thing that happened.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Event {
    /// When; in seconds since 1970 where it is written down.
    #[serde(with = "seconds")]
    pub at: SystemTime,
    /// What kind of thing it is.
    pub kind: Kind,
    /// The machine's name, or its Ethernet address when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Whether that is its name: the machine is a named one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub named: bool,
    /// How far the machine had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// The boot that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootId>,
    /// The name of the boot environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// What happened, in words.
    pub text: String,
}

impl Event {
    /// An event about nobody yet. [`Events::emit`] says when it happened.
    #[must_use]
    pub const fn new(kind: Kind, text: String) -> Self {
        let at = SystemTime::UNIX_EPOCH;
        let (machine, named) = (None, false);
        Self { at, kind, machine, named, stage: None, boot: None, environment: None, text }
    }

    /// Whether it is about a machine or a boot environment of this name.
    #[must_use]
    pub fn is_about(&self, name: &str) -> bool {
        [&self.machine, &self.environment].into_iter().any(|known| known.as_deref() == Some(name))
    }

    /// What it is about: the machine, else the boot environment, else nothing.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.machine.as_deref().or(self.environment.as_deref()).unwrap_or("-")
    }
}

// serde calls it with a reference.
#[expect(clippy::trivially_copy_pass_by_ref)]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// What kinds of things happen. Programs tell them apart by these words, which stay.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A machine found its address in use by somebody else (DHCPDECLINE).
    AddressDeclined,
    /// A machine took an address.
    AddressLeased,
    /// A machine was offered an address.
    AddressOffered,
    /// A machine was refused the address that it asked for (DHCPNAK).
    AddressRefused,
    /// A machine gave its address back (DHCPRELEASE).
    AddressReleased,
    /// A machine asked for an address (DHCPDISCOVER).
    AddressRequested,
    /// A machine asked for an address and there was none for it.
    AddressUnavailable,
    /// A boot began, and what it boots was decided.
    BootBegan,
    /// A boot is over: its system is dead, or has been taken the place of.
    BootEnded,
    /// A machine boots nothing from here, for a reason.
    BootRefused,
    /// A message contradicts what a machine that runs does: it was ignored.
    Contradiction,
    /// Somebody destroyed a boot environment or took it out of use.
    EnvironmentGone,
    /// A command works on a boot environment: whoever uses it waits.
    EnvironmentHeld,
    /// A command has ended its work on a boot environment.
    EnvironmentResumed,
    /// A boot environment is not served, or not as it should be, for a reason.
    EnvironmentUnserved,
    /// Everything is served again.
    EnvironmentsServed,
    /// A boot file was not delivered to its end.
    FileFailed,
    /// A machine asked for the size of a boot file.
    FileProbed,
    /// A boot file was delivered.
    FileSent,
    /// A machine took the offer of another DHCP server.
    ForeignServer,
    /// A machine's kernel said that it stops.
    KernelPanicked,
    /// A machine needs something that only the administrator can do.
    Notice,
    /// A machine's root could not be made.
    RootFailed,
    /// A root was mounted.
    RootMounted,
    /// A mount, or a call for a file of a root, was refused.
    RootRefused,
    /// A machine's root was made.
    RootReady,
    /// A root was unmounted.
    RootUnmounted,
    /// A machine began to use its root.
    RootUsed,
    /// Two machines have one Ethernet address, or somebody forges it.
    TwoMachines,
}

impl Kind {
    /// Whether the administrator may have something to mend.
    #[must_use]
    pub const fn is_warning(self) -> bool {
        matches!(
            self,
            Self::AddressDeclined
                | Self::AddressUnavailable
                | Self::BootRefused
                | Self::Contradiction
                | Self::EnvironmentUnserved
                | Self::FileFailed
                | Self::KernelPanicked
                | Self::Notice
                | Self::RootFailed
                | Self::RootRefused
                | Self::TwoMachines
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The words that serde writes, so that they stand in one place.
        self.serialize(f)
    }
}

/// How far a machine has come.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Nothing was heard of it.
    #[default]
    Off,
    /// It asks for an address.
    Discover,
    /// It was offered one.
    Offered,
    /// It has one.
    Leased,
    /// It loads its first program.
    Loader,
    /// It fetched its script.
    Script,
    /// It loads its kernel.
    Kernel,
    /// It loads its initial RAM disk.
    Initrd,
    /// It mounted its root.
    Root,
    /// It works on its root.
    Running,
    /// It has not used its root for a minute.
    Idle,
    /// It has not used its root for ten minutes.
    Lost,
    /// It was in a boot when the server ended, and was not heard of since it was started again.
    Unheard,
}

impl Stage {
    /// The stage in one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Discover => "discover",
            Self::Offered => "offered",
            Self::Leased => "leased",
            Self::Loader => "loader",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Root => "root",
            Self::Running => "running",
            Self::Idle => "idle",
            Self::Lost => "lost",
            Self::Unheard => "unheard",
        }
    }
}

/// Which boot something belongs to; stands in URLs and ties requests together.
#[derive(Clone, Copy, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootId(pub u64);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BootId {
    type Err = BootIdError;

    fn from_str(text: &str) -> Result<Self, BootIdError> {
        let whole = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let id = u64::from_str_radix(text, 16).ok().filter(|_| whole);
        id.map(Self).ok_or(BootIdError)
    }
}

impl TryFrom<String> for BootId {
    type Error = BootIdError;

    fn try_from(text: String) -> Result<Self, BootIdError> {
        text.parse()
    }
}

impl From<BootId> for String {
    fn from(id: BootId) -> Self {
        id.to_string()
    }
}

/// Why text is not a boot's id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a boot id: sixteen hexadecimal digits")]
pub struct BootIdError;

/// The stream. Everybody who emits or subscribes has the same one.
pub struct Events {
    clock: Arc<dyn Clock>,
    sender: broadcast::Sender<Arc<Event>>,
    /// What the log has of named machines and environments in this minute.
    known: Mutex<Quotas>,
    /// What it has of machines that are not named, of which anybody can invent any number.
    strangers: Mutex<Quotas>,
}

/// What the log has of some machines in this minute: a flood of news leaves room for warnings.
#[derive(Debug, Default)]
struct Quotas {
    news: Quota,
    warnings: Quota,
}

impl Events {
    /// A stream that nobody follows yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let sender = broadcast::channel(BACKLOG).0;
        Self { clock, sender, known: Mutex::default(), strangers: Mutex::default() }
    }

    /// Tells everybody who follows, and the log, that something happened now. Waits for nobody, but
    /// must not be called with a lock held that a packet needs: the log is written here. Of one machine
    /// it has so many lines in a minute, and so many warnings.
    pub fn emit(&self, event: Event) {
        let event = Event { at: self.clock.wall(), ..event };
        if event.kind == Kind::EnvironmentUnserved {
            tracing::error!("not served: {}", event.text);
        } else {
            self.log(&event);
        }
        // Nobody may be following.
        let _ = self.sender.send(Arc::new(event));
    }

    fn log(&self, event: &Event) {
        let since = event.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (subject, text) = (event.subject(), &event.text);
        match self.verdict(event, since.as_secs() / 60) {
            Verdict::Said if event.kind.is_warning() => tracing::warn!("{subject}: {text}"),
            Verdict::Said => tracing::info!("{subject}: {text}"),
            Verdict::Last => tracing::warn!(
                "{subject}: more than {} messages in this minute; the rest is left out",
                quota::LINES
            ),
            Verdict::Crowd => tracing::warn!(
                "messages about more than {} machines in this minute; the rest is left out",
                quota::SUBJECTS
            ),
            Verdict::Silent => {}
        }
    }

    /// What becomes of an event in the log.
    fn verdict(&self, event: &Event, minute: u64) -> Verdict {
        let is_stranger = event.machine.is_some() && !event.named;
        let quotas = if is_stranger { &self.strangers } else { &self.known };
        let mut quotas = quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let Quotas { news, warnings } = &mut *quotas;
        let quota = if event.kind.is_warning() { warnings } else { news };
        quota.take(event.subject(), minute)
    }

    /// What happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.sender.subscribe()
    }
}

/// A time of day as seconds since 1970.
pub(crate) mod seconds {
    use super::{Deserialize, Duration, SystemTime};

    pub(crate) fn serialize<S: serde::Serializer>(
        at: &SystemTime,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        to.serialize_f64(since.as_secs_f64())
    }

    pub(crate) fn deserialize<'d, D: serde::Deserializer<'d>>(
        from: D,
    ) -> Result<SystemTime, D::Error> {
        let seconds = f64::deserialize(from)?;
        let since = Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)?;
        SystemTime::UNIX_EPOCH
            .checked_add(since)
            .ok_or_else(|| serde::de::Error::custom("no time of day"))
    }
}

/// Events that a slow subscriber may lag behind.
const BACKLOG: usize = 1024;

#[cfg(test)]
mod test {
    use super::*;
    use crate::clock::FakeClock;

    fn event() -> Event {
        let machine = Some("web1".to_owned());
        let boot = Some(BootId(0xa));
        Event { machine, boot, ..Event::new(Kind::BootBegan, "boots base".to_owned()) }
    }

    #[test]
    fn whoever_follows_hears_what_happens_from_then_on() {
        let clock = Arc::new(FakeClock::new());
        let events = Events::new(clock.clone());
        events.emit(event());
        let mut follower = events.subscribe();
        clock.pass(Duration::from_millis(1500));
        events.emit(event());
        let heard = follower.try_recv().unwrap();
        assert_eq!(heard.at, SystemTime::UNIX_EPOCH + Duration::from_millis(1500));
        assert_eq!((heard.subject(), heard.kind), ("web1", Kind::BootBegan));
        assert!(follower.try_recv().is_err());
    }

    #[test]
    fn strangers_leave_room_in_the_log_for_machines_that_have_names() {
        let events = Events::new(Arc::new(FakeClock::new()));
        let refused = |machine: String, named| {
            let refused = Event::new(Kind::BootRefused, "unknown machine".to_owned());
            events.verdict(&Event { machine: Some(machine), named, ..refused }, 1)
        };
        for number in 0..quota::SUBJECTS {
            assert_eq!(refused(number.to_string(), false), Verdict::Said);
        }
        assert_eq!(refused("another".to_owned(), false), Verdict::Crowd);
        assert_eq!(refused("another".to_owned(), false), Verdict::Silent);
        assert_eq!(refused("web1".to_owned(), true), Verdict::Said);
        assert_eq!(events.verdict(&Event { named: true, ..event() }, 1), Verdict::Said);
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        let written = serde_json::to_string(&Event { at, ..event() }).unwrap();
        let line = r#"{"at":1.5,"kind":"boot-began","machine":"web1","boot":"000000000000000a","#;
        assert!(written.starts_with(line), "{written}");
        assert_eq!(serde_json::from_str::<Event>(&written).unwrap(), Event { at, ..event() });
        for time in ["-1.0", "1e300", "null"] {
            let garbage = written.replace("1.5", time);
            assert!(serde_json::from_str::<Event>(&garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn a_kind_is_shown_by_the_word_that_is_written() {
        assert_eq!(Kind::TwoMachines.to_string(), "two-machines");
        assert!(Kind::TwoMachines.is_warning() && !Kind::BootBegan.is_warning());
    }
}
