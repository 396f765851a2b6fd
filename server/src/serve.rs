//! Start-up order of the server and nothing else.
