//! The port mapper, version 2 (RFC 1833 §3), and how to register with another one.
//!
//! FreeBSD's loader can only find MOUNT and NFS by asking UDP port 111, so that netbe is its own port
//! mapper unless one runs already. Versions 3 and 4 (rpcbind) are answered with the range of versions
//! that is served, upon which FreeBSD's clients ask again with version 2. CALLIT, which makes a
//! stranger's datagram into a call to somebody else, is not served, and neither is registering:
//! nobody but this process is behind this port mapper.

mod mapper;
mod register;

use wire::portmap2::{self, Mapping, Procedure};
use wire::xdr::{Decoder, Encoder};

use crate::net::rpc::{Call, Outcome, Program, Progress, Transport};

pub use mapper::Mapper;
pub use register::{RegisterError, register, register_with_locks, unregister};

/// Says at which port a program is served.
#[derive(Clone, Debug)]
pub struct Portmap {
    mappings: Vec<Mapping>,
}

impl Portmap {
    /// Knows `services`, and itself on port 111 by both transports.
    #[must_use]
    pub fn new(services: impl IntoIterator<Item = Service>) -> Self {
        let (program, version, port) = (portmap2::PROGRAM, portmap2::VERSION, portmap2::PORT);
        let own = [Transport::Tcp, Transport::Udp].map(|transport| Service {
            program,
            version,
            transport,
            port,
        });
        Self { mappings: own.into_iter().chain(services).map(Mapping::from).collect() }
    }

    /// The port of a program, or 0.
    ///
    /// Where only other versions are served their port is the answer, as rpcbind does: the program
    /// itself then tells which ones there are.
    fn port(&self, asked: Mapping) -> u32 {
        let mut same = self.mappings.iter().filter(|mapping| {
            mapping.program == asked.program && mapping.protocol == asked.protocol
        });
        let exact = same.clone().find(|mapping| mapping.version == asked.version);
        exact.or_else(|| same.next()).map_or(0, |mapping| mapping.port)
    }
}

impl Program for Portmap {
    fn number(&self) -> u32 {
        portmap2::PROGRAM
    }

    fn versions(&self) -> &'static [u32] {
        &[portmap2::VERSION]
    }

    fn call(&self, call: &Call<'_>, reply: &mut Vec<u8>) -> Progress {
        self.answer(call, reply).into()
    }
}

impl Portmap {
    fn answer(&self, call: &Call<'_>, reply: &mut Vec<u8>) -> Outcome {
        let mut out = Encoder::new(reply);
        match Procedure::from_number(call.procedure) {
            Some(Procedure::Null) => {}
            Some(Procedure::GetPort) => match mapping(call.args) {
                Some(asked) => out.u32(self.port(asked)),
                None => return Outcome::GarbageArgs,
            },
            // Whoever lists does so by TCP; a datagram's sender can be forged, and the list is several
            // times as long as the question.
            Some(Procedure::Dump) if call.transport == Transport::Udp => {
                return Outcome::ProcUnavail;
            }
            Some(Procedure::Dump) => {
                portmap2::encode_list(self.mappings.iter().copied(), &mut out);
            }
            Some(Procedure::Set | Procedure::Unset) => match mapping(call.args) {
                Some(asked) => {
                    tracing::debug!(peer = %call.peer, ?asked, "registration refused");
                    out.bool(false);
                }
                None => return Outcome::GarbageArgs,
            },
            Some(Procedure::CallIt) | None => return Outcome::ProcUnavail,
        }
        Outcome::Success
    }
}

/// Where a program is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Service {
    /// Program number.
    pub program: u32,
    /// Version of the program.
    pub version: u32,
    /// Transport that it is served by.
    pub transport: Transport,
    /// Port that it is served at.
    pub port: u16,
}

impl From<Service> for Mapping {
    fn from(service: Service) -> Self {
        let protocol = match service.transport {
            Transport::Tcp => portmap2::TCP,
            Transport::Udp => portmap2::UDP,
        };
        let (program, version, port) = (service.program, service.version, service.port);
        Self { program, version, protocol, port: u32::from(port) }
    }
}

/// Decodes a mapping; what follows it is ignored, as other port mappers do.
fn mapping(args: &[u8]) -> Option<Mapping> {
    Mapping::decode(&mut Decoder::new(args)).ok()
}

#[cfg(test)]
mod test {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::net::rpc::Credential;

    const NFS: Service =
        Service { program: 100_003, version: 3, transport: Transport::Udp, port: 2049 };
    const MOUNT: Service =
        Service { program: 100_005, version: 3, transport: Transport::Tcp, port: 20_048 };

    fn call(procedure: u32, args: &[u8]) -> (Outcome, Vec<u8>) {
        call_by(Transport::Tcp, procedure, args)
    }

    fn call_by(transport: Transport, procedure: u32, args: &[u8]) -> (Outcome, Vec<u8>) {
        let portmap = Portmap::new([NFS, MOUNT, Service { version: 1, ..MOUNT }]);
        let address = SocketAddr::from(([127, 0, 0, 1], 111));
        let call = Call {
            version: 2,
            procedure,
            credential: Credential::None,
            peer: address,
            local: address,
            transport,
            back: None,
            args,
        };
        let mut reply = Vec::new();
        (portmap.answer(&call, &mut reply), reply)
    }

    fn args(mapping: Mapping) -> Vec<u8> {
        let mut args = Vec::new();
        mapping.encode(&mut Encoder::new(&mut args));
        args
    }

    fn port(mapping: Mapping) -> u32 {
        let (outcome, reply) = call(3, &args(mapping));
        assert_eq!(outcome, Outcome::Success);
        Decoder::new(&reply).u32().unwrap()
    }

    #[test]
    fn the_port_of_a_service_is_told() {
        assert_eq!(port(Mapping { port: 0, ..NFS.into() }), 2049);
        assert_eq!(port(MOUNT.into()), 20_048);
    }

    #[test]
    fn the_port_of_nothing_is_zero() {
        assert_eq!(port(Mapping { program: 100_024, ..NFS.into() }), 0);
        assert_eq!(port(Mapping { protocol: portmap2::TCP, ..NFS.into() }), 0);
        assert_eq!(port(Mapping { protocol: 99, ..NFS.into() }), 0);
    }

    #[test]
    fn another_version_leads_to_the_program_that_knows_its_versions() {
        assert_eq!(port(Mapping { version: 2, ..NFS.into() }), 2049);
    }

    #[test]
    fn the_list_has_everything_and_the_port_mapper_itself() {
        let (outcome, reply) = call(4, b"");
        assert_eq!(outcome, Outcome::Success);
        let list: Vec<Mapping> =
            portmap2::decode_list(Decoder::new(&reply)).map(Result::unwrap).collect();
        let own = Service { program: 100_000, version: 2, transport: Transport::Tcp, port: 111 };
        let expected = [
            own,
            Service { transport: Transport::Udp, ..own },
            NFS,
            MOUNT,
            Service { version: 1, ..MOUNT },
        ];
        assert_eq!(list, expected.map(Mapping::from));
    }

    #[test]
    fn no_datagram_brings_more_bytes_than_it_has() {
        assert_eq!(call_by(Transport::Udp, 4, b""), (Outcome::ProcUnavail, Vec::new()));
        for procedure in [0, 1, 2, 3] {
            let (_, reply) = call_by(Transport::Udp, procedure, &args(NFS.into()));
            assert!(reply.len() <= 4);
        }
    }

    #[test]
    fn nobody_can_register() {
        for procedure in [1, 2] {
            assert_eq!(call(procedure, &args(NFS.into())), (Outcome::Success, vec![0; 4]));
        }
    }

    #[test]
    fn nobody_can_call_others_through_us() {
        assert_eq!(call(5, &[0; 64]).0, Outcome::ProcUnavail);
        assert_eq!(call(6, b"").0, Outcome::ProcUnavail);
    }

    #[test]
    fn arguments_that_end_early_are_garbage() {
        for procedure in [1, 2, 3] {
            assert_eq!(call(procedure, &[0; 15]).0, Outcome::GarbageArgs);
        }
    }

    proptest! {
        #[test]
        fn any_arguments_get_an_answer(
            procedure in 0_u32..8,
            args in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let (outcome, reply) = call(procedure, &args);
            prop_assert!(outcome == Outcome::Success || reply.is_empty());
        }
    }
}
