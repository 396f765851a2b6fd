//! What the server would do on this host: the interfaces that it was told to use, found and checked.

use std::fmt::Write as _;

use super::ServeError;
use crate::config::{Config, Mode};
use crate::dhcp::{self, ListenError, Range};
use crate::net::interface::Interface;
use crate::site::machine::Roster;

/// The interfaces to serve, checked against what was written.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// The interfaces, by index.
    pub interfaces: Vec<Interface>,
}

impl Outlook {
    /// Finds the interfaces on this host.
    pub fn of(config: &Config, roster: &Roster) -> Result<Self, ServeError> {
        Self::among(Interface::all().map_err(ServeError::Interfaces)?, config, roster)
    }

    fn among(all: Vec<Interface>, config: &Config, roster: &Roster) -> Result<Self, ServeError> {
        let interfaces = if config.interfaces.is_empty() {
            let fit = |interface: &Interface| {
                interface.up
                    && !interface.loopback
                    && interface.broadcast
                    && interface.mac.is_some()
                    && !interface.networks.is_empty()
            };
            all.into_iter().filter(fit).collect::<Vec<_>>()
        } else {
            named(&all, config)?
        };
        let outlook = Self { interfaces };
        match config.mode {
            Mode::Passive => {}
            Mode::Proxy if outlook.interfaces.is_empty() => return Err(ServeError::NoNetwork),
            Mode::Proxy => {}
            Mode::Serve => {
                outlook.check_ranges(config, roster)?;
                outlook.check_router(config)?;
            }
        }
        Ok(outlook)
    }

    fn check_router(&self, config: &Config) -> Result<(), ServeError> {
        let Some(router) = config.router else { return Ok(()) };
        let mut networks = self.interfaces.iter().flat_map(|interface| &interface.networks);
        if networks.any(|network| network.has_host(router)) {
            return Ok(());
        }
        let networks = self.networks().collect::<Vec<_>>().join(", ");
        Err(ServeError::RouterOutside { router, networks })
    }

    fn check_ranges(&self, config: &Config, roster: &Roster) -> Result<(), ServeError> {
        if self.interfaces.is_empty() {
            return Err(ServeError::NoNetwork);
        }
        let reserved = roster.iter().any(|(_, entry)| entry.machine.address.is_some());
        if config.ranges.is_empty() && !reserved {
            return Err(ServeError::NothingToHandOut);
        }
        let networks = || self.interfaces.iter().flat_map(|interface| &interface.networks);
        for range in &config.ranges {
            let inside = networks()
                .any(|network| network.contains(range.first()) && network.contains(range.last()));
            if !inside {
                let networks = self.networks().collect::<Vec<_>>().join(", ");
                return Err(ServeError::RangeOutside { range: *range, networks });
            }
            if let Some(own) = networks().find(|network| range.contains(network.address)) {
                return Err(ServeError::RangeOwn { range: *range, address: own.address });
            }
        }
        Ok(())
    }

    /// Interfaces with their addresses, for people.
    fn networks(&self) -> impl Iterator<Item = String> {
        self.interfaces.iter().flat_map(|interface| {
            let name = &interface.name;
            let networks = interface.networks.iter();
            networks
                .map(move |network| format!("{name} has {}/{}", network.address, network.prefix()))
        })
    }

    /// The ranges that lie in an interface's networks, for people.
    pub(super) fn ranges(&self, config: &Config, interface: &str) -> Vec<String> {
        let networks = self.interfaces.iter().filter(|known| known.name == interface);
        let networks = networks.flat_map(|known| &known.networks).collect::<Vec<_>>();
        let inside = |range: &&Range| networks.iter().any(|own| own.contains(range.first()));
        config.ranges.iter().filter(inside).map(ToString::to_string).collect()
    }

    /// Addresses that are kept for machines and cannot be given to them here, each in a sentence.
    pub(super) fn strays(&self, config: &Config, roster: &Roster) -> Vec<String> {
        if config.mode != Mode::Serve {
            return Vec::new();
        }
        let networks = self.interfaces.iter().flat_map(|interface| &interface.networks);
        let networks = networks.collect::<Vec<_>>();
        let kept = roster.iter().filter_map(|(name, entry)| Some((name, entry.machine.address?)));
        let stray = kept.filter(|(_, address)| !networks.iter().any(|own| own.has_host(*address)));
        stray
            .map(|(name, address)| {
                format!("{address} is kept for {name}, but lies in no network that is served")
            })
            .collect()
    }

    /// What the server would do, for `serve -n`.
    #[must_use]
    pub fn describe(&self, config: &Config) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(text, "boot environments  {}", config.store);
        let _ = writeln!(text, "state              {}", config.state.display());
        for networks in self.networks() {
            let _ = match config.mode {
                Mode::Passive => writeln!(text, "DHCP               listens: {networks}"),
                Mode::Proxy => writeln!(text, "DHCP               tells what to boot: {networks}"),
                Mode::Serve => writeln!(text, "DHCP               serves: {networks}"),
            };
        }
        if config.mode == Mode::Serve {
            describe_network(&mut text, config);
        }
        for range in &config.ranges {
            let seconds = config.lease.as_secs();
            let _ = writeln!(text, "                   hands out {range} for {seconds} s");
        }
        let _ = writeln!(text, "TFTP               port 69");
        let _ = writeln!(text, "HTTP               {}", config.http);
        let _ = writeln!(text, "NFS                port 2049, MOUNT port 20048, port mapper 111");
        if let Some(default) = &config.default {
            let _ = writeln!(text, "unknown machines   boot {default}, read-only");
        }
        text
    }
}

/// What machines are told of their network beside their addresses.
fn describe_network(text: &mut String, config: &Config) {
    let router = match config.router {
        Some(router) => router.to_string(),
        None if dhcp::forwards() => "this host, which forwards".to_owned(),
        None => "none".to_owned(),
    };
    let dns = config.dns.iter().map(ToString::to_string).collect::<Vec<_>>();
    let dns = if dns.is_empty() { "none".to_owned() } else { dns.join(", ") };
    // Writing to a string does not fail.
    let _ = writeln!(text, "                   router {router}; name servers {dns}");
    if let Some(domain) = &config.domain {
        let _ = writeln!(text, "                   domain {domain}");
    }
    if let Some(mtu) = config.mtu {
        let _ = writeln!(text, "                   MTU {mtu}");
    }
}

/// The interfaces of these names.
fn named(all: &[Interface], config: &Config) -> Result<Vec<Interface>, ServeError> {
    let mut found = Vec::new();
    for name in &config.interfaces {
        let interface = all.iter().find(|interface| interface.name == *name);
        let interface = interface.ok_or_else(|| {
            let known = all.iter().map(|interface| interface.name.as_str());
            let known = known.collect::<Vec<_>>().join(", ");
            ServeError::NoInterface { name: name.clone(), known }
        })?;
        if interface.networks.is_empty() {
            return Err(ServeError::NoAddress(name.clone()));
        }
        if interface.mac.is_none() || !interface.broadcast {
            return Err(ServeError::Listen(ListenError::NotEthernet(name.clone())));
        }
        // Named twice, it would answer twice.
        if !found.contains(interface) {
            found.push(interface.clone());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod test {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::Raw;
    use crate::net::Mac;
    use crate::net::interface::Network;
    use crate::site::machine::Machine;

    fn interface(name: &str, networks: &[Network]) -> Interface {
        Interface {
            name: name.to_owned(),
            index: 1,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            networks: networks.to_vec(),
            up: true,
            broadcast: true,
            loopback: false,
        }
    }

    fn host() -> Vec<Interface> {
        let network = Network::new(Ipv4Addr::new(10, 0, 0, 1), 24);
        let loopback = Network::new(Ipv4Addr::LOCALHOST, 8);
        let loopback = interface("lo", &[loopback]);
        let loopback = Interface { loopback: true, broadcast: false, ..loopback };
        vec![loopback, interface("eth0", &[network]), interface("eth1", &[])]
    }

    fn outlook(text: &str, roster: &Roster) -> Result<Outlook, String> {
        let config = Config::try_from(Raw::parse(text).unwrap()).unwrap();
        Outlook::among(host(), &config, roster).map_err(|error| error.to_string())
    }

    fn refused(text: &str) -> String {
        outlook(text, &Roster::default()).unwrap_err()
    }

    #[test]
    fn without_names_all_that_have_an_address_are_taken() {
        let outlook = outlook("", &Roster::default()).unwrap();
        let names = outlook.interfaces.iter().map(|interface| interface.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["eth0"]);
    }

    #[test]
    fn what_cannot_be_served_is_said() {
        assert_eq!(
            refused("interfaces = [\"eth9\"]"),
            "there is no interface eth9: this host has lo, eth0, eth1"
        );
        assert_eq!(
            refused("interfaces = [\"eth1\"]"),
            "eth1 has no IPv4 address: give it one first, with `ip address add` or `ifconfig`"
        );
        assert_eq!(
            refused("interfaces = [\"lo\"]"),
            "lo: choose an Ethernet interface: this one cannot broadcast"
        );
        let serve = |range: &str| format!("mode = \"serve\"\nranges = [\"{range}\"]");
        assert_eq!(
            refused(&serve("10.0.1.5-10.0.1.9")),
            "range 10.0.1.5-10.0.1.9 lies in no network that is served: eth0 has 10.0.0.1/24"
        );
        assert_eq!(
            refused(&serve("10.0.0.1-10.0.0.9")),
            "range 10.0.0.1-10.0.0.9 holds 10.0.0.1, this host's own address: leave it out"
        );
        let stray = format!("{}\nrouter = \"10.0.9.1\"", serve("10.0.0.5-10.0.0.9"));
        assert!(
            refused(&stray).starts_with("router 10.0.9.1 lies in no network that is served: eth0")
        );
        assert!(refused("mode = \"serve\"").starts_with("mode serve has no addresses to hand out"));
    }

    #[test]
    fn an_address_that_nobody_can_get_is_told() {
        let mut roster = Roster::default();
        for (name, last) in
            [("web1", [10, 0, 0, 9]), ("web2", [10, 0, 9, 9]), ("web3", [10, 0, 0, 255])]
        {
            let machine = Machine { address: Some(last.into()), ..Machine::default() };
            roster.insert(name.parse().unwrap(), machine, false).unwrap();
        }
        let config = |text| Config::try_from(Raw::parse(text).unwrap()).unwrap();
        let serving = config("mode = \"serve\"");
        let outlook = Outlook::among(host(), &serving, &roster).unwrap();
        let stray = |address, name| {
            format!("{address} is kept for {name}, but lies in no network that is served")
        };
        let strays = [stray("10.0.9.9", "web2"), stray("10.0.0.255", "web3")];
        assert_eq!(outlook.strays(&serving, &roster), strays);
        assert!(outlook.strays(&config(""), &roster).is_empty());
    }

    #[test]
    fn an_interface_that_is_named_twice_is_served_once() {
        let outlook = outlook("interfaces = [\"eth0\", \"eth0\"]", &Roster::default()).unwrap();
        assert_eq!(outlook.interfaces.len(), 1);
    }

    #[test]
    fn an_interface_shows_the_ranges_of_its_own_networks() {
        let text = "mode = \"serve\"\nranges = [\"10.0.0.5-10.0.0.9\"]";
        let config = Config::try_from(Raw::parse(text).unwrap()).unwrap();
        let mut host = host();
        host.push(interface("eth2", &[Network::new(Ipv4Addr::new(10, 2, 0, 1), 24)]));
        let outlook = Outlook::among(host, &config, &Roster::default()).unwrap();
        assert_eq!(outlook.ranges(&config, "eth0"), ["10.0.0.5-10.0.0.9"]);
        assert!(outlook.ranges(&config, "eth2").is_empty());
    }

    #[test]
    fn reserved_addresses_are_enough_to_serve() {
        let address = Some(Ipv4Addr::new(10, 0, 0, 9));
        let machine = Machine { address, ..Machine::default() };
        let mut roster = Roster::default();
        roster.insert("web1".parse().unwrap(), machine, false).unwrap();
        assert!(outlook("mode = \"serve\"", &roster).is_ok());
    }
}
