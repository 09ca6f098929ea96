//! Dynamic batching: image queries of many clients share forward passes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial_core::EncodeError;
use perennial_upgrade::LoadedModel;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::config::Batching;
use crate::durations::seconds;
use crate::error::ApiError;
use crate::telemetry::{Stage, Telemetry};

/// The queue to which requests submit images.
pub(crate) struct Batcher {
    jobs: mpsc::UnboundedSender<Job>,
    /// One permit per queued or encoding image; bounds the queue.
    queue: Arc<Semaphore>,
    capacity: usize,
    max_batch: usize,
}

struct Job {
    snapshot: Arc<LoadedModel>,
    /// `[images, c, h, w]`.
    pixels: Vec<f32>,
    images: usize,
    since: Instant,
    /// Declared before `reply`, so that a dropped job frees its queue slot before its request is notified.
    place: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<Vec<f32>, EncodeError>>,
}

impl Job {
    /// Frees the queue slot before replying, so that a client can send its next request as soon as it has this answer.
    fn answer(self, result: Result<Vec<f32>, EncodeError>) {
        drop(self.place);
        // The client may have disconnected.
        let _ = self.reply.send(result);
    }
}

impl Batcher {
    /// Starts the task that encodes. It ends when the batcher is dropped and all jobs are done.
    pub(crate) fn start(config: &Batching, telemetry: Arc<Telemetry>) -> (Self, JoinHandle<()>) {
        let (jobs, incoming) = mpsc::unbounded_channel();
        let worker = Worker {
            incoming,
            waiting: VecDeque::new(),
            max_batch: config.max_batch,
            max_wait: seconds(config.max_wait_seconds),
            telemetry,
        };
        let batcher = Self {
            jobs,
            queue: Arc::new(Semaphore::new(config.queue_images)),
            capacity: config.queue_images,
            max_batch: config.max_batch,
        };
        (batcher, tokio::spawn(worker.run()))
    }

    /// Images queued or being encoded.
    pub(crate) fn depth(&self) -> usize {
        self.capacity - self.queue.available_permits()
    }

    /// Encodes images with a snapshot, together with those of other requests of the same snapshot.
    ///
    /// **Shapes**: `pixels` is `[n, c, h, w]`; the result is `[n, d]`.
    ///
    /// # Errors
    /// 429 when the queue is full, 422 for an image without an embedding, 500 for a broken encoder.
    pub(crate) async fn encode(
        &self,
        snapshot: &Arc<LoadedModel>,
        pixels: &[f32],
    ) -> Result<Vec<f32>, ApiError> {
        let image_len = snapshot.image_len();
        let images = pixels.len() / image_len;
        let permits = u32::try_from(images).unwrap_or(u32::MAX);
        let mut places = match Arc::clone(&self.queue).try_acquire_many_owned(permits) {
            Ok(places) => places,
            Err(TryAcquireError::NoPermits) => {
                return Err(ApiError::too_many(format!(
                    "the queue already holds {} images; try again later",
                    self.depth()
                )));
            }
            Err(TryAcquireError::Closed) => return Err(ApiError::internal("the queue is closed")),
        };
        let mut replies = Vec::new();
        for chunk in pixels.chunks(self.max_batch * image_len) {
            let images = chunk.len() / image_len;
            let place = places
                .split(images)
                .ok_or_else(|| ApiError::internal("fewer places than images"))?;
            let (reply, answer) = oneshot::channel();
            let job = Job {
                snapshot: Arc::clone(snapshot),
                pixels: chunk.to_vec(),
                images,
                since: Instant::now(),
                reply,
                place,
            };
            self.jobs
                .send(job)
                .map_err(|_| ApiError::internal("the batcher has stopped"))?;
            replies.push(answer);
        }
        let mut embeddings = Vec::with_capacity(images * snapshot.version.dim);
        for (chunk, answer) in replies.into_iter().enumerate() {
            let answer = answer
                .await
                .map_err(|_| ApiError::internal("the batcher dropped a job"))?;
            embeddings.extend(answer.map_err(|error| match error {
                EncodeError::NonFinite { image } => ApiError::unprocessable(format!(
                    "image {} has no embedding: the network's output is zero or not finite",
                    chunk * self.max_batch + image
                )),
                error => ApiError::internal(error),
            })?);
        }
        Ok(embeddings)
    }
}

struct Worker {
    incoming: mpsc::UnboundedReceiver<Job>,
    waiting: VecDeque<Job>,
    max_batch: usize,
    max_wait: Duration,
    telemetry: Arc<Telemetry>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            if self.waiting.is_empty() {
                match self.incoming.recv().await {
                    Some(job) => self.waiting.push_back(job),
                    None => return,
                }
            }
            self.fill().await;
            let batch = self.take();
            if batch.is_empty() {
                continue;
            }
            let telemetry = Arc::clone(&self.telemetry);
            // A panic of the encoder ends this batch only: its jobs are dropped, which their requests see.
            let done = tokio::task::spawn_blocking(move || encode(batch, &telemetry)).await;
            if let Err(error) = done {
                tracing::error!(%error, "the encoder failed on a batch");
            }
        }
    }

    /// Waits for more jobs until the batch is full or its first job has waited long enough.
    async fn fill(&mut self) {
        let Some(first) = self.waiting.front() else {
            return;
        };
        let deadline = tokio::time::Instant::from_std(first.since + self.max_wait);
        while self.ready() < self.max_batch {
            // Jobs that have already arrived join even after the deadline, so a busy service gets full batches.
            match tokio::time::timeout_at(deadline, self.incoming.recv()).await {
                Ok(Some(job)) => self.waiting.push_back(job),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Waiting images of the first job's snapshot.
    fn ready(&self) -> usize {
        let Some(first) = self.waiting.front() else {
            return 0;
        };
        self.waiting
            .iter()
            .filter(|job| Arc::ptr_eq(&job.snapshot, &first.snapshot))
            .map(|job| job.images)
            .sum()
    }

    /// The next batch: jobs of one snapshot, in their order, at most `max_batch` images. Jobs of other snapshots stay.
    fn take(&mut self) -> Vec<Job> {
        // The clients of these jobs have disconnected.
        self.waiting.retain(|job| !job.reply.is_closed());
        let mut batch: Vec<Job> = Vec::new();
        let mut rest = VecDeque::with_capacity(self.waiting.len());
        let mut images = 0;
        for job in self.waiting.drain(..) {
            let same = batch
                .first()
                .is_none_or(|first| Arc::ptr_eq(&first.snapshot, &job.snapshot));
            if same && images + job.images <= self.max_batch {
                images += job.images;
                batch.push(job);
            } else {
                rest.push_back(job);
            }
        }
        self.waiting = rest;
        batch
    }
}

/// Encodes the jobs of one snapshot in one forward pass and answers each.
fn encode(batch: Vec<Job>, telemetry: &Telemetry) {
    let Some(snapshot) = batch.first().map(|job| Arc::clone(&job.snapshot)) else {
        return;
    };
    let images: usize = batch.iter().map(|job| job.images).sum();
    for job in &batch {
        telemetry.stage(Stage::Queue, job.since.elapsed());
    }
    telemetry.batch(images);
    let start = Instant::now();
    let pixels: Vec<f32> = batch.iter().flat_map(|job| &job.pixels).copied().collect();
    match snapshot.encode(&pixels) {
        Ok(embeddings) => {
            telemetry.stage(Stage::Encode, start.elapsed());
            let mut rest = embeddings.as_slice();
            for job in batch {
                let (own, others) = rest.split_at(job.images * snapshot.version.dim);
                rest = others;
                job.answer(Ok(own.to_vec()));
            }
        }
        // One image may have failed the batch; encode each on its own, so that the others succeed.
        Err(_) if batch.len() > 1 => {
            for job in batch {
                let result = snapshot.encode(&job.pixels);
                job.answer(result);
            }
        }
        Err(error) => {
            for job in batch {
                job.answer(Err(error.clone()));
            }
        }
    }
}

#[cfg(test)]
#[path = "batcher_tests.rs"]
mod tests;
