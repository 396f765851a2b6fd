//! Properties that ZFS itself has (zfsprops(7)), of an environment's root data set: those below inherit most.

use super::command::Task;
use super::intents::Step;
use super::{Zfs, listing, program, told};
use crate::locked::Current;
use crate::{EnvironmentName, Native, NativeChange, NativeValue, StoreError};

impl Zfs {
    pub(super) fn natives_of(
        &self,
        name: &EnvironmentName,
    ) -> Result<Vec<NativeValue>, StoreError> {
        let full = self.full(name.as_str());
        let wanted = Native::ALL.map(Native::as_str).join(",");
        let table = listing::values(&full, wanted)
            .map_err(|failure| told(failure, &format!("look at {name}")))?;
        Ok(table.lines().filter_map(native).collect())
    }

    /// Changes native properties and writes down what was decided: both, or none of it.
    pub(super) fn write_both(
        &self,
        decided: &Current<'_>,
        changes: &[NativeChange],
    ) -> Result<(), StoreError> {
        let (locked, environment) = (decided.locked(), &decided.environment);
        let (name, full) = (locked.name(), self.full(locked.name().as_str()));
        let tree = self.tree_of(locked)?;
        let mut own = tree.changes(environment)?;
        let now = self.natives_of(name)?;
        let before = changes.iter().map(|change| change.property.set_in(&now)).collect();
        let undo = Step::Properties { dataset: tree.root.guid, before };
        let open = self.intend("set", vec![environment.into()], vec![undo])?;
        locked.seen().forget();
        let (set, reset): (Vec<_>, Vec<_>) = changes.iter().partition(|change| is_set(change));
        if !set.is_empty() {
            // All values are looked at before the first of them is set.
            let values = set.iter().map(|change| assignment(change)).collect::<Vec<_>>();
            let task = format!("set {} of {name}", values.join(" and "));
            let set = Task::zfs("set").without_dashes().operands(&values).operand(&full).run();
            set.map_err(|failure| told(failure, &task))?;
        }
        for NativeChange { property, .. } in reset {
            let reset = Task::zfs("inherit").operands([property.as_str(), &full]).run();
            reset.map_err(|failure| told(failure, &format!("reset {property} of {name}")))?;
        }
        own.push(self.record(open.uuid(), None));
        program::set(self.pool_name(), &own)
            .map_err(|failure| told(failure, &format!("write down what {name} is")))?;
        open.end();
        Ok(())
    }
}

/// Gives native properties of a data set back that a killed command has changed.
pub(super) fn give_back(
    dataset: &str,
    before: &[(String, Option<String>)],
) -> Result<(), StoreError> {
    let explain = |failure| told(failure, &format!("set properties of {dataset} back"));
    // For what nothing inherits this is none.
    for (property, _) in before.iter().filter(|(_, value)| value.is_none()) {
        let inherit = Task::zfs("inherit").flags(["-S"]);
        inherit.operands([property, dataset]).run().map_err(explain)?;
    }
    // At once: a quota below a reservation that is still to go would be refused.
    let set = before.iter().filter_map(|(property, value)| Some((property, value.as_ref()?)));
    let set: Vec<_> = set.map(|(property, value)| format!("{property}={value}")).collect();
    if !set.is_empty() {
        Task::zfs("set").without_dashes().operands(set).operand(dataset).run().map_err(explain)?;
    }
    Ok(())
}

/// A line of a table of properties. A name with a tab in it is none of these.
fn native(line: &str) -> Option<NativeValue> {
    let (_dataset, property, value, source) = listing::fields(line)?;
    let property = Native::of(property)?;
    Some(NativeValue { property, value: value.to_owned(), source: source.to_owned() })
}

/// Whether it is done by setting a value: what nothing inherits cannot be inherited either.
fn is_set(change: &NativeChange) -> bool {
    change.value.is_some() || change.property.is_limit()
}

fn assignment(change: &NativeChange) -> String {
    format!("{}={}", change.property, change.value.as_deref().unwrap_or("none"))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_limit_is_taken_away_by_none_and_all_else_by_inheritance() {
        let change = |name, value: Option<&str>| NativeChange {
            property: Native::of(name).unwrap(),
            value: value.map(str::to_owned),
        };
        let (quota, atime) = (change("quota", None), change("atime", None));
        assert!(is_set(&quota) && !is_set(&atime) && is_set(&change("atime", Some("on"))));
        assert_eq!(assignment(&quota), "quota=none");
        assert_eq!(assignment(&change("quota", Some("10G"))), "quota=10G");
    }

    #[test]
    fn what_is_not_set_here_goes_back_to_be_as_it_is_by_itself() {
        let lines = [
            "tank/be/a\tquota\t1024\tlocal",
            "tank/be/a\tatime\toff\tinherited from tank/be",
            "tank/be/a\tname\ta\t-",
        ];
        let now: Vec<_> = lines.into_iter().filter_map(native).collect();
        let of = |name| Native::of(name).unwrap().set_in(&now).1;
        assert_eq!(now.len(), 2);
        assert_eq!((of("quota").as_deref(), of("atime"), of("sync")), (Some("1024"), None, None));
    }
}
