//! The OpenAPI document and the running service say the same: every documented status occurs, and no other.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::client::{Answer, Call};
use crate::encoder::expected;
use crate::endpoint_versions::{DIM, SERVICE, setup, store};
use crate::harness::{Running, Setup, image};
use crate::keys::{READ, WRITE, keys};
use crate::limits::wait_until;
use crate::upstream_double::{Behaviour, Double};

const RED: [u8; 3] = [250, 10, 10];

type Seen = BTreeSet<(String, String, u16)>;

struct Operation {
    method: String,
    path: String,
    takes_body: bool,
    guarded: bool,
}

impl Operation {
    fn call(&self) -> Call {
        Call::new(&self.method, &self.path.replace("{id}", "1"))
    }
}

/// What the document promises.
fn promised(document: &Value) -> (Vec<Operation>, Seen) {
    let mut operations = Vec::new();
    let mut statuses = Seen::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase();
            for status in operation["responses"].as_object().unwrap().keys() {
                statuses.insert((method.clone(), path.clone(), status.parse().unwrap()));
            }
            operations.push(Operation {
                method,
                path: path.clone(),
                takes_body: operation.get("requestBody").is_some(),
                guarded: operation.get("security").is_some(),
            });
        }
    }
    (operations, statuses)
}

struct Recorder<'a> {
    operations: &'a [Operation],
    seen: Seen,
}

impl Recorder<'_> {
    fn send(&mut self, service: &Running, call: Call) -> Answer {
        let answer = call.send(service.address);
        if answer.status >= 400 {
            answer.expect(answer.status);
        }
        let path = call.path.split('?').next().unwrap();
        let known = |path: &str| {
            self.operations
                .iter()
                .any(|operation| operation.path == path)
        };
        let template = if known(path) {
            path
        } else {
            "/gallery/items/{id}"
        };
        self.seen
            .insert((call.method.clone(), template.to_owned(), answer.status));
        answer
    }

    fn json(&mut self, service: &Running, method: &str, path: &str, body: Value) -> Answer {
        self.send(service, Call::new(method, path).json(&body))
    }
}

#[test]
fn the_book_lists_every_operation() {
    let document = serde_json::to_value(perennial_serve::openapi()).unwrap();
    let (operations, _) = promised(&document);
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");
    let page = std::fs::read_to_string(page).unwrap();
    for Operation { method, path, .. } in &operations {
        let row = format!("| `{method} {path}` | ");
        assert!(page.contains(&row), "docs/api.md has no row\n{row}");
    }
    let rows = page.lines().filter(|line| {
        ["GET", "PUT", "POST", "DELETE"]
            .iter()
            .any(|method| line.starts_with(&format!("| `{method} /")))
    });
    assert_eq!(rows.count(), operations.len());
}

#[test]
fn every_documented_status_occurs_and_no_other() {
    let setup = Setup::new(&["0", "0.5", "1"]);
    setup.pairs.allow("v0002", "v0001");
    let open = setup.start();
    let document = open.get("/openapi.json").expect_document();
    assert_eq!(
        document,
        serde_json::to_value(perennial_serve::openapi()).unwrap()
    );
    let (operations, promised) = promised(&document);
    assert!(operations.len() >= 20, "{}", operations.len());
    let mut recorder = Recorder {
        operations: &operations,
        seen: Seen::new(),
    };

    // Bodies that no operation takes.
    for operation in operations.iter().filter(|operation| operation.takes_body) {
        recorder.send(&open, operation.call().text("text/plain", "x"));
        recorder.send(&open, operation.call().text("application/json", "{"));
        recorder.send(&open, operation.call().json(&json!({"no such key": 1})));
        let mut huge = operation.call().text("application/json", "");
        huge.announced = Some(1 << 50);
        recorder.send(&open, huge);
    }
    // Other web sites.
    for operation in operations.iter().filter(|operation| operation.guarded) {
        let mut call = operation.call();
        call.headers
            .push(("host".to_owned(), "evil.example".to_owned()));
        recorder.send(&open, call);
    }

    // What works, and what the state does not allow.
    let embedding = json!(expected(RED, 0.0));
    let item = |version: &str| json!({"id": 1, "embedding": embedding, "model_version": version});
    let rollback = || Call::new("POST", "/aliases/live:rollback");
    recorder.send(&open, rollback());
    recorder.json(&open, "PUT", "/gallery/items", item("v0001"));
    recorder.json(&open, "PUT", "/gallery/items", item("v0003"));
    recorder.json(
        &open,
        "POST",
        "/gallery/items:batch",
        json!({"items": [item("v0001")]}),
    );
    recorder.json(
        &open,
        "POST",
        "/gallery/items:batch",
        json!({"items": [item("v0003")]}),
    );
    recorder.json(&open, "POST", "/embed", json!({"images": [image(RED)]}));
    recorder.json(&open, "POST", "/search", json!({"image": image(RED)}));
    recorder.json(&open, "POST", "/search", json!({"id": 404}));
    recorder.json(
        &open,
        "POST",
        "/search",
        json!({"embedding": embedding, "model_version": "v0003"}),
    );
    for version in ["v0002", "v0003", "v0404"] {
        recorder.json(&open, "PUT", "/aliases/live", json!({ "version": version }));
    }
    recorder.send(&open, rollback());
    let source = json!({"path": open.setup.registry.root(), "version": "v0001"});
    recorder.json(&open, "POST", "/models", source);
    recorder.send(&open, Call::new("POST", "/snapshots"));
    let compact = || Call::new("POST", "/gallery/compact");
    recorder.send(&open, compact());
    open.setup.store.compacting.store(true, Ordering::SeqCst);
    recorder.send(&open, compact());
    for path in [
        "/gallery/items",
        "/gallery/items?limit=0",
        "/gallery/items?what=1",
        "/gallery/items/1",
        "/gallery/items/404",
        "/gallery/items/%22",
        "/gallery/items/1?what=1",
        "/gallery/stats",
        "/stats/live",
        "/models",
        "/v1/models",
        "/compatibility",
        "/snapshots",
        "/healthz",
        "/livez",
        "/readyz",
        "/info",
        "/metrics",
    ] {
        recorder.send(&open, Call::new("GET", path));
    }
    recorder.json(&open, "DELETE", "/gallery/items", json!({"ids": [1]}));

    // Other embedding services, and a route that is not certified.
    let mut setup = Setup::new(&["0"]);
    let double = Double::start(3);
    double.join(&mut setup, "old").timeout_seconds = 1.0;
    setup.config.answer_in = Some("old-space".parse().unwrap());
    setup.pairs.allow("v0001", "old-space");
    let proxy = setup.start();
    let texts = json!({"input": "a", "model": "old"});
    let tei = json!({"inputs": "a"});
    for behaviour in [Behaviour::Fine, Behaviour::Fewer, Behaviour::Hanging] {
        double.behave(behaviour);
        recorder.json(&proxy, "POST", "/v1/embeddings", texts.clone());
        recorder.json(&proxy, "POST", "/embed", tei.clone());
    }
    proxy.setup.pairs.certify("v0001", "old-space", Vec::new());
    let query = json!({"input": image(RED), "model": "old-query"});
    recorder.json(&proxy, "POST", "/v1/embeddings", query);
    let query = json!({"inputs": image(RED), "prompt_name": "query"});
    recorder.json(&proxy, "POST", "/embed", query);
    let unknown = json!({"input": "a", "model": "nobody"});
    recorder.json(&open, "POST", "/v1/embeddings", unknown);
    backfill(&mut recorder);
    embedding_service(&mut recorder);

    // Without a key, and with one that may only read.
    let mut setup = Setup::new(&["0"]);
    setup.config.keys = keys();
    let closed = setup.start();
    for operation in operations.iter().filter(|operation| operation.guarded) {
        recorder.send(&closed, operation.call());
        let writes = operation.call().key(READ).send(closed.address).status == 403;
        let is_write = !matches!(operation.method.as_str(), "GET")
            && !matches!(
                operation.path.as_str(),
                "/embed" | "/search" | "/v1/embeddings"
            );
        assert_eq!(writes, is_write, "{} {}", operation.method, operation.path);
        assert_ne!(operation.call().key(WRITE).send(closed.address).status, 403);
    }

    // Too much at once.
    let mut setup = Setup::new(&["0"]);
    setup.config.limits.in_flight = 1;
    let busy = setup.start();
    busy.setup.gate.close();
    let address = busy.address;
    let waiting = std::thread::spawn(move || {
        loop {
            let embed = Call::new("POST", "/embed").json(&json!({"images": [image(RED)]}));
            let answer = embed.send(address);
            // The question below may hold the only place for a moment.
            if answer.status != 429 {
                return answer;
            }
        }
    });
    wait_until(|| busy.get("/models").status == 429);
    for operation in operations.iter().filter(|operation| operation.guarded) {
        recorder.send(&busy, operation.call());
    }
    busy.setup.gate.open();
    waiting.join().unwrap().expect(200);

    // Nothing to answer with, nowhere to write.
    let mut setup = Setup::new(&[]);
    setup.config.snapshots = None;
    let empty = setup.start();
    recorder.json(&empty, "POST", "/embed", json!({"images": [image(RED)]}));
    let live = json!({"input": image(RED), "model": "live"});
    recorder.json(&empty, "POST", "/v1/embeddings", live);
    recorder.json(&empty, "POST", "/search", json!({"image": image(RED)}));
    recorder.json(
        &empty,
        "PUT",
        "/gallery/items",
        json!({"id": 1, "image": image(RED)}),
    );
    recorder.json(
        &empty,
        "POST",
        "/gallery/items:batch",
        json!({"items": [{"id": 1, "image": image(RED)}]}),
    );
    recorder.json(&empty, "POST", "/backfill", json!({"originals": "pushed"}));
    recorder.send(&empty, Call::new("GET", "/readyz"));
    recorder.send(&empty, Call::new("GET", "/snapshots"));
    recorder.send(&empty, Call::new("POST", "/snapshots"));
    open.setup.store.broken.store(true, Ordering::SeqCst);
    recorder.json(&open, "DELETE", "/gallery/items", json!({"ids": [1]}));
    recorder.send(&open, compact());

    let missing: Vec<_> = promised.difference(&recorder.seen).collect();
    assert!(
        missing.is_empty(),
        "documented, but never seen: {missing:#?}"
    );
    let extra: Vec<_> = recorder.seen.difference(&promised).collect();
    assert!(extra.is_empty(), "seen, but not documented: {extra:#?}");
}

/// An embedding service behind the live version that fails and hangs.
fn embedding_service(recorder: &mut Recorder<'_>) {
    let double = Double::start(DIM);
    let service = setup(&double, |_| {}).start();
    store(&service, 1, "rrr").expect(200);
    service.swap(SERVICE).expect(200);
    let begin = json!({"originals": "pushed"});
    recorder.json(&service, "POST", "/backfill", begin);
    for behaviour in [Behaviour::Fewer, Behaviour::Hanging] {
        double.behave(behaviour);
        let item = json!({"id": 2, "text": "a"});
        recorder.json(&service, "POST", "/search", json!({"text": "a"}));
        recorder.json(&service, "PUT", "/gallery/items", item.clone());
        let items = json!({ "items": [item] });
        recorder.json(&service, "POST", "/gallery/items:batch", items);
        let push = json!({"items": [{"id": 1, "text": "rrr"}]});
        recorder.json(&service, "PUT", "/backfill/originals", push);
    }
}

/// Everything about embedding again, in a service of its own.
fn backfill(recorder: &mut Recorder<'_>) {
    let setup = Setup::new(&["0", "0.5"]);
    setup.pairs.allow("v0002", "v0001");
    let service = setup.start();
    for id in [1, 2] {
        service.store(id, RED, 0.0, "v0001").expect(200);
    }
    service.swap("v0002").expect(200);
    let begin = json!({"originals": "pushed"});
    let push = json!({"items": [{"id": 1, "image": image(RED)}]});
    let pause = || Call::new("POST", "/backfill/pause");
    let resume = || Call::new("POST", "/backfill/resume");
    let waiting = || Call::new("GET", "/backfill/waiting");
    recorder.send(&service, Call::new("GET", "/backfill"));
    recorder.send(&service, pause());
    recorder.send(&service, resume());
    recorder.send(&service, waiting());
    recorder.json(&service, "PUT", "/backfill/originals", push.clone());
    recorder.json(&service, "POST", "/backfill", begin.clone());
    recorder.json(&service, "POST", "/backfill", begin);
    recorder.send(&service, waiting());
    for query in ["what=1", "limit=0"] {
        let path = format!("/backfill/waiting?{query}");
        recorder.send(&service, Call::new("GET", &path));
    }
    service.setup.store.broken.store(true, Ordering::SeqCst);
    recorder.json(&service, "PUT", "/backfill/originals", push.clone());
    service.setup.store.broken.store(false, Ordering::SeqCst);
    recorder.json(&service, "PUT", "/backfill/originals", push);
    recorder.send(&service, pause());
    recorder.send(&service, resume());
    recorder.send(&service, Call::new("DELETE", "/backfill"));
}

impl Answer {
    fn expect_document(&self) -> Value {
        assert_eq!(self.status, 200);
        self.json()
    }
}
