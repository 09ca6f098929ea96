//! A chain of model versions: every newer version's queries on every older version's gallery, by each route.
//!
//! Three questions need a chain: whether bridges between neighbours, one after the other, do as well as one that is fitted directly
//! ([`BridgePath`]); whether dual queries need the gallery's own encoder or the latest old one will do ([`OldHalf`]); and what is left after
//! several upgrades ([`HopDrift`]).

mod bridges;
mod drift;
mod route;
#[cfg(test)]
mod tests;
mod version;

use perennial_bridge::{Index, Recipe};
use perennial_eval::{
    Averages, Known, Measure, Merge, MixedTest, Outcomes, OutcomesError, Partition, TieRule,
    mixed_outcomes,
};
use serde::{Deserialize, Serialize};

pub use drift::{HopDifference, HopDrift, RouteDifference};
pub use route::{BridgePath, ChainRoute, OldHalf};
pub use version::{ChainVersion, MissingRows};

use self::bridges::ChainBridges;
use self::drift::{HopScores, SelfScores};
use self::version::{fit_pairs, known_to, pair, truth_among};
use crate::evaluation_data::{EvaluationData, Truth};
use crate::measured::{Bounds, Demands, MeasureError, Measured, outcomes_of};
use crate::route::{DualEnds, Prepared, Route, Search, unit};
use crate::selection::fit_rows;

/// Hits among which the share of old items is counted.
const FIRST: usize = 24;

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
    /// The smallest margin of a cross-test over the old self-test; none of one version.
    pub worst_margin: Option<f64>,
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
    /// All items embedded by the old version and searched by it, raw or centred, whichever is better: what there was before.
    pub all_old: Vec<(Measure, f64)>,
    /// All items embedded by the newest version, in the same way: everything embedded again.
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
    /// Margin and recovery by the number of upgrades between query and gallery version, for every measure.
    #[serde(default)]
    pub drift: Vec<HopDrift>,
    /// Against [`ChainRoute::counterpart`], where that was measured too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<RouteDifference>,
}

/// What is known of a version before any route is measured.
struct SelfTest {
    bounds: Bounds,
    scores: SelfScores,
    means: Vec<(Measure, f64)>,
}

/// What was found of a route so far.
struct Progress {
    /// Row `t`, column `k`: the queries of version `t` on the gallery of version `k`, every measure.
    rows: Vec<Vec<Vec<Measured>>>,
    mixed: Vec<Mixed>,
    by_hops: HopScores,
}

/// A pair of versions to measure, and the queries and items that a route can be measured with.
struct Pair<'a> {
    data: &'a EvaluationData,
    known: &'a Known,
    old: usize,
    new: usize,
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
    /// Measures routes on every pair. `done` is called after each pair and route; its error ends the work.
    ///
    /// # Errors
    /// Versions that do not fit a route, such as different dimensions on route own, or no fit set; whatever `done` returns.
    pub fn measure<E: From<MeasureError>>(
        &self,
        routes: &[ChainRoute],
        mut done: impl FnMut() -> Result<(), E>,
    ) -> Result<Vec<RouteResult>, E> {
        let count = self.versions.len();
        let tests = (0..count).map(|version| self.self_test(version));
        let tests = tests.collect::<Result<Vec<SelfTest>, _>>()?;
        let (measures, queries) = (self.measures(), self.versions.first());
        let queries = queries.map_or(0, |version| version.queries.len());
        let start = |_: &ChainRoute| Progress {
            rows: (0..count).map(|_| Vec::new()).collect(),
            mixed: Vec::new(),
            by_hops: HopScores::new(measures, count, queries),
        };
        let mut progress: Vec<Progress> = routes.iter().map(start).collect();
        let mut bridges = ChainBridges::new(self.versions);
        for old in 0..count {
            for new in old + 1..count {
                // Routes that ask the same versions have the same data.
                let mut last: Option<(Known, EvaluationData)> = None;
                for (&route, progress) in routes.iter().zip(&mut progress) {
                    let known = self.known(route, old, new);
                    let (known, data) = match last.take() {
                        Some(same) if same.0 == known => same,
                        _ => {
                            let data = self.pair(new, old, &known);
                            (known, data)
                        }
                    };
                    let pair = Pair {
                        data: &data,
                        known: &known,
                        old,
                        new,
                    };
                    self.measure_pair(route, &pair, &tests, &mut bridges, progress)?;
                    last = Some((known, data));
                    done()?;
                }
            }
        }
        Ok(self.results(routes, &progress, tests)?)
    }

    fn measure_pair(
        &self,
        route: ChainRoute,
        pair: &Pair<'_>,
        tests: &[SelfTest],
        bridges: &mut ChainBridges<'_>,
        progress: &mut Progress,
    ) -> Result<(), MeasureError> {
        let &Pair {
            data,
            known,
            old,
            new,
        } = pair;
        let prepared = self.prepare(route, pair, bridges)?;
        let truth = truth_among(self.truth, known)?;
        let found = outcomes_of(data, &truth, prepared.as_ref())?;
        let found = self.expanded(known, &found)?;
        let bounds = &tests[old].bounds;
        progress.rows[new].push(bounds.compare(&found, Index::Centred, &self.demands)?);
        progress.by_hops.add(new - old, &found);
        if new + 1 == self.versions.len() {
            progress
                .mixed
                .push(self.mixed(known, &prepared, old, tests)?);
        }
        Ok(())
    }

    /// The queries that a route asks, and the items that it finds, of a pair.
    fn known(&self, route: ChainRoute, old: usize, new: usize) -> Known {
        let version = |at: usize| &self.versions[at];
        let mut askers = vec![version(new)];
        if let ChainRoute::Dual { old: half, .. } = route {
            askers.push(version(match half {
                OldHalf::Gallery => old,
                OldHalf::Latest => old.max(new - 1),
            }));
        }
        known_to(&askers, &[version(old)])
    }

    /// Outcomes of what is known as outcomes of all queries on all items.
    fn expanded(&self, known: &Known, found: &Outcomes) -> Result<Outcomes, MeasureError> {
        let expanded = known.expand(&self.truth.relevance(), found);
        Ok(expanded.map_err(OutcomesError::from)?)
    }

    /// The vectors that a route compares.
    fn prepare(
        &self,
        route: ChainRoute,
        &Pair {
            data,
            known,
            old,
            new,
        }: &Pair<'_>,
        bridges: &mut ChainBridges<'_>,
    ) -> Result<Prepared, MeasureError> {
        let mut bridged = |data: &EvaluationData, recipe, path, from| {
            let bridge = bridges.get(recipe, path, from, old)?;
            let search = Search::through(&bridge, Route::Bridged, Index::Centred);
            Ok::<Prepared, MeasureError>(search.prepare(data)?)
        };
        let (recipe, weight, half, path) = match route {
            ChainRoute::Own => return Ok(Search::own().prepare(data)?),
            ChainRoute::Centred => {
                return bridged(data, Recipe::Centring, BridgePath::Direct, new);
            }
            ChainRoute::Bridged { recipe, path } => return bridged(data, recipe, path, new),
            ChainRoute::Dual {
                recipe,
                weight,
                old,
                path,
            } => (recipe, weight, old, path),
            ChainRoute::Mapped { recipe } => {
                let bridge = bridges.mapping(recipe, old, new)?;
                let search = Search::through(&bridge, Route::Mapped, Index::Centred);
                return Ok(search.prepare(data)?);
            }
        };
        let queries = bridged(data, recipe, path, new)?.queries;
        let latest = new - 1;
        let old = if half == OldHalf::Latest && latest > old {
            bridged(&self.pair(latest, old, known), recipe, path, latest)?
        } else {
            let bridge = bridges.get(recipe, path, new, old)?;
            let alone = Route::Dual { weight: 1.0 };
            Search::through(&bridge, alone, Index::Centred).prepare(data)?
        };
        Ok(DualEnds::new(queries, old).into_prepared(weight)?)
    }

    fn pair(&self, new: usize, old: usize, known: &Known) -> EvaluationData {
        pair(&self.versions[new], &self.versions[old], known)
    }

    fn self_test(&self, version: usize) -> Result<SelfTest, MeasureError> {
        let own = &self.versions[version];
        let known = known_to(&[own], &[own]);
        let data = self.pair(version, version, &known);
        let centring = match fit_pairs(own, own) {
            Some([fit, _]) => Some(fit_rows(&fit, &fit, &Recipe::Centring)?),
            None => None,
        };
        let centre = |rows: &mut [f32]| match &centring {
            Some(centring) => centring.centre_to(rows),
            None => Ok(()),
        };
        let truth = truth_among(self.truth, &known)?;
        let bounds = Bounds::of(&data, &truth, centring.is_some().then_some(&centre))?;
        let bounds = bounds.with_each(|found| self.expanded(&known, found))?;
        let of = |&measure: &Measure| {
            let scores = bounds.old_scores(measure, Index::Centred)?;
            let mean = bounds.old_self_test(measure, Index::Centred)?;
            Some((scores, (measure, mean)))
        };
        let (scores, means) = self.measures().iter().filter_map(of).unzip();
        Ok(SelfTest {
            bounds,
            scores,
            means,
        })
    }

    fn measures(&self) -> &'static [Measure] {
        let task = self.truth.task();
        &task.measures()[..task.deciding()]
    }

    /// Half of the items by the old version, half by the new one: every other item.
    fn mixed(
        &self,
        known: &Known,
        search: &Prepared,
        old: usize,
        tests: &[SelfTest],
    ) -> Result<Mixed, MeasureError> {
        let newest = &self.versions[self.versions.len() - 1];
        let of_newest = known_to(&[newest], &[newest]);
        let new = Prepared {
            queries: unit(&newest.queries.select(known.queries()))?,
            gallery: unit(&newest.gallery.select(of_newest.items()))?,
            dim: newest.gallery.dim,
        };
        let items = newest.gallery.len();
        // Of each half, the items that its version has an embedding of.
        let of_half = |known: &Known, half: usize| -> Vec<usize> {
            let items = known.items().iter().copied();
            items.filter(|item| item % 2 == half).collect()
        };
        let halves = [of_half(known, 0), of_half(&of_newest, 1)];
        let is_known = |item: &usize| halves[item % 2].binary_search(item).is_ok();
        let missing_items: Vec<usize> = (0..items).filter(|item| !is_known(item)).collect();
        let queries = newest.queries.len();
        let is_asked = |query: &usize| known.queries().binary_search(query).is_ok();
        let missing_queries: Vec<usize> = (0..queries).filter(|query| !is_asked(query)).collect();
        let in_halves = Known::without([queries, items], [&missing_queries, &missing_items]);
        let places = [0, 1].map(|half| -> Vec<u32> {
            let place = |item: &usize| in_halves.items().binary_search(item).ok();
            halves[half]
                .iter()
                .filter_map(place)
                .map(|place| place as u32)
                .collect()
        });
        let rows = |prepared: &Prepared, known: &Known, half: usize| -> Vec<f32> {
            let row = |item: &usize| known.items().binary_search(item).ok();
            let rows = halves[half].iter().filter_map(row);
            let rows = rows.flat_map(|row| &prepared.gallery[row * prepared.dim..][..prepared.dim]);
            rows.copied().collect()
        };
        let halves = [rows(search, known, 0), rows(&new, &of_newest, 1)];
        let truth = truth_among(self.truth, &in_halves)?;
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
        let test = MixedTest {
            partitions: &partitions,
            relevance: &truth.relevance(),
            own: None,
            first: FIRST,
        };
        let found = mixed_outcomes(&test, Merge::ZNormalised)?;
        let all = self.expanded(&in_halves, &found.all)?;
        let of = |outcomes: &Outcomes| -> Vec<(Measure, f64)> {
            let measures = self.measures().iter();
            measures
                .filter_map(|&measure| Some((measure, measure.mean(outcomes)?)))
                .collect()
        };
        let newest = &tests[tests.len() - 1];
        Ok(Mixed {
            old: self.versions[old].name.clone(),
            all: of(&all),
            all_old: tests[old].means.clone(),
            all_new: newest.means.clone(),
            old_among_first: found.share_of_first[0],
        })
    }

    fn results(
        &self,
        routes: &[ChainRoute],
        progress: &[Progress],
        tests: Vec<SelfTest>,
    ) -> Result<Vec<RouteResult>, MeasureError> {
        let bootstrap = &self.demands.bootstrap;
        let means: Vec<&[(Measure, f64)]> = tests.iter().map(|test| &test.means[..]).collect();
        let selves: Vec<SelfScores> = tests.iter().map(|test| test.scores.clone()).collect();
        let result = |(route, found): (&ChainRoute, &Progress)| {
            let counterpart = route.counterpart();
            let other = routes
                .iter()
                .zip(progress)
                .find(|(other, _)| Some(**other) == counterpart);
            let against = other.map(|(other, progress)| {
                Ok::<_, MeasureError>(RouteDifference {
                    other: other.to_string(),
                    hops: found.by_hops.less(&progress.by_hops, bootstrap)?,
                })
            });
            Ok(RouteResult {
                route: *route,
                name: route.to_string(),
                measures: self.summaries(&found.rows, &means),
                mixed: found.mixed.clone(),
                drift: found.by_hops.drift(&selves, bootstrap)?,
                against: against.transpose()?,
            })
        };
        routes.iter().zip(progress).map(result).collect()
    }

    fn summaries(
        &self,
        rows: &[Vec<Vec<Measured>>],
        self_tests: &[&[(Measure, f64)]],
    ) -> Vec<ChainMeasure> {
        let summary = |(number, &measure): (usize, &Measure)| {
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
            let averages = Averages::of(&matrix, TieRule::Strict);
            let total = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
            let cross: Vec<f64> = pairs.iter().map(|one| one.comparison.new).collect();
            ChainMeasure {
                measure,
                average_compatibility: averages.compatibility().unwrap_or(0.0),
                average_accuracy: averages.accuracy(),
                mean_cross_test: total(&cross),
                worst_margin: pairs
                    .iter()
                    .map(|one| one.comparison.margin)
                    .min_by(f64::total_cmp),
                compatible: count(perennial_core::Verdict::Compatible),
                undecided: count(perennial_core::Verdict::Undecided),
                incompatible: count(perennial_core::Verdict::Incompatible),
                matrix,
            }
        };
        self.measures().iter().enumerate().map(summary).collect()
    }
}
