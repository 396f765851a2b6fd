//! The verb for thin templates: a base that jails share, and a skeleton that each has a copy of.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use bootcfg::fstab;
use clap::Args;
use serde::Serialize;
use store::progress::{Unit, Work};
use store::thin::{self, MOUNT_POINT, Plan, Touch, link_to, shown};
use store::{Environment, EnvironmentName, Point, Role, Store, Update};

use super::{Failure, Format, Reply, Site, Table};

/// Split a template into a base that jails share and a skeleton that is cloned for each jail.
///
/// It creates NAME-base and NAME-skeleton; NAME stays unchanged.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what"))]
pub(crate) struct Thin {
    /// Change nothing: print what would be done, or why it would be refused.
    #[arg(short = 'n', long, group = "what")]
    dry_run: bool,
    /// Verify that a base and its skeletons match, and that the split broke no link.
    #[arg(long, group = "what")]
    check: bool,
    /// Show the clones that use a base, and which of their files a change in the base affects.
    #[arg(long, group = "what")]
    touches: bool,
    /// Compare with this snapshot or boot environment [default: the base's newest snapshot].
    #[arg(long, value_name = "BE[@SNAP]", requires = "touches")]
    since: Option<Point>,
    /// Show what would change if this boot environment replaced the base: an updated clone of it,
    /// or the base of another release.
    #[arg(long, value_name = "BE", requires = "touches", conflicts_with = "since")]
    to: Option<EnvironmentName>,
    /// Print the fstab(5) of the jail whose root is this directory.
    #[arg(long, value_name = "DIR", group = "what")]
    fstab: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
    /// The template, or a base or skeleton that it was split into.
    name: EnvironmentName,
}

impl Thin {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let _work = Work::begin(|| format!("thin {}", self.name), Unit::Nothing, None);
        if self.dry_run {
            return self.plan(&store);
        }
        if self.check {
            return self.prove(&store);
        }
        if self.touches {
            return self.touched(site, &store);
        }
        if let Some(jail) = &self.fstab {
            return self.jail(&store, jail);
        }
        if !store.split(&self.name)? {
            return Ok(Reply::text(self.split_already()));
        }
        site.reload()?;
        Ok(Reply::done())
    }

    fn plan(&self, store: &Store) -> Result<Reply, Failure> {
        let plan = store.plan_split(&self.name)?;
        if plan == Plan::default() && self.format.is_for_people() {
            return Ok(Reply::text(self.split_already()));
        }
        let reply = self.format.reply(&steps(&plan), |steps| {
            let mut table = Table::new(&["ACTION", "PATH", "DETAIL"]);
            for Step { action, path, detail } in steps {
                table.row([(*action).to_owned(), path.clone(), detail.clone()]);
            }
            table
        })?;
        let refused = plan.refused.iter();
        Ok(reply.but(
            refused.map(|refusal| {
                Failure::no(format_args!("{} cannot be split: {refusal}", self.name))
            }),
        ))
    }

    fn split_already(&self) -> String {
        let name = &self.name;
        format!(
            "{name} is split already, into {name}-base and {name}-skeleton: nothing was changed\n"
        )
    }

    fn prove(&self, store: &Store) -> Result<Reply, Failure> {
        let pair = store.pair(&self.name)?;
        let (mut text, mut failures) = (String::new(), Vec::new());
        for skeleton in &pair.skeletons {
            let names = format!("{} with {}", pair.base.name, skeleton.name);
            let check = thin::check(&store.halves(&pair.base.name, &skeleton.name)?);
            let faults = check.faults.iter();
            failures.extend(faults.map(|fault| Failure::no(format_args!("{names}: {fault}"))));
            if check.faults.is_empty() {
                let (links, dangling) = (check.links, check.dangling.len());
                text += &format!(
                    "{names}: {links} links checked, the split breaks none; {dangling} led nowhere before\n"
                );
            }
        }
        if pair.skeletons.is_empty() {
            failures.push(Failure::no(format_args!(
                "{} has no skeleton: clone one, or split the template anew",
                pair.base.name
            )));
        }
        Ok(Reply::text(text).but(failures))
    }

    fn touched(&self, site: &Site, store: &Store) -> Result<Reply, Failure> {
        let pair = store.pair(&self.name)?;
        let roster = super::machine::roster(&site.open_state()?)?;
        let machines = |name: &EnvironmentName| -> Vec<String> {
            let boots = roster
                .iter()
                .filter(|(_, entry)| entry.machine.environment.as_deref() == Some(name.as_str()));
            boots.map(|(machine, _)| machine.to_string()).collect()
        };
        let user = |name: &EnvironmentName, touches: &[Touch]| User {
            environment: name.to_string(),
            machines: machines(name),
            touched: touches.iter().map(ToString::to_string).collect(),
        };
        let update = match (&self.to, &self.since) {
            (Some(new), _) => Update::To(new.clone()),
            (None, Some(since)) => Update::Since(since.clone()),
            (None, None) => Update::SinceNewest,
        };
        let touched = store.touched(&pair, &update)?;
        let mut users = vec![user(&pair.base.name, &[])];
        users.extend(touched.iter().map(|(name, touches)| user(name, touches)));
        let unknown =
            matches!(update, Update::SinceNewest) && store.snapshots(&pair.base.name)?.is_empty();
        let reply = self.format.reply(&users, |users| {
            let mut table = Table::new(&["ENVIRONMENT", "MACHINES", "TOUCHED"]);
            for User { environment, machines, touched } in users {
                let mut row = |touch: String| {
                    table.row([environment.clone(), machines.join(","), touch]);
                };
                if touched.is_empty() {
                    row(String::new());
                }
                touched.iter().cloned().for_each(row);
            }
            table
        })?;
        Ok(reply.but(unknown.then(|| {
            let base = &pair.base.name;
            Failure::no(format_args!(
                "what changed in {base} is not known: it has no snapshot; name with --since or --to what to \
                 compare it with, or run `netbe snapshot {base}@NAME` before an update"
            ))
        })))
    }

    fn jail(&self, store: &Store, jail: &Path) -> Result<Reply, Failure> {
        let base = of_jail(store, &self.name, jail)?;
        let (base, skeleton) = (store.root(&base), store.root(&self.name));
        let text = super::guest::text;
        let entries = fstab::thin(text(&base)?, text(&skeleton)?, text(jail)?);
        fstab::render(&entries).map(Reply::text).map_err(Failure::could_not)
    }
}

/// The base of a skeleton that is a jail's own, with its root in this directory.
pub(super) fn of_jail(
    store: &Store,
    name: &EnvironmentName,
    jail: &Path,
) -> Result<EnvironmentName, Failure> {
    let pair = store.pair(name)?;
    if !jail.is_absolute() {
        return Err(Failure::could_not(format_args!(
            "{jail:?} is not absolute: write the whole path of the jail's root on the host"
        )));
    }
    // Of what all jails' parts are cloned from, none may have a part.
    let jails = |skeleton: &&Environment| skeleton.role != Role::Template;
    if pair.skeletons.iter().filter(jails).any(|skeleton| skeleton.name == *name) {
        return Ok(pair.base.name);
    }
    let source = pair.skeletons.iter().find(|skeleton| !jails(skeleton));
    let source = source.or_else(|| pair.skeletons.first());
    let source = source.map_or("SKELETON", |one| one.name.as_str());
    Err(Failure::no(format_args!(
        "{name} belongs to no jail: run `netbe clone {source} JAIL`, and name the clone"
    )))
}

/// One thing that a split does.
#[derive(Serialize)]
struct Step {
    action: &'static str,
    path: String,
    detail: String,
}

/// Somebody who sees a base.
#[derive(Serialize)]
struct User {
    environment: String,
    machines: Vec<String>,
    touched: Vec<String>,
}

/// What a plan does, in the order in which it is told.
fn steps(plan: &Plan) -> Vec<Step> {
    let quoted = |text: &[u8]| format!("{:?}", String::from_utf8_lossy(text));
    let step = |action, path: String, detail: &dyn Display| Step {
        action,
        path,
        detail: detail.to_string(),
    };
    let place = |path: &str| format!("/{path}");
    let mut steps = Vec::new();
    for path in &plan.moved {
        steps.push(step("move", place(path), &format!("/{MOUNT_POINT}/{path}")));
    }
    for (path, mode) in &plan.created {
        steps.push(step("create", format!("/{MOUNT_POINT}/{path}"), &format!("{mode:o}")));
    }
    for path in plan.places() {
        steps.push(step("link", place(path), &link_to(path)));
    }
    for rewrite in &plan.rewritten {
        let texts = format!("{} becomes {}", quoted(&rewrite.from), quoted(&rewrite.to));
        steps.push(step("rewrite", shown(&rewrite.path), &texts));
    }
    for names in &plan.copied {
        let others: Vec<_> = names.iter().skip(1).map(|name| shown(name)).collect();
        let path = names.first().map(|name| shown(name)).unwrap_or_default();
        steps.push(step("copy", path, &format!("no longer one with {}", others.join(", "))));
    }
    for (path, flags) in &plan.flags {
        steps.push(step("flags", shown(path), &thin::flag_names(*flags)));
    }
    for path in &plan.absolute {
        steps.push(step("keep", shown(path), &"absolute: right in a jail only"));
    }
    for path in &plan.dangling {
        steps.push(step("keep", shown(path), &"leads nowhere already"));
    }
    steps
}
