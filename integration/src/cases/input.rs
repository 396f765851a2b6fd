//! Bad input: one sentence that says what to do, exit status 2, and nothing half-started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::Network;
use crate::process::{Finished, Program};
use crate::scene::Scene;
use crate::server::{Site, serve_words};
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    Case::new("input unknown flag", unknown_flag).light(),
    Case::new("input missing store", missing_store).light(),
    Case::new("input port in use", port_in_use).light(),
    Case::new("input configuration mistake", configuration).light(),
    Case::new("input interface without address", no_address).light(),
    Case::new("input unknown interface", unknown_interface).light(),
    Case::new("input not root", not_root).light(),
];

fn unknown_flag(lab: &Lab) -> Result<Outcome, Failure> {
    with_site(lab, |site, _network| {
        refused(site.netbe("serve --no-such-flag"), &["--no-such-flag"])
    })
}

fn missing_store(lab: &Lab) -> Result<Outcome, Failure> {
    with_site(lab, |site, _network| {
        let serve = site.netbe("serve --store dir:/nonexistent/store");
        refused(serve, &["/nonexistent/store"])
    })
}

fn port_in_use(lab: &Lab) -> Result<Outcome, Failure> {
    let busybox = lab.parts()?.busybox().display().to_string();
    with_site(lab, |site, network| {
        let log = site.log();
        let listen = network.server.program(&busybox).words("nc -l -p 2049");
        let _other = listen.start(&log)?;
        wait_for("a listener on port 2049", Duration::from_secs(20), || {
            let sockets = network.server.program("ss").words("-Hltn sport = 2049").run(LIMIT)?;
            Ok((!sockets.trim().is_empty()).then_some(()))
        })?;
        refused(site.netbe(&serve_words()), &["2049", "in use"])
    })
}

fn configuration(lab: &Lab) -> Result<Outcome, Failure> {
    with_site(lab, |site, _network| {
        let file = site.log().with_file_name("netbe.toml");
        fs::write(&file, "interfaces = [\"lan\"]\nno_such_word = 1\n").during(file.display())?;
        let serve = site.netbe("serve -f").arg(&file);
        refused(serve, &["no_such_word"])
    })
}

fn no_address(lab: &Lab) -> Result<Outcome, Failure> {
    with_site(lab, |site, network| {
        network.server.ip("link add bare type bridge")?;
        network.server.ip("link set bare up")?;
        refused(site.netbe("serve --interface bare"), &["bare", "address"])
    })
}

fn unknown_interface(lab: &Lab) -> Result<Outcome, Failure> {
    with_site(lab, |site, _network| {
        refused(site.netbe("serve --interface nowhere0"), &["nowhere0"])
    })
}

fn not_root(lab: &Lab) -> Result<Outcome, Failure> {
    // A user who is nobody must be able to reach the program.
    let open = tempfile::Builder::new()
        .prefix("netbe-lab-nobody-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .during("scratch directory")?;
    let program = open.path().join("netbe");
    fs::copy(lab.netbe()?, &program).during(program.display())?;
    let network = Network::new()?;
    let nobody = network.server.program("setpriv");
    let nobody = nobody.words("--reuid 65534 --regid 65534 --clear-groups --");
    let nobody = nobody.arg(&program).arg("--state").arg(open.path().join("state"));
    refused(nobody.words(&serve_words()), &["root"])?;
    Ok(Outcome::Passed)
}

/// Runs `test` on a new site that has a store with one boot environment.
fn with_site(
    lab: &Lab,
    test: impl FnOnce(&Site<'_>, &Network) -> Result<(), Failure>,
) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    site.run("create guest")?;
    test(&site, &scene.network)?;
    // Whatever was refused left nothing behind that keeps the site from serving.
    site.serve()?.stop()?;
    Ok(Outcome::Passed)
}

/// Fails unless netbe refuses in one sentence with these words in it.
fn refused(netbe: Program, words: &[&str]) -> Result<(), Failure> {
    let Finished { status, stdout, stderr, .. } = netbe.finish(LIMIT)?;
    let told = format!("{status}, wrote {stdout:?} and said {stderr:?}");
    ensure(status.code() == Some(2), || format!("not exit status 2: {told}"))?;
    ensure(stdout.is_empty(), || format!("wrote to standard output: {told}"))?;
    let one = stderr.lines().count() == 1 && stderr.starts_with("netbe: ");
    ensure(one, || format!("not one line that begins with `netbe: `: {told}"))?;
    for word in words {
        ensure(stderr.contains(word), || format!("does not name {word:?}: {told}"))?;
    }
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(30);
