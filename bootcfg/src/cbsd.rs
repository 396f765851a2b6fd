//! CBSD's jconf: what `cbsd bcreate jconf=FILE` makes a guest of bhyve from, and `cbsd jcreate` a jail.
//!
//! The file is one of assignments, which CBSD runs as a script of the shell. netbe reads it with a tokenizer and
//! runs nothing of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::error::{interface, refuse};
use crate::loader::Variable;
use crate::rule::{Reading, Rule};
use crate::{ConfigError, Guest, Mac};

/// A jail for CBSD.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Jail {
    /// Its name.
    pub name: String,
    /// The directory that is its root.
    pub path: String,
    /// Its address and the length of its network's prefix; without one it asks by DHCP.
    pub address: Option<(IpAddr, u8)>,
    /// The interface of the host that gets the address, or the bridge of its own network stack.
    pub interface: Option<String>,
    /// The Ethernet address of its own network stack (VNET).
    pub vnet: Option<Mac>,
}

/// The settings of a guest that its UEFI boots over the network: it has no disk and no image.
///
/// `profile` is one of CBSD's, as `freebsd/FreeBSD-x64-14.1`: it has the defaults of the kind of system.
pub fn guest(guest: &Guest, bridge: &str, profile: &str) -> Result<Vec<Variable>, ConfigError> {
    let name = guest.checked_name(FORMAT)?;
    interface(bridge, FORMAT, true)?;
    let reason =
        "write TYPE/NAME as in freebsd/FreeBSD-x64-14.1, for vm-freebsd-FreeBSD-x64-14.1.conf";
    let Some((kind, profile)) = profile.split_once('/') else {
        return Err(wrong("the profile", profile, reason));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    for word in [kind, profile] {
        refuse("the profile", word, FORMAT, reason, |c| !plain(c))?;
        if word.is_empty() {
            return Err(wrong("the profile", word, reason));
        }
    }
    Ok(vec![
        setting("jname", name),
        setting("emulator", "bhyve"),
        setting("host_hostname", name),
        setting("vm_os_type", kind),
        setting("vm_os_profile", profile),
        setting("vm_cpus", &guest.cpus.to_string()),
        setting("vm_ram", &format!("{}m", guest.memory)),
        setting("imgtype", "none"),
        setting("vm_iso_path", "0"),
        setting("vm_boot", "hdd"),
        setting("vm_efi", "uefi"),
        // bhyve's own firmware, and no menu before it.
        setting("cd_boot_firmware", "bhyve"),
        setting("hdd_boot_firmware", "bhyve"),
        setting("virtio_rnd", "1"),
        setting("interface", bridge),
        setting("nic_driver", "vtnet"),
        setting("nic_hwaddr", &guest.mac.to_string()),
        setting("ip4_addr", "DHCP"),
        setting("astart", "0"),
        setting("runasap", "0"),
    ])
}

/// The settings of a jail whose root is a directory of the host.
pub fn jail(jail: &Jail) -> Result<Vec<Variable>, ConfigError> {
    let Jail { name, path, address, interface: on, vnet } = jail;
    let reason =
        "a jail's name has letters, digits, hyphens and underscores, and begins with a letter";
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    refuse("the name", name, FORMAT, reason, |c| !plain(c))?;
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(wrong("the name", name, reason));
    }
    if let Some(on) = on {
        interface(on, FORMAT, true)?;
    }
    let address = address
        .map_or_else(|| "DHCP".to_owned(), |(address, prefix)| format!("{address}/{prefix}"));
    Ok(vec![
        setting("jname", name),
        setting("emulator", "jail"),
        setting("host_hostname", name),
        setting("path", path),
        setting("data", path),
        // It has a whole system of its own, and none of CBSD's bases.
        setting("baserw", "1"),
        setting("ver", "empty"),
        setting("mount_devfs", "1"),
        setting("devfs_ruleset", if vnet.is_some() { "5" } else { "4" }),
        setting("interface", on.as_deref().unwrap_or("auto")),
        setting("ip4_addr", &address),
        setting("vnet", if vnet.is_some() { "1" } else { "0" }),
        setting("nic_hwaddr", &vnet.map_or_else(|| "0".to_owned(), |mac| mac.to_string())),
        setting("exec_start", "/bin/sh /etc/rc"),
        setting("exec_stop", "/bin/sh /etc/rc.shutdown jail"),
        setting("mkhostsfile", "0"),
        setting("pkg_bootstrap", "0"),
        setting("astart", "0"),
        setting("runasap", "0"),
    ])
}

fn setting(name: &str, value: &str) -> Variable {
    Variable { name: name.to_owned(), value: value.to_owned() }
}

/// The text of such a file.
pub fn render(settings: &[Variable]) -> Result<String, ConfigError> {
    let mut text = String::new();
    for Variable { name, value } in settings {
        let reason = "it is a variable of the shell";
        if !crate::rcconf::is_name(name) {
            return Err(wrong("the setting", name, reason));
        }
        // CBSD runs the file, and its sysrc(8) writes it anew: what either acts on cannot be in it.
        let reason = "the shell, or CBSD, would act on one of its characters";
        let bad = |c: char| c.is_control() || "\"'`$\\%".contains(c);
        refuse("the value", value, FORMAT, reason, bad)?;
        text += &format!("{name}=\"{value}\"\n");
    }
    Ok(text)
}

/// Reads the assignments of a text, with CBSD's `%%jname%%` put in. What only a shell or CBSD knows is reported
/// and left out.
#[must_use]
pub fn read(text: &str) -> Reading<Variable> {
    let mut reading = Reading::<Variable>::default();
    for command in reading.commands(text) {
        for word in &command {
            let assigned =
                word.text.split_once('=').filter(|(name, _)| crate::rcconf::is_name(name));
            let Some((name, value)) = assigned else {
                let message = format!(
                    "{} is a command, which CBSD runs whenever it reads this file: write NAME=\"VALUE\"",
                    word.text
                );
                reading.report(word.line, Rule::Syntax, message);
                break;
            };
            if word.expands {
                let message = format!(
                    "a shell computes the value of {name}, and netbe does not run the shell"
                );
                reading.report(word.line, Rule::Unread, message);
                continue;
            }
            reading.add(word.line, setting(name, value));
        }
    }
    // What comes later counts, as in the shell.
    let mut seen = BTreeSet::new();
    let mut last: Vec<bool> =
        reading.entries.iter().rev().map(|at| seen.insert(at.value.name.clone())).collect();
    reading.entries.retain(|_| last.pop().unwrap_or(false));
    let own = reading.entries.iter().find(|at| at.value.name == "jname");
    let own = own.map(|at| at.value.value.clone());
    // A name that is longer could make more text of a file than there is memory for.
    let own = own.filter(|own| !own.contains('%') && own.len() <= LONGEST_NAME);
    let mut unread = Vec::new();
    for at in &mut reading.entries {
        if let Some(own) = &own {
            at.value.value = at.value.value.replace("%%jname%%", own);
        }
        if at.value.value.contains("%%") {
            unread.push((at.line, at.value.name.clone()));
        }
    }
    for (line, name) in unread {
        let message =
            format!("CBSD puts something into {name} that only it knows: write the value");
        reading.report(line, Rule::Unread, message);
    }
    reading.entries.retain(|at| !at.value.value.contains("%%"));
    reading
}

fn wrong(what: &'static str, value: &str, reason: &'static str) -> ConfigError {
    ConfigError::Character { what, value: value.to_owned(), format: FORMAT, reason }
}

/// The longest name that is put in.
const LONGEST_NAME: usize = 64;
const FORMAT: &str = "CBSD's jconf";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::strategy;

    #[test]
    fn the_slides_guest_has_a_jconf() {
        let text =
            render(&guest(&strategy::head(), "bridge0", "freebsd/FreeBSD-x64-14.1").unwrap());
        assert_eq!(text.unwrap(), include_str!("cbsd/slides.jconf"));
    }

    #[test]
    fn a_jail_has_its_own_system_and_address() {
        let web = Jail {
            name: "web".into(),
            path: "/store/be/web".into(),
            address: Some(("10.0.0.5".parse().unwrap(), 24)),
            interface: Some("bridge0".into()),
            vnet: Some(Mac([2, 1, 2, 3, 4, 5])),
        };
        let text = render(&jail(&web).unwrap()).unwrap();
        for line in [
            "baserw=\"1\"\n",
            "vnet=\"1\"\n",
            "nic_hwaddr=\"02:01:02:03:04:05\"\n",
            "ip4_addr=\"10.0.0.5/24\"\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        for name in ["", "7", "a b", "a.b", "-x", "$(x)"] {
            assert!(jail(&Jail { name: name.into(), ..web.clone() }).is_err(), "{name}");
        }
        let odd = Jail { path: "/a$(reboot)".into(), ..web };
        assert!(render(&jail(&odd).unwrap()).is_err());
        for profile in ["", "a", "/", "a/", "a/b c"] {
            assert!(guest(&strategy::head(), "bridge0", profile).is_err(), "{profile}");
        }
    }

    #[test]
    fn what_cbsd_puts_in_is_known_or_left_out() {
        let text = "jname=web\npath=\"%%workdir%%/jails/%%jname%%\"\nhost_hostname=%%jname%%.x\n\
                    ip4_addr=$(pick)\nvnet=0\nvnet=1; exit\n";
        let reading = read(text);
        let values: Vec<_> = reading
            .entries
            .iter()
            .map(|at| format!("{} {}={}", at.line, at.value.name, at.value.value))
            .collect();
        assert_eq!(values, ["1 jname=web", "3 host_hostname=web.x", "6 vnet=1"]);
        let rules: Vec<_> =
            reading.diagnostics.iter().map(|wrong| (wrong.line, wrong.rule)).collect();
        assert_eq!(rules, [(4, Rule::Unread), (6, Rule::Syntax), (2, Rule::Unread)]);
    }

    #[test]
    fn sh_reads_what_is_written() {
        let settings = guest(&strategy::head(), "bridge0", "freebsd/x").unwrap();
        let script = format!("{}printf %s \"$vm_ram $nic_hwaddr\"", render(&settings).unwrap());
        let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(out.stdout, b"1024m 02:01:02:03:04:05");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            pairs in prop::collection::btree_map("[a-z_]{1,4}|[ -~]{0,3}", "[ -~\n]{0,8}", 0..4),
        ) {
            let pairs: Vec<Variable> = pairs.iter().map(|(name, value)| setting(name, value)).collect();
            if let Ok(text) = render(&pairs) {
                prop_assert_eq!(read(&text).whole(), Ok(pairs));
            }
        }

        #[test]
        fn nothing_that_is_read_panics(text in "([a-c]=|%%jname%%|jname=|[ -~\n]){0,60}") {
            let _ = read(&text);
        }
    }
}
