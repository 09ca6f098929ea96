//! A small convolutional network for the demo and for tests; trains in seconds on a laptop.

use burn::module::Module;
use burn::tensor::Tensor;

use super::backbone::{Backbone, BackboneEntry, BackboneKind, Keys, Plan};
use super::folded::FoldedConvolution;
use super::layers::{BatchNorm, Conv, Mode, Path, conv_norm, folded};
use super::stage::Stage;
use super::start::Start;
use super::stem::Stem;

/// Its line of the table.
pub(super) const ENTRY: BackboneEntry = BackboneEntry {
    kind: BackboneKind::Small,
    name: "small",
    title: "small network",
    stems: &[(Stem::Imagenet, 3)],
    default_width: 64,
    width_step: 1,
    features: |width| 8 * width,
    positions: None,
    keys: Keys {
        places: &["layers.#.conv", "layers.#.norm"],
        requires: None,
        unlike: &[],
        first: "layers.0.conv.weight",
        aliases: &[],
        heads: &["fc.", "linear."],
    },
};

/// Four convolutions, each halving the map: `width`, `2 width`, `4 width`, `8 width` channels.
#[derive(Module, Debug)]
pub struct SmallNet {
    layers: Vec<SmallLayer>,
    features: usize,
}

#[derive(Module, Debug)]
struct SmallLayer {
    conv: Conv,
    norm: BatchNorm,
}

pub(super) fn new(plan: &Plan, start: &mut Start) -> SmallNet {
    let mut from = plan.input[0];
    let layers = [1, 2, 4, 8].map(|factor| {
        let to = plan.width * factor;
        let conv = Conv::new([from, to], [3, 2, 1], start);
        from = to;
        SmallLayer {
            conv,
            norm: BatchNorm::new(to, start),
        }
    });
    SmallNet {
        layers: layers.into(),
        features: from,
    }
}

impl Backbone for SmallNet {
    fn forward(&self, images: Tensor<4>, mode: Mode, path: Path) -> Tensor<2> {
        let mut map = path.enter(images);
        for SmallLayer { conv, norm } in &self.layers {
            map = conv_norm(conv, norm, map, None, true, mode, path);
        }
        path.global_mean(map)
    }

    fn features(&self) -> usize {
        self.features
    }

    fn stages(&self, input: [usize; 2]) -> Vec<Stage<FoldedConvolution>> {
        let mut side = input;
        let stage = |SmallLayer { conv, norm }: &SmallLayer| {
            let convolution = folded(conv, norm, side, true);
            side = convolution.output();
            Stage::Convolution(convolution)
        };
        self.layers.iter().map(stage).collect()
    }
}
