//! A cluster for a test, and what the test does there as any program would: by REST.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use perennial_connect::{Address, QualifiedName, StoreOptions};
use serde_json::{Map, Value, json};
use ureq::Agent;

use crate::double::Double;
use crate::spaces::vector_of;

/// The names of the variables of a real cluster.
const CLUSTER: &str = "PERENNIAL_QDRANT";
const KEY: &str = "QDRANT_API_KEY";

pub struct Cluster {
    agent: Agent,
    pub base: String,
    url: String,
    key: Option<String>,
    double: Option<Double>,
    /// The migrated collection, which no other test has.
    pub name: String,
}

/// A point as a test sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub vector: Value,
    pub payload: Map<String, Value>,
}

impl Seen {
    /// The vector of a name.
    pub fn dense(&self, name: &str) -> Vec<f32> {
        let values = match name {
            "" if self.vector.is_array() => &self.vector,
            name => &self.vector[name],
        };
        let values = values.as_array().unwrap_or_else(|| panic!("{self:?}"));
        values
            .iter()
            .map(|value| value.as_f64().unwrap() as f32)
            .collect()
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The cluster in the environment, or a double.
pub fn cluster() -> Cluster {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("perennial_test_{}_{number}", std::process::id());
    match variable(CLUSTER) {
        Some(url) => Cluster::new(url, variable(KEY), None, name),
        None => {
            let double = Double::start();
            let url = format!("qdrant://127.0.0.1:{}", double.port);
            Cluster::new(url, None, Some(double), name)
        }
    }
}

/// A cluster whose insides are known; nothing where the tests run against a real one.
pub fn double() -> Option<Cluster> {
    let cluster = cluster();
    if cluster.double.is_none() {
        println!(
            "skipped: faults and a look inside need the tests' own server, and {CLUSTER} names a real one"
        );
        return None;
    }
    Some(cluster)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.double.is_none() {
            // A cluster that a test broke keeps them; a panic here would hide why.
            let _ = self.drop_collections();
        }
    }
}

impl Cluster {
    fn new(url: String, key: Option<String>, double: Option<Double>, name: String) -> Self {
        let base = url
            .trim_end_matches('/')
            .replace("qdrants://", "https://")
            .replace("qdrant://", "http://");
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None);
        Self {
            agent: config.build().into(),
            base,
            url: url.trim_end_matches('/').to_owned(),
            key,
            double,
            name,
        }
    }

    /// Drops the collections that the test has made: all have its own name, alone or with something after it.
    fn drop_collections(&self) -> Option<()> {
        let (_, all) = self.try_ask("GET", "/collections", &Value::Null).ok()?;
        for collection in all["result"]["collections"].as_array()? {
            let name = collection["name"].as_str()?;
            let rest = name.strip_prefix(&self.name);
            if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_')) {
                let path = format!("/collections/{name}");
                self.try_ask("DELETE", &path, &Value::Null).ok()?;
            }
        }
        Some(())
    }

    /// The options of galleries, with the shards and replicas that are asked for.
    pub fn gallery_options() -> StoreOptions {
        let number = |name: &str| variable(name).map_or(0, |value| value.parse().unwrap());
        let mut options = StoreOptions::default();
        options.shards = number("PERENNIAL_QDRANT_SHARDS");
        options.replicas = number("PERENNIAL_QDRANT_REPLICATION");
        options
    }

    /// The address of a gallery of the test's own.
    pub fn gallery(&self, name: &str) -> Address {
        let url = format!("{}/{}_{name}", self.url, self.name);
        let address = Address::new(&url).unwrap();
        address
            .with_secret(|name| self.key.clone().filter(|_| name == KEY))
            .unwrap()
    }

    /// The inside of the tests' own server.
    pub fn inside(&self) -> &Double {
        self.double.as_ref().expect("asked for a double")
    }

    pub fn url(&self) -> String {
        format!("{}/{}", self.url, self.name)
    }

    pub fn address(&self) -> Address {
        let address = Address::new(&self.url()).unwrap();
        address
            .with_secret(|name| self.key.clone().filter(|_| name == KEY))
            .unwrap()
    }

    pub fn table(&self) -> QualifiedName {
        QualifiedName::from(&*self.name)
    }

    pub fn copies(&self) -> String {
        format!("{}_new", self.name)
    }

    /// Asks the server; the status and the body.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.try_ask(method, path, body).unwrap()
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value), ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("api-key", key);
        }
        let answer = match body.is_null() {
            true => self.agent.run(request.body(()).unwrap()),
            false => self.agent.run(request.body(body.to_string()).unwrap()),
        };
        let mut answer = answer?;
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(256 << 20)
            .read_to_vec()?;
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok((answer.status().as_u16(), json))
    }

    fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, json) = self.ask(method, path, body);
        assert_eq!(status, 200, "{method} {path}: {json}");
        json["result"].clone()
    }

    /// Makes the collection, with the replicas that `PERENNIAL_QDRANT_REPLICATION` and the like ask for.
    pub fn create(&self, vectors: &Value) {
        let number = |name: &str| variable(name).map_or(1, |value| value.parse::<u64>().unwrap());
        let body = json!({
            "vectors": vectors,
            "sparse_vectors": {"words": {}},
            "shard_number": number("PERENNIAL_QDRANT_SHARDS"),
            "replication_factor": number("PERENNIAL_QDRANT_REPLICATION"),
            "write_consistency_factor": number("PERENNIAL_QDRANT_WRITE_CONSISTENCY"),
            "hnsw_config": {"m": 24},
        });
        self.done("PUT", &format!("/collections/{}", self.name), &body);
    }

    /// Makes the collection and fills it with points 1 to `count`, each with a vector of 8 values and a title.
    pub fn items(&self, count: u64) {
        self.create(&json!({"size": 8, "distance": "Cosine"}));
        self.fill(1..=count);
    }

    pub fn fill(&self, ids: impl Iterator<Item = u64>) {
        let points: Vec<Value> = ids
            .map(|id| json!({"id": id, "vector": vector_of(id), "payload": {"title": format!("item {id}"), "n": id}}))
            .collect();
        for some in points.chunks(500) {
            self.upsert(&self.name, some);
        }
    }

    pub fn upsert(&self, collection: &str, points: &[Value]) {
        let path = format!("/collections/{collection}/points?wait=true");
        self.done("PUT", &path, &json!({"points": points}));
    }

    pub fn delete(&self, collection: &str, ids: &[Value]) {
        let path = format!("/collections/{collection}/points/delete?wait=true");
        self.done("POST", &path, &json!({"points": ids}));
    }

    pub fn set_payload(&self, collection: &str, ids: &[Value], payload: &Value) {
        let path = format!("/collections/{collection}/points/payload?wait=true");
        self.done("POST", &path, &json!({"payload": payload, "points": ids}));
    }

    /// What the server says about a collection; nothing if there is none.
    pub fn info(&self, collection: &str) -> Option<Value> {
        let (status, json) = self.ask("GET", &format!("/collections/{collection}"), &Value::Null);
        (status == 200).then(|| json["result"].clone())
    }

    /// All points of a collection, or of the one an alias leads to, by their id in JSON.
    pub fn points(&self, collection: &str) -> BTreeMap<String, Seen> {
        let mut all = BTreeMap::new();
        let mut offset = Value::Null;
        loop {
            let mut body = json!({"limit": 100, "with_payload": true, "with_vector": true});
            if !offset.is_null() {
                body["offset"] = offset;
            }
            let path = format!("/collections/{collection}/points/scroll");
            let page = self.done("POST", &path, &body);
            for point in page["points"].as_array().unwrap() {
                let seen = Seen {
                    vector: point["vector"].clone(),
                    payload: point["payload"].as_object().cloned().unwrap_or_default(),
                };
                all.insert(point["id"].to_string(), seen);
            }
            offset = page["next_page_offset"].clone();
            if offset.is_null() {
                return all;
            }
        }
    }

    /// The same of a collection that need not be there.
    pub fn points_or_none(&self, collection: &str) -> BTreeMap<String, Seen> {
        match self.info(collection) {
            Some(_) => self.points(collection),
            None => BTreeMap::new(),
        }
    }

    /// The collection that an alias leads to.
    pub fn alias(&self, alias: &str) -> Option<String> {
        let answer = self.done("GET", "/aliases", &Value::Null);
        let aliases = answer["aliases"].as_array().unwrap().clone();
        let found = aliases.iter().find(|found| found["alias_name"] == alias)?;
        Some(found["collection_name"].as_str().unwrap().to_owned())
    }

    pub fn set_alias(&self, alias: &str, collection: &str) {
        let made = json!({"create_alias": {"alias_name": alias, "collection_name": collection}});
        self.done("POST", "/collections/aliases", &json!({"actions": [made]}));
    }
}
