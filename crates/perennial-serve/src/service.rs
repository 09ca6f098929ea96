//! A running service: its parts, put together at the start, and what the router gives of them to each handler.

use std::sync::Arc;

use axum::extract::FromRef;
use perennial_core::Registry;
use perennial_gallery::VectorStore;
use perennial_upgrade::{
    Certification, CompatibilityCheck, EncoderLoader, LIVE_ALIAS, LoadedModel, Prepared, Stored,
    StoredProbes, keep_probes, prepare,
};
use tokio::task::JoinHandle;

use crate::answering::Answering;
use crate::backfill::Backfill;
use crate::config::{Limits, ServeConfig};
use crate::encoders::time_service;
use crate::endpoint_drift::EndpointDrift;
use crate::endpoint_loading::InTime;
use crate::error::ServeError;
use crate::gallery::Gallery;
use crate::inference::Inference;
use crate::lifecycle::Lifecycle;
use crate::metrics_page::MetricsPage;
use crate::mixed_search::SearchService;
use crate::planning::Planning;
use crate::readiness::Readiness;
use crate::receive::BodyBudget;
use crate::recent::Recent;
use crate::reembedding::Reembedder;
use crate::routes::snapshots::{SnapshotsFolder, remove_unwritten};
use crate::second_stages::SecondStages;
use crate::served_store::ServedStore;
use crate::storing::Storing;
use crate::swap::SwapService;
use crate::telemetry::Telemetry;
use crate::transport::Transport;
use crate::trials::Trials;
use crate::versions::Versions;

/// All parts of a service, by what they belong to. Only what starts, keeps and ends a service sees it whole.
pub(crate) struct Service {
    pub(crate) config: Arc<ServeConfig>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) versions: Arc<Versions>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) body_budget: BodyBudget,
    pub(crate) snapshots: SnapshotsFolder,
    pub(crate) inference: Arc<Inference>,
    pub(crate) gallery: Arc<Gallery>,
    pub(crate) answering: Arc<Answering>,
    pub(crate) planning: Arc<Planning>,
    pub(crate) search: Arc<SearchService>,
    pub(crate) second_stages: Arc<SecondStages>,
    pub(crate) storing: Arc<Storing>,
    pub(crate) swap: Arc<SwapService>,
    pub(crate) trials: Arc<Trials>,
    pub(crate) reembedder: Arc<Reembedder>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) metrics_page: Arc<MetricsPage>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) drift: Arc<EndpointDrift>,
    pub(crate) recent: Arc<Recent>,
    pub(crate) lifecycle: Arc<Lifecycle>,
}

/// The router's state. Handlers ask for parts of it, never for all of it: `State<Arc<Gallery>>`.
#[derive(Clone)]
pub(crate) struct Parts(pub(crate) Arc<Service>);

macro_rules! parts {
    ($($field:ident: $part:ty,)*) => {
        $(
            impl FromRef<Parts> for $part {
                fn from_ref(parts: &Parts) -> Self {
                    parts.0.$field.clone()
                }
            }
        )*
    };
}

parts! {
    config: Arc<ServeConfig>,
    limits: Arc<Limits>,
    registry: Arc<Registry>,
    versions: Arc<Versions>,
    transport: Arc<Transport>,
    body_budget: BodyBudget,
    snapshots: SnapshotsFolder,
    inference: Arc<Inference>,
    gallery: Arc<Gallery>,
    answering: Arc<Answering>,
    planning: Arc<Planning>,
    search: Arc<SearchService>,
    second_stages: Arc<SecondStages>,
    storing: Arc<Storing>,
    swap: Arc<SwapService>,
    trials: Arc<Trials>,
    reembedder: Arc<Reembedder>,
    telemetry: Arc<Telemetry>,
    metrics_page: Arc<MetricsPage>,
    readiness: Arc<Readiness>,
    recent: Arc<Recent>,
    lifecycle: Arc<Lifecycle>,
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
        telemetry: Arc<Telemetry>,
    ) -> Result<(Arc<Self>, JoinHandle<()>), ServeError> {
        let in_time = InTime::new(loader, config.timeouts.request_seconds);
        let loader: Arc<dyn EncoderLoader> = Arc::new(in_time);
        if let Some(folder) = &config.snapshots {
            fs_err::create_dir_all(folder).map_err(|error| ServeError::Config {
                key: "snapshots".into(),
                problem: error.to_string(),
            })?;
            let snapshots = remove_unwritten(folder);
            if snapshots > 0 {
                tracing::info!(snapshots, "incomplete snapshots are removed");
            }
        }
        if !config.read_only {
            let folders = registry.remove_abandoned_trials();
            if folders > 0 {
                tracing::info!(
                    folders,
                    "what uploads left that were interrupted is removed"
                );
            }
            if let Err(error) = check.settle_accepted() {
                tracing::error!(%error, "what an interrupted promotion left in accepted.toml stays as it is until the next start");
            }
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
        let (inference, worker) = Inference::start(&config, live, loader, probes, &telemetry);
        let (gallery, inference) = (Arc::new(gallery), Arc::new(inference));
        let (config, registry) = (Arc::new(config), Arc::new(registry));
        let versions = Arc::new(Versions::of(Arc::clone(&registry)));
        let answering = Arc::new(Answering::start(
            &config, &registry, &versions, &inference, &gallery, &telemetry,
        )?);
        let planning = Arc::new(Planning {
            registry: Arc::clone(&registry),
            inference: Arc::clone(&inference),
            gallery: Arc::clone(&gallery),
            answering: Arc::clone(&answering),
        });
        let backfill = Arc::new(Backfill::of(&config));
        let recent = Arc::new(Recent::new());
        let lifecycle = Arc::new(Lifecycle::begin());
        let drift = Arc::new(EndpointDrift::default());
        let reembedder = Arc::new(Reembedder {
            config: Arc::clone(&config),
            registry: Arc::clone(&registry),
            inference: Arc::clone(&inference),
            gallery: Arc::clone(&gallery),
            backfill: Arc::clone(&backfill),
            telemetry: Arc::clone(&telemetry),
            lifecycle: Arc::clone(&lifecycle),
        });
        let service = Self {
            limits: Arc::new(config.limits.clone()),
            transport: Arc::new(Transport::new(&config)),
            body_budget: BodyBudget::of(config.limits.body_budget_bytes),
            snapshots: SnapshotsFolder(config.snapshots.as_deref().map(Arc::from)),
            search: Arc::new(SearchService {
                planning: Arc::clone(&planning),
                versions: Arc::clone(&versions),
                inference: Arc::clone(&inference),
                gallery: Arc::clone(&gallery),
                backfill: Arc::clone(&backfill),
                telemetry: Arc::clone(&telemetry),
            }),
            second_stages: Arc::new(SecondStages::of(&config, Arc::clone(&reembedder))?),
            storing: Arc::new(Storing {
                planning: Arc::clone(&planning),
                versions: Arc::clone(&versions),
                inference: Arc::clone(&inference),
                gallery: Arc::clone(&gallery),
                telemetry: Arc::clone(&telemetry),
            }),
            swap: Arc::new(SwapService {
                planning: Arc::clone(&planning),
                registry: Arc::clone(&registry),
                inference: Arc::clone(&inference),
                gallery: Arc::clone(&gallery),
                answering: Arc::clone(&answering),
                telemetry: Arc::clone(&telemetry),
                lifecycle: Arc::clone(&lifecycle),
                recent: Arc::clone(&recent),
            }),
            trials: Arc::new(Trials {
                registry: Arc::clone(&registry),
                versions: Arc::clone(&versions),
                loader: Arc::clone(&inference.loader),
            }),
            metrics_page: Arc::new(MetricsPage {
                config: Arc::clone(&config),
                planning: Arc::clone(&planning),
                inference: Arc::clone(&inference),
                gallery: Arc::clone(&gallery),
                reembedder: Arc::clone(&reembedder),
                telemetry: Arc::clone(&telemetry),
                lifecycle: Arc::clone(&lifecycle),
            }),
            readiness: Arc::new(Readiness {
                lifecycle: Arc::clone(&lifecycle),
                gallery: Arc::clone(&gallery),
                inference: Arc::clone(&inference),
                answering: Arc::clone(&answering),
                planning: Arc::clone(&planning),
                drift: Arc::clone(&drift),
            }),
            config,
            registry,
            versions,
            inference,
            gallery,
            answering,
            planning,
            reembedder,
            telemetry,
            drift,
            recent,
            lifecycle,
        };
        service.planning.keep_encoders(true);
        service.planning.log_left_out();
        Ok((Arc::new(service), worker))
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
