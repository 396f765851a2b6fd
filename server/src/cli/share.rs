//! The verb that shares a boot environment over NFS.

use clap::Args;
use nix::unistd::User;
use store::{EnvironmentName, ExportSettings, Identity, Network};

use super::{Dry, Failure, Reply, Site, machine};
use crate::site::machine::{MachineName, MachineNameError};

/// Share a boot environment over NFS. A setting without its flag stays as it is.
///
/// The machine that boots it always has access. Others need --network or --machine.
#[derive(Args, Debug)]
pub(crate) struct Sharenfs {
    /// Share it read-only.
    #[arg(long, overrides_with = "rw")]
    ro: bool,
    /// Share it read-write (the default).
    #[arg(long)]
    rw: bool,
    /// Map a client's root to this user: a user of this host, or uid:gid; `none` maps it to nobody
    /// (the default).
    #[arg(long, value_name = "USER", value_parser = identity)]
    maproot: Option<Given<Identity>>,
    /// Map every user of a client to this user; `none` maps nobody (the default).
    #[arg(long, value_name = "USER", value_parser = identity)]
    mapall: Option<Given<Identity>>,
    /// A network that may mount it, as in 192.168.2.0/24; may be repeated; `none` removes all
    /// networks.
    #[arg(long = "network", value_name = "CIDR", value_parser = network)]
    networks: Vec<Given<Network>>,
    /// A machine that may mount it, by name; may be repeated; `none` removes all machines.
    #[arg(long = "machine", value_name = "MACHINE", value_parser = machine_name)]
    machines: Vec<Given<String>>,
    /// Accept calls from any source port; any user of a client can send those.
    #[arg(long, overrides_with = "secure")]
    insecure: bool,
    /// Accept calls only from source ports below 1024 (the default).
    #[arg(long)]
    secure: bool,
    /// Take a user's further groups from this host's list of users, not from the client, which can name
    /// sixteen at most. The user's primary group, and all groups of users whom this host does not know,
    /// still come from the client. Changes on this host count after a minute.
    #[arg(long, overrides_with = "no_manage_gids")]
    manage_gids: bool,
    /// Take a user's groups from the client (the default).
    #[arg(long)]
    no_manage_gids: bool,
    /// Stop sharing it, and reset its share settings.
    #[arg(
        long,
        conflicts_with_all = [
            "ro", "rw", "maproot", "mapall", "networks", "machines", "insecure", "secure",
            "manage_gids", "no_manage_gids",
        ]
    )]
    off: bool,
    #[command(flatten)]
    dry: Dry,
    /// The boot environment.
    name: EnvironmentName,
}

impl Sharenfs {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let mut export = store.get(&self.name)?.export;
        self.change(&mut export);
        self.warn(site, &export)?;
        if let Some(told) = self.dry.instead(site, self.deed(&export)) {
            return Ok(told);
        }
        store.change_export(&self.name, |export| self.change(export))?;
        site.reload_only(&[&self.name])?;
        Ok(Reply::done())
    }

    /// How it is shared then, in words.
    fn deed(&self, export: &ExportSettings) -> String {
        let name = &self.name;
        if !export.shared {
            return format!("share {name} no longer");
        }
        let networks = export.networks.iter().map(ToString::to_string);
        let with: Vec<String> = networks.chain(export.machines.iter().cloned()).collect();
        let with = if with.is_empty() { "nobody".to_owned() } else { with.join(", ") };
        let how = if export.read_only { "read-only" } else { "for reading and writing" };
        format!("share {name} with {with}, {how}")
    }

    /// Warns of what lets nobody in.
    fn warn(&self, site: &Site, export: &ExportSettings) -> Result<(), Failure> {
        let name = &self.name;
        // With --ro alone it is said of the machines that boot it.
        if export.shared && export.machines.is_empty() && export.networks.is_empty() && !self.ro {
            tracing::warn!(
                "{name} is shared with nobody: name machines with --machine, or networks with --network; \
                 the machine that boots it always has access"
            );
        }
        let named: Vec<_> = self.machines.iter().filter_map(|given| given.0.as_deref()).collect();
        if named.is_empty() {
            return Ok(());
        }
        let roster = machine::roster(&site.open_state()?)?;
        let known = |wanted: &str| roster.iter().any(|(name, _)| name.as_str() == wanted);
        for unknown in named.into_iter().filter(|wanted| !known(wanted)) {
            tracing::warn!(
                "there is no machine {unknown}, so that name cannot mount {name}: add the machine with \
                 `netbe machine add`; `netbe machine list` shows all"
            );
        }
        Ok(())
    }

    fn change(&self, export: &mut ExportSettings) {
        if self.off || !export.shared {
            *export = ExportSettings { shared: !self.off, ..ExportSettings::default() };
        }
        export.read_only = (export.read_only && !self.rw) || self.ro;
        export.insecure = (export.insecure && !self.secure) || self.insecure;
        export.manage_gids = (export.manage_gids && !self.no_manage_gids) || self.manage_gids;
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

/// Reads a machine's name; as in names of hosts, capitals are small letters.
fn machine_name(text: &str) -> Result<Given<String>, MachineNameError> {
    if text == NONE {
        return Ok(Given(None));
    }
    text.parse().map(|name: MachineName| Given(Some(name.to_string())))
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
