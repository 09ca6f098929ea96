//! Where the softmax of a classifier puts its mass in training.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::class_scores::{ClassGroup, ClassifierSpec, TaskClasses};

/// How a classifier sees the last batch of an epoch, after that epoch's last step and with running statistics: means over its images.
///
/// The shares of the softmax are those of the right class, of the task's other classes, of earlier tasks' classes, of pre-training's
/// classes, and of vertices without a class. They add up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SoftmaxShares {
    /// Length of an embedding. The logits of a simplex classifier grow with it.
    pub embedding_norm: f64,
    /// Length of the mean of the unit embeddings: 1 where all have one direction, near 0 where they point everywhere.
    pub concentration: f64,
    /// Of the right class.
    pub right: f64,
    /// Of the task's other classes.
    pub new: f64,
    /// Of earlier tasks' classes other than the right one.
    pub old: f64,
    /// Of the classes of pre-training.
    pub pretrained: f64,
    /// Of vertices without a class, or with one of another slot.
    pub unused: f64,
}

impl SoftmaxShares {
    /// **Shapes**: embeddings `[batch, dim]`, logits `[batch, columns]`; `targets` are the right columns.
    ///
    /// # Errors
    /// A device that does not answer.
    pub(crate) fn of(
        spec: &ClassifierSpec,
        classes: &TaskClasses,
        embeddings: Tensor<2>,
        logits: Tensor<2>,
        targets: &[usize],
    ) -> Result<Self, TrainError> {
        let [batch, dim] = embeddings.dims();
        let [_, columns] = logits.dims();
        let embeddings = on_host(embeddings)?;
        let logits = on_host(logits)?;
        let groups: Vec<ClassGroup> = (0..columns)
            .map(|column| spec.group(classes, column))
            .collect();
        let mut shares = Self {
            embedding_norm: 0.0,
            concentration: 0.0,
            right: 0.0,
            new: 0.0,
            old: 0.0,
            pretrained: 0.0,
            unused: 0.0,
        };
        let mut mean = vec![0.0; dim];
        for row in embeddings.chunks_exact(dim) {
            let length = norm(row.iter().map(|&value| f64::from(value)));
            shares.embedding_norm += length;
            for (sum, &value) in mean.iter_mut().zip(row) {
                *sum += f64::from(value) / length.max(f64::MIN_POSITIVE);
            }
        }
        for (row, &target) in logits.chunks_exact(columns).zip(targets) {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exponentials: Vec<f64> = row
                .iter()
                .map(|&logit| f64::from(logit - highest).exp())
                .collect();
            let sum: f64 = exponentials.iter().sum();
            for (column, (exponential, group)) in exponentials.iter().zip(&groups).enumerate() {
                let share = match group {
                    _ if column == target => &mut shares.right,
                    ClassGroup::New => &mut shares.new,
                    ClassGroup::Old => &mut shares.old,
                    ClassGroup::Pretrained => &mut shares.pretrained,
                    ClassGroup::None => &mut shares.unused,
                };
                *share += exponential / sum;
            }
        }
        let count = batch.max(1) as f64;
        shares.concentration = norm(mean.into_iter()) / count;
        let means = [
            &mut shares.embedding_norm,
            &mut shares.right,
            &mut shares.new,
            &mut shares.old,
            &mut shares.pretrained,
            &mut shares.unused,
        ];
        for sum in means {
            *sum /= count;
        }
        Ok(shares)
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

fn on_host(tensor: Tensor<2>) -> Result<Vec<f32>, TrainError> {
    let name = format!("{:?}", tensor.device());
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec().map_err(|error| TrainError::Device {
        name,
        problem: format!(
            "scores could not be read ({error:?}); resume the run from its last checkpoint"
        ),
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use perennial_core::VertexEnd;

    use super::*;
    use crate::class_scores::{SimplexClassifier, Softmax};

    /// Vertices 0 and 1 are pre-trained, 7 and 6 are old, 5 and 4 new; 3 and 2 have no class.
    const CLASSES: TaskClasses = TaskClasses {
        end: VertexEnd::Back,
        skipped: 0,
        pretrained: 2,
        old: 2,
        seen: 4,
    };

    fn shares(spec: ClassifierSpec, logits: &[f32], target: usize) -> SoftmaxShares {
        let device = Device::flex();
        let embeddings = Tensor::from_data(
            TensorData::new(vec![3.0f32, 4.0, 3.0, -4.0], [2, 2]),
            &device,
        );
        let rows = [logits, logits].concat();
        let logits = Tensor::from_data(TensorData::new(rows, [2, logits.len()]), &device);
        SoftmaxShares::of(&spec, &CLASSES, embeddings, logits, &[target; 2]).unwrap()
    }

    fn close(found: SoftmaxShares, [right, new, old, pretrained, unused]: [f64; 5]) {
        let pairs = [
            (found.embedding_norm, 5.0),
            (found.concentration, 0.6),
            (found.right, right),
            (found.new, new),
            (found.old, old),
            (found.pretrained, pretrained),
            (found.unused, unused),
        ];
        for (value, expected) in pairs {
            assert!((value - expected).abs() < 1e-6, "{found:?}");
        }
    }

    #[test]
    fn every_column_counts_for_its_group() {
        // Exponentials 1 to 8, by vertex.
        let logits: Vec<f32> = (1..=8).map(|value| (value as f32).ln()).collect();
        let simplex = |softmax| {
            ClassifierSpec::Simplex(SimplexClassifier {
                softmax,
                ..SimplexClassifier::published(8)
            })
        };
        let of = |values: [f64; 5], sum: f64| values.map(|value| value / sum);
        // The image is of local class 2, at vertex 5.
        close(
            shares(simplex(Softmax::All), &logits, 5),
            of([6.0, 5.0, 15.0, 3.0, 7.0], 36.0),
        );
        let used: Vec<f32> = [0, 1, 4, 5, 6, 7]
            .map(|vertex: usize| logits[vertex])
            .into();
        close(
            shares(simplex(Softmax::Used), &used, 3),
            of([6.0, 5.0, 15.0, 3.0, 0.0], 29.0),
        );
        close(
            shares(simplex(Softmax::Seen), &logits[4..], 1),
            of([6.0, 5.0, 15.0, 0.0, 0.0], 26.0),
        );
        // A trained classifier has the rows of local classes alone.
        close(
            shares(ClassifierSpec::Linear, &logits[..4], 2),
            of([3.0, 4.0, 3.0, 0.0, 0.0], 10.0),
        );
    }
}
