//! Canaries of an upstream: a few fixed inputs are embedded again from time to time. If the embeddings move, the model behind the
//! upstream is no longer the one that the space, its bridges and its certificates are about.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use perennial_core::{Registry, SpaceSpec, read_at_most};
use perennial_upgrade::{CANARY_TOLERANCE, Canaries};
use tokio::time::MissedTickBehavior;

use super::settings::UpstreamConfig;
use super::{Asked, Upstream};
use crate::config::seconds;

const MAX_INPUTS_BYTES: u64 = 16 << 20;

/// The canaries of one upstream, and what was found last.
pub(super) struct CanaryCheck {
    inputs: Vec<String>,
    registered: Canaries,
    every: Duration,
    /// What is wrong, if anything.
    problem: Mutex<Option<String>>,
}

impl CanaryCheck {
    /// Reads the inputs and the registered embeddings; none where no file of inputs is set.
    ///
    /// # Errors
    /// The problem: a file that cannot be read, or another number of inputs than of embeddings.
    pub(super) fn new(
        config: &UpstreamConfig,
        spec: &SpaceSpec,
        registry: &Registry,
    ) -> Result<Option<Self>, String> {
        let Some(path) = &config.canary_inputs else {
            return Ok(None);
        };
        let registered = Canaries::of(registry, spec)
            .map_err(|error| error.to_string())?
            .ok_or_else(|| {
                format!(
                    "space {} was registered without canaries; register it with `perennial spaces add --canaries FILE`",
                    spec.name
                )
            })?;
        let bytes = read_at_most(path, MAX_INPUTS_BYTES).map_err(|error| error.to_string())?;
        let text = String::from_utf8(bytes)
            .map_err(|_| format!("{} is not UTF-8 text", path.display()))?;
        let inputs: Vec<String> = text.lines().map(str::to_owned).collect();
        if inputs.len() != registered.len() {
            return Err(format!(
                "{} has {} lines, but {} canaries of space {} are registered; write one input a line, in their order",
                path.display(),
                inputs.len(),
                registered.len(),
                spec.name
            ));
        }
        Ok(Some(Self {
            inputs,
            registered,
            every: seconds(config.canary_seconds),
            problem: Mutex::default(),
        }))
    }
}

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
        let mut ticks = tokio::time::interval(canaries.every);
        // After a slow upstream, not several checks in a row.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let upstream: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                ticks.tick().await;
                match upstream.upgrade() {
                    Some(upstream) => upstream.check_canaries().await,
                    None => return,
                }
            }
        });
    }

    /// What is wrong with its canaries, if anything.
    pub(crate) fn canary_problem(&self) -> Option<String> {
        let canaries = self.canaries.as_ref()?;
        let problem = canaries.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn check_canaries(self: &Arc<Self>) {
        let Some(canaries) = &self.canaries else {
            return;
        };
        // The inputs are as they were when the space was registered, so they get no prefix.
        let found = match self.request(&canaries.inputs, &Asked::default()).await {
            Ok(embedded) => canaries
                .registered
                .largest_distance(&embedded.vectors, self.spec.dim)
                .map_err(|error| error.to_string()),
            Err(failure) => Err(failure.problem().to_owned()),
        };
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
    }
}
