//! Which values the keys have that a configuration leaves out.

use serde::{Deserialize, Serialize};

/// Which values keys have that a configuration of tasks leaves out, where a method measures better with others than the published ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// Those that measured best on validation images, which no test set shares: [`Objective::best`](crate::objective::Objective::best).
    #[default]
    Best,
    /// The published ones.
    Parity,
}
