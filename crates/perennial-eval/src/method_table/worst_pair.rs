//! The pair of versions that goes together worst.

use serde::{Deserialize, Serialize};

/// The pair of versions of a run whose cross-test is furthest below the old self-test, or least above it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorstPair {
    /// Place of the query's version in the run, from 1.
    pub query: usize,
    /// Place of the gallery's version.
    pub gallery: usize,
    /// The cross-test less the old self-test, a difference of fractions.
    pub margin: f64,
}

impl WorstPair {
    /// The first pair with the smallest margin; none for one version.
    ///
    /// **Shapes.** `rows` is a lower triangle: row `t` has `t + 1` cells, the last of them the self-test.
    pub fn of(rows: &[Vec<f64>]) -> Option<Self> {
        let mut worst: Option<Self> = None;
        for (t, row) in rows.iter().enumerate() {
            for (k, cross) in row.iter().enumerate().take(t) {
                let Some(self_old) = rows[k].get(k) else {
                    continue;
                };
                let margin = cross - self_old;
                if worst.is_none_or(|worst| margin < worst.margin) {
                    worst = Some(Self {
                        query: t + 1,
                        gallery: k + 1,
                        margin,
                    });
                }
            }
        }
        worst
    }
}
