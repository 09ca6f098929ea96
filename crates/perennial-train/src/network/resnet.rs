//! ResNet-18 with PyTorch's parameter names.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;

use super::Stem;
use super::frozen::Stage;
use super::layers::{BatchNorm, Conv, Mode, Path, SharedMap, conv_norm, frozen};
use crate::fused::max_pool_3x3;

/// ResNet-18: a stem and four stages of two basic blocks.
///
/// **Source**: He et al., arXiv 1512.03385.
#[derive(Module, Debug)]
pub struct ResNet18 {
    conv1: Conv,
    bn1: BatchNorm,
    layer1: Vec<BasicBlock>,
    layer2: Vec<BasicBlock>,
    layer3: Vec<BasicBlock>,
    layer4: Vec<BasicBlock>,
    pooled_stem: bool,
    features: usize,
}

impl ResNet18 {
    /// Random weights; `width` channels after the stem, `8 * width` at the end.
    pub fn new(
        stem: Stem,
        width: usize,
        in_channels: usize,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Self {
        let stem_geometry = match stem {
            Stem::Imagenet => [7, 2, 3],
            Stem::Cifar => [3, 1, 1],
        };
        let stage = |from: usize, to: usize, stride: usize, rng: &mut ChaCha8Rng| {
            vec![
                BasicBlock::new(width * from, width * to, stride, rng, device),
                BasicBlock::new(width * to, width * to, 1, rng, device),
            ]
        };
        Self {
            conv1: Conv::new([in_channels, width], stem_geometry, rng, device),
            bn1: BatchNorm::new(width, device),
            layer1: stage(1, 1, 1, rng),
            layer2: stage(1, 2, 2, rng),
            layer3: stage(2, 4, 2, rng),
            layer4: stage(4, 8, 2, rng),
            pooled_stem: stem == Stem::Imagenet,
            features: 8 * width,
        }
    }

    /// Length of the features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Its parts for embedding alone, for images of the given height and width.
    pub(super) fn frozen(&self, input: [usize; 2]) -> Vec<Stage> {
        let stem = frozen(&self.conv1, &self.bn1, input, true);
        let mut side = stem.output();
        let mut stages = vec![Stage::Convolution(stem)];
        if self.pooled_stem {
            let pool = max_pool_3x3(side);
            side = pool.output();
            stages.push(Stage::MaxPool(pool));
        }
        for block in self.blocks() {
            let first = frozen(&block.conv1, &block.bn1, side, true);
            let shortcut = block
                .downsample
                .as_ref()
                .map(|Downsample { conv, norm }| frozen(conv, norm, side, false));
            side = first.output();
            stages.push(Stage::Block {
                second: frozen(&block.conv2, &block.bn2, side, true),
                first,
                shortcut,
            });
        }
        stages
    }

    fn blocks(&self) -> impl Iterator<Item = &BasicBlock> {
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
            .into_iter()
            .flatten()
    }

    /// Images to features.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, height, width]`
    /// - result: `[batch, 8 * width]`
    pub fn forward(&self, images: Tensor<4>, mode: Mode, path: Path) -> Tensor<2> {
        let mut map = conv_norm(
            &self.conv1,
            &self.bn1,
            path.enter(images),
            None,
            true,
            mode,
            path,
        );
        if self.pooled_stem {
            map = path.max_pool(map);
        }
        for block in self.blocks() {
            map = block.forward(map, mode, path);
        }
        path.global_mean(map)
    }
}

#[derive(Module, Debug)]
struct BasicBlock {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    downsample: Option<Downsample>,
}

/// The projection of a block whose shape changes; PyTorch calls its parts `downsample.0` and `downsample.1`.
#[derive(Module, Debug)]
struct Downsample {
    conv: Conv,
    norm: BatchNorm,
}

impl BasicBlock {
    fn new(from: usize, to: usize, stride: usize, rng: &mut ChaCha8Rng, device: &Device) -> Self {
        Self {
            conv1: Conv::new([from, to], [3, stride, 1], rng, device),
            bn1: BatchNorm::new(to, device),
            conv2: Conv::new([to, to], [3, 1, 1], rng, device),
            bn2: BatchNorm::new(to, device),
            downsample: (stride != 1 || from != to).then(|| Downsample {
                conv: Conv::new([from, to], [1, stride, 0], rng, device),
                norm: BatchNorm::new(to, device),
            }),
        }
    }

    fn forward(&self, x: Tensor<4>, mode: Mode, path: Path) -> Tensor<4> {
        let x = SharedMap::from(x);
        let inner = conv_norm(&self.conv1, &self.bn1, x.clone(), None, true, mode, path);
        let shortcut: SharedMap = match &self.downsample {
            Some(Downsample { conv, norm }) => {
                conv_norm(conv, norm, x, None, false, mode, path).into()
            }
            None => x,
        };
        conv_norm(
            &self.conv2,
            &self.bn2,
            inner,
            Some(shortcut),
            true,
            mode,
            path,
        )
    }
}
