//! A service on a free loopback port, in a thread of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use base64::Engine;
use perennial_core::Registry;
use perennial_serve::{Reloader, ServeConfig, ServeError, Server};
use perennial_upgrade::{Certified, CompatibilityCheck, NotCertified, Remedy};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::client::{Answer, Call};
use crate::encoder::{Drift, Gate, Loader, Loads, draft, expected, png};
use crate::memory_store::MemoryStore;

/// What helps where a pair is not certified, as others may read it.
pub const MEASURE: &str = "perennial evaluate --versions OLD NEW";

/// Certifies the pairs that a test names: queries of the first version on items of the second.
#[derive(Default)]
pub struct Pairs(Mutex<BTreeMap<(String, String), Vec<Certified>>>);

impl Pairs {
    /// By route own.
    pub fn allow(&self, query: &str, gallery: &str) {
        self.certify(query, gallery, vec![Certified::by("the test says so")]);
    }

    /// By these ways, the best first.
    pub fn certify(&self, query: &str, gallery: &str, ways: Vec<Certified>) {
        let pair = (query.to_owned(), gallery.to_owned());
        self.0.lock().unwrap().insert(pair, ways);
    }
}

impl CompatibilityCheck for Pairs {
    fn ways(&self, query: &str, gallery: &str) -> Result<Vec<Certified>, NotCertified> {
        let pair = (query.to_owned(), gallery.to_owned());
        if let Some(ways) = self.0.lock().unwrap().get(&pair) {
            return Ok(ways.clone());
        }
        if query == gallery {
            return Ok(vec![Certified::by("the test says so")]);
        }
        Err(NotCertified {
            query_version: pair.0,
            gallery_version: pair.1,
            reason: "the test does not say so".to_owned(),
            remedy: Some(Remedy::new(
                MEASURE.to_owned(),
                Some("/secret/registry".to_owned()),
            )),
        })
    }
}

pub struct Setup {
    pub folder: TempDir,
    pub registry: Registry,
    pub store: Arc<MemoryStore>,
    pub pairs: Arc<Pairs>,
    /// Decides in place of `pairs`.
    pub check: Option<Arc<dyn CompatibilityCheck>>,
    pub gate: Gate,
    pub drift: Drift,
    pub loads: Loads,
    pub config: ServeConfig,
}

impl Setup {
    /// Versions with these weights, the first one live, and pairs of neighbours certified.
    pub fn new(weights: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path().join("registry")).unwrap();
        for weights in weights {
            registry.publish(draft(3), weights.as_bytes()).unwrap();
        }
        if !weights.is_empty() {
            registry.set_alias("live", "v0001").unwrap();
        }
        Self {
            registry,
            store: Arc::default(),
            pairs: Arc::default(),
            check: None,
            gate: Gate::default(),
            drift: Drift::default(),
            loads: Loads::default(),
            config: ServeConfig {
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                gallery: Some(folder.path().to_owned()),
                snapshots: Some(folder.path().join("snapshots")),
                probes: Some(folder.path().join("probes")),
                ..ServeConfig::default()
            },
            folder,
        }
    }

    pub fn start(self) -> Running {
        self.try_start().unwrap()
    }

    pub fn try_start(self) -> Result<Running, ServeError> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (address, bound) = std::sync::mpsc::channel();
        let (config, registry) = (self.config.clone(), self.registry.clone());
        let loader = Arc::new(Loader(
            self.gate.clone(),
            self.drift.clone(),
            self.loads.clone(),
        ));
        let store = self.store.clone();
        let check = match &self.check {
            Some(check) => Arc::clone(check),
            None => self.pairs.clone(),
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server = Server::bind(config, registry, store, loader, check).await;
                let server = match server {
                    Ok(server) => server,
                    Err(error) => {
                        address.send(Err(error)).unwrap();
                        return Ok(());
                    }
                };
                address
                    .send(Ok((server.address(), server.reloader())))
                    .unwrap();
                server
                    .run(async {
                        let _ = stopped.await;
                    })
                    .await
            })
        });
        let (address, reloader) = bound.recv().unwrap()?;
        Ok(Running {
            setup: self,
            address,
            reloader,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

pub struct Running {
    pub setup: Setup,
    pub address: SocketAddr,
    pub reloader: Reloader,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Running {
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        Call::new(method, path).json(body).send(self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        Call::new("GET", path).send(self.address)
    }

    /// Stores an item whose embedding an image of this colour has under an angle.
    pub fn store(&self, id: u64, colour: [u8; 3], angle: f32, version: &str) -> Answer {
        let embedding = expected(colour, angle);
        let item = json!({"id": id, "embedding": embedding, "model_version": version});
        self.call("PUT", "/gallery/items", &item)
    }

    pub fn swap(&self, version: &str) -> Answer {
        self.call("PUT", "/aliases/live", &json!({ "version": version }))
    }

    /// Tells the service to stop, without waiting.
    pub fn signal(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Another service with the same files, after this one has ended.
    pub fn restart(mut self) -> Self {
        self.signal();
        self.thread.take().unwrap().join().unwrap().unwrap();
        let before = &mut self.setup;
        let setup = Setup {
            folder: std::mem::replace(&mut before.folder, tempfile::tempdir().unwrap()),
            registry: before.registry.clone(),
            store: before.store.clone(),
            pairs: before.pairs.clone(),
            check: before.check.clone(),
            gate: before.gate.clone(),
            drift: before.drift.clone(),
            loads: before.loads.clone(),
            config: before.config.clone(),
        };
        setup.start()
    }

    pub fn stop(mut self) -> Result<(), ServeError> {
        self.signal();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.setup.gate.open();
        self.signal();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A small PNG of one colour as base64.
pub fn image(colour: [u8; 3]) -> String {
    base64(&png(colour, 8))
}
