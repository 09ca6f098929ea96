//! Canaries of an upstream: a few fixed inputs are embedded again from time to time. If the embeddings move, the model behind the
//! upstream is no longer the one that the space, its bridges and its certificates are about.

use std::sync::{Arc, PoisonError, Weak};

use perennial_upgrade::CANARY_TOLERANCE;

use super::{Asked, Upstream};
use crate::durations::until_next_canaries;

impl Upstream {
    /// Embeds the canaries now and from time to time, until the upstream is dropped. Must be called inside a tokio runtime.
    pub(crate) fn watch(self: &Arc<Self>) {
        let Some(canaries) = &self.canaries else {
            if self.spec.canaries_sha256.is_some() {
                tracing::info!(
                    upstream = self.name,
                    "its canaries are not embedded again: `canary_inputs` is not set"
                );
            }
            return;
        };
        let every = canaries.every;
        let upstream: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(upstream) = upstream.upgrade() {
                let embedded = upstream.check_canaries().await;
                drop(upstream);
                tokio::time::sleep(until_next_canaries(every, embedded)).await;
            }
        });
    }

    /// What is wrong with its canaries, if anything.
    pub(crate) fn canary_problem(&self) -> Option<String> {
        let canaries = self.canaries.as_ref()?;
        let problem = canaries.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says whether they could be embedded.
    async fn check_canaries(self: &Arc<Self>) -> bool {
        let Some(canaries) = &self.canaries else {
            return true;
        };
        // The inputs are as they were when the space was registered, so they get no prefix.
        let found = match self.request(&canaries.inputs, &Asked::default()).await {
            Ok(embedded) => canaries
                .registered
                .largest_distance(&embedded.vectors, self.spec.dim)
                .map_err(|error| error.to_string()),
            Err(failure) => Err(failure.problem().to_owned()),
        };
        let embedded = found.is_ok();
        let problem = match found {
            Ok(distance) => {
                let drifted = distance > CANARY_TOLERANCE;
                self.telemetry.canaries(&self.name, distance, drifted);
                drifted.then(|| {
                    tracing::error!(
                        upstream = self.name,
                        space = %self.spec.name,
                        distance,
                        allowed = CANARY_TOLERANCE,
                        "the model behind the upstream has changed: its embeddings are of another space now; register a new space and certify a route from it"
                    );
                    format!(
                        "upstream {}: its model has changed, canaries moved by {distance:.3} (allowed {CANARY_TOLERANCE})",
                        self.name
                    )
                })
            }
            Err(problem) => {
                tracing::warn!(
                    upstream = self.name,
                    problem,
                    "the canaries could not be embedded"
                );
                // `/readyz` shows this to everybody, so the upstream's own words stay in the log.
                Some(format!(
                    "upstream {}: its canaries could not be embedded; the log says why",
                    self.name
                ))
            }
        };
        *canaries
            .problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = problem;
        embedded
    }
}
