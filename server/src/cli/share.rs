//! The verb that shares a boot environment over NFS.

use std::convert::Infallible;

use clap::Args;
use nix::unistd::User;
use store::{EnvironmentName, ExportSettings, Identity, Network};

use super::{Failure, Reply, Site};

/// Share a boot environment over NFS; what is not said stays as it is.
///
/// A machine whose root it is reaches it in any case. Others need --network or --machine.
#[derive(Args, Debug)]
pub(crate) struct Sharenfs {
    /// Nobody may write.
    #[arg(long, overrides_with = "rw")]
    ro: bool,
    /// Who may use it may write, as at first.
    #[arg(long)]
    rw: bool,
    /// Whom a client's root acts as: a user of this host, or uid:gid; none for nobody, as at first.
    #[arg(long, value_name = "USER", value_parser = identity)]
    maproot: Option<Given<Identity>>,
    /// Whom every user of a client acts as; none for themselves, as at first.
    #[arg(long, value_name = "USER", value_parser = identity)]
    mapall: Option<Given<Identity>>,
    /// The networks that may use it, as in 192.168.2.0/24: may be repeated; none takes them away.
    #[arg(long = "network", value_name = "CIDR", value_parser = network)]
    networks: Vec<Given<Network>>,
    /// The machines that may use it, by name: may be repeated; none takes them away.
    #[arg(long = "machine", value_name = "MACHINE", value_parser = machine)]
    machines: Vec<Given<String>>,
    /// Accept calls from ports that any user of a client can send from.
    #[arg(long, overrides_with = "secure")]
    insecure: bool,
    /// Accept calls only from ports below 1024, as at first.
    #[arg(long)]
    secure: bool,
    /// Share it no longer, and forget how it was.
    #[arg(
        long,
        conflicts_with_all = [
            "ro", "rw", "maproot", "mapall", "networks", "machines", "insecure", "secure",
        ]
    )]
    off: bool,
    /// The boot environment.
    name: EnvironmentName,
}

impl Sharenfs {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        site.open()?.change_export(&self.name, |export| self.change(export))?;
        site.reload_only(&[&self.name])?;
        Ok(Reply::done())
    }

    fn change(&self, export: &mut ExportSettings) {
        if self.off || !export.shared {
            *export = ExportSettings { shared: !self.off, ..ExportSettings::default() };
        }
        export.read_only = (export.read_only && !self.rw) || self.ro;
        export.insecure = (export.insecure && !self.secure) || self.insecure;
        for (given, kept) in
            [(&self.maproot, &mut export.maproot), (&self.mapall, &mut export.mapall)]
        {
            if let Some(Given(identity)) = given {
                kept.clone_from(identity);
            }
        }
        if !self.networks.is_empty() {
            export.networks = self.networks.iter().filter_map(|given| given.0).collect();
        }
        if !self.machines.is_empty() {
            export.machines = self.machines.iter().filter_map(|given| given.0.clone()).collect();
        }
    }
}

/// What an argument gives, or `none`.
#[derive(Clone, Debug)]
struct Given<T>(Option<T>);

fn network(text: &str) -> Result<Given<Network>, store::NetworkError> {
    if text == NONE { Ok(Given(None)) } else { text.parse().map(|network| Given(Some(network))) }
}

fn machine(text: &str) -> Result<Given<String>, Infallible> {
    Ok(Given(Some(text.to_owned()).filter(|text| text != NONE)))
}

/// Reads a user: by number, or by the name that this host knows.
///
/// `root` and `nobody` are the same numbers on all hosts, whatever this one's list of users says.
fn identity(text: &str) -> Result<Given<Identity>, String> {
    match text {
        NONE => Ok(Given(None)),
        "root" => Ok(Given(Some(Identity::root()))),
        "nobody" => Ok(Given(Some(Identity::nobody()))),
        _ => user(text).map(|identity| Given(Some(identity))),
    }
}

fn user(text: &str) -> Result<Identity, String> {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return text.parse().map_err(|error: store::IdentityError| error.to_string());
    }
    let user = User::from_name(text).ok().flatten();
    let user = user.ok_or("this host has no such user: write uid:gid, as in 1001:1001")?;
    Ok(Identity { uid: user.uid.as_raw(), gids: vec![user.gid.as_raw()] })
}

/// What takes something away that is written down.
const NONE: &str = "none";
