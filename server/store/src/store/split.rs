//! Splits a template into a base and a skeleton.
//!
//! Both are made of clones of the template's root, into which comes what each needs of its other file
//! systems. The template stays as it is: nothing is ever moved, so nothing can be left half-way. Until
//! both are done and proved they are drafts, and the intent says that they go; then it says, at one
//! instant, what they become.

use std::os::unix::ffi::OsStrExt;

use uuid::Uuid;

use super::{Store, now};
use crate::back_end::{Extent, Side, Wanted};
use crate::draft::{self, Step};
use crate::locked::Locked;
use crate::thin::{self, Halves, Listing, Plan, ThinError, Touch};
use crate::tree::{self, Half, Until};
use crate::{
    Concerned, Environment, EnvironmentName, ExportSettings, Layout, Origin, Point, Role,
    StoreError, sys,
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
        let kept = self.kept(name)?;
        let template = self.template(&kept)?;
        for half in halves_of(name)? {
            if !self.is_done(&half, &template)? {
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
            let kept = self.kept(name)?;
            let _base = self.alone(&base)?;
            let _skeleton = self.alone(&skeleton)?;
            let template = self.template(&kept)?;
            let halves = [New::of(Half::Base, base), New::of(Half::Skeleton, skeleton)];
            let mut done = Vec::new();
            for half in &halves {
                self.accept(half.name.as_str())?;
                done.push(self.is_done(&half.name, &template)?);
            }
            if done.iter().all(|done| *done) {
                return Ok(false);
            }
            if let Some((half, _)) = halves.iter().zip(done).find(|(_, done)| *done) {
                return Err(StoreError::Exists(half.name.clone()));
            }
            let concerned = halves.iter().map(New::concerned).collect();
            let discard = halves.iter().map(New::discard).collect();
            let mut open = self.back_end.draft("thin", concerned, discard)?;
            self.build(&kept, &template, &halves, open.uuid())?;
            // The base is the last: where it is, both are.
            open.turn(halves.iter().rev().map(New::finish).collect())?;
            open.settle().map(|()| true)
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
        let bases = || listed.iter().filter(|environment| is(environment, BASE_PART));
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
            is(environment, SKELETON_PART) && environment.settings.value(BASE) == Some(&uuid)
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
        let _kept = [self.kept(base)?, self.kept(skeleton)?];
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
                let newest = self.snapshots(base)?.pop();
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
        kept: &Locked,
        template: &Environment,
        halves: &[New; 2],
        intent: Uuid,
    ) -> Result<(), StoreError> {
        let name = &template.name;
        let parts = self.back_end.open(name, Wanted::Whole)?;
        let tree = tree::list(&parts, &self.back_end.root(name))?;
        let plan = thin::plan(&tree);
        if let Some(refusal) = plan.refused.first().cloned() {
            return Err(ThinError::Refused { name: name.to_string(), refusal }.into());
        }
        if plan.is_empty() {
            return Err(ThinError::Split(name.to_string()).into());
        }
        let [New { uuid: base, .. }, _] = halves;
        for New { half, name: new, uuid } in halves {
            self.clone_half((kept, template), (new, *uuid), *base, intent)?;
            let (root, path) = (self.back_end.open_root(new)?, self.back_end.root(new));
            tree::unprotect(&root, &path)?;
            tree::fill(&root, *half, &parts, &plan, &path)?;
            tree::carve(&root, *half, &tree, &plan, &path)?;
            let flags = plan.flags.iter().filter(|(file, _)| half.has(&plan, file));
            tree::protect(&root, flags, &path)?;
            sys::synchronize(std::os::fd::AsFd::as_fd(&root))
                .map_err(crate::error::at("write", &path))?;
        }
        self.verify(name, &tree, &plan, halves)
    }

    /// Compares what was made with the template: its names, its links and all contents.
    fn verify(
        &self,
        name: &EnvironmentName,
        tree: &Listing,
        plan: &Plan,
        halves: &[New; 2],
    ) -> Result<(), StoreError> {
        let template = self.back_end.open_root(name)?;
        let mut made = Halves { base: Listing::default(), skeleton: Listing::default() };
        for New { half, name: other, .. } in halves {
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
            let changes = tree::compare(&template, &root, Until::End)?;
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
        (kept, template): (&Locked, &Environment),
        (name, uuid): (&EnvironmentName, Uuid),
        base: Uuid,
        intent: Uuid,
    ) -> Result<(), StoreError> {
        let mut settings = template.settings.clone();
        settings.set(TEMPLATE, Some(&template.uuid.to_string()))?;
        settings.set(BASE, Some(&base.to_string()))?;
        let mut new = Environment {
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
        draft::mark(&mut new, draft::DRAFT, intent)?;
        let root = Side { locked: kept, snapshot: None };
        self.back_end.clone_tree(root, Extent::Root, &new).map(drop)
    }

    /// A boot environment that may be split.
    fn template(&self, kept: &Locked) -> Result<Environment, StoreError> {
        let (name, template) = (kept.name(), self.back_end.record(kept)?);
        self.refuse_half(&template)?;
        match template.settings.value(PART) {
            None => Ok(template),
            Some(SKELETON_PART) => Err(ThinError::Skeleton(name.to_string()).into()),
            Some(_) => Err(ThinError::Split(name.to_string()).into()),
        }
    }

    /// Whether the template's half of this name is there. What else is called so is somebody's.
    fn is_done(&self, half: &EnvironmentName, template: &Environment) -> Result<bool, StoreError> {
        let found = match self.back_end.get(half) {
            Err(StoreError::NoEnvironment(_)) => return Ok(false),
            found => found?,
        };
        let template = template.uuid.to_string();
        let is_half = matches!(found.settings.value(PART), Some(BASE_PART | SKELETON_PART));
        match is_half && found.settings.value(TEMPLATE) == Some(&template) {
            true => Ok(true),
            false => Err(StoreError::Exists(half.clone())),
        }
    }

    /// Lists a boot environment as the one tree that its file systems are.
    fn listing(&self, name: &EnvironmentName) -> Result<Listing, StoreError> {
        tree::list(&self.back_end.open(name, Wanted::Whole)?, &self.back_end.root(name))
    }
}

/// A half that is to be made.
#[derive(Debug)]
struct New {
    half: Half,
    name: EnvironmentName,
    uuid: Uuid,
}

impl New {
    fn of(half: Half, name: EnvironmentName) -> Self {
        Self { half, name, uuid: Uuid::new_v4() }
    }

    fn concerned(&self) -> Concerned {
        Concerned { name: self.name.to_string(), uuid: self.uuid }
    }

    fn discard(&self) -> Step {
        Step::Discard { name: self.name.to_string(), uuid: self.uuid }
    }

    fn finish(&self) -> Step {
        let part = match self.half {
            Half::Base => BASE_PART,
            Half::Skeleton => SKELETON_PART,
        };
        Step::Finish {
            name: self.name.to_string(),
            uuid: self.uuid,
            role: Role::Template.as_str().to_owned(),
            settings: vec![(PART.to_owned(), part.to_owned())],
        }
    }
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
const BASE_PART: &str = "base";
const SKELETON_PART: &str = "skeleton";
