//! Configuration: `Raw` as written in `netbe.toml`, `Config` as checked.
