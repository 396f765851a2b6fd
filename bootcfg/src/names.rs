//! Machines' names for programs that look names up: hosts(5), and the zone of a DNS server (RFC 1035 §5).
//!
//! Both know a machine by the address that is kept for it. One that has none gets another address some day, so that
//! only a comment names it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::ConfigError;
use crate::error::refuse;

/// A machine by its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// Its name: labels joined by dots.
    pub name: String,
    /// The address that is kept for it.
    pub address: Option<Ipv4Addr>,
}

/// What a zone says beside its hosts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Zone {
    /// Its domain, without a dot at the end.
    pub domain: String,
    /// The name of the server that has the zone, without a dot at the end.
    pub server: String,
    /// What tells this state of the zone from earlier ones: it has to grow (RFC 1982).
    pub serial: u32,
    /// For how many seconds others may keep an answer.
    pub ttl: u32,
}

/// Lines for hosts(5). With a domain each machine is known by its whole name too.
pub fn hosts(hosts: &[Host], domain: Option<&str>) -> Result<String, ConfigError> {
    const FORMAT: &str = "hosts(5)";
    if let Some(domain) = domain {
        checked("the domain", domain, FORMAT)?;
        distinct(hosts, domain, FORMAT)?;
    }
    let mut text = String::new();
    for Host { name, address } in hosts {
        checked("the machine's name", name, FORMAT)?;
        let whole = domain.map(|domain| format!("{}.{domain}", below(name, domain)));
        if let Some(whole) = &whole {
            checked("the machine's whole name", whole, FORMAT)?;
        }
        let names = match (&whole, domain) {
            (Some(whole), Some(domain)) => format!("{whole} {}", below(name, domain)),
            _ => name.clone(),
        };
        text += &match address {
            Some(address) => format!("{address}\t{names}\n"),
            None => format!("# {name} has no address of its own\n"),
        };
    }
    Ok(text)
}

/// A master file (RFC 1035 §5) with an address for each machine.
pub fn zone(hosts: &[Host], zone: &Zone) -> Result<String, ConfigError> {
    const FORMAT: &str = "a zone";
    let Zone { domain, server, serial, ttl } = zone;
    checked("the domain", domain, FORMAT)?;
    checked("the domain's mail address", &format!("hostmaster.{domain}"), FORMAT)?;
    checked("the name server", server, FORMAT)?;
    // A server of DNS loads no zone whose own name server has no address in it.
    let is_inside = server.eq_ignore_ascii_case(domain) || below(server, domain) != server;
    let is_host =
        |host: &Host| below(&host.name, domain).eq_ignore_ascii_case(below(server, domain));
    if is_inside && !hosts.iter().any(|host| host.address.is_some() && is_host(host)) {
        return Err(ConfigError::Character {
            what: "the name server",
            value: server.clone(),
            format: FORMAT,
            reason: "a name server in the zone is a machine with an address: add it, or name one of another domain",
        });
    }
    distinct(hosts, domain, FORMAT)?;
    // The times are those that RFC 1912 §2.2 proposes, and a short one for names that are not there (RFC 2308 §5).
    let mut text = format!(
        "$ORIGIN {domain}.\n\
         $TTL {ttl}\n\
         @\tIN\tSOA\t{server}. hostmaster.{domain}. ( {serial} 3600 600 1209600 300 )\n\
         @\tIN\tNS\t{server}.\n"
    );
    for Host { name, address } in hosts {
        checked("the machine's name", name, FORMAT)?;
        let own = below(name, domain);
        checked("the machine's whole name", &format!("{own}.{domain}"), FORMAT)?;
        text += &match address {
            Some(address) => format!("{own}\tIN\tA\t{address}\n"),
            None => format!("; {name} has no address of its own\n"),
        };
    }
    Ok(text)
}

/// A machine's name within a domain: some machines are called by their whole name. Letters are alike, small or large
/// (RFC 4343).
fn below<'n>(name: &'n str, domain: &str) -> &'n str {
    let own = name.len().checked_sub(domain.len()).and_then(|at| name.split_at_checked(at));
    let own = own.filter(|(_, end)| end.eq_ignore_ascii_case(domain));
    let own = own.and_then(|(own, _)| own.strip_suffix('.'));
    own.filter(|own| !own.is_empty()).unwrap_or(name)
}

/// Refuses two machines of one name within a domain: half of those who ask would reach the other.
fn distinct(hosts: &[Host], domain: &str, format: &'static str) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    for host in hosts.iter().filter(|host| host.address.is_some()) {
        if !names.insert(below(&host.name, domain).to_ascii_lowercase()) {
            let (what, value) = ("the machine's name", host.name.clone());
            let reason = "another machine has the same name within the domain: rename one of them";
            return Err(ConfigError::Character { what, value, format, reason });
        }
    }
    Ok(())
}

/// Refuses what is no host name (RFC 1123 §2.1), and what is too long for DNS (RFC 1035 §2.3.4).
fn checked(what: &'static str, name: &str, format: &'static str) -> Result<(), ConfigError> {
    let reason = "a name is labels of letters, digits and inner hyphens, joined by dots";
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    refuse(what, name, format, reason, |c| !plain(c))?;
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if !name.split('.').all(is_label) {
        return Err(ConfigError::Character { what, value: name.to_owned(), format, reason });
    }
    if name.len() > MAX {
        return Err(ConfigError::Long { what, len: name.len(), format, max: MAX });
    }
    Ok(())
}

/// 255 bytes with the length of each label and the root (RFC 1035 §2.3.4).
const MAX: usize = 253;

#[cfg(test)]
mod test {
    use super::*;

    fn some() -> Vec<Host> {
        let host = |name: &str, last: Option<u8>| Host {
            name: name.to_owned(),
            address: last.map(|last| Ipv4Addr::new(10, 0, 0, last)),
        };
        vec![
            host("db", Some(8)),
            host("new", None),
            host("rack1.node2", Some(9)),
            host("web1.example.org", Some(10)),
        ]
    }

    fn org() -> Zone {
        Zone {
            domain: "example.org".to_owned(),
            server: "db.Example.org".to_owned(),
            serial: 1_800_000_000,
            ttl: 3600,
        }
    }

    #[test]
    fn hosts_have_a_line_each() {
        assert_eq!(
            hosts(&some(), None).unwrap(),
            "10.0.0.8\tdb\n\
             # new has no address of its own\n\
             10.0.0.9\track1.node2\n\
             10.0.0.10\tweb1.example.org\n"
        );
    }

    #[test]
    fn in_a_domain_they_have_two_names() {
        assert_eq!(
            hosts(&some(), Some("example.org")).unwrap(),
            "10.0.0.8\tdb.example.org db\n\
             # new has no address of its own\n\
             10.0.0.9\track1.node2.example.org rack1.node2\n\
             10.0.0.10\tweb1.example.org web1\n"
        );
    }

    #[test]
    fn a_zone_has_an_address_for_each() {
        assert_eq!(
            zone(&some(), &org()).unwrap(),
            "$ORIGIN example.org.\n\
             $TTL 3600\n\
             @\tIN\tSOA\tdb.Example.org. hostmaster.example.org. ( 1800000000 3600 600 1209600 300 )\n\
             @\tIN\tNS\tdb.Example.org.\n\
             db\tIN\tA\t10.0.0.8\n\
             ; new has no address of its own\n\
             rack1.node2\tIN\tA\t10.0.0.9\n\
             web1\tIN\tA\t10.0.0.10\n"
        );
    }

    #[test]
    fn a_zone_that_no_server_loads_or_that_misleads_is_not_written() {
        for server in ["ns.example.org", "new.example.org", "EXAMPLE.org"] {
            let refused = zone(&some(), &Zone { server: server.to_owned(), ..org() }).unwrap_err();
            assert!(refused.to_string().contains("is a machine with an address"), "{refused}");
        }
        zone(&some(), &Zone { server: "ns.elsewhere.org".to_owned(), ..org() }).unwrap();
        let mut twice = some();
        twice.push(Host { name: "web1".to_owned(), address: Some(Ipv4Addr::new(10, 0, 0, 11)) });
        assert!(zone(&twice, &org()).is_err());
        assert!(hosts(&twice, Some("Example.ORG")).is_err());
        hosts(&twice, None).unwrap();
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let named = |name: &str| vec![Host { name: name.to_owned(), address: None }];
        for name in ["", "a b", "a\n10.0.0.1 b", "-a", "a..b", "a;b", "@", "$INCLUDE", "a\\046b"] {
            assert!(hosts(&named(name), None).is_err(), "{name:?}");
            assert!(zone(&named(name), &org()).is_err(), "{name:?}");
            assert!(hosts(&some(), Some(name)).is_err(), "{name:?}");
            assert!(zone(&some(), &Zone { domain: name.to_owned(), ..org() }).is_err(), "{name:?}");
            assert!(zone(&some(), &Zone { server: name.to_owned(), ..org() }).is_err(), "{name:?}");
        }
        let long = ["a".repeat(60).as_str(); 4].join(".");
        assert!(hosts(&named(&long), None).is_ok());
        let refused = hosts(&named(&long), Some("example.org")).unwrap_err();
        assert!(matches!(refused, ConfigError::Long { len: 255, max: 253, .. }), "{refused}");
        assert!(zone(&named(&long), &org()).is_err());
    }
}
