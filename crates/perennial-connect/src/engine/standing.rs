//! How copies stand to the rows that they were made from.

use serde::Serialize;

/// Counts of rows and copies, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Rows of the migrated table, or points of the migrated collection.
    pub rows: u64,
    /// Rows without a vector.
    pub without_vector: u64,
    /// Copies.
    pub copies: u64,
    /// Rows with a vector and without a copy.
    pub missing: u64,
    /// Rows that were written after their copy was made.
    pub changed: u64,
    /// Copies whose row is gone.
    pub orphaned: u64,
    /// Copies that the application wrote itself, for which it answers.
    pub written_by_application: u64,
}

impl Standing {
    /// Rows that have no copy, with or without a vector.
    pub fn uncopied(&self) -> u64 {
        (self.rows + self.orphaned).saturating_sub(self.copies)
    }

    /// Rows that need a new copy.
    pub fn pending(&self) -> u64 {
        self.missing + self.changed
    }
}
