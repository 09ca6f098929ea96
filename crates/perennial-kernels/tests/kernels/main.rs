//! The kernels against their formulas.

#![allow(clippy::unwrap_used)]

mod comparison;
mod edge_cases;
mod exactness;
mod squeeze_excite;
mod transformer;
