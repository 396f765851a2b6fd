//! What a Linux kernel's file says of itself, and the initial RAM disk that netbe makes for it.

use std::io::{Read, Seek, SeekFrom};

/// The release of a kernel, as `uname -r` tells it, from its image: the only word on the way to its
/// modules when it is called `/boot/vmlinuz`.
///
/// x86 kernels have it in their boot protocol (Linux, `Documentation/arch/x86/boot.rst`,
/// `kernel_version`). Of others there is none.
pub(crate) fn release(mut image: impl Read + Seek) -> Option<String> {
    let mut header = [0; 0x210];
    image.read_exact(&mut header).ok()?;
    if header.get(0x1fe..0x200)? != [0x55, 0xaa] || header.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let offset = u16::from_le_bytes(*header.last_chunk()?);
    image.seek(SeekFrom::Start(u64::from(offset).checked_add(0x200)?)).ok()?;
    let mut text = Vec::new();
    // utsname has room for 64 bytes; the release is followed by who built it.
    image.take(65).read_to_end(&mut text).ok()?;
    let end = text.iter().position(|&byte| byte == 0 || byte == b' ')?;
    let release = String::from_utf8(text.get(..end)?.to_vec()).ok()?;
    is_release(&release).then_some(release)
}

/// The release that a kernel's file name tells, as in `vmlinuz-6.1.0-13-amd64`.
#[must_use]
pub(crate) fn release_in_name(path: &str) -> Option<&str> {
    let (_, release) = path.rsplit_once("vmlinuz-")?;
    is_release(release).then_some(release)
}

/// Where the initial RAM disk that netbe makes for a kernel lies in a boot environment.
#[must_use]
pub(crate) fn own_ram_disk(release: &str) -> String {
    format!("/boot/initrd-netbe-{release}.img")
}

/// Whether that is a release, and fit to be a part of a file's name.
#[must_use]
pub(crate) fn is_release(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+~".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.bytes().all(plain)
}

#[cfg(test)]
pub(crate) mod test {
    use std::io::Cursor;

    use super::*;

    /// The beginning of an x86 kernel that tells this release.
    pub(crate) fn image(release: &str) -> Vec<u8> {
        let mut image = vec![0; 0x400];
        image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x200_u16.to_le_bytes());
        image.extend_from_slice(format!("{release} (who@where) #1 SMP\0").as_bytes());
        image.resize(0x800, 0);
        image
    }

    #[test]
    fn an_x86_kernel_tells_its_release() {
        let told = release(Cursor::new(image("6.1.0-13-cloud-amd64")));
        assert_eq!(told.as_deref(), Some("6.1.0-13-cloud-amd64"));
    }

    #[test]
    fn what_is_no_kernel_tells_none() {
        assert_eq!(release(Cursor::new(b"kernel".to_vec())), None);
        assert_eq!(release(Cursor::new(vec![0; 0x800])), None);
        let mut far = image("6.1");
        far[0x20e..0x210].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(release(Cursor::new(far)), None);
    }

    #[test]
    fn a_release_that_is_a_path_is_none() {
        for bad in ["../../etc/shadow", "", ".", "-x"] {
            assert_eq!(release(Cursor::new(image(bad))), None, "{bad}");
            assert_eq!(release_in_name(&format!("/boot/vmlinuz-{bad}")), None, "{bad}");
        }
        assert_eq!(release_in_name("/boot/vmlinuz-6.1"), Some("6.1"));
        assert_eq!(release_in_name("/boot/vmlinuz"), None);
    }
}
