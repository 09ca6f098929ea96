//! Encoders that are a table: the mean of the vectors of a text's tokens, without any network.

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use thiserror::Error;

/// The largest table that is read.
pub(crate) const MAX_TABLE_BYTES: u64 = 4 << 30;
/// Tensors beside the table with which other programs weight or share its rows. Such tables would give wrong embeddings here.
const WEIGHTING: [&str; 2] = ["mapping", "weights"];

/// Why a file is no table of token vectors.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TableError {
    /// No safetensors file, or a damaged one.
    #[error("{file} is no whole safetensors file: {problem}; copy or download it again")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// No tensor of that name, or several and none is chosen.
    #[error("{file} has no tensor {asked:?}; its tensors: {}", tensors.join(", "))]
    Tensor {
        /// The file.
        file: String,
        /// The tensor that was asked for.
        asked: String,
        /// The tensors that there are.
        tensors: Vec<String>,
    },
    /// The tensor is no table of vectors.
    #[error("{file}: tensor {tensor}: {problem}")]
    Unusable {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What does not fit.
        problem: String,
    },
}

/// A table of vectors, one for each token.
pub(crate) struct TokenTable {
    /// Little-endian numbers of `element`.
    values: Vec<u8>,
    element: Element,
    rows: usize,
    dim: usize,
}

#[derive(Debug, Clone, Copy)]
enum Element {
    F32,
    F16,
    Bf16,
}

impl Element {
    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

impl TokenTable {
    /// The tensor of that name from a file's content.
    ///
    /// **Shapes**: the tensor is `[vocabulary, d]`, f32, f16 or bf16.
    pub(crate) fn read(file: &str, content: &[u8], tensor: &str) -> Result<Self, TableError> {
        let tensors = open(file, content)?;
        let unusable = |problem: String| TableError::Unusable {
            file: file.to_owned(),
            tensor: tensor.to_owned(),
            problem,
        };
        let Ok(view) = tensors.tensor(tensor) else {
            return Err(TableError::Tensor {
                file: file.to_owned(),
                asked: tensor.to_owned(),
                tensors: names(&tensors),
            });
        };
        if let Some(name) = WEIGHTING
            .iter()
            .find(|name| **name != tensor && tensors.names().contains(name))
        {
            return Err(unusable(format!(
                "the tensor {name:?} beside it changes how its rows are averaged, which is not supported"
            )));
        }
        let element = match view.dtype() {
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            other => {
                return Err(unusable(format!(
                    "its numbers are {other:?}; save it as F32 or F16"
                )));
            }
        };
        let &[rows, dim] = view.shape() else {
            return Err(unusable(format!(
                "it is {:?}, not [vocabulary, d]",
                view.shape()
            )));
        };
        if rows == 0 || dim == 0 {
            return Err(unusable("it is empty".to_owned()));
        }
        Ok(Self {
            values: view.data().to_vec(),
            element,
            rows,
            dim,
        })
    }

    /// The name of the only tensor that can be a table, if there is only one.
    pub(crate) fn only(file: &str, content: &[u8]) -> Result<String, TableError> {
        let tensors = open(file, content)?;
        let mut tables = tensors
            .iter()
            .filter(|(_, view)| view.shape().len() == 2)
            .map(|(name, _)| name.to_owned());
        match (tables.next(), tables.next()) {
            (Some(table), None) => Ok(table),
            _ => Err(TableError::Tensor {
                file: file.to_owned(),
                asked: String::new(),
                tensors: names(&tensors),
            }),
        }
    }

    /// The number of tokens.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The length of a vector.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// The mean of the vectors of these tokens, or `None` if one of them has no vector or there is none.
    ///
    /// **Shapes**: `[d]`, not normalised.
    pub(crate) fn mean(&self, tokens: &[u32]) -> Option<Vec<f32>> {
        let mut sum = vec![0.0_f64; self.dim];
        let row_bytes = self.dim * self.element.size();
        for &token in tokens {
            let start = usize::try_from(token).ok()?.checked_mul(row_bytes)?;
            let row = self.values.get(start..start.checked_add(row_bytes)?)?;
            match self.element {
                Element::F32 => add(
                    &mut sum,
                    row.as_chunks()
                        .0
                        .iter()
                        .map(|&value| f32::from_le_bytes(value)),
                ),
                Element::F16 => add(
                    &mut sum,
                    row.as_chunks()
                        .0
                        .iter()
                        .map(|&value| half::f16::from_le_bytes(value).to_f32()),
                ),
                Element::Bf16 => add(
                    &mut sum,
                    row.as_chunks()
                        .0
                        .iter()
                        .map(|&value| half::bf16::from_le_bytes(value).to_f32()),
                ),
            }
        }
        let count = Some(tokens.len()).filter(|&count| count > 0)? as f64;
        Some(sum.iter().map(|sum| (sum / count) as f32).collect())
    }
}

fn add(sum: &mut [f64], row: impl Iterator<Item = f32>) {
    sum.iter_mut()
        .zip(row)
        .for_each(|(sum, value)| *sum += f64::from(value));
}

fn open<'a>(file: &str, content: &'a [u8]) -> Result<SafeTensors<'a>, TableError> {
    SafeTensors::deserialize(content).map_err(|error| TableError::Damaged {
        file: file.to_owned(),
        problem: error.to_string(),
    })
}

fn names(tensors: &SafeTensors<'_>) -> Vec<String> {
    let mut names: Vec<String> = tensors
        .names()
        .iter()
        .take(20)
        .map(|name| (*name).to_owned())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
pub(crate) mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    /// A file with one table, `[rows, 2]`, whose row `n` is `[n, 1]`.
    pub(crate) fn file(rows: usize, extra: Option<&str>) -> Vec<u8> {
        let values: Vec<u8> = (0..rows)
            .flat_map(|row| [row as f32, 1.0])
            .flat_map(f32::to_le_bytes)
            .collect();
        let view = |shape: Vec<usize>| TensorView::new(Dtype::F32, shape, &values).unwrap();
        let mut tensors = vec![("table".to_owned(), view(vec![rows, 2]))];
        tensors.extend(extra.map(|name| (name.to_owned(), view(vec![rows * 2]))));
        safetensors::serialize(tensors, None).unwrap()
    }

    #[test]
    fn vectors_are_averaged() {
        let table = TokenTable::read("t", &file(5, None), "table").unwrap();
        assert_eq!((table.rows(), table.dim()), (5, 2));
        assert_eq!(table.mean(&[1, 4, 4]).unwrap(), [3.0, 1.0]);
        assert_eq!(table.mean(&[5]), None);
        assert_eq!(table.mean(&[u32::MAX]), None);
        assert_eq!(table.mean(&[]), None);
    }

    #[test]
    fn half_precision_is_widened() {
        let values: Vec<u8> = [0.5, -2.0]
            .into_iter()
            .flat_map(|value| half::f16::from_f32(value).to_le_bytes())
            .collect();
        let view = TensorView::new(Dtype::F16, vec![1, 2], &values).unwrap();
        let content = safetensors::serialize([("table", view)], None).unwrap();
        assert_eq!(
            TokenTable::read("t", &content, "table")
                .unwrap()
                .mean(&[0])
                .unwrap(),
            [0.5, -2.0]
        );
    }

    #[test]
    fn other_files_are_refused() {
        let whole = file(5, None);
        assert_eq!(TokenTable::only("t", &whole).unwrap(), "table");
        for cut in [0, 4, 20, whole.len() - 1] {
            assert!(TokenTable::read("t", &whole[..cut], "table").is_err());
        }
        let mut huge = whole.clone();
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(TokenTable::read("t", &huge, "table").is_err());
        let error = TokenTable::read("t", &whole, "other").err().unwrap();
        assert!(error.to_string().ends_with("its tensors: table"), "{error}");
        let error = TokenTable::read("t", &file(5, Some("weights")), "table")
            .err()
            .unwrap();
        assert!(error.to_string().contains("weights"), "{error}");
        assert!(TokenTable::read("t", &file(5, Some("flat")), "flat").is_err());
    }
}
