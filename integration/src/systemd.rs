//! A whole Debian whose first process is systemd, in namespaces of its own on this host.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::Cache;
use crate::failure::{During, Failure};
use crate::interrupt::wait_for;
use crate::packages;
use crate::process::{DIES_WITH_THE_LAB, Finished, Program, Running, tail};
use crate::progress;

/// A Debian that runs; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct System {
    root: PathBuf,
    group: PathBuf,
    running: Running,
    init: String,
}

impl System {
    /// Copies a clean Debian to `root`, which is not there yet, and starts it. `Err` within is why this host
    /// cannot.
    pub(crate) fn start(cache: &Cache, root: &Path) -> Result<Result<Self, String>, Failure> {
        let find = Program::new("findmnt").words("-n -f -t cgroup2 -o TARGET").finish(MINUTE)?;
        let groups = PathBuf::from(find.stdout.trim());
        let name = root.parent().and_then(Path::file_name).unwrap_or_default();
        let group = groups.join(format!("lab-{}-{}", std::process::id(), name.to_string_lossy()));
        if !groups.is_absolute() || fs::create_dir(&group).is_err() {
            return Ok(Err("this host lets no group of processes be made (cgroups(7))".to_owned()));
        }
        Program::new("cp").arg("-a").arg(clean(cache)?).arg(root).run(5 * MINUTE)?;
        let log = root.with_extension("log");
        let start = Program::under(&DIES_WITH_THE_LAB.map(str::to_owned), "sh");
        let start = start.args(["-euc", START, "sh"]).arg(root).arg(&group);
        let mut running = start.start(&log)?;
        let children = format!("/proc/{0}/task/{0}/children", running.pid());
        let init = wait_for("the start of systemd", Duration::from_secs(60), || {
            running
                .still(&log)
                .map_err(|failure| failure.retold(|said| format!("{said}: {}", tail(&log, 5))))?;
            let children = fs::read_to_string(&children).during(&children)?;
            let Some(init) = children.split_whitespace().next() else { return Ok(None) };
            let program = fs::read_to_string(format!("/proc/{init}/comm")).unwrap_or_default();
            Ok((program.trim() == "systemd").then(|| init.to_owned()))
        })?;
        let system = Self { root: root.to_owned(), group, running, init };
        wait_for("systemd, until all is started", Duration::from_secs(120), || {
            let state = system.inside("systemctl is-system-running")?.stdout;
            Ok(["running", "degraded"].contains(&state.trim()).then_some(()))
        })?;
        Ok(Ok(system))
    }

    /// A directory of the host that is its root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Runs a line of its shell to its end, however that is.
    pub(crate) fn inside(&self, script: &str) -> Result<Finished, Failure> {
        let enter = Program::new("nsenter").arg("-t").arg(&self.init).words("-a -r -w sh -c");
        enter.arg(script).finish(3 * MINUTE)
    }

    /// The same for what has to succeed; gives what it printed.
    pub(crate) fn run(&self, script: &str) -> Result<String, Failure> {
        let done = self.inside(script)?.success();
        done.map_err(|failure| failure.retold(|said| format!("{script}: {said}")))
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.running.kill();
        // The kernel takes its time to end what was in it; the innermost groups go first.
        let remove = "for i in $(seq 100); do find \"$1\" -depth -type d -exec rmdir {} + 2>/dev/null; \
                      [ -d \"$1\" ] || exit 0; sleep 0.1; done";
        let remove = Program::new("sh").args(["-c", remove, "sh"]).arg(&self.group);
        // Nothing depends on it.
        let _ = remove.finish(MINUTE);
    }
}

/// The smallest Debian with systemd, from the cache or made.
fn clean(cache: &Cache) -> Result<PathBuf, Failure> {
    let key = cache.key(&[PACKAGES.as_bytes()]);
    let entry = cache.entry(&format!("debian-systemd-{key}"), |directory| {
        let step = progress::step("building a Debian with systemd");
        packages::install(&[packages::DEBIAN])?;
        Program::new("mmdebstrap")
            .words("--quiet --variant=minbase --mode=root --skip=output/mknod")
            .arg(format!("--include={PACKAGES}"))
            .arg("bookworm")
            .arg(directory.join("root"))
            .run(Duration::from_secs(3600))?;
        step.done("built");
        Ok(())
    })?;
    Ok(entry.join("root"))
}

const PACKAGES: &str = "systemd,systemd-sysv,iproute2,procps";
const START: &str = include_str!("../guest/systemd/start.sh");
const MINUTE: Duration = Duration::from_secs(60);
