//! A network that only embeds: batch norm folded into the convolutions, weights rearranged once.

use burn::tensor::{Device, Tensor, TensorData};
use perennial_kernels::{FrozenConvolution, global_mean, recycle, transpose};

use super::Network;
use super::layers::{Mode, Path, values};
use super::stage::Stage;

/// A network whose weights no longer change: an encoder, or the earlier model that a loss refers to.
#[derive(Debug)]
pub struct FrozenNetwork(Kind);

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one per network")]
enum Kind {
    /// Kernels on slices; no tensor framework in between.
    Fused {
        stages: Vec<Stage>,
        features: usize,
        head: Option<FrozenConvolution>,
    },
    /// burn's own operations.
    Plain(Network),
}

fn stages(network: &Network, input: [usize; 2]) -> Vec<Stage> {
    let stages = network.backbone.backbone().stages(input);
    stages.into_iter().map(Stage::frozen).collect()
}

impl FrozenNetwork {
    /// Freezes a network on a device without gradients, for images of the given channels, height and width.
    pub fn new(network: Network, [_, height, width]: [usize; 3], device: &Device) -> Self {
        match Path::for_device(device) {
            Path::Plain => Self(Kind::Plain(network)),
            Path::Fused => Self(Kind::Fused {
                stages: stages(&network, [height, width]),
                features: network.features(),
                head: network.fc1.as_ref().map(super::EmbeddingLayer::frozen),
            }),
        }
    }

    /// Images to embeddings, not normalised.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, height, width]`, on the device that the network was frozen for
    /// - result: `[batch, dim]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let (stages, features, head) = match &self.0 {
            Kind::Fused {
                stages,
                features,
                head,
            } => (stages, *features, head),
            Kind::Plain(network) => return network.forward(images, Mode::Evaluate, Path::Plain),
        };
        let (device, [batch, channels, height, width]) = (images.device(), images.dims());
        let mut map = transpose(&values(images), batch * channels, height * width);
        for stage in stages {
            map = stage.consume(batch, map, None);
        }
        let mut embeddings = global_mean(&map, batch * features);
        recycle(map);
        if let Some(head) = head {
            let features = embeddings;
            embeddings = head.forward(batch, &features, None);
            recycle(features);
        }
        let dim = embeddings.len() / batch.max(1);
        Tensor::from_data(TensorData::new(embeddings, [batch, dim]), &device)
    }
}
