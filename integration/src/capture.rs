//! Everything that went over the network, and what tshark thinks of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::net::{BRIDGE, Network};
use crate::process::{Program, Running, last_lines};

/// A capture that is being written.
#[derive(Debug)]
pub(crate) struct Capture {
    running: Running,
    file: PathBuf,
}

impl Capture {
    /// Begins to capture what passes the bridge and matches `filter`, in the words of pcap-filter(7);
    /// an empty one matches everything.
    pub(crate) fn begin(
        network: &Network,
        directory: &Path,
        filter: &str,
    ) -> Result<Self, Failure> {
        let file = directory.join("traffic.pcap");
        let log = directory.join("tcpdump.log");
        let dump = network.server.program("tcpdump");
        let dump = dump.words("-n -U -B 16384 -Z root -i").arg(BRIDGE).arg("-w").arg(&file);
        let mut running = dump.arg(filter).start(&log)?;
        wait_for("tcpdump's first words", Duration::from_secs(20), || {
            running.still(&log)?;
            Ok(fs::read_to_string(&log).is_ok_and(|said| said.contains("listening")).then_some(()))
        })?;
        Ok(Self { running, file })
    }

    /// Ends the capture and fails if tshark finds a malformed packet, or no packet at all.
    pub(crate) fn check(mut self) -> Result<(), Failure> {
        self.end()?;
        let size = fs::metadata(&self.file).during(self.file.display())?.len();
        ensure(size > EMPTY, || "the capture is empty: nothing went over the network".to_owned())?;
        let malformed = self.read("_ws.malformed")?;
        ensure(malformed.trim().is_empty(), || {
            format!("tshark finds malformed packets:\n{}", last_lines(&malformed, 10))
        })
    }

    /// Ends the capture and prints what matches `filter`, in the words of wireshark-filter(4).
    pub(crate) fn print(mut self, filter: &str) -> Result<String, Failure> {
        self.end()?;
        self.read(filter)
    }

    /// Ends the capture and copies it.
    pub(crate) fn keep(mut self, file: &Path) -> Result<(), Failure> {
        self.end()?;
        fs::copy(&self.file, file).during(file.display()).map(|_length| ())
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.running.terminate(Duration::from_secs(20)).map(|_status| ())
    }

    fn read(&self, filter: &str) -> Result<String, Failure> {
        let mut tshark = Program::new("tshark").arg("-r").arg(&self.file);
        for port in RPC {
            tshark = tshark.args(["-d".to_owned(), format!("{port},rpc")]);
        }
        tshark.args(["-n", "-Y", filter]).run(Duration::from_secs(300))
    }
}

/// Ports of NFS and MOUNT, in tshark's words. A client's own port is any below 1024, and some of these
/// belong to other protocols, which tshark would then read: 854 is that of DLEP (RFC 8175).
const RPC: [&str; 4] = ["tcp.port==2049", "udp.port==2049", "tcp.port==20048", "udp.port==20048"];

/// The length of a capture file without packets, in bytes.
const EMPTY: u64 = 24;
