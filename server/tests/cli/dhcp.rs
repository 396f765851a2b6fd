//! What another DHCP server is to say.

use std::fs;

use bootcfg::dhcp::{Server, read};

use crate::bench::Bench;

/// Where netbe is, so that nothing depends on this host's networks.
const SERVER: &str = "--server=192.168.2.1";

/// A site with a FreeBSD environment `free` and a machine `web1`.
fn site() -> Bench {
    let bench = Bench::new();
    bench.silent(&["create", "free"]);
    let boot = bench.root("free").join("boot");
    fs::create_dir_all(boot.join("kernel")).unwrap();
    for file in ["kernel/kernel", "pxeboot", "loader.efi"] {
        fs::write(boot.join(file), "").unwrap();
    }
    bench.silent(&["machine", "add", "--mac", "52:54:00:00:00:01", "web1"]);
    bench
}

#[test]
fn a_freebsd_machine_gets_its_loader_and_its_root_from_another_server() {
    let bench = site();
    bench.silent(&["sharepxe", "--machine", "web1", "free"]);
    let show = |program: &str| {
        bench.prints(&["show", "dhcp", "--for", program, SERVER, "--machine", "web1", "free"])
    };
    let text = show("dnsmasq");
    for line in [
        "dhcp-host=52:54:00:00:00:01,set:netbe-web1,web1",
        "dhcp-boot=tag:netbe-web1,tag:netbe-bios,pxeboot,192.168.2.1,192.168.2.1",
        "dhcp-option-force=tag:netbe-web1,option:root-path,192.168.2.1:/be/free",
        "dhcp-option-force=tag:netbe-web1,250,boot.nfsroot.options=nolockd",
    ] {
        assert!(text.lines().any(|own| own == line), "no {line} in\n{text}");
    }
    let advice = read(&text, Server::Dnsmasq).whole().unwrap();
    assert_eq!(read(&show("dhcpd"), Server::Dhcpd).whole().unwrap(), advice);
    assert_eq!(read(&show("kea"), Server::Kea).whole().unwrap(), advice);
}

#[test]
fn what_netbe_would_not_boot_is_not_told_to_another_server() {
    let bench = site();
    bench.refuses(
        &["show", "dhcp", "--for", "kea", SERVER, "free"],
        "no machine would boot free: run `netbe sharepxe --default free` first",
    );
    bench.refuses(
        &["show", "dhcp", "--for", "kea", SERVER, "--machine", "web1", "free"],
        "no machine would boot free: run `netbe sharepxe --machine web1 free` first",
    );
}

#[test]
fn a_machine_with_a_clone_is_led_to_it_by_another_server() {
    let bench = site();
    bench.silent(&["snapshot", "free@monday"]);
    let show = ["show", "dhcp", "--for", "dnsmasq", SERVER, "--machine", "web1", "free"];
    bench.silent(&["sharepxe", "--machine", "web1", "--root", "fresh", "free@monday"]);
    bench.refuses(
        &show,
        "web1 gets its root at boot, but FreeBSD's loader needs its path earlier: run `netbe \
         sharepxe --machine web1 --root own free` first",
    );
    bench.run(&["sharepxe", "--machine", "web1", "--root", "own", "free@monday"]);
    let text = bench.prints(&show);
    let root = "option:root-path,192.168.2.1:/be/web1-free\n";
    assert!(text.contains(root), "{text}");
}
