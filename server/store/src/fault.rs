//! Points between two steps, at which unit tests let a verb end as a killed process would.
//!
//! Whatever the verb has open is closed and unlocked then, and nothing else is done.

/// A verb has come this far. Does nothing but in unit tests.
#[cfg(not(test))]
pub(crate) const fn point() {}

#[cfg(test)]
pub(crate) use test::point;

#[cfg(test)]
pub(crate) mod test {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    /// Runs a verb and lets it end at a point, of which `passed` are let pass; `Some` if it ended before.
    pub(crate) fn killed_after<T>(passed: u32, verb: impl FnOnce() -> T) -> Option<T> {
        LEFT.set(Some(passed));
        // What it leaves on the disk is what is looked at.
        let ended = catch_unwind(AssertUnwindSafe(verb));
        LEFT.set(None);
        match ended {
            Ok(done) => Some(done),
            Err(reason) if reason.is::<Killed>() => None,
            Err(reason) => resume_unwind(reason),
        }
    }

    pub(crate) fn point() {
        match LEFT.get() {
            Some(0) => {
                // Once is enough: what is dropped on the way out may pass points too.
                LEFT.set(None);
                // No panic: nobody is told.
                resume_unwind(Box::new(Killed));
            }
            Some(left) => LEFT.set(Some(left - 1)),
            None => {}
        }
    }

    struct Killed;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }
}
