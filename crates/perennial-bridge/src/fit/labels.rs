//! A fit from labels alone: class means of different items of the same classes.

use std::collections::BTreeMap;

use perennial_core::SpaceRef;

use super::linear_map::Map;
use super::products::Products;
use super::{assemble, check, map};
use crate::bridge::Bridge;
use crate::centring::{CentredRows, mean_of_units};
use crate::error::{BridgeError, Side};
use crate::pairs::Labelled;
use crate::recipe::Recipe;
use crate::record::{FitRecord, Matching};

/// Fits a bridge to the class means of both sides, for when no input is left that both encoders could embed. The items of the two sides may
/// be entirely different ones.
///
/// Only classes with items on both sides count: items of others are left out, also of the means that the rows are centred with. Class means are
/// those of the centred rows and keep their length, so that a class that is hard to tell from the rest weighs less.
///
/// # Errors
/// Those of [`fit`](crate::fit), numbers of labels and rows that differ, rows that are not finite or have length 0, and fewer than 2 classes on both
/// sides.
pub fn fit_from_labels(
    from_items: &Labelled<'_>,
    to_items: &Labelled<'_>,
    recipe: &Recipe,
    from: SpaceRef,
    to: SpaceRef,
) -> Result<Bridge, BridgeError> {
    check(recipe, (&from, from_items.dim), (&to, to_items.dim))?;
    from_items.check(Side::From)?;
    to_items.check(Side::To)?;
    // Positions by class, in the order of the labels on both sides.
    let mut classes: BTreeMap<u32, [Vec<usize>; 2]> = BTreeMap::new();
    for (side, items) in [from_items, to_items].into_iter().enumerate() {
        for (row, label) in items.labels.iter().enumerate() {
            classes.entry(*label).or_default()[side].push(row);
        }
    }
    classes.retain(|_, sides| sides.iter().all(|rows| !rows.is_empty()));
    if classes.len() < 2 {
        return Err(BridgeError::TooFewClasses {
            shared: classes.len(),
        });
    }
    let (from_mean, from_classes) = class_means(Side::From, from_items, &classes, recipe)?;
    let (to_mean, to_classes) = class_means(Side::To, to_items, &classes, recipe)?;
    let fitted = if matches!(recipe, Recipe::Identity | Recipe::Centring) {
        Map::default()
    } else {
        let mut products = Products::new(from_items.dim, to_items.dim, recipe);
        products.add(&from_classes, &to_classes);
        map(recipe, &products)?
    };
    let record = FitRecord {
        pairs: classes.len(),
        matched: Matching::Label,
        ..FitRecord::default()
    };
    let means = from_mean.zip(to_mean);
    Ok(assemble(recipe, from, to, means, fitted, record))
}

/// The mean of one side's unit rows (nothing for the identity), and the class means of its centred rows, `[classes, dim]`.
fn class_means(
    side: Side,
    items: &Labelled<'_>,
    classes: &BTreeMap<u32, [Vec<usize>; 2]>,
    recipe: &Recipe,
) -> Result<(Option<Vec<f64>>, Vec<f64>), BridgeError> {
    let dim = items.dim;
    let at = match side {
        Side::From => 0,
        Side::To => 1,
    };
    let everything =
        classes.values().map(|sides| sides[at].len()).sum::<usize>() == items.labels.len();
    let mean = if *recipe == Recipe::Identity {
        None
    } else if everything {
        Some(mean_of_units(items.rows, dim))
    } else {
        let mut rows: Vec<usize> = classes
            .values()
            .flat_map(|sides| &sides[at])
            .copied()
            .collect();
        rows.sort_unstable();
        let shared: Vec<f32> = rows
            .iter()
            .flat_map(|row| &items.rows[row * dim..][..dim])
            .copied()
            .collect();
        Some(mean_of_units(&shared, dim))
    };
    let centred = CentredRows {
        side,
        rows: items.rows,
        dim,
        mean: mean.as_deref(),
    };
    let mut means = vec![0.0; classes.len() * dim];
    let mut row = Vec::new();
    for (target, sides) in means.chunks_exact_mut(dim).zip(classes.values()) {
        for at in &sides[at] {
            centred.fill(*at, 1, &mut row)?;
            for (target, value) in target.iter_mut().zip(&row) {
                *target += value;
            }
        }
        let count = sides[at].len() as f64;
        target.iter_mut().for_each(|value| *value /= count);
    }
    Ok((mean, means))
}
