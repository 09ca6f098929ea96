//! A session with one collection.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::address::QdrantAddress;
use super::alias::aliases;
use super::client::Client;
use super::collection::{Collection, VectorParams, create, delete};
use super::mark::FIELD;
use super::point::{Carried, Page, Selection, scroll};
use super::point_id::PointId;
use super::record::{Record, Which};
use super::upsert::index;
use crate::engine::{Access, Engine, Migration, Origin, PATIENCE, Target, copies_name, required};
use crate::error::ConnectError;
use crate::observer::StopSignal;
use crate::qualified_name::QualifiedName;

/// How long a lease lasts that nobody renews.
const LEASE: Duration = Duration::from_secs(30);
/// How long a run waits for the lease of an earlier one.
const LEASE_PATIENCE: Duration = Duration::from_secs(45);

/// A session with a collection.
pub(crate) struct Qdrant {
    pub(super) client: Client,
    pub(super) collection: Collection,
    pub(super) vector: String,
    /// The most points per second that are read in one go.
    pub(super) rate: Option<f64>,
    lease: Mutex<Option<Lease>>,
}

struct Lease {
    which: Which,
    renewed: Instant,
}

impl Qdrant {
    fn new(
        address: &QdrantAddress,
        table: &QualifiedName,
        vector: Option<&str>,
        (rate, patience): (Option<f64>, Duration),
    ) -> Result<Self, ConnectError> {
        let client = Client::new(address, patience)?;
        let name = &table.name;
        let collection = Collection::find(&client, name)?
            .ok_or_else(|| ConnectError::State(format!("there is no collection {name}")))?;
        if let Some(meant) = aliases(&client)?.get(name) {
            return Err(ConnectError::State(format!(
                "{name} is an alias of collection {meant}, and moves; name the collection itself"
            )));
        }
        let vector = collection.chosen(vector)?;
        Ok(Self {
            client,
            collection,
            vector,
            rate,
            lease: Mutex::new(None),
        })
    }

    /// What the migrated vector is.
    pub(super) fn params(&self) -> &VectorParams {
        self.collection
            .vectors
            .get(&self.vector)
            .expect("the vector was chosen among these")
    }

    /// A page of the migrated collection, or of the copies. The lease is kept meanwhile.
    pub(super) fn page(
        &self,
        collection: &str,
        selection: &Selection,
        from: Option<&PointId>,
        at_once: &mut usize,
    ) -> Result<Page, ConnectError> {
        self.keep()?;
        scroll(&self.client, collection, selection, from, at_once)
    }

    /// How many points a page has: no more than a second's worth under a rate, since the lease is not renewed while a page is waited for.
    pub(super) fn page_points(&self, most: usize) -> usize {
        match self.rate {
            Some(rate) => most.min(rate.ceil().max(1.0) as usize),
            None => most,
        }
    }

    /// How long a lease must last: one row may wait for long at a low rate, and a request for as long as the server asks.
    fn term(&self) -> Duration {
        let row = self.rate.map_or(0.0, f64::recip);
        LEASE + Duration::try_from_secs_f64(row).unwrap_or(LEASE) + self.client.longest_wait()
    }

    /// Renews the lease, if there is one and it is time.
    pub(super) fn keep(&self) -> Result<(), ConnectError> {
        let due = self
            .lease()
            .as_ref()
            .filter(|lease| lease.renewed.elapsed() > LEASE / 3)
            .map(|lease| lease.which.clone());
        match due {
            Some(which) => self.note_of(&which, json!({})),
            None => Ok(()),
        }
    }

    /// Notes something about the migration that is locked.
    pub(super) fn note_fields(&self, name: &str, fields: Value) -> Result<(), ConnectError> {
        self.note_of(&Which::new(&self.collection.name, name), fields)
    }

    fn note_of(&self, which: &Which, fields: Value) -> Result<(), ConnectError> {
        which.note(&self.client, fields, self.term())?;
        if let Some(lease) = self.lease().as_mut() {
            lease.renewed = Instant::now();
        }
        Ok(())
    }

    fn lease(&self) -> std::sync::MutexGuard<'_, Option<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that the copies are there.
    ///
    /// # Errors
    /// [`ConnectError::State`] if somebody dropped them.
    pub(super) fn check_copies(&self, migration: &Migration<PointId>) -> Result<(), ConnectError> {
        match Collection::find(&self.client, &migration.copies.name)? {
            Some(_) => Ok(()),
            None => Err(ConnectError::State(format!(
                "collection {} of migration {} is gone; remove what is left with `migrate clean`",
                migration.copies, migration.name
            ))),
        }
    }

    /// A migration as it is noted. What its alias shows is what the server says, not what was noted.
    fn migration(&self, record: Record) -> Result<Option<Migration<PointId>>, ConnectError> {
        if !record.ready {
            return Ok(None);
        }
        let view = match record.alias {
            Some(alias) => {
                let shows_new = aliases(&self.client)?.get(&alias) == Some(&record.copies);
                Some((QualifiedName::from(&*alias), shows_new))
            }
            None => None,
        };
        Ok(Some(Migration {
            name: record.name,
            key: String::new(),
            vector: record.vector,
            copies: QualifiedName::from(&*record.copies),
            dim: record.dim,
            origin: Origin::of(record.bridge, record.certificate),
            first_pass_done: record.first_pass_done,
            place: record.place,
            file: record.file.map(|file| (file, record.file_rows)),
            view,
        }))
    }

    /// Makes the collection of the copies. One that an earlier try left behind is empty, and is made anew.
    fn make_copies(
        &self,
        which: &Which,
        copies: &str,
        begun: bool,
        dim: usize,
    ) -> Result<(), ConnectError> {
        if Collection::find(&self.client, copies)?.is_some() {
            let some = scroll(&self.client, copies, &Selection::ids(), None, &mut 1)?;
            let ours = begun && some.points.is_empty();
            if !ours {
                which.forget(&self.client)?;
                return Err(ConnectError::State(format!(
                    "collection {copies} exists already, and no migration of this name made it; choose another --name, or drop it"
                )));
            }
            delete(&self.client, copies)?;
        }
        let like = self.collection.like(&self.vector, dim);
        create(&self.client, copies, &like)?;
        self.collection.copy_indexes(&self.client, copies)?;
        match self.collection.demands_indexes() {
            true => index(&self.client, copies, FIELD, "keyword"),
            false => Ok(()),
        }
    }
}

impl Engine for Qdrant {
    type Address = QdrantAddress;
    type Key = PointId;
    type Source = Carried;

    async fn open(
        address: &QdrantAddress,
        target: &Target<'_>,
        access: Access,
    ) -> Result<Self, ConnectError> {
        if target.key.is_some() {
            return Err(ConnectError::Usage(
                "points of Qdrant have their id and no column for it; leave --id-column out"
                    .to_owned(),
            ));
        }
        let engine = Self::new(
            address,
            target.table,
            target.vector,
            (target.rate, target.patience),
        )?;
        if access == Access::Write {
            engine.collection.check_copyable()?;
        }
        Ok(engine)
    }

    async fn open_migration(
        address: &QdrantAddress,
        table: &QualifiedName,
        name: &str,
        _: Access,
    ) -> Result<(Self, Migration<PointId>), ConnectError> {
        let record = Which::new(&table.name, name).read(&Client::new(address, PATIENCE)?)?;
        let record = required(record.filter(|record| record.ready), table, name)?;
        let engine = Self::new(address, table, Some(&record.vector), (None, PATIENCE))?;
        let migration = required(engine.migration(record)?, table, name)?;
        Ok((engine, migration))
    }

    /// Each request opens a connection where there is none.
    async fn reconnect(&mut self) -> Result<(), ConnectError> {
        Ok(())
    }

    fn heed(&mut self, stop: Option<StopSignal>) {
        self.client.heed(stop);
    }

    fn vector(&self) -> &str {
        &self.vector
    }

    fn key(&self) -> &str {
        ""
    }

    fn dim(&self) -> Option<usize> {
        Some(self.params().size as usize)
    }

    fn estimated_rows(&self) -> Option<u64> {
        self.collection.points
    }

    async fn find(&self, name: &str) -> Result<Option<Migration<PointId>>, ConnectError> {
        let which = Which::new(&self.collection.name, name);
        let Some(record) = which.read(&self.client)? else {
            return Ok(None);
        };
        self.migration(record)
    }

    async fn begin(&mut self, name: &str, dim: usize, origin: &Origin) -> Result<(), ConnectError> {
        let which = Which::new(&self.collection.name, name);
        let copies = copies_name(&self.collection.name, name);
        let record = which.read(&self.client)?;
        // An earlier try noted the name before it made the collection.
        let begun = record.is_some_and(|record| record.copies == copies);
        if !begun && Collection::find(&self.client, &copies)?.is_some() {
            return self.make_copies(&which, &copies, false, dim);
        }
        let (bridge, certificate) = origin.hashes();
        let fields = json!({
            "vector": self.vector, "copies": copies, "dim": dim, "bridge": bridge, "certificate": certificate,
        });
        self.note_of(&which, fields)?;
        self.make_copies(&which, &copies, true, dim)?;
        self.note_of(&which, json!({"ready": true}))
    }

    async fn lock(&mut self, name: &str) -> Result<(), ConnectError> {
        let which = Which::new(&self.collection.name, name);
        let begun = Instant::now();
        while !which.take(&self.client, &self.collection, self.term())? {
            if begun.elapsed() > LEASE_PATIENCE {
                return Err(ConnectError::Busy(format!(
                    "another process works at migration {name} of {}; wait for it, or stop it",
                    self.collection.name
                )));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        *self.lease() = Some(Lease {
            which,
            renewed: Instant::now(),
        });
        Ok(())
    }

    async fn release(&mut self) {
        let lease = self.lease().take();
        if let Some(lease) = lease
            && let Err(error) = lease.which.give_back(&self.client)
        {
            // It runs out by itself.
            tracing::debug!("the lease of a migration could not be given back: {error}");
        }
    }
}
