//! Debian packages: what the lab installs on the host, and what it only unpacks into its cache.
//!
//! Programs whose packages start services when they are installed are unpacked, never installed, so
//! that nothing new runs on the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use crate::cache::Cache;
use crate::failure::{During, Failure, ensure};
use crate::process::Program;
use crate::progress;

/// What a part of the lab needs to be installed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs(&'static [&'static str]);

/// For machines: QEMU, its firmware and its loaders, and tools to make and watch a guest.
pub(crate) const MACHINES: Needs = Needs(&[
    "qemu-system-x86",
    "ipxe-qemu",
    "ipxe",
    "ovmf",
    "seabios",
    "pxelinux",
    "syslinux-common",
    "grub-common",
    "grub-pc-bin",
    "kmod",
    "lz4",
    "iproute2",
    "util-linux",
    "dnsmasq-base",
]);

/// For a guest that is a whole Debian: what makes its disks, and what finds its library of ZFS.
pub(crate) const DEBIAN: Needs = Needs(&["mmdebstrap", "e2fsprogs", "fdisk", "pkg-config"]);

/// For netbe's own package: what finds out which libraries it needs.
pub(crate) const PACKAGING: Needs = Needs(&["dpkg-dev", "binutils", "xz-utils"]);

/// For whoever logs in to a machine.
pub(crate) const SSH: Needs = Needs(&["openssh-client"]);

/// For what the Python Package Index has.
pub(crate) const PIP: Needs = Needs(&["python3-pip"]);

/// For tests: client programs, other servers, and readers of captures.
pub(crate) const TESTS: Needs = Needs(&[
    "tcpdump",
    "tshark",
    "libnfs-utils",
    // These two for rpcbind and rpcinfo, which are only unpacked.
    "libtirpc3",
    "libwrap0",
    "curl",
    "atftp",
    "isc-dhcp-client",
    "udhcpc",
    "cpio",
    "xz-utils",
    "mandoc",
    "btrfs-progs",
    "attr",
    "strace",
    "systemd-container",
]);

/// For what netbe writes for libvirt: what compares it with libvirt's schemas, which are only unpacked.
pub(crate) const SCHEMAS: Needs = Needs(&["libxml2-utils"]);

/// For boots from other NFS servers; they have services, see [`starts_services`].
pub(crate) const PEERS: Needs = Needs(&["nfs-ganesha", "nfs-ganesha-vfs", "rpcbind"]);

/// For Kea and its load generator, which are only unpacked.
pub(crate) const KEA_LIBRARIES: Needs =
    Needs(&["liblog4cplus-2.0.5", "libmariadb3", "libpq5", "libssl3"]);

/// Programs of Kea, which is only unpacked because its packages have services.
#[derive(Debug)]
pub(crate) struct Kea {
    libraries: PathBuf,
}

impl Kea {
    /// Kea's libraries, unpacked.
    pub(crate) fn unpacked(cache: &Cache) -> Result<Self, Failure> {
        let common = unpacked(cache, "kea-common")?.join("usr/lib");
        let libraries = fs::read_dir(&common).during(common.display())?.filter_map(Result::ok);
        // Below a directory of the processor's name.
        let libraries = libraries.map(|entry| entry.path()).find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-linux-gnu"))
        });
        let libraries = libraries.ok_or_else(|| Failure::said("kea-common has no libraries"))?;
        Ok(Self { libraries })
    }

    /// A program of Kea that finds its libraries.
    pub(crate) fn program(&self, program: Program) -> Program {
        program.env("LD_LIBRARY_PATH", &self.libraries)
    }
}

/// For atftpd, which is only unpacked.
pub(crate) const ATFTPD_LIBRARIES: Needs = Needs(&["libpcre2-8-0", "libwrap0"]);

/// For nginx, which is only unpacked.
pub(crate) const NGINX_LIBRARIES: Needs =
    Needs(&["libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g", "curl"]);

/// Installs what is missing of these, and says aloud what.
pub(crate) fn install(needs: &[Needs]) -> Result<(), Failure> {
    ensure(nix::unistd::geteuid().is_root(), || {
        "the lab makes network namespaces and installs packages: run it as root".to_owned()
    })?;
    let wanted: Vec<&str> = needs.iter().flat_map(|needs| needs.0).copied().collect();
    let missing = not_installed(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let _lock = Cache::open()?.lock(APT)?;
    // Whoever had the lock may have installed them.
    let missing = not_installed(missing);
    if missing.is_empty() {
        return Ok(());
    }
    let step = progress::step(&format!("installing Debian packages: {}", missing.join(" ")));
    update_alone()?;
    Program::new("apt-get")
        .words("install -y -q --no-install-recommends")
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Maintainer scripts start no service in the single-user runlevel.
        .env("RUNLEVEL", "1")
        .run(Duration::from_secs(1800))?;
    step.done("installed");
    Ok(())
}

/// Whether a package with a service would start it on this host: systemd does, containers do not.
pub(crate) fn starts_services() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// Whether a package is installed.
pub(crate) fn is_installed(package: &str) -> bool {
    not_installed(vec![package]).is_empty()
}

/// Those of these packages that are not installed; dpkg is asked once.
fn not_installed(mut packages: Vec<&str>) -> Vec<&str> {
    let query = Program::new("dpkg-query").args(["-W", "-f", "${Package} ${db:Status-Status}\n"]);
    // It fails when it does not know one of them, and tells of the others.
    let known = query.args(&packages).finish(Duration::from_secs(60));
    let known = known.map(|done| done.stdout).unwrap_or_default();
    let installed = |package: &str| {
        known.lines().any(|line| line.split_once(' ') == Some((package, "installed")))
    };
    packages.retain(|package| !installed(package));
    packages
}

/// A kernel, unpacked.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// Its release, as `uname -r` tells it.
    pub(crate) version: String,
    /// The kernel itself.
    pub(crate) image: PathBuf,
    root: PathBuf,
}

impl Kernel {
    /// The directory of its modules, with `modules.dep` made.
    pub(crate) fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.version)
    }
}

/// Debian's newest cloud kernel, from the cache or downloaded.
pub(crate) fn kernel(cache: &Cache) -> Result<Kernel, Failure> {
    kernel_of(cache, CLOUD_KERNEL)
}

/// Debian's newest kernel for all hardware, which has 9P.
pub(crate) fn full_kernel(cache: &Cache) -> Result<Kernel, Failure> {
    kernel_of(cache, FULL_KERNEL)
}

fn kernel_of(cache: &Cache, newest: &str) -> Result<Kernel, Failure> {
    let depends = || -> Result<Option<String>, Failure> {
        let query = Program::new("apt-cache").args(["depends", "--important", newest]);
        let text = query.finish(Duration::from_secs(120))?.stdout;
        let mut needs = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(needs.find(|package| package.starts_with("linux-image-")).map(str::to_owned))
    };
    let package = match told_by_apt(cache, newest, depends)? {
        Some(package) => package,
        None => {
            update(cache)?;
            depends()?.ok_or_else(|| Failure::said(format!("apt knows no {newest}")))?
        }
    };
    let root = unpacked(cache, &package)?;
    let version = package.trim_start_matches("linux-image-").to_owned();
    let image = root.join("boot").join(format!("vmlinuz-{version}"));
    let kernel = Kernel { version, image, root };
    if !kernel.modules().join("modules.dep").exists() {
        Program::new("depmod")
            .arg("-b")
            .arg(&kernel.root)
            .arg(&kernel.version)
            .run(Duration::from_secs(120))?;
    }
    Ok(kernel)
}

/// The directory into which a package was unpacked, now or before; it is not installed.
pub(crate) fn unpacked(cache: &Cache, package: &str) -> Result<PathBuf, Failure> {
    let uri = || {
        Program::new("apt-get")
            .args(["--print-uris", "download", package])
            .finish(Duration::from_secs(120))
            .map(|done| done.stdout.split_whitespace().nth(1).map(str::to_owned))
    };
    let file = match told_by_apt(cache, package, uri)? {
        Some(file) => file,
        None => {
            // What apt cannot tell now, without a network or beside another apt, it has told before.
            if let Some(entry) = cache.find(&format!("{package}_")) {
                return Ok(entry);
            }
            update(cache)?;
            uri()?.ok_or_else(|| Failure::said(format!("apt knows no package {package}")))?
        }
    };
    let entry = file.trim_end_matches(".deb").replace(['/', '%'], "_");
    cache.entry(&entry, |directory| {
        let step = progress::step(&format!("fetching {file} (unpacked, not installed)"));
        download(directory, package, None)?;
        step.done("unpacked");
        Ok(())
    })
}

/// What apt tells of a package, asked once as long as its lists stay what they are: each question takes it
/// more than a second of a processor, and every test has several.
fn told_by_apt(
    cache: &Cache,
    package: &str,
    ask: impl Fn() -> Result<Option<String>, Failure>,
) -> Result<Option<String>, Failure> {
    let lists = fs::metadata(APT_LISTS).and_then(|status| status.modified());
    let Ok(lists) = lists.map(|time| format!("{time:?}")) else { return ask() };
    let place = cache.directory().join(TOLD);
    let file = place.join(package);
    let known = fs::read_to_string(&file).unwrap_or_default();
    if let Some(answer) = known.strip_prefix(&format!("{lists}\n")) {
        return Ok(Some(answer.to_owned()));
    }
    let answer = ask()?;
    if let Some(answer) = &answer {
        fs::create_dir_all(&place).during(place.display())?;
        let new = place.join(format!("{package}.{}", process::id()));
        fs::write(&new, format!("{lists}\n{answer}")).during(new.display())?;
        fs::rename(&new, &file).during(file.display())?;
    }
    Ok(answer)
}

/// Downloads a package, as `apt-get` with the configuration file `config` knows it, and unpacks it
/// into `directory`.
pub(crate) fn download(
    directory: &Path,
    package: &str,
    config: Option<&Path>,
) -> Result<(), Failure> {
    let mut apt = Program::new("apt-get")
        .words("-q -o APT::Sandbox::User=root download")
        .arg(package)
        .directory(directory);
    if let Some(config) = config {
        apt = apt.env("APT_CONFIG", config);
    }
    apt.run(Duration::from_secs(900))?;
    for found in fs::read_dir(directory).during(directory.display())? {
        let path = found.during(directory.display())?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let unpack = Program::new("dpkg").arg("-x").arg(&path).arg(directory);
            unpack.run(Duration::from_secs(300))?;
            fs::remove_file(&path).during(path.display())?;
        }
    }
    Ok(())
}

/// The directory into which a package of another release of Debian was unpacked, now or before.
pub(crate) fn unpacked_of(cache: &Cache, release: &str, package: &str) -> Result<PathBuf, Failure> {
    cache.entry(&format!("{package}_{release}"), |directory| {
        let step = progress::step(&format!("fetching {package} of {release} (unpacked)"));
        let config = lists(directory, release)?;
        download(directory, package, Some(&config))?;
        forget_lists(directory)?;
        step.done("unpacked");
        Ok(())
    })
}

/// Fetches the package lists of another release of Debian, beside those of the host, into a directory
/// below `directory`; gives the configuration with which `apt-get` uses them.
pub(crate) fn lists(directory: &Path, release: &str) -> Result<PathBuf, Failure> {
    let apt = directory.join(LISTS);
    for part in ["lists/partial", "cache/archives/partial", "parts"] {
        fs::create_dir_all(apt.join(part)).during(apt.display())?;
    }
    let config = apt.join("apt.conf");
    // Debian 12 has the key of the archive that signs newer releases.
    let source = format!(
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
         http://deb.debian.org/debian {release} main\n"
    );
    fs::write(apt.join("sources.list"), source).during(config.display())?;
    fs::write(apt.join("status"), "").during(config.display())?;
    let at = |part: &str| apt.join(part).display().to_string();
    let text = format!(
        "Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"{}\";\n\
         Dir::State::lists \"{}\";\nDir::State::status \"{}\";\nDir::Cache \"{}\";\n\
         APT::Sandbox::User \"root\";\nAPT::Architecture \"amd64\";\n",
        at("sources.list"),
        at("parts"),
        at("lists"),
        at("status"),
        at("cache")
    );
    fs::write(&config, text).during(config.display())?;
    let update = Program::new("apt-get").words("update -q").env("APT_CONFIG", &config);
    update.run(Duration::from_secs(600))?;
    Ok(config)
}

/// Removes what [`lists`] fetched.
pub(crate) fn forget_lists(directory: &Path) -> Result<(), Failure> {
    fs::remove_dir_all(directory.join(LISTS)).during("removing package lists")
}

fn update(cache: &Cache) -> Result<(), Failure> {
    let _lock = cache.lock(APT)?;
    update_alone()
}

/// The same for whoever has the lock.
fn update_alone() -> Result<(), Failure> {
    let update = Program::new("apt-get").words("update -q").run(Duration::from_secs(600));
    update.map(|_words| ())
}

/// The package that always depends on Debian's newest kernel for virtual machines.
const CLOUD_KERNEL: &str = "linux-image-cloud-amd64";
const FULL_KERNEL: &str = "linux-image-amd64";
/// The lock of whoever changes what apt knows, or what is installed: apt does not wait for another.
const APT: &str = "apt";
/// Where apt has its lists; the directory changes with each of them.
const APT_LISTS: &str = "/var/lib/apt/lists";
/// The directory in the cache of what apt told.
const TOLD: &str = "told-by-apt";
/// The directory of fetched package lists.
const LISTS: &str = "apt";
