//! One machine of a storm: what its firmware, iPXE and its kernel ask for, and how long each of them tries.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::bench::tftp_client::{self, Wish};
use crate::failure::{During, Failure, ensure};
use crate::forged::{Answer, Kind, Message, Sender};
use crate::net::SERVER;
use crate::rpc::{self, Client, Procedure};
use crate::xdr::{Reader, long, opaque, word};

use super::hub::Hub;

/// A machine that is switched on.
pub(super) struct Machine<'a> {
    /// Its place among all of them.
    pub(super) number: u32,
    /// By which all of them speak DHCP.
    pub(super) hub: &'a Hub,
    /// What they are to get.
    pub(super) files: &'a Files,
}

/// The files of a boot.
pub(super) struct Files {
    /// The loader, which firmware fetches by TFTP.
    pub(super) loader: Vec<u8>,
    /// The length of the kernel.
    pub(super) kernel: u64,
    /// The length of the initial RAM disk.
    pub(super) initrd: u64,
}

impl Machine<'_> {
    /// Boots; a failure begins with the step that did not end.
    pub(super) fn boot(&self) -> Result<(), Failure> {
        let at = |step: &'static str| {
            move |failure: Failure| failure.retold(|words| format!("{step}: {words}"))
        };
        let lease = self.lease(Sender::Pxe, &PXE).map_err(at("firmware's DHCP"))?;
        let (content, from) = (self.files.loader.as_slice(), lease.given);
        let wish = Wish { name: &lease.file, window: 1, content, from, patience: TFTP_PATIENCE };
        tftp_client::fetch(wish).map_err(at("TFTP"))?;
        let lease = self.lease(Sender::Ipxe, &IPXE).map_err(at("iPXE's DHCP"))?;
        let script = lease.file;
        let root = again(TRIES, || self.load(from, &script)).map_err(at("HTTP"))?;
        again(TRIES, || self.live(from, &root)).map_err(at("NFS"))
    }

    /// Gets an address, trying again after each of these seconds.
    fn lease(&self, sender: Sender, patience: &[u64]) -> Result<Answer, Failure> {
        let xid = self.number << 1 | u32::from(sender == Sender::Ipxe);
        let told = self.hub.listen(xid);
        let message = Message { sender, ..Message::new(Kind::Discover, mac(self.number)) };
        let offer = self.ask(&message, xid, &told, OFFER, patience)?;
        let server: Ipv4Addr = SERVER.parse().map_err(|_error| Failure::said(SERVER))?;
        let (wanted, server) = (Some(offer.given), Some(server));
        let message = Message { kind: Kind::Request, wanted, server, ..message };
        self.ask(&message, xid, &told, ACK, patience)
    }

    fn ask(
        &self,
        message: &Message,
        xid: u32,
        told: &Receiver<Answer>,
        wanted: u8,
        patience: &[u64],
    ) -> Result<Answer, Failure> {
        for &seconds in patience {
            self.hub.send(message, xid)?;
            let until = Instant::now() + Duration::from_secs(seconds);
            loop {
                match told.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(answer) if answer.kind == wanted => return Ok(answer),
                    Ok(answer) if answer.kind == NAK => {
                        return Err(Failure::said("the server said no"));
                    }
                    Ok(_) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(Failure::said("nobody listens"));
                    }
                }
            }
        }
        Err(Failure::said("no answer"))
    }

    /// Fetches the script, and by it the kernel and the RAM disk; gives the path of the root.
    fn load(&self, from: Ipv4Addr, script: &str) -> Result<String, Failure> {
        let mut text = String::new();
        ensure(script.starts_with("http://"), || format!("no script: {script:?}"))?;
        get(from, script, &mut |piece| text.push_str(&String::from_utf8_lossy(piece)))?;
        let mut root = None;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some(url) = words.iter().find(|word| word.starts_with("http://")) else { continue };
            let wanted = match words.first() {
                Some(&"kernel") => {
                    let named = words.iter().find_map(|word| word.strip_prefix("nfsroot="));
                    root = named.and_then(|named| named.split([':', ',']).nth(1));
                    self.files.kernel
                }
                Some(&"initrd") => self.files.initrd,
                Some(_) | None => {
                    return Err(Failure::Said(format!("a script that waits: {line}")));
                }
            };
            let mut length = 0;
            get(from, url, &mut |piece| length += piece.len() as u64)?;
            ensure(length == wanted, || format!("{url} has {length} bytes"))?;
        }
        root.map(ToOwned::to_owned).ok_or_else(|| Failure::Said(format!("no root in: {text}")))
    }

    /// Mounts the root as a kernel does, and makes calls.
    fn live(&self, from: Ipv4Addr, root: &str) -> Result<(), Failure> {
        let root = rpc::mount_by(Client::connect_from(from, MOUNT_PORT, OWN_PORT)?, root)??;
        let mut client = Client::connect_from(from, NFS_PORT, OWN_PORT)?;
        let mut call = |procedure: u32, arguments: &[u8]| {
            let results = client.call(Procedure(NFS, 3, procedure), arguments)?;
            let mut reader = Reader::new(&results);
            let status = reader.word()?;
            ensure(status == 0, || format!("procedure {procedure}: status {status}"))?;
            Ok::<_, Failure>(results)
        };
        let named = |directory: &[u8], name: &str| {
            let mut arguments = Vec::new();
            opaque(&mut arguments, directory);
            opaque(&mut arguments, name.as_bytes());
            arguments
        };
        let mut find = |directory: &[u8], name: &str| {
            let results = call(LOOKUP, &named(directory, name))?;
            let mut reader = Reader::new(&results);
            let _status = reader.word()?;
            Ok::<_, Failure>(reader.opaque()?.to_vec())
        };
        let sbin = find(&root, "sbin")?;
        let init = find(&sbin, "init")?;
        for number in 0..CALLS {
            let mut arguments = Vec::new();
            let procedure = match number % 4 {
                0 => {
                    arguments = named(&sbin, "init");
                    LOOKUP
                }
                1 => {
                    opaque(&mut arguments, &init);
                    GETATTR
                }
                2 => {
                    opaque(&mut arguments, &root);
                    word(&mut arguments, 0x3f);
                    ACCESS
                }
                _ => {
                    opaque(&mut arguments, &init);
                    long(&mut arguments, 0);
                    word(&mut arguments, 4096);
                    READ
                }
            };
            call(procedure, &arguments)?;
        }
        Ok(())
    }
}

/// Does it again after ten seconds if it fails, as iPXE's script and a kernel without a root do.
fn again<T>(tries: u32, mut act: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 1..tries {
        match act() {
            Err(Failure::Said(_)) => thread::sleep(Duration::from_secs(10)),
            done => return done,
        }
    }
    act()
}

/// Fetches what an address names, and hands over its bytes as they come.
fn get(from: Ipv4Addr, url: &str, take: &mut impl FnMut(&[u8])) -> Result<(), Failure> {
    let server: Ipv4Addr = SERVER.parse().map_err(|_error| Failure::said(SERVER))?;
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).during(url)?;
    socket.bind(&SocketAddr::from((from, 0)).into()).during(url)?;
    socket.connect_timeout(&SocketAddr::from((server, 80)).into(), HTTP_PATIENCE).during(url)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(HTTP_PATIENCE)).during(url)?;
    let request = format!(
        "GET /{path} HTTP/1.1\r\nHost: {SERVER}\r\nUser-Agent: iPXE\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).during(url)?;
    let mut buffer = vec![0; 32 * 1024];
    let (mut head, mut left) = (Vec::new(), None);
    while left != Some(0) {
        let count = stream.read(&mut buffer).during(url)?;
        ensure(count > 0, || format!("{url}: the server closed the connection"))?;
        let piece = buffer.get(..count).unwrap_or_default();
        match &mut left {
            Some(left) => {
                *left -= (count as u64).min(*left);
                take(piece);
            }
            None => {
                head.extend_from_slice(piece);
                if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                    let body = head.split_off(end + 4);
                    left = Some(length(&head, url)?.saturating_sub(body.len() as u64));
                    take(&body);
                }
            }
        }
    }
    Ok(())
}

/// The length that the head of an answer tells.
fn length(head: &[u8], url: &str) -> Result<u64, Failure> {
    let head = String::from_utf8_lossy(head).to_lowercase();
    ensure(head.starts_with("http/1.1 200 "), || {
        format!("{url}: {}", head.lines().next().unwrap_or_default())
    })?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse().ok());
    length.ok_or_else(|| Failure::Said(format!("{url}: no length")))
}

/// The Ethernet address of a machine.
fn mac(number: u32) -> [u8; 6] {
    let [_, high, middle, low] = number.to_be_bytes();
    [0x52, 0x54, 0x10, high, middle, low]
}

/// The kinds of failures, the step and the cause, with how many there are of each.
pub(super) fn tally(failures: &[Failure]) -> String {
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for failure in failures {
        let words = failure.to_string();
        let parts: Vec<&str> = words.split(": ").collect();
        let (step, cause) = (parts.first().unwrap_or(&""), parts.last().unwrap_or(&""));
        *kinds.entry(format!("{step}: {cause}")).or_default() += 1;
    }
    kinds.iter().take(KINDS_TOLD).fold(String::new(), |mut text, (failure, count)| {
        // Writing to a string does not fail.
        let _ = write!(text, "\n    {count} x {failure}");
        text
    })
}

/// Seconds after which firmware asks again (Preboot Execution Environment 2.1, §3.2).
const PXE: [u64; 4] = [4, 8, 16, 32];
/// Seconds after which iPXE asks again (`config/dhcp.h`: from 1 to 10).
const IPXE: [u64; 5] = [1, 2, 4, 8, 10];
/// UEFI's PXE client asks again after so long (`PXEBC_MTFTP_TIMEOUT`).
const TFTP_PATIENCE: Duration = Duration::from_secs(4);
/// How long iPXE waits for a connection, or for more of an answer.
const HTTP_PATIENCE: Duration = Duration::from_secs(60);
/// How often a script or a mount is begun before somebody has to come.
const TRIES: u32 = 3;
/// How many kinds of failures are told.
const KINDS_TOLD: usize = 8;
/// How many calls a kernel makes until there is a login, about.
const CALLS: u32 = 200;
const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;
const MOUNT_PORT: u16 = 20048;
const NFS_PORT: u16 = 2049;
/// One of the ports that only root may use.
const OWN_PORT: u16 = 900;
const NFS: u32 = 100_003;
const GETATTR: u32 = 1;
const LOOKUP: u32 = 3;
const ACCESS: u32 = 4;
const READ: u32 = 6;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn failures_are_counted_by_step_and_cause() {
        let failed = |words: &str| Failure::said(words);
        let failures = [
            failed("HTTP: http://10.77.0.1/b/1/kernel: reset"),
            failed("HTTP: http://10.77.0.1/b/2/kernel: reset"),
            failed("TFTP: no answer"),
        ];
        assert_eq!(tally(&failures), "\n    2 x HTTP: reset\n    1 x TFTP: no answer");
    }

    #[test]
    fn an_answer_without_the_file_is_a_failure() {
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "x").unwrap(), 7);
        assert!(length(b"HTTP/1.1 503 Busy\r\nContent-Length: 7\r\n\r\n", "x").is_err());
        assert!(length(b"HTTP/1.1 200 OK\r\n\r\n", "x").is_err());
    }

    #[test]
    fn no_two_machines_have_the_same_address() {
        assert_eq!(mac(0x1_0203), [0x52, 0x54, 0x10, 1, 2, 3]);
    }
}
