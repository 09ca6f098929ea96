//! Where the relevant items of one query stand among all gallery items.

use crate::search::RankKey;

/// With so few relevant items the others are counted against each of them; with more they are sorted into buckets.
const FEW: usize = 6;
/// Buckets are at most this many, so that their counters stay in the fastest cache.
const MOST_BUCKETS: usize = 8192;
/// Up to so many relevant items in each bucket, moving each one to its place is cheaper than a sort of all.
const CROWDED: u32 = 16;
/// What an item that has to be compared with relevant items costs more than one that does not, in steps of the loop over the buckets.
const COMPARISON: usize = 6;

/// Where one query's relevant items stand in the full ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ranking {
    /// Rank of the best relevant item, counted from 1.
    pub(crate) first_match: u32,
    /// Mean over the relevant items of the precision at their ranks.
    pub(crate) average_precision: f64,
}

/// Ranks relevant items without sorting the gallery. Holds buffers, so one of it serves many queries.
#[derive(Default)]
pub(crate) struct Ranker {
    /// The relevant items, from when they are sorted on in the order of the ranking.
    relevant: Vec<RankKey>,
    /// The same by buckets, while they are sorted.
    by_bucket: Vec<RankKey>,
    /// Rank of each, counted from 1 and with the own item in the gallery.
    ranks: Vec<u32>,
    /// Bucket of every gallery item.
    bucket_of: Vec<u16>,
    /// Gallery items per bucket.
    items: Vec<u32>,
    /// Relevant items in the buckets before this one.
    relevant_before: Vec<u32>,
    /// 1 where the bucket holds a relevant item.
    mixed: Vec<u8>,
    /// Gallery items in buckets that hold a relevant item.
    to_compare: Vec<u32>,
}

impl Ranker {
    /// Ranks the items at the positions `relevant` among all but `own`; nothing where no other item is relevant.
    ///
    /// **Shapes.** `scores` `[m]`, one per gallery item.
    pub(crate) fn rank(
        &mut self,
        scores: &[f32],
        relevant: &[u32],
        own: Option<u32>,
    ) -> Option<Ranking> {
        let key = |item: u32| RankKey::new(scores[item as usize], item as usize);
        self.relevant.clear();
        let others = relevant.iter().filter(|&&item| Some(item) != own);
        self.relevant.extend(others.map(|&item| key(item)));
        if self.relevant.is_empty() {
            return None;
        }
        if self.relevant.len() <= FEW {
            self.relevant.sort_unstable();
            self.count_directly(scores);
        } else {
            self.count_in_buckets(scores);
        }
        // What ranks behind the own item moves up by one.
        let left_out = own.map(key);
        let ranks = self.ranks.iter().zip(&self.relevant).map(|(&rank, key)| {
            let own_is_ahead = left_out.is_some_and(|own| own < *key);
            // At least 1 whatever the similarities, even ones that are not numbers.
            rank.saturating_sub(own_is_ahead.into()).max(1)
        });
        let (mut first_match, mut precisions) = (0, 0.0);
        for (found, rank) in (1u32..).zip(ranks) {
            if found == 1 {
                first_match = rank;
            }
            precisions += f64::from(found) / f64::from(rank);
        }
        Some(Ranking {
            first_match,
            average_precision: precisions / self.relevant.len() as f64,
        })
    }

    /// One pass over the similarities for each relevant item.
    fn count_directly(&mut self, scores: &[f32]) {
        self.ranks.clear();
        for key in &self.relevant {
            let (score, position) = (key.score(), key.position());
            let (before, after) = scores.split_at(position);
            let ahead = before
                .iter()
                .map(|&other| u32::from(other >= score))
                .sum::<u32>()
                + after
                    .iter()
                    .map(|&other| u32::from(other > score))
                    .sum::<u32>();
            self.ranks.push(ahead + 1);
        }
    }

    /// Cuts the range of the relevant similarities into equal slices and counts the items of each. Exact comparisons are left only for
    /// slices that hold a relevant item.
    fn count_in_buckets(&mut self, scores: &[f32]) {
        let wanted = scores
            .len()
            .saturating_mul(COMPARISON * self.relevant.len())
            .isqrt();
        let count = wanted.next_power_of_two().min(MOST_BUCKETS);
        let buckets = Buckets::over(&self.relevant, count);
        self.sort_relevant(&buckets, count);

        self.bucket_of.clear();
        self.bucket_of
            .extend(scores.iter().map(|&score| buckets.find(score) as u16));
        self.items.clear();
        self.items.resize(count, 0);
        self.to_compare.resize(scores.len() + 1, 0);
        let mut compared = 0;
        for (item, &bucket) in (0u32..).zip(&self.bucket_of) {
            let bucket = usize::from(bucket);
            self.items[bucket] += 1;
            // Written always and kept only where needed: a branch would be mispredicted.
            self.to_compare[compared] = item;
            compared += usize::from(self.mixed[bucket]);
        }

        // First the items of a relevant item's own bucket that are just before it, itself included. Which ones are is as good as random, so
        // nothing branches on it: what is behind all of them is counted in a place of its own.
        let behind = self.relevant.len();
        self.ranks.clear();
        self.ranks.resize(behind + 1, 0);
        for &item in &self.to_compare[..compared] {
            let bucket = usize::from(self.bucket_of[item as usize]);
            let key = RankKey::new(scores[item as usize], item as usize);
            let (from, to) = self.range(bucket);
            let ahead = match self.relevant[from..to] {
                [only] => usize::from(only < key),
                ref several => several.partition_point(|&found| found < key),
            };
            let place = from + ahead;
            self.ranks[if place < to { place } else { behind }] += 1;
        }
        self.ranks.truncate(behind);
        // Then everything ahead of those.
        let mut ahead = 0;
        for items in &mut self.items {
            ahead += std::mem::replace(items, ahead);
        }
        let (mut last, mut within) = (usize::MAX, 0);
        for (rank, key) in self.ranks.iter_mut().zip(&self.relevant) {
            let bucket = buckets.find(key.score()) as usize;
            within = if bucket == last {
                within + *rank
            } else {
                *rank
            };
            last = bucket;
            *rank = self.items[bucket] + within;
        }
    }

    /// Sorts the relevant items bucket by bucket, and notes where each bucket's begin.
    fn sort_relevant(&mut self, buckets: &Buckets, count: usize) {
        let before = &mut self.relevant_before;
        before.clear();
        before.resize(count + 1, 0);
        for key in &self.relevant {
            before[buckets.find(key.score()) as usize + 1] += 1;
        }
        self.mixed.clear();
        self.mixed
            .extend(before[1..].iter().map(|&relevant| u8::from(relevant > 0)));
        let (mut start, mut most) = (0, 0);
        for relevant in &mut before[1..] {
            most = most.max(*relevant);
            start += std::mem::replace(relevant, start);
        }
        self.by_bucket
            .resize(self.relevant.len(), RankKey::new(0.0, 0));
        for &key in &self.relevant {
            let place = &mut before[buckets.find(key.score()) as usize + 1];
            self.by_bucket[*place as usize] = key;
            // From the bucket's start to its end, which is where the next one starts.
            *place += 1;
        }
        std::mem::swap(&mut self.relevant, &mut self.by_bucket);
        if most > CROWDED {
            self.relevant.sort_unstable();
            return;
        }
        for at in 1..self.relevant.len() {
            let key = self.relevant[at];
            let mut place = at;
            while place > 0 && key < self.relevant[place - 1] {
                self.relevant[place] = self.relevant[place - 1];
                place -= 1;
            }
            self.relevant[place] = key;
        }
    }

    fn range(&self, bucket: usize) -> (usize, usize) {
        (
            self.relevant_before[bucket] as usize,
            self.relevant_before[bucket + 1] as usize,
        )
    }
}

/// The range of the relevant similarities in equal slices, the highest first.
struct Buckets {
    highest: f32,
    per_score: f32,
    last: f32,
}

impl Buckets {
    fn over(relevant: &[RankKey], count: usize) -> Self {
        let score = |key: Option<&RankKey>| key.map_or(0.0, |key| key.score());
        let (highest, lowest) = (score(relevant.iter().min()), score(relevant.iter().max()));
        let per_score = if highest > lowest {
            count as f32 / (highest - lowest)
        } else {
            0.0
        };
        Self {
            highest,
            per_score,
            last: (count - 1) as f32,
        }
    }

    /// Never smaller for a lower score, whatever the rounding, so a bucket's items all rank after those of the one before.
    fn find(&self, score: f32) -> i32 {
        let position = (self.highest - score) * self.per_score;
        // What ranks ahead of all relevant items, or is not a number, goes to the first bucket. A signed result has an instruction.
        position.max(0.0).min(self.last) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from_sorted(scores: &[f32], relevant: &[u32], own: Option<u32>) -> Option<Ranking> {
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.retain(|&item| Some(item) != own);
        order.sort_by(|&a, &b| {
            let score = |item: u32| scores[item as usize];
            score(b).partial_cmp(&score(a)).unwrap().then(a.cmp(&b))
        });
        let ranks: Vec<u32> = (1..)
            .zip(&order)
            .filter(|(_, item)| relevant.contains(item))
            .map(|(rank, _)| rank)
            .collect();
        let precisions = (1u32..)
            .zip(&ranks)
            .map(|(found, &rank)| f64::from(found) / f64::from(rank));
        Some(Ranking {
            first_match: *ranks.first()?,
            average_precision: precisions.sum::<f64>() / ranks.len() as f64,
        })
    }

    /// One ranker for all, so that what an earlier query leaves behind would be seen.
    fn check(ranker: &mut Ranker, scores: &[f32], labels: &[u32], own: Option<u32>) {
        for label in 0..4 {
            let relevant: Vec<u32> = (0..)
                .zip(labels)
                .filter(|&(_, &other)| other == label)
                .map(|(item, _)| item)
                .collect();
            assert_eq!(
                ranker.rank(scores, &relevant, own),
                from_sorted(scores, &relevant, own),
                "label {label} of {labels:?} without {own:?}, {scores:?}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(192))]

        #[test]
        fn agrees_with_sorting_where_ties_abound(
            items in prop::collection::vec((-4i8..4, 0u32..4), 1..90), own in prop::option::of(0usize..90),
        ) {
            let (scores, labels): (Vec<f32>, Vec<u32>) =
                items.iter().map(|&(score, label)| (f32::from(score) / 4.0, label)).unzip();
            let own = own.map(|own| (own % scores.len()) as u32);
            check(&mut Ranker::default(), &scores, &labels, own);
        }

        #[test]
        fn agrees_with_sorting_at_every_scale(
            items in prop::collection::vec((-1.0f32..1.0, 0u32..4), 1..200), exponent in 0i32..30,
            own in prop::option::of(0usize..200),
        ) {
            // Down to neighbouring floats: the buckets must not tear ties apart or swap neighbours.
            let (scores, labels): (Vec<f32>, Vec<u32>) =
                items.iter().map(|&(score, label)| (0.5 + score * 0.5f32.powi(exponent), label)).unzip();
            let own = own.map(|own| (own % scores.len()) as u32);
            let mut ranker = Ranker::default();
            check(&mut ranker, &scores, &labels, own);
            check(&mut ranker, &scores[..1], &labels[..1], None);
        }
    }

    #[test]
    fn zeros_of_either_sign_are_equal() {
        let (scores, labels) = ([0.0, -0.0, 0.0, -0.0, 0.3], [0, 1, 1, 0, 2]);
        check(&mut Ranker::default(), &scores, &labels, None);
        check(
            &mut Ranker::default(),
            &scores.repeat(9),
            &labels.repeat(9),
            Some(3),
        );
    }

    #[test]
    fn similarities_that_are_not_numbers_do_not_panic() {
        for odd in [
            f32::NAN,
            -f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
        ] {
            let scores = [
                odd,
                0.1,
                -f32::MAX,
                0.5,
                0.2,
                odd,
                0.3,
                0.4,
                0.6,
                0.7,
                f32::MIN_POSITIVE,
            ];
            for relevant in [vec![0, 1], (0..11).collect(), (1..10).collect()] {
                assert!(
                    Ranker::default()
                        .rank(&scores, &relevant, Some(3))
                        .is_some()
                );
            }
        }
    }
}
