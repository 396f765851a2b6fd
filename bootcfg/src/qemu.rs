//! QEMU: the same guest from its firmware's PXE, or with its kernel given directly.

use crate::error::{self, refuse};
use crate::host_root::TAG;
use crate::{Channel, ConfigError, Guest};

/// How the guest's network interface reaches the network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Attachment {
    /// QEMU's helper makes an interface and puts it into this bridge; needs no privileges.
    Bridge(String),
    /// An interface that is there already.
    Tap(String),
    /// An interface that whoever starts QEMU has opened, and hands it by this descriptor.
    Opened(i32),
}

/// Where the guest's console is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Console {
    /// On the terminal that QEMU is started on, with QEMU's own monitor behind Ctrl-A C.
    Terminal,
    /// On a UNIX socket, for who keeps the guest and has no terminal.
    Sockets {
        /// The socket of the serial port.
        serial: String,
        /// The socket of QMP, by which the guest's power button is pressed.
        monitor: String,
    },
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accelerator {
    /// The processor, by KVM; QEMU itself where it cannot be opened.
    Kvm,
    /// QEMU itself: slowly, and everywhere.
    Tcg,
}

/// The firmware that boots from the network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Firmware {
    /// SeaBIOS with iPXE as the interface's ROM: what QEMU has by itself.
    Bios,
    /// UEFI, from these files.
    Uefi {
        /// The code, read-only.
        code: String,
        /// The variables; what the guest changes in them is forgotten.
        variables: String,
    },
}

/// A kernel that QEMU loads itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kernel {
    /// The kernel's file on this host.
    pub kernel: String,
    /// The initial RAM disk's file on this host.
    pub initrd: Option<String>,
    /// The command line.
    pub command_line: String,
}

/// The command that boots the guest from its firmware over the network.
pub fn pxe(
    guest: &Guest,
    firmware: &Firmware,
    attachment: &Attachment,
    accelerator: Accelerator,
    console: &Console,
) -> Result<Vec<String>, ConfigError> {
    let mut words = machine(guest, attachment, accelerator, console, ",bootindex=1")?;
    if let Firmware::Uefi { code, variables } = firmware {
        let (code, variables) = (file(code)?, file(variables)?);
        words.extend([
            "-drive".to_owned(),
            format!("if=pflash,format=raw,unit=0,readonly=on,file={code}"),
            "-drive".to_owned(),
            format!("if=pflash,format=raw,unit=1,snapshot=on,file={variables}"),
            // Newer builds of edk2 do no network boot without a source of random numbers.
            "-device".to_owned(),
            "virtio-rng-pci".to_owned(),
        ]);
    }
    Ok(words)
}

/// The command that boots the guest with a kernel from this host, and its root on NFS or from this host too.
pub fn direct(
    guest: &Guest,
    kernel: &Kernel,
    attachment: &Attachment,
    accelerator: Accelerator,
    console: &Console,
) -> Result<Vec<String>, ConfigError> {
    // No ROM: the firmware must not boot from the network first.
    let mut words = machine(guest, attachment, accelerator, console, ",romfile=")?;
    let reason = "it has a NUL";
    refuse("the command line", &kernel.command_line, FORMAT, reason, |c| c == '\0')?;
    words.extend(["-kernel".to_owned(), path(&kernel.kernel)?.to_owned()]);
    if let Some(initrd) = &kernel.initrd {
        // QEMU takes a list here: a comma would end the name.
        words.extend(["-initrd".to_owned(), file(initrd)?]);
    }
    words.extend(["-append".to_owned(), kernel.command_line.clone()]);
    words.extend(host_root(guest)?);
    Ok(words)
}

/// The devices by which a guest has its root from a directory of this host, where it does.
fn host_root(guest: &Guest) -> Result<Vec<String>, ConfigError> {
    let Some(root) = &guest.root.host else { return Ok(Vec::new()) };
    let directory = root.checked_directory(FORMAT)?;
    let words = match &root.channel {
        Channel::NineP => {
            let access = if guest.root.read_only { ",readonly=on" } else { "" };
            // Files belong to whom the guest says, as over NFS. A subvolume of btrfs is a device of its own.
            let files = format!(
                "local,id=root,path={directory},security_model=passthrough,multidevs=remap{access}"
            );
            let device = format!("virtio-9p-pci,fsdev=root,mount_tag={TAG}");
            vec!["-fsdev".to_owned(), files, "-device".to_owned(), device]
        }
        Channel::VirtioFs { socket } => {
            // virtiofsd reads and writes the guest's memory, and has no way to refuse changes.
            if guest.root.read_only {
                let (what, value) = ("the root", directory.to_owned());
                let reason = "virtiofs cannot make it read-only: set the root to 9p or nfs";
                return Err(ConfigError::Character { what, value, format: FORMAT, reason });
            }
            let memory = format!("memory-backend-memfd,id=memory,size={}M,share=on", guest.memory);
            vec![
                "-object".to_owned(),
                memory,
                "-numa".to_owned(),
                "node,memdev=memory".to_owned(),
                "-chardev".to_owned(),
                format!("socket,id=root,path={}", file(socket)?),
                "-device".to_owned(),
                format!("vhost-user-fs-pci,chardev=root,tag={TAG}"),
            ]
        }
    };
    Ok(words)
}

fn machine(
    guest: &Guest,
    attachment: &Attachment,
    accelerator: Accelerator,
    console: &Console,
    device: &str,
) -> Result<Vec<String>, ConfigError> {
    let interface = |name: &str| error::interface(name, FORMAT, true);
    let netdev = match attachment {
        Attachment::Bridge(name) => {
            interface(name)?;
            format!("bridge,id=net0,br={name}")
        }
        Attachment::Opened(descriptor) => format!("tap,id=net0,fd={descriptor}"),
        Attachment::Tap(name) => {
            interface(name)?;
            format!("tap,id=net0,ifname={name},script=no,downscript=no")
        }
    };
    let mtu = guest.mtu.map(|mtu| format!(",host_mtu={mtu}")).unwrap_or_default();
    let accelerators: &[&str] = match accelerator {
        Accelerator::Kvm => &["-accel", "kvm", "-accel", "tcg"],
        Accelerator::Tcg => &["-accel", "tcg"],
    };
    let (memory, cpus) = (format!("{}M", guest.memory), guest.cpus.to_string());
    let card = format!("virtio-net-pci,netdev=net0,mac={}{mtu}{device}", guest.mac);
    // Without graphics, firmware talks to the serial line from the first.
    let name = guest.checked_name(FORMAT)?;
    let first = ["qemu-system-x86_64", "-name", name, "-machine", "q35,graphics=off"];
    let size = ["-m", &memory, "-smp", &cpus];
    // The ports before that of the console are there, and lead nowhere.
    let others = ["-serial", "null"].repeat(guest.serial.unit().into());
    let port = match console {
        Console::Terminal => vec!["-serial".to_owned(), "mon:stdio".to_owned()],
        Console::Sockets { serial, monitor } => vec![
            "-chardev".to_owned(),
            format!("socket,id=console,path={},server=on,wait=off", file(serial)?),
            "-serial".to_owned(),
            "chardev:console".to_owned(),
            "-qmp".to_owned(),
            format!("unix:{},server=on,wait=off", file(monitor)?),
        ],
    };
    let console = ["-nodefaults", "-display", "none"].into_iter().chain(others);
    let console: Vec<&str> = console.chain(port.iter().map(String::as_str)).collect();
    let network = ["-netdev", &netdev, "-device", &card];
    let parts: [&[&str]; 5] = [&first, accelerators, &size, &console, &network];
    Ok(parts.into_iter().flatten().map(|&word| word.to_owned()).collect())
}

/// A file's name as an argument of its own.
fn path(file: &str) -> Result<&str, ConfigError> {
    let reason = "it is absolute, without a NUL";
    refuse("the file", file, FORMAT, reason, |c| c == '\0')?;
    if file.starts_with('/') {
        Ok(file)
    } else {
        let (what, value) = ("the file", file.to_owned());
        Err(ConfigError::Character { what, value, format: FORMAT, reason })
    }
}

/// A file's name as part of a list, where QEMU reads two commas as one.
fn file(file: &str) -> Result<String, ConfigError> {
    Ok(path(file)?.replace(',', ",,"))
}

const FORMAT: &str = "QEMU's command line";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::strategy;
    use crate::{Root, host_root};

    /// The values of an option, split at single commas as QEMU does, first without its key.
    fn lists(words: &[String], option: &str) -> Vec<Vec<(String, String)>> {
        let values = words.windows(2).filter(|pair| pair[0] == option).map(|pair| &pair[1]);
        values
            .map(|value| {
                let value = value.replace(",,", "\0");
                let parts = value.split(',').map(|part| part.replace('\0', ","));
                parts
                    .map(|part| match part.split_once('=') {
                        Some((key, value)) => (key.to_owned(), value.to_owned()),
                        None => (String::new(), part),
                    })
                    .collect()
            })
            .collect()
    }

    fn get(list: &[(String, String)], key: &str) -> Option<String> {
        list.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }

    fn tap() -> Attachment {
        Attachment::Tap("tap0".into())
    }

    #[test]
    fn a_bios_guest_boots_from_the_network_first() {
        let words = pxe(
            &strategy::head(),
            &Firmware::Bios,
            &Attachment::Bridge("br0".into()),
            Accelerator::Kvm,
            &Console::Terminal,
        );
        assert_eq!(
            words.unwrap().join(" "),
            "qemu-system-x86_64 -name head -machine q35,graphics=off -accel kvm -accel tcg -m 1024M -smp 2 \
             -nodefaults -display none -serial mon:stdio -netdev bridge,id=net0,br=br0 \
             -device virtio-net-pci,netdev=net0,mac=02:01:02:03:04:05,bootindex=1"
        );
    }

    #[test]
    fn a_uefi_guest_cannot_change_the_hosts_firmware() {
        let firmware = Firmware::Uefi { code: "/c,1.fd".into(), variables: "/v.fd".into() };
        let words = pxe(&strategy::head(), &firmware, &tap(), Accelerator::Tcg, &Console::Terminal)
            .unwrap();
        let drives = lists(&words, "-drive");
        assert_eq!(get(&drives[0], "file"), Some("/c,1.fd".into()));
        assert_eq!(get(&drives[0], "readonly"), Some("on".into()));
        assert_eq!(get(&drives[1], "file"), Some("/v.fd".into()));
        assert_eq!(get(&drives[1], "snapshot"), Some("on".into()));
    }

    #[test]
    fn without_kvm_qemu_is_not_told_to_try_it() {
        let words =
            pxe(&strategy::head(), &Firmware::Bios, &tap(), Accelerator::Tcg, &Console::Terminal)
                .unwrap();
        assert!(words.windows(2).any(|pair| pair == ["-accel", "tcg"]));
        assert!(!words.contains(&"kvm".to_owned()));
    }

    #[test]
    fn the_terminal_is_at_the_port_of_the_console() {
        let guest = Guest { serial: "ttyS1".parse().unwrap(), ..strategy::head() };
        let words = |console: &Console| {
            let attachment = Attachment::Opened(7);
            pxe(&guest, &Firmware::Bios, &attachment, Accelerator::Tcg, console).unwrap()
        };
        let kept = words(&Console::Sockets { serial: "/g,1/s".into(), monitor: "/g,1/m".into() });
        assert_eq!(get(&lists(&kept, "-chardev")[0], "path"), Some("/g,1/s".into()));
        assert_eq!(lists(&kept, "-qmp")[0][0].1, "unix:/g,1/m");
        let ports = kept.windows(2).filter(|pair| pair[0] == "-serial").map(|pair| &*pair[1]);
        assert_eq!(ports.collect::<Vec<_>>(), ["null", "chardev:console"]);
        let words = words(&Console::Terminal);
        let ports = words.windows(2).filter(|pair| pair[0] == "-serial").map(|pair| &*pair[1]);
        assert_eq!(ports.collect::<Vec<_>>(), ["null", "mon:stdio"]);
        assert_eq!(get(&lists(&words, "-netdev")[0], "fd"), Some("7".into()));
    }

    #[test]
    fn a_root_of_this_host_is_a_device_of_the_guest() {
        let kernel = Kernel { kernel: "/k".into(), initrd: None, command_line: "quiet".into() };
        let words = |guest: &Guest| {
            let words = direct(guest, &kernel, &tap(), Accelerator::Tcg, &Console::Terminal)?;
            Ok::<_, ConfigError>(words.join(" ").split_once("quiet ").unwrap().1.to_owned())
        };
        let nine_p = host_root::test::nine_p();
        let files = "-fsdev local,id=root,path=/be/head,security_model=passthrough,multidevs=remap";
        let device = "-device virtio-9p-pci,fsdev=root,mount_tag=root";
        assert_eq!(words(&nine_p).unwrap(), format!("{files} {device}"));
        let read_only =
            |guest: Guest| Guest { root: Root { read_only: true, ..guest.root }, ..guest };
        assert_eq!(words(&read_only(nine_p)).unwrap(), format!("{files},readonly=on {device}"));
        let virtio_fs = host_root::test::virtio_fs();
        assert_eq!(
            words(&virtio_fs).unwrap(),
            "-object memory-backend-memfd,id=memory,size=1024M,share=on -numa node,memdev=memory \
             -chardev socket,id=root,path=/run/head.virtiofs -device vhost-user-fs-pci,chardev=root,tag=root"
        );
        let refused = words(&read_only(virtio_fs)).unwrap_err().to_string();
        assert!(refused.contains("virtiofs cannot make it read-only"), "{refused}");
    }

    #[test]
    fn values_cannot_add_options() {
        for name in ["br0,script=/x", "a b", "a/b", "", "sixteen_bytes_00"] {
            assert!(
                pxe(
                    &strategy::head(),
                    &Firmware::Bios,
                    &Attachment::Tap(name.into()),
                    Accelerator::Tcg,
                    &Console::Terminal
                )
                .is_err()
            );
        }
        let relative = Firmware::Uefi { code: "c.fd".into(), variables: "/v.fd".into() };
        assert!(
            pxe(&strategy::head(), &relative, &tap(), Accelerator::Tcg, &Console::Terminal)
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            guest in strategy::guest(), kernel in strategy::path(),
            initrd in prop::option::of(strategy::path()), command_line in "[^\u{0}]{0,40}",
        ) {
            let kernel = Kernel { kernel, initrd, command_line };
            let words = direct(&guest, &kernel, &tap(), Accelerator::Tcg, &Console::Terminal).unwrap();
            let after = |option: &str| {
                words.windows(2).find(|pair| pair[0] == option).map(|pair| pair[1].clone())
            };
            let initrd = after("-initrd").map(|text| text.replace(",,", ","));
            prop_assert_eq!(
                Kernel {
                    kernel: after("-kernel").unwrap(),
                    initrd,
                    command_line: after("-append").unwrap(),
                },
                kernel
            );
            prop_assert_eq!(after("-name"), Some(guest.name.clone()));
            prop_assert_eq!(after("-m"), Some(format!("{}M", guest.memory)));
            prop_assert_eq!(after("-smp"), Some(guest.cpus.to_string()));
            let device = &lists(&words, "-device")[0];
            prop_assert_eq!(get(device, "mac"), Some(guest.mac.to_string()));
            prop_assert_eq!(get(device, "host_mtu"), guest.mtu.map(|mtu| mtu.to_string()));
        }
    }
}
