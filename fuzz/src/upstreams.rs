//! What upstreams answer, over a socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use perennial_core::{EndpointApi, Metric, Modality, Registry, SpaceId, SpaceSpec};
use perennial_serve::{ServeConfig, UpstreamConfig, application};
use perennial_upgrade::{Policy, RegistryRecords};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::Target;
use crate::http::{Loader, gallery};
use crate::scratch::Scratch;

/// Dimension of the upstreams' spaces.
const DIM: usize = 2;
/// An answer repeats at most the upstream's few vectors, or a few hundred characters of it.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// What a stub waits for a request that never ends.
const PATIENCE: Duration = Duration::from_secs(10);
const PROTOCOLS: [(&str, EndpointApi); 2] =
    [("openai", EndpointApi::Openai), ("tei", EndpointApi::Tei)];

/// An upstream's answer to a request for embeddings.
///
/// The first byte: bit 0 is the protocol (OpenAI or text-embeddings-inference), bits 1 and 2 are the number of inputs less one, and bit 3
/// says whether the rest is the body of a successful answer or everything that is sent, status and headers included.
pub struct UpstreamAnswers {
    runtime: Runtime,
    router: Router,
    /// What is sent to whoever asks.
    answer: Arc<Mutex<Vec<u8>>>,
    _scratch: Scratch,
}

impl Target for UpstreamAnswers {
    fn new() -> Self {
        let scratch = Scratch::new();
        let answer = Arc::default();
        let address = stub(Arc::clone(&answer));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .enable_all()
            .build()
            .unwrap();
        let router = runtime.block_on(service(&scratch, address));
        Self {
            runtime,
            router,
            answer,
            _scratch: scratch,
        }
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let Some((&kind, rest)) = bytes.split_first() else {
            return false;
        };
        let (name, _) = PROTOCOLS[usize::from(kind & 1)];
        let count = usize::from((kind >> 1) & 3) + 1;
        *self.answer.lock().unwrap() = match kind & 8 {
            0 => successful(rest),
            _ => rest.to_vec(),
        };
        let (status, answer) = self.runtime.block_on(ask(&self.router, name, count));
        if !status.is_success() {
            let code = answer["error"]["code"].as_str();
            assert!(code.is_some(), "{status}: {answer}");
            // What upstreams do is no defect of this service, and the client is told whose it is.
            assert!(
                matches!(status.as_u16(), 422 | 429 | 502 | 504),
                "{status}: {answer}"
            );
            return false;
        }
        let data = answer["data"].as_array().unwrap();
        assert_eq!(data.len(), count);
        for (index, row) in data.iter().enumerate() {
            assert_eq!(row["index"], index);
            let values = row["embedding"].as_array().unwrap();
            let values: Vec<f64> = values.iter().map(|one| one.as_f64().unwrap()).collect();
            assert_eq!(values.len(), DIM);
            assert!(values.iter().all(|value| value.is_finite()));
            assert!(values.iter().any(|value| *value != 0.0));
        }
        true
    }
}

/// A body as the answer of a service that is fine.
fn successful(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

async fn ask(router: &Router, model: &str, count: usize) -> (StatusCode, Value) {
    let inputs: Vec<String> = (0..count).map(|input| input.to_string()).collect();
    let body = json!({"input": inputs, "model": model}).to_string();
    let request = Request::post("/v1/embeddings")
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), MAX_ANSWER_BYTES)
        .await
        .unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// A service with an upstream of each protocol, both of them the stub.
async fn service(scratch: &Scratch, address: SocketAddr) -> Router {
    let registry = Registry::create(scratch.path().join("registry")).unwrap();
    let mut config = ServeConfig::default();
    for (name, api) in PROTOCOLS {
        let space = SpaceId::new(format!("{name}-space")).unwrap();
        let created = "2026-11-25T10:20:30Z".to_owned();
        let (metric, modality) = (Metric::Cosine, Modality::Text);
        let spec = SpaceSpec::new(space.clone(), DIM, metric, modality, String::new(), created);
        registry.add_space(spec, None).unwrap();
        let mut upstream = UpstreamConfig::new(space, format!("http://{address}"), name);
        upstream.api = api;
        upstream.retries = 0;
        config.upstream.insert(name.to_owned(), upstream);
    }
    let store = gallery(&scratch.path().join("gallery"));
    let policy = Policy::default();
    let check = Arc::new(RegistryRecords::with_policy(registry.clone(), policy));
    application(config, registry, store, Arc::new(Loader), check)
        .await
        .unwrap()
}

/// Something that takes a request and sends what it was told, as often as it is asked.
fn stub(answer: Arc<Mutex<Vec<u8>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = answer.lock().unwrap().clone();
            // A client that has seen enough closes the connection.
            if let Ok(stream) = stream
                && let Err(error) = send(stream, &answer)
            {
                assert!(
                    matches!(
                        error.kind(),
                        ErrorKind::BrokenPipe
                            | ErrorKind::ConnectionReset
                            | ErrorKind::NotConnected
                    ),
                    "{error}"
                );
            }
        }
    });
    address
}

fn send(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut part = [0u8; 1024];
    while !is_whole(&request) {
        let read = stream.read(&mut part)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&part[..read]);
    }
    stream.write_all(answer)?;
    stream.shutdown(Shutdown::Write)
}

/// Whether a request has arrived with all of its body.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |length| length.trim().parse().unwrap());
    request.len() >= end + 4 + length
}
