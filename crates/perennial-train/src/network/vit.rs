//! Vision transformers with timm's parameter names.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::backbone::{Backbone, Keys, Plan};
use super::folded::FoldedConvolution;
use super::layers::{Mode, Path, values};
use super::stage::Stage;
use super::start::Start;
use super::stem::Stem;
use super::transformer::{Block, LayerNorm, Patches};

/// Sides of the patches.
pub(super) const STEMS: &[(Stem, usize)] =
    &[(Stem::Patch4, 4), (Stem::Patch8, 8), (Stem::Patch16, 16)];

/// timm's names.
pub(super) const KEYS: Keys = Keys {
    places: &["blocks.#.attn"],
    requires: None,
    unlike: &[],
    first: "patch_embed.proj.weight",
    aliases: &[],
    heads: &["head."],
};

/// Position embeddings and class tokens start this far from zero.
const DEVIATION: f64 = 0.02;

/// Patches with position embeddings and a class token, pre-norm blocks with heads of 64 numbers, and the class token's numbers after a last
/// norm as features.
///
/// **Source**: Dosovitskiy et al., arXiv 2010.11929; sizes as in timm's `vit_tiny`, `vit_small` and `vit_base` (width 192, 384, 768).
#[derive(Module, Debug)]
pub struct VisionTransformer {
    cls_token: Param<Tensor<3>>,
    pos_embed: Param<Tensor<3>>,
    patch_embed: PatchEmbedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    features: usize,
}

#[derive(Module, Debug)]
struct PatchEmbedding {
    proj: Patches,
}

impl VisionTransformer {
    /// Random weights.
    pub(super) fn new(depth: usize, plan: &Plan, start: &mut Start) -> Self {
        let [channels, height, width] = plan.input;
        let (dim, stem) = (plan.width, plan.stem);
        let side = STEMS
            .iter()
            .find(|(known, _)| *known == stem)
            .map_or(STEMS[0].1, |(_, side)| *side);
        let tokens = 1 + (height / side) * (width / side);
        Self {
            cls_token: start.truncated_normal([1, 1, dim], DEVIATION),
            pos_embed: start.truncated_normal([1, tokens, dim], DEVIATION),
            patch_embed: PatchEmbedding {
                proj: Patches::new([channels, dim], side, start),
            },
            blocks: (0..depth).map(|_| Block::new(dim, start)).collect(),
            norm: LayerNorm::new(dim, start),
            features: dim,
        }
    }
}

impl Backbone for VisionTransformer {
    fn forward(&self, images: Tensor<4>, _: Mode, path: Path) -> Tensor<2> {
        let dim = self.features;
        let patches = self.patch_embed.proj.forward(images, path);
        // Where tokens and images are.
        let (along, batch) = match path {
            Path::Fused => (0, patches.dims()[2]),
            Path::Plain => (2, patches.dims()[0]),
        };
        let [_, tokens, _] = self.pos_embed.val().dims();
        let shaped = |values: Tensor<3>, tokens: usize| -> Tensor<4> {
            match path {
                Path::Fused => values.reshape([tokens, 1, 1, dim]),
                Path::Plain => values.reshape([1, 1, tokens, dim]),
            }
        };
        let class = shaped(self.cls_token.val(), 1);
        let class = match path {
            Path::Fused => class.expand([1, 1, batch, dim]),
            Path::Plain => class.expand([batch, 1, 1, dim]),
        };
        let mut x = Tensor::cat(vec![class, patches], along) + shaped(self.pos_embed.val(), tokens);
        for block in &self.blocks {
            x = block.forward(x, path);
        }
        let class = x.narrow(along, 0, 1);
        self.norm.forward(class, path).reshape([batch, dim])
    }

    fn features(&self) -> usize {
        self.features
    }

    fn stages(&self, input: [usize; 2]) -> Vec<Stage<FoldedConvolution>> {
        let patches = self.patch_embed.proj.folded(input);
        let mut positions = values(self.pos_embed.val().without_autodiff());
        let tokens = positions.len() / self.features;
        let class = values(self.cls_token.val().without_autodiff());
        for (position, class) in positions.iter_mut().zip(class) {
            *position += class;
        }
        let mut stages = vec![
            Stage::Convolution(patches),
            Stage::Tokens {
                positions,
                dim: self.features,
            },
        ];
        for block in &self.blocks {
            stages.extend(block.folded(tokens));
        }
        stages.extend([Stage::First { dim: self.features }, self.norm.folded()]);
        stages
    }
}
