//! All vectors in memory, by slot; every search reads them.
//!
//! A slot is a position and changes with compaction; a row number never changes. Rows come in the order of their numbers, so a
//! row is found by its number without a table.

use std::ops::Range;

use rayon::prelude::*;

use super::codes::{CodedRows, Coding, encode};

/// f32 values per segment: 8 MiB, so that growing one moves little and a scan has enough to do.
const SEGMENT_VALUES: usize = 1 << 21;
/// Segments are never shorter or longer than this.
const SEGMENT_ROWS: (usize, usize) = (64, 4096);

/// One row on its way into memory.
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) version: u32,
    pub(super) label: Option<u32>,
    pub(super) fingerprint: u64,
    pub(super) vector: Vec<f32>,
    /// Empty where all vectors are compared in f32.
    pub(super) codes: Vec<i8>,
    pub(super) coding: Coding,
}

impl Row {
    fn properties(&self) -> Properties {
        Properties {
            number: self.number,
            version: self.version,
            label: self.label,
            fingerprint: self.fingerprint,
        }
    }

    /// Computes the codes of a row that has only a vector: work that must not happen while readers wait.
    pub(super) fn encode(&mut self) {
        self.codes.clear();
        self.coding = encode(&self.vector, &[], &mut self.codes);
    }
}

/// What is known of a row beside its vector.
#[derive(Debug, Clone, Copy)]
pub(super) struct Properties {
    pub(super) number: u64,
    pub(super) version: u32,
    pub(super) label: Option<u32>,
    pub(super) fingerprint: u64,
}

/// Bytes of a row's number, version, label, whether it has one, and fingerprint.
const PROPERTIES: usize = 8 + 4 + 4 + 1 + 8;

/// Some thousand rows, property by property.
#[derive(Default)]
pub(super) struct Segment {
    /// `[rows, dim]`
    pub(super) vectors: Vec<f32>,
    /// Empty where all vectors are compared in f32.
    pub(super) coded: CodedRows,
    pub(super) numbers: Vec<u64>,
    pub(super) versions: Vec<u32>,
    labels: Vec<u32>,
    has_label: Vec<bool>,
    pub(super) fingerprints: Vec<u64>,
}

impl Segment {
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn label(&self, row: usize) -> Option<u32> {
        self.has_label[row].then_some(self.labels[row])
    }

    /// Values of a row; there is at least one row.
    pub(super) fn dim(&self) -> usize {
        self.vectors.len() / self.len()
    }

    /// Length of the longest vector.
    pub(super) fn longest(&self) -> f32 {
        let squares = self
            .vectors
            .chunks_exact(self.dim())
            .map(|v| perennial_core::dot(v, v));
        squares.fold(0.0, f32::max).sqrt()
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.vectors) + self.coded.bytes() + self.len() * PROPERTIES
    }

    /// Room for so many more rows of a dimension, without codes.
    pub(super) fn reserve(&mut self, rows: usize, dim: usize) {
        self.vectors.reserve_exact(rows * dim);
        self.numbers.reserve_exact(rows);
        self.versions.reserve_exact(rows);
        self.labels.reserve_exact(rows);
        self.has_label.reserve_exact(rows);
        self.fingerprints.reserve_exact(rows);
    }

    /// Adds a row without codes.
    pub(super) fn push(&mut self, row: Properties, vector: impl Iterator<Item = f32>) {
        self.vectors.extend(vector);
        self.numbers.push(row.number);
        self.versions.push(row.version);
        self.labels.push(row.label.unwrap_or(0));
        self.has_label.push(row.label.is_some());
        self.fingerprints.push(row.fingerprint);
    }

    /// Adds rows of another segment, without codes.
    pub(super) fn extend(&mut self, other: &Self, rows: Range<usize>) {
        let dim = other.dim();
        let values = rows.start * dim..rows.end * dim;
        self.vectors.extend_from_slice(&other.vectors[values]);
        self.numbers.extend_from_slice(&other.numbers[rows.clone()]);
        self.versions
            .extend_from_slice(&other.versions[rows.clone()]);
        self.labels.extend_from_slice(&other.labels[rows.clone()]);
        self.has_label
            .extend_from_slice(&other.has_label[rows.clone()]);
        self.fingerprints
            .extend_from_slice(&other.fingerprints[rows]);
    }

    /// Computes the codes of all rows. A full segment, which stays as it is, has them around its mean.
    pub(super) fn encode(&mut self, segment_rows: usize) {
        let dim = self.dim();
        self.coded = match self.len() == segment_rows {
            true => CodedRows::around_mean(&self.vectors, dim),
            false => CodedRows::around_origin(&self.vectors, dim),
        };
    }
}

/// A set of slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SlotSet {
    words: Vec<u64>,
    count: usize,
}

impl SlotSet {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The slots from one on, in number.
    pub(super) fn count_from(&self, slot: usize) -> usize {
        let Some((first, rest)) = self.words.get(slot / 64..).and_then(<[u64]>::split_first) else {
            return 0;
        };
        let words = std::iter::once(first >> (slot % 64)).chain(rest.iter().copied());
        words.map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn contains(&self, slot: usize) -> bool {
        self.words
            .get(slot / 64)
            .is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    pub(super) fn insert(&mut self, slot: usize) {
        if self.words.len() <= slot / 64 {
            self.words.resize(slot / 64 + 1, 0);
        }
        let bit = 1u64 << (slot % 64);
        self.count += usize::from(self.words[slot / 64] & bit == 0);
        self.words[slot / 64] |= bit;
    }

    /// All slots below a number.
    fn all(count: usize) -> Self {
        let mut words = vec![u64::MAX; count / 64];
        if !count.is_multiple_of(64) {
            words.push((1 << (count % 64)) - 1);
        }
        Self { words, count }
    }

    fn remove(&mut self, slot: usize) -> bool {
        if !self.contains(slot) {
            return false;
        }
        self.words[slot / 64] &= !(1u64 << (slot % 64));
        self.count -= 1;
        true
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let of_word = |(at, &word): (usize, &u64)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest.wrapping_sub(1);
                (bit < 64).then_some(at * 64 + bit)
            })
        };
        self.words.iter().enumerate().flat_map(of_word)
    }
}

/// All rows of a gallery.
pub(super) struct Rows {
    dim: usize,
    with_codes: bool,
    /// A power of two.
    segment_rows: usize,
    segments: Vec<Segment>,
    length: usize,
    alive: SlotSet,
    /// Live rows by version number.
    per_version: Vec<u64>,
}

impl Rows {
    pub(super) fn new(dim: usize, with_codes: bool) -> Self {
        Self {
            dim,
            with_codes,
            segment_rows: rows_of_a_segment(dim),
            segments: Vec::new(),
            length: 0,
            alive: SlotSet::default(),
            per_version: Vec::new(),
        }
    }

    /// Rows in segments that are full, all but the last one, and have their codes where codes are wanted.
    pub(super) fn of_segments(dim: usize, with_codes: bool, segments: Vec<Segment>) -> Self {
        let mut rows = Self::new(dim, with_codes);
        rows.length = segments.iter().map(Segment::len).sum();
        rows.alive = SlotSet::all(rows.length);
        for &version in segments.iter().flat_map(|segment| &segment.versions) {
            rows.count_version(version);
        }
        rows.segments = segments;
        rows
    }

    /// Leaves no rows, and gives back those that there were: much memory, to be let go when no reader waits.
    pub(super) fn replace_by_none(&mut self) -> Self {
        let none = Self::new(self.dim, self.with_codes);
        std::mem::replace(self, none)
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// Whether rows have codes beside their vectors.
    pub(super) fn with_codes(&self) -> bool {
        self.with_codes
    }

    /// Slots in use, those of dead rows included.
    pub(super) fn slots(&self) -> usize {
        self.length
    }

    pub(super) fn live(&self) -> usize {
        self.alive.count()
    }

    pub(super) fn alive(&self) -> &SlotSet {
        &self.alive
    }

    pub(super) fn per_version(&self) -> &[u64] {
        &self.per_version
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(super) fn segment_rows(&self) -> usize {
        self.segment_rows
    }

    pub(super) fn place(&self, slot: usize) -> (&Segment, usize) {
        (
            &self.segments[slot / self.segment_rows],
            slot % self.segment_rows,
        )
    }

    pub(super) fn vector(&self, slot: usize) -> &[f32] {
        let (segment, row) = self.place(slot);
        &segment.vectors[row * self.dim..(row + 1) * self.dim]
    }

    pub(super) fn number(&self, slot: usize) -> u64 {
        let (segment, row) = self.place(slot);
        segment.numbers[row]
    }

    /// Adds a row behind all others; its number is larger than theirs.
    pub(super) fn push(&mut self, row: &Row) {
        self.push_uncoded(row.properties(), &row.vector);
        if let Some(segment) = self.segments.last_mut().filter(|_| self.with_codes) {
            debug_assert_eq!(row.codes.len(), self.dim);
            segment.coded.push(&row.codes, row.coding);
        }
    }

    /// The same without codes, which are computed for many rows at once.
    fn push_uncoded(&mut self, properties: Properties, vector: &[f32]) {
        debug_assert_eq!(vector.len(), self.dim);
        if self
            .segments
            .last()
            .is_none_or(|s| s.len() == self.segment_rows)
        {
            self.segments.push(Segment::default());
        }
        let Some(segment) = self.segments.last_mut() else {
            return;
        };
        segment.push(properties, vector.iter().copied());
        self.alive.insert(self.length);
        self.length += 1;
        self.count_version(properties.version);
    }

    fn count_version(&mut self, version: u32) {
        let version = version as usize;
        if self.per_version.len() <= version {
            self.per_version.resize(version + 1, 0);
        }
        self.per_version[version] += 1;
    }

    /// Marks a row as dead; says whether it was alive.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let Some(slot) = self.slot(number) else {
            return false;
        };
        if !self.alive.remove(slot) {
            return false;
        }
        let (segment, row) = self.place(slot);
        let version = segment.versions[row] as usize;
        self.per_version[version] -= 1;
        true
    }

    /// Where a row is.
    pub(super) fn slot(&self, number: u64) -> Option<usize> {
        // Without gaps, a number says its slot. Otherwise the slot is at most there, and a search finds it.
        let first = self.segments.first()?.numbers.first()?;
        let offset = usize::try_from(number.checked_sub(*first)?).ok();
        if let Some(offset) = offset.filter(|&offset| offset < self.length)
            && self.number(offset) == number
        {
            return Some(offset);
        }
        let segment = self
            .segments
            .partition_point(|s| s.numbers.first().is_some_and(|&n| n <= number))
            .checked_sub(1)?;
        let row = self.segments[segment].numbers.binary_search(&number).ok()?;
        Some(segment * self.segment_rows + row)
    }

    /// The first slot whose row number is at least `number`.
    pub(super) fn first_slot_from(&self, number: u64) -> usize {
        let segment = self
            .segments
            .partition_point(|s| s.numbers.last().is_some_and(|&n| n < number));
        self.segments.get(segment).map_or(self.length, |s| {
            segment * self.segment_rows + s.numbers.partition_point(|&n| n < number)
        })
    }

    /// Whether dead rows take so much room that a copy without them pays.
    pub(super) fn is_wasteful(&self) -> bool {
        let dead = self.length - self.live();
        dead > self.segment_rows && dead > self.length / 4
    }

    /// A copy of the live rows.
    pub(super) fn compacted(&self) -> Self {
        let mut rows = Self::new(self.dim, self.with_codes);
        for slot in self.alive.iter() {
            let (segment, row) = self.place(slot);
            let properties = Properties {
                number: segment.numbers[row],
                version: segment.versions[row],
                label: segment.label(row),
                fingerprint: segment.fingerprints[row],
            };
            rows.push_uncoded(properties, self.vector(slot));
        }
        // On this thread alone: a reader's lock is held.
        if rows.with_codes {
            let full = rows.segment_rows;
            rows.segments
                .iter_mut()
                .for_each(|segment| segment.encode(full));
        }
        rows
    }

    /// Codes around their centres for the segments that are full since they were asked for last: narrow bounds, but work that must
    /// not happen while readers wait.
    pub(super) fn centred(&self) -> Vec<(usize, CodedRows)> {
        let due = |(at, segment): (usize, &Segment)| {
            let due = self.with_codes
                && segment.len() == self.segment_rows
                && !segment.coded.is_centred();
            due.then(|| (at, CodedRows::around_mean(&segment.vectors, self.dim)))
        };
        self.segments.iter().enumerate().filter_map(due).collect()
    }

    /// Puts those codes in place.
    pub(super) fn set_centred(&mut self, centred: Vec<(usize, CodedRows)>) {
        for (at, coded) in centred {
            self.segments[at].coded = coded;
        }
    }

    /// The live rows that pass, chosen in parallel.
    pub(super) fn select(&self, passes: impl Fn(&Segment, usize) -> bool + Sync) -> SlotSet {
        let words_of = |(at, segment): (usize, &Segment)| -> Vec<u64> {
            let first = at * self.segment_rows;
            let word = |from: usize| {
                (from..segment.len().min(from + 64))
                    .filter(|&row| self.alive.contains(first + row) && passes(segment, row))
                    .fold(0u64, |word, row| word | 1 << (row - from))
            };
            (0..segment.len()).step_by(64).map(word).collect()
        };
        // Segments are whole numbers of words long, all but the last one.
        let words: Vec<Vec<u64>> = self.segments.par_iter().enumerate().map(words_of).collect();
        let words = words.concat();
        let count = words.iter().map(|word| word.count_ones() as usize).sum();
        SlotSet { words, count }
    }

    /// What one row takes of that, but for what rows share.
    pub(super) fn row_bytes(dim: usize, with_codes: bool) -> usize {
        let codes = if with_codes {
            dim + size_of::<Coding>()
        } else {
            0
        };
        dim * size_of::<f32>() + codes + PROPERTIES
    }

    /// Memory in use.
    pub(super) fn bytes(&self) -> usize {
        self.segments.iter().map(Segment::bytes).sum::<usize>() + 8 * self.alive.words.len()
    }
}

/// Rows of a full segment, a power of two.
pub(super) fn rows_of_a_segment(dim: usize) -> usize {
    let rows = (SEGMENT_VALUES / dim.max(1)).clamp(SEGMENT_ROWS.0, SEGMENT_ROWS.1);
    1 << rows.ilog2()
}

#[cfg(test)]
mod tests;
