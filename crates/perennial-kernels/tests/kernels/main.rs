//! The kernels against their formulas.

#![allow(clippy::unwrap_used)]

mod comparison;
mod exactness;
mod squeeze_excite;
mod transformer;
