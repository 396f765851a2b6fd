//! Machines from files of other programs: a plan first, then all of them or none.

use std::fs;

use crate::bench::Bench;

/// Files of a site in a directory of the bench's; their names stay as they are.
fn files<const N: usize>(bench: &Bench, files: [(&str, &str); N]) -> [String; N] {
    let folder = bench.state().with_file_name("files");
    fs::create_dir_all(&folder).unwrap();
    files.map(|(name, text)| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.display().to_string()
    })
}

const DHCPD: &str = "host web1 {\n  hardware ethernet 52:54:00:00:00:01;\n  fixed-address 10.0.0.9;\n  \
                     option root-path \"10.0.0.1:/be/head\";\n  filename \"x\";\n}\n";
const DNSMASQ: &str = "dhcp-host=52:54:00:00:00:02,db,10.0.0.10\n";

#[test]
fn a_plan_is_shown_and_then_done() {
    let bench = Bench::with_head();
    let [dhcpd, dnsmasq] = files(&bench, [("dhcpd.conf", DHCPD), ("dnsmasq.conf", DNSMASQ)]);
    let plan = bench.prints(&["import", "-n", &dhcpd, &dnsmasq]);
    let note =
        format!("{dhcpd}:1: not taken: web1 has filename too, for which a machine has no place\n");
    assert_eq!(
        plan,
        format!(
            "would add the machine db, 52:54:00:00:00:02, 10.0.0.10\nwould add the machine web1, \
             52:54:00:00:00:01, 10.0.0.9, which boots head\n{note}"
        )
    );
    assert_eq!(bench.prints(&["machine", "list", "-H"]), "");
    let done = bench.prints(&["import", &dhcpd, &dnsmasq]);
    assert!(done.starts_with("added the machine db, ") && done.ends_with(&note), "{done}");
    let machines = bench.prints(&["machine", "list", "-H"]);
    assert_eq!(
        machines,
        "db\t52:54:00:00:00:02\t10.0.0.10\tdirect\t-\nweb1\t52:54:00:00:00:01\t10.0.0.9\tdirect\thead\n"
    );
    // A second time nothing is left to do.
    let again = bench.prints(&["import", &dhcpd, &dnsmasq]);
    assert_eq!(again, format!("db is there already\nweb1 is there already\n{note}"));
    assert_eq!(bench.prints(&["machine", "list", "-H"]), machines);
}

#[test]
fn a_conflict_is_refused_by_name_and_nothing_is_added() {
    let bench = Bench::with_head();
    bench.silent(&["machine", "add", "--mac=52:54:00:00:00:02", "desk"]);
    let [dhcpd, dnsmasq] = files(&bench, [("dhcpd.conf", DHCPD), ("dnsmasq.conf", DNSMASQ)]);
    let outcome = bench.run(&["import", &dhcpd, &dnsmasq]);
    assert_eq!(outcome.status, Some(1));
    assert_eq!(
        outcome.err,
        format!(
            "netbe: db ({dnsmasq}:1) is not added: 52:54:00:00:00:02 belongs to desk: set another for desk \
             first, or remove it\nnetbe: nothing was added: correct the files, or leave machines out with --except NAME; -n shows the plan\n"
        )
    );
    assert_eq!(bench.prints(&["machine", "list", "-H"]).lines().count(), 1);
    // The plan says the same, and what would go well.
    let outcome = bench.run(&["import", "-n", &dhcpd, &dnsmasq]);
    assert_eq!(outcome.status, Some(1));
    assert!(outcome.out.starts_with("would add the machine web1"), "{}", outcome.out);
    bench.prints(&["import", "--except=db", &dhcpd, &dnsmasq]);
    assert_eq!(bench.prints(&["machine", "list", "-H"]).lines().count(), 2);
    // A machine that is known with something else is nobody's to change.
    let [other] =
        files(&bench, [("other.conf", "host web1 { hardware ethernet 52:54:00:00:00:07; }")]);
    bench.refuses_all(
        &["import", &other],
        &["web1 exists already without mac 52:54:00:00:00:07: change it with `netbe machine set --mac \
           52:54:00:00:00:01 --mac 52:54:00:00:00:07 web1`, or leave it out with --except web1"],
    );
}

#[test]
fn two_files_that_contradict_each_other_are_no_choice() {
    let bench = Bench::with_head();
    let [dhcpd, dnsmasq] = files(
        &bench,
        [("dhcpd.conf", DHCPD), ("dnsmasq.conf", "dhcp-host=52:54:00:00:00:01,web1,10.0.0.10\n")],
    );
    bench.refuses_all(
        &["import", &dhcpd, &dnsmasq],
        &[&format!("web1 is not added: 10.0.0.10 ({dnsmasq}:1) is 10.0.0.9 in {dhcpd}:1")],
    );
}

#[test]
fn jails_and_guests_become_machines() {
    let bench = Bench::with_head();
    let jail = "web { path = /jails/head; ip4.addr = 10.0.0.5; }\nweb_2 { ip4.addr = 10.0.0.6; }\n";
    let script = "bhyveload -m 1G -h /r -e boot.netif.hwaddr=02:00:00:00:00:01 -e boot.nfsroot.path=/be/gone \
                  guest\nbhyve -c 2 -m 1G -s 2,virtio-net,tap0,mac=02:00:00:00:00:01 guest\n";
    let [jail, script] = files(&bench, [("jail.conf", jail), ("guest.sh", script)]);
    let outcome = bench.run(&["import", &jail, &script]);
    assert!(outcome.err.contains("'web_2' is not a host name"), "{}", outcome.err);
    let out = bench.prints(&["import", "--except=web_2", &jail, &script]);
    for line in [
        "added the machine web, 10.0.0.5, which boots head, run by jail\n".to_owned(),
        "added the machine guest, 02:00:00:00:00:01, run by bhyve, 2 processors, 1G of memory\n"
            .to_owned(),
        format!(
            "{script}:1: not taken: the store has no environment of \"/be/gone\": assign one with `netbe \
             sharepxe --machine guest BE`\n"
        ),
    ] {
        assert!(out.contains(&line), "{line}{out}");
    }
    // What is kept is what was shown.
    let shown = bench.prints(&["machine", "show", "guest"]);
    for line in ["run = \"bhyve\"\n", "cpus = 2\n", "memory = \"1G\"\n"] {
        assert!(shown.contains(line), "{line}{shown}");
    }
    let again = bench.prints(&["import", "--except=web_2", &jail, &script]);
    assert!(again.starts_with("guest is there already\nweb is there already\n"), "{again}");
    bench.prints(&["machine", "set", "--cpus=4", "guest"]);
    bench.refuses_all(
        &["import", &script],
        &["guest exists already without cpus 2: change it with `netbe machine set --cpus 2 guest`, or leave \
           it out with --except guest"],
    );
}

#[test]
fn a_root_for_several_is_warned_of_and_that_of_another_is_refused() {
    let bench = Bench::with_head();
    let host = |last: u8, name: &str, root: &str| {
        format!(
            "host {name} {{ hardware ethernet 52:54:00:00:00:0{last}; option root-path \"10.0.0.1:/be/{root}\"; }}\n"
        )
    };
    let both = host(1, "web1", "head") + &host(2, "web2", "head");
    let [both] = files(&bench, [("dhcpd.conf", &both)]);
    let outcome = bench.run(&["import", &both]);
    assert_eq!(
        (outcome.err.as_str(), outcome.status),
        (
            "netbe: web1, web2 write to one root, head, and destroy each other's files: give each a clone with `netbe sharepxe --machine NAME --root own head`, or make the root read-only for all with --root shared\n",
            Some(0)
        )
    );
    let desk = ["machine", "add", "--mac=52:54:00:00:00:07", "--root=own", "--environment=head"];
    bench.prints(&[&desk[..], &["desk"]].concat());
    let [other] = files(&bench, [("other.conf", &host(3, "web3", "desk-head"))]);
    bench.refuses_all(
        &["import", "--as", "dhcpd", &other],
        &[&format!(
            "web3 ({other}:1) is not added: desk-head is the root of desk: copy it with `netbe machine keep`, and use the copy"
        )],
    );
    assert_eq!(bench.prints(&["machine", "list", "-H"]).lines().count(), 3);
}

#[test]
fn what_no_one_can_read_is_said() {
    let bench = Bench::with_head();
    let [odd] = files(&bench, [("odd", "nothing of all this\n")]);
    let (message, status) = bench.fails(&["import", &odd]);
    assert!(
        message.contains("cannot recognize the kind of") && message.contains("vmtab"),
        "{message}"
    );
    assert_eq!(status, 2);
    let [empty] = files(&bench, [("dnsmasq.conf", "interface=br0\n")]);
    assert_eq!(bench.prints(&["import", &empty]), "the files define no machine\n");
    assert_eq!(bench.prints(&["import", "-n", &empty]), "");
}

#[test]
fn what_netbe_shows_it_imports() {
    let bench = Bench::with_head();
    let mac = "--mac=02:01:02:03:04:05";
    bench.silent(&["machine", "add", mac, "--address=192.168.2.202", "--environment=head", "web1"]);
    let before = bench.prints(&["machine", "list", "-H"]);
    let guest = ["--server=192.168.2.1", "--machine=web1", "head"];
    let shown = |words: &[&str]| bench.prints(&[&["show"], words, &guest].concat());
    let paths = files(
        &bench,
        [
            ("web1.sh", shown(&["bhyve-script"]).as_str()),
            ("web1.cfg", shown(&["bhyve-config"]).as_str()),
            ("web1.xml", shown(&["libvirt"]).as_str()),
            ("web1.jconf", shown(&["cbsd"]).as_str()),
            ("web1/web1.conf", shown(&["vm-bhyve"]).as_str()),
        ],
    );
    bench.silent(&["machine", "remove", "web1"]);
    let mut words = vec!["import"];
    words.extend(paths.iter().map(String::as_str));
    let out = bench.prints(&words);
    // The script's guest is in a bridge of the host, and vm-bhyve's in one of its own switches.
    assert!(out.contains(" is bridge0 in ") || out.contains("bridge0 is "), "{out}");
    assert_eq!(bench.prints(&["machine", "list", "-H"]), before);
}
