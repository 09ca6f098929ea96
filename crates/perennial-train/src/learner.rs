//! One model in training: network, optimizer and the objective that it is trained with.

use burn::tensor::{Device, Tensor, TensorData};
use perennial_data::Batch;

use crate::TrainError;
use crate::class_scores::TaskClasses;
use crate::config::TrainingConfig;
use crate::earlier::{Earlier, EarlierModel};
use crate::network::{Mode, Network, Path};
use crate::objective::{Objective, Step};
use crate::sgd::Sgd;

/// A model in training.
pub struct Learner {
    /// Absent only while a step hands it to the optimizer, which then changes it in place.
    network: Option<Network>,
    pub(crate) sgd: Sgd,
    objective: Box<dyn Objective>,
    classes: TaskClasses,
    device: Device,
    path: Path,
}

/// Sums over the batches since they were last read; they stay on the device until then.
#[derive(Clone, Debug, Default)]
pub struct StepSums {
    loss: Option<Tensor<1>>,
    correct: Option<Tensor<1>>,
    images: u64,
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
}

impl StepSums {
    /// Reads the sums and starts anew. On a GPU this waits for the device.
    ///
    /// # Errors
    ///
    /// [`TrainError::Device`] for a device that does not answer.
    pub fn take(&mut self) -> Result<Totals, TrainError> {
        let read = |tensor: Option<Tensor<1>>| {
            let Some(tensor) = tensor else {
                return Ok(0.0);
            };
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
        let totals = Totals {
            loss: read(self.loss.take())?,
            correct: read(self.correct.take())?,
            images: self.images,
        };
        self.images = 0;
        Ok(totals)
    }

    /// Adds a batch's mean loss and its number of correct rows.
    pub(crate) fn add(&mut self, loss: Tensor<1>, correct: Tensor<1>, images: usize) {
        let join = |sum: Option<Tensor<1>>, value: Tensor<1>| match sum {
            Some(sum) => sum + value,
            None => value,
        };
        self.loss = Some(join(self.loss.take(), loss.mul_scalar(images as f64)));
        self.correct = Some(join(self.correct.take(), correct));
        self.images += images as u64;
    }
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
        Self {
            network: Some(network),
            sgd,
            objective,
            classes,
            device,
            path,
        }
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
    /// - batch: pixels of `[images, channels, height, width]`, where the last three are the second argument
    ///
    /// # Panics
    ///
    /// If the batch holds other pixels or a label beyond the classifier; a run's preparation rules both out.
    pub fn step(
        &mut self,
        batch: &Batch,
        [channels, height, width]: [usize; 3],
        earlier: Option<&EarlierModel>,
        learning_rate: f64,
        sums: &mut StepSums,
    ) {
        let plain = self.device.clone().without_autodiff();
        let pixels = TensorData::new(
            batch.pixels.clone(),
            [batch.images, channels, height, width],
        );
        let images = Tensor::<4>::from_data(pixels, &plain);
        let earlier = earlier.map(|model| model.of_batch(images.clone()));
        let embeddings = self
            .network()
            .forward(Tensor::from_inner(images), Mode::Train, self.path);
        let (loss, correct) = self.loss(embeddings, earlier, &batch.labels);
        let mut gradients = loss.backward();
        sums.add(loss.inner(), correct, batch.images);
        if let Some(network) = self.network.take() {
            self.network = Some(self.sgd.step(network, &mut gradients, learning_rate));
        }
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
        (self.objective.loss(&step), correct)
    }
}
