//! The network file system: what is exported to whom, and the programs that serve it.

pub mod export;
pub mod groups;
pub mod mount;
pub mod nlm;
pub mod portmap;
pub mod refusals;
pub mod v3;
