//! Memory that the allocator keeps.

/// Gives the kernel back what was freed: jemalloc does that by itself, ten seconds later.
pub(crate) const fn give_back() {}
