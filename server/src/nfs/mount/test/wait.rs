//! MNT of what cannot be used just now, over sockets.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;
use wire::rpc::{self, Accept, Reply};

use super::super::wait::WAIT_LIMIT;
use super::*;
use crate::net::datagram::{BindOptions, Datagrams};
use crate::net::rpc::{Options, Server};
use crate::nfs::export::{Event, bench::ROOT};

/// A client and a server on loopback sockets.
struct Running {
    site: Site,
    server: SocketAddr,
    client: UdpSocket,
}

async fn running() -> Running {
    let settings = ExportSettings { insecure: true, ..open_to_all() };
    let site = Site::with_settings(&tree(), settings);
    let mount = Arc::new(Mount::new(
        Arc::clone(&site.exports),
        Arc::clone(&site.booter) as Arc<dyn Booter>,
        Arc::clone(&site.clock) as Arc<dyn Clock>,
    ));
    let clock = Arc::clone(&site.clock) as Arc<dyn Clock>;
    let server = Server::new(vec![Arc::new(mount)], Options::default(), Arc::default(), clock);
    let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let socket = Datagrams::bind(local, &BindOptions::default()).unwrap();
    let address = socket.local_addr();
    tokio::spawn(server.serve_udp(socket));
    Running { site, server: address, client: UdpSocket::bind(local).await.unwrap() }
}

impl Running {
    async fn send(&self, xid: u32, path: &str) {
        let args = DirPath(path.as_bytes()).to_bytes();
        let credential = rpc::Credential::None;
        let (program, version, procedure) = (PROGRAM, VERSION, Procedure::Mnt.number());
        let call = rpc::Call { xid, program, version, procedure, credential, args: &args };
        let mut message = Vec::new();
        call.encode(&mut Encoder::new(&mut message));
        self.client.send_to(&message, self.server).await.unwrap();
    }

    /// The next reply: to which call, and the handle's environment or why there is none.
    async fn reply(&self) -> (u32, Result<Uuid, MountStat>) {
        let mut buffer = vec![0; 2048];
        let len = self.client.recv(&mut buffer).await.unwrap();
        let (xid, head, results) = Reply::decode(&buffer[..len]).unwrap();
        assert_eq!(head, Reply::Accepted(Accept::Success));
        let found = match MntRes::from_bytes(results).unwrap() {
            MntRes::Ok { handle, .. } => {
                Ok(self.site.exports.open(handle.0).unwrap().0.environment)
            }
            MntRes::Fail(status) => Err(status),
        };
        (xid, found)
    }

    /// Waits until a machine is told of that waits.
    async fn until_it_waits(&self) {
        while self.site.booter.take().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn happens(&self, event: Event<Arc<Export>>) {
        self.site.exports.apply([(ROOT, event)]);
    }
}

#[tokio::test]
async fn what_is_held_is_mounted_when_the_command_has_ended() {
    let running = running().await;
    running.happens(Event::Held);
    running.send(1, "/be/head").await;
    running.until_it_waits().await;
    // FreeBSD's loader repeats a call as it is, others with a number of its own.
    running.send(1, "/be/head").await;
    running.send(2, "/be/head").await;
    // What is refused for good is answered meanwhile, and after what was sent before.
    running.send(3, "/be/none").await;
    assert_eq!(running.reply().await, (3, Err(MountStat::NoEnt)));
    running.happens(Event::Resumed);
    assert_eq!(running.reply().await, (2, Ok(ROOT)));
    running.send(4, "/be/head/etc").await;
    assert_eq!(running.reply().await, (4, Ok(ROOT)), "one call has one reply");
}

#[tokio::test]
async fn the_own_root_of_a_machine_that_was_started_by_hand_is_waited_for() {
    let running = running().await;
    running.happens(Event::Held);
    running.site.booter.await_root(Some("base cannot be used just now"));
    running.send(1, "/").await;
    running.until_it_waits().await;
    running.site.booter.await_root(None);
    running.happens(Event::Resumed);
    assert_eq!(running.reply().await, (1, Ok(ROOT)));
}

#[tokio::test(start_paused = true)]
async fn the_own_root_is_refused_as_unreadable_and_not_as_missing_when_it_stays_away() {
    let running = running().await;
    running.site.booter.await_root(Some("base cannot be used just now"));
    running.send(1, "/").await;
    assert_eq!(running.reply().await, (1, Err(MountStat::Io)));
}

#[tokio::test]
async fn what_is_not_open_yet_is_mounted_once_it_is() {
    let running = running().await;
    running.happens(Event::Closed("away".into()));
    // Of one it is known that it is there, of another not even that.
    for (xid, complete) in [(1, true), (2, false)] {
        let paths = HashMap::from([("/be/head".to_owned(), Some(ROOT))]);
        let paths = if complete { paths } else { HashMap::new() };
        running.site.exports.expect(paths, complete);
        running.send(xid, "/be/head/etc/rc.d").await;
        running.until_it_waits().await;
        running.site.publish(
            ROOT,
            "head",
            &tree(),
            ExportSettings { insecure: true, ..open_to_all() },
        );
        assert_eq!(running.reply().await, (xid, Ok(ROOT)));
        running.site.booter.take();
        running.happens(Event::Closed("away".into()));
    }
}

#[tokio::test]
async fn what_is_destroyed_meanwhile_is_missing() {
    let running = running().await;
    running.happens(Event::Held);
    running.send(1, "/be/head").await;
    running.until_it_waits().await;
    running.happens(Event::Ended);
    assert_eq!(running.reply().await, (1, Err(MountStat::NoEnt)));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_too_long_is_refused_with_the_reason() {
    let running = running().await;
    running.happens(Event::Held);
    let begun = tokio::time::Instant::now();
    running.send(1, "/be/head").await;
    assert_eq!(running.reply().await, (1, Err(MountStat::Io)));
    assert!(begun.elapsed() >= WAIT_LIMIT);
    let told = running.site.booter.take();
    let reasons = told.iter().filter_map(|(_, event)| {
        if let crate::boot::Event::NotMounted { reason, .. } = event {
            Some(reason.as_str())
        } else {
            None
        }
    });
    let reasons: Vec<&str> = reasons.collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons.iter().all(|one| one.contains("a command works on")), "{reasons:?}");
}
