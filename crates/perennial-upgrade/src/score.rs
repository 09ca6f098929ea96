//! What the figures of a hit mean, in words that a program can tell apart.

use crate::route::Route;

/// What a hit's similarity is: a cosine in the space of its item, of a query that came there by a route; or in that of the query, where the item
/// came there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreKind {
    /// Of the query's own embedding.
    OwnCosine,
    /// Of the query's embedding, mapped by a bridge.
    BridgedCosine,
    /// Of the query's own embedding, with the item's vector mapped into its space by a bridge.
    MappedCosine,
    /// Of the mapped embedding and that of the item's own encoder together.
    DualCosine,
}

impl ScoreKind {
    /// Of hits that a route leads to.
    pub fn of(route: Route) -> Self {
        match route {
            Route::Own => Self::OwnCosine,
            Route::Mapped => Self::MappedCosine,
            Route::Bridged => Self::BridgedCosine,
            Route::Dual { .. } => Self::DualCosine,
        }
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::OwnCosine => "own_cosine",
            Self::BridgedCosine => "bridged_cosine",
            Self::DualCosine => "dual_cosine",
            Self::MappedCosine => "mapped_cosine",
        }
    }
}

/// By which of its figures a hit has its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankedBy {
    /// Its similarity: one part was searched, so all similarities are on one scale.
    Score,
    /// Its similarity less what is usual in its part, in standard deviations.
    StandardScore,
    /// Its similarity, brought to the scale of the query's own space by the merge that was measured best.
    MergedScore,
    /// Its similarity in the live version's space, from a second stage.
    OwnScore,
    /// None: a second stage could not measure it and left it in the place that it had.
    KeptPlace,
}

impl RankedBy {
    /// Of a hit without a second stage, of so many parts.
    pub fn first_stage(parts: usize, merged_score: Option<f64>) -> Self {
        match (parts, merged_score) {
            (0 | 1, _) => Self::Score,
            (_, Some(_)) => Self::MergedScore,
            (_, None) => Self::StandardScore,
        }
    }

    /// Of a hit that a second stage looked at.
    pub fn second_stage(own_score: Option<f32>) -> Self {
        match own_score {
            Some(_) => Self::OwnScore,
            None => Self::KeptPlace,
        }
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Score => "score",
            Self::StandardScore => "standard_score",
            Self::MergedScore => "merged_score",
            Self::OwnScore => "own_score",
            Self::KeptPlace => "kept_place",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_place_rests_on_depends_on_parts_and_stage() {
        assert_eq!(RankedBy::first_stage(1, None), RankedBy::Score);
        assert_eq!(RankedBy::first_stage(2, None), RankedBy::StandardScore);
        assert_eq!(RankedBy::first_stage(2, Some(0.1)), RankedBy::MergedScore);
        assert_eq!(RankedBy::second_stage(Some(0.1)), RankedBy::OwnScore);
        assert_eq!(RankedBy::second_stage(None), RankedBy::KeptPlace);
        let dual = Route::Dual { weight: 0.5 };
        assert_eq!(ScoreKind::of(dual).name(), "dual_cosine");
        assert_eq!(ScoreKind::of(Route::Bridged).name(), "bridged_cosine");
        assert_eq!(ScoreKind::of(Route::Mapped).name(), "mapped_cosine");
    }
}
