//! What the site is: its machines, and where that and everything else is remembered.

pub mod backup;
pub mod events;
pub mod kenv;
pub(crate) mod lines;
pub mod machine;
pub mod networks;
pub mod state;
