//! Reads the rows of all partitions from the database, on several threads.
//!
//! Row numbers are divided into stretches. Threads take one after the other, check its records, and gather its rows by partition. A segment is put together
//! once all stretches up to its end are there, by the thread that brought the last one. Where no number is missing, every stretch of a single
//! partition is a segment, and nothing is copied again. Which thread was faster makes no difference to the result.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::sync::{Arc, Mutex, PoisonError};

use super::layout::Layout;
use super::pieces;
use super::record::Record;
use super::rows::{Properties, Rows, Segment, rows_of_a_segment};
use super::space::Space;
use super::tables::{Meta, Reader};
use crate::error::GalleryError;
use crate::payload::fingerprint;

/// What a database holds.
pub(super) struct Loaded {
    /// By the partition's number.
    pub(super) partitions: BTreeMap<u32, Rows>,
    pub(super) space: Space,
}

/// Reads all rows and checks each of them.
///
/// # Errors
/// Where a row is damaged or at odds with the layout, the first such row's; and [`GalleryError::Full`].
pub(super) fn load(
    reader: &Reader,
    layout: &Layout,
    meta: &Meta,
    with_codes: bool,
    threads: usize,
) -> Result<Loaded, GalleryError> {
    let items = reader.items()?;
    if items >= u64::from(u32::MAX) {
        return Err(GalleryError::Full);
    }
    let loading = Loading::new(reader, layout, meta, with_codes);
    let stretches = Stretches::of(reader, items, loading.fewest_rows())?;
    let order = Mutex::new(Order::new(&loading.partitions));
    let piece = |made: &mut Made, at: usize| {
        let gathered = loading.gather(stretches.numbers(at), stretches.rows, made)?;
        let due = {
            let mut order = order.lock().unwrap_or_else(PoisonError::into_inner);
            order.arrive(at, gathered)
        };
        made.segments
            .extend(due.into_iter().map(|due| loading.assemble(due)));
        Ok(())
    };
    let made = pieces::work(threads, stretches.count, Made::default, piece);
    let made = made.map_err(|errors| reader.cause(errors))?;
    let rest = order.into_inner().unwrap_or_else(PoisonError::into_inner);
    loading.loaded(made, rest.rest(), items)
}

/// The row numbers that are read at a time.
struct Stretches {
    first: u64,
    last: u64,
    /// Numbers of a stretch.
    width: u64,
    /// Rows of a stretch if they are spread evenly.
    rows: usize,
    count: usize,
}

impl Stretches {
    fn of(reader: &Reader, items: u64, rows: usize) -> Result<Self, GalleryError> {
        let Some((first, last)) = reader.ends()? else {
            return Ok(Self {
                first: 0,
                last: 0,
                width: 1,
                rows: 0,
                count: 0,
            });
        };
        let between = last.saturating_sub(first);
        let numbers = u128::from(between) + 1;
        let width = (numbers * rows as u128).div_ceil(u128::from(items.max(1)));
        let width = u64::try_from(width.max(1)).unwrap_or(u64::MAX);
        Ok(Self {
            first,
            last,
            width,
            rows: rows.min(items as usize),
            count: (between / width) as usize + 1,
        })
    }

    fn numbers(&self, at: usize) -> RangeInclusive<u64> {
        let start = self.first + at as u64 * self.width;
        start..=self.last.min(start.saturating_add(self.width - 1))
    }
}

/// What one thread made.
#[derive(Default)]
struct Made {
    items: u64,
    space: Space,
    segments: Vec<Assembled>,
}

struct Loading<'a> {
    reader: &'a Reader,
    meta: &'a Meta,
    with_codes: bool,
    /// Number and dimension.
    partitions: Vec<(u32, usize)>,
    /// The place of a space's partition among these, by the space's number.
    homes: Vec<Option<usize>>,
}

impl<'a> Loading<'a> {
    fn new(reader: &'a Reader, layout: &Layout, meta: &'a Meta, with_codes: bool) -> Self {
        let shapes = layout.partitions().iter();
        let partitions: Vec<(u32, usize)> = shapes
            .map(|(&number, shape)| (number, shape.dim()))
            .collect();
        let home = |space: usize| {
            let (home, _) = layout.home(space as u32)?;
            partitions.iter().position(|(number, _)| *number == home)
        };
        Self {
            reader,
            meta,
            with_codes,
            homes: (0..layout.names().len()).map(home).collect(),
            partitions,
        }
    }

    /// Rows of a full segment, of the partition that has the fewest.
    fn fewest_rows(&self) -> usize {
        let rows = |(_, dim): &(u32, usize)| rows_of_a_segment(*dim);
        self.partitions.iter().map(rows).min().unwrap_or(1)
    }

    /// The rows of a stretch by partition; there are about `stretch`.
    fn gather(
        &self,
        numbers: RangeInclusive<u64>,
        stretch: usize,
        made: &mut Made,
    ) -> Result<Vec<Segment>, GalleryError> {
        let mut gathered = Vec::new();
        gathered.resize_with(self.partitions.len(), Segment::default);
        let mut last = None;
        self.reader.for_each_in(numbers, |number, bytes, record| {
            if last.is_some_and(|last| number <= last) {
                return Err(self.problem(number, "is not in its place"));
            }
            last = Some(number);
            made.items += 1;
            made.space.add(bytes.len(), record.id_key.len());
            self.push(&mut gathered, stretch, number, &record)
        })?;
        Ok(gathered)
    }

    fn push(
        &self,
        gathered: &mut [Segment],
        stretch: usize,
        number: u64,
        record: &Record<'_>,
    ) -> Result<(), GalleryError> {
        let home = self.homes.get(record.version as usize).copied().flatten();
        let Some(home) = home else {
            let problem = format!("has the unknown space {}", record.version);
            return Err(self.problem(number, problem));
        };
        let dim = self.partitions[home].1;
        if record.dim() != dim {
            let problem = format!("has {} dimensions, not {dim}", record.dim());
            return Err(self.problem(number, problem));
        }
        if number >= self.meta.next_row {
            return Err(self.problem(number, "has a number beyond the counter of rows"));
        }
        let payload = record
            .payload()
            .map_err(|problem| self.reader.corrupt(format!("row {number}: {problem}")))?;
        let rows = &mut gathered[home];
        // Of several partitions, one may have a row in each stretch, all of which wait for its segment to be full.
        if rows.len() == 0 && self.partitions.len() == 1 {
            rows.reserve(stretch, dim);
        }
        let properties = Properties {
            number,
            version: record.version,
            label: record.label,
            fingerprint: fingerprint(&payload),
        };
        rows.push(properties, record.embedding());
        Ok(())
    }

    fn problem(&self, number: u64, problem: impl std::fmt::Display) -> GalleryError {
        self.reader.corrupt(format!("row {number} {problem}"))
    }

    /// A segment from its parts, with codes.
    fn assemble(&self, due: Due) -> Assembled {
        let (_, dim) = self.partitions[due.partition];
        let mut segment = joined(due.parts, dim);
        if self.with_codes {
            segment.encode(rows_of_a_segment(dim));
        }
        Assembled {
            partition: due.partition,
            at: due.at,
            segment,
        }
    }

    fn loaded(&self, made: Vec<Made>, rest: Vec<Due>, items: u64) -> Result<Loaded, GalleryError> {
        let found: u64 = made.iter().map(|made| made.items).sum();
        if found != items {
            let problem = format!("it has {items} items, of which {found} are found");
            return Err(self.reader.corrupt(problem));
        }
        let mut space = Space::default();
        let mut all: Vec<Assembled> = rest.into_iter().map(|due| self.assemble(due)).collect();
        for one in made {
            space.add_all(one.space);
            all.extend(one.segments);
        }
        all.sort_by_key(|one| one.at);
        let mut segments = Vec::new();
        segments.resize_with(self.partitions.len(), Vec::new);
        for one in all {
            segments[one.partition].push(one.segment);
        }
        let partitions = self.partitions.iter().zip(segments);
        let rows = |(&(number, dim), segments)| {
            (number, Rows::of_segments(dim, self.with_codes, segments))
        };
        Ok(Loaded {
            partitions: partitions.map(rows).collect(),
            space,
        })
    }
}

/// Rows of a stretch that belong to one segment.
struct Part {
    of: Arc<Segment>,
    rows: Range<usize>,
}

/// A segment whose rows are all there.
struct Due {
    /// Its place among the partitions.
    partition: usize,
    /// Its place among the segments.
    at: usize,
    parts: Vec<Part>,
}

struct Assembled {
    partition: usize,
    at: usize,
    segment: Segment,
}

/// Brings stretches into their order and cuts them where segments end.
struct Order {
    /// The stretch whose turn is next.
    next: usize,
    /// Those that came before their turn.
    early: BTreeMap<usize, Vec<Segment>>,
    partitions: Vec<Open>,
}

/// The segment of a partition that is not full yet.
struct Open {
    segment_rows: usize,
    at: usize,
    parts: Vec<Part>,
    rows: usize,
}

impl Order {
    fn new(partitions: &[(u32, usize)]) -> Self {
        let open = |(_, dim): &(u32, usize)| Open {
            segment_rows: rows_of_a_segment(*dim),
            at: 0,
            parts: Vec::new(),
            rows: 0,
        };
        Self {
            next: 0,
            early: BTreeMap::new(),
            partitions: partitions.iter().map(open).collect(),
        }
    }

    /// Takes the rows of a stretch, and gives the segments that are full now.
    fn arrive(&mut self, at: usize, gathered: Vec<Segment>) -> Vec<Due> {
        let mut due = Vec::new();
        self.early.insert(at, gathered);
        while let Some(gathered) = self.early.remove(&self.next) {
            self.next += 1;
            for (partition, segment) in gathered.into_iter().enumerate() {
                self.partitions[partition].add(partition, segment, &mut due);
            }
        }
        due
    }

    /// The last segment of each partition, if there is one that is not full.
    fn rest(self) -> Vec<Due> {
        let partitions = self.partitions.into_iter().enumerate();
        let open = partitions.filter(|(_, open)| open.rows > 0);
        open.map(|(partition, open)| Due {
            partition,
            at: open.at,
            parts: open.parts,
        })
        .collect()
    }
}

impl Open {
    fn add(&mut self, partition: usize, segment: Segment, due: &mut Vec<Due>) {
        let (of, mut from) = (Arc::new(segment), 0);
        while from < of.len() {
            let to = of.len().min(from + self.segment_rows - self.rows);
            self.rows += to - from;
            self.parts.push(Part {
                of: Arc::clone(&of),
                rows: from..to,
            });
            from = to;
            if self.rows == self.segment_rows {
                due.push(Due {
                    partition,
                    at: self.at,
                    parts: std::mem::take(&mut self.parts),
                });
                self.at += 1;
                self.rows = 0;
            }
        }
    }
}

/// The rows of all parts; a part that is a whole stretch stays where it is.
fn joined(mut parts: Vec<Part>, dim: usize) -> Segment {
    if let [part] = &*parts
        && part.rows.len() == part.of.len()
        && let Some(part) = parts.pop()
    {
        match Arc::try_unwrap(part.of) {
            Ok(segment) => return segment,
            Err(of) => parts.push(Part {
                rows: 0..of.len(),
                of,
            }),
        }
    }
    let mut segment = Segment::default();
    segment.reserve(parts.iter().map(|part| part.rows.len()).sum(), dim);
    for part in &parts {
        segment.extend(&part.of, part.rows.clone());
    }
    segment
}

#[cfg(test)]
mod tests;
