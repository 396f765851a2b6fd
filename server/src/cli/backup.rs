//! Verbs that keep the state in a file, and put it back.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, Reply, Site};
use crate::config::DEFAULT_FILE;
use crate::site::backup::{self, BackupError};
use crate::site::configured::Configured;
use crate::site::state::{StateDir, StateError};

/// Save the state to a file: site key, machines, leases, records of boots, history, and the configuration.
///
/// The server may run meanwhile. The file has no boot environments in it: save those with `netbe send`. The
/// file contains the site key, so only its owner can read it.
#[derive(Args, Debug)]
pub(crate) struct Backup {
    /// The configuration file to save [default: the one that the server read last, else /etc/netbe.toml, on
    /// FreeBSD /usr/local/etc/netbe.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The file, which is replaced as a whole; - is standard output.
    file: PathBuf,
}

/// Restore the state that `netbe backup` saved.
///
/// Stop the server first. A damaged or incomplete backup is refused before anything is changed. If the
/// command is killed, the next command or the server completes the restore.
#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// Where to write the configuration file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Replace a state that is not empty, and a configuration file that differs.
    #[arg(short, long)]
    force: bool,
    /// Check the backup, print what would be restored where, and change nothing.
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// The file; - is standard input.
    file: PathBuf,
}

impl Backup {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let to_output = self.file == Path::new("-");
        if to_output && io::stdout().is_terminal() {
            return Err(Failure::could_not(
                "a backup is not for a terminal: name a file, or redirect standard output",
            ));
        }
        if !site.state().exists() {
            return Err(fail(BackupError::NoState(site.state().to_owned())));
        }
        let state = site.open_state()?;
        let named = match &self.config {
            Some(path) => Some(path.clone()),
            None => Configured::load(&state)?.file,
        };
        let is_expected = named.is_some();
        let path = named.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let kept = {
            let _held = state.hold().map_err(Failure::could_not)?;
            backup::Backup::read(state.path(), Some(&path)).map_err(fail)?
        };
        // A server that is configured by its flags alone has no file that could be missing.
        if is_expected && kept.configuration().is_none() {
            let path = path.display();
            tracing::warn!(
                "there is no {path}, so the backup has no configuration: --config FILE names one"
            );
        }
        if to_output {
            let written = kept.write(io::stdout().lock());
            return written
                .map(|()| Reply::done())
                .map_err(|error| Failure::could_not(format_args!("standard output: {error}")));
        }
        let written = backup::write_whole(&self.file, |file| {
            let mut buffer = io::BufWriter::new(file);
            kept.write(&mut buffer).and_then(|()| buffer.flush())
        });
        written.map(|()| Reply::done()).map_err(|error| of(&self.file, error))
    }
}

impl Restore {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let kept = self.parse()?;
        let state_path = site.state();
        self.refuse_to_replace(state_path)?;
        let configuration = self.place_of_configuration(&kept)?;
        let mut text = String::new();
        if let Some(path) = &configuration {
            text = format!("configuration: {}\n", path.display());
            if *path != self.config {
                text += &format!(
                    "{} has other settings and stays as it is: compare the two\n",
                    self.config.display()
                );
            }
        }
        if self.dry_run {
            return Ok(Reply::text(format!("state: {}\n{text}", state_path.display())));
        }
        let state = StateDir::open(state_path).map_err(Failure::could_not)?;
        let _alone = state.claim().map_err(|error| {
            if matches!(error, StateError::Claimed { .. }) {
                Failure::no(error)
            } else {
                Failure::could_not(error)
            }
        })?;
        let _held = state.hold().map_err(Failure::could_not)?;
        // Somebody may have begun with it meanwhile.
        self.refuse_to_replace(state_path)?;
        kept.put(state.path(), configuration.as_deref()).map_err(fail)?;
        Ok(Reply::text(text))
    }

    fn refuse_to_replace(&self, state: &Path) -> Result<(), Failure> {
        if self.force || backup::is_empty(state).map_err(|error| of(state, error))? {
            return Ok(());
        }
        Err(Failure::no(format_args!(
            "{} already has a state, with a site key or machines: save it with `netbe backup`, or replace \
             it with -f",
            state.display()
        )))
    }

    fn parse(&self) -> Result<backup::Backup, Failure> {
        let read = |from: &mut dyn io::Read| backup::Backup::parse(from).map_err(fail);
        if self.file != Path::new("-") {
            let file = fs::File::open(&self.file).map_err(|error| of(&self.file, error))?;
            return read(&mut io::BufReader::new(file));
        }
        if io::stdin().is_terminal() {
            return Err(Failure::could_not("name the file that `netbe backup` wrote"));
        }
        read(&mut io::stdin().lock())
    }

    /// Where the configuration goes, if it goes anywhere: beside one that somebody wrote.
    fn place_of_configuration(&self, kept: &backup::Backup) -> Result<Option<PathBuf>, Failure> {
        let Some(bytes) = kept.configuration() else { return Ok(None) };
        let path = &self.config;
        let mut there = Vec::new();
        match fs::File::open(path).and_then(|mut file| file.read_to_end(&mut there)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(of(path, error)),
            Ok(_) if there == bytes => return Ok(None),
            Ok(_) if self.force || says_nothing(&there) => {}
            Ok(_) => return Ok(Some(path.with_added_extension("restored"))),
        }
        Ok(Some(path.clone()))
    }
}

/// Whether a configuration has comments only, as a package's sample.
fn says_nothing(text: &[u8]) -> bool {
    let mut lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    lines.all(|line| line.is_empty() || line.starts_with(b"#"))
}

fn fail(error: BackupError) -> Failure {
    Failure::could_not(error)
}

fn of(path: &Path, error: io::Error) -> Failure {
    Failure::could_not(BackupError::Io { path: path.to_owned(), error })
}
