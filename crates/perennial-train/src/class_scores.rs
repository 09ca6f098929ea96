//! Scores of classes: which classifier an objective asks for, and the logits and targets that it gives a batch.

use burn::tensor::{Device, Int, Tensor, TensorData};
use perennial_core::{ClassifierKind, Simplex, VertexEnd, VertexMap};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::classifier::{LinearClassifier, simplex_logits};
use crate::losses::unit_rows;
use crate::network::linear;

/// Vertices beyond which the embedding layer alone would fill the memory.
const MAX_VERTICES: usize = 65_536;

/// Beyond this, a softmax over cosines is a maximum in f32.
const MAX_SCALE: f64 = 1e4;

/// The classifier that a network is trained with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClassifierSpec {
    /// Fixed prototypes; the network has an embedding layer of `vertices - 1` dimensions.
    Simplex(SimplexClassifier),
    /// A trained linear layer that grows with the classes; the backbone's features are the embedding.
    Linear,
    /// As `Linear`, but a logit is `scale` times the cosine between embedding and row.
    Cosine {
        /// Factor of the cosines.
        scale: f64,
    },
}

/// The fixed simplex classifier and its softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimplexClassifier {
    /// Vertices `K`.
    pub vertices: usize,
    /// With a number, embeddings are scaled to this length before they meet the prototypes: a logit is `scale` times the cosine.
    /// Without, as published, embeddings keep their length.
    pub scale: Option<f64>,
    /// Over which vertices the softmax runs.
    pub softmax: Softmax,
}

/// Over which vertices the softmax of a simplex classifier runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Softmax {
    /// All: as published.
    #[default]
    All,
    /// Those that have a class: of pre-training, and of the tasks so far.
    Used,
    /// Those of the classes seen, of the tasks so far: images of pre-training's classes are not shown, so their vertices could only be
    /// pushed away from. In a pre-training the same as [`Used`](Self::Used).
    Seen,
}

/// The classes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskClasses {
    /// The end of the simplex where this run's classes have their vertices.
    pub end: VertexEnd,
    /// Vertices at the back that belong to other slots; 0 for pre-training.
    pub skipped: usize,
    /// Classes of pre-training, at the front of the simplex; 0 for a pre-training itself.
    pub pretrained: usize,
    /// Classes of earlier tasks: local labels below this are old.
    pub old: usize,
    /// Classes of the tasks so far, those of this task included.
    pub seen: usize,
}

impl TaskClasses {
    /// Classes `0..seen` of a single task at one end.
    pub fn first_task(end: VertexEnd, seen: usize) -> Self {
        Self {
            end,
            skipped: 0,
            pretrained: 0,
            old: 0,
            seen,
        }
    }

    /// Whether a local label belongs to an earlier task, so that its images come from the memory.
    pub fn is_old(&self, label: u32) -> bool {
        (label as usize) < self.old
    }
}

/// What a column of scores stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClassGroup {
    /// A class of the task.
    New,
    /// A class of an earlier task.
    Old,
    /// A class of pre-training.
    Pretrained,
    /// A vertex without a class, or with one of another slot.
    None,
}

impl ClassifierSpec {
    /// In words, for tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Simplex(_) => "simplex",
            Self::Linear => "linear",
            Self::Cosine { .. } => "cosine",
        }
    }

    /// As a version's `model.toml` records it.
    pub fn kind(&self) -> ClassifierKind {
        match self {
            Self::Simplex(_) => ClassifierKind::Simplex,
            Self::Linear | Self::Cosine { .. } => ClassifierKind::Linear,
        }
    }

    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let scale = match *self {
            Self::Simplex(classifier) => {
                let vertices = Simplex::new(classifier.vertices)?.vertices();
                if vertices > MAX_VERTICES {
                    return Err(TrainError::config(
                        "method.vertices",
                        &format!("must be at most {MAX_VERTICES}, got {vertices}"),
                    ));
                }
                classifier.scale
            }
            Self::Linear => None,
            Self::Cosine { scale } => Some(scale),
        };
        match scale {
            Some(scale) if !(scale > 0.0 && scale <= MAX_SCALE) => Err(TrainError::config(
                "method.scale",
                &format!("must be above 0 and at most {MAX_SCALE}, got {scale}"),
            )),
            _ => Ok(()),
        }
    }

    /// Logits `[batch, columns]` of a batch's embeddings `[batch, dim]`, and the right column of each row, `[batch]`.
    ///
    /// # Panics
    ///
    /// If a label has no vertex or no row, or a classifier is missing; a run's preparation rules all of them out.
    pub(crate) fn scores(
        &self,
        classes: &TaskClasses,
        classifier: Option<&LinearClassifier>,
        embeddings: Tensor<2>,
        labels: &[u32],
    ) -> (Tensor<2>, Tensor<1, Int>) {
        let device = embeddings.device();
        let trained =
            || classifier.expect("a network for a method with a trained classifier was given one");
        let rows = || labels.iter().map(|&label| label as i32).collect();
        match *self {
            Self::Simplex(simplex) => {
                let logits = simplex.logits(classes, embeddings);
                (logits, targets(simplex.columns(classes, labels), &device))
            }
            Self::Linear => (trained().forward(embeddings), targets(rows(), &device)),
            Self::Cosine { scale } => {
                let prototypes = unit_rows(trained().weight());
                let cosines = linear(unit_rows(embeddings), prototypes, None);
                (cosines.mul_scalar(scale), targets(rows(), &device))
            }
        }
    }
}

impl ClassifierSpec {
    /// What a column of [`scores`](Self::scores) stands for.
    pub(crate) fn group(&self, classes: &TaskClasses, column: usize) -> ClassGroup {
        let local = |label: usize| match label {
            label if label < classes.old => ClassGroup::Old,
            label if label < classes.seen => ClassGroup::New,
            _ => ClassGroup::None,
        };
        let Self::Simplex(simplex) = self else {
            return local(column);
        };
        let [front, back] = simplex.ends(classes);
        // The classes of pre-training itself are at the front.
        if classes.end == VertexEnd::Front {
            return local(column);
        }
        if column < front {
            return ClassGroup::Pretrained;
        }
        let vertex = match simplex.softmax {
            Softmax::All => column,
            Softmax::Used | Softmax::Seen => {
                column + simplex.vertices - classes.skipped - back - front
            }
        };
        (simplex.vertices - classes.skipped)
            .checked_sub(vertex + 1)
            .map_or(ClassGroup::None, local)
    }
}

impl SimplexClassifier {
    /// As published: embeddings keep their length, and the softmax runs over all vertices.
    pub fn published(vertices: usize) -> Self {
        Self {
            vertices,
            scale: None,
            softmax: Softmax::All,
        }
    }

    fn logits(&self, classes: &TaskClasses, embeddings: Tensor<2>) -> Tensor<2> {
        let simplex = Simplex::new(self.vertices).expect("the configuration was checked");
        let embeddings = match self.scale {
            Some(scale) => unit_rows(embeddings).mul_scalar(scale),
            None => embeddings,
        };
        let logits = simplex_logits(simplex, embeddings);
        match self.softmax {
            Softmax::All => logits,
            Softmax::Used | Softmax::Seen => {
                let [front, back] = self.ends(classes);
                let part = |first, count| logits.clone().narrow(1, first, count);
                let first = self.vertices - classes.skipped - back;
                match (front, back) {
                    (0, back) => part(first, back),
                    (front, 0) => part(0, front),
                    (front, back) => Tensor::cat(vec![part(0, front), part(first, back)], 1),
                }
            }
        }
    }

    /// The column of each label's logit.
    fn columns(&self, classes: &TaskClasses, labels: &[u32]) -> Vec<i32> {
        let map = VertexMap {
            vertices: self.vertices,
            end: classes.end,
            skipped: classes.skipped,
        };
        let [front, back] = self.ends(classes);
        let column = |label: &u32| {
            let vertex = map
                .vertex(*label as usize)
                .expect("the run checked that every class has a vertex");
            match self.softmax {
                Softmax::Used | Softmax::Seen if vertex >= front => {
                    vertex + front + back + classes.skipped - self.vertices
                }
                _ => vertex,
            }
        };
        labels.iter().map(|label| column(label) as i32).collect()
    }

    /// How many vertices at the front and at the back have a class; with [`Softmax::Seen`] without those of pre-training alone.
    fn ends(&self, classes: &TaskClasses) -> [usize; 2] {
        let pretrained = match self.softmax {
            Softmax::All | Softmax::Used => classes.pretrained,
            Softmax::Seen => 0,
        };
        match classes.end {
            VertexEnd::Front => [classes.seen.max(pretrained), 0],
            VertexEnd::Back => [pretrained, classes.seen],
        }
    }
}

fn targets(columns: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let count = columns.len();
    Tensor::from_data(TensorData::new(columns, [count]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERTICES: usize = 9;

    fn logits(softmax: Softmax, scale: Option<f64>, classes: TaskClasses) -> (Vec<f32>, Vec<i32>) {
        let device = Device::flex();
        let spec = ClassifierSpec::Simplex(SimplexClassifier {
            vertices: VERTICES,
            scale,
            softmax,
        });
        let embedding: Vec<f32> = (0..VERTICES - 1).map(|at| at as f32 - 2.5).collect();
        let embeddings =
            Tensor::<2>::from_data(TensorData::new(embedding, [1, VERTICES - 1]), &device);
        let (logits, targets) = spec.scores(&classes, None, embeddings, &[1]);
        (
            logits.into_data().try_into_vec().unwrap(),
            targets.into_data().convert::<i32>().try_into_vec().unwrap(),
        )
    }

    #[test]
    fn a_softmax_over_some_vertices_has_their_logits_and_the_target_is_the_same() {
        for (end, pretrained, seen, skipped) in [
            (VertexEnd::Back, 0, 3, 0),
            (VertexEnd::Back, 4, 3, 0),
            (VertexEnd::Back, 4, 3, 2),
            (VertexEnd::Back, 0, 3, 6),
            (VertexEnd::Front, 0, 5, 0),
        ] {
            let classes = TaskClasses {
                end,
                skipped,
                pretrained,
                old: 0,
                seen,
            };
            let (all, columns) = logits(Softmax::All, None, classes);
            let target = columns[0] as usize;
            let own = match end {
                VertexEnd::Front => &all[..seen],
                VertexEnd::Back => &all[VERTICES - skipped - seen..VERTICES - skipped],
            };
            for (softmax, expected) in [
                (Softmax::Used, [&all[..pretrained], own].concat()),
                (Softmax::Seen, own.to_vec()),
            ] {
                let (some, targets) = logits(softmax, None, classes);
                assert_eq!(some, expected);
                assert_eq!(some[targets[0] as usize], all[target]);
            }
        }
    }

    #[test]
    fn a_scale_makes_logits_multiples_of_cosines() {
        let classes = TaskClasses::first_task(VertexEnd::Front, 3);
        let (plain, _) = logits(Softmax::All, None, classes);
        let (scaled, _) = logits(Softmax::All, Some(16.0), classes);
        let length: f32 = (0..VERTICES - 1)
            .map(|at| (at as f32 - 2.5).powi(2))
            .sum::<f32>()
            .sqrt();
        for (plain, scaled) in plain.iter().zip(&scaled) {
            assert!((plain / length * 16.0 - scaled).abs() < 1e-4);
            assert!(scaled.abs() <= 16.0 + 1e-4);
        }
    }

    #[test]
    fn bad_values_name_their_key() {
        let simplex = |vertices, scale| {
            let classifier = SimplexClassifier {
                scale,
                ..SimplexClassifier::published(vertices)
            };
            ClassifierSpec::Simplex(classifier)
                .check()
                .unwrap_err()
                .to_string()
        };
        assert!(simplex(1 << 20, None).contains("method.vertices"));
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(simplex(16, Some(scale)).contains("method.scale"));
            let cosine = ClassifierSpec::Cosine { scale };
            assert!(
                cosine
                    .check()
                    .unwrap_err()
                    .to_string()
                    .contains("method.scale")
            );
        }
        assert!(ClassifierSpec::Linear.check().is_ok());
    }
}
