//! What the losses see, as plain numbers, and the comparison of a loss with a formula of these.

use burn::tensor::{Device, Tensor, TensorData};
use perennial_core::{ClassifierKind, VertexEnd};

use crate::class_scores::TaskClasses;
use crate::classifier::LinearClassifier;
use crate::earlier::{ClassCentres, Earlier, EarlierClassifier};
use crate::objective::{Objective, Step};
use crate::state_dict::{StateDict, StateTensor, load_state_dict};

pub const DIM: usize = 7;
pub const LABELS: [u32; 6] = [0, 1, 3, 0, 2, 3];
/// Classes 0 and 1 are old.
pub const CLASSES: TaskClasses = TaskClasses {
    end: VertexEnd::Back,
    skipped: 0,
    pretrained: 2,
    old: 2,
    seen: 4,
};

pub type Rows = Vec<Vec<f64>>;

/// Numbers without pattern in -1..1, the same in each run.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub fn rows(count: usize, seed: u64) -> Rows {
    numbers(count * DIM, seed)
        .chunks(DIM)
        .map(<[f64]>::to_vec)
        .collect()
}

pub fn matrix(rows: &Rows, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = rows.iter().flatten().map(|&value| value as f32).collect();
    Tensor::from_data(TensorData::new(values, [rows.len(), rows[0].len()]), device)
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub fn unit(row: &[f64]) -> Vec<f64> {
    let length = dot(row, row).sqrt();
    row.iter().map(|value| value / length).collect()
}

pub fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f64>()
        .sqrt()
}

pub fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.into_iter().collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// `-log softmax(logits)[target]`.
pub fn negative_log(logits: &[f64], target: usize) -> f64 {
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    sum.ln() - logits[target]
}

/// What the losses see, as plain numbers.
#[derive(Clone)]
pub struct Scene {
    pub classes: TaskClasses,
    pub new: Rows,
    pub old: Rows,
    /// The trained classifier, and the earlier one of the old classes.
    pub rows: Rows,
    pub old_rows: Rows,
    pub old_bias: Vec<f64>,
    /// Unit embeddings of the earlier model, a few of each class, for its class centres.
    pub past: Rows,
    /// How far the task is.
    pub progress: f64,
}

/// Step of the differences that gradients are compared with.
const STEP: f64 = 1e-5;

const PAST_LABELS: [u32; 8] = [0, 0, 1, 1, 2, 2, 3, 3];

impl Scene {
    pub fn new() -> Self {
        let past = rows(8, 5).iter().map(|row| unit(row)).collect();
        Self {
            classes: CLASSES,
            new: rows(6, 1),
            old: rows(6, 2),
            rows: rows(4, 3),
            old_rows: rows(2, 4),
            old_bias: vec![0.3, -0.2],
            past,
            progress: 0.0,
        }
    }

    pub fn centre(&self, label: u32) -> Vec<f64> {
        let own = self
            .past
            .iter()
            .zip(PAST_LABELS)
            .filter(|(_, other)| *other == label);
        let mut sum = vec![0.0; DIM];
        for (row, _) in own {
            sum.iter_mut()
                .zip(row)
                .for_each(|(sum, value)| *sum += value);
        }
        unit(&sum)
    }

    pub fn radius(&self, label: u32) -> f64 {
        let centre = self.centre(label);
        let own = self
            .past
            .iter()
            .zip(PAST_LABELS)
            .filter(|(_, other)| *other == label);
        own.map(|(row, _)| dot(row, &centre)).fold(1.0, f64::min)
    }

    /// Cross-entropy on the simplex: class y at vertex K - 1 - y.
    pub fn simplex(&self, new: &Rows) -> f64 {
        let prototypes = prototypes();
        mean(new.iter().zip(LABELS).map(|(row, label)| {
            let logits: Vec<f64> = prototypes.iter().map(|p| dot(p, row)).collect();
            negative_log(&logits, DIM - label as usize)
        }))
    }

    pub fn linear(&self, new: &Rows) -> f64 {
        mean(new.iter().zip(LABELS).map(|(row, label)| {
            let logits: Vec<f64> = self.rows.iter().map(|weight| dot(weight, row)).collect();
            negative_log(&logits, label as usize)
        }))
    }

    /// The loss and its gradients with respect to the embeddings and to the classifier's rows, as the objective computes them.
    fn run(&self, objective: &dyn Objective) -> (f64, Vec<f32>, Option<Vec<f32>>) {
        let device = Device::flex();
        let tracked = device.clone().autodiff();
        let embeddings = matrix(&self.new, &tracked).require_grad();
        let classifier = trained_classifier(&self.rows, &tracked);
        let bias: Vec<f32> = self.old_bias.iter().map(|&value| value as f32).collect();
        let earlier_classifier = EarlierClassifier::new(
            matrix(&self.old_rows, &device),
            Tensor::from_data(TensorData::new(bias, [2]), &device),
        );
        let past: Vec<f32> = self
            .past
            .iter()
            .flatten()
            .map(|&value| value as f32)
            .collect();
        let centres = ClassCentres::new(&past, DIM, &PAST_LABELS);
        let spec = objective.classifier();
        let trained = (spec.kind() == ClassifierKind::Linear).then_some(&classifier);
        let earlier = Earlier::from_embeddings(matrix(&self.old, &device))
            .with_classifier(&earlier_classifier)
            .with_centres(&centres);
        let (mut step, _) = Step::of_batch(
            &spec,
            self.classes,
            trained,
            embeddings.clone(),
            &LABELS,
            Some(earlier),
        );
        step.progress = self.progress;
        let loss = objective.loss(&step);
        let gradients = loss.backward();
        let values = |gradient: Tensor<2>| gradient.into_data().try_into_vec().unwrap();
        (
            f64::from(loss.into_scalar::<f32>()),
            values(embeddings.grad(&gradients).unwrap()),
            classifier.weight().grad(&gradients).map(values),
        )
    }

    /// Compares an objective with a trained classifier with a formula of the scene and the new embeddings: also its gradient with respect to
    /// the classifier's rows.
    pub fn compare_trained(
        &self,
        objective: &dyn Objective,
        formula: impl Fn(&Self, &Rows) -> f64,
    ) {
        self.compare(objective, |new| formula(self, new));
        let gradient = self.run(objective).2.unwrap();
        assert!(gradient.iter().any(|value| value.abs() > 1e-3));
        for row in 0..self.rows.len() {
            for column in 0..DIM {
                let at = |step: f64| {
                    let mut moved = self.clone();
                    moved.rows[row][column] += step;
                    formula(&moved, &moved.new)
                };
                let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                let found = f64::from(gradient[row * DIM + column]);
                assert!(
                    (found - expected).abs() < 1e-4 * (1.0 + expected.abs()),
                    "{objective:?}, gradient of the classifier's row {row}, column {column}: {found} instead of {expected}"
                );
            }
        }
    }

    /// Compares an objective with a formula of the new embeddings.
    pub fn compare(&self, objective: &dyn Objective, formula: impl Fn(&Rows) -> f64) {
        let (loss, gradient, _) = self.run(objective);
        let expected = formula(&self.new);
        assert!(
            (loss - expected).abs() < 2e-5 * (1.0 + expected.abs()),
            "{objective:?}: {loss} instead of {expected}"
        );
        for row in 0..self.new.len() {
            for column in 0..DIM {
                let at = |step: f64| {
                    let mut new = self.new.clone();
                    new[row][column] += step;
                    formula(&new)
                };
                let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                let found = f64::from(gradient[row * DIM + column]);
                assert!(
                    (found - expected).abs() < 1e-4 * (1.0 + expected.abs()),
                    "{objective:?}, gradient of row {row}, column {column}: {found} instead of {expected}"
                );
            }
        }
    }
}

/// A classifier with these rows and bias 0.
fn trained_classifier(rows: &Rows, device: &Device) -> LinearClassifier {
    let tensor = |shape, values| StateTensor { shape, values };
    let values = rows.iter().flatten().map(|&value| value as f32).collect();
    let state = StateDict::from([
        ("weight".to_owned(), tensor(vec![rows.len(), DIM], values)),
        (
            "bias".to_owned(),
            tensor(vec![rows.len()], vec![0.0; rows.len()]),
        ),
    ]);
    load_state_dict(LinearClassifier::new(rows.len(), DIM, 0, device), state).unwrap()
}

/// The simplex of `DIM + 1` vertices by its definition: standard basis and one more point, centred, scaled to unit length.
pub fn prototypes() -> Rows {
    let last = (1.0 - ((1 + DIM) as f64).sqrt()) / DIM as f64;
    let mut points: Rows = (0..DIM)
        .map(|at| {
            (0..DIM)
                .map(|column| f64::from(u8::from(at == column)))
                .collect()
        })
        .collect();
    points.push(vec![last; DIM]);
    let centre: Vec<f64> = (0..DIM)
        .map(|column| mean(points.iter().map(|point| point[column])))
        .collect();
    points
        .iter()
        .map(|point| {
            let centred: Vec<f64> = point.iter().zip(&centre).map(|(a, b)| a - b).collect();
            unit(&centred)
        })
        .collect()
}
