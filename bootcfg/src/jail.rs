//! FreeBSD's jail.conf(5), for a jail whose root is a boot environment.

pub mod file;
mod read;

use std::net::IpAddr;

use crate::error::{interface, refuse};
use crate::{ConfigError, Mac};

pub use self::read::read;

/// A jail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Jail {
    /// Its name, which is its host name too.
    pub name: String,
    /// The directory that is its root.
    pub path: String,
    /// The fstab(5) of what is mounted before it starts.
    pub fstab: Option<String>,
    /// Its network.
    pub network: Network,
}

/// The network of a jail.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Network {
    /// It has none.
    #[default]
    None,
    /// Addresses of the host are its own.
    Shared {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// The interface of this host that is given them while it runs.
        interface: Option<String>,
    },
    /// It has a network stack of its own (VNET), which an epair(4) joins to a bridge of the host.
    Own(Vnet),
}

/// A network stack of a jail's own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vnet {
    /// The bridge of the host.
    pub bridge: String,
    /// The Ethernet address of the jail's interface: the kernel would choose another one each time.
    pub mac: Mac,
    /// Its addresses and the lengths of their networks' prefixes; without any, its own rc.conf(5) says them.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Its routers: one for each family at most.
    pub gateways: Vec<IpAddr>,
}

/// The definition of a jail, as the file has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Definition {
    /// The jail's name.
    pub name: String,
    /// What is said of it.
    pub parameters: Vec<Parameter>,
}

/// A parameter of a jail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its values; none for what is only switched on.
    pub values: Vec<String>,
}

/// The definition of a FreeBSD that starts by its own rc(8).
pub fn define(jail: &Jail) -> Result<Definition, ConfigError> {
    let mut parameters = vec![one("path", &jail.path), one("host.hostname", &jail.name)];
    parameters.extend(jail.fstab.as_ref().map(|fstab| one("mount.fstab", fstab)));
    parameters.push(of("mount.devfs", Vec::new()));
    parameters.extend(match &jail.network {
        Network::None => Vec::new(),
        Network::Shared { addresses, interface } => shared(addresses, interface.as_deref()),
        Network::Own(vnet) => stack(&jail.name, vnet)?,
    });
    parameters.push(of("exec.clean", Vec::new()));
    let mut start = match &jail.network {
        Network::Own(vnet) => configure(&jail.name, vnet),
        Network::None | Network::Shared { .. } => Vec::new(),
    };
    // What rc(8) starts finds the network there.
    start.push("/bin/sh /etc/rc".to_owned());
    parameters.push(of("exec.start", start));
    parameters.push(one("exec.stop", "/bin/sh /etc/rc.shutdown jail"));
    // What its rc says would be lost when nobody looks at the terminal that started it.
    let log = format!("/var/log/jail_console_{}.log", jail.name);
    parameters.push(one("exec.consolelog", &log));
    Ok(Definition { name: jail.name.clone(), parameters })
}

fn of(name: &str, values: Vec<String>) -> Parameter {
    Parameter { name: name.to_owned(), values }
}

fn one(name: &str, value: &str) -> Parameter {
    of(name, vec![value.to_owned()])
}

fn shared(addresses: &[IpAddr], interface: Option<&str>) -> Vec<Parameter> {
    let mut parameters: Vec<_> =
        interface.iter().map(|interface| one("interface", interface)).collect();
    for (name, v4) in [("ip4.addr", true), ("ip6.addr", false)] {
        let own = addresses.iter().filter(|address| address.is_ipv4() == v4);
        let own: Vec<String> = own.map(ToString::to_string).collect();
        parameters.extend((!own.is_empty()).then(|| of(name, own)));
    }
    parameters
}

/// A network stack of its own: what is made for it before it starts goes when it has stopped, and what a start
/// that failed has left goes first.
fn stack(name: &str, vnet: &Vnet) -> Result<Vec<Parameter>, ConfigError> {
    let Vnet { bridge, mac, addresses, gateways } = vnet;
    // route(8) takes no router that it has no network for, and the jail would not start.
    let is_near = |router: &&IpAddr| addresses.iter().any(|own| is_in(**router, *own));
    if let Some(router) = gateways.iter().find(|router| !is_near(router)) {
        let reason = "it is in no network of the jail's addresses: give an address with the prefix length \
                      of the router's network";
        return Err(wrong("the gateway", &router.to_string(), reason));
    }
    let (near, far) = (near(name), far(name));
    // They are words of a shell's command.
    for word in [bridge, &near, &far] {
        interface(word, FORMAT, true)?;
    }
    let make = format!(
        "ifconfig {near} destroy 2>/dev/null; pair=$(ifconfig epair create) && ifconfig $pair name {near} \
         >/dev/null && ifconfig ${{pair%a}}b name {far} >/dev/null"
    );
    let join = format!(
        "ifconfig {far} ether {mac} && ifconfig {bridge} addm {near} && ifconfig {near} up"
    );
    Ok(vec![
        // devfs.rules(5) has a set for jails with a network stack: that of the others hides pf(4).
        one("devfs_ruleset", "5"),
        of("vnet", Vec::new()),
        one("vnet.interface", &far),
        of("exec.prestart", vec![make, join]),
        // Both ends go with one of them.
        one("exec.poststop", &format!("ifconfig {near} destroy")),
    ])
}

/// Whether an address is in the network of another.
fn is_in(address: IpAddr, (own, prefix): (IpAddr, u8)) -> bool {
    let (differs, width) = match (address, own) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(one.to_bits() ^ other.to_bits()), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits(), 128),
        _ => return false,
    };
    let host = u32::from(u8::saturating_sub(width, prefix));
    differs.checked_shr(host).unwrap_or(0) == 0
}

/// The commands by which the jail's interface gets its addresses, inside of it.
fn configure(name: &str, vnet: &Vnet) -> Vec<String> {
    let family = |address: &IpAddr| if address.is_ipv4() { "inet" } else { "inet6" };
    let address = |(address, prefix): &(IpAddr, u8)| {
        format!("/sbin/ifconfig {} {} {address}/{prefix} alias up", far(name), family(address))
    };
    let route =
        |router: &IpAddr| format!("/sbin/route -q add -{} default {router}", family(router));
    vnet.addresses.iter().map(address).chain(vnet.gateways.iter().map(route)).collect()
}

/// The end of a jail's epair(4) that the host keeps.
fn near(name: &str) -> String {
    format!("e0a_{name}")
}

/// The end that the jail gets.
fn far(name: &str) -> String {
    format!("e0b_{name}")
}

/// The text of a jail.conf.
pub fn render(definitions: &[Definition]) -> Result<String, ConfigError> {
    let mut text = String::new();
    for Definition { name, parameters } in definitions {
        // jail(8) takes a name with dots for a jail inside of another, and a number for a jail's id.
        let reason = "a jail's name has letters, digits, hyphens and underscores, and not digits \
                      alone: rename it";
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        refuse("the name", name, FORMAT, reason, |c| !plain(c))?;
        if name.chars().all(|c| c.is_ascii_digit()) || name.starts_with('-') {
            return Err(wrong("the name", name, reason));
        }
        text += &format!("{name} {{\n");
        for Parameter { name, values } in parameters {
            let reason = "it is made of small letters, digits, dots and underscores";
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
            refuse("the parameter", name, FORMAT, reason, |c| !plain(c))?;
            if name.is_empty() {
                return Err(wrong("the parameter", name, reason));
            }
            if ["interface", "vnet.interface"].contains(&name.as_str()) {
                values.iter().try_for_each(|value| interface(value, FORMAT, true))?;
            }
            let values = values.iter().map(|value| quoted(value)).collect::<Result<Vec<_>, _>>()?;
            let value = if values.is_empty() { String::new() } else { " = ".to_owned() };
            text += &format!("    {name}{value}{};\n", values.join(", "));
        }
        text += "}\n";
    }
    Ok(text)
}

/// A value in double quotes, in which only these three characters mean something else.
fn quoted(value: &str) -> Result<String, ConfigError> {
    refuse("the value", value, FORMAT, "it has a control character", char::is_control)?;
    let mut text = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '$') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    Ok(text)
}

fn wrong(what: &'static str, value: &str, reason: &'static str) -> ConfigError {
    ConfigError::Character { what, value: value.to_owned(), format: FORMAT, reason }
}

const FORMAT: &str = "a jail.conf";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;

    fn web() -> Jail {
        Jail { name: "web".into(), path: "/jails/web".into(), fstab: None, network: Network::None }
    }

    fn shared(addresses: Vec<IpAddr>, interface: Option<&str>) -> Jail {
        let interface = interface.map(str::to_owned);
        Jail { network: Network::Shared { addresses, interface }, ..web() }
    }

    fn vnet() -> Vnet {
        Vnet {
            bridge: "bridge0".into(),
            mac: Mac([2, 1, 2, 3, 4, 5]),
            addresses: vec![("10.0.0.5".parse().unwrap(), 24), ("fd00::5".parse().unwrap(), 64)],
            gateways: vec!["10.0.0.1".parse().unwrap()],
        }
    }

    #[test]
    fn a_jail_has_what_its_rc_needs() {
        assert_eq!(
            render(&[define(&web()).unwrap()]).unwrap(),
            "web {\n    path = \"/jails/web\";\n    host.hostname = \"web\";\n    mount.devfs;\n    \
             exec.clean;\n    exec.start = \"/bin/sh /etc/rc\";\n    exec.stop = \"/bin/sh \
             /etc/rc.shutdown jail\";\n    exec.consolelog = \"/var/log/jail_console_web.log\";\n}\n"
        );
    }

    #[test]
    fn addresses_are_lists_by_family() {
        let addresses = ["10.0.0.5", "fd00::5", "10.0.0.6"].map(|text| text.parse().unwrap());
        let text = render(&[define(&shared(addresses.to_vec(), Some("em0"))).unwrap()]).unwrap();
        let lines = "    interface = \"em0\";\n    ip4.addr = \"10.0.0.5\", \"10.0.0.6\";\n    \
                     ip6.addr = \"fd00::5\";\n";
        assert!(text.contains(lines), "{text}");
    }

    #[test]
    fn a_network_stack_of_its_own_is_made_before_rc_and_taken_away_after_it() {
        let definition = define(&Jail { network: Network::Own(vnet()), ..web() }).unwrap();
        let text = render(std::slice::from_ref(&definition)).unwrap();
        let lines = "    devfs_ruleset = \"5\";
    vnet;
    vnet.interface = \"e0b_web\";
    exec.prestart = \"ifconfig e0a_web destroy 2>/dev/null; pair=\\$(ifconfig epair create) && ifconfig \\$pair \
                     name e0a_web >/dev/null && ifconfig \\${pair%a}b name e0b_web >/dev/null\", \"ifconfig e0b_web \
                     ether 02:01:02:03:04:05 && ifconfig bridge0 addm e0a_web && ifconfig e0a_web up\";
    exec.poststop = \"ifconfig e0a_web destroy\";
    exec.clean;
    exec.start = \"/sbin/ifconfig e0b_web inet 10.0.0.5/24 alias up\", \"/sbin/ifconfig e0b_web inet6 fd00::5/64 \
                     alias up\", \"/sbin/route -q add -inet default 10.0.0.1\", \"/bin/sh /etc/rc\";
";
        assert!(text.contains(lines), "{text}");
        assert_eq!(read(&text).whole(), Ok(vec![definition]));
        let refused = |jail: Jail| define(&jail).unwrap_err().to_string();
        let long = Jail { name: "a-longer-name".into(), network: Network::Own(vnet()), ..web() };
        assert!(refused(long).contains("is too long"));
        let bridge = "bridge0; reboot".to_owned();
        let odd = Jail { network: Network::Own(Vnet { bridge, ..vnet() }), ..web() };
        assert!(refused(odd).contains("the interface"));
    }

    #[test]
    fn what_would_be_a_variable_is_written_as_it_is() {
        let text =
            render(&[define(&Jail { path: "/a $b\\\"c".into(), ..web() }).unwrap()]).unwrap();
        assert!(text.contains("path = \"/a \\$b\\\\\\\"c\";\n"), "{text}");
        assert!(render(&[define(&Jail { path: "/a\nb".into(), ..web() }).unwrap()]).is_err());
    }

    #[test]
    fn a_name_that_jail_takes_for_something_else_is_refused() {
        for name in ["", "14.3", "7", "a b", "*", "-r", "a{"] {
            let refused =
                render(&[define(&Jail { name: name.into(), ..web() }).unwrap()]).unwrap_err();
            assert!(refused.to_string().contains("a jail's name has"), "{refused}");
        }
    }

    #[test]
    fn what_is_no_interfaces_name_is_refused() {
        let on = |name: &str| render(&[define(&shared(Vec::new(), Some(name))).unwrap()]);
        on("em0.100").unwrap();
        for name in ["", "em0 em1", "em0;", "interface-of-16b"] {
            let refused = on(name).unwrap_err();
            assert!(refused.to_string().contains("the interface"), "{refused}");
        }
    }

    #[test]
    fn people_write_it_in_other_ways_too() {
        let text = "# one\n/* two\n */ web { // three\n  path=/jails/'my web';\n a = b,\"c d\"; e;\n\
                    }\nx{}";
        let parameter = |name: &str, values: &[&str]| Parameter {
            name: name.into(),
            values: values.iter().map(|&value| value.into()).collect(),
        };
        let parameters = vec![
            parameter("path", &["/jails/my web"]),
            parameter("a", &["b", "c d"]),
            parameter("e", &[]),
        ];
        let x = Definition { name: "x".into(), parameters: Vec::new() };
        let all = vec![Definition { name: "web".into(), parameters }, x];
        assert_eq!(read(text).whole(), Ok(all));
        for (text, line) in [
            ("a {\n b = \"$c\"; }", 2),
            ("a {\n b = c }", 2),
            ("\na {", 2),
            ("a { b = ; }", 1),
            ("a = b;", 1),
            ("a {\n b = \"c\n", 2),
            ("a { b = \\n; }", 1),
            ("/* a", 1),
        ] {
            let diagnostics = read(text).diagnostics;
            assert_eq!(diagnostics.len(), 1, "{text}");
            assert_eq!(diagnostics[0].line, line, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            name in "[a-z0-9-]{1,4}|[ -~]{0,3}",
            parameters in prop::collection::vec(
                ("[a-z._]{1,6}|[ -~]{0,2}", prop::collection::vec("[ -~ä\t]{0,6}", 0..3)), 0..4),
        ) {
            let parameters = parameters.into_iter();
            let parameters = parameters.map(|(name, values)| Parameter { name, values }).collect();
            let definition = Definition { name, parameters };
            if let Ok(text) = render(std::slice::from_ref(&definition)) {
                prop_assert_eq!(read(&text).whole(), Ok(vec![definition]));
            }
        }

        #[test]
        fn nothing_that_is_read_panics(text in "[ -~\n]{0,60}|a ?\\{([a=,;\"'\\\\/*#$} \n]){0,20}") {
            let _ = read(&text);
        }
    }
}
