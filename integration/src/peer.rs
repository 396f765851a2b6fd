//! Other servers that do together what netbe does: dnsmasq for DHCP and TFTP, busybox for HTTP and
//! NFS-Ganesha for NFS. A test that passes with them too tests the protocols, not our reading.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::failure::{During, Failure};
use crate::guest::Parts;
use crate::interrupt::wait_for;
use crate::net::{BRIDGE, CLIENT_INTERFACE, Namespace, Network, SERVER};
use crate::process::{Running, tail};

/// The three servers, running.
#[derive(Debug)]
pub(crate) struct Peers {
    _running: [Running; 3],
}

impl Peers {
    /// Serves the root at `root` to every machine; files and logs go into `directory`.
    pub(crate) fn start(
        network: &Network,
        directory: &Path,
        parts: &Parts,
        root: &Path,
    ) -> Result<Self, Failure> {
        let files = directory.join("files");
        let what = "making the files of the other servers";
        fs::create_dir_all(&files).during(what)?;
        for loader in ["undionly.kpxe", "snponly.efi"] {
            fs::copy(Path::new("/usr/lib/ipxe").join(loader), files.join(loader)).during(what)?;
        }
        fs::copy(parts.kernel(), files.join("vmlinuz")).during(what)?;
        fs::copy(parts.initrd(), files.join("initrd.img")).during(what)?;
        let script = format!(
            "#!ipxe\nkernel http://{SERVER}/vmlinuz initrd=initrd.img console=ttyS0 rw \
             nfsroot={SERVER}:{},vers=3,tcp,nolock,port=2049,mountport={MOUNT_PORT}\n\
             initrd http://{SERVER}/initrd.img\nboot\n",
            root.display()
        );
        fs::write(files.join("boot.ipxe"), script).during(what)?;
        let mut running = [
            dnsmasq(
                &network.server,
                BRIDGE,
                directory,
                &["--enable-tftp", &format!("--tftp-root={}", files.display())],
            )?,
            network
                .server
                .program(&parts.busybox().display().to_string())
                .words("httpd -f -p 80 -h")
                .arg(&files)
                .start(&directory.join("httpd.log"))?,
            ganesha(network, directory, root)?,
        ];
        let logs = ["dnsmasq.log", "httpd.log", "ganesha.log"];
        for (server, log) in running.iter_mut().zip(logs) {
            server.still(&directory.join(log))?;
        }
        Ok(Self { _running: running })
    }
}

/// Starts NFS-Ganesha with the directory `root` as its only export, and waits until it serves.
///
/// The process that this gives has Ganesha and its portmapper as children.
pub(crate) fn ganesha(
    network: &Network,
    directory: &Path,
    root: &Path,
) -> Result<Running, Failure> {
    let configuration = directory.join("ganesha.conf");
    fs::write(&configuration, ganesha_configuration(root)).during(configuration.display())?;
    let log = directory.join("ganesha.log");
    let mut running = network
        .server
        .program("unshare")
        .words("--mount --pid --fork --kill-child sh -c")
        .arg(include_str!("../peer/ganesha.sh"))
        .arg("ganesha")
        .arg(&configuration)
        .start(&log)?;
    wait_for("NFS-Ganesha's start", Duration::from_secs(60), || {
        running.still(&log)?;
        Ok(tail(&log, 100).contains("NFS SERVER INITIALIZED").then_some(()))
    })?;
    Ok(running)
}

/// Starts dnsmasq as a DHCP server for network boot.
pub(crate) fn dnsmasq(
    namespace: &Namespace,
    interface: &str,
    directory: &Path,
    more: &[&str],
) -> Result<Running, Failure> {
    let script = format!("--dhcp-boot=tag:ipxe,http://{SERVER}/boot.ipxe");
    let boot = [
        "--dhcp-match=set:ipxe,175",
        "--dhcp-match=set:uefi,option:client-arch,7",
        &script,
        "--dhcp-boot=tag:uefi,tag:!ipxe,snponly.efi",
        "--dhcp-boot=tag:!uefi,tag:!ipxe,undionly.kpxe",
    ];
    plain_dnsmasq(namespace, interface, directory, &[&boot, more].concat())
}

/// Starts dnsmasq as a DHCP server that gives addresses and knows nothing of network boot.
pub(crate) fn plain_dnsmasq(
    namespace: &Namespace,
    interface: &str,
    directory: &Path,
    more: &[&str],
) -> Result<Running, Failure> {
    namespace
        .program("dnsmasq")
        .words(
            "--no-daemon --conf-file=/dev/null --port=0 --bind-interfaces --log-dhcp --user=root",
        )
        .arg(format!("--interface={interface}"))
        .arg("--dhcp-range=10.77.0.50,10.77.0.99,255.255.255.0,5m")
        .arg(format!("--dhcp-leasefile={}", directory.join("dnsmasq.leases").display()))
        .args(more)
        .start(&directory.join("dnsmasq.log"))
}

/// Starts an IPv6 router on the clients' side of the network.
///
/// iPXE waits 13 seconds for the advertisement of one in every boot where there is none. netbe tells
/// it that there is none, which other servers do not.
pub(crate) fn ipv6_router(network: &Network, directory: &Path) -> Result<Running, Failure> {
    network.client.ip(&format!("address add fd77::1/64 dev {CLIENT_INTERFACE} nodad"))?;
    let router = network.client.program("dnsmasq");
    router
        .words("--no-daemon --conf-file=/dev/null --port=0 --user=root --enable-ra")
        .words("--dhcp-range=fd77::,ra-only --leasefile-ro")
        .arg(format!("--interface={CLIENT_INTERFACE}"))
        .start(&directory.join("router.log"))
}

fn ganesha_configuration(root: &Path) -> String {
    let root = root.display();
    format!(
        "NFS_CORE_PARAM {{ Protocols = 3; Enable_NLM = false; Enable_RQUOTA = false; \
         NFS_Port = 2049; MNT_Port = {MOUNT_PORT}; Bind_addr = {SERVER}; }}\n\
         EXPORT {{ Export_Id = 1; Path = \"{root}\"; Pseudo = \"{root}\"; Protocols = 3; \
         Access_Type = RW; Squash = No_Root_Squash; SecType = sys; FSAL {{ Name = VFS; }} }}\n"
    )
}

/// The port of Ganesha's MOUNT service; there is no portmapper beside it.
const MOUNT_PORT: u16 = 20048;
