//! What a machine with FreeBSD boots: which loader, how that fetches its files, and what it is told.

use serde::{Deserialize, Serialize};

use super::{Next, NoPlan, Site, Subject, export_path, ipxe};
use crate::boot::catalog::Facts;
use crate::boot::loader::{self, Loader, LoaderLocation};
use crate::boot::{Arch, Client};
use crate::site::kenv::{self, Variable};
use crate::site::machine::{LoaderChoice, LoaderProtocol};

/// How FreeBSD's loader fetches its files.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fetch {
    /// By NFS; so it has the root's handle and gives it to the kernel.
    #[default]
    Nfs,
    /// By TFTP.
    Tftp,
    /// By HTTP, from the URL that its firmware loaded it from.
    Http,
}

/// The part of a plan that is FreeBSD's.
#[derive(Debug)]
pub(super) struct FreeBsd {
    /// What firmware loads.
    pub(super) first: Option<Loader>,
    /// The environment's own loader, and how it comes.
    pub(super) next: Next,
    /// How that fetches its files.
    pub(super) fetch: Fetch,
    /// What it is told.
    pub(super) variables: Vec<Variable>,
}

/// Decides how FreeBSD is loaded.
pub(super) fn decide(
    subject: Subject<'_>,
    environment: &Facts,
    site: Site<'_>,
) -> Result<FreeBsd, NoPlan> {
    let arch = match subject.client {
        Client::Pxe(arch) | Client::Http(arch) | Client::Ipxe(arch) => Some(arch),
        Client::FreeBsdKernel | Client::FreeBsdLoader | Client::Ordinary => None,
    };
    let machine = subject.machine.map(|(_, machine)| machine);
    let own = own(arch, environment)?;
    let protocol = machine.map_or_else(LoaderProtocol::default, |machine| machine.loader_protocol);
    let fetch = fetch(protocol, subject.client, arch.map(|_| &own), environment)?;
    let ipxe = |arch| ipxe(arch, environment, site.loaders);
    let behind_proxy =
        site.proxy && fetch != Fetch::Http && arch.is_some_and(|arch| arch != Arch::BIOS);
    if behind_proxy && fetch != Fetch::Nfs {
        return Err(NoPlan::TftpBehindProxy);
    }
    let wants_ipxe = machine.is_some_and(|machine| machine.loader == LoaderChoice::Ipxe);
    let first = match subject.client {
        Client::Http(_) if fetch == Fetch::Http => Some(own.clone()),
        // Its loader would go on by HTTP, ask no DHCP server and depend on its firmware for every
        // file. With iPXE between them it works as it does after PXE.
        Client::Http(arch) => Some(ipxe(arch)?),
        Client::Pxe(arch) if behind_proxy || wants_ipxe => Some(ipxe(arch)?),
        Client::Pxe(_) => Some(own.clone()),
        Client::FreeBsdKernel | Client::FreeBsdLoader | Client::Ipxe(_) | Client::Ordinary => None,
    };
    let read_size = kenv::read_size(site.network.mtu);
    let given = match fetch {
        Fetch::Nfs => {
            let mut given = vec![Variable::known("boot.nfsroot.options", "nolockd")];
            // BIOS loaders stay at their own 1024.
            if arch.is_some_and(|arch| arch != Arch::BIOS) {
                given.push(Variable::known(kenv::READ_SIZE, read_size));
            }
            given
        }
        Fetch::Tftp | Fetch::Http => {
            kenv::nfs_root(site.server, &export_path(&environment.name), &environment.handle)
        }
    };
    let variables = match machine {
        Some(machine) => kenv::overlaid(given, &machine.variables(), read_size),
        None => given,
    };
    kenv::pack(&variables).map_err(NoPlan::Kenv)?;
    let next = if behind_proxy { Next::Handed(own) } else { Next::Loader(own) };
    Ok(FreeBsd { first, next, fetch, variables })
}

fn own(arch: Option<Arch>, environment: &Facts) -> Result<Loader, NoPlan> {
    // Without firmware in sight the loader runs already, and this one is never asked for.
    let path = loader::freebsd_path(arch.unwrap_or(Arch::UEFI_X64));
    let name = path.rsplit('/').next().unwrap_or(path);
    if arch.is_some() && !environment.contents.loaders.contains(name) {
        return Err(NoPlan::NoFreeBsdLoader { environment: environment.name.clone(), path });
    }
    Ok(Loader { name: name.to_owned(), place: LoaderLocation::Environment(path.to_owned()) })
}

/// How the loader fetches its files: as was chosen, else by NFS if it can.
///
/// `own` is the loader that runs, if it is known which does.
fn fetch(
    protocol: LoaderProtocol,
    client: Client,
    own: Option<&Loader>,
    environment: &Facts,
) -> Result<Fetch, NoPlan> {
    let fetch = match (protocol, client) {
        (LoaderProtocol::Nfs, _) => Fetch::Nfs,
        (LoaderProtocol::Tftp, _) => Fetch::Tftp,
        (LoaderProtocol::Http, Client::Http(_)) => Fetch::Http,
        (LoaderProtocol::Http, Client::Ipxe(_) | Client::Pxe(_)) => {
            return Err(NoPlan::HttpFirmware(client));
        }
        (LoaderProtocol::Auto, _)
        | (
            LoaderProtocol::Http,
            Client::FreeBsdKernel | Client::FreeBsdLoader | Client::Ordinary,
        ) => {
            let contents = &environment.contents;
            let lacks_nfs = match own {
                Some(own) => contents.without_nfs.contains(&own.name),
                None => {
                    let has = |name: &&&str| contents.loaders.contains(**name);
                    let mut there = loader::FREEBSD.iter().filter(has).peekable();
                    there.peek().is_some() && there.all(|name| contents.without_nfs.contains(*name))
                }
            };
            if lacks_nfs { Fetch::Tftp } else { Fetch::Nfs }
        }
    };
    if fetch == Fetch::Tftp && environment.name.len() > MAX_TFTP_NAME {
        return Err(NoPlan::TftpName(environment.name.clone()));
    }
    Ok(fetch)
}

/// The longest name of an environment that the loader can fetch from by TFTP: 128 bytes hold
/// `/be/NAME` and a file's path (FNAME_SIZE), of which the longest known ones have less than 48.
const MAX_TFTP_NAME: usize = 76;
