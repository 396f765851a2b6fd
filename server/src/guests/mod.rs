//! Guests of this host: where what is known of one is kept while it runs, when it is started again, how it is
//! asked to end, and its console.
//!
//! A guest has one keeper, a process of its own (`netbe guest run`), which outlives the server and whoever
//! started it. What it knows lies in the guest's [`Place`]; its lock is the proof that it lives.

pub(crate) mod console;
pub(crate) mod place;
mod policy;
pub(crate) mod qmp;

pub(crate) use place::{Place, PlaceError, Process, Record, Stage};
pub(crate) use policy::{BEGIN, End, Next, Policy};
