//! The conditions of a filter in the form in which many rows are compared with them, and the rows of a state that meet them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use perennial_core::SpaceId;

use super::record::Record;
use super::rows::{Rows, Segment, SlotSet};
use super::state::{Shared, State};
use super::tables::{Meta, Reader};
use crate::error::GalleryError;
use crate::filter::{Filter, Labels};
use crate::id_key::id_key;
use crate::payload::fingerprint;

/// The rows that a search may find; `None` for all slots.
pub(super) type Allowed<'a> = Option<Cow<'a, SlotSet>>;

/// A filter, and the spaces that are searched, prepared once for a request: lists of thousands of entries cost each row one look-up.
pub(super) struct Conditions<'a> {
    filter: &'a Filter,
    /// `None` for all.
    spaces: Option<HashSet<&'a str>>,
    versions: Option<HashSet<&'a str>>,
    labels: Option<Labels>,
    /// Bits that a payload has if it meets the condition on it.
    pairs: u64,
    ids: Option<Ids>,
}

/// The ids of a filter, and their rows as of the state in which they were looked up last.
struct Ids {
    keys: HashSet<Vec<u8>>,
    found: Option<(Meta, Vec<u64>)>,
}

impl Ids {
    fn look_up(&self, reader: &Reader) -> Result<Vec<u64>, GalleryError> {
        let rows = self.keys.iter().map(|key| reader.row(key));
        rows.filter_map(Result::transpose).collect()
    }
}

impl<'a> Conditions<'a> {
    pub(super) fn new(filter: &'a Filter, spaces: Option<&'a [SpaceId]>) -> Self {
        let versions = filter.model_versions.as_ref();
        let keys = |ids: &Vec<_>| ids.iter().map(id_key).collect();
        Self {
            filter,
            spaces: spaces.map(|spaces| spaces.iter().map(SpaceId::as_str).collect()),
            versions: versions.map(|versions| versions.iter().map(String::as_str).collect()),
            labels: filter.labels.as_ref().map(Labels::of),
            pairs: filter.payload.as_ref().map_or(0, fingerprint),
            ids: filter.ids.as_ref().map(|ids| Ids {
                keys: keys(ids),
                found: None,
            }),
        }
    }

    /// Looks ids up without holding the state. Where it has changed when it is asked for, they are looked up again, in pages that are in memory then.
    pub(super) fn look_ahead(&mut self, shared: &Shared) -> Result<(), GalleryError> {
        let Some(ids) = &mut self.ids else {
            return Ok(());
        };
        let (meta, reader) = {
            let state = shared.state();
            (state.meta, Arc::clone(state.reader()?))
        };
        ids.found = Some((meta, ids.look_up(&reader)?));
        Ok(())
    }

    /// Whether everything passes.
    pub(super) fn are_none(&self) -> bool {
        self.filter.is_empty() && self.spaces.is_none()
    }

    /// Whether there is a condition on the payload, which records alone decide.
    pub(super) fn read_records(&self) -> bool {
        self.filter.payload.is_some()
    }

    /// Whether a record meets the condition on the payload.
    pub(super) fn payload_passes(&self, record: &Record<'_>) -> Result<bool, String> {
        Ok(self.filter.payload.is_none() || self.filter.matches_payload(&record.payload()?))
    }

    /// Whether a record of a space meets all conditions.
    pub(super) fn record_passes(&self, record: &Record<'_>, space: &str) -> Result<bool, String> {
        let passes = self.id_passes(record.id_key)
            && self.label_passes(record.label)
            && self.space_passes(space);
        Ok(passes && self.payload_passes(record)?)
    }

    /// Whether an id, by its key, is one of those that are asked for.
    pub(super) fn id_passes(&self, key: &[u8]) -> bool {
        let ids = self.ids.as_ref();
        ids.is_none_or(|ids| ids.keys.contains(key))
    }

    fn label_passes(&self, label: Option<u32>) -> bool {
        let labels = self.labels.as_ref();
        labels.is_none_or(|labels| labels.contain(label))
    }

    fn space_passes(&self, name: &str) -> bool {
        let named =
            |names: &Option<HashSet<&str>>| names.as_ref().is_none_or(|names| names.contains(name));
        named(&self.spaces) && named(&self.versions)
    }

    /// The conditions as rows of a state are compared with them.
    pub(super) fn as_of(&mut self, state: &State) -> Result<Applied<'_>, GalleryError> {
        if let Some(ids) = &mut self.ids
            && ids
                .found
                .as_ref()
                .is_none_or(|(meta, _)| *meta != state.meta)
        {
            ids.found = Some((state.meta, ids.look_up(state.reader()?)?));
        }
        let of_ids = self.ids.as_ref();
        Ok(Applied {
            rows: of_ids.and_then(|ids| Some(&*ids.found.as_ref()?.1)),
            ..self.of_rows(state)
        })
    }

    /// The same for rows whose ids are compared elsewhere.
    pub(super) fn of_rows(&self, state: &State) -> Applied<'_> {
        let names = state.layout.names().iter();
        Applied {
            conditions: self,
            versions: names.map(|name| self.space_passes(name)).collect(),
            rows: None,
        }
    }
}

/// Conditions as of a state.
pub(super) struct Applied<'a> {
    pub(super) conditions: &'a Conditions<'a>,
    /// Whether spaces are searched and pass, by their number.
    versions: Vec<bool>,
    /// Of the ids that are asked for.
    rows: Option<&'a [u64]>,
}

impl Applied<'_> {
    /// Whether a row passes, as far as memory says.
    pub(super) fn passes(&self, segment: &Segment, row: usize) -> bool {
        let pairs = self.conditions.pairs;
        self.versions[segment.versions[row] as usize]
            && segment.fingerprints[row] & pairs == pairs
            && self.conditions.label_passes(segment.label(row))
    }

    /// The rows of a partition that may pass, without those that are known not to. The condition on the payload is only a fingerprint here:
    /// records decide.
    pub(super) fn allowed<'r>(
        &self,
        shared: &Shared,
        rows: &'r Rows,
        failed: &HashSet<u64>,
    ) -> Allowed<'r> {
        let filter = self.conditions.filter;
        let mut items = rows.per_version().iter().zip(&self.versions);
        if filter.is_empty() && items.all(|(&items, &passes)| passes || items == 0) {
            let all_alive = rows.live() == rows.slots();
            return (!all_alive).then(|| Cow::Borrowed(rows.alive()));
        }
        if filter.matches_nothing() {
            return Some(Cow::Owned(SlotSet::default()));
        }
        let passes = |segment: &Segment, row: usize| {
            self.passes(segment, row)
                && (failed.is_empty() || !failed.contains(&segment.numbers[row]))
        };
        let Some(of_ids) = self.rows else {
            return Some(Cow::Owned(shared.pool.install(|| rows.select(passes))));
        };
        let mut set = SlotSet::default();
        for slot in of_ids.iter().filter_map(|&row| rows.slot(row)) {
            let (segment, at) = rows.place(slot);
            if rows.alive().contains(slot) && passes(segment, at) {
                set.insert(slot);
            }
        }
        Some(Cow::Owned(set))
    }
}
