//! Batches prepared ahead of the training step by one background thread.

use std::any::Any;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use crate::{DataError, ImageSet, Pipeline};

/// Finished batches that wait for the consumer; one more may be in preparation.
const QUEUE_DEPTH: usize = 2;

/// Which images make a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPlan {
    /// (which set, which image) of every position.
    pub sources: Vec<(usize, usize)>,
    /// Label of every position; the plan's own, so that a scenario may renumber classes.
    pub labels: Vec<u32>,
    /// Seed of the batch's augmentation.
    pub seed: u64,
}

/// A batch ready for the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[images, c, h, w]`, normalised.
    pub pixels: Vec<f32>,
    /// The same images with the same random changes, as another network takes them: in its own size and normalisation.
    pub other_view: Option<Vec<f32>>,
    /// `[images]`.
    pub labels: Vec<u32>,
    /// Number of images.
    pub images: usize,
}

/// Makes the batches of a sequence of plans in the background and yields them in order.
///
/// At most a few batches exist at a time, whatever the length of the sequence. Dropping it early stops the work after the current batch.
///
/// **Errors**: an item is an error where a plan names an image that does not exist or has too few labels; the batches after it still
/// come. A panic of the worker or of the plan iterator comes out as [`DataError::WorkerPanicked`], and ends the sequence.
pub struct Prefetcher {
    finished: Option<Receiver<Result<Batch, DataError>>>,
    used: Sender<Vec<f32>>,
    worker: Option<JoinHandle<()>>,
}

impl Prefetcher {
    /// Starts the worker. With a second pipeline, batches have an [`other_view`](Batch::other_view) of it.
    ///
    /// **Errors**: [`DataError::Invalid`] if no thread can be started.
    pub fn new<P>(
        sets: Arc<[ImageSet]>,
        pipeline: Pipeline,
        other: Option<Pipeline>,
        plans: P,
    ) -> Result<Self, DataError>
    where
        P: IntoIterator<Item = BatchPlan>,
        P::IntoIter: Send + 'static,
    {
        let (send, finished) = sync_channel(QUEUE_DEPTH);
        let (used, recycled) = channel();
        let plans = plans.into_iter();
        let worker = std::thread::Builder::new()
            .name("prefetch".into())
            .spawn(move || work(&sets, [Some(pipeline), other], plans, &send, &recycled))
            .map_err(|error| {
                DataError::invalid("prefetcher", format!("no thread could be started: {error}"))
            })?;
        Ok(Self {
            finished: Some(finished),
            used,
            worker: Some(worker),
        })
    }

    /// Gives a batch's memory back for a later one; optional.
    pub fn recycle(&self, batch: Batch) {
        for pixels in [Some(batch.pixels), batch.other_view].into_iter().flatten() {
            // A worker that has ended reuses no memory.
            let _ = self.used.send(pixels);
        }
    }
}

fn work(
    sets: &[ImageSet],
    pipelines: [Option<Pipeline>; 2],
    plans: impl Iterator<Item = BatchPlan>,
    finished: &SyncSender<Result<Batch, DataError>>,
    recycled: &Receiver<Vec<f32>>,
) {
    for plan in plans {
        let images = plan.sources.len();
        let view = |pipeline: Option<Pipeline>| {
            pipeline
                .map(|pipeline| {
                    let mut pixels = recycled.try_recv().unwrap_or_default();
                    pipeline.batch_from(sets, &plan.sources, plan.seed, &mut pixels)?;
                    Ok(pixels)
                })
                .transpose()
        };
        let made = if plan.labels.len() == images {
            let [first, second] = pipelines.map(view);
            first.and_then(|first| Ok((first.unwrap_or_default(), second?)))
        } else {
            Err(DataError::invalid(
                "batch plan",
                format!("{} labels for {images} images", plan.labels.len()),
            ))
        };
        let batch = made.map(|(pixels, other_view)| Batch {
            pixels,
            other_view,
            labels: plan.labels,
            images,
        });
        if finished.send(batch).is_err() {
            return; // The consumer is gone.
        }
    }
}

impl Iterator for Prefetcher {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(batch) = self.finished.as_ref()?.recv() {
            return Some(batch);
        }
        self.finished = None;
        let panic = self.worker.take()?.join().err()?;
        Some(Err(DataError::WorkerPanicked {
            message: panic_message(panic.as_ref()),
        }))
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        // The worker may be waiting for room in the queue; without a receiver its send fails and it ends.
        self.finished = None;
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(message) = panic.downcast_ref::<&str>() {
        (*message).to_string()
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message.clone()
    } else {
        "panic without a message".to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Augmentation, Preprocessing};

    const PIPELINE: Pipeline = Pipeline {
        preprocessing: Preprocessing::CIFAR100,
        augmentation: Augmentation::STANDARD,
        side: None,
    };

    fn sets() -> Arc<[ImageSet]> {
        let set =
            |shade: u8| ImageSet::new("toy", [3, 2, 2], vec![shade; 36], vec![0, 1, 2], 3).unwrap();
        vec![set(10), set(200)].into()
    }

    fn plan(number: u32) -> BatchPlan {
        BatchPlan {
            sources: vec![(0, 1), (1, 2)],
            labels: vec![number, 7],
            seed: u64::from(number),
        }
    }

    #[test]
    fn batches_come_in_order_and_equal_direct_ones() {
        let sets = sets();
        let other = Pipeline {
            side: Some(4),
            ..PIPELINE
        };
        let mut prefetcher =
            Prefetcher::new(sets.clone(), PIPELINE, Some(other), (0..20).map(plan)).unwrap();
        for number in 0..20 {
            let batch = prefetcher.next().unwrap().unwrap();
            let [pixels, other_view] = [PIPELINE, other].map(|pipeline| {
                let mut pixels = Vec::new();
                pipeline
                    .batch_from(&sets, &plan(number).sources, u64::from(number), &mut pixels)
                    .unwrap();
                pixels
            });
            assert_eq!(
                batch,
                Batch {
                    pixels,
                    other_view: Some(other_view),
                    labels: vec![number, 7],
                    images: 2
                }
            );
            prefetcher.recycle(batch);
        }
        assert!(prefetcher.next().is_none() && prefetcher.next().is_none());
    }

    #[test]
    fn dropping_it_early_ends_an_endless_sequence() {
        let mut prefetcher = Prefetcher::new(sets(), PIPELINE, None, (0..).map(plan)).unwrap();
        prefetcher.next().unwrap().unwrap();
        drop(prefetcher);
        drop(Prefetcher::new(sets(), PIPELINE, None, (0..).map(plan)).unwrap());
    }

    #[test]
    fn a_bad_plan_is_one_error_among_batches() {
        let wrong_image = BatchPlan {
            sources: vec![(0, 3)],
            labels: vec![0],
            seed: 0,
        };
        let wrong_labels = BatchPlan {
            labels: vec![0],
            ..plan(0)
        };
        let results: Vec<bool> = Prefetcher::new(
            sets(),
            PIPELINE,
            None,
            [plan(0), wrong_image, wrong_labels, plan(1)],
        )
        .unwrap()
        .map(|batch| batch.is_ok())
        .collect();
        assert_eq!(results, [true, false, false, true]);
    }

    #[test]
    fn a_panic_of_the_worker_comes_out() {
        let plans = (0..3).map(|number| {
            if number < 2 {
                plan(number)
            } else {
                panic!("plan {number} is broken")
            }
        });
        let mut prefetcher = Prefetcher::new(sets(), PIPELINE, None, plans).unwrap();
        assert!(prefetcher.next().unwrap().is_ok() && prefetcher.next().unwrap().is_ok());
        let error = prefetcher.next().unwrap().unwrap_err();
        assert!(error.to_string().contains("plan 2 is broken"), "{error}");
        assert!(prefetcher.next().is_none());
    }
}
