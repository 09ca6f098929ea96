//! Keeps mapped rows up to date.
//!
//! A thread of its own maps what is new, a few rows at a time, and so does the one that keeps the graphs before these grow; the writer removes what is gone in the step in which it is gone. What
//! was stored a moment ago and is not mapped yet is mapped by the search itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::codes::Coding;
use super::mapped_rows::MappedRows;
use super::rows::{Row, Rows};
use super::state::{Shared, State};
use crate::mapped_index::VectorMap;

/// Rows mapped at a time: few enough that readers hardly notice when they are put in place.
const CHUNK: usize = 1024;
/// Rows that one thread maps at a time.
const BLOCK: usize = 128;

impl MappedRows {
    /// What is stored of the space from a row on, up to a limit of slots.
    pub(super) fn missing<'s>(&self, state: &'s State, from: u64, limit: usize) -> Missing<'s> {
        let mut missing = Missing {
            slots: 0..0,
            rows: None,
            space: 0,
        };
        let Some((space, partition)) = state.number_and_home(&self.index.space) else {
            return missing;
        };
        // A space of another dimension than the map's has the name of one that is gone.
        let rows = state.partitions.get(&partition);
        if let Some(rows) = rows.filter(|rows| rows.dim() == self.map().input_dim()) {
            let first = rows.first_slot_from(from);
            missing = Missing {
                slots: first..rows.slots().min(first.saturating_add(limit)),
                rows: Some(rows),
                space,
            };
        }
        missing
    }
}

/// Slots of a partition that an index has not looked at.
pub(super) struct Missing<'s> {
    pub(super) slots: std::ops::Range<usize>,
    rows: Option<&'s Rows>,
    /// The number of the space whose rows count.
    space: u32,
}

impl Missing<'_> {
    /// Copies of the live rows of the space, without codes.
    pub(super) fn copies(&self) -> Vec<Row> {
        let Some(rows) = self.rows else {
            return Vec::new();
        };
        let of_space = self.slots.clone().filter_map(|slot| {
            let (segment, at) = rows.place(slot);
            let counts = rows.alive().contains(slot) && segment.versions[at] == self.space;
            counts.then(|| Row {
                number: segment.numbers[at],
                version: segment.versions[at],
                label: segment.label(at),
                fingerprint: segment.fingerprints[at],
                vector: rows.vector(slot).to_vec(),
                codes: Vec::new(),
                coding: Coding::default(),
            })
        });
        of_space.collect()
    }

    /// Whether a row is there and alive, among those of the partition.
    pub(super) fn is_alive(&self, row: u64) -> bool {
        self.rows.is_some_and(|rows| {
            let slot = rows.slot(row);
            slot.is_some_and(|slot| rows.alive().contains(slot))
        })
    }

    /// The number behind the last of the slots.
    pub(super) fn end(&self, covered: u64) -> u64 {
        let last = self.slots.clone().next_back();
        match (self.rows, last) {
            (Some(rows), Some(last)) => rows.number(last) + 1,
            _ => covered,
        }
    }
}

/// Gives rows their mapped vectors, in parallel; without those that the map refuses, in the same order.
pub(super) fn mapped(map: &dyn VectorMap, rows: Vec<Row>, with_codes: bool) -> Vec<Row> {
    let of_block = |block: Vec<Row>| -> Vec<Row> {
        let vectors: Vec<f32> = block.iter().flat_map(|row| &row.vector).copied().collect();
        let each = block.into_iter().zip(map.map_each(&vectors));
        let with_vector = each.filter_map(|(mut row, vector)| {
            row.vector = vector?;
            if with_codes {
                row.encode();
            }
            Some(row)
        });
        with_vector.collect()
    };
    let mut blocks: Vec<Vec<Row>> = Vec::new();
    let mut rows = rows.into_iter();
    loop {
        let block: Vec<Row> = rows.by_ref().take(BLOCK).collect();
        if block.is_empty() {
            break;
        }
        blocks.push(block);
    }
    blocks.into_par_iter().flat_map_iter(of_block).collect()
}

/// Maps what the indexes lack, until nothing is missing or the gallery is being closed.
pub(super) fn catch_up(shared: &Shared, pool: &rayon::ThreadPool) {
    let indexes = shared.state().mapped.keys().copied().collect::<Vec<u32>>();
    for index in indexes {
        let mut more = true;
        while more && !shared.closing.load(Ordering::Acquire) {
            more = advance(shared, pool, index);
        }
    }
}

/// Maps the next rows of an index; whether there were any.
fn advance(shared: &Shared, pool: &rayon::ThreadPool, index: u32) -> bool {
    // The writer compacts these rows in turn with this.
    let _turn = shared.mapping_turn();
    let (copies, before, end, map) = {
        let state = shared.state();
        let Some(of_index) = state.mapped.get(&index) else {
            return false;
        };
        let missing = of_index.missing(&state, of_index.covered, CHUNK);
        if missing.slots.is_empty() {
            let news = !of_index.ready;
            drop(state);
            return news && !announce(shared, index);
        }
        let covered = of_index.covered;
        let map = Arc::clone(&of_index.index.map);
        (missing.copies(), covered, missing.end(covered), map)
    };
    let looked_at: Vec<u64> = copies.iter().map(|row| row.number).collect();
    let with_codes = shared.with_codes();
    let rows = pool.install(|| mapped(&*map, copies, with_codes));
    let centred = {
        let mut state = shared.state_mut();
        // In the same order as the rows, which are some of them.
        let still: Vec<u64> = looked_at
            .into_iter()
            .filter(|&number| state.is_alive(number))
            .collect();
        let Some(of_index) = state.mapped.get_mut(&index) else {
            return false;
        };
        // The gallery may have been restored or read anew meanwhile.
        if of_index.covered != before {
            return true;
        }
        let mut rows = rows.iter().peekable();
        for number in still {
            while rows.next_if(|row| row.number < number).is_some() {}
            match rows.next_if(|row| row.number == number) {
                Some(row) => of_index.rows.push(row),
                None => {
                    of_index.refused.insert(number);
                }
            }
        }
        of_index.covered = end;
        drop(state);
        let state = shared.state();
        state.mapped.get(&index).map(|one| one.rows.centred())
    };
    if let Some(centred) = centred.filter(|centred| !centred.is_empty())
        && let Some(of_index) = shared.state_mut().mapped.get_mut(&index)
    {
        of_index.rows.set_centred(centred);
    }
    true
}

/// Notes that an index has caught up for the first time; says whether it still has, since items may have been stored or restored meanwhile.
fn announce(shared: &Shared, index: u32) -> bool {
    let mut state = shared.state_mut();
    let lacks = |one: &MappedRows| !one.missing(&state, one.covered, 1).slots.is_empty();
    if state.mapped.get(&index).is_some_and(lacks) {
        return false;
    }
    if let Some(of_index) = state.mapped.get_mut(&index) {
        of_index.ready = true;
        let (items, refused) = (of_index.rows.live(), of_index.refused.len());
        let (space, memory_bytes) = (&of_index.index.space, of_index.rows.bytes());
        tracing::info!(%space, items, refused, memory_bytes, "an index of mapped vectors is built");
    }
    true
}

/// Drops the room of dead rows; the writer calls it, and nobody adds rows meanwhile.
pub(super) fn compact(shared: &Shared) {
    let wasteful = |state: &State| -> Vec<u32> {
        let indexes = state.mapped.iter();
        let wasteful = indexes.filter(|(_, one)| one.rows.is_wasteful());
        wasteful.map(|(&index, _)| index).collect()
    };
    if wasteful(&shared.state()).is_empty() {
        return;
    }
    let _turn = shared.mapping_turn();
    let indexes = wasteful(&shared.state());
    for index in indexes {
        let copy = {
            let state = shared.state();
            state.mapped.get(&index).map(|one| one.rows.compacted())
        };
        let Some(mut rows) = copy else {
            continue;
        };
        if let Some(of_index) = shared.state_mut().mapped.get_mut(&index) {
            std::mem::swap(&mut of_index.rows, &mut rows);
        }
        // What was there before goes here, while readers go on.
        drop(rows);
    }
}
