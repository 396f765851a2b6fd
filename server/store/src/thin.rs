//! Thin templates: a system split into a read-only base, which any number of jails share, and a
//! skeleton, of which each has a copy to write to.
//!
//! A jail sees the base as its root and its skeleton at `/skeleton` (mount_nullfs(8)). What is
//! written to has moved into the skeleton, and the base has a link in its place, as in `etc ->
//! skeleton/etc`. Everything here is a pure function of [`Listing`]s: [`plan()`] says what a split
//! would do, [`prove`] that what was done is what was there before, [`check`] that a pair still
//! belongs together, and [`touched`] what an update of a base means for a skeleton.

mod links;
mod listing;
mod place;
mod plan;
mod proof;
mod touch;

#[cfg(test)]
mod test;

pub use listing::{End, Kind, Listing, Node};
pub(crate) use listing::{below, join, parent};
pub use place::{MOUNT_POINT, link_to};
pub use plan::{Halves, Plan, Refusal, Rewrite, plan};
pub use proof::{Check, Fault, check, prove};
pub use touch::{Touch, touched};

use crate::StoreError;

/// Why a template is not split, or a pair is not one.
#[derive(Debug, thiserror::Error)]
pub enum ThinError {
    /// It was written to meanwhile.
    #[error(
        "{name} was changed at {} while it was split: shut down what runs from it, or split a clone",
        shown(path)
    )]
    Changed {
        /// The template.
        name: String,
        /// Where.
        path: Vec<u8>,
    },
    /// What came out is not what was there.
    #[error("{name} was not split: {fault}")]
    Faulty {
        /// The template.
        name: String,
        /// What is wrong with the pair that was made.
        fault: Fault,
    },
    /// It is a skeleton alone.
    #[error("the base of {0} is gone: split the template anew, and clone the new skeleton")]
    NoBase(String),
    /// It is no part of a pair.
    #[error("{0} is neither a base nor a skeleton: `netbe thin NAME` splits a template into both")]
    NoPart(String),
    /// The template is not what can be split.
    #[error("{name} cannot be split: {refusal}")]
    Refused {
        /// The template.
        name: String,
        /// The first of the reasons.
        refusal: Refusal,
    },
    /// It is one of the results of a split.
    #[error("{0} is a skeleton: clone it for a jail with `netbe clone {0} NAME`")]
    Skeleton(String),
    /// It is the other.
    #[error("{0} is split already: there is nothing to do")]
    Split(String),
}

impl From<ThinError> for StoreError {
    fn from(error: ThinError) -> Self {
        Self::Thin(Box::new(error))
    }
}

/// A path of a tree for people: one line, whatever is in it.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let plain = |c: char| {
        if c.is_control() { c.escape_default().to_string() } else { c.to_string() }
    };
    format!("/{}", text.chars().map(plain).collect::<String>())
}

/// File flags for people, in the words of chflags(1) or the letters of chattr(1).
#[must_use]
pub fn flag_names(flags: u32) -> String {
    crate::sys::flag_names(flags)
}
