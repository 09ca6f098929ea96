//! Every loss against a formula of its own in f64, and its gradient against differences of that formula.

mod scene;

use burn::tensor::Device;

use super::*;
use crate::class_scores::{SimplexClassifier, Softmax};
use crate::earlier::ClassCentres;
use scene::{
    CLASSES, DIM, LABELS, Rows, Scene, apart, dot, matrix, mean, negative_log, prototypes, rows,
    unit,
};

#[test]
fn er_and_simplex_are_cross_entropies() {
    let scene = Scene::new();
    scene.compare_trained(&Er {}, |scene, new| scene.linear(new));
    let simplex = SimplexOnly {
        vertices: DIM + 1,
        ..SimplexOnly::default()
    };
    scene.compare(&simplex, |new| scene.simplex(new));
}

#[test]
fn the_levers_of_the_simplex_change_scale_and_columns() {
    let scene = Scene::new();
    let scaled = SimplexOnly {
        vertices: DIM + 1,
        scale: Some(8.0),
        ..SimplexOnly::default()
    };
    scene.compare(&scaled, |new| {
        let scaled = |row: &Vec<f64>| unit(row).iter().map(|value| 8.0 * value).collect();
        scene.simplex(&new.iter().map(scaled).collect())
    });
    // Vertices 0 and 1 are pre-trained, 4 to 7 belong to the four classes seen; 2 and 3 are unused.
    for (softmax, columns) in [
        (Softmax::Used, vec![0, 1, 4, 5, 6, 7]),
        (Softmax::Seen, vec![4, 5, 6, 7]),
    ] {
        let cross_entropy = |new: &Rows| {
            let prototypes = prototypes();
            mean(new.iter().zip(LABELS).map(|(row, label)| {
                let logits: Vec<f64> = columns
                    .iter()
                    .map(|&at: &usize| dot(&prototypes[at], row))
                    .collect();
                negative_log(&logits, columns.len() - 1 - label as usize)
            }))
        };
        let simplex = SimplexOnly {
            vertices: DIM + 1,
            softmax,
            ..SimplexOnly::default()
        };
        scene.compare(&simplex, cross_entropy);
        scene.compare(&hoc(|hoc| hoc.softmax = softmax), |new| {
            let term = contrastive_term(new, &scene.old, |n, m| LABELS[n] != LABELS[m]);
            0.3 * cross_entropy(new) + 0.7 * term
        });
        // Without a remembered image, so that the cross-entropy stands alone.
        let mut all_new = scene.clone();
        all_new.classes.old = 0;
        let fd = Fd {
            vertices: DIM + 1,
            softmax,
            ..Fd::default()
        };
        all_new.compare(&fd, cross_entropy);
    }
}

fn hoc(change: impl FnOnce(&mut Hoc)) -> Hoc {
    let mut hoc = Hoc {
        vertices: DIM + 1,
        lambda: 0.3,
        mu: 4.0,
        ..Hoc::default()
    };
    change(&mut hoc);
    hoc
}

/// The contrastive term with the pairs that `negative` admits.
fn contrastive_term(new: &Rows, old: &Rows, negative: impl Fn(usize, usize) -> bool) -> f64 {
    mean((0..new.len()).map(|n| {
        let cosine = |m: usize| 4.0 * dot(&unit(&old[n]), &unit(&new[m]));
        let others: Vec<usize> = (0..new.len()).filter(|&m| negative(n, m)).collect();
        if others.is_empty() {
            return 0.0;
        }
        others.iter().map(|&m| cosine(m).exp()).sum::<f64>().ln() - cosine(n)
    }))
}

#[test]
fn hoc_with_kept_negatives_tells_every_image_from_all_others() {
    let scene = Scene::new();
    let formula = |new: &Rows, negative: &dyn Fn(usize, usize) -> bool| {
        0.3 * scene.simplex(new) + 0.7 * contrastive_term(new, &scene.old, negative)
    };
    scene.compare(&hoc(|_| ()), |new| {
        formula(new, &|n, m| LABELS[n] != LABELS[m])
    });
    let kept = hoc(|hoc| hoc.masking = SameClass::Kept);
    scene.compare(&kept, |new| formula(new, &|n, m| n != m));
}

#[test]
fn the_weight_of_the_cross_entropy_goes_from_its_first_value_to_its_last() {
    let mut scene = Scene::new();
    let objective = hoc(|hoc| hoc.first_lambda = Some(0.9));
    for (progress, lambda) in [(0.0, 0.9), (0.25, 0.75), (1.0, 0.3)] {
        scene.progress = progress;
        scene.compare(&objective, |new| {
            let term = contrastive_term(new, &scene.old, |n, m| LABELS[n] != LABELS[m]);
            lambda * scene.simplex(new) + (1.0 - lambda) * term
        });
    }
}

#[test]
fn hoc_distils_relations_within_and_across() {
    let scene = Scene::new();
    for relations in [Relations::Within, Relations::Across] {
        let objective = hoc(|hoc| {
            hoc.relation_weight = 2.5;
            hoc.relations = relations;
        });
        scene.compare(&objective, |new| {
            let term = mean((0..36).map(|pair| {
                let (n, m) = (pair / 6, pair % 6);
                let other = match relations {
                    Relations::Within => &new[m],
                    Relations::Across => &scene.old[m],
                };
                let found = dot(&unit(&new[n]), &unit(other));
                (found - dot(&unit(&scene.old[n]), &unit(&scene.old[m]))).powi(2)
            }));
            0.3 * scene.simplex(new)
                + 0.7 * contrastive_term(new, &scene.old, |n, m| LABELS[n] != LABELS[m])
                + 2.5 * term
        });
    }
}

#[test]
fn fd_draws_remembered_images_to_their_old_embeddings() {
    let mut scene = Scene::new();
    // Four new classes beside the two old ones.
    scene.classes.seen = 6;
    for (growth, factor) in [(FdGrowth::Constant, 1.0), (FdGrowth::Classes, 2f64.sqrt())] {
        let objective = Fd {
            vertices: DIM + 1,
            growth,
            ..Fd::default()
        };
        scene.compare(&objective, |new| {
            let remembered = (0..6).filter(|&n| LABELS[n] < 2);
            let distance =
                mean(remembered.map(|n| apart(&unit(&new[n]), &unit(&scene.old[n])).powi(2)));
            scene.simplex(new) + 5.0 * factor * distance
        });
    }
}

/// The mean cross-entropy between the earlier probabilities of the two old classes and the new ones, both at a temperature.
fn distillation(scene: &Scene, new: &Rows, temperature: f64) -> f64 {
    mean(new.iter().zip(&scene.old).map(|(new, old)| {
        let logits = |rows: &Rows, bias: &[f64], row: &[f64]| -> Vec<f64> {
            let pairs = rows[..2].iter().zip(bias);
            pairs
                .map(|(weight, bias)| (dot(weight, row) + bias) / temperature)
                .collect()
        };
        let old = logits(&scene.old_rows, &scene.old_bias, old);
        let new = logits(&scene.rows, &[0.0; 2], new);
        (0..2)
            .map(|class| (-negative_log(&old, class)).exp() * negative_log(&new, class))
            .sum::<f64>()
    }))
}

#[test]
fn lwf_is_the_cross_entropy_between_cooled_probabilities() {
    let scene = Scene::new();
    let formula = |scene: &Scene, new: &Rows| scene.linear(new) + distillation(scene, new, 2.0);
    scene.compare_trained(&Lwf::default(), formula);
}

#[test]
fn fan_distils_probabilities_and_the_direction_of_every_embedding() {
    let scene = Scene::new();
    let objective = Fan {
        weight: 0.5,
        temperature: 3.0,
        feature_weight: 2.5,
        ..Fan::default()
    };
    let formula = |scene: &Scene, new: &Rows| {
        let pairs = new.iter().zip(&scene.old);
        let apart = mean(pairs.map(|(new, old)| 1.0 - dot(&unit(new), &unit(old))));
        scene.linear(new) + 0.5 * distillation(scene, new, 3.0) + 2.5 * apart
    };
    scene.compare_trained(&objective, formula);
}

#[test]
fn bct_classifies_old_classes_with_the_earlier_classifier() {
    let scene = Scene::new();
    let formula = |scene: &Scene, new: &Rows| {
        let known = (0..6).filter(|&n| LABELS[n] < 2);
        let influence = mean(known.map(|n| {
            let pairs = scene.old_rows.iter().zip(&scene.old_bias);
            let logits: Vec<f64> = pairs.map(|(row, bias)| dot(row, &new[n]) + bias).collect();
            negative_log(&logits, LABELS[n] as usize)
        }));
        scene.linear(new) + influence
    };
    scene.compare_trained(&Bct::default(), formula);
}

#[test]
fn lce_aligns_rows_with_centres_and_keeps_embeddings_within_their_radius() {
    let scene = Scene::new();
    let formula = |scene: &Scene, new: &Rows| {
        let alignment = mean((0..4).flat_map(|class| {
            let (row, centre) = (unit(&scene.rows[class]), scene.centre(class as u32));
            (0..DIM).map(move |at| (row[at] - centre[at]).powi(2))
        }));
        let boundary = mean((0..6).map(|n| {
            let cosine = dot(&unit(&new[n]), &scene.centre(LABELS[n]));
            (scene.radius(LABELS[n]) - cosine).max(0.0)
        }));
        scene.linear(new) + 100.0 * alignment + boundary
    };
    scene.compare_trained(&Lce::default(), formula);
}

#[test]
fn cvs_has_a_cosine_classifier_triplets_and_centres_of_old_classes() {
    let scene = Scene::new();
    // A scale at which f32 can be compared with f64.
    let objective = Cvs {
        scale: 4.0,
        margin: 0.5,
        ..Cvs::default()
    };
    let formula = |scene: &Scene, new: &Rows| {
        let classification = mean(new.iter().zip(LABELS).map(|(row, label)| {
            let logits: Vec<f64> = scene
                .rows
                .iter()
                .map(|weight| 4.0 * dot(&unit(weight), &unit(row)))
                .collect();
            negative_log(&logits, label as usize)
        }));
        let triplets = mean((0..6).map(|n| {
            let anchor = unit(&new[n]);
            let nearest = (0..6)
                .filter(|&m| LABELS[m] != LABELS[n])
                .map(|m| apart(&anchor, &unit(&scene.old[m])))
                .fold(f64::INFINITY, f64::min);
            (apart(&anchor, &unit(&scene.old[n])) - nearest + 0.5).max(0.0)
        }));
        let old = (0..6).filter(|&n| LABELS[n] < 2);
        let centres = mean(old.map(|n| apart(&unit(&new[n]), &scene.centre(LABELS[n])).powi(2)));
        classification + triplets + centres
    };
    scene.compare_trained(&objective, formula);
}

#[test]
fn without_an_earlier_model_every_objective_is_its_cross_entropy() {
    let device = Device::flex().autodiff();
    for entry in OBJECTIVES {
        let method = entry.method();
        let spec = match method.objective().classifier() {
            ClassifierSpec::Simplex(_) => {
                ClassifierSpec::Simplex(SimplexClassifier::published(DIM + 1))
            }
            other => other,
        };
        let classifier = LinearClassifier::new(4, DIM, 0, &device);
        let embeddings = matrix(&rows(6, 1), &device);
        let (step, _) =
            Step::of_batch(&spec, CLASSES, Some(&classifier), embeddings, &LABELS, None);
        let loss = method.objective().loss(&step).into_scalar::<f32>();
        let expected = step.classification.into_scalar::<f32>();
        assert_eq!(loss, expected, "{}", entry.name);
    }
}

#[test]
fn a_batch_of_one_new_class_gives_finite_losses_and_gradients() {
    let device = Device::flex();
    let tracked = device.clone().autodiff();
    let labels = [3, 3];
    for entry in OBJECTIVES {
        let method = entry.method();
        let spec = match method.objective().classifier() {
            ClassifierSpec::Simplex(_) => {
                ClassifierSpec::Simplex(SimplexClassifier::published(DIM + 1))
            }
            other => other,
        };
        let classifier = LinearClassifier::new(4, DIM, 0, &tracked);
        // New and old embedding of a row are the same: distances are 0, where a root has no gradient.
        let same = rows(2, 7);
        let embeddings = matrix(&same, &tracked).require_grad();
        let centres = ClassCentres::new(&[], DIM, &[]);
        let earlier = Earlier::from_embeddings(matrix(&same, &device)).with_centres(&centres);
        let (step, _) = Step::of_batch(
            &spec,
            CLASSES,
            Some(&classifier),
            embeddings.clone(),
            &labels,
            Some(earlier),
        );
        let loss = method.objective().loss(&step);
        let gradients = loss.backward();
        let gradient: Vec<f32> = embeddings
            .grad(&gradients)
            .unwrap()
            .into_data()
            .try_into_vec()
            .unwrap();
        assert!(loss.into_scalar::<f32>().is_finite(), "{}", entry.name);
        assert!(
            gradient.iter().all(|value| value.is_finite()),
            "{}",
            entry.name
        );
    }
}
