//! Golden values, and what distinguishes the kinds.

use faer::{Mat, MatRef};
use serde_json::Value;

use super::*;
use crate::linear_algebra::product;
use crate::pairs::Labelled;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../testdata/maps.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn vectors(golden: &Value, key: &str) -> (Vec<f32>, usize) {
    let dim = golden[key][0].as_array().unwrap().len();
    let values = numbers(&golden[key]);
    (values.iter().map(|value| *value as f32).collect(), dim)
}

fn assert_close(found: &[f64], expected: &Value, tolerance: f64) {
    let expected = numbers(expected);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= tolerance,
            "{found} instead of {expected}"
        );
    }
}

fn row_major(matrix: MatRef<'_, f64>) -> Vec<f64> {
    let rows = 0..matrix.nrows();
    rows.flat_map(|i| (0..matrix.ncols()).map(move |j| matrix[(i, j)]))
        .collect()
}

/// The products of the golden rows, for recipes that need all of them.
fn golden_products(golden: &Value) -> Products {
    let (from, from_dim) = vectors(golden, "from_vectors");
    let (to, to_dim) = vectors(golden, "to_vectors");
    let (from_mean, to_mean) = (mean_of_units(&from, from_dim), mean_of_units(&to, to_dim));
    assert_close(&from_mean, &golden["from_mean"], 1e-7);
    assert_close(&to_mean, &golden["to_mean"], 1e-7);
    let recipe = Recipe::Whitened {
        shrinkage: 0.0,
        power: 0.0,
    };
    let from_rows = CentredRows {
        side: Side::From,
        rows: &from,
        dim: from_dim,
        mean: Some(&from_mean),
    };
    let to_rows = CentredRows {
        side: Side::To,
        rows: &to,
        dim: to_dim,
        mean: Some(&to_mean),
    };
    Products::of_rows(&from_rows, &to_rows, &recipe).unwrap()
}

fn multiplied(map: &Map) -> Mat<f64> {
    let mut factors = map.factors.iter().cloned();
    let first = factors.next().unwrap();
    factors.fold(first, |left, right| product(left.as_ref(), right.as_ref()))
}

// The golden vectors are f64 and the rows are f32, so the last digits of a map differ.
#[test]
fn maps_are_the_golden_ones() {
    let golden = golden();
    let products = golden_products(&golden);
    let (orthogonal, values) = orthogonal::fit(&products).unwrap();
    assert_close(
        &row_major(orthogonal.as_ref()),
        &golden["orthogonal"]["matrix"],
        1e-6,
    );
    assert_close(&values, &golden["orthogonal"]["singular_values"], 2e-6);
    let ridge = least_squares::ridge(&products, 1e-3).unwrap();
    assert_close(&row_major(ridge.as_ref()), &golden["ridge"]["matrix"], 1e-6);
    let low_rank = multiplied(&least_squares::low_rank(&products, 3, 1e-3).unwrap());
    assert_close(
        &row_major(low_rank.as_ref()),
        &golden["low_rank"]["matrix"],
        1e-6,
    );
}

#[test]
fn the_map_of_class_means_is_the_golden_one() {
    let golden = golden();
    let (from, from_dim) = vectors(&golden, "from_vectors");
    let (to, to_dim) = vectors(&golden, "to_vectors");
    let labels: Vec<u32> = numbers(&golden["labels_only"]["labels"])
        .iter()
        .map(|label| *label as u32)
        .collect();
    let labelled = |rows, dim| Labelled {
        rows,
        dim,
        labels: &labels,
    };
    let bridge = fit_from_labels(
        &labelled(&from, from_dim),
        &labelled(&to, to_dim),
        &Recipe::Orthogonal,
        SpaceRef::unnamed(from_dim),
        SpaceRef::unnamed(to_dim),
    )
    .unwrap();
    let Some(Step::Linear(matrix)) = bridge.steps.last() else {
        panic!("no matrix")
    };
    let values: Vec<f64> = matrix
        .values()
        .iter()
        .map(|value| f64::from(*value))
        .collect();
    assert_close(&values, &golden["labels_only"]["matrix"], 1e-6);
    assert_eq!(bridge.fit_record().pairs, 10);
    assert_eq!(bridge.fit_record().matched, Matching::Label);
}

#[test]
fn a_stored_bridge_maps_the_golden_rows_as_well_as_the_golden_map() {
    let golden = golden();
    let (from, from_dim) = vectors(&golden, "from_vectors");
    let (to, to_dim) = vectors(&golden, "to_vectors");
    let pairs = Pairs::new(&from, from_dim, &to, to_dim).unwrap();
    for (recipe, key) in [
        (Recipe::Orthogonal, "orthogonal"),
        (Recipe::Ridge { penalty: 1e-3 }, "ridge"),
    ] {
        let bridge = fit(
            &pairs,
            &recipe,
            SpaceRef::unnamed(from_dim),
            SpaceRef::unnamed(to_dim),
        )
        .unwrap();
        let mut mapped = Vec::new();
        bridge.apply(&from, &mut mapped).unwrap();
        let mut target = to.clone();
        bridge.centre_to(&mut target).unwrap();
        let cosines = mapped.chunks(to_dim).zip(target.chunks(to_dim));
        let mean = cosines
            .map(|(a, b)| f64::from(perennial_core::dot(a, b)))
            .sum::<f64>()
            / pairs.count() as f64;
        assert_close(&[mean], &golden[key]["mean_cosine"], 1e-6);
    }
}

#[test]
fn whitening_at_power_1_without_shrinkage_is_least_squares() {
    let products = golden_products(&golden());
    let whitened = whitened::fit(&products, 0.0, 1.0).unwrap();
    let least_squares = least_squares::ridge(&products, 0.0).unwrap();
    for (a, b) in row_major(whitened.as_ref())
        .iter()
        .zip(row_major(least_squares.as_ref()))
    {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }
}

#[test]
fn fully_shrunk_whitening_at_power_0_is_the_orthogonal_map_up_to_its_length() {
    let products = golden_products(&golden());
    let whitened = row_major(whitened::fit(&products, 1.0, 0.0).unwrap().as_ref());
    let orthogonal = row_major(orthogonal::fit(&products).unwrap().0.as_ref());
    let factor = whitened[0] / orthogonal[0];
    for (a, b) in whitened.iter().zip(orthogonal) {
        assert!((a - factor * b).abs() < 1e-9, "{a} {b}");
    }
}

#[test]
fn lambda_leads_from_least_squares_to_orthonormal_columns() {
    let products = golden_products(&golden());
    let least_squares = least_squares::ridge(&products, 0.0).unwrap();
    let distance = |a: &Mat<f64>, b: &Mat<f64>| {
        let pairs = row_major(a.as_ref()).into_iter().zip(row_major(b.as_ref()));
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    let fitted = |lambda| multiplied(&lambda_orthogonal::fit(&products, lambda).unwrap());
    let excess = |map: &Mat<f64>| {
        distance(
            &product(map.transpose(), map.as_ref()),
            &Mat::identity(6, 6),
        )
    };
    assert!(distance(&fitted(0.0), &least_squares) < 1e-3);
    let excesses = [0.0, 0.01, 0.1, 1.0, 1e3].map(|lambda| excess(&fitted(lambda)));
    assert!(excesses.is_sorted_by(|a, b| a > b), "{excesses:?}");
    assert!(excesses[4] < 1e-3, "{excesses:?}");
}

#[test]
fn dimensions_of_no_bridge_are_refused_before_matrices_are_made() {
    let wide = 70_000;
    let (from, to) = (vec![1.0; 2 * wide], [1.0, 0.0, 0.0, 1.0]);
    let space = SpaceRef::unnamed;
    for (pairs, ends) in [
        (Pairs::new(&from, wide, &to, 2), (space(wide), space(2))),
        (Pairs::new(&to, 2, &from, wide), (space(2), space(wide))),
    ] {
        let error = fit(&pairs.unwrap(), &Recipe::Orthogonal, ends.0, ends.1).unwrap_err();
        assert!(error.to_string().contains("70000 dimensions"), "{error}");
    }
    assert!(check_memory(&Recipe::Orthogonal, 384, 768).is_ok());
}
