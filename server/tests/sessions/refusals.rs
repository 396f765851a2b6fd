//! A guest whose root is refused, and what the operator hears of it.

use std::fs;
use std::net::Ipv4Addr;

use fixtures::session::{PXEBOOT_12_1, Rpc, Session, Transport};
use wire::codec::Codec;
use wire::mount3::{self, DirPath, MntRes, MountStat};
use wire::nfs3::{self, FileHandle, FsArgs, GetattrRes};

use crate::bench::{Net, Running, SERVER};
use crate::calls::{Calls, Question};
use crate::machine::{CARD, at_client, handle, site};

#[test]
fn a_root_that_is_refused_is_told_once_with_what_lets_it_be() {
    let Some(net) = Net::new(&[]) else { return };
    let session = Session::parse(PXEBOOT_12_1);
    let site = site(&session);
    site.done(&["machine", "set", "--address", "10.77.0.20", "web1"]);
    let server = format!("--server={SERVER}");
    let told = site.prints(&["show", "loader", &server, "--machine=web1", "head"]);
    let value = |name: &str| {
        let mut lines = told.lines().filter_map(|line| line.split_once('='));
        lines.find(|(known, _)| *known == name).unwrap().1.trim_matches('"')
    };
    let root = handle(value("boot.nfsroot.nfshandle"), value("boot.nfsroot.nfshandlelen"));
    let _running = Running::start_until("named machines:", &site, &net, &[]);
    let is_given = |address: Ipv4Addr| {
        at_client(&net, || {
            net.client(&["ip", "address", "replace", &format!("{address}/24"), "dev", CARD]);
            let mut calls = Calls::new(address, SERVER.parse().unwrap());
            let mut ask = |xid, port, program, procedure, args: &[u8]| {
                let call = Rpc {
                    transport: Transport::Tcp,
                    port,
                    xid,
                    procedure: "",
                    args: [""; 3],
                    times: 1,
                    handle: None,
                    status: 0,
                };
                let question = Question { program, version: 3, procedure, as_root: true, args };
                let to = if program == nfs3::PROGRAM { nfs3::PORT } else { MOUNT_PORT };
                calls.ask(&call, to, question)
            };
            let path = DirPath(b"/be/head").to_bytes();
            let mount = mount3::Procedure::Mnt.number();
            let object = FsArgs { object: FileHandle(&root) }.to_bytes();
            let getattr = nfs3::Procedure::Getattr.number();
            let mut given = Vec::new();
            for xid in 0..5 {
                let found = ask(2 * xid, 800, mount3::PROGRAM, mount, &path);
                let found = MntRes::from_bytes(&found).unwrap();
                given.push(!matches!(found, MntRes::Fail(MountStat::Acces)));
                let found = ask(2 * xid + 1, 801, nfs3::PROGRAM, getattr, &object);
                given.push(GetattrRes::from_bytes(&found).unwrap().ok().is_some());
            }
            given
        })
    };
    assert_eq!(is_given(Ipv4Addr::new(10, 77, 0, 20)), [true; 10]);
    assert_eq!(is_given(Ipv4Addr::new(10, 77, 0, 60)), [false; 10]);
    let log = fs::read_to_string(site.path("log")).unwrap();
    let told: Vec<_> = log.lines().filter(|line| line.contains("is refused the root")).collect();
    let [told] = told[..] else { panic!("{log}") };
    assert!(told.contains("10.77.0.60 is refused the root head"), "{told}");
    assert!(
        told.contains("`netbe machine add --address 10.77.0.60 --mac MAC --environment head NAME`")
    );
}

/// Where MOUNT is served while nobody else has the port.
const MOUNT_PORT: u16 = 20048;
