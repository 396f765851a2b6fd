//! The command line of a Linux kernel whose root is on NFS, or a directory of its host.

use crate::error::{limit, refuse};
use crate::host_root::TAG;
use crate::{Channel, ConfigError, Mac, Root, View};

/// The command line: root, network, and `extra` words at the end, where they win.
///
/// The kernel itself and the RAM disks of initramfs-tools, dracut and netbe read it alike. `mac`
/// becomes `BOOTIF`, by which a machine with several interfaces takes the one that it booted from.
///
/// Words that begin with `netbe.` are for netbe's own RAM disk, and ignored by kernels and others:
/// which data sets to mount below the root, and where the changes to a read-only root go.
pub fn command_line(root: &Root, mac: Option<Mac>, extra: &str) -> Result<String, ConfigError> {
    let access = if root.read_only { "ro netbe.overlay=tmpfs" } else { "rw" };
    let mut line = match &root.host {
        Some(host) => from_host(&host.channel) + access,
        None => over_nfs(root)? + access,
    };
    refuse("the argument", extra, FORMAT, "it has a control character", char::is_control)?;
    if root.host.is_none() && root.view == View::Split && !root.datasets.is_empty() {
        for dataset in &root.datasets {
            refuse("the data set", dataset, FORMAT, DATASET, is_misread)?;
        }
        line += &format!(" netbe.mounts={}", root.datasets.join(","));
    }
    if let Some(mac) = mac {
        line += &format!(" BOOTIF={}", mac.bootif());
    }
    for word in extra.split_whitespace() {
        line.push(' ');
        line += word;
    }
    limit("the command line", &line, FORMAT, LEN)?;
    Ok(line)
}

/// What names a root on NFS, and has the network brought up by which it is reached.
fn over_nfs(root: &Root) -> Result<String, ConfigError> {
    // The kernel splits nfsroot at its first comma, puts the client's address where %s stands, and
    // takes quotes as its own.
    let reason = "it is absolute and has no space, comma, quote or %: rename the boot environment";
    refuse("the path", &root.path, FORMAT, reason, is_misread)?;
    if !root.path.starts_with('/') {
        let (what, value) = ("the path", root.path.clone());
        return Err(ConfigError::Character { what, value, format: FORMAT, reason });
    }
    let Root { server, path, .. } = root;
    Ok(format!("root=/dev/nfs nfsroot={server}:{path},vers=3,tcp,nolock ip=dhcp "))
}

/// What names a root that the guest's host has in a directory. Its network comes up as if the root were on NFS,
/// so that one system boots by either.
fn from_host(channel: &Channel) -> String {
    let file_system = channel.file_system();
    let flags = match channel {
        // Programs map files for writing, which 9P allows with this kind of cache only (the kernel's
        // Documentation/filesystems/9p.rst). The host makes snapshots: nothing else is to be kept back.
        Channel::NineP => " rootflags=trans=virtio,version=9p2000.L,cache=mmap,msize=262144",
        Channel::VirtioFs { .. } => "",
    };
    format!("root={TAG} rootfstype={file_system}{flags} ip=dhcp ")
}

fn is_misread(c: char) -> bool {
    c.is_whitespace() || c.is_control() || ",\"'%\\".contains(c)
}

const FORMAT: &str = "a Linux command line";
const DATASET: &str = "it has a space, comma, quote or %: rename it, or choose the joined view";
/// `COMMAND_LINE_SIZE` of x86, with its NUL; ARM64 takes as much.
const LEN: usize = 2047;

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::strategy;
    use crate::host_root;

    #[test]
    fn a_root_is_mounted_over_tcp_with_local_locks() {
        let guest = strategy::head();
        assert_eq!(
            command_line(&guest.root, Some(guest.mac), " console=ttyS0  quiet ").unwrap(),
            "root=/dev/nfs nfsroot=192.168.2.1:/ROOT/head,vers=3,tcp,nolock ip=dhcp rw \
             BOOTIF=01-02-01-02-03-04-05 console=ttyS0 quiet"
        );
    }

    #[test]
    fn a_read_only_root_is_mounted_so() {
        let root = Root { read_only: true, ..strategy::head().root };
        let line = command_line(&root, None, "").unwrap();
        assert!(line.ends_with(" ip=dhcp ro netbe.overlay=tmpfs"), "{line}");
    }

    #[test]
    fn a_root_of_the_host_is_named_by_its_tag() {
        let line = |root: &Root| command_line(root, None, "quiet").unwrap();
        assert_eq!(
            line(&host_root::test::nine_p().root),
            "root=root rootfstype=9p rootflags=trans=virtio,version=9p2000.L,cache=mmap,msize=262144 ip=dhcp rw \
             quiet"
        );
        let root = host_root::test::virtio_fs().root;
        assert_eq!(line(&root), "root=root rootfstype=virtiofs ip=dhcp rw quiet");
        let root = Root { read_only: true, ..host_root::test::nine_p().root };
        assert!(line(&root).ends_with(" ip=dhcp ro netbe.overlay=tmpfs quiet"));
    }

    #[test]
    fn a_guest_that_mounts_its_data_sets_is_told_which() {
        let datasets = vec!["usr".to_owned(), "var/log".to_owned()];
        let root = Root { view: View::Split, datasets, ..strategy::head().root };
        let line = command_line(&root, None, "").unwrap();
        assert!(line.ends_with(" ip=dhcp rw netbe.mounts=usr,var/log"), "{line}");
        let joined = Root { view: View::Joined, ..root.clone() };
        assert!(!command_line(&joined, None, "").unwrap().contains("netbe."));
        for name in ["a b", "a,b", "a'b", "a\nb"] {
            let odd = Root { datasets: vec![name.to_owned()], ..root.clone() };
            assert!(command_line(&odd, None, "").is_err(), "{name}");
        }
    }

    #[test]
    fn paths_that_the_kernel_misreads_are_refused() {
        for path in ["/a b", "/a,ro", "/%s", "/\"a\"", "a", "/a\n"] {
            let root = Root { path: path.into(), ..strategy::head().root };
            assert!(command_line(&root, None, "").is_err(), "{path}");
        }
    }

    #[test]
    fn a_line_that_the_kernel_would_cut_is_refused() {
        let extra = "x".repeat(2048);
        let error = command_line(&strategy::head().root, None, &extra).unwrap_err();
        assert!(matches!(error, ConfigError::Long { max: 2047, .. }));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(guest in strategy::guest()) {
            let Ok(line) = command_line(&guest.root, Some(guest.mac), "last=1") else {
                return Ok(());
            };
            // As the kernel reads it: words at spaces, then key and value at the first sign.
            let words: Vec<&str> = line.split(' ').collect();
            let value = |key| words.iter().find_map(|word| {
                word.split_once('=').filter(|(name, _)| *name == key).map(|(_, value)| value)
            });
            let (server, rest) = value("nfsroot").unwrap().split_once(':').unwrap();
            let (path, options) = rest.split_once(',').unwrap();
            prop_assert_eq!(server, guest.root.server.to_string());
            prop_assert_eq!(path, guest.root.path);
            prop_assert_eq!(options, "vers=3,tcp,nolock");
            let bootif = value("BOOTIF").unwrap();
            prop_assert_eq!(bootif.replace('-', ":"), format!("01:{}", guest.mac));
            prop_assert_eq!(words.contains(&"ro"), guest.root.read_only);
            prop_assert_eq!(words.contains(&"netbe.overlay=tmpfs"), guest.root.read_only);
            let mounts = value("netbe.mounts").map(|names| names.split(',').collect::<Vec<_>>());
            let split = guest.root.view == View::Split;
            prop_assert_eq!(
                mounts.unwrap_or_default(),
                if split { guest.root.datasets.clone() } else { Vec::new() }
            );
            prop_assert_eq!(words.last(), Some(&"last=1"));
        }
    }
}
