//! Versions whose encoder is an embedding service: promoted, searched together with a local version, gone, and with another model behind them.

use std::sync::Arc;

use perennial_bridge::Bridge;
use perennial_core::outside_encoder::CANARY_FILE;
use perennial_core::{
    EncoderKind, Endpoint, EndpointApi, ModelVersion, OutsideEncoder, Registry, VersionDraft,
    VersionEncoder,
};
use perennial_upgrade::{Certified, CertifiedWay, LoadedModel, canaries_of};
use serde_json::{Value, json};

use crate::client::{Answer, Call};
use crate::encoder::{Drift, Gate, Loader, Loads, draft, outside_draft, publish_outside};
use crate::endpoints::bridge;
use crate::harness::{Running, Setup};
use crate::limits::wait_until;
use crate::mixed::{metrics, part};
use crate::upstream_double::{Behaviour, Double, assert_close, embedding, unit};

const LOCAL_DIM: usize = 3;
pub const DIM: usize = 4;
/// The versions: of texts, computed here; and the service.
const LOCAL: &str = "v0001";
pub const SERVICE: &str = "v0002";

/// Imports a service as a version, as the command line does.
pub fn publish_endpoint(
    registry: &Registry,
    double: &Double,
    change: impl FnOnce(&mut Endpoint),
) -> ModelVersion {
    let mut endpoint = Endpoint::new(EndpointApi::Tei, double.tei_url(), "letters");
    endpoint.retries = 0;
    endpoint.timeout_seconds = 1.0;
    change(&mut endpoint);
    let draft = VersionDraft {
        encoder: VersionEncoder::Outside(OutsideEncoder {
            kind: EncoderKind::Endpoint,
            image: None,
            text: None,
            head: None,
            endpoint: Some(Box::new(endpoint)),
            files: Vec::new(),
        }),
        ..draft(DIM)
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CANARY_FILE);
    std::fs::write(&path, "none yet").unwrap();
    let files = [(CANARY_FILE.to_owned(), path.clone())];
    let trial = Registry::create(folder.path().join("trial")).unwrap();
    let version = trial.publish_files(draft.clone(), &files).unwrap();
    let loader = Loader(Gate::default(), Drift::default(), Loads::default());
    let model = LoadedModel::without_canaries(&loader, &trial, version).unwrap();
    std::fs::write(&path, canaries_of(&model).unwrap()).unwrap();
    registry.publish_files(draft, &files).unwrap()
}

fn ways(bridge: &Arc<Bridge>) -> Vec<Certified> {
    let dual = CertifiedWay::Dual {
        bridge: Arc::clone(bridge),
        weight: 0.5,
    };
    let bridged = CertifiedWay::Bridged(Arc::clone(bridge));
    [dual, bridged]
        .map(|way| Certified::through(way, "the test says so"))
        .into()
}

/// A local version that is live, the service beside it, and routes both ways.
pub fn setup(double: &Double, change: impl FnOnce(&mut Endpoint)) -> Setup {
    let setup = Setup::new(&[]);
    publish_outside(&setup.registry, outside_draft(LOCAL_DIM, false), "0.3");
    publish_endpoint(&setup.registry, double, change);
    setup.registry.set_alias("live", LOCAL).unwrap();
    let (there, back) = (bridge(DIM, LOCAL_DIM), bridge(LOCAL_DIM, DIM));
    setup.pairs.certify(SERVICE, LOCAL, ways(&there));
    setup.pairs.certify(LOCAL, SERVICE, ways(&back));
    setup
}

pub fn store(service: &Running, id: u64, text: &str) -> Answer {
    let item = json!({"id": id, "text": text});
    service.call("PUT", "/gallery/items", &item)
}

pub fn search(service: &Running, text: &str) -> Answer {
    service.call("POST", "/search", &json!({"text": text}))
}

fn ids(answer: &Value) -> Vec<u64> {
    let hits = answer["hits"].as_array().unwrap().iter();
    let mut ids: Vec<u64> = hits.map(|hit| hit["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

fn message(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap()
}

fn rollback(service: &Running) -> Answer {
    Call::new("POST", "/aliases/live:rollback").send(service.address)
}

#[test]
fn a_service_is_promoted_searched_with_others_and_rolled_back_from() {
    let double = Double::start(DIM);
    let service = setup(&double, |endpoint| {
        endpoint.query_prefix = "query: ".to_owned();
    })
    .start();
    for (id, text) in [(1, "rrr"), (2, "ggg")] {
        store(&service, id, text).expect(200);
    }
    let moved = service.swap(SERVICE).expect(200);
    assert_eq!(part(&moved, LOCAL)["route"], "dual");
    let encoders = &moved["query_cost"]["encoders"];
    assert_eq!(encoders[0]["version"], SERVICE);
    store(&service, 3, "what the service embeds").expect(200);
    let models = service.get("/models").expect(200);
    assert_eq!(models["models"][1]["encoder"], "endpoint");
    assert_eq!(models["models"][1]["accepts"], json!(["text"]));

    // Both encoders embed the query, and each of the texts is found.
    let found = search(&service, "what the service embeds").expect(200);
    assert_eq!(ids(&found), [1, 2, 3]);
    assert_eq!(part(&found, LOCAL)["route"], "dual");
    assert_eq!(part(&found, SERVICE)["route"], "own");
    let asked = double.seen().last().unwrap().body.clone();
    assert_eq!(asked["inputs"], json!(["query: what the service embeds"]));
    let texts = json!({"texts": ["a", "b"]});
    let embedded = service.call("POST", "/embed", &texts).expect(200);
    let row: Vec<f32> = serde_json::from_value(embedded["embeddings"][1].clone()).unwrap();
    assert_close(&row, &unit(&embedding("b", DIM)));

    let back = rollback(&service).expect(200);
    assert_eq!(back["version"], LOCAL);
    let found = search(&service, "rrr").expect(200);
    assert_eq!(ids(&found), [1, 2, 3]);
    assert_eq!(part(&found, SERVICE)["route"], "dual");
    service.get("/readyz").expect(200);
}

#[test]
fn whatever_the_service_does_wrong_is_named() {
    let double = Double::start(DIM);
    let setup = setup(&double, |_| {});
    setup.registry.set_alias("live", SERVICE).unwrap();
    let service = setup.start();
    let host = double.tei_url();
    let host = host.strip_prefix("http://").unwrap();
    for (behaviour, status, says) in [
        (Behaviour::Status(500, "broken"), 502, "status 500: broken"),
        (Behaviour::Status(401, "no"), 502, "setting `key`"),
        (Behaviour::Status(413, "too long"), 422, "too long"),
        (Behaviour::Status(429, "slow down"), 429, "slow down"),
        (Behaviour::Redirecting, 502, "redirects"),
        (Behaviour::TooLarge, 502, "more than"),
        (Behaviour::Shorter, 502, "3 dimensions"),
        (Behaviour::Infinite, 502, "NaN or infinite"),
        (Behaviour::Hanging, 504, "did not answer within 1 seconds"),
    ] {
        double.behave(behaviour.clone());
        let failed = search(&service, "a").expect(status);
        assert!(message(&failed).contains(says), "{behaviour:?}: {failed}");
        assert!(message(&failed).contains(host), "{failed}");
        assert!(message(&failed).contains(SERVICE), "{failed}");
    }
    let stored = store(&service, 1, "a").expect(504);
    assert!(message(&stored).contains("did not answer"), "{stored}");
    double.behave(Behaviour::RetryAfter("7"));
    assert_eq!(search(&service, "a").headers["retry-after"], "7");
    double.behave(Behaviour::Fine);
    store(&service, 1, "a").expect(200);
    assert_eq!(ids(&search(&service, "a").expect(200)), [1]);
}

#[test]
fn a_hanging_service_keeps_no_local_encoder_waiting() {
    let double = Double::start(DIM);
    let mut setup = setup(&double, |endpoint| {
        endpoint.timeout_seconds = 60.0;
        endpoint.max_in_flight = 1;
    });
    setup.config.timeouts.request_seconds = 90.0;
    setup.config.batching.queue_images = 3;
    setup.config.limits.images = 3;
    setup.registry.set_alias("live", SERVICE).unwrap();
    let service = setup.start();
    double.behave(Behaviour::Hanging);
    let before = double.seen().len();
    let address = service.address;
    let body = json!({"text": "a"});
    let hanging: Vec<_> = (0..3)
        .map(|_| {
            let call = Call::new("POST", "/search").json(&body);
            std::thread::spawn(move || call.send(address).status)
        })
        .collect();
    wait_until(|| double.seen().len() > before);
    // The queue of its encoder is full then, and that of local encoders is empty.
    wait_until(|| service.get("/stats/live").expect(200)["queue_depth"] == 3);
    search(&service, "a").expect(429);
    // The search as if the local version were live needs no embedding of the service, since nothing of it is stored.
    let local = json!({"text": "rrr", "as_version": LOCAL});
    service.call("POST", "/search", &local).expect(200);
    assert_eq!(service.swap(LOCAL).expect(200)["version"], LOCAL);
    store(&service, 1, "rrr").expect(200);
    drop(double);
    for call in hanging {
        assert!(matches!(call.join().unwrap(), 502 | 504));
    }
}

#[test]
fn without_the_service_one_is_back_at_once_and_searches_take_the_next_route() {
    let double = Double::start(DIM);
    let service = setup(&double, |_| {}).start();
    store(&service, 1, "rrr").expect(200);
    service.swap(SERVICE).expect(200);
    store(&service, 2, "what the service embeds").expect(200);
    drop(double);
    wait_until(|| message(&search(&service, "a").expect(502)).contains("refuses connections"));
    assert_eq!(rollback(&service).expect(200)["version"], LOCAL);
    // The first search finds out that the old encoder is gone, and is told so.
    let failed = search(&service, "rrr").expect(502);
    assert!(message(&failed).contains(SERVICE), "{failed}");
    let found = search(&service, "rrr").expect(200);
    assert_eq!(ids(&found), [1, 2]);
    assert_eq!(part(&found, SERVICE)["route"], "bridged");
    let ready = service.get("/readyz").expect(200)["detail"].to_string();
    // What everybody may read names no address, and repeats nothing of what went wrong there.
    for shown in [&ready, &found.to_string()] {
        assert!(shown.contains("its embedding service"), "{shown}");
        assert!(shown.contains("the log says why"), "{shown}");
        assert!(shown.contains(SERVICE), "{shown}");
        assert!(!shown.contains("127.0.0.1"), "{shown}");
        assert!(!shown.contains("refuses connections"), "{shown}");
    }
    // It cannot be promoted again before it answers.
    let refused = service.swap(SERVICE).expect(409);
    assert!(message(&refused).contains("http://"), "{refused}");
    assert!(
        message(&refused).contains("refuses connections"),
        "{refused}"
    );
    store(&service, 3, "ggg").expect(200);
    // The same where a start could not load it.
    let service = service.restart();
    let ready = service.get("/readyz").expect(200)["detail"].to_string();
    let says = "its embedding service cannot be used; the log says why";
    assert!(ready.contains(says), "{ready}");
    assert!(!ready.contains("127.0.0.1"), "{ready}");
}

#[test]
fn a_version_that_may_take_longer_than_requests_is_not_loaded() {
    let double = Double::start(DIM);
    let patient = |endpoint: &mut Endpoint| endpoint.timeout_seconds = 30.0;
    let keys = ["timeout_seconds", "timeouts.request_seconds (30)"];
    let service = setup(&double, patient).start();
    let refused = service.swap(SERVICE).expect(409);
    for key in keys {
        assert!(message(&refused).contains(key), "{refused}");
    }
    let other = setup(&double, patient);
    other.registry.set_alias("live", SERVICE).unwrap();
    let Err(error) = other.try_start() else {
        panic!("it started")
    };
    for key in keys {
        assert!(error.to_string().contains(key), "{error}");
    }
    let mut longer = setup(&double, patient);
    longer.config.timeouts.request_seconds = 31.0;
    longer.start().swap(SERVICE).expect(200);
}

#[test]
fn another_model_behind_the_service_is_noticed() {
    let double = Double::start(DIM);
    let service = setup(&double, |endpoint| {
        endpoint.canary_seconds = 1.0;
    })
    .start();
    service.swap(SERVICE).expect(200);
    let detail = || service.get("/readyz").expect(200)["detail"].to_string();
    let distance = format!("perennial_endpoint_canary_distance{{version=\"{SERVICE}\"}} 0");
    wait_until(|| metrics(&service).contains(&distance));
    assert!(!detail().contains("has changed"), "{}", detail());
    double.drift(1.0);
    wait_until(|| {
        detail().contains("version v0002: the model of its embedding service has changed")
    });
    let drifted = format!("perennial_endpoint_drifted{{version=\"{SERVICE}\"}} ");
    assert!(metrics(&service).contains(&format!("{drifted}1")));
    // It is served on until somebody decides, and is not loaded again.
    search(&service, "a").expect(200);
    rollback(&service).expect(200);
    wait_until(|| metrics(&service).contains(&format!("{drifted}0")));
    let service = service.restart();
    let refused = service.swap(SERVICE).expect(409);
    assert!(message(&refused).contains("canary 0"), "{refused}");
    assert!(message(&refused).contains("another one now"), "{refused}");
    double.drift(0.0);
    service.swap(SERVICE).expect(200);
}

#[test]
fn a_service_cannot_be_uploaded() {
    let double = Double::start(DIM);
    let setup = setup(&double, |_| {});
    let folder = setup.registry.root().join(SERVICE);
    let model = std::fs::read(folder.join("model.toml")).unwrap();
    let canaries = std::fs::read(folder.join(CANARY_FILE)).unwrap();
    let service = setup.start();
    let before = double.seen().len();
    let call = Call::new("POST", "/models").named_form(&[
        ("model", "model.toml", &model),
        ("file", CANARY_FILE, &canaries),
    ]);
    let refused = call.send(service.address).expect(422);
    assert!(
        message(&refused).contains("cannot be uploaded"),
        "{refused}"
    );
    assert_eq!(double.seen().len(), before, "nobody was asked");
}
