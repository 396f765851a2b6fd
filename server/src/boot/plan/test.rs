//! What machines are told, as tables.

use std::collections::BTreeSet;

use super::*;
use crate::boot::catalog::Contents;
use crate::boot::decide::environment_of;
use crate::site::machine::{LoaderProtocol, Roster};

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

fn facts(system: Option<System>, loaders: &[&str]) -> Facts {
    let loaders = loaders.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    let contents = Contents { system, loaders, without_nfs: BTreeSet::new() };
    let (name, uuid, handle) = ("base".to_owned(), Uuid::from_u128(1), vec![0xab; 44]);
    let (read_only, datasets, owned) = (false, Vec::new(), None);
    Facts { name, uuid, read_only, datasets, handle, owned, contents }
}

fn linux() -> Facts {
    let (kernel, initrd) = ("/boot/vmlinuz".to_owned(), Some("/boot/initrd.img".to_owned()));
    facts(Some(System::Linux { kernel, initrd }), &[])
}

fn freebsd() -> Facts {
    facts(Some(System::FreeBsd), &["pxeboot", "loader.efi"])
}

/// A host with Debian's package of iPXE.
fn host() -> (tempfile::TempDir, HostLoaders) {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["undionly.kpxe", "snponly.efi", "ipxe.efi"] {
        std::fs::write(scratch.path().join(name), b"x").unwrap();
    }
    let loaders = HostLoaders::search([scratch.path()]);
    (scratch, loaders)
}

/// A site that boots machines by itself, on an Ethernet of which nothing else is known.
fn site(loaders: &HostLoaders) -> Site<'_> {
    static NETWORK: ClientNetwork = ClientNetwork {
        mtu: 1500,
        name_servers: Vec::new(),
        domain: None,
        time_servers: Vec::new(),
    };
    Site { server: SERVER, http_port: 80, loaders, proxy: false, network: &NETWORK }
}

fn decide(client: Client, facts: &Facts) -> Result<Plan, NoPlan> {
    let (_scratch, loaders) = host();
    let site = site(&loaders);
    plan(Subject { mac: MAC, machine: None, client }, facts, false, site)
}

#[test]
fn every_firmware_gets_its_loader() {
    let url = "http://10.0.0.1/b/0000000000000007/";
    let script = format!("{url}boot.ipxe");
    let by_http = format!("{url}snponly.efi");
    let table: [(Client, Facts, &str); 11] = [
        (Client::Pxe(Arch::BIOS), linux(), "undionly.kpxe"),
        (Client::Pxe(Arch::UEFI_X64), linux(), "snponly.efi"),
        (Client::Pxe(Arch::UEFI_EBC), linux(), "snponly.efi"),
        (Client::Http(Arch::UEFI_X64_HTTP), linux(), &by_http),
        (Client::Ipxe(Arch::BIOS), linux(), &script),
        (Client::Ipxe(Arch::UEFI_X64), linux(), &script),
        (Client::Pxe(Arch::BIOS), freebsd(), "pxeboot"),
        (Client::Pxe(Arch::UEFI_X64), freebsd(), "loader.efi"),
        (Client::Ipxe(Arch::BIOS), freebsd(), "pxeboot"),
        (Client::Ipxe(Arch::UEFI_X64), freebsd(), "loader.efi"),
        (Client::Http(Arch::UEFI_X64_HTTP), freebsd(), &by_http),
    ];
    for (client, facts, file) in table {
        let answer = decide(client, &facts).unwrap().answer(BootId(7), client);
        assert_eq!(answer.file.as_deref(), Some(file), "{client:?} {facts:?}");
        assert_eq!(answer.root_path.as_deref(), Some("10.0.0.1:/be/base"));
    }
}

/// Linux with the files of every loader that can be chosen in its own `/boot`.
fn equipped() -> Facts {
    let mut environment = linux();
    environment.contents.loaders = loader::all_names().map(str::to_owned).collect();
    environment
}

fn decide_for(loader: LoaderChoice, client: Client, facts: &Facts) -> Result<Plan, NoPlan> {
    let name = "web1".parse().unwrap();
    let machine = Machine { loader, ..Machine::default() };
    let (_scratch, loaders) = host();
    let site = site(&loaders);
    plan(Subject { mac: MAC, machine: Some((&name, &machine)), client }, facts, false, site)
}

#[test]
fn every_chosen_loader_is_what_firmware_and_an_ipxe_rom_get() {
    let (bios, uefi, aa64) = (Arch::BIOS, Arch::UEFI_X64, Arch::UEFI_ARM64);
    let table: [(LoaderChoice, Arch, &str, &[&str]); 8] = [
        (LoaderChoice::Pxelinux, bios, "pxelinux.0", &["ldlinux.c32"]),
        (LoaderChoice::Lpxelinux, bios, "lpxelinux.0", &["ldlinux.c32"]),
        (LoaderChoice::Grub, bios, "boot/grub/i386-pc/core.0", &[]),
        (LoaderChoice::Grub, uefi, "grubx64.efi", &[]),
        (LoaderChoice::Grub, Arch::UEFI_EBC, "grubx64.efi", &[]),
        (LoaderChoice::Grub, aa64, "grubaa64.efi", &[]),
        (LoaderChoice::Shim, uefi, "shimx64.efi", &["grubx64.efi"]),
        (LoaderChoice::Shim, aa64, "shimaa64.efi", &["grubaa64.efi"]),
    ];
    for (choice, arch, file, others) in table {
        for client in [Client::Pxe(arch), Client::Ipxe(arch)] {
            let plan = decide_for(choice, client, &equipped()).unwrap();
            let answer = plan.answer(BootId(7), client);
            assert_eq!(answer.file.as_deref(), Some(file), "{choice} {client}");
            let found = plan.chosen.unwrap().others;
            let found = found.iter().map(|other| other.name.as_str()).collect::<Vec<_>>();
            assert_eq!(found, others, "{choice} {client}");
        }
    }
}

#[test]
fn ipxe_may_be_chosen_before_freebsds_loader() {
    let client = Client::Pxe(Arch::BIOS);
    let plan = decide_for(LoaderChoice::Ipxe, client, &freebsd()).unwrap();
    assert_eq!(plan.answer(BootId(7), client).file.as_deref(), Some("undionly.kpxe"));
    let next = plan.answer(BootId(7), Client::Ipxe(Arch::BIOS)).file;
    assert_eq!(next.as_deref(), Some("pxeboot"));
}

#[test]
fn a_loader_that_cannot_be_is_refused_with_what_to_do() {
    let say =
        |choice, client, facts: &Facts| decide_for(choice, client, facts).unwrap_err().to_string();
    let (bios, uefi) = (Client::Pxe(Arch::BIOS), Client::Pxe(Arch::UEFI_X64));
    assert_eq!(
        say(LoaderChoice::Lpxelinux, bios, &linux()),
        "lpxelinux.0 is missing: install the package pxelinux, or put the file into the \
         environment's /boot"
    );
    assert_eq!(
        say(LoaderChoice::Shim, bios, &equipped()),
        "the loader shim does not start from BIOS PXE: choose another with `netbe machine set \
         --loader`"
    );
    let http = Client::Http(Arch::UEFI_X64_HTTP);
    assert!(say(LoaderChoice::Grub, http, &equipped()).contains("from UEFI HTTP boot"));
    let mut free = equipped();
    free.contents.system = Some(System::FreeBsd);
    assert!(say(LoaderChoice::Grub, uefi, &free).contains("does not load the FreeBSD in"));
}

#[test]
fn only_pxelinux_has_options_of_its_own() {
    let asked = |choice, arch| {
        let client = Client::Pxe(arch);
        decide_for(choice, client, &equipped()).unwrap().answer(BootId(7), client).asked
    };
    let codes = |choice, arch| asked(choice, arch).into_iter().map(|(code, _)| code);
    // All are told the log server.
    assert!(codes(LoaderChoice::Grub, Arch::UEFI_X64).eq([7]));
    assert!(codes(LoaderChoice::Pxelinux, Arch::BIOS).eq([208, 209, 211, 7]));
    assert!(asked(LoaderChoice::Grub, Arch::UEFI_X64).contains(&(7, vec![10, 0, 0, 1])));
    let prefix = (210, b"http://10.0.0.1/b/0000000000000007/".to_vec());
    assert!(asked(LoaderChoice::Lpxelinux, Arch::BIOS).contains(&prefix));
}

#[test]
fn the_environments_own_ipxe_comes_first() {
    let mut environment = linux();
    environment.contents.loaders.insert("ipxe.efi".to_owned());
    let first = decide(Client::Pxe(Arch::UEFI_X64), &environment).unwrap().first.unwrap();
    assert_eq!(first.place, LoaderLocation::Environment("/boot/ipxe.efi".to_owned()));
}

#[test]
fn linux_is_told_its_root_on_the_command_line() {
    let plan = decide(Client::Ipxe(Arch::BIOS), &linux()).unwrap();
    let Next::Kernel { cmdline, .. } = plan.next else { panic!("{plan:?}") };
    assert_eq!(
        cmdline,
        "root=/dev/nfs nfsroot=10.0.0.1:/be/base,vers=3,tcp,nolock ip=dhcp rw \
         BOOTIF=01-52-54-00-00-00-01"
    );
}

#[test]
fn a_machines_own_words_end_the_command_line() {
    let name = "web1".parse().unwrap();
    let cmdline = " console=ttyS0 ".to_owned();
    let machine = Machine { cmdline, read_only: true, ..Machine::default() };
    let loaders = HostLoaders::default();
    let site = Site { http_port: 8080, ..site(&loaders) };
    let client = Client::Ipxe(Arch::BIOS);
    let subject = Subject { mac: MAC, machine: Some((&name, &machine)), client };
    let plan = plan(subject, &linux(), false, site).unwrap();
    let answer = plan.answer(BootId(7), client);
    assert_eq!(answer.host_name.as_deref(), Some("web1"));
    assert_eq!(answer.file.as_deref(), Some("http://10.0.0.1:8080/b/0000000000000007/boot.ipxe"));
    let Next::Kernel { cmdline, .. } = plan.next else { panic!("{plan:?}") };
    let end = " ro netbe.overlay=tmpfs BOOTIF=01-52-54-00-00-00-01 console=ttyS0";
    assert!(cmdline.ends_with(end), "{cmdline}");
}

#[test]
fn a_machine_with_the_split_view_is_told_its_data_sets() {
    let name = "web1".parse().unwrap();
    let loaders = HostLoaders::default();
    let site = site(&loaders);
    let datasets = vec!["home".to_owned(), "var/log".to_owned()];
    let nested = Facts { datasets, ..linux() };
    let cmdline = |view| {
        let machine = Machine { view, ..Machine::default() };
        let client = Client::Ipxe(Arch::BIOS);
        let subject = Subject { mac: MAC, machine: Some((&name, &machine)), client };
        let plan = plan(subject, &nested, false, site).unwrap();
        let Next::Kernel { cmdline, .. } = plan.next else { panic!("{plan:?}") };
        cmdline
    };
    assert!(cmdline(View::Split).contains(" netbe.mounts=home,var/log "));
    assert!(!cmdline(View::Joined).contains("netbe.mounts"));
}

#[test]
fn only_the_uefi_loader_reads_more_at_once() {
    let options = |arch| {
        let plan = decide(Client::Pxe(arch), &freebsd()).unwrap();
        plan.answer(BootId(7), Client::FreeBsdLoader).options
    };
    let nolockd = (250, b"boot.nfsroot.options=nolockd".to_vec());
    assert_eq!(options(Arch::BIOS), std::slice::from_ref(&nolockd));
    assert_eq!(options(Arch::UEFI_X64), [nolockd, (251, b"nfs.read_size=1344".to_vec())]);
}

#[test]
fn a_loader_is_told_to_read_what_one_packet_of_its_network_holds() {
    let name = "web1".parse().unwrap();
    let loaders = HostLoaders::default();
    for (mtu, own, expected) in [
        (1500, None, "nfs.read_size=1344"),
        (9000, None, "nfs.read_size=1344"),
        (1400, None, "nfs.read_size=1244"),
        (1400, Some("nfs.read_size=1344"), "nfs.read_size=1244"),
        (1400, Some("nfs.read_size=1100"), "nfs.read_size=1100"),
    ] {
        let network = ClientNetwork { mtu, ..ClientNetwork::default() };
        let site = Site { network: &network, ..site(&loaders) };
        let kenv = own.into_iter().map(|text: &str| text.parse().unwrap()).collect();
        let machine = Machine { kenv, ..Machine::default() };
        let client = Client::Pxe(Arch::UEFI_X64);
        let subject = Subject { mac: MAC, machine: Some((&name, &machine)), client };
        let plan = plan(subject, &freebsd(), false, site).unwrap();
        let told = texts(plan.answer(BootId(7), Client::FreeBsdLoader));
        assert_eq!(told[1..], [expected], "{mtu} {own:?}");
    }
}

#[test]
fn a_bootp_kernel_is_told_its_mount_options() {
    let plan = decide(Client::Pxe(Arch::BIOS), &freebsd()).unwrap();
    let answer = plan.answer(BootId(7), Client::FreeBsdKernel);
    assert_eq!((answer.file, answer.options), (None, vec![(130, b"nolockd".to_vec())]));
}

/// A machine with settings of its own, from its firmware to its FreeBSD.
fn decide_with(machine: &Machine, client: Client, facts: &Facts) -> Result<Plan, NoPlan> {
    let name = "web1".parse().unwrap();
    let (_scratch, loaders) = host();
    let site = site(&loaders);
    plan(Subject { mac: MAC, machine: Some((&name, machine)), client }, facts, false, site)
}

fn by(loader_protocol: LoaderProtocol) -> Machine {
    Machine { loader_protocol, ..Machine::default() }
}

fn texts(answer: Answer) -> Vec<String> {
    let text = |(_, value)| String::from_utf8(value).unwrap();
    answer.options.into_iter().map(text).collect()
}

#[test]
fn only_freebsds_loader_is_sent_to_tftp() {
    let plan = decide_with(&by(LoaderProtocol::Tftp), Client::Pxe(Arch::BIOS), &freebsd()).unwrap();
    let root = |client| plan.answer(BootId(7), client).root_path.unwrap();
    assert_eq!(root(Client::FreeBsdLoader), "tftp://10.0.0.1/be/base");
    let others = [
        Client::Pxe(Arch::BIOS),
        Client::Ipxe(Arch::BIOS),
        Client::FreeBsdKernel,
        Client::Ordinary,
    ];
    for client in others {
        assert_eq!(root(client), "10.0.0.1:/be/base", "{client}");
    }
}

#[test]
fn a_loader_that_mounts_nothing_is_told_the_handle() {
    let plan = decide_with(&by(LoaderProtocol::Tftp), Client::Pxe(Arch::BIOS), &freebsd()).unwrap();
    let handle = format!("boot.nfsroot.nfshandle=X{}X", "ab".repeat(44));
    assert_eq!(
        texts(plan.answer(BootId(7), Client::FreeBsdLoader)),
        [
            handle.as_str(),
            "boot.nfsroot.nfshandlelen=44",
            "boot.nfsroot.server=10.0.0.1",
            "boot.nfsroot.options=nolockd",
            "boot.nfsroot.path=/be/base",
        ]
    );
}

#[test]
fn a_loader_without_nfs_is_sent_to_tftp_unless_told_otherwise() {
    let mut environment = freebsd();
    environment.contents.without_nfs.insert("pxeboot".to_owned());
    let fetch = |protocol, client| decide_with(&by(protocol), client, &environment).unwrap().fetch;
    let (bios, uefi) = (Client::Pxe(Arch::BIOS), Client::Pxe(Arch::UEFI_X64));
    assert_eq!(fetch(LoaderProtocol::Auto, bios), Fetch::Tftp);
    assert_eq!(fetch(LoaderProtocol::Auto, uefi), Fetch::Nfs);
    assert_eq!(fetch(LoaderProtocol::Auto, Client::FreeBsdLoader), Fetch::Nfs);
    assert_eq!(fetch(LoaderProtocol::Nfs, bios), Fetch::Nfs);
    assert_eq!(fetch(LoaderProtocol::Tftp, uefi), Fetch::Tftp);
    environment.contents.without_nfs.insert("loader.efi".to_owned());
    let unseen = decide_with(&by(LoaderProtocol::Auto), Client::FreeBsdLoader, &environment);
    assert_eq!(unseen.unwrap().fetch, Fetch::Tftp);
}

#[test]
fn http_boot_loads_freebsds_loader_from_its_own_root_if_so_chosen() {
    let client = Client::Http(Arch::UEFI_X64_HTTP);
    let plan = decide_with(&by(LoaderProtocol::Http), client, &freebsd()).unwrap();
    let url = "http://10.0.0.1/b/0000000000000007/root/boot/loader.efi";
    assert_eq!(plan.answer(BootId(7), client).file.as_deref(), Some(url));
}

#[test]
fn a_machine_whose_loader_cannot_fetch_so_is_told_why() {
    let http = by(LoaderProtocol::Http);
    let refused = decide_with(&http, Client::Pxe(Arch::UEFI_X64), &freebsd()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "FreeBSD's loader fetches by HTTP only if UEFI's HTTP boot has loaded it, but UEFI PXE asks: choose HTTP boot in the machine's firmware, or run `netbe machine set \
         --loader-protocol auto`"
    );
    let mut environment = freebsd();
    let mut by_tftp = |len| {
        environment.name = "n".repeat(len);
        decide_with(&by(LoaderProtocol::Tftp), Client::Pxe(Arch::BIOS), &environment)
    };
    assert!(by_tftp(76).is_ok());
    assert!(matches!(by_tftp(77), Err(NoPlan::TftpName(_))));
}

#[test]
fn a_machines_own_variables_reach_its_loader() {
    let kenv = ["nfs.read_size=1024", "hint.uart.0.at=acpi", "a=b;c"];
    let kenv = kenv.map(|text| text.parse().unwrap()).to_vec();
    let machine = Machine { kenv, ..Machine::default() };
    let plan = decide_with(&machine, Client::Pxe(Arch::UEFI_X64), &freebsd()).unwrap();
    assert_eq!(
        texts(plan.answer(BootId(7), Client::FreeBsdLoader)),
        ["boot.nfsroot.options=nolockd", "nfs.read_size=1024", "hint.uart.0.at=acpi", "a=b;c"]
    );
}

#[test]
fn a_bootp_kernel_is_told_its_classes() {
    let machine = Machine { classes: vec!["lab".into(), "west".into()], ..Machine::default() };
    let plan = decide_with(&machine, Client::Pxe(Arch::BIOS), &freebsd()).unwrap();
    let answer = plan.answer(BootId(7), Client::FreeBsdKernel);
    assert_eq!(answer.options, [(130, b"nolockd".to_vec()), (134, b"lab west".to_vec())]);
}

#[test]
fn a_default_environment_is_shared_and_so_read_only() {
    let (_scratch, loaders) = host();
    let site = site(&loaders);
    let subject = Subject { mac: MAC, machine: None, client: Client::Ipxe(Arch::BIOS) };
    assert!(plan(subject, &linux(), true, site).unwrap().read_only);
    assert!(!plan(subject, &linux(), false, site).unwrap().read_only);
}

#[test]
fn what_is_missing_is_said() {
    let say = |client, facts: &Facts| decide(client, facts).unwrap_err().to_string();
    let bios = Client::Pxe(Arch::BIOS);
    let mut spaced = linux();
    spaced.name = "my base".to_owned();
    let mut efi_only = freebsd();
    efi_only.contents.loaders.remove("pxeboot");
    assert!(say(bios, &facts(None, &[])).starts_with("boot environment base holds nothing"));
    assert!(say(bios, &spaced).starts_with("boot environment 'my base' cannot be booted"));
    assert!(say(bios, &efi_only).starts_with("boot environment base has no /boot/pxeboot"));
    let arm = Client::Pxe(Arch::UEFI_ARM64);
    assert!(say(arm, &linux()).starts_with("snponly-arm64.efi is missing"));
    let s390 = Client::Pxe(Arch(0x1f));
    assert!(say(s390, &linux()).starts_with("firmware of architecture 31 is not served"));
}

#[test]
fn an_unknown_machine_boots_only_a_default() {
    let roster = Roster::default();
    assert_eq!(environment_of(&roster, None), Err(NoPlan::Unknown));
    let name = "web1".parse::<MachineName>().unwrap();
    let mut machine = Machine::default();
    let refused = environment_of(&roster, Some((&name, &machine)));
    assert_eq!(refused, Err(NoPlan::Unassigned(name.clone())));
    machine.environment = Some("base".to_owned());
    assert_eq!(environment_of(&roster, Some((&name, &machine))), Ok(("base", false)));
}

#[test]
fn beside_another_server_freebsd_over_uefi_gets_everything_by_ipxe() {
    let (_scratch, loaders) = host();
    let site = Site { proxy: true, ..site(&loaders) };
    let url = "http://10.0.0.1/b/0000000000000007/boot.ipxe";
    let decide = |client| {
        plan(Subject { mac: MAC, machine: None, client }, &freebsd(), false, site).unwrap()
    };
    let uefi = decide(Client::Pxe(Arch::UEFI_X64));
    let file = |plan: &Plan, client| plan.answer(BootId(7), client).file;
    assert_eq!(file(&uefi, Client::Pxe(Arch::UEFI_X64)).as_deref(), Some("snponly.efi"));
    assert_eq!(file(&uefi, Client::Ipxe(Arch::UEFI_X64)).as_deref(), Some(url));
    let script = crate::boot::script::render(&uefi, BootId(7)).unwrap();
    let chain = "chain --autofree http://10.0.0.1/b/0000000000000007/loader.efi \
                 ipaddr=${netX/ip} netmask=${netX/netmask} gatewayip=${gw} serverip=10.0.0.1 \
                 rootpath=/be/base boot.nfsroot.options=nolockd nfs.read_size=1344 ";
    assert!(script.contains(chain), "{script}");
    // BIOS has no such way: its loader asks the other server.
    let bios = decide(Client::Pxe(Arch::BIOS));
    assert_eq!(file(&bios, Client::Pxe(Arch::BIOS)).as_deref(), Some("pxeboot"));
    assert_eq!(file(&bios, Client::Ipxe(Arch::BIOS)).as_deref(), Some("pxeboot"));
}

#[test]
fn beside_another_server_a_loader_is_sent_to_nfs_alone() {
    let (_scratch, loaders) = host();
    let site = Site { proxy: true, ..site(&loaders) };
    let name = "web1".parse().unwrap();
    let machine = by(LoaderProtocol::Tftp);
    let client = Client::Pxe(Arch::UEFI_X64);
    let subject = Subject { mac: MAC, machine: Some((&name, &machine)), client };
    assert_eq!(plan(subject, &freebsd(), false, site), Err(NoPlan::TftpBehindProxy));
}

#[test]
fn a_linux_machine_is_told_the_time_servers_of_its_network() {
    let (_scratch, loaders) = host();
    let time_servers = vec![Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 8)];
    let network = ClientNetwork { time_servers, ..ClientNetwork::default() };
    let site = Site { network: &network, ..site(&loaders) };
    let subject = Subject { mac: MAC, machine: None, client: Client::Ipxe(Arch::BIOS) };
    let plan = plan(subject, &linux(), false, site).unwrap();
    let Next::Kernel { cmdline, .. } = plan.next else { panic!("{plan:?}") };
    assert!(cmdline.ends_with(" netbe.ntp=10.0.0.9,10.0.0.8"), "{cmdline}");
}
