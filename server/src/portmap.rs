//! The port mapper, version 2 (RFC 1833 §3).
