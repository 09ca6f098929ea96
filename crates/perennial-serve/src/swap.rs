//! The swap: a version is loaded, verified, warmed up and checked beside the one that answers, and only then takes its place.

use std::sync::Arc;

use perennial_core::RegistryError;
use serde::Serialize;
use serde_json::json;
use tracing::Instrument;
use utoipa::ToSchema;

use crate::compatibility::{NotCertified, Standing};
use crate::error::{ApiError, Code};
use crate::live::{LIVE_ALIAS, PREVIOUS_ALIAS, Snapshot};
use crate::self_check;
use crate::service::{Service, blocking, keep_probes};
use crate::stored_probes::{Checked, Probes};

/// What a swap did, or would do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SwapAnswer {
    /// The alias, `live`.
    pub(crate) alias: &'static str,
    /// Where it points now.
    pub(crate) version: String,
    /// Where it pointed before.
    pub(crate) previous: Option<String>,
    /// What was checked.
    pub(crate) checks: Vec<Check>,
    /// Whether a refusal was overruled.
    pub(crate) forced: bool,
    /// Whether this was only a question.
    pub(crate) dry_run: bool,
}

/// One check of a swap.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Check {
    /// What was checked.
    pub(crate) name: String,
    /// Whether it passed.
    pub(crate) passed: bool,
    /// What was found.
    pub(crate) detail: String,
}

/// What is asked for.
pub(crate) struct SwapOrder {
    pub(crate) target: Target,
    pub(crate) force: bool,
    pub(crate) dry_run: bool,
}

/// Where the alias shall point.
pub(crate) enum Target {
    Version(String),
    Previous,
}

/// The checks of one swap, in order. It ends at the first that no force can overrule.
#[derive(Default)]
struct Verdict {
    checks: Vec<Check>,
    broken: bool,
    refused: Vec<NotCertified>,
    other_simplex: bool,
}

impl Verdict {
    fn add(&mut self, name: impl Into<String>, outcome: Result<String, String>) -> bool {
        let passed = outcome.is_ok();
        let (Ok(detail) | Err(detail)) = outcome;
        self.checks.push(Check {
            name: name.into(),
            passed,
            detail,
        });
        passed
    }

    /// As [`add`](Self::add), for a check that no force overrules.
    fn require(&mut self, name: &str, outcome: Result<String, String>) -> bool {
        let passed = self.add(name, outcome);
        self.broken |= !passed;
        passed
    }

    fn needs_force(&self) -> bool {
        !self.refused.is_empty() || self.other_simplex
    }

    fn into_error(self, version: &str) -> ApiError {
        let failed: Vec<String> = self
            .checks
            .iter()
            .filter(|check| !check.passed)
            .map(|check| format!("{}: {}", check.name, check.detail))
            .collect();
        let code = if self.broken {
            Code::CheckFailed
        } else {
            Code::IncompatibleVersion
        };
        let message = format!("{version} does not become live: {}", failed.join("; "));
        ApiError::new(code, message).with_details(json!({ "checks": self.checks }))
    }
}

/// Carries out a swap. It goes on when the client leaves: half a swap does not exist.
///
/// # Errors
/// 404 for an unknown version, 409 for checks that failed (with the list) or while another swap is under way.
pub(crate) async fn swap(service: &Arc<Service>, order: SwapOrder) -> Result<SwapAnswer, ApiError> {
    let service = Arc::clone(service);
    let carried_out = async move {
        let dry_run = order.dry_run;
        let rollback = matches!(order.target, Target::Previous);
        let result = carry_out(&service, order).await;
        if !dry_run {
            let outcome = match &result {
                Ok(answer) if answer.forced => "forced",
                Ok(_) if rollback => "rolled_back",
                Ok(_) => "moved",
                Err(error) if error.code.status().is_server_error() => "failed",
                Err(_) => "refused",
            };
            service.telemetry.swap(outcome);
            service.recent.swapped(result.is_ok());
            match &result {
                Ok(answer) => tracing::info!(
                    version = answer.version,
                    previous = answer.previous,
                    outcome,
                    "the live version has moved"
                ),
                Err(error) => tracing::warn!(%error, outcome, "the live version stays"),
            }
        }
        result
    };
    let task = tokio::spawn(carried_out.in_current_span());
    task.await.map_err(ApiError::internal)?
}

async fn carry_out(service: &Arc<Service>, order: SwapOrder) -> Result<SwapAnswer, ApiError> {
    let Ok(_turn) = service.live.swapping.try_lock() else {
        return Err(ApiError::conflict(
            "another swap is under way; wait for its answer",
        ));
    };
    let target = order.target;
    let prepared = {
        let service = Arc::clone(service);
        blocking(move || prepare(&service, target)).await?
    };
    let Prepared {
        name,
        candidate,
        verdict,
    } = prepared;
    let Some(candidate) = candidate else {
        return Err(verdict.into_error(&name));
    };

    let _versions = service.versions_in_gallery.lock().await;
    let service = Arc::clone(service);
    let (force, dry_run) = (order.force, order.dry_run);
    blocking(move || finish(&service, candidate, verdict, force, dry_run)).await
}

/// A version that is ready to answer.
struct Candidate {
    snapshot: Arc<Snapshot>,
    /// To be kept once it is live; none where they are kept already.
    new_probes: Option<Probes>,
}

/// What came out of everything that takes time.
struct Prepared {
    name: String,
    /// None where a check failed that no force overrules.
    candidate: Option<Candidate>,
    verdict: Verdict,
}

impl Prepared {
    fn refused(name: String, verdict: Verdict) -> Self {
        Self {
            name,
            candidate: None,
            verdict,
        }
    }
}

/// Everything that takes time: reading, hashing, loading and trying the version. Nothing that answers is touched.
fn prepare(service: &Service, target: Target) -> Result<Prepared, ApiError> {
    let mut verdict = Verdict::default();
    let name = match target {
        Target::Version(name) => name,
        Target::Previous => {
            if let Some(previous) = service.live.previous() {
                verdict.add("load", Ok("still loaded from before".to_owned()));
                return Ok(Prepared {
                    name: previous.name().to_owned(),
                    candidate: Some(Candidate {
                        snapshot: previous,
                        new_probes: None,
                    }),
                    verdict,
                });
            }
            service.previous().ok_or_else(|| {
                ApiError::conflict(
                    "no version was live before this one; there is nothing to return to",
                )
            })?
        }
    };
    let version = match service.registry.get(&name) {
        Ok(version) => version,
        Err(error @ RegistryError::Unknown { .. }) => return Err(error.into()),
        Err(error) => {
            verdict.require("description", Err(error.to_string()));
            return Ok(Prepared::refused(name, verdict));
        }
    };
    let name = version.name.clone();
    let megabytes = version.weights_bytes as f64 / 1e6;
    let weights = match service.registry.load_weights(&version) {
        Ok(_) => Ok(format!("{megabytes:.1} MB with the published SHA-256")),
        Err(error) => Err(error.to_string()),
    };
    if !verdict.require("weights", weights) {
        return Ok(Prepared::refused(name, verdict));
    }
    let snapshot = match Snapshot::load(&*service.loader, &service.registry, version) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            verdict.require("load", Err(error.to_string()));
            return Ok(Prepared::refused(name, verdict));
        }
    };
    verdict.add("load", Ok(format!("dim {}", snapshot.version.dim)));
    let warm = self_check::warm_up(&snapshot).map(|()| "one black image encoded".to_owned());
    let works = verdict.require("warm_up", warm) && {
        let sound = self_check::run(&snapshot)
            .map(|()| "unit length, the same alone and in a batch".to_owned());
        verdict.require("self_check", sound)
    };
    let mut new_probes = None;
    let works = works && check_probes(service, &snapshot, &mut verdict, &mut new_probes);
    Ok(Prepared {
        name,
        candidate: works.then(|| Candidate {
            snapshot: Arc::new(snapshot),
            new_probes,
        }),
        verdict,
    })
}

/// Does the version still do what it did when it first went live?
fn check_probes(
    service: &Service,
    snapshot: &Snapshot,
    verdict: &mut Verdict,
    new_probes: &mut Option<Probes>,
) -> bool {
    let Some(probes) = &service.probes else {
        return true;
    };
    let in_use = service.stored().contains_key(snapshot.name());
    let outcome = match probes.check(snapshot, in_use) {
        Ok(Checked::Same { distance }) => Ok(format!(
            "the embeddings of its first time live, within {distance:.1e}"
        )),
        Ok(Checked::New(probes)) => {
            *new_probes = Some(probes);
            Ok("its first time live; they are kept from now on".to_owned())
        }
        Err(error) => Err(error.to_string()),
    };
    verdict.require("stored_probes", outcome)
}

/// The checks against what is stored at this moment, and the move.
fn finish(
    service: &Service,
    candidate: Candidate,
    mut verdict: Verdict,
    force: bool,
    dry_run: bool,
) -> Result<SwapAnswer, ApiError> {
    let Candidate {
        snapshot: candidate,
        new_probes,
    } = candidate;
    let stats = service.count()?;
    let dim = candidate.version.dim;
    let fits = match stats.dim {
        Some(stored) if stored != dim && stats.items > 0 => Err(format!(
            "its embeddings have {dim} dimensions, the stored ones {stored}"
        )),
        _ => Ok(format!("{dim}")),
    };
    verdict.require("dimension", fits);

    let stored = service.store.identity()?;
    let simplex = match (stored, candidate.simplex) {
        (Some(stored), Some(own)) if stored == own => {
            Ok(format!("the gallery's own, {} vertices", own.vertices))
        }
        (Some(stored), own) if stats.items > 0 => Err(match own {
            Some(own) => format!(
                "{} vertices, the gallery's has {}",
                own.vertices, stored.vertices
            ),
            None => format!(
                "a linear classifier; the gallery's simplex has {} vertices",
                stored.vertices
            ),
        }),
        _ => Ok("the gallery belongs to no simplex".to_owned()),
    };
    verdict.other_simplex = !verdict.add("simplex", simplex);

    for other in stats.per_version.keys() {
        let name = format!("compatibility with {other}");
        match service.certification.standing(candidate.name(), other) {
            Standing::Certified(certified) => verdict.add(name, Ok(certified.basis)),
            Standing::Accepted(pair) => verdict.add(
                name,
                Ok(format!("accepted by force before: {}", pair.reason)),
            ),
            Standing::Refused(pair) => {
                let passed = verdict.add(name, Err(pair.to_string()));
                verdict.refused.push(pair);
                passed
            }
        };
    }

    let forced = verdict.needs_force();
    if verdict.broken || (forced && !force) {
        return Err(verdict.into_error(candidate.name()));
    }
    let before = service.live.current();
    let answer = SwapAnswer {
        alias: LIVE_ALIAS,
        version: candidate.name().to_owned(),
        previous: before.as_ref().map(|before| before.name().to_owned()),
        checks: verdict.checks,
        forced,
        dry_run,
    };
    if dry_run {
        return Ok(answer);
    }
    // The registry first: after a crash in between, the service starts with what it had decided on.
    service.registry.set_alias(LIVE_ALIAS, &answer.version)?;
    if forced {
        service.certification.accept(&verdict.refused);
        service.telemetry.forced("swap", 1);
    }
    let moved = before.is_none_or(|before| before.name() != answer.version);
    if let (Some(probes), Some(new)) = (&service.probes, &new_probes) {
        keep_probes(probes, &candidate, new);
    }
    if moved {
        service.live.move_to(candidate);
        if let Some(previous) = &answer.previous {
            // The swap itself is done; without this alias only a rollback after a restart is lost.
            if let Err(error) = service.registry.set_alias(PREVIOUS_ALIAS, previous) {
                tracing::warn!(%error, "the alias `{PREVIOUS_ALIAS}` could not be moved");
            }
        }
    }
    Ok(answer)
}
