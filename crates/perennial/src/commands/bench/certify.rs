//! A whole retrieval test with its intervals beside the bare matrix product of the same vectors.

use perennial_core::{dot_products, normalize_rows};
use perennial_eval::{
    Bootstrap, Measure, Outcomes, OutcomesError, Relevance, ScoresError, Test, compare_scores,
    outcomes,
};
use rayon::prelude::*;

use super::peaks::Peaks;
use super::timing::{Measurement, Ratio, median_ratio, seconds};
use super::vectors::values;

/// More samples would take minutes.
const MOST_SAMPLES: usize = 5;
/// Queries that the bare product takes at once; the fastest is what everything is compared with.
const BLOCKS: [usize; 4] = [128, 256, 512, 1250];
/// Whole tests should take at most this many times the bare product.
const AIM: f64 = 1.3;
/// Class-like retrieval is measured with so many classes.
const CLASSES: [u32; 2] = [10, 100];

/// Queries, gallery items and dimensions of the test.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub queries: usize,
    pub items: usize,
    pub dim: usize,
}

/// Every measure with 2,000 resamples, for classes and for one right item each; and each test's time against the bare product.
pub fn measure_all(
    sizes: Sizes,
    samples: usize,
    peaks: Peaks,
) -> anyhow::Result<(Vec<Measurement>, Vec<Ratio>)> {
    let Sizes {
        queries,
        items,
        dim,
    } = sizes;
    let mut vectors = [values(queries * dim, 1), values(items * dim, 2)];
    for vectors in &mut vectors {
        normalize_rows(vectors, dim)?;
    }
    let [query_vectors, gallery_vectors] = &vectors;
    let classes = CLASSES.map(|count| {
        [queries, items].map(|rows| {
            (0..rows as u32)
                .map(|row| row % count)
                .collect::<Vec<u32>>()
        })
    });
    let one_each: Vec<Vec<u32>> = (0..queries as u32)
        .map(|query| vec![query % items as u32])
        .collect();
    let mut cases: Vec<Case> = CLASSES
        .iter()
        .zip(&classes)
        .map(|(count, [queries, gallery])| {
            let relevance = Relevance::Classes { queries, gallery };
            Case::new(format!("{count} classes"), relevance)
        })
        .collect();
    cases.push(Case::new(
        "one right item each".to_owned(),
        Relevance::Items(&one_each),
    ));

    let bare = |block: usize| product(query_vectors, gallery_vectors, dim, block);
    bare(BLOCKS[0]);
    let tried = BLOCKS.map(|block| (seconds(|| bare(block)), block));
    let (_, block) = tried
        .into_iter()
        .min_by(|(one, _), (other, _)| one.total_cmp(other))
        .expect("there are sizes of blocks");
    let mut products = Vec::new();
    for _ in 0..samples.clamp(1, MOST_SAMPLES) {
        products.push(seconds(|| bare(block)));
        for case in &mut cases {
            case.sample(query_vectors, gallery_vectors, dim)?;
        }
    }

    let of = |what: &str| format!("{what}, {queries} queries x {items} items x {dim}");
    let operations = 2.0 * (queries * items * dim) as f64;
    let bare = Measurement::of(of("bare product"), products.clone())
        .operations(operations, peaks.gemm_per_second);
    let mut ratios = Vec::new();
    let mut found = vec![bare];
    for case in cases {
        let name = of(&format!("certify, {}", case.name));
        ratios.push(Ratio {
            name: name.clone(),
            against: found[0].name.clone(),
            time_ratio: median_ratio(&case.total, &products),
            aim: AIM,
        });
        let total = Measurement::of(name, case.total).per_call(queries, "queries");
        found.push(total.operations(operations, peaks.gemm_per_second));
        let intervals = of(&format!("its intervals, {}", case.name));
        found.push(Measurement::of(intervals, case.intervals));
    }
    Ok((found, ratios))
}

struct Case<'a> {
    name: String,
    relevance: Relevance<'a>,
    /// Samples in seconds, and how much of each was drawing resamples.
    total: Vec<f64>,
    intervals: Vec<f64>,
}

impl<'a> Case<'a> {
    fn new(name: String, relevance: Relevance<'a>) -> Self {
        Self {
            name,
            relevance,
            total: Vec::new(),
            intervals: Vec::new(),
        }
    }

    fn sample(&mut self, queries: &[f32], gallery: &[f32], dim: usize) -> anyhow::Result<()> {
        let test = Test {
            queries,
            gallery,
            dim,
            relevance: &self.relevance,
            own: None,
        };
        let mut found: Result<Outcomes, OutcomesError> = Ok(Outcomes::default());
        let scored = seconds(|| found = outcomes(&test));
        let found = found?;
        // Against the same outcomes of the queries in another order: most scores differ, so that there is something to resample.
        let order: Vec<usize> = (0..found.len())
            .map(|query| (query + 37) % found.len())
            .collect();
        let old = found.select(&order);
        let mut compared = Ok(());
        let intervals = seconds(|| compared = compare(&found, &old));
        compared?;
        self.total.push(scored + intervals);
        self.intervals.push(intervals);
        Ok(())
    }
}

/// Nearest class mean where there is one, recall@1, recall@10, mean reciprocal rank and mAP.
fn compare(new: &Outcomes, old: &Outcomes) -> Result<(), ScoresError> {
    let measures = [
        Measure::NearestClassMean,
        Measure::RecallAt(1),
        Measure::RecallAt(10),
        Measure::MeanReciprocalRank(Some(10)),
        Measure::MeanAveragePrecision,
    ];
    for (stream, measure) in (0..).zip(measures) {
        if let (Some(new), Some(old)) = (measure.scores(new), measure.scores(old)) {
            let found = compare_scores(measure, &new, &old, &Bootstrap::new(7), stream)?;
            std::hint::black_box(found);
        }
    }
    Ok(())
}

/// The similarities alone, a block of queries per thread at a time, thrown away.
fn product(queries: &[f32], gallery: &[f32], dim: usize, block: usize) {
    let items = gallery.len() / dim;
    queries.par_chunks(block * dim).for_each_init(
        || vec![0.0f32; block * items],
        |scores, block| {
            let scores = &mut scores[..block.len() / dim * items];
            dot_products(block, gallery, dim, scores);
            std::hint::black_box(scores);
        },
    );
}
