//! Variables of FreeBSD's loader: what a kernel needs to mount its root over NFS.
//!
//! A kernel does no DHCP and no MOUNT: it takes its address, and the handle of its root, from the
//! kernel environment (sys/nfs/nfs_diskless.c). A loader that fetched the kernel over NFS has set
//! all of this; after TFTP, HTTP or bhyveload(8) somebody else has to.

use std::fmt::Write;

use crate::error::{limit, refuse};
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
    set("boot.nfsroot.server", root.server.to_string());
    set("boot.nfsroot.path", root.path.clone());
    set("boot.nfsroot.nfshandle", hexadecimal(handle));
    set("boot.nfsroot.nfshandlelen", handle.len().to_string());
    // Until the guest's own lock daemons run, every lock would fail with ENOLCK, and a root cannot
    // be told later.
    set("boot.nfsroot.options", "nolockd".to_owned());
    // Else a line for / that an installer left in the guest's fstab is tried first. The same server
    // and path as above: kernels with BOOTP take this one.
    set("vfs.root.mountfrom", format!("nfs:{}:{}", root.server, root.path));
    let access = if root.read_only { "ro" } else { "rw" };
    set("vfs.root.mountfrom.options", access.to_owned());
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
    for Variable { name, value } in &variables {
        refuse(name_of(name), value, FORMAT, "it has a control character", char::is_control)?;
        // The kernel drops what is longer (KENV_MNAMELEN and KENV_MVALLEN of 128 each).
        limit("a variable", &format!("{name}={value}"), FORMAT, 256)?;
    }
    Ok(variables)
}

/// The variables as lines for loader.conf(5).
pub fn render(variables: &[Variable]) -> Result<String, ConfigError> {
    let mut text = String::new();
    for Variable { name, value } in variables {
        let reason = "loader.conf knows no way to write quotes, backslashes and dollar signs";
        let bad = |letter: char| letter.is_control() || "\"\\$".contains(letter);
        refuse(name_of(name), value, "loader.conf", reason, bad)?;
        let _ = writeln!(text, "{name}=\"{value}\"");
    }
    Ok(text)
}

/// Reads the lines of a loader.conf(5) that assign a value in double quotes.
pub fn parse(text: &str) -> Result<Vec<Variable>, ConfigError> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, text)| {
            let wrong = |reason| ConfigError::Syntax { line, reason };
            let (name, value) = text.split_once('=').ok_or_else(|| wrong("no = in it"))?;
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            let value = value.filter(|value| !value.contains('"'));
            let value = value.ok_or_else(|| wrong("the value is not in double quotes"))?;
            Ok(Variable { name: name.to_owned(), value: value.to_owned() })
        })
        .collect()
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
        assert!(parse("x=y").is_err());
        assert!(parse("x").is_err());
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
                prop_assert_eq!(parse(&text), Ok(variables));
            }
        }
    }
}
