//! netbe and its tests, built on Linux for a FreeBSD machine that runs them.
//!
//! rustup has no standard library for this target on every machine, so it is built from Debian's
//! package of its sources, which must match the installed compiler exactly. zig links, because it
//! knows what FreeBSD's C library has in it: nothing of FreeBSD is needed here.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;

use crate::cache::Cache;
use crate::failure::{During, Failure, ensure};
use crate::lab::{BUILD_LIMIT, Lab};
use crate::packages::{self, PIP};
use crate::process::Program;
use crate::progress;

/// Builds netbe and every program of tests into `directory`, with the script that runs them there.
pub(crate) fn build(directory: &Path) -> Result<ExitCode, Failure> {
    let cache = Cache::open()?;
    let source = source(&cache)?.map_err(Failure::Said)?;
    let tools = tools(&cache)?;
    let place = Place::prepare(directory)?;
    let step = progress::step("building netbe and its tests for FreeBSD");
    let built = compile(&source, &tools)?;
    step.done(&format!("{} programs", built.len()));
    for program in &built {
        place.take(program)?;
    }
    place.finish()?;
    println!(
        "{} has netbe and {} programs of tests for FreeBSD 14 on amd64. Copy it to such a machine, and \
         run there, as root:\n\n    sh run.sh\n",
        directory.display(),
        built.iter().filter(|program| program.profile.test).count(),
    );
    Ok(ExitCode::SUCCESS)
}

/// Cargo, with everything that it needs to compile for FreeBSD but a linker; `Err` has the reason why
/// that cannot be had.
pub(crate) fn cargo(cache: &Cache) -> Result<Result<Program, String>, Failure> {
    Ok(source(cache)?.map(|source| with_source(Lab::cargo(), &source)))
}

fn with_source(cargo: Program, source: &Path) -> Program {
    cargo
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", source)
        // Building the standard library is a nightly feature of cargo.
        .env("RUSTC_BOOTSTRAP", "1")
}

/// The sources of the standard library of the installed compiler, or the reason why there are none.
fn source(cache: &Cache) -> Result<Result<PathBuf, String>, Failure> {
    let text = Program::new("rustc").arg("-V").run(Duration::from_secs(60))?;
    let Some(version) = text.split_whitespace().nth(1) else {
        return Err(Failure::said(format!("rustc -V said {text:?}")));
    };
    let reason = format!("Debian has no sources of the standard library of rustc {version}");
    let name = format!("rust-src-{version}");
    let made = cache.entry(&name, |directory| {
        let step = progress::step(&format!("fetching the sources of Rust {version}"));
        let config = packages::lists(directory, "trixie-backports")?;
        let list = Program::new("apt-cache")
            .args(["madison", "rust-src"])
            .env("APT_CONFIG", &config)
            .run(Duration::from_secs(60))?;
        let mut versions = list.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
        let exact = format!("{version}+");
        let Some(package) = versions.find(|package| package.starts_with(&exact)) else {
            return Err(Failure::Said(reason.clone()));
        };
        packages::download(directory, &format!("rust-src={package}"), Some(&config))?;
        packages::forget_lists(directory)?;
        step.done("unpacked");
        Ok(())
    });
    match made {
        Ok(directory) => {
            let library = format!("usr/src/rustc-{version}/library");
            Ok(Ok(directory.join(library)))
        }
        Err(Failure::Said(words)) if words == reason => Ok(Err(words)),
        Err(failure) => Err(failure),
    }
}

/// The directory of zig and cargo-zigbuild, from the Python Package Index; they are not installed.
fn tools(cache: &Cache) -> Result<PathBuf, Failure> {
    let name = format!("zig-{}", cache.key(&[TOOLS.as_bytes()]));
    cache.entry(&name, |directory| {
        let pip = Program::new("python3").words("-m pip --version").finish(Duration::from_secs(60));
        if !pip.is_ok_and(|done| done.status.success()) {
            packages::install(&[PIP])?;
        }
        let step = progress::step("fetching zig and cargo-zigbuild (unpacked, not installed)");
        let wanted = directory.join("requirements.txt");
        fs::write(&wanted, TOOLS).during(wanted.display())?;
        Program::new("python3")
            .words("-m pip install --quiet --no-deps --require-hashes --only-binary :all: --target")
            .arg(directory)
            .arg("-r")
            .arg(&wanted)
            .run(Duration::from_secs(1800))?;
        step.done("unpacked");
        Ok(())
    })
}

/// Compiles and links everything that netbe's packages have for a test.
fn compile(source: &Path, tools: &Path) -> Result<Vec<Built>, Failure> {
    let cargo = Program::new(tools.join("bin/cargo-zigbuild")).directory(Lab::checkout());
    let messages = with_source(cargo, source)
        .words("zigbuild --quiet --locked --workspace --exclude lab --lib --bins --tests")
        .words("--target x86_64-unknown-freebsd -Zbuild-std=std,panic_abort")
        .words("--message-format json-render-diagnostics")
        // It looks for zig as a module of Python.
        .env("PYTHONPATH", tools)
        // A failed test tells its line all the same, and the programs are a third as large.
        .env("CARGO_PROFILE_DEV_DEBUG", "none")
        .run(BUILD_LIMIT)?;
    Ok(messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// A program that cargo built, in cargo's words.
#[derive(Debug, Deserialize)]
struct Built {
    executable: PathBuf,
    manifest_path: PathBuf,
    profile: Profile,
    target: Target,
}

#[derive(Debug, Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

impl Built {
    /// Where it stands: tests below the directory of their package, in its checkout.
    fn name(&self) -> PathBuf {
        if !self.profile.test {
            return PathBuf::from(&self.target.name);
        }
        let package = self.manifest_path.parent().unwrap_or_else(|| Path::new(""));
        let package = package.strip_prefix(Lab::checkout()).unwrap_or(package);
        let is = |kind: &str| self.target.kind.iter().any(|own| own == kind);
        let name = match () {
            () if is("test") => &self.target.name,
            // A package's program and its library may both have tests beside their code.
            () if is("bin") => TESTS_OF_PROGRAM,
            () => UNIT_TESTS,
        };
        Path::new(TESTS).join(package).join(name)
    }
}

/// The directory that is to be copied to FreeBSD.
struct Place<'a> {
    directory: &'a Path,
}

impl<'a> Place<'a> {
    /// An empty one, or one of an earlier build, of which only the logs are left.
    fn prepare(directory: &'a Path) -> Result<Self, Failure> {
        fs::create_dir_all(directory).during(directory.display())?;
        let mut inside = fs::read_dir(directory).during(directory.display())?;
        ensure(inside.next().is_none() || directory.join(SCRIPT).exists(), || {
            format!("{} has something else in it: name a new directory", directory.display())
        })?;
        for part in [TESTS, SOURCE] {
            let part = directory.join(part);
            if part.exists() {
                fs::remove_dir_all(&part).during(part.display())?;
            }
        }
        Ok(Self { directory })
    }

    /// Copies a program.
    fn take(&self, program: &Built) -> Result<(), Failure> {
        is_for_freebsd(&program.executable)?;
        copy(&program.executable, &self.directory.join(program.name()))
    }

    /// Adds what the tests read of the sources, and the script.
    fn finish(&self) -> Result<(), Failure> {
        let list = Program::new("git").words("ls-files -z").directory(Lab::checkout());
        for file in list.run(Duration::from_secs(60))?.split_terminator('\0') {
            let from = Lab::checkout().join(file);
            // A link, or a file that was deleted and not yet committed, is nothing that a test reads.
            if from.symlink_metadata().is_ok_and(|found| found.is_file()) {
                copy(&from, &self.directory.join(SOURCE).join(file))?;
            }
        }
        let script = self.directory.join(SCRIPT);
        fs::write(&script, RUN).during(script.display())?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).during(script.display())
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).during(parent.display())?;
    }
    fs::copy(from, to).during(to.display()).map(drop)
}

/// Refuses what is not an ELF file for FreeBSD.
fn is_for_freebsd(program: &Path) -> Result<(), Failure> {
    let file = fs::read(program).during(program.display())?;
    ensure(has_freebsd_note(&file) == Some(true), || {
        format!("{} was not built for FreeBSD", program.display())
    })
}

/// Whether an ELF file of 64 bits, least significant byte first, has the note of FreeBSD's start-up
/// code, by which a FreeBSD kernel knows its programs. `EI_OSABI` does not tell: LLVM's linker writes
/// FreeBSD there, and zig's System V. `None` where it is no such file.
fn has_freebsd_note(file: &[u8]) -> Option<bool> {
    let file = file.strip_prefix(ELF64_LSB).map(|_| file)?;
    let word = |at: usize| Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(u16::from_le_bytes(*file.get(at..)?.first_chunk()?));
    let (e_phoff, e_phentsize, e_phnum) = (word(32)?, half(54)?, half(56)?);
    for n in 0..usize::from(e_phnum) {
        let header = usize::try_from(e_phoff).ok()? + n * usize::from(e_phentsize);
        if file.get(header..)?.starts_with(&PT_NOTE) {
            let (p_offset, p_filesz) = (word(header + 8)?, word(header + 32)?);
            let notes = file.get(usize::try_from(p_offset).ok()?..)?;
            let notes = notes.get(..usize::try_from(p_filesz).ok()?)?;
            if notes.windows(FREEBSD_NOTE.len()).any(|bytes| bytes == FREEBSD_NOTE) {
                return Some(true);
            }
        }
    }
    Some(false)
}

/// What is had of the Python Package Index, by its content.
const TOOLS: &str = include_str!("../freebsd/requirements.txt");
/// What runs the tests there.
const RUN: &str = include_str!("../freebsd/run.sh");

const SCRIPT: &str = "run.sh";
const TESTS: &str = "tests";
const SOURCE: &str = "source";
/// The name of a package's tests that stand beside its code.
const UNIT_TESTS: &str = "unit";
/// The name of those that stand beside the code of a package's program.
const TESTS_OF_PROGRAM: &str = "main";
/// How an ELF file begins: `ELFCLASS64`, `ELFDATA2LSB`.
const ELF64_LSB: &[u8] = b"\x7fELF\x02\x01";
/// The type of a program header whose segment holds notes.
const PT_NOTE: [u8; 4] = [4, 0, 0, 0];
/// A note's head: name of eight bytes, four bytes of data, `NT_FREEBSD_ABI_TAG`, the name.
const FREEBSD_NOTE: &[u8] = b"\x08\0\0\0\x04\0\0\0\x01\0\0\0FreeBSD\0";

#[cfg(test)]
mod test {
    use std::fmt::Write as _;

    use super::*;

    /// A directory with the script, programs that stand in for tests, and others that stand in for
    /// FreeBSD's.
    struct Stage {
        directory: tempfile::TempDir,
    }

    impl Stage {
        fn new() -> Self {
            let stage = Self { directory: tempfile::tempdir().unwrap() };
            stage.program("run.sh", RUN);
            stage.program(
                "bin/uname",
                "#!/bin/sh\ncase $1 in -s) echo FreeBSD;; -m) echo amd64;; *) echo 1400097;; esac\n",
            );
            stage
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn program(&self, name: &str, text: &str) {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }

        /// Tests of a package that write this when they run.
        fn tests(&self, name: &str, tests: &[&str], script: &str) {
            fs::create_dir_all(self.path("source").join(name).parent().unwrap()).unwrap();
            let mut list = String::new();
            for test in tests {
                writeln!(list, "{test}: test").unwrap();
            }
            let text = format!(
                "#!/bin/sh\nif [ \"$1\" = --list ]; then cat <<'E'\n{list}\n{} tests, 0 benchmarks\nE\n\
                 exit; fi\n{script}",
                tests.len()
            );
            self.program(&format!("tests/{name}"), &text);
        }

        /// What the script prints, and how it ends.
        fn run(&self, words: &str) -> (String, Option<i32>) {
            self.run_with(words, &[])
        }

        fn run_with(&self, words: &str, environment: &[(&str, &str)]) -> (String, Option<i32>) {
            let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
            let script = Program::new("sh").arg(self.path("run.sh")).words(words).env("PATH", path);
            let script =
                environment.iter().fold(script, |script, (name, value)| script.env(name, value));
            let done = script.finish(Duration::from_secs(60)).unwrap();
            (done.stdout, done.status.code())
        }
    }

    #[test]
    fn the_last_line_counts_what_passed_failed_and_was_skipped() {
        let stage = Stage::new();
        stage.tests(
            "server/unit",
            &["good", "a::bad", "poor", "slow"],
            "cat <<'E'\nrunning 4 tests\ntest good ... ok\ntest a::bad ... FAILED\ntest poor ... ok\n\
             test slow ... ignored, takes an hour\n\nsuccesses:\n\n---- poor stdout ----\n\
             skipped: no such program\n\n\nsuccesses:\n    good\n    poor\n\nfailures:\n\n\
             ---- a::bad stdout ----\nskipped: this does not count\nthread panicked\nE\nexit 101\n",
        );
        stage.tests("server/none", &[], "echo\n");
        let (out, status) = stage.run("");
        assert!(out.ends_with("\n1 passed, 1 failed, 2 skipped\n"), "{out}");
        assert!(out.contains("1 no such program\n"), "{out}");
        assert!(out.contains("  server/unit a::bad\n"), "{out}");
        assert_eq!(status, Some(1));
    }

    #[test]
    fn a_test_whose_program_is_killed_has_failed() {
        let stage = Stage::new();
        stage.tests("server/unit", &["good", "deadly"], "echo 'test good ... ok'\nkill -9 $$\n");
        stage.tests("store/unit", &["fine"], "echo 'test fine ... ok'\n");
        stage.program("tests/vfs/unit", "#!/bin/sh\nexit 127\n");
        fs::create_dir_all(stage.path("source/vfs")).unwrap();
        let (out, status) = stage.run("");
        assert!(out.ends_with("\n2 passed, 2 failed, 0 skipped\n"), "{out}");
        assert!(out.contains("server/unit deadly (its program ended before it did)\n"), "{out}");
        assert!(out.contains("vfs/unit - (the program does not run)\n"), "{out}");
        assert_eq!(status, Some(1));
        let (out, status) = stage.run("store");
        assert!(out.ends_with("\n1 passed, 0 failed, 0 skipped\n"), "{out}");
        assert_eq!(status, Some(0));
    }

    #[test]
    fn words_behind_two_hyphens_choose_tests_and_the_limit_is_the_environments() {
        let stage = Stage::new();
        let echo = "[ \"$*\" = '--show-output good' ] && echo 'test good ... ok'\n";
        stage.tests("server/unit", &["good"], echo);
        stage.tests("store/unit", &["other"], "exit 1\n");
        assert_eq!(stage.run("server -- good").1, Some(0));
        stage.tests("server/unit", &["endless"], "sleep 50\n");
        let (out, status) = stage.run_with("server", &[("NETBE_TEST_LIMIT", "1")]);
        assert!(out.contains("server/unit endless (its program ended before it did)\n"), "{out}");
        assert_eq!(status, Some(1));
    }

    #[test]
    fn tests_find_the_program_and_the_sources_of_their_package() {
        let stage = Stage::new();
        stage.tests(
            "server/store/unit",
            &["found"],
            "[ \"$CARGO_MANIFEST_DIR\" = \"$PWD\" ] && [ -f Cargo.toml ] && \
             [ -x \"$CARGO_BIN_EXE_netbe\" ] && echo 'test found ... ok'\n",
        );
        stage.program("netbe", "");
        fs::write(stage.path("source/server/store/Cargo.toml"), "").unwrap();
        assert_eq!(stage.run("").1, Some(0));
    }

    #[test]
    fn no_tests_of_a_package_take_the_place_of_others() {
        let built = |kind: &str, name: &str| {
            let text = format!(
                "{{\"executable\": \"/e\", \"manifest_path\": {:?}, \"profile\": {{\"test\": true}}, \
                 \"target\": {{\"kind\": [{kind:?}], \"name\": {name:?}}}}}",
                Lab::checkout().join("server/Cargo.toml")
            );
            serde_json::from_str::<Built>(&text).unwrap().name()
        };
        let names = [("lib", "netbe"), ("bin", "netbe"), ("test", "dhcp")];
        let names = names.map(|(kind, name)| built(kind, name));
        let expected = ["tests/server/unit", "tests/server/main", "tests/server/dhcp"];
        assert_eq!(names, expected.map(PathBuf::from));
    }

    /// An ELF file with a segment of notes, whose first has this name.
    fn elf(osabi: u8, name: &[u8; 8]) -> Vec<u8> {
        let mut file = [b"\x7fELF\x02\x01\x01".as_slice(), &[osabi], &[0; 56]].concat();
        file[32] = 64; // e_phoff
        file[54] = 56; // e_phentsize
        file[56] = 1; // e_phnum
        file.extend([0; 56]);
        file[64] = 4; // p_type
        file[72] = 120; // p_offset
        file[96] = 24; // p_filesz
        file.extend([8, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0]);
        file.extend(name);
        file.extend(1_400_500_u32.to_le_bytes());
        file
    }

    #[test]
    fn programs_for_freebsd_are_known_by_their_note() {
        const SYSTEM_V: u8 = 0;
        const FREEBSD: u8 = 9;
        assert_eq!(has_freebsd_note(&elf(SYSTEM_V, b"FreeBSD\0")), Some(true));
        assert_eq!(has_freebsd_note(&elf(FREEBSD, b"FreeBSD\0")), Some(true));
        assert_eq!(has_freebsd_note(&elf(SYSTEM_V, b"NetBSD\0\0")), Some(false));
        assert_eq!(has_freebsd_note(&elf(SYSTEM_V, b"FreeBSD\0")[..130]), None);
        assert_eq!(has_freebsd_note(b"#!/bin/sh\n"), None);
        assert!(is_for_freebsd(&std::env::current_exe().unwrap()).is_err());
    }

    #[test]
    fn nothing_of_somebody_else_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("letter"), "").unwrap();
        assert!(Place::prepare(directory.path()).is_err());
        fs::write(directory.path().join(SCRIPT), "").unwrap();
        assert!(Place::prepare(directory.path()).is_ok());
    }
}
