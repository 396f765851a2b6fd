//! What another DHCP server tells machines, so that they boot from netbe: lines for dnsmasq, ISC dhcpd
//! and Kea.
//!
//! A value goes into all three unquoted or between plain quotes: what any of them would act on is
//! refused.

mod dhcpd;
mod dnsmasq;
pub mod hosts;
mod kea;

use std::net::Ipv4Addr;

use crate::error::refuse;
use crate::rule::{Reading, Rule};
use crate::{ConfigError, Mac};

/// What machines are told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advice {
    /// netbe's address.
    pub server: Ipv4Addr,
    /// Who is told it; everybody if it is nobody.
    pub machine: Option<Machine>,
    /// The files that firmware loads by TFTP, by the kind of firmware, each once.
    pub files: Vec<(Firmware, String)>,
    /// What iPXE gets in their place: the URL of a script.
    pub ipxe: Option<String>,
    /// The root for FreeBSD's loader and kernel, as `SERVER:PATH`.
    pub root_path: Option<String>,
    /// Words for FreeBSD's kernel environment, as `name=value`, sent in options 250 and up; 5 at most.
    pub variables: Vec<String>,
}

/// A machine that another DHCP server is to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Machine {
    /// Its host name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The address that is kept for it.
    pub address: Option<Ipv4Addr>,
}

/// A kind of firmware.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Firmware {
    /// x86 BIOS.
    Bios,
    /// x64 UEFI.
    Uefi,
    /// 64-bit ARM UEFI.
    UefiArm64,
}

/// The program that hands out the addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Server {
    /// ISC dhcpd.
    Dhcpd,
    /// dnsmasq.
    Dnsmasq,
    /// Kea.
    Kea,
}

impl Firmware {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Bios, Self::Uefi, Self::UefiArm64];

    /// Its name in tags and classes.
    const fn name(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
            Self::UefiArm64 => "arm64",
        }
    }

    /// Its numbers in option 93; x64 firmware sends that of EBC too, by an old mistake.
    const fn numbers(self) -> &'static [u8] {
        match self {
            Self::Bios => &[0],
            Self::Uefi => &[7, 9],
            Self::UefiArm64 => &[11],
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The lines for a server.
pub fn render(advice: &Advice, server: Server) -> Result<String, ConfigError> {
    advice.check()?;
    Ok(match server {
        Server::Dhcpd => dhcpd::render(advice),
        Server::Dnsmasq => dnsmasq::render(advice),
        Server::Kea => kea::render(advice),
    })
}

/// Reads such lines; what is no advice of ours is a diagnostic.
#[must_use]
pub fn read(text: &str, server: Server) -> Reading<Advice> {
    let mut reading = Reading::default();
    let read = match server {
        Server::Dhcpd => dhcpd::read(text),
        Server::Dnsmasq => dnsmasq::read(text),
        Server::Kea => kea::read(text),
    };
    match read {
        Ok(advice) => reading.add(1, advice),
        Err((line, message)) => reading.report(line, Rule::Syntax, message),
    }
    reading
}

impl Advice {
    fn check(&self) -> Result<(), ConfigError> {
        let value = |what, text: &str| {
            let reason = "only letters, digits and . : / _ - ~ % + = @ are possible";
            let fits = |c: char| c.is_ascii_alphanumeric() || SIGNS.contains(c);
            refuse(what, text, FORMAT, reason, |c| !fits(c))?;
            if text.is_empty() || text.starts_with('-') {
                let value = text.to_owned();
                return Err(ConfigError::Character { what, value, format: FORMAT, reason });
            }
            Ok(())
        };
        if let Some(machine) = &self.machine {
            let reason = "write only letters, digits, dots and hyphens";
            let fits = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
            let name = &machine.name;
            refuse("the name", name, FORMAT, reason, |c| !fits(c))?;
            if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
                let (what, value) = ("the name", name.clone());
                let reason = "begin it with a letter, or it is taken for an address";
                return Err(ConfigError::Character { what, value, format: FORMAT, reason });
            }
        }
        for (_, file) in &self.files {
            value("the boot file", file)?;
        }
        self.ipxe.iter().try_for_each(|url| value("the URL", url))?;
        self.root_path.iter().try_for_each(|path| value("the root path", path))?;
        let many = "FreeBSD's loader reads variables from options 250 to 254 only";
        if let Some(one_more) = self.variables.get(VARIABLES.len()) {
            let (what, value) = ("the variable", one_more.clone());
            return Err(ConfigError::Character { what, value, format: FORMAT, reason: many });
        }
        self.variables.iter().try_for_each(|word| value("the variable", word))
    }

    /// Variables with the options that carry them.
    fn numbered(&self) -> impl Iterator<Item = (u8, &str)> {
        VARIABLES.into_iter().zip(self.variables.iter().map(String::as_str))
    }

    /// Advice that a reader fills.
    const fn empty() -> Self {
        Self {
            server: Ipv4Addr::UNSPECIFIED,
            machine: None,
            files: Vec::new(),
            ipxe: None,
            root_path: None,
            variables: Vec::new(),
        }
    }
}

/// What a reader makes of a text, or the line that it does not understand, and why.
type Read = Result<Advice, (usize, String)>;

/// The options that FreeBSD's loader takes variables from, one each (stand/libsa/bootp.c).
const VARIABLES: [u8; 5] = [250, 251, 252, 253, 254];
const SIGNS: &str = ".:/_-~%+=@";
const FORMAT: &str = "another DHCP server's configuration";

#[cfg(test)]
pub(crate) mod test {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn linux() -> Advice {
        Advice {
            server: Ipv4Addr::new(10, 77, 0, 1),
            machine: Some(Machine {
                name: "web1".into(),
                mac: Mac([0x52, 0x54, 0, 0, 0, 1]),
                address: Some(Ipv4Addr::new(10, 77, 0, 9)),
            }),
            files: vec![
                (Firmware::Bios, "undionly.kpxe".into()),
                (Firmware::Uefi, "snponly.efi".into()),
            ],
            ipxe: Some("http://10.77.0.1/boot.ipxe".into()),
            ..Advice::empty()
        }
    }

    pub(super) fn freebsd() -> Advice {
        Advice {
            server: Ipv4Addr::new(10, 77, 0, 1),
            files: vec![(Firmware::Bios, "pxeboot".into()), (Firmware::Uefi, "loader.efi".into())],
            root_path: Some("10.77.0.1:/be/free".into()),
            variables: vec!["boot.nfsroot.options=nolockd".into()],
            ..Advice::empty()
        }
    }

    #[test]
    fn what_a_server_would_act_on_is_refused() {
        for bad in ["", "-x", "a b", "a,b", "a\"b", "a;b", "a#b", "a\nb", "a\\b", "é", "${a}"] {
            let path = Advice { root_path: Some(bad.into()), ..freebsd() };
            let url = Advice { ipxe: Some(bad.into()), ..linux() };
            let file = Advice { files: vec![(Firmware::Bios, bad.into())], ..linux() };
            for advice in [path, url, file] {
                assert!(render(&advice, Server::Dnsmasq).is_err(), "{bad:?}");
            }
        }
        for bad in ["", "1.2.3.4", "a_b", "a b", "a\n}"] {
            let machine = linux().machine.map(|own| Machine { name: bad.into(), ..own });
            assert!(render(&Advice { machine, ..linux() }, Server::Kea).is_err(), "{bad:?}");
        }
        let variables = vec!["a=b".into(); 6];
        assert!(render(&Advice { variables, ..freebsd() }, Server::Dhcpd).is_err());
    }

    #[test]
    fn what_is_no_advice_is_reported() {
        for server in [Server::Dhcpd, Server::Dnsmasq, Server::Kea] {
            for text in ["", "x", "{", "host a {", "dhcp-boot=x", "{\"Dhcp4\": 1}"] {
                assert!(read(text, server).whole().is_err(), "{server:?} {text:?}");
            }
        }
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z0-9.:/_~%+=@-]{1,12}", "[ -~é]{0,6}"]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            server: u32,
            machine in prop::option::of(
                ("[a-z0-9.-]{1,9}|[ -~]{1,4}", any::<[u8; 6]>(), any::<Option<u32>>())
            ),
            files in prop::collection::btree_map(0_usize..3, value(), 1..4),
            ipxe in prop::option::of(value()),
            root_path in prop::option::of(value()),
            variables in prop::collection::vec(value(), 0..6),
        ) {
            let machine = machine.map(|(name, mac, address)| {
                Machine { name, mac: Mac(mac), address: address.map(Into::into) }
            });
            let files = files.into_iter().map(|(kind, file)| (Firmware::ALL[kind], file));
            let advice = Advice {
                server: server.into(), machine, files: files.collect(), ipxe, root_path, variables,
            };
            for server in [Server::Dhcpd, Server::Dnsmasq, Server::Kea] {
                if let Ok(text) = render(&advice, server) {
                    prop_assert_eq!(read(&text, server).whole(), Ok(vec![advice.clone()]), "{}", text);
                }
            }
        }

        #[test]
        fn any_text_is_read(text in "\\PC{0,60}") {
            for server in [Server::Dhcpd, Server::Dnsmasq, Server::Kea] {
                let _ = read(&text, server);
            }
        }
    }
}
