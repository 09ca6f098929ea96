//! The head of a gallery: one point, with its spaces, the generation that counts, and whose turn it is to write. Changing it is one request with a
//! condition, so of two that would change the same revision only one does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use perennial_core::SpaceId;
use perennial_gallery::{GalleryError, SimplexIdentity, SpaceStats, StoreSpace};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::server::Server;
use crate::error::ConnectError;
use crate::failure::{Failure, damaged};
use crate::qdrant::{PointId, Unanswered};

/// The format of the collections.
const FORMAT: u64 = 1;
/// The head's point.
pub(super) const HEAD: PointId = PointId::Number(1);
/// How long another service may take from making the collection to writing the head.
const FOUNDING: Duration = Duration::from_secs(10);

/// The point as it stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) format: u64,
    /// Changes whenever anything but `until` does.
    pub(super) revision: u64,
    /// Who writes.
    #[serde(default)]
    pub(super) owner: Option<String>,
    /// When the turn ends by itself, in seconds since 1970.
    #[serde(default)]
    pub(super) until: u64,
    /// The generation that is being written.
    #[serde(default)]
    pub(super) open: Option<u64>,
    /// Generations that were begun and will never count. Requests of a writer that is gone may still arrive.
    #[serde(default)]
    pub(super) aborted: Vec<Aborted>,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Aborted {
    pub(super) generation: u64,
    /// Since when, in seconds since 1970.
    pub(super) at: u64,
}

/// What a write changes, all at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// The last generation that counts.
    pub(super) generation: u64,
    /// Points that were superseded up to this generation may be gone.
    pub(super) swept: u64,
    /// The last generation that superseded anything.
    #[serde(default)]
    pub(super) superseded: u64,
    /// What can be swept next.
    #[serde(default)]
    pub(super) sweep: Option<Sweep>,
    pub(super) spaces: BTreeMap<String, Known>,
    /// Collections of spaces that are gone.
    #[serde(default)]
    pub(super) dropped: Vec<Dropped>,
}

/// Up to which generation superseded points can be removed, some time after it became the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sweep {
    pub(super) to: u64,
    /// Since when, in seconds since 1970.
    pub(super) at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dropped {
    pub(super) collection: String,
    /// From which generation on nobody reads it.
    pub(super) generation: u64,
}

/// A space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) dim: usize,
    #[serde(default)]
    pub(super) vertices: Option<usize>,
    pub(super) items: u64,
    /// What its collection is called after the gallery; it is made with the first item, under a name that was never used before.
    #[serde(default)]
    pub(super) collection: Option<String>,
    /// Numbers of the longest id: so many fields are indexed for the order of ids.
    #[serde(default)]
    pub(super) levels: usize,
    /// Whether the server was asked for an HNSW index.
    #[serde(default)]
    pub(super) indexed: bool,
}

impl Known {
    pub(super) fn simplex(&self) -> Option<SimplexIdentity> {
        self.vertices.map(|vertices| SimplexIdentity { vertices })
    }
}

impl State {
    pub(super) fn items(&self) -> u64 {
        self.spaces.values().map(|known| known.items).sum()
    }

    /// In the order of their names.
    pub(super) fn stats(&self) -> Result<Vec<SpaceStats>, Failure> {
        let stats = self.spaces.iter().map(|(name, known)| {
            Ok(SpaceStats {
                space: StoreSpace {
                    id: SpaceId::new(name.as_str()).map_err(damaged)?,
                    dim: known.dim,
                    simplex: known.simplex(),
                },
                items: known.items,
            })
        });
        stats.collect()
    }
}

impl Head {
    /// As the server has it.
    ///
    /// # Errors
    /// Those of the request, and a head that is not this program's.
    pub(super) fn read(server: &Server) -> Result<Self, Failure> {
        match Self::find(server)? {
            Some(head) => Ok(head),
            None => Err(damaged(format!("the head in {} is gone", server.head()))),
        }
    }

    fn find(server: &Server) -> Result<Option<Self>, Failure> {
        let found: Option<Value> = match server.noted(&HEAD) {
            Ok(found) => found,
            Err(Unanswered::Missing(_)) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        let Some(found) = found else { return Ok(None) };
        match found["format"].as_u64() {
            Some(FORMAT) => {}
            Some(other) => {
                return Err(Failure::Refused(GalleryError::Format {
                    path: server.shown().into(),
                    found: other,
                    expected: FORMAT,
                }));
            }
            None => return Err(foreign(server)),
        }
        let head = serde_json::from_value(found);
        head.map(Some)
            .map_err(|error| damaged(format!("the head: {error}")))
    }

    /// The number of the next generation: one that nothing was ever written by.
    pub(super) fn next(&self) -> u64 {
        let begun = self.aborted.iter().map(|aborted| aborted.generation);
        let last = begun.chain(self.open).max().unwrap_or(0);
        1 + last.max(self.state.generation)
    }

    /// Whether a generation was noted as one that will never count.
    pub(super) fn is_aborted(&self, generation: u64) -> bool {
        let mut aborted = self.aborted.iter();
        aborted.any(|aborted| aborted.generation == generation)
    }
}

/// Changes fields of the head under a condition, which also holds the head's id.
pub(super) fn change(server: &Server, fields: &Value, mut filter: Value) -> Result<(), Failure> {
    if let Some(must) = filter["must"].as_array_mut() {
        must.push(json!({"has_id": [HEAD]}));
    }
    server.set(server.head(), fields, &filter)
}

/// Looks for the gallery, and makes an empty one where there is none.
pub(super) fn prepare(server: &Server, read_only: bool) -> Result<(), Failure> {
    let name = server.head();
    let begun = Instant::now();
    loop {
        match server.info(name)? {
            None if read_only => {
                return Err(state(format!(
                    "there is no gallery {name}; check the URL, or start a service that may write once"
                )));
            }
            // Of services that start at once, one makes the collection, and that one writes the head.
            None => {
                let body = json!({"vectors": {"size": 1, "distance": "Dot"}, "shard_number": 1});
                if server.create(name, body)? {
                    return found(server);
                }
            }
            Some(info) => {
                if Head::find(server)?.is_some() {
                    return Ok(());
                }
                let vectors = &info.config["params"]["vectors"];
                if vectors["size"] != 1 || info.points_count.is_some_and(|points| points > 0) {
                    return Err(foreign(server));
                }
            }
        }
        if begun.elapsed() > FOUNDING {
            return Err(state(format!(
                "collection {name} was made for a gallery that was not finished; if no other service is starting, delete the collection and start again"
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn found(server: &Server) -> Result<(), Failure> {
    let head = Head {
        format: FORMAT,
        revision: 0,
        owner: None,
        until: 0,
        open: None,
        aborted: Vec::new(),
        state: State::default(),
    };
    let point = json!({"id": HEAD, "vector": [1.0], "payload": head});
    server.put(server.head(), point.to_string().as_bytes())
}

fn foreign(server: &Server) -> Failure {
    state(format!(
        "collection {} holds other data than a gallery; give the gallery a name of its own",
        server.head()
    ))
}

fn state(problem: String) -> Failure {
    Failure::Database(ConnectError::State(problem))
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}
