//! What was said of hooks: `[hooks]` of netbe.toml, as it is written and as it is acted on.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::webhook::{self, Webhook};
use crate::{Occasion, OccasionError};

/// `[hooks]`, as it is written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Where the hooks are.
    pub directory: Option<PathBuf>,
    /// Seconds that a hook may take.
    pub timeout: Option<u64>,
    /// How often a hook that failed is tried again.
    pub retries: Option<u32>,
    /// Whether there are events of machines without a name.
    #[serde(default)]
    pub unknown: bool,
    /// The working directory of CBSD.
    pub cbsd: Option<PathBuf>,
    /// What is different for single hooks, by `EVENT/NAME`.
    #[serde(default)]
    pub steps: BTreeMap<String, RawStep>,
    /// Who is sent events by HTTP.
    #[serde(default)]
    pub webhooks: Vec<webhook::Raw>,
}

/// What is different for one hook, as it is written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RawStep {
    /// Seconds that it may take.
    pub timeout: Option<u64>,
    /// How often it is tried again.
    pub retries: Option<u32>,
}

/// What holds for hooks.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Settings {
    /// Where the hooks of each event are, in `EVENT.d`.
    pub directory: PathBuf,
    /// What holds for a hook of which nothing of its own was said.
    pub patience: Patience,
    /// Whether machines without a name have events for the server's hooks.
    pub unknown: bool,
    /// The working directory of CBSD, whose hooks are run too.
    pub cbsd: Option<PathBuf>,
    /// What holds for single hooks, by `EVENT/NAME`.
    pub steps: BTreeMap<String, Patience>,
    /// Who is sent events by HTTP.
    pub webhooks: Vec<Webhook>,
}

/// How long a hook may take, and how often it is tried again.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Patience {
    /// How long each attempt may take.
    pub timeout: Duration,
    /// How often it is tried again.
    pub retries: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            directory: PathBuf::from(DEFAULT_DIRECTORY),
            patience: Patience { timeout: Duration::from_secs(30), retries: 0 },
            unknown: false,
            cbsd: None,
            steps: BTreeMap::new(),
            webhooks: Vec::new(),
        }
    }
}

impl Settings {
    /// What holds for a hook, by `EVENT/NAME`.
    pub(crate) fn patience_of(&self, step: &str) -> Patience {
        self.steps.get(step).copied().unwrap_or(self.patience)
    }

    /// The settings that the server of a state directory was started with, for commands, which do not read
    /// netbe.toml; the defaults, if none ever was.
    ///
    /// # Errors
    ///
    /// They are there and cannot be read.
    pub fn of_state(state: &Path) -> Result<Self, SettingsError> {
        let path = state.join(FILE);
        let failed = |error| SettingsError::State { path: path.clone(), error };
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Keeps them for commands.
    ///
    /// # Errors
    ///
    /// They cannot be written.
    pub fn store(&self, state: &Path) -> Result<(), SettingsError> {
        let (path, new) = (state.join(FILE), state.join(format!("{FILE}.new")));
        let written = || {
            let mut options = fs::OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        written().map_err(|error| SettingsError::State { path: path.clone(), error })
    }
}

impl TryFrom<Raw> for Settings {
    type Error = SettingsError;

    fn try_from(raw: Raw) -> Result<Self, SettingsError> {
        let default = Self::default();
        let directory = raw.directory.unwrap_or(default.directory);
        for path in [Some(&directory), raw.cbsd.as_ref()].into_iter().flatten() {
            if !path.is_absolute() {
                return Err(SettingsError::Relative(path.clone()));
            }
        }
        let patience = patience(raw.timeout, raw.retries, default.patience)?;
        let mut steps = BTreeMap::new();
        for (name, step) in raw.steps {
            let occasion = name.split_once('/').map(|(occasion, _)| occasion);
            let Some(occasion) = occasion else { return Err(SettingsError::Step(name)) };
            occasion.parse::<Occasion>()?;
            steps.insert(name, self::patience(step.timeout, step.retries, patience)?);
        }
        let webhooks = raw.webhooks.into_iter().map(Webhook::try_from).collect::<Result<_, _>>()?;
        Ok(Self { directory, patience, unknown: raw.unknown, cbsd: raw.cbsd, steps, webhooks })
    }
}

/// Checks what was written, in the place of what would hold without it.
pub(crate) fn patience(
    timeout: Option<u64>,
    retries: Option<u32>,
    or: Patience,
) -> Result<Patience, SettingsError> {
    let timeout = timeout.map_or(Ok(or.timeout), |seconds| match seconds {
        1..=MAX_TIMEOUT => Ok(Duration::from_secs(seconds)),
        _ => Err(SettingsError::Timeout(seconds)),
    })?;
    let retries = retries.unwrap_or(or.retries);
    if retries > MAX_RETRIES {
        return Err(SettingsError::Retries(retries));
    }
    Ok(Patience { timeout, retries })
}

/// What is wrong with what was written, and what to write.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No such event.
    #[error(transparent)]
    Occasion(#[from] OccasionError),
    /// A path is relative.
    #[error("{} is relative: write a path that begins with /", .0.display())]
    Relative(PathBuf),
    /// Too many attempts.
    #[error("retries: {0}: write 0 to {MAX_RETRIES}")]
    Retries(u32),
    /// What the server was started with cannot be read or written.
    #[error("{}: {error}: restart the server, which writes it anew", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The name of a hook has no event.
    #[error("steps: {0:?} is not a hook: write EVENT/NAME, as in \"up/10-dns\"")]
    Step(String),
    /// The time is too short or too long.
    #[error("timeout: {0} seconds: write 1 to {MAX_TIMEOUT}")]
    Timeout(u64),
    /// A webhook is not right.
    #[error("webhooks: {0}")]
    Webhook(String),
    /// A webhook's name cannot stand in a line.
    #[error("webhooks: name = {0:?}: write 1 to 63 bytes in one line")]
    WebhookName(String),
}

/// Where an administrator puts hooks (hier(7)).
#[cfg(target_os = "freebsd")]
pub const DEFAULT_DIRECTORY: &str = "/usr/local/etc/netbe/hooks";
/// Where an administrator puts hooks.
#[cfg(not(target_os = "freebsd"))]
pub const DEFAULT_DIRECTORY: &str = "/etc/netbe/hooks";

/// The record of the state directory that has what the server was started with.
const FILE: &str = "hooks.json";

/// Seconds.
const MAX_TIMEOUT: u64 = 3600;

const MAX_RETRIES: u32 = 20;

#[cfg(test)]
mod test {
    use super::*;

    fn check(steps: &str, raw: Raw) -> Result<Settings, String> {
        let steps = [(steps.to_owned(), RawStep { timeout: Some(5), retries: None })];
        let raw = Raw { steps: steps.into(), ..raw };
        Settings::try_from(raw).map_err(|error| error.to_string())
    }

    #[test]
    fn a_hook_has_what_was_said_of_it_and_else_what_holds_for_all() {
        let raw = Raw { retries: Some(2), ..Raw::default() };
        let settings = check("up/10-dns", raw).unwrap();
        let own = Patience { timeout: Duration::from_secs(5), retries: 2 };
        assert_eq!(settings.patience_of("up/10-dns"), own);
        let other = Patience { timeout: Duration::from_secs(30), retries: 2 };
        assert_eq!(settings.patience_of("up/20-other"), other);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let relative = Raw { directory: Some("hooks".into()), ..Raw::default() };
        for (step, raw, word) in [
            ("10-dns", Raw::default(), "EVENT/NAME"),
            ("start/10-dns", Raw::default(), "prestart"),
            ("up/1", relative, "begins with /"),
            ("up/1", Raw { timeout: Some(0), ..Raw::default() }, "1 to 3600"),
            ("up/1", Raw { retries: Some(100), ..Raw::default() }, "0 to 20"),
        ] {
            let error = check(step, raw).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn commands_have_the_settings_of_the_server() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Settings::of_state(state.path()).unwrap(), Settings::default());
        let settings = check("up/10-dns", Raw::default()).unwrap();
        settings.store(state.path()).unwrap();
        assert_eq!(Settings::of_state(state.path()).unwrap(), settings);
    }
}
