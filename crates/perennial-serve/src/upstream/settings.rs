//! The settings of an upstream: the table `[upstream.NAME]`.

use std::fmt;
use std::path::PathBuf;

use perennial_core::endpoint::{check_canary_seconds, check_prefixes};
use perennial_core::{EndpointAccess, EndpointApi, EndpointKey, SpaceId};
use perennial_encode::endpoint::Address;
use serde::{Deserialize, Serialize};

/// Another embedding service, in front of which this one answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// The registered space of its embeddings.
    pub space: SpaceId,
    /// Its address: for `openai` that in front of `/embeddings`, such as `https://host/v1`; for `tei` that in front of `/embed`.
    pub url: String,
    /// The name of its model, which is sent with `openai` and which clients may ask for.
    pub model: String,
    /// What it speaks.
    #[serde(default)]
    pub api: EndpointApi,
    /// Which key it is shown.
    #[serde(default)]
    pub key: UpstreamKey,
    /// Additional CA certificates, PEM, to trust for its TLS certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whether the space's dimension is sent as `dimensions`, for models whose embeddings can be shortened. Only with `openai`.
    #[serde(default)]
    pub send_dimensions: bool,
    /// What is put in front of every query, for encoders that tell queries and documents apart.
    #[serde(default)]
    pub query_prefix: String,
    /// What is put in front of every document.
    #[serde(default)]
    pub document_prefix: String,
    /// From a request to its answer, repetitions included.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: f64,
    /// How often a request is repeated that failed in a way that may pass.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// Concurrent requests to it; further ones wait.
    #[serde(default = "default_in_flight")]
    pub max_in_flight: usize,
    /// Inputs per request to it; more are sent in several.
    #[serde(default = "default_inputs")]
    pub inputs_per_request: usize,
    /// A file with the inputs of the space's canaries, one a line, in the order in which their embeddings were registered. Without it,
    /// canaries are not embedded again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_inputs: Option<PathBuf>,
    /// How often the canaries are embedded again, in seconds.
    #[serde(default = "default_canary_seconds")]
    pub canary_seconds: f64,
}

fn default_timeout() -> f64 {
    20.0
}

fn default_retries() -> u32 {
    2
}

fn default_in_flight() -> usize {
    32
}

fn default_inputs() -> usize {
    32
}

fn default_canary_seconds() -> f64 {
    3600.0
}

/// Where the key comes from that an upstream is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum UpstreamKey {
    /// The client's own `authorization` header is passed on.
    Client,
    /// One key for all clients, or none.
    Own(EndpointKey),
}

impl Default for UpstreamKey {
    fn default() -> Self {
        Self::Own(EndpointKey::None)
    }
}

impl TryFrom<String> for UpstreamKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "client" {
            return Ok(Self::Client);
        }
        // The text may be the key itself, so it is not repeated.
        EndpointKey::try_from(text)
            .map(Self::Own)
            .map_err(|problem| format!("{problem}; `client` passes on what clients send"))
    }
}

impl From<UpstreamKey> for String {
    fn from(key: UpstreamKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for UpstreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Own(key) => key.fmt(f),
        }
    }
}

impl UpstreamConfig {
    /// An upstream with the defaults for everything else.
    pub fn new(space: SpaceId, url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            space,
            url: url.into(),
            model: model.into(),
            api: EndpointApi::default(),
            key: UpstreamKey::default(),
            ca: None,
            send_dimensions: false,
            query_prefix: String::new(),
            document_prefix: String::new(),
            timeout_seconds: default_timeout(),
            retries: default_retries(),
            max_in_flight: default_in_flight(),
            inputs_per_request: default_inputs(),
            canary_inputs: None,
            canary_seconds: default_canary_seconds(),
        }
    }

    /// Checks every value. `request_seconds` is the time that a client's request may take.
    ///
    /// # Errors
    /// The key, without its table, and the problem.
    pub(crate) fn check(&self, request_seconds: f64) -> Result<(), (&'static str, String)> {
        Address::parse(&self.url).map_err(|problem| ("url", problem))?;
        self.access().check()?;
        check_prefixes(&self.query_prefix, &self.document_prefix)?;
        check_canary_seconds(self.canary_seconds)?;
        let time = self.timeout_seconds;
        if time >= request_seconds {
            let problem =
                format!("must be below timeouts.request_seconds ({request_seconds}), got {time}");
            return Err(("timeout_seconds", problem));
        }
        if self.canary_inputs.is_some() && self.key == UpstreamKey::Client {
            let problem = "canaries are embedded without a client, whose key could be passed on; set key = \"file:PATH\" or \"env:NAME\"";
            return Err(("canary_inputs", problem.to_owned()));
        }
        Ok(())
    }

    /// How it is reached, but for the keys of clients.
    pub(super) fn access(&self) -> EndpointAccess {
        EndpointAccess {
            api: self.api,
            url: self.url.clone(),
            model: self.model.clone(),
            key: match &self.key {
                UpstreamKey::Client => EndpointKey::None,
                UpstreamKey::Own(key) => key.clone(),
            },
            ca: self.ca.clone(),
            send_dimensions: self.send_dimensions,
            timeout_seconds: self.timeout_seconds,
            retries: self.retries,
            max_in_flight: self.max_in_flight,
            inputs_per_request: self.inputs_per_request,
        }
    }

    /// The names by which clients may ask for it.
    pub(crate) fn names(&self) -> [&str; 2] {
        [self.space.as_str(), &self.model]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> UpstreamConfig {
        let space = SpaceId::new("minilm").unwrap();
        UpstreamConfig::new(space, "http://127.0.0.1:8080/v1", "minilm")
    }

    #[test]
    fn wrong_values_name_their_key() {
        config().check(30.0).unwrap();
        type Change = fn(&mut UpstreamConfig);
        let cases: [(&str, Change); 12] = [
            ("url", |c| c.url = "127.0.0.1:8080".to_owned()),
            ("url", |c| c.url = "ftp://host".to_owned()),
            ("url", |c| c.url = "http://a:b@host/v1".to_owned()),
            ("url", |c| c.url = "http://host/v1?x=1".to_owned()),
            ("model", |c| c.model.clear()),
            ("timeout_seconds", |c| c.timeout_seconds = f64::NAN),
            ("timeout_seconds", |c| c.timeout_seconds = 30.0),
            ("retries", |c| c.retries = 11),
            ("max_in_flight", |c| c.max_in_flight = 0),
            ("inputs_per_request", |c| c.inputs_per_request = 100_000),
            ("canary_seconds", |c| c.canary_seconds = 0.0),
            ("canary_inputs", |c| {
                c.key = UpstreamKey::Client;
                c.canary_inputs = Some("inputs.txt".into());
            }),
        ];
        for (number, (key, change)) in cases.into_iter().enumerate() {
            let mut changed = config();
            change(&mut changed);
            assert_eq!(changed.check(30.0).unwrap_err().0, key, "case {number}");
        }
    }

    #[test]
    fn keys_are_named_and_never_written_down() {
        for text in ["none", "client", "file:/run/key", "env:OPENAI_API_KEY"] {
            let key = UpstreamKey::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(key), text);
        }
        for text in ["sk-secret", "file:", "secret:x", ""] {
            let error = UpstreamKey::try_from(text.to_owned()).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
