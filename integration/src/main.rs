//! Boots machines from netbe in QEMU, and runs every test.

fn main() {}
