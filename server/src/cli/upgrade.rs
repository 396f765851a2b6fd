//! Verbs that change what a machine boots: another environment, or a template's new version.

use clap::Args;
use store::{EnvironmentName, Point};

use super::snapshot::shown;
use super::{Dry, Failure, Reply, Site, machine, root};
use crate::site::machine::MachineName;
use provision::roots::Roots;
use provision::roots::merge::{Beside, Fate};
use provision::roots::upgrade::{Upgrade as Plan, conflict_path};

/// Set the boot environment that a machine boots from its next boot on.
///
/// A machine with its own root (`--root own`) boots its clone of that environment; netbe makes the
/// clone if there is none.
#[derive(Args, Debug)]
pub(crate) struct Activate {
    /// Set it for the next boot only. After that boot the machine returns to its present environment.
    #[arg(short = 't', long, conflicts_with = "no_longer")]
    once: bool,
    /// Cancel an earlier -t.
    #[arg(short = 'T', long = "cancel", conflicts_with = "name")]
    no_longer: bool,
    #[command(flatten)]
    dry: Dry,
    /// The machine.
    machine: MachineName,
    /// The boot environment.
    #[arg(value_name = "BE[@SNAP]", required_unless_present = "no_longer")]
    name: Option<Point>,
}

impl Activate {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let known = root::changeable(site, &self.machine)?;
        let wanted = self.name.as_ref();
        let wanted = wanted.map(|wanted| root::for_machine(site, &self.machine, &known, wanted));
        let write = |environment: Option<String>| {
            machine::change(site, |roster| {
                let mut machine = roster.take(&self.machine)?;
                if self.once {
                    machine.once = environment;
                } else {
                    machine.once = None;
                    machine.environment = environment.or(machine.environment);
                }
                roster.insert(self.machine.clone(), machine.clone(), false)?;
                Ok((self.machine.clone(), machine))
            })
        };
        match wanted.transpose()? {
            None => write(None),
            Some(wanted) => wanted.write_down(site, &self.machine, |wanted| write(Some(wanted))),
        }
    }
}

/// Give a machine a new root from a template's new version, and keep the machine's own
/// configuration and data.
///
/// netbe merges the changes that the machine and the template have made since the machine's root
/// was cloned. The machine boots its new root once; `netbe activate` makes that permanent. Its
/// present root stays unchanged.
#[derive(Args, Debug)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    dry: Dry,
    /// Upgrade even if files conflict: keep the machine's version, and put the template's beside it
    /// as FILE.netbe-conflict.
    #[arg(short, long)]
    force: bool,
    /// The machine.
    machine: MachineName,
    /// The template's new version.
    #[arg(value_name = "BE[@SNAP]")]
    template: Point,
}

impl Upgrade {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        machine::exists(site, Some(&self.template))?;
        let own = root::own(site, &self.machine)?;
        // With -n the plan is shown all the same, and the refusal after it.
        let fixed = match root::changeable(site, &self.machine) {
            Err(refused) if !self.dry.is_dry() => return Err(refused),
            known => known.err(),
        };
        let (store, state) = (site.open()?, site.open_state()?);
        let roots = Roots::new(&store, state.path());
        let to = roots.pinned(&self.template)?.unwrap_or_else(|| self.template.clone());
        if roots.are_alike(&roots.template(&own)?, &to)? {
            return Err(Failure::no(format_args!(
                "{} of {} is made from {to} as it is now: there is nothing to upgrade",
                own.name, self.machine
            )));
        }
        let mut plan = roots.plan_upgrade(&own, &to)?;
        let is_refused = |plan: &Plan| !self.force && plan.conflicts().next().is_some();
        if !self.dry.is_dry() && to.snapshot.is_none() && !is_refused(&plan) {
            plan = roots.plan_upgrade(&own, &roots.pin(&to)?)?;
        }
        let text = describe(&self.machine, &plan);
        if let Some(fixed) = fixed {
            return Ok(Reply::text(text).but([fixed]));
        }
        if is_refused(&plan) {
            let conflicts = plan.conflicts().count();
            let refused = Failure::no(format_args!(
                "{conflicts} of {}'s files cannot be merged: edit them in {} or in {}, or upgrade with -f, \
                 which keeps the machine's version and puts the template's beside it",
                self.machine, own.name, self.template.environment
            ));
            return Ok(Reply::text(text).but([refused]));
        }
        if self.dry.is_dry() {
            return Ok(Reply::text(text));
        }
        let made = roots.upgrade(self.machine.as_str(), &plan)?;
        root::or_gone(site, &self.machine, &made.name, || self.assign(site, &made.name))?;
        let (machine, new, old) = (&self.machine, &made.name, &own.name);
        let mut text = format!(
            "{text}{machine} boots {new} at its next boot, once: `netbe activate {machine} {new}` makes it \
             permanent, and `netbe activate {machine} {old}` goes back\n"
        );
        let kept = roots.kept(machine.as_str())?.into_iter().map(|root| root.name);
        let older: Vec<_> = kept.filter(|root| root != new && root != old).collect();
        if !older.is_empty() {
            let older = older.iter().map(EnvironmentName::as_str).collect::<Vec<_>>().join(", ");
            text += &format!(
                "{machine} has older roots: {older}; destroy those that nobody needs with `netbe destroy`\n"
            );
        }
        Ok(Reply::text(text))
    }

    fn assign(&self, site: &Site, new: &EnvironmentName) -> Result<(), Failure> {
        machine::change(site, |roster| {
            let mut machine = roster.take(&self.machine)?;
            machine.once = Some(new.to_string());
            roster.insert(self.machine.clone(), machine.clone(), false)?;
            Ok((self.machine.clone(), machine))
        })
        .map(drop)
    }
}

/// What an upgrade does, a line for each file.
fn describe(machine: &MachineName, plan: &Plan) -> String {
    let mut text = format!("{machine}: {} -> {}\n", plan.from, plan.to);
    for step in &plan.steps {
        let path = shown(&step.path);
        text += &match &step.fate {
            Fate::Conflict { beside: Beside::Nothing, .. } => format!("conflict  {path}\n"),
            Fate::Conflict { beside: Beside::Marked(_) | Beside::Theirs, .. } => {
                format!("conflict  {path} ({})\n", shown(&conflict_path(&step.path)))
            }
            Fate::Kept(Some(_)) => format!("keep      {path}\n"),
            Fate::Kept(None) => format!("keep      {path} (removed)\n"),
            Fate::Merged { .. } => format!("merge     {path}\n"),
            Fate::Taken => format!("take      {path}\n"),
        };
    }
    if !plan.left.is_empty() {
        text += &format!(
            "not taken over: {} more changes of the machine; `netbe machine diff {machine}` shows them\n",
            plan.left.len()
        );
    }
    text
}
