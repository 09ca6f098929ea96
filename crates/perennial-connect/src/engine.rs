//! What a migration needs of a database, and what both sides call things.
//!
//! The steps of a migration ([`migrate`](crate::migrate)) know neither SQL nor HTTP: they are written once, over five traits. Each database
//! implements them in a module of its own.

mod access;
mod batch;
mod copying;
mod id;
mod label_path;
mod looking;
mod migration;
mod pace;
mod patience;
mod searching;
mod showing;
mod standing;

pub(crate) use access::{Access, Engine, Target, required};
pub use batch::Skipped;
pub(crate) use batch::{Batch, Copies, batch_rows};
pub(crate) use copying::{Copying, Found, Which};
pub(crate) use id::{copies_name, shown};
pub(crate) use label_path::segments;
#[cfg(feature = "qdrant")]
pub(crate) use looking::IndexRow;
pub(crate) use looking::{Exported, Looking, Pair, Probe, Survey};
pub use looking::{IndexFacts, Rows};
pub(crate) use migration::{Migration, Origin, Progress};
pub(crate) use pace::Pace;
pub(crate) use patience::{PATIENCE, Patience, again};
pub(crate) use searching::{Nearest, Searched, Searching};
pub(crate) use showing::{Showing, Shown};
pub use standing::Standing;
