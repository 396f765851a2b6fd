//! What tells other programs the names of machines: hosts(5), and the zone of a DNS server.

use std::time::SystemTime;

use bootcfg::names::{self, Host, Zone};
use clap::{Args, value_parser};
use store::Timestamp;

use super::machine::roster;
use super::{Failure, Reply, Site};

/// Lines of hosts(5), for every machine that an address is reserved for.
///
/// The address is that of `netbe machine set --address`. A comment names each machine without one.
#[derive(Args, Debug)]
pub(crate) struct ShowHosts {
    /// The machines' domain, as in example.org: they get their whole names too.
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
}

impl ShowHosts {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let text = names::hosts(&hosts(site)?, self.domain.as_deref());
        text.map(Reply::text).map_err(Failure::could_not)
    }
}

/// A zone file (RFC 1035) for a DNS server, with every machine that an address is reserved for.
///
/// The address is that of `netbe machine set --address`. A comment names each machine without one.
#[derive(Args, Debug)]
pub(crate) struct ShowZone {
    /// The zone's domain, as in example.org.
    #[arg(long, value_name = "DOMAIN")]
    domain: String,
    /// The whole name of the DNS server that has the zone.
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    server: String,
    /// For how many seconds others may keep an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = value_parser!(u32).range(..=MOST))]
    ttl: u32,
    /// The zone's serial number [default: the time in seconds since 1970].
    #[arg(long, value_name = "NUMBER")]
    serial: Option<u32>,
}

impl ShowZone {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        // Serial numbers begin anew behind the last one (RFC 1982 §3).
        let now = || Timestamp::from(SystemTime::now()).seconds() % (1 << 32);
        let now = || u32::try_from(now()).unwrap_or_default();
        let zone = Zone {
            domain: self.domain.clone(),
            server: self.server.clone(),
            serial: self.serial.unwrap_or_else(now),
            ttl: self.ttl,
        };
        let text = names::zone(&hosts(site)?, &zone);
        text.map(Reply::text).map_err(Failure::could_not)
    }
}

/// The longest time that a server of DNS takes (RFC 2181 §8).
const MOST: i64 = (1 << 31) - 1;

/// All machines, by their names.
fn hosts(site: &Site) -> Result<Vec<Host>, Failure> {
    let roster = roster(&site.open_state()?)?;
    let machines = roster.iter();
    let hosts = machines
        .map(|(name, entry)| Host { name: name.to_string(), address: entry.machine.address });
    Ok(hosts.collect())
}
