//! The tensors that a network needs, without building it: a file's claims are compared before any memory is allocated.

use std::collections::BTreeMap;

use crate::network::{BackboneKind, NetworkConfig, Stem};

/// Names and shapes of a network's tensors.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// The tensors of a backbone with `channels` input channels.
pub fn backbone_shapes(network: &NetworkConfig, channels: usize) -> Shapes {
    let mut shapes = Shapes::new();
    let width = network.width;
    let mut convolution = |name: &str, norm: &str, from: usize, to: usize, kernel: usize| {
        shapes.insert(
            format!("backbone.{name}.weight"),
            vec![to, from, kernel, kernel],
        );
        for part in ["weight", "bias", "running_mean", "running_var"] {
            shapes.insert(format!("backbone.{norm}.{part}"), vec![to]);
        }
    };
    match network.backbone {
        BackboneKind::Small => {
            let mut from = channels;
            for (layer, factor) in [1, 2, 4, 8].into_iter().enumerate() {
                let (name, norm) = (
                    format!("layers.{layer}.conv"),
                    format!("layers.{layer}.norm"),
                );
                convolution(&name, &norm, from, width * factor, 3);
                from = width * factor;
            }
        }
        BackboneKind::Resnet18 => {
            let kernel = match network.stem {
                Stem::Imagenet => 7,
                Stem::Cifar => 3,
            };
            convolution("conv1", "bn1", channels, width, kernel);
            let mut from = width;
            for (layer, factor) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
                let to = width * factor;
                for block in 0..2 {
                    let part = |part: &str| format!("layer{layer}.{block}.{part}");
                    if from != to {
                        convolution(&part("downsample.0"), &part("downsample.1"), from, to, 1);
                    }
                    convolution(&part("conv1"), &part("bn1"), from, to, 3);
                    convolution(&part("conv2"), &part("bn2"), to, to, 3);
                    from = to;
                }
            }
        }
    }
    shapes
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::network::Network;
    use crate::state_dict::state_dict;

    #[test]
    fn they_are_those_of_the_real_networks() {
        for (backbone, stem, width, channels) in [
            (BackboneKind::Resnet18, Stem::Imagenet, 2, 3),
            (BackboneKind::Resnet18, Stem::Cifar, 3, 1),
            (BackboneKind::Small, Stem::Imagenet, 5, 3),
        ] {
            let config = NetworkConfig {
                backbone,
                stem,
                width,
            };
            let network = Network::new(&config, channels, None, 0, &Device::flex());
            let real: Shapes = state_dict(&network)
                .into_iter()
                .map(|(name, tensor)| (name, tensor.shape))
                .collect();
            assert_eq!(backbone_shapes(&config, channels), real, "{config:?}");
        }
    }
}
