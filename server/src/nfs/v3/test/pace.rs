//! What runs on the socket's own task and what does not.

use wire::nfs3::{AccessArgs, ReadArgs};

use super::*;
use crate::net::rpc::{Call, Patience};

impl Bench {
    fn call_of<'a>(&self, procedure: Procedure, args: &'a [u8]) -> Call<'a> {
        Call {
            version: VERSION,
            procedure: procedure.number(),
            credential: self.client.credential.clone(),
            peer: self.client.peer,
            local: self.client.peer,
            transport: self.client.transport,
            args,
        }
    }
}

fn inline(bench: &Bench, procedure: Procedure, args: &[u8]) -> Outcome {
    bench.nfs.call(&bench.call_of(procedure, args), Patience::Inline, &mut Vec::new())
}

fn bench() -> Bench {
    Bench::new(MemFs::new().file("/motd", 0o644, b"hello"))
}

#[test]
fn what_may_wait_for_a_disk_does_not_run_inline() {
    let bench = bench();
    let waits = Procedure::ALL
        .into_iter()
        .filter(|procedure| inline(&bench, *procedure, &[]) == Outcome::WouldWait);
    let mut numbers: Vec<u32> = waits.map(Procedure::number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]);
}

#[test]
fn metadata_and_resident_data_are_answered_inline() {
    let bench = bench();
    let file = bench.at("/motd");
    assert_eq!(inline(&bench, Procedure::Getattr, &fs(&file).to_bytes()), Outcome::Success);
    let args = ReadArgs { file: fh(&file), offset: 0, count: 5 };
    assert_eq!(inline(&bench, Procedure::Read, &args.to_bytes()), Outcome::Success);
}

#[test]
fn what_the_tree_cannot_tell_at_once_is_asked_again_by_who_may_wait() {
    let bench =
        Bench::new(MemFs::new().file("/motd", 0o644, b"hello").symlink("/link", "motd").on_disk());
    let (root, file, link) = (bench.root(), bench.at("/motd"), bench.at("/link"));
    let read = ReadArgs { file: fh(&file), offset: 0, count: 5 }.to_bytes();
    let access = AccessArgs { object: fh(&file), access: 1 }.to_bytes();
    let calls = [
        (Procedure::Getattr, fs(&file).to_bytes()),
        (Procedure::Lookup, op(&root, "motd").to_bytes()),
        // What fails tells the attributes of the file, which are not known at once either.
        (Procedure::Lookup, op(&root, "missing").to_bytes()),
        (Procedure::Lookup, op(&root, "").to_bytes()),
        (Procedure::Access, access),
        (Procedure::Readlink, fs(&link).to_bytes()),
        (Procedure::Read, read),
    ];
    for (procedure, args) in calls {
        let mut reply = Vec::new();
        let call = bench.call_of(procedure, &args);
        assert_eq!(bench.nfs.call(&call, Patience::Inline, &mut reply), Outcome::WouldWait);
        assert_eq!(reply, [0; 0], "{procedure:?}");
        assert_eq!(bench.nfs.call(&call, Patience::Pool, &mut reply), Outcome::Success);
        assert!(!reply.is_empty(), "{procedure:?}");
    }
}

#[test]
fn an_export_that_was_slow_goes_to_the_pool_for_a_second() {
    let bench = bench();
    let args = fs(&bench.root()).to_bytes();
    let (now, late) = (bench.site.clock.now(), std::time::Duration::from_millis(3));
    bench.nfs.pace.note(ROOT, late, now);
    assert_eq!(inline(&bench, Procedure::Getattr, &args), Outcome::WouldWait);
    assert_eq!(inline(&bench, Procedure::Null, &[]), Outcome::Success);
    bench.site.clock.pass(std::time::Duration::from_secs(1));
    assert_eq!(inline(&bench, Procedure::Getattr, &args), Outcome::Success);
}
