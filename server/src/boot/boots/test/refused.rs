//! Machines that boot nothing, and what their screens show.

use super::*;

/// A bench with iPXE on its host.
fn with_ipxe(environment: Option<&str>) -> (tempfile::TempDir, Bench) {
    let host = tempfile::tempdir().unwrap();
    for name in ["undionly.kpxe", "snponly.efi", "vmlinuz"] {
        std::fs::write(host.path().join(name), name).unwrap();
    }
    let mut bench = Bench::new(environment, None);
    bench.boots.loaders = HostLoaders::search([host.path()]);
    (host, bench)
}

fn trouble(bench: &Bench) -> String {
    let standings = bench.boots.standings();
    standings[0].status.as_ref().unwrap().verdict.as_ref().unwrap().text.clone()
}

#[test]
fn firmware_gets_ipxe_and_ipxe_the_words_of_the_status() {
    let (_host, bench) = with_ipxe(Some("nosuch"));
    assert_eq!(bench.lease(UEFI, 1).as_deref(), Some("snponly.efi"));
    assert_eq!(bench.tftp("snponly.efi").unwrap(), "snponly.efi");
    let why =
        "boot environment nosuch does not exist: create it, or assign another with `sharepxe`";
    assert_eq!(trouble(&bench), why);
    let script = bench.lease(IPXE, 2).unwrap();
    assert_eq!(script, "http://10.0.0.1/boot.ipxe");
    let text = bench.http(&script).unwrap();
    assert!(text.contains(&format!("\necho {why}\n")) && text.ends_with("\nreboot\n"), "{text}");
    // That it was sent something ends no trouble.
    assert_eq!(trouble(&bench), why);
    assert_eq!(bench.root(), None);
    // Nothing else can be had.
    for name in ["/vmlinuz", "/kernel", "/b/0000000000000001/kernel"] {
        assert!(bench.request(FileProtocol::Http, name).is_err(), "{name}");
    }
    // What it boots then takes the place of the refusal.
    bench.boots.set_roster(roster(Some("base"), None));
    let script = bench.lease(IPXE, 3).unwrap();
    assert!(bench.http(&script).unwrap().contains("\nkernel "));
}

#[test]
fn a_machine_is_sent_the_loader_that_was_chosen_for_it_with_the_reason() {
    let host = tempfile::tempdir().unwrap();
    let files = ["undionly.kpxe", "pxelinux.0", "ldlinux.c32", "reboot.c32", "libcom32.c32"];
    for name in files.iter().chain(&["grubnetx64.efi.signed", "snponly.efi", "chain.c32"]) {
        std::fs::write(host.path().join(name), name).unwrap();
    }
    let mut bench = Bench::new(Some("nosuch"), None);
    bench.boots.loaders = HostLoaders::search([host.path()]);
    let choose = |loader| bench.boots.set_roster(roster_by(loader, Some("nosuch"), None));
    let why = "boot environment nosuch does not exist: create it, or assign another with";
    choose(LoaderChoice::Pxelinux);
    assert_eq!(bench.lease(BIOS, 1).as_deref(), Some("pxelinux.0"));
    for name in &files[1..] {
        assert_eq!(bench.tftp(name).unwrap(), *name);
    }
    let text = bench.tftp("pxelinux.cfg/01-52-54-00-12-34-56").unwrap();
    assert!(text.contains(&format!("\nSAY {why}\n")) && text.ends_with("reboot.c32\n"), "{text}");
    assert!(bench.tftp("chain.c32").is_err() && bench.tftp("grubx64.efi").is_err());
    // Where the loader does not start, and where a part of it is missing, there is iPXE.
    assert_eq!(bench.lease(UEFI, 2).as_deref(), Some("snponly.efi"));
    std::fs::remove_file(host.path().join("ldlinux.c32")).unwrap();
    assert_eq!(bench.lease(BIOS, 3).as_deref(), Some("undionly.kpxe"));
    choose(LoaderChoice::Grub);
    assert_eq!(bench.lease(UEFI, 4).as_deref(), Some("grubx64.efi"));
    assert_eq!(bench.tftp("grubx64.efi").unwrap(), "grubnetx64.efi.signed");
    let text = bench.tftp("grub/grub.cfg").unwrap();
    assert!(text.contains(&format!("\necho '{why}'\n")) && text.ends_with("\nreboot\n"), "{text}");
    assert_eq!(trouble(&bench).split(" `").next(), Some(why));
}

#[test]
fn a_machine_that_nobody_named_goes_on_to_its_own_disk() {
    let (_host, bench) = with_ipxe(None);
    assert_eq!(bench.lease(BIOS, 1).as_deref(), Some("undionly.kpxe"));
    let script = bench.lease(IPXE_ROM, 2).unwrap();
    let text = bench.http(&script).unwrap();
    assert!(text.contains("\necho unknown machine, and no default environment: "), "{text}");
    assert!(text.ends_with("\nexit 1\n"), "{text}");
    assert_eq!(bench.discover(Client::Ordinary, 3), None);
}

#[test]
fn a_container_without_a_kernel_has_its_address_and_is_not_refused() {
    let bench = Bench::new(Some("bare"), None);
    let bare = Environment {
        name: "bare".to_owned(),
        uuid: Uuid::from_u128(3),
        files: FakeFiles::new(&["/etc/fstab"]) as Arc<dyn Files>,
        ..environments().remove(0)
    };
    bench.boots.set_environments(vec![bare]);
    bench.boots.catalog.wait_until_scanned();
    let mut events = bench.boots.events().subscribe();
    assert_eq!(bench.lease(Client::Ordinary, 1), None);
    let standings = bench.boots.standings();
    let status = standings[0].status.as_ref().unwrap();
    assert_eq!((status.stage, status.trouble), (Stage::Leased, None));
    assert_eq!((standings[0].address, status.verdict.as_ref()), (Some(ADDRESS), None));
    while let Ok(event) = events.try_recv() {
        assert_ne!(event.kind, events::Kind::BootRefused, "{}", event.text);
    }
    // Firmware needs a kernel.
    assert_eq!(bench.lease(UEFI, 2), None);
    assert!(trouble(&bench).contains("bare holds nothing to boot"), "{}", trouble(&bench));
}

#[test]
fn beside_another_server_a_machine_that_nobody_named_is_told_nothing() {
    let (_host, bench) = with_ipxe(None);
    let ask = |mac, proxy, observed| {
        let (uuid, client, xid, discover, local) = (None, IPXE_ROM, 1, true, SERVER);
        let network = network();
        bench.boots.decide(&Ask {
            mac,
            uuid,
            client,
            xid,
            discover,
            local,
            proxy,
            observed,
            network,
        })
    };
    assert_eq!(ask(OTHER, true, false), None);
    bench.boots.set_roster(roster(Some("nosuch"), None));
    assert!(ask(MAC, true, false).is_some());
    assert_eq!(ask(MAC, false, true), None);
}
