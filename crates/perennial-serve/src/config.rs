//! How the service is set up.

mod limits;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use perennial_core::SpaceId;
use perennial_encode::{DecodeLimits, InputType};
use serde::{Deserialize, Serialize};

pub use self::limits::Limits;
use crate::client_address::AddressRange;
use crate::downloads::Downloads;
use crate::durations::MAX_SECONDS;
use crate::error::ServeError;
use crate::keys::Keys;
use crate::upstream::{UpstreamConfig, UpstreamKey};

/// The settings of a service. The defaults suit one machine and listen on loopback only.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// Where to listen; port 0 for any free one.
    pub listen: SocketAddr,
    /// Certificate and private key; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// The keys that clients must show; none for an open service.
    #[serde(skip)]
    pub keys: Keys,
    /// The folder in which the gallery lies: the metrics tell how much space is left there, and the record of a backfill lies in it. Without it,
    /// a backfill does not outlast the service.
    pub gallery: Option<PathBuf>,
    /// Fetches originals from addresses, for a backfill and for the second stage of searches.
    #[serde(skip)]
    pub downloads: Downloads,
    /// Where searches fetch the originals of hits that they rank again: a folder, an address with `{id}` or `{payload.KEY}` behind the host, or
    /// `payload:KEY` for texts that the items hold.
    /// Without it, `rerank` is refused.
    pub originals: Option<String>,
    /// The folder of gallery snapshots; without it `POST /snapshots` is refused.
    pub snapshots: Option<PathBuf>,
    /// The folder of stored probes: each version's embeddings of a few images, recorded when it first went live. Without it, a version is
    /// checked against itself only.
    pub probes: Option<PathBuf>,
    /// Proxies whose `x-forwarded-for` says which client a request comes from. The header is ignored from other addresses.
    pub trusted_proxies: Vec<AddressRange>,
    /// Only read: searches work, and everything that would change the gallery, the registry or what is live is refused with 403.
    /// Snapshots can still be made.
    pub read_only: bool,
    /// Treat every pair of versions as certified, with a warning. For machines without any evaluation.
    pub force_uncertified: bool,
    /// The space of every embedding that `/v1/embeddings` and `/embed` with `inputs` answer: a model version, or a registered space that an
    /// upstream has. Without it, each model answers in its own space.
    pub answer_in: Option<SpaceId>,
    /// The new encoder, whose queries are answered in that space: `live`, or an upstream. Without it, the live version.
    pub answer_from: Option<String>,
    /// What answers queries while no route from the new encoder into that space is certified. Without it, the service does not start then.
    pub answer_uncertified: Option<AnswerUncertified>,
    /// What inputs are if a request does not say.
    pub default_input_type: InputType,
    /// Other embedding services, by a name of one's own.
    pub upstream: BTreeMap<String, UpstreamConfig>,
    /// Dynamic batching of pictures and texts.
    pub batching: Batching,
    /// Resource limits per request and in total.
    pub limits: Limits,
    /// How long things may take.
    pub timeouts: Timeouts,
}

/// The value of `answer_from` that stands for the live version.
pub(crate) const LIVE: &str = perennial_upgrade::LIVE_ALIAS;

/// What answers queries where no route is certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerUncertified {
    /// The old encoder alone, as for documents.
    Old,
}

/// PEM files of a TLS server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Dynamic batching of pictures and texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// Pictures or texts per forward pass.
    pub max_batch: usize,
    /// Tokens of all texts of a forward pass, where each counts as long as the longest of them.
    pub max_tokens: usize,
    /// How long the first input of a batch waits for more, in seconds.
    pub max_wait_seconds: f64,
    /// Pictures and texts that may wait or be encoded at once; more are refused with 429.
    pub queue_images: usize,
}

/// Time limits, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// From the connection, or the first byte after an answer, to the end of a request's headers.
    pub header_seconds: f64,
    /// How long a connection stays open between two requests. Longer than proxies in front keep theirs, or they send a request into one that is closed
    /// at that moment.
    pub idle_seconds: f64,
    /// From the headers to the answer. A body that is not there by then is 408.
    pub request_seconds: f64,
    /// For the second stage of a search: what is not embedded again by then keeps its place. Keep it well below `request_seconds`, within which
    /// the whole search must be answered.
    pub rerank_seconds: f64,
    /// The same limit as `request_seconds` for swaps, uploads of models and snapshots.
    pub long_request_seconds: f64,
    /// How long a client may leave its answer unread before it is disconnected.
    pub write_seconds: f64,
    /// How long new requests are still taken when the service is asked to stop, while `/readyz` says that it stops; 0 for no time.
    pub drain_delay_seconds: f64,
    /// For requests in progress when the service stops.
    pub drain_seconds: f64,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7700),
            tls: None,
            keys: Keys::default(),
            gallery: None,
            downloads: Downloads::default(),
            originals: None,
            snapshots: None,
            probes: None,
            trusted_proxies: Vec::new(),
            read_only: false,
            force_uncertified: false,
            answer_in: None,
            answer_from: None,
            answer_uncertified: None,
            default_input_type: InputType::default(),
            upstream: BTreeMap::new(),
            batching: Batching::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            max_batch: 32,
            max_tokens: 16_384,
            max_wait_seconds: 0.005,
            queue_images: 512,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header_seconds: 15.0,
            idle_seconds: 75.0,
            request_seconds: 30.0,
            rerank_seconds: 5.0,
            long_request_seconds: 600.0,
            write_seconds: 30.0,
            drain_delay_seconds: 0.0,
            drain_seconds: 30.0,
        }
    }
}

/// Letters of an upstream's name, which labels metrics.
const MAX_NAME: usize = 64;
/// Bounds what a configuration can ask of memory and of semaphores.
const MAX_COUNT: usize = 1 << 20;
const MAX_BYTES: usize = 1 << 40;
/// Requests per second; one in a quarter of an hour.
const MIN_RATE: f64 = 0.001;
/// The most that `limits.images` may be.
pub(crate) const MAX_IMAGES: usize = 1 << 16;
/// The most that `limits.inputs` may be.
pub(crate) const MAX_INPUTS: usize = 1 << 16;

impl ServeConfig {
    /// Checks every value, alone and against the others.
    ///
    /// # Errors
    /// [`ServeError::Config`], which names the key.
    pub fn check(&self) -> Result<(), ServeError> {
        let limits = &self.limits;
        for (key, count, max) in [
            ("batching.max_batch", self.batching.max_batch, MAX_COUNT),
            ("batching.max_tokens", self.batching.max_tokens, MAX_COUNT),
            (
                "batching.queue_images",
                self.batching.queue_images,
                MAX_COUNT,
            ),
            (
                "limits.images",
                limits.images,
                self.batching.queue_images.min(MAX_IMAGES),
            ),
            ("limits.inputs", limits.inputs, MAX_INPUTS),
            ("limits.items", limits.items, 10_000),
            (
                "limits.results",
                limits.results,
                perennial_gallery::MAX_LIMIT,
            ),
            ("limits.rerank", limits.rerank, perennial_gallery::MAX_LIMIT),
            ("limits.connections", limits.connections, MAX_COUNT),
            ("limits.in_flight", limits.in_flight, MAX_COUNT),
            (
                "limits.per_client_burst",
                limits.per_client_burst,
                MAX_COUNT,
            ),
            ("limits.decoders", limits.decoders, 1024),
            (
                "limits.body_bytes",
                limits.body_bytes,
                limits.body_budget_bytes,
            ),
            (
                "limits.model_bytes",
                limits.model_bytes,
                limits.body_budget_bytes,
            ),
            ("limits.image_bytes", limits.image_bytes, limits.body_bytes),
            (
                "limits.body_budget_bytes",
                limits.body_budget_bytes,
                MAX_BYTES,
            ),
        ] {
            if !(1..=max).contains(&count) {
                let problem = format!("must be 1 to {max}, got {count}");
                return Err(wrong(key, problem));
            }
        }
        if limits.per_client_concurrent > MAX_COUNT {
            let count = limits.per_client_concurrent;
            let problem = format!("must be 0 (no limit) to {MAX_COUNT}, got {count}");
            return Err(wrong("limits.per_client_concurrent", problem));
        }
        let rate = limits.per_client_per_second;
        if !(rate == 0.0 || (MIN_RATE..=MAX_COUNT as f64).contains(&rate)) {
            let problem = format!("must be 0 (no limit) or {MIN_RATE} to {MAX_COUNT}, got {rate}");
            return Err(wrong("limits.per_client_per_second", problem));
        }
        for (key, seconds) in [
            ("batching.max_wait_seconds", self.batching.max_wait_seconds),
            ("timeouts.header_seconds", self.timeouts.header_seconds),
            ("timeouts.idle_seconds", self.timeouts.idle_seconds),
            ("timeouts.request_seconds", self.timeouts.request_seconds),
            ("timeouts.rerank_seconds", self.timeouts.rerank_seconds),
            (
                "timeouts.long_request_seconds",
                self.timeouts.long_request_seconds,
            ),
            ("timeouts.write_seconds", self.timeouts.write_seconds),
            (
                "timeouts.drain_delay_seconds",
                self.timeouts.drain_delay_seconds,
            ),
            ("timeouts.drain_seconds", self.timeouts.drain_seconds),
        ] {
            // Only delays may be 0.
            let is_delay =
                ["batching.max_wait_seconds", "timeouts.drain_delay_seconds"].contains(&key);
            let at_once = seconds == 0.0 && !is_delay;
            if at_once || !(0.0..=MAX_SECONDS).contains(&seconds) {
                let problem =
                    format!("must be above 0 and at most {MAX_SECONDS} seconds, got {seconds}");
                return Err(wrong(key, problem));
            }
        }
        self.check_upstreams()?;
        if self.tls.is_some() && !cfg!(feature = "tls") {
            return Err(without_tls());
        }
        Ok(())
    }

    fn check_upstreams(&self) -> Result<(), ServeError> {
        for (name, upstream) in &self.upstream {
            let key = |key: &str| match key {
                "" => format!("upstream.{name}"),
                key => format!("upstream.{name}.{key}"),
            };
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
                let problem =
                    format!("name {name:?}: use 1 to {MAX_NAME} letters, digits, `-` and `_`");
                return Err(wrong(key(""), problem));
            }
            let mut own_names = upstream.names().into_iter().chain([name.as_str()]);
            if own_names.any(|own| own == LIVE) {
                let problem = format!(
                    "{LIVE:?} is how clients ask for the live version; an upstream needs another name, space and model"
                );
                return Err(wrong(key(""), problem));
            }
            upstream
                .check(self.timeouts.request_seconds)
                .map_err(|(of, problem)| wrong(key(of), problem))?;
            if upstream.key == UpstreamKey::Client && !self.keys.is_empty() {
                let problem = "the `authorization` header of clients holds a key of this service, which no other service may see; use file:PATH or env:NAME, or run this service without keys behind something that checks clients";
                return Err(wrong(key("key"), problem.to_owned()));
            }
            for (other, settings) in self.upstream.range(..name.clone()) {
                let mut names = upstream.names().into_iter().chain([name.as_str()]);
                let taken = |name: &&str| *name == other || settings.names().contains(name);
                if let Some(taken) = names.find(taken) {
                    let problem = format!(
                        "{taken:?} is a name, space or model of upstream {other} as well, so that nobody could tell which of them a client asks for"
                    );
                    return Err(wrong(key(""), problem));
                }
            }
        }
        for (key, is_set) in [
            ("answer_from", self.answer_from.is_some()),
            ("answer_uncertified", self.answer_uncertified.is_some()),
        ] {
            if is_set && self.answer_in.is_none() {
                let problem = "says nothing without answer_in, the space of all answers";
                return Err(wrong(key, problem.to_owned()));
            }
        }
        Ok(())
    }

    pub(crate) fn decode_limits(&self) -> DecodeLimits {
        DecodeLimits {
            side: self.limits.image_side,
            pixels: self.limits.image_pixels,
            bytes: self.limits.decoder_bytes,
        }
    }
}

fn wrong(key: impl Into<Cow<'static, str>>, problem: String) -> ServeError {
    ServeError::Config {
        key: key.into(),
        problem,
    }
}

/// The error for a certificate in a build that cannot use it.
pub(crate) fn without_tls() -> ServeError {
    ServeError::Config {
        key: "tls.certificate".into(),
        problem: "this build has no TLS; build with --features tls, or put a TLS proxy in front"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_local() {
        let config = ServeConfig::default();
        config.check().unwrap();
        assert!(config.listen.ip().is_loopback());
    }

    #[test]
    fn a_certificate_needs_a_build_with_tls() {
        let config = ServeConfig {
            tls: Some(TlsFiles {
                certificate: "certificate.pem".into(),
                key: "key.pem".into(),
            }),
            ..ServeConfig::default()
        };
        assert_eq!(config.check().is_ok(), cfg!(feature = "tls"));
        let error = without_tls().to_string();
        assert!(error.contains("--features tls"), "{error}");
    }

    #[test]
    fn wrong_values_are_named() {
        for (json, key) in [
            (r#"{"batching":{"max_batch":0}}"#, "batching.max_batch"),
            (r#"{"limits":{"images":600}}"#, "limits.images"),
            (
                r#"{"timeouts":{"drain_seconds":-1}}"#,
                "timeouts.drain_seconds",
            ),
            (
                r#"{"timeouts":{"drain_delay_seconds":-1}}"#,
                "timeouts.drain_delay_seconds",
            ),
            (
                r#"{"timeouts":{"idle_seconds":0}}"#,
                "timeouts.idle_seconds",
            ),
            (r#"{"limits":{"rerank":0}}"#, "limits.rerank"),
            (
                r#"{"limits":{"per_client_per_second":-1}}"#,
                "limits.per_client_per_second",
            ),
            (
                r#"{"limits":{"per_client_burst":0}}"#,
                "limits.per_client_burst",
            ),
            (
                r#"{"limits":{"per_client_concurrent":9999999}}"#,
                "limits.per_client_concurrent",
            ),
            (r#"{"answer_from":"live"}"#, "answer_from"),
            (
                r#"{"upstream":{"a b":{"space":"s","url":"http://h","model":"m"}}}"#,
                "upstream.a b",
            ),
            (
                r#"{"upstream":{"a":{"space":"s","url":"http://h","model":"live"}}}"#,
                "upstream.a",
            ),
            (
                r#"{"upstream":{"a":{"space":"s","url":"h","model":"m"}}}"#,
                "upstream.a.url",
            ),
            (
                r#"{"upstream":{"a":{"space":"s","url":"http://h","model":"m"},
                    "b":{"space":"m","url":"http://h","model":"n"}}}"#,
                "upstream.b",
            ),
            (
                r#"{"limits":{"body_bytes":2147483648}}"#,
                "limits.body_bytes",
            ),
        ] {
            let config: ServeConfig = serde_json::from_str(json).unwrap();
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        assert!(serde_json::from_str::<ServeConfig>(r#"{"listne":"x"}"#).is_err());
    }
}
