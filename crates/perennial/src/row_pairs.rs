//! Rows of two sets of embeddings that are of the same input.

use crate::exit_status::usage;
use crate::vector_argument::{Vectors, align, positions};

/// Which rows belong together.
pub struct RowPairs {
    /// The row of either side, ascending on the first; at least one.
    pub rows: Vec<[usize; 2]>,
    /// Whether they were matched by id, and not by their order.
    pub by_id: bool,
}

impl RowPairs {
    /// By id or row by row as asked for; otherwise by id where both sides have ids.
    ///
    /// # Errors
    /// No ids where they are needed, ids that are given twice, none in common; other numbers of rows, row by row.
    pub fn find(from: &Vectors, to: &Vectors, by_id: Option<bool>) -> anyhow::Result<Self> {
        let by_id = by_id.unwrap_or(from.ids.is_some() && to.ids.is_some());
        let rows: Vec<[usize; 2]> = if by_id {
            let (Some(from_ids), Some(to_ids)) = (&from.ids, &to.ids) else {
                let without = if from.ids.is_none() { from } else { to };
                return Err(usage(format!(
                    "{}: has no ids, which --match id needs; use --match row",
                    without.name
                )));
            };
            let places = positions(to, to_ids)?;
            positions(from, from_ids)?;
            (0..)
                .zip(from_ids)
                .filter_map(|(row, id)| Some([row, *places.get(id)?]))
                .collect()
        } else {
            if from.rows.len() != to.rows.len() {
                align(from, to)?;
                return Err(usage(format!(
                    "{} has {} rows and {} has {}; --match row needs as many in both",
                    from.name,
                    from.rows.len(),
                    to.name,
                    to.rows.len()
                )));
            }
            (0..from.rows.len()).map(|row| [row, row]).collect()
        };
        if rows.is_empty() {
            return Err(usage(format!(
                "{} and {} have no id in common",
                from.name, to.name
            )));
        }
        Ok(Self { rows, by_id })
    }
}
