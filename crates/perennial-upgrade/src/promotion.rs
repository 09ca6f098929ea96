//! A promotion: a version is loaded, verified, warmed up and checked before it becomes the live one.
//!
//! One list of checks for a running service, its start, its rollback and the command line without a service:
//!
//! 1. [`prepare`]: the slow checks of the version alone.
//! 2. [`Verdict::check_stored`]: the checks against the current content of the gallery.
//! 3. [`Verdict::check_needs`]: whether the encoders and the indexes that its routes need beside it can be used.
//! 4. [`go_live`]: one write that moves the alias, together with what force accepts.

mod roads;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_core::{ModelVersion, Registry, RegistryError};
use perennial_gallery::SimplexIdentity;

use self::roads::{Road, describe, dimensions};
use crate::certification::{Certification, Need, NotCertified, Standing};
use crate::loaded_model::{EncoderLoader, LoadedModel};
use crate::plan::{Asking, SearchPlan};
use crate::probe_file::Probes;
use crate::query_cost::QueryCost;
use crate::self_check;
use crate::stored::{Stored, simplex_beside};
use crate::stored_probes::{Checked, StoredProbes};

/// The alias of the version that embeds queries.
pub const LIVE_ALIAS: &str = "live";
/// The alias of the previous live version, for a rollback.
pub const PREVIOUS_ALIAS: &str = "previous";

/// One check and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found.
    pub detail: String,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Passed.
    Passed,
    /// Not certified beyond doubt, but allowed by the policy or by an earlier `--force`.
    Warned,
    /// The promotion is refused.
    Failed,
}

/// The checks so far. A broken version is refused in any case; force overrules missing certificates, another simplex, and items that only
/// an old encoder that cannot be used leads to.
#[derive(Debug, Default)]
pub struct Verdict {
    checks: Vec<Check>,
    broken: bool,
    refused: Vec<NotCertified>,
    other_simplex: bool,
    /// Whether items become unreachable because an old encoder cannot be used.
    lost: bool,
}

impl Verdict {
    /// The checks in order. They end at the first failure that `--force` cannot overrule.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Whether a check failed that no force overrules.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The pairs that are not certified.
    pub fn refused(&self) -> &[NotCertified] {
        &self.refused
    }

    /// Whether only force lets the version become live.
    pub fn needs_force(&self) -> bool {
        !self.refused.is_empty() || self.other_simplex || self.lost
    }

    /// Whether the version may become live.
    pub fn allows(&self, force: bool) -> bool {
        !self.broken && (force || !self.needs_force())
    }

    /// The failed checks in one sentence.
    pub fn problem(&self) -> String {
        let failed = self
            .checks
            .iter()
            .filter(|check| check.outcome == Outcome::Failed)
            .map(|check| format!("{}: {}", check.name, check.detail));
        failed.collect::<Vec<_>>().join("; ")
    }

    fn add(&mut self, name: impl Into<String>, outcome: Outcome, detail: impl Into<String>) {
        self.checks.push(Check {
            name: name.into(),
            outcome,
            detail: detail.into(),
        });
    }

    /// Adds a check that no force overrules.
    fn require(&mut self, name: &str, result: Result<String, String>) -> bool {
        let passed = result.is_ok();
        let (Ok(detail) | Err(detail)) = result;
        let outcome = if passed {
            Outcome::Passed
        } else {
            Outcome::Failed
        };
        self.add(name, outcome, detail);
        self.broken |= !passed;
        passed
    }

    /// The checks against the gallery: a certified route for queries of the version to the items of each stored version, the dimension, and
    /// the simplex of those that route own leads to.
    ///
    /// The detail of a route says how it searches, what quality the measurement lets expect, and what it costs.
    pub fn check_stored(
        &mut self,
        model: &LoadedModel,
        stored: &Stored,
        certification: &Certification,
    ) {
        let dim = model.version.dim;
        let roads: Vec<Road<'_>> = stored
            .spaces
            .iter()
            .map(|stats| Road::to(stats, model.name(), dim, certification))
            .collect();
        let fits = dimensions(dim, &roads);
        self.require("dimension", fits);
        self.check_simplex(model.simplex, &roads);
        for road in roads {
            let name = format!("compatibility with {}", road.stats.space.id);
            match road.standing {
                Standing::Certified(certified) => {
                    let outcome = match certified.undecided {
                        true => Outcome::Warned,
                        false => Outcome::Passed,
                    };
                    self.add(name, outcome, describe(&certified, road.stats));
                }
                Standing::Accepted(pair) if road.stats.space.dim == dim => {
                    let detail = format!(
                        "route own, not certified, but accepted earlier with --force: {}",
                        pair.reason
                    );
                    self.add(name, Outcome::Warned, detail);
                }
                // Force compares as they are what has one dimension, and nothing else.
                Standing::Accepted(pair) | Standing::Refused(pair) => {
                    let detail = format!("{pair}; {} items become unreachable", road.stats.items);
                    self.add(name, Outcome::Failed, detail);
                    self.refused.push(pair);
                }
            }
        }
    }

    /// What the version's best routes need, old encoders and indexes of mapped vectors: one that cannot be used is a warning where another certified
    /// route leads to its items, and a failed check where none does. `usable` says why one cannot be used; it is asked once for each of them.
    pub fn check_needs(
        &mut self,
        version: &ModelVersion,
        stored: &Stored,
        certification: &Certification,
        usable: &dyn Fn(Need<'_>) -> Result<Option<String>, String>,
    ) {
        let plan = |available: &dyn Fn(Need<'_>) -> bool| {
            let asking = Asking::Version(&version.name);
            SearchPlan::of(certification, asking, version.dim, stored, None, available)
        };
        let asked: RefCell<BTreeMap<String, Result<Option<String>, String>>> = RefCell::default();
        let of = |need: Need<'_>| {
            let mut asked = asked.borrow_mut();
            let found = asked.entry(need.to_string());
            found.or_insert_with(|| usable(need)).clone()
        };
        let possible = plan(&|need| of(need).is_ok());
        for part in plan(&|_| true).parts {
            for space in &part.spaces {
                let Some(need) = part.way.need(space.as_str()) else {
                    continue;
                };
                let mut instead = possible.parts.iter();
                let instead = instead.find(|part| part.spaces.contains(space));
                let (outcome, detail) = match (of(need), instead) {
                    (Ok(said), _) => {
                        let detail = said.unwrap_or_else(|| need.met().to_owned());
                        (Outcome::Passed, detail)
                    }
                    (Err(problem), Some(part)) => (
                        Outcome::Warned,
                        format!(
                            "cannot be used, so its items are searched by route {}: {problem}",
                            part.way.route()
                        ),
                    ),
                    (Err(problem), None) => (
                        Outcome::Failed,
                        format!(
                            "cannot be used, and no other certified route leads to its items, which become unreachable: {problem}"
                        ),
                    ),
                };
                self.lost |= outcome == Outcome::Failed;
                self.add(need.to_string(), outcome, detail);
            }
        }
    }

    /// Adds what a query costs. It refuses nothing.
    pub fn note_cost(&mut self, cost: &QueryCost) {
        self.add("cost per query", Outcome::Passed, cost.to_string());
    }

    fn check_simplex(&mut self, own: Option<SimplexIdentity>, roads: &[Road<'_>]) {
        let met = roads.iter().filter(|road| !road.is_bridged());
        let met = met.map(|road| road.stats.space.simplex);
        let (outcome, detail) = match (simplex_beside(own, met), own) {
            (Some(gallery), Some(own)) if gallery == own => (
                Outcome::Passed,
                format!("same as the gallery, {} vertices", own.vertices),
            ),
            (Some(gallery), own) => (
                Outcome::Failed,
                match own {
                    Some(own) => format!(
                        "the simplex has {} vertices, that of the gallery has {}",
                        own.vertices, gallery.vertices
                    ),
                    None => format!(
                        "the version has a linear classifier, but the gallery has a simplex of {} vertices",
                        gallery.vertices
                    ),
                },
            ),
            _ if roads.iter().any(Road::is_bridged) => (
                Outcome::Passed,
                "no simplex among the items that route own leads to".to_owned(),
            ),
            _ => (Outcome::Passed, "the gallery has no simplex".to_owned()),
        };
        self.other_simplex |= outcome == Outcome::Failed;
        self.add("simplex", outcome, detail);
    }
}

/// A loaded version that passed its checks.
pub struct Candidate {
    /// The version in memory.
    pub model: Arc<LoadedModel>,
    /// Probes to be stored once it is live; none if they are stored already.
    pub new_probes: Option<Probes>,
}

/// The result of the checks of a version alone.
pub struct Prepared {
    /// The version's name.
    pub name: String,
    /// None where a check failed that no force overrules.
    pub candidate: Option<Candidate>,
    /// The checks so far.
    pub verdict: Verdict,
}

impl Prepared {
    /// A version that is still loaded and was checked when it was.
    pub fn still_loaded(model: Arc<LoadedModel>) -> Self {
        let mut verdict = Verdict::default();
        verdict.add("load", Outcome::Passed, "already in memory");
        Self {
            name: model.name().to_owned(),
            candidate: Some(Candidate {
                model,
                new_probes: None,
            }),
            verdict,
        }
    }
}

/// Reads, hashes, loads and tests a version (a name or an alias). The live version is not touched. `stored` names the versions
/// with stored items; these must reproduce their stored probes.
///
/// # Errors
/// Only an unknown name; any other problem is a failed check.
pub fn prepare(
    registry: &Registry,
    loader: &dyn EncoderLoader,
    probes: Option<&StoredProbes>,
    stored: &BTreeMap<String, u64>,
    name: &str,
) -> Result<Prepared, RegistryError> {
    let mut verdict = Verdict::default();
    let version = match registry.get(name) {
        Ok(version) => version,
        // Not a typing error: there was such a version, and whoever wants it live must be told that it is gone.
        Err(RegistryError::Unknown { .. }) if registry.is_deleted(name)? => {
            let gone =
                format!("{name} was deleted from the registry, and its number is not given again");
            verdict.require("description", Err(gone));
            return Ok(Prepared {
                name: name.to_owned(),
                candidate: None,
                verdict,
            });
        }
        Err(error @ (RegistryError::Unknown { .. } | RegistryError::DanglingAlias { .. })) => {
            return Err(error);
        }
        Err(error) => {
            verdict.require("description", Err(error.to_string()));
            return Ok(Prepared {
                name: name.to_owned(),
                candidate: None,
                verdict,
            });
        }
    };
    let name = version.name.clone();
    let candidate = try_version(registry, loader, probes, stored, version, &mut verdict);
    Ok(Prepared {
        name,
        candidate,
        verdict,
    })
}

fn try_version(
    registry: &Registry,
    loader: &dyn EncoderLoader,
    probes: Option<&StoredProbes>,
    stored: &BTreeMap<String, u64>,
    version: ModelVersion,
    verdict: &mut Verdict,
) -> Option<Candidate> {
    let megabytes = version.weights_bytes as f64 / 1e6;
    let weights = match registry.verify(&version) {
        Ok(()) => Ok(format!("{megabytes:.1} MB with the published SHA-256")),
        Err(error) => Err(error.to_string()),
    };
    if !verdict.require("weights", weights) {
        return None;
    }
    let model = match LoadedModel::load(loader, registry, version) {
        Ok(model) => model,
        Err(error) => {
            verdict.require("load", Err(error.problem));
            return None;
        }
    };
    verdict.require("load", Ok(format!("dimension {}", model.version.dim)));
    let warm = self_check::warm_up(&model);
    if !verdict.require("warm_up", warm) {
        return None;
    }
    let sound = self_check::run(&model)
        .map(|()| "embeddings have unit length and do not depend on the batch".to_owned());
    if !verdict.require("self_check", sound) {
        return None;
    }
    let mut new_probes = None;
    if let Some(probes) = probes {
        let in_use = stored.contains_key(model.name());
        let outcome = match probes.check(&model, in_use) {
            Ok(Checked::Same { distance }) => Ok(format!(
                "same embeddings as when the version first went live, within {distance:.1e}"
            )),
            Ok(Checked::New(found)) => {
                new_probes = Some(found);
                Ok(
                    "the version goes live for the first time; its embeddings are recorded"
                        .to_owned(),
                )
            }
            Err(error) => Err(error.to_string()),
        };
        if !verdict.require("stored_probes", outcome) {
            return None;
        }
    }
    Some(Candidate {
        model: Arc::new(model),
        new_probes,
    })
}

/// Points `live` at a version and `previous` at the one before, and accepts the pairs that force overrules with it: both happen or neither does.
/// Returns the one before.
///
/// # Errors
/// A registry or a list of accepted pairs that cannot be read or written; everything is as it was then.
pub fn go_live(
    registry: &Registry,
    certification: &Certification,
    version: &str,
    overruled: &[NotCertified],
) -> Result<Option<String>, RegistryError> {
    certification.accept_with(overruled, || move_live(registry, version))
}

/// One write.
fn move_live(registry: &Registry, version: &str) -> Result<Option<String>, RegistryError> {
    let before = registry.aliases()?.remove(LIVE_ALIAS);
    // A version before that is gone cannot be returned to, and must not keep another one from becoming live.
    let exists = |before: &&str| registry.resolve(before).is_ok();
    match before
        .as_deref()
        .filter(|before| *before != version)
        .filter(exists)
    {
        Some(before) => {
            registry.set_aliases(&[(LIVE_ALIAS, version), (PREVIOUS_ALIAS, before)])?;
        }
        None => {
            registry.set_alias(LIVE_ALIAS, version)?;
        }
    }
    Ok(before)
}

/// Stores the probes of a version that goes live for the first time. A failure is only logged; the next load tries again.
pub fn keep_probes(probes: &StoredProbes, model: &LoadedModel, new: &Probes) {
    if let Err(error) = probes.keep(model, new) {
        tracing::warn!(%error, "the probes of {} could not be stored", model.name());
    }
}

#[cfg(test)]
mod tests;
