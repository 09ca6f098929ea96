//! Embedding services that are asked over HTTP: how they are reached, and what `model.toml` says about one that is a version's encoder.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::checksum::is_sha256_hex;
use crate::space::SpaceId;

const MAX_TEXT_BYTES: usize = 1024;
const MAX_URL_BYTES: usize = 2048;
const MAX_RETRIES: u32 = 10;
/// The longest embedding, so that the size of an answer is bounded.
pub(crate) const MAX_ENDPOINT_DIM: usize = 1 << 16;
/// As many threads may wait for one service.
const MAX_IN_FLIGHT: usize = 256;
const MAX_INPUTS_PER_REQUEST: usize = 2048;
const MAX_TIMEOUT_SECONDS: f64 = 3600.0;
/// A model's embeddings do not change faster than they can be looked at.
const MIN_CANARY_SECONDS: f64 = 1.0;
const MAX_CANARY_SECONDS: f64 = 7.0 * 86_400.0;
/// Further apart, embeddings say nothing any more.
const MAX_TOLERANCE: f64 = 0.5;

/// A value that cannot be used: its key, without its table, and the problem.
pub type Wrong = (&'static str, String);

/// The table `[encoder.endpoint]`: an embedding service that is a version's encoder.
///
/// What its embeddings depend on is `api`, `model`, `send_dimensions` and the prefixes, together with the canaries that were recorded at the
/// import; where they are those of a registered space, that is what they are. Everything else says how it is reached, and may be changed in `model.toml` without making another version of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// What it speaks.
    pub api: EndpointApi,
    /// Its address: for `openai` that in front of `/embeddings`, such as `https://host/v1`; for `tei` that in front of `/embed`.
    pub url: String,
    /// The name of its model, which is sent with `openai`.
    pub model: String,
    /// Which key it is shown.
    #[serde(default)]
    pub key: EndpointKey,
    /// Additional CA certificates, PEM, to trust for its TLS certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whether the version's dimension is sent as `dimensions`, for models whose embeddings can be shortened. Only with `openai`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub send_dimensions: bool,
    /// Put in front of queries.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query_prefix: String,
    /// Put in front of documents.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub document_prefix: String,
    /// How far the embedding of an input may be from an earlier one of the same input, as the length of their difference: such a service need not
    /// give the same bits twice.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
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
    /// How often a service embeds the canaries again, in seconds.
    #[serde(default = "default_canary_seconds")]
    pub canary_seconds: f64,
    /// The registered space that its embeddings are of, where they are those of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<EndpointSpace>,
}

/// The space of an outside encoder whose embeddings a version gives, by which its bridges and certificates hold for the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointSpace {
    /// Its name in the registry, for people.
    pub name: SpaceId,
    /// Its fingerprint, which decides: the SHA-256 of the file with its canaries.
    pub fingerprint: String,
}

fn default_tolerance() -> f64 {
    0.01
}

fn default_timeout() -> f64 {
    20.0
}

fn default_retries() -> u32 {
    2
}

fn default_in_flight() -> usize {
    8
}

fn default_inputs() -> usize {
    32
}

fn default_canary_seconds() -> f64 {
    3600.0
}

impl Endpoint {
    /// A service with the defaults for everything else.
    pub fn new(api: EndpointApi, url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            api,
            url: url.into(),
            model: model.into(),
            key: EndpointKey::None,
            ca: None,
            send_dimensions: false,
            query_prefix: String::new(),
            document_prefix: String::new(),
            tolerance: default_tolerance(),
            timeout_seconds: default_timeout(),
            retries: default_retries(),
            max_in_flight: default_in_flight(),
            inputs_per_request: default_inputs(),
            canary_seconds: default_canary_seconds(),
            space: None,
        }
    }

    /// The same, described by what its embeddings depend on.
    pub(crate) fn identity(&self) -> Self {
        Self {
            send_dimensions: self.send_dimensions,
            query_prefix: self.query_prefix.clone(),
            document_prefix: self.document_prefix.clone(),
            ..Self::new(self.api, "", self.model.as_str())
        }
    }

    /// How it is reached.
    pub fn access(&self) -> EndpointAccess {
        EndpointAccess {
            api: self.api,
            url: self.url.clone(),
            model: self.model.clone(),
            key: self.key.clone(),
            ca: self.ca.clone(),
            send_dimensions: self.send_dimensions,
            timeout_seconds: self.timeout_seconds,
            retries: self.retries,
            max_in_flight: self.max_in_flight,
            inputs_per_request: self.inputs_per_request,
        }
    }

    /// Checks every value, but for the form of the address, which its client knows.
    ///
    /// # Errors
    /// The key and the problem.
    pub fn check(&self) -> Result<(), Wrong> {
        self.access().check()?;
        check_prefixes(&self.query_prefix, &self.document_prefix)?;
        check_canary_seconds(self.canary_seconds)?;
        let tolerance = self.tolerance;
        if !(tolerance > 0.0 && tolerance <= MAX_TOLERANCE) {
            let problem = format!("must be above 0 and at most {MAX_TOLERANCE}, got {tolerance}");
            return Err(("tolerance", problem));
        }
        let fingerprint = self.space.as_ref().map(|space| &space.fingerprint);
        if fingerprint.is_some_and(|text| !is_sha256_hex(text)) {
            let problem = "has a fingerprint that is not 64 lower-case hexadecimal digits";
            return Err(("space", problem.to_owned()));
        }
        Ok(())
    }
}

/// How an embedding service is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointAccess {
    /// What it speaks.
    pub api: EndpointApi,
    /// Its address, in front of `/embeddings` or `/embed`.
    pub url: String,
    /// The name of its model.
    pub model: String,
    /// Which key it is shown.
    pub key: EndpointKey,
    /// Additional CA certificates, PEM, to trust for its TLS certificate.
    pub ca: Option<PathBuf>,
    /// Whether the dimension is sent.
    pub send_dimensions: bool,
    /// From a request to its answer, repetitions included.
    pub timeout_seconds: f64,
    /// How often a request is repeated that failed in a way that may pass.
    pub retries: u32,
    /// Concurrent requests to it.
    pub max_in_flight: usize,
    /// Inputs per request to it.
    pub inputs_per_request: usize,
}

impl EndpointAccess {
    /// Checks every value, but for the form of the address.
    ///
    /// # Errors
    /// The key and the problem.
    pub fn check(&self) -> Result<(), Wrong> {
        for (key, text, most) in [
            ("url", &self.url, MAX_URL_BYTES),
            ("model", &self.model, MAX_TEXT_BYTES),
        ] {
            let odd = text.bytes().any(|byte| byte.is_ascii_control());
            if text.is_empty() || text.len() > most || odd {
                let problem = format!("must be 1 to {most} bytes without control characters");
                return Err((key, problem));
            }
        }
        let time = self.timeout_seconds;
        if !(time > 0.0 && time <= MAX_TIMEOUT_SECONDS) {
            let problem = format!("must be above 0 and at most {MAX_TIMEOUT_SECONDS}, got {time}");
            return Err(("timeout_seconds", problem));
        }
        if self.retries > MAX_RETRIES {
            let problem = format!("must be 0 to {MAX_RETRIES}, got {}", self.retries);
            return Err(("retries", problem));
        }
        for (key, count, max) in [
            ("max_in_flight", self.max_in_flight, MAX_IN_FLIGHT),
            (
                "inputs_per_request",
                self.inputs_per_request,
                MAX_INPUTS_PER_REQUEST,
            ),
        ] {
            if !(1..=max).contains(&count) {
                return Err((key, format!("must be 1 to {max}, got {count}")));
            }
        }
        if self.send_dimensions && self.api == EndpointApi::Tei {
            let problem = "needs api = \"openai\"";
            return Err(("send_dimensions", problem.to_owned()));
        }
        Ok(())
    }
}

/// Checks what is put in front of queries and documents.
///
/// # Errors
/// The key and the problem.
pub fn check_prefixes(query: &str, document: &str) -> Result<(), Wrong> {
    for (key, text) in [("query_prefix", query), ("document_prefix", document)] {
        if text.len() > MAX_TEXT_BYTES {
            return Err((key, format!("has more than {MAX_TEXT_BYTES} bytes")));
        }
    }
    Ok(())
}

/// Checks how often canaries are embedded again.
///
/// # Errors
/// The key and the problem.
pub fn check_canary_seconds(every: f64) -> Result<(), Wrong> {
    if (MIN_CANARY_SECONDS..=MAX_CANARY_SECONDS).contains(&every) {
        return Ok(());
    }
    let problem = format!("must be {MIN_CANARY_SECONDS} to {MAX_CANARY_SECONDS}, got {every}");
    Err(("canary_seconds", problem))
}

/// The protocol of an embedding service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointApi {
    /// `POST /embeddings` as OpenAI has it.
    #[default]
    Openai,
    /// `POST /embed` of text-embeddings-inference.
    Tei,
}

/// Where the key comes from that an embedding service is shown. The key itself is written nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EndpointKey {
    /// It needs none.
    #[default]
    None,
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

impl TryFrom<String> for EndpointKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("env", name)) if !name.is_empty() => Ok(Self::Variable(name.to_owned())),
            // The text may be the key itself, so it is not repeated.
            _ => Err(
                "must be `none`, `file:PATH` or `env:NAME`; a key itself does not belong here"
                    .to_owned(),
            ),
        }
    }
}

impl From<EndpointKey> for String {
    fn from(key: EndpointKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Variable(name) => write!(f, "env:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint::new(EndpointApi::Openai, "http://127.0.0.1:8080/v1", "minilm")
    }

    #[test]
    fn wrong_values_name_their_key() {
        endpoint().check().unwrap();
        type Change = fn(&mut Endpoint);
        let cases: [(&str, Change); 15] = [
            ("url", |e| e.url.clear()),
            ("url", |e| e.url = "x".repeat(5000)),
            ("model", |e| e.model.clear()),
            ("model", |e| e.model = "a\nb".to_owned()),
            ("timeout_seconds", |e| e.timeout_seconds = f64::NAN),
            ("timeout_seconds", |e| e.timeout_seconds = 0.0),
            ("retries", |e| e.retries = 11),
            ("max_in_flight", |e| e.max_in_flight = 0),
            ("inputs_per_request", |e| e.inputs_per_request = 100_000),
            ("query_prefix", |e| e.query_prefix = "x".repeat(2000)),
            ("canary_seconds", |e| e.canary_seconds = 0.0),
            ("tolerance", |e| e.tolerance = 0.0),
            ("tolerance", |e| e.tolerance = f64::NAN),
            ("space", |e| {
                let name = SpaceId::new("minilm").unwrap();
                let fingerprint = "AB".repeat(32);
                e.space = Some(EndpointSpace { name, fingerprint });
            }),
            ("send_dimensions", |e| {
                e.api = EndpointApi::Tei;
                e.send_dimensions = true;
            }),
        ];
        for (number, (key, change)) in cases.into_iter().enumerate() {
            let mut changed = endpoint();
            change(&mut changed);
            assert_eq!(changed.check().unwrap_err().0, key, "case {number}");
        }
    }

    #[test]
    fn keys_are_named_and_never_written_down() {
        for text in ["none", "file:/run/key", "env:OPENAI_API_KEY"] {
            let key = EndpointKey::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(key), text);
        }
        for text in ["sk-secret", "file:", "secret:x", "client", ""] {
            let error = EndpointKey::try_from(text.to_owned()).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
