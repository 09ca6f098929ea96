//! Advice: every way to handle an encoder upgrade, measured on the user's own data and ranked.
//!
//! The queries are split in two. Kinds of bridges, their strength and the weight of dual queries are chosen on one half; what is reported is
//! measured on the other half, so that choosing among many does not make the figures look better than they are.

mod cost;
mod group_figures;
mod halves;
mod handicap;
mod merge_choice;
mod merging;
mod order;
mod recommendation;
mod reembedding;
mod sides;
mod tuning;
mod way;
mod way_kind;

use perennial_bridge::{Bridge, Index, Recipe, Side};
use perennial_core::SpaceRef;
use perennial_eval::{Outcomes, Requirements};
use serde::{Deserialize, Serialize};

pub use cost::{Cost, Rates};
pub(crate) use merge_choice::best_merge;
pub use merging::CurveMerge;
pub use recommendation::Recommendation;
pub use reembedding::CurvePoint;
pub use way::Way;
pub use way_kind::WayKind;

use halves::{Halves, split};
use reembedding::RERANKED;

use crate::certificate::Sources;
use crate::evaluation_data::{EvaluationData, FitPairs, Task};
use crate::finding::Finding;
use crate::fit_overlap::shared_inputs;
use crate::measured::{Bounds, Demands, MeasureError, judge, search_outcomes};
use crate::route::{Route, Search};
use crate::selection::{candidates, fit_rows};

/// The version of the document.
pub const SCHEMA_VERSION: u32 = 1;
/// What is asked.
pub struct Question<'a> {
    /// The evaluation set, with at least one truth.
    pub data: &'a EvaluationData,
    /// Inputs that both encoders embedded. If some of them are in the evaluation set, ways through a bridge cannot be judged.
    pub fit: Option<&'a FitPairs>,
    /// What is demanded of a way.
    pub demands: Demands,
    /// What encoding costs.
    pub rates: Rates,
    /// The files, for the document.
    pub sources: Sources,
    /// When, RFC 3339 in UTC.
    pub created: String,
}

/// The advice cannot be given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdviceError {
    /// Nothing says which items are right.
    #[error(
        "advice needs labels or relevance judgements; likeness to the new model is no measure of quality. Pass --query-labels and \
         --gallery-labels, or --relevance"
    )]
    NoTruth,
    /// Too few queries to choose on one half and judge on the other.
    #[error(
        "advice needs at least {needed} queries, got {found}: one half chooses settings, the other half is measured"
    )]
    TooFewQueries {
        /// Queries found.
        found: usize,
        /// Queries needed.
        needed: usize,
    },
    /// The bridge cannot be fitted.
    #[error(transparent)]
    Bridge(#[from] perennial_bridge::BridgeError),
    /// A way cannot be measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
}

/// Advice for one kind of retrieval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskAdvice {
    /// What is searched for.
    pub task: Task,
    /// Queries that chose settings.
    pub tuning_queries: u64,
    /// Queries that the figures are measured on.
    pub judging_queries: u64,
    /// All ways, the best first.
    pub ways: Vec<Way>,
    /// Which of them pays.
    pub recommendation: Recommendation,
    /// Quality by share of the gallery embedded again; empty without the new encoder's gallery.
    pub curve: Vec<CurvePoint>,
    /// How hits of old and of newly embedded items were merged for it, chosen on the queries that chose settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curve_merge: Option<CurveMerge>,
}

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// The version of the document.
    pub schema_version: u32,
    /// `perennial-advice`.
    pub kind: String,
    /// When, RFC 3339 in UTC.
    pub created: String,
    /// The space of the new queries.
    pub query_space: SpaceRef,
    /// The space of the stored embeddings.
    pub gallery_space: SpaceRef,
    /// The files.
    pub sources: Sources,
    /// What was demanded.
    pub demands: Demands,
    /// What encoding costs.
    pub rates: Rates,
    /// Pairs that bridges were fitted on.
    pub fit_pairs: u64,
    /// One entry for each kind of retrieval.
    pub tasks: Vec<TaskAdvice>,
}

impl Advice {
    /// The document.
    pub fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("advice has string keys and finite numbers");
        text.push('\n');
        text
    }
}

impl Question<'_> {
    /// Measures every way that the data allow. `done` is told what is being measured; its error ends the work.
    ///
    /// # Errors
    /// [`AdviceError`] where nothing says which items are right, or vectors do not fit one another; whatever `done` returns.
    pub fn answer<E: From<AdviceError>>(
        self,
        mut done: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<Advice, E> {
        if self.data.truths.is_empty() {
            return Err(AdviceError::NoTruth.into());
        }
        let needed = 2 * Requirements::default().queries;
        let found = self.data.queries();
        if found < needed {
            return Err(AdviceError::TooFewQueries { found, needed }.into());
        }
        let [tuning, judging] = split(self.data.queries(), self.demands.bootstrap.seed);
        let halves = Halves {
            tuning: self.data.with_queries(&tuning),
            judging: self.data.with_queries(&judging),
        };
        let mut bridges = Vec::new();
        if let Some(FitPairs { new, old, .. }) = self.fit {
            for recipe in candidates(new.len(), [new.dim, old.dim]) {
                done(&format!("fitting {recipe}"))?;
                bridges.push(fit_rows(new, old, &recipe).map_err(AdviceError::from)?);
            }
        }
        let back = match self.fit {
            Some(FitPairs { new, old, .. }) => {
                done("fitting the map of stored embeddings")?;
                let bridge = fit_rows(old, new, &Recipe::Ridge { penalty: 1e-3 });
                Some(bridge.map_err(AdviceError::from)?)
            }
            None => None,
        };
        let fitted = Fitted {
            bridges,
            back,
            shared: self.fit.map_or_else(Vec::new, |fit| {
                shared_inputs(&fit.inputs(), Side::From, self.data)
            }),
        };
        let mut tasks = Vec::new();
        for number in 0..self.data.truths.len() {
            tasks.push(self.task(number, &halves, &fitted, &mut done)?);
        }
        Ok(Advice {
            schema_version: SCHEMA_VERSION,
            kind: "perennial-advice".to_owned(),
            created: self.created,
            query_space: self.data.new_queries.space.clone(),
            gallery_space: self.data.old_gallery.space.clone(),
            sources: self.sources,
            demands: self.demands,
            rates: self.rates,
            fit_pairs: self.fit.map_or(0, |fit| fit.new.len() as u64),
            tasks,
        })
    }

    fn task<E: From<AdviceError>>(
        &self,
        number: usize,
        halves: &Halves,
        fitted: &Fitted,
        done: &mut impl FnMut(&str) -> Result<(), E>,
    ) -> Result<TaskAdvice, E> {
        let Halves { tuning, judging } = halves;
        let Fitted {
            bridges,
            back,
            shared,
        } = fitted;
        let truth = &judging.truths[number];
        let failed = AdviceError::from;
        let centre = |rows: &mut [f32]| match bridges.first() {
            Some(bridge) => bridge.centre_to(rows),
            None => Ok(()),
        };
        let bounds =
            Bounds::of(judging, truth, (!bridges.is_empty()).then_some(&centre)).map_err(failed)?;
        let mut ways = Ways {
            bounds: &bounds,
            demands: &self.demands,
            rates: &self.rates,
            items: judging.old_gallery.len() as u64,
            shared,
            ways: Vec::new(),
        };
        ways.add(
            WayKind::DoNothing,
            "do nothing",
            None,
            Index::Raw,
            None,
            bounds.old(),
        )?;
        let same_dim = judging.new_queries.dim == judging.old_gallery.dim;
        if same_dim {
            done("measuring: swap as it is")?;
            let found = search_outcomes(judging, truth, &Search::own()).map_err(failed)?;
            ways.add(
                WayKind::SwapAsItIs,
                "swap as it is",
                Some(Route::Own),
                Index::Raw,
                None,
                &found,
            )?;
        }
        for bridge in bridges {
            let recipe = bridge.describe();
            done(&format!("measuring: {recipe}"))?;
            let index = tuning::best_index(tuning, number, bridge).map_err(failed)?;
            let search = Search::through(bridge, Route::Bridged, index);
            let found = search_outcomes(judging, truth, &search).map_err(failed)?;
            ways.add(
                WayKind::Bridge,
                &format!("bridge, {recipe}"),
                Some(Route::Bridged),
                index,
                Some(bridge),
                &found,
            )?;
        }
        let mut serving = None;
        if !bridges.is_empty() {
            done("choosing the weight of dual queries")?;
            let choice = tuning::best_dual(tuning, number, bridges).map_err(failed)?;
            let bridge = &bridges[choice.bridge];
            let route = Route::Dual {
                weight: choice.weight,
            };
            let search = Search::through(bridge, route, choice.index);
            let found = search_outcomes(judging, truth, &search).map_err(failed)?;
            let name = format!(
                "dual queries, {}, weight {}",
                bridge.describe(),
                choice.weight
            );
            ways.add(
                WayKind::DualQueries,
                &name,
                Some(route),
                choice.index,
                Some(bridge),
                &found,
            )?;
            serving = Some(search);
        }
        if let Some(back) = back {
            done("measuring: mapped stored embeddings")?;
            let search = Search::through(back, Route::Mapped, Index::Centred);
            let found = search_outcomes(judging, truth, &search).map_err(failed)?;
            let name = format!("map the stored embeddings, {}", back.describe());
            ways.add(
                WayKind::MapStored,
                &name,
                Some(Route::Mapped),
                Index::Centred,
                Some(back),
                &found,
            )?;
        }
        let mut curve = None;
        if let Some(new) = bounds.new_self_test() {
            ways.add(
                WayKind::ReembedAll,
                "re-embed everything",
                Some(Route::Own),
                Index::Raw,
                None,
                new,
            )?;
            if let Some(search) = &serving {
                done("measuring: two-stage search")?;
                let found =
                    reembedding::two_stage(judging, truth, search, RERANKED).map_err(failed)?;
                let name = format!("two-stage: dual queries, first {RERANKED} ranked again");
                ways.add(
                    WayKind::TwoStage,
                    &name,
                    Some(search.route),
                    search.index,
                    search.bridge,
                    &found,
                )?;
                done("measuring: shares of the gallery embedded again")?;
                curve = reembedding::curve(halves, number, search).map_err(failed)?;
            }
        }
        let mut ways = ways.ways;
        ways.sort_by(|one, other| other.margin().total_cmp(&one.margin()));
        Ok(TaskAdvice {
            task: truth.task(),
            tuning_queries: tuning.queries() as u64,
            judging_queries: judging.queries() as u64,
            recommendation: Recommendation::of(&ways, [judging.queries(), tuning.queries()]),
            ways,
            curve_merge: curve.as_ref().map(|curve| curve.merge),
            curve: curve.map_or_else(Vec::new, |curve| curve.points),
        })
    }
}

/// Bridges of all kinds from the new to the old space, and one back.
struct Fitted {
    bridges: Vec<Bridge>,
    back: Option<Bridge>,
    /// Inputs of the evaluation set that they were fitted on.
    shared: Vec<String>,
}

/// The ways measured so far.
struct Ways<'a> {
    bounds: &'a Bounds,
    demands: &'a Demands,
    rates: &'a Rates,
    items: u64,
    shared: &'a [String],
    ways: Vec<Way>,
}

impl Ways<'_> {
    fn add(
        &mut self,
        kind: WayKind,
        name: &str,
        route: Option<Route>,
        index: Index,
        bridge: Option<&Bridge>,
        found: &Outcomes,
    ) -> Result<(), AdviceError> {
        let measures = self.bounds.compare(found, index, self.demands)?;
        let (finding, reasons) = match kind {
            // It is what everything else is compared with.
            WayKind::DoNothing => (Finding::Compatible, Vec::new()),
            _ if bridge.is_some() && !self.shared.is_empty() => {
                (Finding::CannotTell, self.shared.to_vec())
            }
            _ => judge(&measures, self.demands),
        };
        self.ways.push(Way {
            kind,
            name: name.to_owned(),
            route,
            index,
            bridge: bridge.map(|bridge| bridge.describe()),
            finding,
            reasons,
            measures,
            cost: Cost::of(kind, self.items, self.rates),
        });
        Ok(())
    }
}
