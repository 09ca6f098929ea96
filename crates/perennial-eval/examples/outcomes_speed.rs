//! How much a whole retrieval test costs above the bare matrix product, in one run.
//!
//! `cargo run --release -p perennial-eval --example outcomes_speed [queries] [gallery] [dim] [rounds]`
//!
//! Both sides alternate; the fastest round of each counts, since anything else that runs on the machine can only slow a round down.

use std::time::Instant;

use perennial_core::{dot_products, normalize_rows};
use perennial_eval::{Bootstrap, Measure, Outcomes, Relevance, Test, compare_scores, outcomes};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Query blocks of the bare product; the fastest is what everything is compared with.
const BLOCKS: [usize; 4] = [128, 256, 512, 1250];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: usize| {
        let given = arguments.next().map(|text| text.parse());
        given.map_or(default, |number| {
            number.expect("arguments are whole numbers")
        })
    };
    let (queries, items, dim, rounds) = (
        argument(10_000),
        argument(10_000),
        argument(1023),
        argument(5),
    );
    println!(
        "{queries} queries x {items} items x {dim}, {} threads",
        rayon::current_num_threads()
    );

    let query_vectors = unit_vectors(queries, dim, 1);
    let gallery_vectors = unit_vectors(items, dim, 2);
    let classes =
        |count: u32, rows: usize| -> Vec<u32> { (0..rows as u32).map(|row| row % count).collect() };
    let (query_10, gallery_10) = (classes(10, queries), classes(10, items));
    let (query_100, gallery_100) = (classes(100, queries), classes(100, items));
    let one_each: Vec<Vec<u32>> = (0..queries as u32)
        .map(|query| vec![query % items as u32])
        .collect();
    let cases = [
        (
            "10 classes",
            Relevance::Classes {
                queries: &query_10,
                gallery: &gallery_10,
            },
        ),
        (
            "100 classes",
            Relevance::Classes {
                queries: &query_100,
                gallery: &gallery_100,
            },
        ),
        ("one item each", Relevance::Items(&one_each)),
    ];

    let mut bare = [f64::INFINITY; BLOCKS.len()];
    let mut scored = [f64::INFINITY; 3];
    let mut compared = [f64::INFINITY; 3];
    for _ in 0..rounds {
        for (fastest, rows) in bare.iter_mut().zip(BLOCKS) {
            *fastest = fastest.min(seconds(|| {
                product(&query_vectors, &gallery_vectors, dim, rows)
            }));
        }
        for (case, (_, relevance)) in cases.iter().enumerate() {
            let test = Test {
                queries: &query_vectors,
                gallery: &gallery_vectors,
                dim,
                relevance,
                own: None,
            };
            let mut found = Outcomes::default();
            scored[case] = scored[case].min(seconds(|| {
                found = outcomes(&test).expect("the test is whole")
            }));
            // Against the same outcomes of the queries in another order: all scores differ.
            let order: Vec<usize> = (0..queries).map(|query| (query + 37) % queries).collect();
            let old = found.select(&order);
            compared[case] = compared[case].min(seconds(|| compare(&found, &old)));
        }
    }
    let best = bare.iter().copied().fold(f64::INFINITY, f64::min);
    for (rows, fastest) in BLOCKS.iter().zip(bare) {
        println!("bare product, {rows:>4} queries at a time: {fastest:.3} s");
    }
    println!(
        "{:.1} GFLOP/s",
        2e-9 * (queries * items * dim) as f64 / best
    );
    for ((name, _), (scored, compared)) in cases.iter().zip(scored.iter().zip(compared)) {
        let all = scored + compared;
        println!(
            "{name:<14} outcomes {scored:.3} s ({:.3} x), intervals {compared:.3} s, together {all:.3} s ({:.3} x the bare product)",
            scored / best,
            all / best
        );
    }
}

/// Nearest class mean where there is one, recall@1, recall@10, mean reciprocal rank and mAP, with 2,000 resamples each.
fn compare(new: &Outcomes, old: &Outcomes) {
    let measures = [
        Measure::NearestClassMean,
        Measure::RecallAt(1),
        Measure::RecallAt(10),
        Measure::MeanReciprocalRank(Some(10)),
        Measure::MeanAveragePrecision,
    ];
    for (stream, measure) in (0..).zip(measures) {
        if let (Some(new), Some(old)) = (measure.scores(new), measure.scores(old)) {
            let found = compare_scores(measure, &new, &old, &Bootstrap::new(7), stream);
            std::hint::black_box(found.expect("scores are fractions"));
        }
    }
}

/// The similarities alone, a block of queries per thread at a time, thrown away.
fn product(queries: &[f32], gallery: &[f32], dim: usize, rows: usize) {
    let items = gallery.len() / dim;
    queries.par_chunks(rows * dim).for_each_init(
        || vec![0.0f32; rows * items],
        |scores, block| {
            let scores = &mut scores[..block.len() / dim * items];
            dot_products(block, gallery, dim, scores);
            std::hint::black_box(scores);
        },
    );
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn unit_vectors(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut vectors: Vec<f32> = (0..rows * dim)
        .map(|_| rng.random_range(-1.0f32..1.0))
        .collect();
    normalize_rows(&mut vectors, dim).expect("random vectors are not zero");
    vectors
}
