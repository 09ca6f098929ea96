//! Turns to write, which services take from each other by the head. Whoever is killed loses its turn after a while; what it had begun never
//! counts, whenever its last requests arrive.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::head::{self, Aborted, Head, State, now};
use super::server::Server;
use crate::failure::Failure;

/// How long a turn lasts that is not renewed.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// How long a commit is tried whose answer was lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// A turn to write.
pub(super) struct Lease<'a> {
    server: &'a Server,
    owner: &'a str,
    /// As this turn has found and changed it.
    pub(super) head: Head,
    /// The generation that it writes.
    pub(super) generation: u64,
}

impl<'a> Lease<'a> {
    /// Waits for a turn, at most so long.
    ///
    /// # Errors
    /// [`GalleryError::Busy`](perennial_gallery::GalleryError::Busy) where others write all the time, and those of the requests.
    pub(super) fn take(server: &'a Server, owner: &'a str) -> Result<Self, Failure> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(lease) = Self::try_take(server, owner)? {
                return Ok(lease);
            }
            if begun.elapsed() > server.timeout() {
                return Err(server.busy(format!(
                    "other services have been writing for {} s (store.timeout_seconds)",
                    server.timeout().as_secs()
                )));
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_millis(250));
        }
    }

    /// Takes a turn, if nobody else has one.
    pub(super) fn try_take(server: &'a Server, owner: &'a str) -> Result<Option<Self>, Failure> {
        let head = Head::read(server)?;
        let is_free = match &head.owner {
            None => true,
            Some(other) => other == owner || head.until < now(),
        };
        if !is_free {
            return Ok(None);
        }
        let (revision, generation) = (head.revision, head.next());
        let mut aborted = head.aborted;
        // Whoever began it has neither finished nor given it back.
        aborted.extend(head.open.map(|generation| Aborted {
            generation,
            at: now(),
        }));
        let fields = json!({
            "owner": owner, "until": now() + LEASE.as_secs(), "open": generation, "aborted": aborted, "revision": revision + 1,
        });
        let free = json!({
            "must": [{"key": "revision", "match": {"value": revision}}],
            "should": [
                {"is_empty": {"key": "owner"}},
                {"key": "owner", "match": {"value": owner}},
                {"key": "until", "range": {"lt": now()}},
            ],
        });
        // The server applies writes to a point one after the other, so of two that find it free, the second does not.
        head::change(server, &fields, free)?;
        let head = Head::read(server)?;
        let is_mine = head.owner.as_deref() == Some(owner)
            && head.open == Some(generation)
            && head.revision == revision + 1;
        Ok(is_mine.then_some(Self {
            server,
            owner,
            head,
            generation,
        }))
    }

    /// The condition that the turn is still this one.
    fn mine(&self) -> Value {
        json!({"must": [
            {"key": "revision", "match": {"value": self.head.revision}},
            {"key": "owner", "match": {"value": self.owner}},
        ]})
    }

    /// Works, and keeps the turn meanwhile.
    pub(super) fn hold<T>(&self, work: impl FnOnce() -> T) -> T {
        while_renewed(work, || {
            let fields = json!({"until": now() + LEASE.as_secs()});
            if let Err(failure) = head::change(self.server, &fields, self.mine()) {
                // The commit finds out.
                tracing::debug!(?failure, "a turn to write was not renewed");
            }
        })
    }

    /// Makes the generation count, and ends the turn.
    ///
    /// # Errors
    /// That the turn was lost to another service, or the server; nothing counts then.
    pub(super) fn commit(&self, state: &State, aborted: &[Aborted]) -> Result<(), Failure> {
        let fields = json!({
            "owner": null, "open": null, "aborted": aborted, "state": state, "revision": self.head.revision + 1,
        });
        let begun = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let sent = head::change(self.server, &fields, self.mine());
            // The answer may be lost, or the condition may not have held: the head tells.
            let failure = match (sent, Head::read(self.server)) {
                (_, Ok(head)) if head.state.generation >= self.generation => {
                    return match head.is_aborted(self.generation) {
                        false => Ok(()),
                        true => Err(self.lost()),
                    };
                }
                (Ok(()), Ok(_)) => return Err(self.lost()),
                (_, Ok(head)) if head.revision != self.head.revision => return Err(self.lost()),
                (Err(failure), _) | (Ok(()), Err(failure)) => failure,
            };
            if !failure.may_pass() || begun.elapsed() > PATIENCE {
                return Err(failure);
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_secs(1));
        }
    }

    fn lost(&self) -> Failure {
        self.server.passing(
            "another service took the turn to write over, since this one was silent for too long"
                .to_owned(),
        )
    }

    /// Ends the turn without a change; `wrote` says whether anything of the generation may be in the database or on the way.
    pub(super) fn give_back(&self, wrote: bool) {
        let mut aborted = self.head.aborted.clone();
        if wrote {
            aborted.push(Aborted {
                generation: self.generation,
                at: now(),
            });
        }
        let fields = json!({
            "owner": null, "open": null, "aborted": aborted, "revision": self.head.revision + 1,
        });
        if let Err(failure) = head::change(self.server, &fields, self.mine()) {
            // It ends by itself.
            tracing::debug!(?failure, "a turn to write was not given back");
        }
    }
}

/// Works, and calls `renew` from time to time, much more often than a lease ends.
pub(super) fn while_renewed<T>(work: impl FnOnce() -> T, renew: impl Fn() + Sync) -> T {
    let (working, done) = channel::<()>();
    let renew = &renew;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while done.recv_timeout(LEASE / 3) == Err(RecvTimeoutError::Timeout) {
                renew();
            }
        });
        // Dropped at the end, also by a panic.
        let _working = working;
        work()
    })
}
