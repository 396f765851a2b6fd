//! What the site is: its machines, and where that and everything else is remembered.

pub mod backup;
pub mod configured;
pub mod events;
pub mod kenv;
pub mod machine;
pub mod networks;
pub(crate) mod scribe;
pub mod state;
