use std::sync::Arc;

use wire::nfs3::{
    CommitArgs, CommitRes, READ_HEAD, ReadArgs, ReadOk, ReadRes, ReadlinkRes, Stable, Status,
    WriteArgs, WriteRes,
};

use super::*;

fn bench() -> Bench {
    let tree = MemFs::new()
        .file("/motd", 0o644, b"hello, world")
        .file("/secret", 0o600, b"x")
        .file("/large", 0o644, &vec![7; (1 << 20) + 10])
        .symlink("/link", "../motd")
        .with_verifier(*b"verifier");
    Bench::new(tree)
}

fn read(bench: &Bench, path: &str, offset: u64, count: u32) -> ReadRes<'static> {
    let file = bench.at(path);
    bench.call(Procedure::Read, &ReadArgs { file: fh(&file), offset, count })
}

fn data(bench: &Bench, offset: u64, count: u32) -> ReadOk<'static> {
    read(bench, "/motd", offset, count).ok().unwrap()
}

fn write(bench: &Bench, path: &str, offset: u64, data: &[u8]) -> WriteRes {
    let file = bench.at(path);
    let args = WriteArgs { file: fh(&file), offset, stable: Stable::FileSync, data };
    bench.call(Procedure::Write, &args)
}

#[test]
fn readlink_gives_what_the_link_says_with_its_attributes() {
    let bench = bench();
    let link: ReadlinkRes<'_> = bench.call(Procedure::Readlink, &fs(&bench.at("/link")));
    let link = link.ok().unwrap();
    assert_eq!(link.target.0, b"../motd");
    assert_eq!(link.attributes.unwrap().size, 7);
}

#[test]
fn readlink_of_a_file_is_invalid() {
    let bench = bench();
    let link: ReadlinkRes<'_> = bench.call(Procedure::Readlink, &fs(&bench.at("/motd")));
    let ReadlinkRes::Fail(status, attributes) = link else { panic!() };
    assert_eq!((status, attributes.unwrap().size), (Status::Inval, 12));
}

#[test]
fn a_read_gives_a_part_of_the_file_and_its_attributes() {
    let part = data(&bench(), 7, 3);
    assert_eq!((part.data, part.eof), (&b"wor"[..], false));
    assert_eq!(part.attributes.unwrap().size, 12);
}

#[test]
fn a_reply_has_room_for_what_the_file_has_whatever_is_asked_for() {
    let bench = bench();
    let file = bench.at("/motd");
    let args = ReadArgs { file: fh(&file), offset: 0, count: 1 << 20 }.to_bytes();
    let mut reply = Vec::new();
    let call = bench.call_of(Procedure::Read.number(), &args);
    let progress = bench.nfs.call(&call, &mut reply);
    let Progress::Done(ended) = progress else { panic!("{progress:?}") };
    assert_eq!(ended.outcome, Outcome::Success);
    assert!(ended.payload.is_none(), "so few bytes are copied");
    assert_eq!(reply.len(), READ_HEAD + 12);
    assert!(reply.capacity() < 64 << 10, "{} bytes", reply.capacity());
}

#[test]
fn the_last_read_says_that_it_is_the_last() {
    let part = data(&bench(), 7, 1024);
    assert_eq!((part.data, part.eof), (&b"world"[..], true));
}

#[test]
fn a_read_at_the_end_gives_nothing_but_the_end() {
    let bench = bench();
    for offset in [12, 13, 1 << 40, u64::MAX] {
        let part = data(&bench, offset, 512);
        assert_eq!((part.data, part.eof), (&b""[..], true));
    }
}

#[test]
fn a_read_of_no_bytes_is_answered() {
    let part = data(&bench(), 0, 0);
    assert_eq!((part.data, part.eof), (&b""[..], false));
}

#[test]
fn the_data_stands_where_a_loader_expects_it() {
    let bench = bench();
    let file = bench.at("/motd");
    let args = ReadArgs { file: fh(&file), offset: 0, count: 5 };
    let bytes = bench.bytes(Procedure::Read, &args);
    assert_eq!(&bytes[READ_HEAD..], b"hello\0\0\0");
}

#[test]
fn a_read_is_as_long_as_its_transport_carries() {
    let bench = bench();
    let tcp = read(&bench, "/large", 0, u32::MAX).ok().unwrap();
    assert_eq!((tcp.data.len(), tcp.eof), (1 << 20, false));
    let bench = bench.by(Client::machine().udp());
    let udp = read(&bench, "/large", 1 << 20, u32::MAX).ok().unwrap();
    assert_eq!((udp.data.len(), udp.eof), (10, true));
    let udp = read(&bench, "/large", 0, u32::MAX).ok().unwrap();
    assert_eq!((udp.data.len(), udp.eof), (32 << 10, false));
}

#[test]
fn what_may_not_be_read_is_not_read() {
    let bench = bench().by(Client::machine().user(7, 7));
    let ReadRes::Fail(status, attributes) = read(&bench, "/secret", 0, 512) else { panic!() };
    assert_eq!((status, attributes.unwrap().mode), (Status::Acces, 0o600));
}

#[test]
fn a_directory_cannot_be_read_as_a_file() {
    let bench = bench();
    let file = bench.root();
    let args = ReadArgs { file: fh(&file), offset: 0, count: 5 };
    let result: ReadRes<'_> = bench.call(Procedure::Read, &args);
    assert_eq!(result.status(), Status::Inval);
}

#[test]
fn a_write_puts_data_where_it_belongs() {
    let bench = bench();
    let ok = write(&bench, "/motd", 7, b"there").ok().unwrap();
    assert_eq!((ok.count, ok.committed, &ok.verifier), (5, Stable::FileSync, b"verifier"));
    assert_eq!(ok.wcc.before.unwrap().size, 12);
    assert_eq!(ok.wcc.after.unwrap().size, 12);
    assert_eq!(bench.tree.data("/motd"), b"hello, there");
}

#[test]
fn a_write_that_is_not_permitted_shows_the_file_as_it_is() {
    let bench = bench().by(Client::machine().user(7, 7));
    let WriteRes::Fail(status, wcc) = write(&bench, "/motd", 0, b"x") else { panic!() };
    assert_eq!((status, wcc.before, wcc.after.unwrap().size), (Status::Acces, None, 12));
    assert_eq!(bench.tree.data("/motd"), b"hello, world");
}

#[test]
fn a_commit_gives_the_verifier_of_the_writes() {
    let bench = bench();
    let file = bench.at("/motd");
    let args = CommitArgs { file: fh(&file), offset: 0, count: 0 };
    let result: CommitRes = bench.call(Procedure::Commit, &args);
    let ok = result.ok().unwrap();
    assert_eq!((&ok.verifier, ok.wcc.after.unwrap().size), (b"verifier", 12));
}

#[test]
fn data_is_counted_for_the_machine() {
    use crate::boot::usage::Traffic;
    use crate::boot::{ClientAddress, Event};
    use crate::nfs::export::bench::MACHINE;

    let bench = bench();
    write(&bench, "/motd", 0, b"abc");
    data(&bench, 0, 5);
    data(&bench, 0, 4);
    bench.site.clock.pass(std::time::Duration::from_secs(1));
    data(&bench, 0, 1);
    let events = [
        Traffic { calls: 1, written: 3, by_kernel: true, ..Traffic::default() },
        Traffic { calls: 3, read: 10, ..Traffic::default() },
    ];
    let events = events.map(|traffic| Event::Nfs { environment: ROOT, traffic });
    let expected = events.map(|event| (ClientAddress::Ip(MACHINE), event));
    assert_eq!(bench.site.booter.take(), expected);
}

/// What a FreeBSD loader does whose replies are lost, and what no loader does.
#[test]
fn a_piece_that_is_read_again_and_again_is_told() {
    use crate::boot::Event;

    let bench = bench();
    let told = || {
        bench.site.clock.pass(std::time::Duration::from_secs(1));
        data(&bench, 0, 5);
        bench
            .site
            .booter
            .take()
            .into_iter()
            .map(|(_, event)| {
                let Event::Nfs { traffic, .. } = event else { panic!("{event:?}") };
                (traffic.repeats, traffic.by_kernel)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!([told(), told(), told()].concat(), [(0, false), (1, false), (2, false)]);
    data(&bench, 1, 4);
    assert_eq!(told(), [(0, false)]);
    write(&bench, "/motd", 0, b"abc");
    assert_eq!(told(), [(0, true)]);
}

#[test]
fn a_file_that_was_removed_is_stale() {
    let bench = bench();
    let file = bench.at("/motd");
    let name = vfs::Name::new(b"motd").unwrap();
    let root = bench.tree.root();
    Arc::clone(&bench.tree).remove(&vfs::Caller::ROOT, &root, name).unwrap();
    let args = ReadArgs { file: fh(&file), offset: 0, count: 5 };
    let result: ReadRes<'_> = bench.call(Procedure::Read, &args);
    assert_eq!(result, ReadRes::Fail(Status::Stale, None));
}
