//! Copies in a collection of their own.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use perennial_core::ItemId;
use serde_json::json;

use super::collection::Collection;
use super::engine::Qdrant;
use super::mark::same_vector;
use super::point::{Carried, Dense, Selection, marks, retrieve};
use super::point_id::PointId;
use super::upsert::{delete_marked, upsert};
use crate::engine::{Batch, Copies, Copying, Found, Migration, Pace, Progress, Which};
use crate::error::ConnectError;
use crate::observer::Observer;

/// Points that are read at a time: their payload comes with them.
const AT_ONCE: usize = 512;
/// How often the server is asked whether everything is indexed, and how often the observer.
const ATTENTION: Duration = Duration::from_millis(200);

/// Reads points and compares them with their copies.
pub(crate) struct Reader {
    copies: Option<String>,
    dim: usize,
    at_once: usize,
}

/// Writes copies of one migration.
pub(crate) struct Writer {
    migration: String,
    copies: String,
    dim: usize,
}

/// Points are found by their id alone, so nothing is prepared.
pub(crate) struct Lookup;

impl Qdrant {
    /// The next points from an id on that need a copy.
    fn batch(
        &self,
        reader: &mut Reader,
        from: Option<&PointId>,
    ) -> Result<Batch<PointId, Carried>, ConnectError> {
        let name = &self.collection.name;
        let page = self.page(name, &Selection::all(), from, &mut reader.at_once)?;
        let mut batch = Batch {
            rows: page.points.len(),
            last: page.next_page_offset.is_none(),
            place: page.next_page_offset,
            ..Batch::default()
        };
        let ids: Vec<PointId> = page.points.iter().map(|point| point.id.clone()).collect();
        let marks = match &reader.copies {
            Some(copies) => marks(&self.client, copies, &ids)?,
            None => HashMap::new(),
        };
        for (id, point) in ids.into_iter().zip(page.points) {
            let copy = marks.get(&id);
            if copy == Some(&None) {
                // The application's own.
                continue;
            }
            let (dense, carried) = point.parts(&self.vector)?;
            match dense {
                Dense::Values(values) if values.len() == reader.dim => {
                    if copy.and_then(Option::as_ref) == Some(&carried.mark) {
                        continue;
                    }
                    batch.vectors.extend_from_slice(&values);
                    batch.keys.push(id);
                    batch.sources.push(carried);
                    continue;
                }
                Dense::Values(_) => batch.skipped.dimension += 1,
                Dense::Unusable => batch.skipped.direction += 1,
                Dense::None => {}
            }
            if copy.is_some() {
                batch.without.push(id);
            }
        }
        Ok(batch)
    }

    fn put(
        &self,
        writer: &Writer,
        copies: &Copies<'_, PointId, Carried>,
        progress: &Progress<PointId>,
    ) -> Result<(), ConnectError> {
        let there = marks(&self.client, &writer.copies, copies.keys)?;
        let rows = copies
            .keys
            .iter()
            .zip(copies.sources)
            .zip(copies.vectors.chunks_exact(writer.dim))
            .map(|((key, source), vector)| (key, source, vector))
            .filter(|&(key, ..)| there.get(key) != Some(&None));
        upsert(&self.client, &writer.copies, &self.vector, rows)?;
        delete_marked(&self.client, &writer.copies, copies.without)?;
        self.note_progress(&writer.migration, progress)
    }

    fn note_progress(
        &self,
        migration: &str,
        progress: &Progress<PointId>,
    ) -> Result<(), ConnectError> {
        let fields = match progress {
            Progress::Rows => json!({}),
            Progress::Place(place) => json!({"place": place}),
            Progress::FirstPass => json!({"first_pass_done": true, "place": null}),
            Progress::File { sha256, rows } => json!({"file": sha256, "file_rows": rows}),
        };
        self.note_fields(migration, fields)
    }
}

impl Copying for Qdrant {
    type Reader = Reader;
    type Writer = Writer;
    type Lookup = Lookup;

    /// All points whose copy is not up to date, in either case: to know it costs no more than to read them.
    async fn reader(
        &mut self,
        migration: Option<&Migration<PointId>>,
        _: Which,
        dim: usize,
        rows: usize,
    ) -> Result<Reader, ConnectError> {
        if let Some(migration) = migration {
            self.check_copies(migration)?;
        }
        Ok(Reader {
            copies: migration.map(|migration| migration.copies.name.clone()),
            dim,
            at_once: rows.min(AT_ONCE),
        })
    }

    async fn read(
        &mut self,
        reader: &mut Reader,
        place: Option<&PointId>,
    ) -> Result<Option<Batch<PointId, Carried>>, ConnectError> {
        let batch = self.batch(reader, place)?;
        Ok((batch.rows > 0).then_some(batch))
    }

    fn writer(&self, migration: &Migration<PointId>, _: bool) -> Writer {
        Writer {
            migration: migration.name.clone(),
            copies: migration.copies.name.clone(),
            dim: migration.dim,
        }
    }

    async fn write(
        &mut self,
        writer: &mut Writer,
        copies: &Copies<'_, PointId, Carried>,
        progress: &Progress<PointId>,
    ) -> Result<(), ConnectError> {
        self.put(writer, copies, progress)
    }

    async fn write_and_read(
        &mut self,
        writer: &mut Writer,
        copies: &Copies<'_, PointId, Carried>,
        progress: &Progress<PointId>,
        reader: &mut Reader,
        place: Option<&PointId>,
    ) -> Result<Option<Batch<PointId, Carried>>, ConnectError> {
        let this = &*self;
        let (written, read) = std::thread::scope(|scope| {
            let reading = scope.spawn(|| this.batch(reader, place));
            let written = this.put(writer, copies, progress);
            (written, reading.join())
        });
        written?;
        let batch = read.expect("reading does not panic")?;
        Ok((batch.rows > 0).then_some(batch))
    }

    async fn lookup(&mut self, migration: &Migration<PointId>) -> Result<Lookup, ConnectError> {
        self.check_copies(migration)?;
        Ok(Lookup)
    }

    async fn look_up(
        &mut self,
        _: &Lookup,
        ids: &[ItemId],
    ) -> Result<Vec<Found<PointId, Carried>>, ConnectError> {
        let mut places = HashMap::with_capacity(ids.len());
        for (place, id) in ids.iter().enumerate() {
            places.insert(PointId::of(id)?, place);
        }
        let keys: Vec<PointId> = places.keys().cloned().collect();
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            let name = &self.collection.name;
            for point in retrieve(&self.client, name, &Selection::all(), some)? {
                let key = point.id.clone();
                // A server that sends what nobody asked for is not believed.
                let Some(&place) = places.get(&key) else {
                    continue;
                };
                let (_, source) = point.parts(&self.vector)?;
                found.push(Found { place, key, source });
            }
        }
        found.sort_unstable_by_key(|found| found.place);
        Ok(found)
    }

    async fn note(
        &mut self,
        migration: &Migration<PointId>,
        progress: &Progress<PointId>,
    ) -> Result<(), ConnectError> {
        self.note_progress(&migration.name, progress)
    }

    async fn remove_gone(
        &mut self,
        migration: &Migration<PointId>,
        observer: &dyn Observer,
    ) -> Result<u64, ConnectError> {
        self.check_copies(migration)?;
        let copies = &migration.copies.name;
        let mut pace = Pace::new(self.rate)?;
        let mut at_once = self.page_points(AT_ONCE);
        let mut from: Option<PointId> = None;
        let mut removed = 0;
        loop {
            let page = self.page(copies, &Selection::marks(), from.as_ref(), &mut at_once)?;
            let marked = page.points.iter().filter(|point| point.mark().is_some());
            let ids: Vec<PointId> = marked.map(|point| point.id.clone()).collect();
            let name = &self.collection.name;
            let there = retrieve(&self.client, name, &Selection::ids(), &ids)?;
            let there: HashSet<PointId> = there.into_iter().map(|point| point.id).collect();
            let gone: Vec<PointId> = ids.into_iter().filter(|id| !there.contains(id)).collect();
            delete_marked(&self.client, copies, &gone)?;
            removed += gone.len() as u64;
            pace.after(page.points.len(), observer).await?;
            from = page.next_page_offset;
            if from.is_none() {
                return Ok(removed);
            }
        }
    }

    /// Payload and other vectors that changed go to the copy; its new vector stays as long as the old one is the same.
    async fn carry_over(
        &mut self,
        migration: &Migration<PointId>,
        rows: usize,
        observer: &dyn Observer,
    ) -> Result<u64, ConnectError> {
        let copies = &migration.copies.name;
        let mut pace = Pace::new(self.rate)?;
        let mut at_once = rows.min(AT_ONCE);
        let mut from: Option<PointId> = None;
        let mut removed = 0;
        loop {
            let name = &self.collection.name;
            let page = self.page(name, &Selection::all(), from.as_ref(), &mut at_once)?;
            let count = page.points.len();
            let ids: Vec<PointId> = page.points.iter().map(|point| point.id.clone()).collect();
            let marks = marks(&self.client, copies, &ids)?;
            let mut changed = HashMap::new();
            let mut without = Vec::new();
            for (id, point) in ids.into_iter().zip(page.points) {
                let Some(Some(mark)) = marks.get(&id) else {
                    continue;
                };
                let (dense, carried) = point.parts(&self.vector)?;
                if carried.mark == *mark {
                    continue;
                }
                match (same_vector(&carried.mark, mark), dense) {
                    (true, _) => {
                        changed.insert(id, carried);
                    }
                    (false, Dense::None) => without.push(id),
                    // It needs a new embedding, which brings the rest with it.
                    (false, _) => {}
                }
            }
            self.renew_rest(migration, &changed)?;
            delete_marked(&self.client, copies, &without)?;
            removed += without.len() as u64;
            pace.after(count, observer).await?;
            from = page.next_page_offset;
            if from.is_none() {
                return Ok(removed);
            }
        }
    }

    /// The server indexes by itself; this waits until it has.
    async fn index(
        &mut self,
        migration: &Migration<PointId>,
        observer: &mut dyn Observer,
    ) -> Result<Option<f64>, ConnectError> {
        let begun = Instant::now();
        let copies = &migration.copies.name;
        let mut told = false;
        loop {
            self.keep()?;
            let status = Collection::find(&self.client, copies)?.map(|found| found.status);
            match status.as_deref() {
                Some("green") => break,
                Some("yellow") => {}
                Some("grey") => {
                    observer.note(&format!(
                        "the server has put off indexing {copies} until the next write"
                    ));
                    break;
                }
                other => {
                    return Err(ConnectError::State(format!(
                        "the server says that collection {copies} is {}; look at its log",
                        other.unwrap_or("gone")
                    )));
                }
            }
            if !std::mem::replace(&mut told, true) {
                observer.note(&format!("waiting until the server has indexed {copies}"));
            }
            for _ in 0..5 {
                if observer.stopped() {
                    return Err(ConnectError::Interrupted);
                }
                tokio::time::sleep(ATTENTION).await;
            }
        }
        Ok(told.then(|| begun.elapsed().as_secs_f64()))
    }

    async fn finish(&mut self, _: &Migration<PointId>) -> Result<(), ConnectError> {
        Ok(())
    }
}

impl Qdrant {
    /// Writes copies again with their new vector and the rest as it is now.
    fn renew_rest(
        &self,
        migration: &Migration<PointId>,
        changed: &HashMap<PointId, Carried>,
    ) -> Result<(), ConnectError> {
        let ids: Vec<PointId> = changed.keys().cloned().collect();
        let copies = &migration.copies.name;
        let selection = Selection::ids().vector(&self.vector);
        let mut rows = Vec::with_capacity(ids.len());
        for point in retrieve(&self.client, copies, &selection, &ids)? {
            let id = point.id.clone();
            if let (Some(carried), Dense::Values(values)) =
                (changed.get(&id), point.dense(&self.vector)?)
            {
                rows.push((id, carried, values));
            }
        }
        let rows = rows
            .iter()
            .map(|(id, carried, values)| (id, *carried, &values[..]));
        upsert(&self.client, copies, &self.vector, rows)
    }
}
