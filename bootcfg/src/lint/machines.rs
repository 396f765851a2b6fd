//! What files say of one machine, or two machines of one address.

use super::Finding;
use super::site::Findings;
use crate::import::Knowledge;
use crate::rule::Rule;

pub(super) fn check(knowledge: &Knowledge, findings: &mut Findings) {
    for machine in &knowledge.machines {
        // What one file says of one machine, rules of that file look at.
        for conflict in machine.conflicts.iter().filter(|conflict| conflict.across) {
            let conflict = &conflict.message;
            let finding = Finding {
                file: machine.place.file.clone(),
                line: machine.place.line,
                rule: Rule::Conflict,
                message: format!("{}: {conflict}: write one of them", machine.name)
                    .chars()
                    .flat_map(
                        |c| if c.is_control() { c.escape_default().collect() } else { vec![c] },
                    )
                    .collect(),
            };
            findings.push(machine.place.source, finding);
        }
    }
}
