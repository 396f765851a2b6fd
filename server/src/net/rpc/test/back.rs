//! Calls that go the other way.

use super::*;

/// The next call that the server makes: its transaction and its arguments.
async fn called(client: &mut Client) -> (u32, Vec<u8>) {
    loop {
        if let Some(message) = client.records.next_record().unwrap() {
            let call = wire::rpc::Call::decode(message).unwrap();
            assert_eq!((call.program, call.version, call.procedure), (PROGRAM, 7, 8));
            return (call.xid, call.args.to_vec());
        }
        let read = timeout(TEST_TIMEOUT, client.stream.read_buf(client.records.space()));
        assert_ne!(read.await.expect("the server does not call").unwrap(), 0);
    }
}

async fn reply(client: &mut Client, xid: u32, head: Reply, results: &[u8]) {
    let mut message = Vec::new();
    head.encode(xid, &mut Encoder::new(&mut message));
    message.extend_from_slice(results);
    client.send(&message).await;
}

/// What a program got back from its call-back: results, or the number of an error.
async fn answer(client: &mut Client) -> Vec<u8> {
    let (xid, head, results) = client.reply().await.expect("closed");
    assert_eq!((xid, head), (1, SUCCESS));
    results
}

#[tokio::test]
async fn a_program_calls_its_caller_back_over_the_same_connection() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    client.send(&call(1, PROGRAM, 2, Echo::ASK_BACK, b"are you?")).await;
    let (xid, args) = called(&mut client).await;
    assert_eq!(args, b"are you?");
    // Calls and replies pass each other.
    assert_eq!(client.call(9, Echo::ECHO, b"also").await, b"also");
    reply(&mut client, xid.wrapping_add(1), SUCCESS, b"to nobody").await;
    reply(&mut client, xid, SUCCESS, b"I am").await;
    assert_eq!(answer(&mut client).await, b"I am");
}

#[tokio::test]
async fn a_call_back_that_is_refused_or_not_answered_fails() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    client.send(&call(1, PROGRAM, 2, Echo::ASK_BACK, b"")).await;
    let (xid, _) = called(&mut client).await;
    reply(&mut client, xid, Reply::Accepted(Accept::ProcUnavail), b"").await;
    assert_eq!(answer(&mut client).await, [CallBackError::Refused as u8, 0, 0, 0]);
    client.send(&call(1, PROGRAM, 2, Echo::ASK_BACK, b"")).await;
    called(&mut client).await;
    assert_eq!(answer(&mut client).await, [CallBackError::TimedOut as u8, 0, 0, 0]);
}

#[tokio::test]
async fn call_backs_that_wait_are_bounded() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    for _ in 0..65 {
        client.send(&call(1, PROGRAM, 2, Echo::ASK_BACK, b"")).await;
    }
    let mut calls = 0;
    let refused = loop {
        let Some(message) = client.records.next_record().unwrap() else {
            let read = timeout(TEST_TIMEOUT, client.stream.read_buf(client.records.space()));
            assert_ne!(read.await.unwrap().unwrap(), 0);
            continue;
        };
        match Reply::decode(message) {
            Ok((_, _, results)) => break results.to_vec(),
            Err(_) => calls += 1,
        }
    };
    assert!(calls <= 64);
    assert_eq!(refused, [CallBackError::Busy as u8, 0, 0, 0]);
}

#[tokio::test]
async fn a_datagram_brings_no_way_back() {
    let running = Running::new(Options::default());
    let client = Arc::new(datagram_client());
    let message = call(1, PROGRAM, 2, Echo::ASK_BACK, b"");
    let (reply, _) = ask(&client, running.udp, message).await;
    assert_eq!(Reply::decode(&reply).unwrap().1, Reply::Accepted(Accept::SystemErr));
}
