//! The operating system: everything that differs between hosts, and every unsafe call.

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "freebsd")]
use freebsd as host;
#[cfg(target_os = "linux")]
use linux as host;

pub use host::too_old;
pub(crate) use host::{
    KernelHandle, Mount, Node, UNFINISHED, change_flags, copy_lists, each_extended, flags,
    has_list, has_lists, is_resident, is_staged, link_max, list, list_of, make_as,
    make_file_with_times, make_special, may_still_write, publish, read_nowait, remove_extended,
    reopen, resolve, set_extended, splice, stage, strip_lists, synchronize,
};
