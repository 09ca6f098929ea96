//! One model in training: network, optimizer and the objective that it is trained with.

use burn::module::Module;
use burn::tensor::{Device, Gradients, Tensor};
use perennial_data::Batch;

use crate::TrainError;
use crate::class_scores::TaskClasses;
use crate::config::TrainingConfig;
use crate::earlier::{Earlier, EarlierModel, on_device};
use crate::named_tensors::NamedTensors;
use crate::network::{Mode, Network, Path};
use crate::objective::{Objective, Step, progress};
use crate::sgd::Sgd;
use crate::sharpness::ascended;
use crate::softmax_shares::SoftmaxShares;
use crate::state_dict::StateDict;
use crate::weight_average::WeightAverage;

/// A model in training.
pub struct Learner {
    /// Absent only while a step hands it to the optimizer, which then changes it in place.
    network: Option<Network>,
    pub(crate) sgd: Sgd,
    average: Option<WeightAverage>,
    objective: Box<dyn Objective>,
    classes: TaskClasses,
    training: TrainingConfig,
    /// The epoch of the task, from 0.
    epoch: usize,
    device: Device,
    path: Path,
    /// Where a step on the CPU runs: its layers are many and small, and a thread outside of the pool would wait to be woken after each of their
    /// passes. A pool of its own, so that a thread which waits within one step never takes up another one.
    pool: Option<rayon::ThreadPool>,
}

/// Sums over the batches since they were last read; they stay on the device until then.
#[derive(Clone, Debug, Default)]
pub struct StepSums {
    loss: Option<Tensor<1>>,
    correct: Option<Tensor<1>>,
    images: u64,
    /// Each step's loss, to find the one that is not finite.
    losses: Vec<Tensor<1>>,
}

/// What [`StepSums`] held.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Sum over images of the batch's mean loss.
    pub loss: f64,
    /// Images classified correctly.
    pub correct: f64,
    /// Images.
    pub images: u64,
    /// The first of the steps whose loss is NaN or infinite, counted from 0 since the sums were last read.
    pub not_finite: Option<usize>,
}

impl StepSums {
    /// Reads the sums and starts anew. On a GPU this waits for the device.
    ///
    /// # Errors
    ///
    /// [`TrainError::Device`] for a device that does not answer.
    pub fn take(&mut self) -> Result<Totals, TrainError> {
        let read = |tensor: Tensor<1>| {
            let name = format!("{:?}", tensor.device());
            let values = tensor.into_data().convert::<f32>().try_into_vec::<f32>();
            match values.as_deref() {
                Ok([value]) => Ok(f64::from(*value)),
                other => Err(TrainError::Device {
                    name,
                    problem: format!(
                        "the loss could not be read ({other:?}); resume the run from its last checkpoint"
                    ),
                }),
            }
        };
        let sum = |tensor: Option<Tensor<1>>| tensor.map_or(Ok(0.0), read);
        let mut totals = Totals {
            loss: sum(self.loss.take())?,
            correct: sum(self.correct.take())?,
            images: std::mem::take(&mut self.images),
            not_finite: None,
        };
        let losses = std::mem::take(&mut self.losses);
        if !totals.loss.is_finite() {
            for (step, loss) in losses.into_iter().enumerate() {
                if !read(loss)?.is_finite() {
                    totals.not_finite = Some(step);
                    break;
                }
            }
        }
        Ok(totals)
    }

    /// Adds a batch's mean loss and its number of correct rows.
    pub(crate) fn add(&mut self, loss: Tensor<1>, correct: Tensor<1>, images: usize) {
        let join = |sum: Option<Tensor<1>>, value: Tensor<1>| match sum {
            Some(sum) => sum + value,
            None => value,
        };
        self.losses.push(loss.clone());
        self.loss = Some(join(self.loss.take(), loss.mul_scalar(images as f64)));
        self.correct = Some(join(self.correct.take(), correct));
        self.images += images as u64;
    }
}

/// As many threads as there are otherwise; none where the system gives no more, and the usual ones do.
fn step_pool() -> Option<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(rayon::current_num_threads())
        .thread_name(|at| format!("training-{at}"))
        .build()
        .ok()
}

impl Learner {
    /// Wraps a network that lives on a gradient-tracking device.
    ///
    /// The network must be made for the objective's classifier: with an embedding layer of `vertices - 1` dimensions for a simplex, with
    /// a trained classifier of at least `classes.seen` rows for any other.
    pub fn new(
        network: Network,
        objective: Box<dyn Objective>,
        classes: TaskClasses,
        training: &TrainingConfig,
        device: Device,
    ) -> Self {
        let path = Path::for_device(&device);
        let sgd = Sgd::new(training.momentum, training.weight_decay);
        let average = (training.average_decay > 0.0)
            .then(|| WeightAverage::new(training.average_decay, &network.valid(), &device));
        Self {
            network: Some(network),
            sgd,
            average,
            objective,
            classes,
            training: *training,
            epoch: 0,
            device,
            path,
            pool: (path == Path::Fused).then(step_pool).flatten(),
        }
    }

    /// Says which epoch of the task the following steps belong to, from 0, for what changes during a task.
    pub fn begin_epoch(&mut self, epoch: usize) {
        self.epoch = epoch;
    }

    /// Goes on with velocities, and with the average of the weights where there is one.
    pub(crate) fn restore(&mut self, velocity: StateDict, average: Option<StateDict>) {
        self.sgd.restore(velocity, &self.device);
        if let (Some(state), Some(kept)) = (average, &mut self.average) {
            *kept = WeightAverage::restored(self.training.average_decay, state, &self.device);
        }
    }

    /// The average of the weights so far, where the training keeps one.
    pub(crate) fn average(&self) -> Option<StateDict> {
        self.average.as_ref().map(WeightAverage::state)
    }

    /// The network as it is now.
    pub fn network(&self) -> &Network {
        self.network
            .as_ref()
            .expect("a step puts the network back before it returns")
    }

    /// One step of SGD. The earlier model is for objectives that refer to one.
    ///
    /// # Shapes
    ///
    /// - batch: pixels of `[images, channels, height, width]`, where the last three are the second argument, and the view that the earlier
    ///   model takes if it is another one
    ///
    /// # Panics
    ///
    /// If the batch holds other pixels or a label beyond the classifier; a run's preparation rules both out.
    pub fn step(
        &mut self,
        batch: &Batch,
        shape: [usize; 3],
        earlier: Option<&EarlierModel>,
        learning_rate: f64,
        sums: &mut StepSums,
    ) {
        let Some(pool) = self.pool.take() else {
            return self.step_here(batch, shape, earlier, learning_rate, sums);
        };
        pool.install(|| self.step_here(batch, shape, earlier, learning_rate, sums));
        self.pool = Some(pool);
    }

    fn step_here(
        &mut self,
        batch: &Batch,
        shape: [usize; 3],
        earlier: Option<&EarlierModel>,
        learning_rate: f64,
        sums: &mut StepSums,
    ) {
        let images = self.images(batch, shape);
        // Once for both passes of a step that has two.
        let seen = |model: &EarlierModel| {
            let own = model.own_images(batch, &self.device);
            own.unwrap_or_else(|| images.clone())
        };
        let earlier = earlier.map(|model| (model, seen(model)));
        let (mut gradients, loss, correct) =
            self.gradients(images.clone(), earlier.as_ref(), &batch.labels);
        sums.add(loss, correct, batch.images);
        let moves: fn(&str) -> bool = if self.epoch < self.training.warm_start_epochs {
            is_head
        } else {
            |_| true
        };
        let mut weights = NamedTensors::default();
        if self.training.sharpness_radius > 0.0
            && let Some(network) = self.network.take()
        {
            let radius = self.training.sharpness_radius;
            let (moved, before) = ascended(network, &gradients, moves, radius);
            self.network = Some(moved);
            weights = before;
            gradients = self.gradients(images, earlier.as_ref(), &batch.labels).0;
        }
        if let Some(network) = self.network.take() {
            let network =
                self.sgd
                    .step_from(weights, moves, network, &mut gradients, learning_rate);
            if let Some(average) = &mut self.average {
                average.update(network.valid());
            }
            self.network = Some(network);
        }
    }

    /// How the classifier sees a batch now, with running statistics. Changes nothing.
    ///
    /// **Shapes**: as [`step`](Self::step).
    ///
    /// # Errors
    ///
    /// [`TrainError::Device`] for a device that does not answer.
    pub fn softmax_shares(
        &self,
        batch: &Batch,
        shape: [usize; 3],
    ) -> Result<SoftmaxShares, TrainError> {
        let images = self.images(batch, shape);
        let network = self.network().valid();
        let embeddings = network.forward(images, Mode::Evaluate, self.path);
        let spec = self.objective.classifier();
        let (logits, targets) = spec.scores(
            &self.classes,
            network.classifier(),
            embeddings.clone(),
            &batch.labels,
        );
        let targets = targets.into_data();
        let targets: Vec<usize> = targets
            .iter::<i64>()
            .map(|column| column as usize)
            .collect();
        SoftmaxShares::of(&spec, &self.classes, embeddings, logits, &targets)
    }

    /// A batch's images on the device, without gradients.
    fn images(&self, batch: &Batch, shape: [usize; 3]) -> Tensor<4> {
        on_device(batch.pixels.clone(), batch.images, shape, &self.device)
    }

    /// Gradients of a batch's loss, the loss, and how many images were classified correctly.
    fn gradients(
        &self,
        images: Tensor<4>,
        earlier: Option<&(&EarlierModel, Tensor<4>)>,
        labels: &[u32],
    ) -> (Gradients, Tensor<1>, Tensor<1>) {
        let earlier = earlier.map(|(model, images)| model.of_images(images.clone()));
        let embeddings = self
            .network()
            .forward(Tensor::from_inner(images), Mode::Train, self.path);
        let (loss, correct) = self.loss(embeddings, earlier, labels);
        (loss.backward(), loss.inner(), correct)
    }

    /// The objective's loss, and how many images were classified correctly.
    ///
    /// # Shapes
    ///
    /// - embeddings: `[batch, dim]`, with gradients
    /// - results: `[1]`
    ///
    /// # Panics
    ///
    /// As [`step`](Self::step).
    pub fn loss(
        &self,
        embeddings: Tensor<2>,
        earlier: Option<Earlier<'_>>,
        labels: &[u32],
    ) -> (Tensor<1>, Tensor<1>) {
        let (step, correct) = Step::of_batch(
            &self.objective.classifier(),
            self.classes,
            self.network().classifier(),
            embeddings,
            labels,
            earlier,
        );
        let progress = progress(self.epoch, self.training.epochs);
        let step = Step { progress, ..step };
        (self.objective.loss(&step), correct)
    }
}

/// Whether a parameter belongs to the embedding layer or the classifier, not to the backbone.
fn is_head(name: &str) -> bool {
    name.starts_with("fc")
}
