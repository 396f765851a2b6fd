//! Registering with the port mapper of the host, when port 111 is taken by one.
//!
//! Version 2 is what every one of them understands: the old portmap, and rpcbind on Linux and FreeBSD,
//! which give the mapping to the superuser when he asks by their socket, or from a reserved port of the
//! loopback address.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use wire::portmap2::{self, Mapping, Procedure};
use wire::rpc::{Accept, AuthStat, Call, Credential, Reject, Reply};
use wire::xdr::{DecodeError, Decoder, Encoder};

use super::Service;
use super::mapper::{Line, Mapper};
use crate::net::rpc::Transport;

/// Registers `services` with the port mapper `mapper`, in place of what servers left that were killed.
///
/// Blocks for a few seconds at most; meant for start-up.
///
/// # Errors
///
/// The port mapper does not answer, or refuses to trust the caller. Another server has one of the
/// programs at another port, and still has that port: nothing is registered then, and what it has stays.
pub fn register(mapper: &Mapper, services: &[Service]) -> Result<(), RegisterError> {
    let mut line = mapper.call()?;
    for service in services {
        let at = port(&mut line, *service)?;
        if at != 0 && at != u32::from(service.port) && is_taken(service.transport, at) {
            return Err(RegisterError::Other { program: service.program, port: at });
        }
    }
    for service in services {
        ask(&mut line, Procedure::Unset, every(*service))?;
    }
    for service in services {
        if !ask(&mut line, Procedure::Set, (*service).into())? {
            return Err(RegisterError::Refused { program: service.program });
        }
    }
    Ok(())
}

/// Registers `services` as [`register`] does, and `locks` unless another lock manager on this host has
/// registered itself, as that of every client of NFS does: it has no locks on our files to give either.
///
/// # Errors
///
/// As [`register`], about `services` alone.
pub fn register_with_locks(
    mapper: &Mapper,
    services: &[Service],
    locks: &[Service],
) -> Result<(), RegisterError> {
    register(mapper, services)?;
    if let Err(error) = register(mapper, locks) {
        tracing::info!("the port mapper does not send requests for locks to netbe: {error}");
    }
    Ok(())
}

/// Takes `services` back from the port mapper `mapper`, if they are there; what another server
/// registered since stays.
///
/// # Errors
///
/// The port mapper does not answer.
pub fn unregister(mapper: &Mapper, services: &[Service]) -> Result<(), RegisterError> {
    let mut line = mapper.call()?;
    for service in services {
        if port(&mut line, *service)? == u32::from(service.port) {
            ask(&mut line, Procedure::Unset, every(*service))?;
        }
    }
    Ok(())
}

/// What UNSET takes back: a version, for all protocols (RFC 1833 §3.2).
fn every(service: Service) -> Mapping {
    Mapping { protocol: 0, port: 0, ..service.into() }
}

/// Whether somebody on this host has a port, or nobody can say.
fn is_taken(transport: Transport, port: u32) -> bool {
    let Ok(port) = u16::try_from(port) else { return false };
    let any = (Ipv4Addr::UNSPECIFIED, port);
    match transport {
        Transport::Tcp => TcpListener::bind(any).is_err(),
        Transport::Udp => UdpSocket::bind(any).is_err(),
    }
}

/// The port where the port mapper says that a service is; 0 says nowhere.
fn port(line: &mut Line, service: Service) -> Result<u32, RegisterError> {
    call(line, Procedure::GetPort, Mapping { port: 0, ..service.into() }, |answer| answer.u32())
}

/// Why services could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The host's sockets failed.
    #[error("cannot talk to the port mapper: {0}")]
    Io(#[from] io::Error),
    /// Another server has one of the programs, and runs.
    #[error(
        "the port mapper has {} at port {port}, and would send machines there: stop that server, and start \
         netbe again", named(*.program)
    )]
    Other {
        /// Number of the program.
        program: u32,
        /// Where the other server has it.
        port: u32,
    },
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
    #[error("port 111 is in use by a program that does not answer as a port mapper: stop it")]
    Unanswered,
    /// The port mapper does not trust this way of asking.
    #[error(
        "the port mapper accepts registrations only by its socket, but {socket} does not lead to it: \
         restart rpcbind, or stop it"
    )]
    Weak {
        /// Where the socket should be.
        socket: String,
    },
}

/// A program, and who serves it beside netbe.
fn named(program: u32) -> String {
    match program {
        100_003 => "another NFS server (nfsd)".to_owned(),
        100_005 => "another MOUNT server (mountd)".to_owned(),
        100_021 => "another lock manager (lockd)".to_owned(),
        other => format!("another server of program {other}"),
    }
}

/// Sends a mapping and returns the boolean that is the answer.
fn ask(line: &mut Line, procedure: Procedure, mapping: Mapping) -> Result<bool, RegisterError> {
    call(line, procedure, mapping, |answer| answer.bool())
}

/// Sends a mapping and returns what `read` makes of the answer.
fn call<T>(
    line: &mut Line,
    procedure: Procedure,
    mapping: Mapping,
    read: fn(&mut Decoder<'_>) -> Result<T, DecodeError>,
) -> Result<T, RegisterError> {
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
    for _ in 0..line.tries() {
        line.send(&message)?;
        // Answers to earlier tries are let pass, but not for ever.
        for _ in 0..MAX_ANSWERS {
            let Some(answer) = line.receive()? else { break };
            match Reply::decode(&answer) {
                Ok((of, _, _)) if of != xid => {}
                Ok((_, Reply::Accepted(Accept::Success), result)) => {
                    let answer = read(&mut Decoder::new(result));
                    return answer.map_err(|_| RegisterError::Unanswered);
                }
                Ok((_, Reply::Denied(Reject::AuthError(AuthStat::TooWeak)), _)) => {
                    return Err(RegisterError::Weak { socket: line.socket().to_owned() });
                }
                Ok((_, Reply::Accepted(_) | Reply::Denied(_), _)) | Err(_) => {
                    return Err(RegisterError::Unanswered);
                }
            }
        }
    }
    Err(RegisterError::Unanswered)
}

/// How many answers to one try are looked at.
const MAX_ANSWERS: usize = 3;

#[cfg(test)]
mod test {
    use std::net::SocketAddr;
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread::{JoinHandle, spawn};
    use std::time::Duration;
    use std::{fs, io::Read as _, io::Write as _};

    use wire::record::{self, Records};

    use super::*;

    const NFS: Service =
        Service { program: 100_003, version: 3, transport: Transport::Tcp, port: 2049 };

    /// A port mapper that answers so many calls with `answer` and tells what it was asked.
    fn mapper(
        calls: usize,
        answer: impl Fn(u32) -> u32 + Send + 'static,
    ) -> (Mapper, JoinHandle<Vec<(u32, Mapping)>>) {
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
                Encoder::new(&mut out).u32(answer(call.procedure));
                socket.send_to(&out, peer).unwrap();
            }
            asked
        });
        (at(address), thread)
    }

    /// The port mapper that has an address and no socket.
    fn at(address: SocketAddr) -> Mapper {
        Mapper { sockets: Vec::new(), address }
    }

    /// A port mapper that has a socket alone, and answers the calls of every connection with `answer`,
    /// each as two fragments.
    fn beside(socket: &Path, answer: impl Fn(u32) -> Reply + Send + 'static) -> Mapper {
        let listener = UnixListener::bind(socket).unwrap();
        spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut records) = (stream.unwrap(), Records::new(1000));
                let mut buf = [0; 100];
                while let Ok(len @ 1..) = stream.read(&mut buf) {
                    records.space().extend_from_slice(&buf[..len]);
                    while let Some(message) = records.next_record().unwrap() {
                        let call = Call::decode(message).unwrap();
                        let mut out = Vec::new();
                        answer(call.procedure).encode(call.xid, &mut Encoder::new(&mut out));
                        Encoder::new(&mut out).bool(call.procedure != GETPORT);
                        let mut framed = 4_u32.to_be_bytes().to_vec();
                        framed.extend_from_slice(&out[..4]);
                        let place = record::begin(&mut framed);
                        framed.extend_from_slice(&out[4..]);
                        record::end(&mut framed, place).unwrap();
                        stream.write_all(&framed).unwrap();
                    }
                }
            }
        });
        Mapper { sockets: vec![socket.to_owned()], address: closed() }
    }

    /// A port where nobody listens.
    fn closed() -> SocketAddr {
        UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    /// SET, UNSET and GETPORT.
    const SET: u32 = 1;
    const UNSET: u32 = 2;
    const GETPORT: u32 = 3;

    #[test]
    fn a_service_replaces_what_a_killed_server_left() {
        let question = Mapping { port: 0, ..NFS.into() };
        let nobody = closed().port().into();
        for left in [0, 2049, nobody] {
            let (mapper, thread) =
                mapper(3, move |procedure| if procedure == GETPORT { left } else { 1 });
            register(&mapper, &[NFS]).unwrap();
            let asked = [(GETPORT, question), (UNSET, every(NFS)), (SET, NFS.into())];
            assert_eq!(thread.join().unwrap(), asked);
        }
    }

    #[test]
    fn what_another_server_registered_stays_and_is_told() {
        const MOUNT: Service = Service { program: 100_005, port: 20_048, ..NFS };
        let mountd = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = mountd.local_addr().unwrap().port();
        let (mapper, thread) = mapper(1, move |_| port.into());
        let error = register(&mapper, &[MOUNT, NFS]).unwrap_err();
        let said = format!(
            "the port mapper has another MOUNT server (mountd) at port {port}, and would send machines \
             there: stop that server, and start netbe again"
        );
        assert_eq!(error.to_string(), said);
        assert_eq!(thread.join().unwrap().len(), 1);
    }

    #[test]
    fn a_host_that_has_a_lock_manager_keeps_it() {
        const LOCKS: Service = Service { program: 100_021, version: 4, ..NFS };
        let lockd = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = lockd.local_addr().unwrap().port().into();
        let asked_before = AtomicU32::new(0);
        let (mapper, thread) = mapper(4, move |procedure| match procedure {
            GETPORT if asked_before.fetch_add(1, Ordering::Relaxed) == 0 => 0,
            GETPORT => port,
            _ => 1,
        });
        register_with_locks(&mapper, &[NFS], &[LOCKS]).unwrap();
        let asked = thread.join().unwrap();
        assert_eq!(asked.last(), Some(&(GETPORT, Mapping { port: 0, ..LOCKS.into() })));
    }

    #[test]
    fn only_what_leads_here_is_taken_back() {
        for (at, calls) in [(0, 1), (874, 1), (2049, 2)] {
            let (mapper, thread) =
                mapper(calls, move |procedure| if procedure == GETPORT { at } else { 1 });
            unregister(&mapper, &[NFS]).unwrap();
            let asked = thread.join().unwrap();
            assert_eq!(asked.iter().any(|(procedure, _)| *procedure == UNSET), at == 2049);
        }
    }

    #[test]
    fn a_refusal_names_the_program() {
        let (mapper, _thread) = mapper(3, |_| 0);
        let error = register(&mapper, &[NFS]).unwrap_err();
        assert!(matches!(error, RegisterError::Refused { program: 100_003 }), "{error}");
    }

    #[test]
    fn a_port_where_nobody_listens_does_not_answer() {
        let error = register(&at(closed()), &[NFS]).unwrap_err();
        assert!(matches!(error, RegisterError::Unanswered), "{error}");
    }

    #[test]
    fn a_socket_is_asked_before_the_port() {
        let dir = tempfile::tempdir().unwrap();
        let asked = dir.path().join("rpcbind.sock");
        let mut mapper = beside(&asked, |_| Reply::Accepted(Accept::Success));
        mapper.sockets.insert(0, dir.path().join("not there"));
        register(&mapper, &[NFS, Service { program: 100_005, ..NFS }]).unwrap();
        // What a port mapper that is gone left behind leads nowhere.
        fs::remove_file(&asked).unwrap();
        drop(UnixListener::bind(&asked).unwrap());
        let error = register(&mapper, &[NFS]).unwrap_err();
        assert!(matches!(error, RegisterError::Unanswered), "{error}");
    }

    #[test]
    fn a_port_mapper_that_trusts_its_socket_alone_is_told_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let weak = |_| Reply::Denied(Reject::AuthError(AuthStat::TooWeak));
        let mapper = beside(&dir.path().join("rpcbind.sock"), weak);
        let said = register(&mapper, &[NFS]).unwrap_err().to_string();
        assert!(said.contains("rpcbind.sock does not lead to it"), "{said}");
        let denied = |_| Reply::Denied(Reject::RpcMismatch);
        let mapper = beside(&dir.path().join("other.sock"), denied);
        let error = register(&mapper, &[NFS]).unwrap_err();
        assert!(matches!(error, RegisterError::Unanswered), "{error}");
    }

    #[test]
    fn a_socket_that_hangs_up_or_says_something_else_is_no_port_mapper() {
        for said in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("rpcbind.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 100]);
                stream.write_all(said).unwrap();
            });
            let mapper = Mapper { sockets: vec![socket], address: closed() };
            let error = unregister(&mapper, &[NFS]).unwrap_err();
            assert!(matches!(error, RegisterError::Unanswered), "{error}");
        }
    }
}
