//! HTTP/1.1 for boot files: HEAD, GET and ranges.
