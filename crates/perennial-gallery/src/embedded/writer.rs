//! The one thread that writes: it merges waiting writes into one durable transaction, then brings memory up to date.

mod changes;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

pub(super) use self::changes::{Change, Outcome};
use self::changes::{Changes, Failure, delete, replace_all, upsert};
use super::compaction::Copied;
use super::indexer::Indexer;
use super::log::Log;
use super::mapping;
use super::query;
use super::rows::Rows;
use super::state::{Shared, State};
use super::tables::{IDS, ITEMS, Reader};
use crate::error::GalleryError;
use crate::filter::Filter;
use crate::id_key::id_key;
use crate::item::ItemId;
use crate::snapshot::SnapshotReader;
use crate::stats::SnapshotInfo;
use crate::store::{Replacement, compare_all};

/// Items that one transaction takes in before the next one begins.
const GROUP_ITEMS: usize = 10_000;

/// Where an answer goes. A caller that no longer waits is no error.
pub(super) type Reply<T> = SyncSender<Result<T, GalleryError>>;

pub(super) enum Command {
    Change(Change, Reply<Outcome>),
    /// A deletion that must see all changes before it.
    DeleteWhere(Filter, Reply<Outcome>),
    /// New embeddings for items that must still be what was read after all changes before it; answers with those that are not.
    Replace(Vec<Replacement>, Reply<Vec<ItemId>>),
    Restore(PathBuf, Reply<SnapshotInfo>),
    /// Puts a copy in the database's place, with what was written since it was made; answers with its size in bytes.
    Adopt(Box<Copied>, Reply<u64>),
    /// A view of the database that stays as it is.
    Read(Reply<Reader>),
    #[cfg(test)]
    Run(Box<dyn FnOnce() + Send>, Reply<()>),
}

pub(super) struct Writer {
    log: Log,
    shared: Arc<Shared>,
    indexer: Arc<Indexer>,
}

impl Writer {
    pub(super) fn new(log: Log, shared: Arc<Shared>, indexer: Arc<Indexer>) -> Self {
        Self {
            log,
            shared,
            indexer,
        }
    }

    /// Works until every sender is gone.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut waiting = VecDeque::from([first]);
            waiting.extend(commands.try_iter().take(GROUP_ITEMS));
            while let Some(command) = waiting.pop_front() {
                self.handle(command, &mut waiting);
            }
        }
    }

    fn handle(&mut self, command: Command, waiting: &mut VecDeque<Command>) {
        // A failure, even of a read, makes the database refuse everything until it is opened again.
        if self.log.reader().is_err() {
            // If this fails too, the command below says what is wrong.
            let _ = self.recover();
        }
        match command {
            Command::Change(change, reply) => {
                let mut group = vec![(change, reply)];
                let mut items = group[0].0.items();
                while let Some(Command::Change(next, _)) = waiting.front() {
                    items += next.items();
                    if items > GROUP_ITEMS {
                        break;
                    }
                    if let Some(Command::Change(change, reply)) = waiting.pop_front() {
                        group.push((change, reply));
                    }
                }
                self.commit(group);
            }
            Command::DeleteWhere(filter, reply) => match self.matching(&filter) {
                Ok(keys) => self.commit(vec![(Change::Delete(keys), reply)]),
                Err(error) => answer(&reply, Err(error)),
            },
            Command::Replace(replacements, reply) => {
                let result = self.replace(&replacements);
                answer(&reply, result);
            }
            Command::Restore(path, reply) => {
                let result = self.restore(&path);
                answer(&reply, result);
            }
            Command::Adopt(copied, reply) => {
                let result = self.adopt(*copied);
                answer(&reply, result);
            }
            Command::Read(reply) => answer(&reply, self.log.reader()),
            #[cfg(test)]
            Command::Run(run, reply) => {
                run();
                answer(&reply, Ok(()));
            }
        }
    }

    /// Makes a group of changes durable and visible, then answers their callers.
    fn commit(&mut self, group: Vec<(Change, Reply<Outcome>)>) {
        let (changes, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        match self.transact(changes) {
            Ok(outcomes) => {
                for (reply, outcome) in replies.iter().zip(outcomes) {
                    answer(reply, outcome);
                }
            }
            Err(error) => {
                let error = self.failed(error);
                for reply in &replies {
                    answer(reply, Err(self.log.storage(&error)));
                }
            }
        }
    }

    /// Brings the database back after a failure and says what failed.
    fn failed(&mut self, error: redb::Error) -> String {
        let problem = error.to_string();
        tracing::warn!(problem, "the gallery could not write");
        match self.recover() {
            Ok(()) => problem,
            Err(again) => {
                tracing::error!(%again, "the gallery could not be opened again");
                format!("{problem}; then {again}")
            }
        }
    }

    /// Opens the file again, which a failed write demands. Readers wait meanwhile.
    fn recover(&mut self) -> Result<(), GalleryError> {
        let shared = Arc::clone(&self.shared);
        // Let go after the lock.
        let mut _before = None;
        let mut state = shared.state_mut();
        state.drop_reader("it is being opened again after a failure");
        let reader = self.log.reopen().and_then(|()| self.log.reader());
        let result = reader.and_then(|reader| {
            if reader.meta()? == state.meta {
                state.set_reader(reader);
                return Ok(());
            }
            // The failed transaction, though never acknowledged, reached the disk.
            let read = State::load(reader, shared.with_codes(), shared.threads())?;
            _before = Some(state.replace(read));
            self.indexer.wake();
            Ok(())
        });
        if let Err(error) = &result {
            state.drop_reader(error.to_string());
        }
        result
    }

    fn transact(
        &mut self,
        group: Vec<Change>,
    ) -> Result<Vec<Result<Outcome, GalleryError>>, redb::Error> {
        let transaction = match self.log.writer() {
            Ok(writer) => writer,
            Err(error) => {
                return Ok(group
                    .iter()
                    .map(|_| Err(self.log.storage(&error)))
                    .collect());
            }
        };
        let (mut changes, room) = {
            let state = self.shared.state();
            let room = (u32::MAX as usize).saturating_sub(state.slots());
            (Changes::of(&state), room)
        };
        let mut outcomes = Vec::with_capacity(group.len());
        {
            let mut items = transaction.transaction.open_table(ITEMS)?;
            let mut ids = transaction.transaction.open_table(IDS)?;
            for change in group {
                let outcome = match change {
                    Change::Upsert(batch) if changes.added.len() + batch.len() > room => {
                        drop(batch);
                        Err(Failure::Refused(GalleryError::Full))
                    }
                    Change::Upsert(batch) => upsert(batch, &mut items, &mut ids, &mut changes),
                    Change::Delete(keys) => delete(keys, &mut items, &mut ids, &mut changes),
                    Change::CreateSpace(space) => changes.create(&space),
                };
                outcomes.push(match outcome {
                    Ok(outcome) => Ok(outcome),
                    Err(Failure::Refused(error)) => Err(error),
                    Err(Failure::Storage(error)) => return Err(error),
                });
            }
        }
        if !changes.changed {
            return Ok(outcomes);
        }
        changes.forget_emptied();
        changes.meta.sequence += 1;
        changes.meta.next_partition = changes.layout.next_partition().into();
        if changes.layout != self.shared.state().layout {
            transaction.set_layout(&changes.layout)?;
        }
        transaction.set_meta(&changes.meta)?;
        transaction.commit()?;
        // From here on the changes are durable, and must become visible.
        match self.log.reader() {
            Ok(reader) => self.apply(changes, reader),
            Err(error) => {
                let _ = self.recover();
                tracing::warn!(%error, "the gallery was opened again after a write");
            }
        }
        Ok(outcomes)
    }

    /// Repeats in memory what was committed. Readers wait only for copies of the new rows.
    fn apply(&mut self, mut changes: Changes, reader: Reader) {
        let with_codes = self.shared.with_codes();
        if with_codes {
            let rows = changes.added.iter_mut();
            rows.for_each(|(_, row)| row.encode());
        }
        let touched: BTreeSet<u32> = changes.partitions_touched().collect();
        // Let go when no reader waits any more.
        let mut gone: Vec<Rows> = Vec::new();
        let mut state = self.shared.state_mut();
        for (&number, shape) in changes.layout.partitions() {
            let rows = state.partitions.entry(number);
            rows.or_insert_with(|| Rows::new(shape.dim(), with_codes));
        }
        let layout = &changes.layout;
        let forgotten = state
            .partitions
            .extract_if(.., |number, _| !layout.partitions().contains_key(number));
        gone.extend(forgotten.map(|(_, rows)| rows));
        // An item that moves leaves one partition and enters another before any reader sees either. Rows of a partition that was
        // emptied and is gone have no place any more.
        for (partition, row) in &changes.added {
            if let Some(rows) = state.partitions.get_mut(partition) {
                rows.push(row);
            }
        }
        for &(partition, number) in &changes.removed {
            if let Some(rows) = state.partitions.get_mut(&partition) {
                rows.remove(number);
            }
        }
        for mapped in state.mapped.values_mut() {
            gone.extend(mapped.remove(changes.removed.iter().map(|&(_, number)| number)));
        }
        state.layout = changes.layout;
        state.meta = changes.meta;
        state.space = changes.space;
        state.set_reader(reader);
        let mut wasteful = Vec::new();
        for number in &touched {
            let Some(rows) = state.partitions.get_mut(number) else {
                continue;
            };
            if rows.live() == 0 && rows.slots() > 0 {
                gone.push(rows.replace_by_none());
            } else if rows.is_wasteful() {
                wasteful.push(*number);
            }
        }
        drop(state);
        drop(gone);
        // Only this thread changes rows, so the copies are complete although readers go on.
        for number in wasteful {
            let _turn = self.shared.mapping_turn();
            let compacted = self
                .shared
                .state()
                .partitions
                .get(&number)
                .map(Rows::compacted);
            if let Some(rows) = compacted {
                let before = self.shared.state_mut().partitions.insert(number, rows);
                drop(before);
            }
        }
        for number in touched {
            let centred = self
                .shared
                .state()
                .partitions
                .get(&number)
                .map(Rows::centred);
            if let Some(centred) = centred.filter(|centred| !centred.is_empty())
                && let Some(rows) = self.shared.state_mut().partitions.get_mut(&number)
            {
                rows.set_centred(centred);
            }
        }
        mapping::compact(&self.shared);
        self.indexer.wake();
    }

    /// Gives items that are still what was read their new embeddings. This thread is the only one that writes, so nothing comes in between.
    fn replace(&mut self, replacements: &[Replacement]) -> Result<Vec<ItemId>, GalleryError> {
        let mut now = Vec::with_capacity(replacements.len());
        {
            let state = self.shared.state();
            let reader = state.reader()?;
            for one in replacements {
                if let Some(row) = reader.row(&id_key(&one.read.id))? {
                    now.extend(query::item(&state, row, true)?);
                }
            }
        }
        let (items, changed) = compare_all(replacements, &now);
        if !items.is_empty() {
            let (reply, stored) = sync_channel(1);
            self.commit(vec![(Change::Upsert(items), reply)]);
            stored.recv().map_err(|_| GalleryError::Closed)??;
        }
        Ok(changed)
    }

    /// Keys of the items that pass a filter.
    fn matching(&self, filter: &Filter) -> Result<Vec<Vec<u8>>, GalleryError> {
        let _turn = self.shared.mapping_turn();
        let state = self.shared.state();
        let reader = state.reader()?;
        let mut keys = Vec::new();
        for rows in state.partitions.values() {
            let allowed = query::allowed(&self.shared, &state, rows, None, filter)?;
            let slots: Box<dyn Iterator<Item = usize>> = match &allowed {
                Some(allowed) => Box::new(allowed.iter()),
                None => Box::new(0..rows.slots()),
            };
            for slot in slots {
                let key = reader.record(rows.number(slot), |record| {
                    let passes = query::passes_payload(filter, &record)?;
                    Ok(passes.then(|| record.id_key.to_vec()))
                })?;
                keys.extend(key.flatten());
            }
        }
        Ok(keys)
    }

    /// Switches to a compacted copy; an error leaves everything as it was.
    fn adopt(&mut self, mut copied: Copied) -> Result<u64, GalleryError> {
        let reader = self.log.reader()?;
        {
            let _turn = self.shared.mapping_turn();
            copied.catch_up(&reader, &self.shared.state())?;
        }
        drop(reader);
        self.log.adopt(copied)?;
        match self.log.reader() {
            Ok(reader) => self.shared.state_mut().set_reader(reader),
            Err(error) => {
                tracing::warn!(%error, "the compacted gallery is opened again");
                self.recover()?;
            }
        }
        let metadata = fs_err::metadata(self.log.path());
        let metadata = metadata.map_err(|error| GalleryError::file(self.log.path(), error))?;
        Ok(metadata.len())
    }

    /// Replaces everything in one transaction; an error leaves everything as it was.
    fn restore(&mut self, path: &std::path::Path) -> Result<SnapshotInfo, GalleryError> {
        let snapshot = SnapshotReader::open(path)?;
        let writer = self.log.writer()?;
        let (meta, next_partition) = {
            let state = self.shared.state();
            (state.meta, state.layout.next_partition())
        };
        match replace_all(snapshot, path, &writer, meta, next_partition) {
            Ok(info) => {
                writer.commit().map_err(|error| {
                    let problem = self.failed(error);
                    self.log.storage(problem)
                })?;
                let (with_codes, threads) = (self.shared.with_codes(), self.shared.threads());
                let state = self
                    .log
                    .reader()
                    .and_then(|reader| State::load(reader, with_codes, threads));
                match state {
                    Ok(state) => {
                        let before = self.shared.state_mut().replace(state);
                        drop(before);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the restored gallery is opened again");
                        self.recover()?;
                    }
                }
                self.indexer.wake();
                Ok(info)
            }
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Storage(error)) => {
                drop(writer);
                let problem = self.failed(error);
                Err(self.log.storage(problem))
            }
        }
    }
}

fn answer<T>(reply: &Reply<T>, result: Result<T, GalleryError>) {
    let _ = reply.try_send(result);
}
