//! Requests to a server and its answers.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Request, header};
use ureq::{Agent, Error};

use super::address::{QdrantAddress, encoded};
use super::failure::{Failure, MAX_ANSWER};
use super::strict::recognised;
use crate::error::ConnectError;
use crate::observer::StopSignal;

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one request may take. A server that hangs without closing its connections is noticed by this alone.
const REQUEST: Duration = Duration::from_secs(120);
/// The longest message of a server that is passed on.
const MAX_MESSAGE: usize = 500;

/// How long reading is tried again within one request; whoever sent it may try for longer.
const BROKEN: Duration = Duration::from_secs(60);
/// The first pause before a request is sent again, and the longest, where the server says none.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];
/// How often a wait looks whether it shall end.
const ATTENTION: Duration = Duration::from_millis(100);

/// A client of one server.
pub(crate) struct Client {
    agent: Agent,
    address: QdrantAddress,
    /// How long a request is tried again; nothing where whoever sends it does so.
    patience: Option<Duration>,
    /// Whether that is also done where a connection breaks, and not only where the server asks to wait.
    reads_again: bool,
    stop: Option<StopSignal>,
    /// Whether the server has ever answered: an address that was never reached is likely to be wrong.
    reached: AtomicBool,
    /// The longest time that the server has asked to wait, in milliseconds.
    longest_wait: AtomicU64,
    /// How many points requests read by id, write, and name in a condition, at most, as refusals have taught.
    pub(crate) named: Most,
    pub(super) written: Most,
    pub(super) conditioned: Most,
}

/// How many of something a request may hold.
pub(crate) struct Most(AtomicUsize);

impl Most {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Learns from a refusal of so many; whether fewer can be tried.
    pub(crate) fn refused(&self, count: usize, most: Option<usize>) -> bool {
        let fewer = most.unwrap_or(count / 2).min(count.saturating_sub(1));
        self.0.fetch_min(fewer.max(1), Ordering::Relaxed);
        fewer > 0
    }
}

/// An answer's envelope.
#[derive(Deserialize)]
struct Answer<T> {
    result: T,
}

impl Client {
    /// A client. Nothing is sent yet. It waits when the server asks it to, and tries again to read when the connection breaks, for so long at most.
    ///
    /// # Errors
    /// [`ConnectError::Usage`] if TLS is asked for and not built in.
    pub(crate) fn new(address: &QdrantAddress, patience: Duration) -> Result<Self, ConnectError> {
        Ok(Self {
            patience: Some(patience),
            reads_again: true,
            ..Self::with_timeout(address, REQUEST)?
        })
    }

    /// Waits for so long at most when the server asks it to.
    pub(crate) fn waiting(self, patience: Duration) -> Self {
        Self {
            patience: Some(patience),
            ..self
        }
    }

    /// A client whose requests take no longer than this, and are sent once. Nothing is sent yet.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub(crate) fn with_timeout(
        address: &QdrantAddress,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // A key must not go where a redirect leads.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("perennial/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(timeout));
        if ["localhost", "127.0.0.1", "[::1]"].contains(&address.host()) {
            config = config.proxy(None);
        }
        if address.tls() {
            #[cfg(feature = "tls")]
            {
                config = config.tls_config(tls());
            }
            #[cfg(not(feature = "tls"))]
            return Err(ConnectError::Usage(
                "this build has no TLS; build with --features tls, or use qdrant:// where the network can be trusted"
                    .to_owned(),
            ));
        }
        Ok(Self {
            agent: config.build().into(),
            address: address.clone(),
            patience: None,
            reads_again: false,
            stop: None,
            reached: AtomicBool::new(false),
            longest_wait: AtomicU64::new(0),
            named: Most(AtomicUsize::new(usize::MAX)),
            written: Most(AtomicUsize::new(usize::MAX)),
            conditioned: Most(AtomicUsize::new(usize::MAX)),
        })
    }

    /// Ends waits when it says so.
    pub(crate) fn heed(&mut self, stop: Option<StopSignal>) {
        self.stop = stop;
    }

    /// The longest time that the server has asked to wait.
    pub(crate) fn longest_wait(&self) -> Duration {
        Duration::from_millis(self.longest_wait.load(Ordering::Relaxed))
    }

    /// Reads what a path leads to.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.patiently("GET", path, None, true)
    }

    /// Asks for something by JSON that changes nothing.
    pub(crate) fn read<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Failure> {
        self.patiently("POST", path, Some(body.to_string().as_bytes()), true)
    }

    /// Sends JSON.
    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<T, Failure> {
        self.ask(method, path, Some(body.to_string().as_bytes()))
    }

    /// Sends a request, and reads the result of the answer.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<T, Failure> {
        self.patiently(method, path, body, false)
    }

    /// Sends a request until it is answered, or it was tried for long enough. What asks to wait has changed nothing; after a connection broke, that
    /// is known of requests alone that only read.
    fn patiently<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        reads: bool,
    ) -> Result<T, Failure> {
        let mut since = None;
        let [mut pause, longest] = PAUSES;
        loop {
            let failure = match self.once(method, path, body) {
                Err(failure) => failure,
                Ok(answer) => {
                    self.reached.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
            };
            let (Some(patience), Failure::Other(error)) = (self.patience, &failure) else {
                return Err(failure);
            };
            let (wait, most) = match error {
                ConnectError::Throttled { after, .. } => (after.unwrap_or(pause), patience),
                error
                    if reads
                        && self.reads_again
                        && error.may_pass()
                        && self.reached.load(Ordering::Relaxed) =>
                {
                    (pause, patience.min(BROKEN))
                }
                _ => return Err(failure),
            };
            let since = *since.get_or_insert_with(Instant::now);
            if since.elapsed() + wait > most {
                return Err(failure);
            }
            self.tell(error, wait);
            self.rest(wait)?;
            pause = (pause * 2).min(longest);
        }
    }

    /// Says what is waited for: of a server that asks for it, the first time.
    fn tell(&self, error: &ConnectError, wait: Duration) {
        let seconds = wait.as_secs_f64();
        if let ConnectError::Throttled { .. } = error {
            let wait = wait.as_millis() as u64;
            if self.longest_wait.fetch_max(wait.max(1), Ordering::Relaxed) > 0 {
                tracing::debug!("{error}; waiting {seconds:.1} s");
                return;
            }
            tracing::warn!("{error}; waiting as long as it asks, now {seconds:.1} s");
        } else {
            tracing::warn!("{error}; asking again in {seconds:.1} s");
        }
    }

    fn rest(&self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        loop {
            if self.stop.as_ref().is_some_and(|stopped| stopped()) {
                return Err(Failure::Other(ConnectError::Interrupted));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(ATTENTION));
        }
    }

    fn once<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<T, Failure> {
        let unusable = |error: ureq::http::Error| {
            Failure::Other(ConnectError::State(format!("{}: {error}", self.address)))
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address.base()));
        if let Some(key) = self.address.key() {
            request = request.header("api-key", key.clone());
        }
        let answer = match body {
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                self.agent.run(request.body(body).map_err(unusable)?)
            }
            None => self.agent.run(request.body(()).map_err(unusable)?),
        };
        let mut answer = answer.map_err(|error| self.broken(&error))?;
        let status = answer.status().as_u16();
        let after = answer.headers().get(header::RETRY_AFTER);
        let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()
            .map_err(|error| match error {
                Error::BodyExceedsLimit(_) => Failure::TooLarge,
                error => self.broken(&error),
            })?;
        if !(200..300).contains(&status) {
            let after = after.map(Duration::from_secs);
            return Err(self.refused((status, after), path, &bytes));
        }
        let read = serde_json::from_slice::<Answer<T>>(&bytes);
        read.map(|answer| answer.result).map_err(|error| {
            let problem = self.without_key(error.to_string());
            Failure::Other(ConnectError::Value(format!(
                "an answer that Qdrant's interface does not have ({problem}); does {} lead to its REST port, which is 6333 by default?",
                self.address
            )))
        })
    }

    fn broken(&self, error: &Error) -> Failure {
        if let Error::Tls(_) = error {
            return Failure::Other(ConnectError::Usage(self.unverified(&error.to_string())));
        }
        #[cfg(feature = "tls")]
        if let Error::Rustls(_) = error {
            return Failure::Other(ConnectError::Usage(self.unverified(&error.to_string())));
        }
        Failure::Other(ConnectError::Connection {
            server: self.address.to_string(),
            problem: error.to_string(),
        })
    }

    fn unverified(&self, problem: &str) -> String {
        format!(
            "{}: {problem}; the server's certificate is always verified: name a file with the CA in SSL_CERT_FILE, or use qdrant:// where the \
             network can be trusted",
            self.address
        )
    }

    /// What a server says, should it repeat the key.
    fn without_key(&self, text: String) -> String {
        match self.address.key().and_then(|key| key.to_str().ok()) {
            Some(key) => text.replace(key, "…"),
            None => text,
        }
    }

    /// A refusal in the server's words, without the key.
    fn refused(
        &self,
        (status, after): (u16, Option<Duration>),
        path: &str,
        body: &[u8],
    ) -> Failure {
        #[derive(Deserialize)]
        struct Refusal {
            status: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            error: String,
        }
        let said = match serde_json::from_slice::<Refusal>(body) {
            Ok(refusal) => refusal.status.error,
            Err(_) => String::from_utf8_lossy(body).into_owned(),
        };
        // The key first: a message that is cut within it would still show its beginning.
        let message: String = self
            .without_key(said)
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_MESSAGE)
            .collect();
        if let Some(failure) = recognised(status, after, &message, path) {
            return failure;
        }
        match status {
            401 | 403 => Failure::Other(ConnectError::Usage(format!(
                "{} refused the key ({message}); set QDRANT_API_KEY to one that may read the collection and, for run, switch and clean, manage collections",
                self.address
            ))),
            300..=399 => Failure::Other(ConnectError::Usage(format!(
                "{} redirects; name the server itself",
                self.address
            ))),
            _ => {
                let error = ConnectError::Server {
                    message,
                    code: status.to_string(),
                };
                match status {
                    404 => Failure::Missing(error),
                    _ => Failure::Other(error),
                }
            }
        }
    }
}

/// The path of a collection.
pub(crate) fn collection_path(name: &str) -> String {
    format!("/collections/{}", encoded(name))
}

/// TLS that trusts the certificates of this machine, which `SSL_CERT_FILE` and `SSL_CERT_DIR` may replace.
#[cfg(feature = "tls")]
fn tls() -> ureq::tls::TlsConfig {
    use ureq::tls::{Certificate, RootCerts, TlsConfig};

    let found = rustls_native_certs::load_native_certs();
    let roots = found.certs.iter();
    let roots: Vec<_> = roots
        .map(|found| Certificate::from_der(found).to_owned())
        .collect();
    TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_cut_within_the_key_does_not_show_its_beginning() {
        let address = QdrantAddress::new("qdrant://localhost/items").unwrap();
        let address = address.with_key(Some("s3cret-key".to_owned())).unwrap();
        let client = Client::new(&address, Duration::ZERO).unwrap();
        let said = format!("{}s3cret-key", ".".repeat(MAX_MESSAGE - 6));
        let answers = [
            said.clone(),
            serde_json::json!({"status": {"error": said}}).to_string(),
        ];
        for answer in answers {
            let error = ConnectError::from(client.refused((500, None), "/", answer.as_bytes()));
            assert!(!error.to_string().contains("s3"), "{error}");
        }
    }
}
