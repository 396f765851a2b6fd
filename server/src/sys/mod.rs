//! What differs between Linux and FreeBSD in this crate.
