//! Copies that a bridge maps: every row once, then those that came or changed meanwhile.

use super::pass::Passes;
use super::run_request::Done;
use crate::engine::Copying;
use crate::error::ConnectError;
use crate::observer::Observer;

/// A table that is written all the time always has late rows; what is left after so many passes is left to the next run.
const LATE_PASSES: usize = 3;

/// Copies what there is to copy.
pub(super) async fn run_mapped<E: Copying>(
    engine: &mut E,
    passes: &Passes<'_, E::Key>,
    observer: &mut dyn Observer,
    done: &mut Done,
) -> Result<(), ConnectError> {
    if !passes.migration.first_pass_done {
        passes.first(engine, observer, done).await?;
    }
    for _ in 0..LATE_PASSES {
        let removed = engine.remove_gone(passes.migration, observer).await?;
        done.removed += removed;
        let late = passes.late(engine, observer, done).await?;
        if removed + late == 0 {
            break;
        }
    }
    Ok(())
}
