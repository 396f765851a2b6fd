//! The roots of machines that were started by hand, as by bhyveload: they ask nobody for their address.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::PoisonError;

use super::Boots;
use crate::boot::{Root, Roots, decide};
use crate::site::machine::{Machine, MachineName, Roster};

impl Boots {
    /// Finds the roots of machines that were started by hand, as by bhyveload: they ask nobody for
    /// their address.
    pub(super) fn find_roots(&self) {
        let _alone = self.finding.lock().unwrap_or_else(PoisonError::into_inner);
        let roster = self.roster();
        let reserved = roster.iter().filter_map(|(name, entry)| {
            let machine = &entry.machine;
            Some((machine.address?, self.unmanaged_root(&roster, name, machine)?))
        });
        let mut roots: HashMap<Ipv4Addr, (Option<Root>, Vec<Root>)> =
            reserved.map(|(address, root)| (address, (Some(root), Vec::new()))).collect();
        // What changes is for the next start: nothing takes a root from a machine that lives on it.
        let now = self.clock.now();
        for (address, before) in &*self.usage.roots().unmanaged() {
            let lives =
                |root: &&Root| self.usage.lives_on((*address).into(), root.environment, now);
            for root in before.iter().filter(lives) {
                let (current, kept) = roots.entry(*address).or_default();
                let same = |one: &Root| {
                    one.environment == root.environment && (root.read_only || !one.read_only)
                };
                if !current.iter().chain(&*kept).any(same) {
                    kept.push(root.clone());
                }
            }
        }
        let roots = roots.into_iter();
        let roots = roots.map(|(address, (root, kept))| (address, Roots::new(root, kept)));
        let roots = roots.collect();
        // The other half of the table is changed under this lock.
        let _known = self.known();
        self.usage.roots().set_unmanaged(roots);
    }

    fn unmanaged_root(
        &self,
        roster: &Roster,
        name: &MachineName,
        machine: &Machine,
    ) -> Option<Root> {
        let known = Some((name, machine));
        let (wanted, is_default) = decide::environment_of(roster, known).ok()?;
        let own = self.catalog.own(name, wanted);
        let found = self.catalog.named(decide::source(known, wanted, |_| own.as_deref()))?;
        let awaited = decide::awaited(known, &found.name, found.owned.as_ref());
        awaited.is_none().then(|| Root {
            machine: name.as_str().into(),
            environment: found.uuid,
            read_only: decide::is_read_only(Some(machine), is_default, found.read_only),
            view: machine.view,
        })
    }
}
