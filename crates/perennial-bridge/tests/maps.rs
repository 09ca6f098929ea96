//! What holds for maps whatever the embeddings are.

#![allow(clippy::unwrap_used)]

use perennial_bridge::{
    Bridge, BridgeError, Index, Kind, Labelled, Pairs, Recipe, fit, fit_from_labels, fit_uncentred,
};
use perennial_core::{SpaceId, SpaceRef, dot, normalize_rows};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const RECIPES: [&str; 7] = [
    "centring",
    "orthogonal",
    "ridge:0.001",
    "whitened:0.1,0.5",
    "low_rank:2,0.001",
    "low_rank:5,0.001",
    "lambda_orthogonal:0.01",
];

fn rows(count: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count * dim)
        .map(|at| random.random_range(-1.0..1.0f32) + if at % dim == 0 { 0.7 } else { 0.0 })
        .collect()
}

/// A rotated and disturbed copy, of another dimension if that is asked for.
fn partner(from: &[f32], from_dim: usize, to_dim: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let map: Vec<f32> = (0..from_dim * to_dim)
        .map(|_| random.random_range(-1.0..1.0))
        .collect();
    from.chunks(from_dim)
        .flat_map(|row| {
            (0..to_dim)
                .map(|j| {
                    (0..from_dim)
                        .map(|i| row[i] * map[i * to_dim + j])
                        .sum::<f32>()
                })
                .collect::<Vec<_>>()
        })
        .map(|value| value + 0.05 * random.random_range(-1.0..1.0f32))
        .collect()
}

fn named(name: &str, dim: usize) -> SpaceRef {
    SpaceRef::named(SpaceId::new(name).unwrap(), dim)
}

fn fitted(recipe: &str, from: &[f32], from_dim: usize, to: &[f32], to_dim: usize) -> Bridge {
    let pairs = Pairs::new(from, from_dim, to, to_dim).unwrap();
    let recipe = recipe.parse().unwrap();
    fit(
        &pairs,
        &recipe,
        named("new", from_dim),
        named("old", to_dim),
    )
    .unwrap()
}

fn applied(bridge: &Bridge, rows: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; 3];
    bridge.apply(rows, &mut out).unwrap();
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_orthogonal_map_keeps_inner_products_and_its_inverse_undoes_it(dim in 2usize..40, count in 3usize..60, seed: u64) {
        let from = rows(count, dim, seed);
        let bridge = fitted("orthogonal", &from, dim, &partner(&from, dim, dim, seed ^ 1), dim);
        let mapped = applied(&bridge, &from);
        let mut centred = from.clone();
        bridge.centre_from(&mut centred).unwrap();
        for (a, x) in mapped.chunks(dim).zip(centred.chunks(dim)) {
            for (b, y) in mapped.chunks(dim).zip(centred.chunks(dim)) {
                prop_assert!((dot(a, b) - dot(x, y)).abs() < 1e-5);
            }
        }
        // Without centring, the inverse takes exactly what the bridge gives.
        let pairs_to = partner(&from, dim, dim, seed ^ 1);
        let pairs = Pairs::new(&from, dim, &pairs_to, dim).unwrap();
        let bridge = fit_uncentred(&pairs, &Recipe::Orthogonal, SpaceRef::unnamed(dim), SpaceRef::unnamed(dim)).unwrap();
        let back = applied(&bridge.inverse().unwrap(), &applied(&bridge, &from));
        let mut units = from.clone();
        normalize_rows(&mut units, dim).unwrap();
        prop_assert!(largest_difference(&back, &units) < 1e-5);
    }

    #[test]
    fn a_row_is_mapped_alike_alone_and_in_any_batch(
        from_dim in 2usize..70, to_dim in 2usize..70, batch in 1usize..250, recipe in 1usize..7, seed: u64,
    ) {
        let from = rows(250, from_dim, seed);
        let to = partner(&from, from_dim, to_dim, seed ^ 1);
        let bridge = fitted(RECIPES[recipe], &from, from_dim, &to, to_dim);
        let whole = applied(&bridge, &from);
        let parts: Vec<f32> = from.chunks(batch * from_dim).flat_map(|rows| applied(&bridge, rows)).collect();
        prop_assert_eq!(bits(&parts), bits(&whole));
        for row in whole.chunks(to_dim) {
            prop_assert!((dot(row, row) - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn a_chain_is_its_parts_in_turn(dims in [2usize..20, 2usize..20, 2usize..20], seed: u64) {
        let [a, b, c] = dims;
        let first = rows(80, a, seed);
        let second = partner(&first, a, b, seed ^ 1);
        let third = partner(&second, b, c, seed ^ 2);
        let pairs = |from, from_dim, to, to_dim| Pairs::new(from, from_dim, to, to_dim).unwrap();
        let recipe = Recipe::Ridge { penalty: 1e-3 };
        let up = |pairs, from, to| fit_uncentred(&pairs, &recipe, from, to).unwrap();
        let one = up(pairs(&first, a, &second, b), named("a", a), named("b", b));
        let two = up(pairs(&second, b, &third, c), named("b", b), named("c", c));
        let chain = one.then(&two).unwrap();
        prop_assert_eq!(chain.kind(), Kind::Chain);
        prop_assert_eq!(chain.to(), &named("c", c));
        let in_turn = applied(&two, &applied(&one, &first));
        prop_assert!(largest_difference(&applied(&chain, &first), &in_turn) < 1e-5);
        prop_assert!(two.then(&one).is_err() || a == c);
    }
}

#[test]
fn a_centred_chain_does_not_centre_twice() {
    let first = rows(300, 12, 1);
    let second = partner(&first, 12, 10, 2);
    let third = partner(&second, 10, 14, 3);
    let one = fitted("orthogonal", &first, 12, &second, 10);
    let pairs = Pairs::new(&second, 10, &third, 14).unwrap();
    let two = fit(
        &pairs,
        &Recipe::Orthogonal,
        named("old", 10),
        named("oldest", 14),
    )
    .unwrap();
    let chain = one.then(&two).unwrap();
    // A chain of orthogonal maps through enough dimensions keeps what centring left of the second space.
    let mut centred = third.clone();
    chain.centre_to(&mut centred).unwrap();
    let mapped = applied(&chain, &first);
    let cosines = mapped
        .chunks(14)
        .zip(centred.chunks(14))
        .map(|(a, b)| dot(a, b));
    assert!(cosines.sum::<f32>() / 300.0 > 0.5);
    let mixed = fit_uncentred(
        &pairs,
        &Recipe::Orthogonal,
        named("old", 10),
        named("oldest", 14),
    )
    .unwrap();
    assert!(matches!(one.then(&mixed), Err(BridgeError::Chain { .. })));
    assert!(matches!(two.then(&one), Err(BridgeError::Space { .. })));
    // A centring step between two parts cannot be undone.
    assert!(mixed.then(&one).is_err());
    let identity = fit(
        &Pairs::new(&second, 10, &second, 10).unwrap(),
        &Recipe::Identity,
        named("old", 10),
        named("old", 10),
    )
    .unwrap();
    let unchanged = one.then(&identity).unwrap();
    assert_eq!(
        bits(&applied(&unchanged, &first)),
        bits(&applied(&one, &first))
    );
    assert_eq!(unchanged.to_mean(), one.to_mean());
    assert!(identity.then(&two).unwrap().inverse().is_ok());
}

#[test]
fn every_kind_brings_pairs_together_and_its_inverse_leads_back() {
    let from = rows(400, 8, 5);
    for to_dim in [8, 5, 11] {
        let to = partner(&from, 8, to_dim, 6);
        for recipe in RECIPES.into_iter().filter(|name| *name != "centring") {
            let bridge = fitted(recipe, &from, 8, &to, to_dim);
            let cosine = |bridge: &Bridge, from: &[f32], to: &[f32]| {
                let mut target = to.to_vec();
                bridge.centre_to(&mut target).unwrap();
                let dim = bridge.to().dim;
                let mapped = applied(bridge, from);
                let cosines = mapped
                    .chunks(dim)
                    .zip(target.chunks(dim))
                    .map(|(a, b)| dot(a, b));
                cosines.sum::<f32>() / 400.0
            };
            let forth = cosine(&bridge, &from, &to);
            assert!(forth > 0.4, "{recipe} to {to_dim}: {forth}");
            let inverse = bridge.inverse().unwrap();
            assert_eq!((inverse.from(), inverse.to()), (bridge.to(), bridge.from()));
            let back = cosine(&inverse, &to, &from);
            assert!(back > 0.2, "{recipe} back from {to_dim}: {back}");
            assert!(inverse.parts()[0].inverted && !inverse.inverse().unwrap().parts()[0].inverted);
        }
    }
}

#[test]
fn a_fit_is_deterministic_whatever_the_number_of_threads() {
    // Small matrices are decomposed on one thread; these are not.
    let from = rows(1000, 320, 7);
    let to = partner(&from, 320, 300, 8);
    let on = |threads: usize, recipe: &str| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| fitted(recipe, &from, 320, &to, 300).sha256())
    };
    for recipe in RECIPES
        .into_iter()
        .filter(|name| *name != "centring" && *name != "low_rank:2,0.001")
    {
        assert_eq!(on(1, recipe), on(3, recipe), "{recipe}");
    }
}

#[test]
fn rotations_say_in_how_many_dimensions_they_are_determined() {
    let spread = rows(200, 12, 3);
    // All in the first 7 of 12 dimensions.
    let mut flat = spread.clone();
    for row in flat.chunks_exact_mut(12) {
        row[7..].fill(0.0);
    }
    for recipe in ["orthogonal", "lambda_orthogonal:0.5"] {
        for (from, rank) in [(&spread, 9), (&flat, 7)] {
            let bridge = fitted(recipe, from, 12, &partner(from, 12, 9, 4), 9);
            let record = bridge.fit_record();
            assert_eq!(record.rank, Some(rank), "{recipe}");
            let says = "200 pairs, which determine the rotation in 7 of 9 dimensions";
            let warned = record.warnings.iter().any(|warning| warning.contains(says));
            assert_eq!(warned, rank < 9, "{recipe}: {:?}", record.warnings);
        }
    }
    let ridge = fitted("ridge:0.001", &flat, 12, &partner(&flat, 12, 9, 4), 9);
    assert_eq!(ridge.fit_record().rank, None);
}

#[test]
fn few_pairs_work_and_say_so() {
    let from = rows(5, 20, 9);
    let to = partner(&from, 20, 30, 10);
    for recipe in &RECIPES[1..] {
        let bridge = fitted(recipe, &from, 20, &to, 30);
        assert!(
            bridge.fit_record().warnings[0].contains("5 pairs"),
            "{recipe}"
        );
        assert_eq!(applied(&bridge, &from).len(), 5 * 30);
    }
    let pairs = Pairs::new(&from, 20, &to, 30).unwrap();
    let error = fit(
        &pairs,
        &Recipe::Ridge { penalty: 0.0 },
        SpaceRef::unnamed(20),
        SpaceRef::unnamed(30),
    );
    assert!(matches!(error, Err(BridgeError::Undetermined { .. })));
}

#[test]
fn impossible_fits_are_refused() {
    let (from, to) = (rows(10, 4, 1), rows(10, 6, 2));
    let pairs = Pairs::new(&from, 4, &to, 6).unwrap();
    let refused = |recipe: Recipe, from_dim: usize, to_dim: usize| {
        fit(
            &pairs,
            &recipe,
            SpaceRef::unnamed(from_dim),
            SpaceRef::unnamed(to_dim),
        )
        .unwrap_err()
    };
    assert!(
        refused(Recipe::Identity, 4, 6)
            .to_string()
            .contains("equal dimensions")
    );
    assert!(
        refused(Recipe::Centring, 4, 6)
            .to_string()
            .contains("equal dimensions")
    );
    assert!(matches!(
        refused(Recipe::Orthogonal, 5, 6),
        BridgeError::Space { .. }
    ));
    assert!(matches!(
        refused(Recipe::Orthogonal, 4, 5),
        BridgeError::Space { .. }
    ));
    assert!(
        refused(Recipe::Ridge { penalty: f64::NAN }, 4, 6)
            .to_string()
            .contains("penalty")
    );
    // All rows of one side point in one direction: nothing is left after centring.
    let same = from[..4].repeat(10);
    let pairs = Pairs::new(&same, 4, &to, 6).unwrap();
    let error = fit(
        &pairs,
        &Recipe::Orthogonal,
        SpaceRef::unnamed(4),
        SpaceRef::unnamed(6),
    )
    .unwrap_err();
    assert!(
        matches!(error, BridgeError::NoDirection { row: 0, .. }),
        "{error}"
    );
}

#[test]
fn labels_of_disjoint_items_suffice() {
    let centres = rows(12, 6, 3);
    let items = |seed| -> Vec<f32> {
        let noise = rows(60, 6, seed);
        let of_class = |row: usize| &centres[row % 12 * 6..][..6];
        (0..60)
            .flat_map(|row| {
                of_class(row)
                    .iter()
                    .zip(&noise[row * 6..])
                    .map(|(a, b)| a + 0.2 * b)
            })
            .collect()
    };
    let labels: Vec<u32> = (0..60).map(|row| row % 12).collect();
    let (from, to) = (items(4), partner(&items(5), 6, 7, 6));
    let labelled = |rows, dim| Labelled {
        rows,
        dim,
        labels: &labels,
    };
    let recipe = Recipe::Orthogonal;
    let (a, b) = (SpaceRef::unnamed(6), SpaceRef::unnamed(7));
    let whole = fit_from_labels(
        &labelled(&from, 6),
        &labelled(&to, 7),
        &recipe,
        a.clone(),
        b.clone(),
    )
    .unwrap();
    // Items of a class that the other side lacks change nothing.
    let (mut more, mut more_labels) = (from.clone(), labels.clone());
    more.extend(rows(3, 6, 7));
    more_labels.extend([99; 3]);
    let more = Labelled {
        rows: &more,
        dim: 6,
        labels: &more_labels,
    };
    let same = fit_from_labels(&more, &labelled(&to, 7), &recipe, a.clone(), b.clone()).unwrap();
    assert_eq!(whole.sha256(), same.sha256());
    let few = Labelled {
        rows: &from[..12],
        dim: 6,
        labels: &labels[..2],
    };
    let other = Labelled {
        rows: &to[..7],
        dim: 7,
        labels: &labels[..1],
    };
    let error = fit_from_labels(&few, &other, &recipe, a.clone(), b.clone()).unwrap_err();
    assert!(error.to_string().contains("only 1 classes"), "{error}");
    let short = Labelled {
        rows: &from,
        dim: 6,
        labels: &labels[1..],
    };
    assert!(fit_from_labels(&short, &labelled(&to, 7), &recipe, a, b).is_err());
}

#[test]
fn dual_queries_lie_between_the_old_and_the_bridged_query() {
    let from = rows(50, 9, 11);
    let to = partner(&from, 9, 6, 12);
    let bridge = fitted("orthogonal", &from, 9, &to, 6);
    let dual = |weight, index| {
        let mut out = Vec::new();
        bridge.dual(&to, &from, weight, index, &mut out).unwrap();
        out
    };
    let (mut centred, mut raw) = (to.clone(), to.clone());
    bridge.centre_to(&mut centred).unwrap();
    normalize_rows(&mut raw, 6).unwrap();
    assert!(largest_difference(&dual(1.0, Index::Centred), &centred) < 1e-6);
    assert!(largest_difference(&dual(1.0, Index::Raw), &raw) < 1e-6);
    assert!(largest_difference(&dual(0.0, Index::Raw), &applied(&bridge, &from)) < 1e-6);
    let mapped = applied(&bridge, &from);
    for (row, query) in dual(0.5, Index::Centred).chunks(6).enumerate() {
        let at = row * 6..row * 6 + 6;
        let (old, new) = (dot(query, &centred[at.clone()]), dot(query, &mapped[at]));
        assert!((old - new).abs() < 1e-5 && (dot(query, query) - 1.0).abs() < 1e-5);
    }
    let mut out = Vec::new();
    for weight in [-0.1, 1.1, f32::NAN] {
        assert!(
            bridge
                .dual(&to, &from, weight, Index::Raw, &mut out)
                .is_err()
        );
    }
    assert!(
        bridge
            .dual(&to[6..], &from, 0.5, Index::Raw, &mut out)
            .is_err()
    );
}

#[test]
fn bad_rows_are_named_and_leave_nothing() {
    let from = rows(300, 9, 13);
    let to = partner(&from, 9, 6, 14);
    let bridge = fitted("ridge", &from, 9, &to, 6);
    let mut bad = from.clone();
    bad[250 * 9] = f32::INFINITY;
    bad[270 * 9..271 * 9].fill(0.0);
    let mut out = vec![1.0];
    let error = bridge.apply(&bad, &mut out).unwrap_err();
    assert!(error.to_string().contains("row 250"), "{error}");
    assert!(out.is_empty());
    assert!(bridge.apply(&from[1..], &mut out).is_err());
    let mean = bridge.from_mean().unwrap().to_vec();
    let mut unit = mean.clone();
    normalize_rows(&mut unit, 9).unwrap();
    assert!(bridge.apply(&unit, &mut out).is_ok());
    assert!(bridge.apply(&[], &mut out).is_ok() && out.is_empty());
    // Row 1 fails in a later step than row 2.
    let (from, to) = (SpaceRef::unnamed(2), SpaceRef::unnamed(1));
    let layer = Bridge::of_layer(&[1.0, 0.0], from, to).unwrap();
    let bad = [1.0, 0.0, 0.0, 1.0, f32::NAN, 0.0];
    let error = layer.apply(&bad, &mut out).unwrap_err();
    assert!(
        matches!(error, BridgeError::NoDirection { row: 1, .. }),
        "{error}"
    );
}

#[test]
fn embeddings_of_the_target_are_noticed() {
    let from = rows(200, 16, 15);
    let mut to = partner(&from, 16, 16, 16);
    for row in to.chunks_mut(16) {
        row[5] += 3.0;
    }
    let bridge = fitted("orthogonal", &from, 16, &to, 16);
    assert!(bridge.check_input(&from).is_ok());
    assert!(matches!(
        bridge.check_input(&to),
        Err(BridgeError::WrongDirection { .. })
    ));
    assert!(bridge.inverse().unwrap().check_input(&to).is_ok());
    assert!(bridge.inverse().unwrap().check_input(&from).is_err());
    // Too few rows say nothing, and a narrow selection of the source is not mistaken for the target.
    assert!(bridge.check_input(&to[..31 * 16]).is_ok());
    let narrow: Vec<f32> = from
        .chunks(16)
        .filter(|row| row[3] > 0.5)
        .flatten()
        .copied()
        .collect();
    assert!(bridge.check_input(&narrow).is_ok());
    assert!(bridge.check_input(&from[1..]).is_err());
}

#[test]
fn a_bridge_without_centring_folds_into_a_layer() {
    let from = rows(300, 9, 17);
    let to = partner(&from, 9, 6, 18);
    let pairs = Pairs::new(&from, 9, &to, 6).unwrap();
    let recipe = Recipe::Ridge { penalty: 1e-3 };
    let bridge =
        fit_uncentred(&pairs, &recipe, SpaceRef::unnamed(9), SpaceRef::unnamed(6)).unwrap();
    let (weight, bias, inputs) = (rows(9, 4, 19), rows(1, 9, 20), rows(20, 4, 21));
    let layer = |weight: &[f32], bias: &[f32]| -> Vec<f32> {
        inputs
            .chunks(4)
            .flat_map(|input| {
                weight
                    .chunks(4)
                    .zip(bias)
                    .map(|(row, bias)| dot(row, input) + bias)
            })
            .collect()
    };
    let (folded, folded_bias) = bridge.fold(&weight, Some(&bias)).unwrap();
    let mut direct = layer(&folded, &folded_bias.unwrap());
    normalize_rows(&mut direct, 6).unwrap();
    assert!(largest_difference(&direct, &applied(&bridge, &layer(&weight, &bias))) < 1e-5);
    let (unbiased, none) = bridge.fold(&weight, None).unwrap();
    assert!(none.is_none() && largest_difference(&unbiased, &folded) < 1e-6);
    assert!(bridge.fold(&weight[1..], None).is_err());
    let centred = fitted("ridge", &from, 9, &to, 6);
    assert!(
        centred
            .fold(&weight, None)
            .unwrap_err()
            .to_string()
            .contains("without centring")
    );
}
