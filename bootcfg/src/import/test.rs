use proptest::prelude::*;

use super::*;
use crate::lint::Kind;

fn known(files: &[(&str, &str)]) -> Knowledge {
    let source = |(name, text): &(&str, &str)| {
        let kind = Kind::of(name, text).unwrap_or_else(|| panic!("{name}"));
        Source { name: (*name).to_owned(), kind, text: (*text).to_owned() }
    };
    read(&files.iter().map(source).collect::<Vec<_>>())
}

/// A machine in one line: what is known of it, in the order of the record.
fn told(machine: &Candidate) -> String {
    let mut words = vec![machine.name.clone()];
    words.extend(machine.macs.iter().map(|fact| fact.value.to_string()));
    words.extend(machine.address.iter().map(|fact| fact.value.to_string()));
    words.extend(machine.root.iter().map(|fact| fact.value.clone()));
    words.extend(machine.run.iter().map(|fact| fact.value.to_string()));
    words.extend(machine.memory.iter().map(|fact| format!("{}M", fact.value)));
    words.extend(machine.cpus.iter().map(|fact| format!("{}c", fact.value)));
    words.extend(machine.bridge.iter().map(|fact| fact.value.clone()));
    words.join(" ")
}

fn machines(files: &[(&str, &str)]) -> Vec<String> {
    known(files).machines.iter().map(told).collect()
}

fn left(files: &[(&str, &str)]) -> Vec<String> {
    known(files).left.iter().map(|left| format!("{} {}", left.place, left.message)).collect()
}

#[test]
fn every_kind_of_file_tells_of_its_machines() {
    let script = "ifconfig bridge0 addm tap0\nbhyveload -m 1G -h /r -e boot.netif.hwaddr=02:00:00:00:00:01 -e \
                  boot.netif.ip=10.0.0.5 -e boot.nfsroot.path=/be/web web\nbhyve -c 2 -m 1G -s 2,virtio-net,tap0,mac=02:00:00:00:00:01 web\n";
    let jail = "web { path = /jails/web; vnet; vnet.interface = e0b_web; exec.prestart = \"ifconfig e0b_web ether \
                02:00:00:00:00:01 && ifconfig bridge0 addm e0a_web\"; exec.start = \"ifconfig e0b_web inet 10.0.0.5/24\", \"/bin/sh /etc/rc\"; }";
    for (name, text, expected) in [
        ("web.sh", script, "web 02:00:00:00:00:01 10.0.0.5 /be/web bhyve 1024M 2c bridge0"),
        ("jail.conf", jail, "web 02:00:00:00:00:01 10.0.0.5 /jails/web jail bridge0"),
        ("jail.conf", "web { ip4.addr = \"em0|10.0.0.5/24\"; }", "web 10.0.0.5 jail"),
        (
            "/vm/web/web.conf",
            "loader=\"uefi\"\ncpu=2\nmemory=512M\nnetwork0_switch=\"lan\"\nnetwork0_mac=\"02:00:00:00:00:01\"\n",
            "web 02:00:00:00:00:01 bhyve 512M 2c vm-lan",
        ),
        (
            "web.jconf",
            "jname=web\nemulator=bhyve\nvm_ram=1g\nvm_cpus=2\nip4_addr=\"10.0.0.5/16\"\nnic_hwaddr=02:00:00:00:00:01\ninterface=bridge0\n",
            "web 02:00:00:00:00:01 10.0.0.5 bhyve 1024M 2c bridge0",
        ),
        ("rc.conf_web", "jname=web\nip4_addr=DHCP\nnic_hwaddr=0\ndata=/j/web\n", "web /j/web jail"),
        (
            "dhcpd.conf",
            "host web { hardware ethernet 02:00:00:00:00:01; fixed-address 10.0.0.5; option root-path \"10.0.0.1:/be/web\"; }",
            "web 02:00:00:00:00:01 10.0.0.5 /be/web",
        ),
        (
            "dnsmasq.conf",
            "dhcp-host=02:00:00:00:00:01,web,10.0.0.5\n",
            "web 02:00:00:00:00:01 10.0.0.5",
        ),
        (
            "web.cfg",
            "name=web\ncpus=2\nmemory.size=1G\npci.0.2.0.device=virtio-net\npci.0.2.0.mac=02:00:00:00:00:01\n",
            "web 02:00:00:00:00:01 bhyve 1024M 2c",
        ),
        (
            "web.xml",
            "<domain type='kvm'><name>web</name><memory unit='GiB'>1</memory><devices><interface><source bridge='br0'/><mac \
             address='02:00:00:00:00:01'/></interface></devices></domain>",
            "web 02:00:00:00:00:01 qemu 1024M 1c br0",
        ),
        ("vmtab", "web /x/web.sh auto\n", "web bhyve"),
        ("/etc/systemd/nspawn/web.nspawn", "[Network]\nBridge=br0\n", "web nspawn br0"),
        (
            "web.network",
            "[Link]\nMACAddress=02:00:00:00:00:01\n[Network]\nAddress=10.0.0.5/24\n",
            "web 02:00:00:00:00:01 10.0.0.5",
        ),
        (
            "var-lib-machines-web.mount",
            "[Mount]\nWhat=10.0.0.1:/be/web\nWhere=/var/lib/machines/web\n",
            "web /be/web nspawn",
        ),
        (
            "systemd-nspawn@web.service.d/a.conf",
            "[Service]\nEnvironment=SYSTEMD_NSPAWN_NETWORK_MAC=02:00:00:00:00:01\n",
            "web 02:00:00:00:00:01 nspawn",
        ),
    ] {
        assert_eq!(machines(&[(name, text)]), [expected], "{name}: {text}");
    }
}

#[test]
fn files_of_one_machine_are_joined_by_its_name() {
    let files = [
        ("dhcpd.conf", "host Web { hardware ethernet 02:00:00:00:00:01; }"),
        ("dnsmasq.conf", "dhcp-host=02:00:00:00:00:01,web,10.0.0.5\n"),
        ("exports", "/ROOT/head -maproot=root 10.0.0.5\n"),
    ];
    assert_eq!(machines(&files), ["Web 02:00:00:00:00:01 10.0.0.5 /ROOT/head"]);
    assert_eq!(left(&files), Vec::<String>::new());
    let thin = [
        ("jail.conf", "dev { path = /z/dev; mount.fstab = /z/dev.fstab; }"),
        (
            "dev.fstab",
            "/z/base /z/dev nullfs ro 0 0\n/z/containers/dev /z/dev/skeleton nullfs rw 0 0\n",
        ),
    ];
    assert_eq!(machines(&thin), ["dev /z/containers/dev jail"]);
    assert_eq!(left(&thin), Vec::<String>::new());
}

#[test]
fn contradictions_are_conflicts_of_the_machine() {
    let knowledge = known(&[
        (
            "dnsmasq.conf",
            "dhcp-host=02:00:00:00:00:01,web,10.0.0.5\ndhcp-host=02:00:00:00:00:01,db\n",
        ),
        ("dhcpd.conf", "host web { fixed-address 10.0.0.6; }"),
    ]);
    let conflicts: Vec<&str> = knowledge
        .machines
        .iter()
        .flat_map(|machine| &machine.conflicts)
        .map(|conflict| conflict.message.as_str())
        .collect();
    assert_eq!(
        conflicts,
        [
            "10.0.0.6 (dhcpd.conf:1) is 10.0.0.5 in dnsmasq.conf:1",
            "02:00:00:00:00:01 (dnsmasq.conf:1) is db's too (dnsmasq.conf:2)"
        ]
    );
}

#[test]
fn what_a_jails_host_sets_is_not_the_jails() {
    let jail = |commands: &str| {
        let text = format!("web {{ path = /j; vnet; vnet.interface = e0b; {commands} }}");
        (machines(&[("jail.conf", &text)]), left(&[("jail.conf", &text)]))
    };
    for hook in ["exec.prepare", "exec.prestart", "exec.created", "exec.poststart"] {
        let (machines, left) = jail(&format!(
            "{hook} = \"ifconfig e0a 10.0.0.1/24 up\", \"ifconfig bridge0 inet 10.0.0.2/24 addm e0a\", \"ifconfig e0a \
             ether 02:00:00:00:00:0a\", \"ifconfig e0b ether 02:00:00:00:00:0b\", \"route add default 10.0.0.254\";"
        ));
        assert_eq!(machines, ["web 02:00:00:00:00:0b /j jail bridge0"], "{hook}");
        assert_eq!(left, Vec::<String>::new(), "{hook}");
    }
    let (machines, _) = jail(
        "exec.start = \"ifconfig e0b ether 02:00:00:00:00:0b\", \"ifconfig e0b inet 10.0.0.5/24\";",
    );
    assert_eq!(machines, ["web 02:00:00:00:00:0b 10.0.0.5 /j jail"]);
}

#[test]
fn what_has_no_place_is_named_by_file_and_line() {
    for (name, text, expected) in [
        ("exports", "\n/a -network 10.0.0.0/24\n", "exports:2 /a is shared with a network"),
        ("exports", "/a -ro\n", "exports:1 /a is shared with clients"),
        ("exports", "/a 10.0.0.7\n", "exports:1 10.0.0.7 may mount /a"),
        (
            "fstab",
            "10.0.0.1:/be/web / nfs ro 0 0\n",
            "fstab:1 10.0.0.1:/be/web is the root of a guest",
        ),
        ("rc.conf", "hostname=\"x\"\n", "rc.conf:1 this file configures one guest"),
        ("jail.conf", "\n7 { }", "jail.conf:2 jail(8) takes 7"),
        (
            "jail.conf",
            "a { ip4.addr = 10.0.0.1, 10.0.0.2; }",
            "jail.conf:1 a has the address 10.0.0.2 too",
        ),
        ("jail.conf", "a { path = $x; }", "jail.conf:1 a: no variable is called x"),
        ("a.nspawn", "[Network]\nPort=80\n", "a.nspawn:1 a has Port= too"),
        ("a.jconf", "jname=a\nip4_addr=$(x)\n", "a.jconf:2 a shell computes the value of ip4_addr"),
        ("a.jconf", "vm_ram=1g\n", "a.jconf:1 jname, which is the name, is missing"),
        ("a.jconf", "jname=a\nemulator=xen\n", "a.jconf:1 a is run by xen"),
        ("a.xml", "<domain type='lxc'><name>a</name></domain>", "a.xml:1 a is run by lxc"),
        (
            "/vm/a/a.conf",
            "loader=uefi\nmemory=1G\ndisk0_name=x\n",
            "/vm/a/a.conf:1 a has disk0_name too",
        ),
        (
            "dnsmasq.conf",
            "dhcp-hostsfile=/etc/h\n",
            "dnsmasq.conf:1 netbe does not follow this to /etc/h",
        ),
        (
            "dnsmasq.conf",
            "dhcp-host=02:00:00:00:00:01\n",
            "dnsmasq.conf:1 this machine has no name",
        ),
        ("vmtab", "a /x/a.sh\n", "vmtab:1 a is defined in /x/a.sh"),
        ("a.sh", "bhyve -m 1G $name\n", "a.sh:1 the name of this guest is not written here"),
        (
            "a.sh",
            "bhyve -s 2,virtio-net,tap0 a\n",
            "a.sh:1 a: bhyve makes this card's Ethernet address",
        ),
        (
            "srv-x.mount",
            "[Mount]\nWhat=a:/b\nWhere=/srv/x\n",
            "srv-x.mount:1 a:/b is mounted on /srv/x",
        ),
    ] {
        let left = left(&[(name, text)]);
        assert!(left.iter().any(|line| line.starts_with(expected)), "{text}: {left:?}");
    }
}

proptest! {
    #[test]
    fn nothing_that_is_read_panics(texts in prop::collection::vec(
        "([ -~\n]|host [a-c] \\{|\\}|dhcp-host=|02:00:00:00:00:01|10\\.0\\.0\\.1|jname=a|[a-c] = |\\[Network\\]\n|MACAddress=|<domain><name>){0,20}", 17
    )) {
        let kinds = crate::lint::KINDS.replace(" or ", ", ");
        let sources: Vec<Source> = kinds
            .split(", ")
            .zip(texts)
            .map(|(kind, text)| Source { name: format!("x.{kind}"), kind: kind.parse().unwrap(), text })
            .collect();
        prop_assert_eq!(sources.len(), 17);
        let _ = read(&sources);
        let _ = crate::lint::lint(&sources);
    }
}
