//! The tests, by the part that they belong to.

mod boots;
mod checks;
mod clients;
mod foreign;
mod freebsd;
mod guests;
mod hostile;
mod input;
mod peers;
mod store;

use crate::suite::Case;

/// All tests in the order in which they run: what fails fast comes first.
pub(crate) fn all() -> Vec<Case> {
    [
        checks::CASES,
        freebsd::CASES,
        input::CASES,
        store::CASES,
        clients::CASES,
        foreign::CASES,
        boots::CASES,
        guests::CASES,
        peers::CASES,
        hostile::CASES,
    ]
    .concat()
}
