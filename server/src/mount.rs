//! MOUNT version 3, and version 1 for listing (RFC 1813 §5, RFC 1094 appendix A).
