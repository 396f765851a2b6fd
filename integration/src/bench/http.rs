//! HTTP: what a kernel's download costs netbe, and nginx or a netbe of another commit, with the file in memory.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::dhcp_client::{self, Kind};
use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::{CLIENT_INTERFACE, Network, SERVER};
use crate::packages;
use crate::process::tail;
use crate::server::{Server, Site};

use super::cost::{Meter, under_load};
use super::limits::Probe;
use super::report::{Comparison, Report};
use super::trial::{Side, Trial, compare};

/// Measures every load in turns: beside nginx, or beside `earlier`, a netbe of another commit.
pub(super) fn measure(lab: &Lab, earlier: Option<&Path>) -> Result<Report, Failure> {
    let directory = lab.directory("bench http")?;
    let (ours, theirs) = (Network::new()?, Network::new()?);
    let content = fs::read(lab.parts()?.kernel()).during("the kernel")?;
    let place = lab.directory("bench http netbe")?;
    let site = Site::new(lab.release()?, &ours, &place);
    let (server, path) = boot(lab, &site, &ours, &place)?;
    let netbe = Target { network: &ours, meter: Meter::of(server.pid())?, path, content: &content };
    if let Some(earlier) = earlier {
        let place = lab.directory("bench http earlier")?;
        let site = Site::new(earlier, &theirs, &place);
        let (other, path) = boot(lab, &site, &theirs, &place)?;
        let meter = Meter::of(other.pid())?;
        let peer = Target { network: &theirs, meter, path, content: &content };
        let compared = measured(&netbe, &peer, ("earlier", earlier.display().to_string()))?;
        other.stop()?;
        server.stop()?;
        return Report::new(lab, vec![compared]);
    }
    packages::install(&[packages::NGINX_LIBRARIES])?;
    let nginx = packages::unpacked(&lab.cache, "nginx")?.join("usr/sbin/nginx");
    let nginx = nginx.display().to_string();
    theirs.address_the_client()?;
    fs::write(directory.join("kernel"), &content).during("a copy of the kernel")?;
    let configuration = directory.join("nginx.conf");
    fs::write(&configuration, configured(&directory)).during(configuration.display())?;
    let log = directory.join("nginx.log");
    let daemon = theirs.server.program(&nginx).arg("-p").arg(&directory);
    let mut daemon = daemon.arg("-c").arg(&configuration).start(&log)?;
    let meter = wait_for("nginx's start", Duration::from_secs(10), || {
        daemon.still(&log)?;
        Ok(Meter::of_descendant(daemon.pid(), "nginx").ok())
    })?;
    let path = "/kernel".to_owned();
    let peer = Target { network: &theirs, meter, path, content: &content };
    wait_for("nginx's answer", Duration::from_secs(10), || {
        Ok(theirs.inside(|| peer.connect().and_then(|mut stream| peer.get(&mut stream))).ok())
    })
    .map_err(|failure| failure.retold(|words| format!("{words}\n{}", tail(&log, 5))))?;
    let version = theirs.client.program(&nginx).arg("-v").finish(Duration::from_secs(20))?;
    let compared = measured(&netbe, &peer, ("nginx", version.stderr.trim().to_owned()))?;
    server.stop()?;
    Report::new(lab, vec![compared])
}

/// Serves an environment with a kernel to a machine that has asked for it; gives the kernel's path.
fn boot(
    lab: &Lab,
    site: &Site<'_>,
    network: &Network,
    place: &Path,
) -> Result<(Server, String), Failure> {
    site.environment("bench", lab.parts()?, "true")?;
    site.machine("client", MAC, "bench")?;
    network.client.ip(&format!("link set {CLIENT_INTERFACE} address {MAC}"))?;
    let server = site.serve()?;
    let lease = dhcp_client::lease(&network.client, place, lab.parts()?, Kind::Ipxe)?;
    let script = network.client.program("curl").args(["--silent", "--show-error", "--fail"]);
    let script = script.arg(lease.boot_file()).run(Duration::from_secs(30))?;
    let kernel = |word: &&str| word.starts_with("http://") && word.ends_with("/kernel");
    let url = script.split_whitespace().find(kernel);
    let path = url.and_then(|url| url.splitn(4, '/').nth(3));
    let path = path.ok_or_else(|| Failure::said(format!("no kernel in the script:\n{script}")))?;
    Ok((server, format!("/{path}")))
}

/// nginx in one process, as fast as its manual has it, with nothing outside of a directory.
fn configured(directory: &Path) -> String {
    let at = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {at}/{kind};\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\nuser root;\npid {at}/nginx.pid;\nerror_log stderr;\n\
         events {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n  sendfile on;\n  \
         tcp_nopush on;\n  keepalive_requests 100000;\n{temporary}  \
         server {{ listen {SERVER}:80; root {at}; }}\n}}\n"
    )
}

fn measured(
    netbe: &Target<'_>,
    peer: &Target<'_>,
    known: (&'static str, String),
) -> Result<Comparison, Failure> {
    let trials: Vec<Trial<usize>> = [1, 8]
        .map(|clients| Trial {
            names: vec![
                format!("http.c{clients}.cpu_us_per_mib"),
                format!("http.c{clients}.mib_s"),
            ],
            work: clients,
        })
        .into();
    compare(netbe.network, &[Probe::TcpStream], &trials, known, |side, clients| match side {
        Side::Netbe => netbe.bear(*clients),
        Side::Peer => peer.bear(*clients),
    })
}

/// A server under load.
struct Target<'a> {
    network: &'a Network,
    meter: Meter,
    path: String,
    content: &'a [u8],
}

impl Target<'_> {
    /// Lets the clients fetch for a while; gives µs for a MiB, and MiB per second of all together.
    fn bear(&self, clients: usize) -> Result<Vec<f64>, Failure> {
        let fetch = |_number, ()| self.fetch();
        let (files, spent, elapsed) =
            under_load(self.network, self.meter, clients, |_number| Ok(()), fetch)?;
        let files: u32 = files.into_iter().sum();
        let mib = f64::from(files) * self.content.len() as f64 / (1024.0 * 1024.0);
        Ok(vec![spent.as_secs_f64() * 1e6 / mib, mib / elapsed.as_secs_f64()])
    }

    /// Fetches the file again and again over one connection; gives how often.
    fn fetch(&self) -> Result<u32, Failure> {
        let mut stream = self.connect()?;
        let begin = Instant::now();
        let mut files = 0;
        while begin.elapsed() < DURATION {
            self.get(&mut stream)?;
            files += 1;
        }
        Ok(files)
    }

    fn connect(&self) -> Result<TcpStream, Failure> {
        let server: Ipv4Addr = SERVER.parse().map_err(|_error| Failure::said(SERVER))?;
        let stream = TcpStream::connect((server, 80)).during("an HTTP client")?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).during("an HTTP client")?;
        stream.set_nodelay(true).during("an HTTP client")?;
        Ok(stream)
    }

    /// Fetches the file once, and compares every byte.
    fn get(&self, stream: &mut TcpStream) -> Result<(), Failure> {
        let request = format!("GET {} HTTP/1.1\r\nHost: {SERVER}\r\n\r\n", self.path);
        stream.write_all(request.as_bytes()).during("an HTTP request")?;
        let mut input = vec![0; 256 * 1024];
        let (mut filled, mut expected) = (0, None::<&[u8]>);
        loop {
            let room = input.get_mut(filled..).unwrap_or_default();
            let length = stream.read(room).during(&self.path)?;
            ensure(length > 0, || format!("{}: the server closed", self.path))?;
            filled += length;
            let came = input.get(..filled).unwrap_or_default();
            let (rest, body) = match expected {
                Some(rest) => (rest, came),
                None => {
                    let Some(end) = came.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                        continue;
                    };
                    let head = String::from_utf8_lossy(came.get(..end).unwrap_or_default());
                    let said = format!("Content-Length: {}", self.content.len());
                    let is_whole = head.starts_with("HTTP/1.1 200") && head.contains(&said);
                    ensure(is_whole, || format!("{}: {head}", self.path))?;
                    (self.content, came.get(end + 4..).unwrap_or_default())
                }
            };
            let is_right = rest.get(..body.len()).is_some_and(|wanted| wanted == body);
            ensure(is_right, || format!("{}: other bytes than the file's", self.path))?;
            let rest = rest.get(body.len()..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            (expected, filled) = (Some(rest), 0);
        }
    }
}

/// How long each measurement takes at least: no download begins later.
const DURATION: Duration = Duration::from_millis(400);
const MAC: &str = "52:54:00:77:00:02";
