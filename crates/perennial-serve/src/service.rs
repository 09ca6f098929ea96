//! What all requests share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use perennial_core::{ModelVersion, Registry, RegistryError};
use perennial_gallery::VectorStore;
use perennial_upgrade::{
    Certification, CompatibilityCheck, EncoderLoader, LIVE_ALIAS, LoadedModel, NotCertified,
    PREVIOUS_ALIAS, Prepared, Stored, StoredProbes, keep_probes, prepare,
};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::answering::Answering;
use crate::backfill::Backfill;
use crate::config::ServeConfig;
use crate::encoders::time_service;
use crate::endpoint_drift::EndpointDrift;
use crate::endpoint_loading::InTime;
use crate::error::{ApiError, Code, ServeError};
use crate::gallery::Gallery;
use crate::inference::Inference;
use crate::recent::Recent;
use crate::second_stages::SecondStages;
use crate::served_store::ServedStore;
use crate::telemetry::Telemetry;
use crate::transport::Transport;

/// The state behind the router, by what it belongs to.
pub(crate) struct Service {
    pub(crate) config: ServeConfig,
    pub(crate) registry: Registry,
    pub(crate) transport: Transport,
    pub(crate) inference: Arc<Inference>,
    pub(crate) gallery: Gallery,
    pub(crate) answering: Answering,
    pub(crate) backfill: Backfill,
    pub(crate) second_stages: SecondStages,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) drift: EndpointDrift,
    pub(crate) recent: Recent,
    pub(crate) draining: AtomicBool,
    pub(crate) started: Instant,
    /// Versions never change, so they are read once.
    versions: RwLock<HashMap<String, Arc<ModelVersion>>>,
}

impl Service {
    /// Loads the live version, if there is one, and prepares everything. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// A setting that cannot work, a registry or gallery that cannot be read, a live version that fails its checks.
    pub(crate) fn start(
        config: ServeConfig,
        registry: Registry,
        store: Arc<dyn ServedStore>,
        loader: Arc<dyn EncoderLoader>,
        check: Arc<dyn CompatibilityCheck>,
    ) -> Result<(Arc<Self>, JoinHandle<()>), ServeError> {
        config.check()?;
        let in_time = InTime::new(loader, config.timeouts.request_seconds);
        let loader: Arc<dyn EncoderLoader> = Arc::new(in_time);
        if let Some(folder) = &config.snapshots {
            fs_err::create_dir_all(folder)?;
        }
        let certification = Certification::new(check, config.force_uncertified);
        let probes = config.probes.as_deref().map(StoredProbes::new);
        let probes = probes.map(Arc::new);
        let live = match registry.aliases()?.get(LIVE_ALIAS) {
            Some(_) => {
                let keep = !config.read_only;
                Some(load_live(
                    &registry,
                    &*loader,
                    &*store,
                    probes.as_deref(),
                    keep,
                )?)
            }
            None => {
                tracing::warn!(
                    "the registry has no alias `live`: images are refused until PUT /aliases/live names a version"
                );
                None
            }
        };
        let gallery = Gallery::new(store, certification)?;
        let telemetry = Arc::new(Telemetry::new());
        let (inference, worker) = Inference::start(&config, live, loader, probes, &telemetry);
        let answering = Answering::start(
            &config,
            &registry,
            &inference,
            &gallery.certification,
            &telemetry,
        )?;
        let service = Self {
            answering,
            transport: Transport::new(&config),
            backfill: Backfill::of(&config),
            second_stages: SecondStages::of(&config)?,
            config,
            registry,
            inference: Arc::new(inference),
            gallery,
            telemetry,
            drift: EndpointDrift::default(),
            recent: Recent::new(),
            draining: AtomicBool::new(false),
            started: Instant::now(),
            versions: RwLock::default(),
        };
        service.keep_encoders(true);
        service.log_left_out();
        Ok((Arc::new(service), worker))
    }

    /// A version by its name; blocks.
    ///
    /// # Errors
    /// 422 for a name that the registry does not know, since it came inside a body.
    pub(crate) fn version(&self, name: &str) -> Result<Arc<ModelVersion>, ApiError> {
        let known = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = known.get(name) {
            return Ok(Arc::clone(version));
        }
        drop(known);
        let version = match self.registry.get(name) {
            Ok(version) => Arc::new(version),
            Err(error @ RegistryError::Unknown { .. }) => {
                let error = ApiError::from(error);
                return Err(ApiError::unprocessable(format!(
                    "model_version: {}",
                    error.message
                )));
            }
            Err(error) => return Err(error.into()),
        };
        // An alias moves, so only the version's own name may be remembered.
        if version.name == name {
            let mut known = self
                .versions
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            known.insert(name.to_owned(), Arc::clone(&version));
        }
        Ok(version)
    }

    /// The version that a rollback would return to.
    pub(crate) fn previous(&self) -> Option<String> {
        if let Some(previous) = self.inference.live.previous() {
            return Some(previous.name().to_owned());
        }
        self.registry.aliases().ok()?.remove(PREVIOUS_ALIAS)
    }

    /// Embeds the canaries of embedding services again whose turn it is; blocks.
    pub(crate) fn look_for_drift(&self) {
        let old = self.inference.encoders.all();
        let in_use = (self.inference.live.current().into_iter())
            .chain(old.into_values())
            .chain(self.answering.old_in_memory().map(Arc::clone));
        self.drift
            .look(in_use.collect(), &self.registry, &self.telemetry);
    }

    /// Whether requests should be sent here: a version is live, it reaches something of what is stored, and the service is not stopping. What is
    /// missing comes back as a text; what is limited in a service that is ready, as lines.
    pub(crate) fn readiness(&self) -> Result<Vec<String>, String> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("the service is stopping".to_owned());
        }
        if self.gallery.is_out_of_reach() {
            return Err("the gallery's database cannot be reached".to_owned());
        }
        let answering = &self.answering;
        answering.readiness(&self.inference, &self.gallery.certification)?;
        let drifted = self.drift.problems();
        let warnings = answering.warnings().into_iter().chain(drifted);
        if self.inference.live.current().is_none() {
            if answering.needs_no_live_version() {
                return Ok(warnings.collect());
            }
            return Err("no model version is live".to_owned());
        }
        let plan = self.live_plan();
        if let (Some(refused), []) = (plan.refused.first(), &*plan.parts) {
            return Err(format!(
                "searches of everything stored are refused: {refused}"
            ));
        }
        let left = plan.not_searched.iter().map(|left| {
            let (items, space, reason) = (left.items, &left.space, &left.reason);
            format!("{items} items of {space} are not searched: {reason}")
        });
        let fallbacks = plan.parts.iter().filter_map(|part| {
            let spaces: Vec<&str> = part.spaces.iter().map(|space| space.as_str()).collect();
            let (spaces, route) = (spaces.join(", "), part.way.route());
            let fallback = part.fallback.as_ref()?;
            Some(format!(
                "items of {spaces} are searched by route {route} for want of a better one: {fallback}"
            ))
        });
        Ok(warnings.chain(left).chain(fallbacks).collect())
    }
}

/// Loads what the alias points to and makes sure that it works at all. Whether a route leads from it to the gallery's items is another question,
/// which `/readyz` answers: a service that starts and refuses searches is better than one that does not start. `keep` says whether
/// a version's first probes may be written.
fn load_live(
    registry: &Registry,
    loader: &dyn EncoderLoader,
    store: &dyn VectorStore,
    probes: Option<&StoredProbes>,
    keep: bool,
) -> Result<Arc<LoadedModel>, ServeError> {
    let stored = Stored::of(store)?;
    let Prepared {
        name,
        candidate,
        verdict,
    } = prepare(registry, loader, probes, &stored.per_version, LIVE_ALIAS)?;
    let Some(candidate) = candidate.filter(|_| !verdict.is_broken()) else {
        return Err(ServeError::Live {
            version: name,
            problem: verdict.problem(),
        });
    };
    time_service(&candidate.model);
    if let (Some(probes), Some(new)) = (probes, &candidate.new_probes)
        && keep
    {
        keep_probes(probes, &candidate.model, new);
    }
    Ok(candidate.model)
}

/// Runs blocking work on a thread meant for it.
///
/// # Errors
/// Those of the work; 500 when it panics.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ApiError> + Send + 'static,
{
    // What the work logs carries the request's id.
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
        .await
        .map_err(ApiError::internal)?
}

/// 409 that names every refused pair.
pub(crate) fn incompatible(refused: &[NotCertified]) -> ApiError {
    let pairs: Vec<_> = refused
        .iter()
        .map(|pair| {
            json!({
                "query_version": pair.query_version,
                "gallery_version": pair.gallery_version,
                "reason": pair.reason,
                "remedy": pair.remedy,
            })
        })
        .collect();
    let all: Vec<String> = refused.iter().map(ToString::to_string).collect();
    let message = all.join("; ");
    ApiError::new(Code::IncompatibleVersion, message).with_details(json!({ "pairs": pairs }))
}
