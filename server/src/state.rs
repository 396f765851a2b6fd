//! The state directory: small files, each written atomically.
