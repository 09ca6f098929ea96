//! The linear layer behind an encoder of another program.

use perennial_core::dot;
use perennial_core::outside_encoder::HEAD_TENSOR;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use thiserror::Error;

/// The largest file that is read.
pub(crate) const MAX_HEAD_BYTES: u64 = 2 << 30;

/// Why a file is not the linear layer of an encoder.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeadError {
    /// No safetensors file, or a damaged one.
    #[error(
        "{file} is no whole safetensors file: {problem}; copy it again, or publish the version anew"
    )]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The file holds something else than the version describes.
    #[error("{file}: {problem}; expected the one tensor {HEAD_TENSOR}, F32 {expected:?}")]
    Unusable {
        /// The file.
        file: String,
        /// What does not fit.
        problem: String,
        /// Outputs and inputs by the version's description.
        expected: [usize; 2],
    },
}

/// `e` becomes `W e`, row by row.
#[derive(Debug)]
pub(crate) struct Head {
    /// `[outputs, inputs]`
    weight: Vec<f32>,
    inputs: usize,
}

impl Head {
    /// From a file's content; `expected` are the outputs and inputs, both above 0.
    pub(crate) fn read(
        file: &str,
        content: &[u8],
        expected: [usize; 2],
    ) -> Result<Self, HeadError> {
        let tensors = SafeTensors::deserialize(content).map_err(|error| HeadError::Damaged {
            file: file.to_owned(),
            problem: error.to_string(),
        })?;
        let unusable = |problem: String| HeadError::Unusable {
            file: file.to_owned(),
            problem,
            expected,
        };
        let view = match (tensors.tensor(HEAD_TENSOR), tensors.len()) {
            (Ok(view), 1) => view,
            _ => {
                let mut names: Vec<&str> = tensors.names();
                names.sort_unstable();
                names.truncate(8);
                return Err(unusable(format!("it holds {}", names.join(", "))));
            }
        };
        if view.dtype() != Dtype::F32 || view.shape() != expected {
            return Err(unusable(format!(
                "the tensor is {:?} {:?}",
                view.dtype(),
                view.shape()
            )));
        }
        let (values, _) = view.data().as_chunks::<4>();
        let weight: Vec<f32> = values.iter().copied().map(f32::from_le_bytes).collect();
        if weight.iter().any(|value| !value.is_finite()) {
            return Err(unusable("it holds a value that is not finite".to_owned()));
        }
        Ok(Self {
            weight,
            inputs: expected[1],
        })
    }

    /// The length of the rows that it takes.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// A row's result does not depend on the others.
    ///
    /// **Shapes**: `rows` `[n, inputs]`, the result `[n, outputs]`.
    pub(crate) fn apply(&self, rows: &[f32]) -> Vec<f32> {
        rows.par_chunks_exact(self.inputs)
            .flat_map_iter(|row| {
                let outputs = self.weight.chunks_exact(self.inputs);
                outputs.map(move |weight| dot(row, weight))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn file(name: &str, dtype: Dtype, shape: Vec<usize>, bytes: &[u8]) -> Vec<u8> {
        let view = TensorView::new(dtype, shape, bytes).unwrap();
        safetensors::serialize([(name, view)], None).unwrap()
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    #[test]
    fn rows_are_multiplied_with_the_weights() {
        let weights = bytes(&[1.0, 0.0, 2.0, 0.0, -1.0, 0.5]);
        let content = file(HEAD_TENSOR, Dtype::F32, vec![2, 3], &weights);
        let head = Head::read("head.safetensors", &content, [2, 3]).unwrap();
        assert_eq!(
            head.apply(&[1.0, 2.0, 3.0, 0.0, 0.0, 2.0]),
            [7.0, -0.5, 4.0, 1.0]
        );
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let weights = bytes(&[1.0; 6]);
        let good = file(HEAD_TENSOR, Dtype::F32, vec![2, 3], &weights);
        let read = |content: &[u8], expected| {
            Head::read("h.safetensors", content, expected)
                .unwrap_err()
                .to_string()
        };
        assert!(read(b"nothing", [2, 3]).contains("h.safetensors is no whole"));
        assert!(read(&good[..good.len() - 1], [2, 3]).contains("no whole"));
        assert!(read(&good, [3, 2]).contains("[2, 3]; expected"));
        let other = file("weight", Dtype::F32, vec![2, 3], &weights);
        assert!(read(&other, [2, 3]).contains("it holds weight"));
        let half = file(HEAD_TENSOR, Dtype::F16, vec![2, 3], &weights[..12]);
        assert!(read(&half, [2, 3]).contains("F16"));
        let broken = file(HEAD_TENSOR, Dtype::F32, vec![1, 1], &bytes(&[f32::NAN]));
        assert!(read(&broken, [1, 1]).contains("not finite"));
    }
}
