//! Routes: how queries of one encoder reach stored embeddings of another.

use std::fmt;

use perennial_bridge::{Bridge, BridgeError, Index};
use perennial_core::{SimilarityError, normalize_rows};
use serde::{Deserialize, Serialize};

use crate::evaluation_data::{EvaluationData, Rows};

/// Which vector a query is searched with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Route {
    /// The new encoder's embedding as it is. It needs encoders that were trained to be compatible.
    Own,
    /// The new encoder's embedding, mapped into the old space by a bridge.
    Bridged,
    /// `weight` times the old encoder's embedding plus `1 - weight` times the new one's, mapped into the old space. Both encoders embed the
    /// query.
    Dual {
        /// The old embedding's share, from 0 (bridged) to 1 (the old query alone).
        weight: f64,
    },
    /// The new encoder's embedding against stored vectors that a bridge mapped into the new space.
    Mapped,
}

impl Route {
    /// The name without the weight: `own`, `bridged`, `dual`, `mapped`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Bridged => "bridged",
            Self::Dual { .. } => "dual",
            Self::Mapped => "mapped",
        }
    }

    /// How a search by this route compares stored vectors: as asked for where the route leaves a choice. Mapped vectors are centred by their
    /// bridge, and without a bridge there is nothing to centre with.
    pub fn index(self, asked: Index) -> Index {
        match self {
            Self::Own => Index::Raw,
            Self::Bridged | Self::Dual { .. } => asked,
            Self::Mapped => Index::Centred,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dual { weight } => write!(f, "dual (weight {weight})"),
            other => f.write_str(other.name()),
        }
    }
}

/// A search that cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The route needs a bridge, and none was given.
    #[error(
        "route {route} needs a bridge; fit one with `perennial bridge fit`, or pass paired embeddings to fit one from"
    )]
    NoBridge {
        /// The route.
        route: &'static str,
    },
    /// The bridge does not lead where the route goes.
    #[error("route {route}: the bridge must lead from {expected}, but {problem}")]
    Direction {
        /// The route.
        route: &'static str,
        /// What it must start from and end at.
        expected: &'static str,
        /// What does not fit.
        problem: perennial_core::SpaceMismatch,
    },
    /// Embeddings of different dimensions cannot be compared without a bridge.
    #[error(
        "the new queries have {queries} dimensions and the stored embeddings {gallery}; they can only meet through a bridge (route bridged, dual or mapped)"
    )]
    Dimensions {
        /// Dimension of the new queries.
        queries: usize,
        /// Dimension of the stored embeddings.
        gallery: usize,
    },
    /// A dual query without its old half.
    #[error(
        "a dual query needs the old encoder's embedding of the query as well; embed it with both encoders, or search by another route"
    )]
    NoOldQueries,
    /// A vector without a direction.
    #[error(transparent)]
    Similarity(#[from] SimilarityError),
    /// The bridge refuses the vectors.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
}

/// One way to search: the route, the bridge that it needs, and whether the stored vectors are centred.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// Which vector is searched with.
    pub route: Route,
    /// Whether stored vectors are compared as they are or centred.
    pub index: Index,
    /// From the new to the old space for bridged and dual queries, from the old to the new one for mapped vectors.
    pub bridge: Option<&'a Bridge>,
}

/// Vectors to compare.
pub struct Prepared {
    /// `[n, dim]`, unit rows.
    pub queries: Vec<f32>,
    /// `[m, dim]`, unit rows.
    pub gallery: Vec<f32>,
    /// Their dimension.
    pub dim: usize,
}

/// Vectors to compare, of which some are used elsewhere as well.
#[derive(Clone, Copy)]
pub struct PreparedRef<'a> {
    /// `[n, dim]`, unit rows.
    pub queries: &'a [f32],
    /// `[m, dim]`, unit rows.
    pub gallery: &'a [f32],
    /// Their dimension.
    pub dim: usize,
}

impl Prepared {
    /// The same vectors.
    pub fn as_ref(&self) -> PreparedRef<'_> {
        PreparedRef {
            queries: &self.queries,
            gallery: &self.gallery,
            dim: self.dim,
        }
    }
}

impl<'a> Search<'a> {
    /// The new encoder's embeddings as they are.
    pub fn own() -> Self {
        Self {
            route: Route::Own,
            index: Index::Raw,
            bridge: None,
        }
    }

    /// A route through a bridge.
    pub fn through(bridge: &'a Bridge, route: Route, index: Index) -> Self {
        Self {
            route,
            index,
            bridge: Some(bridge),
        }
    }

    /// The query and gallery vectors that this search compares.
    ///
    /// # Errors
    /// A bridge that is missing or leads elsewhere; dimensions that differ on route own; vectors without a direction.
    pub fn prepare(&self, data: &EvaluationData) -> Result<Prepared, RouteError> {
        let (old, new) = (&data.old_gallery, &data.new_queries);
        let mut queries = Vec::new();
        match self.route {
            Route::Own => {
                if new.dim != old.dim {
                    return Err(RouteError::Dimensions {
                        queries: new.dim,
                        gallery: old.dim,
                    });
                }
                Ok(Prepared {
                    queries: unit(new)?,
                    gallery: unit(old)?,
                    dim: old.dim,
                })
            }
            Route::Bridged => {
                let bridge = self.bridge("bridged", new, old)?;
                bridge.apply(&new.values, &mut queries)?;
                self.stored(bridge, old, queries)
            }
            Route::Dual { weight } => {
                let bridge = self.bridge("dual", new, old)?;
                bridge.dual(
                    &data.old_queries.values,
                    &new.values,
                    weight as f32,
                    self.index,
                    &mut queries,
                )?;
                self.stored(bridge, old, queries)
            }
            Route::Mapped => {
                let bridge = self.bridge("mapped", old, new)?;
                let mut gallery = Vec::new();
                bridge.apply(&old.values, &mut gallery)?;
                let mut queries = new.values.clone();
                bridge.centre_to(&mut queries)?;
                Ok(Prepared {
                    queries,
                    gallery,
                    dim: new.dim,
                })
            }
        }
    }

    fn bridge(
        &self,
        route: &'static str,
        from: &Rows,
        to: &Rows,
    ) -> Result<&'a Bridge, RouteError> {
        let bridge = self.bridge.ok_or(RouteError::NoBridge { route })?;
        let expected = if route == "mapped" {
            "the old space to the new one"
        } else {
            "the new space to the old one"
        };
        for (space, rows) in [(bridge.from(), from), (bridge.to(), to)] {
            space
                .accept(&rows.space)
                .map_err(|problem| RouteError::Direction {
                    route,
                    expected,
                    problem,
                })?;
        }
        bridge.check_input(&from.values)?;
        Ok(bridge)
    }

    fn stored(
        &self,
        bridge: &Bridge,
        old: &Rows,
        queries: Vec<f32>,
    ) -> Result<Prepared, RouteError> {
        let gallery = match self.index {
            Index::Raw => unit(old)?,
            Index::Centred => {
                let mut rows = old.values.clone();
                bridge.centre_to(&mut rows)?;
                rows
            }
        };
        Ok(Prepared {
            queries,
            gallery,
            dim: old.dim,
        })
    }
}

/// Dual queries of every weight between the old and the bridged query, which are prepared once, as the gallery is.
pub(crate) struct DualEnds {
    /// The bridged queries.
    bridged: Vec<f32>,
    /// The old queries, with the gallery that both search.
    old: Prepared,
    /// The queries of the weight that was asked for last.
    queries: Vec<f32>,
}

impl DualEnds {
    pub(crate) fn of(
        data: &EvaluationData,
        bridge: &Bridge,
        index: Index,
    ) -> Result<Self, RouteError> {
        let end = |weight| Search::through(bridge, Route::Dual { weight }, index).prepare(data);
        Ok(Self::new(end(0.0)?.queries, end(1.0)?))
    }

    /// Of bridged queries, and of old ones with the gallery that both search.
    pub(crate) fn new(bridged: Vec<f32>, old: Prepared) -> Self {
        Self {
            bridged,
            old,
            queries: Vec::new(),
        }
    }

    /// The queries of one weight only, with the gallery.
    pub(crate) fn into_prepared(mut self, weight: f64) -> Result<Prepared, RouteError> {
        self.at(weight)?;
        Ok(Prepared {
            queries: self.queries,
            ..self.old
        })
    }

    /// The queries of a weight, as [`Bridge::dual`] makes them.
    pub(crate) fn at(&mut self, weight: f64) -> Result<PreparedRef<'_>, RouteError> {
        let weight = weight as f32;
        let pairs = self.old.queries.iter().zip(&self.bridged);
        self.queries.clear();
        self.queries
            .extend(pairs.map(|(old, bridged)| weight * old + (1.0 - weight) * bridged));
        normalize_rows(&mut self.queries, self.old.dim)?;
        Ok(PreparedRef {
            queries: &self.queries,
            ..self.old.as_ref()
        })
    }
}

/// Rows of unit length.
pub(crate) fn unit(rows: &Rows) -> Result<Vec<f32>, SimilarityError> {
    let mut values = rows.values.clone();
    normalize_rows(&mut values, rows.dim)?;
    Ok(values)
}
