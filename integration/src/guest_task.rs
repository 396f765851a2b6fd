//! Tasks for a guest with ZFS: a script and its files go into the guest on a disk, and the script's
//! log and exit status come back on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::debian::Debian;
use crate::failure::{During, Failure, ensure};
use crate::guest::Marker;
use crate::interrupt::wait_for;
use crate::net::Network;
use crate::process::{Program, last_lines};
use crate::shell::Shell;
use crate::vm::{Computer, Disk, Machine, line};

/// A script for a guest with ZFS, and the guest that runs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestTask<'a> {
    /// The guest's name: of its tap and of its files; at most 15 bytes.
    pub(crate) name: &'a str,
    /// The guest's Ethernet address.
    pub(crate) mac: &'a str,
    /// Its memory in MiB.
    pub(crate) memory: u32,
    /// How many processors it has.
    pub(crate) processors: u8,
    /// A shell script; it runs in `/lab`, where `files` are, with the module loaded.
    pub(crate) script: &'a str,
    /// Files for it by name: programs above all.
    pub(crate) files: &'a [(&'a str, &'a Path)],
    /// How much room `/dev/vdc1` has, in MiB: a partition that is empty at first.
    pub(crate) pool: u64,
}

/// A guest that runs a task; it is switched off when dropped.
#[derive(Debug)]
pub(crate) struct RunningTask {
    machine: Machine,
    name: String,
    directory: PathBuf,
}

impl GuestTask<'_> {
    /// Starts the guest; its disks and logs go into `directory`.
    pub(crate) fn start(
        &self,
        network: &Network,
        directory: &Path,
        debian: &Debian,
    ) -> Result<RunningTask, Failure> {
        let (task, pool) = (self.task_disk(directory)?, self.pool_disk(directory)?);
        let computer = Computer {
            name: self.name,
            mac: self.mac,
            memory: self.memory,
            processors: self.processors,
            kernel: &debian.kernel,
            initrd: &debian.initrd,
            disks: &[Disk::Shared(&debian.image), Disk::Own(&task), Disk::Own(&pool)],
        };
        let machine = Machine::start_kernel(network, directory, &computer)?;
        Ok(RunningTask { machine, name: self.name.to_owned(), directory: directory.to_owned() })
    }

    /// Makes the disk with the script and its files.
    fn task_disk(&self, directory: &Path) -> Result<PathBuf, Failure> {
        let files = directory.join(format!("{}.files", self.name));
        fs::create_dir(&files).during(files.display())?;
        for (name, file) in self.files {
            fs::copy(file, files.join(name)).during(file.display())?;
        }
        fs::write(files.join("task"), self.script).during(files.display())?;
        let disk = task_disk_path(directory, self.name);
        Program::new("mke2fs")
            .words("-q -t ext4 -O ^has_journal -m 0 -d")
            .args([&files, &disk])
            .arg("2G")
            .run(Duration::from_secs(300))?;
        fs::remove_dir_all(&files).during(files.display())?;
        Ok(disk)
    }

    /// Makes the disk for a pool. `zpool create` waits half a minute for udev on a disk without
    /// partitions, and there is no udev in the guest.
    fn pool_disk(&self, directory: &Path) -> Result<PathBuf, Failure> {
        let disk = directory.join(format!("{}.pool", self.name));
        let file = File::create(&disk).during(disk.display())?;
        // One MiB before the partition, and one behind it.
        file.set_len((self.pool + 2) << 20).during(disk.display())?;
        let size = self.pool;
        Program::new("sh")
            .args(["-euc", "echo \"1MiB,$1MiB\" | sfdisk --quiet --label dos \"$2\"", "sfdisk"])
            .arg(size.to_string())
            .arg(&disk)
            .run(Duration::from_secs(300))?;
        Ok(disk)
    }
}

impl RunningTask {
    /// The shell of a guest whose script is [`SHELL`](crate::shell::SHELL), once it is there.
    pub(crate) fn shell(&mut self, limit: Duration) -> Result<Shell, Failure> {
        wait_for("the guest's shell", limit, || {
            self.machine.still_on()?;
            let said = self.machine.said();
            Ok(said.lines().any(|line| line.trim_end() == "lab: shell").then_some(()))
        })
        .map_err(|failure| self.machine.explain(failure))?;
        Shell::at(&line(&self.directory, &self.name))
    }

    /// Does what the guest asks for, in lines that begin with `lab: `, until it switches itself
    /// off, and reads its output. Fails if the guest is still on after `limit`.
    pub(crate) fn serve(
        mut self,
        limit: Duration,
        mut request: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<TaskOutput, Failure> {
        let mut served = 0;
        let ended = wait_for("the end of the task", limit, || {
            let off = self.machine.is_off()?;
            let said = self.machine.said();
            // A line without its end may grow yet.
            let lines = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let requests = lines.filter_map(|line| line.strip_prefix("lab: "));
            for words in requests.skip(served) {
                served += 1;
                request(words.trim_end())?;
            }
            Ok(off.then_some(()))
        });
        ended.map_err(|failure| self.machine.explain(failure))?;
        self.wait(limit)
    }

    /// Waits until the guest switches itself off, and reads its output. Fails if the guest is still
    /// on after `limit`.
    pub(crate) fn wait(mut self, limit: Duration) -> Result<TaskOutput, Failure> {
        self.machine.wait_until_off(limit).map_err(|failure| self.machine.explain(failure))?;
        let output = self.directory.join(format!("{}.output", self.name));
        fs::create_dir_all(output.join("lab")).during(output.display())?;
        let disk = task_disk_path(&self.directory, &self.name);
        for file in ["marker", "log"] {
            let to = output.join("lab").join(file);
            Program::new("debugfs")
                .arg("-R")
                .arg(format!("dump {file} {}", to.display()))
                .arg(&disk)
                .run(Duration::from_secs(60))?;
        }
        let marker = Marker::read(&output).map_err(|failure| self.machine.explain(failure))?;
        let log = output.join("lab/log");
        let log = String::from_utf8_lossy(&fs::read(&log).during(log.display())?).into_owned();
        Ok(TaskOutput { status: marker.field("task").to_owned(), log })
    }
}

/// The result of a task.
#[derive(Clone, Debug)]
pub(crate) struct TaskOutput {
    /// How the script ended; `0` if it succeeded.
    pub(crate) status: String,
    /// What it wrote.
    pub(crate) log: String,
}

impl TaskOutput {
    /// What the script wrote, if it succeeded.
    pub(crate) fn success(self) -> Result<String, Failure> {
        let Self { status, log } = self;
        ensure(status == "0", || {
            format!("in the guest: status {status:?}: {}", last_lines(&log, 60))
        })?;
        Ok(log)
    }
}

fn task_disk_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.disk"))
}
