//! Certification: measures one search and writes down what follows.

use perennial_eval::{Requirements, cannot_tell, top_k};

use crate::advise::best_merge;
use crate::answer_group::AnswerGroup;
use crate::certificate::{BridgeUse, Certificate, Draft, Sources, TaskResult};
use crate::evaluation_data::{EvaluationData, Rows, Truth};
use crate::finding::Finding;
use crate::fit_overlap::FitOverlap;
use crate::measured::{Bounds, Demands, MeasureError, judge, outcomes_of};
use crate::route::{Prepared, Route, Search, unit};
use crate::thresholds::Thresholds;

/// Neighbours whose agreement is shown.
const AGREEMENT: usize = 10;

/// What is certified.
pub struct CertificateRequest<'a> {
    /// The evaluation set.
    pub data: &'a EvaluationData,
    /// How queries are searched.
    pub search: Search<'a>,
    /// What is demanded.
    pub demands: Demands,
    /// The files, for the document.
    pub sources: Sources,
    /// When, RFC 3339 in UTC.
    pub created: String,
}

impl CertificateRequest<'_> {
    /// Measures the search on every truth of the evaluation set. Where inputs of it were used to fit the bridge, the finding is that this
    /// cannot tell.
    ///
    /// # Errors
    /// [`MeasureError`] for vectors, bridges and routes that do not fit one another.
    pub fn run(self) -> Result<Certificate, MeasureError> {
        let data = self.data;
        let prepared = self.search.prepare(data)?;
        let FitOverlap { shared, unknown } =
            FitOverlap::of(self.search.bridge, self.search.route, data);
        let mut warnings = Vec::from_iter(unknown);
        let self_test = |queries: &Rows, gallery: &Rows| -> Result<Prepared, MeasureError> {
            Ok(Prepared {
                queries: unit(queries)?,
                gallery: unit(gallery)?,
                dim: gallery.dim,
            })
        };
        let old_self = self_test(&data.old_queries, &data.old_gallery)?;
        let new_gallery = data.new_gallery.as_ref();
        let new_self = new_gallery
            .map(|gallery| self_test(&data.new_queries, gallery))
            .transpose()?;
        let served = best_merge(data, &self.search, &self.demands)?;
        let mut tasks = Vec::new();
        for (number, truth) in data.truths.iter().enumerate() {
            let centre = |rows: &mut [f32]| match self.search.bridge {
                Some(bridge) => bridge.centre_to(rows),
                None => Ok(()),
            };
            let centred = self.search.bridge.is_some()
                && self.search.route != Route::Mapped
                && self.search.index == perennial_bridge::Index::Centred;
            let bounds = Bounds::of(data, truth, centred.then_some(&centre))?;
            let found = outcomes_of(data, truth, prepared.as_ref())?;
            let mut measures = bounds.compare(&found, self.search.index, &self.demands)?;
            bounds.add_intervals(&mut measures, &found, &self.demands)?;
            let (mut finding, mut reasons) = judge(&measures, &self.demands);
            let lacking = cannot_tell(
                &truth.relevance(),
                data.old_gallery.len(),
                data.own.as_deref(),
                &Requirements::default(),
            )
            .map_err(perennial_eval::OutcomesError::from)?;
            let mut obstacles = shared.clone();
            obstacles.extend(lacking.iter().map(ToString::to_string));
            if !obstacles.is_empty() {
                finding = Finding::CannotTell;
                reasons = obstacles;
            }
            let thresholds =
                |vectors| Thresholds::of(data, truth, vectors, self.demands.bootstrap.seed);
            let new_self_thresholds = match &new_self {
                Some(own) => thresholds(own.as_ref())?,
                None => None,
            };
            let groups = served.as_ref().map(|served| served.groups[number].clone());
            let groups = groups.unwrap_or_default();
            warnings.extend(groups.iter().filter_map(AnswerGroup::warning));
            tasks.push(TaskResult {
                task: truth.task(),
                finding,
                reasons,
                answerable_queries: (data.queries() - found.queries_without_relevant) as u64,
                measures,
                thresholds: thresholds(prepared.as_ref())?,
                new_self_thresholds,
                old_self_thresholds: thresholds(old_self.as_ref())?,
                merge: served.as_ref().map(|served| served.merge),
                groups,
            });
        }
        if data.truths.is_empty() {
            warnings.push(
                "no labels and no relevance judgements were given, so nothing is certified; pass --query-labels and --gallery-labels, or \
                 --relevance. Augmented views of the same input, or pairs of queries and clicked items, can stand in as judgements"
                    .to_owned(),
            );
        }
        if self.search.route == Route::Bridged || self.search.route == Route::Mapped {
            let only_classes = data
                .truths
                .iter()
                .all(|truth| matches!(truth, Truth::Classes { .. }));
            if only_classes && !data.truths.is_empty() {
                warnings.push(
                    "labels measure class-like retrieval only; a bridge alone often loses single items, so measure item-like retrieval with \
                     --relevance before it is used for that"
                        .to_owned(),
                );
            }
        }
        Ok(Certificate::new(Draft {
            created: self.created,
            spaces: [
                data.new_queries.space.clone(),
                data.old_gallery.space.clone(),
            ],
            route: self.search.route,
            index: self.search.index,
            bridge: self.search.bridge.map(|bridge| BridgeUse {
                kind: bridge.describe(),
                sha256: bridge.sha256(),
                pairs: bridge.fit_record().pairs as u64,
            }),
            sources: self.sources,
            queries: data.queries() as u64,
            gallery_items: data.old_gallery.len() as u64,
            demands: self.demands,
            tasks,
            agreement_at_10: agreement(data, &prepared)?,
            warnings,
        }))
    }
}

/// Share of the new encoder's own ten nearest neighbours that the search finds too.
fn agreement(data: &EvaluationData, prepared: &Prepared) -> Result<Option<f64>, MeasureError> {
    let Some(gallery) = &data.new_gallery else {
        return Ok(None);
    };
    let wanted = top_k(
        &unit(&data.new_queries)?,
        &unit(gallery)?,
        gallery.dim,
        data.to_ask(AGREEMENT),
    )?;
    let found = top_k(
        &prepared.queries,
        &prepared.gallery,
        prepared.dim,
        data.to_ask(AGREEMENT),
    )?;
    let (mut shared, mut total) = (0, 0);
    for query in 0..data.queries() {
        let wanted: Vec<usize> = data.others(&wanted, query, AGREEMENT).collect();
        let found = data.others(&found, query, AGREEMENT);
        shared += found.filter(|item| wanted.contains(item)).count();
        total += wanted.len();
    }
    Ok((total > 0).then(|| shared as f64 / total as f64))
}
