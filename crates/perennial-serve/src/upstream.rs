//! Upstreams: other embedding services, in front of which this one answers.
//!
//! Requests run on blocking threads, at most `max_in_flight` for each upstream. Everything that comes back is checked against the upstream's
//! registered space before it is used: number of embeddings, dimension, finite values, bytes.

mod canaries;
mod canary_check;
mod failure;
mod openai;
mod request;
mod rows;
mod secret;
mod settings;
mod tei;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::header;
use perennial_core::{Registry, SpaceSpec};
use perennial_encode::InputType;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::Instrument;
use ureq::Agent;
use ureq::http::Request;

use self::canary_check::CanaryCheck;
use self::failure::Failure;
pub(crate) use self::request::{Asked, Embedded, TruncationDirection};
use self::rows::Rows;
pub(crate) use self::secret::ClientKey;
use self::secret::Secret;
pub use self::settings::{UpstreamApi, UpstreamConfig, UpstreamKey};
use crate::durations::seconds;
use crate::error::{ApiError, ServeError};
use crate::telemetry::Telemetry;

const CONNECT: Duration = Duration::from_secs(10);
/// Before the first repetition; each further one waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One upstream.
pub(crate) struct Upstream {
    name: String,
    config: UpstreamConfig,
    spec: SpaceSpec,
    agent: Agent,
    /// One for each request to it.
    places: Arc<Semaphore>,
    /// The key of this service for it.
    secret: Option<Secret>,
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
        let secret = match &config.key {
            UpstreamKey::None | UpstreamKey::Client => None,
            key => Some(Secret::read(key).map_err(|problem| wrong("key", problem))?),
        };
        let canaries = CanaryCheck::new(config, &spec, registry)
            .map_err(|problem| wrong("canary_inputs", problem))?;
        let upstream = Self {
            name: name.to_owned(),
            agent: agent(config).map_err(|problem| wrong("ca", problem))?,
            places: Arc::new(Semaphore::new(config.max_in_flight)),
            config: config.clone(),
            spec,
            secret,
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
        embedded.map_err(|failure| failure.into_api_error(&self.name))
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
        let mut repetitions = 0;
        loop {
            let begun = Instant::now();
            let secret = self.secret().and_then(Secret::text);
            let result = self.once().map_err(|failure| failure.without(secret));
            let outcome = match &result {
                Ok(_) => "done",
                Err(failure) => failure.outcome(),
            };
            upstream
                .telemetry
                .upstream_request(&upstream.name, outcome, begun.elapsed());
            let Err(failure) = result else {
                return result;
            };
            let pause = FIRST_PAUSE * 2_u32.saturating_pow(repetitions);
            let pause = failure.retry_after.unwrap_or(pause.min(LONGEST_PAUSE));
            // The upstream may name a time that no clock can hold.
            let next = Instant::now().checked_add(pause);
            let again = failure.may_pass
                && repetitions < upstream.config.retries
                && next.is_some_and(|next| next < self.deadline);
            tracing::warn!(
                upstream = upstream.name,
                problem = failure.problem(),
                repeated = again,
                "a request to an upstream failed"
            );
            if !again {
                return Err(failure);
            }
            std::thread::sleep(pause);
            repetitions += 1;
        }
    }

    fn once(&self) -> Result<Embedded, Failure> {
        let Upstream { config, spec, .. } = &*self.upstream;
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::timed_out(config.timeout_seconds));
        }
        let rows = Rows {
            count: self.inputs.len(),
            dim: spec.dim,
        };
        let (path, body) = match config.api {
            UpstreamApi::Openai => {
                let dimensions = config.send_dimensions.then_some(spec.dim);
                let body = openai::request(&config.model, &self.inputs, dimensions);
                ("/embeddings", body)
            }
            UpstreamApi::Tei => ("/embed", tei::request(&self.inputs, &self.asked)),
        };
        let (status, answer) = self.send(path, body, left, rows.most_bytes())?;
        if !status.is_success() {
            return Err(answer.into_failure(status, self.secret(), self.passes_on()));
        }
        match config.api {
            UpstreamApi::Openai => openai::read(&answer.body, &rows),
            UpstreamApi::Tei => tei::read(&answer.body, &rows),
        }
    }

    fn send(
        &self,
        path: &str,
        body: String,
        left: Duration,
        most: u64,
    ) -> Result<(ureq::http::StatusCode, Answer), Failure> {
        let Upstream { config, agent, .. } = &*self.upstream;
        let url = format!("{}{path}", config.url.trim_end_matches('/'));
        let mut request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        if let Some(secret) = self.secret() {
            request = request.header(header::AUTHORIZATION, secret.header());
        }
        let request = request
            .body(body)
            .map_err(|error| Failure::nonsense(format!("cannot be asked: {error}")))?;
        let request = agent
            .configure_request(request)
            .timeout_global(Some(left))
            .build();
        let failed =
            |error: &ureq::Error| Failure::of_transport(error, config.timeout_seconds, most);
        let mut answer = agent.run(request).map_err(|error| failed(&error))?;
        let text = |name| {
            let value = answer.headers().get(name)?;
            Some(value.to_str().ok()?.to_owned())
        };
        let (location, retry_after) = (text(header::LOCATION), text(header::RETRY_AFTER));
        let status = answer.status();
        let body = answer
            .body_mut()
            .with_config()
            .limit(most)
            .read_to_vec()
            .map_err(|error| failed(&error))?;
        let retry_after = retry_after.and_then(|seconds| seconds.trim().parse().ok());
        let answer = Answer {
            body,
            location,
            retry_after: retry_after.map(Duration::from_secs),
        };
        Ok((status, answer))
    }

    fn passes_on(&self) -> bool {
        self.upstream.config.key == UpstreamKey::Client
    }

    fn secret(&self) -> Option<&Secret> {
        match self.passes_on() {
            true => self.asked.client_key.secret(),
            false => self.upstream.secret.as_ref(),
        }
    }
}

struct Answer {
    body: Vec<u8>,
    location: Option<String>,
    retry_after: Option<Duration>,
}

impl Answer {
    fn into_failure(
        self,
        status: ureq::http::StatusCode,
        secret: Option<&Secret>,
        own_key: bool,
    ) -> Failure {
        Failure::of_status(
            status,
            self.location.as_deref(),
            &self.body,
            secret.and_then(Secret::text),
            own_key,
            self.retry_after,
        )
    }
}

fn agent(config: &UpstreamConfig) -> Result<Agent, String> {
    let mut client = Agent::config_builder()
        .http_status_as_error(false)
        // A redirect could lead the key and the inputs elsewhere.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .accept_encoding("identity")
        .user_agent(concat!("perennial/", env!("CARGO_PKG_VERSION")))
        .max_idle_connections_per_host(config.max_in_flight)
        .max_idle_connections(config.max_in_flight)
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT));
    if config.is_local() {
        client = client.proxy(None);
    }
    #[cfg(feature = "tls")]
    if config.url.starts_with("https:") {
        let tls = crate::trust::tls_config(config.ca.as_deref());
        client = client.tls_config(tls.map_err(|error| error.to_string())?);
    }
    Ok(client.build().into())
}
