//! Requests to an embedding service, with their repetitions.

use std::path::Path;
use std::time::{Duration, Instant};

use perennial_core::{EndpointAccess, EndpointApi};
use ureq::Agent;
use ureq::http::{Request, StatusCode, header};

use super::address::Address;
use super::failure::Failure;
use super::request::{Asked, Embedded};
use super::rows::Rows;
use super::secret::Secret;
use super::{openai, tei};

const CONNECT: Duration = Duration::from_secs(10);
/// Before the first repetition; each further one waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A client of one embedding service. Everything that comes back is checked before it is used: number of embeddings, dimension, finite values,
/// bytes. It is shared between threads, and blocks.
pub struct Client {
    access: EndpointAccess,
    address: Address,
    /// None before the first answer.
    dim: Option<usize>,
    agent: Agent,
    secret: Option<Secret>,
}

/// Which key a request shows.
#[derive(Clone, Copy)]
pub enum Shown<'a> {
    /// The client's own.
    Own,
    /// That of whoever asked, if there was one.
    Theirs(Option<&'a Secret>),
}

/// One of the tries of a request.
pub struct Attempt<'a> {
    /// Why it failed, if it did.
    pub failure: Option<&'a Failure>,
    /// How long it took.
    pub took: Duration,
    /// Whether it is made again.
    pub repeated: bool,
}

impl Client {
    /// Prepares a client of a service whose embeddings have `dim` values, if that is known; nothing is sent yet.
    ///
    /// # Errors
    /// The key, without its table, and the problem: a value that cannot be used, a file or variable that cannot be read.
    pub fn new(
        access: &EndpointAccess,
        dim: Option<usize>,
    ) -> Result<Self, (&'static str, String)> {
        access.check()?;
        let address = Address::parse(&access.url).map_err(|problem| ("url", problem))?;
        let secret = Secret::read(&access.key).map_err(|problem| ("key", problem))?;
        let agent = agent(access, &address).map_err(|problem| ("ca", problem))?;
        Ok(Self {
            access: access.clone(),
            address,
            dim,
            agent,
            secret,
        })
    }

    /// How the service is reached.
    pub fn access(&self) -> &EndpointAccess {
        &self.access
    }

    /// Host and port of the service.
    pub fn host(&self) -> &str {
        self.address.host()
    }

    /// Embeds inputs by one request, which is repeated as often as the settings allow if it fails in a way that may pass. Blocks until the
    /// deadline at most, and tells of every try.
    ///
    /// **Shapes**: the result's vectors are `[inputs.len(), dim]`.
    ///
    /// # Errors
    /// [`Failure`], without the key.
    pub fn embed(
        &self,
        inputs: &[String],
        asked: &Asked,
        shown: Shown<'_>,
        deadline: Instant,
        tell: &mut dyn FnMut(&Attempt<'_>),
    ) -> Result<Embedded, Failure> {
        let secret = match shown {
            Shown::Own => self.secret.as_ref(),
            Shown::Theirs(secret) => secret,
        };
        let mut repetitions = 0;
        loop {
            let begun = Instant::now();
            let sent = Sent {
                inputs,
                asked,
                secret,
                is_theirs: matches!(shown, Shown::Theirs(_)),
            };
            let result = self.once(&sent, deadline);
            let result = result.map_err(|failure| failure.without(secret.and_then(Secret::text)));
            let pause = FIRST_PAUSE * 2_u32.saturating_pow(repetitions);
            let mut again = None;
            if let Err(failure) = &result {
                let pause = failure.retry_after().unwrap_or(pause.min(LONGEST_PAUSE));
                // The service may name a time that no clock can hold.
                let next = Instant::now().checked_add(pause);
                let repeats = failure.may_pass()
                    && repetitions < self.access.retries
                    && next.is_some_and(|next| next < deadline);
                again = repeats.then_some(pause);
            }
            tell(&Attempt {
                failure: result.as_ref().err(),
                took: begun.elapsed(),
                repeated: again.is_some(),
            });
            let Some(pause) = again else {
                return result;
            };
            std::thread::sleep(pause);
            repetitions += 1;
        }
    }

    fn once(&self, sent: &Sent<'_>, deadline: Instant) -> Result<Embedded, Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::timed_out(self.access.timeout_seconds));
        }
        let rows = Rows::of(sent.inputs.len(), self.dim);
        let (path, body) = match self.access.api {
            EndpointApi::Openai => {
                let dimensions = self.dim.filter(|_| self.access.send_dimensions);
                let body = openai::request(&self.access.model, sent.inputs, dimensions);
                ("/embeddings", body)
            }
            EndpointApi::Tei => ("/embed", tei::request(sent.inputs, sent.asked)),
        };
        let (status, answer) = self.send(path, body, sent.secret, left, rows.most_bytes())?;
        if !status.is_success() {
            return Err(answer.into_failure(status, sent));
        }
        match self.access.api {
            EndpointApi::Openai => openai::read(&answer.body, &rows),
            EndpointApi::Tei => tei::read(&answer.body, &rows),
        }
    }

    fn send(
        &self,
        path: &str,
        body: String,
        secret: Option<&Secret>,
        left: Duration,
        most: u64,
    ) -> Result<(StatusCode, Answer), Failure> {
        let url = format!("{}{path}", self.access.url.trim_end_matches('/'));
        let mut request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        if let Some(secret) = secret {
            request = request.header(header::AUTHORIZATION, secret.header());
        }
        let request = request
            .body(body)
            .map_err(|error| Failure::nonsense(format!("cannot be asked: {error}")))?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(Some(left))
            .build();
        let failed =
            |error: &ureq::Error| Failure::of_transport(error, self.access.timeout_seconds, most);
        let mut answer = self.agent.run(request).map_err(|error| failed(&error))?;
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
}

/// What one request carries.
struct Sent<'a> {
    inputs: &'a [String],
    asked: &'a Asked,
    secret: Option<&'a Secret>,
    is_theirs: bool,
}

struct Answer {
    body: Vec<u8>,
    location: Option<String>,
    retry_after: Option<Duration>,
}

impl Answer {
    fn into_failure(self, status: StatusCode, sent: &Sent<'_>) -> Failure {
        Failure::of_status(
            status,
            self.location.as_deref(),
            &self.body,
            sent.secret.and_then(Secret::text),
            sent.is_theirs,
            self.retry_after,
        )
    }
}

fn agent(access: &EndpointAccess, address: &Address) -> Result<Agent, String> {
    let mut client = Agent::config_builder()
        .http_status_as_error(false)
        // A redirect could lead the key and the inputs elsewhere.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .accept_encoding("identity")
        .user_agent(concat!("perennial/", env!("CARGO_PKG_VERSION")))
        .max_idle_connections_per_host(access.max_in_flight)
        .max_idle_connections(access.max_in_flight)
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT));
    if address.is_local() {
        client = client.proxy(None);
    }
    if access.url.starts_with("https:") {
        client = secure(client, access.ca.as_deref())?;
    }
    Ok(client.build().into())
}

type Configuration = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

#[cfg(feature = "tls")]
fn secure(client: Configuration, ca: Option<&Path>) -> Result<Configuration, String> {
    let tls = super::trust::tls_config(ca).map_err(|error| error.to_string())?;
    Ok(client.tls_config(tls))
}

/// An address that needs TLS was refused before.
#[cfg(not(feature = "tls"))]
fn secure(client: Configuration, _: Option<&Path>) -> Result<Configuration, String> {
    Ok(client)
}
