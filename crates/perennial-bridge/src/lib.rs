//! Maps between embedding spaces: an index that one encoder filled can be searched by another.
//!
//! A [`Bridge`] takes embeddings of one space and gives unit vectors in another. It is fitted on inputs that both encoders have embedded
//! ([`fit`]; no labels are needed, and the dimensions may differ), or, where no such inputs are left, on labelled embeddings of different
//! inputs ([`fit_from_labels`]). It is one-way, immutable, and a folder of two files ([`Bridge::write`]).
//!
//! ```
//! use perennial_bridge::{Bridge, Pairs, Recipe, fit};
//! use perennial_core::SpaceRef;
//!
//! // The same four inputs, embedded by the new encoder (2 dimensions) and by the old one (3 dimensions).
//! let new = [1.0, 0.0, 0.0, 1.0, -1.0, 0.1, 0.2, -1.0];
//! let old = [0.0, 2.0, 0.1, 2.0, 0.1, 0.0, 0.1, -2.0, 0.0, -2.0, 0.0, 0.2];
//! let pairs = Pairs::new(&new, 2, &old, 3)?;
//! let bridge = fit(&pairs, &Recipe::Orthogonal, SpaceRef::unnamed(2), SpaceRef::unnamed(3))?;
//! let mut queries = Vec::new();
//! bridge.apply(&[0.9, 0.1], &mut queries)?;
//! assert_eq!(queries.len(), 3);
//! # Ok::<(), perennial_bridge::BridgeError>(())
//! ```
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
