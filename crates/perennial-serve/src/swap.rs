//! The swap: a version is loaded, verified, warmed up and checked beside the live one, and only then replaces it.

use std::sync::Arc;

use perennial_core::Registry;
use perennial_upgrade::{
    Candidate, LIVE_ALIAS, LoadedModel, Need, NotCertified, Outcome, Prepared, QueryCost, Remedy,
    Stored, Verdict, go_live, keep_probes, prepare,
};
use serde::Serialize;
use serde_json::json;
use tracing::Instrument;
use utoipa::ToSchema;

use crate::answering::Answering;
use crate::blocking::blocking;
use crate::error::{ApiError, Code};
use crate::gallery::Gallery;
use crate::incompatible::incompatible;
use crate::inference::Inference;
use crate::lifecycle::Lifecycle;
use crate::live::Upcoming;
use crate::planning::Planning;
use crate::recent::Recent;
use crate::routes::parts::{LeftOutBody, PartBody};
use crate::telemetry::Telemetry;

/// What a swap reads and changes.
pub(crate) struct SwapService {
    pub(crate) planning: Arc<Planning>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) inference: Arc<Inference>,
    pub(crate) gallery: Arc<Gallery>,
    pub(crate) answering: Arc<Answering>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) recent: Arc<Recent>,
}

/// The outcome of a swap, or of its dry run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SwapAnswer {
    /// The alias, `live`.
    pub(crate) alias: &'static str,
    /// Where it points now.
    pub(crate) version: String,
    /// Where it pointed before.
    pub(crate) previous: Option<String>,
    /// What was checked. The checks of stored versions name the routes that lead to their items.
    pub(crate) checks: Vec<Check>,
    /// How pictures are searched by this version: the spaces, and the routes that lead to them.
    pub(crate) parts: Vec<PartBody>,
    /// Items that this version does not search.
    pub(crate) not_searched: u64,
    /// The same by space, and why.
    pub(crate) left_out: Vec<LeftOutBody>,
    /// What a query costs.
    pub(crate) query_cost: CostBody,
    /// Whether a refusal was overridden by force.
    pub(crate) forced: bool,
    /// Whether this was a dry run.
    pub(crate) dry_run: bool,
}

/// What it costs to embed one query.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CostBody {
    /// All encoders one after the other, in milliseconds; of one input alone, measured by this service when they were loaded.
    milliseconds: f64,
    /// The version itself first, then the old ones that dual queries need.
    encoders: Vec<EncoderCostBody>,
}

/// What one encoder costs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EncoderCostBody {
    version: String,
    milliseconds: f64,
}

impl CostBody {
    fn new(cost: QueryCost) -> Self {
        let milliseconds = cost.milliseconds();
        let encoders = cost.encoders.into_iter().map(|one| EncoderCostBody {
            version: one.version,
            milliseconds: one.milliseconds,
        });
        Self {
            milliseconds,
            encoders: encoders.collect(),
        }
    }
}

/// One check of a swap.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Check {
    /// What was checked.
    pub(crate) name: String,
    /// Whether it passed.
    pub(crate) passed: bool,
    /// Whether it passed although the measurement does not decide, or by force.
    pub(crate) warning: bool,
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
#[derive(Clone)]
pub(crate) enum Target {
    Version(String),
    Previous,
}

fn checks(verdict: &Verdict) -> Vec<Check> {
    let checks = verdict.checks().iter().map(|check| Check {
        name: check.name.clone(),
        passed: check.outcome != Outcome::Failed,
        warning: check.outcome == Outcome::Warned,
        detail: check.detail.clone(),
    });
    checks.collect()
}

fn refusal(verdict: &Verdict, version: &str) -> ApiError {
    let code = if verdict.is_broken() {
        Code::CheckFailed
    } else {
        Code::IncompatibleVersion
    };
    let message = format!("{version} does not become live: {}", verdict.problem());
    let remedies: Vec<&str> = verdict
        .refused()
        .iter()
        .filter_map(|pair| pair.remedy.as_ref().map(Remedy::public))
        .collect();
    let details = json!({ "version": version, "checks": checks(verdict), "remedies": remedies });
    ApiError::new(code, message).with_details(details)
}

/// Runs a swap to completion, even if the client disconnects.
///
/// # Errors
/// 404 for an unknown version, 409 for checks that failed (with the list) or while another swap is under way.
pub(crate) async fn swap(
    service: &Arc<SwapService>,
    order: SwapOrder,
) -> Result<SwapAnswer, ApiError> {
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
                    "the live version changed"
                ),
                Err(error) => tracing::warn!(%error, outcome, "the live version did not change"),
            }
        }
        result
    };
    let task = tokio::spawn(carried_out.in_current_span());
    task.await.map_err(ApiError::internal)?
}

async fn carry_out(service: &Arc<SwapService>, order: SwapOrder) -> Result<SwapAnswer, ApiError> {
    let Ok(_turn) = service.inference.live.swapping.try_lock() else {
        return Err(ApiError::conflict(
            "another swap is under way; wait for its answer",
        ));
    };
    let prepared = {
        let service = Arc::clone(service);
        let target = order.target.clone();
        blocking(move || load(&service, target)).await?
    };
    let Prepared {
        name,
        candidate,
        verdict,
    } = prepared;
    let Some(candidate) = candidate else {
        return Err(refusal(&verdict, &name));
    };
    // Before the pointer moves, so that the first search has them; and before the lock, since it takes as long as loading the version.
    let live = &service.inference.live;
    live.set_upcoming(Some(Upcoming {
        model: Arc::clone(&candidate.model),
        dry_run: order.dry_run,
    }));
    let result = replace(service, candidate, verdict, &order).await;
    live.set_upcoming(None);
    // Lets go of those of a version that did not become live, or of the one before the last. The swap is over whatever comes of it.
    keep_encoders(service, false).await.ok();
    result
}

async fn keep_encoders(service: &Arc<SwapService>, retry: bool) -> Result<(), ApiError> {
    let service = Arc::clone(service);
    blocking(move || {
        service.planning.keep_encoders(retry);
        Ok(())
    })
    .await
}

async fn replace(
    service: &Arc<SwapService>,
    candidate: Candidate,
    verdict: Verdict,
    order: &SwapOrder,
) -> Result<SwapAnswer, ApiError> {
    // What was certified a moment ago may have lost its bridge since.
    service.gallery.certification.look_again();
    keep_encoders(service, true).await?;
    if !order.dry_run {
        // Before the lock as well: items can be stored meanwhile.
        let (service, model) = (Arc::clone(service), Arc::clone(&candidate.model));
        blocking(move || service.planning.wait_for_mapped(&model, &service.lifecycle)).await?;
    }
    let versions = service.gallery.hold_versions().await;
    let service = Arc::clone(service);
    let (force, dry_run) = (order.force, order.dry_run);
    blocking(move || {
        let _versions = versions;
        finish(&service, candidate, verdict, force, dry_run)
    })
    .await
}

/// The slow part: reading, hashing, loading and trying the version. The live version is not touched.
fn load(service: &SwapService, target: Target) -> Result<Prepared, ApiError> {
    let name = match target {
        Target::Version(name) => name,
        Target::Previous => {
            if let Some(previous) = service.inference.live.previous() {
                return Ok(Prepared::still_loaded(previous));
            }
            service.planning.previous().ok_or_else(|| {
                ApiError::conflict(
                    "no version was live before this one; a rollback is not possible",
                )
            })?
        }
    };
    Ok(prepare(
        &service.registry,
        &*service.inference.loader,
        service.inference.probes.as_deref(),
        &service.gallery.stored().per_version,
        &name,
    )?)
}

/// The checks against what is stored at this moment, and the move.
fn finish(
    service: &SwapService,
    candidate: Candidate,
    mut verdict: Verdict,
    force: bool,
    dry_run: bool,
) -> Result<SwapAnswer, ApiError> {
    let Candidate { model, new_probes } = candidate;
    let stored = Stored::of(&*service.gallery.store)?;
    verdict.check_stored(&model, &stored, &service.gallery.certification);
    // A space that was stored since they were loaded.
    service.planning.keep_encoders(false);
    let encoders = &service.inference.encoders;
    let usable = |need: Need<'_>| match need {
        Need::OldEncoder(name) if encoders.get(name).is_some() => Ok(None),
        Need::OldEncoder(name) => Err(encoders
            .problem(name)
            .unwrap_or_else(|| "it is not loaded".to_owned())),
        Need::MappedIndex { .. } => service.gallery.mapped_for_swap(need, &stored, dry_run),
    };
    let certification = &service.gallery.certification;
    verdict.check_needs(&model.version, &stored, certification, &usable);
    let planning = &service.planning;
    let mut plan = match dry_run {
        true => planning.usual_plan_once_built(&model.version, &stored),
        false => planning.usual_plan(&model.version, &stored),
    };
    let old: Vec<Arc<LoadedModel>> = plan
        .old_encoders()
        .iter()
        .filter_map(|name| encoders.get(name))
        .collect();
    let cost = QueryCost::of(std::iter::once(&*model).chain(old.iter().map(|old| &**old)));
    verdict.note_cost(&cost);
    if !verdict.allows(force) {
        return Err(refusal(&verdict, model.name()));
    }
    let answers = service.answering.allows_live(&model);
    if let Err(refused) = &answers
        && !force
    {
        return Err(incompatible(std::slice::from_ref(refused)));
    }
    let before = service.inference.live.current();
    let forced = verdict.needs_force() || answers.is_err();
    if forced {
        // What is accepted below. Items that only an encoder leads to that cannot be used stay out of reach.
        let is_accepted = |pair: &NotCertified| {
            let mut accepted = verdict.refused().iter();
            accepted.any(|one| one.gallery_version == pair.gallery_version)
        };
        let (accepted, lost): (Vec<NotCertified>, Vec<NotCertified>) =
            std::mem::take(&mut plan.refused)
                .into_iter()
                .partition(is_accepted);
        plan.refused = accepted;
        plan.force(model.version.dim, &stored);
        plan.refused.extend(lost);
    }
    let answer = SwapAnswer {
        alias: LIVE_ALIAS,
        version: model.name().to_owned(),
        previous: before.as_ref().map(|before| before.name().to_owned()),
        checks: checks(&verdict),
        parts: PartBody::of(&plan),
        not_searched: plan.not_searched_items(),
        left_out: LeftOutBody::of(&plan),
        query_cost: CostBody::new(cost),
        forced,
        dry_run,
    };
    if dry_run {
        return Ok(answer);
    }
    // The registry first: after a crash in between, the service starts with what it had decided on.
    let overruled = verdict.refused();
    go_live(&service.registry, certification, &answer.version, overruled)?;
    if forced {
        service.telemetry.forced("swap", 1);
    }
    if let (Some(probes), Some(new)) = (&service.inference.probes, &new_probes) {
        keep_probes(probes, &model, new);
    }
    if before.is_none_or(|before| before.name() != answer.version) {
        service.inference.live.move_to(model);
        // What was compared with is live now, or another version than before.
        service.inference.tried.let_go();
    }
    Ok(answer)
}
