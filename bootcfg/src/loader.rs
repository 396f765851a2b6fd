//! Variables of FreeBSD's loader: what a kernel needs to mount its root over NFS.
//!
//! A kernel does no DHCP and no MOUNT: it takes its address, and the handle of its root, from the
//! kernel environment (sys/nfs/nfs_diskless.c). A loader that fetched the kernel over NFS has set
//! all of this; after TFTP, HTTP or bhyveload(8) somebody else has to.

use std::fmt::Write;
use std::net::Ipv4Addr;

use crate::error::{limit, refuse};
use crate::host_root::TAG;
use crate::rule::{Reading, Rule};
use crate::{Address, ConfigError, Guest};

/// A variable of the kernel environment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The variables with which a kernel finds its interface and mounts its root.
///
/// `handle` is the root's NFS file handle, of at most 64 bytes.
pub fn variables(
    guest: &Guest,
    address: &Address,
    handle: &[u8],
) -> Result<Vec<Variable>, ConfigError> {
    let root = &guest.root;
    let mut variables = Vec::new();
    let mut set = |name: &str, value: String| {
        variables.push(Variable { name: name.to_owned(), value });
    };
    set("boot.netif.hwaddr", guest.mac.to_string());
    set("boot.netif.ip", address.address.to_string());
    set("boot.netif.netmask", address.netmask().to_string());
    if let Some(gateway) = address.gateway {
        set("boot.netif.gateway", gateway.to_string());
    }
    if let Some(mtu) = guest.mtu {
        set("boot.netif.mtu", mtu.to_string());
    }
    variables.extend(nfs_root(root.server, &root.path, handle));
    let mut set = |name: &str, value: String| {
        variables.push(Variable { name: name.to_owned(), value });
    };
    // Else a line for / that an installer left in the guest's fstab is tried first. The same server
    // and path as above: kernels with BOOTP take this one.
    set("vfs.root.mountfrom", format!("nfs:{}:{}", root.server, root.path));
    set("vfs.root.mountfrom.options", access(guest).to_owned());
    set("dhcp.host-name", guest.checked_name(FORMAT)?.to_owned());
    if handle.is_empty() || handle.len() > 64 {
        let (what, value) = ("the handle", hexadecimal(handle));
        return Err(ConfigError::Character {
            what,
            value,
            format: FORMAT,
            reason: "1 to 64 bytes",
        });
    }
    with_own(guest, variables)
}

/// The variables with which a kernel mounts a root that its host has in a directory (p9fs(4), of FreeBSD 15).
pub fn host_variables(guest: &Guest) -> Result<Vec<Variable>, ConfigError> {
    let variable = |name: &str, value: &str| Variable { name: name.into(), value: value.into() };
    let variables = vec![
        variable("vfs.root.mountfrom", &format!("p9fs:{TAG}")),
        variable("vfs.root.mountfrom.options", access(guest)),
        variable("dhcp.host-name", guest.checked_name(FORMAT)?),
    ];
    with_own(guest, variables)
}

const fn access(guest: &Guest) -> &'static str {
    if guest.root.read_only { "ro" } else { "rw" }
}

/// Adds a guest's own variables, and refuses what its kernel would not take.
fn with_own(guest: &Guest, mut variables: Vec<Variable>) -> Result<Vec<Variable>, ConfigError> {
    for own in &guest.kenv {
        // bhyveload takes the first of two with one name, and the loader the last.
        match variables.iter_mut().find(|given| given.name == own.name) {
            Some(given) => given.value.clone_from(&own.value),
            None => variables.push(own.clone()),
        }
    }
    for Variable { name, value } in &variables {
        refuse(name_of(name), value, FORMAT, "it has a control character", char::is_control)?;
        // The kernel drops what is longer (KENV_MNAMELEN and KENV_MVALLEN of 128 each).
        limit("a variable", &format!("{name}={value}"), FORMAT, 256)?;
    }
    Ok(variables)
}

/// The variables by which a kernel mounts its root (sys/nfs/nfs_diskless.c: nfs_setup_diskless), the
/// most needed first: the path is only shown.
#[must_use]
pub fn nfs_root(server: Ipv4Addr, path: &str, handle: &[u8]) -> Vec<Variable> {
    let variable = |name: &str, value: String| Variable { name: name.to_owned(), value };
    vec![
        variable("boot.nfsroot.nfshandle", hexadecimal(handle)),
        variable("boot.nfsroot.nfshandlelen", handle.len().to_string()),
        variable("boot.nfsroot.server", server.to_string()),
        // Until the guest's own lock daemons run, every lock would fail with ENOLCK, and a root
        // cannot be told later.
        variable("boot.nfsroot.options", "nolockd".to_owned()),
        variable("boot.nfsroot.path", path.to_owned()),
    ]
}

/// The variables as lines for loader.conf(5).
pub fn render(variables: &[Variable]) -> Result<String, ConfigError> {
    let mut text = String::new();
    for Variable { name, value } in variables {
        let reason = "loader.conf knows no way to write quotes, backslashes and dollar signs";
        let bad = |c: char| c.is_control() || "\"\\$".contains(c);
        refuse(name_of(name), value, "loader.conf", reason, bad)?;
        let _ = writeln!(text, "{name}=\"{value}\"");
    }
    Ok(text)
}

/// Reads the text of a loader.conf(5), as far as it sets variables.
#[must_use]
pub fn read(text: &str) -> Reading<Variable> {
    let mut reading = Reading::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match assignment(line) {
            Ok(variable) => reading.add(index + 1, variable),
            Err(message) => reading.report(index + 1, Rule::Syntax, message),
        }
    }
    reading
}

/// One assignment, by the patterns of the loader (stand/lua/config.lua): a value in double quotes,
/// or a bare word.
fn assignment(line: &str) -> Result<Variable, String> {
    let (name, rest) =
        line.split_once('=').ok_or_else(|| format!("{line} has no =: write NAME=\"VALUE\""))?;
    let (name, rest) = (name.trim_end(), rest.trim_start());
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(format!("{name:?} is no name of a variable: write NAME=\"VALUE\""));
    }
    let (value, behind) = match rest.strip_prefix('"') {
        Some(quoted) => quoted
            .split_once('"')
            .ok_or_else(|| format!("the value of {name} has no second double quote"))?,
        None => rest.split_at(rest.find(|c| !allowed(c)).unwrap_or(rest.len())),
    };
    let behind = behind.trim_start();
    if !behind.is_empty() && !behind.starts_with('#') {
        return Err(format!(
            "the loader does not understand {behind:?}: put the whole value of {name} into double \
             quotes"
        ));
    }
    Ok(Variable { name: name.to_owned(), value: value.to_owned() })
}

/// A handle as the kernel reads it: `X`, two digits for each byte, `X`.
fn hexadecimal(handle: &[u8]) -> String {
    let mut text = String::with_capacity(handle.len() * 2 + 2);
    text.push('X');
    for byte in handle {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('X');
    text
}

fn name_of(name: &str) -> &'static str {
    match name {
        "boot.nfsroot.path" | "vfs.root.mountfrom" => "the path",
        _ => "the value",
    }
}

const FORMAT: &str = "the kernel environment";

/// A number as the loader reads one (strtol(3) with base 0), if it is one and none below zero.
#[must_use]
pub fn number(text: &str) -> Option<u32> {
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace());
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, base) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    u32::from_str_radix(digits, base).ok().filter(|_| !digits.starts_with('+'))
}

/// How much FreeBSD's loader reads by one call of NFS: 1024 to 16384, and 1024 where it is not told.
pub const READ_SIZE: &str = "nfs.read_size";

/// The most that it may be told: a reply in one Ethernet frame of 1500 bytes, of which 28 are IP's and
/// UDP's and 128 the call's. Replies in fragments are lost on every loader (`ip_reasm_add` in
/// stand/libsa/ip.c puts the last one first), which asks again for ever.
pub const MAX_READ_SIZE: u32 = 1344;

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::strategy::{self, lan};

    fn value<'a>(variables: &'a [Variable], name: &str) -> &'a str {
        &variables.iter().find(|variable| variable.name == name).unwrap().value
    }

    #[test]
    fn a_handle_is_written_as_the_kernel_reads_it() {
        let variables = variables(&strategy::head(), &lan(), &[0x63, 0x10, 0x0b]).unwrap();
        assert_eq!(value(&variables, "boot.nfsroot.nfshandle"), "X63100bX");
        assert_eq!(value(&variables, "boot.nfsroot.nfshandlelen"), "3");
    }

    #[test]
    fn a_handle_of_64_bytes_fits_and_a_longer_one_is_refused() {
        assert!(variables(&strategy::head(), &lan(), &[0xff; 64]).is_ok());
        assert!(variables(&strategy::head(), &lan(), &[0xff; 65]).is_err());
        assert!(variables(&strategy::head(), &lan(), &[]).is_err());
    }

    #[test]
    fn the_root_is_named_the_same_twice() {
        let variables = variables(&strategy::head(), &lan(), &[1]).unwrap();
        let (server, path) =
            (value(&variables, "boot.nfsroot.server"), value(&variables, "boot.nfsroot.path"));
        assert_eq!(value(&variables, "vfs.root.mountfrom"), format!("nfs:{server}:{path}"));
    }

    #[test]
    fn a_guests_own_variables_count() {
        let own = |name: &str, value: &str| Variable { name: name.into(), value: value.into() };
        let kenv = vec![own("boot.nfsroot.options", "nolockd,udp"), own("console", "comconsole")];
        let variables = variables(&Guest { kenv, ..strategy::head() }, &lan(), &[1]).unwrap();
        assert_eq!(value(&variables, "boot.nfsroot.options"), "nolockd,udp");
        assert_eq!(value(&variables, "console"), "comconsole");
        assert_eq!(variables.iter().filter(|one| one.name == "boot.nfsroot.options").count(), 1);
    }

    #[test]
    fn what_the_kernel_would_drop_is_refused() {
        let mut guest = strategy::head();
        guest.root.path = format!("/{}", "x".repeat(250));
        assert!(matches!(variables(&guest, &lan(), &[1]), Err(ConfigError::Long { max: 256, .. })));
    }

    #[test]
    fn what_loader_conf_cannot_quote_is_refused() {
        for text in ["a\"b", "a\\b", "$a", "a\nb"] {
            let variable = Variable { name: "x".into(), value: text.into() };
            assert!(render(&[variable]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_the_loader_does_not_understand_is_named() {
        for text in ["x", "x=nfs:10.0.0.1:/a", "x=\"a", "x=\"a\" b", "a b=\"c\"", "=\"c\""] {
            let diagnostics = read(&format!("\n{text}\n")).diagnostics;
            assert_eq!(diagnostics.len(), 1, "{text}");
            assert_eq!((diagnostics[0].line, diagnostics[0].rule), (2, Rule::Syntax));
        }
        let text = "# x\n  autoboot_delay = 3 # s\nif_vtnet_load=\"YES\"\n";
        let read = read(text).whole().unwrap();
        assert_eq!((value(&read, "autoboot_delay"), value(&read, "if_vtnet_load")), ("3", "YES"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            guest in strategy::guest(), address in strategy::address(),
            handle in prop::collection::vec(any::<u8>(), 1..64)
        ) {
            if let Ok(variables) = variables(&guest, &address, &handle)
                && let Ok(text) = render(&variables)
            {
                prop_assert_eq!(read(&text).whole(), Ok(variables));
            }
        }
    }
}
