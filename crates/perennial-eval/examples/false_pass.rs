//! How often does a certificate pass an upgrade that is no improvement? Simulated upgrades whose true margin is known.
//!
//! `cargo run --release -p perennial-eval --example false_pass [upgrades] [seed]`
//!
//! Each simulated upgrade changes the scores of some queries: a share `changed` of them, as often up as down where the true margin is 0,
//! and more often down where it is negative. A certificate at `alpha` passes when the lower bound of the interval with confidence
//! `1 - alpha` is at least 0, and the exact test when its one-sided p is at most `alpha / 2`; at a true margin of 0 both should pass
//! at most `alpha / 2` of the upgrades. Prints a table, then one JSON object per row.

use perennial_eval::{Bootstrap, Measure, PairedComparison, compare_scores};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

const QUERIES: [usize; 4] = [100, 300, 1_000, 3_000];
const CHANGED: [f64; 2] = [0.05, 0.2];
const TRUE_MARGINS: [f64; 3] = [0.0, -0.005, -0.01];
/// Share of the queries that the old side answers; of graded scores, the mean is half of it.
const OLD_QUALITY: f64 = 0.6;

/// Upgrades with one true margin, and how many of them passed.
#[derive(Debug, Serialize)]
struct Row {
    measure: Measure,
    queries: usize,
    changed: f64,
    true_margin: f64,
    upgrades: usize,
    seed: u64,
    /// Share with the lower bound of the 90, 95 and 99 % interval at least 0.
    interval_passes: [f64; 3],
    /// Share with a one-sided exact p of at most 0.05, 0.025 and 0.005; binary measures only.
    exact_passes: Option<[f64; 3]>,
    /// Share with a 95 % interval that is entirely below 0.
    incompatible: f64,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: u64| {
        let given = arguments.next().map(|text| text.parse());
        given.map_or(default, |number| {
            number.expect("arguments are whole numbers")
        })
    };
    let (upgrades, seed) = (argument(1000) as usize, argument(1));
    let mut rows = Vec::new();
    for measure in [Measure::RecallAt(1), Measure::MeanAveragePrecision] {
        for queries in QUERIES {
            for changed in CHANGED {
                for true_margin in TRUE_MARGINS {
                    let stream = rows.len() as u64;
                    rows.push(simulate(
                        measure,
                        queries,
                        changed,
                        true_margin,
                        upgrades,
                        seed,
                        stream,
                    ));
                }
            }
        }
    }

    println!(
        "{upgrades} upgrades a row, seed {seed}; shares that pass, at alpha 0.10 | 0.05 | 0.01 (nominal at margin 0: 0.050 | 0.025 | 0.005)"
    );
    println!(
        "measure   queries changed  margin   interval's lower bound >= 0   exact one-sided test        incompatible"
    );
    let three = |shares: [f64; 3]| shares.map(|share| format!("{share:.3}")).join(" | ");
    for row in &rows {
        println!(
            "{:<9} {:>7} {:>7.2} {:>7.3}   {:<27}   {:<25}   {:.3}",
            row.measure.to_string(),
            row.queries,
            row.changed,
            row.true_margin,
            three(row.interval_passes),
            row.exact_passes.map_or_else(|| "-".to_owned(), three),
            row.incompatible,
        );
    }
    for row in &rows {
        println!(
            "{}",
            serde_json::to_string(row).expect("a row is plain data")
        );
    }
}

fn simulate(
    measure: Measure,
    queries: usize,
    changed: f64,
    true_margin: f64,
    upgrades: usize,
    seed: u64,
    stream: u64,
) -> Row {
    let found: Vec<PairedComparison> = (0..upgrades as u64)
        .into_par_iter()
        .map(|upgrade| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream << 32 | upgrade);
            let (new, old) = scores(measure, queries, changed, true_margin, &mut rng);
            let bootstrap = Bootstrap::new(rng.random());
            compare_scores(measure, &new, &old, &bootstrap, 0).expect("scores are fractions")
        })
        .collect();
    let share = |passes: &dyn Fn(&PairedComparison) -> bool| {
        found.iter().filter(|one| passes(one)).count() as f64 / upgrades as f64
    };
    Row {
        measure,
        queries,
        changed,
        true_margin,
        upgrades,
        seed,
        interval_passes: [0, 1, 2]
            .map(|level| share(&|one| one.intervals[level].bounds.low >= 0.0)),
        exact_passes: measure
            .is_binary()
            .then(|| [0.05, 0.025, 0.005].map(|most| share(&|one| one.p_not_worse <= most))),
        incompatible: share(&|one| one.interval().high < 0.0),
    }
}

/// New and old scores of one upgrade.
fn scores(
    measure: Measure,
    queries: usize,
    changed: f64,
    true_margin: f64,
    rng: &mut ChaCha8Rng,
) -> (Vec<f32>, Vec<f32>) {
    let pair = |_| {
        if measure.is_binary() {
            let at = rng.random::<f64>();
            // Right only now, right only before, and the rest by the old quality.
            let gained = (changed + true_margin) / 2.0;
            if at < gained {
                (1.0, 0.0)
            } else if at < changed {
                (0.0, 1.0)
            } else {
                let same = if rng.random::<f64>() < OLD_QUALITY {
                    1.0
                } else {
                    0.0
                };
                (same, same)
            }
        } else {
            // A skewed score like an average precision; a changed query gets another one, which the true margin makes smaller.
            let mut draw = |quality: f64| (quality * rng.random::<f64>().powi(2) * 1.5).min(1.0);
            let old = draw(OLD_QUALITY);
            let other = draw(OLD_QUALITY * (1.0 + true_margin / (changed * OLD_QUALITY * 0.5)));
            let new = if rng.random::<f64>() < changed {
                other
            } else {
                old
            };
            (new as f32, old as f32)
        }
    };
    (0..queries).map(pair).unzip()
}
