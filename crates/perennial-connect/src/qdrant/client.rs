//! Requests to a server and its answers.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Request, header};
use ureq::{Agent, Error};

use super::address::{QdrantAddress, encoded};
use crate::error::ConnectError;

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one request may take. A server that hangs without closing its connections is noticed by this alone.
const REQUEST: Duration = Duration::from_secs(120);
/// The largest answer that is read.
const MAX_ANSWER: u64 = 64 << 20;
/// The longest message of a server that is passed on.
const MAX_MESSAGE: usize = 500;

/// A client of one server.
pub(crate) struct Client {
    agent: Agent,
    address: QdrantAddress,
}

/// Why a request failed.
pub(crate) enum Failure {
    /// The answer is larger than [`MAX_ANSWER`].
    TooLarge,
    /// What was asked for is not there.
    Missing(ConnectError),
    /// Anything else.
    Other(ConnectError),
}

impl From<Failure> for ConnectError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TooLarge => Self::Value(format!(
                "an answer of more than {} MB for a single point",
                MAX_ANSWER >> 20
            )),
            Failure::Missing(error) | Failure::Other(error) => error,
        }
    }
}

/// An answer's envelope.
#[derive(Deserialize)]
struct Answer<T> {
    result: T,
}

impl Client {
    /// A client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ConnectError::Usage`] if TLS is asked for and not built in.
    pub(crate) fn new(address: &QdrantAddress) -> Result<Self, ConnectError> {
        Self::with_timeout(address, REQUEST)
    }

    /// A client whose requests take no longer than this. Nothing is sent yet.
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
        })
    }

    /// Reads.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask("GET", path, None)
    }

    /// Sends JSON.
    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<T, Failure> {
        self.ask(method, path, Some(body.to_string().into_bytes()))
    }

    /// Sends a request, and reads the result of the answer.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
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
            return Err(self.refused(status, &bytes));
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
    fn refused(&self, status: u16, body: &[u8]) -> Failure {
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
        let client = Client::new(&address).unwrap();
        let said = format!("{}s3cret-key", ".".repeat(MAX_MESSAGE - 6));
        let answers = [
            said.clone(),
            serde_json::json!({"status": {"error": said}}).to_string(),
        ];
        for answer in answers {
            let error = ConnectError::from(client.refused(500, answer.as_bytes()));
            assert!(!error.to_string().contains("s3"), "{error}");
        }
    }
}
