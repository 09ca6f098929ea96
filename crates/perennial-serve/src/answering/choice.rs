//! What can answer a request: one encoder, a bridge behind it, or two encoders at the same time.

use std::sync::Arc;

use perennial_bridge::Bridge;
use perennial_encode::InputType;
use perennial_upgrade::LoadedModel;

use super::absence::Absence;
use super::kinds::Kinds;
use crate::error::ApiError;
use crate::upstream::Upstream;

/// One encoder.
#[derive(Clone)]
pub(crate) enum Encoder {
    /// A model version in this process.
    Own(Arc<LoadedModel>),
    /// Another service.
    Upstream(Arc<Upstream>),
}

impl Encoder {
    /// The name of its space.
    pub(super) fn space(&self) -> &str {
        match self {
            Self::Own(model) => model.name(),
            Self::Upstream(upstream) => upstream.spec().name.as_str(),
        }
    }

    /// The length of its embeddings.
    pub(super) fn dim(&self) -> usize {
        match self {
            Self::Own(model) => model.version.dim,
            Self::Upstream(upstream) => upstream.spec().dim,
        }
    }

    /// Whether it embeds inputs of these kinds. What an upstream embeds, it says itself.
    pub(super) fn embeds(&self, kinds: Kinds) -> bool {
        match self {
            Self::Own(model) => kinds.are_among(model.version.accepts()),
            Self::Upstream(_) => true,
        }
    }

    /// Whether an error is of the embedding service behind this version.
    pub(super) fn is_behind(&self, error: &ApiError) -> bool {
        let details = error.details.as_ref();
        let version = details.and_then(|details| details["version"].as_str());
        version.is_some() && version == self.version()
    }

    /// The version's name, where it is one.
    fn version(&self) -> Option<&str> {
        match self {
            Self::Own(model) => Some(model.name()),
            Self::Upstream(_) => None,
        }
    }
}

/// Who answers a request, and how.
pub(crate) struct Choice {
    /// The space of the answer.
    pub(crate) space: String,
    /// The length of its vectors.
    pub(crate) dim: usize,
    /// `own`, `bridged`, `dual`, or `old` for queries that the old encoder answers alone.
    pub(crate) route: &'static str,
    /// Why the best certified route was not taken: the code of the old encoder's error, in place of which this answer is.
    pub(crate) fallback: Option<&'static str>,
    pub(super) input_type: InputType,
    pub(super) way: Way,
}

/// The encoders that take part.
pub(super) enum Way {
    Alone(Encoder),
    /// The old encoder of the one space of all answers.
    Old(Encoder, Arc<Absence>),
    Bridged {
        new: Encoder,
        bridge: Arc<Bridge>,
    },
    Dual {
        old: Encoder,
        new: Encoder,
        bridge: Arc<Bridge>,
        weight: f64,
        absence: Arc<Absence>,
        /// The bridge of the best certified route that leads without the old encoder.
        without_old: Option<Arc<Bridge>>,
    },
}

impl Choice {
    /// An encoder in its own space.
    pub(super) fn alone(encoder: Encoder, input_type: InputType) -> Self {
        Self {
            space: encoder.space().to_owned(),
            dim: encoder.dim(),
            route: "own",
            fallback: None,
            input_type,
            way: Way::Alone(encoder),
        }
    }

    /// Documents by the old encoder of the one space of all answers.
    pub(super) fn document(old: Encoder, absence: Arc<Absence>) -> Self {
        let alone = Self::alone(old.clone(), InputType::Document);
        Self {
            way: Way::Old(old, absence),
            ..alone
        }
    }

    /// Queries that the old encoder answers because no route is certified, or because the new one does not embed their kind.
    pub(super) fn by_old(old: Encoder, absence: Arc<Absence>) -> Self {
        Self {
            route: "old",
            input_type: InputType::Query,
            ..Self::document(old, absence)
        }
    }

    /// Queries of an encoder that was trained to be comparable with another space.
    pub(super) fn own(space: &str, new: Encoder) -> Self {
        Self {
            space: space.to_owned(),
            ..Self::alone(new, InputType::Query)
        }
    }

    /// Queries through a bridge.
    pub(super) fn bridged(space: &str, new: Encoder, bridge: Arc<Bridge>) -> Self {
        Self {
            space: space.to_owned(),
            dim: bridge.to().dim,
            route: "bridged",
            fallback: None,
            input_type: InputType::Query,
            way: Way::Bridged { new, bridge },
        }
    }

    /// Dual queries; by the bridge alone where there is one `without_old`, and the old encoder fails.
    pub(super) fn dual(
        space: &str,
        [old, new]: [Encoder; 2],
        (bridge, weight): (Arc<Bridge>, f64),
        absence: Arc<Absence>,
        without_old: Option<Arc<Bridge>>,
    ) -> Self {
        Self {
            space: space.to_owned(),
            dim: bridge.to().dim,
            route: "dual",
            fallback: None,
            input_type: InputType::Query,
            way: Way::Dual {
                old,
                new,
                bridge,
                weight,
                absence,
                without_old,
            },
        }
    }

    /// The model version that took part, the new one of two.
    pub(crate) fn model_version(&self) -> Option<&str> {
        match &self.way {
            Way::Alone(encoder) | Way::Old(encoder, _) | Way::Bridged { new: encoder, .. } => {
                encoder.version()
            }
            Way::Dual { old, new, .. } => new.version().or(old.version()),
        }
    }
}
