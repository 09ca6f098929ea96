//! What keeps a generation from being swept while somebody reads all of it: a point beside the head, which ends by itself when its reader is gone.

use std::hash::{BuildHasher, RandomState};

use perennial_core::checksum::sha256_hex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::head::now;
use super::lease::{LEASE, while_renewed};
use super::server::Server;
use crate::failure::Failure;
use crate::qdrant::{PointId, hyphenated};

/// A reader's claim to a generation.
pub(super) struct Pin<'a> {
    server: &'a Server,
    point: PointId,
}

impl<'a> Pin<'a> {
    pub(super) fn set(server: &'a Server, generation: u64) -> Result<Self, Failure> {
        let random = RandomState::new().hash_one(generation);
        let digits = sha256_hex(format!("{} {random}", std::process::id()).as_bytes());
        let point = PointId::Uuid(hyphenated(&digits));
        let body = json!({
            "id": point, "vector": [1.0], "payload": {"pin": generation, "until": now() + LEASE.as_secs()},
        });
        server.put(server.head(), body.to_string().as_bytes())?;
        Ok(Self { server, point })
    }

    fn this(&self) -> Value {
        json!({"must": [{"has_id": [self.point]}]})
    }

    /// Works, and keeps the claim meanwhile.
    pub(super) fn hold<T>(&self, work: impl FnOnce() -> T) -> T {
        while_renewed(work, || {
            let fields = json!({"until": now() + LEASE.as_secs()});
            if let Err(failure) = self.server.set(self.server.head(), &fields, &self.this()) {
                // The reader finds out in the end.
                tracing::debug!(?failure, "a pin was not renewed");
            }
        })
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        if let Err(failure) = self.server.delete(self.server.head(), &self.this()) {
            // It ends by itself.
            tracing::debug!(?failure, "a pin was not removed");
        }
    }
}

/// The oldest generation that somebody reads. Claims of readers that are gone are removed.
pub(super) fn oldest(server: &Server) -> Result<Option<u64>, Failure> {
    #[derive(Deserialize)]
    struct Pinned {
        payload: Claim,
    }
    #[derive(Deserialize)]
    struct Claim {
        pin: u64,
    }
    let gone = json!({
        "must": [{"key": "until", "range": {"lt": now()}}], "must_not": [{"is_empty": {"key": "pin"}}],
    });
    server.delete(server.head(), &gone)?;
    let body = json!({
        "filter": {"must_not": [{"is_empty": {"key": "pin"}}]},
        "limit": 10_000,
        "with_payload": ["pin"],
        "with_vector": false,
    });
    let pinned: Vec<Pinned> = server.points_of_head(&body)?;
    Ok(pinned.iter().map(|pinned| pinned.payload.pin).min())
}
