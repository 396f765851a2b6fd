//! Where a release of FreeBSD lies on a mirror.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;

use super::InstallError;

/// What distribution sets are taken from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SetSource {
    /// A directory with sets.
    Directory(PathBuf),
    /// The address of such a directory, without a slash at its end.
    Url(String),
}

/// Which of a mirror's two trees.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Branch {
    /// Releases, candidates and betas.
    #[default]
    Release,
    /// Snapshots of the branches.
    Snapshot,
}

impl SetSource {
    /// The directory itself if it has the file `known`, else the release's in it, as on a mirror.
    pub fn directory(
        path: PathBuf,
        known: &str,
        architecture: &str,
        branch: Branch,
        release: &str,
    ) -> Result<Self, InstallError> {
        let below = path.join(below(architecture, branch, release)?);
        if path.join(known).is_file() {
            return Ok(Self::Directory(path));
        }
        if below.join(known).is_file() {
            return Ok(Self::Directory(below));
        }
        Err(InstallError::NoSets { path, known: known.to_owned() })
    }

    /// The release's directory on the mirror at `url`.
    pub fn mirror(
        url: &str,
        architecture: &str,
        branch: Branch,
        release: &str,
    ) -> Result<Self, InstallError> {
        let below = below(architecture, branch, release)?;
        Ok(Self::Url(format!("{}/{below}", url.trim_end_matches('/'))))
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Release => "releases",
            Self::Snapshot => "snapshots",
        })
    }
}

/// `releases/amd64/amd64/14.3-RELEASE`: machine, as `uname -m` says, and processor, as `uname -p`.
fn below(architecture: &str, branch: Branch, release: &str) -> Result<String, InstallError> {
    let machine = match architecture {
        "amd64" | "x86_64" => "amd64/amd64",
        "i386" => "i386/i386",
        "aarch64" | "arm64" => "arm64/aarch64",
        "armv7" => "arm/armv7",
        "powerpc64" => "powerpc/powerpc64",
        "powerpc64le" => "powerpc/powerpc64le",
        "riscv64" => "riscv/riscv64",
        other => match other.split_once('/') {
            Some((machine, processor)) if word(machine) && word(processor) => other,
            Some(_) | None => return Err(InstallError::Architecture(other.to_owned())),
        },
    };
    // `14.3` is what people say, and 14.3-RELEASE what the directory is called.
    let whole = branch == Branch::Snapshot || release.contains('-');
    let release = if whole { release.to_owned() } else { format!("{release}-RELEASE") };
    Ok(format!("{branch}/{machine}/{release}"))
}

fn word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_release_is_found_on_a_mirror() {
        let url = |architecture: &str, branch, release: &str| match SetSource::mirror(
            "https://m/ftp/",
            architecture,
            branch,
            release,
        )
        .unwrap()
        {
            SetSource::Url(url) => url,
            SetSource::Directory(path) => panic!("{path:?}"),
        };
        assert_eq!(
            url("amd64", Branch::Release, "14.3"),
            "https://m/ftp/releases/amd64/amd64/14.3-RELEASE"
        );
        assert_eq!(
            url("aarch64", Branch::Snapshot, "15.0-CURRENT"),
            "https://m/ftp/snapshots/arm64/aarch64/15.0-CURRENT"
        );
        assert_eq!(
            url("riscv/riscv64", Branch::Release, "14.3-RC1"),
            "https://m/ftp/releases/riscv/riscv64/14.3-RC1"
        );
    }

    #[test]
    fn a_release_is_found_in_a_directory_by_a_file_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let release = dir.path().join("releases/amd64/amd64/14.3-RELEASE");
        std::fs::create_dir_all(&release).unwrap();
        let find = |path: &std::path::Path, known| {
            SetSource::directory(path.to_owned(), known, "amd64", Branch::Release, "14.3")
        };
        std::fs::write(release.join("base.txz"), "").unwrap();
        assert_eq!(find(dir.path(), "base.txz").unwrap(), SetSource::Directory(release.clone()));
        assert_eq!(find(&release, "base.txz").unwrap(), SetSource::Directory(release.clone()));
        let error = find(&release, "MANIFEST").unwrap_err();
        assert!(matches!(error, InstallError::NoSets { path, .. } if path == release));
    }

    #[test]
    fn an_architecture_does_not_climb() {
        for bad in ["vax", "../..", "amd64/../amd64", "/"] {
            let error = SetSource::mirror("https://m", bad, Branch::Release, "14.3").unwrap_err();
            assert!(matches!(error, InstallError::Architecture(_)), "{bad}");
            // It is written down also where it names no directory.
            let error =
                SetSource::directory("/".into(), "etc/passwd", bad, Branch::Release, "14.3");
            assert!(matches!(error, Err(InstallError::Architecture(_))), "{bad}");
        }
    }
}
