//! One search through all parts of the gallery that a query reaches, each by its certified route.

mod given;
mod indexes;
mod meanwhile;
mod thresholds;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use perennial_gallery::{Filter, GalleryError, ItemId, SearchRequest};
use perennial_upgrade::{
    Asking, LoadedModel, MergedHit, Need, PartHits, PlannedPart, SearchPlan, Stored, merge,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use self::given::check_embedding;
use self::indexes::{lacks_index, missing};
use self::meanwhile::{Again, Before, again, found_twice, moved_since, take_in};
use self::thresholds::thresholds;
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
use crate::writes::Over;

/// Parts are searched again so often, at most, because of what moved meanwhile. A backfill moves items into one part, which is searched again once.
const SEARCHED_AGAIN: usize = 3;

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
    /// Whether a stored item is the query.
    is_item: bool,
    course: Course,
    filter: Filter,
    source: Source,
}

/// Through which parts a search goes.
struct Course {
    plan: Arc<SearchPlan>,
    thresholds: Vec<Option<f32>>,
    stored: Arc<Stored>,
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
    let before_plan = service.gallery.writes.over();
    let planned = {
        let (service, options) = (Arc::clone(service), Arc::clone(&options));
        blocking(move || plan(&service, query, live, &options)).await?
    };
    let Planned {
        version,
        is_item,
        course,
        filter,
        source,
    } = planned;
    let embedded = embed(service, source).await?;
    let place = Arc::clone(&service.gallery.searches)
        .acquire_owned()
        .await
        .map_err(ApiError::internal)?;
    // Kept with what is asked by the threads that search, which go on when the client leaves.
    let start = Instant::now();
    let asked = Arc::new(Asked {
        version,
        is_item,
        embedded,
        filter,
        options,
        _place: place,
    });
    let (course, parts) = search_everything(service, course, before_plan, &asked).await?;
    let (embedded, options, version) = (&asked.embedded, &asked.options, asked.version.clone());
    let Course {
        plan, thresholds, ..
    } = course;
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

/// A query that is embedded, and how it is searched.
struct Asked {
    version: String,
    is_item: bool,
    embedded: Embedded,
    filter: Filter,
    options: Arc<Options>,
    _place: OwnedSemaphorePermit,
}

/// Searches all parts, and those again into which items may have moved meanwhile: an item that moves from one part to another is in the results of the
/// first, which was searched before, or in those of the second, which is searched after. The course may become another one.
async fn search_everything(
    service: &Arc<SearchService>,
    mut course: Course,
    before_plan: Over,
    asked: &Arc<Asked>,
) -> Result<(Course, BTreeMap<usize, PartHits>), ApiError> {
    let among = asked.filter.model_versions.as_deref();
    // What moves after this is noticed by this; into spaces that the plan does not know, until then, by the writes since before it.
    let before = Before::now(&service.gallery);
    let since_plan = service.gallery.writes.since(&before_plan);
    if again(&course.plan, among, &since_plan) == Again::Plan {
        course = plan_again(service, asked).await?;
    }
    let mut before = before.of(&service.gallery, &course.stored, &course.plan);
    let mut found = search_parts(service, &course, asked, None).await;
    if found.is_err() && lacks_index(&service.gallery, &course.plan) {
        // An index was let go since the plan was made: its space was emptied, its certificate went, or the gallery was restored.
        course = plan_again(service, asked).await?;
        found = search_parts(service, &course, asked, None).await;
    }
    let mut parts = found?;
    let mut last = Vec::new();
    for _ in 0..SEARCHED_AGAIN {
        let (moved, now) = moved_since(before, &service.gallery).await?;
        before = now;
        let places = match again(&course.plan, among, &moved) {
            Again::Nothing => found_twice(&parts),
            Again::Parts(places) => places,
            Again::Plan => {
                course = plan_again(service, asked).await?;
                parts = search_parts(service, &course, asked, None).await?;
                last.clear();
                continue;
            }
        };
        // What came into the one part that was searched last was found there, or where it had been.
        if places.is_empty() || places.len() == 1 && places == last {
            break;
        }
        let later = search_parts(service, &course, asked, Some(&places)).await?;
        take_in(&mut parts, later);
        last = places;
    }
    Ok((course, parts))
}

/// Searches all parts at the same time, or those in some places of the plan.
async fn search_parts(
    service: &Arc<SearchService>,
    course: &Course,
    asked: &Arc<Asked>,
    places: Option<&[usize]>,
) -> Result<BTreeMap<usize, PartHits>, ApiError> {
    let mut searches = JoinSet::new();
    for (place, &threshold) in course.thresholds.iter().enumerate() {
        if places.is_some_and(|places| !places.contains(&place)) {
            continue;
        }
        let (service, asked) = (Arc::clone(service), Arc::clone(asked));
        let (plan, stored) = (Arc::clone(&course.plan), Arc::clone(&course.stored));
        let span = tracing::Span::current();
        searches.spawn_blocking(move || {
            let _entered = span.entered();
            let request = PartRequest {
                part: &plan.parts[place],
                threshold,
                stored: &stored,
                filter: &asked.filter,
                options: &asked.options,
            };
            let hits = request.search(&service, &asked.embedded);
            hits.map(|hits| (place, hits))
        });
    }
    let mut parts: BTreeMap<usize, PartHits> = BTreeMap::new();
    while let Some(found) = searches.join_next().await {
        let (place, hits) = found.map_err(ApiError::internal)??;
        parts.insert(place, hits);
    }
    Ok(parts)
}

/// Plans a query that is embedded already by what is there now.
async fn plan_again(service: &Arc<SearchService>, asked: &Arc<Asked>) -> Result<Course, ApiError> {
    let (service, asked) = (Arc::clone(service), Arc::clone(asked));
    blocking(move || {
        // With writes that are not counted yet; if they cannot be counted, by what was known before.
        service.gallery.count_for_others();
        plan_now(&service, &asked)
    })
    .await
}

fn plan_now(service: &SearchService, asked: &Asked) -> Result<Course, ApiError> {
    let stored = service.gallery.stored();
    let asking = match asked.is_item {
        true => Asking::Item(&asked.version),
        false => Asking::Version(&asked.version),
    };
    let dim = asked.embedded.new.len();
    let among = asked.filter.model_versions.as_deref();
    let certification = &service.gallery.certification;
    let available = |need: Need<'_>| match need {
        Need::OldEncoder(name) => asked.embedded.old.contains_key(name),
        Need::MappedIndex { .. } => service.gallery.is_mapped(need),
    };
    let plan = SearchPlan::of(certification, asking, dim, &stored, among, &available);
    course(service, &asked.version, dim, plan, stored, &asked.options)
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
    let is_item = matches!(query, Query::Item(_));
    let (version, dim, plan, source) = match (query, live) {
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
    let course = course(service, &version, dim, plan, stored, options)?;
    Ok(Planned {
        version,
        is_item,
        course,
        filter,
        source,
    })
}

/// A plan with what is forced, and its thresholds.
fn course(
    service: &SearchService,
    version: &str,
    dim: usize,
    mut plan: SearchPlan,
    stored: Arc<Stored>,
    options: &Options,
) -> Result<Course, ApiError> {
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
    Ok(Course {
        plan: Arc::new(plan),
        thresholds,
        stored,
    })
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
        if let Some(space) = missing(&service.gallery, part) {
            let space = space.to_string();
            return Err(GalleryError::NotMapped { space }.into());
        }
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
