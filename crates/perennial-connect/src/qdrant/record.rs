//! What the cluster knows about migrations: points of a collection of ours. Each also holds the lease of whoever works at the migration.
//!
//! A point is changed under a condition, so of two that take a free lease only one gets it. It cannot be made under one, nor can the collection be
//! removed: whoever makes a point or removes the collection first writes a claim, a point of its own, and then looks for claims of others. Of two
//! that do so at once, at least one sees the other and waits.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use perennial_core::checksum::sha256_hex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::{Client, collection_path};
use super::collection::{Collection, create, delete};
use super::failure::Failure;
use super::point_id::{PointId, hyphenated};
use super::upsert::{index, send_note};
use crate::error::ConnectError;

/// The collection of migrations.
const NOTES: &str = "perennial_migrations";
/// What notes are filtered by, and how it is indexed where it must be.
const FILTERED: [(&str, &str); 3] = [
    ("owner", "keyword"),
    ("claim", "keyword"),
    ("until", "integer"),
];
/// How long a claim counts whose process was killed: longer than any request of it may take.
const CLAIM: Duration = Duration::from_secs(150);
/// How often a claim is tried, up to a fifth of a second apart.
const CLAIMS: u32 = 10;

/// A migration as it is noted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    pub(super) source: String,
    pub(super) name: String,
    pub(super) vector: String,
    pub(super) copies: String,
    pub(super) dim: usize,
    pub(super) bridge: Option<String>,
    pub(super) certificate: Option<String>,
    /// Whether the collection of the copies is made.
    pub(super) ready: bool,
    pub(super) first_pass_done: bool,
    pub(super) place: Option<PointId>,
    pub(super) file: Option<String>,
    pub(super) file_rows: u64,
    pub(super) alias: Option<String>,
    owner: Option<String>,
}

/// Which migration.
#[derive(Debug, Clone)]
pub(super) struct Which {
    id: PointId,
    source: String,
    name: String,
    /// Who this session is. Threads that it begins are the same session.
    owner: String,
}

#[derive(Deserialize)]
struct Noted {
    payload: Option<Record>,
}

/// A name for a session: this thread of this process.
fn owner() -> String {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    let process = PROCESS.get_or_init(|| RandomState::new().hash_one(std::process::id()));
    format!("{process:016x}-{:?}", std::thread::current().id())
}

/// Seconds since 1970. Leases of machines whose clocks differ are longer or shorter by as much.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

impl Which {
    pub(super) fn new(source: &str, name: &str) -> Self {
        let digits = sha256_hex(format!("{source}\n{name}").as_bytes());
        Self {
            id: PointId::Uuid(hyphenated(&digits)),
            source: source.to_owned(),
            name: name.to_owned(),
            owner: owner(),
        }
    }

    /// What is noted; nothing if there is no such migration.
    pub(super) fn read(&self, client: &Client) -> Result<Option<Record>, ConnectError> {
        let path = format!("{}/points?consistency=majority", collection_path(NOTES));
        let body = json!({"ids": [self.id], "with_payload": true, "with_vector": false});
        match client.read::<Vec<Noted>>(&path, &body) {
            Ok(points) => Ok(points.into_iter().find_map(|point| point.payload)),
            Err(Failure::Missing(_)) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Notes something about a migration that this session works at.
    ///
    /// # Errors
    /// [`ConnectError::State`] if another one works at it by now, or it was removed.
    pub(super) fn note(
        &self,
        client: &Client,
        mut fields: Value,
        lease: Duration,
    ) -> Result<(), ConnectError> {
        fields["until"] = json!(now() + lease.as_secs());
        self.set(client, &fields, &self.mine())?;
        match self.read(client)? {
            Some(record) if record.owner.as_deref() == Some(&*self.owner) => Ok(()),
            Some(_) => Err(ConnectError::State(format!(
                "another process took over migration {} of {} while this one waited for longer than its lease; run again",
                self.name, self.source
            ))),
            None => Err(ConnectError::State(format!(
                "migration {} of {} is gone; somebody cleaned it while it ran",
                self.name, self.source
            ))),
        }
    }

    /// Takes the lease of a migration, which need not be there yet; whether it was free.
    pub(super) fn take(
        &self,
        client: &Client,
        migrated: &Collection,
        lease: Duration,
    ) -> Result<bool, ConnectError> {
        if Collection::find(client, NOTES)?.is_none() {
            match create(client, NOTES, &migrated.notes()) {
                // Somebody else was faster.
                Err(ConnectError::Server { code, .. }) if code == "409" || code == "400" => {}
                result => result?,
            }
        }
        match self.take_existing(client, lease) {
            // Whoever ended the last migration has removed the collection meanwhile.
            Err(ConnectError::Server { code, .. }) if code == "404" => Ok(false),
            result => result,
        }
    }

    fn take_existing(&self, client: &Client, lease: Duration) -> Result<bool, ConnectError> {
        if self.read(client)?.is_none() {
            let made = self.claimed(client, || match self.read(client)? {
                Some(_) => Ok(()),
                None => {
                    let record = Record {
                        source: self.source.clone(),
                        name: self.name.clone(),
                        ..Record::default()
                    };
                    put(client, &self.id, &json!(record))
                }
            });
            if made?.is_none() {
                return Ok(false);
            }
        }
        let free = json!({
            "must": [{"has_id": [self.id]}],
            "should": [
                {"is_empty": {"key": "owner"}},
                {"key": "owner", "match": {"value": self.owner}},
                {"key": "until", "range": {"lt": now()}},
            ],
        });
        // The server applies writes to a point one after the other, so of two that find it free, the second does not.
        let fields = json!({"owner": self.owner, "until": now() + lease.as_secs()});
        self.set(client, &fields, &free)?;
        let record = self.read(client)?;
        Ok(record.is_some_and(|record| record.owner.as_deref() == Some(&*self.owner)))
    }

    /// Gives the lease back, if it is still this session's. What was noted for a migration that was not begun goes with it.
    pub(super) fn give_back(&self, client: &Client) -> Result<(), ConnectError> {
        match self.read(client)? {
            None => Ok(()),
            Some(record) if record.owner.as_deref() != Some(&*self.owner) => Ok(()),
            Some(record) if record.copies.is_empty() => self.forget(client),
            Some(_) => self.set(client, &json!({"owner": null}), &self.mine()),
        }
    }

    /// The condition that the lease is this session's.
    fn mine(&self) -> Value {
        json!({"must": [{"has_id": [self.id]}, {"key": "owner", "match": {"value": self.owner}}]})
    }

    /// Removes what is noted, and the collection of migrations with the last of them.
    pub(super) fn forget(&self, client: &Client) -> Result<(), ConnectError> {
        remove(client, &self.id)?;
        let removed = self.claimed(client, || {
            // Claims that are left are those of processes that were killed.
            let others = json!({"must": [{"is_empty": {"key": "claim"}}]});
            match any(client, &others)? {
                false => delete(client, NOTES),
                true => Ok(()),
            }
        });
        match removed {
            // Another process removed it with the last of its own.
            Err(ConnectError::Server { code, .. }) if code == "404" => Ok(()),
            // Or uses it, and removes it later.
            result => result.map(drop),
        }
    }

    /// Does what must not meet the same of another session: making a point, removing the collection. Nothing is done where others do so all
    /// the time.
    fn claimed<T>(
        &self,
        client: &Client,
        work: impl Fn() -> Result<T, ConnectError>,
    ) -> Result<Option<T>, ConnectError> {
        let digits =
            sha256_hex(format!("{}\n{}\n{}", self.owner, self.source, self.name).as_bytes());
        let id = PointId::Uuid(hyphenated(&digits));
        for attempt in 0..CLAIMS {
            let claim = json!({"claim": self.owner, "until": now() + CLAIM.as_secs()});
            put(client, &id, &claim)?;
            let others = json!({"must_not": [
                {"is_empty": {"key": "claim"}},
                {"has_id": [id]},
                {"key": "until", "range": {"lt": now()}},
            ]});
            let done = match any(client, &others) {
                Ok(false) => work().map(Some),
                Ok(true) => Ok(None),
                Err(error) => Err(error),
            };
            let gone = match remove(client, &id) {
                // With the collection.
                Err(ConnectError::Server { code, .. }) if code == "404" => Ok(()),
                result => result,
            };
            if let Some(done) = done? {
                gone?;
                return Ok(Some(done));
            }
            gone?;
            // Two that saw each other must not meet again.
            let pause = RandomState::new().hash_one(attempt) % 200;
            std::thread::sleep(Duration::from_millis(pause));
        }
        Ok(None)
    }

    fn set(&self, client: &Client, fields: &Value, filter: &Value) -> Result<(), ConnectError> {
        let path = format!("{}/points/payload", collection_path(NOTES));
        let body = json!({"payload": fields, "filter": filter});
        Ok(indexed(client, || send_note(client, "POST", &path, &body))?)
    }
}

fn put(client: &Client, id: &PointId, payload: &Value) -> Result<(), ConnectError> {
    let path = format!("{}/points", collection_path(NOTES));
    let point = json!({"id": id, "vector": [1.0], "payload": payload});
    Ok(send_note(
        client,
        "PUT",
        &path,
        &json!({"points": [point]}),
    )?)
}

fn remove(client: &Client, id: &PointId) -> Result<(), ConnectError> {
    let path = format!("{}/points/delete", collection_path(NOTES));
    Ok(send_note(client, "POST", &path, &json!({"points": [id]}))?)
}

/// Whether there are notes that meet a condition, as most of the replicas have it, which is what was written last.
fn any(client: &Client, filter: &Value) -> Result<bool, ConnectError> {
    #[derive(Deserialize)]
    struct Page {
        points: Vec<Value>,
    }
    let path = format!(
        "{}/points/scroll?consistency=majority",
        collection_path(NOTES)
    );
    let body = json!({"limit": 1, "filter": filter, "with_payload": false});
    let page: Page = indexed(client, || client.read(&path, &body))?;
    Ok(!page.points.is_empty())
}

/// Does something with a filter. Clusters may demand, of every new collection, indexes of what is filtered by.
fn indexed<T>(client: &Client, work: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut left = FILTERED.len();
    loop {
        match work() {
            Err(Failure::Unindexed { key, error }) => {
                let field = FILTERED.iter().find(|(field, _)| *field == key);
                let (Some((field, kind)), 1..) = (field, left) else {
                    return Err(Failure::Other(error));
                };
                index(client, NOTES, field, kind).map_err(Failure::Other)?;
                left -= 1;
            }
            result => return result,
        }
    }
}
