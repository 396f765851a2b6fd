//! The loaders that a boot goes through, as they were recorded.

use super::*;

#[test]
fn ovmf_loads_ipxe_which_boots_linux() {
    let bench = Bench::new(Some("base"), None);
    assert_eq!(bench.lease(UEFI, 0x1111).as_deref(), Some("snponly.efi"));
    let probe = bench.request(FileProtocol::Tftp, "snponly.efi").unwrap();
    bench.boots.report(ClientAddress::Ip(ADDRESS.into()), Event::Probed(probe.ticket));
    assert_eq!(bench.tftp("snponly.efi").unwrap(), "/boot/snponly.efi");
    bench.pass(6);
    let script = bench.lease(IPXE, 0x2222).unwrap();
    assert_eq!(script, "http://10.0.0.1/b/0000000000000001/boot.ipxe");
    let script = bench.http(&script).unwrap();
    let kernel = "http://10.0.0.1/b/0000000000000001/kernel";
    assert!(script.contains(&format!("kernel {kernel} initrd=initrd root=/dev/nfs nfsroot=")));
    assert_eq!(bench.http(kernel).unwrap(), "/boot/vmlinuz");
    let initrd = "http://10.0.0.1/b/0000000000000001/initrd";
    assert_eq!(bench.http(initrd).unwrap(), "/boot/initrd.img");
    assert_eq!(bench.stage(), Stage::Initrd);
    let plain = bench.discover(Client::Ordinary, 0x3333).unwrap();
    assert_eq!((plain.file, plain.host_name.as_deref()), (None, Some("web1")));
    bench.mount(1, "/be/base");
    assert_eq!(bench.stage(), Stage::Root);
    assert_eq!(bench.boot(), Some(BootId(1)));
    let root = bench.root().unwrap();
    assert_eq!((&*root.machine, root.read_only), ("web1", false));
    assert_eq!(bench.boots.living_on(root.environment), ["web1"]);
}

#[test]
fn pxelinux_gets_everything_by_tftp() {
    let bench = Bench::by(LoaderChoice::Pxelinux);
    assert_eq!(bench.lease(BIOS, 1).as_deref(), Some("pxelinux.0"));
    assert_eq!(bench.tftp("pxelinux.0").unwrap(), "/boot/pxelinux.0");
    assert_eq!(bench.tftp("ldlinux.c32").unwrap(), "/boot/ldlinux.c32");
    let by_uuid = bench.tftp("pxelinux.cfg/44454c4c-0000-1000-8000-000000000000");
    assert!(matches!(by_uuid, Err(FileError::NotFound)));
    let text = bench.tftp("pxelinux.cfg/01-52-54-00-00-00-01").unwrap();
    assert!(text.contains("\nLINUX b/0000000000000001/kernel\n"), "{text}");
    assert!(text.contains("\nAPPEND root=/dev/nfs nfsroot=10.0.0.1:/be/base,"), "{text}");
    assert_eq!(bench.tftp("b/0000000000000001/kernel").unwrap(), "/boot/vmlinuz");
    assert_eq!(bench.tftp("b/0000000000000001/initrd").unwrap(), "/boot/initrd.img");
    assert_eq!((bench.stage(), bench.boot()), (Stage::Initrd, Some(BootId(1))));
}

#[test]
fn lpxelinux_under_an_ipxe_rom_gets_the_kernel_by_http() {
    let bench = Bench::by(LoaderChoice::Lpxelinux);
    assert_eq!(bench.lease(IPXE_ROM, 1).as_deref(), Some("lpxelinux.0"));
    let text = bench.tftp("pxelinux.cfg/default").unwrap();
    assert!(text.contains("\nINITRD http://10.0.0.1/b/0000000000000001/initrd\n"), "{text}");
    // With option 210 it asks for everything by HTTP.
    let url = "http://10.0.0.1/b/0000000000000001/ldlinux.c32";
    assert_eq!(bench.http(url).unwrap(), "/boot/ldlinux.c32");
}

#[test]
fn shim_finds_grub_and_grub_its_configuration() {
    let bench = Bench::by(LoaderChoice::Shim);
    assert_eq!(bench.lease(UEFI, 1).as_deref(), Some("shimx64.efi"));
    assert_eq!(bench.tftp("shimx64.efi").unwrap(), "/boot/shimx64.efi.signed");
    assert_eq!(bench.tftp("grubx64.efi").unwrap(), "/boot/grubnetx64.efi.signed");
    let text = bench.tftp("/grub/grub.cfg").unwrap();
    let kernel = "if linux '(tftp,10.0.0.1)/b/0000000000000001/kernel' 'root=/dev/nfs' ";
    assert!(text.contains(kernel), "{text}");
    assert!(matches!(bench.tftp("/grub/x86_64-efi/command.lst"), Err(FileError::NotFound)));
}

#[test]
fn grub_for_bios_gets_what_lies_beside_its_core() {
    let bench = Bench::by(LoaderChoice::Grub);
    let core = bench.lease(BIOS, 1).unwrap();
    assert_eq!(bench.tftp(&core).unwrap(), "/boot/grub/i386-pc/core.0");
    let module = "/boot/grub/i386-pc/normal.mod";
    assert_eq!(bench.tftp(module).unwrap(), module);
    for name in ["boot/grub/secret", "boot/grub/i386-pc/../secret", "boot/grub/i386-pc/.."] {
        assert!(matches!(bench.tftp(name), Err(FileError::NotFound)), "{name}");
    }
    let text = bench.tftp("boot/grub/grub.cfg").unwrap();
    assert!(text.contains("linux '(http,10.0.0.1)/b/0000000000000001/kernel' "), "{text}");
}

#[test]
fn an_ipxe_rom_begins_a_boot_of_its_own_each_time() {
    let bench = Bench::new(Some("base"), None);
    let first = bench.lease(IPXE_ROM, 1).unwrap();
    assert_eq!(first, "http://10.0.0.1/b/0000000000000001/boot.ipxe");
    bench.http(&first).unwrap();
    bench.pass(60);
    assert_eq!(
        bench.lease(IPXE_ROM, 2).as_deref(),
        Some("http://10.0.0.1/b/0000000000000002/boot.ipxe")
    );
    assert!(matches!(bench.http(&first), Err(FileError::Refused(_))), "the old boot is over");
}

#[test]
fn freebsds_loader_and_kernel_join_the_boot_of_their_firmware() {
    let bench = Bench::new(Some("free"), None);
    assert_eq!(bench.lease(BIOS, 1).as_deref(), Some("pxeboot"));
    assert_eq!(bench.tftp("pxeboot").unwrap(), "/boot/pxeboot");
    let loader = bench.discover(Client::FreeBsdLoader, 1).unwrap();
    assert_eq!(loader.root_path.as_deref(), Some("10.0.0.1:/be/free"));
    assert_eq!(loader.options, [(250, b"boot.nfsroot.options=nolockd".to_vec())]);
    bench.discover(Client::FreeBsdKernel, 77).unwrap();
    assert_eq!(bench.boot(), Some(BootId(1)));
}

#[test]
fn http_boot_reaches_freebsd_through_ipxe() {
    let bench = Bench::new(Some("free"), None);
    let url = bench.lease(Client::Http(Arch::UEFI_X64_HTTP), 1).unwrap();
    assert_eq!(url, "http://10.0.0.1/b/0000000000000001/snponly.efi");
    bench.http(&url).unwrap();
    assert_eq!(bench.lease(IPXE, 2).as_deref(), Some("loader.efi"));
    assert_eq!(bench.tftp("loader.efi").unwrap(), "/boot/loader.efi");
    assert_eq!(bench.boot(), Some(BootId(1)));
}

#[test]
fn four_transactions_of_u_boot_are_one_boot() {
    let bench = Bench::new(Some("base"), None);
    for xid in 1..=4 {
        bench.discover(UEFI, xid).unwrap();
    }
    assert_eq!(bench.boot(), Some(BootId(1)));
}
