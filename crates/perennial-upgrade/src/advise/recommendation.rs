//! Which way pays.

use perennial_core::Verdict;
use serde::{Deserialize, Serialize};

use super::way::Way;
use super::way_kind::WayKind;
use crate::finding::Finding;

/// A way with one encoder per query is preferred to a better one with two, up to this mean margin.
const WORTH_A_SECOND_ENCODER: f64 = 0.005;

/// The way that pays, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// The kind of the way.
    pub kind: WayKind,
    /// Its name among the ways.
    pub way: String,
    /// The reason, in a sentence or two.
    pub reason: String,
}

impl Recommendation {
    /// Chooses among ways, the best first.
    ///
    /// A way pays if all deciding measures are compatible and at least one of them is better than before beyond its interval. Ways that
    /// embed nothing again come first.
    ///
    /// `counts` are the queries that the figures rest on, and those that chose settings.
    pub(super) fn of(ways: &[Way], counts: [usize; 2]) -> Self {
        let mut recommendation = Self::without_counts(ways);
        if recommendation.kind == WayKind::DoNothing {
            let [judging, tuning] = counts;
            recommendation.reason.push_str(&format!(
                " These figures rest on {judging} of the {} queries, since the other {tuning} chose settings; more queries may decide \
                 otherwise.",
                judging + tuning
            ));
        }
        recommendation
    }

    fn without_counts(ways: &[Way]) -> Self {
        let serving = |way: &&Way| {
            matches!(
                way.kind,
                WayKind::SwapAsItIs | WayKind::Bridge | WayKind::DualQueries | WayKind::MapStored
            )
        };
        let everything = ways.iter().find(|way| way.kind == WayKind::ReembedAll);
        let bound = everything
            .map(|way| format!(" Embedding everything again gives {:+.3}.", way.margin()));
        let bound = bound.unwrap_or_default();
        let best = ways.iter().filter(serving).find(|way| pays(way));
        if let Some(best) = best {
            let simple = ways.iter().filter(serving).find(|way| {
                pays(way)
                    && !way.cost.needs_old_encoder
                    && way.margin() >= best.margin() - WORTH_A_SECOND_ENCODER
            });
            let chosen = simple.unwrap_or(best);
            return Self::new(
                chosen,
                format!(
                    "{:+.3} on average over doing nothing, and nothing is embedded again.{bound}",
                    chosen.margin()
                ),
            );
        }
        let unjudged = ways
            .iter()
            .find(|way| way.finding == Finding::CannotTell)
            .map(|way| {
                format!(
                    "this cannot tell what a bridge would give: {}.",
                    way.reasons.join("; ")
                )
            });
        if let Some(everything) = everything.filter(|way| pays(way)) {
            let kept = unjudged.unwrap_or_else(|| {
                "no way to keep the stored embeddings is measurably better than doing nothing."
                    .to_owned()
            });
            return Self::new(
                everything,
                format!(
                    "the new encoder is better on its own gallery ({:+.3}), but {kept}",
                    everything.margin()
                ),
            );
        }
        let nothing = ways
            .iter()
            .find(|way| way.kind == WayKind::DoNothing)
            .expect("doing nothing is always measured");
        if let Some(unjudged) = unjudged {
            return Self::new(nothing, format!("{unjudged}{bound}"));
        }
        let undecided = ways
            .iter()
            .filter(serving)
            .find(|way| way.finding == Finding::Undecided && way.margin() > 0.0);
        let reason = match (undecided, everything) {
            (Some(way), _) => format!(
                "no way is measurably better on these queries; the best of the undecided ones is {} ({:+.3}).{bound}",
                way.name,
                way.margin()
            ),
            (None, Some(_)) => format!(
                "do not upgrade for this task: neither keeping nor re-embedding the gallery is measurably better than the old encoder.{bound}"
            ),
            (None, None) => "no way to keep the stored embeddings is measurably better than doing nothing; pass --new-gallery to see what \
                             re-embedding would give."
                .to_owned(),
        };
        Self::new(nothing, reason)
    }

    fn new(way: &Way, reason: String) -> Self {
        Self {
            kind: way.kind,
            way: way.name.clone(),
            reason,
        }
    }
}

/// Nothing is lost, and something is gained beyond chance.
fn pays(way: &Way) -> bool {
    let better = |one: &crate::measured::Measured| {
        one.decides
            && one.verdict == Verdict::Compatible
            && one.comparison.intervals.iter().any(|interval| {
                (interval.confidence - 0.95).abs() < 1e-9 && interval.bounds.low > 0.0
            })
    };
    way.finding == Finding::Compatible && way.measures.iter().any(better)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::cost::{Cost, Rates};
    use perennial_bridge::Index;

    fn way(kind: WayKind, finding: Finding) -> Way {
        Way {
            kind,
            name: format!("{kind:?}"),
            route: None,
            index: Index::Raw,
            bridge: None,
            finding,
            reasons: vec!["3 queries were used".to_owned()],
            measures: Vec::new(),
            cost: Cost::of(kind, 1, &Rates::default()),
        }
    }

    #[test]
    fn doing_nothing_says_how_many_queries_decided() {
        let nothing = || way(WayKind::DoNothing, Finding::Compatible);
        let found = Recommendation::of(
            &[nothing(), way(WayKind::Bridge, Finding::Incompatible)],
            [150, 100],
        );
        assert_eq!(found.kind, WayKind::DoNothing);
        assert!(
            found.reason.contains("150 of the 250 queries")
                && found.reason.contains("more queries"),
            "{}",
            found.reason
        );
        let shared = Recommendation::of(
            &[nothing(), way(WayKind::Bridge, Finding::CannotTell)],
            [150, 100],
        );
        assert!(
            shared.reason.contains("cannot tell") && shared.reason.contains("3 queries were used"),
            "{}",
            shared.reason
        );
    }
}
