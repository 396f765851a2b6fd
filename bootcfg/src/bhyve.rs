//! bhyveload(8) and bhyve(8): a FreeBSD guest with its root on NFS.

mod script;

use crate::error::refuse;
use crate::{Address, ConfigError, Guest, loader, shell};

pub use script::{Device, Load, Run, Step, mebibytes, read};

/// The command that loads the guest's kernel from `root`, where its boot environment is on this
/// host, and tells it where its root is.
///
/// `handle` is the NFS file handle of its root.
pub fn bhyveload(
    guest: &Guest,
    address: &Address,
    root: &str,
    handle: &[u8],
) -> Result<Vec<String>, ConfigError> {
    let reason = "it is absolute, without a NUL";
    refuse("the directory", root, FORMAT, reason, |c| c == '\0')?;
    if !root.starts_with('/') {
        let (what, value) = ("the directory", root.to_owned());
        return Err(ConfigError::Character { what, value, format: FORMAT, reason });
    }
    let mut words = vec!["bhyveload".to_owned()];
    words.extend(["-m".to_owned(), memory(guest), "-h".to_owned(), root.to_owned()]);
    for variable in loader::variables(guest, address, handle)? {
        words.extend(["-e".to_owned(), format!("{}={}", variable.name, variable.value)]);
    }
    words.push(guest.checked_name(FORMAT)?.to_owned());
    Ok(words)
}

/// The command that runs a guest which [`bhyveload`] has loaded; its console is the terminal.
///
/// `tap` is its network interface on this host. The Ethernet address is always given: bhyve's own
/// choice would depend on the name of the interface, and the kernel finds its interface by it.
pub fn bhyve(guest: &Guest, tap: &str) -> Result<Vec<String>, ConfigError> {
    let reason = "it is the name of an interface, such as tap0";
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
    refuse("the interface", tap, FORMAT, reason, |c| !plain(c))?;
    let mtu = guest.mtu.map(|mtu| format!(",mtu={mtu}")).unwrap_or_default();
    let words = [
        "bhyve",
        "-c",
        &guest.cpus.to_string(),
        "-m",
        &memory(guest),
        "-A",
        "-H",
        "-P",
        "-s",
        "0,hostbridge",
        "-s",
        &format!("2,virtio-net,{tap},mac={}{mtu}", guest.mac),
        "-s",
        "31,lpc",
        "-l",
        "com1,stdio",
        guest.checked_name(FORMAT)?,
    ];
    Ok(words.map(str::to_owned).to_vec())
}

/// The command that frees what a guest had in the kernel. Needed after every run.
pub fn destroy(guest: &Guest) -> Result<Vec<String>, ConfigError> {
    let name = guest.checked_name(FORMAT)?;
    Ok(vec!["bhyvectl".to_owned(), "--destroy".to_owned(), format!("--vm={name}")])
}

/// A script for sh(1) that runs the guest until it is switched off.
pub fn script(
    guest: &Guest,
    address: &Address,
    root: &str,
    handle: &[u8],
    tap: &str,
) -> Result<String, ConfigError> {
    let load = shell::lines(&bhyveload(guest, address, root, handle)?, "    ")?;
    let run = shell::lines(&bhyve(guest, tap)?, "    ")?;
    let destroy = shell::line(&destroy(guest)?)?;
    let name = guest.checked_name(FORMAT)?;
    Ok(format!(
        "#!/bin/sh\n\
         # Runs {name} with its root on NFS. A guest has to be loaded again for every boot: bhyve\n\
         # exits with 0 when it reboots, with 1 or 2 when it is off, and with more when it failed.\n\
         \n\
         {destroy} 2>/dev/null\n\
         while :; do\n    {load} || exit\n    {run}\n    status=$?\n    {destroy}\n    \
         [ $status -eq 0 ] || break\n\
         done\n\
         [ $status -le 2 ]\n"
    ))
}

/// Memory for both commands, which have to be told the same.
fn memory(guest: &Guest) -> String {
    format!("{}M", guest.memory)
}

const FORMAT: &str = "bhyve's command line";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::strategy::{self, lan};
    use crate::{Root, View};

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
            },
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
        let load = bhyveload(&guest, &lan(), "/ROOT/head", &[0x63, 0x10]).unwrap();
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
            shell::line(&bhyve(&guest, "tap0").unwrap()).unwrap(),
            "bhyve -c 2 -m 1024M -A -H -P -s 0,hostbridge \
             -s 2,virtio-net,tap0,mac=02:01:02:03:04:05 -s 31,lpc -l com1,stdio head"
        );
    }

    /// Runs the script with commands that note down what they were given; bhyve ends as told.
    fn run(script: &str, statuses: &str) -> (String, Option<i32>) {
        let fakes = format!(
            "left='{statuses} '\n\
             bhyvectl() {{ echo destroy; }}\n\
             bhyveload() {{ echo load; }}\n\
             bhyve() {{ echo run; status=${{left%% *}}; left=${{left#* }}; return $status; }}\n"
        );
        let out = std::process::Command::new("sh").arg("-c").arg(fakes + script).output().unwrap();
        (String::from_utf8(out.stdout).unwrap().replace('\n', " "), out.status.code())
    }

    #[test]
    fn the_script_loads_again_for_every_reboot_and_ends_when_the_guest_is_off() {
        let script = script(&strategy::head(), &lan(), "/r", &[1], "tap0").unwrap();
        let once = "load run destroy ";
        assert_eq!(run(&script, "0 0 1"), (format!("destroy {once}{once}{once}"), Some(0)));
        assert_eq!(run(&script, "2"), (format!("destroy {once}"), Some(0)));
        assert_eq!(run(&script, "4"), (format!("destroy {once}"), Some(1)));
    }

    #[test]
    fn an_interface_cannot_add_options_to_the_device() {
        assert!(bhyve(&strategy::head(), "tap0,mac=1").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            guest in strategy::guest(),
            address in strategy::address(),
            root in strategy::path(),
            handle in prop::collection::vec(any::<u8>(), 1..=64),
        ) {
            if let Ok(load) = bhyveload(&guest, &address, &root, &handle) {
                let run = bhyve(&guest, "tap7").unwrap();
                let expected = Guest {
                    root: Root {
                        datasets: Vec::new(),
                        view: View::Joined,
                        ..guest.root.clone()
                    },
                    ..guest.clone()
                };
                prop_assert_eq!(made_again(&load, &run), (expected, address, root.clone(), handle.clone(), "tap7".into()));
                let text = script(&guest, &address, &root, &handle, "tap7").unwrap();
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
