//! How newer queries search older galleries in a chain of versions.

use std::fmt;

use perennial_bridge::Recipe;
use serde::{Deserialize, Serialize};

/// How a bridge over several upgrades comes about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BridgePath {
    /// Fitted from the query's version to the gallery's, on inputs that both have embedded.
    #[default]
    Direct,
    /// The product of the bridges between neighbouring versions, each fitted when the newer one replaced the older one. No inputs have to
    /// be kept for it.
    Composed,
}

/// Which old encoder embeds the query for its dual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OldHalf {
    /// The version that embedded the gallery.
    #[default]
    Gallery,
    /// The version before the query's, bridged into the gallery's space: all that there is where only the last encoder still runs.
    Latest,
}

/// How newer queries search older galleries in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ChainRoute {
    /// As they are.
    Own,
    /// Each side less the mean of its own fit set.
    Centred,
    /// Through a bridge.
    Bridged {
        /// The kind and strength of each fit.
        recipe: Recipe,
        /// Direct, or by the neighbours' bridges.
        #[serde(default)]
        path: BridgePath,
    },
    /// Old query and bridged query in one.
    Dual {
        /// The kind and strength of each fit.
        recipe: Recipe,
        /// The old query's share.
        weight: f64,
        /// Who embeds the old query.
        #[serde(default)]
        old: OldHalf,
        /// How every bridge that it needs comes about.
        #[serde(default)]
        path: BridgePath,
    },
    /// As they are, against stored vectors that a bridge from the gallery's version to the query's mapped: the only route for which stored
    /// vectors are replaced, though without their originals. Of an orthogonal bridge between spaces of one dimension it is
    /// [`Bridged`](Self::Bridged) once more, since the map back is its inverse.
    Mapped {
        /// The kind and strength of each fit.
        recipe: Recipe,
    },
}

impl ChainRoute {
    /// All routes that differ in a chain of so many versions: as they are, centred, through bridges, and as dual queries; from three
    /// versions on also through composed bridges, and with the latest old encoder in place of the gallery's. Mapped vectors are measured
    /// where they are asked for.
    pub fn usual(versions: usize, recipe: Recipe, weight: f64) -> Vec<Self> {
        let bridged = |path| Self::Bridged { recipe, path };
        let dual = |old, path| Self::Dual {
            recipe,
            weight,
            old,
            path,
        };
        let all = [
            Self::Own,
            Self::Centred,
            bridged(BridgePath::Direct),
            bridged(BridgePath::Composed),
            dual(OldHalf::Gallery, BridgePath::Direct),
            dual(OldHalf::Latest, BridgePath::Direct),
            dual(OldHalf::Latest, BridgePath::Composed),
        ];
        all.into_iter()
            .filter(|route| versions >= route.versions_needed())
            .collect()
    }

    /// Whether a fit set is needed.
    pub fn needs_fit(self) -> bool {
        self != Self::Own
    }

    /// Versions from which on the route differs from simpler ones.
    pub fn versions_needed(self) -> usize {
        match self {
            Self::Bridged {
                path: BridgePath::Composed,
                ..
            }
            | Self::Dual {
                path: BridgePath::Composed,
                ..
            }
            | Self::Dual {
                old: OldHalf::Latest,
                ..
            } => 3,
            _ => 1,
        }
    }

    /// The route that this one replaces where something is missing: a direct bridge in place of a composed one, else the gallery's own
    /// encoder in place of the latest one.
    pub fn counterpart(self) -> Option<Self> {
        match self {
            Self::Bridged {
                recipe,
                path: BridgePath::Composed,
            } => Some(Self::Bridged {
                recipe,
                path: BridgePath::Direct,
            }),
            Self::Dual {
                recipe,
                weight,
                old,
                path: BridgePath::Composed,
            } => Some(Self::Dual {
                recipe,
                weight,
                old,
                path: BridgePath::Direct,
            }),
            Self::Dual {
                recipe,
                weight,
                old: OldHalf::Latest,
                path,
            } => Some(Self::Dual {
                recipe,
                weight,
                old: OldHalf::Gallery,
                path,
            }),
            _ => None,
        }
    }
}

impl fmt::Display for ChainRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("as it is"),
            Self::Centred => f.write_str("centred"),
            Self::Bridged { recipe, path } => write!(f, "bridge, {path}{recipe}"),
            Self::Dual {
                recipe,
                weight,
                old,
                path,
            } => write!(f, "dual {weight}{old}, {path}{recipe}"),
            Self::Mapped { recipe } => write!(f, "mapped, {recipe}"),
        }
    }
}

impl fmt::Display for BridgePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => Ok(()),
            Self::Composed => f.write_str("composed "),
        }
    }
}

impl fmt::Display for OldHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gallery => Ok(()),
            Self::Latest => f.write_str(" latest"),
        }
    }
}
