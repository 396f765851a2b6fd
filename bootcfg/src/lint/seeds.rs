//! The mistakes that were found in published set-ups, each in a text of our own that has it: jails with VNET and
//! nullfs, CBSD on NFS, containers, CBSD with Consul, and the scripts of be(8).

use super::*;

/// Places and rules of what is found, without what `but` names.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    let source = |(name, text): &(&str, &str)| {
        let kind = Kind::of(name, text).unwrap_or_else(|| panic!("{name}"));
        Source { name: (*name).to_owned(), kind, text: (*text).to_owned() }
    };
    let sources: Vec<Source> = files.iter().map(source).collect();
    let findings = lint(&sources).into_iter();
    findings.map(|finding| format!("{}:{} {}", finding.file, finding.line, finding.rule)).collect()
}

#[track_caller]
fn finds(files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(found(files), expected, "{files:?}");
}

const VNET: &str = "vnet; path = \"/z/${name}\"; vnet.interface = \"e${id}b\";\n\
                    exec.prestart = \"ifconfig e${id} create up\";\nexec.poststop = \"ifconfig e${id}a destroy\";\n";

#[test]
fn the_network_of_a_jail_comes_before_its_services() {
    let late = format!(
        "{VNET}exec.start = \"/bin/sh /etc/rc\";\nexec.start += \"ifconfig e1b 10.0.0.5/24 up\";\na {{ $id = 1; }}\n"
    );
    finds(&[("jail.conf", &late)], &["jail.conf:4 jail-network"]);
    let right = format!(
        "{VNET}exec.start = \"ifconfig e1b 10.0.0.5/24 up\", \"/bin/sh /etc/rc\";\na {{ $id = 1; }}\n"
    );
    finds(&[("jail.conf", &right)], &[]);
}

#[test]
fn each_mistake_of_a_jail_is_found_where_it_is() {
    for (text, expected) in [
        (
            "a { path = /z/a;\n exec.prestart = \"ifconfig epair1 create\"; }",
            vec!["jail.conf:2 jail-teardown"],
        ),
        (
            "a { path = /z/a;\n exec.prestart = \"mount -t nullfs /x /z/a/x\"; }",
            vec!["jail.conf:2 jail-teardown"],
        ),
        ("a {\n vnet.interface = e0b_a; }", vec!["jail.conf:2 jail-vnet"]),
        ("a { vnet;\n ip4.addr = 10.0.0.1; }", vec!["jail.conf:2 jail-address"]),
        ("a { vnet;\n vnet.interface = e0b_a-longer-name; }", vec!["jail.conf:2 interface-long"]),
        ("a {\n allow.mount; allow.mount.devfs; }", vec!["jail.conf:2 jail-mount"]),
        ("a { allow.mount; enforce_statfs = 1; }", vec![]),
        ("a {\n alow.mount; }", vec!["jail.conf:2 jail-parameter"]),
        ("\n14 { }", vec!["jail.conf:2 jail-name"]),
        ("a { path = /z/a; }\nb { path = /z/a; }", vec!["jail.conf:2 jail-twice"]),
        ("a {\n path = \"/z/$x\"; }", vec!["jail.conf:2 syntax"]),
        ("a { ip4.addr = 10.0.0.1; }\nb { ip4.addr = 10.0.0.1; }", vec!["jail.conf:2 conflict"]),
    ] {
        assert_eq!(found(&[("jail.conf", text)]), expected, "{text}");
    }
    let files = [
        ("jail.conf", "a { path = /z/a; mount.fstab = /z/a.fstab; }"),
        ("a.fstab", "/t/base /z/a nullfs ro 0 0\n/t/a /z/ab/skeleton nullfs rw 0 0\n"),
    ];
    finds(&files, &["a.fstab:2 jail-mount"]);
}

#[test]
fn scripts_that_split_a_template_are_read() {
    for (text, expected) in [
        ("#!/bin/sh\nrsync -avz /$d/base/var /$d/skel/var\nd=1\n", vec!["x.sh:2 rsync-slash"]),
        ("#!/bin/sh\nrsync -avz /z/base/var/ /z/skel/var\n", vec![]),
        ("#!/bin/sh\nexport jail_dir=z\nmkdir /$jail_zfs/templates\n", vec!["x.sh:3 unset"]),
        ("#!/bin/sh\nexport jail_dir=z\nmkdir /$jail_dir/templates /$1\n", vec![]),
        ("#!/bin/sh\nln -s skeleton/usr/local usr/local\n", vec!["x.sh:2 link-inside"]),
        ("#!/bin/sh\nln -s ../skeleton/usr/local usr/local\nln -s skeleton/etc etc\n", vec![]),
        ("#!/bin/sh\nls -lh . | awk '{print $9}'\n", vec!["x.sh:2 ls-parsed"]),
        ("#!/bin/sh\nbsd_ver=14.3\nzfs clone z/skel@base z/$1\n", vec!["x.sh:3 unchecked"]),
        ("#!/bin/sh\nset -e\nzfs clone z/skel@base z/$1\nzfs clone a@b c || exit\n", vec![]),
        (
            "#!/bin/sh\nx=${bsd_ver}-RELEASE\necho 14.2-RELEASE-base\n",
            vec!["x.sh:3 release-differs"],
        ),
    ] {
        assert_eq!(found(&[("x.sh", text)]), expected, "{text}");
    }
}

#[test]
fn a_server_of_nfs_has_all_its_services_and_shares_no_root() {
    let services = "#!/bin/sh\nsysrc -q nfsv4_server_enable=\"YES\"\nsysrc -q nfsuserd_enable=\"YES\"\n\
                    sysrc -q nfsuserd_enable=\"YES\"\nsysrc -q rpc_lockd_enable=\"YES\"\n";
    finds(&[("x.sh", services)], &["x.sh:2 nfsd", "x.sh:4 twice", "x.sh:5 nfsd"]);
    finds(&[("rc.conf", "nfsv4_server_enable=YES\n")], &["rc.conf:1 nfsd"]);
    finds(&[("rc.conf", "nfsv4_server_enable=YES\nnfs_server_enable=YES\n")], &[]);
    finds(&[("x.sh", "#!/bin/sh\nzfs set sharenfs=on zroot/ROOT/default\n")], &["x.sh:2 sharenfs"]);
    finds(&[("x.sh", "#!/bin/sh\nzfs set sharenfs=off zroot/ROOT/default\n")], &[]);
    let plain = [
        ("exports", "/nfs -alldirs -maproot=root 172.16.0.100\nV4: / 172.16.0.100\n"),
        ("x.sh", "#!/bin/sh\nmkdir -p /nfs/data/jail1 /nfs/fstab/jail1\n"),
    ];
    finds(&plain, &["exports:1 exports-alldirs"]);
    let own = [
        plain[0],
        ("x.sh", "#!/bin/sh\nzfs create -o mountpoint=/nfs z/nfs\nmkdir -p /nfs/data\n"),
    ];
    finds(&own, &[]);
    let loops = "#!/bin/sh\nwhile getopts \"d:j:\" opt; do\n  case $opt in d) d=$OPTARG ;; esac\n  shift $(($OPTIND - 1))\ndone\n";
    finds(&[("x.sh", loops)], &["x.sh:4 getopts-shift"]);
    finds(&[("x.jconf", "jname=a\nMOUNT_RCCONF=1\n")], &["x.jconf:2 jail-mount"]);
}

#[test]
fn a_container_starts_in_one_way_and_its_mount_has_the_name_of_its_directory() {
    for (name, text, expected) in [
        ("a.nspawn", "[Exec]\nBoot=on\nProcessTwo=yes\n", vec!["a.nspawn:1 nspawn-boot"]),
        ("a.nspawn", "[Network]\nPort=tcp:80\n", vec!["a.nspawn:1 nspawn-port"]),
        (
            "a.nspawn",
            "[Exec]\nBoot=on\n[Network]\nVirtualEthernet=yes\nBridge=br0\nPort=80\n",
            vec![],
        ),
        ("srv-a.mount", "[Mount]\nWhat=x:/a\nWhere=/srv/a-b\n", vec!["srv-a.mount:1 unit-name"]),
        ("srv-a\\x2db.mount", "[Mount]\nWhat=x:/a\nWhere=/srv/a-b\n", vec![]),
        ("a.nspawn", "Boot=on\n", vec!["a.nspawn:1 syntax"]),
    ] {
        assert_eq!(found(&[(name, text)]), expected, "{text}");
    }
}

#[test]
fn guests_of_other_programs_have_what_their_loader_needs() {
    for (name, text, expected) in [
        (
            "/vm/a/a.conf",
            "loader=\"bhyveload\"\nmemory=1G\nnetwork0_type=\"virtio-net\"\n CPU=1\n",
            vec![
                "/vm/a/a.conf:1 vm-bhyve-disk",
                "/vm/a/a.conf:3 mac-missing",
                "/vm/a/a.conf:4 vm-bhyve-line",
            ],
        ),
        ("a.cfg", "name=a\ncpus=1\nmemroy.size=1G\n", vec!["a.cfg:3 bhyve-variable"]),
        (
            "a.cfg",
            "name=a\ncpus=1\npci.0.2.0.device=virtio-net\npci.0.2.0.backend=tap0\n",
            vec!["a.cfg:3 mac-missing"],
        ),
        ("vmtab", "a b\n", vec!["vmtab:1 syntax"]),
        ("a.xml", "<domain>", vec!["a.xml:1 syntax"]),
        ("dhcpd.conf", "host a {", vec!["dhcpd.conf:1 syntax"]),
        ("dnsmasq.conf", "dhcp-host=*:*:*:*:*:*,a\n", vec!["dnsmasq.conf:1 address"]),
    ] {
        assert_eq!(found(&[(name, text)]), expected, "{text}");
    }
    let two =
        [("a.cfg", "name=a\ncpus=1\nmemory.size=2G\n"), ("a.sh", "bhyveload -m 1G -h /r a\n")];
    finds(&two, &["a.cfg:3 memory-differs"]);
}

#[test]
fn hooks_of_consul_do_what_they_are_for() {
    let hook = "#!/bin/sh\nhostname=$( hostname )\ncurl -X PUT \"http://c:8500/v1/catalog/deregister?token=secret\" \\\n\
                -d \"{\\\"Node\\\": \\\"$host_hostname\\\", \\\"Address\\\": \\\"$ip4_addr\\\", \\\"Tags\\\":[ \\\"$hostname\\\" ]}\"\nexit 0\n";
    finds(
        &[("redis1/master_poststart.d/register.sh", hook)],
        &[
            "redis1/master_poststart.d/register.sh:3 consul-endpoint",
            "redis1/master_poststart.d/register.sh:3 consul-token",
            "redis1/master_poststart.d/register.sh:3 hook-status",
            "redis1/master_poststart.d/register.sh:4 consul-address",
            "redis1/master_poststart.d/register.sh:4 consul-address",
            "redis1/master_poststart.d/register.sh:5 hook-status",
        ],
    );
    let config =
        "{\"acl_datacenter\":\"dc1\",\"datacenter\":\"dc1\",\n\"ui_dir\":\"/x\",\"server\":true}";
    finds(
        &[("config.json", config)],
        &["config.json:1 consul-config", "config.json:2 consul-config"],
    );
    finds(
        &[("config.json", "{\"datacenter\":\"dc1\",\"\nlog_level\":\"INFO\"}")],
        &["config.json:2 syntax"],
    );
    let node = "{\"Node\":\"redis1\",\n\"Address\":\"10.0.0.1/16\",\n\"checks\": [ { \"script\": \"ping\" } ]}";
    finds(&[("node.json", node)], &["node.json:2 consul-address", "node.json:3 consul-config"]);
    finds(&[("resolv.conf", "search consul\n")], &["resolv.conf:1 consul-search"]);
    finds(&[("resolv.conf", "search node.consul\n")], &[]);
    let dns = "#!/bin/sh\ncbsd expose jname=consul in=8301 proto=udp mode=add\ncbsd expose jname=consul in=53 out=8600 mode=add\n";
    finds(&[("x.sh", dns)], &["x.sh:3 expose-udp"]);
}

#[test]
fn the_scripts_of_the_slides_are_read() {
    let regression = "#!/bin/sh\ncat releases.txt | while read release; do\n be create -l flat bd/be/r$release\n \
                      be jail bd/be/rel$release &\ndone\n";
    finds(&[("x.sh", regression)], &["x.sh:3 unchecked", "x.sh:4 be-name", "x.sh:4 unchecked"]);
    let right = "#!/bin/sh\nwhile read r; do\n be create bd/r$r\n be install -r $r bd/r$r\n be jail bd/r$r &\n wait\ndone\n";
    finds(&[("x.sh", right)], &[]);
    for (text, expected) in [
        ("#!/bin/sh\nmount -t zfs /ROOT/head/ /mnt\n", vec!["x.sh:2 mount-dataset"]),
        ("#!/bin/sh\nmount -t zfs zroot/ROOT/head /mnt\n", vec![]),
        ("#!/bin/sh\nbsdconfig script installer.sh\n", vec!["x.sh:2 bsdinstall"]),
        (
            "#!/bin/sh\nexport PARTITIONS=\"md0 {512M freebsd-ufs /, 100M freebsd-swap, 512M freebsd-ufs, /var, auto freebsd-ufs /usr }\"\n",
            vec!["x.sh:2 partitions"],
        ),
        (
            "#!/bin/sh\nexport PARTITIONS=\"md0 {512M freebsd-ufs /, auto freebsd-ufs /usr }\"\n",
            vec![],
        ),
    ] {
        assert_eq!(found(&[("x.sh", text)]), expected, "{text}");
    }
}
