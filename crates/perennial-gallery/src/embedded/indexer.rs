//! The thread that keeps the approximate indexes, one for each partition and for mapped rows that are many enough: builds them, brings them up to
//! date, and saves those of partitions. Another one maps rows, but no graph grows while any are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use perennial_core::write_atomically;

use super::HnswConfig;
use super::background::{Joined, step_back};
use super::graph::{CodedVector, Graph, Seal};
use super::mapper::Mapper;
use super::mapping;
use super::rows::Rows;
use super::saved_graphs::{Description, FORMAT, Files, remove};
use super::state::{RowsId, Shared, thread_pool};
use crate::error::GalleryError;

/// Rows added at a time: few, so that closing does not wait and readers hardly notice.
const CHUNK: usize = 64;
/// Rows whose mean is a graph's centre.
const CENTRE_ROWS: usize = 4096;

enum Signal {
    /// Rows have changed.
    Wake,
    /// Save the graph, up to date, and answer.
    Save(SyncSender<Result<(), GalleryError>>),
}

/// The handle to the thread, and to the one that maps rows.
pub(super) struct Indexer {
    mapper: Mapper,
    signals: Mutex<Option<SyncSender<Signal>>>,
    thread: Joined,
}

impl Indexer {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, GalleryError> {
        let (sender, receiver) = sync_channel(64);
        let pool = thread_pool("gallery-index", shared.config.indexing_threads(), step_back)?;
        // One pool: mapping and building take turns, and no more threads than those compute.
        let pool = Arc::new(pool);
        let mapper = Mapper::start(Arc::clone(&shared), Arc::clone(&pool))?;
        let work = Work {
            saved_rows: BTreeMap::new(),
            pool,
            shared,
        };
        let run = move || work.run(&receiver);
        let indexer = Self {
            mapper,
            signals: Mutex::new(Some(sender)),
            thread: Joined::start("gallery-indexer", "indexes the gallery", run)?,
        };
        indexer.wake();
        Ok(indexer)
    }

    /// Says that rows have changed.
    pub(super) fn wake(&self) {
        self.mapper.wake();
        let signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signals) = &*signals {
            // A full queue holds a signal that comes later than this change anyway.
            match signals.try_send(Signal::Wake) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// Brings the index up to date and saves it.
    pub(super) fn save(&self) -> Result<(), GalleryError> {
        let signals = {
            let signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
            signals.clone().ok_or(GalleryError::Closed)?
        };
        let (reply, answer) = sync_channel(1);
        signals
            .send(Signal::Save(reply))
            .map_err(|_| GalleryError::Closed)?;
        answer.recv().map_err(|_| GalleryError::Closed)?
    }

    /// Waits until the threads have ended and what there is is saved.
    pub(super) fn stop(&self) {
        self.mapper.stop();
        drop(
            self.signals
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        self.thread.join();
    }
}

struct Work {
    shared: Arc<Shared>,
    pool: Arc<rayon::ThreadPool>,
    /// Vectors of each partition's graph when it was last saved; graphs of mapped rows are not.
    saved_rows: BTreeMap<u32, usize>,
}

impl Work {
    fn run(mut self, signals: &Receiver<Signal>) {
        let partitions = self.partitions();
        self.remove_files_of_others(&partitions);
        for partition in partitions {
            match self.load(partition) {
                Ok(Some(graph)) => {
                    self.saved_rows.insert(partition, graph.len());
                    let of = RowsId::Partition(partition);
                    self.shared.set_graph(of, Some(graph));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a saved index cannot be used and is built again")
                }
            }
        }
        while let Ok(signal) = signals.recv() {
            let result = self.bring_up_to_date();
            match signal {
                Signal::Wake => {
                    let result = result.and_then(|()| self.save_the_grown());
                    if let Err(error) = result {
                        // Searches compare row by row meanwhile.
                        tracing::error!(%error, "the index could not be brought up to date");
                    }
                }
                Signal::Save(reply) => {
                    let _ = reply.try_send(result.and_then(|()| self.save_all()));
                }
            }
        }
        if let Err(error) = self.save_all() {
            tracing::warn!(%error, "the index could not be saved and will be built again");
        }
    }

    fn config(&self) -> &HnswConfig {
        &self.shared.config.hnsw
    }

    fn partitions(&self) -> BTreeSet<u32> {
        self.shared.state().partitions.keys().copied().collect()
    }

    fn bring_up_to_date(&mut self) -> Result<(), GalleryError> {
        mapping::catch_up(&self.shared, &self.pool);
        // A graph that cannot be saved is not worth building; a saved one serves as it is.
        if self.shared.read_only {
            return Ok(());
        }
        let all = self.shared.state().all_rows();
        self.shared.keep_graphs_of(&all);
        for of in all {
            while !self.shared.closing.load(Ordering::Acquire) {
                let Some(graph) = self.wanted_graph(of)? else {
                    break;
                };
                let (rows, end) = self.next_rows(of, &graph);
                if !rows.is_empty() {
                    graph.add(&rows, &self.pool);
                }
                let done = graph.covered() == end;
                graph.set_covered(end);
                if done {
                    break;
                }
                // A promotion waits for mapped vectors, and a graph can take long: this one does not grow before they are there.
                mapping::catch_up(&self.shared, &self.pool);
            }
        }
        Ok(())
    }

    /// The graph to extend: the one there is, a new one where that is of no use, or none for so few rows.
    fn wanted_graph(&self, of: RowsId) -> Result<Option<Arc<Graph>>, GalleryError> {
        let (live, dim) = {
            let state = self.shared.state();
            let rows = state.rows(of);
            rows.map_or((0, 0), |rows| (rows.live(), rows.dim()))
        };
        let graph = self.shared.graph(of).filter(|graph| {
            // Dead rows cost searches time; half of the graph is the point where a new one pays.
            graph.len() <= 2 * live + CHUNK
        });
        // Around the limit, a graph is neither built nor dropped for every single item.
        if live == 0 || live < self.shared.config.hnsw_from / if graph.is_some() { 2 } else { 1 } {
            self.shared.set_graph(of, None);
            return Ok(None);
        }
        if graph.is_some() {
            return Ok(graph);
        }
        let graph = Arc::new(Graph::new(self.centre(of, dim), self.config()));
        self.shared.set_graph(of, Some(Arc::clone(&graph)));
        Ok(Some(graph))
    }

    /// The mean of rows from everywhere.
    fn centre(&self, of: RowsId, dim: usize) -> Vec<f32> {
        let state = self.shared.state();
        let mut sums = vec![0.0f64; dim];
        let mut count = 0.0;
        if let Some(rows) = state.rows(of) {
            let step = (rows.live() / CENTRE_ROWS).max(1);
            for slot in rows.alive().iter().step_by(step) {
                let values = sums.iter_mut().zip(rows.vector(slot));
                values.for_each(|(sum, x)| *sum += f64::from(*x));
                count += 1.0;
            }
        }
        sums.iter()
            .map(|sum| (sum / f64::max(count, 1.0)) as f32)
            .collect()
    }

    /// The next live rows that the graph lacks, and the number up to which it then reaches.
    fn next_rows(&self, of: RowsId, graph: &Graph) -> (Vec<(u64, CodedVector)>, u64) {
        let state = self.shared.state();
        let Some(rows) = state.rows(of) else {
            return (Vec::new(), graph.covered());
        };
        let first = rows.first_slot_from(graph.covered());
        let slots = first..rows.slots().min(first + CHUNK);
        let end = if slots.is_empty() {
            graph.covered()
        } else {
            rows.number(slots.end - 1) + 1
        };
        let chosen = slots
            .filter(|&slot| rows.alive().contains(slot))
            .map(|slot| (rows.number(slot), graph.coded(rows.vector(slot))))
            .collect();
        (chosen, end)
    }

    fn load(&self, partition: u32) -> Result<Option<Arc<Graph>>, GalleryError> {
        let files = Files::of(&self.shared.folder, partition);
        if !files.description.exists() {
            return Ok(None);
        }
        let saved = Description::read(&files.description)?;
        if saved.format != FORMAT {
            let path = files.graph.display();
            let problem = format!("{path} has format {}, not {FORMAT}", saved.format);
            return Err(GalleryError::Index { problem });
        }
        let (meta, dim, end) = {
            let state = self.shared.state();
            let rows = state.partitions.get(&partition);
            let end = state.reader()?.end_of_epoch(saved.epoch)?;
            (state.meta, rows.map_or(0, Rows::dim), end)
        };
        let fits = saved.store == meta.store
            && saved.dim == dim
            && end.is_some_and(|end| saved.covered <= end);
        if !fits {
            // Later it might seem to fit: rows that are yet to come have the numbers of those that it was made of.
            tracing::warn!(partition, "a saved index is of other items and is removed");
            if !self.shared.read_only {
                remove(&[&files.description, &files.graph]);
            }
            return Ok(None);
        }
        if self.shared.config.hnsw_from == usize::MAX
            || saved.connectivity != self.config().connectivity
        {
            return Ok(None);
        }
        let graph = Graph::load(
            &files.graph,
            &Seal {
                bytes: saved.bytes,
                sha256: saved.sha256,
            },
            dim,
            self.config(),
            saved.covered,
            self.shared.threads(),
        )?;
        Ok(Some(Arc::new(graph)))
    }

    fn save_all(&mut self) -> Result<(), GalleryError> {
        let partitions = self.partitions();
        for &partition in &partitions {
            self.save(partition)?;
        }
        self.remove_files_of_others(&partitions);
        Ok(())
    }

    /// Saves the graphs that have grown by a quarter since they were saved last.
    fn save_the_grown(&mut self) -> Result<(), GalleryError> {
        for partition in self.partitions() {
            let graph = self.shared.graph(RowsId::Partition(partition));
            let rows = graph.map_or(0, |graph| graph.len());
            let saved = self.saved_rows.get(&partition).copied().unwrap_or(0);
            if rows > saved + saved / 4 {
                self.save(partition)?;
            }
        }
        Ok(())
    }

    /// Removes what is saved of graphs of partitions that are gone, whose numbers are never used again, and what was not saved to its end.
    fn remove_files_of_others(&mut self, partitions: &BTreeSet<u32>) {
        if self.shared.read_only {
            return;
        }
        self.saved_rows
            .retain(|partition, _| partitions.contains(partition));
        let Ok(entries) = self.shared.folder.read_dir() else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let of = name.to_str().and_then(Files::partition_of);
            if of.is_some_and(|(partition, is_whole)| !is_whole || !partitions.contains(&partition))
            {
                remove(&[&entry.path()]);
            }
        }
    }

    fn save(&mut self, partition: u32) -> Result<(), GalleryError> {
        let graph = self.shared.graph(RowsId::Partition(partition));
        let Some(graph) = graph.filter(|_| !self.shared.read_only) else {
            return Ok(());
        };
        let rows = graph.len();
        if self.saved_rows.get(&partition) == Some(&rows) {
            return Ok(());
        }
        let files = Files::of(&self.shared.folder, partition);
        let failed = |error: std::io::Error| GalleryError::file(&files.graph, error);
        let Seal { bytes, sha256 } = graph.save(&files.partial).map_err(failed)?;
        let (store, epoch) = {
            let state = self.shared.state();
            (state.meta.store, state.reader()?.last_epoch()?)
        };
        let description = Description {
            format: FORMAT,
            store,
            epoch,
            dim: graph.dim(),
            connectivity: self.config().connectivity,
            covered: graph.covered(),
            rows,
            bytes,
            sha256,
        };
        // Between the two steps the description does not fit the graph, which a start notices.
        fs_err::rename(&files.partial, &files.graph).map_err(failed)?;
        let text = serde_json::to_vec_pretty(&description)
            .map_err(|error| GalleryError::file(&files.description, error))?;
        write_atomically(&files.description, text)
            .map_err(|error| GalleryError::file(&files.description, error))?;
        self.saved_rows.insert(partition, rows);
        remove(&[&files.former]);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
