//! The tests, by the part that they belong to.

mod appliance;
mod attacks;
pub(crate) mod boots;
mod by_hand;
mod checks;
mod clients;
mod containers;
pub(crate) mod faults;
mod first;
mod foreign;
mod freebsd;
mod generators;
mod groups;
mod guests;
mod hooks;
pub(crate) mod hostile;
mod hunt;
mod image;
mod initramfs;
mod input;
mod installs;
mod kept;
mod loaders;
mod locks;
mod nested;
mod networks;
mod package;
mod peers;
pub(crate) mod power;
mod proxy;
mod roots;
mod store;
mod suites;
pub(crate) mod survive;
mod thin;
mod verdicts;
pub(crate) mod zfs;

use crate::suite::Case;

/// All tests in the order in which they run: what fails fast comes first.
pub(crate) fn all() -> Vec<Case> {
    [
        checks::CASES,
        freebsd::CASES,
        input::CASES,
        store::CASES,
        faults::CASES,
        power::CASES,
        thin::CASES,
        hunt::CASES,
        zfs::CASES,
        package::CASES,
        appliance::CASES,
        clients::CASES,
        locks::CASES,
        groups::CASES,
        foreign::CASES,
        attacks::CASES,
        hooks::CASES,
        verdicts::CASES,
        boots::CASES,
        loaders::CASES,
        installs::CASES,
        first::CASES,
        by_hand::CASES,
        image::CASES,
        proxy::CASES,
        networks::CASES,
        guests::CASES,
        containers::CASES,
        generators::CASES,
        kept::CASES,
        initramfs::CASES,
        roots::CASES,
        survive::CASES,
        suites::CASES,
        nested::CASES,
        peers::CASES,
        hostile::CASES,
    ]
    .concat()
}
