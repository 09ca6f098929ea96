//! Passes over the rows of a table: one batch is read while the one before it is mapped and the one before that is written.

use std::sync::Arc;
use std::time::Instant;

use perennial_bridge::Bridge;

use super::mapping::{Mapped, map};
use super::run_request::Done;
use crate::engine::{Copies, Copying, Migration, Pace, Progress, Which, batch_rows};
use crate::error::ConnectError;
use crate::observer::Observer;

/// What all passes of a run share.
pub(super) struct Passes<'a, K> {
    pub(super) migration: &'a Migration<K>,
    /// Shared with the thread that maps.
    pub(super) bridge: &'a Arc<Bridge>,
    pub(super) rate: Option<f64>,
}

impl<K: Clone + Send + 'static> Passes<'_, K> {
    /// Every row once, from where the last run stopped.
    pub(super) async fn first<E: Copying<Key = K>>(
        &self,
        engine: &mut E,
        observer: &mut dyn Observer,
        done: &mut Done,
    ) -> Result<(), ConnectError> {
        let start = self.migration.place.clone();
        self.copy(engine, Which::All, start, observer, done).await?;
        engine.note(self.migration, &Progress::FirstPass).await
    }

    /// Rows that came or changed since they had their turn; returns how many copies were written.
    pub(super) async fn late<E: Copying<Key = K>>(
        &self,
        engine: &mut E,
        observer: &mut dyn Observer,
        done: &mut Done,
    ) -> Result<u64, ConnectError> {
        let before = done.written;
        // Rows without a usable vector are met in every pass, and are counted in one only.
        done.skipped = Default::default();
        self.copy(engine, Which::Changed, None, observer, done)
            .await?;
        let late = done.written - before;
        done.late += late;
        Ok(late)
    }

    async fn copy<E: Copying<Key = K>>(
        &self,
        engine: &mut E,
        which: Which,
        start: Option<K>,
        observer: &mut dyn Observer,
        done: &mut Done,
    ) -> Result<(), ConnectError> {
        let (from, to) = (self.bridge.from().dim, self.bridge.to().dim);
        let rows = batch_rows(from.max(to), self.rate);
        let migration = self.migration;
        let mut reader = engine.reader(Some(migration), which, from, rows).await?;
        let mut writer = engine.writer(migration, which == Which::All);
        let total = engine.estimated_rows();
        let mut pace = Pace::new(self.rate)?;
        let begun = Instant::now();
        let seconds = done.seconds;
        let mut unchecked = which == Which::All && start.is_none();
        let mut read = engine.read(&mut reader, start.as_ref()).await?;
        let mut ready: Option<Mapped<K, E::Source>> = None;
        while read.is_some() || ready.is_some() {
            let rows = read.as_ref().map_or(0, |batch| batch.rows);
            // A place to go on reading from, unless the end is known.
            let place = match &read {
                Some(batch) if !batch.last => Some(batch.place.clone()),
                _ => None,
            };
            if let Some(batch) = &read
                && unchecked
                && !batch.vectors.is_empty()
            {
                unchecked = false;
                self.bridge.check_input(&batch.vectors)?;
            }
            let mapping = read.take().map(|batch| {
                let bridge = Arc::clone(self.bridge);
                tokio::task::spawn_blocking(move || map(&bridge, batch))
            });
            match (ready.take(), place) {
                (None, None) => {}
                (None, Some(place)) => read = engine.read(&mut reader, place.as_ref()).await?,
                (Some(mapped), place) => {
                    let batch = &mapped.batch;
                    let progress = match (which, &batch.place) {
                        (Which::All, Some(place)) => Progress::Place(place.clone()),
                        _ => Progress::Rows,
                    };
                    let copies = Copies {
                        keys: &batch.keys,
                        sources: &batch.sources,
                        vectors: &mapped.vectors,
                        without: &batch.without,
                    };
                    match place {
                        None => engine.write(&mut writer, &copies, &progress).await?,
                        Some(place) => {
                            let place = place.as_ref();
                            read = engine
                                .write_and_read(&mut writer, &copies, &progress, &mut reader, place)
                                .await?;
                        }
                    }
                    done.written += batch.keys.len() as u64;
                    done.skipped.add(batch.skipped);
                    done.seconds = seconds + begun.elapsed().as_secs_f64();
                    observer.rows(done.written, total);
                }
            }
            // The rows that were read last are accounted for before the next ones are.
            pace.after(rows, observer).await?;
            if let Some(mapping) = mapping {
                ready = Some(mapping.await.map_err(std::io::Error::other)??);
            }
        }
        Ok(())
    }
}
