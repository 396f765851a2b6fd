//! The interfaces that the server was told to use, found on this host and checked.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::ServeError;
use crate::config::{Config, Mode};
use crate::dhcp::{self, ListenError, Range, Subnet};
use crate::net::arp::Bounds;
use crate::net::interface::{Interface, Network};
use crate::site::machine::Roster;
use crate::site::networks::Networks;

/// The interfaces to serve, checked against what was written.
#[derive(Clone, Debug)]
pub struct Interfaces {
    /// The interfaces, by index.
    pub all: Vec<Interface>,
    /// The networks of this host, also of its other interfaces.
    host: Networks,
}

impl Interfaces {
    /// Finds the interfaces on this host.
    pub fn of(config: &Config, roster: &Roster) -> Result<Self, ServeError> {
        Self::among(Interface::all().map_err(ServeError::Interfaces)?, config, roster)
    }

    fn among(host: Vec<Interface>, config: &Config, roster: &Roster) -> Result<Self, ServeError> {
        let known = Networks::new(&host);
        let all = if config.interfaces.is_empty() {
            let fit = |interface: &Interface| {
                interface.up
                    && !interface.loopback
                    && interface.broadcast
                    && interface.mac.is_some()
                    && !interface.networks.is_empty()
            };
            host.into_iter().filter(fit).collect::<Vec<_>>()
        } else {
            named(&host, config)?
        };
        let interfaces = Self { all, host: known };
        match config.mode {
            Mode::Passive => {}
            Mode::Proxy if interfaces.all.is_empty() => return Err(ServeError::NoNetwork),
            Mode::Proxy => {}
            Mode::Serve => {
                interfaces.check_subnets(config)?;
                interfaces.check_ranges(config, roster)?;
                interfaces.check_router(config)?;
            }
        }
        Ok(interfaces)
    }

    /// A subnet of one of our wires has to be that network, else nobody is ever in it.
    fn check_subnets(&self, config: &Config) -> Result<(), ServeError> {
        for subnet in &config.subnets {
            let network = subnet.network;
            for interface in &self.all {
                let mut own = interface.networks.iter();
                let other = own.find(|own| own.overlaps(network) && !own.is_same(network));
                if let Some(other) = other {
                    return Err(ServeError::SubnetUnlike {
                        subnet: network,
                        interface: interface.name.clone(),
                        network: *other,
                    });
                }
            }
        }
        Ok(())
    }

    fn check_router(&self, config: &Config) -> Result<(), ServeError> {
        let Some(router) = config.router else { return Ok(()) };
        if self.served(config).any(|network| network.has_host(router)) {
            return Ok(());
        }
        let networks = self.describe_networks().collect::<Vec<_>>().join(", ");
        Err(ServeError::RouterOutside { router, networks })
    }

    fn check_ranges(&self, config: &Config, roster: &Roster) -> Result<(), ServeError> {
        if self.all.is_empty() {
            return Err(ServeError::NoNetwork);
        }
        let reserved = roster.iter().any(|(_, entry)| entry.machine.address.is_some());
        if config.all_ranges().next().is_none() && !reserved {
            return Err(ServeError::NothingToHandOut);
        }
        for range in config.all_ranges() {
            let inside = self
                .served(config)
                .any(|network| network.contains(range.first()) && network.contains(range.last()));
            if !inside {
                let networks = self.describe_networks().collect::<Vec<_>>().join(", ");
                return Err(ServeError::RangeOutside { range, networks });
            }
            if let Some(own) = self.networks().find(|network| range.contains(network.address)) {
                return Err(ServeError::RangeOwn { range, address: own.address });
            }
        }
        Ok(())
    }

    /// Checks that DHCP listens, which it does on `listened`, wherever a range lies.
    pub(super) fn check_listened(
        &self,
        config: &Config,
        listened: &Self,
    ) -> Result<(), ServeError> {
        if config.mode != Mode::Serve {
            return Ok(());
        }
        let is_new = |one: &&Interface| !listened.all.iter().any(|known| known.name == one.name);
        for range in config.all_ranges() {
            let here =
                |one: &&Interface| one.networks.iter().any(|own| own.contains(range.first()));
            // Two interfaces may be on one network, and one that listens is enough.
            if self.all.iter().any(|one| here(&one) && !is_new(&one)) {
                continue;
            }
            if let Some(interface) = self.all.iter().find(here) {
                return Err(ServeError::NotListened { range, interface: interface.name.clone() });
            }
        }
        Ok(())
    }

    /// The networks of our wires.
    fn networks(&self) -> impl Iterator<Item = Network> {
        self.all.iter().flat_map(|interface| interface.networks.iter().copied())
    }

    /// The subnets that no interface has an address in.
    fn relayed<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = &'a Subnet> {
        let is_own = |subnet: &&Subnet| self.networks().any(|own| own.is_same(subnet.network));
        config.subnets.iter().filter(move |subnet| !is_own(subnet))
    }

    /// All networks that machines may be in.
    fn served(&self, config: &Config) -> impl Iterator<Item = Network> {
        let relayed = self.relayed(config).map(|subnet| subnet.network).collect::<Vec<_>>();
        self.networks().chain(relayed)
    }

    /// Interfaces with their addresses, for people.
    fn describe_networks(&self) -> impl Iterator<Item = String> {
        self.all.iter().flat_map(|interface| {
            let name = &interface.name;
            interface.networks.iter().map(move |network| format!("{name} has {network}"))
        })
    }

    /// What is handed out in a network, for people.
    pub(super) fn handed_out(config: &Config, network: Network) -> String {
        let inside = |range: &Range| network.contains(range.first());
        let ranges = config.all_ranges().filter(inside).map(|range| range.to_string());
        let ranges = ranges.collect::<Vec<_>>();
        let ranges = match ranges.is_empty() {
            true => "reserved addresses only".to_owned(),
            false => ranges.join(", "),
        };
        format!("{ranges}, for {} s", config.parameters_of(network).lease.as_secs())
    }

    /// The networks behind relay agents with what is handed out there, a line for each.
    pub(super) fn describe_relayed(&self, config: &Config) -> Vec<String> {
        let relayed = self.relayed(config).map(|subnet| {
            let network = subnet.network;
            let handed_out = Self::handed_out(config, network);
            format!("DHCP {network} behind relay agents: serves {handed_out}")
        });
        relayed.collect()
    }

    /// Which addresses machines can have.
    #[must_use]
    pub fn addresses(&self, config: &Config) -> Networks {
        match config.mode {
            Mode::Passive | Mode::Proxy => self.host.clone(),
            Mode::Serve => self.host.clone().serving(self.served(config).collect()),
        }
    }

    /// How many machines may be on our wires at once, each with an entry in the table of neighbours;
    /// those behind relay agents are reached by their routers.
    pub(super) fn machines(&self, config: &Config, roster: &Roster) -> u64 {
        let is_own = |address| self.networks().any(|own| own.contains(address));
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        match config.mode {
            Mode::Passive => 0,
            // Another server gives the addresses, nobody here knows how many.
            Mode::Proxy => count(roster.iter().count()),
            Mode::Serve => {
                let ranges = config.all_ranges().filter(|range| is_own(range.first()));
                let kept = roster.iter().filter_map(|(_, entry)| entry.machine.address);
                let is_of_range =
                    |address| config.all_ranges().any(|range| range.contains(address));
                let kept = kept.filter(|address| is_own(*address) && !is_of_range(*address));
                ranges.map(Range::len).fold(count(kept.count()), u64::saturating_add)
            }
        }
    }

    /// What this host has no room for, and what to do.
    pub(super) fn shortage(&self, config: &Config, roster: &Roster) -> Option<String> {
        Bounds::of_host()?.shortage(self.machines(config, roster))
    }

    /// What the server would do, for `serve -n`.
    #[must_use]
    pub fn describe(&self, config: &Config, roster: &Roster) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(text, "boot environments  {}", config.store);
        let _ = writeln!(text, "state              {}", config.state.display());
        for interface in &self.all {
            for network in &interface.networks {
                let networks = format!("{} has {network}", interface.name);
                let _ = match config.mode {
                    Mode::Passive => writeln!(text, "DHCP               listens: {networks}"),
                    Mode::Proxy => {
                        writeln!(text, "DHCP               names boot files: {networks}")
                    }
                    Mode::Serve => writeln!(text, "DHCP               serves: {networks}"),
                };
                if config.mode == Mode::Serve {
                    let own = dhcp::forwards().then_some("this host, which forwards");
                    describe_subnet(&mut text, config, *network, own.unwrap_or("none"));
                }
            }
        }
        for subnet in self.relayed(config) {
            let network = subnet.network;
            let _ = writeln!(text, "DHCP               serves: {network} behind relay agents");
            let relays = subnet.relays.iter().map(|relay| match relay.prefix() {
                32 => relay.address.to_string(),
                _ => relay.to_string(),
            });
            let relays = relays.collect::<Vec<_>>();
            if !relays.is_empty() {
                let _ = writeln!(text, "                   relay agents {}", relays.join(", "));
            }
            describe_subnet(&mut text, config, network, "the relay agent");
        }
        let _ = writeln!(text, "TFTP               port 69");
        let _ = writeln!(text, "HTTP               {}", config.http);
        let _ = writeln!(text, "NFS                port 2049, MOUNT port 20048, port mapper 111");
        if let Some(default) = &config.default {
            let _ = writeln!(text, "unknown machines   boot {default}, read-only");
        }
        for stray in self.addresses(config).strays(roster) {
            let _ = writeln!(text, "not handed out     {stray}");
        }
        if let Some(shortage) = self.shortage(config, roster) {
            let _ = writeln!(text, "too many machines  {shortage}");
        }
        text
    }
}

/// What machines get in a network.
fn describe_subnet(text: &mut String, config: &Config, network: Network, router: &str) {
    let parameters = config.parameters_of(network);
    let list = |addresses: Vec<Ipv4Addr>, none: &str| match addresses.is_empty() {
        true => none.to_owned(),
        false => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let reached = parameters.routers.iter().filter(|router| network.contains(**router));
    let router = list(reached.copied().collect(), router);
    let dns = list(parameters.name_servers, "none");
    let handed_out = Interfaces::handed_out(config, network);
    // Writing to a string does not fail.
    let _ = writeln!(text, "                   hands out {handed_out}");
    let _ = writeln!(text, "                   router {router}; name servers {dns}");
    if let Some(domain) = &parameters.domain {
        let _ = writeln!(text, "                   domain {domain}");
    }
    if let Some(mtu) = parameters.mtu {
        let _ = writeln!(text, "                   MTU {mtu}");
    }
    if !parameters.options.is_empty() {
        let codes = parameters.options.iter().map(|(code, _)| code.to_string());
        let _ =
            writeln!(text, "                   options {}", codes.collect::<Vec<_>>().join(", "));
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
    use super::*;
    use crate::config::Raw;
    use crate::net::Mac;
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
            mtu: Some(1500),
        }
    }

    fn host() -> Vec<Interface> {
        let network = Network::new(Ipv4Addr::new(10, 0, 0, 1), 24);
        let loopback = Network::new(Ipv4Addr::LOCALHOST, 8);
        let loopback = interface("lo", &[loopback]);
        let loopback = Interface { loopback: true, broadcast: false, ..loopback };
        vec![loopback, interface("eth0", &[network]), interface("eth1", &[])]
    }

    fn interfaces(text: &str, roster: &Roster) -> Result<Interfaces, String> {
        let config = Config::try_from(Raw::parse(text).unwrap()).unwrap();
        Interfaces::among(host(), &config, roster).map_err(|error| error.to_string())
    }

    fn refused(text: &str) -> String {
        interfaces(text, &Roster::default()).unwrap_err()
    }

    #[test]
    fn without_names_all_that_have_an_address_are_taken() {
        let interfaces = interfaces("", &Roster::default()).unwrap();
        let names = interfaces.all.iter().map(|interface| interface.name.as_str());
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
        for (name, last) in [
            ("web1", [10, 0, 0, 9]),
            ("web2", [10, 0, 9, 9]),
            ("web3", [10, 0, 0, 255]),
            ("web4", [10, 0, 0, 0]),
            ("web5", [10, 0, 0, 1]),
            ("web6", [10, 3, 0, 9]),
            ("web7", [10, 3, 0, 255]),
        ] {
            let machine = Machine { address: Some(last.into()), ..Machine::default() };
            roster.insert(name.parse().unwrap(), machine, false).unwrap();
        }
        let strays = |text| {
            let config = Config::try_from(Raw::parse(text).unwrap()).unwrap();
            let found = Interfaces::among(host(), &config, &roster).unwrap();
            found.addresses(&config).strays(&roster).join("\n")
        };
        let own = "10.0.0.255 is reserved for web3, but is the broadcast address of 10.0.0.0/24\n\
                   10.0.0.0 is reserved for web4, but is the address of the network 10.0.0.0/24 itself\n\
                   10.0.0.1 is reserved for web5, but is this host's own address";
        assert_eq!(strays(""), own);
        let outside = |address: &str, name: &str, served: &str| {
            format!(
                "{address} is reserved for {name}, but lies in no network that is served: {served}"
            )
        };
        let served = "10.0.0.0/24";
        let expected = [
            outside("10.0.9.9", "web2", served),
            own.to_owned(),
            outside("10.3.0.9", "web6", served),
            outside("10.3.0.255", "web7", served),
        ];
        assert_eq!(strays("mode = \"serve\""), expected.join("\n"));
        // Machines behind a relay agent lie in no network of an interface.
        let relayed = "mode = \"serve\"\n[subnets.\"10.3.0.0/24\"]";
        let expected = [
            outside("10.0.9.9", "web2", "10.0.0.0/24, 10.3.0.0/24"),
            own.to_owned(),
            "10.3.0.255 is reserved for web7, but is the broadcast address of 10.3.0.0/24"
                .to_owned(),
        ];
        assert_eq!(strays(relayed), expected.join("\n"));
    }

    #[test]
    fn an_interface_that_is_named_twice_is_served_once() {
        let interfaces =
            interfaces("interfaces = [\"eth0\", \"eth0\"]", &Roster::default()).unwrap();
        assert_eq!(interfaces.all.len(), 1);
    }

    /// What `serve -n` says of DHCP.
    fn described(text: &str) -> String {
        let config = Config::try_from(Raw::parse(text).unwrap()).unwrap();
        let mut host = host();
        let second = Network::new(Ipv4Addr::new(10, 2, 0, 1), 24);
        if let Some(eth0) = host.iter_mut().find(|interface| interface.name == "eth0") {
            eth0.networks.push(second);
        }
        let interfaces = Interfaces::among(host, &config, &Roster::default()).unwrap();
        let text = interfaces.describe(&config, &Roster::default());
        let from = text.find("DHCP").unwrap_or_default();
        text[from..text.find("TFTP").unwrap_or(text.len())].to_owned()
    }

    #[test]
    fn every_subnet_is_shown_with_what_its_machines_get() {
        let text = described(
            r#"
            mode = "serve"
            ranges = ["10.0.0.5-10.0.0.9"]
            router = "10.0.0.254"
            dns = ["10.0.0.53"]
            [subnets."10.2.0.0/24"]
            ranges = ["10.2.0.5-10.2.0.9"]
            router = "10.2.0.254"
            lease = 600
            [subnets."10.3.0.0/24"]
            relays = ["192.168.9.1"]
            mtu = 1400
            options = { "42" = "10.3.0.5" }
            "#,
        );
        let shown = "DHCP               serves: eth0 has 10.0.0.1/24\n\
                     \u{20}                  hands out 10.0.0.5-10.0.0.9, for 3600 s\n\
                     \u{20}                  router 10.0.0.254; name servers 10.0.0.53\n\
                     DHCP               serves: eth0 has 10.2.0.1/24\n\
                     \u{20}                  hands out 10.2.0.5-10.2.0.9, for 600 s\n\
                     \u{20}                  router 10.2.0.254; name servers 10.0.0.53\n\
                     DHCP               serves: 10.3.0.0/24 behind relay agents\n\
                     \u{20}                  relay agents 192.168.9.1\n\
                     \u{20}                  hands out reserved addresses only, for 3600 s\n\
                     \u{20}                  router the relay agent; name servers 10.0.0.53\n\
                     \u{20}                  MTU 1400\n\
                     \u{20}                  options 42\n";
        assert_eq!(text, shown);
    }

    #[test]
    fn a_subnet_that_is_not_quite_an_interfaces_network_is_refused() {
        assert_eq!(
            refused(
                "mode = \"serve\"\n[subnets.\"10.0.0.0/16\"]\nranges = [\"10.0.5.1-10.0.5.9\"]"
            ),
            "subnet 10.0.0.0/16 shares addresses with 10.0.0.1/24 of eth0, but is another network: \
             write the prefix that the interface has, or change the interface's"
        );
    }

    #[test]
    fn machines_on_our_wires_are_counted_once() {
        let mut roster = Roster::default();
        for (name, last) in
            [("web1", [10, 0, 0, 9]), ("web2", [10, 0, 0, 99]), ("web3", [10, 3, 0, 9])]
        {
            let machine = Machine { address: Some(last.into()), ..Machine::default() };
            roster.insert(name.parse().unwrap(), machine, false).unwrap();
        }
        let count = |text: &str| {
            let config = Config::try_from(Raw::parse(text).unwrap()).unwrap();
            Interfaces::among(host(), &config, &roster).unwrap().machines(&config, &roster)
        };
        let relayed = "[subnets.\"10.3.0.0/24\"]\nranges = [\"10.3.0.100-10.3.0.199\"]";
        let own = "mode = \"serve\"\nranges = [\"10.0.0.5-10.0.0.14\"]";
        assert_eq!(count(&format!("{own}\n{relayed}")), 11);
        assert_eq!(count("mode = \"proxy\""), 3);
        assert_eq!(count("mode = \"passive\""), 0);
    }

    #[test]
    fn reserved_addresses_are_enough_to_serve() {
        let address = Some(Ipv4Addr::new(10, 0, 0, 9));
        let machine = Machine { address, ..Machine::default() };
        let mut roster = Roster::default();
        roster.insert("web1".parse().unwrap(), machine, false).unwrap();
        assert!(interfaces("mode = \"serve\"", &roster).is_ok());
    }
}
