//! A promotion: a version is loaded, verified, warmed up and checked before it becomes the live one.
//!
//! One list of checks for a running service, its start, its rollback and the command line without a service:
//!
//! 1. [`prepare`]: the slow checks of the version alone.
//! 2. [`Verdict::check_stored`]: the checks against the current content of the gallery.
//! 3. [`move_live`]: one write that moves the alias.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_core::{ModelVersion, Registry, RegistryError};
use perennial_gallery::SimplexIdentity;

use crate::certification::{Certification, NotCertified, Standing};
use crate::loaded_model::{EncoderLoader, LoadedModel};
use crate::self_check;
use crate::stored::Stored;
use crate::stored_probes::{Checked, Probes, StoredProbes};

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

/// The checks so far. A broken version is refused in any case; force overrules missing certificates and another simplex.
#[derive(Debug, Default)]
pub struct Verdict {
    checks: Vec<Check>,
    broken: bool,
    refused: Vec<NotCertified>,
    other_simplex: bool,
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
        !self.refused.is_empty() || self.other_simplex
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

    /// The checks against the gallery: dimension, simplex, and a certificate for queries of the version on the items of
    /// each stored version.
    pub fn check_stored(
        &mut self,
        model: &LoadedModel,
        stored: &Stored,
        certification: &Certification,
    ) {
        let dim = model.version.dim;
        let dims = stored.dims();
        let fits = match dims.is_empty() || dims.contains(&dim) {
            true => Ok(format!("{dim}")),
            false => {
                let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
                Err(format!(
                    "its embeddings have {dim} dimensions, the stored embeddings have {}",
                    dims.join(" and ")
                ))
            }
        };
        self.require("dimension", fits);
        self.check_simplex(model.simplex, stored);
        for other in stored.per_version.keys() {
            let name = format!("compatibility with {other}");
            match certification.standing(model.name(), other) {
                Standing::Certified(certified) if certified.undecided => {
                    self.add(name, Outcome::Warned, certified.basis);
                }
                Standing::Certified(certified) => {
                    self.add(name, Outcome::Passed, certified.basis);
                }
                Standing::Accepted(pair) => {
                    let detail = format!(
                        "not certified, but accepted earlier with --force: {}",
                        pair.reason
                    );
                    self.add(name, Outcome::Warned, detail);
                }
                Standing::Refused(pair) => {
                    self.add(name, Outcome::Failed, pair.to_string());
                    self.refused.push(pair);
                }
            }
        }
    }

    fn check_simplex(&mut self, own: Option<SimplexIdentity>, stored: &Stored) {
        let (outcome, detail) = match (stored.simplex_beside(own), own) {
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
    let weights = match registry.load_weights(&version) {
        Ok(_) => Ok(format!("{megabytes:.1} MB with the published SHA-256")),
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
    let warm = self_check::warm_up(&model).map(|()| "one black image encoded".to_owned());
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

/// Points `live` at a version and `previous` at the one before, in one write. Returns the one before.
///
/// # Errors
/// A registry that cannot be read or written.
pub fn move_live(registry: &Registry, version: &str) -> Result<Option<String>, RegistryError> {
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
