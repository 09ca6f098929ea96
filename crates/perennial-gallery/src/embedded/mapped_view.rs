//! What a search by mapped vectors goes through: the rows of an index, and those that it lacks at that moment, which the search maps itself. As long as an
//! index is being built these are many, so a few at a time are copied under the state and mapped without it: no writer waits for that.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLockReadGuard};

use perennial_core::SpaceId;

use super::mapped_rows::MappedRows;
use super::mapping::mapped;
use super::rows::Rows;
use super::state::{RowsId, Shared, State};

/// Rows that are copied at a time while the state is held, and as many as are mapped meanwhile at most, unless more and more are stored.
const PIECE: usize = 1024;
/// How often a search lets go of the state again, since too many rows were stored since it mapped the others.
const ATTEMPTS: usize = 3;

/// What a search has mapped that indexes lack, by their number. Rows never change and their numbers are never used again, so what is mapped once stays so.
#[derive(Default)]
pub(super) struct Ahead(BTreeMap<u32, Lacking>);

/// What an index lacks.
struct Lacking {
    /// Rows from this number on were looked at.
    from: u64,
    /// Up to this one.
    to: u64,
    /// Those of the index's space that its map does not refuse.
    rows: Rows,
}

/// The rows of an index, and those that it lacks.
pub(super) struct MappedView<'s> {
    pub(super) id: RowsId,
    pub(super) rows: &'s Rows,
    pub(super) rest: &'s Rows,
}

impl Lacking {
    fn of(index: &MappedRows) -> Self {
        Self {
            from: index.covered,
            to: index.covered,
            rows: Rows::new(index.rows.dim(), false),
        }
    }

    /// Begins anew where the index is beyond this, or has no rows any more.
    fn follow(&mut self, index: &MappedRows) {
        if !(self.from..=self.to).contains(&index.covered) {
            *self = Self::of(index);
        }
    }

    /// Maps what is still missing, and takes out what is not missing or not there any more.
    fn settle(&mut self, shared: &Shared, state: &State, index: &MappedRows) {
        self.follow(index);
        let missing = index.missing(state, self.to, usize::MAX);
        let copies = missing.copies();
        if !copies.is_empty() {
            let rows = shared.pool.install(|| mapped(index.map(), copies, false));
            rows.iter().for_each(|row| self.rows.push(row));
        }
        self.to = missing.end(self.to);
        let is_missing = |number: u64| number >= index.covered && missing.is_alive(number);
        let slots = self.rows.alive().iter();
        let numbers = slots.map(|slot| self.rows.number(slot));
        let gone: Vec<u64> = numbers.filter(|&number| !is_missing(number)).collect();
        for number in gone {
            self.rows.remove(number);
        }
    }
}

impl Ahead {
    /// Maps what the indexes of some spaces lack by the map of a key, and gives the state in which nothing else is missing. A space without such an
    /// index is left out.
    pub(super) fn hold<'s>(
        &mut self,
        shared: &'s Shared,
        spaces: &[SpaceId],
        key: &str,
    ) -> RwLockReadGuard<'s, State> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            let until = shared.state().meta.next_row;
            for space in spaces {
                while self.advance(shared, space, key, until) {}
            }
            let state = shared.state();
            let indexes = || spaces.iter().filter_map(|space| kept(&state, space, key));
            let missing = indexes().map(|(id, index)| self.missing(&state, id, index));
            if missing.max().unwrap_or(0) > PIECE && attempts.next().is_some() {
                continue;
            }
            for (id, index) in indexes() {
                let lacking = self.0.entry(id).or_insert_with(|| Lacking::of(index));
                lacking.settle(shared, &state, index);
            }
            return state;
        }
    }

    /// Maps the next rows of an index; whether there may be more below a number.
    fn advance(&mut self, shared: &Shared, space: &SpaceId, key: &str, until: u64) -> bool {
        let (lacking, copies, end, map) = {
            let state = shared.state();
            let Some((id, index)) = kept(&state, space, key) else {
                return false;
            };
            let lacking = self.0.entry(id).or_insert_with(|| Lacking::of(index));
            lacking.follow(index);
            let missing = index.missing(&state, lacking.to, PIECE);
            if missing.slots.is_empty() {
                return false;
            }
            let end = missing.end(lacking.to);
            (lacking, missing.copies(), end, Arc::clone(&index.index.map))
        };
        let rows = shared.pool.install(|| mapped(&*map, copies, false));
        rows.iter().for_each(|row| lacking.rows.push(row));
        lacking.to = end;
        end < until
    }

    /// Slots of an index that nobody has looked at.
    fn missing(&self, state: &State, id: u32, index: &MappedRows) -> usize {
        let looked_at = self.0.get(&id).filter(|one| {
            let known = one.from..=one.to;
            known.contains(&index.covered)
        });
        let from = looked_at.map_or(index.covered, |one| one.to);
        index.missing(state, from, usize::MAX).slots.len()
    }

    /// The rows of a space by the map of a key, after [`hold`](Self::hold) gave this state; nothing where that index is not kept.
    pub(super) fn view<'s>(
        &'s self,
        state: &'s State,
        space: &SpaceId,
        key: &str,
    ) -> Option<MappedView<'s>> {
        let (id, index) = kept(state, space, key)?;
        Some(MappedView {
            id: RowsId::Mapped(id),
            rows: &index.rows,
            rest: &self.0.get(&id)?.rows,
        })
    }
}

/// The index of a space by the map of a key, and its number.
fn kept<'s>(state: &'s State, space: &SpaceId, key: &str) -> Option<(u32, &'s MappedRows)> {
    let mut indexes = state.mapped.iter();
    let (&id, index) = indexes.find(|(_, one)| one.index.is(space, key))?;
    Some((id, index))
}
