//! What kind of client sends a message, by the options that each kind was seen to send.

use wire::dhcp4::{Code, Options};

use crate::boot::{Arch, Client};

/// Tells what kind of program sends these options.
///
/// The order of the questions matters: iPXE calls itself a `PXEClient` too, and so does FreeBSD's
/// loader.
pub(super) fn classify(options: &Options<'_>) -> Client {
    let class = options.text(Code::VENDOR_CLASS).unwrap_or_default();
    let arch = architecture(options, &class);
    if options.contains(Code::IPXE) || options.has_user_class(b"iPXE") {
        return Client::Ipxe(arch.unwrap_or(Arch::BIOS));
    }
    if class.starts_with(b"HTTPClient") {
        return Client::Http(arch.unwrap_or(Arch::UEFI_X64_HTTP));
    }
    // Firmware puts its architecture behind the word or into option 93; FreeBSD's loader says only
    // the word, and loaders before 12.0 have no user class to be known by.
    let bare = &*class == b"PXEClient" && !options.contains(Code::ARCHITECTURES);
    if bare || options.has_user_class(b"FreeBSD") {
        return Client::FreeBsdLoader;
    }
    if class.starts_with(b"PXEClient") {
        return Client::Pxe(arch.unwrap_or(Arch::BIOS));
    }
    if class.starts_with(b"FreeBSD:") {
        return Client::FreeBsdKernel;
    }
    Client::Ordinary
}

/// The first architecture of option 93 that the registry knows, else the first; else the one in
/// the class, as in `PXEClient:Arch:00007:UNDI:003016` (PXE 2.1 §2.2.3).
fn architecture(options: &Options<'_>, class: &[u8]) -> Option<Arch> {
    let list = options.architectures();
    let known = list.iter().find(|number| (0..=HIGHEST).contains(*number)).or_else(|| list.first());
    known.copied().or_else(|| class_architecture(class)).map(Arch)
}

fn class_architecture(class: &[u8]) -> Option<u16> {
    let mut words = str::from_utf8(class).ok()?.split(':');
    words.find(|word| *word == "Arch")?;
    words.next()?.parse().ok()
}

/// The highest number in IANA's registry of processor architecture types.
const HIGHEST: u16 = 0x29;

#[cfg(test)]
mod test {
    use wire::dhcp4::{Builder, Message, MessageType};

    use super::*;

    fn class_of(options: &[(u8, &[u8])]) -> Client {
        let mut request = Builder::request(MessageType::Discover, 1, [2, 0, 0, 0, 0, 1]);
        for (code, value) in options {
            request.set(Code(*code), *value);
        }
        classify(&Message::decode(&request.finish()).unwrap().options)
    }

    #[test]
    fn firmware_is_told_by_its_class_and_architecture() {
        let class: &[u8] = b"PXEClient:Arch:00007:UNDI:003016";
        assert_eq!(class_of(&[(60, class), (93, &[0, 9])]), Client::Pxe(Arch::UEFI_EBC));
        assert_eq!(class_of(&[(60, class)]), Client::Pxe(Arch::UEFI_X64));
        assert_eq!(class_of(&[(60, b"PXEClient"), (93, &[0, 0])]), Client::Pxe(Arch::BIOS));
        assert_eq!(class_of(&[(60, b"PXEClient:Arch:x")]), Client::Pxe(Arch::BIOS));
    }

    #[test]
    fn the_first_known_architecture_counts() {
        let list = [0xff, 0xff, 0, 11, 0, 7];
        assert_eq!(class_of(&[(60, b"PXEClient:"), (93, &list)]), Client::Pxe(Arch::UEFI_ARM64));
        let unknown = class_of(&[(60, b"PXEClient:"), (93, &[0x12, 0x34])]);
        assert_eq!(unknown, Client::Pxe(Arch(0x1234)));
    }

    #[test]
    fn ipxe_is_told_by_either_of_its_signs() {
        let class: &[u8] = b"PXEClient:Arch:00007:UNDI:003010";
        assert_eq!(class_of(&[(60, class), (77, b"iPXE")]), Client::Ipxe(Arch::UEFI_X64));
        assert_eq!(class_of(&[(60, class), (175, &[])]), Client::Ipxe(Arch::UEFI_X64));
    }

    #[test]
    fn http_boot_is_told_by_its_class() {
        let class: &[u8] = b"HTTPClient:Arch:00019:UNDI:003001";
        assert_eq!(class_of(&[(60, class)]), Client::Http(Arch::UEFI_ARM64_HTTP));
    }

    #[test]
    fn freebsd_loaders_are_told_with_and_without_a_user_class() {
        assert_eq!(class_of(&[(60, b"PXEClient")]), Client::FreeBsdLoader);
        assert_eq!(class_of(&[(60, b"PXEClient"), (77, b"\x07FreeBSD")]), Client::FreeBsdLoader);
    }

    #[test]
    fn a_freebsd_kernel_is_told_by_its_class() {
        assert_eq!(class_of(&[(60, b"FreeBSD:amd64:12.1-STABLE")]), Client::FreeBsdKernel);
    }

    #[test]
    fn everything_else_is_ordinary() {
        assert_eq!(class_of(&[]), Client::Ordinary);
        assert_eq!(class_of(&[(60, b"U-Boot")]), Client::Ordinary);
        assert_eq!(class_of(&[(60, b"udhcp 1.35.0")]), Client::Ordinary);
    }
}
