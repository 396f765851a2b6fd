//! Other people's programs use a running netbe.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use crate::dhcp_client::{self, Kind};
use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::{CLIENT_INTERFACE, SERVER};
use crate::packages;
use crate::process::Program;
use crate::scene::Scene;
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    Case::new("client libnfs", |lab| serve(lab, libnfs)).light(),
    Case::new("client rpcinfo", |lab| serve(lab, rpcinfo)).light(),
    Case::new("client showmount", |lab| serve(lab, showmount)).light(),
    Case::new("client udhcpc", |lab| serve(lab, udhcpc)).light(),
    Case::new("client dhclient", |lab| serve(lab, dhclient)).light(),
    Case::new("client curl HTTP", |lab| serve(lab, curl_http)).light(),
    Case::new("client curl TFTP", |lab| serve(lab, curl_tftp)).light(),
    Case::new("client atftp", |lab| serve(lab, atftp)).light(),
];

/// A client program, on the clients' side of the network.
fn client(scene: &Scene<'_>, name: &str) -> Program {
    scene.network.client.program(name)
}

/// A client program of a Debian package that is not installed, because it has services too.
fn unpacked(scene: &Scene<'_>, package: &str, program: &str) -> Result<Program, Failure> {
    let program = packages::unpacked(&scene.lab.cache, package)?.join(program);
    Ok(client(scene, &program.display().to_string()))
}

fn leased(scene: &Scene<'_>, kind: Kind) -> Result<dhcp_client::Lease, Failure> {
    dhcp_client::lease(&scene.network.client, &scene.directory, scene.lab.parts()?, kind)
}

/// Runs a client against a server that shares one boot environment; checks all that was said.
fn serve(lab: &Lab, test: fn(&Scene<'_>) -> Result<(), Failure>) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    scene.environment("guest", "true")?;
    site.run("sharenfs --maproot root --network 10.77.0.0/24 guest")?;
    site.run(&format!("machine add --mac {CLIENT_MAC} client"))?;
    site.run("sharepxe --machine client guest")?;
    scene.network.client.ip(&format!("link set {CLIENT_INTERFACE} address {CLIENT_MAC}"))?;
    let capture = scene.capture("")?;
    let mut server = site.serve()?;
    test(&scene)?;
    server.check()?;
    server.stop()?;
    capture.check()?;
    Ok(Outcome::Passed)
}

fn libnfs(scene: &Scene<'_>) -> Result<(), Failure> {
    scene.network.address_the_client()?;
    let url = format!("nfs://{SERVER}/be/guest");
    let list = client(scene, "nfs-ls").arg(&url).run(LIMIT)?;
    ensure(list.lines().any(|line| line.ends_with(" boot")), || {
        format!("nfs-ls does not list the directory boot:\n{list}")
    })?;
    let task = client(scene, "nfs-cat").arg(format!("{url}/lab/task")).run(LIMIT)?;
    ensure(task == "true", || format!("nfs-cat read {task:?} instead of the file's words"))?;
    let kernel = scene.lab.parts()?.kernel();
    let copy = format!("{url}/lab/copy");
    client(scene, "nfs-cp").arg(kernel).arg(&copy).run(LIMIT)?;
    same(&scene.site().root("guest").join("lab/copy"), kernel)?;
    let back = scene.directory.join("back");
    client(scene, "nfs-cp").arg(&copy).arg(&back).run(LIMIT)?;
    same(&back, kernel)
}

fn rpcinfo(scene: &Scene<'_>) -> Result<(), Failure> {
    scene.network.address_the_client()?;
    let rpcinfo = || unpacked(scene, "rpcbind", "usr/sbin/rpcinfo");
    let list = rpcinfo()?.args(["-p", SERVER]).run(LIMIT)?;
    for program in ["100000 2", "100003 3", "100005 3", "100021 4", "100021 1"] {
        for transport in ["tcp", "udp"] {
            let wanted: Vec<&str> = program.split(' ').chain([transport]).collect();
            let listed = list.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().take(3).collect();
                words == wanted
            });
            ensure(listed, || format!("rpcinfo does not list {program} by {transport}:\n{list}"))?;
            let ping = rpcinfo()?.arg(if transport == "tcp" { "-t" } else { "-u" }).arg(SERVER);
            let said = ping.words(program).run(LIMIT)?;
            ensure(said.contains("ready and waiting"), || format!("rpcinfo {program}: {said}"))?;
        }
    }
    Ok(())
}

fn showmount(scene: &Scene<'_>) -> Result<(), Failure> {
    scene.network.address_the_client()?;
    let list = unpacked(scene, "nfs-common", "sbin/showmount")?
        .args(["--no-headers", "-e", SERVER])
        .run(LIMIT)?;
    ensure(list.lines().any(|line| line.starts_with("/be/guest ")), || {
        format!("showmount does not list /be/guest: {list:?}")
    })
}

fn udhcpc(scene: &Scene<'_>) -> Result<(), Failure> {
    let lease = leased(scene, Kind::Ordinary)?;
    in_range(lease.field("ip"))?;
    ensure(lease.field("serverid") == SERVER, || format!("another server answered: {lease:?}"))?;
    let again = leased(scene, Kind::Ordinary)?;
    ensure(again.field("ip") == lease.field("ip"), || {
        format!("a second lease is another address: {again:?}")
    })
}

fn dhclient(scene: &Scene<'_>) -> Result<(), Failure> {
    let leases = scene.directory.join("dhclient.leases");
    let client = client(scene, "dhclient").args(["-d", "-1", "-sf", "/bin/true", "-cf"]);
    let client = client.arg("/dev/null").arg("-lf").arg(&leases);
    let client = client.arg("-pf").arg(scene.directory.join("dhclient.pid")).arg(CLIENT_INTERFACE);
    // In the foreground it stays, to renew the lease, until it is dropped.
    let mut running = client.start(&scene.directory.join("dhclient.log"))?;
    wait_for("dhclient's lease", Duration::from_secs(60), || {
        running.still(&scene.directory.join("dhclient.log"))?;
        let text = fs::read_to_string(&leases).unwrap_or_default();
        Ok(text.contains("fixed-address").then_some(()))
    })?;
    let text = fs::read_to_string(&leases).during(leases.display())?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_default().trim().trim_end_matches(';').to_owned()
    };
    in_range(&value("fixed-address"))?;
    let server = value("option dhcp-server-identifier");
    ensure(server == SERVER, || format!("another server answered: {server}"))
}

fn curl_http(scene: &Scene<'_>) -> Result<(), Failure> {
    let lease = leased(scene, Kind::Ipxe)?;
    let url = lease.boot_file().to_owned();
    ensure(url.starts_with(&format!("http://{SERVER}")), || {
        format!("iPXE is not told to get a script by HTTP: {lease:?}")
    })?;
    let curl = || client(scene, "curl").args(["--silent", "--show-error", "--fail"]);
    let script = curl().arg(&url).run(LIMIT)?;
    ensure(script.starts_with("#!ipxe\n"), || format!("not an iPXE script: {script}"))?;
    let mut words = script.split_whitespace();
    let link = words.find(|word| word.starts_with("http://") && word.ends_with("kernel"));
    let link = link.ok_or_else(|| Failure::said(format!("no kernel in the script:\n{script}")))?;
    let kernel = scene.lab.parts()?.kernel();
    let whole = scene.directory.join("whole");
    curl().arg("-o").arg(&whole).arg(link).run(LIMIT)?;
    same(&whole, kernel)?;
    let part = scene.directory.join("part");
    curl().args(["--range", "1000-2999", "-o"]).arg(&part).arg(link).run(LIMIT)?;
    let bytes = fs::read(kernel).during(kernel.display())?;
    let got = fs::read(&part).during(part.display())?;
    ensure(bytes.get(1000..3000) == Some(got.as_slice()), || {
        format!("a range of 2000 bytes brought {} bytes, or others", got.len())
    })?;
    let head = curl().args(["--head", link]).run(LIMIT)?.to_ascii_lowercase();
    let length = format!("content-length: {}", bytes.len());
    ensure(head.contains(&length), || format!("HEAD does not say {length}:\n{head}"))?;
    let missing = client(scene, "curl").args(["--silent", "--output", "/dev/null"]);
    let code = missing.args(["--write-out", "%{http_code}"]);
    let code = code.arg(format!("http://{SERVER}/b/no-such-boot/kernel")).run(LIMIT)?;
    ensure(code == "404", || format!("a file that is not there is answered with {code}"))
}

fn curl_tftp(scene: &Scene<'_>) -> Result<(), Failure> {
    let name = tftp_name(scene)?;
    for block in ["512", "1428"] {
        let copy = scene.directory.join(format!("curl-{block}"));
        let curl =
            client(scene, "curl").args(["--silent", "--show-error", "--tftp-blksize", block]);
        curl.arg("-o").arg(&copy).arg(format!("tftp://{SERVER}/{name}")).run(LIMIT)?;
        same(&copy, Path::new(UNDIONLY))?;
    }
    let missing =
        client(scene, "curl").args(["--silent", "-o"]).arg(scene.directory.join("missing"));
    let missing = missing.arg(format!("tftp://{SERVER}/no-such-file")).finish(LIMIT)?;
    // curl(1): 68, file not found on the TFTP server.
    ensure(missing.status.code() == Some(68), || {
        format!("a file that is not there ends curl with {}", missing.status)
    })
}

fn atftp(scene: &Scene<'_>) -> Result<(), Failure> {
    let name = tftp_name(scene)?;
    for options in [
        &["tsize enable"][..],
        &["blksize 1432", "windowsize 4"][..],
        &["blksize 8192", "timeout 2"][..],
    ] {
        let copy = scene.directory.join("atftp");
        let mut client = client(scene, "atftp");
        for option in options {
            client = client.args(["--option", option]);
        }
        client = client.args(["--get", "-r", &name, "-l"]).arg(&copy).args([SERVER, "69"]);
        client.run(LIMIT)?;
        same(&copy, Path::new(UNDIONLY))?;
        fs::remove_file(&copy).during(copy.display())?;
    }
    Ok(())
}

/// The name of the boot file that a PXE ROM on BIOS is told.
fn tftp_name(scene: &Scene<'_>) -> Result<String, Failure> {
    let lease = leased(scene, Kind::Pxe)?;
    let name = lease.boot_file().to_owned();
    ensure(name.ends_with("undionly.kpxe"), || {
        format!("a PXE ROM on BIOS is not told to load undionly.kpxe: {lease:?}")
    })?;
    Ok(name)
}

/// Fails unless both files have the same content.
fn same(found: &Path, wanted: &Path) -> Result<(), Failure> {
    let equal =
        fs::read(found).during(found.display())? == fs::read(wanted).during(wanted.display())?;
    ensure(equal, || format!("{} is not what {} is", found.display(), wanted.display()))
}

/// Fails unless this is one of the addresses that the server may give.
fn in_range(address: &str) -> Result<(), Failure> {
    let parsed: Option<Ipv4Addr> = address.parse().ok();
    let fits = parsed.is_some_and(|address| {
        (Ipv4Addr::new(10, 77, 0, 50)..=Ipv4Addr::new(10, 77, 0, 99)).contains(&address)
    });
    ensure(fits, || format!("{address:?} is not an address of the range"))
}

const CLIENT_MAC: &str = "52:54:00:77:00:10";
const UNDIONLY: &str = "/usr/lib/ipxe/undionly.kpxe";
const LIMIT: Duration = Duration::from_secs(60);
