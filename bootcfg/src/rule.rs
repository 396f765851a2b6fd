//! What can be wrong with a file: the rules, and what stands in a file beside that.

use std::fmt;

use crate::shell;

/// A rule that a file can break.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Rule {
    /// An address or a mask that is none.
    Address,
    /// be(8) is told one name to make, and another to use.
    BeName,
    /// A variable that bhyve(8) does not know, and takes without a word.
    BhyveVariable,
    /// rc.conf configures the interface that the root is mounted over.
    BootNic,
    /// A call of bsdinstall(8) that does something else.
    Bsdinstall,
    /// Two files say different things of one machine.
    Conflict,
    /// An address for Consul that is none.
    ConsulAddress,
    /// A setting of Consul in a form that it does not read any more.
    ConsulConfig,
    /// A hook that takes away what it is to register.
    ConsulEndpoint,
    /// A search domain that Consul does not serve.
    ConsulSearch,
    /// A secret in an address that logs show.
    ConsulToken,
    /// `-alldirs` where mountd(8) refuses it.
    ExportsAlldirs,
    /// A network and a host on one line.
    ExportsHosts,
    /// root is nobody on the root of a guest.
    ExportsMaproot,
    /// A network without a mask.
    ExportsMask,
    /// An option that mountd(8) does not know.
    ExportsOption,
    /// Directories behind options.
    ExportsOrder,
    /// A directory that mountd(8) misreads.
    ExportsPath,
    /// The same clients twice for one directory.
    ExportsTwice,
    /// A `V4:` line that does not do what it seems to.
    ExportsV4,
    /// Everybody may write as root.
    ExportsWorld,
    /// DNS by TCP alone.
    ExposeUdp,
    /// A line for `/` that the loader's buffer cuts.
    FstabLong,
    /// A file system is mounted before the one that it is in.
    FstabOrder,
    /// A line for `/` that is not the root over NFS.
    FstabRoot,
    /// Two lines for one mount point.
    FstabTwice,
    /// A router that is not in the guest's own network.
    Gateway,
    /// Arguments are shifted away below getopts.
    GetoptsShift,
    /// A file handle that the kernel cannot read.
    HandleForm,
    /// A file handle of another length than is said, or with none said.
    HandleLength,
    /// A root without a file handle.
    HandleMissing,
    /// A hook that says it went well whatever happened.
    HookStatus,
    /// An interface's name that the kernel cuts or refuses.
    InterfaceLong,
    /// Addresses of the host for a jail with a network stack of its own.
    JailAddress,
    /// A mount of a jail that is not in it, or that it may not see.
    JailMount,
    /// A name that jail(8) takes for a number.
    JailName,
    /// The network comes after the services that need it.
    JailNetwork,
    /// A parameter that jail(8) does not know.
    JailParameter,
    /// Something that is made for a jail and never taken away.
    JailTeardown,
    /// Two jails have what only one can have.
    JailTwice,
    /// An interface for a network stack that the jail has not.
    JailVnet,
    /// A variable that the kernel drops for its length.
    KenvLong,
    /// A relative link that is read from another directory than it was meant from.
    LinkInside,
    /// Linux's form of exports(5).
    LinuxForm,
    /// A script that reads what ls(1) prints.
    LsParsed,
    /// The kernel looks for another Ethernet address than the guest has.
    MacDiffers,
    /// A guest whose Ethernet address follows from its name.
    MacMissing,
    /// bhyveload(8) and bhyve(8) are given different memory.
    MemoryDiffers,
    /// A directory where mount(8) takes a data set.
    MountDataset,
    /// A variable without which the kernel configures no interface.
    NetifMissing,
    /// An option that the kernel's NFS root does not know.
    NfsOption,
    /// A service of NFS without one that it needs.
    Nfsd,
    /// Locks that wait for a lock daemon.
    Nolockd,
    /// A path that no line exports.
    NotExported,
    /// A path that is exported, but not to this guest.
    NotExportedTo,
    /// Two ways to start one container.
    NspawnBoot,
    /// A port of a container that has the host's network.
    NspawnPort,
    /// loader.conf(5) overrides what bhyveload(8) was told.
    Overridden,
    /// A list of partitions that bsdinstall(8) reads otherwise.
    Partitions,
    /// Two paths for one root.
    PathDiffers,
    /// More than FreeBSD's loader can receive at once.
    ReadSize,
    /// One release written out beside one in a variable.
    ReleaseDiffers,
    /// A directory that is copied into its copy.
    RsyncSlash,
    /// Two servers for one root.
    ServerDiffers,
    /// ZFS shares more than was meant.
    Sharenfs,
    /// A line that its reader does not understand.
    Syntax,
    /// A variable is set twice.
    Twice,
    /// A script goes on after a step that failed.
    Unchecked,
    /// A unit whose name is not that of its directory.
    UnitName,
    /// What only another program can know, and netbe leaves out.
    Unread,
    /// A variable that nobody sets, at the root of a path.
    Unset,
    /// A guest of vm-bhyve that its loader cannot load.
    VmBhyveDisk,
    /// A line of which vm-bhyve takes nothing, or not all.
    VmBhyveLine,
}

impl Rule {
    /// The rule's name, as it is printed behind a finding.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::BeName => "be-name",
            Self::BhyveVariable => "bhyve-variable",
            Self::BootNic => "boot-nic",
            Self::Bsdinstall => "bsdinstall",
            Self::Conflict => "conflict",
            Self::ConsulAddress => "consul-address",
            Self::ConsulConfig => "consul-config",
            Self::ConsulEndpoint => "consul-endpoint",
            Self::ConsulSearch => "consul-search",
            Self::ConsulToken => "consul-token",
            Self::ExportsAlldirs => "exports-alldirs",
            Self::ExportsHosts => "exports-hosts",
            Self::ExportsMaproot => "exports-maproot",
            Self::ExportsMask => "exports-mask",
            Self::ExportsOption => "exports-option",
            Self::ExportsOrder => "exports-order",
            Self::ExportsPath => "exports-path",
            Self::ExportsTwice => "exports-twice",
            Self::ExportsV4 => "exports-v4",
            Self::ExportsWorld => "exports-world",
            Self::ExposeUdp => "expose-udp",
            Self::FstabLong => "fstab-long",
            Self::FstabOrder => "fstab-order",
            Self::FstabRoot => "fstab-root",
            Self::FstabTwice => "fstab-twice",
            Self::Gateway => "gateway",
            Self::GetoptsShift => "getopts-shift",
            Self::HandleForm => "handle-form",
            Self::HandleLength => "handle-length",
            Self::HandleMissing => "handle-missing",
            Self::HookStatus => "hook-status",
            Self::InterfaceLong => "interface-long",
            Self::JailAddress => "jail-address",
            Self::JailMount => "jail-mount",
            Self::JailName => "jail-name",
            Self::JailNetwork => "jail-network",
            Self::JailParameter => "jail-parameter",
            Self::JailTeardown => "jail-teardown",
            Self::JailTwice => "jail-twice",
            Self::JailVnet => "jail-vnet",
            Self::KenvLong => "kenv-long",
            Self::LinkInside => "link-inside",
            Self::LinuxForm => "linux-form",
            Self::LsParsed => "ls-parsed",
            Self::MacDiffers => "mac-differs",
            Self::MacMissing => "mac-missing",
            Self::MemoryDiffers => "memory-differs",
            Self::MountDataset => "mount-dataset",
            Self::NetifMissing => "netif-missing",
            Self::NfsOption => "nfs-option",
            Self::Nfsd => "nfsd",
            Self::Nolockd => "nolockd",
            Self::NotExported => "not-exported",
            Self::NotExportedTo => "not-exported-to",
            Self::NspawnBoot => "nspawn-boot",
            Self::NspawnPort => "nspawn-port",
            Self::Overridden => "overridden",
            Self::Partitions => "partitions",
            Self::PathDiffers => "path-differs",
            Self::ReadSize => "read-size",
            Self::ReleaseDiffers => "release-differs",
            Self::RsyncSlash => "rsync-slash",
            Self::ServerDiffers => "server-differs",
            Self::Sharenfs => "sharenfs",
            Self::Syntax => "syntax",
            Self::Twice => "twice",
            Self::Unchecked => "unchecked",
            Self::UnitName => "unit-name",
            Self::Unread => "unread",
            Self::Unset => "unset",
            Self::VmBhyveDisk => "vm-bhyve-disk",
            Self::VmBhyveLine => "vm-bhyve-line",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that stands in a text, with the line where it begins, from 1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct At<T> {
    /// The line.
    pub line: usize,
    /// What begins there.
    pub value: T,
}

/// What is wrong with a line, and what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct Diagnostic {
    /// The line, from 1.
    pub line: usize,
    /// The rule that it breaks.
    pub rule: Rule,
    /// One sentence without a full stop. It may quote the text, control characters too.
    pub message: String,
}

/// The result of reading a text: all that was understood, and a diagnostic for the rest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reading<T> {
    /// What was understood, in the order of the text.
    pub entries: Vec<At<T>>,
    /// What is wrong with the lines that were not understood, or not as they were meant.
    pub diagnostics: Vec<Diagnostic>,
}

impl<T> Reading<T> {
    /// The entries of a text without a mistake; otherwise the first diagnostic.
    pub fn whole(self) -> Result<Vec<T>, Diagnostic> {
        match self.diagnostics.into_iter().next() {
            Some(diagnostic) => Err(diagnostic),
            None => Ok(self.entries.into_iter().map(|entry| entry.value).collect()),
        }
    }

    pub(crate) fn add(&mut self, line: usize, value: T) {
        self.entries.push(At { line, value });
    }

    pub(crate) fn report(&mut self, line: usize, rule: Rule, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic { line, rule, message: message.into() });
    }

    /// The commands of a text in the shell's grammar; none, and a diagnostic, if it ends inside a
    /// quote or bracket.
    pub(crate) fn commands(&mut self, text: &str) -> Vec<shell::Command> {
        shell::commands(text).unwrap_or_else(|line| {
            self.report(
                line,
                Rule::Syntax,
                "the quote or bracket that begins here is never closed",
            );
            Vec::new()
        })
    }
}

impl<T> Default for Reading<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), diagnostics: Vec::new() }
    }
}
