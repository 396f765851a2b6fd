//! Tasks for a guest with ZFS: a script and its files go into the guest on a disk, and the script's
//! log and exit status come back on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::debian::Debian;
use crate::failure::{During, Failure, ensure};
use crate::guest::Marker;
use crate::interrupt::wait_for;
use crate::lab::Lab;
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

/// A guest with nothing to do. It has one processor: with two, what they tell each other and a slower clock
/// take a third of both.
pub(crate) const PLAIN: GuestTask<'static> = GuestTask {
    name: "zfs",
    mac: "52:54:00:77:02:01",
    memory: 2048,
    processors: 1,
    script: "true",
    files: &[],
    pool: 2048,
};

/// Runs a task in a guest, with files and logs in a directory of this name.
pub(crate) fn run_in_guest(
    lab: &Lab,
    name: &str,
    task: &GuestTask<'_>,
    limit: Duration,
) -> Result<TaskOutput, Failure> {
    let debian = Debian::get(&lab.cache)?;
    let directory = lab.directory(name)?;
    let network = Network::new()?;
    task.start(&network, &directory, &debian)?.wait(limit)
}

/// A guest that runs a task; it is switched off when dropped.
#[derive(Debug)]
pub(crate) struct RunningTask<'a> {
    machine: Machine,
    task: GuestTask<'a>,
    network: &'a Network,
    debian: Debian,
    directory: PathBuf,
}

impl<'a> GuestTask<'a> {
    /// Starts the guest; its disks and logs go into `directory`.
    pub(crate) fn start(
        &self,
        network: &'a Network,
        directory: &Path,
        debian: &Debian,
    ) -> Result<RunningTask<'a>, Failure> {
        self.make_task_disk(directory)?;
        self.make_pool_disk(directory)?;
        let machine = self.switch_on(network, directory, debian, Machine::start_kernel)?;
        let (directory, debian) = (directory.to_owned(), debian.clone());
        Ok(RunningTask { machine, task: *self, network, debian, directory })
    }

    fn switch_on(
        &self,
        network: &Network,
        directory: &Path,
        debian: &Debian,
        start: fn(&Network, &Path, &Computer<'_>) -> Result<Machine, Failure>,
    ) -> Result<Machine, Failure> {
        let (task, pool) = (task_disk(directory, self.name), pool_disk(directory, self.name));
        let computer = Computer {
            name: self.name,
            mac: self.mac,
            memory: self.memory,
            processors: self.processors,
            kernel: &debian.kernel,
            initrd: &debian.initrd,
            disks: &[Disk::Shared(&debian.image), Disk::Own(&task), Disk::Own(&pool)],
        };
        start(network, directory, &computer)
    }

    /// Makes the disk with the script and its files.
    fn make_task_disk(&self, directory: &Path) -> Result<(), Failure> {
        let files = directory.join(format!("{}.files", self.name));
        fs::create_dir(&files).during(files.display())?;
        for (name, file) in self.files {
            fs::copy(file, files.join(name)).during(file.display())?;
        }
        fs::write(files.join("task"), self.script).during(files.display())?;
        Program::new("mke2fs")
            .words("-q -t ext4 -O ^has_journal -m 0 -d")
            .args([&files, &task_disk(directory, self.name)])
            .arg("2G")
            .run(Duration::from_secs(300))?;
        fs::remove_dir_all(&files).during(files.display())
    }

    /// Makes the disk for a pool. `zpool create` waits half a minute for udev on a disk without
    /// partitions, and there is no udev in the guest.
    fn make_pool_disk(&self, directory: &Path) -> Result<(), Failure> {
        let disk = pool_disk(directory, self.name);
        let file = File::create(&disk).during(disk.display())?;
        // One MiB before the partition, and one behind it.
        file.set_len((self.pool + 2) << 20).during(disk.display())?;
        let size = self.pool;
        Program::new("sh")
            .args(["-euc", "echo \"1MiB,$1MiB\" | sfdisk --quiet --label dos \"$2\"", "sfdisk"])
            .arg(size.to_string())
            .arg(&disk)
            .run(Duration::from_secs(300))
            .map(drop)
    }
}

impl RunningTask<'_> {
    /// The shell of a guest whose script is [`SHELL`](crate::shell::SHELL), once it is there.
    pub(crate) fn shell(&mut self, limit: Duration) -> Result<Shell, Failure> {
        let line = line(&self.directory, self.task.name);
        let there = wait_for("the guest's serial line", limit, || {
            self.machine.still_on()?;
            // QEMU makes the socket when it starts.
            Ok(Shell::at(&line).ok())
        });
        let mut shell = there.map_err(|failure| self.machine.explain(failure))?;
        let answered = wait_for("the guest's shell", limit, || {
            self.machine.still_on()?;
            Ok(shell.answers()?.then_some(()))
        });
        answered.map_err(|failure| self.machine.explain(failure))?;
        Ok(shell)
    }

    /// Has the guest begin anew, and gives its shell then: its disks are as they were, what it had mounted
    /// or changed of its root is gone.
    pub(crate) fn reboot(&mut self, mut shell: Shell, limit: Duration) -> Result<Shell, Failure> {
        shell.reboot()?;
        // QEMU ends where a computer would begin anew.
        self.machine.wait_until_off(limit).map_err(|failure| self.machine.explain(failure))?;
        drop(shell);
        let start = Machine::start_kernel_again;
        self.machine = self.task.switch_on(self.network, &self.directory, &self.debian, start)?;
        self.shell(limit)
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
        let output = self.directory.join(format!("{}.output", self.task.name));
        fs::create_dir_all(output.join("lab")).during(output.display())?;
        let disk = task_disk(&self.directory, self.task.name);
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

fn task_disk(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.disk"))
}

fn pool_disk(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.pool"))
}
