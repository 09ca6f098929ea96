//! Times of fitting and applying: `speed [ROWS] [DIM]`. Prints one JSON object.
//!
//! `apply` is given as a ratio to the bare matrix product of the same rows on all threads, both in this run. The hash is that of the orthogonal bridge: it must be
//! the same with any number of threads (`RAYON_NUM_THREADS`).

use std::time::Instant;

use perennial_bridge::{Pairs, Recipe, fit};
use perennial_core::{SpaceRef, dot_products};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

const TRIES: usize = 5;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|text| text.parse().expect("a number"));
    let rows: usize = arguments.next().unwrap_or(20_000);
    let dim: usize = arguments.next().unwrap_or(1536);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut values =
        |count: usize| -> Vec<f32> { (0..count).map(|_| random.random_range(-1.0..1.0)).collect() };
    let (from, to) = (values(rows * dim), values(rows * dim));
    let pairs = Pairs::new(&from, dim, &to, dim).expect("finite rows");
    let fitted = |recipe: &str| {
        let recipe: Recipe = recipe.parse().expect("a recipe");
        let begun = Instant::now();
        let bridge = fit(
            &pairs,
            &recipe,
            SpaceRef::unnamed(dim),
            SpaceRef::unnamed(dim),
        )
        .expect("a fit");
        (bridge, begun.elapsed().as_secs_f64())
    };
    let (bridge, orthogonal) = fitted("orthogonal");
    let (_, ridge) = fitted("ridge");

    let matrix = values(dim * dim);
    let mut products = vec![0.0; rows * dim];
    let (mut bare, mut applied) = (f64::INFINITY, f64::INFINITY);
    let mut out = Vec::new();
    for _ in 0..TRIES {
        let begun = Instant::now();
        products
            .par_chunks_mut(256 * dim)
            .zip(from.par_chunks(256 * dim))
            .for_each(|(products, rows)| dot_products(rows, &matrix, dim, products));
        bare = bare.min(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        bridge.apply(&from, &mut out).expect("finite rows");
        applied = applied.min(begun.elapsed().as_secs_f64());
    }

    let small = Pairs::new(&from[..2000 * 768], 768, &to[..2000 * 768], 768).expect("finite rows");
    let space = || SpaceRef::unnamed(768);
    let small = fit(&small, &Recipe::Orthogonal, space(), space()).expect("a fit");
    let mut times: Vec<f64> = (0..2000)
        .map(|at| {
            let begun = Instant::now();
            small
                .apply(&from[at * 768..][..768], &mut out)
                .expect("a finite row");
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "{{\"rows\": {rows}, \"dim\": {dim}, \"sha256\": \"{}\", \"fit_orthogonal_seconds\": {orthogonal:.3}, \"fit_ridge_seconds\": {ridge:.3}, \
         \"product_seconds\": {bare:.3}, \"apply_seconds\": {applied:.3}, \"apply_ratio\": {:.2}, \"one_query_768_microseconds\": {:.1}}}",
        bridge.sha256(),
        applied / bare,
        times[times.len() / 2],
    );
}
