//! The parts of a backbone that only embeds: kernels on slices.

use perennial_kernels::{
    Attention, Convolution, FrozenConvolution, MaxPool, buffer, gelu, layer_norm, max_pool, recycle,
};

use super::folded::FoldedConvolution;
use super::squeeze_excite::FrozenExcitation;

/// A part of a backbone for embedding alone, with convolutions whose weights are packed ([`FrozenConvolution`]) or lie as they are
/// ([`FoldedConvolution`]).
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a network has at most about a hundred of them"
)]
pub enum Stage<C = FrozenConvolution> {
    /// A convolution with what follows it.
    Convolution(C),
    /// A max-pooling.
    MaxPool(MaxPool),
    /// Squeeze and excitation.
    Excitation(FrozenExcitation),
    /// Adds positions to patches and puts a class token before them.
    Tokens {
        /// `[tokens, dim]`, with the class token in the first row.
        positions: Vec<f32>,
        /// Numbers of a token.
        dim: usize,
    },
    /// Layer norm over every token.
    LayerNorm {
        /// `[dim]`
        gamma: Vec<f32>,
        /// `[dim]`
        beta: Vec<f32>,
        /// Added to variances.
        epsilon: f64,
    },
    /// Attention between tokens; its batch does not count.
    Attention(Attention),
    /// The activation of transformers.
    Gelu,
    /// Keeps the first token.
    First {
        /// Numbers of a token.
        dim: usize,
    },
    /// Parts around a shortcut, which the last of them adds.
    Block {
        /// One after the other; at least one.
        stages: Vec<Stage<C>>,
        /// What the shortcut goes through, if anything.
        shortcut: Option<C>,
    },
}

impl Stage {
    /// The next map; what is added, if anything, is a block's shortcut.
    fn forward(&self, batch: usize, map: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
        match self {
            Self::Convolution(convolution) => convolution.forward(batch, map, residual),
            Self::MaxPool(geometry) => {
                let [height, width] = geometry.input;
                max_pool(geometry, map, map.len() / (height * width).max(1)).0
            }
            Self::Excitation(excitation) => excitation.forward(batch, map, residual),
            Self::Tokens { positions, dim } => {
                let slab = batch * dim;
                let mut tokens = buffer(positions.len() * batch);
                let rows = tokens.chunks_exact_mut(slab.max(1));
                for (at, (tokens, position)) in rows.zip(positions.chunks_exact(*dim)).enumerate() {
                    let patches = at.checked_sub(1).map(|at| &map[at * slab..(at + 1) * slab]);
                    match patches {
                        Some(patches) => tokens.copy_from_slice(patches),
                        None => tokens.fill(0.0),
                    }
                    for token in tokens.chunks_exact_mut(*dim) {
                        for (value, position) in token.iter_mut().zip(position) {
                            *value += position;
                        }
                    }
                }
                tokens
            }
            Self::LayerNorm {
                gamma,
                beta,
                epsilon,
            } => {
                let mut output = buffer(map.len());
                layer_norm(map, [gamma, beta], *epsilon, &mut output);
                output
            }
            Self::Attention(geometry) => {
                let geometry = Attention { batch, ..*geometry };
                let mut output = buffer(map.len() / 3);
                geometry.apply(map, &mut output);
                output
            }
            Self::Gelu => {
                let mut output = buffer(map.len());
                gelu(map, &mut output);
                output
            }
            Self::First { dim } => map[..batch * dim].to_vec(),
            Self::Block { stages, shortcut } => {
                let projected = shortcut
                    .as_ref()
                    .map(|shortcut| shortcut.forward(batch, map, None));
                let shortcut = projected.as_deref().unwrap_or(map);
                let mut inner: Option<Vec<f32>> = None;
                for (at, stage) in stages.iter().enumerate() {
                    let added = (at + 1 == stages.len()).then_some(shortcut);
                    inner = Some(match inner {
                        Some(inner) => stage.consume(batch, inner, added),
                        None => stage.forward(batch, map, added),
                    });
                }
                if let Some(projected) = projected {
                    recycle(projected);
                }
                inner.expect("a block has parts")
            }
        }
    }

    /// The same, giving the map's memory to later ones.
    pub(super) fn consume(
        &self,
        batch: usize,
        map: Vec<f32>,
        residual: Option<&[f32]>,
    ) -> Vec<f32> {
        let output = self.forward(batch, &map, residual);
        recycle(map);
        output
    }
}

impl Stage<FoldedConvolution> {
    /// The same with packed weights.
    pub(super) fn frozen(self) -> Stage {
        match self {
            Self::Convolution(convolution) => Stage::Convolution(convolution.frozen()),
            Self::MaxPool(geometry) => Stage::MaxPool(geometry),
            Self::Excitation(excitation) => Stage::Excitation(excitation),
            Self::Tokens { positions, dim } => Stage::Tokens { positions, dim },
            Self::LayerNorm {
                gamma,
                beta,
                epsilon,
            } => Stage::LayerNorm {
                gamma,
                beta,
                epsilon,
            },
            Self::Attention(geometry) => Stage::Attention(geometry),
            Self::Gelu => Stage::Gelu,
            Self::First { dim } => Stage::First { dim },
            Self::Block { stages, shortcut } => Stage::Block {
                stages: stages.into_iter().map(Self::frozen).collect(),
                shortcut: shortcut.map(FoldedConvolution::frozen),
            },
        }
    }

    /// Adds the geometries of its convolutions, in the order in which they are computed.
    pub(super) fn convolutions(&self, found: &mut Vec<Convolution>) {
        match self {
            Self::Convolution(convolution) => found.push(convolution.geometry),
            Self::Block { stages, shortcut } => {
                stages.iter().for_each(|stage| stage.convolutions(found));
                found.extend(shortcut.iter().map(|shortcut| shortcut.geometry));
            }
            Self::MaxPool(_)
            | Self::Excitation(_)
            | Self::Tokens { .. }
            | Self::LayerNorm { .. }
            | Self::Attention(_)
            | Self::Gelu
            | Self::First { .. } => {}
        }
    }

    /// Multiplications and additions for one image, padding counted as if it were pixels.
    pub(super) fn operations(&self) -> f64 {
        match self {
            Self::Convolution(convolution) => convolution.operations(),
            Self::MaxPool(_)
            | Self::Tokens { .. }
            | Self::LayerNorm { .. }
            | Self::Gelu
            | Self::First { .. } => 0.0,
            Self::Attention(geometry) => {
                4.0 * (geometry.tokens * geometry.tokens) as f64 * geometry.dim as f64
            }
            Self::Excitation(excitation) => excitation.operations(),
            Self::Block { stages, shortcut } => {
                let of_shortcut = shortcut.as_ref().map_or(0.0, FoldedConvolution::operations);
                of_shortcut + stages.iter().map(Self::operations).sum::<f64>()
            }
        }
    }
}
