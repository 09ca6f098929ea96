//! A guard against applying a bridge in the wrong direction, for files that do not say what space they are of.

use crate::bridge::Bridge;
use crate::centring::mean_of_units;
use crate::error::{BridgeError, Side};
use crate::pairs::whole_rows;

/// Fewer rows say too little about their space's mean.
const LEAST_ROWS: usize = 32;
/// Means closer than this cannot be told apart by a mean of so few rows.
const LEAST_DISTANCE: f64 = 0.1;
/// Rows of the target are this much closer to the target's mean than to the source's. Rows of the source that are a narrow selection move away from
/// both means, and do not get there.
const FAR_CLOSER: f64 = 0.5;

impl Bridge {
    /// Looks at rows of an unnamed space of the right dimension: are they embeddings of the source, or of the target? Call it before
    /// [`apply`](Self::apply) where the file does not name its space.
    ///
    /// It compares the mean of the rows with both means of the fit, and says nothing with fewer than 32 rows, where the dimensions differ, or
    /// where the two means are alike: it catches the common mistake and proves nothing.
    ///
    /// **Shapes**: `rows` `[n, from_dim]`.
    ///
    /// # Errors
    /// [`BridgeError::WrongDirection`]; [`BridgeError::Rows`] for rows of another dimension.
    pub fn check_input(&self, rows: &[f32]) -> Result<(), BridgeError> {
        let dim = self.from.dim;
        let count = whole_rows(Side::From, rows, dim)?;
        let (Some(from_mean), Some(to_mean)) = (self.from_mean(), self.to_mean()) else {
            return Ok(());
        };
        if dim != self.to.dim || count < LEAST_ROWS {
            return Ok(());
        }
        let means = from_mean.iter().zip(to_mean);
        let apart = means
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum::<f64>()
            .sqrt();
        if apart < LEAST_DISTANCE {
            return Ok(());
        }
        // Rows without a direction make this mean NaN, which refuses nothing: applying the bridge names such a row.
        let mean = mean_of_units(rows, dim);
        let distance = |other: &[f32]| {
            let squares = mean
                .iter()
                .zip(other)
                .map(|(a, b)| (a - f64::from(*b)).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let (from_distance, to_distance) = (distance(from_mean), distance(to_mean));
        if to_distance < FAR_CLOSER * from_distance {
            return Err(BridgeError::WrongDirection {
                from: self.from.to_string(),
                to: self.to.to_string(),
                from_distance,
                to_distance,
            });
        }
        Ok(())
    }
}
