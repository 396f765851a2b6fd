//! Splits a template into a base and a skeleton.
//!
//! Both are made of clones of the template's root, into which comes what each needs of its other file
//! systems. The template stays as it is: nothing is ever moved, so nothing can be left half-way. Until
//! both are done and proved they have the role [`Role::Off`] and say `thin=unfinished`; then both say
//! `thin=built`, and only then each becomes what it is. A command that finds unfinished ones destroys
//! them and begins anew; one that finds two that are built completes them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use uuid::Uuid;

use super::{Store, now};
use crate::thin::{self, Halves, Listing, Plan, ThinError, Touch};
use crate::tree::{self, Half};
use crate::{
    Environment, EnvironmentName, ExportSettings, Layout, Origin, Point, Role, StoreError, sys,
};

/// A base and what is mounted in it.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The base.
    pub base: Environment,
    /// Its skeletons: the template's, and the clones of it.
    pub skeletons: Vec<Environment>,
}

/// An update of a base: one that was done, or one that might be.
#[derive(Clone, Debug)]
pub enum Update {
    /// All that was done to the base since then.
    Since(Point),
    /// All that was done to it since its newest snapshot; nothing if it has none.
    SinceNewest,
    /// That this environment takes its place.
    To(EnvironmentName),
}

impl Store {
    /// What [`Store::split`] would do to a boot environment: nothing if it is split.
    pub fn plan_split(&self, name: &EnvironmentName) -> Result<Plan, StoreError> {
        let _kept = self.kept(name)?;
        let template = self.template(name)?;
        for half in halves_of(name)? {
            if self.stage(&half, &template)? != Stage::Done {
                return Ok(thin::plan(&self.listing(name)?));
            }
        }
        Ok(Plan::default())
    }

    /// Splits a boot environment into `NAME-base` and `NAME-skeleton`; the one that is split stays as
    /// it is. If there are both already, that is all. Returns whether there was anything to do.
    ///
    /// The contents of all files are compared at the end, and where every link leads.
    pub fn split(&self, name: &EnvironmentName) -> Result<bool, StoreError> {
        self.noted("thin", &[name.as_str()], || {
            let [base, skeleton] = halves_of(name)?;
            let _kept = self.kept(name)?;
            let _base = self.alone(&base)?;
            let _skeleton = self.alone(&skeleton)?;
            let template = self.template(name)?;
            let halves = [(Half::Base, base), (Half::Skeleton, skeleton)];
            let mut stages = Vec::new();
            for (_, half) in &halves {
                self.accept(half.as_str())?;
                stages.push(self.stage(half, &template)?);
            }
            if stages.iter().all(|stage| *stage == Stage::Done) {
                return Ok(false);
            }
            if stages.iter().all(|stage| matches!(stage, Stage::Built | Stage::Done)) {
                return self.complete(&halves).map(|()| true);
            }
            for ((_, half), stage) in halves.iter().zip(stages) {
                match stage {
                    Stage::Nothing => {}
                    Stage::Built | Stage::Unfinished => self.discard(half)?,
                    Stage::Done => return Err(StoreError::Exists(half.clone())),
                }
            }
            let built = self.build(&template, &halves);
            if built.is_err() {
                for (_, half) in &halves {
                    // The first error is the one to tell; the next command tries again.
                    let _ = self.discard(half);
                }
            }
            built?;
            self.complete(&halves).map(|()| true)
        })
    }

    /// The base that a boot environment is, or belongs to, or was split into, with its skeletons.
    pub fn pair(&self, name: &EnvironmentName) -> Result<Pair, StoreError> {
        let listed = self.back_end.list()?.environments;
        let found = self.back_end.get(name);
        let known = found.as_ref().ok().and_then(|found| found.settings.value(BASE));
        let split = |environment: &&Environment| {
            halves_of(name).is_ok_and(|[base, _]| base == environment.name)
        };
        let is = |environment: &&Environment, part| environment.settings.value(PART) == Some(part);
        let bases = || listed.iter().filter(|environment| is(environment, "base"));
        let base = match known {
            Some(uuid) => bases().find(|base| base.uuid.to_string() == uuid),
            None => bases().find(split),
        };
        let Some(base) = base.cloned() else {
            let lost = known.is_some();
            let name = found?.name.to_string();
            let error = if lost { ThinError::NoBase(name) } else { ThinError::NoPart(name) };
            return Err(error.into());
        };
        let uuid = base.uuid.to_string();
        let own = |environment: &&Environment| {
            is(environment, "skeleton") && environment.settings.value(BASE) == Some(&uuid)
        };
        let skeletons = listed.iter().filter(own).cloned().collect();
        Ok(Pair { base, skeletons })
    }

    /// Lists a base and a skeleton.
    pub fn halves(
        &self,
        base: &EnvironmentName,
        skeleton: &EnvironmentName,
    ) -> Result<Halves, StoreError> {
        let _kept = self.keep(base, skeleton)?;
        Ok(Halves { base: self.listing(base)?, skeleton: self.listing(skeleton)? })
    }

    /// What an update of a base means for its skeletons.
    pub fn touched(
        &self,
        pair: &Pair,
        update: &Update,
    ) -> Result<Vec<(EnvironmentName, Vec<Touch>)>, StoreError> {
        let base = &pair.base.name;
        let new = match update {
            Update::Since(_) | Update::SinceNewest => base,
            Update::To(new) => new,
        };
        let old = match update {
            Update::Since(since) => Some(since.clone()),
            Update::SinceNewest => {
                let newest = self.back_end.snapshots(base)?.pop();
                newest.map(|snapshot| Point::snapshot(base, &snapshot.name))
            }
            Update::To(_) => Some(base.clone().into()),
        };
        let changes = match old {
            Some(old) => self.diff(&old, &new.clone().into())?,
            None => Vec::new(),
        };
        let touched = pair.skeletons.iter().map(|skeleton| {
            let halves = self.halves(new, &skeleton.name)?;
            Ok((skeleton.name.clone(), thin::touched(&changes, &halves)))
        });
        touched.collect()
    }

    fn build(
        &self,
        template: &Environment,
        halves: &[(Half, EnvironmentName)],
    ) -> Result<(), StoreError> {
        let name = &template.name;
        let parts = self.back_end.open_whole(name)?;
        let tree = tree::list(&parts, &self.back_end.root(name))?;
        let plan = thin::plan(&tree);
        if let Some(refusal) = plan.refused.first().cloned() {
            return Err(ThinError::Refused { name: name.to_string(), refusal }.into());
        }
        if plan.is_empty() {
            return Err(ThinError::Split(name.to_string()).into());
        }
        let base = Uuid::new_v4();
        for (half, new) in halves {
            let uuid = if *half == Half::Base { base } else { Uuid::new_v4() };
            self.clone_half(template, new, uuid, base)?;
            let (root, path) = (self.back_end.open_root(new)?, self.back_end.root(new));
            tree::unprotect(&root, &path)?;
            tree::fill(&root, *half, &parts, &plan, &path)?;
            tree::carve(&root, *half, &tree, &plan, &path)?;
            let flags = plan.flags.iter().filter(|(file, _)| half.has(&plan, file));
            tree::protect(&root, flags, &path)?;
            sys::synchronize(std::os::fd::AsFd::as_fd(&root))
                .map_err(crate::error::at("write", &path))?;
        }
        self.verify(name, &tree, &plan, halves)?;
        for (_, half) in halves {
            self.advance(half, "built", Role::Off)?;
        }
        Ok(())
    }

    /// Compares what was made with the template: its names, its links and all contents.
    fn verify(
        &self,
        name: &EnvironmentName,
        tree: &Listing,
        plan: &Plan,
        halves: &[(Half, EnvironmentName)],
    ) -> Result<(), StoreError> {
        let template = self.back_end.open_root(name)?;
        let mut made = Halves { base: Listing::default(), skeleton: Listing::default() };
        for (half, other) in halves {
            let listing = self.listing(other)?;
            let expected = |path: &[u8]| {
                let rewritten = plan.rewritten.iter().any(|rewrite| rewrite.path == path);
                let new = match half {
                    Half::Base => path == thin::MOUNT_POINT.as_bytes(),
                    Half::Skeleton => {
                        plan.created.iter().any(|(place, _)| place.as_bytes() == path)
                    }
                };
                rewritten || new || !half.has(plan, path)
            };
            let root = self.back_end.open_root(other)?;
            let changes = tree::compare(&template, &root, Path::new(""))?;
            let paths = changes.iter().map(|change| change.path.as_os_str().as_bytes());
            if let Some(path) = paths.into_iter().find(|path| !expected(path)) {
                let (name, path) = (name.to_string(), path.to_vec());
                return Err(ThinError::Changed { name, path }.into());
            }
            match half {
                Half::Base => made.base = listing,
                Half::Skeleton => made.skeleton = listing,
            }
        }
        match thin::prove(tree, plan, &made).into_iter().next() {
            None => Ok(()),
            Some(fault) => Err(ThinError::Faulty { name: name.to_string(), fault }.into()),
        }
    }

    fn clone_half(
        &self,
        template: &Environment,
        name: &EnvironmentName,
        uuid: Uuid,
        base: Uuid,
    ) -> Result<(), StoreError> {
        let mut settings = template.settings.clone();
        settings.set(PART, Some(UNFINISHED))?;
        settings.set(TEMPLATE, Some(&template.uuid.to_string()))?;
        settings.set(BASE, Some(&base.to_string()))?;
        let new = Environment {
            name: name.clone(),
            uuid,
            created: now(),
            origin: Some(Origin {
                name: template.name.clone(),
                uuid: template.uuid,
                snapshot: None,
            }),
            // nullfs shows one file system and none of those below it.
            layout: Layout::Flat,
            datasets: Vec::new(),
            role: Role::Off,
            settings,
            export: ExportSettings::default(),
        };
        self.back_end.clone_root(&template.name, &new)
    }

    /// A boot environment that may be split.
    fn template(&self, name: &EnvironmentName) -> Result<Environment, StoreError> {
        let template = self.back_end.get(name)?;
        self.refuse_half(&template)?;
        match template.settings.value(PART) {
            None => Ok(template),
            Some("skeleton") => Err(ThinError::Skeleton(name.to_string()).into()),
            Some(_) => Err(ThinError::Split(name.to_string()).into()),
        }
    }

    /// Makes two that are built what they are. The base is the last: where it is, both are.
    fn complete(&self, halves: &[(Half, EnvironmentName)]) -> Result<(), StoreError> {
        for (half, name) in halves.iter().rev() {
            let part = match half {
                Half::Base => "base",
                Half::Skeleton => "skeleton",
            };
            if self.back_end.get(name)?.settings.value(PART) == Some(BUILT) {
                self.advance(name, part, Role::Template)?;
                self.back_end.release(name)?;
            }
        }
        Ok(())
    }

    fn advance(&self, name: &EnvironmentName, part: &str, role: Role) -> Result<(), StoreError> {
        let mut environment = self.back_end.get(name)?;
        environment.settings.set(PART, Some(part))?;
        environment.role = role;
        self.back_end.write(&environment)
    }

    /// How far an earlier command came with a half.
    fn stage(&self, half: &EnvironmentName, template: &Environment) -> Result<Stage, StoreError> {
        let found = match self.back_end.get(half) {
            Err(StoreError::NoEnvironment(_)) => return Ok(Stage::Nothing),
            found => found?,
        };
        let template = template.uuid.to_string();
        if found.settings.value(TEMPLATE) != Some(&template) {
            return Err(StoreError::Exists(half.clone()));
        }
        Ok(match found.settings.value(PART) {
            Some(UNFINISHED) => Stage::Unfinished,
            Some(BUILT) => Stage::Built,
            Some(_) | None => Stage::Done,
        })
    }

    /// Destroys a half that was not completed, if it is there.
    fn discard(&self, half: &EnvironmentName) -> Result<(), StoreError> {
        match self.back_end.open_root(half) {
            Err(StoreError::NoEnvironment(_)) => return Ok(()),
            root => tree::unprotect(&root?, &self.back_end.root(half))?,
        }
        self.back_end.destroy(half)
    }

    /// Lists a boot environment as the one tree that its file systems are.
    fn listing(&self, name: &EnvironmentName) -> Result<Listing, StoreError> {
        tree::list(&self.back_end.open_whole(name)?, &self.back_end.root(name))
    }
}

/// How far a half has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// It is not there.
    Nothing,
    /// It is being made, or was when its command was killed.
    Unfinished,
    /// It is proved.
    Built,
    /// It is a base or a skeleton.
    Done,
}

/// The names of what a template is split into: the base's and the skeleton's.
fn halves_of(name: &EnvironmentName) -> Result<[EnvironmentName; 2], StoreError> {
    let named = |part: &str| {
        let text = format!("{name}-{part}");
        text.parse().map_err(|_| StoreError::Name {
            name: text,
            reason: "it is too long: rename the template first",
        })
    };
    Ok([named("base")?, named("skeleton")?])
}

/// Settings: what part of a split it is, of which template, and with which base.
const PART: &str = "thin";
const TEMPLATE: &str = "thin.template";
const BASE: &str = "thin.base";
const UNFINISHED: &str = "unfinished";
const BUILT: &str = "built";
