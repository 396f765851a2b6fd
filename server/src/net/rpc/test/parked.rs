//! Calls that are not answered at once: what hangs, what is repeated, what is answered later.

use super::*;

/// Arguments of a call that belongs to this class.
fn of(class: u32, number: u32) -> Vec<u8> {
    [class.to_be_bytes(), number.to_be_bytes()].concat()
}

fn parked(xid: u32, procedure: u32, class: u32) -> Vec<u8> {
    call(xid, PROGRAM, 2, procedure, &of(class, xid))
}

#[tokio::test]
async fn a_call_repeated_elsewhere_is_answered_when_its_first_connection_ends_before_it_has_room() {
    let options = Options { connections: 2, waiting: 1, ..Options::default() };
    let running = Running::new(options);
    let filler = datagram_client();
    filler.send_to(&parked(1, Echo::HANG, 1), running.udp).unwrap();
    running.until(|counts| counts.calls == 1).await;
    let mut first = running.connect().await;
    first.send(&parked(7, Echo::GATE, 1)).await;
    running.until(|counts| counts.calls == 2).await;
    let mut second = running.connect().await;
    second.send(&parked(7, Echo::GATE, 1)).await;
    running.until(|counts| counts.redirected == 1).await;
    // It costs the quietest connection, which is the first.
    let _third = running.connect().await;
    assert_eq!(first.reply().await, None);
    running.echo.open();
    let (xid, ..) = second.reply().await.expect("the second connection is open");
    assert_eq!(xid, 7);
}

#[tokio::test]
async fn a_reply_finds_the_first_connection_when_the_one_that_repeated_the_call_is_gone() {
    let running = Running::new(Options::default());
    let (mut first, mut second) = (running.connect().await, running.connect().await);
    let message = parked(7, Echo::GATE, 1);
    first.send(&message).await;
    running.until(|counts| counts.calls == 1).await;
    second.send(&message).await;
    running.until(|counts| counts.redirected == 1).await;
    // What no stream of records has closes it at once.
    second.stream.write_all(&0xffff_ffff_u32.to_be_bytes()).await.unwrap();
    assert_eq!(second.reply().await, None);
    running.until(|counts| counts.closed == 1).await;
    while running.server.open_connections() > 1 {
        tokio::task::yield_now().await;
    }
    running.echo.open();
    assert_eq!(first.reply().await, Some((7, SUCCESS, of(1, 7))));
}

#[tokio::test]
async fn a_class_that_hangs_costs_other_classes_nothing() {
    let running = Running::new(Options { threads: 4, waiting: 64, ..Options::default() });
    let mut hung = Vec::new();
    for connection in 0..8 {
        let mut client = running.connect().await;
        for xid in 0..50 {
            client.send(&parked(connection * 100 + xid, Echo::HANG, 1)).await;
        }
        hung.push(client);
    }
    let mut healthy = running.connect().await;
    let datagrams = Arc::new(datagram_client());
    for xid in 0..50 {
        let asked = std::time::Instant::now();
        assert_eq!(healthy.call(xid, Echo::LATER, &of(2, xid)).await, of(2, xid));
        ask(&datagrams, running.udp, parked(1000 + xid, Echo::LATER, 3)).await;
        assert!(asked.elapsed() < Duration::from_secs(1), "it waited for the class that hangs");
    }
    running.echo.open();
    for (connection, client) in (0_u32..).zip(&mut hung) {
        let mut seen = Vec::new();
        for _ in 0..50 {
            let (xid, head, _) = client.reply().await.expect("open");
            assert!(matches!(head, SUCCESS | Reply::Accepted(Accept::SystemErr)));
            seen.push(xid);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..50).map(|xid| connection * 100 + xid).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_connection_with_calls_of_two_classes_goes_on_with_one_while_the_other_hangs() {
    let running = Running::new(Options { threads: 4, waiting: 64, ..Options::default() });
    let mut client = running.connect().await;
    for xid in 0..200 {
        client.send(&parked(xid, Echo::HANG, 1)).await;
    }
    client.send(&parked(1000, Echo::LATER, 2)).await;
    let mut turned_away = 0;
    loop {
        match client.reply().await.expect("open") {
            (1000, head, results) => break assert_eq!((head, results), (SUCCESS, of(2, 1000))),
            (_, head, _) => {
                assert_eq!(head, Reply::Accepted(Accept::SystemErr));
                turned_away += 1;
            }
        }
    }
    // As many are held as are left free.
    assert_eq!(turned_away, 200 - 32);
    assert_eq!(running.server.counts().turned_away, 200 - 32);
    assert_eq!(running.echo.count(), 0);
    running.echo.open();
    for _ in 0..32 {
        assert_eq!(client.reply().await.expect("open").1, SUCCESS);
    }
}

#[tokio::test]
async fn a_program_answers_later() {
    let running = Running::new(Options::default());
    let (mut patient, mut other) = (running.connect().await, running.connect().await);
    let datagrams = datagram_client();
    patient.send(&call(1, PROGRAM, 2, Echo::KEEP, b"")).await;
    datagrams.send_to(&call(2, PROGRAM, 2, Echo::KEEP, b""), running.udp).unwrap();
    running.until(|counts| counts.calls == 2).await;
    assert_eq!(patient.call(3, Echo::ECHO, b"other").await, b"other");
    other.call(4, Echo::RELEASE, b"now!").await;
    assert_eq!(patient.reply().await, Some((1, SUCCESS, b"now!".to_vec())));
    let reply = tokio::task::spawn_blocking(move || {
        let mut buf = [0; 100];
        let len = datagrams.recv(&mut buf).unwrap();
        Reply::decode(&buf[..len]).unwrap().0
    });
    assert_eq!(reply.await.unwrap(), 2);
}

#[tokio::test]
async fn a_call_that_a_program_forgets_is_answered_as_failed() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    client.send(&call(1, PROGRAM, 2, Echo::KEEP, b"")).await;
    running.until(|counts| counts.calls == 1).await;
    running.echo.kept.lock().unwrap().clear();
    let system_err = Reply::Accepted(Accept::SystemErr);
    assert_eq!(client.reply().await, Some((1, system_err, Vec::new())));
}
