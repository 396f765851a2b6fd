//! A network with addresses of its own to hand out, as it is written in netbe.toml or as a flag.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::Deserialize;

use super::{ConfigError, address, domain, lease, mtu};
use crate::dhcp::{Parameters, Range, RangeError, Subnet};
use crate::net::interface::Network;

/// What was written of a subnet. Where it says nothing, the keys outside of it hold.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RawSubnet {
    /// Addresses to hand out.
    #[serde(default)]
    pub ranges: Vec<String>,
    /// Its router.
    pub router: Option<String>,
    /// Its name servers.
    #[serde(default)]
    pub dns: Vec<String>,
    /// Its domain name.
    pub domain: Option<String>,
    /// Its MTU, in bytes.
    pub mtu: Option<u16>,
    /// How long a lease runs, in seconds.
    pub lease: Option<u64>,
    /// Relay agents that speak for it by an address outside of it: addresses or networks.
    #[serde(default)]
    pub relays: Vec<String>,
    /// More options, by number: addresses, text, or `hex:` and bytes.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl RawSubnet {
    /// Reads a flag: `10.1.0.0/24,range=10.1.0.100-10.1.0.199,router=10.1.0.1`. Gives the network and
    /// what is said of it.
    ///
    /// # Errors
    ///
    /// A part is not KEY=VALUE with a key that is known.
    pub fn from_flag(text: &str) -> Result<(String, Self), SubnetError> {
        let mut parts = text.split(',');
        let network = parts.next().unwrap_or_default().trim().to_owned();
        let mut subnet = Self::default();
        for part in parts {
            let unknown = || SubnetError::Key(part.to_owned());
            let (key, value) = part.split_once('=').ok_or_else(unknown)?;
            let number = || SubnetError::Number { key: key.to_owned(), text: value.to_owned() };
            let text = value.to_owned();
            let taken = match key.trim() {
                list @ ("range" | "dns" | "relay") => {
                    let list = match list {
                        "range" => &mut subnet.ranges,
                        "dns" => &mut subnet.dns,
                        _ => &mut subnet.relays,
                    };
                    list.push(text);
                    None
                }
                "router" => subnet.router.replace(text),
                "domain" => subnet.domain.replace(text),
                "mtu" => {
                    let mtu = value.parse().map_err(|_| number())?;
                    subnet.mtu.replace(mtu).map(|mtu| mtu.to_string())
                }
                "lease" => {
                    let lease = value.parse().map_err(|_| number())?;
                    subnet.lease.replace(lease).map(|lease| lease.to_string())
                }
                "option" => {
                    let (code, value) = value.split_once(':').ok_or_else(unknown)?;
                    subnet.options.insert(code.to_owned(), value.to_owned())
                }
                _ => return Err(unknown()),
            };
            if taken.is_some() {
                return Err(SubnetError::Twice(key.to_owned()));
            }
        }
        Ok((network, subnet))
    }

    fn check(&self, network: Network, others: &Parameters) -> Result<Subnet, SubnetError> {
        let said = |error: ConfigError| SubnetError::Value(Box::new(error));
        let ranges = self.ranges.iter().map(|text| text.parse::<Range>());
        let ranges = ranges.collect::<Result<Vec<_>, _>>().map_err(SubnetError::Range)?;
        if let Some(range) = ranges
            .iter()
            .find(|range| !network.contains(range.first()) || !network.contains(range.last()))
        {
            return Err(SubnetError::RangeOutside(*range));
        }
        let router = self.router.as_deref().map(|text| address("router", text));
        let router = router.transpose().map_err(said)?;
        if let Some(router) = router.filter(|router| !network.has_host(*router)) {
            return Err(SubnetError::RouterOutside(router));
        }
        let dns = self.dns.iter().map(|text| address("dns", text));
        let dns = dns.collect::<Result<Vec<_>, _>>().map_err(said)?;
        let relays = self.relays.iter().map(|text| {
            let alone = || text.parse().ok().map(|address: Ipv4Addr| Network::new(address, 32));
            parse(text).ok().or_else(alone).ok_or_else(|| SubnetError::Relay(text.clone()))
        });
        // A router of another network is none here: the relay agent may be one.
        let reached = others.routers.iter().filter(|router| network.has_host(**router));
        let parameters = Parameters {
            routers: router.map_or_else(|| reached.copied().collect(), |router| vec![router]),
            name_servers: if dns.is_empty() { others.name_servers.clone() } else { dns },
            domain: match &self.domain {
                Some(name) => Some(domain(name.clone()).map_err(said)?),
                None => others.domain.clone(),
            },
            mtu: self.mtu.map(mtu).transpose().map_err(said)?.or(others.mtu),
            lease: self.lease.map(lease).transpose().map_err(said)?.unwrap_or(others.lease),
            options: self.options.iter().map(option).collect::<Result<_, _>>()?,
        };
        Ok(Subnet { network, relays: relays.collect::<Result<_, _>>()?, ranges, parameters })
    }
}

/// Checks all subnets; what they do not say is taken from `others`.
pub(super) fn all(
    raw: BTreeMap<String, RawSubnet>,
    others: &Parameters,
) -> Result<Vec<Subnet>, ConfigError> {
    let mut subnets = Vec::<Subnet>::new();
    for (text, raw) in raw {
        let fail = |error| ConfigError::Subnet { network: text.clone(), error };
        let network = parse(&text).map_err(fail)?;
        let subnet = raw.check(network, others).map_err(fail)?;
        if let Some(other) = subnets.iter().find(|other| other.network.overlaps(network)) {
            return Err(fail(SubnetError::Overlap(other.network.to_string())));
        }
        subnets.push(subnet);
    }
    subnets.sort_by_key(|subnet| subnet.network.base());
    Ok(subnets)
}

/// Reads `10.1.0.0/24`, written in the one way in which it can be found again.
fn parse(text: &str) -> Result<Network, SubnetError> {
    let network = Network::from_str(text).map_err(|_| SubnetError::Network)?;
    if network.address != network.base() {
        let network = Network::new(network.base(), network.prefix());
        return Err(SubnetError::NotBase(network.to_string()));
    }
    if network.to_string() == text { Ok(network) } else { Err(SubnetError::Network) }
}

/// Reads an option and its value.
fn option((code, value): (&String, &String)) -> Result<(u8, Vec<u8>), SubnetError> {
    let number = code.parse::<u8>().map_err(|_| SubnetError::OptionCode(code.clone()))?;
    if is_reserved(number) {
        return Err(SubnetError::OptionReserved(number));
    }
    let bytes = bytes(value).filter(|bytes| !bytes.is_empty() && bytes.len() <= LONGEST_OPTION);
    bytes.map(|bytes| (number, bytes)).ok_or(SubnetError::OptionValue(number))
}

/// Addresses with spaces between them, `hex:` and bytes, or text.
fn bytes(value: &str) -> Option<Vec<u8>> {
    if let Some(digits) = value.strip_prefix("hex:") {
        let digits: Vec<u8> = digits.bytes().filter(|byte| !matches!(byte, b' ' | b':')).collect();
        let (pairs, rest) = digits.as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        return rest.is_empty().then(|| pairs.iter().map(byte).collect()).flatten();
    }
    let addresses = value.split_whitespace().map(str::parse::<Ipv4Addr>);
    match addresses.collect::<Result<Vec<_>, _>>() {
        Ok(all) => Some(all.iter().flat_map(Ipv4Addr::octets).collect()),
        Err(_) => Some(value.as_bytes().to_vec()),
    }
}

/// Options that a machine's boot or the message itself depends on, or that have a key of their own.
const fn is_reserved(code: u8) -> bool {
    matches!(
        code,
        0 | 1 | 3 | 6 | 12 | 15 | 17 | 26 | 28 | 43 | 50
            ..=61 | 66 | 67 | 82 | 93 | 94 | 97 | 118 | 150 | 175 | 255
    )
}

/// What is wrong with a subnet, and what to write.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SubnetError {
    /// A part of a flag is not understood.
    #[error(
        "{0:?} is not understood: write range=A-B, router=IP, dns=IP, domain=NAME, mtu=BYTES, \
         lease=SECONDS, relay=IP or option=NUMBER:VALUE"
    )]
    Key(String),
    /// The prefix is none.
    #[error("write the network's address and prefix as in 10.1.0.0/24")]
    Network,
    /// The address is one in the network.
    #[error("this is an address in the network {0}: write that")]
    NotBase(String),
    /// A number is none.
    #[error("{key}={text}: write a number")]
    Number {
        /// Of what.
        key: String,
        /// What was written.
        text: String,
    },
    /// An option's number is none.
    #[error("options: {0:?} is not the number of an option: write 1 to 254")]
    OptionCode(String),
    /// An option cannot be set this way.
    #[error("options: netbe sets option {0} itself")]
    OptionReserved(u8),
    /// An option's value is none.
    #[error(
        "options: the value of {0} is empty, longer than 255 bytes or, after hex:, not hexadecimal: write \
         addresses as in \"10.1.0.5 10.1.0.6\", text, or bytes as in hex:0a01"
    )]
    OptionValue(u8),
    /// It shares addresses with another one.
    #[error("it shares addresses with {0}: remove one of the two")]
    Overlap(String),
    /// A range is none.
    #[error(transparent)]
    Range(RangeError),
    /// A range lies elsewhere.
    #[error("range {0} does not lie in it")]
    RangeOutside(Range),
    /// A relay is none.
    #[error("relays: {0:?} is neither an address nor a network: write one as in 192.168.2.1")]
    Relay(String),
    /// The router is out of the machines' reach.
    #[error("router {0} does not lie in it: machines reach only a router of their own network")]
    RouterOutside(Ipv4Addr),
    /// Something is said twice that can be said once.
    #[error("{0} is written twice")]
    Twice(String),
    /// A value is not right, as it would not be outside of a subnet.
    #[error(transparent)]
    Value(Box<ConfigError>),
}

/// An option's length is one byte.
const LONGEST_OPTION: usize = 255;

#[cfg(test)]
mod test {
    use std::time::Duration;

    use super::super::{Config, Raw};
    use super::*;

    fn config(text: &str) -> Result<Config, String> {
        let raw = Raw::parse(text).map_err(|error| error.to_string())?;
        Config::try_from(raw).map_err(|error| error.to_string())
    }

    #[test]
    fn a_subnet_says_what_holds_in_it_and_the_rest_holds_from_outside() {
        let config = config(
            r#"
            mode = "serve"
            dns = ["10.0.0.53"]
            domain = "lab.example"
            lease = 600
            [subnets."10.1.0.0/24"]
            ranges = ["10.1.0.100-10.1.0.199"]
            router = "10.1.0.1"
            mtu = 1400
            relays = ["192.168.9.1", "192.168.10.0/24"]
            options = { "42" = "10.1.0.5 10.1.0.6", "252" = "a text", "224" = "hex:01 0aff" }
            [subnets."10.2.0.0/24"]
            dns = ["10.2.0.53"]
            lease = 1200
            "#,
        );
        let config = config.unwrap();
        let [first, second] = config.subnets.as_slice() else { panic!("{config:?}") };
        assert_eq!(first.network.to_string(), "10.1.0.0/24");
        assert_eq!(first.relays.len(), 2);
        let parameters = &first.parameters;
        assert_eq!(parameters.routers, [Ipv4Addr::new(10, 1, 0, 1)]);
        assert_eq!(parameters.name_servers, [Ipv4Addr::new(10, 0, 0, 53)]);
        assert_eq!(
            (parameters.domain.as_deref(), parameters.mtu),
            (Some("lab.example"), Some(1400))
        );
        assert_eq!(parameters.lease, Duration::from_secs(600));
        let options: Vec<(u8, Vec<u8>)> = vec![
            (224, vec![1, 10, 255]),
            (252, b"a text".to_vec()),
            (42, vec![10, 1, 0, 5, 10, 1, 0, 6]),
        ];
        assert_eq!(parameters.options, options);
        assert_eq!(second.parameters.name_servers, [Ipv4Addr::new(10, 2, 0, 53)]);
        assert_eq!(second.parameters.lease, Duration::from_secs(1200));
    }

    #[test]
    fn a_flag_says_the_same_as_a_table_and_beats_it() {
        let flag = "10.1.0.0/24,range=10.1.0.5-10.1.0.9,router=10.1.0.1,dns=10.1.0.2,domain=a.example,\
                    mtu=1400,lease=700,relay=192.168.9.1,option=42:10.1.0.5";
        let table = r#"
            [subnets."10.1.0.0/24"]
            ranges = ["10.1.0.5-10.1.0.9"]
            router = "10.1.0.1"
            dns = ["10.1.0.2"]
            domain = "a.example"
            mtu = 1400
            lease = 700
            relays = ["192.168.9.1"]
            options = { "42" = "10.1.0.5" }
            [subnets."10.2.0.0/24"]
            lease = 800
        "#;
        let (network, subnet) = RawSubnet::from_flag(flag).unwrap();
        let file = Raw::parse(table).unwrap();
        assert_eq!(file.subnets.get(&network), Some(&subnet));
        let shorter = RawSubnet { lease: Some(900), ..RawSubnet::default() };
        let flags = Raw { subnets: [(network, shorter)].into(), ..Raw::default() };
        let leases = flags.or(file).subnets.into_values().map(|subnet| subnet.lease);
        assert_eq!(leases.collect::<Vec<_>>(), [Some(900), Some(800)]);
    }

    #[test]
    fn a_flag_that_is_not_understood_says_what_to_write() {
        let refused = |text| RawSubnet::from_flag(text).unwrap_err().to_string();
        assert!(
            refused("10.1.0.0/24,rnge=1").starts_with("\"rnge=1\" is not understood: write range=")
        );
        assert_eq!(refused("10.1.0.0/24,mtu=big"), "mtu=big: write a number");
        assert_eq!(refused("10.1.0.0/24,mtu=1400,mtu=1500"), "mtu is written twice");
    }

    #[test]
    fn mistakes_name_the_subnet_and_what_to_write() {
        let table = [
            (
                "[subnets.\"10.1.0.0\"]",
                "subnets.10.1.0.0: write the network's address and prefix as in \
              10.1.0.0/24",
            ),
            (
                "[subnets.\"10.1.0.1/24\"]",
                "subnets.10.1.0.1/24: this is an address in the network \
              10.1.0.0/24: write that",
            ),
            (
                "[subnets.\"10.1.0.0/24\"]\nranges = [\"10.2.0.1-10.2.0.9\"]",
                "subnets.10.1.0.0/24: range \
              10.2.0.1-10.2.0.9 does not lie in it",
            ),
            (
                "[subnets.\"10.1.0.0/24\"]\nrouter = \"10.2.0.1\"",
                "subnets.10.1.0.0/24: router 10.2.0.1 \
              does not lie in it: machines reach only a router of their own network",
            ),
            (
                "[subnets.\"10.1.0.0/24\"]\nmtu = 20",
                "subnets.10.1.0.0/24: mtu: 20 bytes: write 576 to \
              9216; Ethernet has 1500",
            ),
            (
                "[subnets.\"10.1.0.0/24\"]\nrelays = [\"here\"]",
                "subnets.10.1.0.0/24: relays: \"here\" is \
              neither an address nor a network: write one as in 192.168.2.1",
            ),
            (
                "[subnets.\"10.1.0.0/24\"]\noptions = { \"54\" = \"x\" }",
                "subnets.10.1.0.0/24: options: \
              netbe sets option 54 itself",
            ),
            (
                "[subnets.\"10.1.0.0/24\"]\n[subnets.\"10.1.0.0/16\"]",
                "subnets.10.1.0.0/24: it shares addresses with 10.1.0.0/16: remove one of the two",
            ),
        ];
        for (text, sentence) in table {
            assert_eq!(
                config(&format!("mode = \"serve\"\n{text}")).unwrap_err(),
                sentence,
                "{text}"
            );
        }
        assert_eq!(
            config("[subnets.\"10.1.0.0/24\"]").unwrap_err(),
            "subnets are given, but the mode is passive: set mode to serve to hand out their addresses"
        );
        let shared = "mode = \"serve\"\nranges = [\"10.1.0.9-10.1.0.20\"]\n[subnets.\"10.1.0.0/24\"]\n\
                      ranges = [\"10.1.0.20-10.1.0.30\"]";
        assert!(config(shared).unwrap_err().contains("share addresses"));
    }
}
