use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use perennial_core::{Modality, ModelVersion, Registry};
use perennial_encode::{Encoder, Input, PrepareError, Values};
use perennial_upgrade::{EncoderLoader, LoadError, SearchPlan};

use super::*;
use crate::error::Code;
use crate::process::Process;
use crate::telemetry::{Gauges, Storage};

/// Two dimensions: cosine and sine of the first pixel. A pixel above 100 has no embedding; one below -100 panics.
struct Waves {
    version: ModelVersion,
    batches: Arc<Mutex<Vec<usize>>>,
    pause: Duration,
    /// Whether another machine encodes.
    is_elsewhere: bool,
    /// Whether that one hangs.
    hangs: Arc<AtomicBool>,
}

impl Encoder for Waves {
    fn batches_elsewhere(&self) -> Option<usize> {
        self.is_elsewhere.then_some(1)
    }

    fn accepts(&self) -> &[Modality] {
        &[Modality::Image]
    }

    fn prepare(&self, _: Input<'_>) -> Result<Prepared, PrepareError> {
        unreachable!("these tests prepare their images themselves")
    }

    fn dim(&self) -> usize {
        2
    }

    fn model_version(&self) -> &str {
        &self.version.name
    }

    fn encode(&self, batch: &[Prepared]) -> Result<Vec<f32>, EncodeError> {
        std::thread::sleep(self.pause);
        while self.is_elsewhere && self.hangs.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.batches.lock().unwrap().push(batch.len());
        let mut embeddings = Vec::new();
        for (input, prepared) in batch.iter().enumerate() {
            let Values::Pixels(values) = &prepared.values else {
                panic!("images only");
            };
            assert!(values[0] > -100.0, "a defect of the encoder");
            if values[0] > 100.0 {
                return Err(EncodeError::NonFinite { input });
            }
            embeddings.extend([values[0].cos(), values[0].sin()]);
        }
        Ok(embeddings)
    }
}

struct Loader(Arc<Waves>);

impl EncoderLoader for Loader {
    fn load(&self, _: &Registry, _: ModelVersion) -> Result<Arc<dyn Encoder>, LoadError> {
        let encoder: Arc<dyn Encoder> = self.0.clone();
        Ok(encoder)
    }
}

const MODEL: &str = r#"
format_version = 1
name = "v0001"
role = "pretrained"
method = "hoc"
data = "waves"
seed = 1
created = "2026-11-22T21:35:00Z"
dim = 2
weights_sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
weights_bytes = 3
[architecture]
backbone = "waves"
stem = ""
width = 1
input = [3, 1, 1]
[preprocessing]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[classifier]
kind = "linear"
classes = 0
pretrained_classes = 0
"#;

struct Setup {
    snapshots: Vec<Arc<LoadedModel>>,
    telemetry: Arc<Telemetry>,
    batches: Arc<Mutex<Vec<usize>>>,
    batcher: Arc<Batcher>,
    hangs: Arc<AtomicBool>,
}

fn setup(config: &Batching, pause: Duration) -> Setup {
    setup_of(config, pause, [false; 2])
}

/// `elsewhere` says of which snapshots another machine encodes.
fn setup_of(config: &Batching, pause: Duration, elsewhere: [bool; 2]) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let batches = Arc::default();
    let hangs = Arc::default();
    let snapshots = elsewhere
        .into_iter()
        .map(|is_elsewhere| {
            let version = ModelVersion::from_toml(MODEL).unwrap();
            let waves = Loader(Arc::new(Waves {
                version: version.clone(),
                batches: Arc::clone(&batches),
                pause,
                is_elsewhere,
                hangs: Arc::clone(&hangs),
            }));
            Arc::new(LoadedModel::load(&waves, &registry, version).unwrap())
        })
        .collect();
    let telemetry = Arc::new(Telemetry::new());
    let (batcher, _) = Batcher::start(config, Arc::clone(&telemetry));
    Setup {
        snapshots,
        telemetry,
        batches,
        batcher: Arc::new(batcher),
        hangs,
    }
}

fn image(value: f32) -> Vec<Prepared> {
    vec![Prepared {
        values: Values::Pixels(vec![value, 0.0, 0.0]),
    }]
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_share_batches_and_get_their_own_rows() {
    let config = Batching {
        max_batch: 8,
        max_wait_seconds: 0.2,
        queue_images: 64,
        ..Batching::default()
    };
    let setup = setup(&config, Duration::from_millis(5));
    let mut requests = Vec::new();
    for number in 0..16 {
        let batcher = Arc::clone(&setup.batcher);
        let snapshot = Arc::clone(&setup.snapshots[number % 2]);
        requests.push(tokio::spawn(async move {
            let value = number as f32 * 0.1;
            let embedding = batcher.encode(&snapshot, &image(value)).await.unwrap();
            assert_eq!(embedding, [value.cos(), value.sin()]);
        }));
    }
    for request in requests {
        request.await.unwrap();
    }
    let batches = setup.batches.lock().unwrap().clone();
    assert_eq!(batches.iter().sum::<usize>(), 16);
    // Two snapshots never share a batch, and eight images of each fill one.
    assert!(
        batches.len() < 16 && batches.iter().all(|&size| size <= 8),
        "{batches:?}"
    );
    assert_eq!(setup.batcher.depth(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_request_is_split() {
    let config = Batching {
        max_batch: 4,
        max_wait_seconds: 0.0,
        queue_images: 16,
        ..Batching::default()
    };
    let setup = setup(&config, Duration::ZERO);
    let images: Vec<Prepared> = (0..10).flat_map(|number| image(number as f32)).collect();
    let embeddings = setup
        .batcher
        .encode(&setup.snapshots[0], &images)
        .await
        .unwrap();
    assert_eq!(embeddings.len(), 20);
    assert_eq!(embeddings[18], 9f32.cos());
    assert_eq!(*setup.batches.lock().unwrap(), [4, 4, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_the_queue_is_encoded_in_parts() {
    let config = Batching {
        max_batch: 4,
        queue_images: 5,
        ..Batching::default()
    };
    let setup = setup(&config, Duration::ZERO);
    let mut images: Vec<Prepared> = (0..7).flat_map(|number| image(number as f32)).collect();
    let encoded = setup.batcher.encode(&setup.snapshots[0], &images).await;
    assert_eq!(encoded.unwrap()[12], 6f32.cos());
    assert_eq!(*setup.batches.lock().unwrap(), [3, 3, 1]);
    images.extend(image(101.0));
    let encoded = setup.batcher.encode(&setup.snapshots[0], &images).await;
    let message = encoded.unwrap_err().message;
    assert!(message.starts_with("input 7 has no embedding"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn later_parts_of_a_request_wait_for_room() {
    let config = Batching {
        max_batch: 4,
        max_wait_seconds: 0.0,
        queue_images: 4,
        ..Batching::default()
    };
    let setup = setup(&config, Duration::from_millis(1));
    let inputs: Vec<Prepared> = (0..10)
        .flat_map(|place| image(place as f32 * 0.1))
        .collect();
    let expected: Vec<f32> = (0..10)
        .map(|place| place as f32 * 0.1)
        .flat_map(|value| [value.cos(), value.sin()])
        .collect();
    // Room for the first two inputs of it, and then for one.
    let held = Arc::clone(&setup.batcher.queue)
        .try_acquire_many_owned(2)
        .unwrap();
    let (batcher, snapshot) = (Arc::clone(&setup.batcher), Arc::clone(&setup.snapshots[0]));
    let request = inputs.clone();
    let large = tokio::spawn(async move { batcher.encode(&snapshot, &request).await });
    while setup.batches.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let more = Arc::clone(&setup.batcher.queue)
        .acquire_owned()
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!large.is_finished());
    // A new request is refused meanwhile; what belongs to one that is admitted waits.
    let refused = setup.batcher.encode(&setup.snapshots[1], &inputs).await;
    assert_eq!(refused.unwrap_err().code, Code::TooManyRequests);
    let as_well = {
        let (batcher, snapshot) = (Arc::clone(&setup.batcher), Arc::clone(&setup.snapshots[1]));
        tokio::spawn(async move { batcher.encode_as_well(&snapshot, &inputs).await })
    };
    drop((held, more));
    assert_eq!(large.await.unwrap().unwrap(), expected);
    assert_eq!(as_well.await.unwrap().unwrap(), expected);
    assert_eq!(setup.batcher.depth(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_recovers() {
    let config = Batching {
        max_batch: 1,
        max_wait_seconds: 0.0,
        queue_images: 2,
        ..Batching::default()
    };
    let setup = setup(&config, Duration::from_millis(30));
    let refused = Arc::new(AtomicUsize::new(0));
    let requests: Vec<_> = (0..6)
        .map(|_| {
            let batcher = Arc::clone(&setup.batcher);
            let snapshot = Arc::clone(&setup.snapshots[0]);
            let refused = Arc::clone(&refused);
            tokio::spawn(async move {
                if let Err(error) = batcher.encode(&snapshot, &image(0.0)).await {
                    assert_eq!(error.code, Code::TooManyRequests);
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for request in requests {
        request.await.unwrap();
    }
    assert!((1..=4).contains(&refused.load(Ordering::Relaxed)));
    setup
        .batcher
        .encode(&setup.snapshots[0], &image(0.0))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_image_spoils_only_its_own_request() {
    let config = Batching {
        max_batch: 2,
        max_wait_seconds: 1.0,
        queue_images: 16,
        ..Batching::default()
    };
    let setup = setup(&config, Duration::ZERO);
    let [snapshot, _] = &setup.snapshots[..] else {
        panic!("two snapshots")
    };
    let (bad, good) = (image(101.0), image(1.0));
    let (bad, good) = tokio::join!(
        setup.batcher.encode(snapshot, &bad),
        setup.batcher.encode(snapshot, &good)
    );
    assert_eq!(bad.unwrap_err().code, Code::Unprocessable);
    assert_eq!(good.unwrap(), [1f32.cos(), 1f32.sin()]);
    // Both together, and each alone.
    let text = setup.telemetry.render(&Gauges {
        queue_images: 0,
        per_version: &BTreeMap::new(),
        counted: true,
        live: None,
        plan: &SearchPlan::default(),
        uptime: Duration::ZERO,
        process: Process::now(),
        storage: Storage::default(),
        backfill: [("done", 0), ("left", 0), ("failed", 0), ("changed", 0)],
        backfill_state: "idle",
    });
    for line in [
        r#"perennial_stage_seconds_count{stage="encode"} 3"#,
        "perennial_batch_images_count 3",
        "perennial_batch_images_sum 4",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_one_batch_and_not_the_service() {
    let config = Batching {
        max_batch: 1,
        max_wait_seconds: 0.0,
        queue_images: 16,
        ..Batching::default()
    };
    let setup = setup(&config, Duration::ZERO);
    let error = setup
        .batcher
        .encode(&setup.snapshots[0], &image(-101.0))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Internal);
    setup
        .batcher
        .encode(&setup.snapshots[0], &image(0.5))
        .await
        .unwrap();
    assert_eq!(setup.batcher.depth(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_elsewhere_that_hangs_fills_a_queue_of_its_own() {
    let config = Batching {
        max_batch: 1,
        max_wait_seconds: 0.0,
        queue_images: 3,
        ..Batching::default()
    };
    let setup = setup_of(&config, Duration::ZERO, [true, false]);
    setup.hangs.store(true, Ordering::SeqCst);
    let [away, local] = &setup.snapshots[..] else {
        panic!("two snapshots")
    };
    let mut hanging: Vec<_> = (0..3)
        .map(|number| {
            let (batcher, away) = (Arc::clone(&setup.batcher), Arc::clone(away));
            tokio::spawn(async move { batcher.encode(&away, &image(number as f32)).await })
        })
        .collect();
    while setup.batcher.depth_for(away) < 3 {
        tokio::task::yield_now().await;
    }
    let refused = setup.batcher.encode(away, &image(0.0)).await;
    assert_eq!(refused.unwrap_err().code, Code::TooManyRequests);
    assert_eq!(setup.batcher.depth_for(local), 0);
    assert_eq!(setup.batcher.depth(), 3);
    let three: Vec<Prepared> = (0..3).flat_map(|_| image(0.5)).collect();
    setup.batcher.encode(local, &three).await.unwrap();
    // Clients that leave give up their places, but for the one whose input is on its way.
    for request in hanging.drain(..) {
        request.abort();
    }
    while setup.batcher.depth_for(away) > 1 {
        tokio::task::yield_now().await;
    }
    setup.hangs.store(false, Ordering::SeqCst);
    let encoded = setup.batcher.encode(away, &image(0.5)).await.unwrap();
    assert_eq!(encoded, [0.5f32.cos(), 0.5f32.sin()]);
}
