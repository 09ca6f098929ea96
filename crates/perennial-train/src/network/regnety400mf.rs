//! RegNetY-400MF with torchvision's parameter names.

use burn::module::Module;
use burn::tensor::Tensor;

use super::backbone::{Backbone, BackboneEntry, BackboneKind, Keys, Plan};
use super::folded::FoldedConvolution;
use super::layers::{ConvNorm, Mode, Path, SharedMap};
use super::squeeze_excite::SqueezeExcite;
use super::stage::Stage;
use super::start::Start;
use super::stem::Stem;

/// Channels after the published stem.
const STEM: usize = 32;
/// Channels of the four stages behind it.
const STAGES: [usize; 4] = [48, 104, 208, 440];
/// Blocks of the stages.
const COUNTS: [usize; 4] = [1, 3, 6, 6];
/// Channels of a group of the 3x3 convolutions.
const GROUP: usize = 8;

const OTHER: &str = "its stages are not those of RegNetY-400MF";

/// Its line of the table.
pub(super) const ENTRY: BackboneEntry = BackboneEntry {
    kind: BackboneKind::Regnety400mf,
    name: "regnety400mf",
    title: "RegNetY-400MF",
    stems: &[(Stem::Imagenet, 3), (Stem::Cifar, 3)],
    default_width: STEM,
    width_step: 1,
    features: |width| channels(width)[3],
    positions: None,
    keys: Keys {
        places: &["trunk_output.block1"],
        requires: None,
        unlike: &[
            ("trunk_output.block1.block1-1.f.a.0.weight", OTHER),
            ("trunk_output.block2.block2-3.f.a.0.weight", OTHER),
            ("trunk_output.block3.block3-6.f.a.0.weight", OTHER),
            ("trunk_output.block4.block4-6.f.a.0.weight", OTHER),
        ],
        first: "stem.0.weight",
        aliases: &[],
        heads: &["fc."],
    },
};

/// Channels of the stages by those of the stem: the published ones in proportion, as whole groups.
fn channels(stem: usize) -> [usize; 4] {
    STAGES.map(|channels| {
        let groups = channels * stem / STEM + GROUP / 2;
        (groups / GROUP).max(1) * GROUP
    })
}

/// A stem of stride 2 and four stages of bottlenecks with grouped convolutions, squeeze and excitation, each halving the map.
///
/// **Source**: Radosavovic et al., Designing Network Design Spaces, arXiv 2003.13678; depths and widths as in torchvision.
#[derive(Module, Debug)]
pub struct RegNet {
    stem: ConvNorm,
    trunk_output: Trunk,
    features: usize,
}

#[derive(Module, Debug)]
struct Trunk {
    block1: Vec<Block>,
    block2: Vec<Block>,
    block3: Vec<Block>,
    block4: Vec<Block>,
}

#[derive(Module, Debug)]
struct Block {
    proj: Option<ConvNorm>,
    f: Transform,
}

/// The bottleneck of a block.
#[derive(Module, Debug)]
struct Transform {
    a: ConvNorm,
    b: ConvNorm,
    se: SqueezeExcite,
    c: ConvNorm,
}

pub(super) fn new(plan: &Plan, start: &mut Start) -> RegNet {
    let stride = match plan.stem {
        Stem::Cifar => 1,
        _ => 2,
    };
    let stem = ConvNorm::new([plan.input[0], plan.width], [3, stride, 1], start);
    let mut from = plan.width;
    let [block1, block2, block3, block4] = std::array::from_fn(|stage| {
        let to = channels(plan.width)[stage];
        let block = |block: usize| {
            let stride = if block == 0 { 2 } else { 1 };
            let block = Block::new([from, to], stride, start);
            from = to;
            block
        };
        (0..COUNTS[stage]).map(block).collect()
    });
    RegNet {
        stem,
        trunk_output: Trunk {
            block1,
            block2,
            block3,
            block4,
        },
        features: from,
    }
}

impl RegNet {
    fn blocks(&self) -> impl Iterator<Item = &Block> {
        let Trunk {
            block1,
            block2,
            block3,
            block4,
        } = &self.trunk_output;
        [block1, block2, block3, block4].into_iter().flatten()
    }
}

impl Backbone for RegNet {
    fn forward(&self, images: Tensor<4>, mode: Mode, path: Path) -> Tensor<2> {
        let mut map = self
            .stem
            .forward(path.enter(images), None, true, mode, path);
        for block in self.blocks() {
            map = block.forward(map, mode, path);
        }
        path.global_mean(map)
    }

    fn features(&self) -> usize {
        self.features
    }

    fn stages(&self, input: [usize; 2]) -> Vec<Stage<FoldedConvolution>> {
        let stem = self.stem.folded(input, true);
        let mut side = stem.output();
        let mut stages = vec![Stage::Convolution(stem)];
        for block in self.blocks() {
            stages.push(block.folded(&mut side));
        }
        stages
    }
}

impl Block {
    fn new([from, to]: [usize; 2], stride: usize, start: &mut Start) -> Self {
        // A quarter of the channels that the block reads.
        let squeezed = ((from as f64 / 4.0).round_ties_even() as usize).max(1);
        Self {
            proj: (stride != 1 || from != to)
                .then(|| ConvNorm::new([from, to], [1, stride, 0], start)),
            f: Transform {
                a: ConvNorm::new([from, to], [1, 1, 0], start),
                b: ConvNorm::grouped(to / GROUP, [to, to], [3, stride, 1], start),
                se: SqueezeExcite::new(to, squeezed, start),
                c: ConvNorm::new([to, to], [1, 1, 0], start),
            },
        }
    }

    fn forward(&self, x: Tensor<4>, mode: Mode, path: Path) -> Tensor<4> {
        let x = SharedMap::from(x);
        let Transform { a, b, se, c } = &self.f;
        let inner = a.forward(x.clone(), None, true, mode, path);
        let inner = b.forward(inner, None, true, mode, path);
        let inner = se.forward(inner, None, path);
        let shortcut: SharedMap = match &self.proj {
            Some(projection) => projection.forward(x, None, false, mode, path).into(),
            None => x,
        };
        c.forward(inner, Some(shortcut), true, mode, path)
    }

    fn folded(&self, side: &mut [usize; 2]) -> Stage<FoldedConvolution> {
        let Transform { a, b, se, c } = &self.f;
        let shortcut = self
            .proj
            .as_ref()
            .map(|projection| projection.folded(*side, false));
        let first = a.folded(*side, true);
        let second = b.folded(*side, true);
        *side = second.output();
        Stage::Block {
            stages: vec![
                Stage::Convolution(first),
                Stage::Convolution(second),
                Stage::Excitation(se.frozen(*side)),
                Stage::Convolution(c.folded(*side, true)),
            ],
            shortcut,
        }
    }
}
