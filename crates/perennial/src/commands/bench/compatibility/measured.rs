//! What a test of routes found.

use perennial_upgrade::RouteResult;

use super::plan::RouteTest;

/// One test of routes and its results.
#[derive(Debug)]
pub struct Measured {
    /// What was asked for.
    pub test: RouteTest,
    /// How many images bridges were fitted on.
    pub fit_pairs: usize,
    /// The results.
    pub results: Vec<RouteResult>,
}
