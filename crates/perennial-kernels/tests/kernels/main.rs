//! The kernels against their formulas.

#![allow(clippy::unwrap_used)]

mod comparison;
mod edge_cases;
mod exactness;
#[path = "../../src/fewer_instructions.rs"]
mod fewer_instructions;
mod squeeze_excite;
mod transformer;
