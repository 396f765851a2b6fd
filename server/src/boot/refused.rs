//! What a machine is sent that boots nothing, so that its own screen says why in the words of `netbe
//! status`: a loader of this host, and a script or a configuration for it.
//!
//! A named machine whose loader was chosen is sent that, if it is on the host: it is what works there, with
//! Secure Boot too. Others are sent iPXE.

use std::fs::File;
use std::path::{Path, PathBuf};

use bootcfg::ipxe::{self, Action, Script, Then};
use bootcfg::refusal;

use super::files;
use super::loader::{self, HostLoaders, Part};
use super::plan::{NoPlan, Plan, SCRIPT, stable_url};
use super::script::{Configuration, configuration_named};
use super::{Answer, Arch, Ask, BootFile, Client, FileError, FileProtocol, Role, Ticket};
use crate::site::machine::{LoaderChoice, Machine, SerialPort};

/// A machine that boots nothing.
#[derive(Clone, Debug)]
pub(super) struct Refused<'a> {
    why: String,
    /// A machine that an administrator has named begins anew, until it is given something to boot. Of
    /// another one nobody knows that it is to boot from here: it goes on to its own disk.
    then: Then,
    /// The loader that was chosen for it; `None` for a machine that is not named.
    choice: Option<LoaderChoice>,
    serial: Option<SerialPort>,
    loaders: &'a HostLoaders,
}

impl<'a> Refused<'a> {
    /// A machine that is refused for this reason, its record if it is named, and the loaders of this host.
    pub(super) fn new(why: &NoPlan, machine: Option<&Machine>, loaders: &'a HostLoaders) -> Self {
        let then = if matches!(why, NoPlan::Unknown) { Then::NextDevice } else { Then::Restart };
        let choice = machine.map(|machine| machine.loader);
        let serial = machine.and_then(|machine| machine.serial);
        Self { why: why.to_string(), then, choice, serial, loaders }
    }

    /// A machine that has a plan, and whose root cannot be had for this reason.
    pub(super) fn rootless(why: String, plan: &Plan, loaders: &'a HostLoaders) -> Self {
        let choice = plan.chosen.as_ref().map(|chosen| chosen.choice);
        Self { why, then: Then::Restart, choice, serial: plan.serial, loaders }
    }

    /// What DHCP tells the machine; nothing where what asks cannot show anything, or where another server
    /// may have something for it.
    pub(super) fn answer(&self, ask: &Ask, http_port: u16) -> Option<Answer> {
        if ask.observed || ask.proxy && self.then == Then::NextDevice {
            return None;
        }
        let url = |name: &str| stable_url(ask.local, http_port, name);
        let file = match ask.client {
            Client::Ipxe(_) => url(SCRIPT),
            Client::Pxe(arch) => self.first(arch)?.to_owned(),
            Client::Http(arch) => url(self.first(arch)?),
            Client::FreeBsdKernel | Client::FreeBsdLoader | Client::Ordinary => return None,
        };
        let (host_name, root_path, options, asked) = (None, None, Vec::new(), Vec::new());
        Some(Answer { file: Some(file), root_path, host_name, options, asked })
    }

    /// Opens a file for it: a loader of this host, or what that shows.
    pub(super) fn open(&self, protocol: FileProtocol, name: &str) -> Result<BootFile, FileError> {
        // Of no boot: that it is fetched does not end the machine's trouble.
        let ticket = Ticket { boot: None, role: Role::Other };
        if name == SCRIPT {
            return Ok(files::generated(self.script()?, ticket));
        }
        if let Some(of) = configuration_named(name) {
            return Ok(files::generated(self.configuration(of), ticket));
        }
        match (self.path(name), protocol) {
            (Some(path), _) => {
                let file = File::open(&path).map_err(|error| {
                    tracing::error!("{}: {error}", path.display());
                    FileError::Io
                })?;
                files::opened(file, Path::new(name), ticket)
            }
            (None, FileProtocol::Http) => Err(FileError::NotFound),
            (None, FileProtocol::Tftp) => Err(FileError::Refused(self.why.clone())),
        }
    }

    /// What its firmware loads: what was chosen for it if all of that is on the host, else iPXE.
    fn first(&self, arch: Arch) -> Option<&'static str> {
        let parts = self.choice.map_or(&[][..], |choice| loader::chosen_parts(choice, arch));
        let is_there = parts.iter().all(|part| self.part(part).is_some());
        let chosen = parts.first().filter(|_| is_there);
        let ipxe = || loader::ipxe_names(arch).iter().find(|name| self.loaders.get(name).is_some());
        chosen.map(|part| part.name).or_else(|| ipxe().copied())
    }

    fn part(&self, part: &Part) -> Option<PathBuf> {
        part.files.iter().find_map(|file| self.loaders.get(file))
    }

    /// Where a file of a loader is that it may have.
    fn path(&self, name: &str) -> Option<PathBuf> {
        if loader::is_ipxe(name) {
            return self.loaders.get(name);
        }
        let arches = [Arch::BIOS, Arch::UEFI_X64, Arch::UEFI_ARM64];
        let of = |arch| self.choice.map_or(&[][..], |choice| loader::chosen_parts(choice, arch));
        let mut parts = arches.into_iter().flat_map(of);
        if let Some(part) = parts.find(|part| part.name == name) {
            return self.part(part);
        }
        let restarts = self.is_pxelinux() && RESTARTS.contains(&name);
        restarts.then(|| self.loaders.get(name)).flatten()
    }

    fn is_pxelinux(&self) -> bool {
        matches!(self.choice, Some(LoaderChoice::Pxelinux | LoaderChoice::Lpxelinux))
    }

    fn configuration(&self, of: Configuration) -> String {
        let (why, serial) = (&self.why, self.serial.map(|port| port.0));
        match of {
            Configuration::Grub => refusal::grub(why, self.then, serial),
            Configuration::Pxelinux => {
                let has_reboot = RESTARTS.iter().all(|name| self.path(name).is_some());
                refusal::pxelinux(why, self.then, serial, has_reboot)
            }
        }
    }

    fn script(&self) -> Result<String, FileError> {
        let script = Script {
            server: String::new(),
            machine: "this machine".to_owned(),
            environment: "nothing".to_owned(),
            boot: None,
            action: Action::Refuse { message: self.why.clone(), then: self.then },
        };
        ipxe::render(&script).map_err(|error| FileError::Refused(error.to_string()))
    }
}

/// What pxelinux needs to start a machine anew.
const RESTARTS: [&str; 2] = ["reboot.c32", "libcom32.c32"];
