//! What runs on the socket's own task and what does not.

use wire::nfs3::ReadArgs;

use super::*;
use crate::net::rpc::{Call, Patience};

fn inline(bench: &Bench, procedure: Procedure, args: &[u8]) -> Outcome {
    let call = Call {
        version: VERSION,
        procedure: procedure.number(),
        credential: bench.client.credential.clone(),
        peer: bench.client.peer,
        local: bench.client.peer,
        transport: bench.client.transport,
        args,
    };
    bench.nfs.call(&call, Patience::Inline, &mut Vec::new())
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
    assert_eq!(numbers, [2, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 21]);
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
