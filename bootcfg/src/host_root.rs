//! A root that a guest of a hypervisor has from its host's own directory, with no network between.

use crate::ConfigError;
use crate::error::refuse;

/// A directory of the host that is a guest's root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostRoot {
    /// The directory: an absolute path of the host.
    pub directory: String,
    /// How the guest reaches it.
    pub channel: Channel,
}

/// How a guest reaches a directory of its host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Channel {
    /// By 9P over virtio: the hypervisor itself is the file server.
    NineP,
    /// By virtiofs: virtiofsd(1) is the file server.
    VirtioFs {
        /// The socket at which it listens for QEMU. libvirt chooses its own.
        socket: String,
    },
}

impl Channel {
    /// The type of file system by which a Linux kernel mounts it.
    #[must_use]
    pub const fn file_system(&self) -> &'static str {
        match self {
            Self::NineP => "9p",
            Self::VirtioFs { .. } => "virtiofs",
        }
    }
}

impl HostRoot {
    /// The directory, if hypervisors take it as a part of an argument: bhyve and virtiofsd know no way to write
    /// a comma there, and virtiofsd takes a backslash away.
    pub(crate) fn checked_directory(&self, format: &'static str) -> Result<&str, ConfigError> {
        let reason = "it is absolute and has no comma, backslash or control character: move the store, or set \
                      the root to nfs";
        let bad = |c: char| c.is_control() || matches!(c, ',' | '\\');
        refuse("the directory", &self.directory, format, reason, bad)?;
        if self.directory.starts_with('/') {
            return Ok(&self.directory);
        }
        let (what, value) = ("the directory", self.directory.clone());
        Err(ConfigError::Character { what, value, format, reason })
    }
}

/// The command that serves a guest's root by virtiofs, where that is how it has it. It ends when the guest does.
///
/// The words are understood by virtiofsd of QEMU up to version 7 and by the one in Rust that came after it.
pub fn virtiofsd(program: &str, root: &HostRoot) -> Result<Option<Vec<String>>, ConfigError> {
    let Channel::VirtioFs { socket } = &root.channel else { return Ok(None) };
    let directory = root.checked_directory("virtiofsd's command line")?;
    let words = [
        program.to_owned(),
        "-f".to_owned(),
        format!("--socket-path={socket}"),
        "-o".to_owned(),
        // Programs may have capabilities, which are extended attributes. A subvolume of btrfs is a device of its own,
        // whose numbers of files are others' too.
        format!("source={directory},xattr,announce_submounts"),
    ];
    Ok(Some(words.into()))
}

/// The name by which a guest asks for its root.
pub(crate) const TAG: &str = "root";

#[cfg(test)]
pub(crate) mod test {
    use super::*;
    use crate::guest::strategy;
    use crate::{Guest, Root, shell};

    /// The guest of the slides with its root by 9P.
    pub(crate) fn nine_p() -> Guest {
        with(Channel::NineP)
    }

    /// The same by virtiofs.
    pub(crate) fn virtio_fs() -> Guest {
        with(Channel::VirtioFs { socket: "/run/head.virtiofs".into() })
    }

    fn with(channel: Channel) -> Guest {
        let head = strategy::head();
        let host = Some(HostRoot { directory: "/be/head".into(), channel });
        Guest { root: Root { host, datasets: Vec::new(), ..head.root }, ..head }
    }

    #[test]
    fn virtiofsd_serves_one_directory_to_one_guest() {
        let root = virtio_fs().root.host.unwrap();
        let words = virtiofsd("/usr/libexec/virtiofsd", &root).unwrap().unwrap();
        assert_eq!(
            shell::line(&words).unwrap(),
            "/usr/libexec/virtiofsd -f --socket-path=/run/head.virtiofs -o \
             source=/be/head,xattr,announce_submounts"
        );
        assert_eq!(virtiofsd("virtiofsd", &nine_p().root.host.unwrap()), Ok(None));
    }

    #[test]
    fn a_directory_cannot_add_options() {
        for directory in ["/be/a,sandbox=none", "be/a", "", "/a\\,b", "/a\nb"] {
            let channel = Channel::VirtioFs { socket: "/s".into() };
            let root = HostRoot { directory: directory.into(), channel };
            assert!(virtiofsd("virtiofsd", &root).is_err(), "{directory:?}");
        }
    }
}
