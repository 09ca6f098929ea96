//! The frame of the ResNets: a stem and four stages of residual blocks, with PyTorch's parameter names.

use burn::module::Module;
use burn::tensor::Tensor;

use super::backbone::{Backbone, Keys, Plan};
use super::folded::FoldedConvolution;
use super::layers::{BatchNorm, Conv, ConvNorm, Mode, Path, SharedMap, conv_norm, folded};
use super::squeeze_excite::SqueezeExcite;
use super::stage::Stage;
use super::start::Start;
use super::stem::Stem;
use crate::fused::max_pool_3x3;

/// How a ResNet can begin.
pub(super) const STEMS: &[(Stem, usize)] = &[(Stem::Imagenet, 7), (Stem::Cifar, 3)];

/// Of a network with more blocks.
pub(super) const DEEPER: &str = "its stages have more than two blocks, as in ResNet-34";

/// torchvision's names and timm's.
pub(super) const KEYS: Keys = Keys {
    places: &["layer1.#"],
    requires: None,
    unlike: &[],
    first: "conv1.weight",
    // What pytorch-cifar calls the projections.
    aliases: &[(".shortcut.", ".downsample.")],
    heads: &["fc.", "linear."],
};

/// What the stages are made of.
pub(super) struct Blocks {
    /// Blocks of each stage.
    pub counts: [usize; 4],
    /// Whether a block is a bottleneck of three convolutions, with four times as many channels at its end.
    pub bottleneck: bool,
    /// Channels that decide the gates of squeeze and excitation at the end of a block, by the block's channels; at least 8.
    pub squeezed: Option<fn(usize) -> usize>,
}

/// A stem and four stages of residual blocks, of `width`, `2 width`, `4 width` and `8 width` channels.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv,
    bn1: BatchNorm,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    layer4: Vec<Block>,
    pooled_stem: bool,
    features: usize,
}

impl ResNet {
    /// `width` channels after the stem.
    pub(super) fn new(blocks: Blocks, plan: &Plan, start: &mut Start) -> Self {
        let (width, pooled_stem) = (plan.width, plan.stem == Stem::Imagenet);
        let stem_geometry = if pooled_stem { [7, 2, 3] } else { [3, 1, 1] };
        let conv1 = Conv::new([plan.input[0], width], stem_geometry, start);
        let bn1 = BatchNorm::new(width, start);
        let mut from = width;
        let [layer1, layer2, layer3, layer4] = std::array::from_fn(|stage| {
            let block = |block: usize| {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let block = Block::new(&blocks, from, width << stage, stride, start);
                from = block.out_channels();
                block
            };
            (0..blocks.counts[stage]).map(block).collect()
        });
        Self {
            conv1,
            bn1,
            layer1,
            layer2,
            layer3,
            layer4,
            pooled_stem,
            features: from,
        }
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> {
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
            .into_iter()
            .flatten()
    }
}

impl Backbone for ResNet {
    fn forward(&self, images: Tensor<4>, mode: Mode, path: Path) -> Tensor<2> {
        let images = path.enter(images);
        let mut map = conv_norm(&self.conv1, &self.bn1, images, None, true, mode, path);
        if self.pooled_stem {
            map = path.max_pool(map);
        }
        for block in self.blocks() {
            map = block.forward(map, mode, path);
        }
        path.global_mean(map)
    }

    fn features(&self) -> usize {
        self.features
    }

    fn stages(&self, input: [usize; 2]) -> Vec<Stage<FoldedConvolution>> {
        let stem = folded(&self.conv1, &self.bn1, input, true);
        let mut side = stem.output();
        let mut stages = vec![Stage::Convolution(stem)];
        if self.pooled_stem {
            let pool = max_pool_3x3(side);
            side = pool.output();
            stages.push(Stage::MaxPool(pool));
        }
        for block in self.blocks() {
            stages.push(block.folded(&mut side));
        }
        stages
    }
}

/// Convolutions around a shortcut: two of 3x3, or three as a bottleneck.
#[derive(Module, Debug)]
struct Block {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    conv3: Option<Conv>,
    bn3: Option<BatchNorm>,
    se: Option<SqueezeExcite>,
    downsample: Option<ConvNorm>,
}

impl Block {
    fn new(blocks: &Blocks, from: usize, inner: usize, stride: usize, start: &mut Start) -> Self {
        let to = if blocks.bottleneck { 4 * inner } else { inner };
        let (first, second) = if blocks.bottleneck {
            ([1, 1, 0], [3, stride, 1])
        } else {
            ([3, stride, 1], [3, 1, 1])
        };
        Self {
            conv1: Conv::new([from, inner], first, start),
            bn1: BatchNorm::new(inner, start),
            conv2: Conv::new([inner, inner], second, start),
            bn2: BatchNorm::new(inner, start),
            conv3: blocks
                .bottleneck
                .then(|| Conv::new([inner, to], [1, 1, 0], start)),
            bn3: blocks.bottleneck.then(|| BatchNorm::new(to, start)),
            se: blocks
                .squeezed
                .map(|squeezed| SqueezeExcite::new(to, squeezed(to).max(8), start)),
            downsample: (stride != 1 || from != to)
                .then(|| ConvNorm::new([from, to], [1, stride, 0], start)),
        }
    }

    /// Convolutions and their norms, the last of which meets the shortcut.
    fn convolutions(&self) -> (Vec<(&Conv, &BatchNorm)>, (&Conv, &BatchNorm)) {
        let [first, second] = [(&self.conv1, &self.bn1), (&self.conv2, &self.bn2)];
        match (&self.conv3, &self.bn3) {
            (Some(conv), Some(norm)) => (vec![first, second], (conv, norm)),
            _ => (vec![first], second),
        }
    }

    fn out_channels(&self) -> usize {
        self.convolutions().1.0.out_channels()
    }

    fn forward(&self, x: Tensor<4>, mode: Mode, path: Path) -> Tensor<4> {
        let x = SharedMap::from(x);
        let (before, (conv, norm)) = self.convolutions();
        let inner = before.iter().fold(x.clone(), |map, (conv, norm)| {
            conv_norm(conv, norm, map, None, true, mode, path).into()
        });
        let shortcut: SharedMap = match &self.downsample {
            Some(projection) => projection.forward(x, None, false, mode, path).into(),
            None => x,
        };
        match &self.se {
            Some(excitation) => {
                let scaled = conv_norm(conv, norm, inner, None, false, mode, path);
                excitation.forward(scaled, Some(shortcut), path)
            }
            None => conv_norm(conv, norm, inner, Some(shortcut), true, mode, path),
        }
    }

    fn folded(&self, side: &mut [usize; 2]) -> Stage<FoldedConvolution> {
        let shortcut = self
            .downsample
            .as_ref()
            .map(|projection| projection.folded(*side, false));
        let (before, (conv, norm)) = self.convolutions();
        let stage = |(conv, norm): (&Conv, &BatchNorm)| {
            let convolution = folded(conv, norm, *side, true);
            *side = convolution.output();
            Stage::Convolution(convolution)
        };
        let mut stages: Vec<Stage<FoldedConvolution>> = before.into_iter().map(stage).collect();
        let last = folded(conv, norm, *side, self.se.is_none());
        *side = last.output();
        stages.push(Stage::Convolution(last));
        if let Some(excitation) = &self.se {
            stages.push(Stage::Excitation(excitation.frozen(*side)));
        }
        Stage::Block { stages, shortcut }
    }
}
