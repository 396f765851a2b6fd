//! Who may use an export, and as whom.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use store::Identity;
use vfs::{Caller, FsError};

use super::Export;
use crate::boot::Roots;
use crate::net::rpc::Credential;

impl Export {
    /// Whether a caller at `peer`, whose machine has these roots, may use this export.
    ///
    /// A machine whose root this is may in any case; everybody else needs the export to be shared
    /// with his network or his machine by name. Takes no lock and makes no string.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn admit(&self, peer: SocketAddr, roots: &Roots) -> Result<Grant, Refusal> {
        let settings = &self.settings;
        let own = roots.of(self.environment);
        let address = peer.ip().to_canonical();
        let named = |name: &String| roots.iter().any(|root| *root.machine == **name);
        let shared = settings.shared
            && (settings.networks.iter().any(|network| network.contains(address))
                || settings.machines.iter().any(named));
        if own.is_none() && !shared {
            return Err(Refusal::Address(address));
        }
        if peer.port() >= FIRST_FREE_PORT && !settings.insecure {
            return Err(Refusal::Port(peer.port()));
        }
        let is_own = own.is_some();
        Ok(Grant {
            read_only: settings.read_only || own.is_some_and(|root| root.read_only),
            everybody: settings.mapall.as_ref().map(act_as),
            superuser: match &settings.maproot {
                Some(identity) => act_as(identity),
                None if is_own => Caller::ROOT,
                None => NOBODY,
            },
            manage_gids: settings.manage_gids,
        })
    }
}

/// What a caller may do with an export.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Whether nothing may be changed.
    pub read_only: bool,
    /// Whom everybody acts as (`mapall`).
    everybody: Option<Caller>,
    /// Whom the superuser acts as (`maproot`).
    superuser: Caller,
    /// Whether users have the groups that this host knows (`--manage-gids` of Linux's mountd(8)).
    manage_gids: bool,
}

impl Grant {
    /// On whose behalf the call of somebody with this credential is carried out. `known` has the groups
    /// of a user of this host, and is asked only where they count.
    ///
    /// # Errors
    ///
    /// Why `known` cannot tell now.
    pub fn caller(
        &self,
        credential: &Credential,
        known: impl FnOnce(u32) -> Result<Option<Arc<[u32]>>, FsError>,
    ) -> Result<Caller, FsError> {
        let claimed = caller(credential);
        if let Some(everybody) = &self.everybody {
            return Ok(everybody.clone());
        }
        if claimed.uid == 0 {
            return Ok(self.superuser.clone());
        }
        let groups = if self.manage_gids { known(claimed.uid)? } else { None };
        let claimed = match groups {
            Some(groups) => claimed.with_known_groups(groups),
            None => claimed,
        };
        if self.superuser.uid == 0 { Ok(claimed) } else { Ok(without_root_group(claimed)) }
    }
}

/// A caller who is no member of the superuser's group, as where the superuser is nobody (`root_squash`
/// of Linux's server): what that group may write is the superuser's.
fn without_root_group(caller: Caller) -> Caller {
    if !caller.is_in(0) {
        return caller;
    }
    let squashed = |gid| if gid == 0 { NOBODY.gid } else { gid };
    let groups = caller.groups().iter().copied().map(squashed).collect();
    Caller::new(caller.uid, squashed(caller.gid)).with_known_groups(groups)
}

/// Whom a credential claims to be. Who claims nothing is nobody.
#[must_use]
pub fn caller(credential: &Credential) -> Caller {
    match credential {
        Credential::None => NOBODY,
        Credential::Sys { uid, gid, gids } => Caller::new(*uid, *gid).with_groups(gids),
    }
}

/// Why an export may not be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It is shared with other addresses only.
    #[error("not shared with {0}: share it with {0}'s network, or assign it to the machine")]
    Address(IpAddr),
    /// Any user of a client can send from this port.
    #[error(
        "source port {0} is not below 1024: mount from a reserved port, or share it with --insecure"
    )]
    Port(u16),
}

/// A user and its groups as a caller.
fn act_as(identity: &Identity) -> Caller {
    let (gid, more) = identity.gids.split_first().map_or((NOBODY.gid, &[][..]), |(g, m)| (*g, m));
    Caller::new(identity.uid, gid).with_groups(more)
}

/// The user that owns nothing, on Linux and FreeBSD alike.
const NOBODY: Caller = Caller::new(65_534, 65_534);

/// The lowest port that needs no privilege on a client.
const FIRST_FREE_PORT: u16 = 1024;

#[cfg(test)]
mod test {
    use std::sync::Arc;

    use fixtures::MemFs;
    use store::ExportSettings;
    use uuid::Uuid;

    use super::*;
    use crate::boot::Root;
    use crate::nfs::export::Files;
    use crate::site::machine::View;

    const OURS: Uuid = Uuid::from_u128(1);

    fn export(settings: ExportSettings) -> Export {
        Export {
            environment: OURS,
            name: "head".to_owned(),
            path: "/be/head".to_owned(),
            files: Files::whole(Arc::new(MemFs::new())),
            settings,
        }
    }

    fn shared() -> ExportSettings {
        let networks = vec!["10.77.0.0/24".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let machines = vec!["web1".to_owned()];
        ExportSettings { shared: true, networks, machines, ..ExportSettings::default() }
    }

    fn root(machine: &str, environment: Uuid) -> Roots {
        roots(machine, environment, false)
    }

    fn roots(machine: &str, environment: Uuid, read_only: bool) -> Roots {
        let (machine, view) = (machine.into(), View::Joined);
        Roots::new(Some(Root { machine, environment, read_only, view }), Vec::new())
    }

    fn none() -> Roots {
        Roots::default()
    }

    fn from(peer: &str) -> SocketAddr {
        peer.parse().unwrap()
    }

    fn sys(uid: u32) -> Credential {
        Credential::Sys { uid, gid: 20, gids: vec![5] }
    }

    /// As whom somebody acts where the client's list of groups counts.
    fn act(grant: &Grant, credential: &Credential) -> Caller {
        grant.caller(credential, |_| panic!("the host is asked for groups")).unwrap()
    }

    #[test]
    fn only_addresses_of_its_networks_may_use_a_shared_export() {
        let export = export(shared());
        assert!(export.admit(from("10.77.0.100:1023"), &none()).is_ok());
        assert!(export.admit(from("[fd00::7]:1023"), &none()).is_ok());
        let outside = from("10.77.1.100:1023");
        assert_eq!(export.admit(outside, &none()), Err(Refusal::Address(outside.ip())));
    }

    #[test]
    fn an_ipv4_address_within_ipv6_is_the_ipv4_address() {
        assert!(export(shared()).admit(from("[::ffff:10.77.0.100]:1023"), &none()).is_ok());
    }

    #[test]
    fn what_is_not_shared_is_reached_only_by_the_machines_whose_root_it_is() {
        let export = export(ExportSettings { shared: false, ..shared() });
        let peer = from("10.77.0.100:1023");
        assert!(export.admit(peer, &none()).is_err());
        assert!(export.admit(peer, &root("web1", Uuid::from_u128(2))).is_err());
        assert!(export.admit(peer, &root("web2", OURS)).is_ok());
    }

    #[test]
    fn a_machine_may_be_named() {
        let peer = from("192.168.9.9:1023");
        let other = Uuid::from_u128(2);
        assert!(export(shared()).admit(peer, &root("web1", other)).is_ok());
        assert!(export(shared()).admit(peer, &root("web2", other)).is_err());
    }

    #[test]
    fn unreserved_ports_are_refused_unless_the_export_is_insecure() {
        let peer = from("10.77.0.100:1024");
        assert_eq!(export(shared()).admit(peer, &none()), Err(Refusal::Port(1024)));
        let insecure = ExportSettings { insecure: true, ..shared() };
        assert!(export(insecure).admit(peer, &none()).is_ok());
    }

    #[test]
    fn it_is_read_only_if_either_the_export_or_the_plan_says_so() {
        let peer = from("10.77.0.100:1023");
        let read_only =
            |settings, roots: &Roots| export(settings).admit(peer, roots).unwrap().read_only;
        assert!(!read_only(shared(), &none()));
        assert!(!read_only(shared(), &root("web2", OURS)));
        assert!(read_only(ExportSettings { read_only: true, ..shared() }, &none()));
        assert!(read_only(shared(), &roots("web2", OURS, true)));
        assert!(!read_only(shared(), &roots("web2", Uuid::from_u128(2), true)));
    }

    #[test]
    fn the_superuser_is_nobody_except_on_his_own_root() {
        let peer = from("10.77.0.100:1023");
        let act =
            |roots: &Roots, uid| act(&export(shared()).admit(peer, roots).unwrap(), &sys(uid));
        assert_eq!(act(&none(), 0), NOBODY);
        assert_eq!(act(&root("web2", OURS), 0), Caller::ROOT);
        assert_eq!(act(&none(), 7), Caller::new(7, 20).with_groups(&[5]));
    }

    #[test]
    fn the_superusers_group_is_nobodys_where_the_superuser_is_nobody() {
        let wheel = Credential::Sys { uid: 7, gid: 0, gids: vec![5, 0] };
        let act = |settings, roots: &Roots| {
            act(&export(settings).admit(from("10.77.0.100:1023"), roots).unwrap(), &wheel)
        };
        let squashed = Caller::new(7, NOBODY.gid).with_groups(&[5, NOBODY.gid]);
        assert_eq!(act(shared(), &none()), squashed);
        let operator = Identity { uid: 1001, gids: vec![100] };
        let mapped = ExportSettings { maproot: Some(operator), ..shared() };
        assert_eq!(act(mapped, &none()), squashed);
        let kept = Caller::new(7, 0).with_groups(&[5, 0]);
        let trusted = ExportSettings { maproot: Some(Identity::root()), ..shared() };
        assert_eq!(act(trusted, &none()), kept);
        assert_eq!(act(shared(), &root("web2", OURS)), kept);
    }

    #[test]
    fn maproot_and_mapall_say_who_acts_as_whom() {
        let peer = from("10.77.0.100:1023");
        let act = |settings, uid| act(&export(settings).admit(peer, &none()).unwrap(), &sys(uid));
        let maproot = ExportSettings { maproot: Some(Identity::root()), ..shared() };
        assert_eq!(act(maproot.clone(), 0), Caller::ROOT);
        assert_eq!(act(maproot, 7).uid, 7);
        let operator = Identity { uid: 1001, gids: vec![100, 5] };
        let mapall = ExportSettings { mapall: Some(operator), ..shared() };
        assert_eq!(act(mapall.clone(), 0), Caller::new(1001, 100).with_groups(&[5]));
        assert_eq!(act(mapall, 7).uid, 1001);
    }

    #[test]
    fn groups_of_this_host_replace_the_clients_list_where_the_share_says_so() {
        let settings = ExportSettings { manage_gids: true, ..shared() };
        let grant = export(settings.clone()).admit(from("10.77.0.100:1023"), &none()).unwrap();
        let all: Arc<[u32]> = (100..130).chain([0]).collect();
        let known = |uid| Ok((uid == 7).then(|| Arc::clone(&all)));
        let alice = grant.caller(&sys(7), known).unwrap();
        // The group that new files get stays, as newgrp(1) on the client chose it.
        assert_eq!((alice.gid, alice.groups().len()), (20, 31));
        assert!(alice.is_in(129) && !alice.is_in(5));
        assert!(!alice.is_in(0) && alice.is_in(NOBODY.gid), "{alice:?}");
        assert_eq!(grant.caller(&sys(8), known), Ok(Caller::new(8, 20).with_groups(&[5])));
        let waits = |_| Err(FsError::WouldWait);
        assert_eq!(grant.caller(&sys(7), waits), Err(FsError::WouldWait));
        assert_eq!(grant.caller(&sys(0), waits), Ok(NOBODY));
        let mapall = Some(Identity { uid: 1001, gids: vec![100] });
        let mapped = export(ExportSettings { mapall, ..settings });
        let grant = mapped.admit(from("10.77.0.100:1023"), &none()).unwrap();
        assert_eq!(grant.caller(&sys(7), waits), Ok(Caller::new(1001, 100)));
    }

    #[test]
    fn who_claims_nothing_is_nobody() {
        assert_eq!(caller(&Credential::None), NOBODY);
    }
}
