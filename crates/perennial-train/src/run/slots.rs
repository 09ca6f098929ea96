//! Which vertices a run's classes take, where the registry has allocated the vertices of the simplex.

use super::Run;
use crate::TrainError;
use crate::vertex_places::skipped_vertices;

impl Run<'_> {
    /// How many vertices at the back belong to others, so that the run's classes are placed below them.
    ///
    /// # Errors
    /// A slot that does not exist or is too small; vertices without a slot of their own that a slot has.
    pub(super) fn place_classes(&self) -> Result<usize, TrainError> {
        let Some(simplex) = self.config.method.simplex()? else {
            return match &self.config.slot {
                None => Ok(0),
                Some(_) => Err(TrainError::config(
                    "slot",
                    &format!(
                        "slots are of simplex vertices, and method.kind {} has none; remove it",
                        self.config.method.name()
                    ),
                )),
            };
        };
        let classes = self.scenario.classes_after(self.scenario.tasks().len() - 1);
        skipped_vertices(
            self.places.registry,
            simplex.vertices(),
            classes,
            self.vertex_end,
            self.config.slot.as_deref(),
        )
    }
}
