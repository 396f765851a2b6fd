//! A machine with nothing in it: QEMU with a network card, firmware and no disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::failure::{During, Failure, ensure};
use crate::net::Network;
use crate::process::{Running, tail};

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
        let serial = directory.join(format!("{name}.serial"));
        let log = directory.join(format!("{name}.qemu"));
        // KVM exists in many test machines without working in them: guests hang. Emulation is
        // slower and always works.
        let mut qemu = network
            .server
            .program("qemu-system-x86_64")
            .words("-cpu max -smp 1 -display none -no-reboot -nodefaults")
            .arg("-m")
            .arg(memory.to_string())
            .arg("-serial")
            .arg(format!("file:{}", serial.display()))
            .arg("-netdev")
            .arg(format!("tap,id=n0,ifname={name},script=no,downscript=no"))
            .words("-object rng-random,id=r0,filename=/dev/urandom")
            .words("-device virtio-rng-pci,rng=r0");
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
        Ok(Self { running: qemu.start(&log)?, serial, log, since: Instant::now() })
    }

    /// Waits until it switches itself off; gives how long it was on.
    pub(crate) fn wait_until_off(&mut self, limit: Duration) -> Result<Duration, Failure> {
        let status = self.running.wait(limit).map_err(|error| self.explain(error))?;
        ensure(status.success(), || format!("QEMU: {status}: {}", tail(&self.log, 5)))?;
        Ok(self.since.elapsed())
    }

    /// Fails if it has switched itself off.
    pub(crate) fn still_on(&mut self) -> Result<(), Failure> {
        self.running.still(&self.log)
    }

    /// Adds the end of what the machine wrote on its serial line to a failure.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        failure.retold(|words| {
            let (serial, log) = (tail(&self.serial, 25), tail(&self.log, 5));
            format!("{words}\nthe machine's last words:\n{serial}{log}")
        })
    }
}

/// OVMF's code, from Debian's package ovmf.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// OVMF's variables, as they are when the machine is new.
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
