//! Applying a bridge: rows of the source in, unit rows of the target out; centring of both sides; dual queries.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::bridge::{Bridge, Step};
use crate::centring::{centre_row, subtract_row, unit_row};
use crate::error::{BridgeError, Side};
use crate::pairs::whole_rows;

/// Most rows that one thread maps at a time.
const BLOCK_ROWS: usize = 96;
/// Blocks are multiples of the rows that the product's inner loop takes at once.
const ROWS_AT_ONCE: usize = 12;
/// Multiply-adds below which waking other threads costs more than it saves.
const PARALLEL_WORK: usize = 1 << 22;

/// How the stored vectors of an index are compared with queries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Index {
    /// As they are: unit vectors of an index that cannot be changed.
    #[default]
    Raw,
    /// Each centred with the bridge's mean of the target.
    Centred,
}

/// Changes a row, given its number.
type Change<'a> = &'a dyn Fn(usize, &mut [f32]) -> Result<(), BridgeError>;

impl Bridge {
    /// Maps rows of the source into the target. `out` is replaced.
    ///
    /// A row's result does not depend on the other rows, on their number, or on the number of threads.
    ///
    /// **Shapes**: `rows` `[n, from_dim]`, of any length above 0; `out` `[n, to_dim]`, unit rows in the centred space of the target (in the
    /// target as it is if [`to_mean`](Self::to_mean) is nothing).
    ///
    /// # Errors
    /// The lowest row that is not finite, has length 0, or has no direction after centring or the map. `out` is then empty.
    pub fn apply(&self, rows: &[f32], out: &mut Vec<f32>) -> Result<(), BridgeError> {
        let (from_dim, to_dim) = (self.from.dim, self.to.dim);
        out.clear();
        let count = whole_rows(Side::From, rows, from_dim)?;
        out.resize(count * to_dim, 0.0);
        let work: usize = self.steps.iter().map(Step::work).sum::<usize>() + from_dim;
        let block_rows = if count * work < PARALLEL_WORK {
            count.max(1)
        } else {
            let share = count.div_ceil(rayon::current_num_threads());
            share.next_multiple_of(ROWS_AT_ONCE).min(BLOCK_ROWS)
        };
        let blocks = rows
            .par_chunks(block_rows * from_dim)
            .zip(out.par_chunks_mut(block_rows * to_dim))
            .enumerate();
        let map = |scratch: &mut Scratch, index: usize, rows: &[f32], out: &mut [f32]| {
            self.apply_block(index * block_rows, rows, out, scratch)
                .err()
        };
        let error = if count <= block_rows {
            map(&mut Scratch::default(), 0, rows, out)
        } else {
            blocks
                .map_init(Scratch::default, |scratch, (index, (rows, out))| {
                    map(scratch, index, rows, out)
                })
                .flatten()
                .min_by_key(BridgeError::row)
        };
        match error {
            None => Ok(()),
            Some(error) => {
                out.clear();
                Err(error)
            }
        }
    }

    fn apply_block(
        &self,
        first: usize,
        rows: &[f32],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), BridgeError> {
        let Scratch { current, next } = scratch;
        current.clear();
        current.extend_from_slice(rows);
        let mut failed = None;
        // One of the rows before it may fail in a later step, and is the one to be named.
        let mut keep_before = |values: &mut Vec<f32>, dim: usize, change: Change<'_>| {
            let mut rows = values.chunks_exact_mut(dim).enumerate();
            let found = rows.find_map(|(at, row)| Some((at, change(first + at, row).err()?)));
            if let Some((at, error)) = found {
                values.truncate(at * dim);
                failed = Some(error);
            }
        };
        keep_before(current, self.from.dim, &|row, values| {
            unit_row(Side::From, row, values)
        });
        for step in &self.steps {
            match step {
                Step::Centre(mean) => keep_before(current, mean.len(), &|row, values| {
                    subtract_row(Side::From, row, values, mean)
                }),
                Step::Linear(matrix) => {
                    next.resize(current.len() / matrix.rows() * matrix.columns(), 0.0);
                    matrix.multiply(current, next);
                    keep_before(next, matrix.columns(), &|row, values| {
                        unit_row(Side::From, row, values).map_err(|_| BridgeError::NoDirection {
                            side: Side::From,
                            row,
                        })
                    });
                    std::mem::swap(current, next);
                }
            }
        }
        match failed {
            None => {
                out.copy_from_slice(current);
                Ok(())
            }
            Some(error) => Err(error),
        }
    }

    /// Centres raw rows of the source in place, or scales them to unit length if the bridge does not centre.
    ///
    /// **Shapes**: `rows` `[n, from_dim]`.
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply). Rows that no error names may already be changed.
    pub fn centre_from(&self, rows: &mut [f32]) -> Result<(), BridgeError> {
        centre(Side::From, rows, self.from.dim, self.from_mean())
    }

    /// Centres raw rows of the target in place, as an index is prepared for bridged queries. Rows are scaled to unit length only if the
    /// bridge does not centre.
    ///
    /// **Shapes**: `rows` `[n, to_dim]`.
    ///
    /// # Errors
    /// As those of [`apply`](Self::apply), for rows of the target. Rows that no error names may already be changed.
    pub fn centre_to(&self, rows: &mut [f32]) -> Result<(), BridgeError> {
        centre(Side::To, rows, self.to.dim, self.to_mean())
    }

    /// Dual queries: the old encoder's embedding of each query plus the bridged one of the new encoder,
    /// `unit(weight * o + (1 - weight) * bridge(new))`. `o` is the old embedding at unit length, centred if the index is. `out` is replaced.
    ///
    /// A weight of 1 is the old query alone, 0 the bridged one alone. Choose it on held-out queries; half and half is a fair first guess.
    ///
    /// **Shapes**: `old` `[n, to_dim]` and `new` `[n, from_dim]`, raw; `out` `[n, to_dim]`, unit rows.
    ///
    /// # Errors
    /// Different numbers of rows, a weight outside of [0, 1], rows without a direction, and rows that cancel out. `out` is then empty.
    pub fn dual(
        &self,
        old: &[f32],
        new: &[f32],
        weight: f32,
        index: Index,
        out: &mut Vec<f32>,
    ) -> Result<(), BridgeError> {
        out.clear();
        if !(0.0..=1.0).contains(&weight) {
            return Err(BridgeError::Weight {
                weight: f64::from(weight),
            });
        }
        let to_rows = whole_rows(Side::To, old, self.to.dim)?;
        let from_rows = whole_rows(Side::From, new, self.from.dim)?;
        if from_rows != to_rows {
            return Err(BridgeError::RowCounts {
                from: from_rows,
                to: to_rows,
            });
        }
        let mean = match index {
            Index::Raw => None,
            Index::Centred => self.to_mean(),
        };
        self.apply(new, out)?;
        let dim = self.to.dim;
        let error = out
            .par_chunks_exact_mut(dim)
            .zip(old.par_chunks_exact(dim))
            .enumerate()
            .with_min_len(64)
            .map_init(Vec::new, |own, (row, (query, old))| {
                own.clear();
                own.extend_from_slice(old);
                centre_row(Side::To, row, own, mean).err().or_else(|| {
                    for (query, own) in query.iter_mut().zip(own.iter()) {
                        *query = weight * own + (1.0 - weight) * *query;
                    }
                    let error = unit_row(Side::To, row, query).err();
                    error.map(|_| BridgeError::NoDirection {
                        side: Side::To,
                        row,
                    })
                })
            })
            .flatten()
            .min_by_key(BridgeError::row);
        match error {
            None => Ok(()),
            Some(error) => {
                out.clear();
                Err(error)
            }
        }
    }
}

impl Step {
    /// Multiply-adds per row.
    fn work(&self) -> usize {
        match self {
            Step::Centre(mean) => mean.len(),
            Step::Linear(matrix) => matrix.rows() * matrix.columns(),
        }
    }
}

/// The rows before and after a step.
#[derive(Default)]
struct Scratch {
    current: Vec<f32>,
    next: Vec<f32>,
}

fn centre(
    side: Side,
    rows: &mut [f32],
    dim: usize,
    mean: Option<&[f32]>,
) -> Result<(), BridgeError> {
    whole_rows(side, rows, dim)?;
    let error = rows
        .par_chunks_exact_mut(dim)
        .enumerate()
        .with_min_len(64)
        .filter_map(|(row, values)| centre_row(side, row, values, mean).err())
        .min_by_key(BridgeError::row);
    error.map_or(Ok(()), Err)
}
