//! `[consul]` of netbe.toml, as it is written and as it is acted on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::{Url, UrlError};
use crate::file::{self, Untrusted};

/// `[consul]`, as it is written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Where Consul is.
    pub url: Option<String>,
    /// The file with the token.
    pub token_file: Option<PathBuf>,
    /// Where machines are registered: `agent` or `catalog`.
    #[serde(default)]
    pub register: Register,
    /// Seconds after which a machine that nobody says to live is critical.
    pub ttl: Option<u64>,
    /// What tells the services of this netbe from those of others; the catalog needs one, because all hosts have it.
    pub site: Option<String>,
    /// The datacenter, for the catalog.
    pub datacenter: Option<String>,
    /// Tags of every service.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Services that several machines offer, by name.
    #[serde(default)]
    pub services: BTreeMap<String, RawService>,
}

/// A service of several machines, as it is written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RawService {
    /// The machines: names, in which `*` stands for any letters.
    pub machines: Vec<String>,
    /// Its port.
    pub port: Option<u16>,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// What holds for Consul.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Settings {
    /// Where Consul is.
    pub url: Url,
    /// The file with the token.
    pub token_file: Option<PathBuf>,
    /// Where machines are registered.
    pub register: Register,
    /// After how long a machine that nobody says to live is critical.
    pub ttl: Duration,
    /// What tells the services of this netbe from those of others.
    pub site: String,
    /// The datacenter, for the catalog.
    pub datacenter: Option<String>,
    /// Tags of every service.
    pub tags: Vec<String>,
    /// Services that several machines offer, by name.
    pub services: BTreeMap<String, Service>,
}

/// A service of several machines.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Service {
    /// The machines: names, in which `*` stands for any letters.
    pub machines: Vec<String>,
    /// Its port.
    pub port: Option<u16>,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Settings {
    /// Looks whether the token can be used.
    ///
    /// # Errors
    ///
    /// It cannot.
    pub fn check(&self) -> Result<(), Untrusted> {
        self.token_file.as_deref().map_or(Ok(()), |file| file::secret(file).map(drop))
    }
}

impl Service {
    /// Whether a machine offers it.
    pub(super) fn has(&self, machine: &str) -> bool {
        self.machines.iter().any(|pattern| matches(pattern, machine))
    }
}

/// Whether a name is of a pattern in which `*` stands for any letters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern.eq_ignore_ascii_case(name);
    };
    let head = name.get(..before.len()).filter(|head| head.eq_ignore_ascii_case(before));
    let Some(rest) = head.and_then(|_| name.get(before.len()..)) else { return false };
    let mut tails = (0..=rest.len()).filter_map(|at| rest.get(at..));
    tails.any(|tail| matches(after, tail))
}

/// Where machines are registered.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Register {
    /// With the agent, as services of its node that have a check with a time to live.
    #[default]
    Agent,
    /// In the catalog, as nodes of their own.
    Catalog,
}

impl TryFrom<Raw> for Settings {
    type Error = SettingsError;

    fn try_from(raw: Raw) -> Result<Self, SettingsError> {
        let url = Url::try_from(raw.url.unwrap_or_else(|| DEFAULT_URL.to_owned()))?;
        if let Some(path) = raw.token_file.as_ref().filter(|path| !path.is_absolute()) {
            return Err(SettingsError::Relative(path.clone()));
        }
        let seconds = raw.ttl.unwrap_or(60);
        if !(10..=3600).contains(&seconds) {
            return Err(SettingsError::Ttl(seconds));
        }
        let site = match (raw.site, raw.register) {
            (Some(site), _) => site,
            (None, Register::Agent) => "netbe".to_owned(),
            // Two servers by one name would take each other's machines out.
            (None, Register::Catalog) => return Err(SettingsError::Site),
        };
        let names = raw.services.keys().chain([&site]).chain(&raw.datacenter);
        if let Some(name) = names.into_iter().find(|name| !is_name(name)) {
            return Err(SettingsError::Name(name.clone()));
        }
        let mut services = BTreeMap::new();
        for (name, service) in raw.services {
            let RawService { machines, port, tags } = service;
            let stars = |pattern: &&String| pattern.matches('*').count() > 3;
            if machines.is_empty() || machines.iter().any(|one| stars(&one)) {
                return Err(SettingsError::Machines(name));
            }
            services.insert(name, Service { machines, port, tags });
        }
        let Raw { token_file, register, datacenter, tags, .. } = raw;
        let ttl = Duration::from_secs(seconds);
        Ok(Self { url, token_file, register, ttl, site, datacenter, tags, services })
    }
}

/// Whether DNS can have a name: letters, digits and inner hyphens (RFC 1123 §2.1).
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let edge = name.starts_with('-') || name.ends_with('-');
    (1..=63).contains(&name.len()) && name.chars().all(plain) && !edge
}

/// What is wrong with what was written, and what to write.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A service has no machines.
    #[error(
        "services.{0}: write its machines, as in machines = [\"web*\"], with three stars at most in each"
    )]
    Machines(String),
    /// A name cannot be found by DNS.
    #[error("{0:?} is not a name: write up to 63 letters, digits and hyphens")]
    Name(String),
    /// The catalog is everybody's, and nothing tells what is this netbe's.
    #[error(
        "register: \"catalog\" needs a site: write site = \"NAME\", with a name that no other netbe of this catalog has; \
         what an earlier netbe registered without one has the site \"netbe\""
    )]
    Site,
    /// The path of the token is relative.
    #[error("token_file: {} is relative: write a path that begins with /", .0.display())]
    Relative(PathBuf),
    /// The time is too short or too long.
    #[error("ttl: {0} seconds: write 10 to 3600")]
    Ttl(u64),
    /// The address is none.
    #[error("url: {0}")]
    Url(#[from] UrlError),
}

/// Where the agent of a host is.
const DEFAULT_URL: &str = "http://127.0.0.1:8500";

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_star_stands_for_any_letters() {
        for (pattern, name, expected) in [
            ("web1", "web1", true),
            ("web1", "WEB1", true),
            ("web1", "web10", false),
            ("web*", "web10", true),
            ("*", "", true),
            ("w*b*1", "web-b-1", true),
            ("w*b*1", "web-b-2", false),
            ("*é", "ae", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let service = |machines: &[&str]| {
            let machines = machines.iter().map(|&one| one.to_owned()).collect();
            BTreeMap::from([("www".to_owned(), RawService { machines, ..RawService::default() })])
        };
        for (raw, word) in [
            (Raw { url: Some("127.0.0.1:8500".into()), ..Raw::default() }, "http://127.0.0.1:8500"),
            (Raw { ttl: Some(1), ..Raw::default() }, "10 to 3600"),
            (Raw { register: Register::Catalog, ..Raw::default() }, "site = \"NAME\""),
            (Raw { site: Some("a b".into()), ..Raw::default() }, "hyphens"),
            (Raw { services: service(&[]), ..Raw::default() }, "machines = "),
            (Raw { token_file: Some("token".into()), ..Raw::default() }, "begins with /"),
        ] {
            let error = Settings::try_from(raw).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
