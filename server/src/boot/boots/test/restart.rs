//! What of boots outlives the server.

use super::*;

#[test]
fn a_machine_that_is_dead_since_before_a_restart_was_not_seen() {
    let bench = Bench::new(Some("base"), None);
    bench.lease(UEFI, 1);
    bench.tftp("snponly.efi").unwrap();
    bench.mount(1, "/be/base");
    bench.call(1);
    assert_eq!(bench.stage(), Stage::Running);
    let bench = bench.restart(Some("base"), None);
    bench.pass(15);
    assert_eq!(bench.stage(), Stage::Unheard);
    assert_eq!(bench.boots.standings()[0].status.as_ref().unwrap().seen, None);
    bench.call(1);
    assert_eq!(bench.stage(), Stage::Running);
}

#[test]
fn a_boot_outlives_the_server() {
    let bench = Bench::new(Some("base"), None);
    bench.lease(UEFI, 1);
    bench.tftp("snponly.efi").unwrap();
    let script = bench.lease(IPXE, 2).unwrap();
    bench.http(&script).unwrap();
    bench.call(1);
    let root = bench.root();
    // What it boots next is another matter.
    let bench = bench.restart(Some("free"), None);
    assert_eq!(bench.root(), root);
    assert!(bench.boots.lives(ADDRESS));
    assert_eq!(bench.stage(), Stage::Unheard);
    assert_eq!(bench.http("http://10.0.0.1/b/0000000000000001/kernel").unwrap(), "/boot/vmlinuz");
    assert_eq!(bench.stage(), Stage::Root);
    assert_eq!(bench.lease(UEFI, 9).as_deref(), Some("loader.efi"), "and then it begins anew");
}

#[test]
fn a_damaged_record_takes_no_root_from_a_machine_that_runs() {
    for damage in [&b""[..], b"{\"id\": ", b"\xff\xff"] {
        let bench = Bench::new(Some("base"), None);
        bench.lease(UEFI, 1);
        bench.mount(1, "/be/base");
        bench.call(1);
        let Bench { scratch, clock, boots, orders } = bench;
        drop(boots);
        std::fs::write(scratch.path().join("boots/52-54-00-00-00-01.json"), damage).unwrap();
        let (boots, _) = Bench::start(&scratch, &clock, roster(Some("free"), None), 50);
        let bench = Bench { scratch, clock, boots, orders };
        assert_eq!(bench.granted(ADDRESS), [1], "{damage:?}");
        bench.call(1);
        assert!(bench.boots.lives(ADDRESS));
    }
}

#[test]
fn ipxe_finds_its_boot_after_a_restart() {
    let bench = Bench::new(Some("base"), None);
    bench.lease(UEFI, 1);
    bench.tftp("snponly.efi").unwrap();
    let bench = bench.restart(Some("base"), None);
    let script = bench.lease(IPXE, 2).unwrap();
    assert_eq!(script, "http://10.0.0.1/b/0000000000000001/boot.ipxe");
}

#[test]
fn a_boot_without_a_plan_is_not_kept() {
    let bench = Bench::new(Some("base"), None);
    bench.lease(UEFI, 1);
    bench.tftp("snponly.efi").unwrap();
    bench.boots.set_roster(roster(None, None));
    assert_eq!(bench.discover(UEFI, 2), None);
    let state = StateDir::open(bench.scratch.path()).unwrap();
    drop(bench.boots);
    assert!(state.names(Kind::Boot).unwrap().is_empty());
}
