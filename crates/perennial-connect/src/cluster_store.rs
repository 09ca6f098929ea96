//! A gallery in Qdrant: every write is a generation, which counts from one moment on or never.
//!
//! # Collections
//! A space is a collection of its own. Servers before 1.20 cannot add a named vector to a collection that is there, and a space may come at any time;
//! besides, a collection of one vector without a name has its own index, which other spaces neither grow nor slow down. `NAME` is the gallery's own collection
//! with one point, the head: its spaces with their dimensions and numbers of items, the generation that counts, and whose turn it is to write.
//! `NAME.GENERATION.NUMBER` is the collection of a space; its name is never used again.
//!
//! A point is an item as one generation stored it. Its id is the number of that generation and 80 bits of the SHA-256 of the item's id, which stands in the
//! payload as well: generations share no points, and within one, two items of one point would be noticed and refused. The distance is `Dot`, since `Cosine` would
//! normalise vectors of unit length once more, and not give back what was stored.
//!
//! # Writes without transactions
//! Qdrant applies one request atomically to one point, and nothing more. A write takes the turn to write (`lease`), stores its points with `from`
//! set to the next generation, and marks those that they replace with `until`. Nothing of that counts: a reader reads the head first,
//! and then asks for points with `from` up to the generation that counts, and without `until` up to it. At last one conditional request to the head
//! makes the generation count, with the new numbers of items, and ends the turn. So an item is in one space at any moment, a batch is
//! there as a whole or not at all, and a reader sees one state across all collections.
//!
//! A writer that is killed loses its turn after a quarter of a minute. Its generation is noted as aborted by the next one, and every reader
//! leaves aborted generations out, so requests of it that arrive late change nothing. After an hour, what they left is removed.
//!
//! # Removing
//! Superseded points stay for a minute at least, for readers that have begun. Then a writer notes in the head up to where they may be gone, and
//! removes them. A reader looks at the head once more in the end, and reads again if what it read may have been incomplete.

mod head;
mod lease;
mod maintenance;
mod order;
mod pages;
mod pin;
mod places;
mod reading;
mod row;
mod search;
mod server;
mod snapshots;
mod sweep;
mod view;
mod writing;

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use perennial_core::SpaceId;
use perennial_gallery::request_checks::{
    check_delete_where, check_ids, check_items, check_page, check_search,
};
use perennial_gallery::{
    Filter, GalleryError, Hit, Item, ItemId, Page, Replacement, SearchRequest, SpaceStats,
    StoreSpace, StoredItem, Upserted, VectorStore,
};

use self::head::Head;
use self::lease::Lease;
use self::places::Places;
use self::server::Server;
use self::view::View;
use self::writing::Writing;
use crate::address::Address;
use crate::failure::Failure;
use crate::store_options::StoreOptions;
use crate::turns::Turns;

/// How long an operation is repeated whose connection broke: about as long as a server takes to restart.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a read is made again that took longer than superseded points stay.
const READS: u32 = 5;

/// A gallery in Qdrant. Several processes may have it open at once, for reading and for writing.
///
/// Writes of a process come one after another, and those of several processes as well. A bounded number of them waits, and none for longer than
/// [`StoreOptions::timeout`]; one that cannot wait fails with [`GalleryError::Busy`], and has changed nothing.
///
/// An operation whose connection breaks is repeated, for about ten seconds.
///
/// Call it from ordinary threads, not from tasks of an async runtime: it blocks.
#[derive(Debug)]
pub struct QdrantStore {
    server: Server,
    /// Who writes.
    owner: String,
    /// Writers of this process wait here, and do not keep asking the server.
    writers: Turns,
    readers: Places,
    read_only: bool,
    hnsw_from: u64,
}

impl QdrantStore {
    /// Opens the gallery that the address names, which is made if need be, without items.
    ///
    /// # Errors
    /// [`GalleryError::Database`] where the server cannot be reached, refuses the key, or has other data under the name, or no gallery that was to be only
    /// read; [`GalleryError::Format`] for a gallery of another version of this program; [`GalleryError::InvalidConfig`] for options that cannot work.
    pub fn open(address: &Address, options: &StoreOptions) -> Result<Self, GalleryError> {
        options.check()?;
        let invalid = |key, problem: &str| GalleryError::InvalidConfig {
            key,
            problem: problem.to_owned(),
        };
        let Some(address) = address.qdrant() else {
            return Err(invalid("store.url", "is not that of a Qdrant"));
        };
        if options.schema != StoreOptions::default().schema {
            return Err(invalid(
                "store.schema",
                "Qdrant has no schemas; the URL names the gallery, qdrant://HOST:PORT/NAME",
            ));
        }
        if is_of_space(address.collection()) {
            return Err(invalid(
                "store.url",
                "a name that ends in two numbers with dots is that of a space; give the gallery another one",
            ));
        }
        let server = Server::new(address, options)
            .map_err(|error| invalid("store.url", &error.to_string()))?;
        let random = RandomState::new().hash_one(std::process::id());
        let store = Self {
            server,
            owner: format!("{random:016x}"),
            writers: Turns::default(),
            readers: Places::new(options.connections - 1),
            read_only: options.read_only,
            hnsw_from: options.hnsw_from,
        };
        store.patiently(|server| head::prepare(server, options.read_only))?;
        Ok(store)
    }

    /// Host, port and name of the gallery.
    pub fn server(&self) -> &str {
        self.server.shown()
    }

    fn check_writable(&self) -> Result<(), GalleryError> {
        if self.read_only {
            return Err(GalleryError::ReadOnly {
                path: self.server().into(),
            });
        }
        Ok(())
    }

    /// Repeats what fails for a reason that passes.
    fn patiently<T>(
        &self,
        work: impl Fn(&Server) -> Result<T, Failure>,
    ) -> Result<T, GalleryError> {
        let mut until = None;
        let mut pause = Duration::from_millis(20);
        loop {
            let begun = Instant::now();
            let failure = match work(&self.server) {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
            // Not worth a second attempt where the first one took all the time there is.
            let is_over = Instant::now() >= until || begun.elapsed() >= self.server.timeout();
            if !failure.may_pass() || is_over {
                return Err(failure.into_gallery(self.server()));
            }
            tracing::debug!(?failure, "trying again");
            std::thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_secs(1));
        }
    }

    /// Reads from one state of the gallery.
    fn read<T>(&self, work: impl Fn(&View<'_>) -> Result<T, Failure>) -> Result<T, GalleryError> {
        let patience = self.server.timeout();
        let _place = self.readers.take(patience).ok_or_else(|| {
            let busy = self
                .server
                .busy("all connections are in use (store.connections)");
            busy.into_gallery(self.server())
        })?;
        self.patiently(|server| {
            for _ in 0..READS {
                let view = View::new(server, &Head::read(server)?);
                let done = work(&view);
                if let Err(Failure::Refused(_)) = done {
                    return done;
                }
                if Head::read(server)?.state.swept <= view.state.generation {
                    return done;
                }
            }
            Err(server.busy("reads take longer than superseded items stay"))
        })
    }

    /// Changes the gallery, alone, all at once.
    fn write<T>(
        &self,
        change: impl Fn(&mut Writing<'_>) -> Result<T, Failure>,
    ) -> Result<T, GalleryError> {
        self.check_writable()?;
        let turn = self.writers.take(self.server.timeout());
        let _turn = turn.map_err(|problem| GalleryError::Busy {
            server: self.server().to_owned(),
            problem,
        })?;
        let done = self.patiently(|server| {
            let lease = Lease::take(server, &self.owner)?;
            let wrote = Cell::new(false);
            let done = lease.hold(|| {
                let mut writing = Writing::begin(&lease, server, self.hnsw_from, &wrote);
                let done = change(&mut writing)?;
                let state = match writing.is_changed() {
                    true => Some(writing.finish()?),
                    false => None,
                };
                Ok((done, state))
            });
            let done = done.and_then(|(done, state)| match state {
                Some(state) => lease
                    .commit(&state, &lease.head.aborted)
                    .map(|()| (done, true)),
                None => Ok((done, false)),
            });
            match done {
                Ok((done, true)) => Ok(done),
                Ok((done, false)) => {
                    lease.give_back(false);
                    Ok(done)
                }
                Err(failure) => {
                    lease.give_back(wrote.get());
                    Err(failure)
                }
            }
        })?;
        self.tidy();
        Ok(done)
    }

    /// Removes what is superseded, from time to time. It can be left to the next write.
    fn tidy(&self) {
        let swept = Head::read(&self.server).and_then(|head| match sweep::is_due(&head) {
            true => sweep::sweep(&self.server, &self.owner),
            false => Ok(()),
        });
        if let Err(failure) = swept {
            let error = failure.into_gallery(self.server());
            tracing::warn!(%error, "superseded items of the gallery were not removed; a later write removes them");
        }
    }
}

/// Whether a collection is called as those of spaces are.
fn is_of_space(name: &str) -> bool {
    let mut parts = name.rsplit('.');
    let mut is_number = || {
        parts
            .next()
            .is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    is_number() && is_number()
}

impl VectorStore for QdrantStore {
    fn spaces(&self) -> Result<Vec<SpaceStats>, GalleryError> {
        self.patiently(|server| Head::read(server)?.state.stats())
    }

    fn create_space(&self, space: &StoreSpace) -> Result<(), GalleryError> {
        space.check()?;
        self.write(|writing| writing.create(space))
    }

    fn upsert(&self, items: Vec<Item>) -> Result<Upserted, GalleryError> {
        check_items(&items, |_| None)?;
        if items.is_empty() {
            return Ok(Upserted::default());
        }
        self.write(|writing| writing.upsert(&items))
    }

    fn replace_unchanged(&self, items: Vec<Replacement>) -> Result<Vec<ItemId>, GalleryError> {
        let new: Vec<Item> = items.iter().map(Replacement::item).collect();
        check_items(&new, |_| None)?;
        if items.is_empty() {
            return Ok(Vec::new());
        }
        self.write(|writing| writing.replace_unchanged(&items))
    }

    fn delete(&self, ids: &[ItemId]) -> Result<usize, GalleryError> {
        check_ids(ids)?;
        if ids.is_empty() {
            return Ok(0);
        }
        self.write(|writing| writing.delete(ids))
    }

    fn delete_where(&self, filter: &Filter) -> Result<usize, GalleryError> {
        check_delete_where(filter)?;
        self.write(|writing| writing.delete_where(filter))
    }

    fn get(&self, ids: &[ItemId], with_embeddings: bool) -> Result<Vec<StoredItem>, GalleryError> {
        check_ids(ids)?;
        self.read(|view| reading::items(view, ids, with_embeddings))
    }

    fn scroll(
        &self,
        after: Option<&ItemId>,
        limit: usize,
        filter: &Filter,
        with_embeddings: bool,
    ) -> Result<Page, GalleryError> {
        check_page(after, limit, filter)?;
        self.read(|view| pages::page(view, after, limit, filter, with_embeddings))
    }

    fn search(&self, request: &SearchRequest<'_>) -> Result<Vec<Vec<Hit>>, GalleryError> {
        check_search(request)?;
        self.read(|view| search::search(view, request))
    }

    fn sample(&self, space: &SpaceId, limit: usize, seed: u64) -> Result<Vec<f32>, GalleryError> {
        self.read(|view| reading::sample(view, space, limit, seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_spaces_are_told_from_those_of_galleries() {
        assert!(is_of_space("shop.1.0") && is_of_space("a.b.12.3"));
        for name in ["shop", "shop.1", "shop.v1.0", "shop.1.", "1", ".1."] {
            assert!(!is_of_space(name), "{name}");
        }
    }
}
