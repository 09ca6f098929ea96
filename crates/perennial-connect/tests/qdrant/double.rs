//! A server that speaks Qdrant's REST interface as far as migrations and galleries use it, in memory, and can be made to fail.
//!
//! It refuses what a server refuses: unknown collections, vectors of another size, values that are no numbers, names that are taken, a wrong key. Vectors of
//! collections with the distance `Cosine` are stored with unit length, as servers store them.

// With their paths, since the tests of the program take this file from its place.
#[path = "double/conditions.rs"]
mod conditions;
#[path = "double/http.rs"]
mod http;
#[path = "double/points.rs"]
mod points;
#[path = "double/routes.rs"]
mod routes;
#[path = "double/strict.rs"]
mod strict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use http::Listener;
pub use http::{Fault, Kind};

/// An id, in the order of servers: numbers before UUIDs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Id {
    Number(u64),
    Uuid(String),
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stored {
    pub payload: Map<String, Value>,
    /// Dense vectors by name; the one without a name has the empty one.
    pub dense: BTreeMap<String, Vec<f32>>,
    pub others: Map<String, Value>,
}

#[derive(Debug, Clone, Default)]
pub struct Collection {
    pub config: Value,
    pub indexes: Map<String, Value>,
    pub points: BTreeMap<Id, Stored>,
    /// Writes of any kind, by which a test sees that nothing was written.
    pub writes: u64,
    /// What an approximate search does not find.
    pub unseen: BTreeSet<Id>,
    /// What is left of the rates that strict mode allows, by their kind.
    pub tokens: BTreeMap<&'static str, (f64, Instant)>,
}

#[derive(Debug, Default)]
pub struct State {
    pub collections: BTreeMap<String, Collection>,
    pub aliases: BTreeMap<String, String>,
    /// Requests by method and path.
    pub log: Vec<String>,
    pub key: Option<String>,
    /// How often a collection is still `yellow` when it is asked for.
    pub busy: u32,
    pub faults: Vec<Fault>,
    /// The strict mode of new collections that come without one.
    pub strict: Value,
    /// How long a minute of a rate lasts, where it is no real one.
    pub minute: Option<Duration>,
    /// The largest body that is taken, in bytes.
    pub largest_body: Option<usize>,
}

/// The server; it stops when it is dropped.
pub struct Double {
    state: Arc<Mutex<State>>,
    listener: Mutex<Option<Listener>>,
    pub port: u16,
}

impl Double {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let listener = Listener::start(0, Arc::clone(&state));
        let port = listener.port;
        Self {
            state,
            listener: Mutex::new(Some(listener)),
            port,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets the leases of processes that are gone run out, as if half a minute had passed.
    pub fn let_leases_run_out(&self) {
        let mut state = self.state();
        let notes = state.collections.get_mut("perennial_migrations");
        for point in notes
            .into_iter()
            .flat_map(|notes| notes.points.values_mut())
        {
            if point.payload.contains_key("until") {
                point.payload.insert("until".to_owned(), Value::from(0));
            }
        }
    }

    /// Injects a fault, once.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Closes all connections and the port, and opens it again after a while; what was stored is kept.
    pub fn restart(&self, down: Duration) {
        self.stop();
        std::thread::sleep(down);
        self.start_again();
    }

    /// Closes all connections and the port.
    pub fn stop(&self) {
        drop(self.listener.lock().unwrap().take());
    }

    /// Opens the port that was closed.
    pub fn start_again(&self) {
        let started = Listener::start(self.port, Arc::clone(&self.state));
        *self.listener.lock().unwrap() = Some(started);
    }
}
