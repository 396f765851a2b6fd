//! Linux: capabilities, a filter of system calls, and the parent's death (capabilities(7), seccomp(2)).

mod calls;

use std::collections::BTreeMap;
use std::io;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::worker::Privilege;

/// The program that runs, also when its file was replaced.
///
/// # Errors
///
/// The system does not tell.
#[cfg(not(test))]
pub fn program() -> io::Result<std::path::PathBuf> {
    Ok("/proc/self/exe".into())
}

/// Gives up for ever what a worker does not need. It acts on the calling thread alone.
///
/// Fails with the kernel's error. Without the superuser's privilege there is less to give up.
pub(crate) fn confine(privilege: Privilege) -> io::Result<()> {
    let sets = capabilities(None)?;
    let keep = kept(privilege) & sets.permitted;
    clear_ambient_capability_set()?;
    if sets.effective.contains(CapabilitySet::SETPCAP) {
        cut_bounding_set(kept(privilege))?;
    }
    if privilege == Privilege::Read && sets.effective.contains(USERS) {
        become_nobody()?;
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: keep, permitted: keep, inheritable: none })?;
    set_no_new_privs(true)?;
    refuse_calls()?;
    // A change of user takes it back.
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Gives the calling thread, and those and the programs that it starts later, mounts of their own, which go when
/// all of them have ended. What the host mounts and unmounts is seen there, and not the other way round.
///
/// Fails with the kernel's error.
pub fn own_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let (none, flags) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE);
    Ok(mount(none, "/", none, flags, none)?)
}

/// Gives up for ever what a server does not need, capabilities and system calls; the programs that it
/// starts do not get it back. Gives whether calls are filtered: not every kernel and processor can.
///
/// It acts on the calling thread and on those that it starts later: call it before any other thread
/// exists. Fails with the kernel's error.
pub fn confine_server() -> io::Result<bool> {
    let sets = capabilities(None)?;
    clear_ambient_capability_set()?;
    if sets.effective.contains(CapabilitySet::SETPCAP) {
        cut_bounding_set(SERVER)?;
    }
    let (keep, none) = (SERVER & sets.permitted, CapabilitySet::empty());
    set_capabilities(None, CapabilitySets { effective: keep, permitted: keep, inheritable: none })?;
    set_no_new_privs(true)?;
    calls::refuse_others()
}

/// What a server needs. SYS_RESOURCE is not among it, so that quotas and reserved blocks hold for what
/// clients write.
const SERVER: CapabilitySet = CapabilitySet::empty()
    // For the files of every user, and to make them.
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    // To make a file as a client's user, and for workers, which become nobody.
    .union(USERS)
    // A worker is another user's, and may have to be killed.
    .union(CapabilitySet::KILL)
    // For the roots that it copies: their flags, and capabilities and trusted attributes of files. The
    // store's data sets, subvolumes and mounts need SYS_ADMIN too.
    .union(CapabilitySet::LINUX_IMMUTABLE)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::NET_BIND_SERVICE)
    // DHCP writes frames to who has no address yet (packet(7)).
    .union(CapabilitySet::NET_RAW);

fn kept(privilege: Privilege) -> CapabilitySet {
    match privilege {
        Privilege::Read => CapabilitySet::DAC_READ_SEARCH,
        Privilege::Write => {
            CapabilitySet::CHOWN
                | CapabilitySet::DAC_OVERRIDE
                | CapabilitySet::DAC_READ_SEARCH
                | CapabilitySet::FOWNER
                | CapabilitySet::FSETID
                // For the flags schg and sappnd.
                | CapabilitySet::LINUX_IMMUTABLE
                | CapabilitySet::MKNOD
                // Programs may have capabilities in their files.
                | CapabilitySet::SETFCAP
        }
    }
}

fn cut_bounding_set(keep: CapabilitySet) -> io::Result<()> {
    // The kernel may know more of them than have names here.
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Err(rustix::io::Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

/// Becomes a user that owns no file, and keeps capabilities: the superuser may write his files without
/// any. In a user namespace there may be no such user.
fn become_nobody() -> io::Result<()> {
    let user = Uid::from_raw(NOBODY);
    let group = Gid::from_raw(NOBODY);
    set_keep_capabilities(true)?;
    let changed = setgroups(&[])
        .and_then(|()| setresgid(group, group, group))
        .and_then(|()| setresuid(user, user, user));
    match changed {
        Ok(()) | Err(Errno::EINVAL | Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Has calls fail that no worker makes: for the network, other programs and other processes.
fn refuse_calls() -> io::Result<()> {
    // Where the filter is not made for the processor, capabilities have to do.
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(()) };
    let refused = REFUSED.iter().flat_map(|call| {
        // The x32 ABI has the same calls by another number (asm/unistd.h, __X32_SYSCALL_BIT).
        let other = cfg!(target_arch = "x86_64").then_some(call | 0x4000_0000);
        std::iter::once(*call).chain(other)
    });
    let rules: BTreeMap<i64, Vec<_>> = refused.map(|call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch);
    let filter: BpfProgram = filter.and_then(BpfProgram::try_from).map_err(io::Error::other)?;
    seccompiler::apply_filter(&filter).map_err(io::Error::other)
}

const USERS: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);
const NOBODY: u32 = 65_534;
const REFUSED: [libc::c_long; 19] = [
    libc::SYS_bpf,
    libc::SYS_connect,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_io_uring_setup,
    libc::SYS_kill,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setns,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_tgkill,
    libc::SYS_tkill,
    libc::SYS_unshare,
];

#[cfg(test)]
mod test {
    use std::io::ErrorKind;
    use std::net::UdpSocket;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_confined_thread_has_no_network_and_starts_no_program() {
        // It acts on one thread; the privilege to read would change the user of all.
        let confined = std::thread::spawn(|| {
            let before = capabilities(None).unwrap().permitted;
            confine(Privilege::Write).unwrap();
            let sets = capabilities(None).unwrap();
            assert_eq!(sets.effective, before & kept(Privilege::Write));
            assert_eq!(sets.permitted, sets.effective);
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap_err();
            let program = Command::new("/bin/true").spawn().unwrap_err();
            let signal = nix::sys::signal::kill(nix::unistd::Pid::this(), None).unwrap_err();
            (socket.kind(), program.kind(), signal)
        });
        let denied = ErrorKind::PermissionDenied;
        assert_eq!(confined.join().unwrap(), (denied, denied, Errno::EPERM));
    }
}
