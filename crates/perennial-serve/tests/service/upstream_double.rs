//! Another embedding service that does what a test wants, in the protocols of OpenAI and of text-embeddings-inference.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use perennial_core::{Metric, Modality, Output, SpaceId, SpaceSpec};
use perennial_formats::{Format, Header, VectorSet, create};
use perennial_serve::UpstreamConfig;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::harness::Setup;

/// What it does with the next requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Behaviour {
    Fine,
    Hanging,
    Status(u16, &'static str),
    /// Status 429, and after how many seconds to come back.
    RetryAfter(&'static str),
    /// Fails as often, and is fine from then on.
    FailingFirst(usize),
    /// This text, whatever was asked.
    Text(String),
    /// As many bytes as a whole model has.
    TooLarge,
    Redirecting,
    /// Embeddings with a dimension less.
    Shorter,
    /// An embedding less.
    Fewer,
    Infinite,
}

struct Content {
    dim: usize,
    /// Added to every first value: another model.
    drift: Mutex<f32>,
    behaviour: Mutex<Behaviour>,
    seen: Mutex<Vec<Seen>>,
}

#[derive(Clone)]
pub struct Seen {
    pub authorization: Option<String>,
    pub body: Value,
}

pub struct Double {
    address: SocketAddr,
    content: Arc<Content>,
    stop: Option<oneshot::Sender<()>>,
}

/// What it makes of a text: a vector of length 2, so that scaling shows.
pub fn embedding(text: &str, dim: usize) -> Vec<f32> {
    let mut state = text.bytes().fold(17_u32, |state, byte| {
        state.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    let values: Vec<f32> = (0..dim)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.iter().map(|value| 2.0 * value / norm).collect()
}

pub fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter().map(|value| value / norm).collect()
}

pub fn assert_close(one: &[f32], other: &[f32]) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        assert!((one - other).abs() < 1e-5, "{one} and {other}");
    }
}

impl Double {
    pub fn start(dim: usize) -> Self {
        let content = Arc::new(Content {
            dim,
            drift: Mutex::new(0.0),
            behaviour: Mutex::new(Behaviour::Fine),
            seen: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let (address, bound) = std::sync::mpsc::channel();
        let state = Arc::clone(&content);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                address.send(listener.local_addr().unwrap()).unwrap();
                let app = Router::new()
                    .route("/v1/embeddings", post(openai))
                    .route("/embed", post(tei))
                    .with_state(state);
                tokio::select! {
                    _ = axum::serve(listener, app) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self {
            address: bound.recv().unwrap(),
            content,
            stop: Some(stop),
        }
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.content.behaviour.lock().unwrap() = behaviour;
    }

    pub fn drift(&self, by: f32) {
        *self.content.drift.lock().unwrap() = by;
    }

    /// What arrived so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.content.seen.lock().unwrap().clone()
    }

    /// Registers its space and makes it an upstream of that name, with little patience.
    pub fn join<'a>(&self, setup: &'a mut Setup, name: &str) -> &'a mut UpstreamConfig {
        self.join_with(setup, name, None)
    }

    /// The same, with these inputs as canaries.
    pub fn join_with<'a>(
        &self,
        setup: &'a mut Setup,
        name: &str,
        canaries: Option<&[&str]>,
    ) -> &'a mut UpstreamConfig {
        let dim = self.content.dim;
        let space = SpaceId::new(format!("{name}-space")).unwrap();
        let created = "2026-11-25T10:20:30Z".to_owned();
        let spec = SpaceSpec::new(
            space.clone(),
            dim,
            Metric::Cosine,
            Modality::Text,
            String::new(),
            created,
        );
        let bytes = canaries.map(|inputs| {
            let rows = inputs.iter().flat_map(|input| unit(&embedding(input, dim)));
            vector_file(setup, dim, rows.collect())
        });
        setup.registry.add_space(spec, bytes.as_deref()).unwrap();
        let url = format!("http://{}/v1", self.address);
        let mut config = UpstreamConfig::new(space, url, format!("{name}-model"));
        config.timeout_seconds = 5.0;
        config.retries = 0;
        if let Some(inputs) = canaries {
            let path = setup.folder.path().join(format!("{name}.txt"));
            std::fs::write(&path, inputs.join("\n")).unwrap();
            config.canary_inputs = Some(path);
            config.canary_seconds = 1.0;
        }
        setup.config.upstream.insert(name.to_owned(), config);
        setup.config.upstream.get_mut(name).unwrap()
    }

    /// Its address for the other protocol.
    pub fn tei_url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn vector_file(setup: &Setup, dim: usize, rows: Vec<f32>) -> Vec<u8> {
    let path = setup.folder.path().join("canaries.safetensors");
    let header = Header {
        dim,
        rows: Some((rows.len() / dim) as u64),
        space: None,
        format: Format::Safetensors,
    };
    let output = Output::prepare(&path).unwrap();
    let mut writer = create(output, Format::Safetensors, &header).unwrap();
    writer.write(&VectorSet::new(dim, rows).unwrap()).unwrap();
    writer.finish().unwrap();
    std::fs::read(&path).unwrap()
}

impl Drop for Double {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// The embeddings of a request, or what is answered instead.
async fn answer(
    content: &Content,
    headers: &HeaderMap,
    body: &str,
    key: &str,
) -> Result<Vec<Vec<f32>>, Response> {
    let body: Value = serde_json::from_str(body).unwrap();
    let authorization = headers.get(header::AUTHORIZATION);
    let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
    content.seen.lock().unwrap().push(Seen {
        authorization,
        body: body.clone(),
    });
    let behaviour = content.behaviour.lock().unwrap().clone();
    let drift = *content.drift.lock().unwrap();
    let inputs = body[key].as_array().unwrap();
    let mut rows: Vec<Vec<f32>> = inputs
        .iter()
        .map(|input| {
            let mut row = embedding(input.as_str().unwrap(), content.dim);
            row[0] += drift;
            row
        })
        .collect();
    match behaviour {
        Behaviour::Fine => {}
        Behaviour::Hanging => {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Behaviour::Status(status, text) => {
            let status = StatusCode::from_u16(status).unwrap();
            let body = json!({"error": {"message": text}}).to_string();
            return Err((status, body).into_response());
        }
        Behaviour::RetryAfter(seconds) => {
            let headers = [(header::RETRY_AFTER, seconds)];
            return Err((StatusCode::TOO_MANY_REQUESTS, headers).into_response());
        }
        Behaviour::FailingFirst(times) => {
            if times > 0 {
                *content.behaviour.lock().unwrap() = Behaviour::FailingFirst(times - 1);
                return Err(StatusCode::SERVICE_UNAVAILABLE.into_response());
            }
        }
        Behaviour::Text(text) => return Err(text.into_response()),
        Behaviour::TooLarge => return Err(Body::from(vec![b' '; 4 << 20]).into_response()),
        Behaviour::Redirecting => {
            let location = [(header::LOCATION, "http://127.0.0.1:1/other")];
            return Err((StatusCode::TEMPORARY_REDIRECT, location).into_response());
        }
        Behaviour::Shorter => rows.iter_mut().for_each(|row| {
            row.pop();
        }),
        Behaviour::Fewer => {
            rows.pop();
        }
        Behaviour::Infinite => rows[0][0] = f32::INFINITY,
    }
    Ok(rows)
}

/// As Python writes JSON: infinity as a bare word.
fn numbers(row: &[f32]) -> String {
    let numbers: Vec<String> = row
        .iter()
        .map(|value| match value.is_finite() {
            true => value.to_string(),
            false => "Infinity".to_owned(),
        })
        .collect();
    format!("[{}]", numbers.join(", "))
}

async fn openai(State(content): State<Arc<Content>>, headers: HeaderMap, body: String) -> Response {
    match answer(&content, &headers, &body, "input").await {
        Ok(rows) => {
            // In the reverse order, which the numbers tell.
            let entries: Vec<String> = rows
                .iter()
                .enumerate()
                .rev()
                .map(|(index, row)| {
                    format!("{{\"index\": {index}, \"embedding\": {}}}", numbers(row))
                })
                .collect();
            let usage = json!({"prompt_tokens": 3 * rows.len(), "total_tokens": 3 * rows.len()});
            format!("{{\"data\": [{}], \"usage\": {usage}}}", entries.join(", ")).into_response()
        }
        Err(response) => response,
    }
}

async fn tei(State(content): State<Arc<Content>>, headers: HeaderMap, body: String) -> Response {
    let normalize = body.contains("\"normalize\":true");
    match answer(&content, &headers, &body, "inputs").await {
        Ok(rows) => {
            let rows: Vec<String> = rows
                .iter()
                .map(|row| match normalize {
                    true => numbers(&unit(row)),
                    false => numbers(row),
                })
                .collect();
            format!("[{}]", rows.join(", ")).into_response()
        }
        Err(response) => response,
    }
}
