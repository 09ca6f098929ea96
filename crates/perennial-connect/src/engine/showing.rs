//! What programs see: the old vectors or the new ones.

use std::time::Duration;

use super::access::Engine;
use super::migration::Migration;
use super::standing::Standing;
use crate::error::ConnectError;
use crate::qualified_name::QualifiedName;

/// Which vectors a view shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Old,
    New,
}

/// A session that counts copies, switches and removes them.
pub(crate) trait Showing: Engine {
    /// Whether programs write where the view leads. Then nothing is copied while it shows the copies, since the rows are no longer what counts,
    /// and writes of the moment of a switch are counted after it.
    const WRITES_FOLLOW: bool;

    /// Counts rows and copies.
    async fn standing(
        &mut self,
        migration: &Migration<Self::Key>,
    ) -> Result<Standing, ConnectError>;

    /// The view by its whole name.
    async fn placed(&self, view: &QualifiedName) -> Result<QualifiedName, ConnectError>;

    /// Checks that a view which no migration has switched yet may be.
    ///
    /// # Errors
    /// [`ConnectError::State`] if something else has its name.
    async fn check_view(
        &self,
        migration: &Migration<Self::Key>,
        view: &QualifiedName,
    ) -> Result<(), ConnectError>;

    /// Makes the view show old or new vectors, and notes it. Whoever reads the view sees the one or the other.
    async fn show(
        &mut self,
        migration: &Migration<Self::Key>,
        view: &QualifiedName,
        shown: Shown,
        lock_timeout: Duration,
    ) -> Result<(), ConnectError>;

    /// Removes the copies and what is noted about them.
    async fn remove(&mut self, migration: &Migration<Self::Key>) -> Result<(), ConnectError>;
}
