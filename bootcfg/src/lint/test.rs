use proptest::prelude::*;

use super::*;
use crate::exports::Datasets;
use crate::guest::strategy;
use crate::{Guest, Root, exports, fstab, rcconf};

fn source(name: &str, text: &str) -> Source {
    let kind = Kind::of(name, text).unwrap();
    Source { name: name.to_owned(), kind, text: text.to_owned() }
}

/// Places and rules of what is found in these files.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<Source> = files.iter().map(|(name, text)| source(name, text)).collect();
    let findings = lint(&sources).into_iter();
    findings.map(|finding| format!("{}:{} {}", finding.file, finding.line, finding.rule)).collect()
}

/// A script whose guest has nothing wrong, but for the replacements.
fn script(replacements: &[(&str, &str)]) -> String {
    let mut text = "bhyveload -m 1G -h /r -e boot.netif.hwaddr=02:01:02:03:04:05 \\\n\
         -e boot.netif.ip=10.0.0.5 -e boot.netif.netmask=255.255.255.0 \\\n\
         -e boot.netif.gateway=10.0.0.1 \\\n\
         -e boot.nfsroot.server=10.0.0.2 -e boot.nfsroot.path=/be/web \\\n\
         -e boot.nfsroot.nfshandle=X0102X -e boot.nfsroot.nfshandlelen=2 \\\n\
         -e boot.nfsroot.options=nolockd,rsize=8192 web\n\
         bhyve -m 1024M -s 2,virtio-net,tap0,mac=02:01:02:03:04:05 web\n"
        .to_owned();
    for (from, to) in replacements {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text
}

const SLIDES: [(&str, &str); 3] = [
    ("exports", include_str!("../../../fixtures/lint/slides/exports")),
    ("fstab", include_str!("../../../fixtures/lint/slides/fstab")),
    ("head.sh", include_str!("../../../fixtures/lint/slides/head.sh")),
];

#[test]
fn every_contradiction_of_the_slides_is_named() {
    let contradictions: Vec<String> =
        found(&SLIDES).into_iter().filter(|line| line.ends_with("-differs")).collect();
    let mut expected: Vec<String> =
        (2..=10).map(|line| format!("fstab:{line} path-differs")).collect();
    expected.push("head.sh:12 server-differs".into());
    assert_eq!(contradictions, expected);
}

#[test]
fn the_slides_other_findings_are_locks_and_the_shortened_handle() {
    let others: Vec<String> =
        found(&SLIDES).into_iter().filter(|line| !line.ends_with("-differs")).collect();
    let mut expected: Vec<String> = (2..=10).map(|line| format!("fstab:{line} nolockd")).collect();
    expected.extend(["head.sh:3 nolockd".to_owned(), "head.sh:9 handle-form".to_owned()]);
    assert_eq!(others, expected);
}

#[test]
fn messages_say_what_to_write() {
    let sources = SLIDES.map(|(name, text)| source(name, text));
    let findings = lint(&sources);
    let of = |rule| &findings.iter().find(|finding| finding.rule == rule).unwrap().message;
    assert_eq!(
        of(Rule::PathDiffers),
        "/be/head/tmp is not below /ROOT/head, the root of the guest (head.sh:11), and no line \
         exports it: write 192.168.2.1:/ROOT/head/tmp"
    );
    assert_eq!(
        of(Rule::ServerDiffers),
        "the root is mounted from 192.168.1.1 here, but from 192.168.2.1 by boot.nfsroot.server \
         (head.sh:8): write one server"
    );
}

#[test]
fn files_without_a_mistake_have_no_findings() {
    let exports = "/be/web -maproot=root -network 10.0.0.0/24\n/be/web/var -network 10.0.0.0/24\n\
                   /home -network 10.0.0.0/24\nV4: /be -sec=sys\n";
    let fstab = "10.0.0.2:/be/web / nfs ro 0 0\n10.0.0.2:/be/web/var /var nfs rw,nolockd 0 0\n\
                 10.0.0.2:/home /home nfs rw,nolockd 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
    let loader = "boot.nfsroot.server=\"10.0.0.2\"\nautoboot_delay=\"3\"\n";
    let rcconf = "hostname=\"web\"\nifconfig_vtnet1=\"DHCP\"\n";
    assert_eq!(
        found(&[
            ("exports", exports),
            ("fstab", fstab),
            ("web.sh", &script(&[])),
            ("loader.conf", loader),
            ("rc.conf", rcconf),
        ]),
        Vec::<String>::new()
    );
}

#[test]
fn each_mistake_in_exports_is_found_where_it_is() {
    for (text, expected) in [
        ("/a -maproot=root\n", vec!["exports:1 exports-world"]),
        ("/a -maproot=0:0 -ro\n", vec![]),
        (
            "/a -network 10.0.0.0/8\n/a/usr -network 10.0.0.0/8\n/a/var -network 10.0.0.0/8\n",
            vec!["exports:1 exports-maproot"],
        ),
        ("/a /b -alldirs h\n", vec!["exports:1 exports-alldirs"]),
        ("/a /a/b -ro h\n/a/b -alldirs i\n", vec!["exports:2 exports-alldirs"]),
        ("/a -ro h\n/a i h\n", vec!["exports:2 exports-twice"]),
        ("/a -ro\n/a\n", vec!["exports:2 exports-twice"]),
        ("/a -network 10.0.0.0/8\n/a -network 10.0.0.0/24\n", vec![]),
        ("/a -ro\nV4: /\nV4: /a\n", vec!["exports:3 exports-v4"]),
        ("/a -ro\nV4: / -ro\n", vec!["exports:2 exports-v4"]),
        ("/a -ro\nV4: /b\n", vec!["exports:2 exports-v4"]),
        ("/a b -ro\n", vec!["exports:1 exports-path"]),
        ("/a -network 10.0.0.0\n", vec!["exports:1 exports-mask"]),
    ] {
        assert_eq!(found(&[("exports", text)]), expected, "{text}");
    }
}

const LOCKS: &str = "rpc_lockd_enable=\"YES\"\nrpc_statd_enable=\"YES\"\n";

#[test]
fn each_mistake_in_an_fstab_is_found_where_it_is() {
    let long = format!("10.0.0.2:/{} / nfs ro 0 0\n", "x".repeat(120));
    for (text, expected) in [
        (long.as_str(), vec!["fstab:1 fstab-long"]),
        ("a:/v/l /var/log nfs nolockd\na:/v /var nfs nolockd\n", vec!["fstab:1 fstab-order"]),
        ("a:/v /var nfs nolockd\na:/v/l /var/log nfs nolockd\n", vec![]),
        ("tmpfs /tmp tmpfs rw\nmd /tmp mfs rw\n", vec!["fstab:1 fstab-twice"]),
        ("a:/v /var nfs rw\n", vec!["fstab:1 nolockd"]),
        ("a:/v /var nfs rw,nfsv4\n", vec![]),
        ("a:/v /var nfs rw,vers=3,nolock\n", vec![]),
        ("a:/v /var\n", vec!["fstab:1 syntax"]),
    ] {
        assert_eq!(found(&[("fstab", text)]), expected, "{text}");
    }
    let locks = [("fstab", "a:/v /var nfs rw\n"), ("rc.conf", LOCKS)];
    assert_eq!(found(&locks), Vec::<String>::new());
}

#[test]
fn each_mistake_in_a_script_is_found_where_it_is() {
    for (from, to, expected) in [
        ("X0102X", "X010X", vec!["web.sh:5 handle-form"]),
        ("X0102X", "0102", vec!["web.sh:5 handle-form"]),
        ("handlelen=2", "handlelen=28", vec!["web.sh:5 handle-length"]),
        ("-e boot.nfsroot.nfshandlelen=2", "-S", vec!["web.sh:5 handle-length"]),
        ("-e boot.nfsroot.nfshandle=X0102X", "-S", vec!["web.sh:1 handle-missing"]),
        ("-e boot.nfsroot.server=10.0.0.2", "-S", vec!["web.sh:1 handle-missing"]),
        ("-e boot.netif.ip=10.0.0.5", "-S", vec!["web.sh:1 netif-missing"]),
        ("netmask=255.255.255.0", "netmask=255.0.255.0", vec!["web.sh:2 address"]),
        ("gateway=10.0.0.1", "gateway=10.0.1.1", vec!["web.sh:3 gateway"]),
        ("gateway=10.0.0.1", "gateway=ten", vec!["web.sh:3 address"]),
        ("=nolockd,", "=", vec!["web.sh:6 nolockd"]),
        ("-e boot.nfsroot.options=nolockd,rsize=8192", "-S", vec!["web.sh:1 nolockd"]),
        ("rsize=8192", "nfsv4", vec!["web.sh:6 nfs-option"]),
        ("rsize=8192", "rsize=65536", vec!["web.sh:6 nfs-option"]),
        ("1024M", "2G", vec!["web.sh:7 memory-differs"]),
        (",mac=02:01:02:03:04:05", "", vec!["web.sh:7 mac-missing"]),
        ("mac=02:01:02:03:04:05", "mac=02:01:02:03:04:06", vec!["web.sh:7 mac-differs"]),
        ("gateway=10.0.0.1", "gateway=$router", vec![]),
        ("handle=X0102X", "handle=$(handle)", vec![]),
        ("mac=02:01:02:03:04:05", "mac=$mac", vec![]),
        ("-h /r", "-h '/r", vec!["web.sh:1 syntax"]),
        ("-e boot.nfsroot.path=/be/web", "-e boot.nfsroot.path", vec!["web.sh:4 syntax"]),
        (
            "-e boot.nfsroot.server=10.0.0.2",
            "-e vfs.root.mountfrom=nfs:10.0.0.3:/be/web -e boot.nfsroot.server=10.0.0.2",
            vec!["web.sh:4 server-differs"],
        ),
        (
            "-e boot.nfsroot.server=10.0.0.2",
            "-e vfs.root.mountfrom=nfs:10.0.0.2:/web -e boot.nfsroot.server=10.0.0.2",
            vec!["web.sh:4 path-differs"],
        ),
        (
            "-e boot.netif.gateway=10.0.0.1",
            "-e boot.netif.gateway=10.0.0.1 -e boot.netif.ip=10.0.0.6",
            vec!["web.sh:3 twice"],
        ),
    ] {
        assert_eq!(found(&[("web.sh", &script(&[(from, to)]))]), expected, "{from} as {to}");
    }
    let long = format!("-e x={}", "y".repeat(300));
    assert_eq!(found(&[("web.sh", &script(&[("-h /r", &long)]))]), ["web.sh:1 kenv-long"]);
}

#[test]
fn what_a_guest_mounts_has_to_be_exported_to_it() {
    let of = |exports: &str| found(&[("exports", exports), ("web.sh", &script(&[]))]);
    assert_eq!(of("/web -network 10.0.0.0/24\n"), ["web.sh:4 not-exported"]);
    assert_eq!(of("/be/web -maproot=root -network 10.0.1.0/24\n"), ["web.sh:4 not-exported-to"]);
    assert_eq!(of("/be/web -maproot=root 10.0.0.6\n"), ["web.sh:4 not-exported-to"]);
    assert_eq!(of("/be/web -maproot=root 10.0.0.5\n"), Vec::<String>::new());
    assert_eq!(of("/be -alldirs -network 10.0.0.0/24\n"), Vec::<String>::new());
    assert_eq!(of("/be/web -network 10.0.0.0/24\n"), ["exports:1 exports-maproot"]);
    let fstab = ("fstab", "10.0.0.2:/home /home nfs rw,nolockd 0 0\n");
    assert_eq!(found(&[("exports", "/srv -ro\n"), fstab]), ["fstab:1 not-exported"]);
}

#[test]
fn an_fstab_has_to_name_the_roots_own_server_and_path() {
    let of = |fstab: &str| found(&[("fstab", fstab), ("web.sh", &script(&[]))]);
    assert_eq!(of("10.0.0.9:/be/web/var /var nfs nolockd\n"), ["fstab:1 server-differs"]);
    assert_eq!(of("10.0.0.2:/ROOT/web/var /var nfs nolockd\n"), ["fstab:1 path-differs"]);
    assert_eq!(of("10.0.0.2:/ROOT/web / nfs ro\n"), ["fstab:1 path-differs"]);
    assert_eq!(of("10.0.0.9:/home /home nfs nolockd\n"), Vec::<String>::new());
    assert_eq!(of("files:/be/web/var /var nfs nolockd\n"), Vec::<String>::new());
    assert_eq!(of("/dev/ada0p2 / ufs rw\n"), ["fstab:1 fstab-root"]);
}

#[test]
fn loader_conf_overrides_what_bhyveload_was_told() {
    let of = |loader: &str| found(&[("web.sh", &script(&[])), ("loader.conf", loader)]);
    assert_eq!(of("boot.netif.ip=\"10.0.0.6\"\n"), ["loader.conf:1 overridden"]);
    assert_eq!(of("boot.netif.ip=\"10.0.0.5\"\n"), Vec::<String>::new());
    assert_eq!(of("a=nfs:10.0.0.1\n"), ["loader.conf:1 syntax"]);
    assert_eq!(of("a=\"1\"\na=\"2\"\n"), ["loader.conf:1 twice"]);
    let options = script(&[("-e boot.nfsroot.options=nolockd,rsize=8192", "-S")]);
    let loader = "boot.nfsroot.options=\"nolockd\"\n";
    assert_eq!(found(&[("web.sh", &options), ("loader.conf", loader)]), Vec::<String>::new());
}

#[test]
fn no_loader_reads_more_than_a_frame_holds() {
    let of = |value: &str| found(&[("loader.conf", &format!("nfs.read_size=\"{value}\"\n"))]);
    for value in ["1344", "1024", "0x400", "02000", "nonsense", ""] {
        assert_eq!(of(value), Vec::<String>::new(), "{value}");
    }
    for value in ["1345", "8192", "0x2000", "020000", " 8192"] {
        assert_eq!(of(value), ["loader.conf:1 read-size"], "{value}");
    }
}

#[test]
fn rc_conf_may_not_touch_the_interface_of_the_root() {
    let of = |rcconf: &str| found(&[("web.sh", &script(&[])), ("rc.conf", rcconf)]);
    assert_eq!(of("ifconfig_vtnet0=\"DHCP\"\n"), ["rc.conf:1 boot-nic"]);
    assert_eq!(of("a=\"b\"\nifconfig_vtnet0_ipv6=\"inet6 ::1\"\n"), ["rc.conf:2 boot-nic"]);
    assert_eq!(of("ifconfig_DEFAULT=\"DHCP\"\n"), ["rc.conf:1 boot-nic"]);
    assert_eq!(of("ifconfig_bridge0=\"addm vtnet0 up\"\n"), ["rc.conf:1 boot-nic"]);
    assert_eq!(of("ifconfig_vtnet01=\"DHCP\"\n"), Vec::<String>::new());
    assert_eq!(of("service nfsd start\n"), ["rc.conf:1 syntax"]);
    // Without a root over NFS, the interface is like any other.
    assert_eq!(found(&[("rc.conf", "ifconfig_DEFAULT=\"DHCP\"\n")]), Vec::<String>::new());
}

#[test]
fn kinds_follow_from_names_and_then_from_content() {
    for (name, text, kind) in [
        ("/etc/exports", "", Some(Kind::Exports)),
        ("web.fstab", "", Some(Kind::Fstab)),
        ("boot/loader.conf.d/net.conf", "", Some(Kind::Loader)),
        ("rc.conf.local", "", Some(Kind::RcConf)),
        ("a.sh", "", Some(Kind::Script)),
        ("a", "# x\n/a -ro\n", Some(Kind::Exports)),
        ("a", "a:/b /b nfs rw 0 0\n", Some(Kind::Fstab)),
        ("a", "if_vtnet_load=\"YES\"\n", Some(Kind::Loader)),
        ("a", "hostname=\"x\"\n", Some(Kind::RcConf)),
        ("a", "bhyveload -m 1 x\n", Some(Kind::Script)),
        ("a", "#!/bin/sh\n", Some(Kind::Script)),
        ("a", "nothing of all this\n", None),
        ("a", "", None),
    ] {
        assert_eq!(Kind::of(name, text), kind, "{name}: {text}");
    }
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let findings = lint(&[source("exports", "/a -\u{1b}[2J\n")]);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].message.contains("\\u{1b}[2J"), "{}", findings[0].message);
    assert!(!findings[0].message.contains(char::is_control));
}

proptest! {
    #[test]
    fn what_netbe_writes_has_no_findings(
        guest in strategy::guest(),
        host in 2_u8..254,
        handle in prop::collection::vec(any::<u8>(), 1..=64),
        path in "(/[a-z0-9._-]{1,8}){1,4}",
        sets in prop::collection::btree_set("[a-z]{1,5}(/[a-z]{1,5}){0,2}", 0..5),
        are in prop::sample::select(vec![Datasets::FileSystems, Datasets::Directories]),
    ) {
        // No directory may be . or .., and the root not the same as a data set below it.
        prop_assume!(path.split('/').all(|part| part != "." && part != ".."));
        let server = [10, 0, 0, 1].into();
        let datasets = sets.into_iter().collect();
        let guest = Guest { root: Root { server, path, datasets, ..guest.root }, ..guest };
        let address = crate::Address {
            address: [10, 0, 0, host].into(),
            prefix: 24,
            gateway: Some([10, 0, 0, 254].into()),
        };
        let Root { path, datasets, .. } = &guest.root;
        let options = exports::Options { maproot: Some("root".into()), ..Default::default() };
        let lan = exports::Network([10, 0, 0, 0].into(), 24);
        let variables = loader::variables(&guest, &address, &handle).unwrap();
        let console = bhyve::Console::NullModem;
        let load = bhyve::bhyveload(&guest, &address, "/r", &handle, console).unwrap();
        let machine = bhyve::Virtual { guest: &guest, boot: bhyve::Boot::Load(load), console };
        let files = [
            ("exports", exports::render(&exports::nested(path, datasets, are, &options, &[lan]))),
            ("fstab", fstab::render(&fstab::nested(&guest.root, fstab::Dialect::FreeBsd))),
            ("loader.conf", loader::render(&variables)),
            ("rc.conf", rcconf::render(&rcconf::diskless(&guest).unwrap())),
            ("run.sh", machine.script("bridge0", None)),
        ];
        let files = files.map(|(name, text)| (name, text.unwrap()));
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        prop_assert_eq!(found(&files), Vec::<String>::new());
    }

    #[test]
    fn nothing_that_is_looked_at_panics(texts in prop::collection::vec("[ -~\n]{0,80}", 5)) {
        let kinds = [Kind::Exports, Kind::Fstab, Kind::Loader, Kind::RcConf, Kind::Script];
        let sources: Vec<Source> = kinds
            .into_iter()
            .zip(texts)
            .map(|(kind, text)| Source { name: "x".into(), kind, text })
            .collect();
        let _ = lint(&sources);
    }
}
