//! FreeBSD's loader, fetching its files by HTTP.

use super::*;
use crate::site::machine::LoaderProtocol;

/// By its firmware's HTTP boot, with FreeBSD's loader going on by HTTP.
fn by_http() -> (Bench, String) {
    let bench = Bench::new(Some("free"), None);
    let mut roster = roster(Some("free"), None);
    let name = "web1".parse().unwrap();
    let mut machine = roster.take(&name).unwrap();
    machine.loader_protocol = LoaderProtocol::Http;
    machine.kenv = vec!["console=comconsole".parse().unwrap()];
    roster.insert(name, machine, false).unwrap();
    bench.boots.set_roster(roster);
    let url = bench.lease(Client::Http(Arch::UEFI_X64_HTTP), 1).unwrap();
    // The loader takes two names off the end, and puts a path with a slash of its own behind it.
    let root = url.strip_suffix("boot/loader.efi").unwrap().to_owned();
    (bench, root)
}

#[test]
fn freebsds_loader_goes_on_by_http_from_its_own_root() {
    let (bench, root) = by_http();
    for path in ["/boot/loader.efi", "/boot/kernel/kernel", "/etc/fstab"] {
        assert_eq!(bench.http(&format!("{root}{path}")).unwrap(), path);
    }
    for path in [
        "/etc/master.passwd",
        "/boot/../etc/master.passwd",
        "/boot/missing",
        "/boot/missing/",
        "/etc",
        "",
    ] {
        let missed = bench.http(&format!("{root}{path}"));
        assert!(matches!(missed, Err(FileError::NotFound)), "{path}: {missed:?}");
    }
    assert_eq!(bench.stage(), Stage::Kernel);
}

#[test]
fn a_loader_by_http_reads_its_variables_behind_its_own_configuration() {
    let (bench, root) = by_http();
    let text = bench.http(&format!("{root}/boot/loader.conf.local")).unwrap();
    let handle = format!("boot.nfsroot.nfshandle=\"X{}X\"", "07".repeat(44));
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "/boot/loader.conf.local",
            "kernels_autodetect=\"NO\"",
            "dhcp.host-name=\"web1\"",
            "dhcp.domain-name=\"example.org\"",
            "dhcp.domain-name-servers=\"10.0.0.2,10.0.0.3\"",
            &handle,
            "boot.nfsroot.nfshandlelen=\"44\"",
            "boot.nfsroot.server=\"10.0.0.1\"",
            "boot.nfsroot.options=\"nolockd\"",
            "boot.nfsroot.path=\"/be/free\"",
            "console=\"comconsole\"",
        ]
    );
}

#[test]
fn a_loader_by_tftp_looks_for_no_other_kernels() {
    let bench = Bench::new(Some("free"), None);
    let mut roster = roster(Some("free"), None);
    let name = "web1".parse().unwrap();
    let mut machine = roster.take(&name).unwrap();
    machine.loader_protocol = LoaderProtocol::Tftp;
    // It cannot, whatever it is told.
    machine.kenv = vec!["kernels_autodetect=YES".parse().unwrap()];
    roster.insert(name, machine, false).unwrap();
    bench.boots.set_roster(roster);
    bench.lease(BIOS, 1);
    let text = bench.tftp("/be/free/boot/loader.conf.local").unwrap();
    // DHCP tells it the rest.
    assert_eq!(text, "/boot/loader.conf.local\nkernels_autodetect=\"NO\"\n");
}

#[test]
fn a_loader_by_http_finds_links_in_a_folder() {
    let (bench, root) = by_http();
    let name = format!("{root}/boot/kernel");
    let listed = bench.request(FileProtocol::Http, name.strip_prefix("http://10.0.0.1").unwrap());
    assert_eq!(listed.unwrap().mime, "text/html");
    let text = bench.http(&name).unwrap();
    assert!(text.contains("<a href=\"kernel\">") && text.ends_with('\0'), "{text:?}");
}

#[test]
fn a_machines_files_by_http_are_for_nobody_else() {
    let (bench, root) = by_http();
    let path = root.strip_prefix("http://10.0.0.1").unwrap();
    let other = bench.boots.open(&FileRequest {
        peer: Ipv4Addr::new(10, 0, 0, 101).into(),
        local: SERVER.into(),
        port: 80,
        protocol: FileProtocol::Http,
        waited: false,
        name: format!("{path}boot/loader.conf").as_bytes(),
    });
    assert!(matches!(other, Err(FileError::Refused(_))));
}

#[test]
fn a_root_lives_on_when_a_part_of_it_is_unmounted() {
    let bench = Bench::new(Some("free"), None);
    bench.lease(BIOS, 1);
    for path in ["/be/free", "/be/free/conf/base/etc"] {
        bench.mount(2, path);
    }
    bench.unmount("/be/free/conf/base/etc");
    bench.pass(60 * 60);
    assert!(bench.boots.lives(ADDRESS));
    bench.unmount("/be/free");
    assert!(!bench.boots.lives(ADDRESS));
}

#[test]
fn a_machine_whose_firmware_was_switched_over_is_in_another_boot() {
    let bench = Bench::new(Some("free"), None);
    let url = bench.lease(Client::Http(Arch::UEFI_X64_HTTP), 1).unwrap();
    bench.http(&url).unwrap();
    assert_eq!(bench.lease(IPXE_ROM, 2).as_deref(), Some("pxeboot"));
    assert_eq!(bench.boot(), Some(BootId(2)));
}
