//! A chain of model versions: every newer version's queries on every older version's gallery, by each route.

use perennial_bridge::{Bridge, Index, Recipe};
use perennial_eval::{Measure, Merge, MixedTest, Partition, mixed_outcomes};
use serde::{Deserialize, Serialize};

use crate::evaluation_data::{EvaluationData, Rows, Truth};
use crate::measured::{Bounds, Demands, MeasureError, Measured, outcomes_of};
use crate::route::{Prepared, Route, Search, unit};
use crate::selection::{DEFAULT_WEIGHT, fit_rows};

/// Hits among which the share of old items is counted.
const FIRST: usize = 24;

/// One version of the chain.
pub struct ChainVersion {
    /// Its name.
    pub name: String,
    /// The queries, as it embeds them.
    pub queries: Rows,
    /// The gallery, as it embeds it.
    pub gallery: Rows,
    /// Inputs outside of the evaluation set, the same for all versions, to fit bridges on.
    pub fit: Option<Rows>,
}

/// How newer queries search older galleries in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ChainRoute {
    /// As they are.
    Own,
    /// Each side less the mean of its own fit set.
    Centred,
    /// Through a bridge.
    Bridged {
        /// The bridge's kind and strength.
        recipe: Recipe,
    },
    /// Old query and bridged query in one.
    Dual {
        /// The bridge's kind and strength.
        recipe: Recipe,
        /// The old query's share.
        weight: f64,
    },
}

impl ChainRoute {
    /// As they are, centred, through an orthogonal bridge, and as dual queries of weight 0.5.
    pub fn usual() -> Vec<Self> {
        vec![
            Self::Own,
            Self::Centred,
            Self::Bridged {
                recipe: Recipe::Orthogonal,
            },
            Self::Dual {
                recipe: Recipe::Orthogonal,
                weight: DEFAULT_WEIGHT,
            },
        ]
    }

    /// Whether a fit set is needed.
    pub fn needs_fit(self) -> bool {
        self != Self::Own
    }

    fn recipe(self) -> Option<Recipe> {
        match self {
            Self::Own => None,
            Self::Centred => Some(Recipe::Centring),
            Self::Bridged { recipe } | Self::Dual { recipe, .. } => Some(recipe),
        }
    }

    fn search(self, bridge: Option<&Bridge>) -> Search<'_> {
        match (self, bridge) {
            (Self::Dual { weight, .. }, Some(bridge)) => {
                Search::through(bridge, Route::Dual { weight }, Index::Centred)
            }
            (Self::Own, _) | (_, None) => Search::own(),
            (_, Some(bridge)) => Search::through(bridge, Route::Bridged, Index::Centred),
        }
    }
}

impl std::fmt::Display for ChainRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own => f.write_str("as it is"),
            Self::Centred => f.write_str("centred"),
            Self::Bridged { recipe } => write!(f, "bridge, {recipe}"),
            Self::Dual { recipe, weight } => write!(f, "dual {weight}, {recipe}"),
        }
    }
}

/// One measure over all pairs of a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChainMeasure {
    /// The measure.
    pub measure: Measure,
    /// Row `t`, column `k`: queries of version `t` on the gallery of version `k`; the diagonal holds the self-tests, the better of raw and
    /// centred.
    pub matrix: Vec<Vec<f64>>,
    /// AC: the share of pairs whose cross-test is above the old self-test.
    pub average_compatibility: f64,
    /// The mean of the matrix, diagonal included.
    pub average_accuracy: f64,
    /// The mean cross-test.
    pub mean_cross_test: f64,
    /// The smallest margin of a cross-test over the old self-test.
    pub worst_margin: f64,
    /// Pairs whose interval lies at or above the demanded margin.
    pub compatible: usize,
    /// Pairs whose interval contains it.
    pub undecided: usize,
    /// Pairs whose interval lies below it.
    pub incompatible: usize,
}

/// A gallery of which one half was embedded by an older version and one half by the newest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mixed {
    /// The older version.
    pub old: String,
    /// Each measure over all queries.
    pub all: Vec<(Measure, f64)>,
    /// All items embedded by the old version and searched by it: what there was before.
    pub all_old: Vec<(Measure, f64)>,
    /// All items embedded by the newest version: everything embedded again.
    pub all_new: Vec<(Measure, f64)>,
    /// Share of old items among the first 24 hits; 0.5 is their share of the gallery.
    pub old_among_first: f64,
}

/// The result of one route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteResult {
    /// The route.
    pub route: ChainRoute,
    /// In words.
    pub name: String,
    /// Every measure.
    pub measures: Vec<ChainMeasure>,
    /// Half-old galleries, oldest version first: the route on old items, the newest version's own query on new ones.
    pub mixed: Vec<Mixed>,
}

/// The old version of a pair, with its self-tests.
struct Old {
    bounds: Bounds,
    self_tests: Vec<(Measure, f64)>,
}

/// A chain of versions, oldest first.
pub struct Chain<'a> {
    /// The versions.
    pub versions: &'a [ChainVersion],
    /// Which items are right.
    pub truth: &'a Truth,
    /// What counts as compatible.
    pub demands: Demands,
}

impl Chain<'_> {
    /// Measures a route on every pair. `done` is called after each pair; its error ends the work.
    ///
    /// # Errors
    /// Versions that do not fit the route, such as different dimensions on route own; whatever `done` returns.
    pub fn measure<E: From<MeasureError>>(
        &self,
        route: ChainRoute,
        mut done: impl FnMut() -> Result<(), E>,
    ) -> Result<RouteResult, E> {
        let count = self.versions.len();
        let mut rows: Vec<Vec<Vec<Measured>>> = (0..count).map(|_| Vec::new()).collect();
        let mut self_tests = Vec::with_capacity(count);
        let mut mixed = Vec::new();
        for old in 0..count {
            let bounds = self.old(old)?;
            for (new, row) in rows.iter_mut().enumerate().skip(old + 1) {
                let data = self.pair(new, old);
                let bridge = self.bridge(route, new, old)?;
                let search = route.search(bridge.as_ref());
                let prepared = search.prepare(&data).map_err(MeasureError::from)?;
                let found = outcomes_of(&data, self.truth, &prepared)?;
                let measured = bounds
                    .bounds
                    .compare(&found, Index::Centred, &self.demands)?;
                row.push(measured);
                if new + 1 == count {
                    mixed.push(self.mixed(&data, &prepared, &bounds, old)?);
                }
                done()?;
            }
            self_tests.push(bounds.self_tests);
        }
        Ok(RouteResult {
            route,
            name: route.to_string(),
            measures: self.summaries(&rows, &self_tests),
            mixed,
        })
    }

    fn pair(&self, new: usize, old: usize) -> EvaluationData {
        let (new, old) = (&self.versions[new], &self.versions[old]);
        EvaluationData {
            old_queries: old.queries.clone(),
            old_gallery: old.gallery.clone(),
            new_queries: new.queries.clone(),
            new_gallery: Some(new.gallery.clone()),
            truths: Vec::new(),
            own: None,
        }
    }

    fn bridge(
        &self,
        route: ChainRoute,
        new: usize,
        old: usize,
    ) -> Result<Option<Bridge>, MeasureError> {
        let (Some(recipe), Some(from), Some(to)) = (
            route.recipe(),
            &self.versions[new].fit,
            &self.versions[old].fit,
        ) else {
            return Ok(None);
        };
        Ok(Some(fit_rows(from, to, &recipe)?))
    }

    fn old(&self, old: usize) -> Result<Old, MeasureError> {
        let mut data = self.pair(old, old);
        data.new_gallery = None;
        let centring = match &self.versions[old].fit {
            Some(fit) => Some(fit_rows(fit, fit, &Recipe::Centring)?),
            None => None,
        };
        let centre = |rows: &mut [f32]| match &centring {
            Some(centring) => centring.centre_to(rows),
            None => Ok(()),
        };
        let bounds = Bounds::of(&data, self.truth, centring.is_some().then_some(&centre))?;
        let self_tests = self
            .measures()
            .filter_map(|measure| Some((measure, bounds.old_self_test(measure, Index::Centred)?)))
            .collect();
        Ok(Old { bounds, self_tests })
    }

    fn measures(&self) -> impl Iterator<Item = Measure> + use<> {
        let task = self.truth.task();
        task.measures()[..task.deciding()].iter().copied()
    }

    /// Half of the items by the old version, half by the new one: every other item.
    fn mixed(
        &self,
        data: &EvaluationData,
        search: &Prepared,
        old: &Old,
        number: usize,
    ) -> Result<Mixed, MeasureError> {
        let gallery = data.new_gallery.as_ref().unwrap_or(&data.old_gallery);
        let new = Prepared {
            queries: unit(&data.new_queries)?,
            gallery: unit(gallery)?,
            dim: gallery.dim,
        };
        let items = gallery.len() as u32;
        let places: [Vec<u32>; 2] =
            [0, 1].map(|half| (0..items).filter(|item| item % 2 == half).collect());
        let half = |prepared: &Prepared, places: &[u32]| -> Vec<f32> {
            let rows = places.iter().flat_map(|&item| {
                &prepared.gallery[item as usize * prepared.dim..][..prepared.dim]
            });
            rows.copied().collect()
        };
        let halves = [half(search, &places[0]), half(&new, &places[1])];
        let partitions = [
            Partition {
                queries: &search.queries,
                gallery: &halves[0],
                dim: search.dim,
                positions: &places[0],
            },
            Partition {
                queries: &new.queries,
                gallery: &halves[1],
                dim: new.dim,
                positions: &places[1],
            },
        ];
        let found = mixed_outcomes(&MixedTest {
            partitions: &partitions,
            relevance: &self.truth.relevance(),
            own: None,
            merge: Merge::ZNormalised,
            first: FIRST,
        })?;
        let of = |outcomes: &perennial_eval::Outcomes| -> Vec<(Measure, f64)> {
            self.measures()
                .filter_map(|measure| Some((measure, measure.mean(outcomes)?)))
                .collect()
        };
        let all_new = outcomes_of(data, self.truth, &new)?;
        Ok(Mixed {
            old: self.versions[number].name.clone(),
            all: of(&found.all),
            all_old: old.self_tests.clone(),
            all_new: of(&all_new),
            old_among_first: found.share_of_first[0],
        })
    }

    fn summaries(
        &self,
        rows: &[Vec<Vec<Measured>>],
        self_tests: &[Vec<(Measure, f64)>],
    ) -> Vec<ChainMeasure> {
        let summary = |(number, measure): (usize, Measure)| {
            let of = |cell: &Vec<Measured>| {
                cell.iter()
                    .find(|one| one.comparison.measure == measure)
                    .cloned()
            };
            let pairs: Vec<Measured> = rows.iter().flatten().filter_map(of).collect();
            let matrix: Vec<Vec<f64>> = rows
                .iter()
                .enumerate()
                .map(|(version, row)| {
                    let cross = row.iter().filter_map(of).map(|one| one.comparison.new);
                    let own = self_tests[version].get(number).map(|(_, value)| *value);
                    cross.chain(own).collect()
                })
                .collect();
            let count = |verdict: perennial_core::Verdict| {
                pairs.iter().filter(|one| one.verdict == verdict).count()
            };
            let better = pairs
                .iter()
                .filter(|one| one.comparison.margin > 0.0)
                .count();
            let cells: Vec<f64> = matrix.iter().flatten().copied().collect();
            let total = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
            let cross: Vec<f64> = pairs.iter().map(|one| one.comparison.new).collect();
            ChainMeasure {
                measure,
                average_compatibility: better as f64 / pairs.len().max(1) as f64,
                average_accuracy: total(&cells),
                mean_cross_test: total(&cross),
                worst_margin: pairs
                    .iter()
                    .map(|one| one.comparison.margin)
                    .fold(f64::INFINITY, f64::min),
                compatible: count(perennial_core::Verdict::Compatible),
                undecided: count(perennial_core::Verdict::Undecided),
                incompatible: count(perennial_core::Verdict::Incompatible),
                matrix,
            }
        };
        self.measures().enumerate().map(summary).collect()
    }
}
