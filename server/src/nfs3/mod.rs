//! NFS version 3 (RFC 1813): all 22 procedures over a tree of files.
