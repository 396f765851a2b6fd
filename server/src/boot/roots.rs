//! Which roots are granted to which address: what NFS and MOUNT read on every call.
//!
//! It is an immutable snapshot that boots replace whole when a boot, an address, a machine or an
//! environment changes. A call reads it without a lock and makes no string.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use uuid::Uuid;

use crate::site::machine::View;

/// The root of a machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Root {
    /// The machine's name, or its address when it has none.
    pub machine: Arc<str>,
    /// The boot environment.
    pub environment: Uuid,
    /// Whether the plan gives it read-only.
    pub read_only: bool,
    /// How it sees the data sets in it.
    pub view: View,
}

/// The roots granted to one address: that of the boot that its machine is in, and those of earlier
/// boots whose systems still run, or may.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Roots(Option<Arc<Granted>>);

#[derive(Debug, Eq, PartialEq)]
struct Granted {
    current: Option<Root>,
    earlier: Vec<Root>,
}

impl Roots {
    /// The root of the present boot, and of those before it.
    #[must_use]
    pub fn new(current: Option<Root>, earlier: Vec<Root>) -> Self {
        let any = current.is_some() || !earlier.is_empty();
        Self(any.then(|| Arc::new(Granted { current, earlier })))
    }

    /// The root of the boot that the machine is in: what MNT of `/` means.
    #[must_use]
    pub fn current(&self) -> Option<&Root> {
        self.0.as_ref()?.current.as_ref()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Root> {
        self.0.iter().flat_map(|granted| granted.current.iter().chain(&granted.earlier))
    }

    /// The grant of this environment, if it is a root of the address. Where two boots have the same,
    /// the one that may write counts: a system that runs does not lose that to one that begins.
    #[must_use]
    pub fn of(&self, environment: Uuid) -> Option<&Root> {
        let mut own = self.iter().filter(|root| root.environment == environment);
        let first = own.next()?;
        Some(own.find(|root| first.read_only && !root.read_only).unwrap_or(first))
    }

    /// Whether no root is granted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// The snapshot.
#[derive(Debug, Default)]
pub(super) struct RootTable {
    tables: ArcSwap<Tables>,
}

#[derive(Clone, Debug, Default)]
struct Tables {
    /// Of machines in a boot.
    booted: Arc<HashMap<Ipv4Addr, Roots>>,
    /// Of machines that boot without us, as by bhyveload, and ask nobody for their address.
    unmanaged: Arc<HashMap<Ipv4Addr, Roots>>,
}

impl RootTable {
    /// The roots of an address. Takes no lock.
    pub(super) fn get(&self, address: Ipv4Addr) -> Roots {
        let tables = self.tables.load();
        let found = tables.booted.get(&address).or_else(|| tables.unmanaged.get(&address));
        found.cloned().unwrap_or_default()
    }

    /// Replaces what is granted to some addresses by their boots: `None` where the machine at an
    /// address is in no boot. Callers change it one after the other.
    pub(super) fn set_booted(&self, changed: impl IntoIterator<Item = (Ipv4Addr, Option<Roots>)>) {
        let tables = self.tables.load_full();
        let mut changed = changed
            .into_iter()
            .filter(|(address, roots)| tables.booted.get(address) != roots.as_ref())
            .peekable();
        if changed.peek().is_none() {
            return;
        }
        let mut booted = (*tables.booted).clone();
        for (address, roots) in changed {
            match roots {
                Some(roots) => booted.insert(address, roots),
                None => booted.remove(&address),
            };
        }
        let unmanaged = Arc::clone(&tables.unmanaged);
        self.tables.store(Arc::new(Tables { booted: Arc::new(booted), unmanaged }));
    }

    /// What is granted to machines that are in no boot.
    pub(super) fn unmanaged(&self) -> Arc<HashMap<Ipv4Addr, Roots>> {
        Arc::clone(&self.tables.load().unmanaged)
    }

    /// Replaces what is granted to machines that are in no boot. Callers change it one after the
    /// other.
    pub(super) fn set_unmanaged(&self, unmanaged: HashMap<Ipv4Addr, Roots>) {
        let booted = Arc::clone(&self.tables.load().booted);
        self.tables.store(Arc::new(Tables { booted, unmanaged: Arc::new(unmanaged) }));
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

    fn root(environment: u128, read_only: bool) -> Root {
        let environment = Uuid::from_u128(environment);
        Root { machine: "web1".into(), environment, read_only, view: View::Joined }
    }

    #[test]
    fn a_boot_that_begins_takes_nothing_from_the_one_that_runs() {
        let roots = Roots::new(Some(root(1, true)), vec![root(1, false)]);
        assert!(!roots.of(Uuid::from_u128(1)).unwrap().read_only);
        assert!(roots.current().unwrap().read_only);
        let roots = Roots::new(None, vec![root(2, false)]);
        assert_eq!((roots.current(), roots.of(Uuid::from_u128(2))), (None, Some(&root(2, false))));
        assert_eq!(roots.of(Uuid::from_u128(1)), None);
    }

    #[test]
    fn a_machine_in_a_boot_has_no_unmanaged_root() {
        let table = RootTable::default();
        assert!(table.get(ADDRESS).is_empty());
        let unmanaged = Roots::new(Some(root(1, false)), Vec::new());
        table.set_unmanaged(HashMap::from([(ADDRESS, unmanaged.clone())]));
        assert_eq!(table.get(ADDRESS), unmanaged);
        table.set_booted([(ADDRESS, Some(Roots::default()))]);
        assert!(table.get(ADDRESS).is_empty(), "its root is still to be made");
        table.set_booted([(ADDRESS, None)]);
        assert_eq!(table.get(ADDRESS), unmanaged);
    }
}
