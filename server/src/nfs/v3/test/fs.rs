use wire::nfs3::{FsinfoRes, FsstatRes, NfsTime, PathconfRes};

use super::*;

fn bench() -> Bench {
    Bench::new(MemFs::new().file("/file", 0o644, b""))
}

#[test]
fn fsstat_tells_space_and_inodes() {
    let bench = bench();
    let known = bench.tree.statfs(&bench.tree.root()).unwrap();
    let told: FsstatRes = bench.call(Procedure::Fsstat, &fs(&bench.root()));
    let told = told.ok().unwrap();
    assert!(told.attributes.is_some());
    assert_eq!((told.total_bytes, told.free_bytes), (known.total_bytes, known.free_bytes));
    assert_eq!((told.total_files, told.free_files), (known.total_files, known.free_files));
    assert_eq!(told.available_bytes, known.available_bytes);
    assert_eq!(told.available_files, known.available_files);
}

#[test]
fn fsinfo_tells_what_the_transport_carries() {
    let info = |client: Client| {
        let bench = bench().by(client);
        let told: FsinfoRes = bench.call(Procedure::Fsinfo, &fs(&bench.root()));
        told.ok().unwrap()
    };
    let tcp = info(Client::machine());
    assert_eq!((tcp.read_max, tcp.write_max, tcp.readdir_preferred), (1 << 20, 1 << 20, 1 << 16));
    let udp = info(Client::machine().udp());
    assert_eq!((udp.read_max, udp.write_max, udp.readdir_preferred), (1 << 15, 1 << 15, 1 << 15));
    assert_eq!(udp.time_delta, NfsTime { seconds: 0, nanoseconds: 1 });
    assert_eq!(udp.properties, 0x1b);
    assert!(udp.attributes.is_some());
}

#[test]
fn pathconf_tells_the_limits_of_the_file_system() {
    let bench = bench();
    let told: PathconfRes = bench.call(Procedure::Pathconf, &fs(&bench.at("/file")));
    let told = told.ok().unwrap();
    assert_eq!((told.name_max, told.link_max), (255, u32::MAX));
    assert!(told.no_trunc && told.chown_restricted && told.case_preserving);
    assert!(!told.case_insensitive && told.attributes.is_some());
}
