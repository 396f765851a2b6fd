//! Machines in QEMU: one with nothing in it but a network card and firmware, or one with disks and a
//! kernel of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::failure::{During, Failure, ensure};
use crate::net::Network;
use crate::process::{Program, Running, tail};

/// What the machine is.
#[derive(Clone, Debug)]
pub(crate) struct Hardware {
    /// Its name: of its tap and of its files; at most 15 bytes.
    pub(crate) name: String,
    /// What it starts with.
    pub(crate) firmware: Firmware,
    /// Its Ethernet address.
    pub(crate) mac: String,
    /// Its memory in MiB.
    pub(crate) memory: u32,
}

/// What a machine starts with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Firmware {
    /// SeaBIOS, and iPXE as the network card's ROM.
    Bios,
    /// OVMF with its own PXE stack; the card has no ROM.
    Uefi,
    /// OVMF with its own HTTP boot and no PXE.
    UefiHttp,
}

impl Firmware {
    /// What people call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI",
            Self::UefiHttp => "UEFI HTTP",
        }
    }
}

/// A machine with disks, started from a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Computer<'a> {
    /// Its name: of its tap and of its files; at most 15 bytes.
    pub(crate) name: &'a str,
    /// Its Ethernet address.
    pub(crate) mac: &'a str,
    /// Its memory in MiB.
    pub(crate) memory: u32,
    /// How many processors it has.
    pub(crate) processors: u8,
    /// The kernel.
    pub(crate) kernel: &'a Path,
    /// The initial RAM disk.
    pub(crate) initrd: &'a Path,
    /// Its disks, in the order of the guest's names: `vda`, `vdb`, ...
    pub(crate) disks: &'a [Disk<'a>],
}

/// A disk image of a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disk<'a> {
    /// Nobody else has it: the machine may write.
    Own(&'a Path),
    /// Other machines may have it too: nobody writes.
    Shared(&'a Path),
}

/// A machine that is switched on; it is switched off when dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    running: Running,
    serial: PathBuf,
    log: PathBuf,
    since: Instant,
}

impl Machine {
    /// Switches it on, with a tap of its own on the network; its files go into `directory`.
    pub(crate) fn switch_on(
        network: &Network,
        directory: &Path,
        hardware: &Hardware,
    ) -> Result<Self, Failure> {
        let Hardware { name, firmware, mac, memory } = hardware;
        network.tap(name)?;
        let mut qemu = qemu(network, name, *memory).words("-smp 1 -cpu max");
        qemu = qemu.arg("-serial").arg(format!("file:{}", serial(directory, name).display()));
        let card = format!("virtio-net-pci,netdev=n0,mac={mac},bootindex=1");
        match firmware {
            Firmware::Bios => {
                // Without graphics SeaBIOS and iPXE write to the serial line.
                qemu = qemu.words("-machine pc,accel=tcg,graphics=off -boot n -device").arg(card);
            }
            Firmware::Uefi | Firmware::UefiHttp => {
                let variables = directory.join(format!("{name}.vars"));
                fs::copy(OVMF_VARIABLES, &variables).during(OVMF_VARIABLES)?;
                let code = format!("if=pflash,format=raw,unit=0,readonly=on,file={OVMF_CODE}");
                let variables = format!("if=pflash,format=raw,unit=1,file={}", variables.display());
                qemu = qemu.words("-machine pc,accel=tcg -drive").arg(code);
                // Without a ROM on the card OVMF uses its own PXE stack instead of QEMU's iPXE.
                qemu = qemu.args(["-drive", &variables, "-device", &format!("{card},romfile=")]);
                if *firmware == Firmware::UefiHttp {
                    // OVMF comes to HTTP boot only after PXE has failed, which takes minutes.
                    for family in ["IPv4", "IPv6"] {
                        let switch = format!("name=opt/org.tianocore/{family}PXESupport,string=n");
                        qemu = qemu.args(["-fw_cfg", &switch]);
                    }
                }
            }
        }
        Self::start(qemu, directory, name)
    }

    /// Switches a machine on that has disks, and a kernel that QEMU starts without any firmware's
    /// help; its files go into `directory`.
    pub(crate) fn start_kernel(
        network: &Network,
        directory: &Path,
        computer: &Computer<'_>,
    ) -> Result<Self, Failure> {
        network.tap(computer.name)?;
        Self::start_kernel_again(network, directory, computer)
    }

    /// The same for a machine that was on before, and is off: with the same tap and the same disks.
    pub(crate) fn start_kernel_again(
        network: &Network,
        directory: &Path,
        computer: &Computer<'_>,
    ) -> Result<Self, Failure> {
        let Computer { name, mac, memory, processors, kernel, initrd, disks } = computer;
        let log = serial(directory, name);
        let console = format!("file,id=s0,path={},append=on", log.display());
        let line =
            format!("socket,id=s1,path={},server=on,wait=off", line(directory, name).display());
        let mut qemu = qemu(network, name, *memory)
            .args(["-chardev", &console, "-serial", "chardev:s0"])
            .args(["-chardev", &line, "-serial", "chardev:s1"])
            // Emulated string instructions go byte by byte: the kernel clears and copies pages faster
            // when it does not know that a real processor has fast ones.
            .arg("-smp")
            .arg(processors.to_string())
            .words("-cpu max,-erms,-fsrm -machine pc,accel=tcg,graphics=off -device")
            .arg(format!("virtio-net-pci,netdev=n0,mac={mac},romfile="))
            .args(["-append", KERNEL, "-kernel"])
            .arg(kernel)
            .arg("-initrd")
            .arg(initrd);
        for disk in *disks {
            let (path, options) = match disk {
                Disk::Shared(path) => (path, "readonly=on"),
                // What a test's disk holds is of no use after a loss of power.
                Disk::Own(path) => (path, "cache=unsafe"),
            };
            let drive = format!("if=virtio,format=raw,{options},file={}", path.display());
            qemu = qemu.args(["-drive", &drive]);
        }
        Self::start(qemu, directory, name)
    }

    fn start(qemu: Program, directory: &Path, name: &str) -> Result<Self, Failure> {
        let log = directory.join(format!("{name}.qemu"));
        let serial = serial(directory, name);
        Ok(Self { running: qemu.start(&log)?, serial, log, since: Instant::now() })
    }

    /// Waits until it switches itself off; gives how long it was on.
    pub(crate) fn wait_until_off(&mut self, limit: Duration) -> Result<Duration, Failure> {
        let status = self.running.wait(limit).map_err(|error| self.explain(error))?;
        ensure(status.success(), || format!("QEMU: {status}: {}", tail(&self.log, 5)))?;
        Ok(self.since.elapsed())
    }

    /// Whether it has switched itself off.
    pub(crate) fn is_off(&mut self) -> Result<bool, Failure> {
        Ok(self.running.ended()?.is_some())
    }

    /// Fails if it has switched itself off.
    pub(crate) fn still_on(&mut self) -> Result<(), Failure> {
        self.running.still(&self.log)
    }

    /// All that it has written on its serial line.
    pub(crate) fn said(&self) -> String {
        // QEMU makes the file when it starts.
        String::from_utf8_lossy(&fs::read(&self.serial).unwrap_or_default()).into_owned()
    }

    /// Adds the end of what the machine wrote on its serial line to a failure.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        failure.retold(|words| {
            let (serial, log) = (tail(&self.serial, 25), tail(&self.log, 5));
            format!("{words}\nthe machine's last words:\n{serial}{log}")
        })
    }
}

/// What all machines have: memory, and a network card's wire.
///
/// KVM exists in many test machines without working in them: guests hang. Emulation is slower and
/// always works.
fn qemu(network: &Network, name: &str, memory: u32) -> Program {
    let qemu = network.server.program("qemu-system-x86_64");
    qemu.words("-display none -no-reboot -nodefaults")
        .arg("-m")
        .arg(memory.to_string())
        .arg("-netdev")
        .arg(format!("tap,id=n0,ifname={name},script=no,downscript=no"))
        .words("-object rng-random,id=r0,filename=/dev/urandom")
        .words("-device virtio-rng-pci,rng=r0")
}

/// The socket of a machine's second serial line, at which one can type: what its kernel has to say comes
/// on the first one, and disturbs nobody there.
pub(crate) fn line(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.line"))
}

fn serial(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.serial"))
}

/// What a kernel is told that QEMU starts.
///
/// One thing about the translator cannot be told away: QEMU 7.2 loses the processor's flags when a SETcc
/// writes to a page that faults (2,000 times of 2,000, when the page was shared with a child of fork(2)).
/// A program that is in the right then goes the wrong way at the next jump; netbe died of it when it
/// started zfs(8) by fork(2).
///
/// It takes a timer that is late, as on a busy computer, for one that is broken. QEMU keeps what it has
/// translated of a program only as long as that lies at the same addresses (seen in 7.2), so that a
/// program is started in half the time where all its runs have the same; nor does it need to be
/// protected from the mistakes of real processors. Without memory that is wiped before it is given out and
/// counted by groups, and without AppArmor, programs take a twentieth less.
const KERNEL: &str = "console=ttyS0 quiet panic=-1 no_timer_check norandmaps mitigations=off \
    init_on_alloc=0 cgroup_disable=memory transparent_hugepage=never apparmor=0 audit=0";
/// OVMF's code, from Debian's package ovmf.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// OVMF's variables, as they are when the machine is new.
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
