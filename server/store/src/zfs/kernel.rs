//! What the kernel is asked about data sets, and asked to change of them: by the C libraries of ZFS where
//! netbe is built with them (feature `libzfs`), else by zfs(8). Channel programs always go by zfs(8).

#[cfg(any(feature = "libzfs", test))]
mod aside;
#[cfg(feature = "libzfs")]
mod handles;
#[cfg(feature = "libzfs")]
mod library;
#[cfg(feature = "libzfs")]
mod libzfs;
#[cfg_attr(feature = "libzfs", expect(dead_code, reason = "the library does the rest itself"))]
mod programs;

use super::command::Failure;
#[cfg(feature = "libzfs")]
pub(super) use handles::{ask, ask_pool};
#[cfg(feature = "libzfs")]
pub(super) use library::{clone, create, defer, rename, snapshot, sync};
pub(super) use programs::run;
#[cfg(not(feature = "libzfs"))]
pub(super) use programs::{ask, ask_pool};
#[cfg(not(feature = "libzfs"))]
pub(super) use programs::{clone, create, rename, snapshot, sync};

/// Properties by name, as zfs(8) takes them.
pub(super) type Settings = Vec<(String, String)>;

/// A table, and what was refused of that which it is about.
type Answer = Result<(String, Option<Failure>), Failure>;

/// Has zfs(8) answer where the library could, to compare what they say.
#[cfg(feature = "libzfs")]
static PROGRAMS_ONLY: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Has zfs(8) answer all questions from now on, or the library where it is.
#[cfg(all(feature = "libzfs", feature = "faults"))]
pub fn ask_programs_only(only: bool) {
    PROGRAMS_ONLY.store(only, std::sync::atomic::Ordering::Relaxed);
}

/// Whether the library answers questions.
#[cfg(all(feature = "libzfs", feature = "faults"))]
#[must_use]
pub fn library_answers() -> bool {
    is_library()
}

/// Without the library there is no single call for it.
#[cfg(not(feature = "libzfs"))]
pub(super) const fn defer(_snapshots: &[String]) -> Option<Result<(), Failure>> {
    None
}

/// Whether questions are answered without starting a program.
pub(super) fn is_library() -> bool {
    #[cfg(feature = "libzfs")]
    return handles::are_there();
    #[cfg(not(feature = "libzfs"))]
    return false;
}
