//! One search through all parts of the gallery that a query reaches, each by its certified route.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use perennial_core::ModelVersion;
use perennial_gallery::limits::NORM_TOLERANCE;
use perennial_gallery::{Filter, GalleryError, ItemId, SearchRequest};
use perennial_upgrade::{
    Asking, LoadedModel, MergedHit, PartHits, PlannedPart, SearchPlan, Stored, merge,
};
use tokio::task::JoinSet;

use crate::backfill::Backfill;
use crate::blocking::blocking;
use crate::encoders::Unusable;
use crate::error::{ApiError, Code};
use crate::gallery::Gallery;
use crate::incompatible::incompatible;
use crate::inference::Inference;
use crate::planning::{InputPlan, Planning};
use crate::preparing::ReceivedInput;
use crate::routes::filters;
use crate::telemetry::{Stage, Telemetry};
use crate::versions::Versions;

/// What a search reads, and where it is counted.
pub(crate) struct SearchService {
    pub(crate) planning: Arc<Planning>,
    pub(crate) versions: Arc<Versions>,
    pub(crate) inference: Arc<Inference>,
    pub(crate) gallery: Arc<Gallery>,
    pub(crate) backfill: Arc<Backfill>,
    pub(crate) telemetry: Arc<Telemetry>,
}

/// What is searched for.
pub(crate) enum Query {
    /// A picture or a text, which the live version embeds, or the one that is searched as.
    Input(ReceivedInput),
    /// An embedding of a version, of the live one if none is named.
    Embedding(Vec<f32>, Option<String>),
    /// A stored item.
    Item(ItemId),
}

/// How it is searched.
pub(crate) struct Options {
    pub(crate) limit: usize,
    pub(crate) filter: Filter,
    pub(crate) exact: bool,
    /// Also where nothing is certified.
    pub(crate) force: bool,
    /// Leave out hits below the threshold of their part for this rate.
    pub(crate) max_false_accept_rate: Option<f64>,
    /// The version that embeds a picture or text, as if it were live.
    pub(crate) as_version: Option<Arc<LoadedModel>>,
}

/// What a search comes to.
pub(crate) struct Found {
    /// The version of the query.
    pub(crate) version: String,
    /// The version that embedded the query for this search.
    pub(crate) model: Option<Arc<LoadedModel>>,
    /// The query's embedding by its version, `[dim]`.
    pub(crate) query: Vec<f32>,
    pub(crate) plan: Arc<SearchPlan>,
    /// By part of the plan: the similarity below which hits are left out.
    pub(crate) thresholds: Vec<Option<f32>>,
    /// Best first.
    pub(crate) hits: Vec<MergedHit>,
}

/// A query whose plan is known.
struct Planned {
    version: String,
    plan: Arc<SearchPlan>,
    thresholds: Vec<Option<f32>>,
    stored: Arc<Stored>,
    filter: Filter,
    source: Source,
}

/// What becomes the vectors that are searched with.
enum Source {
    Input {
        input: ReceivedInput,
        live: Arc<LoadedModel>,
        old: BTreeMap<String, Arc<LoadedModel>>,
    },
    Vector(Vec<f32>),
}

/// The embeddings of one query.
struct Embedded {
    new: Vec<f32>,
    /// By the old encoders of dual parts, by version.
    old: BTreeMap<String, Vec<f32>>,
}

/// Plans, embeds, searches the parts at the same time, and merges.
///
/// # Errors
/// 404 for an unknown item, 409 where nothing can be searched, 422 for a query that cannot be used or a rate without a threshold, and those of
/// the encoders and the store.
pub(crate) async fn search(
    service: &Arc<SearchService>,
    query: Query,
    options: Options,
) -> Result<Found, ApiError> {
    let options = Arc::new(options);
    // One snapshot for the whole request.
    let live = match (&query, &options.as_version) {
        (Query::Input(_), Some(tried)) => Some(Arc::clone(tried)),
        (Query::Input(_), None) => Some(service.inference.snapshot()?),
        _ => None,
    };
    let model = live.clone();
    let planned = {
        let (service, options) = (Arc::clone(service), Arc::clone(&options));
        blocking(move || plan(&service, query, live, &options)).await?
    };
    let Planned {
        version,
        plan,
        thresholds,
        stored,
        filter,
        source,
    } = planned;
    let embedded = Arc::new(embed(service, source).await?);
    let place = Arc::clone(&service.gallery.searches)
        .acquire_owned()
        .await
        .map_err(ApiError::internal)?;
    // Kept by the threads that search, which go on when the client leaves.
    let search_place = Arc::new(place);
    let start = Instant::now();
    let filter = Arc::new(filter);
    let mut searches = JoinSet::new();
    for (place, &threshold) in thresholds.iter().enumerate() {
        let service = Arc::clone(service);
        let (plan, stored) = (Arc::clone(&plan), Arc::clone(&stored));
        let (filter, options) = (Arc::clone(&filter), Arc::clone(&options));
        let embedded = Arc::clone(&embedded);
        let search_place = Arc::clone(&search_place);
        let span = tracing::Span::current();
        searches.spawn_blocking(move || {
            let _entered = span.entered();
            let _place = search_place;
            let part = &plan.parts[place];
            let request = PartRequest {
                part,
                threshold,
                stored: &stored,
                filter: &filter,
                options: &options,
            };
            request
                .search(&service, &embedded)
                .map(|hits| (place, hits))
        });
    }
    let mut parts: BTreeMap<usize, PartHits> = BTreeMap::new();
    while let Some(found) = searches.join_next().await {
        let (place, hits) = found.map_err(ApiError::internal)??;
        parts.insert(place, hits);
    }
    let mixed = parts.len() > 1;
    let hits = merge(parts.into_values().collect(), options.limit);
    let retrieved = hits
        .iter()
        .map(|merged| (&merged.hit, mixed.then_some(merged.standard_score)));
    // What a version finds that is not live is no reason to embed it again.
    if options.as_version.is_none() {
        service.backfill.retrieved(&version, retrieved);
    }
    service.telemetry.stage(Stage::Search, start.elapsed());
    Ok(Found {
        version,
        model,
        query: embedded.new.clone(),
        plan,
        thresholds,
        hits,
    })
}

/// The blocking part before anything is embedded.
fn plan(
    service: &SearchService,
    query: Query,
    live: Option<Arc<LoadedModel>>,
    options: &Options,
) -> Result<Planned, ApiError> {
    let stored = service.gallery.stored();
    let filter = filters::resolve(&service.gallery, &service.versions, options.filter.clone())?;
    let among = filter.model_versions.as_deref();
    let given = |asking: Asking<'_>, dim| {
        let certification = &service.gallery.certification;
        SearchPlan::of(certification, asking, dim, &stored, among, &|need| {
            service.gallery.is_mapped(need)
        })
    };
    let (version, dim, mut plan, source) = match (query, live) {
        (Query::Input(input), live) => {
            let live = live.ok_or_else(|| ApiError::internal("an input without a snapshot"))?;
            let modality = input.modality();
            let InputPlan { plan, old } =
                service
                    .planning
                    .plan_for(&live.version, modality, &stored, among);
            let (name, dim) = (live.name().to_owned(), live.version.dim);
            (name, dim, plan, Source::Input { input, live, old })
        }
        (Query::Embedding(embedding, version), _) => {
            let name = match version {
                Some(version) => version,
                None => service.inference.snapshot()?.name().to_owned(),
            };
            let version = service.versions.get(&name)?;
            check_embedding(&embedding, &version)?;
            let (name, dim) = (version.name.clone(), version.dim);
            let plan = given(Asking::Version(&name), dim);
            (name, dim, plan, Source::Vector(embedding))
        }
        (Query::Item(id), _) => {
            let mut found = service.gallery.store.get(std::slice::from_ref(&id), true)?;
            let missing = || ApiError::not_found(format!("no item {id}"));
            let item = found.pop().ok_or_else(missing)?;
            let embedding = item.embedding.ok_or_else(missing)?;
            let (name, dim) = (item.model_version, embedding.len());
            let plan = given(Asking::Item(&name), dim);
            (name, dim, plan, Source::Vector(embedding))
        }
    };
    if options.force && !plan.refused.is_empty() {
        let before = plan.refused.len();
        plan.force(dim, &stored);
        let forced = before - plan.refused.len();
        if forced > 0 {
            tracing::warn!(version, pairs = forced, "an uncertified search was forced");
            service.telemetry.forced("search", 1);
        }
    }
    if plan.parts.is_empty() && !plan.refused.is_empty() {
        return Err(incompatible(&plan.refused));
    }
    let thresholds = match options.max_false_accept_rate {
        Some(rate) => thresholds(&plan, rate)?,
        None => vec![None; plan.parts.len()],
    };
    Ok(Planned {
        version,
        plan: Arc::new(plan),
        thresholds,
        stored,
        filter,
        source,
    })
}

/// Whether it is a unit vector of the version's dimension: a bridge would not notice.
fn check_embedding(embedding: &[f32], version: &ModelVersion) -> Result<(), ApiError> {
    if embedding.len() != version.dim {
        return Err(ApiError::unprocessable(format!(
            "embedding: has {} values, those of {} have {}",
            embedding.len(),
            version.name,
            version.dim
        )));
    }
    let what = || "embedding".to_owned();
    if let Some(index) = embedding.iter().position(|value| !value.is_finite()) {
        return Err(GalleryError::NonFinite {
            what: what(),
            index,
        }
        .into());
    }
    let square: f64 = embedding
        .iter()
        .map(|&value| f64::from(value).powi(2))
        .sum();
    let norm = square.sqrt() as f32;
    if (norm - 1.0).abs() > NORM_TOLERANCE {
        return Err(GalleryError::NotUnit { what: what(), norm }.into());
    }
    Ok(())
}

/// The threshold of every part for a rate of false accepts.
fn thresholds(plan: &SearchPlan, rate: f64) -> Result<Vec<Option<f32>>, ApiError> {
    if !(rate > 0.0 && rate < 1.0) {
        return Err(ApiError::unprocessable(format!(
            "max_false_accept_rate: got {rate}, must be above 0 and below 1"
        )));
    }
    let of_part = |part: &PlannedPart| part.thresholds.as_ref().and_then(|known| known.at(rate));
    let thresholds: Vec<Option<f32>> = plan.parts.iter().map(of_part).collect();
    let unknown = plan.parts.iter().zip(&thresholds);
    let unknown: Vec<String> = unknown
        .filter(|(_, threshold)| threshold.is_none())
        .map(|(part, _)| without_threshold(part))
        .collect();
    if unknown.is_empty() {
        return Ok(thresholds);
    }
    Err(ApiError::unprocessable(format!(
        "max_false_accept_rate: no threshold is known that keeps a rate of {rate} for {}. Certify these pairs with an evaluation set that has \
         labels or judgements (`perennial certify`; a rate r needs at least 10/r pairs that do not belong together), ask for a larger rate, or leave \
         these items out with filter.model_versions",
        unknown.join(" and ")
    )))
}

fn without_threshold(part: &PlannedPart) -> String {
    let spaces: Vec<&str> = part.spaces.iter().map(|space| space.as_str()).collect();
    let known = part.thresholds.iter().flat_map(|known| &known.rates);
    let known: Vec<String> = known.map(|one| one.false_accept_rate.to_string()).collect();
    let known = match known.is_empty() {
        true => "none is measured".to_owned(),
        false => format!("measured are {}", known.join(", ")),
    };
    let route = part.way.route();
    format!("{} by route {route} ({known})", spaces.join(", "))
}

async fn embed(service: &Arc<SearchService>, source: Source) -> Result<Embedded, ApiError> {
    let (input, live, old) = match source {
        Source::Vector(new) => {
            return Ok(Embedded {
                new,
                old: BTreeMap::new(),
            });
        }
        Source::Input { input, live, old } => (input, live, old),
    };
    let encoders: Vec<Arc<LoadedModel>> = std::iter::once(&live)
        .chain(old.values())
        .map(Arc::clone)
        .collect();
    let embedded = service
        .inference
        .embed_by_all(&encoders, vec![input])
        .await
        .inspect_err(|error| put_aside(service, &old, error))?;
    let mut embedded = embedded.into_iter().map(|(vectors, _)| vectors);
    let new = embedded.next().unwrap_or_default();
    Ok(Embedded {
        new,
        old: old.into_keys().zip(embedded).collect(),
    })
}

/// After the embedding service of an old encoder has failed a search, the next ones go without it.
fn put_aside(service: &SearchService, old: &BTreeMap<String, Arc<LoadedModel>>, error: &ApiError) {
    let public = match error.code {
        Code::UpstreamFailed => "its embedding service fails; the log says why",
        Code::UpstreamTimeout => "its embedding service does not answer in time; the log says why",
        _ => return,
    };
    let details = error.details.as_ref();
    let failed = details.and_then(|details| details["version"].as_str());
    if let Some(version) = failed.filter(|version| old.contains_key(*version)) {
        let encoders = &service.inference.encoders;
        let (text, public) = (error.message.clone(), public.to_owned());
        encoders.put_aside(version, Unusable { text, public });
    }
}

/// The search of one part.
struct PartRequest<'a> {
    part: &'a PlannedPart,
    threshold: Option<f32>,
    stored: &'a Stored,
    filter: &'a Filter,
    options: &'a Options,
}

impl PartRequest<'_> {
    fn search(&self, service: &SearchService, embedded: &Embedded) -> Result<PartHits, ApiError> {
        let part = self.part;
        let mut spaces = part.spaces.iter();
        let old = spaces.find_map(|space| embedded.old.get(space.as_str()));
        let query = part
            .queries(&embedded.new, old.map(Vec::as_slice))
            .map_err(|error| {
                ApiError::unprocessable(format!(
                    "the query cannot be searched by route {}: {error}",
                    part.way.route()
                ))
            })?;
        let request = SearchRequest {
            spaces: &part.spaces,
            queries: &query,
            dim: part.search_dim(),
            limit: self.options.limit,
            filter: self.filter,
            exact: self.options.exact,
        };
        let mut found = part.search(&*service.gallery.store, &request)?;
        let mut hits = found.pop().unwrap_or_default();
        if let Some(threshold) = self.threshold {
            hits.retain(|hit| hit.score >= threshold);
        }
        let store = &*service.gallery.store;
        let samples = &service.gallery.samples;
        let calibration = samples.calibration(store, self.stored, part, &query)?;
        Ok(PartHits {
            hits,
            calibration,
            scale: part.scale(),
        })
    }
}
