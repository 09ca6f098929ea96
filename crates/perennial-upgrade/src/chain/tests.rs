//! Made-up spaces: every version sees the same items, rotated its own way, and with noise of its own.

use perennial_core::SpaceRef;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::Rows;
use crate::selection::DEFAULT_WEIGHT;

const DIM: usize = 8;
const CLASSES: usize = 6;
const QUERIES: usize = 90;
const ITEMS: usize = 120;
const FIT: usize = 200;

struct World {
    random: ChaCha8Rng,
    centres: Vec<f32>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            centres: Vec::new(),
        };
        world.centres = world.values(CLASSES * DIM);
        world
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        let draw = |_| self.random.random_range(-1.0f32..1.0);
        (0..count).map(draw).collect()
    }

    /// What the items are: a class's centre and something of their own.
    fn items(&mut self, count: usize) -> Vec<f32> {
        let own = self.values(count * DIM);
        let centre = |at: usize| self.centres[(at / DIM % CLASSES) * DIM + at % DIM];
        let values = own.iter().enumerate();
        values.map(|(at, own)| centre(at) + 0.8 * own).collect()
    }

    /// Rows of a random orthogonal matrix.
    fn rotation(&mut self) -> Vec<f32> {
        let mut rows: Vec<Vec<f32>> = Vec::new();
        while rows.len() < DIM {
            let mut row = self.values(DIM);
            for known in &rows {
                let along: f32 = row.iter().zip(known).map(|(a, b)| a * b).sum();
                row.iter_mut()
                    .zip(known)
                    .for_each(|(value, known)| *value -= along * known);
            }
            if perennial_core::normalize_in_place(&mut row).is_ok() {
                rows.push(row);
            }
        }
        rows.concat()
    }

    /// Versions with this much noise each, oldest first.
    fn versions(&mut self, noise: &[f32]) -> Vec<ChainVersion> {
        let [queries, gallery, fit] = [QUERIES, ITEMS, FIT].map(|count| self.items(count));
        let version = |(number, noise): (usize, &f32)| {
            let rotation = self.rotation();
            let space = SpaceRef::unnamed(DIM);
            let mut seen = |items: &[f32]| {
                let noisy: Vec<f32> = self
                    .values(items.len())
                    .iter()
                    .zip(items)
                    .map(|(own, item)| item + noise * own)
                    .collect();
                let turned = noisy.chunks_exact(DIM).flat_map(|row| {
                    let turn = |axis: &[f32]| row.iter().zip(axis).map(|(a, b)| a * b).sum();
                    rotation.chunks_exact(DIM).map(turn).collect::<Vec<f32>>()
                });
                Rows {
                    values: turned.collect(),
                    dim: DIM,
                    space: space.clone(),
                }
            };
            ChainVersion {
                name: format!("v{number}"),
                queries: seen(&queries),
                gallery: seen(&gallery),
                fit: Some(seen(&fit)),
                missing: MissingRows::default(),
            }
        };
        noise.iter().enumerate().map(version).collect()
    }
}

fn truth() -> Truth {
    let classes = |count: usize| (0..count).map(|item| (item % CLASSES) as u32).collect();
    Truth::Classes {
        queries: classes(QUERIES),
        gallery: classes(ITEMS),
    }
}

fn usual(versions: usize) -> Vec<ChainRoute> {
    ChainRoute::usual(versions, Recipe::Orthogonal, DEFAULT_WEIGHT)
}

fn measure(versions: &[ChainVersion], routes: &[ChainRoute]) -> Vec<RouteResult> {
    let mut demands = Demands::new(1);
    demands.bootstrap.resamples = 200;
    let chain = Chain {
        versions,
        truth: &truth(),
        demands,
    };
    let mut tests = 0;
    let found = chain
        .measure(routes, || {
            tests += 1;
            Ok::<(), MeasureError>(())
        })
        .unwrap();
    let count = versions.len();
    assert_eq!(tests, routes.len() * count * count.saturating_sub(1) / 2);
    found
}

fn named<'a>(found: &'a [RouteResult], name: &str) -> &'a RouteResult {
    let names = || found.iter().map(|one| &one.name).collect::<Vec<_>>();
    let one = found.iter().find(|one| one.name == name);
    one.unwrap_or_else(|| panic!("{name} among {:?}", names()))
}

#[test]
fn of_pure_rotations_composed_bridges_and_duals_lose_nothing() {
    let versions = World::new(3).versions(&[0.0; 5]);
    let mapped = ChainRoute::Mapped {
        recipe: Recipe::Orthogonal,
    };
    let found = measure(&versions, &[usual(5), vec![mapped]].concat());
    assert_eq!(found.len(), 8);
    let direct = named(&found, "bridge, orthogonal");
    let own = named(&found, "as it is");
    for name in [
        "bridge, composed orthogonal",
        "dual 0.5, orthogonal",
        "dual 0.5 latest, orthogonal",
        "dual 0.5 latest, composed orthogonal",
        "mapped, orthogonal",
    ] {
        let other = named(&found, name);
        assert_eq!(other.drift.len(), 4 * 3);
        for (other, direct) in other.drift.iter().zip(&direct.drift) {
            assert_eq!((other.hops, other.pairs), (direct.hops, direct.pairs));
            // One query at most whose nearest items are equally near but for rounding.
            let difference = (other.cross_test - direct.cross_test).abs();
            assert!(difference < 0.012, "{name}: {other:?}, {direct:?}");
            assert_eq!(other.recovery, None, "equal versions gain nothing");
        }
    }
    for (own, direct) in own.drift.iter().zip(&direct.drift) {
        assert!(
            own.margin < -0.1 && own.intervals[1].bounds.high < 0.0,
            "{own:?}"
        );
        assert!(direct.margin > -0.05, "{direct:?}");
    }
    let pairs: Vec<(usize, usize)> = direct
        .drift
        .iter()
        .filter(|one| one.measure == Measure::RecallAt(1))
        .map(|one| (one.hops, one.pairs))
        .collect();
    assert_eq!(pairs, [(1, 4), (2, 3), (3, 2), (4, 1)]);
}

#[test]
fn better_versions_have_margins_recoveries_and_differences_with_intervals() {
    let versions = World::new(5).versions(&[1.6, 1.2, 0.8, 0.4]);
    let found = measure(&versions, &usual(4));
    for result in &found {
        for drift in &result.drift {
            let [_, usual, _] = drift.intervals[..] else {
                panic!("{drift:?}");
            };
            assert!(usual.bounds.low <= drift.margin && drift.margin <= usual.bounds.high);
            assert!((drift.cross_test - drift.old_self_test - drift.margin).abs() < 1e-9);
            if let Some(recovery) = &drift.recovery {
                let gain = drift.new_self_test - drift.old_self_test;
                assert!((recovery.value * gain - drift.margin).abs() < 1e-9);
            }
        }
        // The mean over pairs is that of the matrix's diagonals.
        for measure in &result.measures {
            let rows = measure.matrix.iter().enumerate().skip(2);
            let two: Vec<f64> = rows.map(|(row, cells)| cells[row - 2]).collect();
            let mean = two.iter().sum::<f64>() / two.len() as f64;
            let drift = (result.drift.iter())
                .find(|one| (one.measure, one.hops) == (measure.measure, 2))
                .unwrap();
            assert!((drift.cross_test - mean).abs() < 1e-6, "{drift:?}");
        }
    }
    let direct = named(&found, "bridge, orthogonal");
    let last = direct
        .drift
        .iter()
        .rfind(|one| one.measure == Measure::MeanAveragePrecision);
    let recovery = last.unwrap().recovery.as_ref().unwrap();
    assert!(recovery.intervals.is_some(), "{last:?}");

    let against = |name: &str| named(&found, name).against.as_ref().unwrap();
    let composed = against("bridge, composed orthogonal");
    assert_eq!(composed.other, direct.name);
    let latest = against("dual 0.5 latest, orthogonal");
    assert_eq!(latest.other, "dual 0.5, orthogonal");
    for difference in composed.hops.iter().chain(&latest.hops) {
        // Neighbours have one bridge, and the latest old encoder is the gallery's.
        let same = difference.hops == 1;
        assert!(!same || difference.difference == 0.0, "{difference:?}");
    }
    let farther = latest.hops.iter().filter(|one| one.hops > 1);
    assert!(farther.clone().any(|one| one.difference != 0.0));
    let gallery_drift = &named(&found, "dual 0.5, orthogonal").drift;
    let latest_drift = &named(&found, "dual 0.5 latest, orthogonal").drift;
    for one in farther {
        let cross = |drift: &[HopDrift]| {
            let same = |other: &&HopDrift| (other.measure, other.hops) == (one.measure, one.hops);
            drift.iter().find(same).unwrap().cross_test
        };
        let expected = cross(latest_drift) - cross(gallery_drift);
        assert!((one.difference - expected).abs() < 1e-9);
    }
}

#[test]
fn two_versions_have_no_routes_of_chains_and_one_has_none_at_all() {
    let versions = World::new(7).versions(&[0.5, 0.2]);
    let routes = usual(2);
    assert_eq!(routes.len(), 4);
    let found = measure(&versions, &routes);
    assert!(
        found
            .iter()
            .all(|one| one.drift.len() == 3 && one.against.is_none())
    );
    // A composed bridge between neighbours is the direct one.
    let composed = ChainRoute::usual(3, Recipe::Orthogonal, DEFAULT_WEIGHT)[3];
    let found = measure(&versions, &[routes[2], composed]);
    assert_eq!(found[0].measures, found[1].measures);
    let found = measure(&versions[..1], &routes);
    assert!(
        found
            .iter()
            .all(|one| one.drift.is_empty() && one.mixed.is_empty())
    );
    assert!(measure(&[], &routes).iter().all(|one| one.drift.is_empty()));
}

#[test]
fn mapped_vectors_meet_the_queries_in_the_space_of_these() {
    let mut versions = World::new(11).versions(&[0.6, 0.1]);
    // The newer version has two dimensions more, which tell nothing.
    let newer = &mut versions[1];
    for rows in [&mut newer.queries, &mut newer.gallery]
        .into_iter()
        .chain(newer.fit.as_mut())
    {
        let wider = rows.values.chunks_exact(DIM);
        rows.values = wider.flat_map(|row| [row, &[0.0, 0.0]].concat()).collect();
        (rows.dim, rows.space) = (DIM + 2, SpaceRef::unnamed(DIM + 2));
    }
    let recipe = Recipe::Orthogonal;
    let found = measure(&versions, &[ChainRoute::Mapped { recipe }]);

    // By hand: both sides less the mean of their fit set, the stored ones turned by the map that the fit set gives.
    let [old, new] = [&versions[0], &versions[1]];
    let fit = |version: &ChainVersion| version.fit.clone().unwrap();
    let bridge = fit_rows(&fit(old), &fit(new), &recipe).unwrap();
    let mut gallery = Vec::new();
    bridge.apply(&old.gallery.values, &mut gallery).unwrap();
    let mut queries = new.queries.values.clone();
    bridge.centre_to(&mut queries).unwrap();
    let right = queries
        .chunks_exact(DIM + 2)
        .enumerate()
        .filter(|(query, row)| {
            let score = |item: &[f32]| -> f32 { item.iter().zip(*row).map(|(a, b)| a * b).sum() };
            let scores = gallery.chunks_exact(DIM + 2).map(score).enumerate();
            let first = scores.max_by(|(_, one), (_, other)| one.total_cmp(other));
            first.unwrap().0 % CLASSES == query % CLASSES
        });
    let recall = right.count() as f64 / QUERIES as f64;
    let drift = |measure: Measure| {
        let mut all = found[0].drift.iter();
        all.find(|one| one.measure == measure).unwrap()
    };
    assert!((drift(Measure::RecallAt(1)).cross_test - recall).abs() < 1e-6);
    assert!(
        recall > drift(Measure::RecallAt(1)).old_self_test,
        "{recall}"
    );
    // Queries against the other's vectors as they are would be chance, 1 / 6.
    assert!(drift(Measure::NearestClassMean).cross_test > 0.5);
    assert_eq!(found[0].mixed.len(), 1);

    versions[0].fit = None;
    let chain = Chain {
        versions: &versions,
        truth: &truth(),
        demands: Demands::new(1),
    };
    let routes = [ChainRoute::Mapped { recipe }];
    let error = chain.measure(&routes, || Ok::<(), MeasureError>(()));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("route mapped needs a bridge"), "{error}");
}

#[test]
fn routes_are_read_as_they_are_written_and_by_their_older_form() {
    let mapped = ChainRoute::Mapped {
        recipe: Recipe::Ridge { penalty: 0.001 },
    };
    assert_eq!(mapped.to_string(), "mapped, ridge:0.001");
    for route in [usual(3), vec![mapped]].concat() {
        let text = serde_json::to_string(&route).unwrap();
        assert_eq!(serde_json::from_str::<ChainRoute>(&text).unwrap(), route);
    }
    let older = r#"{"kind": "dual", "recipe": "orthogonal", "weight": 0.5}"#;
    let route = serde_json::from_str::<ChainRoute>(older).unwrap();
    assert_eq!(route, usual(2)[3]);
}

/// Versions of which some rows are missing, and the same versions with other numbers in these rows.
#[test]
fn what_has_no_embedding_is_missed_never_found_and_not_fitted_on() {
    let whole = World::new(13).versions(&[0.5, 0.3, 0.1]);
    let mapped = ChainRoute::Mapped {
        recipe: Recipe::Orthogonal,
    };
    let routes = [usual(3), vec![mapped]].concat();
    let missing = MissingRows {
        queries: vec![0, 5],
        gallery: vec![3, 4],
        fit: vec![7],
    };
    let with = |value: f32, in_version: usize| {
        let mut versions = World::new(13).versions(&[0.5, 0.3, 0.1]);
        let version = &mut versions[in_version];
        let parts = [
            (&mut version.queries, &missing.queries),
            (&mut version.gallery, &missing.gallery),
        ];
        for (rows, missing) in parts {
            for &row in missing {
                rows.values[row * DIM..][..DIM].fill(value);
            }
        }
        let fit = version.fit.as_mut().unwrap();
        fit.values[7 * DIM..][..DIM].fill(value);
        version.missing = missing.clone();
        versions
    };
    let usual = measure(&whole, &routes);
    for in_version in 0..3 {
        // Zeros, which nothing could be made of, and whatever else.
        let found = measure(&with(0.0, in_version), &routes);
        assert_eq!(found, measure(&with(0.7, in_version), &routes));
        let value = |results: &[RouteResult], measure: usize, row: usize, column: usize| {
            results[0].measures[measure].matrix[row][column]
        };
        for measure in 0..3 {
            // As it is, the other versions' tests among themselves stay as they were, and missed queries cost what they are.
            let others: Vec<usize> = (0..3).filter(|&other| other != in_version).collect();
            let [old, new] = others[..] else { panic!() };
            let [before, after] = [&usual, &found].map(|all| value(all, measure, new, old));
            assert_eq!(before, after);
            let [before, after] =
                [&usual, &found].map(|all| value(all, measure, in_version, in_version));
            assert!(before.is_finite() && after.is_finite());
            assert!(after <= before + 0.02, "{before} {after}");
        }
        for summary in found.iter().flat_map(|result| &result.measures) {
            let mut cells = summary.matrix.iter().flatten();
            assert!(cells.all(|cell| (0.0..=1.0).contains(cell)), "{summary:?}");
        }
    }
}

#[test]
fn a_bridge_without_anything_to_fit_on_is_refused() {
    let mut versions = World::new(9).versions(&[0.5, 0.2, 0.1]);
    versions[0].fit = None;
    let chain = Chain {
        versions: &versions,
        truth: &truth(),
        demands: Demands::new(1),
    };
    let error = chain.measure(&usual(3)[2..3], || Ok::<(), MeasureError>(()));
    assert!(error.unwrap_err().to_string().contains("needs a bridge"));
    let own = chain.measure(&[ChainRoute::Own], || Ok::<(), MeasureError>(()));
    assert_eq!(own.unwrap().len(), 1);
}

#[test]
fn a_chain_of_one_version_is_read_back() {
    let found = measure(&World::new(3).versions(&[0.0; 1]), &[ChainRoute::Own]);
    assert_eq!(found[0].measures[0].worst_margin, None);
    assert_eq!(found[0].measures[0].average_compatibility, 0.0);
    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(
        serde_json::from_str::<Vec<RouteResult>>(&text).unwrap(),
        found
    );
    // Of two versions there is a margin.
    let found = measure(&World::new(3).versions(&[0.0; 2]), &[ChainRoute::Own]);
    assert!(found[0].measures[0].worst_margin.is_some());
}
