//! What systemd needs to know of a container whose root is a boot environment.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use bootcfg::Mac;
use bootcfg::nspawn::{self, Container, Source};
use clap::Args;
use hostfs::Inside;
use provision::contents::Scanner;
use store::{EnvironmentName, Store};

use super::files::Destination;
use super::guest::{expect_kernel, text};
use super::machine::roster;
use super::{Failure, Reply, Site};
use crate::boot::plan::export_path;
use crate::site::machine::{MachineName, Runner};

/// The files by which systemd runs a Linux boot environment as a container (systemd-nspawn(1)).
///
/// `--into /` writes them on this host; then run `systemctl daemon-reload` and
/// `systemctl start systemd-nspawn@NAME`. Its interface asks for an address by DHCP.
#[derive(Args, Debug)]
pub(crate) struct ShowNspawn {
    /// Run it as this machine, with the machine's name and Ethernet address.
    #[arg(long, value_name = "MACHINE")]
    machine: Option<MachineName>,
    /// The bridge of this host that its interface joins [default: none; the host routes for it].
    #[arg(long, value_name = "INTERFACE")]
    bridge: Option<String>,
    /// Its Ethernet address, which it keeps on another host [default: the machine's].
    #[arg(long, value_name = "MAC")]
    mac: Option<crate::net::Mac>,
    /// The directory where `netbe mount` mounts it; needed for a ZFS store.
    #[arg(long, value_name = "DIR", conflicts_with = "nfs")]
    root: Option<PathBuf>,
    /// Mount its root over NFS from this server instead of from this host's store.
    #[arg(long, value_name = "SERVER")]
    nfs: Option<Ipv4Addr>,
    /// Map its users to other user numbers on the host; files keep their owners.
    #[arg(long, conflicts_with = "nfs")]
    private_users: bool,
    #[command(flatten)]
    destination: Destination,
    /// The boot environment.
    name: EnvironmentName,
}

impl ShowNspawn {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let environment = store.get(&self.name)?;
        let inside = Inside::from_fd(store.open_root(&self.name)?);
        let system = Scanner::default().scan(&inside).map_err(Failure::could_not)?.system;
        expect_kernel(Runner::Nspawn, system.as_ref(), &self.name)?;
        let mut mac = self.mac;
        if let Some(name) = &self.machine {
            let roster = roster(&site.open_state()?)?;
            let entry = roster.get(name).ok_or_else(|| {
                Failure::no(format_args!(
                    "there is no machine {name}: `netbe machine list` shows all"
                ))
            })?;
            mac = mac.or_else(|| entry.machine.macs.first().copied());
        }
        let root = match self.nfs {
            Some(server) => Source::Nfs { server, path: export_path(self.name.as_str()) },
            None => Source::Directory(self.directory(&store)?),
        };
        let container = Container {
            name: self.machine.as_ref().map_or_else(|| self.name.to_string(), ToString::to_string),
            root,
            read_only: environment.is_read_only(),
            bridge: self.bridge.clone(),
            mac: mac.map(|mac| Mac(mac.0)),
            private_users: self.private_users,
        };
        let files = nspawn::files(&container).map_err(Failure::could_not)?;
        self.destination.reply(&files)
    }

    /// Where its files are on this host, whether netbe runs or not.
    fn directory(&self, store: &Store) -> Result<String, Failure> {
        let name = &self.name;
        if let Some(root) = &self.root {
            return text(root).map(str::to_owned);
        }
        if !store.capabilities().in_place {
            return Err(Failure::no(format_args!(
                "netbe does not mount the data sets of {name}: run `netbe mount {name} DIR` when the \
                 host starts, and give --root DIR, or mount them with --nfs"
            )));
        }
        text(&store.root(name)).map(str::to_owned)
    }
}
