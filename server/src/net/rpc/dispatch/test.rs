use std::time::Duration;

use proptest::prelude::*;

use super::super::test::{Echo, PROGRAM, call};
use super::*;
use crate::clock::FakeClock;

fn dispatcher() -> (Dispatcher<u32>, Arc<Echo>, Arc<FakeClock>) {
    let (echo, clock) = (Arc::new(Echo::default()), Arc::new(FakeClock::new()));
    let dispatcher = Dispatcher::new(vec![echo.clone()], Limits::default(), clock.clone());
    (dispatcher, echo, clock)
}

fn origin(transport: Transport) -> FiveTuple {
    let address = SocketAddr::from(([192, 0, 2, 1], 1023));
    FiveTuple { peer: address, local: address, transport }
}

/// The reply to a message, its head decoded.
fn reply(message: &[u8]) -> Reply {
    let (dispatcher, ..) = dispatcher();
    let mut out = Vec::new();
    let answer = dispatcher.answer(message, origin(Transport::Udp), || 0, || None, &mut out);
    assert!(matches!(answer, Answer::Here(None)), "{answer:?}");
    Reply::decode(&out).unwrap().1
}

#[test]
fn a_program_that_is_not_here_is_unavailable() {
    let message = call(1, 100_099, 2, 0, b"");
    assert_eq!(reply(&message), Reply::Accepted(Accept::ProgUnavail));
}

#[test]
fn a_version_that_is_not_here_is_answered_with_the_range_that_is() {
    let mismatch = Reply::Accepted(Accept::ProgMismatch { low: 2, high: 4 });
    for version in [0, 1, 5, u32::MAX] {
        assert_eq!(reply(&call(1, PROGRAM, version, 0, b"")), mismatch);
    }
    assert_eq!(reply(&call(1, PROGRAM, 4, 0, b"")), Reply::Accepted(Accept::Success));
}

#[test]
fn a_procedure_that_is_not_here_is_unavailable() {
    let message = call(1, PROGRAM, 2, 99, b"");
    assert_eq!(reply(&message), Reply::Accepted(Accept::ProcUnavail));
}

#[test]
fn arguments_that_cannot_be_decoded_are_garbage() {
    let message = call(1, PROGRAM, 2, Echo::ONE_WORD, b"toolong!");
    assert_eq!(reply(&message), Reply::Accepted(Accept::GarbageArgs));
}

#[test]
fn an_unknown_flavour_is_an_authentication_error() {
    let mut message = call(1, PROGRAM, 2, 0, b"");
    message[27] = 6;
    assert_eq!(reply(&message), Reply::Denied(Reject::AuthError(AuthStat::TooWeak)));
}

#[test]
fn a_malformed_credential_is_an_authentication_error() {
    let mut message = call(1, PROGRAM, 2, 0, b"");
    message[27] = 1;
    assert_eq!(reply(&message), Reply::Denied(Reject::AuthError(AuthStat::BadCred)));
}

#[test]
fn another_version_of_rpc_is_a_mismatch() {
    let mut message = call(1, PROGRAM, 2, 0, b"");
    message[11] = 3;
    assert_eq!(reply(&message), Reply::Denied(Reject::RpcMismatch));
}

#[test]
fn what_is_not_a_call_is_not_answered() {
    let (dispatcher, ..) = dispatcher();
    let mut out = Vec::new();
    let mut message = call(1, PROGRAM, 2, 0, b"");
    message[7] = 1;
    let answer = dispatcher.answer(&message, origin(Transport::Tcp), || 0, || None, &mut out);
    assert!(matches!(answer, Answer::Nothing));
    assert!(out.is_empty());
    assert_eq!(dispatcher.counters.read().garbage, 1);
}

#[test]
fn a_panic_is_a_system_error_and_costs_one_call() {
    let (dispatcher, ..) = dispatcher();
    for (procedure, accept) in [(Echo::PANIC, Accept::SystemErr), (0, Accept::Success)] {
        let mut out = Vec::new();
        let message = call(1, PROGRAM, 2, procedure, b"");
        dispatcher.answer(&message, origin(Transport::Tcp), || 0, || None, &mut out);
        assert_eq!(Reply::decode(&out).unwrap().1, Reply::Accepted(accept));
    }
    assert_eq!(dispatcher.counters.read().panics, 1);
}

#[test]
fn a_reply_that_no_datagram_holds_is_a_system_error() {
    let message = call(1, PROGRAM, 2, Echo::ZEROS, &70_000_u32.to_be_bytes());
    assert_eq!(reply(&message), Reply::Accepted(Accept::SystemErr));
    let message = call(1, PROGRAM, 2, Echo::ZEROS, &60_000_u32.to_be_bytes());
    assert_eq!(reply(&message), Reply::Accepted(Accept::Success));
}

#[test]
fn a_call_that_must_not_run_twice_is_answered_twice() {
    let (dispatcher, echo, _) = dispatcher();
    let message = call(1, PROGRAM, 2, Echo::COUNT, b"same");
    let (mut first, mut second) = (Vec::new(), Vec::new());
    dispatcher.answer(&message, origin(Transport::Udp), || 0, || None, &mut first);
    dispatcher.answer(&message, origin(Transport::Udp), || 0, || None, &mut second);
    assert_eq!(first, second);
    assert_eq!(echo.count(), 1);
    assert_eq!(dispatcher.counters.read().replayed, 1);
}

#[test]
fn a_call_with_other_data_at_its_end_is_another_call() {
    let (dispatcher, echo, _) = dispatcher();
    for end in [0, 1] {
        let mut args = vec![0; 64 << 10];
        *args.last_mut().unwrap() = end;
        let message = call(1, PROGRAM, 2, Echo::COUNT, &args);
        dispatcher.answer(&message, origin(Transport::Tcp), || 0, || None, &mut Vec::new());
    }
    assert_eq!(echo.count(), 2);
}

#[test]
fn a_new_boot_that_uses_old_transactions_is_carried_out() {
    let (dispatcher, echo, clock) = dispatcher();
    let message = call(1, PROGRAM, 2, Echo::COUNT, b"same");
    dispatcher.answer(&message, origin(Transport::Udp), || 0, || None, &mut Vec::new());
    clock.pass(Duration::from_secs(121));
    dispatcher.answer(&message, origin(Transport::Udp), || 0, || None, &mut Vec::new());
    let other = call(1, PROGRAM, 2, Echo::COUNT, b"else");
    dispatcher.answer(&other, origin(Transport::Udp), || 0, || None, &mut Vec::new());
    assert_eq!(echo.count(), 3);
}

#[test]
fn a_parked_call_leaves_no_reply_and_is_carried_out_on_the_pool() {
    let (dispatcher, echo, _) = dispatcher();
    echo.open();
    let message = call(7, PROGRAM, 2, Echo::GATE, b"wait");
    let mut out = b"before".to_vec();
    let answer = dispatcher.answer(&message, origin(Transport::Tcp), || 0, || None, &mut out);
    let Answer::Parked(begun, parked) = answer else { panic!("{answer:?}") };
    assert_eq!(out, b"before");
    let repeated = dispatcher.answer(&message, origin(Transport::Tcp), || 8, || None, &mut out);
    assert!(matches!(repeated, Answer::Nothing));
    out.clear();
    assert!(begun.is_awaited());
    assert_eq!(dispatcher.resume(begun, &message, parked, &mut out).newest, Some(8));
    let (xid, reply, results) = Reply::decode(&out).unwrap();
    assert_eq!((xid, reply), (7, Reply::Accepted(Accept::Success)));
    assert_eq!(results, b"wait");
}

proptest! {
    #[test]
    fn any_bytes_get_a_reply_or_none(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        head in 0_usize..28,
    ) {
        let (dispatcher, ..) = dispatcher();
        let mut message = call(1, PROGRAM, 2, Echo::ONE_WORD, b"")[..head].to_vec();
        message.extend(bytes);
        let mut out = Vec::new();
        match dispatcher.answer(&message, origin(Transport::Udp), || 0, || None, &mut out) {
            Answer::Here(_) => prop_assert!(Reply::decode(&out).is_ok()),
            Answer::Elsewhere(_) => prop_assert!(false, "nobody repeated it"),
            Answer::Nothing | Answer::Parked(..) | Answer::Later(..) => {
                prop_assert!(out.is_empty());
            }
        }
    }
}
