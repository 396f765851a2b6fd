//! A DHCP client of busybox that says what it got, as a running system or as firmware would ask.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::failure::{During, Failure};
use crate::guest::Parts;
use crate::net::{CLIENT_INTERFACE, Namespace};

/// What a client is, as far as its DHCP messages tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// iPXE on BIOS.
    Ipxe,
    /// A running system.
    Ordinary,
    /// A PXE ROM on BIOS.
    Pxe,
}

/// What a DHCP server gave.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    fields: BTreeMap<String, String>,
}

impl Lease {
    /// A value by the name that busybox has for it, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// The boot file, from the message's header or from option 67.
    pub(crate) fn boot_file(&self) -> &str {
        let header = self.field("boot_file");
        if header.is_empty() { self.field("bootfile") } else { header }
    }
}

/// Gets a lease for a namespace's interface, and gives the interface that address.
pub(crate) fn lease(
    client: &Namespace,
    directory: &Path,
    parts: &Parts,
    kind: Kind,
) -> Result<Lease, Failure> {
    let script = directory.join("lease.sh");
    let values = directory.join("lease");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nenv >{}\n\
         ip address flush dev $interface\nip address add $ip/$mask dev $interface\n",
        values.display()
    );
    fs::write(&script, text).during(script.display())?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).during(script.display())?;
    let mut udhcpc = client.program(&parts.busybox().display().to_string());
    udhcpc = udhcpc.words("udhcpc -f -n -q -t 5 -T 2 -O bootfile -O rootpath -O tftp -O mtu -i");
    udhcpc = udhcpc.arg(CLIENT_INTERFACE).arg("-s").arg(&script);
    // Options by number, in hexadecimal: 93 architecture, 94 network interface, 97 UUID (RFC 4578
    // §2), 77 user class, 175 iPXE's own.
    udhcpc = match kind {
        Kind::Ordinary => udhcpc,
        Kind::Pxe => udhcpc.args(PXE),
        Kind::Ipxe => udhcpc.args(PXE).words("-x 0x4d:69505845 -x 0xaf:b105010000000000"),
    };
    udhcpc.run(Duration::from_secs(30))?;
    let text = fs::read_to_string(&values).during("udhcpc got no lease")?;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let fields = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Ok(Lease { fields })
}

const PXE: [&str; 6] =
    ["-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000", "-x", "0x5e:010201"];
