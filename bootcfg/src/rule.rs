//! What can be wrong with a file: the rules, and what stands in a file beside that.

use std::fmt;

use crate::shell;

/// A rule that a file can break.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Rule {
    /// An address or a mask that is none.
    Address,
    /// rc.conf configures the interface that the root is mounted over.
    BootNic,
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
    /// A file handle that the kernel cannot read.
    HandleForm,
    /// A file handle of another length than is said, or with none said.
    HandleLength,
    /// A root without a file handle.
    HandleMissing,
    /// A variable that the kernel drops for its length.
    KenvLong,
    /// Linux's form of exports(5).
    LinuxForm,
    /// The kernel looks for another Ethernet address than the guest has.
    MacDiffers,
    /// A guest whose Ethernet address follows from its name.
    MacMissing,
    /// bhyveload(8) and bhyve(8) are given different memory.
    MemoryDiffers,
    /// A variable without which the kernel configures no interface.
    NetifMissing,
    /// An option that the kernel's NFS root does not know.
    NfsOption,
    /// Locks that wait for a lock daemon.
    Nolockd,
    /// A path that no line exports.
    NotExported,
    /// A path that is exported, but not to this guest.
    NotExportedTo,
    /// loader.conf(5) overrides what bhyveload(8) was told.
    Overridden,
    /// Two paths for one root.
    PathDiffers,
    /// More than FreeBSD's loader can receive at once.
    ReadSize,
    /// Two servers for one root.
    ServerDiffers,
    /// A line that its reader does not understand.
    Syntax,
    /// A variable is set twice.
    Twice,
    /// What only another program can know, and netbe leaves out.
    Unread,
    /// A line of which vm-bhyve takes nothing, or not all.
    VmBhyveLine,
}

impl Rule {
    /// The rule's name, as it is printed behind a finding.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::BootNic => "boot-nic",
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
            Self::FstabLong => "fstab-long",
            Self::FstabOrder => "fstab-order",
            Self::FstabRoot => "fstab-root",
            Self::FstabTwice => "fstab-twice",
            Self::Gateway => "gateway",
            Self::HandleForm => "handle-form",
            Self::HandleLength => "handle-length",
            Self::HandleMissing => "handle-missing",
            Self::KenvLong => "kenv-long",
            Self::LinuxForm => "linux-form",
            Self::MacDiffers => "mac-differs",
            Self::MacMissing => "mac-missing",
            Self::MemoryDiffers => "memory-differs",
            Self::NetifMissing => "netif-missing",
            Self::NfsOption => "nfs-option",
            Self::Nolockd => "nolockd",
            Self::NotExported => "not-exported",
            Self::NotExportedTo => "not-exported-to",
            Self::Overridden => "overridden",
            Self::PathDiffers => "path-differs",
            Self::ReadSize => "read-size",
            Self::ServerDiffers => "server-differs",
            Self::Syntax => "syntax",
            Self::Twice => "twice",
            Self::Unread => "unread",
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
