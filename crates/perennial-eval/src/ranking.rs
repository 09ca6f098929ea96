//! Where the matches of one query stand among all gallery items.

use crate::search::RankKey;

/// Equal slices of the range of similarities: so many that most hold no match.
const BUCKETS: usize = 8192;

/// Where one query's matches stand in the full ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ranking {
    /// Rank of the best match, counted from 1.
    pub(crate) first_match: usize,
    /// Mean over the matches of the precision at their ranks.
    pub(crate) average_precision: f64,
}

impl Ranking {
    /// Ranks the items of `label`, which are at the positions `matches` (at least one), without sorting the whole gallery: the
    /// matches are sorted, and every other item is counted into the gap between two matches where it falls.
    ///
    /// **Shapes.** `scores` and `labels` `[m]`, one per gallery item.
    pub(crate) fn new(scores: &[f32], labels: &[u32], label: u32, matches: &[usize]) -> Self {
        let gaps = Gaps::new(scores, matches);
        let mut others_in_gap = vec![0usize; matches.len() + 1];
        for (item, (&score, &other)) in scores.iter().zip(labels).enumerate() {
            if other != label {
                others_in_gap[gaps.find(score, item)] += 1;
            }
        }
        let mut others_ahead = 0;
        let precisions = (1..=matches.len())
            .zip(&others_in_gap)
            .map(|(found, others)| {
                others_ahead += others;
                found as f64 / (found + others_ahead) as f64
            });
        Self {
            average_precision: precisions.sum::<f64>() / matches.len() as f64,
            first_match: others_in_gap[0] + 1,
        }
    }
}

/// The sorted matches, with an index of buckets that leaves next to nothing to search.
struct Gaps {
    matches: Vec<RankKey>,
    buckets: Buckets,
    /// Matches in the buckets before this one, `[BUCKETS + 1]`.
    matches_before: Vec<u32>,
}

impl Gaps {
    fn new(scores: &[f32], matches: &[usize]) -> Self {
        let mut matches: Vec<RankKey> = matches
            .iter()
            .map(|&item| RankKey::new(scores[item], item))
            .collect();
        matches.sort_unstable();
        let buckets = Buckets::over(&matches);
        let mut matches_before = vec![0; BUCKETS + 1];
        for key in &matches {
            matches_before[buckets.find(key.score()) + 1] += 1;
        }
        for bucket in 0..BUCKETS {
            matches_before[bucket + 1] += matches_before[bucket];
        }
        Self {
            matches,
            buckets,
            matches_before,
        }
    }

    /// Number of matches that rank ahead of an item.
    fn find(&self, score: f32, item: usize) -> usize {
        let bucket = self.buckets.find(score);
        let (from, to) = (
            self.matches_before[bucket] as usize,
            self.matches_before[bucket + 1] as usize,
        );
        if from == to {
            return from;
        }
        let key = RankKey::new(score, item);
        from + self.matches[from..to].partition_point(|&found| found < key)
    }
}

/// The range of the matches' similarities in equal slices.
struct Buckets {
    highest: f32,
    per_score: f32,
}

impl Buckets {
    fn over(sorted: &[RankKey]) -> Self {
        let score = |key: Option<&RankKey>| key.map_or(0.0, |key| key.score());
        let (highest, lowest) = (score(sorted.first()), score(sorted.last()));
        let per_score = if highest > lowest {
            BUCKETS as f32 / (highest - lowest)
        } else {
            0.0
        };
        Self { highest, per_score }
    }

    /// Never smaller for a lower score, whatever the rounding, so a bucket's items all rank after those of the one before.
    fn find(&self, score: f32) -> usize {
        let position = (self.highest - score) * self.per_score;
        // The conversion takes what ranks ahead of all matches to 0.
        (position as u32).min(BUCKETS as u32 - 1) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from_sorted(scores: &[f32], labels: &[u32], label: u32) -> Ranking {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap().then(a.cmp(&b)));
        let ranks: Vec<usize> = (1..)
            .zip(&order)
            .filter(|&(_, &item)| labels[item] == label)
            .map(|(rank, _)| rank)
            .collect();
        let precisions = (1..)
            .zip(&ranks)
            .map(|(found, &rank)| f64::from(found) / rank as f64);
        Ranking {
            first_match: ranks[0],
            average_precision: precisions.sum::<f64>() / ranks.len() as f64,
        }
    }

    fn check(scores: &[f32], labels: &[u32]) {
        for label in 0..4 {
            let matches: Vec<usize> = (0..labels.len())
                .filter(|&item| labels[item] == label)
                .collect();
            if !matches.is_empty() {
                let found = Ranking::new(scores, labels, label, &matches);
                assert_eq!(
                    found,
                    from_sorted(scores, labels, label),
                    "label {label} of {labels:?}, {scores:?}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn agrees_with_sorting_where_ties_abound(items in prop::collection::vec((-4i8..4, 0u32..4), 1..60)) {
            let (scores, labels): (Vec<f32>, Vec<u32>) =
                items.iter().map(|&(score, label)| (f32::from(score) / 4.0, label)).unzip();
            check(&scores, &labels);
        }

        #[test]
        fn agrees_with_sorting_at_every_scale(
            items in prop::collection::vec((-1.0f32..1.0, 0u32..4), 1..200), exponent in 0i32..30,
        ) {
            // Down to neighbouring floats: the buckets must not tear ties apart or swap neighbours.
            let (scores, labels): (Vec<f32>, Vec<u32>) =
                items.iter().map(|&(score, label)| (0.5 + score * 0.5f32.powi(exponent), label)).unzip();
            check(&scores, &labels);
        }
    }

    #[test]
    fn zeros_of_either_sign_are_equal() {
        check(&[0.0, -0.0, 0.0, -0.0, 0.3], &[0, 1, 1, 0, 2]);
    }
}
