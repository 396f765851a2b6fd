//! What hooks, webhooks and receivers of them are told: one event about one machine.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One thing that happened to a machine, or is about to.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Event {
    /// What tells it from every other: sixteen hexadecimal digits.
    pub id: String,
    /// What kind of thing it is.
    pub event: Occasion,
    /// When, in seconds since 1970.
    pub at: f64,
    /// The machine's name, or its Ethernet address if it has none.
    pub machine: String,
    /// Whether the machine is a named one.
    pub named: bool,
    /// Its Ethernet address, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Its IP address, without a prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The boot environment that it boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The boot that it is part of, as `netbe log -j` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// What happened, in words.
    pub text: String,
}

impl Event {
    /// An event of a named machine, now, with an id of its own.
    #[must_use]
    pub fn new(event: Occasion, machine: impl Into<String>) -> Self {
        // Without random bytes there is no server, and no command that would seal anything.
        let id = format!("{:016x}", getrandom::u64().unwrap_or_default());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let at = now.unwrap_or_default().as_secs_f64();
        let (machine, text) = (machine.into(), event.describe().to_owned());
        let (mac, address, environment, boot) = (None, None, None, None);
        Self { id, event, at, machine, named: true, mac, address, environment, boot, text }
    }

    /// The variables that a hook has. A value that is not known is empty. No value has a character that a
    /// terminal or a shell's `read` obeys: what came from the network stands in some of them.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let plain = |text: &str| -> String {
            text.chars().map(|c| if c.is_control() { '?' } else { c }).take(LONGEST).collect()
        };
        let given = |text: &Option<String>| text.as_deref().map(plain).unwrap_or_default();
        vec![
            ("NETBE_EVENT", self.event.to_string()),
            ("NETBE_ID", plain(&self.id)),
            ("NETBE_TIME", format!("{:.3}", self.at)),
            ("NETBE_MACHINE", plain(&self.machine)),
            ("NETBE_NAMED", if self.named { "1" } else { "0" }.to_owned()),
            ("NETBE_MAC", given(&self.mac)),
            ("NETBE_ADDRESS", self.address.map(|address| address.to_string()).unwrap_or_default()),
            ("NETBE_ENVIRONMENT", given(&self.environment)),
            ("NETBE_BOOT", given(&self.boot)),
            ("NETBE_TEXT", plain(&self.text)),
        ]
    }

    /// The event as JSON, in a line.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// At what there are hooks. Programs tell them apart by these words, which stay.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    /// A machine took an address, or renewed it.
    Leased,
    /// A machine mounted a root.
    Mounted,
    /// The system of a machine works on its root.
    Up,
    /// A machine that was up has not used its root for ten minutes, or its boot is over.
    Lost,
    /// The server refused a machine its boot, its address or its root.
    Refused,
    /// A guest is about to be started by netbe.
    Prestart,
    /// A guest was started by netbe.
    Poststart,
    /// A guest is about to be stopped by netbe.
    Prestop,
    /// A guest that netbe started has ended.
    Poststop,
}

impl Occasion {
    /// All of them, in the order of a machine's life.
    pub const ALL: [Self; 9] = [
        Self::Prestart,
        Self::Poststart,
        Self::Leased,
        Self::Mounted,
        Self::Up,
        Self::Lost,
        Self::Refused,
        Self::Prestop,
        Self::Poststop,
    ];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leased => "leased",
            Self::Mounted => "mounted",
            Self::Up => "up",
            Self::Lost => "lost",
            Self::Refused => "refused",
            Self::Prestart => "prestart",
            Self::Poststart => "poststart",
            Self::Prestop => "prestop",
            Self::Poststop => "poststop",
        }
    }

    /// What it is, in words.
    const fn describe(self) -> &'static str {
        match self {
            Self::Leased => "took an address",
            Self::Mounted => "mounted its root",
            Self::Up => "runs",
            Self::Lost => "is lost",
            Self::Refused => "was refused",
            Self::Prestart => "is about to start",
            Self::Poststart => "was started",
            Self::Prestop => "is about to be stopped",
            Self::Poststop => "has ended",
        }
    }
}

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Occasion {
    type Err = OccasionError;

    fn from_str(text: &str) -> Result<Self, OccasionError> {
        let known = Self::ALL.into_iter().find(|one| one.as_str() == text);
        known.ok_or_else(|| OccasionError(text.to_owned()))
    }
}

/// Why a word is no event.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0:?} is not an event: write leased, mounted, up, lost, refused, prestart, poststart, prestop or \
     poststop"
)]
pub struct OccasionError(String);

/// Characters of a variable, at most.
const LONGEST: usize = 1024;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn no_variable_has_a_character_that_is_obeyed() {
        let mut event = Event::new(Occasion::Up, "web1");
        event.text = "a\nb\u{1b}[2J\0c".to_owned();
        event.address = Some(Ipv4Addr::new(10, 0, 0, 7));
        let variables = event.variables();
        let value = |name| variables.iter().find(|(known, _)| *known == name).unwrap().1.as_str();
        assert_eq!(value("NETBE_TEXT"), "a?b?[2J?c");
        assert_eq!((value("NETBE_EVENT"), value("NETBE_ADDRESS")), ("up", "10.0.0.7"));
        assert_eq!(value("NETBE_MAC"), "");
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        let event = Event { id: "a".to_owned(), at: 1.5, ..Event::new(Occasion::Lost, "web1") };
        let line = String::from_utf8(event.json()).unwrap();
        let expected = "{\"id\":\"a\",\"event\":\"lost\",\"at\":1.5,\"machine\":\"web1\",\
                        \"named\":true,\"text\":\"is lost\"}\n";
        assert_eq!(line, expected);
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }

    #[test]
    fn the_word_of_an_event_is_read_as_it_is_written() {
        for occasion in Occasion::ALL {
            assert_eq!(occasion.as_str().parse(), Ok(occasion));
            assert_eq!(serde_json::to_string(&occasion).unwrap(), format!("\"{occasion}\""));
        }
        assert!("start".parse::<Occasion>().is_err());
    }
}
