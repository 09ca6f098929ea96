//! The HTTP service, driven without a socket.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use perennial_core::{
    CompatibilityRecord, CompatibilityRecords, Flips, Interval, Modality, ModelVersion, ProbeSet,
    Registry, SpaceId, TieRule, sha256_hex,
};
use perennial_encode::{
    EncodeError, Encoder, Input, PrepareError, Prepared, Values, decode_square,
};
use perennial_gallery::{
    EmbeddedGallery, GalleryConfig, Item, SimplexIdentity, StoreSpace, VectorStore,
};
use perennial_serve::{Limits, ServeConfig, application};
use perennial_upgrade::{EncoderLoader, LoadError, Policy, RegistryRecords};
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::Target;
use crate::scratch::Scratch;

/// Between two requests of one input.
const SEPARATOR: &[u8] = b"\n%%\n";
/// No answer of a service that holds this little is larger, the web page's own files aside.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Requests of one input.
const MAX_REQUESTS: usize = 4;

/// Up to four requests, one after the other, to a service with two versions and a few items.
///
/// A request is a line `METHOD PATH`, header lines (`host` may be absent), an empty line, and the body. Lines end with `\n`.
pub struct Http {
    runtime: Runtime,
    /// Replaced after every input that changed something, so that every input meets the same service.
    service: Option<(Router, Scratch)>,
}

impl Target for Http {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self {
            runtime,
            service: None,
        }
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let (router, _) = match &self.service {
            Some(service) => service,
            None => self.service.insert(self.runtime.block_on(service())),
        };
        let (mut accepted, mut changed) = (false, false);
        for text in split(bytes).into_iter().take(MAX_REQUESTS) {
            let Some(request) = request(text) else {
                break;
            };
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            let head = *request.method() == Method::HEAD;
            let (status, body) = self.runtime.block_on(answer(router, request));
            assert!(!status.is_server_error(), "{status}: {body:?}");
            if status.is_client_error() {
                let error: Option<Value> = serde_json::from_slice(&body).ok();
                let code = error
                    .as_ref()
                    .and_then(|error| error["error"]["code"].as_str());
                assert!(head || code.is_some(), "{status}: {body:?}");
            } else {
                accepted = true;
                changed |= !reads;
            }
        }
        if changed {
            self.service = None;
        }
        accepted
    }
}

fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|w| w == SEPARATOR) {
        parts.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    parts.push(rest);
    parts
}

/// `None` for what no HTTP server would hand on.
fn request(text: &[u8]) -> Option<Request<Body>> {
    let end = text.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&text[..end], &text[end + 2..]),
        None => (text, &[][..]),
    };
    let mut lines = head.split(|&byte| byte == b'\n');
    let (method, path) = split_once(lines.next()?, b' ')?;
    let mut request = Request::builder()
        .method(Method::from_bytes(method).ok()?)
        .uri(path);
    for line in lines {
        let (name, value) = split_once(line, b':')?;
        request = request.header(
            HeaderName::from_bytes(name).ok()?,
            HeaderValue::from_bytes(value.trim_ascii()).ok()?,
        );
    }
    // An open service answers to nobody else.
    let named = request.headers_ref()?.contains_key(header::HOST);
    if !named {
        request = request.header(header::HOST, "localhost");
    }
    request.body(Body::from(body.to_vec())).ok()
}

fn split_once(line: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = line.iter().position(|&byte| byte == at)?;
    Some((&line[..position], &line[position + 1..]))
}

async fn answer(router: &Router, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let response = router.clone().oneshot(request).await.unwrap();
    assert!(response.headers().contains_key("x-request-id"));
    let status = response.status();
    let body = to_bytes(response.into_body(), MAX_ANSWER_BYTES).await;
    (status, body.unwrap().to_vec())
}

async fn service() -> (Router, Scratch) {
    let scratch = Scratch::new();
    let folder = scratch.path();
    let registry = Registry::create(folder.join("registry")).unwrap();
    for weights in WEIGHTS {
        let version = ModelVersion::from_toml(&model_toml(weights)).unwrap();
        registry.publish(version.draft(), weights).unwrap();
    }
    registry.set_alias("live", "v0001").unwrap();
    CompatibilityRecords::add(&registry, [certificate()]).unwrap();
    let store = gallery(&folder.join("gallery"));
    let config = ServeConfig {
        snapshots: Some(folder.join("snapshots")),
        limits: Limits {
            image_bytes: 1 << 16,
            image_side: 512,
            image_pixels: 1 << 16,
            decoder_bytes: 1 << 20,
            ..Limits::default()
        },
        ..ServeConfig::default()
    };
    let check = Arc::new(RegistryRecords::with_policy(
        registry.clone(),
        Policy::default(),
    ));
    let router = application(config, registry, store, Arc::new(Loader), check).await;
    (router.unwrap(), scratch)
}

pub(crate) fn gallery(folder: &std::path::Path) -> Arc<EmbeddedGallery> {
    let config = GalleryConfig {
        threads: 1,
        cache_bytes: 1 << 20,
        ..GalleryConfig::default()
    };
    let store = EmbeddedGallery::open(folder, config).unwrap();
    let space = StoreSpace {
        id: SpaceId::new("v0001").unwrap(),
        dim: 3,
        simplex: Some(SimplexIdentity { vertices: 4 }),
    };
    store.create_space(&space).unwrap();
    let items = [[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]];
    let items = items.into_iter().zip(1..).map(|(embedding, id)| Item {
        id: u64::from(id).into(),
        embedding: embedding.to_vec(),
        model_version: "v0001".to_owned(),
        label: Some(id),
        payload: serde_json::Map::from_iter([("n".to_owned(), id.into())]),
    });
    store.upsert(items.collect()).unwrap();
    Arc::new(store)
}

fn certificate() -> CompatibilityRecord {
    let probes = ProbeSet {
        name: "probes".to_owned(),
        argument: None,
        count: 80,
        sha256: sha256_hex(b"probes"),
    };
    CompatibilityRecord {
        query_version: "v0002".to_owned(),
        gallery_version: "v0001".to_owned(),
        query_weights: Some(sha256_hex(WEIGHTS[1])),
        gallery_weights: Some(sha256_hex(WEIGHTS[0])),
        self_test: 0.5,
        cross_test: 0.75,
        margin: 0.25,
        interval: Interval {
            low: 0.125,
            high: 0.375,
        },
        intervals: Vec::new(),
        cross_test_intervals: Vec::new(),
        flips: Some(Flips {
            positive: 20,
            negative: 0,
        }),
        queries: probes.clone(),
        gallery: probes,
        tie_rule: TieRule::Strict,
        created: "2026-11-22T21:35:00Z".to_owned(),
    }
}

/// Weights of the service's two versions.
const WEIGHTS: [&[u8]; 2] = [b"1", b"2"];

/// The description of a version of [`Mean`], which may be uploaded with its weights.
pub(crate) fn model_toml(weights: &[u8]) -> String {
    format!(
        r#"format_version = 1
name = "v0001"
role = "update"
method = "mean"
data = "none"
seed = 1
created = "2026-11-22T21:35:00Z"
dim = 3
weights_sha256 = "{}"
weights_bytes = {}
[architecture]
backbone = "mean"
stem = ""
width = 1
input = [3, 4, 4]
[preprocessing]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[classifier]
kind = "simplex"
vertices = 4
vertex_end = "front"
classes = 2
pretrained_classes = 2
"#,
        sha256_hex(weights),
        weights.len()
    )
}

/// An encoder of one number: as a convolutional network, it takes images of any size.
struct Mean {
    version: ModelVersion,
    shift: f32,
}

/// Wider weights than any that a test uploads would not exist.
const MAX_DIM: usize = 64;

pub(crate) struct Loader;

impl EncoderLoader for Loader {
    fn load(
        &self,
        registry: &Registry,
        version: ModelVersion,
    ) -> Result<Arc<dyn Encoder>, LoadError> {
        let weights = registry.load_weights(&version).ok();
        let shift = weights.as_deref().and_then(<[u8]>::first);
        match shift {
            Some(&shift) if version.dim <= MAX_DIM => Ok(Arc::new(Mean {
                version,
                shift: f32::from(shift),
            })),
            _ => Err(LoadError {
                version: version.name,
                problem: "the weights do not fit".to_owned(),
            }),
        }
    }
}

impl Encoder for Mean {
    fn accepts(&self) -> &[Modality] {
        &[Modality::Image]
    }

    fn prepare(&self, input: Input<'_>) -> Result<Prepared, PrepareError> {
        self.check_modality(&input)?;
        let side = self.version.picture_size().map_or(1, |[side, _]| side);
        let bytes = match input {
            Input::Picture { file, limits } => decode_square(file, side, limits)?,
            Input::Decoded(picture) => picture.square(side)?,
            Input::Pixels { pixels, .. } => pixels.to_vec(),
            // Refused above.
            Input::Text { .. } => Vec::new(),
        };
        let scaled = bytes.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0);
        Ok(Prepared {
            values: Values::Pixels(scaled.collect()),
        })
    }

    fn dim(&self) -> usize {
        self.version.dim
    }

    fn model_version(&self) -> &str {
        &self.version.name
    }

    fn encode(&self, batch: &[Prepared]) -> Result<Vec<f32>, EncodeError> {
        let mut embeddings = Vec::with_capacity(batch.len() * self.dim());
        for (input, prepared) in batch.iter().enumerate() {
            let Values::Pixels(image) = &prepared.values else {
                return Err(EncodeError::Prepared {
                    input,
                    problem: "tokens".to_owned(),
                });
            };
            let mut row = vec![self.shift; self.dim()];
            row[0] += image.iter().sum::<f32>() / image.len() as f32;
            let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
            if !norm.is_normal() {
                return Err(EncodeError::NonFinite { input });
            }
            embeddings.extend(row.iter().map(|value| value / norm));
        }
        Ok(embeddings)
    }
}
