//! The settings of an upstream: the table `[upstream.NAME]`.

use std::fmt;
use std::path::PathBuf;

use perennial_core::SpaceId;
use serde::{Deserialize, Serialize};
use ureq::http::Uri;

use crate::durations::MAX_SECONDS;

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
    pub api: UpstreamApi,
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

/// The protocol of an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamApi {
    /// `POST /embeddings` as OpenAI has it.
    #[default]
    Openai,
    /// `POST /embed` of text-embeddings-inference.
    Tei,
}

/// Where the key comes from that an upstream is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum UpstreamKey {
    /// It needs none.
    #[default]
    None,
    /// The client's own `authorization` header is passed on.
    Client,
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

impl TryFrom<String> for UpstreamKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "client" => Ok(Self::Client),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("env", name)) if !name.is_empty() => Ok(Self::Variable(name.to_owned())),
            // The text may be the key itself, so it is not repeated.
            _ => Err(
                "must be `none`, `client`, `file:PATH` or `env:NAME`; a key itself does not belong into the configuration"
                    .to_owned(),
            ),
        }
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
            Self::None => f.write_str("none"),
            Self::Client => f.write_str("client"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Variable(name) => write!(f, "env:{name}"),
        }
    }
}

const MAX_RETRIES: u32 = 10;
/// As many threads may wait for one upstream.
const MAX_IN_FLIGHT: usize = 256;
const MAX_INPUTS_PER_REQUEST: usize = 2048;
/// A model's embeddings do not change faster than they can be looked at.
const MIN_CANARY_SECONDS: f64 = 1.0;
const MAX_TEXT_BYTES: usize = 1024;

impl UpstreamConfig {
    /// An upstream with the defaults for everything else.
    pub fn new(space: SpaceId, url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            space,
            url: url.into(),
            model: model.into(),
            api: UpstreamApi::default(),
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
        let uri = self.uri().map_err(|problem| ("url", problem))?;
        if uri.scheme_str() == Some("https") && !cfg!(feature = "tls") {
            let problem = "this build has no TLS; build with --features tls (or full)";
            return Err(("url", problem.to_owned()));
        }
        let model = self.model.as_str();
        if model.is_empty()
            || model.len() > MAX_TEXT_BYTES
            || model.bytes().any(|byte| byte.is_ascii_control())
        {
            let problem = format!("must be 1 to {MAX_TEXT_BYTES} bytes without control characters");
            return Err(("model", problem));
        }
        for (key, text) in [
            ("query_prefix", &self.query_prefix),
            ("document_prefix", &self.document_prefix),
        ] {
            if text.len() > MAX_TEXT_BYTES {
                return Err((key, format!("has more than {MAX_TEXT_BYTES} bytes")));
            }
        }
        let time = self.timeout_seconds;
        if !(time > 0.0 && time < request_seconds) {
            let problem = format!(
                "must be above 0 and below timeouts.request_seconds ({request_seconds}), got {time}"
            );
            return Err(("timeout_seconds", problem));
        }
        if self.retries > MAX_RETRIES {
            return Err((
                "retries",
                format!("must be 0 to {MAX_RETRIES}, got {}", self.retries),
            ));
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
        let every = self.canary_seconds;
        if !(MIN_CANARY_SECONDS..=MAX_SECONDS).contains(&every) {
            let problem = format!("must be {MIN_CANARY_SECONDS} to {MAX_SECONDS}, got {every}");
            return Err(("canary_seconds", problem));
        }
        if self.canary_inputs.is_some() && self.key == UpstreamKey::Client {
            let problem = "canaries are embedded without a client, whose key could be passed on; set key = \"file:PATH\" or \"env:NAME\"";
            return Err(("canary_inputs", problem.to_owned()));
        }
        if self.send_dimensions && self.api == UpstreamApi::Tei {
            let problem = "needs api = \"openai\"";
            return Err(("send_dimensions", problem.to_owned()));
        }
        Ok(())
    }

    /// The address, taken apart.
    fn uri(&self) -> Result<Uri, String> {
        const FORM: &str = "write an address such as https://host.example/v1";
        let uri: Uri = self
            .url
            .parse()
            .map_err(|_| format!("is not a URL; {FORM}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(format!("must begin with http:// or https://; {FORM}"));
        }
        let authority = uri.authority().ok_or(format!("has no host name; {FORM}"))?;
        if authority.as_str().contains('@') {
            return Err("must not hold a name or password; set `key`".to_owned());
        }
        if uri.query().is_some() || self.url.contains('#') {
            return Err(format!("must not have a `?` or `#` part; {FORM}"));
        }
        Ok(uri)
    }

    /// Whether it is on this machine, so that no proxy leads there.
    pub(crate) fn is_local(&self) -> bool {
        let uri = self.uri().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || address
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
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
