//! Bridges: what a fit takes, mapping rows beside the bare matrix product, and a single query.

use perennial_bridge::{Bridge, BridgeError, Pairs, Recipe, fit};
use perennial_core::{SpaceRef, dot_products};
use rayon::prelude::*;

use super::peaks::Peaks;
use super::timing::{Measurement, Ratio, measure, median_ratio, seconds};
use super::vectors::values;

/// A fit of the usual size takes many seconds.
const MOST_FITS: usize = 3;
/// Rows that the bare product takes at once.
const BLOCK: usize = 256;
/// Mapping should take at most this many times the bare product.
const AIM: f64 = 1.3;
/// Pairs for the bridge of the single query.
const QUERY_PAIRS: usize = 2_000;

/// Pairs of vectors, on both sides of this dimension, and the dimension of the single query.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub pairs: usize,
    pub dim: usize,
    pub query_dim: usize,
}

/// Fits, mapping of all rows, and one query; and the mapping's time against the bare product.
pub fn measure_all(
    sizes: Sizes,
    samples: usize,
    peaks: Peaks,
) -> anyhow::Result<(Vec<Measurement>, Ratio)> {
    let Sizes {
        pairs,
        dim,
        query_dim,
    } = sizes;
    let (from, to) = (values(pairs * dim, 1), values(pairs * dim, 2));
    let of = |what: &str| format!("{what}, {pairs} x {dim}");
    let mut found = Vec::new();
    let mut fitted = |recipe: Recipe| -> anyhow::Result<Bridge> {
        let mut times = Vec::new();
        let bridge = loop {
            let mut bridge = None;
            times.push(seconds(|| {
                bridge = Some(fitted_bridge(&from, &to, dim, recipe));
            }));
            let done = times.len() >= samples.min(MOST_FITS);
            if let (true, Some(bridge)) = (done, bridge) {
                break bridge?;
            }
        };
        let title = of(&format!("fit of a bridge, {}", recipe.kind()));
        found.push(Measurement::of(title, times).per_call(pairs, "pairs"));
        Ok(bridge)
    };
    let bridge = fitted(Recipe::Orthogonal)?;
    fitted(Recipe::Ridge { penalty: 1e-3 })?;

    let matrix = values(dim * dim, 3);
    let mut products = vec![0.0; pairs * dim];
    let mut mapped = Vec::new();
    let (mut bare, mut applied) = (Vec::new(), Vec::new());
    for sample in 0..=samples.max(1) {
        let product = seconds(|| {
            products
                .par_chunks_mut(BLOCK * dim)
                .zip(from.par_chunks(BLOCK * dim))
                .for_each(|(products, rows)| dot_products(rows, &matrix, dim, products));
        });
        let mut done = Ok(());
        let apply = seconds(|| done = bridge.apply(&from, &mut mapped));
        done?;
        // The first one is to warm up.
        if sample > 0 {
            bare.push(product);
            applied.push(apply);
        }
    }
    let operations = 2.0 * (pairs * dim * dim) as f64;
    let ratio = Ratio {
        name: of("rows through a bridge"),
        against: of("bare product of a bridge"),
        time_ratio: median_ratio(&applied, &bare),
        aim: AIM,
    };
    for (name, times) in [(&ratio.against, bare), (&ratio.name, applied)] {
        let times = Measurement::of(name.clone(), times).per_call(pairs, "vectors");
        found.push(times.operations(operations, peaks.gemm_per_second));
    }
    found.push(one_query(query_dim, samples)?);
    Ok((found, ratio))
}

/// A single query, another one each time.
fn one_query(dim: usize, samples: usize) -> anyhow::Result<Measurement> {
    let [from, to] = [4, 5].map(|seed| values(QUERY_PAIRS * dim, seed));
    let bridge = fitted_bridge(&from, &to, dim, Recipe::Orthogonal)?;
    let mut queries = from.chunks_exact(dim).cycle();
    let mut mapped = Vec::new();
    let mut failed = None;
    let title = format!("one query through a bridge, {dim} dimensions");
    let found = measure(title, samples, || {
        let query = queries.next().unwrap_or_default();
        if let Err(error) = bridge.apply(query, &mut mapped) {
            failed = Some(error);
        }
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok(found.per_call(1, "queries"))
}

fn fitted_bridge(
    from: &[f32],
    to: &[f32],
    dim: usize,
    recipe: Recipe,
) -> Result<Bridge, BridgeError> {
    let pairs = Pairs::new(from, dim, to, dim)?;
    let space = || SpaceRef::unnamed(dim);
    fit(&pairs, &recipe, space(), space())
}
