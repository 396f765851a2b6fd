//! A file system on a disk of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A file system that is mounted from an image.
pub(crate) struct Medium {
    image: PathBuf,
    on: PathBuf,
}

/// How it is made: the words for mkfs(8).
pub(crate) struct Wanted(&'static [&'static str]);

impl Medium {
    pub(crate) const fn ext4(options: &'static [&'static str]) -> Wanted {
        Wanted(options)
    }

    pub(crate) fn on(&self) -> &Path {
        &self.on
    }

    /// The name of the block device.
    fn device(&self) -> String {
        let device = fs::metadata(&self.on).unwrap().dev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).unwrap();
        link.file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// How often the journal was committed because somebody waited for it.
    pub(crate) fn commits(&self) -> usize {
        let told = fs::read_to_string(format!("/proc/fs/jbd2/{}-8/info", self.device())).unwrap();
        told.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Bytes that were written to the disk.
    pub(crate) fn written(&self) -> u64 {
        let told = fs::read_to_string(format!("/sys/block/{}/stat", self.device())).unwrap();
        told.split_whitespace().nth(6).unwrap().parse::<u64>().unwrap() * 512
    }

    /// What debugfs(8) finds at a path on the disk, whatever the kernel has in memory.
    pub(crate) fn on_the_disk(&self, path: &str) -> Result<String, String> {
        let mut debugfs = Command::new("debugfs");
        let told = debugfs.args(["-R", &format!("stat {path}")]).arg(&self.image).output();
        let told = told.map_err(|error| format!("debugfs: {error}"))?;
        Ok(String::from_utf8_lossy(&told.stdout).into_owned())
    }

    pub(crate) fn sync(&self) {
        assert!(run("sync", &[Path::new("-f"), &self.on]));
    }

    /// From now on nothing more gets into the journal.
    pub(crate) fn cut(&self) {
        fs::write(format!("/sys/fs/ext4/{}/trigger_fs_error", self.device()), "power cut").unwrap();
    }

    /// Mounts it anew, as after a start of the host.
    pub(crate) fn restart(&self) {
        umount2(&self.on, MntFlags::empty()).unwrap();
        self.attach().unwrap();
    }

    pub(crate) fn remount_read_only(&self) {
        let none: Option<&str> = None;
        mount(none, &self.on, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
    }

    fn attach(&self) -> Result<(), String> {
        // An error ends the journal.
        let options = Path::new("loop,errors=remount-ro");
        // Two at once may choose one device.
        let mut mounts =
            (0..10).map(|_| run("mount", &[Path::new("-o"), options, &self.image, &self.on]));
        let mounted = mounts.any(|mounted| mounted);
        mounted.then_some(()).ok_or_else(|| "no loop device can be mounted here".to_owned())
    }
}

/// Runs `facts` on a new file system, in a thread with a mount namespace of its own; says why not.
pub(crate) fn with(
    wanted: Wanted,
    facts: impl FnOnce(&Medium) -> Result<(), String> + Send + 'static,
) {
    let run = move || {
        let dir = tempfile::tempdir().unwrap();
        let none: Option<&str> = None;
        if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_err() {
            eprintln!("skipped: a mount namespace needs root");
            return;
        }
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let medium = Medium { image: dir.path().join("image"), on: dir.path().join("on") };
        fs::create_dir(&medium.on).unwrap();
        let ran = make(&medium, &wanted).and_then(|()| facts(&medium));
        if let Err(reason) = ran {
            eprintln!("skipped: {reason}");
        }
        let _ = umount2(&medium.on, MntFlags::MNT_DETACH);
    };
    thread::spawn(run).join().unwrap();
}

fn make(medium: &Medium, Wanted(options): &Wanted) -> Result<(), String> {
    fs::File::create(&medium.image).unwrap().set_len(128 << 20).unwrap();
    let always = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
    let words = always.iter().chain(*options).map(Path::new);
    let words: Vec<&Path> = words.chain([medium.image.as_path()]).collect();
    if !run("mkfs.ext4", &words) {
        return Err("there is no mkfs.ext4".to_owned());
    }
    medium.attach()
}

fn run(program: &str, words: &[&Path]) -> bool {
    let done = Command::new(program).args(words).output();
    done.is_ok_and(|done| done.status.success())
}
