#![doc = include_str!("../README.md")]
//! # What is here
//!
//! - [`Bridge`], fitted by [`fit`] or, without common inputs, by [`fit_from_labels`]; [`Bridge::write`] stores it.
//!
//! # Geometry
//! `unit(x)` is `x / |x|`. A row is *centred* by `unit(unit(x) - m)`, where `m` is the mean of `unit(x)` over the fit set of its space. A
//! bridge centres a raw row of its `from` space, multiplies it by its matrix, and scales the result to unit length: a row in the *centred*
//! `to` space. An index of the `to` space is searched with it either as it is (stored unit vectors that cannot be changed:
//! [`Index::Raw`]), or after every stored vector has been centred as well ([`Bridge::centre_to`], [`Index::Centred`]).
//!
//! A bridge loses the detail that tells one item from its neighbours. Where the old encoder still runs, [`Bridge::dual`] keeps it: it adds
//! the old encoder's embedding of the query to the bridged one.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apply;
mod bridge;
mod bridge_toml;
mod centring;
mod error;
mod fit;
mod fit_inputs;
mod fold;
mod folder;
mod identity;
mod input_guard;
mod linear_algebra;
mod pairs;
mod product;
mod recipe;
mod record;
mod weights;
mod whitening;

pub use apply::Index;
pub use bridge::{Bridge, Part};
pub use centring::Centring;
pub use error::{BridgeError, Side};
pub use fit::{fit, fit_from_labels, fit_uncentred};
pub use fit_inputs::FitInputs;
pub use folder::{BRIDGE_FILE, WEIGHTS_FILE};
pub use pairs::{Labelled, Pairs};
pub use recipe::{Kind, Recipe};
pub use record::{FitRecord, Matching, Trial};
pub use whitening::Whitening;
