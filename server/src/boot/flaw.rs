//! What a boot file's first bytes tell against it: firmware starts no loader that is empty, garbage or for
//! another processor, and says so on no network.
//!
//! It is evidence, and refuses nothing: a format that is not known here may start all the same.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::{Arch, BootFile, Client, Content, Role};

/// What is wrong with a program that a machine fetches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// It has no bytes.
    Empty,
    /// It is not a program of a kind that could be started.
    Garbage,
    /// It is a program for UEFI, and BIOS asks; or it is for another processor.
    Foreign {
        /// What it is for.
        of: &'static str,
        /// What asks.
        wanted: &'static str,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::Garbage => f.write_str("is not a program"),
            Self::Foreign { of, wanted } => {
                write!(f, "is a program for {of}, but the machine has {wanted}")
            }
        }
    }
}

/// What is wrong with a file that `client` began to boot with, as far as can be told.
pub(super) fn of(file: &BootFile, client: Client) -> Option<Flaw> {
    if !matches!(file.ticket.role, Role::Loader | Role::Kernel) {
        return None;
    }
    if file.len == 0 {
        return Some(Flaw::Empty);
    }
    let Content::File(content) = &file.content else { return None };
    let head = head(content)?;
    let (Client::Http(arch) | Client::Ipxe(arch) | Client::Pxe(arch)) = client else { return None };
    match file.ticket.role {
        Role::Loader => loader(&head, arch),
        Role::Kernel => kernel(&head),
        Role::Script | Role::Initrd | Role::Other => None,
    }
}

/// The first bytes; `None` where they cannot be read, of which the transfer tells.
fn head(file: &File) -> Option<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let read = file.read_at(&mut head, 0).ok()?;
    head.truncate(read);
    Some(head)
}

fn loader(head: &[u8], arch: Arch) -> Option<Flaw> {
    let wanted = match arch {
        Arch::BIOS => "BIOS",
        Arch::UEFI_IA32 => "32-bit x86 UEFI",
        Arch::UEFI_X64 | Arch::UEFI_EBC | Arch::UEFI_X64_HTTP => "x64 UEFI",
        Arch::UEFI_ARM32 => "32-bit ARM UEFI",
        Arch::UEFI_ARM64 | Arch::UEFI_ARM64_HTTP => "64-bit ARM UEFI",
        Arch(_) => return None,
    };
    match (machine(head), arch) {
        // What BIOS starts has no mark of its own.
        (None, Arch::BIOS) if head.starts_with(ELF) => {
            Some(Flaw::Foreign { of: "a kernel (ELF)", wanted })
        }
        (None, Arch::BIOS) => None,
        (None, _) => Some(Flaw::Garbage),
        (Some(of), _) if of == wanted => None,
        (Some(of), _) => Some(Flaw::Foreign { of, wanted }),
    }
}

/// For which firmware a program in the format of UEFI is (PE/COFF, "Machine Types").
fn machine(head: &[u8]) -> Option<&'static str> {
    let at = head.get(0x3c..0x40)?;
    let at = usize::try_from(u32::from_le_bytes(at.try_into().ok()?)).ok()?;
    let header = head.get(at..)?.strip_prefix(b"PE\0\0").filter(|_| head.starts_with(b"MZ"))?;
    Some(match u16::from_le_bytes(*header.first_chunk()?) {
        0x014c => "32-bit x86 UEFI",
        0x8664 => "x64 UEFI",
        0x01c0 | 0x01c2 | 0x01c4 => "32-bit ARM UEFI",
        0xaa64 => "64-bit ARM UEFI",
        0x5064 => "64-bit RISC-V UEFI",
        _ => "another processor's UEFI",
    })
}

/// Linux as x86 and ARM have it, with a UEFI stub or packed; and what FreeBSD's loader loads.
fn kernel(head: &[u8]) -> Option<Flaw> {
    let packed: [&[u8]; 5] = [ELF, b"MZ", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ"];
    let known = packed.iter().any(|magic| head.starts_with(magic))
        || head.get(0x202..0x206) == Some(b"HdrS")
        || head.get(0x38..0x3c) == Some(b"ARM\x64");
    (!known).then_some(Flaw::Garbage)
}

const ELF: &[u8] = b"\x7fELF";

/// Room for the header of a program, which shim's and GRUB's have below 256 bytes and others below this.
const HEAD: usize = 1024;

#[cfg(test)]
mod test {
    use super::*;

    fn pe(machine: u16) -> Vec<u8> {
        let mut head = vec![0; 0x200];
        head[..2].copy_from_slice(b"MZ");
        head[0x3c] = 0x80;
        head[0x80..0x84].copy_from_slice(b"PE\0\0");
        head[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
        head
    }

    #[test]
    fn a_loader_is_for_its_firmware_or_has_a_flaw() {
        assert_eq!(loader(&pe(0x8664), Arch::UEFI_X64), None);
        assert_eq!(loader(&pe(0x8664), Arch::UEFI_X64_HTTP), None);
        let (of, wanted) = ("64-bit ARM UEFI", "x64 UEFI");
        assert_eq!(loader(&pe(0xaa64), Arch::UEFI_X64), Some(Flaw::Foreign { of, wanted }));
        let (of, wanted) = ("x64 UEFI", "BIOS");
        assert_eq!(loader(&pe(0x8664), Arch::BIOS), Some(Flaw::Foreign { of, wanted }));
        assert_eq!(loader(b"garbage", Arch::UEFI_X64), Some(Flaw::Garbage));
        assert_eq!(loader(b"\xea\x05\0\xc0\x07", Arch::BIOS), None, "as pxelinux.0");
        let mut far = pe(0x8664);
        far[0x3c..0x40].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(loader(&far, Arch::UEFI_X64), Some(Flaw::Garbage), "a claim is no address");
    }

    #[test]
    fn a_kernel_has_a_mark() {
        let mut linux = vec![0; 0x400];
        linux[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(kernel(&linux), None);
        assert_eq!(kernel(ELF), None);
        assert_eq!(kernel(b"<html>"), Some(Flaw::Garbage));
    }
}
