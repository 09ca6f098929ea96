//! The requests of a gallery. Writes are applied before the answer and go through the permanent leader of a shard (`wait=true`, `ordering=strong`);
//! reads ask a majority of the replicas, so that they see what was written.

use std::time::Duration;

use perennial_gallery::GalleryError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::row::{Page, Row};
use crate::error::ConnectError;
use crate::failure::Failure;
use crate::qdrant::{Client, PointId, Points, QdrantAddress, Unanswered, collection_path};
use crate::store_options::StoreOptions;

/// What the server may take beyond its own limit until its refusal is here.
const GRACE: Duration = Duration::from_secs(10);
/// Through the permanent leader of a shard, and applied before the answer.
const APPLIED: &str = "wait=true&ordering=strong";
/// How long a request waits when the server asks it to, such as for a rate. A turn to write is kept meanwhile; those who ask for something for longer come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// Points of one request for points by id.
const RETRIEVED: usize = 1000;

/// A server, and how this gallery asks it.
pub(super) struct Server {
    client: Client,
    /// The collection with the head of the gallery; those of the spaces begin with it.
    name: String,
    /// Host, port and collection.
    shown: String,
    timeout: Duration,
    /// What new collections are asked for besides.
    copies: Value,
}

/// What the server says of a collection.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) status: String,
    #[serde(default)]
    pub(super) points_count: Option<u64>,
    #[serde(default)]
    pub(super) indexed_vectors_count: Option<u64>,
    pub(super) config: Value,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Server {
    pub(super) fn new(
        address: &QdrantAddress,
        options: &StoreOptions,
    ) -> Result<Self, ConnectError> {
        let mut copies = json!({});
        if options.shards > 0 {
            copies["shard_number"] = json!(options.shards);
        }
        if options.replicas > 0 {
            copies["replication_factor"] = json!(options.replicas);
            // A majority has every write, and a majority is asked by every read.
            copies["write_consistency_factor"] = json!(options.replicas / 2 + 1);
        }
        Ok(Self {
            client: Client::with_timeout(address, options.timeout + GRACE)?
                .waiting(PATIENCE.min(options.timeout)),
            name: address.collection().to_owned(),
            shown: address.to_string(),
            timeout: options.timeout,
            copies,
        })
    }

    /// Host, port and collection.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The collection with the head.
    pub(super) fn head(&self) -> &str {
        &self.name
    }

    /// The collection of a space.
    pub(super) fn of_space(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.name)
    }

    pub(super) fn busy(&self, problem: impl Into<String>) -> Failure {
        Failure::Refused(GalleryError::Busy {
            server: self.shown.clone(),
            problem: problem.into(),
        })
    }

    fn read<T: DeserializeOwned>(
        &self,
        collection: &str,
        what: &str,
        body: &Value,
    ) -> Result<T, Unanswered> {
        let path = format!(
            "{}/{what}?consistency=majority&timeout={}",
            collection_path(collection),
            self.timeout.as_secs().max(1)
        );
        self.client.send("POST", &path, body)
    }

    /// A page of points: `limit` of them, or fewer where an answer of so many would be too large, or is not allowed, which is then remembered.
    pub(super) fn scroll(
        &self,
        collection: &str,
        mut body: Value,
        limit: &mut usize,
    ) -> Result<Page, Failure> {
        loop {
            body["limit"] = json!(*limit);
            match self.read(collection, "points/scroll", &body) {
                Err(Unanswered::TooLarge) if *limit > 1 => *limit /= 2,
                Err(Unanswered::Split { most, .. }) if *limit > 1 && most != Some(0) => {
                    *limit = most.unwrap_or(*limit / 2).clamp(1, *limit - 1);
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// Points by id, with what items are made of.
    pub(super) fn retrieve(
        &self,
        collection: &str,
        ids: &[PointId],
        with_vector: bool,
    ) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::with_capacity(ids.len());
        let mut rest = ids;
        while !rest.is_empty() {
            let most = self.client.named.get().min(RETRIEVED);
            let some = &rest[..rest.len().min(most)];
            match self.retrieve_some(collection, some, with_vector, &mut rows) {
                // Reading counts by the number of ids where it is limited by rate.
                Err(Unanswered::Split { most, error }) => {
                    if !self.client.named.refused(some.len(), most) {
                        return Err(error.into());
                    }
                }
                read => {
                    read?;
                    rest = &rest[some.len()..];
                }
            }
        }
        Ok(rows)
    }

    fn retrieve_some(
        &self,
        collection: &str,
        ids: &[PointId],
        with_vector: bool,
        rows: &mut Vec<Row>,
    ) -> Result<(), Unanswered> {
        let body = json!({
            "ids": ids,
            "with_payload": ["key", "label", "payload"],
            "with_vector": with_vector,
        });
        match self.read::<Vec<Row>>(collection, "points", &body) {
            Err(Unanswered::TooLarge) if ids.len() > 1 => {
                let (first, second) = ids.split_at(ids.len() / 2);
                self.retrieve_some(collection, first, with_vector, rows)?;
                self.retrieve_some(collection, second, with_vector, rows)
            }
            answer => {
                rows.extend(answer?);
                Ok(())
            }
        }
    }

    /// Points that meet a condition, counted one by one.
    pub(super) fn count(&self, collection: &str, filter: &Value) -> Result<u64, Failure> {
        #[derive(Deserialize)]
        struct Count {
            count: u64,
        }
        let body = json!({"filter": filter, "exact": true});
        let counted: Count = self.read(collection, "points/count", &body)?;
        Ok(counted.count)
    }

    /// The nearest points of each of some searches, which go in several requests where the server takes no more or the answer were too large.
    pub(super) fn query(
        &self,
        collection: &str,
        searches: &[Value],
    ) -> Result<Vec<Vec<Row>>, Failure> {
        #[derive(Deserialize)]
        struct Found {
            points: Vec<Row>,
        }
        let body = json!({ "searches": searches });
        let found: Vec<Found> = match self.read(collection, "points/query/batch", &body) {
            Err(Unanswered::TooLarge | Unanswered::Split { .. }) if searches.len() > 1 => {
                let (first, second) = searches.split_at(searches.len() / 2);
                let mut found = self.query(collection, first)?;
                found.extend(self.query(collection, second)?);
                return Ok(found);
            }
            found => found?,
        };
        if found.len() != searches.len() {
            return Err(Failure::Database(ConnectError::Value(format!(
                "{} answers to {} searches",
                found.len(),
                searches.len()
            ))));
        }
        Ok(found.into_iter().map(|found| found.points).collect())
    }

    /// A point of the head's collection.
    pub(super) fn noted<T: DeserializeOwned>(&self, id: &PointId) -> Result<Option<T>, Unanswered> {
        #[derive(Deserialize)]
        struct Noted<T> {
            payload: T,
        }
        let body = json!({"ids": [id], "with_payload": true, "with_vector": false});
        let found: Vec<Noted<T>> = self.read(&self.name, "points", &body)?;
        Ok(found.into_iter().next().map(|noted| noted.payload))
    }

    /// Points of the head's collection.
    pub(super) fn points_of_head<T: DeserializeOwned>(
        &self,
        body: &Value,
    ) -> Result<Vec<T>, Failure> {
        #[derive(Deserialize)]
        struct Points<T> {
            points: Vec<T>,
        }
        let found: Points<T> = self.read(&self.name, "points/scroll", body)?;
        Ok(found.points)
    }

    fn write(
        &self,
        method: &str,
        collection: &str,
        what: &str,
        body: Vec<u8>,
    ) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Applied {
            status: String,
        }
        let path = format!("{}/{what}?{APPLIED}", collection_path(collection));
        let applied: Applied = self.client.ask(method, &path, Some(&body))?;
        match applied.status.as_str() {
            "completed" => Ok(()),
            // It may still come to be applied, so it counts as lost.
            other => Err(self.passing(format!("a write was not applied in time ({other})"))),
        }
    }

    /// A failure after which the same may succeed.
    pub(super) fn passing(&self, problem: String) -> Failure {
        Failure::Database(ConnectError::Connection {
            server: self.shown.clone(),
            problem,
        })
    }

    /// Whether points fill a request.
    pub(super) fn are_enough(&self, points: &Points) -> bool {
        points.are_enough(&self.client)
    }

    /// Stores points, in as many requests as the server wants, and forgets them.
    pub(super) fn put_all(&self, collection: &str, points: &mut Points) -> Result<(), Failure> {
        let path = format!("{}/points?{APPLIED}", collection_path(collection));
        Ok(points.send(&self.client, &path)?)
    }

    /// Stores a point, given as its JSON.
    pub(super) fn put(&self, collection: &str, point: &[u8]) -> Result<(), Failure> {
        let body = [b"{\"points\":[", point, b"]}"].concat();
        self.write("PUT", collection, "points", body)
    }

    /// Sets fields of the points that meet a condition.
    pub(super) fn set(
        &self,
        collection: &str,
        fields: &Value,
        filter: &Value,
    ) -> Result<(), Failure> {
        let body = json!({"payload": fields, "filter": filter}).to_string();
        self.write("POST", collection, "points/payload", body.into_bytes())
    }

    /// Removes a field from the points that meet a condition.
    pub(super) fn unset(
        &self,
        collection: &str,
        field: &str,
        filter: &Value,
    ) -> Result<(), Failure> {
        let body = json!({"keys": [field], "filter": filter}).to_string();
        self.write(
            "POST",
            collection,
            "points/payload/delete",
            body.into_bytes(),
        )
    }

    pub(super) fn delete(&self, collection: &str, filter: &Value) -> Result<(), Failure> {
        let body = json!({ "filter": filter }).to_string();
        self.write("POST", collection, "points/delete", body.into_bytes())
    }

    /// A collection as the server describes it, if it is there.
    pub(super) fn info(&self, collection: &str) -> Result<Option<Info>, Failure> {
        match self.client.get(&collection_path(collection)) {
            Ok(info) => Ok(Some(info)),
            Err(Unanswered::Missing(_)) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Makes a collection; whether it was not there before.
    pub(super) fn create(&self, collection: &str, mut body: Value) -> Result<bool, Failure> {
        if let (Value::Object(body), Value::Object(copies)) = (&mut body, &self.copies) {
            for (key, value) in copies {
                body.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        let made = self
            .client
            .send::<Value>("PUT", &collection_path(collection), &body);
        match made.map_err(ConnectError::from) {
            Ok(_) => Ok(true),
            Err(ConnectError::Server { message, code })
                if code == "409" || message.contains("already exists") =>
            {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Changes the parameters of a collection.
    pub(super) fn change(&self, collection: &str, body: &Value) -> Result<(), Failure> {
        let done = self
            .client
            .send::<Value>("PATCH", &collection_path(collection), body);
        Ok(done.map(drop)?)
    }

    /// Drops a collection, which need not be there.
    pub(super) fn drop_collection(&self, collection: &str) -> Result<(), Failure> {
        let path = collection_path(collection);
        match self.client.ask::<Value>("DELETE", &path, None) {
            Ok(_) | Err(Unanswered::Missing(_)) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Has a field of payloads indexed.
    pub(super) fn index(&self, collection: &str, field: &str, kind: &str) -> Result<(), Failure> {
        let body = json!({"field_name": field, "field_schema": kind}).to_string();
        self.write("PUT", collection, "index", body.into_bytes())
    }

    /// The names of all collections.
    pub(super) fn collections(&self) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        struct All {
            collections: Vec<Named>,
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let all: All = self.client.get("/collections")?;
        Ok(all
            .collections
            .into_iter()
            .map(|named| named.name)
            .collect())
    }
}

impl From<Unanswered> for Failure {
    fn from(failure: Unanswered) -> Self {
        Self::Database(failure.into())
    }
}
