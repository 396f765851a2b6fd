//! Host files by kernel file handle.
