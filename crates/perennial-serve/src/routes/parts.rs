//! How parts of the gallery are reached, in answers.

use std::collections::BTreeMap;

use perennial_core::SpaceId;
use perennial_upgrade::{ExpectedQuality, PlannedPart, Remedy, Route, SearchPlan};
use serde::Serialize;
use utoipa::ToSchema;

/// Spaces that are searched with the same vectors.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PartBody {
    /// The spaces, by the names of the versions or outside encoders that embedded the items.
    pub(crate) spaces: Vec<String>,
    /// The dimension of their vectors.
    dim: usize,
    /// `own`: with the query's embedding as it is. `bridged`: with the embedding, mapped into the space. `dual`: with the mapped embedding and
    /// that of the items' own encoder together. `mapped`: with the embedding as it is, among the items' vectors mapped into its space.
    route: &'static str,
    /// The share of the items' own encoder, from 0 to 1; null but for `dual`.
    weight: Option<f64>,
    /// Items of these spaces.
    pub(crate) items: u64,
    /// What the route rests on.
    basis: String,
    /// Whether a measurement is undecided, which the policy allows, or was overruled by force.
    undecided: bool,
    /// Why a better certified route is not used; null if this is the best one.
    fallback: Option<String>,
    /// How hits of this part are ranked together with hits of the query's own space: `z_scores` (what is usual for the query in the part),
    /// `cosines` or `calibrated`; null for route `own`, whose similarities are on that scale.
    merge: Option<&'static str>,
    /// On how many queries it was chosen when the route was certified; null where nothing was measured, so that it is `z_scores`.
    merge_queries: Option<u64>,
    /// What its hits gain in that ranking, so that queries with an answer among them find it as often as before the upgrade: standard deviations
    /// for `z_scores`, otherwise similarity in the query's own space. 0 where nothing was needed or nothing helps; null where nothing was measured.
    merge_shift: Option<f64>,
    /// What the measurements let expect, in absolute figures; empty where there is none.
    expected: Vec<ExpectedFigure>,
    /// The similarity below which hits are left out; null without `max_false_accept_rate`.
    threshold: Option<f32>,
}

impl PartBody {
    /// A part, with the threshold that a search applies.
    pub(crate) fn new(part: &PlannedPart, threshold: Option<f32>) -> Self {
        let route = part.way.route();
        Self {
            spaces: part.spaces.iter().map(ToString::to_string).collect(),
            dim: part.dim,
            route: route.name(),
            weight: match route {
                Route::Dual { weight } => Some(weight),
                _ => None,
            },
            items: part.items,
            basis: part.basis.clone(),
            undecided: part.undecided,
            fallback: part.fallback.clone(),
            merge: part.merge_name(),
            merge_queries: part.merge.map(|merge| merge.queries),
            merge_shift: part.merge_shift(),
            expected: part.expected.iter().map(ExpectedFigure::new).collect(),
            threshold,
        }
    }

    /// All parts of a plan.
    pub(crate) fn of(plan: &SearchPlan) -> Vec<Self> {
        let parts = plan.parts.iter();
        parts.map(|part| Self::new(part, None)).collect()
    }
}

/// What an evaluation set has shown of a space.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ExpectedFigure {
    /// The space.
    space: String,
    /// The measure, such as `recall@1`.
    measure: String,
    /// What was measured, a fraction.
    value: f64,
    /// Lower end of the bootstrap interval; null where the measurement has none.
    low: Option<f64>,
    /// Its upper end.
    high: Option<f64>,
    /// The interval's confidence, a fraction.
    confidence: f64,
}

impl ExpectedFigure {
    fn new((space, expected): &(SpaceId, ExpectedQuality)) -> Self {
        Self {
            space: space.to_string(),
            measure: expected.measure.clone(),
            value: expected.value,
            low: expected.interval.map(|interval| interval.low),
            high: expected.interval.map(|interval| interval.high),
            confidence: expected.confidence,
        }
    }
}

/// Items of a space that are not searched.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LeftOutBody {
    /// Their space.
    space: String,
    /// How many.
    items: u64,
    /// Why.
    reason: String,
    /// The command that measures what is missing, without the path of the registry; null where there is none.
    remedy: Option<String>,
}

impl LeftOutBody {
    /// All that a plan leaves out.
    pub(crate) fn of(plan: &SearchPlan) -> Vec<Self> {
        let remedies: BTreeMap<&str, &Remedy> = plan
            .refused
            .iter()
            .filter_map(|pair| Some((pair.gallery_version.as_str(), pair.remedy.as_ref()?)))
            .collect();
        let left = plan.not_searched.iter().map(|left| Self {
            space: left.space.to_string(),
            items: left.items,
            reason: left.reason.clone(),
            remedy: remedies
                .get(left.space.as_str())
                .map(|remedy| remedy.public().to_owned()),
        });
        left.collect()
    }
}
