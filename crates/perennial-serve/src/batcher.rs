//! Dynamic batching: pictures and texts of many clients share forward passes.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use perennial_encode::{EncodeError, Prepared};
use perennial_upgrade::LoadedModel;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::batch_size::{BatchLimits, BatchSize, batches};
use crate::config::Batching;
use crate::durations::seconds;
use crate::error::ApiError;
use crate::telemetry::{Stage, Telemetry};

/// The queue to which requests submit prepared inputs.
pub(crate) struct Batcher {
    jobs: mpsc::UnboundedSender<Job>,
    /// One permit per queued or encoding input; bounds the queue.
    queue: Arc<Semaphore>,
    /// The same for each encoder that lets another machine encode: one that hangs fills nobody else's.
    queues_elsewhere: Mutex<PerEncoder>,
    /// Of each of them.
    capacity: usize,
    limits: BatchLimits,
}

struct Job {
    snapshot: Arc<LoadedModel>,
    inputs: Vec<Prepared>,
    size: BatchSize,
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
        let limits = BatchLimits {
            inputs: config.max_batch,
            tokens: config.max_tokens,
        };
        let worker = Worker {
            incoming,
            waiting: VecDeque::new(),
            limits,
            max_wait: seconds(config.max_wait_seconds),
            telemetry,
            elsewhere: Elsewhere::default(),
        };
        let batcher = Self {
            jobs,
            queue: Arc::new(Semaphore::new(config.queue_images)),
            queues_elsewhere: Mutex::default(),
            capacity: config.queue_images,
            limits,
        };
        (batcher, tokio::spawn(worker.run()))
    }

    /// Inputs queued or being encoded, by all encoders.
    pub(crate) fn depth(&self) -> usize {
        let elsewhere = self.elsewhere();
        let queues = elsewhere.all().chain([&self.queue]);
        queues.map(|queue| self.depth_of_queue(queue)).sum()
    }

    /// The same in the queue in which inputs of this encoder wait.
    pub(crate) fn depth_for(&self, snapshot: &Arc<LoadedModel>) -> usize {
        self.depth_of_queue(&self.queue_of(snapshot))
    }

    fn depth_of_queue(&self, queue: &Semaphore) -> usize {
        self.capacity - queue.available_permits()
    }

    fn queue_of(&self, snapshot: &Arc<LoadedModel>) -> Arc<Semaphore> {
        match snapshot.encoder.batches_elsewhere() {
            Some(_) => self.elsewhere().of(snapshot, self.capacity),
            None => Arc::clone(&self.queue),
        }
    }

    fn elsewhere(&self) -> std::sync::MutexGuard<'_, PerEncoder> {
        let queues = self.queues_elsewhere.lock();
        queues.unwrap_or_else(PoisonError::into_inner)
    }

    /// Encodes inputs that a snapshot prepared, together with those of other requests of the same snapshot.
    ///
    /// **Shapes**: the result is `[inputs.len(), d]`.
    ///
    /// # Errors
    /// 429 when the queue is full, 422 for an input without an embedding, 502 and 504 for an embedding service that fails or hangs, 500 for a
    /// broken encoder.
    pub(crate) async fn encode(
        &self,
        snapshot: &Arc<LoadedModel>,
        inputs: &[Prepared],
    ) -> Result<Vec<f32>, ApiError> {
        self.encode_in_parts(snapshot, inputs, false).await
    }

    /// The same for a request of which another encoder's part is admitted: it waits for room in the queue instead of being refused, so that what is
    /// done is not lost.
    pub(crate) async fn encode_as_well(
        &self,
        snapshot: &Arc<LoadedModel>,
        inputs: &[Prepared],
    ) -> Result<Vec<f32>, ApiError> {
        self.encode_in_parts(snapshot, inputs, true).await
    }

    async fn encode_in_parts(
        &self,
        snapshot: &Arc<LoadedModel>,
        inputs: &[Prepared],
        mut admitted: bool,
    ) -> Result<Vec<f32>, ApiError> {
        // A request of more texts than the queue holds takes half of it at a time, and leaves the rest to others.
        let most = match inputs.len() > self.capacity {
            true => self.capacity.div_ceil(2),
            false => self.capacity,
        };
        let mut embeddings = Vec::with_capacity(inputs.len() * snapshot.version.dim);
        for (part, inputs) in inputs.chunks(most).enumerate() {
            let queue = self.queue_of(snapshot);
            let places = self.places(queue, inputs.len(), admitted).await?;
            self.encode_part(snapshot, inputs, places, part * most, &mut embeddings)
                .await?;
            // Later parts wait for their turn: the earlier ones are done.
            admitted = true;
        }
        Ok(embeddings)
    }

    /// Places in the queue: at once, or for a request that is admitted already, as soon as there are so many.
    async fn places(
        &self,
        queue: Arc<Semaphore>,
        inputs: usize,
        admitted: bool,
    ) -> Result<OwnedSemaphorePermit, ApiError> {
        let permits = u32::try_from(inputs).unwrap_or(u32::MAX);
        let depth = self.depth_of_queue(&queue);
        if admitted {
            return queue
                .acquire_many_owned(permits)
                .await
                .map_err(|_| ApiError::internal("the queue is closed"));
        }
        match queue.try_acquire_many_owned(permits) {
            Ok(places) => Ok(places),
            Err(TryAcquireError::NoPermits) => Err(ApiError::too_many(format!(
                "the queue already holds {depth} inputs; try again later"
            ))),
            Err(TryAcquireError::Closed) => Err(ApiError::internal("the queue is closed")),
        }
    }

    /// `places` has one for each input; `before` inputs of the request come before these.
    async fn encode_part(
        &self,
        snapshot: &Arc<LoadedModel>,
        inputs: &[Prepared],
        mut places: OwnedSemaphorePermit,
        before: usize,
        embeddings: &mut Vec<f32>,
    ) -> Result<(), ApiError> {
        let mut replies = Vec::new();
        let mut first = before;
        for (size, batch) in batches(inputs, self.limits) {
            let place = places
                .split(batch.len())
                .ok_or_else(|| ApiError::internal("fewer places than inputs"))?;
            let (reply, answer) = oneshot::channel();
            let job = Job {
                snapshot: Arc::clone(snapshot),
                inputs: batch.to_vec(),
                size,
                since: Instant::now(),
                reply,
                place,
            };
            self.jobs
                .send(job)
                .map_err(|_| ApiError::internal("the batcher has stopped"))?;
            replies.push((first, answer));
            first += batch.len();
        }
        for (first, answer) in replies {
            let answer = answer
                .await
                .map_err(|_| ApiError::internal("the batcher dropped a job"))?;
            embeddings.extend(answer.map_err(|error| refusal(snapshot, error, first))?);
        }
        Ok(())
    }
}

/// What a client is told of a batch that has no embeddings; `before` inputs of its request come before those of the batch.
fn refusal(snapshot: &LoadedModel, error: EncodeError, before: usize) -> ApiError {
    match error {
        EncodeError::NonFinite { input } => ApiError::unprocessable(format!(
            "input {} has no embedding: the network's output is zero or not finite",
            before + input
        )),
        EncodeError::Service {
            service,
            problem,
            failure,
            retry_after,
        } => {
            let version = snapshot.name();
            let message =
                format!("the embedding service {service} behind version {version} {problem}");
            ApiError::of_service(failure, message, retry_after)
                .with_details(json!({ "version": version }))
        }
        error => ApiError::internal(error),
    }
}

struct Worker {
    incoming: mpsc::UnboundedReceiver<Job>,
    waiting: VecDeque<Job>,
    limits: BatchLimits,
    max_wait: Duration,
    telemetry: Arc<Telemetry>,
    /// Batches that wait for another machine, beside those that are computed here.
    elsewhere: Elsewhere,
}

impl Worker {
    async fn run(mut self) {
        loop {
            if self.waiting.is_empty() {
                match self.incoming.recv().await {
                    Some(job) => self.waiting.push_back(job),
                    None => break,
                }
            }
            self.fill().await;
            let batch = self.take();
            let Some(first) = batch.first() else {
                continue;
            };
            let telemetry = Arc::clone(&self.telemetry);
            match first.snapshot.encoder.batches_elsewhere() {
                Some(at_once) => self.elsewhere.start(batch, at_once, telemetry),
                None => run_batch(batch, telemetry).await,
            }
        }
        self.elsewhere.finish().await;
    }

    /// Waits for more jobs until the batch is full or its first job has waited long enough.
    async fn fill(&mut self) {
        let Some(first) = self.waiting.front() else {
            return;
        };
        let deadline = tokio::time::Instant::from_std(first.since + self.max_wait);
        while !self.ready().is_full(self.limits) {
            // Jobs that have already arrived join even after the deadline, so a busy service gets full batches.
            match tokio::time::timeout_at(deadline, self.incoming.recv()).await {
                Ok(Some(job)) => self.waiting.push_back(job),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Waiting inputs of the first job's snapshot.
    fn ready(&self) -> BatchSize {
        let Some(first) = self.waiting.front() else {
            return BatchSize::default();
        };
        self.waiting
            .iter()
            .filter(|job| Arc::ptr_eq(&job.snapshot, &first.snapshot))
            .fold(BatchSize::default(), |size, job| size.with(job.size))
    }

    /// The next batch: jobs of one snapshot, in their order, within the limits of a batch. Jobs of other snapshots stay.
    fn take(&mut self) -> Vec<Job> {
        // The clients of these jobs have disconnected.
        self.waiting.retain(|job| !job.reply.is_closed());
        let mut batch: Vec<Job> = Vec::new();
        let mut rest = VecDeque::with_capacity(self.waiting.len());
        let mut size = BatchSize::default();
        for job in self.waiting.drain(..) {
            let same = batch
                .first()
                .is_none_or(|first| Arc::ptr_eq(&first.snapshot, &job.snapshot));
            let grown = size.with(job.size);
            if same && (batch.is_empty() || grown.is_within(self.limits)) {
                size = grown;
                batch.push(job);
            } else {
                rest.push_back(job);
            }
        }
        self.waiting = rest;
        batch
    }
}

/// Encodes a batch on a thread meant for blocking work.
async fn run_batch(batch: Vec<Job>, telemetry: Arc<Telemetry>) {
    // A panic of the encoder ends this batch only: its jobs are dropped, which their requests see.
    let done = tokio::task::spawn_blocking(move || encode(batch, &telemetry)).await;
    if let Err(error) = done {
        tracing::error!(%error, "the encoder failed on a batch");
    }
}

/// Batches of encoders that wait for another machine: several at once, and none of them keeps an encoder of this machine waiting.
#[derive(Default)]
struct Elsewhere {
    batches: JoinSet<()>,
    /// For each encoder, as many places as it takes batches at once, so that a service that hangs holds no more threads.
    places: PerEncoder,
}

impl Elsewhere {
    fn start(&mut self, mut batch: Vec<Job>, at_once: usize, telemetry: Arc<Telemetry>) {
        while self.batches.try_join_next().is_some() {}
        let Some(first) = batch.first() else {
            return;
        };
        let places = self.places.of(&first.snapshot, at_once);
        self.batches.spawn(async move {
            let mut place = pin!(places.acquire_owned());
            let _place = loop {
                // Clients that leave give up their places in the queue, however long the others wait.
                batch.retain(|job| !job.reply.is_closed());
                if batch.is_empty() {
                    return;
                }
                tokio::select! {
                    biased;
                    () = one_left(&mut batch) => {}
                    place = &mut place => match place {
                        Ok(place) => break place,
                        Err(_) => return,
                    },
                }
            };
            run_batch(batch, telemetry).await;
        });
    }

    /// Waits for what has begun.
    async fn finish(mut self) {
        while self.batches.join_next().await.is_some() {}
    }
}

/// Waits until the client of one of these jobs has left.
async fn one_left(batch: &mut [Job]) {
    std::future::poll_fn(|context| {
        let mut jobs = batch.iter_mut();
        match jobs.any(|job| job.reply.poll_closed(context).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

/// A number of places for each encoder that is in memory.
#[derive(Default)]
struct PerEncoder(Vec<(Weak<LoadedModel>, Arc<Semaphore>)>);

impl PerEncoder {
    /// Those of an encoder; so many if it has none yet.
    fn of(&mut self, snapshot: &Arc<LoadedModel>, count: usize) -> Arc<Semaphore> {
        self.0.retain(|(model, _)| model.strong_count() > 0);
        let mut known = self.0.iter();
        let known = known.find(|(model, _)| std::ptr::eq(model.as_ptr(), Arc::as_ptr(snapshot)));
        if let Some((_, places)) = known {
            return Arc::clone(places);
        }
        let places = Arc::new(Semaphore::new(count));
        self.0.push((Arc::downgrade(snapshot), Arc::clone(&places)));
        places
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Semaphore>> {
        self.0.iter().map(|(_, places)| places)
    }
}

/// Encodes the jobs of one snapshot in one forward pass and answers each.
fn encode(mut batch: Vec<Job>, telemetry: &Telemetry) {
    let Some(snapshot) = batch.first().map(|job| Arc::clone(&job.snapshot)) else {
        return;
    };
    for job in &batch {
        telemetry.stage(Stage::Queue, job.since.elapsed());
    }
    let counts: Vec<usize> = batch.iter().map(|job| job.inputs.len()).collect();
    telemetry.batch(counts.iter().sum());
    let start = Instant::now();
    let inputs: Vec<Prepared> = batch
        .iter_mut()
        .flat_map(|job| std::mem::take(&mut job.inputs))
        .collect();
    match snapshot.encode(&inputs) {
        Ok(embeddings) => {
            telemetry.stage(Stage::Encode, start.elapsed());
            let mut rest = embeddings.as_slice();
            for (job, count) in batch.into_iter().zip(counts) {
                let (own, others) = rest.split_at(count * snapshot.version.dim);
                rest = others;
                job.answer(Ok(own.to_vec()));
            }
        }
        // One input may have failed the batch; encode each job on its own, so that the others succeed. A service that is gone, hangs or is busy
        // would be so for each of them.
        Err(error) if batch.len() > 1 && error.may_concern_one_input() => {
            telemetry.stage(Stage::Encode, start.elapsed());
            let mut rest = inputs.as_slice();
            for (job, count) in batch.into_iter().zip(counts) {
                let (own, others) = rest.split_at(count);
                rest = others;
                telemetry.batch(count);
                let start = Instant::now();
                let embeddings = snapshot.encode(own);
                telemetry.stage(Stage::Encode, start.elapsed());
                job.answer(embeddings);
            }
        }
        Err(error) => {
            telemetry.stage(Stage::Encode, start.elapsed());
            for job in batch {
                job.answer(Err(error.clone()));
            }
        }
    }
}

#[cfg(test)]
#[path = "batcher_tests.rs"]
mod tests;
