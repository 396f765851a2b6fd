//! What netbe writes for other programs, read by what Debian has of them.

use std::fs;
use std::time::Duration;

use crate::failure::{During, Failure, ensure};
use crate::lab::Lab;
use crate::packages::{self, SCHEMAS};
use crate::process::Program;
use crate::scene::{Scene, mac};
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    Case::new("generators domain by libvirts schema", domain),
    Case::new("generators mount by systemd", mount),
];

/// Domains of libvirt are what its own schema says: by BIOS, by UEFI, with a kernel of this host's, and with a root of
/// it.
fn domain(lab: &Lab) -> Result<Outcome, Failure> {
    packages::install(&[SCHEMAS])?;
    let schemas = packages::unpacked(&lab.cache, "libvirt0")?.join("usr/share/libvirt/schemas");
    let scene = Scene::new(lab)?;
    let site = scene.site();
    site.run("create -l linux web")?;
    let boot = site.root("web").join("boot");
    fs::create_dir_all(&boot).during(boot.display())?;
    for file in ["vmlinuz-6.1", "initrd.img-6.1"] {
        fs::write(boot.join(file), file).during(file)?;
    }
    site.machine("web1", &mac(1), "web")?;
    let check = |text: &str| {
        let file = scene.directory.join("domain.xml");
        fs::write(&file, text).during(file.display())?;
        let xmllint = Program::new("xmllint").words("--noout --relaxng");
        xmllint.arg(schemas.join("domain.rng")).arg(&file).finish(LIMIT)
    };
    let mut last = String::new();
    let of_host = ["9p", "virtiofs"].map(|by| format!("--kernel --root-by {by}"));
    for how in ["", "--uefi", "--kernel"].into_iter().chain(of_host.iter().map(String::as_str)) {
        last = site.run(&format!("show libvirt --machine web1 --server 10.0.0.1 {how} web"))?;
        check(&last)?.success()?;
    }
    // The schema is looked at: it refuses what it does not know.
    let odd = last.replace("<vcpu>", "<vcpus>").replace("</vcpu>", "</vcpus>");
    ensure(check(&odd)?.success().is_err(), || "the schema takes everything".to_owned())?;
    Ok(Outcome::Passed)
}

/// systemd takes the units of a mount under the names that they have, and refuses them under others.
fn mount(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    site.run("create -l linux web")?;
    let host = scene.directory.join("host");
    fs::create_dir(&host).during(host.display())?;
    let into = host.display();
    site.run(&format!(
        "show mount --server 10.0.0.1 --at /srv/my-web --automount --into {into} web"
    ))?;
    let units = host.join("etc/systemd/system");
    let verify = |name: &str| {
        let analyze =
            Program::new("systemd-analyze").words("verify --recursive-errors=no --man=no");
        analyze.arg(units.join(name)).finish(LIMIT)
    };
    for name in ["srv-my\\x2dweb.mount", "srv-my\\x2dweb.automount"] {
        verify(name)?.success()?;
    }
    let odd = "srv-web.mount";
    fs::rename(units.join("srv-my\\x2dweb.mount"), units.join(odd)).during(odd)?;
    ensure(verify(odd)?.success().is_err(), || format!("systemd takes {odd} too"))?;
    Ok(Outcome::Passed)
}

const LIMIT: Duration = Duration::from_secs(120);
