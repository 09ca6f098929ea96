use perennial_core::dot;
use proptest::prelude::*;
use rand::RngExt;

use super::*;
use crate::objective::DEFAULT_VERTICES;

struct Quiet;

impl HeadObserver for Quiet {}

const DIM: usize = 24;
const CLASSES: usize = 6;
const VERTICES: usize = 9;

/// Rows around a direction of their class, beside one that all of them share.
fn generated(count: usize, seed: u64) -> (Vec<f32>, Vec<u32>) {
    let mut centres = ChaCha8Rng::seed_from_u64(99);
    let centres: Vec<f32> = (0..CLASSES * DIM)
        .map(|_| centres.random_range(-1.0..1.0))
        .collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let labels: Vec<u32> = (0..count).map(|row| (row % CLASSES) as u32).collect();
    let rows = labels.iter().flat_map(|&label| {
        let centre = &centres[label as usize * DIM..][..DIM];
        let row: Vec<f32> = centre
            .iter()
            .map(|value| 3.0 + value + rng.random_range(-1.2..1.2))
            .collect();
        row
    });
    (rows.collect(), labels)
}

fn config() -> HeadConfig {
    HeadConfig {
        loss: Hoc {
            vertices: VERTICES,
            ..Hoc::default()
        },
        epochs: 12,
        batch_size: 64,
        ..HeadConfig::default()
    }
}

fn fit(
    config: &HeadConfig,
    features: &[f32],
    labels: &[u32],
    reference: Option<&[f32]>,
) -> Result<Vec<f32>, HeadError> {
    let rows = HeadRows {
        features: features.to_vec(),
        dim: DIM,
        labels,
        reference,
    };
    fit_head(config, rows, &Device::flex(), &mut Quiet)
}

/// Unit embeddings of rows.
fn embed(weight: &[f32], rows: &[f32]) -> Vec<f32> {
    let mut embeddings: Vec<f32> = rows
        .chunks_exact(DIM)
        .flat_map(|row| weight.chunks_exact(DIM).map(move |weight| dot(row, weight)))
        .collect();
    normalize_rows(&mut embeddings, weight.len() / DIM).unwrap();
    embeddings
}

/// The share of rows whose nearest vertex is that of their class.
fn accuracy(config: &HeadConfig, embeddings: &[f32], labels: &[u32]) -> f64 {
    let simplex = Simplex::new(config.loss.vertices).unwrap();
    let map = config.vertex_map();
    let right = embeddings
        .chunks_exact(simplex.dim())
        .zip(labels)
        .filter(|(row, label)| map.vertex(**label as usize) == Some(simplex.nearest(row)))
        .count();
    right as f64 / labels.len() as f64
}

#[test]
fn a_layer_brings_other_rows_of_the_classes_to_their_vertices() {
    let (features, labels) = generated(900, 1);
    let (others, other_labels) = generated(300, 2);
    for (end, skipped) in [(VertexEnd::Front, 0), (VertexEnd::Back, 2)] {
        let config = HeadConfig {
            end,
            skipped,
            ..config()
        };
        let weight = fit(&config, &features, &labels, None).unwrap();
        assert_eq!(weight.len(), (VERTICES - 1) * DIM);
        let found = accuracy(&config, &embed(&weight, &others), &other_labels);
        assert!(found > 0.9, "{end:?}: {found}");
    }
}

#[test]
fn a_seed_decides_the_layer_whatever_the_number_of_threads() {
    let (features, labels) = generated(200, 1);
    let one = fit(&config(), &features, &labels, None).unwrap();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let again = pool.install(|| fit(&config(), &features, &labels, None).unwrap());
    assert_eq!(one, again);
    let other = HeadConfig {
        seed: 1,
        ..config()
    };
    assert_ne!(one, fit(&other, &features, &labels, None).unwrap());
}

#[test]
fn the_weight_of_the_cross_entropy_moves_to_its_last_value() {
    let (features, labels) = generated(200, 1);
    let reference = embed(
        &fit(&config(), &features, &labels, None).unwrap(),
        &features,
    );
    let of = |first_lambda, lambda| {
        let config = HeadConfig {
            loss: Hoc {
                first_lambda,
                lambda,
                ..config().loss
            },
            ..config()
        };
        fit(&config, &features, &labels, Some(&reference)).unwrap()
    };
    let constant = of(None, 0.9);
    assert_eq!(constant, of(Some(0.9), 0.9));
    assert_ne!(constant, of(Some(0.9), 0.1));
}

#[test]
fn a_reference_draws_items_to_what_the_older_version_made_of_them() {
    let (features, labels) = generated(600, 1);
    // The older version: another draw of the first weights, on fewer rows.
    let older = HeadConfig {
        seed: 5,
        epochs: 2,
        ..config()
    };
    let older = fit(&older, &features[..300 * DIM], &labels[..300], None).unwrap();
    let reference = embed(&older, &features);
    let (others, _) = generated(200, 2);
    let of_older = embed(&older, &others);
    // How many of the older version's embeddings are nearest to the new embedding of their own item.
    let own = |weight: &[f32]| {
        let new = embed(weight, &others);
        let rows = |all: &[f32]| -> Vec<Vec<f32>> {
            all.chunks_exact(VERTICES - 1)
                .map(<[f32]>::to_vec)
                .collect()
        };
        let (new, old) = (rows(&new), rows(&of_older));
        let nearest = |row: &[f32]| {
            let similarity = |at: &usize| dot(row, &old[*at]);
            (0..old.len()).max_by(|one, other| similarity(one).total_cmp(&similarity(other)))
        };
        let found = new.iter().enumerate();
        found.filter(|(at, row)| nearest(row) == Some(*at)).count()
    };
    let alone = own(&fit(&config(), &features, &labels, None).unwrap());
    let drawn = own(&fit(&config(), &features, &labels, Some(&reference)).unwrap());
    assert!(
        drawn > alone + 10,
        "of 200: {drawn} with the reference, {alone} without"
    );
}

#[test]
fn features_of_any_length_give_the_same_layer_to_rounding() {
    let (features, labels) = generated(200, 1);
    let scaled: Vec<f32> = features
        .chunks_exact(DIM)
        .enumerate()
        .flat_map(|(row, values)| {
            values
                .iter()
                .map(move |value| value * (1 << (row % 9)) as f32)
        })
        .collect();
    let [one, other] =
        [features, scaled].map(|rows| embed(&fit(&config(), &rows, &labels, None).unwrap(), &rows));
    let largest = one
        .iter()
        .zip(&other)
        .map(|(one, other)| (one - other).abs())
        .fold(0.0, f32::max);
    assert!(largest < 1e-2, "{largest}");
}

#[test]
fn bad_rows_and_options_are_named() {
    let (features, labels) = generated(30, 1);
    let refused = |config: &HeadConfig, features: &[f32], labels: &[u32], reference| {
        fit(config, features, labels, reference).unwrap_err()
    };
    let mut broken = features.clone();
    broken[2 * DIM] = f32::NAN;
    let error = refused(&config(), &broken, &labels, None);
    assert!(error.to_string().starts_with("features: "), "{error}");
    assert!(matches!(
        error,
        HeadError::Rows {
            source: SimilarityError::NonFinite { row: 2 },
            ..
        }
    ));
    let error = refused(&config(), &features, &labels[1..], None);
    assert!(
        matches!(error, HeadError::Count { count: 29, .. }),
        "{error}"
    );
    let mut outside = labels.clone();
    outside[7] = VERTICES as u32;
    let error = refused(&config(), &features, &outside, None);
    assert!(
        matches!(
            error,
            HeadError::NoVertex {
                row: 7,
                places: 9,
                ..
            }
        ),
        "{error}"
    );
    let full = HeadConfig {
        end: VertexEnd::Back,
        skipped: 4,
        ..config()
    };
    let error = refused(&full, &features, &labels, None);
    assert!(
        matches!(error, HeadError::NoVertex { places: 5, .. }),
        "{error}"
    );
    let error = refused(&config(), &features, &labels, Some(&[1.0; 30 * 5]));
    assert!(
        matches!(error, HeadError::ReferenceDim { dim: 5, .. }),
        "{error}"
    );
    let error = refused(&config(), &features, &labels, Some(&[1.0; 29 * 8]));
    assert!(matches!(error, HeadError::Count { .. }), "{error}");
    let error = refused(&config(), &features, &labels, Some(&[0.0; 30 * 8]));
    assert!(error.to_string().contains("reference"), "{error}");
    let error = refused(&config(), &features, &[3; 30], None);
    assert!(matches!(error, HeadError::TooFewClasses { classes: 1 }));
    for (change, key) in [
        (
            HeadConfig {
                epochs: 0,
                ..config()
            },
            "epochs",
        ),
        (
            HeadConfig {
                batch_size: 0,
                ..config()
            },
            "batch_size",
        ),
        (
            HeadConfig {
                learning_rate: f64::NAN,
                ..config()
            },
            "learning_rate",
        ),
        (
            HeadConfig {
                weight_decay: -1.0,
                ..config()
            },
            "weight_decay",
        ),
        (
            HeadConfig {
                shrinkage: 0.0,
                ..config()
            },
            "shrinkage",
        ),
        (
            HeadConfig {
                loss: Hoc {
                    lambda: 2.0,
                    ..config().loss
                },
                ..config()
            },
            "lambda",
        ),
        (
            HeadConfig {
                loss: Hoc {
                    vertices: 1 << 20,
                    ..config().loss
                },
                ..config()
            },
            "vertices",
        ),
    ] {
        let error = refused(&change, &features, &labels, None).to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
    let wild = HeadConfig {
        learning_rate: 1e3,
        epochs: 40,
        ..config()
    };
    if let Err(error) = fit(&wild, &features, &labels, None) {
        assert!(matches!(error, HeadError::Diverged { .. }), "{error}");
    }
}

#[test]
fn an_observer_sees_every_row_and_can_stop() {
    #[derive(Default)]
    struct Counting {
        rows: usize,
        epochs: Vec<HeadEpoch>,
        most: usize,
    }
    impl HeadObserver for Counting {
        fn step(&mut self, rows: usize) {
            self.rows += rows;
        }
        fn epoch(&mut self, epoch: &HeadEpoch) {
            self.epochs.push(*epoch);
        }
        fn interrupted(&self) -> bool {
            self.rows >= self.most
        }
    }
    let (features, labels) = generated(128, 1);
    let run = |most| {
        let mut observer = Counting {
            most,
            ..Counting::default()
        };
        let rows = HeadRows {
            features: features.clone(),
            dim: DIM,
            labels: &labels,
            reference: None,
        };
        let result = fit_head(&config(), rows, &Device::flex(), &mut observer);
        (result, observer)
    };
    let (result, observer) = run(usize::MAX);
    assert!(result.is_ok());
    assert_eq!((observer.rows, observer.epochs.len()), (12 * 128, 12));
    assert!(observer.epochs[11].loss < observer.epochs[0].loss);
    assert!(matches!(run(100).0, Err(HeadError::Interrupted)));
}

proptest! {
    #[test]
    fn held_out_rows_are_a_share_of_every_class(
        labels in prop::collection::vec(0u32..5, 0..80), share in 0.0f64..1.0, seed: u64,
    ) {
        let held_out = held_out_rows(&labels, share, seed);
        prop_assert!(held_out.is_sorted_by(|one, next| one < next));
        for class in 0..5 {
            let of = |rows: &mut dyn Iterator<Item = u32>| rows.filter(|&label| label == class).count();
            let all = of(&mut labels.iter().copied());
            let out = of(&mut held_out.iter().map(|&row| labels[row]));
            prop_assert_eq!(out, (all as f64 * share) as usize);
        }
        prop_assert_eq!(held_out, held_out_rows(&labels, share, seed));
    }
}

#[test]
fn the_default_is_the_published_simplex() {
    assert_eq!(HeadConfig::default().loss.vertices, DEFAULT_VERTICES);
}
