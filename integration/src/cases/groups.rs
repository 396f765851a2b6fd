//! A user of a machine is in more groups than NFS can carry.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::failure::{During, Failure};
use crate::guest;
use crate::lab::Lab;
use crate::scene::{Scene, mac};
use crate::suite::{Case, Outcome};
use crate::vm::Firmware;

pub(super) const CASES: &[Case] = &[Case::new("client groups", groups)];

/// Linux's client asks on behalf of a user whose groups the server's host knows, all thirty of them.
fn groups(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let program = scene.directory.join("netbe");
    write_program(&program, lab.netbe()?, &scene.directory)?;
    let scene = scene.with_netbe(program);
    let site = scene.site();
    scene.environment("guest", include_str!("../../guest/groups.sh"))?;
    guest::furnish_debian(&lab.cache, &site.root("guest"), "netbase,nfs-common,util-linux")?;
    site.machine("crowd", &mac(1), "guest")?;
    for (name, flags) in [("plain", ""), ("managed", "--manage-gids ")] {
        site.run(&format!("create {name}"))?;
        site.run(&format!("sharenfs --network 10.77.0.0/24 {flags}{name}"))?;
        secret(&site.root(name).join("twentieth"), TWENTIETH)?;
        secret(&site.root(name).join("sent"), SENT)?;
    }
    let server = site.serve()?;
    scene.boots("crowd", Firmware::Bios, "guest")?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// A file that only the members of a group may read.
fn secret(path: &Path, group: u32) -> Result<(), Failure> {
    fs::write(path, "secret\n").during(path.display())?;
    chown(path, Some(0), Some(group)).during(path.display())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o040)).during(path.display())
}

/// Puts netbe, on a host with the user 7001, where a program can be called by its path alone.
fn write_program(path: &Path, netbe: &Path, users: &Path) -> Result<(), Failure> {
    let crowd = (1..=30).map(|number| format!("group{number}:x:{}:alice\n", 7100 + number));
    let group = format!("root:x:0:\nalice:x:7001:\n{}", crowd.collect::<String>());
    fs::write(users.join("group"), group).during("group")?;
    let passwd = "root:x:0:0::/root:/bin/sh\nalice:x:7001:7001::/:/bin/sh\n";
    fs::write(users.join("passwd"), passwd).during("passwd")?;
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let head = format!("#!/bin/sh\nexport NETBE={} USERS={}\n", quoted(netbe), quoted(users));
    fs::write(path, head + include_str!("../../guest/users.sh")).during(path.display())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).during(path.display())
}

/// The twentieth of the user's groups, as the host knows them.
const TWENTIETH: u32 = 7120;
/// What the client names, and the host does not.
const SENT: u32 = 7500;
