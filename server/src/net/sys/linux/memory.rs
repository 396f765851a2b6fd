//! Memory that the allocator keeps.

/// Gives the kernel back what was freed. glibc keeps what lies between blocks that are in use, and that is
/// most of what calls of a megabyte leave behind; musl keeps none of these.
#[cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "no crate of ours wraps malloc_trim"))]
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
