//! A search of the local gallery: every part by its certified route, and the hits in one ranking.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use perennial_core::{ModelVersion, Registry, SpaceId};
use perennial_encode::Input;
use perennial_gallery::{
    EmbeddedGallery, Filter, ItemId, MappedIndex, MappedIndexes, SearchRequest, VectorMap,
    VectorStore,
};
use perennial_upgrade::{
    Asking, BridgeMap, Certification, LoadedModel, Need, PartHits, PlannedPart, RankedBy,
    SAMPLE_SEED, SAMPLE_VECTORS, ScoreCalibration, ScoreKind, SearchPlan, Stored, merge,
};

use super::super::remote::{Found, FoundHit, FoundPart, LeftOut};
use super::super::rules::{BY_FORCE, require_certified};
use crate::exit_status::usage;
use crate::model_loading::VersionLoader;
use crate::progress::CountedProgress;
use crate::terminal::Terminal;

/// The query as the encoders of old versions embed it, or why they cannot.
type OldQueries = BTreeMap<String, Result<Vec<f32>, String>>;

/// What is searched, and under which rules.
pub struct LocalSearch<'a> {
    pub registry: &'a Registry,
    pub rules: &'a Certification,
    pub gallery: &'a EmbeddedGallery,
    pub loader: &'a VersionLoader,
    pub filter: &'a Filter,
    pub limit: usize,
    /// Search also what is not certified, where its dimension allows.
    pub force: bool,
    /// Where the building of indexes is shown.
    pub terminal: &'a Terminal,
    /// Indexes that were built for it; none at first.
    pub mapped: RefCell<Vec<MappedIndex>>,
}

impl LocalSearch<'_> {
    /// By a picture or a text, which a version embeds; for dual queries, the versions of the stored items embed it too. `place` is named in
    /// errors.
    pub fn by_input(
        &self,
        place: &str,
        input: Input<'_>,
        version: ModelVersion,
    ) -> anyhow::Result<Found> {
        let name = version.name.clone();
        let query = Query {
            place,
            input,
            registry: self.registry,
            loader: self.loader,
        };
        let embedding = query.embed(version)?;
        let old: RefCell<OldQueries> = RefCell::default();
        let stored = Stored::of(self.gallery)?;
        let items_of = |space: &str| stored.per_version.get(space).copied().unwrap_or(0);
        let available = |need: Need<'_>| {
            let version = match need {
                Need::OldEncoder(version) => version,
                Need::MappedIndex { space, map } => {
                    return self.builds(space, items_of(space), map);
                }
            };
            let mut old = old.borrow_mut();
            let known = old.entry(version.to_owned()).or_insert_with(|| {
                query
                    .embed_by(version)
                    .map_err(|error| format!("{error:#}"))
            });
            known.is_ok()
        };
        let mut plan = self.plan(Asking::Version(&name), embedding.len(), &stored, &available);
        let old = old.into_inner();
        explain(&mut plan, &old);
        self.find(name, plan, &stored, &embedding, &old)
    }

    /// By a stored item.
    pub fn by_item(&self, id: &ItemId) -> anyhow::Result<Found> {
        let item = self.gallery.get(std::slice::from_ref(id), true)?.pop();
        let item = item.ok_or_else(|| usage(format!("the gallery holds no item {id}")))?;
        let embedding = item.embedding.context("the item came without embedding")?;
        let name = item.model_version;
        let stored = Stored::of(self.gallery)?;
        let plan = self.plan(
            Asking::Item(&name),
            embedding.len(),
            &stored,
            &|need| match need {
                Need::OldEncoder(_) => false,
                Need::MappedIndex { space, map } => {
                    let items = stored.per_version.get(space).copied();
                    self.builds(space, items.unwrap_or(0), map)
                }
            },
        );
        self.find(name, plan, &stored, &embedding, &OldQueries::new())
    }

    fn plan(
        &self,
        asking: Asking<'_>,
        dim: usize,
        stored: &Stored,
        available: &dyn Fn(Need<'_>) -> bool,
    ) -> SearchPlan {
        let among = self.filter.model_versions.as_deref();
        let mut plan = SearchPlan::of(self.rules, asking, dim, stored, among, available);
        if self.force {
            plan.force(dim, stored);
        }
        plan
    }

    fn find(
        &self,
        model_version: String,
        plan: SearchPlan,
        stored: &Stored,
        embedding: &[f32],
        old: &OldQueries,
    ) -> anyhow::Result<Found> {
        if plan.parts.is_empty() {
            require_certified(&plan.refused, BY_FORCE)?;
        }
        let mut found = Vec::new();
        for part in &plan.parts {
            let mut spaces = part.spaces.iter();
            let old = spaces.find_map(|space| old.get(space.as_str())?.as_ref().ok());
            let queries = part.queries(embedding, old.map(Vec::as_slice))?;
            let request = SearchRequest {
                spaces: &part.spaces,
                queries: &queries,
                dim: part.search_dim(),
                limit: self.limit,
                filter: self.filter,
                exact: false,
            };
            let mut hits = part.search(self.gallery, &request)?;
            found.push(PartHits {
                hits: hits.pop().unwrap_or_default(),
                calibration: self.calibration(part, stored, &queries)?,
                scale: part.scale(),
            });
        }
        let hits = merge(found, self.limit).into_iter().map(|merged| {
            let route = plan.parts[merged.part].way.route();
            let ranked_by = RankedBy::first_stage(plan.parts.len(), merged.merged_score);
            FoundHit {
                id: merged.hit.id,
                score: merged.hit.score,
                score_kind: ScoreKind::of(route).name().to_owned(),
                ranked_by: ranked_by.name().to_owned(),
                standard_score: merged.standard_score,
                merged_score: merged.merged_score,
                own_score: None,
                space: merged.hit.model_version.clone(),
                route: route.name().to_owned(),
                model_version: merged.hit.model_version,
                label: merged.hit.label,
                payload: merged.hit.payload,
            }
        });
        Ok(Found {
            model_version,
            hits: hits.collect(),
            parts: plan.parts.iter().map(FoundPart::of).collect(),
            not_searched: plan.not_searched_items(),
            left_out: LeftOut::of(&plan),
            second_stage: None,
        })
    }

    /// Builds an index of mapped vectors for this search, beside those of other spaces, unless there is one.
    fn builds(&self, space: &str, items: u64, map: &Arc<BridgeMap>) -> bool {
        let Ok(id) = SpaceId::new(space) else {
            return false;
        };
        if self.gallery.has_mapped(space, map.key()) {
            return true;
        }
        let mut wanted = self.mapped.borrow_mut();
        wanted.push(MappedIndex {
            space: id,
            map: Arc::clone(map) as Arc<dyn VectorMap>,
        });
        if let Err(error) = self.gallery.keep_mapped(&wanted) {
            tracing::warn!(%error, space, "its vectors cannot be mapped");
            return false;
        }
        let title = format!("mapping the vectors of {space} for this search");
        let progress = CountedProgress::new(self.terminal, title, items, "items");
        let mut done = 0;
        loop {
            let is_built = self.gallery.has_mapped(space, map.key());
            let stats = self.gallery.mapped();
            let mut stats = stats.iter();
            let built = stats.find(|one| one.space.as_str() == space && one.map == map.key());
            let now = built.map_or(done, |one| one.items + one.refused);
            progress.advance(now.saturating_sub(done));
            done = now;
            if is_built {
                progress.finish();
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What similarities of the query are usual in a part.
    fn calibration(
        &self,
        part: &PlannedPart,
        stored: &Stored,
        query: &[f32],
    ) -> anyhow::Result<ScoreCalibration> {
        let mut spaces = Vec::with_capacity(part.spaces.len());
        for space in &part.spaces {
            let sample = self.gallery.sample(space, SAMPLE_VECTORS, SAMPLE_SEED)?;
            let items = stored.per_version.get(space.as_str());
            spaces.push((
                ScoreCalibration::of(query, &part.compared(&sample)),
                items.copied().unwrap_or(0),
            ));
        }
        Ok(ScoreCalibration::over_spaces(&spaces))
    }
}

/// Why an old encoder that was needed cannot embed the query, wherever the plan says that it cannot.
fn explain(plan: &mut SearchPlan, old: &OldQueries) {
    let problem = |version: &str| old.get(version)?.as_ref().err();
    for refused in &mut plan.refused {
        if let Some(problem) = problem(&refused.gallery_version) {
            refused.reason = format!("{}: {problem}", refused.reason);
        }
    }
    for left in &mut plan.not_searched {
        if let Some(problem) = problem(left.space.as_str()) {
            left.reason = format!("{}: {problem}", left.reason);
        }
    }
    for part in &mut plan.parts {
        let problems = part.spaces.iter();
        let problems: Vec<&String> = problems
            .filter_map(|space| problem(space.as_str()))
            .collect();
        if let Some(fallback) = &mut part.fallback {
            for problem in problems {
                fallback.push_str(&format!(": {problem}"));
            }
        }
    }
}

/// The picture or text that is searched for.
struct Query<'a> {
    place: &'a str,
    input: Input<'a>,
    registry: &'a Registry,
    loader: &'a VersionLoader,
}

impl Query<'_> {
    /// **Errors**: a name that is no version of the registry, as those of outside encoders.
    fn embed_by(&self, version: &str) -> anyhow::Result<Vec<f32>> {
        self.embed(self.registry.get(version)?)
    }

    fn embed(&self, version: ModelVersion) -> anyhow::Result<Vec<f32>> {
        let model = LoadedModel::load(self.loader, self.registry, version)?;
        let prepared = model.prepare(self.input);
        let prepared = prepared.with_context(|| self.place.to_owned())?;
        Ok(model.encode(&[prepared])?)
    }
}
