//! Registering with the port mapper of the host, when port 111 is taken by one.
//!
//! Version 2 over UDP is what every one of them understands: the old portmap, and rpcbind on Linux
//! and FreeBSD, which accepts it from the loopback address and gives the mapping to the superuser
//! when it comes from a reserved port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use wire::portmap2::{self, Mapping, Procedure};
use wire::rpc::{Accept, Call, Credential, Reply};
use wire::xdr::{Decoder, Encoder};

use super::Service;

/// Registers `services` with the port mapper at `mapper`, in place of what was there.
///
/// Blocks for a few seconds at most; meant for start-up.
///
/// # Errors
///
/// The port mapper does not answer, or refuses: it may not trust the caller, or another program has
/// registered the same service and still runs.
pub fn register(mapper: SocketAddr, services: &[Service]) -> Result<(), RegisterError> {
    unregister(mapper, services)?;
    let socket = socket(mapper)?;
    for service in services {
        if !ask(&socket, Procedure::Set, (*service).into())? {
            return Err(RegisterError::Refused { program: service.program });
        }
    }
    Ok(())
}

/// Takes `services` back from the port mapper at `mapper`, if they were there.
///
/// # Errors
///
/// The port mapper does not answer.
pub fn unregister(mapper: SocketAddr, services: &[Service]) -> Result<(), RegisterError> {
    let socket = socket(mapper)?;
    for service in services {
        // UNSET takes a version back for all protocols (RFC 1833 §3.2); false says it was not there.
        ask(&socket, Procedure::Unset, Mapping { protocol: 0, port: 0, ..(*service).into() })?;
    }
    Ok(())
}

/// Why services could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The host's sockets failed.
    #[error("cannot talk to the port mapper: {0}")]
    Io(#[from] io::Error),
    /// The port mapper said no.
    #[error(
        "the port mapper refuses program {program}: stop the service that has registered it \
         (rpcinfo -p shows them), and run netbe as root"
    )]
    Refused {
        /// Number of the program.
        program: u32,
    },
    /// There was no answer, or none that could be understood.
    #[error("port 111 is taken, but what has it does not answer as a port mapper: stop it")]
    Unanswered,
}

/// Sends a mapping and returns the boolean that is the answer.
fn ask(socket: &UdpSocket, procedure: Procedure, mapping: Mapping) -> Result<bool, RegisterError> {
    let xid = getrandom::u32().map_err(io::Error::from)?;
    let mut args = Vec::new();
    mapping.encode(&mut Encoder::new(&mut args));
    let call = Call {
        xid,
        program: portmap2::PROGRAM,
        version: portmap2::VERSION,
        procedure: procedure.number(),
        credential: Credential::None,
        args: &args,
    };
    let mut message = Vec::new();
    call.encode(&mut Encoder::new(&mut message));
    for _ in 0..TRIES {
        socket.send(&message)?;
        // Answers to earlier tries are let pass, but not for ever.
        for _ in 0..TRIES {
            let mut answer = [0; MAX_ANSWER];
            let len = match socket.recv(&mut answer) {
                Ok(len) => len,
                Err(error) if is_silence(&error) => break,
                Err(error) => return Err(error.into()),
            };
            match Reply::decode(answer.get(..len).unwrap_or_default()) {
                Ok((of, _, _)) if of != xid => {}
                Ok((_, Reply::Accepted(Accept::Success), result)) => {
                    let answer = Decoder::new(result).bool();
                    return answer.map_err(|_| RegisterError::Unanswered);
                }
                Ok((_, Reply::Accepted(_) | Reply::Denied(_), _)) | Err(_) => {
                    return Err(RegisterError::Unanswered);
                }
            }
        }
    }
    Err(RegisterError::Unanswered)
}

/// A socket that talks to `mapper`, from a reserved port if there is one to be had.
fn socket(mapper: SocketAddr) -> io::Result<UdpSocket> {
    let local = match mapper.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    };
    let bound = RESERVED.rev().find_map(|port| UdpSocket::bind((local, port)).ok());
    let socket = bound.map_or_else(|| UdpSocket::bind((local, 0)), Ok)?;
    socket.connect(mapper)?;
    socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
    Ok(socket)
}

/// Whether an error means that no answer came.
fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::ETIMEDOUT | libc::ECONNREFUSED | libc::EINTR)
    )
}

/// Reserved ports that no well-known service has; the same as `bindresvport` takes.
const RESERVED: std::ops::RangeInclusive<u16> = 600..=1023;

/// How often a question is asked.
const TRIES: usize = 3;

/// How long to wait for an answer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// A reply head with a large verifier and a boolean.
const MAX_ANSWER: usize = 512;

#[cfg(test)]
mod test {
    use std::thread::{JoinHandle, spawn};

    use super::*;
    use crate::net::rpc::Transport;

    const NFS: Service =
        Service { program: 100_003, version: 3, transport: Transport::Tcp, port: 2049 };

    /// A port mapper that answers so many calls with `answer` and tells what it was asked.
    fn mapper(
        calls: usize,
        answer: impl Fn(u32) -> bool + Send + 'static,
    ) -> (SocketAddr, JoinHandle<Vec<(u32, Mapping)>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let thread = spawn(move || {
            let mut asked = Vec::new();
            for _ in 0..calls {
                let mut buf = [0; 1000];
                let (len, peer) = socket.recv_from(&mut buf).unwrap();
                let call = Call::decode(&buf[..len]).unwrap();
                assert_eq!((call.program, call.version), (portmap2::PROGRAM, 2));
                let mapping = Mapping::decode(&mut Decoder::new(call.args)).unwrap();
                asked.push((call.procedure, mapping));
                let mut out = Vec::new();
                // The answer to a call before this one must not be taken for the answer.
                Reply::Accepted(Accept::SystemErr).encode(!call.xid, &mut Encoder::new(&mut out));
                socket.send_to(&out, peer).unwrap();
                out.clear();
                Reply::Accepted(Accept::Success).encode(call.xid, &mut Encoder::new(&mut out));
                Encoder::new(&mut out).bool(answer(call.procedure));
                socket.send_to(&out, peer).unwrap();
            }
            asked
        });
        (address, thread)
    }

    #[test]
    fn a_service_replaces_what_was_registered_before() {
        let (address, thread) = mapper(2, |_| true);
        register(address, &[NFS]).unwrap();
        let unset = Mapping { protocol: 0, port: 0, ..NFS.into() };
        assert_eq!(thread.join().unwrap(), [(2, unset), (1, NFS.into())]);
    }

    #[test]
    fn what_was_not_there_is_taken_back_without_an_error() {
        let (address, thread) = mapper(1, |_| false);
        unregister(address, &[NFS]).unwrap();
        assert_eq!(thread.join().unwrap().len(), 1);
    }

    #[test]
    fn a_refusal_names_the_program() {
        let (address, _thread) = mapper(2, |_| false);
        let error = register(address, &[NFS]).unwrap_err();
        assert!(matches!(error, RegisterError::Refused { program: 100_003 }), "{error}");
    }

    #[test]
    fn a_port_where_nobody_listens_does_not_answer() {
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = register(closed, &[NFS]).unwrap_err();
        assert!(matches!(error, RegisterError::Unanswered), "{error}");
    }
}
