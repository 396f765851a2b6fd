//! The UNIX socket by which commands talk to a running server.
