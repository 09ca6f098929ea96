//! The one thread that writes: it merges waiting writes into one durable transaction, then brings memory up to date.

mod changes;
mod recovery;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

pub(super) use self::changes::{Change, Outcome};
use self::changes::{Changes, Failure, delete, replace_all, upsert};
use super::compaction::Copied;
use super::conditions::Conditions;
use super::indexer::Indexer;
use super::log::Log;
use super::mapping;
use super::opening::new_number;
use super::rows::Rows;
use super::saved_graphs;
use super::state::Shared;
use super::tables::{Epoch, IDS, ITEMS, Meta, Reader, Writer as Transaction};
use super::view::View;
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
    /// Ends the thread.
    #[cfg(test)]
    End,
}

/// Answers one command with an error.
type Refusal = Box<dyn FnOnce(GalleryError) + Send>;

impl Command {
    /// How to answer it if it cannot be carried out.
    fn refusal(&self) -> Refusal {
        fn by<T: Send + 'static>(reply: &Reply<T>) -> Refusal {
            let reply = reply.clone();
            Box::new(move |error| answer(&reply, Err(error)))
        }
        match self {
            Self::Change(_, reply) | Self::DeleteWhere(_, reply) => by(reply),
            Self::Replace(_, reply) => by(reply),
            Self::Restore(_, reply) => by(reply),
            Self::Adopt(_, reply) => by(reply),
            Self::Read(reply) => by(reply),
            #[cfg(test)]
            Self::Run(_, reply) => by(reply),
            #[cfg(test)]
            Self::End => Box::new(drop),
        }
    }
}

pub(super) struct Writer {
    log: Log,
    shared: Arc<Shared>,
    indexer: Arc<Indexer>,
    /// Distinguishes rows that this thread adds from those that others add behind the same ones, to a copy of the database.
    epoch: u64,
    /// Whether the database knows of it.
    epoch_begun: bool,
    /// For the commands that are being carried out.
    refusals: Vec<Refusal>,
}

impl Writer {
    pub(super) fn new(log: Log, shared: Arc<Shared>, indexer: Arc<Indexer>) -> Self {
        Self {
            log,
            shared,
            indexer,
            epoch: new_number(),
            epoch_begun: false,
            refusals: Vec::new(),
        }
    }

    /// Works until every sender is gone.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut waiting = VecDeque::from([first]);
            waiting.extend(commands.try_iter().take(GROUP_ITEMS));
            while let Some(command) = waiting.pop_front() {
                #[cfg(test)]
                if matches!(command, Command::End) {
                    return;
                }
                self.refusals.clear();
                let handle = || self.handle(command, &mut waiting);
                if let Err(panic) = catch_unwind(AssertUnwindSafe(handle)) {
                    self.overcome(&*panic);
                }
            }
        }
    }

    fn handle(&mut self, command: Command, waiting: &mut VecDeque<Command>) {
        self.refusals.push(command.refusal());
        if let Err(error) = self.prepare() {
            tracing::error!(%error, "the gallery could not be opened again");
            if let Some(refuse) = self.refusals.pop() {
                refuse(error);
            }
            return;
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
                    self.refusals.extend(waiting.front().map(Command::refusal));
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
            #[cfg(test)]
            Command::End => {}
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
        let (mut changes, before, room) = {
            let state = self.shared.state();
            let room = (u32::MAX as usize).saturating_sub(state.slots());
            (Changes::of(&state), state.meta, room)
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
        if changes.layout != *self.shared.state().layout {
            transaction.set_layout(&changes.layout)?;
        }
        let adds = changes.meta.next_row > before.next_row;
        if adds {
            self.begin_epoch(&transaction, before)?;
        }
        transaction.set_meta(&changes.meta)?;
        #[cfg(test)]
        super::tests::panic_at("before the commit");
        transaction.commit()?;
        #[cfg(test)]
        super::tests::panic_at("after the commit");
        self.epoch_begun |= adds;
        // From here on the changes are durable, and must become visible.
        match self.log.reader() {
            Ok(reader) => self.apply(changes, reader),
            Err(error) => {
                tracing::warn!(%error, "the gallery is opened again after a write");
                self.recover_later();
            }
        }
        Ok(outcomes)
    }

    /// Notes in the database from which row on this thread has added, once, and forgets what was noted of others for nobody.
    fn begin_epoch(&self, transaction: &Transaction, before: Meta) -> Result<(), redb::Error> {
        if self.epoch_begun {
            return Ok(());
        }
        // Whoever saves a graph meanwhile refers to the last one.
        match saved_graphs::epochs(&self.shared.folder) {
            Ok(used) => transaction.forget_epochs(&used)?,
            Err(error) => tracing::debug!(%error, "no epoch is forgotten"),
        }
        transaction.add_epoch(Epoch {
            first_row: before.next_row,
            number: self.epoch,
        })
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
        for space in changes.moved {
            let name = changes.layout.names().get(space as usize);
            name.into_iter().for_each(|name| state.moves.note(name));
        }
        state.layout = Arc::new(changes.layout);
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
        let view = View::of(&self.shared.state())?;
        for one in replacements {
            if let Some(row) = view.reader().row(&id_key(&one.read.id))? {
                now.extend(view.item(row, true)?);
            }
        }
        drop(view);
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
        let mut conditions = Conditions::new(filter, None);
        conditions.look_ahead(&self.shared)?;
        // Only this thread changes what is stored.
        let (rows, view) = {
            let state = self.shared.state();
            let applied = conditions.as_of(&state)?;
            let mut chosen = Vec::new();
            for rows in state.partitions.values() {
                match applied.allowed(&self.shared, rows, &HashSet::new()) {
                    Some(allowed) => chosen.extend(allowed.iter().map(|slot| rows.number(slot))),
                    None => chosen.extend((0..rows.slots()).map(|slot| rows.number(slot))),
                }
            }
            (chosen, View::of(&state)?)
        };
        let mut keys = Vec::new();
        for row in rows {
            let key = view.reader().record(row, |record| {
                let passes = conditions.payload_passes(&record)?;
                Ok(passes.then(|| record.id_key.to_vec()))
            })?;
            keys.extend(key.flatten());
        }
        Ok(keys)
    }

    /// Switches to a compacted copy. What is stored stays the same in any case, and an error before the last step leaves the file as it was.
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
                self.recover_later();
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
        let replaced = replace_all(snapshot, path, &writer, meta, next_partition)
            .and_then(|info| Ok((info, self.begin_epoch(&writer, meta)?)));
        match replaced {
            Ok((info, ())) => {
                writer.commit().map_err(|error| {
                    let problem = self.failed(error);
                    self.log.storage(problem)
                })?;
                self.epoch_begun = true;
                if let Err(error) = self.follow() {
                    tracing::warn!(%error, "the restored gallery is opened again");
                    self.recover_later();
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
