//! Fitting bridges: one file per kind that needs one.

mod labels;
mod lambda_orthogonal;
mod least_squares;
mod linear_map;
mod orthogonal;
mod products;
mod whitened;

use perennial_core::SpaceRef;

use crate::bridge::{Bridge, Part, Step};
use crate::bridge_toml::MAX_DIM;
use crate::centring::{CentredRows, mean_of_units};
use crate::error::{BridgeError, Side};
use crate::linear_algebra::to_f32;
use crate::pairs::Pairs;
use crate::product::Matrix;
use crate::recipe::Recipe;
use crate::record::{FitRecord, Matching};
use linear_map::Map;
use products::Products;

pub use labels::fit_from_labels;

/// Fits a bridge to pairs. The result depends on the pairs and the recipe only.
///
/// With fewer pairs than dimensions, or pairs in a subspace, the map is not determined in every direction; the fit record then holds a warning,
/// and for rotations the rank.
///
/// # Errors
/// A recipe with a parameter out of range, spaces of other dimensions than the rows, [`Recipe::Identity`] and [`Recipe::Centring`] between
/// different dimensions, a side whose rows all point in one direction, and pairs that do not determine the map (a penalty of 0 with too few
/// pairs).
pub fn fit(
    pairs: &Pairs<'_>,
    recipe: &Recipe,
    from: SpaceRef,
    to: SpaceRef,
) -> Result<Bridge, BridgeError> {
    fit_pairs(pairs, recipe, from, to, true)
}

/// Fits a bridge that does not centre: rows are scaled to unit length, mapped, and scaled again. The target's rows are raw. It is for
/// [folding](Bridge::fold) into an embedding layer; [`fit`] is better elsewhere.
///
/// # Errors
/// Those of [`fit`].
pub fn fit_uncentred(
    pairs: &Pairs<'_>,
    recipe: &Recipe,
    from: SpaceRef,
    to: SpaceRef,
) -> Result<Bridge, BridgeError> {
    fit_pairs(pairs, recipe, from, to, false)
}

fn fit_pairs(
    pairs: &Pairs<'_>,
    recipe: &Recipe,
    from: SpaceRef,
    to: SpaceRef,
    centred: bool,
) -> Result<Bridge, BridgeError> {
    check(recipe, (&from, pairs.from_dim()), (&to, pairs.to_dim()))?;
    let centred = centred && *recipe != Recipe::Identity;
    let means = centred.then(|| {
        (
            mean_of_units(pairs.from(), pairs.from_dim()),
            mean_of_units(pairs.to(), pairs.to_dim()),
        )
    });
    let map = if matches!(recipe, Recipe::Identity | Recipe::Centring) {
        Map::default()
    } else {
        let from_rows = CentredRows {
            side: Side::From,
            rows: pairs.from(),
            dim: pairs.from_dim(),
            mean: means.as_ref().map(|(mean, _)| mean.as_slice()),
        };
        let to_rows = CentredRows {
            side: Side::To,
            rows: pairs.to(),
            dim: pairs.to_dim(),
            mean: means.as_ref().map(|(_, mean)| mean.as_slice()),
        };
        map(recipe, &Products::of_rows(&from_rows, &to_rows, recipe)?)?
    };
    let record = FitRecord {
        pairs: pairs.count(),
        matched: Matching::Row,
        ..FitRecord::default()
    };
    Ok(assemble(recipe, from, to, means, map, record))
}

/// Checks what costs nothing, before the work.
fn check(
    recipe: &Recipe,
    from: (&SpaceRef, usize),
    to: (&SpaceRef, usize),
) -> Result<(), BridgeError> {
    recipe.check()?;
    for (side, dim) in [(Side::From, from.1), (Side::To, to.1)] {
        if dim > MAX_DIM {
            return Err(BridgeError::TooManyDimensions {
                side,
                dim,
                most: MAX_DIM,
            });
        }
    }
    if *recipe == Recipe::Head {
        return Err(BridgeError::Recipe {
            recipe: recipe.to_string(),
            problem: "is trained on labels, by `perennial fit-head`; use another kind".to_owned(),
        });
    }
    for (side, (space, dim)) in [(Side::From, from), (Side::To, to)] {
        space
            .accept(&SpaceRef {
                dim,
                ..space.clone()
            })
            .map_err(|source| BridgeError::Space { side, source })?;
    }
    if matches!(recipe, Recipe::Identity | Recipe::Centring) && from.1 != to.1 {
        return Err(BridgeError::Recipe {
            recipe: recipe.to_string(),
            problem: format!(
                "needs equal dimensions, but there are {} and {}; use orthogonal or ridge",
                from.1, to.1
            ),
        });
    }
    check_memory(recipe, from.1, to.1)
}

/// Asks for the memory of a fit's matrices at once, and gives it back: where there is not enough, linear algebra can only end the process.
fn check_memory(recipe: &Recipe, from: usize, to: usize) -> Result<(), BridgeError> {
    let (from_side, to_side, between) = match recipe {
        Recipe::Identity | Recipe::Centring | Recipe::Head => return Ok(()),
        Recipe::Orthogonal => (0, 0, 4),
        Recipe::Ridge { .. } => (2, 0, 3),
        Recipe::LowRank { .. } => (2, 3, 3),
        Recipe::Whitened { .. } => (2, 2, 5),
        Recipe::LambdaOrthogonal { .. } => (2, 3, 8),
    };
    // Sides of at most 2^16: no overflow.
    let values = from_side * from * from + to_side * to * to + between * from * to;
    let mut matrices: Vec<f64> = Vec::new();
    matrices
        .try_reserve_exact(values)
        .map_err(|_| BridgeError::Memory {
            recipe: recipe.to_string(),
            from,
            to,
            megabytes: values as u64 * 8 / 1_000_000,
        })
}

fn assemble(
    recipe: &Recipe,
    from: SpaceRef,
    to: SpaceRef,
    means: Option<(Vec<f64>, Vec<f64>)>,
    map: Map,
    mut record: FitRecord,
) -> Bridge {
    let narrow = |mean: Vec<f64>| mean.iter().map(|value| *value as f32).collect::<Vec<f32>>();
    let (from_mean, to_mean) = means.unzip();
    let mut steps: Vec<Step> = from_mean
        .map(|mean| Step::Centre(narrow(mean)))
        .into_iter()
        .collect();
    let linear = !map.factors.is_empty();
    steps.extend(map.factors.iter().map(|factor| {
        Step::Linear(Matrix::new(
            factor.nrows(),
            factor.ncols(),
            &to_f32(factor.as_ref()),
        ))
    }));
    let dims = from.dim.max(to.dim);
    // As many directions as a rotation has to place.
    let placed = from.dim.min(to.dim);
    let pairs = record.pairs;
    let what = match record.matched {
        Matching::Label => "classes",
        _ => "pairs",
    };
    record.rank = map.rank;
    match map.rank {
        Some(rank) if rank < placed => record.warnings.push(format!(
            "fitted on {pairs} {what}, which determine the rotation in {rank} of {placed} dimensions (the rank of their product): in the others the map is arbitrary; fit on more {what} of more different inputs, or with ridge, which leaves such directions out"
        )),
        _ if linear && pairs < dims => record.warnings.push(format!(
            "fitted on {pairs} {what}, fewer than the {dims} dimensions: directions that they do not show are mapped arbitrarily"
        )),
        _ => {}
    }
    record.warnings.extend(map.warning);
    Bridge {
        from,
        to,
        parts: vec![Part {
            recipe: *recipe,
            inverted: false,
        }],
        steps,
        to_mean: to_mean.map(narrow),
        record,
        inputs: None,
    }
}

const PENALTY: &str = "the pairs do not determine the map; give more of them, or a larger penalty";
const SHRINKAGE: &str =
    "the pairs do not determine the map; give more of them, or a larger shrinkage";
const NOT_CONVERGED: &str =
    "the singular value decomposition did not converge; check the embeddings";

fn map(recipe: &Recipe, products: &Products) -> Result<Map, BridgeError> {
    let (map, problem) = match *recipe {
        Recipe::Identity | Recipe::Centring => (Some(Map::default()), ""),
        Recipe::Orthogonal => (
            orthogonal::fit(products).map(|(map, values)| Map::from(map).with_rank(&values)),
            NOT_CONVERGED,
        ),
        Recipe::Ridge { penalty } => (
            least_squares::ridge(products, penalty).map(Map::from),
            PENALTY,
        ),
        Recipe::LowRank { rank, penalty } => {
            (least_squares::low_rank(products, rank, penalty), PENALTY)
        }
        Recipe::Whitened { shrinkage, power } => (
            whitened::fit(products, shrinkage, power).map(Map::from),
            SHRINKAGE,
        ),
        Recipe::LambdaOrthogonal { lambda } => {
            (lambda_orthogonal::fit(products, lambda), NOT_CONVERGED)
        }
        // Refused before the work.
        Recipe::Head => (None, NOT_CONVERGED),
    };
    map.ok_or_else(|| BridgeError::Undetermined {
        recipe: recipe.to_string(),
        problem: problem.to_owned(),
    })
}

#[cfg(test)]
mod tests;
