//! tar archives, and what pax archives (POSIX.1-2008, pax, "pax Extended Header") say of a file beyond the
//! header of tar: records of a key and a value, and the forms that GNU tar and bsdtar gave to some values.
//!
//! No file is touched here, and nothing is allocated by what an archive claims.

pub mod acl;
pub mod archive;
pub mod header;
pub mod record;
pub mod sparse;
pub mod time;
pub mod xattr;

/// What an archive is divided into, in bytes: headers, and contents filled up to a whole one.
pub const BLOCK: usize = 512;
