//! The system calls that a server and the programs that it starts may make (seccomp(2)).
//!
//! What stands here is what a service makes (systemd.exec(5), `@system-service`), and what the store needs
//! besides: mounts, and files by their handles. Left out is what takes over a host or looks into other
//! processes: modules, other kernels, clocks, swap, ptrace(2), bpf(2), userfaultfd(2), io_uring, keys,
//! namespaces.
//!
//! Every other call fails with ENOSYS, as on a kernel that does not have it, and ends nobody: a C library
//! that is newer than this list then takes the older call in its place, which it does for no other error.

use std::collections::BTreeMap;
use std::io;

use rustix::thread::UnshareFlags;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Has all calls fail from now on but those of a server, on the calling thread and those that it starts
/// later. Gives whether there is a filter for this processor and in this kernel.
pub(super) fn refuse_others() -> io::Result<bool> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(false) };
    let program = program(arch).map_err(io::Error::other)?;
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(true),
        // A kernel that was built without filters.
        Err(seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error))
            if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) =>
        {
            Ok(false)
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

fn program(arch: TargetArch) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.iter().chain(OF_PROCESSOR).map(|&call| (call, Vec::new())).collect();
    // A thread asks for a working directory of its own with it, but for no namespace.
    // clone3(2) has its flags in memory, which no filter can read: without it, programs make threads by clone(2),
    // in whose flags the bit of the namespace of time is one of a signal's number.
    let time = UnshareFlags::NEWTIME.bits();
    for (call, flags) in [(libc::SYS_unshare, NAMESPACES | time), (libc::SYS_clone, NAMESPACES)] {
        let namespaces = SeccompCmpOp::MaskedEq(u64::from(flags));
        let none = SeccompCondition::new(0, SeccompCmpArgLen::Dword, namespaces, 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![none])?]);
    }
    let (refuse, allow) = (SeccompAction::Errno(ERROR), SeccompAction::Allow);
    let mut program = BpfProgram::try_from(SeccompFilter::new(rules, refuse, allow, arch)?)?;
    // A call of the 32-bit ABI would end the process, where every other call fails.
    for step in &mut program {
        if step.code == RETURN && step.k == libc::SECCOMP_RET_KILL_PROCESS {
            step.k = libc::SECCOMP_RET_ERRNO | ERROR;
        }
    }
    Ok(program)
}

const ERROR: u32 = libc::ENOSYS.unsigned_abs();

/// `BPF_RET | BPF_K` (linux/bpf_common.h).
const RETURN: u16 = 0x06;

/// All namespaces (unshare(2), `CLONE_NEW...`) but that of time.
const NAMESPACES: u32 = UnshareFlags::NEWNS
    .union(UnshareFlags::NEWUTS)
    .union(UnshareFlags::NEWIPC)
    .union(UnshareFlags::NEWUSER)
    .union(UnshareFlags::NEWPID)
    .union(UnshareFlags::NEWNET)
    .union(UnshareFlags::NEWCGROUP)
    .bits();

/// On every processor.
const CALLS: &[libc::c_long] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_chdir,
    libc::SYS_chroot,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_connect,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fremovexattr,
    libc::SYS_fsconfig,
    libc::SYS_fsetxattr,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_get_mempolicy,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getitimer,
    libc::SYS_getpeername,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_getxattr,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_io_cancel,
    libc::SYS_io_destroy,
    libc::SYS_io_getevents,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_ioctl,
    libc::SYS_ioprio_get,
    libc::SYS_ioprio_set,
    libc::SYS_kill,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_listen,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_lremovexattr,
    libc::SYS_lseek,
    libc::SYS_lsetxattr,
    libc::SYS_madvise,
    libc::SYS_mbind,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_mincore,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_mmap,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_msync,
    libc::SYS_munlock,
    libc::SYS_munlockall,
    libc::SYS_munmap,
    libc::SYS_name_to_handle_at,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_prlimit64,
    libc::SYS_pselect6,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_removexattr,
    libc::SYS_renameat2,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_yield,
    libc::SYS_seccomp,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_sendfile,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_mempolicy,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setitimer,
    libc::SYS_setpgid,
    libc::SYS_setpriority,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setrlimit,
    libc::SYS_setsid,
    libc::SYS_setsockopt,
    libc::SYS_setuid,
    libc::SYS_setxattr,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_splice,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_sync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_sysinfo,
    libc::SYS_tee,
    libc::SYS_tgkill,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_times,
    libc::SYS_tkill,
    libc::SYS_truncate,
    libc::SYS_umask,
    libc::SYS_umount2,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_vmsplice,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The older calls, which a processor has that is older than the newer ones.
#[cfg(target_arch = "x86_64")]
const OF_PROCESSOR: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_alarm,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_creat,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_fork,
    libc::SYS_futimesat,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_inotify_init,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_open,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_signalfd,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_time,
    libc::SYS_unlink,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_vfork,
];
#[cfg(target_arch = "aarch64")]
const OF_PROCESSOR: &[libc::c_long] = &[libc::SYS_renameat];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OF_PROCESSOR: &[libc::c_long] = &[];

#[cfg(test)]
#[expect(unsafe_code, reason = "calls that nobody makes have no safe interface")]
mod test {
    use std::process::Command;

    use super::*;

    /// The error of a call without arguments that mean anything.
    fn error_of(call: libc::c_long, argument: libc::c_long) -> Option<i32> {
        // SAFETY: every argument is a number or the null pointer, and no call is made with them that
        // succeeds and changes memory.
        let done = unsafe { libc::syscall(call, argument, 0, 0, 0, 0, 0) };
        (done == -1).then(|| io::Error::last_os_error().raw_os_error()).flatten()
    }

    #[test]
    fn a_filtered_thread_serves_and_starts_programs_and_makes_no_other_call() {
        let filtered = std::thread::spawn(|| {
            // Only the superuser needs no `no_new_privs` for a filter.
            rustix::thread::set_no_new_privs(true).unwrap();
            if !refuse_others().unwrap() {
                return println!("skipped: this kernel has no filter of system calls");
            }
            let refused = [
                libc::SYS_bpf,
                libc::SYS_init_module,
                libc::SYS_io_uring_setup,
                libc::SYS_kexec_load,
                libc::SYS_keyctl,
                libc::SYS_perf_event_open,
                libc::SYS_process_vm_readv,
                libc::SYS_ptrace,
                libc::SYS_setns,
                libc::SYS_settimeofday,
                libc::SYS_swapon,
                libc::SYS_userfaultfd,
                // What no kernel has, and getpid(2) of the x32 ABI.
                9_999,
                0x4000_0000 | libc::SYS_getpid,
            ];
            for call in refused {
                assert_eq!(error_of(call, 0), Some(libc::ENOSYS), "{call}");
            }
            for namespace in
                [libc::CLONE_NEWNS, libc::CLONE_NEWUSER, libc::CLONE_NEWNET | libc::CLONE_FS]
            {
                assert_eq!(error_of(libc::SYS_unshare, namespace.into()), Some(libc::ENOSYS));
            }
            assert_eq!(error_of(libc::SYS_unshare, libc::CLONE_FS.into()), None);
            for namespace in [libc::CLONE_NEWNS, libc::CLONE_NEWUSER] {
                // The kernel itself would say EINVAL to it.
                let flags = namespace | libc::CLONE_FS;
                assert_eq!(error_of(libc::SYS_clone, flags.into()), Some(libc::ENOSYS));
            }
            assert_eq!(error_of(libc::SYS_clone3, 0), Some(libc::ENOSYS));
            let serving = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let client = std::net::TcpStream::connect(serving.local_addr().unwrap()).unwrap();
            drop((serving.accept().unwrap(), client));
            let script = "cd / && ls /proc/self/ns >/dev/null && exec sh -c 'echo well | cat'";
            let done = Command::new("sh").args(["-c", script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&done.stdout), "well\n");
            // A program has the same filter.
            let status = Command::new("cat").arg("/proc/self/status").output().unwrap().stdout;
            assert!(String::from_utf8_lossy(&status).contains("Seccomp:\t2\n"));
        });
        filtered.join().unwrap();
    }

    #[test]
    fn no_call_ends_a_process() {
        let program = program(TargetArch::x86_64).unwrap();
        let actions = program.iter().filter(|step| step.code == RETURN).map(|step| step.k);
        let known = [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ERRNO | ERROR];
        assert!(actions.clone().all(|action| known.contains(&action)));
        assert!(actions.count() > 200);
    }
}
