//! bhyveload(8) and bhyve(8): a FreeBSD guest with its root on NFS or from its host, or any guest from its UEFI.

pub mod config;
mod run;
mod script;

use crate::error::{self, refuse};
use crate::host_root::TAG;
use crate::loader::Variable;
use crate::{Address, Channel, ConfigError, Guest, loader};

pub use run::{Boot, Virtual, attach, detach, make_tap, switch_on};
pub use script::{Device, Load, Run, Step, mebibytes, read};

/// Where the guest's first serial line leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Console {
    /// To the terminal that the command was started on.
    Stdio,
    /// To a null modem, nmdm(4), of the guest's own: whoever opens its other end is at the console.
    NullModem,
}

impl Console {
    /// The end of the null modem that a person opens, as with `cu -l`.
    pub fn terminal(self, guest: &Guest) -> Result<Option<String>, ConfigError> {
        let name = guest.checked_name(FORMAT)?;
        Ok((self == Self::NullModem).then(|| format!("/dev/nmdm-{name}.1B")))
    }

    /// What bhyve and its loader open.
    fn device(self, guest: &Guest) -> Result<String, ConfigError> {
        let name = guest.checked_name(FORMAT)?;
        Ok(match self {
            Self::Stdio => "stdio".to_owned(),
            Self::NullModem => format!("/dev/nmdm-{name}.1A"),
        })
    }
}

/// The command that loads the guest's kernel from `root`, where its boot environment is on this
/// host, and tells it where its root is.
///
/// `handle` is the NFS file handle of its root.
pub fn bhyveload(
    guest: &Guest,
    address: &Address,
    root: &str,
    handle: &[u8],
    console: Console,
) -> Result<Vec<String>, ConfigError> {
    load(guest, root, &loader::variables(guest, address, handle)?, console)
}

/// The same for a guest whose root is a directory of its host: nothing of its network needs to be known.
pub fn bhyveload_host(
    guest: &Guest,
    root: &str,
    console: Console,
) -> Result<Vec<String>, ConfigError> {
    load(guest, root, &loader::host_variables(guest)?, console)
}

fn load(
    guest: &Guest,
    root: &str,
    variables: &[Variable],
    console: Console,
) -> Result<Vec<String>, ConfigError> {
    let mut words = vec!["bhyveload".to_owned()];
    // Without -c the loader is at the terminal.
    if console == Console::NullModem {
        words.extend(["-c".to_owned(), console.device(guest)?]);
    }
    let root = absolute("the directory", root, |c| c == '\0')?;
    words.extend(["-m".to_owned(), memory(guest), "-h".to_owned(), root.to_owned()]);
    for variable in variables {
        words.extend(["-e".to_owned(), format!("{}={}", variable.name, variable.value)]);
    }
    words.push(guest.checked_name(FORMAT)?.to_owned());
    Ok(words)
}

/// The command that runs a guest: one that [`bhyveload`] has loaded, or one that its UEFI boots, of
/// which `firmware` is the file.
///
/// `tap` is its network interface on this host. The Ethernet address is always given: bhyve's own
/// choice would depend on the name of the interface, and the kernel finds its interface by it.
pub fn bhyve(
    guest: &Guest,
    tap: &str,
    console: Console,
    firmware: Option<&str>,
) -> Result<Vec<String>, ConfigError> {
    let tap = interface(tap)?;
    let mtu = guest.mtu.map(|mtu| format!(",mtu={mtu}")).unwrap_or_default();
    let (cpus, memory) = (guest.cpus.to_string(), memory(guest));
    let card = format!("2,virtio-net,{tap},mac={}{mtu}", guest.mac);
    let com1 = format!("com1,{}", console.device(guest)?);
    let mut words = vec!["bhyve", "-c", &cpus, "-m", &memory, "-A", "-H", "-P"];
    words.extend(["-s", "0,hostbridge", "-s", &card]);
    let access = if guest.root.read_only { ",ro" } else { "" };
    let root = host_root(guest)?
        .map(|directory| format!("{ROOT_SLOT},virtio-9p,{TAG}={directory}{access}"));
    if let Some(root) = &root {
        words.extend(["-s", root]);
    }
    let rom;
    if let Some(file) = firmware {
        // A comma would begin the file of its variables.
        let file = absolute("the firmware", file, |c| c == '\0' || c == ',')?;
        rom = format!("bootrom,{file}");
        // Newer builds of edk2 do no network boot without a source of random numbers.
        words.extend(["-s", "3,virtio-rnd", "-s", "31,lpc", "-l", &com1, "-l", &rom]);
    } else {
        words.extend(["-s", "31,lpc", "-l", &com1]);
    }
    words.push(guest.checked_name(FORMAT)?);
    Ok(words.into_iter().map(str::to_owned).collect())
}

/// The directory of this host that is the guest's root, if one is.
fn host_root(guest: &Guest) -> Result<Option<&str>, ConfigError> {
    let Some(root) = &guest.root.host else { return Ok(None) };
    let directory = root.checked_directory(FORMAT)?;
    if root.channel != Channel::NineP {
        let (what, value) = ("the root", directory.to_owned());
        let reason = "bhyve has no virtiofs: set the root to 9p or nfs";
        return Err(ConfigError::Character { what, value, format: FORMAT, reason });
    }
    Ok(Some(directory))
}

/// The command that frees what a guest had in the kernel. Needed after every run.
pub fn destroy(guest: &Guest) -> Result<Vec<String>, ConfigError> {
    let name = guest.checked_name(FORMAT)?;
    Ok(vec!["bhyvectl".to_owned(), "--destroy".to_owned(), format!("--vm={name}")])
}

/// The file that is there as long as this host's kernel has a virtual machine of the guest's name.
pub fn node(guest: &Guest) -> Result<String, ConfigError> {
    Ok(format!("/dev/vmm/{}", guest.checked_name(FORMAT)?))
}

/// Refuses what is no name of an interface of FreeBSD.
pub fn check_interface(name: &str) -> Result<(), ConfigError> {
    error::interface(name, FORMAT, false)
}

/// An interface's name, as an argument and as part of one, or what stands in for it in a script.
fn interface(name: &str) -> Result<&str, ConfigError> {
    if name != run::TAP {
        check_interface(name)?;
    }
    Ok(name)
}

/// The name of a file of this host.
fn absolute<'f>(
    what: &'static str,
    file: &'f str,
    bad: impl FnMut(char) -> bool,
) -> Result<&'f str, ConfigError> {
    let reason = "it is absolute, without a NUL, and a firmware's name without a comma";
    refuse(what, file, FORMAT, reason, bad)?;
    if file.starts_with('/') {
        Ok(file)
    } else {
        Err(ConfigError::Character { what, value: file.to_owned(), format: FORMAT, reason })
    }
}

/// Memory for both commands, which have to be told the same.
fn memory(guest: &Guest) -> String {
    format!("{}M", guest.memory)
}

const FORMAT: &str = "bhyve's command line";
/// Of the PCI bus: the network card is in 2, and what UEFI needs in 3.
const ROOT_SLOT: &str = "4";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::strategy::{self, lan};
    use crate::{Root, View, host_root, shell};

    /// Makes a guest of its two commands again; the data sets are in neither.
    fn made_again(load: &[String], run: &[String]) -> (Guest, Address, String, Vec<u8>, String) {
        let after = |words: &[String], option: &str| -> Vec<String> {
            words.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].clone()).collect()
        };
        let variables = after(load, "-e");
        let find = |name: &str| {
            let pairs = variables.iter().filter_map(|pair| pair.split_once('='));
            pairs.clone().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let get = |name| find(name).unwrap();
        let device = after(run, "-s").into_iter().find(|slot| slot.starts_with("2,")).unwrap();
        let device: Vec<&str> = device.split(',').collect();
        assert_eq!(device[3], format!("mac={}", get("boot.netif.hwaddr")));
        assert_eq!(after(load, "-m"), after(run, "-m"));
        assert_eq!(load.last(), run.last());
        let mask: std::net::Ipv4Addr = get("boot.netif.netmask").parse().unwrap();
        let mut mac = [0; 6];
        for (byte, digits) in mac.iter_mut().zip(get("boot.netif.hwaddr").split(':')) {
            *byte = u8::from_str_radix(digits, 16).unwrap();
        }
        let handle = get("boot.nfsroot.nfshandle");
        let digits = handle.strip_prefix('X').and_then(|text| text.strip_suffix('X')).unwrap();
        let handle: Vec<u8> = (0..digits.len() / 2)
            .map(|index| u8::from_str_radix(&digits[2 * index..][..2], 16).unwrap())
            .collect();
        assert_eq!(get("boot.nfsroot.nfshandlelen"), handle.len().to_string());
        let guest = Guest {
            name: load.last().unwrap().clone(),
            memory: after(load, "-m")[0].trim_end_matches('M').parse().unwrap(),
            cpus: after(run, "-c")[0].parse().unwrap(),
            mac: crate::Mac(mac),
            mtu: find("boot.netif.mtu").map(|text| text.parse().unwrap()),
            root: Root {
                server: get("boot.nfsroot.server").parse().unwrap(),
                path: get("boot.nfsroot.path"),
                datasets: Vec::new(),
                view: View::Joined,
                read_only: get("vfs.root.mountfrom.options") == "ro",
                host: None,
            },
            serial: crate::Serial::default(),
            kenv: Vec::new(),
        };
        let address = Address {
            address: get("boot.netif.ip").parse().unwrap(),
            prefix: u8::try_from(mask.to_bits().count_ones()).unwrap(),
            gateway: find("boot.netif.gateway").map(|text| text.parse().unwrap()),
        };
        (guest, address, after(load, "-h")[0].clone(), handle, device[2].to_owned())
    }

    #[test]
    fn the_slides_guest_is_loaded_and_run() {
        let guest = strategy::head();
        let load = bhyveload(&guest, &lan(), "/ROOT/head", &[0x63, 0x10], Console::Stdio).unwrap();
        assert_eq!(
            shell::line(&load).unwrap(),
            "bhyveload -m 1024M -h /ROOT/head -e boot.netif.hwaddr=02:01:02:03:04:05 \
             -e boot.netif.ip=192.168.2.202 -e boot.netif.netmask=255.255.255.0 \
             -e boot.nfsroot.nfshandle=X6310X -e boot.nfsroot.nfshandlelen=2 \
             -e boot.nfsroot.server=192.168.2.1 -e boot.nfsroot.options=nolockd \
             -e boot.nfsroot.path=/ROOT/head -e vfs.root.mountfrom=nfs:192.168.2.1:/ROOT/head \
             -e vfs.root.mountfrom.options=rw -e dhcp.host-name=head head"
        );
        assert_eq!(
            shell::line(&bhyve(&guest, "tap0", Console::Stdio, None).unwrap()).unwrap(),
            "bhyve -c 2 -m 1024M -A -H -P -s 0,hostbridge \
             -s 2,virtio-net,tap0,mac=02:01:02:03:04:05 -s 31,lpc -l com1,stdio head"
        );
    }

    #[test]
    fn a_root_of_the_host_is_a_device_of_the_guest() {
        let guest = host_root::test::nine_p();
        let load = bhyveload_host(&guest, "/be/head", Console::Stdio).unwrap();
        assert_eq!(
            shell::line(&load).unwrap(),
            "bhyveload -m 1024M -h /be/head -e vfs.root.mountfrom=p9fs:root -e vfs.root.mountfrom.options=rw \
             -e dhcp.host-name=head head"
        );
        let run = |guest: &Guest| bhyve(guest, "tap0", Console::Stdio, None);
        assert_eq!(
            shell::line(&run(&guest).unwrap()).unwrap(),
            "bhyve -c 2 -m 1024M -A -H -P -s 0,hostbridge -s 2,virtio-net,tap0,mac=02:01:02:03:04:05 \
             -s 4,virtio-9p,root=/be/head -s 31,lpc -l com1,stdio head"
        );
        let read_only = Guest { root: Root { read_only: true, ..guest.root.clone() }, ..guest };
        assert!(run(&read_only).unwrap().contains(&"4,virtio-9p,root=/be/head,ro".to_owned()));
        let refused = run(&host_root::test::virtio_fs()).unwrap_err().to_string();
        assert!(refused.contains("bhyve has no virtiofs"), "{refused}");
    }

    #[test]
    fn an_interface_cannot_add_options_to_the_device() {
        for tap in ["tap0,mac=1", "", "tap 0", "$tap", "sixteen_bytes_00"] {
            assert!(bhyve(&strategy::head(), tap, Console::Stdio, None).is_err(), "{tap}");
        }
    }

    #[test]
    fn a_firmware_cannot_add_a_file_of_variables() {
        let run = |file| bhyve(&strategy::head(), "tap0", Console::NullModem, Some(file));
        for file in ["/f,/etc/passwd", "f.fd", ""] {
            assert!(run(file).is_err(), "{file}");
        }
        assert_eq!(
            shell::line(&run("/f.fd").unwrap()).unwrap(),
            "bhyve -c 2 -m 1024M -A -H -P -s 0,hostbridge \
             -s 2,virtio-net,tap0,mac=02:01:02:03:04:05 -s 3,virtio-rnd -s 31,lpc \
             -l com1,/dev/nmdm-head.1A -l bootrom,/f.fd head"
        );
    }

    #[test]
    fn loader_and_guest_are_at_one_end_of_the_null_modem_and_people_at_the_other() {
        let guest = strategy::head();
        let load = bhyveload(&guest, &lan(), "/r", &[1], Console::NullModem).unwrap();
        assert_eq!(load[..3], ["bhyveload", "-c", "/dev/nmdm-head.1A"]);
        let run = bhyve(&guest, "tap0", Console::NullModem, None).unwrap();
        assert!(run.contains(&"com1,/dev/nmdm-head.1A".to_owned()), "{run:?}");
        let terminal = Console::NullModem.terminal(&guest).unwrap();
        assert_eq!(terminal.as_deref(), Some("/dev/nmdm-head.1B"));
        assert_eq!(Console::Stdio.terminal(&guest), Ok(None));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            guest in strategy::guest(),
            address in strategy::address(),
            root in strategy::path(),
            handle in prop::collection::vec(any::<u8>(), 1..=64),
        ) {
            if let Ok(load) = bhyveload(&guest, &address, &root, &handle, Console::Stdio) {
                let run = bhyve(&guest, "tap7", Console::Stdio, None).unwrap();
                let expected = Guest {
                    root: Root {
                        datasets: Vec::new(),
                        view: View::Joined,
                        ..guest.root.clone()
                    },
                    ..guest.clone()
                };
                prop_assert_eq!(made_again(&load, &run), (expected, address, root.clone(), handle.clone(), "tap7".into()));
                let boot = Boot::Load(load.clone());
                let machine = Virtual { guest: &guest, boot, console: Console::Stdio };
                let text = machine.script("bridge0", None).unwrap();
                let steps = read(&text).whole().unwrap();
                let [Step::Load(loaded), Step::Run(ran)] = steps.as_slice() else { panic!() };
                let expected = loader::variables(&guest, &address, &handle).unwrap();
                let variables: Vec<_> = loaded.variables.iter().map(|at| &at.value).collect();
                prop_assert_eq!(variables, expected.iter().collect::<Vec<_>>());
                prop_assert_eq!(loaded.directory.as_ref(), Some(&root));
                prop_assert_eq!((&loaded.name, &ran.name), (&Some(guest.name.clone()), &Some(guest.name.clone())));
                prop_assert_eq!(ran.devices[0].value.mac.as_ref(), Some(&guest.mac.to_string()));
            }
        }
    }
}
