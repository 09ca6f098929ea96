//! Upstreams: other embedding services, in front of which this one answers.
//!
//! Requests run on blocking threads, at most `max_in_flight` for each upstream. Everything that comes back is checked against the upstream's
//! registered space before it is used.

mod canaries;
mod canary_check;
mod client_key;
mod request;
mod settings;

use std::sync::Arc;
use std::time::Instant;

use perennial_core::{Registry, SpaceSpec};
use perennial_encode::endpoint::{Attempt, Client, Embedded, Failure, Shown};
use perennial_encode::{InputType, ServiceFailure};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::Instrument;

use self::canary_check::CanaryCheck;
pub(crate) use self::client_key::ClientKey;
pub(crate) use self::request::{Asked, TruncationDirection};
pub use self::settings::{UpstreamConfig, UpstreamKey};
use crate::durations::seconds;
use crate::error::{ApiError, ServeError};
use crate::telemetry::Telemetry;

/// One upstream.
pub(crate) struct Upstream {
    name: String,
    config: UpstreamConfig,
    spec: SpaceSpec,
    client: Client,
    /// One for each request to it.
    places: Arc<Semaphore>,
    canaries: Option<CanaryCheck>,
    telemetry: Arc<Telemetry>,
}

impl Upstream {
    /// Prepares a client of an upstream; nothing is sent yet.
    ///
    /// # Errors
    /// A space that is not registered, a key or a file that cannot be read.
    pub(crate) fn new(
        name: &str,
        config: &UpstreamConfig,
        registry: &Registry,
        telemetry: Arc<Telemetry>,
    ) -> Result<Self, ServeError> {
        let wrong = |key: &str, problem: String| ServeError::Config {
            key: format!("upstream.{name}.{key}").into(),
            problem,
        };
        let spec = registry.space(&config.space).map_err(|error| {
            let advice = "register it with `perennial spaces add`";
            wrong("space", format!("{error}; {advice}"))
        })?;
        let canaries = CanaryCheck::new(config, &spec, registry)
            .map_err(|problem| wrong("canary_inputs", problem))?;
        let upstream = Self {
            name: name.to_owned(),
            client: Client::new(&config.access(), Some(spec.dim))
                .map_err(|(key, problem)| wrong(key, problem))?,
            places: Arc::new(Semaphore::new(config.max_in_flight)),
            config: config.clone(),
            spec,
            canaries,
            telemetry,
        };
        upstream.telemetry.upstream(name);
        Ok(upstream)
    }

    /// The name of its table.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The space of its embeddings.
    pub(crate) fn spec(&self) -> &SpaceSpec {
        &self.spec
    }

    /// The name of its model.
    pub(crate) fn model(&self) -> &str {
        &self.config.model
    }

    /// Whether clients may ask for it by this name.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        name == self.name || self.config.names().contains(&name)
    }

    /// Counts a try, and logs it if it failed.
    fn tell(&self, attempt: &Attempt<'_>) {
        let outcome = match attempt.failure.map(Failure::kind) {
            None => "done",
            Some(ServiceFailure::TimedOut) => "timeout",
            Some(ServiceFailure::Failed) => "failed",
            Some(_) => "refused",
        };
        self.telemetry
            .upstream_request(&self.name, outcome, attempt.took);
        if let Some(failure) = attempt.failure {
            tracing::warn!(
                upstream = self.name,
                problem = failure.problem(),
                repeated = attempt.repeated,
                "a request to an upstream failed"
            );
        }
    }

    /// Embeds inputs, in several requests at once if there are many.
    ///
    /// **Shapes**: the result's vectors are `[n, dim]`, `dim` that of the space.
    ///
    /// # Errors
    /// 502 and 504 for an upstream that fails, answers nonsense or hangs; 429 for one that is busy; 422 for inputs that it refuses; 401 for a
    /// client's key that it refuses.
    pub(crate) async fn embed(
        self: &Arc<Self>,
        inputs: &[String],
        asked: &Asked,
    ) -> Result<Embedded, ApiError> {
        let embedded = self.request(inputs, asked).await;
        embedded.map_err(|failure| {
            let name = &self.name;
            let message = format!("upstream {name} {}", failure.problem());
            ApiError::of_service(failure.kind(), message, failure.retry_after())
                .with_details(json!({ "upstream": name }))
        })
    }

    async fn request(
        self: &Arc<Self>,
        inputs: &[String],
        asked: &Asked,
    ) -> Result<Embedded, Failure> {
        let deadline = Instant::now() + seconds(self.config.timeout_seconds);
        let prefix = match asked.input_type {
            Some(InputType::Query) => &self.config.query_prefix,
            Some(InputType::Document) => &self.config.document_prefix,
            None => "",
        };
        // Dropped with the request, so that calls that have no place yet are not made.
        let mut calls = JoinSet::new();
        for (number, part) in inputs.chunks(self.config.inputs_per_request).enumerate() {
            let call = Call {
                upstream: Arc::clone(self),
                inputs: part
                    .iter()
                    .map(|input| format!("{prefix}{input}"))
                    .collect(),
                asked: asked.clone(),
                deadline,
            };
            calls.spawn(async move { (number, call.make().await) }.in_current_span());
        }
        let mut parts = Vec::new();
        parts.resize_with(calls.len(), Embedded::default);
        while let Some(done) = calls.join_next().await {
            // A call that panicked, which would be a defect of this program.
            let (number, part) = done.map_err(|error| Failure::nonsense(error.to_string()))?;
            parts[number] = part?;
        }
        let tokens = parts
            .iter()
            .fold(0, |sum: u64, part| sum.saturating_add(part.tokens));
        let vectors = parts.into_iter().flat_map(|part| part.vectors).collect();
        Ok(Embedded { vectors, tokens })
    }
}

/// One request to an upstream, with its repetitions.
struct Call {
    upstream: Arc<Upstream>,
    inputs: Vec<String>,
    asked: Asked,
    deadline: Instant,
}

impl Call {
    async fn make(self) -> Result<Embedded, Failure> {
        let config = &self.upstream.config;
        let places = Arc::clone(&self.upstream.places);
        let until = tokio::time::Instant::from_std(self.deadline);
        let place = tokio::time::timeout_at(until, places.acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(Failure::busy(config.max_in_flight));
        };
        let span = tracing::Span::current();
        let made = tokio::task::spawn_blocking(move || {
            // Held by the thread, because the request can be cancelled while the thread keeps waiting.
            let _place = place;
            span.in_scope(|| self.with_repetitions())
        });
        made.await
            .map_err(|error| Failure::nonsense(error.to_string()))?
    }

    fn with_repetitions(&self) -> Result<Embedded, Failure> {
        let upstream = &self.upstream;
        let shown = match upstream.config.key {
            UpstreamKey::Client => Shown::Theirs(self.asked.client_key.secret()),
            UpstreamKey::Own(_) => Shown::Own,
        };
        let asked = self.asked.told();
        let client = &upstream.client;
        client.embed(&self.inputs, &asked, shown, self.deadline, &mut |attempt| {
            upstream.tell(attempt);
        })
    }
}
