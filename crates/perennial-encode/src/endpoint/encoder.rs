//! An embedding service as the encoder of a version.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use perennial_core::{Endpoint, Modality, normalize_in_place};

use super::client::{Client, Shown};
use super::failure::Failure;
use super::places::Places;
use super::request::{Asked, Embedded};
use crate::encoder::{EncodeError, Encoder, PrepareError};
use crate::input::{Input, InputType, Prepared, Values};

const MAX_TEXT_BYTES: usize = 16 << 20;
/// So many batches at once, each with a thread that waits; requests beyond them are those of one batch.
const MAX_BATCHES: usize = 32;
/// What a service is asked for whose dimension is not known yet.
const ANY_TEXT: &str = "a";

/// Texts to embeddings by an embedding service. [`encode`](Encoder::encode) blocks for the requests, several at once if there are many inputs.
pub struct EndpointEncoder {
    version: String,
    dim: usize,
    query_prefix: String,
    document_prefix: String,
    client: Client,
    places: Places,
}

impl EndpointEncoder {
    /// The encoder of a version; nothing is sent yet.
    ///
    /// # Errors
    /// A value of `encoder.endpoint` that cannot be used, with its key; a key's file or variable that cannot be read.
    pub fn new(version: &str, dim: usize, endpoint: &Endpoint) -> Result<Self, String> {
        let client = client(endpoint, Some(dim))?;
        Ok(Self {
            version: version.to_owned(),
            dim,
            query_prefix: endpoint.query_prefix.clone(),
            document_prefix: endpoint.document_prefix.clone(),
            places: Places::of(client.access().max_in_flight),
            client,
        })
    }

    /// The length of a service's embeddings, which it is asked for.
    ///
    /// # Errors
    /// As [`new`](Self::new), and a service that gives no embedding.
    pub fn dimension(endpoint: &Endpoint) -> Result<usize, String> {
        let client = client(endpoint, None)?;
        let embedded = ask(&client, &[ANY_TEXT.to_owned()], deadline(&client));
        match embedded {
            Ok(embedded) => Ok(embedded.vectors.len()),
            Err(failure) => Err(format!("{} {}", client.access().url, failure.problem())),
        }
    }

    /// All requests of a batch.
    fn parts(&self, parts: &[&[String]]) -> Result<Vec<f32>, Failure> {
        // The time that the place takes is the first request's.
        let mut until = deadline(&self.client);
        let Some(_place) = self.places.take(until) else {
            return Err(Failure::busy(self.client.access().max_in_flight));
        };
        let done: Mutex<Vec<Option<Vec<f32>>>> = Mutex::new(vec![None; parts.len()]);
        let failed: Mutex<Option<Failure>> = Mutex::new(None);
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        // Sends the next request, and says whether there may be another one.
        let ask_next = |deadline: Instant| {
            if stopped.load(Ordering::Relaxed) {
                return false;
            }
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(number) else {
                return false;
            };
            match ask(&self.client, part, deadline) {
                Ok(embedded) => held(&done)[number] = Some(embedded.vectors),
                Err(failure) => {
                    // The first failure is the answer; what has not begun is not sent.
                    stopped.store(true, Ordering::Relaxed);
                    held(&failed).get_or_insert(failure);
                    return false;
                }
            }
            true
        };
        let ask_next = &ask_next;
        std::thread::scope(|scope| {
            let mut others = 1..parts.len();
            loop {
                // A thread only where a place is free for it, so that there are never more of them than places.
                while next.load(Ordering::Relaxed) < parts.len()
                    && !others.is_empty()
                    && let Some(place) = self.places.take(Instant::now())
                {
                    others.next();
                    scope.spawn(move || {
                        let _place = place;
                        while ask_next(deadline(&self.client)) {}
                    });
                }
                if !ask_next(until) {
                    return;
                }
                until = deadline(&self.client);
            }
        });
        if let Some(failure) = held(&failed).take() {
            return Err(failure);
        }
        Ok(held(&done).drain(..).flatten().flatten().collect())
    }
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn client(endpoint: &Endpoint, dim: Option<usize>) -> Result<Client, String> {
    Client::new(&endpoint.access(), dim)
        .map_err(|(key, problem)| format!("encoder.endpoint: {key} {problem}"))
}

fn deadline(client: &Client) -> Instant {
    Instant::now() + Duration::from_secs_f64(client.access().timeout_seconds)
}

fn ask(client: &Client, texts: &[String], deadline: Instant) -> Result<Embedded, Failure> {
    let asked = Asked::default();
    client.embed(texts, &asked, Shown::Own, deadline, &mut |attempt| {
        if let Some(failure) = attempt.failure {
            tracing::warn!(
                endpoint = client.host(),
                problem = failure.problem(),
                repeated = attempt.repeated,
                "a request to an embedding service failed"
            );
        }
    })
}

impl Encoder for EndpointEncoder {
    fn model_version(&self) -> &str {
        &self.version
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn accepts(&self) -> &[Modality] {
        &[Modality::Text]
    }

    /// As many as it may be asked at once, up to a number of threads that a hanging service may hold.
    fn batches_elsewhere(&self) -> Option<usize> {
        Some(self.client.access().max_in_flight.min(MAX_BATCHES))
    }

    fn prepare(&self, input: Input<'_>) -> Result<Prepared, PrepareError> {
        self.check_modality(&input)?;
        let Input::Text { text, input_type } = input else {
            return Err(PrepareError::Text("it is no text".to_owned()));
        };
        if text.trim().is_empty() {
            let problem = "the text is empty; leave it out";
            return Err(PrepareError::Text(problem.to_owned()));
        }
        if text.len() > MAX_TEXT_BYTES {
            let problem = format!("the text has more than {MAX_TEXT_BYTES} bytes");
            return Err(PrepareError::Text(problem));
        }
        let prefix = match input_type {
            InputType::Query => &self.query_prefix,
            InputType::Document => &self.document_prefix,
        };
        Ok(Prepared {
            values: Values::Text(format!("{prefix}{text}")),
        })
    }

    fn encode(&self, batch: &[Prepared]) -> Result<Vec<f32>, EncodeError> {
        let mut texts = Vec::with_capacity(batch.len());
        for (input, prepared) in batch.iter().enumerate() {
            let Values::Text(text) = &prepared.values else {
                return Err(EncodeError::Prepared {
                    input,
                    problem: "an embedding service takes texts".to_owned(),
                });
            };
            texts.push(text.clone());
        }
        let parts: Vec<&[String]> = texts
            .chunks(self.client.access().inputs_per_request)
            .collect();
        let mut rows = self.parts(&parts).map_err(|failure| EncodeError::Service {
            service: self.client.host().to_owned(),
            problem: failure.problem().to_owned(),
            failure: failure.kind(),
            retry_after: failure.retry_after(),
        })?;
        for (input, row) in rows.chunks_exact_mut(self.dim).enumerate() {
            normalize_in_place(row).map_err(|_| EncodeError::NonFinite { input })?;
        }
        Ok(rows)
    }
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
