//! What the server was told to do: by flags, and by a file when there is one.
//!
//! [`Raw`] is what was written, [`Config`] what the server acts on. The way from one to the other
//! looks at no interface, file or clock, so that every mistake is found before anything is started.

mod places;
mod subnet;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use store::{EnvironmentName, Location};

use crate::dhcp::{self, Parameters, Range, Subnet};
use crate::net::interface::Network;
use crate::site::kenv;
use crate::site::machine::{Machine, MachineName};
pub(crate) use places::line_of;
pub use subnet::{RawSubnet, SubnetError};
pub(crate) use words::plain;

/// What was written, in netbe.toml or as flags.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Where the boot environments are.
    pub store: Option<String>,
    /// The state directory.
    pub state: Option<PathBuf>,
    /// The interfaces that DHCP is for.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// What to do on them.
    pub mode: Option<String>,
    /// Addresses to hand out.
    #[serde(default)]
    pub ranges: Vec<String>,
    /// The machines' router.
    pub router: Option<String>,
    /// The machines' name servers.
    #[serde(default)]
    pub dns: Vec<String>,
    /// The machines' domain name.
    pub domain: Option<String>,
    /// The MTU of the machines' network, in bytes.
    pub mtu: Option<u16>,
    /// How long a lease runs, in seconds.
    pub lease: Option<u64>,
    /// Networks with addresses to hand out, each by its prefix as in 10.1.0.0/24.
    #[serde(default)]
    pub subnets: BTreeMap<String, RawSubnet>,
    /// Where boot files are served by HTTP.
    pub http: Option<String>,
    /// What machines boot that have no environment of their own.
    pub default: Option<String>,
    /// What is run, and who is told, when something happens.
    pub hooks: Option<hooks::settings::Raw>,
    /// Which Consul has the machines.
    pub consul: Option<hooks::consul::Raw>,
    /// Machines, by name.
    #[serde(default)]
    pub machines: BTreeMap<String, Machine>,
}

impl Raw {
    /// Reads the text of a netbe.toml.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let raw = toml::from_str(text).map_err(|error| {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            let reason = plain(error.message());
            ConfigError::Syntax {
                line,
                reason: reason.unwrap_or_else(|| error.message().to_owned()),
            }
        })?;
        places::refuse_twice(text)?;
        Ok(raw)
    }

    /// Puts what is said here before what `file` says: flags beat the file.
    #[must_use]
    pub fn or(self, file: Self) -> Self {
        let list = |own: Vec<String>, other| if own.is_empty() { other } else { own };
        Self {
            store: self.store.or(file.store),
            state: self.state.or(file.state),
            interfaces: list(self.interfaces, file.interfaces),
            mode: self.mode.or(file.mode),
            ranges: list(self.ranges, file.ranges),
            router: self.router.or(file.router),
            dns: list(self.dns, file.dns),
            domain: self.domain.or(file.domain),
            mtu: self.mtu.or(file.mtu),
            lease: self.lease.or(file.lease),
            subnets: file.subnets.into_iter().chain(self.subnets).collect(),
            http: self.http.or(file.http),
            default: self.default.or(file.default),
            hooks: self.hooks.or(file.hooks),
            consul: self.consul.or(file.consul),
            machines: if self.machines.is_empty() { file.machines } else { self.machines },
        }
    }
}

/// What the server acts on.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the boot environments are.
    pub store: Location,
    /// The state directory.
    pub state: PathBuf,
    /// The interfaces that DHCP is for; all with an IPv4 address when none is named.
    pub interfaces: Vec<String>,
    /// What to do on them.
    pub mode: Mode,
    /// Addresses to hand out, beside those of the subnets.
    pub ranges: Vec<Range>,
    /// Networks of which something of their own was written, by ascending prefix. What was not holds
    /// here as for all others.
    pub subnets: Vec<Subnet>,
    /// The machines' router.
    pub router: Option<Ipv4Addr>,
    /// The machines' name servers.
    pub dns: Vec<Ipv4Addr>,
    /// The machines' domain name.
    pub domain: Option<String>,
    /// The MTU of the machines' network, in bytes.
    pub mtu: Option<u16>,
    /// How long a lease runs.
    pub lease: Duration,
    /// Where boot files are served by HTTP.
    pub http: SocketAddr,
    /// What machines boot that have no environment of their own.
    pub default: Option<EnvironmentName>,
    /// What is run, and who is told, when something happens; `None` when nothing was written of it.
    pub hooks: Option<hooks::Settings>,
    /// Which Consul has the machines, if one does.
    pub consul: Option<hooks::consul::Settings>,
    /// Machines that commands must not change.
    pub machines: BTreeMap<MachineName, Machine>,
    /// The file that all of this was read from, if there is one, with its whole path.
    pub file: Option<PathBuf>,
}

impl Config {
    /// What DHCP hands out.
    #[must_use]
    pub fn dhcp(&self) -> dhcp::Settings {
        dhcp::Settings {
            subnets: self.subnets.clone(),
            ranges: self.ranges.clone(),
            parameters: self.parameters(),
            forwards: dhcp::forwards(),
        }
    }

    /// What clients are told in networks of which nothing of their own was written.
    fn parameters(&self) -> Parameters {
        Parameters {
            routers: self.router.into_iter().collect(),
            name_servers: self.dns.clone(),
            domain: self.domain.clone(),
            mtu: self.mtu,
            lease: self.lease,
            options: Vec::new(),
        }
    }

    /// What clients are told in a network.
    #[must_use]
    pub fn parameters_of(&self, network: Network) -> Parameters {
        let subnet = self.subnets.iter().find(|subnet| subnet.network.is_same(network));
        subnet.map_or_else(|| self.parameters(), |subnet| subnet.parameters.clone())
    }

    /// All ranges of addresses.
    pub fn all_ranges(&self) -> impl Iterator<Item = Range> {
        let named = self.subnets.iter().flat_map(|subnet| &subnet.ranges);
        named.chain(&self.ranges).copied()
    }

    /// The command that serves the same beside another DHCP server on an interface.
    #[must_use]
    pub fn beside(&self, interface: &str) -> String {
        let mut command = "netbe serve".to_owned();
        if self.state != Path::new(DEFAULT_STATE) {
            command += &format!(" --state {}", self.state.display());
        }
        if self.store != default_store(&self.state) {
            command += &format!(" --store {}", self.store);
        }
        if self.http != DEFAULT_HTTP {
            command += &format!(" --http {}", self.http);
        }
        if let Some(default) = &self.default {
            command += &format!(" --default {default}");
        }
        command + &format!(" --interface {interface} --mode proxy")
    }
}

/// What is done on an interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Listen, and hand out nothing.
    Passive,
    /// Tell machines what to boot, and leave their addresses to another DHCP server.
    Proxy,
    /// Hand out addresses, if no other DHCP server is heard.
    Serve,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passive => "passive",
            Self::Proxy => "proxy",
            Self::Serve => "serve",
        })
    }
}

impl FromStr for Mode {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "passive" => Ok(Self::Passive),
            "proxy" => Ok(Self::Proxy),
            "serve" => Ok(Self::Serve),
            _ => Err(ConfigError::Mode(text.to_owned())),
        }
    }
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let state = raw.state.unwrap_or_else(|| PathBuf::from(DEFAULT_STATE));
        if !state.is_absolute() {
            return Err(ConfigError::RelativeState(state));
        }
        let store = match raw.store {
            Some(text) => text.parse().map_err(ConfigError::Store)?,
            None => default_store(&state),
        };
        for name in &raw.interfaces {
            // IFNAMSIZ is 16 on Linux and FreeBSD, with the NUL.
            if name.is_empty() || name.len() > 15 || name.contains(['/', ' ']) {
                return Err(ConfigError::Interface(name.clone()));
            }
        }
        let mode = raw.mode.as_deref().unwrap_or("passive").parse()?;
        let ranges = raw.ranges.iter().map(|text| text.parse::<Range>());
        let ranges = ranges.collect::<Result<Vec<_>, _>>().map_err(ConfigError::Range)?;
        let machines = machines(raw.machines)?;
        if mode != Mode::Serve && !ranges.is_empty() {
            return Err(ConfigError::Ranges(mode));
        }
        if mode != Mode::Serve && !raw.subnets.is_empty() {
            return Err(ConfigError::Subnets(mode));
        }
        let router = raw.router.map(|text| address("router", &text)).transpose()?;
        let dns = raw.dns.iter().map(|text| address("dns", text)).collect::<Result<_, _>>()?;
        let domain = raw.domain.map(domain).transpose()?;
        let mtu = raw.mtu.map(mtu).transpose()?;
        let lease = lease(raw.lease.unwrap_or(DEFAULT_LEASE))?;
        let http = raw.http.as_deref().map_or(Ok(DEFAULT_HTTP), listen)?;
        let consul = raw.consul.map(hooks::consul::Settings::try_from).transpose();
        let hooks = raw.hooks.map(hooks::Settings::try_from).transpose();
        let default = raw.default.map(|text| text.parse::<EnvironmentName>()).transpose();
        let mut config = Self {
            store,
            state,
            interfaces: raw.interfaces,
            mode,
            ranges,
            subnets: Vec::new(),
            router,
            dns,
            domain,
            mtu,
            lease,
            http,
            default: default.map_err(|error| ConfigError::Default(error.to_string()))?,
            consul: consul.map_err(|error| ConfigError::Consul(error.to_string()))?,
            hooks: hooks.map_err(|error| ConfigError::Hooks(error.to_string()))?,
            machines,
            file: None,
        };
        config.subnets = subnet::all(raw.subnets, &config.parameters())?;
        let ranges = config.all_ranges().collect::<Vec<_>>();
        for (at, range) in ranges.iter().enumerate() {
            let overlaps =
                |other: &&Range| other.first() <= range.last() && range.first() <= other.last();
            if let Some(other) = ranges.iter().skip(at + 1).find(overlaps) {
                return Err(ConfigError::Overlap(*range, *other));
            }
        }
        Ok(config)
    }
}

/// Where the store is when nobody says it.
#[must_use]
pub fn default_store(state: &Path) -> Location {
    Location::Directory(state.join("store"))
}

fn machines(raw: BTreeMap<String, Machine>) -> Result<BTreeMap<MachineName, Machine>, ConfigError> {
    let mut machines = BTreeMap::new();
    for (name, machine) in raw {
        let say = |error: &dyn fmt::Display| ConfigError::Machine {
            name: name.clone(),
            reason: error.to_string(),
        };
        machine.check().map_err(|error| say(&error))?;
        kenv::check_read_size(&machine.kenv).map_err(|error| say(&error))?;
        let parsed = name.parse::<MachineName>().map_err(|error| say(&error))?;
        if machines.insert(parsed, machine).is_some() {
            return Err(say(
                &"it is written twice, in capital and in small letters: remove one of the two",
            ));
        }
    }
    Ok(machines)
}

fn address(key: &'static str, text: &str) -> Result<Ipv4Addr, ConfigError> {
    let address = text.parse::<Ipv4Addr>().ok().filter(|address| {
        !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
    });
    address.ok_or_else(|| ConfigError::Address { key, text: text.to_owned() })
}

/// Checks a domain name: parts of letters, digits and inner hyphens (RFC 1123 §2.1).
fn domain(text: String) -> Result<String, ConfigError> {
    let part = |part: &str| {
        let plain = |character: char| character.is_ascii_alphanumeric() || character == '-';
        let edge = part.starts_with('-') || part.ends_with('-');
        (1..=63).contains(&part.len()) && part.chars().all(plain) && !edge
    };
    // Option 15 holds 255 bytes; a name on the wire is shorter still (RFC 1035 §2.3.4).
    if text.len() <= 253 && text.split('.').all(part) {
        Ok(text)
    } else {
        Err(ConfigError::Domain(text))
    }
}

/// Checks an MTU: what every host must take (RFC 791 §3.1), up to jumbo frames.
fn mtu(bytes: u16) -> Result<u16, ConfigError> {
    if (576..=9216).contains(&bytes) { Ok(bytes) } else { Err(ConfigError::Mtu(bytes)) }
}

/// Checks how many seconds a lease runs.
fn lease(seconds: u64) -> Result<Duration, ConfigError> {
    if (MIN_LEASE..=MAX_LEASE).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err(ConfigError::Lease(seconds))
    }
}

/// Reads `ADDRESS:PORT`, `:PORT`, `PORT` or `ADDRESS`.
fn listen(text: &str) -> Result<SocketAddr, ConfigError> {
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>().ok();
    let port_only = port.map(|port| SocketAddr::new(everywhere, port));
    let address_only = || text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 80));
    let found = port_only.or_else(|| text.parse().ok()).or_else(address_only);
    let found = found.filter(|address| address.port() != 0);
    found.ok_or_else(|| ConfigError::Http(text.to_owned()))
}

/// What is wrong with what was written, and what to write.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// An address is none that a machine could use.
    #[error("{key}: {text:?} cannot be used by machines: write an address as in 192.168.2.1")]
    Address {
        /// Where it stands.
        key: &'static str,
        /// What was written.
        text: String,
    },
    /// What was written of Consul is not right.
    #[error("consul: {0}")]
    Consul(String),
    /// The name of the default environment cannot be one.
    #[error("default: {0}")]
    Default(String),
    /// The domain name is none.
    #[error("domain: {0:?} is not a domain name: write one as in lab.example.org")]
    Domain(String),
    /// What was written of hooks is not right.
    #[error("hooks: {0}")]
    Hooks(String),
    /// The place for HTTP is none.
    #[error("http: {0:?} is not an address to listen on: write a port as in 8080, or ADDRESS:PORT")]
    Http(String),
    /// The name of an interface cannot be one.
    #[error(
        "interfaces: {0:?} is not the name of an interface: write it as `ip link` or `ifconfig` shows it"
    )]
    Interface(String),
    /// The lease is too short or too long.
    #[error("lease: {0} seconds: write 120 (two minutes) to 31536000 (a year)")]
    Lease(u64),
    /// A machine is not right.
    #[error("machines.{name}: {reason}")]
    Machine {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The mode is unknown.
    #[error(
        "mode: {0:?} is not a mode: write serve (hand out addresses), proxy (boot machines beside another \
         DHCP server) or passive (only listen)"
    )]
    Mode(String),
    /// Two machines have the same Ethernet address or address.
    #[error(
        "line {line}: {what} already belongs to {other} (line {other_line}): write another for {name}, or \
         remove one of the two"
    )]
    MachineTwice {
        /// Where the second has it, from 1.
        line: usize,
        /// What both have.
        what: String,
        /// The second.
        name: String,
        /// The first.
        other: String,
        /// Where the first has it, from 1.
        other_line: usize,
    },
    /// The MTU is none that a network has.
    #[error("mtu: {0} bytes: write 576 to 9216; Ethernet has 1500")]
    Mtu(u16),
    /// Two ranges share addresses.
    #[error("ranges: {0} and {1} share addresses: write them as one")]
    Overlap(Range, Range),
    /// A range is none.
    #[error("ranges: {0}")]
    Range(#[source] dhcp::RangeError),
    /// Addresses are given, but not to be handed out.
    #[error("ranges are given, but the mode is {0}: set mode to serve to hand them out")]
    Ranges(Mode),
    /// The state directory is relative.
    #[error("state: {} is relative: write a path that begins with /", .0.display())]
    RelativeState(PathBuf),
    /// A subnet is not right.
    #[error("subnets.{network}: {error}")]
    Subnet {
        /// What was written for its network.
        network: String,
        /// What is wrong with it.
        error: SubnetError,
    },
    /// Subnets are given, but their addresses are not to be handed out.
    #[error(
        "subnets are given, but the mode is {0}: set mode to serve to hand out their addresses"
    )]
    Subnets(Mode),
    /// The store's place is none.
    #[error("store: {0}")]
    Store(#[source] store::LocationError),
    /// The file is not TOML, or says what nobody asks for.
    #[error("line {line}: {reason}")]
    Syntax {
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Where what a program keeps belongs (hier(7)).
#[cfg(target_os = "freebsd")]
pub const DEFAULT_STATE: &str = "/var/db/netbe";
/// Where what a program keeps belongs (Filesystem Hierarchy Standard §5.8).
#[cfg(not(target_os = "freebsd"))]
pub const DEFAULT_STATE: &str = "/var/lib/netbe";

/// Where packages put the configuration.
#[cfg(target_os = "freebsd")]
pub const DEFAULT_FILE: &str = "/usr/local/etc/netbe.toml";
/// Where packages put the configuration.
#[cfg(not(target_os = "freebsd"))]
pub const DEFAULT_FILE: &str = "/etc/netbe.toml";

/// Boot files are served by HTTP on every address.
const DEFAULT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80);

/// Seconds that a lease runs.
const DEFAULT_LEASE: u64 = 3600;

/// A shorter lease would run out between two stages of a slow boot.
const MIN_LEASE: u64 = 120;

/// A year.
const MAX_LEASE: u64 = 31_536_000;

#[cfg(test)]
mod test;
