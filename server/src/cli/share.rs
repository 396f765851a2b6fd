//! The verb that shares a boot environment over NFS.

use clap::Args;
use nix::unistd::User;
use store::{EnvironmentName, ExportSettings, Identity, Network};

use super::{Failure, Reply, Site};

/// Share a boot environment over NFS; what is not said is as if it never was.
///
/// A machine whose root it is reaches it in any case. Others need --network or --machine.
#[derive(Args, Debug)]
pub(crate) struct Sharenfs {
    /// Nobody may write.
    #[arg(long)]
    ro: bool,
    /// Whom a client's root acts as: a user of this host, or uid:gid [default: nobody].
    #[arg(long, value_name = "USER", value_parser = identity)]
    maproot: Option<Identity>,
    /// Whom every user of a client acts as.
    #[arg(long, value_name = "USER", value_parser = identity)]
    mapall: Option<Identity>,
    /// A network that may use it, as in 192.168.2.0/24; may be repeated.
    #[arg(long = "network", value_name = "CIDR")]
    networks: Vec<Network>,
    /// A machine that may use it, by name; may be repeated.
    #[arg(long = "machine", value_name = "MACHINE")]
    machines: Vec<String>,
    /// Accept calls from ports that any user of a client can send from.
    #[arg(long)]
    insecure: bool,
    /// Share it no longer.
    #[arg(
        long,
        conflicts_with_all = ["ro", "maproot", "mapall", "networks", "machines", "insecure"]
    )]
    off: bool,
    /// The boot environment.
    name: EnvironmentName,
}

impl Sharenfs {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let settings = ExportSettings {
            shared: !self.off,
            read_only: self.ro,
            maproot: self.maproot.clone(),
            mapall: self.mapall.clone(),
            networks: self.networks.clone(),
            machines: self.machines.clone(),
            insecure: self.insecure,
        };
        site.open()?.set_export(&self.name, settings)?;
        site.reload_only(&[&self.name])?;
        Ok(Reply::done())
    }
}

/// Reads a user: by number, or by the name that this host knows.
///
/// `root` and `nobody` are the same numbers on all hosts, whatever this one's list of users says.
fn identity(text: &str) -> Result<Identity, String> {
    match text {
        "root" => return Ok(Identity::root()),
        "nobody" => return Ok(Identity::nobody()),
        _ => {}
    }
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return text.parse().map_err(|error: store::IdentityError| error.to_string());
    }
    let user = User::from_name(text).ok().flatten();
    let user = user.ok_or("this host has no such user: write uid:gid, as in 1001:1001")?;
    Ok(Identity { uid: user.uid.as_raw(), gids: vec![user.gid.as_raw()] })
}
