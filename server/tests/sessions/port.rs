//! A machine's own ports, taken again at once after they were let go.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// A UDP socket or an unconnected TCP socket with this address.
///
/// A process that another test starts has a copy of every socket until it becomes its program, so
/// that a port can be in use a moment longer than by us.
pub(crate) fn take(kind: Type, address: SocketAddr, interface: Option<&str>) -> Socket {
    let socket = Socket::new(Domain::IPV4, kind, None).unwrap();
    // A connection of an earlier life of the server may linger.
    socket.set_reuse_address(kind == Type::STREAM).unwrap();
    socket.bind_device(interface.map(str::as_bytes)).unwrap();
    let begun = Instant::now();
    loop {
        match socket.bind(&address.into()) {
            Ok(()) => return socket,
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                assert!(begun.elapsed() < Duration::from_secs(10), "{address} stays in use");
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("{address}: {error}"),
        }
    }
}
